//! The exceptions of `duly._errors`, made from what core answers.
//!
//! Keeps true: each message says which task or pool, what happened and what to do.

use duly::{BuildError, Outcome, ShutdownError, SignalError, SubmitErrorKind};
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;

/// An exception of the class `name` of `duly._errors`.
pub(crate) fn make<'py>(py: Python<'py>, name: &str, message: &str) -> PyResult<Bound<'py, PyAny>> {
    py.import(intern!(py, "duly._errors"))?.getattr(name)?.call1((message,))
}

fn raise(py: Python<'_>, name: &str, message: &str) -> PyErr {
    make(py, name, message).map_or_else(|error| error, PyErr::from_value)
}

pub(crate) fn invalid_argument(py: Python<'_>, message: &str) -> PyErr {
    raise(py, "InvalidArgument", message)
}

pub(crate) fn type_error(message: &str) -> PyErr {
    PyTypeError::new_err(message.to_owned())
}

pub(crate) fn not_here(message: &str) -> PyErr {
    PyRuntimeError::new_err(message.to_owned())
}

/// The name of an object's type, for messages.
pub(crate) fn kind_of(object: &Bound<'_, PyAny>) -> String {
    object
        .get_type()
        .name()
        .map_or_else(|_| "?".to_owned(), |name| name.to_string())
}

/// A pool that could not be built.
pub(crate) fn build(py: Python<'_>, error: &BuildError) -> PyErr {
    match error {
        BuildError::InvalidArgument { .. } => invalid_argument(py, &error.to_string()),
        BuildError::ShutDown => raise(py, "ShutDown", &error.to_string()),
        _ => not_here(&error.to_string()),
    }
}

/// A submit that was refused.
pub(crate) fn refused(py: Python<'_>, kind: SubmitErrorKind, label: &str, pool: &str) -> PyErr {
    let (name, what) = match kind {
        SubmitErrorKind::QueueFull => (
            "QueueFull",
            "the queue is full; wait for room with submit, retry later, or choose another overflow policy",
        ),
        SubmitErrorKind::SubmitTimedOut => ("SubmitTimedOut", "there was no room in the queue within submit_timeout"),
        SubmitErrorKind::DeadlineExceeded => (
            "DeadlineExceeded",
            "its deadline passed while it waited for room in the queue; it never ran",
        ),
        SubmitErrorKind::ShutDown => ("ShutDown", "the pool is closed or shut down and accepts no more tasks"),
        SubmitErrorKind::WouldDeadlock => ("WouldDeadlock", "waiting for room here could never end"),
        SubmitErrorKind::InvalidArgument => ("InvalidArgument", "an option is outside its documented bounds"),
        // The remaining kind, and every one that core may add for a token.
        _ => ("Cancelled", "what it was submitted under is cancelled"),
    };
    let message = format!("task {label:?} was refused by pool {pool:?}: {what}");
    with_task(py, make(py, name, &message), label)
}

/// A submit to a pool whose threads stayed in the parent.
pub(crate) fn forked(py: Python<'_>, pool: &str) -> PyErr {
    let message =
        format!("pool {pool:?} was inherited through fork, and its threads were not: make a new pool in the child");
    raise(py, "ShutDown", &message)
}

/// The exception that stands for an outcome that is not the callback's own.
pub(crate) fn outcome<'py>(py: Python<'py>, ended: Outcome, label: &str, detail: &str) -> PyResult<Bound<'py, PyAny>> {
    let (name, what) = match ended {
        Outcome::Cancelled => ("Cancelled", "was cancelled"),
        Outcome::DeadlineExceeded => ("DeadlineExceeded", "did not end by its deadline"),
        Outcome::Shed => ("Shed", "was dropped by the overflow policy and never ran"),
        Outcome::Abandoned => ("Abandoned", "was abandoned: the pool was shut down before it ended"),
        _ => ("Panicked", "panicked in native code"),
    };
    let message = match detail {
        "" => format!("task {label:?} {what}"),
        _ => format!("task {label:?} {what}: {detail}"),
    };
    let exception = make(py, name, &message)?;
    exception.setattr(intern!(py, "task"), label)?;
    if ended == Outcome::Cancelled {
        exception.setattr(intern!(py, "reason"), detail)?;
    }
    Ok(exception)
}

/// A wait for a task that timed out.
pub(crate) fn wait_timed_out(py: Python<'_>, label: &str) -> PyErr {
    let message = format!("the wait for task {label:?} timed out; the task goes on");
    with_task(py, make(py, "WaitTimeout", &message), label)
}

/// A wait inside a callback that could never have ended.
pub(crate) fn would_deadlock(py: Python<'_>, why: &duly::Deadlock, label: &str) -> PyErr {
    let message = format!("the wait for task {label:?} was refused, the task goes on: {why}");
    with_task(py, make(py, "WouldDeadlock", &message), label)
}

/// A shutdown that was refused.
pub(crate) fn shutdown(py: Python<'_>, error: &ShutdownError, pool: &str) -> PyErr {
    raise(
        py,
        "WouldDeadlock",
        &format!("pool {pool:?}: {error}; call shutdown from a thread outside the pool"),
    )
}

/// Nothing was bound to signals.
pub(crate) fn signal(py: Python<'_>, error: &SignalError) -> PyErr {
    match error {
        SignalError::NoSignal => invalid_argument(py, "no signal was named: name at least one, e.g. signal.SIGTERM"),
        SignalError::ShutDown => raise(py, "ShutDown", &error.to_string()),
        _ => not_here(&error.to_string()),
    }
}

fn with_task(py: Python<'_>, made: PyResult<Bound<'_, PyAny>>, label: &str) -> PyErr {
    let complete = made.and_then(|exception| {
        exception.setattr(intern!(py, "task"), label)?;
        Ok(exception)
    });
    complete.map_or_else(|error| error, PyErr::from_value)
}
