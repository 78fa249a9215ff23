//! Pools: N threads over bounded queues.
//!
//! Invariant: releasing the last handle never blocks: the core drains in the background.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use duly::{Overflow, Pool, PoolBuilder, Threads};

use crate::boundary::{boundary, checked};
use crate::carry::{Carrier, Functions};
use crate::foreign::Owned;
use crate::handle::{self, Handle};
use crate::hooks::Hook;
use crate::options::{DULY_FOREVER, DULY_NONE, duly_pool_options, read_pool};
use crate::report::{Report, duly_report};
use crate::signals::Binding;
use crate::stats::{self, duly_stats};
use crate::status::{duly_overflow, duly_status, duly_threads};
use crate::task::span;
use crate::text::from_c;

/// N threads over bounded queues. Refcounted; safe from any thread. Tasks do not keep it alive.
#[derive(Debug)]
pub struct duly_pool {
    _opaque: (),
}

impl Handle for duly_pool {
    type Object = Held;
    const KIND: usize = handle::kind::POOL;
}

/// A pool, and what goes with its last handle.
#[derive(Debug)]
pub(crate) struct Held {
    pool: Pool,
    signals: Binding,
}

impl Held {
    pub(crate) fn new(pool: Pool) -> Held {
        Held {
            pool,
            signals: Binding::default(),
        }
    }

    /// Its binding to signals. Not to be locked in a forked child.
    pub(crate) fn binding(&self) -> &Binding {
        &self.signals
    }
}

impl Deref for Held {
    type Target = Pool;

    fn deref(&self) -> &Pool {
        &self.pool
    }
}

/// The policy of a pool or a queue.
pub(crate) fn overflow(number: i32) -> Result<Overflow, duly_status> {
    own_overflow(number).map(Option::unwrap_or_default)
}

/// The policy of a submit; `None`: the queue's.
pub(crate) fn own_overflow(number: i32) -> Result<Option<Overflow>, duly_status> {
    use duly_overflow::*;
    if number == DULY_OVERFLOW_DEFAULT as i32 {
        return Ok(None);
    }
    const POLICIES: [(duly_overflow, Overflow); 5] = [
        (DULY_OVERFLOW_BLOCK, Overflow::Block),
        (DULY_OVERFLOW_REJECT, Overflow::Reject),
        (DULY_OVERFLOW_DROP_NEWEST, Overflow::DropNewest),
        (DULY_OVERFLOW_DROP_OLDEST, Overflow::DropOldest),
        (DULY_OVERFLOW_CALLER_RUNS, Overflow::CallerRuns),
    ];
    let known = POLICIES.into_iter().find(|(policy, _)| *policy as i32 == number);
    known
        .map(|(_, overflow)| Some(overflow))
        .ok_or(duly_status::DULY_STATUS_INVALID_ARGUMENT)
}

fn threads(number: i32) -> Result<Threads, duly_status> {
    use duly_threads::*;
    const WAYS: [(duly_threads, Threads); 3] = [
        (DULY_THREADS_DEFAULT, Threads::Eager),
        (DULY_THREADS_EAGER, Threads::Eager),
        (DULY_THREADS_ON_DEMAND, Threads::OnDemand),
    ];
    let known = WAYS.into_iter().find(|(way, _)| *way as i32 == number);
    known
        .map(|(_, threads)| threads)
        .ok_or(duly_status::DULY_STATUS_INVALID_ARGUMENT)
}

/// A builder on which a field was set, or left alone when it is 0.
trait Set: Sized {
    fn set<N: PartialEq + Default>(self, field: N, set: impl FnOnce(Self, N) -> Self) -> Self {
        if field == N::default() { self } else { set(self, field) }
    }
}
impl Set for PoolBuilder {}

pub(crate) fn count(field: u32) -> usize {
    if field == DULY_NONE { 0 } else { field as usize }
}

/// # Safety
/// `options.name` is null or a NUL-terminated string.
pub(crate) unsafe fn builder(options: &duly_pool_options) -> Result<PoolBuilder, duly_status> {
    let mut builder = Pool::builder()
        .overflow(overflow(options.overflow)?)
        .threads(threads(options.threads)?);
    // SAFETY: as this function's contract says.
    if let Some(name) = unsafe { from_c(options.name) } {
        builder = builder.name(name);
    }
    let stack = usize::try_from(options.stack_size).map_err(|_| duly_status::DULY_STATUS_INVALID_ARGUMENT)?;
    Ok(builder
        .set(options.workers, |builder, workers| builder.workers(workers as usize))
        .set(options.capacity, |builder, capacity| {
            builder.capacity(capacity as usize)
        })
        .set(options.max_blocked_producers, |builder, most| {
            builder.max_blocked_producers(count(most))
        })
        .set(options.max_replacements, |builder, most| {
            builder.max_replacements(count(most))
        })
        .set(options.replace_after_ns, |builder, ns| builder.replace_after(span(ns)))
        .set(options.default_timeout_ns, |builder, ns| {
            if ns == DULY_FOREVER {
                builder
            } else {
                builder.default_timeout(Duration::from_nanos(ns))
            }
        })
        .set(options.drop_drain_ns, |builder, ns| builder.drop_drain(span(ns)))
        .set(stack, PoolBuilder::stack_size))
}

/// Creates a pool. `options` may be NULL: all defaults.
/// Ownership: the caller owns the pool and releases it; the options stay the caller's and may go at once. On OK duly owns
/// hook_data and carry_data, and calls their drops once, when the pool is gone; on any other status they stay the caller's.
/// Thread-safety: any thread.
/// Blocks: only while the threads are created.
/// Status: OK, NULL_ARGUMENT, INVALID_ARGUMENT, UNSUPPORTED, NO_THREADS.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_pool_new(options: *const duly_pool_options, pool: *mut *mut duly_pool) -> duly_status {
    checked(|| {
        if pool.is_null() {
            return Err(duly_status::DULY_STATUS_NULL_ARGUMENT);
        }
        // SAFETY: the header asks for NULL or a struct as long as its size says, with NULL or a string as its name.
        let (options, mut builder) = unsafe {
            let options = read_pool(options)?;
            let builder = builder(&options)?;
            (options, builder)
        };
        // SAFETY: as above.
        let name = unsafe { from_c(options.name) };
        let name = name.as_deref().unwrap_or("duly");
        let hook = Hook::new(options.hook, options.hook_data, options.hook_drop, name);
        if let Some(hook) = &hook {
            builder = Hook::attach(hook, builder);
        }
        let carry = options.carry_capture.is_some().then(|| {
            let mut functions = Functions::new(options.carry_data, options.carry_drop);
            functions.capture = options.carry_capture;
            functions.enter = options.carry_enter;
            functions.exit = options.carry_exit;
            functions.release = options.carry_release;
            Arc::new(functions)
        });
        if let Some(carry) = &carry {
            builder = builder.context(Carrier(carry.clone()));
        }
        let built = Held::new(builder.build()?);
        // Made: what the options brought along is the pool's now, also where no function is there to use it.
        match &hook {
            Some(hook) => hook.keep_data(),
            None => drop(Owned::new(options.hook_data, options.hook_drop)),
        }
        match &carry {
            Some(carry) => carry.keep_data(),
            None => drop(Owned::new(options.carry_data, options.carry_drop)),
        }
        // SAFETY: not null; the header asks for a place to write to.
        unsafe { pool.write(handle::into_raw::<duly_pool>(built)) };
        Ok(())
    })
}

/// The counters of the pool now. `size` is sizeof(duly_stats).
/// Ownership: the pool and the struct stay the caller's.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: OK, NULL_ARGUMENT, INVALID_ARGUMENT (a size that no version of the struct has), FOREIGN_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_pool_stats(pool: *const duly_pool, stats: *mut duly_stats, size: usize) -> duly_status {
    // SAFETY: the header asks for a live handle and a struct of `size` bytes.
    checked(|| unsafe { stats::write(&handle::borrow(pool)?.stats(), stats, size) })
}

/// Accepts no more tasks: every submit, also one that waits for room, answers SHUT_DOWN. What was accepted is still run.
/// Ownership: the pool stays the caller's.
/// Thread-safety: any thread, callbacks included. Closing twice is fine.
/// Blocks: never.
/// Status: OK, NULL_ARGUMENT, FOREIGN_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_pool_close(pool: *mut duly_pool) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a live handle.
        unsafe { handle::borrow(pool) }?.close();
        Ok(())
    })
}

/// From when this returns on there are to be `workers` threads that run callbacks, 1 to 32,767, replacements apart. Those
/// that are too many end when their callback returns; those that are missing are created now.
/// Ownership: the pool stays the caller's.
/// Thread-safety: any thread, callbacks included.
/// Blocks: only while threads are created.
/// Status: OK, INVALID_ARGUMENT, SHUT_DOWN, NO_THREADS (some are missing), NULL_ARGUMENT, FOREIGN_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_pool_set_workers(pool: *mut duly_pool, workers: u32) -> duly_status {
    // SAFETY: the header asks for a live handle.
    checked(|| Ok(unsafe { handle::borrow(pool) }?.set_workers(workers as usize)?))
}

/// Pauses each queue that the pool has now: see `duly_queue_pause`.
/// Ownership: the pool stays the caller's.
/// Thread-safety: any thread, callbacks included. Pausing twice is as once.
/// Blocks: never.
/// Status: OK, NULL_ARGUMENT, FOREIGN_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_pool_pause(pool: *mut duly_pool) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a live handle.
        unsafe { handle::borrow(pool) }?.pause();
        Ok(())
    })
}

/// Undoes `duly_pool_pause`, and `duly_queue_pause` of each queue.
/// Ownership: the pool stays the caller's.
/// Thread-safety: any thread, callbacks included.
/// Blocks: never.
/// Status: OK, NULL_ARGUMENT, FOREIGN_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_pool_resume(pool: *mut duly_pool) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a live handle.
        unsafe { handle::borrow(pool) }?.resume();
        Ok(())
    })
}

/// True once the pool accepts no more: it was closed or shut down, by a call, a signal or a fork.
/// Ownership: the pool stays the caller's.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; false for NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_pool_is_closed(pool: *const duly_pool) -> bool {
    // SAFETY: the header asks for a live handle.
    boundary(|| unsafe { handle::borrow(pool) }.is_ok_and(|pool| pool.is_closed()))
}

/// True in a forked child for a pool of its parent: no thread of it is here, every call on it answers at once, and what had
/// no outcome is DULY_ABANDONED. Make a new one.
/// Ownership: the pool stays the caller's.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; false for NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_pool_is_inherited(pool: *const duly_pool) -> bool {
    // SAFETY: the header asks for a live handle.
    boundary(|| unsafe { handle::borrow(pool) }.is_ok_and(|pool| pool.is_inherited()))
}

/// Closes the pool, runs what was accepted for at most `drain_ns`, then abandons the rest: every task has its outcome
/// when this returns. 0 abandons at once, DULY_FOREVER waits for everything. `report` may be NULL.
/// Ownership: the caller owns the report and releases it; the pool stays the caller's and answers SHUT_DOWN from now on.
/// Thread-safety: any thread but the workers of this pool. Shutting down twice is fine.
/// Blocks: up to drain_ns and little more, whatever the callbacks do.
/// Status: OK, WOULD_DEADLOCK (called by a worker of this pool), NULL_ARGUMENT, FOREIGN_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_pool_shutdown(
    pool: *mut duly_pool,
    drain_ns: u64,
    report: *mut *mut duly_report,
) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a live handle.
        let pool = unsafe { handle::borrow(pool) }?;
        let done = pool
            .shutdown(span(drain_ns))
            .map_err(|_| duly_status::DULY_STATUS_WOULD_DEADLOCK)?;
        if !report.is_null() {
            // SAFETY: not null; the header asks for a place to write to.
            unsafe { report.write(handle::into_raw::<duly_report>(Report::new(&done))) };
        }
        Ok(())
    })
}

/// One more reference to the pool.
/// Ownership: the caller owns the new reference and releases it.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; returns the same pointer, NULL for NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_pool_retain(pool: *mut duly_pool) -> *mut duly_pool {
    // SAFETY: the header asks for a live handle.
    boundary(|| unsafe { handle::retain(pool) })
}

/// Gives one reference back. The last one closes the pool, which drains in the background for drop_drain_ns and then
/// abandons what is left; call `duly_pool_shutdown` first to wait for that and to get the report.
/// Ownership: takes the caller's reference. NULL is fine.
/// Thread-safety: any thread, callbacks included.
/// Blocks: never.
/// Status: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_pool_release(pool: *mut duly_pool) {
    // SAFETY: the header asks for a live handle, of which the caller gives up one reference.
    boundary(|| unsafe { handle::release(pool) });
}
