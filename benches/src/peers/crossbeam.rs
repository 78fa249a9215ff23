//! Peer `crossbeam`: N threads on a bounded crossbeam channel, and a `oneshot` channel a task for the answer.

use crate::peers::{Deadlines, Pool};
use std::thread::JoinHandle;
use std::time::Duration;

type Job = Box<dyn FnOnce() + Send>;

pub(crate) struct Crossbeam {
    jobs: crossbeam_channel::Sender<Job>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool for Crossbeam {
    type Handle = oneshot::Receiver<u64>;

    fn start(workers: usize, capacity: usize) -> Self {
        let (jobs, queue) = crossbeam_channel::bounded::<Job>(capacity);
        let worker = |_| {
            let queue = queue.clone();
            std::thread::spawn(move || queue.iter().for_each(|job| job()))
        };
        let threads = (0..workers).map(worker).collect();
        Self { jobs, threads }
    }

    fn submit<F: FnOnce() -> u64 + Send + 'static>(&self, callback: F) -> Self::Handle {
        let (answer, handle) = oneshot::channel();
        let job = Box::new(move || drop(answer.send(callback())));
        self.jobs.send(job).expect("the workers hold the other end");
        handle
    }

    fn fire<F: FnOnce() -> u64 + Send + 'static>(&self, callback: F) {
        let job = Box::new(move || _ = callback());
        self.jobs.send(job).expect("the workers hold the other end");
    }

    fn wait(handle: Self::Handle) -> u64 {
        handle.recv().expect("each task answers")
    }

    fn stop(self) {
        drop(self.jobs);
        for thread in self.threads {
            thread.join().expect("no callback panics");
        }
    }
}

impl Deadlines for Crossbeam {
    /// The deadline is the waiter's only; the queue and the workers know nothing of it.
    fn submit_within<F: FnOnce() -> u64 + Send + 'static>(&self, _: Duration, callback: F) -> Self::Handle {
        self.submit(callback)
    }

    fn wait_within(handle: Self::Handle, timeout: Duration) -> Option<u64> {
        handle.recv_timeout(timeout).ok()
    }
}
