//! P9: after a shutdown nothing of the pool is left but what the caller holds and callbacks abandoned while running;
//! dropping never blocks.
//! P13: every function may be called from any thread; what cannot be done from there says so.

mod support;

use duly::{BuildError, Outcome, Pool, ShutdownError, SubmitErrorKind, Threads, Worker};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Instant;
use support::*;

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn p09_after_shutdown_there_are_no_threads_and_no_descriptors() {
    for round in 0..20 {
        let name = format!("p09n{round}");
        let before = descriptors();
        let pool = Pool::builder().name(&name).workers(8).build().unwrap();
        eventually("ten threads", || threads_named(&name).len() == 10);
        for _ in 0..100 {
            pool.options().timeout(LONG).spawn(|| ()).unwrap();
        }
        end(&pool);
        // Joined; the kernel may list a joined thread for a moment longer.
        eventually("no thread is left", || threads_named(&name).is_empty());
        // Other tests of this file open and close descriptors of their own while they read /proc.
        eventually("no descriptor more", || descriptors() <= before);
        assert_eq!(pool.stats().workers, 0);
    }
}

#[test]
fn p09_shutdown_right_after_the_build_leaves_no_thread() {
    for _ in 0..500 {
        let pool = Pool::builder().workers(4).build().unwrap();
        let report = pool.shutdown(LONG).unwrap();
        assert!(report.drained && report.threads_left == 0, "{report}");
    }
}

#[test]
fn p09_shutdown_returns_in_time_whatever_the_callbacks_do_and_names_what_is_left() {
    let pool = Pool::builder().name("p09s").workers(3).build().unwrap();
    let gate = Gate::new();
    let polite = pool
        .submit(|ctx| {
            while ctx.check().is_ok() {
                ctx.sleep(ms(500)).ok();
            }
            Ok::<_, ()>(())
        })
        .unwrap();
    let stuck: Vec<_> = (0..2)
        .map(|i| {
            let gate = gate.clone();
            pool.options()
                .label(format!("stuck-{i}"))
                .spawn(move || gate.pass())
                .unwrap()
        })
        .collect();
    gate.arrived(2);
    let queued = pool.options().label("waiting").spawn(|| ()).unwrap();
    let began = Instant::now();
    let report = pool.shutdown(ms(100)).unwrap();
    assert!(
        began.elapsed() >= ms(100) && began.elapsed() < LONG / 2,
        "{:?}",
        began.elapsed()
    );
    assert!(!report.drained);
    assert_eq!(report.abandoned.len(), 4, "{report}");
    // It is given 20 ms, which injected delays may use up, or other programs.
    assert!(
        (2..=3).contains(&report.threads_left),
        "the polite one may have left: {report}"
    );
    let mut named: Vec<_> = report.stuck.iter().filter_map(|task| task.name.label()).collect();
    named.sort_unstable();
    assert_eq!(named, ["stuck-0", "stuck-1"], "who is left is named: {report}");
    for task in &stuck {
        assert_eq!(task.outcome(), Some(Outcome::Abandoned));
    }
    assert_eq!(polite.outcome(), Some(Outcome::Abandoned));
    assert_eq!(queued.outcome(), Some(Outcome::Abandoned));
    eventually("the polite one has left", || pool.leaks().len() == 2);
    let leaks = pool.leaks();
    for leak in &leaks {
        assert!(leak.name.label().unwrap().starts_with("stuck-"));
        assert!(leak.thread.as_deref().unwrap().starts_with("p09s-"));
        assert!(
            leak.name
                .submitted_at()
                .unwrap()
                .file()
                .ends_with("p09_nothing_left.rs")
        );
        assert!(leak.age >= ms(90), "{:?}", leak.age);
    }
    gate.open();
    assert!(stuck.iter().all(|task| task.released(LONG)));
    eventually("the last threads end", || threads_named("p09s").is_empty());
    assert!(pool.leaks().is_empty());
}

#[test]
fn p09_a_place_that_was_given_stands_in_for_the_line_of_the_call() {
    let pool = Pool::builder().workers(1).build().unwrap();
    let gate = Gate::new();
    let names = |how: duly::Options<'_>| {
        let gate = gate.clone();
        how.spawn(move || gate.pass()).unwrap().name()
    };
    let both = names(pool.options().submitted_at("main.c:7").label("upload"));
    assert_eq!((both.label(), both.place()), (Some("upload"), Some("main.c:7")));
    assert_eq!(both.to_string(), "task `upload` (submitted at main.c:7)");
    let placed = names(pool.options().submitted_at("main.c:8"));
    assert_eq!((placed.label(), placed.place()), (None, Some("main.c:8")));
    assert!(placed.to_string().ends_with("(submitted at main.c:8)"), "{placed}");
    assert!(placed.to_string().contains(placed.callback()), "{placed}");
    let plain = names(pool.options().label("plain"));
    assert_eq!((plain.label(), plain.place()), (Some("plain"), None));
    assert!(plain.to_string().contains("p09_nothing_left.rs:"), "{plain}");
    gate.open();
    assert!(pool.shutdown(LONG).unwrap().drained);
}

#[test]
fn p09_shutdown_twice_and_by_several_at_once() {
    let pool = Pool::builder().workers(2).build().unwrap();
    let gate = Gate::new();
    let stuck = {
        let gate = gate.clone();
        pool.spawn(move || gate.pass()).unwrap()
    };
    gate.arrived(1);
    std::thread::scope(|scope| {
        let long = scope.spawn(|| pool.shutdown(LONG).unwrap());
        let short = scope.spawn(|| pool.shutdown(ms(50)).unwrap());
        let began = Instant::now();
        let reports = [long.join().unwrap(), short.join().unwrap()];
        assert!(began.elapsed() < LONG / 2, "the earliest holds");
        assert!(
            reports.iter().all(|report| report.abandoned.len() == 1),
            "the earliest holds"
        );
    });
    assert_eq!(pool.shutdown(ms(0)).unwrap().abandoned.len(), 1, "again: the same");
    assert_eq!(pool.spawn(|| ()).unwrap_err().kind(), SubmitErrorKind::ShutDown);
    gate.open();
    assert!(stuck.released(LONG));
}

#[test]
fn p09_dropping_the_last_handle_never_blocks_and_drains_in_the_background() {
    let pool = Pool::builder().name("p09d").workers(1).build().unwrap();
    let (done, gate) = (Arc::new(AtomicUsize::new(0)), Gate::new());
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let (done, gate) = (done.clone(), gate.clone());
            pool.spawn(move || {
                gate.pass();
                done.fetch_add(1, Ordering::SeqCst);
            })
            .unwrap()
        })
        .collect();
    let other = pool.clone();
    drop(pool);
    assert!(!other.is_closed(), "a handle is left");
    drop(other);
    // Otherwise it waits until they are abandoned.
    assert!(
        tasks.iter().all(|task| task.outcome().is_none()),
        "it waits for none of them"
    );
    gate.open();
    for task in &tasks {
        assert_eq!(task.wait_outcome(LONG), Some(Outcome::Succeeded));
    }
    assert_eq!(done.load(Ordering::SeqCst), 50);
    eventually("its threads end", || threads_named("p09d").is_empty());
}

#[test]
fn p09_dropping_abandons_what_does_not_end_and_tasks_outlive_the_pool() {
    let (pool, gate, stuck) = stuck_pool(Pool::builder().name("p09a").drop_drain(ms(30)), 1);
    let queued = pool.spawn(|| 1).unwrap();
    drop(pool);
    assert_eq!(queued.wait_outcome(LONG), Some(Outcome::Abandoned));
    assert_eq!(stuck[0].wait_outcome(LONG), Some(Outcome::Abandoned));
    assert!(!queued.cancel(), "handles still answer");
    gate.open();
    assert!(stuck[0].released(LONG));
    eventually("its threads end", || threads_named("p09a").is_empty());
    assert!(queued.wait().unwrap_err().to_string().contains("abandoned"));
}

#[test]
fn p09_destroying_one_pool_leaves_another_alone() {
    let other = Pool::builder().workers(2).build().unwrap();
    let tasks: Vec<_> = (0..200u32)
        .map(|i| {
            if i % 20 == 0 {
                let short = Pool::builder().workers(2).build().unwrap();
                short.spawn(|| ()).unwrap();
                if i % 40 == 0 {
                    short.shutdown(ms(100)).unwrap();
                }
            }
            other.spawn(move || i).unwrap()
        })
        .collect();
    for (i, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.wait().unwrap(), i as u32);
    }
    end(&other);
}

#[test]
fn p09_a_build_that_fails_leaves_nothing_behind_and_says_why() {
    let made = Arc::new(AtomicUsize::new(0));
    let result = {
        let made = made.clone();
        Pool::builder()
            .name("p09b")
            .workers(5)
            .spawner(move |worker: Worker| {
                if made.fetch_add(1, Ordering::SeqCst) == 3 {
                    return Err(std::io::Error::other("the host is out of threads"));
                }
                std::thread::Builder::new()
                    .name("p09b-host".into())
                    .spawn(move || worker.run())?;
                Ok(())
            })
            .build()
    };
    match result {
        Err(error @ BuildError::Thread { index: 3, .. }) => {
            assert!(error.to_string().contains("the host is out of threads"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    eventually("no thread is left", || threads_named("p09b").is_empty());
}

#[test]
fn p09_on_demand_threads_come_one_a_submit_and_a_failure_strands_no_task() {
    let pool = Pool::builder()
        .name("p09o")
        .workers(4)
        .threads(Threads::OnDemand)
        .build()
        .unwrap();
    assert_eq!(pool.stats().workers, 0);
    pool.spawn(|| ()).unwrap().wait().unwrap();
    assert_eq!(pool.stats().workers, 1);
    for _ in 0..50 {
        pool.spawn(|| ()).unwrap().wait().unwrap();
    }
    let gate = Gate::new();
    for _ in 0..4 {
        let gate = gate.clone();
        pool.spawn(move || gate.pass()).unwrap();
    }
    gate.arrived(4);
    assert_eq!(pool.stats().workers, 4);
    gate.open();
    end(&pool);

    // None can be created at first: the task waits, keeps its deadline, and runs when one can.
    let allowed = Arc::new(AtomicUsize::new(0));
    let pool = {
        let allowed = allowed.clone();
        Pool::builder()
            .workers(1)
            .threads(Threads::OnDemand)
            .spawner(move |worker: Worker| {
                if allowed.load(Ordering::SeqCst) == 0 {
                    return Err(std::io::Error::other("not yet"));
                }
                std::thread::spawn(move || worker.run());
                Ok(())
            })
            .build()
            .unwrap()
    };
    let expires = pool.options().timeout(ms(20)).spawn(|| ()).unwrap();
    assert_eq!(expires.wait_outcome(LONG), Some(Outcome::DeadlineExceeded));
    let waits = pool.spawn(|| 5).unwrap();
    assert!(waits.wait_timeout(ms(20)).is_none());
    allowed.store(1, Ordering::SeqCst);
    assert_eq!(waits.wait_timeout(LONG).expect("it is tried again").unwrap(), 5);
    end(&pool);
}

#[test]
fn p09_host_threads_run_the_workers_and_come_back_at_the_end() {
    let pool = Pool::builder().workers(2).threads(Threads::Host).build().unwrap();
    let task = pool.spawn(|| std::thread::current().name().map(str::to_owned)).unwrap();
    assert!(task.wait_timeout(ms(10)).is_none(), "nobody works yet");
    let mut waits = 0usize;
    std::thread::scope(|scope| {
        let first = pool.worker().unwrap();
        let second = pool.worker().unwrap();
        assert!(pool.worker().is_none(), "two were asked for");
        std::thread::Builder::new()
            .name("my-own".into())
            .spawn_scoped(scope, || first.run())
            .unwrap();
        assert_eq!(task.wait().unwrap().as_deref(), Some("my-own"));
        drop(second);
        let again = pool.worker().expect("one that was given up can be had again");
        let waits = &mut waits;
        scope.spawn(move || {
            again.run_with(|wait| {
                *waits += 1;
                wait();
            });
        });
        for _ in 0..100 {
            pool.spawn(|| ()).unwrap().wait().unwrap();
        }
        end(&pool);
    });
}

#[test]
fn p09_worker_hooks_run_on_each_worker() {
    let (tell, told) = mpsc::channel();
    let stop = tell.clone();
    let pool = Pool::builder()
        .workers(3)
        .on_worker_start(move |info| tell.send(("start", info.index)).unwrap())
        .on_worker_stop(move |info| stop.send(("stop", info.index)).unwrap())
        .build()
        .unwrap();
    end(&pool);
    let mut seen: Vec<_> = told.try_iter().collect();
    seen.sort_unstable();
    assert_eq!(
        seen,
        [
            ("start", 0),
            ("start", 1),
            ("start", 2),
            ("stop", 0),
            ("stop", 1),
            ("stop", 2)
        ]
    );
}

#[test]
fn p09_two_hundred_queued_tasks_do_not_run_after_a_shutdown_now() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder(), 1);
    let ran = Arc::new(AtomicUsize::new(0));
    for _ in 0..200 {
        let ran = ran.clone();
        pool.spawn(move || ran.fetch_add(1, Ordering::SeqCst)).unwrap();
    }
    let report = pool.shutdown(ms(0)).unwrap();
    assert_eq!(report.abandoned.len(), 201);
    gate.open();
    eventually("the worker ends", || pool.stats().workers == 0);
    assert_eq!(ran.load(Ordering::SeqCst), 0);
}

#[test]
fn p09_thread_names_fit_into_fifteen_bytes() {
    let pool = Pool::builder()
        .name("a-very-long-pool-näme")
        .workers(2)
        .build()
        .unwrap();
    let name = pool
        .spawn(|| std::thread::current().name().unwrap().to_owned())
        .unwrap()
        .wait()
        .unwrap();
    assert!(
        name.len() <= 15 && (name.ends_with("-0") || name.ends_with("-1")),
        "{name}"
    );
    end(&pool);
}

#[test]
fn p09_async_shutdown_reports_too() {
    let pool = Pool::builder().name("p09y").workers(2).build().unwrap();
    pool.spawn(|| std::thread::sleep(ms(10))).unwrap();
    let report = block_on(pool.shutdown_async(LONG)).unwrap();
    assert!(report.drained && report.stats.succeeded == 1, "{report}");
    eventually("no thread is left", || threads_named("p09y").is_empty());
}

#[test]
fn p09_a_shutdown_joins_the_threads_that_have_ended() {
    // What a thread does last are the destructors of its thread-locals: they have run when the shutdown returns.
    struct Last(Arc<AtomicUsize>);
    impl Drop for Last {
        fn drop(&mut self) {
            std::thread::sleep(ms(30));
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    thread_local! {
        static LAST: std::cell::RefCell<Option<Last>> = const { std::cell::RefCell::new(None) };
    }
    for is_async in [false, true] {
        let pool = Pool::builder().workers(2).build().unwrap();
        let gone = Arc::new(AtomicUsize::new(0));
        let gate = Gate::new();
        let tasks: Vec<_> = (0..2)
            .map(|_| {
                let (last, gate) = (Last(gone.clone()), gate.clone());
                pool.spawn(move || {
                    gate.pass();
                    LAST.set(Some(last));
                })
                .unwrap()
            })
            .collect();
        gate.arrived(2);
        gate.open();
        tasks.iter().for_each(|task| task.wait().unwrap());
        if is_async {
            block_on(pool.shutdown_async(LONG)).unwrap();
        } else {
            end(&pool);
        }
        assert_eq!(gone.load(Ordering::SeqCst), 2, "both threads are gone");
    }
}

#[test]
fn p09_the_alarm_thread_ends_with_the_last_alarm() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder().capacity(1), 1);
    let _full = pool.spawn(|| ()).unwrap();
    {
        let options = pool.options().submit_timeout(LONG * 100);
        let mut waits = Box::pin(options.submit_async(|_| Ok::<_, ()>(())));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(waits.as_mut().poll(&mut cx).is_pending());
        eventually("it has an alarm", || !threads_named("duly-alarm").is_empty());
        // Asleep until the alarm's time.
        std::thread::sleep(ms(20));
    }
    eventually("the alarm thread is gone", || threads_named("duly-alarm").is_empty());
    gate.open();
    end(&pool);
}

#[test]
fn p09_a_pool_without_workers_and_tasks_ends_at_once() {
    for threads in [Threads::Host, Threads::OnDemand] {
        let pool = Pool::builder().workers(1).threads(threads).build().unwrap();
        let began = Instant::now();
        assert!(pool.shutdown(LONG).unwrap().drained);
        assert!(began.elapsed() < LONG / 2, "nobody to wait for: {:?}", began.elapsed());
    }
}

#[test]
fn p09_what_was_accepted_before_the_close_is_run() {
    for round in 0..1000 {
        let pool = Pool::builder().workers(1).build().unwrap();
        let first = pool.spawn(|| 1).unwrap();
        // The second comes, and the close with it, about when the worker has ended the first and looks for more.
        for _ in 0..(round % 50) * 10 {
            std::hint::spin_loop();
        }
        let second = pool.spawn(|| 2).unwrap();
        let report = pool.shutdown(LONG).unwrap();
        assert!(report.drained, "something accepted was left: {report}");
        assert_eq!((first.wait(), second.wait()), (Ok(1), Ok(2)));
    }
}

// ---- P13 ----

#[test]
fn p13_shutdown_from_a_callback_is_an_error_and_close_is_not() {
    let pool = Pool::builder().workers(1).build().unwrap();
    let task = pool
        .submit(|ctx| {
            let error = ctx.pool().shutdown(ms(1)).map(drop);
            ctx.pool().close();
            Ok::<_, ()>(error)
        })
        .unwrap();
    let error = task.wait().unwrap().unwrap_err();
    assert_eq!(error, ShutdownError::FromWorker);
    assert!(error.to_string().contains("close"), "says what to do instead");
    assert!(pool.is_closed());
    end(&pool);
}

#[test]
fn p13_callbacks_may_submit_look_and_drop_the_last_handle() {
    let pool = Pool::builder().name("p13c").workers(2).build().unwrap();
    let (send, receive) = mpsc::channel();
    {
        let inner = pool.clone();
        pool.spawn(move || {
            let child = inner.spawn(|| 9).unwrap();
            let stats = inner.stats();
            let running = inner.running().len();
            send.send((child, stats.running, running)).unwrap();
            std::thread::sleep(ms(20));
            // Here the last handle goes, on a worker of the pool.
            drop(inner);
        })
        .unwrap();
    }
    drop(pool);
    let (child, running, seen) = receive.recv_timeout(LONG).unwrap();
    assert_eq!(child.wait().unwrap(), 9);
    assert!(running >= 1 && seen >= 1);
    eventually("the pool is gone", || threads_named("p13c").is_empty());
}

#[test]
fn p13_another_pools_callback_may_shut_this_one_down() {
    let (one, two) = (
        Pool::builder().workers(1).build().unwrap(),
        Pool::builder().workers(1).build().unwrap(),
    );
    let target = two.clone();
    let report = one
        .spawn(move || target.shutdown(LONG).unwrap())
        .unwrap()
        .wait()
        .unwrap();
    assert!(report.drained);
    end(&one);
}

#[test]
fn p13_a_snapshot_never_waits_for_a_stuck_worker() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder(), 4);
    let began = Instant::now();
    for _ in 0..100 {
        assert_eq!(pool.running().len(), 4);
        assert_eq!(pool.stats().running, 4);
    }
    assert!(began.elapsed() < LONG / 2, "{:?}", began.elapsed());
    gate.open();
    end(&pool);
}

#[test]
fn p13_shutdown_from_a_completion_callback_or_a_hook_is_an_error_too() {
    let pool = Pool::builder().workers(1).build().unwrap();
    let (send, receive) = mpsc::channel();
    for cancel in [false, true] {
        let gate = Gate::new();
        let task = {
            let gate = gate.clone();
            pool.spawn(move || gate.pass()).unwrap()
        };
        let (inner, send) = (pool.clone(), send.clone());
        task.on_complete(move |_| send.send(inner.shutdown(LONG).map(drop)).unwrap());
        if cancel {
            task.cancel();
        }
        gate.open();
        assert_eq!(receive.recv_timeout(LONG).unwrap(), Err(ShutdownError::FromWorker));
    }
    assert!(!pool.is_closed());
    end(&pool);
}

#[test]
fn p09_a_drain_still_replaces_stuck_workers() {
    let pool = Pool::builder().workers(1).replace_after(ms(10)).build().unwrap();
    let gate = Gate::new();
    let stuck = {
        let gate = gate.clone();
        pool.spawn(move || gate.pass()).unwrap()
    };
    gate.arrived(1);
    assert!(stuck.cancel());
    let queued: Vec<_> = (0..5).map(|_| pool.spawn(|| ()).unwrap()).collect();
    pool.close();
    for task in &queued {
        assert_eq!(task.wait_outcome(LONG), Some(Outcome::Succeeded));
    }
    gate.open();
    assert!(stuck.released(LONG));
    end(&pool);
}

#[test]
fn p09_a_closed_pool_without_workers_ends_when_its_last_task_is_cancelled() {
    let pool = Pool::builder().workers(1).threads(Threads::Host).build().unwrap();
    let task = pool.spawn(|| ()).unwrap();
    std::thread::scope(|scope| {
        let began = Instant::now();
        let shutdown = scope.spawn(|| pool.shutdown(LONG).unwrap());
        eventually("it is closed", || pool.is_closed());
        assert!(task.cancel());
        let report = shutdown.join().unwrap();
        assert!(report.drained && began.elapsed() < LONG / 2, "{report}");
    });
}

#[test]
fn p13_observers_of_running_tasks_keep_and_lose_nothing() {
    let pool = Pool::builder().workers(2).build().unwrap();
    let drops = support::Drops::default();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    for task in pool.running().iter().chain(&pool.leaks()) {
                        assert!(task.name.submitted_at().is_some());
                    }
                }
            });
        }
        for round in 0..10_000 {
            let value = drops.probe();
            let task = pool.spawn(move || value).unwrap();
            if round % 3 == 0 {
                drop(task.wait());
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    end(&pool);
    drop(pool);
    eventually("each value is dropped", || {
        assert!(drops.count() <= 10_000, "one was dropped twice");
        drops.count() == 10_000
    });
}
