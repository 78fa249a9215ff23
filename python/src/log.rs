//! What nobody waits for goes to Python's logger "duly".
//!
//! Keeps true: logging never raises into the pool, and does nothing once the interpreter is gone.

use duly::{Late, Stalled, Unobserved};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::callback;

/// A callback returned after its task had its outcome.
pub(crate) fn late(late: &Late) {
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
    warning(&format!(
        "nobody looked at task {label:?}, which {}{message}",
        unobserved.outcome
    ));
}

static WARNING: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// Finds the logger, while the module is imported: threads of a pool import nothing.
pub(crate) fn prepare(py: Python<'_>) -> PyResult<()> {
    WARNING.import(py, "duly._log", "warning").map(drop)
}

/// Logs a warning. Attaches if need be.
pub(crate) fn warning(text: &str) {
    Python::try_attach(|py| {
        let logged = WARNING
            .import(py, "duly._log", "warning")
            .and_then(|warning| callback::call(warning, &("%s", text).into_pyobject(py)?, None));
        if let Err(error) = logged {
            unraisable(py, error);
        }
    });
}

/// An exception that has nobody to go to: `sys.unraisablehook`.
pub(crate) fn unraisable(py: Python<'_>, error: PyErr) {
    error.write_unraisable(py, None);
}
