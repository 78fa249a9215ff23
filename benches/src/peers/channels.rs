//! Peers `crossbeam` and `kanal`: N threads on a bounded channel, and a `oneshot` channel a task for the answer.
//!
//! Kept true: both are the same pool but for the channel. In row mixed a cancelled task is a flag the worker looks at,
//! and a deadline is looked at by the worker before it starts and by the waiter: a queued task that is cancelled or late
//! keeps its place until a worker comes to it, and a running one is not told.

use crate::peers::{Deadlines, Ended, Pool, Service};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

type Job = Box<dyn FnOnce() + Send>;

/// The two ends of a bounded channel of jobs.
pub(crate) trait Channel: Send + Sync + 'static {
    type Receiver: Clone + Send + 'static;
    fn bounded(capacity: usize) -> (Self, Self::Receiver)
    where
        Self: Sized;
    fn send(&self, job: Job);
    /// `None` when the other end is gone.
    fn receive(queue: &Self::Receiver) -> Option<Job>;
}

impl Channel for crossbeam_channel::Sender<Job> {
    type Receiver = crossbeam_channel::Receiver<Job>;

    fn bounded(capacity: usize) -> (Self, Self::Receiver) {
        crossbeam_channel::bounded(capacity)
    }

    fn send(&self, job: Job) {
        self.send(job).expect("the workers hold the other end");
    }

    fn receive(queue: &Self::Receiver) -> Option<Job> {
        queue.recv().ok()
    }
}

impl Channel for kanal::Sender<Job> {
    type Receiver = kanal::Receiver<Job>;

    fn bounded(capacity: usize) -> (Self, Self::Receiver) {
        kanal::bounded(capacity)
    }

    fn send(&self, job: Job) {
        self.send(job).expect("the workers hold the other end");
    }

    fn receive(queue: &Self::Receiver) -> Option<Job> {
        queue.recv().ok()
    }
}

pub(crate) struct Channels<C> {
    jobs: C,
    threads: Vec<JoinHandle<()>>,
}

pub(crate) type Crossbeam = Channels<crossbeam_channel::Sender<Job>>;
pub(crate) type Kanal = Channels<kanal::Sender<Job>>;

impl<C: Channel> Pool for Channels<C> {
    type Handle = oneshot::Receiver<u64>;

    fn start(workers: usize, capacity: usize) -> Self {
        let (jobs, queue) = C::bounded(capacity);
        let worker = |_| {
            let queue = queue.clone();
            std::thread::spawn(move || {
                while let Some(job) = C::receive(&queue) {
                    job();
                }
            })
        };
        let threads = (0..workers).map(worker).collect();
        Self { jobs, threads }
    }

    fn submit<F: FnOnce() -> u64 + Send + 'static>(&self, callback: F) -> oneshot::Receiver<u64> {
        let (answer, handle) = oneshot::channel();
        self.jobs.send(Box::new(move || drop(answer.send(callback()))));
        handle
    }

    fn fire<F: FnOnce() -> u64 + Send + 'static>(&self, callback: F) {
        self.jobs.send(Box::new(move || _ = callback()));
    }

    fn wait(handle: oneshot::Receiver<u64>) -> u64 {
        handle.recv().expect("each task answers")
    }

    fn stop(self) {
        drop(self.jobs);
        for thread in self.threads {
            thread.join().expect("no callback panics");
        }
    }
}

impl<C: Channel> Deadlines for Channels<C> {
    /// The deadline is the waiter's only; the queue and the workers know nothing of it.
    fn submit_within<F: FnOnce() -> u64 + Send + 'static>(&self, _: Duration, callback: F) -> oneshot::Receiver<u64> {
        self.submit(callback)
    }

    fn wait_within(handle: oneshot::Receiver<u64>, timeout: Duration) -> Option<u64> {
        handle.recv_timeout(timeout).ok()
    }
}

pub(crate) struct Served {
    answer: oneshot::Receiver<u64>,
    cancelled: Arc<AtomicBool>,
}

impl<C: Channel> Service for Channels<C> {
    type Served = Served;
    type Cancel = Arc<AtomicBool>;

    fn serve<F: FnOnce() -> u64 + Send + 'static>(&self, deadline: Option<Instant>, callback: F) -> Served {
        let (answer, receiver) = oneshot::channel();
        let cancelled = Arc::new(AtomicBool::new(false));
        let flag = cancelled.clone();
        self.jobs.send(Box::new(move || {
            let late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if !late && !flag.load(Ordering::Relaxed) {
                drop(answer.send(callback()));
            }
        }));
        Served {
            answer: receiver,
            cancelled,
        }
    }

    fn canceller(handle: &Served) -> Self::Cancel {
        handle.cancelled.clone()
    }

    fn cancel(cancel: Self::Cancel) {
        cancel.store(true, Ordering::Relaxed);
    }

    fn ended(handle: Served, deadline: Option<Instant>) -> Ended {
        use oneshot::RecvTimeoutError::{Disconnected, Timeout};
        let answer = match deadline {
            Some(deadline) => handle
                .answer
                .recv_timeout(deadline.saturating_duration_since(Instant::now())),
            None => handle.answer.recv().map_err(|_| Disconnected),
        };
        match answer {
            Ok(_) => Ended::Succeeded,
            Err(Timeout) => Ended::Late,
            Err(Disconnected) if handle.cancelled.load(Ordering::Relaxed) => Ended::Cancelled,
            Err(Disconnected) => Ended::Late,
        }
    }
}
