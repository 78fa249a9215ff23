//! How a thread sleeps until somebody wakes it, whatever else uses `std::thread::park`.
//!
//! Keeps true: an unpark that comes first is kept, and a park returns for nothing else.

use super::{Arc, AtomicBool, Ordering, local, thread};
use std::cell::OnceCell;
use std::time::Duration;

/// A thread that sleeps until somebody calls [`Parker::unpark`], whatever else uses `std::thread::park`.
///
/// An `unpark` that comes first is kept: the next `park` returns at once. Spurious returns do not happen.
pub(crate) struct Parker {
    token: AtomicBool,
    thread: thread::Thread,
    /// Called in place of waking the thread.
    host: Option<Box<dyn Fn() + Send + Sync>>,
}

impl std::fmt::Debug for Parker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parker")
            .field("by_host", &self.host.is_some())
            .finish_non_exhaustive()
    }
}

impl Parker {
    /// A parker of the calling thread; only this thread may park on it.
    pub(crate) fn here() -> Self {
        Parker {
            token: AtomicBool::new(false),
            thread: thread::current(),
            host: None,
        }
    }

    /// For who does not sleep on a thread: `wake` is called in place of waking one, and must not block.
    pub(crate) fn of_host(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Parker {
            host: Some(Box::new(wake)),
            ..Parker::here()
        }
    }

    /// Whether it has been unparked since this was last asked.
    pub(crate) fn take_token(&self) -> bool {
        self.token.swap(false, Ordering::Acquire)
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
            match &self.host {
                None => self.thread.unpark(),
                Some(wake) => wake(),
            }
        }
    }
}

local! {
    static PARKER: OnceCell<Arc<Parker>> = OnceCell::new();
}

/// The calling thread's parker for blocking waits. Waiters re-check what they wait for after each wake-up,
/// so a wake-up left over from an earlier wait costs one turn of the loop.
pub(crate) fn parker() -> Arc<Parker> {
    PARKER
        .try_with(|cell| cell.get_or_init(|| Arc::new(Parker::here())).clone())
        // The thread is ending and its locals are gone: a parker of its own for this one wait.
        .unwrap_or_else(|_| Arc::new(Parker::here()))
}
