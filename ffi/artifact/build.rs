//! The link arguments of libduly.so: a soname that carries the ABI's number, and no unloading.
//! The soname is set here and nowhere else; `DULY_ABI_VERSION` in ffi/src/version.rs is the same number (tests/abi checks it).

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libduly.so.0");
    // Threads of a pool may outlive a dlclose: the library is never unloaded (P9).
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
