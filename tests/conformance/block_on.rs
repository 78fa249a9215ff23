//! Drives a future on the calling thread. Small on purpose: a task must work under any executor.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Wakes the thread that calls this.
pub(crate) fn this_thread() -> Waker {
    Waker::from(Arc::new(Unpark(thread::current())))
}

/// The future's output, or `None` when it has not come in time.
pub(crate) fn block_on<F: Future>(future: F, at_most: Duration) -> Option<F::Output> {
    let until = Instant::now() + at_most;
    let mut future = pin!(future);
    let waker = this_thread();
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        // Only a wake-up makes it look again: a waker that is never woken must show.
        let left = until.checked_duration_since(Instant::now())?;
        thread::park_timeout(left);
    }
}

/// Looks once; true when the future is ready.
pub(crate) fn poll_once<F: Future>(future: Pin<&mut F>) -> bool {
    future.poll(&mut Context::from_waker(Waker::noop())).is_ready()
}
