//! The options of a pool, as its parts read them.

use crate::carry::Carrier;
use crate::report::{Late, Stalled, Unobserved, WorkerInfo};
use crate::worker::Worker;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// What a submit does when the queue is full: as the [pool](crate::PoolBuilder::overflow) says, a [queue](crate::QueueBuilder::overflow)
/// of its own, or the [submit](crate::Options::overflow) itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Overflow {
    /// Wait for room, in order of arrival. Try verbs refuse instead, with `queue_full`.
    #[default]
    Block,
    /// Refuse with `queue_full`.
    Reject,
    /// Accept, and answer `shed` at once.
    DropNewest,
    /// Answer `shed` to the oldest queued task, and take its place.
    DropOldest,
    /// Run the callback on the thread that submits. Try verbs and async submits refuse instead, with `queue_full`.
    CallerRuns,
}

/// Where a pool's threads come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Threads {
    /// All of them are created when the pool is built.
    #[default]
    Eager,
    /// One is created by a submit that finds none idle, up to the number of workers. One that cannot be created
    /// is logged and tried again; its task stays queued, and its deadline, cancellation and shutdown answer it.
    OnDemand,
    /// The host brings them: it calls [`Pool::worker`](crate::Pool::worker) and runs that.
    Host,
}

pub(crate) type Hook<T> = Option<Arc<dyn Fn(&T) + Send + Sync>>;
pub(crate) type Spawner = Arc<dyn Fn(Worker) -> io::Result<()> + Send + Sync>;

pub(crate) struct Config {
    pub(crate) name: String,
    pub(crate) workers: usize,
    pub(crate) overflow: Overflow,
    pub(crate) replace_after: Duration,
    pub(crate) max_replacements: usize,
    pub(crate) default_timeout: Option<Duration>,
    pub(crate) drain: Duration,
    pub(crate) drop_drain: Duration,
    pub(crate) stack_size: Option<usize>,
    pub(crate) threads: Threads,
    pub(crate) spawner: Option<Spawner>,
    /// What carries context from submit to callback.
    pub(crate) context: Option<Arc<dyn Carrier>>,
    /// A submit without options needs neither the time nor a context.
    pub(crate) plain: bool,
    pub(crate) on_worker_start: Hook<WorkerInfo>,
    pub(crate) on_worker_stop: Hook<WorkerInfo>,
    pub(crate) on_late: Hook<Late>,
    pub(crate) on_stalled: Hook<Stalled>,
    pub(crate) on_unobserved: Hook<Unobserved>,
}

impl Config {
    /// A thread's name: cut so that the part that tells threads apart fits into Linux's 15 bytes.
    pub(crate) fn thread_name(&self, part: &str) -> String {
        let room = 15usize.saturating_sub(part.len() + 1);
        let mut end = self.name.len().min(room);
        while !self.name.is_char_boundary(end) {
            end -= 1;
        }
        format!("{}-{part}", &self.name[..end])
    }
}
