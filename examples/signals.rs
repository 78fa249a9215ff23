//! Signals: the first SIGTERM or Ctrl-C drains the pool, a second one abandons what is left, and the program is ready to
//! exit within the grace.
//!
//! Run it with `cargo run --example signals`, and press Ctrl-C, once or twice; without a terminal it sends itself a SIGTERM.

use duly::{Pool, Signal, SubmitErrorKind};
use std::io::IsTerminal;
use std::time::Duration;

fn main() -> anyhow::Result<()> {
    let pool = Pool::builder().workers(2).name("service").build()?;
    let grace = Duration::from_secs(5);
    let stop = pool.shut_down_on(&[Signal::Terminate, Signal::Interrupt], grace)?;

    if !std::io::stdin().is_terminal() {
        pool.options().delay(Duration::from_millis(50)).spawn(|| {
            // SAFETY: a plain system call.
            unsafe { libc::kill(libc::getpid(), libc::SIGTERM) };
        })?;
    }
    println!("working; press Ctrl-C to drain, again to abandon");
    let mut accepted = 0;
    loop {
        match pool.spawn(|| std::thread::sleep(Duration::from_millis(2))) {
            Ok(_) => accepted += 1,
            Err(refused) if refused.kind() == SubmitErrorKind::ShutDown => break,
            Err(refused) => return Err(refused.erase().into()),
        }
    }
    println!("signal {:?}: no more is accepted", stop.received());
    let report = stop.wait()?;
    println!("{accepted} were accepted; {report}");
    anyhow::ensure!(report.drained || !report.abandoned.is_empty());
    Ok(())
}

#[test]
fn p14_the_first_signal_drains() -> anyhow::Result<()> {
    main()
}
