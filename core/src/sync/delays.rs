//! The atomics of std with a random short delay before most steps, to bring rare interleavings about
//! (`RUSTFLAGS="--cfg duly_delays"`; locks call [`point`] as well).
//!
//! Keeps true: a delay changes nothing but time. The choices follow from `DULY_DELAY_SEED` and the order in which
//! threads make their first step; one step in `DULY_DELAY_RATE` (default 16) is delayed, 0 for none.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{self as std_atomic, Ordering};
use std::time::Duration;

thread_local! {
    /// The state of this thread's choices; 0 before the first.
    static RANDOM: Cell<u64> = const { Cell::new(0) };
}

fn env(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// (seed, rate), read once.
fn config() -> (u64, u64) {
    static CONFIG: OnceLock<(u64, u64)> = OnceLock::new();
    *CONFIG.get_or_init(|| (env("DULY_DELAY_SEED", 1), env("DULY_DELAY_RATE", 16)))
}

/// Mixes the bits (splitmix64).
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ x >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ x >> 31
}

/// A step of a protocol: now and then nothing happens for a while.
pub(crate) fn point() {
    static THREADS: std_atomic::AtomicU64 = std_atomic::AtomicU64::new(0);
    let (seed, rate) = config();
    if rate == 0 {
        return;
    }
    let before = match RANDOM.get() {
        0 => mix(seed ^ mix(THREADS.fetch_add(1, Ordering::Relaxed))),
        state => state,
    };
    // xorshift64: never zero.
    let mut state = before | 1;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    RANDOM.set(state);
    let choice = mix(state);
    if !choice.is_multiple_of(rate) {
        return;
    }
    match choice >> 32 & 0xF {
        0..8 => (0..(choice >> 40 & 0xFF)).for_each(|_| std::hint::spin_loop()),
        8..14 => std::thread::yield_now(),
        _ => std::thread::sleep(Duration::from_micros(choice >> 40 & 0x7F)),
    }
}

#[inline]
pub(crate) fn fence(order: Ordering) {
    point();
    std_atomic::fence(order);
}

/// One type of std, wrapped: `steps` are its functions of one operand.
macro_rules! delayed {
    ($name:ident $(<$param:ident>)?, $value:ty, $($step:ident)*) => {
        #[derive(Debug)]
        #[repr(transparent)]
        pub(crate) struct $name $(<$param>)?(std_atomic::$name $(<$param>)?);

        impl $(<$param>)? Default for $name $(<$param>)? {
            fn default() -> Self {
                Self(std_atomic::$name::default())
            }
        }

        #[expect(dead_code, reason = "the interface of std, whatever of it is used")]
        impl $(<$param>)? $name $(<$param>)? {
            pub(crate) const fn new(value: $value) -> Self {
                Self(std_atomic::$name::new(value))
            }

            pub(crate) fn load(&self, order: Ordering) -> $value {
                point();
                self.0.load(order)
            }

            pub(crate) fn store(&self, value: $value, order: Ordering) {
                point();
                self.0.store(value, order);
            }

            pub(crate) fn compare_exchange(
                &self,
                old: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                point();
                self.0.compare_exchange(old, new, success, failure)
            }

            pub(crate) fn compare_exchange_weak(
                &self,
                old: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                point();
                self.0.compare_exchange_weak(old, new, success, failure)
            }

            $(
                pub(crate) fn $step(&self, value: $value, order: Ordering) -> $value {
                    point();
                    self.0.$step(value, order)
                }
            )*
        }
    };
}

delayed!(AtomicBool, bool, swap);
delayed!(AtomicPtr<T>, *mut T, swap);
delayed!(AtomicU32, u32, swap fetch_add fetch_sub fetch_or);
delayed!(AtomicU64, u64, swap fetch_add fetch_sub fetch_or);
delayed!(AtomicUsize, usize, swap fetch_add fetch_sub fetch_or);
