//! The format of the table as types (README.md beside this file says what each means).
//!
//! Keeps true: every table denies unknown fields, every word belongs to a closed set.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

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
    Open {
        gate: String,
    },
    Mark {
        name: String,
    },
    Pause {
        ms: u64,
    },
    /// Of the thread that `Common::thread` names.
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

fn main_pool() -> String {
    "pool".to_owned()
}

fn ten_seconds() -> u64 {
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
    pub(crate) label: Option<String>,
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) timeout: Option<OddTimeout>,
    pub(crate) token: Option<String>,
    pub(crate) submit_timeout_ms: Option<u64>,
    #[serde(default)]
    pub(crate) expect: Submitted,
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

#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "run", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Callback {
    Return(Plain),
    Fail {
        #[serde(default = "Callback::default_code")]
        code: i32,
        #[serde(default = "Callback::default_failure")]
        message: String,
    },
    Panic {
        #[serde(default = "Callback::default_panic")]
        message: String,
    },
    Sleep {
        ms: u64,
        #[serde(default)]
        value: i64,
    },
    Block(AtGate),
    Poll(Plain),
    Hook(AtGate),
    TimeLeft(Nothing),
    Submit {
        inner: String,
        #[serde(default)]
        inner_run: Inner,
        #[serde(default)]
        inner_detached: bool,
        #[serde(default)]
        value: i64,
        gate: Option<String>,
        ms: Option<u64>,
    },
    Wait {
        target: String,
    },
    Cancel {
        target: String,
    },
    Close(Nothing),
    Shutdown {
        #[serde(default = "Callback::default_drain")]
        ms: u64,
    },
    Stats(Nothing),
    Null(Nothing),
}

impl Callback {
    fn default_code() -> i32 {
        1
    }
    fn default_failure() -> String {
        "failed".to_owned()
    }
    fn default_panic() -> String {
        "panicked".to_owned()
    }
    fn default_drain() -> u64 {
        1000
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plain {
    #[serde(default)]
    pub(crate) value: i64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AtGate {
    pub(crate) gate: String,
    #[serde(default)]
    pub(crate) value: i64,
}

/// A closed set of words: read by serde, compared and printed by `as_str`.
macro_rules! words {
    ($($(#[$meta:meta])* $name:ident { $($(#[$first:meta])* $variant:ident = $word:literal),+ $(,)? })+) => { $(
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
        pub(crate) enum $name { $($(#[$first])* #[serde(rename = $word)] $variant),+ }
        impl $name {
            pub(crate) fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }
        }
    )+ };
}

words! {
    End {
        Succeeded = "succeeded", Failed = "failed", Panicked = "panicked", Cancelled = "cancelled",
        DeadlineExceeded = "deadline_exceeded", Shed = "shed", Abandoned = "abandoned",
    }
    Look {
        Succeeded = "succeeded", Failed = "failed", Panicked = "panicked", Cancelled = "cancelled",
        DeadlineExceeded = "deadline_exceeded", Shed = "shed", Abandoned = "abandoned", Pending = "pending",
    }
    Waited {
        Succeeded = "succeeded", Failed = "failed", Panicked = "panicked", Cancelled = "cancelled",
        DeadlineExceeded = "deadline_exceeded", Shed = "shed", Abandoned = "abandoned",
        TimedOut = "timed_out", Taken = "taken",
    }
    #[derive(Default)]
    Submitted {
        #[default] Accepted = "accepted", QueueFull = "queue_full", SubmitTimedOut = "submit_timed_out",
        DeadlineExceeded = "deadline_exceeded", Cancelled = "cancelled", ShutDown = "shut_down",
        WouldDeadlock = "would_deadlock", InvalidArgument = "invalid_argument",
    }
    #[derive(Default)]
    Answer {
        #[default] Succeeded = "succeeded", Failed = "failed", Panicked = "panicked", Cancelled = "cancelled",
        DeadlineExceeded = "deadline_exceeded", Shed = "shed", Abandoned = "abandoned", QueueFull = "queue_full",
        SubmitTimedOut = "submit_timed_out", ShutDown = "shut_down", WouldDeadlock = "would_deadlock",
        InvalidArgument = "invalid_argument",
    }
    #[derive(Default)]
    Built { #[default] Ok = "ok", InvalidArgument = "invalid_argument" }
    Decided { Decided = "decided", Ended = "ended" }
    Cause { Cancelled = "cancelled", DeadlineExceeded = "deadline_exceeded", Abandoned = "abandoned" }
    TokenState { Cancelled = "cancelled", Live = "live" }
    #[derive(Default)]
    YesNo { #[default] Yes = "yes", No = "no" }
    OddTimeout { Nan = "nan", Negative = "negative", Longest = "longest" }
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Overflow {
    Block,
    Reject,
    DropNewest,
    DropOldest,
    CallerRuns,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Threads {
    Eager,
    OnDemand,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Hook {
    WorkerStart,
    WorkerStop,
    Late,
    Stalled,
    Unobserved,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Inner {
    #[default]
    Return,
    Sleep,
    Block,
    Poll,
    TimeLeft,
}
