//! The delivery thread: runs user code that came due where none may run, that is destructors of captured data,
//! completion callbacks and `on_cancel` hooks of tasks that no worker ended, and the pool's hooks.
//!
//! Nothing waits for it but `released`: outcomes are published and waiters woken before a job gets here.
//!
//! Invariants:
//! 1. `pending` counts jobs sent and not finished, and reservations of those who may send one.
//! 2. A thread that is stuck in a job for `replace_after` while others wait gets a second beside it, up to a
//!    limit; the timer thread looks.
//! 3. No job is lost: what is sent while or after the threads stop is run by a thread of its own.

use crate::clock;
use crate::fork;
use crate::slot::{guard, say};
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Arc, AtomicBool, AtomicU64, AtomicUsize, Jobs, Mutex, Ordering, full_fence};
use std::io;

type Work = Box<dyn FnOnce() + Send>;

/// What to run, and what to call it in the log should it panic.
struct Job(&'static str, Work);

pub(crate) struct Delivery {
    crew: Arc<Crew>,
    handles: Mutex<Vec<JoinHandle<()>>>,
    thread_name: String,
    stopped: AtomicBool,
}

/// While held, [`Delivery::pending`] is not zero.
pub(crate) struct Reserved<'a>(&'a AtomicUsize);

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What the delivery threads share; they do not hold the pool.
struct Crew {
    jobs: Jobs<Job>,
    pending: AtomicUsize,
    threads: AtomicUsize,
    /// Since when each thread is busy with its job; 0 when it is not.
    busy: Mutex<Vec<Arc<AtomicU64>>>,
}

impl Delivery {
    pub(crate) fn new(thread_name: String) -> Delivery {
        Delivery {
            crew: Arc::new(Crew {
                jobs: Jobs::new(),
                pending: AtomicUsize::new(0),
                threads: AtomicUsize::new(0),
                busy: Mutex::default(),
            }),
            handles: Mutex::default(),
            thread_name,
            stopped: AtomicBool::new(false),
        }
    }

    /// Starts a thread, for this pool.
    pub(crate) fn start(&self, pool: u16) -> io::Result<()> {
        let crew = self.crew.clone();
        let handle = thread::Builder::new()
            .name(self.thread_name.clone())
            .spawn(move || crew.work(pool))?;
        self.crew.threads.fetch_add(1, Ordering::Relaxed);
        self.handles.lock().push(handle);
        Ok(())
    }

    /// Hands a job over; never blocks. `what` names it in the log should it panic.
    pub(crate) fn send(&self, what: &'static str, work: impl FnOnce() + Send + 'static) {
        self.crew.pending.fetch_add(1, Ordering::AcqRel);
        self.crew.jobs.send(Job(what, Box::new(work)));
        full_fence();
        if self.stopped.load(Ordering::Relaxed) {
            self.run_leftovers();
        }
    }

    /// Announces that a job may be sent.
    pub(crate) fn reserve(&self) -> Reserved<'_> {
        self.crew.pending.fetch_add(1, Ordering::AcqRel);
        Reserved(&self.crew.pending)
    }

    /// The threads have been told to stop: what they left is run by a thread of its own.
    #[cold]
    fn run_leftovers(&self) {
        let crew = self.crew.clone();
        run_alone(self.thread_name.clone(), move || crew.drain());
    }

    /// What the threads would run, here and now.
    #[cfg(all(test, loom))]
    pub(crate) fn run_here(&self) {
        self.crew.drain();
    }

    pub(crate) fn pending(&self) -> usize {
        self.crew.pending.load(Ordering::Acquire)
    }

    /// Whether jobs wait while every thread has been in one since `before`.
    pub(crate) fn is_stuck(&self, before: u64) -> bool {
        let busy = self.crew.busy.lock();
        !self.crew.jobs.is_empty()
            && !busy.is_empty()
            && busy
                .iter()
                .all(|since| (1..=before).contains(&since.load(Ordering::Relaxed)))
    }

    pub(crate) fn threads(&self) -> usize {
        self.crew.threads.load(Ordering::Relaxed)
    }

    /// Ends the threads, each after the job it is in.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        full_fence();
        self.crew.jobs.stop();
    }

    pub(crate) fn take_handles(&self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut *self.handles.lock())
    }
}

/// Runs what no delivery thread is left for, or none can be reached for, on a thread of its own.
#[cold]
pub(crate) fn run_alone(thread_name: String, work: impl FnOnce() + Send + 'static) {
    let work = Arc::new(Mutex::new(Some(work)));
    let theirs = work.clone();
    let run = move || {
        let work = theirs.lock().take();
        if let Some(work) = work {
            work();
        }
    };
    if let Err(error) = thread::Builder::new().name(thread_name).spawn(run) {
        say(
            log::Level::Error,
            format_args!("a thread for late destructors and callbacks could not be created ({error}); they run here"),
        );
        let work = work.lock().take();
        if let Some(work) = work {
            work();
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        // The threads of a pool that could not be built.
        self.crew.jobs.stop();
    }
}

impl Crew {
    fn work(&self, pool: u16) {
        crate::context::serve(pool);
        let busy = Arc::new(AtomicU64::new(0));
        self.busy.lock().push(busy.clone());
        while let Some(job) = self.jobs.take() {
            self.run(&busy, job);
            if fork::inherited(pool) {
                // The job forked, and this is the child.
                return;
            }
        }
        self.threads.fetch_sub(1, Ordering::Relaxed);
        self.busy.lock().retain(|other| !Arc::ptr_eq(other, &busy));
        // What came between the decision to stop and the word of it.
        self.drain();
    }

    fn run(&self, busy: &AtomicU64, Job(what, work): Job) {
        busy.store(clock::now(), Ordering::Relaxed);
        guard(what, work);
        busy.store(0, Ordering::Relaxed);
        self.pending.fetch_sub(1, Ordering::AcqRel);
    }

    fn drain(&self) {
        let busy = AtomicU64::new(0);
        while let Some(job) = self.jobs.take_now() {
            self.run(&busy, job);
        }
    }
}
