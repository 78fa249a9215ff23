//! The books of a pool: how many tasks were accepted and how they ended (P12), and what else is counted.
//!
//! Invariants:
//! 1. A task is counted as ended once, by its winner, before its outcome is published.
//! 2. A reader reads what ended before it reads what was accepted. So it never sees more ended than accepted,
//!    and `running`, which is what is left over, is never negative. At rest the sum is exact.
//! 3. Outcome counters only grow.

use crate::error::Outcome;
use crate::sync::{AtomicU64, Ordering, Padded};

/// Counters of what others than workers do, and of workers that have left.
#[derive(Default)]
pub(crate) struct Books {
    ended: [AtomicU64; Outcome::ALL.len()],
    /// Accepted without entering the queue: shed at once, or run by the caller.
    pub(crate) direct: AtomicU64,
    pub(crate) refused: Padded<AtomicU64>,
    /// Callbacks that ended after their task had.
    pub(crate) late: AtomicU64,
    /// Tasks that have an outcome while their callback runs.
    pub(crate) overdue: AtomicU64,
    pub(crate) replaced: AtomicU64,
    pub(crate) stalled: AtomicU64,
}

impl Books {
    pub(crate) fn count(&self, outcome: Outcome) {
        self.ended[outcome as usize].fetch_add(1, Ordering::Release);
    }

    pub(crate) fn add(&self, outcome: Outcome, count: u64) {
        self.ended[outcome as usize].fetch_add(count, Ordering::Release);
    }

    pub(crate) fn ended(&self) -> [u64; Outcome::ALL.len()] {
        std::array::from_fn(|index| self.ended[index].load(Ordering::Acquire))
    }
}

/// A worker's own counters, on its own cache line: only the worker writes.
#[derive(Default)]
pub(crate) struct Tally {
    succeeded: AtomicU64,
    failed: AtomicU64,
    panicked: AtomicU64,
}

impl Tally {
    #[inline(always)]
    pub(crate) fn count(&self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Succeeded => &self.succeeded,
            Outcome::Failed => &self.failed,
            _ => &self.panicked,
        };
        counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Release);
    }

    pub(crate) fn read(&self) -> [(Outcome, u64); 3] {
        [
            (Outcome::Succeeded, self.succeeded.load(Ordering::Acquire)),
            (Outcome::Failed, self.failed.load(Ordering::Acquire)),
            (Outcome::Panicked, self.panicked.load(Ordering::Acquire)),
        ]
    }
}
