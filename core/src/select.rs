//! Waiting for several tasks: any of them, all of them, or one after the other as they complete.
//!
//! Invariants:
//! 1. Each task is watched by one waker of its own, which puts the task's number into the list of the ended, once: a
//!    completion costs the same however many tasks are watched, and nobody polls.
//! 2. A list wakes its waiter when as many have ended as it waits for, not before.
//! 3. Whoever leaves (answer, timeout, drop) takes its wakers out of every task that has not ended.
//!
//! Locks: the list's lock is a leaf; wakers are woken and dropped outside of it.

use crate::block::{self, Async, PollNext};
use crate::clock::{self, NEVER};
use crate::error::{Deadlock, WaitError};
use crate::fork;
use crate::name::TaskName;
use crate::slot::{self, Event, SlotRef, Waiter};
use crate::sync::{Arc, Mutex};
use crate::task::{CancelOnDrop, Task};
use crate::waits;
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::iter::FusedIterator;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

// ---- what tells that a task has ended ----

/// Has `waker` woken once when the task ends: at once if it has. The key takes it back.
pub(crate) fn watch(task: &SlotRef, waker: Waker) -> Option<u64> {
    if slot::ended(task.load()) {
        slot::wake(waker);
        return None;
    }
    match task.register(Waiter::Waker(Event::Ended, waker)) {
        Ok(key) => Some(key),
        Err(Waiter::Waker(_, waker)) => {
            slot::wake(waker);
            None
        }
        Err(_) => unreachable!("a waiter comes back as it went in"),
    }
}

/// The numbers of the tasks that have ended, in that order, and who waits for them.
pub(crate) struct Ended {
    /// The generation of the process that made it: in a forked child, where nobody ends anything any more, it gives nothing.
    born: u32,
    list: Mutex<List>,
}

struct List {
    ended: VecDeque<usize>,
    /// As many have to be there before the waiter is woken.
    enough: usize,
    waiter: Option<Waker>,
}

/// The waker of one task in a list.
struct Member {
    list: Arc<Ended>,
    number: usize,
}

impl Wake for Member {
    fn wake(self: Arc<Self>) {
        let waiter = {
            let mut list = self.list.list.lock();
            list.ended.push_back(self.number);
            if list.ended.len() >= list.enough {
                list.waiter.take()
            } else {
                None
            }
        };
        if let Some(waiter) = waiter {
            slot::wake(waiter);
        }
    }
}

impl Ended {
    pub(crate) fn new(enough: usize) -> Arc<Ended> {
        Arc::new(Ended {
            born: fork::generation(),
            list: Mutex::new(List {
                ended: VecDeque::new(),
                enough,
                waiter: None,
            }),
        })
    }

    /// Puts the number of the task here when it ends.
    pub(crate) fn watch(self: &Arc<Self>, task: &SlotRef, number: usize) -> Option<u64> {
        let list = self.clone();
        watch(task, Waker::from(Arc::new(Member { list, number })))
    }

    /// Whether this is a forked child, and the list its parent's.
    pub(crate) fn is_inherited(&self) -> bool {
        self.born != fork::generation()
    }

    /// Takes the first number; when there are not enough, `waker` is woken once there are.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        if self.is_inherited() {
            return Poll::Ready(None);
        }
        let waker = cx.waker().clone();
        let mut list = self.list.lock();
        if list.ended.len() >= list.enough {
            let first = list.ended.pop_front();
            drop(list);
            return Poll::Ready(first);
        }
        let before = list.waiter.replace(waker);
        drop(list);
        drop(before);
        Poll::Pending
    }
}

// ---- tasks of any type ----

/// A task's handle, whatever the type of its value: what [`wait_any`] and [`wait_all`] take.
///
/// Tasks, references to them and [`CancelOnDrop`]; a list of tasks of several types is a list of `&dyn AnyTask`.
#[expect(private_bounds, reason = "sealed: only handles of this crate are tasks")]
pub trait AnyTask: Slotted {}

trait Slotted {
    fn slot(&self) -> ManuallyDrop<SlotRef>;
}

impl<T, E> AnyTask for Task<T, E> {}
impl<T, E> Slotted for Task<T, E> {
    fn slot(&self) -> ManuallyDrop<SlotRef> {
        Task::slot(self)
    }
}

impl<T, E> AnyTask for CancelOnDrop<T, E> {}
impl<T, E> Slotted for CancelOnDrop<T, E> {
    fn slot(&self) -> ManuallyDrop<SlotRef> {
        Task::slot(self)
    }
}

impl<A: AnyTask + ?Sized> AnyTask for &A {}
impl<A: AnyTask + ?Sized> Slotted for &A {
    fn slot(&self) -> ManuallyDrop<SlotRef> {
        (**self).slot()
    }
}

impl<A: AnyTask + ?Sized> AnyTask for Box<A> {}
impl<A: AnyTask + ?Sized> Slotted for Box<A> {
    fn slot(&self) -> ManuallyDrop<SlotRef> {
        (**self).slot()
    }
}

/// Some tasks under watch.
struct Watched {
    tasks: Vec<(SlotRef, Option<u64>)>,
    ended: Arc<Ended>,
}

impl Watched {
    /// Until one has ended, or all have.
    fn new<I>(tasks: I, all: bool) -> Self
    where
        I: IntoIterator,
        I::Item: AnyTask,
    {
        let mut tasks: Vec<(SlotRef, Option<u64>)> =
            tasks.into_iter().map(|task| ((*task.slot()).clone(), None)).collect();
        let ended = Ended::new(if all { tasks.len() } else { 1 });
        for (number, (task, key)) in tasks.iter_mut().enumerate() {
            *key = ended.watch(task, number);
            if !all && key.is_none() {
                // One has ended: the others need not be watched.
                break;
            }
        }
        Watched { tasks, ended }
    }

    fn missing(&self, deadlock: Option<Box<Deadlock>>) -> NotEnded {
        let missing =
            |(number, (task, _)): (usize, &(SlotRef, _))| (!slot::ended(task.load())).then(|| (number, task.name()));
        NotEnded {
            missing: self.tasks.iter().enumerate().filter_map(missing).collect(),
            deadlock,
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        for (task, key) in &self.tasks {
            if let Some(key) = key {
                drop(task.unregister(*key));
            }
        }
    }
}

fn until(timeout: Option<Duration>) -> u64 {
    timeout.map_or(NEVER, clock::after)
}

/// Blocks until one of the tasks has its outcome: its place in the list, the first that ended. Takes no value.
///
/// An error: the wait timed out, there is no task, or, inside a callback, none could ever end. May be called from any thread.
///
/// ```
/// # let pool = duly::Pool::builder().workers(2).build()?;
/// use std::time::Duration;
/// let mirrors = [pool.spawn(|| "one")?, pool.spawn(|| "two")?];
/// let first = duly::wait_any(&mirrors, Some(Duration::from_secs(1)))?;
/// assert!(mirrors[first].outcome().is_some());
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn wait_any<I>(tasks: I, timeout: Option<Duration>) -> Result<usize, NotEnded>
where
    I: IntoIterator,
    I::Item: AnyTask,
{
    let until = until(timeout);
    let mut any = wait_any_async(tasks);
    let answer = block::drive(
        until,
        &mut any,
        |any, cx| Pin::new(any).poll(cx),
        |any| any.watched.tasks.iter().map(|(task, _)| task.clone()).collect(),
    );
    match answer {
        Ok(Some(Some(first))) => Ok(first),
        Ok(_) => Err(any.watched.missing(None)),
        Err(deadlock) => Err(any.watched.missing(Some(deadlock))),
    }
}

/// [`wait_any`] as a future. Dropping it leaves the tasks alone.
pub fn wait_any_async<I>(tasks: I) -> AnyEnded
where
    I: IntoIterator,
    I::Item: AnyTask,
{
    AnyEnded {
        watched: Watched::new(tasks, false),
    }
}

/// Future of [`wait_any_async`]: the place of the first task that ended; `None` if there is no task.
#[must_use = "futures do nothing unless polled"]
pub struct AnyEnded {
    watched: Watched,
}

impl Future for AnyEnded {
    type Output = Option<usize>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        if self.watched.tasks.is_empty() {
            return Poll::Ready(None);
        }
        self.watched.ended.poll(cx)
    }
}

/// Blocks until all the tasks have their outcome, or says which have not. Takes no value. May be called from any thread.
///
/// ```
/// # let pool = duly::Pool::builder().workers(2).build()?;
/// use std::time::Duration;
/// let tasks = [pool.spawn(|| 1)?, pool.spawn(|| 2)?];
/// duly::wait_all(&tasks, Some(Duration::from_secs(1)))?;
/// assert_eq!(tasks.map(|task| task.wait().unwrap()), [1, 2]);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn wait_all<I>(tasks: I, timeout: Option<Duration>) -> Result<(), NotEnded>
where
    I: IntoIterator,
    I::Item: AnyTask,
{
    let until = until(timeout);
    let tasks = tasks.into_iter().map(|task| ((*task.slot()).clone(), None)).collect();
    let ended = Ended::new(0);
    let watched = Watched { tasks, ended };
    // One after the other: the last to end is waited for in any order.
    for (task, _) in &watched.tasks {
        match waits::wait(task, Event::Ended, until) {
            Ok(true) => {}
            Ok(false) => break,
            Err(deadlock) => return Err(watched.missing(Some(deadlock))),
        }
    }
    match watched.missing(None) {
        missing if missing.missing.is_empty() => Ok(()),
        missing => Err(missing),
    }
}

/// [`wait_all`] as a future. Dropping it leaves the tasks alone.
pub fn wait_all_async<I>(tasks: I) -> AllEnded
where
    I: IntoIterator,
    I::Item: AnyTask,
{
    AllEnded {
        watched: Watched::new(tasks, true),
    }
}

/// Future of [`wait_all_async`].
#[must_use = "futures do nothing unless polled"]
pub struct AllEnded {
    watched: Watched,
}

impl Future for AllEnded {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.watched.ended.poll(cx).map(|_| ())
    }
}

/// Tasks were waited for that have no outcome yet; they go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotEnded {
    missing: Vec<(usize, TaskName)>,
    deadlock: Option<Box<Deadlock>>,
}

impl NotEnded {
    /// Those without an outcome: their places in the list, and their names.
    pub fn tasks(&self) -> &[(usize, TaskName)] {
        &self.missing
    }

    /// Who waits for whom, if the wait, made by a callback, could never have ended. Otherwise it timed out.
    pub fn deadlock(&self) -> Option<&Deadlock> {
        self.deadlock.as_deref()
    }
}

impl fmt::Display for NotEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.deadlock, &self.missing[..]) {
            (Some(deadlock), _) => deadlock.fmt(f),
            (None, []) => f.write_str("there is no task to wait for"),
            (None, [(_, first), ..]) => write!(
                f,
                "the wait timed out, and {} of the tasks have no outcome yet, the first of them {first}",
                self.missing.len()
            ),
        }
    }
}

impl std::error::Error for NotEnded {}

// ---- as completed ----

/// Gives the tasks back one after the other as they complete, each with its place in the list.
///
/// The iterator blocks in [`next`](Iterator::next) until the next task has its outcome;
/// [`next_timeout`](AsCompleted::next_timeout) gives up after a while; [`into_async`](AsCompleted::into_async) makes a
/// stream of it. Inside a callback, a `next` that could never end panics, naming who waits for whom. Leaving it early cancels nothing; to cancel what is left, drop [`CancelOnDrop`] handles or cancel a token.
///
/// ```
/// # let pool = duly::Pool::builder().workers(2).build()?;
/// let tasks = (0..4u64).map(|n| pool.spawn(move || n * n)).collect::<Result<Vec<_>, _>>()?;
/// for (place, task) in duly::as_completed(tasks) {
///     assert_eq!(task.wait()?, (place * place) as u64);
/// }
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn as_completed<T, E>(tasks: impl IntoIterator<Item = Task<T, E>>) -> AsCompleted<T, E> {
    let ended = Ended::new(1);
    let watched = |(number, task): (usize, Task<T, E>)| {
        let key = ended.watch(&task.slot(), number);
        Some((task, key))
    };
    let tasks: Vec<_> = tasks.into_iter().enumerate().map(watched).collect();
    AsCompleted {
        left: tasks.len(),
        tasks,
        ended,
    }
}

/// Tasks in order of completion: made by [`as_completed`].
#[must_use = "it waits for nothing until it is iterated"]
pub struct AsCompleted<T, E> {
    tasks: Vec<Option<(Task<T, E>, Option<u64>)>>,
    left: usize,
    ended: Arc<Ended>,
}

impl<T, E> AsCompleted<T, E> {
    /// The next one, waiting for at most `timeout`; `Ok(None)` at the end. A wait that timed out loses nothing.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<(usize, Task<T, E>)>, WaitError> {
        let until = clock::after(timeout);
        block::drive_until(until, self, |all, cx| all.poll_next(cx)).ok_or(WaitError::TimedOut(timeout))
    }

    /// The same as a stream.
    pub fn into_async(self) -> Async<Self> {
        Async(self)
    }
}

impl<T, E> PollNext for AsCompleted<T, E> {
    type Item = (usize, Task<T, E>);

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        // In a forked child they all have ended, if only by the fork.
        let inherited = self.ended.is_inherited();
        let first = || self.tasks.iter().position(Option::is_some);
        let number = if inherited {
            Poll::Ready(first())
        } else {
            self.ended.poll(cx)
        };
        number.map(|number| {
            let number = number?;
            let (task, _) = self.tasks[number].take()?;
            self.left -= 1;
            Some((number, task))
        })
    }

    fn hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<T, E> Iterator for AsCompleted<T, E> {
    type Item = (usize, Task<T, E>);

    fn next(&mut self) -> Option<Self::Item> {
        let left = |all: &Self| {
            all.tasks
                .iter()
                .flatten()
                .map(|(task, _)| (*task.slot()).clone())
                .collect()
        };
        block::drive_to_end(self, |all, cx| all.poll_next(cx), left)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.hint()
    }
}

impl<T, E> ExactSizeIterator for AsCompleted<T, E> {}
impl<T, E> FusedIterator for AsCompleted<T, E> {}

impl<T, E> Drop for AsCompleted<T, E> {
    fn drop(&mut self) {
        for (task, key) in self.tasks.iter().flatten() {
            if let Some(key) = key {
                drop(task.slot().unregister(*key));
            }
        }
    }
}

impl<T, E> fmt::Debug for AsCompleted<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsCompleted")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for AnyEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyEnded")
            .field("tasks", &self.watched.tasks.len())
            .finish()
    }
}

impl fmt::Debug for AllEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AllEnded")
            .field("tasks", &self.watched.tasks.len())
            .finish()
    }
}
