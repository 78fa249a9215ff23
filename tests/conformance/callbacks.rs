//! The built-in callbacks that a step may submit.
//!
//! Keeps true: each counts its start first and holds captured data that counts its own release.

use std::sync::{Arc, Weak};
use std::thread::sleep;
use std::time::{Duration, Instant};

use duly::{Context, Interrupted};
use serde::Deserialize;

use crate::words::Inner;
use crate::world::{Captured, Failure, Record, World, lock};

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

/// What a callback returns for "none" where it counts milliseconds.
const NONE: i64 = (1 << 31) - 1;

/// The callback as something to submit. It holds the world weakly: a callback keeps no pool alive.
pub(crate) fn make(
    callback: Callback,
    record: &Arc<Record>,
    world: &Arc<World>,
) -> impl FnOnce(&Context) -> Result<i64, Failure> + Send + 'static {
    let captured = Captured(record.clone());
    let world = Arc::downgrade(world);
    move |context: &Context| {
        let captured = captured;
        captured.0.started();
        call(callback, context, &captured.0, &world)
    }
}

/// The same for a callback that is called again and again.
pub(crate) fn make_again(
    callback: Callback,
    record: &Arc<Record>,
    world: &Arc<World>,
) -> impl Fn(&Context) -> Result<i64, Failure> + Send + Sync + 'static {
    let captured = Captured(record.clone());
    let world = Arc::downgrade(world);
    move |context: &Context| {
        let captured = &captured;
        captured.0.started();
        call(callback.clone(), context, &captured.0, &world)
    }
}

fn failure(code: i32, message: &str) -> Failure {
    Failure {
        code,
        message: message.to_owned(),
    }
}

fn call(callback: Callback, context: &Context, record: &Record, world: &Weak<World>) -> Result<i64, Failure> {
    let there = || world.upgrade().ok_or_else(|| failure(98, "the case is over"));
    match callback {
        Callback::Return(Plain { value }) => Ok(value),
        Callback::Fail { code, message } => Err(Failure { code, message }),
        Callback::Panic { message } => std::panic::panic_any(message),
        Callback::Sleep { ms, value } => {
            sleep(Duration::from_millis(ms));
            Ok(value)
        }
        Callback::Block(AtGate { gate, value }) => {
            let gate = there()?.gate(&gate);
            gate.pass();
            Ok(value)
        }
        Callback::Poll(Plain { value }) => until_cancelled(context, record).map(|()| value),
        Callback::Hook(AtGate { gate, value }) => {
            let gate = there()?.gate(&gate);
            let opened = gate.clone();
            let _registered = context.on_cancel(move |_| opened.open());
            gate.pass();
            Ok(value)
        }
        Callback::TimeLeft(Nothing {}) => Ok(context
            .time_left()
            .map_or(NONE, |left| i64::try_from(left.as_millis()).unwrap_or(NONE))),
        Callback::Submit {
            inner,
            inner_run,
            inner_detached,
            value,
            gate,
            ms,
        } => {
            let inner_callback = match inner_run {
                Inner::Return => Callback::Return(Plain { value }),
                Inner::Sleep => Callback::Sleep {
                    ms: ms.unwrap_or_default(),
                    value,
                },
                Inner::Block => Callback::Block(AtGate {
                    gate: gate.unwrap_or_default(),
                    value,
                }),
                Inner::Poll => Callback::Poll(Plain { value }),
                Inner::TimeLeft => Callback::TimeLeft(Nothing {}),
            };
            submit(&inner, inner_callback, inner_detached, context, &there()?)
        }
        Callback::Wait { target } => {
            let task = there()?.task(&target).map_err(|why| failure(3, &why))?;
            match task.wait_timeout(Duration::from_secs(10)) {
                Some(Ok(value)) => Ok(value),
                _ => Err(failure(3, "the target gave no value")),
            }
        }
        Callback::Cancel { target } => {
            let task = there()?.task(&target).map_err(|why| failure(3, &why))?;
            Ok(i64::from(task.cancel()))
        }
        Callback::Close(Nothing {}) => {
            context.pool().close();
            Ok(0)
        }
        Callback::Shutdown { ms } => Ok(i64::from(context.pool().shutdown(Duration::from_millis(ms)).is_err())),
        Callback::Stats(Nothing {}) => Ok(i64::try_from(context.pool().stats().running).unwrap_or(NONE)),
        Callback::Null(Nothing {}) => Err(failure(97, "there is no null callback in Rust")),
    }
}

fn until_cancelled(context: &Context, record: &Record) -> Result<(), Failure> {
    let until = Instant::now() + Duration::from_secs(30);
    while Instant::now() < until {
        if context.is_cancelled() {
            let cause = match context.cause() {
                Some(Interrupted::Cancelled(_)) => "cancelled",
                Some(Interrupted::DeadlineExceeded) => "deadline_exceeded",
                Some(Interrupted::Abandoned) => "abandoned",
                _ => "none",
            };
            *lock(&record.cause) = Some(cause);
            return Ok(());
        }
        sleep(Duration::from_millis(1));
    }
    Err(failure(99, "it was never cancelled"))
}

fn submit(
    name: &str,
    callback: Callback,
    detached: bool,
    context: &Context,
    world: &Arc<World>,
) -> Result<i64, Failure> {
    let record = world.new_record(name).map_err(|why| failure(2, &why))?;
    let pool = context.pool();
    let options = if detached {
        pool.options().detached()
    } else {
        pool.options()
    };
    match options.submit(make(callback, &record, world)) {
        Ok(task) => {
            *lock(&record.task) = Some(task);
            Ok(0)
        }
        Err(refused) => {
            world.forget_record(name);
            Err(failure(2, refused.kind().as_str()))
        }
    }
}
