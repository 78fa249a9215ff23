//! What Python reads about a pool: plain values, taken once.

use std::fmt::{self, Write};

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Defines `Stats`, its fields and what lists them, from one list.
macro_rules! stats {
    ($($field:ident)*) => {
        /// What a pool has counted. The books: submitted is the sum of the seven outcomes, queued and running.
        #[pyclass(frozen, module = "duly")]
        #[derive(Debug, Clone)]
        pub(crate) struct Stats {
            $(#[pyo3(get)] $field: u64,)*
            core: duly::Stats,
        }

        impl Stats {
            pub(crate) fn new(stats: &duly::Stats) -> Self {
                Stats { $($field: stats.$field,)* core: *stats }
            }

            fn fields(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($field), self.$field)),*].into_iter()
            }
        }
    };
}

stats! {
    submitted succeeded failed panicked cancelled deadline_exceeded shed abandoned queued running
    refused late overdue replaced stalled unobserved blocked_producers workers
}

#[pymethods]
impl Stats {
    /// Whether the books balance.
    fn books_balance(&self) -> bool {
        self.core.books_balance()
    }

    /// The counters by name.
    fn as_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        self.fields().try_for_each(|(name, count)| dict.set_item(name, count))?;
        Ok(dict)
    }

    fn __repr__(&self) -> String {
        let fields: Vec<_> = self.fields().map(|(name, count)| format!("{name}={count}")).collect();
        format!("duly.Stats({})", fields.join(", "))
    }

    fn __str__(&self) -> String {
        self.core.to_string()
    }
}

/// One task that a pool reports: running, or abandoned at shutdown.
#[pyclass(frozen, get_all, module = "duly")]
#[derive(Debug, Clone)]
pub(crate) struct TaskRecord {
    label: String,
    state: &'static str,
    outcome: Option<&'static str>,
    age: f64,
    thread: Option<String>,
}

impl From<&duly::TaskRecord> for TaskRecord {
    fn from(task: &duly::TaskRecord) -> Self {
        TaskRecord {
            label: task.name.label().unwrap_or_default().to_owned(),
            state: match task.state {
                duly::TaskState::Queued => "queued",
                _ => "running",
            },
            outcome: task.outcome.map(|outcome| outcome.as_str()),
            age: task.age.as_secs_f64(),
            thread: task.thread.clone(),
        }
    }
}

#[pymethods]
impl TaskRecord {
    fn __repr__(&self) -> String {
        format!(
            "<duly.TaskRecord {:?} {} for {:.3} s>",
            self.label, self.state, self.age
        )
    }

    fn __str__(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for TaskRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.thread {
            Some(thread) => write!(f, "{} ({} for {:.1} s in {thread})", self.label, self.state, self.age),
            None => write!(f, "{} ({})", self.label, self.state),
        }
    }
}

/// What a shutdown did.
#[pyclass(frozen, module = "duly")]
#[derive(Debug)]
pub(crate) struct ShutdownReport {
    /// Whether everything that was accepted ended by itself.
    #[pyo3(get)]
    drained: bool,
    /// What the pool has counted.
    #[pyo3(get)]
    stats: Stats,
    abandoned: Vec<TaskRecord>,
    stuck: Vec<TaskRecord>,
    /// Threads that stay behind, inside callbacks that were abandoned.
    #[pyo3(get)]
    pub(crate) threads_left: usize,
    /// Seconds that the shutdown took.
    #[pyo3(get)]
    elapsed: f64,
}

impl ShutdownReport {
    pub(crate) fn new(report: &duly::ShutdownReport) -> Self {
        ShutdownReport {
            drained: report.drained,
            stats: Stats::new(&report.stats),
            abandoned: report.abandoned.iter().map(TaskRecord::from).collect(),
            stuck: report.stuck.iter().map(TaskRecord::from).collect(),
            threads_left: report.threads_left,
            elapsed: report.elapsed.as_secs_f64(),
        }
    }

    /// The tasks that were abandoned.
    pub(crate) fn abandoned(&self) -> &[TaskRecord] {
        &self.abandoned
    }
}

#[pymethods]
impl ShutdownReport {
    /// The tasks that were abandoned, queued and running ones.
    #[getter(abandoned)]
    fn abandoned_list<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.abandoned.clone().into_bound_py_any(py)
    }

    /// The callbacks that still run although their task has its outcome: abandoned now, or overdue before.
    #[getter(stuck)]
    fn stuck_list<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.stuck.clone().into_bound_py_any(py)
    }

    fn __repr__(&self) -> String {
        format!(
            "<duly.ShutdownReport drained={} abandoned={} threads_left={} elapsed={:.3}>",
            if self.drained { "True" } else { "False" },
            self.abandoned.len(),
            self.threads_left,
            self.elapsed
        )
    }

    fn __str__(&self) -> String {
        let mut text = if self.drained {
            format!("drained in {:.3} s", self.elapsed)
        } else {
            format!("{} tasks abandoned after {:.3} s", self.abandoned.len(), self.elapsed)
        };
        for record in &self.abandoned {
            let _ = write!(text, "\n  abandoned: {}", record);
        }
        for record in &self.stuck {
            let _ = write!(text, "\n  still inside its callback: {}", record);
        }
        let _ = write!(text, "\n{}", self.stats.__str__());
        text
    }
}

/// What a queue has counted.
#[pyclass(frozen, get_all, module = "duly")]
#[derive(Debug, Clone)]
pub(crate) struct QueueStats {
    submitted: u64,
    queued: u64,
    running: u64,
    blocked_producers: u64,
    paused: bool,
}

impl From<&duly::QueueStats> for QueueStats {
    fn from(stats: &duly::QueueStats) -> Self {
        QueueStats {
            submitted: stats.submitted,
            queued: stats.queued,
            running: stats.running,
            blocked_producers: stats.blocked_producers,
            paused: stats.paused,
        }
    }
}

#[pymethods]
impl QueueStats {
    fn __repr__(&self) -> String {
        format!(
            "duly.QueueStats(submitted={}, queued={}, running={}, blocked_producers={}, paused={})",
            self.submitted,
            self.queued,
            self.running,
            self.blocked_producers,
            if self.paused { "True" } else { "False" }
        )
    }
}

/// What a periodic task has done.
#[pyclass(frozen, get_all, module = "duly")]
#[derive(Debug, Clone)]
pub(crate) struct PeriodicStats {
    runs: u64,
    failures: u64,
    missed: u64,
    active: u64,
}

impl From<&duly::PeriodicStats> for PeriodicStats {
    fn from(stats: &duly::PeriodicStats) -> Self {
        PeriodicStats {
            runs: stats.runs,
            failures: stats.failures,
            missed: stats.missed,
            active: stats.active,
        }
    }
}

#[pymethods]
impl PeriodicStats {
    fn __repr__(&self) -> String {
        format!(
            "duly.PeriodicStats(runs={}, failures={}, missed={}, active={})",
            self.runs, self.failures, self.missed, self.active
        )
    }
}

/// A callback that returned after its task had its outcome: what the hook `on_late` is told.
#[pyclass(frozen, get_all, module = "duly")]
#[derive(Debug, Clone)]
pub(crate) struct Late {
    label: String,
    outcome: &'static str,
    callback: &'static str,
    ran: f64,
}

impl From<&duly::Late> for Late {
    fn from(late: &duly::Late) -> Self {
        Late {
            label: late.name.label().unwrap_or_default().to_owned(),
            outcome: late.outcome.as_str(),
            callback: late.callback.as_str(),
            ran: late.ran.as_secs_f64(),
        }
    }
}

#[pymethods]
impl Late {
    fn __repr__(&self) -> String {
        let Late {
            label,
            outcome,
            callback,
            ran,
        } = self;
        format!("<duly.Late {label:?} {outcome}; its callback {callback} after {ran:.3} s>")
    }
}

/// Every worker is stuck and no replacement is left: what the hook `on_stalled` is told.
#[pyclass(frozen, get_all, module = "duly")]
#[derive(Debug, Clone)]
pub(crate) struct Stalled {
    pool: String,
    stuck: Vec<TaskRecord>,
    queued: u64,
}

impl From<&duly::Stalled> for Stalled {
    fn from(stalled: &duly::Stalled) -> Self {
        Stalled {
            pool: stalled.pool.clone(),
            stuck: stalled.stuck.iter().map(TaskRecord::from).collect(),
            queued: stalled.queued,
        }
    }
}

#[pymethods]
impl Stalled {
    fn __repr__(&self) -> String {
        let stuck = self.stuck.len();
        format!("<duly.Stalled {:?} stuck={stuck} queued={}>", self.pool, self.queued)
    }
}

/// A failure nobody looked at: what the hook `on_unobserved` is told.
#[pyclass(frozen, get_all, module = "duly")]
#[derive(Debug, Clone)]
pub(crate) struct Unobserved {
    label: String,
    outcome: &'static str,
    message: Option<String>,
}

impl From<&duly::Unobserved> for Unobserved {
    fn from(unobserved: &duly::Unobserved) -> Self {
        Unobserved {
            label: unobserved.name.label().unwrap_or_default().to_owned(),
            outcome: unobserved.outcome.as_str(),
            message: unobserved.message.clone(),
        }
    }
}

#[pymethods]
impl Unobserved {
    fn __repr__(&self) -> String {
        format!("<duly.Unobserved {:?} {}>", self.label, self.outcome)
    }
}

/// A worker that begins or ends: what the hooks `on_worker_start` and `on_worker_stop` are told.
#[pyclass(frozen, get_all, module = "duly")]
#[derive(Debug, Clone)]
pub(crate) struct WorkerInfo {
    pool: String,
    index: usize,
}

impl From<&duly::WorkerInfo> for WorkerInfo {
    fn from(worker: &duly::WorkerInfo) -> Self {
        WorkerInfo {
            pool: worker.pool.clone(),
            index: worker.index,
        }
    }
}

#[pymethods]
impl WorkerInfo {
    fn __repr__(&self) -> String {
        format!("<duly.WorkerInfo {} of {:?}>", self.index, self.pool)
    }
}
