//! Completion queues: where tasks are put when they have ended, for a loop that takes many in one call.
//!
//! Invariants (those of the list: see `places`):
//! 1. A task that was accepted with a completion queue has a place in it from then on: so to deliver it never waits, never
//!    fails, and is a step of whoever ended the task, like waking a thread. No user code runs there.
//! 2. A task is delivered once, after its outcome was published. A submit that is refused gives its place back.
//! 3. A queue that nobody can take from any more keeps nothing: what it held is dropped where the last handle is dropped, what
//!    ends later where user code may run.

mod bell;
mod places;

use crate::cancel::{CancellationToken, Watcher};
use crate::clock::{self, NEVER};
use crate::error::{CancelReason, Outcome, SubmitErrorKind, WaitError};
use crate::fork;
use crate::name::{Label, TaskName};
use crate::slot::{self, Place, Slot, SlotRef};
use crate::submit::{Options, Reserve};
use crate::sync::Arc;
use crate::task::Task;
use crate::waits;
use places::Places;
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

#[cfg(all(test, loom))]
pub(crate) use places::Places as ModelOfPlaces;

/// A task that has ended, as a completion queue gives it: one reference to it, and what its submit named it.
pub struct Completion<X> {
    /// What was given with the submit.
    pub tag: X,
    /// How the task ended.
    pub outcome: Outcome,
    task: SlotRef,
}

impl<X> Completion<X> {
    /// What the task is called in messages.
    pub fn name(&self) -> TaskName {
        self.task.name()
    }

    /// The task's handle, if its callback gives `Result<T, E>` (`E` is [`Infallible`](std::convert::Infallible) for those of
    /// [`spawn`](crate::Pool::spawn)); another type brings the completion back.
    ///
    /// Its outcome is there: [`wait`](Task::wait) takes the value and does not block.
    pub fn into_task<T: 'static, E: 'static>(self) -> Result<Task<T, E>, Self> {
        if !self.task.vtable().gives::<T, E>() {
            return Err(self);
        }
        // SAFETY: just looked: these are its types.
        Ok(unsafe { Task::from_slot(self.task) })
    }
}

impl<X: fmt::Debug> fmt::Debug for Completion<X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completion")
            .field("tag", &self.tag)
            .field("outcome", &self.outcome)
            .field("task", &self.name())
            .finish()
    }
}

struct Inner<X> {
    label: Label,
    /// The generation of the process that made it: in a forked child nothing comes, and nothing is touched.
    born: u32,
    places: Places<Completion<X>>,
}

impl<X> Inner<X> {
    fn is_inherited(&self) -> bool {
        self.born != fork::generation()
    }
}

/// Where tasks are put when they have ended, however they ended, each with the tag that was given with its submit: for event
/// loops, and for whoever wants many answers in one call.
///
/// * Tasks of any pool and any type; a task goes to the queue named by [`Options::completions`], once, however it ends.
/// * It is there as soon as the outcome is, but for an instant: whoever sees the outcome first may still find nothing here.
/// * A place is reserved at submit, so that delivering never waits for anybody. A submit that finds no free place is refused at
///   once, [`queue_full`](SubmitErrorKind::QueueFull), and the [error](crate::Refused::completions) names this queue. The place
///   is free again when the completion was taken.
/// * [`fd`](Self::fd) is readable exactly while completions wait: for poll, epoll, kqueue loops of others.
/// * Cheap to clone; every clone is the same queue. When the last one goes, completions that nobody took are dropped, and tasks
///   that end later are not kept. It cancels nothing.
///
/// All functions may be called from any thread; several may take at the same time. In a forked child an inherited queue is
/// empty for ever: waits are [`Cancelled`](WaitError::Cancelled) with reason `forked`, submits that name it `shut_down`.
///
/// ```
/// # let pool = duly::Pool::builder().workers(2).build()?;
/// use std::time::Duration;
/// let answers = duly::Completions::new(100);
/// for n in 0..10u64 {
///     pool.options().completions(&answers, n).spawn(move || n * n)?;
/// }
/// let (mut seen, mut sum) = (0, 0);
/// while seen < 10 {
///     for answer in answers.take(32, Duration::from_secs(5))? {
///         assert_eq!(answer.outcome, duly::Outcome::Succeeded);
///         let tag = answer.tag;
///         let task = answer.into_task::<u64, std::convert::Infallible>().expect("a task that gives a number");
///         assert_eq!(task.wait()?, tag * tag);
///         (seen, sum) = (seen + 1, sum + tag);
///     }
/// }
/// assert_eq!(sum, 45);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub struct Completions<X = u64>(Arc<Handle<X>>);

/// All clones of a queue's handle.
struct Handle<X>(Arc<Inner<X>>);

impl<X> Drop for Handle<X> {
    fn drop(&mut self) {
        if self.0.is_inherited() {
            fork::keep(&self.0);
            return;
        }
        for left in self.0.places.close() {
            slot::guard("the destructor of a completion that nobody took", || drop(left));
        }
    }
}

impl<X> Completions<X> {
    /// A queue with so many places: for so many tasks that are under way or wait to be taken. With 0 every submit that names it
    /// is refused.
    pub fn new(capacity: usize) -> Self {
        Self::with_label("completions", capacity)
    }

    /// [`new`](Self::new) with a name, for the messages of submits that find no place.
    pub fn with_label(label: impl Into<Label>, capacity: usize) -> Self {
        // Before the first fork that matters.
        fork::watch();
        Completions(Arc::new(Handle(Arc::new(Inner {
            label: label.into(),
            born: fork::generation(),
            places: Places::new(capacity),
        }))))
    }

    fn inner(&self) -> &Arc<Inner<X>> {
        &self.0.0
    }

    /// Takes what is there, at most `most`, the oldest first; blocks until something is, for at most `timeout`.
    ///
    /// `most` 0 takes nothing and returns at once. [`WaitError::TimedOut`]: nothing came. A zero timeout only looks. Inside a
    /// callback another thread stands in for the worker that waits.
    pub fn take(&self, most: usize, timeout: Duration) -> Result<Vec<Completion<X>>, WaitError> {
        self.take_until(most, None, Some(timeout))
    }

    /// [`take`](Self::take), until `token` is cancelled, too: then [`WaitError::Cancelled`].
    pub fn take_with(
        &self,
        most: usize,
        token: &CancellationToken,
        timeout: Option<Duration>,
    ) -> Result<Vec<Completion<X>>, WaitError> {
        self.take_until(most, Some(token), timeout)
    }

    fn take_until(
        &self,
        most: usize,
        token: Option<&CancellationToken>,
        timeout: Option<Duration>,
    ) -> Result<Vec<Completion<X>>, WaitError> {
        let inner = self.inner();
        if inner.is_inherited() {
            return Err(WaitError::Cancelled(CancelReason::Forked));
        }
        let mut taken = inner.places.take_now(most);
        let late = || WaitError::TimedOut(timeout.unwrap_or_default());
        if taken.is_empty() && most > 0 {
            if timeout.is_some_and(|timeout| timeout.is_zero()) {
                return Err(late());
            }
            let until = timeout.map_or(NEVER, clock::after);
            let parker = crate::sync::parker();
            let watch = token.map(|token| (token, token.watch(Watcher::Thread(parker.clone()))));
            let wake_at = token.map_or(until, |token| until.min(token.deadline_nanos()));
            let told = || token.and_then(CancellationToken::reason);
            let answer = waits::away(|| inner.places.take(most, wake_at, &parker, told));
            if let Some((token, Ok(key))) = watch {
                token.unwatch(key);
            }
            taken = match answer {
                Some(Ok(taken)) => taken,
                Some(Err(reason)) => return Err(WaitError::Cancelled(reason)),
                // A token's deadline may have come just now.
                None => return Err(told().map_or_else(late, WaitError::Cancelled)),
            };
        }
        for completion in &taken {
            completion.task.observe(completion.task.load());
        }
        Ok(taken)
    }

    /// A descriptor that is readable exactly while completions wait to be taken: for poll, epoll and the like, level- or
    /// edge-triggered. Nobody but this queue may read or write it.
    ///
    /// It is this queue's: made when first asked for, closed with the last handle, and in programs that the process executes.
    /// One system call when the first completion comes, and one when the last is taken, not one a task. Errors: no descriptor
    /// is left, the system has no `eventfd`, or the queue was inherited by a forked child.
    pub fn fd(&self) -> io::Result<BorrowedFd<'_>> {
        if self.inner().is_inherited() {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "the completion queue was inherited from the parent process: make a new one",
            ));
        }
        let fd = self.inner().places.fd()?;
        // SAFETY: open until the last handle goes, and this one is borrowed.
        Ok(unsafe { BorrowedFd::borrow_raw(fd) })
    }

    /// How many places there are.
    pub fn capacity(&self) -> usize {
        self.inner().places.capacity()
    }

    /// How many places are free: neither a task's that is under way nor a completion's that was not taken.
    pub fn free(&self) -> usize {
        self.inner().places.free()
    }

    /// How many completions wait to be taken. In a forked child, none of an inherited queue.
    pub fn len(&self) -> usize {
        if self.inner().is_inherited() {
            return 0;
        }
        self.inner().places.waiting()
    }

    /// Whether none waits to be taken.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<X> Clone for Completions<X> {
    fn clone(&self) -> Self {
        Completions(self.0.clone())
    }
}

impl<X> fmt::Debug for Completions<X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completions")
            .field("label", &self.inner().label)
            .field("capacity", &self.capacity())
            .field("free", &self.free())
            .finish()
    }
}

impl Options<'_> {
    /// Puts the task into `queue` when it has ended, with this tag: see [`Completions`]. A place is reserved by the submit; if
    /// none is free, the submit is refused at once with [`queue_full`](SubmitErrorKind::QueueFull), whatever the overflow
    /// policy.
    ///
    /// Each task that is submitted with these options takes a place and has a clone of the tag.
    pub fn completions<X>(mut self, queue: &Completions<X>, tag: X) -> Self
    where
        X: Clone + Send + Sync + 'static,
    {
        let queue = queue.clone();
        self.wanted.completions = Some(Arc::new(Box::new(Aim { queue, tag })));
        self
    }
}

/// A queue and a tag, as options hold them.
struct Aim<X> {
    queue: Completions<X>,
    tag: X,
}

impl<X: Clone + Send + Sync + 'static> Reserve for Aim<X> {
    fn reserve(&self) -> Result<Box<dyn Place>, SubmitErrorKind> {
        let inner = self.queue.inner();
        if inner.is_inherited() {
            return Err(SubmitErrorKind::ShutDown);
        }
        // User code, and it may panic: before the place is taken.
        let tag = self.tag.clone();
        if !inner.places.reserve() {
            return Err(SubmitErrorKind::QueueFull);
        }
        Ok(Box::new(Reserved {
            inner: inner.clone(),
            tag: Some(tag),
        }))
    }

    fn name(&self) -> &str {
        self.queue.inner().label.as_str()
    }
}

/// The place of a task that is under way.
struct Reserved<X> {
    inner: Arc<Inner<X>>,
    /// `None`: delivered, and the place is the completion's.
    tag: Option<X>,
}

impl<X: Send + Sync + 'static> Place for Reserved<X> {
    fn deliver(mut self: Box<Self>, task: &Slot, outcome: Outcome) -> Result<(), Box<dyn Place>> {
        let Some(tag) = self.tag.take() else { return Ok(()) };
        let completion = Completion {
            tag,
            outcome,
            task: task.refer(),
        };
        match self.inner.places.put(completion) {
            Ok(()) => Ok(()),
            Err(nobody) => {
                self.tag = Some(nobody.tag);
                Err(self)
            }
        }
    }
}

impl<X> Drop for Reserved<X> {
    fn drop(&mut self) {
        if self.tag.is_some() {
            self.inner.places.give_back(1);
        }
    }
}
