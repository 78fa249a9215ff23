//! From the 16-bit number in a task to its pool.
//!
//! Invariant: an entry is valid while its pool has a task that nobody has counted yet: the pool's timer thread
//! holds the pool until the books balance. So whoever has just won a task (and not counted it) may look here.

use crate::shared::Shared;
use crate::sync::{Arc, AtomicPtr, Mutex, Ordering};

const POOLS: usize = 1 << 16;

static TABLE: [AtomicPtr<Shared>; POOLS] = [const { AtomicPtr::new(std::ptr::null_mut()) }; POOLS];

struct Numbers {
    unused: Vec<u16>,
    next: usize,
}

static NUMBERS: Mutex<Numbers> = Mutex::new(Numbers {
    unused: Vec::new(),
    next: 0,
});

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
    let pool = TABLE[number as usize].load(Ordering::Acquire);
    // SAFETY: the pool lives (the module's invariant), and its pointer came from `Arc::as_ptr`.
    unsafe {
        Arc::increment_strong_count(pool);
        Arc::from_raw(pool)
    }
}
