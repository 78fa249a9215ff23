//! Workers that are brought: a thread of another language asks for one callback after the other.
//!
//! One call says how the callback before ended and gets the next one, so a callback costs its language one call into C and none
//! out of it. A worker is given a task only when it is free to start it at once: a private batch would deadlock tasks that
//! need each other, and the one at the end of it would wait although others are free.
//!
//! Invariants:
//! 1. What was not submitted through a board runs inside of the asking, here, under the same limits.
//! 2. Only the loop of a step lets a callback be handed out (`Context::by_steps`): one that is run inside another callback, or
//!    by whoever submits it, is called instead.

use std::any::TypeId;
use std::cell::Cell;
use std::ffi::c_char;
use std::sync::OnceLock;

use duly::{Context, Step, Steps, Worker};

use crate::board::{self, DULY_NOTICE_WAKE, duly_board};
use crate::boundary::{boundary, checked};
use crate::call::Failure;
use crate::foreign::Owned;
use crate::notices::Board;
use crate::status::{duly_outcome, duly_status};
use crate::text::{from_c, to_c};

/// A worker of a pool that `duly_board_pool` made. Owned by one; used by one thread at a time.
#[derive(Debug)]
pub struct duly_worker {
    _opaque: (),
}

/// `tag` of this step is to be run.
pub const DULY_STEP_RUN: i32 = 1;
/// Nothing is to be run now: step again, soon: others rely on it.
pub const DULY_STEP_NOTHING: i32 = 2;
/// This worker is to end: `duly_worker_release`.
pub const DULY_STEP_END: i32 = 3;
/// Nothing is to be run now: step again after the DULY_NOTICE_WAKE of the tag given to `duly_worker_wake_with`, or once
/// `duly_board_gathered` has given that tag.
pub const DULY_STEP_DOZE: i32 = 4;
/// A callback of another language is to be run now: the next step does that, and takes as long.
pub const DULY_STEP_OTHER: i32 = 5;

/// What a step gives.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct duly_step {
    /// The callback to run.
    pub tag: u64,
    /// A DULY_STEP_….
    pub what: i32,
    /// 1 if what was said of the callback before is the outcome of its task; 0 if that had one already.
    pub decided: i32,
}

thread_local! {
    static HANDED: Cell<u64> = const { Cell::new(0) };
    static ENDING: Cell<u64> = const { Cell::new(0) };
    /// 0: nobody gathers on this thread; NONE: nobody was woken so far; or who was, and where that would be put up.
    static WOKEN: Cell<u64> = const { Cell::new(0) };
    static WAKES: Cell<Option<&'static Board>> = const { Cell::new(None) };
}

const NONE: u64 = u64::MAX;

/// A worker that dozes is to go on: who gathers on this thread is told, or else it is put up.
fn wake(board: &'static Board, tag: u64) {
    if WOKEN.get() == NONE {
        WOKEN.set(tag);
        WAKES.set(Some(board));
    } else {
        board.put(DULY_NOTICE_WAKE, tag, std::ptr::null_mut());
    }
}

/// Code of users is called, which may wait for whoever was woken. So nobody is gathered on this thread until the end of it, and
/// who was before is put up.
#[derive(Debug)]
pub(crate) struct Interlude {
    gathers: bool,
}

impl Interlude {
    pub(crate) fn begin() -> Interlude {
        let woken = WOKEN.replace(0);
        if woken != 0
            && woken != NONE
            && let Some(board) = WAKES.get()
        {
            board.put(DULY_NOTICE_WAKE, woken, std::ptr::null_mut());
        }
        Interlude { gathers: woken != 0 }
    }
}

impl Drop for Interlude {
    fn drop(&mut self) {
        if self.gathers {
            WOKEN.set(NONE);
        }
    }
}

/// The type of the callbacks that are handed out.
static MINE: OnceLock<TypeId> = OnceLock::new();

pub(crate) fn is_mine<F: 'static>(_: &F) {
    MINE.get_or_init(TypeId::of::<F>);
}

/// Whether the calling thread is just saying how the callback of this tag ended.
pub(crate) fn is_ending(tag: u64) -> bool {
    ENDING.get() == tag
}

/// Whether the callback leaves its run to the thread that asked for it.
pub(crate) fn hand_out(context: &Context, tag: u64) -> bool {
    let by_steps = context.by_steps();
    if by_steps {
        HANDED.set(tag);
    }
    by_steps
}

pub(crate) fn into_raw(worker: Worker) -> *mut duly_worker {
    Box::into_raw(Box::new(worker.by_steps())).cast()
}

/// # Safety
/// `worker` is null, or came out of [`into_raw`] and is the caller's alone.
unsafe fn borrow<'a>(worker: *mut duly_worker) -> Result<&'a mut Steps, duly_status> {
    if worker.is_null() {
        return Err(duly_status::DULY_STATUS_NULL_ARGUMENT);
    }
    // SAFETY: not null, and as the caller says.
    Ok(unsafe { &mut *worker.cast::<Steps>() })
}

/// The calling thread is inside of the callback that this worker has in hand, until it departs: what it waits for in between
/// may have the worker replaced meanwhile, and is refused if nobody could end the wait.
/// Ownership: the worker stays the caller's.
/// Thread-safety: a thread that is in no callback.
/// Blocks: never.
/// Status: OK, NULL_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_worker_arrive(worker: *mut duly_worker) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a worker of the caller's.
        unsafe { borrow(worker) }?.arrive();
        Ok(())
    })
}

/// Undoes `duly_worker_arrive`.
/// Ownership: the worker stays the caller's.
/// Thread-safety: the thread on which it arrived.
/// Blocks: never.
/// Status: OK, NULL_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_worker_depart(worker: *mut duly_worker) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a worker of the caller's.
        unsafe { borrow(worker) }?.depart();
        Ok(())
    })
}

/// The callback in hand waits for something that ends by itself, and not in this library: until it is back, another worker
/// stands in for this one, as far as max_replacements allows.
/// Ownership: the worker stays the caller's.
/// Thread-safety: any thread, one at a time.
/// Blocks: never.
/// Status: OK, NULL_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_worker_away(worker: *mut duly_worker) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a worker of the caller's.
        unsafe { borrow(worker) }?.away();
        Ok(())
    })
}

/// Undoes `duly_worker_away`, once.
/// Ownership: the worker stays the caller's.
/// Thread-safety: any thread, one at a time.
/// Blocks: never.
/// Status: OK, NULL_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_worker_back(worker: *mut duly_worker) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a worker of the caller's.
        unsafe { borrow(worker) }?.back();
        Ok(())
    })
}

/// From now on this worker does not sleep within its steps: one that finds nothing is DULY_STEP_DOZE, also if it says how a
/// callback ended, and a DULY_NOTICE_WAKE with `tag` (neither 0 nor the largest number) tells when to go on.
/// Ownership: the worker stays the caller's.
/// Thread-safety: any thread, one at a time.
/// Blocks: never.
/// Status: OK, INVALID_ARGUMENT, NULL_ARGUMENT, FOREIGN_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_worker_wake_with(
    worker: *mut duly_worker,
    board: *mut duly_board,
    tag: u64,
) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a worker of the caller's, and a board.
        let (worker, board) = unsafe { (borrow(worker)?, board::borrow(board)?) };
        if tag == 0 || tag == NONE {
            return Err(duly_status::DULY_STATUS_INVALID_ARGUMENT);
        }
        worker.wake_with(move || wake(board, tag));
        Ok(())
    })
}

/// The first worker that dozes and is woken by this thread from now on is told by `duly_board_gathered`, and not put up: for
/// a language that can hand its turn over faster than by a notice. To be followed by that soon, with no wait in between; whoever was
/// woken before a hook or a function that is told of an outcome is called on this thread, or by that, is put up.
/// Ownership: nothing changes hands.
/// Thread-safety: any thread; it is a matter of the calling one.
/// Blocks: never.
/// Status: none; returns what `duly_board_gathered` takes, so that pairs may be nested.
#[unsafe(no_mangle)]
pub extern "C" fn duly_board_gather() -> u64 {
    WOKEN.replace(NONE)
}

/// The tag of the worker that this thread has woken since `duly_board_gather`, which gave `before`; 0 if there is none.
/// Ownership: nothing changes hands.
/// Thread-safety: as `duly_board_gather`.
/// Blocks: never.
/// Status: none.
#[unsafe(no_mangle)]
pub extern "C" fn duly_board_gathered(before: u64) -> u64 {
    match WOKEN.replace(before) {
        NONE => 0,
        tag => tag,
    }
}

/// Says how the callback in hand, of this tag, ended, and takes the next one. `ended` is 0 without one in hand; DULY_SUCCEEDED;
/// DULY_FAILED, with a code and a message (NULL for none); or DULY_PANICKED with a message. `block`: waits until there is
/// something to do. Callbacks of other languages run within the call, but not if it says how one ended: that is to be known
/// soon.
/// Ownership: the worker stays the caller's; the message is copied.
/// Thread-safety: any thread, one at a time.
/// Blocks: if `block` and `ended` is 0, and as long as other languages' callbacks take.
/// Status: none; DULY_STEP_END for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_worker_step(
    worker: *mut duly_worker,
    tag: u64,
    ended: i32,
    code: i32,
    message: *const c_char,
    block: bool,
) -> duly_step {
    boundary(|| {
        // SAFETY: the header asks for a worker of the caller's, and NULL or a string.
        let (Ok(worker), message) = (unsafe { (borrow(worker), from_c(message)) }) else {
            return crate::boundary::Neutral::neutral();
        };
        let mut decided = 0;
        if ended != 0 {
            let message = message.unwrap_or_default();
            let result = if ended == duly_outcome::DULY_SUCCEEDED as i32 {
                Ok(Ok(Owned::new(std::ptr::null_mut(), None)))
            } else if ended == duly_outcome::DULY_FAILED as i32 {
                Ok(Err(Failure::new(code, to_c(&message), None)))
            } else {
                Err(message.into())
            };
            ENDING.set(tag);
            // SAFETY: only callbacks of boards are handed out, and this is what those give.
            decided = i32::from(unsafe { worker.finish::<Owned, Failure>(result) });
            ENDING.set(0);
        }
        // Callbacks of others may take long: who was woken is told before.
        let gathers = WOKEN.get() != 0;
        let mine = MINE.get().copied().filter(|_| ended != 0 || gathers);
        loop {
            let what = match worker.take(mine, || HANDED.get() != 0) {
                Step::Ran => continue,
                Step::Nothing if block && worker.can_doze() => {
                    // It may doze already: then it has not been woken yet.
                    worker.doze();
                    DULY_STEP_DOZE
                }
                Step::Nothing if block && ended == 0 => {
                    worker.rest();
                    continue;
                }
                Step::Handed => DULY_STEP_RUN,
                Step::Foreign => DULY_STEP_OTHER,
                Step::Nothing => DULY_STEP_NOTHING,
                Step::End => DULY_STEP_END,
            };
            return duly_step {
                tag: HANDED.take(),
                what,
                decided,
            };
        }
    })
}

impl crate::boundary::Neutral for duly_step {
    fn neutral() -> duly_step {
        duly_step {
            tag: 0,
            what: DULY_STEP_END,
            decided: 0,
        }
    }
}

/// The worker leaves its pool, which counts one less.
/// Ownership: takes the worker. NULL is fine.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_worker_release(worker: *mut duly_worker) {
    boundary(|| {
        if !worker.is_null() {
            // SAFETY: came out of `into_raw`, and the caller gives it up.
            drop(unsafe { Box::from_raw(worker.cast::<Steps>()) });
        }
    });
}
