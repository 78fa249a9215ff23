//! Story 2, the unmanaged spawn.
//!
//! An endpoint answers at once and fires a thread per request for a second call. A quick fix and a fast reply; but when
//! the second call is slow, the number of threads and the memory grow without bound until the service crashes.
//! The cure is 100 workers fed by a bounded queue.
//!
//! Keeps true: a flood over a pool whose callbacks hang leaves memory and threads flat, every request is answered or
//! refused, and the pool ends (the published cure's workers never did).

#[path = "../../core/tests/support/mod.rs"]
mod support;

use duly::{Outcome, Overflow, Pool, SubmitErrorKind};
use std::thread;
use support::{Gate, LONG, eventually, ms, resident, threads_named};

const MIB: usize = 1024 * 1024;
/// What a request carries.
const BODY: usize = 16 * 1024;
const WORKERS: usize = 100;
const CAPACITY: usize = 256;

fn body() -> Vec<u8> {
    vec![1; BODY]
}

/// One test, as both halves look at the memory of the whole process.
#[test]
fn p05_a_flood_over_100_workers_leaves_memory_flat() {
    // The second call hangs from the first request on.
    let backend = Gate::new();
    let pool = Pool::builder()
        .name("flood")
        .workers(WORKERS)
        .capacity(CAPACITY)
        .overflow(Overflow::Reject)
        .max_replacements(0)
        .build()
        .unwrap();
    let before = resident();
    let flood = |requests: usize, tasks: &mut Vec<_>| {
        let mut refused = 0;
        for _ in 0..requests {
            let (backend, body) = (backend.clone(), body());
            match pool.submit(move |_| {
                backend.pass();
                Ok::<_, ()>(body.len())
            }) {
                Ok(task) => tasks.push(task),
                Err(error) => {
                    assert_eq!(error.kind(), SubmitErrorKind::QueueFull);
                    refused += 1;
                }
            }
        }
        refused
    };
    let mut tasks = Vec::new();
    let refused = flood(1000, &mut tasks);
    backend.arrived(WORKERS);
    let refused = refused + flood(1000, &mut tasks);
    let early = resident().saturating_sub(before);
    assert_eq!(
        tasks.len(),
        WORKERS + CAPACITY,
        "what a pool holds is its workers and its queue"
    );
    assert_eq!(refused + tasks.len(), 2000);

    // Fifty times as many requests change nothing.
    assert_eq!(flood(100_000, &mut tasks), 100_000);
    let late = resident().saturating_sub(before);
    assert!(
        late < early + 4 * MIB,
        "memory grew from {early} to {late} bytes over before"
    );
    assert!(
        late < 2 * (WORKERS + CAPACITY) * BODY + 8 * MIB,
        "{late} bytes more than before"
    );
    assert!(
        threads_named("flood").len() <= WORKERS + 2,
        "{:?}",
        threads_named("flood")
    );

    // Beside it, the endpoint as the story has it: each request takes a thread and keeps it.
    const NAIVE: usize = 2000;
    let before = resident();
    let threads: Vec<_> = (0..NAIVE)
        .map(|_| {
            let (backend, body) = (backend.clone(), body());
            thread::Builder::new()
                .name("naive".into())
                .spawn(move || {
                    backend.pass();
                    body.len()
                })
                .unwrap()
        })
        .collect();
    backend.arrived(WORKERS + NAIVE);
    let naive = resident().saturating_sub(before);
    assert_eq!(threads_named("naive").len(), NAIVE);
    assert!(
        naive > NAIVE * BODY,
        "the naive version was expected to grow: {naive} bytes"
    );
    assert!(
        late < naive / 2,
        "the pool took {late} bytes for 102,000 requests, the naive version {naive} for {NAIVE}"
    );

    // The pool ends while the backend still hangs, and answers everybody.
    let report = pool.shutdown(ms(50)).unwrap();
    assert!(report.elapsed < ms(5000), "{report}");
    assert_eq!(report.threads_left, WORKERS);
    for task in &tasks {
        assert_eq!(task.outcome(), Some(Outcome::Abandoned));
    }
    assert!(report.stats.books_balance());
    assert_eq!(report.stats.refused, 2000 + 100_000 - tasks.len() as u64);

    backend.open();
    for thread in threads {
        thread.join().unwrap();
    }
    eventually("the workers end", || threads_named("flood").is_empty());
}

#[test]
fn p12_errors_of_requests_nobody_waits_for_are_told() {
    let (told, seen) = std::sync::mpsc::channel();
    let told = std::sync::Mutex::new(told);
    let pool = Pool::builder()
        .workers(4)
        .on_unobserved(move |failure| {
            told.lock()
                .unwrap()
                .send(failure.name.label().map(str::to_owned))
                .unwrap()
        })
        .build()
        .unwrap();
    // Fire and forget: the handle is dropped at once.
    drop(
        pool.options()
            .label("second call")
            .submit(|_| Err::<(), _>("connection refused"))
            .unwrap(),
    );
    assert_eq!(seen.recv_timeout(LONG).unwrap().as_deref(), Some("second call"));
    assert_eq!(support::end(&pool).unobserved, 1);
}

#[test]
fn p09_the_workers_stop() {
    let pool = Pool::builder().name("stops").workers(WORKERS).build().unwrap();
    eventually("the workers are there", || threads_named("stops").len() >= WORKERS);
    let served: Vec<_> = (0..1000).map(|number| pool.spawn(move || number).unwrap()).collect();
    let report = pool.shutdown(LONG).unwrap();
    assert!(report.drained, "{report}");
    // A thread that has been joined may show in /proc a moment longer.
    eventually("no thread is left", || threads_named("stops").is_empty());
    for (number, task) in served.iter().enumerate() {
        assert_eq!(task.wait().unwrap(), number);
    }
}
