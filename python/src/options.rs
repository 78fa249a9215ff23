//! `pool.options(…)`: a pool with options bound to it, so that no option ever takes a keyword of the callback's.
//!
//! Keeps true: an option that is not known is an error; one that is left out is not the same as one that is None.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::periodic::{self, Periodic};
use crate::pool::{self, Pool, Shared};
use crate::queues::Queue;
use crate::submit::{Choices, Limit, Request, Rhythm};
use crate::task::Task;
use crate::{errors, interrupt, scope, submit, time};

/// A pool with options bound to it: the native half of `duly.BoundPool`.
#[pyclass(frozen, subclass, module = "duly._duly")]
pub(crate) struct BoundPool {
    shared: Arc<Shared>,
    choices: Choices,
}

impl BoundPool {
    fn bind(
        py: Python<'_>,
        shared: Arc<Shared>,
        choices: Choices,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let mut bound = BoundPool { shared, choices };
        let mut limits = 0;
        let seconds = |given: Option<&Bound<'_, PyAny>>| given.map(|value| value.extract::<f64>()).transpose();
        for (key, value) in options.into_iter().flatten() {
            let given = (!value.is_none()).then_some(&value);
            match key.extract::<String>()?.as_str() {
                "timeout" => {
                    limits += 1;
                    bound.choices.limit =
                        time::limit(py, "timeout", seconds(given)?)?.map_or(Limit::None, Limit::Timeout);
                }
                "deadline" => {
                    limits += 1;
                    let deadline = seconds(given)?.map(|at| time::point(py, "deadline", at)).transpose()?;
                    bound.choices.limit = deadline.map_or(Limit::None, Limit::Deadline);
                }
                "label" => {
                    bound.choices.label = given.map(|label| label.extract::<String>()).transpose()?.map(Arc::from)
                }
                "scope" => bound.choices.token = given.map(scope::token_of).transpose()?,
                "queue" => bound.choices.queue = given.map(|queue| queue_of(py, queue)).transpose()?,
                "key" => bound.choices.key = given.map(|key| key.hash()).transpose()?,
                "submit_timeout" => bound.choices.submit_timeout = time::limit(py, "submit_timeout", seconds(given)?)?,
                "delay" => bound.choices.delay = time::limit(py, "delay", seconds(given)?)?,
                "interrupt" => {
                    bound.choices.interrupt = value.is_truthy()?;
                    interrupt::prepare(py)?;
                }
                "overflow" => {
                    let named = given.map(|overflow| overflow.extract::<String>()).transpose()?;
                    bound.choices.overflow = named.map(|name| pool::policy(py, &name)).transpose()?;
                }
                "detached" => bound.choices.detached = value.is_truthy()?,
                other => {
                    let known = "timeout, deadline, scope, label, queue, key, overflow, submit_timeout, delay, \
                                 detached, interrupt";
                    return Err(errors::type_error(&format!(
                        "options() knows no option {other:?}, only {known}"
                    )));
                }
            }
        }
        if limits > 1 {
            return Err(errors::invalid_argument(py, "give a timeout or a deadline, not both"));
        }
        Ok(bound)
    }
}

/// The pool, and the options, of a pool or what was bound to one.
pub(crate) fn of(verbs: &Bound<'_, PyAny>) -> PyResult<(Arc<Shared>, Choices)> {
    if let Ok(pool) = verbs.cast::<Pool>() {
        return Ok((Arc::clone(pool.get().shared(verbs.py())?), Choices::default()));
    }
    let bound = verbs.cast::<BoundPool>()?.get();
    Ok((Arc::clone(&bound.shared), bound.choices.clone()))
}

fn queue_of(py: Python<'_>, queue: &Bound<'_, PyAny>) -> PyResult<duly::Queue> {
    match queue.cast::<Queue>() {
        Ok(queue) => queue.get().here(py).cloned(),
        Err(_) => Err(errors::type_error(&format!(
            "queue must be a duly.Queue, not {}",
            errors::kind_of(queue)
        ))),
    }
}

/// What `every` was asked for.
pub(crate) fn rhythm(
    py: Python<'_>,
    period: f64,
    missed: &str,
    overlap: bool,
    max_failures: Option<u64>,
    jitter: f64,
) -> PyResult<Rhythm> {
    let Some(missed) = periodic::missed(missed) else {
        let message = format!("missed={missed:?} is none of skip, catch_up");
        return Err(errors::invalid_argument(py, &message));
    };
    Ok(Rhythm {
        period: time::span(py, "period", period)?,
        missed,
        overlap,
        max_failures,
        jitter: time::span(py, "jitter", jitter)?,
    })
}

#[pymethods]
impl BoundPool {
    #[new]
    #[pyo3(signature = (of, /, **options))]
    fn new(of: &Bound<'_, PyAny>, options: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let (shared, choices) = self::of(of)?;
        Self::bind(of.py(), shared, choices, options)
    }

    /// Submits `callback(*args, **kwargs)` and returns its Task. Waits for room in the queue by the overflow policy.
    #[pyo3(signature = (*args, **kwargs), text_signature = "($self, callback, /, *args, **kwargs)")]
    fn submit<'py>(
        &self,
        py: Python<'py>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Py<Task>> {
        submit::submit(
            py,
            self.shared.here(py)?,
            &self.choices,
            &Request::new(self.shared.native(), args, kwargs)?,
        )
    }

    /// As submit, but never waits: without room it raises QueueFull, or sheds where the overflow policy says so.
    #[pyo3(signature = (*args, **kwargs), text_signature = "($self, callback, /, *args, **kwargs)")]
    fn try_submit<'py>(
        &self,
        py: Python<'py>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Py<Task>> {
        submit::try_submit(
            py,
            self.shared.here(py)?,
            &self.choices,
            &Request::new(self.shared.native(), args, kwargs)?,
        )
    }

    /// Submits without waiting on this thread: a Task; or an Admission, of whose end waiting() is told: waiting()(answer).
    #[pyo3(signature = (waiting, /, *args, **kwargs), text_signature = "($self, waiting, callback, /, *args, **kwargs)")]
    fn _admit<'py>(
        &self,
        waiting: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        let py = waiting.py();
        submit::admit(
            py,
            self.shared.here(py)?,
            &self.choices,
            &Request::new(self.shared.native(), args, kwargs)?,
            waiting,
        )
    }

    /// Calls `callback(*args, **kwargs)` every `period` seconds, each run a task.
    #[pyo3(
        signature = (period, missed, overlap, max_failures, jitter, /, *args, **kwargs),
        text_signature = "($self, period, missed, overlap, max_failures, jitter, callback, /, *args, **kwargs)"
    )]
    #[expect(clippy::too_many_arguments, reason = "the keywords of a Python method")]
    fn _every<'py>(
        &self,
        py: Python<'py>,
        period: f64,
        missed: &str,
        overlap: bool,
        max_failures: Option<u64>,
        jitter: f64,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Periodic> {
        let rhythm = rhythm(py, period, missed, overlap, max_failures, jitter)?;
        let request = Request::new(self.shared.native(), args, kwargs)?;
        submit::every(py, self.shared.here(py)?, &self.choices, &request, rhythm)
    }

    /// How many workers the pool was made for.
    #[getter]
    fn _workers(&self) -> usize {
        self.shared.workers()
    }
}
