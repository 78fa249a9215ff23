//! A function over many items: chunks of them are tasks, and each item still has an answer of its own.
//!
//! Invariants:
//! 1. Every item that was pulled from the input is answered exactly once, in order: with its own value or panic if the
//!    function was through with it when the chunk's task ended, with the task's outcome if not, with the refusal if its
//!    chunk was not accepted.
//! 2. The worker writes the result of an item, then `done`. A reader, once the task has ended, reads `done` once: what
//!    stands before belongs to it. What the worker still writes behind, because the task was ended from outside, is
//!    dropped with the chunk.
//! 3. At most `window` chunks are under way or waiting to be read, beside the one that is being read.

use crate::context::Context;
use crate::error::{Panic, Refused, SubmitErrorKind, TaskError};
use crate::slot::{forget_panic, panic_message};
use crate::submit::{Options, Patience, submit_now};
use crate::sync::{Arc, AtomicU64, AtomicUsize, Ordering, UnsafeCell};
use crate::task::{Callback, Task};
use crate::{clock, error::CancelReason};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::iter::{Fuse, FusedIterator};
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};

/// How long a chunk should take: a hundred times what a task costs, and little to wait for.
const CHUNK_NANOS: u64 = 25_000;
/// The most items a chunk gets by itself.
const MAX_CHUNK: usize = 4096;
/// By how much a chunk may be larger than the last one that was measured.
const GROWTH: usize = 8;

/// Why an item has no value.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum MapError<I> {
    /// The function panicked on this item, or the task of the item's chunk ended before the function was through with it:
    /// cancelled, too late, shed, or abandoned.
    #[error(transparent)]
    Task(TaskError<Infallible>),
    /// The pool did not accept the item's chunk; the item comes back.
    #[error("{refused}")]
    Refused {
        /// Why, and which task was not made.
        refused: Refused,
        /// The item, untouched.
        item: I,
    },
}

// Of items that have no `Debug`, too.
impl<I> fmt::Debug for MapError<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MapError::Task(error) => f.debug_tuple("Task").field(error).finish(),
            MapError::Refused { refused, .. } => f
                .debug_struct("Refused")
                .field("refused", refused)
                .finish_non_exhaustive(),
        }
    }
}

/// The results of a chunk, shared by the worker that fills it and the iterator that reads it.
struct Results<T> {
    /// How many are there (invariant 2).
    done: AtomicUsize,
    /// How many of them the reader has taken.
    taken: AtomicUsize,
    /// How long an item of the chunk took; 0: not known, for it was cut short.
    nanos: AtomicU64,
    places: Box<[Place<T>]>,
}

/// A value, or the message of a panic, once it is there.
type Place<T> = UnsafeCell<MaybeUninit<Result<T, Box<str>>>>;

// SAFETY: a place is reached by one thread at a time: the worker before it stores `done`, the reader after (invariant 2).
unsafe impl<T: Send> Sync for Results<T> {}
// SAFETY: what is put there is `Send`.
unsafe impl<T: Send> Send for Results<T> {}

impl<T> Results<T> {
    fn new(len: usize) -> Self {
        Results {
            done: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
            nanos: AtomicU64::new(0),
            places: (0..len).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect(),
        }
    }

    /// # Safety
    /// The place `index` is filled, belongs to the caller, and is not read again.
    unsafe fn read(&self, index: usize) -> Result<T, Box<str>> {
        // SAFETY: as the caller says.
        self.places[index].with_mut(|place| unsafe { (*place).assume_init_read() })
    }
}

impl<T> Drop for Results<T> {
    fn drop(&mut self) {
        for index in self.taken.load(Ordering::Relaxed)..self.done.load(Ordering::Relaxed) {
            // SAFETY: filled, not taken, and nobody else is left.
            drop(unsafe { self.read(index) });
        }
    }
}

/// The callback of a chunk's task.
struct Chunk<I, F, T> {
    items: Vec<I>,
    function: Arc<F>,
    results: Arc<Results<T>>,
}

impl<I, F, T> Callback for Chunk<I, F, T>
where
    I: Send + 'static,
    F: Fn(I) -> T + Send + Sync + 'static,
    T: Send + 'static,
{
    type Value = ();
    type Error = Infallible;
    type Written = F;

    fn call(self, context: &Context) -> Result<(), Infallible> {
        let (function, results) = (&*self.function, &*self.results);
        let whole = self.items.len();
        let began = clock::now();
        let mut items = self.items.into_iter();
        let put = |index: usize, result| {
            // SAFETY: nobody else reaches the place before `done` tells of it.
            results.places[index].with_mut(|place| unsafe { (*place).write(result) });
            results.done.store(index + 1, Ordering::Release);
        };
        // From one panic to the next.
        loop {
            let run = catch_unwind(AssertUnwindSafe(|| {
                let mut index = results.done.load(Ordering::Relaxed);
                // Ended from outside, the items that are left have their answer.
                while !context.is_cancelled()
                    && let Some(item) = items.next()
                {
                    put(index, Ok(function(item)));
                    index += 1;
                }
            }));
            let Err(panic) = run else { break };
            let message = panic_message(&*panic).into();
            forget_panic(panic);
            put(results.done.load(Ordering::Relaxed), Err(message));
        }
        if results.done.load(Ordering::Relaxed) == whole {
            let nanos = clock::now().saturating_sub(began) / whole.max(1) as u64;
            results.nanos.store(nanos.max(1), Ordering::Relaxed);
        }
        Ok(())
    }
}

/// A chunk that has been pulled from the input.
enum Pulled<I, T> {
    Accepted {
        task: Task<(), Infallible>,
        results: Arc<Results<T>>,
    },
    Refused {
        refused: Refused,
        items: std::vec::IntoIter<I>,
    },
}

impl<I, T> Pulled<I, T> {
    fn len(&self) -> usize {
        match self {
            Pulled::Accepted { results, .. } => results.places.len(),
            Pulled::Refused { items, .. } => items.len(),
        }
    }
}

/// The chunk whose answers are being handed out.
enum Current<I, T> {
    Ended(Ended<T>),
    Refused {
        refused: Refused,
        items: std::vec::IntoIter<I>,
    },
}

/// A chunk whose task has ended.
struct Ended<T> {
    task: Task<(), Infallible>,
    results: Arc<Results<T>>,
    next: usize,
    /// How many are there; the others are answered with `rest`.
    done: usize,
    rest: Option<TaskError<Infallible>>,
}

impl<T> Ended<T> {
    #[inline(always)]
    fn next<I>(&mut self) -> Option<Result<T, MapError<I>>> {
        let index = self.next;
        if index < self.done {
            self.next += 1;
            // SAFETY: before `done`, and taken once.
            return Some(match unsafe { self.results.read(index) } {
                Ok(value) => Ok(value),
                Err(message) => Err(self.panicked(message)),
            });
        }
        self.without_result()
    }

    #[cold]
    fn panicked<I>(&self, message: Box<str>) -> MapError<I> {
        MapError::Task(TaskError::Panicked(Panic {
            message,
            task: self.task.name(),
        }))
    }

    #[cold]
    fn without_result<I>(&mut self) -> Option<Result<T, MapError<I>>> {
        if self.next == self.results.places.len() {
            return None;
        }
        self.next += 1;
        // Where there is no result, the outcome was not `succeeded`.
        let rest = self.rest.clone();
        let rest = rest.unwrap_or_else(|| TaskError::Abandoned(self.task.name()));
        Some(Err(MapError::Task(rest)))
    }
}

impl<T> Drop for Ended<T> {
    fn drop(&mut self) {
        self.results.taken.store(self.next.min(self.done), Ordering::Relaxed);
    }
}

/// An iterator over the answers of [`Pool::map`](crate::Pool::map), in the order of the items, one for each.
///
/// The items go to the pool in chunks, each of which is a task: with the options' label, token, and timeout. A panic on
/// one item is that item's answer; the others of its chunk are not touched. A chunk that is cancelled or runs into its
/// deadline leaves the answers that are there, and the rest get its outcome; items of a chunk that the pool refuses come
/// back with the refusal.
///
/// The input is pulled by [`next`](Iterator::next), only as far as the window reaches: beside the chunk that is being
/// read at most so many are under way or wait to be read, so memory is bounded by the window, not by the input. How many items make a chunk is measured,
/// one at first, so that a chunk takes some 25 µs; [`chunk_size`](Self::chunk_size) fixes it. `next` blocks until the
/// next answer is there, and while the pool has no room (as the pool's overflow policy says). Dropping the iterator
/// cancels what is under way.
///
/// ```
/// # let pool = duly::Pool::builder().workers(2).build()?;
/// let squares: Result<Vec<u64>, _> = pool.map(0..1000u64, |n| n * n).collect();
/// assert_eq!(squares?[999], 998_001);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a map pulls and submits nothing until it is iterated"]
pub struct Map<'p, S: Iterator, F, T> {
    options: Options<'p>,
    items: Fuse<S>,
    function: Arc<F>,
    pulled: VecDeque<Pulled<S::Item, T>>,
    /// Did not fit into a pool that does not wait; goes first when the next chunk has been read.
    held: Option<Chunk<S::Item, F, T>>,
    current: Option<Current<S::Item, T>>,
    chunk: usize,
    fixed: bool,
    window: usize,
    site: &'static Location<'static>,
}

impl<'p> Options<'p> {
    /// As [`Pool::map`](crate::Pool::map), each chunk a task with these options.
    #[track_caller]
    pub fn map<I, F, T>(&self, items: I, function: F) -> Map<'p, I::IntoIter, F, T>
    where
        I: IntoIterator,
        I::Item: Send + 'static,
        F: Fn(I::Item) -> T + Send + Sync + 'static,
        T: Send + 'static,
    {
        Map {
            options: self.clone(),
            items: items.into_iter().fuse(),
            function: Arc::new(function),
            pulled: VecDeque::new(),
            held: None,
            current: None,
            chunk: 1,
            fixed: false,
            window: 2 * self.pool.shared().workers.load(Ordering::Relaxed) + 2,
            site: Location::caller(),
        }
    }
}

impl<S, F, T> Map<'_, S, F, T>
where
    S: Iterator,
{
    /// Every chunk has so many items (0 is taken for 1), instead of as many as seem right.
    pub fn chunk_size(mut self, items: usize) -> Self {
        self.chunk = items.max(1);
        self.fixed = true;
        self
    }

    /// At most so many chunks (0 is taken for 1) are under way or wait to be read. By default two a worker, and two.
    pub fn window(mut self, chunks: usize) -> Self {
        self.window = chunks.max(1);
        self
    }

    /// How many items should the next chunk have, after one that took so long an item, or was cut short after `done`?
    fn learn(&mut self, nanos: u64, done: usize, items: usize) {
        if self.fixed {
        } else if done < items {
            self.chunk = (done / 2).max(1);
        } else if let Some(right) = CHUNK_NANOS.checked_div(nanos) {
            let right = usize::try_from(right).unwrap_or(MAX_CHUNK);
            self.chunk = right.min(items.saturating_mul(GROWTH)).clamp(1, MAX_CHUNK);
        }
    }
}

impl<S, F, T> Map<'_, S, F, T>
where
    S: Iterator,
    S::Item: Send + 'static,
    F: Fn(S::Item) -> T + Send + Sync + 'static,
    T: Send + 'static,
{
    /// Pulls and submits up to the window.
    fn fill(&mut self) {
        while self.pulled.len() < self.window {
            let chunk = match self.held.take() {
                Some(chunk) => chunk,
                None => {
                    let items: Vec<S::Item> = self.items.by_ref().take(self.chunk).collect();
                    if items.is_empty() {
                        return;
                    }
                    Chunk {
                        results: Arc::new(Results::new(items.len())),
                        function: self.function.clone(),
                        items,
                    }
                }
            };
            let results = chunk.results.clone();
            let shared = self.options.pool.shared();
            let pulled = match submit_now(shared, &self.options.wanted, chunk, Patience::Wait, self.site) {
                Ok(task) => Pulled::Accepted { task, results },
                Err((refused, chunk)) if refused.kind() == SubmitErrorKind::QueueFull && !self.pulled.is_empty() => {
                    // A pool that does not wait for room: our own chunks make some.
                    self.held = Some(chunk);
                    return;
                }
                Err((refused, chunk)) => Pulled::Refused {
                    refused,
                    items: chunk.items.into_iter(),
                },
            };
            self.pulled.push_back(pulled);
        }
    }
}

impl<S, F, T> Iterator for Map<'_, S, F, T>
where
    S: Iterator,
    S::Item: Send + 'static,
    F: Fn(S::Item) -> T + Send + Sync + 'static,
    T: Send + 'static,
{
    type Item = Result<T, MapError<S::Item>>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(current) = &mut self.current
                && let Some(answer) = current.next()
            {
                return Some(answer);
            }
            self.advance()?;
        }
    }

    // A loop a chunk, for `collect`, `count`, `for_each` and the like.
    fn fold<B, G>(mut self, start: B, mut function: G) -> B
    where
        G: FnMut(B, Self::Item) -> B,
    {
        let mut sum = start;
        loop {
            match &mut self.current {
                Some(Current::Ended(ended)) => {
                    while let Some(answer) = ended.next() {
                        sum = function(sum, answer);
                    }
                }
                Some(refused) => {
                    while let Some(answer) = refused.next() {
                        sum = function(sum, answer);
                    }
                }
                None => {}
            }
            if self.advance().is_none() {
                return sum;
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let current = self.current.as_ref().map_or(0, Current::left);
        let held = self.held.as_ref().map_or(0, |chunk| chunk.items.len());
        let here = self.pulled.iter().map(Pulled::len).sum::<usize>() + current + held;
        let (least, most) = self.items.size_hint();
        (least.saturating_add(here), most.and_then(|most| most.checked_add(here)))
    }
}

impl<S, F, T> Map<'_, S, F, T>
where
    S: Iterator,
    S::Item: Send + 'static,
    F: Fn(S::Item) -> T + Send + Sync + 'static,
    T: Send + 'static,
{
    /// Waits for the next chunk and makes it the current one. `None`: that was the last.
    #[inline(never)]
    fn advance(&mut self) -> Option<()> {
        self.current = None;
        self.fill();
        let next = match self.pulled.pop_front()? {
            Pulled::Accepted { task, results } => {
                let rest = task.wait().err();
                // Invariant 2.
                let done = results.done.load(Ordering::Acquire);
                self.learn(results.nanos.load(Ordering::Relaxed), done, results.places.len());
                Current::Ended(Ended {
                    done,
                    task,
                    results,
                    next: 0,
                    rest,
                })
            }
            Pulled::Refused { refused, items } => Current::Refused { refused, items },
        };
        self.current = Some(next);
        // While these are handed out, the next are worked on.
        self.fill();
        Some(())
    }
}

impl<S, F, T> FusedIterator for Map<'_, S, F, T>
where
    S: Iterator,
    S::Item: Send + 'static,
    F: Fn(S::Item) -> T + Send + Sync + 'static,
    T: Send + 'static,
{
}

impl<I, T> Current<I, T> {
    fn left(&self) -> usize {
        match self {
            Current::Ended(ended) => ended.results.places.len() - ended.next,
            Current::Refused { items, .. } => items.len(),
        }
    }

    #[inline]
    fn next(&mut self) -> Option<Result<T, MapError<I>>> {
        match self {
            Current::Ended(ended) => ended.next(),
            Current::Refused { refused, items } => {
                let item = items.next()?;
                Some(Err(MapError::Refused {
                    refused: refused.clone(),
                    item,
                }))
            }
        }
    }
}

impl<S: Iterator, F, T> Drop for Map<'_, S, F, T> {
    fn drop(&mut self) {
        for pulled in &self.pulled {
            if let Pulled::Accepted { task, .. } = pulled {
                task.cancel_with(CancelReason::Dropped);
            }
        }
    }
}

impl<S: Iterator, F, T> fmt::Debug for Map<'_, S, F, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map")
            .field("options", &self.options)
            .field("chunks", &self.pulled.len())
            .field("window", &self.window)
            .field("chunk_size", &self.chunk)
            .finish_non_exhaustive()
    }
}
