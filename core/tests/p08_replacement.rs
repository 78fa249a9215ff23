//! P8: capacity survives stuck callbacks: overdue workers are replaced, up to a limit; past it the pool tells that it
//! is stalled, and deadlines still fire.

mod support;

use duly::{Outcome, Pool, Worker};
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
            .timeout(ms(200))
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
