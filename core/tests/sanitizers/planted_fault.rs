//! Faults on purpose, for the sanitizers to find: `ci/sanitize` trusts one only after it has reported these.
//!
//! Keeps true: `none` has no fault and uses the same parts; each of the others has exactly the fault of its name.
//! The fault of `race` and `pool-race` is the one that matters most in duly: what was written before a flag is read
//! after it, and the flag orders nothing.

use std::cell::UnsafeCell;
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// A value that one thread leaves for another.
struct Mailbox {
    value: UnsafeCell<u64>,
    full: AtomicBool,
}

// SAFETY: the value is read only after `full` was seen; whether that is enough depends on the orderings below.
unsafe impl Sync for Mailbox {}

impl Mailbox {
    fn new() -> Arc<Mailbox> {
        Arc::new(Mailbox {
            value: UnsafeCell::new(0),
            full: AtomicBool::new(false),
        })
    }

    fn put(&self, order: Ordering) {
        // SAFETY: the only writer, and nobody reads before `full` is set.
        unsafe { *self.value.get() = 42 };
        self.full.store(true, order);
    }

    fn take(&self, order: Ordering) -> u64 {
        while !self.full.load(order) {
            thread::yield_now();
        }
        // SAFETY: written before `full` was set; with `Relaxed` that is the planted fault.
        unsafe { *self.value.get() }
    }
}

/// Two threads and a flag.
fn pass(set: Ordering, see: Ordering) {
    let mailbox = Mailbox::new();
    let writer = {
        let mailbox = mailbox.clone();
        thread::spawn(move || mailbox.put(set))
    };
    assert_eq!(mailbox.take(see), 42);
    writer.join().expect("nothing here panics");
}

/// The same, written by a callback of a pool and read before its task was waited for.
fn pass_through_a_pool(set: Ordering, see: Ordering) {
    let pool = duly::Pool::builder().workers(2).build().expect("a small pool");
    let mailbox = Mailbox::new();
    let task = {
        let mailbox = mailbox.clone();
        pool.spawn(move || mailbox.put(set)).expect("there is room")
    };
    assert_eq!(mailbox.take(see), 42);
    task.wait().expect("nothing here panics");
    pool.shutdown(std::time::Duration::from_secs(5))
        .expect("not called from a worker");
}

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("none") => {
            pass(Ordering::Release, Ordering::Acquire);
            pass_through_a_pool(Ordering::Release, Ordering::Acquire);
        }
        Some("race") => pass(Ordering::Relaxed, Ordering::Relaxed),
        Some("pool-race") => pass_through_a_pool(Ordering::Relaxed, Ordering::Relaxed),
        Some("use-after-free") => {
            let block = Box::into_raw(black_box(Box::new(1_u64)));
            // SAFETY: from `Box::into_raw`.
            drop(unsafe { Box::from_raw(block) });
            // SAFETY: there is none: the planted fault.
            println!("{}", unsafe { block.read_volatile() });
        }
        Some("leak") => {
            // Overwritten, so that no register and no stack slot still leads to it.
            let mut block = Box::into_raw(Box::new([1_u8; 4321]));
            black_box(&mut block);
            block = std::ptr::null_mut();
            black_box(&mut block);
        }
        _ => {
            eprintln!("planted_fault: none, race, pool-race, use-after-free or leak?");
            return ExitCode::from(2);
        }
    }
    println!("planted_fault: went through");
    ExitCode::SUCCESS
}
