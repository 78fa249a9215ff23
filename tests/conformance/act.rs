//! One step, done once: what it does and what it expects. Bounds of time, repetitions and threads are `run`'s business.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;

use duly::{CancelReason, CancellationToken, Outcome, Task, TaskError};

use crate::block_on::block_on;
use crate::check::{counters, part, same, same_if, same_labels, settle, threads_named};
use crate::children;
use crate::flights;
use crate::periodic;
use crate::pools::{build, shut_down};
use crate::queues;
use crate::several::{grouped, waited_for_several};
use crate::starts;
use crate::streams;
use crate::submit::{run_and_answer, submit};
use crate::table::{Act, Count, Decided, Labels, Look, Step, TokenState, Wait, Waited, YesNo};
use crate::world::{Failure, START, Verdict, World, lock, ms, poll};

pub(crate) fn act(step: &Step, world: &Arc<World>) -> Verdict {
    match &step.act {
        Act::Pool(setup) => build(setup, world),
        Act::Close(of) => {
            world.pool(&of.pool)?.pool.close();
            Ok(())
        }
        Act::Shutdown(shutdown) => shut_down(shutdown, &step.counters, world),
        Act::DropPool(of) => {
            let dropped = lock(&world.pools).remove(&of.pool);
            dropped
                .map(drop)
                .ok_or_else(|| format!("there is no pool {:?}", of.pool))
        }
        Act::Stats(of) => {
            let pool = world.pool(&of.pool)?.pool;
            settle(|| counters(&pool.stats(), &step.counters))
        }
        Act::Leaks(Labels { pool, labels }) => {
            let pool = world.pool(pool)?.pool;
            settle(|| same_labels(pool.leaks().iter().map(|leak| &leak.name), labels))
        }
        Act::Running(Labels { pool, labels }) => {
            let pool = world.pool(pool)?.pool;
            settle(|| same_labels(pool.running().iter().map(|running| &running.name), labels))
        }
        Act::Threads(Count { pool, count }) => {
            let prefix = format!("{}-", world.pool(pool)?.pool.name());
            settle(|| same("the number of threads", threads_named(&prefix)?, *count))
        }
        Act::Hook(of) => {
            let hooks = world.pool(&of.pool)?.hooks;
            settle(|| same("the number of calls", hooks.count(of.hook), of.count))
        }
        Act::Queue(_)
        | Act::SetQueue(_)
        | Act::QueueStats(_)
        | Act::PauseQueue(_)
        | Act::ResumeQueue(_)
        | Act::PausePool(_)
        | Act::ResumePool(_)
        | Act::SetWorkers(_) => queues::act(&step.act, world),
        Act::Every(_)
        | Act::PeriodicStats(_)
        | Act::CancelPeriodic(_)
        | Act::WaitPeriodic(_)
        | Act::DropPeriodic { .. } => periodic::act(step, world),
        Act::Stream(_) | Act::Next(_) | Act::Pulled(_) | Act::DropStream { .. } => streams::act(&step.act, world),
        Act::Flight(_) | Act::Call(_) | Act::Answer(_) | Act::Leave { .. } => flights::act(step, world),
        Act::ShutDownOn(_) | Act::CancelOn(_) | Act::Raise { .. } | Act::Closed(_) => {
            children::signals(&step.act, world)
        }
        Act::Fork {} => Err("the child to fork is missing".to_owned()),
        Act::Order(expected) => starts::order(expected, world),
        Act::Share(expected) => starts::share(expected, world),
        Act::Submit(_) | Act::TrySubmit(_) | Act::SubmitAsync(_) => submit(step, world),
        Act::Run(run) => run_and_answer(run, step, world),
        Act::Wait(wait) => {
            let task = world.task(&wait.task)?;
            waited(wait, task.wait_timeout(ms(wait.timeout_ms)), &task, world)
        }
        Act::WaitAsync(wait) => {
            let task = world.task(&wait.task)?;
            waited(wait, block_on(task.clone(), ms(wait.timeout_ms)), &task, world)
        }
        Act::Outcome { task, expect } => {
            let is = world.task(task)?.outcome();
            is.map_or(Ok(()), |outcome| world.record(task)?.saw(outcome))?;
            same(
                "the outcome",
                is.map_or(Look::Pending.as_str(), |outcome| outcome.as_str()),
                expect.as_str(),
            )
        }
        Act::Cancel { task, reason, expect } => {
            let task = world.task(task)?;
            let decided = match reason {
                Some(reason) => task.cancel_with(CancelReason::from(reason.as_str())),
                None => task.cancel(),
            };
            let is = if decided { Decided::Decided } else { Decided::Ended };
            same_if("the answer", is.as_str(), expect.map(Decided::as_str))
        }
        Act::DropTask(of) => {
            let dropped = lock(&world.record(&of.task)?.task).take();
            dropped
                .map(drop)
                .ok_or_else(|| format!("there is no handle of the task {:?}", of.task))
        }
        Act::OnComplete(of) => {
            let record = world.record(&of.task)?;
            world
                .task(&of.task)?
                .on_complete(move |outcome| *lock(&record.completed) = Some(outcome));
            Ok(())
        }
        Act::Completed { task, expect } => {
            let record = world.record(task)?;
            let told = poll(START, || *lock(&record.completed)).ok_or("the completion callback was not called")?;
            record.saw(told)?;
            same("the outcome", told.as_str(), expect.as_str())
        }
        Act::Released(released) => {
            let is = world.task(&released.task)?.released(ms(released.timeout_ms));
            same(
                "released",
                if is { YesNo::Yes } else { YesNo::No }.as_str(),
                released.expect.as_str(),
            )
        }
        Act::AwaitStart(of) => {
            let record = poll(START, || {
                world
                    .record(&of.task)
                    .ok()
                    .filter(|record| record.starts.load(SeqCst) > 0)
            });
            record
                .map(drop)
                .ok_or_else(|| "the callback has not started".to_owned())
        }
        Act::Started(of) => same(
            "the number of starts",
            world.record(&of.task)?.starts.load(SeqCst),
            of.count,
        ),
        Act::Drops(of) => {
            let record = world.record(&of.task)?;
            settle(|| same("the number of releases", record.drops.load(SeqCst), of.count))
        }
        Act::Cause { task, expect } => {
            let record = world.record(task)?;
            let cause = poll(START, || *lock(&record.cause)).ok_or("the callback was told nothing")?;
            same("the cause", cause, expect.as_str())
        }
        Act::Group(_) | Act::GroupWait(_) | Act::DropGroup { .. } => grouped(&step.act, world),
        Act::WaitAny(_) | Act::WaitAll(_) => waited_for_several(&step.act, world),
        Act::Open { gate } => {
            world.gate(gate).open();
            Ok(())
        }
        Act::Mark { name } => {
            world.mark(name);
            Ok(())
        }
        Act::Pause { ms: span } => {
            thread::sleep(ms(*span));
            Ok(())
        }
        Act::Join {} => Err("the thread or child to join is missing".to_owned()),
        Act::Token {
            token,
            parent,
            timeout_ms,
        } => {
            let parent = parent.as_deref().map(|parent| world.token(parent)).transpose()?;
            let made = match (parent, timeout_ms.map(ms)) {
                (None, None) => CancellationToken::new(),
                (None, Some(timeout)) => CancellationToken::with_timeout(timeout),
                (Some(parent), None) => parent.child(),
                (Some(parent), Some(timeout)) => parent.child_with_timeout(timeout),
            };
            world.add_token(token, made)
        }
        Act::CancelToken { token, reason } => {
            let token = world.token(token)?;
            match reason {
                Some(reason) => token.cancel_with(CancelReason::from(reason.as_str())),
                None => token.cancel(),
            };
            Ok(())
        }
        Act::TokenState { token, expect } => {
            let is = if world.token(token)?.is_cancelled() {
                TokenState::Cancelled
            } else {
                TokenState::Live
            };
            same("the token", is.as_str(), expect.as_str())
        }
    }
}

pub(crate) fn waited(
    wait: &Wait,
    got: Option<Result<i64, TaskError<Failure>>>,
    task: &Task<i64, Failure>,
    world: &World,
) -> Verdict {
    let Some(got) = got else {
        return same("the answer", Waited::TimedOut.as_str(), wait.expect.as_str());
    };
    let outcome = task.outcome().ok_or("there is an answer but no outcome")?;
    world.record(&wait.task)?.saw(outcome)?;
    let is = match &got {
        Err(TaskError::Taken(_)) => Waited::Taken.as_str(),
        Ok(_) => Outcome::Succeeded.as_str(),
        Err(error) => error.outcome().map_or("no outcome", |outcome| outcome.as_str()),
    };
    same("the answer", is, wait.expect.as_str())?;
    match got {
        Ok(value) => {
            same_if("the value", value, wait.value)?;
            if wait.value_at_least.is_some_and(|least| value < least)
                || wait.value_at_most.is_some_and(|most| value > most)
            {
                return Err(format!("the value is {value}, out of bounds"));
            }
        }
        Err(TaskError::Failed(Failure { code, message })) => {
            same_if("the code", code, wait.code)?;
            part("the message", &message, wait.message.as_deref())?;
        }
        Err(TaskError::Panicked(panic)) => part("the message", panic.message(), wait.message.as_deref())?,
        Err(TaskError::Cancelled(cancelled)) => {
            let reason = match cancelled.reason() {
                // Its number is the machine's.
                CancelReason::Signal(_) => "signal".to_owned(),
                reason => reason.to_string(),
            };
            same_if("the reason", reason, wait.reason.clone())?;
        }
        Err(_) => {}
    }
    Ok(())
}
