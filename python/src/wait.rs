//! Waiting without the interpreter.
//!
//! Keeps true: whoever waits is detached; on the main thread signals are looked for at least every 50 ms, so that
//! Ctrl-C ends any wait; other threads wait in one piece.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use pyo3::intern;
use pyo3::prelude::*;

/// How long the main thread waits before it looks for signals again.
const SLICE: Duration = Duration::from_millis(50);

/// Waits until `step` says true, or for `limit`: then the answer is false. `step` blocks for at most the span it is
/// given and says whether the wait is over.
pub(crate) fn until(py: Python<'_>, limit: Option<Duration>, step: impl Fn(Duration) -> bool + Sync) -> PyResult<bool> {
    let slice = slice(py)?;
    // A limit beyond the clock is none.
    let end = limit.and_then(|limit| Instant::now().checked_add(limit));
    loop {
        let left = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
        if py.detach(|| step(left.min(slice))) {
            return Ok(true);
        }
        py.check_signals()?;
        if end.is_some_and(|end| end <= Instant::now()) {
            return Ok(false);
        }
    }
}

/// Waits for a future, of which `poll` is one poll. It is called attached and must not block; when a signal handler
/// raises, it is not called again.
pub(crate) fn poll<T>(py: Python<'_>, mut poll: impl FnMut(&Waker) -> Poll<T>) -> PyResult<T> {
    let unpark = Arc::new(Unpark(AtomicBool::new(false), thread::current()));
    let waker = Waker::from(Arc::clone(&unpark));
    if let Poll::Ready(output) = poll(&waker) {
        return Ok(output);
    }
    let slice = slice(py)?;
    loop {
        // Not by parking alone: what runs on this thread in between, a destructor say, may wait and take the wake-up away.
        py.detach(|| {
            if slice != Duration::MAX {
                thread::park_timeout(slice);
                return;
            }
            while !unpark.0.swap(false, Ordering::Acquire) {
                thread::park();
            }
        });
        if let Poll::Ready(output) = poll(&waker) {
            return Ok(output);
        }
        py.check_signals()?;
    }
}

/// Whether it was woken, and whom to wake.
struct Unpark(AtomicBool, Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
        self.1.unpark();
    }
}

/// Whether this thread waits without looking for signals in between.
pub(crate) fn in_one_piece(py: Python<'_>) -> PyResult<bool> {
    Ok(slice(py)? == Duration::MAX)
}

thread_local! {
    /// Whether this thread is the main one; None: not asked yet.
    static MAIN: Cell<Option<bool>> = const { Cell::new(None) };
}

/// In a forked child the one thread there is has become the main one.
pub(crate) fn after_fork_in_child() {
    MAIN.set(Some(true));
}

/// The longest wait in one piece on this thread.
fn slice(py: Python<'_>) -> PyResult<Duration> {
    let main = match MAIN.get() {
        Some(main) => main,
        None => {
            let threading = py.import(intern!(py, "threading"))?;
            let main = threading
                .call_method0(intern!(py, "main_thread"))?
                .getattr(intern!(py, "ident"))?;
            let here = threading.call_method0(intern!(py, "get_ident"))?;
            let main = main.eq(here)?;
            MAIN.set(Some(main));
            main
        }
    };
    Ok(if main { SLICE } else { Duration::MAX })
}
