//! Another static library written in Rust, as a program may hold beside duly's.

/// The sum of 0 to `upto`; -1 for what is negative, over a panic that is caught here.
#[unsafe(no_mangle)]
pub extern "C" fn other_sum(upto: i32) -> i32 {
    std::panic::set_hook(Box::new(|_| {}));
    std::panic::catch_unwind(|| {
        assert!(upto >= 0, "negative");
        (0..=upto).sum()
    })
    .unwrap_or(-1)
}
