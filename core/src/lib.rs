//! A bounded worker pool that always answers.
//!
//! Submit a callback, get a [`Task`]: a blocking handle and a future in one. It ends with exactly one
//! [`Outcome`], in time, whatever the callback does: it may sleep for ever, loop, or panic, and every worker may be
//! stuck. Queues are bounded, every wait has an exit, cancelling frees a queued task's place at once, and a
//! shutdown returns when it said it would, naming what it left behind.
//!
//! ```
//! use std::time::Duration;
//!
//! let pool = duly::Pool::builder().default_timeout(Duration::from_secs(5)).build()?;
//! let task = pool.submit(|ctx| {
//!     ctx.check()?; // Err when cancelled or late
//!     Ok::<_, duly::Interrupted>(6 * 7)
//! })?;
//! assert_eq!(task.wait()?, 42);
//!
//! let report = pool.shutdown(Duration::from_secs(1))?;
//! assert!(report.drained && report.stats.books_balance());
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//!
//! * `tokio`: [`CancellationToken`] follows, and is followed by, tokio-util's. The pool itself needs no runtime: its
//!   futures run on any executor.
//!
//! # What cannot be survived
//!
//! A stack overflow, a panic while panicking, `panic = "abort"` and `pthread_exit` in a callback end the process.

// layer 0
mod clock;
mod error;
mod name;
mod sync;
// layer 1
mod alarm;
mod arena;
mod cancel;
mod report;
mod slot;
// layer 2
mod books;
mod idle;
mod queue;
mod wheel;
// layer 3
mod config;
mod context;
mod delivery;
mod end;
mod registry;
mod shared;
mod table;
mod task;
mod timer;
mod worker;
// layer 4
mod many;
mod map;
mod pool;
mod submit;

#[cfg(all(test, any(loom, shuttle)))]
mod models;

pub use cancel::{CancellationToken, DropGuard, WaitForCancellation};
pub use config::{Overflow, Threads};
pub use context::{Context, OnCancel};
pub use error::{
    BuildError, CancelReason, Cancelled, Interrupted, Outcome, Panic, Refused, RunError, ShutdownError, SubmitError,
    SubmitErrorKind, TaskError, WaitError,
};
pub use many::SubmitManyError;
pub use map::{Map, MapError};
pub use name::{Label, TaskName};
pub use pool::{Pool, PoolBuilder, Shutdown};
pub use report::{Late, Leak, ShutdownReport, Stalled, Stats, TaskRecord, TaskState, Unobserved, WorkerInfo};
pub use submit::{Options, Run, SubmitFuture};
pub use task::{CancelOnDrop, Task, TaskResult};
pub use worker::Worker;
