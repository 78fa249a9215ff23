//! Threads that the interpreter ends: until 3.14 it calls pthread_exit in one that asks for it while it finalizes, which
//! unwinds the stack. No frame of Rust may be unwound so, and where PyO3 calls the interpreter none says that it can be:
//! the process would abort.
//!
//! Keeps true:
//! 1. The linker puts a function of this file in the place of each function of the interpreter that may run Python code,
//!    collect garbage or let go of the interpreter (build.rs; `PyEval_RestoreThread` has
//!    PyO3's own, `PyGILState_*` stand in src/states.rs): there such a thread parks for ever.
//! 2. tests/python/test_exit.py lists what does none of that, and sees to it that each function which the module needs
//!    stands in one of the two lists.

use std::ffi::{c_char, c_double, c_int, c_long};
use std::mem::MaybeUninit;

use pyo3::ffi::{Py_ssize_t, PyMethodDef, PyObject, PyType_Spec, PyTypeObject};

/// Dropped only by a forced unwind: the interpreter is finalizing and wants this thread gone, so it waits for the end.
pub(crate) struct ParkOnUnwind;

impl Drop for ParkOnUnwind {
    fn drop(&mut self) {
        park();
    }
}

/// For ever.
pub(crate) fn park() -> ! {
    loop {
        std::thread::park();
    }
}

macro_rules! parks {
    ($($name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)?;)*) => { $(
        const _: () = {
            unsafe extern "C-unwind" {
                #[link_name = concat!("__real_", stringify!($name))]
                fn real($($argument: $type),*) $(-> $result)?;
            }

            #[unsafe(export_name = concat!("__wrap_", stringify!($name)))]
            unsafe extern "C" fn wrap($($argument: $type),*) $(-> $result)? {
                let end = ParkOnUnwind;
                // SAFETY: as the caller promises to the function in whose place this one stands.
                let value = unsafe { real($($argument),*) };
                std::mem::forget(end);
                value
            }
        };

        // The module exports its init function and nothing else.
        std::arch::global_asm!(concat!(".hidden __wrap_", stringify!($name)));
    )* };
}

type Object = *mut PyObject;

parks! {
    PyCMethod_New(method: *mut PyMethodDef, this: Object, module: Object, class: *mut PyTypeObject) -> Object;
    PyDict_Contains(dict: Object, key: Object) -> c_int;
    PyDict_New() -> Object;
    PyDict_SetItem(dict: Object, key: Object, value: Object) -> c_int;
    PyErr_CheckSignals() -> c_int;
    PyErr_NewExceptionWithDoc(name: *const c_char, doc: *const c_char, base: Object, dict: Object) -> Object;
    PyErr_NormalizeException(class: *mut Object, value: *mut Object, traceback: *mut Object);
    PyErr_PrintEx(set: c_int);
    PyErr_Restore(class: Object, value: Object, traceback: Object);
    PyErr_SetObject(class: Object, value: Object);
    PyErr_SetString(class: Object, text: *const c_char);
    PyErr_WriteUnraisable(object: Object);
    PyException_SetCause(exception: Object, cause: Object);
    PyException_SetTraceback(exception: Object, traceback: Object) -> c_int;
    PyFloat_AsDouble(object: Object) -> c_double;
    PyImport_Import(name: Object) -> Object;
    PyIter_Next(iterator: Object) -> Object;
    PyList_Append(list: Object, item: Object) -> c_int;
    PyList_New(size: Py_ssize_t) -> Object;
    PyList_SetItem(list: Object, index: Py_ssize_t, item: Object) -> c_int;
    PyLong_AsLong(object: Object) -> c_long;
    PyNumber_Index(object: Object) -> Object;
    PyObject_Call(callable: Object, args: Object, kwargs: Object) -> Object;
    PyObject_CallObject(callable: Object, args: Object) -> Object;
    PyObject_ClearWeakRefs(object: Object);
    PyObject_DelItem(object: Object, key: Object) -> c_int;
    PyObject_GetAttr(object: Object, name: Object) -> Object;
    PyObject_GetItem(object: Object, key: Object) -> Object;
    PyObject_GetIter(object: Object) -> Object;
    PyObject_Hash(object: Object) -> isize;
    PyObject_IsTrue(object: Object) -> c_int;
    PyObject_Repr(object: Object) -> Object;
    PyObject_RichCompare(left: Object, right: Object, how: c_int) -> Object;
    PyObject_SetAttr(object: Object, name: Object, value: Object) -> c_int;
    PyObject_SetAttrString(object: Object, name: *const c_char, value: Object) -> c_int;
    PyObject_SetItem(object: Object, key: Object, value: Object) -> c_int;
    PyObject_Str(object: Object) -> Object;
    PySet_Discard(set: Object, key: Object) -> c_int;
    PyTraceBack_Print(traceback: Object, file: Object) -> c_int;
    PyTuple_GetSlice(tuple: Object, from: Py_ssize_t, to: Py_ssize_t) -> Object;
    PyTuple_New(size: Py_ssize_t) -> Object;
    PyTuple_SetItem(tuple: Object, index: Py_ssize_t, item: Object) -> c_int;
    PyType_FromSpec(spec: *mut PyType_Spec) -> Object;
    PyUnicode_AsEncodedString(text: Object, encoding: *const c_char, errors: *const c_char) -> Object;
    PyWeakref_NewRef(object: Object, callback: Object) -> Object;
    Py_DecRef(object: Object);
    Py_GenericAlias(origin: Object, args: Object) -> Object;
}

unsafe extern "C-unwind" {
    fn __real_PyObject_CallMethodObjArgs(object: Object, name: Object, ...) -> Object;
}

/// With no argument or with one, as PyO3 calls it where it has nothing newer: null ends them.
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_PyObject_CallMethodObjArgs(
    object: Object,
    name: Object,
    first: Object,
    second: MaybeUninit<Object>,
) -> Object {
    let none: Object = std::ptr::null_mut();
    let end = ParkOnUnwind;
    let value = if first.is_null() {
        // SAFETY: as the caller promises.
        unsafe { __real_PyObject_CallMethodObjArgs(object, name, none) }
    } else {
        // SAFETY: null has not come yet, so there is one more.
        if !unsafe { second.assume_init() }.is_null() {
            std::process::abort();
        }
        // SAFETY: as the caller promises.
        unsafe { __real_PyObject_CallMethodObjArgs(object, name, first, none) }
    };
    std::mem::forget(end);
    value
}

std::arch::global_asm!(".hidden __wrap_PyObject_CallMethodObjArgs");
