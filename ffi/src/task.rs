//! Tasks: the caller's handle of one accepted callback.
//!
//! Invariant: waiting and looking move nothing. The value moves to the first `duly_task_take`; if nobody takes it, the last
//! release drops it.

use std::ffi::{CStr, c_char, c_void};
use std::time::Duration;

use duly::{CancelReason, Task};

use crate::boundary::{boundary, checked};
use crate::call::Failure;
use crate::foreign::{Listener, duly_drop_fn, duly_outcome_fn};
use crate::handle::{self, Handle};
use crate::options::DULY_FOREVER;
use crate::status::{duly_outcome, duly_status};
use crate::text::{from_c, view};
use crate::ticket::{self, End, Ticket};

/// One accepted callback: a handle with exactly one outcome, sooner or later. Refcounted; safe from any thread.
/// Releasing it cancels nothing.
#[derive(Debug)]
pub struct duly_task {
    _opaque: (),
}

impl Handle for duly_task {
    type Object = Ticket;
    const KIND: usize = handle::kind::TASK;
}

/// A span in nanoseconds as the core takes it; [`DULY_FOREVER`] is the longest there is.
pub(crate) fn span(nanoseconds: u64) -> Duration {
    if nanoseconds == DULY_FOREVER {
        Duration::MAX
    } else {
        Duration::from_nanos(nanoseconds)
    }
}

/// Waits until the task has its outcome, at most `timeout_ns` (DULY_FOREVER: as long as it takes).
/// Ownership: the task stays the caller's; nothing is taken.
/// Thread-safety: any thread; many may wait for the same task.
/// Blocks: up to timeout_ns; 0 only looks.
/// Status: OK, TIMED_OUT (the task goes on), WOULD_DEADLOCK (inside a callback, with DULY_FOREVER: this wait could never
/// end; the task goes on), NULL_ARGUMENT, FOREIGN_HANDLE. `outcome` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_task_wait(
    task: *const duly_task,
    timeout_ns: u64,
    outcome: *mut duly_outcome,
) -> duly_status {
    // SAFETY: the header asks for a live handle.
    if unsafe { ticket::has_plainly_succeeded(task) } {
        // SAFETY: the header asks for NULL or a place to write to.
        unsafe { handle::write_if_wanted(outcome, duly_outcome::DULY_SUCCEEDED) };
        return duly_status::DULY_STATUS_OK;
    }
    // SAFETY: the same contract.
    unsafe { wait(task, timeout_ns, outcome) }
}

/// [`duly_task_wait`] where that has to wait, or to refuse.
///
/// # Safety
/// As that.
#[inline(never)]
unsafe fn wait(task: *const duly_task, timeout_ns: u64, outcome: *mut duly_outcome) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a live handle.
        let task = unsafe { ticket::borrow(task) }?;
        let ended = task.wait(timeout_ns)?;
        // SAFETY: the header asks for NULL or a place to write to.
        unsafe { handle::write_if_wanted(outcome, ended.into()) };
        Ok(())
    })
}

/// The outcome of a task that has one.
/// Ownership: the task stays the caller's; nothing is taken.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: OK, PENDING, NULL_ARGUMENT, FOREIGN_HANDLE. `outcome` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_task_outcome(task: *const duly_task, outcome: *mut duly_outcome) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a live handle.
        let task = unsafe { ticket::borrow(task) }?;
        let ended = task.outcome().ok_or(duly_status::DULY_STATUS_PENDING)?;
        // SAFETY: the header asks for NULL or a place to write to.
        unsafe { handle::write_if_wanted(outcome, ended.into()) };
        Ok(())
    })
}

/// Moves the value of a succeeded task to the caller: the first taker gets it, later ones are told so.
/// Ownership: the value becomes the caller's; its drop will not be called. NULL if the callback set none.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: OK, TAKEN, PENDING, NO_VALUE (another outcome), NULL_ARGUMENT, FOREIGN_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_task_take(task: *mut duly_task, value: *mut *mut c_void) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a live handle.
        let task = unsafe { ticket::borrow(task) }?;
        if value.is_null() {
            return Err(duly_status::DULY_STATUS_NULL_ARGUMENT);
        }
        let owned = task.take()?;
        // SAFETY: not null; the header asks for a place to write to.
        unsafe { value.write(owned.into_inner()) };
        Ok(())
    })
}

/// Waits until the callback has returned (or never will be started) and user_data has been dropped. A task past its
/// deadline has its outcome at once; this tells when the memory it may borrow is free.
/// Ownership: the task stays the caller's.
/// Thread-safety: any thread.
/// Blocks: up to timeout_ns; 0 only looks.
/// Status: OK, TIMED_OUT, NULL_ARGUMENT, FOREIGN_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_task_wait_released(task: *const duly_task, timeout_ns: u64) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a live handle.
        let task = unsafe { ticket::borrow(task) }?;
        if task.task().is_none_or(|task| task.released(span(timeout_ns))) {
            Ok(())
        } else {
            Err(duly_status::DULY_STATUS_TIMED_OUT)
        }
    })
}

/// Cancels the task, with reason "requested": queued or running, it has its outcome when this returns. A running
/// callback goes on until it looks at `duly_call_is_cancelled`.
/// Ownership: the task stays the caller's.
/// Thread-safety: any thread.
/// Blocks: never, apart from the drop of user_data of a task that never ran.
/// Status: OK (this call decided the outcome), ENDED (it had one), NULL_ARGUMENT, FOREIGN_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_task_cancel(task: *mut duly_task) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a live handle.
        let task = unsafe { ticket::borrow(task) }?;
        if task.task().is_some_and(Task::cancel) {
            Ok(())
        } else {
            Err(duly_status::DULY_STATUS_ENDED)
        }
    })
}

/// As `duly_task_cancel`, with a reason of the caller's, which `duly_task_reason` shows.
/// Ownership: `reason` is copied; the task stays the caller's.
/// Thread-safety: any thread.
/// Blocks: never, apart from the drop of user_data of a task that never ran.
/// Status: OK (this call decided the outcome), ENDED (it had one), NULL_ARGUMENT, FOREIGN_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_task_cancel_with(task: *mut duly_task, reason: *const c_char) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a live handle and a NUL-terminated string.
        let (task, reason) = unsafe { (ticket::borrow(task)?, from_c(reason)) };
        let reason = reason.ok_or(duly_status::DULY_STATUS_NULL_ARGUMENT)?;
        if task
            .task()
            .is_some_and(|task| task.cancel_with(CancelReason::from(&*reason)))
        {
            Ok(())
        } else {
            Err(duly_status::DULY_STATUS_ENDED)
        }
    })
}

/// Registers a completion callback, which is told the outcome: on the worker that ends the task, otherwise on a delivery
/// thread; here and now if the task has its outcome. It is told although the last handle of the task is released before.
/// Ownership: the task stays the caller's, nothing is taken. On OK duly owns user_data and calls `drop` (may be NULL)
/// exactly once, after `tell` or, in a forked child, instead of it; on any other status user_data stays the caller's.
/// Thread-safety: any thread, callbacks included.
/// Blocks: never, apart from a `tell` here and now.
/// Status: OK, INVALID_ARGUMENT (no `tell`), NULL_ARGUMENT (no task), FOREIGN_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_task_on_complete(
    task: *mut duly_task,
    tell: duly_outcome_fn,
    user_data: *mut c_void,
    drop: duly_drop_fn,
) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a live handle.
        let task = unsafe { ticket::borrow(task) }?;
        let listener =
            Listener::new(&"completion", tell, user_data, drop).ok_or(duly_status::DULY_STATUS_INVALID_ARGUMENT)?;
        match (task.task(), task.outcome()) {
            (Some(task), _) => task.on_complete(move |outcome| listener.tell(outcome.into())),
            (None, Some(outcome)) => listener.tell(outcome.into()),
            (None, None) => return Err(duly_status::DULY_STATUS_PENDING),
        }
        Ok(())
    })
}

/// The code that run returned, of a failed task.
/// Ownership: the task stays the caller's.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; 0 for any other outcome, a task without one, NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_task_code(task: *const duly_task) -> i32 {
    boundary(|| {
        // SAFETY: the header asks for a live handle.
        let task = unsafe { ticket::borrow(task) };
        task.ok()
            .and_then(|task| task.end())
            .and_then(End::failure)
            .map_or(0, Failure::code)
    })
}

/// The message of a failed or panicked task.
/// Ownership: a view owned by the task, never NULL; valid until its last release.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; "" for any other outcome, a task without one, NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_task_message(task: *const duly_task) -> *const c_char {
    view(boundary(|| -> &CStr {
        // SAFETY: the header asks for a live handle.
        let task = unsafe { ticket::borrow(task) };
        task.ok().and_then(|task| task.end()).map_or(c"", End::message)
    }))
}

/// The object that the callback attached to its failure with `duly_call_set_failure` and this very `drop`, which so tells of
/// what type it is.
/// Ownership: borrowed: the object is the task's and lives until its last release; every handle gives the same.
/// Thread-safety: any thread; several may look at the object at once.
/// Blocks: never.
/// Status: OK, PENDING, NO_VALUE (another outcome, no object, or another drop), NULL_ARGUMENT, FOREIGN_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_task_failure(
    task: *const duly_task,
    drop: duly_drop_fn,
    object: *mut *mut c_void,
) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a live handle.
        let task = unsafe { ticket::borrow(task) }?;
        if object.is_null() {
            return Err(duly_status::DULY_STATUS_NULL_ARGUMENT);
        }
        if task.outcome().is_none() {
            return Err(duly_status::DULY_STATUS_PENDING);
        }
        let found = task
            .end()
            .and_then(End::failure)
            .and_then(|failure| failure.object(drop));
        let found = found.ok_or(duly_status::DULY_STATUS_NO_VALUE)?;
        // SAFETY: not null; the header asks for a place to write to.
        unsafe { object.write(found) };
        Ok(())
    })
}

/// Why a task was cancelled: "requested", "caller_left", or the caller's own words.
/// Ownership: a view owned by the task, never NULL; valid until its last release.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; "" for any other outcome, a task without one, NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_task_reason(task: *const duly_task) -> *const c_char {
    view(boundary(|| -> &CStr {
        // SAFETY: the header asks for a live handle.
        let task = unsafe { ticket::borrow(task) };
        task.ok().and_then(|task| task.end()).map_or(c"", |end| &end.reason)
    }))
}

/// The label the task was submitted with; "" if it had none.
/// Ownership: a view owned by the task, never NULL; valid until its last release.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; "" for NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_task_label(task: *const duly_task) -> *const c_char {
    view(boundary(|| -> &CStr {
        // SAFETY: the header asks for a live handle.
        let task = unsafe { ticket::borrow(task) };
        task.map_or(c"", |task| task.label())
    }))
}

/// One more reference to the task.
/// Ownership: the caller owns the new reference and releases it.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; returns the same pointer, NULL for NULL, a foreign handle, or a task of which there are about a million
/// references.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_task_retain(task: *mut duly_task) -> *mut duly_task {
    // SAFETY: the header asks for a live handle.
    boundary(|| unsafe { ticket::retain(task) })
}

/// Gives one reference back; it cancels nothing. The last one frees the views and drops a value that nobody took.
/// Ownership: takes the caller's reference. NULL is fine.
/// Thread-safety: any thread, callbacks included.
/// Blocks: never, apart from the drop of the value.
/// Status: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_task_release(task: *mut duly_task) {
    // SAFETY: the header asks for a live handle, of which the caller gives up one reference.
    boundary(|| unsafe { ticket::release(task) });
}
