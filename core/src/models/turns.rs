//! Queues that take turns: whatever makes a task startable, somebody finds it.

use super::{Bench, beside, explore, work};
use crate::registry::Record;
use crate::shared::Shared;
use crate::sync::{Arc, AtomicUsize, Ordering};
use crate::{Outcome, Pool, Queue, QueueBuilder, Worker, worker};

/// Takes one task by turns and runs it, as a worker does. Whether there was one.
fn turn(shared: &Arc<Shared>, record: &Record) -> bool {
    shared.give_back_first(record);
    let Some((lane, taken)) = shared.turns.take(&record.own.current) else {
        return false;
    };
    worker::run(shared, lane, record, taken.task, taken.more, &mut false);
    shared.give_back(lane, taken.key);
    true
}

fn one_at_a_time(bench: &Bench) -> Queue {
    bench
        .pool
        .queue("q")
        .capacity(2)
        .limit(1)
        .key_limit(1)
        .add()
        .expect("a queue")
}

/// A push against a worker that finds the queue empty and takes it out of the line.
#[test]
fn p02_a_push_against_leaving_the_line() {
    explore("a push against leaving the line", Some(3), || {
        let bench = Bench::new(|options| options.workers(1));
        let queue = one_at_a_time(&bench);
        let (shared, record) = (bench.shared(), bench.record());
        let first = bench.pool.options().queue(&queue).spawn(|| ()).expect("open");
        let worker = beside({
            let shared = shared.clone();
            move || {
                while turn(&shared, &record) {}
                record
            }
        });
        let second = bench.pool.options().queue(&queue).spawn(|| ()).expect("room for two");
        let record = worker.join();
        while turn(&shared, &record) {}
        assert!(first.outcome().is_some() && second.outcome().is_some());
        assert_eq!(queue.stats().running, 0);
        drop((first, second, record, queue));
        bench.end();
    });
}

/// A permit that is given back against a push that finds none.
#[test]
fn p05_a_permit_against_a_push() {
    explore("a permit against a push", None, || {
        let bench = Bench::new(|options| options.workers(2));
        permit_against_push(bench, |pool| pool.queue("q").capacity(2).limit(1));
    });
}

/// The same for the turn of a key.
#[test]
fn p05_a_key_s_permit_against_a_push() {
    explore("a key's permit against a push", None, || {
        let bench = Bench::new(|options| options.workers(2));
        permit_against_push(bench, |pool| pool.queue("q").capacity(2).key_limit(1));
    });
}

fn permit_against_push(bench: Bench, options: impl FnOnce(&Pool) -> QueueBuilder<'_>) {
    let queue = options(&bench.pool).add().expect("a queue");
    let (shared, record) = (bench.shared(), bench.record());
    let submit = |pool: &Pool, queue: &Queue| pool.options().queue(queue).key(&1).spawn(|| ()).expect("room for two");
    let first = submit(&bench.pool, &queue);
    let (lane, taken) = shared.turns.take(&record.own.current).expect("the first");
    // Another worker looks in vain, and takes the queue out of the line.
    let other = bench.record();
    assert!(shared.turns.take(&other.own.current).is_none(), "the limit is 1");
    let producer = beside({
        let (pool, queue) = (bench.pool.clone(), queue.clone());
        move || submit(&pool, &queue)
    });
    worker::run(&shared, lane, &record, taken.task, taken.more, &mut false);
    shared.give_back(lane, taken.key);
    let second = producer.join();
    while turn(&shared, &record) {}
    assert!(
        first.outcome().is_some() && second.outcome().is_some(),
        "a task is forgotten"
    );
    assert_eq!(queue.stats().running, 0);
    drop((first, second, record, other, queue));
    bench.end();
}

/// Queues begin to take turns, with a limit of 1, while a worker takes a task the short way: nothing runs beside it, and
/// its permit comes back.
#[test]
fn p05_turns_begin_meanwhile() {
    explore("turns begin meanwhile", Some(3), || {
        let bench = Bench::new(|options| options.workers(2));
        let (shared, record, other) = (bench.shared(), bench.record(), bench.record());
        let inside = Arc::new(AtomicUsize::new(0));
        let alone = || {
            let inside = inside.clone();
            move || {
                assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0, "the limit is 1");
                inside.fetch_sub(1, Ordering::Relaxed);
            }
        };
        let first = bench.pool.spawn(alone()).expect("open");
        let worker = beside({
            let shared = shared.clone();
            move || {
                work(&shared, &record);
                record
            }
        });
        let queue = bench.pool.default_queue();
        queue.set_limit(Some(1)).expect("a limit");
        let second = bench.pool.spawn(alone()).expect("open");
        turn(&shared, &other);
        let record = worker.join();
        shared.give_back_first(&record);
        while turn(&shared, &other) {}
        for task in [&first, &second] {
            assert_eq!(task.outcome(), Some(Outcome::Succeeded), "a task is forgotten");
        }
        assert_eq!(queue.stats().running, 0, "a permit is lost");
        drop((first, second, record, other, queue));
        bench.end();
    });
}

/// A worker as it is, that sleeps, against a push to a queue of its own.
#[test]
fn p02_a_worker_that_takes_turns() {
    explore("a worker that takes turns", Some(2), || {
        let bench = Bench::new(|options| options.workers(1));
        let queue = one_at_a_time(&bench);
        let worker = Worker::new(&bench.shared(), true).expect("one");
        let worker = beside(move || worker.run());
        let task = bench.pool.options().queue(&queue).spawn(|| 7).expect("open");
        assert_eq!(task.wait().expect("nobody ends it"), 7);
        drop((task, queue));
        bench.pool.close();
        worker.join();
        bench.end();
    });
}
