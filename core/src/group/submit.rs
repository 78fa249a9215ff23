//! How a callback becomes a member: a place in the group first, then one in the pool's queue.
//!
//! Keeps true: a place is either a member's or given back; the time that a submit has counts from its call, the wait for
//! the place included; a wait for a place ends by timeout, deadline, token, cancellation of the group, and close.

use super::{Group, Inner};
use crate::alarm::Alarm;
use crate::block;
use crate::cancel::{CancellationToken, Watcher};
use crate::carry::Carried;
use crate::clock::{self, NEVER};
use crate::context::Context;
use crate::error::{Refused, SubmitError, SubmitErrorKind};
use crate::name::{Label, TaskName};
use crate::shared::Shared;
use crate::slot;
use crate::submit::{Kept, Options, Patience, Plan, SubmitFuture, Wanted, late, submit_planned};
use crate::sync::{Arc, Ordering};
use crate::task::{Callback, Plain, Task, WithContext};
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::Location;
use std::pin::Pin;
use std::task::Poll;

/// A place in the group that is no member's yet. Dropping it gives it back.
struct Place<T: Send + 'static, E: Send + 'static> {
    group: Option<Arc<Inner<T, E>>>,
}

impl<T: Send + 'static, E: Send + 'static> Place<T, E> {
    fn accepted(mut self, task: &Task<T, E>) {
        if let Some(group) = self.group.take() {
            group.accepted(task);
        }
    }
}

impl<T: Send + 'static, E: Send + 'static> Drop for Place<T, E> {
    fn drop(&mut self) {
        if let Some(group) = &self.group {
            group.leave();
        }
    }
}

/// A wait for a place. Dropping it leaves the line.
struct Entering<T: Send + 'static, E: Send + 'static> {
    group: Arc<Inner<T, E>>,
    shared: Arc<Shared>,
    in_line: Option<u64>,
    watches: [Option<usize>; 2],
    alarm: Option<Alarm>,
}

impl<T: Send + 'static, E: Send + 'static> Entering<T, E> {
    fn new(group: &Arc<Inner<T, E>>, shared: &Arc<Shared>) -> Self {
        Entering {
            group: group.clone(),
            shared: shared.clone(),
            in_line: None,
            watches: [None, None],
            alarm: None,
        }
    }

    fn tokens(&self) -> [&CancellationToken; 2] {
        [&self.group.token, self.shared.closed()]
    }

    /// Takes a place, if it is this one's turn.
    fn try_enter(&mut self) -> Result<Option<Place<T, E>>, SubmitErrorKind> {
        let mut next = None;
        if self.shared.is_inherited() {
            return Err(SubmitErrorKind::ShutDown);
        }
        let entered = {
            let mut state = self.group.state.lock();
            if state.finished || state.failed {
                return Err(SubmitErrorKind::Cancelled);
            }
            let first = state.line.first_key_value().map(|(key, _)| *key);
            let entered = state.in_flight < self.group.limit && (first.is_none() || first == self.in_line);
            if entered {
                state.in_flight += 1;
                if let Some(key) = self.in_line.take() {
                    let ours = state.line.remove(&key);
                    next = Some((ours, state.head(self.group.limit)));
                }
            }
            entered
        };
        if let Some((ours, head)) = next {
            drop(ours);
            head.into_iter().for_each(slot::wake);
        }
        Ok(entered.then(|| Place {
            group: Some(self.group.clone()),
        }))
    }

    /// In a future, `alarms` wakes it when the time is up.
    fn poll(
        &mut self,
        plan: Plan<'_>,
        alarms: bool,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<Result<Place<T, E>, SubmitErrorKind>> {
        match self.try_enter() {
            Ok(None) => {}
            Ok(Some(place)) => {
                self.leave();
                return Poll::Ready(Ok(place));
            }
            Err(kind) => {
                self.leave();
                return Poll::Ready(Err(kind));
            }
        }
        // The watches first, then the place in line, then the look: what comes between wakes us.
        self.unwatch();
        let watches = self
            .tokens()
            .map(|token| token.watch(Watcher::Waker(cx.waker().clone())).ok());
        self.watches = watches;
        let until = plan.room_until.min(plan.due);
        if alarms {
            self.alarm = Alarm::at(until, cx.waker());
        }
        let waker = cx.waker().clone();
        let before = {
            let mut state = self.group.state.lock();
            let key = match self.in_line {
                Some(key) => key,
                None => state.next_key(),
            };
            self.in_line = Some(key);
            state.line.insert(key, Some(waker))
        };
        drop(before);
        let over = if let Some(kind) = plan.over() {
            Some(kind)
        } else if self.shared.queue.is_closed() {
            Some(SubmitErrorKind::ShutDown)
        } else if until != NEVER && clock::now() >= until {
            Some(late(plan))
        } else {
            None
        };
        if let Some(kind) = over {
            self.leave();
            return Poll::Ready(Err(kind));
        }
        match self.try_enter() {
            Ok(None) => Poll::Pending,
            answer => {
                self.leave();
                Poll::Ready(answer.and_then(|place| place.ok_or(SubmitErrorKind::QueueFull)))
            }
        }
    }

    fn unwatch(&mut self) {
        self.alarm = None;
        let keys = std::mem::take(&mut self.watches);
        for (token, key) in self.tokens().into_iter().zip(keys) {
            if let Some(key) = key {
                token.unwatch(key);
            }
        }
    }

    fn leave(&mut self) {
        self.unwatch();
        let Some(key) = self.in_line.take().filter(|_| !self.shared.is_inherited()) else {
            return;
        };
        let (ours, head) = {
            let mut state = self.group.state.lock();
            (state.line.remove(&key), state.head(self.group.limit))
        };
        drop(ours);
        head.into_iter().for_each(slot::wake);
    }
}

impl<T: Send + 'static, E: Send + 'static> Drop for Entering<T, E> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Submits members with options of their own: made by [`Group::with`].
#[derive(Clone)]
#[must_use = "options do nothing until a callback is submitted with them"]
pub struct Members<'g, T, E>
where
    T: Send + 'static,
    E: Send + 'static,
{
    group: &'g Arc<Inner<T, E>>,
    shared: &'g Arc<Shared>,
    wanted: Wanted,
}

impl<T, E> fmt::Debug for Members<'_, T, E>
where
    T: Send + 'static,
    E: Send + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Members")
            .field("group", &self.group.name)
            .finish_non_exhaustive()
    }
}

impl<T, E, const KEEP: bool> Group<T, E, KEEP>
where
    T: Send + 'static,
    E: Send + 'static,
{
    /// The same verbs with options of the member's own: label, timeout, queue, … Its token is the group's, whatever they
    /// say; it runs in the pool of these options.
    pub fn with<'g>(&'g self, options: &'g Options<'_>) -> Members<'g, T, E> {
        let mut wanted = options.wanted.clone();
        wanted.token = Some(self.inner.token.clone());
        Members {
            group: &self.inner,
            shared: options.pool.shared(),
            wanted,
        }
    }

    fn members(&self) -> Members<'_, T, E> {
        Members {
            group: &self.inner,
            shared: &self.inner.shared,
            wanted: self.inner.wanted.clone(),
        }
    }

    /// Submits a member. Blocks while as many as the limit allows are in flight, and then as [`Pool::submit`](crate::Pool::submit)
    /// does. The wait ends by the options' `submit_timeout`, by the deadline, and when the group is cancelled or the pool
    /// closed; the callback comes back with the error. A group that failed, was cancelled or has finished refuses with `cancelled`.
    ///
    /// The handle that comes back is another observer: errors go to the group, unless somebody takes them by a wait on it first.
    #[track_caller]
    pub fn submit<F>(&self, callback: F) -> Result<Task<T, E>, SubmitError<F>>
    where
        F: FnOnce(&Context) -> Result<T, E> + Send + 'static,
    {
        self.members().submit(callback)
    }

    /// [`submit`](Self::submit) that never waits: refused with `queue_full`, and the group's name, when as many as the limit
    /// allows are in flight.
    #[track_caller]
    pub fn try_submit<F>(&self, callback: F) -> Result<Task<T, E>, SubmitError<F>>
    where
        F: FnOnce(&Context) -> Result<T, E> + Send + 'static,
    {
        self.members().try_submit(callback)
    }

    /// [`submit`](Self::submit) without holding a thread. Dropping the future before it completes submits nothing.
    #[track_caller]
    pub fn submit_async<F>(&self, callback: F) -> GroupSubmit<F, T, E>
    where
        F: FnOnce(&Context) -> Result<T, E> + Send + 'static,
    {
        self.members().submit_async(callback)
    }
}

impl<T, const KEEP: bool> Group<T, Infallible, KEEP>
where
    T: Send + 'static,
{
    /// [`submit`](Self::submit) of a callback that cannot fail and does not look at its context.
    #[track_caller]
    pub fn spawn<F>(&self, callback: F) -> Result<Task<T>, SubmitError<F>>
    where
        F: FnOnce() -> T + Send + 'static,
    {
        let callback = Plain(callback, PhantomData);
        self.members()
            .now(callback, Patience::Wait, Location::caller())
            .map_err(|(refused, callback)| SubmitError::new(refused, callback.0))
    }
}

impl<T, E> Members<'_, T, E>
where
    T: Send + 'static,
    E: Send + 'static,
{
    /// As [`Group::submit`].
    #[track_caller]
    pub fn submit<F>(&self, callback: F) -> Result<Task<T, E>, SubmitError<F>>
    where
        F: FnOnce(&Context) -> Result<T, E> + Send + 'static,
    {
        self.now(WithContext(callback, PhantomData), Patience::Wait, Location::caller())
            .map_err(|(refused, callback)| SubmitError::new(refused, callback.0))
    }

    /// As [`Group::try_submit`].
    #[track_caller]
    pub fn try_submit<F>(&self, callback: F) -> Result<Task<T, E>, SubmitError<F>>
    where
        F: FnOnce(&Context) -> Result<T, E> + Send + 'static,
    {
        self.now(WithContext(callback, PhantomData), Patience::Try, Location::caller())
            .map_err(|(refused, callback)| SubmitError::new(refused, callback.0))
    }

    /// As [`Group::submit_async`].
    #[track_caller]
    pub fn submit_async<F>(&self, callback: F) -> GroupSubmit<F, T, E>
    where
        F: FnOnce(&Context) -> Result<T, E> + Send + 'static,
    {
        GroupSubmit {
            step: Step::Entering(callback, self.wanted.keep(self.shared), self.shared.capture()),
            entering: Entering::new(self.group, self.shared),
            site: Location::caller(),
        }
    }

    fn now<C: Callback<Value = T, Error = E>>(
        &self,
        callback: C,
        patience: Patience,
        site: &'static Location<'static>,
    ) -> Result<Task<T, E>, (Refused, C)> {
        if self.shared.is_inherited() {
            // In a forked child nothing inherited may be locked.
            let name = TaskName::new(
                self.wanted.label.clone(),
                std::any::type_name::<C::Written>(),
                Some(site),
            );
            return Err((Refused::new(SubmitErrorKind::ShutDown, name), callback));
        }
        let terms = self.wanted.terms(self.shared);
        let plan = self.wanted.with(&terms);
        let mut entering = Entering::new(self.group, self.shared);
        let place = match entering.try_enter() {
            Ok(None) if patience == Patience::Wait => {
                let until = plan.room_until.min(plan.due);
                let enter =
                    |entering: &mut Entering<T, E>, cx: &mut std::task::Context<'_>| entering.poll(plan, false, cx);
                match block::drive(until, &mut entering, enter, |entering| entering.group.awaited()) {
                    Ok(Some(place)) => place,
                    Ok(None) => Err(late(plan)),
                    Err(deadlock) => {
                        plan.deadlock.set(Some(deadlock));
                        Err(SubmitErrorKind::WouldDeadlock)
                    }
                }
            }
            Ok(None) => Err(SubmitErrorKind::QueueFull),
            Ok(Some(place)) => Ok(place),
            Err(kind) => Err(kind),
        };
        drop(entering);
        match place {
            Ok(place) => {
                let task = submit_planned(self.shared, plan, callback, self.shared.capture(), patience, site)?;
                place.accepted(&task);
                Ok(task)
            }
            Err(kind) => {
                self.shared.books.refused.fetch_add(1, Ordering::Relaxed);
                let name = refused_name(self.group, kind, plan, site, std::any::type_name::<C::Written>());
                Err((Refused::new(kind, name).because(plan.deadlock.take()), callback))
            }
        }
    }
}

/// What a refused member is called: it tells of the group, where that has no place.
fn refused_name<T, E>(
    group: &Inner<T, E>,
    kind: SubmitErrorKind,
    plan: Plan<'_>,
    site: &'static Location<'static>,
    callback: &'static str,
) -> TaskName {
    let label = match kind {
        SubmitErrorKind::QueueFull | SubmitErrorKind::SubmitTimedOut | SubmitErrorKind::DeadlineExceeded => {
            let own = plan.label().map(Label::as_str).filter(|label| !label.is_empty());
            let name = own.unwrap_or("a member");
            let label = Label::from(format!(
                "{name} of group {}, which has {} in flight",
                group.name, group.limit
            ));
            Label::at(Some(label), plan.label().and_then(Label::place))
        }
        _ => plan.label().cloned(),
    };
    TaskName::new(label, callback, Some(site))
}

/// Future of [`Group::submit_async`].
#[must_use = "futures do nothing unless polled"]
pub struct GroupSubmit<F, T, E>
where
    F: FnOnce(&Context) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    entering: Entering<T, E>,
    step: Step<F, T, E>,
    site: &'static Location<'static>,
}

enum Step<F, T, E>
where
    F: FnOnce(&Context) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    Entering(F, Kept, Option<Box<dyn Carried>>),
    Submitting(SubmitFuture<F, T, E>, Place<T, E>),
    Done,
}

impl<F, T, E> Unpin for GroupSubmit<F, T, E>
where
    F: FnOnce(&Context) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
}

impl<F, T, E> Future for GroupSubmit<F, T, E>
where
    F: FnOnce(&Context) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    type Output = Result<Task<T, E>, SubmitError<F>>;

    fn poll(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            match std::mem::replace(&mut this.step, Step::Done) {
                Step::Entering(callback, kept, carried) => match this.entering.poll(kept.plan(), true, cx) {
                    Poll::Pending => {
                        this.step = Step::Entering(callback, kept, carried);
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok(place)) => {
                        let submit = SubmitFuture::planned(&this.entering.shared, kept, callback, carried, this.site);
                        this.step = Step::Submitting(submit, place);
                    }
                    Poll::Ready(Err(kind)) => {
                        this.entering.shared.books.refused.fetch_add(1, Ordering::Relaxed);
                        let name = refused_name(
                            &this.entering.group,
                            kind,
                            kept.plan(),
                            this.site,
                            std::any::type_name::<F>(),
                        );
                        return Poll::Ready(Err(SubmitError::new(Refused::new(kind, name), callback)));
                    }
                },
                Step::Submitting(mut submit, place) => match Pin::new(&mut submit).poll(cx) {
                    Poll::Pending => {
                        this.step = Step::Submitting(submit, place);
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok(task)) => {
                        place.accepted(&task);
                        return Poll::Ready(Ok(task));
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                },
                Step::Done => panic!("duly: a submit future was polled after it had completed"),
            }
        }
    }
}

impl<F, T, E> fmt::Debug for GroupSubmit<F, T, E>
where
    F: FnOnce(&Context) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupSubmit")
            .field("group", &self.entering.group.name)
            .finish_non_exhaustive()
    }
}
