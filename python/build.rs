//! Keeps true: the module exports PyInit__duly and nothing else, whatever static libraries it is linked with.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cdylib-link-arg=-Wl,--exclude-libs,ALL");
}
