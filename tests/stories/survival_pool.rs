//! Story 5, the survival pool: the lab of a course week on pools, leaks and deadlocks, at a size for every test run.
//!
//! Bounded input with drop-with-metric; a graceful shutdown that drains work in flight within a deadline and abandons the
//! rest; a 100 ms timeout per task; a panic in one task is reported and kills nothing; leak-clean after cancel and wait.
//! `examples/survival.rs` is the same at full size: a million tasks over a thousand workers.
//!
//! Keeps true: every task has an outcome that fits what it does, what was counted here is what the books say, and of
//! everything that was captured nothing is left.

#[path = "../../core/tests/support/mod.rs"]
mod support;

use duly::{CancellationToken, Context, Outcome, Overflow, Pool, SubmitErrorKind, Task};
use std::thread;
use std::time::Duration;
use support::{Drops, Gate, LONG, eventually, ms, threads_named};

const TASKS: usize = 20_000;
const WORKERS: usize = 100;
const STUCK: usize = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Quick,
    Fails,
    Panics,
    Cancelled,
    Sleeps,
    IgnoresEverything,
}

impl Kind {
    fn of(number: usize) -> Kind {
        match number {
            n if n < STUCK => Kind::IgnoresEverything,
            n if n % 100 == 11 => Kind::Fails,
            n if n % 200 == 12 => Kind::Panics,
            n if n % 100 == 13 => Kind::Cancelled,
            n if n % 2000 == 14 => Kind::Sleeps,
            _ => Kind::Quick,
        }
    }

    /// Besides these any task may have been shed, or have passed its deadline on a machine that is busy.
    fn fits(self) -> Outcome {
        match self {
            Kind::Quick => Outcome::Succeeded,
            Kind::Fails => Outcome::Failed,
            Kind::Panics => Outcome::Panicked,
            Kind::Cancelled => Outcome::Cancelled,
            Kind::Sleeps | Kind::IgnoresEverything => Outcome::DeadlineExceeded,
        }
    }
}

fn submit(
    pool: &Pool,
    number: usize,
    token: &CancellationToken,
    gate: &Gate,
    drops: &Drops,
) -> Task<usize, &'static str> {
    let (kind, gate, probe) = (Kind::of(number), gate.clone(), drops.probe());
    let callback = move |ctx: &Context| {
        let _captured = probe;
        match kind {
            Kind::Quick => {}
            Kind::Fails => return Err("planted failure"),
            Kind::Panics => panic!("planted panic"),
            Kind::Cancelled | Kind::Sleeps => ctx.sleep(LONG).map_err(|_| "told to stop")?,
            Kind::IgnoresEverything => gate.pass(),
        }
        Ok(number)
    };
    let options = pool.options();
    let options = if kind == Kind::Cancelled {
        options.token(token)
    } else {
        options
    };
    options
        .submit(callback)
        .expect("drop_newest refuses nothing while the pool is open")
}

#[test]
fn p12_every_task_of_the_survival_pool_is_answered_and_counted() {
    // Panics are planted: their messages would drown the test's own.
    std::panic::set_hook(Box::new(|panic| {
        if !thread::current().name().is_some_and(|name| name.starts_with("lab-")) {
            eprintln!("{panic}");
        }
    }));
    let (gate, drops) = (Gate::new(), Drops::default());
    let pool = Pool::builder()
        .name("lab")
        .workers(WORKERS)
        .capacity(512)
        .overflow(Overflow::DropNewest)
        .default_timeout(ms(100))
        .build()
        .unwrap();
    let mut counted = [0_u64; Outcome::ALL.len()];
    let mut check = |number: usize, task: &Task<usize, &'static str>| {
        let outcome = task.wait_outcome(LONG).expect("a task was not answered");
        let kind = Kind::of(number);
        assert!(
            [kind.fits(), Outcome::DeadlineExceeded, Outcome::Shed].contains(&outcome),
            "{kind:?} is {outcome}"
        );
        if outcome == Outcome::Succeeded {
            assert_eq!(task.wait().unwrap(), number, "a foreign value");
        }
        counted[outcome as usize] += 1;
    };

    // Windows that fit the queue, so that most succeed; the token of each window is cancelled at its end.
    for start in (0..TASKS).step_by(64) {
        let token = CancellationToken::new();
        let window: Vec<_> = (start..TASKS.min(start + 64))
            .map(|number| (number, submit(&pool, number, &token, &gate, &drops)))
            .collect();
        token.cancel();
        window.iter().for_each(|(number, task)| check(*number, task));
    }
    // Overload: nothing but the queue's bound holds the producer back.
    let token = CancellationToken::new();
    let full = 10 * STUCK + 50;
    let blocking: Vec<_> = (0..WORKERS + 512 + full)
        .map(|number| {
            let gate = gate.clone();
            let options = pool.options().timeout(ms(2000));
            (number, options.spawn(move || gate.pass()).unwrap())
        })
        .collect();
    let shed = blocking
        .iter()
        .filter(|(_, task)| task.wait_outcome(LONG) == Some(Outcome::Shed))
        .count();
    assert!(shed > 0, "the queue did not overflow");
    drop(token);

    let succeeded = counted[Outcome::Succeeded as usize];
    assert!(succeeded as usize > TASKS / 2, "only {succeeded} succeeded");
    for outcome in [
        Outcome::Failed,
        Outcome::Panicked,
        Outcome::Cancelled,
        Outcome::DeadlineExceeded,
    ] {
        assert!(counted[outcome as usize] > 0, "no task was {outcome}");
    }
    for (_, task) in &blocking {
        counted[task.outcome().unwrap() as usize] += 1;
    }

    // What ignores everything is named, and let go.
    let report = pool.shutdown(ms(1000)).unwrap();
    assert!(report.elapsed < ms(6000), "{report}");
    assert!(
        !report.stuck.is_empty() && report.stuck.len() == report.threads_left,
        "{report}"
    );
    for (outcome, in_books) in report.stats.outcomes() {
        assert_eq!(counted[outcome as usize], in_books, "{outcome}");
    }
    assert!(report.stats.books_balance());
    assert!(report.stats.replaced > 0, "stuck workers were not replaced");

    // Leak-clean: threads, and captured data, each exactly once.
    gate.open();
    eventually("the last threads end", || threads_named("lab-").is_empty());
    assert_eq!(drops.count(), TASKS);
    let _ = std::panic::take_hook();
}

#[test]
fn p09_a_shutdown_drains_what_it_can_and_abandons_the_rest() {
    let gate = Gate::new();
    let pool = Pool::builder()
        .name("drains")
        .workers(8)
        .capacity(64)
        .max_replacements(0)
        .build()
        .unwrap();
    let stuck: Vec<_> = (0..4)
        .map(|_| {
            let gate = gate.clone();
            pool.options().label("stuck").spawn(move || gate.pass()).unwrap()
        })
        .collect();
    gate.arrived(4);
    let in_flight: Vec<_> = (0..40).map(|_| pool.spawn(|| thread::sleep(ms(5))).unwrap()).collect();

    let report = pool.shutdown(ms(1000)).unwrap();
    assert!(
        report.elapsed >= ms(1000) && report.elapsed < Duration::from_secs(6),
        "{report}"
    );
    assert!(
        in_flight.iter().all(|task| task.outcome() == Some(Outcome::Succeeded)),
        "{report}"
    );
    assert!(
        stuck.iter().all(|task| task.outcome() == Some(Outcome::Abandoned)),
        "{report}"
    );
    assert_eq!(report.abandoned.len(), 4);
    assert!(
        report.abandoned.iter().all(|task| task.name.label() == Some("stuck")),
        "{report}"
    );
    let refused = pool.spawn(|| ()).unwrap_err();
    assert_eq!(refused.kind(), SubmitErrorKind::ShutDown);
    gate.open();
    eventually("the last threads end", || threads_named("drains").is_empty());
}

#[test]
fn p05_cancelled_tasks_leave_nothing() {
    let (gate, drops) = (Gate::new(), Drops::default());
    let pool = Pool::builder().name("clean").workers(2).capacity(1000).build().unwrap();
    let root = CancellationToken::new();
    let tasks: Vec<_> = (0..1000)
        .map(|_| {
            let probe = drops.probe();
            let work = move |ctx: &Context| {
                let _captured = probe;
                ctx.sleep(LONG)
            };
            pool.options().token(&root).submit(work).unwrap()
        })
        .collect();
    root.cancel();
    for task in &tasks {
        assert_eq!(task.wait_outcome(LONG), Some(Outcome::Cancelled));
        assert!(
            task.released(LONG),
            "captured data is kept although the task was cancelled"
        );
    }
    assert_eq!(drops.count(), 1000);
    gate.open();
    support::end(&pool);
    // A thread that has been joined may show in /proc a moment longer.
    eventually("no thread is left", || threads_named("clean").is_empty());
}
