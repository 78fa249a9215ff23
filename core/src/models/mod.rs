//! Models: the code of this crate under a model checker, one protocol a file.
//!
//! `RUSTFLAGS="--cfg loom"` explores every interleaving of a few threads, and what each load may see; `--cfg shuttle`
//! tries random schedules of whole pools. Nothing here is a copy of what it checks. See `crate::sync` for the seam.
//!
//! Under loom a model whose name starts with `full_` takes minutes, and is run only when asked for (`ci/models loom
//! --full`). Each tells how many executions it had; bounded ones say by how many preemptions.

#[cfg(loom)]
mod answer;
#[cfg(loom)]
mod closing;
#[cfg(loom)]
mod completions;
#[cfg(loom)]
mod idle;
#[cfg(loom)]
mod parking;
#[cfg(loom)]
mod queue;
#[cfg(loom)]
mod recycling;
#[cfg(loom)]
mod replacing;
#[cfg(loom)]
mod spsc;
#[cfg(shuttle)]
mod structured;
#[cfg(shuttle)]
mod timed;
#[cfg(loom)]
mod timer;
#[cfg(loom)]
mod tokens;
#[cfg(loom)]
mod turns;
#[cfg(shuttle)]
mod waiting;
#[cfg(shuttle)]
mod whole_pool;

#[cfg(loom)]
use bench::{Bench, beside, explore, work};

/// How models are run, and the pool they are run on.
#[cfg(loom)]
mod bench {
    use crate::registry::Record;
    use crate::shared::Shared;
    use crate::sync::{Arc, thread};
    use crate::{Pool, PoolBuilder, arena, worker};
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Runs a model in all its executions (of at most so many preemptions each, unless the environment says
    /// otherwise), and tells how many there were.
    pub(super) fn explore(name: &str, preemptions: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
        let mut builder = ::loom::model::Builder::new();
        builder.preemption_bound = builder.preemption_bound.or(preemptions);
        builder.max_branches = 20_000;
        let bound = builder
            .preemption_bound
            .map_or("every".into(), |n| format!("at most {n}"));
        let executions = Arc::new(AtomicU64::new(0));
        let count = executions.clone();
        let began = std::time::Instant::now();
        builder.check(move || {
            count.fetch_add(1, Ordering::Relaxed);
            model();
            // This also empties the magazine of this thread, which outlives the statics. A thread that nobody joins
            // may still be about to end.
            for _ in 0..3 {
                if arena::owned() == 0 {
                    break;
                }
                thread::yield_now();
            }
            assert_eq!(arena::owned(), 0, "a task has leaked");
        });
        let executions = executions.load(Ordering::Relaxed);
        println!("\nfigure: loom {name} = {executions} executions");
        println!("  {name}: {bound} preemptions, {:.1?}", began.elapsed());
    }

    /// A pool whose threads are the model's.
    pub(super) struct Bench {
        pub(super) pool: Pool,
    }

    impl Bench {
        pub(super) fn new(options: impl FnOnce(PoolBuilder) -> PoolBuilder) -> Bench {
            let builder = Pool::builder()
                .workers(2)
                .capacity(2)
                .max_replacements(1)
                .max_blocked_producers(2);
            let pool = options(builder).build_without_threads().expect("a pool");
            Bench { pool }
        }

        pub(super) fn shared(&self) -> Arc<Shared> {
            self.pool.shared().clone()
        }

        /// A place for a thread of the model that works.
        pub(super) fn record(&self) -> Arc<Record> {
            self.pool.shared().registry.add_worker(2).expect("two at most")
        }

        /// All has been done: what is left for the delivery thread is run, and the books must balance.
        pub(super) fn end(self) {
            let shared = self.shared();
            shared.deliver_here();
            let stats = shared.stats();
            assert!(stats.books_balance(), "{stats:?}");
            assert_eq!((stats.queued, stats.running, stats.overdue), (0, 0, 0), "{stats:?}");
        }
    }

    /// A thread of the model. Its free blocks have gone back when it is joined.
    pub(super) fn beside<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> Beside<T> {
        Beside(thread::spawn(move || {
            let value = run();
            arena::flush();
            value
        }))
    }

    pub(super) struct Beside<T>(thread::JoinHandle<T>);

    impl<T> Beside<T> {
        pub(super) fn join(self) -> T {
            self.0.join().expect("no panic")
        }
    }

    /// Takes one task and runs it, as a worker does. Whether there was one.
    pub(super) fn work(shared: &Arc<Shared>, record: &Record) -> bool {
        match shared.queue.pop(&record.own.current) {
            Some((task, more)) => {
                worker::run(shared, &shared.queue, record, task, more, &mut false);
                true
            }
            None => false,
        }
    }
}
