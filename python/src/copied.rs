//! The context variables of a submit: copied when it is made, entered around its callback.
//!
//! Keeps true:
//! 1. A callback runs in a copy of its own; what it sets stays there.
//! 2. The interpreter's own functions do it where it exports them. All versions from 3.9 on do, though the stable ABI
//!    does not name them, so they are looked for when they are first needed; where they are missing, `Context.run` does it,
//!    at the cost of a bound method and of one more call.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;
use std::sync::OnceLock;

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple};

use crate::callback;

/// `PyContext_CopyCurrent`, `PyContext_Enter` and `PyContext_Exit`.
#[derive(Clone, Copy)]
struct Functions {
    copy: unsafe extern "C" fn() -> *mut ffi::PyObject,
    enter: unsafe extern "C" fn(*mut ffi::PyObject) -> c_int,
    exit: unsafe extern "C" fn(*mut ffi::PyObject) -> c_int,
}

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, symbol: *const c_char) -> *mut c_void;
}

fn functions() -> Option<Functions> {
    static FUNCTIONS: OnceLock<Option<Functions>> = OnceLock::new();
    *FUNCTIONS.get_or_init(|| {
        // SAFETY: null is RTLD_DEFAULT of Linux; the names end with a zero.
        let find =
            |name: &CStr| Some(unsafe { dlsym(ptr::null_mut(), name.as_ptr()) }).filter(|found| !found.is_null());
        let (copy, enter, exit) = (
            find(c"PyContext_CopyCurrent")?,
            find(c"PyContext_Enter")?,
            find(c"PyContext_Exit")?,
        );
        // SAFETY: functions of the C API, with these signatures since Python 3.7.1.
        unsafe {
            Some(Functions {
                copy: std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> *mut ffi::PyObject>(copy),
                enter: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut ffi::PyObject) -> c_int>(enter),
                exit: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut ffi::PyObject) -> c_int>(exit),
            })
        }
    })
}

/// A copy of the context that is current on this thread.
pub(crate) fn current(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static COPY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    match functions() {
        // SAFETY: attached; a new reference, or null with an exception set.
        Some(functions) => unsafe { Bound::from_owned_ptr_or_err(py, (functions.copy)()) },
        None => COPY.import(py, "contextvars", "copy_context")?.call0(),
    }
}

/// Calls the first of `args` with the others, in `context`.
pub(crate) fn call_in<'py>(
    context: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = context.py();
    let Some(functions) = functions() else {
        return callback::call(&context.getattr(intern!(py, "run"))?, args, kwargs);
    };
    let function = args.get_item(0)?;
    let rest = args.get_slice(1, args.len());
    // SAFETY: attached; a context. It was copied for this call: nobody else has entered it.
    if unsafe { (functions.enter)(context.as_ptr()) } != 0 {
        return Err(PyErr::fetch(py));
    }
    let result = callback::call(&function, &rest, kwargs);
    // SAFETY: attached, on the thread that has entered it.
    if unsafe { (functions.exit)(context.as_ptr()) } != 0 {
        return Err(PyErr::fetch(py));
    }
    result
}
