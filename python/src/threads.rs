//! The threads of pools: `threading.Thread`s whose target is core's loop.
//!
//! Keeps true:
//! 1. A worker is attached once, for its whole life, and detached only inside core's waits.
//! 2. A thread that cannot be started is an error for core, and its worker is dropped unrun.
//! 3. A thread is listed from before its start until it is joined, so shutdown and exit find each.
//! 4. The lock is a leaf: nothing of Python runs under it.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use duly::Worker;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::callback::{self, Held};
use crate::wait;

/// How long to wait for threads whose loop has ended to be gone from the interpreter too.
const GONE: Duration = Duration::from_secs(1);

/// The threads of one pool. Core's spawner holds it as long as the pool lives, workers as long as they do.
#[derive(Default)]
pub(crate) struct Threads(Mutex<Vec<Entry>>);

struct Entry {
    running: Arc<Running>,
    thread: Option<Held<Py<PyAny>>>,
}

/// Alive as long as the loop of its thread is; the list keeps a second reference.
struct Running;

static START: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// What starts a thread. Found while the module is imported: threads of a pool import nothing.
pub(crate) fn start_of(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    START.import(py, "duly._workers", "start")
}

impl Threads {
    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Core's spawner. Core calls it on its delivery thread, which may wait for the interpreter.
    pub(crate) fn spawn(self: &Arc<Self>, worker: Worker) -> io::Result<()> {
        match Python::try_attach(|py| self.start(py, worker)) {
            Some(started) => started.map_err(|error| io::Error::other(error.to_string())),
            None => Err(io::Error::other("the interpreter is gone")),
        }
    }

    fn start(self: &Arc<Self>, py: Python<'_>, worker: Worker) -> PyResult<()> {
        let name = worker.thread_name();
        let running = Arc::new(Running);
        let target = WorkerLoop(Mutex::new(Some((worker, Arc::clone(&running)))));
        let target = Bound::new(py, target)?;
        self.forget_ended();
        let entry = Entry { running, thread: None };
        let listed = Arc::clone(&entry.running);
        self.entries().push(entry);
        let started = (&target, name)
            .into_pyobject(py)
            .and_then(|args| callback::call(start_of(py)?, &args, None));
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
