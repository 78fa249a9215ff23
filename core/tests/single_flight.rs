//! Single flight: tests are named by the promise they show.

mod support;

use duly::{
    CancelReason, CancellationToken, FlightError, Interrupted, Outcome, Overflow, Pool, SingleFlight, SubmitErrorKind,
    TaskError,
};
use std::collections::HashSet;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;
use support::*;

fn pool(workers: usize) -> Pool {
    Pool::builder().workers(workers).build().unwrap()
}

type Flights = SingleFlight<&'static str, u64, &'static str>;

/// Polls a future once, with a waker that does nothing.
fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn p01_callers_of_one_key_share_one_run_and_keys_do_not_disturb_each_other() {
    let pool = pool(4);
    let flights = Flights::new(&pool);
    let (gate, runs) = (Gate::new(), Arc::new(AtomicUsize::new(0)));
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..16)
            .map(|_| {
                let (gate, runs) = (gate.clone(), runs.clone());
                let flights = &flights;
                scope.spawn(move || {
                    flights.run("a", move |_| {
                        runs.fetch_add(1, Ordering::SeqCst);
                        gate.pass();
                        Ok(7)
                    })
                })
            })
            .collect();
        gate.arrived(1);
        assert_eq!(flights.run("b", |_| Ok(8)), Ok(8));
        assert_eq!(flights.len(), 1);
        eventually("all wait", || flights.callers() == 16);
        gate.open();
        for caller in callers {
            assert_eq!(caller.join().unwrap(), Ok(7));
        }
    });
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    assert!(flights.is_empty());
    end(&pool);
}

#[test]
fn p01_exactly_one_run_for_callers_that_all_came_in_time() {
    let pool = pool(2);
    let flights = Flights::new(&pool);
    let gate = Gate::new();
    let runs = Arc::new(AtomicUsize::new(0));
    let mut callers: Vec<_> = (0..100)
        .map(|_| {
            let (gate, runs) = (gate.clone(), runs.clone());
            flights.run_async("a", move |_| {
                gate.pass();
                Ok(runs.fetch_add(1, Ordering::SeqCst) as u64)
            })
        })
        .collect();
    for caller in &mut callers {
        assert!(poll_once(caller).is_pending());
    }
    gate.open();
    for caller in callers {
        assert_eq!(block_on(caller), Ok(0));
    }
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    assert!(flights.is_empty());
    assert_eq!(end(&pool).submitted, 1);
}

#[test]
fn p01_a_failure_is_the_answer_of_all_unless_it_is_to_be_retried() {
    let pool = pool(1);
    let flights = Flights::new(&pool);
    for retried in [false, true] {
        let flights = flights.clone().retry_failed(retried);
        let gate = Gate::new();
        let opens = gate.clone();
        let mut first = flights.run_async("a", move |_| {
            opens.pass();
            Err("no")
        });
        let mut second = flights.run_async("a", |_| Ok(2));
        assert!(poll_once(&mut first).is_pending() && poll_once(&mut second).is_pending());
        gate.open();
        let answers = (block_on(second), block_on(first));
        let no = || Err(FlightError::Task(TaskError::Failed("no")));
        assert_eq!(answers, if retried { (Ok(2), Ok(2)) } else { (no(), no()) });
    }
    assert_eq!(flights.run("a", |_| Ok(3)), Ok(3));
    end(&pool);
}

#[test]
fn p07_a_leader_that_panics_hands_over_and_the_panic_is_told() {
    let pool = pool(1);
    let flights = Flights::new(&pool);
    let gate = Gate::new();
    let opens = gate.clone();
    let mut leader = flights.run_async("a", move |_| {
        opens.pass();
        panic!("on purpose")
    });
    let mut follower = flights.run_async("a", |_| Ok(5));
    assert!(poll_once(&mut leader).is_pending() && poll_once(&mut follower).is_pending());
    gate.open();
    let waits = std::thread::spawn(move || block_on(follower));
    assert_eq!(block_on(leader), Ok(5));
    assert_eq!(waits.join().unwrap(), Ok(5));
    assert_eq!(pool.stats().unobserved, 1, "P12: not silent");
    end(&pool);
}

#[test]
fn p02_a_run_that_expires_hands_over() {
    let pool = pool(2);
    let flights = Flights::with(&pool.options().timeout(ms(1000)));
    let gate = Gate::new();
    let stuck = gate.clone();
    let mut leader = flights.run_async("a", move |_| {
        stuck.pass();
        Ok(1)
    });
    let mut follower = flights.run_async("a", |_| Ok(2));
    assert!(poll_once(&mut leader).is_pending() && poll_once(&mut follower).is_pending());
    assert_eq!(block_on(follower), Ok(2));
    assert_eq!(block_on(leader), Ok(2));
    gate.open();
    assert_eq!(end(&pool).deadline_exceeded, 1);
}

#[test]
fn p05_hand_overs_are_bounded_and_then_the_error_is_for_all() {
    for handovers in [0, 2] {
        let pool = pool(1);
        let flights = Flights::new(&pool).handovers(handovers);
        let runs = Arc::new(AtomicUsize::new(0));
        let gate = Gate::new();
        let mut callers: Vec<_> = (0..10)
            .map(|_| {
                let (runs, gate) = (runs.clone(), gate.clone());
                flights.run_async("a", move |_| {
                    gate.pass();
                    runs.fetch_add(1, Ordering::SeqCst);
                    panic!("always")
                })
            })
            .collect();
        for caller in &mut callers {
            assert!(poll_once(caller).is_pending());
        }
        gate.open();
        let threads: Vec<_> = callers
            .into_iter()
            .map(|caller| std::thread::spawn(move || block_on(caller)))
            .collect();
        for thread in threads {
            let Err(FlightError::Task(TaskError::Panicked(panic))) = thread.join().unwrap() else {
                panic!("all of them get the last panic")
            };
            assert_eq!(panic.message(), "always");
        }
        assert_eq!(runs.load(Ordering::SeqCst), handovers + 1);
        assert!(flights.is_empty());
        end(&pool);
    }
}

#[test]
fn p01_with_nobody_left_to_lead_the_error_is_the_answer() {
    let pool = pool(1);
    let flights = Flights::new(&pool);
    let Err(FlightError::Task(TaskError::Panicked(_))) = flights.run("a", |_| panic!("alone")) else {
        panic!("it panicked")
    };
    // A follower that leaves instead of leading.
    let gate = Gate::new();
    let opens = gate.clone();
    let mut leader = flights.run_async("a", move |_| {
        opens.pass();
        panic!("first")
    });
    let mut follower = flights.run_async("a", |_| Ok(1));
    assert!(poll_once(&mut leader).is_pending() && poll_once(&mut follower).is_pending());
    gate.open();
    let waits = std::thread::spawn(move || block_on(leader));
    eventually("the run has ended", || pool.stats().panicked == 2);
    std::thread::sleep(ms(5));
    drop(follower);
    assert!(matches!(
        waits.join().unwrap(),
        Err(FlightError::Task(TaskError::Panicked(_)))
    ));
    assert!(flights.is_empty());
    end(&pool);
}

#[test]
fn p04_each_caller_has_a_deadline_and_a_token_of_its_own() {
    let pool = pool(1);
    let flights = Flights::new(&pool);
    let gate = Gate::new();
    let token = CancellationToken::new();
    std::thread::scope(|scope| {
        let leader = scope.spawn(|| {
            let gate = gate.clone();
            let began = Instant::now();
            let answer = flights.call("a").timeout(ms(1000)).run(move |_| {
                gate.pass();
                Ok(1)
            });
            assert!(began.elapsed() >= ms(1000), "early");
            answer
        });
        gate.arrived(1);
        let cancelled = scope.spawn(|| flights.call("a").token(&token).run(|_| Ok(2)));
        let stays = scope.spawn(|| flights.run("a", |_| Ok(3)));
        assert_eq!(leader.join().unwrap(), Err(FlightError::DeadlineExceeded));
        token.cancel_with("enough");
        assert_eq!(
            cancelled.join().unwrap(),
            Err(FlightError::Cancelled(CancelReason::from("enough")))
        );
        assert_eq!(pool.stats().running, 1, "the run goes on for the last one");
        std::thread::sleep(ms(5));
        gate.open();
        assert_eq!(stays.join().unwrap(), Ok(1));
    });
    // In the past.
    assert_eq!(
        flights.call("a").timeout(ms(0)).run(|_| Ok(2)),
        Err(FlightError::DeadlineExceeded)
    );
    assert_eq!(
        flights.call("a").token(&token).run(|_| Ok(2)),
        Err(FlightError::Cancelled(CancelReason::from("enough")))
    );
    assert!(flights.is_empty());
    assert_eq!(end(&pool).submitted, 1);
}

#[test]
fn p02_the_run_is_cancelled_when_the_last_caller_has_left() {
    let pool = pool(1);
    let flights = Flights::new(&pool);
    let cause = Arc::new(Mutex::new(None));
    let started = Gate::new();
    let (told, start) = (cause.clone(), started.clone());
    let mut first = flights.run_async("a", move |ctx| {
        start.open();
        let _ = ctx.sleep(LONG);
        *told.lock().unwrap() = ctx.cause();
        Ok(1)
    });
    let drops = Drops::default();
    let probe = drops.probe();
    let mut second = flights.run_async("a", move |_| {
        drop(probe);
        Ok(2)
    });
    assert!(poll_once(&mut first).is_pending() && poll_once(&mut second).is_pending());
    started.pass();
    drop(first);
    std::thread::sleep(ms(5));
    assert_eq!(*cause.lock().unwrap(), None, "one is still there");
    drop(second);
    assert_eq!(drops.count(), 1, "its callback was not needed");
    eventually("it was told", || cause.lock().unwrap().is_some());
    assert_eq!(
        *cause.lock().unwrap(),
        Some(Interrupted::Cancelled(CancelReason::CallerLeft))
    );
    assert!(flights.is_empty());
    // A new caller starts anew.
    assert_eq!(flights.run("a", |_| Ok(9)), Ok(9));
    end(&pool);
}

#[test]
fn p04_a_refused_leader_is_told_and_the_next_tries_for_itself() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder().capacity(1).overflow(Overflow::Reject), 1);
    let filler = pool.spawn(|| ()).unwrap();
    let flights = Flights::new(&pool);
    let Err(FlightError::Refused(refused)) = flights.run("a", |_| Ok(1)) else {
        panic!("there is no room")
    };
    assert_eq!(refused.kind(), SubmitErrorKind::QueueFull);
    assert!(flights.is_empty());
    gate.open();
    filler.wait().unwrap();
    assert_eq!(flights.run("a", |_| Ok(2)), Ok(2));
    pool.close();
    let Err(FlightError::Refused(refused)) = flights.run("a", |_| Ok(1)) else {
        panic!("it is closed")
    };
    assert_eq!(refused.kind(), SubmitErrorKind::ShutDown);
    end(&pool);
}

#[test]
fn p04_a_leader_that_leaves_while_it_waits_for_room_passes_the_lead_on() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder().capacity(1), 1);
    let filler = pool.spawn(|| ()).unwrap();
    let flights = Flights::new(&pool);
    let mut leader = flights.run_async("a", |_| Ok(1));
    assert!(poll_once(&mut leader).is_pending());
    assert_eq!(pool.stats().blocked_producers, 1);
    std::thread::scope(|scope| {
        let follower = scope.spawn(|| flights.run("a", |_| Ok(2)));
        std::thread::sleep(ms(5));
        drop(leader);
        eventually("the follower leads", || pool.stats().blocked_producers == 1);
        gate.open();
        assert_eq!(follower.join().unwrap(), Ok(2));
    });
    filler.wait().unwrap();
    assert!(flights.is_empty());
    end(&pool);
}

#[test]
fn p04_callers_end_when_the_pool_is_shut_down_under_them() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder(), 1);
    let flights = Flights::new(&pool);
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..4).map(|_| scope.spawn(|| flights.run("a", |_| Ok(1)))).collect();
        eventually("the run is queued", || pool.stats().queued == 1);
        std::thread::sleep(ms(5));
        pool.shutdown(ms(10)).unwrap();
        for caller in callers {
            match caller.join().unwrap() {
                // Those that tried to take over.
                Err(FlightError::Refused(refused)) => assert_eq!(refused.kind(), SubmitErrorKind::ShutDown),
                Err(FlightError::Task(error)) => assert_eq!(error.outcome(), Some(Outcome::Abandoned)),
                other => panic!("{other:?}"),
            }
        }
    });
    assert!(flights.is_empty());
    gate.open();
}

#[test]
fn p02_a_call_inside_a_callback_ends_with_it_and_the_run_inherits_nothing() {
    let pool = pool(3);
    let flights = Flights::new(&pool);
    let inner = flights.clone();
    let gate = Gate::new();
    let opens = gate.clone();
    let outer = pool
        .options()
        .timeout(ms(1000))
        .submit(move |_| {
            Ok::<_, ()>(inner.run("a", move |ctx| {
                opens.pass();
                Ok(u64::from(ctx.time_left().is_some()))
            }))
        })
        .unwrap();
    gate.arrived(1);
    let mut other = flights.run_async("a", |_| Ok(77));
    assert!(poll_once(&mut other).is_pending());
    match outer.wait() {
        // Who is first of the timer and the callback.
        Err(TaskError::DeadlineExceeded(_)) | Ok(Err(FlightError::DeadlineExceeded)) => {}
        Ok(Err(FlightError::Cancelled(reason))) => assert_eq!(reason, CancelReason::DeadlineExceeded),
        other => panic!("{other:?}"),
    }
    assert!(outer.released(LONG), "the call has returned");
    gate.open();
    assert_eq!(block_on(other), Ok(0));
    end(&pool);
}

#[test]
fn p05_nothing_is_kept_of_keys_and_wakers() {
    struct Quiet;
    impl Wake for Quiet {
        fn wake(self: Arc<Self>) {}
    }
    let pool = pool(1);
    let flights = SingleFlight::<Arc<u64>, Arc<u64>>::new(&pool);
    let (key, value) = (Arc::new(1), Arc::new(2));
    let gate = Gate::new();
    let (opens, gives) = (gate.clone(), value.clone());
    let quiet = Arc::new(Quiet);
    let waker = Waker::from(quiet.clone());
    let mut cx = Context::from_waker(&waker);
    let mut first = Box::pin(flights.run_async(key.clone(), move |_| {
        opens.pass();
        Ok(gives)
    }));
    let mut second = Box::pin(flights.run_async(key.clone(), |_| Ok(Arc::default())));
    for _ in 0..10 {
        assert!(first.as_mut().poll(&mut cx).is_pending() && second.as_mut().poll(&mut cx).is_pending());
    }
    assert_eq!(Arc::strong_count(&quiet), 4, "two callers, one waker each");
    drop(second);
    assert_eq!(Arc::strong_count(&quiet), 3);
    gate.open();
    let got = block_on(first).unwrap();
    assert!(Arc::ptr_eq(&got, &value));
    drop(got);
    end(&pool);
    assert_eq!((Arc::strong_count(&key), Arc::strong_count(&value)), (1, 1));
    assert_eq!(Arc::strong_count(&quiet), 2);
}

/// Key and number of each run that is inside its callback.
type Runs = Arc<Mutex<HashSet<(u64, usize)>>>;

/// A run inside its callback, until that returns or unwinds.
struct Inside(Runs, (u64, usize));

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.lock().unwrap().remove(&self.1);
    }
}

/// Random runs and callers: whatever panics, expires, leaves, and comes meanwhile, every caller that stays is answered, at
/// most one run a key exists at a time, and nothing is left.
#[test]
fn p01_p05_random_hand_overs() {
    for seed in 0..8 {
        let pool = Pool::builder().workers(3).capacity(4).build().unwrap();
        let flights =
            SingleFlight::<u64, (u64, usize), usize>::with(&pool.options().timeout(ms(20))).retry_failed(seed % 2 == 0);
        // The runs that are inside their callback, those that another of their key has met there, and those whose answer a
        // caller got. A run that its callers have left, or that was answered from outside, may be met: nobody gets what it
        // returns. One that was met and whose answer is given out is one of two at a time.
        let (runs, met): (Runs, Arc<Mutex<HashSet<usize>>>) = Default::default();
        let (last, answered) = (AtomicUsize::new(0), Mutex::new(HashSet::new()));
        std::thread::scope(|scope| {
            for thread in 0..6u64 {
                let (flights, runs, met, last, answered) = (&flights, &runs, &met, &last, &answered);
                scope.spawn(move || {
                    let mut random = seed * 7919 + thread * 104_729 + 1;
                    let mut next = |below: u64| {
                        random = random
                            .wrapping_mul(6_364_136_223_846_793_005)
                            .wrapping_add(1_442_695_040_888_963_407);
                        (random >> 33) % below
                    };
                    for _ in 0..40 {
                        let key = next(3);
                        let (way, leaves, takes) = (next(8), next(4), next(3));
                        let (runs, met) = (runs.clone(), met.clone());
                        let me = last.fetch_add(1, Ordering::SeqCst);
                        let callback = move |ctx: &duly::Context| {
                            let _inside = {
                                let mut all = runs.lock().unwrap();
                                met.lock()
                                    .unwrap()
                                    .extend(all.iter().filter(|(k, _)| *k == key).map(|(_, id)| *id));
                                all.insert((key, me));
                                Inside(runs.clone(), (key, me))
                            };
                            let _ = ctx.sleep(ms(takes));
                            match way {
                                0 => panic!("at random"),
                                1 => Err(me),
                                2 => {
                                    let _ = ctx.sleep(ms(40));
                                    Ok((key, me))
                                }
                                _ => Ok((key, me)),
                            }
                        };
                        let answer = match leaves {
                            0 => flights.call(key).timeout(ms(next(4))).run(callback),
                            1 => {
                                let mut flying = pin!(flights.run_async(key, callback));
                                let _ = flying.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                                continue;
                            }
                            2 => block_on(flights.run_async(key, callback)),
                            _ => flights.run(key, callback),
                        };
                        match answer {
                            Ok((value, id)) => {
                                assert_eq!(value, key);
                                answered.lock().unwrap().insert(id);
                            }
                            Err(FlightError::Task(TaskError::Failed(id))) => _ = answered.lock().unwrap().insert(id),
                            Err(FlightError::Refused(refused)) => panic!("{refused}"),
                            Err(FlightError::DeadlineExceeded) => assert_eq!(leaves, 0),
                            Err(_) => {}
                        }
                    }
                });
            }
        });
        assert!(flights.is_empty(), "seed {seed}");
        let (met, answered) = (met.lock().unwrap(), answered.lock().unwrap());
        assert!(!answered.is_empty(), "seed {seed}: nobody was answered");
        let doubles: Vec<_> = met.intersection(&answered).collect();
        assert!(
            doubles.is_empty(),
            "seed {seed}: two runs of a key at a time: {doubles:?}"
        );
        end(&pool);
    }
}

/// Callbacks that call, on a pool of one worker where nobody can stand in, and with a queue that is full.
#[test]
fn p10_a_callback_calls_a_flight_of_its_own_pool() {
    for replacements in [0, 1] {
        let pool = Pool::builder()
            .workers(1)
            .capacity(1)
            .max_replacements(replacements)
            .build()
            .unwrap();
        let flights = Flights::new(&pool);
        let outer = pool
            .submit(move |ctx| {
                let filler = ctx.pool().spawn(|| ()).map_err(|error| error.to_string())?;
                let answer = flights.run("a", |_| Ok(4));
                if replacements > 0 {
                    filler.wait().map_err(|error| error.to_string())?;
                    return answer.map_err(|error| error.to_string());
                }
                // The queue is full, and nobody else can take from it.
                match answer {
                    Err(FlightError::Refused(refused)) if refused.kind() == SubmitErrorKind::WouldDeadlock => {}
                    other => return Err(format!("{other:?}")),
                }
                filler.wait().map_err(|error| error.to_string())?;
                flights.run("a", |_| Ok(4)).map_err(|error| error.to_string())
            })
            .unwrap();
        assert_eq!(outer.wait_timeout(LONG).expect("no deadlock"), Ok(4));
        end(&pool);
    }
}

#[test]
fn p10_a_run_that_calls_its_own_key_is_told() {
    let pool = Pool::builder().workers(2).max_replacements(0).build().unwrap();
    let flights = Flights::new(&pool);
    let again = flights.clone();
    let answer = flights.run("a", move |_| match again.run("a", |_| Ok(1)) {
        Err(FlightError::WouldDeadlock(_)) => Ok(2),
        other => panic!("{other:?}"),
    });
    assert_eq!(answer, Ok(2));
    assert!(flights.is_empty());
    end(&pool);
}
