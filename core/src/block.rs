//! How this layer waits: every wait is a poll function, awaited as it is, or driven by the one blocking loop below.
//!
//! Keeps true: nothing here or above blocks but [`drive`]; it polls first and looks at the clock second, so what is there
//! at the end of the time is seen; nothing is polled but after a wake-up, or after it was asked to look again. Inside a
//! callback a wait is known to `waits` while its thread sleeps, not while it polls (P10).

use crate::clock::{self, NEVER};
use crate::context;
use crate::error::Deadlock;
use crate::slot::SlotRef;
use crate::sync::{AtomicBool, Ordering, Parker, patience, thread};
use crate::waits;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

/// The waker of a thread that blocks.
struct Sleeper {
    parker: Arc<Parker>,
    woken: AtomicBool,
}

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.parker.unpark();
    }
}

impl Sleeper {
    fn is_woken(&self) -> bool {
        self.woken.load(Ordering::Acquire)
    }

    /// Sleeps until woken, or until `until`: then false.
    fn sleep(&self, until: u64) -> bool {
        while !self.is_woken() {
            if until == NEVER {
                self.parker.park();
            } else if !self.parker.park_until(until) {
                return false;
            }
        }
        true
    }
}

/// Blocks until `poll` is ready, or until `until`: then `None`. What `poll` has registered is its owner's to take back.
///
/// `awaited` are the tasks one of whose ends wakes the wait; none: it is not known what does. Inside a callback a wait without a
/// limit for some that can never end is an error.
pub(crate) fn drive<S, R>(
    until: u64,
    state: &mut S,
    mut poll: impl FnMut(&mut S, &mut Context<'_>) -> Poll<R>,
    awaited: impl Fn(&S) -> Vec<SlotRef>,
) -> Result<Option<R>, Box<Deadlock>> {
    let sleeper = Arc::new(Sleeper {
        parker: crate::sync::parker(),
        woken: AtomicBool::new(false),
    });
    let waker = Waker::from(sleeper.clone());
    let mut cx = Context::from_waker(&waker);
    loop {
        sleeper.woken.store(false, Ordering::Release);
        if let Poll::Ready(result) = poll(state, &mut cx) {
            return Ok(Some(result));
        }
        if until != NEVER && clock::now() >= until {
            return Ok(None);
        }
        if !context::inside_any() {
            sleeper.sleep(until);
            continue;
        }
        // Most answers come at once: whoever looks around a little needs nobody to stand in.
        for _ in 0..patience(LOOKS) {
            if sleeper.is_woken() {
                break;
            }
            thread::yield_now();
        }
        let tasks = if until == NEVER { awaited(state) } else { Vec::new() };
        if sleeper.is_woken() {
        } else if tasks.is_empty() {
            waits::away(|| sleeper.sleep(until));
        } else {
            waits::any(&tasks, &sleeper.woken)?;
        }
    }
}

const LOOKS: u32 = 8;

/// [`drive`] without a limit, for those that have no other way to tell of a deadlock.
///
/// # Panics
/// When the wait, made by a callback, could never have ended.
pub(crate) fn drive_to_end<S, R>(
    state: &mut S,
    poll: impl FnMut(&mut S, &mut Context<'_>) -> Poll<R>,
    awaited: impl Fn(&S) -> Vec<SlotRef>,
) -> R {
    match drive(NEVER, state, poll, awaited) {
        Ok(Some(result)) => result,
        Ok(None) => unreachable!("there was no limit"),
        Err(deadlock) => panic!("duly: {deadlock}"),
    }
}

/// [`drive`] with a limit, which ends by itself.
pub(crate) fn drive_until<S, R>(
    until: u64,
    state: &mut S,
    poll: impl FnMut(&mut S, &mut Context<'_>) -> Poll<R>,
) -> Option<R> {
    // With a limit of centuries, nothing is known of it.
    drive(until, state, poll, |_| Vec::new()).ok().flatten()
}

/// Something that gives one item after the other.
pub trait PollNext {
    /// What it gives.
    type Item;

    /// The next one, if it is there.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Self::Item>>;

    /// How many are to come, at least and at most.
    fn hint(&self) -> (usize, Option<usize>);
}

/// The asynchronous form of an iterator of this crate: made by its `into_async`.
///
/// With the feature `stream` it is a `Stream` of futures-core; without, [`next`](Self::next) is enough for a loop. (It is a
/// type of its own, because one that were both an `Iterator` and a `Stream` would make every `next` ambiguous.)
pub struct Async<I>(pub(crate) I);

impl<I: PollNext> Async<I> {
    /// The next item, when it is there; `None` at the end. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<I::Item> {
        poll_fn(|cx| self.0.poll_next(cx)).await
    }

    /// [`next`](Self::next) for those who poll by hand.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<I::Item>> {
        self.0.poll_next(cx)
    }

    /// How many items are to come, at least and at most.
    pub fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.hint()
    }
}

impl<I: fmt::Debug> fmt::Debug for Async<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Async").field(&self.0).finish()
    }
}

impl<I> Unpin for Async<I> {}

#[cfg(feature = "stream")]
impl<I: PollNext> futures_core::Stream for Async<I> {
    type Item = I::Item;

    fn poll_next(self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<I::Item>> {
        self.get_mut().0.poll_next(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.hint()
    }
}
