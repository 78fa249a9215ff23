//! Single flight: callers that want the same thing at the same time share one run.
//!
//! Invariants: see `table`. A caller joins a flight when it is first polled and leaves it exactly once: with its answer, by
//! its deadline, its token, or its drop. It holds its callback until it leads; a callback that is not needed is dropped by its
//! caller.

mod table;

use crate::alarm::Alarm;
use crate::block;
use crate::cancel::{CancellationToken, Watcher};
use crate::clock::{self, NEVER};
use crate::context::{self, Context};
use crate::error::{CancelReason, Deadlock, Refused, SubmitErrorKind, TaskError};
use crate::fork;
use crate::pool::Pool;
use crate::shared::Shared;
use crate::slot::SlotRef;
use crate::submit::{Options, Patience, SubmitFuture, Wanted, submit_planned};
use crate::sync::Arc;
use crate::task::WithContext;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::marker::PhantomData;
use std::panic::Location;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};
use table::{Flight, Rules, Step, Table};

/// Why a caller of a [`SingleFlight`] has no value.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FlightError<E> {
    /// The run ended without a value: every caller is told so.
    #[error(transparent)]
    Task(TaskError<E>),
    /// This caller was to start the run, and the pool did not accept it. The others try for themselves.
    #[error(transparent)]
    Refused(Refused),
    /// This caller's deadline passed; the run goes on if there are others.
    #[error("the caller's deadline passed before the run had ended")]
    DeadlineExceeded,
    /// This caller was cancelled; the run goes on if there are others.
    #[error("the caller was cancelled ({0}) before the run had ended")]
    Cancelled(CancelReason),
    /// The wait, made by a callback, could never have ended.
    #[error(transparent)]
    WouldDeadlock(Box<Deadlock>),
}

impl<E> fmt::Debug for FlightError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FlightError::Task(error) => f.debug_tuple("Task").field(error).finish(),
            FlightError::Refused(refused) => f.debug_tuple("Refused").field(refused).finish(),
            FlightError::DeadlineExceeded => f.write_str("DeadlineExceeded"),
            FlightError::WouldDeadlock(deadlock) => f.debug_tuple("WouldDeadlock").field(deadlock).finish(),
            FlightError::Cancelled(reason) => f.debug_tuple("Cancelled").field(reason).finish(),
        }
    }
}

/// One run a key: callers that come while it is under way get its answer, each a clone of it.
///
/// * The run is a task of the pool, with the options that were given [here](SingleFlight::with), not those of a caller: it
///   inherits neither token nor deadline. Each caller has a deadline and a token of its own, which end its wait only. The run
///   is cancelled, with reason `caller_left`, when the last caller has left.
/// * A run that panics, is cancelled, shed, or runs into its deadline is followed by another, with the callback of a caller that
///   is still there, at most [`handovers`](SingleFlight::handovers) times; then its error is the answer for all. A run
///   that fails is an answer, unless [told otherwise](SingleFlight::retry_failed).
/// * If the pool does not accept the run, the caller that would have started it is told, and another tries.
/// * Nothing is kept of a key once its answer is there: the next caller starts a new run.
///
/// Cheap to clone; every clone shares the same flights. All functions may be called from any thread.
///
/// ```
/// # let pool = duly::Pool::builder().workers(2).build()?;
/// let flight = duly::SingleFlight::<String, u64>::new(&pool);
/// let answer = flight.run("the answer".into(), |_| Ok(42))?;
/// assert_eq!(answer, 42);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub struct SingleFlight<K, V, E = Infallible> {
    table: Arc<Table<K, V, E>>,
    shared: Arc<Shared>,
    wanted: Wanted,
    rules: Rules,
}

impl<K, V, E> SingleFlight<K, V, E>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
{
    /// Runs go to this pool.
    pub fn new(pool: &Pool) -> Self {
        Self::with(&pool.options())
    }

    /// Runs go to the options' pool, with these options: label, timeout, token, queue, …
    pub fn with(options: &Options<'_>) -> Self {
        let mut wanted = options.wanted.clone();
        wanted.detached = true;
        SingleFlight {
            table: Arc::new(Table::new()),
            shared: options.pool.shared().clone(),
            wanted,
            rules: Rules {
                handovers: 3,
                retry_failed: false,
            },
        }
    }

    /// How often a run that ended badly is followed by another. Default: 3.
    pub fn handovers(mut self, times: usize) -> Self {
        self.rules.handovers = times;
        self
    }

    /// Whether a run that fails is followed by another as well, instead of its error being the answer. Default: no.
    pub fn retry_failed(mut self, yes: bool) -> Self {
        self.rules.retry_failed = yes;
        self
    }

    /// How many keys are in flight.
    pub fn len(&self) -> usize {
        if self.shared.is_inherited() {
            return 0;
        }
        self.table.len()
    }

    /// How many callers wait for an answer, of all keys. One that was answered may be counted for a moment longer.
    pub fn callers(&self) -> usize {
        if self.shared.is_inherited() {
            return 0;
        }
        self.table.callers()
    }

    /// Whether no key is in flight.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Blocks until the key's answer is there; starts a run with `callback` if there is none.
    ///
    /// Inside a callback of a pool, the wait ends with that one's deadline and cancellation.
    #[track_caller]
    pub fn run<F>(&self, key: K, callback: F) -> Result<V, FlightError<E>>
    where
        F: FnOnce(&Context) -> Result<V, E> + Send + 'static,
    {
        self.call(key).run(callback)
    }

    /// [`run`](Self::run) without holding a thread. Dropping the future leaves the flight.
    #[track_caller]
    pub fn run_async<F>(&self, key: K, callback: F) -> Flying<K, V, E, F>
    where
        F: FnOnce(&Context) -> Result<V, E> + Send + 'static,
    {
        self.call(key).run_async(callback)
    }

    /// The same with options of the caller's own.
    pub fn call(&self, key: K) -> Call<'_, K, V, E> {
        let inherited = context::inherited();
        Call {
            flight: self,
            key,
            until: inherited.as_ref().map_or(NEVER, |inherited| inherited.due),
            token: inherited.map(|inherited| inherited.token),
        }
    }
}

/// One call of a [`SingleFlight`], with options: made by [`SingleFlight::call`].
#[must_use = "a call does nothing until it is run"]
pub struct Call<'f, K, V, E> {
    flight: &'f SingleFlight<K, V, E>,
    key: K,
    until: u64,
    token: Option<CancellationToken>,
}

impl<K, V, E> Call<'_, K, V, E>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
{
    /// This caller waits for at most `timeout` from now.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.until = self.until.min(clock::after(timeout));
        self
    }

    /// This caller waits until `deadline` at most.
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.until = self.until.min(clock::of(deadline));
        self
    }

    /// This caller leaves when `token` is cancelled (instead of the token of the callback it runs in, if any).
    pub fn token(mut self, token: &CancellationToken) -> Self {
        self.token = Some(token.clone());
        self
    }

    /// As [`SingleFlight::run`].
    #[track_caller]
    pub fn run<F>(self, callback: F) -> Result<V, FlightError<E>>
    where
        F: FnOnce(&Context) -> Result<V, E> + Send + 'static,
    {
        let mut flying = self.run_async(callback);
        flying.alarms = false;
        flying.blocks = flying.until == NEVER && context::inside_any();
        let until = flying.until;
        match block::drive(
            until,
            &mut flying,
            |flying, cx| Pin::new(flying).poll(cx),
            Flying::awaited,
        ) {
            Ok(Some(answer)) => answer,
            Ok(None) => Err(FlightError::DeadlineExceeded),
            Err(deadlock) => Err(FlightError::WouldDeadlock(deadlock)),
        }
    }

    /// As [`SingleFlight::run_async`].
    #[track_caller]
    pub fn run_async<F>(self, callback: F) -> Flying<K, V, E, F>
    where
        F: FnOnce(&Context) -> Result<V, E> + Send + 'static,
    {
        let token_until = self.token.as_ref().map_or(NEVER, CancellationToken::deadline_nanos);
        Flying {
            table: self.flight.table.clone(),
            shared: self.flight.shared.clone(),
            wanted: self.flight.wanted.clone(),
            rules: self.flight.rules,
            at: At::Outside(self.key),
            callback: Some(callback),
            until: self.until.min(token_until),
            token: self.token,
            watch: None,
            waiter: None,
            alarm: None,
            alarms: true,
            blocks: false,
            site: Location::caller(),
        }
    }
}

/// Future of [`SingleFlight::run_async`]. Dropping it leaves the flight; the run is cancelled if this was the last caller.
#[must_use = "futures do nothing unless polled"]
pub struct Flying<K, V, E, F>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
    F: FnOnce(&Context) -> Result<V, E> + Send + 'static,
{
    table: Arc<Table<K, V, E>>,
    shared: Arc<Shared>,
    wanted: Wanted,
    rules: Rules,
    at: At<K, V, E, F>,
    callback: Option<F>,
    until: u64,
    token: Option<CancellationToken>,
    watch: Option<usize>,
    waiter: Option<u64>,
    alarm: Option<Alarm>,
    alarms: bool,
    /// Submits as a callback that waits does, so that a wait for room is known to stand in for.
    blocks: bool,
    site: &'static Location<'static>,
}

/// Where a caller is.
#[expect(
    clippy::large_enum_variant,
    reason = "one a caller, on its stack: a box would be an allocation a call"
)]
enum At<K, V, E, F>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
    F: FnOnce(&Context) -> Result<V, E> + Send + 'static,
{
    Outside(K),
    Waiting(Arc<Flight<K, V, E>>),
    Leading(Arc<Flight<K, V, E>>, SubmitFuture<F, V, E>),
    Gone,
}

impl<K, V, E, F> Flying<K, V, E, F>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
    F: FnOnce(&Context) -> Result<V, E> + Send + 'static,
{
    /// Leaves the flight, whatever for.
    fn leave(&mut self) {
        if self.shared.is_inherited() {
            fork::keep(&self.shared);
            std::mem::forget(std::mem::replace(&mut self.at, At::Gone));
            return;
        }
        self.alarm = None;
        if let (Some(token), Some(key)) = (&self.token, self.watch.take()) {
            token.unwatch(key);
        }
        let flight = match std::mem::replace(&mut self.at, At::Gone) {
            At::Outside(_) | At::Gone => return,
            At::Waiting(flight) => flight,
            At::Leading(flight, submit) => {
                // The callback goes with it.
                drop(submit);
                flight.lead_no_more(&self.table);
                flight
            }
        };
        if let Some(key) = self.waiter.take() {
            flight.forget(key);
        }
        flight.leave(&self.table, self.callback.is_some());
    }

    /// The run that it waits for.
    fn awaited(&self) -> Vec<SlotRef> {
        match &self.at {
            At::Waiting(flight) => flight.awaited(),
            _ => Vec::new(),
        }
    }

    /// Why this caller should leave.
    fn over(&self) -> Option<FlightError<E>> {
        if let Some(reason) = self.token.as_ref().and_then(CancellationToken::told) {
            return Some(FlightError::Cancelled(reason));
        }
        (self.until != NEVER && clock::now() >= self.until).then_some(FlightError::DeadlineExceeded)
    }

    /// The token and the clock wake this caller.
    fn watch(&mut self, cx: &mut std::task::Context<'_>) {
        if let Some(token) = &self.token {
            if let Some(key) = self.watch.take() {
                token.unwatch(key);
            }
            self.watch = token.watch(Watcher::Waker(cx.waker().clone())).ok();
        }
        if self.alarms {
            self.alarm = Alarm::at(self.until, cx.waker());
        }
    }

    /// Everything but the exits.
    fn step(&mut self, may_lead: bool, cx: &mut std::task::Context<'_>) -> Poll<Result<V, FlightError<E>>> {
        loop {
            match std::mem::replace(&mut self.at, At::Gone) {
                At::Outside(key) => self.at = At::Waiting(self.table.join(key)),
                At::Leading(flight, mut submit) => match Pin::new(&mut submit).poll(cx) {
                    Poll::Pending => {
                        self.at = At::Leading(flight, submit);
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok(task)) => {
                        flight.runs(task);
                        self.at = At::Waiting(flight);
                    }
                    Poll::Ready(Err(refused)) => {
                        flight.lead_no_more(&self.table);
                        self.at = At::Waiting(flight);
                        return Poll::Ready(Err(FlightError::Refused(refused.erase())));
                    }
                },
                At::Waiting(flight) => {
                    if let Some(key) = self.waiter.take() {
                        flight.forget(key);
                    }
                    let fresh = may_lead && self.callback.is_some();
                    let (step, key) = flight.step(&self.table, &self.shared, self.rules, fresh, cx.waker());
                    self.waiter = key;
                    match (step, self.callback.take()) {
                        (Step::Lead, Some(callback)) => {
                            let carried = self.shared.capture();
                            if self.blocks {
                                let terms = self.wanted.terms(&self.shared);
                                let plan = self.wanted.with(&terms);
                                let (callback, patience) = (WithContext(callback, PhantomData), Patience::Wait);
                                match submit_planned(&self.shared, plan, callback, carried, patience, self.site) {
                                    Ok(task) => flight.runs(task),
                                    Err((refused, _)) => {
                                        flight.lead_no_more(&self.table);
                                        self.at = At::Waiting(flight);
                                        return Poll::Ready(Err(FlightError::Refused(refused)));
                                    }
                                }
                                self.at = At::Waiting(flight);
                                continue;
                            }
                            let kept = self.wanted.keep(&self.shared);
                            let submit = SubmitFuture::planned(&self.shared, kept, callback, carried, self.site);
                            self.at = At::Leading(flight, submit);
                        }
                        (Step::Done(answer), callback) => {
                            self.callback = callback;
                            self.at = At::Waiting(flight);
                            let answer = Arc::try_unwrap(answer).unwrap_or_else(|shared| (*shared).clone());
                            return Poll::Ready(answer.map_err(FlightError::Task));
                        }
                        (_, callback) => {
                            self.callback = callback;
                            self.at = At::Waiting(flight);
                            return Poll::Pending;
                        }
                    }
                }
                At::Gone => panic!("duly: a single flight's future was polled after it had completed"),
            }
        }
    }
}

impl<K, V, E, F> Unpin for Flying<K, V, E, F>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
    F: FnOnce(&Context) -> Result<V, E> + Send + 'static,
{
}

impl<K, V, E, F> Future for Flying<K, V, E, F>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
    F: FnOnce(&Context) -> Result<V, E> + Send + 'static,
{
    type Output = Result<V, FlightError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if this.shared.is_inherited() {
            // In a forked child: the run is the parent's.
            this.leave();
            let name = this.wanted.name::<F>(this.site);
            return Poll::Ready(Err(FlightError::Refused(Refused::new(SubmitErrorKind::ShutDown, name))));
        }
        // The watches first, then the look: what comes between wakes us. An answer that is there counts more than an exit.
        this.watch(cx);
        let over = this.over();
        if over.is_some() && matches!(this.at, At::Outside(_)) {
            this.leave();
            return Poll::Ready(Err(over.unwrap_or(FlightError::DeadlineExceeded)));
        }
        match this.step(over.is_none(), cx) {
            Poll::Ready(answer) => {
                this.leave();
                Poll::Ready(answer)
            }
            Poll::Pending => match over {
                Some(error) => {
                    this.leave();
                    Poll::Ready(Err(error))
                }
                None => Poll::Pending,
            },
        }
    }
}

impl<K, V, E, F> Drop for Flying<K, V, E, F>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
    F: FnOnce(&Context) -> Result<V, E> + Send + 'static,
{
    fn drop(&mut self) {
        self.leave();
    }
}

impl<K, V, E> Clone for SingleFlight<K, V, E> {
    fn clone(&self) -> Self {
        SingleFlight {
            table: self.table.clone(),
            shared: self.shared.clone(),
            wanted: self.wanted.clone(),
            rules: self.rules,
        }
    }
}

impl<K, V, E> fmt::Debug for SingleFlight<K, V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SingleFlight")
            .field("in_flight", &(!self.shared.is_inherited()).then(|| self.table.len()))
            .finish_non_exhaustive()
    }
}

impl<K, V, E> fmt::Debug for Call<'_, K, V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("flight", &self.flight)
            .finish_non_exhaustive()
    }
}

impl<K, V, E, F> fmt::Debug for Flying<K, V, E, F>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
    F: FnOnce(&Context) -> Result<V, E> + Send + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flying")
            .field("leads", &matches!(self.at, At::Leading(..)))
            .finish_non_exhaustive()
    }
}
