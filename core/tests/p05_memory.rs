//! P5, seen from outside: the resident memory of the process. One test at a time, in a process of their own.

mod support;

use duly::{CancellationToken, Pool, Task};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::*;

/// These tests measure the whole process: one at a time.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn p05_memory_stays_flat_behind_stuck_workers() {
    let _alone = ALONE.lock().unwrap_or_else(|broken| broken.into_inner());
    let (pool, gate, _stuck) = stuck_pool(Pool::builder().capacity(1024), 1);
    let _live: Vec<_> = (0..500).map(|_| pool.spawn(|| ()).unwrap()).collect();
    let mut after_the_first = 0;
    for round in 0..400_000 {
        assert!(pool.spawn(|| ()).unwrap().cancel());
        if round == 20_000 {
            after_the_first = resident();
        }
    }
    let grown = resident().saturating_sub(after_the_first);
    assert!(grown < 2 << 20, "{} KiB", grown >> 10);
    gate.open();
    end(&pool);
}

#[test]
fn p05_a_million_kept_handles_give_their_memory_back() {
    let _alone = ALONE.lock().unwrap_or_else(|broken| broken.into_inner());
    let pool = Pool::builder().workers(2).build().unwrap();
    let before = resident();
    let tasks: Vec<Task<u64>> = (0..1_000_000u64).map(|i| pool.spawn(move || i).unwrap()).collect();
    let with = resident();
    assert!(
        with - before > 40 << 20,
        "the test measures nothing: {} KiB",
        (with - before) >> 10
    );
    for (i, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.wait().unwrap(), i as u64);
    }
    // What is still cached is in proportion to the pool's capacity.
    for _ in 0..10_000 {
        pool.spawn(|| ()).unwrap().wait().unwrap();
    }
    let left = resident().saturating_sub(before);
    assert!(
        left < 24 << 20,
        "{} of {} KiB are still there",
        left >> 10,
        (with - before) >> 10
    );
    end(&pool);
}

#[test]
fn p05_ended_tasks_leave_no_timer_entry_and_no_token_entry() {
    let _alone = ALONE.lock().unwrap_or_else(|broken| broken.into_inner());
    // Behind a token and a deadline that live for ever, a million tasks would show in memory.
    let pool = Pool::builder().workers(2).build().unwrap();
    let token = CancellationToken::new();
    let mut after_the_first = 0;
    for round in 0..200_000 {
        let task = pool
            .options()
            .token(&token)
            .timeout(Duration::from_secs(3600))
            .spawn(|| ())
            .unwrap();
        if round % 2 == 0 {
            task.wait().unwrap();
        }
        if round == 20_000 {
            after_the_first = resident();
        }
    }
    let grown = resident().saturating_sub(after_the_first);
    assert!(grown < 4 << 20, "{} KiB", grown >> 10);
    end(&pool);
}

#[test]
fn p05_ten_million_tasks_with_a_one_hour_deadline_leave_the_memory_flat() {
    let _alone = ALONE.lock().unwrap_or_else(|broken| broken.into_inner());
    let pool = Pool::builder().workers(2).build().unwrap();
    let mut window: VecDeque<Task<u64>> = VecDeque::with_capacity(256);
    let mut after_the_first = 0;
    for index in 0..10_000_000u64 {
        if window.len() == 256 {
            window.pop_front().unwrap().wait().unwrap();
        }
        window.push_back(
            pool.options()
                .timeout(Duration::from_secs(3600))
                .spawn(move || index)
                .unwrap(),
        );
        if index == 100_000 {
            after_the_first = resident();
        }
    }
    for task in window {
        task.wait().unwrap();
    }
    let grown = resident().saturating_sub(after_the_first);
    assert!(grown <= 5 << 20, "resident memory has grown by {} KiB", grown >> 10);
    assert_eq!(end(&pool).succeeded, 10_000_000);
}

#[test]
fn p05_a_dropped_child_leaves_its_parent() {
    let _alone = ALONE.lock().unwrap_or_else(|broken| broken.into_inner());
    let root = CancellationToken::new();
    let before = resident();
    for _ in 0..100_000 {
        drop(root.child().child());
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 4 << 20, "{} KiB", grown >> 10);
}

#[test]
fn p05_a_refused_submit_leaves_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(|broken| broken.into_inner());
    let (pool, gate, _stuck) = stuck_pool(Pool::builder().capacity(1), 1);
    let _full = pool.spawn(|| ()).unwrap();
    let before = resident();
    for _ in 0..200_000 {
        assert!(pool.try_spawn(|| ()).is_err());
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 4 << 20, "{} KiB", grown >> 10);
    gate.open();
    end(&pool);
}

#[test]
fn p05_what_others_watched_leaves_nothing_when_it_is_cancelled() {
    let _alone = ALONE.lock().unwrap_or_else(|broken| broken.into_inner());
    let (pool, gate, _stuck) = stuck_pool(Pool::builder().capacity(64), 1);
    let called = Arc::new(AtomicU64::new(0));
    let mut after_the_first = 0;
    for round in 0..150_000 {
        let task = pool.options().timeout(LONG).try_spawn(|| ()).unwrap();
        let calls = called.clone();
        task.on_complete(move |_| _ = calls.fetch_add(1, Ordering::Relaxed));
        assert!(task.cancel());
        if round % 1000 == 0 {
            // Not more at a time than the delivery thread calls.
            eventually("all are called", || called.load(Ordering::Relaxed) == round + 1);
        }
        if round == 20_000 {
            after_the_first = resident();
        }
    }
    let grown = resident().saturating_sub(after_the_first);
    assert!(grown < 4 << 20, "{} KiB", grown >> 10);
    gate.open();
    end(&pool);
}

#[test]
fn p05_waits_for_a_token_leave_nothing_in_it() {
    let _alone = ALONE.lock().unwrap_or_else(|broken| broken.into_inner());
    let token = CancellationToken::new();
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    for kind in ["a wait", "a future", "a future that is polled again"] {
        let mut again = Box::pin(token.cancelled());
        let before = resident();
        for _ in 0..200_000 {
            match kind {
                "a wait" => assert!(!token.wait(Some(Duration::ZERO))),
                "a future" => assert!(Box::pin(token.cancelled()).as_mut().poll(&mut cx).is_pending()),
                _ => assert!(again.as_mut().poll(&mut cx).is_pending()),
            }
        }
        let grown = resident().saturating_sub(before);
        assert!(grown < 2 << 20, "{kind} leaves {} KiB", grown >> 10);
    }
}

#[test]
fn p05_polled_handles_and_submits_that_waited_leave_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(|broken| broken.into_inner());
    struct Nobody;
    impl std::task::Wake for Nobody {
        fn wake(self: Arc<Self>) {}
    }
    let (pool, gate, stuck) = stuck_pool(Pool::builder().capacity(1), 1);
    let _full = pool.spawn(|| ()).unwrap();
    let token = CancellationToken::new();
    for kind in ["a polled handle", "a submit that timed out", "a submit future"] {
        let before = resident();
        for _ in 0..60_000 {
            match kind {
                "a polled handle" => {
                    let waker = Arc::new(Nobody).into();
                    let mut cx = std::task::Context::from_waker(&waker);
                    assert!(std::pin::pin!(stuck[0].clone()).poll(&mut cx).is_pending());
                }
                "a submit that timed out" => {
                    let options = pool.options().token(&token).submit_timeout(Duration::ZERO);
                    assert!(options.spawn(|| ()).is_err());
                }
                _ => {
                    let options = pool.options().token(&token);
                    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
                    let submit = std::pin::pin!(options.submit_async(|_| Ok::<_, ()>(())));
                    assert!(submit.poll(&mut cx).is_pending());
                }
            }
        }
        let grown = resident().saturating_sub(before);
        assert!(grown < 1 << 20, "{kind} leaves {} KiB", grown >> 10);
    }
    gate.open();
    end(&pool);
}
