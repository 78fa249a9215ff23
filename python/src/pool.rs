//! `duly.Pool`.
//!
//! Keeps true: the last reference from Python closes the pool and lets it drain in the background, as in core; what
//! exit needs to find a pool again does not keep it alive.

use std::future::Future;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use duly::Overflow;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::exit::{self, Process};
use crate::options::BoundPool;
use crate::report::{ShutdownReport, Stats, TaskRecord};
use crate::submit::{Choices, Request};
use crate::task::Task;
use crate::threads::Threads;
use crate::{errors, log, submit, time, wait};

/// More workers than this are not the default, however many processors there are.
const MOST_WORKERS: usize = 32;

/// What the handles of a pool in Python share.
pub(crate) struct Shared {
    pub(crate) pool: duly::Pool,
    pub(crate) name: String,
    pub(crate) overflow: Overflow,
    pub(crate) threads: Arc<Threads>,
    drop_drain: Duration,
    /// At exit: how long after the last task ended to give up. None: never.
    pub(crate) exit_timeout: Option<Duration>,
    /// The process that has its threads.
    pub(crate) process: Process,
}

impl Shared {
    /// Shuts down, and waits for the threads to be gone from the interpreter too.
    pub(crate) fn shutdown(&self, py: Python<'_>, drain: Duration) -> PyResult<ShutdownReport> {
        shutdown(py, &self.pool, &self.threads, drain)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if self.process != Process::here() {
            // Without its threads it cannot be drained. The handle that is left behind keeps core from trying.
            std::mem::forget(self.pool.clone());
            return;
        }
        // As core's own drop does it; but exit can find the pool for as long as it drains.
        let mut shutdown = self.pool.shutdown_async(self.drop_drain);
        let begun = Pin::new(&mut shutdown).poll(&mut Context::from_waker(Waker::noop()));
        // From a callback of this very pool it is refused, and left to core.
        if !matches!(begun, Poll::Ready(Err(_))) {
            exit::forsaken(&self.pool, &self.threads, self.exit_timeout);
        }
    }
}

/// Shuts a pool down, and waits for its threads to be gone from the interpreter too.
pub(crate) fn shutdown(
    py: Python<'_>,
    pool: &duly::Pool,
    threads: &Threads,
    drain: Duration,
) -> PyResult<ShutdownReport> {
    let mut shutdown = pool.shutdown_async(drain);
    // Its last poll joins core's threads, which may want the interpreter.
    let report = wait::poll(py, |waker| {
        py.detach(|| Pin::new(&mut shutdown).poll(&mut Context::from_waker(waker)))
    })?
    .map_err(|error| errors::shutdown(py, &error, pool.name()))?;
    threads.join(py, report.threads_left)?;
    Ok(ShutdownReport::new(&report))
}

/// N threads over a bounded queue, in which every task gets exactly one answer, in time.
///
/// The threads start at the first submit. Leaving a `with` block waits for all tasks; Ctrl-C ends that wait.
#[pyclass(frozen, weakref, module = "duly")]
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

#[pymethods]
impl Pool {
    #[new]
    #[pyo3(signature = (
        workers=None, *, capacity=1024, overflow="block", default_timeout=None, name="duly", exit_timeout=10.0,
        max_blocked_producers=None, replace_after=0.1, max_replacements=None, drop_drain=10.0
    ))]
    #[expect(clippy::too_many_arguments, reason = "the keywords of a Python constructor")]
    fn new(
        py: Python<'_>,
        workers: Option<usize>,
        capacity: usize,
        overflow: &str,
        default_timeout: Option<f64>,
        name: &str,
        exit_timeout: Option<f64>,
        max_blocked_producers: Option<usize>,
        replace_after: f64,
        max_replacements: Option<usize>,
        drop_drain: f64,
    ) -> PyResult<Self> {
        let overflow = policy(py, overflow)?;
        let default_timeout = time::limit(py, "default_timeout", default_timeout)?;
        let threads = Arc::new(Threads::default());
        let spawner = Arc::clone(&threads);
        let drop_drain = time::span(py, "drop_drain", drop_drain)?;
        let exit_timeout = time::limit(py, "exit_timeout", exit_timeout)?;
        let mut builder = duly::Pool::builder()
            .name(name)
            .workers(workers.unwrap_or_else(default_workers))
            .capacity(capacity)
            .overflow(overflow)
            .replace_after(time::span(py, "replace_after", replace_after)?)
            .drop_drain(drop_drain)
            .threads(duly::Threads::OnDemand)
            .spawner(move |worker| spawner.spawn(worker))
            .on_late(log::late)
            .on_stalled(log::stalled)
            .on_unobserved(log::unobserved);
        if let Some(most) = max_blocked_producers {
            builder = builder.max_blocked_producers(most);
        }
        if let Some(most) = max_replacements {
            builder = builder.max_replacements(most);
        }
        if let Some(timeout) = default_timeout {
            builder = builder.default_timeout(timeout);
        }
        let pool = builder.build().map_err(|error| errors::build(py, &error))?;
        let shared = Arc::new(Shared {
            pool,
            name: name.to_owned(),
            overflow,
            threads,
            drop_drain,
            exit_timeout,
            process: Process::here(),
        });
        exit::remember(&shared);
        Ok(Pool { shared })
    }

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
            &Choices::default(),
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
            &Choices::default(),
            &Request { callback, args, kwargs },
        )
    }

    /// The same verbs with options for the tasks submitted through them. Options left out keep the pool's defaults;
    /// timeout=None or deadline=None means none at all.
    #[pyo3(signature = (**options))]
    fn options(&self, py: Python<'_>, options: Option<&Bound<'_, PyDict>>) -> PyResult<BoundPool> {
        BoundPool::new(py, Arc::clone(&self.shared), Choices::default(), options)
    }

    /// Accepts no more tasks. What was accepted is still run.
    fn close(&self) {
        self.shared.pool.close();
    }

    /// Whether the pool accepts no more tasks.
    #[getter]
    fn closed(&self) -> bool {
        self.shared.pool.is_closed()
    }

    /// Closes, waits up to `drain` seconds (None: without limit) for what was accepted, abandons the rest, and reports.
    #[pyo3(signature = (drain=25.0))]
    fn shutdown(&self, py: Python<'_>, drain: Option<f64>) -> PyResult<ShutdownReport> {
        let drain = time::limit(py, "drain", drain)?;
        self.shared.shutdown(py, drain.unwrap_or(Duration::MAX))
    }

    /// What the pool has counted.
    fn stats(&self) -> Stats {
        Stats::new(&self.shared.pool.stats())
    }

    /// The callbacks that still run although their task has its outcome.
    fn leaks(&self) -> Vec<TaskRecord> {
        self.shared.pool.leaks().iter().map(TaskRecord::from).collect()
    }

    /// Every callback that runs now.
    fn running(&self) -> Vec<TaskRecord> {
        self.shared.pool.running().iter().map(TaskRecord::from).collect()
    }

    /// The pool's name; its threads are called by it.
    #[getter]
    fn name(&self) -> &str {
        &self.shared.name
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    /// On normal exit waits for all tasks; on an exception for at most 25 s.
    fn __exit__(
        &self,
        py: Python<'_>,
        kind: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let drain = if kind.is_none() {
            Duration::MAX
        } else {
            Duration::from_secs(25)
        };
        self.shared.shutdown(py, drain).map(drop)
    }

    fn __repr__(&self) -> String {
        let stats = self.shared.pool.stats();
        let closed = if self.shared.pool.is_closed() { " closed" } else { "" };
        format!(
            "<duly.Pool {:?}{closed} workers={} queued={} running={}>",
            self.shared.name, stats.workers, stats.queued, stats.running
        )
    }
}

/// The parallelism this process may use, and some more for callbacks that wait.
fn default_workers() -> usize {
    let parallelism = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    (parallelism + 4).min(MOST_WORKERS)
}

fn policy(py: Python<'_>, name: &str) -> PyResult<Overflow> {
    Ok(match name {
        "block" => Overflow::Block,
        "reject" => Overflow::Reject,
        "drop_newest" => Overflow::DropNewest,
        "drop_oldest" => Overflow::DropOldest,
        "caller_runs" => Overflow::CallerRuns,
        _ => {
            let known = "block, reject, drop_newest, drop_oldest, caller_runs";
            return Err(errors::invalid_argument(
                py,
                &format!("overflow={name:?} is none of {known}"),
            ));
        }
    })
}
