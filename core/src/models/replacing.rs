//! Replacement: a worker marked as stuck ends, or goes on, but its place is always filled once.

use super::{Bench, beside, explore};
use crate::Worker;
use std::time::Duration;

/// The mark against the callback's return.
#[test]
fn p08_a_mark_against_the_return() {
    explore("a mark against the return", Some(2), || {
        let bench = Bench::new(|options| options.workers(1).replace_after(Duration::from_millis(1)));
        let worker = Worker::new(&bench.shared(), true).expect("one");
        let worker = beside(move || worker.run());
        let task = bench.pool.spawn(|| ()).expect("open");
        task.cancel();
        bench.shared().look_for_overdue();
        // Somebody is there to run this.
        let next = bench.pool.spawn(|| 7).expect("open");
        assert_eq!(next.wait().expect("run"), 7);
        drop((task, next));
        assert_eq!(bench.pool.stats().overdue, 0);
        bench.pool.close();
        worker.join();
        for replacement in bench.shared().registry.take_handles() {
            replacement.join().expect("no panic");
        }
        assert_eq!(bench.pool.stats().workers, 0);
        bench.end();
    });
}
