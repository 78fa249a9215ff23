//! Peer `tokio`: `spawn_blocking` with `max_blocking_threads` = workers. Its queue has no bound.
//!
//! Kept true: nothing but the blocking pool runs (the runtime is never driven), and a waiter polls the `JoinHandle`
//! itself and parks, which costs less than `Runtime::block_on` for each answer.

use crate::peers::Pool;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

pub(crate) struct Tokio(Runtime);

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

thread_local! {
    static UNPARK: Waker = Arc::new(Unpark(std::thread::current())).into();
}

impl Pool for Tokio {
    type Handle = JoinHandle<u64>;

    fn start(workers: usize, _unbounded: usize) -> Self {
        let runtime = Builder::new_current_thread().max_blocking_threads(workers).build();
        Self(runtime.expect("a runtime without drivers needs nothing of the system"))
    }

    fn submit<F: FnOnce() -> u64 + Send + 'static>(&self, callback: F) -> Self::Handle {
        self.0.spawn_blocking(callback)
    }

    fn fire<F: FnOnce() -> u64 + Send + 'static>(&self, callback: F) {
        drop(self.0.spawn_blocking(callback));
    }

    fn wait(handle: Self::Handle) -> u64 {
        let mut handle = pin!(handle);
        UNPARK.with(|waker| {
            loop {
                match handle.as_mut().poll(&mut Context::from_waker(waker)) {
                    Poll::Ready(answer) => return answer.expect("no callback panics"),
                    Poll::Pending => std::thread::park(),
                }
            }
        })
    }

    fn stop(self) {
        drop(self.0);
    }
}
