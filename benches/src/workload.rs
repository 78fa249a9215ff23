//! The workloads, written once for all peers.
//!
//! Kept true: the clock starts after a warm-up, with all workers up, and stops when the last task has been answered (or
//! has run, where nobody waits); every answer is summed and the sum checked; callbacks capture nothing (but in W1bc, W4
//! and where tasks stand in the queue).

use crate::machine;
use crate::peers::{Deadlines, Pool};
use crate::rows::{Row, Work};
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Condvar, Mutex, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// One run, as it is printed: a line of JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) row: String,
    pub(crate) peer: String,
    pub(crate) workers: usize,
    pub(crate) n: usize,
    pub(crate) figures: Figures,
}

pub(crate) type Figures = BTreeMap<String, f64>;

/// Runs a row on a peer in this process.
pub(crate) fn measure<P: Pool>(row: &Row, workers: usize, n: usize) -> Result<Figures> {
    let mut figures = Figures::new();
    let mut put = |name: &str, value: f64| _ = figures.insert(name.into(), value);
    let pool;
    match row.work {
        Work::Windowed { window } => {
            pool = started::<P>(row, workers)?;
            let began = Instant::now();
            check(windowed(&pool, n, window, noop), n)?;
            put("ns_per_task", ns_per_task(began, n));
        }
        Work::Fire { captures } => {
            pool = started::<P>(row, workers)?;
            fire_all(&pool, row.warm_up, captures);
            let began = Instant::now();
            fire_all(&pool, n, captures);
            put("ns_per_task", ns_per_task(began, n));
        }
        Work::Producers { count, window } => {
            ensure!(
                n.is_multiple_of(count),
                "--n must be a multiple of the {count} producers"
            );
            pool = started::<P>(row, workers)?;
            let ready = Barrier::new(count + 1);
            let (began, sum) = std::thread::scope(|scope| {
                let producer = || {
                    ready.wait();
                    windowed(&pool, n / count, window / count, noop)
                };
                let producers: Vec<_> = (0..count).map(|_| scope.spawn(producer)).collect();
                ready.wait();
                let began = Instant::now();
                let sums = producers
                    .into_iter()
                    .map(|thread| thread.join().expect("a producer does not panic"));
                (began, sums.sum())
            });
            put("ns_per_task", ns_per_task(began, n));
            check(sum, n)?;
        }
        Work::Loop { pause_us } => {
            pool = started::<P>(row, workers)?;
            let pause = Duration::from_micros(pause_us);
            let mut spans = vec![Duration::ZERO; n];
            let mut sum = 0;
            for span in &mut spans {
                if !pause.is_zero() {
                    std::thread::sleep(pause);
                }
                let before = Instant::now();
                sum += P::wait(pool.submit(noop));
                *span = before.elapsed();
            }
            check(sum, n)?;
            spans.sort_unstable();
            put("p50_ns", spans[n / 2].as_nanos() as f64);
            put("p99_ns", spans[n * 99 / 100].as_nanos() as f64);
        }
        Work::All => {
            pool = started::<P>(row, workers)?;
            let began = Instant::now();
            check(windowed(&pool, n, n, noop), n)?;
            put("seconds", began.elapsed().as_secs_f64());
            put("ns_per_task", ns_per_task(began, n));
            put("peak_mb", status_kib("VmHWM:")? * 1024.0 / 1e6);
        }
        Work::Queued { handles } => {
            // The handles' own memory is there before the first look.
            let mut kept: Vec<Option<P::Handle>> = Vec::new();
            kept.resize_with(n, || None);
            let before = status_kib("VmRSS:")?;
            pool = P::start(workers, n + workers);
            let gate = block_workers(&pool, workers);
            // Tasks carry something, as real ones do, so that a peer that boxes its closures shows it.
            let one = std::hint::black_box(1);
            for place in &mut kept {
                if handles {
                    *place = Some(pool.submit(move || one));
                } else {
                    pool.fire(move || one);
                }
            }
            put("bytes", (status_kib("VmRSS:")? - before) * 1024.0 / n as f64);
            open_gate();
            check(gate.into_iter().map(P::wait).sum(), workers)?;
            if handles {
                check(kept.into_iter().flatten().map(P::wait).sum(), n)?;
            }
        }
        Work::Idle => {
            let before = status_kib("VmRSS:")?;
            pool = P::start(workers, row.capacity);
            std::thread::sleep(row.settle());
            put("bytes", (status_kib("VmRSS:")? - before) * 1024.0 / workers as f64);
        }
        Work::Rest => {
            pool = started::<P>(row, workers)?;
            let before = machine::used_by_workers()?;
            std::thread::sleep(Duration::from_millis(n as u64));
            let used = machine::used_by_workers()?.since(&before);
            put("wakeups", used.blocked);
            put("cpu_ms", used.cpu_us / 1e3);
        }
        Work::Standing {
            window,
            queued,
            deadlines: false,
        } => {
            pool = started::<P>(row, workers)?;
            put("ns_per_task", standing(&pool, n, window, queued, Plainly)?);
        }
        Work::Standing { deadlines: true, .. }
        | Work::Deadlines { .. }
        | Work::Cancel { .. }
        | Work::Queues { .. }
        | Work::Batch
        | Work::Mixed => {
            bail!("this peer has no such workload")
        }
    }
    pool.stop();
    Ok(figures)
}

/// The rows in which each task has a deadline.
pub(crate) fn measure_deadlines<P: Deadlines>(row: &Row, workers: usize, n: usize) -> Result<Figures> {
    match row.work {
        Work::Deadlines { window, timeout_ms } => {
            within::<P>(row, workers, n, window, Duration::from_millis(timeout_ms))
        }
        Work::Standing {
            window,
            queued,
            deadlines: true,
        } => {
            const FAR: Duration = Duration::from_secs(3600);
            let pool = started::<P>(row, workers)?;
            let ns = standing(&pool, n, window, queued, Within(FAR))?;
            pool.stop();
            Ok(Figures::from([("ns_per_task".into(), ns)]))
        }
        _ => measure::<P>(row, workers, n),
    }
}

/// As `Work::Windowed`, each task with a deadline. Tasks the deadline overtook are counted; a busy machine has some.
fn within<P: Deadlines>(row: &Row, workers: usize, n: usize, window: usize, timeout: Duration) -> Result<Figures> {
    let pool = started::<P>(row, workers)?;
    let mut handles = VecDeque::with_capacity(window);
    let (mut answered, mut expired) = (0, 0);
    let mut count = |answer: Option<u64>| match answer {
        Some(value) => answered += value as usize,
        None => expired += 1,
    };
    let began = Instant::now();
    for _ in 0..n {
        if handles.len() == window {
            handles
                .pop_front()
                .map(|handle| P::wait_within(handle, timeout))
                .into_iter()
                .for_each(&mut count);
        }
        handles.push_back(pool.submit_within(timeout, noop));
    }
    handles
        .into_iter()
        .map(|handle| P::wait_within(handle, timeout))
        .for_each(&mut count);
    let ns = ns_per_task(began, n);
    ensure!(
        answered + expired == n,
        "{answered} answers and {expired} passed deadlines are not {n}"
    );
    ensure!(
        expired <= n / 100,
        "{expired} of {n} tasks passed their deadline: the machine is too busy"
    );
    pool.stop();
    Ok(Figures::from([
        ("ns_per_task".into(), ns),
        ("expired".into(), expired as f64),
    ]))
}

/// The callback of nearly every row.
pub(crate) fn noop() -> u64 {
    1
}

/// A pool that has run its warm-up: workers up, memory touched.
pub(crate) fn started<P: Pool>(row: &Row, workers: usize) -> Result<P> {
    let pool = P::start(workers, row.capacity);
    check(windowed(&pool, row.warm_up, row.capacity, noop), row.warm_up)?;
    std::thread::sleep(row.settle());
    Ok(pool)
}

/// Submits n tasks, keeps at most `window` handles, waits for the oldest first; the sum of the answers.
fn windowed<P: Pool>(pool: &P, n: usize, window: usize, callback: impl Fn() -> u64 + Copy + Send + 'static) -> u64 {
    let mut handles = VecDeque::with_capacity(window.min(n));
    let mut sum = 0;
    for _ in 0..n {
        if handles.len() == window {
            sum += handles.pop_front().map_or(0, P::wait);
        }
        handles.push_back(pool.submit(callback));
    }
    handles.into_iter().map(P::wait).fold(sum, |sum, answer| sum + answer)
}

/// On a cache line of its own.
#[repr(align(128))]
struct Padded<T>(T);

static LEFT: Padded<AtomicUsize> = Padded(AtomicUsize::new(0));
static WAITER: OnceLock<Thread> = OnceLock::new();

/// The callback of W1b: the last one ends the clock. Its count costs each peer the same.
fn counted() -> u64 {
    if LEFT.0.fetch_sub(1, Ordering::AcqRel) == 1 {
        WAITER.get().map(Thread::unpark);
    }
    1
}

static ITEMS: Padded<AtomicUsize> = Padded(AtomicUsize::new(0));

/// The callback of an item of W1d.
pub(crate) fn item() {
    ITEMS.0.fetch_add(1, Ordering::Relaxed);
}

/// W1d: `batch` runs `item` n times and returns when all have ended.
pub(crate) fn measure_batch<P: Pool>(row: &Row, workers: usize, n: usize, batch: impl Fn(&P)) -> Result<Figures> {
    let pool = started::<P>(row, workers)?;
    let began = Instant::now();
    batch(&pool);
    let ns = ns_per_task(began, n);
    check(ITEMS.0.load(Ordering::Relaxed) as u64, n)?;
    pool.stop();
    Ok(Figures::from([("ns_per_task".into(), ns)]))
}

/// Submits n tasks that nobody waits for; returns when the last has run.
fn fire_all<P: Pool>(pool: &P, n: usize, captures: bool) {
    WAITER.get_or_init(std::thread::current);
    LEFT.0.store(n, Ordering::Release);
    for i in 0..n {
        if captures {
            pool.fire(move || counted() + std::hint::black_box(i) as u64);
        } else {
            pool.fire(counted);
        }
    }
    while LEFT.0.load(Ordering::Acquire) > 0 {
        std::thread::park();
    }
}

/// How many tasks have been submitted; told to the worker from time to time, as looking costs a cache line.
static SUBMITTED: Padded<AtomicUsize> = Padded(AtomicUsize::new(0));
const TOLD_EVERY: usize = 256;

/// Runs when `turn` tasks have been submitted, so that as many as its submitter wishes stand behind it.
fn in_turn(turn: usize) -> u64 {
    let mut looks = 0_u32;
    while SUBMITTED.0.load(Ordering::Acquire) < turn {
        looks += 1;
        if looks < 1000 {
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
    1
}

/// How a task that stands in the queue gets there.
trait Submit<P: Pool> {
    fn submit<F: FnOnce() -> u64 + Send + 'static>(&self, pool: &P, callback: F) -> P::Handle;
}

struct Plainly;

impl<P: Pool> Submit<P> for Plainly {
    fn submit<F: FnOnce() -> u64 + Send + 'static>(&self, pool: &P, callback: F) -> P::Handle {
        pool.submit(callback)
    }
}

struct Within(Duration);

impl<P: Deadlines> Submit<P> for Within {
    fn submit<F: FnOnce() -> u64 + Send + 'static>(&self, pool: &P, callback: F) -> P::Handle {
        pool.submit_within(self.0, callback)
    }
}

/// ns a task in the steady state: one submitted, one run, one answer read, and never fewer than `queued` in the queue.
/// For one worker: it may have to look for its turn, and two that look would take the submitter's core.
fn standing<P: Pool>(pool: &P, n: usize, window: usize, queued: usize, how: impl Submit<P>) -> Result<f64> {
    let fill = queued + 4 * window;
    let mut handles = VecDeque::with_capacity(queued + window);
    let (mut sum, mut began) = (0, Instant::now());
    for i in 0..fill + n {
        if i == fill {
            began = Instant::now();
        }
        if handles.len() == queued + window {
            sum += handles.pop_front().map_or(0, P::wait);
        }
        let turn = i + queued;
        handles.push_back(how.submit(pool, move || in_turn(turn)));
        if i % TOLD_EVERY == 0 {
            SUBMITTED.0.store(i, Ordering::Release);
        }
    }
    let ns = ns_per_task(began, n);
    SUBMITTED.0.store(usize::MAX, Ordering::Release);
    sum += handles.into_iter().map(P::wait).sum::<u64>();
    check(sum, fill + n)?;
    Ok(ns)
}

struct Gate {
    entered: usize,
    open: bool,
}

static GATE: (Mutex<Gate>, Condvar) = (
    Mutex::new(Gate {
        entered: 0,
        open: false,
    }),
    Condvar::new(),
);

fn stuck() -> u64 {
    let mut gate = GATE.0.lock().expect("no panic under this lock");
    gate.entered += 1;
    GATE.1.notify_all();
    drop(GATE.1.wait_while(gate, |gate| !gate.open));
    1
}

/// Gives every worker a callback that waits for `open_gate`, and waits until all are in it.
pub(crate) fn block_workers<P: Pool>(pool: &P, workers: usize) -> Vec<P::Handle> {
    let handles = (0..workers).map(|_| pool.submit(stuck)).collect();
    let gate = GATE.0.lock().expect("no panic under this lock");
    drop(GATE.1.wait_while(gate, |gate| gate.entered < workers));
    handles
}

pub(crate) fn open_gate() {
    GATE.0.lock().expect("no panic under this lock").open = true;
    GATE.1.notify_all();
}

fn ns_per_task(began: Instant, n: usize) -> f64 {
    began.elapsed().as_nanos() as f64 / n as f64
}

/// Each answer is 1, so a sum other than n is an answer lost or given twice.
pub(crate) fn check(sum: u64, n: usize) -> Result<()> {
    ensure!(sum == n as u64, "the answers sum to {sum}, not {n}");
    Ok(())
}

/// A figure of this process in KiB, as the kernel counts it.
fn status_kib(name: &str) -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .context("no such line in /proc/self/status")?;
    Ok(line
        .split_whitespace()
        .next()
        .context("an empty line in /proc/self/status")?
        .parse()?)
}
