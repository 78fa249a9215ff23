//! Comparing what is with what a case expects.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::time::Duration;

use duly::Stats;

use crate::world::{Verdict, poll};

const SETTLE: Duration = Duration::from_secs(5);

pub(crate) fn same<T: PartialEq + Display>(what: &str, is: T, expected: T) -> Verdict {
    if is == expected {
        Ok(())
    } else {
        Err(format!("{what} is {is}, expected {expected}"))
    }
}

pub(crate) fn same_if<T: PartialEq + Display>(what: &str, is: T, expected: Option<T>) -> Verdict {
    expected.map_or(Ok(()), |expected| same(what, is, expected))
}

pub(crate) fn part(what: &str, text: &str, expected: Option<&str>) -> Verdict {
    match expected {
        Some(expected) if !text.contains(expected) => Err(format!("{what} is {text:?}, expected {expected:?} in it")),
        _ => Ok(()),
    }
}

/// Reads again and again until all is as expected; after 5 s what was read last is the verdict.
pub(crate) fn settle(mut read: impl FnMut() -> Verdict) -> Verdict {
    let mut last = Ok(());
    poll(SETTLE, || {
        last = read();
        last.is_ok().then_some(())
    });
    last
}

pub(crate) fn same_labels<'a>(names: impl Iterator<Item = &'a duly::TaskName>, expected: &[String]) -> Verdict {
    let mut is: Vec<&str> = names.map(|name| name.label().unwrap_or_default()).collect();
    is.sort_unstable();
    let mut expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    expected.sort_unstable();
    if is == expected {
        Ok(())
    } else {
        Err(format!("the labels are {is:?}, expected {expected:?}"))
    }
}

pub(crate) fn threads_named(prefix: &str) -> Result<u64, String> {
    let tasks = fs::read_dir("/proc/self/task").map_err(|cause| format!("the threads cannot be listed: {cause}"))?;
    let names = tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    Ok(names.filter(|name| name.starts_with(prefix)).count() as u64)
}

pub(crate) fn counters(stats: &Stats, expected: &BTreeMap<String, u64>) -> Verdict {
    for (name, expected) in expected {
        same(name, counter(stats, name)?, *expected)?;
    }
    Ok(())
}

pub(crate) fn counter(stats: &Stats, name: &str) -> Result<u64, String> {
    Ok(match name {
        "submitted" => stats.submitted,
        "succeeded" => stats.succeeded,
        "failed" => stats.failed,
        "panicked" => stats.panicked,
        "cancelled" => stats.cancelled,
        "deadline_exceeded" => stats.deadline_exceeded,
        "shed" => stats.shed,
        "abandoned" => stats.abandoned,
        "queued" => stats.queued,
        "running" => stats.running,
        "refused" => stats.refused,
        "late" => stats.late,
        "overdue" => stats.overdue,
        "replaced" => stats.replaced,
        "stalled" => stats.stalled,
        "unobserved" => stats.unobserved,
        "blocked_producers" => stats.blocked_producers,
        "workers" => stats.workers,
        _ => return Err(format!("there is no counter {name:?}")),
    })
}

pub(crate) fn balance(stats: &Stats) -> Verdict {
    let ended = stats.succeeded
        + stats.failed
        + stats.panicked
        + stats.cancelled
        + stats.deadline_exceeded
        + stats.shed
        + stats.abandoned;
    same("queued", stats.queued, 0)?;
    same("running", stats.running, 0)?;
    same("the sum of the outcomes", ended, stats.submitted)?;
    same("books_balance()", stats.books_balance(), true)
}
