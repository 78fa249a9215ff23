//! `duly.Task`: the handle of an accepted callback.
//!
//! Keeps true:
//! 1. Every observer sees the same answer; core's value moves once, into `answer`, and is shared from there.
//! 2. The collector of cycles knows a handle from the moment it has an answer that could be in one, and not before: it
//!    would look through every handle of a window again and again.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use duly::{Outcome, TaskError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::{PyTraverseError, PyVisit};

use crate::callback::{self, Aside, Held, Raised, Value};
use crate::{errors, later, log, time, wait};

/// An accepted callback. Dropping it cancels nothing.
#[pyclass(frozen, weakref, generic, module = "duly")]
pub(crate) struct Task {
    task: duly::Task<Value, Raised>,
    aside: Arc<Aside>,
    label: Arc<str>,
    /// Whether its callback is native: then what that kept alive is let go of by `later`.
    native: bool,
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
    pub(crate) fn new(task: duly::Task<Value, Raised>, aside: Arc<Aside>, label: Arc<str>, native: bool) -> Self {
        Task {
            task,
            aside,
            label,
            native,
            answer: OnceLock::new(),
            moving: Mutex::new(()),
        }
    }

    pub(crate) fn core(&self) -> &duly::Task<Value, Raised> {
        &self.task
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
        if limit.is_none() && wait::in_one_piece(py)? {
            // In a callback the task may be run here, or the wait refused.
            let joined = py.detach(|| self.task.join());
            return joined
                .map(|_| true)
                .map_err(|why| errors::would_deadlock(py, &why, &self.label));
        }
        wait::until(py, limit, |slice| self.task.wait_outcome(slice).is_some())
    }

    /// The handle as an object of Python.
    pub(crate) fn object(self, py: Python<'_>) -> PyResult<Py<Self>> {
        let object = Py::new(py, self)?;
        // SAFETY: attached; a new object of a type that has a traverse. Its dealloc bears one that is not tracked.
        unsafe { ffi::PyObject_GC_UnTrack(object.as_ptr().cast()) };
        Ok(object)
    }

    /// The answer of a task that has ended.
    fn answer<'a>(this: &'a Bound<'_, Self>, timeout: Option<f64>) -> PyResult<&'a Answer> {
        let (task, py) = (this.get(), this.py());
        if let Some(answer) = task.answer.get() {
            return Ok(answer);
        }
        if !task.ended(py, timeout)? {
            return Err(errors::wait_timed_out(py, &task.label));
        }
        let moving = task.moving.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = task.answer.get() {
            return Ok(answer);
        }
        let Some(taken) = task.task.wait_timeout(Duration::ZERO) else {
            return Err(errors::wait_timed_out(py, &task.label));
        };
        let answer = match taken {
            Ok(value) => Answer::Value(value.into_inner()),
            Err(TaskError::Failed(raised)) => Answer::Raised(raised),
            Err(TaskError::Panicked(panic)) => match task.aside.take() {
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
        let cyclic = answer.may_be_in_a_cycle(py);
        let answer = task.answer.get_or_init(|| answer);
        drop(moving);
        // SAFETY: attached; an object of a type that has a traverse, and it is tracked once.
        unsafe {
            if cyclic && ffi::PyObject_GC_IsTracked(this.as_ptr()) == 0 {
                ffi::PyObject_GC_Track(this.as_ptr().cast());
            }
        }
        Ok(answer)
    }
}

impl Answer {
    /// Whether it holds something that can refer to other objects.
    fn may_be_in_a_cycle(&self, py: Python<'_>) -> bool {
        match self {
            // SAFETY: attached; a type.
            Answer::Value(value) => unsafe {
                ffi::PyType_GetFlags(value.bind(py).get_type().as_type_ptr()) & ffi::Py_TPFLAGS_HAVE_GC != 0
            },
            Answer::Raised(_) => true,
            Answer::Ended { .. } => false,
        }
    }

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
    fn result(this: &Bound<'_, Self>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        let (answer, py) = (Self::answer(this, timeout)?, this.py());
        if let Answer::Value(value) = answer {
            return Ok(value.clone_ref(py));
        }
        let exception = answer.exception(py, &this.get().label)?;
        Err(exception.map_or_else(|| errors::not_here("no exception"), PyErr::from_value))
    }

    /// Waits for the task and returns what `result` would raise, or None if it has succeeded. Raises only WaitTimeout.
    #[pyo3(signature = (timeout=None))]
    fn exception<'py>(this: &Bound<'py, Self>, timeout: Option<f64>) -> PyResult<Option<Bound<'py, PyAny>>> {
        Self::answer(this, timeout)?.exception(this.py(), &this.get().label)
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
        if self.task.is_released() && (!self.native || later::is_settled()) {
            return Ok(true);
        }
        // Native ones let go of it a moment later.
        let handed = OnceLock::new();
        wait::until(py, limit, |slice| {
            self.task.released(slice) && (!self.native || later::settled(*handed.get_or_init(later::handed), slice))
        })
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
            later::attached(move |py| {
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

    /// `await task`: as result(), without holding the thread. The awaiting coroutine may be cancelled; the task goes on.
    fn __await__<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        static ENDED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let coroutine = ENDED.import(py, "duly._aio", "ended")?.call1((this,))?;
        coroutine.call_method0(intern!(py, "__await__"))
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
