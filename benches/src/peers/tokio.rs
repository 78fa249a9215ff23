//! Peers `tokio` and `tokio-spawn`: `spawn_blocking` with `max_blocking_threads` = workers, and `spawn` on a runtime with
//! `worker_threads` = workers. Their queues have no bound.
//!
//! Kept true: nothing but the pool asked for runs, and a waiter polls the `JoinHandle` itself and parks, which costs less
//! than `Runtime::block_on` for each answer. In row mixed `abort` cancels (a queued task keeps its place until a worker
//! comes to it; a running one goes on) and the deadline is the waiter's, who aborts then.

use crate::peers::{Ended, Pool, Service};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Instant;
use tokio::runtime::{Builder, Runtime};
use tokio::task::{AbortHandle, JoinError, JoinHandle};

pub(crate) struct Tokio(Runtime);
pub(crate) struct TokioSpawn(Runtime);

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

/// `None` when the deadline came first.
fn wait_until(handle: &mut JoinHandle<u64>, deadline: Option<Instant>) -> Option<Result<u64, JoinError>> {
    let mut handle = pin!(handle);
    UNPARK.with(|waker| {
        loop {
            if let Poll::Ready(answer) = handle.as_mut().poll(&mut Context::from_waker(waker)) {
                return Some(answer);
            }
            match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => std::thread::park(),
                Some(left) if left.is_zero() => return None,
                Some(left) => std::thread::park_timeout(left),
            }
        }
    })
}

fn wait(mut handle: JoinHandle<u64>) -> u64 {
    let answer = wait_until(&mut handle, None).expect("no deadline");
    answer.expect("no callback panics")
}

impl Pool for Tokio {
    type Handle = JoinHandle<u64>;

    fn start(workers: usize, _unbounded: usize) -> Self {
        let runtime = Builder::new_current_thread().max_blocking_threads(workers).build();
        Self(runtime.expect("a runtime without drivers needs nothing of the system"))
    }

    fn submit<F: FnOnce() -> u64 + Send + 'static>(&self, callback: F) -> JoinHandle<u64> {
        self.0.spawn_blocking(callback)
    }

    fn fire<F: FnOnce() -> u64 + Send + 'static>(&self, callback: F) {
        drop(self.0.spawn_blocking(callback));
    }

    fn wait(handle: JoinHandle<u64>) -> u64 {
        wait(handle)
    }

    fn stop(self) {
        drop(self.0);
    }
}

impl Service for Tokio {
    type Served = JoinHandle<u64>;
    type Cancel = AbortHandle;

    fn serve<F: FnOnce() -> u64 + Send + 'static>(&self, _: Option<Instant>, callback: F) -> JoinHandle<u64> {
        self.0.spawn_blocking(callback)
    }

    fn canceller(handle: &JoinHandle<u64>) -> AbortHandle {
        handle.abort_handle()
    }

    fn cancel(cancel: AbortHandle) {
        cancel.abort();
    }

    fn ended(mut handle: JoinHandle<u64>, deadline: Option<Instant>) -> Ended {
        match wait_until(&mut handle, deadline) {
            None => {
                handle.abort();
                Ended::Late
            }
            Some(Ok(_)) => Ended::Succeeded,
            Some(Err(error)) if error.is_cancelled() => Ended::Cancelled,
            Some(Err(error)) => panic!("a callback of row mixed: {error}"),
        }
    }
}

impl Pool for TokioSpawn {
    type Handle = JoinHandle<u64>;

    fn start(workers: usize, _unbounded: usize) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(workers).build();
        Self(runtime.expect("the threads can be created"))
    }

    fn submit<F: FnOnce() -> u64 + Send + 'static>(&self, callback: F) -> JoinHandle<u64> {
        self.0.spawn(async move { callback() })
    }

    fn fire<F: FnOnce() -> u64 + Send + 'static>(&self, callback: F) {
        drop(self.0.spawn(async move { callback() }));
    }

    fn wait(handle: JoinHandle<u64>) -> u64 {
        wait(handle)
    }

    fn stop(self) {
        drop(self.0);
    }
}
