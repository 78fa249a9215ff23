//! Steps that submit: blocking, trying, async, and submit and answer in one.
//!
//! Keeps true: every refusal is checked to give its callback back, unrun and whole.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use duly::{Outcome, Pool, RunError, SubmitError};

use crate::block_on::{block_on, poll_once};
use crate::callbacks;
use crate::check::{same, same_if};
use crate::pools::policy;
use crate::table::{Act, Callback, OddTimeout, Overflow, Run, Step, Submitted};
use crate::world::{CASE, Record, START, Verdict, World, lock, ms, poll};

/// What a submit and a `run` have in common; `None` leaves an option alone.
#[derive(Debug, Default)]
pub(crate) struct How<'a> {
    pub(crate) pool: &'a str,
    pub(crate) label: Option<&'a str>,
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) timeout: Option<OddTimeout>,
    pub(crate) token: Option<&'a str>,
    pub(crate) submit_timeout_ms: Option<u64>,
    pub(crate) queue: Option<&'a str>,
    pub(crate) key: Option<&'a str>,
    pub(crate) delay_ms: Option<u64>,
    pub(crate) overflow: Option<Overflow>,
}

pub(crate) fn options<'p>(pool: &'p Pool, how: &How<'_>, world: &World) -> Result<duly::Options<'p>, String> {
    let mut options = pool.options();
    if let Some(label) = how.label {
        options = options.label(label.to_owned());
    }
    if let Some(timeout) = how.timeout_ms {
        options = options.timeout(ms(timeout));
    }
    match how.timeout {
        None => {}
        Some(OddTimeout::Longest) => options = options.timeout(Duration::MAX),
        Some(odd) => return Err(format!("a Duration cannot be {}", odd.as_str())),
    }
    if let Some(token) = how.token {
        options = options.token(&world.token(token)?);
    }
    if let Some(timeout) = how.submit_timeout_ms {
        options = options.submit_timeout(ms(timeout));
    }
    if let Some(queue) = how.queue {
        options = options.queue(&world.queue(how.pool, queue)?);
    }
    if let Some(key) = how.key {
        options = options.key(key);
    }
    if let Some(delay) = how.delay_ms {
        options = options.delay(ms(delay));
    }
    if let Some(overflow) = how.overflow {
        options = options.overflow(policy(overflow));
    }
    Ok(options)
}

pub(crate) fn submit(step: &Step, world: &Arc<World>) -> Verdict {
    let (Act::Submit(it) | Act::TrySubmit(it) | Act::SubmitAsync(it)) = &step.act else {
        return Err("no submit".to_owned());
    };
    let callback = step.callback.clone().ok_or("no callback")?;
    let pool = world.pool(&it.pool)?.pool;
    let how = How {
        pool: &it.pool,
        label: it.label.as_deref(),
        timeout_ms: it.timeout_ms,
        timeout: it.timeout,
        token: it.token.as_deref(),
        submit_timeout_ms: it.submit_timeout_ms,
        queue: it.queue.as_deref(),
        key: it.key.as_deref(),
        delay_ms: it.delay_ms,
        overflow: it.overflow,
    };
    let options = options(&pool, &how, world)?;
    let record = world.new_record(&it.task)?;
    let callback = callbacks::make(callback, &record, world);
    let group = it.group.as_deref().map(|group| world.group(group)).transpose()?;
    let members = group.as_ref().map(|group| group.with(&options));
    let answer = match (&step.act, members) {
        (Act::TrySubmit(_), Some(members)) => members.try_submit(callback),
        (Act::SubmitAsync(_), Some(members)) => match block_on(members.submit_async(callback), CASE) {
            Some(answer) => answer,
            None => return Err("the async submit hangs".to_owned()),
        },
        (_, Some(members)) => members.submit(callback),
        (Act::TrySubmit(_), None) => options.try_submit(callback),
        (Act::SubmitAsync(_), None) => match block_on(options.submit_async(callback), CASE) {
            Some(answer) => answer,
            None => return Err("the async submit hangs".to_owned()),
        },
        (_, None) => options.submit(callback),
    };
    match answer {
        Ok(task) => {
            *lock(&record.task) = Some(task);
            same("the answer", Submitted::Accepted.as_str(), it.expect.as_str())
        }
        Err(refused) => {
            world.forget_record(&it.task);
            same("the answer", given_back(refused, &record)?, it.expect.as_str())
        }
    }
}

/// A refusal gives the callback back: unrun, and with its captured data.
pub(crate) fn given_back<F>(refused: SubmitError<F>, record: &Record) -> Result<&'static str, String> {
    let kind = refused.kind().as_str();
    same(
        "the number of starts of a refused callback",
        record.starts.load(SeqCst),
        0,
    )?;
    same(
        "the number of releases of a refused callback",
        record.drops.load(SeqCst),
        0,
    )?;
    drop(refused.into_callback());
    same(
        "the number of releases of a callback given back and dropped",
        record.drops.load(SeqCst),
        1,
    )?;
    Ok(kind)
}

pub(crate) fn run_and_answer(run: &Run, step: &Step, world: &Arc<World>) -> Verdict {
    let callback = step.callback.clone().ok_or("no callback")?;
    let value = value_of(&callback);
    let pool = world.pool(&run.pool)?.pool;
    let how = How {
        pool: &run.pool,
        label: run.label.as_deref(),
        timeout_ms: run.timeout_ms,
        token: run.token.as_deref(),
        submit_timeout_ms: run.submit_timeout_ms,
        ..How::default()
    };
    let options = options(&pool, &how, world)?;
    let record = world.new_record(&run.task)?;
    let mut answer = Box::pin(options.run(callbacks::make(callback, &record, world)));
    if run.leave {
        let started = poll(START, || {
            let ready = poll_once(answer.as_mut());
            (ready || record.starts.load(SeqCst) > 0).then_some(ready)
        });
        return match started {
            Some(false) => Ok(()),
            Some(true) => Err("the answer came before the caller could leave".to_owned()),
            None => Err("the callback has not started".to_owned()),
        };
    }
    let answer = block_on(answer, CASE).ok_or("the answer never came")?;
    let is = match answer {
        Ok(got) => {
            same_if("the value", got, value)?;
            Outcome::Succeeded.as_str()
        }
        Err(RunError::Refused(refused)) => {
            world.forget_record(&run.task);
            refused.kind().as_str()
        }
        Err(RunError::Task(error)) => error.outcome().map_or("taken", |outcome| outcome.as_str()),
        Err(_) => return Err("an unknown answer".to_owned()),
    };
    same("the answer", is, run.expect.as_str())
}

pub(crate) fn value_of(callback: &Callback) -> Option<i64> {
    match callback {
        Callback::Return(plain) | Callback::Poll(plain) => Some(plain.value),
        Callback::Sleep { value, .. } => Some(*value),
        Callback::Block(at) | Callback::Hook(at) => Some(at.value),
        _ => None,
    }
}
