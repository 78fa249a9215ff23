//! Which words of `needs` a step stands under.
//!
//! Keeps true: what a case says it needs is what it uses, so that a runner may trust the data.

use std::collections::BTreeSet;

use crate::queues::Unlimited;
use crate::table::{
    Act, Built, Callback, Case, EveryEnd, Inner, OddTimeout, Overflow, Setup, Step, Submitted, Told, Waited,
};

/// The counters of a report beyond the books are the business of `stats`.
const BOOKS: &[&str] = crate::table::COUNTERS.split_at(10).0;

/// Every word the case stands under.
pub(crate) fn of(case: &Case) -> BTreeSet<&'static str> {
    let mut words = BTreeSet::from(["shutdown"]);
    let in_child = |step: &&Step| step.common.child.is_some();
    let own: BTreeSet<&str> = case
        .steps
        .iter()
        .filter(in_child)
        .filter_map(|step| match &step.act {
            Act::Pool(setup) => Some(&*setup.pool),
            _ => None,
        })
        .collect();
    for step in &case.steps {
        if in_child(&step) && refused_as_inherited(step, &own) {
            words.insert("fork_refuses");
        }
        act(step, &mut words);
        if let Some(callback) = &step.callback {
            words.extend(of_callback(callback));
            if matches!(
                callback,
                Callback::Submit {
                    inner_detached: true,
                    ..
                }
            ) {
                words.insert("detached");
            }
        }
        if let Act::SubmitAsync(submit) = &step.act
            && match submit.overflow {
                Some(own) => matches!(own, Overflow::CallerRuns),
                None => runs_by_caller(case, &submit.pool),
            }
        {
            words.insert("async_refuses");
        }
    }
    // Nothing was named before: a child need not inherit anything.
    if case.set_up == 0 && matches!(case.steps.first(), Some(first) if matches!(first.act, Act::Fork {})) {
        words.remove("fork");
        words.insert("child");
    }
    words
}

/// Whether this pool of the case has the caller run what finds no room.
fn runs_by_caller(case: &Case, pool: &str) -> bool {
    case.steps.iter().any(|step| match &step.act {
        Act::Pool(setup) => setup.pool == pool && matches!(setup.overflow, Some(Overflow::CallerRuns)),
        _ => false,
    })
}

/// In a child: whether what it has inherited is shut down.
fn refused_as_inherited(step: &Step, own: &BTreeSet<&str>) -> bool {
    match &step.act {
        Act::Submit(submit) | Act::TrySubmit(submit) | Act::SubmitAsync(submit) => {
            submit.expect == Submitted::ShutDown && !own.contains(&*submit.pool)
        }
        Act::Queue(new) => new.expect == Built::ShutDown && !own.contains(&*new.pool),
        Act::SetWorkers(set) => set.expect == Built::ShutDown && !own.contains(&*set.pool),
        Act::Every(every) => every.expect == Submitted::ShutDown && !own.contains(&*every.pool),
        Act::WaitPeriodic(wait) => wait.expect == EveryEnd::ShutDown,
        Act::Answer(answer) => answer.expect == Told::ShutDown,
        _ => false,
    }
}

fn act(step: &Step, words: &mut BTreeSet<&'static str>) {
    let mut need = |wanted: bool, word: &'static str| {
        if wanted {
            words.insert(word);
        }
    };
    match &step.act {
        Act::Pool(setup) => of_setup(setup, &mut need),
        Act::Close(_) => need(true, "close"),
        Act::Shutdown(_) => need(step.counters.keys().any(|name| !BOOKS.contains(&&**name)), "stats"),
        Act::DropPool(_) => need(true, "drop_pool"),
        Act::Stats(_) => need(true, "stats"),
        Act::Leaks(_) => need(true, "leaks"),
        Act::Running(_) => need(true, "running"),
        Act::Threads(_) => need(true, "thread_names"),
        Act::Hook(_) => need(true, "hooks"),
        Act::Submit(submit) | Act::TrySubmit(submit) | Act::SubmitAsync(submit) => {
            need(matches!(step.act, Act::Submit(_)), "submit");
            need(matches!(step.act, Act::TrySubmit(_)), "try_submit");
            need(matches!(step.act, Act::SubmitAsync(_)), "async_submit");
            need(submit.label.is_some(), "label");
            need(submit.timeout_ms.is_some(), "timeout");
            need(submit.timeout == Some(OddTimeout::Nan), "nan_timeout");
            need(submit.timeout == Some(OddTimeout::Negative), "negative_timeout");
            need(submit.timeout == Some(OddTimeout::Longest), "longest_timeout");
            need(submit.token.is_some(), "token");
            need(submit.group.is_some(), "group");
            need(submit.submit_timeout_ms.is_some(), "submit_timeout");
            need(submit.queue.is_some(), "queues");
            need(submit.key.is_some(), "keys");
            need(submit.delay_ms.is_some(), "delay");
            need(submit.overflow.is_some(), "own_overflow");
        }
        Act::Run(run) => {
            need(true, "run");
            need(run.label.is_some(), "label");
            need(run.timeout_ms.is_some(), "timeout");
            need(run.token.is_some(), "token");
            need(run.submit_timeout_ms.is_some(), "submit_timeout");
        }
        Act::Wait(wait) | Act::WaitAsync(wait) => {
            need(matches!(step.act, Act::Wait(_)), "wait");
            need(matches!(step.act, Act::WaitAsync(_)), "async");
            need(wait.expect == Waited::Taken, "moves");
            need(wait.reason.is_some(), "reason");
        }
        Act::Queue(new) => {
            need(true, "queues");
            need(new.overflow.is_some(), "overflow");
            need(new.max_blocked_producers.is_some(), "blocked_producers");
            need(new.key_limit.is_some() || new.key_capacity.is_some(), "keys");
            let zero = [new.capacity, new.limit, new.key_limit, new.key_capacity].contains(&Some(0));
            need(zero || new.weight == Some(0), "explicit_zero");
        }
        Act::SetQueue(set) => {
            need(true, "queues");
            let no = |which| set.unlimited.contains(&which);
            need(set.key_limit.is_some() || no(Unlimited::KeyLimit), "keys");
            need(set.key_capacity.is_some() || no(Unlimited::KeyCapacity), "keys");
            let zero = [set.capacity, set.limit, set.key_limit, set.key_capacity].contains(&Some(0));
            need(zero || set.weight == Some(0), "explicit_zero");
        }
        Act::QueueStats(_) => need(true, "queues"),
        Act::PauseQueue(_) | Act::ResumeQueue(_) => {
            need(true, "pause");
            need(true, "queues");
        }
        Act::PausePool(_) | Act::ResumePool(_) => need(true, "pause"),
        Act::SetWorkers(set) => {
            need(true, "set_workers");
            need(set.count == 0, "explicit_zero");
        }
        Act::Every(every) => {
            need(true, "periodic");
            need(every.label.is_some(), "label");
            need(every.timeout_ms.is_some(), "timeout");
            need(every.token.is_some(), "token");
            need(every.queue.is_some(), "queues");
            need(every.delay_ms.is_some(), "delay");
        }
        Act::PeriodicStats(_) | Act::CancelPeriodic(_) | Act::WaitPeriodic(_) | Act::DropPeriodic { .. } => {
            need(true, "periodic");
        }
        Act::Order(_) | Act::Share(_) => {}
        Act::Stream(stream) => {
            need(true, "stream");
            need(stream.label.is_some(), "label");
            need(stream.timeout_ms.is_some(), "timeout");
            need(stream.token.is_some(), "token");
            need(stream.queue.is_some(), "queues");
        }
        Act::Next(_) | Act::Pulled(_) | Act::DropStream { .. } => need(true, "stream"),
        Act::Flight(flight) => {
            need(true, "single_flight");
            let options = flight.handovers.is_some() || flight.retry_failed.is_some() || flight.timeout_ms.is_some();
            need(options, "flight_options");
        }
        Act::Call(call) => {
            need(true, "single_flight");
            need(call.timeout_ms.is_some(), "timeout");
            need(call.token.is_some(), "token");
        }
        Act::Answer(_) | Act::Leave { .. } => need(true, "single_flight"),
        Act::Fork {} => need(true, "fork"),
        Act::ShutDownOn(_) | Act::Raise { .. } => need(true, "signals"),
        Act::CancelOn(_) => {
            need(true, "signals");
            need(true, "token");
        }
        Act::Closed(_) => need(true, "close"),
        Act::Outcome { .. } => need(true, "outcome"),
        Act::Cancel { reason, .. } => {
            need(true, "cancel");
            need(reason.is_some(), "reason");
        }
        Act::DropTask(_) => need(true, "drop_task"),
        Act::OnComplete(_) | Act::Completed { .. } => need(true, "on_complete"),
        Act::Released(_) => need(true, "released"),
        Act::Drops(_) => need(true, "drops"),
        Act::Cause { .. } => need(true, "cause"),
        Act::Token { .. } | Act::CancelToken { .. } | Act::TokenState { .. } => need(true, "token"),
        Act::Group(_) | Act::GroupWait(_) | Act::DropGroup { .. } => need(true, "group"),
        Act::WaitAny(_) | Act::WaitAll(_) => need(true, "wait_several"),
        Act::AwaitStart(_) | Act::Started(_) => {}
        Act::Open { .. } | Act::Mark { .. } | Act::Pause { .. } | Act::Join {} => {}
    }
}

fn of_setup(setup: &Setup, need: &mut impl FnMut(bool, &'static str)) {
    need(true, "pool");
    need(setup.name.is_some(), "thread_names");
    need(setup.overflow.is_some(), "overflow");
    need(setup.max_blocked_producers.is_some(), "blocked_producers");
    need(
        setup.replace_after_ms.is_some() || setup.max_replacements.is_some(),
        "replacement",
    );
    need(setup.default_timeout_ms.is_some(), "default_timeout");
    need(setup.drop_drain_ms.is_some(), "drop_pool");
    need(setup.threads.is_some(), "on_demand");
    need(setup.stack_size.is_some(), "stack_size");
    let zero = |field: Option<usize>| field == Some(0);
    need(zero(setup.workers) || zero(setup.capacity), "explicit_zero");
}

fn of_callback(callback: &Callback) -> Vec<&'static str> {
    match callback {
        Callback::Return(_) | Callback::Fail { .. } | Callback::Sleep { .. } | Callback::Block(_) => vec![],
        Callback::Panic { .. } => vec!["panic"],
        Callback::Poll(_) | Callback::TimeLeft(_) => vec!["context"],
        Callback::Hook(_) => vec!["on_cancel"],
        Callback::Submit {
            inner_run: Inner::Poll | Inner::TimeLeft,
            ..
        } => vec!["context", "from_callback"],
        Callback::Submit { .. } | Callback::Wait { .. } | Callback::Cancel { .. } => vec!["from_callback"],
        Callback::Close(_) | Callback::Shutdown { .. } | Callback::Stats(_) => vec!["from_callback"],
        Callback::Null(_) => vec!["null_callback"],
    }
}
