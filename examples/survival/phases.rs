//! The phases: each submits its tasks, looks at every answer and returns what it counted.
//!
//! Keeps true: no handle is let go before it has answered; a producer's memory is bounded by its window.

use crate::Args;
use crate::books::{Answer, PATIENCE, Tally, value};
use anyhow::Result;
use duly::{CancellationToken, Context, Outcome, Overflow, Pool, ShutdownReport, SubmitErrorKind};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What a task does, and so which outcomes fit it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Quick,
    Fails,
    Panics,
    /// Sleeps until it is told that it was cancelled, or past its deadline.
    Sleeps,
    /// Takes a while, then succeeds.
    Works,
}

/// Callbacks that ignore what they are told: half of the tasks are cancelled, half pass their deadline.
pub(crate) fn stuck(pool: &Pool, count: u64, gate: &Arc<Gate>) -> Tally {
    let mut tally = Tally::default();
    let token = CancellationToken::new();
    let mut tasks = Vec::new();
    for number in 0..count {
        let gate = gate.clone();
        let mut options = pool.options().label("stuck");
        if number % 2 == 0 {
            options = options.token(&token);
        }
        match options.submit(move |_: &Context| Ok(gate.wait(number))) {
            Ok(task) => tasks.push(task),
            Err(error) => tally.refused(error.kind()),
        }
    }
    // Cancelled while they run, if they could start in time.
    let until = Instant::now() + Duration::from_millis(50);
    while pool.stats().queued > 0 && Instant::now() < until {
        thread::sleep(Duration::from_millis(1));
    }
    token.cancel();
    for (number, task) in tasks.iter().enumerate() {
        tally.answer(task, number as u64, &[Outcome::Cancelled, Outcome::DeadlineExceeded]);
    }
    tally
}

/// The bulk: a producer submits its share and looks at each answer, the oldest first.
pub(crate) fn steady(pool: &Pool, args: &Args, share: Share) -> Tally {
    let mut tally = Tally::default();
    // All windows together fit the queue, so nothing overflows.
    let size = args.window.min(args.capacity / args.producers as usize).max(1);
    let mut window = VecDeque::with_capacity(size);
    // They take as long as their timeout: looked at in the end, so that the window moves on.
    let mut sleeping = Vec::new();
    let chosen = |number: u64, every: u64, place: u64| every > 0 && number % every == place % every;
    for number in share {
        if window.len() >= size {
            look(&mut tally, window.pop_front());
        }
        let cancelled = chosen(number, args.cancel_every, 3);
        let kind = match number {
            _ if cancelled => Kind::Sleeps,
            n if chosen(n, args.fail_every, 1) => Kind::Fails,
            n if chosen(n, args.panic_every, 2) => Kind::Panics,
            n if chosen(n, args.sleep_every, 4) => Kind::Sleeps,
            _ => Kind::Quick,
        };
        match submit(pool, kind, number) {
            Ok(task) if cancelled => {
                // Every other one at once: most of these are still queued. The others have started by the time
                // their turn in the window comes.
                if (number / args.cancel_every).is_multiple_of(2) {
                    task.cancel();
                }
                window.push_back((task, kind, number, true));
            }
            Ok(task) if kind == Kind::Sleeps => sleeping.push((task, kind, number, false)),
            Ok(task) => window.push_back((task, kind, number, false)),
            Err(refused) => tally.refused(refused),
        }
    }
    for seen in window.into_iter().chain(sleeping) {
        look(&mut tally, Some(seen));
    }
    tally
}

fn look(tally: &mut Tally, oldest: Option<(Answer, Kind, u64, bool)>) {
    let Some((task, kind, number, cancelled)) = oldest else {
        return;
    };
    if cancelled {
        task.cancel();
    }
    // Nothing overflows here; past its deadline any task may be, on a machine that is busy.
    let fits: &[Outcome] = match kind {
        Kind::Quick | Kind::Works => &[Outcome::Succeeded, Outcome::DeadlineExceeded],
        Kind::Fails => &[Outcome::Failed, Outcome::DeadlineExceeded],
        Kind::Panics => &[Outcome::Panicked, Outcome::DeadlineExceeded],
        Kind::Sleeps if cancelled => &[Outcome::Cancelled, Outcome::DeadlineExceeded],
        Kind::Sleeps => &[Outcome::DeadlineExceeded],
    };
    tally.answer(&task, number, fits);
}

/// More than the pool can do, by producers that do not wait: what does not fit is shed, at once.
pub(crate) fn overload(pool: &Pool, args: &Args, share: Share) -> Tally {
    let mut tally = Tally::default();
    let takes = Duration::from_millis(args.overload_takes);
    let mut tasks = Vec::new();
    for number in share {
        match pool.try_submit(move |ctx: &Context| work(ctx, number, takes)) {
            // Most of the shed ones are answered on the spot; only handles with an answer to come are kept.
            Ok(task) if task.outcome() == Some(Outcome::Shed) => tally.answer(&task, number, &[Outcome::Shed]),
            Ok(task) => tasks.push((task, number)),
            Err(error) => tally.refused(error.kind()),
        }
    }
    for (task, number) in tasks {
        tally.answer(&task, number, &[Outcome::Succeeded, Outcome::DeadlineExceeded]);
    }
    tally
}

/// The pool is shut down with work in flight, and finishes it.
pub(crate) fn drain(pool: &Pool, args: &Args) -> Result<(Tally, ShutdownReport)> {
    thread::scope(|scope| {
        let working = scope.spawn(|| {
            let mut tally = Tally::default();
            let mut tasks = Vec::new();
            for number in 0..args.in_flight {
                match submit(pool, Kind::Works, number) {
                    Ok(task) => tasks.push((task, number)),
                    Err(refused) => tally.refused(refused),
                }
            }
            // The shutdown begins here, from another thread; from then on every submit is refused.
            pool.close();
            tally.refusal(
                pool.spawn(|| ()).err().map(|error| error.kind()),
                SubmitErrorKind::ShutDown,
            );
            for (task, number) in tasks {
                let fits = [Outcome::Succeeded, Outcome::DeadlineExceeded, Outcome::Shed];
                tally.answer(&task, number, &fits);
            }
            tally
        });
        while !pool.is_closed() {
            thread::sleep(Duration::from_millis(1));
        }
        let report = pool.shutdown(Duration::from_millis(args.drain))?;
        Ok((join(working), report))
    })
}

/// A pool that cannot drain: workers stuck, queue full, producers waiting. Its shutdown answers all of them.
pub(crate) fn abandon(args: &Args, gate: &Arc<Gate>) -> Result<(Tally, ShutdownReport)> {
    let pool = Pool::builder()
        .name("surv-small")
        .workers(args.small)
        .capacity(args.small)
        .overflow(Overflow::Block)
        .max_replacements(0)
        .max_blocked_producers(3 * args.small)
        .build()?;
    thread::scope(|scope| {
        // As many as run, as many as are queued, and as many whose producers wait for room; none with a deadline.
        let producers: Vec<_> = (0..3 * args.small as u64)
            .map(|number| {
                let (pool, gate) = (&pool, gate.clone());
                scope.spawn(move || {
                    let mut tally = Tally::default();
                    match pool
                        .options()
                        .label("abandoned")
                        .submit(move |_: &Context| Ok(gate.wait(number)))
                    {
                        Ok(task) => tally.answer(&task, number, &[Outcome::Abandoned]),
                        Err(error) => tally.refusal(Some(error.kind()), SubmitErrorKind::ShutDown),
                    }
                    tally
                })
            })
            .collect();
        let until = Instant::now() + PATIENCE;
        let small = args.small as u64;
        let mut stats = pool.stats();
        while [stats.running, stats.queued, stats.blocked_producers] != [small; 3] && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
            stats = pool.stats();
        }
        let report = pool.shutdown(Duration::from_millis(args.small_drain))?;
        let tally = producers
            .into_iter()
            .fold(Tally::default(), |sum, producer| sum + &join(producer));
        Ok((tally, report))
    })
}

fn submit(pool: &Pool, kind: Kind, number: u64) -> Result<Answer, SubmitErrorKind> {
    pool.submit(move |ctx: &Context| match kind {
        Kind::Quick => Ok(value(number)),
        Kind::Fails => Err("planted failure"),
        Kind::Panics => panic!("planted panic"),
        Kind::Works => work(ctx, number, Duration::from_millis(5)),
        Kind::Sleeps => work(ctx, number, Duration::from_secs(3600)),
    })
    .map_err(|error| error.kind())
}

/// Sleeps, unless it is told to stop.
fn work(ctx: &Context, number: u64, takes: Duration) -> Result<u64, &'static str> {
    ctx.sleep(takes).map_err(|_| "told to stop")?;
    Ok(value(number))
}

/// A producer's share of the tasks.
pub(crate) type Share = std::iter::StepBy<std::ops::Range<u64>>;

pub(crate) fn in_threads(producers: u64, count: u64, produce: impl Fn(Share) -> Tally + Sync) -> Tally {
    let produce = &produce;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..producers)
            .map(|first| scope.spawn(move || produce((first..count.max(first)).step_by(producers as usize))))
            .collect();
        threads
            .into_iter()
            .fold(Tally::default(), |sum, thread| sum + &join(thread))
    })
}

fn join<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Where callbacks block that never look whether they should stop.
#[derive(Default)]
pub(crate) struct Gate {
    /// Whether it is open, and how many have come to it.
    state: Mutex<(bool, u64)>,
    opened: Condvar,
}

impl Gate {
    pub(crate) fn wait(&self, number: u64) -> u64 {
        let mut state = self.lock();
        state.1 += 1;
        while !state.0 {
            state = self.opened.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        value(number)
    }

    /// How many callbacks have come to it.
    pub(crate) fn inside(&self) -> u64 {
        self.lock().1
    }

    fn lock(&self) -> MutexGuard<'_, (bool, u64)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) struct Opener<'g>(pub(crate) &'g Gate);

impl Drop for Opener<'_> {
    fn drop(&mut self) {
        self.0.lock().0 = true;
        self.0.opened.notify_all();
    }
}
