//! What belongs to C: callbacks, the data they capture, the values they leave.
//!
//! Invariants:
//! 1. [`Owned`] calls its drop function exactly once, unless [`Owned::into_inner`] gave the pointer back.
//! 2. Nothing but a Rust panic may unwind out of a foreign function: a C++ exception, `pthread_exit` or thread
//!    cancellation that leaves one ends the process with a message ([`Border`]).

use std::ffi::c_void;

use crate::call::duly_call;

/// The callback of a task: run at most once, on a worker (on the submitting thread under `DULY_OVERFLOW_CALLER_RUNS`).
/// Returns 0 for succeeded; anything else is the code of a failure. `call` is borrowed: valid until run returns.
/// It must not throw, longjmp out or end its thread: the process is aborted, with a message where possible.
pub type duly_run_fn = Option<unsafe extern "C-unwind" fn(user_data: *mut c_void, call: *mut duly_call) -> i32>;

/// Releases what `user_data` (or a value) points to. Called exactly once: after run returned, or instead of it; never at
/// the same time as run, never under a lock of duly, on any thread. It must not throw, longjmp out or end its thread.
pub type duly_drop_fn = Option<unsafe extern "C-unwind" fn(user_data: *mut c_void)>;

/// A pointer of C's with the function that releases it; NULL for the function means: nothing to release.
#[derive(Debug)]
pub(crate) struct Owned {
    pointer: *mut c_void,
    release: duly_drop_fn,
}

// SAFETY: the header requires that run and drop may be called on any thread, so the pointer may travel.
unsafe impl Send for Owned {}

impl Owned {
    /// Takes ownership: the drop function will be called.
    pub(crate) fn new(pointer: *mut c_void, release: duly_drop_fn) -> Owned {
        Owned { pointer, release }
    }

    pub(crate) fn pointer(&self) -> *mut c_void {
        self.pointer
    }

    /// Gives the pointer to somebody else: the drop function will not be called.
    pub(crate) fn into_inner(self) -> *mut c_void {
        let pointer = self.pointer;
        std::mem::forget(self);
        pointer
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            let border = Border::enter("drop");
            // SAFETY: the header obliges whoever handed both in that `release` takes `pointer`, once, on any thread.
            unsafe { release(self.pointer) };
            border.leave();
        }
    }
}

/// Stands between Rust and a foreign function: if the function is left in any other way than by returning or by a Rust
/// panic, the process ends here, with the reason, instead of unwinding through frames that cannot bear it.
#[derive(Debug)]
pub(crate) struct Border {
    what: &'static str,
}

impl Border {
    pub(crate) fn enter(what: &'static str) -> Border {
        Border { what }
    }

    pub(crate) fn leave(self) {
        std::mem::forget(self);
    }
}

impl Drop for Border {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            eprintln!(
                "duly: the {} function of a task was left by an exception, pthread_exit or thread cancellation; \
                 it must return. Aborting.",
                self.what
            );
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::c_void;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::Owned;

    unsafe extern "C-unwind" fn count(data: *mut c_void) {
        // SAFETY: each test hands in a pointer to its own counter, which outlives the call.
        unsafe { &*data.cast::<AtomicUsize>() }.fetch_add(1, Ordering::Relaxed);
    }

    #[test]
    fn p06_drop_runs_once_and_not_after_into_inner() {
        let counter = AtomicUsize::new(0);
        let pointer = (&raw const counter).cast_mut().cast::<c_void>();
        drop(Owned::new(pointer, Some(count)));
        assert_eq!(counter.load(Ordering::Relaxed), 1);
        assert_eq!(Owned::new(pointer, Some(count)).into_inner(), pointer);
        assert_eq!(counter.load(Ordering::Relaxed), 1);
        drop(Owned::new(std::ptr::null_mut(), None));
    }
}
