//! A lock for a handful of plain stores.
//!
//! Keeps true: one guard at a time; what one holder wrote, the next one sees.

use super::{AtomicBool, Ordering, UnsafeCell, spin_hint, thread};
use std::ops::{Deref, DerefMut};
use std::time::Duration;

/// A lock for a handful of plain stores: spins, then yields, then sleeps.
///
/// The sleep makes it safe under real-time scheduling classes, where a yielding waiter of higher priority
/// would otherwise keep the holder from running.
#[derive(Debug)]
pub(crate) struct ShortLock<T> {
    locked: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the lock hands out one guard at a time, so sharing it needs no more than sending the value.
unsafe impl<T: Send> Sync for ShortLock<T> {}

#[derive(Debug)]
pub(crate) struct ShortGuard<'a, T> {
    lock: &'a ShortLock<T>,
}

impl<T> ShortLock<T> {
    pub(crate) fn new(value: T) -> Self {
        ShortLock {
            locked: AtomicBool::new(false),
            value: UnsafeCell::new(value),
        }
    }

    #[inline(always)]
    pub(crate) fn lock(&self) -> ShortGuard<'_, T> {
        if self.locked.swap(true, Ordering::Acquire) {
            self.lock_contended();
        }
        ShortGuard { lock: self }
    }

    #[cold]
    #[inline(never)]
    fn lock_contended(&self) {
        let mut round = 0u32;
        loop {
            if !self.locked.load(Ordering::Relaxed) && !self.locked.swap(true, Ordering::Acquire) {
                return;
            }
            if round < 64 {
                for _ in 0..(1 + round / 8) {
                    spin_hint();
                }
            } else if round < 256 {
                thread::yield_now();
            } else {
                thread::sleep(Duration::from_micros(50));
            }
            round += 1;
        }
    }
}

impl<T> Deref for ShortGuard<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: this guard holds the lock, so nobody else reaches the value.
        self.lock.value.with(|value| unsafe { &*value })
    }
}

impl<T> DerefMut for ShortGuard<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard holds the lock, so nobody else reaches the value.
        self.lock.value.with_mut(|value| unsafe { &mut *value })
    }
}

impl<T> Drop for ShortGuard<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        self.lock.locked.store(false, Ordering::Release);
    }
}
