//! The keys in flight: which runs there are, and how they end.
//!
//! Invariants:
//! 1. A flight is in the table from its first caller until it has its answer or its last caller has left; then it is *over*,
//!    for good, and the next caller of its key finds none.
//! 2. At most one run of a flight exists: only who moves the phase from `Idle` to `Leading` submits, and it is `Idle` only
//!    when no run has been accepted or the last one has ended.
//! 3. `fresh` callers have a callback that was not used. A flight that is `Idle` after a run that ended badly has one, or it
//!    gets that run's error as its answer: nobody waits for a run that nobody can start.
//! 4. Whoever waits has left its waker before it looked; whoever changes the phase, and the end of a run, wakes all wakers
//!    after. What the end of a run holds is the wakers only: it may be the timer thread, where no key or value must be dropped.
//!
//! Locks: the table's, a flight's and its waiters' are leaves, never held together. Keys are hashed and compared, answers
//! cloned, callbacks, errors and keys dropped outside of them.

use crate::error::{CancelReason, Outcome, TaskError};
use crate::name::TaskName;
use crate::select;
use crate::shared::Shared;
use crate::slot::{self, SlotRef, Unobserved as _};
use crate::sync::{Arc, Mutex};
use crate::task::{Task, TaskResult};
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hash, RandomState};
use std::task::{Wake, Waker};

pub(super) struct Table<K, V, E> {
    hasher: RandomState,
    flights: Mutex<HashMap<u64, Vec<Arc<Flight<K, V, E>>>>>,
}

pub(super) struct Flight<K, V, E> {
    key: K,
    hash: u64,
    waiters: Arc<Waiters>,
    state: Mutex<State<V, E>>,
}

pub(super) type Answer<V, E> = Arc<TaskResult<V, E>>;

pub(super) enum Phase<V, E> {
    /// Nobody leads.
    Idle,
    /// A caller submits its callback.
    Leading,
    Running(Task<V, E>),
    Done(Answer<V, E>),
}

struct State<V, E> {
    phase: Phase<V, E>,
    over: bool,
    callers: usize,
    fresh: usize,
    /// How many runs ended so that another was started.
    handed_over: usize,
    /// What the last run that ended badly said.
    last: Option<TaskError<E>>,
}

/// Who waits for the phase to change, or for the run to end.
#[derive(Default)]
struct Waiters {
    list: Mutex<List>,
}

#[derive(Default)]
struct List {
    wakers: BTreeMap<u64, Waker>,
    last: u64,
}

/// What a caller has to do next.
pub(super) enum Step<V, E> {
    /// Submit its callback.
    Lead,
    /// Wait to be woken.
    Wait,
    Done(Answer<V, E>),
}

/// When a run that ended badly is followed by another.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    pub(super) handovers: usize,
    pub(super) retry_failed: bool,
}

/// A failure that no caller gets to see, because another run follows.
struct Swallowed {
    name: TaskName,
    outcome: Outcome,
    message: Option<String>,
}

/// What came of a run that has ended.
struct Settled<E> {
    swallowed: Option<Swallowed>,
    /// Replaced; its destructor is user code.
    _before: Option<TaskError<E>>,
}

impl Waiters {
    fn add(&self, waker: Waker) -> u64 {
        let mut list = self.list.lock();
        list.last += 1;
        let key = list.last;
        list.wakers.insert(key, waker);
        key
    }

    fn remove(&self, key: u64) {
        let gone = self.list.lock().wakers.remove(&key);
        // A waker's destructor is user code: outside the lock.
        drop(gone);
    }

    fn wake_all(&self) {
        let wakers = std::mem::take(&mut self.list.lock().wakers);
        wakers.into_values().for_each(slot::wake);
    }
}

/// The end of a run.
impl Wake for Waiters {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }
}

impl<K, V, E> Table<K, V, E> {
    pub(super) fn new() -> Self {
        Table {
            hasher: RandomState::new(),
            flights: Mutex::new(HashMap::new()),
        }
    }

    pub(super) fn callers(&self) -> usize {
        let flights: Vec<_> = self.flights.lock().values().flatten().cloned().collect();
        flights.iter().map(|flight| flight.state.lock().callers).sum()
    }

    pub(super) fn len(&self) -> usize {
        self.flights.lock().values().map(Vec::len).sum()
    }

    fn remove(&self, flight: &Arc<Flight<K, V, E>>) {
        let gone = {
            let mut flights = self.flights.lock();
            let Some(bucket) = flights.get_mut(&flight.hash) else {
                return;
            };
            let index = bucket.iter().position(|other| Arc::ptr_eq(other, flight));
            let gone = index.map(|index| bucket.swap_remove(index));
            if bucket.is_empty() {
                flights.remove(&flight.hash);
            }
            gone
        };
        drop(gone);
    }
}

impl<K: Hash + Eq, V, E> Table<K, V, E> {
    /// One more caller of the key's flight.
    pub(super) fn join(&self, key: K) -> Arc<Flight<K, V, E>> {
        let hash = self.hasher.hash_one(&key);
        let mut seen: Vec<Arc<Flight<K, V, E>>> = Vec::new();
        let mut new: Option<Arc<Flight<K, V, E>>> = None;
        let mut key = Some(key);
        loop {
            let found = self.flights.lock().get(&hash).cloned().unwrap_or_default();
            for flight in &found {
                let compared = seen.iter().any(|other| Arc::ptr_eq(other, flight));
                let ours = new.as_ref().map(|new| &new.key).or(key.as_ref());
                if !compared && ours == Some(&flight.key) && flight.join() {
                    return flight.clone();
                }
            }
            seen = found;
            let new = match &new {
                Some(new) => new,
                None => {
                    let Some(key) = key.take() else {
                        unreachable!("the key is here or in the new flight")
                    };
                    new.insert(Arc::new(Flight {
                        key,
                        hash,
                        waiters: Arc::default(),
                        state: Mutex::new(State {
                            phase: Phase::Idle,
                            over: false,
                            callers: 1,
                            fresh: 1,
                            handed_over: 0,
                            last: None,
                        }),
                    }))
                }
            };
            let mut flights = self.flights.lock();
            let bucket = flights.entry(hash).or_default();
            // Another may have come while keys were compared.
            if bucket
                .iter()
                .all(|flight| seen.iter().any(|other| Arc::ptr_eq(other, flight)))
            {
                bucket.push(new.clone());
                return new.clone();
            }
        }
    }
}

impl<K, V, E> Flight<K, V, E> {
    fn join(&self) -> bool {
        let mut state = self.state.lock();
        if !state.over {
            state.callers += 1;
            state.fresh += 1;
        }
        !state.over
    }

    /// Takes a waker out again.
    pub(super) fn forget(&self, key: u64) {
        self.waiters.remove(key);
    }

    /// The run, if there is one.
    pub(super) fn awaited(&self) -> Vec<SlotRef> {
        match &self.state.lock().phase {
            Phase::Running(task) => vec![(*task.slot()).clone()],
            _ => Vec::new(),
        }
    }

    /// What a caller has to do; if it is to wait, its waker is left here, and the key is its.
    pub(super) fn step(
        self: &Arc<Self>,
        table: &Table<K, V, E>,
        shared: &Shared,
        rules: Rules,
        fresh: bool,
        waker: &Waker,
    ) -> (Step<V, E>, Option<u64>) {
        // Invariant 4.
        let key = self.waiters.add(waker.clone());
        let (settled, step, over) = {
            let mut state = self.state.lock();
            let settled = state.settle(rules);
            let step = match &state.phase {
                Phase::Done(answer) => Step::Done(answer.clone()),
                Phase::Idle if fresh => {
                    state.phase = Phase::Leading;
                    state.fresh -= 1;
                    Step::Lead
                }
                _ => Step::Wait,
            };
            let over = settled.is_some() && state.over;
            (settled, step, over)
        };
        let waits = matches!(step, Step::Wait);
        if !waits {
            self.waiters.remove(key);
        }
        if over {
            table.remove(self);
        }
        if let Some(settled) = settled {
            self.waiters.wake_all();
            if let Some(told) = settled.swallowed {
                shared.reporter.report(told.name, told.outcome, told.message);
            }
        }
        (step, waits.then_some(key))
    }

    /// The leader's callback was accepted.
    pub(super) fn runs(&self, task: Task<V, E>) {
        self.state.lock().phase = Phase::Running(task.clone());
        select::watch(&task.slot(), Waker::from(self.waiters.clone()));
    }

    /// The leader did not get its callback accepted, or left before: another may lead.
    pub(super) fn lead_no_more(self: &Arc<Self>, table: &Table<K, V, E>) {
        let over = {
            let mut state = self.state.lock();
            state.phase = Phase::Idle;
            state.end_if_nobody_can_lead()
        };
        if over {
            table.remove(self);
        }
        self.waiters.wake_all();
    }

    /// A caller leaves. The last one takes the run along.
    pub(super) fn leave(self: &Arc<Self>, table: &Table<K, V, E>, fresh: bool) {
        let (run, ended, over) = {
            let mut state = self.state.lock();
            state.callers -= 1;
            if fresh {
                state.fresh -= 1;
            }
            let was_over = state.over;
            let mut run = None;
            let mut ended = false;
            if state.callers == 0 {
                state.over = true;
                if let Phase::Running(task) = &state.phase {
                    run = Some(task.clone());
                }
            } else {
                ended = state.end_if_nobody_can_lead();
            }
            (run, ended, state.over && !was_over)
        };
        if over {
            table.remove(self);
        }
        if ended {
            self.waiters.wake_all();
        }
        if let Some(run) = run {
            run.cancel_with(CancelReason::CallerLeft);
        }
    }
}

impl<V, E> State<V, E> {
    /// Looks whether the run has ended: then the phase has changed.
    fn settle(&mut self, rules: Rules) -> Option<Settled<E>> {
        let Phase::Running(task) = &self.phase else { return None };
        if !slot::ended(task.slot().load()) {
            return None;
        }
        let name = task.name();
        let result = task.take();
        let again = match &result {
            Ok(_) => false,
            Err(TaskError::Failed(_)) => rules.retry_failed,
            Err(_) => true,
        };
        let mut settled = Settled {
            swallowed: None,
            _before: None,
        };
        match result {
            Err(error) if again && self.fresh > 0 && self.handed_over < rules.handovers => {
                let (outcome, message) = match &error {
                    TaskError::Failed(_) => (Some(Outcome::Failed), None),
                    TaskError::Panicked(panic) => (Some(Outcome::Panicked), Some(panic.message().to_owned())),
                    _ => (None, None),
                };
                settled.swallowed = outcome.map(|outcome| Swallowed { name, outcome, message });
                self.handed_over += 1;
                self.phase = Phase::Idle;
                settled._before = self.last.replace(error);
            }
            result => {
                self.phase = Phase::Done(Arc::new(result));
                self.over = true;
            }
        }
        Some(settled)
    }

    /// Invariant 3.
    fn end_if_nobody_can_lead(&mut self) -> bool {
        if !matches!(self.phase, Phase::Idle) || self.fresh > 0 {
            return false;
        }
        let Some(last) = self.last.take() else { return false };
        self.phase = Phase::Done(Arc::new(Err(last)));
        self.over = true;
        true
    }
}
