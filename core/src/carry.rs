//! Context that crosses submit: captured where a task is submitted, entered where its callback runs.
//!
//! A pool with carriers wraps each callback together with what was captured for it; one without them wraps nothing, so
//! that this costs nothing where it is not used.
//!
//! Invariants:
//! 1. What was captured lives and dies with the callback's own captured data (P6): it stands beside it in the payload.
//! 2. A context is entered and left on the thread that runs the callback, around the callback and around nothing else:
//!    it has been left before the task is answered.
//! 3. Hooks are user code: no lock is held, a panic is logged, and the callback runs with or without them (P7).

use crate::context::Context;
use crate::slot::guard;
use crate::sync::Arc;
use crate::task::Callback;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Carries something of the submitting thread (a span, a locale, a request's id) over to the callback: see
/// [`PoolBuilder::context`](crate::PoolBuilder::context).
///
/// [`capture`](Self::capture) is called once for each task, [`enter`](Self::enter) once for each callback that runs, on
/// the thread that runs it: a worker, or the submitter itself under [`Overflow::CallerRuns`](crate::Overflow). A panic of
/// either, or of the destructors, is logged, and the callback runs all the same.
///
/// ```
/// use std::cell::Cell;
/// thread_local!(static REQUEST: Cell<u32> = Cell::new(0));
///
/// struct RequestId;
/// impl duly::Carry for RequestId {
///     type Captured = u32;
///     type Entered = Restore;
///     fn capture(&self) -> Option<u32> {
///         Some(REQUEST.get())
///     }
///     fn enter(&self, captured: &u32) -> Restore {
///         Restore(REQUEST.replace(*captured))
///     }
/// }
/// struct Restore(u32);
/// impl Drop for Restore {
///     fn drop(&mut self) {
///         REQUEST.set(self.0);
///     }
/// }
///
/// let pool = duly::Pool::builder().workers(1).context(RequestId).build()?;
/// REQUEST.set(42);
/// assert_eq!(pool.spawn(|| REQUEST.get())?.wait()?, 42);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub trait Carry: Send + Sync + 'static {
    /// What is captured at submit. It is dropped with the captured data of the callback, also when that never runs.
    type Captured: Send + Sync + 'static;

    /// The context while it is entered: dropped on the same thread right after the callback has returned or panicked.
    type Entered;

    /// Called at submit, on the thread that submits. `None`: there is nothing to carry for this task.
    fn capture(&self) -> Option<Self::Captured>;

    /// Called before the callback, on the thread that runs it; dropping what it gives leaves the context.
    fn enter(&self, captured: &Self::Captured) -> Self::Entered;
}

/// What was captured for one task.
pub(crate) trait Carried: Send + Sync {
    /// Calls `callback`, which does not unwind, once, within the context.
    fn around(&self, callback: &mut dyn FnMut());
}

/// A [`Carry`] of any type.
pub(crate) trait Carrier: Send + Sync {
    fn capture(self: Arc<Self>) -> Option<Box<dyn Carried>>;
}

impl<C: Carry> Carrier for C {
    fn capture(self: Arc<Self>) -> Option<Box<dyn Carried>> {
        let mut captured = None;
        guard("a context's capture", || captured = Carry::capture(&*self));
        let captured = captured?;
        Some(Box::new(Held { carry: self, captured }))
    }
}

struct Held<C: Carry> {
    carry: Arc<C>,
    captured: C::Captured,
}

impl<C: Carry> Carried for Held<C> {
    fn around(&self, callback: &mut dyn FnMut()) {
        let mut entered = None;
        guard("a context's enter", || entered = Some(self.carry.enter(&self.captured)));
        callback();
        guard("the end of a context", || drop(entered));
    }
}

/// Two carriers: the first is entered first and left last.
struct Both(Arc<dyn Carrier>, Arc<dyn Carrier>);

impl Carrier for Both {
    fn capture(self: Arc<Self>) -> Option<Box<dyn Carried>> {
        match (self.0.clone().capture(), self.1.clone().capture()) {
            (Some(outer), Some(inner)) => Some(Box::new(BothHeld { outer, inner })),
            (one, other) => one.or(other),
        }
    }
}

struct BothHeld {
    outer: Box<dyn Carried>,
    inner: Box<dyn Carried>,
}

impl Carried for BothHeld {
    fn around(&self, callback: &mut dyn FnMut()) {
        self.outer.around(&mut || self.inner.around(callback));
    }
}

/// `carry` inside of what there is already.
pub(crate) fn stack(there: Option<Arc<dyn Carrier>>, carry: impl Carry) -> Arc<dyn Carrier> {
    let inner: Arc<dyn Carrier> = Arc::new(carry);
    match there {
        None => inner,
        Some(outer) => Arc::new(Both(outer, inner)),
    }
}

/// A callback with what was captured for it.
pub(crate) struct Carrying<C> {
    pub(crate) callback: C,
    pub(crate) carried: Box<dyn Carried>,
}

impl<C: Callback> Callback for Carrying<C> {
    type Value = C::Value;
    type Error = C::Error;
    type Written = C::Written;

    const CARRIES: bool = true;

    fn call(self, context: &Context) -> Result<C::Value, C::Error> {
        let Carrying { callback, carried } = self;
        let result = catch_unwind(AssertUnwindSafe(|| within(&*carried, || callback.call(context))));
        let_go(carried);
        result.unwrap_or_else(|panic| resume_unwind(panic))
    }
}

/// Calls `call` within a context. What it panics with goes on from here, when the context has been left.
pub(crate) fn within<R>(carried: &dyn Carried, call: impl FnOnce() -> R) -> R {
    let (mut call, mut result) = (Some(call), None);
    carried.around(&mut || {
        if let Some(call) = call.take() {
            result = Some(catch_unwind(AssertUnwindSafe(call)));
        }
    });
    match result {
        Some(Ok(result)) => result,
        Some(Err(panic)) => resume_unwind(panic),
        None => unreachable!("every context calls the callback"),
    }
}

/// Drops what was captured; its destructor is user code.
pub(crate) fn let_go(carried: Box<dyn Carried>) {
    guard("the destructor of a captured context", || drop(carried));
}
