//! Steps in a forked child: the child does those that name it, in order, and tells its parent by its exit code.
//!
//! Keeps true:
//! 1. The exit code is 0, or the number of the step that was not as expected.
//! 2. A child that hangs is ended by an alarm, and ends nothing of the parent.
//! 3. A child's world has gates and starts of its own: a thread of the parent may have held the locks of the others.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use duly::Signal;
use serde::Deserialize;

use crate::run::{Wrong, do_step};
use crate::table::{Act, Case, main_pool};
use crate::words::{Signals, YesNo};
use crate::world::{Verdict, World, lock, ms, poll};

/// How long a child may take, in seconds.
const CHILD: u32 = 20;
/// Exit codes beyond the numbers of steps.
const PANICKED: i32 = 250;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShutDownOn {
    #[serde(default = "main_pool")]
    pub(crate) pool: String,
    pub(crate) signals: Vec<Signals>,
    pub(crate) grace_ms: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CancelOn {
    pub(crate) token: String,
    pub(crate) signals: Vec<Signals>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Closed {
    #[serde(default = "main_pool")]
    pub(crate) pool: String,
    #[serde(default)]
    pub(crate) expect: YesNo,
}

/// Forks: the child does the steps after this one that name it, and never returns.
pub(crate) fn fork(name: &str, case: &Case, step: usize, world: &Arc<World>) -> Verdict {
    let its = world.in_child();
    // SAFETY: the child takes no lock that another thread may hold: the allocator is libc's, which takes care of
    // forks.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        return Err(format!("no child: {}", std::io::Error::last_os_error()));
    }
    if pid == 0 {
        // SAFETY: nobody handles this signal: it ends the process.
        unsafe { libc::alarm(CHILD) };
        let code = catch_unwind(AssertUnwindSafe(|| steps(name, case, step, &Arc::new(its)))).unwrap_or(PANICKED);
        // SAFETY: ends the process.
        unsafe { libc::_exit(code) }
    }
    match lock(&world.children).insert(name.to_owned(), pid) {
        None => Ok(()),
        Some(_) => Err(format!("there are two children {name:?}")),
    }
}

fn steps(name: &str, case: &Case, after: usize, world: &Arc<World>) -> i32 {
    for (index, step) in case.steps.iter().enumerate().skip(after + 1) {
        let its = step.common.child.as_deref() == Some(name) && !matches!(step.act, Act::Join {});
        if its && let Err(what) = do_step(step, world) {
            let number = index + 1 - case.set_up;
            let line = format!("{}, in child {name:?}, step {number}: {what}\n", case.name);
            // SAFETY: as many bytes as there are. Std's own lock of the stream may be held by a thread that is not here.
            unsafe { libc::write(2, line.as_ptr().cast(), line.len()) };
            return i32::try_from(number).unwrap_or(PANICKED);
        }
    }
    0
}

/// Waits for the child's end; a step of it that failed is the one that is told.
pub(crate) fn join(name: &str, step: usize, world: &World) -> Result<(), Wrong> {
    let wrong = |step, what| Err(Wrong { step: Some(step), what });
    let Some(pid) = lock(&world.children).remove(name) else {
        return wrong(step, format!("there is no child {name:?}"));
    };
    match end(pid) {
        Ok(0) => Ok(()),
        Ok(PANICKED) => wrong(step, format!("child {name:?} panicked")),
        Ok(number) => wrong(number as usize, format!("in child {name:?}: what it says stands above")),
        Err(what) => wrong(step, format!("child {name:?}: {what}")),
    }
}

/// The exit code of a child.
pub(crate) fn end(pid: libc::pid_t) -> Result<i32, String> {
    let mut status = 0;
    // SAFETY: `status` is valid for writes. The alarm ends a child that hangs, so this comes to its end.
    if unsafe { libc::waitpid(pid, &mut status, 0) } != pid {
        return Err(std::io::Error::last_os_error().to_string());
    }
    if libc::WIFSIGNALED(status) {
        return Err(format!("ended by signal {}; it hung", libc::WTERMSIG(status)));
    }
    Ok(libc::WEXITSTATUS(status))
}

fn signal(signal: Signals) -> Signal {
    match signal {
        Signals::User1 => Signal::User1,
        Signals::User2 => Signal::User2,
    }
}

pub(crate) fn signals(act: &Act, world: &World) -> Verdict {
    match act {
        Act::ShutDownOn(on) => {
            let signals: Vec<Signal> = on.signals.iter().copied().map(signal).collect();
            let pool = world.pool(&on.pool)?.pool;
            let bound = pool.shut_down_on(&signals, ms(on.grace_ms));
            lock(&world.bound).push(bound.map_err(|refused| refused.to_string())?);
            Ok(())
        }
        Act::CancelOn(on) => {
            let signals: Vec<Signal> = on.signals.iter().copied().map(signal).collect();
            let token = duly::CancellationToken::cancelled_on(&signals).map_err(|refused| refused.to_string())?;
            world.add_token(&on.token, token)
        }
        Act::Raise { signal: which } => {
            // SAFETY: plain system calls.
            match unsafe { libc::kill(libc::getpid(), signal(*which).number()) } {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error().to_string()),
            }
        }
        Act::Closed(closed) => {
            let pool = world.pool(&closed.pool)?.pool;
            let at_most = match closed.expect {
                YesNo::Yes => ms(5_000),
                YesNo::No => ms(0),
            };
            let is = poll(at_most, || pool.is_closed().then_some(YesNo::Yes)).unwrap_or(YesNo::No);
            crate::check::same("closed", is.as_str(), closed.expect.as_str())
        }
        _ => Err("no step about signals".to_owned()),
    }
}
