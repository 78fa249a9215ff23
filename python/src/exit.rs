//! The interpreter exits: every pool is drained for as long as its tasks keep ending, then abandoned.
//!
//! Keeps true: a pool, also one that was dropped and drains in the background, is given up `exit_timeout` after the last
//! of its tasks ended, by name; Ctrl-C ends the wait. What a forked child inherited has no threads there: the child's exit
//! does not wait for it. When the last exit handler returns, no thread of duly is half way into the interpreter, and none has
//! just asked for it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use crate::pool::{self, Pool, Shared};
use crate::report::TaskRecord;
use crate::threads::{self, Threads};
use crate::{later, log, states, wait};

static POOLS: Mutex<Vec<Weak<Shared>>> = Mutex::new(Vec::new());
static FORSAKEN: Mutex<Vec<Ending>> = Mutex::new(Vec::new());

/// A pool that is to end with the interpreter.
struct Ending {
    pool: duly::Pool,
    threads: Arc<Threads>,
    exit_timeout: Option<Duration>,
}

/// How many forks this process is away from the one that imported the module.
static FORKS: AtomicUsize = AtomicUsize::new(0);

/// In which process something was made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process(usize);

impl Process {
    pub(crate) fn here() -> Self {
        Process(FORKS.load(Ordering::Relaxed))
    }
}

/// To be called in each forked child, by the one thread it has.
#[pyfunction]
pub(crate) fn _after_fork_in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    states::after_fork_in_child();
    wait::after_fork_in_child();
    later::after_fork_in_child();
    threads::after_fork_in_child();
    // Their threads are the parent's: to let go of them would be to ask them to end.
    std::mem::forget(std::mem::take(&mut *lock(&FORSAKEN)));
}

/// How long threads wait for the interpreter before they ask for it, once it is about to finalize; in seconds. Far longer than
/// the way to there; and by as much the exit takes longer for each callback that never lets go of it.
const SWITCH: f64 = 0.05;

/// How often to look whether a pool is at rest.
const LOOK: Duration = Duration::from_millis(5);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has a pool drained at exit. Does not keep it alive.
pub(crate) fn remember(pool: &Arc<Shared>) {
    let mut pools = lock(&POOLS);
    pools.retain(|pool| pool.strong_count() > 0);
    pools.push(Arc::downgrade(pool));
    drop(pools);
    forget_rested();
}

/// Has a pool that was dropped, and drains in the background, drained at exit too.
pub(crate) fn forsaken(pool: &duly::Pool, threads: &Arc<Threads>, exit_timeout: Option<Duration>) {
    forget_rested();
    if !at_rest(&pool.stats()) {
        let (pool, threads) = (pool.clone(), Arc::clone(threads));
        lock(&FORSAKEN).push(Ending {
            pool,
            threads,
            exit_timeout,
        });
    }
}

fn forget_rested() {
    // Dropped after the lock is released.
    let _rested: Vec<_> = {
        let mut forsaken = lock(&FORSAKEN);
        let (rested, draining) = std::mem::take(&mut *forsaken)
            .into_iter()
            .partition(|one| at_rest(&one.pool.stats()));
        *forsaken = draining;
        rested
    };
}

/// Whether nothing is queued or running.
pub(crate) fn at_rest(stats: &duly::Stats) -> bool {
    stats.queued + stats.running == 0
}

/// One more handle of each pool of this process that somebody holds, in the order they were made.
#[pyfunction]
pub(crate) fn _pools() -> Vec<Pool> {
    let pools: Vec<_> = lock(&POOLS).iter().filter_map(Weak::upgrade).collect();
    let here = pools.into_iter().filter(|pool| pool.process == Process::here());
    here.map(Pool::of).collect()
}

/// The name of each pool that nobody holds and that still drains, how many tasks it has in its queue, and those that run.
#[pyfunction]
pub(crate) fn _draining() -> Vec<(String, u64, Vec<TaskRecord>)> {
    forget_rested();
    let pools: Vec<_> = lock(&FORSAKEN).iter().map(|one| one.pool.clone()).collect();
    let told = pools.iter().map(|pool| {
        let running = pool.running().iter().map(TaskRecord::from).collect();
        (pool.name().to_owned(), pool.stats().queued, running)
    });
    told.collect()
}

/// To be called once, by the interpreter on its way out.
#[pyfunction]
pub(crate) fn _drain_at_exit(py: Python<'_>) -> PyResult<()> {
    let pools: Vec<_> = lock(&POOLS).iter().filter_map(Weak::upgrade).collect();
    let here = pools.iter().filter(|pool| pool.process == Process::here());
    let mut ending: Vec<_> = here
        .map(|pool| Ending {
            pool: pool.pool.clone(),
            threads: Arc::clone(&pool.threads),
            exit_timeout: pool.exit_timeout,
        })
        .collect();
    ending.append(&mut lock(&FORSAKEN));
    for one in &ending {
        one.pool.close();
    }
    let drained = end_all(py, &ending);
    threads::start_no_more(py);
    drained
}

/// As an exit handler, after those that were registered later: little of Python runs in the main thread from here on.
#[pyfunction]
pub(crate) fn _before_finalizing(py: Python<'_>) -> PyResult<()> {
    states::attach_no_more(py);
    // Before 3.10.8: a thread that has asked for the interpreter, and asks again after `sys.getswitchinterval()`, is ended there if
    // that finalizes by now, and the main thread lets go for it and waits for ever (python/cpython#96387). So all waits begin
    // anew here, and last longer: nobody has asked when this returns, and nobody does soon.
    if py.version_info() < (3, 10, 8) {
        let sys = py.import("sys")?;
        let before: f64 = sys.call_method0("getswitchinterval")?.extract()?;
        sys.call_method1("setswitchinterval", (SWITCH.max(before),))?;
        // Whoever has set it longer than that does not have the exit wait for it.
        let before = Duration::try_from_secs_f64(before.min(SWITCH)).unwrap_or_default();
        py.detach(|| std::thread::sleep(before + Duration::from_millis(1)));
    }
    Ok(())
}

fn end_all(py: Python<'_>, ending: &[Ending]) -> PyResult<()> {
    let mut interrupted = Ok(());
    for one in ending {
        let rested = if interrupted.is_ok() { one.rest(py) } else { Ok(false) };
        let report = pool::shutdown(py, &one.pool, &one.threads, Duration::ZERO)?;
        if !matches!(rested, Ok(true)) && !report.abandoned().is_empty() {
            let names: Vec<_> = report.abandoned().iter().map(ToString::to_string).collect();
            log::warning(&format!(
                "pool {:?} abandoned {} tasks at exit: {}",
                one.pool.name(),
                names.len(),
                names.join(", ")
            ));
        }
        if let Err(error) = rested {
            interrupted = Err(error);
        }
    }
    interrupted
}

impl Ending {
    /// Waits until nothing is queued or running: true; or until no task has ended for `exit_timeout`: false.
    fn rest(&self, py: Python<'_>) -> PyResult<bool> {
        let mut ended = 0;
        let mut since = Instant::now();
        loop {
            let stats = self.pool.stats();
            if at_rest(&stats) {
                return Ok(true);
            }
            if stats.ended() != ended {
                ended = stats.ended();
                since = Instant::now();
            }
            if self.exit_timeout.is_some_and(|timeout| since.elapsed() >= timeout) {
                return Ok(false);
            }
            py.detach(|| std::thread::sleep(LOOK));
            py.check_signals()?;
        }
    }
}
