//! The panic boundary: every exported function runs its body in [`boundary`], so that no unwinding crosses into C.
//!
//! A panic that arrives here is a defect of duly, or came out of a `drop` function written in Rust: the caller gets
//! `DULY_STATUS_PANIC`, or the function's neutral answer when it returns no status.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::foreign;
use crate::status::duly_status;

/// What a function answers when its body panicked.
pub(crate) trait Neutral {
    fn neutral() -> Self;
}

impl Neutral for duly_status {
    fn neutral() -> Self {
        duly_status::DULY_STATUS_PANIC
    }
}

impl Neutral for () {
    fn neutral() -> Self {}
}

impl Neutral for bool {
    fn neutral() -> Self {
        false
    }
}

impl Neutral for i32 {
    fn neutral() -> Self {
        0
    }
}

impl Neutral for u64 {
    fn neutral() -> Self {
        0
    }
}

impl Neutral for usize {
    fn neutral() -> Self {
        0
    }
}

impl<T> Neutral for *mut T {
    fn neutral() -> Self {
        std::ptr::null_mut()
    }
}

impl Neutral for &std::ffi::CStr {
    fn neutral() -> Self {
        c""
    }
}

pub(crate) fn boundary<R: Neutral>(body: impl FnOnce() -> R) -> R {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| {
        // The payload's destructor is foreign code too: it may panic in its turn, and then that payload is left alone.
        if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            std::mem::forget(again);
        }
        R::neutral()
    })
}

/// The boundary of functions whose body may stop early with a status.
pub(crate) fn checked(body: impl FnOnce() -> Result<(), duly_status>) -> duly_status {
    foreign::come_in();
    boundary(|| match body() {
        Ok(()) => duly_status::DULY_STATUS_OK,
        Err(status) => status,
    })
}

#[cfg(test)]
mod tests {
    use super::{boundary, checked};
    use crate::status::duly_status;

    #[test]
    fn p07_a_panic_inside_the_library_becomes_a_status() {
        assert_eq!(checked(|| panic!("planted")), duly_status::DULY_STATUS_PANIC);
        assert!(!boundary(|| -> bool { panic!("planted") }));
    }

    #[test]
    fn p07_a_payload_whose_destructor_panics_does_not_escape() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("planted in the payload");
            }
        }
        assert_eq!(checked(|| std::panic::panic_any(Bomb)), duly_status::DULY_STATUS_PANIC);
    }
}
