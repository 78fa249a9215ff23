//! P10: a callback that waits for tasks of its own pool, or for room in it, never stalls it.
//!
//! Every test has a watchdog: what hangs fails, with the names of what runs.

mod support;

use duly::{Outcome, Pool, SubmitErrorKind, TaskError};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use support::{Gate, LONG, end, eventually, ms};

/// Runs `test`; fails if it takes longer than a minute.
fn in_time(test: impl FnOnce() + Send + 'static) {
    let (done, waits) = mpsc::channel();
    let test = thread::spawn(move || {
        test();
        done.send(()).ok();
    });
    match waits.recv_timeout(Duration::from_secs(60)) {
        Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => {
            if let Err(panic) = test.join() {
                std::panic::resume_unwind(panic);
            }
        }
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
    }
}

fn pool(replacements: usize) -> Pool {
    Pool::builder()
        .workers(1)
        .max_replacements(replacements)
        .build()
        .unwrap()
}

fn chain(pool: &Pool, depth: u32) -> Result<u32, String> {
    if depth == 0 {
        return Ok(0);
    }
    let inner = pool.clone();
    let task = pool
        .submit(move |_| chain(&inner, depth - 1))
        .map_err(|error| error.to_string())?;
    match task.wait() {
        Ok(below) => Ok(below + 1),
        Err(TaskError::Failed(why)) => Err(why),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn p10_a_chain_of_a_thousand_waits_ends_on_one_worker() {
    for replacements in [0, 1, 8] {
        in_time(move || {
            let pool = pool(replacements);
            let inner = pool.clone();
            let task = pool.submit(move |_| chain(&inner, 1000)).unwrap();
            match task.wait() {
                Ok(depth) => assert_eq!(depth, 1000),
                Err(TaskError::Failed(why)) => assert!(why.contains("could never end"), "{why}"),
                Err(other) => panic!("{other}"),
            }
            assert!(pool.stats().workers as usize <= 1 + replacements, "{}", pool.stats());
            end(&pool);
        });
    }
}

fn fib(pool: &Pool, n: u64) -> u64 {
    if n < 2 {
        return n;
    }
    let (left, right) = (pool.clone(), pool.clone());
    let left = pool.spawn(move || fib(&left, n - 1)).unwrap();
    let right = pool.spawn(move || fib(&right, n - 2)).unwrap();
    left.wait().unwrap() + right.wait().unwrap()
}

#[test]
fn p10_fib_of_twenty_by_nested_waits_ends_on_one_worker() {
    for replacements in [0, 1, 8] {
        in_time(move || {
            let pool = pool(replacements);
            let inner = pool.clone();
            assert_eq!(pool.spawn(move || fib(&inner, 20)).unwrap().wait().unwrap(), 6765);
            let stats = end(&pool);
            assert_eq!(stats.submitted, 21891);
        });
    }
}

#[test]
fn p10_another_thread_stands_in_for_a_worker_that_waits() {
    in_time(|| {
        let pool = pool(1);
        let (gate, inner) = (Gate::new(), pool.clone());
        let pass = gate.clone();
        let outer = pool
            .spawn(move || inner.spawn(move || pass.pass()).unwrap().wait().unwrap())
            .unwrap();
        // Only another thread can be inside the inner callback while the outer one waits with a time limit.
        gate.arrived(1);
        assert_eq!(pool.stats().running, 2);
        gate.open();
        outer.wait().unwrap();
        // The surplus thread has gone, and the next wait finds its place taken again.
        eventually("one worker is left", || pool.stats().workers == 1);
        end(&pool);
    });
}

#[test]
fn p10_a_wait_with_a_time_limit_waits_and_is_not_run_here() {
    in_time(|| {
        let pool = pool(0);
        let inner = pool.clone();
        let task = pool
            .spawn(move || {
                let task = inner.spawn(thread::current).unwrap();
                let timed_out = task.wait_timeout(ms(20)).is_none();
                let outcome = task.wait_outcome(ms(1));
                (timed_out, outcome, task, thread::current().id())
            })
            .unwrap();
        let (timed_out, outcome, inner, _) = task.wait().unwrap();
        assert_eq!((timed_out, outcome), (true, None));
        inner.wait().unwrap();
        end(&pool);
    });
}

#[test]
fn p10_past_the_limit_the_awaited_task_and_no_other_runs_here() {
    in_time(|| {
        let pool = pool(0);
        let inner = pool.clone();
        let task = pool
            .spawn(move || {
                let other = inner.spawn(|| ()).unwrap();
                let awaited = inner.spawn(|| thread::current().id()).unwrap();
                let ran_on = awaited.wait().unwrap();
                (ran_on == thread::current().id(), other.outcome(), other)
            })
            .unwrap();
        let (here, outcome, other) = task.wait().unwrap();
        assert!(here);
        assert_eq!(outcome, None, "the other one was queued first, and is queued still");
        other.wait().unwrap();
        end(&pool);
    });
}

type Answers = [(Result<u8, TaskError<()>>, Duration); 2];

/// Two callbacks that wait for each other, in these pools; what each wait gave, and after how long.
fn cycle(pools: [Pool; 2]) -> Answers {
    let (handles, both, tasks) = (
        Gate::new(),
        Gate::new(),
        std::sync::Arc::new(std::sync::Mutex::new(Vec::new())),
    );
    let ends = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    for (own, name) in [(0, "left"), (1, "right")] {
        let (gate, tasks, ends) = (handles.clone(), tasks.clone(), ends.clone());
        let (all, both) = (tasks.clone(), both.clone());
        let task = pools[own]
            .options()
            .label(name)
            .submit(move |_| {
                let other: duly::Task<u8, ()> = {
                    gate.pass();
                    let tasks: &Vec<duly::Task<u8, ()>> = &all.lock().unwrap();
                    tasks[1 - own].clone()
                };
                both.pass();
                let began = Instant::now();
                let answer = other.wait();
                ends.lock().unwrap().push((own, answer, began.elapsed()));
                Ok(own as u8)
            })
            .unwrap();
        tasks.lock().unwrap().push(task);
    }
    handles.arrived(2);
    handles.open();
    // Both have the other's handle.
    both.arrived(2);
    both.open();
    let tasks = std::mem::take(&mut *tasks.lock().unwrap());
    for task in &tasks {
        assert_eq!(task.wait_outcome(LONG), Some(Outcome::Succeeded));
    }
    let mut ends = std::mem::take(&mut *ends.lock().unwrap());
    ends.sort_by_key(|end| end.0);
    let mut answers = ends.into_iter().map(|end| (end.1, end.2));
    [answers.next().unwrap(), answers.next().unwrap()]
}

/// How long it took to be told.
fn check_cycle(answers: Answers, pools: [&str; 2]) -> Duration {
    let told: Vec<_> = answers.iter().filter(|answer| answer.0.is_err()).collect();
    assert_eq!(told.len(), 1, "one is told, the other gets its value: {answers:?}");
    let (Err(TaskError::WouldDeadlock(deadlock)), took) = told[0] else {
        panic!("{told:?}")
    };
    assert_eq!(deadlock.waits().len(), 2, "{deadlock}");
    let text = deadlock.to_string();
    for word in ["`left`", "`right`", "p10_no_self_deadlock.rs:", pools[0], pools[1]] {
        assert!(text.contains(word), "{text}");
    }
    *took
}

#[test]
fn p10_two_callbacks_that_wait_for_each_other_are_told() {
    in_time(|| {
        let pool = Pool::builder().name("alone").workers(2).build().unwrap();
        check_cycle(cycle([pool.clone(), pool.clone()]), ["alone", "alone"]);
        end(&pool);
    });
}

#[test]
fn p10_two_pools_that_wait_for_each_other_are_told_within_10_ms() {
    in_time(|| {
        let pools = ["one", "two"].map(|name| Pool::builder().name(name).workers(1).build().unwrap());
        let median = || {
            let mut took: Vec<_> = (0..21)
                .map(|_| check_cycle(cycle(pools.clone()), ["one", "two"]))
                .collect();
            took.sort();
            took[10]
        };
        // Beside other programs each of a few yields may cost a time slice: then once more.
        let medians: Vec<_> = (0..10).map(|_| median()).take_while(|took| *took >= ms(10)).collect();
        assert!(medians.len() < 10, "medians of 21: {medians:?}");
        for pool in &pools {
            end(pool);
        }
    });
}

#[test]
fn p10_a_callback_that_waits_for_itself_is_told() {
    in_time(|| {
        let pool = pool(3);
        let (send, receive) = mpsc::channel::<duly::Task<bool, ()>>();
        let task = pool
            .options()
            .label("selfish")
            .submit(move |_| {
                let own = receive.recv().unwrap();
                Ok(matches!(own.wait(), Err(TaskError::WouldDeadlock(why)) if why.waits().len() == 1))
            })
            .unwrap();
        send.send(task.clone()).unwrap();
        assert!(task.wait().unwrap(), "the value is still there to be taken");
        end(&pool);
    });
}

#[test]
fn p10_workers_that_all_wait_for_room_are_told() {
    in_time(|| {
        let pool = Pool::builder()
            .workers(2)
            .capacity(1)
            .max_blocked_producers(2)
            .max_replacements(0)
            .build()
            .unwrap();
        let gate = Gate::new();
        let tasks: Vec<_> = (0..2)
            .map(|_| {
                let (inner, pass) = (pool.clone(), gate.clone());
                let task = pool
                    .spawn(move || {
                        pass.pass();
                        // Room for one, and nobody to take it.
                        let submits = [(); 2].map(|()| inner.spawn(|| ()));
                        submits.map(|submit| match submit {
                            Ok(_) => None,
                            Err(error) => {
                                assert!(error.deadlock().is_some_and(|why| !why.waits().is_empty()), "{error}");
                                Some(error.kind())
                            }
                        })
                    })
                    .unwrap();
                eventually("it runs", || pool.stats().queued == 0);
                task
            })
            .collect();
        gate.arrived(2);
        gate.open();
        let told: Vec<_> = tasks.iter().flat_map(|task| task.wait().unwrap()).flatten().collect();
        assert!(!told.is_empty(), "one was told, so that the others could go on");
        assert!(
            told.iter().all(|kind| *kind == SubmitErrorKind::WouldDeadlock),
            "{told:?}"
        );
        end(&pool);
    });
}

#[test]
fn p10_a_wait_for_room_is_stood_in_for() {
    in_time(|| {
        let pool = Pool::builder()
            .workers(1)
            .capacity(1)
            .max_replacements(1)
            .build()
            .unwrap();
        let inner = pool.clone();
        let task = pool
            .spawn(move || (0..100).map(|n| inner.spawn(move || n).unwrap()).collect::<Vec<_>>())
            .unwrap();
        for (n, task) in task.wait().unwrap().iter().enumerate() {
            assert_eq!(task.wait(), Ok(n));
        }
        end(&pool);
    });
}

#[test]
fn p10_cancel_deadline_and_shutdown_end_a_wait_inside() {
    in_time(|| {
        let pool = Pool::builder().workers(1).max_replacements(1).build().unwrap();
        let inner = pool.clone();
        let task = pool
            .spawn(move || {
                let never = |ctx: &duly::Context| ctx.sleep(LONG);
                let late = inner.options().detached().timeout(ms(20)).submit(never).unwrap().wait();
                let cancelled = {
                    let task = inner.submit(never).unwrap();
                    let other = task.clone();
                    thread::spawn(move || {
                        thread::sleep(ms(5));
                        other.cancel()
                    });
                    task.wait()
                };
                (
                    matches!(late, Err(TaskError::DeadlineExceeded(_))),
                    matches!(cancelled, Err(TaskError::Cancelled(_))),
                )
            })
            .unwrap();
        assert_eq!(task.wait().unwrap(), (true, true));
        let (inner, gate) = (pool.clone(), Gate::new());
        let pass = gate.clone();
        let stuck = pool
            .spawn(move || inner.spawn(move || pass.pass()).unwrap().wait_outcome(LONG))
            .unwrap();
        gate.arrived(1);
        let began = Instant::now();
        let report = pool.shutdown(ms(50)).unwrap();
        assert!(began.elapsed() < LONG / 2, "{report}");
        assert!(report.stats.books_balance() && !report.drained, "{report}");
        assert_eq!(stuck.outcome(), Some(Outcome::Abandoned));
        gate.open();
        assert!(stuck.released(LONG));
    });
}

#[test]
fn p10_a_task_run_here_is_answered_in_time() {
    in_time(|| {
        let pool = pool(0);
        let inner = pool.clone();
        let gate = Gate::new();
        let pass = gate.clone();
        let task = pool
            .spawn(move || {
                inner
                    .options()
                    .timeout(ms(1000))
                    .spawn(move || pass.pass())
                    .unwrap()
                    .wait()
            })
            .unwrap();
        gate.arrived(1);
        // Its deadline answers it although its callback runs on, on the stack of the one that waits.
        eventually("it is overdue", || pool.stats().overdue == 1);
        assert_eq!(pool.leaks().len(), 1);
        gate.open();
        assert!(matches!(task.wait().unwrap(), Err(TaskError::DeadlineExceeded(_))));
        let stats = end(&pool);
        assert_eq!((stats.deadline_exceeded, stats.late), (1, 1));
    });
}

#[test]
fn p10_whoever_can_run_what_it_waits_for_is_woken_when_the_others_wait_too() {
    in_time(|| {
        // Two workers, no replacement. The first waits for a task that the second, idle, is to take; but the second first
        // takes one that waits for the first.
        let pool = Pool::builder().workers(2).max_replacements(0).build().unwrap();
        for _ in 0..200 {
            let inner = pool.clone();
            let task = pool
                .spawn(move || {
                    let deep = inner.clone();
                    let first = inner.spawn(move || deep.spawn(|| 1).unwrap().wait().unwrap()).unwrap();
                    let second = inner.spawn(|| 2).unwrap();
                    second.wait().unwrap() + first.wait().unwrap()
                })
                .unwrap();
            assert_eq!(task.wait(), Ok(3));
        }
        end(&pool);
    });
}

#[test]
fn p10_a_task_held_back_by_the_limit_that_its_waiter_occupies_is_told() {
    in_time(|| {
        let pool = Pool::builder().workers(4).build().unwrap();
        let serial = pool.queue("serial").limit(1).add().unwrap();
        let inner = (pool.clone(), serial.clone());
        let task = pool
            .options()
            .queue(&serial)
            .label("holds the limit")
            .spawn(move || {
                let (pool, serial) = inner;
                let held = pool.options().queue(&serial).label("is held back").spawn(|| 7).unwrap();
                (held.wait(), held)
            })
            .unwrap();
        let (answer, held) = task.wait().unwrap();
        let Err(TaskError::WouldDeadlock(why)) = answer else {
            panic!("{answer:?}")
        };
        assert!(
            why.to_string().contains("`holds the limit`") && why.to_string().contains("`is held back`"),
            "{why}"
        );
        assert_eq!(held.wait(), Ok(7), "it runs when the limit lets it");
        end(&pool);
    });
}

#[test]
fn p10_a_task_held_back_by_a_limit_that_another_occupies_is_waited_for() {
    in_time(|| {
        let pool = Pool::builder().workers(4).build().unwrap();
        let two = pool.queue("two").limit(2).add().unwrap();
        let gate = Gate::new();
        let pass = gate.clone();
        let other = pool.options().queue(&two).spawn(move || pass.pass()).unwrap();
        gate.arrived(1);
        let inner = (pool.clone(), two.clone(), gate.clone());
        let task = pool
            .options()
            .queue(&two)
            .spawn(move || {
                let (pool, two, gate) = inner;
                let held = pool.options().queue(&two).spawn(|| 7).unwrap();
                gate.open();
                held.wait()
            })
            .unwrap();
        assert_eq!(task.wait().unwrap(), Ok(7));
        other.wait().unwrap();
        end(&pool);
    });
}

#[test]
fn p10_a_task_of_a_key_that_waits_for_the_next_of_its_key_is_told() {
    in_time(|| {
        let pool = Pool::builder().workers(3).build().unwrap();
        let serial = pool.queue("serial").key_limit(1).add().unwrap();
        let inner = (pool.clone(), serial.clone());
        let strand = |key: &'static str| {
            let (pool, serial) = inner.clone();
            pool.clone()
                .options()
                .queue(&serial.clone())
                .key(&key)
                .label(key)
                .spawn(move || {
                    let (other, same) = (
                        pool.options().queue(&serial).key(&"another").spawn(|| 1).unwrap(),
                        pool.options().queue(&serial).key(&key).spawn(|| 2).unwrap(),
                    );
                    (other.wait(), same.wait(), same)
                })
        };
        let (other, same, task) = strand("one").unwrap().wait().unwrap();
        assert_eq!(other, Ok(1));
        assert!(matches!(same, Err(TaskError::WouldDeadlock(_))), "{same:?}");
        assert_eq!(task.wait(), Ok(2));
        end(&pool);
    });
}

#[test]
fn p10_keyed_tasks_run_here_past_the_limit_if_their_key_lets_them() {
    in_time(|| {
        let pool = pool(0);
        let keyed = pool.queue("keyed").key_limit(1).add().unwrap();
        let inner = (pool.clone(), keyed.clone());
        let task = pool
            .options()
            .queue(&keyed)
            .key(&1)
            .spawn(move || {
                let (pool, keyed) = inner;
                pool.options().queue(&keyed).key(&2).spawn(|| 7).unwrap().wait()
            })
            .unwrap();
        assert_eq!(task.wait().unwrap(), Ok(7));
        end(&pool);
    });
}
