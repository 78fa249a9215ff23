//! Periodic tasks: a callback that is run again and again, each run a task like any other.
//!
//! The timer thread submits a run when its tick has come; it never waits, and runs no user code. Between ticks nothing of it
//! is in any queue.
//!
//! Invariants:
//! 1. `active` counts the runs that were submitted and whose callback has not returned, or been dropped unrun: an overdue
//!    callback still counts. Without overlap no run is submitted while there is one.
//! 2. At most one event of it is planned with the timer, and its key is in `planned`. It goes with the end.
//! 3. `end` is set once. From then on no run is submitted, and the callback is let go of: it is dropped when the last run is
//!    gone, never on the timer thread.
//! 4. A closed pool ends it: the timer thread hands over every planned tick, and who plans one looks at the close afterwards.
//!
//! Lock order: `state`, then the timer's (a leaf). Nobody is woken and nothing of the user's runs or is dropped under it.

use crate::block::{drive_to_end, drive_until};
use crate::cancel::{CancellationToken, Watcher};
use crate::carry::{self, Carried};
use crate::clock::{self, NEVER};
use crate::context::Context;
use crate::error::{CancelReason, Refused, SubmitError, SubmitErrorKind};
use crate::fork;
use crate::pool::Pool;
use crate::shared::Shared;
use crate::slot;
use crate::submit::{Options, Patience, Wanted, submit_carrying};
use crate::sync::{Arc, Mutex, MutexGuard, full_fence};
use crate::task::Callback;
use crate::timer::{Event, EventKey, Ticking};
use slab::Slab;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Weak;
use std::task::{Poll, Wake, Waker};
use std::time::{Duration, Instant};

/// What becomes of a tick at which no run could be submitted: the run before was not done, the queue was full, or the
/// timer came too late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Missed {
    /// It is counted as missed, and that is all.
    #[default]
    Skip,
    /// It is made up for as soon as that is possible, one after the other.
    CatchUp,
}

/// Why a periodic task runs no more.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeriodicEnd {
    /// It was cancelled, or a token above it, or its deadline has passed.
    Cancelled(CancelReason),
    /// Its pool was closed or shut down.
    ShutDown,
    /// So many runs in a row failed, as many as [`Every::max_failures`] allows.
    Failed(u64),
}

impl fmt::Display for PeriodicEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeriodicEnd::Cancelled(reason) => write!(f, "cancelled: {reason}"),
            PeriodicEnd::ShutDown => f.write_str("shut_down"),
            PeriodicEnd::Failed(failures) => write!(f, "failed {failures} times in a row"),
        }
    }
}

/// What a periodic task has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct PeriodicStats {
    /// Callbacks that were started.
    pub runs: u64,
    /// Runs that returned an error, panicked, or returned after their task had been ended from outside.
    pub failures: u64,
    /// Ticks without a run: skipped, or whose task was ended in the queue.
    pub missed: u64,
    /// Runs that are queued or running now.
    pub active: u64,
}

/// The options of a periodic task: made by [`Pool::every`](crate::Pool::every).
#[must_use = "nothing is run until a callback is submitted with it"]
#[derive(Clone, Debug)]
pub struct Every<'p> {
    options: Options<'p>,
    period: Duration,
    missed: Missed,
    overlap: bool,
    max_failures: Option<u64>,
    jitter: Duration,
}

/// The handle of a periodic task: see [`Pool::every`](crate::Pool::every). Also a future of its end.
///
/// Cloning makes another handle of the same. Dropping it cancels nothing: for that, keep
/// [`token()`](Self::token)`.drop_guard()`.
pub struct Periodic {
    inner: Arc<Inner>,
    /// Its waker's place, once it was polled.
    waker: Option<usize>,
}

/// Its callback, of any type.
trait Job: Send + Sync {
    /// Submits a run, which keeps the callback.
    fn submit(self: Arc<Self>, inner: &Arc<Inner>, shared: &Arc<Shared>) -> Result<(), SubmitErrorKind>;
}

struct Inner {
    shared: Weak<Shared>,
    /// Of each run.
    wanted: Wanted,
    token: CancellationToken,
    site: &'static Location<'static>,
    period: u64,
    missed: Missed,
    overlap: bool,
    max_failures: u64,
    jitter: u64,
    /// The generation it was made in: see `fork`.
    born: u32,
    state: Mutex<State>,
}

struct State {
    job: Option<Arc<dyn Job>>,
    /// The next tick, without jitter.
    next: u64,
    planned: Option<EventKey>,
    watch: Option<usize>,
    stats: PeriodicStats,
    /// Ticks to make up for.
    pending: u64,
    /// Failures in a row.
    failures: u64,
    random: u64,
    end: Option<PeriodicEnd>,
    /// Of handles that were polled.
    wakers: Slab<Option<Waker>>,
}

impl Pool {
    /// Runs a callback every `period`, until it is cancelled or the pool closed: see [`Options::every`].
    pub fn every(&self, period: Duration) -> Every<'_> {
        self.options().every(period)
    }
}

impl<'p> Options<'p> {
    /// Runs a callback every `period`, each run a task with these options; the first after one period, or after
    /// [`delay`](Self::delay).
    ///
    /// Ticks stand on a grid of the monotonic clock: a run that takes long or starts late moves none of them. A tick whose run
    /// cannot be submitted (the one before is not done, the queue is full) is [missed](Every::missed); the submit never
    /// waits and the policy [`CallerRuns`](crate::Overflow::CallerRuns) counts as full. The timeout holds for each run, and
    /// counts from its tick; a deadline and the token are those of the whole.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let pool = duly::Pool::builder().workers(1).build()?;
    /// let beat = pool.every(Duration::from_millis(5)).submit(|_| Ok::<_, std::io::Error>(println!("still here")))?;
    /// while beat.stats().runs < 3 {
    ///     std::thread::sleep(Duration::from_millis(5));
    /// }
    /// beat.cancel();
    /// assert!(matches!(beat.wait(), duly::PeriodicEnd::Cancelled(_)));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn every(&self, period: Duration) -> Every<'p> {
        Every {
            options: self.clone(),
            period,
            missed: Missed::Skip,
            overlap: false,
            max_failures: None,
            jitter: Duration::ZERO,
        }
    }
}

impl Every<'_> {
    /// What becomes of a tick at which no run could be submitted. Default: [`Missed::Skip`].
    pub fn missed(mut self, missed: Missed) -> Self {
        self.missed = missed;
        self
    }

    /// Whether a run may begin while another one is queued or running. Default: no, also not while its callback is overdue.
    pub fn overlap(mut self, overlap: bool) -> Self {
        self.overlap = overlap;
        self
    }

    /// Ends it after so many failures in a row. Default: failures end nothing.
    pub fn max_failures(mut self, failures: u64) -> Self {
        self.max_failures = Some(failures);
        self
    }

    /// Each run begins up to so much after its tick, at random; less than the period. Default: none.
    pub fn jitter(mut self, jitter: Duration) -> Self {
        self.jitter = jitter;
        self
    }

    /// Begins. Never blocks.
    ///
    /// A run that fails is an outcome of that run, and the next tick comes; what nobody looks at is logged, counted and given to
    /// [`on_unobserved`](crate::PoolBuilder::on_unobserved), as of any task. The context of this call is entered around each
    /// run.
    ///
    /// Refused with `shut_down`, `cancelled`, or `invalid_argument` (a period of zero, one beyond 500 years, or a jitter that is
    /// not less than it).
    #[track_caller]
    pub fn submit<F, T, E>(self, callback: F) -> Result<Periodic, SubmitError<F>>
    where
        F: Fn(&Context) -> Result<T, E> + Send + Sync + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let site = Location::caller();
        let shared = self.options.pool.shared();
        let (wanted, token, delay) = self.options.wanted.of_runs();
        let nanos = |span: Duration| i64::try_from(span.as_nanos()).ok().map(|nanos| nanos as u64);
        let refusal = if shared.is_inherited() || shared.queue.is_closed() {
            Some(SubmitErrorKind::ShutDown)
        } else if token.is_cancelled() {
            Some(SubmitErrorKind::Cancelled)
        } else if wanted.is_elsewhere()
            || self.jitter >= self.period
            || nanos(self.period).is_none()
            || self.max_failures == Some(0)
        {
            Some(SubmitErrorKind::InvalidArgument)
        } else {
            None
        };
        if let Some(kind) = refusal {
            return Err(SubmitError::new(Refused::new(kind, wanted.name::<F>(site)), callback));
        }
        let period = nanos(self.period).unwrap_or(NEVER);
        let now = clock::now();
        let inner = Arc::new(Inner {
            shared: Arc::downgrade(shared),
            wanted,
            token,
            site,
            period,
            missed: self.missed,
            overlap: self.overlap,
            max_failures: self.max_failures.unwrap_or(NEVER),
            jitter: nanos(self.jitter).unwrap_or(0),
            born: fork::generation(),
            state: Mutex::new(State {
                job: Some(Arc::new(Work {
                    callback,
                    carried: shared.capture(),
                    answer: PhantomData,
                })),
                next: now.saturating_add(delay.map_or(period, |delay| nanos(delay).unwrap_or(NEVER))),
                planned: None,
                watch: None,
                stats: PeriodicStats::default(),
                pending: 0,
                failures: 0,
                random: now | 1,
                end: None,
                wakers: Slab::new(),
            }),
        });
        // The token first: whoever cancels it from now on is heard.
        match inner
            .token
            .watch(Watcher::Waker(Waker::from(Arc::new(Told(Arc::downgrade(&inner))))))
        {
            Ok(watch) => inner.state.lock().watch = Some(watch),
            Err((_, reason)) => _ = inner.end(shared, PeriodicEnd::Cancelled(reason)),
        }
        inner.plan(shared, &mut inner.state.lock(), false);
        full_fence();
        if shared.queue.is_closed() {
            inner.end(shared, PeriodicEnd::ShutDown);
        }
        Ok(Periodic { inner, waker: None })
    }
}

/// Told when the token is cancelled.
struct Told(Weak<Inner>);

impl Wake for Told {
    fn wake(self: Arc<Self>) {
        if let Some(inner) = self.0.upgrade()
            && let Some(shared) = inner.shared.upgrade()
            && let Some(reason) = inner.token.reason()
        {
            inner.end(&shared, PeriodicEnd::Cancelled(reason));
        }
    }
}

impl Inner {
    /// Whether it is of the process that forked this one: then it is not locked, and has ended.
    fn is_inherited(&self) -> bool {
        self.born != fork::generation()
    }

    /// Plans the next look, at once or when the next tick comes, unless it has ended.
    fn plan(self: &Arc<Self>, shared: &Arc<Shared>, state: &mut MutexGuard<'_, State>, at_once: bool) {
        if state.end.is_some() {
            return;
        }
        let at = if at_once {
            clock::now()
        } else {
            let random = &mut state.random;
            *random ^= *random << 13;
            *random ^= *random >> 7;
            *random ^= *random << 17;
            let jitter = if self.jitter == 0 { 0 } else { *random % self.jitter };
            state.next.saturating_add(jitter).min(self.token.deadline_nanos())
        };
        // Planned in any case: the close tells those that are (invariant 4).
        let at = at.min(NEVER - 1);
        if let Some(key) = state.planned.take() {
            drop(shared.timer.forget(key));
        }
        state.planned = shared.timer.at(at, Event::Tick(self.clone()));
    }

    /// Ends it: true if this call did.
    fn end(&self, shared: &Arc<Shared>, end: PeriodicEnd) -> bool {
        self.end_from(self.state.lock(), shared, end)
    }

    /// [`end`](Self::end), with nothing in between for whoever sees what `state` has by now.
    fn end_from(&self, mut state: MutexGuard<'_, State>, shared: &Arc<Shared>, end: PeriodicEnd) -> bool {
        if state.end.is_some() {
            return false;
        }
        state.end = Some(end);
        state.pending = 0;
        let (job, watch, planned, wakers) = (
            state.job.take(),
            state.watch.take(),
            state.planned.take(),
            std::mem::take(&mut state.wakers),
        );
        drop(state);
        drop(planned.and_then(|key| shared.timer.forget(key)));
        if let Some(watch) = watch {
            self.token.unwatch(watch);
        }
        shared.deliver("the destructor of a periodic task's callback", move || drop(job));
        for waker in wakers.into_iter().filter_map(|(_, waker)| waker) {
            slot::wake(waker);
        }
        true
    }

    /// Takes the ticks that have come, as many runs as may begin now.
    fn due(&self) -> u64 {
        let mut state = self.state.lock();
        let now = clock::now();
        let ticks = match now.checked_sub(state.next) {
            Some(since) => 1 + since / self.period,
            None => 0,
        };
        state.next = state.next.saturating_add(ticks.saturating_mul(self.period));
        let free = if self.overlap {
            NEVER
        } else {
            u64::from(state.stats.active == 0)
        };
        let runs = match self.missed {
            Missed::Skip => {
                let runs = ticks.min(1).min(free);
                state.stats.missed += ticks - runs;
                runs
            }
            Missed::CatchUp => {
                let ticks = state.pending + ticks;
                let runs = ticks.min(free);
                state.pending = ticks - runs;
                runs
            }
        };
        state.stats.active += runs;
        runs
    }

    /// Runs that were to begin were refused, most likely because the queue is full.
    fn refused(&self, runs: u64) {
        let mut state = self.state.lock();
        state.stats.active -= runs;
        match self.missed {
            Missed::Skip => state.stats.missed += runs,
            Missed::CatchUp => state.pending += runs,
        }
    }

    /// A run is over: its callback has returned (`Some`: whether as it should), or never ran.
    fn over(self: &Arc<Self>, good: Option<bool>) {
        if self.is_inherited() {
            return;
        }
        let Some(shared) = self.shared.upgrade() else { return };
        let mut state = self.state.lock();
        state.stats.active -= 1;
        match good {
            None => state.stats.missed += 1,
            Some(true) => state.failures = 0,
            Some(false) => {
                state.stats.failures += 1;
                state.failures += 1;
            }
        }
        let failures = state.failures;
        if failures >= self.max_failures {
            // A tick that saw the run gone, and no end yet, would begin one too many.
            self.end_from(state, &shared, PeriodicEnd::Failed(failures));
        } else if state.pending > 0 {
            self.plan(&shared, &mut state, true);
            drop(state);
            // The close may have looked while nothing was planned (invariant 4).
            full_fence();
            if shared.queue.is_closed() {
                self.end(&shared, PeriodicEnd::ShutDown);
            }
        }
    }
}

impl Ticking for Inner {
    fn tick(self: Arc<Self>, shared: &Arc<Shared>) {
        if let Some(reason) = self.token.reason() {
            self.end(shared, PeriodicEnd::Cancelled(reason));
            return;
        }
        if shared.queue.is_closed() {
            self.end(shared, PeriodicEnd::ShutDown);
            return;
        }
        let mut runs = self.due();
        while runs > 0 {
            // None: it has ended meanwhile.
            let job = self.state.lock().job.clone();
            match job.map(|job| job.submit(&self, shared)) {
                Some(Ok(())) => runs -= 1,
                refused => {
                    if refused == Some(Err(SubmitErrorKind::ShutDown)) {
                        self.end(shared, PeriodicEnd::ShutDown);
                    }
                    self.refused(runs);
                    break;
                }
            }
        }
        self.plan(shared, &mut self.state.lock(), false);
    }

    fn closed(self: Arc<Self>, shared: &Arc<Shared>) {
        self.end(shared, PeriodicEnd::ShutDown);
    }
}

/// What is run.
struct Work<F, T, E> {
    callback: F,
    carried: Option<Box<dyn Carried>>,
    answer: PhantomData<fn() -> Result<T, E>>,
}

impl<F, T, E> Job for Work<F, T, E>
where
    F: Fn(&Context) -> Result<T, E> + Send + Sync + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    fn submit(self: Arc<Self>, inner: &Arc<Inner>, shared: &Arc<Shared>) -> Result<(), SubmitErrorKind> {
        let run = Run {
            turn: Turn {
                inner: inner.clone(),
                accepted: true,
                good: None,
            },
            work: self,
        };
        match submit_carrying(shared, &inner.wanted, run, None, Patience::Try, inner.site) {
            // Nobody looks at it: a failure is told as of any task whose handle was dropped.
            Ok(task) => {
                shared.let_go(task.into_slot());
                Ok(())
            }
            Err((refused, mut run)) => {
                let kind = refused.kind();
                run.turn.accepted = false;
                // The end may have come meanwhile: then this is the last of the callback.
                shared.deliver("the destructor of a periodic task's callback", move || drop(run));
                Err(kind)
            }
        }
    }
}

/// One run: a task's callback.
struct Run<F, T, E> {
    work: Arc<Work<F, T, E>>,
    /// Dropped last.
    turn: Turn,
}

/// Says when a run is over.
struct Turn {
    inner: Arc<Inner>,
    accepted: bool,
    good: Option<bool>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.accepted {
            self.inner.over(self.good);
        }
    }
}

impl<F, T, E> Callback for Run<F, T, E>
where
    F: Fn(&Context) -> Result<T, E> + Send + Sync + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    type Value = T;
    type Error = E;
    type Written = F;

    fn call(mut self, context: &Context) -> Result<T, E> {
        self.turn.inner.state.lock().stats.runs += 1;
        self.turn.good = Some(false);
        let call = || (self.work.callback)(context);
        let result = match &self.work.carried {
            None => call(),
            Some(carried) => carry::within(&**carried, call),
        };
        self.turn.good = Some(result.is_ok() && !context.is_cancelled());
        result
    }
}

impl Periodic {
    /// Ends it: true if this call did. Its queued run is cancelled, and the callback of a running one is told.
    pub fn cancel(&self) -> bool {
        self.cancel_with(CancelReason::Requested)
    }

    /// [`cancel`](Self::cancel) with a reason.
    pub fn cancel_with(&self, reason: impl Into<CancelReason>) -> bool {
        let reason = reason.into();
        if self.inner.is_inherited() {
            return false;
        }
        let Some(shared) = self.inner.shared.upgrade() else {
            return false;
        };
        let ended = self.inner.end(&shared, PeriodicEnd::Cancelled(reason.clone()));
        if ended {
            self.inner.token.cancel_with(reason);
        }
        ended
    }

    /// The token of all its runs: cancelling it ends the whole.
    pub fn token(&self) -> CancellationToken {
        self.inner.token.clone()
    }

    /// When the next tick comes; without its jitter. `None`: it has ended.
    pub fn next_tick(&self) -> Option<Instant> {
        if self.inner.is_inherited() {
            return None;
        }
        let state = self.inner.state.lock();
        if state.end.is_some() {
            None
        } else {
            clock::instant(state.next)
        }
    }

    /// What it has done so far, at one moment. Nothing, in a forked child.
    pub fn stats(&self) -> PeriodicStats {
        if self.inner.is_inherited() {
            return PeriodicStats::default();
        }
        self.inner.state.lock().stats
    }

    /// Why it runs no more; `None` while it goes on. In a forked child: [`PeriodicEnd::ShutDown`].
    pub fn end(&self) -> Option<PeriodicEnd> {
        if self.inner.is_inherited() {
            return Some(PeriodicEnd::ShutDown);
        }
        self.inner.state.lock().end.clone()
    }

    /// Blocks until it has ended: it is cancelled, its pool is closed, or it has failed too often. A run that was submitted
    /// before may still be running.
    pub fn wait(&self) -> PeriodicEnd {
        let mut waits = self.clone();
        drive_to_end(&mut waits, |waits, cx| waits.poll_end(cx), |_| Vec::new())
    }

    /// [`wait`](Self::wait) for at most `timeout`. `None`: the wait timed out; it goes on.
    pub fn wait_timeout(&self, timeout: Duration) -> Option<PeriodicEnd> {
        let mut waits = self.clone();
        drive_until(clock::after(timeout), &mut waits, |waits, cx| waits.poll_end(cx))
    }

    fn poll_end(&mut self, cx: &mut std::task::Context<'_>) -> Poll<PeriodicEnd> {
        if self.inner.is_inherited() {
            return Poll::Ready(PeriodicEnd::ShutDown);
        }
        // Wakers are user code: cloned and dropped outside the lock.
        let mut waker = Some(cx.waker().clone());
        let mut state = self.inner.state.lock();
        if let Some(end) = &state.end {
            return Poll::Ready(end.clone());
        }
        match self.waker {
            Some(key) => std::mem::swap(&mut waker, &mut state.wakers[key]),
            None => self.waker = Some(state.wakers.insert(waker.take())),
        }
        drop(state);
        drop(waker);
        Poll::Pending
    }
}

impl Clone for Periodic {
    fn clone(&self) -> Self {
        Periodic {
            inner: self.inner.clone(),
            waker: None,
        }
    }
}

impl Drop for Periodic {
    fn drop(&mut self) {
        let waker = self
            .waker
            .filter(|_| !self.inner.is_inherited())
            .and_then(|key| self.inner.state.lock().wakers.try_remove(key));
        drop(waker);
    }
}

impl Future for Periodic {
    type Output = PeriodicEnd;

    fn poll(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<PeriodicEnd> {
        self.get_mut().poll_end(cx)
    }
}

impl fmt::Debug for Periodic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Periodic")
            .field("stats", &self.stats())
            .field("end", &self.end())
            .finish_non_exhaustive()
    }
}
