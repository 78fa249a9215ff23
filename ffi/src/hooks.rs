//! The hook of a pool: one C function that is told what happens.
//!
//! Invariant: hook_data is released after the last call of the hook, and only if the pool was made.

use std::ffi::{CString, c_char, c_void};
use std::mem::size_of;
use std::sync::Arc;
use std::time::Duration;

use duly::PoolBuilder;

use crate::foreign::{Entrusted, Visit, duly_drop_fn};
use crate::status::duly_outcome;
use crate::text::{to_c, told, view};
use crate::worker::Interlude;

/// What a pool's hook is told of.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum duly_event_kind {
    /// A worker begins, on its own thread: `number` is its number, counted from 0.
    DULY_EVENT_WORKER_START = 1,
    /// A worker has run its last task, on its own thread: `number` as at its start.
    DULY_EVENT_WORKER_STOP = 2,
    /// A callback returned after its task had its outcome: `label`, `outcome`, `callback` (how it ended after that), `ran_ns`.
    DULY_EVENT_LATE = 3,
    /// Every worker is stuck in a callback whose task has its outcome, and no replacement is left: `number` tasks wait behind
    /// them; `text` names the callbacks.
    DULY_EVENT_STALLED = 4,
    /// The last reference to a failed or panicked task went before anyone looked at its outcome: `label`, `outcome`, `text`.
    DULY_EVENT_UNOBSERVED = 5,
}

/// What happened. Borrowed, with its texts: valid until the hook returns. Texts are never NULL.
#[repr(C)]
#[derive(Debug)]
pub struct duly_event {
    /// sizeof(duly_event) of the library: a newer one has more at the end.
    pub size: u32,
    /// A duly_event_kind. Ignore what you do not know.
    pub kind: i32,
    /// The pool's name.
    pub pool: *const c_char,
    /// The task's label; "" if it had none, or the event is of no task.
    pub label: *const c_char,
    /// What there is to say besides; "" if there is nothing.
    pub text: *const c_char,
    /// The task's outcome, a duly_outcome; 0 if the event is of no task.
    pub outcome: i32,
    /// How the callback of a late task ended: succeeded, failed or panicked; else 0.
    pub callback: i32,
    /// How long the callback of a late task ran, to a few milliseconds.
    pub ran_ns: u64,
    /// The worker's number; the tasks that wait behind a stall.
    pub number: u64,
}

const _: () = assert!(size_of::<duly_event>() == 4 + 4 + 3 * 8 + 4 + 4 + 2 * 8);

/// Told what happens in a pool. Called outside of every lock of duly, several at once, on workers, the delivery thread or
/// the thread that releases a task; it may call everything. It must not throw, longjmp out or end its thread.
pub type duly_hook_fn = Option<unsafe extern "C-unwind" fn(hook_data: *mut c_void, event: *const duly_event)>;

/// A pool's hook.
#[derive(Debug)]
pub(crate) struct Hook {
    function: unsafe extern "C-unwind" fn(hook_data: *mut c_void, event: *const duly_event),
    data: Entrusted,
    pool: CString,
}

/// What is told of a task.
#[derive(Debug, Default)]
struct Told<'a> {
    label: &'a str,
    text: &'a str,
    outcome: Option<duly::Outcome>,
    callback: Option<duly::Outcome>,
    ran: Duration,
    number: u64,
}

impl Hook {
    pub(crate) fn new(hook: duly_hook_fn, data: *mut c_void, drop: duly_drop_fn, pool: &str) -> Option<Arc<Hook>> {
        Some(Arc::new(Hook {
            function: hook?,
            data: Entrusted::new(data, drop),
            pool: to_c(pool),
        }))
    }

    /// From now on hook_data is ours.
    pub(crate) fn keep_data(&self) {
        self.data.keep();
    }

    /// A builder whose pool tells the hook of everything.
    pub(crate) fn attach(hook: &Arc<Hook>, builder: PoolBuilder) -> PoolBuilder {
        use duly_event_kind::*;
        let own = || hook.clone();
        let (start, stop, late, stalled, unobserved) = (own(), own(), own(), own(), own());
        let worker = |hook: &Hook, kind, index: usize| {
            hook.tell(
                kind,
                &Told {
                    number: index as u64,
                    ..Told::default()
                },
            );
        };
        builder
            .on_worker_start(move |info| worker(&start, DULY_EVENT_WORKER_START, info.index))
            .on_worker_stop(move |info| worker(&stop, DULY_EVENT_WORKER_STOP, info.index))
            .on_late(move |told| {
                late.tell(
                    DULY_EVENT_LATE,
                    &Told {
                        label: told.name.label().unwrap_or_default(),
                        outcome: Some(told.outcome),
                        callback: Some(told.callback),
                        ran: told.ran,
                        ..Told::default()
                    },
                );
            })
            .on_stalled(move |told| {
                let stuck: Vec<String> = told.stuck.iter().map(ToString::to_string).collect();
                stalled.tell(
                    DULY_EVENT_STALLED,
                    &Told {
                        text: &stuck.join("\n"),
                        number: told.queued,
                        ..Told::default()
                    },
                );
            })
            .on_unobserved(move |told| {
                unobserved.tell(
                    DULY_EVENT_UNOBSERVED,
                    &Told {
                        label: told.name.label().unwrap_or_default(),
                        text: told.message.as_deref().unwrap_or_default(),
                        outcome: Some(told.outcome),
                        ..Told::default()
                    },
                );
            })
    }

    fn tell(&self, kind: duly_event_kind, event: &Told<'_>) {
        let (label, text) = (to_c(event.label), told(event.text));
        let number = |outcome: Option<duly::Outcome>| outcome.map_or(0, |outcome| duly_outcome::from(outcome) as i32);
        let shown = duly_event {
            size: size_of::<duly_event>() as u32,
            kind: kind as i32,
            pool: view(&self.pool),
            label: view(&label),
            text: view(&text),
            outcome: number(event.outcome),
            callback: number(event.callback),
            ran_ns: u64::try_from(event.ran.as_nanos()).unwrap_or(u64::MAX),
            number: event.number,
        };
        let _interlude = Interlude::begin();
        let border = Visit::enter(&"hook");
        // SAFETY: the header obliges whoever made the pool that the hook takes this hook_data on any thread; the event and
        // its texts outlive the call.
        unsafe { (self.function)(self.data.pointer(), &raw const shown) };
        border.leave();
    }
}
