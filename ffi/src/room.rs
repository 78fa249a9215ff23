//! A submit that waits for room without a thread, and tells how it went.
//!
//! Invariants:
//! 1. A submit that is PENDING is told once, on a delivery thread of its pool: accepted, or refused. Until then user_data is duly's.
//! 2. The future is polled by one thread at a time and under no lock; who comes meanwhile has it polled again.
//! 3. Whoever makes room only sends a job: nothing of the caller's runs on a worker, the timer or a thread that cancels.
//!
//! Locks: the place of the future is a leaf.

use std::ffi::c_void;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll, Wake, Waker};

use duly::Context;

use crate::boundary::checked;
use crate::call::{Call, Failure};
use crate::foreign::{Owned, Visit, duly_drop_fn, duly_run_fn};
use crate::handle;
use crate::options::{duly_task_options, read_task};
use crate::pool::duly_pool;
use crate::status::duly_status;
use crate::submit::{accept, ask_ahead};
use crate::task::duly_task;
use crate::ticket;

/// Told how a submit that waited for room went: OK with the task, which is the callee's to release; or why it was refused, with
/// NULL, and user_data is the caller's again. Called once, on a delivery thread, never under a lock of duly. It must not throw,
/// longjmp out or end its thread.
pub type duly_submitted_fn =
    Option<unsafe extern "C-unwind" fn(tell_data: *mut c_void, status: duly_status, task: *mut duly_task)>;

/// A handle on its way to C.
struct Accepted(*mut duly_task);

// SAFETY: a task may be used on any thread.
unsafe impl Send for Accepted {}

type Answer = Result<Accepted, duly_status>;
type Polling = Pin<Box<dyn Future<Output = Answer> + Send>>;
type Deliver = Arc<dyn Fn(Box<dyn FnOnce() + Send>) + Send + Sync>;

/// Who is to be told.
struct Told {
    tell: unsafe extern "C-unwind" fn(*mut c_void, duly_status, *mut duly_task),
    data: *mut c_void,
}

// SAFETY: the header says that `tell` is called on a delivery thread.
unsafe impl Send for Told {}
// SAFETY: as above; it is called once, by whoever found the answer.
unsafe impl Sync for Told {}

enum Place {
    Idle(Polling),
    Busy { again: bool },
    Over,
}

struct Waiting {
    place: Mutex<Place>,
    told: Told,
    deliver: Deliver,
}

impl Waiting {
    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Polls; the answer goes to the one who found it.
    fn go_on(self: &Arc<Self>) -> Option<Answer> {
        let mut future = {
            let mut place = self.place();
            match std::mem::replace(&mut *place, Place::Busy { again: false }) {
                Place::Idle(future) => future,
                Place::Busy { .. } => {
                    *place = Place::Busy { again: true };
                    return None;
                }
                Place::Over => {
                    *place = Place::Over;
                    return None;
                }
            }
        };
        let waker = Waker::from(self.clone());
        loop {
            if let Poll::Ready(answer) = future.as_mut().poll(&mut TaskContext::from_waker(&waker)) {
                *self.place() = Place::Over;
                return Some(answer);
            }
            let mut place = self.place();
            if !matches!(*place, Place::Busy { again: true }) {
                *place = Place::Idle(future);
                return None;
            }
            *place = Place::Busy { again: false };
        }
    }

    fn tell(&self, answer: Answer) {
        let (status, task) = match answer {
            Ok(Accepted(task)) => (duly_status::DULY_STATUS_OK, task),
            Err(status) => (status, std::ptr::null_mut()),
        };
        let border = Visit::enter(&"submitted");
        // SAFETY: the header obliges whoever handed both in that `tell` takes this data, once, on a delivery thread.
        unsafe { (self.told.tell)(self.told.data, status, task) };
        border.leave();
    }
}

impl Wake for Waiting {
    fn wake(self: Arc<Self>) {
        let deliver = self.deliver.clone();
        deliver(Box::new(move || {
            if let Some(answer) = self.go_on() {
                self.tell(answer);
            }
        }));
    }
}

/// As `duly_submit`, but waits for room without a thread: where that would wait, the status is PENDING, and
/// `tell(tell_data, status, task)` is called once, on a delivery thread of the pool, perhaps before this returns. To leave the
/// line, cancel a token that the options name; submit_timeout_ns, the task's own time-out and a shutdown end it, too. In a forked
/// child nobody is told.
/// Ownership: as `duly_submit` on OK and on a refusal, and tell is not called. On PENDING user_data is duly's until tell is called,
/// which then says whose it is; so is tell_data. `task` may be NULL.
/// Thread-safety: any thread, callbacks included.
/// Blocks: never.
/// Status: OK, PENDING, and as `duly_submit`; DULY_OVERFLOW_CALLER_RUNS is QUEUE_FULL; INVALID_ARGUMENT also without `tell`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn duly_submit_async(
    pool: *const duly_pool,
    options: *const duly_task_options,
    run: duly_run_fn,
    user_data: *mut c_void,
    drop: duly_drop_fn,
    tell: duly_submitted_fn,
    tell_data: *mut c_void,
    task: *mut *mut duly_task,
) -> duly_status {
    checked(|| {
        // SAFETY: the header asks for a live handle and for NULL or a struct as long as its size says.
        let (pool, options) = unsafe { (handle::borrow(pool)?, read_task(options)?) };
        let (Some(tell), true) = (tell, run.is_some()) else {
            return Err(duly_status::DULY_STATUS_INVALID_ARGUMENT);
        };
        let mut how = pool.options();
        // SAFETY: the header asks for what the function does.
        let ticket = unsafe { ask_ahead(pool, &options, None, &mut how) }?;
        let data = Owned::new(user_data, drop);
        let callback = move |context: &Context| -> Result<Owned, Failure> {
            let data = data;
            Call::run(run, &data, context)
        };
        let submit = how.submit_async(callback);
        let deliver = submit.deliverer();
        let mut future: Polling = Box::pin(async move {
            match submit.await {
                Ok(accepted) => Ok(Accepted(accept(accepted, ticket))),
                Err(refused) => {
                    let status = refused.kind().into();
                    // The caller's again.
                    std::mem::forget(refused.into_callback());
                    Err(status)
                }
            }
        });
        // Most find room: nobody has to be woken.
        let first = future.as_mut().poll(&mut TaskContext::from_waker(Waker::noop()));
        let answer = match first {
            Poll::Ready(answer) => Some(answer),
            Poll::Pending => {
                let waiting = Arc::new(Waiting {
                    place: Mutex::new(Place::Idle(future)),
                    told: Told { tell, data: tell_data },
                    deliver,
                });
                waiting.go_on()
            }
        };
        let Accepted(accepted) = answer.ok_or(duly_status::DULY_STATUS_PENDING)??;
        if task.is_null() {
            // SAFETY: a reference that nobody has but this function.
            unsafe { ticket::release(accepted) };
        } else {
            // SAFETY: not null; the header asks for a place to write to.
            unsafe { task.write(accepted) };
        }
        Ok(())
    })
}
