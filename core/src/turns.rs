//! Whose task is started next, where a pool has several queues, or one with a limit.
//!
//! A pool with only its default queue, without limits, never comes here: its workers take from the ring. The first other
//! queue, limit, key or pause sets `taken`, for good, and from then on queues take turns (deficit round robin): the one at
//! the front has up to `weight` tasks started, then goes to the back. A queue stands in line only while it has a task that
//! may be started, so that taking one costs the same however many queues there are.
//!
//! Invariants:
//! 1. A queue that has a task, is not paused and below its limit stands in line, or somebody is about to put it there: who
//!    makes it so (pushes, gives a permit back, resumes, raises a limit) looks at `listed` afterwards; who takes it out of
//!    the line looks afterwards whether it has become so. A full fence lies between on both sides.
//! 2. Who puts a queue in line wakes a worker, or is one that looks for work next.
//! 3. A permit is given under the lock, together with the task, and given back when the callback has returned.
//! 4. Once `taken` is set, nobody takes from the default queue's ring but through here; callbacks that had been started
//!    before have their permits as well ([`Record::permit`](crate::registry::Record)).
//!
//! Lock order: `added`, then `line`, then a queue's consumer side.

use crate::lane::Lane;
use crate::queue::Taken;
use crate::slot::Slot;
use crate::sync::{Arc, AtomicBool, AtomicPtr, AtomicUsize, Mutex, Ordering, ShortLock, full_fence};
use std::collections::VecDeque;
use std::ptr::NonNull;

pub(crate) struct Turns {
    taken: AtomicBool,
    /// How many stand in line.
    ready: AtomicUsize,
    line: ShortLock<Line>,
    added: Mutex<Added>,
}

#[derive(Default)]
struct Line {
    /// Lives as long as the pool (lane invariant 1); has room for every queue, so that nothing is allocated under the lock.
    lanes: VecDeque<NonNull<Lane>>,
}

// SAFETY: the pointers are shared references to lanes, which may be used from any thread.
unsafe impl Send for Line {}

#[derive(Default)]
struct Added {
    lanes: Vec<Arc<Lane>>,
    closed: bool,
}

impl Default for Turns {
    fn default() -> Self {
        Turns {
            taken: AtomicBool::new(false),
            ready: AtomicUsize::new(0),
            line: ShortLock::new(Line::default()),
            added: Mutex::default(),
        }
    }
}

impl Turns {
    /// Whether queues take turns.
    #[inline(always)]
    pub(crate) fn are_taken(&self) -> bool {
        self.taken.load(Ordering::Relaxed)
    }

    /// From now on they do. Under the lock of the default queue's consumer side.
    pub(crate) fn begin(&self) {
        self.taken.store(true, Ordering::SeqCst);
    }

    /// Whether, it seems, some queue has a task to start.
    #[inline(always)]
    pub(crate) fn are_due(&self) -> bool {
        self.ready.load(Ordering::Relaxed) != 0
    }

    /// Takes the next task, with a permit to run it, and shows it in `current`.
    pub(crate) fn take(&self, current: &AtomicPtr<Slot>) -> Option<(&Lane, Taken)> {
        let mut line = self.line.lock();
        loop {
            let lane = *line.lanes.front()?;
            // SAFETY: lane invariant 1, and the caller has the pool.
            let lane = unsafe { lane.as_ref() };
            let taken = if lane.is_open() { lane.pop_next(current) } else { None };
            let Some(mut taken) = taken else {
                self.pass_over(&mut line, lane);
                continue;
            };
            lane.turn.running.fetch_add(1, Ordering::Relaxed);
            let credit = lane.turn.credit.load(Ordering::Relaxed).saturating_sub(1);
            if credit == 0 {
                line.lanes.rotate_left(1);
                lane.turn
                    .credit
                    .store(lane.weight.load(Ordering::Relaxed), Ordering::Relaxed);
            } else {
                lane.turn.credit.store(credit, Ordering::Relaxed);
            }
            taken.more = taken.more || line.lanes.len() > 1;
            return Some((lane, taken));
        }
    }

    /// The queue at the front has nothing to start: out of the line, unless that has just changed.
    fn pass_over(&self, line: &mut Line, lane: &Lane) {
        line.lanes.pop_front();
        lane.turn.listed.store(false, Ordering::Relaxed);
        self.ready.store(line.lanes.len(), Ordering::Relaxed);
        full_fence();
        if lane.is_ready() {
            self.enter(line, lane);
        }
    }

    fn enter(&self, line: &mut Line, lane: &Lane) {
        lane.turn.listed.store(true, Ordering::Relaxed);
        lane.turn
            .credit
            .store(lane.weight.load(Ordering::Relaxed), Ordering::Relaxed);
        line.lanes.push_back(NonNull::from(lane));
        self.ready.store(line.lanes.len(), Ordering::Relaxed);
    }

    /// After something that may let a task of the queue be started, and a full fence: puts it in line. Whether it stands
    /// there.
    #[inline]
    pub(crate) fn list(&self, lane: &Lane) -> bool {
        lane.turn.listed.load(Ordering::Relaxed) || lane.is_ready() && self.list_now(lane)
    }

    #[cold]
    fn list_now(&self, lane: &Lane) -> bool {
        let listed = {
            let mut line = self.line.lock();
            if !lane.turn.listed.load(Ordering::Relaxed) && lane.is_ready() {
                self.enter(&mut line, lane);
            }
            lane.turn.listed.load(Ordering::Relaxed)
        };
        // Whoever looks for idle workers next has shown this before.
        full_fence();
        listed
    }

    /// A permit for somebody who is not a worker.
    pub(crate) fn permit(&self, lane: &Lane) -> bool {
        let _line = self.line.lock();
        let free = lane.is_open();
        if free {
            lane.turn.running.fetch_add(1, Ordering::Relaxed);
        }
        free
    }

    /// A callback has returned: its permit is free. The caller looks for work next, or has somebody do so (invariant 2).
    /// Whether the queue stands in line then.
    pub(crate) fn give_back(&self, lane: &Lane, key: Option<u32>) -> bool {
        if let Some(key) = key {
            lane.key_returned(key);
        }
        lane.turn.running.fetch_sub(1, Ordering::SeqCst);
        full_fence();
        self.list(lane)
    }

    /// Stops, or lets again, workers from starting tasks of a queue; false when the pool is closed.
    pub(crate) fn pause(&self, lane: &Lane, paused: bool) -> bool {
        let added = self.added.lock();
        if added.closed {
            return false;
        }
        {
            let _line = self.line.lock();
            lane.paused.store(paused, Ordering::Relaxed);
        }
        drop(added);
        true
    }

    // ---- the queues beside the default one ----

    /// Adds a queue; false when the pool is closed.
    pub(crate) fn add(&self, lane: Arc<Lane>) -> bool {
        let mut added = self.added.lock();
        if added.closed {
            return false;
        }
        added.lanes.push(lane);
        self.make_room(&added);
        true
    }

    /// Everybody can stand in line without an allocation under its lock.
    fn make_room(&self, added: &Added) {
        let wanted = added.lanes.len() + 1;
        if self.line.lock().lanes.capacity() >= wanted {
            return;
        }
        let mut larger = VecDeque::with_capacity(2 * wanted);
        let mut line = self.line.lock();
        larger.extend(line.lanes.drain(..));
        std::mem::swap(&mut line.lanes, &mut larger);
        drop(line);
        drop(larger);
    }

    /// Before the first turn: `divert` lets nobody take from the default queue any other way, and calls
    /// [`begin`](Self::begin).
    pub(crate) fn prepare(&self, divert: impl FnOnce()) -> bool {
        let added = self.added.lock();
        if self.are_taken() {
            return false;
        }
        self.make_room(&added);
        divert();
        true
    }

    /// The queue of this index, counted from the first that was added.
    pub(crate) fn added(&self, index: usize) -> Option<Arc<Lane>> {
        self.added.lock().lanes.get(index).cloned()
    }

    /// No more are added, and none is paused any more.
    pub(crate) fn close(&self, default: &Lane) {
        let mut added = self.added.lock();
        added.closed = true;
        let _line = self.line.lock();
        for lane in added.lanes.iter().map(|lane| &**lane).chain([default]) {
            lane.paused.store(false, Ordering::Relaxed);
        }
    }
}
