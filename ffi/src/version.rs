//! Versions: of the release and of the ABI, as macros in the header and as functions in the library, so that a program
//! can compare what it was compiled against with what it runs with.

use std::ffi::c_char;

use crate::text::view;

/// The release this header belongs to: major, minor, patch.
pub const DULY_VERSION_MAJOR: u32 = 0;
/// The middle number of the release.
pub const DULY_VERSION_MINOR: u32 = 1;
/// The last number of the release.
pub const DULY_VERSION_PATCH: u32 = 0;
/// The number of the ABI, which is the number in the soname: a program runs with any library of the same number.
pub const DULY_ABI_VERSION: u32 = 0;

/// The header's numbers are the crate's: a release that forgets one does not compile.
const _: () = {
    assert!(DULY_VERSION_MAJOR == number(env!("CARGO_PKG_VERSION_MAJOR")));
    assert!(DULY_VERSION_MINOR == number(env!("CARGO_PKG_VERSION_MINOR")));
    assert!(DULY_VERSION_PATCH == number(env!("CARGO_PKG_VERSION_PATCH")));
};

const fn number(digits: &str) -> u32 {
    let bytes = digits.as_bytes();
    let (mut index, mut value) = (0, 0);
    while index < bytes.len() {
        value = value * 10 + (bytes[index] - b'0') as u32;
        index += 1;
    }
    value
}

/// The version of the library in use: major * 1000000 + minor * 1000 + patch. Compare with `DULY_VERSION_NUMBER`.
/// Ownership: none.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none.
#[unsafe(no_mangle)]
pub extern "C" fn duly_version_number() -> u32 {
    DULY_VERSION_MAJOR * 1_000_000 + DULY_VERSION_MINOR * 1_000 + DULY_VERSION_PATCH
}

/// The version of the library in use as text, such as "0.1.0".
/// Ownership: a static string, never NULL.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none.
#[unsafe(no_mangle)]
pub extern "C" fn duly_version_string() -> *const c_char {
    // The text carries its own terminator.
    view(std::ffi::CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()).unwrap_or(c""))
}

/// The ABI of the library in use. A program that finds another number than its `DULY_ABI_VERSION` must not go on.
/// Ownership: none.
/// Thread-safety: any thread.
/// Blocks: never.
/// Status: none.
#[unsafe(no_mangle)]
pub extern "C" fn duly_abi_version() -> u32 {
    DULY_ABI_VERSION
}
