//! Callbacks in native code: a C function and its data, run without the interpreter.
//!
//! Keeps true:
//! 1. A worker of a native pool never attaches: what a callback keeps alive is let go of elsewhere (`later`).
//! 2. What is kept alive lives until the callback has returned, or never will run.
//! 3. On another thread, that of a caller that runs, it is called detached.
//! 4. A run of a periodic task has no value: to give one would take the interpreter.

use std::ffi::{c_int, c_void};

use duly::Context;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;

use crate::callback::{Held, Raised, Value};
use crate::later;

/// `int function(void *data)`.
type Function = unsafe extern "C-unwind" fn(*mut c_void) -> c_int;

/// A function and its data, with what these need to live.
struct Code {
    function: Function,
    data: *mut c_void,
    /// Whether what it returns says something.
    tells: bool,
    _keeps: Held<Py<PyAny>>,
}

// SAFETY: the function may be called on any thread, with its data: that is what whoever submits it promises; references are
// moved, and given up attached.
unsafe impl Send for Code {}
// SAFETY: it is called while another call of it goes on only if whoever submits it asks for that, by `overlap`.
unsafe impl Sync for Code {}

/// A callback in native code.
pub(crate) struct NativeCallback {
    code: Code,
    /// What was given as data: it is the value of a task that succeeds.
    value: Held<Py<PyAny>>,
}

/// A callback in native code that can be called again and again.
pub(crate) struct NativeRepeated(Code);

/// What `duly._native.resolve` makes of the arguments of a submit: addresses, and how the task is called.
fn resolve<'py>(args: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
    static RESOLVE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = args.py();
    RESOLVE.import(py, "duly._native", "resolve")?.call1(args)
}

/// Raises if the arguments of a submit are no native callback.
pub(crate) fn check(args: &Bound<'_, PyTuple>) -> PyResult<()> {
    resolve(args).map(drop)
}

impl Code {
    fn new(args: &Bound<'_, PyTuple>) -> PyResult<Self> {
        let (function, data, tells, keeps): (usize, usize, bool, Py<PyAny>) = resolve(args)?.extract()?;
        // SAFETY: not null, as resolve has seen; that it is a function of this type is the word of whoever submits it.
        let function = unsafe { std::mem::transmute::<*const c_void, Function>(function as *const c_void) };
        Ok(Code {
            function,
            data: data as *mut c_void,
            tells,
            _keeps: Held::new(keeps),
        })
    }

    /// Calls it, without the interpreter.
    fn run(&self) -> Result<(), Raised> {
        let code = if later::never_attaches() {
            self.call()
        } else {
            Python::attach(|py| py.detach(|| self.call()))
        };
        if self.tells && code != 0 {
            return Err(Raised::status(code));
        }
        Ok(())
    }

    fn call(&self) -> c_int {
        // SAFETY: as promised by whoever submitted it; what it needs is alive (2).
        unsafe { (self.function)(self.data) }
    }
}

impl NativeCallback {
    pub(crate) fn new(args: &Bound<'_, PyTuple>) -> PyResult<Self> {
        let value = args.get_item(1).map_or_else(|_| args.py().None(), Bound::unbind);
        Ok(NativeCallback {
            code: Code::new(args)?,
            value: Held::new(value),
        })
    }

    /// Calls it. To be called by core.
    pub(crate) fn run(self, _context: &Context) -> Result<Value, Raised> {
        self.code.run().map(|()| self.value)
    }
}

impl NativeRepeated {
    pub(crate) fn new(args: &Bound<'_, PyTuple>) -> PyResult<Self> {
        Code::new(args).map(NativeRepeated)
    }

    /// Calls it once more. To be called by core.
    pub(crate) fn run(&self, _context: &Context) -> Result<(), Raised> {
        self.0.run()
    }
}

/// The exception of a callback that returned another status than 0.
pub(crate) fn failed(py: Python<'_>, code: i32) -> PyResult<Bound<'_, PyAny>> {
    py.import(intern!(py, "duly._errors"))?
        .getattr(intern!(py, "NativeFailed"))?
        .call1((code,))
}
