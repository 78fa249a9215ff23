//! The two enums that never mix: what a call did (`duly_status`) and how a task ended (`duly_outcome`).
//!
//! Numbers are part of the ABI: written out, never reused; a removed one stays here as a comment.

use std::ffi::{CStr, c_char};

use duly::{BuildError, Outcome, SubmitErrorKind};

use crate::text::view;

/// What a call did. 0 is OK, everything else is negative. It says nothing about how a task ended: that is `duly_outcome`.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum duly_status {
    /// Done; the outputs are written.
    DULY_STATUS_OK = 0,

    /// Refused: the queue is full, or too many producers wait for room already. user_data stays the caller's: try again.
    DULY_STATUS_QUEUE_FULL = -1,
    /// Refused: no room within `submit_timeout_ns`. user_data stays the caller's.
    DULY_STATUS_SUBMIT_TIMED_OUT = -2,
    /// Refused: the task's own deadline passed while it waited for room. user_data stays the caller's.
    DULY_STATUS_DEADLINE_EXCEEDED = -3,
    /// Refused: the token that the task would run under was cancelled. user_data stays the caller's.
    DULY_STATUS_CANCELLED = -4,
    /// Refused: the pool is closed or shut down. user_data stays the caller's.
    DULY_STATUS_SHUT_DOWN = -5,
    /// Nothing could make progress: the call would wait for itself (for example a shutdown called by a worker of that pool).
    DULY_STATUS_WOULD_DEADLOCK = -6,
    /// A value is out of its documented bounds, or an option struct is too small.
    DULY_STATUS_INVALID_ARGUMENT = -7,

    /// The wait's own time-out passed; the task goes on.
    DULY_STATUS_TIMED_OUT = -20,
    /// The task has no outcome yet.
    DULY_STATUS_PENDING = -21,
    /// The task had its outcome already; this call changed nothing.
    DULY_STATUS_ENDED = -22,
    /// The value was taken before.
    DULY_STATUS_TAKEN = -23,
    /// The task ended without a value: it has not succeeded.
    DULY_STATUS_NO_VALUE = -24,

    /// A pointer that must not be NULL is NULL.
    DULY_STATUS_NULL_ARGUMENT = -40,
    /// The handle is not of the type asked for, or was made by another copy of the library in this process.
    DULY_STATUS_FOREIGN_HANDLE = -41,
    /// An option struct asks for something this version of the library does not know.
    DULY_STATUS_UNSUPPORTED = -42,

    /// A thread of the pool could not be created; none was left behind.
    DULY_STATUS_NO_THREADS = -60,
    /// The system has no file descriptor left for this process, or none at all.
    DULY_STATUS_NO_DESCRIPTORS = -61,

    /// A panic was caught inside the library: a defect of duly, or a drop function written in Rust that panicked.
    DULY_STATUS_PANIC = -80,
}
use duly_status::*;

impl duly_status {
    /// Every status, for the functions below; the test checks that none is missing.
    const ALL: [(duly_status, &'static CStr, &'static CStr); 19] = [
        (DULY_STATUS_OK, c"ok", c"done"),
        (
            DULY_STATUS_QUEUE_FULL,
            c"queue_full",
            c"the queue is full; try again, wait for room, or shed the work",
        ),
        (
            DULY_STATUS_SUBMIT_TIMED_OUT,
            c"submit_timed_out",
            c"no room in the queue within the submit time-out",
        ),
        (
            DULY_STATUS_DEADLINE_EXCEEDED,
            c"deadline_exceeded",
            c"the task's deadline passed while it waited for room in the queue",
        ),
        (
            DULY_STATUS_CANCELLED,
            c"cancelled",
            c"the token that the task would run under is cancelled",
        ),
        (
            DULY_STATUS_SHUT_DOWN,
            c"shut_down",
            c"the pool is closed or shut down and accepts no more tasks",
        ),
        (
            DULY_STATUS_WOULD_DEADLOCK,
            c"would_deadlock",
            c"the call would wait for itself; make it from a thread outside the pool",
        ),
        (
            DULY_STATUS_INVALID_ARGUMENT,
            c"invalid_argument",
            c"a value is outside its documented bounds",
        ),
        (
            DULY_STATUS_TIMED_OUT,
            c"timed_out",
            c"the wait timed out; the task goes on",
        ),
        (DULY_STATUS_PENDING, c"pending", c"the task has no outcome yet"),
        (DULY_STATUS_ENDED, c"ended", c"the task had its outcome already"),
        (DULY_STATUS_TAKEN, c"taken", c"the value was taken before"),
        (
            DULY_STATUS_NO_VALUE,
            c"no_value",
            c"the task has not succeeded, so there is no value",
        ),
        (
            DULY_STATUS_NULL_ARGUMENT,
            c"null_argument",
            c"a pointer that must not be NULL is NULL",
        ),
        (
            DULY_STATUS_FOREIGN_HANDLE,
            c"foreign_handle",
            c"the handle is of another type or belongs to another copy of the library",
        ),
        (
            DULY_STATUS_UNSUPPORTED,
            c"unsupported",
            c"the options ask for something this version of libduly does not know",
        ),
        (
            DULY_STATUS_NO_THREADS,
            c"no_threads",
            c"a thread could not be created; check the limits of the process",
        ),
        (
            DULY_STATUS_NO_DESCRIPTORS,
            c"no_descriptors",
            c"a file descriptor could not be had; close some, or raise the limit of the process",
        ),
        (
            DULY_STATUS_PANIC,
            c"panic",
            c"a panic was caught inside libduly; please report it",
        ),
    ];

    fn describe(number: i32) -> Option<&'static (duly_status, &'static CStr, &'static CStr)> {
        duly_status::ALL.iter().find(|(status, ..)| *status as i32 == number)
    }
}

impl From<SubmitErrorKind> for duly_status {
    fn from(kind: SubmitErrorKind) -> duly_status {
        match kind {
            SubmitErrorKind::QueueFull => DULY_STATUS_QUEUE_FULL,
            SubmitErrorKind::SubmitTimedOut => DULY_STATUS_SUBMIT_TIMED_OUT,
            SubmitErrorKind::DeadlineExceeded => DULY_STATUS_DEADLINE_EXCEEDED,
            SubmitErrorKind::Cancelled => DULY_STATUS_CANCELLED,
            SubmitErrorKind::ShutDown => DULY_STATUS_SHUT_DOWN,
            SubmitErrorKind::WouldDeadlock => DULY_STATUS_WOULD_DEADLOCK,
            SubmitErrorKind::InvalidArgument => DULY_STATUS_INVALID_ARGUMENT,
            // A kind that core has and this page does not: a defect of this crate.
            _ => DULY_STATUS_PANIC,
        }
    }
}

impl From<BuildError> for duly_status {
    fn from(error: BuildError) -> duly_status {
        match error {
            BuildError::Thread { .. } => DULY_STATUS_NO_THREADS,
            BuildError::ShutDown => DULY_STATUS_SHUT_DOWN,
            _ => DULY_STATUS_INVALID_ARGUMENT,
        }
    }
}

/// How a task ended: it has exactly one. 0 is none of them, so that a zeroed variable names no outcome.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum duly_outcome {
    /// Run returned 0.
    DULY_SUCCEEDED = 1,
    /// Run returned something else: `duly_task_code`, `duly_task_message`.
    DULY_FAILED = 2,
    /// The callback panicked (one written in Rust or Go): `duly_task_message`.
    DULY_PANICKED = 3,
    /// Cancelled, while queued or running: `duly_task_reason`.
    DULY_CANCELLED = 4,
    /// Its deadline passed, while queued or running.
    DULY_DEADLINE_EXCEEDED = 5,
    /// Dropped by the overflow policy.
    DULY_SHED = 6,
    /// The drain deadline of a shutdown passed before it ended.
    DULY_ABANDONED = 7,
}
use duly_outcome::*;

impl duly_outcome {
    const ALL: [(duly_outcome, &'static CStr); 7] = [
        (DULY_SUCCEEDED, c"succeeded"),
        (DULY_FAILED, c"failed"),
        (DULY_PANICKED, c"panicked"),
        (DULY_CANCELLED, c"cancelled"),
        (DULY_DEADLINE_EXCEEDED, c"deadline_exceeded"),
        (DULY_SHED, c"shed"),
        (DULY_ABANDONED, c"abandoned"),
    ];
}

impl From<Outcome> for duly_outcome {
    fn from(outcome: Outcome) -> duly_outcome {
        match outcome {
            Outcome::Succeeded => DULY_SUCCEEDED,
            Outcome::Failed => DULY_FAILED,
            Outcome::Panicked => DULY_PANICKED,
            Outcome::Cancelled => DULY_CANCELLED,
            Outcome::DeadlineExceeded => DULY_DEADLINE_EXCEEDED,
            Outcome::Shed => DULY_SHED,
            // Outcome is open for growth in Rust; the contract has these seven.
            _ => DULY_ABANDONED,
        }
    }
}

/// What the pool does with a submit when its queue is full.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum duly_overflow {
    /// The default: of a pool or a queue, block; of a task, as its queue does.
    DULY_OVERFLOW_DEFAULT = 0,
    /// submit waits for room, in order of arrival.
    DULY_OVERFLOW_BLOCK = 1,
    /// submit answers `DULY_STATUS_QUEUE_FULL`.
    DULY_OVERFLOW_REJECT = 2,
    /// The new task is accepted and is `DULY_SHED` already.
    DULY_OVERFLOW_DROP_NEWEST = 3,
    /// The oldest queued task is `DULY_SHED`.
    DULY_OVERFLOW_DROP_OLDEST = 4,
    /// The submitting thread runs the callback itself: submit returns when it has.
    DULY_OVERFLOW_CALLER_RUNS = 5,
}

/// When the pool creates its threads.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum duly_threads {
    /// The default: eager.
    DULY_THREADS_DEFAULT = 0,
    /// All in `duly_pool_new`, which fails with `DULY_STATUS_NO_THREADS` if one cannot be created.
    DULY_THREADS_EAGER = 1,
    /// One a submit while none is idle; one that cannot be created strands no task.
    DULY_THREADS_ON_DEMAND = 2,
}

/// The name of a status as the contract writes it, such as "queue_full"; "unknown_status" for any other number.
/// Ownership: a static string, never NULL.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none.
#[unsafe(no_mangle)]
pub extern "C" fn duly_status_name(status: i32) -> *const c_char {
    view(duly_status::describe(status).map_or(c"unknown_status", |(_, name, _)| name))
}

/// One sentence for people: what happened and what to do.
/// Ownership: a static string, never NULL.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none.
#[unsafe(no_mangle)]
pub extern "C" fn duly_status_message(status: i32) -> *const c_char {
    view(duly_status::describe(status).map_or(c"not a status of this version of libduly", |(.., message)| message))
}

/// The name of an outcome as the contract writes it, such as "deadline_exceeded"; "unknown_outcome" for any other number.
/// Ownership: a static string, never NULL.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none.
#[unsafe(no_mangle)]
pub extern "C" fn duly_outcome_name(outcome: i32) -> *const c_char {
    let known = duly_outcome::ALL.iter().find(|(known, _)| *known as i32 == outcome);
    view(known.map_or(c"unknown_outcome", |(_, name)| name))
}

#[cfg(test)]
mod tests {
    use super::duly_status;

    #[test]
    fn p16_every_status_has_its_own_number_name_and_message() {
        let mut numbers: Vec<i32> = duly_status::ALL.iter().map(|(status, ..)| *status as i32).collect();
        assert!(numbers.iter().all(|number| *number <= 0));
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), duly_status::ALL.len());
        assert!(
            duly_status::ALL
                .iter()
                .all(|(_, name, message)| !name.is_empty() && !message.is_empty())
        );
    }
}
