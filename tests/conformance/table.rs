//! The format of the table as types (README.md beside this file says what each means).
//!
//! Keeps true: every table denies unknown fields, every word belongs to a closed set.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

pub(crate) use crate::callbacks::Callback;
use crate::children::{CancelOn, Closed, ShutDownOn};
use crate::flights::{Call, CallersAnswer, NewFlight};
use crate::periodic::{CancelEvery, Every, EveryNumbers, WaitEvery};
use crate::queues::{NewQueue, OfQueue, QueueNumbers, SetQueue, SetWorkers};
use crate::starts::{Order, Share};
use crate::streams::{NewStream, NextAnswer, Pulled};
pub(crate) use crate::words::*;

/// One case, checked in form.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) needs: BTreeSet<String>,
    /// The set-up, if there is one, then the steps.
    pub(crate) steps: Vec<Step>,
    /// How many of the steps are set-up: step 1 of the case comes after them.
    pub(crate) set_up: usize,
    pub(crate) fails_at: Option<usize>,
}

/// One step: what every step may have, what it does, and the callback and counters that some have.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) common: Common,
    pub(crate) act: Act,
    pub(crate) callback: Option<Callback>,
    pub(crate) counters: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Common {
    pub(crate) at_least_ms: Option<u64>,
    pub(crate) at_most_ms: Option<u64>,
    pub(crate) since: Option<String>,
    pub(crate) times: Option<u64>,
    pub(crate) thread: Option<String>,
    pub(crate) child: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Act {
    Pool(Setup),
    Close(OfPool),
    Shutdown(Shutdown),
    DropPool(OfPool),
    Stats(OfPool),
    Leaks(Labels),
    Running(Labels),
    Threads(Count),
    Hook(HookCount),
    Queue(NewQueue),
    SetQueue(SetQueue),
    QueueStats(QueueNumbers),
    PauseQueue(OfQueue),
    ResumeQueue(OfQueue),
    PausePool(OfPool),
    ResumePool(OfPool),
    SetWorkers(SetWorkers),
    Submit(Submit),
    TrySubmit(Submit),
    SubmitAsync(Submit),
    Run(Run),
    Wait(Wait),
    WaitAsync(Wait),
    Outcome {
        task: String,
        expect: Look,
    },
    Cancel {
        task: String,
        reason: Option<String>,
        expect: Option<Decided>,
    },
    DropTask(OfTask),
    OnComplete(OfTask),
    Completed {
        task: String,
        expect: End,
    },
    Released(Released),
    AwaitStart(OfTask),
    Started(TaskCount),
    Drops(TaskCount),
    Cause {
        task: String,
        expect: Cause,
    },
    Order(Order),
    Share(Share),
    Every(Every),
    PeriodicStats(EveryNumbers),
    CancelPeriodic(CancelEvery),
    WaitPeriodic(WaitEvery),
    DropPeriodic {
        periodic: String,
    },
    Stream(NewStream),
    Next(NextAnswer),
    Pulled(Pulled),
    DropStream {
        stream: String,
    },
    Flight(NewFlight),
    Call(Call),
    Answer(CallersAnswer),
    Leave {
        caller: String,
    },
    /// Of the child that `Common::child` names.
    Fork {},
    ShutDownOn(ShutDownOn),
    CancelOn(CancelOn),
    Raise {
        signal: Signals,
    },
    Closed(Closed),
    Group(Grouped),
    GroupWait(GroupWait),
    DropGroup {
        group: String,
    },
    WaitAny(WaitAny),
    WaitAll(WaitAll),
    Open {
        gate: String,
    },
    Mark {
        name: String,
    },
    Pause {
        ms: u64,
    },
    /// Of the thread that `Common::thread` names, or the child that `Common::child` does.
    Join {},
    Token {
        token: String,
        parent: Option<String>,
        timeout_ms: Option<u64>,
    },
    CancelToken {
        token: String,
        reason: Option<String>,
    },
    TokenState {
        token: String,
        expect: TokenState,
    },
}

pub(crate) fn main_pool() -> String {
    "pool".to_owned()
}

pub(crate) fn ten_seconds() -> u64 {
    10_000
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OfPool {
    #[serde(default = "main_pool")]
    pub(crate) pool: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OfTask {
    pub(crate) task: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TaskCount {
    pub(crate) task: String,
    pub(crate) count: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Labels {
    #[serde(default = "main_pool")]
    pub(crate) pool: String,
    pub(crate) labels: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Count {
    #[serde(default = "main_pool")]
    pub(crate) pool: String,
    pub(crate) count: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HookCount {
    #[serde(default = "main_pool")]
    pub(crate) pool: String,
    pub(crate) hook: Hook,
    pub(crate) count: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Setup {
    #[serde(default = "main_pool")]
    pub(crate) pool: String,
    pub(crate) name: Option<String>,
    pub(crate) workers: Option<usize>,
    pub(crate) capacity: Option<usize>,
    pub(crate) overflow: Option<Overflow>,
    pub(crate) max_blocked_producers: Option<usize>,
    pub(crate) replace_after_ms: Option<u64>,
    pub(crate) max_replacements: Option<usize>,
    pub(crate) default_timeout_ms: Option<u64>,
    pub(crate) drop_drain_ms: Option<u64>,
    pub(crate) threads: Option<Threads>,
    pub(crate) stack_size: Option<usize>,
    #[serde(default)]
    pub(crate) expect: Built,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Shutdown {
    #[serde(default = "main_pool")]
    pub(crate) pool: String,
    pub(crate) drain_ms: u64,
    pub(crate) drained: Option<bool>,
    pub(crate) abandoned: Option<Vec<String>>,
    pub(crate) threads_left: Option<usize>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Submit {
    #[serde(default = "main_pool")]
    pub(crate) pool: String,
    pub(crate) task: String,
    pub(crate) group: Option<String>,
    pub(crate) label: Option<String>,
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) timeout: Option<OddTimeout>,
    pub(crate) token: Option<String>,
    pub(crate) submit_timeout_ms: Option<u64>,
    pub(crate) queue: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) delay_ms: Option<u64>,
    pub(crate) overflow: Option<Overflow>,
    #[serde(default)]
    pub(crate) expect: Submitted,
}

/// A new group.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Grouped {
    #[serde(default = "main_pool")]
    pub(crate) pool: String,
    pub(crate) group: String,
    pub(crate) limit: Option<usize>,
    pub(crate) fail_fast: Option<bool>,
    #[serde(default)]
    pub(crate) detach: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupWait {
    pub(crate) group: String,
    #[serde(default = "ten_seconds")]
    pub(crate) timeout_ms: u64,
    pub(crate) expect: GroupEnd,
    /// The labels of the members whose errors are listed, in order.
    pub(crate) errors: Option<Vec<String>>,
    /// How many the group cancelled.
    pub(crate) cancelled: Option<u64>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WaitAny {
    pub(crate) tasks: Vec<String>,
    #[serde(default = "ten_seconds")]
    pub(crate) timeout_ms: u64,
    /// The task; none: the wait times out.
    pub(crate) expect: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WaitAll {
    pub(crate) tasks: Vec<String>,
    #[serde(default = "ten_seconds")]
    pub(crate) timeout_ms: u64,
    #[serde(default)]
    pub(crate) missing: Vec<String>,
}

/// As [`Submit`], with what the caller of `run` expects.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Run {
    #[serde(default = "main_pool")]
    pub(crate) pool: String,
    pub(crate) task: String,
    pub(crate) label: Option<String>,
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) token: Option<String>,
    pub(crate) submit_timeout_ms: Option<u64>,
    #[serde(default)]
    pub(crate) leave: bool,
    #[serde(default)]
    pub(crate) expect: Answer,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wait {
    pub(crate) task: String,
    #[serde(default = "ten_seconds")]
    pub(crate) timeout_ms: u64,
    pub(crate) expect: Waited,
    pub(crate) value: Option<i64>,
    pub(crate) value_at_least: Option<i64>,
    pub(crate) value_at_most: Option<i64>,
    pub(crate) code: Option<i32>,
    pub(crate) message: Option<String>,
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Released {
    pub(crate) task: String,
    #[serde(default = "ten_seconds")]
    pub(crate) timeout_ms: u64,
    #[serde(default)]
    pub(crate) expect: YesNo,
}

/// The counters of a pool; the first ten are the books.
pub(crate) const COUNTERS: [&str; 18] = [
    "submitted",
    "succeeded",
    "failed",
    "panicked",
    "cancelled",
    "deadline_exceeded",
    "shed",
    "abandoned",
    "queued",
    "running",
    "refused",
    "late",
    "overdue",
    "replaced",
    "stalled",
    "unobserved",
    "blocked_producers",
    "workers",
];
