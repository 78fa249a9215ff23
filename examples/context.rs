//! Context crosses submit: each line that a callback logs says which request it works for, though no callback was told.
//!
//! Run it with `cargo run --example context`.

use duly::{Carry, Pool};
use std::cell::RefCell;
use std::time::Duration;

thread_local! {
    /// The request that this thread works for.
    static REQUEST: RefCell<Option<String>> = const { RefCell::new(None) };
}

fn log(message: &str) -> String {
    let line = REQUEST.with_borrow(|request| format!("[{}] {message}", request.as_deref().unwrap_or("-")));
    println!("{line}");
    line
}

/// Carries [`REQUEST`].
struct RequestId;

/// Puts back what the thread worked for before.
struct Restore(Option<String>);

impl Carry for RequestId {
    type Captured = String;
    type Entered = Restore;

    fn capture(&self) -> Option<String> {
        REQUEST.with_borrow(Clone::clone)
    }

    fn enter(&self, request: &String) -> Restore {
        Restore(REQUEST.replace(Some(request.clone())))
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        REQUEST.set(self.0.take());
    }
}

fn main() -> anyhow::Result<()> {
    let pool = Pool::builder()
        .workers(2)
        .default_timeout(Duration::from_secs(5))
        .context(RequestId)
        .build()?;
    let mut tasks = Vec::new();
    for number in 1..=3 {
        REQUEST.set(Some(format!("request-{number}")));
        // The second task is submitted by the first, on a worker: the context goes on with it.
        let task = pool.submit(move |ctx| {
            log("resizes the picture");
            ctx.pool().spawn(|| log("stores the picture"))
        })?;
        tasks.push((number, task));
    }
    REQUEST.set(None);
    for (number, task) in tasks {
        let stored = task.wait()?.wait()?;
        assert_eq!(stored, format!("[request-{number}] stores the picture"));
    }
    assert_eq!(
        pool.spawn(|| log("outside of any request"))?.wait()?,
        "[-] outside of any request"
    );
    anyhow::ensure!(pool.shutdown(Duration::from_secs(5))?.drained);
    Ok(())
}
