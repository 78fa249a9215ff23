//! How a pool ends: every producer that waits is told, what was accepted is answered, and the timer thread reaches the
//! end whatever comes at the same time.

use super::{Bench, beside, explore};
use crate::{SubmitErrorKind, Worker, timer};

/// A close against a producer that waits for room.
#[test]
fn p09_a_close_tells_producers() {
    explore("a close tells producers", None, || {
        let bench = Bench::new(|options| options.capacity(1));
        let task = bench.pool.spawn(|| ()).expect("open");
        let producer = beside({
            let pool = bench.pool.clone();
            move || pool.spawn(|| ()).map(drop).expect_err("no place").kind()
        });
        bench.pool.close();
        assert_eq!(producer.join(), SubmitErrorKind::ShutDown);
        task.cancel();
        drop(task);
        bench.end();
    });
}

/// A close against a submit: refused, or accepted and run.
#[test]
fn p09_a_close_against_a_submit() {
    explore("a close against a submit", Some(2), || {
        let bench = Bench::new(|options| options.workers(1));
        let worker = Worker::new(&bench.shared(), true).expect("one");
        let worker = beside(move || worker.run());
        let closer = beside({
            let pool = bench.pool.clone();
            move || pool.close()
        });
        match bench.pool.spawn(|| 7) {
            Ok(task) => assert_eq!(task.wait().expect("run"), 7),
            Err(error) => assert_eq!(error.kind(), SubmitErrorKind::ShutDown),
        }
        closer.join();
        worker.join();
        bench.end();
    });
}

/// The last task of a pool without workers is cancelled while the pool is closed: the timer thread hears of it.
#[test]
fn p09_a_close_against_the_last_cancellation() {
    explore("a close against the last cancellation", Some(3), || {
        let bench = Bench::new(|options| options.workers(1));
        let task = bench.pool.spawn(|| ()).expect("open");
        let shared = bench.shared();
        let timer = beside(move || timer::run(&shared));
        let canceller = beside(move || drop((task.cancel(), task)));
        bench.pool.close();
        canceller.join();
        timer.join();
        bench.end();
    });
}
