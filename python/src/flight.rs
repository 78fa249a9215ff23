//! The native half of `duly.SingleFlight`: callers that want the same key at the same time share one run.
//!
//! Keeps true:
//! 1. Core knows keys as numbers, so that nothing of Python runs under its locks. Who has which number is Python's to say.
//! 2. A run stands under no scope, and what it submits stands under it: it is that of all its callers.
//! 3. Every caller is told the same object, or the same exception.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Context;
use std::time::Duration;

use duly::{FlightError, Outcome, SingleFlight, TaskError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::admission::{Admission, Given};
use crate::callback::{Aside, Captured, Raised, Value};
use crate::pool::Shared;
use crate::submit::{Choices, Request};
use crate::{context, errors, options, submit, time, wait};

type Shares = Result<Arc<Value>, FlightError<Arc<Raised>>>;
type Core = SingleFlight<u64, Arc<Value>, Arc<Raised>>;
type Call<'f> = duly::Call<'f, u64, Arc<Value>, Arc<Raised>>;

fn run(captured: Captured, context: &duly::Context) -> Result<Arc<Value>, Arc<Raised>> {
    captured.run(context).map(Arc::new).map_err(Arc::new)
}

/// A key that somebody waits for.
#[pyclass(frozen, module = "duly._duly")]
pub(crate) struct FlightKey {
    number: u64,
    /// What the last of its runs raised, if that was no Exception.
    aside: Arc<Aside>,
}

#[pymethods]
impl FlightKey {
    #[new]
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        FlightKey {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            aside: Arc::default(),
        }
    }
}

/// One run a key, of the tasks of a pool.
#[pyclass(frozen, module = "duly._duly")]
pub(crate) struct Flight {
    shared: Arc<Shared>,
    choices: Choices,
    handovers: usize,
    retry_failed: bool,
    core: OnceLock<Core>,
}

/// One caller.
struct Caller<'a, 'py> {
    key: &'a FlightKey,
    timeout: Option<Duration>,
    request: Request<'a, 'py>,
}

impl Flight {
    /// That of this process: a forked child that goes on with the pool makes another flight.
    fn core(&self, py: Python<'_>) -> PyResult<&Core> {
        if self.shared.is_inherited() {
            return Err(errors::forked(py, &self.shared.name));
        }
        Ok(self.core.get_or_init(|| {
            let label = self.label();
            let options = submit::options(&self.shared, &self.choices, &label, self.choices.token.as_ref());
            Core::with(&options)
                .handovers(self.handovers)
                .retry_failed(self.retry_failed)
        }))
    }

    fn label(&self) -> Arc<str> {
        self.choices.label.clone().unwrap_or_else(|| "single flight".into())
    }

    fn caller<'a, 'py>(
        &self,
        py: Python<'py>,
        key: &'a FlightKey,
        timeout: Option<f64>,
        args: &'a Bound<'py, PyTuple>,
        kwargs: Option<&'a Bound<'py, PyDict>>,
    ) -> PyResult<Caller<'a, 'py>> {
        Ok(Caller {
            key,
            timeout: time::limit(py, "timeout", timeout)?,
            request: Request::new(self.shared.native(), args, kwargs)?,
        })
    }

    /// What this caller asks core for.
    fn call<'f>(&'f self, py: Python<'_>, caller: &Caller<'_, '_>) -> PyResult<(Call<'f>, Captured)> {
        let (captured, token) = submit::captured(
            py,
            &self.shared,
            &self.choices,
            &caller.request,
            Arc::default(),
            Some(Arc::clone(&caller.key.aside)),
        )?;
        let mut call = self.core(py)?.call(caller.key.number);
        if let Some(timeout) = caller.timeout {
            call = call.timeout(timeout);
        }
        if let Some(token) = token {
            call = call.token(&token);
        }
        Ok((call, captured))
    }
}

#[pymethods]
impl Flight {
    #[new]
    fn new(of: &Bound<'_, PyAny>, handovers: usize, retry_failed: bool) -> PyResult<Self> {
        let (shared, choices) = options::of(of)?;
        Ok(Flight {
            shared,
            choices,
            handovers,
            retry_failed,
            core: OnceLock::new(),
        })
    }

    /// Waits for the key's answer; starts a run if there is none.
    #[pyo3(signature = (key, timeout, /, *args, **kwargs))]
    fn call_and_wait<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, FlightKey>,
        timeout: Option<f64>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        if submit::on_loop(py)? {
            return Err(errors::not_here(
                "this call may wait, and an event loop runs on this thread: use `await flight.run(...)`",
            ));
        }
        let key = key.get();
        let caller = self.caller(py, key, timeout, args, kwargs)?;
        let (call, captured) = self.call(py, &caller)?;
        let run = move |context: &duly::Context| run(captured, context);
        let answer = if context::inside() && wait::in_one_piece(py)? {
            // In a callback core may have to lend this worker's place to another, or to refuse the wait.
            py.detach(|| call.run(run))
        } else {
            let mut flying = call.run_async(run);
            wait::poll(py, |waker| Pin::new(&mut flying).poll(&mut Context::from_waker(waker)))?
        };
        shared(py, answer, &self.label(), &self.shared.name, &key.aside)
    }

    /// The same without holding the thread: what `waiting()` gives is told (whether there is a value, that or an exception).
    #[pyo3(signature = (waiting, key, timeout, /, *args, **kwargs))]
    fn call_and_leave<'py>(
        &self,
        py: Python<'py>,
        waiting: &Bound<'py, PyAny>,
        key: &Bound<'py, FlightKey>,
        timeout: Option<f64>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Admission> {
        let key = key.get();
        let caller = self.caller(py, key, timeout, args, kwargs)?;
        let (call, captured) = self.call(py, &caller)?;
        let flying = call.run_async(move |context: &duly::Context| run(captured, context));
        let told = waiting.call0()?;
        let (label, pool, aside) = (self.label(), self.shared.name.clone(), Arc::clone(&key.aside));
        let wait = async move {
            Landed {
                answer: Some(flying.await),
                label,
                pool,
                aside,
            }
        };
        Ok(Admission::new(wait, &told))
    }

    /// How many keys are in flight.
    fn __len__(&self) -> usize {
        self.core.get().map_or(0, SingleFlight::len)
    }
}

/// What a caller is told.
struct Landed {
    /// None: it was told.
    answer: Option<Shares>,
    label: Arc<str>,
    pool: String,
    aside: Arc<Aside>,
}

impl Given for Landed {
    fn object<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let answer = self.answer.take().unwrap_or(Err(FlightError::DeadlineExceeded));
        let told = shared(py, answer, &self.label, &self.pool, &self.aside);
        let (fine, what) = match told {
            Ok(value) => (true, value),
            Err(error) => (false, error.into_value(py).into_any()),
        };
        Ok((fine, what).into_pyobject(py)?.into_any())
    }

    fn unwanted(self) {}
}

/// The value, or what is to be raised.
fn shared(py: Python<'_>, answer: Shares, label: &str, pool: &str, aside: &Aside) -> PyResult<Py<PyAny>> {
    let error = match answer {
        Ok(value) => return Ok(value.get().clone_ref(py)),
        Err(error) => error,
    };
    let exception = match error {
        FlightError::Task(TaskError::Failed(raised)) => raised.exception(py),
        FlightError::Task(TaskError::Panicked(panic)) => match aside.shown(py) {
            Some(exception) => exception,
            None => errors::outcome(py, Outcome::Panicked, label, panic.message()),
        },
        FlightError::Task(TaskError::Cancelled(cancelled)) => {
            errors::outcome(py, Outcome::Cancelled, label, &cancelled.reason().to_string())
        }
        FlightError::Task(other) => errors::outcome(py, other.outcome().unwrap_or(Outcome::Abandoned), label, ""),
        FlightError::Refused(refused) => return Err(errors::refused(py, refused.kind(), label, pool)),
        FlightError::Cancelled(reason) => errors::outcome(
            py,
            Outcome::Cancelled,
            label,
            &format!("{reason} (this caller, not the run)"),
        )
        .and_then(|exception| {
            exception.setattr("reason", reason.to_string())?;
            Ok(exception)
        }),
        FlightError::WouldDeadlock(deadlock) => return Err(errors::would_deadlock(py, &deadlock, label)),
        // This caller's own deadline; the run goes on if there are others.
        _ => errors::outcome(
            py,
            Outcome::DeadlineExceeded,
            label,
            "this caller's, not that of the run",
        ),
    };
    Err(PyErr::from_value(exception?))
}
