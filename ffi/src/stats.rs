//! Counters of a pool as C reads them: a plain struct that only grows at its end.

use std::mem::size_of;

use duly::Stats;

use crate::boundary::boundary;
use crate::status::duly_status;

/// Counters of a pool. At rest the books balance, exactly: submitted = succeeded + failed + panicked + cancelled +
/// deadline_exceeded + shed + abandoned + queued + running (`duly_stats_balance`).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct duly_stats {
    /// Tasks accepted.
    pub submitted: u64,
    /// Tasks whose run returned 0.
    pub succeeded: u64,
    /// Tasks whose run returned a code.
    pub failed: u64,
    /// Tasks whose callback panicked.
    pub panicked: u64,
    /// Tasks cancelled.
    pub cancelled: u64,
    /// Tasks whose deadline passed.
    pub deadline_exceeded: u64,
    /// Tasks dropped by the overflow policy.
    pub shed: u64,
    /// Tasks left behind by a drain or a fork.
    pub abandoned: u64,
    /// Tasks in the queue now.
    pub queued: u64,
    /// Tasks running now, without outcome.
    pub running: u64,
    /// Not part of the books: submits refused; they created no task.
    pub refused: u64,
    /// Callbacks that returned after their task had its outcome.
    pub late: u64,
    /// Tasks with an outcome whose callback still runs.
    pub overdue: u64,
    /// Workers replaced while stuck.
    pub replaced: u64,
    /// Times every worker was stuck and no replacement was left.
    pub stalled: u64,
    /// Failed or panicked tasks whose outcome nobody looked at.
    pub unobserved: u64,
    /// Producers waiting for room now.
    pub blocked_producers: u64,
    /// Threads that run callbacks now.
    pub workers: u64,
}

/// Size of the first version: frozen.
const FIRST: usize = 18 * 8;
const _: () = assert!(size_of::<duly_stats>() >= FIRST && size_of::<duly_stats>().is_multiple_of(8));

impl From<&Stats> for duly_stats {
    fn from(stats: &Stats) -> duly_stats {
        duly_stats {
            submitted: stats.submitted,
            succeeded: stats.succeeded,
            failed: stats.failed,
            panicked: stats.panicked,
            cancelled: stats.cancelled,
            deadline_exceeded: stats.deadline_exceeded,
            shed: stats.shed,
            abandoned: stats.abandoned,
            queued: stats.queued,
            running: stats.running,
            refused: stats.refused,
            late: stats.late,
            overdue: stats.overdue,
            replaced: stats.replaced,
            stalled: stats.stalled,
            unobserved: stats.unobserved,
            blocked_producers: stats.blocked_producers,
            workers: stats.workers,
        }
    }
}

/// Writes as much of the counters as the caller's version of the struct has room for; what is beyond ours is zeroed.
///
/// # Safety
/// `output` is null or valid for writes of `size` bytes.
pub(crate) unsafe fn write(stats: &Stats, output: *mut duly_stats, size: usize) -> Result<(), duly_status> {
    // SAFETY: the caller's contract is the same.
    unsafe { write_versioned(&duly_stats::from(stats), FIRST, output, size) }
}

/// The same for any struct of numbers without padding, whose first version had `first` bytes.
///
/// # Safety
/// As [`write`].
pub(crate) unsafe fn write_versioned<T: Copy>(
    ours: &T,
    first: usize,
    output: *mut T,
    size: usize,
) -> Result<(), duly_status> {
    if output.is_null() {
        return Err(duly_status::DULY_STATUS_NULL_ARGUMENT);
    }
    if !(first..=4096).contains(&size) {
        return Err(duly_status::DULY_STATUS_INVALID_ARGUMENT);
    }
    let common = size.min(size_of::<T>());
    // SAFETY: `size` bytes are writable by this function's contract and `common` is at most that and at most ours.
    unsafe {
        let bytes = output.cast::<u8>();
        std::ptr::copy_nonoverlapping((&raw const *ours).cast::<u8>(), bytes, common);
        bytes.add(common).write_bytes(0, size - common);
    }
    Ok(())
}

/// True when the books of `stats` balance; while tasks end, a pool at work may show a moment in between.
/// Ownership: `stats` stays the caller's.
/// Thread-safety: any thread; the struct must not change meanwhile.
/// Blocks: never.
/// Status: none; false for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_stats_balance(stats: *const duly_stats) -> bool {
    boundary(|| {
        if stats.is_null() {
            return false;
        }
        // SAFETY: not null; the header asks for a struct of at least the first version, whose fields alone are read.
        let stats = unsafe { stats.read_unaligned() };
        let parts = [
            stats.succeeded,
            stats.failed,
            stats.panicked,
            stats.cancelled,
            stats.deadline_exceeded,
            stats.shed,
            stats.abandoned,
            stats.queued,
            stats.running,
        ];
        parts.iter().try_fold(0_u64, |sum, part| sum.checked_add(*part)) == Some(stats.submitted)
    })
}
