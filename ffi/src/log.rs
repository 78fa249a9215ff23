//! The log hook: where the library's log lines go.
//!
//! Invariants:
//! 1. No lock: a line is logged from anywhere, in a forked child too, and a hook may set another one.
//! 2. A hook that was replaced is called no more once its drop has been called, and its drop is called exactly once: by the
//!    last call that was under way, or by the one who replaced it.
//! 3. What was replaced stays reachable and is never freed, a few words each: a call that has just looked may still touch
//!    its count. So hooks are for setting up, not for every request.

use std::ffi::{c_char, c_void};
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use crate::boundary::checked;
use crate::foreign::{Owned, Visit, duly_drop_fn};
use crate::status::duly_status;
use crate::text::{told, view};

/// How much a log line matters.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum duly_log_level {
    /// Something went wrong: a hook or a drop function panicked, a thread could not be created.
    DULY_LOG_ERROR = 1,
    /// Somebody should look: a failure that nobody looked at, a callback that returned late, a stall.
    DULY_LOG_WARN = 2,
    /// Good to know.
    DULY_LOG_INFO = 3,
    /// For those who look for a defect.
    DULY_LOG_DEBUG = 4,
    /// All there is.
    DULY_LOG_TRACE = 5,
}

/// Takes one line: `level` is a duly_log_level, `message` is borrowed and has no line end. Called outside of every lock of
/// duly, several at once, on any thread; it may call everything. It must not throw, longjmp out or end its thread.
pub type duly_log_fn = Option<unsafe extern "C-unwind" fn(user_data: *mut c_void, level: i32, message: *const c_char)>;

/// One that was set, or, without a function, the want of one. Whoever calls enters first and leaves afterwards.
#[derive(Debug)]
struct Hook {
    function: duly_log_fn,
    data: *mut c_void,
    release: duly_drop_fn,
    /// How many are inside, and [`CLOSED`]. [`GONE`] is added by the one that releases the data.
    users: AtomicUsize,
    /// The one before it: keeps it reachable.
    before: *mut Hook,
}

/// Nobody enters any more.
const CLOSED: usize = 1 << (usize::BITS - 1);
/// The data has been released.
const GONE: usize = CLOSED >> 1;

/// The last that was set.
static HOOK: AtomicPtr<Hook> = AtomicPtr::new(std::ptr::null_mut());

impl Hook {
    fn current() -> Option<&'static Hook> {
        // SAFETY: null, or a box that was leaked (invariant 3).
        unsafe { HOOK.load(Ordering::Acquire).as_ref() }
    }

    fn call(&self, level: log::Level, message: &str) {
        if self.users.fetch_add(1, Ordering::AcqRel) & CLOSED == 0
            && let Some(function) = self.function
        {
            let message = told(message);
            let border = Visit::enter(&"log");
            // SAFETY: the header obliges whoever set it that it takes this user_data on any thread; who is inside keeps the
            // data from being released.
            unsafe { function(self.data, level as i32, view(&message)) };
            border.leave();
        }
        self.leave();
    }

    fn leave(&self) {
        let last = self.users.fetch_sub(1, Ordering::AcqRel) == CLOSED + 1;
        // Who comes after the close enters and leaves as well, and calls nothing: so several may be the last.
        let gone = CLOSED | GONE;
        if last
            && self
                .users
                .compare_exchange(CLOSED, gone, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        {
            drop(Owned::new(self.data, self.release));
        }
    }

    /// Called once, by the one who replaced it.
    fn close(&self) {
        self.users.fetch_add(1, Ordering::AcqRel);
        self.users.fetch_or(CLOSED, Ordering::AcqRel);
        self.leave();
    }
}

/// What the core logs to. Not of size zero, so that its address is its own.
#[derive(Debug)]
struct Lines(#[expect(dead_code, reason = "gives it a size")] u8);

static LINES: Lines = Lines(0);

impl log::Log for Lines {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target() == "duly" && Hook::current().is_some_and(|hook| hook.function.is_some())
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata())
            && let Some(hook) = Hook::current()
        {
            hook.call(record.level(), &record.args().to_string());
        }
    }

    fn flush(&self) {}
}

/// Has every log line of the library, of all its pools, handed to `hook`, in place of the one set before; NULL: to nobody.
/// Without one, lines go nowhere: what they tell is in the counters, and is told to the hook of each pool. A forked child
/// goes on with the hook that its parent had.
/// Ownership: on OK duly owns user_data and calls `drop` (may be NULL) exactly once, when another one was set and no call is
/// under way any more; on any other status user_data stays the caller's. A few words are kept for each that was ever set.
/// Thread-safety: any thread, log hooks included.
/// Blocks: never, apart from the drop of the one before.
/// Status: OK, UNSUPPORTED (a program in Rust that holds this library has set a logger of its own).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_set_log(hook: duly_log_fn, user_data: *mut c_void, drop: duly_drop_fn) -> duly_status {
    checked(|| {
        if log::set_logger(&LINES).is_err() && !std::ptr::addr_eq(log::logger(), &raw const LINES) {
            return Err(duly_status::DULY_STATUS_UNSUPPORTED);
        }
        let fresh = Box::into_raw(Box::new(Hook {
            function: hook,
            data: user_data,
            release: drop,
            users: AtomicUsize::new(0),
            before: std::ptr::null_mut(),
        }));
        let mut before = HOOK.load(Ordering::Acquire);
        loop {
            // SAFETY: not published yet.
            unsafe { (*fresh).before = before };
            match HOOK.compare_exchange(before, fresh, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(now) => before = now,
            }
        }
        log::set_max_level(log::LevelFilter::Trace);
        // SAFETY: null, or a box that was leaked; replaced by this call alone.
        if let Some(before) = unsafe { before.as_ref() } {
            before.close();
        }
        Ok(())
    })
}
