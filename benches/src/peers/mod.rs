//! The peers, and what a pool must offer to be measured; one file a peer of this process, external.rs for the programs.
//!
//! Kept true: every peer gets the same callbacks, the same capacity where it has a bound, and the same generic
//! workload; a peer adds only what its users would have to add (a channel for the answer, a loop for the workers).

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::{Duration, Instant};

pub(crate) mod channels;
pub(crate) mod duly;
pub(crate) mod external;
pub(crate) mod rayon;
pub(crate) mod threadpool;
pub(crate) mod tokio;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Peer {
    Duly,
    DulyC,
    Crossbeam,
    Kanal,
    Threadpool,
    Rayon,
    Tokio,
    TokioSpawn,
    Go,
    Libuv,
    Tbb,
}

impl Peer {
    pub(crate) const ALL: &[Peer] = &[
        Peer::Duly,
        Peer::DulyC,
        Peer::Crossbeam,
        Peer::Kanal,
        Peer::Threadpool,
        Peer::Rayon,
        Peer::Tokio,
        Peer::TokioSpawn,
        Peer::Go,
        Peer::Libuv,
        Peer::Tbb,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Peer::Duly => "duly",
            Peer::DulyC => "duly-c",
            Peer::Crossbeam => "crossbeam",
            Peer::Kanal => "kanal",
            Peer::Threadpool => "threadpool",
            Peer::Rayon => "rayon",
            Peer::Tokio => "tokio",
            Peer::TokioSpawn => "tokio-spawn",
            Peer::Go => "go",
            Peer::Libuv => "libuv",
            Peer::Tbb => "tbb",
        }
    }

    /// What the peer is, and what stands for a handle.
    pub(crate) fn about(self) -> (&'static str, &'static str) {
        match self {
            Peer::Duly => ("the pool of this project, every promise on", "its Task"),
            Peer::DulyC => ("the same through its C header, duly.h", "its duly_task"),
            Peer::Crossbeam => ("N threads on a bounded crossbeam channel", "a oneshot channel a task"),
            Peer::Kanal => ("N threads on a bounded kanal channel", "a oneshot channel a task"),
            Peer::Threadpool => ("the threadpool crate; no bound", "a oneshot channel a task"),
            Peer::Rayon => ("rayon's ThreadPool::spawn; no bound", "a oneshot channel a task"),
            Peer::Tokio => (
                "tokio's spawn_blocking; no bound",
                "its JoinHandle, polled by a parked thread",
            ),
            Peer::TokioSpawn => (
                "tokio's spawn, worker_threads = N; no bound",
                "its JoinHandle, polled by a parked thread",
            ),
            Peer::Go => ("N goroutines on a bounded Go channel", "a channel of one place a task"),
            Peer::Libuv => (
                "libuv's uv_queue_work from the loop's thread; no bound",
                "its after-callback, waited for by running the loop",
            ),
            Peer::Tbb => ("oneTBB's task_arena::enqueue; no bound", "a std::promise a task"),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A pool of `workers` threads that answers each task with a number.
pub(crate) trait Pool: Sync + Sized {
    /// What the caller of `submit` waits on.
    type Handle: Send + 'static;

    /// Starts the pool; `capacity` is its queue's, where the peer has a bound.
    fn start(workers: usize, capacity: usize) -> Self;

    /// Submits a task, waiting for room, and keeps a handle.
    fn submit<F: FnOnce() -> u64 + Send + 'static>(&self, callback: F) -> Self::Handle;

    /// Submits a task nobody will wait for.
    fn fire<F: FnOnce() -> u64 + Send + 'static>(&self, callback: F);

    /// Waits for the answer.
    fn wait(handle: Self::Handle) -> u64;

    /// Ends the pool; all its tasks have ended before.
    fn stop(self);
}

/// A pool whose tasks can have a deadline (rows W5 and pending).
pub(crate) trait Deadlines: Pool {
    /// Submits a task that is to be answered within `timeout`.
    fn submit_within<F: FnOnce() -> u64 + Send + 'static>(&self, timeout: Duration, callback: F) -> Self::Handle;

    /// Waits for the answer; `None` when the deadline passed before.
    fn wait_within(handle: Self::Handle, timeout: Duration) -> Option<u64>;
}

/// How a task of row mixed ended, for whoever waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Succeeded,
    Cancelled,
    Late,
}

/// A pool that can do row mixed, each as well as its users could: README.md says what the peers cannot.
pub(crate) trait Service: Pool {
    /// What the answer is waited for on.
    type Served: Send + 'static;
    /// What cancels one task.
    type Cancel: Send + 'static;

    /// Submits a task, with a deadline or without.
    fn serve<F: FnOnce() -> u64 + Send + 'static>(&self, deadline: Option<Instant>, callback: F) -> Self::Served;

    fn canceller(served: &Self::Served) -> Self::Cancel;

    fn cancel(cancel: Self::Cancel);

    /// Waits until the task has ended or its deadline has passed.
    fn ended(served: Self::Served, deadline: Option<Instant>) -> Ended;
}
