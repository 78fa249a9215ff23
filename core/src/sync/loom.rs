//! What loom gives to `model`: every interleaving, and every value that a load may see.
//!
//! What loom cannot do: accesses (not fences) that are SeqCst are no more than AcqRel to it; there are at most four
//! threads beside the model's own. A wait with an end in time on a condition variable lets the others run and is over
//! then, its time passed; one on a parker ends when it is unparked or a model advances the time.

use super::model::{self, MutexGuard as Guard};
use std::time::Duration;

pub(crate) use ::loom::cell::UnsafeCell;
pub(crate) use ::loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, fence};
pub(super) use ::loom::sync::{Mutex, MutexGuard};
pub(crate) use ::loom::thread::yield_now;
pub(super) use ::loom::thread::{JoinHandle, spawn};

/// A static of the program: made anew for each execution.
macro_rules! global {
    ($($(#[$meta:meta])* static $name:ident: $type:ty = $init:expr;)*) => {
        ::loom::lazy_static! { $($(#[$meta])* static ref $name: $type = $init;)* }
    };
}

/// A static of each thread.
macro_rules! local {
    ($($(#[$meta:meta])* static $name:ident: $type:ty = $init:expr;)*) => {
        ::loom::thread_local! { $($(#[$meta])* static $name: $type = $init;)* }
    };
}

pub(crate) use {global, local};

/// What a thread is parked on. (Loom's own park is not used: an unpark would also wake a thread that waits for a
/// lock.)
#[derive(Debug)]
pub(super) struct Signal(::loom::sync::Notify);

impl Signal {
    pub(super) fn new() -> Self {
        Signal(::loom::sync::Notify::new())
    }

    #[track_caller]
    pub(super) fn set(&self) {
        self.0.notify();
    }

    /// Until set; loom lets it return early once.
    #[track_caller]
    pub(super) fn wait(&self) {
        self.0.wait();
    }
}

/// A wait with an end in time, which comes when a model advances the time.
pub(super) fn wait_a_while(signal: &Signal) {
    signal.wait();
}

pub(super) fn sleep(_span: Duration) {
    yield_now();
}

/// Whether to take the rarer of two ways.
pub(super) fn either() -> bool {
    false
}

/// `loom::sync::Condvar`.
#[derive(Debug)]
pub(crate) struct Condvar(::loom::sync::Condvar);

impl Default for Condvar {
    fn default() -> Self {
        Self::new()
    }
}

impl Condvar {
    #[track_caller]
    pub(crate) fn new() -> Self {
        Condvar(::loom::sync::Condvar::new())
    }

    #[track_caller]
    pub(crate) fn wait<'a, T>(&self, guard: Guard<'a, T>) -> Guard<'a, T> {
        let (lock, guard) = guard.into_parts();
        Guard::from_parts(
            lock,
            self.0.wait(guard).unwrap_or_else(|poisoned| poisoned.into_inner()),
        )
    }

    #[track_caller]
    pub(crate) fn wait_timeout<'a, T>(&self, guard: Guard<'a, T>, timeout: Duration) -> Guard<'a, T> {
        let until = model::now().saturating_add(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX));
        let (lock, guard) = guard.into_parts();
        drop(guard);
        yield_now();
        model::advance(until.saturating_sub(model::now()));
        lock.lock()
    }

    #[track_caller]
    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    #[track_caller]
    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}
