//! Waiting inside a callback, without stalling the pool and without a deadlock (P10).
//!
//! A worker whose callback waits lends its place: another thread stands in for it, up to `max_replacements`. Past that
//! limit, what it waits for is run here, on its own stack, if that is queued in its own pool. What is left is waited for,
//! unless nobody could ever end the wait: then the last one to begin it is told.
//!
//! Invariants:
//! 1. Every wait without a time limit that a callback makes stands in `WAITS` for as long as its thread may sleep, with all
//!    tasks on that thread's stack. It is put there and looked at in one step under the lock. So of several waits that close
//!    a cycle together, the last one put there sees the cycle.
//! 2. A wait that ends by itself (a timeout, a token) is not there, and neither is a thread that runs: both may make
//!    progress. Deadlines of tasks are none: what they would end is an answer, not work.
//! 3. All waits are for *one of* several things, so "could progress" is: something that may make progress is reached
//!    by following what waits for what.
//! 4. What ends a reason to think so (a thread that does not come, a limit that is not reached any more, a queue that is
//!    resumed, fewer workers) wakes all sleepers of the pool to look again.
//! 5. A forked child has a list of its own, and what it inherited is not waited for.
//!
//! Lock order: `WAITS`, then a registry. Nothing is dropped under it that could be the last of its kind, and no thread is
//! created or woken under it.

use crate::clock::NEVER;
use crate::context;
use crate::error::{Blocked, Deadlock};
use crate::fork::{Renewed, renewed};
use crate::lane::Lane;
use crate::registry::Record;
use crate::shared::Shared;
use crate::slot::{self, Event, QUEUED, RUNNING, Slot, SlotRef, Waiter};
use crate::sync::{Arc, AtomicBool, Mutex, Ordering, Parker, global};
use crate::worker;
use std::collections::{HashMap, HashSet};

global! {
    static WAITS: Renewed<Mutex<Waits>> = renewed!(Mutex::new(Waits { next: 0, list: Vec::new() }));
}

struct Waits {
    next: u64,
    list: Vec<Wait>,
}

/// A thread inside one or more callbacks, which waits.
struct Wait {
    key: u64,
    /// The tasks whose callbacks are on its stack, the innermost first.
    stack: Vec<Running>,
    /// Which worker it is, if it is one.
    worker: Option<(Arc<Shared>, Arc<Record>)>,
    target: Target,
    sleeper: Arc<Sleeper>,
    /// Whether it may run what it waits for on its own stack.
    may_run: bool,
}

/// A task whose callback is on the stack.
struct Running {
    task: SlotRef,
    pool: Arc<Shared>,
    /// As [`Record::key`] has it.
    key: u32,
}

/// What is waited for.
#[derive(Clone)]
enum Target {
    /// One of these tasks.
    Tasks(Vec<SlotRef>),
    /// A place in a queue.
    Room { pool: Arc<Shared>, queue: u16 },
}

/// How a thread in the list is woken to look again.
struct Sleeper {
    parker: Arc<Parker>,
    look: AtomicBool,
}

impl Sleeper {
    fn new() -> Arc<Sleeper> {
        Arc::new(Sleeper {
            parker: crate::sync::parker(),
            look: AtomicBool::new(false),
        })
    }

    fn wake(&self) {
        self.look.store(true, Ordering::Release);
        self.parker.unpark();
    }
}

// ---- the ways to wait ----

/// Blocks until `event`, or until `until` (then false). For any thread.
pub(crate) fn wait(task: &SlotRef, event: Event, until: u64) -> Result<bool, Box<Deadlock>> {
    if there(task, event) {
        return Ok(true);
    }
    if !context::inside_any() || task.is_inherited() {
        return Ok(task.wait(event, until));
    }
    // Most answers come at once: whoever looks around a little needs nobody to stand in. But not for a task that nobody is
    // about to take.
    let idle = || context::worker().is_none_or(|(shared, _)| shared.idle.somebody());
    if (slot::state(task.load()) != QUEUED || idle()) && task.spin(event) {
        return Ok(true);
    }
    wait_inside(task, event, until)
}

/// [`wait`] for a wait that ends by itself, or by its token.
pub(crate) fn away<R>(wait: impl FnOnce() -> R) -> R {
    let worker = context::worker();
    let _away = worker.as_ref().map(|(shared, record)| Away::begin(shared, record));
    wait()
}

fn there(task: &Slot, event: Event) -> bool {
    match event {
        Event::Ended => slot::ended(task.load()),
        Event::Released => task.load() & slot::RELEASED != 0,
    }
}

#[cold]
fn wait_inside(task: &SlotRef, event: Event, until: u64) -> Result<bool, Box<Deadlock>> {
    if until != NEVER {
        return Ok(away(|| task.wait(event, until)));
    }
    let target = || Target::Tasks(vec![task.clone()]);
    let runs = |worker: &Worker| event == Event::Ended && run_here(worker, task);
    block(target, runs, |sleeper| {
        let Ok(key) = task.register(Waiter::Thread(event, sleeper.parker.clone())) else {
            return true;
        };
        while !there(task, event) && !sleeper.look.load(Ordering::Acquire) {
            sleeper.parker.park();
        }
        task.unregister(key);
        there(task, event)
    })
    .map(|()| true)
}

/// Blocks until `answer` has one: for a place in a queue of `pool`. Whoever announces one, and whatever else `answer` looks
/// at, unparks `parker`, which is the thread's.
pub(crate) fn for_room<R>(
    pool: &Arc<Shared>,
    queue: u16,
    parker: &Parker,
    mut answer: impl FnMut() -> Option<R>,
) -> Result<R, Box<Deadlock>> {
    if !context::inside_any() {
        loop {
            if let Some(answer) = answer() {
                return Ok(answer);
            }
            parker.park();
        }
    }
    if let Some(answer) = answer() {
        return Ok(answer);
    }
    let mut found = None;
    let target = || Target::Room {
        pool: pool.clone(),
        queue,
    };
    block(
        target,
        |_| false,
        |sleeper| {
            loop {
                found = answer();
                if found.is_some() || sleeper.look.load(Ordering::Acquire) {
                    return found.is_some();
                }
                parker.park();
            }
        },
    )
    .map(|()| match found {
        Some(answer) => answer,
        None => unreachable!("it slept until there was an answer"),
    })
}

/// Blocks until `woken` is set, which the end of one of the tasks brings; whoever sets it unparks the thread. For a wait without
/// a limit inside a callback. Returns as well after one of the tasks was run here.
pub(crate) fn any(tasks: &[SlotRef], woken: &AtomicBool) -> Result<(), Box<Deadlock>> {
    block(
        || Target::Tasks(tasks.to_vec()),
        |worker| tasks.iter().any(|task| run_here(worker, task)),
        |sleeper| {
            while !woken.load(Ordering::Acquire) && !sleeper.look.load(Ordering::Acquire) {
                sleeper.parker.park();
            }
            woken.load(Ordering::Acquire)
        },
    )
}

/// Blocks until one of several things is there, for a wait without a limit inside a callback. `sleep` blocks until it is
/// (true) or the sleeper is to look again.
fn block(
    target: impl Fn() -> Target,
    mut run: impl FnMut(&Worker) -> bool,
    mut sleep: impl FnMut(&Sleeper) -> bool,
) -> Result<(), Box<Deadlock>> {
    let worker = context::worker();
    let mut woken = false;
    let mut told = false;
    loop {
        let away = worker.as_ref().map(|(shared, record)| Away::begin(shared, record));
        let past_the_limit = away.as_ref().is_some_and(|away| !away.covered);
        // One that was woken is the one who can go on, whether or not somebody stands in.
        if (past_the_limit || woken)
            && let Some(worker) = &worker
            && stack_left()
            && run(worker)
        {
            return Ok(());
        }
        let sleeper = Sleeper::new();
        match Listed::new(worker.clone(), target(), &sleeper) {
            Ok(_listed) => {
                if sleep(&sleeper) {
                    return Ok(());
                }
            }
            // Others stand in, and wait as well: then it is up to this one.
            Err(_) if worker.as_ref().is_some_and(|worker| stack_left() && run(worker)) => return Ok(()),
            // What it waits for may have been taken, or have ended, since the search found it queued: one more search sees that.
            Err(deadlock) if told => return Err(deadlock),
            Err(_) => told = true,
        }
        woken = true;
    }
}

type Worker = (Arc<Shared>, Arc<Record>);

/// Runs a task of the worker's own pool on this stack, if it is still queued and its queue lets it.
fn run_here((shared, _): &Worker, task: &SlotRef) -> bool {
    slot::state(task.load()) == QUEUED
        && shared
            .lane(task.lane())
            // Not even a permit is taken for one that is held back: others would count on it.
            .is_some_and(|lane| lane.is_open() && lane.is_next(task) && worker::run_inline(shared, &lane, task))
}

/// While it lives, another thread stands in for a worker that waits.
struct Away<'a> {
    shared: &'a Arc<Shared>,
    record: &'a Arc<Record>,
    /// Somebody stands in, or there are idle workers enough for now.
    covered: bool,
}

impl<'a> Away<'a> {
    fn begin(shared: &'a Arc<Shared>, record: &'a Arc<Record>) -> Away<'a> {
        Away {
            shared,
            record,
            covered: shared.stand_in(record),
        }
    }
}

impl Drop for Away<'_> {
    fn drop(&mut self) {
        self.shared.is_back(self.record);
    }
}

// ---- who waits for whom ----

/// A wait that stands in the list.
struct Listed(u64);

impl Listed {
    fn new(worker: Option<Worker>, target: Target, sleeper: &Arc<Sleeper>) -> Result<Listed, Box<Deadlock>> {
        let stack = context::stack(|task, pool, record| Running {
            task: task.clone(),
            pool: pool.clone(),
            key: record.key.load(Ordering::Relaxed),
        });
        let may_run = stack_left();
        let (key, dead, wake) = {
            let mut waits = WAITS.get().lock();
            let key = waits.next;
            waits.next += 1;
            waits.list.push(Wait {
                key,
                stack,
                worker,
                target,
                sleeper: sleeper.clone(),
                may_run,
            });
            let mut search = Search::new(&waits.list);
            let progresses = search.progresses(waits.list.len() - 1);
            let dead = (!progresses).then(|| search.names());
            (key, dead, search.wake)
        };
        if let Some(sleeper) = wake {
            sleeper.wake();
        }
        let listed = Listed(key);
        match dead {
            None => Ok(listed),
            Some(waits) => {
                drop(listed);
                Err(Box::new(Deadlock { waits }))
            }
        }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let gone = {
            let mut waits = WAITS.get().lock();
            let at = waits.list.iter().position(|wait| wait.key == self.0);
            at.map(|at| waits.list.remove(at))
        };
        // Its references: outside of the lock.
        drop(gone);
    }
}

/// A reason to go on waiting may have gone, or come, in this pool: its workers that wait look again. (A wait elsewhere that
/// counts on them is woken by theirs, or stays as it was.)
pub(crate) fn look_again(pool: &Shared) {
    let own = |wait: &&Wait| {
        wait.worker
            .as_ref()
            .is_some_and(|(own, _)| std::ptr::eq(&raw const **own, pool))
    };
    let sleepers: Vec<_> = {
        let waits = WAITS.get().lock();
        waits.list.iter().filter(own).map(|wait| wait.sleeper.clone()).collect()
    };
    for sleeper in sleepers {
        sleeper.wake();
    }
}

/// Follows what waits for what: one wait after the other, for a chain may be longer than a stack is deep.
struct Search<'l> {
    list: &'l [Wait],
    /// Which wait each running callback stands in; found when first needed.
    inside: Option<HashMap<*const Slot, usize>>,
    /// The workers that wait; found when first needed.
    waiting: Option<HashSet<*const Record>>,
    seen: Vec<bool>,
    /// What has been reached, the one that asks first.
    reached: Vec<usize>,
    /// One that can go on if it is woken.
    wake: Option<Arc<Sleeper>>,
}

impl<'l> Search<'l> {
    fn new(list: &'l [Wait]) -> Self {
        Search {
            list,
            inside: None,
            waiting: None,
            seen: vec![false; list.len()],
            reached: Vec::new(),
            wake: None,
        }
    }

    /// Whether the wait at `at` could end.
    fn progresses(&mut self, at: usize) -> bool {
        self.reach(at);
        let mut next = 0;
        while let Some(&at) = self.reached.get(next) {
            next += 1;
            let wait = &self.list[at];
            let progresses = match &wait.target {
                Target::Tasks(tasks) => tasks.iter().any(|task| self.task_progresses(at, task)),
                Target::Room { queue, .. } => self.queue_progresses(*queue),
            };
            if progresses {
                return true;
            }
        }
        false
    }

    /// What this wait waits for is looked at as well.
    fn reach(&mut self, at: usize) {
        if !std::mem::replace(&mut self.seen[at], true) {
            self.reached.push(at);
        }
    }

    fn task_progresses(&mut self, by: usize, task: &SlotRef) -> bool {
        match slot::state(task.load()) {
            // Its time will come: then everybody looks again.
            QUEUED if found(self.list, task.lane()).is_some_and(|(_, lane)| lane.is_parked(task)) => true,
            QUEUED => {
                let held = found(self.list, task.lane()).and_then(|(shared, lane)| {
                    lane.held_back_by_key(task)?;
                    shared.count_on();
                    lane.held_back_by_key(task)
                });
                if let Some((key, occupants)) = held {
                    return self
                        .occupants_progress(occupants, |own| own.task.lane() == task.lane() && own.key == key + 1);
                }
                if self.queue_progresses(task.lane()) {
                    return true;
                }
                // Who waits for it may run it, unless a limit or its key holds it back. Not the one that asks: it has tried.
                let wait = &self.list[by];
                let own = wait.worker.as_ref().and_then(|(shared, _)| shared.lane(task.lane()));
                let free = own.is_some_and(|lane| lane.is_open() && lane.is_next(task));
                if free && wait.may_run && self.reached[0] != by {
                    self.wake = Some(wait.sleeper.clone());
                }
                self.wake.is_some()
            }
            RUNNING => {
                let list = self.list;
                let inside = self.inside.get_or_insert_with(|| {
                    let of = |(at, wait): (usize, &'l Wait)| wait.stack.iter().map(move |own| (pointer(&own.task), at));
                    list.iter().enumerate().flat_map(of).collect()
                });
                // Perhaps inside of a callback that waits; all others run, or have ended.
                match inside.get(&pointer(task)) {
                    Some(&at) => {
                        self.reach(at);
                        false
                    }
                    None => true,
                }
            }
            _ => true,
        }
    }

    /// Whether somebody may take a task out of a queue.
    fn queue_progresses(&mut self, queue: u16) -> bool {
        let list = self.list;
        if let Some((shared, lane)) = found(list, queue) {
            // Somebody resumes it, and has its pool look again.
            if lane.paused.load(Ordering::Relaxed) {
                return true;
            }
            // Held back by callbacks that occupy its limit.
            let full = || {
                let occupants = lane.turn.running.load(Ordering::Relaxed);
                (occupants >= lane.limit.load(Ordering::Relaxed)).then_some(occupants)
            };
            if full().is_some() {
                shared.count_on();
            }
            if let Some(occupants) = full() {
                return self.occupants_progress(occupants, |own| own.task.lane() == queue);
            }
        }
        let inside = |wait: &Wait| wait.worker.as_ref().is_some_and(|(shared, _)| shared.owns(queue));
        let Some((shared, _)) = list
            .iter()
            .find(|wait| inside(wait))
            .and_then(|wait| wait.worker.as_ref())
        else {
            // No worker of that pool waits.
            return true;
        };
        let waiting = self.waiting.get_or_insert_with(|| {
            let record = |wait: &Wait| wait.worker.as_ref().map(|(_, record)| Arc::as_ptr(record));
            list.iter().filter_map(record).collect()
        });
        // One that leaves without being replaced takes nothing more.
        let takes =
            |record: &Arc<Record>| !record.caller && !record.is_surplus() && !waiting.contains(&Arc::as_ptr(record));
        // Whoever has a thread come is on the list until that is announced, and the thread until it waits.
        if shared.workers_are_coming()
            || shared.registry.each(|all| all.iter().any(takes))
            || shared.workers_are_coming()
        {
            return true;
        }
        (0..list.len())
            .filter(|at| inside(&list[*at]))
            .for_each(|at| self.reach(at));
        false
    }

    /// Whether one of so many callbacks that hold others back does not wait.
    fn occupants_progress(&mut self, occupants: usize, holds: impl Fn(&Running) -> bool) -> bool {
        let mut waiting = 0;
        for (at, wait) in self.list.iter().enumerate() {
            let held = wait.stack.iter().filter(|own| holds(own)).count();
            waiting += held;
            if held != 0 {
                self.reach(at);
            }
        }
        occupants > waiting
    }

    /// What has been reached, in words.
    fn names(&self) -> Vec<Blocked> {
        let name = |at: &usize| {
            let wait = &self.list[*at];
            let waits_for = match &wait.target {
                Target::Tasks(tasks) => match &tasks[..] {
                    [task] => task.name().to_string(),
                    tasks => format!("one of {} tasks, among them {}", tasks.len(), tasks[0].name()),
                },
                Target::Room { pool, .. } => format!("room in a queue of pool {}", pool.config.name),
            };
            wait.stack.first().map(|own| Blocked {
                task: own.task.name(),
                pool: own.pool.config.name.clone(),
                waits_for,
            })
        };
        self.reached.iter().filter_map(name).collect()
    }
}

fn pointer(task: &SlotRef) -> *const Slot {
    task.as_ptr().as_ptr()
}

/// A queue, by its number, if it is one of a pool whose callback waits; and its pool.
fn found(list: &[Wait], queue: u16) -> Option<(&Arc<Shared>, Arc<Lane>)> {
    let mut pools = list.iter().flat_map(|wait| &wait.stack);
    pools.find_map(|own| Some((&own.pool, own.pool.lane(queue)?)))
}

// ---- the stack ----

/// Whether there is stack enough to run another callback on it: half a megabyte, and a quarter of it all.
#[cfg(not(all(test, any(loom, shuttle))))]
fn stack_left() -> bool {
    const ENOUGH: usize = 512 << 10;
    let probe = std::hint::black_box(0u8);
    let here = std::ptr::from_ref(&probe).addr();
    let (lowest, size) = crate::sync::stack_of_thread();
    here.saturating_sub(lowest) > (size / 4).max(ENOUGH.min(size / 2))
}

#[cfg(all(test, any(loom, shuttle)))]
fn stack_left() -> bool {
    true
}
