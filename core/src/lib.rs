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
//! * `stream`: [`Async`] is a `Stream` of futures-core, and `Pool::stream_async` has one as its input.
//! * `tokio`: [`CancellationToken`] follows, and is followed by, tokio-util's. The pool itself needs no runtime: its
//!   futures run on any executor.
//! * `signals`: `Pool::shut_down_on` and `CancellationToken::cancelled_on`: SIGTERM and others start the drain, or cancel.
//! * `systemd`: the same, and systemd is told of the stop, and that the bound pools are alive.
//! * `tracing`: `Tracing` carries the current span and subscriber from a submit to its callback.
//!
//! # What cannot be survived
//!
//! A stack overflow, a panic while panicking, `panic = "abort"` and `pthread_exit` in a callback end the process.

// layer 0
mod clock;
mod error;
mod fork;
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
mod keyed;
mod queue;
pub mod spsc;
mod wheel;
// layer 3
mod carry;
mod config;
mod context;
mod delivery;
mod end;
mod lane;
mod registry;
mod shared;
mod steps;
mod table;
mod task;
mod timer;
mod turns;
mod waits;
mod worker;
// layer 4
mod completion;
mod many;
mod map;
mod pool;
mod queues;
mod raw;
#[cfg(feature = "tracing")]
mod spans;
mod submit;
#[cfg(feature = "systemd")]
mod systemd;
// layer 5
mod block;
mod group;
mod periodic;
mod select;
#[cfg(feature = "signals")]
mod signals;
mod single_flight;
mod stream;

#[cfg(all(test, any(loom, shuttle)))]
mod models;

pub use block::Async;
pub use cancel::{CancellationToken, DropGuard, WaitForCancellation};
pub use carry::Carry;
pub use completion::{Completion, Completions};
pub use config::{Overflow, Threads};
pub use context::{Context, OnCancel};
pub use error::{
    Blocked, BuildError, CancelReason, Cancelled, Deadlock, Interrupted, Outcome, Panic, Refused, RunError,
    ShutdownError, SubmitError, SubmitErrorKind, TaskError, WaitError,
};
pub use group::{Group, GroupBuilder, GroupError, GroupSubmit, GroupWait, Member, MemberError, Members};
pub use many::SubmitManyError;
pub use map::{Map, MapError};
pub use name::{Label, TaskName};
pub use periodic::{Every, Missed, Periodic, PeriodicEnd, PeriodicStats};
pub use pool::{Pool, PoolBuilder, Shutdown};
pub use queues::{Queue, QueueBuilder, QueueStats};
#[doc(hidden)]
pub use raw::{Kind, Lent, Native};
pub use report::{Late, Leak, ShutdownReport, Stalled, Stats, TaskRecord, TaskState, Unobserved, WorkerInfo};
pub use select::{
    AllEnded, AnyEnded, AnyTask, AsCompleted, NotEnded, as_completed, wait_all, wait_all_async, wait_any,
    wait_any_async,
};
#[cfg(feature = "signals")]
pub use signals::{ShutdownOnSignal, Signal, SignalError};
pub use single_flight::{Call, FlightError, Flying, SingleFlight};
#[cfg(feature = "tracing")]
pub use spans::{InTrace, Traced, Tracing};
pub use steps::{Step, Steps};
#[cfg(feature = "stream")]
pub use stream::StreamItems;
pub use stream::{FirstError, Items, StreamError, TaskStream};
pub use submit::{Options, Run, SubmitFuture};
pub use task::{CancelOnDrop, Task, TaskResult};
pub use worker::Worker;
