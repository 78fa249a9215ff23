//! `pool.options(…)`: a pool with options bound to it, so that no option ever takes a keyword of the callback's.
//!
//! Keeps true: an option that is not known is an error; one that is left out is not the same as one that is None.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::pool::Shared;
use crate::submit::{Choices, Limit, Request};
use crate::task::Task;
use crate::{errors, submit, time};

/// A pool with options bound to it: the same verbs, made by `Pool.options`.
#[pyclass(frozen, module = "duly")]
pub(crate) struct BoundPool {
    shared: Arc<Shared>,
    choices: Choices,
}

impl BoundPool {
    pub(crate) fn new(
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
                "submit_timeout" => bound.choices.submit_timeout = time::limit(py, "submit_timeout", seconds(given)?)?,
                "detached" => bound.choices.detached = value.is_truthy()?,
                other => {
                    let known = "timeout, deadline, label, submit_timeout, detached";
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

#[pymethods]
impl BoundPool {
    /// Submits `callback(*args, **kwargs)` and returns its Task. Waits for room in the queue by the overflow policy.
    #[pyo3(signature = (callback, /, *args, **kwargs))]
    fn submit<'py>(
        &self,
        callback: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Task> {
        submit::submit(
            callback.py(),
            &self.shared,
            &self.choices,
            &Request { callback, args, kwargs },
        )
    }

    /// As submit, but never waits: without room it raises QueueFull, or does what the overflow policy says.
    #[pyo3(signature = (callback, /, *args, **kwargs))]
    fn try_submit<'py>(
        &self,
        callback: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Task> {
        submit::try_submit(
            callback.py(),
            &self.shared,
            &self.choices,
            &Request { callback, args, kwargs },
        )
    }

    /// More options on top of these.
    #[pyo3(signature = (**options))]
    fn options(&self, py: Python<'_>, options: Option<&Bound<'_, PyDict>>) -> PyResult<BoundPool> {
        BoundPool::new(py, Arc::clone(&self.shared), self.choices.clone(), options)
    }
}
