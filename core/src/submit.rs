//! From a callback to an accepted task: the options of one submit, the ways to wait for room.
//!
//! Invariant: a refused submit leaves no task and no trace in the books but `refused`, and gives the callback
//! back untouched. The slot is made first and pushed second, so that waiting for room holds nothing else.

use crate::alarm::Alarm;
use crate::cancel::{CancellationToken, Watcher};
use crate::clock::{self, NEVER};
use crate::config::Overflow;
use crate::context;
use crate::end;
use crate::error::{Outcome, RunError, SubmitError, SubmitErrorKind};
use crate::name::{Label, TaskName};
use crate::pool::Pool;
use crate::queue::{InLine, NoPush};
use crate::shared::Shared;
use crate::slot::{QUEUED, Side, Slot, SlotRef};
use crate::sync::{Arc, Ordering, full_fence, patience, spin_hint, thread};
use crate::task::{Callback, CancelOnDrop, Plain, Table, Task, WithContext, put, undo};
use crate::worker;
use std::any::type_name;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::Location;
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// What a submit was asked for.
#[derive(Clone, Default)]
pub(crate) struct Wanted {
    label: Option<Label>,
    token: Option<CancellationToken>,
    timeout: Option<Duration>,
    deadline: Option<Instant>,
    no_deadline: bool,
    detached: bool,
    submit_timeout: Option<Duration>,
}

/// A submit under way.
pub(crate) struct Plan {
    label: Option<Label>,
    token: Option<CancellationToken>,
    /// When the task must have its outcome.
    due: u64,
    /// That time in milliseconds: rounded up, so that nothing is early, unless it has passed already.
    due_millis: clock::Millis,
    /// The time it was planned, where that was needed.
    now: u64,
    /// Until when to wait for room.
    room_until: u64,
}

impl Wanted {
    #[inline]
    pub(crate) fn plan(&self, shared: &Shared) -> Plan {
        let inherited = if self.detached { None } else { context::inherited() };
        let plain = self.timeout.is_none()
            && self.deadline.is_none()
            && self.submit_timeout.is_none()
            && self.token.is_none()
            && inherited.is_none()
            && (shared.config.default_timeout.is_none() || self.no_deadline);
        if plain {
            return Plan {
                label: self.label.clone(),
                token: None,
                due: NEVER,
                due_millis: clock::NO_MILLIS,
                now: 0,
                room_until: NEVER,
            };
        }
        let now = clock::now();
        let ahead = |span: Duration| u64::try_from(span.as_nanos()).map_or(NEVER, |n| now.saturating_add(n));
        let mut due = match (self.timeout, self.deadline) {
            (None, None) if self.no_deadline => NEVER,
            (None, None) => shared.config.default_timeout.map_or(NEVER, ahead),
            (timeout, deadline) => timeout.map_or(NEVER, ahead).min(deadline.map_or(NEVER, clock::of)),
        };
        let mut token = self.token.clone();
        if let Some(inherited) = inherited {
            due = due.min(inherited.due);
            token = token.or(Some(inherited.token));
        }
        if let Some(token) = &token {
            due = due.min(token.deadline_nanos());
        }
        Plan {
            label: self.label.clone(),
            token,
            due,
            due_millis: if due <= now {
                now / clock::MS
            } else {
                clock::millis_up(due)
            },
            now,
            room_until: self.submit_timeout.map_or(NEVER, ahead),
        }
    }
}

/// How far a submit may go to find room.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    Wait,
    Try,
}

impl Plan {
    /// Makes the slot of a task: QUEUED, in no queue, with one reference for the queue and one for the handle.
    #[inline]
    pub(crate) fn slot<C: Callback>(
        &self,
        shared: &Shared,
        callback: C,
        site: &'static Location<'static>,
    ) -> NonNull<Slot> {
        let side = if self.label.is_some() || self.token.is_some() {
            Some(Side::new(self.label.clone(), self.token.clone()))
        } else {
            None
        };
        // SAFETY: the payload is written right below, before anyone else sees the slot.
        unsafe {
            let slot = Slot::new(Table::<C>::TABLE, shared.number, self.due_millis, Some(site), side, 2);
            put(slot.as_ref(), callback);
            slot
        }
    }

    pub(crate) fn name<F>(&self, site: &'static Location<'static>) -> TaskName {
        TaskName::new(self.label.clone(), type_name::<F>(), Some(site))
    }

    /// Why the task cannot be accepted any more, whatever room there is.
    pub(crate) fn over(&self) -> Option<SubmitErrorKind> {
        if self.token.as_ref().is_some_and(|token| token.told().is_some()) {
            return Some(SubmitErrorKind::Cancelled);
        }
        None
    }
}

/// Finds a place for a task. On success the caller owns one reference, the handle's; otherwise both.
#[inline]
fn place(shared: &Arc<Shared>, slot: NonNull<Slot>, plan: &Plan, patience: Patience) -> Result<(), SubmitErrorKind> {
    if let Some(kind) = plan.over() {
        return Err(kind);
    }
    match shared.queue.push(slot) {
        Ok(()) => {}
        Err(NoPush::Closed) => return Err(SubmitErrorKind::ShutDown),
        Err(NoPush::Full) => return overflow(shared, slot, plan, patience),
    }
    placed(shared, &[slot], plan);
    Ok(())
}

/// Finds places for some tasks, the first ones: how many. On success the caller owns one reference of each of these, the
/// handle's; otherwise still both of all.
pub(crate) fn place_some(
    shared: &Arc<Shared>,
    slots: &[NonNull<Slot>],
    plan: &Plan,
    patience: Patience,
) -> Result<usize, SubmitErrorKind> {
    if let Some(kind) = plan.over() {
        return Err(kind);
    }
    match shared.queue.push_many(slots) {
        Ok(count) => {
            placed(shared, &slots[..count], plan);
            Ok(count)
        }
        Err(NoPush::Closed) => Err(SubmitErrorKind::ShutDown),
        Err(NoPush::Full) => overflow(shared, slots[0], plan, patience).map(|()| 1),
    }
}

/// Tasks have been pushed: have somebody run them (a worker that finds more than one wakes the next), and the timer and
/// the token know of them.
#[inline]
fn placed(shared: &Arc<Shared>, slots: &[NonNull<Slot>], plan: &Plan) {
    let awake = shared.idle.notify();
    // There was a full fence in `notify`.
    if plan.due != NEVER {
        shared.timer.arm(plan.due, plan.now);
    }
    if !awake && shared.on_demand() {
        shared.ensure_worker();
    }
    if let Some(token) = &plan.token {
        slots.iter().for_each(|slot| link(*slot, token));
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
fn overflow(shared: &Arc<Shared>, slot: NonNull<Slot>, plan: &Plan, patience: Patience) -> Result<(), SubmitErrorKind> {
    match shared.config.overflow {
        Overflow::Block if patience == Patience::Wait => wait_for_room(shared, slot, plan),
        Overflow::CallerRuns if patience == Patience::Wait => {
            if !shared.queue.accept_directly() {
                return Err(SubmitErrorKind::ShutDown);
            }
            // SAFETY: the queue's reference goes to the run.
            let task = unsafe { SlotRef::from_raw(slot) };
            if let Some(token) = &plan.token {
                end::link(&task, token);
            }
            worker::run_by_caller(shared, task, || {
                if plan.due != NEVER {
                    full_fence();
                    shared.timer.arm(plan.due, plan.now);
                }
            });
            Ok(())
        }
        Overflow::Block | Overflow::CallerRuns | Overflow::Reject => Err(SubmitErrorKind::QueueFull),
        Overflow::DropNewest => {
            if !shared.queue.accept_directly() {
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
            if let Some((oldest, true)) = shared.queue.pop_won(|task| task.win().is_some()) {
                end::finish(shared, &oldest, QUEUED, Outcome::Shed, None);
            }
            match shared.queue.push(slot) {
                Ok(()) => {
                    placed(shared, &[slot], plan);
                    return Ok(());
                }
                Err(NoPush::Closed) => return Err(SubmitErrorKind::ShutDown),
                // Another producer took the place.
                Err(NoPush::Full) => spin_hint(),
            }
        },
    }
}

/// Blocks until there is room, in order of arrival, or until the pool is closed, the token cancelled, or the time
/// is up.
fn wait_for_room(shared: &Arc<Shared>, slot: NonNull<Slot>, plan: &Plan) -> Result<(), SubmitErrorKind> {
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
        if shared.queue.worth_a_try() {
            match shared.queue.push(slot) {
                Ok(()) => {
                    placed(shared, &[slot], plan);
                    return Ok(());
                }
                Err(NoPush::Closed) => return Err(SubmitErrorKind::ShutDown),
                Err(NoPush::Full) => {}
            }
        }
    }
    let parker = crate::sync::parker();
    let Some(place) = shared.queue.join_line(InLine::Thread(parker.clone())) else {
        return Err(SubmitErrorKind::QueueFull);
    };
    let watch = plan
        .token
        .as_ref()
        .map(|token| (token, token.watch(Watcher::Thread(parker.clone()))));
    let until = plan.room_until.min(plan.due);
    let result = loop {
        match shared.queue.push_in_line(place, slot) {
            Ok(()) => break Ok(()),
            Err(NoPush::Closed) => break Err(SubmitErrorKind::ShutDown),
            Err(NoPush::Full) => {}
        }
        if let Some(kind) = plan.over() {
            break Err(kind);
        }
        if until == NEVER {
            parker.park();
        } else if !parker.park_until(until) {
            break Err(late(plan));
        }
    };
    if let Some((token, Ok(key))) = watch {
        token.unwatch(key);
    }
    match result {
        Ok(()) => placed(shared, &[slot], plan),
        // One that was refused because of the close has left the line already.
        Err(SubmitErrorKind::ShutDown) => {}
        Err(_) => shared.queue.leave_line(place),
    }
    result
}

/// Which of the two limits has passed.
fn late(plan: &Plan) -> SubmitErrorKind {
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
) -> Result<Task<C::Value, C::Error>, (SubmitErrorKind, TaskName, C)> {
    let plan = wanted.plan(shared);
    let slot = plan.slot(shared, callback, site);
    match place(shared, slot, &plan, patience) {
        // SAFETY: the handle's reference is ours, and the callback's types are these.
        Ok(()) => Ok(unsafe { Task::from_slot(SlotRef::from_raw(slot)) }),
        Err(kind) => {
            shared.books.refused.fetch_add(1, Ordering::Relaxed);
            let name = plan.name::<C::Written>(site);
            // SAFETY: refused: both references are still ours, and so is the callback.
            Err((kind, name, unsafe { undo::<C>(slot) }))
        }
    }
}

/// A submit without options from outside of any callback, to a pool without a default timeout: what is left of
/// [`submit_now`] then, for most tasks are like that.
#[inline(always)]
pub(crate) fn submit_plain<C: Callback>(
    pool: &Pool,
    callback: C,
    try_only: bool,
    site: &'static Location<'static>,
) -> Result<Task<C::Value, C::Error>, (SubmitErrorKind, TaskName, C)> {
    let shared = pool.shared();
    if shared.config.default_timeout.is_some() || context::inside_any() {
        return submit_default(shared, callback, try_only, site);
    }
    // SAFETY: the payload is written right below, before anyone else sees the slot.
    let slot = unsafe {
        let slot = Slot::new(Table::<C>::TABLE, shared.number, clock::NO_MILLIS, Some(site), None, 2);
        put(slot.as_ref(), callback);
        slot
    };
    if shared.queue.push(slot).is_ok() {
        if !shared.idle.notify() && shared.on_demand() {
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
) -> Result<Task<C::Value, C::Error>, (SubmitErrorKind, TaskName, C)> {
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
        self.wanted.label = Some(label.into());
        self
    }

    /// The task must have its outcome within `timeout` of the submit; waiting for room and in the queue counts.
    /// Rounded up to a millisecond. Replaces the pool's default timeout.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.wanted.timeout = Some(timeout);
        self
    }

    /// The task must have its outcome by `deadline`. With a timeout as well, the earlier holds.
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.wanted.deadline = Some(deadline);
        self
    }

    /// The pool's default timeout does not apply.
    pub fn no_deadline(mut self) -> Self {
        self.wanted.no_deadline = true;
        self
    }

    /// Cancels the task when `token` is cancelled; the token's deadline is the task's, if it is earlier.
    pub fn token(mut self, token: &CancellationToken) -> Self {
        self.wanted.token = Some(token.clone());
        self
    }

    /// A submit from a callback inherits neither the callback's token nor what is left of its deadline.
    pub fn detached(mut self) -> Self {
        self.wanted.detached = true;
        self
    }

    /// Waits for room for at most `timeout`; then the submit is refused with `submit_timed_out`.
    pub fn submit_timeout(mut self, timeout: Duration) -> Self {
        self.wanted.submit_timeout = Some(timeout);
        self
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

    /// As [`Pool::submit_async`](crate::Pool::submit_async).
    #[track_caller]
    pub fn submit_async<F, T, E>(&self, callback: F) -> SubmitFuture<F, T, E>
    where
        F: FnOnce(&crate::Context) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        SubmitFuture {
            plan: self.wanted.plan(self.pool.shared()),
            shared: self.pool.shared().clone(),
            slot: None,
            callback: Some(WithContext(callback, PhantomData)),
            place: None,
            watch: None,
            alarm: None,
            site: Location::caller(),
        }
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
        .map_err(|(kind, name, callback)| SubmitError::new(kind, name, callback.0))
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
        .map_err(|(kind, name, callback)| SubmitError::new(kind, name, callback.0))
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
    plan: Plan,
    callback: Option<WithContext<F, T, E>>,
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
    fn unwatch(&mut self) {
        self.alarm = None;
        if let (Some(token), Some(key)) = (&self.plan.token, self.watch.take()) {
            token.unwatch(key);
        }
    }

    fn refuse(&mut self, slot: NonNull<Slot>, kind: SubmitErrorKind) -> SubmitError<F> {
        self.slot = None;
        self.unwatch();
        self.shared.books.refused.fetch_add(1, Ordering::Relaxed);
        // SAFETY: refused: both references are still ours, and so is the callback.
        let callback = unsafe { undo::<WithContext<F, T, E>>(slot) };
        SubmitError::new(kind, self.plan.name::<F>(self.site), callback.0)
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
        let slot = match (this.slot, this.callback.take()) {
            (Some(slot), _) => slot,
            (None, Some(callback)) => {
                let slot = this.plan.slot(&this.shared, callback, this.site);
                let wait = this.shared.config.overflow == Overflow::Block;
                match place(&this.shared, slot, &this.plan, Patience::Try) {
                    Ok(()) => return Poll::Ready(Ok(this.accepted(slot))),
                    Err(SubmitErrorKind::QueueFull) if wait => {}
                    Err(kind) => return Poll::Ready(Err(this.refuse(slot, kind))),
                }
                this.slot = Some(slot);
                slot
            }
            (None, None) => panic!("duly: a submit future was polled after it had completed"),
        };
        // The watches first, the place second: what comes between wakes us.
        this.unwatch();
        if let Some(token) = &this.plan.token {
            this.watch = token.watch(Watcher::Waker(cx.waker().clone())).ok();
        }
        let until = this.plan.room_until.min(this.plan.due);
        this.alarm = Alarm::at(until, cx.waker());
        let place = match this.place {
            Some(place) => {
                this.shared.queue.update_line(place, cx.waker());
                place
            }
            None => match this.shared.queue.join_line(InLine::Waker(Arc::new(cx.waker().clone()))) {
                Some(place) => *this.place.insert(place),
                None => return Poll::Ready(Err(this.refuse(slot, SubmitErrorKind::QueueFull))),
            },
        };
        let over = if let Some(kind) = this.plan.over() {
            Some(kind)
        } else if until != NEVER && clock::now() >= until {
            Some(late(&this.plan))
        } else {
            None
        };
        if let Some(kind) = over {
            this.place = None;
            this.shared.queue.leave_line(place);
            return Poll::Ready(Err(this.refuse(slot, kind)));
        }
        match this.shared.queue.push_in_line(place, slot) {
            Ok(()) => {
                this.place = None;
                placed(&this.shared, &[slot], &this.plan);
                Poll::Ready(Ok(this.accepted(slot)))
            }
            Err(NoPush::Closed) => {
                this.place = None;
                Poll::Ready(Err(this.refuse(slot, SubmitErrorKind::ShutDown)))
            }
            Err(NoPush::Full) => Poll::Pending,
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
        self.unwatch();
        if let Some(place) = self.place.take() {
            self.shared.queue.leave_line(place);
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
            .field("task", &self.plan.name::<F>(self.site))
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
