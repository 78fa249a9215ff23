//! Cancellation tokens: a tree, and for each handle, if asked for, a descriptor that can be polled.
//!
//! Invariants:
//! 1. The descriptor is made when it is first asked for, readable from the moment its token is cancelled, by a call, a
//!    signal or its deadline, and never before; it is closed with the handle.
//! 2. A forked child has a descriptor of its own, readable at once; the parent's is never written to.

use std::ffi::{CStr, CString, c_char, c_int};
use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use duly::{CancelReason, CancellationToken, WaitForCancellation};

use crate::boundary::{boundary, checked};
use crate::call::duly_call;
use crate::handle::{self, Handle};
use crate::lazy::Lazy;
use crate::options::DULY_FOREVER;
use crate::status::duly_status;
use crate::task::span;
use crate::text::{from_c, to_c, view};

/// Cancels what was submitted under it, and all under its children: `token` of duly_task_options, `duly_call_token`.
/// Refcounted; safe from any thread. Releasing it cancels nothing; a child keeps its parent. A forked child of the process
/// has cancelled ones only.
#[derive(Debug)]
pub struct duly_token {
    _opaque: (),
}

impl Handle for duly_token {
    type Object = Token;
    const KIND: usize = handle::kind::TOKEN;
}

#[derive(Debug)]
pub(crate) struct Token {
    token: CancellationToken,
    reason: Lazy<CString>,
    here: Lazy<Polled>,
    /// In a forked child, in place of one that was made before.
    in_child: Lazy<Polled>,
}

impl Token {
    pub(crate) fn new(token: CancellationToken) -> Token {
        Token {
            token,
            reason: Lazy::new(),
            here: Lazy::new(),
            in_child: Lazy::new(),
        }
    }

    pub(crate) fn token(&self) -> &CancellationToken {
        &self.token
    }

    fn fd(&self) -> io::Result<c_int> {
        let mut polled = self.here.get_or_try(|| Polled::new(&self.token))?;
        if polled.process != std::process::id() {
            polled = self.in_child.get_or_try(|| Polled::new(&self.token))?;
        }
        Ok(polled.bell.fd.as_raw_fd())
    }
}

/// A descriptor that is readable once a token is cancelled.
#[derive(Debug)]
struct Polled {
    /// Its end is that of the bell's place in the token's list.
    _waits: WaitForCancellation,
    bell: Arc<Bell>,
    process: u32,
}

impl Polled {
    fn new(token: &CancellationToken) -> io::Result<Polled> {
        let bell = Arc::new(Bell { fd: event_fd()? });
        let mut waits = token.cancelled();
        let waker = Waker::from(bell.clone());
        if Pin::new(&mut waits).poll(&mut Context::from_waker(&waker)) == Poll::Ready(()) {
            bell.ring();
        }
        Ok(Polled {
            _waits: waits,
            bell,
            process: std::process::id(),
        })
    }
}

/// What the token wakes: once, when it is cancelled.
#[derive(Debug)]
struct Bell {
    fd: OwnedFd,
}

impl Bell {
    fn ring(&self) {
        let one = 1_u64;
        // SAFETY: the descriptor is open as long as `self`; eight bytes are read. It does not block, and its counter is far
        // from full, for it is written to once.
        unsafe { libc::write(self.fd.as_raw_fd(), (&raw const one).cast(), size_of_val(&one)) };
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

/// A counter that can be polled; it does not block and is closed on exec.
pub(crate) fn event_fd() -> io::Result<OwnedFd> {
    // SAFETY: two numbers go in.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Gives C one reference to a token.
///
/// # Safety
/// `output` is null or valid for a write.
pub(crate) unsafe fn give(
    output: *mut *mut duly_token,
    make: impl FnOnce() -> Result<CancellationToken, duly_status>,
) -> Result<(), duly_status> {
    if output.is_null() {
        return Err(duly_status::DULY_STATUS_NULL_ARGUMENT);
    }
    let token = Token::new(make()?);
    // SAFETY: not null, and valid for a write by this function's contract.
    unsafe { output.write(handle::into_raw::<duly_token>(token)) };
    Ok(())
}

/// Makes a token without parent.
/// Ownership: the caller owns the token and releases it.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: OK, NULL_ARGUMENT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_token_new(token: *mut *mut duly_token) -> duly_status {
    // SAFETY: the header asks for NULL or a place to write to.
    checked(|| unsafe { give(token, || Ok(CancellationToken::new())) })
}

/// The token that a submit here stands under if its options name none: inside a callback that of its task, as `duly_call_token`
/// gives it; elsewhere a new one without parent. For who names another and wants to inherit all the same: `duly_token_child` of it.
/// Ownership: the caller owns the token and releases it.
/// Thread-safety: any thread; it is about the one that calls.
/// Blocks: never.
/// Status: OK, NULL_ARGUMENT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_token_current(token: *mut *mut duly_token) -> duly_status {
    // SAFETY: the header asks for NULL or a place to write to.
    checked(|| unsafe { give(token, || Ok(CancellationToken::current().unwrap_or_default())) })
}

/// Makes a token that is cancelled when `parent` is. A child of a cancelled token is cancelled.
/// Ownership: the caller owns the new token and releases it; the parent stays the caller's and may go at once.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: OK, NULL_ARGUMENT, FOREIGN_HANDLE.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_token_child(parent: *const duly_token, token: *mut *mut duly_token) -> duly_status {
    // SAFETY: the header asks for a live handle, and for NULL or a place to write to.
    checked(|| unsafe {
        let parent = handle::borrow(parent)?;
        give(token, || Ok(parent.token.child()))
    })
}

/// Makes a token that counts as cancelled, with reason "deadline_exceeded", once `timeout_ns` has passed: a child of
/// `parent`, or of none if that is NULL. The earlier of its and its parent's deadline holds, also for the tasks under it.
/// Ownership: the caller owns the new token and releases it; the parent stays the caller's and may go at once.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: OK, NULL_ARGUMENT (no place for the token), FOREIGN_HANDLE.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_token_with_timeout(
    parent: *const duly_token,
    timeout_ns: u64,
    token: *mut *mut duly_token,
) -> duly_status {
    // SAFETY: the header asks for NULL or a live handle, and for NULL or a place to write to.
    checked(|| unsafe {
        let parent = if parent.is_null() {
            None
        } else {
            Some(handle::borrow(parent)?)
        };
        give(token, || {
            Ok(match parent {
                Some(parent) => parent.token.child_with_timeout(span(timeout_ns)),
                None => CancellationToken::with_timeout(span(timeout_ns)),
            })
        })
    })
}

/// The token of the task whose callback this is: cancelled when the task is, when its deadline passes, when it is
/// abandoned. What the callback submits stands under it. With `duly_token_fd` a callback that waits in poll is woken.
/// Ownership: the caller owns the token and releases it, during the callback or after it.
/// Thread-safety: any thread while run has not returned.
/// Blocks: never.
/// Status: OK, NULL_ARGUMENT, FOREIGN_HANDLE.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_call_token(call: *const duly_call, token: *mut *mut duly_token) -> duly_status {
    // SAFETY: the header asks for a call whose run has not returned, and for NULL or a place to write to.
    checked(|| unsafe {
        let call = handle::borrow(call)?;
        give(token, || Ok(call.context().token()))
    })
}

/// Cancels the token and all under it, with reason "requested": their tasks have their outcome when this returns. Only the
/// first reason is kept; cancelling again changes nothing.
/// Ownership: the token stays the caller's.
/// Thread-safety: any thread, callbacks included.
/// Blocks: never, apart from the drop of user_data of tasks that never ran.
/// Status: OK, NULL_ARGUMENT, FOREIGN_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_token_cancel(token: *mut duly_token) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a live handle.
        unsafe { handle::borrow(token) }?.token.cancel();
        Ok(())
    })
}

/// As `duly_token_cancel`, with a reason of the caller's, which `duly_token_reason` and `duly_task_reason` show.
/// Ownership: `reason` is copied; the token stays the caller's.
/// Thread-safety: any thread, callbacks included.
/// Blocks: never, apart from the drop of user_data of tasks that never ran.
/// Status: OK, NULL_ARGUMENT, FOREIGN_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_token_cancel_with(token: *mut duly_token, reason: *const c_char) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a live handle and a NUL-terminated string.
        let (token, reason) = unsafe { (handle::borrow(token)?, from_c(reason)) };
        let reason = reason.ok_or(duly_status::DULY_STATUS_NULL_ARGUMENT)?;
        token.token.cancel_with(CancelReason::from(&*reason));
        Ok(())
    })
}

/// True once the token is cancelled, or its deadline has passed.
/// Ownership: the token stays the caller's.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; false for NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_token_is_cancelled(token: *const duly_token) -> bool {
    // SAFETY: the header asks for a live handle.
    boundary(|| unsafe { handle::borrow(token) }.is_ok_and(|token| token.token.is_cancelled()))
}

/// Why it was cancelled: "requested", "deadline_exceeded", "signal 15", the caller's own words; "" while it is not.
/// Ownership: a view owned by the token, never NULL; valid until its last release.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; "" for NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_token_reason(token: *const duly_token) -> *const c_char {
    view(boundary(|| -> &CStr {
        // SAFETY: the header asks for a live handle.
        let token = unsafe { handle::borrow(token) };
        token.map_or(c"", |token| match token.token.reason() {
            None => c"",
            Some(reason) => token.reason.get_or(|| to_c(&reason.to_string())),
        })
    }))
}

/// Nanoseconds until the token's deadline, its own or its parent's: 0 when it has passed, DULY_FOREVER when there is none.
/// Ownership: the token stays the caller's.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; 0 for NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_token_time_left(token: *const duly_token) -> u64 {
    boundary(|| {
        // SAFETY: the header asks for a live handle.
        unsafe { handle::borrow(token) }.map_or(0, |token| match token.token.time_left() {
            Some(left) => u64::try_from(left.as_nanos()).unwrap_or(DULY_FOREVER),
            None => DULY_FOREVER,
        })
    })
}

/// Waits until the token is cancelled, at most `timeout_ns` (DULY_FOREVER: as long as it takes).
/// Ownership: the token stays the caller's.
/// Thread-safety: any thread; many may wait for the same token. Inside a callback it holds the worker.
/// Blocks: up to timeout_ns; 0 only looks.
/// Status: OK (it is cancelled), TIMED_OUT, NULL_ARGUMENT, FOREIGN_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_token_wait(token: *const duly_token, timeout_ns: u64) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a live handle.
        let token = unsafe { handle::borrow(token) }?;
        let timeout = (timeout_ns != DULY_FOREVER).then(|| span(timeout_ns));
        if token.token.wait(timeout) {
            Ok(())
        } else {
            Err(duly_status::DULY_STATUS_TIMED_OUT)
        }
    })
}

/// A descriptor for poll, epoll, select: readable (POLLIN) from the moment the token is cancelled, and for good. The same
/// one each time; made by the first call, closed on exec. Only poll it: do not read from it, write to it or close it.
/// In a forked child it is another one, readable at once.
/// Ownership: the descriptor is the token's, and closed with its last release: take it out of an epoll set before.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: OK, NO_DESCRIPTORS, NULL_ARGUMENT, FOREIGN_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_token_fd(token: *const duly_token, fd: *mut c_int) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a live handle.
        let token = unsafe { handle::borrow(token) }?;
        if fd.is_null() {
            return Err(duly_status::DULY_STATUS_NULL_ARGUMENT);
        }
        let number = token.fd().map_err(|_| duly_status::DULY_STATUS_NO_DESCRIPTORS)?;
        // SAFETY: not null; the header asks for a place to write to.
        unsafe { fd.write(number) };
        Ok(())
    })
}

/// One more reference to the token.
/// Ownership: the caller owns the new reference and releases it.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none; returns the same pointer, NULL for NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_token_retain(token: *mut duly_token) -> *mut duly_token {
    // SAFETY: the header asks for a live handle.
    boundary(|| unsafe { handle::retain(token) })
}

/// Gives one reference back; it cancels nothing. The last one closes the descriptor and frees the views.
/// Ownership: takes the caller's reference. NULL is fine.
/// Thread-safety: any thread, callbacks included.
/// Blocks: never.
/// Status: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_token_release(token: *mut duly_token) {
    // SAFETY: the header asks for a live handle, of which the caller gives up one reference.
    boundary(|| unsafe { handle::release(token) });
}
