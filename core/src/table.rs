//! From the 16-bit number in a task to its queue, and so to its pool.
//!
//! Invariants:
//! 1. An entry is valid while its pool has a task that nobody has counted yet: the pool's timer thread holds the pool until
//!    the books balance, and a queue lives as long as its pool. So whoever has just won a task (and not counted it) may look
//!    here.
//! 2. A forked child gives out no number that was in use before it: so a number tells whether its queue was inherited.

use crate::context;
use crate::fork::{self, Renewed, renewed};
use crate::lane::Lane;
use crate::shared::Shared;
use crate::sync::{Arc, AtomicPtr, MODEL, Mutex, Ordering, array, global};

const LANES: usize = if MODEL { 4 } else { 1 << 16 };

global! {
    static TABLE: [AtomicPtr<Lane>; LANES] = array![AtomicPtr::new(std::ptr::null_mut()); LANES];
}

struct Numbers {
    unused: Vec<u16>,
    next: u32,
}

global! {
    static NUMBERS: Renewed<Mutex<Numbers>> = renewed!(Mutex::new(Numbers {
        unused: Vec::new(),
        next: 0,
    }));
}

/// A number for a new queue, or `None` when 65,536 live in all pools together (those that were inherited are counted).
pub(crate) fn reserve() -> Option<u16> {
    fork::watch();
    context::watch_forks();
    let mut numbers = NUMBERS.get().lock();
    if let Some(number) = numbers.unused.pop() {
        return Some(number);
    }
    let next = numbers.next.max(fork::first_number());
    let number = u16::try_from(next).ok()?;
    numbers.next = next + 1;
    fork::numbers_used(numbers.next);
    Some(number)
}

pub(crate) fn set(number: u16, lane: *const Lane) {
    TABLE[number as usize].store(lane.cast_mut(), Ordering::Release);
}

pub(crate) fn free(number: u16) {
    if fork::inherited(number) {
        return;
    }
    TABLE[number as usize].store(std::ptr::null_mut(), Ordering::Release);
    NUMBERS.get().lock().unused.push(number);
}

/// The queue of a task that the caller has won and not yet counted. (Once it is counted, the queue is there as long as the
/// caller has the pool.)
///
/// # Safety
/// The caller has moved a task of this queue to FINISHING and has not counted it.
#[inline]
pub(crate) unsafe fn lane_of_won<'a>(number: u16) -> &'a Lane {
    let lane = TABLE[number as usize].load(Ordering::Acquire);
    // SAFETY: the pool lives, and the queue with it (the module's invariant).
    unsafe { &*lane }
}

/// The pool of [`lane_of_won`].
///
/// # Safety
/// As [`lane_of_won`]; what comes back is not used after the task has been counted.
#[inline]
pub(crate) unsafe fn lent_pool<'a>(lane: &Lane) -> &'a Shared {
    // SAFETY: the pool lives (the module's invariant).
    unsafe { &*lane.pool() }
}

/// A reference of one's own to a pool that is alive.
#[inline]
pub(crate) fn share(pool: &Shared) -> Arc<Shared> {
    // SAFETY: every `Shared` stands in an `Arc` (`Shared::new`), and this one has not been dropped.
    unsafe {
        Arc::increment_strong_count(pool);
        Arc::from_raw(pool)
    }
}
