//! What the promise tests share: gates that callbacks block on, probes that tell when captured data is dropped,
//! and waits that poll with a deadline.

#![allow(dead_code, reason = "each test file uses a part of it")]

use duly::{Pool, PoolBuilder, Stats};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Longer than any wait in a test should take; a test that gets here fails. Where failures are what is looked for, by
/// planted bugs, a build may be less patient.
pub(crate) const LONG: Duration = match option_env!("DULY_TEST_LONG_MS") {
    None => Duration::from_secs(20),
    Some(millis) => match u64::from_str_radix(millis, 10) {
        Ok(millis) => Duration::from_millis(millis),
        Err(_) => panic!("DULY_TEST_LONG_MS is not a number"),
    },
};

pub(crate) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Blocks callbacks until it is opened; opens itself when the last test-side handle is dropped.
#[derive(Clone)]
pub(crate) struct Gate(Arc<(Mutex<(bool, usize)>, Condvar)>);

impl Gate {
    pub(crate) fn new() -> Self {
        Gate(Arc::new((Mutex::new((false, 0)), Condvar::new())))
    }

    /// Blocks until opened, whatever happens to the task.
    pub(crate) fn pass(&self) {
        let mut state = self.0.0.lock().unwrap();
        state.1 += 1;
        self.0.1.notify_all();
        while !state.0 {
            state = self.0.1.wait(state).unwrap();
        }
    }

    pub(crate) fn open(&self) {
        self.0.0.lock().unwrap().0 = true;
        self.0.1.notify_all();
    }

    /// Waits until so many have arrived.
    pub(crate) fn arrived(&self, count: usize) {
        let mut state = self.0.0.lock().unwrap();
        let until = Instant::now() + LONG;
        while state.1 < count {
            assert!(
                Instant::now() < until,
                "only {} of {count} arrived at the gate",
                state.1
            );
            state = self.0.1.wait_timeout(state, ms(100)).unwrap().0;
        }
    }
}

/// Counts how often it has been dropped.
#[derive(Clone, Default)]
pub(crate) struct Drops(Arc<AtomicUsize>);

pub(crate) struct Probe(Drops);

impl Drops {
    pub(crate) fn probe(&self) -> Probe {
        Probe(self.clone())
    }

    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Polls until `done`, and fails after a long time.
pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + LONG;
    while !done() {
        assert!(Instant::now() < until, "never happened: {what}");
        std::thread::sleep(ms(1));
    }
}

/// A pool whose every worker blocks on the gate, answered or not.
pub(crate) fn stuck_pool(builder: PoolBuilder, workers: usize) -> (Pool, Gate, Vec<duly::Task<()>>) {
    let pool = builder.workers(workers).max_replacements(0).build().unwrap();
    let gate = Gate::new();
    let tasks = (0..workers)
        .map(|index| {
            let gate = gate.clone();
            pool.options()
                .label(format!("stuck-{index}"))
                .spawn(move || gate.pass())
                .unwrap()
        })
        .collect();
    gate.arrived(workers);
    (pool, gate, tasks)
}

/// Ends a pool and asserts that nothing is left and the books balance.
pub(crate) fn end(pool: &Pool) -> Stats {
    let report = pool.shutdown(LONG).unwrap();
    assert!(report.drained, "{report}");
    assert!(report.stats.books_balance(), "{report}");
    assert_eq!((report.stats.queued, report.stats.running), (0, 0));
    report.stats
}

/// Names of this process's threads that begin with `prefix`.
pub(crate) fn threads_named(prefix: &str) -> Vec<String> {
    let mut names = Vec::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        if let Ok(name) = std::fs::read_to_string(task.path().join("comm"))
            && name.starts_with(prefix)
        {
            names.push(name.trim().to_owned());
        }
    }
    names
}

/// Resident memory of this process in bytes.
pub(crate) fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Drives a future on this thread. A future that nobody wakes fails: polled once more, it might hide that.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut cx = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut cx) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => {
                let began = Instant::now();
                std::thread::park_timeout(LONG);
                assert!(began.elapsed() < LONG, "a pending future was not woken");
            }
        }
    }
}
