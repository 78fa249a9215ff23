//! `duly.wait_any` and `duly.wait_all`.
//!
//! Keeps true: the pool sees what a callback waits for, as with a wait for one task.

use std::time::Duration;

use duly::NotEnded;
use pyo3::prelude::*;

use crate::task::Task;
use crate::{errors, time, wait};

fn tasks<'py>(tasks: &Bound<'py, PyAny>) -> PyResult<Vec<Bound<'py, Task>>> {
    tasks.try_iter()?.map(|task| Ok(task?.cast_into::<Task>()?)).collect()
}

/// Waits by `step`, which waits so long for core's answer. None: the wait timed out.
fn drive<T: Send>(
    py: Python<'_>,
    timeout: Option<f64>,
    step: impl Fn(Option<Duration>) -> Result<T, NotEnded> + Sync,
) -> PyResult<Option<T>> {
    let limit = time::limit(py, "timeout", timeout)?;
    if limit.is_none() && wait::in_one_piece(py)? {
        return match py.detach(|| step(None)) {
            Ok(answer) => Ok(Some(answer)),
            Err(not) => match not.deadlock() {
                Some(deadlock) => Err(errors::would_deadlock(py, deadlock, "several")),
                None => Ok(None),
            },
        };
    }
    let answer = std::sync::Mutex::new(None);
    wait::until(py, limit, |slice| match step(Some(slice)) {
        Ok(ended) => {
            *answer.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(ended);
            true
        }
        Err(_) => false,
    })?;
    Ok(answer.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
}

/// Waits until one of the tasks has its outcome, and returns it; None: the wait timed out, or there is no task. Takes no
/// value.
#[pyfunction]
#[pyo3(signature = (tasks, timeout=None), name = "wait_any")]
pub(crate) fn wait_any<'py>(tasks: &Bound<'py, PyAny>, timeout: Option<f64>) -> PyResult<Option<Bound<'py, Task>>> {
    let py = tasks.py();
    let tasks = self::tasks(tasks)?;
    if tasks.is_empty() {
        return Ok(None);
    }
    let cores: Vec<_> = tasks.iter().map(|task| task.get().core()).collect();
    let first = drive(py, timeout, |slice| duly::wait_any(cores.iter().copied(), slice))?;
    Ok(first.map(|first| tasks[first].clone()))
}

/// Waits until all of the tasks have their outcome. False: the wait timed out. Takes no value.
#[pyfunction]
#[pyo3(signature = (tasks, timeout=None), name = "wait_all")]
pub(crate) fn wait_all(tasks: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<bool> {
    let py = tasks.py();
    let tasks = self::tasks(tasks)?;
    if tasks.is_empty() {
        return Ok(true);
    }
    let cores: Vec<_> = tasks.iter().map(|task| task.get().core()).collect();
    let ended = drive(py, timeout, |slice| duly::wait_all(cores.iter().copied(), slice))?;
    Ok(ended.is_some())
}
