//! A future of core that nobody's thread waits in: whoever makes it go on polls it, there and then.
//!
//! Keeps true:
//! 1. One thread at a time polls or drops it; a wake-up that comes meanwhile has it looked at once more, so none is lost.
//! 2. What it gives, a closure, is called once.
//! 3. Nothing is polled, dropped or called under its lock, which is a leaf: core, polled, may wake another one, and whoever is
//!    told by that may leave this one.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// What is to be done at the end.
pub(crate) type Then = Box<dyn FnOnce() + Send>;
type Work = Pin<Box<dyn Future<Output = Then> + Send>>;

pub(crate) struct Driven {
    wakes: AtomicUsize,
    work: Mutex<Option<Work>>,
    left: AtomicBool,
}

impl Wake for Driven {
    fn wake(self: Arc<Self>) {
        self.go();
    }
}

impl Driven {
    /// Polls it once, and from then on whenever it is woken; so what it gives may be called before this returns.
    pub(crate) fn start(work: impl Future<Output = Then> + Send + 'static) -> Arc<Self> {
        let driven = Arc::new(Driven {
            wakes: AtomicUsize::new(0),
            work: Mutex::new(Some(Box::pin(work))),
            left: AtomicBool::new(false),
        });
        driven.go();
        driven
    }

    /// Has it dropped; what it has given already is still called.
    pub(crate) fn leave(self: &Arc<Self>) {
        self.left.store(true, Ordering::Release);
        self.go();
    }

    fn work(&self) -> MutexGuard<'_, Option<Work>> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn go(self: &Arc<Self>) {
        if self.wakes.fetch_add(1, Ordering::AcqRel) > 0 {
            return;
        }
        let waker = Waker::from(Arc::clone(self));
        loop {
            let seen = self.wakes.load(Ordering::Acquire);
            let work = self.work().take();
            // Of one that was left, being dropped is all that is left to do.
            if let Some(mut work) = work.filter(|_| !self.left.load(Ordering::Acquire)) {
                match work.as_mut().poll(&mut Context::from_waker(&waker)) {
                    Poll::Ready(then) => {
                        drop(work);
                        then();
                    }
                    Poll::Pending => *self.work() = Some(work),
                }
            }
            if self.wakes.fetch_sub(seen, Ordering::AcqRel) == seen {
                return;
            }
        }
    }
}
