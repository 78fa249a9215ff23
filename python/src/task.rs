//! `duly.Task`: the handle of an accepted callback.
//!
//! Keeps true: every observer sees the same answer; core's value moves once, into `answer`, and is shared from there.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use duly::{Outcome, TaskError};
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use crate::callback::{self, Aside, Held, Raised, Value};
use crate::{errors, log, time, wait};

/// An accepted callback. Dropping it cancels nothing.
#[pyclass(frozen, weakref, generic, module = "duly")]
pub(crate) struct Task {
    task: duly::Task<Value, Raised>,
    aside: Arc<Aside>,
    label: Arc<str>,
    answer: OnceLock<Answer>,
    /// Held by whoever moves core's value into `answer`. A leaf; nothing waits and no Python runs under it.
    moving: Mutex<()>,
}

enum Answer {
    Value(Py<PyAny>),
    Raised(Raised),
    Ended { outcome: Outcome, detail: String },
}

impl Task {
    pub(crate) fn new(task: duly::Task<Value, Raised>, aside: Arc<Aside>, label: Arc<str>) -> Self {
        Task {
            task,
            aside,
            label,
            answer: OnceLock::new(),
            moving: Mutex::new(()),
        }
    }

    /// Waits for the outcome. False: the wait timed out.
    fn ended(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let limit = time::limit(py, "timeout", timeout)?;
        if self.task.outcome().is_some() {
            return Ok(true);
        }
        if limit == Some(Duration::ZERO) {
            return Ok(false);
        }
        wait::until(py, limit, |slice| self.task.wait_outcome(slice).is_some())
    }

    /// The answer of a task that has ended.
    fn answer(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<&Answer> {
        if let Some(answer) = self.answer.get() {
            return Ok(answer);
        }
        if !self.ended(py, timeout)? {
            return Err(errors::wait_timed_out(py, &self.label));
        }
        let _moving = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = self.answer.get() {
            return Ok(answer);
        }
        let Some(taken) = self.task.wait_timeout(Duration::ZERO) else {
            return Err(errors::wait_timed_out(py, &self.label));
        };
        let answer = match taken {
            Ok(value) => Answer::Value(value.into_inner()),
            Err(TaskError::Failed(raised)) => Answer::Raised(raised),
            Err(TaskError::Panicked(panic)) => match self.aside.take() {
                Some(raised) => Answer::Raised(raised),
                None => Answer::Ended {
                    outcome: Outcome::Panicked,
                    detail: panic.message().to_owned(),
                },
            },
            Err(TaskError::Cancelled(cancelled)) => Answer::Ended {
                outcome: Outcome::Cancelled,
                detail: cancelled.reason().to_string(),
            },
            Err(other) => {
                let outcome = other.outcome().unwrap_or(Outcome::Abandoned);
                Answer::Ended {
                    outcome,
                    detail: String::new(),
                }
            }
        };
        Ok(self.answer.get_or_init(|| answer))
    }
}

impl Answer {
    fn exception<'py>(&self, py: Python<'py>, label: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self {
            Answer::Value(_) => Ok(None),
            Answer::Raised(raised) => raised.exception(py).map(Some),
            Answer::Ended { outcome, detail } => errors::outcome(py, *outcome, label, detail).map(Some),
        }
    }
}

#[pymethods]
impl Task {
    /// Waits for the task and returns its value, or raises: the callback's own exception, Cancelled, DeadlineExceeded,
    /// Shed or Abandoned. WaitTimeout: no outcome within `timeout` seconds; the task goes on.
    #[pyo3(signature = (timeout=None))]
    fn result(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        let answer = self.answer(py, timeout)?;
        if let Answer::Value(value) = answer {
            return Ok(value.clone_ref(py));
        }
        let exception = answer.exception(py, &self.label)?;
        Err(exception.map_or_else(|| errors::not_here("no exception"), PyErr::from_value))
    }

    /// Waits for the task and returns what `result` would raise, or None if it has succeeded. Raises only WaitTimeout.
    #[pyo3(signature = (timeout=None))]
    fn exception<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.answer(py, timeout)?.exception(py, &self.label)
    }

    /// Waits for the outcome. Returns whether there is one; False: the wait timed out and the task goes on.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        self.ended(py, timeout)
    }

    /// Whether the task has its outcome.
    fn done(&self) -> bool {
        self.task.outcome().is_some()
    }

    /// "succeeded", "failed", "panicked", "cancelled", "deadline_exceeded", "shed", "abandoned"; None: not yet.
    #[getter]
    fn outcome(&self) -> Option<&'static str> {
        self.task.outcome().map(|outcome| outcome.as_str())
    }

    /// Cancels the task, queued or running; `reason` reaches whoever asks why. A running callback is told through
    /// check_cancelled and keeps its thread until it returns. Returns whether this call decided the outcome.
    #[pyo3(signature = (reason=None))]
    fn cancel(&self, reason: Option<&str>) -> bool {
        match reason {
            None => self.task.cancel(),
            Some(reason) => self.task.cancel_with(reason),
        }
    }

    /// Waits until the callback has returned, or never will run, and what it captured is gone. False: not in time.
    #[pyo3(signature = (timeout=None))]
    fn released(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let limit = time::limit(py, "timeout", timeout)?;
        if self.task.is_released() {
            return Ok(true);
        }
        wait::until(py, limit, |slice| self.task.released(slice))
    }

    /// Calls `callback(task)` when the task has its outcome; at once if it has. What it raises goes to
    /// sys.unraisablehook.
    #[pyo3(signature = (callback, /))]
    fn add_done_callback(this: &Bound<'_, Self>, callback: &Bound<'_, PyAny>) -> PyResult<()> {
        if !callback.is_callable() {
            return Err(errors::type_error(&format!(
                "callback must be callable, not {}",
                errors::kind_of(callback)
            )));
        }
        let call = Held::new((callback.clone().unbind(), this.clone().unbind()));
        this.get().task.on_complete(move |_| {
            Python::try_attach(|py| {
                let (callback, task) = call.into_inner();
                let called = (task,)
                    .into_pyobject(py)
                    .and_then(|args| callback::call(callback.bind(py), &args, None));
                if let Err(error) = called {
                    log::unraisable(py, error);
                }
            });
        });
        Ok(())
    }

    /// The task's label; that of a task without one is its callback's qualified name.
    #[getter]
    fn label(&self) -> &str {
        &self.label
    }

    fn __repr__(&self) -> String {
        let state = self.outcome().unwrap_or("pending");
        format!("<duly.Task {:?} {state}>", self.label)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Without __clear__: a cycle through an answer also goes through a frame, a dict or a list, which have one.
        match self.answer.get() {
            Some(Answer::Value(value)) => visit.call(value),
            Some(Answer::Raised(raised)) => raised.visit(&visit),
            _ => Ok(()),
        }
    }
}
