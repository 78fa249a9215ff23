//! P1: every accepted task gets exactly one outcome, and every waiter of any kind sees that same one.

mod support;

use duly::{CancelReason, Outcome, Pool, TaskError};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use support::*;

fn pool() -> Pool {
    Pool::builder().workers(2).build().unwrap()
}

#[test]
fn p01_the_value_moves_to_the_first_taker_and_later_takers_are_told() {
    let pool = pool();
    let task = pool.spawn(|| vec![1, 2, 3]).unwrap();
    let other = task.clone();
    assert_eq!(task.wait().unwrap(), [1, 2, 3]);
    let error = other.wait().unwrap_err();
    assert!(matches!(error, TaskError::Taken(_)));
    assert!(error.to_string().contains("has been taken"), "{error}");
    assert_eq!(other.outcome(), Some(Outcome::Succeeded));
    end(&pool);
}

#[test]
fn p01_exactly_one_of_many_takers_gets_the_value() {
    let pool = pool();
    for _ in 0..200 {
        let task = pool.spawn(|| 7u64).unwrap();
        let taken = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let (task, taken) = (task.clone(), &taken);
                scope.spawn(move || match task.wait() {
                    Ok(7) => {
                        taken.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(TaskError::Taken(_)) => {}
                    other => panic!("{other:?}"),
                });
            }
        });
        assert_eq!(taken.load(Ordering::Relaxed), 1);
    }
    end(&pool);
}

#[test]
fn p01_every_kind_of_waiter_sees_the_same_outcome() {
    let pool = pool();
    let gate = Gate::new();
    let task = {
        let gate = gate.clone();
        pool.spawn(move || gate.pass()).unwrap()
    };
    gate.arrived(1);
    let (tell, told) = mpsc::channel();
    {
        let tell = tell.clone();
        task.on_complete(move |outcome| tell.send(("callback", outcome)).unwrap());
    }
    std::thread::scope(|scope| {
        let (a, b, t1, t2) = (task.clone(), task.clone(), tell.clone(), tell.clone());
        scope.spawn(move || t1.send(("blocking", a.wait_outcome(LONG).unwrap())).unwrap());
        scope.spawn(move || {
            t2.send(("future", block_on(b).unwrap_err().outcome().unwrap()))
                .unwrap()
        });
        assert!(task.cancel());
        gate.open();
    });
    let mut seen: Vec<_> = (0..3).map(|_| told.recv_timeout(LONG).unwrap()).collect();
    // After the end, too.
    task.on_complete(move |outcome| tell.send(("late callback", outcome)).unwrap());
    seen.push(told.recv_timeout(LONG).unwrap());
    assert_eq!(seen.len(), 4);
    assert!(
        seen.iter().all(|(_, outcome)| *outcome == Outcome::Cancelled),
        "{seen:?}"
    );
    end(&pool);
}

#[test]
fn p01_racing_enders_agree_on_one_winner() {
    // The callback, a canceller and the deadline race; whoever wins, all see the same and it is counted once.
    let pool = Pool::builder().workers(2).capacity(64).build().unwrap();
    let mut seen = std::collections::BTreeMap::new();
    for round in 0..2000u64 {
        let task = pool
            .options()
            .timeout(ms(1))
            .submit(move |_| {
                let spin = std::time::Instant::now();
                while spin.elapsed() < std::time::Duration::from_micros(round % 1200) {
                    std::hint::spin_loop();
                }
                Ok::<_, ()>(())
            })
            .unwrap();
        let canceller = task.clone();
        let won = std::thread::scope(|scope| {
            let handle = scope.spawn(move || {
                if round % 3 == 0 {
                    std::thread::yield_now();
                    canceller.cancel()
                } else {
                    false
                }
            });
            let first = task.wait_outcome(LONG).unwrap();
            let won = handle.join().unwrap();
            assert_eq!(won, first == Outcome::Cancelled);
            first
        });
        assert_eq!(task.outcome(), Some(won));
        *seen.entry(won.as_str()).or_insert(0u64) += 1;
    }
    let stats = end(&pool);
    assert_eq!(stats.succeeded, seen.get("succeeded").copied().unwrap_or(0));
    assert_eq!(stats.cancelled, seen.get("cancelled").copied().unwrap_or(0));
    assert_eq!(
        stats.deadline_exceeded,
        seen.get("deadline_exceeded").copied().unwrap_or(0)
    );
    assert!(seen.len() >= 2, "the race was no race: {seen:?}");
}

#[test]
fn p01_a_completion_callback_runs_once_and_its_panic_hurts_nobody() {
    let pool = pool();
    let calls = Arc::new(AtomicUsize::new(0));
    let task = pool.spawn(|| std::thread::sleep(ms(5))).unwrap();
    for _ in 0..3 {
        let calls = calls.clone();
        task.on_complete(move |_| {
            calls.fetch_add(1, Ordering::SeqCst);
            panic!("a completion callback panics");
        });
    }
    task.wait().unwrap();
    eventually("all three ran", || calls.load(Ordering::SeqCst) == 3);
    assert_eq!(pool.spawn(|| 1).unwrap().wait().unwrap(), 1);
    end(&pool);
    assert_eq!(calls.load(Ordering::SeqCst), 3);
}

#[test]
fn p01_reasons_reach_the_waiter() {
    let (pool, gate, stuck) = stuck_pool(Pool::builder(), 1);
    for (reason, word) in [
        (CancelReason::Requested, "requested"),
        (CancelReason::CallerLeft, "caller_left"),
        (CancelReason::Signal(15), "signal 15"),
        (CancelReason::from("the cat left"), "the cat left"),
    ] {
        let task = pool.spawn(|| ()).unwrap();
        assert!(task.cancel_with(reason.clone()));
        assert!(!task.cancel(), "the first decides");
        match task.wait() {
            Err(TaskError::Cancelled(cancelled)) => {
                assert_eq!(*cancelled.reason(), reason);
                assert!(cancelled.reason().to_string().contains(word));
            }
            other => panic!("{other:?}"),
        }
    }
    gate.open();
    stuck[0].wait().unwrap();
    end(&pool);
}

#[test]
fn p01_futures_wake_on_any_executor_and_when_moved_between_tasks() {
    let pool = pool();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap();
    let gate = Gate::new();
    let task = {
        let gate = gate.clone();
        pool.spawn(move || {
            gate.pass();
            5
        })
        .unwrap()
    };
    runtime.block_on(async {
        let mut task = task;
        // Polled in one task, then in another: the last waker is the one that counts.
        assert!(tokio::time::timeout(ms(5), &mut task).await.is_err());
        let moved = tokio::spawn(task);
        // It must be asleep there before the end.
        tokio::time::sleep(ms(20)).await;
        gate.open();
        assert_eq!(tokio::time::timeout(LONG, moved).await.unwrap().unwrap().unwrap(), 5);
    });
    end(&pool);
}

#[test]
fn p01_a_hundred_polled_handles_of_one_task_are_all_woken() {
    let pool = pool();
    let gate = Gate::new();
    let task = {
        let gate = gate.clone();
        pool.spawn(move || gate.pass()).unwrap()
    };
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..100 {
            let (task, outcomes) = (task.clone(), &outcomes);
            scope.spawn(move || {
                let result = block_on(task);
                outcomes.lock().unwrap().push(result.is_ok());
            });
        }
        gate.arrived(1);
        gate.open();
    });
    let outcomes = outcomes.into_inner().unwrap();
    assert_eq!(outcomes.len(), 100);
    assert_eq!(outcomes.iter().filter(|ok| **ok).count(), 1, "one taker");
    end(&pool);
}

#[test]
fn p01_one_handle_shared_by_threads_gives_its_value_once() {
    let pool = pool();
    for _ in 0..2000 {
        let task = pool.spawn(|| Box::new(7u64)).unwrap();
        let taken = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    if let Ok(value) = task.wait() {
                        taken.fetch_add(*value, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(taken.load(Ordering::Relaxed), 7);
    }
    end(&pool);
}

#[test]
fn p01_a_polled_handle_that_is_dropped_takes_nobody_elses_wake_up_along() {
    let pool = pool();
    let gate = Gate::new();
    let task = {
        let gate = gate.clone();
        pool.spawn(move || gate.pass()).unwrap()
    };
    // More than have a place of their own, polled by an executor each; some are dropped again.
    let woken = Arc::new(AtomicUsize::new(0));
    struct Counts(Arc<AtomicUsize>);
    impl std::task::Wake for Counts {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let mut handles: Vec<_> = (0..150)
        .map(|_| (task.clone(), Arc::new(Counts(woken.clone())).into()))
        .collect();
    for (handle, waker) in &mut handles {
        let mut cx = std::task::Context::from_waker(waker);
        assert!(std::pin::Pin::new(handle).poll(&mut cx).is_pending());
    }
    let kept: Vec<_> = handles
        .into_iter()
        .enumerate()
        .filter(|(i, _)| i % 3 == 0)
        .map(|(_, kept)| kept)
        .collect();
    gate.open();
    task.wait_outcome(LONG).unwrap();
    eventually("all that are left are woken", || {
        woken.load(Ordering::SeqCst) >= kept.len()
    });
    end(&pool);
}

#[test]
fn p01_a_completion_callback_may_wait_for_another_task() {
    // The other worker sleeps: it must be woken although this one is awake. (A replacement would hide it.)
    let pool = Pool::builder().workers(2).max_replacements(0).build().unwrap();
    for _ in 0..100 {
        let (send, receive) = mpsc::channel();
        let gate = Gate::new();
        let task = {
            let gate = gate.clone();
            pool.spawn(move || gate.pass()).unwrap()
        };
        let inner = pool.clone();
        task.on_complete(move |_| send.send(inner.spawn(|| 3).unwrap().wait_timeout(LONG)).unwrap());
        gate.arrived(1);
        std::thread::sleep(ms(1));
        gate.open();
        assert_eq!(receive.recv_timeout(LONG).unwrap().expect("answered").unwrap(), 3);
    }
    end(&pool);
}

#[test]
fn p01_every_kind_of_waiter_is_woken_whoever_ends_the_task() {
    // Each waiter on a thread of its own, asleep long before the end: one that nobody wakes does not come back.
    for ender in ["the worker", "a cancel", "the deadline", "the drain"] {
        let pool = Pool::builder().workers(1).build().unwrap();
        let gate = Gate::new();
        let mut options = pool.options();
        match ender {
            "the worker" => {}
            "the deadline" => options = options.timeout(ms(300)),
            _ => options = options.timeout(LONG * 10),
        }
        let task = {
            let gate = gate.clone();
            options.spawn(move || gate.pass()).unwrap()
        };
        if ender != "the deadline" {
            gate.arrived(1);
        }
        let (tell, told) = mpsc::channel();
        let wait = |kind: &'static str, wait: fn(&duly::Task<()>)| {
            let (task, tell) = (task.clone(), tell.clone());
            std::thread::spawn(move || {
                wait(&task);
                tell.send((kind, task.outcome())).ok();
            });
        };
        wait("wait", |task| drop(task.wait()));
        wait("wait_timeout", |task| drop(task.wait_timeout(LONG * 10)));
        wait("wait_with", |task| {
            drop(task.wait_with(&duly::CancellationToken::new(), None))
        });
        wait("future", |task| drop(block_on(task.clone())));
        {
            let tell = tell.clone();
            task.on_complete(move |outcome| tell.send(("callback", Some(outcome))).unwrap());
        }
        std::thread::sleep(ms(30));
        let expected = match ender {
            "the worker" => {
                gate.open();
                Outcome::Succeeded
            }
            "a cancel" => {
                task.cancel();
                Outcome::Cancelled
            }
            "the deadline" => Outcome::DeadlineExceeded,
            _ => {
                pool.shutdown(ms(1)).unwrap();
                Outcome::Abandoned
            }
        };
        let mut woken: Vec<_> = (0..5)
            .map_while(|_| told.recv_timeout(LONG).ok())
            .map(|(kind, outcome)| {
                assert_eq!(outcome, Some(expected), "{kind}, ended by {ender}");
                kind
            })
            .collect();
        woken.sort_unstable();
        assert_eq!(
            woken,
            ["callback", "future", "wait", "wait_timeout", "wait_with"],
            "woken, ended by {ender}"
        );
        gate.open();
        pool.shutdown(LONG).unwrap();
    }
}
