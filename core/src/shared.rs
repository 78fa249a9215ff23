//! What the handles, the workers and the timer of one pool share, and the pool's way from open to gone.
//!
//! ```text
//! Open --close--> Draining --all ended, workers gone------------------> Done
//!                     '--drain deadline--> Abandoned --settled or grace--^
//! ```
//!
//! Invariants:
//! 1. The timer thread alone moves the phase past `Draining`, and holds the pool until the books balance; so
//!    whoever has won a task and not counted it finds the pool alive.
//! 2. From `Abandoned` on no task is queued, and no running one is without outcome.
//! 3. Nothing here waits for a callback: a shutdown returns at its drain deadline plus [`GRACE`]. Only threads that
//!    have left the pool's code and are not yet gone are waited for longer, up to [`JOIN`].
//!
//! Lock order: `life`, then the registry's or the timer's (leaves). Hooks and wakers run with none held.

use crate::books::Books;
use crate::cancel::CancellationToken;
use crate::clock::{self, MS, NEVER};
use crate::config::{Config, Threads};
use crate::delivery::{Delivery, Reserved};
use crate::error::Outcome;
use crate::idle::Idle;
use crate::name::TaskName;
use crate::queue::Queue;
use crate::registry::{Found, Record, Registry};
use crate::report::{ShutdownReport, Stalled, Stats, TaskRecord, TaskState, Unobserved};
use crate::slot::{self, QUEUED, RELEASED, Slot, SlotRef};
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Arc, AtomicBool, AtomicU64, AtomicUsize, Condvar, Mutex, Ordering, full_fence, join_ended};
use crate::timer::{Event, Timer};
use crate::worker::Worker;
use crate::{arena, end, table};
use std::io;
use std::ptr::NonNull;
use std::task::Waker;
use std::time::Duration;

/// How long, after the drain deadline, a shutdown waits for callbacks that return promptly.
const GRACE: u64 = 20 * MS;

/// How long a shutdown waits for threads that have left the pool's code to be gone: they have nothing left to do
/// but their thread-locals' destructors, so this is reached only where those block, or the machine is starved.
const JOIN: u64 = 500 * MS;

pub(crate) struct Shared {
    pub(crate) number: u16,
    pub(crate) config: Config,
    pub(crate) queue: Queue,
    pub(crate) idle: Idle,
    pub(crate) books: Books,
    pub(crate) registry: Registry,
    pub(crate) timer: Timer,
    delivery: Delivery,
    life: Mutex<Life>,
    life_changed: Condvar,
    pub(crate) reporter: Arc<Reporter>,
    /// Handles of the pool.
    pub(crate) handles: AtomicUsize,
    /// Odd: the pool is stalled, and that has been told. Whatever ends a stall, or shows that there is none, moves it on, so that
    /// a look that began before tells nothing.
    stalls: AtomicU64,
    overdue_watched: AtomicBool,
    progress_planned: AtomicBool,
    retry_planned: AtomicBool,
    delivery_watched: AtomicBool,
    timer_handle: Mutex<Option<JoinHandle<()>>>,
    joining: Mutex<()>,
    demand: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Open,
    Draining,
    Abandoned,
    Done,
}

struct Life {
    phase: Phase,
    drain_until: u64,
    grace_until: u64,
    abandoned: Vec<TaskRecord>,
    stuck: Vec<TaskRecord>,
    threads_left: usize,
    wakers: Vec<Waker>,
}

/// Tells of failures nobody looked at, also after the pool has gone.
pub(crate) struct Reporter {
    pub(crate) count: AtomicU64,
    hook: crate::config::Hook<Unobserved>,
}

impl slot::Unobserved for Reporter {
    fn report(&self, name: TaskName, outcome: Outcome, message: Option<String>) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let (colon, text) = message.as_deref().map_or(("", ""), |text| (": ", text));
        slot::say(
            log::Level::Warn,
            format_args!("nobody looked at {name}, which {outcome}{colon}{text}"),
        );
        if let Some(hook) = &self.hook {
            let told = Unobserved { name, outcome, message };
            slot::guard("the on_unobserved hook", || hook(&told));
        }
    }
}

impl Shared {
    /// A pool without threads.
    pub(crate) fn new(number: u16, config: Config, capacity: usize, max_blocked: usize) -> Arc<Shared> {
        let demand = capacity + config.workers + config.max_replacements;
        arena::pool_opened(demand);
        let shared = Arc::new(Shared {
            number,
            queue: Queue::new(capacity, max_blocked),
            idle: Idle::default(),
            books: Books::default(),
            registry: Registry::default(),
            timer: Timer::new(),
            delivery: Delivery::new(config.thread_name("deliver")),
            life: Mutex::new(Life {
                phase: Phase::Open,
                drain_until: NEVER,
                grace_until: NEVER,
                abandoned: Vec::new(),
                stuck: Vec::new(),
                threads_left: 0,
                wakers: Vec::new(),
            }),
            life_changed: Condvar::new(),
            reporter: Arc::new(Reporter {
                count: AtomicU64::new(0),
                hook: config.on_unobserved.clone(),
            }),
            handles: AtomicUsize::new(1),
            stalls: AtomicU64::new(0),
            overdue_watched: AtomicBool::new(false),
            progress_planned: AtomicBool::new(false),
            retry_planned: AtomicBool::new(false),
            delivery_watched: AtomicBool::new(false),
            timer_handle: Mutex::new(None),
            joining: Mutex::new(()),
            demand,
            config,
        });
        table::set(number, Arc::as_ptr(&shared));
        shared
    }

    // ---- threads ----

    /// Starts the timer and the delivery thread.
    pub(crate) fn start_service(self: &Arc<Self>) -> io::Result<()> {
        let shared = self.clone();
        let handle = thread::Builder::new()
            .name(self.config.thread_name("timer"))
            .spawn(move || crate::timer::run(&shared))?;
        *self.timer_handle.lock() = Some(handle);
        self.delivery.start(self.number)
    }

    /// A pool that could not be built: its threads, as far as there are any, end now.
    pub(crate) fn undo_build(self: &Arc<Self>) {
        self.begin_drain(clock::now());
        if self.timer_handle.lock().is_some() {
            self.wait_done();
        }
    }

    /// Creates one worker's thread, unless there are enough. `Ok(false)`: there are.
    pub(crate) fn spawn_worker(self: &Arc<Self>) -> io::Result<bool> {
        let Some(worker) = Worker::new(self, true) else {
            return Ok(false);
        };
        match &self.config.spawner {
            Some(spawner) => spawner(worker)?,
            None => {
                let mut builder = thread::Builder::new().name(worker.thread_name());
                if let Some(size) = self.config.stack_size {
                    builder = builder.stack_size(size);
                }
                self.registry.keep_handle(builder.spawn(move || worker.run())?);
            }
        }
        Ok(true)
    }

    /// The time has come to try again. On the timer thread.
    pub(crate) fn retry_worker(self: &Arc<Self>) {
        self.retry_planned.store(false, Ordering::Relaxed);
        self.ensure_worker();
    }

    /// A worker if the pool needs one: for [`Threads::OnDemand`] and for retries.
    pub(crate) fn ensure_worker(self: &Arc<Self>) {
        if self.queue.is_closed() && self.queue.looks_empty() {
            return;
        }
        let create = |shared: &Arc<Self>| {
            if let Err(error) = shared.spawn_worker() {
                let pool = &shared.config.name;
                shared.log(
                    log::Level::Error,
                    format!(
                        "pool {pool}: a worker could not be created ({error}); it is tried again, queued tasks \
                         keep their deadlines"
                    ),
                );
                if !shared.retry_planned.swap(true, Ordering::Relaxed) {
                    shared.timer.at(clock::now() + clock::MS * 100, Event::Worker);
                }
            }
        };
        if self.config.spawner.is_some() {
            let shared = self.clone();
            self.deliver("the spawner", move || create(&shared));
        } else {
            create(self);
        }
    }

    /// Before a task is counted by somebody who may have something to deliver for it.
    pub(crate) fn reserve_delivery(&self) -> Reserved<'_> {
        self.delivery.reserve()
    }

    /// Hands user code to the delivery thread.
    pub(crate) fn deliver(self: &Arc<Self>, what: &'static str, work: impl FnOnce() + Send + 'static) {
        self.delivery.send(what, work);
        full_fence();
        if self.delivery.pending() > 1 && !self.delivery_watched.swap(true, Ordering::Relaxed) {
            self.watch_delivery();
        }
    }

    /// Logs, on the delivery thread: a logger is user code too, and may block.
    fn log(self: &Arc<Self>, level: log::Level, message: String) {
        // Only the level is asked here: a logger's own `enabled` is user code.
        if level <= log::max_level() {
            self.deliver("the logger", move || slot::say(level, format_args!("{message}")));
        }
    }

    /// Drops a reference on the timer thread, where no user code may run.
    pub(crate) fn let_go(self: &Arc<Self>, task: SlotRef) {
        task.drop_elsewhere(|task| self.deliver("the destructor of a task's value", move || drop(task)));
    }

    /// Runs what the delivery thread would run.
    #[cfg(all(test, loom))]
    pub(crate) fn deliver_here(&self) {
        self.delivery.run_here();
    }

    fn watch_delivery(&self) {
        self.timer.at(clock::after(self.config.replace_after), Event::Delivery);
    }

    /// A stuck delivery thread gets another beside it. On the timer thread.
    pub(crate) fn check_delivery(self: &Arc<Self>) {
        let span = u64::try_from(self.config.replace_after.as_nanos()).unwrap_or(NEVER);
        if self.delivery.is_stuck(clock::now().saturating_sub(span))
            && self.delivery.threads() <= self.config.max_replacements
            && let Err(error) = self.delivery.start(self.number)
        {
            self.log(
                log::Level::Error,
                format!(
                    "pool {}: the delivery thread is stuck in a destructor or callback, and another could \
                             not be created: {error}",
                    self.config.name
                ),
            );
        }
        self.delivery_watched.store(false, Ordering::Relaxed);
        full_fence();
        if self.delivery.pending() > 1 && !self.delivery_watched.swap(true, Ordering::Relaxed) {
            self.watch_delivery();
        }
    }

    // ---- stuck workers ----

    /// A worker is, or may be, inside user code of a task that has ended: have the timer thread look after it.
    pub(crate) fn watch_overdue(&self) {
        full_fence();
        if !self.overdue_watched.load(Ordering::Relaxed) && !self.overdue_watched.swap(true, Ordering::Relaxed) {
            self.timer
                .at(clock::now().saturating_add(self.overdue_step()), Event::Overdue);
        }
    }

    /// How exactly `replace_after` is kept: to the quarter of it.
    fn overdue_step(&self) -> u64 {
        let span = u64::try_from(self.config.replace_after.as_nanos()).unwrap_or(NEVER);
        (span / 4).clamp(MS, 1000 * MS)
    }

    /// Has others take the place of workers that have been seen inside user code of an ended task for
    /// `replace_after`. Looks again while there is one that might come to that. On the timer thread.
    pub(crate) fn look_for_overdue(self: &Arc<Self>) {
        self.overdue_watched.store(false, Ordering::Relaxed);
        full_fence();
        let now = clock::now();
        let span = u64::try_from(self.config.replace_after.as_nanos()).unwrap_or(NEVER);
        let step = self.overdue_step();
        let mut next = NEVER;
        for (task, record) in self.find_running() {
            let ended = slot::outcome(task.load());
            if let Some(outcome) = ended.filter(|_| !record.caller && !record.replaced.load(Ordering::Relaxed)) {
                let mut found = record.found.lock().filter(|found| found.id == task.id());
                // Found here for the first time, it has been here for a step, perhaps.
                let seen = found.get_or_insert(Found {
                    id: task.id(),
                    since: now.saturating_sub(step),
                    told: false,
                });
                let due = seen.since.saturating_add(span);
                if now < due {
                    next = next.min(due.min(now + step));
                } else {
                    if !std::mem::replace(&mut seen.told, true) {
                        let text = format!(
                            "pool {}: {} has its outcome ({outcome}) and its callback still runs",
                            self.config.name,
                            task.name()
                        );
                        self.log(log::Level::Warn, text);
                    }
                    if !self.replace(&record, task.as_ptr()) {
                        next = next.min(now.saturating_add(span.max(10 * MS)));
                    }
                }
                *record.found.lock() = found;
            }
            self.let_go(task);
        }
        if next != NEVER && !self.overdue_watched.swap(true, Ordering::Relaxed) {
            self.timer.at(next, Event::Overdue);
        }
    }

    /// Has another thread take a worker's place. False if none was left.
    fn replace(self: &Arc<Self>, record: &Arc<Record>, inside: NonNull<Slot>) -> bool {
        if self.queue.is_closed() && self.queue.looks_empty() {
            return true;
        }
        if !self.registry.replace(record, self.config.max_replacements) {
            self.check_stalled();
            return false;
        }
        full_fence();
        if record.own.current.load(Ordering::Relaxed) != inside.as_ptr() {
            // It has just left: then it may not have seen the mark, and goes on, or it has, and ends.
            if self.registry.unreplace(record) {
                return true;
            }
        }
        let record = record.clone();
        let start = move |shared: &Arc<Self>| match shared.spawn_worker() {
            Ok(_) => {
                shared.books.replaced.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                shared.log(
                    log::Level::Error,
                    format!(
                        "pool {}: a replacement could not be created: {error}",
                        shared.config.name
                    ),
                );
                if shared.registry.unreplace(&record) {
                    shared.watch_overdue();
                } else {
                    // The worker has left meanwhile: its place is empty.
                    shared.timer.at(clock::now() + 100 * MS, Event::Worker);
                }
            }
        };
        if self.config.spawner.is_some() {
            let shared = self.clone();
            self.deliver("the spawner", move || start(&shared));
        } else {
            start(self);
        }
        true
    }

    fn check_stalled(self: &Arc<Self>) {
        let before = self.stalls.load(Ordering::Acquire);
        let working = self.registry.each(|records| {
            records
                .iter()
                .filter(|r| !r.caller && r.running.load(Ordering::Relaxed))
                .count()
        });
        let stuck = self.leaks();
        if stuck.len() < working || before % 2 == 1 {
            return;
        }
        let told = self
            .stalls
            .compare_exchange(before, before + 1, Ordering::AcqRel, Ordering::Relaxed);
        if told.is_err() {
            // A callback has returned since.
            return;
        }
        self.books.stalled.fetch_add(1, Ordering::Relaxed);
        let told = Stalled {
            pool: self.config.name.clone(),
            queued: self.queue.depth().queued,
            stuck,
        };
        self.log(
            log::Level::Error,
            format!(
                "pool {} is stalled: all {working} workers are inside callbacks whose tasks have their outcome, and \
                 no replacement is left; {} tasks are queued. Deadlines still fire. Let the callbacks end, or raise \
                 `max_replacements`",
                told.pool, told.queued
            ),
        );
        if let Some(hook) = self.config.on_stalled.clone() {
            self.deliver("the on_stalled hook", move || hook(&told));
        }
    }

    /// A late callback has returned.
    pub(crate) fn not_stalled(&self) {
        let mut now = self.stalls.load(Ordering::Relaxed);
        while let Err(other) =
            self.stalls
                .compare_exchange_weak(now, (now | 1) + 1, Ordering::AcqRel, Ordering::Relaxed)
        {
            now = other;
        }
    }

    // ---- the end ----

    /// Accepts no more. What was accepted is run.
    pub(crate) fn close(&self) {
        self.begin_drain(NEVER);
    }

    /// Closes; at `until` what has not ended is abandoned. Never blocks.
    pub(crate) fn begin_drain(&self, until: u64) {
        self.queue.close();
        self.idle.wake_all();
        {
            let mut life = self.life.lock();
            if life.phase == Phase::Open {
                life.phase = Phase::Draining;
            }
            if until < life.drain_until {
                life.drain_until = until;
                self.timer.at(until, Event::Progress);
            }
        }
        self.progress();
    }

    /// Something happened that may bring a closing pool to its end: have the timer thread look.
    pub(crate) fn progress(&self) {
        full_fence();
        if !self.progress_planned.swap(true, Ordering::AcqRel) {
            self.timer.at(clock::now(), Event::Progress);
        }
    }

    /// Moves the phase on. True when the end has been reached. On the timer thread.
    pub(crate) fn check_progress(self: &Arc<Self>) -> bool {
        self.progress_planned.store(false, Ordering::Release);
        full_fence();
        let now = clock::now();
        let phase = {
            let mut life = self.life.lock();
            if life.phase == Phase::Draining && now >= life.drain_until && !self.all_gone() {
                life.phase = Phase::Abandoned;
                life.grace_until = now + GRACE;
            }
            life.phase
        };
        match phase {
            Phase::Open | Phase::Done => false,
            Phase::Draining => {
                if self.all_gone() {
                    return true;
                }
                if self.threads_running() == 0 {
                    // What is left is queued and will be ended from outside, or is a winner between two steps, or the
                    // delivery thread: nobody will tell.
                    self.timer.at(now + MS, Event::Progress);
                }
                false
            }
            Phase::Abandoned => {
                let abandoned = self.abandon_all();
                let grace_until = {
                    let mut life = self.life.lock();
                    life.abandoned.extend(abandoned);
                    life.grace_until
                };
                if self.all_gone() || (now >= grace_until && self.stats().running == 0) {
                    return true;
                }
                self.timer.at(now + MS, Event::Progress);
                false
            }
        }
    }

    fn threads_running(&self) -> usize {
        self.registry
            .each(|records| records.iter().filter(|r| r.running.load(Ordering::Acquire)).count())
    }

    fn all_gone(&self) -> bool {
        let stats = self.stats();
        // The books first: who has counted a task has reserved the delivery before.
        stats.queued == 0 && stats.running == 0 && self.threads_running() == 0 && self.delivery.pending() == 0
    }

    /// Ends everything that has not ended.
    fn abandon_all(self: &Arc<Self>) -> Vec<TaskRecord> {
        let mut abandoned = Vec::new();
        while let Some((task, won)) = self.queue.pop_won(|task| task.win().is_some()) {
            if won {
                abandoned.push(TaskRecord {
                    name: task.name(),
                    state: TaskState::Queued,
                    outcome: Some(Outcome::Abandoned),
                    age: Duration::ZERO,
                    thread: None,
                });
                end::finish_and_tell(self, &task, QUEUED, Outcome::Abandoned, None);
            }
            self.let_go(task);
        }
        for (task, record) in self.find_running() {
            if end::end(&task, Outcome::Abandoned, None) {
                abandoned.push(describe(&task, &record));
            }
            self.let_go(task);
        }
        abandoned
    }

    /// The end has been reached: let everyone go. On the timer thread, last.
    pub(crate) fn finish(self: &Arc<Self>) {
        self.delivery.stop();
        let stuck = self.leaks();
        let wakers = {
            let mut life = self.life.lock();
            life.phase = Phase::Done;
            life.stuck = stuck;
            life.threads_left = self.threads_running();
            std::mem::take(&mut life.wakers)
        };
        self.life_changed.notify_all();
        for waker in wakers {
            slot::wake(waker);
        }
    }

    /// Blocks until the end, and joins the threads that have ended.
    pub(crate) fn wait_done(&self) {
        let mut life = self.life.lock();
        while life.phase != Phase::Done {
            life = self.life_changed.wait(life);
        }
        drop(life);
        self.join();
    }

    /// Whether the end has been reached; if not, `waker` is woken then.
    pub(crate) fn poll_done(&self, waker: &Waker) -> bool {
        // Wakers are user code: cloned outside the lock.
        let new = waker.clone();
        let mut life = self.life.lock();
        if life.phase == Phase::Done {
            return true;
        }
        if !life.wakers.iter().any(|there| there.will_wake(waker)) {
            life.wakers.push(new);
        }
        false
    }

    /// Joins the threads that are about to be gone, so that none is left when a shutdown returns; not those
    /// inside callbacks.
    pub(crate) fn join(&self) {
        // Others that wait for the same end come back when the threads are gone, too.
        let _joining = self.joining.lock();
        let mut handles = self.registry.take_handles();
        handles.extend(self.delivery.take_handles());
        handles.extend(self.timer_handle.lock().take());
        let until = clock::now() + JOIN;
        let stuck = self.life.lock().threads_left;
        loop {
            handles = handles
                .into_iter()
                .filter_map(|handle| join_ended(handle, until))
                .collect();
            // What is left beyond those is about to end.
            if handles.len() <= stuck || clock::now() >= until {
                break;
            }
            thread::sleep(Duration::from_micros(50));
        }
        arena::flush();
    }

    pub(crate) fn report(&self, began: u64) -> ShutdownReport {
        let (abandoned, stuck, threads_left) = {
            let life = self.life.lock();
            (life.abandoned.clone(), life.stuck.clone(), life.threads_left)
        };
        ShutdownReport {
            drained: abandoned.is_empty() && threads_left == 0,
            stats: self.stats(),
            abandoned,
            stuck,
            threads_left,
            elapsed: Duration::from_nanos(clock::now().saturating_sub(began)),
        }
    }

    // ---- observers ----

    /// The books now. See `books` for the order of the reads.
    pub(crate) fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        let (mut ended, workers) = self.registry.each(|records| {
            let mut ended = self.books.ended();
            for record in records {
                for (outcome, count) in record.own.tally.read() {
                    ended[outcome as usize] += count;
                }
            }
            (
                ended,
                records
                    .iter()
                    .filter(|r| !r.caller && r.running.load(Ordering::Relaxed))
                    .count(),
            )
        });
        let depth = self.queue.depth();
        stats.submitted = depth.pushed + depth.direct;
        stats.queued = depth.queued;
        for (sum, count) in ended.iter_mut().zip(depth.ended) {
            *sum += count;
        }
        stats.set_outcomes(std::mem::take(&mut ended));
        stats.running = stats.submitted.saturating_sub(stats.ended() + stats.queued);
        stats.workers = workers as u64;
        stats.refused = self.books.refused.load(Ordering::Relaxed);
        stats.late = self.books.late.load(Ordering::Relaxed);
        stats.overdue = self.books.overdue.load(Ordering::Relaxed);
        stats.replaced = self.books.replaced.load(Ordering::Relaxed);
        stats.stalled = self.books.stalled.load(Ordering::Relaxed);
        stats.unobserved = self.reporter.count.load(Ordering::Relaxed);
        stats.blocked_producers = self.queue.blocked() as u64;
        stats
    }

    /// The callbacks that run now although their task has its outcome.
    pub(crate) fn leaks(self: &Arc<Self>) -> Vec<TaskRecord> {
        let mut leaks = self.running();
        leaks.retain(|task| task.outcome.is_some());
        leaks
    }

    /// The callbacks that run now. References are dropped outside the registry's lock: the last one takes user data
    /// with it.
    pub(crate) fn running(self: &Arc<Self>) -> Vec<TaskRecord> {
        let (running, returned): (Vec<_>, Vec<_>) = self
            .find_running()
            .into_iter()
            // One that a worker has taken and not begun yet may still be ended before it starts.
            .partition(|(task, _)| task.load() & RELEASED == 0 && slot::state(task.load()) != QUEUED);
        for (task, _) in returned {
            self.let_go(task);
        }
        running
            .into_iter()
            .map(|(task, record)| {
                let described = describe(&task, &record);
                self.let_go(task);
                described
            })
            .collect()
    }

    /// References to the tasks that run now.
    pub(crate) fn find_running(&self) -> Vec<(SlotRef, Arc<Record>)> {
        let pin = arena::pin();
        self.registry.each(|records| {
            let found = records.iter().filter_map(|record| {
                // SAFETY: `current` is as `find` wants it (registry invariant 2).
                let task = unsafe { SlotRef::find(&record.own.current, &pin) }?;
                Some((task, record.clone()))
            });
            found.collect()
        })
    }

    /// Whether the pool creates threads at submit.
    #[inline(always)]
    pub(crate) fn on_demand(&self) -> bool {
        self.config.threads == Threads::OnDemand
    }
}

fn describe(task: &SlotRef, record: &Record) -> TaskRecord {
    let started = record.own.started.load(Ordering::Relaxed);
    TaskRecord {
        name: task.name(),
        state: TaskState::Running,
        outcome: slot::outcome(task.load()),
        age: Duration::from_nanos(clock::coarse().saturating_sub(started)),
        thread: record.name.lock().clone(),
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        table::free(self.number);
        arena::pool_closed(self.demand);
    }
}

/// The token of a running task: what its callback submits stands under it.
pub(crate) fn own_token(task: &SlotRef) -> CancellationToken {
    let side = task.side_or_new();
    let own = side.own.get_or_init(|| match &side.parent {
        Some(parent) => parent.child(),
        None => CancellationToken::new(),
    });
    // Made after the task ended: then nobody else tells it. Pairs with the fence in `end::end`.
    full_fence();
    if let Some(outcome) = slot::outcome(task.load()) {
        own.cancel_with(end::reason_of_task(task, outcome));
    }
    own.clone()
}
