//! P5: at most `capacity` tasks are queued; a queued task that ends gives back its place and its data at once; what
//! has ended leaves nothing behind.
//! P6: captured data is released exactly once.

mod support;

use duly::{CancellationToken, Outcome, Pool};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::*;

#[test]
fn p05_never_more_than_capacity_queued_whatever_producers_cancels_and_deadlines_do() {
    for capacity in [1usize, 2, 7, 64] {
        let pool = Pool::builder()
            .workers(2)
            .capacity(capacity)
            .max_blocked_producers(64)
            .build()
            .unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        std::thread::scope(|scope| {
            let watcher = {
                let (pool, stop) = (&pool, stop.clone());
                scope.spawn(move || {
                    let mut looks = 0u64;
                    let mut before = pool.stats();
                    loop {
                        let now = pool.stats();
                        assert!(now.queued <= capacity as u64, "{} queued of {capacity}", now.queued);
                        assert!(now.books_balance(), "{now}");
                        assert!(now.submitted >= before.submitted);
                        for ((outcome, now), (_, before)) in now.outcomes().iter().zip(before.outcomes()) {
                            assert!(*now >= before, "{outcome} went down");
                        }
                        before = now;
                        looks += 1;
                        if stop.load(Ordering::Relaxed) {
                            break looks;
                        }
                    }
                })
            };
            let producers: Vec<_> = (0..3u64)
                .map(|seed| {
                    let pool = &pool;
                    scope.spawn(move || {
                        let mut random = seed + 1;
                        for _ in 0..3000 {
                            random ^= random << 13;
                            random ^= random >> 7;
                            random ^= random << 17;
                            let options = pool.options().timeout(Duration::from_micros(random % 3000));
                            match random % 5 {
                                0 => drop(options.try_spawn(|| ())),
                                1 => drop(options.spawn(|| panic!("on purpose"))),
                                2 => {
                                    if let Ok(task) = options.spawn(|| ()) {
                                        task.cancel();
                                    }
                                }
                                _ => drop(options.submit(|_| Ok::<_, ()>(()))),
                            }
                        }
                    })
                })
                .collect();
            for producer in producers {
                producer.join().unwrap();
            }
            stop.store(true, Ordering::Relaxed);
            assert!(watcher.join().unwrap() > 0);
        });
        end(&pool);
    }
}

#[test]
fn p05_a_cancelled_or_expired_task_frees_its_place_and_data_while_all_workers_are_stuck() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder().capacity(4), 1);
    let drops = Drops::default();
    for round in 0..5000usize {
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let probe = drops.probe();
                pool.try_spawn(move || drop(probe)).expect("there is room again")
            })
            .collect();
        assert!(pool.try_spawn(|| ()).is_err(), "full");
        // Out of the middle, the end, the front.
        for index in [1, 3, 0, 2] {
            assert!(tasks[index].cancel());
        }
        if round % 500 == 0 {
            eventually("all data is gone", || drops.count() == 4 * (round + 1));
        }
    }
    eventually("all data is gone", || drops.count() == 20_000);
    let expired: Vec<_> = (0..4)
        .map(|_| pool.options().timeout(ms(5)).try_spawn(|| ()).unwrap())
        .collect();
    for task in expired {
        assert_eq!(task.wait_outcome(LONG), Some(Outcome::DeadlineExceeded));
    }
    pool.try_spawn(|| ()).unwrap();
    gate.open();
    end(&pool);
}

#[test]
fn p05_order_is_kept_around_the_holes() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder().capacity(300), 1);
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut kept = Vec::new();
    for index in 0..5000u32 {
        let seen = seen.clone();
        let task = pool.try_spawn(move || seen.lock().unwrap().push(index)).unwrap();
        if index % 20 == 7 {
            kept.push(index);
        } else {
            assert!(task.cancel());
        }
    }
    gate.open();
    end(&pool);
    assert_eq!(*seen.lock().unwrap(), kept);
}

#[test]
fn p05_a_task_that_was_moved_is_still_taken_out_of_the_middle() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder().capacity(300), 1);
    // Holes between them, and so many behind them that the queue closes up, more than once.
    let kept: Vec<_> = (0..200)
        .map(|_| {
            assert!(pool.try_spawn(|| ()).unwrap().cancel());
            pool.try_spawn(|| ()).unwrap()
        })
        .collect();
    for _ in 0..5000 {
        assert!(pool.try_spawn(|| ()).unwrap().cancel());
    }
    for (index, task) in kept.iter().enumerate() {
        assert!(task.cancel());
        assert_eq!(pool.stats().queued, 199 - index as u64, "its place is free");
    }
    gate.open();
    end(&pool);
}

#[test]
fn p05_holes_left_in_the_queue_keep_no_worker_awake() {
    let (pool, gate, stuck) = stuck_pool(Pool::builder().name("p05holes").capacity(64), 1);
    for _ in 0..32 {
        assert!(pool.spawn(|| ()).unwrap().cancel());
    }
    gate.open();
    stuck[0].wait().unwrap();
    // The one worker must come to rest, parked: its state in the kernel is "sleeping", again and again.
    let stat = |line: &str| line.rsplit(')').next().unwrap().split_whitespace().next() == Some("S");
    eventually("the worker sleeps", || {
        let mut asleep = 0;
        for _ in 0..20 {
            for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
                let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
                if name.trim() == "p05holes-0" {
                    asleep += usize::from(stat(&std::fs::read_to_string(task.path().join("stat")).unwrap()));
                }
            }
            std::thread::sleep(ms(2));
        }
        asleep == 20
    });
    end(&pool);
}

// ---- P6 ----

#[test]
fn p06_captured_data_is_released_exactly_once_however_the_task_ends() {
    let drops = Drops::default();
    let mut made = 0;
    {
        let pool = Pool::builder()
            .workers(2)
            .capacity(16)
            .max_replacements(0)
            .build()
            .unwrap();
        let mut probe = || {
            made += 1;
            drops.probe()
        };
        let probe_ok = probe();
        pool.spawn(move || drop(probe_ok)).unwrap().wait().unwrap();
        let probe_unused = probe();
        pool.spawn(move || {
            let _keep = &probe_unused;
        })
        .unwrap()
        .wait()
        .unwrap();
        let probe_panic = probe();
        let panics = pool.spawn(move || {
            let _keep = probe_panic;
            panic!("on purpose");
        });
        assert!(panics.unwrap().wait().is_err());
        let gate = Gate::new();
        let stuck: Vec<_> = (0..2)
            .map(|_| {
                let (gate, probe) = (gate.clone(), probe());
                pool.options()
                    .timeout(ms(1500))
                    .spawn(move || {
                        let _keep = probe;
                        gate.pass();
                    })
                    .unwrap()
            })
            .collect();
        gate.arrived(2);
        let queued: Vec<_> = (0..16)
            .map(|_| {
                let probe = probe();
                pool.spawn(move || drop(probe)).unwrap()
            })
            .collect();
        // Refused: with the error.
        let refused_probe = probe();
        let refused = pool.try_spawn(move || drop(refused_probe)).unwrap_err();
        drop(refused);
        queued[3].cancel();
        for task in &stuck {
            assert_eq!(task.wait_outcome(LONG), Some(Outcome::DeadlineExceeded));
        }
        let abandoned = pool.shutdown(ms(30)).unwrap().abandoned.len();
        assert_eq!(abandoned, 15);
        gate.open();
        for task in stuck.iter().chain(&queued) {
            assert!(task.released(LONG));
        }
    }
    eventually("each once", || drops.count() == made);
    std::thread::sleep(ms(20));
    assert_eq!(drops.count(), made, "never twice");
}

#[test]
fn p06_values_that_nobody_takes_are_dropped_once() {
    let drops = Drops::default();
    let pool = Pool::builder().workers(2).build().unwrap();
    for round in 0..1000 {
        let probe = drops.probe();
        let task = pool.spawn(move || [Some(probe), None]).unwrap();
        match round % 4 {
            0 => drop(task),
            1 => drop(task.wait().unwrap()),
            2 => {
                task.wait_outcome(LONG);
            }
            _ => {
                task.cancel();
            }
        }
    }
    end(&pool);
    eventually("each once", || {
        assert!(drops.count() <= 1000, "one was dropped twice");
        drops.count() == 1000
    });
}

#[test]
#[expect(clippy::result_large_err, reason = "a large error is what is tested")]
fn p06_large_and_over_aligned_callbacks_and_values_come_through() {
    #[repr(align(128))]
    #[derive(Clone, Copy, PartialEq, Debug)]
    struct Wide([u64; 16]);
    let pool = Pool::builder().workers(1).build().unwrap();
    let big = [7u8; 4096];
    assert_eq!(pool.spawn(move || big).unwrap().wait().unwrap(), big);
    let wide = Wide([3; 16]);
    assert_eq!(pool.spawn(move || wide).unwrap().wait().unwrap(), wide);
    assert_eq!(
        pool.submit(move |_| Err::<(), _>(wide))
            .unwrap()
            .wait()
            .unwrap_err()
            .into_failed(),
        Some(wide)
    );
    assert_eq!(pool.spawn(|| ()).unwrap().wait(), Ok(()));
    let drops = Drops::default();
    let (gate, blocker) = (Gate::new(), Gate::new());
    let pass = gate.clone();
    let running = pool.spawn(move || pass.pass()).unwrap();
    gate.arrived(1);
    let (probe, boxed) = (drops.probe(), [0u64; 100]);
    let cancelled = pool
        .spawn(move || {
            let _keep = (&probe, boxed, &blocker);
        })
        .unwrap();
    cancelled.cancel();
    assert!(cancelled.released(LONG));
    assert_eq!(drops.count(), 1);
    gate.open();
    running.wait().unwrap();
    end(&pool);
}

#[test]
fn p05_an_ended_task_leaves_the_timer_and_its_token_at_once() {
    // Whoever keeps a task keeps its value: when the last handle is gone, so is the value, whatever lives on.
    for (timed, token) in [(true, None), (false, Some(CancellationToken::new()))] {
        let pool = Pool::builder().workers(1).build().unwrap();
        let (drops, gate) = (Drops::default(), Gate::new());
        let (value, pass) = (drops.probe(), gate.clone());
        let mut options = pool.options();
        if timed {
            options = options.timeout(Duration::from_secs(3600));
        }
        if let Some(token) = &token {
            options = options.token(token);
        }
        let task = options
            .spawn(move || {
                pass.pass();
                value
            })
            .unwrap();
        gate.arrived(1);
        // Long enough that the timer has taken it in.
        std::thread::sleep(ms(40));
        gate.open();
        assert_eq!(task.wait_outcome(LONG), Some(Outcome::Succeeded));
        drop(task);
        eventually("nobody keeps the value", || drops.count() == 1);
        end(&pool);
    }
}

#[test]
fn p06_released_is_told_to_those_who_wait_for_it() {
    // Ended while it runs, and ended in the queue with data whose destructor takes its time.
    struct Slow(Gate);
    impl Drop for Slow {
        fn drop(&mut self) {
            self.0.pass();
        }
    }
    let (pool, gate, stuck) = stuck_pool(Pool::builder(), 1);
    let data = Slow(gate.clone());
    let queued = pool.spawn(move || drop(data)).unwrap();
    assert!(queued.cancel() && stuck[0].cancel());
    let (tell, told) = std::sync::mpsc::channel();
    for task in [queued, stuck[0].clone()] {
        let tell = tell.clone();
        std::thread::spawn(move || tell.send(task.released(LONG * 10)).ok());
    }
    gate.arrived(2);
    std::thread::sleep(ms(30));
    assert!(told.try_recv().is_err(), "not before");
    gate.open();
    for _ in 0..2 {
        assert_eq!(told.recv_timeout(LONG), Ok(true), "woken");
    }
    end(&pool);
}

#[test]
fn p06_who_waits_for_released_before_the_end_is_told_however_it_ends() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder().capacity(8), 1);
    let drops = Drops::default();
    let probe = drops.probe();
    let tasks = [
        pool.spawn(|| ()).unwrap(),
        pool.spawn(move || drop(probe)).unwrap(),
        pool.options().timeout(ms(1500)).spawn(|| ()).unwrap(),
        // Runs in the end.
        pool.spawn(|| ()).unwrap(),
    ];
    let (tell, told) = std::sync::mpsc::channel();
    for (index, task) in tasks.iter().enumerate() {
        let (task, tell) = (task.clone(), tell.clone());
        std::thread::spawn(move || tell.send((index, task.released(LONG * 10))).ok());
    }
    std::thread::sleep(ms(30));
    assert!(told.try_recv().is_err(), "not before");
    assert!(tasks[0].cancel() && tasks[1].cancel());
    let mut woken: Vec<_> = (0..3).filter_map(|_| told.recv_timeout(LONG).ok()).collect();
    gate.open();
    woken.extend(told.recv_timeout(LONG).ok());
    woken.sort_unstable();
    assert_eq!(woken, [(0, true), (1, true), (2, true), (3, true)], "woken");
    end(&pool);
}
