//! What a pool must offer to be measured, one file a peer.
//!
//! Kept true: every peer gets the same callbacks, the same capacity where it has a bound, and the same generic
//! workload; a peer adds only what its users would have to add (a channel for the answer, a loop for the workers).

use std::time::Duration;

pub(crate) mod crossbeam;
pub(crate) mod duly;
pub(crate) mod threadpool;
pub(crate) mod tokio;

/// A pool of `workers` threads that answers each task with a number.
pub(crate) trait Pool: Sync + Sized {
    /// What the caller of `submit` waits on.
    type Handle: Send;

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

/// A pool whose tasks can have a deadline (row W5).
pub(crate) trait Deadlines: Pool {
    /// Submits a task that is to be answered within `timeout`.
    fn submit_within<F: FnOnce() -> u64 + Send + 'static>(&self, timeout: Duration, callback: F) -> Self::Handle;

    /// Waits for the answer; `None` when the deadline passed before.
    fn wait_within(handle: Self::Handle, timeout: Duration) -> Option<u64>;
}
