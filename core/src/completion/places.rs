//! A bounded list that things are put into without waiting, as each has its place before it is there.
//!
//! Invariants:
//! 1. places that are free + places reserved + things that wait to be taken = capacity, whenever no call is under way.
//! 2. The bell rings exactly while things wait: it is raised and lowered under the lock, by those who change that.
//! 3. A thread that waits stands in `takers`, where it went when nothing was there, or it was woken and will look again, and
//!    take one thing at least before it leaves. So while somebody stands there, at least as many are about to look as things
//!    wait, and nothing waits while everybody sleeps.
//! 4. Once closed, nothing is kept: what comes goes back to whoever brought it.
//!
//! Locks: the list's lock is a leaf. Threads are woken outside of it; the bell is one system call that never waits, and stands
//! under it for invariant 2.

use super::bell::Bell;
use crate::clock::{self, NEVER};
use crate::sync::{Arc, AtomicUsize, Mutex, Ordering, Parker};
use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;

pub(crate) struct Places<I> {
    capacity: usize,
    free: AtomicUsize,
    list: Mutex<List<I>>,
}

struct List<I> {
    waiting: VecDeque<I>,
    takers: VecDeque<Arc<Parker>>,
    /// Made when it is first asked for.
    bell: Option<Bell>,
    closed: bool,
}

impl<I> Places<I> {
    pub(crate) fn new(capacity: usize) -> Places<I> {
        Places {
            capacity,
            free: AtomicUsize::new(capacity),
            list: Mutex::new(List {
                waiting: VecDeque::new(),
                takers: VecDeque::new(),
                bell: None,
                closed: false,
            }),
        }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(crate) fn free(&self) -> usize {
        self.free.load(Ordering::Acquire)
    }

    pub(crate) fn waiting(&self) -> usize {
        self.list.lock().waiting.len()
    }

    /// Takes a place for something that will come. Whether there was one.
    pub(crate) fn reserve(&self) -> bool {
        let mut free = self.free.load(Ordering::Relaxed);
        while free > 0 {
            match self
                .free
                .compare_exchange_weak(free, free - 1, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return true,
                Err(now) => free = now,
            }
        }
        false
    }

    /// The other end of [`reserve`](Self::reserve), for as many.
    pub(crate) fn give_back(&self, places: usize) {
        self.free.fetch_add(places, Ordering::AcqRel);
    }

    /// Puts something in a reserved place. It comes back if nobody is left to take it; its place is still reserved then.
    pub(crate) fn put(&self, item: I) -> Result<(), I> {
        let mut list = self.list.lock();
        if list.closed {
            return Err(item);
        }
        list.waiting.push_back(item);
        if list.waiting.len() == 1
            && let Some(bell) = &list.bell
        {
            bell.raise();
        }
        let taker = list.takers.pop_front();
        drop(list);
        if let Some(taker) = taker {
            taker.unpark();
        }
        Ok(())
    }

    /// Takes at most so many, the oldest first, and gives their places back.
    pub(crate) fn take_now(&self, most: usize) -> Vec<I> {
        self.look(most, |_, _| ())
    }

    /// [`take_now`](Self::take_now); `line` is told of those who wait, and whether nothing was there, in the same step.
    fn look(&self, most: usize, line: impl FnOnce(&mut VecDeque<Arc<Parker>>, bool)) -> Vec<I> {
        let mut list = self.list.lock();
        let count = most.min(list.waiting.len());
        line(&mut list.takers, count == 0);
        if count == 0 {
            return Vec::new();
        }
        let taken: Vec<I> = list.waiting.drain(..count).collect();
        if list.waiting.is_empty()
            && let Some(bell) = &list.bell
        {
            bell.lower();
        }
        drop(list);
        self.give_back(count);
        taken
    }

    /// [`take_now`](Self::take_now), waiting until something comes, `over` has an answer (it is asked first, and whenever
    /// `parker`, which is this thread's, is unparked), or `until`: then `None`.
    pub(crate) fn take<O>(
        &self,
        most: usize,
        until: u64,
        parker: &Arc<Parker>,
        over: impl Fn() -> Option<O>,
    ) -> Option<Result<Vec<I>, O>> {
        loop {
            let leave = over();
            let late = until != NEVER && clock::now() >= until;
            let stays = leave.is_none() && !late;
            // What is there counts more than an exit: so whoever was woken for something does not leave it behind.
            let taken = self.look(most, |takers, nothing| {
                let place = takers.iter().position(|taker| Arc::ptr_eq(taker, parker));
                match place {
                    None if nothing && stays => takers.push_back(parker.clone()),
                    Some(place) if !nothing || !stays => drop(takers.remove(place)),
                    _ => {}
                }
            });
            if !taken.is_empty() {
                return Some(Ok(taken));
            }
            if let Some(leave) = leave {
                return Some(Err(leave));
            }
            if late {
                return None;
            }
            if until == NEVER {
                parker.park();
            } else {
                parker.park_until(until);
            }
        }
    }

    /// The descriptor that is readable while things wait.
    pub(crate) fn fd(&self) -> io::Result<RawFd> {
        let mut list = self.list.lock();
        if let Some(bell) = &list.bell {
            return Ok(bell.fd());
        }
        let bell = Bell::new()?;
        if !list.waiting.is_empty() {
            bell.raise();
        }
        let fd = bell.fd();
        list.bell = Some(bell);
        Ok(fd)
    }

    /// From now on nothing is kept. What nobody has taken.
    pub(crate) fn close(&self) -> VecDeque<I> {
        let mut list = self.list.lock();
        list.closed = true;
        let left = std::mem::take(&mut list.waiting);
        let bell = list.bell.take();
        drop(list);
        drop(bell);
        self.give_back(left.len());
        left
    }

    /// Whether the bell rings, and whether it should.
    #[cfg(all(test, loom))]
    pub(crate) fn rings(&self) -> (bool, bool) {
        let list = self.list.lock();
        let rings = list.bell.as_ref().is_some_and(Bell::rings);
        (rings, !list.waiting.is_empty())
    }
}
