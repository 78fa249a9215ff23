//! A worker by steps: for a host whose threads cannot sit inside of core's loop while a callback runs.
//!
//! The host asks for a task, gets one started, runs it in its own way, and says how it ended; what other languages submitted
//! runs within the asking.
//!
//! Invariants:
//! 1. A task is taken only when this worker is free, and is started in the same step: no task waits in a host's hands.
//! 2. From the start of a handed task to its `finish` it stands in the record's `current`, of which the reference is ours,
//!    and its context is that of the thread that last arrived. So the timer thread, P8 and P10 see it as they see others.
//! 3. A worker that counts as searching comes back soon: the host takes, rests or pauses next.
//! 4. Whoever dozes stands in the stack of idle workers until it is woken, and counts as searching from then on.
//! 5. The payload of a handed task is empty until `finish` puts a value there (slot invariant 2: it is the worker's).

use crate::context::{self, Context};
use crate::error::Outcome;
use crate::lane::Lane;
use crate::queue::{Queue, Taken};
use crate::report::WorkerInfo;
use crate::slot::{self, SlotRef};
use crate::sync::{Arc, Ordering, Parker, full_fence_after_rmw, thread};
use crate::task;
use crate::worker::{self, Pace, Worker};
use std::any::TypeId;
use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

/// A [`Worker`] that its host drives: see [`Worker::by_steps`].
///
/// Dropped, it leaves the pool. That is for when it holds no task, and for the thread that it arrived on.
pub struct Steps {
    worker: Box<Worker>,
    searching: bool,
    pace: Pace,
    by_turns: bool,
    listed: bool,
    /// Of a host that dozes: it is woken by a call.
    bell: Option<Arc<Parker>>,
    /// It is among the idle ones, to be woken by `bell`.
    dozing: bool,
    /// What the thread served before it arrived.
    before: Option<u32>,
    held: Option<Held>,
}

/// A task in the host's hands, or about to be run for another. The reference to it is the context's.
struct Held {
    context: Box<ManuallyDrop<Context>>,
    /// The queue whose permit it has, and its key, where queues take turns.
    lane: Option<(NonNull<Lane>, Option<u32>)>,
    /// There was more behind it in the queue.
    more: bool,
    /// It is started, and its callback has not been called.
    uncalled: bool,
}

// SAFETY: the lane lives as long as the pool, which `worker` keeps, and is shared between threads; the context is touched by
// the thread that has the `Steps` only.
unsafe impl Send for Steps {}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A callback has handed its task out: run it, then [`finish`](Steps::finish) it.
    Handed,
    /// A task came to its end within this step.
    Ran,
    /// A task is started whose callback is not the host's: the next [`take`](Steps::take) runs it.
    Foreign,
    /// There is nothing to do: [`rest`](Steps::rest).
    Nothing,
    /// This worker is to end: drop the steps.
    End,
}

impl Worker {
    /// For a host that asks for one task after another, on whatever thread, instead of lending one to [`run`](Self::run).
    pub fn by_steps(self) -> Steps {
        Steps {
            worker: Box::new(self),
            searching: false,
            pace: Pace::default(),
            by_turns: false,
            listed: false,
            bell: None,
            dozing: false,
            before: None,
            held: None,
        }
    }
}

impl Steps {
    /// The calling thread is inside the callback of the task in hand until [`depart`](Self::depart), which it calls soon: what
    /// it waits for, or submits, in between is the callback's.
    pub fn arrive(&mut self) {
        if self.before.is_none() {
            self.before = Some(context::serve(self.worker.shared.queue.number));
            context::serve_as(&raw const *self.worker);
            let held = self
                .held
                .as_ref()
                .map_or(std::ptr::null(), |held| &raw const **held.context);
            context::inside_of(held);
        }
    }

    /// Undoes [`arrive`](Self::arrive), on the same thread.
    pub fn depart(&mut self) {
        if let Some(before) = self.before.take() {
            context::inside_of(std::ptr::null());
            context::serve_as(std::ptr::null());
            context::serve_no_more(before);
        }
    }

    /// The callback in hand waits outside of core, for a time that ends by itself: until it is [`back`](Self::back), another
    /// worker stands in for this one, as far as `max_replacements` allows.
    pub fn away(&mut self) {
        self.worker.shared.stand_in(&self.worker.record);
    }

    /// Undoes [`away`](Self::away).
    pub fn back(&mut self) {
        self.worker.shared.is_back(&self.worker.record);
    }

    /// This worker is at work.
    #[cold]
    fn list(&mut self) {
        self.listed = true;
        let record = &self.worker.record;
        *record.name.lock() = Some(self.worker.thread_name());
        record.by_steps.store(true, Ordering::Relaxed);
        record.running.store(true, Ordering::Release);
        self.tell("the on_worker_start hook", &self.worker.shared.config.on_worker_start);
    }

    fn tell(&self, what: &'static str, hook: &crate::config::Hook<WorkerInfo>) {
        let shared = &self.worker.shared;
        if let Some(hook) = hook
            && !shared.is_inherited()
        {
            let before = context::serve(shared.queue.number);
            slot::guard(what, || hook(&self.worker.info()));
            context::serve_no_more(before);
        }
    }

    /// The worker whose steps these are.
    pub fn worker(&self) -> &Worker {
        &self.worker
    }

    /// Takes a task if there is one, and starts it: runs its callback, after which `handed` says whether that only
    /// handed the task out. Blocks only as long as callbacks that are not handed out take; where `mine` is given, callbacks
    /// of other types are left to the next call, so that it never blocks.
    ///
    /// A callback that hands its task out returns at once, whatever it likes; the value is dropped.
    ///
    /// # Panics
    /// Panics with a task in hand.
    pub fn take(&mut self, mine: Option<TypeId>, handed: impl FnOnce() -> bool) -> Step {
        if !self.listed {
            self.list();
        }
        if self.dozing && !self.is_awake() {
            return Step::Nothing;
        }
        if self.held.as_ref().is_some_and(|held| held.uncalled) {
            return self.call(handed);
        }
        assert!(
            self.held.is_none(),
            "duly: a worker with a task in hand asks for another"
        );
        let (shared, record) = (&self.worker.shared, &*self.worker.record);
        // As in `Worker::work`.
        full_fence_after_rmw();
        if shared.is_inherited() || record.replaced.load(Ordering::Relaxed) && shared.registry.leaves(record) {
            return Step::End;
        }
        let (lane, key, task, more) = if shared.turns.are_taken() {
            if !std::mem::replace(&mut self.by_turns, true) {
                shared.give_back_first(record);
            }
            match shared.turns.take(&record.own.current) {
                Some((lane, Taken { task, more, key })) => (Some(lane), key, task, more),
                None if shared.is_over() => return Step::End,
                None => return Step::Nothing,
            }
        } else {
            // Read before the pop: after `close` returned, an empty queue stays empty.
            let closed = shared.queue.is_closed();
            match shared.queue.pop(&record.own.current) {
                Some((task, more)) => (None, None, task, more),
                None if closed && !shared.turns.are_taken() => return Step::End,
                None => return Step::Nothing,
            }
        };
        self.pace.found(more);
        if std::mem::take(&mut self.searching) {
            shared.idle.stop_searching(|| more || shared.something_to_do());
        }
        if shared.may_need_workers() && shared.idle.nobody_to_wake(|| more || shared.something_to_do()) {
            shared.more_workers();
        }
        record.key.store(key.map_or(0, |key| key + 1), Ordering::Relaxed);
        let queue: &Queue = lane.map_or(&shared.queue, |lane| lane);
        let lane = lane.map(|lane| (NonNull::from(lane), key));
        let Some(task) = worker::start(queue, record, task) else {
            self.give_back(lane);
            return Step::Ran;
        };
        // SAFETY: `worker` outlives the context, which is never dropped.
        let context = Box::new(unsafe { context::lasting(task, shared, record) });
        let foreign = mine.is_some_and(|mine| (context.task().vtable().callback_type)() != mine);
        self.held = Some(Held {
            context,
            lane,
            more,
            uncalled: true,
        });
        if foreign { Step::Foreign } else { self.call(handed) }
    }

    /// Calls the callback of the task that has been started.
    fn call(&mut self, handed: impl FnOnce() -> bool) -> Step {
        let Some(mut held) = self.held.take() else {
            return Step::Nothing;
        };
        held.uncalled = false;
        self.before = Some(context::serve(self.worker.shared.queue.number));
        context::serve_as(&raw const *self.worker);
        context::inside_of(&raw const **held.context);
        let task = held.context.task();
        // SAFETY: this worker has moved the task to RUNNING and calls this once; the context is this run's.
        let outcome = unsafe { (task.vtable().run)(task, (&raw const **held.context).cast()) };
        self.depart();
        if handed() {
            // SAFETY: the payload is the worker's, and holds what the callback has just left there.
            unsafe { (task.vtable().drop_value)(task, outcome) };
            self.held = Some(held);
            return Step::Handed;
        }
        self.answer(held, outcome);
        Step::Ran
    }

    /// Blocks until there may be something to do. Between callbacks.
    pub fn rest(&mut self) {
        // Parked on by nobody else: a wake-up that is left over would be taken for one of `idle`.
        let parker = Arc::new(Parker::here());
        self.searching = self.worker.rest(&parker, self.searching, &mut self.pace);
    }

    /// From now on this worker can [`doze`](Self::doze): `wake` is called when there is something to do. It is called by producers,
    /// workers and the timer, so it must not block, and calls nothing of the pool.
    pub fn wake_with(&mut self, wake: impl Fn() + Send + Sync + 'static) {
        if !self.dozing {
            self.bell = Some(Arc::new(Parker::of_host(wake)));
        }
    }

    /// As [`rest`](Self::rest), for a host that has a better use for its thread: registers as idle, and returns. True: `wake` is
    /// called once, perhaps within this call, and `take` gives [`Step::Nothing`] until then. False: it cannot doze, for want
    /// of a [`wake_with`](Self::wake_with), or because it has a task in hand or dozes already.
    pub fn doze(&mut self) -> bool {
        let Some(bell) = self.bell.as_ref().filter(|_| !self.dozing && self.held.is_none()) else {
            return false;
        };
        self.dozing = true;
        self.worker.go_idle(bell, std::mem::take(&mut self.searching));
        true
    }

    /// Whether it has been told by what to be woken.
    pub fn can_doze(&self) -> bool {
        self.bell.is_some()
    }

    /// Whether whoever dozed has been woken: it counts as searching then (`Idle`).
    fn is_awake(&mut self) -> bool {
        let woken = self.bell.as_ref().is_none_or(|bell| bell.take_token());
        if woken {
            self.dozing = false;
            self.searching = true;
        }
        woken
    }

    /// Says how the task in hand ended: its value, its error, or what it panicked with. False if it had its outcome
    /// already (it is late), or no task is in hand; the value is dropped then.
    ///
    /// # Safety
    /// `T` and `E` are what the callback that handed it out gives.
    pub unsafe fn finish<T, E>(&mut self, result: Result<Result<T, E>, Box<str>>) -> bool {
        let Some(held) = self.held.take_if(|held| !held.uncalled) else {
            return false;
        };
        let slot = held.context.task();
        // SAFETY: the payload is the worker's, and empty.
        let outcome = unsafe {
            match result {
                Ok(Ok(value)) => {
                    task::put(slot, value);
                    Outcome::Succeeded
                }
                Ok(Err(error)) => {
                    task::put(slot, error);
                    Outcome::Failed
                }
                Err(message) => {
                    task::put(slot, message);
                    Outcome::Panicked
                }
            }
        };
        self.answer(held, outcome)
    }

    fn answer(&mut self, held: Held, outcome: Outcome) -> bool {
        let before = context::serve(self.worker.shared.queue.number);
        let (shared, record) = (&self.worker.shared, &*self.worker.record);
        // SAFETY: moved out of a context that is not used afterwards, nor dropped.
        let task: SlotRef = unsafe { context::end_lasting(&held.context) };
        let won = worker::answer(shared, record, task, outcome, held.more, &mut self.searching);
        context::serve_no_more(before);
        self.give_back(held.lane);
        won
    }

    fn give_back(&self, lane: Option<(NonNull<Lane>, Option<u32>)>) {
        let (shared, record) = (&self.worker.shared, &*self.worker.record);
        record.key.store(0, Ordering::Relaxed);
        if let Some((lane, key)) = lane
            && !shared.is_inherited()
        {
            // SAFETY: a lane lives as long as its pool.
            shared.give_back(unsafe { lane.as_ref() }, key);
        }
    }

    /// Before the host does something else with the thread, with nothing in hand: others search from now on.
    pub fn pause(&mut self) {
        if std::mem::take(&mut self.searching) {
            let shared = &self.worker.shared;
            shared.idle.stop_searching(|| shared.something_to_do());
        }
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        if self.held.as_ref().is_some_and(|held| held.uncalled) {
            self.call(|| false);
        }
        if let Some(held) = self.held.take() {
            let message: Box<str> = "its worker left".into();
            // SAFETY: the payload is the worker's, and empty.
            unsafe { task::put(held.context.task(), message) };
            self.answer(held, Outcome::Panicked);
        }
        if !self.worker.shared.is_inherited() {
            // Whoever wakes must find somebody who comes: those above it in the stack are woken for nothing.
            while self.dozing && !self.is_awake() {
                if !self.worker.shared.idle.wake_one() {
                    // Somebody is about to wake it.
                    thread::yield_now();
                }
            }
            self.pause();
            self.worker.leave_turns();
        }
        self.depart();
        if self.listed {
            self.tell("the on_worker_stop hook", &self.worker.shared.config.on_worker_stop);
        }
    }
}

impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Steps")
            .field("worker", &self.worker)
            .field("holds", &self.held.as_ref().map(|held| held.context.name()))
            .finish_non_exhaustive()
    }
}
