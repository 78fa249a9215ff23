//! The pool's public face: how it is built, its verbs, how it ends.
//!
//! Invariant: a pool that is handed out has its service threads, and under [`Threads::Eager`] all its workers;
//! one that could not be built leaves nothing behind.

use crate::carry::{self, Carry};
use crate::clock;
use crate::config::{Config, Overflow, Threads};
use crate::context;
use crate::error::{BuildError, CancelReason, ShutdownError, SubmitError};
use crate::fork;
use crate::many::SubmitManyError;
use crate::map::Map;
use crate::queue::MAX_CAPACITY;
use crate::report::{Late, Leak, ShutdownReport, Stalled, Stats, TaskRecord, Unobserved, WorkerInfo};
use crate::shared::Shared;
use crate::submit::{Options, Run, SubmitFuture, submit_plain};
use crate::sync::{Arc, Ordering};
use crate::table;
use crate::task::{Plain, Task, WithContext};
use crate::worker::Worker;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::panic::Location;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

/// A bounded worker pool. Cloning makes another handle of the same pool.
///
/// Dropping the last handle never blocks: it closes the pool, which drains in the background for
/// [`drop_drain`](PoolBuilder::drop_drain) and then abandons what is left. Use [`shutdown`](Self::shutdown) to
/// wait for that, and to be told.
///
/// ```
/// use std::time::Duration;
/// let pool = duly::Pool::builder().workers(4).default_timeout(Duration::from_secs(5)).build()?;
/// let task = pool.spawn(|| 6 * 7)?;
/// assert_eq!(task.wait()?, 42);
/// let report = pool.shutdown(Duration::from_secs(1))?;
/// assert!(report.drained);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub struct Pool {
    shared: Arc<Shared>,
}

impl Pool {
    /// A pool with the default options: see [`PoolBuilder`].
    pub fn new() -> Result<Pool, BuildError> {
        Self::builder().build()
    }

    /// The options of a pool.
    pub fn builder() -> PoolBuilder {
        PoolBuilder::default()
    }

    pub(crate) fn from_shared(shared: &Arc<Shared>) -> Pool {
        shared.add_handle();
        Pool { shared: shared.clone() }
    }

    #[inline(always)]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Submits a callback that returns a value. When the queue is full, does what the
    /// [overflow policy](PoolBuilder::overflow) says; by default it blocks until there is room.
    ///
    /// A refused callback comes back with the error.
    #[track_caller]
    #[inline]
    pub fn spawn<F, T>(&self, callback: F) -> Result<Task<T>, SubmitError<F>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        submit_plain(self, Plain(callback, PhantomData), false, Location::caller())
            .map_err(|(refused, callback)| SubmitError::new(refused, callback.0))
    }

    /// [`spawn`](Self::spawn) that never waits: when the queue is full it is refused with `queue_full`, or sheds
    /// as the policy says.
    #[track_caller]
    #[inline]
    pub fn try_spawn<F, T>(&self, callback: F) -> Result<Task<T>, SubmitError<F>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        submit_plain(self, Plain(callback, PhantomData), true, Location::caller())
            .map_err(|(refused, callback)| SubmitError::new(refused, callback.0))
    }

    /// Submits a callback that is told when to stop, and may fail. Blocks as [`spawn`](Self::spawn) does.
    #[track_caller]
    #[inline]
    pub fn submit<F, T, E>(&self, callback: F) -> Result<Task<T, E>, SubmitError<F>>
    where
        F: FnOnce(&crate::Context) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        submit_plain(self, WithContext(callback, PhantomData), false, Location::caller())
            .map_err(|(refused, callback)| SubmitError::new(refused, callback.0))
    }

    /// [`submit`](Self::submit) that never waits.
    #[track_caller]
    #[inline]
    pub fn try_submit<F, T, E>(&self, callback: F) -> Result<Task<T, E>, SubmitError<F>>
    where
        F: FnOnce(&crate::Context) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        submit_plain(self, WithContext(callback, PhantomData), true, Location::caller())
            .map_err(|(refused, callback)| SubmitError::new(refused, callback.0))
    }

    /// [`submit`](Self::submit) that waits for room without holding a thread.
    #[track_caller]
    pub fn submit_async<F, T, E>(&self, callback: F) -> SubmitFuture<F, T, E>
    where
        F: FnOnce(&crate::Context) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        self.options().submit_async(callback)
    }

    /// Submits and awaits the answer in one. If the future is dropped, the task is cancelled with reason
    /// `caller_left`; one still waiting for room is not submitted.
    #[track_caller]
    pub fn run<F, T, E>(&self, callback: F) -> Run<F, T, E>
    where
        F: FnOnce(&crate::Context) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        self.options().run(callback)
    }

    /// [`spawn`](Self::spawn) for many callbacks, with few steps of the queue: see
    /// [`Options::spawn_many`](crate::Options::spawn_many).
    #[track_caller]
    pub fn spawn_many<F, T>(
        &self,
        callbacks: impl IntoIterator<Item = F>,
    ) -> Result<Vec<Task<T>>, SubmitManyError<F, T, Infallible>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.options().spawn_many(callbacks)
    }

    /// [`submit`](Self::submit) for many callbacks, with few steps of the queue: see
    /// [`Options::spawn_many`](crate::Options::spawn_many).
    #[track_caller]
    pub fn submit_many<F, T, E>(
        &self,
        callbacks: impl IntoIterator<Item = F>,
    ) -> Result<Vec<Task<T, E>>, SubmitManyError<F, T, E>>
    where
        F: FnOnce(&crate::Context) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        self.options().submit_many(callbacks)
    }

    /// `function` of each item, on the pool, in chunks; the answers in order, one for each item: see
    /// [`Map`](crate::Map).
    #[track_caller]
    pub fn map<I, F, T>(&self, items: I, function: F) -> Map<'_, I::IntoIter, F, T>
    where
        I: IntoIterator,
        I::Item: Send + 'static,
        F: Fn(I::Item) -> T + Send + Sync + 'static,
        T: Send + 'static,
    {
        self.options().map(items, function)
    }

    /// The same verbs with options for each task: label, timeout, token, …
    #[inline]
    pub fn options(&self) -> Options<'_> {
        Options::new(self)
    }

    /// Accepts no more; what was accepted is still run. Producers that wait for room are refused with
    /// `shut_down`. Never blocks; may be called from a callback.
    pub fn close(&self) {
        self.shared.close();
    }

    /// Cancels what is queued of a pool that was [closed](Self::close), and tells how many tasks that were: nothing more is
    /// started, and what runs goes on. Before the pool is closed it does nothing, for others could go on queueing.
    pub fn cancel_queued(&self, reason: impl Into<CancelReason>) -> usize {
        if self.is_inherited() || !self.is_closed() {
            return 0;
        }
        self.shared.cancel_queued(&reason.into())
    }

    /// Whether the pool accepts no more.
    pub fn is_closed(&self) -> bool {
        self.is_inherited() || self.shared.queue.is_closed()
    }

    /// Whether this is a forked child, and the pool its parent's.
    ///
    /// Such a pool is shut down: a submit is refused with `shut_down`; [`shutdown`](Self::shutdown) answers at once, with a
    /// report that is not `drained` and empty books; tasks that had no outcome are `abandoned`. What it holds is never
    /// freed in the child. A new pool works.
    pub fn is_inherited(&self) -> bool {
        self.shared.is_inherited()
    }

    /// Closes the pool, waits for at most `drain` until everything accepted has ended, and then answers
    /// everything that has not: those tasks are `abandoned` and named in the report.
    ///
    /// Blocks for `drain` plus some 20 ms at most, whatever the callbacks do. Called again, or by several at
    /// once, it waits for the same end; the earliest drain deadline holds. From a callback of this pool it is an
    /// error.
    pub fn shutdown(&self, drain: Duration) -> Result<ShutdownReport, ShutdownError> {
        let began = self.begin_shutdown(drain)?;
        self.shared.wait_done();
        Ok(self.shared.report(began))
    }

    /// [`shutdown`](Self::shutdown) with the pool's own drain time ([`PoolBuilder::drain`]).
    pub fn shutdown_default(&self) -> Result<ShutdownReport, ShutdownError> {
        self.shutdown(self.shared.config.drain)
    }

    /// [`shutdown`](Self::shutdown) without holding a thread. The drain begins now, not at the first poll;
    /// dropping the future does not stop it.
    pub fn shutdown_async(&self, drain: Duration) -> Shutdown {
        Shutdown {
            began: self.begin_shutdown(drain),
            shared: self.shared.clone(),
        }
    }

    fn begin_shutdown(&self, drain: Duration) -> Result<u64, ShutdownError> {
        if !self.is_inherited() && context::inside(&self.shared) {
            return Err(ShutdownError::FromWorker);
        }
        let began = clock::now();
        self.shared.begin_drain(clock::after(drain));
        Ok(began)
    }

    /// The books now. Takes microseconds; never waits for a worker.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// The callbacks that run although their task has its outcome: label, where submitted, age, thread.
    pub fn leaks(&self) -> Vec<Leak> {
        self.shared.leaks()
    }

    /// The callbacks that run now, those of [`leaks`](Self::leaks) included.
    pub fn running(&self) -> Vec<TaskRecord> {
        self.shared.running()
    }

    /// The pool's name.
    pub fn name(&self) -> &str {
        &self.shared.config.name
    }

    /// From now on there are to be so many workers, 1 to 32,767, replacements apart. Never waits for a callback: workers that
    /// are too many end when theirs returns, idle ones at once; those that are missing are created now, or, under
    /// [`Threads::OnDemand`], when there is something to do.
    ///
    /// On [`BuildError::Thread`] some could not be created; the others are there. Where the pool has a
    /// [spawner](PoolBuilder::spawner), it is called on this thread.
    pub fn set_workers(&self, workers: usize) -> Result<(), BuildError> {
        check_workers(workers)?;
        if self.is_closed() {
            return Err(BuildError::ShutDown);
        }
        self.shared
            .set_workers(workers)
            .map_err(|(missing, source)| BuildError::Thread {
                index: workers - missing.min(workers),
                source,
            })
    }

    /// A worker for a thread that the caller brings, under [`Threads::Host`]: [`Worker::run`] works on it until
    /// the pool is closed. `None` when there are as many workers as the pool was built for.
    pub fn worker(&self) -> Option<Worker> {
        Worker::new(&self.shared, false)
    }
}

impl crate::Context {
    /// The pool this task runs in.
    pub fn pool(&self) -> Pool {
        Pool::from_shared(self.shared())
    }
}

impl Worker {
    /// The pool it belongs to.
    pub fn pool(&self) -> Pool {
        Pool::from_shared(&self.shared)
    }
}

impl Clone for Pool {
    fn clone(&self) -> Self {
        Self::from_shared(&self.shared)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if self.is_inherited() {
            fork::keep(&self.shared);
        } else if self.shared.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.begin_drain(clock::after(self.shared.config.drop_drain));
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.name())
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

/// Future of [`Pool::shutdown_async`].
#[must_use = "futures do nothing unless polled"]
pub struct Shutdown {
    began: Result<u64, ShutdownError>,
    shared: Arc<Shared>,
}

#[cfg(feature = "signals")]
impl Shutdown {
    /// The end of a pool that somebody else brings about.
    pub(crate) fn of(shared: Arc<Shared>) -> Shutdown {
        Shutdown {
            began: Ok(clock::now()),
            shared,
        }
    }
}

impl Future for Shutdown {
    type Output = Result<ShutdownReport, ShutdownError>;

    fn poll(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        match self.began {
            Err(error) => Poll::Ready(Err(error)),
            Ok(began) if self.shared.poll_done(cx.waker()) => {
                self.shared.join();
                Poll::Ready(Ok(self.shared.report(began)))
            }
            Ok(_) => Poll::Pending,
        }
    }
}

impl Drop for Shutdown {
    fn drop(&mut self) {
        if self.shared.is_inherited() {
            fork::keep(&self.shared);
        }
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shutdown")
            .field("pool", &self.shared.config.name)
            .finish_non_exhaustive()
    }
}

/// The options of a pool, and their defaults.
#[must_use = "a builder does nothing until `build` is called"]
pub struct PoolBuilder {
    config: Config,
    workers: Option<usize>,
    capacity: usize,
    max_blocked_producers: Option<usize>,
    max_replacements: Option<usize>,
}

impl Default for PoolBuilder {
    fn default() -> Self {
        PoolBuilder {
            config: Config {
                name: "duly".to_owned(),
                workers: 0,
                overflow: Overflow::Block,
                replace_after: Duration::from_millis(100),
                max_replacements: 0,
                default_timeout: None,
                drain: Duration::from_secs(25),
                drop_drain: Duration::from_secs(10),
                stack_size: None,
                threads: Threads::Eager,
                spawner: None,
                context: None,
                plain: true,
                on_worker_start: None,
                on_worker_stop: None,
                on_late: None,
                on_stalled: None,
                on_unobserved: None,
            },
            workers: None,
            capacity: 1024,
            max_blocked_producers: None,
            max_replacements: None,
        }
    }
}

const MAX_WORKERS: usize = 32_767;
const MAX_STACK: usize = 1 << 30;

fn check_workers(workers: usize) -> Result<(), BuildError> {
    if !(1..=MAX_WORKERS).contains(&workers) {
        let why = format!("{workers} is not within 1 to {MAX_WORKERS}");
        return Err(BuildError::invalid("workers", why));
    }
    Ok(())
}

impl PoolBuilder {
    /// The pool's name: in messages, and at the start of its threads' names. Default: `duly`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.config.name = name.into();
        self
    }

    /// How many workers, 1 to 32,767. Default: the parallelism this process may use, with its cgroup quota and
    /// affinity counted.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// How many tasks may be queued, 1 to 8,388,608. Default: 1024.
    pub fn capacity(mut self, capacity: usize) -> Self {
        self.capacity = capacity;
        self
    }

    /// What a submit does when the queue is full. Default: [`Overflow::Block`].
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.config.overflow = overflow;
        self
    }

    /// How many producers, async ones included, may wait for room; more are refused with `queue_full`. Default:
    /// the capacity.
    pub fn max_blocked_producers(mut self, producers: usize) -> Self {
        self.max_blocked_producers = Some(producers);
        self
    }

    /// How long a callback may run on after its task has its outcome before another thread takes the worker's
    /// place. Default: 100 ms.
    pub fn replace_after(mut self, span: Duration) -> Self {
        self.config.replace_after = span;
        self
    }

    /// How many workers may be replaced at the same time. Default: the number of workers.
    pub fn max_replacements(mut self, replacements: usize) -> Self {
        self.max_replacements = Some(replacements);
        self
    }

    /// The timeout of tasks submitted without one. Default: none.
    pub fn default_timeout(mut self, timeout: Duration) -> Self {
        self.config.default_timeout = Some(timeout);
        self
    }

    /// How long [`Pool::shutdown_default`] drains. Default: 25 s.
    pub fn drain(mut self, drain: Duration) -> Self {
        self.config.drain = drain;
        self
    }

    /// How long the pool drains in the background after its last handle was dropped. Default: 10 s.
    pub fn drop_drain(mut self, drain: Duration) -> Self {
        self.config.drop_drain = drain;
        self
    }

    /// The stack size of the workers, in bytes, at most 1 GiB. Default: that of `std::thread`. Not for a spawner's threads.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.config.stack_size = Some(bytes);
        self
    }

    /// Where threads come from. Default: [`Threads::Eager`].
    pub fn threads(mut self, threads: Threads) -> Self {
        self.config.threads = threads;
        self
    }

    /// Creates workers' threads in the host's way: it is given a [`Worker`] and has it [run](Worker::run) on a
    /// new thread. Replacements are created by it too, from the delivery thread; under [`Threads::Host`] they alone.
    pub fn spawner(mut self, spawner: impl Fn(Worker) -> io::Result<()> + Send + Sync + 'static) -> Self {
        self.config.spawner = Some(Arc::new(spawner));
        self
    }

    /// Carries context of the submitting thread over to each callback: see [`Carry`]. May be given several times: the first
    /// is entered first and left last.
    pub fn context(mut self, carry: impl Carry) -> Self {
        self.config.context = Some(carry::stack(self.config.context.take(), carry));
        self
    }

    /// Called on each worker's thread before its first task. A panic is logged.
    pub fn on_worker_start(mut self, hook: impl Fn(&WorkerInfo) + Send + Sync + 'static) -> Self {
        self.config.on_worker_start = Some(Arc::new(hook));
        self
    }

    /// Called on each worker's thread after its last task. A panic is logged.
    pub fn on_worker_stop(mut self, hook: impl Fn(&WorkerInfo) + Send + Sync + 'static) -> Self {
        self.config.on_worker_stop = Some(Arc::new(hook));
        self
    }

    /// Called on the worker when a callback returns after its task had its outcome.
    pub fn on_late(mut self, hook: impl Fn(&Late) + Send + Sync + 'static) -> Self {
        self.config.on_late = Some(Arc::new(hook));
        self
    }

    /// Called on the delivery thread when every worker is stuck and no replacement is left.
    pub fn on_stalled(mut self, hook: impl Fn(&Stalled) + Send + Sync + 'static) -> Self {
        self.config.on_stalled = Some(Arc::new(hook));
        self
    }

    /// Called when the last handle of a failed or panicked task is dropped before anyone looked at its outcome, on
    /// the thread that drops it.
    pub fn on_unobserved(mut self, hook: impl Fn(&Unobserved) + Send + Sync + 'static) -> Self {
        self.config.on_unobserved = Some(Arc::new(hook));
        self
    }

    /// Builds the pool. On an error nothing of it is left.
    pub fn build(self) -> Result<Pool, BuildError> {
        let pool = self.build_without_threads()?;
        if let Err(source) = pool.shared.start_service() {
            pool.shared.undo_build();
            return Err(BuildError::Thread { index: 0, source });
        }
        if pool.shared.config.threads == Threads::Eager {
            for index in 0..pool.shared.config.workers {
                if let Err(source) = pool.shared.spawn_worker() {
                    pool.shared.undo_build();
                    return Err(BuildError::Thread { index, source });
                }
            }
        }
        Ok(pool)
    }

    /// All of a pool but its threads; dropping it undoes what has been done.
    pub(crate) fn build_without_threads(mut self) -> Result<Pool, BuildError> {
        let workers = match self.workers {
            Some(workers) => workers,
            None => std::thread::available_parallelism().map_or(1, usize::from),
        };
        check_workers(workers)?;
        if !(1..=MAX_CAPACITY).contains(&self.capacity) {
            let why = format!("{} is not within 1 to {MAX_CAPACITY}", self.capacity);
            return Err(BuildError::invalid("capacity", why));
        }
        let replacements = self.max_replacements.unwrap_or(workers);
        if replacements > MAX_WORKERS {
            let why = format!("{replacements} is more than {MAX_WORKERS}");
            return Err(BuildError::invalid("max_replacements", why));
        }
        if self.config.name.contains('\0') {
            return Err(BuildError::invalid(
                "name",
                "it contains a NUL character, which thread names cannot",
            ));
        }
        if self.config.stack_size.is_some_and(|bytes| bytes > MAX_STACK) {
            let why = format!(
                "{} is more than {MAX_STACK} bytes",
                self.config.stack_size.unwrap_or_default()
            );
            return Err(BuildError::invalid("stack_size", why));
        }
        self.config.plain = self.config.default_timeout.is_none() && self.config.context.is_none();
        self.config.workers = workers;
        self.config.max_replacements = replacements;
        let Some(number) = table::reserve() else {
            return Err(BuildError::invalid(
                "name",
                "65,536 pools live in this process, inherited ones included; drop some",
            ));
        };
        let max_blocked = self.max_blocked_producers.unwrap_or(self.capacity);
        let shared = Shared::new(number, self.config, self.capacity, max_blocked);
        Ok(Pool { shared })
    }
}

impl fmt::Debug for PoolBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuilder")
            .field("name", &self.config.name)
            .field("workers", &self.workers)
            .field("capacity", &self.capacity)
            .field("overflow", &self.config.overflow)
            .finish_non_exhaustive()
    }
}
