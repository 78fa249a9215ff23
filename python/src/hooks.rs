//! The hooks of a pool: callables that are told beside the logger `duly`.
//!
//! Keeps true:
//! 1. A hook that raises harms nobody: what it raises goes to `sys.unraisablehook`.
//! 2. A hook may be called where an exception is on its way already (a handle is dropped while a frame is left): that
//!    exception is put aside and comes back.

use std::sync::Arc;

use duly::PoolBuilder;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pyo3::{PyClass, PyClassInitializer};

use crate::callback::{self, Held};
use crate::report::{Late, Stalled, Unobserved, WorkerInfo};
use crate::{errors, later, log};

const NAMES: [&str; 5] = [
    "on_late",
    "on_stalled",
    "on_unobserved",
    "on_worker_start",
    "on_worker_stop",
];

/// In the order of `NAMES`.
pub(crate) struct Hooks([Option<Arc<Held<Py<PyAny>>>>; 5]);

impl Hooks {
    pub(crate) fn new(given: [Option<Bound<'_, PyAny>>; 5]) -> PyResult<Self> {
        for (hook, name) in given.iter().zip(NAMES) {
            if let Some(hook) = hook
                && !hook.is_callable()
            {
                let kind = errors::kind_of(hook);
                return Err(errors::type_error(&format!("{name} must be callable, not {kind}")));
            }
        }
        Ok(Hooks(
            given.map(|hook| hook.map(|hook| Arc::new(Held::new(hook.unbind())))),
        ))
    }

    pub(crate) fn again(&self) -> Self {
        Hooks(self.0.clone())
    }

    /// Has a pool that is being built call them.
    pub(crate) fn install(self, builder: PoolBuilder) -> PoolBuilder {
        let [on_late, on_stalled, on_unobserved, on_start, on_stop] = self.0;
        let mut builder = builder
            .on_late(move |late| {
                log::late(late);
                tell(on_late.as_ref(), Late::from(late));
            })
            .on_stalled(move |stalled| {
                log::stalled(stalled);
                tell(on_stalled.as_ref(), Stalled::from(stalled));
            })
            .on_unobserved(move |unobserved| {
                tell(on_unobserved.as_ref(), Unobserved::from(unobserved));
                // Last: what is dropped next on this thread is what was raised.
                log::unobserved(unobserved);
            });
        if let Some(hook) = on_start {
            builder = builder.on_worker_start(move |worker| tell(Some(&hook), WorkerInfo::from(worker)));
        }
        if let Some(hook) = on_stop {
            builder = builder.on_worker_stop(move |worker| tell(Some(&hook), WorkerInfo::from(worker)));
        }
        builder
    }
}

fn object<T: PyClass + Into<PyClassInitializer<T>>>(py: Python<'_>, about: T) -> PyResult<Py<PyAny>> {
    Ok(Py::new(py, about)?.into_any())
}

/// Calls a hook.
fn tell<T>(hook: Option<&Arc<Held<Py<PyAny>>>>, about: T)
where
    T: PyClass + Into<PyClassInitializer<T>> + Send + 'static,
{
    let Some(hook) = hook.cloned() else { return };
    later::attached(move |py| {
        log::aside(py, || {
            let told = object(py, about)
                .and_then(|about| PyTuple::new(py, [about]))
                .and_then(|args| callback::call(hook.get().bind(py), &args, None));
            if let Err(error) = told {
                log::unraisable(py, error);
            }
        });
    });
}
