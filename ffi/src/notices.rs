//! What stands on a board until the language takes it.
//!
//! Invariants:
//! 1. Putting up a notice never blocks and calls nobody: it is done by timers and workers.
//! 2. The lock is never taken in a process that inherited it: another thread of the parent may have held it at the fork. There
//!    nothing is put up, and whoever takes is told.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use crate::board::duly_notice;
use crate::foreign::duly_run_fn;
use crate::options::DULY_FOREVER;
use crate::status::duly_status;
use crate::worker::duly_worker;

/// How many forks lie between the process that made the first board and this one. Written by the only thread of a child.
static FORKS: AtomicU32 = AtomicU32::new(0);

extern "C" fn in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

#[derive(Debug)]
pub(crate) struct Board {
    notices: Mutex<VecDeque<duly_notice>>,
    some: Condvar,
    run: duly_run_fn,
    born: u32,
}

impl Board {
    pub(crate) fn new(run: duly_run_fn) -> Board {
        static WATCHED: Once = Once::new();
        // SAFETY: a function that lives as long as the process, as this library is never unloaded, and that only counts.
        WATCHED.call_once(|| _ = unsafe { libc::pthread_atfork(None, None, Some(in_child)) });
        Board {
            notices: Mutex::default(),
            some: Condvar::new(),
            run,
            born: FORKS.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn run(&self) -> duly_run_fn {
        self.run
    }

    fn is_inherited(&self) -> bool {
        self.born != FORKS.load(Ordering::Relaxed)
    }

    fn notices(&self) -> MutexGuard<'_, VecDeque<duly_notice>> {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn put(&self, kind: i32, tag: u64, worker: *mut duly_worker) {
        if self.is_inherited() {
            return;
        }
        let first = {
            let mut notices = self.notices();
            notices.push_back(duly_notice {
                tag,
                worker,
                kind,
                reserved: 0,
            });
            notices.len() == 1
        };
        if first {
            self.some.notify_one();
        }
    }

    /// Moves notices out, waiting for the first.
    pub(crate) fn take(&self, timeout: u64, out: &mut dyn FnMut(duly_notice) -> bool) -> Result<(), duly_status> {
        if self.is_inherited() {
            return Err(duly_status::DULY_STATUS_SHUT_DOWN);
        }
        let until = (timeout != DULY_FOREVER)
            .then(|| Instant::now().checked_add(Duration::from_nanos(timeout)))
            .flatten();
        let mut notices = self.notices();
        while notices.is_empty() {
            notices = match until {
                None => self.some.wait(notices).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(duly_status::DULY_STATUS_TIMED_OUT);
                    }
                    self.some
                        .wait_timeout(notices, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
        while let Some(notice) = notices.pop_front() {
            if !out(notice) {
                break;
            }
        }
        if !notices.is_empty() {
            self.some.notify_one();
        }
        Ok(())
    }
}
