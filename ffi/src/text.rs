//! Text that crosses the border: C strings in, views out.
//!
//! Views are NUL-terminated, never null, and live as long as the object that owns them.

use std::borrow::Cow;
use std::ffi::{CStr, CString, c_char};

/// A view as C gets it.
pub(crate) fn view(text: &CStr) -> *const c_char {
    text.as_ptr()
}

/// Rust text as a C string; a NUL inside would cut it short, so it is shown as U+FFFD.
pub(crate) fn to_c(text: &str) -> CString {
    CString::new(text).unwrap_or_else(|_| CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default())
}

/// A C string handed in, or `None` for null. What is not UTF-8 becomes U+FFFD: a path makes a fine label.
///
/// # Safety
/// `text` is null or a NUL-terminated string that stays unchanged for `'a`.
pub(crate) unsafe fn from_c<'a>(text: *const c_char) -> Option<Cow<'a, str>> {
    if text.is_null() {
        return None;
    }
    // SAFETY: not null, NUL-terminated by this function's contract.
    Some(unsafe { CStr::from_ptr(text) }.to_string_lossy())
}
