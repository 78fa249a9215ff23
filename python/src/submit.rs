//! From a Python call to a task of core: the one path of all submits.
//!
//! Keeps true:
//! 1. What is refused has been checked before anything is captured: callables only, no coroutine functions.
//! 2. A submit that waits for room keeps its place in the line of producers however often it looks for signals.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::time::{Duration, Instant};

use duly::{Overflow, SubmitError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCFunction, PyDict, PyFunction, PyTuple};

use crate::callback::{Aside, Callback, Raised, Value};
use crate::exit::Process;
use crate::pool::Shared;
use crate::task::Task;
use crate::{errors, wait};

/// The options of a submit.
#[derive(Debug, Clone, Default)]
pub(crate) struct Choices {
    pub(crate) label: Option<Arc<str>>,
    pub(crate) limit: Limit,
    pub(crate) submit_timeout: Option<Duration>,
    pub(crate) detached: bool,
}

/// Until when a task must have its outcome.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum Limit {
    /// By the pool's default_timeout.
    #[default]
    Default,
    None,
    Timeout(Duration),
    Deadline(Instant),
}

/// A callback as `submit(callback, /, *args, **kwargs)` gets it.
pub(crate) struct Request<'a, 'py> {
    pub(crate) callback: &'a Bound<'py, PyAny>,
    pub(crate) args: &'a Bound<'py, PyTuple>,
    pub(crate) kwargs: Option<&'a Bound<'py, PyDict>>,
}

/// Submits and waits for room by the pool's overflow policy.
pub(crate) fn submit(py: Python<'_>, pool: &Shared, choices: &Choices, request: &Request<'_, '_>) -> PyResult<Task> {
    go(py, pool, choices, request, true)
}

/// Submits without waiting.
pub(crate) fn try_submit(
    py: Python<'_>,
    pool: &Shared,
    choices: &Choices,
    request: &Request<'_, '_>,
) -> PyResult<Task> {
    go(py, pool, choices, request, false)
}

fn go(py: Python<'_>, pool: &Shared, choices: &Choices, request: &Request<'_, '_>, may_wait: bool) -> PyResult<Task> {
    check(request.callback)?;
    if pool.process != Process::here() {
        return Err(errors::forked(py, &pool.name));
    }
    let label = match &choices.label {
        Some(label) => Arc::clone(label),
        None => name_of(request.callback),
    };
    let aside = Arc::new(Aside::default());
    let callback = Callback::new(request.callback, request.args, request.kwargs, Arc::clone(&aside));
    let run = move |context: &duly::Context| callback.run(context);

    let mut options = pool.pool.options().label(Arc::clone(&label));
    options = match choices.limit {
        Limit::Default => options,
        Limit::None => options.no_deadline(),
        Limit::Timeout(timeout) => options.timeout(timeout),
        Limit::Deadline(deadline) => options.deadline(deadline),
    };
    if let Some(timeout) = choices.submit_timeout {
        options = options.submit_timeout(timeout);
    }
    if choices.detached {
        options = options.detached();
    }
    let accepted: Result<duly::Task<Value, Raised>, SubmitError<_>> = if !may_wait {
        options.try_submit(run)
    } else if pool.overflow == Overflow::Block {
        let mut submit = options.submit_async(run);
        wait::poll(py, |waker| Pin::new(&mut submit).poll(&mut Context::from_waker(waker)))?
    } else {
        // No other policy waits, and callers that run do so attached.
        options.submit(run)
    };
    match accepted {
        Ok(task) => Ok(Task::new(task, aside, label)),
        Err(refused) => Err(errors::refused(py, refused.kind(), &label, &pool.name)),
    }
}

fn check(callback: &Bound<'_, PyAny>) -> PyResult<()> {
    if !callback.is_callable() {
        let text = format!("callback must be callable, not {}", errors::kind_of(callback));
        return Err(errors::type_error(&text));
    }
    if is_coroutine_function(callback)? {
        let text = format!(
            "{} is a coroutine function: a worker would only make a coroutine of it and never run it. Submit a plain \
             function; one that calls asyncio.run(...) if it must be",
            name_of(callback)
        );
        return Err(errors::type_error(&text));
    }
    Ok(())
}

fn is_coroutine_function(callback: &Bound<'_, PyAny>) -> PyResult<bool> {
    // CO_COROUTINE and CO_ASYNC_GENERATOR of CPython's code objects; inspect asks the same.
    const ASYNC: u32 = 0x0080 | 0x0200;
    let py = callback.py();
    if callback.is_exact_instance_of::<PyFunction>() {
        let flags: u32 = callback
            .getattr(intern!(py, "__code__"))?
            .getattr(intern!(py, "co_flags"))?
            .extract()?;
        return Ok(flags & ASYNC != 0);
    }
    if callback.is_exact_instance_of::<PyCFunction>() {
        return Ok(false);
    }
    // Methods, partials, callable objects.
    static ASK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let ask = ASK.import(py, "inspect", "iscoroutinefunction")?;
    if ask.call1((callback,))?.is_truthy()? {
        return Ok(true);
    }
    match callback.get_type().getattr(intern!(py, "__call__")) {
        Ok(call) if call.is_exact_instance_of::<PyFunction>() => is_coroutine_function(&call),
        _ => Ok(false),
    }
}

/// What a task without a label is called: its callback's qualified name.
fn name_of(callback: &Bound<'_, PyAny>) -> Arc<str> {
    let py = callback.py();
    let named = callback
        .getattr(intern!(py, "__qualname__"))
        .ok()
        .and_then(|name| name.extract::<String>().ok());
    named.unwrap_or_else(|| errors::kind_of(callback)).into()
}
