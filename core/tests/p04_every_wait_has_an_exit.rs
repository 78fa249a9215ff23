//! P4: every call that can block ends: by its timeout, a token, a close or a shutdown.

mod support;

use duly::{CancellationToken, Outcome, Overflow, Pool, SubmitErrorKind, TaskError, WaitError};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::*;

/// A waker that remembers.
#[derive(Default)]
struct Told(AtomicBool);

impl std::task::Wake for Told {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn full(builder: duly::PoolBuilder) -> (Pool, Gate, Vec<duly::Task<()>>) {
    let (pool, gate, mut tasks) = stuck_pool(builder.capacity(2), 1);
    for _ in 0..2 {
        tasks.push(pool.try_spawn(|| ()).unwrap());
    }
    (pool, gate, tasks)
}

#[test]
fn p04_a_blocked_submit_times_out_and_gives_the_callback_back() {
    let (pool, gate, _tasks) = full(Pool::builder());
    let drops = Drops::default();
    let probe = drops.probe();
    let began = Instant::now();
    let error = pool
        .options()
        .label("late guest")
        .submit_timeout(ms(30))
        .spawn(move || drop(probe))
        .unwrap_err();
    assert!(began.elapsed() >= ms(30), "early");
    assert_eq!(error.kind(), SubmitErrorKind::SubmitTimedOut);
    let text = error.to_string();
    assert!(
        text.contains("late guest") && text.contains("submit_timed_out"),
        "{text}"
    );
    assert_eq!(drops.count(), 0, "the callback is untouched");
    error.into_callback()();
    assert_eq!(drops.count(), 1);
    gate.open();
    end(&pool);
}

#[test]
fn p04_a_blocked_submit_ends_at_the_tasks_own_deadline() {
    let (pool, gate, _tasks) = full(Pool::builder());
    let began = Instant::now();
    let error = pool.options().timeout(ms(30)).spawn(|| ()).unwrap_err();
    assert!(began.elapsed() >= ms(30), "early");
    assert_eq!(error.kind(), SubmitErrorKind::DeadlineExceeded);
    gate.open();
    end(&pool);
}

#[test]
fn p04_a_blocked_submit_ends_by_its_token() {
    let (pool, gate, _tasks) = full(Pool::builder());
    let token = CancellationToken::new();
    std::thread::scope(|scope| {
        let blocked = scope.spawn(|| pool.options().token(&token).spawn(|| ()).unwrap_err().kind());
        eventually("it is blocked", || pool.stats().blocked_producers == 1);
        token.cancel();
        assert_eq!(blocked.join().unwrap(), SubmitErrorKind::Cancelled);
    });
    assert_eq!(pool.stats().blocked_producers, 0);
    gate.open();
    end(&pool);
}

#[test]
fn p04_blocked_submits_end_by_close_and_by_shutdown() {
    for shut_down in [false, true] {
        let (pool, gate, _tasks) = full(Pool::builder().max_blocked_producers(8));
        std::thread::scope(|scope| {
            let blocked: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| pool.spawn(|| ()).unwrap_err().kind()))
                .collect();
            eventually("all are blocked", || pool.stats().blocked_producers == 8);
            let began = Instant::now();
            if shut_down {
                let report = pool.shutdown(ms(50)).unwrap();
                assert_eq!(report.abandoned.len(), 3, "{report}");
            } else {
                pool.close();
            }
            for blocked in blocked {
                assert_eq!(blocked.join().unwrap(), SubmitErrorKind::ShutDown);
            }
            assert!(began.elapsed() < LONG / 2, "{:?}", began.elapsed());
        });
        gate.open();
        if !shut_down {
            end(&pool);
        }
    }
}

#[test]
fn p04_blocked_producers_enter_in_order_of_arrival_as_places_come_free() {
    let (pool, gate, tasks) = full(Pool::builder().capacity(2).max_blocked_producers(8));
    let order = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for index in 0..6 {
            let (pool, order) = (&pool, &order);
            scope.spawn(move || {
                let task = pool.spawn(move || index).unwrap();
                order.lock().unwrap().push(index);
                task
            });
            eventually("it stands in line", || pool.stats().blocked_producers == index + 1);
        }
        // Every worker is stuck: only cancelled tasks give places back.
        assert!(tasks[1].cancel());
        eventually("the first enters", || order.lock().unwrap().len() == 1);
        assert!(tasks[2].cancel());
        eventually("the second enters", || order.lock().unwrap().len() == 2);
        assert!(pool.try_spawn(|| ()).is_err(), "nobody pushes past the line");
        gate.open();
    });
    assert_eq!(order.into_inner().unwrap()[..2], [0, 1]);
    end(&pool);
}

#[test]
fn p04_a_producer_that_leaves_the_line_passes_its_turn_on() {
    for _ in 0..20 {
        let (pool, gate, tasks) = full(Pool::builder().max_blocked_producers(4));
        std::thread::scope(|scope| {
            let first = scope.spawn(|| pool.options().submit_timeout(ms(20)).spawn(|| ()).map(drop));
            // On a slow machine it may have given up already.
            let blocked = |count| pool.stats().blocked_producers == count || first.is_finished();
            eventually("the first is in line", || blocked(1));
            let second = scope.spawn(|| pool.spawn(|| ()).map(drop));
            eventually("the second is in line", || blocked(2));
            // A place comes free at about the time the first gives up: one of them gets it.
            std::thread::sleep(ms(19));
            assert!(tasks[1].cancel());
            let first = first.join().unwrap();
            if first.is_ok() {
                assert!(tasks[2].cancel());
            }
            second.join().unwrap().unwrap();
        });
        gate.open();
        end(&pool);
    }
}

#[test]
fn p04_too_many_blocked_producers_are_refused() {
    let (pool, gate, _tasks) = full(Pool::builder().max_blocked_producers(1));
    std::thread::scope(|scope| {
        let blocked = scope.spawn(|| pool.spawn(|| ()).map(drop));
        eventually("one is blocked", || pool.stats().blocked_producers == 1);
        assert_eq!(pool.spawn(|| ()).unwrap_err().kind(), SubmitErrorKind::QueueFull);
        gate.open();
        blocked.join().unwrap().unwrap();
    });
    let stats = end(&pool);
    assert_eq!(stats.refused, 1);
}

#[test]
fn p04_waits_time_out_and_the_task_goes_on() {
    let pool = Pool::builder().workers(1).build().unwrap();
    let gate = Gate::new();
    let task = {
        let gate = gate.clone();
        pool.spawn(move || {
            gate.pass();
            1
        })
        .unwrap()
    };
    let began = Instant::now();
    assert!(task.wait_timeout(ms(20)).is_none());
    assert_eq!(task.wait_outcome(ms(20)), None);
    assert!(!task.released(ms(20)));
    assert!(began.elapsed() >= ms(60), "early");
    let token = CancellationToken::new();
    assert!(matches!(
        task.wait_with(&token, Some(ms(10))),
        Err(WaitError::TimedOut(_))
    ));
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| task.wait_with(&token, None).unwrap_err());
        std::thread::sleep(ms(10));
        token.cancel_with("tired");
        assert!(waits.join().unwrap().to_string().contains("tired"));
    });
    gate.open();
    assert_eq!(task.wait_with(&CancellationToken::new(), None).unwrap().unwrap(), 1);
    end(&pool);
}

#[test]
fn p04_a_wait_ends_when_the_pool_shuts_down() {
    let (pool, gate, stuck) = stuck_pool(Pool::builder(), 1);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| stuck[0].wait());
        pool.shutdown(ms(20)).unwrap();
        assert!(matches!(waits.join().unwrap(), Err(TaskError::Abandoned(_))));
    });
    gate.open();
}

#[test]
fn p04_async_submits_wait_for_room_without_a_thread_and_can_be_dropped() {
    let (pool, gate, tasks) = full(Pool::builder().max_blocked_producers(2));
    let drops = Drops::default();
    let probe = drops.probe();
    {
        let mut submit = Box::pin(pool.submit_async(move |_| {
            drop(probe);
            Ok::<_, ()>(())
        }));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(submit.as_mut().poll(&mut cx).is_pending());
        assert_eq!(pool.stats().blocked_producers, 1);
    }
    assert_eq!(pool.stats().blocked_producers, 0, "it has left the line");
    assert_eq!(drops.count(), 1, "nothing was submitted");
    // Ends by timeout, deadline, token, close.
    let error = block_on(pool.options().submit_timeout(ms(15)).submit_async(|_| Ok::<_, ()>(())));
    assert_eq!(error.unwrap_err().kind(), SubmitErrorKind::SubmitTimedOut);
    let error = block_on(pool.options().timeout(ms(15)).submit_async(|_| Ok::<_, ()>(())));
    assert_eq!(error.unwrap_err().kind(), SubmitErrorKind::DeadlineExceeded);
    let token = CancellationToken::new();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| block_on(pool.options().token(&token).submit_async(|_| Ok::<_, ()>(()))));
        eventually("it is in line", || pool.stats().blocked_producers == 1);
        token.cancel();
        assert_eq!(waits.join().unwrap().unwrap_err().kind(), SubmitErrorKind::Cancelled);
        // Gets the place that comes free.
        let waits = scope.spawn(|| block_on(pool.submit_async(|_| Ok::<_, ()>(9))));
        eventually("it is in line", || pool.stats().blocked_producers == 1);
        assert!(tasks[1].cancel());
        let task = waits.join().unwrap().unwrap();
        gate.open();
        assert_eq!(task.wait().unwrap(), 9);
    });
    end(&pool);
    assert_eq!(
        block_on(pool.submit_async(|_| Ok::<_, ()>(()))).unwrap_err().kind(),
        SubmitErrorKind::ShutDown
    );
}

#[test]
fn p04_run_that_is_dropped_cancels_with_caller_left() {
    let pool = Pool::builder().workers(1).build().unwrap();
    let (send, receive) = std::sync::mpsc::channel();
    {
        let mut run = Box::pin(pool.run(move |ctx| {
            while ctx.check().is_ok() {
                ctx.sleep(ms(5)).ok();
            }
            send.send(ctx.cause().unwrap()).unwrap();
            Ok::<_, ()>(())
        }));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(run.as_mut().poll(&mut cx).is_pending());
        eventually("it runs", || pool.running().len() == 1);
    }
    let cause = receive.recv_timeout(LONG).unwrap();
    assert!(cause.to_string().contains("caller_left"), "{cause}");
    assert_eq!(block_on(pool.run(|_| Ok::<_, ()>(3))).unwrap(), 3);
    let stats = end(&pool);
    assert_eq!((stats.cancelled, stats.succeeded), (1, 1));
}

#[test]
fn p04_overflow_policies_do_what_they_say() {
    // reject
    let (pool, gate, _tasks) = full(Pool::builder().overflow(Overflow::Reject));
    assert_eq!(pool.spawn(|| ()).unwrap_err().kind(), SubmitErrorKind::QueueFull);
    gate.open();
    end(&pool);
    // drop_newest
    let (pool, gate, _tasks) = full(Pool::builder().overflow(Overflow::DropNewest));
    let shed = pool.spawn(|| ()).unwrap();
    assert_eq!(shed.outcome(), Some(Outcome::Shed));
    assert!(shed.wait().unwrap_err().to_string().contains("shed"));
    gate.open();
    assert_eq!(end(&pool).shed, 1);
    // drop_oldest
    let (pool, gate, tasks) = full(Pool::builder().overflow(Overflow::DropOldest));
    let newest = pool.try_spawn(|| ()).unwrap();
    assert_eq!(
        tasks[1].outcome(),
        Some(Outcome::Shed),
        "the oldest queued one is answered at once"
    );
    assert_eq!(tasks[2].outcome(), None);
    gate.open();
    newest.wait().unwrap();
    assert_eq!(end(&pool).shed, 1);
    // caller_runs
    let (pool, gate, _tasks) = full(Pool::builder().overflow(Overflow::CallerRuns));
    let here = std::thread::current().id();
    let ran = pool.spawn(move || std::thread::current().id() == here).unwrap();
    assert!(ran.wait().unwrap(), "on this thread");
    assert_eq!(pool.try_spawn(|| ()).unwrap_err().kind(), SubmitErrorKind::QueueFull);
    assert_eq!(
        block_on(pool.submit_async(|_| Ok::<_, ()>(()))).unwrap_err().kind(),
        SubmitErrorKind::QueueFull
    );
    // Its deadline holds for those who watch from elsewhere.
    let late = pool.options().timeout(ms(20)).submit(|ctx| {
        let seen = ctx.sleep(Duration::from_secs(10)).is_err();
        Ok::<_, ()>(seen)
    });
    assert_eq!(late.unwrap().outcome(), Some(Outcome::DeadlineExceeded));
    gate.open();
    end(&pool);
    assert_eq!(pool.spawn(|| ()).unwrap_err().kind(), SubmitErrorKind::ShutDown);
}

#[test]
fn p04_a_future_that_is_never_polled_again_holds_up_nobody_else() {
    let (pool, gate, tasks) = full(Pool::builder().max_blocked_producers(8));
    let mut forgotten = Box::pin(pool.submit_async(|_| Ok::<_, ()>(())));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(forgotten.as_mut().poll(&mut cx).is_pending());
    std::thread::scope(|scope| {
        let second = scope.spawn(|| pool.spawn(|| 1).unwrap());
        eventually("two are in line", || pool.stats().blocked_producers == 2);
        // Two places: one is kept for the first in line, the other goes to the second.
        assert!(tasks[1].cancel() && tasks[2].cancel());
        let second = second.join().unwrap();
        assert!(pool.try_spawn(|| ()).is_err(), "the first one's place is kept");
        gate.open();
        assert_eq!(second.wait().unwrap(), 1);
    });
    pool.spawn(|| 2).unwrap().wait().unwrap();
    drop(forgotten);
    assert_eq!(pool.stats().blocked_producers, 0);
    end(&pool);
}

#[test]
fn p04_the_place_of_a_task_that_others_watch_goes_to_the_producer_in_line() {
    // With captured data, a completion callback, a deadline: each ends in a way of its own.
    let (pool, gate, mut tasks) = full(Pool::builder().max_blocked_producers(4));
    for round in 0..3 {
        let mut last = tasks.remove(1);
        assert!(last.cancel());
        let drops = Drops::default();
        let probe = drops.probe();
        last = match round {
            0 => pool.try_spawn(move || drop(probe)).unwrap(),
            1 => pool.try_spawn(|| ()).unwrap(),
            _ => pool.options().timeout(ms(400)).try_spawn(|| ()).unwrap(),
        };
        // A future that is told is pending: a thread in line may look again by itself before it sleeps.
        let (mut producer, told) = (
            Box::pin(pool.submit_async(|_| Ok::<_, std::convert::Infallible>(()))),
            Arc::new(Told::default()),
        );
        let waker = std::task::Waker::from(told.clone());
        let mut cx = std::task::Context::from_waker(&waker);
        let mut there = producer.as_mut().poll(&mut cx);
        // The last round's may have expired by now, on a busy machine.
        assert!(there.is_pending() || round == 2);
        match round {
            0 => assert!(last.cancel()),
            1 => {
                last.on_complete(|_| ());
                assert!(last.cancel());
            }
            _ => {}
        }
        if there.is_pending() {
            eventually("it gets the place", || told.0.load(Ordering::SeqCst));
            there = producer.as_mut().poll(&mut cx);
        }
        match there {
            std::task::Poll::Ready(task) => tasks.push(task.expect("the pool is open")),
            std::task::Poll::Pending => panic!("it gets the place"),
        }
    }
    gate.open();
    end(&pool);
}

#[test]
fn p04_places_that_a_token_frees_beside_a_running_task_go_to_the_producer_in_line() {
    let pool = Pool::builder()
        .workers(1)
        .max_replacements(0)
        .capacity(2)
        .build()
        .unwrap();
    let (gate, token) = (Gate::new(), CancellationToken::new());
    let pass = gate.clone();
    let _running = pool.options().token(&token).spawn(move || pass.pass()).unwrap();
    gate.arrived(1);
    let _queued = [0, 1].map(|_| pool.options().token(&token).spawn(|| ()).unwrap());
    // A future that is told is pending: a thread in line may look again by itself before it sleeps.
    let (mut producer, told) = (
        Box::pin(pool.submit_async(|_| Ok::<_, ()>(()))),
        Arc::new(Told::default()),
    );
    let waker = std::task::Waker::from(told.clone());
    let mut cx = std::task::Context::from_waker(&waker);
    assert!(producer.as_mut().poll(&mut cx).is_pending());
    token.cancel();
    eventually("it is told of its place", || told.0.load(Ordering::SeqCst));
    assert!(producer.as_mut().poll(&mut cx).is_ready(), "it gets a place");
    drop(producer);
    gate.open();
    end(&pool);
}

#[test]
fn p04_a_future_that_was_woken_and_is_dropped_passes_its_place_on() {
    let (pool, gate, tasks) = full(Pool::builder().max_blocked_producers(4));
    let mut first = Box::pin(pool.submit_async(|_| Ok::<_, ()>(())));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(first.as_mut().poll(&mut cx).is_pending());
    let (mut second, told) = (
        Box::pin(pool.submit_async(|_| Ok::<_, ()>(()))),
        Arc::new(Told::default()),
    );
    let waker = std::task::Waker::from(told.clone());
    let mut cx = std::task::Context::from_waker(&waker);
    assert!(second.as_mut().poll(&mut cx).is_pending());
    assert_eq!(pool.stats().blocked_producers, 2);
    // The place that comes free is the first one's, which never comes for it.
    assert!(tasks[1].cancel());
    std::thread::sleep(ms(10));
    assert_eq!(pool.stats().blocked_producers, 2);
    assert!(!told.0.load(Ordering::SeqCst));
    drop(first);
    eventually("the place is passed on", || told.0.load(Ordering::SeqCst));
    assert!(second.as_mut().poll(&mut cx).is_ready());
    drop(second);
    gate.open();
    end(&pool);
}

#[test]
fn p04_a_submit_future_that_moves_is_woken_where_it_was_polled_last() {
    let (pool, gate, tasks) = full(Pool::builder());
    let mut submit = Box::pin(pool.submit_async(|_| Ok::<_, ()>(4)));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(submit.as_mut().poll(&mut cx).is_pending());
    std::thread::scope(|scope| {
        let moved = scope.spawn(move || block_on(submit).unwrap());
        std::thread::sleep(ms(20));
        assert!(tasks[1].cancel());
        let task = moved.join().unwrap();
        gate.open();
        assert_eq!(task.wait(), Ok(4));
    });
    end(&pool);
}

#[test]
fn p04_a_producer_that_is_called_off_while_it_is_woken_passes_its_turn_on() {
    for round in 0..200 {
        let (pool, gate, tasks) = full(Pool::builder().max_blocked_producers(4));
        let token = CancellationToken::new();
        std::thread::scope(|scope| {
            let options = pool.options().token(&token);
            let first = scope.spawn(move || options.spawn(|| ()).map(drop));
            eventually("the first is in line", || pool.stats().blocked_producers == 1);
            let options = pool.options().submit_timeout(LONG);
            let second = scope.spawn(move || options.spawn(|| ()).map(drop));
            eventually("the second is in line", || pool.stats().blocked_producers == 2);
            token.cancel();
            for _ in 0..round * 10 {
                std::hint::spin_loop();
            }
            assert!(tasks[1].cancel());
            if first.join().unwrap().is_ok() {
                assert!(tasks[2].cancel());
            }
            second.join().unwrap().expect("its turn has come");
        });
        gate.open();
        end(&pool);
    }
}

#[test]
fn p04_a_task_that_its_caller_runs_ends_with_its_token() {
    let (pool, gate, _tasks) = full(Pool::builder().overflow(Overflow::CallerRuns));
    let token = CancellationToken::new();
    let runs = Gate::new();
    std::thread::scope(|scope| {
        let (options, here) = (pool.options().token(&token), runs.clone());
        let caller = scope.spawn(move || {
            let submitted = options.submit(move |ctx| {
                here.open();
                Ok::<_, ()>(ctx.sleep(LONG).is_err())
            });
            submitted.unwrap().outcome()
        });
        runs.pass();
        token.cancel();
        assert_eq!(caller.join().unwrap(), Some(Outcome::Cancelled));
    });
    gate.open();
    end(&pool);
}

#[test]
fn p04_what_is_queued_of_a_closed_pool_can_be_cancelled() {
    let (pool, gate, mut tasks) = full(Pool::builder());
    let drops = Drops::default();
    let probe = drops.probe();
    let other = pool.queue("other").add().unwrap();
    tasks.push(pool.options().queue(&other).try_spawn(move || drop(probe)).unwrap());
    assert_eq!(pool.cancel_queued("too early"), 0, "others could go on queueing");
    assert_eq!(tasks[1].outcome(), None);
    pool.close();
    assert_eq!(pool.cancel_queued("not wanted"), 3);
    assert_eq!(tasks[0].outcome(), None, "what runs goes on");
    for task in tasks.drain(1..) {
        match task.wait() {
            Err(TaskError::Cancelled(cancelled)) => assert_eq!(cancelled.reason().to_string(), "not wanted"),
            other => panic!("{other:?}"),
        }
        assert!(task.released(ms(5000)));
    }
    assert_eq!(drops.count(), 1, "though the worker is stuck");
    assert_eq!(pool.cancel_queued("again"), 0);
    gate.open();
    let stats = end(&pool);
    assert_eq!((stats.succeeded, stats.cancelled), (1, 3));
}
