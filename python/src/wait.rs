//! Waiting without the interpreter.
//!
//! Keeps true: whoever waits is detached; on the main thread signals are looked for at least every 50 ms, so that
//! Ctrl-C ends any wait; other threads wait in one piece.

use std::sync::Arc;
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
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    if let Poll::Ready(output) = poll(&waker) {
        return Ok(output);
    }
    let slice = slice(py)?;
    loop {
        py.detach(|| {
            if slice == Duration::MAX {
                thread::park()
            } else {
                thread::park_timeout(slice)
            }
        });
        if let Poll::Ready(output) = poll(&waker) {
            return Ok(output);
        }
        py.check_signals()?;
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The longest wait in one piece on this thread.
fn slice(py: Python<'_>) -> PyResult<Duration> {
    let threading = py.import(intern!(py, "threading"))?;
    let main = threading
        .call_method0(intern!(py, "main_thread"))?
        .getattr(intern!(py, "ident"))?;
    let here = threading.call_method0(intern!(py, "get_ident"))?;
    Ok(if main.eq(here)? { SLICE } else { Duration::MAX })
}
