//! From a callback to an accepted task: the options of one submit, the ways to wait for room.
//!
//! Invariant: a refused submit leaves no task and no trace in the books but `refused`, and gives the callback
//! back untouched. The slot is made first and pushed second, so that waiting for room holds nothing else.

use crate::alarm::Alarm;
use crate::cancel::{CancellationToken, Watcher};
use crate::carry::{self, Carried, Carrying};
use crate::clock::{self, NEVER};
use crate::config::Overflow;
use crate::context;
use crate::end;
use crate::error::{Deadlock, Outcome, Refused, RunError, SubmitError, SubmitErrorKind};
use crate::fork;
use crate::lane::Lane;
use crate::name::{Label, TaskName};
use crate::pool::Pool;
use crate::queue::{InLine, Kind, NoPush};
use crate::shared::Shared;
use crate::slot::{Place, QUEUED, Side, Slot, SlotRef, WAITERS};
use crate::sync::{Arc, Ordering, full_fence, patience, spin_hint, thread};
use crate::task::{Callback, CancelOnDrop, Plain, Task, WithContext, put, undo};
use crate::{waits, worker};
use std::any::type_name;
use std::cell::Cell;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::ops::Deref;
use std::panic::Location;
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// What a submit was asked for.
#[derive(Clone, Default)]
pub(crate) struct Wanted {
    pub(crate) label: Option<Label>,
    pub(crate) token: Option<CancellationToken>,
    pub(crate) timeout: Option<Duration>,
    deadline: Option<Instant>,
    no_deadline: bool,
    pub(crate) detached: bool,
    submit_timeout: Option<Duration>,
    lane: Option<Arc<Lane>>,
    /// None: what the queue's is.
    overflow: Option<Overflow>,
    /// A queue of another pool was asked for.
    elsewhere: bool,
    /// Something that few ask for and that changes its times: a deadline, no deadline, a limit of the wait for room, a start.
    rare: bool,
    kind: Kind,
    start: Start,
    /// Where its tasks are put when they have ended. Few have one: one word.
    pub(crate) completions: Option<Arc<Box<dyn Reserve>>>,
}

/// A completion queue, with what it is to say of the task.
pub(crate) trait Reserve: Send + Sync {
    /// A place for one task, or why there is none.
    fn reserve(&self) -> Result<Box<dyn Place>, SubmitErrorKind>;
    fn name(&self) -> &str;
}

/// When a task may be started.
#[derive(Clone, Copy, Default)]
enum Start {
    #[default]
    Now,
    After(Duration),
    At(Instant),
}

/// What was asked for means this, at the time of the submit.
pub(crate) struct Terms {
    /// The token of the callback that submits, where none was asked for.
    inherited: Option<CancellationToken>,
    /// When the task must have its outcome.
    pub(crate) due: u64,
    /// That time in milliseconds: rounded up, so that nothing is early, unless it has passed already.
    due_millis: clock::Millis,
    /// The time it was planned, where that was needed.
    now: u64,
    /// Until when to wait for room.
    pub(crate) room_until: u64,
    /// Why it may not wait for room.
    pub(crate) deadlock: Cell<Option<Box<Deadlock>>>,
    /// There was no room for its key, when last looked.
    key_full: Cell<bool>,
    /// What it waits for in the queue.
    kind: Kind,
    /// When its time comes, if it is parked until then.
    start: clock::Millis,
    /// No place was left in the completion queue, when last looked.
    no_place: Cell<bool>,
    /// The task has neither a label nor a token.
    bare: bool,
}

/// A submit under way: lent, so that a submit that does not wait copies nothing of what was asked for.
#[derive(Clone, Copy)]
pub(crate) struct Plan<'a> {
    wanted: &'a Wanted,
    terms: &'a Terms,
}

/// A submit that goes on later, in a future.
pub(crate) struct Kept {
    wanted: Wanted,
    terms: Terms,
}

impl Kept {
    #[inline]
    pub(crate) fn plan(&self) -> Plan<'_> {
        self.wanted.with(&self.terms)
    }
}

impl Deref for Plan<'_> {
    type Target = Terms;

    #[inline]
    fn deref(&self) -> &Terms {
        self.terms
    }
}

impl Wanted {
    pub(crate) fn set_key(&mut self, key: u64) {
        self.kind = Kind::of_key(key);
    }

    /// A queue of this pool; none: of another.
    pub(crate) fn set_lane(&mut self, lane: Option<Arc<Lane>>) {
        self.elsewhere = lane.is_none();
        self.lane = lane;
    }

    /// What it means for a submit now.
    #[inline]
    pub(crate) fn terms(&self, shared: &Shared) -> Terms {
        if self.rare || context::inside_any() {
            return self.rare_terms(shared);
        }
        let timeout = self.timeout.or(shared.config.default_timeout);
        let until = self.token.as_ref().map_or(NEVER, CancellationToken::deadline_nanos);
        let (now, due, due_millis) = if timeout.is_none() && until == NEVER {
            (0, NEVER, clock::NO_MILLIS)
        } else {
            let now = clock::now();
            let due = timeout.map_or(NEVER, |timeout| ahead(now, timeout)).min(until);
            (now, due, due_millis(due, now))
        };
        Terms {
            inherited: None,
            due,
            due_millis,
            now,
            room_until: NEVER,
            deadlock: Cell::new(None),
            key_full: Cell::new(false),
            kind: self.kind,
            start: 0,
            no_place: Cell::new(false),
            bare: self.label.is_none() && self.token.is_none(),
        }
    }

    #[inline(never)]
    fn rare_terms(&self, shared: &Shared) -> Terms {
        let inherited = if self.detached { None } else { context::inherited() };
        let now = clock::now();
        let mut due = match (self.timeout, self.deadline) {
            (None, None) if self.no_deadline => NEVER,
            (None, None) => shared.config.default_timeout.map_or(NEVER, |span| ahead(now, span)),
            (timeout, deadline) => timeout
                .map_or(NEVER, |span| ahead(now, span))
                .min(deadline.map_or(NEVER, clock::of)),
        };
        let inherited = match inherited {
            None => None,
            Some(inherited) => {
                due = due.min(inherited.due);
                Some(inherited.token).filter(|_| self.token.is_none())
            }
        };
        if let Some(token) = self.token.as_ref().or(inherited.as_ref()) {
            due = due.min(token.deadline_nanos());
        }
        let start = match self.start {
            Start::Now => 0,
            Start::After(delay) => ahead(now, delay),
            Start::At(instant) => clock::of(instant),
        };
        let parked = start > now;
        if parked {
            shared.take_turns();
        }
        let bare = self.label.is_none() && self.token.is_none() && inherited.is_none();
        Terms {
            inherited,
            due,
            due_millis: due_millis(due, now),
            now,
            room_until: self.submit_timeout.map_or(NEVER, |span| ahead(now, span)),
            deadlock: Cell::new(None),
            key_full: Cell::new(false),
            kind: self.kind.parked(parked),
            start: clock::millis_up(start),
            no_place: Cell::new(false),
            bare,
        }
    }

    #[inline]
    pub(crate) fn with<'a>(&'a self, terms: &'a Terms) -> Plan<'a> {
        Plan { wanted: self, terms }
    }

    /// For a submit that goes on later; its time counts from now.
    pub(crate) fn keep(&self, shared: &Shared) -> Kept {
        Kept {
            wanted: self.clone(),
            terms: self.terms(shared),
        }
    }
}

/// So long after `now`.
#[inline]
fn ahead(now: u64, span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).map_or(NEVER, |nanos| now.saturating_add(nanos))
}

/// Rounded up, unless it has passed.
#[inline]
fn due_millis(due: u64, now: u64) -> clock::Millis {
    if due <= now {
        now / clock::MS
    } else {
        clock::millis_up(due)
    }
}

impl Wanted {
    /// For something that is submitted again and again: what each run is to be submitted with, the token of them all, and
    /// how long after this call the first comes.
    pub(crate) fn of_runs(&self) -> (Wanted, CancellationToken, Option<Duration>) {
        let mut deadline = self.deadline.map_or(NEVER, clock::of);
        let mut token = self.token.clone();
        if let Some(inherited) = if self.detached { None } else { context::inherited() } {
            deadline = deadline.min(inherited.due);
            token = token.or(Some(inherited.token));
        }
        let token = CancellationToken::until(token.as_ref(), deadline);
        let runs = Wanted {
            token: Some(token.clone()),
            deadline: None,
            detached: true,
            submit_timeout: None,
            start: Start::Now,
            ..self.clone()
        };
        let first = match self.start {
            Start::Now => None,
            Start::After(delay) => Some(delay),
            Start::At(instant) => Some(clock::left(clock::of(instant))),
        };
        (runs, token, first)
    }

    /// Whether a queue of another pool was asked for.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.elsewhere
    }

    pub(crate) fn name<F>(&self, site: &'static Location<'static>) -> TaskName {
        TaskName::new(self.label.clone(), type_name::<F>(), Some(site))
    }
}

/// How far a submit may go to find room.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    Wait,
    Try,
    /// As `Try`; a refusal is not counted, for nobody is told of it.
    Quiet,
}

impl<'a> Plan<'a> {
    /// The queue it goes to.
    #[inline]
    pub(crate) fn lane(self, shared: &'a Shared) -> &'a Lane {
        self.wanted.lane.as_deref().unwrap_or(&shared.queue)
    }

    /// What it does where there is no room.
    #[inline]
    fn overflow(self, shared: &Shared) -> Overflow {
        self.wanted.overflow.unwrap_or_else(|| self.lane(shared).overflow)
    }

    pub(crate) fn label(self) -> Option<&'a Label> {
        self.wanted.label.as_ref()
    }

    #[inline]
    fn token(self) -> Option<&'a CancellationToken> {
        self.wanted.token.as_ref().or(self.terms.inherited.as_ref())
    }

    #[inline]
    fn completions(self) -> Option<&'a dyn Reserve> {
        self.wanted.completions.as_ref().map(|completions| &***completions)
    }

    #[inline]
    fn push(&self, shared: &Shared, slot: NonNull<Slot>) -> Result<(), NoPush> {
        self.seen(self.lane(shared).push_as(slot, self.kind))
    }

    /// Keeps in mind what was full.
    #[inline]
    fn seen(&self, pushed: Result<(), NoPush>) -> Result<(), NoPush> {
        if let Err(why) = pushed {
            self.key_full.set(why == NoPush::KeyFull);
        }
        pushed
    }

    /// What the caller is told.
    pub(crate) fn refused<F>(&self, kind: SubmitErrorKind, site: &'static Location<'static>) -> Refused {
        let refused = Refused::new(kind, self.name::<F>(site)).because(self.deadlock.take());
        if let Some(completions) = self.completions().filter(|_| self.no_place.get()) {
            return refused.by_completions(completions.name());
        }
        let full = matches!(kind, SubmitErrorKind::QueueFull | SubmitErrorKind::SubmitTimedOut);
        match &self.wanted.lane {
            Some(lane) => refused.by(&lane.name, full && self.key_full.get()),
            None if full && self.key_full.get() => refused.by("default", true),
            None => refused,
        }
    }

    /// Makes the slot of a task: QUEUED, in no queue, with one reference for the queue and one for the handle.
    #[inline]
    pub(crate) fn slot<C: Callback>(
        &self,
        shared: &Shared,
        callback: C,
        carried: Option<Box<dyn Carried>>,
        site: &'static Location<'static>,
    ) -> NonNull<Slot> {
        let side = if self.bare {
            None
        } else {
            Some(Side::new(self.label().cloned(), self.token().cloned()))
        };
        if let Some(carried) = carried {
            return self.new_slot(shared, Carrying { callback, carried }, side, site);
        }
        self.new_slot(shared, callback, side, site)
    }

    #[inline]
    fn new_slot<C: Callback>(
        &self,
        shared: &Shared,
        callback: C,
        side: Option<Box<Side>>,
        site: &'static Location<'static>,
    ) -> NonNull<Slot> {
        // SAFETY: the payload is written right below, before anyone else sees the slot.
        unsafe {
            let slot = Slot::new(
                C::table(),
                self.lane(shared).number,
                self.due_millis,
                Some(site),
                side,
                2,
            );
            put(slot.as_ref(), callback);
            slot
        }
    }

    pub(crate) fn name<F>(&self, site: &'static Location<'static>) -> TaskName {
        self.wanted.name::<F>(site)
    }

    /// Takes places in the completion queue for some tasks that nobody else knows yet, the first ones: how many. A task that has
    /// one already keeps it.
    #[cold]
    #[inline(never)]
    fn reserve(&self, slots: &[NonNull<Slot>], completions: &dyn Reserve) -> Result<usize, SubmitErrorKind> {
        for (count, slot) in slots.iter().enumerate() {
            // SAFETY: the references are the caller's.
            let slot = unsafe { slot.as_ref() };
            if slot.load() & WAITERS != 0 {
                continue;
            }
            match completions.reserve() {
                Ok(place) => slot.set_place(place),
                Err(_) if count > 0 => return Ok(count),
                Err(kind) => {
                    self.no_place.set(kind == SubmitErrorKind::QueueFull);
                    return Err(kind);
                }
            }
        }
        Ok(slots.len())
    }

    /// Why the task cannot be accepted any more, whatever room there is.
    #[inline]
    pub(crate) fn over(self) -> Option<SubmitErrorKind> {
        if self.wanted.elsewhere {
            return Some(SubmitErrorKind::InvalidArgument);
        }
        if !self.bare && self.token().is_some_and(|token| token.told().is_some()) {
            return Some(SubmitErrorKind::Cancelled);
        }
        None
    }
}

/// Finds a place for a task. On success the caller owns one reference, the handle's; otherwise both.
#[inline]
fn place(shared: &Arc<Shared>, slot: NonNull<Slot>, plan: Plan<'_>, patience: Patience) -> Result<(), SubmitErrorKind> {
    if let Some(kind) = plan.over() {
        return Err(kind);
    }
    if let Some(completions) = plan.completions() {
        plan.reserve(&[slot], completions)?;
    }
    match plan.push(shared, slot) {
        Ok(()) => {}
        Err(NoPush::Closed) => return Err(SubmitErrorKind::ShutDown),
        Err(full) => return overflow(shared, slot, plan, patience, full),
    }
    placed(shared, &[slot], plan);
    Ok(())
}

/// Finds places for some tasks, the first ones: how many. On success the caller owns one reference of each of these, the
/// handle's; otherwise still both of all.
pub(crate) fn place_some(
    shared: &Arc<Shared>,
    slots: &[NonNull<Slot>],
    plan: Plan<'_>,
    patience: Patience,
) -> Result<usize, SubmitErrorKind> {
    if shared.is_inherited() {
        return Err(SubmitErrorKind::ShutDown);
    }
    if let Some(kind) = plan.over() {
        return Err(kind);
    }
    let mut slots = slots;
    if let Some(completions) = plan.completions() {
        slots = &slots[..plan.reserve(slots, completions)?];
    }
    match plan.lane(shared).push_many(slots, plan.kind) {
        Ok(count) => {
            placed(shared, &slots[..count], plan);
            Ok(count)
        }
        Err(NoPush::Closed) => Err(SubmitErrorKind::ShutDown),
        Err(full) => overflow(shared, slots[0], plan, patience, full).map(|()| 1),
    }
}

/// Tasks have been pushed: have somebody run them (a worker that finds more than one wakes the next), and the timer and
/// the token know of them.
#[inline]
fn placed(shared: &Arc<Shared>, slots: &[NonNull<Slot>], plan: Plan<'_>) {
    if plan.kind.parked {
        return placed_parked(shared, slots, plan);
    }
    let awake = shared.tell_workers(plan.lane(shared));
    // There was a full fence in `tell_workers`.
    if plan.due != NEVER {
        shared.timer.arm(plan.due, plan.now);
    }
    if !awake && shared.on_demand() {
        shared.ensure_worker();
    }
    if !plan.bare
        && let Some(token) = plan.token()
    {
        slots.iter().for_each(|slot| link(*slot, token));
    }
}

/// The same for tasks whose time has not come: nobody is to run them yet, and the timer keeps their deadlines from the start.
#[cold]
fn placed_parked(shared: &Arc<Shared>, slots: &[NonNull<Slot>], plan: Plan<'_>) {
    for slot in slots {
        // SAFETY: the handle's reference keeps the slot alive; it is only lent.
        let task = std::mem::ManuallyDrop::new(unsafe { SlotRef::from_raw(*slot) });
        shared.timer.delay(&task, plan.start);
        if let Some(token) = plan.token() {
            end::link(&task, token);
        }
    }
    full_fence();
    if shared.queue.is_closed() {
        shared.late_starts();
    }
}

#[cold]
fn link(slot: NonNull<Slot>, token: &CancellationToken) {
    // SAFETY: the handle's reference keeps the slot alive; it is only lent.
    let task = std::mem::ManuallyDrop::new(unsafe { SlotRef::from_raw(slot) });
    end::link(&task, token);
}

/// The queue is full.
#[cold]
#[inline(never)]
fn overflow(
    shared: &Arc<Shared>,
    slot: NonNull<Slot>,
    plan: Plan<'_>,
    patience: Patience,
    mut full: NoPush,
) -> Result<(), SubmitErrorKind> {
    let lane = plan.lane(shared);
    match plan.overflow(shared) {
        Overflow::Block if patience == Patience::Wait => wait_for_room(shared, slot, plan),
        // (One of a key would overtake those that wait.)
        Overflow::CallerRuns if patience == Patience::Wait && plan.kind.is_plain() => {
            let permit = shared.turns.are_taken();
            if permit && !shared.turns.permit(lane) {
                return Err(SubmitErrorKind::QueueFull);
            }
            let give_back = || {
                if permit && shared.give_back(lane, None) {
                    shared.tell_workers(lane);
                }
            };
            if !lane.accept_directly() {
                give_back();
                return Err(SubmitErrorKind::ShutDown);
            }
            // SAFETY: the queue's reference goes to the run.
            let task = unsafe { SlotRef::from_raw(slot) };
            if let Some(token) = plan.token() {
                end::link(&task, token);
            }
            worker::run_by_caller(shared, lane, task, || {
                if plan.due != NEVER {
                    full_fence();
                    shared.timer.arm(plan.due, plan.now);
                }
            });
            give_back();
            Ok(())
        }
        Overflow::Block | Overflow::CallerRuns | Overflow::Reject => Err(SubmitErrorKind::QueueFull),
        Overflow::DropNewest => {
            if !lane.accept_directly() {
                return Err(SubmitErrorKind::ShutDown);
            }
            // SAFETY: the queue's reference, which ends here.
            let task = unsafe { SlotRef::from_raw(slot) };
            if task.win().is_some() {
                end::finish(shared, &task, QUEUED, Outcome::Shed, None);
            }
            Ok(())
        }
        Overflow::DropOldest => loop {
            let (pushed, oldest) = lane.push_over(slot, plan.kind, full, |task| task.win().is_some());
            let pushed = plan.seen(pushed);
            if pushed.is_ok() {
                placed(shared, &[slot], plan);
            }
            // What is woken by it is user code: only now.
            if let Some((oldest, true)) = oldest {
                end::finish(shared, &oldest, QUEUED, Outcome::Shed, None);
            }
            match pushed {
                Ok(()) => return Ok(()),
                Err(NoPush::Closed) => return Err(SubmitErrorKind::ShutDown),
                // The capacity was lowered: another one has to go.
                Err(still) => full = still,
            }
        },
    }
}

/// Blocks until there is room, in order of arrival, or until the pool is closed, the token cancelled, or the time
/// is up.
fn wait_for_room(shared: &Arc<Shared>, slot: NonNull<Slot>, plan: Plan<'_>) -> Result<(), SubmitErrorKind> {
    let lane = plan.lane(shared);
    // Room often comes within microseconds. Each look takes the workers' cache line away from them, and one place is
    // soon filled: so let some come free first.
    for round in 0..patience(13) {
        if round < 3 {
            for _ in 0..(128 << round) {
                spin_hint();
            }
        } else {
            thread::yield_now();
        }
        if lane.worth_a_try() {
            match plan.push(shared, slot) {
                Ok(()) => {
                    placed(shared, &[slot], plan);
                    return Ok(());
                }
                Err(NoPush::Closed) => return Err(SubmitErrorKind::ShutDown),
                Err(NoPush::Full | NoPush::KeyFull) => {}
            }
        }
    }
    let parker = crate::sync::parker();
    let Some(place) = lane.join_line(InLine::Thread(parker.clone()), plan.kind.key()) else {
        return Err(SubmitErrorKind::QueueFull);
    };
    let watch = plan
        .token()
        .map(|token| (token, token.watch(Watcher::Thread(parker.clone()))));
    let until = plan.room_until.min(plan.due);
    let answer = || match plan.seen(lane.push_in_line(place, slot, plan.kind)) {
        Ok(()) => Some(Ok(())),
        Err(NoPush::Closed) => Some(Err(SubmitErrorKind::ShutDown)),
        Err(NoPush::Full | NoPush::KeyFull) => plan.over().map(Err),
    };
    let result = if until == NEVER {
        waits::for_room(shared, lane.number, &parker, answer).unwrap_or_else(|deadlock| {
            plan.deadlock.set(Some(deadlock));
            Err(SubmitErrorKind::WouldDeadlock)
        })
    } else {
        waits::away(|| {
            loop {
                if let Some(answer) = answer() {
                    break answer;
                }
                // However often it is woken for nothing.
                if !parker.park_until(until) || clock::now() >= until {
                    break answer().unwrap_or_else(|| Err(late(plan)));
                }
            }
        })
    };
    if let Some((token, Ok(key))) = watch {
        token.unwatch(key);
    }
    match result {
        Ok(()) => placed(shared, &[slot], plan),
        // One that was refused because of the close has left the line already.
        Err(SubmitErrorKind::ShutDown) => {}
        Err(_) => lane.leave_line(place),
    }
    result
}

/// Which of the two limits has passed.
pub(crate) fn late(plan: Plan<'_>) -> SubmitErrorKind {
    if plan.due <= plan.room_until {
        SubmitErrorKind::DeadlineExceeded
    } else {
        SubmitErrorKind::SubmitTimedOut
    }
}

/// One submit, blocking or not.
#[inline]
pub(crate) fn submit_now<C: Callback>(
    shared: &Arc<Shared>,
    wanted: &Wanted,
    callback: C,
    patience: Patience,
    site: &'static Location<'static>,
) -> Result<Task<C::Value, C::Error>, (Refused, C)> {
    submit_carrying(shared, wanted, callback, shared.capture(), patience, site)
}

/// [`submit_now`] with this context, captured here or elsewhere.
#[inline]
pub(crate) fn submit_carrying<C: Callback>(
    shared: &Arc<Shared>,
    wanted: &Wanted,
    callback: C,
    carried: Option<Box<dyn Carried>>,
    patience: Patience,
    site: &'static Location<'static>,
) -> Result<Task<C::Value, C::Error>, (Refused, C)> {
    if shared.is_inherited() {
        let name = TaskName::new(wanted.label.clone(), type_name::<C::Written>(), Some(site));
        return Err((Refused::new(SubmitErrorKind::ShutDown, name), callback));
    }
    let terms = wanted.terms(shared);
    submit_planned(shared, wanted.with(&terms), callback, carried, patience, site)
}

/// [`submit_carrying`] with a plan that was made before: its time counts from then.
#[inline]
pub(crate) fn submit_planned<C: Callback>(
    shared: &Arc<Shared>,
    plan: Plan<'_>,
    callback: C,
    carried: Option<Box<dyn Carried>>,
    patience: Patience,
    site: &'static Location<'static>,
) -> Result<Task<C::Value, C::Error>, (Refused, C)> {
    let slot = plan.slot(shared, callback, carried, site);
    match place(shared, slot, plan, patience) {
        // SAFETY: the handle's reference is ours, and the callback's types are these.
        Ok(()) => Ok(unsafe { Task::from_slot(SlotRef::from_raw(slot)) }),
        Err(kind) => {
            if patience != Patience::Quiet {
                shared.books.refused.fetch_add(1, Ordering::Relaxed);
            }
            let refused = plan.refused::<C::Written>(kind, site);
            // SAFETY: refused: both references are still ours, and so is the callback.
            Err((refused, unsafe { undo::<C>(slot) }))
        }
    }
}

/// A submit without options from outside of any callback, to a pool without a default timeout or carriers: what is left of
/// [`submit_now`] then, for most tasks are like that.
#[inline(always)]
pub(crate) fn submit_plain<C: Callback>(
    pool: &Pool,
    callback: C,
    try_only: bool,
    site: &'static Location<'static>,
) -> Result<Task<C::Value, C::Error>, (Refused, C)> {
    let shared = pool.shared();
    // In a forked child, an inherited pool's submits are not plain.
    if shared.plain_in != fork::generation() || context::inside_any() {
        return submit_default(shared, callback, try_only, site);
    }
    // SAFETY: the payload is written right below, before anyone else sees the slot.
    let slot = unsafe {
        let slot = Slot::new(C::table(), shared.queue.number, clock::NO_MILLIS, Some(site), None, 2);
        put(slot.as_ref(), callback);
        slot
    };
    if shared.queue.push(slot).is_ok() {
        if !shared.tell_workers(&shared.queue) && shared.on_demand() {
            shared.ensure_worker();
        }
        // SAFETY: the handle's reference is ours, and the callback's types are these.
        return Ok(unsafe { Task::from_slot(SlotRef::from_raw(slot)) });
    }
    // SAFETY: refused: both references are still ours, and so is the callback.
    submit_default(shared, unsafe { undo::<C>(slot) }, try_only, site)
}

#[cold]
#[inline(never)]
fn submit_default<C: Callback>(
    shared: &Arc<Shared>,
    callback: C,
    try_only: bool,
    site: &'static Location<'static>,
) -> Result<Task<C::Value, C::Error>, (Refused, C)> {
    let patience = if try_only { Patience::Try } else { Patience::Wait };
    submit_now(shared, &Wanted::default(), callback, patience, site)
}

/// Submits with options: made by [`Pool::options`](crate::Pool::options).
///
/// ```
/// # let pool = duly::Pool::builder().workers(1).build()?;
/// use std::time::Duration;
/// let task = pool
///     .options()
///     .label("resize")
///     .timeout(Duration::from_secs(2))
///     .submit(|ctx| { ctx.check()?; Ok::<_, duly::Interrupted>(42) })?;
/// assert_eq!(task.wait()?, 42);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[must_use = "options do nothing until a callback is submitted with them"]
pub struct Options<'p> {
    pub(crate) pool: &'p Pool,
    pub(crate) wanted: Wanted,
}

impl fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("label", &self.wanted.label)
            .field("timeout", &self.wanted.timeout)
            .field("deadline", &self.wanted.deadline)
            .field("token", &self.wanted.token)
            .finish_non_exhaustive()
    }
}

impl<'p> Options<'p> {
    pub(crate) fn new(pool: &'p Pool) -> Self {
        Options {
            pool,
            wanted: Wanted::default(),
        }
    }

    /// What messages and reports call the task.
    pub fn label(mut self, label: impl Into<Label>) -> Self {
        let label = Some(label.into());
        let place = self.wanted.label.as_ref().and_then(Label::place);
        self.wanted.label = Label::at(label, place);
        self
    }

    /// Where the task is submitted, for messages and reports, in place of the line of the call: for bindings, whose callers
    /// are written in another language.
    pub fn submitted_at(mut self, place: &str) -> Self {
        self.wanted.label = Label::at(self.wanted.label.take(), Some(place));
        self
    }

    /// The task must have its outcome within `timeout` of the submit; waiting for room and in the queue counts.
    /// Rounded up to a millisecond. Replaces the pool's default timeout.
    #[inline]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.wanted.timeout = Some(timeout);
        self
    }

    /// The task must have its outcome by `deadline`. With a timeout as well, the earlier holds.
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.wanted.deadline = Some(deadline);
        self.wanted.rare = true;
        self
    }

    /// The task is accepted now and started when `delay` has passed since the submit, not earlier. Until then it is queued
    /// like any other: it holds a place, is cancelled, and its deadline, which counts from the submit, may end it before it
    /// was started.
    ///
    /// A shutdown runs what is due within its drain, and abandons at once what is due later. A full queue meets its overflow
    /// policy; [`CallerRuns`](Overflow::CallerRuns) refuses, for the caller is not to wait.
    #[inline]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.wanted.start = Start::After(delay);
        self.wanted.rare = true;
        self
    }

    /// [`delay`](Self::delay) until this time. If that has passed, the task is started as soon as any.
    pub fn at(mut self, start: Instant) -> Self {
        self.wanted.start = Start::At(start);
        self.wanted.rare = true;
        self
    }

    /// The pool's default timeout does not apply.
    #[inline]
    pub fn no_deadline(mut self) -> Self {
        self.wanted.no_deadline = true;
        self.wanted.rare = true;
        self
    }

    /// Cancels the task when `token` is cancelled; the token's deadline is the task's, if it is earlier.
    #[inline]
    pub fn token(mut self, token: &CancellationToken) -> Self {
        self.wanted.token = Some(token.clone());
        self
    }

    /// A submit from a callback inherits neither the callback's token nor what is left of its deadline.
    #[inline]
    pub fn detached(mut self) -> Self {
        self.wanted.detached = true;
        self
    }

    /// Waits for room for at most `timeout`; then the submit is refused with `submit_timed_out`.
    #[inline]
    pub fn submit_timeout(mut self, timeout: Duration) -> Self {
        self.wanted.submit_timeout = Some(timeout);
        self.wanted.rare = true;
        self
    }

    /// What a submit does when the queue is full, whatever the queue's own policy says. Of two producers of a queue one may so
    /// wait for room while the other is refused.
    ///
    /// Those that wait stand in one line, and the places that come free are theirs, in order of arrival: to a submit with another
    /// policy a queue whose last places they are to get is full. [`DropOldest`](Overflow::DropOldest) sheds the oldest queued task,
    /// whoever submitted it, and takes its place and no other. A `try_` verb never waits, and nobody runs the callback for it:
    /// under [`Block`](Overflow::Block) and [`CallerRuns`](Overflow::CallerRuns) it refuses with `queue_full`; the others do what
    /// they say.
    #[inline]
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.wanted.overflow = Some(overflow);
        self
    }

    /// Whether a submit with these waits for room, where there is none.
    #[doc(hidden)]
    #[must_use]
    pub fn waits_for_room(&self) -> bool {
        let shared = self.pool.shared();
        let lane = self.wanted.lane.as_deref().unwrap_or(&shared.queue);
        self.wanted.overflow.unwrap_or(lane.overflow) == Overflow::Block
    }

    /// As [`Pool::spawn`](crate::Pool::spawn).
    #[track_caller]
    #[inline]
    pub fn spawn<F, T>(&self, callback: F) -> Result<Task<T>, SubmitError<F>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.plain(callback, Patience::Wait)
    }

    /// As [`Pool::try_spawn`](crate::Pool::try_spawn).
    #[track_caller]
    #[inline]
    pub fn try_spawn<F, T>(&self, callback: F) -> Result<Task<T>, SubmitError<F>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.plain(callback, Patience::Try)
    }

    /// As [`Pool::submit`](crate::Pool::submit).
    #[track_caller]
    #[inline]
    pub fn submit<F, T, E>(&self, callback: F) -> Result<Task<T, E>, SubmitError<F>>
    where
        F: FnOnce(&crate::Context) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        self.with_context(callback, Patience::Wait)
    }

    /// As [`Pool::try_submit`](crate::Pool::try_submit).
    #[track_caller]
    #[inline]
    pub fn try_submit<F, T, E>(&self, callback: F) -> Result<Task<T, E>, SubmitError<F>>
    where
        F: FnOnce(&crate::Context) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        self.with_context(callback, Patience::Try)
    }

    /// As [`try_submit`](Options::try_submit), for who waits by [`submit_async`](Options::submit_async) if there is no room:
    /// a refusal is not counted, and is to be tried again that way.
    #[doc(hidden)]
    #[track_caller]
    #[inline]
    pub fn submit_if_room<F, T, E>(&self, callback: F) -> Result<Task<T, E>, SubmitError<F>>
    where
        F: FnOnce(&crate::Context) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        self.with_context(callback, Patience::Quiet)
    }

    /// As [`Pool::submit_async`](crate::Pool::submit_async).
    #[track_caller]
    pub fn submit_async<F, T, E>(&self, callback: F) -> SubmitFuture<F, T, E>
    where
        F: FnOnce(&crate::Context) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let shared = self.pool.shared();
        SubmitFuture::planned(
            shared,
            self.wanted.keep(shared),
            callback,
            shared.capture(),
            Location::caller(),
        )
    }

    /// As [`Pool::run`](crate::Pool::run).
    #[track_caller]
    pub fn run<F, T, E>(&self, callback: F) -> Run<F, T, E>
    where
        F: FnOnce(&crate::Context) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        Run {
            step: Step::Submitting(self.submit_async(callback)),
        }
    }

    #[track_caller]
    #[inline]
    fn plain<F, T>(&self, callback: F, patience: Patience) -> Result<Task<T, Infallible>, SubmitError<F>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        submit_now(
            self.pool.shared(),
            &self.wanted,
            Plain(callback, PhantomData),
            patience,
            Location::caller(),
        )
        .map_err(|(refused, callback)| SubmitError::new(refused, callback.0))
    }

    #[track_caller]
    #[inline]
    fn with_context<F, T, E>(&self, callback: F, patience: Patience) -> Result<Task<T, E>, SubmitError<F>>
    where
        F: FnOnce(&crate::Context) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        submit_now(
            self.pool.shared(),
            &self.wanted,
            WithContext(callback, PhantomData),
            patience,
            Location::caller(),
        )
        .map_err(|(refused, callback)| SubmitError::new(refused, callback.0))
    }
}

/// Future of [`Pool::submit_async`](crate::Pool::submit_async). Dropping it before it completes submits nothing.
#[must_use = "futures do nothing unless polled"]
pub struct SubmitFuture<F, T, E>
where
    F: FnOnce(&crate::Context) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    shared: Arc<Shared>,
    kept: Kept,
    callback: Option<WithContext<F, T, E>>,
    /// What was captured when the submit was made, until the slot is.
    carried: Option<Box<dyn Carried>>,
    /// The slot while it waits for room: both references are this future's.
    slot: Option<NonNull<Slot>>,
    place: Option<u64>,
    watch: Option<usize>,
    alarm: Option<Alarm>,
    site: &'static Location<'static>,
}

// SAFETY: the slot is this future's alone, and what it holds is `Send`.
unsafe impl<F, T, E> Send for SubmitFuture<F, T, E>
where
    F: FnOnce(&crate::Context) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
}

impl<F, T, E> Unpin for SubmitFuture<F, T, E>
where
    F: FnOnce(&crate::Context) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
}

impl<F, T, E> SubmitFuture<F, T, E>
where
    F: FnOnce(&crate::Context) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    pub(crate) fn planned(
        shared: &Arc<Shared>,
        kept: Kept,
        callback: F,
        carried: Option<Box<dyn Carried>>,
        site: &'static Location<'static>,
    ) -> Self {
        SubmitFuture {
            shared: shared.clone(),
            kept,
            callback: Some(WithContext(callback, PhantomData)),
            carried,
            slot: None,
            place: None,
            watch: None,
            alarm: None,
            site,
        }
    }

    /// Hands work to the pool's delivery threads: for a language that polls where it is woken, as its waiters' code may block.
    #[doc(hidden)]
    #[must_use]
    pub fn deliverer(&self) -> Arc<dyn Fn(Box<dyn FnOnce() + Send>) + Send + Sync> {
        let shared = self.shared.clone();
        Arc::new(move |work| shared.deliver("a submit that waited for room", work))
    }

    fn unwatch(&mut self) {
        self.alarm = None;
        if let (Some(token), Some(key)) = (self.kept.plan().token(), self.watch.take()) {
            token.unwatch(key);
        }
    }

    fn refuse(&mut self, slot: NonNull<Slot>, kind: SubmitErrorKind) -> SubmitError<F> {
        self.slot = None;
        self.unwatch();
        self.shared.books.refused.fetch_add(1, Ordering::Relaxed);
        // SAFETY: refused: both references are still ours, and so is the callback.
        let callback = unsafe { undo::<WithContext<F, T, E>>(slot) };
        SubmitError::new(self.kept.plan().refused::<F>(kind, self.site), callback.0)
    }

    /// In a forked child: nobody makes room any more, and its place in the line is not touched.
    #[cold]
    fn refuse_inherited(&mut self) -> SubmitError<F> {
        self.place = None;
        let name = self.kept.plan().name::<F>(self.site);
        let callback = match (self.slot.take(), self.callback.take()) {
            // SAFETY: never pushed: both references are still ours, and so is the callback.
            (Some(slot), _) => unsafe { undo::<WithContext<F, T, E>>(slot) },
            (None, Some(callback)) => callback,
            (None, None) => panic!("duly: a submit future was polled after it had completed"),
        };
        SubmitError::new(Refused::new(SubmitErrorKind::ShutDown, name), callback.0)
    }

    fn accepted(&mut self, slot: NonNull<Slot>) -> Task<T, E> {
        self.slot = None;
        self.unwatch();
        // SAFETY: the handle's reference is ours, and the callback's types are these.
        unsafe { Task::from_slot(SlotRef::from_raw(slot)) }
    }
}

impl<F, T, E> Future for SubmitFuture<F, T, E>
where
    F: FnOnce(&crate::Context) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    type Output = Result<Task<T, E>, SubmitError<F>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if this.shared.is_inherited() {
            return Poll::Ready(Err(this.refuse_inherited()));
        }
        let slot = match (this.slot, this.callback.take()) {
            (Some(slot), _) => slot,
            (None, Some(callback)) => {
                let slot = this
                    .kept
                    .plan()
                    .slot(&this.shared, callback, this.carried.take(), this.site);
                let wait = this.kept.plan().overflow(&this.shared) == Overflow::Block;
                match place(&this.shared, slot, this.kept.plan(), Patience::Try) {
                    Ok(()) => return Poll::Ready(Ok(this.accepted(slot))),
                    Err(SubmitErrorKind::QueueFull) if wait && !this.kept.plan().no_place.get() => {}
                    Err(kind) => return Poll::Ready(Err(this.refuse(slot, kind))),
                }
                this.slot = Some(slot);
                slot
            }
            (None, None) => panic!("duly: a submit future was polled after it had completed"),
        };
        // The watches first, the place second: what comes between wakes us.
        this.unwatch();
        if let Some(token) = this.kept.plan().token() {
            this.watch = token.watch(Watcher::Waker(cx.waker().clone())).ok();
        }
        let until = this.kept.plan().room_until.min(this.kept.plan().due);
        this.alarm = Alarm::at(until, cx.waker());
        let place = match this.place {
            Some(place) => {
                this.kept.plan().lane(&this.shared).update_line(place, cx.waker());
                place
            }
            None => match this
                .kept
                .plan()
                .lane(&this.shared)
                .join_line(InLine::Waker(Arc::new(cx.waker().clone())), this.kept.plan().kind.key())
            {
                Some(place) => *this.place.insert(place),
                None => return Poll::Ready(Err(this.refuse(slot, SubmitErrorKind::QueueFull))),
            },
        };
        let over = if let Some(kind) = this.kept.plan().over() {
            Some(kind)
        } else if until != NEVER && clock::now() >= until {
            Some(late(this.kept.plan()))
        } else {
            None
        };
        if let Some(kind) = over {
            this.place = None;
            this.kept.plan().lane(&this.shared).leave_line(place);
            return Poll::Ready(Err(this.refuse(slot, kind)));
        }
        match this
            .kept
            .plan()
            .lane(&this.shared)
            .push_in_line(place, slot, this.kept.plan().kind)
        {
            Ok(()) => {
                this.place = None;
                placed(&this.shared, &[slot], this.kept.plan());
                Poll::Ready(Ok(this.accepted(slot)))
            }
            Err(NoPush::Closed) => {
                this.place = None;
                Poll::Ready(Err(this.refuse(slot, SubmitErrorKind::ShutDown)))
            }
            Err(NoPush::Full | NoPush::KeyFull) => Poll::Pending,
        }
    }
}

impl<F, T, E> Drop for SubmitFuture<F, T, E>
where
    F: FnOnce(&crate::Context) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    fn drop(&mut self) {
        if self.shared.is_inherited() {
            // What it holds may be anybody's: nothing is freed.
            fork::keep(&self.shared);
            std::mem::forget(self.callback.take());
            return;
        }
        self.unwatch();
        if let Some(carried) = self.carried.take() {
            carry::let_go(carried);
        }
        if let Some(place) = self.place.take() {
            self.kept.plan().lane(&self.shared).leave_line(place);
        }
        if let Some(slot) = self.slot.take() {
            // SAFETY: never pushed: both references are still ours, and so is the callback.
            drop(unsafe { undo::<WithContext<F, T, E>>(slot) });
        }
    }
}

impl<F, T, E> fmt::Debug for SubmitFuture<F, T, E>
where
    F: FnOnce(&crate::Context) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubmitFuture")
            .field("task", &self.kept.plan().name::<F>(self.site))
            .field("waits_for_room", &self.place.is_some())
            .finish()
    }
}

/// Future of [`Pool::run`](crate::Pool::run). Dropping it cancels the task, with reason `caller_left`.
#[must_use = "futures do nothing unless polled"]
#[derive(Debug)]
pub struct Run<F, T, E>
where
    F: FnOnce(&crate::Context) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    step: Step<F, T, E>,
}

#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "one a submit, where its future is: a box would be an allocation a submit"
)]
enum Step<F, T, E>
where
    F: FnOnce(&crate::Context) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    Submitting(SubmitFuture<F, T, E>),
    Waiting(CancelOnDrop<T, E>),
}

impl<F, T, E> Future for Run<F, T, E>
where
    F: FnOnce(&crate::Context) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    type Output = Result<T, RunError<F, E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            match &mut this.step {
                Step::Submitting(submit) => match Pin::new(submit).poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(RunError::Refused(error))),
                    Poll::Ready(Ok(task)) => this.step = Step::Waiting(task.cancel_when_caller_leaves()),
                },
                Step::Waiting(task) => return Pin::new(task).poll(cx).map_err(RunError::Task),
            }
        }
    }
}
