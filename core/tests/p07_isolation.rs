//! P7: a panic is an outcome with its message; it ends no worker, pool or process.

mod support;

use duly::{Outcome, Pool, TaskError};
use std::sync::{Arc, Mutex};
use support::*;

#[test]
fn p07_a_panic_is_an_outcome_with_its_message_and_the_worker_lives() {
    let pool = Pool::builder().workers(1).build().unwrap();
    let worker = || std::thread::current().id();
    let before = pool.spawn(worker).unwrap().wait().unwrap();
    for round in 0..50 {
        let task = pool
            .options()
            .label("doomed")
            .spawn(move || panic!("round {round}"))
            .unwrap();
        match task.wait() {
            Err(TaskError::Panicked(panic)) => {
                assert_eq!(panic.message(), format!("round {round}"));
                assert_eq!(panic.task().label(), Some("doomed"));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        pool.spawn(worker).unwrap().wait().unwrap(),
        before,
        "the same thread still works"
    );
    assert_eq!(end(&pool).panicked, 50);
}

#[test]
fn p07_panics_with_any_payload_even_one_whose_destructor_panics() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("again");
        }
    }
    let pool = Pool::builder().workers(1).build().unwrap();
    let task = pool.spawn(|| std::panic::panic_any(5u8)).unwrap();
    assert!(task.wait().unwrap_err().to_string().contains("not text"));
    let task = pool.spawn(|| std::panic::panic_any(Bomb)).unwrap();
    assert_eq!(task.wait().unwrap_err().outcome(), Some(Outcome::Panicked));
    assert_eq!(pool.spawn(|| 1).unwrap().wait().unwrap(), 1);
    end(&pool);
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("a destructor panics");
    }
}

#[test]
fn p07_panicking_destructors_of_data_and_values_hurt_nobody() {
    let (pool, gate, stuck) = stuck_pool(Pool::builder(), 1);
    let data = PanicsWhenDropped;
    let cancelled = pool
        .spawn(move || {
            let _keep = &data;
        })
        .unwrap();
    cancelled.cancel();
    assert!(cancelled.released(LONG));
    gate.open();
    stuck[0].wait().unwrap();
    // A value that nobody takes, dropped by the last handle, here.
    let task = pool.spawn(|| PanicsWhenDropped).unwrap();
    task.wait_outcome(LONG).unwrap();
    drop(task);
    // And by the worker.
    drop(pool.spawn(|| PanicsWhenDropped).unwrap());
    // Captured data that is dropped when the callback returns: the callback's panic.
    let data = PanicsWhenDropped;
    let task = pool.spawn(move || drop(data)).unwrap();
    assert_eq!(task.wait_outcome(LONG), Some(Outcome::Panicked));
    assert_eq!(pool.spawn(|| 1).unwrap().wait().unwrap(), 1);
    end(&pool);
}

#[test]
fn p07_no_unwind_safety_is_asked_for() {
    let pool = Pool::builder().workers(1).build().unwrap();
    let cell = std::cell::RefCell::new(1);
    let shared = Arc::new(Mutex::new(1));
    assert_eq!(
        pool.spawn(move || *cell.borrow() + *shared.lock().unwrap())
            .unwrap()
            .wait()
            .unwrap(),
        2
    );
    end(&pool);
}

#[test]
fn p07_panicking_hooks_hurt_nobody() {
    let pool = Pool::builder()
        .workers(2)
        .on_worker_start(|_| panic!("start"))
        .on_worker_stop(|_| panic!("stop"))
        .on_late(|_| panic!("late"))
        .on_unobserved(|_| panic!("unobserved"))
        .build()
        .unwrap();
    drop(pool.submit(|_| Err::<(), _>("nobody looks")).unwrap());
    let gate = Gate::new();
    let late = {
        let gate = gate.clone();
        pool.spawn(move || gate.pass()).unwrap()
    };
    gate.arrived(1);
    assert!(late.cancel());
    gate.open();
    assert!(late.released(LONG));
    assert_eq!(pool.spawn(|| 1).unwrap().wait().unwrap(), 1);
    let stats = end(&pool);
    assert_eq!((stats.late, stats.unobserved), (1, 1));
}
