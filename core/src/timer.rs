//! The thread that keeps deadlines. It runs no user code, so nothing a callback does can delay an answer (P2).
//!
//! Registering a timer at submit would cost more than the task. So a submit only makes sure that a check is
//! planned soon enough (`next_check`), and the check finds the tasks that are still there: in the queue, or in a
//! worker's `current`. Those due are ended; the others enter the wheel. A task that ends before its first check
//! has cost nothing.
//!
//! Invariants:
//! 1. A producer pushes, then reads `next_check`; the thread stores "none planned", then looks for tasks. Full
//!    fences between: so the producer plans a check, or the thread sees the task.
//! 2. A check looks at the queue first and at the workers second; a task moves the other way under the queue's
//!    lock. So none is missed.
//! 3. A task enters the wheel first and is marked TIMED second; if that shows that it is ending, it is taken out
//!    again. Whoever ends a task marked TIMED takes it out. A task's `node` and the wheel change under the lock.
//! 4. A task in the wheel fires at its due millisecond, rounded up: never early. A delayed task stands there from its submit
//!    on, first for its start or its deadline, whichever comes first, then for its deadline.
//!
//! Lock order: the timer's lock is a leaf. What fires is ended after it is let go.

use crate::clock::{self, MS, Millis, NEVER, NO_MILLIS};
use crate::end;
use crate::error::Outcome;
use crate::shared::Shared;
use crate::slot::{self, LINKED, MAX_NODES, Slot, SlotRef, TIMED};
use crate::sync::{Arc, AtomicU64, Condvar, Mutex, MutexGuard, Ordering, full_fence};
use crate::wheel::Wheel;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long after its submit a task is looked at, at the latest. Shorter deadlines are checked when due.
const CHECK_WITHIN: u64 = 10 * MS;

/// What a [`Slot::node`] is while not in the wheel.
const NO_NODE: usize = MAX_NODES;

/// What else the thread does at a given time.
pub(crate) enum Event {
    /// Look for workers whose task has ended while they are still in user code.
    Overdue,
    /// Look whether the pool's end has been reached, or its drain deadline.
    Progress,
    /// Look whether the delivery thread is stuck.
    Delivery,
    /// A worker could not be created: try again.
    Worker,
    /// A delayed task for which the wheel had no place.
    Start(SlotRef),
    /// Show that this thread moves.
    #[cfg(feature = "systemd")]
    Beat,
    /// Something whose time comes again and again.
    Tick(Arc<dyn Ticking>),
}

/// Where an event stands.
pub(crate) type EventKey = (u64, u64);

/// What wants to be told when its time has come. Called on the timer thread: it runs no user code and never blocks.
pub(crate) trait Ticking: Send + Sync {
    /// The time it was planned for has come.
    fn tick(self: Arc<Self>, shared: &Arc<Shared>);

    /// The pool has been closed; it was planned for a time to come.
    fn closed(self: Arc<Self>, shared: &Arc<Shared>);
}

pub(crate) struct Timer {
    /// When the next check is planned; [`NEVER`] for none.
    next_check: AtomicU64,
    inner: Mutex<Inner>,
    changed: Condvar,
}

struct Inner {
    wheel: Wheel<SlotRef>,
    events: BTreeMap<EventKey, Event>,
    next: u64,
}

impl Timer {
    pub(crate) fn new() -> Timer {
        Timer {
            next_check: AtomicU64::new(NEVER),
            inner: Mutex::new(Inner {
                wheel: Wheel::new(clock::now() / MS),
                events: BTreeMap::new(),
                next: 0,
            }),
            changed: Condvar::new(),
        }
    }

    /// After a task due at `due` (nanoseconds) was made visible at about `now`, and a full fence (invariant 1).
    #[inline]
    pub(crate) fn arm(&self, due: u64, now: u64) {
        let check = due.min(now + CHECK_WITHIN);
        if self.next_check.load(Ordering::Relaxed) > check {
            self.plan(check);
        }
    }

    #[cold]
    fn plan(&self, check: u64) {
        let _inner = self.inner.lock();
        if self.next_check.load(Ordering::Relaxed) > check {
            self.next_check.store(check, Ordering::SeqCst);
            self.changed.notify_one();
        }
    }

    /// Plans an event; the key takes it back.
    pub(crate) fn at(&self, time: u64, event: Event) -> Option<EventKey> {
        if time == NEVER {
            return None;
        }
        let mut inner = self.inner.lock();
        let key = (time, inner.next);
        inner.next += 1;
        inner.events.insert(key, event);
        if inner.events.keys().next() == Some(&key) {
            self.changed.notify_one();
        }
        Some(key)
    }

    /// Takes back an event, if it has not come.
    pub(crate) fn forget(&self, key: EventKey) -> Option<Event> {
        self.inner.lock().events.remove(&key)
    }

    /// The pool is closed: nothing ticks any more.
    fn take_ticks(&self) -> Vec<Arc<dyn Ticking>> {
        let mut ticks = Vec::new();
        self.inner.lock().events.retain(|_, event| match event {
            Event::Tick(tick) => {
                ticks.push(tick.clone());
                false
            }
            _ => true,
        });
        ticks
    }

    /// Takes an ending task out of the wheel, if it is there.
    pub(crate) fn remove(&self, task: &Slot) {
        let gone = {
            let mut inner = self.inner.lock();
            let node = task.node();
            if node == NO_NODE {
                return;
            }
            task.set_node(NO_NODE);
            inner.wheel.remove(node)
        };
        drop(gone);
    }

    /// Puts a living task into the wheel.
    fn register(&self, task: &SlotRef) {
        let inner = self.inner.lock();
        if task.load() & TIMED == 0 && inner.wheel.len() < MAX_NODES {
            self.enter(inner, task, task.due());
        }
    }

    /// A task that was queued is not to be started before `start`: it fires then, or at its deadline if that is earlier.
    pub(crate) fn delay(&self, task: &SlotRef, start: Millis) {
        let mut inner = self.inner.lock();
        // A check may have entered it for its deadline.
        let entered = (task.load() & TIMED != 0)
            .then(|| task.node())
            .filter(|node| *node != NO_NODE);
        let before = entered.and_then(|node| inner.wheel.remove(node));
        let at = start.min(task.due());
        if inner.wheel.len() < MAX_NODES {
            self.enter(inner, task, at);
        } else {
            task.set_node(NO_NODE);
            let key = (clock::of_millis(at), inner.next);
            inner.next += 1;
            inner.events.insert(key, Event::Start(task.clone()));
            self.changed.notify_one();
        }
        drop(before);
    }

    /// Its time has come: from now on it is its deadline that counts.
    fn started(&self, task: &SlotRef) {
        let inner = self.inner.lock();
        if task.due() != NO_MILLIS && inner.wheel.len() < MAX_NODES {
            self.enter(inner, task, task.due());
        }
    }

    /// Puts a task into the wheel (invariant 3).
    fn enter(&self, mut inner: MutexGuard<'_, Inner>, task: &SlotRef, at: Millis) {
        let next = inner.wheel.next();
        let node = inner.wheel.insert(at, task.clone());
        task.set_node(node);
        let word = task.set(TIMED);
        if inner.wheel.next() < next || next.is_none() {
            self.changed.notify_one();
        }
        drop(inner);
        if slot::ended(word) || slot::state(word) == slot::FINISHING {
            self.remove(task);
        }
    }

    /// The tasks that are not to be started until after `time`.
    pub(crate) fn starting_after(&self, time: u64) -> Vec<SlotRef> {
        let inner = self.inner.lock();
        // What stands there for its deadline fires at that.
        let delayed = |at: Millis, task: &SlotRef| at != task.due() || at == NO_MILLIS;
        let late = |at, task: &SlotRef| clock::of_millis(at) > time && delayed(at, task);
        let found = inner.wheel.iter().filter(|(at, task)| late(*at, task));
        found.map(|(_, task)| task.clone()).collect()
    }

    fn sleep<'a>(&'a self, inner: MutexGuard<'a, Inner>, now: u64) -> MutexGuard<'a, Inner> {
        let mut until = self.next_check.load(Ordering::Relaxed);
        if let Some(next) = inner.wheel.next() {
            until = until.min(next * MS);
        }
        if let Some(&(time, _)) = inner.events.keys().next() {
            until = until.min(time);
        }
        if until == NEVER {
            self.changed.wait(inner)
        } else if until > now {
            self.changed.wait_timeout(inner, Duration::from_nanos(until - now))
        } else {
            inner
        }
    }
}

#[cfg(all(test, loom))]
impl Timer {
    /// Tasks in the wheel.
    pub(crate) fn in_wheel(&self) -> usize {
        self.inner.lock().wheel.len()
    }

    pub(crate) fn is_planned(&self) -> bool {
        self.next_check.load(Ordering::Relaxed) != NEVER
    }

    /// What the thread does when it wakes.
    pub(crate) fn turn(&self, shared: &Arc<Shared>) {
        let mut due = Due::default();
        if due.take(self, &mut self.inner.lock(), clock::now()) {
            due.act(shared);
        }
    }
}

/// What has come due.
#[derive(Default)]
struct Due {
    tasks: Vec<SlotRef>,
    events: Vec<Event>,
    ticks: Vec<Arc<dyn Ticking>>,
    check: bool,
}

impl Due {
    /// Takes out what is due at `now`: false if nothing is.
    fn take(&mut self, timer: &Timer, inner: &mut Inner, now: u64) -> bool {
        inner.wheel.advance(now / MS, |task| {
            task.set_node(NO_NODE);
            self.tasks.push(task);
        });
        while let Some((&key, _)) = inner.events.first_key_value() {
            if key.0 > now {
                break;
            }
            match inner.events.remove(&key) {
                Some(Event::Tick(tick)) => self.ticks.push(tick),
                event => self.events.extend(event),
            }
        }
        self.check = timer.next_check.load(Ordering::Relaxed) <= now;
        if self.check {
            // Invariant 1: first this, then look.
            timer.next_check.store(NEVER, Ordering::SeqCst);
        }
        self.check || !self.tasks.is_empty() || !self.events.is_empty() || !self.ticks.is_empty()
    }

    /// Does it. True when the pool's end has been reached.
    fn act(&mut self, shared: &Arc<Shared>) -> bool {
        for task in self.tasks.drain(..) {
            fire(shared, task);
        }
        if self.check {
            full_fence();
            look_for_deadlines(shared);
        }
        // First what ticks: after the pool's end nothing is done any more.
        for tick in self.ticks.drain(..) {
            tick.tick(shared);
        }
        for event in self.events.drain(..) {
            match event {
                Event::Overdue => shared.look_for_overdue(),
                Event::Delivery => shared.check_delivery(),
                Event::Worker => shared.retry_worker(),
                Event::Start(task) => fire(shared, task),
                #[cfg(feature = "systemd")]
                Event::Beat => shared.beat(),
                Event::Tick(tick) => tick.tick(shared),
                Event::Progress => {
                    if shared.queue.is_closed() {
                        for tick in shared.timer.take_ticks() {
                            tick.closed(shared);
                        }
                    }
                    if shared.check_progress() {
                        shared.finish();
                        return true;
                    }
                }
            }
        }
        false
    }
}

/// The thread's loop; ends when the pool's end has been reached.
pub(crate) fn run(shared: &Arc<Shared>) {
    let timer = &shared.timer;
    let mut due = Due::default();
    let mut inner = timer.inner.lock();
    loop {
        let now = clock::now();
        if !due.take(timer, &mut inner, now) {
            inner = timer.sleep(inner, now);
            continue;
        }
        drop(inner);
        if due.act(shared) {
            return;
        }
        inner = timer.inner.lock();
    }
}

/// The time of a task has come: its deadline, or else its start.
fn fire(shared: &Arc<Shared>, task: SlotRef) {
    if clock::of_millis(task.due()) <= clock::now() {
        end::end(&task, Outcome::DeadlineExceeded, None);
    } else {
        shared.timer.started(&task);
        shared.start(&task);
    }
    shared.let_go(task);
}

/// Ends what is due, and enters into the wheel what is not: all tasks with a deadline not looked at before.
pub(crate) fn look_for_deadlines(shared: &Arc<Shared>) {
    let mut found: Vec<SlotRef> = Vec::new();
    shared.each_lane(|lane| {
        while lane.sweep_new(&mut found, |task| task.due() != NO_MILLIS) {
            settle(shared, &mut found);
        }
        settle(shared, &mut found);
    });
    found.extend(shared.find_running().into_iter().map(|(task, _)| task));
    settle(shared, &mut found);
}

fn settle(shared: &Arc<Shared>, found: &mut Vec<SlotRef>) {
    if found.is_empty() {
        return;
    }
    let now = clock::now();
    for task in found.drain(..) {
        if task.due() == NO_MILLIS {
        } else if clock::of_millis(task.due()) <= now {
            end::end(&task, Outcome::DeadlineExceeded, None);
        } else if task.load() & TIMED == 0 {
            shared.timer.register(&task);
        }
        shared.let_go(task);
    }
}

/// Takes an ending task off the lists its word says it is on. Called by its winner.
#[inline]
pub(crate) fn leave_lists(shared: &Shared, task: &Slot) {
    let word = task.load();
    if word & TIMED != 0 {
        shared.timer.remove(task);
    }
    if word & LINKED != 0 {
        end::unlink(task);
    }
}
