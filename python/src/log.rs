//! What nobody waits for goes to Python's logger "duly".
//!
//! Keeps true: logging never raises into the pool, and does nothing once the interpreter is gone.

use std::cell::Cell;
use std::time::Duration;

use duly::{Late, Outcome, Stalled, Unobserved};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::{callback, later};

/// A callback that ran for less is not worth a line: one that was cancelled as it began, say.
const BRIEF: Duration = Duration::from_millis(10);

/// A callback returned after its task had its outcome.
pub(crate) fn late(late: &Late) {
    if late.ran < BRIEF {
        return;
    }
    let label = late.name.label().unwrap_or_default();
    let (ran, outcome) = (late.ran, late.outcome);
    warning(&format!(
        "the callback of task {label:?} returned after {ran:.1?}; its task had ended ({outcome})"
    ));
}

/// Every worker is stuck.
pub(crate) fn stalled(stalled: &Stalled) {
    let stuck: Vec<_> = stalled
        .stuck
        .iter()
        .map(|task| format!("{:?}", task.name.label().unwrap_or_default()))
        .collect();
    warning(&format!(
        "pool {:?} is stalled: every worker is inside a callback whose task has ended ({}), and no replacement is left; \
         {} tasks are queued. Let the callbacks end, or raise max_replacements",
        stalled.pool,
        stuck.join(", "),
        stalled.queued
    ));
}

/// A failure nobody looked at.
pub(crate) fn unobserved(unobserved: &Unobserved) {
    let label = unobserved.name.label().unwrap_or_default();
    let message = unobserved
        .message
        .as_deref()
        .map(|message| format!(": {message}"))
        .unwrap_or_default();
    let text = format!("nobody looked at task {label:?}, which {}{message}", unobserved.outcome);
    if unobserved.outcome == Outcome::Failed {
        // Core drops what the callback raised next, on this thread: it is told with its traceback.
        UNTOLD.set(Some(text));
    } else {
        warning(&text);
    }
}

thread_local! {
    static UNTOLD: Cell<Option<String>> = const { Cell::new(None) };
}

/// What is to be told of the exception that is dropped now, if nobody looked at it.
pub(crate) fn untold() -> Option<String> {
    UNTOLD.take()
}

/// Logs an exception with its traceback.
pub(crate) fn failure(py: Python<'_>, text: &str, exception: impl FnOnce() -> PyResult<Py<PyAny>>) {
    aside(py, || {
        let logged = exception().and_then(|exception| {
            let failure = FAILURE.import(py, "duly._log", "failure")?;
            callback::call(failure, &(text, exception).into_pyobject(py)?, None)
        });
        if let Err(error) = logged {
            unraisable(py, error);
        }
    });
}

/// Runs `work`, which may call Python, where an exception may be on its way already: a handle that is dropped while a frame
/// is left. It is put aside, and comes back.
pub(crate) fn aside(_py: Python<'_>, work: impl FnOnce()) {
    let (mut kind, mut value, mut traceback) = (std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: attached; three places for references, which PyErr_Fetch gives and PyErr_Restore takes back.
    unsafe { ffi::PyErr_Fetch(&raw mut kind, &raw mut value, &raw mut traceback) };
    work();
    // SAFETY: as before; work has left no exception set.
    unsafe { ffi::PyErr_Restore(kind, value, traceback) };
}

static WARNING: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static FAILURE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// Finds the logger, while the module is imported: threads of a pool import nothing.
pub(crate) fn prepare(py: Python<'_>) -> PyResult<()> {
    FAILURE.import(py, "duly._log", "failure")?;
    WARNING.import(py, "duly._log", "warning").map(drop)
}

/// Logs a warning. Attaches if need be, or has another thread do it.
pub(crate) fn warning(text: &str) {
    let text = text.to_owned();
    later::attached(move |py| {
        aside(py, || {
            let logged = WARNING
                .import(py, "duly._log", "warning")
                .and_then(|warning| callback::call(warning, &("%s", text).into_pyobject(py)?, None));
            if let Err(error) = logged {
                unraisable(py, error);
            }
        });
    });
}

/// An exception that has nobody to go to: `sys.unraisablehook`.
pub(crate) fn unraisable(py: Python<'_>, error: PyErr) {
    error.write_unraisable(py, None);
}
