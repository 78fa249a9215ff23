//! Peer `duly`: the pool of this project, with every promise on and no option changed but workers and capacity.

use crate::peers::{Deadlines, Ended, Pool, Service};
use crate::rows::Row;
use crate::workload::{Figures, block_workers, check, item, noop, open_gate};
use anyhow::{Result, ensure};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

pub(crate) struct Duly(::duly::Pool);

impl Duly {
    /// W1d: each item has an answer of its own, and each is looked at.
    pub(crate) fn batch(&self, n: usize) {
        let answered = self.0.map(0..n, |_| item()).filter(Result::is_ok).count();
        assert_eq!(answered, n, "each item succeeds");
    }
}

impl Pool for Duly {
    type Handle = ::duly::Task<u64>;

    fn start(workers: usize, capacity: usize) -> Self {
        let pool = ::duly::Pool::builder().workers(workers).capacity(capacity).build();
        Self(pool.expect("the threads can be created"))
    }

    fn submit<F: FnOnce() -> u64 + Send + 'static>(&self, callback: F) -> Self::Handle {
        self.0.spawn(callback).expect("the pool is open")
    }

    fn fire<F: FnOnce() -> u64 + Send + 'static>(&self, callback: F) {
        drop(self.0.spawn(callback).expect("the pool is open"));
    }

    fn wait(handle: Self::Handle) -> u64 {
        handle.wait().expect("each task succeeds")
    }

    fn stop(self) {
        let report = self
            .0
            .shutdown(Duration::from_secs(10))
            .expect("not called by a worker");
        assert!(report.drained && report.stats.books_balance(), "{report}");
    }
}

impl Deadlines for Duly {
    fn submit_within<F: FnOnce() -> u64 + Send + 'static>(&self, timeout: Duration, callback: F) -> Self::Handle {
        self.0
            .options()
            .timeout(timeout)
            .spawn(callback)
            .expect("the pool is open")
    }

    /// The pool answers at the deadline: the wait itself needs none.
    fn wait_within(handle: Self::Handle, _: Duration) -> Option<u64> {
        handle.wait().ok()
    }
}

impl Service for Duly {
    /// `None`: refused, for its deadline had passed before there was room.
    type Served = Option<::duly::Task<u64>>;
    type Cancel = Option<::duly::Task<u64>>;

    fn serve<F: FnOnce() -> u64 + Send + 'static>(&self, deadline: Option<Instant>, callback: F) -> Self::Served {
        let options = self.0.options();
        let options = match deadline {
            Some(deadline) => options.deadline(deadline),
            None => options,
        };
        match options.spawn(callback) {
            Ok(task) => Some(task),
            Err(refused) if refused.kind() == ::duly::SubmitErrorKind::DeadlineExceeded => None,
            Err(refused) => panic!("the pool is open: {}", refused.erase()),
        }
    }

    fn canceller(served: &Self::Served) -> Self::Cancel {
        served.clone()
    }

    fn cancel(cancel: Self::Cancel) {
        cancel.map(|task| task.cancel());
    }

    /// The pool answers at the deadline: the wait itself needs none.
    fn ended(served: Self::Served, _: Option<Instant>) -> Ended {
        match served.map(|task| task.wait()) {
            Some(Ok(_)) => Ended::Succeeded,
            Some(Err(::duly::TaskError::Cancelled(_))) => Ended::Cancelled,
            None | Some(Err(::duly::TaskError::DeadlineExceeded(_))) => Ended::Late,
            Some(Err(error)) => panic!("a callback of row mixed: {error}"),
        }
    }
}

/// W1 over several queues: each task goes to the next of them. One queue is the pool's own.
pub(crate) fn measure_queues(row: &Row, workers: usize, n: usize, window: usize, queues: usize) -> Result<Figures> {
    let pool = Duly::start(workers, row.capacity);
    let more = (1..queues).map(|number| pool.0.queue(format!("queue {number}")).capacity(row.capacity).add());
    let all: Vec<_> = std::iter::once(Ok(pool.0.default_queue()))
        .chain(more)
        .collect::<Result<_, _>>()?;
    let turn = |n: usize| {
        let mut handles = VecDeque::with_capacity(window);
        let mut sum = 0;
        for queue in all.iter().cycle().take(n) {
            if handles.len() == window {
                sum += handles.pop_front().map_or(0, Duly::wait);
            }
            handles.push_back(pool.0.options().queue(queue).spawn(noop).expect("the pool is open"));
        }
        handles
            .into_iter()
            .map(Duly::wait)
            .fold(sum, |sum, answer| sum + answer)
    };
    check(turn(row.warm_up), row.warm_up)?;
    std::thread::sleep(row.settle());
    let began = Instant::now();
    check(turn(n), n)?;
    let figures = Figures::from([("ns_per_task".into(), began.elapsed().as_nanos() as f64 / n as f64)]);
    pool.stop();
    Ok(figures)
}

/// W6: n queued tasks, every worker stuck; from the first cancel until the last answer has been seen, and then until
/// the last task has been let go (libuv's requests are memory of the caller's, and stay).
pub(crate) fn measure_cancel(workers: usize, n: usize, by_token: bool) -> Result<Figures> {
    let pool = Duly::start(workers, n + workers);
    let gate = block_workers(&pool, workers);
    let token = ::duly::CancellationToken::new();
    let submit = |_| {
        let task = if by_token {
            pool.0.options().token(&token).spawn(noop)
        } else {
            pool.0.spawn(noop)
        };
        task.expect("the queue has room for all")
    };
    let tasks: Vec<_> = (0..n).map(submit).collect();
    let began = Instant::now();
    if by_token {
        token.cancel();
    } else {
        tasks.iter().for_each(|task| _ = task.cancel());
    }
    let cancel_ms = began.elapsed().as_secs_f64() * 1e3;
    let cancelled = tasks
        .iter()
        .filter(|task| task.outcome() == Some(::duly::Outcome::Cancelled))
        .count();
    let ms = began.elapsed().as_secs_f64() * 1e3;
    drop(tasks);
    let let_go_ms = began.elapsed().as_secs_f64() * 1e3;
    ensure!(cancelled == n, "{cancelled} of {n} tasks were cancelled");
    open_gate();
    check(gate.into_iter().map(Duly::wait).sum(), workers)?;
    pool.stop();
    Ok(Figures::from([
        ("ms".into(), ms),
        ("cancel_ms".into(), cancel_ms),
        ("let_go_ms".into(), let_go_ms),
    ]))
}
