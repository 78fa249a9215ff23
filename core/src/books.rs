//! The books of a pool: how many tasks were accepted and how they ended (P12), and what else is counted.
//!
//! Invariants:
//! 1. A task is counted as ended once, by its winner, and no reader sees its outcome before it sees it counted: it
//!    is counted before it is published, or in an open [`Tally`] that readers wait for.
//! 2. A reader reads what ended before it reads what was accepted. So it never sees more ended than accepted,
//!    and `running`, which is what is left over, is never negative. At rest the sum is exact.
//! 3. Outcome counters only grow.

use crate::error::Outcome;
use crate::sync::{AtomicBool, AtomicU64, Ordering, Padded, spin_hint, thread};
use std::time::Duration;

/// Counters of what others than workers do, and of workers that have left.
#[derive(Default)]
pub(crate) struct Books {
    ended: [AtomicU64; Outcome::ALL.len()],
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

/// The outcomes that a worker gives.
const BY_WORKER: [Outcome; 3] = [Outcome::Succeeded, Outcome::Failed, Outcome::Panicked];

/// A worker's own counters, on its own cache line: only the worker writes.
///
/// The worker opens its tally, publishes an outcome, counts it, and closes the tally: three plain stores. A reader
/// waits while a tally is open, so it never misses an outcome that its thread has seen. No user code runs in
/// between, so that is a matter of nanoseconds.
#[derive(Default)]
pub(crate) struct Tally {
    open: AtomicBool,
    counts: [AtomicU64; BY_WORKER.len()],
}

impl Tally {
    /// Before an outcome is published: readers wait from here on.
    #[inline(always)]
    pub(crate) fn open(&self) {
        self.open.store(true, Ordering::Relaxed);
    }

    /// Counts an outcome that a worker gives.
    #[inline(always)]
    pub(crate) fn count(&self, outcome: Outcome) {
        const { assert!(Outcome::Failed as usize == 1 && Outcome::Panicked as usize == 2) };
        let counter = &self.counts[outcome as usize];
        counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    #[inline(always)]
    pub(crate) fn close(&self) {
        self.open.store(false, Ordering::Release);
    }

    pub(crate) fn read(&self) -> [(Outcome, u64); BY_WORKER.len()] {
        let mut turns = 0u32;
        while self.open.load(Ordering::Acquire) {
            turns += 1;
            match turns {
                0..100 => spin_hint(),
                100..300 => thread::yield_now(),
                // The worker may be waiting for the very processor that a reader of higher priority keeps.
                _ => thread::sleep(Duration::from_micros(50)),
            }
        }
        BY_WORKER.map(|outcome| (outcome, self.counts[outcome as usize].load(Ordering::Acquire)))
    }
}
