//! P11: in a forked child nothing hangs: inherited tasks without an outcome are abandoned, an inherited pool is shut down, a
//! new pool works, and the parent is undisturbed.
//!
//! Each child is the copy of a process in which other tests run as well, whose threads may hold any lock at the fork. A
//! child checks by `Result`, for a panic takes locks of std that may be held, too; it is killed when it hangs.
//!
//! `DULY_FORKS` says how often the tests under load fork (100).

mod support;

use duly::{
    CancelReason, CancellationToken, Completions, Interrupted, Outcome, Overflow, Pool, SubmitErrorKind, Task,
    TaskError,
};
use std::future::Future;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use support::*;

type Checked = Result<(), String>;

/// In a child: an error, not a panic.
macro_rules! check {
    ($holds:expr) => {
        check!($holds, "does not hold")
    };
    ($holds:expr, $($message:tt)+) => {
        if !$holds {
            return Err(format!("line {}: {}: {}", line!(), stringify!($holds), format_args!($($message)+)));
        }
    };
}

struct Child {
    pid: libc::pid_t,
    told: std::fs::File,
}

fn pipe() -> (std::fs::File, std::fs::File) {
    let mut ends = [0; 2];
    // SAFETY: room for both ends.
    assert_eq!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }, 0);
    // SAFETY: both have just been opened, and are nobody else's.
    ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) })
        .map(std::fs::File::from)
        .into()
}

/// Forks; the child runs `check` and exits. It is killed when it takes too long.
fn fork(check: impl FnOnce() -> Checked) -> Child {
    let (told, mut tell) = pipe();
    // SAFETY: the child calls nothing that another test of this file may have locked: the allocator is libc's, which takes
    // care of forks.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "{}", std::io::Error::last_os_error());
    if pid != 0 {
        return Child { pid, told };
    }
    // SAFETY: no handler is installed: the signal kills.
    unsafe { libc::alarm(LONG.as_secs().max(1) as u32) };
    let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check));
    let status = match checked.unwrap_or_else(|_| Err("the child panicked".into())) {
        Ok(()) => 0,
        Err(message) => {
            let _ = tell.write_all(message.as_bytes());
            1
        }
    };
    // SAFETY: ends the process.
    unsafe { libc::_exit(status) }
}

impl Child {
    /// Waits for its end.
    fn end(mut self) -> Checked {
        let mut status = 0;
        // SAFETY: `status` is valid for writes.
        let ended = unsafe { libc::waitpid(self.pid, &mut status, 0) };
        check!(ended == self.pid);
        if libc::WIFSIGNALED(status) {
            return Err(format!(
                "the child was ended by signal {}: it hung",
                libc::WTERMSIG(status)
            ));
        }
        if libc::WEXITSTATUS(status) == 0 {
            return Ok(());
        }
        if libc::WEXITSTATUS(status) != 1 {
            return Err(format!("the child exits with {}", libc::WEXITSTATUS(status)));
        }
        // Another child may hold the other end open: so not to its end.
        // SAFETY: a flag of a descriptor that is open.
        unsafe { libc::fcntl(self.told.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
        let mut message = vec![0; 4096];
        let length = self.told.read(&mut message).unwrap_or(0);
        Err(String::from_utf8_lossy(&message[..length]).into_owned())
    }
}

/// Forks, and fails as the child does.
#[track_caller]
fn in_child(check: impl FnOnce() -> Checked) {
    fork(check).end().unwrap();
}

fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn forks() -> usize {
    std::env::var("DULY_FORKS").map_or(100, |forks| forks.parse().unwrap())
}

/// What a child expects of a pool of its parent.
fn check_inherited(pool: &Pool) -> Checked {
    let began = Instant::now();
    check!(pool.is_inherited() && pool.is_closed());
    let word = String::from("captured");
    let refused = pool.spawn(move || word).map(|_| ());
    let Err(refused) = refused else {
        return Err("an inherited pool has accepted a task".into());
    };
    check!(refused.kind() == SubmitErrorKind::ShutDown, "{refused}");
    check!(refused.to_string().contains("forked"), "{refused}");
    check!(refused.into_callback()() == "captured");
    check!(
        pool.try_spawn(|| ())
            .is_err_and(|e| e.kind() == SubmitErrorKind::ShutDown)
    );
    let options = pool.options().label("x").timeout(LONG).token(&CancellationToken::new());
    check!(
        options
            .spawn(|| ())
            .is_err_and(|e| e.kind() == SubmitErrorKind::ShutDown)
    );
    check!(
        pool.spawn_many((0..3).map(|n| move || n))
            .is_err_and(|e| e.into_parts().1.len() == 3)
    );
    let mut submit = pin!(pool.submit_async(|_| Ok::<_, ()>(())));
    check!(matches!(poll_once(&mut submit), Poll::Ready(Err(e)) if e.kind() == SubmitErrorKind::ShutDown));
    drop(pool.submit_async(|_| Ok::<_, ()>(())));
    check!(matches!(
        poll_once(&mut pin!(pool.run(|_| Ok::<_, ()>(())))),
        Poll::Ready(Err(_))
    ));
    check!(pool.map(0..10, |n| n).all(|answer| answer.is_err()));
    pool.close();
    check!(pool.stats().submitted == 0 && pool.stats().workers == 0);
    check!(pool.running().is_empty() && pool.leaks().is_empty() && pool.worker().is_none());
    let report = pool.shutdown(LONG).map_err(|e| e.to_string())?;
    check!(!report.drained && report.threads_left == 0);
    let mut shutdown = pool.shutdown_async(LONG);
    check!(matches!(poll_once(&mut shutdown), Poll::Ready(Ok(_))));
    check!(!format!("{pool:?}").is_empty());
    drop(pool.clone());
    check!(began.elapsed() < LONG / 4, "it took {:?}", began.elapsed());
    Ok(())
}

/// What a child expects of a task that had no outcome.
fn check_abandoned(task: &Task<u64>) -> Checked {
    let began = Instant::now();
    check!(
        task.wait_outcome(Duration::ZERO) == Some(Outcome::Abandoned),
        "{task:?}"
    );
    check!(!task.cancel(), "it has an outcome already");
    check!(task.outcome() == Some(Outcome::Abandoned), "{task:?}");
    check!(
        task.wait_timeout(LONG)
            .is_some_and(|a| a.is_err_and(|e| e.outcome() == Some(Outcome::Abandoned)))
    );
    check!(matches!(task.wait(), Err(TaskError::Abandoned(_))));
    check!(task.wait_outcome(LONG) == Some(Outcome::Abandoned));
    check!(matches!(
        poll_once(&mut task.clone()),
        Poll::Ready(Err(TaskError::Abandoned(_)))
    ));
    check!(
        task.wait_with(&CancellationToken::new(), None)
            .is_ok_and(|a| a.is_err())
    );
    check!(task.released(LONG) && task.is_released());
    let told = Arc::new(AtomicU64::new(0));
    let tell = told.clone();
    task.on_complete(move |outcome| tell.store(1 + outcome as u64, Ordering::Relaxed));
    check!(told.load(Ordering::Relaxed) == 1 + Outcome::Abandoned as u64);
    check!(began.elapsed() < LONG / 4, "it took {:?}", began.elapsed());
    Ok(())
}

/// What a child expects of a pool of its own.
fn check_new_pool() -> Checked {
    let pool = Pool::builder()
        .workers(2)
        .capacity(4)
        .build()
        .map_err(|e| e.to_string())?;
    check!(!pool.is_inherited());
    let tasks: Vec<_> = (0..50u64).flat_map(|n| pool.spawn(move || n)).collect();
    let sum: u64 = tasks.iter().flat_map(|task| task.wait()).sum();
    check!(sum == 1225, "{sum}");
    let late = pool.options().timeout(ms(5)).submit(|ctx| ctx.sleep(LONG));
    let late = late.map_err(|e| e.to_string())?;
    check!(late.wait_outcome(LONG) == Some(Outcome::DeadlineExceeded));
    let token = CancellationToken::new();
    let told = pool.options().token(&token.child()).submit(|ctx| ctx.sleep(LONG));
    let told = told.map_err(|e| e.to_string())?;
    token.cancel();
    check!(told.wait_outcome(LONG) == Some(Outcome::Cancelled));
    let report = pool.shutdown(LONG).map_err(|e| e.to_string())?;
    check!(report.drained && report.stats.books_balance(), "{report}");
    check!(report.stats.submitted == 52, "{report}");
    Ok(())
}

#[test]
fn p11_an_inherited_pool_is_shut_down_and_a_new_one_works() {
    let pool = Pool::builder().workers(2).build().unwrap();
    assert!(!pool.is_inherited());
    assert_eq!(pool.spawn(|| 1).unwrap().wait().unwrap(), 1);
    in_child(|| {
        check_inherited(&pool)?;
        check_new_pool()
    });
    assert!(!pool.is_inherited());
    assert_eq!(pool.spawn(|| 2).unwrap().wait().unwrap(), 2);
    assert_eq!(end(&pool).submitted, 2, "the child's refusals are its own");
}

#[test]
fn p11_tasks_without_an_outcome_are_abandoned_in_the_child_alone() {
    let (pool, gate, stuck) = stuck_pool(Pool::builder(), 2);
    let drops = Drops::default();
    let queued: Vec<Task<u64>> = (0..4)
        .map(|n| {
            let probe = drops.probe();
            let options = pool.options().timeout(if n % 2 == 0 { LONG } else { LONG * 2 });
            let callback = move || {
                let _probe = &probe;
                n
            };
            if n < 3 {
                options.spawn(callback)
            } else {
                options.label("queued").spawn(callback)
            }
            .unwrap()
        })
        .collect();
    // One of them has a waker, and a thread waits for another.
    let mut polled = queued[0].clone();
    assert!(poll_once(&mut polled).is_pending());
    let waited = queued[1].clone();
    let waiter = std::thread::spawn(move || waited.wait());
    let expired = pool.options().timeout(ms(1)).spawn(|| 0u64).unwrap();
    assert_eq!(expired.wait_outcome(LONG), Some(Outcome::DeadlineExceeded));
    // The timer has them in its wheel.
    std::thread::sleep(ms(30));
    in_child(|| {
        for task in &queued {
            check_abandoned(task)?;
        }
        for task in &stuck {
            check!(task.outcome() == Some(Outcome::Abandoned));
        }
        check!(
            expired.outcome() == Some(Outcome::DeadlineExceeded),
            "it had ended before"
        );
        check!(matches!(
            poll_once(&mut polled),
            Poll::Ready(Err(TaskError::Abandoned(_)))
        ));
        // As the child's last handles: nothing is dropped, freed or told.
        for task in queued.iter().chain([&polled, &expired]) {
            // SAFETY: the original is not used in this process any more.
            drop(unsafe { std::ptr::read(task) });
        }
        check!(drops.count() == 0, "captured data was dropped");
        // SAFETY: as above.
        drop(unsafe { std::ptr::read(&pool) });
        Ok(())
    });
    gate.open();
    for (n, task) in queued.iter().enumerate().filter(|(n, _)| *n != 1) {
        assert_eq!(task.wait().unwrap(), n as u64);
    }
    assert_eq!(waiter.join().unwrap().unwrap(), 1);
    assert_eq!(drops.count(), 4);
    drop(stuck);
    end(&pool);
}

#[test]
fn p11_a_task_that_had_ended_keeps_its_outcome_and_its_value() {
    let pool = Pool::builder().workers(1).build().unwrap();
    let drops = Drops::default();
    let text = pool.spawn(|| "a value".to_owned()).unwrap();
    let probe = drops.probe();
    let kept = pool.spawn(move || probe).unwrap();
    let failed = pool.submit(|_| Err::<(), _>("an error".to_owned())).unwrap();
    let panicked = pool.spawn(|| panic!("a panic on purpose")).unwrap();
    panicked.wait_outcome(LONG);
    for outcome in [
        text.wait_outcome(LONG),
        kept.wait_outcome(LONG),
        failed.wait_outcome(LONG),
    ] {
        assert!(outcome.is_some());
    }
    end(&pool);
    drop(pool);
    in_child(|| {
        check!(text.wait() == Ok("a value".to_owned()));
        check!(matches!(text.wait(), Err(TaskError::Taken(_))));
        check!(failed.wait() == Err(TaskError::Failed("an error".to_owned())));
        check!(panicked.outcome() == Some(Outcome::Panicked));
        // SAFETY: the original is not used in this process any more.
        drop(unsafe { std::ptr::read(&kept) });
        check!(drops.count() == 0, "a value nobody took was dropped");
        Ok(())
    });
    assert_eq!(text.wait().unwrap(), "a value", "the child took its own copy");
    drop(kept);
    assert_eq!(drops.count(), 1);
}

#[test]
fn p11_inherited_tokens_are_cancelled_and_say_why() {
    let root = CancellationToken::new();
    let before = root.child();
    let cancelled = root.child();
    cancelled.cancel_with("before the fork");
    let mut pending = root.cancelled();
    assert!(poll_once(&mut pending).is_pending());
    let mut timed = CancellationToken::with_timeout(LONG).cancelled();
    assert!(poll_once(&mut timed).is_pending());
    in_child(|| {
        for token in [&root, &before, &root.child(), &before.child_with_timeout(LONG)] {
            check!(
                token.is_cancelled() && token.reason() == Some(CancelReason::Forked),
                "{token:?}"
            );
            check!(token.wait(None));
            token.cancel_with("again");
            check!(token.reason() == Some(CancelReason::Forked));
        }
        check!(cancelled.reason() == Some(CancelReason::from("before the fork")));
        check!(cancelled.child().reason() == Some(CancelReason::from("before the fork")));
        check!(poll_once(&mut pending).is_ready() && poll_once(&mut timed).is_ready());
        // SAFETY: the originals are not used in this process any more.
        unsafe {
            drop(std::ptr::read(&pending));
            drop(std::ptr::read(&timed));
            drop(std::ptr::read(&before));
            drop(std::ptr::read(&root).drop_guard());
        }
        let pool = Pool::builder().workers(1).build().map_err(|e| e.to_string())?;
        let refused = pool.options().token(&cancelled).spawn(|| ());
        check!(refused.is_err_and(|e| e.kind() == SubmitErrorKind::Cancelled));
        let own = CancellationToken::new();
        check!(!own.is_cancelled() && !own.child().is_cancelled());
        let mut soon = pin!(CancellationToken::with_timeout(ms(2)).cancelled());
        block_on(&mut soon);
        Ok(())
    });
    assert!(!root.is_cancelled() && !before.is_cancelled());
    root.cancel();
    assert!(poll_once(&mut pending).is_ready());
}

/// A generation forks the next, and finds all pools before it shut down.
fn generations(left: usize, pools: &mut Vec<Pool>) -> Checked {
    for pool in &*pools {
        check_inherited(pool)?;
    }
    check_new_pool()?;
    if left == 0 {
        return Ok(());
    }
    let (pool, gate, stuck) = stuck_pool(Pool::builder(), 1);
    let queued = pool.spawn(|| 7u64).map_err(|e| e.to_string())?;
    pools.push(pool);
    fork(|| {
        check_abandoned(&queued)?;
        generations(left - 1, pools)
    })
    .end()?;
    gate.open();
    check!(queued.wait() == Ok(7));
    let own = pools.last().ok_or("no pool")?;
    check!(!own.is_inherited());
    let report = own.shutdown(LONG).map_err(|e| e.to_string())?;
    check!(report.drained, "{report}");
    drop(stuck);
    Ok(())
}

#[test]
fn p11_children_of_children_have_pools_of_their_own() {
    generations(4, &mut Vec::new()).unwrap();
}

#[test]
fn p11_a_callback_that_forks_is_told_in_the_child_and_goes_on_in_the_parent() {
    let pool = Pool::builder().name("p11cb").workers(2).build().unwrap();
    let token = CancellationToken::new();
    let under = token.clone();
    let task = pool
        .options()
        .timeout(LONG)
        .token(&token)
        .submit(move |ctx| {
            fork(|| {
                check!(ctx.is_cancelled() && ctx.cause() == Some(Interrupted::Abandoned));
                check!(ctx.check() == Err(Interrupted::Abandoned));
                check!(ctx.sleep(LONG) == Err(Interrupted::Abandoned));
                check!(ctx.token().reason() == Some(CancelReason::Forked) && under.is_cancelled());
                let told = Arc::new(AtomicBool::new(false));
                let tell = told.clone();
                ctx.on_cancel(move |_| tell.store(true, Ordering::Relaxed)).forget();
                check!(told.load(Ordering::Relaxed), "the hook runs at once");
                check_inherited(&ctx.pool())?;
                // What it submits to a pool of its own is no business of the parent's task.
                check_new_pool()
            })
            .end()?;
            check!(!ctx.is_cancelled() && !ctx.token().is_cancelled());
            Ok::<_, String>(1)
        })
        .unwrap();
    assert_eq!(task.wait().unwrap(), 1);
    end(&pool);
}

/// The child lets the callback return: nothing of it is written to our output.
fn fork_and_return() -> Option<Child> {
    // SAFETY: as in `fork`; the child's only thread ends, and the process with it.
    match unsafe { libc::fork() } {
        0 => {
            // SAFETY: plain system calls. What the test harness has in its buffer is flushed at exit: to nowhere.
            unsafe {
                libc::alarm(LONG.as_secs().max(1) as u32);
                let nowhere = libc::open(c"/dev/null".as_ptr(), libc::O_WRONLY);
                libc::dup2(nowhere, 1);
            }
            None
        }
        pid => Some(Child { pid, told: pipe().0 }),
    }
}

#[test]
fn p11_a_thread_of_a_pool_ends_in_the_child_when_its_user_code_returns() {
    let pool = Pool::builder()
        .workers(1)
        .on_late(|_| {
            if let Some(child) = fork_and_return() {
                child.end().unwrap();
            }
        })
        .build()
        .unwrap();
    // In a callback, with others that wait for it and a queue behind it.
    let gate = Gate::new();
    let held = gate.clone();
    let forking = pool
        .options()
        .timeout(LONG)
        .label("forks")
        .spawn(move || {
            held.pass();
            fork_and_return().map(Child::end)
        })
        .unwrap();
    let parent = std::process::id();
    let next = pool
        .spawn(move || {
            if std::process::id() != parent {
                // SAFETY: ends the process.
                unsafe { libc::_exit(3) }
            }
            1
        })
        .unwrap();
    gate.open();
    assert_eq!(forking.wait().unwrap(), Some(Ok(())));
    assert_eq!(next.wait().unwrap(), 1);
    // In a completion callback on the worker, then on the delivery thread.
    let (tell, told) = std::sync::mpsc::channel();
    for cancel in [false, true] {
        let gate = Gate::new();
        let held = gate.clone();
        let first = pool.spawn(move || held.pass()).unwrap();
        gate.arrived(1);
        let task = if cancel {
            pool.spawn(|| ()).unwrap()
        } else {
            first.clone()
        };
        let tell = tell.clone();
        task.on_complete(move |_| {
            if let Some(child) = fork_and_return() {
                tell.send(child.end()).unwrap();
            }
        });
        if cancel {
            task.cancel();
        }
        gate.open();
        assert_eq!(told.recv_timeout(LONG).unwrap(), Ok(()));
        first.wait().unwrap();
    }
    // In the hook that is told of a late callback.
    let gate = Gate::new();
    let held = gate.clone();
    let late = pool.spawn(move || held.pass()).unwrap();
    gate.arrived(1);
    assert!(late.cancel());
    gate.open();
    assert!(late.released(LONG));
    assert_eq!(end(&pool).late, 1);
}

#[test]
fn p11_a_caller_that_runs_the_task_goes_on_in_the_child() {
    let (_, gate, stuck) = {
        let (pool, gate, stuck) = stuck_pool(Pool::builder().capacity(1).overflow(Overflow::CallerRuns), 1);
        let queued = pool.spawn(|| ()).unwrap();
        let run = pool.spawn(fork_and_return).unwrap();
        let answer = run.wait();
        let Ok(Some(child)) = answer else {
            // The child, which goes on here.
            let as_it_should = matches!(answer, Err(TaskError::Abandoned(_))) && queued.outcome().is_some();
            // SAFETY: ends the process.
            unsafe { libc::_exit(i32::from(!as_it_should)) }
        };
        child.end().unwrap();
        assert!(queued.outcome().is_none());
        (pool, gate, stuck)
    };
    gate.open();
    drop(stuck);
}

#[test]
fn p11_forks_in_the_middle_of_everything_disturb_nobody() {
    let pool = Pool::builder()
        .workers(2)
        .capacity(8)
        .max_blocked_producers(64)
        .build()
        .unwrap();
    // Stuck behind a gate: blocked producers, a delivery thread that is stuck in a destructor, tasks in the wheel.
    let (busy, gate, stuck) = stuck_pool(Pool::builder().capacity(2).drop_drain(ms(1)), 1);
    let held = gate.clone();
    struct Stuck(Gate);
    impl Drop for Stuck {
        fn drop(&mut self) {
            self.0.pass();
        }
    }
    let captured = Stuck(held);
    let shed = busy.spawn(move || drop(captured)).unwrap();
    shed.cancel();
    gate.arrived(2);
    let kept: Vec<_> = (0..2)
        .map(|n| busy.options().timeout(LONG * 100).spawn(move || n).unwrap())
        .collect();
    // However this test ends.
    struct Stop<'a>(&'a AtomicBool, Gate);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
            self.1.open();
        }
    }
    let stop = AtomicBool::new(false);
    let submitted = AtomicU64::new(0);
    let root = CancellationToken::new();
    std::thread::scope(|scope| {
        let stopping = Stop(&stop, gate.clone());
        for number in 0..8u64 {
            let (pool, stop, submitted, root) = (&pool, &stop, &submitted, &root);
            scope.spawn(move || {
                let mut turn = number;
                while !stop.load(Ordering::Relaxed) {
                    turn += 1;
                    let mut options = pool.options();
                    let token = root.child();
                    match turn % 5 {
                        0 => options = options.timeout(Duration::from_micros(turn % 1500)),
                        1 => options = options.token(&token),
                        2 => options = options.label("of many").timeout(LONG),
                        _ => {}
                    }
                    let task = options.submit(move |_| if turn % 7 == 0 { Err(turn) } else { Ok(turn) });
                    // One with a short timeout may be refused.
                    let Ok(task) = task else { continue };
                    submitted.fetch_add(1, Ordering::Relaxed);
                    match turn % 5 {
                        1 => token.cancel(),
                        2 => {
                            let _ = task.wait();
                        }
                        3 => {
                            let mut task = task;
                            let _ = poll_once(&mut task);
                        }
                        4 => {
                            drop(CancellationToken::with_timeout(LONG).cancelled());
                            let _ = pool.stats();
                        }
                        _ => {}
                    }
                }
            });
        }
        let blocked: Vec<_> = (0..2)
            .map(|n| {
                let busy = &busy;
                scope.spawn(move || busy.spawn(move || n).unwrap().wait())
            })
            .collect();
        eventually("blocked producers", || busy.stats().blocked_producers == 2);
        for round in 0..forks() {
            let tasks: Vec<_> = (0..8u64).map(|n| pool.spawn(move || n).unwrap()).collect();
            let mut waiting = pool.submit_async(|_| Ok::<_, ()>(()));
            let _ = poll_once(&mut waiting);
            let token = root.child();
            let child = fork(|| {
                for (n, task) in tasks.iter().enumerate() {
                    // Each had ended, with its value, or is abandoned.
                    match task.wait() {
                        Ok(value) => check!(value == n as u64),
                        Err(TaskError::Abandoned(_)) => check_abandoned(task)?,
                        other => return Err(format!("{other:?}")),
                    }
                }
                for task in &kept {
                    check!(task.outcome() == Some(Outcome::Abandoned));
                }
                check!(shed.outcome() == Some(Outcome::Cancelled) && shed.released(LONG));
                check!(root.is_cancelled() && token.is_cancelled());
                check_inherited(&pool)?;
                check_inherited(&busy)?;
                // SAFETY: the originals are not used in this process any more.
                unsafe {
                    drop(std::ptr::read(&waiting));
                    drop(std::ptr::read(&token));
                }
                if round % 4 == 0 { check_new_pool() } else { Ok(()) }
            });
            if let Err(message) = child.end() {
                panic!("fork {round}: {message}");
            }
            for (n, task) in tasks.iter().enumerate() {
                assert_eq!(task.wait().unwrap(), n as u64);
            }
        }
        drop(stopping);
        for (n, blocked) in blocked.into_iter().enumerate() {
            assert_eq!(blocked.join().unwrap().unwrap(), n);
        }
    });
    for task in stuck {
        task.wait().unwrap();
    }
    end(&busy);
    let stats = end(&pool);
    // The futures that were polled may have been accepted, too.
    let own = submitted.load(Ordering::Relaxed) + 8 * forks() as u64;
    assert!((own..=own + forks() as u64).contains(&stats.submitted), "{own} {stats}");
}

#[test]
fn p11_delayed_and_periodic_tasks_have_ended_in_the_child_and_go_on_in_the_parent() {
    let pool = Pool::builder().workers(2).capacity(8).build().unwrap();
    let delayed = pool.options().delay(ms(30)).spawn(|| 7u64).unwrap();
    let count = Arc::new(AtomicU64::new(0));
    let counts = count.clone();
    let beat = pool
        .every(ms(1))
        .submit(move |_| {
            counts.fetch_add(1, Ordering::SeqCst);
            Ok::<_, ()>(())
        })
        .unwrap();
    for _ in 0..forks().min(30) {
        in_child(|| {
            check!(delayed.outcome() == Some(Outcome::Abandoned) || delayed.wait().is_ok_and(|n| n == 7));
            check!(beat.end() == Some(duly::PeriodicEnd::ShutDown));
            check!(beat.wait() == duly::PeriodicEnd::ShutDown && !beat.cancel());
            check!(beat.next_tick().is_none() && beat.stats().runs == 0);
            check!(matches!(poll_once(&mut beat.clone()), Poll::Ready(_)));
            beat.token().cancel();
            let refused = pool.every(ms(1)).submit(|_| Ok::<_, ()>(()));
            check!(refused.is_err_and(|e| e.kind() == SubmitErrorKind::ShutDown));
            let own = Pool::builder().workers(1).build().map_err(|e| e.to_string())?;
            let task = own.options().delay(ms(2)).spawn(|| 3).map_err(|e| e.to_string())?;
            check!(
                task.wait_timeout(LONG)
                    .is_some_and(|answer| answer.is_ok_and(|n| n == 3))
            );
            let beat = own
                .every(ms(1))
                .submit(|_| Ok::<_, ()>(()))
                .map_err(|e| e.to_string())?;
            while beat.stats().runs < 2 {
                std::thread::sleep(ms(1));
            }
            check!(own.shutdown(LONG).is_ok_and(|report| report.drained));
            Ok(())
        });
    }
    assert_eq!(delayed.wait(), Ok(7));
    let before = count.load(Ordering::SeqCst);
    eventually("it goes on", || count.load(Ordering::SeqCst) > before);
    // A callback that forks: what is left of it in the child counts nothing.
    let (pid, tells) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let (forked, once) = (pid.clone(), tells.clone());
    let forks = pool
        .every(ms(1))
        .submit(move |_| {
            if !once.swap(true, Ordering::SeqCst) {
                // SAFETY: the child's callback returns, and its thread ends with the program.
                let child = unsafe { libc::fork() };
                if child == 0 {
                    // SAFETY: as in `fork`.
                    unsafe { libc::alarm(LONG.as_secs().max(1) as u32) };
                    std::thread::spawn(|| {
                        std::thread::sleep(ms(20));
                        // SAFETY: ends the process.
                        unsafe { libc::_exit(0) }
                    });
                }
                forked.store(child as u64, Ordering::SeqCst);
            }
            Ok::<_, ()>(())
        })
        .unwrap();
    eventually("it has forked", || pid.load(Ordering::SeqCst) != 0);
    let mut status = 0;
    // SAFETY: `status` is valid for writes.
    unsafe { libc::waitpid(pid.load(Ordering::SeqCst) as libc::pid_t, &mut status, 0) };
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "{status}");
    eventually("it goes on", || forks.stats().runs > 2);
    end(&pool);
}

#[test]
fn p11_what_is_built_on_a_pool_answers_at_once_in_the_child() {
    let (pool, gate, stuck) = stuck_pool(Pool::builder(), 1);
    let queue = pool.queue("other").capacity(2).limit(1).add().unwrap();
    let tasks: Vec<_> = (0..2u64)
        .map(|n| pool.options().queue(&queue).spawn(move || n).unwrap())
        .collect();
    let group = duly::Group::builder(&pool).limit(1).build();
    group.submit(|_| Ok::<_, ()>(())).unwrap();
    let mut submit = pin!(group.submit_async(|_| Ok::<_, ()>(())));
    assert!(poll_once(&mut submit).is_pending());
    let mut ended = pin!(group.wait_async());
    assert!(poll_once(&mut ended).is_pending());
    let mut completed = duly::as_completed(tasks.clone());
    assert!(completed.next_timeout(ms(1)).is_err());
    let periodic = pool.every(LONG).submit(|_| Ok::<_, ()>(())).unwrap();
    let flights = duly::SingleFlight::<u64, u64>::new(&pool);
    let mut flying = pin!(flights.run_async(1, |_| Ok(1)));
    assert!(poll_once(&mut flying).is_pending());
    in_child(|| {
        check!(queue.stats() == duly::QueueStats::default());
        check!(queue.set_limit(Some(2)).is_err() && queue.set_capacity(4).is_err() && queue.set_weight(2).is_ok());
        queue.pause();
        queue.resume();
        check!(pool.set_workers(2).is_err() && pool.queue("new").add().is_err() && pool.queues().len() == 1);
        check!(
            pool.options()
                .queue(&queue)
                .spawn(|| ())
                .is_err_and(|e| e.kind() == SubmitErrorKind::ShutDown)
        );
        check!(
            group
                .wait()
                .is_err_and(|e| e.first().is_some_and(|first| first.2 == Outcome::Abandoned))
        );
        check!(matches!(poll_once(&mut ended), Poll::Ready(Err(_))));
        check!(group.in_flight() == 0 && group.accepted() == 0);
        check!(group.submit(|_| Ok::<_, ()>(())).is_err() && matches!(poll_once(&mut submit), Poll::Ready(Err(_))));
        let rest: Vec<usize> = completed.by_ref().map(|(place, _)| place).collect();
        check!(rest == [0, 1], "{rest:?}");
        check!(duly::wait_any(&tasks, Some(LONG)).is_ok());
        check!(duly::wait_all(&tasks, Some(LONG)).is_ok());
        check!(duly::as_completed(tasks.clone()).count() == 2);
        check!(periodic.end() == Some(duly::PeriodicEnd::ShutDown) && periodic.wait() == duly::PeriodicEnd::ShutDown);
        check!(!periodic.cancel() && periodic.next_tick().is_none() && periodic.stats().runs == 0);
        check!(pool.every(ms(1)).submit(|_| Ok::<_, ()>(())).is_err());
        check!(flights.is_empty() && flights.run(1, |_| Ok(1)).is_err());
        check!(matches!(poll_once(&mut flying), Poll::Ready(Err(_))));
        check!(pool.stream(0..10, |_, n| Ok::<_, ()>(n)).all(|answer| answer.is_err()));
        // SAFETY: the originals are not used in this process any more.
        unsafe {
            drop(std::ptr::read(&group));
            drop(std::ptr::read(&queue));
            drop(std::ptr::read(&periodic));
        }
        check_new_pool()
    });
    gate.open();
    assert_eq!(tasks[1].wait().unwrap(), 1);
    assert!(matches!(block_on(&mut flying), Ok(1)));
    assert!(block_on(&mut submit).is_ok());
    assert!(group.wait().is_ok());
    assert_eq!(completed.count(), 2);
    drop(stuck);
    end(&pool);
}

#[test]
fn p11_inherited_streams_and_flights_answer_at_once() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder(), 1);
    let mut ordered = pool.stream(0..4u64, |_, n| Ok::<_, ()>(n)).window(2);
    let mut any = pool.stream(0..4u64, |_, n| Ok::<_, ()>(n)).window(2).ordered(false);
    assert!(ordered.next_timeout(ms(1)).is_err() && any.next_timeout(ms(1)).is_err());
    let flights = duly::SingleFlight::<u8, u64>::new(&pool);
    let mut leads = flights.run_async(0, |_| Ok(1));
    assert!(poll_once(&mut leads).is_pending());
    // SAFETY: the copies are used in the child alone, and the originals there not.
    let copies = unsafe {
        std::mem::ManuallyDrop::new((std::ptr::read(&ordered), std::ptr::read(&any), std::ptr::read(&leads)))
    };
    in_child(move || {
        let (ordered, any, mut leads) = std::mem::ManuallyDrop::into_inner(copies);
        for stream in [&mut ordered.take(9) as &mut dyn Iterator<Item = _>, &mut any.take(9)] {
            let mut kinds = Vec::new();
            let mut texts = String::new();
            for answer in stream {
                texts += &format!("{answer:?}; ");
                kinds.push(match answer {
                    Err(duly::StreamError::Task { error, .. }) => matches!(error, TaskError::Abandoned(_)),
                    Err(duly::StreamError::Refused { refused, .. }) => refused.kind() != SubmitErrorKind::ShutDown,
                    _ => return Err("an answer".into()),
                });
            }
            kinds.sort_unstable();
            check!(kinds == [false, false, true, true], "{texts}");
        }
        for _ in 0..2 {
            let Poll::Ready(Err(duly::FlightError::Refused(refused))) = poll_once(&mut leads) else {
                return Err("a flight of the parent goes on".into());
            };
            check!(refused.kind() == SubmitErrorKind::ShutDown);
        }
        drop(leads);
        check!(flights.is_empty());
        check!(flights.call(0).run(|_| Ok(1)).is_err());
        check_new_pool()
    });
    gate.open();
    assert_eq!(ordered.map(Result::unwrap).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(any.count(), 4);
    assert_eq!(block_on(leads), Ok(1));
    end(&pool);
}

#[test]
fn p11_an_inherited_completion_queue_answers_at_once_and_the_parents_goes_on() {
    let pool = Pool::builder().workers(1).build().unwrap();
    let answers = Completions::new(4);
    let fd = answers.fd().unwrap().as_raw_fd();
    pool.options().completions(&answers, 1u64).spawn(|| ()).unwrap();
    eventually("it is there", || answers.len() == 1);
    in_child(|| {
        let began = Instant::now();
        let taken = answers.take(1, LONG);
        check!(
            matches!(taken, Err(duly::WaitError::Cancelled(CancelReason::Forked))),
            "{taken:?}"
        );
        check!(began.elapsed() < LONG / 2);
        check!(answers.is_empty() && answers.fd().is_err());
        // Nothing comes into it in a pool of the child either; and one of the child's own works.
        let pool = Pool::builder().workers(1).build().map_err(|error| error.to_string())?;
        let refused = pool.options().completions(&answers, 2).spawn(|| ());
        check!(
            matches!(&refused, Err(error) if error.kind() == SubmitErrorKind::ShutDown),
            "{refused:?}"
        );
        let own = Completions::new(1);
        pool.options()
            .completions(&own, 3u64)
            .spawn(|| ())
            .map_err(|error| error.to_string())?;
        let taken = own.take(1, LONG).map_err(|error| error.to_string())?;
        check!(taken.len() == 1 && taken[0].tag == 3);
        drop(answers.clone());
        Ok(())
    });
    // The level of the descriptor, which both share, is as it was.
    let mut poll = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one entry, valid for the call.
    assert_eq!(unsafe { libc::poll(&raw mut poll, 1, 0) }, 1);
    assert_eq!(answers.take(4, LONG).unwrap().len(), 1);
    // SAFETY: as before.
    assert_eq!(unsafe { libc::poll(&raw mut poll, 1, 0) }, 0);
    end(&pool);
}
