//! Many callbacks in one call: a task for each, few steps of the queue for all.
//!
//! Invariant: every callback ends up in exactly one of three places: an accepted task, the refusal's list, or, if the
//! caller's iterator panics, dropped with nothing left behind.

use crate::error::{Refused, SubmitErrorKind};
use crate::name::TaskName;
use crate::shared::Shared;
use crate::slot::{Slot, SlotRef};
use crate::submit::{Options, Patience, Wanted, place_some};
use crate::sync::{Arc, Ordering};
use crate::task::{Callback, Plain, Task, WithContext, undo};
use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;
use std::panic::Location;
use std::ptr::NonNull;

/// How many tasks are made before they are pushed together.
const TOGETHER: usize = 64;

/// A [`spawn_many`](crate::Pool::spawn_many) or [`submit_many`](crate::Pool::submit_many) that was cut short: what was
/// accepted by then, and what was not.
pub struct SubmitManyError<F, T, E> {
    refused: Box<Refused>,
    accepted: Vec<Task<T, E>>,
    callbacks: Exclusive<Vec<F>>,
}

/// Only ever moved or borrowed mutably, so that sharing it is harmless.
struct Exclusive<F>(F);

// SAFETY: a shared reference to this type gives no access to the value inside.
unsafe impl<F> Sync for Exclusive<F> {}

impl<F, T, E> SubmitManyError<F, T, E> {
    /// Why the first of the callbacks that come back was refused.
    pub fn kind(&self) -> SubmitErrorKind {
        self.refused.kind()
    }

    /// The task that was not made.
    pub fn name(&self) -> &TaskName {
        self.refused.name()
    }

    /// The handles of what was accepted, in the order of the callbacks. Those tasks are under way.
    pub fn accepted(&self) -> &[Task<T, E>] {
        &self.accepted
    }

    /// What was accepted, and the other callbacks, untouched, both in their order.
    pub fn into_parts(self) -> (Vec<Task<T, E>>, Vec<F>) {
        (self.accepted, self.callbacks.0)
    }
}

impl<F, T, E> fmt::Debug for SubmitManyError<F, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubmitManyError")
            .field("refused", &self.refused)
            .field("accepted", &self.accepted.len())
            .finish_non_exhaustive()
    }
}

impl<F, T, E> fmt::Display for SubmitManyError<F, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {} of many, {}", self.accepted.len(), self.refused)
    }
}

impl<F, T, E> std::error::Error for SubmitManyError<F, T, E> {}

/// Tasks that are in no queue yet: both references of each are here.
struct Unplaced<C: Callback> {
    slots: Vec<NonNull<Slot>>,
    callbacks: PhantomData<C>,
}

impl<C: Callback> Unplaced<C> {
    fn take_back(&mut self) -> impl Iterator<Item = C> {
        // SAFETY: never pushed: both references are here, and the callback is a `C`.
        self.slots.drain(..).map(|slot| unsafe { undo::<C>(slot) })
    }
}

impl<C: Callback> Drop for Unplaced<C> {
    fn drop(&mut self) {
        self.take_back().for_each(drop);
    }
}

/// What a refusal gives back: why, what was accepted, what was not.
type CutShort<C> = (
    Refused,
    Vec<Task<<C as Callback>::Value, <C as Callback>::Error>>,
    Vec<C>,
);

fn submit_many<C: Callback>(
    shared: &Arc<Shared>,
    wanted: &Wanted,
    callbacks: impl Iterator<Item = C>,
    site: &'static Location<'static>,
) -> Result<Vec<Task<C::Value, C::Error>>, CutShort<C>> {
    let terms = wanted.terms(shared);
    let plan = wanted.with(&terms);
    let mut callbacks = callbacks.fuse();
    let mut accepted = Vec::with_capacity(callbacks.size_hint().0);
    let mut next = Unplaced::<C> {
        slots: Vec::with_capacity(TOGETHER),
        callbacks: PhantomData,
    };
    loop {
        for callback in callbacks.by_ref().take(TOGETHER) {
            next.slots.push(plan.slot(shared, callback, shared.capture(), site));
        }
        if next.slots.is_empty() {
            return Ok(accepted);
        }
        while !next.slots.is_empty() {
            match place_some(shared, &next.slots, plan, Patience::Wait) {
                Ok(count) => accepted.extend(next.slots.drain(..count).map(|slot| {
                    // SAFETY: the handle's reference is ours, and the callback's types are these.
                    unsafe { Task::from_slot(SlotRef::from_raw(slot)) }
                })),
                Err(kind) => {
                    let mut refused: Vec<C> = next.take_back().collect();
                    refused.extend(callbacks);
                    shared.books.refused.fetch_add(refused.len() as u64, Ordering::Relaxed);
                    let why = plan.refused::<C::Written>(kind, site);
                    return Err((why, accepted, refused));
                }
            }
        }
    }
}

impl Options<'_> {
    /// [`spawn`](Self::spawn) for many callbacks: a task and a handle for each, in order, at a fraction of the cost of
    /// submitting them one by one.
    ///
    /// The options hold for each task; timeouts count from this call. Where the queue has no room for all, each of those
    /// left over meets the pool's overflow policy: under [`Overflow::Block`](crate::Overflow::Block) the call waits, as
    /// long as it takes, or until `submit_timeout`, the deadline, the token or a shutdown ends the wait. What was
    /// accepted by then stays accepted: the error has the handles, and gives back the callbacks that were not.
    ///
    /// The iterator must end: after a refusal, too, it is read to its end, for its callbacks come back. If it panics, what it
    /// gave before is accepted, and goes on without a handle, or is dropped.
    ///
    /// ```
    /// # let pool = duly::Pool::builder().workers(2).build()?;
    /// let tasks = pool.spawn_many((0..100).map(|n| move || n * n)).map_err(|error| error.to_string())?;
    /// let sum: i32 = tasks.iter().map(|task| task.wait().unwrap()).sum();
    /// assert_eq!(sum, 328_350);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn spawn_many<F, T>(
        &self,
        callbacks: impl IntoIterator<Item = F>,
    ) -> Result<Vec<Task<T>>, SubmitManyError<F, T, Infallible>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let callbacks = callbacks.into_iter().map(|callback| Plain(callback, PhantomData));
        submit_many(self.pool.shared(), &self.wanted, callbacks, Location::caller()).map_err(
            |(refused, accepted, callbacks)| SubmitManyError {
                refused: Box::new(refused),
                accepted,
                callbacks: Exclusive(callbacks.into_iter().map(|callback| callback.0).collect()),
            },
        )
    }

    /// [`submit`](Self::submit) for many callbacks: see [`spawn_many`](Self::spawn_many).
    #[track_caller]
    pub fn submit_many<F, T, E>(
        &self,
        callbacks: impl IntoIterator<Item = F>,
    ) -> Result<Vec<Task<T, E>>, SubmitManyError<F, T, E>>
    where
        F: FnOnce(&crate::Context) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let callbacks = callbacks.into_iter().map(|callback| WithContext(callback, PhantomData));
        submit_many(self.pool.shared(), &self.wanted, callbacks, Location::caller()).map_err(
            |(refused, accepted, callbacks)| SubmitManyError {
                refused: Box::new(refused),
                accepted,
                callbacks: Exclusive(callbacks.into_iter().map(|callback| callback.0).collect()),
            },
        )
    }
}
