//! `interrupt=True`: `duly.Interrupted`, raised in a running callback whose task has ended.
//!
//! Keeps true:
//! 1. It is sent only while its callback is the innermost one on its thread, by somebody who is attached; so no other callback
//!    and no other thread gets it.
//! 2. When the callback is over, what was sent and has not arrived is taken back before anything of Python runs again but
//!    `duly._interrupt.swallow`. Until 3.12 it arrives there: the interpreter remembers that something was sent to some thread
//!    until that is raised, and looks for it before each step meanwhile; 3.11 with a trace function would do nothing else.
//! 3. Nothing of Python runs under the lock, which is a leaf.

use std::cell::RefCell;
use std::ffi::c_long;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use duly::{Context, OnCancel};
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::states;

static KIND: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static IDENT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static SWALLOW: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

thread_local! {
    /// The innermost callback on this thread that may be interrupted, unless others run on top of it: those count there.
    static INNERMOST: RefCell<Option<Arc<Running>>> = const { RefCell::new(None) };
}

/// Finds what is needed, where the option is asked for: threads of a pool import nothing.
pub(crate) fn prepare(py: Python<'_>) -> PyResult<()> {
    IDENT.import(py, "threading", "get_ident")?;
    SWALLOW.import(py, "duly._interrupt", "swallow")?;
    KIND.import(py, "duly._errors", "Interrupted").map(drop)
}

/// A running callback that may be interrupted.
struct Running {
    thread: c_long,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// How many callbacks run on top of it.
    above: usize,
    /// Its task has ended.
    due: bool,
    sent: bool,
    over: bool,
}

impl Running {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its task has ended.
    fn due(&self, py: Python<'_>) {
        let mut state = self.state();
        state.due = true;
        self.send(py, &mut state);
    }

    fn send(&self, py: Python<'_>, state: &mut State) {
        if state.due && !state.sent && !state.over && state.above == 0 {
            state.sent = true;
            self.raise(py);
        }
    }

    fn raise(&self, py: Python<'_>) {
        let kind = KIND.get(py).map_or(std::ptr::null_mut(), Py::as_ptr);
        // SAFETY: attached; a class of exceptions, which it takes a reference to.
        unsafe { ffi::PyThreadState_SetAsyncExc(self.thread, kind) };
    }

    /// On its own thread, when nobody can send any more.
    fn take_back(&self, py: Python<'_>) {
        if py.version_info() < (3, 13) {
            // Whether it has arrived is not to be known: another one brings it about that nothing is left.
            self.raise(py);
            let arrived = SWALLOW.get(py).and_then(|swallow| swallow.call0(py).err());
            match arrived {
                Some(error)
                    if KIND
                        .get(py)
                        .is_some_and(|kind| error.matches(py, kind).unwrap_or(false)) =>
                {
                    return;
                }
                // SAFETY: attached. Ctrl-C is told again.
                Some(error) if error.is_instance_of::<PyKeyboardInterrupt>(py) => unsafe { ffi::PyErr_SetInterrupt() },
                Some(error) => error.write_unraisable(py, None),
                None => {}
            }
        }
        // SAFETY: attached; null takes back what has not arrived.
        unsafe { ffi::PyThreadState_SetAsyncExc(self.thread, std::ptr::null_mut()) };
    }
}

/// A callback that can be interrupted until `over`.
pub(crate) struct Armed {
    running: Arc<Running>,
    outer: Option<Arc<Running>>,
    _hook: OnCancel,
}

impl Armed {
    /// For the callback that is about to be called on this thread. None: the interpreter will not tell which thread this is.
    pub(crate) fn new(py: Python<'_>, context: &Context) -> Option<Self> {
        let thread = IDENT.get(py)?.call0(py).ok()?.extract(py).ok()?;
        let running = Arc::new(Running {
            thread,
            state: Mutex::default(),
        });
        let outer = INNERMOST.replace(Some(Arc::clone(&running)));
        let told = Arc::clone(&running);
        let hook = context.on_cancel(move |_| {
            states::try_attach(|py| told.due(py));
        });
        Some(Armed {
            running,
            outer,
            _hook: hook,
        })
    }

    /// The callback has come back.
    pub(crate) fn over(self, py: Python<'_>) {
        let sent = {
            let mut state = self.running.state();
            state.over = true;
            state.sent
        };
        INNERMOST.replace(self.outer);
        if sent {
            self.running.take_back(py);
        }
    }
}

/// Another callback runs on top of the innermost one, until this is dropped.
pub(crate) struct OnTop(Option<Arc<Running>>);

impl OnTop {
    pub(crate) fn new() -> Self {
        let below = INNERMOST.take();
        if let Some(below) = &below {
            below.state().above += 1;
        }
        OnTop(below)
    }
}

impl Drop for OnTop {
    fn drop(&mut self) {
        let Some(below) = self.0.take() else { return };
        // Whoever calls callbacks is attached.
        Python::try_attach(|py| {
            let mut state = below.state();
            state.above -= 1;
            below.send(py, &mut state);
        });
        INNERMOST.replace(Some(below));
    }
}
