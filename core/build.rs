//! Refuses platforms that duly does not support, with a sentence that says so.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let os = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    let env = std::env::var("CARGO_CFG_TARGET_ENV").unwrap_or_default();
    let width = std::env::var("CARGO_CFG_TARGET_POINTER_WIDTH").unwrap_or_default();
    if os != "linux" || env != "gnu" || width != "64" {
        println!(
            "cargo::error=duly supports 64-bit Linux with glibc only; this build is for {os}-{env} ({width} bit). \
             Build for x86_64-unknown-linux-gnu or aarch64-unknown-linux-gnu."
        );
        std::process::exit(1);
    }
}
