//! Runs a case: its steps in order, with their bounds of time, repetitions and threads, then the checks at its end.
//!
//! Keeps true:
//! 1. Every wait here has an end: a case that would hang fails.
//! 2. Bounds of time are measured around the step itself, and "never early" has no slack.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::act::act;
use crate::check::{balance, same, settle};
use crate::children;
use crate::table::{Act, Case, Released, Run, Step, Submit, Wait};
use crate::world::{Verdict, World, lock, poll};

const THREAD: Duration = Duration::from_secs(20);
const END: Duration = Duration::from_secs(10);

/// Where a case went wrong: `step` counts from 1, 0 is the set-up; none is the end of the case.
#[derive(Debug)]
pub(crate) struct Wrong {
    pub(crate) step: Option<usize>,
    pub(crate) what: String,
}

/// Runs a case on a thread of its own, so that one that hangs fails and the others go on.
pub(crate) fn run(case: &Arc<Case>, at_most: Duration) -> Result<(), Wrong> {
    let world = Arc::new(World::default());
    let (send, receive) = mpsc::channel();
    let (mine, its) = (case.clone(), world.clone());
    let spawned = thread::Builder::new().name("case".to_owned()).spawn(move || {
        let _ = send.send(whole(&mine, &its));
    });
    if let Err(cause) = spawned {
        return Err(Wrong {
            step: None,
            what: format!("no thread for the case: {cause}"),
        });
    }
    receive.recv_timeout(at_most).unwrap_or_else(|_| {
        world.open_all();
        Err(Wrong {
            step: None,
            what: format!("it panicked or has not ended after {at_most:?}"),
        })
    })
}

fn whole(case: &Case, world: &Arc<World>) -> Result<(), Wrong> {
    let mut wrong = None;
    for (index, step) in case.steps.iter().enumerate() {
        let number = (index + 1).saturating_sub(case.set_up);
        let here = |what| Wrong {
            step: Some(number),
            what: format!("{}: {what}", name_of(&step.act)),
        };
        let start = Instant::now();
        let done = match (&step.act, step.common.child.as_deref()) {
            (_, None) => do_step(step, world).map_err(here),
            (Act::Fork {}, Some(child)) => children::fork(child, case, index, world).map_err(here),
            (Act::Join {}, Some(child)) => {
                children::join(child, number, world).and_then(|()| in_time(step, world, start).map_err(here))
            }
            // The child's.
            (_, Some(_)) => Ok(()),
        };
        if let Err(what) = done {
            wrong = Some(what);
            break;
        }
    }
    let end = end(world, wrong.is_none());
    match (wrong, end) {
        (Some(wrong), _) => Err(wrong),
        (None, Err(what)) => Err(Wrong { step: None, what }),
        (None, Ok(())) => Ok(()),
    }
}

/// What a step does, as a reader of the table knows it: the first word of its debug form.
fn name_of(act: &Act) -> String {
    format!("{act:?}")
        .split(['(', ' '])
        .next()
        .unwrap_or_default()
        .to_owned()
}

pub(crate) fn do_step(step: &Step, world: &Arc<World>) -> Verdict {
    let Some(name) = step.common.thread.as_deref() else {
        return timed(step, world);
    };
    if matches!(step.act, Act::Join {}) {
        let start = Instant::now();
        let joined = lock(&world.threads)
            .remove(name)
            .ok_or_else(|| format!("there is no thread {name:?}"))?;
        join(name, joined)?;
        return in_time(step, world, start);
    }
    let (its, my_world) = (step.clone(), world.clone());
    let spawned = thread::Builder::new()
        .name("step".to_owned())
        .spawn(move || timed(&its, &my_world));
    let spawned = spawned.map_err(|cause| format!("no thread for the step: {cause}"))?;
    match lock(&world.threads).insert(name.to_owned(), spawned) {
        None => Ok(()),
        Some(_) => Err(format!("there are two threads {name:?}")),
    }
}

fn join(name: &str, joined: thread::JoinHandle<Verdict>) -> Verdict {
    poll(THREAD, || joined.is_finished().then_some(())).ok_or_else(|| format!("thread {name:?} hangs"))?;
    match joined.join() {
        Ok(verdict) => verdict.map_err(|what| format!("on thread {name:?}: {what}")),
        Err(_) => Err(format!("thread {name:?} panicked")),
    }
}

/// The step with its repetitions and bounds of time.
fn timed(step: &Step, world: &Arc<World>) -> Verdict {
    let Some(times) = step.common.times else {
        return bounded(step, world);
    };
    for number in 0..times {
        let mut one = step.clone();
        number_names(&mut one.act, number);
        bounded(&one, world).map_err(|what| format!("repetition {number}: {what}"))?;
    }
    Ok(())
}

fn bounded(step: &Step, world: &Arc<World>) -> Verdict {
    let start = Instant::now();
    act(step, world)?;
    in_time(step, world, start)
}

fn in_time(step: &Step, world: &World, start: Instant) -> Verdict {
    let now = Instant::now();
    let common = &step.common;
    let start = common.since.as_deref().map_or(Ok(start), |mark| world.marked(mark))?;
    let took = now.saturating_duration_since(start);
    if common.at_least_ms.is_some_and(|ms| took < Duration::from_millis(ms)) {
        return Err(format!(
            "early: after {took:?}, not before {} ms",
            common.at_least_ms.unwrap_or_default()
        ));
    }
    if common.at_most_ms.is_some_and(|ms| took > Duration::from_millis(ms)) {
        return Err(format!(
            "late: after {took:?}, not within {} ms",
            common.at_most_ms.unwrap_or_default()
        ));
    }
    Ok(())
}

/// `.n` for the n-th repetition, appended to the names of tasks and labels.
fn number_names(act: &mut Act, number: u64) {
    let numbered = |name: &mut String| name.push_str(&format!(".{number}"));
    match act {
        Act::Submit(Submit { task, label, .. })
        | Act::TrySubmit(Submit { task, label, .. })
        | Act::SubmitAsync(Submit { task, label, .. })
        | Act::Run(Run { task, label, .. }) => {
            numbered(task);
            label.as_mut().map(numbered);
        }
        Act::Wait(Wait { task, .. }) | Act::WaitAsync(Wait { task, .. }) | Act::Released(Released { task, .. }) => {
            numbered(task);
        }
        Act::Outcome { task, .. }
        | Act::Cancel { task, .. }
        | Act::Completed { task, .. }
        | Act::Cause { task, .. } => numbered(task),
        Act::DropTask(of) | Act::OnComplete(of) | Act::AwaitStart(of) => numbered(&mut of.task),
        Act::Started(of) | Act::Drops(of) => numbered(&mut of.task),
        _ => {}
    }
}

/// What holds at the end of every case; `passed` says that nothing failed so far.
fn end(world: &Arc<World>, passed: bool) -> Verdict {
    world.open_all();
    let threads: Vec<_> = lock(&world.threads).drain().collect();
    for (name, joined) in threads {
        join(&name, joined)?;
    }
    let children: Vec<_> = lock(&world.children).drain().collect();
    for (name, pid) in children {
        match children::end(pid) {
            Ok(0) => {}
            Ok(code) => return Err(format!("at the end, child {name:?} exits with {code}")),
            Err(what) => return Err(format!("at the end, child {name:?}: {what}")),
        }
    }
    let streams: Vec<_> = lock(&world.streams).drain().collect();
    drop(streams);
    let records = world.records();
    for (name, record) in &records {
        let task = lock(&record.task).clone();
        if let Some(task) = task {
            let outcome = task
                .wait_outcome(END)
                .ok_or_else(|| format!("at the end, {name:?} has no outcome"))?;
            record
                .saw(outcome)
                .map_err(|what| format!("at the end, {name:?}: {what}"))?;
        }
    }
    let pools: Vec<_> = lock(&world.pools).drain().collect();
    for (name, one) in pools {
        let report = one
            .pool
            .shutdown(END)
            .map_err(|refused| format!("at the end, pool {name:?}: {refused}"))?;
        if passed {
            balance(&one.pool.stats()).map_err(|what| format!("at the end, pool {name:?}: {what}"))?;
            balance(&report.stats).map_err(|what| format!("at the end, the report of pool {name:?}: {what}"))?;
        }
    }
    let callers: Vec<_> = lock(&world.callers).drain().collect();
    for (name, caller) in callers {
        caller
            .end(END)
            .map_err(|what| format!("at the end, caller {name:?} {what}"))?;
    }
    for (name, record) in &records {
        let task = lock(&record.task).clone();
        if let Some(task) = task {
            if !task.released(END) {
                return Err(format!("at the end, {name:?} is not released"));
            }
            let outcome = task
                .outcome()
                .ok_or_else(|| format!("at the end, {name:?} lost its outcome"))?;
            record
                .saw(outcome)
                .map_err(|what| format!("at the end, {name:?}: {what}"))?;
        }
        settle(|| same("the number of releases", record.drops.load(SeqCst), 1))
            .map_err(|what| format!("at the end, {name:?}: {what}"))?;
    }
    Ok(())
}
