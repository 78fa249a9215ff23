//! Waiting for several tasks.
//!
//! Invariant: the references are the caller's for the whole call; nothing is taken.

use std::time::Duration;

use duly::NotEnded;

use crate::boundary::checked;
use crate::handle;
use crate::options::DULY_FOREVER;
use crate::status::duly_status;
use crate::task::{duly_task, span};
use crate::ticket::{self, Seen};

/// # Safety
/// `tasks` is null or an array of `count` pointers, each null or a live handle for `'a`.
unsafe fn tickets<'a>(tasks: *const *const duly_task, count: usize) -> Result<Vec<Seen<'a>>, duly_status> {
    if count == 0 {
        return Ok(Vec::new());
    }
    if tasks.is_null() {
        return Err(duly_status::DULY_STATUS_NULL_ARGUMENT);
    }
    if count > isize::MAX as usize / size_of::<*const duly_task>() {
        return Err(duly_status::DULY_STATUS_INVALID_ARGUMENT);
    }
    // One by one: a count that is too large meets a pointer that is none before memory for so many is asked for.
    let mut all = Vec::new();
    for index in 0..count {
        // SAFETY: as this function's contract says.
        all.push(unsafe { ticket::borrow(tasks.add(index).read()) }?);
    }
    Ok(all)
}

fn limit(timeout_ns: u64) -> Option<Duration> {
    (timeout_ns != DULY_FOREVER).then(|| span(timeout_ns))
}

fn not_ended(error: &NotEnded) -> duly_status {
    match error.deadlock() {
        Some(_) => duly_status::DULY_STATUS_WOULD_DEADLOCK,
        None => duly_status::DULY_STATUS_TIMED_OUT,
    }
}

/// Waits until one of `count` tasks has its outcome, at most `timeout_ns`: `first` is the place in the array of the first that
/// ended, or, when the call finds several, of one of those.
/// Ownership: the array and the tasks stay the caller's; nothing is taken. A task may stand there twice.
/// Thread-safety: any thread, callbacks included.
/// Blocks: up to timeout_ns; 0 only looks.
/// Status: OK, TIMED_OUT (the tasks go on), WOULD_DEADLOCK (inside a callback, with DULY_FOREVER: this wait could never
/// end), INVALID_ARGUMENT (no task), NULL_ARGUMENT (also one of the tasks), FOREIGN_HANDLE. `first` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_wait_any(
    tasks: *const *const duly_task,
    count: usize,
    timeout_ns: u64,
    first: *mut usize,
) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for an array of live handles.
        let tickets = unsafe { tickets(tasks, count) }?;
        if tickets.is_empty() {
            return Err(duly_status::DULY_STATUS_INVALID_ARGUMENT);
        }
        // Here and now, also those that have an end and no task.
        let found = match tickets.iter().position(|ticket| ticket.outcome().is_some()) {
            Some(found) => found,
            None => {
                let tasks: Vec<_> = tickets.iter().filter_map(|ticket| ticket.task()).collect();
                duly::wait_any(tasks, limit(timeout_ns)).map_err(|error| not_ended(&error))?
            }
        };
        // SAFETY: the header asks for NULL or a place to write to.
        unsafe { handle::write_if_wanted(first, found) };
        Ok(())
    })
}

/// Waits until all of `count` tasks have their outcome, at most `timeout_ns`. No task at all is fine.
/// Ownership: the array and the tasks stay the caller's; nothing is taken. A task may stand there twice.
/// Thread-safety: any thread, callbacks included.
/// Blocks: up to timeout_ns; 0 only looks.
/// Status: OK, TIMED_OUT (one at least goes on), WOULD_DEADLOCK (inside a callback, with DULY_FOREVER: this wait could never
/// end), INVALID_ARGUMENT (more tasks than memory has addresses), NULL_ARGUMENT (also one of the tasks), FOREIGN_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_wait_all(tasks: *const *const duly_task, count: usize, timeout_ns: u64) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for an array of live handles.
        let tickets = unsafe { tickets(tasks, count) }?;
        let tasks = tickets.iter().filter_map(|ticket| ticket.task());
        duly::wait_all(tasks, limit(timeout_ns)).map_err(|error| not_ended(&error))
    })
}
