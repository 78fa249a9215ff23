//! Several queues in one pool: how one is added, changed while the pool runs, and read.
//!
//! Invariant: a number that makes no sense is refused with an error that names the option; nothing has changed then.

use crate::config::Overflow;
use crate::error::BuildError;
use crate::fork;
use crate::lane::{Lane, UNLIMITED};
use crate::pool::Pool;
use crate::queue::{MAX_CAPACITY, Queue as Places};
use crate::shared::Shared;
use crate::submit::Options;
use crate::sync::{Arc, Ordering, full_fence};
use crate::table;
use std::fmt;
use std::hash::{BuildHasher, Hash};

/// A queue of a pool: a cheap handle of it. Cloning makes another.
///
/// Every pool has a first one, `default`, into which goes what names no other. The others are added by
/// [`Pool::queue`], live as long as their pool, and share its workers: a bulkhead for each kind of work, each with its own
/// capacity, overflow policy, weight and limit. Where several have tasks to start, they take turns: of a queue of weight 3
/// three tasks are started, then it is the next one's turn. So none starves, and under load each has its share of the
/// starts (not of the time: a queue of slow callbacks is kept back by a [limit](Self::set_limit)).
///
/// A handle does not keep its pool open. Every method may be called from any thread, callbacks included, and none blocks.
///
/// ```
/// let pool = duly::Pool::builder().workers(4).build()?;
/// let uploads = pool.queue("uploads").capacity(100).weight(2).limit(2).add()?;
/// let task = pool.options().queue(&uploads).spawn(|| 6 * 7)?;
/// assert_eq!(task.wait()?, 42);
/// assert_eq!(uploads.stats().submitted, 1);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Queue {
    shared: Arc<Shared>,
    lane: Arc<Lane>,
}

/// A queue's numbers, at one moment each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct QueueStats {
    /// Tasks accepted, ever.
    pub submitted: u64,
    /// Tasks that wait to be started.
    pub queued: u64,
    /// Callbacks that have been started and have not returned, whether their task has its outcome or not: what
    /// [`limit`](QueueBuilder::limit) limits. Until the pool has a second queue, a limit, a key or a pause, nobody counts
    /// them one by one, and this is what the books say.
    pub running: u64,
    /// Producers that wait for room.
    pub blocked_producers: u64,
    /// Whether it is [paused](Queue::pause).
    pub paused: bool,
}

impl Queue {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.lane.name
    }

    /// Its numbers now.
    pub fn stats(&self) -> QueueStats {
        if self.shared.is_inherited() {
            return QueueStats::default();
        }
        let depth = self.lane.depth();
        let running = if self.shared.turns.are_taken() {
            self.lane.turn.running.load(Ordering::Acquire) as u64
        } else {
            let stats = self.shared.stats();
            stats.running + stats.overdue
        };
        QueueStats {
            submitted: depth.pushed + depth.direct,
            queued: depth.queued,
            running,
            blocked_producers: self.lane.blocked() as u64,
            paused: self.lane.paused.load(Ordering::Acquire),
        }
    }

    /// How many of its tasks are started in a turn, at least 1.
    pub fn set_weight(&self, weight: u32) -> Result<(), BuildError> {
        check_weight(weight)?;
        self.lane.weight.store(weight, Ordering::Relaxed);
        Ok(())
    }

    /// How many of its callbacks may run at the same time, at least 1; `None`: as many as there are workers. Those that
    /// run when a limit is lowered run on.
    ///
    /// A callback counts until it has returned, also when its task has its outcome long before: so what the limit protects
    /// is never used by more.
    pub fn set_limit(&self, limit: Option<usize>) -> Result<(), BuildError> {
        let limit = check_limit("limit", limit)?;
        self.refuse_inherited()?;
        if limit != UNLIMITED {
            self.shared.take_turns();
        }
        self.lane.limit.store(limit, Ordering::Relaxed);
        self.go_on();
        Ok(())
    }

    /// How many callbacks of tasks with the same key may run at the same time, at least 1; `None`: no limit. Those that run
    /// when it is lowered run on.
    pub fn set_key_limit(&self, limit: Option<usize>) -> Result<(), BuildError> {
        let limit = check_limit("key_limit", limit)?;
        self.refuse_inherited()?;
        self.lane.set_key_limit(limit);
        self.go_on();
        Ok(())
    }

    /// How many tasks of the same key may be queued, at least 1; `None`: as many as the queue holds. Those queued when it is
    /// lowered stay.
    pub fn set_key_capacity(&self, capacity: Option<usize>) -> Result<(), BuildError> {
        let capacity = check_limit("key_capacity", capacity)?;
        self.refuse_inherited()?;
        self.lane.set_key_capacity(capacity);
        self.lane.announce_room();
        Ok(())
    }

    /// How many tasks may be queued, 1 to 8,388,608. Those queued when it is lowered stay.
    pub fn set_capacity(&self, capacity: usize) -> Result<(), BuildError> {
        check_capacity(capacity)?;
        self.refuse_inherited()?;
        self.shared.add_demand(self.lane.set_capacity(capacity));
        self.lane.announce_room();
        Ok(())
    }

    /// From when this returns on, workers start no task of it. Deadlines, tokens, handles and shutdowns still end its tasks,
    /// and it takes new ones as far as there is room. Closing the pool, or its shutdown, lets it go on, for a drain must come
    /// to its end.
    pub fn pause(&self) {
        if self.shared.is_inherited() {
            return;
        }
        self.shared.take_turns();
        self.shared.turns.pause(&self.lane, true);
    }

    /// Undoes [`pause`](Self::pause).
    pub fn resume(&self) {
        if !self.shared.is_inherited() && self.shared.turns.are_taken() {
            self.shared.turns.pause(&self.lane, false);
            self.go_on();
        }
    }

    /// In a forked child nothing of an inherited queue is touched.
    fn refuse_inherited(&self) -> Result<(), BuildError> {
        if self.shared.is_inherited() {
            return Err(BuildError::ShutDown);
        }
        Ok(())
    }

    /// Something has changed that may let tasks be started.
    fn go_on(&self) {
        full_fence();
        self.shared.go_on(&self.lane);
        // Perhaps nobody but one that waits can start them.
        crate::waits::look_again(&self.shared);
    }

    pub(crate) fn lane_in(&self, shared: &Arc<Shared>) -> Option<&Arc<Lane>> {
        Arc::ptr_eq(&self.shared, shared).then_some(&self.lane)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        if self.shared.is_inherited() {
            fork::keep(&self.shared);
            fork::keep(&self.lane);
        }
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("pool", &self.shared.config.name)
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}

impl PartialEq for Queue {
    /// Whether both are handles of the same queue.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.lane, &other.lane)
    }
}

impl Eq for Queue {}

fn check_weight(weight: u32) -> Result<(), BuildError> {
    if weight == 0 {
        return Err(BuildError::invalid("weight", "0 would start nothing; use `pause`"));
    }
    Ok(())
}

fn check_limit(what: &'static str, limit: Option<usize>) -> Result<usize, BuildError> {
    match limit {
        Some(0) => Err(BuildError::invalid(what, "0 would start nothing; use `pause`")),
        Some(limit) => Ok(limit),
        None => Ok(UNLIMITED),
    }
}

fn check_capacity(capacity: usize) -> Result<(), BuildError> {
    if !(1..=MAX_CAPACITY).contains(&capacity) {
        let why = format!("{capacity} is not within 1 to {MAX_CAPACITY}");
        return Err(BuildError::invalid("capacity", why));
    }
    Ok(())
}

/// The options of one more queue: made by [`Pool::queue`].
#[must_use = "a builder does nothing until `add` is called"]
pub struct QueueBuilder<'p> {
    pool: &'p Pool,
    name: String,
    capacity: usize,
    overflow: Overflow,
    max_blocked_producers: Option<usize>,
    weight: u32,
    limit: Option<usize>,
    key_limit: Option<usize>,
    key_capacity: Option<usize>,
}

impl QueueBuilder<'_> {
    /// How many tasks may be queued, 1 to 8,388,608. Default: 1024.
    pub fn capacity(mut self, capacity: usize) -> Self {
        self.capacity = capacity;
        self
    }

    /// What a submit does when the queue is full. Default: [`Overflow::Block`].
    ///
    /// Under [`Overflow::CallerRuns`] the caller's run counts for the limit; where that is reached, or the queue is paused,
    /// the submit is refused with `queue_full`.
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// How many producers, async ones included, may wait for room; more are refused with `queue_full`. Default: the
    /// capacity.
    pub fn max_blocked_producers(mut self, producers: usize) -> Self {
        self.max_blocked_producers = Some(producers);
        self
    }

    /// How many of its tasks are started before it is the next queue's turn: see [`Queue::set_weight`]. Default: 1.
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// How many of its callbacks may run at the same time: see [`Queue::set_limit`]. Default: as many as there are workers.
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = Some(limit);
        self
    }

    /// How many callbacks of tasks with the same [key](crate::Options::key) may run at the same time; with 1 they run one
    /// after the other, in the order in which they were submitted (a strand). Default: no limit; keys still take turns.
    ///
    /// A callback counts until it has returned, also when its task has its outcome long before: it is never overlapped.
    pub fn key_limit(mut self, limit: usize) -> Self {
        self.key_limit = Some(limit);
        self
    }

    /// How many tasks of the same key may be queued: a submit of one more meets the overflow policy as if the queue were
    /// full ([`DropOldest`](Overflow::DropOldest) drops one of that key), and a producer that waits for a place of its key
    /// holds up none of other keys. So a flood of one key does not fill the queue. Default: as many as the queue holds.
    ///
    /// Where this is set, a producer that has to wait costs time in proportion to how many wait.
    pub fn key_capacity(mut self, capacity: usize) -> Self {
        self.key_capacity = Some(capacity);
        self
    }

    /// Adds the queue to the pool. There may be 65,536 queues in a process, every pool's first one included.
    pub fn add(self) -> Result<Queue, BuildError> {
        check_capacity(self.capacity)?;
        check_weight(self.weight)?;
        let limit = check_limit("limit", self.limit)?;
        let key_limit = check_limit("key_limit", self.key_limit)?;
        let key_capacity = check_limit("key_capacity", self.key_capacity)?;
        if self.pool.is_inherited() {
            return Err(BuildError::ShutDown);
        }
        let Some(number) = table::reserve() else {
            return Err(BuildError::invalid(
                "queue",
                "65,536 queues live in this process; drop some pools",
            ));
        };
        let places = Places::new(self.capacity, self.max_blocked_producers.unwrap_or(self.capacity));
        let lane = Lane::new(number, self.name, places, self.overflow);
        lane.weight.store(self.weight, Ordering::Relaxed);
        lane.limit.store(limit, Ordering::Relaxed);
        lane.set_key_limit(key_limit);
        lane.set_key_capacity(key_capacity);
        let (shared, lane) = (self.pool.shared(), Arc::new(lane));
        shared.take_turns();
        lane.belongs_to(Arc::as_ptr(shared));
        if !shared.turns.add(lane.clone()) {
            return Err(BuildError::ShutDown);
        }
        shared.add_demand(self.capacity);
        Ok(Queue {
            shared: shared.clone(),
            lane,
        })
    }
}

impl fmt::Debug for QueueBuilder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueBuilder")
            .field("name", &self.name)
            .field("capacity", &self.capacity)
            .field("overflow", &self.overflow)
            .field("weight", &self.weight)
            .field("limit", &self.limit)
            .field("key_limit", &self.key_limit)
            .field("key_capacity", &self.key_capacity)
            .finish_non_exhaustive()
    }
}

impl Pool {
    /// One more queue of this pool, with its options: see [`Queue`]. It is there once [`QueueBuilder::add`] returns.
    pub fn queue(&self, name: impl Into<String>) -> QueueBuilder<'_> {
        QueueBuilder {
            pool: self,
            name: name.into(),
            capacity: 1024,
            overflow: Overflow::default(),
            max_blocked_producers: None,
            weight: 1,
            limit: None,
            key_limit: None,
            key_capacity: None,
        }
    }

    /// The queue of the tasks that name no other. Its capacity and overflow policy are the [builder's](crate::PoolBuilder).
    pub fn default_queue(&self) -> Queue {
        Queue {
            shared: self.shared().clone(),
            lane: self.shared().queue.clone(),
        }
    }

    /// Its queues, the default one first, then in the order they were added.
    pub fn queues(&self) -> Vec<Queue> {
        let mut queues = vec![self.default_queue()];
        if self.is_inherited() {
            return queues;
        }
        while let Some(lane) = self.shared().turns.added(queues.len() - 1) {
            queues.push(Queue {
                shared: self.shared().clone(),
                lane,
            });
        }
        queues
    }

    /// [Pauses](Queue::pause) each queue there is now.
    pub fn pause(&self) {
        self.queues().iter().for_each(Queue::pause);
    }

    /// [Resumes](Queue::resume) each queue there is now.
    pub fn resume(&self) {
        self.queues().iter().for_each(Queue::resume);
    }
}

impl Options<'_> {
    /// The queue to submit to. One of another pool is refused with `invalid_argument`. Default: the pool's
    /// [default queue](Pool::default_queue), also for what a callback of another queue submits.
    pub fn queue(mut self, queue: &Queue) -> Self {
        let lane = queue.lane_in(self.pool.shared());
        self.wanted.set_lane(lane.cloned());
        self
    }

    /// The task is one of those with this key in its queue: of these at most [`key_limit`](QueueBuilder::key_limit) run at
    /// the same time, in the order in which they were submitted, and keys with tasks to start take turns, one task each; so
    /// a flood of one key holds up no other. Tasks that wait for their key hold no worker. Those of a queue that have no key
    /// take turns with all those that have one.
    ///
    /// Keys are told apart by a hash of 64 bits, which no one outside can foresee: two that share it, one pair in 10^19,
    /// share limit and turn as well.
    pub fn key<K: Hash + ?Sized>(mut self, key: &K) -> Self {
        let shared = self.pool.shared();
        shared.take_turns();
        self.wanted.set_key(shared.keys.hash_one(key));
        self
    }
}
