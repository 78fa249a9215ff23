//! What has to be done with the interpreter, for threads that must not wait for it: the timer thread of a pool, and workers of
//! native pools. A thread that is there while there is something to do does it.
//!
//! Keeps true:
//! 1. Whoever hands something over waits for nobody but others who do.
//! 2. At most one such thread is there; it ends when there is nothing left. `settled` waits for what was handed over before,
//!    and for nothing that comes after; and not at all on that thread, where user code runs that may wait.
//! 3. A forked child begins anew: the thread, and what it had to do, are the parent's.
//! 4. The lock is a leaf: nothing runs under it, and no thread is created.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;

use crate::states;

type Job = Box<dyn FnOnce(Python<'_>) + Send>;

#[derive(Default)]
struct Later {
    state: Mutex<State>,
    settled: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    /// How many were handed over, and how many of those are done.
    handed: u64,
    done: u64,
    /// A thread does them, or is about to be created.
    served: bool,
}

static LATER: AtomicPtr<Later> = AtomicPtr::new(std::ptr::null_mut());

/// That of this process; never freed.
fn here() -> &'static Later {
    let mut later = LATER.load(Ordering::Acquire);
    if later.is_null() {
        let made = Box::into_raw(Box::<Later>::default());
        later = match LATER.compare_exchange(later, made, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => made,
            Err(other) => {
                // SAFETY: made above, and given to nobody.
                drop(unsafe { Box::from_raw(made) });
                other
            }
        };
    }
    // SAFETY: made by Box::into_raw, here, and never freed.
    unsafe { &*later }
}

/// In a forked child: see (3).
pub(crate) fn after_fork_in_child() {
    LATER.store(std::ptr::null_mut(), Ordering::Release);
}

fn lock(later: &Later) -> MutexGuard<'_, State> {
    later.state.lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    static NATIVE: Cell<bool> = const { Cell::new(false) };
    /// Whether this thread does what was handed over.
    static SERVES: Cell<bool> = const { Cell::new(false) };
}

/// From now on this thread never attaches.
pub(crate) fn never_attach() {
    NATIVE.set(true);
}

/// Whether this thread never attaches.
pub(crate) fn never_attaches() -> bool {
    NATIVE.get()
}

/// Does `job` with the interpreter: now, or, on a thread that never attaches, soon on another one. When the interpreter is
/// gone, or about to go (`states::try_attach`), it is dropped undone.
pub(crate) fn attached(job: impl FnOnce(Python<'_>) + Send + 'static) {
    if never_attaches() {
        hand_over(Box::new(job));
    } else {
        states::try_attach(job);
    }
}

/// The same for who may be on a thread of core's, the timer thread perhaps: only threads that Python knows do it now.
pub(crate) fn attached_unless_alien(job: impl FnOnce(Python<'_>) + Send + 'static) {
    if states::is_known() {
        states::try_attach(job);
    } else {
        hand_over(Box::new(job));
    }
}

fn hand_over(job: Job) {
    let later = here();
    let start = {
        let mut state = lock(later);
        state.jobs.push_back(job);
        state.handed += 1;
        !std::mem::replace(&mut state.served, true)
    };
    if start {
        let thread = std::thread::Builder::new().name("duly-later".to_owned());
        if thread.spawn(|| serve(later)).is_err() {
            // There is no other way left.
            serve(later);
        }
    }
}

fn serve(later: &Later) {
    SERVES.set(true);
    let mut state = lock(later);
    loop {
        let jobs = std::mem::take(&mut state.jobs);
        if jobs.is_empty() {
            state.served = false;
            SERVES.set(false);
            return;
        }
        drop(state);
        let many = jobs.len() as u64;
        states::try_attach(|py| jobs.into_iter().for_each(|job| job(py)));
        state = lock(later);
        state.done += many;
        later.settled.notify_all();
    }
}

/// How many jobs were handed over until now.
pub(crate) fn handed() -> u64 {
    lock(here()).handed
}

/// Waits until so many jobs are done as `handed` has told, for at most `limit`: whether they are. To be called detached.
pub(crate) fn settled(handed: u64, limit: Duration) -> bool {
    if SERVES.get() {
        return true;
    }
    let later = here();
    let state = lock(later);
    let waited = later
        .settled
        .wait_timeout_while(state, limit, |state| state.done < handed);
    waited.unwrap_or_else(PoisonError::into_inner).0.done >= handed
}

/// Whether nothing is left to do.
pub(crate) fn is_settled() -> bool {
    let state = lock(here());
    SERVES.get() || state.done == state.handed
}
