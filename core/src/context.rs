//! What a running callback sees of its task.

use crate::cancel::CancellationToken;
use crate::clock::{self, NEVER, NO_MILLIS};
use crate::error::Interrupted;
use crate::fork;
use crate::name::TaskName;
use crate::registry::Record;
use crate::shared::{Shared, own_token};
use crate::slot::{Event, SlotRef, Waiter};
use crate::sync::{Arc, AtomicBool, Ordering, global, local};
use crate::worker::Worker;
use std::cell::Cell;
use std::fmt;
use std::mem::ManuallyDrop;
use std::time::{Duration, Instant};

/// Handed to the callback of [`Pool::submit`](crate::Pool::submit): whether to go on, and for how long.
///
/// A task that is cancelled, or whose deadline passes, has its outcome at once; its callback is asked to stop
/// through this. A callback that goes on anyway runs to its end, and its value is dropped.
///
/// ```
/// # let pool = duly::Pool::builder().workers(1).build()?;
/// let task = pool.submit(|ctx| {
///     for _ in 0..1000 {
///         ctx.check()?; // Err when cancelled or late
///         // … a slice of the work
///     }
///     Ok::<_, duly::Interrupted>("done")
/// })?;
/// assert_eq!(task.wait()?, "done");
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub struct Context {
    task: SlotRef,
    shared: Arc<Shared>,
    /// Who runs the callback.
    record: *const Record,
    /// The one of the callback inside which this one runs, on the same stack.
    outer: *const Context,
}

// SAFETY: `record` and `outer` are looked at on the thread of the callback only (`stack`).
unsafe impl Sync for Context {}
// SAFETY: as above.
unsafe impl Send for Context {}

impl Context {
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    #[inline(always)]
    pub(crate) fn task(&self) -> &SlotRef {
        &self.task
    }

    /// Whether the task has its outcome already, so that nobody waits for this callback. (So it is in a child that the
    /// callback forks.)
    #[inline]
    pub fn is_cancelled(&self) -> bool {
        crate::slot::ended(self.task.look())
    }

    /// Whether the callback runs within [`Steps::take`](crate::Steps::take), and may hand its task out.
    pub fn by_steps(&self) -> bool {
        // SAFETY: whoever runs the callback has its record for as long.
        unsafe { &*self.record }.by_steps.load(Ordering::Relaxed)
    }

    /// Why the callback should stop, if it should.
    pub fn cause(&self) -> Option<Interrupted> {
        self.task.interrupted()
    }

    /// An error when the callback should stop; for use with `?`.
    pub fn check(&self) -> Result<(), Interrupted> {
        match self.cause() {
            Some(cause) => Err(cause),
            None => Ok(()),
        }
    }

    /// The task's deadline.
    pub fn deadline(&self) -> Option<Instant> {
        clock::instant(clock::of_millis(self.task.due()))
    }

    /// What is left until the deadline; `None` without one.
    pub fn time_left(&self) -> Option<Duration> {
        let due = self.task.due();
        (due != NO_MILLIS).then(|| clock::left(clock::of_millis(due)))
    }

    /// Runs `hook` when the task is cancelled, its deadline passes, or it is abandoned while the callback runs:
    /// to close a socket, or kill a child. It runs on a delivery thread, or here and now if that has happened.
    ///
    /// Dropping the guard unregisters it, unless it is running.
    pub fn on_cancel(&self, hook: impl FnOnce(&Interrupted) + Send + 'static) -> OnCancel {
        let key = match self.task.register(Waiter::OnCancel(Box::new(hook))) {
            Ok(key) => Some(key),
            Err(Waiter::OnCancel(hook)) => {
                if let Some(cause) = self.cause() {
                    hook(&cause);
                }
                None
            }
            Err(_) => None,
        };
        OnCancel {
            task: self.task.clone(),
            key,
        }
    }

    /// A token that is cancelled when this task is. What this callback submits stands under it.
    pub fn token(&self) -> CancellationToken {
        own_token(&self.task)
    }

    /// Sleeps, unless the callback should stop.
    pub fn sleep(&self, span: Duration) -> Result<(), Interrupted> {
        if self.task.wait(Event::Ended, clock::after(span)) {
            self.check()
        } else {
            Ok(())
        }
    }

    /// The task's label, and where it was submitted.
    pub fn name(&self) -> TaskName {
        self.task.name()
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("task", &self.name())
            .field("cause", &self.cause())
            .finish()
    }
}

/// A registered `on_cancel` hook: dropping it unregisters the hook.
pub struct OnCancel {
    task: SlotRef,
    key: Option<u64>,
}

impl OnCancel {
    /// Leaves the hook registered until the callback ends.
    pub fn forget(mut self) {
        self.key = None;
    }
}

impl Drop for OnCancel {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            drop(self.task.unregister(key));
        }
    }
}

impl fmt::Debug for OnCancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnCancel")
            .field("registered", &self.key.is_some())
            .finish_non_exhaustive()
    }
}

local! {
    /// The pool that this thread works or delivers for: its number plus one.
    static SERVES: Cell<u32> = Cell::new(0);
    /// The worker whose loop runs on this thread.
    static WORKER: Cell<*const Worker> = Cell::new(std::ptr::null());
    /// The context of the callback that runs on this thread.
    static CURRENT: Cell<*const Context> = Cell::new(std::ptr::null());
}

/// Runs `call` with a context for `task` as the thread's current one. Both are moved in and given back.
#[inline]
pub(crate) fn enter<R>(
    task: SlotRef,
    shared: &Arc<Shared>,
    record: &Record,
    call: impl FnOnce(&Context) -> R,
) -> (SlotRef, R) {
    // The context borrows the worker's reference to the pool: no reference counting a task.
    // SAFETY: the copy is never dropped (it stands in a ManuallyDrop), and `shared` outlives this call.
    let shared = unsafe { std::ptr::read(shared) };
    let outer = CURRENT.with(Cell::get);
    let context = ManuallyDrop::new(Context {
        task,
        shared,
        record,
        outer,
    });
    CURRENT.with(|current| current.set(&*context));
    let result = call(&context);
    CURRENT.with(|current| current.set(outer));
    // SAFETY: read once, out of a ManuallyDrop that is not used afterwards.
    (unsafe { std::ptr::read(&context.task) }, result)
}

/// A context that its maker keeps for longer than a call.
///
/// # Safety
/// The worker's reference to the pool and `record` outlive it.
pub(crate) unsafe fn lasting(task: SlotRef, shared: &Arc<Shared>, record: &Record) -> ManuallyDrop<Context> {
    // SAFETY: the copy is never dropped, and lives shorter, as the caller says.
    let shared = unsafe { std::ptr::read(shared) };
    ManuallyDrop::new(Context {
        task,
        shared,
        record,
        outer: std::ptr::null(),
    })
}

/// The reference to the task of a [`lasting`] context.
///
/// # Safety
/// The context is used no more.
pub(crate) unsafe fn end_lasting(context: &ManuallyDrop<Context>) -> SlotRef {
    // SAFETY: read once, as the caller says, out of what is never dropped.
    unsafe { std::ptr::read(&context.task) }
}

/// This thread is inside that callback from now on; null for none.
pub(crate) fn inside_of(context: *const Context) {
    CURRENT.with(|current| current.set(context));
}

global! {
    static WATCHED: AtomicBool = AtomicBool::new(false);
}

/// From now on, a task whose callback forks is ended in the child.
pub(crate) fn watch_forks() {
    unsafe extern "C" fn in_child() {
        settle_current();
    }
    fork::in_child_also(&WATCHED, in_child);
}

/// In a forked child: the task whose callback this thread is inside of is abandoned.
pub(crate) fn settle_current() {
    let current = CURRENT.try_with(Cell::get).unwrap_or(std::ptr::null());
    // SAFETY: set by `enter` on this thread for as long as the context lives.
    if let Some(context) = unsafe { current.as_ref() } {
        context.task.settle();
    }
}

/// What a submit inherits from the callback that makes it.
pub(crate) struct Inherited {
    pub(crate) token: CancellationToken,
    pub(crate) due: u64,
}

/// What the callback running on this thread passes on to what it submits. Nothing in a forked child, whose pools are no
/// business of the parent's task.
#[inline]
pub(crate) fn inherited() -> Option<Inherited> {
    let current = CURRENT.try_with(Cell::get).unwrap_or(std::ptr::null());
    // SAFETY: set by `enter` on this thread for as long as the context lives.
    let context = unsafe { current.as_ref() }.filter(|context| !context.shared.is_inherited())?;
    let due = context.task.due();
    Some(Inherited {
        token: own_token(&context.task),
        due: if due == NO_MILLIS { NEVER } else { clock::of_millis(due) },
    })
}

impl CancellationToken {
    /// The token that a submit here stands under if it names none: inside a callback that of its task, otherwise none.
    pub fn current() -> Option<CancellationToken> {
        inherited().map(|inherited| inherited.token)
    }
}

/// Whether a callback runs on this thread.
#[inline(always)]
pub(crate) fn inside_any() -> bool {
    CURRENT.try_with(|current| !current.get().is_null()).unwrap_or(false)
}

/// The tasks whose callbacks are on this thread's stack, the innermost first.
pub(crate) fn stack<R>(mut look: impl FnMut(&SlotRef, &Arc<Shared>, &Record) -> R) -> Vec<R> {
    let mut all = Vec::new();
    let mut current = CURRENT.try_with(Cell::get).unwrap_or(std::ptr::null());
    // SAFETY: set by `enter` on this thread for as long as the context lives, and the outer ones live longer.
    while let Some(context) = unsafe { current.as_ref() } {
        // In a forked child, what was inherited does not count.
        if !context.shared.is_inherited() {
            // SAFETY: whoever runs the callback has its record for as long.
            all.push(look(&context.task, &context.shared, unsafe { &*context.record }));
        }
        current = context.outer;
    }
    all
}

/// The worker that this thread is, if it is inside one of its callbacks; in a forked child it is none.
pub(crate) fn worker() -> Option<(Arc<Shared>, Arc<Record>)> {
    let worker = WORKER.try_with(Cell::get).unwrap_or(std::ptr::null());
    // SAFETY: set by `serve_as`, by the thread's loop, for as long as the worker lives.
    let worker = unsafe { worker.as_ref() }.filter(|worker| inside_any() && !worker.shared.is_inherited())?;
    Some((worker.shared.clone(), worker.record.clone()))
}

/// This thread is `worker` from now on; what it was before comes back.
pub(crate) fn serve_as(worker: *const Worker) -> *const Worker {
    WORKER.with(|own| own.replace(worker))
}

/// This thread works, or delivers, for a pool from now on; what it did before comes back.
pub(crate) fn serve(pool: u16) -> u32 {
    SERVES.with(|serves| serves.replace(u32::from(pool) + 1))
}

/// Undoes [`serve`].
pub(crate) fn serve_no_more(before: u32) {
    SERVES.with(|serves| serves.set(before));
}

/// Whether this thread works or delivers for this pool, or runs a callback of it: then it cannot wait for its end.
pub(crate) fn inside(shared: &Shared) -> bool {
    if SERVES.try_with(Cell::get).unwrap_or(0) == u32::from(shared.queue.number) + 1 {
        return true;
    }
    let current = CURRENT.try_with(Cell::get).unwrap_or(std::ptr::null());
    // SAFETY: set by `enter` on this thread for as long as the context lives.
    unsafe { current.as_ref() }.is_some_and(|context| std::ptr::eq(Arc::as_ptr(&context.shared), shared))
}

impl Shared {
    /// One more handle of the pool. A pool whose last handle was dropped stays closed.
    pub(crate) fn add_handle(&self) {
        self.handles.fetch_add(1, Ordering::Relaxed);
    }
}
