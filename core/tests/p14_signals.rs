//! P14: a pool can be bound to signals: the first starts the drain or cancels the token, a second one abandons, and the
//! process is ready to exit within the grace period.
//!
//! Signals reach the whole process, so each case runs in one of its own: this program, started again for `case` alone.

mod support;

use duly::{CancelReason, CancellationToken, Outcome, Pool, Signal, SignalError, SubmitErrorKind, TaskError};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use support::*;

/// Runs a case in a process of its own.
fn process(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "case", "--nocapture", "--test-threads=1"])
        .env("DULY_P14_CASE", name)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

#[track_caller]
fn run(name: &str) {
    let output = process(name).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{name}: {}\n{said}", output.status);
}

/// A case that a signal ends.
#[track_caller]
fn run_to_signal(name: &str) -> Option<i32> {
    use std::os::unix::process::ExitStatusExt;
    let status: ExitStatus = process(name).output().unwrap().status;
    status.signal()
}

/// In a case: this process gets a signal.
fn signal(signal: Signal) {
    // SAFETY: a plain system call.
    assert_eq!(unsafe { libc::kill(libc::getpid(), signal.number()) }, 0);
}

/// In a case: waits in a fork for the child's end.
fn child_of(body: impl FnOnce() -> i32) -> (libc::pid_t, impl FnOnce() -> i32) {
    // SAFETY: this process has no threads but those of libtest and of pools.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: plain system calls; the second ends the process.
        unsafe {
            libc::alarm(LONG.as_secs().max(1) as u32);
            libc::_exit(body())
        }
    }
    (pid, move || {
        let mut status = 0;
        // SAFETY: `status` is valid for writes.
        assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
        status
    })
}

/// (number, whether it closes on exec) of each open descriptor.
fn descriptors() -> Vec<(String, bool)> {
    let list = std::fs::read_dir("/proc/self/fdinfo").unwrap().flatten();
    let mut found = Vec::new();
    for entry in list {
        if let Ok(text) = std::fs::read_to_string(entry.path()) {
            let flags = text
                .lines()
                .find_map(|line| line.strip_prefix("flags:"))
                .unwrap()
                .trim();
            let flags = i32::from_str_radix(flags, 8).unwrap();
            found.push((entry.file_name().into_string().unwrap(), flags & libc::O_CLOEXEC != 0));
        }
    }
    found
}

#[test]
fn case() {
    let Ok(name) = std::env::var("DULY_P14_CASE") else {
        return;
    };
    // SAFETY: a plain system call: a case that hangs is ended.
    unsafe { libc::alarm(LONG.as_secs().max(1) as u32 * 2) };
    match name.as_str() {
        "drains" => drains(),
        "grace" => grace(),
        "second" => second(),
        "token" => token(),
        "bound_later" => bound_later(),
        "several" => several(),
        "chained" => chained(),
        "manners" => manners(),
        "default" => default(),
        "default_token" => default_token(),
        "nothing_left" => nothing_left(),
        "forked" => forked(),
        "refused" => refused(),
        #[cfg(feature = "systemd")]
        "systemd" => systemd::case(),
        _ => panic!("no such case: {name}"),
    }
}

#[test]
fn p14_the_first_signal_drains_under_load() {
    run("drains");
}

fn drains() {
    let pool = Pool::builder().workers(2).capacity(16).build().unwrap();
    let stop = pool
        .shut_down_on(&[Signal::Terminate, Signal::Interrupt], LONG)
        .unwrap();
    let accepted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    match pool.spawn(|| std::thread::sleep(Duration::from_micros(50))) {
                        Ok(_) => accepted.fetch_add(1, Ordering::Relaxed),
                        Err(refused) => {
                            // Nine may wait for room at once.
                            if refused.kind() == SubmitErrorKind::ShutDown {
                                break;
                            }
                            0
                        }
                    };
                }
            });
        }
        eventually("work", || accepted.load(Ordering::Relaxed) > 100);
        assert_eq!(stop.received(), None);
        assert!(stop.wait_timeout(ms(1)).unwrap().is_none());
        signal(Signal::Interrupt);
        let report = block_on(stop.ended()).unwrap();
        assert!(report.drained, "{report}");
    });
    assert_eq!(stop.received(), Some(libc::SIGINT));
    let report = stop.wait().unwrap();
    assert!(report.drained && report.stats.books_balance(), "{report}");
    assert_eq!(
        report.stats.succeeded,
        accepted.load(Ordering::Relaxed),
        "all that was accepted"
    );
}

#[test]
fn p14_the_process_is_ready_to_exit_within_the_grace() {
    run("grace");
}

fn grace() {
    let grace = ms(400);
    // A busy machine may be late once, and again, but not ten times.
    let mut took = Vec::new();
    while took.len() < 10 && took.last().is_none_or(|&last| last > grace) {
        let (pool, gate, stuck) = stuck_pool(Pool::builder().name("p14grace"), 2);
        let queued = pool.spawn(|| ()).unwrap();
        let stop = pool.shut_down_on(&[Signal::Terminate], grace).unwrap();
        signal(Signal::Terminate);
        let report = stop.wait_timeout(LONG).unwrap().unwrap();
        // From the signal on: a little of the grace is kept for the end.
        assert!(report.elapsed >= ms(300), "{report}");
        assert_eq!((report.abandoned.len(), report.stuck.len()), (3, 2), "{report}");
        assert!(matches!(queued.wait(), Err(TaskError::Abandoned(_))));
        assert_eq!(stuck[0].outcome(), Some(Outcome::Abandoned));
        took.push(report.elapsed);
        gate.open();
    }
    assert!(took.last().unwrap() <= &grace, "later than its grace: {took:?}");
}

#[test]
fn p14_a_second_signal_abandons_at_once() {
    run("second");
}

fn second() {
    let (pool, _gate, stuck) = stuck_pool(Pool::builder(), 1);
    let stop = pool
        .shut_down_on(&[Signal::Terminate, Signal::Interrupt], LONG * 10)
        .unwrap();
    signal(Signal::Terminate);
    eventually("the pool is closed", || pool.is_closed());
    assert_eq!(stuck[0].outcome(), None, "it drains");
    signal(Signal::Interrupt);
    let report = stop.wait_timeout(LONG).unwrap().unwrap();
    assert_eq!(report.abandoned.len(), 1, "{report}");
    assert_eq!(stop.received(), Some(libc::SIGTERM), "the first");
    // A third one does no harm.
    let seen = CancellationToken::cancelled_on(&[Signal::Interrupt]).unwrap();
    signal(Signal::Interrupt);
    assert!(seen.wait(Some(LONG)));
    assert_eq!(stuck[0].outcome(), Some(Outcome::Abandoned));
}

#[test]
fn p14_a_signal_cancels_a_root_token_and_says_which() {
    run("token");
}

fn token() {
    let root = CancellationToken::cancelled_on(&[Signal::Terminate, Signal::User1]).unwrap();
    let pool = Pool::builder().workers(1).build().unwrap();
    let child = root.child();
    let task = pool.options().token(&child).submit(|ctx| ctx.sleep(LONG)).unwrap();
    assert!(!root.is_cancelled());
    signal(Signal::User1);
    let reason = CancelReason::Signal(libc::SIGUSR1);
    let Err(TaskError::Cancelled(cancelled)) = task.wait() else {
        panic!("{task:?}")
    };
    assert_eq!(*cancelled.reason(), reason);
    assert_eq!((root.reason(), child.reason()), (Some(reason.clone()), Some(reason)));
    assert!(!pool.is_closed());
    end(&pool);
}

#[test]
fn p14_a_signal_cancels_a_token_that_was_there_already() {
    run("bound_later");
}

fn bound_later() {
    let before = descriptors();
    let (root, other) = (CancellationToken::new(), CancellationToken::new());
    let branch = root.child();
    branch.cancel_on(&[Signal::User1]).unwrap();
    branch.cancel_on(&[Signal::User2]).unwrap();
    let leaf = branch.child();
    // What is under it keeps it bound.
    drop(branch);
    signal(Signal::User2);
    assert!(leaf.wait(Some(LONG)));
    assert_eq!(leaf.reason(), Some(CancelReason::Signal(libc::SIGUSR2)));
    assert!(!root.is_cancelled() && !other.is_cancelled());
    other.cancel_on(&[Signal::User1]).unwrap();
    signal(Signal::User1);
    assert!(other.wait(Some(LONG)));
    assert!(!root.is_cancelled());
    drop((leaf, other));
    eventually("no descriptor is left", || descriptors().len() == before.len());
}

#[test]
fn p14_several_pools_and_tokens_share_a_signal() {
    run("several");
}

fn several() {
    let pools: Vec<_> = (0..3).map(|_| Pool::builder().workers(1).build().unwrap()).collect();
    let tokens: Vec<_> = (0..2)
        .map(|_| CancellationToken::cancelled_on(&[Signal::Terminate]).unwrap())
        .collect();
    let other = CancellationToken::cancelled_on(&[Signal::User2]).unwrap();
    let stops: Vec<_> = [Signal::Terminate, Signal::Terminate, Signal::User2]
        .iter()
        .zip(&pools)
        .map(|(signal, pool)| pool.shut_down_on(&[*signal, *signal], LONG).unwrap())
        .collect();
    signal(Signal::Terminate);
    for stop in &stops[..2] {
        assert!(stop.wait_timeout(LONG).unwrap().unwrap().drained);
    }
    for token in &tokens {
        assert!(token.wait(Some(LONG)));
    }
    assert!(!pools[2].is_closed() && !other.is_cancelled());
    // One that goes takes nothing from those that stay.
    drop(other);
    signal(Signal::User2);
    assert!(stops[2].wait_timeout(LONG).unwrap().unwrap().drained);
}

static HANDLED: AtomicUsize = AtomicUsize::new(0);

extern "C" fn hosts_handler(_signal: libc::c_int) {
    HANDLED.fetch_add(1, Ordering::SeqCst);
}

#[test]
fn p14_the_hosts_handler_runs_as_well_and_stays() {
    run("chained");
}

fn chained() {
    // SAFETY: the handler only counts.
    unsafe {
        libc::signal(
            libc::SIGTERM,
            hosts_handler as extern "C" fn(libc::c_int) as libc::sighandler_t,
        )
    };
    let pool = Pool::builder().workers(1).build().unwrap();
    let stop = pool.shut_down_on(&[Signal::Terminate], LONG).unwrap();
    signal(Signal::Terminate);
    assert!(stop.wait_timeout(LONG).unwrap().unwrap().drained);
    assert_eq!(HANDLED.load(Ordering::SeqCst), 1);
    drop(stop);
    signal(Signal::Terminate);
    eventually("it handles, as before", || HANDLED.load(Ordering::SeqCst) == 2);
}

#[test]
fn p14_system_calls_are_interrupted_as_by_the_hosts_handler() {
    run("manners");
}

/// What is done with a signal now.
fn action(signal: Signal) -> libc::sigaction {
    // SAFETY: all zeroes are a value of it.
    let mut now = unsafe { std::mem::zeroed() };
    // SAFETY: asks only; `now` has room for the answer.
    let asked = unsafe { libc::sigaction(signal.number(), std::ptr::null(), &mut now) };
    assert_eq!(asked, 0);
    now
}

fn manners() {
    let handled = |signal, flags| {
        let mut new = action(signal);
        new.sa_sigaction = hosts_handler as extern "C" fn(libc::c_int) as libc::sighandler_t;
        new.sa_flags = flags;
        // SAFETY: the handler only counts; the mask is there.
        unsafe {
            libc::sigaddset(&mut new.sa_mask, libc::SIGUSR2);
            assert_eq!(libc::sigaction(signal.number(), &new, std::ptr::null_mut()), 0);
        }
    };
    handled(Signal::User1, 0);
    handled(Signal::Hangup, libc::SA_RESTART);
    // Twice: the second finds the handler of the first.
    for _ in 0..2 {
        let signals = [Signal::User1, Signal::Hangup, Signal::Terminate];
        let token = CancellationToken::cancelled_on(&signals).unwrap();
        let restarts = signals.map(|signal| action(signal).sa_flags & libc::SA_RESTART != 0);
        assert_eq!(restarts, [false, true, true], "as the host's; the last had none");
        for signal in signals {
            let on_stack = action(signal).sa_flags & libc::SA_ONSTACK != 0;
            assert!(on_stack, "{signal}: threads with a stack for handlers want them there");
            // SAFETY: asks only.
            let blocked = unsafe { libc::sigismember(&action(signal).sa_mask, libc::SIGUSR2) } == 1;
            assert_eq!(blocked, signal != Signal::Terminate, "{signal}");
        }
        let mut ends = [0; 2];
        // SAFETY: room for both ends.
        assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
        let reader = std::thread::spawn(move || {
            // SAFETY: room for a byte. Nobody writes one.
            let read = unsafe { libc::read(ends[0], (&raw mut ends[1]).cast(), 1) };
            (read, std::io::Error::last_os_error().kind())
        });
        eventually("its read is interrupted", || {
            use std::os::unix::thread::JoinHandleExt;
            // SAFETY: the thread has not been joined.
            unsafe { libc::pthread_kill(reader.as_pthread_t(), libc::SIGUSR1) };
            reader.is_finished()
        });
        assert_eq!(reader.join().unwrap(), (-1, std::io::ErrorKind::Interrupted));
        assert!(token.wait(Some(LONG)));
    }
}

#[test]
fn p14_what_a_signal_does_by_default_comes_back() {
    assert_eq!(run_to_signal("default"), Some(libc::SIGTERM));
    assert_eq!(run_to_signal("default_token"), Some(libc::SIGUSR1));
}

fn default() {
    let pool = Pool::builder().workers(1).build().unwrap();
    for _ in 0..3 {
        let stop = pool.shut_down_on(&[Signal::Terminate], LONG).unwrap();
        drop(stop);
    }
    signal(Signal::Terminate);
    std::thread::sleep(LONG);
}

fn default_token() {
    let root = CancellationToken::cancelled_on(&[Signal::User1]).unwrap();
    let child = root.child();
    drop(root);
    signal(Signal::User1);
    assert!(child.wait(Some(LONG)), "a child keeps its root");
    drop(child);
    eventually("nobody is bound", || threads_named("duly-signals").is_empty());
    signal(Signal::User1);
    std::thread::sleep(LONG);
}

#[test]
fn p09_no_thread_and_no_descriptor_is_left() {
    run("nothing_left");
}

fn nothing_left() {
    let before = descriptors();
    for _ in 0..20 {
        let pool = Pool::builder().workers(1).build().unwrap();
        let stop = pool.shut_down_on(&[Signal::Terminate], LONG).unwrap();
        let token = CancellationToken::cancelled_on(&[Signal::Interrupt, Signal::Hangup]).unwrap();
        let now = descriptors();
        assert_eq!(now.len(), before.len() + 2, "a pipe");
        assert!(
            now.iter()
                .filter(|now| !before.contains(now))
                .all(|(_, closes)| *closes),
            "{now:?}"
        );
        eventually("the thread", || threads_named("duly-signals").len() == 1);
        signal(Signal::Terminate);
        assert!(stop.wait().unwrap().drained);
        drop(pool);
        drop(stop);
        drop(token);
        eventually("no thread is left", || threads_named("duly-signals").is_empty());
        eventually("no descriptor is left", || descriptors().len() == before.len());
    }
}

#[test]
fn p14_in_a_forked_child_nobody_is_bound_and_its_own_pools_can_be() {
    run("forked");
}

fn forked() {
    let pool = Pool::builder().workers(1).build().unwrap();
    let stop = pool.shut_down_on(&[Signal::Terminate], LONG).unwrap();
    // By default it ends the process.
    let (child, ended) = child_of(|| {
        std::thread::sleep(LONG);
        0
    });
    // SAFETY: a plain system call.
    unsafe { libc::kill(child, libc::SIGTERM) };
    assert_eq!(libc::WTERMSIG(ended()), libc::SIGTERM);
    let (_, ended) = child_of(|| {
        if !matches!(
            pool.shut_down_on(&[Signal::Terminate], LONG),
            Err(SignalError::ShutDown)
        ) {
            return 5;
        }
        let Ok(own) = Pool::builder().workers(1).build() else {
            return 1;
        };
        let Ok(own_stop) = own.shut_down_on(&[Signal::Terminate], LONG) else {
            return 2;
        };
        signal(Signal::Terminate);
        match own_stop.wait_timeout(LONG) {
            Ok(Some(report)) if report.drained => {}
            _ => return 3,
        }
        // An inherited binding ends at once, too.
        if !matches!(stop.wait(), Ok(report) if !report.drained) {
            return 4;
        }
        drop(own_stop);
        // SAFETY: the original is not used in this process any more.
        drop(unsafe { std::ptr::read(&stop) });
        0
    });
    assert_eq!(ended(), 0);
    assert!(!pool.is_closed(), "the children's signals are their own");
    assert_eq!(stop.received(), None);
    signal(Signal::Terminate);
    assert!(stop.wait_timeout(LONG).unwrap().unwrap().drained);
}

#[test]
fn p16_bad_input_is_refused() {
    run("refused");
}

fn refused() {
    let pool = Pool::builder().workers(1).build().unwrap();
    assert!(matches!(pool.shut_down_on(&[], LONG), Err(SignalError::NoSignal)));
    assert!(matches!(
        CancellationToken::cancelled_on(&[]),
        Err(SignalError::NoSignal)
    ));
    let stop = pool.shut_down_on(&[Signal::Terminate], Duration::MAX).unwrap();
    let held = std::sync::Arc::new(stop);
    let inside = held.clone();
    let waited = pool.spawn(move || inside.wait().is_err()).unwrap();
    assert!(waited.wait().unwrap(), "from a callback of the pool");
    drop(pool);
    assert!(
        held.wait_timeout(LONG).unwrap().unwrap().drained,
        "it does not keep the pool open"
    );
}

#[cfg(feature = "systemd")]
mod systemd {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn p14_systemd_is_told_of_the_stop_and_that_the_pool_is_alive() {
        let path = std::env::temp_dir().join(format!("duly-p14-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).unwrap();
        let mut child = process("systemd")
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "100000")
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut line = |wanted: &str| while !lines.next().unwrap().unwrap().contains(wanted) {};
        let told = |within: Duration| {
            let mut bytes = [0; 256];
            socket.set_read_timeout(Some(within)).unwrap();
            let length = socket.recv(&mut bytes).ok()?;
            Some(String::from_utf8_lossy(&bytes[..length]).trim().to_owned())
        };
        for _ in 0..3 {
            assert_eq!(told(LONG).unwrap(), "WATCHDOG=1");
        }
        line("stalled");
        // One may have been under way. From then on, nothing.
        while told(ms(500)).is_some() {}
        assert_eq!(told(ms(300)), None, "a stalled pool is not alive");
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b"go on\n").unwrap();
        assert_eq!(told(LONG).unwrap(), "WATCHDOG=1");
        stdin.write_all(b"end\n").unwrap();
        eventually("STOPPING=1", || told(LONG).unwrap() == "STOPPING=1");
        let _ = std::fs::remove_file(&path);
        assert!(child.wait().unwrap().success());
    }

    pub(super) fn case() {
        let mut lines = std::io::stdin().lines();
        let (pool, gate, stuck) = stuck_pool(Pool::builder().replace_after(ms(10)), 1);
        let stop = pool.shut_down_on(&[Signal::Terminate], LONG).unwrap();
        std::thread::sleep(ms(400));
        stuck[0].cancel();
        eventually("the pool is stalled", || pool.stats().stalled == 1);
        println!("\nstalled");
        lines.next().unwrap().unwrap();
        gate.open();
        lines.next().unwrap().unwrap();
        signal(Signal::Terminate);
        assert!(stop.wait().unwrap().drained);
        // The drain comes first, then the word of it: let that be said.
        drop(stop);
        eventually("all is said", || threads_named("duly-signals").is_empty());
    }
}
