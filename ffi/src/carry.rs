//! Context that crosses submit, as C functions: captured where a task is submitted, entered where its callback runs.
//!
//! Invariants:
//! 1. What was captured is released exactly once, with the callback's own data, also when that never runs.
//! 2. carry_data is released after everything that was captured with it, and only if the pool was made.

use std::ffi::c_void;
use std::sync::Arc;

use duly::Carry;

use crate::foreign::{Entrusted, Visit, duly_drop_fn};

/// Called at submit, on the thread that submits: what it returns is entered around the callback. NULL: there is nothing to
/// carry for this task. It must not throw, longjmp out or end its thread.
pub type duly_capture_fn = Option<unsafe extern "C-unwind" fn(carry_data: *mut c_void) -> *mut c_void>;

/// Called before the callback, on the thread that runs it; what it returns is handed to exit. It must not throw, longjmp
/// out or end its thread.
pub type duly_enter_fn =
    Option<unsafe extern "C-unwind" fn(carry_data: *mut c_void, captured: *mut c_void) -> *mut c_void>;

/// Called after the callback, on the same thread. It must not throw, longjmp out or end its thread.
pub type duly_exit_fn =
    Option<unsafe extern "C-unwind" fn(carry_data: *mut c_void, captured: *mut c_void, entered: *mut c_void)>;

/// Called exactly once for what was captured, after the last exit, or when the task never runs; on any thread. It must not
/// throw, longjmp out or end its thread.
pub type duly_release_fn = Option<unsafe extern "C-unwind" fn(carry_data: *mut c_void, captured: *mut c_void)>;

/// The functions of a pool's options.
#[derive(Debug)]
pub(crate) struct Functions {
    pub(crate) capture: duly_capture_fn,
    pub(crate) enter: duly_enter_fn,
    pub(crate) exit: duly_exit_fn,
    pub(crate) release: duly_release_fn,
    data: Entrusted,
}

impl Functions {
    pub(crate) fn new(data: *mut c_void, drop: duly_drop_fn) -> Functions {
        Functions {
            capture: None,
            enter: None,
            exit: None,
            release: None,
            data: Entrusted::new(data, drop),
        }
    }

    /// From now on carry_data is ours.
    pub(crate) fn keep_data(&self) {
        self.data.keep();
    }
}

/// What the core is given.
#[derive(Debug)]
pub(crate) struct Carrier(pub(crate) Arc<Functions>);

/// What was captured for one task.
#[derive(Debug)]
pub(crate) struct Captured {
    functions: Arc<Functions>,
    captured: *mut c_void,
}

// SAFETY: the header says on which threads the functions are called, and that release may be called on any.
unsafe impl Send for Captured {}
// SAFETY: what was captured is only handed to the functions, one at a time for each callback that runs.
unsafe impl Sync for Captured {}

/// The context while it is entered. Dropped on the thread that entered it.
#[derive(Debug)]
pub(crate) struct Entered {
    functions: Arc<Functions>,
    captured: *mut c_void,
    entered: *mut c_void,
}

impl Carry for Carrier {
    type Captured = Captured;
    type Entered = Entered;

    fn capture(&self) -> Option<Captured> {
        let capture = self.0.capture?;
        let border = Visit::enter(&"capture");
        // SAFETY: the header obliges whoever made the pool that `capture` takes this carry_data on any thread.
        let captured = unsafe { capture(self.0.data.pointer()) };
        border.leave();
        (!captured.is_null()).then(|| Captured {
            functions: self.0.clone(),
            captured,
        })
    }

    fn enter(&self, captured: &Captured) -> Entered {
        let mut entered = std::ptr::null_mut();
        if let Some(enter) = self.0.enter {
            let border = Visit::enter(&"enter");
            // SAFETY: as above, with what `capture` returned.
            entered = unsafe { enter(self.0.data.pointer(), captured.captured) };
            border.leave();
        }
        Entered {
            functions: self.0.clone(),
            captured: captured.captured,
            entered,
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        if let Some(exit) = self.functions.exit {
            let border = Visit::enter(&"exit");
            // SAFETY: as above, with what `enter` returned.
            unsafe { exit(self.functions.data.pointer(), self.captured, self.entered) };
            border.leave();
        }
    }
}

impl Drop for Captured {
    fn drop(&mut self) {
        if let Some(release) = self.functions.release {
            let border = Visit::enter(&"release");
            // SAFETY: as above; the last call with it.
            unsafe { release(self.functions.data.pointer(), self.captured) };
            border.leave();
        }
    }
}
