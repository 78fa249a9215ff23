//! Thread states of threads that the interpreter does not know: core's timer and delivery threads, `duly-later`.
//!
//! Until 3.12 a child that is forked while some thread makes its state hangs within os.fork: the interpreter's list of them
//! is locked, for ever, before its locks are made anew. PyGILState_Ensure makes them at any time. So the linker puts the
//! functions of this file in the place of it and its counterpart (as src/unwind.rs does with others).
//!
//! And until 3.14 an interpreter that finalizes frees all states but that of its own thread: one that was just made, and is not
//! attached yet, under the hands of the thread that makes it.
//!
//! Keeps true:
//! 1. No state is made from where a fork begins to where it is over: a fork waits for one that is being made, for which nothing
//!    is needed that the fork holds; and makers wait for forks. Neither waits longer than `PATIENCE`.
//! 2. Nothing that a first attachment notes for ever is being noted while a fork may happen: `prepare` attaches once.
//! 3. A state is given up at the end of its outermost use, as without this file.
//! 4. Until 3.14, once the exit handlers have been through, no state is made, and none is half made: a thread without one gets
//!    nothing done with the interpreter any more (`try_attach`). What comes in another way parks, as it would a moment later.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pyo3::ffi::{self, PyGILState_STATE, PyInterpreterState};
use pyo3::prelude::*;

use crate::unwind::{ParkOnUnwind, park};

/// Far longer than either takes.
const PATIENCE: Duration = Duration::from_secs(1);

/// Those under way. Both are looked at by each side after it has announced itself.
static FORKS: AtomicU32 = AtomicU32::new(0);
static MAKERS: AtomicU32 = AtomicU32::new(0);

/// Whether the exit handlers have been through, and how many threads without a state are about to be attached. Both are looked at
/// by each side after it has announced itself.
static OVER: AtomicBool = AtomicBool::new(false);
static COMING: AtomicU32 = AtomicU32::new(0);
/// How many have come so far, and how many of those are not done yet.
static CAME: AtomicU64 = AtomicU64::new(0);
static HERE: AtomicU32 = AtomicU32::new(0);

/// How long to wait at exit for those that are about to be attached: as long as others hold the interpreter.
const ATTACHED: Duration = Duration::from_secs(10);
/// How long to let them come before, one after the other; and after how long without one there is none.
const TOLD: Duration = Duration::from_secs(1);
const QUIET: Duration = Duration::from_millis(2);

/// Where states are made; null: the interpreter takes care by itself.
static INTERPRETER: AtomicPtr<PyInterpreterState> = AtomicPtr::new(std::ptr::null_mut());

thread_local! {
    /// How often this thread uses the state that was made for it here, one within the other.
    static USES: Cell<u32> = const { Cell::new(0) };
    /// Whether this thread counts as coming since before PyO3 was asked to attach it.
    static ANNOUNCED: Cell<bool> = const { Cell::new(false) };
}

/// To be called when the module is made.
pub(crate) fn prepare(py: Python<'_>) {
    // PyO3 notes once, by a std::sync::Once, that the interpreter is there: for the first thread that attaches. A fork at that
    // moment left the child with a note that is being made for ever, and no thread there could attach.
    py.detach(|| Python::try_attach(|_| ()));
    OVER.store(false, Ordering::SeqCst);
    if py.version_info() < (3, 12) {
        // SAFETY: attached.
        INTERPRETER.store(unsafe { ffi::PyInterpreterState_Get() }, Ordering::Release);
    }
}

/// To be called before each fork, by the thread that forks.
#[pyfunction]
pub(crate) fn _before_fork() {
    FORKS.fetch_add(1, Ordering::SeqCst);
    let until = Instant::now() + PATIENCE;
    while MAKERS.load(Ordering::SeqCst) > 0 && Instant::now() < until {
        std::thread::yield_now();
    }
}

/// To be called after each fork in the parent, also after one that failed.
#[pyfunction]
pub(crate) fn _after_fork_in_parent() {
    FORKS.fetch_sub(1, Ordering::SeqCst);
}

/// In a forked child: makers and forks are the parent's.
pub(crate) fn after_fork_in_child() {
    FORKS.store(0, Ordering::SeqCst);
    MAKERS.store(0, Ordering::SeqCst);
    COMING.store(0, Ordering::SeqCst);
    CAME.store(0, Ordering::SeqCst);
    HERE.store(0, Ordering::SeqCst);
    // It lives on, whatever the parent was about to do.
    OVER.store(false, Ordering::SeqCst);
}

/// To be called by the last exit handler: from here on no thread gets a state, and those that were about to have one when
/// this returns. What is being told to done callbacks and the like is told first, within `TOLD`.
pub(crate) fn attach_no_more(py: Python<'_>) {
    if py.version_info() >= (3, 14) {
        return;
    }
    let (until, mut came) = (Instant::now() + TOLD, 0);
    while CAME.load(Ordering::SeqCst) != came || HERE.load(Ordering::SeqCst) > 0 {
        if Instant::now() >= until {
            break;
        }
        came = CAME.load(Ordering::SeqCst);
        py.detach(|| std::thread::sleep(QUIET));
    }
    OVER.store(true, Ordering::SeqCst);
    let until = Instant::now() + ATTACHED;
    while COMING.load(Ordering::SeqCst) > 0 && Instant::now() < until {
        py.detach(|| std::thread::sleep(Duration::from_micros(200)));
    }
}

/// Whether this thread has a state.
pub(crate) fn is_known() -> bool {
    // SAFETY: may be called by any thread; null where the interpreter knows nothing of it.
    !unsafe { ffi::PyGILState_GetThisThreadState() }.is_null()
}

/// Does `job` with the interpreter. None, and `job` is dropped undone, when that is gone or about to go. Any thread of core's may
/// have to call this, so nothing else attaches where the thread may be one that Python does not know.
pub(crate) fn try_attach<R>(job: impl FnOnce(Python<'_>) -> R) -> Option<R> {
    if is_known() {
        return Python::try_attach(job);
    }
    if !come() {
        return None;
    }
    ANNOUNCED.set(true);
    HERE.fetch_add(1, Ordering::SeqCst);
    let done = Python::try_attach(|py| {
        arrive();
        job(py)
    });
    arrive();
    // In a child that `job` has forked nobody is counted.
    let _ = HERE.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |here| here.checked_sub(1));
    done
}

/// Counts this thread as coming: true; or it is too late.
fn come() -> bool {
    COMING.fetch_add(1, Ordering::SeqCst);
    if OVER.load(Ordering::SeqCst) {
        COMING.fetch_sub(1, Ordering::SeqCst);
        return false;
    }
    CAME.fetch_add(1, Ordering::SeqCst);
    true
}

/// What was announced is attached, or will not be.
fn arrive() {
    if ANNOUNCED.replace(false) {
        COMING.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Makes this thread's state, while nobody forks.
fn make(interpreter: *mut PyInterpreterState) {
    let patience = OnceLock::new();
    loop {
        MAKERS.fetch_add(1, Ordering::SeqCst);
        let until = || *patience.get_or_init(|| Instant::now() + PATIENCE);
        if FORKS.load(Ordering::SeqCst) == 0 || Instant::now() >= until() {
            break;
        }
        MAKERS.fetch_sub(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_micros(50));
    }
    // SAFETY: any thread may, without being attached; this one has no state yet.
    unsafe { ffi::PyThreadState_New(interpreter) };
    MAKERS.fetch_sub(1, Ordering::SeqCst);
}

unsafe extern "C-unwind" {
    fn __real_PyGILState_Ensure() -> PyGILState_STATE;
    fn __real_PyGILState_Release(state: PyGILState_STATE);
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_PyGILState_Ensure() -> PyGILState_STATE {
    let end = ParkOnUnwind;
    let uses = USES.get();
    let new = uses == 0 && !is_known();
    let unannounced = new && !ANNOUNCED.get();
    if unannounced && !come() {
        park();
    }
    let interpreter = INTERPRETER.load(Ordering::Acquire);
    if uses > 0 {
        USES.set(uses + 1);
    } else if new && !interpreter.is_null() {
        make(interpreter);
        USES.set(1);
    }
    // SAFETY: as the caller promises.
    let state = unsafe { __real_PyGILState_Ensure() };
    if unannounced {
        COMING.fetch_sub(1, Ordering::SeqCst);
    }
    std::mem::forget(end);
    state
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_PyGILState_Release(state: PyGILState_STATE) {
    let end = ParkOnUnwind;
    let uses = USES.get();
    USES.set(uses.saturating_sub(1));
    if uses == 1 {
        // The use that the state was born with: after this, it is the last one that is given up.
        // SAFETY: attached, as the caller promises; it stays so.
        unsafe { __real_PyGILState_Release(PyGILState_STATE::PyGILState_LOCKED) };
    }
    // SAFETY: as the caller promises.
    unsafe { __real_PyGILState_Release(state) };
    std::mem::forget(end);
}

// The module exports its init function and nothing else.
std::arch::global_asm!(".hidden __wrap_PyGILState_Ensure", ".hidden __wrap_PyGILState_Release");
