//! The native module `duly._duly`: the pool of crate `duly` with Python's calling convention, errors and signals.
//!
//! What it keeps true:
//! 1. A worker is a `threading.Thread` that is attached to the interpreter for as long as it lives and detached only
//!    while it waits (`threads`).
//! 2. Nothing waits while attached; on the main thread every wait looks for signals at least every 50 ms (`wait`).
//! 3. What a task captured, and its value, are released by an attached thread, and none outlives its need (`callback`).
//! 4. No lock of this crate is held while Python code runs.
//! 5. Whatever goes wrong is an exception of `duly._errors` or the callback's own (`errors`).

mod callback;
mod context;
mod errors;
mod exit;
mod log;
mod options;
mod pool;
mod report;
mod submit;
mod task;
mod threads;
mod time;
mod wait;

use pyo3::prelude::*;

/// The native part of the package duly. Import duly, not this.
#[pymodule]
mod _duly {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::{
        context::{TaskContext, check_cancelled, current_task},
        exit::{_after_fork_in_child, _drain_at_exit},
        options::BoundPool,
        pool::Pool,
        report::{ShutdownReport, Stats, TaskRecord},
        task::Task,
    };

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::log::prepare(module.py())?;
        crate::threads::start_of(module.py())?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
