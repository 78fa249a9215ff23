//! Boards: how a language whose callbacks run in threads (or lighter things) of its own learns what a pool has for it.
//!
//! A tag is the language's name for one of its callbacks; nothing else of the language crosses. What the language has to know
//! is put on its board as a notice, by whoever finds it out, and taken from there many at a time.
//!
//! Invariants:
//! 1. Each accepted tag comes back exactly once: out of `duly_worker_step`, as the argument of the board's `run`, or as
//!    DULY_NOTICE_UNRUN. A refused one never does.
//! 2. A board is never freed: tasks hold on to it by reference.

use std::ffi::c_void;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Wake, Waker};

use duly::{Context, SubmitError, Task, Threads};

use crate::boundary::{boundary, checked};
use crate::call::{Call, Failure};
use crate::foreign::{Owned, duly_run_fn};
use crate::handle::{self, Handle};
use crate::hooks::Hook;
use crate::notices::Board;
use crate::options::{duly_periodic_options, duly_pool_options, duly_task_options, read_pool, read_task};
use crate::periodic::{self, asked_every, duly_periodic};
use crate::pool::{Held, builder, duly_pool};
use crate::status::duly_status;
use crate::submit::asked;
use crate::task::duly_task;
use crate::text::from_c;
use crate::ticket::{self, Ticket};
use crate::worker::{self, duly_worker};

/// What a board's run function returns for a callback that panicked; the message set by `duly_call_set_message` says how.
pub const DULY_RUN_PANICKED: i32 = i32::MIN;

/// Somebody called `duly_board_tell`.
pub const DULY_NOTICE_TOLD: i32 = 0;
/// A pool of this board wants `worker` to be worked for, in a thread of the language; the tag is the pool's.
pub const DULY_NOTICE_WORKER: i32 = 1;
/// The task that is watched under this tag has its outcome.
pub const DULY_NOTICE_ENDED: i32 = 2;
/// The callback of this tag will never be run.
pub const DULY_NOTICE_UNRUN: i32 = 3;
/// The offer of this tag may go on: `duly_offer_again`.
pub const DULY_NOTICE_ROOM: i32 = 4;
/// There is something to do for the worker that dozes under this tag: `duly_worker_step`.
pub const DULY_NOTICE_WAKE: i32 = 5;

/// One thing to know.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct duly_notice {
    /// Whose it is; what it names depends on the kind.
    pub tag: u64,
    /// With DULY_NOTICE_WORKER: owned by whoever takes the notice. Otherwise NULL.
    pub worker: *mut duly_worker,
    /// A DULY_NOTICE_….
    pub kind: i32,
    /// 0.
    pub reserved: i32,
}

// SAFETY: a worker may be worked for on any thread.
unsafe impl Send for duly_notice {}

/// Where a language reads what pools have for it. Safe from any thread. Lives as long as the process; a forked child has to
/// make one of its own.
#[derive(Debug)]
pub struct duly_board {
    _opaque: (),
}

impl Handle for duly_board {
    type Object = Board;
    const KIND: usize = handle::kind::BOARD;
}

/// A callback of the language, until it is run or known never to be.
struct Unrun {
    board: &'static Board,
    tag: u64,
}

impl Unrun {
    fn run(self, context: &Context) -> Result<Owned, Failure> {
        let Unrun { board, tag } = self;
        std::mem::forget(self);
        if worker::hand_out(context, tag) {
            return Ok(Owned::new(std::ptr::null_mut(), None));
        }
        call(board, tag, context)
    }
}

/// Has the language run a callback on this thread.
fn call(board: &Board, tag: u64, context: &Context) -> Result<Owned, Failure> {
    let data = Owned::new(std::ptr::without_provenance_mut::<c_void>(tag as usize), None);
    match Call::run(board.run(), &data, context) {
        Err(failure) if failure.code() == DULY_RUN_PANICKED => {
            std::panic::resume_unwind(Box::new(failure.message().to_string_lossy().into_owned()))
        }
        result => result,
    }
}

impl Drop for Unrun {
    fn drop(&mut self) {
        self.board.put(DULY_NOTICE_UNRUN, self.tag, std::ptr::null_mut());
    }
}

/// # Safety
/// `board` is null or what `duly_board_new` gave.
pub(crate) unsafe fn borrow(board: *const duly_board) -> Result<&'static Board, duly_status> {
    // SAFETY: as the caller says; a board is never freed.
    unsafe { handle::borrow(board) }
}

/// Makes a board. `run(tag, call)` is called for callbacks of the language on threads that are none of its own: those of a
/// pool that another language made, and those that submit or wait. It returns as a duly_run_fn does, or DULY_RUN_PANICKED.
/// Ownership: the board lives as long as the process; make one.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: OK, NULL_ARGUMENT, INVALID_ARGUMENT (no run).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_board_new(run: duly_run_fn, board: *mut *mut duly_board) -> duly_status {
    checked(|| {
        if board.is_null() {
            return Err(duly_status::DULY_STATUS_NULL_ARGUMENT);
        }
        if run.is_none() {
            return Err(duly_status::DULY_STATUS_INVALID_ARGUMENT);
        }
        let made = Board::new(run);
        // SAFETY: not null; the header asks for a place to write to.
        unsafe { board.write(handle::into_raw::<duly_board>(made)) };
        Ok(())
    })
}

/// Takes up to `most` notices, waiting for the first one.
/// Ownership: the caller owns the workers in them.
/// Thread-safety: any thread; each notice is taken once.
/// Blocks: up to timeout_ns, until there is one.
/// Status: OK, TIMED_OUT, SHUT_DOWN (inherited by a forked child), INVALID_ARGUMENT (`most` is 0), NULL_ARGUMENT,
/// FOREIGN_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_board_take(
    board: *mut duly_board,
    timeout_ns: u64,
    notices: *mut duly_notice,
    most: usize,
    count: *mut usize,
) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a board.
        let board = unsafe { borrow(board) }?;
        if notices.is_null() || count.is_null() {
            return Err(duly_status::DULY_STATUS_NULL_ARGUMENT);
        }
        if most == 0 {
            return Err(duly_status::DULY_STATUS_INVALID_ARGUMENT);
        }
        let mut taken = 0;
        board.take(timeout_ns, &mut |notice| {
            // SAFETY: the header asks for room for `most`; fewer have been written.
            unsafe { notices.add(taken).write(notice) };
            taken += 1;
            taken < most
        })?;
        // SAFETY: not null; the header asks for a place to write to.
        unsafe { count.write(taken) };
        Ok(())
    })
}

/// Puts up a notice of the language's own, DULY_NOTICE_TOLD. On a board that a forked child inherited nothing is put up.
/// Ownership: nothing changes hands.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: OK, NULL_ARGUMENT, FOREIGN_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_board_tell(board: *mut duly_board, tag: u64) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a board.
        unsafe { borrow(board) }?.put(DULY_NOTICE_TOLD, tag, std::ptr::null_mut());
        Ok(())
    })
}

/// As `duly_pool_new`, for a pool whose workers are brought: each, replacements too, is put up as a DULY_NOTICE_WORKER with
/// `tag`. `stack_size` and the carry functions are not looked at; the hook is told within steps.
/// Ownership: the caller owns the pool and releases it.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: OK, NULL_ARGUMENT, FOREIGN_HANDLE, INVALID_ARGUMENT, UNSUPPORTED, NO_THREADS (of the timer).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_board_pool(
    board: *mut duly_board,
    options: *const duly_pool_options,
    tag: u64,
    pool: *mut *mut duly_pool,
) -> duly_status {
    checked(|| {
        if pool.is_null() {
            return Err(duly_status::DULY_STATUS_NULL_ARGUMENT);
        }
        // SAFETY: the header asks for a board, and for NULL or a struct as long as its size says.
        let (board, options) = unsafe { (borrow(board)?, read_pool(options)?) };
        // SAFETY: the header asks for NULL or a string as the name.
        let mut builder = unsafe { builder(&options)? };
        if options.threads == 0 {
            builder = builder.threads(Threads::Eager);
        }
        // SAFETY: as above.
        let name = unsafe { from_c(options.name) };
        let name = name.as_deref().unwrap_or("duly");
        let hook = Hook::new(options.hook, options.hook_data, options.hook_drop, name);
        if let Some(hook) = &hook {
            builder = Hook::attach(hook, builder);
        }
        let builder = builder.spawner(move |worker| {
            board.put(DULY_NOTICE_WORKER, tag, worker::into_raw(worker));
            Ok(())
        });
        let built = Held::new(builder.build()?);
        match &hook {
            Some(hook) => hook.keep_data(),
            None => drop(Owned::new(options.hook_data, options.hook_drop)),
        }
        // SAFETY: not null; the header asks for a place to write to.
        unsafe { pool.write(handle::into_raw::<duly_pool>(built)) };
        Ok(())
    })
}

/// What an offer's future is: it is polled by `duly_offer_again`, woken by a notice.
type Polling = Pin<Box<dyn Future<Output = Result<Task<Owned, Failure>, duly_status>> + Send>>;

/// A submit that waits for room without a thread. Owned by one; used by one thread at a time.
#[derive(Debug)]
pub struct duly_offer {
    _opaque: (),
}

struct Offer {
    future: Polling,
    waker: Waker,
}

/// Rings for one tag.
struct Bell {
    board: &'static Board,
    kind: i32,
    tag: u64,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Who says how it ended knows that.
        if self.kind != DULY_NOTICE_ENDED || !worker::is_ending(self.tag) {
            self.board.put(self.kind, self.tag, std::ptr::null_mut());
        }
    }
}

/// The one type of callback that boards submit; `worker` has to know it.
fn hosted(unrun: Unrun) -> impl FnOnce(&Context) -> Result<Owned, Failure> + Send + 'static {
    let callback = move |context: &Context| unrun.run(context);
    worker::is_mine(&callback);
    callback
}

/// Refused: the tag stays the language's.
fn refused<F: FnOnce(&Context) -> R, R>(refused: SubmitError<F>) -> duly_status {
    let status = refused.kind().into();
    std::mem::forget(refused.into_callback());
    status
}

/// Submits the callback of the language that `tag` names; `wait`: as `duly_submit`, otherwise as `duly_try_submit`.
/// Ownership: the caller owns the task and releases it. On OK the tag comes back once; otherwise never.
/// Thread-safety: any thread, callbacks included.
/// Blocks: if `wait`, as `duly_submit`; otherwise never.
/// Status: as `duly_submit`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_board_submit(
    board: *mut duly_board,
    pool: *const duly_pool,
    options: *const duly_task_options,
    tag: u64,
    wait: bool,
    task: *mut *mut duly_task,
) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for live handles, and for NULL or a struct as long as its size says.
        let (board, pool, options) = unsafe { (borrow(board)?, handle::borrow(pool)?, read_task(options)?) };
        if task.is_null() {
            return Err(duly_status::DULY_STATUS_NULL_ARGUMENT);
        }
        // SAFETY: the header asks for what the function does.
        let how = unsafe { asked(pool, &options) }?;
        let unrun = Unrun { board, tag };
        let accepted = if wait {
            how.submit(hosted(unrun))
        } else {
            how.try_submit(hosted(unrun))
        };
        let accepted = accepted.map_err(refused)?;
        // SAFETY: not null; the header asks for a place to write to.
        unsafe { task.write(handle::into_raw::<duly_task>(Ticket::new(accepted))) };
        Ok(())
    })
}

/// Submits the callback that `tag` names, or, where `duly_submit` would wait for room, gives an offer, which stands in line
/// without holding a thread: then the status is PENDING. Call `duly_offer_again` until it says something else, first at once,
/// and then after each DULY_NOTICE_ROOM for the tag.
/// Ownership: on OK the caller owns the task, on PENDING the offer; the other is not written.
/// Thread-safety: any thread, callbacks included.
/// Blocks: never.
/// Status: OK, PENDING, and as `duly_submit`; DULY_OVERFLOW_CALLER_RUNS is QUEUE_FULL.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_board_offer(
    board: *mut duly_board,
    pool: *const duly_pool,
    options: *const duly_task_options,
    tag: u64,
    task: *mut *mut duly_task,
    offer: *mut *mut duly_offer,
) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for live handles, and for NULL or a struct as long as its size says.
        let (board, pool, options) = unsafe { (borrow(board)?, handle::borrow(pool)?, read_task(options)?) };
        if offer.is_null() || task.is_null() {
            return Err(duly_status::DULY_STATUS_NULL_ARGUMENT);
        }
        // SAFETY: the header asks for what the function does.
        let how = unsafe { asked(pool, &options) }?;
        let unrun = Unrun { board, tag };
        let mut submit = how.submit_async(hosted(unrun));
        if let Poll::Ready(accepted) = Pin::new(&mut submit).poll(&mut TaskContext::from_waker(Waker::noop())) {
            let accepted = accepted.map_err(refused)?;
            // SAFETY: not null; the header asks for a place to write to.
            unsafe { task.write(handle::into_raw::<duly_task>(Ticket::new(accepted))) };
            return Ok(());
        }
        let bell = Bell {
            board,
            kind: DULY_NOTICE_ROOM,
            tag,
        };
        let made = Box::new(Offer {
            future: Box::pin(async move { submit.await.map_err(refused) }),
            waker: Waker::from(Arc::new(bell)),
        });
        // SAFETY: not null; the header asks for a place to write to.
        unsafe { offer.write(Box::into_raw(made).cast()) };
        Err(duly_status::DULY_STATUS_PENDING)
    })
}

/// Goes on with an offer. Once it is OK or refused, release it.
/// Ownership: the caller owns the task and releases it; the offer stays the caller's.
/// Thread-safety: any thread, one at a time.
/// Blocks: never.
/// Status: OK, PENDING, and as `duly_submit` when refused.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_offer_again(offer: *mut duly_offer, task: *mut *mut duly_task) -> duly_status {
    checked(|| {
        if offer.is_null() || task.is_null() {
            return Err(duly_status::DULY_STATUS_NULL_ARGUMENT);
        }
        // SAFETY: not null, made by `duly_board_offer`, and the caller's alone.
        let offer = unsafe { &mut *offer.cast::<Offer>() };
        match offer.future.as_mut().poll(&mut TaskContext::from_waker(&offer.waker)) {
            Poll::Pending => Err(duly_status::DULY_STATUS_PENDING),
            Poll::Ready(accepted) => {
                // SAFETY: not null; the header asks for a place to write to.
                unsafe { task.write(handle::into_raw::<duly_task>(Ticket::new(accepted?))) };
                Ok(())
            }
        }
    })
}

/// Gives an offer up: one that is still in line leaves it, and its tag comes back as DULY_NOTICE_UNRUN.
/// Ownership: takes the offer. NULL is fine.
/// Thread-safety: any thread, callbacks included.
/// Blocks: never.
/// Status: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_offer_release(offer: *mut duly_offer) {
    boundary(|| {
        if !offer.is_null() {
            // SAFETY: made by `duly_board_offer`, and the caller gives it up.
            drop(unsafe { Box::from_raw(offer.cast::<Offer>()) });
        }
    });
}

/// As `duly_pool_every`, of the callback that `tag` names: each run is a call of the board's `run` with it, on a worker. A
/// DULY_NOTICE_ENDED with `tag` tells that no more runs will come, if the handle is still held then, and a DULY_NOTICE_UNRUN that the
/// last one is over.
/// Ownership: on OK the caller owns the periodic task and releases it, and the tag comes back once, as DULY_NOTICE_UNRUN; otherwise
/// never.
/// Thread-safety: any thread, callbacks included.
/// Blocks: never.
/// Status: as `duly_pool_every`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_board_every(
    board: *mut duly_board,
    pool: *const duly_pool,
    options: *const duly_periodic_options,
    tag: u64,
    periodic: *mut *mut duly_periodic,
) -> duly_status {
    checked(|| {
        // SAFETY: the contract is handed on as it is.
        let (board, every) = unsafe { (borrow(board)?, asked_every(pool, options)?) };
        if periodic.is_null() {
            return Err(duly_status::DULY_STATUS_NULL_ARGUMENT);
        }
        let unrun = Unrun { board, tag };
        let begun = every.submit(move |context: &Context| -> Result<Owned, Failure> {
            let unrun = &unrun;
            call(unrun.board, unrun.tag, context)
        });
        let begun = begun.map_err(|refused| -> duly_status {
            let status = refused.kind().into();
            std::mem::forget(refused.into_callback());
            status
        })?;
        let mut watch = begun.clone();
        let bell = Arc::new(Bell {
            board,
            kind: DULY_NOTICE_ENDED,
            tag,
        });
        let waker = Waker::from(bell.clone());
        if Pin::new(&mut watch)
            .poll(&mut TaskContext::from_waker(&waker))
            .is_ready()
        {
            bell.wake_by_ref();
        }
        // SAFETY: not null; the header asks for a place to write to.
        unsafe {
            periodic.write(handle::into_raw::<duly_periodic>(periodic::Held::new(
                begun,
                Some(watch),
            )))
        };
        Ok(())
    })
}

/// Somebody on the board looks for the end of a task.
#[derive(Debug)]
pub struct duly_watch {
    _opaque: (),
}

/// Puts up a DULY_NOTICE_ENDED with `tag` when the task has its outcome, at once if it has; but not when a
/// `duly_worker_step` of the same tag decides it.
/// Ownership: the caller owns the watch and releases it; the task stays the caller's.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: OK, NULL_ARGUMENT, FOREIGN_HANDLE.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_board_watch(
    board: *mut duly_board,
    task: *const duly_task,
    tag: u64,
    watch: *mut *mut duly_watch,
) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for live handles.
        let (board, task) = unsafe { (borrow(board)?, ticket::borrow(task)?) };
        if watch.is_null() {
            return Err(duly_status::DULY_STATUS_NULL_ARGUMENT);
        }
        let mut watching = Box::new(task.task().cloned());
        let bell = Arc::new(Bell {
            board,
            kind: DULY_NOTICE_ENDED,
            tag,
        });
        // A task that has ended is not polled: that would take its value. One that was settled without a task has ended.
        let ended = (*watching).as_mut().is_none_or(|task| {
            let waker = Waker::from(bell.clone());
            task.outcome().is_some() || Pin::new(task).poll(&mut TaskContext::from_waker(&waker)).is_ready()
        });
        if ended {
            bell.wake_by_ref();
        }
        // SAFETY: not null; the header asks for a place to write to.
        unsafe { watch.write(Box::into_raw(watching).cast()) };
        Ok(())
    })
}

/// Looks for the end no more. A notice that was put up stays.
/// Ownership: takes the watch. NULL is fine.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_watch_release(watch: *mut duly_watch) {
    boundary(|| {
        if !watch.is_null() {
            // SAFETY: made by `duly_board_watch`, and the caller gives it up.
            drop(unsafe { Box::from_raw(watch.cast::<Option<Task<Owned, Failure>>>()) });
        }
    });
}
