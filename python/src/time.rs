//! Spans and points in time as Python writes them: numbers of seconds.
//!
//! Keeps true: NaN, negative and huge numbers are errors that say so; None is the absence of a limit.

use std::time::{Duration, Instant};

use pyo3::prelude::*;

use crate::errors;

/// The longest span that a wait of Python itself accepts (`threading.TIMEOUT_MAX`), in seconds.
const LONGEST: f64 = 9_223_372_036.0;

/// The span that the argument `what` gives. `None`: no limit.
pub(crate) fn limit(py: Python<'_>, what: &str, seconds: Option<f64>) -> PyResult<Option<Duration>> {
    seconds.map(|seconds| span(py, what, seconds)).transpose()
}

/// The span that the argument `what` gives.
pub(crate) fn span(py: Python<'_>, what: &str, seconds: f64) -> PyResult<Duration> {
    let wrong = if seconds.is_nan() {
        "is not a number of seconds"
    } else if seconds < 0.0 {
        "is negative"
    } else if seconds > LONGEST {
        "is longer than threading.TIMEOUT_MAX; None means no limit"
    } else {
        return Ok(Duration::from_secs_f64(seconds));
    };
    Err(errors::invalid_argument(py, &format!("{what}={seconds} {wrong}")))
}

/// The point that the argument `what` gives on the clock of `time.monotonic()`; one that has passed is now.
pub(crate) fn point(py: Python<'_>, what: &str, at: f64) -> PyResult<Instant> {
    let now: f64 = py.import("time")?.call_method0("monotonic")?.extract()?;
    // NaN stays NaN.
    let left = if at < now { 0.0 } else { at - now };
    let left = span(py, what, left)?;
    let point = Instant::now().checked_add(left);
    point.ok_or_else(|| errors::invalid_argument(py, &format!("{what}={at} is beyond the clock")))
}
