//! A task's callback and value in its slot, and the caller's handle of it.
//!
//! Invariant: what the payload holds follows from the state (slot invariant 2): the callback while queued; the
//! value, the error, or the panic's message (a `Box<str>`) once ended by the worker, until it is taken.

use crate::cancel::{CancellationToken, Watcher};
use crate::carry::{self, Carrying};
use crate::clock::{self, NEVER};
use crate::context::Context;
use crate::end;
use crate::error::{CancelReason, Cancelled, Deadlock, Outcome, Panic, TaskError, WaitError};
use crate::name::TaskName;
use crate::slot::{self, Event, HandleRef, Payload, Slot, SlotRef, VTable, Waiter};
use crate::waits;
use std::any::{TypeId, type_name};
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::Poll;
use std::time::Duration;

// ---- the payload ----

/// Whether a value of this type stands in the payload itself; otherwise its box does.
pub(crate) const fn fits<V>() -> bool {
    size_of::<V>() <= size_of::<Payload>() && align_of::<V>() <= align_of::<Payload>()
}

/// Writes a value into the payload.
///
/// # Safety
/// The caller owns the payload, which holds nothing.
#[inline(always)]
pub(crate) unsafe fn put<V>(slot: &Slot, value: V) {
    if fits::<V>() {
        // SAFETY: it fits, and the payload is the caller's.
        slot.payload
            .with_mut(|payload| unsafe { payload.cast::<V>().write(value) });
    } else {
        let value = Box::into_raw(Box::new(value));
        // SAFETY: a pointer fits, and the payload is the caller's.
        slot.payload
            .with_mut(|payload| unsafe { payload.cast::<*mut V>().write(value) });
    }
}

/// Moves a value out of the payload.
///
/// # Safety
/// The caller owns the payload, which holds a `V` written by [`put`]; it holds nothing afterwards.
#[inline(always)]
pub(crate) unsafe fn get<V>(slot: &Slot) -> V {
    if fits::<V>() {
        // SAFETY: as the caller says.
        slot.payload.with_mut(|payload| unsafe { payload.cast::<V>().read() })
    } else {
        // SAFETY: as the caller says.
        let value = slot
            .payload
            .with_mut(|payload| unsafe { payload.cast::<*mut V>().read() });
        // SAFETY: the box was made by `put`.
        *unsafe { Box::from_raw(value) }
    }
}

/// A callback of one of the two kinds.
pub(crate) trait Callback: Sized + Send + 'static {
    type Value: Send + 'static;
    type Error: Send + 'static;
    /// The type that the user wrote: its name is the callback's.
    type Written: 'static;
    /// Whether this is another callback with a context around it: see `carry`.
    const CARRIES: bool = false;

    /// The table that its tasks have: one with an address of its own where somebody knows them by it (see `raw`).
    #[inline(always)]
    fn table() -> &'static VTable {
        Table::<Self>::TABLE
    }

    fn call(self, context: &Context) -> Result<Self::Value, Self::Error>;
}

/// `FnOnce() -> T`.
pub(crate) struct Plain<F, T>(pub(crate) F, pub(crate) PhantomData<fn() -> T>);

impl<F, T> Callback for Plain<F, T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    type Value = T;
    type Error = Infallible;
    type Written = F;

    #[inline(always)]
    fn call(self, _: &Context) -> Result<T, Infallible> {
        Ok((self.0)())
    }
}

/// `FnOnce(&Context) -> Result<T, E>`.
pub(crate) struct WithContext<F, T, E>(pub(crate) F, pub(crate) PhantomData<fn() -> (T, E)>);

impl<F, T, E> Callback for WithContext<F, T, E>
where
    F: FnOnce(&Context) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    type Value = T;
    type Error = E;
    type Written = F;

    #[inline(always)]
    fn call(self, context: &Context) -> Result<T, E> {
        (self.0)(context)
    }
}

/// The table of a callback's type.
pub(crate) struct Table<C>(PhantomData<C>);

impl<C: Callback> Table<C> {
    pub(crate) const TABLE: &'static VTable = &VTable {
        run: Self::run,
        drop_callback: Self::drop_callback,
        drop_value: Self::drop_value,
        needs_drop: std::mem::needs_drop::<C>() || !fits::<C>(),
        value_needs_drop: std::mem::needs_drop::<C::Value>() || !fits::<C::Value>(),
        bare: None,
        callback_name: type_name::<C::Written>,
        callback_type: TypeId::of::<C::Written>,
        gives: TypeId::of::<(C::Value, C::Error)>,
        carries: C::CARRIES,
    };

    /// # Safety
    /// As [`VTable::run`].
    unsafe fn run(slot: &Slot, context: *const ()) -> Outcome {
        // SAFETY: the worker owns the payload of the task it has started, and the callback is in it.
        let callback = unsafe { get::<C>(slot) };
        // SAFETY: the caller passes the context of this run.
        let context = unsafe { &*context.cast::<Context>() };
        let result = catch_unwind(AssertUnwindSafe(|| callback.call(context)));
        // SAFETY: the payload is the worker's, and empty since the callback was taken out.
        unsafe {
            match result {
                Ok(Ok(value)) => {
                    put(slot, value);
                    Outcome::Succeeded
                }
                Ok(Err(error)) => {
                    put(slot, error);
                    Outcome::Failed
                }
                Err(panic) => {
                    let message: Box<str> = slot::panic_message(&*panic).into();
                    slot::forget_panic(panic);
                    put(slot, message);
                    Outcome::Panicked
                }
            }
        }
    }

    /// # Safety
    /// As [`VTable::drop_callback`].
    unsafe fn drop_callback(slot: &Slot) {
        // SAFETY: the caller owns the callback, which is in the payload.
        drop(unsafe { get::<C>(slot) });
    }

    /// # Safety
    /// As [`VTable::drop_value`].
    unsafe fn drop_value(slot: &Slot, outcome: Outcome) {
        // SAFETY: the caller owns what this outcome left in the payload.
        unsafe {
            match outcome {
                Outcome::Succeeded => drop(get::<C::Value>(slot)),
                Outcome::Failed => drop(get::<C::Error>(slot)),
                Outcome::Panicked => drop(get::<Box<str>>(slot)),
                _ => {}
            }
        }
    }
}

// ---- the handle ----

/// The handle of an accepted task: a blocking handle and a future in one.
///
/// A task gets exactly one [`Outcome`], in time, whatever its callback, the workers or other waiters do. Cloning
/// makes another observer of the same task; the value moves to the first that takes it. Dropping a handle
/// cancels nothing: see [`cancel_on_drop`](Self::cancel_on_drop).
///
/// In a forked child, a task of the parent that had no outcome is `abandoned`: everything here answers at once.
///
/// All functions may be called from any thread. Only those whose documentation says so block.
pub struct Task<T, E = Infallible> {
    handle: HandleRef,
    value: PhantomData<fn() -> Result<T, E>>,
}

/// What a wait gives: the value, or why there is none.
pub type TaskResult<T, E = Infallible> = Result<T, TaskError<E>>;

impl<T, E> Task<T, E> {
    /// # Safety
    /// The slot's callback gives `Result<T, E>`.
    #[inline(always)]
    pub(crate) unsafe fn from_slot(slot: SlotRef) -> Self {
        Task {
            handle: HandleRef::new(slot),
            value: PhantomData,
        }
    }

    /// The reference that this handle holds, for a handle that nobody has polled.
    pub(crate) fn into_slot(self) -> SlotRef {
        ManuallyDrop::into_inner(ManuallyDrop::new(self).slot())
    }

    #[inline(always)]
    pub(crate) fn slot(&self) -> ManuallyDrop<SlotRef> {
        self.handle.slot()
    }

    /// Blocks until the task has its outcome, and takes the value.
    ///
    /// A task without deadline, token or shutdown takes as long as its callback does: give it a timeout at
    /// submit, or the pool a default one.
    ///
    /// Inside a callback, another thread stands in for the worker that waits, or the task is run here and now; a wait that
    /// nobody could end is refused with [`TaskError::WouldDeadlock`].
    #[inline]
    pub fn wait(&self) -> TaskResult<T, E> {
        match waits::wait(&self.slot(), Event::Ended, NEVER) {
            Ok(_) => self.take(),
            Err(deadlock) => Err(TaskError::WouldDeadlock(deadlock)),
        }
    }

    /// [`wait`](Self::wait) that takes nothing: how the task ended.
    pub fn join(&self) -> Result<Outcome, Box<Deadlock>> {
        waits::wait(&self.slot(), Event::Ended, NEVER)?;
        match self.outcome() {
            Some(outcome) => Ok(outcome),
            None => unreachable!("it has ended"),
        }
    }

    /// Blocks for at most `timeout`. `None`: the wait timed out; the task goes on.
    pub fn wait_timeout(&self, timeout: Duration) -> Option<TaskResult<T, E>> {
        self.wait_until_time(timeout).then(|| self.take())
    }

    /// Blocks for at most `timeout` until there is an outcome; takes nothing. `None`: the wait timed out.
    pub fn wait_outcome(&self, timeout: Duration) -> Option<Outcome> {
        if self.wait_until_time(timeout) {
            self.outcome()
        } else {
            None
        }
    }

    /// Who only looks needs nobody to stand in.
    fn wait_event(&self, event: Event, timeout: Duration) -> bool {
        let wait = || self.slot().wait(event, clock::after(timeout));
        if timeout.is_zero() { wait() } else { waits::away(wait) }
    }

    fn wait_until_time(&self, timeout: Duration) -> bool {
        slot::ended(self.slot().load()) || self.wait_event(Event::Ended, timeout)
    }

    /// Blocks until the task has its outcome, `token` is cancelled, or `timeout` has passed; the task goes on in
    /// the latter cases.
    pub fn wait_with(
        &self,
        token: &CancellationToken,
        timeout: Option<Duration>,
    ) -> Result<TaskResult<T, E>, WaitError> {
        let until = timeout.map_or(NEVER, clock::after);
        let parker = crate::sync::parker();
        let wake_at = until.min(token.deadline_nanos());
        let watch = token.watch(Watcher::Thread(parker.clone()));
        let key = self.slot().register(Waiter::Thread(Event::Ended, parker.clone()));
        let answer = waits::away(|| {
            loop {
                if slot::ended(self.slot().load()) {
                    break Ok(());
                }
                if let Some(reason) = token.reason() {
                    break Err(WaitError::Cancelled(reason));
                }
                if until != NEVER && clock::now() >= until {
                    break Err(WaitError::TimedOut(timeout.unwrap_or_default()));
                }
                if wake_at == NEVER {
                    parker.park();
                } else {
                    parker.park_until(wake_at);
                }
            }
        });
        if let Ok(key) = key {
            self.slot().unregister(key);
        }
        if let Ok(key) = watch {
            token.unwatch(key);
        }
        answer.map(|()| self.take())
    }

    /// How the task ended, if it has. Never blocks.
    #[inline]
    pub fn outcome(&self) -> Option<Outcome> {
        let word = self.slot().look();
        self.slot().observe(word);
        slot::outcome(word)
    }

    /// Cancels the task. True if this call decided its outcome; false if it had one.
    ///
    /// A queued task gives back its place at once. A running callback is told through its
    /// [`Context`]; the outcome does not wait for it. Never blocks.
    pub fn cancel(&self) -> bool {
        self.cancel_with(CancelReason::Requested)
    }

    /// [`cancel`](Self::cancel) with a reason.
    pub fn cancel_with(&self, reason: impl Into<CancelReason>) -> bool {
        end::end(&self.slot(), Outcome::Cancelled, Some(&reason.into()))
    }

    /// The same handle, cancelling the task when it is dropped before there is an outcome.
    pub fn cancel_on_drop(self) -> CancelOnDrop<T, E> {
        CancelOnDrop {
            task: Some(self),
            reason: CancelReason::Dropped,
        }
    }

    pub(crate) fn cancel_when_caller_leaves(self) -> CancelOnDrop<T, E> {
        CancelOnDrop {
            task: Some(self),
            reason: CancelReason::CallerLeft,
        }
    }

    /// Blocks for at most `timeout` until the callback has returned, or will never run, and all it captured
    /// is gone. False: the wait timed out.
    pub fn released(&self, timeout: Duration) -> bool {
        self.is_released() || self.wait_event(Event::Released, timeout)
    }

    /// Whether the callback and all it captured are gone.
    pub fn is_released(&self) -> bool {
        self.slot().look() & slot::RELEASED != 0
    }

    /// Calls `call` with the outcome: on the worker that ends the task, otherwise on a delivery thread; here and
    /// now if the task has ended. A panic of `call` is logged.
    pub fn on_complete(&self, call: impl FnOnce(Outcome) + Send + 'static) {
        if let Err(Waiter::Complete(call)) = self.slot().register(Waiter::Complete(Box::new(call)))
            && let Some(outcome) = self.outcome()
        {
            slot::guard("a completion callback", || call(outcome));
        }
    }

    /// What the task is called in messages.
    pub fn name(&self) -> TaskName {
        self.slot().name()
    }

    /// The answer of an ended task. The value moves out.
    #[inline]
    pub(crate) fn take(&self) -> TaskResult<T, E> {
        let word = self.slot().load();
        match slot::outcome(word) {
            Some(Outcome::Succeeded) if self.slot().take() => {
                // SAFETY: the value is in the payload, and we are its one taker.
                Ok(unsafe { get::<T>(&self.slot()) })
            }
            ended => Err(self.take_error(ended)),
        }
    }

    #[cold]
    fn take_error(&self, ended: Option<Outcome>) -> TaskError<E> {
        let name = self.slot().name();
        match ended {
            Some(Outcome::Failed) if self.slot().take() => {
                // SAFETY: the error is in the payload, and we are its one taker.
                TaskError::Failed(unsafe { get::<E>(&self.slot()) })
            }
            Some(Outcome::Panicked) if self.slot().take() => {
                // SAFETY: the message is in the payload, and we are its one taker.
                let message = unsafe { get::<Box<str>>(&self.slot()) };
                TaskError::Panicked(Panic { message, task: name })
            }
            Some(Outcome::Cancelled) => TaskError::Cancelled(Cancelled {
                reason: self.slot().reason(),
                task: name,
            }),
            Some(Outcome::DeadlineExceeded) => TaskError::DeadlineExceeded(name),
            Some(Outcome::Shed) => TaskError::Shed(name),
            Some(Outcome::Abandoned) => TaskError::Abandoned(name),
            Some(Outcome::Succeeded | Outcome::Failed | Outcome::Panicked) | None => TaskError::Taken(name),
        }
    }
}

impl<T, E> Future for Task<T, E> {
    type Output = TaskResult<T, E>;

    /// Completes with the answer, on any executor. Polled again after that: [`TaskError::Taken`].
    fn poll(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if !slot::ended(this.slot().load()) && this.handle.watch(cx.waker()) {
            return Poll::Pending;
        }
        Poll::Ready(this.take())
    }
}

impl<T, E> Clone for Task<T, E> {
    fn clone(&self) -> Self {
        Task {
            handle: HandleRef::new(self.slot().clone_for_handle()),
            value: PhantomData,
        }
    }
}

impl<T, E> fmt::Debug for Task<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("name", &self.name())
            .field("outcome", &slot::outcome(self.slot().look()))
            .finish()
    }
}

impl<T, E> Unpin for Task<T, E> {}

/// A handle that cancels its task when dropped: see [`Task::cancel_on_drop`]. Also a future.
pub struct CancelOnDrop<T, E = Infallible> {
    task: Option<Task<T, E>>,
    reason: CancelReason,
}

impl<T, E> CancelOnDrop<T, E> {
    /// The plain handle; nothing is cancelled.
    pub fn into_inner(self) -> Task<T, E> {
        let mut this = ManuallyDrop::new(self);
        match this.task.take() {
            Some(task) => task,
            None => unreachable!("only `drop` and this take the task"),
        }
    }
}

impl<T, E> std::ops::Deref for CancelOnDrop<T, E> {
    type Target = Task<T, E>;

    fn deref(&self) -> &Task<T, E> {
        match &self.task {
            Some(task) => task,
            None => unreachable!("only `drop` and `into_inner` take the task"),
        }
    }
}

impl<T, E> Drop for CancelOnDrop<T, E> {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.cancel_with(self.reason.clone());
        }
    }
}

impl<T, E> fmt::Debug for CancelOnDrop<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.task, f)
    }
}

impl<T, E> Future for CancelOnDrop<T, E> {
    type Output = TaskResult<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        match &mut self.get_mut().task {
            Some(task) => Pin::new(task).poll(cx),
            None => unreachable!("only `drop` and `into_inner` take the task"),
        }
    }
}

/// Undoes a slot whose push was refused: the callback comes back.
///
/// # Safety
/// The caller owns every reference of the slot, whose callback is a `C`.
pub(crate) unsafe fn undo<C: Callback>(slot: NonNull<Slot>) -> C {
    // SAFETY: as the caller says.
    unsafe {
        let callback = if slot.as_ref().vtable().carries {
            let Carrying { callback, carried } = get::<Carrying<C>>(slot.as_ref());
            carry::let_go(carried);
            callback
        } else {
            get::<C>(slot.as_ref())
        };
        SlotRef::discard(slot);
        callback
    }
}
