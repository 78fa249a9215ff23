//! How many allocations a task costs, counted: none but for what its captured data, its label or its token need (P5).
//!
//! Counts all threads of this program, so each measurement runs alone, and after a warm-up that fills what is recycled.

use duly::{CancellationToken, Carry, Pool, Task};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: as the system's allocator, which does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller says.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller says.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller says.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const TASKS: usize = 1000;

/// Allocations a task, of `round`, which handles [`TASKS`] tasks; the least of some rounds after a warm-up, as threads that
/// go to sleep meanwhile may allocate.
fn count(what: &str, limit: f64, mut round: impl FnMut(&mut Vec<Task<()>>)) {
    let mut tasks = Vec::with_capacity(TASKS);
    let mut least = u64::MAX;
    for turn in 0..20 {
        tasks.clear();
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        round(&mut tasks);
        if turn > 3 {
            least = least.min(ALLOCATIONS.load(Ordering::Relaxed) - before);
        }
    }
    let each = least as f64 / TASKS as f64;
    println!("figure: allocations {what} = {each:.3} a task");
    assert!(each <= limit, "{what}: {each} allocations a task, not at most {limit}");
}

#[test]
fn p05_a_task_costs_no_allocation_but_its_own_data() {
    let pool = Pool::builder().workers(2).capacity(TASKS).build().unwrap();
    let wait = |tasks: &mut Vec<Task<()>>| tasks.iter().for_each(|task| task.wait().unwrap());
    count("submit and wait", 0.01, |tasks| {
        tasks.extend((0..TASKS).map(|_| pool.spawn(|| ()).unwrap()));
        wait(tasks);
    });
    count("submit, nobody waits", 0.01, |_| {
        for _ in 0..TASKS {
            drop(pool.spawn(|| ()).unwrap());
        }
    });
    count("with three words of captured data", 0.01, |tasks| {
        let data = [1u64, 2, 3];
        tasks.extend((0..TASKS).map(|_| pool.spawn(move || _ = std::hint::black_box(data)).unwrap()));
        wait(tasks);
    });
    count("with more, which is boxed", 1.01, |tasks| {
        let data = [1u64; 8];
        tasks.extend((0..TASKS).map(|_| pool.spawn(move || _ = std::hint::black_box(data)).unwrap()));
        wait(tasks);
    });
    count("with a deadline", 0.05, |tasks| {
        let options = pool.options().timeout(Duration::from_secs(3600));
        tasks.extend((0..TASKS).map(|_| options.spawn(|| ()).unwrap()));
        wait(tasks);
    });
    count("under a token", 1.05, |tasks| {
        let token = CancellationToken::new();
        let options = pool.options().token(&token);
        tasks.extend((0..TASKS).map(|_| options.spawn(|| ()).unwrap()));
        wait(tasks);
    });
    count("with a label", 2.01, |tasks| {
        let options = pool.options().label("labelled");
        tasks.extend((0..TASKS).map(|_| options.spawn(|| ()).unwrap()));
        wait(tasks);
    });
    count("many in one call", 0.01, |_| {
        let tasks = pool.spawn_many((0..TASKS).map(|_| || ())).unwrap();
        tasks.iter().for_each(|task| task.wait().unwrap());
    });
    count("cancelled while running or queued", 0.01, |tasks| {
        tasks.extend((0..TASKS).map(|_| pool.spawn(|| ()).unwrap()));
        tasks.iter().for_each(|task| _ = task.cancel());
        // What was running is let go of before the next round.
        while pool.stats().overdue > 0 {
            std::thread::yield_now();
        }
    });
    count("an item of a map", 0.05, |_| {
        assert_eq!(pool.map(0..TASKS, |_| ()).chunk_size(250).count(), TASKS);
    });
    let (mut producer, mut consumer) = duly::spsc::ring(TASKS);
    count("a value through a ring", 0.0, |_| {
        for n in 0..TASKS / 2 {
            producer.try_push(n).unwrap();
            assert_eq!(consumer.try_pop(), Ok(n));
        }
        assert_eq!(producer.push_from(&mut (0..TASKS / 2)), TASKS / 2);
        assert!(consumer.drain().eq(0..TASKS / 2));
    });
    struct Number;
    impl Carry for Number {
        type Captured = u64;
        type Entered = ();
        fn capture(&self) -> Option<u64> {
            Some(1)
        }
        fn enter(&self, _: &u64) {}
    }
    let pool = Pool::builder()
        .workers(2)
        .capacity(TASKS)
        .context(Number)
        .build()
        .unwrap();
    count("with a context", 1.01, |tasks| {
        tasks.extend((0..TASKS).map(|_| pool.spawn(|| ()).unwrap()));
        wait(tasks);
    });
}
