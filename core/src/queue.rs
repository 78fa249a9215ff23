//! The bounded queue: many producers, many workers, and anyone may take a task out of the middle.
//!
//! A ring of pointers with two short locks, one a side, each with its fields on cache lines of its own.
//!
//! Invariants:
//! 1. A task in the ring stands at its `position`, and the ring owns one reference to it. Whoever takes it
//!    out owns that reference.
//! 2. A task leaves the ring exactly once: popped by a worker, or removed (its entry becomes null) by the
//!    winner that ended it. `gone` counts both, under the consumer lock. So `pushed - gone` is at all times the
//!    exact number of tasks queued, and never above `capacity` (P5).
//! 3. A worker's `current` is set under the consumer lock that takes the task out: under that lock, every
//!    live task is in the ring or in a `current`.
//! 4. After `close` returned, nothing is pushed any more.
//! 5. Producers that wait for room stand in `waiting`, in order of arrival. The next free places are theirs, one each:
//!    nobody takes those, but one that is slow to come (a future that is not polled) holds up nobody else. At most
//!    one thread is being woken at a time; when it has pushed, or leaves, it wakes the next. A place that becomes
//!    free is announced (`gone`), then waiters are looked for (`blocked`); a producer announces itself, then
//!    looks for a place. So no place is lost: there is a [`full_fence`] on both sides, and the producer's look is under
//!    the consumer lock, for those who take both steps under that lock.
//! 6. A task that is ended where it is taken out is counted under the same lock (`ended`), before its outcome can be seen.
//!
//! Lock order: producer lock, consumer lock, each alone or in this order; `waiting` before both. No user code,
//! no allocation of users' types and no wake-up under the two short locks.

use crate::error::Outcome;
use crate::slot::{Slot, SlotRef};
use crate::sync::{
    Arc, AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Mutex, Ordering, Padded, Parker, ShortLock, full_fence,
    full_fence_after_rmw,
};
use std::collections::VecDeque;
use std::ptr::NonNull;
use std::task::Waker;

/// The largest capacity: a position in the ring, of twice as many entries, takes 24 bits.
pub(crate) const MAX_CAPACITY: usize = 1 << 23;

type Entry = AtomicPtr<Slot>;

/// A power of two of entries.
struct Ring {
    entries: Box<[Entry]>,
}

impl Ring {
    fn new(len: usize) -> Box<Ring> {
        Box::new(Ring {
            entries: (0..len).map(|_| AtomicPtr::default()).collect(),
        })
    }

    #[inline(always)]
    fn at(&self, position: u64) -> &Entry {
        let index = position as usize & (self.entries.len() - 1);
        // SAFETY: the length is a power of two, so the masked index is below it.
        unsafe { self.entries.get_unchecked(index) }
    }
}

struct Producer {
    tail: u64,
    pushed: u64,
    /// Accepted without entering the queue: shed at once, or run by the caller.
    direct: u64,
    /// What `gone` and `head` were when last looked at: never more than they are now.
    gone: u64,
    head: u64,
    closed: bool,
}

struct Consumer {
    head: u64,
    /// What `tail` was when last looked at.
    tail: u64,
    gone: u64,
    /// Entries before this position have been looked at by the timer.
    swept: u64,
    /// Tasks that were counted as ended where they were taken out.
    ended: [u64; Outcome::ALL.len()],
}

/// Read by workers that look for work.
struct ProducerSide {
    lock: ShortLock<Producer>,
    tail: AtomicU64,
}

struct ConsumerSide {
    lock: ShortLock<Consumer>,
    head: AtomicU64,
    gone: AtomicU64,
}

pub(crate) struct Queue {
    producer: Padded<ProducerSide>,
    consumer: Padded<ConsumerSide>,
    /// Replaced under both locks only.
    ring: AtomicPtr<Ring>,
    capacity: u64,
    max_ring: usize,
    closed: AtomicBool,
    /// Producers that wait for room.
    blocked: Padded<AtomicUsize>,
    waiting: Mutex<Waiting>,
    max_blocked: usize,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    list: VecDeque<(u64, InLine)>,
    /// Those with smaller keys have been woken since they last found no room.
    woken_below: u64,
    /// The thread that has been woken and has not yet pushed, left, or found no room.
    waking: Option<u64>,
}

impl Waiting {
    fn rank(&self, key: u64) -> Option<usize> {
        self.list.binary_search_by_key(&key, |(key, _)| *key).ok()
    }

    fn has_come(&mut self, key: u64) {
        if self.waking == Some(key) {
            self.waking = None;
        }
    }
}

/// A producer that waits for room.
pub(crate) enum InLine {
    Thread(Arc<Parker>),
    /// Shared, for cloning a waker is user code, and this one is cloned under a lock.
    Waker(Arc<Waker>),
}

impl InLine {
    fn wake(self) {
        match self {
            InLine::Thread(parker) => parker.unpark(),
            InLine::Waker(waker) => crate::slot::guard("a waker", move || {
                waker.wake_by_ref();
                drop(waker);
            }),
        }
    }

    fn again(&self) -> InLine {
        match self {
            InLine::Thread(parker) => InLine::Thread(parker.clone()),
            InLine::Waker(waker) => InLine::Waker(waker.clone()),
        }
    }
}

/// Why a push did not happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NoPush {
    /// No place, or others wait for one already.
    Full,
    Closed,
}

/// What the queue holds, at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Depth {
    pub(crate) pushed: u64,
    pub(crate) direct: u64,
    pub(crate) queued: u64,
    /// Counted as ended here, and nowhere else.
    pub(crate) ended: [u64; Outcome::ALL.len()],
}

impl Queue {
    pub(crate) fn new(capacity: usize, max_blocked: usize) -> Queue {
        // Twice the capacity: then a full ring is at least half holes, and closing them up pays for itself.
        let max_ring = (2 * capacity).next_power_of_two();
        let ring = Ring::new(max_ring.min(1024));
        Queue {
            producer: Padded(ProducerSide {
                lock: ShortLock::new(Producer {
                    tail: 0,
                    pushed: 0,
                    direct: 0,
                    gone: 0,
                    head: 0,
                    closed: false,
                }),
                tail: AtomicU64::new(0),
            }),
            consumer: Padded(ConsumerSide {
                lock: ShortLock::new(Consumer {
                    head: 0,
                    tail: 0,
                    gone: 0,
                    swept: 0,
                    ended: [0; Outcome::ALL.len()],
                }),
                head: AtomicU64::new(0),
                gone: AtomicU64::new(0),
            }),
            ring: AtomicPtr::new(Box::into_raw(ring)),
            capacity: capacity as u64,
            max_ring,
            closed: AtomicBool::new(false),
            blocked: Padded(AtomicUsize::new(0)),
            waiting: Mutex::default(),
            max_blocked,
        }
    }

    #[inline(always)]
    fn ring(&self) -> &Ring {
        // SAFETY: a ring is freed only when it is replaced, under both locks, and the callers hold one of them.
        unsafe { &*self.ring.load(Ordering::Relaxed) }
    }

    /// Counts a task that is accepted without entering the queue; false if the queue is closed.
    pub(crate) fn accept_directly(&self) -> bool {
        let mut p = self.producer.lock.lock();
        if !p.closed {
            p.direct += 1;
        }
        !p.closed
    }

    /// Puts a task at the end, unless the places that are left are spoken for by producers that wait for room.
    #[inline]
    pub(crate) fn push(&self, task: NonNull<Slot>) -> Result<(), NoPush> {
        let others = self.blocked.load(Ordering::Relaxed) as u64;
        self.push_behind(task, others, |consumer| consumer.gone.load(Ordering::Acquire))
    }

    /// Puts a task at the end if that leaves so many places for others. `gone` looks again how many places came free.
    #[inline(always)]
    fn push_behind(&self, task: NonNull<Slot>, others: u64, gone: impl Fn(&ConsumerSide) -> u64) -> Result<(), NoPush> {
        let mut p = self.producer.lock.lock();
        if p.closed {
            return Err(NoPush::Closed);
        }
        if p.pushed - p.gone + others >= self.capacity {
            p.gone = gone(&self.consumer);
            if p.pushed - p.gone + others >= self.capacity {
                return Err(NoPush::Full);
            }
        }
        self.append(&mut p, task);
        self.producer.tail.store(p.tail, Ordering::Release);
        Ok(())
    }

    /// Puts as many tasks at the end as there are places for, the first ones, at least one: how many.
    pub(crate) fn push_many(&self, tasks: &[NonNull<Slot>]) -> Result<usize, NoPush> {
        let others = self.blocked.load(Ordering::Relaxed) as u64;
        let mut p = self.producer.lock.lock();
        if p.closed {
            return Err(NoPush::Closed);
        }
        let room = |p: &Producer| self.capacity.saturating_sub(p.pushed - p.gone + others) as usize;
        if room(&p) < tasks.len() {
            p.gone = self.consumer.gone.load(Ordering::Acquire);
        }
        let count = room(&p).min(tasks.len());
        if count == 0 {
            return Err(NoPush::Full);
        }
        for task in &tasks[..count] {
            self.append(&mut p, *task);
        }
        self.producer.tail.store(p.tail, Ordering::Release);
        Ok(count)
    }

    /// Writes a task to the end, for which there is a place. Others see it once `tail` is stored.
    #[inline(always)]
    fn append(&self, p: &mut Producer, task: NonNull<Slot>) {
        if p.tail - p.head >= self.ring().entries.len() as u64 {
            p.head = self.consumer.head.load(Ordering::Acquire);
            if p.tail - p.head >= self.ring().entries.len() as u64 {
                self.make_room(p);
            }
        }
        // SAFETY: the caller hands the task over, so it is alive.
        unsafe { task.as_ref() }.set_position(p.tail);
        self.ring().at(p.tail).store(task.as_ptr(), Ordering::Relaxed);
        p.tail += 1;
        p.pushed += 1;
    }

    /// The ring is full of entries: close up the holes, or take a larger ring.
    #[cold]
    #[inline(never)]
    fn make_room(&self, p: &mut Producer) {
        let mut c = self.consumer.lock.lock();
        let old = self.ring();
        let live = p.pushed - c.gone;
        let larger = live as usize > old.entries.len() * 3 / 4 && old.entries.len() < self.max_ring;
        let new = larger.then(|| Ring::new(old.entries.len() * 2));
        let target = new.as_deref().unwrap_or(old);
        let (mut to, mut swept) = (c.head, c.head);
        for from in c.head..p.tail {
            if from == c.swept {
                swept = to;
            }
            let task = old.at(from).load(Ordering::Relaxed);
            if let Some(slot) = NonNull::new(task) {
                target.at(to).store(task, Ordering::Relaxed);
                // SAFETY: the ring owns a reference (invariant 1).
                unsafe { slot.as_ref() }.set_position(to);
                to += 1;
            }
        }
        if c.swept >= p.tail {
            swept = to;
        }
        c.swept = swept;
        p.tail = to;
        p.head = c.head;
        c.tail = to;
        self.producer.tail.store(to, Ordering::Release);
        if let Some(new) = new {
            let old = self.ring.swap(Box::into_raw(new), Ordering::Release);
            // SAFETY: came from `Box::into_raw`; both locks are held, so nobody reads it.
            drop(unsafe { Box::from_raw(old) });
        }
    }

    /// Takes the oldest task, and shows it in `current` before anyone could miss it (invariant 3). Also tells
    /// whether another entry stands behind it: if not, a look at the producers' side would tell, which costs a
    /// cache line.
    #[inline]
    pub(crate) fn pop(&self, current: &AtomicPtr<Slot>) -> Option<(SlotRef, bool)> {
        let mut c = self.consumer.lock.lock();
        loop {
            if c.head == c.tail {
                c.tail = self.producer.tail.load(Ordering::Acquire);
                if c.head == c.tail {
                    // Holes may have been passed.
                    self.consumer.head.store(c.head, Ordering::Release);
                    return None;
                }
            }
            let ring = self.ring();
            let task = ring.at(c.head).load(Ordering::Relaxed);
            c.head += 1;
            if let Some(slot) = NonNull::new(task) {
                if c.head < c.tail {
                    prefetch(ring.at(c.head).load(Ordering::Relaxed));
                }
                c.gone += 1;
                current.store(task, Ordering::Release);
                self.consumer.head.store(c.head, Ordering::Release);
                self.consumer.gone.store(c.gone, Ordering::Release);
                let more = c.head < c.tail;
                drop(c);
                // SAFETY: the ring owned a reference, which is ours now (invariant 1).
                return Some((unsafe { SlotRef::from_raw(slot) }, more));
            }
        }
    }

    /// Takes an ended task out of the middle, unless a worker has popped it. If it was there, the ring's reference is
    /// the caller's now.
    pub(crate) fn take_out(&self, task: &Slot) -> bool {
        let mut c = self.consumer.lock.lock();
        let Some(entry) = self.entry(&c, task) else {
            return false;
        };
        entry.store(std::ptr::null_mut(), Ordering::Relaxed);
        c.gone += 1;
        self.consumer.gone.store(c.gone, Ordering::Release);
        true
    }

    /// [`take_out`](Self::take_out), and the task is counted as ended; `more` is called under the lock with whether a
    /// producer waits for the place.
    #[inline]
    pub(crate) fn take_out_counted<R>(&self, task: &Slot, outcome: Outcome, more: impl FnOnce(bool) -> R) -> (bool, R) {
        let mut c = self.consumer.lock.lock();
        let entry = self.entry(&c, task);
        if let Some(entry) = entry {
            entry.store(std::ptr::null_mut(), Ordering::Relaxed);
            c.gone += 1;
            self.consumer.gone.store(c.gone, Ordering::Release);
        }
        c.ended[outcome as usize] += 1;
        let wanted = entry.is_some() && self.blocked() != 0;
        (entry.is_some(), more(wanted))
    }

    /// Ends tasks, counts them, and takes them out, all under one lock, so that nobody sees an ended task before it is
    /// counted. `end` gives up the task's reference in the ring with it, if told that there is one; it answers whether it
    /// was the one to end the task.
    pub(crate) fn end_all<'t>(
        &self,
        outcome: Outcome,
        tasks: impl Iterator<Item = &'t mut Option<SlotRef>>,
        end: impl Fn(&mut Option<SlotRef>, bool) -> bool,
    ) {
        let mut c = self.consumer.lock.lock();
        for task in tasks {
            let entry = task.as_ref().and_then(|task| self.entry(&c, task));
            if end(task, entry.is_some()) {
                c.ended[outcome as usize] += 1;
                if let Some(entry) = entry {
                    entry.store(std::ptr::null_mut(), Ordering::Relaxed);
                    c.gone += 1;
                }
            }
        }
        self.consumer.gone.store(c.gone, Ordering::Release);
    }

    /// Where a task stands in the ring, if it does. Under the consumer lock.
    #[inline(always)]
    fn entry(&self, c: &Consumer, task: &Slot) -> Option<&Entry> {
        // Of an entry that is there, `tail` is above its position.
        let tail = self.producer.tail.load(Ordering::Acquire);
        let offset = task.position().wrapping_sub(c.head) & crate::slot::POS_MASK;
        if offset >= tail - c.head {
            return None;
        }
        let entry = self.ring().at(c.head + offset);
        std::ptr::eq(entry.load(Ordering::Relaxed), task).then_some(entry)
    }

    /// Takes the oldest task for somebody who is not a worker. `won` is asked under the lock whether the caller
    /// is the one who ends it; if not, the task is being ended by somebody else and its place is free as well.
    pub(crate) fn pop_won(&self, won: impl Fn(&Slot) -> bool) -> Option<(SlotRef, bool)> {
        let mut c = self.consumer.lock.lock();
        c.tail = self.producer.tail.load(Ordering::Acquire);
        while c.head != c.tail {
            let task = self.ring().at(c.head).load(Ordering::Relaxed);
            c.head += 1;
            self.consumer.head.store(c.head, Ordering::Release);
            if let Some(slot) = NonNull::new(task) {
                c.gone += 1;
                self.consumer.gone.store(c.gone, Ordering::Release);
                // SAFETY: the ring owned a reference, which is ours now (invariant 1).
                let task = unsafe { SlotRef::from_raw(slot) };
                let won = won(&task);
                return Some((task, won));
            }
        }
        None
    }

    /// Whether the ring holds no entry. Without a lock; a task pushed meanwhile may be missed.
    #[inline(always)]
    pub(crate) fn looks_empty(&self) -> bool {
        self.producer.tail.load(Ordering::Acquire) == self.consumer.head.load(Ordering::Relaxed)
    }

    pub(crate) fn depth(&self) -> Depth {
        let p = self.producer.lock.lock();
        let c = self.consumer.lock.lock();
        Depth {
            pushed: p.pushed,
            direct: p.direct,
            queued: p.pushed - c.gone,
            ended: c.ended,
        }
    }

    /// How many places are free; all of them when closed, so that everybody comes and is told.
    fn room(&self) -> usize {
        let p = self.producer.lock.lock();
        if p.closed {
            return usize::MAX;
        }
        (self.capacity - (p.pushed - self.consumer.gone.load(Ordering::Acquire)).min(self.capacity)) as usize
    }

    /// Adds references to the next few tasks that no sweep has looked at and that `wanted` wants. True while
    /// there may be more.
    pub(crate) fn sweep_new(&self, found: &mut Vec<SlotRef>, wanted: impl Fn(&Slot) -> bool) -> bool {
        const CHUNK: u64 = 64;
        // No allocation under the lock.
        found.reserve(CHUNK as usize);
        let mut c = self.consumer.lock.lock();
        let tail = self.producer.tail.load(Ordering::Acquire);
        let start = c.swept.clamp(c.head, tail);
        let end = tail.min(start + CHUNK);
        for at in start..end {
            if let Some(slot) = NonNull::new(self.ring().at(at).load(Ordering::Relaxed)) {
                // SAFETY: the ring owns a reference (invariant 1), which is left where it is.
                let task = std::mem::ManuallyDrop::new(unsafe { SlotRef::from_raw(slot) });
                if wanted(&task) {
                    found.push((*task).clone());
                }
            }
        }
        c.swept = end;
        end != tail
    }

    // ---- closing ----

    /// Refuses every later push, and wakes the producers that wait for room.
    pub(crate) fn close(&self) {
        self.producer.lock.lock().closed = true;
        self.closed.store(true, Ordering::Release);
        full_fence();
        let woken: Vec<InLine> = self.waiting.lock().list.iter().map(|place| place.1.again()).collect();
        for producer in woken {
            producer.wake();
        }
    }

    #[inline(always)]
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    // ---- producers that wait for room ----

    pub(crate) fn blocked(&self) -> usize {
        self.blocked.load(Ordering::Relaxed)
    }

    /// Whether a place may be free and nobody waits: worth another try.
    pub(crate) fn worth_a_try(&self) -> bool {
        self.blocked.load(Ordering::Relaxed) == 0
            && (self.producer.tail.load(Ordering::Relaxed)
                < self.consumer.head.load(Ordering::Acquire).saturating_add(self.capacity)
                || self.room() != 0)
    }

    /// A place has become free: `gone` has been stored, and the caller has made a read-modify-write since. Wakes
    /// the first producer in line.
    #[inline(always)]
    pub(crate) fn announce_room_after_rmw(&self) {
        full_fence_after_rmw();
        if self.blocked.load(Ordering::Relaxed) != 0 {
            self.admit();
        }
    }

    /// A place has become free (`gone` has been stored): wakes the first producer in line.
    #[inline(always)]
    pub(crate) fn announce_room(&self) {
        full_fence();
        if self.blocked.load(Ordering::Relaxed) != 0 {
            self.admit();
        }
    }

    /// Wakes those in line for whom there is a place: all futures, and one thread at a time.
    #[cold]
    #[inline(never)]
    fn admit(&self) {
        let mut woken: Vec<InLine> = Vec::new();
        {
            let mut waiting = self.waiting.lock();
            if waiting.waking.is_some() {
                // It wakes the next.
                return;
            }
            let first = waiting.list.partition_point(|(key, _)| *key < waiting.woken_below);
            for rank in first..self.room().min(waiting.list.len()) {
                let (key, producer) = &waiting.list[rank];
                let (key, producer) = (*key, producer.again());
                waiting.woken_below = key + 1;
                let thread = matches!(producer, InLine::Thread(_));
                woken.push(producer);
                if thread {
                    waiting.waking = Some(key);
                    break;
                }
            }
        }
        for producer in woken {
            producer.wake();
        }
    }

    /// Joins the line, at its end; `None` if it is full.
    pub(crate) fn join_line(&self, producer: InLine) -> Option<u64> {
        let mut waiting = self.waiting.lock();
        if waiting.list.len() >= self.max_blocked {
            drop(waiting);
            return None;
        }
        let key = waiting.next;
        waiting.next += 1;
        waiting.list.push_back((key, producer));
        self.blocked.store(waiting.list.len(), Ordering::Relaxed);
        drop(waiting);
        full_fence();
        Some(key)
    }

    /// Tries to push as the producer `key` of the line. On success, or when closed, it has left the line.
    pub(crate) fn push_in_line(&self, key: u64, task: NonNull<Slot>) -> Result<(), NoPush> {
        let mut waiting = self.waiting.lock();
        let Some(rank) = waiting.rank(key) else {
            return Err(NoPush::Closed);
        };
        waiting.has_come(key);
        // Under the consumer lock: who frees a place under that lock later sees that this producer waits (invariant 5).
        match self.push_behind(task, rank as u64, |consumer| consumer.lock.lock().gone) {
            Err(NoPush::Full) => {
                // Whoever frees a place after this look at the room takes this lock to announce it.
                waiting.woken_below = waiting.woken_below.min(key);
                Err(NoPush::Full)
            }
            done => {
                let gone = waiting.list.remove(rank);
                self.blocked.store(waiting.list.len(), Ordering::Relaxed);
                drop(waiting);
                // A waker's destructor is user code: outside the lock.
                drop(gone);
                self.pass_on();
                done
            }
        }
    }

    /// Leaves the line without having pushed.
    pub(crate) fn leave_line(&self, key: u64) {
        let gone = {
            let mut waiting = self.waiting.lock();
            waiting.has_come(key);
            let gone = waiting.rank(key).and_then(|rank| waiting.list.remove(rank));
            self.blocked.store(waiting.list.len(), Ordering::Relaxed);
            gone
        };
        drop(gone);
        self.pass_on();
    }

    /// Replaces the waker of a producer in line.
    pub(crate) fn update_line(&self, key: u64, waker: &Waker) {
        let mut new = InLine::Waker(Arc::new(waker.clone()));
        {
            let mut waiting = self.waiting.lock();
            if let Some(rank) = waiting.rank(key) {
                std::mem::swap(&mut waiting.list[rank].1, &mut new);
            }
        }
        drop(new);
    }

    /// If there is room for the next in line, wakes it.
    fn pass_on(&self) {
        full_fence();
        if self.blocked.load(Ordering::Relaxed) != 0 {
            self.admit();
        }
    }
}

#[inline(always)]
fn prefetch(task: *mut Slot) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch touches nothing; the pointer need not even be valid.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_ET0 }>(task.cast());
    };
    #[cfg(not(target_arch = "x86_64"))]
    let _ = task;
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: came from `Box::into_raw`; nobody else reaches it. A pool is dropped only when every task has
        // ended, so the ring holds none.
        drop(unsafe { Box::from_raw(self.ring.load(Ordering::Relaxed)) });
    }
}
