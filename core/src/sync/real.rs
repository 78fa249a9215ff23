//! The primitives of std, libc and crossbeam, as the crate uses them.
//!
//! Keeps true: nothing here costs more than what it stands for.

use std::sync::PoisonError;
use std::time::Duration;

pub(crate) use std::sync::OnceLock;
#[cfg(not(duly_delays))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, fence};

/// Whether a model checker runs this: then nothing spins, and memory is small.
pub(crate) const MODEL: bool = false;

/// Threads, as std has them.
pub(crate) mod thread {
    pub(crate) use std::thread::{
        Builder, JoinHandle, Thread, current, panicking, park, park_timeout, sleep, yield_now,
    };
}

/// How often to look again before sleeping, of so many times.
#[inline(always)]
pub(crate) fn patience(turns: u32) -> u32 {
    turns
}

#[inline(always)]
pub(crate) fn spin_hint() {
    std::hint::spin_loop();
}

#[inline(always)]
fn delay() {
    #[cfg(duly_delays)]
    super::delays::point();
}

// ---- statics ----

/// A static of the program.
macro_rules! global {
    ($($(#[$meta:meta])* static $name:ident: $type:ty = $init:expr;)*) => {
        $($(#[$meta])* static $name: $type = $init;)*
    };
}

/// A static of each thread.
macro_rules! local {
    ($($(#[$meta:meta])* static $name:ident: $type:ty = $init:expr;)*) => {
        ::std::thread_local! { $($(#[$meta])* static $name: $type = const { $init };)* }
    };
}

/// An array made of so many evaluations of an expression.
macro_rules! array {
    ($init:expr; $len:expr) => {
        [const { $init }; $len]
    };
}

pub(crate) use {array, global, local};

// ---- locks ----

/// `std::sync::Mutex` without poisoning.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

pub(crate) type MutexGuard<'a, T> = std::sync::MutexGuard<'a, T>;

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Mutex(std::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        delay();
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.0.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn wait_timeout<'a, T>(&self, guard: MutexGuard<'a, T>, timeout: Duration) -> MutexGuard<'a, T> {
        match self.0.wait_timeout(guard, timeout) {
            Ok((guard, _)) => guard,
            Err(poisoned) => poisoned.into_inner().0,
        }
    }

    pub(crate) fn notify_one(&self) {
        delay();
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        delay();
        self.0.notify_all();
    }
}

// ---- the channel of the delivery threads ----

/// A queue of jobs without bound, which can be told to stop.
pub(crate) struct Jobs<T> {
    send: crossbeam_channel::Sender<T>,
    receive: crossbeam_channel::Receiver<T>,
    /// Dropped to stop.
    alive: Mutex<Option<crossbeam_channel::Sender<()>>>,
    /// Disconnected from then on.
    is_alive: crossbeam_channel::Receiver<()>,
}

impl<T> Jobs<T> {
    pub(crate) fn new() -> Self {
        let (send, receive) = crossbeam_channel::unbounded();
        let (alive, is_alive) = crossbeam_channel::bounded(0);
        Jobs {
            send,
            receive,
            alive: Mutex::new(Some(alive)),
            is_alive,
        }
    }

    /// Never blocks. What is sent after the stop stays for [`take_now`](Self::take_now).
    pub(crate) fn send(&self, job: T) {
        delay();
        if self.send.send(job).is_err() {
            unreachable!("the receiver lives as long as the sender");
        }
    }

    /// The next job, waited for; `None` when told to stop, though jobs may be left.
    pub(crate) fn take(&self) -> Option<T> {
        crossbeam_channel::select! {
            recv(self.receive) -> job => job.ok(),
            recv(self.is_alive) -> _ => None,
        }
    }

    /// The next job, if there is one.
    pub(crate) fn take_now(&self) -> Option<T> {
        delay();
        self.receive.try_recv().ok()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.receive.is_empty()
    }

    /// Tells those who take to stop.
    pub(crate) fn stop(&self) {
        drop(self.alive.lock().take());
    }
}

// ---- time ----

fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for writes; both clocks exist on every Linux that Rust supports, so the call
    // cannot fail.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Nanoseconds of the monotonic clock.
#[inline]
pub(crate) fn now() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// The same, some milliseconds behind and cheaper.
#[inline]
pub(crate) fn coarse() -> u64 {
    read(libc::CLOCK_MONOTONIC_COARSE)
}

// ---- the stack of a thread ----

/// The lowest address of the calling thread's stack, and its size; zeros where that cannot be told.
pub(crate) fn stack_of_thread() -> (usize, usize) {
    thread_local! {
        static STACK: (usize, usize) = ask_for_stack();
    }
    STACK.try_with(|stack| *stack).unwrap_or_default()
}

fn ask_for_stack() -> (usize, usize) {
    // SAFETY: a zeroed pthread_attr_t is only written by pthread_getattr_np, and destroyed if that succeeded.
    unsafe {
        let mut attributes: libc::pthread_attr_t = std::mem::zeroed();
        if libc::pthread_getattr_np(libc::pthread_self(), &raw mut attributes) != 0 {
            return (0, 0);
        }
        let (mut lowest, mut size) = (std::ptr::null_mut(), 0);
        let told = libc::pthread_attr_getstack(&raw const attributes, &raw mut lowest, &raw mut size) == 0;
        libc::pthread_attr_destroy(&raw mut attributes);
        if told { (lowest.addr(), size) } else { (0, 0) }
    }
}

// ---- the end of a thread ----

/// Joins a thread if it is gone; otherwise the handle comes back.
pub(crate) fn join_ended(handle: thread::JoinHandle<()>, until: u64) -> Option<thread::JoinHandle<()>> {
    if !handle.is_finished() {
        return Some(handle);
    }
    // Its closure has returned; what is left of it are its thread-locals' destructors, which may be user code,
    // so that even this join needs a limit.
    use std::os::unix::thread::JoinHandleExt;
    let id = handle.into_pthread_t();
    loop {
        // SAFETY: the id is valid: it was neither joined nor detached, and `into_pthread_t` gave it to us.
        match unsafe { libc::pthread_tryjoin_np(id, std::ptr::null_mut()) } {
            libc::EBUSY if now() < until => thread::sleep(Duration::from_micros(20)),
            0 => return None,
            _ => {
                // SAFETY: as above, and not joined.
                unsafe { libc::pthread_detach(id) };
                return None;
            }
        }
    }
}
