//! From the 16-bit number in a task to its pool.
//!
//! Invariant: an entry is valid while its pool has a task that nobody has counted yet: the pool's timer thread
//! holds the pool until the books balance. So whoever has just won a task (and not counted it) may look here.

use crate::shared::Shared;
use crate::sync::{Arc, AtomicPtr, MODEL, Mutex, Ordering, array, global};

const POOLS: usize = if MODEL { 4 } else { 1 << 16 };

global! {
    static TABLE: [AtomicPtr<Shared>; POOLS] = array![AtomicPtr::new(std::ptr::null_mut()); POOLS];
}

struct Numbers {
    unused: Vec<u16>,
    next: usize,
}

global! {
    static NUMBERS: Mutex<Numbers> = Mutex::new(Numbers {
        unused: Vec::new(),
        next: 0,
    });
}

/// A number for a new pool, or `None` when 65,536 pools live.
pub(crate) fn reserve() -> Option<u16> {
    let mut numbers = NUMBERS.lock();
    if let Some(number) = numbers.unused.pop() {
        return Some(number);
    }
    let number = u16::try_from(numbers.next).ok()?;
    numbers.next += 1;
    Some(number)
}

pub(crate) fn set(number: u16, pool: *const Shared) {
    TABLE[number as usize].store(pool.cast_mut(), Ordering::Release);
}

pub(crate) fn free(number: u16) {
    TABLE[number as usize].store(std::ptr::null_mut(), Ordering::Release);
    NUMBERS.lock().unused.push(number);
}

/// The pool of a task that the caller has won and not yet counted.
///
/// # Safety
/// The caller has moved a task of this pool to FINISHING and has not counted it.
#[inline]
pub(crate) unsafe fn pool_of_won(number: u16) -> Arc<Shared> {
    // SAFETY: as the caller says.
    share(unsafe { lent_pool_of_won(number) })
}

/// [`pool_of_won`], only until the caller counts the task.
///
/// # Safety
/// As [`pool_of_won`]; what comes back is not used after the task has been counted.
#[inline]
pub(crate) unsafe fn lent_pool_of_won<'a>(number: u16) -> &'a Shared {
    let pool = TABLE[number as usize].load(Ordering::Acquire);
    // SAFETY: the pool lives (the module's invariant).
    unsafe { &*pool }
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
