//! What one case has: pools, tasks, gates, tokens, marks, threads, each by its name.
//!
//! Keeps true:
//! 1. No lock is held while anything is called that may block or run a callback.
//! 2. A record outlives its callback: the captured data of a callback counts its own release there.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use duly::{CancellationToken, Group, Outcome, Periodic, Pool, Queue, ShutdownOnSignal, Task};

use crate::flights::{Caller, Flight};
use crate::streams::OneStream;
use crate::words::Hook;

/// How long a whole case may take.
pub(crate) const CASE: Duration = Duration::from_secs(60);
/// How long a callback may take to start, and its messages to come.
pub(crate) const START: Duration = Duration::from_secs(10);

/// A span as the table gives it.
pub(crate) fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// What a step found that is not as expected.
pub(crate) type Verdict = Result<(), String>;

/// What `fail` returns.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) code: i32,
    pub(crate) message: String,
}

/// The lock of a value that a panic elsewhere cannot spoil.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks again and again until it gets an answer or the time is up.
pub(crate) fn poll<T>(at_most: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let until = Instant::now() + at_most;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= until {
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Closed until it is opened, then open for good.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    pub(crate) fn open(&self) {
        *lock(&self.open) = true;
        self.opened.notify_all();
    }

    pub(crate) fn pass(&self) {
        let mut open = lock(&self.open);
        while !*open {
            open = self.opened.wait(open).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// What is known about a task.
#[derive(Debug, Default)]
pub(crate) struct Record {
    name: String,
    /// The names of the callbacks of the case that were started, in order.
    order: Arc<Mutex<Vec<String>>>,
    pub(crate) starts: AtomicU64,
    pub(crate) drops: AtomicU64,
    /// Why a `poll` callback was told to stop.
    pub(crate) cause: Mutex<Option<&'static str>>,
    /// What the completion callback was told.
    pub(crate) completed: Mutex<Option<Outcome>>,
    /// The outcome that a step saw; it stays.
    pub(crate) seen: Mutex<Option<Outcome>>,
    /// The handle: there once the task is accepted, gone once it is dropped.
    pub(crate) task: Mutex<Option<Task<i64, Failure>>>,
}

impl Record {
    /// Its callback has started.
    pub(crate) fn started(&self) {
        lock(&self.order).push(self.name.clone());
        self.starts.fetch_add(1, SeqCst);
    }

    /// One of several callbacks that share this record has started.
    pub(crate) fn started_as(&self, number: &str) {
        lock(&self.order).push(format!("{}.{number}", self.name));
        self.starts.fetch_add(1, SeqCst);
    }

    /// Notes an outcome and holds it against what was seen before.
    pub(crate) fn saw(&self, outcome: Outcome) -> Verdict {
        match lock(&self.seen).replace(outcome) {
            Some(before) if before != outcome => Err(format!("it was {before} before and is {outcome} now")),
            _ => Ok(()),
        }
    }
}

/// The data that a callback captures: counts its release.
#[derive(Debug)]
pub(crate) struct Captured(pub(crate) Arc<Record>);

impl Drop for Captured {
    fn drop(&mut self) {
        self.0.drops.fetch_add(1, SeqCst);
    }
}

/// How often each hook of a pool was called.
#[derive(Debug, Default)]
pub(crate) struct Hooks([AtomicU64; 5]);

impl Hooks {
    fn of(&self, hook: Hook) -> &AtomicU64 {
        &self.0[hook as usize]
    }

    pub(crate) fn called(&self, hook: Hook) {
        self.of(hook).fetch_add(1, SeqCst);
    }

    pub(crate) fn count(&self, hook: Hook) -> u64 {
        self.of(hook).load(SeqCst)
    }
}

/// A pool and what its hooks noted.
#[derive(Debug, Clone)]
pub(crate) struct OnePool {
    pub(crate) pool: Pool,
    pub(crate) hooks: Arc<Hooks>,
}

type Named<T> = Mutex<HashMap<String, T>>;

#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) pools: Named<OnePool>,
    records: Named<Arc<Record>>,
    pub(crate) starts: Arc<Mutex<Vec<String>>>,
    queues: Named<Queue>,
    pub(crate) periodics: Named<Periodic>,
    pub(crate) streams: Named<OneStream>,
    pub(crate) flights: Named<Flight>,
    pub(crate) callers: Named<Arc<Caller>>,
    pub(crate) bound: Mutex<Vec<ShutdownOnSignal>>,
    pub(crate) children: Named<libc::pid_t>,
    gates: Named<Arc<Gate>>,
    all_open: AtomicBool,
    tokens: Named<CancellationToken>,
    pub(crate) groups: Named<Arc<Group<i64, Failure>>>,
    marks: Named<Instant>,
    pub(crate) threads: Named<JoinHandle<Verdict>>,
}

impl World {
    pub(crate) fn pool(&self, name: &str) -> Result<OnePool, String> {
        lock(&self.pools)
            .get(name)
            .cloned()
            .ok_or_else(|| format!("there is no pool {name:?}"))
    }

    pub(crate) fn gate(&self, name: &str) -> Arc<Gate> {
        let gate = lock(&self.gates).entry(name.to_owned()).or_default().clone();
        if self.all_open.load(SeqCst) {
            gate.open();
        }
        gate
    }

    /// Opens every gate, also those nobody has come to yet.
    pub(crate) fn open_all(&self) {
        self.all_open.store(true, SeqCst);
        for gate in lock(&self.gates).values() {
            gate.open();
        }
    }

    pub(crate) fn token(&self, name: &str) -> Result<CancellationToken, String> {
        lock(&self.tokens)
            .get(name)
            .cloned()
            .ok_or_else(|| format!("there is no token {name:?}"))
    }

    pub(crate) fn add_token(&self, name: &str, token: CancellationToken) -> Verdict {
        match lock(&self.tokens).insert(name.to_owned(), token) {
            None => Ok(()),
            Some(_) => Err(format!("there are two tokens {name:?}")),
        }
    }

    pub(crate) fn group(&self, name: &str) -> Result<Arc<Group<i64, Failure>>, String> {
        lock(&self.groups)
            .get(name)
            .cloned()
            .ok_or_else(|| format!("there is no group {name:?}"))
    }

    /// A queue that a step has made, or the default one of a pool.
    pub(crate) fn queue(&self, pool: &str, name: &str) -> Result<Queue, String> {
        if name == "default" {
            return Ok(self.pool(pool)?.pool.default_queue());
        }
        lock(&self.queues)
            .get(name)
            .cloned()
            .ok_or_else(|| format!("there is no queue {name:?}"))
    }

    pub(crate) fn add_queue(&self, name: &str, queue: Queue) -> Verdict {
        match lock(&self.queues).insert(name.to_owned(), queue) {
            None => Ok(()),
            Some(_) => Err(format!("there are two queues {name:?}")),
        }
    }

    pub(crate) fn periodic(&self, name: &str) -> Result<Periodic, String> {
        lock(&self.periodics)
            .get(name)
            .cloned()
            .ok_or_else(|| format!("there is no periodic task {name:?}"))
    }

    pub(crate) fn flight(&self, name: &str) -> Result<Flight, String> {
        lock(&self.flights)
            .get(name)
            .cloned()
            .ok_or_else(|| format!("there is no flight {name:?}"))
    }

    pub(crate) fn caller(&self, name: &str) -> Result<Arc<Caller>, String> {
        lock(&self.callers)
            .get(name)
            .cloned()
            .ok_or_else(|| format!("there is no caller {name:?}"))
    }

    /// What a forked child sees: handles of the same, and locks that no thread of the parent may hold.
    pub(crate) fn in_child(&self) -> World {
        fn copy<T: Clone>(named: &Named<T>) -> Named<T> {
            Mutex::new(lock(named).clone())
        }
        World {
            pools: copy(&self.pools),
            records: copy(&self.records),
            tokens: copy(&self.tokens),
            groups: copy(&self.groups),
            queues: copy(&self.queues),
            periodics: copy(&self.periodics),
            flights: copy(&self.flights),
            marks: copy(&self.marks),
            ..World::default()
        }
    }

    pub(crate) fn mark(&self, name: &str) {
        lock(&self.marks).insert(name.to_owned(), Instant::now());
    }

    pub(crate) fn marked(&self, name: &str) -> Result<Instant, String> {
        lock(&self.marks)
            .get(name)
            .copied()
            .ok_or_else(|| format!("there is no mark {name:?}"))
    }

    /// A record for a task that is about to be submitted.
    pub(crate) fn new_record(&self, task: &str) -> Result<Arc<Record>, String> {
        let record = Arc::new(Record {
            name: task.to_owned(),
            order: self.starts.clone(),
            ..Record::default()
        });
        match lock(&self.records).insert(task.to_owned(), record.clone()) {
            None => Ok(record),
            Some(_) => Err(format!("there are two tasks {task:?}")),
        }
    }

    /// Takes back the record of a task that was refused.
    pub(crate) fn forget_record(&self, task: &str) {
        lock(&self.records).remove(task);
    }

    pub(crate) fn record(&self, task: &str) -> Result<Arc<Record>, String> {
        lock(&self.records)
            .get(task)
            .cloned()
            .ok_or_else(|| format!("there is no task {task:?}"))
    }

    pub(crate) fn task(&self, task: &str) -> Result<Task<i64, Failure>, String> {
        let record = self.record(task)?;
        lock(&record.task)
            .clone()
            .ok_or_else(|| format!("there is no handle of the task {task:?}"))
    }

    /// All tasks by name, in order of their names.
    pub(crate) fn records(&self) -> Vec<(String, Arc<Record>)> {
        let mut all: Vec<_> = lock(&self.records)
            .iter()
            .map(|(name, record)| (name.clone(), record.clone()))
            .collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }
}
