//! What observers read: who works here, on what, since when. Never holds a lock that a stuck worker could hold.
//!
//! Invariants:
//! 1. A record is listed from before its thread starts until it has left; its tally is then added to the
//!    books, under the same lock, so that no reader counts it twice or misses it.
//! 2. `current` is null or a task of which the worker holds a reference.

use crate::books::{Books, Tally};
use crate::slot::Slot;
use crate::sync::thread::JoinHandle;
use crate::sync::{Arc, AtomicBool, AtomicPtr, AtomicU64, MODEL, Mutex, Ordering};

/// What others see of a worker, or of a caller that runs a task itself.
#[derive(Default)]
pub(crate) struct Record {
    /// Written by the worker for each task.
    pub(crate) own: Own,
    pub(crate) index: usize,
    pub(crate) name: Mutex<Option<String>>,
    /// Its thread runs the worker's loop.
    pub(crate) running: AtomicBool,
    /// Another thread has taken its place: it ends when its callback returns.
    pub(crate) replaced: AtomicBool,
    /// It has seen that, and is on its way out. Changes under the list's lock.
    leaving: AtomicBool,
    /// The ended task whose user code it was found in, and since when (timer thread only).
    pub(crate) found: Mutex<Option<Found>>,
    /// Not one of the pool's workers: a caller that runs a task.
    pub(crate) caller: bool,
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

    /// Lists a caller that runs a task.
    pub(crate) fn add_caller(&self) -> Arc<Record> {
        let record = Arc::new(Record {
            caller: true,
            ..Record::default()
        });
        record.running.store(true, Ordering::Relaxed);
        self.inner.lock().records.push(record.clone());
        record
    }

    /// Takes a record off the list; what it counted goes to the books.
    pub(crate) fn remove(&self, record: &Arc<Record>, books: &Books) {
        let mut inner = self.inner.lock();
        let Some(index) = inner.records.iter().position(|r| Arc::ptr_eq(r, record)) else {
            return;
        };
        inner.records.swap_remove(index);
        if record.replaced.load(Ordering::Relaxed) {
            inner.replacements -= 1;
        }
        for (outcome, count) in record.own.tally.read() {
            books.add(outcome, count);
        }
    }

    /// Marks a worker as replaced, if there are fewer than `limit` such.
    pub(crate) fn replace(&self, record: &Record, limit: usize) -> bool {
        let mut inner = self.inner.lock();
        if inner.replacements >= limit || record.replaced.load(Ordering::Relaxed) {
            return false;
        }
        inner.replacements += 1;
        record.replaced.store(true, Ordering::Release);
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
        if stays && record.replaced.swap(false, Ordering::Relaxed) {
            inner.replacements -= 1;
        }
        stays
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
