//! How tasks end, why a submit was refused, and the errors that say so.
//!
//! Every message says which task, what happened, and what to do about it.

use crate::fork;
use crate::name::TaskName;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How a task ended. A task has exactly one outcome (P1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The callback returned a value.
    Succeeded,
    /// The callback returned an error.
    Failed,
    /// The callback panicked.
    Panicked,
    /// Cancelled by its handle, its token, or because its caller left.
    Cancelled,
    /// Its deadline passed while it was queued or running.
    DeadlineExceeded,
    /// Dropped by the overflow policy.
    Shed,
    /// The drain deadline of a shutdown passed, or the process forked (in the child), before it ended.
    Abandoned,
}

impl Outcome {
    /// Every outcome, in the order of the books.
    pub const ALL: [Outcome; 7] = [
        Outcome::Succeeded,
        Outcome::Failed,
        Outcome::Panicked,
        Outcome::Cancelled,
        Outcome::DeadlineExceeded,
        Outcome::Shed,
        Outcome::Abandoned,
    ];

    /// The word of the contract: `succeeded`, `deadline_exceeded`, …
    pub const fn as_str(self) -> &'static str {
        match self {
            Outcome::Succeeded => "succeeded",
            Outcome::Failed => "failed",
            Outcome::Panicked => "panicked",
            Outcome::Cancelled => "cancelled",
            Outcome::DeadlineExceeded => "deadline_exceeded",
            Outcome::Shed => "shed",
            Outcome::Abandoned => "abandoned",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why something was cancelled.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CancelReason {
    /// Somebody called `cancel`.
    Requested,
    /// The caller that awaited the answer has gone.
    CallerLeft,
    /// A guard that cancels on drop was dropped.
    Dropped,
    /// A signal of this number.
    Signal(i32),
    /// The deadline of a token passed.
    DeadlineExceeded,
    /// The process is a forked child, and the token its parent's.
    Forked,
    /// In the caller's own words.
    Custom(Arc<str>),
}

impl From<&str> for CancelReason {
    fn from(text: &str) -> Self {
        CancelReason::Custom(text.into())
    }
}

impl From<String> for CancelReason {
    fn from(text: String) -> Self {
        CancelReason::Custom(text.into())
    }
}

impl fmt::Display for CancelReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CancelReason::Requested => f.write_str("requested"),
            CancelReason::CallerLeft => f.write_str("caller_left"),
            CancelReason::Dropped => f.write_str("dropped"),
            CancelReason::Signal(number) => write!(f, "signal {number}"),
            CancelReason::DeadlineExceeded => f.write_str("deadline_exceeded"),
            CancelReason::Forked => f.write_str("forked"),
            CancelReason::Custom(text) => f.write_str(text),
        }
    }
}

/// Why a running callback should stop: what [`Context::check`](crate::Context::check) answers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Interrupted {
    /// The task was cancelled.
    #[error("this task was cancelled ({0}); its answer has been given, return early")]
    Cancelled(CancelReason),
    /// The task's deadline passed.
    #[error("this task's deadline has passed; its answer has been given, return early")]
    DeadlineExceeded,
    /// The pool's drain deadline passed.
    #[error("this task was abandoned by the shutdown of its pool; return early")]
    Abandoned,
}

/// Why a task was not accepted. No task was made, and the callback comes back with the error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SubmitErrorKind {
    /// No room in the queue, or too many producers wait for room already.
    QueueFull,
    /// No room within the time the caller was ready to wait for it.
    SubmitTimedOut,
    /// The task's own deadline passed before there was room.
    DeadlineExceeded,
    /// The task's token was cancelled before there was room.
    Cancelled,
    /// The pool is closed or shut down, or of the process that forked this one.
    ShutDown,
    /// Waiting could never end.
    WouldDeadlock,
    /// An argument makes no sense.
    InvalidArgument,
}

impl SubmitErrorKind {
    /// The word of the contract: `queue_full`, `shut_down`, …
    pub const fn as_str(self) -> &'static str {
        match self {
            SubmitErrorKind::QueueFull => "queue_full",
            SubmitErrorKind::SubmitTimedOut => "submit_timed_out",
            SubmitErrorKind::DeadlineExceeded => "deadline_exceeded",
            SubmitErrorKind::Cancelled => "cancelled",
            SubmitErrorKind::ShutDown => "shut_down",
            SubmitErrorKind::WouldDeadlock => "would_deadlock",
            SubmitErrorKind::InvalidArgument => "invalid_argument",
        }
    }

    fn advice(self) -> &'static str {
        match self {
            SubmitErrorKind::QueueFull => {
                "the queue and the places for waiting producers are full: retry later, answer 503, or raise `capacity`"
            }
            SubmitErrorKind::SubmitTimedOut => {
                "no room came up within `submit_timeout`: retry later, answer 503, or raise `capacity`"
            }
            SubmitErrorKind::DeadlineExceeded => {
                "its deadline passed while it waited for room: the pool is overloaded, answer 504"
            }
            SubmitErrorKind::Cancelled => "its token was cancelled while it waited for room",
            SubmitErrorKind::ShutDown if fork::generation() != 0 => {
                "the pool is closed, shut down, or of the process that forked this one: make a new one, or stop"
            }
            SubmitErrorKind::ShutDown => "the pool is closed or shut down: submit to another pool, or stop",
            SubmitErrorKind::WouldDeadlock => "waiting for room here could never end",
            SubmitErrorKind::InvalidArgument => "an option makes no sense",
        }
    }
}

impl fmt::Display for SubmitErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A value that is only ever moved or borrowed mutably, so that sharing its box is harmless.
struct Exclusive<F>(F);

// SAFETY: a shared reference to this type gives no access to the value inside.
unsafe impl<F> Sync for Exclusive<F> {}

/// A submit that was refused, with the callback.
pub struct SubmitError<F> {
    refused: Box<Refused>,
    callback: Exclusive<F>,
}

/// Who refused, where that has to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Whose {
    queue: String,
    full: Full,
}

/// What was full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Full {
    Queue,
    Key,
    Completions,
}

const KEY_FULL: &str = "as many tasks of its key are queued as `key_capacity` allows, or wait for a place already: retry \
                        later, answer 503, or raise it";

const COMPLETIONS_FULL: &str = "as many tasks are under way with it, or wait to be taken from it, as it has places: take \
                                completions, submit less at a time, or give it a larger capacity";

impl Whose {
    fn name(&self) -> String {
        let kind = if self.full == Full::Completions {
            "completion queue"
        } else {
            "queue"
        };
        format!(" by {kind} `{}`", self.queue)
    }

    fn advice(&self) -> Option<&'static str> {
        match self.full {
            Full::Queue => None,
            Full::Key => Some(KEY_FULL),
            Full::Completions => Some(COMPLETIONS_FULL),
        }
    }
}

/// A [`SubmitError`] without the callback.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name} was not accepted{}: {kind}: {}{}",
    .whose.as_ref().map_or(String::new(), |whose| whose.name()),
    .whose.as_ref().and_then(|whose| whose.advice()).unwrap_or(kind.advice()),
    .deadlock.as_ref().map_or(String::new(), |why| format!(": {why}"))
)]
pub struct Refused {
    kind: SubmitErrorKind,
    name: TaskName,
    whose: Option<Box<Whose>>,
    deadlock: Option<Box<Deadlock>>,
}

impl Refused {
    pub(crate) fn new(kind: SubmitErrorKind, name: TaskName) -> Self {
        Refused {
            kind,
            name,
            whose: None,
            deadlock: None,
        }
    }

    /// The same, by a queue that is not the pool's default one, or because of the task's key.
    pub(crate) fn by(mut self, queue: &str, key_full: bool) -> Self {
        let queue = queue.to_owned();
        let full = if key_full { Full::Key } else { Full::Queue };
        self.whose = Some(Box::new(Whose { queue, full }));
        self
    }

    /// The same, by a completion queue without a free place.
    pub(crate) fn by_completions(mut self, queue: &str) -> Self {
        let queue = queue.to_owned();
        self.whose = Some(Box::new(Whose {
            queue,
            full: Full::Completions,
        }));
        self
    }

    fn whose(&self, completions: bool) -> Option<&str> {
        let whose = self.whose.as_ref()?;
        ((whose.full == Full::Completions) == completions).then_some(&*whose.queue)
    }

    /// The name of the queue that refused, unless it is the pool's default one.
    pub fn queue(&self) -> Option<&str> {
        self.whose(false)
    }

    /// The name of the completion queue that refused, as it has no free place.
    pub fn completions(&self) -> Option<&str> {
        self.whose(true)
    }

    /// The same, and why the callback that submits may not wait for room.
    pub(crate) fn because(mut self, deadlock: Option<Box<Deadlock>>) -> Self {
        self.deadlock = deadlock;
        self
    }

    /// For `would_deadlock`: who waits for whom.
    pub fn deadlock(&self) -> Option<&Deadlock> {
        self.deadlock.as_deref()
    }

    /// Why.
    pub fn kind(&self) -> SubmitErrorKind {
        self.kind
    }

    /// The task that was not made.
    pub fn name(&self) -> &TaskName {
        &self.name
    }
}

impl<F> SubmitError<F> {
    pub(crate) fn new(refused: Refused, callback: F) -> Self {
        SubmitError {
            refused: Box::new(refused),
            callback: Exclusive(callback),
        }
    }

    /// Why.
    pub fn kind(&self) -> SubmitErrorKind {
        self.refused.kind
    }

    /// The task that was not made.
    pub fn name(&self) -> &TaskName {
        &self.refused.name
    }

    /// The name of the queue that refused, unless it is the pool's default one.
    pub fn queue(&self) -> Option<&str> {
        self.refused.queue()
    }

    /// The name of the completion queue that refused, as it has no free place.
    pub fn completions(&self) -> Option<&str> {
        self.refused.completions()
    }

    /// The callback, with all it captured, untouched.
    pub fn into_callback(self) -> F {
        self.callback.0
    }

    /// For `would_deadlock`: who waits for whom.
    pub fn deadlock(&self) -> Option<&Deadlock> {
        self.refused.deadlock()
    }

    /// The error without the callback, which is dropped.
    pub fn erase(self) -> Refused {
        *self.refused
    }
}

impl<F> fmt::Debug for SubmitError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubmitError")
            .field("kind", &self.refused.kind)
            .field("name", &self.refused.name)
            .finish_non_exhaustive()
    }
}

impl<F> fmt::Display for SubmitError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.refused.fmt(f)
    }
}

impl<F> std::error::Error for SubmitError<F> {}

/// Why there is no value: every outcome but `succeeded`, and the value having been taken already.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskError<E> {
    /// The callback returned this error.
    Failed(E),
    /// The callback panicked.
    Panicked(Panic),
    /// The task was cancelled.
    Cancelled(Cancelled),
    /// The task's deadline passed.
    DeadlineExceeded(TaskName),
    /// The overflow policy dropped the task.
    Shed(TaskName),
    /// A shutdown's drain deadline passed before the task ended.
    Abandoned(TaskName),
    /// Somebody has taken the value, or the error, before.
    Taken(TaskName),
    /// The wait, made by a callback, could never have ended: see [`Deadlock`]. The task goes on, and its value stays to
    /// be taken.
    WouldDeadlock(Box<Deadlock>),
}

/// Why a callback may not wait: whoever could make progress waits, in the end, for the one that asks.
///
/// Told by [`TaskError::WouldDeadlock`] and [`Refused::deadlock`]. To mend it, let the callback return what it waits for (a
/// handle, a value for somebody else to combine), let it wait with a timeout, or give the pool more `max_replacements`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deadlock {
    pub(crate) waits: Vec<Blocked>,
}

/// A task whose callback waits.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Blocked {
    /// The task.
    pub task: TaskName,
    /// The pool that it runs in.
    pub pool: String,
    /// What its callback waits for, in words.
    pub waits_for: String,
}

impl Deadlock {
    /// The callbacks that wait for each other: first the one that was told, then those it would wait for.
    pub fn waits(&self) -> &[Blocked] {
        &self.waits
    }
}

impl fmt::Display for Deadlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the wait could never end")?;
        for (index, blocked) in self.waits.iter().enumerate() {
            let lead = if index == 0 { ": " } else { "; " };
            write!(
                f,
                "{lead}{} in pool {} waits for {}",
                blocked.task, blocked.pool, blocked.waits_for
            )?;
        }
        f.write_str(". Let the callback return instead of waiting, wait with a timeout, or raise `max_replacements`")
    }
}

impl std::error::Error for Deadlock {}

/// A panic of a callback.
#[derive(Clone, PartialEq, Eq)]
pub struct Panic {
    pub(crate) message: Box<str>,
    pub(crate) task: TaskName,
}

impl Panic {
    /// The panic's message.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The task whose callback panicked.
    pub fn task(&self) -> &TaskName {
        &self.task
    }
}

impl fmt::Debug for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Panic")
            .field("message", &self.message)
            .field("task", &self.task)
            .finish()
    }
}

/// A cancellation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cancelled {
    pub(crate) reason: CancelReason,
    pub(crate) task: TaskName,
}

impl Cancelled {
    /// Why.
    pub fn reason(&self) -> &CancelReason {
        &self.reason
    }

    /// The task that was cancelled.
    pub fn task(&self) -> &TaskName {
        &self.task
    }
}

impl<E> TaskError<E> {
    /// The outcome this error tells of; `None` for [`TaskError::Taken`] and [`TaskError::WouldDeadlock`].
    pub fn outcome(&self) -> Option<Outcome> {
        match self {
            TaskError::Failed(_) => Some(Outcome::Failed),
            TaskError::Panicked(_) => Some(Outcome::Panicked),
            TaskError::Cancelled(_) => Some(Outcome::Cancelled),
            TaskError::DeadlineExceeded(_) => Some(Outcome::DeadlineExceeded),
            TaskError::Shed(_) => Some(Outcome::Shed),
            TaskError::Abandoned(_) => Some(Outcome::Abandoned),
            TaskError::Taken(_) | TaskError::WouldDeadlock(_) => None,
        }
    }

    /// The callback's own error.
    pub fn into_failed(self) -> Option<E> {
        match self {
            TaskError::Failed(error) => Some(error),
            _ => None,
        }
    }

    /// The same with another type for the callback's own error.
    pub fn map_failed<O>(self, map: impl FnOnce(E) -> O) -> TaskError<O> {
        match self {
            TaskError::Failed(error) => TaskError::Failed(map(error)),
            TaskError::Panicked(panic) => TaskError::Panicked(panic),
            TaskError::Cancelled(cancelled) => TaskError::Cancelled(cancelled),
            TaskError::DeadlineExceeded(name) => TaskError::DeadlineExceeded(name),
            TaskError::Shed(name) => TaskError::Shed(name),
            TaskError::Abandoned(name) => TaskError::Abandoned(name),
            TaskError::Taken(name) => TaskError::Taken(name),
            TaskError::WouldDeadlock(deadlock) => TaskError::WouldDeadlock(deadlock),
        }
    }

    fn tell(
        &self,
        f: &mut fmt::Formatter<'_>,
        failed: impl FnOnce(&E, &mut fmt::Formatter<'_>) -> fmt::Result,
    ) -> fmt::Result {
        match self {
            TaskError::Failed(error) => failed(error, f),
            TaskError::Panicked(panic) => {
                write!(f, "{} panicked: {}; mend the callback", panic.task, panic.message)
            }
            TaskError::Cancelled(cancelled) => {
                write!(f, "{} was cancelled ({})", cancelled.task, cancelled.reason)
            }
            TaskError::DeadlineExceeded(name) => write!(
                f,
                "{name} did not end before its deadline; if its callback still runs, `Pool::leaks` names it"
            ),
            TaskError::Shed(name) => {
                write!(
                    f,
                    "{name} was shed: the queue was full; raise `capacity` or submit less"
                )
            }
            TaskError::Abandoned(name) => {
                write!(
                    f,
                    "{name} was abandoned: its pool's drain deadline passed; allow a longer drain"
                )
            }
            TaskError::WouldDeadlock(deadlock) => fmt::Display::fmt(deadlock, f),
            TaskError::Taken(name) => {
                write!(
                    f,
                    "the result of {name} has been taken by an earlier wait; keep what that wait returned"
                )
            }
        }
    }
}

impl<E: fmt::Display> fmt::Display for TaskError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tell(f, |error, f| write!(f, "the callback failed: {error}"))
    }
}

impl<E> fmt::Debug for TaskError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tell(f, |_, f| {
            write!(f, "the callback failed ({})", std::any::type_name::<E>())
        })
    }
}

impl<E: std::error::Error + 'static> std::error::Error for TaskError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TaskError::Failed(error) => Some(error),
            _ => None,
        }
    }
}

/// Why [`Pool::run`](crate::Pool::run) has no value: the task was refused, or ended otherwise.
#[non_exhaustive]
pub enum RunError<F, E> {
    /// No task was made; the callback comes back.
    Refused(SubmitError<F>),
    /// The task ended without a value.
    Task(TaskError<E>),
}

impl<F, E> RunError<F, E> {
    /// The task's error, if there was a task.
    pub fn task(self) -> Option<TaskError<E>> {
        match self {
            RunError::Task(error) => Some(error),
            RunError::Refused(_) => None,
        }
    }
}

impl<F, E> fmt::Debug for RunError<F, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Refused(error) => fmt::Debug::fmt(error, f),
            RunError::Task(error) => fmt::Debug::fmt(error, f),
        }
    }
}

impl<F, E: fmt::Display> fmt::Display for RunError<F, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Refused(error) => fmt::Display::fmt(error, f),
            RunError::Task(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl<F, E: std::error::Error + 'static> std::error::Error for RunError<F, E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RunError::Refused(_) => None,
            RunError::Task(error) => error.source(),
        }
    }
}

/// Why a pool, or a queue of one, could not be built, or changed. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// An option is out of range.
    #[error("pool option `{what}`: {why}")]
    InvalidArgument {
        /// The option.
        what: &'static str,
        /// What is wrong with it, and what is allowed.
        why: String,
    },
    /// The pool is closed: it takes no more queues or workers.
    #[error("the pool is closed or shut down: it takes no more queues and workers; use another pool")]
    ShutDown,
    /// A thread could not be created.
    #[error(
        "thread {index} of the pool could not be created: {source}; ask for fewer workers, a smaller stack, or raise the limits (RLIMIT_NPROC, cgroup pids.max)"
    )]
    Thread {
        /// Which one, counted from 0.
        index: usize,
        /// Why.
        source: std::io::Error,
    },
}

impl BuildError {
    pub(crate) fn invalid(what: &'static str, why: impl Into<String>) -> Self {
        BuildError::InvalidArgument { what, why: why.into() }
    }
}

/// Why a shutdown was not even begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShutdownError {
    /// A worker of the pool asked: it would wait for itself.
    #[error(
        "a callback of this pool asked for its shutdown and would wait for itself: call `close` here, and `shutdown` from another thread"
    )]
    FromWorker,
}

/// Why a wait that can be cancelled ended without an answer. The task goes on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The timeout of the wait passed.
    #[error("no answer within {0:?}; the task goes on")]
    TimedOut(Duration),
    /// The token of the wait was cancelled.
    #[error("the wait was cancelled ({0}); the task goes on")]
    Cancelled(CancelReason),
}
