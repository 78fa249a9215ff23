//! Steps about single flight: callers that want the same key, each with a callback and an answer of its own.
//!
//! Keeps true: when the step `call` is over, the caller has joined its key's run, or has led it.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use duly::{FlightError, Outcome, SingleFlight, TaskError};
use serde::Deserialize;

use crate::block_on::this_thread;
use crate::callbacks;
use crate::check::{part, same, same_if};
use crate::submit::{How, options};
use crate::table::{Act, Step, main_pool, ten_seconds};
use crate::words::Told;
use crate::world::{Failure, Verdict, World, lock, ms, poll};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewFlight {
    #[serde(default = "main_pool")]
    pub(crate) pool: String,
    pub(crate) flight: String,
    pub(crate) handovers: Option<usize>,
    pub(crate) retry_failed: Option<bool>,
    /// Of each run.
    pub(crate) timeout_ms: Option<u64>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Call {
    pub(crate) flight: String,
    pub(crate) key: String,
    pub(crate) caller: String,
    /// Of this caller.
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) token: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CallersAnswer {
    pub(crate) caller: String,
    #[serde(default = "ten_seconds")]
    pub(crate) timeout_ms: u64,
    pub(crate) expect: Told,
    pub(crate) value: Option<i64>,
    pub(crate) code: Option<i32>,
    pub(crate) message: Option<String>,
}

pub(crate) type Flight = SingleFlight<String, i64, Failure>;
type Answer = Result<i64, FlightError<Failure>>;

/// One who called: what it was told, and the thread that waits for that.
#[derive(Debug, Default)]
pub(crate) struct Caller {
    answer: Mutex<Option<Answer>>,
    leaves: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Caller {
    /// Waits for the thread that waits for the answer.
    pub(crate) fn end(&self, at_most: Duration) -> Verdict {
        let Some(thread) = lock(&self.thread).take() else {
            return Ok(());
        };
        poll(at_most, || thread.is_finished().then_some(())).ok_or("has no answer")?;
        thread.join().map_err(|_| "panicked".to_owned())
    }
}

pub(crate) fn act(step: &Step, world: &Arc<World>) -> Verdict {
    match &step.act {
        Act::Flight(new) => make(new, world),
        Act::Call(call) => begin(call, step, world),
        Act::Answer(answer) => answered(answer, world),
        Act::Leave { caller } => {
            let caller = world.caller(caller)?;
            caller.leaves.store(true, SeqCst);
            let thread = lock(&caller.thread).take().ok_or("it has left already")?;
            thread.thread().unpark();
            thread.join().map_err(|_| "the caller's thread panicked".to_owned())
        }
        _ => Err("no step about single flight".to_owned()),
    }
}

fn make(new: &NewFlight, world: &World) -> Verdict {
    let pool = world.pool(&new.pool)?.pool;
    let how = How {
        timeout_ms: new.timeout_ms,
        ..How::default()
    };
    let mut flight = Flight::with(&options(&pool, &how, world)?);
    if let Some(times) = new.handovers {
        flight = flight.handovers(times);
    }
    if let Some(yes) = new.retry_failed {
        flight = flight.retry_failed(yes);
    }
    match lock(&world.flights).insert(new.flight.clone(), flight) {
        None => Ok(()),
        Some(_) => Err(format!("there are two flights {:?}", new.flight)),
    }
}

fn begin(call: &Call, step: &Step, world: &Arc<World>) -> Verdict {
    let flight = world.flight(&call.flight)?;
    let callback = step.callback.clone().ok_or("no callback")?;
    let record = world.new_record(&call.caller)?;
    let mut options = flight.call(call.key.clone());
    if let Some(timeout) = call.timeout_ms {
        options = options.timeout(ms(timeout));
    }
    if let Some(token) = &call.token {
        options = options.token(&world.token(token)?);
    }
    let mut flying = Box::pin(options.run_async(callbacks::make(callback, &record, world)));
    // The first look joins; the thread that waits comes after.
    let first = flying.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop()));
    let caller = Arc::new(Caller::default());
    if let Poll::Ready(answer) = first {
        *lock(&caller.answer) = Some(answer);
    } else {
        let waits = caller.clone();
        let spawned = thread::Builder::new()
            .name("caller".to_owned())
            .spawn(move || wait(flying, &waits));
        *lock(&caller.thread) = Some(spawned.map_err(|cause| format!("no thread for the caller: {cause}"))?);
    }
    match lock(&world.callers).insert(call.caller.clone(), caller) {
        None => Ok(()),
        Some(_) => Err(format!("there are two callers {:?}", call.caller)),
    }
}

/// Until it has its answer, or leaves.
fn wait(mut flying: Pin<Box<impl Future<Output = Answer>>>, caller: &Caller) {
    let waker = this_thread();
    while !caller.leaves.load(SeqCst) {
        if let Poll::Ready(answer) = flying.as_mut().poll(&mut Context::from_waker(&waker)) {
            *lock(&caller.answer) = Some(answer);
            return;
        }
        thread::park();
    }
}

fn answered(expected: &CallersAnswer, world: &World) -> Verdict {
    let caller = world.caller(&expected.caller)?;
    let told = poll(ms(expected.timeout_ms), || lock(&caller.answer).clone());
    let is = match &told {
        None => Told::TimedOut.as_str(),
        Some(Ok(_)) => Outcome::Succeeded.as_str(),
        Some(Err(FlightError::Task(error))) => error.outcome().map_or("no outcome", |outcome| outcome.as_str()),
        Some(Err(FlightError::Refused(refused))) => refused.kind().as_str(),
        Some(Err(FlightError::DeadlineExceeded)) => Told::DeadlineExceeded.as_str(),
        Some(Err(FlightError::Cancelled(_))) => Told::Cancelled.as_str(),
        Some(Err(FlightError::WouldDeadlock(_))) => Told::WouldDeadlock.as_str(),
        Some(Err(other)) => return Err(format!("{other:?}")),
    };
    same("the answer", is, expected.expect.as_str())?;
    match told {
        Some(Ok(value)) => same_if("the value", value, expected.value),
        Some(Err(FlightError::Task(TaskError::Failed(Failure { code, message })))) => {
            same_if("the code", code, expected.code)?;
            part("the message", &message, expected.message.as_deref())
        }
        Some(Err(FlightError::Task(TaskError::Panicked(panic)))) => {
            part("the message", panic.message(), expected.message.as_deref())
        }
        _ => Ok(()),
    }
}
