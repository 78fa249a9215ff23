//! The one place that names the primitives the rest of the crate is built on: a seam for model checkers.
//!
//! Everything else imports atomics, locks, threads, statics and the reading of the clock from here:
//!
//! * `real`: what std, libc and crossbeam offer. Every build but those below, at no cost.
//! * `delays` (`--cfg duly_delays`): the same, with a random short delay before each atomic step and lock.
//! * `model`, over `loom` or `shuttle` (unit tests under `--cfg loom` or `--cfg shuttle`): what a model checker stands
//!   in for. Statics start anew with each execution; time is a number that models move.
//!
//! What is common to all stands here:
//!
//! * [`Mutex`] and [`Condvar`] ignore poisoning: no user code ever runs under a lock of this crate, so a
//!   poisoned lock would mean a bug here, and a waiter that hangs on it would be worse.
//! * [`ShortLock`] guards a few plain stores. Its holder never blocks, allocates or calls out.
//! * [`full_fence`] is the store-load barrier of every "I announce, then I look" pair. Both sides of a pair
//!   use it; each pair is named where it stands.
//! * [`Parker`] and [`Padded`].

#[cfg(not(all(test, loom)))]
mod cell;
#[cfg(all(duly_delays, not(all(test, any(loom, shuttle)))))]
mod delays;
#[cfg(all(test, loom))]
mod loom;
#[cfg(all(test, any(loom, shuttle)))]
mod model;
mod parker;
#[cfg(not(all(test, any(loom, shuttle))))]
mod real;
#[cfg(not(all(test, any(loom, shuttle))))]
mod short_lock;
#[cfg(all(test, shuttle))]
mod shuttle;

pub(crate) use parker::{Parker, parker};
pub(crate) use std::sync::Arc;
pub(crate) use std::sync::atomic::Ordering;

#[cfg(not(all(test, any(loom, shuttle))))]
pub(crate) use {
    cell::UnsafeCell,
    real::{
        Condvar, Jobs, MODEL, Mutex, MutexGuard, OnceLock, array, coarse, global, join_ended, local, now, patience,
        spin_hint, stack_of_thread, thread,
    },
    short_lock::ShortLock,
};

#[cfg(not(any(duly_delays, all(test, any(loom, shuttle)))))]
pub(crate) use real::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, fence};

#[cfg(all(duly_delays, not(all(test, any(loom, shuttle)))))]
pub(crate) use delays::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, fence};

#[cfg(all(test, any(loom, shuttle)))]
pub(crate) use model::{
    AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Condvar, Jobs, MODEL, Mutex, MutexGuard, OnceLock,
    ShortLock, UnsafeCell, array, coarse, fence, global, join_ended, local, now, patience, spin_hint, thread,
};

#[cfg(all(test, loom))]
pub(crate) use model::advance;

use std::ops::Deref;

/// A store before it is visible to others before a load after it is made.
#[inline(always)]
pub(crate) fn full_fence() {
    fence(Ordering::SeqCst);
}

/// [`full_fence`] where the caller has just made a read-modify-write: on x86 that was one already.
#[inline(always)]
pub(crate) fn full_fence_after_rmw() {
    #[cfg(all(target_arch = "x86_64", not(all(test, any(loom, shuttle)))))]
    std::sync::atomic::compiler_fence(Ordering::SeqCst);
    #[cfg(not(all(target_arch = "x86_64", not(all(test, any(loom, shuttle))))))]
    fence(Ordering::SeqCst);
}

/// Keeps its content on cache lines of its own (two: the adjacent-line prefetcher pulls pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

impl<T> Deref for Padded<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.0
    }
}
