//! Steps that make and end pools.

use std::collections::BTreeMap;
use std::sync::Arc;

use duly::{BuildError, Pool};

use crate::check::{counters, same, same_if, same_labels};
use crate::table::{Built, Hook, Overflow, Setup, Shutdown, Threads};
use crate::world::{Hooks, OnePool, Verdict, World, lock, ms};

pub(crate) fn build(setup: &Setup, world: &World) -> Verdict {
    let mut builder = Pool::builder();
    macro_rules! set {
        ($($field:ident => $method:ident $(via $how:expr)?),+ $(,)?) => { $(
            if let Some(field) = setup.$field.clone() {
                $(let field = $how(field);)?
                builder = builder.$method(field);
            }
        )+ };
    }
    set! {
        name => name,
        workers => workers,
        capacity => capacity,
        overflow => overflow via policy,
        max_blocked_producers => max_blocked_producers,
        replace_after_ms => replace_after via ms,
        max_replacements => max_replacements,
        default_timeout_ms => default_timeout via ms,
        drop_drain_ms => drop_drain via ms,
        threads => threads via how_threads,
        stack_size => stack_size,
    }
    let hooks = Arc::new(Hooks::default());
    let hook = |hook: Hook| {
        let hooks = hooks.clone();
        move || hooks.called(hook)
    };
    let (start, stop) = (hook(Hook::WorkerStart), hook(Hook::WorkerStop));
    let (late, stalled, unobserved) = (hook(Hook::Late), hook(Hook::Stalled), hook(Hook::Unobserved));
    let built = builder
        .on_worker_start(move |_| start())
        .on_worker_stop(move |_| stop())
        .on_late(move |_| late())
        .on_stalled(move |_| stalled())
        .on_unobserved(move |_| unobserved())
        .build();
    match built {
        Ok(pool) => {
            lock(&world.pools).insert(setup.pool.clone(), OnePool { pool, hooks });
            same("the answer", Built::Ok.as_str(), setup.expect.as_str())
        }
        Err(BuildError::InvalidArgument { .. }) => {
            same("the answer", Built::InvalidArgument.as_str(), setup.expect.as_str())
        }
        Err(other) => Err(other.to_string()),
    }
}

pub(crate) fn policy(overflow: Overflow) -> duly::Overflow {
    match overflow {
        Overflow::Block => duly::Overflow::Block,
        Overflow::Reject => duly::Overflow::Reject,
        Overflow::DropNewest => duly::Overflow::DropNewest,
        Overflow::DropOldest => duly::Overflow::DropOldest,
        Overflow::CallerRuns => duly::Overflow::CallerRuns,
    }
}

pub(crate) fn how_threads(threads: Threads) -> duly::Threads {
    match threads {
        Threads::Eager => duly::Threads::Eager,
        Threads::OnDemand => duly::Threads::OnDemand,
    }
}

pub(crate) fn shut_down(shutdown: &Shutdown, expected: &BTreeMap<String, u64>, world: &World) -> Verdict {
    let pool = world.pool(&shutdown.pool)?.pool;
    let report = pool
        .shutdown(ms(shutdown.drain_ms))
        .map_err(|refused| refused.to_string())?;
    same_if("drained", report.drained, shutdown.drained)?;
    if let Some(labels) = &shutdown.abandoned {
        same_labels(report.abandoned.iter().map(|record| &record.name), labels)?;
    }
    same_if("threads_left", report.threads_left, shutdown.threads_left)?;
    counters(&report.stats, expected)
}
