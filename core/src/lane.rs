//! A queue of a pool, as the pool sees it: the bounded queue, what it is called, what a full one does, and who may start a
//! task of it.
//!
//! Invariants:
//! 1. A lane lives as long as its pool. So whoever holds the pool, or has won a task of the lane and not counted it
//!    (see `table`), finds both.
//! 2. `running` is the number of permits given: of callbacks of the lane's tasks that have not returned. It grows under the
//!    lock of `turns` only, and never above `limit` at that moment.
//! 3. `listed` and `credit` change under the lock of `turns` only.

use crate::config::Overflow;
use crate::queue::Queue;
use crate::shared::Shared;
use crate::sync::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering, Padded};
use crate::table;
use std::ops::Deref;

/// No limit.
pub(crate) const UNLIMITED: usize = usize::MAX;

pub(crate) struct Lane {
    queue: Queue,
    /// What its tasks carry.
    pub(crate) number: u16,
    pub(crate) name: String,
    pub(crate) overflow: Overflow,
    pool: AtomicPtr<Shared>,
    /// How many of its tasks are started before it is the next one's turn.
    pub(crate) weight: AtomicU32,
    pub(crate) limit: AtomicUsize,
    pub(crate) paused: AtomicBool,
    pub(crate) turn: Padded<Turn>,
}

/// Written for each task, once the pool takes turns.
#[derive(Default)]
pub(crate) struct Turn {
    pub(crate) running: AtomicUsize,
    /// It waits for its turn.
    pub(crate) listed: AtomicBool,
    /// How many more of its tasks are started in this turn.
    pub(crate) credit: AtomicU32,
}

impl Lane {
    /// `number` is the caller's to give, and goes back with the lane.
    pub(crate) fn new(number: u16, name: String, queue: Queue, overflow: Overflow) -> Lane {
        Lane {
            queue,
            number,
            name,
            overflow,
            pool: AtomicPtr::new(std::ptr::null_mut()),
            weight: AtomicU32::new(1),
            limit: AtomicUsize::new(UNLIMITED),
            paused: AtomicBool::new(false),
            turn: Padded::default(),
        }
    }

    /// The pool is there: tasks of this lane can be made.
    pub(crate) fn belongs_to(&self, pool: *const Shared) {
        self.pool.store(pool.cast_mut(), Ordering::Release);
        table::set(self.number, self);
    }

    pub(crate) fn pool(&self) -> *const Shared {
        self.pool.load(Ordering::Acquire)
    }

    /// Whether one of its tasks may be started now, if there is one.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        !self.paused.load(Ordering::Relaxed)
            && self.turn.running.load(Ordering::Relaxed) < self.limit.load(Ordering::Relaxed)
    }

    /// Whether a worker would, it seems, find a task to start.
    #[inline]
    pub(crate) fn is_ready(&self) -> bool {
        self.is_open() && !self.queue.looks_unready()
    }
}

impl Deref for Lane {
    type Target = Queue;

    #[inline(always)]
    fn deref(&self) -> &Queue {
        &self.queue
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        table::free(self.number);
    }
}
