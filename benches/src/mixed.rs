//! Row mixed: tasks as a service has them, the same sequence for every peer.
//!
//! Kept true: go/mixed.go does the same, with the same numbers from the same seed; the work of a short task is a fixed
//! number of steps, not a span of time, so a peer that is preempted does not get away with less of it.

use crate::machine;
use crate::peers::{Ended, Service};
use crate::rows::Row;
use crate::workload::{Figures, started};
use anyhow::{Result, ensure};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Tasks take 1 µs to 50 ms, half of them less than 2.5 µs: a power law with this exponent.
const LONGEST_US: f64 = 50_000.0;
const TAIL: f64 = 0.75;
/// What takes longer sleeps, as if it waited for a disk; what is shorter computes.
const SLEEPS_FROM_US: f64 = 100.0;
/// Steps of the computation; a microsecond on a core of some 4 GHz, with five cycles a step.
const STEPS_PER_US: f64 = 800.0;
/// Bursts have 1 to 500 tasks, most of them few, and come 1.2 ms apart on average.
const BIGGEST_BURST: f64 = 500.0;
const GAP_US: f64 = 1200.0;
const WITH_DEADLINE: f64 = 0.5;
const DEADLINE: Duration = Duration::from_millis(20);
const CANCELLED: f64 = 0.2;

struct Burst {
    /// From the start of the run.
    at: Duration,
    tasks: Vec<Planned>,
}

#[derive(Clone, Copy)]
struct Planned {
    us: f64,
    has_deadline: bool,
    is_cancelled: bool,
}

/// SplitMix64, as numbers from 0 to 1.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

fn plan(n: usize) -> Vec<Burst> {
    let mut random = Random(1);
    let (mut bursts, mut planned, mut at_us) = (Vec::new(), 0, 0.0);
    while planned < n {
        at_us -= GAP_US * (1.0 - random.next()).ln();
        let size = (BIGGEST_BURST.powf(random.next()) as usize).min(n - planned);
        let task = |_| Planned {
            us: (1.0 - random.next() * (1.0 - LONGEST_US.powf(-TAIL))).powf(-1.0 / TAIL),
            has_deadline: random.next() < WITH_DEADLINE,
            is_cancelled: random.next() < CANCELLED,
        };
        bursts.push(Burst {
            at: Duration::from_micros(at_us as u64),
            tasks: (0..size).map(task).collect(),
        });
        planned += size;
    }
    bursts
}

fn work(us: f64) {
    if us >= SLEEPS_FROM_US {
        std::thread::sleep(Duration::from_nanos((us * 1e3) as u64));
    } else {
        let mut x = black_box(1_u64);
        for _ in 0..(us * STEPS_PER_US) as u64 {
            // No compiler can make one step of two.
            x = (x ^ (x >> 32)).wrapping_mul(6_364_136_223_846_793_005);
        }
        black_box(x);
    }
}

/// What a waiter is told, and whether it asked for the cancel itself.
#[derive(Default)]
struct Counts {
    with_deadline: u64,
    late: u64,
    cancelled: u64,
    lost: u64,
}

pub(crate) fn measure<P: Service>(row: &Row, workers: usize, n: usize) -> Result<Figures> {
    let bursts = plan(n);
    let picked: Vec<bool> = bursts
        .iter()
        .flat_map(|burst| burst.tasks.iter().map(|task| task.is_cancelled))
        .collect();
    let planned_us = bursts.iter().flat_map(|burst| &burst.tasks).map(|task| task.us).sum();
    // For each task how long it waited for its start, in ns; 0 if it never started.
    let waits: Arc<[AtomicU64]> = (0..n).map(|_| AtomicU64::new(0)).collect();
    let pool = started::<P>(row, workers)?;
    let (sender, to_wait_for) = mpsc::channel::<(P::Served, Option<Instant>, bool)>();
    let waiter = std::thread::spawn(move || {
        let mut counts = Counts::default();
        for (served, deadline, is_cancelled) in to_wait_for {
            counts.with_deadline += u64::from(deadline.is_some());
            match P::ended(served, deadline) {
                Ended::Succeeded => {}
                Ended::Cancelled if is_cancelled => counts.cancelled += 1,
                Ended::Late if deadline.is_some() => counts.late += 1,
                Ended::Cancelled | Ended::Late => counts.lost += 1,
            }
        }
        counts
    });
    let before = machine::used()?;
    let began = Instant::now();
    let mut i = 0;
    let mut cancels = Vec::new();
    for burst in &bursts {
        std::thread::sleep((began + burst.at).saturating_duration_since(Instant::now()));
        let arrived = Instant::now();
        for &Planned {
            us,
            has_deadline,
            is_cancelled,
        } in &burst.tasks
        {
            let deadline = has_deadline.then(|| arrived + DEADLINE);
            let (waits, place) = (waits.clone(), i);
            let served = pool.serve(deadline, move || {
                waits[place].store(arrived.elapsed().as_nanos().max(1) as u64, Ordering::Relaxed);
                work(us);
                1
            });
            if is_cancelled {
                cancels.push(P::canceller(&served));
            }
            sender
                .send((served, deadline, is_cancelled))
                .expect("the waiter waits for all");
            i += 1;
        }
        cancels.drain(..).for_each(P::cancel);
    }
    drop(sender);
    let counts = waiter.join().expect("the waiter does not panic");
    let used = machine::used()?.since(&before);
    pool.stop();
    ensure!(counts.lost == 0, "{} tasks got an answer nobody asked for", counts.lost);

    let wait = |place: usize| waits[place].load(Ordering::Relaxed);
    let mut started: Vec<u64> = (0..n).map(wait).filter(|&ns| ns > 0).collect();
    started.sort_unstable();
    let permille = |of_1000: usize| started[(started.len() - 1) * of_1000 / 1000] as f64 / 1e3;
    let to_cancel = picked.iter().filter(|&&is| is).count().max(1);
    let ran_anyway = (0..n).filter(|&place| picked[place] && wait(place) > 0).count();
    let n = n as f64;
    let figures = [
        // Not shown: every peer had the same plan.
        ("plan_us", planned_us),
        ("wait_p50_us", permille(500)),
        ("wait_p99_us", permille(990)),
        ("wait_p999_us", permille(999)),
        ("cpu_us", used.cpu_us / n),
        ("switches", (used.blocked + used.preempted) / n),
        ("wakeups_per_task", used.blocked / n),
        ("cancelled_ran_percent", ran_anyway as f64 / to_cancel as f64 * 100.0),
        (
            "late_percent",
            counts.late as f64 / counts.with_deadline.max(1) as f64 * 100.0,
        ),
    ];
    Ok(figures.map(|(name, value)| (name.to_owned(), value)).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_is_what_the_row_says() {
        let bursts = plan(100_000);
        let tasks: Vec<_> = bursts.iter().flat_map(|burst| &burst.tasks).collect();
        assert_eq!(tasks.len(), 100_000);
        assert!(tasks.iter().all(|task| task.us >= 1.0 && task.us <= LONGEST_US));
        let share = |count: usize| count as f64 / 1e5;
        let cancelled = share(tasks.iter().filter(|task| task.is_cancelled).count());
        assert!((0.19..0.21).contains(&cancelled), "{cancelled}");
        let longer_than_2_5 = share(tasks.iter().filter(|task| task.us > 2.52).count());
        assert!((0.48..0.52).contains(&longer_than_2_5), "{longer_than_2_5}");
        assert!(tasks.iter().any(|task| task.us > 10_000.0));
        assert!(bursts.iter().all(|burst| (1..=500).contains(&burst.tasks.len())));
    }

    /// As anyone's SplitMix64 with seed 1. That Go's plan is the same is a test in tests/every_row.rs.
    #[test]
    fn the_first_random_numbers() {
        let mut random = Random(1);
        assert_eq!(
            format!("{:.12} {:.12}", random.next(), random.next()),
            "0.566561575172 0.745781757263"
        );
    }
}
