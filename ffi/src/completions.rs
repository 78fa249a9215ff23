//! Completion queues: where tasks are put when they have ended, for event loops and for whoever takes many in one call.
//!
//! Invariants:
//! 1. A completion's task is the one that its submit gave: the same pointer, one more reference.
//! 2. Outputs are written when nothing can fail any more: a take gives all it took.

use std::ffi::c_int;
use std::io;
use std::os::fd::AsRawFd;

use duly::{Completions, WaitError};

use crate::boundary::{boundary, checked};
use crate::call::Failure;
use crate::foreign::Owned;
use crate::handle::{self, Handle};
use crate::status::{duly_outcome, duly_status};
use crate::task::{duly_task, span};

/// Where tasks are put when they have ended. Refcounted; safe from any thread. Releasing it cancels nothing.
#[derive(Debug)]
pub struct duly_completions {
    _opaque: (),
}

impl Handle for duly_completions {
    type Object = Completions<Tag>;
    const KIND: usize = handle::kind::COMPLETIONS;
}

/// What the core carries for C: the caller's number, and the task's handle, made ahead of it.
#[derive(Debug, Clone)]
pub(crate) struct Tag {
    pub(crate) number: u64,
    pub(crate) ticket: handle::Kept<duly_task>,
}

/// A task that has ended, as `duly_completions_take` gives it. Of fixed size.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct duly_completion {
    /// The task: the one that its submit gave. The caller owns this reference and releases it.
    pub task: *mut duly_task,
    /// The tag that was given with the submit.
    pub tag: u64,
    /// How it ended: a duly_outcome.
    pub outcome: duly_outcome,
    /// 0.
    pub reserved: u32,
}

const _: () = assert!(size_of::<duly_completion>() == 8 + 8 + 4 + 4);

/// Creates a completion queue with so many places: for so many tasks that are under way or wait to be taken. Name it in the
/// options of a submit (`completions`, `tag`): the task is put there when it has ended, however it ended, exactly once. A
/// place is taken by the submit, so that delivering waits for nobody; a submit that finds none is QUEUE_FULL at once, whatever
/// the overflow policy. The place is free again when the completion was taken. Tasks of any pool; also those of groups.
/// Ownership: the caller owns the queue and releases it.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: OK, INVALID_ARGUMENT (capacity 0), NULL_ARGUMENT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_completions_new(capacity: usize, completions: *mut *mut duly_completions) -> duly_status {
    checked(|| {
        if completions.is_null() {
            return Err(duly_status::DULY_STATUS_NULL_ARGUMENT);
        }
        if capacity == 0 {
            return Err(duly_status::DULY_STATUS_INVALID_ARGUMENT);
        }
        // SAFETY: not null; the header asks for a place to write to.
        unsafe { completions.write(handle::into_raw::<duly_completions>(Completions::new(capacity))) };
        Ok(())
    })
}

/// A descriptor that is readable exactly while completions wait to be taken: for poll, epoll, libuv and the like. Watch it,
/// then take until TIMED_OUT (time-out 0), or once, if it is watched level-triggered. One system call when the first comes
/// and one when the last is taken, not one a task.
/// Ownership: the descriptor stays the queue's: do not read, write or close it. It is closed with the last release, and in
/// programs that the process executes.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: OK, NO_DESCRIPTORS, SHUT_DOWN (a forked child: the queue is its parent's), NULL_ARGUMENT, FOREIGN_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_completions_fd(completions: *const duly_completions, fd: *mut c_int) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a live handle.
        let completions = unsafe { handle::borrow(completions) }?;
        if fd.is_null() {
            return Err(duly_status::DULY_STATUS_NULL_ARGUMENT);
        }
        let there = completions.fd().map_err(|error| match error.kind() {
            io::ErrorKind::Unsupported => duly_status::DULY_STATUS_SHUT_DOWN,
            _ => duly_status::DULY_STATUS_NO_DESCRIPTORS,
        })?;
        // SAFETY: not null; the header asks for a place to write to.
        unsafe { fd.write(there.as_raw_fd()) };
        Ok(())
    })
}

/// Takes what is there, at most `most`, the oldest first, into the array `taken`, and says in `count` how many; waits until
/// there is something, at most `timeout_ns`.
/// Ownership: the caller owns the reference in each completion and releases it. The array stays the caller's.
/// Thread-safety: any thread, callbacks included; several may take at the same time: each completion goes to one of them.
/// Blocks: up to timeout_ns; 0 only looks.
/// Status: OK (count is 1 at least), TIMED_OUT (there was nothing), SHUT_DOWN (a forked child: the queue is its parent's),
/// INVALID_ARGUMENT (most is 0), NULL_ARGUMENT, FOREIGN_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_completions_take(
    completions: *const duly_completions,
    timeout_ns: u64,
    taken: *mut duly_completion,
    most: usize,
    count: *mut usize,
) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a live handle.
        let completions = unsafe { handle::borrow(completions) }?;
        if taken.is_null() || count.is_null() {
            return Err(duly_status::DULY_STATUS_NULL_ARGUMENT);
        }
        if most == 0 {
            return Err(duly_status::DULY_STATUS_INVALID_ARGUMENT);
        }
        let came = completions.take(most, span(timeout_ns)).map_err(|error| match error {
            WaitError::TimedOut(_) => duly_status::DULY_STATUS_TIMED_OUT,
            _ => duly_status::DULY_STATUS_SHUT_DOWN,
        })?;
        let written = came.len();
        for (index, completion) in came.into_iter().enumerate() {
            let (Tag { number, ticket }, outcome) = (completion.tag.clone(), completion.outcome);
            // The submit that made it may not have come so far yet.
            if let Ok(task) = completion.into_task::<Owned, Failure>() {
                ticket.object().bind(task);
            }
            let completion = duly_completion {
                task: handle::give::<duly_task>(ticket),
                tag: number,
                outcome: outcome.into(),
                reserved: 0,
            };
            // SAFETY: not null; the header asks for room for `most`, and no more were taken.
            unsafe { taken.add(index).write(completion) };
        }
        // SAFETY: not null; the header asks for a place to write to.
        unsafe { count.write(written) };
        Ok(())
    })
}

/// How many places are free: neither a task's that is under way nor a completion's that was not taken.
/// Ownership: the queue stays the caller's.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; 0 for NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_completions_free_places(completions: *const duly_completions) -> usize {
    // SAFETY: the header asks for a live handle.
    boundary(|| unsafe { handle::borrow(completions) }.map_or(0, Completions::free))
}

/// One more reference to the queue.
/// Ownership: the caller owns the new reference and releases it.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; returns the same pointer, NULL for NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_completions_retain(completions: *mut duly_completions) -> *mut duly_completions {
    // SAFETY: the header asks for a live handle.
    boundary(|| unsafe { handle::retain(completions) })
}

/// Gives one reference back. With the last, completions that nobody took are released, the descriptor is closed, and tasks
/// that end later are not kept.
/// Ownership: takes the caller's reference. NULL is fine.
/// Thread-safety: any thread, callbacks included.
/// Blocks: never, apart from the drop of values that nobody took.
/// Status: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_completions_release(completions: *mut duly_completions) {
    // SAFETY: the header asks for a live handle, of which the caller gives up one reference.
    boundary(|| unsafe { handle::release(completions) });
}
