//! Pools: N threads over a bounded queue, and the two ways to submit to them.
//!
//! Invariants:
//! 1. user_data changes owner only when a submit returns OK; a refused callback is forgotten, not dropped.
//! 2. Releasing the last handle never blocks: the core drains in the background.

use std::ffi::c_void;
use std::time::Duration;

use duly::{BuildError, Context, Overflow, Pool, PoolBuilder, Threads};

use crate::boundary::{boundary, checked};
use crate::call::{Call, Failure};
use crate::foreign::{Owned, duly_drop_fn, duly_run_fn};
use crate::handle::{self, Handle};
use crate::options::{
    DULY_FOREVER, DULY_NONE, DULY_TASK_DETACHED, duly_pool_options, duly_task_options, read_pool, read_task,
};
use crate::report::{Report, duly_report};
use crate::stats::{self, duly_stats};
use crate::status::{duly_overflow, duly_status, duly_threads};
use crate::task::{Ticket, duly_task, span};
use crate::text::from_c;

/// N threads over a bounded queue. Refcounted; safe from any thread. Tasks do not keep it alive.
#[derive(Debug)]
pub struct duly_pool {
    _opaque: (),
}

impl Handle for duly_pool {
    type Object = Pool;
    const KIND: usize = 3;
}

fn overflow(number: i32) -> Result<Overflow, duly_status> {
    use duly_overflow::*;
    const POLICIES: [(duly_overflow, Overflow); 6] = [
        (DULY_OVERFLOW_DEFAULT, Overflow::Block),
        (DULY_OVERFLOW_BLOCK, Overflow::Block),
        (DULY_OVERFLOW_REJECT, Overflow::Reject),
        (DULY_OVERFLOW_DROP_NEWEST, Overflow::DropNewest),
        (DULY_OVERFLOW_DROP_OLDEST, Overflow::DropOldest),
        (DULY_OVERFLOW_CALLER_RUNS, Overflow::CallerRuns),
    ];
    let known = POLICIES.into_iter().find(|(policy, _)| *policy as i32 == number);
    known
        .map(|(_, overflow)| overflow)
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

fn count(field: u32) -> usize {
    if field == DULY_NONE { 0 } else { field as usize }
}

/// # Safety
/// `options.name` is null or a NUL-terminated string.
unsafe fn builder(options: &duly_pool_options) -> Result<PoolBuilder, duly_status> {
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
/// Ownership: the caller owns the pool and releases it; the options stay the caller's and may go at once.
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
        let builder = unsafe { builder(&read_pool(options)?)? };
        let built = builder.build().map_err(|error| match error {
            BuildError::Thread { .. } => duly_status::DULY_STATUS_NO_THREADS,
            _ => duly_status::DULY_STATUS_INVALID_ARGUMENT,
        })?;
        // SAFETY: not null; the header asks for a place to write to.
        unsafe { pool.write(handle::into_raw::<duly_pool>(built)) };
        Ok(())
    })
}

/// Both ways to submit differ in one verb.
///
/// # Safety
/// As `duly_submit` in the header.
unsafe fn submit(
    pool: *const duly_pool,
    options: *const duly_task_options,
    run: duly_run_fn,
    data: (*mut c_void, duly_drop_fn),
    task: *mut *mut duly_task,
    wait: bool,
) -> Result<(), duly_status> {
    // SAFETY: the header asks for a live handle and for NULL or a struct as long as its size says.
    let (pool, options) = unsafe { (handle::borrow(pool)?, read_task(options)?) };
    if run.is_none() {
        return Err(duly_status::DULY_STATUS_INVALID_ARGUMENT);
    }
    let mut how = pool.options();
    // SAFETY: the header asks for NULL or a NUL-terminated string.
    if let Some(label) = unsafe { from_c(options.label) } {
        how = how.label(label.into_owned());
    }
    match options.timeout_ns {
        0 => {}
        DULY_FOREVER => how = how.no_deadline(),
        ns => how = how.timeout(Duration::from_nanos(ns)),
    }
    if options.submit_timeout_ns != 0 && options.submit_timeout_ns != DULY_FOREVER {
        how = how.submit_timeout(Duration::from_nanos(options.submit_timeout_ns));
    }
    if options.flags & DULY_TASK_DETACHED != 0 {
        how = how.detached();
    }
    let data = Owned::new(data.0, data.1);
    let callback = move |context: &Context| -> Result<Owned, Failure> {
        // All of `data` moves in here and goes when the callback has returned, or is gone unrun with the closure.
        let data = data;
        Call::run(run, &data, context)
    };
    let accepted = if wait {
        how.submit(callback)
    } else {
        how.try_submit(callback)
    };
    match accepted {
        Ok(accepted) => {
            if !task.is_null() {
                // SAFETY: not null; the header asks for a place to write to.
                unsafe { task.write(handle::into_raw::<duly_task>(Ticket::new(accepted))) };
            }
            Ok(())
        }
        Err(refused) => {
            let status = refused.kind().into();
            // Refused: user_data is the caller's again. The closure owns nothing else.
            std::mem::forget(refused.into_callback());
            Err(status)
        }
    }
}

/// Submits a task: `run(user_data, call)` will be called at most once, on a worker. Waits for room as the pool's overflow
/// policy says. `options`, `user_data`, `drop` and `task` may be NULL; `run` may not (INVALID_ARGUMENT).
/// Ownership: on OK duly owns user_data and calls `drop` exactly once (it may have done so before this returns); on any
/// other status user_data stays the caller's. The caller owns the task and releases it; options are copied.
/// Thread-safety: any thread, callbacks included.
/// Blocks: while the queue is full, by the overflow policy, at most submit_timeout_ns and the task's own time-out.
/// Status: OK, QUEUE_FULL, SUBMIT_TIMED_OUT, DEADLINE_EXCEEDED, CANCELLED, SHUT_DOWN, WOULD_DEADLOCK, INVALID_ARGUMENT,
/// NULL_ARGUMENT, FOREIGN_HANDLE, UNSUPPORTED.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_submit(
    pool: *const duly_pool,
    options: *const duly_task_options,
    run: duly_run_fn,
    user_data: *mut c_void,
    drop: duly_drop_fn,
    task: *mut *mut duly_task,
) -> duly_status {
    // SAFETY: the contract is handed on as it is.
    checked(|| unsafe { submit(pool, options, run, (user_data, drop), task, true) })
}

/// As `duly_submit`, but never waits for room: a full queue is QUEUE_FULL (under block), or what the policy does.
/// Ownership: as `duly_submit`.
/// Thread-safety: any thread, callbacks included.
/// Blocks: never (under DULY_OVERFLOW_CALLER_RUNS the callback may run in the call).
/// Status: as `duly_submit`, without SUBMIT_TIMED_OUT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_try_submit(
    pool: *const duly_pool,
    options: *const duly_task_options,
    run: duly_run_fn,
    user_data: *mut c_void,
    drop: duly_drop_fn,
    task: *mut *mut duly_task,
) -> duly_status {
    // SAFETY: the contract is handed on as it is.
    checked(|| unsafe { submit(pool, options, run, (user_data, drop), task, false) })
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
