//! Tasks: the caller's handle of one accepted callback.
//!
//! Invariants:
//! 1. Waiting and looking move nothing. The value moves to the first `duly_task_take`; if nobody takes it, the last
//!    release drops it.
//! 2. What a failure says is moved out of the core task once, into `end`, and stays there for every reader.

use std::ffi::{CStr, CString, c_char, c_void};
use std::sync::OnceLock;
use std::time::Duration;

use duly::{CancelReason, Outcome, Task, TaskError};

use crate::boundary::{boundary, checked};
use crate::call::Failure;
use crate::foreign::Owned;
use crate::handle::{self, Handle};
use crate::options::DULY_FOREVER;
use crate::status::{duly_outcome, duly_status};
use crate::text::{from_c, to_c, view};

/// One accepted callback: a handle with exactly one outcome, sooner or later. Refcounted; safe from any thread.
/// Releasing it cancels nothing.
#[derive(Debug)]
pub struct duly_task {
    _opaque: (),
}

impl Handle for duly_task {
    type Object = Ticket;
    const KIND: usize = 2;
}

#[derive(Debug)]
pub(crate) struct Ticket {
    task: Task<Owned, Failure>,
    end: OnceLock<Box<End>>,
    label: OnceLock<CString>,
}

/// What there is to read about an end other than success.
#[derive(Debug, Default)]
struct End {
    code: i32,
    message: CString,
    reason: CString,
}

impl Ticket {
    pub(crate) fn new(task: Task<Owned, Failure>) -> Ticket {
        Ticket {
            task,
            end: OnceLock::new(),
            label: OnceLock::new(),
        }
    }

    /// The end of a task that did not succeed; `None` while it has no outcome, and for a success.
    fn end(&self) -> Option<&End> {
        match self.task.outcome() {
            None | Some(Outcome::Succeeded) => None,
            Some(_) => Some(self.end.get_or_init(|| Box::new(self.read_end()))),
        }
    }

    fn read_end(&self) -> End {
        match self.task.wait_timeout(Duration::ZERO) {
            Some(Err(TaskError::Failed(Failure { code, message }))) => End {
                code,
                message,
                ..End::default()
            },
            Some(Err(TaskError::Panicked(panic))) => End {
                message: to_c(panic.message()),
                ..End::default()
            },
            Some(Err(TaskError::Cancelled(cancelled))) => End {
                reason: to_c(&cancelled.reason().to_string()),
                ..End::default()
            },
            _ => End::default(),
        }
    }
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
/// Status: OK, TIMED_OUT (the task goes on), NULL_ARGUMENT, FOREIGN_HANDLE. `outcome` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_task_wait(
    task: *const duly_task,
    timeout_ns: u64,
    outcome: *mut duly_outcome,
) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a live handle.
        let task = unsafe { handle::borrow(task) }?;
        let ended = task
            .task
            .wait_outcome(span(timeout_ns))
            .ok_or(duly_status::DULY_STATUS_TIMED_OUT)?;
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
        let task = unsafe { handle::borrow(task) }?;
        let ended = task.task.outcome().ok_or(duly_status::DULY_STATUS_PENDING)?;
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
        let task = unsafe { handle::borrow(task) }?;
        if value.is_null() {
            return Err(duly_status::DULY_STATUS_NULL_ARGUMENT);
        }
        match task.task.outcome() {
            None => return Err(duly_status::DULY_STATUS_PENDING),
            Some(Outcome::Succeeded) => {}
            // The core would move a failure out, too: it is left for the readers of `end`.
            Some(_) => return Err(duly_status::DULY_STATUS_NO_VALUE),
        }
        match task.task.wait_timeout(Duration::ZERO) {
            Some(Ok(owned)) => {
                // SAFETY: not null; the header asks for a place to write to.
                unsafe { value.write(owned.into_inner()) };
                Ok(())
            }
            _ => Err(duly_status::DULY_STATUS_TAKEN),
        }
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
        let task = unsafe { handle::borrow(task) }?;
        if task.task.released(span(timeout_ns)) {
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
        let task = unsafe { handle::borrow(task) }?;
        if task.task.cancel() {
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
        let (task, reason) = unsafe { (handle::borrow(task)?, from_c(reason)) };
        let reason = reason.ok_or(duly_status::DULY_STATUS_NULL_ARGUMENT)?;
        if task.task.cancel_with(CancelReason::from(&*reason)) {
            Ok(())
        } else {
            Err(duly_status::DULY_STATUS_ENDED)
        }
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
        let task = unsafe { handle::borrow(task) };
        task.ok().and_then(Ticket::end).map_or(0, |end| end.code)
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
        let task = unsafe { handle::borrow(task) };
        task.ok().and_then(Ticket::end).map_or(c"", |end| &end.message)
    }))
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
        let task = unsafe { handle::borrow(task) };
        task.ok().and_then(Ticket::end).map_or(c"", |end| &end.reason)
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
        let task = unsafe { handle::borrow(task) };
        task.map_or(c"", |task| {
            task.label
                .get_or_init(|| to_c(task.task.name().label().unwrap_or_default()))
        })
    }))
}

/// One more reference to the task.
/// Ownership: the caller owns the new reference and releases it.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; returns the same pointer, NULL for NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_task_retain(task: *mut duly_task) -> *mut duly_task {
    // SAFETY: the header asks for a live handle.
    boundary(|| unsafe { handle::retain(task) })
}

/// Gives one reference back; it cancels nothing. The last one frees the views and drops a value that nobody took.
/// Ownership: takes the caller's reference. NULL is fine.
/// Thread-safety: any thread, callbacks included.
/// Blocks: never, apart from the drop of the value.
/// Status: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_task_release(task: *mut duly_task) {
    // SAFETY: the header asks for a live handle, of which the caller gives up one reference.
    boundary(|| unsafe { handle::release(task) });
}
