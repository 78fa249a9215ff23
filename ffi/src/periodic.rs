//! Periodic tasks: a callback again and again, each run a task.
//!
//! Invariants:
//! 1. user_data changes owner only when `duly_pool_every` returns OK, and is released after the last run.
//! 2. A task options struct that periodic options point to is read as any, and with the same care.

use std::ffi::{CStr, CString, c_char, c_void};
use std::mem::size_of;
use std::time::Duration;

use duly::{CancelReason, Context, Every, Missed, Periodic, PeriodicEnd, PeriodicStats};

use crate::boundary::{boundary, checked};
use crate::call::{Call, Failure};
use crate::foreign::{Owned, duly_drop_fn, duly_run_fn};
use crate::handle::{self, Handle};
use crate::lazy::Lazy;
use crate::options::{
    DULY_FOREVER, DULY_PERIODIC_CATCH_UP, DULY_PERIODIC_OVERLAP, duly_periodic_options, read_periodic, read_task,
};
use crate::pool::duly_pool;
use crate::stats::write_versioned;
use crate::status::duly_status;
use crate::submit::asked;
use crate::task::span;
use crate::text::{from_c, to_c, view};
use crate::token::{self, duly_token};

/// A callback that is run again and again: `duly_pool_every`. Refcounted; safe from any thread. Releasing it cancels
/// nothing; it does not keep its pool.
#[derive(Debug)]
pub struct duly_periodic {
    _opaque: (),
}

impl Handle for duly_periodic {
    type Object = Held;
    const KIND: usize = handle::kind::PERIODIC;
}

#[derive(Debug)]
pub(crate) struct Held {
    periodic: Periodic,
    reason: Lazy<CString>,
    /// Somebody who waits for the end, as long as there is a handle.
    _watch: Option<Periodic>,
}

impl Held {
    pub(crate) fn new(periodic: Periodic, watch: Option<Periodic>) -> Held {
        Held {
            periodic,
            reason: Lazy::new(),
            _watch: watch,
        }
    }
}

/// What the caller's options ask for, but for the callback.
///
/// # Safety
/// As `duly_pool_every` in the header.
pub(crate) unsafe fn asked_every<'p>(
    pool: *const duly_pool,
    options: *const duly_periodic_options,
) -> Result<Every<'p>, duly_status> {
    if options.is_null() {
        return Err(duly_status::DULY_STATUS_NULL_ARGUMENT);
    }
    // SAFETY: the header asks for a live handle and for structs as long as their sizes say, with what they point to.
    let (how, options) = unsafe {
        let (pool, options) = (handle::borrow(pool)?, read_periodic(options)?);
        let task = read_task(options.task)?;
        if !task.completions.is_null() {
            return Err(duly_status::DULY_STATUS_UNSUPPORTED);
        }
        (asked(pool, &task)?, options)
    };
    let mut every = how
        .every(Duration::from_nanos(options.period_ns))
        .jitter(Duration::from_nanos(options.jitter_ns))
        .overlap(options.flags & DULY_PERIODIC_OVERLAP != 0);
    if options.flags & DULY_PERIODIC_CATCH_UP != 0 {
        every = every.missed(Missed::CatchUp);
    }
    if options.max_failures != 0 {
        every = every.max_failures(options.max_failures);
    }
    Ok(every)
}

/// Why a periodic task runs no more.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum duly_periodic_end {
    /// It was cancelled, or a token above it, or the deadline of that has passed: `duly_periodic_reason`.
    DULY_PERIODIC_CANCELLED = 1,
    /// Its pool was closed or shut down, or the process is a forked child.
    DULY_PERIODIC_SHUT_DOWN = 2,
    /// So many runs in a row failed, as many as max_failures allows.
    DULY_PERIODIC_FAILED = 3,
}

impl From<&PeriodicEnd> for duly_periodic_end {
    fn from(end: &PeriodicEnd) -> duly_periodic_end {
        match end {
            PeriodicEnd::Cancelled(_) => duly_periodic_end::DULY_PERIODIC_CANCELLED,
            PeriodicEnd::Failed(_) => duly_periodic_end::DULY_PERIODIC_FAILED,
            // Open for growth in Rust; these three are all.
            _ => duly_periodic_end::DULY_PERIODIC_SHUT_DOWN,
        }
    }
}

/// What a periodic task has done so far, at one moment.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct duly_periodic_numbers {
    /// Callbacks that were started.
    pub runs: u64,
    /// Runs that returned a code, panicked, or returned after their task had been ended from outside.
    pub failures: u64,
    /// Ticks without a run: skipped, or whose task was ended in the queue.
    pub missed: u64,
    /// Runs that are queued or running now.
    pub active: u64,
}

/// Size of the first version: frozen.
const FIRST: usize = 4 * 8;
const _: () = assert!(size_of::<duly_periodic_numbers>() >= FIRST);

impl From<PeriodicStats> for duly_periodic_numbers {
    fn from(stats: PeriodicStats) -> duly_periodic_numbers {
        duly_periodic_numbers {
            runs: stats.runs,
            failures: stats.failures,
            missed: stats.missed,
            active: stats.active,
        }
    }
}

/// What all runs share.
#[derive(Debug)]
struct Shared(Owned);

// SAFETY: the header says that run is called several times with the same user_data, and at the same time only under
// DULY_PERIODIC_OVERLAP.
unsafe impl Sync for Shared {}

/// Calls `run(user_data, call)` every `period_ns`, each run a task with the options named; the first after one period, or
/// after the task's delay_ns. Ticks stand on a grid: a run that takes long moves none. A tick whose run cannot be submitted
/// (the one before is not done, the queue is full) is missed, or made up for: DULY_PERIODIC_CATCH_UP. timeout_ns holds for
/// each run; a token cancels the whole. `drop` and `periodic` may be NULL.
/// Ownership: on OK duly owns user_data and calls `drop` once, when the last run is over; on any other status user_data
/// stays the caller's. The caller owns the periodic task and releases it; options are copied.
/// Thread-safety: any thread, callbacks included.
/// Blocks: never.
/// Status: OK, CANCELLED, SHUT_DOWN, INVALID_ARGUMENT (a period of 0, a jitter not below it), NULL_ARGUMENT (no pool or
/// options), FOREIGN_HANDLE, UNSUPPORTED.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_pool_every(
    pool: *const duly_pool,
    options: *const duly_periodic_options,
    run: duly_run_fn,
    user_data: *mut c_void,
    drop: duly_drop_fn,
    periodic: *mut *mut duly_periodic,
) -> duly_status {
    checked(|| {
        // SAFETY: the contract is handed on as it is.
        let every = unsafe { asked_every(pool, options) }?;
        if run.is_none() {
            return Err(duly_status::DULY_STATUS_INVALID_ARGUMENT);
        }
        let data = Shared(Owned::new(user_data, drop));
        let begun = every.submit(move |context: &Context| -> Result<Owned, Failure> {
            let data = &data;
            Call::run(run, &data.0, context)
        });
        match begun {
            Ok(begun) => {
                if !periodic.is_null() {
                    // SAFETY: not null; the header asks for a place to write to.
                    unsafe { periodic.write(handle::into_raw::<duly_periodic>(Held::new(begun, None))) };
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
    })
}

/// # Safety
/// As `duly_periodic_cancel` in the header.
unsafe fn cancel(periodic: *mut duly_periodic, reason: CancelReason) -> Result<(), duly_status> {
    // SAFETY: the header asks for a live handle.
    let held = unsafe { handle::borrow(periodic) }?;
    if held.periodic.cancel_with(reason) {
        Ok(())
    } else {
        Err(duly_status::DULY_STATUS_ENDED)
    }
}

/// Ends it, with reason "requested": a queued run is cancelled, the callback of a running one is told.
/// Ownership: the periodic task stays the caller's.
/// Thread-safety: any thread, callbacks included, its own too.
/// Blocks: never.
/// Status: OK (this call ended it), ENDED (it had ended), NULL_ARGUMENT, FOREIGN_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_periodic_cancel(periodic: *mut duly_periodic) -> duly_status {
    // SAFETY: the contract is handed on as it is.
    checked(|| unsafe { cancel(periodic, CancelReason::Requested) })
}

/// As `duly_periodic_cancel`, with a reason of the caller's.
/// Ownership: `reason` is copied; the periodic task stays the caller's.
/// Thread-safety: any thread, callbacks included, its own too.
/// Blocks: never.
/// Status: OK (this call ended it), ENDED (it had ended), NULL_ARGUMENT, FOREIGN_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_periodic_cancel_with(periodic: *mut duly_periodic, reason: *const c_char) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a NUL-terminated string.
        let reason = unsafe { from_c(reason) }.ok_or(duly_status::DULY_STATUS_NULL_ARGUMENT)?;
        // SAFETY: the contract is handed on as it is.
        unsafe { cancel(periodic, CancelReason::from(&*reason)) }
    })
}

/// Waits until it has ended, at most `timeout_ns` (DULY_FOREVER: as long as it takes): it is cancelled, its pool is closed,
/// it has failed too often. A run that was submitted before may still be running. `end` (a duly_periodic_end) may be NULL.
/// Ownership: the periodic task stays the caller's.
/// Thread-safety: any thread; many may wait for the same one.
/// Blocks: up to timeout_ns; 0 only looks.
/// Status: OK, TIMED_OUT (it goes on), NULL_ARGUMENT, FOREIGN_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_periodic_wait(
    periodic: *const duly_periodic,
    timeout_ns: u64,
    end: *mut i32,
) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a live handle.
        let held = unsafe { handle::borrow(periodic) }?;
        let ended = if timeout_ns == DULY_FOREVER {
            held.periodic.wait()
        } else {
            held.periodic
                .wait_timeout(span(timeout_ns))
                .ok_or(duly_status::DULY_STATUS_TIMED_OUT)?
        };
        // SAFETY: the header asks for NULL or a place to write to.
        unsafe { handle::write_if_wanted(end, duly_periodic_end::from(&ended) as i32) };
        Ok(())
    })
}

/// Why it was cancelled: "requested", the caller's own words; "" while it goes on, and if it ended otherwise.
/// Ownership: a view owned by the periodic task, never NULL; valid until its last release.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; "" for NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_periodic_reason(periodic: *const duly_periodic) -> *const c_char {
    view(boundary(|| -> &CStr {
        // SAFETY: the header asks for a live handle.
        let held = unsafe { handle::borrow(periodic) };
        held.map_or(c"", |held| match held.periodic.end() {
            Some(PeriodicEnd::Cancelled(reason)) => held.reason.get_or(|| to_c(&reason.to_string())),
            _ => c"",
        })
    }))
}

/// What it has done so far. `size` is sizeof(duly_periodic_numbers).
/// Ownership: the periodic task and the struct stay the caller's.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: OK, NULL_ARGUMENT, INVALID_ARGUMENT (a size that no version of the struct has), FOREIGN_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_periodic_stats(
    periodic: *const duly_periodic,
    stats: *mut duly_periodic_numbers,
    size: usize,
) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a live handle and a struct of `size` bytes.
        unsafe {
            let numbers = duly_periodic_numbers::from(handle::borrow(periodic)?.periodic.stats());
            write_versioned(&numbers, FIRST, stats, size)
        }
    })
}

/// The token of all its runs: cancelling it ends the whole.
/// Ownership: the caller owns the token and releases it.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: OK, NULL_ARGUMENT, FOREIGN_HANDLE.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_periodic_token(
    periodic: *const duly_periodic,
    token: *mut *mut duly_token,
) -> duly_status {
    // SAFETY: the header asks for a live handle, and for NULL or a place to write to.
    checked(|| unsafe {
        let held = handle::borrow(periodic)?;
        token::give(token, || Ok(held.periodic.token()))
    })
}

/// One more reference to the periodic task.
/// Ownership: the caller owns the new reference and releases it.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; returns the same pointer, NULL for NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_periodic_retain(periodic: *mut duly_periodic) -> *mut duly_periodic {
    // SAFETY: the header asks for a live handle.
    boundary(|| unsafe { handle::retain(periodic) })
}

/// Gives one reference back; it cancels nothing: the callback is run on.
/// Ownership: takes the caller's reference. NULL is fine.
/// Thread-safety: any thread, callbacks included.
/// Blocks: never.
/// Status: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_periodic_release(periodic: *mut duly_periodic) {
    // SAFETY: the header asks for a live handle, of which the caller gives up one reference.
    boundary(|| unsafe { handle::release(periodic) });
}
