//! What systemd is told: that the service stops, and that it is alive.
//!
//! Invariant: `WATCHDOG=1` is sent only when each pool that is bound to signals is well: its timer thread has moved since
//! the last time, and it is not stalled. Nothing is sent where the service manager did not ask for it.

use crate::clock;
use crate::shared::Shared;
use crate::sync::Arc;
use sd_notify::NotifyState;
use std::time::Duration;

/// The service has been told to stop.
pub(crate) fn stopping() {
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
}

/// Sends a sign of life twice as often as is asked for.
pub(crate) struct Watchdog {
    every: u64,
    next: u64,
}

impl Watchdog {
    /// `None` where nobody asks for it.
    pub(crate) fn new() -> Option<Watchdog> {
        let within = sd_notify::watchdog_enabled()?;
        let every = u64::try_from(within.as_nanos() / 2).unwrap_or(clock::NEVER);
        Some(Watchdog {
            every,
            next: clock::now(),
        })
    }

    /// Until the next turn.
    pub(crate) fn left(&self) -> Duration {
        Duration::from_nanos(self.next.saturating_sub(clock::now()).next_multiple_of(clock::MS))
    }

    pub(crate) fn turn(&mut self, pools: &[Arc<Shared>]) {
        self.next = clock::now().saturating_add(self.every);
        // Each is asked, whatever the others have answered.
        let sick = pools.iter().filter(|pool| !pool.is_well()).count();
        if sick == 0 {
            let _ = sd_notify::notify(&[NotifyState::Watchdog]);
        }
    }
}
