//! P2: the outcome comes at the earliest of return, deadline, cancellation and drain; never early, and whatever
//! the callback and the workers do.

mod support;

use duly::{CancellationToken, Outcome, Pool, TaskError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::*;

#[test]
fn p02_answers_at_the_deadline_while_the_callback_sleeps_loops_or_ignores_it() {
    let pool = Pool::builder().workers(3).build().unwrap();
    let (gate, answered) = (Gate::new(), Arc::new(AtomicBool::new(false)));
    // On a busy machine a deadline may come before its callback.
    let entered = Arc::new([AtomicBool::new(false), AtomicBool::new(false)]);
    let began = Instant::now();
    let sleeps = {
        let (gate, entered) = (gate.clone(), entered.clone());
        let sleep = move || {
            entered[0].store(true, Ordering::SeqCst);
            gate.pass();
        };
        pool.options().timeout(ms(50)).spawn(sleep).unwrap()
    };
    let loops = {
        let (answered, entered) = (answered.clone(), entered.clone());
        let repeat = move || {
            entered[1].store(true, Ordering::SeqCst);
            while !answered.load(Ordering::SeqCst) {}
        };
        pool.options().timeout(ms(50)).spawn(repeat).unwrap()
    };
    for task in [&sleeps, &loops] {
        match task.wait() {
            Err(TaskError::DeadlineExceeded(name)) => assert!(name.to_string().contains("p02_in_time.rs")),
            other => panic!("{other:?}"),
        }
        assert!(began.elapsed() >= ms(50), "early");
    }
    for (entered, task) in entered.iter().zip([&sleeps, &loops]) {
        assert!(
            !entered.load(Ordering::SeqCst) || !task.is_released(),
            "it has not come back"
        );
    }
    answered.store(true, Ordering::SeqCst);
    gate.open();
    assert!(sleeps.released(LONG) && loops.released(LONG));
    end(&pool);
}

#[test]
fn p02_is_never_early_over_many_spans_long_and_short() {
    let pool = Pool::builder().workers(1).max_replacements(0).build().unwrap();
    let gate = Gate::new();
    let stuck = {
        let gate = gate.clone();
        pool.spawn(move || gate.pass()).unwrap()
    };
    gate.arrived(1);
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let pool = &pool;
            scope.spawn(move || {
                for step in 0..60u64 {
                    let timeout = Duration::from_micros((step * 997 + thread * 131) % 40_000);
                    let began = Instant::now();
                    let task = pool.options().timeout(timeout).spawn(|| ()).unwrap();
                    assert_eq!(task.wait_outcome(LONG), Some(Outcome::DeadlineExceeded));
                    assert!(began.elapsed() >= timeout, "early: {:?} < {timeout:?}", began.elapsed());
                }
            });
        }
    });
    gate.open();
    stuck.wait().unwrap();
    end(&pool);
}

#[test]
fn p02_a_task_past_its_deadline_is_never_started() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder(), 1);
    let started = Drops::default();
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let probe = started.clone();
            pool.options()
                .timeout(ms(20))
                .spawn(move || drop(probe.probe()))
                .unwrap()
        })
        .collect();
    std::thread::sleep(ms(25));
    gate.open();
    for task in &tasks {
        assert_eq!(task.wait_outcome(LONG), Some(Outcome::DeadlineExceeded));
    }
    end(&pool);
    assert_eq!(started.count(), 0);
}

#[test]
fn p02_the_callback_that_ends_first_has_succeeded() {
    let pool = Pool::builder().workers(1).build().unwrap();
    let task = pool.options().timeout(ms(1500)).spawn(|| 1).unwrap();
    // Looked at only long after the deadline.
    std::thread::sleep(ms(1600));
    assert_eq!(task.wait().unwrap(), 1);
    assert!(!task.cancel());
    end(&pool);
}

#[test]
fn p02_a_token_answers_queued_and_running_tasks_at_once() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder().capacity(20_000), 1);
    let root = CancellationToken::new();
    let tasks: Vec<_> = (0..10_000)
        .map(|index| {
            let token = if index % 2 == 0 { root.clone() } else { root.child() };
            pool.options().token(&token).spawn(|| ()).unwrap()
        })
        .collect();
    root.cancel_with("closing time");
    assert!(
        tasks.iter().all(|task| task.outcome() == Some(Outcome::Cancelled)),
        "when cancel returns"
    );
    match tasks[1].wait() {
        Err(TaskError::Cancelled(cancelled)) => assert_eq!(cancelled.reason().to_string(), "closing time"),
        other => panic!("{other:?}"),
    }
    assert_eq!(pool.stats().queued, 0);
    // Running.
    let pool2 = Pool::builder().workers(1).build().unwrap();
    let gate2 = Gate::new();
    let token = CancellationToken::new();
    let running = {
        let gate = gate2.clone();
        pool2.options().token(&token).spawn(move || gate.pass()).unwrap()
    };
    gate2.arrived(1);
    token.cancel();
    assert_eq!(running.outcome(), Some(Outcome::Cancelled));
    gate.open();
    gate2.open();
    end(&pool);
    end(&pool2);
}

#[test]
fn p02_a_tokens_deadline_is_its_tasks_deadline() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder(), 1);
    let began = Instant::now();
    let token = CancellationToken::with_timeout(ms(30));
    let task = pool
        .options()
        .timeout(ms(10_000))
        .token(&token.child())
        .spawn(|| ())
        .unwrap();
    assert_eq!(task.wait_outcome(LONG), Some(Outcome::DeadlineExceeded));
    assert!(
        began.elapsed() >= ms(30) && began.elapsed() < ms(5000),
        "{:?}",
        began.elapsed()
    );
    assert!(token.is_cancelled());
    gate.open();
    end(&pool);
}

#[test]
fn p02_a_deadline_wakes_a_timer_that_sleeps() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder().max_replacements(0), 1);
    for _ in 0..3 {
        // Long enough for the timer to have gone to sleep, on most machines each time.
        std::thread::sleep(ms(100));
        let task = pool.options().timeout(ms(30)).spawn(|| ()).unwrap();
        assert_eq!(task.wait_outcome(LONG), Some(Outcome::DeadlineExceeded));
    }
    gate.open();
    end(&pool);
}

#[test]
fn p02_what_a_callback_submits_inherits_its_token_and_the_rest_of_its_deadline() {
    let pool = Pool::builder().workers(2).max_replacements(0).build().unwrap();
    let gate = Gate::new();
    let (send, receive) = std::sync::mpsc::channel();
    let parent = {
        let gate = gate.clone();
        pool.options()
            .timeout(ms(1500))
            .submit(move |ctx| {
                let child = ctx.pool().submit(|ctx| {
                    while ctx.check().is_ok() {
                        ctx.sleep(ms(1)).ok();
                    }
                    Err::<(), _>(ctx.time_left().is_some())
                });
                let free = ctx
                    .pool()
                    .options()
                    .detached()
                    .submit(|ctx| Ok::<_, ()>(ctx.time_left()));
                send.send((child.unwrap(), free.unwrap())).unwrap();
                gate.pass();
                Ok::<_, ()>(())
            })
            .unwrap()
    };
    let began = Instant::now();
    let (child, free) = receive.recv_timeout(LONG).unwrap();
    let outcome = child.wait_outcome(LONG);
    assert!(
        matches!(outcome, Some(Outcome::DeadlineExceeded | Outcome::Cancelled)),
        "ended with its parent: {outcome:?}"
    );
    assert!(began.elapsed() < ms(5000));
    assert_eq!(parent.wait_outcome(LONG), Some(Outcome::DeadlineExceeded));
    gate.open();
    assert!(free.wait().unwrap().is_none(), "detached: no deadline");
    end(&pool);
}

#[test]
fn p02_the_current_token_is_that_of_the_callback_and_of_nobody_else() {
    let pool = Pool::builder().workers(1).build().unwrap();
    assert!(CancellationToken::current().is_none());
    let (send, receive) = std::sync::mpsc::channel();
    let task = pool
        .submit(move |ctx| {
            send.send(CancellationToken::current()).unwrap();
            while ctx.check().is_ok() {
                ctx.sleep(ms(1)).ok();
            }
            Ok::<_, ()>(())
        })
        .unwrap();
    let inside = receive
        .recv_timeout(LONG)
        .unwrap()
        .expect("inside a callback there is one");
    assert!(!inside.is_cancelled());
    task.cancel();
    assert!(inside.is_cancelled());
    assert!(CancellationToken::current().is_none());
    end(&pool);
}

#[test]
fn p02_the_default_timeout_bounds_every_task() {
    let pool = Pool::builder().workers(1).default_timeout(ms(40)).build().unwrap();
    let gate = Gate::new();
    let task = {
        let gate = gate.clone();
        pool.spawn(move || gate.pass()).unwrap()
    };
    assert_eq!(task.wait_outcome(LONG), Some(Outcome::DeadlineExceeded));
    gate.open();
    let long = pool
        .options()
        .no_deadline()
        .spawn(|| std::thread::sleep(ms(80)))
        .unwrap();
    assert_eq!(long.wait_outcome(LONG), Some(Outcome::Succeeded));
    end(&pool);
}

#[test]
fn p02_fifty_thousand_deadlines_in_one_millisecond() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder().capacity(50_000), 1);
    let due = Instant::now() + ms(400);
    let tasks: Vec<_> = (0..50_000)
        .map(|_| pool.options().deadline(due).spawn(|| ()).unwrap())
        .collect();
    for task in &tasks {
        assert_eq!(task.wait_outcome(LONG), Some(Outcome::DeadlineExceeded));
    }
    assert!(Instant::now() >= due);
    gate.open();
    end(&pool);
}

#[test]
fn p02_cancelling_and_dropping_a_chain_of_a_hundred_thousand_tokens_does_not_recurse() {
    // On a small stack: recursion would overflow it.
    let thread = std::thread::Builder::new().stack_size(128 << 10).spawn(|| {
        let root = CancellationToken::new();
        let mut chain = vec![root.child()];
        for depth in 0..100_000 {
            chain.push(chain[depth].child());
        }
        let last = chain.pop().unwrap();
        root.cancel_with("all of it");
        assert_eq!(last.reason().unwrap().to_string(), "all of it");
        // Only the last is held: dropping it frees the whole chain.
        drop(chain);
        drop(root);
        assert!(last.is_cancelled());
        drop(last);
        // One that is not cancelled, dropped from its end.
        let mut end = CancellationToken::new();
        for _ in 0..100_000 {
            end = end.child();
        }
        drop(end);
    });
    thread.unwrap().join().unwrap();
}

#[test]
fn p02_a_deadline_that_has_just_passed_is_seen_before_the_callback_starts() {
    // By the worker itself, on the exact clock: it is awake long before the timer thread.
    let pool = Pool::builder().workers(1).build().unwrap();
    let started = Drops::default();
    for _ in 0..500 {
        let probe = started.clone();
        let task = pool
            .options()
            .timeout(Duration::ZERO)
            .spawn(move || drop(probe.probe()))
            .unwrap();
        assert_eq!(task.wait_outcome(LONG), Some(Outcome::DeadlineExceeded));
    }
    assert_eq!(end(&pool).deadline_exceeded, 500);
    assert_eq!(started.count(), 0);
}

#[test]
fn p02_what_a_callback_submits_has_what_is_left_of_its_deadline() {
    let pool = Pool::builder().workers(2).build().unwrap();
    let left = pool
        .options()
        .timeout(LONG)
        .submit(|ctx| {
            // An Instant is made of two clocks that are read one after the other: a pause between the two makes it too early.
            let own = (0..10).map(|_| ctx.deadline()).max().flatten();
            let pool = ctx.pool();
            let child = pool.submit(|ctx| Ok::<_, ()>(ctx.deadline())).unwrap();
            let longer = pool.options().timeout(LONG * 2);
            let longer = longer.submit(|ctx| Ok::<_, ()>(ctx.deadline())).unwrap();
            Ok::<_, ()>((own, child, longer))
        })
        .unwrap();
    let (own, child, longer) = left.wait().unwrap();
    let own = own.expect("it has a deadline");
    for inherited in [child, longer] {
        let inherited = inherited.wait().unwrap().expect("the child has one, too");
        assert!(
            inherited <= own + ms(2),
            "later than its parent's: {inherited:?} > {own:?}"
        );
    }
    end(&pool);
}

#[test]
fn p02_a_token_made_after_the_task_has_ended_is_cancelled() {
    let pool = Pool::builder().workers(1).build().unwrap();
    let gate = Gate::new();
    let (send, receive) = std::sync::mpsc::channel();
    let task = {
        let gate = gate.clone();
        pool.submit(move |ctx| {
            gate.pass();
            send.send(ctx.token().reason()).unwrap();
            Ok::<_, ()>(())
        })
        .unwrap()
    };
    gate.arrived(1);
    assert!(task.cancel_with("too late"));
    gate.open();
    let reason = receive.recv_timeout(LONG).unwrap().expect("it is cancelled");
    assert_eq!(reason.to_string(), "too late");
    end(&pool);
}

#[test]
fn p02_a_child_of_a_cancelled_token_is_cancelled_and_the_first_reason_holds() {
    let root = CancellationToken::new();
    let before = root.child();
    root.cancel_with("first");
    root.cancel_with("second");
    let after = root.child().child();
    for token in [&root, &before, &after] {
        assert!(token.is_cancelled());
        assert_eq!(token.reason().unwrap().to_string(), "first");
    }
    let pool = Pool::builder().workers(1).build().unwrap();
    let refused = pool.options().token(&after).spawn(|| ()).unwrap_err();
    assert_eq!(refused.kind(), duly::SubmitErrorKind::Cancelled);
    end(&pool);
}

#[test]
fn p02_tasks_that_wait_for_each_other_all_get_a_worker() {
    // All workers sleep, and as many tasks come at once: each must find one, though only the first wakes somebody.
    let pool = Pool::builder().workers(4).max_replacements(0).build().unwrap();
    for _ in 0..60 {
        std::thread::sleep(ms(3));
        let gate = Gate::new();
        for _ in 0..4 {
            let gate = gate.clone();
            pool.spawn(move || gate.pass()).unwrap();
        }
        gate.arrived(4);
        gate.open();
    }
    end(&pool);
}

#[test]
fn p02_what_a_callback_submits_is_cancelled_with_it() {
    let pool = Pool::builder().workers(2).max_replacements(0).build().unwrap();
    let gate = Gate::new();
    let (send, receive) = std::sync::mpsc::channel();
    let parent = {
        let gate = gate.clone();
        pool.submit(move |ctx| {
            let pass = gate.clone();
            send.send(ctx.pool().spawn(move || pass.pass()).unwrap()).unwrap();
            gate.pass();
            Ok::<_, ()>(())
        })
        .unwrap()
    };
    let child = receive.recv_timeout(LONG).unwrap();
    gate.arrived(2);
    assert!(parent.cancel());
    assert_eq!(child.outcome(), Some(Outcome::Cancelled), "when cancel returns");
    gate.open();
    end(&pool);
}

#[test]
fn p02_who_waits_for_a_token_is_woken_by_its_guard_and_by_its_deadline() {
    let token = CancellationToken::new();
    let guard = token.clone().drop_guard();
    let (tell, told) = std::sync::mpsc::channel();
    {
        let (blocking, future) = (token.child(), token.child());
        let (first, second) = (tell.clone(), tell.clone());
        std::thread::spawn(move || first.send(blocking.wait(None)).ok());
        std::thread::spawn(move || {
            block_on(future.cancelled());
            second.send(future.is_cancelled()).ok();
        });
    }
    std::thread::sleep(ms(20));
    assert!(told.try_recv().is_err(), "not before");
    drop(guard);
    assert_eq!(
        token.reason().map(|reason| reason.to_string()).as_deref(),
        Some("dropped")
    );
    for _ in 0..2 {
        assert_eq!(told.recv_timeout(LONG), Ok(true), "woken by the guard");
    }
    let kept = CancellationToken::new();
    drop(kept.clone().drop_guard().disarm());
    assert!(!kept.is_cancelled(), "disarmed");
    // Nobody calls: the deadline alone.
    let began = Instant::now();
    let late = CancellationToken::with_timeout(ms(300));
    for wait in [
        (|token: &CancellationToken| token.wait(None)) as fn(&CancellationToken) -> bool,
        |token| {
            block_on(token.cancelled());
            token.is_cancelled()
        },
    ] {
        let (token, tell) = (late.child(), tell.clone());
        std::thread::spawn(move || tell.send(wait(&token)).ok());
    }
    for _ in 0..2 {
        assert_eq!(told.recv_timeout(LONG), Ok(true), "woken by the deadline");
    }
    assert!(began.elapsed() >= ms(300), "early");
}

#[test]
fn p02_a_submit_that_races_with_its_tokens_cancel_is_refused_or_cancelled() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder().capacity(64), 1);
    for round in 0..2000 {
        let token = CancellationToken::new();
        let accepted = std::thread::scope(|scope| {
            let producer = scope.spawn(|| pool.options().token(&token).try_spawn(|| ()));
            for _ in 0..round % 50 {
                std::hint::spin_loop();
            }
            token.cancel();
            producer.join().unwrap()
        });
        match accepted {
            Ok(task) => assert_eq!(task.outcome(), Some(Outcome::Cancelled), "accepted, and not cancelled"),
            Err(refused) => assert_eq!(refused.kind(), duly::SubmitErrorKind::Cancelled),
        }
    }
    gate.open();
    end(&pool);
}

#[test]
fn p02_a_deadline_holds_in_a_queue_that_has_closed_up() {
    // The queue closes up its holes when its ring is full; what the timer has looked at moves with it.
    let (pool, gate, _stuck) = stuck_pool(Pool::builder().capacity(300), 1);
    let timed = |span| pool.options().timeout(span).try_spawn(|| ()).unwrap();
    let _kept: Vec<_> = (0..100).map(|_| timed(LONG * 100)).collect();
    for _ in 0..20 {
        for _ in 0..150 {
            assert!(timed(LONG * 100).cancel());
        }
        // Right behind what may have moved, before the timer looks again.
        let short = timed(ms(30));
        assert_eq!(short.wait_outcome(LONG), Some(Outcome::DeadlineExceeded));
    }
    gate.open();
    end(&pool);
}
