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

/// What the core tells about tasks, as text for the caller. Of a task that was submitted from C without a label and a place,
/// the core knows a function and a line of this crate, which say nothing to anybody: they are left out.
pub(crate) fn told(text: &str) -> CString {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("task `duly_ffi::") {
        let Some((_, after)) = after.split_once('`') else { break };
        out.push_str(before);
        out.push_str("a task without label");
        rest = after;
    }
    out.push_str(rest);
    let place = format!(" (submitted at {OWN}/");
    let mut shown = String::with_capacity(out.len());
    let mut rest = &*out;
    while let Some((before, after)) = rest.split_once(&*place) {
        let Some((_, after)) = after.split_once(')') else { break };
        shown.push_str(before);
        rest = after;
    }
    shown.push_str(rest);
    to_c(&shown)
}

/// The folder of this crate's sources, as the compiler writes it.
pub(crate) const OWN: &str = {
    let (path, name) = (file!(), "/text.rs");
    path.split_at(path.len() - name.len()).0
};

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

#[cfg(test)]
mod tests {
    use super::{OWN, told};

    #[test]
    fn p09_a_line_of_this_crate_is_no_place() {
        let text = format!(
            "task `duly_ffi::submit::{{{{closure}}}}` (submitted at {OWN}/submit.rs:9): running, abandoned\n\
             task `mine` (submitted at {OWN}/submit.rs:9); task `yours` (submitted at main.c:7)"
        );
        let shown = "a task without label: running, abandoned\ntask `mine`; task `yours` (submitted at main.c:7)";
        assert_eq!(told(&text).to_str(), Ok(shown));
        for whole in ["", "task `duly_ffi::", &format!("x (submitted at {OWN}/y"), "task `a`"] {
            assert_eq!(told(whole).to_str(), Ok(whole));
        }
    }
}
