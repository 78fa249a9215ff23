//! Which words of `needs` a step stands under.
//!
//! Keeps true: what a case says it needs is what it uses, so that a runner may trust the data.

use std::collections::BTreeSet;

use crate::table::{Act, Callback, Case, Inner, OddTimeout, Setup, Step, Waited};

/// The counters of a report beyond the books are the business of `stats`.
const BOOKS: &[&str] = crate::table::COUNTERS.split_at(10).0;

/// Every word the case stands under.
pub(crate) fn of(case: &Case) -> BTreeSet<&'static str> {
    let mut words = BTreeSet::from(["shutdown"]);
    for step in &case.steps {
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
    }
    words
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
            need(submit.submit_timeout_ms.is_some(), "submit_timeout");
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
