//! The answer cell: whoever ends a task, it ends once and is counted once, its waiter wakes and sees the value, and the
//! last reference frees it once.

use super::{Bench, beside, explore, work};
use crate::sync::{Condvar, Mutex};
use crate::{Outcome, TaskError, end};
use std::sync::Arc;

/// The worker's answer against a cancellation, and somebody who waits.
#[test]
fn p01_worker_canceller_waiter() {
    explore("worker, canceller, waiter", Some(2), || {
        let bench = Bench::new(|options| options);
        let (shared, record) = (bench.shared(), bench.record());
        let task = bench.pool.spawn(|| 7u64).expect("open");
        let worker = beside(move || work(&shared, &record));
        let canceller = beside({
            let task = task.clone();
            move || task.cancel()
        });
        let answer = task.wait();
        let cancelled = canceller.join();
        match answer {
            Ok(value) => assert!(value == 7 && !cancelled),
            Err(error) => assert!(matches!(error, TaskError::Cancelled(_)) && cancelled),
        }
        worker.join();
        assert!(task.is_released());
        drop(task);
        bench.end();
    });
}

/// Who sees an outcome sees it in the books.
#[test]
fn p12_outcome_and_books() {
    explore("outcome and books", Some(3), || {
        let bench = Bench::new(|options| options);
        let (shared, record) = (bench.shared(), bench.record());
        let task = bench.pool.spawn(|| 7u64).expect("open");
        let worker = beside(move || drop((work(&shared, &record), record)));
        let canceller = beside({
            let task = task.clone();
            move || task.cancel()
        });
        let outcome = task.outcome();
        let stats = bench.pool.stats();
        assert_eq!(stats.ended() + stats.queued + stats.running, 1, "{stats:?}");
        assert!(outcome.is_none() || stats.ended() == 1, "{stats:?}");
        worker.join();
        canceller.join();
        drop(task);
        bench.end();
    });
}

/// The same, with a deadline that passes as well.
#[test]
#[ignore = "minutes"]
fn full_p01_worker_canceller_timer_waiter() {
    explore("worker, canceller, timer, waiter", Some(1), || {
        let bench = Bench::new(|options| options);
        let (shared, record) = (bench.shared(), bench.record());
        let task = bench.pool.spawn(|| 7u64).expect("open");
        let worker = beside(move || work(&shared, &record));
        let canceller = beside({
            let task = task.clone();
            move || task.cancel()
        });
        let timer = beside({
            let task = task.clone();
            move || end::end(&task.slot(), Outcome::DeadlineExceeded, None)
        });
        let outcome = task.wait_outcome(std::time::Duration::MAX).expect("no limit");
        let (cancelled, late) = (canceller.join(), timer.join());
        worker.join();
        assert_eq!(outcome == Outcome::Cancelled, cancelled);
        assert_eq!(outcome == Outcome::DeadlineExceeded, late);
        assert_eq!(bench.pool.stats().ended(), 1);
        drop(task);
        bench.end();
    });
}

/// Two of those who end tasks from outside.
#[test]
fn p01_two_enders() {
    explore("two enders", None, || {
        let bench = Bench::new(|options| options);
        let task = bench.pool.spawn(|| ()).expect("open");
        let other = beside({
            let task = task.clone();
            move || task.cancel()
        });
        let mine = task.cancel();
        let theirs = other.join();
        assert!(mine != theirs);
        assert_eq!(task.outcome(), Some(Outcome::Cancelled));
        drop(task);
        bench.end();
    });
}

/// A callback that is cancelled while it runs: its value goes, once, and only then is the task released.
#[test]
fn p01_late_value() {
    explore("late value", Some(3), || {
        let bench = Bench::new(|options| options);
        let (shared, record) = (bench.shared(), bench.record());
        let value = Arc::new(());
        let watch = Arc::downgrade(&value);
        let task = bench.pool.spawn(move || value).expect("open");
        let worker = beside(move || work(&shared, &record));
        let cancelled = task.cancel();
        bench.shared().deliver_here();
        assert!(task.released(std::time::Duration::MAX));
        assert_eq!(watch.strong_count() == 0, cancelled);
        worker.join();
        assert_eq!(task.wait().is_ok(), !cancelled);
        drop(task);
        bench.end();
        assert_eq!(watch.strong_count(), 0);
    });
}

/// The handle goes while the worker answers: the value is dropped, once, and its memory comes back.
#[test]
fn p01_handle_dropped_meanwhile() {
    explore("handle dropped meanwhile", None, || {
        let bench = Bench::new(|options| options);
        let (shared, record) = (bench.shared(), bench.record());
        let value = Arc::new(());
        let watch = Arc::downgrade(&value);
        let task = bench.pool.spawn(move || value).expect("open");
        let worker = beside(move || work(&shared, &record));
        drop(task);
        worker.join();
        assert_eq!(watch.strong_count(), 0);
        bench.end();
    });
}

/// A completion callback is called once, whether it is there before the answer or comes meanwhile.
#[test]
fn p01_completion_callback_once() {
    explore("completion callback", Some(2), || {
        let bench = Bench::new(|options| options);
        let (shared, record) = (bench.shared(), bench.record());
        let calls = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let task = bench.pool.spawn(|| ()).expect("open");
        let worker = beside(move || work(&shared, &record));
        let canceller = beside({
            let task = task.clone();
            move || task.cancel()
        });
        let called = calls.clone();
        task.on_complete(move |outcome| {
            called.0.lock().push(outcome);
            called.1.notify_one();
        });
        worker.join();
        canceller.join();
        bench.shared().deliver_here();
        // A task that needed nobody to be told ends without its pool: then a thread of its own calls.
        let mut seen = calls.0.lock();
        while seen.is_empty() {
            seen = calls.1.wait(seen);
        }
        drop(seen);
        let outcome = task.outcome().expect("ended");
        drop(task);
        bench.end();
        assert_eq!(*calls.0.lock(), [outcome]);
    });
}
