//! `duly.CancelScope`: a cancellation token of core that is ambient while a `with` block runs.
//!
//! Keeps true:
//! 1. Which scope is ambient is a context variable's to say: tasks of asyncio and callbacks of duly inherit it.
//! 2. A task stands under the ambient scope, unless its submitter's task does already: then it stands under that task,
//!    and so under the scope.
//! 3. Programs without scopes pay nothing: the variable is asked from the first `with` on.

use std::sync::atomic::{AtomicBool, Ordering};

use duly::CancellationToken;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::{context, errors, signals, time};

/// A scope that cancels what was submitted under it: by `cancel()`, or when its time has passed.
#[pyclass(frozen, weakref, subclass, module = "duly")]
#[derive(Debug)]
pub(crate) struct CancelScope {
    pub(crate) token: CancellationToken,
}

/// The context variable, from when a scope was entered for the first time.
static AMBIENT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static USED: AtomicBool = AtomicBool::new(false);

/// Tells that from now on a scope may be ambient.
#[pyfunction]
pub(crate) fn _use_scopes() {
    USED.store(true, Ordering::Relaxed);
}

/// The scope that is ambient here.
pub(crate) fn ambient(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    if !USED.load(Ordering::Relaxed) {
        return Ok(None);
    }
    let variable = AMBIENT.import(py, "duly._scope", "ambient")?;
    let scope = variable.call_method0(intern!(py, "get"))?;
    Ok((!scope.is_none()).then_some(scope))
}

#[pymethods]
impl CancelScope {
    #[new]
    #[pyo3(signature = (timeout=None, *, deadline=None, detached=false))]
    fn new(py: Python<'_>, timeout: Option<f64>, deadline: Option<f64>, detached: bool) -> PyResult<Self> {
        if timeout.is_some() && deadline.is_some() {
            return Err(errors::invalid_argument(py, "give a timeout or a deadline, not both"));
        }
        let timeout = time::limit(py, "timeout", timeout)?;
        let deadline = deadline.map(|at| time::point(py, "deadline", at)).transpose()?;
        let parent = if detached { None } else { parent(py)? };
        let parent = parent.unwrap_or_default();
        let token = match (timeout, deadline) {
            (Some(timeout), _) => parent.child_with_timeout(timeout),
            (_, Some(deadline)) => parent.child_with_deadline(deadline),
            _ => parent.child(),
        };
        Ok(CancelScope { token })
    }

    /// Cancels every task under this scope, queued or running, and whatever will be submitted under it. `reason` reaches
    /// whoever asks why; only the first one is kept.
    #[pyo3(signature = (reason=None))]
    fn cancel(&self, py: Python<'_>, reason: Option<String>) {
        // Whoever is told of its tasks may want the interpreter.
        py.detach(|| match reason {
            None => self.token.cancel(),
            Some(reason) => self.token.cancel_with(reason),
        });
    }

    /// From now on one of these signals cancels the scope, with the reason "signal N", as long as it or a task under it lives.
    /// What is said of signals and handlers at `Pool.shutdown_on` holds here. May be called several times.
    fn cancel_on(&self, py: Python<'_>, signals: &Bound<'_, PyAny>) -> PyResult<()> {
        signals::cancel_on(py, &self.token, &signals::read(signals)?)
    }

    /// Whether the scope was cancelled, or its time has passed.
    #[getter]
    fn cancelled(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Why the scope was cancelled: "requested", "deadline_exceeded", "signal N", or the caller's own words; None: it was not.
    #[getter]
    fn reason(&self) -> Option<String> {
        self.token.reason().map(|reason| reason.to_string())
    }

    /// Seconds until the scope's deadline, never negative; None without one.
    fn time_left(&self) -> Option<f64> {
        self.token.time_left().map(|left| left.as_secs_f64())
    }

    fn __repr__(&self) -> String {
        let state = if self.token.is_cancelled() { " cancelled" } else { "" };
        format!("<duly.CancelScope{state}>")
    }
}

/// What a new scope stands under: the ambient one, or the task whose callback runs here, whichever is the inner one.
fn parent(py: Python<'_>) -> PyResult<Option<CancellationToken>> {
    match ambient(py)? {
        Some(scope) if !context::brought(&scope) => token_of(&scope).map(Some),
        _ => Ok(context::token()),
    }
}

/// The token of a scope.
pub(crate) fn token_of(scope: &Bound<'_, PyAny>) -> PyResult<CancellationToken> {
    match scope.cast::<CancelScope>() {
        Ok(scope) => Ok(scope.get().token.clone()),
        Err(_) => Err(errors::type_error(&format!(
            "scope must be a duly.CancelScope, not {}",
            errors::kind_of(scope)
        ))),
    }
}
