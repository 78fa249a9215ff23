//! `duly.Periodic`: a callback that is run again and again.
//!
//! Keeps true: each run is a task like any other, in a copy of the context variables of the call that began it all. (Runs of a
//! native pool know neither: `native`.)

use std::sync::Arc;

use duly::{Missed, PeriodicEnd};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::callback::{Aside, Callback, Extras, Held, Raised, References, Value};
use crate::{report, time, wait};

/// What each run is made of.
struct Parts {
    context: Py<PyAny>,
    args: Py<PyTuple>,
    kwargs: Option<Py<PyDict>>,
    scope: Option<Py<PyAny>>,
    interrupt: bool,
}

impl References for Parts {
    fn give_up(self, py: Python<'_>) {
        self.context.give_up(py);
        self.args.give_up(py);
        self.kwargs.give_up(py);
        self.scope.give_up(py);
    }
}

/// A callback that can be called again and again.
pub(crate) struct Repeated(Held<Parts>);

impl Repeated {
    /// `args`: the callback first.
    pub(crate) fn new(
        context: Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
        scope: Option<Py<PyAny>>,
        interrupt: bool,
    ) -> Self {
        Repeated(Held::new(Parts {
            context: context.unbind(),
            args: args.clone().unbind(),
            kwargs: kwargs.map(|kwargs| kwargs.clone().unbind()),
            scope,
            interrupt,
        }))
    }

    pub(crate) fn run(&self, context: &duly::Context) -> Result<Value, Raised> {
        let made = Python::attach(|py| {
            let parts = self.0.get();
            let copied = parts.context.bind(py).call_method0(intern!(py, "copy"))?;
            let kwargs = parts.kwargs.as_ref().map(|kwargs| kwargs.bind(py));
            let scope = parts.scope.as_ref().map(|scope| scope.clone_ref(py));
            let extras = Extras {
                interrupt: parts.interrupt,
                tells: None,
            };
            PyResult::Ok(Callback::new(
                copied,
                parts.args.bind(py),
                kwargs,
                scope,
                Arc::new(Aside::default()),
                extras,
            ))
        });
        match made {
            Ok(callback) => callback.run(context),
            Err(error) => Err(Python::attach(|py| Raised::new(py, error))),
        }
    }
}

/// What becomes of ticks at which no run could be submitted.
pub(crate) fn missed(name: &str) -> Option<Missed> {
    match name {
        "skip" => Some(Missed::Skip),
        "catch_up" => Some(Missed::CatchUp),
        _ => None,
    }
}

/// A callback that is run every period: made by `Pool.every`. Dropping it cancels nothing.
#[pyclass(frozen, weakref, module = "duly")]
pub(crate) struct Periodic {
    pub(crate) periodic: duly::Periodic,
    pub(crate) label: Arc<str>,
}

fn word(end: &PeriodicEnd) -> &'static str {
    match end {
        PeriodicEnd::Cancelled(_) => "cancelled",
        PeriodicEnd::Failed(_) => "failed",
        _ => "shut_down",
    }
}

#[pymethods]
impl Periodic {
    /// Ends it; a queued run is cancelled, and the callback of a running one is told. Whether this call did.
    #[pyo3(signature = (reason=None))]
    fn cancel(&self, reason: Option<&str>) -> bool {
        match reason {
            None => self.periodic.cancel(),
            Some(reason) => self.periodic.cancel_with(reason),
        }
    }

    /// Waits until it has ended, and returns why: "cancelled", "shut_down", or "failed", too often in a row. None: the wait
    /// timed out, and it goes on.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<&'static str>> {
        let limit = time::limit(py, "timeout", timeout)?;
        if self.periodic.end().is_none() {
            wait::until(py, limit, |slice| self.periodic.wait_timeout(slice).is_some())?;
        }
        Ok(self.end())
    }

    /// Why it runs no more; None while it goes on.
    #[getter]
    fn end(&self) -> Option<&'static str> {
        self.periodic.end().as_ref().map(word)
    }

    /// What it has done: runs, failures, missed, active.
    fn stats(&self) -> report::PeriodicStats {
        report::PeriodicStats::from(&self.periodic.stats())
    }

    /// The label of its runs.
    #[getter]
    fn label(&self) -> &str {
        &self.label
    }

    fn __repr__(&self) -> String {
        format!("<duly.Periodic {:?} {}>", self.label, self.end().unwrap_or("goes on"))
    }
}
