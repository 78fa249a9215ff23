//! From (run, user_data, drop) and options to an accepted task.
//!
//! Invariants:
//! 1. user_data changes owner only when a submit returns OK; a refused callback is forgotten, not dropped.
//! 2. Options are read before anything else is done: what they ask for is there, or the submit is refused.

use std::ffi::c_void;
use std::time::Duration;

use duly::{Context, Kind, Native, Options, Pool, SubmitErrorKind, Task};

use crate::boundary::checked;
use crate::call::{Call, Failure, duly_call};
use crate::completions::Tag;
use crate::foreign::{Owned, duly_drop_fn, duly_run_fn};
use crate::handle;
use crate::options::{DULY_FOREVER, DULY_TASK_DETACHED, duly_task_options, read_task};
use crate::pool::{duly_pool, own_overflow};
use crate::status::duly_status;
use crate::task::duly_task;
use crate::text::from_c;
use crate::ticket::{self, Kept, Ticket};

/// The core's options, as the caller's ask for.
///
/// # Safety
/// As [`ask`].
pub(crate) unsafe fn asked<'p>(pool: &'p Pool, options: &duly_task_options) -> Result<Options<'p>, duly_status> {
    let mut how = pool.options();
    // SAFETY: the caller's contract is the same.
    unsafe { ask(pool, options, &mut how) }?;
    Ok(how)
}

/// Adds what is asked for to fresh options. In place, as they are large.
///
/// # Safety
/// What `options` points to is null or what the header asks for: a NUL-terminated label, live handles, a key of as many
/// readable bytes as it says.
#[inline(always)]
unsafe fn ask<'p>(pool: &'p Pool, options: &duly_task_options, how: &mut Options<'p>) -> Result<(), duly_status> {
    match options.timeout_ns {
        0 | DULY_FOREVER => {}
        ns => how.set_timeout(Duration::from_nanos(ns)),
    }
    if !options.token.is_null() {
        // SAFETY: as this function's contract says.
        how.set_token(unsafe { handle::borrow(options.token) }?.token());
    }
    // What few ask for.
    let more = options.timeout_ns == DULY_FOREVER
        || options.flags != 0
        || !options.label.is_null()
        || !options.submitted_at.is_null()
        || options.submit_timeout_ns != 0
        || !options.queue.is_null()
        || !options.key.is_null()
        || options.key_size != 0
        || options.delay_ns != 0
        || options.overflow != 0
        || options.reserved != 0;
    if more {
        // SAFETY: as this function's contract says.
        *how = unsafe { ask_more(std::mem::replace(how, pool.options()), options) }?;
    }
    Ok(())
}

/// # Safety
/// As [`ask`].
#[inline(never)]
unsafe fn ask_more<'p>(mut how: Options<'p>, options: &duly_task_options) -> Result<Options<'p>, duly_status> {
    // SAFETY: as this function's contract says.
    if let Some(label) = unsafe { from_c(options.label) } {
        how = how.label(label.into_owned());
    }
    // SAFETY: as this function's contract says.
    if let Some(place) = unsafe { from_c(options.submitted_at) } {
        how = how.submitted_at(&place);
    }
    if options.timeout_ns == DULY_FOREVER {
        how = how.no_deadline();
    }
    if options.submit_timeout_ns != 0 && options.submit_timeout_ns != DULY_FOREVER {
        how = how.submit_timeout(Duration::from_nanos(options.submit_timeout_ns));
    }
    if options.flags & DULY_TASK_DETACHED != 0 {
        how = how.detached();
    }
    if !options.queue.is_null() {
        // SAFETY: as this function's contract says.
        how = how.queue(unsafe { handle::borrow(options.queue) }?.queue());
    }
    if !options.key.is_null() {
        if options.key_size > isize::MAX as usize {
            return Err(duly_status::DULY_STATUS_INVALID_ARGUMENT);
        }
        // SAFETY: as this function's contract says; not null, and no longer than memory is.
        how = how.key(unsafe { std::slice::from_raw_parts(options.key.cast::<u8>(), options.key_size) });
    } else if options.key_size != 0 {
        return Err(duly_status::DULY_STATUS_NULL_ARGUMENT);
    }
    if options.delay_ns != 0 {
        how = how.delay(Duration::from_nanos(options.delay_ns));
    }
    if options.reserved != 0 {
        return Err(duly_status::DULY_STATUS_UNSUPPORTED);
    }
    if let Some(overflow) = own_overflow(options.overflow)? {
        how = how.overflow(overflow);
    }
    Ok(how)
}

/// What a submit is to do, added to fresh options; and the handle of its task where that has to be there before the task: for a
/// completion queue, or because the core's failure goes to somebody else.
///
/// # Safety
/// As [`asked`].
#[inline(always)]
pub(crate) unsafe fn ask_ahead<'p>(
    pool: &'p Pool,
    options: &duly_task_options,
    kept: Option<&Kept>,
    how: &mut Options<'p>,
) -> Result<Option<handle::Kept<duly_task>>, duly_status> {
    // SAFETY: the caller's contract is the same.
    unsafe { ask(pool, options, how) }?;
    if options.completions.is_null() && kept.is_none() {
        return Ok(None);
    }
    let ticket = handle::keep::<duly_task>(Ticket::ahead(kept.cloned()));
    if !options.completions.is_null() {
        // SAFETY: as this function's contract says.
        let completions = unsafe { handle::borrow(options.completions) }?;
        let (number, ticket) = (options.tag, ticket.clone());
        *how = std::mem::replace(how, pool.options()).completions(completions, Tag { number, ticket });
    }
    Ok(Some(ticket))
}

/// The handle of an accepted task, for C.
#[inline(always)]
pub(crate) fn accept(task: Task<Owned, Failure>, ahead: Option<handle::Kept<duly_task>>) -> *mut duly_task {
    match ahead {
        None => ticket::give(task),
        Some(ahead) => {
            ahead.object().bind(task);
            handle::give::<duly_task>(ahead)
        }
    }
}

/// A callback of C's.
#[derive(Debug)]
pub(crate) struct Submitted {
    run: unsafe extern "C-unwind" fn(*mut c_void, *mut duly_call) -> i32,
    data: Owned,
}

/// What their tasks are known by.
pub(crate) static SUBMITTED: Kind<Submitted> = Kind::new();

impl Native for Submitted {
    type Value = Owned;
    type Error = Failure;

    #[inline(always)]
    fn kind() -> &'static Kind<Submitted> {
        &SUBMITTED
    }

    #[inline(always)]
    fn run(self, context: &Context) -> Result<Owned, Failure> {
        // All of `data` goes when the callback has returned.
        Call::run(Some(self.run), &self.data, context)
    }

    #[inline(always)]
    fn is_bare(value: &Owned) -> bool {
        value.is_bare()
    }
}

/// Both ways to submit differ in one verb.
///
/// # Safety
/// As `duly_submit` in the header.
#[inline(always)]
unsafe fn submit(
    pool: *const duly_pool,
    options: *const duly_task_options,
    run: duly_run_fn,
    data: (*mut c_void, duly_drop_fn),
    task: *mut *mut duly_task,
    wait: bool,
) -> Result<(), duly_status> {
    // SAFETY: the header asks for a live handle.
    let pool = unsafe { handle::borrow(pool)? };
    if !options.is_null() {
        // SAFETY: the contract is handed on as it is.
        return unsafe { submit_with(pool, options, run, data, task, wait) };
    }
    let run = run.ok_or(duly_status::DULY_STATUS_INVALID_ARGUMENT)?;
    let data = Owned::new(data.0, data.1);
    let accepted = pool.submit_native(Submitted { run, data }, wait);
    // SAFETY: the contract is handed on as it is.
    unsafe { answer(accepted, None, task) }
}

/// # Safety
/// As `duly_submit` in the header; the options are not null.
#[inline(never)]
unsafe fn submit_with(
    pool: &Pool,
    options: *const duly_task_options,
    run: duly_run_fn,
    data: (*mut c_void, duly_drop_fn),
    task: *mut *mut duly_task,
    wait: bool,
) -> Result<(), duly_status> {
    // SAFETY: the header asks for a struct as long as its size says, and for what the function does.
    let options = unsafe { read_task(options) }?;
    let mut how = pool.options();
    // SAFETY: the contract is handed on as it is.
    let ticket = unsafe { ask_ahead(pool, &options, None, &mut how) }?;
    let run = run.ok_or(duly_status::DULY_STATUS_INVALID_ARGUMENT)?;
    let data = Owned::new(data.0, data.1);
    let accepted = how.submit_native(Submitted { run, data }, wait);
    // SAFETY: the contract is handed on as it is.
    unsafe { answer(accepted, ticket, task) }
}

/// What a submit tells C.
///
/// # Safety
/// `task` is null or valid for a write.
#[inline(always)]
unsafe fn answer(
    accepted: Result<Task<Owned, Failure>, (SubmitErrorKind, Submitted)>,
    ticket: Option<handle::Kept<duly_task>>,
    task: *mut *mut duly_task,
) -> Result<(), duly_status> {
    match accepted {
        Ok(accepted) => {
            if !task.is_null() {
                // SAFETY: not null; the header asks for a place to write to.
                unsafe { task.write(accept(accepted, ticket)) };
            }
            Ok(())
        }
        Err((kind, refused)) => {
            // Refused: user_data is the caller's again. The callback owns nothing else.
            std::mem::forget(refused);
            Err(kind.into())
        }
    }
}

/// Submits a task: `run(user_data, call)` will be called at most once, on a worker. Waits for room as the overflow policy
/// says: that of the options, or else the queue's. `options`, `user_data`, `drop` and `task` may be NULL; `run` may not
/// (INVALID_ARGUMENT).
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

/// As `duly_submit`, but never waits for room: a full queue is QUEUE_FULL under block, reject and caller_runs; the policies
/// that shed do.
/// Ownership: as `duly_submit`.
/// Thread-safety: any thread, callbacks included.
/// Blocks: never.
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
