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
//! 3. In a forked child an inherited pool is shut down: what others call here answers at once and takes no lock.
//! 4. Nothing here waits for a callback: a shutdown returns at its drain deadline plus [`GRACE`]. Only threads that
//!    have left the pool's code and are not yet gone are waited for longer, up to [`JOIN`].
//!
//! Lock order: `life` or `resizing`, then the registry's or the timer's (leaves). Hooks and wakers run with none held.

use crate::books::Books;
use crate::cancel::CancellationToken;
use crate::carry::Carried;
use crate::clock::{self, MS, NEVER};
use crate::config::{Config, Threads};
use crate::delivery::{Delivery, Reserved};
use crate::error::{CancelReason, Outcome};
use crate::fork;
use crate::idle::Idle;
use crate::lane::Lane;
use crate::name::TaskName;
use crate::queue::Queue;
use crate::registry::{Found, Record, Registry};
use crate::report::{ShutdownReport, Stalled, Stats, TaskRecord, TaskState, Unobserved};
use crate::slot::{self, QUEUED, RELEASED, Slot, SlotRef};
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{
    Arc, AtomicBool, AtomicU64, AtomicUsize, Condvar, Mutex, OnceLock, Ordering, full_fence, join_ended,
};
use crate::timer::{Event, Timer};
use crate::turns::Turns;
use crate::worker::Worker;
use crate::{arena, end};
use std::hash::RandomState;
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
    pub(crate) config: Config,
    /// The generation of the process that made it.
    born: u32,
    /// The same, if a submit without options is plain; otherwise none.
    pub(crate) plain_in: u32,
    /// The default queue.
    pub(crate) queue: Arc<Lane>,
    /// How keys become numbers.
    pub(crate) keys: RandomState,
    /// The other queues, and whose task is started next.
    pub(crate) turns: Turns,
    pub(crate) idle: Idle,
    pub(crate) books: Books,
    pub(crate) registry: Registry,
    pub(crate) timer: Timer,
    delivery: Delivery,
    life: Mutex<Life>,
    life_changed: Condvar,
    pub(crate) reporter: Arc<Reporter>,
    /// How many workers there are to be, replacements apart.
    pub(crate) workers: AtomicUsize,
    /// Handles of the pool.
    pub(crate) handles: AtomicUsize,
    /// Odd: the pool is stalled, and that has been told. Whatever ends a stall, or shows that there is none, moves it on, so that
    /// a look that began before tells nothing.
    stalls: AtomicU64,
    /// Workers that wait inside their callbacks, and for whom nobody stands in.
    away: Mutex<Vec<Arc<Record>>>,
    /// How many these are.
    away_count: AtomicUsize,
    /// Stand-ins whose threads are being created; and workers that leave, each of whom may bring one.
    coming: AtomicUsize,
    /// Somebody waits because of those, or of callbacks that occupy a limit: see [`count_on`](Self::count_on).
    counted_on: AtomicBool,
    /// Whether a sign of life is asked of the timer thread, and has not come.
    #[cfg(feature = "systemd")]
    asked: AtomicBool,
    overdue_watched: AtomicBool,
    progress_planned: AtomicBool,
    retry_planned: AtomicBool,
    delivery_watched: AtomicBool,
    timer_handle: Mutex<Option<JoinHandle<()>>>,
    /// Cancelled when the pool closes, for those who wait for room elsewhere than in its queue. Made by the first of them.
    closed: OnceLock<CancellationToken>,
    joining: Mutex<()>,
    resizing: Mutex<()>,
    demand: AtomicUsize,
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
    /// There may be tasks that are not to be started before the drain deadline.
    late_starts: bool,
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
        let queue = Queue::new(capacity, max_blocked);
        let queue = Arc::new(Lane::new(number, "default".to_owned(), queue, config.overflow));
        let shared = Arc::new(Shared {
            born: fork::generation(),
            plain_in: if config.plain { fork::generation() } else { u32::MAX },
            queue,
            keys: RandomState::new(),
            turns: Turns::default(),
            idle: Idle::default(),
            books: Books::default(),
            registry: Registry::default(),
            timer: Timer::new(),
            delivery: Delivery::new(config.thread_name("deliver")),
            life: Mutex::new(Life {
                phase: Phase::Open,
                drain_until: NEVER,
                grace_until: NEVER,
                late_starts: false,
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
            workers: AtomicUsize::new(config.workers),
            handles: AtomicUsize::new(1),
            stalls: AtomicU64::new(0),
            away: Mutex::default(),
            away_count: AtomicUsize::new(0),
            coming: AtomicUsize::new(0),
            counted_on: AtomicBool::new(false),
            #[cfg(feature = "systemd")]
            asked: AtomicBool::new(false),
            overdue_watched: AtomicBool::new(false),
            progress_planned: AtomicBool::new(false),
            retry_planned: AtomicBool::new(false),
            delivery_watched: AtomicBool::new(false),
            timer_handle: Mutex::new(None),
            closed: OnceLock::new(),
            joining: Mutex::new(()),
            resizing: Mutex::new(()),
            demand: AtomicUsize::new(demand),
            config,
        });
        shared.queue.belongs_to(Arc::as_ptr(&shared));
        shared
    }

    /// What the pool's carriers capture for a task that this thread submits.
    #[inline]
    pub(crate) fn capture(&self) -> Option<Box<dyn Carried>> {
        let carrier = self.config.context.as_ref()?;
        carrier.clone().capture()
    }

    /// Whether this is a forked child, and the pool its parent's: then there are no threads, and no lock may be taken.
    #[inline(always)]
    pub(crate) fn is_inherited(&self) -> bool {
        self.born != fork::generation()
    }

    // ---- threads ----

    /// Starts the timer and the delivery thread.
    pub(crate) fn start_service(self: &Arc<Self>) -> io::Result<()> {
        let shared = self.clone();
        let handle = thread::Builder::new()
            .name(self.config.thread_name("timer"))
            .spawn(move || crate::timer::run(&shared))?;
        *self.timer_handle.lock() = Some(handle);
        self.delivery.start(self.queue.number)
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

    /// From now on there are to be so many workers. Creates those that are missing, where the pool creates them early; an
    /// error tells how many could not be.
    pub(crate) fn set_workers(self: &Arc<Self>, workers: usize) -> Result<(), (usize, io::Error)> {
        let missing = {
            let _one_at_a_time = self.resizing.lock();
            self.workers.store(workers, Ordering::Relaxed);
            self.registry.resize(workers)
        };
        // Idle ones that are to leave have to see it.
        self.idle.wake_all();
        // A wait may have counted on one of those.
        crate::waits::look_again(self);
        match self.config.threads {
            Threads::Eager => {
                for index in 0..missing {
                    self.spawn_worker().map_err(|error| (missing - index, error))?;
                }
            }
            Threads::OnDemand if self.something_to_do() => self.ensure_worker(),
            Threads::OnDemand | Threads::Host => {}
        }
        Ok(())
    }

    /// The time has come to try again. On the timer thread.
    pub(crate) fn retry_worker(self: &Arc<Self>) {
        self.retry_planned.store(false, Ordering::Relaxed);
        self.ensure_worker();
    }

    /// A worker if the pool needs one: for [`Threads::OnDemand`] and for retries.
    pub(crate) fn ensure_worker(self: &Arc<Self>) {
        if self.registry.has_enough() || self.queue.is_closed() && self.nothing_queued() {
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
            && let Err(error) = self.delivery.start(self.queue.number)
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

    // ---- workers that wait inside their callbacks ----

    /// A worker is about to wait inside its callback: has another thread stand in for it, unless somebody idles. False if
    /// the limit of replacements is reached. Whoever is covered so stays it until [`is_back`](Self::is_back), as far as
    /// the limit allows.
    pub(crate) fn stand_in(self: &Arc<Self>, record: &Arc<Record>) -> bool {
        if record.replaced.load(Ordering::Relaxed) || self.is_inherited() || self.is_over() {
            return true;
        }
        {
            let mut away = self.away.lock();
            away.push(record.clone());
            self.away_count.store(away.len(), Ordering::Relaxed);
        }
        // A worker that takes the last task that somebody idle could have taken looks at the count, or we see it busy.
        full_fence();
        self.idle.somebody() || self.cover(record)
    }

    /// Undoes [`stand_in`](Self::stand_in), but for a thread that has been created: this worker leaves in its place.
    pub(crate) fn is_back(&self, record: &Arc<Record>) {
        if self.is_inherited() {
            return;
        }
        let mut away = self.away.lock();
        if let Some(at) = away.iter().position(|there| Arc::ptr_eq(there, record)) {
            away.swap_remove(at);
            self.away_count.store(away.len(), Ordering::Relaxed);
        }
    }

    /// Nobody idles, and there is work: more workers, if there may be.
    pub(crate) fn more_workers(self: &Arc<Self>) {
        self.cover_one();
        if self.on_demand() {
            self.ensure_worker();
        }
    }

    /// Nobody idles any more, or there is one replacement less: has a thread stand in for a worker that waits.
    pub(crate) fn cover_one(self: &Arc<Self>) {
        let record = self.away.lock().last().cloned();
        if let Some(record) = record {
            self.cover(&record);
        }
    }

    fn cover(self: &Arc<Self>, record: &Arc<Record>) -> bool {
        if !self.mark_replaced(record) {
            return record.replaced.load(Ordering::Relaxed);
        }
        self.is_back(record);
        self.create_coming(record);
        true
    }

    /// Marks a worker as replaced, if the limit allows it: then `coming` tells of a thread.
    fn mark_replaced(&self, record: &Record) -> bool {
        self.registry.replace(record, self.config.max_replacements, || {
            self.coming.fetch_add(1, Ordering::SeqCst);
        })
    }

    /// Creates the thread that `coming` tells of.
    fn create_coming(self: &Arc<Self>, record: &Arc<Record>) {
        self.create_replacement(record.clone(), |shared, created| {
            if created {
                shared.coming.fetch_sub(1, Ordering::SeqCst);
            } else {
                shared.nobody_comes();
            }
        });
    }

    /// A thread that `coming` told of does not come: who waits because of it looks again.
    fn nobody_comes(&self) {
        self.coming.fetch_sub(1, Ordering::SeqCst);
        self.disappoint();
    }

    /// A wait is about to rely on something of this pool that may go without an answer: a thread that comes, a callback that
    /// occupies a limit. It looks (again) whether that is there; and who takes it away calls [`disappoint`](Self::disappoint)
    /// afterwards.
    pub(crate) fn count_on(&self) {
        self.counted_on.store(true, Ordering::SeqCst);
        full_fence();
    }

    /// What a wait may have relied on has gone: all look again. (It was taken away by a read-modify-write, or a fence stands
    /// between.)
    fn disappoint(&self) {
        if self.counted_on.load(Ordering::SeqCst) && self.counted_on.swap(false, Ordering::SeqCst) {
            crate::waits::look_again(self);
        }
    }

    /// A worker leaves the pool. From before it is off the list until somebody stands in for one that waits instead, if there
    /// is one, nobody is told that nobody could come.
    pub(crate) fn worker_leaves(self: &Arc<Self>, record: &Arc<Record>) {
        let replaced = record.replaced.load(Ordering::Relaxed);
        if replaced {
            self.coming.fetch_add(1, Ordering::SeqCst);
        }
        self.registry.remove(record, &self.books);
        // Off the list, it is not given a permit any more by those who look for what runs.
        self.give_back_first(record);
        if replaced {
            if self.away_count.load(Ordering::Relaxed) != 0 {
                self.cover_one();
            }
            self.nobody_comes();
        }
    }

    /// Whether a thread is being created that will take tasks.
    pub(crate) fn workers_are_coming(&self) -> bool {
        let some = || self.coming.load(Ordering::SeqCst) != 0;
        let coming = some() && {
            // Who does not come sees that it was counted on, or we see that it does not come.
            self.count_on();
            some()
        };
        coming
            || self.config.threads != Threads::Eager && {
                let workers = self.registry.each(|all| all.iter().filter(|r| !r.caller).count());
                workers < self.config.workers
            }
    }

    /// The queue of this number, if it is this pool's.
    pub(crate) fn lane(&self, number: u16) -> Option<Arc<Lane>> {
        if self.queue.number == number {
            return Some(self.queue.clone());
        }
        let mut index = 0;
        while let Some(lane) = self.turns.added(index).filter(|_| self.turns.are_taken()) {
            if lane.number == number {
                return Some(lane);
            }
            index += 1;
        }
        None
    }

    /// Whether a queue of this pool has this number.
    pub(crate) fn owns(&self, queue: u16) -> bool {
        self.lane(queue).is_some()
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
            // Inside of its own callback, a worker may run another: then it is that one's record that shows it.
            let worker = ended.and_then(|_| self.registry.worker_of(&record));
            if let Some(outcome) = ended
                && let Some(worker) = worker.filter(|worker| !worker.replaced.load(Ordering::Relaxed))
            {
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
                    if !self.replace(&worker, &record, task.as_ptr()) {
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

    /// Has another thread take the place of a worker, which `shown` shows to be inside a task's user code. False if none was
    /// left.
    fn replace(self: &Arc<Self>, worker: &Arc<Record>, shown: &Record, inside: NonNull<Slot>) -> bool {
        if self.queue.is_closed() && self.nothing_queued() {
            return true;
        }
        if !self.mark_replaced(worker) {
            self.check_stalled();
            return false;
        }
        full_fence();
        if shown.own.current.load(Ordering::Relaxed) != inside.as_ptr() {
            // It has just left: then it may not have seen the mark, and goes on, or it has, and ends.
            if self.registry.unreplace(worker) {
                self.nobody_comes();
                return true;
            }
        }
        // If it waited, nobody else is to stand in for it.
        self.is_back(worker);
        self.create_coming(worker);
        true
    }

    /// Creates the thread that takes the place of a worker marked as replaced. `done` is told whether there is one.
    fn create_replacement(self: &Arc<Self>, record: Arc<Record>, done: impl FnOnce(&Arc<Self>, bool) + Send + 'static) {
        let start = move |shared: &Arc<Self>| match shared.spawn_worker() {
            Ok(_) => {
                shared.books.replaced.fetch_add(1, Ordering::Relaxed);
                done(shared, true);
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
                done(shared, false);
            }
        };
        if self.config.spawner.is_some() {
            let shared = self.clone();
            self.deliver("the spawner", move || start(&shared));
        } else {
            start(self);
        }
    }

    fn check_stalled(self: &Arc<Self>) {
        let before = self.stalls.load(Ordering::Acquire);
        if before % 2 == 1 {
            return;
        }
        let mut working: Vec<Arc<Record>> = self.registry.each(|records| {
            let running = records
                .iter()
                .filter(|r| !r.caller && r.running.load(Ordering::Relaxed));
            running.cloned().collect()
        });
        let count = working.len();
        for (task, record) in self.find_running() {
            if has_begun_and_not_returned(&task)
                && slot::outcome(task.load()).is_some()
                && let Some(stuck) = self.registry.worker_of(&record)
            {
                working.retain(|worker| !Arc::ptr_eq(worker, &stuck));
            }
            self.let_go(task);
        }
        if !working.is_empty() {
            return;
        }
        let (working, stuck) = (count, self.leaks());
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
            queued: self.stats().queued,
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

    // ---- queues ----

    /// Calls `look` for each queue. No lock is held meanwhile.
    pub(crate) fn each_lane(&self, mut look: impl FnMut(&Lane)) {
        look(&self.queue);
        self.added_lanes(look);
    }

    fn added_lanes(&self, mut look: impl FnMut(&Lane)) {
        if self.turns.are_taken() {
            let mut index = 0;
            while let Some(lane) = self.turns.added(index) {
                look(&lane);
                index += 1;
            }
        }
    }

    /// From now on queues take turns; what runs now holds permits of the default queue.
    pub(crate) fn take_turns(&self) {
        let begun = self.turns.prepare(|| {
            self.queue.divert(|| {
                // Nobody can take a task now, so those taken stand in a `current` (queue invariant 3).
                let running = self.registry.each(|records| {
                    let busy = records.iter().filter(|record| {
                        let busy = !record.own.current.load(Ordering::Relaxed).is_null();
                        record.permit.store(busy, Ordering::Relaxed);
                        busy
                    });
                    busy.count()
                });
                self.queue.turn.running.store(running, Ordering::Relaxed);
                self.turns.begin();
                self.idle.begin_turns();
            });
        });
        if begun {
            self.tell_workers(&self.queue);
        }
    }

    /// After a push, or something else that may let a task of the queue be started: has somebody take it. False if there is
    /// no worker to wake and nobody searches.
    #[inline(always)]
    pub(crate) fn tell_workers(&self, lane: &Lane) -> bool {
        // Held back, whoever lets it go on tells somebody.
        self.idle.notify(|| self.turns.list(lane))
    }

    /// [`tell_workers`](Self::tell_workers), and a thread is created if there is none yet.
    pub(crate) fn go_on(self: &Arc<Self>, lane: &Lane) {
        if !self.tell_workers(lane) && self.may_need_workers() && self.something_to_do() {
            self.more_workers();
        }
    }

    /// The time of a task that was parked in its queue has come, unless it has been ended meanwhile.
    pub(crate) fn start(self: &Arc<Self>, task: &Slot) {
        self.each_lane(|lane| {
            if lane.number == task.lane() && lane.unpark(task) {
                self.go_on(lane);
            }
        });
        // A callback that waits for it may be the one to run it.
        crate::waits::look_again(self);
    }

    /// A drain has begun, or come closer: what is not to be started before its end is not waited for. The timer thread looks.
    pub(crate) fn late_starts(&self) {
        self.life.lock().late_starts = true;
        self.progress();
    }

    /// Ends what is not to be started before the drain deadline. On the timer thread.
    fn abandon_late_starts(self: &Arc<Self>) {
        let until = {
            let mut life = self.life.lock();
            if !std::mem::take(&mut life.late_starts) {
                return;
            }
            life.drain_until
        };
        let mut abandoned = Vec::new();
        for task in self.timer.starting_after(until) {
            if end::end(&task, Outcome::Abandoned, None) {
                abandoned.push(never_run(&task));
            }
            self.let_go(task);
        }
        self.life.lock().abandoned.extend(abandoned);
    }

    /// The pool's queues hold so many more tasks.
    pub(crate) fn add_demand(&self, demand: usize) {
        self.demand.fetch_add(demand, Ordering::Relaxed);
        arena::add_demand(demand);
    }

    /// Whether there is something for a worker to start, it seems.
    #[inline(always)]
    pub(crate) fn something_to_do(&self) -> bool {
        if self.turns.are_taken() {
            self.turns.are_due()
        } else {
            !self.queue.looks_empty()
        }
    }

    /// Whether no queue holds a task. Once the pool is closed, that stays so.
    pub(crate) fn nothing_queued(&self) -> bool {
        if !self.turns.are_taken() {
            return self.queue.looks_empty();
        }
        let mut queued = 0;
        self.each_lane(|lane| queued += lane.queued());
        queued == 0
    }

    /// After the close: whether a worker that finds nothing should look whether it may leave, rather than sleep.
    pub(crate) fn may_be_over(&self) -> bool {
        !self.turns.are_taken() || self.nothing_queued()
    }

    /// Whether a worker that found nothing may leave for good.
    pub(crate) fn is_over(&self) -> bool {
        self.queue.is_closed() && self.nothing_queued()
    }

    /// A callback has returned, with a permit that queues' turns gave.
    pub(crate) fn give_back(&self, lane: &Lane, key: Option<u32>) -> bool {
        let more = self.turns.give_back(lane, key);
        self.disappoint();
        more
    }

    /// The same for a callback that had been started before queues took turns.
    #[cold]
    pub(crate) fn give_back_first(self: &Arc<Self>, record: &Record) {
        if record.permit.load(Ordering::Relaxed) {
            record.permit.store(false, Ordering::Relaxed);
            if self.give_back(&self.queue, None) {
                self.go_on(&self.queue);
            }
        }
    }

    /// Whether the timer thread has moved since this was asked last, and the pool is not stalled. A pool that has come to its
    /// end is well.
    #[cfg(feature = "systemd")]
    pub(crate) fn is_well(&self) -> bool {
        if self.is_inherited() || self.life.lock().phase == Phase::Done {
            return true;
        }
        if self.asked.swap(true, Ordering::AcqRel) {
            return false;
        }
        self.timer.at(clock::now(), Event::Beat);
        self.stalls.load(Ordering::Relaxed).is_multiple_of(2)
    }

    /// The timer thread moves.
    #[cfg(feature = "systemd")]
    pub(crate) fn beat(&self) {
        self.asked.store(false, Ordering::Release);
    }

    // ---- the end ----

    /// Accepts no more. What was accepted is run.
    pub(crate) fn close(&self) {
        self.begin_drain(NEVER);
    }

    /// Closes; at `until` what has not ended is abandoned. Never blocks.
    pub(crate) fn begin_drain(&self, until: u64) {
        if self.is_inherited() {
            return;
        }
        // A drain needs every queue to run on.
        self.turns.close(&self.queue);
        self.added_lanes(|lane| lane.close());
        self.queue.close();
        if self.turns.are_taken() {
            full_fence();
            self.each_lane(|lane| {
                self.turns.list(lane);
            });
        }
        self.idle.wake_all();
        if self.turns.are_taken() && self.on_demand() {
            // What was paused may have no thread yet.
            self.timer.at(clock::now(), Event::Worker);
        }
        // Pairs with the fence in `closed`: it sees that the queue is closed, or we see the token.
        full_fence();
        if let Some(closed) = self.closed.get() {
            closed.cancel();
        }
        {
            let mut life = self.life.lock();
            if life.phase == Phase::Open {
                life.phase = Phase::Draining;
            }
            if until < life.drain_until {
                life.drain_until = until;
                life.late_starts = true;
                self.timer.at(until, Event::Progress);
            }
        }
        self.progress();
    }

    /// A token that is cancelled when the pool closes.
    pub(crate) fn closed(&self) -> &CancellationToken {
        let closed = self.closed.get_or_init(CancellationToken::new);
        full_fence();
        if self.queue.is_closed() {
            closed.cancel();
        }
        closed
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
                self.abandon_late_starts();
                if self.all_gone() {
                    return true;
                }
                if self.turns.are_taken() {
                    // Workers that sleep because what is left is held back by limits leave with the last.
                    if self.nothing_queued() {
                        self.idle.wake_all();
                    }
                    self.timer.at(now + 2 * MS, Event::Progress);
                } else if self.threads_running() == 0 {
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

    /// Cancels what is queued of a closed pool, and tells how many tasks that were.
    pub(crate) fn cancel_queued(self: &Arc<Self>, reason: &CancelReason) -> usize {
        let mut cancelled = 0;
        self.end_queued(Outcome::Cancelled, Some(reason), |_| cancelled += 1);
        cancelled
    }

    /// Ends every queued task of a closed pool; `each` is told of those that had not ended.
    fn end_queued(self: &Arc<Self>, outcome: Outcome, reason: Option<&CancelReason>, mut each: impl FnMut(&Slot)) {
        self.each_lane(|lane| {
            while let Some((task, won)) = lane.pop_won(|task| task.win().is_some()) {
                if won {
                    each(&task);
                    end::finish_and_tell(self, &task, QUEUED, outcome, reason);
                }
                self.let_go(task);
            }
        });
        if self.turns.are_taken() {
            self.idle.wake_all();
        }
    }

    /// Ends everything that has not ended.
    fn abandon_all(self: &Arc<Self>) -> Vec<TaskRecord> {
        let mut abandoned = Vec::new();
        self.end_queued(Outcome::Abandoned, None, |task| abandoned.push(never_run(task)));
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
        self.wait_done_until(NEVER);
    }

    /// [`wait_done`](Self::wait_done), until `until` at most: whether the end has been reached.
    pub(crate) fn wait_done_until(&self, until: u64) -> bool {
        if self.is_inherited() {
            return true;
        }
        let mut life = self.life.lock();
        while life.phase != Phase::Done {
            if until == NEVER {
                life = self.life_changed.wait(life);
                continue;
            }
            let now = clock::now();
            if now >= until {
                return false;
            }
            life = self.life_changed.wait_timeout(life, Duration::from_nanos(until - now));
        }
        drop(life);
        self.join();
        true
    }

    /// Whether the end has been reached; if not, `waker` is woken then.
    pub(crate) fn poll_done(&self, waker: &Waker) -> bool {
        if self.is_inherited() {
            return true;
        }
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
        if self.is_inherited() {
            return;
        }
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
        if self.is_inherited() {
            return ShutdownReport {
                drained: false,
                stats: Stats::default(),
                abandoned: Vec::new(),
                stuck: Vec::new(),
                threads_left: 0,
                elapsed: Duration::ZERO,
            };
        }
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
        if self.is_inherited() {
            return stats;
        }
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
        self.each_lane(|lane| {
            let depth = lane.depth();
            stats.submitted += depth.pushed + depth.direct;
            stats.queued += depth.queued;
            for (sum, count) in ended.iter_mut().zip(depth.ended) {
                *sum += count;
            }
            stats.blocked_producers += lane.blocked() as u64;
        });
        stats.set_outcomes(std::mem::take(&mut ended));
        stats.running = stats.submitted.saturating_sub(stats.ended() + stats.queued);
        stats.workers = workers as u64;
        stats.refused = self.books.refused.load(Ordering::Relaxed);
        stats.late = self.books.late.load(Ordering::Relaxed);
        stats.overdue = self.books.overdue.load(Ordering::Relaxed);
        stats.replaced = self.books.replaced.load(Ordering::Relaxed);
        stats.stalled = self.books.stalled.load(Ordering::Relaxed);
        stats.unobserved = self.reporter.count.load(Ordering::Relaxed);
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
            .partition(|(task, _)| has_begun_and_not_returned(task));
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
        if self.is_inherited() {
            return Vec::new();
        }
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

    /// Whether a worker that takes a task while nobody idles should see to it that somebody takes the next.
    #[inline(always)]
    pub(crate) fn may_need_workers(&self) -> bool {
        self.on_demand() || self.away_count.load(Ordering::Relaxed) != 0
    }

    /// Whether the pool creates threads at submit.
    #[inline(always)]
    pub(crate) fn on_demand(&self) -> bool {
        self.config.threads == Threads::OnDemand
    }
}

/// A task that is abandoned while it is queued.
fn never_run(task: &Slot) -> TaskRecord {
    TaskRecord {
        name: task.name(),
        state: TaskState::Queued,
        outcome: Some(Outcome::Abandoned),
        age: Duration::ZERO,
        thread: None,
    }
}

/// Whether the task's user code may be on the stack of whoever shows it.
fn has_begun_and_not_returned(task: &SlotRef) -> bool {
    let word = task.load();
    word & RELEASED == 0 && slot::state(word) != QUEUED
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
        if self.is_inherited() {
            return;
        }
        arena::pool_closed(self.demand.load(Ordering::Relaxed));
    }
}

/// The token of a running task: what its callback submits stands under it.
pub(crate) fn own_token(task: &SlotRef) -> CancellationToken {
    if task.is_inherited() {
        return CancellationToken::new_cancelled(CancelReason::Forked, NEVER);
    }
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
