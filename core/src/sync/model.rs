//! The primitives under a model checker: what `loom` and `shuttle` have in common.
//!
//! Keeps true: every step that another thread could see is a step of the checker; nothing lives longer than one
//! execution; time passes only where a model says so ([`advance`]) or, under shuttle, where nobody would otherwise
//! notice the passing of a timeout.

#[cfg(loom)]
use super::loom as checker;
#[cfg(shuttle)]
use super::shuttle as checker;

use super::Ordering;
use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};

pub(crate) use checker::{
    AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Condvar, UnsafeCell, fence, global, local,
};

/// Whether a model checker runs this: then nothing spins, and memory is small.
pub(crate) const MODEL: bool = true;

/// How often to look again before sleeping: for a checker it is all one.
pub(crate) fn patience(_turns: u32) -> u32 {
    0
}

pub(crate) fn spin_hint() {
    thread::yield_now();
}

/// An array made of so many evaluations of an expression.
macro_rules! array {
    ($init:expr; $len:expr) => {
        ::std::array::from_fn(|_| $init)
    };
}

pub(crate) use array;

// ---- time ----

/// What time it is, and who waits for a time to come. No step of the checker: behind plain locks, which no thread
/// holds over a step.
#[derive(Debug)]
struct Time {
    now: std::sync::atomic::AtomicU64,
    waiting: std::sync::Mutex<Vec<(u64, u64, thread::Thread)>>,
    next: std::sync::atomic::AtomicU64,
}

global! {
    static TIME: Time = Time {
        now: std::sync::atomic::AtomicU64::new(1_000_000_000),
        waiting: std::sync::Mutex::default(),
        next: std::sync::atomic::AtomicU64::new(0),
    };
}

/// Nanoseconds since some point.
pub(crate) fn now() -> u64 {
    TIME.now.load(Ordering::Relaxed)
}

/// The same.
pub(crate) fn coarse() -> u64 {
    now()
}

/// Lets so many nanoseconds pass, and wakes those whose time has come.
pub(crate) fn advance(nanos: u64) {
    let now = TIME.now.fetch_add(nanos, Ordering::Relaxed) + nanos;
    let due: Vec<_> = {
        let mut waiting = TIME.waiting.lock().expect("no panic while held");
        waiting.extract_if(.., |(until, ..)| *until <= now).collect()
    };
    for (.., thread) in due {
        thread.unpark();
    }
}

/// Until when the first of those waits who wait for a time.
#[cfg(shuttle)]
pub(super) fn first_due() -> Option<u64> {
    let waiting = TIME.waiting.lock().expect("no panic while held");
    waiting.iter().map(|(until, ..)| *until).min()
}

/// While it is held, [`advance`] unparks the calling thread when `until` has come.
pub(super) struct Waits(u64);

impl Waits {
    pub(super) fn until(until: u64) -> Waits {
        let key = TIME.next.fetch_add(1, Ordering::Relaxed);
        let mut waiting = TIME.waiting.lock().expect("no panic while held");
        waiting.push((until, key, thread::current()));
        Waits(key)
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        let mut waiting = TIME.waiting.lock().expect("no panic while held");
        waiting.retain(|(_, key, _)| *key != self.0);
    }
}

// ---- threads ----

/// Threads of the checker, with the interface of std.
pub(crate) mod thread {
    use super::checker::{self, Signal};
    use super::{Waits, local, now};
    use crate::sync::Arc;
    use std::io;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    pub(crate) use checker::yield_now;
    pub(crate) use std::thread::panicking;

    /// A thread that may be unparked.
    #[derive(Clone, Debug)]
    pub(crate) struct Thread {
        signal: Arc<Signal>,
        name: Option<Arc<str>>,
    }

    impl Thread {
        fn new(name: Option<Arc<str>>) -> Self {
            Thread {
                signal: Arc::new(Signal::new()),
                name,
            }
        }

        pub(crate) fn unpark(&self) {
            self.signal.set();
        }

        pub(crate) fn name(&self) -> Option<&str> {
            self.name.as_deref()
        }
    }

    local! {
        static CURRENT: std::cell::OnceCell<Thread> = std::cell::OnceCell::new();
    }

    pub(crate) fn current() -> Thread {
        CURRENT.with(|current| current.get_or_init(|| Thread::new(None)).clone())
    }

    pub(crate) fn park() {
        current().signal.wait();
    }

    /// Like std's it may return early.
    pub(crate) fn park_timeout(span: Duration) {
        let until = now().saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX));
        let current = current();
        let _waits = Waits::until(until);
        if now() < until {
            checker::wait_a_while(&current.signal);
        }
    }

    /// Every sleep of this crate polls: under loom it is no more than a yield.
    pub(crate) fn sleep(span: Duration) {
        checker::sleep(span);
    }

    #[derive(Debug)]
    pub(crate) struct JoinHandle<T> {
        inner: checker::JoinHandle<T>,
        done: Arc<AtomicBool>,
    }

    impl<T> JoinHandle<T> {
        pub(crate) fn is_finished(&self) -> bool {
            self.done.load(Ordering::Relaxed)
        }

        pub(crate) fn join(self) -> std::thread::Result<T> {
            self.inner.join()
        }
    }

    pub(crate) struct Builder {
        name: Option<Arc<str>>,
    }

    impl Builder {
        pub(crate) fn new() -> Self {
            Builder { name: None }
        }

        pub(crate) fn name(mut self, name: String) -> Self {
            self.name = Some(name.into());
            self
        }

        /// Stacks are the checker's business.
        pub(crate) fn stack_size(self, _size: usize) -> Self {
            self
        }

        pub(crate) fn spawn<T: Send + 'static>(
            self,
            run: impl FnOnce() -> T + Send + 'static,
        ) -> io::Result<JoinHandle<T>> {
            let done = Arc::new(AtomicBool::new(false));
            let is_done = done.clone();
            let inner = checker::spawn(move || {
                CURRENT
                    .with(|current| current.set(Thread::new(self.name)))
                    .expect("a new thread");
                let value = run();
                is_done.store(true, Ordering::Relaxed);
                value
            });
            Ok(JoinHandle { inner, done })
        }
    }

    /// What a model calls to have something run beside it.
    pub(crate) fn spawn<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        Builder::new().spawn(run).expect("cannot fail")
    }
}

/// Joins a thread if it is gone; otherwise the handle comes back.
pub(crate) fn join_ended(handle: thread::JoinHandle<()>, _until: u64) -> Option<thread::JoinHandle<()>> {
    if !handle.is_finished() {
        return Some(handle);
    }
    handle.join().expect("a thread of a model panicked");
    None
}

// ---- locks ----

#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(checker::Mutex<T>);

/// Knows its lock: a condition variable may have to take it again.
pub(crate) struct MutexGuard<'a, T> {
    lock: &'a Mutex<T>,
    inner: checker::MutexGuard<'a, T>,
}

impl<T> Mutex<T> {
    #[track_caller]
    pub(crate) fn new(value: T) -> Self {
        Mutex(checker::Mutex::new(value))
    }

    #[track_caller]
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard {
            lock: self,
            inner: self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()),
        }
    }
}

impl<'a, T> MutexGuard<'a, T> {
    pub(super) fn into_parts(self) -> (&'a Mutex<T>, checker::MutexGuard<'a, T>) {
        (self.lock, self.inner)
    }

    #[cfg(loom)]
    pub(super) fn from_parts(lock: &'a Mutex<T>, inner: checker::MutexGuard<'a, T>) -> Self {
        MutexGuard { lock, inner }
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

/// Stands in for the spinning lock: a checker knows what a lock is, and spinning never ends for it. So the orderings of
/// the real one are not modelled (ThreadSanitizer sees them).
#[derive(Debug)]
pub(crate) struct ShortLock<T>(Mutex<T>);

impl<T> ShortLock<T> {
    #[track_caller]
    pub(crate) fn new(value: T) -> Self {
        ShortLock(Mutex::new(value))
    }

    #[track_caller]
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock()
    }
}

/// `std::sync::OnceLock`, with its steps visible. (A thread of the checker that waits for std's would hang, if the one
/// it waits for has to make a step.)
#[derive(Debug)]
pub(crate) struct OnceLock<T> {
    there: AtomicBool,
    setting: Mutex<()>,
    value: std::sync::OnceLock<T>,
}

impl<T> Default for OnceLock<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> OnceLock<T> {
    #[track_caller]
    pub(crate) fn new() -> Self {
        OnceLock {
            there: AtomicBool::new(false),
            setting: Mutex::new(()),
            value: std::sync::OnceLock::new(),
        }
    }

    #[track_caller]
    pub(crate) fn get(&self) -> Option<&T> {
        // Without the look at `there`, the checker would not see that the value's content came from another thread.
        if self.there.load(Ordering::Acquire) {
            self.value.get()
        } else {
            None
        }
    }

    #[track_caller]
    pub(crate) fn set(&self, value: T) -> Result<(), T> {
        let _setting = self.setting.lock();
        self.value.set(value)?;
        self.there.store(true, Ordering::Release);
        Ok(())
    }

    #[track_caller]
    pub(crate) fn get_or_init(&self, init: impl FnOnce() -> T) -> &T {
        if self.get().is_none() {
            let _setting = self.setting.lock();
            if self.value.get().is_none() {
                let _ = self.value.set(init());
                self.there.store(true, Ordering::Release);
            }
        }
        self.value.get().expect("just set")
    }
}

// ---- the channel of the delivery threads ----

/// A queue of jobs without bound, which can be told to stop.
pub(crate) struct Jobs<T> {
    inner: Mutex<(VecDeque<T>, bool)>,
    changed: Condvar,
}

impl<T> Jobs<T> {
    pub(crate) fn new() -> Self {
        Jobs {
            inner: Mutex::new((VecDeque::new(), false)),
            changed: Condvar::new(),
        }
    }

    pub(crate) fn send(&self, job: T) {
        self.inner.lock().0.push_back(job);
        self.changed.notify_one();
    }

    /// The next job, waited for; `None` when told to stop, though jobs may be left.
    pub(crate) fn take(&self) -> Option<T> {
        let mut inner = self.inner.lock();
        loop {
            if inner.1 && checker::either() {
                return None;
            }
            if let Some(job) = inner.0.pop_front() {
                return Some(job);
            }
            if inner.1 {
                return None;
            }
            inner = self.changed.wait(inner);
        }
    }

    pub(crate) fn take_now(&self) -> Option<T> {
        self.inner.lock().0.pop_front()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.inner.lock().0.is_empty()
    }

    pub(crate) fn stop(&self) {
        self.inner.lock().1 = true;
        self.changed.notify_all();
    }
}
