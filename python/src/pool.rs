//! `duly.Pool`.
//!
//! Keeps true: the last reference from Python closes the pool and lets it drain in the background, as in core; what
//! exit needs to find a pool again does not keep it alive.

use std::future::Future;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use duly::Overflow;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::exit::{self, Process};
use crate::hooks::Hooks;
use crate::periodic::Periodic;
use crate::queues::{Queue, Wanted};
use crate::report::{ShutdownReport, Stats, TaskRecord};
use crate::signals::{self, Binding};
use crate::submit::{Choices, Request};
use crate::task::Task;
use crate::threads::{self, Threads};
use crate::{errors, later, options, submit, time, wait};

/// How long a shutdown waits for what native callbacks kept alive to be let go of.
const SETTLED: Duration = Duration::from_secs(1);

/// How many pools were made.
static SERIAL: AtomicU64 = AtomicU64::new(0);

/// More workers than this are not the default, however many processors there are.
const MOST_WORKERS: usize = 32;

/// What the handles of a pool in Python share, in one process: a forked child that goes on with the pool has another.
pub(crate) struct Shared {
    pub(crate) pool: duly::Pool,
    pub(crate) name: String,
    pub(crate) overflow: Overflow,
    pub(crate) threads: Arc<Threads>,
    made: Made,
    binding: Binding,
    /// At exit: how long after the last task ended to give up. None: never.
    pub(crate) exit_timeout: Option<Duration>,
    /// Tells pools apart, also when they are gone.
    serial: u64,
    /// The process that has its threads.
    pub(crate) process: Process,
    /// The same pool in a forked child, where it is empty and usable again.
    child: OnceLock<Arc<Shared>>,
}

/// How a pool was made, to make it again.
struct Made {
    workers: usize,
    capacity: usize,
    default_timeout: Option<Duration>,
    max_blocked_producers: Option<usize>,
    replace_after: Duration,
    max_replacements: Option<usize>,
    drop_drain: Duration,
    /// Its owner creates the threads by `_add_worker`.
    host: bool,
    starter: Option<Py<PyAny>>,
    hooks: Hooks,
    /// Whether a forked child goes on with the pool.
    restart: bool,
    native: bool,
}

impl Made {
    fn again(&self, py: Python<'_>) -> Self {
        Made {
            starter: self.starter.as_ref().map(|starter| starter.clone_ref(py)),
            hooks: self.hooks.again(),
            ..*self
        }
    }
}

impl Shared {
    fn build(
        py: Python<'_>,
        name: &str,
        overflow: Overflow,
        exit_timeout: Option<Duration>,
        made: Made,
    ) -> PyResult<Arc<Self>> {
        let threads = Arc::new(Threads::new(made.starter.as_ref().map(|starter| starter.clone_ref(py))));
        let spawner = Arc::clone(&threads);
        let native = made.native;
        let mut builder = duly::Pool::builder()
            .name(name)
            .workers(made.workers)
            .capacity(made.capacity)
            .overflow(overflow)
            .replace_after(made.replace_after)
            .drop_drain(made.drop_drain)
            .threads(if made.host {
                duly::Threads::Host
            } else {
                duly::Threads::OnDemand
            })
            .spawner(move |worker| match native {
                true => threads::start_native(worker),
                false => spawner.spawn(worker),
            });
        builder = made.hooks.again().install(builder);
        if let Some(most) = made.max_blocked_producers {
            builder = builder.max_blocked_producers(most);
        }
        if let Some(most) = made.max_replacements {
            builder = builder.max_replacements(most);
        }
        if let Some(timeout) = made.default_timeout {
            builder = builder.default_timeout(timeout);
        }
        let pool = builder.build().map_err(|error| errors::build(py, &error))?;
        let shared = Arc::new(Shared {
            pool,
            name: name.to_owned(),
            overflow,
            threads,
            made,
            binding: Binding::default(),
            exit_timeout,
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
            process: Process::here(),
            child: OnceLock::new(),
        });
        exit::remember(&shared);
        Ok(shared)
    }

    /// This pool in this process.
    pub(crate) fn here(self: &Arc<Self>, py: Python<'_>) -> PyResult<&Arc<Self>> {
        let mut shared = self;
        while shared.process != Process::here() {
            shared = match shared.child.get() {
                Some(child) => child,
                None if !shared.made.restart => return Err(errors::forked(py, &shared.name)),
                None => {
                    let made = shared.made.again(py);
                    let child = Self::build(py, &shared.name, shared.overflow, shared.exit_timeout, made)?;
                    shared.child.get_or_init(|| child)
                }
            };
        }
        Ok(shared)
    }

    /// The same, or the one that was inherited: it can be asked, though it accepts nothing.
    fn here_or_inherited(self: &Arc<Self>, py: Python<'_>) -> PyResult<&Arc<Self>> {
        if self.made.restart { self.here(py) } else { Ok(self) }
    }

    /// Whether its callbacks are native, and its workers never attach.
    pub(crate) fn native(&self) -> bool {
        self.made.native
    }

    /// Whether it is the parent's, and this a forked child.
    pub(crate) fn is_inherited(&self) -> bool {
        self.process != Process::here()
    }

    /// How many workers it was made for.
    pub(crate) fn workers(&self) -> usize {
        self.made.workers
    }

    /// Shuts down, and waits for the threads to be gone from the interpreter too.
    pub(crate) fn shutdown(&self, py: Python<'_>, drain: Duration) -> PyResult<ShutdownReport> {
        shutdown(py, &self.pool, &self.threads, drain)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if self.process != Process::here() {
            // Without its threads it cannot be drained. The handle that is left behind keeps core from trying.
            std::mem::forget(self.pool.clone());
            return;
        }
        // As core's own drop does it; but exit can find the pool for as long as it drains.
        let mut shutdown = self.pool.shutdown_async(self.made.drop_drain);
        let begun = Pin::new(&mut shutdown).poll(&mut Context::from_waker(Waker::noop()));
        // From a callback of this very pool it is refused, and left to core.
        if !matches!(begun, Poll::Ready(Err(_))) {
            exit::forsaken(&self.pool, &self.threads, self.exit_timeout);
        }
    }
}

/// Shuts a pool down, and waits for its threads to be gone from the interpreter too.
pub(crate) fn shutdown(
    py: Python<'_>,
    pool: &duly::Pool,
    threads: &Threads,
    drain: Duration,
) -> PyResult<ShutdownReport> {
    let mut shutdown = pool.shutdown_async(drain);
    // Its last poll joins core's threads, which may want the interpreter.
    let report = wait::poll(py, |waker| {
        py.detach(|| Pin::new(&mut shutdown).poll(&mut Context::from_waker(waker)))
    })?
    .map_err(|error| errors::shutdown(py, &error, pool.name()))?;
    ended(py, pool, threads, &report)
}

/// A pool has come to its end: now its threads are gone from the interpreter, too.
fn ended(
    py: Python<'_>,
    pool: &duly::Pool,
    threads: &Threads,
    report: &duly::ShutdownReport,
) -> PyResult<ShutdownReport> {
    if !pool.is_inherited() {
        threads.join(py, report.threads_left)?;
        py.detach(|| later::settled(later::handed(), SETTLED));
    }
    Ok(ShutdownReport::new(report))
}

/// The native half of `duly.Pool`.
#[pyclass(frozen, weakref, subclass, module = "duly._duly")]
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

impl Pool {
    /// One more handle of a pool.
    pub(crate) fn of(shared: Arc<Shared>) -> Self {
        Pool { shared }
    }

    /// The pool in this process.
    pub(crate) fn shared(&self, py: Python<'_>) -> PyResult<&Arc<Shared>> {
        self.shared.here_or_inherited(py)
    }
}

#[pymethods]
impl Pool {
    #[new]
    #[pyo3(signature = (
        workers=None, *, capacity=1024, overflow="block", default_timeout=None, on_fork="restart", exit_timeout=10.0,
        name="duly", initializer=None, initargs=None, max_blocked_producers=None, replace_after=0.1,
        max_replacements=None, drop_drain=10.0, on_late=None, on_stalled=None, on_unobserved=None, on_worker_start=None,
        on_worker_stop=None, _starter=None, _native=false
    ))]
    #[expect(clippy::too_many_arguments, reason = "the keywords of a Python constructor")]
    fn new(
        py: Python<'_>,
        workers: Option<usize>,
        capacity: usize,
        overflow: &str,
        default_timeout: Option<f64>,
        on_fork: &str,
        exit_timeout: Option<f64>,
        name: &str,
        initializer: Option<Bound<'_, PyAny>>,
        initargs: Option<Bound<'_, PyAny>>,
        max_blocked_producers: Option<usize>,
        replace_after: f64,
        max_replacements: Option<usize>,
        drop_drain: f64,
        on_late: Option<Bound<'_, PyAny>>,
        on_stalled: Option<Bound<'_, PyAny>>,
        on_unobserved: Option<Bound<'_, PyAny>>,
        on_worker_start: Option<Bound<'_, PyAny>>,
        on_worker_stop: Option<Bound<'_, PyAny>>,
        _starter: Option<Py<PyAny>>,
        _native: bool,
    ) -> PyResult<Self> {
        let restart = match on_fork {
            "restart" => true,
            "shut_down" => false,
            _ => {
                let message = format!("on_fork={on_fork:?} is none of restart, shut_down");
                return Err(errors::invalid_argument(py, &message));
            }
        };
        let host = _starter.is_some();
        let starter = match initializer {
            Some(initializer) if !initializer.is_callable() => {
                let kind = errors::kind_of(&initializer);
                return Err(errors::type_error(&format!("initializer must be callable, not {kind}")));
            }
            Some(initializer) => {
                let module = py.import("duly._workers")?;
                Some(
                    module
                        .call_method1("with_initializer", (initializer, initargs, name))?
                        .unbind(),
                )
            }
            None => _starter,
        };
        let made = Made {
            workers: workers.unwrap_or_else(default_workers),
            capacity,
            default_timeout: time::limit(py, "default_timeout", default_timeout)?,
            max_blocked_producers,
            replace_after: time::span(py, "replace_after", replace_after)?,
            max_replacements,
            drop_drain: time::span(py, "drop_drain", drop_drain)?,
            host,
            starter,
            hooks: Hooks::new([on_late, on_stalled, on_unobserved, on_worker_start, on_worker_stop])?,
            restart,
            native: _native,
        };
        let overflow = policy(py, overflow)?;
        let exit_timeout = time::limit(py, "exit_timeout", exit_timeout)?;
        let shared = Shared::build(py, name, overflow, exit_timeout, made)?;
        Ok(Pool { shared })
    }

    /// Submits `callback(*args, **kwargs)` and returns its Task. Waits for room in the queue by the overflow policy.
    /// Raises on a thread with a running event loop: use asubmit there.
    #[pyo3(signature = (*args, **kwargs), text_signature = "($self, callback, /, *args, **kwargs)")]
    fn submit<'py>(
        &self,
        py: Python<'py>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Py<Task>> {
        let request = Request::new(self.shared.native(), args, kwargs)?;
        submit::submit(py, self.shared.here(py)?, &Choices::default(), &request)
    }

    /// As submit, but never waits: without room it raises QueueFull, or sheds where the overflow policy says so.
    #[pyo3(signature = (*args, **kwargs), text_signature = "($self, callback, /, *args, **kwargs)")]
    fn try_submit<'py>(
        &self,
        py: Python<'py>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Py<Task>> {
        let request = Request::new(self.shared.native(), args, kwargs)?;
        submit::try_submit(py, self.shared.here(py)?, &Choices::default(), &request)
    }

    /// Submits without waiting on this thread: a Task; or an Admission, of whose end waiting() is told: waiting()(answer).
    #[pyo3(signature = (waiting, /, *args, **kwargs), text_signature = "($self, waiting, callback, /, *args, **kwargs)")]
    fn _admit<'py>(
        &self,
        waiting: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        let py = waiting.py();
        let request = Request::new(self.shared.native(), args, kwargs)?;
        submit::admit(py, self.shared.here(py)?, &Choices::default(), &request, waiting)
    }

    /// Submits the call of a concurrent.futures future: its Task, or its Admission.
    #[pyo3(signature = (*args), text_signature = "($self, future, fn, args, kwargs, /)")]
    fn _submit_future<'py>(&self, py: Python<'py>, args: &Bound<'py, PyTuple>) -> PyResult<Py<PyAny>> {
        submit::submit_future(py, self.shared.here(py)?, args)
    }

    /// Starts one more thread, for a pool whose owner does so. False: there are as many as the pool was made for.
    fn _add_worker(&self, py: Python<'_>) -> PyResult<bool> {
        let shared = self.shared.here(py)?;
        match shared.pool.worker() {
            Some(worker) => shared.threads.start(py, worker).map(|()| true),
            None => Ok(false),
        }
    }

    /// Calls `callback(*args, **kwargs)` every `period` seconds, each run a task.
    #[pyo3(
        signature = (period, missed, overlap, max_failures, jitter, /, *args, **kwargs),
        text_signature = "($self, period, missed, overlap, max_failures, jitter, callback, /, *args, **kwargs)"
    )]
    #[expect(clippy::too_many_arguments, reason = "the keywords of a Python method")]
    fn _every<'py>(
        &self,
        py: Python<'py>,
        period: f64,
        missed: &str,
        overlap: bool,
        max_failures: Option<u64>,
        jitter: f64,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Periodic> {
        let rhythm = options::rhythm(py, period, missed, overlap, max_failures, jitter)?;
        let request = Request::new(self.shared.native(), args, kwargs)?;
        submit::every(py, self.shared.here(py)?, &Choices::default(), &request, rhythm)
    }

    /// Adds a queue to the pool, with a capacity, an overflow policy and limits of its own. Of a queue of weight 3 three
    /// tasks are started before it is the next one's turn. `limit`: how many of its callbacks may run at the same time;
    /// `key_limit`: how many of those with the same key; `key_capacity`: how many tasks of the same key may be queued.
    #[pyo3(signature = (
        name, *, capacity=1024, overflow="block", max_blocked_producers=None, weight=1, limit=None, key_limit=None,
        key_capacity=None
    ))]
    #[expect(clippy::too_many_arguments, reason = "the keywords of a Python method")]
    fn queue(
        &self,
        py: Python<'_>,
        name: &str,
        capacity: usize,
        overflow: &str,
        max_blocked_producers: Option<usize>,
        weight: u32,
        limit: Option<usize>,
        key_limit: Option<usize>,
        key_capacity: Option<usize>,
    ) -> PyResult<Queue> {
        let wanted = Wanted {
            capacity,
            overflow,
            max_blocked_producers,
            weight,
            limit,
            key_limit,
            key_capacity,
        };
        Queue::add(py, self.shared.here(py)?, name, wanted)
    }

    /// The queue of the tasks that name no other.
    #[getter]
    fn default_queue(&self, py: Python<'_>) -> PyResult<Queue> {
        let shared = self.shared.here(py)?;
        Ok(Queue::of(shared.pool.default_queue(), shared))
    }

    /// From now on no task of any queue is started; deadlines, cancellations and the end of the pool still end them.
    fn pause(&self, py: Python<'_>) -> PyResult<()> {
        self.shared.here(py)?.pool.pause();
        Ok(())
    }

    /// Undoes `pause`.
    fn resume(&self, py: Python<'_>) -> PyResult<()> {
        self.shared.here(py)?.pool.resume();
        Ok(())
    }

    /// Changes the number of workers. Those that are too many end when their callbacks have returned.
    fn set_workers(&self, py: Python<'_>, workers: usize) -> PyResult<()> {
        let set = self.shared.here(py)?.pool.set_workers(workers);
        set.map_err(|error| errors::build(py, &error))
    }

    /// How many workers the pool was made for.
    #[getter]
    fn _workers(&self) -> usize {
        self.shared.workers()
    }

    /// A number that no other pool of this process has.
    #[getter]
    fn _serial(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.shared(py)?.serial)
    }

    /// Its threads whose loop has not ended.
    fn _threads(&self, py: Python<'_>) -> PyResult<Vec<Py<PyAny>>> {
        Ok(self.shared(py)?.threads.running(py))
    }

    /// Waits up to `seconds` until nothing is queued or running.
    fn _rested(&self, py: Python<'_>, seconds: f64) -> PyResult<bool> {
        let pool = &self.shared(py)?.pool;
        let limit = time::span(py, "seconds", seconds)?;
        wait::until(py, Some(limit), |slice| {
            let rested = exit::at_rest(&pool.stats());
            if !rested {
                std::thread::sleep(slice.min(Duration::from_millis(1)));
            }
            rested
        })
    }

    /// Cancels what is queued of a closed pool, and tells how many tasks that were.
    fn _cancel_queued(&self, py: Python<'_>, reason: &str) -> PyResult<usize> {
        let pool = &self.shared(py)?.pool;
        Ok(py.detach(|| pool.cancel_queued(reason)))
    }

    /// Accepts no more tasks. What was accepted is still run.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.shared(py)?.pool.close();
        Ok(())
    }

    /// Whether the pool accepts no more tasks.
    #[getter]
    fn closed(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.shared(py)?.pool.is_closed())
    }

    /// Closes, waits up to `drain` seconds (None: without limit) for what was accepted, abandons the rest, and reports.
    #[pyo3(signature = (drain=25.0))]
    fn shutdown(&self, py: Python<'_>, drain: Option<f64>) -> PyResult<ShutdownReport> {
        let drain = time::limit(py, "drain", drain)?;
        self.shared(py)?.shutdown(py, drain.unwrap_or(Duration::MAX))
    }

    /// The first of these signals that comes closes the pool and begins its drain, the next one abandons what is left: after
    /// the first the pool has come to its end, and the process is ready to exit, within `grace` seconds. SIGTERM, SIGINT,
    /// SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 can be named. Handlers that the program has still run, Ctrl-C still raises
    /// KeyboardInterrupt; that a signal ends the process by default is held back while the pool is there. What
    /// `signal.signal` is given later takes the signal for itself, until the main thread binds something to it again or calls
    /// wait_shutdown. Binding again replaces what was bound; no signals: nothing is bound any more. In a forked child nobody is.
    #[pyo3(signature = (signals, grace=25.0))]
    fn shutdown_on(&self, py: Python<'_>, signals: &Bound<'_, PyAny>, grace: f64) -> PyResult<()> {
        let signals = signals::read(signals)?;
        let grace = time::span(py, "grace", grace)?;
        let shared = self.shared.here(py)?;
        shared.binding.bind(py, &shared.pool, signals, grace)
    }

    /// Waits until a pool that is bound to signals has come to its end, by a signal or by another shutdown, and reports. None:
    /// the wait timed out, and the pool goes on. What a main thread does while others serve.
    #[pyo3(signature = (timeout=None))]
    fn wait_shutdown(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<ShutdownReport>> {
        let limit = time::limit(py, "timeout", timeout)?;
        let shared = self.shared.here(py)?;
        match shared.binding.wait(py, &shared.pool, limit)? {
            Some(report) => ended(py, &shared.pool, &shared.threads, &report).map(Some),
            None => Ok(None),
        }
    }

    /// The signal that came first, of those that the pool is bound to; None: none has come.
    #[getter]
    fn signal(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let shared = self.shared(py)?;
        let received = if shared.is_inherited() {
            None
        } else {
            shared.binding.received()
        };
        let named = |number| PyResult::Ok(py.import("signal")?.getattr("Signals")?.call1((number,))?.unbind());
        received.map(named).transpose()
    }

    /// What the pool has counted.
    fn stats(&self, py: Python<'_>) -> PyResult<Stats> {
        Ok(Stats::new(&self.shared(py)?.pool.stats()))
    }

    /// The callbacks that still run although their task has its outcome.
    fn leaks(&self, py: Python<'_>) -> PyResult<Vec<TaskRecord>> {
        Ok(self.shared(py)?.pool.leaks().iter().map(TaskRecord::from).collect())
    }

    /// Every callback that runs now.
    fn running(&self, py: Python<'_>) -> PyResult<Vec<TaskRecord>> {
        Ok(self.shared(py)?.pool.running().iter().map(TaskRecord::from).collect())
    }

    /// The pool's name; its threads are called by it.
    #[getter]
    fn name(&self) -> &str {
        &self.shared.name
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let shared = self.shared(py)?;
        let stats = shared.pool.stats();
        let closed = if shared.pool.is_closed() { " closed" } else { "" };
        Ok(format!(
            "<duly.Pool {:?}{closed} workers={} queued={} running={}>",
            shared.name, stats.workers, stats.queued, stats.running
        ))
    }
}

/// The parallelism this process may use, and some more for callbacks that wait.
fn default_workers() -> usize {
    let parallelism = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    (parallelism + 4).min(MOST_WORKERS)
}

pub(crate) fn policy(py: Python<'_>, name: &str) -> PyResult<Overflow> {
    Ok(match name {
        "block" => Overflow::Block,
        "reject" => Overflow::Reject,
        "drop_newest" => Overflow::DropNewest,
        "drop_oldest" => Overflow::DropOldest,
        "caller_runs" => Overflow::CallerRuns,
        _ => {
            let known = "block, reject, drop_newest, drop_oldest, caller_runs";
            return Err(errors::invalid_argument(
                py,
                &format!("overflow={name:?} is none of {known}"),
            ));
        }
    })
}
