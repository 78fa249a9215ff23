//! What loom gives to `model`: every interleaving, and every value that a load may see.
//!
//! What loom cannot do: accesses (not fences) that are SeqCst are no more than AcqRel to it; a wait on a condition
//! variable never times out, and one on a parker only when the model's time is advanced; at most four threads beside
//! the model's own.

use super::model::MutexGuard as Guard;
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
        let _ = timeout;
        self.wait(guard)
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
