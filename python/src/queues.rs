//! `duly.Queue`: one of a pool's queues.
//!
//! Keeps true: a queue belongs to the process that has its pool's threads; in a forked child it is refused.

use std::sync::Arc;

use pyo3::prelude::*;

use crate::exit::Process;
use crate::pool::{self, Shared};
use crate::{errors, report};

/// A queue of a pool, made by `Pool.queue`: a bulkhead for one kind of work, with its own capacity, overflow policy, weight
/// and limits. `pool.options(queue=...)` submits to it.
#[pyclass(frozen, module = "duly")]
pub(crate) struct Queue {
    pub(crate) queue: duly::Queue,
    process: Process,
    pool: Arc<str>,
}

/// The options of one more queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) capacity: usize,
    pub(crate) overflow: &'a str,
    pub(crate) max_blocked_producers: Option<usize>,
    pub(crate) weight: u32,
    pub(crate) limit: Option<usize>,
    pub(crate) key_limit: Option<usize>,
    pub(crate) key_capacity: Option<usize>,
}

impl Queue {
    pub(crate) fn add(py: Python<'_>, pool: &Shared, name: &str, wanted: Wanted<'_>) -> PyResult<Self> {
        let mut builder = pool.pool.queue(name);
        builder = builder.capacity(wanted.capacity).weight(wanted.weight);
        builder = builder.overflow(pool::policy(py, wanted.overflow)?);
        if let Some(most) = wanted.max_blocked_producers {
            builder = builder.max_blocked_producers(most);
        }
        if let Some(limit) = wanted.limit {
            builder = builder.limit(limit);
        }
        if let Some(limit) = wanted.key_limit {
            builder = builder.key_limit(limit);
        }
        if let Some(capacity) = wanted.key_capacity {
            builder = builder.key_capacity(capacity);
        }
        let queue = builder.add().map_err(|error| errors::build(py, &error))?;
        Ok(Self::of(queue, pool))
    }

    pub(crate) fn of(queue: duly::Queue, pool: &Shared) -> Self {
        Queue {
            queue,
            process: Process::here(),
            pool: pool.name.as_str().into(),
        }
    }

    pub(crate) fn here(&self, py: Python<'_>) -> PyResult<&duly::Queue> {
        if self.process != Process::here() {
            return Err(errors::forked(py, &self.pool));
        }
        Ok(&self.queue)
    }
}

#[pymethods]
impl Queue {
    /// The queue's name.
    #[getter]
    fn name(&self) -> &str {
        self.queue.name()
    }

    /// Its numbers now: submitted, queued, running, blocked_producers, paused.
    fn stats(&self, py: Python<'_>) -> PyResult<report::QueueStats> {
        Ok(report::QueueStats::from(&self.here(py)?.stats()))
    }

    /// How many of its tasks are started before it is the next queue's turn.
    fn set_weight(&self, py: Python<'_>, weight: u32) -> PyResult<()> {
        let set = self.here(py)?.set_weight(weight);
        set.map_err(|error| errors::build(py, &error))
    }

    /// How many of its callbacks may run at the same time; None: as many as there are workers.
    fn set_limit(&self, py: Python<'_>, limit: Option<usize>) -> PyResult<()> {
        let set = self.here(py)?.set_limit(limit);
        set.map_err(|error| errors::build(py, &error))
    }

    /// How many callbacks of tasks with the same key may run at the same time; None: no limit.
    fn set_key_limit(&self, py: Python<'_>, limit: Option<usize>) -> PyResult<()> {
        let set = self.here(py)?.set_key_limit(limit);
        set.map_err(|error| errors::build(py, &error))
    }

    /// How many tasks of the same key may be queued; None: as many as the queue holds.
    fn set_key_capacity(&self, py: Python<'_>, capacity: Option<usize>) -> PyResult<()> {
        let set = self.here(py)?.set_key_capacity(capacity);
        set.map_err(|error| errors::build(py, &error))
    }

    /// How many tasks may be queued. Those queued when it is lowered stay.
    fn set_capacity(&self, py: Python<'_>, capacity: usize) -> PyResult<()> {
        let set = self.here(py)?.set_capacity(capacity);
        set.map_err(|error| errors::build(py, &error))
    }

    /// From now on none of its tasks is started; deadlines, cancellations and the end of the pool still end them.
    fn pause(&self, py: Python<'_>) -> PyResult<()> {
        self.here(py)?.pause();
        Ok(())
    }

    /// Undoes `pause`.
    fn resume(&self, py: Python<'_>) -> PyResult<()> {
        self.here(py)?.resume();
        Ok(())
    }

    fn __repr__(&self) -> String {
        format!("<duly.Queue {:?} of pool {:?}>", self.queue.name(), self.pool)
    }
}
