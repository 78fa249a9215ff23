//! What observers read: who works here, on what, since when. Never holds a lock that a stuck worker could hold.
//!
//! Invariants:
//! 1. A record is listed from before its thread starts until it has left; its tally is then added to the
//!    books, under the same lock, so that no reader counts it twice or misses it.
//! 2. `current` is null or a task of which the worker holds a reference.

use crate::books::{Books, Tally};
use crate::slot::Slot;
use crate::sync::thread::JoinHandle;
use crate::sync::{Arc, AtomicBool, AtomicPtr, AtomicU32, AtomicU64, MODEL, Mutex, Ordering, full_fence};

/// What others see of a worker, or of a caller that runs a task itself.
#[derive(Default)]
pub(crate) struct Record {
    /// Written by the worker for each task.
    pub(crate) own: Own,
    /// Of a worker, or of the one that a caller is: see [`inside`](Self::inside).
    pub(crate) index: usize,
    pub(crate) name: Mutex<Option<String>>,
    /// Its thread runs the worker's loop.
    pub(crate) running: AtomicBool,
    /// Another thread has taken its place, or there are to be fewer workers: it ends when its callback returns.
    pub(crate) replaced: AtomicBool,
    /// It is replaced by nobody: there are to be fewer workers. Changes under the list's lock.
    surplus: AtomicBool,
    /// It has seen that, and is on its way out. Changes under the list's lock.
    leaving: AtomicBool,
    /// The ended task whose user code it was found in, and since when (timer thread only).
    pub(crate) found: Mutex<Option<Found>>,
    /// Its callback had been started when queues began to take turns, and holds a permit of the default queue.
    pub(crate) permit: AtomicBool,
    /// The key of the task that it runs, plus one; 0 for none. Written and read by its own thread.
    pub(crate) key: AtomicU32,
    /// Its host drives it (`steps`).
    pub(crate) by_steps: AtomicBool,
    /// Not one of the pool's workers: a caller that runs a task.
    pub(crate) caller: bool,
    /// A caller that is one of the pool's workers, inside a callback: the one with its `index`.
    inside: bool,
}

/// An ended task that a worker was found in.
#[derive(Clone, Copy)]
pub(crate) struct Found {
    /// Tells the task from every other.
    pub(crate) id: (usize, u64),
    pub(crate) since: u64,
    /// The log has been told.
    pub(crate) told: bool,
}

/// On a cache line of its own. (On two, as `Padded` would have it, a sleeping worker costs 200 bytes more.)
#[derive(Default)]
#[repr(align(64))]
pub(crate) struct Own {
    pub(crate) current: AtomicPtr<Slot>,
    /// When the current callback started (coarse clock).
    pub(crate) started: AtomicU64,
    pub(crate) tally: Tally,
}

const _: () = assert!(MODEL || size_of::<Own>() == 64 && size_of::<Record>() <= 192);

#[derive(Default)]
pub(crate) struct Registry {
    /// A worker was refused, for there are enough, and nothing has changed since. Cleared under the lock; who clears it
    /// looks for work afterwards, so that who saw it set may leave the look to them.
    enough: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    records: Vec<Arc<Record>>,
    handles: Vec<JoinHandle<()>>,
    next_index: usize,
    /// Workers that have been replaced and have not yet returned.
    replacements: usize,
}

impl Record {
    /// Whether it leaves, and nobody takes its place.
    pub(crate) fn is_surplus(&self) -> bool {
        self.surplus.load(Ordering::Relaxed)
    }
}

impl Registry {
    /// Lists a new worker, unless there are `limit` of the pool's own already that have not been replaced.
    pub(crate) fn add_worker(&self, limit: usize) -> Option<Arc<Record>> {
        let mut inner = self.inner.lock();
        let working = inner
            .records
            .iter()
            .filter(|r| !r.caller && !r.replaced.load(Ordering::Relaxed))
            .count();
        if working >= limit {
            self.enough.store(true, Ordering::Relaxed);
            return None;
        }
        let record = Arc::new(Record {
            index: inner.next_index,
            ..Record::default()
        });
        inner.next_index += 1;
        inner.records.push(record.clone());
        Some(record)
    }

    /// Whether another worker would be refused, as the last one was.
    pub(crate) fn has_enough(&self) -> bool {
        self.enough.load(Ordering::Relaxed)
    }

    /// With the lock held: there may be one more.
    fn may_need_another(&self) {
        self.enough.store(false, Ordering::Relaxed);
        full_fence();
    }

    /// Lists a caller that runs a task; `worker`, if it is one of the pool's own.
    pub(crate) fn add_caller(&self, worker: Option<&Record>) -> Arc<Record> {
        let record = Arc::new(Record {
            caller: true,
            inside: worker.is_some(),
            index: worker.map_or(0, |worker| worker.index),
            ..Record::default()
        });
        record.running.store(true, Ordering::Relaxed);
        self.inner.lock().records.push(record.clone());
        record
    }

    /// The worker whose thread a record is about; none: that of a caller from outside.
    pub(crate) fn worker_of(&self, record: &Arc<Record>) -> Option<Arc<Record>> {
        if !record.caller {
            return Some(record.clone());
        }
        let inner = self.inner.lock();
        let worker = inner.records.iter().find(|r| !r.caller && r.index == record.index);
        worker.filter(|_| record.inside).cloned()
    }

    /// Takes a record off the list; what it counted goes to the books.
    pub(crate) fn remove(&self, record: &Arc<Record>, books: &Books) {
        let mut inner = self.inner.lock();
        let Some(index) = inner.records.iter().position(|r| Arc::ptr_eq(r, record)) else {
            return;
        };
        inner.records.swap_remove(index);
        self.may_need_another();
        if record.replaced.load(Ordering::Relaxed) && !record.surplus.load(Ordering::Relaxed) {
            inner.replacements -= 1;
        }
        for (outcome, count) in record.own.tally.read() {
            books.add(outcome, count);
        }
    }

    /// Marks a worker as replaced, if there are fewer than `limit` such. `announce` says before that somebody comes.
    pub(crate) fn replace(&self, record: &Record, limit: usize, announce: impl FnOnce()) -> bool {
        let mut inner = self.inner.lock();
        if inner.replacements >= limit || record.replaced.load(Ordering::Relaxed) {
            return false;
        }
        inner.replacements += 1;
        announce();
        record.replaced.store(true, Ordering::Release);
        self.may_need_another();
        true
    }

    /// Asked by a worker that was marked as replaced: whether it still is, and so leaves.
    pub(crate) fn leaves(&self, record: &Record) -> bool {
        let _inner = self.inner.lock();
        let replaced = record.replaced.load(Ordering::Relaxed);
        record.leaving.store(replaced, Ordering::Relaxed);
        replaced
    }

    /// Undoes [`replace`](Self::replace). False if the worker leaves, or has left, because of it.
    pub(crate) fn unreplace(&self, record: &Arc<Record>) -> bool {
        let mut inner = self.inner.lock();
        let stays = !record.leaving.load(Ordering::Relaxed) && inner.records.iter().any(|r| Arc::ptr_eq(r, record));
        if stays && !record.surplus.load(Ordering::Relaxed) && record.replaced.swap(false, Ordering::Relaxed) {
            inner.replacements -= 1;
        }
        stays
    }

    /// Sees to it that no more than `wanted` of the pool's own workers stay that have not been replaced: marks those beyond,
    /// idle ones first; or takes such marks back. How many are missing then.
    pub(crate) fn resize(&self, wanted: usize) -> usize {
        let inner = self.inner.lock();
        self.may_need_another();
        let own = || inner.records.iter().filter(|r| !r.caller);
        let staying = own().filter(|r| !r.replaced.load(Ordering::Relaxed));
        let mut count = staying.clone().count();
        let busy = |r: &&Arc<Record>| !r.own.current.load(Ordering::Relaxed).is_null();
        for record in staying.clone().filter(|r| !busy(r)).chain(staying.filter(busy)) {
            if count <= wanted {
                break;
            }
            // It may have become busy since, or idle, and be met twice.
            if !record.surplus.swap(true, Ordering::Relaxed) {
                record.replaced.store(true, Ordering::Release);
                count -= 1;
            }
        }
        for record in own().filter(|r| r.surplus.load(Ordering::Relaxed)) {
            if count >= wanted {
                break;
            }
            if !record.leaving.load(Ordering::Relaxed) {
                record.surplus.store(false, Ordering::Relaxed);
                record.replaced.store(false, Ordering::Relaxed);
                count += 1;
            }
        }
        wanted.saturating_sub(count)
    }

    pub(crate) fn keep_handle(&self, handle: JoinHandle<()>) {
        let mut inner = self.inner.lock();
        // Those that have ended need no joining.
        inner.handles.retain(|handle| !handle.is_finished());
        inner.handles.push(handle);
    }

    pub(crate) fn take_handles(&self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut self.inner.lock().handles)
    }

    /// Looks at every record, under the list's lock: `look` takes no other lock but the leaves.
    pub(crate) fn each<R>(&self, look: impl FnOnce(&[Arc<Record>]) -> R) -> R {
        look(&self.inner.lock().records)
    }
}
