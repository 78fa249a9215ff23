//! P7 through the C ABI, with callbacks written in Rust: C itself cannot panic.

use std::ffi::{CStr, c_void};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicUsize, Ordering};

use duly_ffi::*;

const SECOND: u64 = 1_000_000_000;

unsafe extern "C-unwind" fn run_panic(_: *mut c_void, _: *mut duly_call) -> i32 {
    panic!("planted: no such thing");
}

unsafe extern "C-unwind" fn run_nothing(_: *mut c_void, _: *mut duly_call) -> i32 {
    0
}

unsafe extern "C-unwind" fn drop_panic(_: *mut c_void) {
    panic!("planted: in a drop");
}

unsafe extern "C-unwind" fn run_value_whose_drop_panics(_: *mut c_void, call: *mut duly_call) -> i32 {
    // SAFETY: the call is borrowed from a running callback.
    unsafe { duly_call_set_value(call, null_mut(), Some(drop_panic)) as i32 }
}

/// Runs a callback in a pool of its own and hands the ended task to `look`.
fn with_task(run: duly_run_fn, look: impl FnOnce(*mut duly_task, duly_outcome)) {
    let (mut pool, mut task) = (null_mut(), null_mut());
    let mut outcome = duly_outcome::DULY_SHED;
    // SAFETY: outputs are live variables, handles are released once, below; the callbacks use no user_data.
    unsafe {
        assert_eq!(duly_pool_new(null(), &raw mut pool), duly_status::DULY_STATUS_OK);
        let status = duly_submit(pool, null(), run, null_mut(), None, &raw mut task);
        assert_eq!(status, duly_status::DULY_STATUS_OK);
        let status = duly_task_wait(task, 20 * SECOND, &raw mut outcome);
        assert_eq!(status, duly_status::DULY_STATUS_OK);
        look(task, outcome);
        // The worker has survived: it runs another one.
        let mut next = null_mut();
        let status = duly_submit(pool, null(), Some(run_nothing), null_mut(), None, &raw mut next);
        assert_eq!(status, duly_status::DULY_STATUS_OK);
        assert_eq!(
            duly_task_wait(next, 20 * SECOND, &raw mut outcome),
            duly_status::DULY_STATUS_OK
        );
        assert_eq!(outcome, duly_outcome::DULY_SUCCEEDED);
        duly_task_release(next);
        assert_eq!(
            duly_pool_shutdown(pool, 20 * SECOND, null_mut()),
            duly_status::DULY_STATUS_OK
        );
        duly_pool_release(pool);
    }
}

#[test]
fn p07_a_callback_that_panics_has_panicked_with_its_message() {
    with_task(Some(run_panic), |task, outcome| {
        assert_eq!(outcome, duly_outcome::DULY_PANICKED);
        // SAFETY: the task is live until the release; its message lives as long.
        unsafe {
            for _ in 0..2 {
                let message = CStr::from_ptr(duly_task_message(task));
                assert_eq!(message.to_str(), Ok("planted: no such thing"));
            }
            assert_eq!(duly_task_code(task), 0);
            let mut value = null_mut();
            assert_eq!(duly_task_take(task, &raw mut value), duly_status::DULY_STATUS_NO_VALUE);
            duly_task_release(task);
        }
    });
}

#[test]
fn p07_a_drop_that_panics_does_not_cross_the_border() {
    with_task(Some(run_value_whose_drop_panics), |task, outcome| {
        assert_eq!(outcome, duly_outcome::DULY_SUCCEEDED);
        // SAFETY: the task is live, and this is its last reference: the value is dropped inside this call.
        unsafe { duly_task_release(task) };
    });
}

unsafe extern "C-unwind" fn count(data: *mut c_void) {
    // SAFETY: the test hands in its own counter, which outlives the task.
    unsafe { &*data.cast::<AtomicUsize>() }.fetch_add(1, Ordering::Relaxed);
}

static DROPPED: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C-unwind" fn run_sets_and_panics(_: *mut c_void, call: *mut duly_call) -> i32 {
    // SAFETY: the call is borrowed from a running callback; `count` takes this pointer.
    unsafe { duly_call_set_value(call, (&raw const DROPPED).cast_mut().cast(), Some(count)) };
    panic!("planted: after the value was set");
}

#[test]
fn p06_a_value_that_was_set_before_a_panic_is_dropped_once() {
    with_task(Some(run_sets_and_panics), |task, outcome| {
        assert_eq!(outcome, duly_outcome::DULY_PANICKED);
        assert_eq!(DROPPED.load(Ordering::Relaxed), 1);
        // SAFETY: the task is live, and this is its last reference.
        unsafe { duly_task_release(task) };
    });
    assert_eq!(DROPPED.load(Ordering::Relaxed), 1);
}
