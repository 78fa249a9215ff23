//! Single flight: callers that want the same key at the same time share one run.
//!
//! Invariants:
//! 1. user_data of a caller that is not OK is the caller's again: what the core drops unused while the call is under way comes
//!    back here first.
//! 2. The value of a run has as many owners as answers were given: it is dropped with the last of them.

use std::ffi::c_void;
use std::mem::size_of;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use duly::{Context, FlightError, Outcome, SingleFlight};

use crate::boundary::{boundary, checked};
use crate::call::{Call, Failure};
use crate::foreign::{Owned, duly_drop_fn, duly_run_fn};
use crate::handle::{self, Handle};
use crate::options::{DULY_FOREVER, DULY_NONE, Versioned, duly_task_options, init, read, read_task};
use crate::pool::duly_pool;
use crate::settled::{Settled, Shared};
use crate::status::duly_status;
use crate::submit::asked;
use crate::task::duly_task;
use crate::ticket::{self, End, Ticket};

/// One run a key: callers that come while it is under way get its answer. Refcounted; safe from any thread.
#[derive(Debug)]
pub struct duly_flight {
    _opaque: (),
}

impl Handle for duly_flight {
    type Object = SingleFlight<Box<[u8]>, Arc<Shared>, Failure>;
    const KIND: usize = handle::kind::FLIGHT;
}

/// user_data that comes back when it was not used while somebody waits for it.
struct Lent {
    data: Option<Owned>,
    back: Weak<Mutex<Option<Owned>>>,
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (Some(data), Some(back)) = (self.data.take(), self.back.upgrade()) {
            *back.lock().unwrap_or_else(PoisonError::into_inner) = Some(data);
        }
    }
}

/// A run that fails is followed by another, too, instead of being the answer.
pub const DULY_FLIGHT_RETRY_FAILED: u32 = 1;

/// Options of a single flight. Start from `DULY_FLIGHT_OPTIONS_INIT` or `duly_flight_options_init` and set what should differ:
/// 0 means the default of each field.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct duly_flight_options {
    /// sizeof(duly_flight_options) of the header the program was compiled with.
    pub size: u32,
    /// 0, or DULY_FLIGHT_RETRY_FAILED.
    pub flags: u32,
    /// How often a run that ended badly is followed by another; DULY_NONE for never. Default 3.
    pub handovers: u32,
    /// Must be 0.
    pub reserved: u32,
    /// Options of each run: label, time-out, token, queue, …; borrowed for the call only. Default: all defaults.
    pub run: *const duly_task_options,
}

// SAFETY: as the trait asks; the size below would differ if there were padding.
unsafe impl Versioned for duly_flight_options {
    const FIRST: usize = 24;
    const FLAGS: u32 = DULY_FLIGHT_RETRY_FAILED;
}
const _: () = assert!(size_of::<duly_flight_options>() == 4 * 4 + 8);

/// Fills in all defaults; for languages that cannot use `DULY_FLIGHT_OPTIONS_INIT`. `size` is sizeof(duly_flight_options).
/// Ownership: the struct stays the caller's.
/// Thread-safety: any thread; the struct must not be in use elsewhere.
/// Blocks: never.
/// Status: OK, NULL_ARGUMENT, INVALID_ARGUMENT (a size that no version of the struct has).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_flight_options_init(options: *mut duly_flight_options, size: usize) -> duly_status {
    // SAFETY: the header asks for a struct of `size` bytes.
    checked(|| unsafe { init(options, size) })
}

/// Creates a single flight whose runs go to this pool. `options` may be NULL: all defaults. A run that panics, is cancelled, shed
/// or late is followed by another, with the callback of a caller that is still there; a run that fails is an answer.
/// Ownership: the caller owns the flight and releases it; options are copied, and the pool stays the caller's.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: OK, INVALID_ARGUMENT (a completion queue: answers go to the callers), UNSUPPORTED, NULL_ARGUMENT, FOREIGN_HANDLE.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_flight_new(
    pool: *const duly_pool,
    options: *const duly_flight_options,
    flight: *mut *mut duly_flight,
) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a live handle and for NULL or a struct as long as its size says.
        let (pool, options) = unsafe { (handle::borrow(pool)?, read::<duly_flight_options>(options)?) };
        if flight.is_null() {
            return Err(duly_status::DULY_STATUS_NULL_ARGUMENT);
        }
        // SAFETY: the header asks for NULL or a struct as long as its size says.
        let each = unsafe { read_task(options.run) }?;
        if options.reserved != 0 || !each.completions.is_null() {
            return Err(duly_status::DULY_STATUS_INVALID_ARGUMENT);
        }
        // SAFETY: what the options point to is as the header asks.
        let runs = unsafe { asked(pool, &each) }?;
        let mut made = SingleFlight::with(&runs).retry_failed(options.flags & DULY_FLIGHT_RETRY_FAILED != 0);
        if options.handovers != 0 {
            let never = options.handovers == DULY_NONE;
            made = made.handovers(if never { 0 } else { options.handovers as usize });
        }
        // SAFETY: not null; the header asks for a place to write to.
        unsafe { flight.write(handle::into_raw::<duly_flight>(made)) };
        Ok(())
    })
}

/// Waits for the answer of this key; starts a run with `run` if none is under way. `task` is the answer, ended already: its
/// outcome, code, message and reason are read as those of any task, its value with `duly_flight_value`; all callers of a run
/// get the same. Of `options` (may be NULL) time-out and token are this caller's own and end its wait only: then the answer is
/// DULY_DEADLINE_EXCEEDED or DULY_CANCELLED. The run is cancelled when its last caller has left. Nothing is kept of a key once
/// its answer is there. `key` is any `key_size` bytes.
/// Ownership: the key is copied. On OK duly owns user_data and calls `drop` exactly once, whether `run` was needed or not; on
/// any other status user_data stays the caller's. The caller owns the task and releases it; `task` may be NULL.
/// Thread-safety: any thread, callbacks included.
/// Blocks: until the answer is there, at most the options' time-out.
/// Status: OK, the refusals of `duly_submit` (this caller was to start the run; the others try for themselves), WOULD_DEADLOCK
/// (inside a callback, without a time-out: this wait could never end), INVALID_ARGUMENT (no `run`, or another option than
/// time-out and token), NULL_ARGUMENT (no flight, or no key with a key_size), FOREIGN_HANDLE, UNSUPPORTED.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_flight_run(
    flight: *const duly_flight,
    key: *const c_void,
    key_size: usize,
    options: *const duly_task_options,
    run: duly_run_fn,
    user_data: *mut c_void,
    drop: duly_drop_fn,
    task: *mut *mut duly_task,
) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a live handle and for NULL or a struct as long as its size says.
        let (flight, options) = unsafe { (handle::borrow(flight)?, read_task(options)?) };
        let others = options.flags != 0
            || options.submit_timeout_ns != 0
            || options.delay_ns != 0
            || options.key_size != 0
            || !(options.label.is_null() && options.queue.is_null() && options.key.is_null())
            || !options.completions.is_null();
        if run.is_none() || others || key_size > isize::MAX as usize {
            return Err(duly_status::DULY_STATUS_INVALID_ARGUMENT);
        }
        let key: Box<[u8]> = match key_size {
            0 => Box::default(),
            _ if key.is_null() => return Err(duly_status::DULY_STATUS_NULL_ARGUMENT),
            // SAFETY: not null; the header asks for as many readable bytes.
            size => unsafe { std::slice::from_raw_parts(key.cast::<u8>(), size) }.into(),
        };
        let mut call = flight.call(key);
        if options.timeout_ns != 0 && options.timeout_ns != DULY_FOREVER {
            call = call.timeout(Duration::from_nanos(options.timeout_ns));
        }
        if !options.token.is_null() {
            // SAFETY: the header asks for NULL or a live handle.
            call = call.token(unsafe { handle::borrow(options.token) }?.token());
        }
        let back = Arc::new(Mutex::new(None));
        let mut lent = Lent {
            data: Some(Owned::new(user_data, drop)),
            back: Arc::downgrade(&back),
        };
        let answer = call.run(move |context: &Context| match lent.data.take() {
            Some(data) => Call::run(run, &data, context).map(Shared::new),
            None => unreachable!("a callback runs once"),
        });
        let unused = back.lock().unwrap_or_else(PoisonError::into_inner).take();
        let ticket = match settle(answer, unused.is_some()) {
            Ok(ticket) => ticket,
            Err(status) => {
                // The caller's again.
                std::mem::forget(unused);
                return Err(status);
            }
        };
        // Not needed: the answer was another caller's run.
        std::mem::drop(unused);
        if !task.is_null() {
            // SAFETY: not null; the header asks for a place to write to.
            unsafe { task.write(handle::into_raw::<duly_task>(ticket)) };
        }
        Ok(())
    })
}

/// What the caller is told: an end, or why there was no answer. `unused`: its user_data can be given back.
fn settle(answer: Result<Arc<Shared>, FlightError<Failure>>, unused: bool) -> Result<Ticket, duly_status> {
    let (outcome, end) = match answer {
        Ok(value) => return Ok(Ticket::settled(Settled::sharing(value), End::default(), "")),
        Err(FlightError::Task(error)) => match End::of(error) {
            (Some(outcome), end) => (outcome, end),
            (None, end) => (Outcome::Abandoned, end),
        },
        Err(FlightError::Refused(refused)) => return Err(refused.kind().into()),
        Err(FlightError::DeadlineExceeded) => (Outcome::DeadlineExceeded, End::default()),
        Err(FlightError::Cancelled(reason)) => (Outcome::Cancelled, End::cancelled(&reason.to_string())),
        Err(FlightError::WouldDeadlock(_)) if unused => return Err(duly_status::DULY_STATUS_WOULD_DEADLOCK),
        Err(FlightError::WouldDeadlock(deadlock)) => (Outcome::Cancelled, End::cancelled(&deadlock.to_string())),
        Err(other) => (Outcome::Cancelled, End::cancelled(&other.to_string())),
    };
    Ok(Ticket::settled(Settled::without(outcome), end, ""))
}

/// The value of an answer of `duly_flight_run`, which all callers of that run have: look, do not change or free it.
/// Ownership: borrowed: the value lives until the last of these answers is released. `duly_task_take` is TAKEN for it.
/// Thread-safety: any thread; several may look at the value at once.
/// Blocks: never.
/// Status: OK, NO_VALUE (another outcome), INVALID_ARGUMENT (not an answer of a flight), NULL_ARGUMENT, FOREIGN_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_flight_value(task: *const duly_task, value: *mut *mut c_void) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a live handle.
        let ticket = unsafe { ticket::borrow(task) }?;
        if value.is_null() {
            return Err(duly_status::DULY_STATUS_NULL_ARGUMENT);
        }
        let settled = ticket.settlement().ok_or(duly_status::DULY_STATUS_INVALID_ARGUMENT)?;
        if settled.outcome != Outcome::Succeeded {
            return Err(duly_status::DULY_STATUS_NO_VALUE);
        }
        let pointer = settled.shared().ok_or(duly_status::DULY_STATUS_INVALID_ARGUMENT)?;
        // SAFETY: not null; the header asks for a place to write to.
        unsafe { value.write(pointer) };
        Ok(())
    })
}

/// How many keys are under way.
/// Ownership: the flight stays the caller's.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; 0 for NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_flight_key_count(flight: *const duly_flight) -> usize {
    // SAFETY: the header asks for a live handle.
    boundary(|| unsafe { handle::borrow(flight) }.map_or(0, SingleFlight::len))
}

/// How many callers wait for an answer, of all keys.
/// Ownership: the flight stays the caller's.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; 0 for NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_flight_caller_count(flight: *const duly_flight) -> usize {
    // SAFETY: the header asks for a live handle.
    boundary(|| unsafe { handle::borrow(flight) }.map_or(0, SingleFlight::callers))
}

/// One more reference to the flight.
/// Ownership: the caller owns the new reference and releases it.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; returns the same pointer, NULL for NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_flight_retain(flight: *mut duly_flight) -> *mut duly_flight {
    // SAFETY: the header asks for a live handle.
    boundary(|| unsafe { handle::retain(flight) })
}

/// Gives one reference back. Callers that wait are not disturbed.
/// Ownership: takes the caller's reference. NULL is fine.
/// Thread-safety: any thread, callbacks included.
/// Blocks: never.
/// Status: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_flight_release(flight: *mut duly_flight) {
    // SAFETY: the header asks for a live handle, of which the caller gives up one reference.
    boundary(|| unsafe { handle::release(flight) });
}
