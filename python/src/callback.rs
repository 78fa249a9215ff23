//! A Python callback on its way through core: captured, called once, released.
//!
//! Keeps true:
//! 1. What a task captured is gone before its outcome is published, also when the callback raised.
//! 2. References are given up by an attached thread. Only when the interpreter is gone already are they left alone.
//! 3. An `Exception` is core's `Failed`; any other `BaseException` is core's `Panicked` and waits in the task's `Aside`.

use std::cell::UnsafeCell;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use duly::Context;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTraceback, PyTuple};

use crate::interrupt::Armed;
use crate::native::NativeCallback;
use crate::{context, copied, later, log, native, states};

/// What can be given up while attached. Destructors written in Python run then.
pub(crate) trait References: Send + 'static {
    fn give_up(self, py: Python<'_>);
}

impl<T: 'static> References for Py<T> {
    fn give_up(self, py: Python<'_>) {
        drop(self.into_bound(py));
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
        self.context.give_up(py);
        self.args.give_up(py);
        self.kwargs.give_up(py);
        self.scope.give_up(py);
    }
}

/// References that are given up by an attached thread, whichever thread drops them.
pub(crate) struct Held<T: References>(Option<T>);

impl<T: References> Held<T> {
    pub(crate) fn new(value: T) -> Self {
        Held(Some(value))
    }

    pub(crate) fn get(&self) -> &T {
        self.0.as_ref().expect("held until it is dropped")
    }

    pub(crate) fn into_inner(mut self) -> T {
        self.0.take().expect("held until it is dropped")
    }
}

impl<T: References> Drop for Held<T> {
    fn drop(&mut self) {
        if let Some(value) = self.0.take() {
            // Without an interpreter the closure is dropped unrun: its references go to PyO3's list, and no further unless
            // the main thread, about to finalize, looks at that once more.
            later::attached(move |py| value.give_up(py));
        }
    }
}

/// The value of a callback.
pub(crate) type Value = Held<Py<PyAny>>;

/// What a callback raised, and the traceback it had when it left the callback.
pub(crate) struct Raised {
    what: What,
}

enum What {
    Exception(Held<(Py<PyAny>, Option<Py<PyTraceback>>)>),
    /// What a native callback returned.
    Status(i32),
}

impl fmt::Debug for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Raised")
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        if let Some(text) = log::untold() {
            if let What::Status(code) = self.what {
                log::warning(&format!("{text}: its callback returned {code}"));
                return;
            }
            states::try_attach(|py| {
                log::failure(py, &text, || Ok(self.exception(py)?.unbind()));
            });
        }
    }
}

impl Raised {
    pub(crate) fn new(py: Python<'_>, error: PyErr) -> Self {
        let traceback = error.traceback(py).map(Bound::unbind);
        Raised {
            what: What::Exception(Held::new((error.into_value(py).into_any(), traceback))),
        }
    }

    /// A native callback returned something else than 0.
    pub(crate) fn status(code: i32) -> Self {
        Raised {
            what: What::Status(code),
        }
    }

    /// The exception with the traceback it had at first: raising it again and again must not make that grow.
    pub(crate) fn exception<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (exception, traceback) = match &self.what {
            What::Exception(held) => held.get(),
            What::Status(code) => return native::failed(py, *code),
        };
        let exception = exception.bind(py);
        exception.call_method1(pyo3::intern!(py, "with_traceback"), (traceback,))
    }

    pub(crate) fn visit(&self, visit: &pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        let What::Exception(Held(Some((exception, traceback)))) = &self.what else {
            return Ok(());
        };
        visit.call(exception)?;
        visit.call(traceback)
    }
}

/// What a callback and the handle of its task share. Here a `BaseException` waits for the task's observers: core's panics
/// carry a message only.
#[derive(Default)]
pub(crate) struct Aside {
    raised: Mutex<Option<Raised>>,
    /// The one callback's, which puts it here so that core is handed a single word: what is larger core would box.
    call: UnsafeCell<Option<Held<Call>>>,
}

// SAFETY: `call` is touched by the callback only: while it is made, and by whoever runs or drops it, which is done once.
unsafe impl Sync for Aside {}

impl Aside {
    fn put(&self, raised: Raised) {
        // Dropped after the lock is released.
        let _before = self
            .raised
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(raised);
    }

    /// The exception, for one of several who are told of it.
    pub(crate) fn shown<'py>(&self, py: Python<'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
        let (exception, traceback) = {
            let aside = self.raised.lock().unwrap_or_else(PoisonError::into_inner);
            let What::Exception(held) = &aside.as_ref()?.what else {
                return None;
            };
            let (exception, traceback) = held.get();
            (
                exception.clone_ref(py),
                traceback.as_ref().map(|traceback| traceback.clone_ref(py)),
            )
        };
        let exception = exception.into_bound(py);
        Some(exception.call_method1(pyo3::intern!(py, "with_traceback"), (traceback,)))
    }

    pub(crate) fn take(&self) -> Option<Raised> {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

struct Call {
    context: Py<PyAny>,
    args: Py<PyTuple>,
    kwargs: Option<Py<PyDict>>,
    scope: Option<Py<PyAny>>,
    extras: Extras,
}

/// What few callbacks have.
#[derive(Default)]
pub(crate) struct Extras {
    /// `duly.Interrupted` is raised in it if its task ends while it runs.
    pub(crate) interrupt: bool,
    /// Where what it raises waits if that is no Exception, instead of in its own place: for several who are told.
    pub(crate) tells: Option<Arc<Aside>>,
}

/// A callback with its captured arguments.
pub(crate) struct Callback {
    aside: Arc<Aside>,
}

impl Drop for Callback {
    fn drop(&mut self) {
        drop(self.take());
    }
}

impl Callback {
    /// The first of `args` is called with the others and `kwargs`, in `context`; `scope` is the ambient one it was submitted
    /// under; `aside` is no other callback's.
    pub(crate) fn new(
        context: Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
        scope: Option<Py<PyAny>>,
        aside: Arc<Aside>,
        extras: Extras,
    ) -> Self {
        let kwargs = kwargs.map(|kwargs| kwargs.clone().unbind());
        let call = Call {
            context: context.unbind(),
            args: args.clone().unbind(),
            kwargs,
            scope,
            extras,
        };
        // SAFETY: `aside` is this callback's, and nobody else touches `call`.
        unsafe { *aside.call.get() = Some(Held::new(call)) };
        Callback { aside }
    }

    fn take(&mut self) -> Option<Held<Call>> {
        // SAFETY: as above; and `self` is borrowed for good, so nobody else takes it now.
        unsafe { (*self.aside.call.get()).take() }
    }

    /// Calls it. To be called by core on a worker, or on the thread that submits if the callers run.
    pub(crate) fn run(mut self, context: &Context) -> Result<Value, Raised> {
        Python::attach(|py| {
            let tells;
            let result = {
                let mut call = self.take().expect("a callback is run once").into_inner();
                let _here = context::enter(context, call.scope.as_ref());
                tells = call.extras.tells.take();
                let armed = if call.extras.interrupt {
                    Armed::new(py, context)
                } else {
                    None
                };
                let result = call.call(py);
                if let Some(armed) = armed {
                    armed.over(py);
                }
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
                    tells.as_ref().unwrap_or(&self.aside).put(raised);
                }
                // Not panic!: nothing is wrong here that the panic hook should print.
                std::panic::resume_unwind(Box::new(message.unwrap_or_else(|_| "BaseException".to_owned())))
            })
        })
    }
}

impl Call {
    fn call<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        copied::call_in(
            self.context.bind(py),
            self.args.bind(py),
            self.kwargs.as_ref().map(|kwargs| kwargs.bind(py)),
        )
    }
}

/// A callback of either kind.
pub(crate) enum Captured {
    Python(Callback),
    Native(Box<NativeCallback>),
}

impl Captured {
    /// Calls it. To be called by core.
    pub(crate) fn run(self, context: &Context) -> Result<Value, Raised> {
        match self {
            Captured::Python(callback) => callback.run(context),
            Captured::Native(callback) => callback.run(context),
        }
    }
}

/// Calls what the user gave us. All such calls on threads of the pool go through here.
pub(crate) fn call<'py>(
    function: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    function.call(args, kwargs)
}
