//! What shuttle gives to `model`: random schedules of whole pools, sequentially consistent.
//!
//! Time passes when somebody waits for it and the dice say so: then it jumps to the first time that anyone waits for.

use super::model::{self, MutexGuard as Guard, Waits};
use crate::sync::Arc;
use ::shuttle::rand::{Rng, thread_rng};
use ::shuttle::thread::Thread;
use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

pub(crate) use super::cell::UnsafeCell;
pub(crate) use ::shuttle::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, fence};
pub(super) use ::shuttle::sync::{Mutex, MutexGuard};
pub(crate) use ::shuttle::thread::yield_now;
pub(super) use ::shuttle::thread::{JoinHandle, spawn};

/// A static of the program: made anew for each execution.
macro_rules! global {
    ($($(#[$meta:meta])* static $name:ident: $type:ty = $init:expr;)*) => {
        ::shuttle::lazy_static! { $($(#[$meta])* static ref $name: $type = $init;)* }
    };
}

/// A static of each thread.
macro_rules! local {
    ($($(#[$meta:meta])* static $name:ident: $type:ty = $init:expr;)*) => {
        ::shuttle::thread_local! { $($(#[$meta])* static $name: $type = $init;)* }
    };
}

pub(crate) use {global, local};

/// One in so many turns of a wait with an end in time lets time pass.
const PASSES: u32 = 8;

/// A turn of a wait with an end in time.
fn turn() {
    if thread_rng().gen_ratio(1, PASSES)
        && let Some(due) = model::first_due()
    {
        model::advance(due.saturating_sub(model::now()));
    }
    yield_now();
}

/// What a thread is parked on. The flag is no step of its own: it changes with the park.
#[derive(Debug)]
pub(super) struct Signal {
    set: std::sync::atomic::AtomicBool,
    thread: Thread,
}

impl Signal {
    pub(super) fn new() -> Self {
        Signal {
            set: std::sync::atomic::AtomicBool::new(false),
            thread: ::shuttle::thread::current(),
        }
    }

    pub(super) fn set(&self) {
        self.set.store(true, Relaxed);
        self.thread.unpark();
    }

    pub(super) fn wait(&self) {
        while !self.set.swap(false, Relaxed) {
            ::shuttle::thread::park();
        }
    }
}

/// A turn of a wait with an end in time: its caller looks again.
pub(super) fn wait_a_while(signal: &Signal) {
    if !signal.set.swap(false, Relaxed) {
        turn();
    }
}

pub(super) fn sleep(span: Duration) {
    let until = model::now().saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX));
    let _waits = Waits::until(until);
    while model::now() < until {
        turn();
    }
}

/// Whether to take the rarer of two ways.
pub(super) fn either() -> bool {
    thread_rng().r#gen()
}

/// A condition variable with timeouts: a line of those who wait.
#[derive(Debug, Default)]
pub(crate) struct Condvar(std::sync::Mutex<VecDeque<Arc<Signal>>>);

impl Condvar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn line(&self) -> std::sync::MutexGuard<'_, VecDeque<Arc<Signal>>> {
        self.0.lock().expect("no panic while held")
    }

    pub(crate) fn wait<'a, T>(&self, guard: Guard<'a, T>) -> Guard<'a, T> {
        let signal = Arc::new(Signal::new());
        self.line().push_back(signal.clone());
        let (lock, guard) = guard.into_parts();
        drop(guard);
        signal.wait();
        lock.lock()
    }

    pub(crate) fn wait_timeout<'a, T>(&self, guard: Guard<'a, T>, timeout: Duration) -> Guard<'a, T> {
        let until = model::now().saturating_add(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX));
        let signal = Arc::new(Signal::new());
        self.line().push_back(signal.clone());
        let (lock, guard) = guard.into_parts();
        drop(guard);
        let waits = Waits::until(until);
        while !signal.set.load(Relaxed) && model::now() < until {
            turn();
        }
        drop(waits);
        self.line().retain(|other| !Arc::ptr_eq(other, &signal));
        lock.lock()
    }

    pub(crate) fn notify_one(&self) {
        // Not under the line's lock: it may be a step.
        let first = self.line().pop_front();
        if let Some(signal) = first {
            signal.set();
        }
    }

    pub(crate) fn notify_all(&self) {
        let all = std::mem::take(&mut *self.line());
        for signal in all {
            signal.set();
        }
    }
}
