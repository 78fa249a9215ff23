//! Whole pools under random schedules: producers, cancels, deadlines, stuck callbacks and shutdowns race.
//!
//! At the end of each schedule: every task was answered once, and to everyone the same (P1); no place, block of memory
//! or blocked producer is left (P5); captured data was dropped exactly once (P6); the books agree with what the
//! completion callbacks were told (P12). A deadlock or a livelock fails by itself.
//!
//! `DULY_SHUTTLE_SCHEDULES` says how many schedules of each kind. A failure prints its seed:
//! `SHUTTLE_RANDOM_SEED=<seed> DULY_SHUTTLE_SCHEDULES=1` replays it.

use crate::sync::{Arc, thread};
use crate::{
    CancellationToken, Context, Outcome, Overflow, Pool, PoolBuilder, SubmitError, SubmitErrorKind, Task, arena,
};
use ::shuttle::scheduler::{PctScheduler, RandomScheduler};
use ::shuttle::{Config, Runner, future::block_on};
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Poll, Waker};
use std::time::Duration;

pub(super) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Runs a model under so many random schedules, and half as many of the PCT scheduler.
pub(super) fn explore(name: &str, model: impl Fn() + Send + Sync + Clone + 'static) {
    let number = |name, default| match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")),
        Err(_) => default,
    };
    let schedules = number("DULY_SHUTTLE_SCHEDULES", 10_000);
    let seed = number("SHUTTLE_RANDOM_SEED", 20_261_121);
    let mut config = Config::new();
    config.stack_size = 1 << 17;
    let random = RandomScheduler::new_from_seed(seed as u64, schedules);
    Runner::new(random, config.clone()).run(model.clone());
    let preferring = PctScheduler::new_from_seed(seed as u64, 3, schedules / 2);
    Runner::new(preferring, config).run(model);
    println!(
        "\nfigure: shuttle {name} = {} schedules, seed {seed}",
        schedules + schedules / 2
    );
}

/// What the model knows of its tasks. No step of the checker.
#[derive(Default)]
pub(super) struct Ledger {
    made: AtomicU64,
    dropped: AtomicU64,
    refused: AtomicU64,
    /// What each accepted task's completion callbacks were told.
    told: Mutex<Vec<Arc<Mutex<Vec<Outcome>>>>>,
}

/// Captured data.
pub(super) struct Probe(Arc<Ledger>);

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Relaxed);
    }
}

pub(super) type Kept = (Task<u64, ()>, Arc<Mutex<Vec<Outcome>>>);

impl Ledger {
    /// A callback that holds a probe and takes so long.
    pub(super) fn work(
        self: &Arc<Self>,
        takes: u64,
        answer: Result<u64, ()>,
    ) -> impl FnOnce(&Context) -> Result<u64, ()> + Send + use<> {
        self.made.fetch_add(1, Relaxed);
        let probe = Probe(self.clone());
        move |_| {
            let _probe = &probe;
            if takes > 0 {
                thread::sleep(ms(takes));
            }
            answer
        }
    }

    pub(super) fn keep<F>(&self, submitted: Result<Task<u64, ()>, SubmitError<F>>) -> Result<Kept, SubmitErrorKind> {
        match submitted {
            Ok(task) => {
                let told = Arc::new(Mutex::new(Vec::new()));
                let tell = told.clone();
                task.on_complete(move |outcome| tell.lock().unwrap().push(outcome));
                self.told.lock().unwrap().push(told.clone());
                Ok((task, told))
            }
            Err(error) => {
                self.refused.fetch_add(1, Relaxed);
                Err(error.kind())
            }
        }
    }

    /// Ends the pool, and checks what is promised of the end.
    pub(super) fn settle(self: &Arc<Self>, pool: Pool, kept: Vec<Kept>, drain: Duration) {
        let report = pool.shutdown(drain).expect("not inside");
        assert!(report.stats.books_balance(), "{report}");
        for (task, told) in kept {
            let outcome = match task.wait() {
                Ok(_) => Outcome::Succeeded,
                Err(error) => error.outcome().expect("nobody else took it"),
            };
            assert_eq!(task.outcome(), Some(outcome), "P1");
            eventually("released", || task.is_released());
            eventually("told", || !told.lock().unwrap().is_empty());
            assert_eq!(*told.lock().unwrap(), [outcome], "P1");
        }
        let told = std::mem::take(&mut *self.told.lock().unwrap());
        eventually("all are told", || {
            told.iter().all(|told| !told.lock().unwrap().is_empty())
        });
        eventually("P6: all is dropped", || {
            self.dropped.load(Relaxed) >= self.made.load(Relaxed)
        });
        let stats = pool.stats();
        assert_eq!((stats.queued, stats.running, stats.blocked_producers), (0, 0, 0), "P5");
        assert!(stats.books_balance(), "P12: {stats}");
        assert_eq!(stats.submitted, told.len() as u64, "P12");
        assert_eq!(stats.refused, self.refused.load(Relaxed), "P12");
        for (outcome, count) in stats.outcomes() {
            let of = told.iter().filter(|told| *told.lock().unwrap() == [outcome]).count();
            assert_eq!(count, of as u64, "P12: {outcome}");
        }
        drop(pool);
        eventually("P5: no block is left", || arena::owned() == 0);
        assert_eq!(self.dropped.load(Relaxed), self.made.load(Relaxed), "P6");
    }
}

pub(super) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if done() {
            return;
        }
        thread::sleep(ms(1));
    }
    panic!("never happened: {what}");
}

pub(super) fn pool(workers: usize, capacity: usize) -> PoolBuilder {
    Pool::builder()
        .workers(workers)
        .capacity(capacity)
        .replace_after(ms(2))
        .max_replacements(1)
}

#[test]
fn p01_p05_p06_p12_all_at_once() {
    explore("cancels, deadlines, stuck callbacks and shutdown", || {
        let ledger = Arc::new(Ledger::default());
        let pool = pool(2, 2).build().expect("a pool");
        let root = CancellationToken::new();
        let producers: Vec<_> = (0..2)
            .map(|who| {
                let (pool, ledger, token) = (pool.clone(), ledger.clone(), root.child());
                thread::spawn(move || {
                    let options = pool.options();
                    let mut kept = Vec::new();
                    kept.extend(ledger.keep(options.clone().timeout(ms(3)).submit(ledger.work(20 * who, Ok(1)))));
                    kept.extend(ledger.keep(options.clone().token(&token).submit(ledger.work(0, Err(())))));
                    kept.extend(ledger.keep(options.submit(ledger.work(1, Ok(3)))));
                    if let Some((task, _)) = kept.last() {
                        task.cancel();
                    }
                    // A handle that nobody keeps.
                    drop(ledger.keep(pool.try_submit(ledger.work(0, Ok(4)))));
                    kept
                })
            })
            .collect();
        let canceller = thread::spawn(move || root.cancel());
        let other = pool.clone();
        let closer = thread::spawn(move || drop(other.shutdown(ms(10)).expect("not inside")));
        let kept = producers
            .into_iter()
            .flat_map(|producer| producer.join().expect("no panic"))
            .collect();
        canceller.join().expect("no panic");
        closer.join().expect("no panic");
        ledger.settle(pool, kept, ms(10));
    });
}

#[test]
fn p01_p05_p06_p12_overflow_policies() {
    let policies = [
        Overflow::Block,
        Overflow::Reject,
        Overflow::DropNewest,
        Overflow::DropOldest,
        Overflow::CallerRuns,
    ];
    for overflow in policies {
        explore(&format!("overflow {overflow:?}"), move || {
            let ledger = Arc::new(Ledger::default());
            let pool = pool(1, 1).overflow(overflow).build().expect("a pool");
            let producers: Vec<_> = (0..2)
                .map(|_| {
                    let (pool, ledger) = (pool.clone(), ledger.clone());
                    thread::spawn(move || {
                        (0..3)
                            .filter_map(|n| ledger.keep(pool.submit(ledger.work(n % 2, Ok(n)))).ok())
                            .inspect(|(task, _)| {
                                task.cancel();
                            })
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            let kept = producers
                .into_iter()
                .flat_map(|producer| producer.join().expect("no panic"))
                .collect();
            ledger.settle(pool, kept, ms(50));
        });
    }
}

#[test]
fn p04_p05_p06_p12_producers_of_several_policies() {
    explore("producers of several policies", || {
        let ledger = Arc::new(Ledger::default());
        let pool = pool(1, 1).max_blocked_producers(2).build().expect("a pool");
        // Those that wait meet one that sheds what they have queued, and takes no place that is theirs.
        let producers: Vec<_> = [Overflow::Block, Overflow::Block, Overflow::DropOldest]
            .into_iter()
            .map(|overflow| {
                let (pool, ledger) = (pool.clone(), ledger.clone());
                thread::spawn(move || {
                    let options = pool.options().overflow(overflow);
                    (0..2)
                        .map(|n| match ledger.keep(options.submit(ledger.work(n, Ok(n)))) {
                            Ok(kept) => kept,
                            Err(kind) => panic!("refused: {kind}"),
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        let kept = producers
            .into_iter()
            .flat_map(|producer| producer.join().expect("no panic"))
            .collect();
        ledger.settle(pool, kept, ms(50));
    });
}

#[test]
fn p04_blocked_producers_leave() {
    explore("blocked producers", || {
        let ledger = Arc::new(Ledger::default());
        let pool = pool(1, 1).max_replacements(0).build().expect("a pool");
        let token = CancellationToken::new();
        let mut kept = Vec::new();
        kept.extend(ledger.keep(pool.submit(ledger.work(30, Ok(0)))));
        let producers: Vec<_> = (0..3)
            .map(|who| {
                let (pool, ledger, token) = (pool.clone(), ledger.clone(), token.clone());
                thread::spawn(move || {
                    let options = match who {
                        0 => pool.options().token(&token),
                        1 => pool.options().submit_timeout(ms(2)),
                        _ => pool.options(),
                    };
                    ledger.keep(options.submit(ledger.work(0, Ok(who)))).ok()
                })
            })
            .collect();
        token.cancel();
        pool.close();
        for producer in producers {
            kept.extend(producer.join().expect("no panic"));
        }
        ledger.settle(pool, kept, ms(100));
    });
}

#[test]
fn p02_p04_nobody_helps() {
    // No cancel, deadline or close comes to the rescue of a wake-up that was forgotten.
    explore("producers and sleepers", || {
        let ledger = Arc::new(Ledger::default());
        let pool = pool(1, 1).max_blocked_producers(2).build().expect("a pool");
        let producers: Vec<_> = (0..2)
            .map(|_| {
                let (pool, ledger) = (pool.clone(), ledger.clone());
                thread::spawn(move || {
                    let work = |n| {
                        ledger
                            .keep(pool.submit(ledger.work(0, Ok(n))))
                            .expect("there will be room")
                    };
                    let pair = [work(1), work(2)].map(|(task, _)| task.wait().ok());
                    assert_eq!(pair, [Some(1), Some(2)], "P1");
                    assert_eq!(work(3).0.wait(), Ok(3), "P1");
                })
            })
            .collect();
        for producer in producers {
            producer.join().expect("no panic");
        }
        ledger.settle(pool, Vec::new(), ms(50));
    });
}

#[test]
fn p01_p05_p06_p12_async_callers() {
    explore("async callers", || {
        let ledger = Arc::new(Ledger::default());
        let pool = pool(1, 1).build().expect("a pool");
        let callers: Vec<_> = (0..2)
            .map(|_| {
                let (pool, ledger) = (pool.clone(), ledger.clone());
                thread::spawn(move || {
                    let submit = pool.submit_async(ledger.work(1, Ok(7)));
                    let (task, _) = ledger.keep(block_on(submit)).ok()?;
                    let twin = task.clone();
                    let seen = block_on(task).map_or_else(|error| error.outcome(), |_| Some(Outcome::Succeeded));
                    assert_eq!(seen, twin.outcome(), "P1");
                    Some(())
                })
            })
            .collect();
        // One that may wait for room when it is left.
        let mut left = pool.submit_async(ledger.work(0, Ok(1)));
        let polled = Pin::new(&mut left).poll(&mut std::task::Context::from_waker(Waker::noop()));
        drop(left);
        if let Poll::Ready(submitted) = polled {
            drop(ledger.keep(submitted));
        }
        for caller in callers {
            caller.join().expect("no panic");
        }
        ledger.settle(pool, Vec::new(), ms(50));
    });
}

#[test]
fn p01_p05_p06_p12_queues_keys_and_pauses() {
    explore("queues, keys and pauses", || {
        let ledger = Arc::new(Ledger::default());
        let pool = pool(2, 2).build().expect("a pool");
        let wide = pool.queue("wide").capacity(3).weight(2).add().expect("a queue");
        let narrow = pool.queue("narrow").capacity(3).limit(1).key_limit(1).key_capacity(2);
        let narrow = narrow.add().expect("a queue");
        // A step of the checker each, for overlaps to be seen.
        let inside = Arc::new(crate::sync::AtomicUsize::new(0));
        let producers: Vec<_> = (0..2u64)
            .map(|who| {
                let (pool, ledger) = (pool.clone(), ledger.clone());
                let (wide, narrow, inside) = (wide.clone(), narrow.clone(), inside.clone());
                thread::spawn(move || {
                    let mut kept = Vec::new();
                    for n in 0..2 {
                        let work = ledger.work(n, Ok(n));
                        let inside = inside.clone();
                        let alone = move |context: &Context| {
                            let before = inside.fetch_add(1, crate::sync::Ordering::SeqCst);
                            assert_eq!(before, 0, "P5: the limit is 1");
                            let answer = work(context);
                            inside.fetch_sub(1, crate::sync::Ordering::SeqCst);
                            answer
                        };
                        let options = pool.options().queue(&narrow).key(&(who * n));
                        kept.extend(ledger.keep(options.submit(alone)));
                    }
                    let options = pool.options().queue(&wide);
                    kept.extend(ledger.keep(options.clone().timeout(ms(2)).submit(ledger.work(who, Ok(7)))));
                    kept.extend(ledger.keep(pool.submit(ledger.work(0, Ok(8)))));
                    if let Some((task, _)) = kept.first() {
                        task.cancel();
                    }
                    kept
                })
            })
            .collect();
        let other = pool.clone();
        let changer = thread::spawn(move || {
            wide.pause();
            other.set_workers(1).expect("not closed");
            narrow.set_key_limit(Some(2)).expect("a limit");
            wide.resume();
            (wide, narrow)
        });
        let kept = producers
            .into_iter()
            .flat_map(|producer| producer.join().expect("no panic"))
            .collect();
        let (wide, narrow) = changer.join().expect("no panic");
        ledger.settle(pool, kept, ms(50));
        for queue in [wide, narrow] {
            let stats = queue.stats();
            assert_eq!((stats.queued, stats.running, stats.blocked_producers), (0, 0, 0), "P5");
        }
    });
}
