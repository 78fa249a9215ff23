//! One token over many queued tasks: they are ended together, and each still keeps every promise for itself.

mod support;

use duly::{CancelReason, CancellationToken, Outcome, Pool, Task, TaskError};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use support::*;

const MANY: usize = 500;

/// Two pools whose workers are stuck, and tasks of every kind in both, alternating, under one token.
#[test]
fn p01_one_token_ends_tasks_of_every_kind_in_several_pools_once_each() {
    for reason in [CancelReason::Requested, CancelReason::from("the client left")] {
        let (left, left_gate, _left) = stuck_pool(Pool::builder().capacity(MANY), 2);
        let (right, right_gate, _right) = stuck_pool(Pool::builder().capacity(MANY), 1);
        let token = CancellationToken::new();
        let drops = Drops::default();
        let (completed, completions) = mpsc::channel();
        let tasks: Vec<Task<()>> = (0..MANY)
            .map(|index| {
                let options = if index % 7 < 3 { left.options() } else { right.options() }.token(&token);
                let task = match index % 5 {
                    0 => {
                        let probe = drops.probe();
                        options.spawn(move || drop(probe)).unwrap()
                    }
                    1 => options.timeout(LONG).spawn(|| ()).unwrap(),
                    _ => options.spawn(|| ()).unwrap(),
                };
                if index % 5 == 2 {
                    let completed = completed.clone();
                    task.on_complete(move |outcome| completed.send((index, outcome)).unwrap());
                }
                task
            })
            .collect();
        let waiting = tasks[3].clone();
        let waiter = std::thread::spawn(move || waiting.wait_outcome(LONG));
        // Handles that are gone leave the list's reference as the last one.
        let mut tasks: Vec<_> = tasks.into_iter().map(Some).collect();
        for task in tasks.iter_mut().skip(4).step_by(10) {
            *task = None;
        }
        let before = tasks[0].as_ref().unwrap().cancel();
        assert!(before, "one is ended by its handle first");

        token.cancel_with(reason.clone());

        for (index, task) in tasks.iter().enumerate() {
            let Some(task) = task else { continue };
            assert_eq!(task.outcome(), Some(Outcome::Cancelled), "task {index}");
            match task.clone().wait() {
                Err(TaskError::Cancelled(cancelled)) if index > 0 => {
                    assert_eq!(*cancelled.reason(), reason, "task {index}")
                }
                Err(TaskError::Cancelled(_)) => {}
                other => panic!("task {index}: {other:?}"),
            }
        }
        assert_eq!(waiter.join().unwrap(), Some(Outcome::Cancelled));
        let stats = [left.stats(), right.stats()];
        assert_eq!(stats.iter().map(|stats| stats.cancelled).sum::<u64>(), MANY as u64);
        assert_eq!(stats.iter().map(|stats| stats.queued).sum::<u64>(), 0);
        assert!(stats.iter().all(duly::Stats::books_balance), "{stats:?}");
        eventually("captured data is dropped", || drops.count() == MANY / 5);
        eventually("released", || tasks.iter().flatten().all(Task::is_released));
        drop(completed);
        let mut called: Vec<_> = completions.iter().collect();
        called.sort_by_key(|(index, _)| *index);
        let expected = (0..MANY).filter(|index| index % 5 == 2);
        assert!(
            called.iter().map(|(index, _)| *index).eq(expected),
            "each completion callback once"
        );
        left_gate.open();
        right_gate.open();
        end(&left);
        end(&right);
    }
}

#[test]
fn p04_producers_that_wait_get_the_places_of_tasks_ended_by_a_token() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder().capacity(100), 1);
    let token = CancellationToken::new();
    let queued: Vec<_> = (0..100)
        .map(|_| pool.options().token(&token).spawn(|| ()).unwrap())
        .collect();
    std::thread::scope(|scope| {
        let producers: Vec<_> = (0..8)
            .map(|_| {
                let options = pool.options().submit_timeout(LONG);
                scope.spawn(move || options.spawn(|| ()).map(drop))
            })
            .collect();
        eventually("all producers wait", || pool.stats().blocked_producers == 8);
        token.cancel();
        for producer in producers {
            producer.join().unwrap().expect("there is room");
        }
    });
    assert_eq!(pool.stats().queued, 8);
    drop(queued);
    gate.open();
    end(&pool);
}

#[test]
fn p04_each_place_given_back_by_a_handle_goes_to_a_producer_that_waits() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder().capacity(3), 1);
    let queued: Vec<_> = (0..3).map(|_| pool.spawn(|| ()).unwrap()).collect();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let options = pool.options().submit_timeout(LONG);
            scope.spawn(move || options.spawn(|| ()).map(drop).expect("there is room"));
        }
        eventually("all producers wait", || pool.stats().blocked_producers == 3);
        for (index, task) in queued.iter().enumerate() {
            assert!(task.cancel());
            eventually("a producer got the place", || {
                let stats = pool.stats();
                stats.blocked_producers == 2 - index as u64 && stats.queued == 3
            });
        }
    });
    gate.open();
    end(&pool);
}

/// While producers come and go.
#[test]
fn p04_no_place_is_lost_between_cancellations_and_producers() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder().capacity(1).max_blocked_producers(4), 1);
    let cancelled = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for round in 0..500 {
                    let options = pool.options().submit_timeout(LONG);
                    let task = options.spawn(|| ()).expect("a place comes free all the time");
                    for _ in 0..round % 32 {
                        std::thread::yield_now();
                    }
                    cancelled.fetch_add(u64::from(task.cancel()), Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(cancelled.into_inner(), 2000);
    gate.open();
    end(&pool);
}

#[test]
fn p12_what_a_token_or_a_handle_ends_is_counted_before_it_is_seen() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder().capacity(64), 1);
    std::thread::scope(|scope| {
        let (send, receive) = mpsc::sync_channel::<Vec<Task<()>>>(0);
        let watcher = scope.spawn(|| {
            let receive = receive;
            let mut base = 0;
            for tasks in &receive {
                let count = tasks.len() as u64;
                // The last one first: by then all others may still be on their way.
                for (index, task) in tasks.iter().enumerate().rev() {
                    while task.outcome().is_none() {
                        std::hint::spin_loop();
                    }
                    let ended = tasks.iter().filter(|task| task.outcome().is_some()).count() as u64;
                    let seen = pool.stats();
                    assert!(
                        seen.cancelled >= base + ended,
                        "task {index}: {ended} have been seen to end, {} are counted",
                        seen.cancelled - base
                    );
                    assert!(seen.books_balance(), "{seen}");
                }
                base += count;
            }
            base
        });
        for round in 0..300 {
            let token = CancellationToken::new();
            let tasks: Vec<_> = (0..64)
                .map(|_| pool.options().token(&token).spawn(|| ()).unwrap())
                .collect();
            send.send(tasks.clone()).unwrap();
            if round % 2 == 0 {
                token.cancel();
            } else {
                tasks.iter().for_each(|task| assert!(task.cancel()));
            }
        }
        drop(send);
        assert_eq!(watcher.join().unwrap(), 300 * 64);
    });
    gate.open();
    end(&pool);
}
