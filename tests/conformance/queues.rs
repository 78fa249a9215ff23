//! Steps about the queues of a pool, and about how many workers it has: made, changed, paused, read.
//!
//! Keeps true: an option that a step does not give is left alone.

use duly::{BuildError, Queue};
use serde::Deserialize;

use crate::check::{same, same_if, settle};
use crate::pools::policy;
use crate::table::{Act, main_pool};
use crate::words::{Built, Overflow};
use crate::world::{Verdict, World};

/// One more queue of a pool.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewQueue {
    #[serde(default = "main_pool")]
    pub(crate) pool: String,
    pub(crate) queue: String,
    pub(crate) overflow: Option<Overflow>,
    pub(crate) max_blocked_producers: Option<usize>,
    pub(crate) capacity: Option<usize>,
    pub(crate) weight: Option<u32>,
    pub(crate) limit: Option<usize>,
    pub(crate) key_limit: Option<usize>,
    pub(crate) key_capacity: Option<usize>,
    #[serde(default)]
    pub(crate) expect: Built,
}

/// Other numbers for a queue, while it is used.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetQueue {
    #[serde(default = "main_pool")]
    pub(crate) pool: String,
    pub(crate) queue: String,
    pub(crate) capacity: Option<usize>,
    pub(crate) weight: Option<u32>,
    pub(crate) limit: Option<usize>,
    pub(crate) key_limit: Option<usize>,
    pub(crate) key_capacity: Option<usize>,
    /// Which of the three last limits there is no more.
    #[serde(default)]
    pub(crate) unlimited: Vec<Unlimited>,
    #[serde(default)]
    pub(crate) expect: Built,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unlimited {
    Limit,
    KeyLimit,
    KeyCapacity,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OfQueue {
    #[serde(default = "main_pool")]
    pub(crate) pool: String,
    pub(crate) queue: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct QueueNumbers {
    #[serde(default = "main_pool")]
    pub(crate) pool: String,
    pub(crate) queue: String,
    pub(crate) submitted: Option<u64>,
    pub(crate) queued: Option<u64>,
    pub(crate) running: Option<u64>,
    pub(crate) blocked_producers: Option<u64>,
    pub(crate) paused: Option<bool>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetWorkers {
    #[serde(default = "main_pool")]
    pub(crate) pool: String,
    pub(crate) count: usize,
    #[serde(default)]
    pub(crate) expect: Built,
}

pub(crate) fn act(act: &Act, world: &World) -> Verdict {
    let queue = |of: &OfQueue| world.queue(&of.pool, &of.queue);
    match act {
        Act::Queue(new) => add(new, world),
        Act::SetQueue(set) => answered(change(set, &world.queue(&set.pool, &set.queue)?), set.expect),
        Act::QueueStats(expected) => read(expected, world),
        Act::PauseQueue(of) => {
            queue(of)?.pause();
            Ok(())
        }
        Act::ResumeQueue(of) => {
            queue(of)?.resume();
            Ok(())
        }
        Act::PausePool(of) => {
            world.pool(&of.pool)?.pool.pause();
            Ok(())
        }
        Act::ResumePool(of) => {
            world.pool(&of.pool)?.pool.resume();
            Ok(())
        }
        Act::SetWorkers(set) => answered(world.pool(&set.pool)?.pool.set_workers(set.count), set.expect),
        _ => Err("no step about queues".to_owned()),
    }
}

fn answered(answer: Result<(), BuildError>, expect: Built) -> Verdict {
    let is = match answer {
        Ok(()) => Built::Ok,
        Err(BuildError::InvalidArgument { .. }) => Built::InvalidArgument,
        Err(BuildError::ShutDown) => Built::ShutDown,
        Err(other) => return Err(other.to_string()),
    };
    same("the answer", is.as_str(), expect.as_str())
}

fn add(new: &NewQueue, world: &World) -> Verdict {
    let pool = world.pool(&new.pool)?.pool;
    let mut builder = pool.queue(new.queue.clone());
    macro_rules! set {
        ($($option:ident),+) => { $( if let Some(value) = new.$option { builder = builder.$option(value); } )+ };
    }
    set!(capacity, max_blocked_producers, weight, limit, key_limit, key_capacity);
    if let Some(overflow) = new.overflow {
        builder = builder.overflow(policy(overflow));
    }
    match builder.add() {
        Ok(queue) => {
            same("the name", queue.name(), &new.queue)?;
            world.add_queue(&new.queue, queue)?;
            answered(Ok(()), new.expect)
        }
        Err(refused) => answered(Err(refused), new.expect),
    }
}

fn change(set: &SetQueue, queue: &Queue) -> Result<(), BuildError> {
    if let Some(capacity) = set.capacity {
        queue.set_capacity(capacity)?;
    }
    if let Some(weight) = set.weight {
        queue.set_weight(weight)?;
    }
    if set.limit.is_some() || set.unlimited.contains(&Unlimited::Limit) {
        queue.set_limit(set.limit)?;
    }
    if set.key_limit.is_some() || set.unlimited.contains(&Unlimited::KeyLimit) {
        queue.set_key_limit(set.key_limit)?;
    }
    if set.key_capacity.is_some() || set.unlimited.contains(&Unlimited::KeyCapacity) {
        queue.set_key_capacity(set.key_capacity)?;
    }
    Ok(())
}

fn read(expected: &QueueNumbers, world: &World) -> Verdict {
    let queue = world.queue(&expected.pool, &expected.queue)?;
    settle(|| {
        let stats = queue.stats();
        same_if("submitted", stats.submitted, expected.submitted)?;
        same_if("queued", stats.queued, expected.queued)?;
        same_if("running", stats.running, expected.running)?;
        same_if("blocked_producers", stats.blocked_producers, expected.blocked_producers)?;
        same_if("paused", stats.paused, expected.paused)
    })
}
