//! Option structs: versioned by their size, every field 0 for its default.
//!
//! Invariants:
//! 1. A struct only grows at its end, ends on 8 bytes and has no padding, so that its size tells its version.
//! 2. A caller's struct is read up to its own size: what it lacks is default; what it has beyond ours must be zero.
//! 3. The size of a struct's first version is written here as a number and never changes.

use std::ffi::{c_char, c_void};
use std::mem::size_of;

use crate::carry::{duly_capture_fn, duly_enter_fn, duly_exit_fn, duly_release_fn};
use crate::completions::duly_completions;
use crate::foreign::duly_drop_fn;
use crate::hooks::duly_hook_fn;
use crate::queue::duly_queue;
use crate::status::duly_status;
use crate::token::duly_token;

/// A time-out that never passes.
pub const DULY_FOREVER: u64 = u64::MAX;
/// "None at all" in the count fields whose 0 means the default.
pub const DULY_NONE: u32 = u32::MAX;
/// A task that does not inherit the token and the remaining time of the callback that submits it.
pub const DULY_TASK_DETACHED: u32 = 1;

/// A periodic task that makes up for missed ticks as soon as that is possible, one after the other.
pub const DULY_PERIODIC_CATCH_UP: u32 = 1;
/// A periodic task whose runs may begin while others are queued or running: run may be called several times at once.
pub const DULY_PERIODIC_OVERLAP: u32 = 2;

/// No struct of any version is longer: a size beyond it is not a size.
const LONGEST: usize = 4096;

/// Options of a pool. Start from `DULY_POOL_OPTIONS_INIT` or `duly_pool_options_init` and set what should differ:
/// 0 means the default of each field. Times are nanoseconds.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct duly_pool_options {
    /// sizeof(duly_pool_options) of the header the program was compiled with.
    pub size: u32,
    /// Must be 0.
    pub flags: u32,
    /// Names the threads (the first bytes, 15 with their number) and the log lines. Copied. Default "duly".
    pub name: *const c_char,
    /// Threads that run callbacks. Default: the parallelism this process may use.
    pub workers: u32,
    /// Tasks that may be queued. Default 1024.
    pub capacity: u32,
    /// Producers that may wait for room; DULY_NONE for none. Default: as capacity.
    pub max_blocked_producers: u32,
    /// Threads that may replace workers stuck in overdue callbacks; DULY_NONE for none. Default: as workers.
    pub max_replacements: u32,
    /// A duly_overflow. Default: block.
    pub overflow: i32,
    /// A duly_threads. Default: eager.
    pub threads: i32,
    /// How long a task is overdue before its worker is replaced. Default 100 ms.
    pub replace_after_ns: u64,
    /// The time-out of every task that names none. Default: none. Set one.
    pub default_timeout_ns: u64,
    /// How long a pool whose last handle was released drains in the background. Default 10 s.
    pub drop_drain_ns: u64,
    /// Stack of a worker in bytes. Default 2 MiB.
    pub stack_size: u64,
    /// Is told what happens: a worker starts or stops, a callback is late, the pool is stalled, a failure is unobserved.
    pub hook: duly_hook_fn,
    /// Handed to hook. The pool's once duly_pool_new has returned OK.
    pub hook_data: *mut c_void,
    /// Releases hook_data (may be NULL), once, after the last call of hook.
    pub hook_drop: duly_drop_fn,
    /// Captures context (a span, a request's number) of the thread that submits a task. Default: nothing is carried.
    pub carry_capture: duly_capture_fn,
    /// Enters it on the thread that runs the callback, before it. May be NULL.
    pub carry_enter: duly_enter_fn,
    /// Leaves it, after the callback. May be NULL.
    pub carry_exit: duly_exit_fn,
    /// Releases what was captured. May be NULL.
    pub carry_release: duly_release_fn,
    /// Handed to the carry functions. The pool's once duly_pool_new has returned OK.
    pub carry_data: *mut c_void,
    /// Releases carry_data (may be NULL), once, after the last call of a carry function.
    pub carry_drop: duly_drop_fn,
}

/// Options of a task. Start from `DULY_TASK_OPTIONS_INIT` or `duly_task_options_init` and set what should differ:
/// 0 means the default of each field. Times are nanoseconds.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct duly_task_options {
    /// sizeof(duly_task_options) of the header the program was compiled with.
    pub size: u32,
    /// 0, or DULY_TASK_DETACHED.
    pub flags: u32,
    /// Names the task in reports. Copied; bytes that are not UTF-8 are shown as U+FFFD. Default: none.
    pub label: *const c_char,
    /// From the call of submit to the outcome, waiting for room and in the queue included. Default: the pool's
    /// default_timeout_ns; DULY_FOREVER for no deadline of its own.
    pub timeout_ns: u64,
    /// How long duly_submit may wait for room. Default: until there is room.
    pub submit_timeout_ns: u64,
    /// Cancels the task when it is cancelled; borrowed for the call only. Default: none but what is inherited.
    pub token: *const duly_token,
    /// The queue of this pool that the task goes into; borrowed for the call only. Default: the pool's own.
    pub queue: *const duly_queue,
    /// The task is one of those with these bytes as their key: of them at most the queue's key_limit run at the same time,
    /// and keys take turns. Copied. Default: no key.
    pub key: *const c_void,
    /// How many bytes the key has.
    pub key_size: usize,
    /// The task is accepted now and started when this has passed, not earlier. Default: at once.
    pub delay_ns: u64,
    /// Where the task is put when it has ended; a place for it is taken now. Default: nowhere.
    pub completions: *mut duly_completions,
    /// What its completion carries: any number of the caller's.
    pub tag: u64,
    /// Where it is submitted, for messages and leaks: DULY_HERE. Copied. Default: not known.
    pub submitted_at: *const c_char,
    /// A duly_overflow: what this submit does when the queue is full. Default: as the queue does.
    pub overflow: i32,
    /// Must be 0.
    pub reserved: u32,
}

/// Options of a queue. Start from `DULY_QUEUE_OPTIONS_INIT` or `duly_queue_options_init` and set what should differ:
/// 0 means the default of each field.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct duly_queue_options {
    /// sizeof(duly_queue_options) of the header the program was compiled with.
    pub size: u32,
    /// Must be 0.
    pub flags: u32,
    /// Names the queue in messages. Copied. Default: "".
    pub name: *const c_char,
    /// Tasks that may be queued. Default 1024.
    pub capacity: u32,
    /// Producers that may wait for room; DULY_NONE for none. Default: as capacity.
    pub max_blocked_producers: u32,
    /// A duly_overflow. Default: block.
    pub overflow: i32,
    /// How many of its tasks are started before it is the next queue's turn. Default 1.
    pub weight: u32,
    /// How many of its callbacks may run at the same time. Default: as many as there are workers.
    pub limit: u32,
    /// How many callbacks of tasks with the same key may run at the same time; with 1 they run one after the other, in the
    /// order in which they were submitted. Default: no limit; keys still take turns.
    pub key_limit: u32,
    /// How many tasks of the same key may be queued: one more meets the overflow policy. Default: as many as there is room.
    pub key_capacity: u32,
    /// Must be 0.
    pub reserved: u32,
}

/// Options of a periodic task. Start from `DULY_PERIODIC_OPTIONS_INIT` or `duly_periodic_options_init` and set what should
/// differ: 0 means the default of each field. Times are nanoseconds.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct duly_periodic_options {
    /// sizeof(duly_periodic_options) of the header the program was compiled with.
    pub size: u32,
    /// 0, or DULY_PERIODIC_CATCH_UP and DULY_PERIODIC_OVERLAP.
    pub flags: u32,
    /// From one tick to the next; must be set.
    pub period_ns: u64,
    /// Each run begins up to so much after its tick, at random; less than the period. Default: none.
    pub jitter_ns: u64,
    /// Ends it after so many failures in a row. Default: failures end nothing.
    pub max_failures: u64,
    /// The options of each run, borrowed for the call only: label, timeout_ns, token, queue, key, overflow; delay_ns is that of
    /// the first. NULL: all defaults.
    pub task: *const duly_task_options,
}

/// # Safety
/// The type is `repr(C)`, made of integers, raw pointers and nullable functions only (all bytes zero is a value), without padding, and
/// starts with `u32 size; u32 flags`.
pub(crate) unsafe trait Versioned: Copy {
    /// Size of the first version: frozen.
    const FIRST: usize;
    /// The flags this version knows.
    const FLAGS: u32;
}

// SAFETY: as the trait asks; the sizes below would differ if there were padding.
unsafe impl Versioned for duly_pool_options {
    const FIRST: usize = 72;
    const FLAGS: u32 = 0;
}
// SAFETY: as above.
unsafe impl Versioned for duly_task_options {
    const FIRST: usize = 32;
    const FLAGS: u32 = DULY_TASK_DETACHED;
}
// SAFETY: as above.
unsafe impl Versioned for duly_periodic_options {
    const FIRST: usize = 40;
    const FLAGS: u32 = DULY_PERIODIC_CATCH_UP | DULY_PERIODIC_OVERLAP;
}
// SAFETY: as above.
unsafe impl Versioned for duly_queue_options {
    const FIRST: usize = 48;
    const FLAGS: u32 = 0;
}
const _: () = {
    assert!(size_of::<duly_queue_options>() == 4 + 4 + 8 + 8 * 4);
    assert!(size_of::<duly_pool_options>() == 4 + 4 + 8 + 6 * 4 + 4 * 8 + 9 * 8);
    assert!(size_of::<duly_periodic_options>() == 4 + 4 + 4 * 8);
    assert!(size_of::<duly_task_options>() == 4 + 4 + 8 + 2 * 8 + 8 * 8 + 2 * 4);
};

/// A copy of the caller's options in this version's shape; NULL is all defaults.
///
/// # Safety
/// `options` is null or points to as many readable bytes as its first word says, at least 8.
#[inline(always)]
pub(crate) unsafe fn read<T: Versioned>(options: *const T) -> Result<T, duly_status> {
    // SAFETY: all bytes zero is a value of `T` by the trait's contract.
    let zeroed = || -> T { unsafe { std::mem::zeroed() } };
    if options.is_null() {
        return Ok(zeroed());
    }
    let bytes = options.cast::<u8>();
    // SAFETY: at least 8 bytes are readable; nothing is said about their alignment.
    let (size, flags) = unsafe {
        let words = bytes.cast::<u32>();
        (words.read_unaligned() as usize, words.add(1).read_unaligned())
    };
    if !(T::FIRST..=LONGEST).contains(&size) {
        return Err(duly_status::DULY_STATUS_INVALID_ARGUMENT);
    }
    if flags & !T::FLAGS != 0 {
        return Err(duly_status::DULY_STATUS_UNSUPPORTED);
    }
    let ours = size_of::<T>();
    if size == ours {
        // The caller was compiled against this very version, as most are.
        // SAFETY: `size` bytes are readable by this function's contract, and any bytes are a value.
        return Ok(unsafe { options.read_unaligned() });
    }
    let mut known = zeroed();
    // SAFETY: `size` bytes are readable by this function's contract; `known` is `ours` bytes long and plain data.
    unsafe {
        std::ptr::copy_nonoverlapping(bytes, (&raw mut known).cast::<u8>(), size.min(ours));
        for beyond in ours..size {
            if bytes.add(beyond).read() != 0 {
                return Err(duly_status::DULY_STATUS_UNSUPPORTED);
            }
        }
    }
    Ok(known)
}

/// All defaults, in as many bytes as the caller's version has.
///
/// # Safety
/// `options` is null or valid for writes of `size` bytes.
pub(crate) unsafe fn init<T: Versioned>(options: *mut T, size: usize) -> Result<(), duly_status> {
    if options.is_null() {
        return Err(duly_status::DULY_STATUS_NULL_ARGUMENT);
    }
    if !(T::FIRST..=LONGEST).contains(&size) {
        return Err(duly_status::DULY_STATUS_INVALID_ARGUMENT);
    }
    // SAFETY: `size` bytes are writable by this function's contract, and at most LONGEST, so the cast keeps the value.
    unsafe {
        options.cast::<u8>().write_bytes(0, size);
        options.cast::<u32>().write_unaligned(size as u32);
    }
    Ok(())
}

/// # Safety
/// As [`read`].
pub(crate) unsafe fn read_pool(options: *const duly_pool_options) -> Result<duly_pool_options, duly_status> {
    // SAFETY: the caller's contract is the same.
    unsafe { read(options) }
}

/// # Safety
/// As [`read`].
#[inline(always)]
pub(crate) unsafe fn read_task(options: *const duly_task_options) -> Result<duly_task_options, duly_status> {
    // SAFETY: the caller's contract is the same.
    unsafe { read(options) }
}

/// # Safety
/// As [`read`].
pub(crate) unsafe fn read_periodic(
    options: *const duly_periodic_options,
) -> Result<duly_periodic_options, duly_status> {
    // SAFETY: the caller's contract is the same.
    unsafe { read(options) }
}

/// # Safety
/// As [`read`].
pub(crate) unsafe fn read_queue(options: *const duly_queue_options) -> Result<duly_queue_options, duly_status> {
    // SAFETY: the caller's contract is the same.
    unsafe { read(options) }
}

/// Fills in all defaults; for languages that cannot use `DULY_POOL_OPTIONS_INIT`. `size` is sizeof(duly_pool_options).
/// Ownership: the struct stays the caller's.
/// Thread-safety: any thread; the struct must not be in use elsewhere.
/// Blocks: never.
/// Status: OK, NULL_ARGUMENT, INVALID_ARGUMENT (a size that no version of the struct has).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_pool_options_init(options: *mut duly_pool_options, size: usize) -> duly_status {
    // SAFETY: the header asks for a struct of `size` bytes.
    crate::boundary::checked(|| unsafe { init(options, size) })
}

/// Fills in all defaults; for languages that cannot use `DULY_TASK_OPTIONS_INIT`. `size` is sizeof(duly_task_options).
/// Ownership: the struct stays the caller's.
/// Thread-safety: any thread; the struct must not be in use elsewhere.
/// Blocks: never.
/// Status: OK, NULL_ARGUMENT, INVALID_ARGUMENT (a size that no version of the struct has).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_task_options_init(options: *mut duly_task_options, size: usize) -> duly_status {
    // SAFETY: the header asks for a struct of `size` bytes.
    crate::boundary::checked(|| unsafe { init(options, size) })
}

/// Fills in all defaults; for languages that cannot use `DULY_QUEUE_OPTIONS_INIT`. `size` is sizeof(duly_queue_options).
/// Ownership: the struct stays the caller's.
/// Thread-safety: any thread; the struct must not be in use elsewhere.
/// Blocks: never.
/// Status: OK, NULL_ARGUMENT, INVALID_ARGUMENT (a size that no version of the struct has).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_queue_options_init(options: *mut duly_queue_options, size: usize) -> duly_status {
    // SAFETY: the header asks for a struct of `size` bytes.
    crate::boundary::checked(|| unsafe { init(options, size) })
}

/// Fills in all defaults; for languages that cannot use `DULY_PERIODIC_OPTIONS_INIT`. `size` is
/// sizeof(duly_periodic_options).
/// Ownership: the struct stays the caller's.
/// Thread-safety: any thread; the struct must not be in use elsewhere.
/// Blocks: never.
/// Status: OK, NULL_ARGUMENT, INVALID_ARGUMENT (a size that no version of the struct has).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_periodic_options_init(options: *mut duly_periodic_options, size: usize) -> duly_status {
    // SAFETY: the header asks for a struct of `size` bytes.
    crate::boundary::checked(|| unsafe { init(options, size) })
}
