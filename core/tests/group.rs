//! Groups: tests are named by the promise they show.

mod support;

use duly::{CancelReason, CancellationToken, Group, Outcome, Overflow, Pool, SubmitErrorKind, TaskError};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};
use support::*;

fn pool(workers: usize) -> Pool {
    Pool::builder().workers(workers).build().unwrap()
}

#[test]
fn p01_a_group_of_good_members_is_good_and_the_handles_have_the_values() {
    let pool = pool(4);
    let group = Group::<_, ()>::builder(&pool).build();
    let tasks: Vec<_> = (0..100).map(|n| group.submit(move |_| Ok(n)).unwrap()).collect();
    group.wait().unwrap();
    assert_eq!((group.accepted(), group.in_flight()), (100, 0));
    assert_eq!(group.count(Outcome::Succeeded), 100);
    let values: Vec<_> = tasks.iter().map(|task| task.wait().unwrap()).collect();
    assert_eq!(values, (0..100).collect::<Vec<_>>());
    end(&pool);
}

#[test]
fn p02_the_first_failure_cancels_the_rest_and_is_told_apart() {
    let pool = pool(4);
    let group = Group::<(), &str>::builder(&pool).label("fetch").build();
    let gate = Gate::new();
    let saw = Arc::new(AtomicUsize::new(0));
    for _ in 0..2 {
        let saw = saw.clone();
        group
            .submit(move |ctx| {
                while ctx.check().is_ok() {
                    std::thread::sleep(ms(1));
                }
                saw.fetch_add(1, Ordering::SeqCst);
                Ok(())
            })
            .unwrap();
    }
    let stuck = group
        .submit({
            let gate = gate.clone();
            move |_| {
                gate.pass();
                Ok(())
            }
        })
        .unwrap();
    gate.arrived(1);
    let options = pool.options().label("page 4");
    eventually("all are there", || pool.running().len() == 3);
    group.with(&options).submit(|_| Err("no such page")).unwrap();
    // One is deaf: the answer does not wait for it.
    let error = group.wait_timeout(LONG).expect("in time").unwrap_err();
    assert_eq!(error.first().unwrap().0, 3);
    assert_eq!(error.first().unwrap().1.label(), Some("page 4"));
    assert_eq!((error.errors().len(), error.cancelled_by_group()), (1, 3), "{error}");
    let text = error.to_string();
    for part in ["1 of 4 members of group `fetch`", "page 4", "no such page", "3 more"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(
        error.into_errors().pop().unwrap().into_error().into_failed(),
        Some("no such page")
    );
    let Err(TaskError::Cancelled(why)) = stuck.wait() else {
        panic!("it was cancelled")
    };
    assert!(matches!(why.reason(), CancelReason::Custom(text) if text.contains("fetch")));
    eventually("the polite ones return", || saw.load(Ordering::SeqCst) == 2);
    gate.open();
    end(&pool);
}

#[test]
fn p02_a_wait_returns_at_its_timeout_while_a_member_is_stuck() {
    let pool = pool(2);
    let group = Group::builder(&pool).build();
    let gate = Gate::new();
    let stuck = gate.clone();
    group.spawn(move || stuck.pass()).unwrap();
    let began = Instant::now();
    assert!(group.wait_timeout(ms(30)).is_none());
    assert!(began.elapsed() >= ms(30), "early");
    assert!(began.elapsed() < LONG / 2, "{:?}", began.elapsed());
    // The group goes on.
    group.spawn(|| ()).unwrap();
    gate.open();
    group.wait_timeout(LONG).expect("in time").unwrap();
    end(&pool);
}

#[test]
fn p02_a_group_has_a_deadline() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder(), 1);
    let began = Instant::now();
    let group = Group::<(), ()>::builder(&pool)
        .timeout(ms(1000))
        .fail_fast_on(&[Outcome::DeadlineExceeded])
        .build();
    group.submit(|_| Ok(())).unwrap();
    group.submit(|_| Ok(())).unwrap();
    let error = group.wait().unwrap_err();
    assert!(began.elapsed() >= ms(1000), "early");
    assert_eq!(error.first().unwrap().2, Outcome::DeadlineExceeded);
    assert_eq!(
        error.count(Outcome::DeadlineExceeded) + error.cancelled_by_group(),
        2,
        "{error:?}"
    );
    gate.open();
    end(&pool);
}

#[test]
fn p02_members_inherit_the_token_and_the_deadline_of_the_callback_that_makes_the_group() {
    let pool = pool(4);
    let outer = pool
        .options()
        .timeout(Duration::from_secs(100))
        .submit(|ctx| {
            let group = Group::<bool, ()>::builder(&ctx.pool()).build();
            let inner = group.submit(|ctx| Ok(ctx.time_left().is_some())).unwrap();
            let lives = group
                .submit(|ctx| {
                    let _ = ctx.sleep(LONG);
                    Ok(false)
                })
                .unwrap();
            let deadline = inner.wait().unwrap();
            let _ = ctx.sleep(LONG);
            drop(lives.cancel_on_drop().into_inner());
            Ok::<_, ()>((deadline, group.wait_timeout(LONG).unwrap().is_err()))
        })
        .unwrap();
    eventually("the inner ones are there", || {
        let stats = pool.stats();
        stats.succeeded >= 1 && stats.submitted == 3
    });
    assert!(outer.cancel());
    assert!(outer.released(LONG));
    eventually("the inner one is cancelled with it", || pool.stats().cancelled == 2);
    end(&pool);
}

#[test]
fn p01_all_errors_are_kept_in_order_when_nothing_fails_fast() {
    let pool = pool(1);
    let group = Group::<u32, u32>::builder(&pool).fail_fast(false).build();
    for n in 0..10 {
        let options = pool.options().label(format!("member {n}"));
        group
            .with(&options)
            .submit(move |_| match n {
                3 => panic!("three"),
                n if n % 2 == 0 => Err(n),
                n => Ok(n),
            })
            .unwrap();
    }
    let error = group.wait().unwrap_err();
    let seen: Vec<_> = error.errors().iter().map(|e| e.index()).collect();
    assert_eq!(seen, [0, 2, 3, 4, 6, 8]);
    assert!(error.errors()[2].to_string().contains("three"));
    assert!(
        error.errors()[1].to_string().contains("member 2"),
        "{}",
        error.errors()[1]
    );
    assert_eq!(error.first().unwrap().0, 0);
    assert_eq!((error.count(Outcome::Panicked), error.count(Outcome::Failed)), (1, 5));
    // A second wait says the same, without the errors.
    let again = group.wait().unwrap_err();
    assert_eq!((again.first().unwrap().0, again.errors().len()), (0, 0));
    end(&pool);
}

#[test]
fn p05_a_group_keeps_only_so_many_errors() {
    let pool = pool(2);
    let group = Group::<(), u32>::builder(&pool).fail_fast(false).keep_errors(3).build();
    for n in 0..10 {
        group.submit(move |_| Err(n)).unwrap();
    }
    let error = group.wait().unwrap_err();
    assert_eq!((error.errors().len(), error.dropped()), (3, 7));
    assert_eq!(error.count(Outcome::Failed), 10);
    end(&pool);
}

#[test]
fn p05_no_more_members_are_in_flight_than_the_limit() {
    let pool = pool(8);
    let group = Group::<(), ()>::builder(&pool).limit(3).build();
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    let (now, most) = (now.clone(), most.clone());
                    group
                        .submit(move |_| {
                            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            std::thread::yield_now();
                            now.fetch_sub(1, Ordering::SeqCst);
                            Ok(())
                        })
                        .unwrap();
                    assert!(group.in_flight() <= 3);
                }
            });
        }
    });
    group.wait().unwrap();
    assert_eq!(group.accepted(), 400);
    assert!((1..=3).contains(&most.load(Ordering::SeqCst)), "{most:?}");
    end(&pool);
}

#[test]
fn p05_at_its_limit_try_submit_is_refused_and_names_the_group() {
    let pool = pool(2);
    let group = Group::<(), ()>::builder(&pool).label("uploads").limit(1).build();
    let gate = Gate::new();
    let stuck = gate.clone();
    group
        .submit(move |_| {
            stuck.pass();
            Ok(())
        })
        .unwrap();
    let drops = Drops::default();
    let probe = drops.probe();
    let error = group
        .try_submit(move |_| {
            drop(probe);
            Ok(())
        })
        .unwrap_err();
    assert_eq!(error.kind(), SubmitErrorKind::QueueFull);
    assert!(error.to_string().contains("uploads"), "{error}");
    assert_eq!((drops.count(), pool.stats().refused), (0, 1));
    gate.open();
    eventually("there is a place", || group.try_submit(|_| Ok(())).is_ok());
    group.wait().unwrap();
    end(&pool);
}

/// A group of one place that is taken.
fn full(pool: &Pool) -> (Group<(), ()>, Gate) {
    let group = Group::<(), ()>::builder(pool).limit(1).build();
    let gate = Gate::new();
    let stuck = gate.clone();
    group
        .submit(move |_| {
            stuck.pass();
            Ok(())
        })
        .unwrap();
    gate.arrived(1);
    (group, gate)
}

#[test]
fn p04_a_submit_that_waits_for_a_place_ends_by_timeout_deadline_and_token() {
    let pool = pool(2);
    let (group, gate) = full(&pool);
    let began = Instant::now();
    let options = pool.options().submit_timeout(ms(30));
    let error = group.with(&options).submit(|_| Ok(())).unwrap_err();
    assert_eq!(error.kind(), SubmitErrorKind::SubmitTimedOut);
    assert!(began.elapsed() >= ms(30), "early");
    let options = pool.options().timeout(ms(30));
    let error = group.with(&options).submit(|_| Ok(())).unwrap_err();
    assert_eq!(error.kind(), SubmitErrorKind::DeadlineExceeded);
    let error = block_on(group.with(&options).submit_async(|_| Ok(()))).unwrap_err();
    assert_eq!(error.kind(), SubmitErrorKind::DeadlineExceeded);
    std::thread::scope(|scope| {
        let blocked = scope.spawn(|| group.submit(|_| Ok(())).map(drop));
        let waiting = scope.spawn(|| block_on(group.submit_async(|_| Ok(()))).map(drop));
        std::thread::sleep(ms(20));
        assert!(!blocked.is_finished() && !waiting.is_finished());
        group.cancel();
        assert_eq!(blocked.join().unwrap().unwrap_err().kind(), SubmitErrorKind::Cancelled);
        assert_eq!(waiting.join().unwrap().unwrap_err().kind(), SubmitErrorKind::Cancelled);
    });
    gate.open();
    end(&pool);
}

#[test]
fn p04_a_submit_that_waits_for_a_place_ends_when_the_pool_is_closed() {
    for asynchronous in [false, true] {
        let pool = pool(1);
        let (group, gate) = full(&pool);
        std::thread::scope(|scope| {
            let blocked = scope.spawn(|| {
                if asynchronous {
                    block_on(group.submit_async(|_| Ok(()))).map(drop).map_err(|e| e.kind())
                } else {
                    group.submit(|_| Ok(())).map(drop).map_err(|e| e.kind())
                }
            });
            std::thread::sleep(ms(10));
            assert!(!blocked.is_finished());
            pool.close();
            assert_eq!(blocked.join().unwrap(), Err(SubmitErrorKind::ShutDown));
        });
        gate.open();
        group.wait().unwrap();
        end(&pool);
    }
}

#[test]
fn p04_a_waiter_that_leaves_the_line_passes_its_turn_on() {
    let pool = pool(2);
    let (group, gate) = full(&pool);
    std::thread::scope(|scope| {
        let options = pool.options().submit_timeout(ms(40));
        let group = &group;
        let first = scope.spawn(move || group.with(&options).submit(|_| Ok(())).map(drop).map_err(|e| e.kind()));
        std::thread::sleep(ms(10));
        let second = scope.spawn(move || group.submit(|_| Ok(())).map(drop).map_err(|e| e.kind()));
        assert_eq!(first.join().unwrap(), Err(SubmitErrorKind::SubmitTimedOut));
        gate.open();
        assert_eq!(second.join().unwrap(), Ok(()));
    });
    group.wait().unwrap();
    end(&pool);
}

#[test]
fn p04_waiters_end_when_the_pool_is_shut_down_under_the_group() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder(), 1);
    let group = Group::<(), ()>::builder(&pool).build();
    group.submit(|_| Ok(())).unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| group.wait().unwrap_err());
        std::thread::sleep(ms(5));
        pool.shutdown(ms(20)).unwrap();
        let error = waiter.join().unwrap();
        assert_eq!(error.first().unwrap().2, Outcome::Abandoned);
    });
    let error = group.submit(|_| Ok(())).unwrap_err();
    assert_eq!(error.kind(), SubmitErrorKind::Cancelled, "finished by then");
    gate.open();
}

#[test]
fn p16_a_group_that_has_finished_failed_or_was_cancelled_refuses() {
    let pool = pool(1);
    let group = Group::<(), ()>::builder(&pool).build();
    group.wait().unwrap();
    assert_eq!(group.submit(|_| Ok(())).unwrap_err().kind(), SubmitErrorKind::Cancelled);
    let group = Group::<(), ()>::builder(&pool).build();
    group.submit(|_| Err(())).unwrap();
    eventually("it has failed", || group.count(Outcome::Failed) == 1);
    assert_eq!(
        group.try_submit(|_| Ok(())).unwrap_err().kind(),
        SubmitErrorKind::Cancelled
    );
    let root = CancellationToken::new();
    let group = Group::<(), ()>::builder(&pool)
        .options(&pool.options().token(&root))
        .build();
    root.cancel();
    assert_eq!(group.submit(|_| Ok(())).unwrap_err().kind(), SubmitErrorKind::Cancelled);
    group.wait().unwrap();
    end(&pool);
}

#[test]
fn p06_dropping_a_group_cancels_its_members_and_never_blocks() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder(), 1);
    let group = Group::<(), ()>::builder(&pool).build();
    let drops = Drops::default();
    let probe = drops.probe();
    let queued = group
        .submit(move |_| {
            drop(probe);
            Ok(())
        })
        .unwrap();
    drop(group);
    assert_eq!(queued.outcome(), Some(Outcome::Cancelled));
    let Err(TaskError::Cancelled(why)) = queued.wait() else {
        panic!("cancelled")
    };
    // Taken by the group, or told by the slot: the reason stays.
    assert_eq!(*why.reason(), CancelReason::Dropped);
    eventually("its captured data is gone", || drops.count() == 1);
    gate.open();
    end(&pool);
}

#[test]
fn p06_a_group_that_detaches_leaves_its_members_alone() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder(), 1);
    let group = Group::<u8, ()>::builder(&pool).detach_on_drop().build();
    let queued = group.submit(|_| Ok(7)).unwrap();
    drop(group);
    assert_eq!(queued.outcome(), None);
    gate.open();
    assert_eq!(queued.wait().unwrap(), 7);
    end(&pool);
}

#[test]
fn p01_kept_values_are_taken_one_by_one_or_together() {
    let pool = pool(3);
    let group = Group::<usize, ()>::builder(&pool)
        .fail_fast(false)
        .keep_values()
        .build();
    for n in 0..50 {
        group.submit(move |_| if n == 20 { Err(()) } else { Ok(n) }).unwrap();
    }
    let first = group.next_timeout(LONG).unwrap().unwrap();
    let mut seen = vec![first.index()];
    for _ in 0..9 {
        seen.push(group.next().unwrap().index());
    }
    block_on(async {
        for _ in 0..10 {
            seen.push(group.next_async().await.unwrap().index());
        }
    });
    let failed_before = seen.contains(&20);
    let error = group.wait().unwrap_err();
    assert_eq!(error.errors().len(), usize::from(!failed_before));
    let rest = group.take_values();
    assert!(rest.is_sorted());
    assert!(rest.iter().all(|(index, value)| index == value));
    seen.extend(rest.into_iter().map(|(index, _)| index));
    if !failed_before {
        seen.push(20);
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..50).collect::<Vec<_>>());
    assert!(group.next().is_none());
    end(&pool);
}

#[test]
fn p04_next_times_out_and_loses_nothing() {
    let pool = pool(1);
    let gate = Gate::new();
    let group = Group::<u8, ()>::builder(&pool).keep_values().build();
    let stuck = gate.clone();
    group
        .submit(move |_| {
            stuck.pass();
            Ok(9)
        })
        .unwrap();
    assert!(group.next_timeout(ms(10)).is_err());
    gate.open();
    assert_eq!(group.next_timeout(LONG).unwrap().unwrap().into_result().unwrap(), 9);
    end(&pool);
}

#[test]
fn p07_a_value_that_panics_when_dropped_harms_nobody() {
    struct Bad;
    impl Drop for Bad {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                panic!("in a destructor");
            }
        }
    }
    let pool = pool(1);
    let group = Group::<Bad, ()>::builder(&pool).build();
    drop(group.submit(|_| Ok(Bad)).unwrap());
    group.wait_timeout(LONG).expect("in time").unwrap();
    end(&pool);
}

#[test]
fn p13_a_member_submits_members_of_its_group() {
    let pool = pool(2);
    let group = Arc::new(Group::<(), ()>::builder(&pool).build());
    fn grow(group: &Arc<Group<(), ()>>, depth: u32) {
        let below = group.clone();
        group
            .submit(move |_| {
                if depth > 0 {
                    grow(&below, depth - 1);
                    grow(&below, depth - 1);
                }
                Ok(())
            })
            .unwrap();
    }
    grow(&group, 7);
    block_on(async { (&*group).await }).unwrap();
    assert_eq!(group.accepted(), 255);
    end(&pool);
}

#[test]
fn p12_shed_members_are_errors_of_the_group() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder().capacity(1).overflow(Overflow::DropNewest), 1);
    let group = Group::<(), ()>::builder(&pool).build();
    group.submit(|_| Ok(())).unwrap();
    group.submit(|_| Ok(())).unwrap();
    gate.open();
    let error = group.wait().unwrap_err();
    assert_eq!((error.first().unwrap().0, error.first().unwrap().2), (1, Outcome::Shed));
    assert_eq!(error.count(Outcome::Succeeded), 1);
    end(&pool);
}

#[test]
fn p12_a_failure_in_a_group_that_nobody_asks_is_told_once() {
    for detach in [false, true] {
        let pool = pool(1);
        let build = || Group::<(), u8>::builder(&pool).fail_fast(false);
        let group = if detach {
            build().detach_on_drop().build()
        } else {
            build().build()
        };
        drop(group.submit(|_| Err(1)).unwrap());
        drop(group.submit(|_| panic!("two")).unwrap());
        eventually("both have ended", || group.in_flight() == 0);
        assert_eq!(pool.stats().unobserved, 0, "somebody may still ask");
        let gate = Gate::new();
        let last = gate.clone();
        let fails_late = group.submit(move |_| {
            last.pass();
            Err(3)
        });
        drop(fails_late);
        gate.arrived(1);
        drop(group);
        assert_eq!(pool.stats().unobserved, 2);
        gate.open();
        // Cancelled, or failed with nobody there.
        end(&pool);
        assert_eq!(pool.stats().unobserved, if detach { 3 } else { 2 });
    }
    let pool = pool(1);
    let group = Group::<(), u8>::builder(&pool).build();
    drop(group.submit(|_| Err(1)).unwrap());
    group.wait().unwrap_err();
    drop(group);
    end(&pool);
    assert_eq!(pool.stats().unobserved, 0, "a wait told of it");
}

/// A waker that counts.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn p04_places_go_in_order_of_arrival_and_who_leaves_passes_its_turn_on() {
    let pool = pool(2);
    let (group, gate) = full(&pool);
    let (first_woken, second_woken) = (Arc::new(Woken::default()), Arc::new(Woken::default()));
    let mut first = Box::pin(group.submit_async(|_| Ok(())));
    let mut second = Box::pin(group.submit_async(|_| Ok(())));
    let (first_waker, second_waker) = (Waker::from(first_woken.clone()), Waker::from(second_woken.clone()));
    assert!(first.as_mut().poll(&mut Context::from_waker(&first_waker)).is_pending());
    assert!(
        second
            .as_mut()
            .poll(&mut Context::from_waker(&second_waker))
            .is_pending()
    );
    gate.open();
    eventually("there is a place", || group.in_flight() == 0);
    eventually("the first is told", || first_woken.0.load(Ordering::SeqCst) == 1);
    assert_eq!(second_woken.0.load(Ordering::SeqCst), 0);
    let error = group.try_submit(|_| Ok(())).unwrap_err();
    assert_eq!(error.kind(), SubmitErrorKind::QueueFull, "nobody goes past the line");
    assert!(
        second
            .as_mut()
            .poll(&mut Context::from_waker(&second_waker))
            .is_pending()
    );
    drop(first);
    assert_eq!(second_woken.0.load(Ordering::SeqCst), 1, "it is the second's turn");
    assert!(second.as_mut().poll(&mut Context::from_waker(&second_waker)).is_ready());
    group.wait().unwrap();
    drop((second, first_waker, second_waker));
    eventually("no waker is kept", || {
        Arc::strong_count(&first_woken) + Arc::strong_count(&second_woken) == 2
    });
    end(&pool);
}

#[test]
fn p05_a_refused_member_gives_its_place_back() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder().capacity(1).overflow(Overflow::Reject), 1);
    let group = Group::<(), ()>::builder(&pool).limit(2).build();
    group.submit(|_| Ok(())).unwrap();
    for _ in 0..5 {
        let error = group.submit(|_| Ok(())).unwrap_err();
        assert_eq!(error.kind(), SubmitErrorKind::QueueFull);
        assert!(!error.to_string().contains("in flight"), "the pool refused it: {error}");
    }
    assert_eq!((group.in_flight(), group.accepted()), (1, 1));
    gate.open();
    group.wait_timeout(LONG).expect("in time").unwrap();
    end(&pool);
}

/// Callbacks that wait for their group on a pool of one worker: whatever may stand in, the members are run.
#[test]
fn p10_a_callback_waits_for_a_group_on_a_pool_of_one_worker() {
    for replacements in [0, 1] {
        let pool = Pool::builder()
            .workers(1)
            .max_replacements(replacements)
            .build()
            .unwrap();
        let outer = pool
            .submit(|ctx| {
                let group = Group::<u64, ()>::builder(&ctx.pool()).limit(2).keep_values().build();
                for n in 0..6 {
                    // The third waits for a place.
                    group.submit(move |_| Ok(n)).map_err(|error| error.to_string())?;
                }
                group.wait().map_err(|error| format!("{error:?}"))?;
                Ok::<_, String>(group.take_values().iter().map(|(_, n)| n).sum::<u64>())
            })
            .unwrap();
        assert_eq!(outer.wait_timeout(LONG).expect("no deadlock").unwrap(), 15);
        end(&pool);
    }
}

#[test]
fn p10_a_member_that_waits_for_the_waiter_is_told() {
    let pool = Pool::builder().workers(2).max_replacements(0).build().unwrap();
    let outer_task: Arc<std::sync::Mutex<Option<duly::Task<String, ()>>>> = Arc::default();
    let (told, gate) = (outer_task.clone(), Gate::new());
    let start = gate.clone();
    let outer = pool
        .options()
        .label("outer")
        .submit(move |ctx| {
            start.pass();
            let group = Group::<(), String>::builder(&ctx.pool()).fail_fast(false).build();
            group.submit(|_| Ok(())).unwrap();
            group
                .submit(move |_| {
                    let outer = told.lock().unwrap().clone().unwrap();
                    match outer.join() {
                        Err(deadlock) => Err(deadlock.to_string()),
                        Ok(_) => Ok(()),
                    }
                })
                .unwrap();
            Ok::<_, ()>(match group.wait() {
                Ok(()) => "no deadlock".into(),
                // Either of the two is told, the last that begins to wait.
                Err(error) => match error.deadlock() {
                    Some(deadlock) => deadlock.to_string(),
                    None => format!("{error:?}: {:?}", error.errors()[0].error()),
                },
            })
        })
        .unwrap();
    *outer_task.lock().unwrap() = Some(outer.clone());
    gate.open();
    let text = outer.wait_timeout(LONG).expect("no deadlock").unwrap();
    assert!(text.contains("outer") || text.contains("failed"), "{text}");
    end(&pool);
}
