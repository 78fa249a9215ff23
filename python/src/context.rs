//! What a callback can ask about its own task: `duly.current_task()` and `duly.check_cancelled()`.
//!
//! Keeps true: the pointer in `CURRENT` is valid whenever it is not null: it is set while core lends the context to
//! the callback that runs on this thread, and put back when that callback returns or unwinds. Callers that run nest.

use std::cell::Cell;
use std::ptr;
use std::time::{Duration, Instant};

use duly::{CancellationToken, Context, Interrupted, Outcome};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::callback::{self, Held};
use crate::interrupt::OnTop;
use crate::{errors, log, states, time, wait};

thread_local! {
    static CURRENT: Cell<*const Context> = const { Cell::new(ptr::null()) };
    /// The ambient scope that the callback brought along: an address to compare with, never to follow.
    static BROUGHT: Cell<*mut ffi::PyObject> = const { Cell::new(ptr::null_mut()) };
}

/// Marks `context` as the one of the callback that runs on this thread, until the guard is dropped.
pub(crate) fn enter<'a>(context: &'a Context, scope: Option<&Py<PyAny>>) -> Entered<'a> {
    Entered {
        before: CURRENT.replace(context),
        brought_before: BROUGHT.replace(scope.map_or(ptr::null_mut(), Py::as_ptr)),
        _on_top: OnTop::new(),
        _context: context,
    }
}

pub(crate) struct Entered<'a> {
    before: *const Context,
    brought_before: *mut ffi::PyObject,
    _on_top: OnTop,
    _context: &'a Context,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        CURRENT.set(self.before);
        BROUGHT.set(self.brought_before);
    }
}

/// Whether a callback runs on this thread.
pub(crate) fn inside() -> bool {
    !CURRENT.get().is_null()
}

/// Whether `scope` came along with the callback that runs on this thread: then its task stands under it already, and
/// what it submits stands under its task.
pub(crate) fn brought(scope: &Bound<'_, PyAny>) -> bool {
    inside() && BROUGHT.get() == scope.as_ptr()
}

/// The token of the task whose callback is running on this thread.
pub(crate) fn token() -> Option<CancellationToken> {
    with_current(Context::token)
}

/// Whether a callback runs on this thread whose task has ended already.
pub(crate) fn ended() -> bool {
    with_current(Context::is_cancelled).unwrap_or(false)
}

fn with_current<R>(ask: impl FnOnce(&Context) -> R) -> Option<R> {
    // SAFETY: not null, so `enter` set it on this thread and its guard, which borrows the context, is still alive.
    unsafe { CURRENT.get().as_ref() }.map(ask)
}

/// The task whose callback is running on this thread, or None.
#[pyfunction]
pub(crate) fn current_task() -> Option<TaskContext> {
    with_current(|context| TaskContext {
        label: context.name().label().unwrap_or_default().to_owned(),
        deadline: context.deadline(),
        token: context.token(),
    })
}

/// Raises Cancelled, DeadlineExceeded or Abandoned if the task whose callback is running has ended already.
/// Outside a callback it does nothing.
#[pyfunction]
pub(crate) fn check_cancelled(py: Python<'_>) -> PyResult<()> {
    match with_current(|context| context.check().map_err(|why| (why, label_of(context)))) {
        Some(Err((why, label))) => Err(raise(py, &why, &label)),
        _ => Ok(()),
    }
}

fn label_of(context: &Context) -> String {
    context.name().label().unwrap_or_default().to_owned()
}

fn raise(py: Python<'_>, why: &Interrupted, label: &str) -> PyErr {
    let (outcome, detail) = match why {
        Interrupted::Cancelled(reason) => (Outcome::Cancelled, reason.to_string()),
        Interrupted::DeadlineExceeded => (Outcome::DeadlineExceeded, String::new()),
        _ => (Outcome::Abandoned, String::new()),
    };
    errors::outcome(py, outcome, label, &detail).map_or_else(|error| error, PyErr::from_value)
}

/// What a running callback can ask about its own task. It may be handed to other threads and outlive the callback;
/// only `check`, `cause` and `on_cancel` belong to the callback's own thread.
#[pyclass(frozen, module = "duly")]
#[derive(Debug)]
pub(crate) struct TaskContext {
    label: String,
    deadline: Option<Instant>,
    token: CancellationToken,
}

#[pymethods]
impl TaskContext {
    /// The task's label; that of a task without one is its callback's qualified name.
    #[getter]
    fn label(&self) -> &str {
        &self.label
    }

    /// Whether the task has ended already: cancelled, past its deadline or abandoned.
    fn is_cancelled(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Why the task has ended already: "cancelled", "deadline_exceeded", "abandoned"; None if it has not.
    #[getter]
    fn cause(&self) -> PyResult<Option<&'static str>> {
        let cause = self.own(Context::cause)?;
        Ok(cause.map(|why| match why {
            Interrupted::Cancelled(_) => Outcome::Cancelled.as_str(),
            Interrupted::DeadlineExceeded => Outcome::DeadlineExceeded.as_str(),
            _ => Outcome::Abandoned.as_str(),
        }))
    }

    /// Raises Cancelled, DeadlineExceeded or Abandoned if the task has ended already.
    fn check(&self, py: Python<'_>) -> PyResult<()> {
        self.own(Context::check)?.map_err(|why| raise(py, &why, &self.label))
    }

    /// Seconds until the deadline, never negative; None without one.
    fn time_left(&self) -> Option<f64> {
        Some(self.deadline?.saturating_duration_since(Instant::now()).as_secs_f64())
    }

    /// Sleeps, but wakes up at once when the task is cancelled. Returns whether it slept to the end.
    fn sleep(&self, py: Python<'_>, seconds: f64) -> PyResult<bool> {
        let span = time::span(py, "seconds", seconds)?;
        let cancelled = wait::until(py, Some(span), |slice| {
            self.token.wait((slice < Duration::MAX).then_some(slice))
        })?;
        Ok(!cancelled)
    }

    /// Calls `hook()` when the task is cancelled, passes its deadline or is abandoned while the callback runs;
    /// at once if that has happened. The hook is forgotten when the callback returns.
    fn on_cancel(&self, hook: &Bound<'_, PyAny>) -> PyResult<()> {
        if !hook.is_callable() {
            return Err(errors::type_error(&format!(
                "hook must be callable, not {}",
                errors::kind_of(hook)
            )));
        }
        let hook = Held::new(hook.clone().unbind());
        self.own(|context| {
            context
                .on_cancel(move |_| {
                    states::try_attach(|py| {
                        let hook = hook.into_inner();
                        if let Err(error) = callback::call(hook.bind(py), &PyTuple::empty(py), None) {
                            log::unraisable(py, error);
                        }
                    });
                })
                .forget();
        })
    }

    fn __repr__(&self) -> String {
        format!(
            "<duly.TaskContext {:?}{}>",
            self.label,
            if self.is_cancelled() { " cancelled" } else { "" }
        )
    }
}

impl TaskContext {
    fn own<R>(&self, ask: impl FnOnce(&Context) -> R) -> PyResult<R> {
        with_current(ask).ok_or_else(|| {
            errors::not_here(&format!(
                "task {:?}: ask this on the thread of its callback, while that runs",
                self.label
            ))
        })
    }
}
