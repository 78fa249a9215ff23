//! Signals that shut a pool down, or cancel a token.
//!
//! Invariant: a pool has at most one binding; a new one is there before the old one goes, so that no signal is lost.

use std::ffi::c_int;
use std::sync::{Arc, Mutex, PoisonError};

use duly::{Pool, ShutdownOnSignal, Signal, SignalError};

use crate::boundary::{boundary, checked};
use crate::handle;
use crate::options::DULY_FOREVER;
use crate::pool::duly_pool;
use crate::report::{Report, duly_report};
use crate::status::duly_status;
use crate::task::span;
use crate::token::duly_token;

/// The binding of a pool. Its lock is not touched in a forked child.
pub(crate) type Binding = Mutex<Option<Arc<ShutdownOnSignal>>>;

/// # Safety
/// `signals` is null or points to `count` numbers.
unsafe fn read(signals: *const c_int, count: usize) -> Result<Vec<Signal>, duly_status> {
    if signals.is_null() && count != 0 {
        return Err(duly_status::DULY_STATUS_NULL_ARGUMENT);
    }
    if count > 64 {
        // There are no more signals than that.
        return Err(duly_status::DULY_STATUS_INVALID_ARGUMENT);
    }
    let known = |number: c_int| {
        let known = Signal::ALL.into_iter().find(|known| known.number() == number);
        known.ok_or(duly_status::DULY_STATUS_INVALID_ARGUMENT)
    };
    // SAFETY: so many numbers are readable by this function's contract.
    (0..count)
        .map(|index| known(unsafe { signals.add(index).read_unaligned() }))
        .collect()
}

impl From<SignalError> for duly_status {
    fn from(error: SignalError) -> duly_status {
        match error {
            SignalError::ShutDown => duly_status::DULY_STATUS_SHUT_DOWN,
            SignalError::Thread(source) if matches!(source.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                duly_status::DULY_STATUS_NO_DESCRIPTORS
            }
            SignalError::Thread(_) => duly_status::DULY_STATUS_NO_THREADS,
            _ => duly_status::DULY_STATUS_INVALID_ARGUMENT,
        }
    }
}

/// The binding of a pool that was not inherited.
fn bound(pool: &Pool, binding: &Binding) -> Option<Arc<ShutdownOnSignal>> {
    if pool.is_inherited() {
        return None;
    }
    binding.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// The first of these signals that comes closes the pool and begins its drain, the next one abandons what is left: after
/// the first the pool has come to its end, and the process is ready to exit, within `grace_ns`. SIGTERM, SIGINT, SIGHUP,
/// SIGQUIT, SIGUSR1 and SIGUSR2 can be named. Handlers that the program had still run; that a signal ends the process by
/// default is held back until the pool's last handle is released. Binding again replaces what was bound; a count of 0 ends
/// it. In a forked child nobody is bound.
/// Ownership: the pool stays the caller's; the signals are copied.
/// Thread-safety: any thread, callbacks included.
/// Blocks: never.
/// Status: OK, INVALID_ARGUMENT (another signal), SHUT_DOWN (inherited by fork), NO_THREADS, NO_DESCRIPTORS, NULL_ARGUMENT,
/// FOREIGN_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_pool_shutdown_on(
    pool: *mut duly_pool,
    signals: *const c_int,
    count: usize,
    grace_ns: u64,
) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a live handle and `count` signals.
        let (pool, signals) = unsafe { (handle::borrow(pool)?, read(signals, count)?) };
        if pool.is_inherited() {
            return Err(duly_status::DULY_STATUS_SHUT_DOWN);
        }
        let fresh = if signals.is_empty() {
            None
        } else {
            Some(Arc::new(pool.shut_down_on(&signals, span(grace_ns))?))
        };
        let mut binding = pool.binding().lock().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *binding, fresh);
        drop(binding);
        drop(old);
        Ok(())
    })
}

/// Waits until a pool that is bound to signals has come to its end, by a signal or by another shutdown. `report` may be
/// NULL. What a main thread does while others serve.
/// Ownership: the caller owns the report and releases it; the pool stays the caller's.
/// Thread-safety: any thread but the workers of this pool.
/// Blocks: up to timeout_ns; 0 only looks.
/// Status: OK, TIMED_OUT (the pool goes on), INVALID_ARGUMENT (it is not bound: `duly_pool_shutdown_on`), WOULD_DEADLOCK
/// (called by a worker of this pool), SHUT_DOWN (inherited by fork), NULL_ARGUMENT, FOREIGN_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_pool_wait_shutdown(
    pool: *const duly_pool,
    timeout_ns: u64,
    report: *mut *mut duly_report,
) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a live handle.
        let pool = unsafe { handle::borrow(pool) }?;
        if pool.is_inherited() {
            return Err(duly_status::DULY_STATUS_SHUT_DOWN);
        }
        let bound = bound(pool, pool.binding()).ok_or(duly_status::DULY_STATUS_INVALID_ARGUMENT)?;
        let ended = if timeout_ns == DULY_FOREVER {
            bound.wait().map(Some)
        } else {
            bound.wait_timeout(span(timeout_ns))
        };
        let ended = ended
            .map_err(|_| duly_status::DULY_STATUS_WOULD_DEADLOCK)?
            .ok_or(duly_status::DULY_STATUS_TIMED_OUT)?;
        if !report.is_null() {
            // SAFETY: not null; the header asks for a place to write to.
            unsafe { report.write(handle::into_raw::<duly_report>(Report::new(&ended))) };
        }
        Ok(())
    })
}

/// The number of the signal that came first to a pool bound by `duly_pool_shutdown_on`; 0 while none has come.
/// Ownership: the pool stays the caller's.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; 0 for NULL, a foreign handle, a pool that is not bound.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_pool_signal(pool: *const duly_pool) -> c_int {
    boundary(|| {
        // SAFETY: the header asks for a live handle.
        let pool = unsafe { handle::borrow(pool) };
        let bound = pool.ok().and_then(|pool| bound(pool, pool.binding()));
        bound.and_then(|bound| bound.received()).unwrap_or(0)
    })
}

/// From now on one of these signals cancels the token and all under it, with reason "signal N", as long as the token or a
/// child of it lives. The signals are those of `duly_pool_shutdown_on`, and so is what is said there of handlers. May be
/// called several times for one token.
/// Ownership: the token stays the caller's; the signals are copied.
/// Thread-safety: any thread, callbacks included.
/// Blocks: never.
/// Status: OK, INVALID_ARGUMENT (no signal, or another one), NO_THREADS, NO_DESCRIPTORS, NULL_ARGUMENT, FOREIGN_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_token_cancel_on(
    token: *mut duly_token,
    signals: *const c_int,
    count: usize,
) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a live handle and `count` signals.
        let (token, signals) = unsafe { (handle::borrow(token)?, read(signals, count)?) };
        Ok(token.token().cancel_on(&signals)?)
    })
}
