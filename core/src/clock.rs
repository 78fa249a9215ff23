//! Monotonic time: nanoseconds of `CLOCK_MONOTONIC`, the clock of [`std::time::Instant`].
//!
//! Read in `sync`: `now` exactly (about 24 ns), `coarse` some milliseconds behind (about 5 ns; good for ages, never
//! for deadlines). A model checker has a time of its own, which has no [`Instant`]: models say spans.
//!
//! Deadlines are kept in milliseconds ([`Millis`]), rounded up: nothing is ever early.

use std::time::{Duration, Instant};

/// "No such time": later than every real one.
pub(crate) const NEVER: u64 = u64::MAX;

/// Nanoseconds in a millisecond.
pub(crate) const MS: u64 = 1_000_000;

pub(crate) use crate::sync::{coarse, now};

/// `now + span`, or [`NEVER`] where that lies beyond what can be told.
pub(crate) fn after(span: Duration) -> u64 {
    match u64::try_from(span.as_nanos()) {
        Ok(nanos) => now().saturating_add(nanos),
        Err(_) => NEVER,
    }
}

/// The time of an [`Instant`].
pub(crate) fn of(instant: Instant) -> u64 {
    let here = Instant::now();
    let now = now();
    match instant.checked_duration_since(here) {
        Some(ahead) => now.saturating_add(u64::try_from(ahead.as_nanos()).unwrap_or(NEVER)),
        None => now.saturating_sub(u64::try_from((here - instant).as_nanos()).unwrap_or(NEVER)),
    }
}

/// The [`Instant`] of a time.
pub(crate) fn instant(time: u64) -> Option<Instant> {
    if time == NEVER {
        return None;
    }
    let here = Instant::now();
    let now = now();
    if time >= now {
        here.checked_add(Duration::from_nanos(time - now))
    } else {
        here.checked_sub(Duration::from_nanos(now - time))
    }
}

/// What is left until `time`; zero when it has passed.
pub(crate) fn left(time: u64) -> Duration {
    Duration::from_nanos(time.saturating_sub(now()))
}

/// A point in time in whole milliseconds, in 39 bits: 17 years of uptime.
pub(crate) type Millis = u64;

/// How many bits a [`Millis`] takes.
pub(crate) const MILLIS_BITS: u32 = 39;

/// No deadline.
pub(crate) const NO_MILLIS: Millis = (1 << MILLIS_BITS) - 1;

/// The first whole millisecond at or after `time`.
#[inline]
pub(crate) fn millis_up(time: u64) -> Millis {
    (time.saturating_add(MS - 1) / MS).min(NO_MILLIS)
}

/// The nanoseconds of a millisecond; [`NEVER`] for [`NO_MILLIS`].
#[inline]
pub(crate) fn of_millis(millis: Millis) -> u64 {
    if millis == NO_MILLIS { NEVER } else { millis * MS }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn p02_rounding_a_deadline_never_makes_it_earlier() {
        for time in [0, 1, MS - 1, MS, MS + 1, 123_456_789, now()] {
            assert!(of_millis(millis_up(time)) >= time);
            assert!(of_millis(millis_up(time)) < time + MS);
        }
        assert_eq!(of_millis(millis_up(NEVER)), NEVER);
    }

    #[test]
    fn p16_absurd_spans_saturate() {
        assert_eq!(after(Duration::MAX), NEVER);
        assert!(after(Duration::from_nanos(u64::MAX)) == NEVER);
        let far = Instant::now() + Duration::from_secs(3600);
        assert!(of(far) > now());
        let past = Instant::now() - Duration::from_millis(5);
        assert!(of(past) < now());
    }
}
