//! The callback of a `concurrent.futures` future: called once, its end written into the future.
//!
//! Keeps true:
//! 1. While nobody has asked for the future's condition, its state is written here, in one go with the interpreter held;
//!    from then on only by its own methods, under that condition. (A module of the stable ABI is loaded only where there
//!    is a global interpreter lock.) Between the look and the write nothing is made that the collector watches: until 3.11
//!    that may have it run, and with it destructors, and other threads. `duly.executor` sees to the room for these names.
//! 2. What the call captured is gone before the future is done.
//! 3. A call that is dropped unrun ends its future.

use duly::Context;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PySet, PySetMethods, PyTuple};

use crate::callback::{self, Held, Raised, References, Value};
use crate::{context, log};

struct Parts {
    future: Py<PyAny>,
    function: Py<PyAny>,
    args: Py<PyTuple>,
    kwargs: Py<PyDict>,
}

impl References for Parts {
    fn give_up(self, py: Python<'_>) {
        // Dropped unrun: cancelled by its future, or by the end of the pool.
        if let Err(error) = self.future.call_method0(py, intern!(py, "_never_ran")) {
            log::unraisable(py, error);
        }
        self.future.give_up(py);
        self.function.give_up(py);
        self.args.give_up(py);
        self.kwargs.give_up(py);
    }
}

/// A call whose end goes to a future.
pub(crate) struct FutureCall(Held<Parts>);

impl FutureCall {
    pub(crate) fn new(
        future: &Bound<'_, PyAny>,
        function: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwargs: &Bound<'_, PyDict>,
    ) -> Self {
        FutureCall(Held::new(Parts {
            future: future.clone().unbind(),
            function: function.clone().unbind(),
            args: args.clone().unbind(),
            kwargs: kwargs.clone().unbind(),
        }))
    }

    /// Calls it, unless its future was cancelled. To be called by core on a worker.
    pub(crate) fn run(self, context: &Context) -> Result<Value, Raised> {
        Python::attach(|py| {
            let parts = self.0.into_inner();
            let future = parts.future.bind(py);
            let begun = begin(future);
            let ended = match begun {
                Ok(true) => {
                    let _here = context::enter(context, None);
                    let kwargs = parts.kwargs.bind(py);
                    Some(callback::call(
                        parts.function.bind(py),
                        parts.args.bind(py),
                        Some(kwargs),
                    ))
                }
                Ok(false) => None,
                Err(error) => Some(Err(error)),
            };
            parts.function.give_up(py);
            parts.args.give_up(py);
            parts.kwargs.give_up(py);
            if let Some(ended) = ended
                && let Err(error) = end(future, ended)
            {
                log::unraisable(py, error);
            }
            parts.future.give_up(py);
            Ok(Held::new(py.None()))
        })
    }
}

/// Whether nobody has asked for the future's condition.
fn untouched(future: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(!future.getattr(intern!(future.py(), "_touched"))?.is_truthy()?)
}

/// From pending to running. False: it was cancelled.
fn begin(future: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = future.py();
    // Before the look: the first use of a name lets go of the interpreter.
    let (state, running) = (intern!(py, "_state"), intern!(py, "RUNNING"));
    if untouched(future)? {
        // Nobody who could have cancelled it has.
        future.setattr(state, running)?;
        return Ok(true);
    }
    future.call_method0(intern!(py, "_begin"))?.is_truthy()
}

fn end(future: &Bound<'_, PyAny>, ended: PyResult<Bound<'_, PyAny>>) -> PyResult<()> {
    let py = future.py();
    let live = future.getattr(intern!(py, "_live"))?;
    live.cast::<PySet>()?.discard(future)?;
    let (name, method, what) = match ended {
        Ok(value) => (intern!(py, "_result"), intern!(py, "set_result"), value),
        Err(error) => {
            let traceback = error.traceback(py);
            future.setattr(intern!(py, "_traceback"), traceback)?;
            (
                intern!(py, "_exception"),
                intern!(py, "set_exception"),
                error.into_value(py).into_bound(py).into_any(),
            )
        }
    };
    // As in `begin`.
    let (state, finished) = (intern!(py, "_state"), intern!(py, "FINISHED"));
    if untouched(future)? {
        future.setattr(name, what)?;
        future.setattr(state, finished)?;
        return Ok(());
    }
    // In Python, which knows futures that have ended meanwhile.
    future.call_method1(intern!(py, "_end"), (method, what)).map(drop)
}
