//! A function over a stream of items: each item is a task, and is pulled only when there is a place for it.
//!
//! Invariants:
//! 1. At most `window` items have been pulled and not been taken as an answer; nothing is pulled before the first answer is
//!    asked for. So memory is bounded by the window, whatever the input.
//! 2. Every item that was pulled is answered exactly once while the consumer stays: with its value, its task's error, or the
//!    refusal and the item.
//! 3. An item that finds the pool full is held, and goes first as soon as an answer was taken: nobody waits for room while
//!    answers are under way.
//! 4. When the consumer leaves, what is under way is cancelled and the input dropped.
//! 5. An input that panics has ended; the panic is its caller's.

mod error;
mod first_error;
mod line;
mod source;

pub use error::StreamError;
pub use first_error::FirstError;
pub use source::Items;
#[cfg(feature = "stream")]
pub use source::StreamItems;

use crate::block::{self, Async, PollNext};
use crate::clock::{self, NEVER};
use crate::context::Context;
use crate::error::{Deadlock, Refused, SubmitErrorKind, TaskError, WaitError};
use crate::name::TaskName;
use crate::pool::Pool;
use crate::select::Ended;
use crate::shared::Shared;
use crate::submit::{Options, Patience, SubmitFuture, Wanted, submit_now};
use crate::sync::{Arc, Mutex, Ordering};
use crate::task::Callback;
use line::{Line, Pulled};
use slab::Slab;
use source::Source;
use std::any::type_name;
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::panic::Location;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

/// The callback of an item's task.
struct Run<I, F, T, E> {
    item: I,
    function: Arc<F>,
    gives: PhantomData<fn() -> (T, E)>,
}

impl<I, F, T, E> Callback for Run<I, F, T, E>
where
    I: Send + 'static,
    F: Fn(&Context, I) -> Result<T, E> + Send + Sync + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    type Value = T;
    type Error = E;
    type Written = F;

    fn call(self, context: &Context) -> Result<T, E> {
        (self.function)(context, self.item)
    }
}

/// A callback that waits for room in a future; the item stands beside it, for a refusal to give it back.
type Boxed<T, E> = Box<dyn FnOnce(&Context) -> Result<T, E> + Send>;

struct Room<I, T: Send + 'static, E: Send + 'static> {
    index: usize,
    item: Arc<Mutex<Option<I>>>,
    submit: SubmitFuture<Boxed<T, E>, T, E>,
}

/// The answers of [`Pool::stream`], one for each item: an iterator, or with [`into_async`](Self::into_async) a stream.
///
/// Every item is a task, with the options' label, token and timeout. Input is pulled only while fewer than
/// [`window`](Self::window) items are under way or wait to be taken, so an infinite input does no harm, and nothing is pulled
/// before the first answer is asked for. Answers come in the order of the items, or, with [`ordered(false)`](Self::ordered),
/// as they complete. An error is its item's answer, and the others go on; [`first_error`](Self::first_error) ends the stream
/// with the first one instead. Items that the pool refuses come back with the refusal; a pool that is shut down refuses all
/// that are left.
///
/// Dropping it cancels what is under way, with reason `caller_left`, and drops the input.
///
/// The iterator blocks in [`next`](Iterator::next): in the input, then until the next answer is there, or there is room for an
/// item if none is under way. [`next_timeout`](Self::next_timeout) gives up after a while. A panic of the input goes to the
/// caller of `next`; the input then has ended, and items that were pulled are still answered.
///
/// Inside a callback another thread stands in for the worker that waits, or the item is run here and now; an item whose task
/// could never end is cancelled, and answered with [`TaskError::WouldDeadlock`].
///
/// For many small items [`Pool::map`] is quicker: its tasks are chunks of items.
///
/// ```
/// # let pool = duly::Pool::builder().workers(2).build()?;
/// let lengths: Result<Vec<usize>, _> = pool
///     .stream(["one", "three"], |ctx, word| {
///         ctx.check()?;
///         Ok::<_, duly::Interrupted>(word.len())
///     })
///     .collect();
/// assert_eq!(lengths?, [3, 5]);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a stream pulls and submits nothing until it is asked for an answer"]
pub struct TaskStream<S, F, T, E>
where
    S: Source,
    T: Send + 'static,
    E: Send + 'static,
{
    shared: Arc<Shared>,
    wanted: Wanted,
    site: &'static Location<'static>,
    function: Arc<F>,
    /// `None`: it has ended.
    input: Option<S>,
    pulled: usize,
    window: usize,
    line: Line<S::Item, T, E>,
    /// Was pulled, and found the pool full.
    held: Option<(usize, S::Item)>,
    /// Was pulled, and waits for room, while nothing else is under way.
    room: Option<Room<S::Item, T, E>>,
    /// Was given up, and has not been answered.
    dead: Option<(usize, Box<Deadlock>)>,
}

impl<S, F, T, E> TaskStream<S, F, T, E>
where
    S: Source,
    T: Send + 'static,
    E: Send + 'static,
{
    fn new(options: &Options<'_>, input: S, function: F, site: &'static Location<'static>) -> Self {
        let shared = options.pool.shared();
        TaskStream {
            wanted: options.wanted.clone(),
            site,
            function: Arc::new(function),
            input: Some(input),
            pulled: 0,
            window: 2 * shared.config.workers,
            line: Line::Ordered(VecDeque::new()),
            held: None,
            room: None,
            dead: None,
            shared: shared.clone(),
        }
    }

    /// At most so many items (0 is taken for 1) are under way or wait to be taken. Default: two a worker.
    pub fn window(mut self, items: usize) -> Self {
        self.window = items.max(1);
        self
    }

    /// Whether the answers come in the order of the items (the default), or as they complete. To be said before the first
    /// answer is asked for; later it changes nothing.
    pub fn ordered(mut self, yes: bool) -> Self {
        if self.pulled == 0 {
            self.line = if yes {
                Line::Ordered(VecDeque::new())
            } else {
                Line::Any {
                    tasks: Slab::new(),
                    ended: Ended::new(1),
                    refused: VecDeque::new(),
                }
            };
        }
        self
    }

    /// The values up to the first error, which is the last answer: then what is under way is cancelled and the input dropped.
    pub fn first_error(self) -> FirstError<Self> {
        FirstError { inner: Some(self) }
    }

    /// How many items have been pulled from the input so far.
    pub fn pulled(&self) -> usize {
        self.pulled
    }

    fn here(&self) -> usize {
        self.line.len() + usize::from(self.held.is_some()) + usize::from(self.room.is_some())
    }

    fn left(&self) -> (usize, Option<usize>) {
        let here = self.here();
        let (least, most) = self.input.as_ref().map_or((0, Some(0)), Source::hint);
        (here.saturating_add(least), most.and_then(|most| here.checked_add(most)))
    }
}

impl<S, F, T, E> TaskStream<S, F, T, E>
where
    S: Source,
    S::Item: Send + 'static,
    F: Fn(&Context, S::Item) -> Result<T, E> + Send + Sync + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    fn name(&self) -> TaskName {
        TaskName::new(self.wanted.label.clone(), type_name::<F>(), Some(self.site))
    }

    /// Pulls and submits up to the window.
    fn fill(&mut self, block: bool, cx: &mut std::task::Context<'_>) {
        while self.line.len() < self.window {
            if let Some(room) = &mut self.room {
                let pulled = match Pin::new(&mut room.submit).poll(cx) {
                    Poll::Pending => return,
                    Poll::Ready(Ok(task)) => Pulled::Accepted(task),
                    Poll::Ready(Err(error)) => {
                        let Some(item) = room.item.lock().take() else { return };
                        Pulled::Refused(Refused::new(error.kind(), self.name()), item)
                    }
                };
                if let Some(room) = self.room.take() {
                    self.line.push(room.index, pulled);
                }
                continue;
            }
            let Some((index, item)) = self.held.take().or_else(|| self.pull(cx)) else {
                return;
            };
            let run = Run {
                item,
                function: self.function.clone(),
                gives: PhantomData,
            };
            let alone = self.line.len() == 0;
            let patience = if block && alone {
                Patience::Wait
            } else {
                Patience::Quiet
            };
            let pulled = match submit_now(&self.shared, &self.wanted, run, patience, self.site) {
                Ok(task) => Pulled::Accepted(task),
                Err((refused, run)) if refused.kind() == SubmitErrorKind::QueueFull && !alone => {
                    self.held = Some((index, run.item));
                    return;
                }
                Err((refused, run)) if refused.kind() == SubmitErrorKind::QueueFull && !block => {
                    self.room = Some(self.wait_for_room(index, run.item));
                    continue;
                }
                Err((refused, run)) => {
                    if patience == Patience::Quiet {
                        self.shared.books.refused.fetch_add(1, Ordering::Relaxed);
                    }
                    Pulled::Refused(refused, run.item)
                }
            };
            self.line.push(index, pulled);
        }
    }

    fn pull(&mut self, cx: &mut std::task::Context<'_>) -> Option<(usize, S::Item)> {
        // Not there while it is asked: if it panics, it has ended.
        let mut input = self.input.take()?;
        match input.poll_pull(cx) {
            Poll::Ready(None) => None,
            Poll::Pending => {
                self.input = Some(input);
                None
            }
            Poll::Ready(Some(item)) => {
                self.input = Some(input);
                let index = self.pulled;
                self.pulled += 1;
                Some((index, item))
            }
        }
    }

    fn wait_for_room(&self, index: usize, item: S::Item) -> Room<S::Item, T, E> {
        let item = Arc::new(Mutex::new(Some(item)));
        let (taken, function) = (item.clone(), self.function.clone());
        let callback: Boxed<T, E> = Box::new(move |context| {
            let item = taken.lock().take();
            match item {
                Some(item) => function(context, item),
                None => unreachable!("the item of an accepted task is its callback's"),
            }
        });
        let kept = self.wanted.keep(&self.shared);
        let submit = SubmitFuture::planned(&self.shared, kept, callback, self.shared.capture(), self.site);
        Room { index, item, submit }
    }

    /// An item that was given up tells why.
    fn explain(&mut self, error: StreamError<S::Item, E>) -> StreamError<S::Item, E> {
        match (error, self.dead.take()) {
            (StreamError::Task { index, .. }, Some((dead, deadlock))) if index == dead => StreamError::Task {
                index,
                error: TaskError::WouldDeadlock(deadlock),
            },
            (error, dead) => {
                self.dead = dead;
                error
            }
        }
    }

    fn poll_answer(
        &mut self,
        block: bool,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<T, StreamError<S::Item, E>>>> {
        self.fill(block, cx);
        if self.line.len() > 0 {
            let answer = self.line.poll(cx);
            return answer.map(|answer| Some(answer.map_err(|error| self.explain(error))));
        }
        if self.here() == 0 && self.input.is_none() {
            return Poll::Ready(None);
        }
        Poll::Pending
    }
}

impl<S, F, T, E> PollNext for TaskStream<S, F, T, E>
where
    S: Source,
    S::Item: Send + 'static,
    F: Fn(&Context, S::Item) -> Result<T, E> + Send + Sync + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    type Item = Result<T, StreamError<S::Item, E>>;

    fn poll_next(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_answer(false, cx)
    }

    fn hint(&self) -> (usize, Option<usize>) {
        self.left()
    }
}

impl<I, F, T, E> TaskStream<Items<I>, F, T, E>
where
    I: Iterator,
    I::Item: Send + 'static,
    F: Fn(&Context, I::Item) -> Result<T, E> + Send + Sync + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    /// The next answer, waiting for at most `timeout` (and as long as the input takes); `Ok(None)` at the end. A wait that
    /// timed out loses nothing.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Result<T, StreamError<I::Item, E>>>, WaitError> {
        let until = clock::after(timeout);
        block::drive_until(until, self, |stream, cx| stream.poll_answer(false, cx)).ok_or(WaitError::TimedOut(timeout))
    }

    /// The same as a stream. Its input is still an iterator, asked on the thread that polls.
    pub fn into_async(self) -> Async<Self> {
        Async(self)
    }
}

impl<I, F, T, E> Iterator for TaskStream<Items<I>, F, T, E>
where
    I: Iterator,
    I::Item: Send + 'static,
    F: Fn(&Context, I::Item) -> Result<T, E> + Send + Sync + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    type Item = Result<T, StreamError<I::Item, E>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let next = |stream: &mut Self, cx: &mut std::task::Context<'_>| stream.poll_answer(true, cx);
            match block::drive(NEVER, self, next, |stream| stream.line.awaited()) {
                Ok(Some(answer)) => return answer,
                Ok(None) => unreachable!("there was no limit"),
                Err(deadlock) => self.dead = self.line.give_up().map(|index| (index, deadlock)),
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.left()
    }
}

impl<I, F, T, E> ExactSizeIterator for TaskStream<Items<I>, F, T, E>
where
    I: ExactSizeIterator,
    I::Item: Send + 'static,
    F: Fn(&Context, I::Item) -> Result<T, E> + Send + Sync + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
}

impl<I, F, T, E> FusedIterator for TaskStream<Items<I>, F, T, E>
where
    I: Iterator,
    I::Item: Send + 'static,
    F: Fn(&Context, I::Item) -> Result<T, E> + Send + Sync + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
}

impl<S, F, T, E> Unpin for TaskStream<S, F, T, E>
where
    S: Source,
    T: Send + 'static,
    E: Send + 'static,
{
}

impl<S, F, T, E> Drop for TaskStream<S, F, T, E>
where
    S: Source,
    T: Send + 'static,
    E: Send + 'static,
{
    fn drop(&mut self) {
        self.line.cancel();
    }
}

impl<S, F, T, E> fmt::Debug for TaskStream<S, F, T, E>
where
    S: Source,
    T: Send + 'static,
    E: Send + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskStream")
            .field("pulled", &self.pulled)
            .field("under_way", &self.here())
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}

impl Pool {
    /// A function over a stream of items, each a task of its own: see [`TaskStream`].
    #[track_caller]
    pub fn stream<I, F, T, E>(&self, items: I, function: F) -> TaskStream<Items<I::IntoIter>, F, T, E>
    where
        I: IntoIterator,
        I::Item: Send + 'static,
        F: Fn(&Context, I::Item) -> Result<T, E> + Send + Sync + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        self.options().stream(items, function)
    }

    /// [`stream`](Self::stream) over a `Stream` of futures-core, polled only while there is a place in the window.
    #[cfg(feature = "stream")]
    #[track_caller]
    pub fn stream_async<S, F, T, E>(&self, items: S, function: F) -> TaskStream<StreamItems<S>, F, T, E>
    where
        S: futures_core::Stream,
        S::Item: Send + 'static,
        F: Fn(&Context, S::Item) -> Result<T, E> + Send + Sync + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        self.options().stream_async(items, function)
    }
}

impl Options<'_> {
    /// As [`Pool::stream`], each item a task with these options.
    #[track_caller]
    pub fn stream<I, F, T, E>(&self, items: I, function: F) -> TaskStream<Items<I::IntoIter>, F, T, E>
    where
        I: IntoIterator,
        I::Item: Send + 'static,
        F: Fn(&Context, I::Item) -> Result<T, E> + Send + Sync + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        TaskStream::new(self, Items(items.into_iter()), function, Location::caller())
    }

    /// As [`Pool::stream_async`], each item a task with these options.
    #[cfg(feature = "stream")]
    #[track_caller]
    pub fn stream_async<S, F, T, E>(&self, items: S, function: F) -> TaskStream<StreamItems<S>, F, T, E>
    where
        S: futures_core::Stream,
        S::Item: Send + 'static,
        F: Fn(&Context, S::Item) -> Result<T, E> + Send + Sync + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        TaskStream::new(self, StreamItems(Box::pin(items)), function, Location::caller())
    }
}

#[cfg(feature = "stream")]
impl<S, F, T, E> TaskStream<StreamItems<S>, F, T, E>
where
    S: futures_core::Stream,
    S::Item: Send + 'static,
    F: Fn(&Context, S::Item) -> Result<T, E> + Send + Sync + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    /// The answers as a stream.
    pub fn into_async(self) -> Async<Self> {
        Async(self)
    }
}
