//! A ring for one producer and one consumer: a bounded FIFO of atomics only, without a lock and without allocation.
//!
//! The pool itself uses none: its queues have many producers, and anyone may take a task out of the middle.
//! docs/spsc.md has what was measured, and when to take this and when a channel.
//!
//! Invariants:
//! 1. `tail` is stored by the producer alone, `head` by the consumer alone; both only ever grow (and wrap around), and
//!    `head <= tail <= head + capacity`.
//! 2. The cells from `head` to `tail` hold values and are the consumer's; the others are empty and the producer's. A
//!    store of an index (release) hands cells over, a load of the other side's (acquire) takes them.
//! 3. Each side keeps a copy of the other's index, and looks again only when the copy shows no room, or no value: so the
//!    cache lines of the indices move once a batch, not once a value. A stale copy only ever shows too little.
//! 4. An end that goes says so after its last store of an index: who sees that it has gone, and then looks at the index
//!    again, has seen all.

use crate::sync::{Arc, AtomicBool, AtomicUsize, Ordering, Padded, UnsafeCell};
use std::fmt;
use std::mem::MaybeUninit;

/// The largest capacity of a ring.
pub const MAX_CAPACITY: usize = 1 << 30;

struct Ring<T> {
    /// The next cell to take.
    head: Padded<AtomicUsize>,
    /// The next cell to fill.
    tail: Padded<AtomicUsize>,
    /// Written once, when an end goes; otherwise this line is only read.
    ends: Padded<Ends>,
    /// A power of two of cells, at least the capacity.
    cells: Box<[UnsafeCell<MaybeUninit<T>>]>,
    capacity: usize,
}

#[derive(Default)]
struct Ends {
    producer_gone: AtomicBool,
    consumer_gone: AtomicBool,
}

// SAFETY: a cell is reached by one side at a time (invariant 2), and values only move from one to the other.
unsafe impl<T: Send> Sync for Ring<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Ring<T> {}

impl<T> Ring<T> {
    #[inline(always)]
    fn cell(&self, index: usize) -> &UnsafeCell<MaybeUninit<T>> {
        // SAFETY: the length is a power of two, so the masked index is below it.
        unsafe { self.cells.get_unchecked(index & (self.cells.len() - 1)) }
    }

    /// # Safety
    /// The cell is the caller's, and empty.
    #[inline(always)]
    unsafe fn fill(&self, index: usize, value: T) {
        // SAFETY: as the caller says.
        self.cell(index).with_mut(|cell| _ = unsafe { (*cell).write(value) });
    }

    /// # Safety
    /// The cell is the caller's, and holds a value, which is gone from it afterwards.
    #[inline(always)]
    unsafe fn empty(&self, index: usize) -> T {
        // SAFETY: as the caller says.
        self.cell(index).with_mut(|cell| unsafe { (*cell).assume_init_read() })
    }

    /// How many values there were a moment ago.
    fn len(&self) -> usize {
        // The head first: the tail that is read then is not before it.
        let head = self.head.load(Ordering::Acquire);
        let len = self.tail.load(Ordering::Acquire).wrapping_sub(head);
        len.min(self.capacity)
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        let (mut head, tail) = (self.head.load(Ordering::Relaxed), self.tail.load(Ordering::Relaxed));
        while head != tail {
            // SAFETY: both ends have gone: all cells are ours, and these hold values (invariant 2).
            drop(unsafe { self.empty(head) });
            head = head.wrapping_add(1);
        }
    }
}

/// A ring of at most `capacity` values, and its two ends. Each end may be sent to another thread, and is used by one thread
/// at a time. Neither ever blocks, and after this call nothing allocates.
///
/// # Panics
///
/// If `capacity` is 0 or more than [`MAX_CAPACITY`].
///
/// ```
/// let (mut producer, mut consumer) = duly::spsc::ring(4);
/// let sum = std::thread::spawn(move || {
///     let mut sum = 0;
///     loop {
///         match consumer.try_pop() {
///             Ok(value) => sum += value,
///             Err(duly::spsc::TryPopError::Empty) => std::hint::spin_loop(),
///             Err(duly::spsc::TryPopError::Closed) => return sum,
///         }
///     }
/// });
/// let mut values = 1..=100;
/// while !values.is_empty() {
///     producer.push_from(&mut values);
/// }
/// drop(producer);
/// assert_eq!(sum.join().unwrap(), 5050);
/// ```
pub fn ring<T: Send>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    assert!(
        (1..=MAX_CAPACITY).contains(&capacity),
        "duly: the capacity of a ring, {capacity}, is not within 1 to {MAX_CAPACITY}"
    );
    ring_at(capacity, 0)
}

/// A ring whose indices start at `start`.
fn ring_at<T>(capacity: usize, start: usize) -> (Producer<T>, Consumer<T>) {
    let cells = (0..capacity.next_power_of_two()).map(|_| UnsafeCell::new(MaybeUninit::uninit()));
    let ring = Arc::new(Ring {
        head: Padded(AtomicUsize::new(start)),
        tail: Padded(AtomicUsize::new(start)),
        ends: Padded(Ends::default()),
        cells: cells.collect(),
        capacity,
    });
    let producer = Producer {
        ring: ring.clone(),
        tail: start,
        head: start,
    };
    let consumer = Consumer {
        ring,
        head: start,
        tail: start,
    };
    (producer, consumer)
}

/// The end that pushes: see [`ring`].
pub struct Producer<T> {
    ring: Arc<Ring<T>>,
    tail: usize,
    /// The consumer's index when it was last looked at.
    head: usize,
}

/// The end that pops: see [`ring`].
pub struct Consumer<T> {
    ring: Arc<Ring<T>>,
    head: usize,
    /// The producer's index when it was last looked at.
    tail: usize,
}

/// A value that was not pushed.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TryPushError<T> {
    /// There is no room now.
    #[error("the ring is full; try again when the consumer has popped, or make the ring larger")]
    Full(T),
    /// The consumer is gone: nobody will ever pop.
    #[error("the consumer of the ring is gone")]
    Closed(T),
}

impl<T> TryPushError<T> {
    /// The value.
    pub fn into_inner(self) -> T {
        match self {
            TryPushError::Full(value) | TryPushError::Closed(value) => value,
        }
    }
}

impl<T> fmt::Debug for TryPushError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TryPushError::Full(_) => "Full(..)",
            TryPushError::Closed(_) => "Closed(..)",
        })
    }
}

/// Why no value was popped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TryPopError {
    /// There is none now.
    #[error("the ring is empty")]
    Empty,
    /// All have been popped, and the producer is gone.
    #[error("the ring is empty and its producer is gone")]
    Closed,
}

impl<T: Send> Producer<T> {
    /// Puts a value at the end, if there is room and a consumer. Never blocks.
    #[inline]
    pub fn try_push(&mut self, value: T) -> Result<(), TryPushError<T>> {
        if self.is_closed() {
            return Err(TryPushError::Closed(value));
        }
        if self.room() == 0 {
            return Err(TryPushError::Full(value));
        }
        // SAFETY: there is room: the cell at `tail` is ours and empty.
        unsafe { self.ring.fill(self.tail, value) };
        self.tail = self.tail.wrapping_add(1);
        self.ring.tail.store(self.tail, Ordering::Release);
        Ok(())
    }

    /// Puts as many of the iterator's values at the end as there is room for, and shows them to the consumer in one step:
    /// how many. Takes none from the iterator that it has no room for; none at all if the consumer is gone.
    ///
    /// If the iterator panics, what it gave before is pushed.
    pub fn push_from(&mut self, values: &mut impl Iterator<Item = T>) -> usize {
        /// Shows what has been pushed, also when the iterator panics.
        struct Show<'p, T>(&'p mut Producer<T>);
        impl<T> Drop for Show<'_, T> {
            fn drop(&mut self) {
                self.0.ring.tail.store(self.0.tail, Ordering::Release);
            }
        }
        if self.is_closed() {
            return 0;
        }
        let room = self.look_for_room();
        let before = self.tail;
        let show = Show(self);
        for value in values.take(room) {
            // SAFETY: there is room: the cell at `tail` is ours and empty.
            unsafe { show.0.ring.fill(show.0.tail, value) };
            show.0.tail = show.0.tail.wrapping_add(1);
        }
        show.0.tail.wrapping_sub(before)
    }

    /// For how many there is room; looks at the consumer's index only if there seems to be none.
    #[inline(always)]
    fn room(&mut self) -> usize {
        let room = self.ring.capacity - self.tail.wrapping_sub(self.head);
        if room != 0 { room } else { self.look_for_room() }
    }

    fn look_for_room(&mut self) -> usize {
        self.head = self.ring.head.load(Ordering::Acquire);
        self.ring.capacity - self.tail.wrapping_sub(self.head)
    }
}

impl<T> Producer<T> {
    /// Whether the consumer is gone: then nothing that is pushed will be popped.
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.ring.ends.consumer_gone.load(Ordering::Relaxed)
    }

    /// How many values there are; perhaps fewer by the time this is read.
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many values it holds at most.
    pub fn capacity(&self) -> usize {
        self.ring.capacity
    }
}

impl<T: Send> Consumer<T> {
    /// Takes the oldest value. Never blocks.
    #[inline]
    pub fn try_pop(&mut self) -> Result<T, TryPopError> {
        if self.head == self.tail {
            self.look()?;
        }
        // SAFETY: not empty: the cell at `head` is ours and holds a value.
        let value = unsafe { self.ring.empty(self.head) };
        self.head = self.head.wrapping_add(1);
        self.ring.head.store(self.head, Ordering::Release);
        Ok(value)
    }

    /// Takes all the values that are there now, and gives their places back in one step, when the iterator is dropped;
    /// with what was not taken from it, which stays in the ring.
    pub fn drain(&mut self) -> Drain<'_, T> {
        self.tail = self.ring.tail.load(Ordering::Acquire);
        Drain(self)
    }

    /// Looks at the producer's index; an error if there is nothing.
    fn look(&mut self) -> Result<(), TryPopError> {
        self.tail = self.ring.tail.load(Ordering::Acquire);
        if self.head != self.tail {
            return Ok(());
        }
        if !self.is_closed() {
            return Err(TryPopError::Empty);
        }
        // Invariant 4: it may have pushed between the two looks, and gone.
        self.tail = self.ring.tail.load(Ordering::Acquire);
        if self.head == self.tail {
            return Err(TryPopError::Closed);
        }
        Ok(())
    }
}

impl<T> Consumer<T> {
    /// Whether the producer is gone. Values may be left: [`try_pop`](Self::try_pop) says when there are none.
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.ring.ends.producer_gone.load(Ordering::Acquire)
    }

    /// How many values there are; perhaps more by the time this is read.
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many values it holds at most.
    pub fn capacity(&self) -> usize {
        self.ring.capacity
    }
}

/// The values of [`Consumer::drain`].
pub struct Drain<'c, T>(&'c mut Consumer<T>);

impl<T> Iterator for Drain<'_, T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        if self.0.head == self.0.tail {
            return None;
        }
        // SAFETY: not empty: the cell at `head` is ours and holds a value.
        let value = unsafe { self.0.ring.empty(self.0.head) };
        self.0.head = self.0.head.wrapping_add(1);
        Some(value)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.0.tail.wrapping_sub(self.0.head);
        (left, Some(left))
    }
}

impl<T> ExactSizeIterator for Drain<'_, T> {}

impl<T> Drop for Drain<'_, T> {
    fn drop(&mut self) {
        self.0.ring.head.store(self.0.head, Ordering::Release);
    }
}

impl<T> Drop for Producer<T> {
    fn drop(&mut self) {
        self.ring.ends.producer_gone.store(true, Ordering::Release);
    }
}

impl<T> Drop for Consumer<T> {
    /// Drops what is in the ring; what is pushed at that moment goes with the producer.
    fn drop(&mut self) {
        self.ring.ends.consumer_gone.store(true, Ordering::Relaxed);
        self.tail = self.ring.tail.load(Ordering::Acquire);
        while self.head != self.tail {
            // SAFETY: not empty: the cell at `head` is ours and holds a value.
            let value = unsafe { self.ring.empty(self.head) };
            self.head = self.head.wrapping_add(1);
            // First the place, then the value, whose destructor may panic.
            self.ring.head.store(self.head, Ordering::Release);
            drop(value);
        }
    }
}

impl<T> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe(f, "Producer", self.len(), self.capacity(), self.is_closed())
    }
}

impl<T> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe(f, "Consumer", self.len(), self.capacity(), self.is_closed())
    }
}

impl<T> fmt::Debug for Drain<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drain")
            .field("left", &self.size_hint().0)
            .finish_non_exhaustive()
    }
}

fn describe(f: &mut fmt::Formatter<'_>, what: &str, len: usize, capacity: usize, closed: bool) -> fmt::Result {
    f.debug_struct(what)
        .field("len", &len)
        .field("capacity", &capacity)
        .field("closed", &closed)
        .finish()
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn p06_the_indices_wrap_around() {
        for capacity in [1, 3, 4] {
            let (mut producer, mut consumer) = ring_at(capacity, usize::MAX - 4);
            for n in 0..20 {
                for i in 0..capacity {
                    assert_eq!(producer.try_push(n * 10 + i), Ok(()));
                }
                assert!(matches!(producer.try_push(0), Err(TryPushError::Full(0))));
                assert_eq!((producer.len(), consumer.len()), (capacity, capacity));
                assert!(consumer.drain().eq((0..capacity).map(|i| n * 10 + i)));
                assert_eq!(consumer.try_pop(), Err(TryPopError::Empty));
            }
        }
    }
}
