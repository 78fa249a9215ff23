//! Single flight: a hundred callers want the same thing at the same time, and it is made once.
//!
//! Run it with `cargo run --example single_flight`.

use duly::{FlightError, Pool, SingleFlight};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

fn main() -> anyhow::Result<()> {
    let pool = Pool::builder().workers(2).build()?;
    // A run has two seconds; how long a caller waits is its own affair.
    let pages =
        SingleFlight::<&str, Arc<str>, String>::with(&pool.options().label("render").timeout(Duration::from_secs(2)));
    let runs = Arc::new(AtomicUsize::new(0));
    let render = {
        let runs = runs.clone();
        move || {
            runs.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(1000));
            Arc::from("<html>")
        }
    };
    std::thread::scope(|scope| {
        let impatient = {
            let (pages, render) = (&pages, render.clone());
            scope.spawn(move || {
                let call = pages.call("index").timeout(Duration::from_millis(20));
                call.run(move |_| Ok(render()))
            })
        };
        let patient: Vec<_> = (0..100)
            .map(|_| {
                let (pages, render) = (&pages, render.clone());
                scope.spawn(move || pages.run("index", move |_| Ok(render())))
            })
            .collect();
        // It has gone; the run is not its own, and goes on for the others.
        assert_eq!(impatient.join().expect("no panic"), Err(FlightError::DeadlineExceeded));
        for caller in patient {
            let page = caller.join().expect("no panic");
            assert_eq!(page.as_deref(), Ok("<html>"));
        }
    });
    let runs = runs.load(Ordering::SeqCst);
    println!("101 callers, {runs} run(s), {} keys left", pages.len());
    assert!(runs < 10 && pages.is_empty());
    anyhow::ensure!(pool.shutdown(Duration::from_secs(5))?.drained);
    Ok(())
}
