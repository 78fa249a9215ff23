//! The bounded queue: exact counts whatever races, and no place is lost to a producer that waits.

use super::{Bench, beside, explore, work};
use crate::{CancellationToken, SubmitErrorKind};

/// A pop, a removal and a push, all at once, in a queue of one place.
#[test]
fn p05_push_pop_remove() {
    explore("push, pop, remove", Some(2), || {
        let bench = Bench::new(|options| options.capacity(1));
        let (shared, record) = (bench.shared(), bench.record());
        let task = bench.pool.spawn(|| ()).expect("open");
        let worker = beside({
            let shared = shared.clone();
            move || {
                work(&shared, &record);
                record
            }
        });
        let canceller = beside(move || drop((task.cancel(), task)));
        let pushed = bench.pool.try_submit(|_| Ok::<_, ()>(()));
        assert!(shared.queue.depth().queued <= 1);
        let record = worker.join();
        canceller.join();
        while work(&shared, &record) {}
        if let Err(error) = &pushed {
            assert_eq!(error.kind(), SubmitErrorKind::QueueFull);
        }
        let stats = bench.pool.stats();
        assert_eq!(
            (stats.submitted, stats.ended()),
            (1 + u64::from(pushed.is_ok()), stats.submitted)
        );
        drop(pushed);
        drop(record);
        bench.end();
    });
}

/// The ring is all holes, and closes up while a worker pops.
#[test]
fn p05_holes_close_up_meanwhile() {
    explore("holes close up", None, || {
        let bench = Bench::new(|options| options.capacity(2));
        let (shared, record) = (bench.shared(), bench.record());
        for _ in 0..3 {
            assert!(bench.pool.spawn(|| ()).expect("open").cancel());
        }
        let first = bench.pool.spawn(|| 1).expect("open");
        let worker = beside({
            let shared = shared.clone();
            move || {
                work(&shared, &record);
                record
            }
        });
        let second = bench.pool.spawn(|| 2).expect("room for two");
        let record = worker.join();
        while work(&shared, &record) {}
        assert_eq!((first.wait().expect("run"), second.wait().expect("run")), (1, 2));
        drop((first, second, record));
        bench.end();
    });
}

/// A producer waits; a place comes free by a cancellation.
#[test]
fn p05_a_cancellation_makes_room() {
    explore("a cancellation makes room", None, || {
        let bench = Bench::new(|options| options.capacity(1));
        let task = bench.pool.spawn(|| ()).expect("open");
        let producer = beside({
            let pool = bench.pool.clone();
            move || assert!(pool.spawn(|| ()).expect("a place").cancel())
        });
        assert!(task.cancel());
        producer.join();
        drop(task);
        bench.end();
    });
}

/// A producer waits; a place comes free by a worker.
#[test]
fn p05_a_worker_makes_room() {
    explore("a worker makes room", None, || {
        let bench = Bench::new(|options| options.capacity(1));
        let (shared, record) = (bench.shared(), bench.record());
        let task = bench.pool.spawn(|| ()).expect("open");
        let producer = beside({
            let pool = bench.pool.clone();
            move || assert!(pool.spawn(|| ()).expect("a place").cancel())
        });
        assert!(work(&shared, &record));
        producer.join();
        drop((task, shared, record));
        bench.end();
    });
}

/// Two producers wait, and one of them gives up: the place that comes free is not lost.
#[test]
fn p05_who_leaves_the_line_passes_its_turn_on() {
    explore("who leaves the line", Some(2), || {
        let bench = Bench::new(|options| options.capacity(1));
        let token = CancellationToken::new();
        let task = bench.pool.spawn(|| ()).expect("open");
        let leaver = beside({
            let (pool, token) = (bench.pool.clone(), token.clone());
            move || pool.options().token(&token).spawn(|| ()).map_err(|error| error.kind())
        });
        let stayer = beside({
            let pool = bench.pool.clone();
            move || assert!(pool.spawn(|| ()).expect("a place").cancel())
        });
        task.cancel();
        token.cancel();
        match leaver.join() {
            Ok(task) => assert!(task.outcome().is_some()),
            Err(kind) => assert_eq!(kind, SubmitErrorKind::Cancelled),
        }
        stayer.join();
        drop(task);
        bench.end();
    });
}

/// Two producers wait for two places that come free by different ways.
#[test]
#[ignore = "minutes"]
fn full_p05_two_producers_two_places() {
    explore("two producers, two places", Some(2), || {
        let bench = Bench::new(|options| options.capacity(2));
        let (shared, record) = (bench.shared(), bench.record());
        let (first, second) = (
            bench.pool.spawn(|| ()).expect("open"),
            bench.pool.spawn(|| ()).expect("open"),
        );
        let producers: Vec<_> = (0..2)
            .map(|_| {
                let pool = bench.pool.clone();
                beside(move || drop(pool.spawn(|| ()).expect("a place")))
            })
            .collect();
        let canceller = beside(move || drop((second.cancel(), second)));
        work(&shared, &record);
        canceller.join();
        for producer in producers {
            producer.join();
        }
        while work(&shared, &record) {}
        drop((first, shared, record));
        bench.end();
    });
}
