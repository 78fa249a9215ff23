//! The items of a chunk of a map, handed out one by one to its callback.
//!
//! Keeps true: no item is handed out once the task has ended, whether or not anybody was told of its end by then.

use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::context;

/// The items of a list until the task ends whose callback runs on this thread. Others may empty the list meanwhile.
#[pyclass(frozen, module = "duly")]
#[derive(Debug)]
pub(crate) struct _Items {
    list: Py<PyList>,
    next: AtomicUsize,
}

#[pymethods]
impl _Items {
    #[new]
    fn new(list: Py<PyList>) -> Self {
        Self {
            list,
            next: AtomicUsize::new(0),
        }
    }

    fn __iter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        if context::ended() {
            return None;
        }
        let at = self.next.load(Ordering::Relaxed);
        let list = self.list.bind(py);
        if at >= list.len() {
            return None;
        }
        self.next.store(at + 1, Ordering::Relaxed);
        list.get_item(at).ok()
    }
}
