//! What a pool tells about itself: its books, its tasks, the report of its shutdown, what its hooks are told.

use crate::error::Outcome;
use crate::name::TaskName;
use std::fmt;
use std::time::Duration;

/// The books of a pool at one moment, and its other counters.
///
/// `submitted = succeeded + failed + panicked + cancelled + deadline_exceeded + shed + abandoned + queued +
/// running` (P12): exactly at rest; while tasks move, one on its way from the queue to its end may be counted as
/// running, none is counted twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Tasks accepted so far.
    pub submitted: u64,
    /// … that succeeded.
    pub succeeded: u64,
    /// … that failed.
    pub failed: u64,
    /// … that panicked.
    pub panicked: u64,
    /// … that were cancelled.
    pub cancelled: u64,
    /// … whose deadline passed.
    pub deadline_exceeded: u64,
    /// … that the overflow policy dropped.
    pub shed: u64,
    /// … that a drain deadline cut off.
    pub abandoned: u64,
    /// Tasks in the queue now; never more than the capacity.
    pub queued: u64,
    /// Tasks without outcome that are not queued.
    pub running: u64,

    /// Submits that were refused; they made no task.
    pub refused: u64,
    /// Callbacks that returned after their task had its outcome.
    pub late: u64,
    /// Callbacks that run now although their task has its outcome.
    pub overdue: u64,
    /// Workers replaced because their callback was overdue.
    pub replaced: u64,
    /// How often every worker was stuck and no replacement left.
    pub stalled: u64,
    /// Failed or panicked tasks whose last handle was dropped before anyone looked at them.
    pub unobserved: u64,
    /// Producers that wait for room now.
    pub blocked_producers: u64,
    /// Threads that serve the pool now, stuck ones included.
    pub workers: u64,
}

impl Stats {
    /// Tasks that have ended.
    pub fn ended(&self) -> u64 {
        self.outcomes().iter().map(|(_, count)| count).sum()
    }

    /// Whether the books balance.
    pub fn books_balance(&self) -> bool {
        self.submitted == self.ended() + self.queued + self.running
    }

    /// The number of tasks with each outcome.
    pub fn outcomes(&self) -> [(Outcome, u64); 7] {
        [
            (Outcome::Succeeded, self.succeeded),
            (Outcome::Failed, self.failed),
            (Outcome::Panicked, self.panicked),
            (Outcome::Cancelled, self.cancelled),
            (Outcome::DeadlineExceeded, self.deadline_exceeded),
            (Outcome::Shed, self.shed),
            (Outcome::Abandoned, self.abandoned),
        ]
    }

    pub(crate) fn set_outcomes(&mut self, counts: [u64; 7]) {
        [
            self.succeeded,
            self.failed,
            self.panicked,
            self.cancelled,
            self.deadline_exceeded,
            self.shed,
            self.abandoned,
        ] = counts;
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<20}{:>12}", "submitted", self.submitted)?;
        for (outcome, count) in self.outcomes() {
            writeln!(f, "  {:<18}{count:>12}", outcome.as_str())?;
        }
        writeln!(f, "  {:<18}{:>12}", "queued", self.queued)?;
        writeln!(f, "  {:<18}{:>12}", "running", self.running)?;
        for (word, count) in [
            ("refused", self.refused),
            ("late", self.late),
            ("overdue", self.overdue),
            ("replaced", self.replaced),
            ("stalled", self.stalled),
            ("unobserved", self.unobserved),
        ] {
            if count > 0 {
                writeln!(f, "{word:<20}{count:>12}")?;
            }
        }
        let balance = if self.books_balance() {
            "books balance"
        } else {
            "books do not balance"
        };
        f.write_str(balance)
    }
}

/// Where a task was when it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TaskState {
    /// In the queue.
    Queued,
    /// Its callback was running.
    Running,
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TaskState::Queued => "queued",
            TaskState::Running => "running",
        })
    }
}

/// A task, as reports name it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskRecord {
    /// Label, callback, where submitted.
    pub name: TaskName,
    /// Whether its callback had started.
    pub state: TaskState,
    /// Its outcome, if it has one.
    pub outcome: Option<Outcome>,
    /// Since its callback started (to a few milliseconds); zero for one that did not start.
    pub age: Duration,
    /// The thread its callback runs on.
    pub thread: Option<String>,
}

impl fmt::Display for TaskRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.state)?;
        if let Some(thread) = &self.thread {
            write!(f, " on {thread} for {:.1?}", self.age)?;
        }
        if let Some(outcome) = self.outcome {
            write!(f, ", {outcome}")?;
        }
        Ok(())
    }
}

/// A callback that runs although its task has its outcome: see [`Pool::leaks`](crate::Pool::leaks).
pub type Leak = TaskRecord;

/// How a shutdown went.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Everything that had been accepted ended by itself in time.
    pub drained: bool,
    /// The books at the end: nothing queued or running.
    pub stats: Stats,
    /// The tasks that the drain deadline cut off.
    pub abandoned: Vec<TaskRecord>,
    /// The callbacks that still run although their task has its outcome: abandoned now, or overdue before.
    pub stuck: Vec<TaskRecord>,
    /// Threads that are still inside user code; each ends when that returns.
    pub threads_left: usize,
    /// How long it took.
    pub elapsed: Duration,
}

impl fmt::Display for ShutdownReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.drained {
            "drained"
        } else {
            "drain deadline passed"
        };
        writeln!(f, "shutdown: {how} after {:.1?}", self.elapsed)?;
        for task in &self.abandoned {
            writeln!(f, "  abandoned: {task}")?;
        }
        for task in &self.stuck {
            writeln!(f, "  still inside its callback: {task}")?;
        }
        fmt::Display::fmt(&self.stats, f)
    }
}

/// A worker, as its start and stop hooks are told.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerInfo {
    /// The pool's name.
    pub pool: String,
    /// Counted from 0; replacements go on counting.
    pub index: usize,
}

/// A callback returned after its task had its outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Late {
    /// The task.
    pub name: TaskName,
    /// The outcome it had been given.
    pub outcome: Outcome,
    /// How the callback ended after that: `succeeded`, `failed` or `panicked`.
    pub callback: Outcome,
    /// How long the callback took (to a few milliseconds).
    pub ran: Duration,
}

/// Every worker is stuck in a callback whose task has its outcome, and no replacement is left.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stalled {
    /// The pool's name.
    pub pool: String,
    /// The callbacks in the way.
    pub stuck: Vec<TaskRecord>,
    /// How many tasks wait behind them.
    pub queued: u64,
}

/// A failed or panicked task whose last handle was dropped before anyone looked at its outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unobserved {
    /// The task.
    pub name: TaskName,
    /// `failed` or `panicked`.
    pub outcome: Outcome,
    /// The panic's message, where there is one.
    pub message: Option<String>,
}
