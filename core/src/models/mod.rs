//! Models: the code of this crate under a model checker, one protocol a file.
//!
//! `RUSTFLAGS="--cfg loom"` explores every interleaving of a few threads, and what each load may see; `--cfg shuttle`
//! tries random schedules of whole pools. Nothing here is a copy of what it checks. See `crate::sync` for the seam.

#[cfg(loom)]
mod parking;
#[cfg(shuttle)]
mod whole_pool;

/// Runs a model in all its executions (of at most so many preemptions each, unless the environment says so), and tells
/// how many there were.
#[cfg(loom)]
fn explore(name: &str, preemptions: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    let mut builder = ::loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(preemptions);
    builder.max_branches = 20_000;
    let executions = Arc::new(AtomicU64::new(0));
    let count = executions.clone();
    let began = std::time::Instant::now();
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        model();
        // This also empties the magazine of this thread, which outlives the statics.
        assert_eq!(crate::arena::owned(), 0, "a task has leaked");
    });
    println!(
        "figure: loom {name} = {} executions",
        executions.load(Ordering::Relaxed)
    );
    println!("  in {:.1?}", began.elapsed());
}
