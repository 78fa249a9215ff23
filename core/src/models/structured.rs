//! Groups, waits for several tasks and single flight under random schedules of a whole pool.
//!
//! A wake-up that is lost is a deadlock, which fails by itself: in `nobody helps` no deadline, cancel or close comes to the
//! rescue. At the end nothing is left: no key, place, waiter or block of memory.

use super::whole_pool::{eventually, explore, ms, pool};
use crate::sync::{Arc, thread};
use crate::{
    FlightError, Group, Outcome, Pool, SingleFlight, SubmitErrorKind, TaskError, arena, as_completed, wait_any,
};
use ::shuttle::future::block_on;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::Poll;

pub(super) fn settle(pool: Pool) {
    let report = pool.shutdown(ms(200)).expect("not inside");
    assert!(report.stats.books_balance(), "{report}");
    let stats = pool.stats();
    assert_eq!((stats.queued, stats.running, stats.blocked_producers), (0, 0, 0), "P5");
    drop(pool);
    eventually("P5: no block is left", || arena::owned() == 0);
}

/// Polls a future once, and drops it.
fn leave<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    block_on(poll_fn(|cx| {
        Poll::Ready(match future.as_mut().poll(cx) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    }))
}

#[test]
fn p01_p05_single_flight_hands_over() {
    explore("single flight", || {
        let pool = pool(2, 1).build().expect("a pool");
        let flights = SingleFlight::<u8, u8, ()>::with(&pool.options().timeout(ms(3)));
        let runs = Arc::new(AtomicU64::new(0));
        let callers: Vec<_> = (0..4u8)
            .map(|who| {
                let (flights, runs) = (flights.clone(), runs.clone());
                thread::spawn(move || {
                    let run = move |_: &crate::Context| {
                        runs.fetch_add(1, Relaxed);
                        if who == 0 {
                            thread::sleep(ms(20));
                        }
                        Ok(who)
                    };
                    let answer = match who {
                        1 => leave(flights.run_async(0, run)),
                        2 => Some(block_on(flights.run_async(0, run))),
                        _ => Some(flights.run(0, run)),
                    };
                    match answer {
                        None => {}
                        Some(Ok(value)) => assert!(value < 4),
                        // The last that could lead, and its run expired in the queue.
                        Some(Err(FlightError::Task(TaskError::DeadlineExceeded(_)))) => {}
                        // Its run's time passed while it waited for room.
                        Some(Err(FlightError::Refused(refused))) => {
                            assert_eq!(refused.kind(), SubmitErrorKind::DeadlineExceeded);
                        }
                        Some(Err(other)) => panic!("{other:?}"),
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.join().expect("no panic");
        }
        assert!(flights.is_empty(), "P5: a key is left");
        assert!(runs.load(Relaxed) <= 4);
        settle(pool);
    });
}

#[test]
fn p04_single_flight_nobody_helps() {
    explore("single flight, nobody helps", || {
        let pool = pool(1, 1).build().expect("a pool");
        let flights = SingleFlight::<u8, u8, ()>::new(&pool);
        // One runs, one is queued: who leads first waits for room, perhaps.
        let fillers = [(); 2].map(|()| pool.spawn(|| thread::sleep(ms(1))).expect("open"));
        let callers: Vec<_> = (0..3u8)
            .map(|who| {
                let flights = flights.clone();
                thread::spawn(move || match who {
                    0 => drop(leave(flights.run_async(0, move |_| Ok(who)))),
                    1 => assert!(block_on(flights.run_async(0, move |_| Ok(who))).is_ok()),
                    _ => assert!(flights.run(0, move |_| Ok(who)).is_ok()),
                })
            })
            .collect();
        for caller in callers {
            caller.join().expect("no panic");
        }
        assert!(flights.is_empty(), "P5: a key is left");
        drop(fillers);
        settle(pool);
    });
}

#[test]
fn p04_p05_group_limit() {
    explore("a group's places, nobody helps", || {
        let pool = pool(2, 2).build().expect("a pool");
        let group = Arc::new(Group::<(), ()>::builder(&pool).limit(1).build());
        let running = Arc::new(AtomicU64::new(0));
        let submitters: Vec<_> = (0..3)
            .map(|who| {
                let (group, running) = (group.clone(), running.clone());
                thread::spawn(move || {
                    let member = {
                        let running = running.clone();
                        move |_: &crate::Context| {
                            assert_eq!(running.fetch_add(1, Relaxed), 0, "P5: one at a time");
                            running.fetch_sub(1, Relaxed);
                            Ok(())
                        }
                    };
                    match who {
                        0 => drop(leave(group.submit_async(member))),
                        1 => drop(block_on(group.submit_async(member)).expect("open")),
                        _ => {
                            group.submit(member.clone()).expect("open");
                            group.submit(member).expect("open");
                        }
                    }
                })
            })
            .collect();
        for submitter in submitters {
            submitter.join().expect("no panic");
        }
        group.wait().expect("no member has failed");
        assert!((3..=4).contains(&group.accepted()));
        assert_eq!(group.in_flight(), 0, "P5: a place is left");
        drop(group);
        settle(pool);
    });
}

#[test]
fn p02_a_group_fails_once() {
    explore("a group fails", || {
        let pool = pool(2, 2).build().expect("a pool");
        let group = Arc::new(Group::<u8, u8>::builder(&pool).keep_values().build());
        let submitters: Vec<_> = (0..2u8)
            .map(|who| {
                let group = group.clone();
                thread::spawn(move || {
                    for n in 0..2 {
                        let result = if n == who { Err(who) } else { Ok(n) };
                        match group.submit(move |_| result) {
                            Ok(_) => {}
                            Err(error) => assert_eq!(error.kind(), SubmitErrorKind::Cancelled),
                        }
                    }
                })
            })
            .collect();
        for submitter in submitters {
            submitter.join().expect("no panic");
        }
        let error = group.wait().expect_err("one has failed");
        assert_eq!(error.first().expect("one was the first").2, Outcome::Failed);
        let counted = error.count(Outcome::Succeeded) + error.errors().len() as u64 + error.cancelled_by_group();
        assert_eq!(counted, group.accepted() as u64, "P12");
        assert_eq!(group.take_values().len() as u64, error.count(Outcome::Succeeded));
        drop(group);
        settle(pool);
    });
}

#[test]
fn p01_any_and_as_completed() {
    explore("any, and as completed", || {
        let pool = pool(2, 4).build().expect("a pool");
        let tasks: Vec<_> = (0..3).map(|n| pool.spawn(move || n).expect("open")).collect();
        let any = {
            let tasks = tasks.clone();
            thread::spawn(move || wait_any(&tasks, None).expect("there are some"))
        };
        let canceller = {
            let task = tasks[2].clone();
            thread::spawn(move || task.cancel())
        };
        let mut places: Vec<_> = as_completed(tasks).map(|(place, _)| place).collect();
        places.sort_unstable();
        assert_eq!(places, [0, 1, 2], "P1");
        assert!(any.join().expect("no panic") < 3);
        canceller.join().expect("no panic");
        settle(pool);
    });
}
