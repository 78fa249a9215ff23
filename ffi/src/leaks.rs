//! What runs in a pool: a snapshot, read through functions, so that it can grow.

use std::ffi::{CStr, CString, c_char};

use duly::{TaskName, TaskRecord};

use crate::boundary::{boundary, checked};
use crate::handle::{self, Handle};
use crate::pool::duly_pool;
use crate::status::{duly_outcome, duly_status};
use crate::text::{OWN, to_c, told, view};

/// Callbacks that were running when somebody asked: `duly_pool_leaks`, `duly_pool_running`. Immutable; refcounted; safe from
/// any thread.
#[derive(Debug)]
pub struct duly_leaks {
    _opaque: (),
}

impl Handle for duly_leaks {
    type Object = Leaks;
    const KIND: usize = handle::kind::LEAKS;
}

#[derive(Debug)]
pub(crate) struct Leaks {
    leaks: Vec<Leak>,
    text: CString,
}

#[derive(Debug)]
struct Leak {
    label: CString,
    submitted_at: CString,
    thread: CString,
    outcome: i32,
    age: u64,
}

impl Leaks {
    fn new(records: &[TaskRecord]) -> Leaks {
        let text: String = records.iter().map(|record| format!("{record}\n")).collect();
        Leaks {
            leaks: records.iter().map(Leak::new).collect(),
            text: told(&text),
        }
    }
}

impl Leak {
    fn new(record: &TaskRecord) -> Leak {
        Leak {
            label: to_c(record.name.label().unwrap_or_default()),
            submitted_at: to_c(&place(&record.name)),
            thread: to_c(record.thread.as_deref().unwrap_or_default()),
            outcome: record.outcome.map_or(0, |outcome| duly_outcome::from(outcome) as i32),
            age: u64::try_from(record.age.as_nanos()).unwrap_or(u64::MAX),
        }
    }
}

/// Where a task was submitted, as far as that says something: a line of this library does not.
pub(crate) fn place(name: &TaskName) -> String {
    match (name.place(), name.submitted_at()) {
        (Some(place), _) => place.to_owned(),
        (None, Some(site)) if !std::path::Path::new(site.file()).starts_with(OWN) => {
            format!("{}:{}", site.file(), site.line())
        }
        _ => String::new(),
    }
}

/// # Safety
/// As `duly_pool_leaks` in the header.
unsafe fn give(
    pool: *const duly_pool,
    leaks: *mut *mut duly_leaks,
    look: impl FnOnce(&duly::Pool) -> Vec<TaskRecord>,
) -> Result<(), duly_status> {
    // SAFETY: the header asks for a live handle.
    let pool = unsafe { handle::borrow(pool) }?;
    if leaks.is_null() {
        return Err(duly_status::DULY_STATUS_NULL_ARGUMENT);
    }
    let found = Leaks::new(&look(pool));
    // SAFETY: not null; the header asks for a place to write to.
    unsafe { leaks.write(handle::into_raw::<duly_leaks>(found)) };
    Ok(())
}

/// The callbacks that run although their task has its outcome: overdue ones, and those that a shutdown abandoned.
/// Ownership: the caller owns the snapshot and releases it; the pool stays the caller's.
/// Thread-safety: any thread, callbacks included.
/// Blocks: never.
/// Status: OK, NULL_ARGUMENT, FOREIGN_HANDLE.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_pool_leaks(pool: *const duly_pool, leaks: *mut *mut duly_leaks) -> duly_status {
    // SAFETY: the contract is handed on as it is.
    checked(|| unsafe { give(pool, leaks, duly::Pool::leaks) })
}

/// All callbacks that run, those of `duly_pool_leaks` included.
/// Ownership: the caller owns the snapshot and releases it; the pool stays the caller's.
/// Thread-safety: any thread, callbacks included.
/// Blocks: never.
/// Status: OK, NULL_ARGUMENT, FOREIGN_HANDLE.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_pool_running(pool: *const duly_pool, leaks: *mut *mut duly_leaks) -> duly_status {
    // SAFETY: the contract is handed on as it is.
    checked(|| unsafe { give(pool, leaks, duly::Pool::running) })
}

/// # Safety
/// `leaks` is null or a live handle for `'a`.
unsafe fn at<'a>(leaks: *const duly_leaks, index: usize) -> Option<&'a Leak> {
    // SAFETY: the caller's contract is the same.
    unsafe { handle::borrow(leaks) }.ok()?.leaks.get(index)
}

/// How many callbacks there were.
/// Ownership: the snapshot stays the caller's.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; 0 for NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_leaks_count(leaks: *const duly_leaks) -> usize {
    // SAFETY: the header asks for a live handle.
    boundary(|| unsafe { handle::borrow(leaks) }.map_or(0, |leaks| leaks.leaks.len()))
}

/// The label of the task `index` (0 to count - 1); "" if it had none, or there is no such task.
/// Ownership: a view owned by the snapshot, never NULL; valid until its last release.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; "" for NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_leaks_label(leaks: *const duly_leaks, index: usize) -> *const c_char {
    view(boundary(|| -> &CStr {
        // SAFETY: the header asks for a live handle.
        unsafe { at(leaks, index) }.map_or(c"", |leak| &leak.label)
    }))
}

/// Where the task `index` was submitted: what its options said (`DULY_HERE`), or a line of Rust; "" if that is not known.
/// Ownership: a view owned by the snapshot, never NULL; valid until its last release.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; "" for NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_leaks_submitted_at(leaks: *const duly_leaks, index: usize) -> *const c_char {
    view(boundary(|| -> &CStr {
        // SAFETY: the header asks for a live handle.
        unsafe { at(leaks, index) }.map_or(c"", |leak| &leak.submitted_at)
    }))
}

/// The name of the thread that runs the callback of the task `index`: the worker.
/// Ownership: a view owned by the snapshot, never NULL; valid until its last release.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; "" for NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_leaks_thread(leaks: *const duly_leaks, index: usize) -> *const c_char {
    view(boundary(|| -> &CStr {
        // SAFETY: the header asks for a live handle.
        unsafe { at(leaks, index) }.map_or(c"", |leak| &leak.thread)
    }))
}

/// The outcome (a duly_outcome) of the task `index`, whose callback ran on; 0 if it had none.
/// Ownership: the snapshot stays the caller's.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; 0 for NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_leaks_outcome(leaks: *const duly_leaks, index: usize) -> i32 {
    // SAFETY: the header asks for a live handle.
    boundary(|| unsafe { at(leaks, index) }.map_or(0, |leak| leak.outcome))
}

/// For how long the callback of the task `index` had been running, in nanoseconds, to a few milliseconds.
/// Ownership: the snapshot stays the caller's.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; 0 for NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_leaks_age_ns(leaks: *const duly_leaks, index: usize) -> u64 {
    // SAFETY: the header asks for a live handle.
    boundary(|| unsafe { at(leaks, index) }.map_or(0, |leak| leak.age))
}

/// The whole snapshot as text for people, a line each.
/// Ownership: a view owned by the snapshot, never NULL; valid until its last release.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; "" for NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_leaks_text(leaks: *const duly_leaks) -> *const c_char {
    view(boundary(|| -> &CStr {
        // SAFETY: the header asks for a live handle.
        let leaks = unsafe { handle::borrow(leaks) };
        leaks.map_or(c"", |leaks| &leaks.text)
    }))
}

/// One more reference to the snapshot.
/// Ownership: the caller owns the new reference and releases it.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; returns the same pointer, NULL for NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_leaks_retain(leaks: *mut duly_leaks) -> *mut duly_leaks {
    // SAFETY: the header asks for a live handle.
    boundary(|| unsafe { handle::retain(leaks) })
}

/// Gives one reference back; the last one frees the snapshot and its views.
/// Ownership: takes the caller's reference. NULL is fine.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_leaks_release(leaks: *mut duly_leaks) {
    // SAFETY: the header asks for a live handle, of which the caller gives up one reference.
    boundary(|| unsafe { handle::release(leaks) });
}
