//! Steps about streams: a function over an input whose items the runner counts.
//!
//! Keeps true: an item is pulled by the library alone; `pulled` says how many it has asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use duly::{Context, Outcome, StreamError, TaskError, WaitError};
use serde::Deserialize;

use crate::check::{same, same_if};
use crate::submit::{How, options};
use crate::table::{Act, main_pool, ten_seconds};
use crate::words::Next;
use crate::world::{Captured, Failure, Record, Verdict, World, lock, ms};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewStream {
    #[serde(default = "main_pool")]
    pub(crate) pool: String,
    pub(crate) stream: String,
    /// How many items the input has; none: it never ends.
    pub(crate) items: Option<u64>,
    pub(crate) window: Option<usize>,
    pub(crate) ordered: Option<bool>,
    /// The items whose callback blocks at the gate, by number; `all`.
    #[serde(default)]
    pub(crate) blocks: Vec<String>,
    #[serde(default)]
    pub(crate) gate: String,
    /// The items whose callback fails.
    #[serde(default)]
    pub(crate) fails: Vec<String>,
    pub(crate) label: Option<String>,
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) token: Option<String>,
    pub(crate) queue: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NextAnswer {
    pub(crate) stream: String,
    #[serde(default = "ten_seconds")]
    pub(crate) timeout_ms: u64,
    pub(crate) expect: Next,
    /// Of which item, if it succeeded or failed.
    pub(crate) item: Option<u64>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pulled {
    pub(crate) stream: String,
    pub(crate) at_least: Option<u64>,
    pub(crate) at_most: Option<u64>,
}

type Answer = Result<Option<Result<i64, StreamError<u64, Failure>>>, WaitError>;

/// A stream, whatever its type, and how many items were pulled.
pub(crate) struct OneStream {
    next: Box<dyn FnMut(Duration) -> Answer + Send>,
    pulled: Arc<AtomicU64>,
}

impl std::fmt::Debug for OneStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OneStream")
            .field("pulled", &self.pulled)
            .finish_non_exhaustive()
    }
}

pub(crate) fn act(act: &Act, world: &Arc<World>) -> Verdict {
    match act {
        Act::Stream(new) => make(new, world),
        Act::Next(next) => {
            // Nobody else asks meanwhile: it is not in the world.
            let mut stream = take(&next.stream, world)?;
            let answer = (stream.next)(ms(next.timeout_ms));
            lock(&world.streams).insert(next.stream.clone(), stream);
            answered(next, answer)
        }
        Act::Pulled(expected) => {
            let pulled = match lock(&world.streams).get(&expected.stream) {
                Some(stream) => stream.pulled.load(SeqCst),
                None => return Err(format!("there is no stream {:?}", expected.stream)),
            };
            if expected.at_least.is_some_and(|least| pulled < least)
                || expected.at_most.is_some_and(|most| pulled > most)
            {
                return Err(format!("{pulled} items were pulled, out of bounds"));
            }
            Ok(())
        }
        Act::DropStream { stream } => take(stream, world).map(drop),
        _ => Err("no step about a stream".to_owned()),
    }
}

fn take(name: &str, world: &World) -> Result<OneStream, String> {
    let taken = lock(&world.streams).remove(name);
    taken.ok_or_else(|| format!("there is no stream {name:?}"))
}

fn make(new: &NewStream, world: &Arc<World>) -> Verdict {
    let pool = world.pool(&new.pool)?.pool;
    let how = How {
        pool: &new.pool,
        label: new.label.as_deref(),
        timeout_ms: new.timeout_ms,
        token: new.token.as_deref(),
        queue: new.queue.as_deref(),
        ..How::default()
    };
    let options = options(&pool, &how, world)?;
    let record = world.new_record(&new.stream)?;
    let pulled = Arc::new(AtomicU64::new(0));
    let count = pulled.clone();
    let input = (0..new.items.unwrap_or(u64::MAX)).inspect(move |_| {
        count.fetch_add(1, SeqCst);
    });
    let mut stream = options.stream(input, function(new, &record, world));
    if let Some(window) = new.window {
        stream = stream.window(window);
    }
    if let Some(yes) = new.ordered {
        stream = stream.ordered(yes);
    }
    let next = Box::new(move |timeout| stream.next_timeout(timeout));
    lock(&world.streams).insert(new.stream.clone(), OneStream { next, pulled });
    Ok(())
}

/// What is called with each item: gives its number back.
fn function(
    new: &NewStream,
    record: &Arc<Record>,
    world: &Arc<World>,
) -> impl Fn(&Context, u64) -> Result<i64, Failure> + Send + Sync + 'static {
    let captured = Captured(record.clone());
    let (new, world) = (new.clone(), Arc::downgrade(world));
    move |_, item| {
        let captured = &captured;
        let number = item.to_string();
        captured.0.started_as(&number);
        if new.blocks.iter().any(|which| which == "all" || *which == number)
            && let Some(world) = world.upgrade()
        {
            let gate = world.gate(&new.gate);
            drop(world);
            gate.pass();
        }
        let item = i64::try_from(item).unwrap_or(i64::MAX);
        if new.fails.contains(&number) {
            return Err(Failure {
                code: i32::try_from(item + 1).unwrap_or(i32::MAX),
                message: "failed".to_owned(),
            });
        }
        Ok(item)
    }
}

fn answered(next: &NextAnswer, answer: Answer) -> Verdict {
    let (is, item) = match answer {
        Err(WaitError::TimedOut(_)) => (Next::TimedOut.as_str(), None),
        Err(WaitError::Cancelled(_)) => (Next::Cancelled.as_str(), None),
        Err(other) => return Err(other.to_string()),
        Ok(None) => (Next::End.as_str(), None),
        Ok(Some(Ok(value))) => (Outcome::Succeeded.as_str(), Some(value)),
        Ok(Some(Err(StreamError::Refused { refused, .. }))) => (refused.kind().as_str(), None),
        Ok(Some(Err(StreamError::Task { error, index }))) => {
            let outcome = error.outcome().map_or("no outcome", |outcome| outcome.as_str());
            let item = match error {
                TaskError::Failed(Failure { code, .. }) => {
                    same("the place in the input", index as i64, i64::from(code) - 1)?;
                    Some(i64::from(code) - 1)
                }
                _ => None,
            };
            (outcome, item)
        }
        Ok(Some(Err(other))) => return Err(format!("{other:?}")),
    };
    same("the answer", is, next.expect.as_str())?;
    match item {
        Some(item) => same_if("the item", item as u64, next.item),
        None => Ok(()),
    }
}
