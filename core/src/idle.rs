//! How workers go to sleep and are woken.
//!
//! A wake-up costs the waker some microseconds, a hundred times what a task costs; so at most one is in flight,
//! and whoever is awake and looking for work makes one unnecessary.
//!
//! `ctl` counts two kinds of workers: *searching* (awake, about to look at the queue again) and *idle* (in the
//! stack, asleep or about to be). Rules:
//! 1. A producer pushes, then reads `ctl`: it wakes somebody only if nobody searches and somebody is idle.
//! 2. A searcher that finds work stops searching; if it was the last, somebody is idle and the queue holds more,
//!    it wakes the next. So wake-ups chain.
//! 3. A worker that gives up registers as idle and stops searching in one step, and then looks at the queue
//!    once more; if it finds something there it wakes somebody, most likely itself.
//! 4. Whoever takes one off the idle count takes one worker off the stack: the one that slept last.
//!
//! No wake-up is lost: in 1 the push comes before the read of `ctl`, in 2 and 3 the change of `ctl` comes before
//! the look at the queue, with a full fence between; so the producer sees that nobody searches, or the worker
//! sees the task.
//!
//! Lock order: the stack's lock is a leaf.

use crate::sync::{Arc, AtomicU64, Mutex, Ordering, Padded, Parker, full_fence};

const IDLE: u64 = 1 << 32;
/// Queues take turns: for good, and here so that a push looks at one word only.
const TURNS: u64 = 1 << 31;
const SEARCHING: u64 = 1;

/// More searchers than this only take cache lines from those who work.
const MAX_SEARCHING: u64 = 2;

#[derive(Default)]
pub(crate) struct Idle {
    ctl: Padded<AtomicU64>,
    stack: Mutex<Vec<Arc<Parker>>>,
}

fn searching(ctl: u64) -> u64 {
    ctl & (TURNS - 1)
}

fn idle(ctl: u64) -> u64 {
    ctl / IDLE
}

impl Idle {
    /// After a push: wakes a worker if nobody would see the task. False if there is no worker to wake and
    /// nobody searches. Where queues take turns, `list` puts the queue in line first; if that is held back, there is nobody
    /// to be told.
    #[inline(always)]
    pub(crate) fn notify(&self, list: impl FnOnce() -> bool) -> bool {
        full_fence();
        let ctl = self.ctl.load(Ordering::Relaxed);
        if ctl & (IDLE - 1) != 0 {
            return ctl & TURNS == 0 || !list() || self.notify_in_turn();
        }
        idle(ctl) != 0 && self.wake_one()
    }

    /// [`notify`](Self::notify), of a queue in line.
    #[inline(never)]
    pub(crate) fn notify_in_turn(&self) -> bool {
        searching(self.ctl.load(Ordering::Relaxed)) != 0 || self.wake_one()
    }

    /// From now on queues take turns.
    pub(crate) fn begin_turns(&self) {
        self.ctl.fetch_or(TURNS, Ordering::SeqCst);
    }

    /// Wakes the worker that slept last; it is searching then.
    #[cold]
    #[inline(never)]
    pub(crate) fn wake_one(&self) -> bool {
        let mut ctl = self.ctl.load(Ordering::Relaxed);
        loop {
            if idle(ctl) == 0 {
                return false;
            }
            match self
                .ctl
                .compare_exchange_weak(ctl, ctl - IDLE + SEARCHING, Ordering::SeqCst, Ordering::Relaxed)
            {
                Ok(_) => break,
                Err(now) => ctl = now,
            }
        }
        let parker = self.stack.lock().pop();
        if let Some(parker) = parker {
            parker.unpark();
        }
        true
    }

    /// Whether there is `more` to do and no worker sleeps or searches.
    pub(crate) fn nobody_to_wake(&self, more: impl FnOnce() -> bool) -> bool {
        full_fence();
        self.ctl.load(Ordering::Relaxed) & !TURNS == 0 && more()
    }

    /// Whether a worker sleeps or searches.
    pub(crate) fn somebody(&self) -> bool {
        self.ctl.load(Ordering::Relaxed) != 0
    }

    /// Wakes every idle worker.
    pub(crate) fn wake_all(&self) {
        full_fence();
        while self.wake_one() {}
    }

    /// The calling worker starts searching, unless enough others do. `only_if_idle`: not if nobody sleeps who
    /// would have to be woken otherwise.
    #[inline]
    pub(crate) fn start_searching(&self, only_if_idle: bool) -> bool {
        let ctl = self.ctl.load(Ordering::Relaxed);
        if only_if_idle && (idle(ctl) == 0 || searching(ctl) != 0) {
            return false;
        }
        if searching(ctl) >= MAX_SEARCHING {
            return false;
        }
        self.ctl.fetch_add(SEARCHING, Ordering::SeqCst);
        true
    }

    /// The calling worker has found a task. `more` tells whether the queue holds another.
    #[inline]
    pub(crate) fn stop_searching(&self, more: impl FnOnce() -> bool) {
        let before = self.ctl.fetch_sub(SEARCHING, Ordering::SeqCst);
        if searching(before) == 1 && idle(before) != 0 {
            full_fence();
            if more() {
                self.wake_one();
            }
        }
    }

    /// The calling worker gives up. It parks on `parker` next. `more` tells whether there is something to do
    /// after all.
    pub(crate) fn go_idle(&self, parker: &Arc<Parker>, was_searching: bool, more: impl FnOnce() -> bool) {
        {
            let mut stack = self.stack.lock();
            stack.push(parker.clone());
            let add = if was_searching { IDLE - SEARCHING } else { IDLE };
            self.ctl.fetch_add(add, Ordering::SeqCst);
        }
        full_fence();
        if more() {
            self.wake_one();
        }
    }
}
