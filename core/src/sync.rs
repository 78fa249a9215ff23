//! The one file that names the primitives the rest of the crate is built on.
//!
//! Everything else imports atomics, locks and threads from here, so that a model checker can stand in for
//! them by changing this file only.
//!
//! * [`Mutex`] and [`Condvar`] ignore poisoning: no user code ever runs under a lock of this crate, so a
//!   poisoned lock would mean a bug here, and a waiter that hangs on it would be worse.
//! * [`ShortLock`] guards a few plain stores. Its holder never blocks, allocates or calls out.
//! * [`full_fence`] is the store-load barrier of every "I announce, then I look" pair. Both sides of a pair
//!   use it; each pair is named where it stands.

use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

pub(crate) use std::sync::Arc;
pub(crate) use std::sync::OnceLock;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
pub(crate) use std::thread;

/// A store before it is visible to others before a load after it is made.
#[inline(always)]
pub(crate) fn full_fence() {
    fence(Ordering::SeqCst);
}

/// [`full_fence`] where the caller has just made a read-modify-write: on x86 that was one already.
#[inline(always)]
pub(crate) fn full_fence_after_rmw() {
    #[cfg(target_arch = "x86_64")]
    std::sync::atomic::compiler_fence(Ordering::SeqCst);
    #[cfg(not(target_arch = "x86_64"))]
    fence(Ordering::SeqCst);
}

#[inline(always)]
pub(crate) fn spin_hint() {
    std::hint::spin_loop();
}

/// `std::sync::Mutex` without poisoning.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

pub(crate) type MutexGuard<'a, T> = std::sync::MutexGuard<'a, T>;

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Mutex(std::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// `std::sync::Condvar` without poisoning.
#[derive(Debug, Default)]
pub(crate) struct Condvar(std::sync::Condvar);

impl Condvar {
    pub(crate) const fn new() -> Self {
        Condvar(std::sync::Condvar::new())
    }

    pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.0.wait(guard).unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(crate) fn wait_timeout<'a, T>(&self, guard: MutexGuard<'a, T>, timeout: Duration) -> MutexGuard<'a, T> {
        match self.0.wait_timeout(guard, timeout) {
            Ok((guard, _)) => guard,
            Err(poisoned) => poisoned.into_inner().0,
        }
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

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
    pub(crate) const fn new(value: T) -> Self {
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
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for ShortGuard<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard holds the lock, so nobody else reaches the value.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for ShortGuard<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        self.lock.locked.store(false, Ordering::Release);
    }
}

/// Keeps its content on cache lines of its own (two: the adjacent-line prefetcher pulls pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

impl<T> Deref for Padded<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.0
    }
}

/// A thread that sleeps until somebody calls [`Parker::unpark`], whatever else uses `std::thread::park`.
///
/// An `unpark` that comes first is kept: the next `park` returns at once. Spurious returns do not happen.
#[derive(Debug)]
pub(crate) struct Parker {
    token: AtomicBool,
    thread: thread::Thread,
}

impl Parker {
    /// A parker of the calling thread; only this thread may park on it.
    pub(crate) fn here() -> Self {
        Parker {
            token: AtomicBool::new(false),
            thread: thread::current(),
        }
    }

    /// Sleeps until unparked.
    pub(crate) fn park(&self) {
        while !self.token.swap(false, Ordering::Acquire) {
            thread::park();
        }
    }

    /// Sleeps until unparked (true) or until `clock::now() >= until` (false).
    pub(crate) fn park_until(&self, until: u64) -> bool {
        loop {
            if self.token.swap(false, Ordering::Acquire) {
                return true;
            }
            let now = crate::clock::now();
            if now >= until {
                return false;
            }
            thread::park_timeout(Duration::from_nanos(until - now));
        }
    }

    /// Wakes the thread, or lets its next park return at once.
    pub(crate) fn unpark(&self) {
        if !self.token.swap(true, Ordering::Release) {
            self.thread.unpark();
        }
    }
}

thread_local! {
    static PARKER: std::cell::OnceCell<Arc<Parker>> = const { std::cell::OnceCell::new() };
}

/// The calling thread's parker for blocking waits. Waiters re-check what they wait for after each wake-up,
/// so a wake-up left over from an earlier wait costs one turn of the loop.
pub(crate) fn parker() -> Arc<Parker> {
    PARKER
        .try_with(|cell| cell.get_or_init(|| Arc::new(Parker::here())).clone())
        // The thread is ending and its locals are gone: a parker of its own for this one wait.
        .unwrap_or_else(|_| Arc::new(Parker::here()))
}
