//! Field failures: each situation in which at least one of twenty native pools hung, lost an answer or died.
//!
//! Keeps true: in each of them every task is answered, in time. (Fork, waits inside workers, groups and single flight
//! are not here: they come with the features they belong to.)

#[path = "../../core/tests/support/mod.rs"]
mod support;

use duly::{
    BuildError, CancellationToken, Context, Outcome, Overflow, Pool, ShutdownError, SubmitErrorKind, Task, TaskError,
    TaskState, Threads,
};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use support::{Drops, Gate, LONG, end, eventually, ms, stuck_pool, threads_named};

/// What answering at once may take on a busy machine.
const SOON: Duration = Duration::from_secs(5);

/// The middle one of 101 measured spans: what a busy machine does to single ones is no failure.
fn median(mut measure: impl FnMut() -> Duration) -> Duration {
    let mut spans: Vec<_> = (0..101).map(|_| measure()).collect();
    spans.sort();
    spans[spans.len() / 2]
}

// ---- stuck workers ----

#[test]
fn p02_a_task_queued_behind_a_stuck_worker_is_answered_by_shutdown() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder(), 1);
    let queued = pool.spawn(|| ()).unwrap();
    let waiter = {
        let queued = queued.clone();
        thread::spawn(move || queued.wait_timeout(LONG).expect("the waiter hangs"))
    };
    let report = pool.shutdown(ms(50)).unwrap();
    assert!(report.elapsed < SOON, "{report}");
    assert!(matches!(waiter.join().unwrap(), Err(TaskError::Abandoned(_))));
    assert_eq!(
        report
            .abandoned
            .iter()
            .filter(|task| task.state == TaskState::Queued)
            .count(),
        1
    );
    gate.open();
}

#[test]
fn p02_a_running_stuck_task_is_answered_by_shutdown() {
    let (pool, gate, stuck) = stuck_pool(Pool::builder(), 3);
    let report = pool.shutdown(ms(50)).unwrap();
    assert!(report.elapsed < SOON, "{report}");
    for task in &stuck {
        assert_eq!(task.outcome(), Some(Outcome::Abandoned));
    }
    let mut named: Vec<_> = report.abandoned.iter().filter_map(|task| task.name.label()).collect();
    named.sort();
    assert_eq!(named, ["stuck-0", "stuck-1", "stuck-2"]);
    assert_eq!(report.threads_left, 3);
    gate.open();
}

#[test]
fn p02_cancelling_a_queued_task_while_all_workers_are_stuck_answers_within_10_ms() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder(), 2);
    let span = median(|| {
        let task = pool.spawn(|| ()).unwrap();
        let waiter = {
            let task = task.clone();
            thread::spawn(move || (task.wait_outcome(LONG), Instant::now()))
        };
        let began = Instant::now();
        assert!(task.cancel());
        let (outcome, answered) = waiter.join().unwrap();
        assert_eq!(outcome, Some(Outcome::Cancelled));
        answered.saturating_duration_since(began)
    });
    assert!(span < ms(10), "{span:?}");
    gate.open();
    end(&pool);
}

#[test]
fn p05_cancelling_a_queued_task_frees_its_slot_and_its_data_at_once() {
    let builder = Pool::builder().capacity(2).overflow(Overflow::Reject);
    let (pool, gate, _stuck) = stuck_pool(builder, 1);
    let drops = Drops::default();
    let queued: Vec<_> = (0..2)
        .map(|_| {
            let probe = drops.probe();
            pool.spawn(move || drop(probe)).unwrap()
        })
        .collect();
    assert_eq!(pool.try_spawn(|| ()).unwrap_err().kind(), SubmitErrorKind::QueueFull);
    assert!(queued[0].cancel());
    let next = pool.try_spawn(|| ()).expect("the cancelled task keeps its slot");
    assert_eq!(pool.stats().queued, 2);
    assert!(queued[0].released(SOON), "the cancelled task keeps its data");
    assert_eq!(drops.count(), 1);
    gate.open();
    assert!(next.wait().is_ok() && queued[1].wait().is_ok());
    end(&pool);
}

#[test]
fn p02_a_deadline_fires_while_every_worker_is_stuck() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder(), 2);
    let began = Instant::now();
    let task = pool.options().timeout(ms(30)).spawn(|| ()).unwrap();
    assert!(matches!(
        task.wait_timeout(LONG),
        Some(Err(TaskError::DeadlineExceeded(_)))
    ));
    let took = began.elapsed();
    assert!(took >= ms(30) && took < SOON, "{took:?}");
    assert_eq!(pool.stats().queued, 0);
    gate.open();
    end(&pool);
}

#[test]
fn p13_a_snapshot_never_waits_for_a_stuck_worker() {
    let (pool, gate, stuck) = stuck_pool(Pool::builder().name("snapshot"), 4);
    let span = median(|| {
        let began = Instant::now();
        let (stats, running) = (pool.stats(), pool.running());
        assert_eq!((stats.running, running.len()), (4, 4));
        began.elapsed()
    });
    assert!(span < ms(5), "{span:?}");
    assert!(stuck[0].cancel());
    let leaks = pool.leaks();
    assert_eq!(leaks.len(), 1);
    assert_eq!(leaks[0].name.label(), Some("stuck-0"));
    assert!(
        leaks[0]
            .thread
            .as_deref()
            .is_some_and(|name| name.starts_with("snapshot")),
        "{:?}",
        leaks[0]
    );
    assert!(leaks[0].name.submitted_at().is_some());
    gate.open();
    end(&pool);
}

// ---- overflow ----

#[test]
fn p01_the_victim_of_drop_oldest_is_answered() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder().capacity(1).overflow(Overflow::DropOldest), 1);
    let victim = pool.spawn(|| 1).unwrap();
    let waiter = {
        let victim = victim.clone();
        thread::spawn(move || victim.wait_timeout(LONG).expect("the victim's waiter hangs"))
    };
    let next = pool.spawn(|| 2).unwrap();
    assert!(matches!(waiter.join().unwrap(), Err(TaskError::Shed(_))));
    gate.open();
    assert_eq!(next.wait().unwrap(), 2);
    assert_eq!(end(&pool).shed, 1);
}

#[test]
fn p04_caller_runs_after_close_is_refused() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder().capacity(1).overflow(Overflow::CallerRuns), 1);
    let _queued = pool.spawn(|| ()).unwrap();
    let here = thread::current().id();
    let run = pool.spawn(move || thread::current().id() == here).unwrap();
    assert!(run.wait().unwrap(), "the queue is full: the caller runs it");
    pool.close();
    let drops = Drops::default();
    let probe = drops.probe();
    let refused = pool.spawn(move || drop(probe)).unwrap_err();
    assert_eq!(refused.kind(), SubmitErrorKind::ShutDown);
    refused.into_callback()();
    assert_eq!(drops.count(), 1);
    gate.open();
    end(&pool);
}

// ---- blocked producers ----

/// What a producer that waits for room is told, after `release` has been called.
fn blocked_producer(
    options: impl Fn(&Pool) -> duly::Options<'_> + Send + 'static,
    release: impl FnOnce(&Pool, &Gate),
) -> Result<Task<()>, SubmitErrorKind> {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder().capacity(1), 1);
    let _queued = pool.spawn(|| ()).unwrap();
    let (tell, told) = mpsc::channel();
    let producer = {
        let pool = pool.clone();
        thread::spawn(move || {
            tell.send(options(&pool).spawn(|| ()).map_err(|error| error.kind()))
                .unwrap()
        })
    };
    eventually("the producer waits", || {
        pool.stats().blocked_producers == 1 || producer.is_finished()
    });
    release(&pool, &gate);
    let answer = told.recv_timeout(SOON).expect("the producer is still blocked");
    eventually("nobody is counted as blocked", || pool.stats().blocked_producers == 0);
    gate.open();
    end(&pool);
    answer
}

#[test]
fn p04_a_blocked_producer_is_woken_by_close() {
    let answer = blocked_producer(|pool| pool.options(), |pool, _| pool.close());
    assert_eq!(answer.unwrap_err(), SubmitErrorKind::ShutDown);
}

#[test]
fn p04_a_blocked_producer_is_woken_by_its_token() {
    let token = CancellationToken::new();
    let watched = token.clone();
    let answer = blocked_producer(move |pool| pool.options().token(&watched), |_, _| token.cancel());
    assert_eq!(answer.unwrap_err(), SubmitErrorKind::Cancelled);
}

#[test]
fn p04_a_blocked_producer_is_woken_by_its_timeout() {
    let answer = blocked_producer(|pool| pool.options().submit_timeout(ms(100)), |_, _| ());
    assert_eq!(answer.unwrap_err(), SubmitErrorKind::SubmitTimedOut);
}

#[test]
fn p04_a_blocked_producer_is_woken_by_its_tasks_deadline() {
    let answer = blocked_producer(|pool| pool.options().timeout(ms(100)), |_, _| ());
    assert_eq!(answer.unwrap_err(), SubmitErrorKind::DeadlineExceeded);
}

#[test]
fn p04_a_blocked_producer_is_woken_by_room() {
    let answer = blocked_producer(|pool| pool.options(), |_, gate| gate.open());
    assert!(answer.unwrap().wait_timeout(SOON).is_some_and(|answer| answer.is_ok()));
}

#[test]
fn p07_a_blocked_producer_is_woken_when_every_worker_panics() {
    const WORKERS: usize = 4;
    let pool = Pool::builder().workers(WORKERS).capacity(1).build().unwrap();
    let gate = Gate::new();
    let panics: Vec<_> = (0..WORKERS)
        .map(|_| {
            let gate = gate.clone();
            pool.spawn(move || -> () {
                gate.pass();
                panic!("all at once")
            })
            .unwrap()
        })
        .collect();
    gate.arrived(WORKERS);
    let _queued = pool.spawn(|| ()).unwrap();
    let (tell, told) = mpsc::channel();
    let producer = pool.clone();
    thread::spawn(move || tell.send(producer.spawn(|| 7).map_err(|error| error.kind())).unwrap());
    eventually("the producer waits", || pool.stats().blocked_producers == 1);
    gate.open();
    let task = told.recv_timeout(SOON).expect("the producer is still blocked").unwrap();
    assert_eq!(task.wait_timeout(SOON).expect("no worker has survived").unwrap(), 7);
    for task in &panics {
        assert!(matches!(task.wait(), Err(TaskError::Panicked(panic)) if panic.message() == "all at once"));
    }
    end(&pool);
}

// ---- from inside a task ----

#[test]
fn p13_a_callback_may_submit_and_may_not_shut_down() {
    let pool = Pool::builder().workers(1).max_replacements(0).build().unwrap();
    let task = pool
        .submit(|ctx: &Context| {
            let pool = ctx.pool();
            assert!(matches!(pool.shutdown(LONG), Err(ShutdownError::FromWorker)));
            // Its task runs once this callback has returned: nobody may stand in for the one worker.
            let inner = pool.spawn(|| 5).map_err(|error| error.to_string())?;
            assert!(inner.wait_timeout(ms(1)).is_none());
            pool.close();
            assert_eq!(pool.spawn(|| ()).unwrap_err().kind(), SubmitErrorKind::ShutDown);
            Ok::<_, String>(inner)
        })
        .unwrap();
    let inner = task.wait_timeout(LONG).expect("the callback hangs").unwrap();
    assert_eq!(inner.wait_timeout(LONG).expect("what it submitted is lost").unwrap(), 5);
    end(&pool);
}

#[test]
fn p13_the_last_handle_may_be_dropped_by_a_callback() {
    let pool = Pool::builder().name("inner-drop").workers(1).build().unwrap();
    let (send, held) = mpsc::channel::<Pool>();
    let task = pool.spawn(move || drop(held.recv().unwrap())).unwrap();
    send.send(pool).unwrap();
    assert!(
        task.wait_timeout(LONG)
            .expect("dropping a pool in its own worker hangs")
            .is_ok()
    );
    eventually("its threads end", || threads_named("inner-drop").is_empty());
}

// ---- waits ----

#[test]
fn p01_two_kinds_of_waits_at_once_lose_no_wake_up() {
    const ROUNDS: usize = 20_000;
    let pool = Pool::builder().workers(2).build().unwrap();
    let (send, tasks) = mpsc::sync_channel::<Task<usize>>(64);
    let timed = thread::spawn(move || {
        for task in tasks {
            // Ends at about the moment the other wait is woken.
            let _ = task.wait_outcome(Duration::from_micros(10));
        }
    });
    let (tell, told) = mpsc::channel();
    let (submitter, reached) = (pool.clone(), Arc::new(AtomicUsize::new(0)));
    let round = reached.clone();
    // The plain waits stand on a thread of their own: one that is never woken must not take the test with it.
    thread::spawn(move || {
        // As many as a machine that is busy gets through in a while: there, each wait is some time slices of others.
        let (until, mut number) = (Instant::now() + LONG, 0);
        while number < ROUNDS && (number < 500 || Instant::now() < until) {
            let task = submitter.spawn(move || number).unwrap();
            send.send(task.clone()).unwrap();
            assert_eq!(task.wait().unwrap(), number);
            round.store(number, Ordering::Relaxed);
            number += 1;
        }
        tell.send(number).unwrap();
    });
    let rounds = told.recv_timeout(15 * LONG).unwrap_or_else(|_| {
        let reached = reached.load(Ordering::Relaxed);
        panic!("a wait was not woken, or lost its value, after round {reached}")
    });
    timed.join().unwrap();
    assert_eq!(end(&pool).succeeded, rounds as u64);
}

// ---- several pools ----

#[test]
fn p09_ending_one_pool_leaves_another_at_work() {
    let working = Pool::builder()
        .name("pool-b")
        .workers(2)
        .capacity(4096)
        .build()
        .unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicUsize::new(0));
    let producer = {
        let (pool, stop, done) = (working.clone(), stop.clone(), done.clone());
        thread::spawn(move || {
            let mut submitted = 0;
            while !stop.load(Ordering::Relaxed) {
                let done = done.clone();
                drop(pool.spawn(move || done.fetch_add(1, Ordering::Relaxed)).unwrap());
                submitted += 1;
            }
            submitted
        })
    };
    for round in 0..50 {
        let (pool, gate, _stuck) = stuck_pool(Pool::builder().name("pool-a"), 2);
        let queued = pool.spawn(|| ()).unwrap();
        match round % 3 {
            0 => drop(pool.shutdown(ms(0)).unwrap()),
            1 => drop(pool.shutdown_async(ms(0))),
            _ => drop(pool),
        }
        gate.open();
        drop(queued);
    }
    eventually("pool A's threads end", || threads_named("pool-a").is_empty());
    stop.store(true, Ordering::Relaxed);
    let submitted = producer.join().unwrap();
    let stats = end(&working);
    assert_eq!(
        (stats.succeeded, done.load(Ordering::Relaxed)),
        (submitted, submitted as usize)
    );
}

#[test]
fn p09_queued_tasks_do_not_run_after_shutdown_now() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder(), 1);
    let (ran, drops) = (Arc::new(AtomicUsize::new(0)), Drops::default());
    let queued: Vec<_> = (0..200)
        .map(|_| {
            let (ran, probe) = (ran.clone(), drops.probe());
            pool.spawn(move || {
                ran.fetch_add(1, Ordering::SeqCst);
                drop(probe);
            })
            .unwrap()
        })
        .collect();
    let report = pool.shutdown(ms(0)).unwrap();
    assert!(queued.iter().all(|task| task.outcome() == Some(Outcome::Abandoned)));
    assert_eq!(report.abandoned.len(), 201);
    // The worker is free again, and must not touch them.
    gate.open();
    eventually("the worker ends", || pool.stats().workers == 0);
    for task in &queued {
        assert!(task.released(LONG));
    }
    assert_eq!((ran.load(Ordering::SeqCst), drops.count()), (0, 200));
}

// ---- threads that cannot be created ----

#[test]
fn p09_a_pool_whose_threads_cannot_be_created_is_an_error_and_leaves_none() {
    if is_child() {
        // Four stacks of 1 GiB do not fit: the system refuses the second or third thread.
        let builder = Pool::builder().name("no-stack").workers(4).stack_size(1 << 30);
        let error = builder.build().unwrap_err();
        assert!(matches!(&error, BuildError::Thread { index: 1..=3, .. }), "{error}");
        eventually("no thread stays", || threads_named("no-stack").is_empty());
        // Others can still be built.
        assert_eq!(
            Pool::builder()
                .workers(1)
                .build()
                .unwrap()
                .spawn(|| 4)
                .unwrap()
                .wait()
                .unwrap(),
            4
        );
        std::process::exit(17);
    }
    let test = "p09_a_pool_whose_threads_cannot_be_created_is_an_error_and_leaves_none";
    let (status, _, said) = in_child(test, Some("ulimit -v 3000000"));
    assert_eq!(status.code(), Some(17), "{said}");
}

#[test]
fn p09_a_spawner_that_fails_is_an_error_of_build_and_leaves_no_thread() {
    // The third one fails: the first two go.
    let created = AtomicUsize::new(0);
    let error = Pool::builder()
        .name("two-of-four")
        .workers(4)
        .spawner(move |worker| {
            if created.fetch_add(1, Ordering::SeqCst) == 2 {
                return Err(std::io::Error::from_raw_os_error(11));
            }
            thread::Builder::new()
                .name("two-of-four".into())
                .spawn(move || worker.run())
                .map(drop)
        })
        .build()
        .unwrap_err();
    assert!(
        matches!(&error, BuildError::Thread { index: 2, source } if source.raw_os_error() == Some(11)),
        "{error}"
    );
    eventually("no thread stays", || threads_named("two-of-fou").is_empty());
}

#[test]
fn p02_a_task_is_answered_though_no_thread_can_be_created_for_it() {
    let able = Arc::new(AtomicBool::new(false));
    let asked = able.clone();
    let pool = Pool::builder()
        .workers(1)
        .threads(Threads::OnDemand)
        .spawner(move |worker| {
            if !asked.load(Ordering::SeqCst) {
                return Err(std::io::Error::from_raw_os_error(11));
            }
            thread::Builder::new().spawn(move || worker.run()).map(drop)
        })
        .build()
        .unwrap();
    let late = pool.options().timeout(ms(50)).spawn(|| ()).unwrap();
    assert!(matches!(
        late.wait_timeout(LONG),
        Some(Err(TaskError::DeadlineExceeded(_)))
    ));
    let cancelled = pool.spawn(|| ()).unwrap();
    assert!(cancelled.cancel());
    // Once threads can be had again, what waits is run without another submit.
    let patient = pool.spawn(|| 9).unwrap();
    assert!(patient.wait_outcome(ms(50)).is_none());
    able.store(true, Ordering::SeqCst);
    assert_eq!(patient.wait_timeout(LONG).expect("the task is orphaned").unwrap(), 9);
    end(&pool);
}

// ---- the end of the process ----

/// Runs one test of this file in a process of its own, in which it takes its other branch; after `limit`, a command of
/// the shell.
fn in_child(test: &str, limit: Option<&str>) -> (ExitStatus, Duration, String) {
    let began = Instant::now();
    let mut child = Command::new("sh")
        .arg("-c")
        .arg(format!("{}; exec \"$0\" \"$@\"", limit.unwrap_or(":")))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads", "1"])
        .env(CHILD, "1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let until = began + LONG;
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if Instant::now() > until => {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("the process of {test} does not end");
            }
            None => thread::sleep(ms(5)),
        }
    };
    let mut said = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut said).unwrap();
    (status, began.elapsed(), said)
}

const CHILD: &str = "DULY_FIELD_FAILURE_CHILD";

fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

#[test]
fn p09_exit_returns_while_a_task_is_stuck() {
    if is_child() {
        let (pool, gate, stuck) = stuck_pool(Pool::builder(), 2);
        let _queued = pool.spawn(|| ()).unwrap();
        stuck[0].cancel();
        std::mem::forget((gate, stuck));
        std::process::exit(17);
    }
    let (status, took, said) = in_child("p09_exit_returns_while_a_task_is_stuck", None);
    assert_eq!(status.code(), Some(17), "{said}");
    assert!(took < LONG / 2, "{took:?}");
}

#[test]
fn p07_a_callback_that_ends_its_thread_ends_the_process_with_a_message() {
    unsafe extern "C-unwind" {
        fn pthread_exit(value: *mut std::ffi::c_void) -> !;
    }
    if is_child() {
        let pool = Pool::builder().workers(1).build().unwrap();
        let task: Task<()> = pool
            .spawn(|| {
                // SAFETY: not sound to survive, which is why the process must end here.
                unsafe { pthread_exit(std::ptr::null_mut()) }
            })
            .unwrap();
        let _ = task.wait_timeout(LONG);
        std::process::exit(0);
    }
    use std::os::unix::process::ExitStatusExt;
    let (status, _, said) = in_child(
        "p07_a_callback_that_ends_its_thread_ends_the_process_with_a_message",
        None,
    );
    const SIGABRT: i32 = 6;
    assert_eq!(status.signal(), Some(SIGABRT), "{status}: {said}");
    assert!(!said.trim().is_empty(), "it aborted without a word");
}
