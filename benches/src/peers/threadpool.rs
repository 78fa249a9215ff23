//! Peer `threadpool`: the threadpool crate, and a `oneshot` channel a task for the answer. Its queue has no bound.

use crate::peers::Pool;

pub(crate) struct Threadpool(threadpool::ThreadPool);

impl Pool for Threadpool {
    type Handle = oneshot::Receiver<u64>;

    fn start(workers: usize, _unbounded: usize) -> Self {
        Self(threadpool::ThreadPool::new(workers))
    }

    fn submit<F: FnOnce() -> u64 + Send + 'static>(&self, callback: F) -> Self::Handle {
        let (answer, handle) = oneshot::channel();
        self.0.execute(move || drop(answer.send(callback())));
        handle
    }

    fn fire<F: FnOnce() -> u64 + Send + 'static>(&self, callback: F) {
        self.0.execute(move || _ = callback());
    }

    fn wait(handle: Self::Handle) -> u64 {
        handle.recv().expect("each task answers")
    }

    fn stop(self) {
        self.0.join();
    }
}
