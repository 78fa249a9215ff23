//! How workers sleep: no wake-up is lost, and wake-ups chain.

use super::{Bench, beside, explore};
use crate::Worker;
use crate::idle::Idle;
use crate::sync::{Arc, AtomicUsize, Ordering, Parker};

/// A push against a worker that gives up: the worker gets the work. Only the parts, so that every execution is seen.
#[test]
fn p02_push_against_going_idle() {
    explore("push against going idle", None, || {
        let idle = Arc::new(Idle::default());
        let work = Arc::new(AtomicUsize::new(0));
        let worker = beside({
            let (idle, work) = (idle.clone(), work.clone());
            move || {
                let parker = Arc::new(Parker::here());
                let searching = idle.start_searching(false);
                let more = || work.load(Ordering::Relaxed) != 0;
                idle.go_idle(&parker, searching, more);
                parker.park();
                while work.load(Ordering::Relaxed) == 0 {
                    idle.go_idle(&parker, true, more);
                    parker.park();
                }
                idle.stop_searching(more);
            }
        });
        work.store(1, Ordering::Relaxed);
        idle.notify(|| true);
        worker.join();
    });
}

/// Two sleepers and two pushes: whoever is woken sees to it that the other is, too.
#[test]
fn p02_wake_ups_chain() {
    explore("wake-ups chain", Some(2), || {
        let idle = Arc::new(Idle::default());
        let work = Arc::new(AtomicUsize::new(0));
        let workers: Vec<_> = (0..2)
            .map(|_| {
                let (idle, work) = (idle.clone(), work.clone());
                beside(move || {
                    let parker = Arc::new(Parker::here());
                    let mut searching = false;
                    loop {
                        let there = work.load(Ordering::Relaxed);
                        if there != 0 {
                            if work
                                .compare_exchange(there, there - 1, Ordering::Relaxed, Ordering::Relaxed)
                                .is_err()
                            {
                                continue;
                            }
                            if searching {
                                idle.stop_searching(|| work.load(Ordering::Relaxed) != 0);
                            }
                            return;
                        }
                        idle.go_idle(&parker, searching, || work.load(Ordering::Relaxed) != 0);
                        parker.park();
                        searching = true;
                    }
                })
            })
            .collect();
        for _ in 0..2 {
            work.fetch_add(1, Ordering::Relaxed);
            idle.notify(|| true);
        }
        for worker in workers {
            worker.join();
        }
    });
}

/// A worker as it is: it runs what comes, whenever it falls asleep, and ends at the close.
#[test]
fn p02_a_worker_from_start_to_end() {
    explore("a worker from start to end", Some(2), || {
        let bench = Bench::new(|options| options.workers(1));
        let worker = Worker::new(&bench.shared(), true).expect("one");
        let worker = beside(move || worker.run());
        let task = bench.pool.spawn(|| 7).expect("open");
        assert_eq!(task.wait().expect("nobody ends it"), 7);
        drop(task);
        bench.pool.close();
        worker.join();
        bench.end();
    });
}

/// Two workers, and two tasks of which the first waits for the second: both must be awake.
#[test]
#[ignore = "minutes"]
fn full_p02_tasks_that_need_each_other() {
    explore("tasks that need each other", Some(1), || {
        let bench = Bench::new(|options| options.workers(2));
        let workers: Vec<_> = (0..2)
            .map(|_| {
                let worker = Worker::new(&bench.shared(), true).expect("two");
                beside(move || worker.run())
            })
            .collect();
        let here = Arc::new(Parker::here());
        let there = here.clone();
        let second = bench.pool.spawn(move || there.unpark()).expect("open");
        let first = bench.pool.spawn(|| ()).expect("open");
        here.park();
        first.wait().expect("nobody ends it");
        drop((first, second));
        bench.pool.close();
        for worker in workers {
            worker.join();
        }
        bench.end();
    });
}
