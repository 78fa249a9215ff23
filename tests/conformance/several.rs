//! Steps about several tasks: groups, and waits for any or all.
//!
//! Keeps true: a group is dropped only by its step, or with the case.

use std::sync::Arc;

use duly::{Group, wait_all, wait_any};

use crate::check::{same, same_if};
use crate::table::{Act, GroupEnd, GroupWait, Grouped};
use crate::world::{Verdict, World, lock, ms};

pub(crate) fn grouped(act: &Act, world: &World) -> Verdict {
    match act {
        Act::Group(how) => make(how, world),
        Act::GroupWait(wait) => waited(wait, world),
        Act::DropGroup { group } => {
            let dropped = lock(&world.groups).remove(group);
            dropped.map(drop).ok_or_else(|| format!("there is no group {group:?}"))
        }
        _ => Err("no step about a group".to_owned()),
    }
}

fn make(how: &Grouped, world: &World) -> Verdict {
    let pool = world.pool(&how.pool)?.pool;
    let mut group = Group::builder(&pool).label(how.group.clone());
    if let Some(limit) = how.limit {
        group = group.limit(limit);
    }
    if let Some(yes) = how.fail_fast {
        group = group.fail_fast(yes);
    }
    if how.detach {
        group = group.detach_on_drop();
    }
    match lock(&world.groups).insert(how.group.clone(), Arc::new(group.build())) {
        None => Ok(()),
        Some(_) => Err(format!("there are two groups {:?}", how.group)),
    }
}

fn waited(wait: &GroupWait, world: &World) -> Verdict {
    let end = world.group(&wait.group)?.wait_timeout(ms(wait.timeout_ms));
    let is = match &end {
        None => GroupEnd::TimedOut,
        Some(Ok(())) => GroupEnd::Ok,
        Some(Err(_)) => GroupEnd::Failed,
    };
    same("the answer", is.as_str(), wait.expect.as_str())?;
    let Some(Err(error)) = end else { return Ok(()) };
    let label = |name: &duly::TaskName| name.label().unwrap_or_default().to_owned();
    let errors: Vec<String> = error.errors().iter().map(|error| label(error.name())).collect();
    if let (Some((_, first, _)), Some(listed)) = (error.first(), errors.first()) {
        same("the first to fail", label(first), listed.clone())?;
    }
    same_if(
        "the members with an error",
        errors.join(" "),
        wait.errors.as_ref().map(|errors| errors.join(" ")),
    )?;
    same_if(
        "how many the group cancelled",
        error.cancelled_by_group(),
        wait.cancelled,
    )
}

pub(crate) fn waited_for_several(act: &Act, world: &World) -> Verdict {
    match act {
        Act::WaitAny(wait) => {
            let tasks = wait.tasks.iter().map(|task| world.task(task));
            let tasks = tasks.collect::<Result<Vec<_>, _>>()?;
            let first = wait_any(&tasks, Some(ms(wait.timeout_ms))).ok();
            same(
                "the task",
                first.map_or("none", |place| &wait.tasks[place]),
                wait.expect.as_deref().unwrap_or("none"),
            )
        }
        Act::WaitAll(wait) => {
            let tasks = wait.tasks.iter().map(|task| world.task(task));
            let tasks = tasks.collect::<Result<Vec<_>, _>>()?;
            let missing = match wait_all(&tasks, Some(ms(wait.timeout_ms))) {
                Ok(()) => Vec::new(),
                Err(error) => error
                    .tasks()
                    .iter()
                    .map(|(place, _)| wait.tasks[*place].clone())
                    .collect(),
            };
            same(
                "the tasks that have not ended",
                missing.join(" "),
                wait.missing.join(" "),
            )
        }
        _ => Err("no wait for several tasks".to_owned()),
    }
}
