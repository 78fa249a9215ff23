//! Workers by steps: what a host that runs callbacks in its own way can rely on.
//!
//! The host here is the test's own thread: it takes a step when the test says so, and so holds every moment in between.

mod support;

use duly::{Context, Outcome, Pool, Step, Steps, Task, Worker};
use std::any::TypeId;
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use support::*;

thread_local! {
    static HANDED: Cell<bool> = const { Cell::new(false) };
}

/// A pool whose workers are brought, and where they come out.
fn hosted(workers: usize, build: impl FnOnce(duly::PoolBuilder) -> duly::PoolBuilder) -> (Pool, mpsc::Receiver<Steps>) {
    let (give, given) = mpsc::channel();
    let builder = Pool::builder().workers(workers).spawner(move |worker: Worker| {
        give.send(worker.by_steps()).unwrap();
        Ok(())
    });
    (build(builder).build().unwrap(), given)
}

fn next(given: &mpsc::Receiver<Steps>) -> Steps {
    given.recv_timeout(LONG).expect("a worker is brought")
}

/// A callback that hands its task out where it may. Its value is a drop guard, of the type that `finish` gives as well.
fn hand_out(pool: &Pool) -> Task<Guard, u32> {
    pool.options()
        .submit(|context: &Context| {
            HANDED.set(context.by_steps());
            Ok(Guard(None))
        })
        .unwrap()
}

/// Counts its drop, if it counts.
#[derive(Debug)]
struct Guard(Option<Arc<AtomicUsize>>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(count) = &self.0 {
            count.fetch_add(1, SeqCst);
        }
    }
}

fn take(steps: &mut Steps) -> Step {
    steps.take(None, || HANDED.take())
}

fn finish(steps: &mut Steps, result: Result<Result<Guard, u32>, Box<str>>) -> bool {
    // SAFETY: every callback that hands out here gives a guard or a number.
    unsafe { steps.finish(result) }
}

fn shut_down(pool: &Pool, hosts: Vec<Steps>) {
    pool.close();
    for mut steps in hosts {
        eventually("the worker is to end", || take(&mut steps) == Step::End);
    }
    assert!(pool.shutdown(LONG).unwrap().drained);
}

#[test]
fn p01_a_task_that_is_handed_out_ends_as_its_host_says() {
    let (pool, given) = hosted(1, |builder| builder);
    let mut steps = next(&given);
    let tasks: Vec<_> = (0..3).map(|_| hand_out(&pool)).collect();
    let dropped = Arc::new(AtomicUsize::new(0));
    for result in [
        Ok(Ok(Guard(Some(dropped.clone())))),
        Ok(Err(7)),
        Err("gone wrong".into()),
    ] {
        assert_eq!(take(&mut steps), Step::Handed);
        assert_eq!(pool.stats().running, 1);
        assert!(finish(&mut steps, result));
        assert!(!finish(&mut steps, Ok(Err(1))), "no task is in hand");
    }
    assert_eq!(take(&mut steps), Step::Nothing);
    let outcomes: Vec<_> = tasks.iter().map(|task| task.wait_outcome(LONG)).collect();
    assert_eq!(
        outcomes,
        [Some(Outcome::Succeeded), Some(Outcome::Failed), Some(Outcome::Panicked)]
    );
    assert_eq!(dropped.load(SeqCst), 0, "the value is the taker's");
    drop(tasks);
    assert_eq!(dropped.load(SeqCst), 1);
    shut_down(&pool, vec![steps]);
}

#[test]
fn p02_a_deadline_answers_a_task_in_the_hosts_hands_and_its_late_value_is_dropped() {
    let (pool, given) = hosted(1, |builder| builder);
    let mut steps = next(&given);
    let task: Task<Guard, u32> = pool
        .options()
        .timeout(ms(1000))
        .submit(|context: &Context| {
            HANDED.set(context.by_steps());
            Ok(Guard(None))
        })
        .unwrap();
    assert_eq!(take(&mut steps), Step::Handed);
    assert_eq!(task.wait_outcome(LONG), Some(Outcome::DeadlineExceeded));
    assert!(!task.released(Duration::ZERO), "its callback has not returned");
    assert_eq!(pool.stats().overdue, 1);
    let dropped = Arc::new(AtomicUsize::new(0));
    assert!(!finish(&mut steps, Ok(Ok(Guard(Some(dropped.clone()))))), "it is late");
    assert!(task.released(LONG));
    let stats = pool.stats();
    assert_eq!((dropped.load(SeqCst), stats.late, stats.overdue), (1, 1, 0));
    shut_down(&pool, vec![steps]);
}

#[test]
fn p06_a_worker_that_is_dropped_with_a_task_in_hand_ends_it() {
    let (pool, given) = hosted(2, |builder| builder);
    let (mut steps, other) = (next(&given), next(&given));
    let task = hand_out(&pool);
    assert_eq!(take(&mut steps), Step::Handed);
    drop(steps);
    assert!(
        matches!(task.wait_timeout(LONG), Some(Err(duly::TaskError::Panicked(message))) if message.message().contains("left"))
    );
    assert!(task.released(LONG));
    shut_down(&pool, vec![other]);
}

#[test]
fn p08_a_stuck_task_in_the_hosts_hands_has_its_worker_replaced() {
    let (pool, given) = hosted(1, |builder| builder.replace_after(ms(10)));
    let mut steps = next(&given);
    let stuck = hand_out(&pool);
    assert_eq!(take(&mut steps), Step::Handed);
    assert!(stuck.cancel());
    let mut second = next(&given);
    assert_eq!(pool.leaks().len(), 1);
    let task = hand_out(&pool);
    assert_eq!(take(&mut second), Step::Handed);
    assert!(finish(&mut second, Ok(Err(1))));
    assert_eq!(task.wait_outcome(LONG), Some(Outcome::Failed));
    assert!(!finish(&mut steps, Ok(Err(1))));
    assert_eq!(take(&mut steps), Step::End, "the one that was replaced leaves");
    drop(steps);
    eventually("one is left", || pool.stats().workers == 1);
    shut_down(&pool, vec![second]);
}

#[test]
fn p10_a_host_that_is_away_has_another_stand_in() {
    let (pool, given) = hosted(1, |builder| builder);
    let mut steps = next(&given);
    let outer = hand_out(&pool);
    assert_eq!(take(&mut steps), Step::Handed);
    steps.away();
    let inner = hand_out(&pool);
    let mut other = next(&given);
    assert_eq!(take(&mut other), Step::Handed);
    assert!(finish(&mut other, Ok(Err(2))));
    assert_eq!(inner.wait_outcome(LONG), Some(Outcome::Failed));
    steps.back();
    assert!(finish(&mut steps, Ok(Err(1))));
    assert_eq!(outer.wait_outcome(LONG), Some(Outcome::Failed));
    eventually("the one too many leaves", || {
        take(&mut other) == Step::End || take(&mut steps) == Step::End
    });
    shut_down(&pool, vec![steps, other]);
}

#[test]
fn p10_what_a_host_waits_for_inside_a_callback_is_run_there() {
    let (pool, given) = hosted(1, |builder| builder.max_replacements(0));
    let mut steps = next(&given);
    let outer = hand_out(&pool);
    let inner = pool.spawn(|| 5).unwrap();
    assert_eq!(take(&mut steps), Step::Handed);
    steps.arrive();
    assert_eq!(inner.wait().unwrap(), 5);
    steps.depart();
    assert!(finish(&mut steps, Ok(Err(1))));
    assert_eq!(outer.wait_outcome(LONG), Some(Outcome::Failed));
    shut_down(&pool, vec![steps]);
}

#[test]
fn p13_callbacks_of_others_are_left_to_the_next_step_where_a_type_is_named() {
    let (pool, given) = hosted(1, |builder| builder);
    let mut steps = next(&given);
    let ran = Arc::new(AtomicUsize::new(0));
    let count = ran.clone();
    let task = pool.spawn(move || count.fetch_add(1, SeqCst)).unwrap();
    assert_eq!(steps.take(Some(TypeId::of::<()>()), || HANDED.take()), Step::Foreign);
    assert_eq!((ran.load(SeqCst), pool.stats().running), (0, 1));
    assert!(!finish(&mut steps, Ok(Err(1))), "it is not the host's");
    assert_eq!(take(&mut steps), Step::Ran);
    assert_eq!((ran.load(SeqCst), task.wait().unwrap()), (1, 0));
    shut_down(&pool, vec![steps]);
}

#[test]
fn p05_a_host_that_dozes_is_called_once_for_what_comes() {
    let (pool, given) = hosted(1, |builder| builder);
    let mut steps = next(&given);
    assert!(!steps.doze(), "nothing is known to wake it by");
    let calls = Arc::new(AtomicUsize::new(0));
    let count = calls.clone();
    steps.wake_with(move || _ = count.fetch_add(1, SeqCst));
    for round in 1..=3 {
        assert_eq!(take(&mut steps), Step::Nothing);
        assert!(steps.doze());
        assert!(!steps.doze(), "it dozes already");
        assert_eq!(calls.load(SeqCst), round - 1);
        assert_eq!(take(&mut steps), Step::Nothing, "not before it is woken");
        let tasks = [hand_out(&pool), hand_out(&pool)];
        assert_eq!(calls.load(SeqCst), round, "by the first submit, and not by the second");
        for task in tasks {
            assert_eq!(take(&mut steps), Step::Handed);
            assert!(finish(&mut steps, Ok(Err(1))));
            assert_eq!(task.wait_outcome(LONG), Some(Outcome::Failed));
        }
    }
    shut_down(&pool, vec![steps]);
    assert_eq!(calls.load(SeqCst), 3);
}

#[test]
fn p05_a_host_that_dozes_takes_nothing_that_another_was_woken_for() {
    let (pool, given) = hosted(2, |builder| builder);
    let mut hosts = [next(&given), next(&given)];
    for steps in &mut hosts {
        steps.wake_with(|| {});
        assert_eq!(take(steps), Step::Nothing);
        assert!(steps.doze());
    }
    let task = hand_out(&pool);
    let [mut first, mut second] = hosts;
    assert_eq!(take(&mut first), Step::Nothing, "the one that slept last was woken");
    assert_eq!(take(&mut second), Step::Handed);
    assert!(finish(&mut second, Ok(Err(1))));
    assert_eq!(task.wait_outcome(LONG), Some(Outcome::Failed));
    shut_down(&pool, vec![first, second]);
}

#[test]
fn p09_a_close_wakes_a_host_that_dozes() {
    let (pool, given) = hosted(2, |builder| builder);
    let (wake, woken) = mpsc::channel();
    let mut hosts = vec![next(&given), next(&given)];
    for (number, steps) in hosts.iter_mut().enumerate() {
        let wake = wake.clone();
        steps.wake_with(move || wake.send(number).unwrap());
        assert_eq!(take(steps), Step::Nothing);
        assert!(steps.doze());
    }
    pool.close();
    let mut numbers: Vec<_> = (0..2).map(|_| woken.recv_timeout(LONG).expect("it is woken")).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1]);
    shut_down(&pool, hosts);
}

#[test]
fn p05_a_host_that_leaves_while_it_dozes_takes_no_wake_up_along() {
    let (pool, given) = hosted(2, |builder| builder);
    let (wake, woken) = mpsc::channel();
    let mut hosts = [next(&given), next(&given)];
    for (number, steps) in hosts.iter_mut().enumerate() {
        let wake = wake.clone();
        steps.wake_with(move || wake.send(number).unwrap());
        assert_eq!(take(steps), Step::Nothing);
        assert!(steps.doze());
    }
    let [mut first, second] = hosts;
    // It slept last, and so would be woken first.
    drop(second);
    let task = hand_out(&pool);
    eventually("the other is woken", || woken.try_recv() == Ok(0));
    assert_eq!(take(&mut first), Step::Handed);
    assert!(finish(&mut first, Ok(Err(1))));
    assert_eq!(task.wait_outcome(LONG), Some(Outcome::Failed));
    shut_down(&pool, vec![first]);
}

#[test]
fn p09_hooks_of_workers_by_steps_come_in_pairs() {
    let counts = [Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0))];
    let [started, stopped] = counts.clone();
    let (pool, given) = hosted(2, |builder| {
        builder
            .on_worker_start(move |_| _ = started.fetch_add(1, SeqCst))
            .on_worker_stop(move |_| _ = stopped.fetch_add(1, SeqCst))
    });
    let (mut steps, never) = (next(&given), next(&given));
    let seen = || (counts[0].load(SeqCst), counts[1].load(SeqCst));
    assert_eq!(take(&mut steps), Step::Nothing);
    assert_eq!(take(&mut steps), Step::Nothing);
    assert_eq!(seen(), (1, 0));
    drop(never);
    assert_eq!(seen(), (1, 0), "it never was at work");
    shut_down(&pool, vec![steps]);
    assert_eq!(seen(), (1, 1));
}
