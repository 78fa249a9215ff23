//! The worker: take, check, run, answer, account; sleep when there is nothing to do.
//!
//! Invariants:
//! 1. `current` names the task from before anyone could miss it (the queue sets it) for as long as user code of the
//!    task runs on this thread. It is clear while the worker answers, which runs none, and before its reference goes.
//! 2. A worker that publishes an outcome and then finds nothing to do has announced that it searches before it
//!    published: the waiter's next submit wakes nobody. It takes that back before it runs user code.
//! 3. A worker ends when the pool is closed and its queue is empty, or when its callback returns after another
//!    thread took its place.

use crate::clock::{self, NO_MILLIS};
use crate::context;
use crate::error::Outcome;
use crate::fork;
use crate::lane::Lane;
use crate::queue::{Queue, Taken};
use crate::registry::Record;
use crate::report::{Late, WorkerInfo};
use crate::shared::Shared;
use crate::slot::{self, Answer, Event, SlotRef};
use crate::sync::{Arc, MODEL, Ordering, Parker, full_fence, full_fence_after_rmw, spin_hint, thread};
use crate::{end, timer};
use std::fmt;
use std::time::Duration;

/// A worker that has not run yet: for a [`spawner`](crate::PoolBuilder::spawner), or for a thread that the
/// host brings ([`Pool::worker`](crate::Pool::worker)).
///
/// Dropped without having run, it is given up; the pool counts one worker less.
pub struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) record: Arc<Record>,
}

impl Worker {
    /// One more worker, unless the pool has as many as it may. `started`: its thread is being created, so it counts
    /// as running from now on.
    pub(crate) fn new(shared: &Arc<Shared>, started: bool) -> Option<Worker> {
        if shared.is_inherited() {
            return None;
        }
        let record = shared.registry.add_worker(shared.workers.load(Ordering::Relaxed))?;
        record.running.store(started, Ordering::Release);
        Some(Worker {
            shared: shared.clone(),
            record,
        })
    }

    /// Which pool, and which worker of it.
    pub fn info(&self) -> WorkerInfo {
        WorkerInfo {
            pool: self.shared.config.name.clone(),
            index: self.record.index,
        }
    }

    /// A name for its thread, of at most 15 bytes.
    pub fn thread_name(&self) -> String {
        self.shared.config.thread_name(&self.record.index.to_string())
    }

    /// Works on the calling thread until the pool is closed and drained (or another thread has taken this
    /// one's place while a callback was overdue).
    pub fn run(self) {
        self.run_with(|wait| wait());
    }

    /// [`run`](Self::run), with each idle phase (looking around for work, and sleeping) passed through `wait`, which
    /// must call its argument once: for hosts that have to let go of a lock meanwhile. Callbacks run outside of it.
    pub fn run_with(self, mut wait: impl FnMut(&mut dyn FnMut())) {
        if self.shared.is_inherited() {
            return;
        }
        let info = self.info();
        *self.record.name.lock() = Some(
            thread::current()
                .name()
                .map_or_else(|| self.thread_name(), str::to_owned),
        );
        self.record.running.store(true, Ordering::Release);
        let before = context::serve(self.shared.queue.number);
        if let Some(hook) = &self.shared.config.on_worker_start {
            slot::guard("the on_worker_start hook", || hook(&info));
            leave_if_inherited(&self.shared, &self.record);
        }
        let worker = context::serve_as(&raw const self);
        self.work(&mut wait);
        context::serve_as(worker);
        if let Some(hook) = &self.shared.config.on_worker_stop
            && !self.shared.is_inherited()
        {
            slot::guard("the on_worker_stop hook", || hook(&info));
        }
        context::serve_no_more(before);
    }

    fn work(&self, wait: &mut dyn FnMut(&mut dyn FnMut())) {
        let (shared, record) = (&self.shared, &*self.record);
        let queue = &shared.queue;
        let parker = Arc::new(Parker::here());
        let mut searching = false;
        let mut pace = Pace::default();
        loop {
            // Pairs with the fence in `Shared::look_for_overdue`: it sees that the task has left, or we see the mark.
            full_fence_after_rmw();
            if record.replaced.load(Ordering::Relaxed) && (shared.is_inherited() || shared.registry.leaves(record)) {
                break;
            }
            // Read before the pop: after `close` returned, an empty queue stays empty.
            let closed = queue.is_closed();
            if let Some((task, more)) = queue.pop(&record.own.current) {
                pace.found(more);
                if searching {
                    searching = false;
                    shared.idle.stop_searching(|| more || shared.something_to_do());
                }
                if shared.may_need_workers() && shared.idle.nobody_to_wake(|| more || shared.something_to_do()) {
                    // Those who submitted while this thread was being woken created none.
                    shared.more_workers();
                }
                run(shared, queue, record, task, more, &mut searching);
                continue;
            }
            if shared.turns.are_taken() {
                searching = self.work_by_turns(wait, &parker, searching, pace);
                break;
            }
            if closed {
                break;
            }
            slot::guard("the host's wait", || {
                wait(&mut || searching = self.rest(&parker, searching, &mut pace))
            });
            leave_if_inherited(shared, record);
        }
        if shared.is_inherited() {
            return;
        }
        if searching {
            shared.idle.stop_searching(|| shared.something_to_do());
        }
        self.leave_turns();
    }

    /// [`work`](Self::work), from when queues take turns. Whether the worker is searching when it leaves.
    #[cold]
    #[inline(never)]
    fn work_by_turns(
        &self,
        wait: &mut dyn FnMut(&mut dyn FnMut()),
        parker: &Arc<Parker>,
        mut searching: bool,
        mut pace: Pace,
    ) -> bool {
        let (shared, record) = (&self.shared, &*self.record);
        shared.give_back_first(record);
        loop {
            // As in `work`.
            full_fence_after_rmw();
            if record.replaced.load(Ordering::Relaxed) && (shared.is_inherited() || shared.registry.leaves(record)) {
                return searching;
            }
            if self.turn(&mut searching, &mut pace) {
                continue;
            }
            if shared.is_over() {
                return searching;
            }
            slot::guard("the host's wait", || {
                wait(&mut || searching = self.rest(parker, searching, &mut pace))
            });
            leave_if_inherited(shared, record);
        }
    }

    /// One task, where queues take turns; false if there was none.
    fn turn(&self, searching: &mut bool, pace: &mut Pace) -> bool {
        let (shared, record) = (&self.shared, &*self.record);
        let Some((lane, Taken { task, more, key })) = shared.turns.take(&record.own.current) else {
            return false;
        };
        pace.found(more);
        if std::mem::take(searching) {
            shared.idle.stop_searching(|| more || shared.something_to_do());
        }
        if shared.may_need_workers() && shared.idle.nobody_to_wake(|| more || shared.something_to_do()) {
            shared.more_workers();
        }
        record.key.store(key.map_or(0, |key| key + 1), Ordering::Relaxed);
        run(shared, lane, record, task, more, searching);
        record.key.store(0, Ordering::Relaxed);
        if !shared.is_inherited() {
            shared.give_back(lane, key);
        }
        true
    }

    /// [`last_turn`](Self::last_turn), where queues take turns.
    pub(crate) fn leave_turns(&self) {
        if self.shared.turns.are_taken() {
            self.last_turn();
        }
    }

    /// A worker that leaves does not look again for what it has let go on.
    #[cold]
    fn last_turn(&self) {
        let shared = &self.shared;
        shared.give_back_first(&self.record);
        full_fence();
        if shared.something_to_do() && !shared.idle.notify_in_turn() && shared.on_demand() {
            shared.ensure_worker();
        }
    }

    /// There was nothing to do: looks around a little, then sleeps until woken. Whether it is searching then.
    pub(crate) fn rest(&self, parker: &Arc<Parker>, mut searching: bool, pace: &mut Pace) -> bool {
        if !searching {
            searching = self.shared.idle.start_searching(false);
        }
        if searching && look_around(pace.first_pause(), || self.something()) {
            return true;
        }
        self.go_idle(parker, searching);
        parker.park();
        // Whoever woke us counted us as searching.
        true
    }

    /// Registers as idle: whoever has something to do unparks `parker`, at once if there is something.
    pub(crate) fn go_idle(&self, parker: &Arc<Parker>, searching: bool) {
        self.shared.idle.go_idle(parker, searching, || self.something());
    }

    fn something(&self) -> bool {
        let shared = &self.shared;
        // Marked as surplus, an idle worker leaves.
        shared.something_to_do()
            || shared.queue.is_closed() && shared.may_be_over()
            || self.record.replaced.load(Ordering::Relaxed)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.shared.is_inherited() {
            fork::keep(&self.shared);
            return;
        }
        self.record.running.store(false, Ordering::Release);
        self.shared.worker_leaves(&self.record);
        if self.shared.queue.is_closed() {
            self.shared.progress();
        }
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("info", &self.info())
            .finish_non_exhaustive()
    }
}

/// Far more than the coarse clock is behind (a tick of the kernel, 4 to 10 ms).
const COARSE_LAG: u64 = 50 * clock::MS;

/// How soon a worker that has run out of work looks at the queue again.
///
/// A stream of small tasks goes faster if the worker lets some gather: each look takes the producers' cache line away
/// from them. Somebody who submits one task and waits for it wants it seen at once. Which of the two it is shows by
/// whether a long pause gathers more than one task; that is tried every so often.
#[derive(Default)]
pub(crate) struct Pace {
    rests: u32,
    /// One at a time: long pauses gather nothing.
    single: bool,
    /// The last rest began with a long pause, and nothing has been found since.
    tried: bool,
    /// How often a long pause has shown that tasks come one at a time, without one that showed otherwise.
    shown: u32,
}

/// In turns of the spin hint: about as long as the producers need for a handful of tasks.
const LONG_PAUSE: u32 = 64;
/// While tasks come one at a time, a long pause is tried again after so many rests, then after twice as many, …
const TRY_FIRST: u32 = 16;
/// … up to so many: a pause in vain is what the slowest of a hundred tasks must not see.
const TRY_LAST: u32 = 256;
const MAX_PAUSE: u32 = 128;
/// Waited for one at a time, worker and waiter may share a processor: let the other run soon.
const MAX_PAUSE_SINGLE: u32 = 16;
const YIELDS: u32 = 16;

impl Pace {
    fn first_pause(&mut self) -> u32 {
        self.rests = self.rests.wrapping_add(1);
        let every = (TRY_FIRST << self.shown.min(8)).min(TRY_LAST);
        self.tried = !self.single || self.rests.is_multiple_of(every);
        if self.tried { LONG_PAUSE } else { 1 }
    }

    #[inline(always)]
    pub(crate) fn found(&mut self, more: bool) {
        if self.tried {
            self.tried = false;
            self.single = !more;
            self.shown = if more { 0 } else { self.shown.saturating_add(1) };
        }
    }
}

/// Waits a little for work: spins with growing pauses, then lets other threads run.
fn look_around(first_pause: u32, found: impl Fn() -> bool) -> bool {
    if MODEL {
        return found();
    }
    let mut pause = first_pause;
    let longest = if first_pause == LONG_PAUSE {
        MAX_PAUSE
    } else {
        MAX_PAUSE_SINGLE
    };
    while pause <= longest {
        for _ in 0..pause {
            spin_hint();
        }
        if found() {
            return true;
        }
        pause *= 2;
    }
    for _ in 0..YIELDS {
        thread::yield_now();
        if found() {
            return true;
        }
    }
    false
}

/// Starts a task, which the calling thread has taken out of the queue and which stands in `record`'s `current`. None: it had
/// to be ended, or somebody else has ended it.
#[inline(always)]
pub(crate) fn start(queue: &Queue, record: &Record, task: SlotRef) -> Option<SlotRef> {
    let current = &record.own.current;
    let due = task.due();
    let roughly = clock::coarse();
    // The exact clock costs five times the coarse one, and is asked only where the coarse one cannot tell.
    if due != NO_MILLIS && roughly + COARSE_LAG >= clock::of_millis(due) && clock::now() >= clock::of_millis(due) {
        // Past its deadline: never started.
        end::end(&task, Outcome::DeadlineExceeded, None);
    }
    let started = task.start();
    if started {
        queue.announce_room_after_rmw();
    } else {
        queue.announce_room();
        // Somebody else has ended it.
        current.store(std::ptr::null_mut(), Ordering::Release);
        task.leave();
        return None;
    }
    record.own.started.store(roughly, Ordering::Relaxed);
    Some(task)
}

/// Runs one task, which the calling thread has taken out of the queue and which stands in `record`'s `current`.
#[inline]
pub(crate) fn run(
    shared: &Arc<Shared>,
    queue: &Queue,
    record: &Record,
    task: SlotRef,
    more: bool,
    searching: &mut bool,
) {
    let Some(task) = start(queue, record, task) else { return };
    let (task, outcome) = context::enter(task, shared, record, |context| {
        // SAFETY: this thread has just moved the task to RUNNING, and `context` is this run's.
        unsafe { (context.task().vtable().run)(context.task(), (&raw const *context).cast()) }
    });
    answer(shared, record, task, outcome, more, searching);
}

/// Ends a task whose callback has returned and left what it gives in the payload. False if it had its outcome already.
#[inline(always)]
pub(crate) fn answer(
    shared: &Arc<Shared>,
    record: &Record,
    task: SlotRef,
    outcome: Outcome,
    more: bool,
    searching: &mut bool,
) -> bool {
    let current = &record.own.current;
    if outcome != Outcome::Succeeded {
        let _ = task.side_or_new().unobserved.set(shared.reporter.clone());
    }
    // Only looked at when the last pop saw nothing behind its task.
    if !more && !*searching && !shared.something_to_do() {
        *searching = shared.idle.start_searching(true);
    }
    let tally = &record.own.tally;
    let slot = task.into_raw();
    current.store(std::ptr::null_mut(), Ordering::Release);
    tally.open();
    // SAFETY: the reference that was the task's is still ours.
    match unsafe { slot.as_ref() }.answer(outcome) {
        Answer::Published { last } => {
            tally.count(outcome);
            tally.close();
            if last {
                // SAFETY: `answer` said so.
                unsafe { SlotRef::destroy(slot) };
            }
        }
        Answer::Won => {
            tally.count(outcome);
            tally.close();
            // SAFETY: our reference.
            tell(shared, record, unsafe { SlotRef::from_raw(slot) }, outcome, searching);
            leave_if_inherited(shared, record);
        }
        Answer::Late => {
            tally.close();
            // SAFETY: our reference.
            late(shared, record, unsafe { SlotRef::from_raw(slot) }, outcome, searching);
            leave_if_inherited(shared, record);
            return false;
        }
    }
    true
}

/// User code of this task forked, and this is the child: the pool is not touched any more.
#[cold]
#[inline(never)]
fn leave_behind(task: SlotRef) {
    task.settle();
    // If it ran inside of another's callback, that has forked, too.
    context::settle_current();
    std::mem::forget(task);
}

/// After user code that may have forked: in the child the worker ends.
fn leave_if_inherited(shared: &Shared, record: &Record) {
    if shared.is_inherited() {
        record.replaced.store(true, Ordering::Relaxed);
    }
}

/// The worker has won a task that others watch: take it off the lists, publish, wake.
#[cold]
#[inline(never)]
fn tell(shared: &Arc<Shared>, record: &Record, task: SlotRef, outcome: Outcome, searching: &mut bool) {
    timer::leave_lists(shared, &task);
    let keep = task.holds_user_data(outcome);
    let published = task.publish(outcome, None, true, !keep);
    if !published.waiters && !keep {
        let slot = task.into_raw();
        if published.last {
            // SAFETY: `publish` said so.
            unsafe { SlotRef::destroy(slot) };
        }
        return;
    }
    // Wakers, callbacks and values' destructors are user code: the task is shown while they run.
    record.own.current.store(task.as_ptr().as_ptr(), Ordering::Release);
    let mut before_user_code = || {
        rest_from_searching(shared, searching);
        // They may get stuck as well.
        shared.watch_overdue();
    };
    if !published.waiters {
        before_user_code();
        task.leave_shown(&record.own.current);
        return;
    }
    let calls = task.wake(Event::Ended, &mut before_user_code);
    if shared.is_inherited() {
        return leave_behind(task);
    }
    task.wake(Event::Released, &mut before_user_code);
    if !calls.is_empty() {
        end::run_calls(&task, calls, outcome);
    }
    if shared.is_inherited() {
        return leave_behind(task);
    }
    rest_from_searching(shared, searching);
    task.leave_shown(&record.own.current);
}

/// Before user code runs: a worker that counts as searching must look at the queue soon, and user code may take for
/// ever.
fn rest_from_searching(shared: &Shared, searching: &mut bool) {
    if std::mem::take(searching) {
        shared.idle.stop_searching(|| shared.something_to_do());
    }
}

/// The task had its outcome before its callback returned.
#[cold]
#[inline(never)]
fn late(shared: &Arc<Shared>, record: &Record, task: SlotRef, outcome: Outcome, searching: &mut bool) {
    if shared.is_inherited() {
        // The callback forked, and this is the child: its task was ended there.
        return leave_behind(task);
    }
    rest_from_searching(shared, searching);
    record.own.current.store(task.as_ptr().as_ptr(), Ordering::Release);
    // A look made while the task was not shown has missed it; a destructor may get stuck as well.
    shared.watch_overdue();
    if outcome == Outcome::Panicked {
        // SAFETY: somebody else ended the task: the payload is still ours, and holds the panic's message.
        let message = task.payload.with(|payload| unsafe { &*payload.cast::<Box<str>>() });
        slot::say(
            log::Level::Error,
            format_args!(
                "pool {}: {} panicked after it had ended: {message}",
                shared.config.name,
                task.name()
            ),
        );
    }
    // SAFETY: as above.
    slot::guard("the destructor of a late value", || unsafe {
        (task.vtable().drop_value)(&task, outcome)
    });
    if shared.is_inherited() {
        return leave_behind(task);
    }
    // The winner may still be between its steps.
    task.wait(Event::Ended, clock::NEVER);
    shared.books.late.fetch_add(1, Ordering::Relaxed);
    shared.books.overdue.fetch_sub(1, Ordering::AcqRel);
    task.released();
    shared.not_stalled();
    let told = Late {
        name: task.name(),
        outcome: slot::outcome(task.load()).unwrap_or(Outcome::Abandoned),
        callback: outcome,
        ran: Duration::from_nanos(clock::coarse().saturating_sub(record.own.started.load(Ordering::Relaxed))),
    };
    slot::say(
        log::Level::Warn,
        format_args!(
            "pool {}: the callback of {} returned after {:.1?}; its task had ended ({})",
            shared.config.name, told.name, told.ran, told.outcome
        ),
    );
    if let Some(hook) = &shared.config.on_late {
        slot::guard("the on_late hook", || hook(&told));
    }
    record.own.current.store(std::ptr::null_mut(), Ordering::Release);
    task.leave();
}

/// Runs a task that never entered the queue, on the thread that submits it.
pub(crate) fn run_by_caller(shared: &Arc<Shared>, queue: &Queue, task: SlotRef, arm: impl FnOnce()) {
    as_caller(shared, queue, |record| {
        record.own.current.store(task.as_ptr().as_ptr(), Ordering::Release);
        // Only now can the timer see it.
        arm();
        Some(task)
    });
}

/// Runs a queued task of the pool on the thread that waits for it, inside another callback. False if it is not queued any
/// more, or held back.
pub(crate) fn run_inline(shared: &Arc<Shared>, lane: &Lane, task: &SlotRef) -> bool {
    let turns = shared.turns.are_taken();
    if turns && !shared.turns.permit(lane) {
        return false;
    }
    let mut held = None;
    let taken = as_caller(shared, lane, |record| {
        let Taken { task, key, .. } = lane.take_to_run(task, &record.own.current, turns)?;
        held = key;
        record.key.store(key.map_or(0, |key| key + 1), Ordering::Relaxed);
        Some(task)
    });
    if turns && !shared.is_inherited() {
        shared.give_back(lane, held);
        shared.go_on(lane);
    }
    taken
}

/// Runs the task that `take` gives, which it has shown in the record's `current`.
fn as_caller(shared: &Arc<Shared>, queue: &Queue, take: impl FnOnce(&Record) -> Option<SlotRef>) -> bool {
    let worker = context::worker().filter(|(its, _)| Arc::ptr_eq(its, shared));
    let record = shared.registry.add_caller(worker.as_ref().map(|(_, worker)| &**worker));
    *record.name.lock() = thread::current().name().map(str::to_owned);
    let task = take(&record);
    let taken = task.is_some();
    if let Some(task) = task {
        // A caller is never a searcher.
        run(shared, queue, &record, task, true, &mut false);
        if shared.is_inherited() {
            return true;
        }
    }
    record.running.store(false, Ordering::Release);
    shared.registry.remove(&record, &shared.books);
    // Off the list, it is not given a permit any more by those who look for what runs.
    shared.give_back_first(&record);
    if shared.queue.is_closed() {
        shared.progress();
    }
    taken
}
