//! Waiting for several tasks: any, all, as they complete. Tests are named by the promise they show.

mod support;

use duly::{Outcome, Pool, Task, as_completed, wait_all, wait_all_async, wait_any, wait_any_async};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;
use support::*;

/// A waker that counts.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn gated(pool: &Pool, count: usize) -> (Vec<Gate>, Vec<Task<usize>>) {
    let gates: Vec<Gate> = (0..count).map(|_| Gate::new()).collect();
    let task = |(index, gate): (usize, &Gate)| {
        let gate = gate.clone();
        pool.spawn(move || {
            gate.pass();
            index
        })
        .unwrap()
    };
    let tasks = gates.iter().enumerate().map(task).collect();
    (gates, tasks)
}

#[test]
fn p02_wait_any_gives_the_one_that_ended_while_the_others_are_stuck() {
    let pool = Pool::builder().workers(4).build().unwrap();
    let (gates, tasks) = gated(&pool, 4);
    std::thread::scope(|scope| {
        let any = scope.spawn(|| wait_any(&tasks, Some(LONG)));
        gates[2].open();
        assert_eq!(any.join().unwrap(), Ok(2));
    });
    assert_eq!(tasks[2].wait().unwrap(), 2, "the wait took no value");
    // One that has ended already.
    assert_eq!(wait_any(&tasks, Some(ms(0))), Ok(2));
    gates.iter().for_each(Gate::open);
    end(&pool);
}

#[test]
fn p02_wait_any_sees_a_deadline_and_a_cancellation_while_every_worker_is_stuck() {
    let (pool, gate, stuck) = stuck_pool(Pool::builder(), 1);
    let late = pool.options().timeout(ms(30)).spawn(|| ()).unwrap();
    let began = Instant::now();
    assert_eq!(wait_any([&stuck[0], &late], Some(LONG)), Ok(1));
    assert!(began.elapsed() < LONG / 2, "{:?}", began.elapsed());
    let queued = pool.spawn(|| ()).unwrap();
    std::thread::scope(|scope| {
        let any = scope.spawn(|| wait_any([&stuck[0], &queued], Some(LONG)));
        assert!(queued.cancel());
        assert_eq!(any.join().unwrap(), Ok(1));
    });
    gate.open();
    end(&pool);
}

#[test]
fn p04_waits_for_any_and_for_all_time_out_and_say_which_are_missing() {
    let pool = Pool::builder().workers(2).build().unwrap();
    let gate = Gate::new();
    let stuck = pool
        .options()
        .label("stuck one")
        .spawn({
            let gate = gate.clone();
            move || gate.pass()
        })
        .unwrap();
    let quick = pool.spawn(|| ()).unwrap();
    assert_eq!(quick.wait_outcome(LONG), Some(duly::Outcome::Succeeded));
    let began = Instant::now();
    let error = wait_any([&stuck], Some(ms(30))).unwrap_err();
    assert_eq!(error.tasks().len(), 1);
    assert!(began.elapsed() >= ms(30), "early");
    let error = wait_all([&quick, &stuck], Some(ms(30))).unwrap_err();
    assert_eq!(error.tasks().len(), 1);
    assert_eq!(error.tasks()[0].0, 1);
    assert!(error.to_string().contains("stuck one"), "{error}");
    let mut completed = as_completed([stuck.clone()]);
    assert!(completed.next_timeout(ms(10)).is_err());
    gate.open();
    assert_eq!(completed.next_timeout(LONG).unwrap().unwrap().0, 0);
    assert!(completed.next_timeout(LONG).unwrap().is_none());
    wait_all([&quick, &stuck], None).unwrap();
    end(&pool);
}

#[test]
fn p04_waits_end_when_the_pool_is_shut_down() {
    let (pool, gate, stuck) = stuck_pool(Pool::builder(), 1);
    let queued = pool.spawn(|| ()).unwrap();
    std::thread::scope(|scope| {
        let all = scope.spawn(|| wait_all([&stuck[0], &queued], None));
        let any = scope.spawn(|| wait_any([&stuck[0], &queued], None));
        let report = pool.shutdown(ms(20)).unwrap();
        assert_eq!(report.abandoned.len(), 2, "{report}");
        all.join().unwrap().unwrap();
        assert!(any.join().unwrap().is_ok());
    });
    assert_eq!(queued.outcome(), Some(Outcome::Abandoned));
    gate.open();
}

#[test]
fn p16_waits_for_nothing_return_at_once() {
    let none: [Task<()>; 0] = [];
    assert!(wait_any(&none, None).unwrap_err().tasks().is_empty());
    wait_all(&none, None).unwrap();
    assert!(as_completed(none).next().is_none());
    assert_eq!(block_on(wait_any_async::<[&Task<()>; 0]>([])), None);
}

#[test]
fn p01_as_completed_gives_each_task_once_in_order_of_completion() {
    let pool = Pool::builder().workers(4).build().unwrap();
    let (gates, tasks) = gated(&pool, 4);
    let mut completed = as_completed(tasks);
    for (turn, index) in [3, 0, 2, 1].into_iter().enumerate() {
        assert_eq!(completed.len(), 4 - turn);
        gates[index].open();
        let (place, task) = completed.next().unwrap();
        assert_eq!((place, task.wait().unwrap()), (index, index));
    }
    assert!(completed.next().is_none());
    // Many at once: each once.
    let tasks: Vec<_> = (0..500).map(|n| pool.spawn(move || n).unwrap()).collect();
    let mut seen: Vec<usize> = as_completed(tasks).map(|(_, task)| task.wait().unwrap()).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..500).collect::<Vec<_>>());
    end(&pool);
}

#[test]
fn p01_the_same_asynchronously() {
    let pool = Pool::builder().workers(2).build().unwrap();
    let (gates, tasks) = gated(&pool, 2);
    let opener = {
        let second = gates[1].clone();
        std::thread::spawn(move || {
            std::thread::sleep(ms(5));
            second.open();
        })
    };
    block_on(async {
        assert_eq!(wait_any_async(&tasks).await, Some(1));
        let mut completed = as_completed(tasks.clone()).into_async();
        assert_eq!(completed.next().await.unwrap().0, 1);
        gates[0].open();
        wait_all_async(&tasks).await;
        assert_eq!(completed.size_hint(), (1, Some(1)));
        assert_eq!(completed.next().await.unwrap().0, 0);
        assert!(completed.next().await.is_none());
    });
    opener.join().unwrap();
    end(&pool);
}

#[test]
fn p03_all_wakes_its_waiter_once_and_any_with_the_first() {
    let pool = Pool::builder().workers(1).build().unwrap();
    let (gates, tasks) = gated(&pool, 50);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let mut cx = Context::from_waker(&waker);
    let mut all = pin!(wait_all_async(&tasks));
    assert!(all.as_mut().poll(&mut cx).is_pending());
    gates[0].open();
    assert_eq!(tasks[0].wait_outcome(LONG), Some(Outcome::Succeeded));
    gates[1].arrived(1);
    assert_eq!(woken.0.load(Ordering::SeqCst), 0, "one is not all");
    gates.iter().for_each(Gate::open);
    wait_all(&tasks, Some(LONG)).unwrap();
    eventually("the waker is woken", || woken.0.load(Ordering::SeqCst) == 1);
    assert!(all.as_mut().poll(&mut cx).is_ready());
    end(&pool);
    assert_eq!(woken.0.load(Ordering::SeqCst), 1);
}

#[test]
fn p05_a_waiter_that_leaves_takes_its_wakers_out_of_every_task() {
    let pool = Pool::builder().workers(1).build().unwrap();
    let (gates, tasks) = gated(&pool, 3);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let mut cx = Context::from_waker(&waker);
    {
        let mut any = Box::pin(wait_any_async(&tasks));
        let mut all = Box::pin(wait_all_async(&tasks));
        let mut completed = as_completed(tasks.clone()).into_async();
        assert!(any.as_mut().poll(&mut cx).is_pending());
        assert!(all.as_mut().poll(&mut cx).is_pending());
        assert!(matches!(completed.poll_next(&mut cx), Poll::Pending));
        assert_eq!(Arc::strong_count(&woken), 5);
    }
    assert_eq!(Arc::strong_count(&woken), 2, "a waker is left with a task");
    assert!(wait_any(&tasks, Some(ms(1))).is_err());
    gates.iter().for_each(Gate::open);
    end(&pool);
    assert_eq!(woken.0.load(Ordering::SeqCst), 0);
}

#[test]
fn p13_tasks_of_several_types_and_pools_in_one_wait() {
    let (one, two) = (Pool::new().unwrap(), Pool::new().unwrap());
    let number = one.spawn(|| 1).unwrap();
    let text = two.submit(|_| Err::<(), _>("no")).unwrap();
    let both: [&dyn duly::AnyTask; 2] = [&number, &text];
    wait_all(both, Some(LONG)).unwrap();
    assert_eq!(number.wait().unwrap(), 1);
    assert_eq!(text.wait().unwrap_err().into_failed(), Some("no"));
    end(&one);
    end(&two);
}

/// Callbacks that wait for several tasks on a pool of one worker, where nobody can stand in.
#[test]
fn p10_a_callback_waits_for_several_tasks_of_its_own_pool() {
    for replacements in [0, 1] {
        let pool = Pool::builder()
            .workers(1)
            .max_replacements(replacements)
            .build()
            .unwrap();
        let outer = pool
            .submit(|ctx| {
                let pool = ctx.pool();
                let tasks: Vec<_> = (0..5u64).map(|n| pool.spawn(move || n).unwrap()).collect();
                let first = wait_any(&tasks, None).map_err(|error| error.to_string())?;
                wait_all(&tasks[..3], None).map_err(|error| error.to_string())?;
                let sum: u64 = as_completed(tasks).map(|(_, task)| task.wait().unwrap()).sum();
                Ok::<_, String>((first, sum))
            })
            .unwrap();
        let (first, sum) = outer.wait_timeout(LONG).expect("no deadlock").unwrap();
        assert!(first < 5 && sum == 10);
        end(&pool);
    }
}

#[test]
fn p10_two_that_wait_for_each_other_are_told_and_named() {
    let pool = Pool::builder().workers(2).max_replacements(0).build().unwrap();
    let both: Arc<std::sync::Mutex<Vec<Task<bool, ()>>>> = Arc::default();
    let gate = Gate::new();
    let tasks: Vec<_> = ["left", "right"]
        .into_iter()
        .enumerate()
        .map(|(index, label)| {
            let (both, gate) = (both.clone(), gate.clone());
            pool.options()
                .label(label)
                .submit(move |_| {
                    gate.pass();
                    let other = both.lock().unwrap()[1 - index].clone();
                    let told = match wait_any([&other], None) {
                        Ok(_) => false,
                        Err(error) => {
                            let text = error.to_string();
                            assert!(text.contains("left") && text.contains("right"), "{text}");
                            error.deadlock().is_some()
                        }
                    };
                    Ok::<_, ()>(told)
                })
                .unwrap()
        })
        .collect();
    both.lock().unwrap().extend(tasks.clone());
    gate.arrived(2);
    gate.open();
    let told: Vec<_> = tasks
        .iter()
        .map(|task| task.wait_timeout(LONG).expect("no deadlock").unwrap())
        .collect();
    assert!(told.contains(&true), "{told:?}");
    end(&pool);
}
