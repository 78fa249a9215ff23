//! The closed sets of words that fields of steps may hold.

use serde::Deserialize;

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
    Built { #[default] Ok = "ok", InvalidArgument = "invalid_argument", ShutDown = "shut_down" }
    Decided { Decided = "decided", Ended = "ended" }
    Cause { Cancelled = "cancelled", DeadlineExceeded = "deadline_exceeded", Abandoned = "abandoned" }
    TokenState { Cancelled = "cancelled", Live = "live" }
    #[derive(Default)]
    YesNo { #[default] Yes = "yes", No = "no" }
    EveryEnd { Cancelled = "cancelled", ShutDown = "shut_down", Failed = "failed", TimedOut = "timed_out" }
    Next {
        Succeeded = "succeeded", Failed = "failed", Panicked = "panicked", Cancelled = "cancelled",
        DeadlineExceeded = "deadline_exceeded", Shed = "shed", Abandoned = "abandoned", QueueFull = "queue_full",
        ShutDown = "shut_down", WouldDeadlock = "would_deadlock", TimedOut = "timed_out", End = "end",
    }
    Told {
        Succeeded = "succeeded", Failed = "failed", Panicked = "panicked", Cancelled = "cancelled",
        DeadlineExceeded = "deadline_exceeded", Shed = "shed", Abandoned = "abandoned", QueueFull = "queue_full",
        ShutDown = "shut_down", WouldDeadlock = "would_deadlock", TimedOut = "timed_out",
    }
    GroupEnd { Ok = "ok", Failed = "failed", TimedOut = "timed_out" }
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

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Missed {
    Skip,
    CatchUp,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Signals {
    User1,
    User2,
}
