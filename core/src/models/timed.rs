//! Tasks whose time comes, under random schedules: delayed and periodic ones race with cancels, closes and a queue that is
//! full.

use super::whole_pool::{Ledger, eventually, explore, ms, pool};
use crate::sync::{Arc, thread};
use crate::{CancellationToken, Missed, Outcome, Overflow, PeriodicEnd, arena, clock};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[test]
fn p01_p02_p05_p06_p09_p12_delayed_tasks() {
    explore("delayed tasks, cancels and shutdown", || {
        let ledger = Arc::new(Ledger::default());
        let pool = pool(1, 3).build().expect("a pool");
        let token = CancellationToken::new();
        let producers: Vec<_> = (0..2u64)
            .map(|who| {
                let (pool, ledger, token) = (pool.clone(), ledger.clone(), token.clone());
                thread::spawn(move || {
                    let options = pool.options();
                    let mut kept = Vec::new();
                    let begun = clock::now();
                    let work = ledger.work(who, Ok(1));
                    kept.extend(
                        ledger.keep(options.clone().delay(ms(3)).submit(move |ctx: &crate::Context| {
                            assert!(clock::now() >= begun + 3 * clock::MS, "P2: early");
                            work(ctx)
                        })),
                    );
                    // The deadline comes first, or the cancel, or the start.
                    let late = options.clone().delay(ms(4)).timeout(ms(3 + 4 * who)).token(&token);
                    kept.extend(ledger.keep(late.submit(ledger.work(0, Ok(2)))));
                    // One that is due after every drain.
                    kept.extend(ledger.keep(options.clone().delay(ms(10_000)).try_submit(ledger.work(0, Err(())))));
                    kept.extend(ledger.keep(options.try_submit(ledger.work(1, Ok(3)))));
                    if let Some((task, _)) = kept.first().filter(|_| who == 0) {
                        task.cancel();
                    }
                    kept
                })
            })
            .collect();
        let canceller = thread::spawn(move || token.cancel());
        let other = pool.clone();
        let closer = thread::spawn(move || {
            thread::sleep(ms(2));
            drop(other.shutdown(ms(20)).expect("not inside"))
        });
        let mut kept = Vec::new();
        for producer in producers {
            kept.extend(producer.join().expect("no panic"));
        }
        canceller.join().expect("no panic");
        closer.join().expect("no panic");
        assert!(kept.iter().all(|(task, _)| task.outcome() != Some(Outcome::Shed)));
        ledger.settle(pool, kept, ms(20));
    });
}

#[test]
fn p04_p05_p06_a_periodic_task() {
    for overflow in [Overflow::Block, Overflow::DropOldest] {
        explore(&format!("a periodic task, overflow {overflow:?}"), move || {
            let pool = pool(2, 1).overflow(overflow).build().expect("a pool");
            let (inside, began, dropped) = (
                AtomicU64::new(0),
                Arc::new(AtomicU64::new(0)),
                Arc::new(AtomicU64::new(0)),
            );
            let (begins, probe) = (began.clone(), Probe(dropped.clone()));
            let beat = pool
                .options()
                .timeout(ms(3))
                .every(ms(2))
                .missed(Missed::CatchUp)
                .submit(move |ctx| {
                    let _probe = &probe;
                    assert_eq!(inside.fetch_add(1, Relaxed), 0, "overlaps itself");
                    // Now and then longer than its deadline, and than the pool waits before it replaces the worker.
                    let turn = begins.fetch_add(1, Relaxed);
                    thread::sleep(ms(1 + 5 * (turn % 2)));
                    inside.fetch_sub(1, Relaxed);
                    ctx.check()
                })
                .expect("open");
            let producer = thread::spawn({
                let pool = pool.clone();
                move || (0..3).for_each(|_| drop(pool.spawn(|| ())))
            });
            let canceller = thread::spawn({
                let (beat, began) = (beat.clone(), began.clone());
                move || {
                    let enough = || began.load(Relaxed) > 0 || beat.end().is_some();
                    while !enough() {
                        thread::sleep(ms(1));
                    }
                    beat.cancel()
                }
            });
            let closer = thread::spawn({
                let pool = pool.clone();
                move || {
                    thread::sleep(ms(7));
                    pool.shutdown(ms(20)).expect("not inside")
                }
            });
            let end = beat.wait();
            assert!(
                matches!(end, PeriodicEnd::Cancelled(_) | PeriodicEnd::ShutDown),
                "{end:?}"
            );
            let cancelled = canceller.join().expect("no panic");
            assert_eq!(cancelled, matches!(end, PeriodicEnd::Cancelled(_)));
            producer.join().expect("no panic");
            assert!(closer.join().expect("no panic").stats.books_balance());
            eventually("P6: the callback is gone", || dropped.load(Relaxed) == 1);
            eventually("nothing of it is left", || beat.stats().active == 0);
            drop((beat, pool));
            eventually("P5: no block is left", || arena::owned() == 0);
        });
    }
}

/// The close comes about when a run ends that took longer than its period: the next look is planned meanwhile, and nothing else
/// would tell the task of the close.
#[test]
fn p04_a_close_against_a_run_that_took_long() {
    explore("a run that took long against the close", || {
        let pool = pool(1, 2).build().expect("a pool");
        let began = Arc::new(AtomicU64::new(0));
        let begins = began.clone();
        let beat = pool
            .options()
            .every(ms(1))
            .missed(Missed::CatchUp)
            .submit(move |_: &crate::Context| {
                begins.fetch_add(1, Relaxed);
                thread::sleep(ms(2));
                Ok::<_, ()>(())
            })
            .expect("open");
        let closer = thread::spawn({
            let (pool, began) = (pool.clone(), began);
            move || {
                while began.load(Relaxed) == 0 {
                    thread::sleep(ms(1));
                }
                thread::sleep(ms(2));
                pool.shutdown(ms(0)).expect("not inside");
            }
        });
        assert_eq!(beat.wait(), PeriodicEnd::ShutDown);
        closer.join().expect("no panic");
        drop((beat, pool));
        eventually("P5: no block is left", || arena::owned() == 0);
    });
}

struct Probe(Arc<AtomicU64>);

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.fetch_add(1, Relaxed);
    }
}
