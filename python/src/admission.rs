//! Who waits without holding a thread: for room in a queue, or for the answer of a single flight.
//!
//! Keeps true:
//! 1. `told` is called at most once, attached, and never after `cancel` said that it left.
//! 2. It is never called on a thread that Python does not know: the timer thread must not wait for the interpreter.
//! 3. What was given and reaches nobody is told so.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use duly::{SubmitError, SubmitErrorKind};
use pyo3::prelude::*;

use crate::callback::{self, Held, Raised, Value};
use crate::driven::{Driven, Then};
use crate::task::Task;
use crate::{errors, later, log};

/// What core answers in the end.
pub(crate) type Answer = Result<duly::Task<Value, Raised>, Refused>;

/// Why a submit was refused, with the callback that came back: dropped unrun, it may have something to tell.
pub(crate) struct Refused {
    pub(crate) kind: SubmitErrorKind,
    _callback: Box<dyn Send>,
}

impl<F: Send + 'static> From<SubmitError<F>> for Refused {
    fn from(error: SubmitError<F>) -> Self {
        Refused {
            kind: error.kind(),
            _callback: Box::new(error),
        }
    }
}

/// Makes the handle of an accepted task.
pub(crate) type Handle = Box<dyn FnOnce(duly::Task<Value, Raised>) -> Task + Send>;

/// What comes in the end, for Python.
pub(crate) trait Given: Send + 'static {
    /// What `told` is called with. What is left of this is dropped after that call.
    fn object<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>>;
    /// Nobody waits for it any more.
    fn unwanted(self);
}

/// The end of a submit: a Task, or an exception.
pub(crate) struct Submitted {
    answer: Result<Option<(duly::Task<Value, Raised>, Handle)>, Refused>,
    label: Arc<str>,
    pool: String,
}

impl Submitted {
    pub(crate) fn new(answer: Answer, handle: Handle, label: Arc<str>, pool: String) -> Self {
        let answer = answer.map(|task| Some((task, handle)));
        Submitted { answer, label, pool }
    }
}

impl Given for Submitted {
    fn object<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let kind = match &mut self.answer {
            Ok(accepted) => match accepted.take() {
                Some((task, handle)) => return Ok(handle(task).object(py)?.into_bound(py).into_any()),
                None => SubmitErrorKind::ShutDown,
            },
            Err(refused) => refused.kind,
        };
        let error = errors::refused(py, kind, &self.label, &self.pool);
        Ok(error.into_value(py).into_bound(py).into_any())
    }

    fn unwanted(self) {
        if let Ok(Some((task, _))) = self.answer {
            task.cancel_with(duly::CancelReason::CallerLeft);
        }
    }
}

/// Who is told; None: it was, or has left.
type Told = Arc<Mutex<Option<Held<Py<PyAny>>>>>;

fn take(told: &Told) -> Option<Held<Py<PyAny>>> {
    told.lock().unwrap_or_else(PoisonError::into_inner).take()
}

fn tell(told: &Told, mut given: impl Given) {
    let Some(told) = take(told) else {
        given.unwanted();
        return;
    };
    later::attached_unless_alien(move |py| {
        let called = given
            .object(py)
            .and_then(|answer| (answer,).into_pyobject(py))
            .and_then(|args| callback::call(told.into_inner().bind(py), &args, None));
        if let Err(error) = called {
            log::unraisable(py, error);
        }
    });
}

/// Somebody who waits without holding a thread.
#[pyclass(frozen, module = "duly._duly")]
pub(crate) struct Admission {
    driven: Arc<Driven>,
    waits: Told,
    told: Py<PyAny>,
}

impl Admission {
    /// Puts a wait into the hands of whoever makes it go on. `told(answer)` is called on any thread that Python knows, maybe
    /// before this returns.
    pub(crate) fn new<G: Given>(wait: impl Future<Output = G> + Send + 'static, told: &Bound<'_, PyAny>) -> Self {
        let waits: Told = Arc::new(Mutex::new(Some(Held::new(told.clone().unbind()))));
        let tells = Arc::clone(&waits);
        let driven = Driven::start(async move {
            let given = wait.await;
            let then: Then = Box::new(move || tell(&tells, given));
            then
        });
        Admission {
            driven,
            waits,
            told: told.clone().unbind(),
        }
    }
}

#[pymethods]
impl Admission {
    /// Who is told.
    #[getter]
    fn told(&self, py: Python<'_>) -> Py<PyAny> {
        self.told.clone_ref(py)
    }

    /// Leaves the line; a task that was accepted meanwhile, and not yet told, is cancelled. Whether it left.
    #[pyo3(signature = (_reason=None))]
    fn cancel(&self, _reason: Option<&str>) -> bool {
        let told = take(&self.waits);
        self.driven.leave();
        told.is_some()
    }
}
