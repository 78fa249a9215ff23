//! The bounded queue: many producers, many workers, and anyone may take a task out of the middle.
//!
//! A ring of pointers with two short locks, one a side, each with its fields on cache lines of its own. Tasks that wait for
//! more than their turn (for others of their key, or for their time) stand beside the ring, in `keyed`.
//!
//! Invariants:
//! 1. A task in the ring stands at its `position`, and the ring owns one reference to it (`keyed` likewise). Whoever takes
//!    it out owns that reference.
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
//! 6. A producer whose key is full stands in the same line, but is passed over: it holds no place of the queue, and those
//!    behind it none of its key.
//! 7. A task that is ended where it is taken out is counted under the same lock (`ended`), before its outcome can be seen.
//!
//! Lock order: producer lock, consumer lock, each alone or in this order; `waiting` before both. No user code,
//! no allocation of users' types and no wake-up under the two short locks.

use crate::error::Outcome;
use crate::fork;
use crate::keyed::{ByKey, Keyed, UNLIMITED};
use crate::slot::{Slot, SlotRef};
use crate::sync::{
    Arc, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, MODEL, Mutex, Ordering, Padded, Parker, ShortLock, full_fence,
    full_fence_after_rmw,
};
use std::collections::VecDeque;
use std::num::NonZero;
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

/// How large the ring may become. Twice the capacity: then a full ring is at least half holes, and closing them up pays for
/// itself.
fn max_ring(capacity: u64) -> usize {
    (2 * capacity as usize).next_power_of_two()
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
    /// Workers come by `pop_next` only.
    diverted: bool,
    keyed: Option<Box<Keyed>>,
    /// The next task is one from `keyed`, if there is one: the two take turns.
    keyed_next: bool,
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

const _: () = assert!(MODEL || size_of::<Padded<ConsumerSide>>() == 128);

pub(crate) struct Queue {
    producer: Padded<ProducerSide>,
    consumer: Padded<ConsumerSide>,
    /// Replaced under both locks only.
    ring: AtomicPtr<Ring>,
    capacity: AtomicU64,
    /// How many callbacks of a key may run. Changes under the consumer lock.
    key_limit: AtomicUsize,
    /// How many tasks of a key may be queued.
    key_capacity: AtomicUsize,
    /// How many keys have a task that may be started. Changes under the consumer lock.
    ready_keys: AtomicUsize,
    /// The generation of the process in which it is open; so an inherited one is closed.
    open_in: AtomicU32,
    /// Producers that wait for room.
    blocked: Padded<AtomicUsize>,
    waiting: Mutex<Waiting>,
    max_blocked: usize,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    list: VecDeque<Waiter>,
    /// Those with smaller tickets have been woken since they last found no room.
    woken_below: u64,
    /// The thread that has been woken and has not yet pushed, left, or found no room.
    waking: Option<u64>,
}

impl Waiting {
    fn rank(&self, ticket: u64) -> Option<usize> {
        self.list.binary_search_by_key(&ticket, |waiter| waiter.ticket).ok()
    }

    fn has_come(&mut self, ticket: u64) {
        if self.waking == Some(ticket) {
            self.waking = None;
        }
    }

    /// A place in `left` for each key of the first so many in line.
    fn keys(&self, count: usize) -> ByKey<usize> {
        let keys = self.list.iter().take(count).filter_map(|waiter| waiter.key);
        keys.map(|key| (key, 0)).collect()
    }
}

struct Waiter {
    ticket: u64,
    producer: InLine,
    key: Option<u64>,
    /// It was woken by [`Queue::admit_by_key`], and has not come yet.
    woken: bool,
}

/// Counts one more of a key, if it has room `left`; what has no key always has.
fn claim(left: &mut ByKey<usize>, key: Option<u64>) -> bool {
    match key.map(|key| left.get_mut(&key)) {
        None => true,
        Some(Some(left)) if *left != 0 => {
            *left -= 1;
            true
        }
        Some(_) => false,
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
    /// As many tasks of this key are queued as may be, or others wait for their place already.
    KeyFull,
    Closed,
}

/// The holes of the ring are about to be closed up: tells those beside it where that moves the entries.
#[cold]
fn renumber(c: &mut Consumer, ring: &Ring, tail: u64) {
    let head = c.head;
    let Some(keyed) = &mut c.keyed else { return };
    let mut cursor = keyed.renumbering();
    let mut to = head;
    for from in head..tail {
        keyed.renumber(&mut cursor, from, to);
        to += u64::from(!ring.at(from).load(Ordering::Relaxed).is_null());
    }
    keyed.renumber(&mut cursor, tail, to);
}

/// What a task waits for in the queue, beside its turn. Two words: it travels in registers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Kind {
    key: Option<NonZero<u64>>,
    /// Until it is [unparked](Queue::unpark).
    pub(crate) parked: bool,
}

impl Kind {
    /// For others of its key.
    pub(crate) fn of_key(key: u64) -> Kind {
        Kind {
            // (Hashes: 0 may as well be 1.)
            key: Some(NonZero::new(key).unwrap_or(NonZero::<u64>::MIN)),
            parked: false,
        }
    }

    pub(crate) fn parked(self, parked: bool) -> Kind {
        Kind { parked, ..self }
    }

    #[inline]
    pub(crate) fn key(self) -> Option<u64> {
        self.key.map(NonZero::get)
    }

    /// For its turn alone.
    #[inline]
    pub(crate) fn is_plain(self) -> bool {
        self.key.is_none() && !self.parked
    }
}

/// Where a task stands.
enum Place<'q> {
    Ring(&'q Entry),
    Keyed(u32),
}

impl Consumer {
    fn queued_of(&self, key: u64) -> usize {
        self.keyed.as_ref().map_or(0, |keyed| keyed.queued(key))
    }
}

/// A task that a worker has taken out.
pub(crate) struct Taken {
    pub(crate) task: SlotRef,
    /// Whether there is another to start, it seems.
    pub(crate) more: bool,
    /// Whose turn it was, for a task with a key.
    pub(crate) key: Option<u32>,
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
        let ring = Ring::new(max_ring(capacity as u64).min(1024));
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
                    diverted: false,
                    keyed: None,
                    keyed_next: false,
                }),
                head: AtomicU64::new(0),
                gone: AtomicU64::new(0),
            }),
            ring: AtomicPtr::new(Box::into_raw(ring)),
            capacity: AtomicU64::new(capacity as u64),
            key_limit: AtomicUsize::new(UNLIMITED),
            key_capacity: AtomicUsize::new(UNLIMITED),
            ready_keys: AtomicUsize::new(0),
            open_in: AtomicU32::new(fork::generation()),
            blocked: Padded(AtomicUsize::new(0)),
            waiting: Mutex::default(),
            max_blocked,
        }
    }

    #[inline(always)]
    fn capacity(&self) -> u64 {
        self.capacity.load(Ordering::Relaxed)
    }

    /// By how many tasks more that is. Producers that wait are to be told.
    pub(crate) fn set_capacity(&self, capacity: usize) -> usize {
        let _p = self.producer.lock.lock();
        let before = self.capacity.swap(capacity as u64, Ordering::Relaxed);
        capacity.saturating_sub(before as usize)
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

    /// [`push`](Self::push), for a task of any kind.
    pub(crate) fn push_as(&self, task: NonNull<Slot>, kind: Kind) -> Result<(), NoPush> {
        let others = self.blocked.load(Ordering::Relaxed);
        if others != 0 && self.key_capacity() != UNLIMITED {
            return self.push_last(task, kind);
        }
        if kind.is_plain() {
            return self.push(task);
        }
        self.push_keyed(task, kind, |_, _| Ok(others as u64))
    }

    /// Puts a task beside the ring, if that leaves as many places for others as `others` says, once it has looked at the keys.
    fn push_keyed(
        &self,
        task: NonNull<Slot>,
        kind: Kind,
        others: impl FnOnce(&Consumer, u64) -> Result<u64, NoPush>,
    ) -> Result<(), NoPush> {
        let mut p = self.producer.lock.lock();
        if p.closed {
            return Err(NoPush::Closed);
        }
        let mut c = self.consumer.lock.lock();
        p.gone = c.gone;
        let room = self.capacity().saturating_sub(p.pushed - p.gone);
        if room <= others(&c, room)? {
            return Err(NoPush::Full);
        }
        if kind.is_plain() {
            drop(c);
            self.append(&mut p, task);
            self.producer.tail.store(p.tail, Ordering::Release);
            return Ok(());
        }
        if self.key_is_full(&c, kind) {
            return Err(NoPush::KeyFull);
        }
        self.add_keyed(&mut p, &mut c, task, kind);
        Ok(())
    }

    /// Whether as many tasks of its key are queued as may be.
    fn key_is_full(&self, c: &Consumer, kind: Kind) -> bool {
        kind.key().is_some_and(|key| c.queued_of(key) >= self.key_capacity())
    }

    /// Puts a task beside the ring, where there is a place for it.
    fn add_keyed(&self, p: &mut Producer, c: &mut Consumer, task: NonNull<Slot>, kind: Kind) {
        p.pushed += 1;
        let limit = self.key_limit.load(Ordering::Relaxed);
        let keyed = c.keyed.get_or_insert_with(|| Box::new(Keyed::new(limit)));
        // SAFETY: the caller hands the reference over.
        keyed.add(unsafe { SlotRef::from_raw(task) }, kind.key(), kind.parked, p.tail);
        self.show_keys(c);
    }

    /// How many keys are ready, for those who look without the lock.
    fn show_keys(&self, c: &Consumer) {
        let ready = c.keyed.as_ref().map_or(0, |keyed| keyed.ready());
        self.ready_keys.store(ready, Ordering::Release);
    }

    fn key_capacity(&self) -> usize {
        self.key_capacity.load(Ordering::Relaxed)
    }

    /// [`push_as`](Self::push_as) behind everybody in line, where some of them may hold no place.
    #[cold]
    fn push_last(&self, task: NonNull<Slot>, kind: Kind) -> Result<(), NoPush> {
        let waiting = self.waiting.lock();
        let rank = waiting.list.len();
        self.push_at_rank(&waiting, rank, task, kind)
    }

    /// Puts a task at the end as the producer of this rank in line: if there is a place beyond those that the producers
    /// before it could take, and one of its key.
    fn push_at_rank(&self, waiting: &Waiting, rank: usize, task: NonNull<Slot>, kind: Kind) -> Result<(), NoPush> {
        let mut left = waiting.keys(rank);
        left.extend(kind.key().map(|key| (key, 0)));
        self.push_keyed(task, kind, |c, _| {
            self.room_of_keys(c, &mut left);
            let before = waiting.list.iter().take(rank);
            let places = before.filter(|waiter| claim(&mut left, waiter.key)).count();
            if claim(&mut left, kind.key()) {
                Ok(places as u64)
            } else {
                Err(NoPush::KeyFull)
            }
        })
    }

    /// How many places each of these keys has left.
    fn room_of_keys(&self, c: &Consumer, left: &mut ByKey<usize>) {
        for (key, left) in left {
            *left = self.key_capacity().saturating_sub(c.queued_of(*key));
        }
    }

    /// Puts a task at the end if that leaves so many places for others. `gone` looks again how many places came free.
    #[inline(always)]
    fn push_behind(&self, task: NonNull<Slot>, others: u64, gone: impl Fn(&ConsumerSide) -> u64) -> Result<(), NoPush> {
        let mut p = self.producer.lock.lock();
        if p.closed {
            return Err(NoPush::Closed);
        }
        if p.pushed - p.gone + others >= self.capacity() {
            p.gone = gone(&self.consumer);
            if p.pushed - p.gone + others >= self.capacity() {
                return Err(NoPush::Full);
            }
        }
        self.append(&mut p, task);
        self.producer.tail.store(p.tail, Ordering::Release);
        Ok(())
    }

    /// Puts as many tasks at the end as there are places for, the first ones, at least one: how many.
    pub(crate) fn push_many(&self, tasks: &[NonNull<Slot>], kind: Kind) -> Result<usize, NoPush> {
        if !kind.is_plain() || self.key_capacity() != UNLIMITED {
            return self.push_as(tasks[0], kind).map(|()| 1);
        }
        let others = self.blocked.load(Ordering::Relaxed) as u64;
        let mut p = self.producer.lock.lock();
        if p.closed {
            return Err(NoPush::Closed);
        }
        let room = |p: &Producer| self.capacity().saturating_sub(p.pushed - p.gone + others) as usize;
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

    /// Puts a task at the end for which the queue was `full`, in the place of the oldest one, or of the oldest of its key if that
    /// was full: which is told, and whether the caller is the one who ends it, as [`pop_won`](Self::pop_won) does. Nobody else
    /// comes between, and those that wait for room lose no place that is theirs, unless nothing is queued whose place it could be.
    /// Still full: the capacity is less than it was, and one more has to go.
    #[cold]
    pub(crate) fn push_over(
        &self,
        task: NonNull<Slot>,
        kind: Kind,
        full: NoPush,
        won: impl Fn(&Slot) -> bool,
    ) -> (Result<(), NoPush>, Option<(SlotRef, bool)>) {
        let mut p = self.producer.lock.lock();
        if p.closed {
            return (Err(NoPush::Closed), None);
        }
        let queued = |p: &Producer, c: &Consumer| p.pushed - c.gone;
        let (key_is_full, has_room) = {
            let c = self.consumer.lock.lock();
            let others = self.blocked() as u64;
            (self.key_is_full(&c, kind), queued(&p, &c) + others < self.capacity())
        };
        let oldest = match kind.key() {
            Some(key) if key_is_full || full == NoPush::KeyFull => self.pop_won_of(key, won),
            _ if has_room => None,
            _ => self.pop_won(won),
        };
        let mut c = self.consumer.lock.lock();
        p.gone = c.gone;
        let pushed = if queued(&p, &c) >= self.capacity() {
            Err(NoPush::Full)
        } else if self.key_is_full(&c, kind) {
            Err(NoPush::KeyFull)
        } else if kind.is_plain() {
            drop(c);
            self.append(&mut p, task);
            self.producer.tail.store(p.tail, Ordering::Release);
            Ok(())
        } else {
            self.add_keyed(&mut p, &mut c, task, kind);
            Ok(())
        };
        (pushed, oldest)
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
        let larger = live as usize > old.entries.len() * 3 / 4
            && old.entries.len() < max_ring(self.capacity().max(p.pushed - c.gone));
        let new = larger.then(|| Ring::new(old.entries.len() * 2));
        let target = new.as_deref().unwrap_or(old);
        let (mut to, mut swept) = (c.head, c.head);
        if c.keyed.is_some() {
            renumber(&mut c, old, p.tail);
        }
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
        if c.diverted {
            return None;
        }
        let (slot, more) = self.pop_ring(&mut c, current)?;
        drop(c);
        // SAFETY: the ring owned a reference, which is ours now (invariant 1).
        Some((unsafe { SlotRef::from_raw(slot) }, more))
    }

    /// [`pop`](Self::pop), once queues take turns.
    pub(crate) fn pop_next(&self, current: &AtomicPtr<Slot>) -> Option<Taken> {
        let mut c = self.consumer.lock.lock();
        for keyed in [c.keyed_next, !c.keyed_next] {
            if keyed {
                let Some((task, key)) = c.keyed.as_mut().and_then(|keyed| keyed.take()) else {
                    continue;
                };
                c.keyed_next = false;
                c.gone += 1;
                current.store(task.as_ptr().as_ptr(), Ordering::Release);
                self.consumer.gone.store(c.gone, Ordering::Release);
                self.show_keys(&c);
                return Some(Taken {
                    task,
                    more: !self.looks_unready(),
                    key: Some(key),
                });
            }
            if let Some((slot, more)) = self.pop_ring(&mut c, current) {
                c.keyed_next = true;
                drop(c);
                return Some(Taken {
                    // SAFETY: the ring owned a reference, which is ours now (invariant 1).
                    task: unsafe { SlotRef::from_raw(slot) },
                    more: more || !self.looks_unready(),
                    key: None,
                });
            }
        }
        None
    }

    /// From now on workers take turns: `begun` is called once while nobody takes anything.
    pub(crate) fn divert(&self, begun: impl FnOnce()) {
        let mut c = self.consumer.lock.lock();
        c.diverted = true;
        begun();
    }

    #[inline(always)]
    fn pop_ring(&self, c: &mut Consumer, current: &AtomicPtr<Slot>) -> Option<(NonNull<Slot>, bool)> {
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
                return Some((slot, c.head < c.tail));
            }
        }
    }

    /// Takes a task out of the middle for a thread that runs it at once, unless a worker has popped it, or its key holds it
    /// back. It is shown in `current` before anyone could miss it (invariant 3). `permit`: the caller has one; without, it
    /// gets nothing once queues take turns.
    pub(crate) fn take_to_run(&self, task: &SlotRef, current: &AtomicPtr<Slot>, permit: bool) -> Option<Taken> {
        let mut c = self.consumer.lock.lock();
        if c.diverted && !permit {
            return None;
        }
        let (task, key) = match self.place(&c, task)? {
            Place::Ring(entry) => {
                entry.store(std::ptr::null_mut(), Ordering::Relaxed);
                // SAFETY: the ring owned a reference, which is ours now (invariant 1).
                (unsafe { SlotRef::from_raw(task.as_ptr()) }, None)
            }
            Place::Keyed(index) => {
                let (task, key) = c.keyed.as_mut()?.take_this(index)?;
                self.show_keys(&c);
                (task, Some(key))
            }
        };
        current.store(task.as_ptr().as_ptr(), Ordering::Release);
        c.gone += 1;
        self.consumer.gone.store(c.gone, Ordering::Release);
        Some(Taken { task, more: true, key })
    }

    /// Whether nothing but its turn keeps a queued task from being started.
    pub(crate) fn is_next(&self, task: &Slot) -> bool {
        let c = self.consumer.lock.lock();
        match self.place(&c, task) {
            Some(Place::Keyed(index)) => c.keyed.as_ref().is_some_and(|keyed| keyed.is_next(index)),
            Some(Place::Ring(_)) | None => true,
        }
    }

    /// The key that holds a queued task back, as it has as many running as it may, and how many these are.
    pub(crate) fn held_back_by_key(&self, task: &Slot) -> Option<(u32, usize)> {
        let c = self.consumer.lock.lock();
        match self.place(&c, task)? {
            Place::Ring(_) => None,
            Place::Keyed(index) => c.keyed.as_ref()?.held_back(index),
        }
    }

    /// Takes an ended task out of the middle, unless a worker has popped it. If it was there, the ring's reference is
    /// the caller's now.
    pub(crate) fn take_out(&self, task: &Slot) -> bool {
        let mut c = self.consumer.lock.lock();
        let Some(place) = self.place(&c, task) else {
            return false;
        };
        self.clear(&mut c, place);
        self.consumer.gone.store(c.gone, Ordering::Release);
        true
    }

    /// [`take_out`](Self::take_out), and the task is counted as ended; `more` is called under the lock with whether a
    /// producer waits for the place.
    #[inline]
    pub(crate) fn take_out_counted<R>(&self, task: &Slot, outcome: Outcome, more: impl FnOnce(bool) -> R) -> (bool, R) {
        let mut c = self.consumer.lock.lock();
        let place = self.place(&c, task);
        let there = place.is_some();
        if let Some(place) = place {
            self.clear(&mut c, place);
            self.consumer.gone.store(c.gone, Ordering::Release);
        }
        c.ended[outcome as usize] += 1;
        let wanted = there && self.blocked() != 0;
        (there, more(wanted))
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
            let place = task.as_ref().and_then(|task| self.place(&c, task));
            if end(task, place.is_some()) {
                c.ended[outcome as usize] += 1;
                if let Some(place) = place {
                    self.clear(&mut c, place);
                }
            }
        }
        self.consumer.gone.store(c.gone, Ordering::Release);
    }

    /// Where a task stands, if it does. Under the consumer lock.
    #[inline(always)]
    fn place(&self, c: &Consumer, task: &Slot) -> Option<Place<'_>> {
        // Of an entry that is there, `tail` is above its position.
        let tail = self.producer.tail.load(Ordering::Acquire);
        let offset = task.position().wrapping_sub(c.head) & crate::slot::POS_MASK;
        if offset < tail - c.head {
            let entry = self.ring().at(c.head + offset);
            if std::ptr::eq(entry.load(Ordering::Relaxed), task) {
                return Some(Place::Ring(entry));
            }
        }
        // Its position means another thing there, so it may have led to an entry of the ring.
        Some(Place::Keyed(c.keyed.as_ref()?.find(task)?))
    }

    /// Takes a task out of its place; the caller shows `gone`. What the place owned is the caller's: nothing is read through
    /// it here.
    #[inline(always)]
    fn clear(&self, c: &mut Consumer, place: Place<'_>) {
        match place {
            Place::Ring(entry) => entry.store(std::ptr::null_mut(), Ordering::Relaxed),
            Place::Keyed(index) => self.clear_keyed(c, index),
        }
        c.gone += 1;
    }

    #[cold]
    fn clear_keyed(&self, c: &mut Consumer, index: u32) {
        if let Some(keyed) = &mut c.keyed {
            let _ = keyed.remove(index).into_raw();
        }
        self.show_keys(c);
    }

    /// Takes the oldest task for somebody who is not a worker. `won` is asked under the lock whether the caller
    /// is the one who ends it; if not, the task is being ended by somebody else and its place is free as well.
    pub(crate) fn pop_won(&self, won: impl Fn(&Slot) -> bool) -> Option<(SlotRef, bool)> {
        let mut c = self.consumer.lock.lock();
        c.tail = self.producer.tail.load(Ordering::Acquire);
        while c.head != c.tail && self.ring().at(c.head).load(Ordering::Relaxed).is_null() {
            c.head += 1;
        }
        self.consumer.head.store(c.head, Ordering::Release);
        let oldest = c.keyed.as_ref().and_then(|keyed| keyed.oldest());
        if let Some((index, at)) = oldest
            && (c.head == c.tail || at <= c.head)
        {
            return Some(self.pop_keyed_won(&mut c, index, won));
        }
        let slot = NonNull::new(self.ring().at(c.head).load(Ordering::Relaxed)).filter(|_| c.head != c.tail)?;
        c.head += 1;
        self.consumer.head.store(c.head, Ordering::Release);
        c.gone += 1;
        self.consumer.gone.store(c.gone, Ordering::Release);
        // SAFETY: the ring owned a reference, which is ours now (invariant 1).
        let task = unsafe { SlotRef::from_raw(slot) };
        let won = won(&task);
        Some((task, won))
    }

    /// [`pop_won`](Self::pop_won) of a key.
    pub(crate) fn pop_won_of(&self, key: u64, won: impl Fn(&Slot) -> bool) -> Option<(SlotRef, bool)> {
        let mut c = self.consumer.lock.lock();
        let index = c.keyed.as_ref()?.oldest_of(key)?;
        Some(self.pop_keyed_won(&mut c, index, won))
    }

    fn pop_keyed_won(&self, c: &mut Consumer, index: u32, won: impl Fn(&Slot) -> bool) -> (SlotRef, bool) {
        let keyed = c.keyed.as_mut().expect("the caller has seen it there");
        let task = keyed.remove(index);
        self.show_keys(c);
        c.gone += 1;
        self.consumer.gone.store(c.gone, Ordering::Release);
        let won = won(&task);
        (task, won)
    }

    /// Whether the ring holds no entry. Without a lock; a task pushed meanwhile may be missed.
    #[inline(always)]
    pub(crate) fn looks_empty(&self) -> bool {
        self.producer.tail.load(Ordering::Acquire) == self.consumer.head.load(Ordering::Relaxed)
    }

    /// Whether there is no task that a worker could take, it seems.
    pub(crate) fn looks_unready(&self) -> bool {
        self.looks_empty() && self.ready_keys.load(Ordering::Acquire) == 0
    }

    /// How many tasks are queued.
    pub(crate) fn queued(&self) -> u64 {
        self.depth().queued
    }

    /// The callback of a task with this key has returned.
    pub(crate) fn key_returned(&self, key: u32) {
        let mut c = self.consumer.lock.lock();
        if let Some(keyed) = &mut c.keyed {
            keyed.returned(key);
        }
        self.show_keys(&c);
    }

    /// How many callbacks of a key may run at the same time.
    pub(crate) fn set_key_limit(&self, limit: usize) {
        let mut c = self.consumer.lock.lock();
        self.key_limit.store(limit, Ordering::Relaxed);
        if let Some(keyed) = &mut c.keyed {
            keyed.set_limit(limit);
        }
        self.show_keys(&c);
    }

    /// How many tasks of a key may be queued. Producers that wait are to be told.
    pub(crate) fn set_key_capacity(&self, capacity: usize) {
        let _p = self.producer.lock.lock();
        self.key_capacity.store(capacity, Ordering::Relaxed);
    }

    /// Whether a task is queued here, and its time has not come.
    pub(crate) fn is_parked(&self, task: &Slot) -> bool {
        let c = self.consumer.lock.lock();
        c.keyed.as_ref().is_some_and(|keyed| keyed.is_parked(task))
    }

    /// A parked task's time has come: a worker may take it. False if it has been taken out meanwhile.
    pub(crate) fn unpark(&self, task: &Slot) -> bool {
        let mut c = self.consumer.lock.lock();
        let there = c.keyed.as_mut().is_some_and(|keyed| keyed.unpark(task));
        self.show_keys(&c);
        there
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
        self.capacity()
            .saturating_sub(p.pushed - self.consumer.gone.load(Ordering::Acquire)) as usize
    }

    /// Adds references to the next few tasks that no sweep has looked at and that `wanted` wants. True while
    /// there may be more.
    pub(crate) fn sweep_new(&self, found: &mut Vec<SlotRef>, wanted: impl Fn(&Slot) -> bool) -> bool {
        const CHUNK: u64 = 64;
        // No allocation under the lock.
        found.reserve(2 * CHUNK as usize);
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
        let more = c.keyed.as_mut().is_some_and(|keyed| {
            keyed.sweep_new(CHUNK as usize, |task| {
                if wanted(task) {
                    found.push(task.clone());
                }
            })
        });
        more || end != tail
    }

    // ---- closing ----

    /// Refuses every later push, and wakes the producers that wait for room.
    pub(crate) fn close(&self) {
        self.producer.lock.lock().closed = true;
        self.open_in.store(u32::MAX, Ordering::Release);
        full_fence();
        let woken: Vec<InLine> = {
            let waiting = self.waiting.lock();
            waiting.list.iter().map(|waiter| waiter.producer.again()).collect()
        };
        for producer in woken {
            producer.wake();
        }
    }

    #[inline(always)]
    pub(crate) fn is_closed(&self) -> bool {
        self.open_in.load(Ordering::Acquire) != fork::generation()
    }

    // ---- producers that wait for room ----

    pub(crate) fn blocked(&self) -> usize {
        self.blocked.load(Ordering::Relaxed)
    }

    /// Whether a place may be free and nobody waits: worth another try.
    pub(crate) fn worth_a_try(&self) -> bool {
        self.blocked.load(Ordering::Relaxed) == 0
            && (self.producer.tail.load(Ordering::Relaxed)
                < self
                    .consumer
                    .head
                    .load(Ordering::Acquire)
                    .saturating_add(self.capacity())
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
            if self.key_capacity() != UNLIMITED {
                self.admit_by_key(&mut waiting, &mut woken);
            } else {
                let first = waiting.list.partition_point(|w| w.ticket < waiting.woken_below);
                for rank in first..self.room().min(waiting.list.len()) {
                    let Waiter { ticket, producer, .. } = &waiting.list[rank];
                    let (ticket, producer) = (*ticket, producer.again());
                    waiting.woken_below = ticket + 1;
                    let thread = matches!(producer, InLine::Thread(_));
                    woken.push(producer);
                    if thread {
                        waiting.waking = Some(ticket);
                        break;
                    }
                }
            }
        }
        for producer in woken {
            producer.wake();
        }
    }

    /// Those whose key is full are passed over. One that was woken and has not come yet keeps its place, and is not woken again:
    /// its waker may be that of the thread which looks for room here.
    fn admit_by_key(&self, waiting: &mut Waiting, woken: &mut Vec<InLine>) {
        let mut left = waiting.keys(usize::MAX);
        let mut room = self.room();
        self.room_of_keys(&self.consumer.lock.lock(), &mut left);
        if self.is_closed() {
            left.values_mut().for_each(|left| *left = usize::MAX);
        }
        for waiter in &mut waiting.list {
            if room == 0 {
                break;
            }
            if claim(&mut left, waiter.key) {
                room -= 1;
                if std::mem::replace(&mut waiter.woken, true) {
                    continue;
                }
                woken.push(waiter.producer.again());
                if matches!(waiter.producer, InLine::Thread(_)) {
                    waiting.waking = Some(waiter.ticket);
                    break;
                }
            }
        }
    }

    /// Joins the line, at its end; `None` if it is full.
    pub(crate) fn join_line(&self, producer: InLine, key: Option<u64>) -> Option<u64> {
        let mut waiting = self.waiting.lock();
        if waiting.list.len() >= self.max_blocked {
            drop(waiting);
            return None;
        }
        let ticket = waiting.next;
        waiting.next += 1;
        waiting.list.push_back(Waiter {
            ticket,
            producer,
            key,
            woken: false,
        });
        self.blocked.store(waiting.list.len(), Ordering::Relaxed);
        drop(waiting);
        full_fence();
        Some(ticket)
    }

    /// Tries to push as the producer of this ticket. On success, or when closed, it has left the line.
    pub(crate) fn push_in_line(&self, ticket: u64, task: NonNull<Slot>, kind: Kind) -> Result<(), NoPush> {
        let mut waiting = self.waiting.lock();
        let Some(rank) = waiting.rank(ticket) else {
            return Err(NoPush::Closed);
        };
        waiting.has_come(ticket);
        let by_key = self.key_capacity() != UNLIMITED;
        // Under the consumer lock: who frees a place under that lock later sees that this producer waits (invariant 5).
        let pushed = if by_key {
            self.push_at_rank(&waiting, rank, task, kind)
        } else if kind.is_plain() {
            self.push_behind(task, rank as u64, |consumer| consumer.lock.lock().gone)
        } else {
            self.push_keyed(task, kind, |_, _| Ok(rank as u64))
        };
        match pushed {
            Err(full @ (NoPush::Full | NoPush::KeyFull)) => {
                // Whoever frees a place after this look at the room takes this lock to announce it.
                waiting.woken_below = waiting.woken_below.min(ticket);
                waiting.list[rank].woken = false;
                drop(waiting);
                if by_key {
                    // The place may suit somebody else.
                    self.pass_on();
                }
                Err(full)
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
    pub(crate) fn leave_line(&self, ticket: u64) {
        let gone = {
            let mut waiting = self.waiting.lock();
            waiting.has_come(ticket);
            let gone = waiting.rank(ticket).and_then(|rank| waiting.list.remove(rank));
            self.blocked.store(waiting.list.len(), Ordering::Relaxed);
            gone
        };
        drop(gone);
        self.pass_on();
    }

    /// Replaces the waker of a producer in line.
    pub(crate) fn update_line(&self, ticket: u64, waker: &Waker) {
        let mut new = InLine::Waker(Arc::new(waker.clone()));
        {
            let mut waiting = self.waiting.lock();
            if let Some(rank) = waiting.rank(ticket) {
                std::mem::swap(&mut waiting.list[rank].producer, &mut new);
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

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::InLine;
    use crate::Pool;
    use crate::sync::Parker;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, mpsc};
    use std::task::{Wake, Waker};

    #[derive(Default)]
    struct Told(AtomicBool);

    impl Wake for Told {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn p04_a_producer_that_leaves_while_it_is_woken_passes_its_turn_on() {
        let pool = Pool::builder().workers(1).max_replacements(0).capacity(1);
        let pool = pool.max_blocked_producers(2).build().expect("a pool");
        let ((begin, begun), (open, gate)) = (mpsc::channel(), mpsc::channel::<()>());
        let running = pool.spawn(move || {
            begin.send(()).expect("it is waited for");
            let _ = gate.recv();
        });
        begun.recv().expect("it runs");
        let queued = pool.try_spawn(|| ()).expect("there is room");
        let queue = &pool.shared().queue;
        let told = Arc::new(Told::default());
        let thread = queue.join_line(InLine::Thread(Arc::new(Parker::here())), None);
        let future = queue.join_line(InLine::Waker(Arc::new(Waker::from(told.clone()))), None);
        let (thread, future) = (thread.expect("a place in line"), future.expect("a place in line"));
        // The thread is woken for the place, and never comes.
        assert!(queued.cancel());
        assert!(!told.0.load(Ordering::SeqCst), "it is not the first in line");
        queue.leave_line(thread);
        assert!(told.0.load(Ordering::SeqCst), "its turn has come");
        queue.leave_line(future);
        drop(open);
        drop(running);
    }
}
