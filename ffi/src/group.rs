//! Groups: tasks that belong together. The first that fails cancels the rest; one wait is for all.
//!
//! Invariants:
//! 1. The core takes a member's failure for the group's result, so the callback leaves a copy for the member's own handle.
//! 2. The last release cancels what is under way, unless the group was detached or a wait has seen its end.

use std::ffi::{CStr, CString, c_char, c_void};
use std::mem::size_of;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use duly::{CancelReason, Context, Group, GroupError, Outcome, Pool};

use crate::boundary::{boundary, checked};
use crate::call::{Call, Failure};
use crate::foreign::{Owned, duly_drop_fn, duly_run_fn};
use crate::handle::{self, Handle};
use crate::options::{DULY_FOREVER, DULY_NONE, Versioned, duly_task_options, init, read, read_task};
use crate::pool::duly_pool;
use crate::settled::Settled;
use crate::status::{duly_outcome, duly_status};
use crate::submit::{accept, ask_ahead};
use crate::task::{duly_task, span};
use crate::text::{from_c, to_c, view};
use crate::ticket::{End, Kept, Ticket};
use crate::token::duly_token;

/// Tasks that belong together. Refcounted; safe from any thread. Holds a reference of its pool. The last release cancels what
/// is under way, unless the group was detached or a wait has seen its end.
#[derive(Debug)]
pub struct duly_group {
    _opaque: (),
}

impl Handle for duly_group {
    type Object = Bundle;
    const KIND: usize = handle::kind::GROUP;
}

/// A member that fails cancels nobody.
pub const DULY_GROUP_GO_ON: u32 = 1;

/// Options of a group. Start from `DULY_GROUP_OPTIONS_INIT` or `duly_group_options_init` and set what should differ:
/// 0 means the default of each field. Times are nanoseconds.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct duly_group_options {
    /// sizeof(duly_group_options) of the header the program was compiled with.
    pub size: u32,
    /// 0, or DULY_GROUP_GO_ON: a member that fails cancels nobody.
    pub flags: u32,
    /// Names the group in messages. Copied. Default "group".
    pub label: *const c_char,
    /// Members that may be under way at the same time. Default: as many as the pool's queue holds.
    pub limit: u32,
    /// Errors that the result keeps, the first ones; DULY_NONE for none. Default: all.
    pub keep_errors: u32,
    /// Every member must have its outcome within this, counted from the making of the group. Default: none.
    pub timeout_ns: u64,
    /// The group's own token is a child of this one; borrowed for the call only. Default: none but what is inherited.
    pub token: *const duly_token,
}

// SAFETY: as the trait asks; the size below would differ if there were padding.
unsafe impl Versioned for duly_group_options {
    const FIRST: usize = 40;
    const FLAGS: u32 = DULY_GROUP_GO_ON;
}
const _: () = assert!(size_of::<duly_group_options>() == 4 + 4 + 8 + 2 * 4 + 8 + 8);

/// Fills in all defaults; for languages that cannot use `DULY_GROUP_OPTIONS_INIT`. `size` is sizeof(duly_group_options).
/// Ownership: the struct stays the caller's.
/// Thread-safety: any thread; the struct must not be in use elsewhere.
/// Blocks: never.
/// Status: OK, NULL_ARGUMENT, INVALID_ARGUMENT (a size that no version of the struct has).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_group_options_init(options: *mut duly_group_options, size: usize) -> duly_status {
    // SAFETY: the header asks for a struct of `size` bytes.
    checked(|| unsafe { init(options, size) })
}

#[derive(Debug)]
pub(crate) struct Bundle {
    group: Group<Owned, Failure>,
    pool: Pool,
    /// The last release cancels nothing.
    detached: AtomicBool,
}

impl Drop for Bundle {
    fn drop(&mut self) {
        if !self.detached.load(Ordering::Relaxed) {
            self.group.cancel_with(CancelReason::Dropped);
        }
    }
}

/// What a wait for a group found. Immutable; refcounted; safe from any thread.
#[derive(Debug)]
pub struct duly_group_result {
    _opaque: (),
}

impl Handle for duly_group_result {
    type Object = Found;
    const KIND: usize = handle::kind::GROUP_RESULT;
}

#[derive(Debug)]
pub(crate) struct Found {
    counts: [u64; Outcome::ALL.len()],
    cancelled_by_group: u64,
    errors: Vec<(usize, handle::Kept<duly_task>)>,
    text: CString,
}

impl Found {
    fn new(group: &Group<Owned, Failure>, end: Result<(), GroupError<Failure>>) -> Found {
        let mut found = Found {
            counts: Outcome::ALL.map(|outcome| group.count(outcome)),
            cancelled_by_group: 0,
            errors: Vec::new(),
            text: CString::default(),
        };
        if let Err(error) = end {
            found.text = to_c(&error.to_string());
            found.counts = Outcome::ALL.map(|outcome| error.count(outcome));
            found.cancelled_by_group = error.cancelled_by_group();
            for member in error.into_errors() {
                let (index, label) = (member.index(), member.name().label().unwrap_or_default().to_owned());
                // One that somebody else has taken has nothing more to say.
                if let (Some(outcome), end) = End::of(member.into_error()) {
                    let ticket = Ticket::settled(Settled::without(outcome), end, &label);
                    found.errors.push((index, handle::keep::<duly_task>(ticket)));
                }
            }
        }
        found
    }
}

/// Creates a group whose members go to this pool. `options` may be NULL: all defaults.
/// Ownership: the caller owns the group and releases it; options are copied. The group holds a reference of the pool.
/// Thread-safety: any thread, callbacks included: then the group stands under the callback's token and deadline.
/// Blocks: never.
/// Status: OK, INVALID_ARGUMENT, UNSUPPORTED, NULL_ARGUMENT, FOREIGN_HANDLE.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_group_new(
    pool: *const duly_pool,
    options: *const duly_group_options,
    group: *mut *mut duly_group,
) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a live handle and for NULL or a struct as long as its size says.
        let (pool, options) = unsafe { (handle::borrow(pool)?, read::<duly_group_options>(options)?) };
        if group.is_null() {
            return Err(duly_status::DULY_STATUS_NULL_ARGUMENT);
        }
        let mut members = pool.options();
        if !options.token.is_null() {
            // SAFETY: the header asks for NULL or a live handle.
            members = members.token(unsafe { handle::borrow(options.token) }?.token());
        }
        let mut builder = Group::builder(pool).options(&members).detach_on_drop();
        // SAFETY: the header asks for NULL or a NUL-terminated string.
        if let Some(label) = unsafe { from_c(options.label) } {
            builder = builder.label(label.into_owned());
        }
        if options.limit != 0 {
            builder = builder.limit(options.limit as usize);
        }
        if options.keep_errors != 0 {
            let none = options.keep_errors == DULY_NONE;
            builder = builder.keep_errors(if none { 0 } else { options.keep_errors as usize });
        }
        if options.timeout_ns != 0 && options.timeout_ns != DULY_FOREVER {
            builder = builder.timeout(Duration::from_nanos(options.timeout_ns));
        }
        let bundle = Bundle {
            group: builder.fail_fast(options.flags & DULY_GROUP_GO_ON == 0).build(),
            pool: (**pool).clone(),
            detached: AtomicBool::new(false),
        };
        // SAFETY: not null; the header asks for a place to write to.
        unsafe { group.write(handle::into_raw::<duly_group>(bundle)) };
        Ok(())
    })
}

/// Both ways to submit differ in one verb.
///
/// # Safety
/// As `duly_group_submit` in the header.
unsafe fn submit(
    group: *const duly_group,
    options: *const duly_task_options,
    run: duly_run_fn,
    data: (*mut c_void, duly_drop_fn),
    task: *mut *mut duly_task,
    wait: bool,
) -> Result<(), duly_status> {
    // SAFETY: the header asks for a live handle and for NULL or a struct as long as its size says.
    let (bundle, options) = unsafe { (handle::borrow(group)?, read_task(options)?) };
    if run.is_none() {
        return Err(duly_status::DULY_STATUS_INVALID_ARGUMENT);
    }
    let kept: Kept = Arc::new(OnceLock::new());
    let mut how = bundle.pool.options();
    // SAFETY: the header asks for what the function does.
    let ticket = unsafe { ask_ahead(&bundle.pool, &options, Some(&kept), &mut how) }?;
    let (data, copy) = (Owned::new(data.0, data.1), kept.clone());
    let callback = move |context: &Context| -> Result<Owned, Failure> {
        let data = data;
        Call::run(run, &data, context).inspect_err(|failure| {
            let _ = copy.set(failure.clone());
        })
    };
    let members = bundle.group.with(&how);
    let accepted = if wait {
        members.submit(callback)
    } else {
        members.try_submit(callback)
    };
    match accepted {
        Ok(accepted) => {
            if !task.is_null() {
                // SAFETY: not null; the header asks for a place to write to.
                unsafe { task.write(accept(accepted, ticket)) };
            }
            Ok(())
        }
        Err(refused) => {
            let status = refused.kind().into();
            // Refused: user_data is the caller's again.
            std::mem::forget(refused.into_callback());
            // SAFETY: the closure, which was forgotten just now, held this count, and nothing else but the data.
            unsafe { Arc::decrement_strong_count(Arc::as_ptr(&kept)) };
            Err(status)
        }
    }
}

/// Submits a member. As `duly_submit`, under the group's token: the options' own is not looked at. Waits while as many members
/// as the group's limit allows are under way, then for room.
/// Ownership: as `duly_submit`. Releasing the task changes nothing for the group; `task` may be NULL.
/// Thread-safety: any thread, callbacks and members included.
/// Blocks: while the group or the queue is full, at most submit_timeout_ns and the task's own time-out.
/// Status: as `duly_submit`; CANCELLED: the group has failed, was cancelled, or a wait has seen its end.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_group_submit(
    group: *const duly_group,
    options: *const duly_task_options,
    run: duly_run_fn,
    user_data: *mut c_void,
    drop: duly_drop_fn,
    task: *mut *mut duly_task,
) -> duly_status {
    // SAFETY: the contract is handed on as it is.
    checked(|| unsafe { submit(group, options, run, (user_data, drop), task, true) })
}

/// As `duly_group_submit`, but never waits: a full group is QUEUE_FULL, as is a full queue.
/// Ownership: as `duly_group_submit`.
/// Thread-safety: any thread, callbacks and members included.
/// Blocks: never.
/// Status: as `duly_group_submit`, without SUBMIT_TIMED_OUT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_group_try_submit(
    group: *const duly_group,
    options: *const duly_task_options,
    run: duly_run_fn,
    user_data: *mut c_void,
    drop: duly_drop_fn,
    task: *mut *mut duly_task,
) -> duly_status {
    // SAFETY: the contract is handed on as it is.
    checked(|| unsafe { submit(group, options, run, (user_data, drop), task, false) })
}

/// Waits until no member is under way, at most `timeout_ns`. From then on no more are accepted. `result` may be NULL; whether
/// all succeeded is in it: `duly_group_result_succeeded`.
/// Ownership: the caller owns the result and releases it. The errors are in that of the first wait that sees the end.
/// Thread-safety: any thread, callbacks included.
/// Blocks: up to timeout_ns; 0 only looks.
/// Status: OK (the group has ended, however), TIMED_OUT (it goes on), WOULD_DEADLOCK (inside a callback, with DULY_FOREVER:
/// this wait could never end; the group goes on), NULL_ARGUMENT, FOREIGN_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_group_wait(
    group: *const duly_group,
    timeout_ns: u64,
    result: *mut *mut duly_group_result,
) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a live handle.
        let bundle = unsafe { handle::borrow(group) }?;
        let end = if timeout_ns == DULY_FOREVER {
            bundle.group.wait()
        } else {
            let end = bundle.group.wait_timeout(span(timeout_ns));
            end.ok_or(duly_status::DULY_STATUS_TIMED_OUT)?
        };
        if end.as_ref().is_err_and(|error| error.deadlock().is_some()) {
            return Err(duly_status::DULY_STATUS_WOULD_DEADLOCK);
        }
        bundle.detached.store(true, Ordering::Relaxed);
        if !result.is_null() {
            let found = Found::new(&bundle.group, end);
            // SAFETY: not null; the header asks for a place to write to.
            unsafe { result.write(handle::into_raw::<duly_group_result>(found)) };
        }
        Ok(())
    })
}

/// Cancels every member that has no outcome, with `reason` (NULL: "requested"); no more are accepted.
/// Ownership: `reason` is copied; the group stays the caller's.
/// Thread-safety: any thread, callbacks and members included.
/// Blocks: never, apart from the drop of user_data of members that never ran.
/// Status: OK (also when it was cancelled before), NULL_ARGUMENT (no group), FOREIGN_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_group_cancel(group: *mut duly_group, reason: *const c_char) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a live handle and NULL or a NUL-terminated string.
        let (bundle, reason) = unsafe { (handle::borrow(group)?, from_c(reason)) };
        match reason {
            Some(reason) => bundle.group.cancel_with(CancelReason::from(&*reason)),
            None => bundle.group.cancel(),
        }
        Ok(())
    })
}

/// From now on the last release of the group cancels nothing.
/// Ownership: the group stays the caller's, who still releases it.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: OK, NULL_ARGUMENT, FOREIGN_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_group_detach(group: *mut duly_group) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a live handle.
        let bundle = unsafe { handle::borrow(group) }?;
        bundle.detached.store(true, Ordering::Relaxed);
        Ok(())
    })
}

/// One more reference to the group.
/// Ownership: the caller owns the new reference and releases it.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; returns the same pointer, NULL for NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_group_retain(group: *mut duly_group) -> *mut duly_group {
    // SAFETY: the header asks for a live handle.
    boundary(|| unsafe { handle::retain(group) })
}

/// Gives one reference back. The last one cancels the members that are under way, unless the group was detached or a wait has
/// seen its end.
/// Ownership: takes the caller's reference. NULL is fine.
/// Thread-safety: any thread, callbacks and members included.
/// Blocks: never, apart from the drop of user_data of members that never ran.
/// Status: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_group_release(group: *mut duly_group) {
    // SAFETY: the header asks for a live handle, of which the caller gives up one reference.
    boundary(|| unsafe { handle::release(group) });
}

/// True when every member succeeded.
/// Ownership: the result stays the caller's.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; false for NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_group_result_succeeded(result: *const duly_group_result) -> bool {
    boundary(|| {
        // SAFETY: the header asks for a live handle.
        unsafe { handle::borrow(result) }.is_ok_and(|found| found.counts[1..].iter().all(|count| *count == 0))
    })
}

/// How many members ended with this duly_outcome.
/// Ownership: the result stays the caller's.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; 0 for another number, NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_group_result_count(result: *const duly_group_result, outcome: i32) -> u64 {
    boundary(|| {
        let place = Outcome::ALL
            .iter()
            .position(|known| duly_outcome::from(*known) as i32 == outcome);
        // SAFETY: the header asks for a live handle.
        let found = unsafe { handle::borrow(result) };
        found.ok().zip(place).map_or(0, |(found, place)| found.counts[place])
    })
}

/// How many of the cancelled members the group itself cancelled, because another had failed. They are not among the errors.
/// Ownership: the result stays the caller's.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; 0 for NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_group_result_cancelled_by_group(result: *const duly_group_result) -> u64 {
    // SAFETY: the header asks for a live handle.
    boundary(|| unsafe { handle::borrow(result) }.map_or(0, |found| found.cancelled_by_group))
}

/// How many errors are in the result, in the order in which the members ended: the first is what made the group fail.
/// Ownership: the result stays the caller's.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; 0 for NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_group_result_error_count(result: *const duly_group_result) -> usize {
    // SAFETY: the header asks for a live handle.
    boundary(|| unsafe { handle::borrow(result) }.map_or(0, |found| found.errors.len()))
}

/// The error `index` (0 to count - 1) as an ended task: its outcome, code, message, reason and label are read as those of any.
/// It is not the member's own handle. `member` (may be NULL) is the how-manieth submit that was, from 0.
/// Ownership: the task is borrowed: it belongs to the result and lives until its last release; retain it to keep it.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; NULL if there is no such error, for NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_group_result_error(
    result: *const duly_group_result,
    index: usize,
    member: *mut usize,
) -> *mut duly_task {
    boundary(|| {
        // SAFETY: the header asks for a live handle.
        let error = unsafe { handle::borrow(result) }
            .ok()
            .and_then(|found| found.errors.get(index));
        let Some((number, task)) = error else {
            return std::ptr::null_mut();
        };
        // SAFETY: the header asks for NULL or a place to write to.
        unsafe { handle::write_if_wanted(member, *number) };
        task.lend::<duly_task>()
    })
}

/// All errors as text for people.
/// Ownership: a view owned by the result, never NULL; valid until its last release.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; "" if all succeeded, for NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_group_result_text(result: *const duly_group_result) -> *const c_char {
    view(boundary(|| -> &CStr {
        // SAFETY: the header asks for a live handle.
        unsafe { handle::borrow(result) }.map_or(c"", |found| &found.text)
    }))
}

/// One more reference to the result.
/// Ownership: the caller owns the new reference and releases it.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; returns the same pointer, NULL for NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_group_result_retain(result: *mut duly_group_result) -> *mut duly_group_result {
    // SAFETY: the header asks for a live handle.
    boundary(|| unsafe { handle::retain(result) })
}

/// Gives one reference back; the last one frees the result, its errors and its views.
/// Ownership: takes the caller's reference. NULL is fine.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_group_result_release(result: *mut duly_group_result) {
    // SAFETY: the header asks for a live handle, of which the caller gives up one reference.
    boundary(|| unsafe { handle::release(result) });
}
