//! The call: what a callback sees of its own task while it runs.
//!
//! Invariants:
//! 1. A call lives on the stack of the thread that runs the callback and ends with it; C only borrows it.
//! 2. The value and the message last set are the answer's. What they replace is dropped outside the lock.

use std::ffi::{CString, c_char, c_void};
use std::sync::{Mutex, PoisonError};

use duly::Context;

use crate::boundary::{boundary, checked};
use crate::foreign::{Border, Owned, duly_drop_fn, duly_run_fn};
use crate::handle::{self, Handle, Marked};
use crate::options::DULY_FOREVER;
use crate::status::duly_status;
use crate::text::{from_c, to_c};

/// What a callback sees of its own task. Borrowed: valid until run returns; safe from any thread until then.
#[derive(Debug)]
pub struct duly_call {
    _opaque: (),
}

impl Handle for duly_call {
    type Object = Call;
    const KIND: usize = 1;
}

pub(crate) struct Call {
    context: *const Context,
    answer: Mutex<Answer>,
}

/// What the callback has set so far.
#[derive(Debug, Default)]
struct Answer {
    value: Option<Owned>,
    message: Option<CString>,
}

/// How a C callback failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: i32,
    pub(crate) message: CString,
}

impl Call {
    /// Runs a C callback as the body of a task.
    pub(crate) fn run(run: duly_run_fn, data: &Owned, context: &Context) -> Result<Owned, Failure> {
        let call = Marked::new::<duly_call>(Call {
            context,
            answer: Mutex::default(),
        });
        let code = match run {
            Some(run) => {
                let border = Border::enter("run");
                // SAFETY: the header obliges the submitter that `run` takes this user_data on any thread; the call
                // outlives the function.
                let code = unsafe { run(data.pointer(), call.lend()) };
                border.leave();
                code
            }
            None => 0,
        };
        let Answer { value, message } = call
            .into_object()
            .answer
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        match code {
            0 => Ok(value.unwrap_or_else(|| Owned::new(std::ptr::null_mut(), None))),
            code => Err(Failure {
                code,
                message: message.unwrap_or_default(),
            }),
        }
    }

    fn context(&self) -> &Context {
        // SAFETY: the context outlives `Call::run`, hence every borrow of it that the header allows.
        unsafe { &*self.context }
    }

    fn set<T>(&self, change: impl FnOnce(&mut Answer) -> T) {
        // What was replaced is C's and is dropped after the lock.
        let replaced = change(&mut self.answer.lock().unwrap_or_else(PoisonError::into_inner));
        drop(replaced);
    }
}

/// The call is reached from any thread while the callback runs, and through it the context.
const _: fn() = || {
    fn shared<T: Sync>() {}
    shared::<Context>();
};

/// True once the task has its outcome although the callback still runs: cancelled, past its deadline, abandoned. The
/// callback should return soon; whatever it returns is no longer looked at.
/// Ownership: the call stays borrowed.
/// Thread-safety: any thread while run has not returned.
/// Blocks: never.
/// Status: none; false for NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_call_is_cancelled(call: *const duly_call) -> bool {
    // SAFETY: the header asks for a call whose run has not returned.
    boundary(|| unsafe { handle::borrow(call) }.is_ok_and(|call| call.context().is_cancelled()))
}

/// Nanoseconds until the task's deadline: 0 when it has passed, DULY_FOREVER when there is none.
/// Ownership: the call stays borrowed.
/// Thread-safety: any thread while run has not returned.
/// Blocks: never.
/// Status: none; 0 for NULL or a foreign handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_call_time_left(call: *const duly_call) -> u64 {
    boundary(|| {
        // SAFETY: the header asks for a call whose run has not returned.
        unsafe { handle::borrow(call) }.map_or(0, |call| match call.context().time_left() {
            Some(left) => u64::try_from(left.as_nanos()).unwrap_or(DULY_FOREVER),
            None => DULY_FOREVER,
        })
    })
}

/// Sets the value that a succeeded task hands to `duly_task_take`; replaces (and drops) one set before.
/// Ownership: takes `value`: `drop` (may be NULL) is called once unless somebody takes the value. Not taken on error.
/// Thread-safety: any thread while run has not returned.
/// Blocks: never, apart from the drop of a replaced value.
/// Status: OK, NULL_ARGUMENT, FOREIGN_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_call_set_value(
    call: *mut duly_call,
    value: *mut c_void,
    drop: duly_drop_fn,
) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a call whose run has not returned.
        let call = unsafe { handle::borrow(call) }?;
        call.set(|answer| answer.value.replace(Owned::new(value, drop)));
        Ok(())
    })
}

/// Sets the message of a failure, which `duly_task_message` shows if run returns a code; replaces one set before.
/// Ownership: `message` is copied; NULL takes the message back.
/// Thread-safety: any thread while run has not returned.
/// Blocks: never.
/// Status: OK, NULL_ARGUMENT (no call), FOREIGN_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_call_set_message(call: *mut duly_call, message: *const c_char) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a call whose run has not returned and a NUL-terminated string or NULL.
        let (call, message) = unsafe { (handle::borrow(call)?, from_c(message).map(|text| to_c(&text))) };
        call.set(|answer| std::mem::replace(&mut answer.message, message));
        Ok(())
    })
}
