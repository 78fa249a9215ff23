//! Token trees: what a cancellation reaches, and that each is told exactly once.

use super::{Bench, beside, explore};
use crate::cancel::Watcher;
use crate::sync::thread;
use crate::{CancellationToken, Outcome};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn counter() -> (Arc<Counter>, Waker) {
    let counter = Arc::new(Counter(AtomicUsize::new(0)));
    (counter.clone(), counter.into())
}

/// A child made while its parent is cancelled, and a grandchild: cancelled in the end, and with the first reason.
#[test]
fn p06_child_made_meanwhile() {
    explore("child made meanwhile", None, || {
        let root = CancellationToken::new();
        let maker = beside({
            let root = root.clone();
            move || {
                let child = root.child();
                let grandchild = child.child();
                (child, grandchild)
            }
        });
        let other = beside({
            let root = root.clone();
            move || root.cancel_with("the other")
        });
        root.cancel_with("this one");
        let (child, grandchild) = maker.join();
        other.join();
        assert!(child.is_cancelled() && grandchild.is_cancelled());
        assert_eq!(child.reason(), root.reason());
        assert_eq!(grandchild.reason(), root.reason());
    });
}

/// A watcher that registers while the token is cancelled is told once; one that leaves is told at most once.
#[test]
fn p06_watchers_told_once() {
    explore("watchers told once", None, || {
        let root = CancellationToken::new();
        let child = root.child();
        let (stays, waker) = counter();
        let (leaves, its_waker) = counter();
        let key = child.watch(Watcher::Waker(its_waker)).ok().expect("not cancelled");
        let comes = beside({
            let child = child.clone();
            move || child.watch(Watcher::Waker(waker)).is_err()
        });
        let goes = beside({
            let child = child.clone();
            move || child.unwatch(key)
        });
        root.cancel();
        let refused = comes.join();
        goes.join();
        assert_eq!(stays.0.load(Ordering::Relaxed) + usize::from(refused), 1);
        assert!(leaves.0.load(Ordering::Relaxed) <= 1);
    });
}

/// The last handle of a child goes while its parent is cancelled.
#[test]
fn p06_child_dropped_meanwhile() {
    explore("child dropped meanwhile", None, || {
        let root = CancellationToken::new();
        let child = root.child();
        let grandchild = child.child();
        drop(child);
        let other = beside(move || drop(grandchild));
        root.cancel();
        other.join();
        drop(root.child());
    });
}

/// A task submitted under a token while that is cancelled: refused, or ended by it. Nothing stays queued or linked.
#[test]
fn p06_submit_under_a_token() {
    explore("submit under a token", None, || {
        let bench = Bench::new(|options| options);
        let token = CancellationToken::new();
        let other = beside({
            let token = token.clone();
            move || token.cancel()
        });
        let task = bench.pool.options().token(&token).spawn(|| ());
        other.join();
        if let Ok(task) = task {
            assert_eq!(task.outcome(), Some(Outcome::Cancelled));
        }
        bench.end();
    });
}

/// A task under a token that is cancelled, cancelled itself and run by a worker, all at once.
#[test]
fn p06_token_handle_and_worker() {
    explore("token, handle and worker", Some(2), || {
        let bench = Bench::new(|options| options);
        let token = CancellationToken::new();
        let (shared, record) = (bench.shared(), bench.record());
        let task = bench.pool.options().token(&token).spawn(|| ()).expect("open");
        let worker = beside(move || super::work(&shared, &record));
        let other = beside({
            let token = token.clone();
            move || token.cancel()
        });
        let mine = task.cancel();
        worker.join();
        other.join();
        assert!(task.outcome().is_some() && (!mine || task.outcome() == Some(Outcome::Cancelled)));
        drop(task);
        bench.end();
    });
}

/// A task that ends while it is being put under its token: it leaves the token's list.
#[test]
fn p06_link_against_the_end() {
    explore("link against the end", Some(3), || {
        let bench = Bench::new(|options| options);
        let token = CancellationToken::new();
        let (shared, record) = (bench.shared(), bench.record());
        let worker = beside(move || {
            while !super::work(&shared, &record) {
                thread::yield_now()
            }
        });
        let task = bench.pool.options().token(&token).spawn(|| ()).expect("open");
        worker.join();
        assert_eq!(task.outcome(), Some(Outcome::Succeeded));
        assert_eq!(token.watchers(), 0, "an ended task stays under its token");
        drop(task);
        bench.end();
    });
}

/// What a callback submits under its own token while its task is cancelled: cancelled with it.
#[test]
fn p06_own_token() {
    explore("own token", None, || {
        let bench = Bench::new(|options| options);
        let (shared, record) = (bench.shared(), bench.record());
        let task = bench.pool.submit(|context| Ok::<_, ()>(context.token())).expect("open");
        let worker = beside(move || super::work(&shared, &record));
        let cancelled = task.cancel();
        worker.join();
        if let Ok(own) = task.wait() {
            assert!(!cancelled && !own.is_cancelled());
        }
        drop(task);
        bench.end();
    });
}
