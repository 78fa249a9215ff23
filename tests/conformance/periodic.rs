//! Steps about periodic tasks: begun, read, ended.
//!
//! Keeps true: a periodic task has one record; every run of it counts its start there, and what its callback captures
//! is released once.

use std::sync::Arc;
use std::time::Duration;

use duly::PeriodicEnd;
use serde::Deserialize;

use crate::callbacks;
use crate::check::{same, same_if, settle};
use crate::submit::{How, given_back, options};
use crate::table::{Act, Step, main_pool, ten_seconds};
use crate::words::{Decided, EveryEnd, Missed, Submitted};
use crate::world::{Verdict, World, lock, ms};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Every {
    #[serde(default = "main_pool")]
    pub(crate) pool: String,
    pub(crate) periodic: String,
    pub(crate) period_ms: u64,
    pub(crate) delay_ms: Option<u64>,
    pub(crate) missed: Option<Missed>,
    pub(crate) overlap: Option<bool>,
    pub(crate) max_failures: Option<u64>,
    pub(crate) label: Option<String>,
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) token: Option<String>,
    pub(crate) queue: Option<String>,
    #[serde(default)]
    pub(crate) expect: Submitted,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EveryNumbers {
    pub(crate) periodic: String,
    pub(crate) runs: Option<u64>,
    pub(crate) runs_at_least: Option<u64>,
    pub(crate) failures: Option<u64>,
    pub(crate) missed: Option<u64>,
    pub(crate) missed_at_least: Option<u64>,
    pub(crate) active: Option<u64>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CancelEvery {
    pub(crate) periodic: String,
    pub(crate) expect: Option<Decided>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WaitEvery {
    pub(crate) periodic: String,
    #[serde(default = "ten_seconds")]
    pub(crate) timeout_ms: u64,
    pub(crate) expect: EveryEnd,
}

pub(crate) fn act(step: &Step, world: &Arc<World>) -> Verdict {
    match &step.act {
        Act::Every(every) => begin(every, step, world),
        Act::PeriodicStats(expected) => read(expected, world),
        Act::CancelPeriodic(cancel) => {
            let decided = world.periodic(&cancel.periodic)?.cancel();
            let is = if decided { Decided::Decided } else { Decided::Ended };
            same_if("the answer", is.as_str(), cancel.expect.map(Decided::as_str))
        }
        Act::WaitPeriodic(wait) => {
            let end = world.periodic(&wait.periodic)?.wait_timeout(ms(wait.timeout_ms));
            let is = match end {
                None => EveryEnd::TimedOut,
                Some(PeriodicEnd::Cancelled(_)) => EveryEnd::Cancelled,
                Some(PeriodicEnd::ShutDown) => EveryEnd::ShutDown,
                Some(PeriodicEnd::Failed(_)) => EveryEnd::Failed,
                Some(other) => return Err(format!("an unknown end: {other}")),
            };
            same("the end", is.as_str(), wait.expect.as_str())
        }
        Act::DropPeriodic { periodic } => {
            let dropped = lock(&world.periodics).remove(periodic);
            dropped
                .map(drop)
                .ok_or_else(|| format!("there is no periodic task {periodic:?}"))
        }
        _ => Err("no step about a periodic task".to_owned()),
    }
}

fn begin(every: &Every, step: &Step, world: &Arc<World>) -> Verdict {
    let callback = step.callback.clone().ok_or("no callback")?;
    let pool = world.pool(&every.pool)?.pool;
    let how = How {
        pool: &every.pool,
        label: every.label.as_deref(),
        timeout_ms: every.timeout_ms,
        token: every.token.as_deref(),
        queue: every.queue.as_deref(),
        delay_ms: every.delay_ms,
        ..How::default()
    };
    let mut periodic = options(&pool, &how, world)?.every(Duration::from_millis(every.period_ms));
    if let Some(missed) = every.missed {
        periodic = periodic.missed(match missed {
            Missed::Skip => duly::Missed::Skip,
            Missed::CatchUp => duly::Missed::CatchUp,
        });
    }
    if let Some(yes) = every.overlap {
        periodic = periodic.overlap(yes);
    }
    if let Some(failures) = every.max_failures {
        periodic = periodic.max_failures(failures);
    }
    let record = world.new_record(&every.periodic)?;
    match periodic.submit(callbacks::make_again(callback, &record, world)) {
        Ok(periodic) => {
            lock(&world.periodics).insert(every.periodic.clone(), periodic);
            same("the answer", Submitted::Accepted.as_str(), every.expect.as_str())
        }
        Err(refused) => {
            world.forget_record(&every.periodic);
            same("the answer", given_back(refused, &record)?, every.expect.as_str())
        }
    }
}

fn read(expected: &EveryNumbers, world: &World) -> Verdict {
    let periodic = world.periodic(&expected.periodic)?;
    let at_least = |what: &str, is: u64, least: Option<u64>| match least {
        Some(least) if is < least => Err(format!("{what} is {is}, expected at least {least}")),
        _ => Ok(()),
    };
    settle(|| {
        let stats = periodic.stats();
        same_if("runs", stats.runs, expected.runs)?;
        at_least("runs", stats.runs, expected.runs_at_least)?;
        same_if("failures", stats.failures, expected.failures)?;
        same_if("missed", stats.missed, expected.missed)?;
        at_least("missed", stats.missed, expected.missed_at_least)?;
        same_if("active", stats.active, expected.active)
    })
}
