//! Story 3, cancellation through a pool without requests: the blocked dispatcher.
//!
//! A daemon's pool stands under one root token, cancelled by SIGINT or SIGTERM. At shutdown its workers left, nobody
//! read the queue any more, the dispatcher blocked on its send for ever, and the init system killed the process.
//!
//! Keeps true: there are two ways to end, draining and stopping in mid-queue; in both every blocked producer returns with
//! a reason and its callback, every task is answered, and the shutdown is over before the init system loses patience.

#[path = "../../core/tests/support/mod.rs"]
mod support;

use duly::{CancelReason, CancellationToken, Context, Outcome, Pool, SubmitErrorKind, TaskError};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use support::{Drops, Gate, LONG, end, eventually, ms};

/// What returning at once may take on a busy machine.
const SOON: Duration = Duration::from_secs(5);

/// Producers that wait for room in the queue of a pool.
struct Dispatchers {
    answers: mpsc::Receiver<Result<Option<Outcome>, SubmitErrorKind>>,
    count: usize,
    drops: Drops,
}

impl Dispatchers {
    fn block(pool: &Pool, root: Option<&CancellationToken>, count: usize) -> Dispatchers {
        let (tell, answers) = mpsc::channel();
        let drops = Drops::default();
        for _ in 0..count {
            let (pool, root, tell, probe) = (pool.clone(), root.cloned(), tell.clone(), drops.probe());
            thread::spawn(move || {
                let mut options = pool.options();
                if let Some(root) = &root {
                    options = options.token(root);
                }
                let answer = options
                    .spawn(move || drop(probe))
                    .map(|task| task.wait_outcome(SOON))
                    .map_err(|error| {
                        let kind = error.kind();
                        // The callback comes back, with what it captured.
                        error.into_callback()();
                        kind
                    });
                tell.send(answer).unwrap();
            });
        }
        eventually("the dispatchers wait for room", || {
            pool.stats().blocked_producers == count as u64
        });
        Dispatchers { answers, count, drops }
    }

    /// All return, soon, with that refusal or (one that got room in the same moment) with that outcome; and what
    /// they captured is released exactly once.
    fn all_return(&self, kind: SubmitErrorKind, outcome: Outcome) {
        let until = Instant::now() + SOON;
        for _ in 0..self.count {
            let left = until.saturating_duration_since(Instant::now());
            let answer = self.answers.recv_timeout(left).expect("a dispatcher is still blocked");
            assert!(answer == Err(kind) || answer == Ok(Some(outcome)), "{answer:?}");
        }
        eventually("what they captured is gone", || self.drops.count() == self.count);
    }
}

/// A pool whose only worker is stuck and whose queue is full.
fn full(root: Option<&CancellationToken>) -> (Pool, Gate, Vec<duly::Task<()>>) {
    let (pool, gate, mut tasks) = support::stuck_pool(Pool::builder().capacity(4).max_blocked_producers(16), 1);
    for _ in 0..4 {
        let options = pool.options();
        let options = match root {
            Some(root) => options.token(root),
            None => options,
        };
        tasks.push(options.spawn(|| ()).unwrap());
    }
    (pool, gate, tasks)
}

#[test]
fn p04_cancelling_the_root_releases_blocked_dispatchers() {
    let root = CancellationToken::new();
    let (pool, gate, tasks) = full(Some(&root));
    let dispatchers = Dispatchers::block(&pool, Some(&root), 8);

    root.cancel_with(CancelReason::Signal(15));
    dispatchers.all_return(SubmitErrorKind::Cancelled, Outcome::Cancelled);
    // In mid-queue: what was queued under the root is answered although the worker is stuck.
    for task in &tasks[1..] {
        let answer = task.wait_timeout(SOON).expect("a queued task was not answered");
        assert!(
            matches!(&answer, Err(TaskError::Cancelled(why)) if *why.reason() == CancelReason::Signal(15)),
            "{answer:?}"
        );
    }
    assert_eq!(pool.stats().blocked_producers, 0);
    gate.open();
    end(&pool);
}

#[test]
fn p04_closing_releases_blocked_dispatchers_and_drains_the_queue() {
    let (pool, gate, tasks) = full(None);
    let dispatchers = Dispatchers::block(&pool, None, 8);
    pool.close();
    dispatchers.all_return(SubmitErrorKind::ShutDown, Outcome::Abandoned);
    assert!(
        tasks.iter().all(|task| task.outcome().is_none()),
        "closing ends no task"
    );

    // The clean way: what was accepted is finished.
    gate.open();
    assert_eq!(end(&pool).succeeded, tasks.len() as u64);
}

#[test]
fn p09_the_shutdown_ends_in_time_though_workers_are_stuck_and_dispatchers_blocked() {
    let (pool, gate, tasks) = full(None);
    let dispatchers = Dispatchers::block(&pool, None, 8);
    let began = Instant::now();
    let report = pool.shutdown(ms(100)).unwrap();
    let took = began.elapsed();
    assert!(took >= ms(100) && took < SOON, "the shutdown took {took:?}");
    dispatchers.all_return(SubmitErrorKind::ShutDown, Outcome::Abandoned);
    for task in &tasks {
        assert_eq!(
            task.outcome(),
            Some(Outcome::Abandoned),
            "every task is answered when shutdown returns"
        );
    }
    assert_eq!(report.abandoned.len(), tasks.len());
    assert_eq!(report.threads_left, 1);
    assert!(report.stats.books_balance());
    gate.open();
    eventually("the stuck worker ends", || pool.stats().workers == 0);
}

/// Workers that watch the root leave in mid-work; the pool is then empty, and the process can go.
#[test]
fn p02_workers_that_watch_the_root_stop_now() {
    let root = CancellationToken::new();
    let pool = Pool::builder().workers(4).capacity(64).build().unwrap();
    let (started, stopped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let tasks: Vec<_> = (0..32)
        .map(|_| {
            let (started, stopped) = (started.clone(), stopped.clone());
            let work = move |ctx: &Context| {
                started.fetch_add(1, Ordering::SeqCst);
                let told = ctx.sleep(Duration::from_secs(3600));
                stopped.fetch_add(1, Ordering::SeqCst);
                told
            };
            pool.options().token(&root).submit(work).unwrap()
        })
        .collect();
    eventually("the workers work", || pool.stats().running == 4);
    root.cancel();
    for task in &tasks {
        assert_eq!(task.wait_outcome(SOON), Some(Outcome::Cancelled));
    }
    let report = pool.shutdown(LONG).unwrap();
    assert!(report.drained, "{report}");
    assert_eq!(stopped.load(Ordering::SeqCst), started.load(Ordering::SeqCst));
    assert_eq!(report.stats.cancelled, 32);
}
