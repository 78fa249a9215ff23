//! The one-answer cell: a task as a small state machine that anyone may move to its end.
//!
//! ```text
//!            worker            worker (nobody to tell, on no list)
//!  QUEUED ----------> RUNNING ------------------------------.
//!     |                  |  worker                          v
//!     '------------------'---------> FINISHING ---------> ended: SUCCEEDED FAILED PANICKED CANCELLED
//!        canceller, timer,            (the winner          DEADLINE_EXCEEDED SHED ABANDONED
//!        token, drain, overflow        alone)
//! ```
//!
//! Invariants:
//! 1. Whoever moves the word to FINISHING, or from RUNNING to ended, is the one winner. It alone counts the task, leaves the token and
//!    the timer, and publishes the outcome; nobody else writes the outcome, ever (P1).
//! 2. The payload belongs to exactly one party: while QUEUED to whoever wins the step out of QUEUED; from RUNNING on
//!    to the worker, who leaves the value there before it tries to answer, and takes it away again if somebody else
//!    has; once published as ended by the worker, to the first taker. Winners other than the worker write no
//!    payload: their reason is in the word or in the side record. One that won a queued task owns its callback.
//! 3. A block goes back to the arena when the last reference is dropped; its generation is then one higher.
//!    While `refs == 1` and the state is ended, the holder of that reference is alone: no other party can
//!    make a new one: observers only add a reference to a word they read while the slot stood in its worker's
//!    `current`, and the worker clears that field and then changes the word (by publishing, or by
//!    [`SlotRef::leave`]).
//! 4. A waiter registers itself and then looks at the state, in one read-modify-write of the word; a winner
//!    publishes and looks for waiters in one read-modify-write of the same word. So one of them sees the other.
//! 5. In a forked child a task of an inherited pool that has no outcome becomes `abandoned` with the first look at it
//!    ([`Slot::look`], [`Slot::settle`]): nobody else steps there any more. Its side record, with the locks, is not
//!    touched, nor is anything that the task still holds freed.
//! 6. `RELEASED` is set once the callback and all it captured are gone.
//!
//! Lock order: the waiters' lock of a side record is a leaf. Waiters are woken after it is let go.

use crate::arena::{self, Block};
use crate::cancel::{CancellationToken, Link};
use crate::clock::{self, MILLIS_BITS, Millis, NO_MILLIS};
use crate::error::{CancelReason, Interrupted, Outcome};
use crate::fork;
use crate::name::{Label, TaskName, site};
use crate::sync::{
    Arc, AtomicPtr, AtomicU64, MODEL, Mutex, OnceLock, Ordering, Parker, UnsafeCell, local, patience, spin_hint, thread,
};
use std::any::{Any, TypeId};
use std::cell::Cell;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::ptr::NonNull;
use std::task::Waker;

// ---- the word: generation 28 | references 20 | reason 4 | flags 8 | state 4 ----

pub(crate) const FREE: u64 = 0;
pub(crate) const QUEUED: u64 = 1;
pub(crate) const RUNNING: u64 = 2;
pub(crate) const FINISHING: u64 = 3;
const FIRST_ENDED: u64 = 4;
/// [`Outcome::Succeeded`].
const SUCCEEDED: u64 = FIRST_ENDED;

const STATE: u64 = 0xF;
/// Somebody is, or was, in the side record's list of waiters.
pub(crate) const WAITERS: u64 = 1 << 4;
/// In the timer's wheel.
pub(crate) const TIMED: u64 = 1 << 5;
/// The value has been moved out.
pub(crate) const TAKEN: u64 = 1 << 6;
/// The callback and its captured data are gone.
pub(crate) const RELEASED: u64 = 1 << 7;
/// Somebody looked at the outcome.
pub(crate) const OBSERVED: u64 = 1 << 8;
/// In a token's list.
pub(crate) const LINKED: u64 = 1 << 9;
/// The reason is in the side record.
const REASON_SHIFT: u32 = 12;
const REASON: u64 = 0xF << REASON_SHIFT;
const REF_SHIFT: u32 = 16;
pub(crate) const REF: u64 = 1 << REF_SHIFT;
const REF_BITS: u32 = 20;
const REFS: u64 = ((1 << REF_BITS) - 1) << REF_SHIFT;
const GEN: u64 = 1 << (REF_SHIFT + REF_BITS);

const REASON_REQUESTED: u64 = 0;
const REASON_CALLER_LEFT: u64 = 1;
const REASON_DROPPED: u64 = 2;
const REASON_DEADLINE: u64 = 3;
const REASON_FORKED: u64 = 4;
const REASON_ELSEWHERE: u64 = 15;

#[inline(always)]
pub(crate) fn state(word: u64) -> u64 {
    word & STATE
}

#[inline(always)]
pub(crate) fn ended(word: u64) -> bool {
    word & STATE >= FIRST_ENDED
}

/// The bits of a reason that fits into the word.
pub(crate) fn reason_in_word(reason: &CancelReason) -> Option<u64> {
    match reason {
        CancelReason::Requested => Some(REASON_REQUESTED),
        CancelReason::CallerLeft => Some(REASON_CALLER_LEFT),
        CancelReason::Dropped => Some(REASON_DROPPED),
        CancelReason::DeadlineExceeded => Some(REASON_DEADLINE),
        CancelReason::Forked => Some(REASON_FORKED),
        CancelReason::Signal(_) | CancelReason::Custom(_) => None,
    }
}

#[inline(always)]
fn refs(word: u64) -> u64 {
    (word & REFS) >> REF_SHIFT
}

fn state_of(outcome: Outcome) -> u64 {
    FIRST_ENDED + outcome as u64
}

/// The outcome of each state, so that a look needs no comparison.
const OUTCOMES: [Option<Outcome>; STATE as usize + 1] = {
    let (mut outcomes, mut index) = ([None; STATE as usize + 1], 0);
    while index < Outcome::ALL.len() {
        outcomes[FIRST_ENDED as usize + index] = Some(Outcome::ALL[index]);
        index += 1;
    }
    outcomes
};

/// The outcome in a word.
#[inline]
pub(crate) fn outcome(word: u64) -> Option<Outcome> {
    OUTCOMES[state(word) as usize]
}

// ---- the other fields ----

const NODE_BITS: u32 = 64 - MILLIS_BITS;
/// How many tasks of a pool a timer can hold.
pub(crate) const MAX_NODES: usize = (1 << NODE_BITS) - 1;
const POS_BITS: u32 = 24;
pub(crate) const POS_MASK: u64 = (1 << POS_BITS) - 1;
const LANE_SHIFT: u32 = POS_BITS + site::BITS;

/// Three words for the callback while queued and for the value once ended. What does not fit is boxed.
pub(crate) type Payload = [MaybeUninit<u64>; 3];

/// What became of a worker's answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// Published, and the worker's reference has gone with it. `last`: it was the last.
    Published { last: bool },
    /// The worker is the winner, and the task is FINISHING: it has waiters, is in the timer or under a token, or
    /// freeing it runs user code.
    Won,
    /// Somebody else had answered.
    Late,
}

/// What is known of a callback's type.
#[derive(Clone, Copy)]
pub(crate) struct VTable {
    /// Takes the callback out of the payload, runs it, and leaves its value, error or panic message there.
    ///
    /// Safety: the caller is the worker that moved this task to RUNNING and calls this once; the pointer is to
    /// the `Context` of this run. Does not unwind.
    pub(crate) run: unsafe fn(&Slot, *const ()) -> Outcome,
    /// Drops the callback in the payload. Safety: it is there, and the caller owns it. May unwind.
    pub(crate) drop_callback: unsafe fn(&Slot),
    /// Drops the value, error or message in the payload. Safety: it is there, and the caller owns it.
    /// May unwind.
    pub(crate) drop_value: unsafe fn(&Slot, Outcome),
    /// Whether dropping the callback does anything.
    pub(crate) needs_drop: bool,
    /// Whether dropping a value (not an error or a message) may do anything.
    pub(crate) value_needs_drop: bool,
    /// Whether dropping the value in the payload does nothing after all. Safety: it is there, and the caller owns it.
    pub(crate) bare: Option<unsafe fn(&Slot) -> bool>,
    pub(crate) callback_name: fn() -> &'static str,
    pub(crate) callback_type: fn() -> TypeId,
    /// The types of value and error, as one.
    pub(crate) gives: fn() -> TypeId,
    /// The callback stands in the payload with a context around it.
    pub(crate) carries: bool,
}

impl VTable {
    /// Whether the callback gives `Result<T, E>`.
    pub(crate) fn gives<T: 'static, E: 'static>(&self) -> bool {
        (self.gives)() == TypeId::of::<(T, E)>()
    }
}

/// A task. Lives in a block of the arena; reached through [`SlotRef`].
#[repr(C)]
#[cfg_attr(not(all(test, any(loom, shuttle))), repr(align(64)))]
#[cfg_attr(all(test, any(loom, shuttle)), repr(align(1024)))]
pub(crate) struct Slot {
    word: AtomicU64,
    /// In a cell like all other fields: the block may go to somebody else while a `&Slot` is still in scope, right
    /// after the step that gave the last reference away.
    vtable: UnsafeCell<&'static VTable>,
    /// Timer node 25 | deadline in milliseconds 39.
    due: AtomicU64,
    side: AtomicPtr<Side>,
    /// Pool 16 | position in the ring 24 | place in the source 24.
    meta: AtomicU64,
    pub(crate) payload: UnsafeCell<Payload>,
}

const _: () = assert!(size_of::<Slot>() == arena::BLOCK || MODEL && size_of::<Slot>() <= arena::BLOCK);
const _: () = assert!(align_of::<Slot>() == align_of::<Block>());

// SAFETY: the payload is reached by one party at a time (invariant 2); what is put there is `Send`. All other
// fields are atomic or constant while the slot is referenced.
unsafe impl Sync for Slot {}
// SAFETY: as above.
unsafe impl Send for Slot {}

/// What tells a task that somebody looked away from its failure.
pub(crate) trait Unobserved: Send + Sync {
    fn report(&self, name: TaskName, outcome: Outcome, message: Option<String>);
}

/// What only some tasks need: made when first needed, or at submit for a label or a token.
#[derive(Default)]
pub(crate) struct Side {
    label: Option<Label>,
    /// Where this task stands in its token's list.
    pub(crate) link: Mutex<Option<Link>>,
    waiters: Mutex<Waiters>,
    /// The token of this task: cancelled when the task is.
    pub(crate) own: OnceLock<CancellationToken>,
    /// The token it was submitted under.
    pub(crate) parent: Option<CancellationToken>,
    reason: OnceLock<CancelReason>,
    /// Who hears of it when nobody looks at a failure.
    pub(crate) unobserved: OnceLock<Arc<dyn Unobserved>>,
    /// What somebody keeps with the task: see `raw`.
    pub(crate) attached: Attached,
}

struct Waiters {
    next: u64,
    list: Vec<(u64, Waiter)>,
    /// Where the task is put when it has ended.
    place: Option<Box<dyn Place>>,
    /// Which of the small keys, those of polled handles, are in use.
    handles: u64,
}

impl Default for Waiters {
    fn default() -> Self {
        Waiters {
            next: HANDLES,
            list: Vec::new(),
            place: None,
            handles: 0,
        }
    }
}

/// Keys below this belong to handles that are polled as futures; they fit into a handle's low bits.
const HANDLES: u64 = 63;
/// The low bits of a handle's pointer: its key plus one.
const TAG: usize = arena::BLOCK - 1;
/// For handles beyond those that have a key of their own: their wakers stay until the task ends.
const CROWD: u64 = HANDLES - 1;

/// What a waiter waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    /// The outcome is there.
    Ended,
    /// The callback and its captured data are gone.
    Released,
}

pub(crate) type Complete = Box<dyn FnOnce(Outcome) + Send>;
pub(crate) type OnCancelHook = Box<dyn FnOnce(&Interrupted) + Send>;

/// Where a task is put when it has ended. Dropped undelivered, the place is free again.
pub(crate) trait Place: Send {
    /// Calls no user code and waits for nothing. The place comes back, to be dropped where user code may run, if nobody is left
    /// who could take the task.
    fn deliver(self: Box<Self>, task: &Slot, outcome: Outcome) -> Result<(), Box<dyn Place>>;
}

/// Who wants to know.
pub(crate) enum Waiter {
    Thread(Event, Arc<Parker>),
    Waker(Event, Waker),
    Complete(Complete),
    OnCancel(OnCancelHook),
}

/// User code that a winner has to run, or to hand to the delivery thread.
#[derive(Default)]
pub(crate) struct Calls {
    pub(crate) complete: Vec<Complete>,
    pub(crate) on_cancel: Vec<OnCancelHook>,
    /// What nobody is left to take: to be dropped.
    pub(crate) deserted: Option<Box<dyn Place>>,
}

impl Calls {
    pub(crate) fn is_empty(&self) -> bool {
        self.complete.is_empty() && self.on_cancel.is_empty() && self.deserted.is_none()
    }
}

/// What the publishing winner learns.
pub(crate) struct Published {
    pub(crate) waiters: bool,
    /// The winner's own reference was the last: the slot is gone for everyone else.
    pub(crate) last: bool,
}

impl Slot {
    /// Where its callback's table stands in it.
    pub(crate) const TABLE: usize = std::mem::offset_of!(Slot, vtable);

    /// Fills a fresh block: QUEUED, with `refs` references, which the caller then owns.
    ///
    /// # Safety
    /// The payload is written by the caller with what `vtable` expects before anyone else sees the slot.
    #[inline]
    pub(crate) unsafe fn new(
        vtable: &'static VTable,
        lane: u16,
        due: Millis,
        place: Option<&'static Location<'static>>,
        side: Option<Box<Side>>,
        references: u64,
    ) -> NonNull<Slot> {
        let block = arena::take();
        // SAFETY: the word of a block is valid at all times, and this block is ours.
        let word = unsafe { block.as_ref() }.word.load(Ordering::Relaxed);
        let slot = block.cast::<Slot>();
        let pointer = slot.as_ptr();
        let site = place.map_or(0, site::pack);
        let side = side.map_or(std::ptr::null_mut(), Box::into_raw);
        // SAFETY: the block is ours and as large and aligned as a slot; field by field, so that the word is
        // only ever touched as the atomic it is.
        unsafe {
            if MODEL && word != 0 {
                // To a model checker the cell has been there before: who still used it then would be seen.
                (*pointer).vtable.with_mut(|there| *there = vtable);
                (*pointer).due.store(due, Ordering::Relaxed);
                (*pointer).side.store(side, Ordering::Relaxed);
                (*pointer)
                    .meta
                    .store(u64::from(lane) << LANE_SHIFT | site, Ordering::Relaxed);
            } else {
                (&raw mut (*pointer).vtable).write(UnsafeCell::new(vtable));
                (&raw mut (*pointer).due).write(AtomicU64::new(due));
                (&raw mut (*pointer).side).write(AtomicPtr::new(side));
                (&raw mut (*pointer).meta).write(AtomicU64::new(u64::from(lane) << LANE_SHIFT | site));
                (&raw mut (*pointer).payload).write(UnsafeCell::new([MaybeUninit::uninit(); 3]));
            }
            (*pointer).word.store(
                (word & !(GEN - 1)) | references << REF_SHIFT | QUEUED,
                Ordering::Release,
            );
        }
        slot
    }

    #[inline(always)]
    pub(crate) fn load(&self) -> u64 {
        self.word.load(Ordering::Acquire)
    }

    /// The word, as others see it: in a forked child, an inherited task has ended.
    #[inline(always)]
    pub(crate) fn look(&self) -> u64 {
        if self.is_inherited() {
            self.settle()
        } else {
            self.load()
        }
    }

    /// Whether one look tells that it has succeeded. (Not in a forked child: there more has to be looked at.)
    #[inline(always)]
    pub(crate) fn has_plainly_succeeded(&self) -> bool {
        fork::first_number() == 0 && state(self.load()) == SUCCEEDED
    }

    /// Whether this is a forked child, and the task of a pool of its parent.
    #[inline(always)]
    pub(crate) fn is_inherited(&self) -> bool {
        fork::inherited(self.lane())
    }

    /// An inherited task: abandoned, if it had no outcome, and its callback will not come back. The word.
    #[cold]
    #[inline(never)]
    pub(crate) fn settle(&self) -> u64 {
        let mut word = self.load();
        loop {
            let mut new = word | RELEASED;
            if !ended(word) {
                new = new & !(STATE | REASON) | state_of(Outcome::Abandoned);
            }
            match self
                .word
                .compare_exchange_weak(word, new, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return new,
                Err(now) => word = now,
            }
        }
    }

    #[inline(always)]
    pub(crate) fn vtable(&self) -> &'static VTable {
        // SAFETY: written before the slot is shared, and not again while it is referenced.
        self.vtable.with(|vtable| unsafe { *vtable })
    }

    /// The number of its queue.
    #[inline(always)]
    pub(crate) fn lane(&self) -> u16 {
        (self.meta.load(Ordering::Relaxed) >> LANE_SHIFT) as u16
    }

    /// Where it stands in its queue's ring; meaningful under the queue's lock.
    #[inline(always)]
    pub(crate) fn position(&self) -> u64 {
        self.meta.load(Ordering::Relaxed) >> site::BITS & POS_MASK
    }

    #[inline(always)]
    pub(crate) fn set_position(&self, position: u64) {
        let meta = self.meta.load(Ordering::Relaxed);
        let meta = meta & !(POS_MASK << site::BITS) | (position & POS_MASK) << site::BITS;
        self.meta.store(meta, Ordering::Relaxed);
    }

    /// The deadline in milliseconds.
    #[inline(always)]
    pub(crate) fn due(&self) -> Millis {
        self.due.load(Ordering::Relaxed) & NO_MILLIS
    }

    /// The timer's node of this task; meaningful under the timer's lock.
    pub(crate) fn node(&self) -> usize {
        (self.due.load(Ordering::Relaxed) >> MILLIS_BITS) as usize
    }

    pub(crate) fn set_node(&self, node: usize) {
        let due = self.due();
        self.due.store((node as u64) << MILLIS_BITS | due, Ordering::Relaxed);
    }

    // ---- steps ----

    /// QUEUED -> RUNNING: the worker may run the callback.
    #[inline]
    pub(crate) fn start(&self) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        while state(word) == QUEUED {
            match self
                .word
                .compare_exchange_weak(word, word + (RUNNING - QUEUED), Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    /// The worker's answer: RUNNING -> ended in one step, if nobody is to be told and the task is on no list;
    /// otherwise RUNNING -> FINISHING.
    #[inline]
    pub(crate) fn answer(&self, outcome: Outcome) -> Answer {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            if state(word) != RUNNING {
                return Answer::Late;
            }
            // If freeing the task runs user code, that is done with the task shown.
            let alone =
                word & (WAITERS | TIMED | LINKED) == 0 && (refs(word) != 1 || !self.may_hold_user_data(outcome));
            let new = if alone {
                (word + (state_of(outcome) - RUNNING) - REF) | RELEASED
            } else {
                word + (FINISHING - RUNNING)
            };
            match self
                .word
                .compare_exchange_weak(word, new, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) if alone => return Answer::Published { last: refs(new) == 0 },
                Ok(_) => return Answer::Won,
                Err(now) => word = now,
            }
        }
    }

    /// QUEUED or RUNNING -> FINISHING: the word as it was, if the caller is the winner.
    #[inline]
    pub(crate) fn win(&self) -> Option<u64> {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let from = state(word);
            if from != QUEUED && from != RUNNING {
                return None;
            }
            match self
                .word
                .compare_exchange_weak(word, word + (FINISHING - from), Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return Some(word),
                Err(now) => word = now,
            }
        }
    }

    /// Keeps the reason of a cancellation until [`publish`](Self::publish). Only the winner calls it.
    pub(crate) fn keep_reason(&self, reason: &CancelReason) -> u64 {
        reason_in_word(reason).unwrap_or_else(|| {
            let _ = self.side_or_new().reason.set(reason.clone());
            REASON_ELSEWHERE
        })
    }

    /// QUEUED -> cancelled in one step, with `leave` references of the caller's: if the task is still queued, nobody
    /// waits for it, it is in no wheel, and a reference remains. Whether it did.
    #[inline(always)]
    pub(crate) fn cancel_queued(&self, reason: u64, leave: u64) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            if state(word) != QUEUED || word & (WAITERS | TIMED) != 0 || refs(word) <= leave {
                return false;
            }
            let new = (word + (state_of(Outcome::Cancelled) - QUEUED) + (reason << REASON_SHIFT)) - leave * REF;
            match self
                .word
                .compare_exchange_weak(word, new | RELEASED, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
    }

    /// FINISHING -> ended, by the winner. `released`: the callback is gone as well. `leave`: the winner's own
    /// reference goes too, unless there are waiters (then it stays, to reach them).
    #[inline]
    pub(crate) fn publish(
        &self,
        outcome: Outcome,
        reason: Option<&CancelReason>,
        released: bool,
        leave: bool,
    ) -> Published {
        let reason = reason.map_or(0, |reason| self.keep_reason(reason)) << REASON_SHIFT;
        let add = state_of(outcome) - FINISHING + reason;
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            debug_assert_eq!(state(word), FINISHING);
            let waiters = word & WAITERS != 0;
            let mut new = word + add;
            if released {
                new |= RELEASED;
            }
            let leaving = leave && !waiters;
            if leaving {
                new -= REF;
            }
            match self
                .word
                .compare_exchange_weak(word, new, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => {
                    return Published {
                        waiters,
                        last: leaving && refs(new) == 0,
                    };
                }
                Err(now) => word = now,
            }
        }
    }

    /// FINISHING -> ended, by the winner of a task whose callback is gone; `leave` references of the winner's, not all
    /// there are, go with it. Whether there are waiters.
    #[inline]
    pub(crate) fn publish_and_leave(&self, outcome: Outcome, reason: u64, leave: u64) -> bool {
        let add = state_of(outcome) - FINISHING + (reason << REASON_SHIFT);
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            debug_assert!(state(word) == FINISHING && refs(word) > leave);
            let new = ((word + add) | RELEASED) - leave * REF;
            match self
                .word
                .compare_exchange_weak(word, new, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return word & WAITERS != 0,
                Err(now) => word = now,
            }
        }
    }

    /// Whether freeing this task, with a value of `outcome` that nobody took, may run user code.
    #[inline(always)]
    fn may_hold_user_data(&self, outcome: Outcome) -> bool {
        self.vtable().value_needs_drop || outcome != Outcome::Succeeded || self.side().is_some()
    }

    /// Whether it does; what `outcome` left in the payload is the caller's.
    #[inline]
    pub(crate) fn holds_user_data(&self, outcome: Outcome) -> bool {
        // SAFETY: as the caller says.
        self.may_hold_user_data(outcome) && (self.side().is_some() || unsafe { self.value_drops(outcome) })
    }

    /// Whether dropping what `outcome` left does anything, where its type says that it may.
    ///
    /// # Safety
    /// It is in the payload, and the caller owns it.
    #[inline]
    unsafe fn value_drops(&self, outcome: Outcome) -> bool {
        let bare = self.vtable().bare;
        // SAFETY: as the caller says.
        outcome != Outcome::Succeeded || !bare.is_some_and(|bare| unsafe { bare(self) })
    }

    /// Sets flags; gives the word as it was before.
    #[inline]
    pub(crate) fn set(&self, flags: u64) -> u64 {
        self.word.fetch_or(flags, Ordering::AcqRel)
    }

    /// Marks the value as taken: true for the first taker.
    #[inline]
    pub(crate) fn take(&self) -> bool {
        // One handle may be shared by several threads: a plain store would not do, not even for the last one.
        self.set(TAKEN | OBSERVED) & TAKEN == 0
    }

    /// Notes that somebody looked at the outcome (kept for failures only).
    #[inline]
    pub(crate) fn observe(&self, word: u64) {
        let failure = matches!(outcome(word), Some(Outcome::Failed | Outcome::Panicked));
        if failure && word & OBSERVED == 0 {
            self.set(OBSERVED);
        }
    }

    /// The reason of a cancelled task.
    pub(crate) fn reason(&self) -> CancelReason {
        match (self.load() & REASON) >> REASON_SHIFT {
            REASON_REQUESTED => CancelReason::Requested,
            REASON_CALLER_LEFT => CancelReason::CallerLeft,
            REASON_DROPPED => CancelReason::Dropped,
            REASON_DEADLINE => CancelReason::DeadlineExceeded,
            REASON_FORKED => CancelReason::Forked,
            _ => self
                .side()
                .and_then(|side| side.reason.get().cloned())
                .unwrap_or(CancelReason::Requested),
        }
    }

    /// What the callback of a task that somebody else ended is told.
    pub(crate) fn interrupted(&self) -> Option<Interrupted> {
        match outcome(self.look())? {
            Outcome::Cancelled => Some(Interrupted::Cancelled(self.reason())),
            Outcome::DeadlineExceeded => Some(Interrupted::DeadlineExceeded),
            Outcome::Abandoned => Some(Interrupted::Abandoned),
            _ => None,
        }
    }

    pub(crate) fn name(&self) -> TaskName {
        TaskName::new(
            self.side().and_then(|side| side.label.clone()),
            (self.vtable().callback_name)(),
            site::unpack(self.meta.load(Ordering::Relaxed) & ((1 << site::BITS) - 1)),
        )
    }

    // ---- the side record ----

    #[inline]
    pub(crate) fn side(&self) -> Option<&Side> {
        let side = self.side.load(Ordering::Acquire);
        // SAFETY: a side record is never replaced and lives as long as the slot is referenced.
        unsafe { side.as_ref() }
    }

    pub(crate) fn side_or_new(&self) -> &Side {
        if let Some(side) = self.side() {
            return side;
        }
        let new = Box::into_raw(Box::<Side>::default());
        match self
            .side
            .compare_exchange(std::ptr::null_mut(), new, Ordering::AcqRel, Ordering::Acquire)
        {
            // SAFETY: just put there, never replaced, lives as long as the slot is referenced.
            Ok(_) => unsafe { &*new },
            Err(there) => {
                // SAFETY: `new` came from `Box::into_raw` and nobody else has seen it.
                drop(unsafe { Box::from_raw(new) });
                // SAFETY: as in `side`.
                unsafe { &*there }
            }
        }
    }

    /// Puts a waiter in the list, unless what it waits for is there already (then it comes back).
    pub(crate) fn register(&self, waiter: Waiter) -> Result<u64, Waiter> {
        if self.is_inherited() {
            self.settle();
            return Err(waiter);
        }
        let side = self.side_or_new();
        let key = {
            let mut waiters = side.waiters.lock();
            let key = waiters.next;
            waiters.next += 1;
            waiters.list.push((key, waiter));
            key
        };
        // Invariant 4.
        let word = self.set(WAITERS);
        let there = |waiter: &Waiter| match waiter {
            Waiter::Thread(Event::Released, _) | Waiter::Waker(Event::Released, _) => word & RELEASED != 0,
            _ => ended(word),
        };
        let mut waiters = side.waiters.lock();
        // Not in the list any more: it is being woken.
        if let Some(index) = waiters.list.iter().position(|(k, _)| *k == key)
            && there(&waiters.list[index].1)
        {
            let (_, waiter) = waiters.list.swap_remove(index);
            return Err(waiter);
        }
        Ok(key)
    }

    /// Has a task that nobody else knows yet put there when it has ended.
    pub(crate) fn set_place(&self, place: Box<dyn Place>) {
        self.side_or_new().waiters.lock().place = Some(place);
        self.set(WAITERS);
    }

    /// One more reference. Whoever calls it holds one, or knows somebody who does meanwhile.
    pub(crate) fn refer(&self) -> SlotRef {
        self.word.fetch_add(REF, Ordering::Relaxed);
        // SAFETY: the reference that was just added.
        unsafe { SlotRef::from_raw(NonNull::from(self)) }
    }

    /// Takes a waiter out of the list, if it is still there.
    pub(crate) fn unregister(&self, key: u64) -> Option<Waiter> {
        if key == CROWD || self.is_inherited() {
            // Shared: which waker is this handle's is not known. It stays until the task ends. (Or nobody will look.)
            return None;
        }
        let mut waiters = self.side()?.waiters.lock();
        if key < CROWD {
            waiters.handles &= !(1 << key);
        }
        let index = waiters.list.iter().position(|(k, _)| *k == key)?;
        Some(waiters.list.swap_remove(index).1)
    }

    /// Registers the waker of a polled handle, or replaces it. The handle's key, unless the task has ended.
    fn register_handle(&self, key: Option<u64>, waker: &Waker) -> Option<u64> {
        if self.is_inherited() {
            self.settle();
            return None;
        }
        let mut old = None;
        let side = self.side_or_new();
        // Wakers are user code: cloned and dropped outside the lock.
        let mut new = Some(waker.clone());
        let key = {
            let mut waiters = side.waiters.lock();
            let key = key.unwrap_or_else(|| {
                let free = u64::from((!waiters.handles).trailing_zeros()).min(CROWD);
                waiters.handles |= 1 << free;
                free
            });
            let same = |(k, waiter): &&mut (u64, Waiter)| {
                *k == key && (key != CROWD || matches!(waiter, Waiter::Waker(_, w) if w.will_wake(waker)))
            };
            match waiters.list.iter_mut().find(same) {
                Some((_, Waiter::Waker(_, there))) => {
                    if !there.will_wake(waker) {
                        old = new.take().map(|new| std::mem::replace(there, new));
                    }
                }
                _ => waiters
                    .list
                    .extend(new.take().map(|new| (key, Waiter::Waker(Event::Ended, new)))),
            }
            key
        };
        drop((old, new));
        // Invariant 4.
        if ended(self.set(WAITERS)) {
            self.unregister(key);
            return None;
        }
        Some(key)
    }

    /// Wakes those that waited for `event`, outside the lock: first threads and completion queues, then, after
    /// `before_user_code`, wakers.
    /// Gives back the callbacks to run. For [`Event::Ended`] call once, after publishing.
    pub(crate) fn wake(&self, event: Event, before_user_code: impl FnOnce()) -> Calls {
        let mut calls = Calls::default();
        let Some(side) = self.side() else { return calls };
        let mut woken = Vec::new();
        let mut place = None;
        {
            let mut waiters = side.waiters.lock();
            if event == Event::Ended {
                place = waiters.place.take();
            }
            let mut index = 0;
            while index < waiters.list.len() {
                let ours = match &waiters.list[index].1 {
                    Waiter::Thread(for_event, _) | Waiter::Waker(for_event, _) => *for_event == event,
                    Waiter::Complete(_) | Waiter::OnCancel(_) => event == Event::Ended,
                };
                if ours {
                    // In order of registration.
                    woken.push(waiters.list.remove(index).1);
                } else {
                    index += 1;
                }
            }
        }
        woken.retain(|waiter| match waiter {
            Waiter::Thread(_, parker) => {
                parker.unpark();
                false
            }
            _ => true,
        });
        if let Some(place) = place
            && let Some(outcome) = outcome(self.load())
            && let Err(deserted) = place.deliver(self, outcome)
        {
            calls.deserted = Some(deserted);
        }
        if woken.is_empty() {
            return calls;
        }
        before_user_code();
        for waiter in woken {
            match waiter {
                Waiter::Thread(_, parker) => parker.unpark(),
                Waiter::Waker(_, waker) => wake(waker),
                Waiter::Complete(call) => calls.complete.push(call),
                Waiter::OnCancel(call) => calls.on_cancel.push(call),
            }
        }
        calls
    }

    /// The callback is gone: tell those who wait for that.
    pub(crate) fn released(&self) {
        if self.set(RELEASED) & WAITERS != 0 {
            self.wake(Event::Released, || ());
        }
    }

    /// Blocks until `event`, or until `until` (then false).
    pub(crate) fn wait(&self, event: Event, until: u64) -> bool {
        let there = |word: u64| match event {
            Event::Ended => ended(word),
            Event::Released => word & RELEASED != 0,
        };
        self.spin(event) || self.sleep_until(event, until, there)
    }

    /// Looks for `event` for some microseconds.
    pub(crate) fn spin(&self, event: Event) -> bool {
        let there = |word: u64| match event {
            Event::Ended => ended(word),
            Event::Released => word & RELEASED != 0,
        };
        if there(self.load()) {
            return true;
        }
        if self.is_inherited() {
            self.settle();
            return true;
        }
        // Most answers come within some hundred nanoseconds: spin, then let others run, then sleep.
        for round in 0..patience(SPINS) {
            for _ in 0..(1 << round) {
                spin_hint();
            }
            if there(self.load()) {
                return true;
            }
        }
        // The answer that comes at the first yield, again and again, says that who answers shares this processor. A thread
        // that is woken is put where there is room; one that yields stays.
        let shared = SHARES.try_with(Cell::get).unwrap_or(0);
        if shared < SHARED {
            for turn in 0..patience(YIELDS) {
                thread::yield_now();
                if there(self.load()) {
                    let _ = SHARES.try_with(|shares| shares.set(if turn == 0 { shared + 1 } else { 0 }));
                    return true;
                }
            }
        }
        let _ = SHARES.try_with(|shares| shares.set(0));
        false
    }

    #[cold]
    fn sleep_until(&self, event: Event, until: u64, there: impl Fn(u64) -> bool) -> bool {
        if until != clock::NEVER && clock::now() >= until {
            return there(self.load());
        }
        let parker = crate::sync::parker();
        let Ok(key) = self.register(Waiter::Thread(event, parker.clone())) else {
            return true;
        };
        loop {
            if there(self.load()) {
                self.unregister(key);
                return true;
            }
            if until == clock::NEVER {
                parker.park();
            } else if !parker.park_until(until) {
                self.unregister(key);
                return there(self.load());
            }
        }
    }
}

const SPINS: u32 = 5;
const YIELDS: u32 = 16;
/// So many answers in a row at the first yield are no chance.
const SHARED: u32 = 6;

local! {
    /// How many answers in a row came to this thread at its first yield.
    static SHARES: Cell<u32> = Cell::new(0);
}

/// Wakes a waker; a panic in somebody's executor stays out of ours.
/// Its destructor is user code as well, and runs under the same guard.
pub(crate) fn wake(waker: Waker) {
    guard("a waker", move || waker.wake());
}

/// Runs user code that has no answer to give: a panic is logged and goes no further.
pub(crate) fn guard(what: &str, call: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(call)) {
        say(
            log::Level::Error,
            format_args!("{what} panicked: {}", panic_message(&*panic)),
        );
        forget_panic(panic);
    }
}

/// Logs. A logger is user code: its panic goes no further.
pub(crate) fn say(level: log::Level, message: std::fmt::Arguments<'_>) {
    if log::log_enabled!(target: "duly", level)
        && let Err(panic) = catch_unwind(AssertUnwindSafe(|| log::log!(target: "duly", level, "{message}")))
    {
        forget_panic(panic);
    }
}

/// Drops a panic's payload; one whose destructor panics is leaked rather than passed on.
pub(crate) fn forget_panic(panic: Box<dyn std::any::Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(move || drop(panic))) {
        std::mem::forget(again);
    }
}

/// The text of a panic.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    if let Some(text) = panic.downcast_ref::<&'static str>() {
        text
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text
    } else {
        "a panic whose payload is not text"
    }
}

/// A box that is made once, by whoever asks for it first, without a lock: a forked child may ask for what another thread of
/// its parent was making at that moment.
#[derive(Default)]
pub(crate) struct Attached(AtomicPtr<Box<dyn Any + Send + Sync>>);

impl Attached {
    /// What is there; else what `make` makes. Several may make one at the same time, and all get the first.
    pub(crate) fn get_or(&self, make: impl FnOnce() -> Box<dyn Any + Send + Sync>) -> &(dyn Any + Send + Sync) {
        let mut there = self.0.load(Ordering::Acquire);
        if there.is_null() {
            let made = Box::into_raw(Box::new(make()));
            there = match self
                .0
                .compare_exchange(std::ptr::null_mut(), made, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => made,
                Err(first) => {
                    // SAFETY: nobody else has seen it.
                    drop(unsafe { Box::from_raw(made) });
                    first
                }
            };
        }
        // SAFETY: published with what is in it, never replaced, and freed with this cell only.
        unsafe { &**there }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let there = self.0.load(Ordering::Acquire);
        if !there.is_null() {
            // SAFETY: a box of ours, and nobody borrows from a cell that is dropped.
            drop(unsafe { Box::from_raw(there) });
        }
    }
}

impl Side {
    pub(crate) fn new(label: Option<Label>, parent: Option<CancellationToken>) -> Box<Side> {
        Box::new(Side {
            label,
            parent,
            ..Side::default()
        })
    }
}

/// One reference to a slot.
pub(crate) struct SlotRef(NonNull<Slot>);

// SAFETY: a slot may be shared and sent (see `Slot`), and references are counted atomically.
unsafe impl Send for SlotRef {}
// SAFETY: as above.
unsafe impl Sync for SlotRef {}

impl SlotRef {
    /// # Safety
    /// The caller hands over one reference that it owns.
    #[inline(always)]
    pub(crate) unsafe fn from_raw(slot: NonNull<Slot>) -> Self {
        SlotRef(slot)
    }

    #[inline(always)]
    pub(crate) fn into_raw(self) -> NonNull<Slot> {
        let slot = self.0;
        std::mem::forget(self);
        slot
    }

    #[inline(always)]
    pub(crate) fn as_ptr(&self) -> NonNull<Slot> {
        self.0
    }

    /// A reference to what an observer found in a worker's `current` field, if it is still there.
    ///
    /// # Safety
    /// `current` only ever holds null or slots of which the worker has a reference while they stand there, and
    /// the worker drops it as [`leave`](Self::leave) or [`publish`](Slot::publish) does.
    pub(crate) unsafe fn find(current: &AtomicPtr<Slot>, _pin: &arena::Pin) -> Option<SlotRef> {
        loop {
            let slot = NonNull::new(current.load(Ordering::Acquire))?;
            // SAFETY: the word of a block is valid while pinned (arena invariants 1 and 3), whoever owns it.
            let word = unsafe { &(*slot.as_ptr()).word };
            let seen = word.load(Ordering::Acquire);
            // Still the worker's: then `seen` is a word of the worker's task, and if it has not changed when
            // the reference is added, the task (its generation is in the word) has not changed either.
            if current.load(Ordering::Acquire) != slot.as_ptr() || refs(seen) == 0 || state(seen) == FREE {
                continue;
            }
            if word
                .compare_exchange(seen, seen + REF, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
            {
                return Some(SlotRef(slot));
            }
            spin_hint();
        }
    }

    /// What tells this task from every other, this block's earlier and later ones included.
    pub(crate) fn id(&self) -> (usize, u64) {
        (self.0.as_ptr().addr(), self.load() / GEN)
    }

    /// Drops a worker's reference. Unlike `drop`, always by a read-modify-write of the word: an observer that
    /// found the slot in the worker's `current` a moment ago either adds its reference before, or fails to.
    pub(crate) fn leave(self) {
        let slot = self.into_raw();
        // SAFETY: the reference we are about to drop keeps the slot alive.
        let old = unsafe { slot.as_ref() }.word.fetch_sub(REF, Ordering::AcqRel);
        if refs(old) == 1 {
            // SAFETY: that was the last reference.
            unsafe { destroy(slot) };
        }
    }

    /// Drops a reference where no user code may run: the last one, which takes a value or a waker with it, goes to
    /// `elsewhere` instead.
    pub(crate) fn drop_elsewhere(self, elsewhere: impl FnOnce(SlotRef)) {
        let mut word = self.load();
        loop {
            if refs(word) == 1 {
                let bare = self.side.load(Ordering::Acquire).is_null()
                    && (word & TAKEN != 0
                        || !matches!(
                            outcome(word),
                            Some(Outcome::Succeeded | Outcome::Panicked | Outcome::Failed)
                        ));
                if bare {
                    drop(self);
                } else {
                    elsewhere(self);
                }
                return;
            }
            match self
                .word
                .compare_exchange_weak(word, word - REF, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => {
                    std::mem::forget(self);
                    return;
                }
                Err(now) => word = now,
            }
        }
    }

    /// Drops the reference of a worker that shows the task in `current`; if it is the last, the task stays shown while
    /// what it holds is dropped, for that is user code.
    pub(crate) fn leave_shown(self, current: &AtomicPtr<Slot>) {
        let word = self.load();
        if refs(word) == 1 && ended(word) && word & TAKEN == 0 {
            // Only observers could add references now, and those never take values: this one is the value's.
            let holds = matches!(
                outcome(word),
                Some(Outcome::Succeeded | Outcome::Failed | Outcome::Panicked)
            );
            if let Some(outcome) = outcome(word).filter(|_| holds && self.take()) {
                // SAFETY: just taken: the value is ours.
                unsafe { destroy_value(&self, word, outcome) };
            }
        }
        current.store(std::ptr::null_mut(), Ordering::Release);
        self.leave();
    }

    /// Undoes a slot that was never shared: no callback, no value in it any more.
    ///
    /// # Safety
    /// The caller owns every reference, and the payload holds nothing.
    pub(crate) unsafe fn discard(slot: NonNull<Slot>) {
        // SAFETY: the caller owns the slot alone.
        unsafe { recycle(slot) };
    }

    /// The last reference of the worker went when it published: free the slot.
    ///
    /// # Safety
    /// `publish` answered `last`, which makes the caller the only one who knows the slot.
    #[inline]
    pub(crate) unsafe fn destroy(slot: NonNull<Slot>) {
        // SAFETY: as the caller says.
        unsafe { destroy(slot) };
    }
}

impl std::ops::Deref for SlotRef {
    type Target = Slot;

    #[inline(always)]
    fn deref(&self) -> &Slot {
        // SAFETY: this reference keeps the slot alive.
        unsafe { self.0.as_ref() }
    }
}

impl SlotRef {
    /// Asks for the task's cache line, which will be changed soon.
    #[inline(always)]
    pub(crate) fn prefetch(&self) {
        arena::prefetch(Some(self.0.cast()));
    }

    /// Whether one more reference for a user's handle leaves enough of them for the pool's own.
    pub(crate) fn has_room_for_a_handle(&self) -> bool {
        refs(self.load()) < (1 << REF_BITS) - 65_536
    }

    /// As dropping it, where the value's type is known: the last reference of a task that succeeded, and whose value nobody
    /// took and is `bare` (dropping it does nothing), need not ask the callback's table.
    #[inline(always)]
    pub(crate) fn drop_bare(self, bare: impl FnOnce(&Slot) -> bool) {
        // Alone (invariant 3), and so the one who may look at the value.
        if self.load() & (REFS | STATE | TAKEN) == REF | SUCCEEDED && bare(&self) {
            // SAFETY: that is the last reference, and a bare value is as good as none.
            unsafe { recycle(self.into_raw()) };
        }
    }

    /// One more reference for a user's handle.
    pub(crate) fn clone_for_handle(&self) -> Self {
        // Like `Arc`: only a program that leaks handles gets here, and going on would free a live task.
        assert!(
            self.has_room_for_a_handle(),
            "duly: about a million handles of one task ({})",
            self.name()
        );
        self.clone()
    }
}

impl Clone for SlotRef {
    fn clone(&self) -> Self {
        self.word.fetch_add(REF, Ordering::Relaxed);
        SlotRef(self.0)
    }
}

impl Drop for SlotRef {
    #[inline]
    fn drop(&mut self) {
        let word = self.load();
        // Alone (invariant 3), no read-modify-write is needed.
        if refs(word) == 1 || refs(self.word.fetch_sub(REF, Ordering::AcqRel)) == 1 {
            // SAFETY: that was the last reference.
            unsafe { destroy(self.0) };
        }
    }
}

/// A reference for a handle that may be polled: its waiter's key stands in the low bits of the pointer, which
/// keeps a handle at 8 bytes.
pub(crate) struct HandleRef(NonNull<Slot>);

// SAFETY: as `SlotRef`; the key changes only through `&mut self`.
unsafe impl Send for HandleRef {}
// SAFETY: as above.
unsafe impl Sync for HandleRef {}

impl HandleRef {
    #[inline(always)]
    pub(crate) fn new(slot: SlotRef) -> Self {
        HandleRef(slot.into_raw())
    }

    #[inline(always)]
    fn pointer(&self) -> NonNull<Slot> {
        // SAFETY: a slot's address is a multiple of 64 and not zero, so it stays above zero without the low bits.
        unsafe { NonNull::new_unchecked(self.0.as_ptr().map_addr(|address| address & !TAG)) }
    }

    /// The reference this handle owns, lent.
    #[inline(always)]
    pub(crate) fn slot(&self) -> ManuallyDrop<SlotRef> {
        ManuallyDrop::new(SlotRef(self.pointer()))
    }

    fn key(&self) -> Option<u64> {
        ((self.0.as_ptr().addr() & TAG) as u64).checked_sub(1)
    }

    /// Leaves a waker with the task: false if it has ended.
    pub(crate) fn watch(&mut self, waker: &Waker) -> bool {
        let key = self.key();
        let registered = self.slot().register_handle(key, waker);
        let bits = registered.map_or(0, |key| key as usize + 1);
        // SAFETY: not zero, see `pointer`.
        self.0 = unsafe { NonNull::new_unchecked(self.pointer().as_ptr().map_addr(|address| address | bits)) };
        registered.is_some()
    }
}

impl Drop for HandleRef {
    #[inline]
    fn drop(&mut self) {
        if let Some(key) = self.key() {
            drop(self.slot().unregister(key));
        }
        // SAFETY: the reference this handle owns.
        drop(unsafe { SlotRef::from_raw(self.pointer()) });
    }
}

/// # Safety
/// Nobody holds a reference.
#[inline]
unsafe fn destroy(slot: NonNull<Slot>) {
    // SAFETY: the memory is valid, and the slot is ours alone.
    let this = unsafe { slot.as_ref() };
    let word = this.word.load(Ordering::Acquire);
    let holds_value = match outcome(word) {
        Some(Outcome::Succeeded) if !this.vtable().value_needs_drop => None,
        Some(outcome @ (Outcome::Succeeded | Outcome::Failed | Outcome::Panicked)) => Some(outcome),
        _ => None,
    };
    if let Some(outcome) = holds_value.filter(|_| word & TAKEN == 0) {
        // SAFETY: as above.
        unsafe { destroy_value(this, word, outcome) };
    }
    // SAFETY: as above; the payload is empty now.
    unsafe { recycle(slot) };
}

/// # Safety
/// The caller is the one taker of the value, error or message that `outcome` left.
#[cold]
#[inline(never)]
unsafe fn destroy_value(this: &Slot, word: u64, outcome: Outcome) {
    // SAFETY: as the caller says.
    if !unsafe { this.value_drops(outcome) } {
        return;
    }
    if this.is_inherited() {
        // Its destructor, and whoever hears of it, may lock or write what was inherited, too.
        return;
    }
    if outcome != Outcome::Succeeded
        && word & OBSERVED == 0
        && let Some(reporter) = this.side().and_then(|side| side.unobserved.get())
    {
        let message = (outcome == Outcome::Panicked).then(|| {
            // SAFETY: the payload of a panicked task that was not taken is its message.
            let message = this.payload.with(|payload| unsafe { &*payload.cast::<Box<str>>() });
            message.to_string()
        });
        reporter.report(this.name(), outcome, message);
    }
    // SAFETY: as the caller says.
    guard("the destructor of a task's value", || unsafe {
        (this.vtable().drop_value)(this, outcome)
    });
}

/// # Safety
/// The side record came from `Box::into_raw`, and nobody reaches it any more.
#[cold]
#[inline(never)]
unsafe fn destroy_side(side: *mut Side) {
    // SAFETY: as the caller says.
    let side = unsafe { Box::from_raw(side) };
    // Holds wakers and tokens: user code may run here.
    guard("a waiter's destructor", || drop(side));
}

/// # Safety
/// The slot is the caller's alone, and its payload holds nothing.
#[inline]
unsafe fn recycle(slot: NonNull<Slot>) {
    // SAFETY: the slot is ours alone.
    let this = unsafe { slot.as_ref() };
    let side = this.side.load(Ordering::Acquire);
    if !side.is_null() && !this.is_inherited() {
        // SAFETY: as above.
        unsafe { destroy_side(side) };
    }
    let word = this.word.load(Ordering::Relaxed);
    let next = (word & !(GEN - 1)).wrapping_add(GEN) | FREE;
    this.word.store(next, Ordering::Release);
    // SAFETY: the block came from `arena::take` in `Slot::new`.
    unsafe { arena::give(slot.cast()) };
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    static NOTHING: VTable = VTable {
        run: |_, _| Outcome::Succeeded,
        drop_callback: |_| (),
        drop_value: |_, _| (),
        needs_drop: false,
        value_needs_drop: false,
        bare: None,
        callback_name: || "nothing",
        gives: TypeId::of::<((), ())>,
        callback_type: TypeId::of::<()>,
        carries: false,
    };

    #[test]
    fn p05_a_block_comes_back_as_another_task() {
        // Observers tell a task from the next one in the same block by its generation (invariant 3).
        let make = || {
            // SAFETY: a callback without data needs no payload; both references are this one handle's.
            unsafe { SlotRef::from_raw(Slot::new(&NOTHING, 0, NO_MILLIS, None, None, 1)) }
        };
        let first = make();
        let (block, before) = first.id();
        assert!(first.win().is_some());
        first.publish(Outcome::Cancelled, None, true, false);
        drop(first);
        let second = make();
        assert_eq!(second.id().0, block, "this thread's last block comes first");
        assert_ne!(second.id().1, before, "the same generation again");
        assert!(second.win().is_some());
        second.publish(Outcome::Cancelled, None, true, false);
    }
}
