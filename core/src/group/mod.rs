//! Groups: tasks that belong together, under one token.
//!
//! Invariants:
//! 1. A member is *in flight* from the moment its submit got a place in the group until it has its outcome. At most `limit`
//!    are; whoever wants more stands in line, in order of arrival.
//! 2. Each member is watched by one waker, which takes its answer, counts it and lets go of the member: an ended member
//!    leaves its error, its value if values are kept, and nothing else.
//! 3. The first outcome that makes the group fail sets `failed` and cancels the token, once. What that cancels is counted
//!    apart. No member is accepted after it, nor after a wait has seen the group finished.
//! 4. Who sees the group finished sees the answers of all its members. What nobody has taken when the group's handle goes is
//!    dropped there; a failure among it is reported as one that nobody looked at.
//!
//! Locks: the state's lock is a leaf; answers are taken, dropped, and wakers woken outside of it.

mod builder;
mod error;
mod submit;
mod wait;

pub use builder::GroupBuilder;
pub use error::{GroupError, Member, MemberError};
pub use submit::{GroupSubmit, Members};
pub use wait::GroupWait;

use crate::block;
use crate::cancel::CancellationToken;
use crate::clock::{self, NEVER};
use crate::error::{CancelReason, Deadlock, Outcome, TaskError, WaitError};
use crate::fork;
use crate::name::{Label, TaskName};
use crate::select;
use crate::shared::Shared;
use crate::slot::{self, SlotRef, Unobserved as _};
use crate::submit::Wanted;
use crate::sync::{Arc, Mutex};
use crate::task::Task;
use error::{Counts, Told};
use slab::Slab;
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::fmt;
use std::future::IntoFuture;
use std::task::{Wake, Waker};
use std::time::Duration;

pub(crate) struct Inner<T, E> {
    name: Label,
    shared: Arc<Shared>,
    wanted: Wanted,
    token: CancellationToken,
    limit: usize,
    /// Which outcomes make the group fail.
    fails_on: [bool; Outcome::ALL.len()],
    keep_errors: usize,
    keep_values: bool,
    state: Mutex<State<T, E>>,
}

struct State<T, E> {
    in_flight: usize,
    accepted: usize,
    members: Slab<(usize, Task<T, E>)>,
    counts: Counts,
    failed: bool,
    finished: bool,
    /// The group's handle is gone.
    deserted: bool,
    first: Option<(usize, TaskName, Outcome)>,
    /// Answers that nobody has taken: the errors, and the values if they are kept; in order of ending.
    answers: VecDeque<Member<T, E>>,
    errors_kept: usize,
    errors_dropped: u64,
    /// Who waits for a place, in order of arrival.
    /// Who has been woken leaves its waker again.
    line: BTreeMap<u64, Option<Waker>>,
    last_key: u64,
    /// Who waits for the end, and who for the next answer.
    waiters: [Vec<(u64, Waker)>; 2],
}

/// The waker of one member.
struct Watch<T: Send + 'static, E: Send + 'static> {
    group: Arc<Inner<T, E>>,
    key: usize,
}

impl<T: Send + 'static, E: Send + 'static> Wake for Watch<T, E> {
    fn wake(self: Arc<Self>) {
        self.group.ended(self.key);
    }
}

impl<T: Send + 'static, E: Send + 'static> Inner<T, E> {
    /// A member has been accepted: it has its place already.
    fn accepted(self: &Arc<Self>, task: &Task<T, E>) {
        let key = {
            let mut state = self.state.lock();
            let index = state.accepted;
            state.accepted += 1;
            state.members.insert((index, task.clone()))
        };
        let group = self.clone();
        select::watch(&task.slot(), Waker::from(Arc::new(Watch { group, key })));
    }

    /// A member has its outcome. On the thread that ended it, which may be the timer: values, whose destructors are user
    /// code, exist only where a worker ended it.
    fn ended(&self, key: usize) {
        let ((index, task), deserted) = {
            let mut state = self.state.lock();
            (state.members.remove(key), state.deserted)
        };
        let outcome = slot::outcome(task.slot().load()).unwrap_or(Outcome::Abandoned);
        // What nobody can take any more stays with the task, which tells of a failure that nobody looked at.
        let wanted = !deserted && (outcome != Outcome::Succeeded || self.keep_values);
        let answer = wanted.then(|| Member {
            index,
            name: task.name(),
            result: task.take(),
        });
        slot::guard("the destructor of a member's value", || drop(task));
        let (fails, over, wakers) = {
            let mut state = self.state.lock();
            state.in_flight -= 1;
            state.counts.by[outcome as usize] += 1;
            let collateral = outcome == Outcome::Cancelled && state.failed;
            if collateral {
                state.counts.cancelled_by_group += 1;
            }
            let fails = self.fails_on[outcome as usize] && !state.failed;
            state.failed |= fails;
            let over = answer.and_then(|answer| state.keep(answer, outcome, collateral, self.keep_errors));
            (fails, over, state.left(self.limit))
        };
        slot::guard("the destructor of a member's answer", || {
            if let Some((over, true)) = over {
                self.report(&over);
            }
        });
        if fails {
            let text = format!("a member of group `{}` {outcome}", self.name);
            // Perhaps on the timer thread, where the last reference of a task must not be dropped.
            for told in self.token.cancel_and_keep(CancelReason::from(text)) {
                self.shared.let_go(told);
            }
        }
        wakers.into_iter().for_each(slot::wake);
    }

    /// Tells of a failure that nobody looks at.
    fn report(&self, answer: &Member<T, E>) {
        let (outcome, message) = match &answer.result {
            Err(TaskError::Failed(_)) => (Outcome::Failed, None),
            Err(TaskError::Panicked(panic)) => (Outcome::Panicked, Some(panic.message().to_owned())),
            _ => return,
        };
        self.shared.reporter.report(answer.name.clone(), outcome, message);
    }

    /// A place that is given back unused.
    fn leave(&self) {
        if self.is_inherited() {
            return;
        }
        let wakers = {
            let mut state = self.state.lock();
            state.in_flight -= 1;
            state.left(self.limit)
        };
        wakers.into_iter().for_each(slot::wake);
    }

    /// Whether this is a forked child, and the group its parent's: its members are abandoned, its lock is not touched.
    fn is_inherited(&self) -> bool {
        self.shared.is_inherited()
    }

    /// The members that have not ended: none, if somebody is about to submit another, for what that does is not known.
    fn awaited(&self) -> Vec<SlotRef> {
        let state = self.state.lock();
        if state.members.len() < state.in_flight {
            return Vec::new();
        }
        state
            .members
            .iter()
            .map(|(_, (_, task))| (*task.slot()).clone())
            .collect()
    }

    /// What a wait says that could never end.
    fn would_deadlock(&self, deadlock: Box<Deadlock>) -> GroupError<E> {
        let state = self.state.lock();
        GroupError(Box::new(Told {
            group: self.name.to_string(),
            counts: state.counts,
            first: state.first.clone(),
            errors: Vec::new(),
            dropped: 0,
            deadlock: Some(deadlock),
        }))
    }

    /// What a wait for the end gives, once no member is in flight.
    fn finish(&self) -> Option<Result<(), GroupError<E>>> {
        if self.is_inherited() {
            let name = TaskName::new(Some(self.name.clone()), "a member of the process that forked", None);
            return Some(Err(GroupError(Box::new(Told {
                group: self.name.to_string(),
                counts: Counts::default(),
                first: Some((0, name, Outcome::Abandoned)),
                deadlock: None,
                errors: Vec::new(),
                dropped: 0,
            }))));
        }
        let mut state = self.state.lock();
        if state.in_flight > 0 {
            return None;
        }
        state.finished = true;
        if state.first.is_none() {
            return Some(Ok(()));
        }
        let (errors, values): (VecDeque<_>, VecDeque<_>) =
            state.answers.drain(..).partition(|answer| answer.result.is_err());
        state.answers = values;
        let errors = errors.into_iter().filter_map(|answer| {
            Some(MemberError {
                index: answer.index,
                name: answer.name,
                error: answer.result.err()?,
            })
        });
        Some(Err(GroupError(Box::new(Told {
            group: self.name.to_string(),
            counts: state.counts,
            first: state.first.clone(),
            deadlock: None,
            errors: errors.collect(),
            dropped: state.errors_dropped,
        }))))
    }
}

impl<T, E> State<T, E> {
    /// Keeps an answer. One that is not kept comes back, and whether it has to be told of.
    fn keep(
        &mut self,
        answer: Member<T, E>,
        outcome: Outcome,
        collateral: bool,
        most: usize,
    ) -> Option<(Member<T, E>, bool)> {
        if self.deserted {
            return Some((answer, true));
        }
        if outcome != Outcome::Succeeded {
            if collateral {
                return Some((answer, false));
            }
            if self.first.is_none() {
                self.first = Some((answer.index, answer.name.clone(), outcome));
            }
            if self.errors_kept >= most {
                self.errors_dropped += 1;
                return Some((answer, false));
            }
            self.errors_kept += 1;
        }
        self.answers.push_back(answer);
        None
    }

    /// Who has to look again after a member has left.
    fn left(&mut self, limit: usize) -> Vec<Waker> {
        let [for_end, for_next] = &mut self.waiters;
        let mut woken = std::mem::take(for_next);
        if self.in_flight == 0 {
            woken.append(for_end);
        }
        let mut wakers: Vec<Waker> = woken.into_iter().map(|(_, waker)| waker).collect();
        wakers.extend(self.head(limit));
        wakers
    }

    /// The first in line, if there is a place.
    fn head(&mut self, limit: usize) -> Option<Waker> {
        if self.in_flight >= limit {
            return None;
        }
        self.line.first_entry()?.get_mut().take()
    }

    fn next_key(&mut self) -> u64 {
        self.last_key += 1;
        self.last_key
    }
}

/// Tasks that belong together: they live under one token, and who waits for the group waits for them all.
///
/// * The first member that fails or panics cancels the rest, unless [told otherwise](GroupBuilder::fail_fast).
/// * [`wait_timeout`](Group::wait_timeout) returns in time, also with a member that is stuck.
/// * At most [`limit`](GroupBuilder::limit) members are in flight; a submit waits for a place.
/// * Dropping the group cancels what is left of it, unless it [detaches](GroupBuilder::detach_on_drop). It never blocks.
/// * The group's token is a child of the one its maker runs under, and inherits the deadline.
///
/// An ended member leaves its error and nothing else, so a group may have any number of members. Values stay with the handles
/// that `submit` gives back, or, with [`keep_values`](GroupBuilder::keep_values), with the group. All functions may be called
/// from any thread; share a group by reference or in an `Arc`.
///
/// ```
/// # let pool = duly::Pool::builder().workers(2).build()?;
/// use std::time::Duration;
/// let group = duly::Group::builder(&pool).label("thumbnails").limit(8).build();
/// for page in 0..20 {
///     group.submit(move |ctx| {
///         ctx.check()?; // Err when another member has failed
///         if page < 20 { Ok(()) } else { Err(anyhow::anyhow!("no such page")) }
///     })?;
/// }
/// group.wait_timeout(Duration::from_secs(5)).expect("in time")?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub struct Group<T = (), E = Infallible, const KEEP: bool = false>
where
    T: Send + 'static,
    E: Send + 'static,
{
    inner: Arc<Inner<T, E>>,
    detach: bool,
}

impl<T, E, const KEEP: bool> Group<T, E, KEEP>
where
    T: Send + 'static,
    E: Send + 'static,
{
    /// Blocks until no member is in flight: `Ok` if all have succeeded. From then on the group accepts no more.
    ///
    /// Inside a callback another thread stands in for the worker that waits, or a member is run here and now; a wait that could
    /// never end is an error, which [names](GroupError::deadlock) who waits for whom, and the group goes on.
    /// Members without a deadline take as long as they take: give the group a [timeout](GroupBuilder::timeout), or use
    /// [`wait_timeout`](Self::wait_timeout).
    pub fn wait(&self) -> Result<(), GroupError<E>> {
        let mut wait = self.wait_async();
        match block::drive(
            NEVER,
            &mut wait,
            |wait, cx| wait.poll_end(cx),
            |wait| wait.inner.awaited(),
        ) {
            Ok(Some(end)) => end,
            Ok(None) => unreachable!("there was no limit"),
            Err(deadlock) => Err(self.inner.would_deadlock(deadlock)),
        }
    }

    /// [`wait`](Self::wait) for at most `timeout`. `None`: the wait timed out; the members go on, and more may be submitted.
    pub fn wait_timeout(&self, timeout: Duration) -> Option<Result<(), GroupError<E>>> {
        let until = clock::after(timeout);
        let mut wait = self.wait_async();
        block::drive_until(until, &mut wait, |wait, cx| wait.poll_end(cx))
    }

    /// [`wait`](Self::wait) as a future; the same as `(&group).await`. Dropping it cancels nothing.
    pub fn wait_async(&self) -> GroupWait<'_, T, E> {
        GroupWait {
            inner: &self.inner,
            key: None,
        }
    }

    /// Cancels every member that has not ended. What is submitted from now on is refused.
    pub fn cancel(&self) {
        self.cancel_with(CancelReason::Requested);
    }

    /// [`cancel`](Self::cancel) with a reason.
    pub fn cancel_with(&self, reason: impl Into<CancelReason>) {
        self.inner.token.cancel_with(reason);
    }

    /// The token that the members stand under.
    pub fn token(&self) -> &CancellationToken {
        &self.inner.token
    }

    /// How many members were accepted so far.
    pub fn accepted(&self) -> usize {
        if self.inner.is_inherited() {
            return 0;
        }
        self.inner.state.lock().accepted
    }

    /// How many members have no outcome yet, those included whose submit is under way.
    pub fn in_flight(&self) -> usize {
        if self.inner.is_inherited() {
            return 0;
        }
        self.inner.state.lock().in_flight
    }

    /// How many members ended so.
    pub fn count(&self, outcome: Outcome) -> u64 {
        if self.inner.is_inherited() {
            return 0;
        }
        self.inner.state.lock().counts.by[outcome as usize]
    }
}

impl<T, E> Group<T, E, true>
where
    T: Send + 'static,
    E: Send + 'static,
{
    /// Blocks until another member has ended, and gives its answer; `None` when all that were submitted are through.
    /// An error taken here is not in the [`GroupError`] of a wait.
    ///
    /// # Panics
    /// Inside a callback, when the wait could never end: the message names who waits for whom.
    pub fn next(&self) -> Option<Member<T, E>> {
        let mut wait = self.wait_async();
        block::drive_to_end(&mut wait, |wait, cx| wait.poll_next(cx), |wait| wait.inner.awaited())
    }

    /// [`next`](Self::next), waiting for at most `timeout`.
    pub fn next_timeout(&self, timeout: Duration) -> Result<Option<Member<T, E>>, WaitError> {
        let until = clock::after(timeout);
        let mut wait = self.wait_async();
        block::drive_until(until, &mut wait, |wait, cx| wait.poll_next(cx)).ok_or(WaitError::TimedOut(timeout))
    }

    /// [`next`](Self::next) as a future. Dropping it loses nothing.
    pub async fn next_async(&self) -> Option<Member<T, E>> {
        let mut wait = self.wait_async();
        std::future::poll_fn(|cx| wait.poll_next(cx)).await
    }

    /// The values that are there and were not taken, with the numbers of their members, in the order these were accepted.
    /// Never blocks.
    pub fn take_values(&self) -> Vec<(usize, T)> {
        if self.inner.is_inherited() {
            return Vec::new();
        }
        let taken = {
            let mut state = self.inner.state.lock();
            let (values, errors): (VecDeque<_>, VecDeque<_>) =
                state.answers.drain(..).partition(|answer| answer.result.is_ok());
            state.answers = errors;
            values
        };
        let mut values: Vec<(usize, T)> = taken
            .into_iter()
            .filter_map(|answer| Some((answer.index, answer.result.ok()?)))
            .collect();
        values.sort_unstable_by_key(|(index, _)| *index);
        values
    }
}

impl<T, E, const KEEP: bool> Drop for Group<T, E, KEEP>
where
    T: Send + 'static,
    E: Send + 'static,
{
    fn drop(&mut self) {
        if self.inner.is_inherited() {
            fork::keep(&self.inner);
            return;
        }
        let (answers, finished) = {
            let mut state = self.inner.state.lock();
            state.deserted = true;
            (std::mem::take(&mut state.answers), state.finished)
        };
        answers.iter().for_each(|answer| self.inner.report(answer));
        if !self.detach && !finished {
            self.inner.token.cancel_with(CancelReason::Dropped);
        }
    }
}

impl<'g, T, E, const KEEP: bool> IntoFuture for &'g Group<T, E, KEEP>
where
    T: Send + 'static,
    E: Send + 'static,
{
    type Output = Result<(), GroupError<E>>;
    type IntoFuture = GroupWait<'g, T, E>;

    fn into_future(self) -> GroupWait<'g, T, E> {
        self.wait_async()
    }
}

impl<T, E, const KEEP: bool> fmt::Debug for Group<T, E, KEEP>
where
    T: Send + 'static,
    E: Send + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("label", &self.inner.name)
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}
