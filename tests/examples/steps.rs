//! The steps of tasks, one kind a run, in functions that an instruction counter can switch itself on for: `ci/guards`.
//!
//! Keeps true: only one thread works (the pool has no threads of its own), so that a step takes the same instructions
//! each time. Prints how many tasks the step handled.

use duly::{CancellationToken, Outcome, Pool, Task, Threads};
use std::process::ExitCode;
use std::time::Duration;

const TASKS: usize = 10_000;
const HOUR: Duration = Duration::from_secs(3600);

/// Counted is what happens inside.
#[inline(never)]
#[unsafe(no_mangle)]
extern "Rust" fn duly_guard(step: &mut dyn FnMut()) {
    step();
}

fn counted<R>(step: impl FnOnce() -> R) -> R {
    let (mut step, mut result) = (Some(step), None);
    duly_guard(&mut || result = step.take().map(|step| step()));
    result.expect("it was called")
}

fn submit(pool: &Pool) -> Vec<Task<()>> {
    let mut tasks = Vec::with_capacity(TASKS);
    tasks.extend((0..TASKS).map(|_| pool.spawn(|| ()).expect("there is room")));
    tasks
}

fn run(pool: &Pool) {
    pool.close();
    pool.worker().expect("one").run();
}

fn main() -> ExitCode {
    let step = std::env::args().nth(1).unwrap_or_default();
    let pool = Pool::builder()
        .workers(1)
        .capacity(2 * TASKS)
        .threads(Threads::Host)
        .build();
    let pool = pool.expect("the service threads can be created");
    // Memory and paths that only the first tasks pay for.
    submit(&pool).iter().for_each(|task| assert!(task.cancel()));
    match step.as_str() {
        "submit" => drop(counted(|| submit(&pool))),
        "submit with a deadline" => {
            let mut tasks = Vec::with_capacity(TASKS);
            counted(|| {
                tasks.extend((0..TASKS).map(|_| pool.options().timeout(HOUR).spawn(|| ()).expect("there is room")));
            });
        }
        "submit under a token" => {
            let (token, mut tasks) = (CancellationToken::new(), Vec::with_capacity(TASKS));
            counted(|| {
                tasks.extend((0..TASKS).map(|_| pool.options().token(&token).spawn(|| ()).expect("there is room")));
            });
        }
        "submit many" => drop(counted(|| {
            pool.spawn_many((0..TASKS).map(|_| || ())).expect("there is room")
        })),
        "submit and drop the handle" => counted(|| {
            for _ in 0..TASKS {
                drop(pool.spawn(|| ()).expect("there is room"));
            }
        }),
        "run" => {
            let _tasks = submit(&pool);
            counted(|| run(&pool));
        }
        "run, nobody waits" => {
            drop(submit(&pool));
            counted(|| run(&pool));
        }
        "wait and let go" => {
            let tasks = submit(&pool);
            run(&pool);
            counted(|| tasks.into_iter().for_each(|task| task.wait().expect("it has run")));
        }
        "cancel" => {
            let tasks = submit(&pool);
            assert_eq!(counted(|| tasks.iter().filter(|task| task.cancel()).count()), TASKS);
        }
        "cancel by one token" => {
            let token = CancellationToken::new();
            let options = pool.options().token(&token);
            let tasks: Vec<_> = (0..TASKS)
                .map(|_| options.spawn(|| ()).expect("there is room"))
                .collect();
            counted(|| token.cancel());
            assert!(tasks.iter().all(|task| task.outcome() == Some(Outcome::Cancelled)));
        }
        _ => {
            eprintln!("steps: \"{step}\" is not a step; ci/guards knows them");
            return ExitCode::from(2);
        }
    }
    println!("{TASKS}");
    ExitCode::SUCCESS
}
