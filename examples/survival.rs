//! The survival program: a million tasks over a thousand workers, with everything that wears a pool down at once.
//!
//! It overloads the pool, lets tasks fail, panic, run past their deadline and ignore their cancellation, blocks producers
//! and shuts down in the middle. Keeps true: every task is answered, with an outcome that fits what it does; what
//! the program counted by itself is what the pools' books say; at the end nothing is left of it: no thread, no
//! descriptor, no byte. It ends with `books balance`, or names what does not hold and exits with status 1.

#[path = "survival/books.rs"]
mod books;
#[path = "survival/held.rs"]
mod held;
#[path = "survival/phases.rs"]
mod phases;
#[path = "survival/progress.rs"]
mod progress;

use anyhow::Result;
use books::{Checks, Tally, print_table};
use clap::Parser;
use duly::{Overflow, Pool};
use held::{Held, memory_kib, warm_up};
use phases::{Gate, Opener};
use progress::Progress;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// A million tasks over a thousand workers: overload, deadlines, failures, panics, callbacks that never leave, a shutdown
/// in the middle; and at the end the books balance and nothing is left.
///
/// Five phases. STUCK: callbacks that ignore their cancellation and their deadline take workers away; the pool answers
/// for them and replaces their threads. STEADY: the bulk of the tasks, each with a short timeout; most are quick, some
/// fail, panic, are cancelled or sleep past their deadline; producers keep a window open, so nothing overflows.
/// OVERLOAD: producers stop waiting, the queue runs over, and what does not fit is shed and counted. DRAIN: the pool is
/// shut down with work in flight, which is finished. ABANDON: a second, small pool is shut down while its workers are
/// stuck, its queue is full and producers wait for room: all of them are answered in time.
#[derive(Parser)]
#[command(after_help = "Exit status: 0 when every check holds, 1 when one does not.\n\
    A quick look: --tasks 50000 --workers 100 --stuck 20")]
struct Args {
    /// Tasks of the first pool, all phases together
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    tasks: u64,
    /// Its workers
    #[arg(long, value_name = "N", default_value_t = 1000)]
    workers: usize,
    /// Its queue; what finds it full is shed (drop_newest)
    #[arg(long, value_name = "N", default_value_t = 4096)]
    capacity: usize,
    /// Threads that submit
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    producers: u64,
    /// Unanswered tasks a producer allows itself in the steady phase (at most its part of the queue)
    #[arg(long, value_name = "N", default_value_t = 256)]
    window: usize,
    /// The timeout of each task, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 100)]
    timeout: u64,
    /// Callbacks that block until the program opens a gate, whatever their task is told; half of them are cancelled
    #[arg(long, value_name = "N", default_value_t = 200)]
    stuck: u64,
    /// One in N of the steady tasks returns an error
    #[arg(long, value_name = "N", default_value_t = 100)]
    fail_every: u64,
    /// One in N panics
    #[arg(long, value_name = "N", default_value_t = 200)]
    panic_every: u64,
    /// One in N is cancelled: half of them at once, half when they have been waited for
    #[arg(long, value_name = "N", default_value_t = 100)]
    cancel_every: u64,
    /// One in N sleeps past its deadline, and leaves when it is told
    #[arg(long, value_name = "N", default_value_t = 1000)]
    sleep_every: u64,
    /// Tasks of the overload phase, in percent of all
    #[arg(long, value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=100))]
    overload: u64,
    /// How long each of them takes, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 5)]
    overload_takes: u64,
    /// Tasks in flight when the drain begins
    #[arg(long, value_name = "N", default_value_t = 1000)]
    in_flight: u64,
    /// The drain deadline of the first pool, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 500)]
    drain: u64,
    /// Workers, queued tasks and blocked producers of the second pool, each
    #[arg(long, value_name = "N", default_value_t = 16)]
    small: usize,
    /// The drain deadline of the second pool, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 200)]
    small_drain: u64,
    /// How much later than its drain deadline a shutdown may return, in milliseconds: on a machine that is busy with
    /// other things, letting a thousand threads go takes its time
    #[arg(long, value_name = "MS", default_value_t = 2000)]
    shutdown_slack: u64,
    /// Tasks that must have succeeded [default: half of --tasks]
    #[arg(long, value_name = "N")]
    min_succeeded: Option<u64>,
    /// The peak of resident memory that is allowed, in MB
    #[arg(long, value_name = "MB", default_value_t = 300)]
    max_memory: i64,
    /// Bytes that may stay allocated at the end
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    slack: i64,
    /// By how much resident memory may have grown at the end, in MB: the C library keeps stacks and arenas
    #[arg(long, value_name = "MB", default_value_t = 16)]
    max_growth: i64,
}

fn main() -> ExitCode {
    // A panic on a worker is an outcome: the table tells it, the standard hook need not.
    let standard = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !thread::current().name().is_some_and(|name| name.starts_with("surv")) {
            standard(panic);
        }
    }));
    match run(&Args::parse()) {
        Ok(broken) if broken.is_empty() => {
            println!("books balance");
            ExitCode::SUCCESS
        }
        Ok(broken) => {
            for line in broken {
                println!("survival: DOES NOT HOLD: {line}");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("survival: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// All phases, and what does not hold.
fn run(args: &Args) -> Result<Vec<String>> {
    warm_up()?;
    let before = Held::now();
    let began = Instant::now();
    let mut phases = Vec::new();
    let mut checks = Checks::default();
    {
        let gate = Arc::new(Gate::default());
        // Whatever happens below, nobody stays behind the gate.
        let _opener = Opener(&gate);
        let pool = Pool::builder()
            .name("surv")
            .workers(args.workers)
            .capacity(args.capacity)
            .overflow(Overflow::DropNewest)
            .default_timeout(Duration::from_millis(args.timeout))
            .build()?;
        let progress = Progress::start(pool.clone(), args.tasks);

        let overload = args.tasks * args.overload / 100;
        let steady = args.tasks.saturating_sub(overload + args.stuck + args.in_flight);
        phases.push(("stuck", phases::stuck(&pool, args.stuck, &gate)));
        phases.push((
            "steady",
            phases::in_threads(args.producers, steady, |share| phases::steady(&pool, args, share)),
        ));
        phases.push((
            "overload",
            phases::in_threads(args.producers, overload, |share| phases::overload(&pool, args, share)),
        ));
        let (drain, report) = phases::drain(&pool, args)?;
        phases.push(("drain", drain));
        drop(progress);
        checks.shutdown("the first pool", &report, args.drain, args);
        checks.that(report.abandoned.is_empty(), || "the drain abandoned tasks".to_owned());
        // Those that could start before they were cancelled or too late.
        let inside = gate.inside();
        let stuck = report
            .stuck
            .iter()
            .filter(|task| task.name.label() == Some("stuck"))
            .count() as u64;
        checks.that(inside > 0 || args.stuck == 0, || {
            "no stuck callback could start".to_owned()
        });
        checks.that(stuck == inside, || {
            format!("{stuck} of {inside} stuck callbacks were named")
        });
        let sum = phases.iter().fold(Tally::default(), |sum, (_, tally)| sum + tally);
        checks.books("the first pool", &sum, &report.stats);

        let (abandon, report) = phases::abandon(args, &gate)?;
        checks.shutdown("the second pool", &report, args.small_drain, args);
        checks.books("the second pool", &abandon, &report.stats);
        phases.push(("abandon", abandon));
    }
    let took = began.elapsed();

    let mut sum = phases.iter().fold(Tally::default(), |sum, (_, tally)| sum + tally);
    print_table(&phases, &sum);
    drop(phases);
    checks.answers(&sum, args);
    sum.first_wrong = None;
    // What the lines of broken checks take themselves is no leak.
    let lines = checks.bytes();
    let slack = args.slack + lines;
    let after = before.wait_until_gone(slack);
    checks.nothing_left(&before, &after, slack, args);
    let megabytes = memory_kib("VmHWM:") * 1024 / 1_000_000;
    checks.that(megabytes < args.max_memory, || {
        format!("{megabytes} MB of memory at the peak")
    });
    println!(
        "{} tasks in {:.1} s, {:.0} a second; {megabytes} MB at the peak; left behind: {} threads, {} descriptors, {} bytes; \
         resident: {} KiB more",
        sum.tasks(),
        took.as_secs_f64(),
        sum.tasks() as f64 / took.as_secs_f64(),
        after.threads - before.threads,
        after.descriptors - before.descriptors,
        after.bytes - before.bytes - lines,
        after.resident - before.resident,
    );
    Ok(checks.broken)
}
