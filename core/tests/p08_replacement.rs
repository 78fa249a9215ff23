//! P8: capacity survives stuck callbacks: overdue workers are replaced, up to a limit; past it the pool tells that it
//! is stalled, and deadlines still fire.

mod support;

use duly::{Outcome, Overflow, Pool, Worker};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use support::*;

/// A task that has its outcome while its callback is stuck at the gate.
fn block(pool: &Pool, gate: &Gate, label: &'static str) -> duly::Task<()> {
    let (started, has_started) = mpsc::channel();
    let gate = gate.clone();
    let task = pool
        .options()
        .label(label)
        .spawn(move || {
            started.send(()).unwrap();
            gate.pass();
        })
        .unwrap();
    has_started.recv_timeout(LONG).expect("a worker is free");
    assert!(task.cancel());
    task
}

#[test]
fn p08_a_stuck_worker_is_replaced_and_the_surplus_thread_ends_when_it_returns() {
    let pool = Pool::builder()
        .name("p08r")
        .workers(2)
        .replace_after(ms(20))
        .build()
        .unwrap();
    let gate = Gate::new();
    let stuck = [block(&pool, &gate, "a"), block(&pool, &gate, "b")];
    for task in &stuck {
        assert_eq!(task.wait_outcome(LONG), Some(Outcome::Cancelled));
    }
    // Without the two, by replacements.
    assert_eq!(pool.options().timeout(LONG).spawn(|| 1).unwrap().wait().unwrap(), 1);
    eventually("both are replaced", || pool.stats().replaced == 2);
    eventually("four threads", || pool.stats().workers == 4);
    let mut labels: Vec<_> = pool
        .leaks()
        .iter()
        .map(|leak| leak.name.label().unwrap().to_owned())
        .collect();
    labels.sort();
    assert_eq!(labels, ["a", "b"], "overdue ones are named");
    assert_eq!(pool.stats().overdue, 2);
    gate.open();
    assert!(stuck.iter().all(|task| task.released(LONG)));
    eventually("the surplus threads end", || pool.stats().workers == 2);
    let stats = pool.stats();
    assert_eq!((stats.overdue, stats.late), (0, 2));
    assert!(pool.leaks().is_empty());
    // Again, to see that the allowance came back.
    let gate = Gate::new();
    let again = [block(&pool, &gate, "c"), block(&pool, &gate, "d")];
    eventually("both are replaced", || pool.stats().replaced == 4);
    gate.open();
    assert!(again.iter().all(|task| task.released(LONG)));
    end(&pool);
}

#[test]
fn p08_past_the_limit_the_pool_is_stalled_and_says_so_and_deadlines_still_fire() {
    let (tell, told) = mpsc::channel();
    let pool = Pool::builder()
        .workers(1)
        .max_replacements(1)
        .replace_after(ms(10))
        .on_stalled(move |stalled| tell.send(stalled.clone()).unwrap())
        .build()
        .unwrap();
    let gate = Gate::new();
    let first = block(&pool, &gate, "first");
    gate.arrived(1);
    eventually("replaced", || pool.stats().replaced == 1);
    let second = block(&pool, &gate, "second");
    gate.arrived(2);
    let stalled = told.recv_timeout(LONG).unwrap();
    let mut stuck: Vec<_> = stalled.stuck.iter().map(|task| task.name.label().unwrap()).collect();
    stuck.sort_unstable();
    assert_eq!(stuck, ["first", "second"]);
    assert_eq!(pool.stats().stalled, 1);
    let waits = pool.options().timeout(ms(15)).spawn(|| ()).unwrap();
    assert_eq!(waits.wait_outcome(LONG), Some(Outcome::DeadlineExceeded));
    gate.open();
    assert!(first.released(LONG) && second.released(LONG));
    assert_eq!(pool.spawn(|| 2).unwrap().wait().unwrap(), 2);
    assert!(told.try_recv().is_err(), "told once");
    // Stalled anew, it is told anew.
    eventually("one worker is left", || pool.stats().workers == 1);
    let gate = Gate::new();
    let third = block(&pool, &gate, "third");
    let fourth = block(&pool, &gate, "fourth");
    assert!(told.recv_timeout(LONG).is_ok(), "told again");
    assert_eq!(pool.stats().stalled, 2);
    gate.open();
    assert!(third.released(LONG) && fourth.released(LONG));
    end(&pool);
}

#[test]
fn p08_a_late_callback_is_reported_and_its_value_released() {
    let (tell, told) = mpsc::channel();
    let drops = Drops::default();
    let pool = Pool::builder()
        .workers(1)
        .on_late(move |late| tell.send(late.clone()).unwrap())
        .build()
        .unwrap();
    let gate = Gate::new();
    let task = {
        let (gate, probe) = (gate.clone(), drops.probe());
        pool.options()
            .label("tortoise")
            .timeout(ms(1500))
            .spawn(move || {
                gate.pass();
                probe
            })
            .unwrap()
    };
    gate.arrived(1);
    assert_eq!(task.wait_outcome(LONG), Some(Outcome::DeadlineExceeded));
    assert_eq!(drops.count(), 0);
    gate.open();
    let late = told.recv_timeout(LONG).unwrap();
    assert_eq!(late.name.label(), Some("tortoise"));
    assert_eq!(late.outcome, Outcome::DeadlineExceeded);
    assert!(task.released(LONG));
    assert_eq!(drops.count(), 1);
    assert_eq!(task.outcome(), Some(Outcome::DeadlineExceeded), "late changes nothing");
    assert_eq!(end(&pool).late, 1);
    assert!(told.try_recv().is_err(), "reported once");
}

#[test]
fn p08_threads_come_from_the_hosts_spawner_replacements_too() {
    let spawned = Arc::new(AtomicUsize::new(0));
    let pool = {
        let spawned = spawned.clone();
        Pool::builder()
            .workers(2)
            .replace_after(ms(10))
            .spawner(move |worker: Worker| {
                spawned.fetch_add(1, Ordering::SeqCst);
                std::thread::Builder::new()
                    .name("p08host".into())
                    .spawn(move || worker.run())?;
                Ok(())
            })
            .build()
            .unwrap()
    };
    assert_eq!(spawned.load(Ordering::SeqCst), 2);
    let gate = Gate::new();
    let stuck = block(&pool, &gate, "stuck");
    eventually("a third is spawned", || spawned.load(Ordering::SeqCst) == 3);
    assert_eq!(
        pool.spawn(|| std::thread::current().name().map(str::to_owned))
            .unwrap()
            .wait()
            .unwrap()
            .unwrap(),
        "p08host"
    );
    gate.open();
    assert!(stuck.released(LONG));
    end(&pool);
    eventually("the host's threads have ended", || threads_named("p08host").is_empty());
}

#[test]
fn p08_a_replacement_that_cannot_be_created_is_tried_again() {
    let calls = Arc::new(AtomicUsize::new(0));
    let pool = {
        let calls = calls.clone();
        Pool::builder()
            .workers(1)
            .replace_after(ms(10))
            .spawner(move |worker: Worker| {
                if calls.fetch_add(1, Ordering::SeqCst) == 1 {
                    return Err(std::io::Error::other("no thread today"));
                }
                std::thread::spawn(move || worker.run());
                Ok(())
            })
            .build()
            .unwrap()
    };
    let gate = Gate::new();
    let stuck = block(&pool, &gate, "stuck");
    assert_eq!(pool.options().timeout(LONG).spawn(|| 1).unwrap().wait().unwrap(), 1);
    assert!(calls.load(Ordering::SeqCst) >= 3);
    gate.open();
    assert!(stuck.released(LONG));
    end(&pool);
}

#[test]
fn p08_a_place_for_a_replacement_that_comes_free_is_used() {
    let pool = Pool::builder()
        .workers(1)
        .max_replacements(1)
        .replace_after(ms(10))
        .build()
        .unwrap();
    let (first_gate, second_gate) = (Gate::new(), Gate::new());
    let first = block(&pool, &first_gate, "first");
    first_gate.arrived(1);
    eventually("replaced", || pool.stats().replaced == 1);
    let second = block(&pool, &second_gate, "second");
    second_gate.arrived(1);
    eventually("stalled", || pool.stats().stalled == 1);
    // The first returns and its thread ends; the second is stuck, and may be replaced now.
    first_gate.open();
    assert!(first.released(LONG));
    assert_eq!(pool.options().timeout(LONG).spawn(|| 4).unwrap().wait().unwrap(), 4);
    second_gate.open();
    assert!(second.released(LONG));
    end(&pool);
}

/// A callback that submits to its own full pool runs the second task itself, which gets stuck: what its worker is then.
fn stuck_inside_another(pool: &Pool, gate: &Gate) -> (duly::Task<()>, mpsc::Receiver<duly::Task<u32>>) {
    let (give, take) = mpsc::channel();
    let (inner, gate) = (pool.clone(), gate.clone());
    let outer = pool.spawn(move || {
        give.send(inner.spawn(|| 7).unwrap()).unwrap();
        let stuck = inner.options().label("stuck inside").timeout(ms(500));
        stuck.spawn(move || gate.pass()).unwrap();
    });
    (outer.unwrap(), take)
}

#[test]
fn p08_a_worker_that_runs_another_task_inside_its_callback_is_replaced_when_that_is_overdue() {
    let pool = Pool::builder()
        .workers(1)
        .capacity(1)
        .overflow(Overflow::CallerRuns)
        .replace_after(ms(20))
        .max_replacements(1)
        .build()
        .unwrap();
    let gate = Gate::new();
    let (outer, take) = stuck_inside_another(&pool, &gate);
    let queued = take.recv_timeout(LONG).unwrap();
    assert_eq!(
        queued
            .wait_timeout(LONG)
            .expect("nobody takes the worker's place")
            .unwrap(),
        7
    );
    eventually("it is counted", || pool.stats().replaced == 1);
    let leaks = pool.leaks();
    let labels: Vec<_> = leaks.iter().filter_map(|leak| leak.name.label()).collect();
    assert_eq!(labels, ["stuck inside"]);
    assert_eq!(
        (pool.stats().overdue, pool.stats().stalled, outer.outcome()),
        (1, 0, None)
    );
    gate.open();
    assert!(outer.wait_timeout(LONG).is_some());
    eventually("the surplus thread ends", || pool.stats().workers == 1);
    // The allowance came back.
    let again = block(&pool, &Gate::new(), "again");
    eventually("it is replaced", || pool.stats().replaced == 2);
    drop(again);
    let report = pool.shutdown(ms(500)).unwrap();
    assert_eq!(report.threads_left, 1, "{report}");
}

#[test]
fn p08_without_a_replacement_left_for_it_the_pool_is_stalled() {
    for waits in [false, true] {
        let pool = Pool::builder()
            .workers(1)
            .capacity(if waits { 8 } else { 1 })
            .overflow(Overflow::CallerRuns)
            .replace_after(ms(20))
            .max_replacements(0)
            .build()
            .unwrap();
        let gate = Gate::new();
        let (outer, queued) = if waits {
            // Past the limit of replacements, it runs what it waits for.
            let (inner, hold) = (pool.clone(), gate.clone());
            let outer = pool.spawn(move || {
                let stuck = inner.options().label("stuck inside").timeout(ms(500));
                let stuck = stuck.spawn(move || hold.pass()).unwrap();
                let _ = stuck.wait();
            });
            gate.arrived(1);
            (outer.unwrap(), pool.spawn(|| 7).unwrap())
        } else {
            let (outer, take) = stuck_inside_another(&pool, &gate);
            (outer, take.recv_timeout(LONG).unwrap())
        };
        eventually("it is stalled", || pool.stats().stalled == 1);
        assert_eq!((queued.outcome(), pool.stats().replaced), (None, 0), "{waits}");
        gate.open();
        assert!(outer.wait_timeout(LONG).is_some());
        assert_eq!(queued.wait_timeout(LONG).expect("it goes on").unwrap(), 7);
        end(&pool);
    }
}

#[test]
fn p08_a_stuck_caller_from_outside_is_no_stuck_worker() {
    let pool = Pool::builder()
        .workers(2)
        .capacity(1)
        .overflow(Overflow::CallerRuns)
        .replace_after(ms(10))
        .max_replacements(0)
        .build()
        .unwrap();
    let (gate, busy, outside) = (Gate::new(), Gate::new(), Gate::new());
    let stuck = block(&pool, &gate, "stuck");
    let hold = busy.clone();
    let running = pool.spawn(move || hold.pass()).unwrap();
    busy.arrived(1);
    let queued = pool.spawn(|| 7).unwrap();
    let (inner, hold) = (pool.clone(), outside.clone());
    let caller = std::thread::spawn(move || {
        let late = inner.options().timeout(ms(200));
        late.spawn(move || hold.pass()).unwrap();
    });
    eventually("two are overdue", || pool.stats().overdue == 2);
    // Time enough to be told.
    std::thread::sleep(ms(100));
    assert_eq!(pool.stats().stalled, 0, "one worker's callback is like any other");
    outside.open();
    caller.join().unwrap();
    busy.open();
    gate.open();
    assert_eq!(queued.wait_timeout(LONG).unwrap().unwrap(), 7);
    drop((stuck, running));
    end(&pool);
}
