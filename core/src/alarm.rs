//! Wakers to be woken at a point in time, for futures that wait with a deadline and have no pool to ask.
//!
//! One thread for the process (`duly-alarm`), started by the first alarm; it ends when no alarm is left, so
//! nothing stays behind. It wakes wakers and runs no other user code.
//!
//! Invariants: an alarm is in the list exactly while its [`Alarm`] lives and its time has not come; the thread
//! runs exactly while `running` is set, which changes under the lock only. A forked child has a list of its own.

use crate::clock::{self, NEVER};
use crate::fork::{self, Renewed, renewed};
use crate::slot;
use crate::sync::{Condvar, Mutex, global, thread};
use std::collections::BTreeMap;
use std::task::Waker;
use std::time::Duration;

struct Alarms {
    running: bool,
    next: u64,
    list: BTreeMap<(u64, u64), Waker>,
}

global! {
    static BELL: Renewed<Bell> = renewed!(Bell {
        alarms: Mutex::new(Alarms {
            running: false,
            next: 0,
            list: BTreeMap::new(),
        }),
        changed: Condvar::new(),
    });
}

struct Bell {
    alarms: Mutex<Alarms>,
    changed: Condvar,
}

/// Wakes a waker at its time, unless dropped before.
#[derive(Debug)]
pub(crate) struct Alarm {
    key: (u64, u64),
    born: u32,
}

impl Alarm {
    /// `None` for [`NEVER`].
    pub(crate) fn at(time: u64, waker: &Waker) -> Option<Alarm> {
        if time == NEVER {
            return None;
        }
        let waker = waker.clone();
        let mut failed = None;
        let bell = BELL.get();
        let mut alarms = bell.alarms.lock();
        let key = (time, alarms.next);
        alarms.next += 1;
        alarms.list.insert(key, waker);
        if !alarms.running {
            let started = thread::Builder::new().name("duly-alarm".into()).spawn(ring);
            match started {
                Ok(_) => alarms.running = true,
                Err(error) => {
                    failed = Some(error);
                }
            }
        } else if alarms.list.keys().next() == Some(&key) {
            bell.changed.notify_one();
        }
        drop(alarms);
        if let Some(error) = failed {
            slot::say(
                log::Level::Error,
                format_args!(
                    "the alarm thread could not be created ({error}); the deadline of a pending future is only seen \
                     when the future is polled"
                ),
            );
        }
        Some(Alarm {
            key,
            born: fork::generation(),
        })
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if self.born != fork::generation() {
            // In a list that nobody reads any more.
            return;
        }
        let gone = {
            let bell = BELL.get();
            let mut alarms = bell.alarms.lock();
            let gone = alarms.list.remove(&self.key);
            if alarms.list.is_empty() {
                bell.changed.notify_one();
            }
            gone
        };
        // A waker's destructor is user code: outside the lock.
        drop(gone);
    }
}

fn ring() {
    let born = fork::generation();
    let bell = BELL.get();
    let mut alarms = bell.alarms.lock();
    loop {
        let Some((&key, _)) = alarms.list.iter().next() else {
            alarms.running = false;
            return;
        };
        let now = clock::now();
        if key.0 <= now {
            let waker = alarms.list.remove(&key);
            drop(alarms);
            if let Some(waker) = waker {
                slot::wake(waker);
            }
            if born != fork::generation() {
                // The waker forked, and this is the child.
                return;
            }
            alarms = bell.alarms.lock();
        } else {
            alarms = bell.changed.wait_timeout(alarms, Duration::from_nanos(key.0 - now));
        }
    }
}
