//! What a shutdown did: an owned object, read through functions, so that it can grow.

use std::ffi::{CStr, CString, c_char};
use std::time::Duration;

use duly::{ShutdownReport, Stats, TaskRecord};

use crate::boundary::{boundary, checked};
use crate::handle::{self, Handle};
use crate::stats::{self, duly_stats};
use crate::status::duly_status;
use crate::text::{to_c, told, view};

/// What a shutdown did. Immutable; refcounted; safe from any thread.
#[derive(Debug)]
pub struct duly_report {
    _opaque: (),
}

impl Handle for duly_report {
    type Object = Report;
    const KIND: usize = handle::kind::REPORT;
}

#[derive(Debug)]
pub(crate) struct Report {
    drained: bool,
    threads_left: usize,
    elapsed: Duration,
    stats: Stats,
    abandoned: Vec<CString>,
    stuck: Vec<CString>,
    text: CString,
}

impl Report {
    pub(crate) fn new(report: &ShutdownReport) -> Report {
        let labels = |tasks: &[TaskRecord]| {
            let labels = tasks.iter().map(|task| task.name.label().unwrap_or_default());
            labels.map(to_c).collect()
        };
        Report {
            drained: report.drained,
            threads_left: report.threads_left,
            elapsed: report.elapsed,
            stats: report.stats,
            abandoned: labels(&report.abandoned),
            stuck: labels(&report.stuck),
            text: told(&report.to_string()),
        }
    }

    /// One label of a list, for the two functions below that look one up.
    fn label(list: &[CString], index: usize) -> &CStr {
        list.get(index).map_or(c"", |label| label)
    }
}

/// # Safety
/// `report` is null or a live handle for `'a`.
unsafe fn borrow<'a>(report: *const duly_report) -> Option<&'a Report> {
    // SAFETY: the caller's contract is the same.
    unsafe { handle::borrow(report) }.ok()
}

/// True when every accepted task ended by itself within the drain: nothing was abandoned.
/// Ownership: the report stays the caller's.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; false for NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_report_drained(report: *const duly_report) -> bool {
    // SAFETY: the header asks for a live handle.
    boundary(|| unsafe { borrow(report) }.is_some_and(|report| report.drained))
}

/// How many tasks were abandoned.
/// Ownership: the report stays the caller's.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; 0 for NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_report_abandoned_count(report: *const duly_report) -> usize {
    // SAFETY: the header asks for a live handle.
    boundary(|| unsafe { borrow(report) }.map_or(0, |report| report.abandoned.len()))
}

/// The label of the abandoned task `index` (0 to count - 1); "" if it had none, or there is no such task.
/// Ownership: a view owned by the report, never NULL; valid until its last release.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; "" for NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_report_abandoned_label(report: *const duly_report, index: usize) -> *const c_char {
    view(boundary(|| -> &CStr {
        // SAFETY: the header asks for a live handle.
        let report = unsafe { borrow(report) };
        report.map_or(c"", |report| Report::label(&report.abandoned, index))
    }))
}

/// How many callbacks were still running when the shutdown returned, of abandoned tasks and of tasks with another outcome.
/// Ownership: the report stays the caller's.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; 0 for NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_report_stuck_count(report: *const duly_report) -> usize {
    // SAFETY: the header asks for a live handle.
    boundary(|| unsafe { borrow(report) }.map_or(0, |report| report.stuck.len()))
}

/// The label of the stuck callback `index` (0 to count - 1); "" if it had none, or there is no such one.
/// Ownership: a view owned by the report, never NULL; valid until its last release.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; "" for NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_report_stuck_label(report: *const duly_report, index: usize) -> *const c_char {
    view(boundary(|| -> &CStr {
        // SAFETY: the header asks for a live handle.
        let report = unsafe { borrow(report) };
        report.map_or(c"", |report| Report::label(&report.stuck, index))
    }))
}

/// How many threads are still inside abandoned callbacks; they end when their callbacks do.
/// Ownership: the report stays the caller's.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; 0 for NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_report_threads_left(report: *const duly_report) -> usize {
    // SAFETY: the header asks for a live handle.
    boundary(|| unsafe { borrow(report) }.map_or(0, |report| report.threads_left))
}

/// How long the shutdown took, in nanoseconds.
/// Ownership: the report stays the caller's.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; 0 for NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_report_elapsed_ns(report: *const duly_report) -> u64 {
    boundary(|| {
        // SAFETY: the header asks for a live handle.
        let report = unsafe { borrow(report) };
        report.map_or(0, |report| u64::try_from(report.elapsed.as_nanos()).unwrap_or(u64::MAX))
    })
}

/// The counters of the pool when the shutdown returned. `size` is sizeof(duly_stats).
/// Ownership: the report and the struct stay the caller's.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: OK, NULL_ARGUMENT, INVALID_ARGUMENT (a size that no version of the struct has), FOREIGN_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_report_stats(
    report: *const duly_report,
    stats: *mut duly_stats,
    size: usize,
) -> duly_status {
    // SAFETY: the header asks for a live handle and a struct of `size` bytes.
    checked(|| unsafe { stats::write(&handle::borrow(report)?.stats, stats, size) })
}

/// The whole report as text for people: counts and the abandoned tasks.
/// Ownership: a view owned by the report, never NULL; valid until its last release.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; "" for NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_report_text(report: *const duly_report) -> *const c_char {
    view(boundary(|| -> &CStr {
        // SAFETY: the header asks for a live handle.
        let report = unsafe { borrow(report) };
        report.map_or(c"", |report| &report.text)
    }))
}

/// One more reference to the report.
/// Ownership: the caller owns the new reference and releases it.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; returns the same pointer, NULL for NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_report_retain(report: *mut duly_report) -> *mut duly_report {
    // SAFETY: the header asks for a live handle.
    boundary(|| unsafe { handle::retain(report) })
}

/// Gives one reference back; the last one frees the report and its views.
/// Ownership: takes the caller's reference. NULL is fine.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_report_release(report: *mut duly_report) {
    // SAFETY: the header asks for a live handle, of which the caller gives up one reference.
    boundary(|| unsafe { handle::release(report) });
}
