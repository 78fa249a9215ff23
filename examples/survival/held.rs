//! What the process holds before and after: threads, descriptors, bytes, resident memory.
//!
//! Keeps true: every byte of the allocator is counted, so that one byte left behind is seen.

use crate::books::PATIENCE;
use anyhow::Result;
use duly::{Pool, Task};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What the process holds: threads, open descriptors, allocated bytes.
pub(crate) struct Held {
    pub(crate) threads: i64,
    pub(crate) descriptors: i64,
    pub(crate) bytes: i64,
    /// Resident memory in KiB: sees what does not come from the allocator, and also what the C library keeps for itself.
    pub(crate) resident: i64,
}

impl Held {
    pub(crate) fn now() -> Held {
        let entries = |dir| std::fs::read_dir(dir).map_or(0, |entries| entries.count() as i64);
        let (threads, descriptors) = (entries("/proc/self/task"), entries("/proc/self/fd"));
        Held {
            threads,
            descriptors,
            bytes: ALLOCATED.load(Ordering::Relaxed),
            resident: memory_kib("VmRSS:"),
        }
    }

    /// The callbacks that were stuck return now; their threads end, and with the last one the pool's memory goes.
    pub(crate) fn wait_until_gone(&self, slack: i64) -> Held {
        let until = Instant::now() + PATIENCE;
        loop {
            let now = Held::now();
            let gone =
                now.threads <= self.threads && now.descriptors <= self.descriptors && now.bytes <= self.bytes + slack;
            if gone || Instant::now() > until {
                return now;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// What the standard library and the pool set up once in a process, or once for this thread, and keep: stdout's buffer,
/// how this thread sleeps, …
pub(crate) fn warm_up() -> Result<()> {
    println!("survival: on {} processors", thread::available_parallelism()?);
    let pool = Pool::builder().name("surv-warm").workers(1).build()?;
    let panics: Task<()> = pool.spawn(|| {
        thread::sleep(Duration::from_millis(20));
        panic!("planted panic")
    })?;
    let _ = panics.wait();
    drop(panics);
    pool.shutdown(Duration::from_secs(1))?;
    Ok(())
}

/// A figure of the kernel about this process's memory; one that is not there fails every check.
pub(crate) fn memory_kib(figure: &str) -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let value = status.lines().find_map(|line| line.strip_prefix(figure));
    value
        .and_then(|value| value.split_whitespace().next()?.parse().ok())
        .unwrap_or(i64::MAX / 2048)
}

/// The system's allocator, counting what is held.
struct Counting;

static ALLOCATED: AtomicI64 = AtomicI64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes to the system's allocator unchanged; counting touches no memory of the caller.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(block, layout) }
    }
}
