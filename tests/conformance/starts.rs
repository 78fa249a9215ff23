//! Steps about the order in which callbacks were started.

use serde::Deserialize;

use crate::world::{START, Verdict, World, lock, poll};

/// These were started in this order.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Order {
    pub(crate) tasks: Vec<String>,
}

/// How many of the first starts of a case were repetitions of one task.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Share {
    pub(crate) task: String,
    pub(crate) of_first: usize,
    pub(crate) at_least: usize,
    pub(crate) at_most: usize,
}

pub(crate) fn order(expected: &Order, world: &World) -> Verdict {
    let mut is = Vec::new();
    poll(START, || {
        is = lock(&world.starts).clone();
        is.retain(|name| expected.tasks.contains(name));
        (is.len() >= expected.tasks.len()).then_some(())
    });
    if is == expected.tasks {
        Ok(())
    } else {
        Err(format!("started were {is:?}, expected {:?}", expected.tasks))
    }
}

pub(crate) fn share(expected: &Share, world: &World) -> Verdict {
    let first = poll(START, || {
        let starts = lock(&world.starts);
        starts.get(..expected.of_first).map(<[String]>::to_vec)
    });
    let first = first.ok_or_else(|| format!("fewer than {} callbacks have started", expected.of_first))?;
    let repeats = |name: &&String| name.rsplit_once('.').map_or(&***name, |(task, _)| task) == expected.task;
    let is = first.iter().filter(repeats).count();
    if (expected.at_least..=expected.at_most).contains(&is) {
        Ok(())
    } else {
        Err(format!(
            "{is} of the first {} starts are of {:?}, expected {} to {}",
            expected.of_first, expected.task, expected.at_least, expected.at_most
        ))
    }
}
