//! libduly: re-exports the C ABI of `duly-ffi` so that the linker keeps every `duly_*` function, and nothing else.

pub use duly_ffi::*;
