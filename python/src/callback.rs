//! A Python callback on its way through core: captured, called once, released.
//!
//! Keeps true:
//! 1. What a task captured is gone before its outcome is published, also when the callback raised.
//! 2. References are given up by an attached thread. Only when the interpreter is gone already are they left alone.
//! 3. An `Exception` is core's `Failed`; any other `BaseException` is core's `Panicked` and waits in the task's `Aside`.
//! 4. A thread that the interpreter ends inside a callback (it calls pthread_exit when it finalizes, until 3.14) parks
//!    here for ever: it must not unwind through core.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use duly::Context;
use pyo3::exceptions::PyException;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTraceback, PyTuple};

use crate::context;

/// What can be given up while attached. Destructors written in Python run then.
pub(crate) trait References {
    fn give_up(self, py: Python<'_>);
}

impl<T> References for Py<T> {
    fn give_up(self, _py: Python<'_>) {
        let end = ParkOnUnwind;
        // SAFETY: attached; the one reference that this handle held.
        unsafe { py_dec_ref()(self.into_ptr()) };
        std::mem::forget(end);
    }
}

impl<R: References> References for Option<R> {
    fn give_up(self, py: Python<'_>) {
        if let Some(references) = self {
            references.give_up(py);
        }
    }
}

impl<A: References, B: References> References for (A, B) {
    fn give_up(self, py: Python<'_>) {
        self.0.give_up(py);
        self.1.give_up(py);
    }
}

impl References for Call {
    fn give_up(self, py: Python<'_>) {
        self.function.give_up(py);
        self.args.give_up(py);
        self.kwargs.give_up(py);
    }
}

/// References that are given up by an attached thread, whichever thread drops them.
pub(crate) struct Held<T: References>(Option<T>);

impl<T: References> Held<T> {
    pub(crate) fn new(value: T) -> Self {
        Held(Some(value))
    }

    pub(crate) fn into_inner(mut self) -> T {
        self.0.take().expect("held until it is dropped")
    }
}

impl<T: References> Drop for Held<T> {
    fn drop(&mut self) {
        if let Some(value) = self.0.take() {
            // Without an interpreter the closure is dropped unrun: its references go to PyO3's list and no further.
            Python::try_attach(move |py| value.give_up(py));
        }
    }
}

/// The value of a callback.
pub(crate) type Value = Held<Py<PyAny>>;

/// What a callback raised, and the traceback it had when it left the callback.
pub(crate) struct Raised {
    exception: Held<(Py<PyAny>, Option<Py<PyTraceback>>)>,
}

impl fmt::Debug for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Raised")
    }
}

impl Raised {
    fn new(py: Python<'_>, error: PyErr) -> Self {
        let traceback = error.traceback(py).map(Bound::unbind);
        Raised {
            exception: Held::new((error.into_value(py).into_any(), traceback)),
        }
    }

    /// The exception with the traceback it had at first: raising it again and again must not make that grow.
    pub(crate) fn exception<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (exception, traceback) = self.exception.0.as_ref().expect("held until it is dropped");
        let exception = exception.bind(py);
        exception.call_method1(pyo3::intern!(py, "with_traceback"), (traceback,))
    }

    pub(crate) fn visit(&self, visit: &pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        let Some((exception, traceback)) = &self.exception.0 else {
            return Ok(());
        };
        visit.call(exception)?;
        visit.call(traceback)
    }
}

/// Where a `BaseException` waits for the task's observers: core's panics carry a message only.
#[derive(Default)]
pub(crate) struct Aside(Mutex<Option<Raised>>);

impl Aside {
    fn put(&self, raised: Raised) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(raised);
    }

    pub(crate) fn take(&self) -> Option<Raised> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

struct Call {
    function: Py<PyAny>,
    args: Py<PyTuple>,
    kwargs: Option<Py<PyDict>>,
}

/// A callback with its captured arguments.
pub(crate) struct Callback {
    call: Held<Call>,
    aside: Arc<Aside>,
}

impl Callback {
    pub(crate) fn new(
        function: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
        aside: Arc<Aside>,
    ) -> Self {
        let kwargs = kwargs.map(|kwargs| kwargs.clone().unbind());
        let call = Call {
            function: function.clone().unbind(),
            args: args.clone().unbind(),
            kwargs,
        };
        Callback {
            call: Held::new(call),
            aside,
        }
    }

    /// Calls it. To be called by core on a worker, or on the thread that submits if the callers run.
    pub(crate) fn run(self, context: &Context) -> Result<Value, Raised> {
        Python::attach(|py| {
            let result = {
                let _here = context::enter(context);
                let call = self.call.into_inner();
                let result = call.call(py);
                call.give_up(py);
                result
            };
            result.map(|value| Held::new(value.unbind())).map_err(|error| {
                let lesser = error.is_instance_of::<PyException>(py);
                let raised = Raised::new(py, error);
                if lesser {
                    return raised;
                }
                let message = raised
                    .exception(py)
                    .and_then(|exception| exception.repr())
                    .map(|text| text.to_string());
                if !context.is_cancelled() {
                    self.aside.put(raised);
                }
                // Not panic!: nothing is wrong here that the panic hook should print.
                std::panic::resume_unwind(Box::new(message.unwrap_or_else(|_| "BaseException".to_owned())))
            })
        })
    }
}

impl Call {
    fn call<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        call(
            self.function.bind(py),
            self.args.bind(py),
            self.kwargs.as_ref().map(|kwargs| kwargs.bind(py)),
        )
    }
}

/// Calls what the user gave us. All such calls on threads of the pool go through here (4).
pub(crate) fn call<'py>(
    function: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let kwargs = kwargs.map_or(std::ptr::null_mut(), Bound::as_ptr);
    let end = ParkOnUnwind;
    // SAFETY: attached; a callable, a tuple and a dict or null, all alive until the call is over.
    let value = unsafe { py_object_call()(function.as_ptr(), args.as_ptr(), kwargs) };
    std::mem::forget(end);
    // SAFETY: a new reference, or null with an exception set, as PyObject_Call returns it.
    unsafe { Bound::from_owned_ptr_or_err(function.py(), value) }
}

/// A function of the interpreter as one that may unwind: by pthread_exit. The black box keeps the compiler from
/// remembering that pyo3_ffi declares it as one that cannot; then the landing pad for `ParkOnUnwind` would be left out.
/// (A declaration of our own is merged with that one.)
macro_rules! may_unwind {
    ($name:ident: $function:path, ($($argument:ty),*) $(-> $result:ty)?) => {
        #[inline]
        fn $name() -> unsafe extern "C-unwind" fn($($argument),*) $(-> $result)? {
            type Declared = unsafe extern "C" fn($($argument),*) $(-> $result)?;
            let declared: Declared = std::hint::black_box($function);
            // SAFETY: the same signature; the two ABIs differ only in what the caller is prepared for.
            unsafe { std::mem::transmute(declared) }
        }
    };
}

may_unwind!(py_object_call: ffi::PyObject_Call,
    (*mut ffi::PyObject, *mut ffi::PyObject, *mut ffi::PyObject) -> *mut ffi::PyObject);
may_unwind!(py_dec_ref: ffi::Py_DecRef, (*mut ffi::PyObject));

/// Dropped only by a forced unwind: the interpreter is finalizing and wants this thread gone, so it waits for the end.
struct ParkOnUnwind;

impl Drop for ParkOnUnwind {
    fn drop(&mut self) {
        loop {
            std::thread::park();
        }
    }
}
