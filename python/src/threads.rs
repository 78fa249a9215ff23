//! The threads of pools: `threading.Thread`s whose target is core's loop.
//!
//! Keeps true:
//! 1. A worker is attached once, for its whole life, and detached only inside core's waits.
//! 2. A thread that cannot be started is an error for core, and its worker is dropped unrun.
//! 3. A thread is listed from before its start until it is joined, so shutdown and exit find each.
//! 4. The lock is a leaf: nothing of Python runs under it.
//! 5. Once pools were drained at exit, core's own threads start no more of them, and none is half started: before 3.12 the
//!    interpreter, on its way out, frees the state of a thread that has not begun.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use duly::Worker;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::callback::{self, Held};
use crate::{later, states, wait};

/// How long to wait for threads whose loop has ended to be gone from the interpreter too.
const GONE: Duration = Duration::from_secs(1);

/// How long to wait for a start under way, which ends by itself.
const STARTED: Duration = Duration::from_secs(10);

/// The threads of one pool. Core's spawner holds it as long as the pool lives, workers as long as they do.
pub(crate) struct Threads {
    entries: Mutex<Vec<Entry>>,
    /// `start(loop, name)` starts a thread and returns it; None: `duly._workers.start`.
    starter: Option<Held<Py<PyAny>>>,
}

struct Entry {
    running: Arc<Running>,
    thread: Option<Held<Py<PyAny>>>,
}

/// Alive as long as the loop of its thread is; the list keeps a second reference.
struct Running;

/// How many threads are being started. Changed, as [`EXITING`] is, by threads that hold the interpreter.
static STARTING: AtomicUsize = AtomicUsize::new(0);
/// Whether pools have been drained at exit.
static EXITING: AtomicBool = AtomicBool::new(false);

/// A start under way.
struct Starting;

impl Starting {
    fn new() -> Self {
        STARTING.fetch_add(1, Ordering::SeqCst);
        Starting
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        STARTING.fetch_sub(1, Ordering::SeqCst);
    }
}

/// To be called in each forked child: what was being started is the parent's.
pub(crate) fn after_fork_in_child() {
    STARTING.store(0, Ordering::SeqCst);
    // It lives on, whatever the parent was about to do.
    EXITING.store(false, Ordering::SeqCst);
}

/// To be called when pools have been drained at exit: from here on only a thread that submits starts workers, and what was
/// being started is there when this returns.
pub(crate) fn start_no_more(py: Python<'_>) {
    EXITING.store(true, Ordering::SeqCst);
    let end = Instant::now() + STARTED;
    while STARTING.load(Ordering::SeqCst) > 0 && Instant::now() < end {
        py.detach(|| std::thread::sleep(Duration::from_micros(200)));
    }
}

static START: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// What starts a thread. Found while the module is imported: threads of a pool import nothing.
pub(crate) fn start_of(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    START.import(py, "duly._workers", "start")
}

impl Threads {
    pub(crate) fn new(starter: Option<Py<PyAny>>) -> Self {
        Threads {
            entries: Mutex::default(),
            starter: starter.map(Held::new),
        }
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Core's spawner. Core calls it on its delivery thread, which may wait for the interpreter.
    pub(crate) fn spawn(self: &Arc<Self>, worker: Worker) -> io::Result<()> {
        let start = |py: Python<'_>| {
            if EXITING.load(Ordering::SeqCst) {
                return Err(io::Error::other("the interpreter exits"));
            }
            self.start(py, worker)
                .map_err(|error| io::Error::other(error.to_string()))
        };
        match states::try_attach(start) {
            Some(started) => started,
            None => Err(io::Error::other("the interpreter is gone")),
        }
    }

    /// Starts a thread for a worker.
    pub(crate) fn start(&self, py: Python<'_>, worker: Worker) -> PyResult<()> {
        let _starting = Starting::new();
        let name = worker.thread_name();
        let running = Arc::new(Running);
        let target = WorkerLoop(Mutex::new(Some((worker, Arc::clone(&running)))));
        let target = Bound::new(py, target)?;
        self.forget_ended();
        let entry = Entry { running, thread: None };
        let listed = Arc::clone(&entry.running);
        self.entries().push(entry);
        let started = (&target, name).into_pyobject(py).and_then(|args| match &self.starter {
            Some(starter) => callback::call(starter.get().bind(py), &args, None),
            None => callback::call(start_of(py)?, &args, None),
        });
        if started.is_err() {
            // Nobody will call the target: the worker goes back to core now, not when the exception is collected.
            drop(target.get().take());
        }
        let mut entries = self.entries();
        let position = entries.iter().position(|entry| Arc::ptr_eq(&entry.running, &listed));
        match (started, position) {
            (Ok(thread), Some(position)) => entries[position].thread = Some(Held::new(thread.unbind())),
            (Ok(_), None) => {}
            (Err(error), position) => {
                position.map(|position| entries.swap_remove(position));
                return Err(error);
            }
        }
        Ok(())
    }

    /// Threads whose loop has not ended.
    pub(crate) fn alive(&self) -> usize {
        self.entries().iter().filter(|entry| entry.is_running()).count()
    }

    /// The threads whose loop has not ended.
    pub(crate) fn running(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        let entries = self.entries();
        let running = entries.iter().filter(|entry| entry.is_running());
        running
            .filter_map(|entry| Some(entry.thread.as_ref()?.get().clone_ref(py)))
            .collect()
    }

    fn forget_ended(&self) {
        // Dropped after the lock is released.
        let _ended: Vec<_> = {
            let mut entries = self.entries();
            let (running, ended) = std::mem::take(&mut *entries).into_iter().partition(Entry::is_running);
            *entries = running;
            ended
        };
    }

    /// Joins every thread but `left`, which sit in callbacks that were abandoned.
    pub(crate) fn join(&self, py: Python<'_>, left: usize) -> PyResult<()> {
        let end = Instant::now() + GONE;
        wait::until(py, Some(GONE), |_| {
            // Their loops have ended or are about to: what is missing is their turn with the interpreter.
            let done = self.alive() <= left;
            if !done {
                std::thread::sleep(Duration::from_micros(200));
            }
            done
        })?;
        let ended: Vec<Py<PyAny>> = {
            let mut entries = self.entries();
            let (running, ended): (Vec<_>, Vec<_>) =
                std::mem::take(&mut *entries).into_iter().partition(Entry::is_running);
            *entries = running;
            ended
                .into_iter()
                .filter_map(|entry| entry.thread)
                .map(Held::into_inner)
                .collect()
        };
        for thread in ended {
            let left = end.saturating_duration_since(Instant::now()).as_secs_f64();
            thread.call_method1(py, intern!(py, "join"), (left,))?;
        }
        Ok(())
    }
}

/// Core's spawner of a native pool: its workers are none of the interpreter's business.
pub(crate) fn start_native(worker: Worker) -> io::Result<()> {
    let thread = std::thread::Builder::new().name(worker.thread_name());
    let serve = move || {
        later::never_attach();
        worker.run();
    };
    thread.spawn(serve).map(drop)
}

impl Entry {
    fn is_running(&self) -> bool {
        Arc::strong_count(&self.running) > 1
    }
}

/// The target of a worker's thread.
#[pyclass(frozen, module = "duly._duly")]
pub(crate) struct WorkerLoop(Mutex<Option<(Worker, Arc<Running>)>>);

impl WorkerLoop {
    fn take(&self) -> Option<(Worker, Arc<Running>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[pymethods]
impl WorkerLoop {
    /// To be called instead of the loop when the thread cannot serve: the pool closes, and abandons what it has.
    fn give_up(&self) {
        let Some((worker, _running)) = self.take() else { return };
        let pool = worker.pool();
        drop(worker);
        let mut shutdown = pool.shutdown_async(Duration::ZERO);
        let _ = Pin::new(&mut shutdown).poll(&mut Context::from_waker(Waker::noop()));
    }

    fn __call__(&self, py: Python<'_>) {
        let Some((worker, _running)) = self.take() else { return };
        // What ps, top and debuggers show; Python sets it from 3.14 on. Without it only a name is missing.
        let _ = std::fs::write("/proc/thread-self/comm", worker.thread_name());
        worker.run_with(|wait| {
            let mut wait = SameThread(wait);
            py.detach(move || wait.call());
        });
    }
}

/// Lets core's wait into `detach`, which asks for Send so that nothing of Python gets in.
struct SameThread<'a>(&'a mut dyn FnMut());

// SAFETY: `detach` calls its closure on the thread it is called on, so nothing is sent; and core's wait, which knows no
// Python, touches nothing that belongs to the interpreter.
unsafe impl Send for SameThread<'_> {}

impl SameThread<'_> {
    fn call(&mut self) {
        (self.0)();
    }
}
