//! Peer `rayon`: `ThreadPool::spawn`, and a `oneshot` channel a task for the answer. Its queue has no bound.

use crate::peers::Pool;
use crate::workload::item;
use rayon::iter::{IntoParallelIterator, ParallelIterator};

pub(crate) struct Rayon(rayon::ThreadPool);

impl Rayon {
    /// W1d: no item has an answer of its own.
    pub(crate) fn batch(&self, n: usize) {
        self.0.install(|| (0..n).into_par_iter().for_each(|_| item()));
    }
}

impl Pool for Rayon {
    type Handle = oneshot::Receiver<u64>;

    fn start(workers: usize, _unbounded: usize) -> Self {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(workers).build();
        Self(pool.expect("the threads can be created"))
    }

    fn submit<F: FnOnce() -> u64 + Send + 'static>(&self, callback: F) -> Self::Handle {
        let (answer, handle) = oneshot::channel();
        self.0.spawn(move || drop(answer.send(callback())));
        handle
    }

    fn fire<F: FnOnce() -> u64 + Send + 'static>(&self, callback: F) {
        self.0.spawn(move || _ = callback());
    }

    fn wait(handle: Self::Handle) -> u64 {
        handle.recv().expect("each task answers")
    }

    fn stop(self) {
        drop(self.0);
    }
}
