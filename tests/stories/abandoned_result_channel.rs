//! Story 1, the abandoned result channel.
//!
//! A service hands heavy requests to a few workers. Each request carries a reply channel without a buffer; the caller
//! waits on it for a limited time. Under load the queue grows, callers time out and leave, and nobody reads the reply
//! any more: the worker's send blocks for ever. One worker after the other freezes, and the service locks up.
//!
//! Here the answer belongs to the task. Keeps true: a caller is answered at the deadline whoever works on the request;
//! a worker never waits for somebody to take a result; what comes late is dropped, once, and reported.

#[path = "../../core/tests/support/mod.rs"]
mod support;

use duly::{Outcome, Pool, TaskError};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Instant;
use support::{Drops, Gate, LONG, end, eventually, ms};

const WORKERS: usize = 3;

/// The service as the story has it; kept to show that the situation below is the one that froze it.
#[test]
fn the_published_service_freezes() {
    let (requests, queue) = mpsc::channel::<mpsc::SyncSender<u32>>();
    let queue = Arc::new(std::sync::Mutex::new(queue));
    let answered = Arc::new(AtomicUsize::new(0));
    for _ in 0..WORKERS {
        let (queue, answered) = (queue.clone(), answered.clone());
        thread::spawn(move || {
            loop {
                let Ok(reply) = queue.lock().unwrap().recv() else {
                    return;
                };
                thread::sleep(ms(30));
                if reply.send(42).is_err() {
                    return;
                }
                answered.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    // A reply channel outlives its caller's patience: nobody closes it, nobody reads it.
    let mut abandoned = Vec::new();
    for _ in 0..WORKERS {
        let (reply, answer) = mpsc::sync_channel(0);
        requests.send(reply).unwrap();
        // Its caller has gone: it had no patience at all.
        abandoned.push(answer);
    }
    let (reply, answer) = mpsc::sync_channel(0);
    requests.send(reply).unwrap();
    assert!(
        answer.recv_timeout(ms(300)).is_err(),
        "somebody answered although every worker should be frozen"
    );
    assert_eq!(answered.load(Ordering::SeqCst), 0);
}

#[test]
fn p03_callers_that_left_freeze_no_worker() {
    let pool = Pool::builder().workers(WORKERS).capacity(64).build().unwrap();
    // Ten times as many callers as workers: each waits shorter than the work takes, and goes.
    let mut abandoned = Vec::new();
    for number in 0..10 * WORKERS {
        let task = pool
            .spawn(move || {
                thread::sleep(ms(5));
                number
            })
            .unwrap();
        assert!(task.wait_timeout(ms(0)).is_none_or(|answer| answer.unwrap() == number));
        // Some callers keep the handle and never read it, the others drop it.
        if number % 2 == 0 {
            abandoned.push(task);
        }
    }
    let fresh = pool.spawn(|| 42).unwrap();
    assert_eq!(
        fresh.wait_timeout(LONG).expect("the service has locked up").unwrap(),
        42
    );
    let stats = end(&pool);
    assert_eq!(stats.succeeded, 10 * WORKERS as u64 + 1);
    drop(abandoned);
}

#[test]
fn p02_a_caller_is_answered_at_the_deadline_while_the_work_goes_on() {
    let pool = Pool::builder()
        .workers(WORKERS)
        .default_timeout(ms(50))
        .build()
        .unwrap();
    let gate = Gate::new();
    let requests: Vec<_> = (0..4 * WORKERS)
        .map(|_| {
            let gate = gate.clone();
            (Instant::now(), pool.spawn(move || gate.pass()).unwrap())
        })
        .collect();
    for (submitted, task) in &requests {
        let answer = task.wait_timeout(LONG).expect("a caller was left without an answer");
        assert!(matches!(answer, Err(TaskError::DeadlineExceeded(_))), "{answer:?}");
        assert!(
            submitted.elapsed() >= ms(50),
            "answered early, after {:?}",
            submitted.elapsed()
        );
    }
    gate.open();
    let stats = end(&pool);
    assert_eq!(stats.deadline_exceeded, 4 * WORKERS as u64);
}

#[test]
fn p06_a_late_result_is_dropped_once_and_never_seen() {
    let late = Arc::new(AtomicUsize::new(0));
    let counted = late.clone();
    let pool = Pool::builder()
        .workers(1)
        .on_late(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
        })
        .build()
        .unwrap();
    let (gate, drops) = (Gate::new(), Drops::default());
    let (callback_gate, captured, result) = (gate.clone(), drops.probe(), drops.probe());
    let task = pool
        .options()
        .timeout(ms(1500))
        .spawn(move || {
            callback_gate.pass();
            drop(captured);
            result
        })
        .unwrap();
    gate.arrived(1);
    assert_eq!(task.wait_outcome(LONG), Some(Outcome::DeadlineExceeded));
    assert_eq!(drops.count(), 0, "released while the callback could still use it");
    assert!(!task.released(ms(0)));

    gate.open();
    assert!(task.released(LONG));
    eventually("the late callback is reported", || late.load(Ordering::SeqCst) == 1);
    assert_eq!(drops.count(), 2);
    // The answer does not change, and is no empty result.
    assert!(matches!(task.wait(), Err(TaskError::DeadlineExceeded(_))));
    assert_eq!(end(&pool).late, 1);
}

#[test]
fn p01_callers_that_time_out_while_the_answer_comes_lose_nothing() {
    let pool = Pool::builder().workers(WORKERS).build().unwrap();
    let (mut in_time, mut later) = (0, 0);
    for number in 0..2000_usize {
        let task = pool.spawn(move || number).unwrap();
        // The wait ends at about the moment the answer comes.
        match task.wait_timeout(std::time::Duration::from_micros(number as u64 % 40)) {
            Some(answer) => {
                assert_eq!(answer.unwrap(), number);
                in_time += 1;
            }
            None => {
                assert_eq!(task.wait_timeout(LONG).expect("the answer was lost").unwrap(), number);
                later += 1;
            }
        }
        assert!(
            matches!(task.wait(), Err(TaskError::Taken(_))),
            "the value was given out twice"
        );
    }
    assert_eq!(in_time + later, 2000);
    assert_eq!(end(&pool).succeeded, 2000);
}
