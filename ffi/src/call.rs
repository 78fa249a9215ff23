//! The call: what a callback sees of its own task while it runs.
//!
//! Invariants:
//! 1. A call lives on the stack of the thread that runs the callback and ends with it; C only borrows it.
//! 2. The value, the message and the failure's object last set are the answer's. What they replace is dropped outside the lock.
//! 3. Hooks end with the call: one that was not told by then never is, but one that is being told may outlive it.

use std::ffi::{CStr, CString, c_char, c_void};
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use duly::{Context, Interrupted, OnCancel};

use crate::boundary::{boundary, checked};
use crate::foreign::{Listener, Owned, Visit, duly_drop_fn, duly_outcome_fn, duly_run_fn};
use crate::handle::{self, Handle, Marked};
use crate::options::DULY_FOREVER;
use crate::settled::Shared;
use crate::status::{duly_outcome, duly_status};
use crate::text::{from_c, to_c};

/// What a callback sees of its own task. Borrowed: valid until run returns; safe from any thread until then.
#[derive(Debug)]
pub struct duly_call {
    _opaque: (),
}

impl Handle for duly_call {
    type Object = Call;
    const KIND: usize = handle::kind::CALL;
}

pub(crate) struct Call {
    context: *const Context,
    /// Whether there is an answer: most callbacks set nothing. Changes once, under the lock.
    used: AtomicBool,
    answer: Mutex<MaybeUninit<Answer>>,
}

/// What the callback has set so far.
#[derive(Debug, Default)]
struct Answer {
    value: Option<Owned>,
    message: Option<CString>,
    object: Option<Owned>,
    hooks: Vec<OnCancel>,
}

/// How a C callback failed.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    code: i32,
    /// Behind a pointer, for an answer has three words in its cell; of clones, the same.
    more: Option<Arc<More>>,
}

/// What there is to say of a failure besides its code.
#[derive(Debug)]
struct More {
    message: CString,
    object: Option<Shared>,
}

impl Failure {
    pub(crate) fn new(code: i32, message: CString, object: Option<Owned>) -> Failure {
        let more = More {
            message,
            object: object.map(Shared::of),
        };
        let says = !more.message.is_empty() || more.object.is_some();
        Failure {
            code,
            more: says.then(|| Arc::new(more)),
        }
    }

    pub(crate) fn code(&self) -> i32 {
        self.code
    }

    pub(crate) fn message(&self) -> &CStr {
        self.more.as_deref().map_or(c"", |more| &more.message)
    }

    /// The object that was set with this drop function.
    pub(crate) fn object(&self, drop: duly_drop_fn) -> Option<*mut c_void> {
        let object = self.more.as_deref()?.object.as_ref()?;
        object.is_released_by(drop).then(|| object.pointer())
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "code {}", self.code)?;
        if self.message().is_empty() {
            return Ok(());
        }
        write!(f, ": {}", self.message().to_string_lossy())
    }
}

impl Call {
    /// Runs a C callback as the body of a task.
    #[inline(always)]
    pub(crate) fn run(run: duly_run_fn, data: &Owned, context: &Context) -> Result<Owned, Failure> {
        Call::run_by(context, |call| match run {
            // SAFETY: the header obliges the submitter that `run` takes this user_data on any thread; the call outlives it.
            Some(run) => unsafe { run(data.pointer(), call) },
            None => 0,
        })
    }

    /// Runs what calls a C callback, with the call of that run.
    #[inline(always)]
    pub(crate) fn run_by(context: &Context, run: impl FnOnce(*mut duly_call) -> i32) -> Result<Owned, Failure> {
        let call = Marked::new::<duly_call>(Call {
            context,
            used: AtomicBool::new(false),
            answer: Mutex::new(MaybeUninit::uninit()),
        });
        let border = Visit::enter(&"run");
        let code = run(call.lend());
        border.leave();
        // Acquire: another thread may have set something before run returned.
        if code == 0 && !call.object().used.load(Ordering::Acquire) {
            std::mem::forget(call);
            return Ok(Owned::nothing());
        }
        call.object().end(code)
    }

    /// What the callback that has returned leaves.
    #[cold]
    #[inline(never)]
    fn end(&self, code: i32) -> Result<Owned, Failure> {
        let Answer {
            value,
            message,
            object,
            hooks,
        } = self.with(std::mem::take);
        drop(hooks);
        match code {
            0 => Ok(value.unwrap_or_else(Owned::nothing)),
            code => Err(Failure::new(code, message.unwrap_or_default(), object)),
        }
    }

    pub(crate) fn context(&self) -> &Context {
        // SAFETY: the context outlives `Call::run`, hence every borrow of it that the header allows.
        unsafe { &*self.context }
    }

    /// The answer, made when it is first needed, under its lock.
    fn with<T>(&self, look: impl FnOnce(&mut Answer) -> T) -> T {
        let mut answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.used.load(Ordering::Relaxed) {
            answer.write(Answer::default());
            self.used.store(true, Ordering::Release);
        }
        // SAFETY: `used` says that it was written, here or before, and that is changed under this lock only.
        look(unsafe { answer.assume_init_mut() })
    }

    fn set<T>(&self, change: impl FnOnce(&mut Answer) -> T) {
        // What was replaced is C's and is dropped after the lock.
        drop(self.with(change));
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // What is left of it: after `end` nothing, but a callback written in Rust may have panicked.
        if *self.used.get_mut() {
            let answer = self.answer.get_mut().unwrap_or_else(PoisonError::into_inner);
            // SAFETY: it was written, and nobody looks at it afterwards.
            unsafe { answer.assume_init_drop() };
        }
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

/// Why the callback should return: the outcome that its task has already, which is cancelled, deadline_exceeded or
/// abandoned.
/// Ownership: the call stays borrowed.
/// Thread-safety: any thread while run has not returned.
/// Blocks: never.
/// Status: OK, PENDING (nothing has ended the task: go on), NULL_ARGUMENT, FOREIGN_HANDLE. `cause` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_call_cause(call: *const duly_call, cause: *mut duly_outcome) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a call whose run has not returned.
        let call = unsafe { handle::borrow(call) }?;
        let interrupted = call.context().cause().ok_or(duly_status::DULY_STATUS_PENDING)?;
        // SAFETY: the header asks for NULL or a place to write to.
        unsafe { handle::write_if_wanted(cause, outcome_of(&interrupted)) };
        Ok(())
    })
}

/// Registers a hook that is told when the task gets its outcome from outside while the callback runs (cancelled, past its
/// deadline, abandoned): to close a socket or end a child that the callback waits for. It is told on a delivery thread,
/// or here and now if that has happened; not any more once run has returned, unless it is being told then.
/// Ownership: on OK duly owns user_data and calls `drop` (may be NULL) exactly once, after `tell` or instead of it; on any
/// other status user_data stays the caller's.
/// Thread-safety: any thread while run has not returned.
/// Blocks: never, apart from a `tell` here and now.
/// Status: OK, INVALID_ARGUMENT (no `tell`), NULL_ARGUMENT (no call), FOREIGN_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_call_on_cancel(
    call: *mut duly_call,
    tell: duly_outcome_fn,
    user_data: *mut c_void,
    drop: duly_drop_fn,
) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a call whose run has not returned.
        let call = unsafe { handle::borrow(call) }?;
        let hook =
            Listener::new(&"on_cancel", tell, user_data, drop).ok_or(duly_status::DULY_STATUS_INVALID_ARGUMENT)?;
        // It may be told here and now: not under the lock.
        let guard = call.context().on_cancel(move |cause| hook.tell(outcome_of(cause)));
        call.set(|answer| answer.hooks.push(guard));
        Ok(())
    })
}

/// The outcome that interrupts a callback.
fn outcome_of(cause: &Interrupted) -> duly_outcome {
    match cause {
        Interrupted::DeadlineExceeded => duly_outcome::DULY_DEADLINE_EXCEEDED,
        Interrupted::Abandoned => duly_outcome::DULY_ABANDONED,
        _ => duly_outcome::DULY_CANCELLED,
    }
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

/// Attaches an object of the caller's to a failure, such as an exception: what `duly_task_failure` gives if run returns a code;
/// replaces (and drops) one set before.
/// Ownership: takes `object`: `drop` (may be NULL) is called once, when the task's last reference is released, or when run has
/// returned 0 or too late. Not taken on error.
/// Thread-safety: any thread while run has not returned.
/// Blocks: never, apart from the drop of a replaced object.
/// Status: OK, NULL_ARGUMENT (no call), FOREIGN_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_call_set_failure(
    call: *mut duly_call,
    object: *mut c_void,
    drop: duly_drop_fn,
) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a call whose run has not returned.
        let call = unsafe { handle::borrow(call) }?;
        call.set(|answer| answer.object.replace(Owned::new(object, drop)));
        Ok(())
    })
}
