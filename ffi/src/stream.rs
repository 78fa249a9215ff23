//! Streams: a function over items, each a task, pulled only while there is a place in the window.
//!
//! Invariants:
//! 1. Whoever asks for an answer has the stream to itself: the pointer is null meanwhile, and nobody waits for it. So no lock is
//!    held while next is called, nor in a forked child.
//! 2. Both user_data become duly's with OK; each is dropped once, when the stream is gone and no item needs it.
//! 3. An item is dropped once: after its run, or instead of it.

use std::ffi::c_void;
use std::mem::size_of;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

use duly::{Context, Items, Outcome, StreamError, TaskStream};

use crate::boundary::{boundary, checked};
use crate::call::{Call, Failure};
use crate::foreign::{Owned, Visit, duly_drop_fn};
use crate::handle::{self, Handle};
use crate::options::{DULY_FOREVER, Versioned, duly_task_options, init, read, read_task};
use crate::pool::duly_pool;
use crate::settled::{Settled, Shared};
use crate::status::duly_status;
use crate::submit::asked;
use crate::task::{duly_task, span};
use crate::ticket::{End, Ticket};

use crate::call::duly_call;

/// A function over items, each a task. Refcounted; one thread at a time asks it for the next answer.
#[derive(Debug)]
pub struct duly_stream {
    _opaque: (),
}

impl Handle for duly_stream {
    type Object = Source;
    const KIND: usize = handle::kind::STREAM;
}

/// Gives the next item of a stream: true and the item (which may be NULL), or false: there are no more. Called by whoever asks for
/// an answer, on that thread, one call at a time, never again after false. It must return.
pub type duly_next_fn = Option<unsafe extern "C-unwind" fn(user_data: *mut c_void, item: *mut *mut c_void) -> bool>;

/// As `duly_run_fn`, with the item. Several may run at the same time, with the same user_data.
pub type duly_item_fn =
    Option<unsafe extern "C-unwind" fn(user_data: *mut c_void, item: *mut c_void, call: *mut duly_call) -> i32>;

/// Answers come as the items' tasks end, not in the order of the items.
pub const DULY_STREAM_UNORDERED: u32 = 1;

/// Options of a stream. Start from `DULY_STREAM_OPTIONS_INIT` or `duly_stream_options_init` and set what should differ:
/// 0 means the default of each field.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct duly_stream_options {
    /// sizeof(duly_stream_options) of the header the program was compiled with.
    pub size: u32,
    /// 0, or DULY_STREAM_UNORDERED.
    pub flags: u32,
    /// Items that are under way or wait to be taken, at most. Default: two a worker.
    pub window: u32,
    /// Must be 0.
    pub reserved: u32,
    /// Releases an item, exactly once: after its run, or instead of it. Default: nothing to release.
    pub drop_item: duly_drop_fn,
    /// Options of each item's task; borrowed for the call only. Default: all defaults.
    pub task: *const duly_task_options,
}

// SAFETY: as the trait asks; the size below would differ if there were padding.
unsafe impl Versioned for duly_stream_options {
    const FIRST: usize = 32;
    const FLAGS: u32 = DULY_STREAM_UNORDERED;
}
const _: () = assert!(size_of::<duly_stream_options>() == 4 * 4 + 8 + 8);

/// Fills in all defaults; for languages that cannot use `DULY_STREAM_OPTIONS_INIT`. `size` is sizeof(duly_stream_options).
/// Ownership: the struct stays the caller's.
/// Thread-safety: any thread; the struct must not be in use elsewhere.
/// Blocks: never.
/// Status: OK, NULL_ARGUMENT, INVALID_ARGUMENT (a size that no version of the struct has).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_stream_options_init(options: *mut duly_stream_options, size: usize) -> duly_status {
    // SAFETY: the header asks for a struct of `size` bytes.
    checked(|| unsafe { init(options, size) })
}

/// C's next function as an iterator.
struct Pull {
    next: unsafe extern "C-unwind" fn(*mut c_void, *mut *mut c_void) -> bool,
    data: Owned,
    drop_item: duly_drop_fn,
    ended: bool,
}

impl Iterator for Pull {
    type Item = Owned;

    fn next(&mut self) -> Option<Owned> {
        if self.ended {
            return None;
        }
        let mut item = std::ptr::null_mut();
        let border = Visit::enter(&"next");
        // SAFETY: the header obliges whoever handed both in that `next` takes this user_data, on any thread.
        let more = unsafe { (self.next)(self.data.pointer(), &raw mut item) };
        border.leave();
        self.ended = !more;
        more.then(|| Owned::new(item, self.drop_item))
    }
}

/// The function of every item.
type Function = Box<dyn Fn(&Context, Owned) -> Result<Owned, Failure> + Send + Sync>;
type Stream = TaskStream<Items<Pull>, Function, Owned, Failure>;

/// The stream; null while somebody asks it.
#[derive(Debug)]
pub(crate) struct Source(AtomicPtr<Stream>);

impl Source {
    fn new(stream: Stream) -> Source {
        Source(AtomicPtr::new(Box::into_raw(Box::new(stream))))
    }

    fn take(&self) -> Option<Asked<'_>> {
        let stream = self.0.swap(std::ptr::null_mut(), Ordering::AcqRel);
        if stream.is_null() {
            return None;
        }
        // SAFETY: what is there came out of `Box::into_raw`, and whoever swaps it out owns it.
        let stream = Some(unsafe { Box::from_raw(stream) });
        Some(Asked { source: self, stream })
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Some(mut asked) = self.take() {
            drop(asked.stream.take());
        }
    }
}

/// A stream that is being asked; it goes back when this is dropped.
struct Asked<'s> {
    source: &'s Source,
    stream: Option<Box<Stream>>,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take() {
            self.source.0.store(Box::into_raw(stream), Ordering::Release);
        }
    }
}

/// Creates a stream: `run(run_data, item, call)` is called for each item that `next(next_data, &item)` gives, each as a task of
/// its own. Nothing is pulled before the first answer is asked for, and at most the window's items are under way or wait to be
/// taken, so an infinite input does no harm. `options` may be NULL: all defaults.
/// Ownership: the caller owns the stream and releases it. On OK duly owns both user_data and calls each drop (may be NULL)
/// exactly once; on any other status they stay the caller's. Options are copied.
/// Thread-safety: any thread, callbacks included.
/// Blocks: never.
/// Status: OK, INVALID_ARGUMENT (no `next`, no `run`, a completion queue), UNSUPPORTED, NULL_ARGUMENT, FOREIGN_HANDLE.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_stream_new(
    pool: *const duly_pool,
    options: *const duly_stream_options,
    next: duly_next_fn,
    next_data: *mut c_void,
    next_drop: duly_drop_fn,
    run: duly_item_fn,
    run_data: *mut c_void,
    run_drop: duly_drop_fn,
    stream: *mut *mut duly_stream,
) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a live handle and for NULL or a struct as long as its size says.
        let (pool, options) = unsafe { (handle::borrow(pool)?, read::<duly_stream_options>(options)?) };
        if stream.is_null() {
            return Err(duly_status::DULY_STATUS_NULL_ARGUMENT);
        }
        // SAFETY: the header asks for NULL or a struct as long as its size says.
        let tasks = unsafe { read_task(options.task) }?;
        let (Some(next), Some(run)) = (next, run) else {
            return Err(duly_status::DULY_STATUS_INVALID_ARGUMENT);
        };
        if options.reserved != 0 || !tasks.completions.is_null() {
            return Err(duly_status::DULY_STATUS_INVALID_ARGUMENT);
        }
        // SAFETY: what the options point to is as the header asks.
        let how = unsafe { asked(pool, &tasks) }?;
        let pull = Pull {
            next,
            data: Owned::new(next_data, next_drop),
            drop_item: options.drop_item,
            ended: false,
        };
        // Several items run at the same time: the data is only pointed to.
        let data: Arc<Shared> = Shared::new(Owned::new(run_data, run_drop));
        let function: Function = Box::new(move |context, item| {
            // SAFETY: the header obliges the caller that `run` takes this user_data and this item, on any thread.
            Call::run_by(context, |call| unsafe { run(data.pointer(), item.pointer(), call) })
        });
        let mut made = how
            .stream(pull, function)
            .ordered(options.flags & DULY_STREAM_UNORDERED == 0);
        if options.window != 0 {
            made = made.window(options.window as usize);
        }
        // SAFETY: not null; the header asks for a place to write to.
        unsafe { stream.write(handle::into_raw::<duly_stream>(Source::new(made))) };
        Ok(())
    })
}

/// The next answer, in the order of the items unless DULY_STREAM_UNORDERED was asked for: the item's task, ended already, whose
/// outcome, code, message, reason and value (`duly_task_take`) are read as those of any. NULL, with status OK: there are no
/// more. An item that the pool refuses is dropped, and its answer is that status; the next call goes on with the next item.
/// Ownership: the caller owns the task and releases it. A value that nobody takes is dropped with it.
/// Thread-safety: any thread, callbacks included, but one at a time.
/// Blocks: up to timeout_ns and as long as `next` does; 0 only looks.
/// Status: OK, TIMED_OUT (nothing is lost), the refusals of `duly_submit`, INVALID_ARGUMENT (another call is under way, perhaps
/// this one is made by `next`), NULL_ARGUMENT, FOREIGN_HANDLE.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_stream_next(
    stream: *mut duly_stream,
    timeout_ns: u64,
    task: *mut *mut duly_task,
) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a live handle.
        let source = unsafe { handle::borrow(stream) }?;
        if task.is_null() {
            return Err(duly_status::DULY_STATUS_NULL_ARGUMENT);
        }
        let mut asked = source.take().ok_or(duly_status::DULY_STATUS_INVALID_ARGUMENT)?;
        let stream = asked.stream.as_mut().ok_or(duly_status::DULY_STATUS_INVALID_ARGUMENT)?;
        let answer = if timeout_ns == DULY_FOREVER {
            stream.next()
        } else {
            let answer = stream.next_timeout(span(timeout_ns));
            answer.map_err(|_| duly_status::DULY_STATUS_TIMED_OUT)?
        };
        drop(asked);
        let ticket = match answer {
            None => std::ptr::null_mut(),
            Some(Ok(value)) => given(Settled::with(value), End::default()),
            Some(Err(StreamError::Task { error, .. })) => match End::of(error) {
                (Some(outcome), end) => given(Settled::without(outcome), end),
                (None, end) => given(Settled::without(Outcome::Abandoned), end),
            },
            // The item goes with the error.
            Some(Err(StreamError::Refused { refused, .. })) => return Err(refused.kind().into()),
            Some(Err(_)) => return Err(duly_status::DULY_STATUS_UNSUPPORTED),
        };
        // SAFETY: not null; the header asks for a place to write to.
        unsafe { task.write(ticket) };
        Ok(())
    })
}

fn given(settled: Settled, end: End) -> *mut duly_task {
    handle::into_raw::<duly_task>(Ticket::settled(settled, end, ""))
}

/// One more reference to the stream.
/// Ownership: the caller owns the new reference and releases it.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; returns the same pointer, NULL for NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_stream_retain(stream: *mut duly_stream) -> *mut duly_stream {
    // SAFETY: the header asks for a live handle.
    boundary(|| unsafe { handle::retain(stream) })
}

/// Gives one reference back. The last one cancels what is under way, with reason "caller_left", and drops the input.
/// Ownership: takes the caller's reference. NULL is fine.
/// Thread-safety: any thread, callbacks included.
/// Blocks: never, apart from the drop of items and values that nobody took.
/// Status: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_stream_release(stream: *mut duly_stream) {
    // SAFETY: the header asks for a live handle, of which the caller gives up one reference.
    boundary(|| unsafe { handle::release(stream) });
}
