//! What belongs to C: callbacks, the data they capture, the values they leave.
//!
//! Invariants:
//! 1. [`Owned`] calls its drop function exactly once, unless [`Owned::into_inner`] gave the pointer back; [`Entrusted`] does
//!    so only if the pointer has become ours.
//! 2. Nothing but a Rust panic may unwind out of a foreign function: a C++ exception, `pthread_exit` or thread
//!    cancellation that leaves one ends the process with a message ([`Border`]).
//! 3. A `longjmp` out of one, but a drop function, does so as soon as its thread comes here again: the innermost one that is
//!    known is not the one that returns, or was called where the stack has ended by now ([`Visit`]).

use std::cell::Cell;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::call::duly_call;
use crate::status::duly_outcome;
use crate::worker::Interlude;

/// The callback of a task: run at most once, on a worker (on the submitting thread under `DULY_OVERFLOW_CALLER_RUNS`).
/// Returns 0 for succeeded; anything else is the code of a failure. `call` is borrowed: valid until run returns.
/// It must not throw, longjmp out or end its thread: the process is aborted, with a message where possible.
pub type duly_run_fn = Option<unsafe extern "C-unwind" fn(user_data: *mut c_void, call: *mut duly_call) -> i32>;

/// Releases what `user_data` (or a value) points to. Called exactly once: after run returned, or instead of it; never at
/// the same time as run, never under a lock of duly, on any thread. It must not throw, longjmp out or end its thread.
pub type duly_drop_fn = Option<unsafe extern "C-unwind" fn(user_data: *mut c_void)>;

/// Told of an outcome: by `duly_task_on_complete` that the task has it, by `duly_call_on_cancel` that it came from outside.
/// Called at most once, on any thread, never under a lock of duly. It should return soon, and must not throw, longjmp out
/// or end its thread.
pub type duly_outcome_fn = Option<unsafe extern "C-unwind" fn(user_data: *mut c_void, outcome: duly_outcome)>;

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

    /// No pointer, and nothing to release.
    pub(crate) const fn nothing() -> Owned {
        Owned {
            pointer: std::ptr::null_mut(),
            release: None,
        }
    }

    pub(crate) fn pointer(&self) -> *mut c_void {
        self.pointer
    }

    /// Whether dropping it does nothing.
    #[inline(always)]
    pub(crate) fn is_bare(&self) -> bool {
        self.release.is_none()
    }

    /// Whether this is the function that will release it.
    pub(crate) fn is_released_by(&self, release: duly_drop_fn) -> bool {
        self.release.map(|function| function as usize) == release.map(|function| function as usize)
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

/// A function of C's that is to be told of an outcome, with its data: called at most once, then (or instead) released.
#[derive(Debug)]
pub(crate) struct Listener {
    what: &'static &'static str,
    tell: unsafe extern "C-unwind" fn(*mut c_void, duly_outcome),
    data: Owned,
}

impl Listener {
    /// Takes ownership of the data; `None`, and it stays the caller's, when there is no function.
    pub(crate) fn new(
        what: &'static &'static str,
        tell: duly_outcome_fn,
        data: *mut c_void,
        drop: duly_drop_fn,
    ) -> Option<Listener> {
        tell.map(|tell| Listener {
            what,
            tell,
            data: Owned::new(data, drop),
        })
    }

    pub(crate) fn tell(self, outcome: duly_outcome) {
        let _interlude = Interlude::begin();
        let border = Visit::enter(self.what);
        // SAFETY: the header obliges whoever handed both in that `tell` takes this user_data, on any thread.
        unsafe { (self.tell)(self.data.pointer(), outcome) };
        border.leave();
    }
}

/// A pointer of C's that is not ours until [`keep`](Self::keep) is called, but is used already: the call that hands it in
/// may still fail, and then it stays the caller's.
#[derive(Debug)]
pub(crate) struct Entrusted {
    pointer: *mut c_void,
    release: duly_drop_fn,
    ours: AtomicBool,
}

// SAFETY: as `Owned`; the header requires that the functions it is handed to may be called on any thread, several at once.
unsafe impl Send for Entrusted {}
// SAFETY: as above.
unsafe impl Sync for Entrusted {}

impl Entrusted {
    pub(crate) fn new(pointer: *mut c_void, release: duly_drop_fn) -> Entrusted {
        Entrusted {
            pointer,
            release,
            ours: AtomicBool::new(false),
        }
    }

    pub(crate) fn pointer(&self) -> *mut c_void {
        self.pointer
    }

    /// The drop function will be called.
    pub(crate) fn keep(&self) {
        self.ours.store(true, Ordering::Release);
    }
}

impl Drop for Entrusted {
    fn drop(&mut self) {
        if *self.ours.get_mut() {
            drop(Owned::new(self.pointer, self.release));
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
    #[cold]
    fn drop(&mut self) {
        if !std::thread::panicking() {
            left(self.what, "an exception, pthread_exit or thread cancellation");
        }
    }
}

/// A foreign function that is under way on this thread.
#[derive(Debug, Clone, Copy)]
struct Called {
    /// Where on the stack it was called.
    at: usize,
    what: &'static &'static str,
}

/// Above any stack.
const NOWHERE: Called = Called {
    at: usize::MAX,
    what: &"",
};

thread_local! {
    /// The innermost one.
    static INNERMOST: Cell<Called> = const { Cell::new(NOWHERE) };
}

/// As [`Border`], and it ends the process also if the function is left by `longjmp`.
#[derive(Debug)]
pub(crate) struct Visit {
    here: Called,
    outer: Called,
}

impl Visit {
    #[inline(always)]
    pub(crate) fn enter(what: &'static &'static str) -> Visit {
        let here = Called { at: here(), what };
        let outer = INNERMOST.replace(here);
        is_under_way(outer, here.at);
        Visit { here, outer }
    }

    #[inline(always)]
    pub(crate) fn leave(self) {
        let innermost = INNERMOST.get();
        if innermost.at != self.here.at {
            may_be_over(innermost, self.here.at);
        }
        INNERMOST.set(self.outer);
        std::mem::forget(self);
    }
}

impl Drop for Visit {
    #[cold]
    fn drop(&mut self) {
        drop(Border::enter(self.here.what));
        INNERMOST.set(self.outer);
    }
}

/// To be called where the caller comes to us: what is under way on this thread was called further out.
#[inline(always)]
pub(crate) fn come_in() {
    is_under_way(INNERMOST.get(), here());
}

#[inline(always)]
fn is_under_way(called: Called, here: usize) {
    // Stacks grow downwards.
    if called.at <= here {
        may_be_over(called, here);
    }
}

/// It is over, unless one of the two stands on another stack: a coroutine's, a sanitizer's.
#[cold]
#[inline(never)]
fn may_be_over(called: Called, here: usize) {
    let stack = stack_of_thread();
    if stack.contains(&called.at) && stack.contains(&here) {
        left(called.what, "longjmp");
    }
}

/// Where this thread's stack ends now.
#[inline(always)]
fn here() -> usize {
    let here: usize;
    // SAFETY: reads a register.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!("mov {}, rsp", out(reg) here, options(nomem, nostack, preserves_flags));
    }
    // SAFETY: reads a register.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!("mov {}, sp", out(reg) here, options(nomem, nostack, preserves_flags));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        let marker = 0_u8;
        here = std::hint::black_box(&raw const marker).addr();
    }
    here
}

/// The addresses of this thread's stack; none where that cannot be told.
fn stack_of_thread() -> std::ops::Range<usize> {
    // SAFETY: a zeroed pthread_attr_t is only written by pthread_getattr_np, and destroyed if that succeeded.
    unsafe {
        let mut attributes: libc::pthread_attr_t = std::mem::zeroed();
        if libc::pthread_getattr_np(libc::pthread_self(), &raw mut attributes) != 0 {
            return 0..0;
        }
        let (mut lowest, mut size) = (std::ptr::null_mut(), 0);
        let told = libc::pthread_attr_getstack(&raw const attributes, &raw mut lowest, &raw mut size) == 0;
        libc::pthread_attr_destroy(&raw mut attributes);
        if told {
            lowest.addr()..lowest.addr() + size
        } else {
            0..0
        }
    }
}

#[cold]
#[inline(never)]
fn left(what: &str, by: &str) -> ! {
    eprintln!("duly: the {what} function was left by {by}; it must return. Aborting.");
    std::process::abort();
}

#[cfg(test)]
mod tests {
    use std::ffi::c_void;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::{Entrusted, INNERMOST, Owned, Visit, come_in};

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

    /// A function of ours, and what calls it further in, which panics.
    #[inline(never)]
    fn ours() {
        come_in();
    }

    #[inline(never)]
    fn further_in() {
        let inner = Visit::enter(&"inner");
        ours();
        if inner.here.at != 0 {
            panic!("planted");
        }
        inner.leave();
    }

    #[test]
    fn p07_a_panic_out_of_a_foreign_function_leaves_no_trace() {
        for _ in 0..2 {
            let panicked = std::panic::catch_unwind(|| {
                let _outer = Visit::enter(&"outer");
                further_in();
            });
            assert!(panicked.is_err());
            assert_eq!(INNERMOST.get().at, usize::MAX);
            ours();
        }
    }

    #[test]
    fn p06_what_was_only_lent_is_not_dropped() {
        let counter = AtomicUsize::new(0);
        let pointer = (&raw const counter).cast_mut().cast::<c_void>();
        drop(Entrusted::new(pointer, Some(count)));
        assert_eq!(counter.load(Ordering::Relaxed), 0);
        let kept = Entrusted::new(pointer, Some(count));
        kept.keep();
        drop(kept);
        assert_eq!(counter.load(Ordering::Relaxed), 1);
    }
}
