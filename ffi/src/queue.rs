//! Queues beside a pool's own: a bulkhead for each kind of work, all served by the same workers.

use std::ffi::{CStr, CString, c_char};
use std::mem::size_of;

use duly::{Queue, QueueStats};

use crate::boundary::{boundary, checked};
use crate::handle::{self, Handle};
use crate::options::{duly_queue_options, read_queue};
use crate::pool::{count, duly_pool, overflow};
use crate::stats::write_versioned;
use crate::status::duly_status;
use crate::text::{from_c, to_c, view};

/// A queue of a pool: `queue` of duly_task_options. Every pool has one, `duly_pool_default_queue`; more are added by
/// `duly_pool_add_queue`, live as long as their pool and share its workers, in turns by weight.
/// Refcounted; safe from any thread. Holding one does not keep the pool open.
#[derive(Debug)]
pub struct duly_queue {
    _opaque: (),
}

impl Handle for duly_queue {
    type Object = Held;
    const KIND: usize = handle::kind::QUEUE;
}

#[derive(Debug)]
pub(crate) struct Held {
    queue: Queue,
    name: CString,
}

impl Held {
    fn new(queue: Queue) -> Held {
        let name = to_c(queue.name());
        Held { queue, name }
    }

    pub(crate) fn queue(&self) -> &Queue {
        &self.queue
    }
}

/// Numbers of a queue, at one moment each.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct duly_queue_numbers {
    /// Tasks accepted, ever.
    pub submitted: u64,
    /// Tasks that wait to be started.
    pub queued: u64,
    /// Callbacks that were started and have not returned, whether their task has its outcome or not: what the limit limits.
    pub running: u64,
    /// Producers waiting for room now.
    pub blocked_producers: u64,
    /// 1 while it is paused, else 0.
    pub paused: u64,
}

/// Size of the first version: frozen.
const FIRST: usize = 5 * 8;
const _: () = assert!(size_of::<duly_queue_numbers>() >= FIRST && size_of::<duly_queue_numbers>().is_multiple_of(8));

impl From<QueueStats> for duly_queue_numbers {
    fn from(stats: QueueStats) -> duly_queue_numbers {
        duly_queue_numbers {
            submitted: stats.submitted,
            queued: stats.queued,
            running: stats.running,
            blocked_producers: stats.blocked_producers,
            paused: stats.paused.into(),
        }
    }
}

/// Adds a queue to a pool. `options` may be NULL: all defaults.
/// Ownership: the caller owns the handle and releases it, the queue lives as long as its pool; the options stay the caller's.
/// Thread-safety: any thread, callbacks included.
/// Blocks: never.
/// Status: OK, NULL_ARGUMENT, FOREIGN_HANDLE, INVALID_ARGUMENT, UNSUPPORTED, SHUT_DOWN.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_pool_add_queue(
    pool: *const duly_pool,
    options: *const duly_queue_options,
    queue: *mut *mut duly_queue,
) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a live handle, and for NULL or a struct as long as its size says with NULL or a
        // string as its name.
        let (pool, options, name) = unsafe {
            let options = read_queue(options)?;
            (handle::borrow(pool)?, options, from_c(options.name))
        };
        if queue.is_null() {
            return Err(duly_status::DULY_STATUS_NULL_ARGUMENT);
        }
        if options.reserved != 0 {
            return Err(duly_status::DULY_STATUS_UNSUPPORTED);
        }
        let mut builder = pool
            .queue(name.unwrap_or_default())
            .overflow(overflow(options.overflow)?);
        if options.capacity != 0 {
            builder = builder.capacity(options.capacity as usize);
        }
        if options.max_blocked_producers != 0 {
            builder = builder.max_blocked_producers(count(options.max_blocked_producers));
        }
        if options.weight != 0 {
            builder = builder.weight(options.weight);
        }
        if let Some(limit) = limit(options.limit) {
            builder = builder.limit(limit);
        }
        if let Some(limit) = limit(options.key_limit) {
            builder = builder.key_limit(limit);
        }
        if let Some(limit) = limit(options.key_capacity) {
            builder = builder.key_capacity(limit);
        }
        let added = Held::new(builder.add()?);
        // SAFETY: not null; the header asks for a place to write to.
        unsafe { queue.write(handle::into_raw::<duly_queue>(added)) };
        Ok(())
    })
}

/// A limit as C writes it: 0 is none.
fn limit(number: u32) -> Option<usize> {
    (number != 0).then_some(number as usize)
}

/// The queue of the tasks that name no other; its name is "default".
/// Ownership: the caller owns the handle and releases it.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: OK, NULL_ARGUMENT, FOREIGN_HANDLE.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_pool_default_queue(pool: *const duly_pool, queue: *mut *mut duly_queue) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a live handle.
        let pool = unsafe { handle::borrow(pool) }?;
        if queue.is_null() {
            return Err(duly_status::DULY_STATUS_NULL_ARGUMENT);
        }
        let own = Held::new(pool.default_queue());
        // SAFETY: not null; the header asks for a place to write to.
        unsafe { queue.write(handle::into_raw::<duly_queue>(own)) };
        Ok(())
    })
}

/// The queue's name; "" if it was given none.
/// Ownership: a view owned by the handle, never NULL; valid until its last release.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; "" for NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_queue_name(queue: *const duly_queue) -> *const c_char {
    view(boundary(|| -> &CStr {
        // SAFETY: the header asks for a live handle.
        let queue = unsafe { handle::borrow(queue) };
        queue.map_or(c"", |queue| &queue.name)
    }))
}

/// How many of its tasks are started before it is the next queue's turn, at least 1.
/// Ownership: the queue stays the caller's.
/// Thread-safety: any thread, callbacks included.
/// Blocks: never.
/// Status: OK, INVALID_ARGUMENT (0), SHUT_DOWN, NULL_ARGUMENT, FOREIGN_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_queue_set_weight(queue: *mut duly_queue, weight: u32) -> duly_status {
    // SAFETY: the header asks for a live handle.
    checked(|| Ok(unsafe { handle::borrow(queue) }?.queue.set_weight(weight)?))
}

/// How many of its callbacks may run at the same time; 0: as many as there are workers. A callback counts until it has
/// returned, also when its task has its outcome before; those that run when the limit is lowered run on.
/// Ownership: the queue stays the caller's.
/// Thread-safety: any thread, callbacks included.
/// Blocks: never.
/// Status: OK, SHUT_DOWN, NULL_ARGUMENT, FOREIGN_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_queue_set_limit(queue: *mut duly_queue, most: u32) -> duly_status {
    // SAFETY: the header asks for a live handle.
    checked(|| Ok(unsafe { handle::borrow(queue) }?.queue.set_limit(limit(most))?))
}

/// How many callbacks of tasks with the same key may run at the same time; 0: no limit.
/// Ownership: the queue stays the caller's.
/// Thread-safety: any thread, callbacks included.
/// Blocks: never.
/// Status: OK, SHUT_DOWN, NULL_ARGUMENT, FOREIGN_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_queue_set_key_limit(queue: *mut duly_queue, most: u32) -> duly_status {
    // SAFETY: the header asks for a live handle.
    checked(|| Ok(unsafe { handle::borrow(queue) }?.queue.set_key_limit(limit(most))?))
}

/// How many tasks of the same key may be queued; 0: as many as the queue holds. Those queued when it is lowered stay.
/// Ownership: the queue stays the caller's.
/// Thread-safety: any thread, callbacks included.
/// Blocks: never.
/// Status: OK, SHUT_DOWN, NULL_ARGUMENT, FOREIGN_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_queue_set_key_capacity(queue: *mut duly_queue, most: u32) -> duly_status {
    // SAFETY: the header asks for a live handle.
    checked(|| Ok(unsafe { handle::borrow(queue) }?.queue.set_key_capacity(limit(most))?))
}

/// How many tasks may be queued, 1 to 8,388,608. Those queued when it is lowered stay.
/// Ownership: the queue stays the caller's.
/// Thread-safety: any thread, callbacks included.
/// Blocks: never.
/// Status: OK, INVALID_ARGUMENT, SHUT_DOWN, NULL_ARGUMENT, FOREIGN_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_queue_set_capacity(queue: *mut duly_queue, capacity: u32) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a live handle.
        let queue = unsafe { handle::borrow(queue) }?;
        Ok(queue.queue.set_capacity(capacity as usize)?)
    })
}

/// From when this returns on, no task of the queue is started. Its tasks are still ended by deadline, token, cancel and
/// shutdown, and it takes new ones while there is room. Closing the pool lets it go on.
/// Ownership: the queue stays the caller's.
/// Thread-safety: any thread, callbacks included. Pausing twice is as once.
/// Blocks: never.
/// Status: OK, NULL_ARGUMENT, FOREIGN_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_queue_pause(queue: *mut duly_queue) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a live handle.
        unsafe { handle::borrow(queue) }?.queue.pause();
        Ok(())
    })
}

/// Undoes `duly_queue_pause`.
/// Ownership: the queue stays the caller's.
/// Thread-safety: any thread, callbacks included.
/// Blocks: never.
/// Status: OK, NULL_ARGUMENT, FOREIGN_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_queue_resume(queue: *mut duly_queue) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a live handle.
        unsafe { handle::borrow(queue) }?.queue.resume();
        Ok(())
    })
}

/// The numbers of the queue now. `size` is sizeof(duly_queue_numbers).
/// Ownership: the queue and the struct stay the caller's.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: OK, NULL_ARGUMENT, INVALID_ARGUMENT (a size that no version of the struct has), FOREIGN_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_queue_stats(
    queue: *const duly_queue,
    stats: *mut duly_queue_numbers,
    size: usize,
) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a live handle and a struct of `size` bytes.
        unsafe {
            let numbers = duly_queue_numbers::from(handle::borrow(queue)?.queue.stats());
            write_versioned(&numbers, FIRST, stats, size)
        }
    })
}

/// One more reference to the queue's handle.
/// Ownership: the caller owns the new reference and releases it.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; returns the same pointer, NULL for NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_queue_retain(queue: *mut duly_queue) -> *mut duly_queue {
    // SAFETY: the header asks for a live handle.
    boundary(|| unsafe { handle::retain(queue) })
}

/// Gives one reference back. The queue and its tasks stay: it is the pool's.
/// Ownership: takes the caller's reference. NULL is fine.
/// Thread-safety: any thread, callbacks included.
/// Blocks: never.
/// Status: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_queue_release(queue: *mut duly_queue) {
    // SAFETY: the header asks for a live handle, of which the caller gives up one reference.
    boundary(|| unsafe { handle::release(queue) });
}
