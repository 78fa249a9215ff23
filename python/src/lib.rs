//! The native module `duly._duly`: the pool of crate `duly` with Python's calling convention, errors and signals.
//!
//! What it keeps true:
//! 1. A worker is a `threading.Thread` that is attached to the interpreter for as long as it lives and detached only
//!    while it waits (`threads`); that of a native pool is none, and never attaches (`later`).
//! 2. Nothing waits while attached; on the main thread every wait looks for signals at least every 50 ms (`wait`).
//! 3. What a task captured, and its value, are released by an attached thread, and none outlives its need (`callback`).
//! 4. No lock of this crate is held while Python code runs.
//! 5. Whatever goes wrong is an exception of `duly._errors` or the callback's own (`errors`).

mod admission;
mod callback;
mod context;
mod copied;
mod driven;
mod errors;
mod exit;
mod flight;
mod future;
mod hooks;
mod interrupt;
mod items;
mod later;
mod log;
mod native;
mod options;
mod periodic;
mod pool;
mod queues;
mod report;
mod scope;
mod several;
mod signals;
mod states;
mod submit;
mod task;
mod threads;
mod time;
mod unwind;
mod wait;

use pyo3::prelude::*;

/// The native part of the package duly. Import duly, not this.
// Without a global interpreter lock this module is loaded too, and brings the lock back: `future` leans on it.
#[pymodule(gil_used = true)]
mod _duly {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::{
        admission::Admission,
        context::{TaskContext, check_cancelled, current_task},
        exit::{_after_fork_in_child, _before_finalizing, _drain_at_exit, _draining, _pools},
        flight::{Flight, FlightKey},
        items::_Items,
        options::BoundPool,
        periodic::Periodic,
        pool::Pool,
        queues::Queue,
        report::{Late, PeriodicStats, QueueStats, ShutdownReport, Stalled, Stats, TaskRecord, Unobserved, WorkerInfo},
        scope::{_use_scopes, CancelScope},
        several::{wait_all, wait_any},
        states::{_after_fork_in_parent, _before_fork},
        submit::_check_callback,
        task::Task,
    };

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::states::prepare(module.py());
        crate::log::prepare(module.py())?;
        crate::threads::start_of(module.py())?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
