//! P10 where the pool changes under a wait: queues that are paused and resumed, limits, fewer workers; and cycles longer than
//! a stack is deep.

mod support;

use duly::{Overflow, Pool, PoolBuilder, Task, TaskError};
use std::sync::{Arc, Mutex, mpsc};
use support::{Gate, LONG, end, eventually, ms};

fn pool(workers: usize, replacements: usize) -> PoolBuilder {
    Pool::builder().workers(workers).max_replacements(replacements)
}

type First = Arc<Mutex<Option<Task<String>>>>;

/// Each waits for the next, on a thread of its own; the last for the first. What the one that was told read.
fn link(pool: &Pool, first: &First, left: usize) -> String {
    let told = |error: TaskError<_>| error.to_string();
    if left == 0 {
        let first = first.lock().unwrap().clone().unwrap();
        // Its value is not this one's to take, should another of the chain be told.
        return first.join().map_or_else(|why| why.to_string(), |_| String::new());
    }
    let (inner, there) = (pool.clone(), first.clone());
    let next = pool.spawn(move || link(&inner, &there, left - 1)).unwrap();
    next.wait().unwrap_or_else(told)
}

#[test]
fn p10_a_cycle_of_a_thousand_threads_is_told_on_a_small_stack() {
    let length = 1000;
    let pool = pool(1, length + 2).stack_size(128 << 10).build().unwrap();
    let first = First::default();
    let (give, take) = mpsc::channel();
    let (inner, there) = (pool.clone(), first.clone());
    let task = pool.spawn(move || {
        take.recv().unwrap();
        link(&inner, &there, length)
    });
    let task = task.unwrap();
    *first.lock().unwrap() = Some(task.clone());
    give.send(()).unwrap();
    let told = task.wait_timeout(10 * LONG).expect("it hangs").unwrap();
    assert!(told.contains("could never end"), "{told}");
    first.lock().unwrap().take();
    end(&pool);
}

#[test]
fn p10_a_task_in_a_paused_queue_is_waited_for_and_run_after_the_resume() {
    for (workers, replacements) in [(1, 0), (1, 1), (2, 0)] {
        let pool = pool(workers, replacements).build().unwrap();
        let queue = pool.queue("later").add().unwrap();
        queue.pause();
        let (inner, later) = (pool.clone(), queue.clone());
        let task = pool.spawn(move || inner.options().queue(&later).spawn(|| 5).unwrap().wait());
        eventually("it waits", || queue.stats().queued == 1);
        // Time enough to be told, if it were.
        assert!(task.as_ref().unwrap().wait_outcome(ms(20)).is_none());
        queue.resume();
        let answer = task.unwrap().wait_timeout(LONG).expect("it hangs");
        assert_eq!(answer.unwrap(), Ok(5), "with {workers} workers");
        end(&pool);
    }
}

#[test]
fn p10_a_wait_behind_a_limit_goes_on_when_a_caller_outside_gives_its_place_back() {
    let pool = pool(1, 0).build().unwrap();
    let few = pool.queue("few").capacity(1).limit(1).overflow(Overflow::CallerRuns);
    let few = few.add().unwrap();
    let (started, gate, told) = (Gate::new(), Gate::new(), mpsc::channel());
    // The only worker: it waits for a task that only it can run, once the limit lets it.
    let waits = pool.spawn(move || told.1.recv().map(|task: Task<u32>| task.wait()));
    let waits = waits.unwrap();
    eventually("it has begun", || pool.stats().running == 1);
    let queued = pool.options().queue(&few).spawn(|| 7).unwrap();
    let caller = std::thread::spawn({
        let (pool, few, started, gate) = (pool.clone(), few.clone(), started.clone(), gate.clone());
        move || {
            let held = move || {
                started.open();
                gate.pass();
            };
            pool.options().queue(&few).spawn(held).unwrap().wait().unwrap();
        }
    });
    started.pass();
    told.0.send(queued).unwrap();
    // Time enough to fall asleep; one that has not is not in danger.
    assert!(waits.wait_outcome(ms(30)).is_none());
    gate.open();
    let answer = waits.wait_timeout(LONG).expect("it hangs").unwrap();
    assert_eq!(answer.unwrap().unwrap(), 7);
    caller.join().unwrap();
    end(&pool);
}

#[test]
fn p10_a_wait_goes_on_when_the_worker_it_counted_on_is_given_up() {
    let pool = pool(2, 0).name("few").build().unwrap();
    let queue = pool.queue("later").add().unwrap();
    queue.pause();
    let (both, busy) = (Gate::new(), Gate::new());
    let tasks = [(); 2].map(|()| {
        let (inner, later, both, busy) = (pool.clone(), queue.clone(), both.clone(), busy.clone());
        let callback = move || {
            both.pass();
            // The first worker is the one that will be given up.
            if std::thread::current().name() == Some("few-0") {
                busy.pass();
                return Ok(5);
            }
            inner.options().queue(&later).spawn(|| 5).unwrap().wait()
        };
        pool.spawn(callback).unwrap()
    });
    both.arrived(2);
    both.open();
    busy.arrived(1);
    eventually("the other waits", || queue.stats().queued == 1);
    pool.set_workers(1).unwrap();
    // While the one that is given up is still there.
    queue.resume();
    busy.open();
    for task in tasks {
        assert_eq!(task.wait_timeout(LONG).expect("it hangs").unwrap(), Ok(5));
    }
    end(&pool);
}

#[test]
fn p10_a_worker_that_is_given_up_takes_nothing_more() {
    let (one, two) = (pool(1, 0).build().unwrap(), pool(2, 0).name("two").build().unwrap());
    let (both, busy, go) = (Gate::new(), Gate::new(), Gate::new());
    let (inner, pass) = (two.clone(), go.clone());
    let across = one.spawn(move || {
        pass.pass();
        inner.spawn(|| 7).unwrap().wait().is_err()
    });
    let across = across.unwrap();
    let tasks = [(); 2].map(|()| {
        let (both, busy, across) = (both.clone(), busy.clone(), across.clone());
        let callback = move || {
            both.pass();
            // The first worker is the one that will be given up, and stays busy.
            if std::thread::current().name() == Some("two-0") {
                busy.pass();
                return false;
            }
            across.join().is_err()
        };
        two.spawn(callback).unwrap()
    });
    both.arrived(2);
    two.set_workers(1).unwrap();
    both.open();
    busy.arrived(1);
    // The other one waits for what is about to wait for it.
    std::thread::sleep(ms(20));
    go.open();
    let mut told = across.wait_timeout(LONG).expect("it hangs").unwrap();
    busy.open();
    for task in tasks {
        told |= task.wait_timeout(LONG).expect("it hangs").unwrap();
    }
    assert!(told, "whoever began to wait last");
    end(&one);
    end(&two);
}

#[test]
fn p10_callbacks_that_occupy_a_limit_and_wait_behind_it_are_told() {
    let pool = pool(2, 0).build().unwrap();
    let few = pool.queue("few").limit(2).add().unwrap();
    let both = Gate::new();
    let make = |label: &'static str| {
        let (inner, queue, pass) = (pool.clone(), few.clone(), both.clone());
        let callback = move || {
            pass.pass();
            let behind = inner.options().queue(&queue).spawn(|| 1).unwrap();
            (behind.wait(), behind)
        };
        pool.options().queue(&few).label(label).spawn(callback).unwrap()
    };
    let tasks = [make("left"), make("right")];
    both.arrived(2);
    both.open();
    let mut told = 0;
    for task in tasks {
        let (answer, behind) = task.wait_timeout(LONG).expect("it hangs").unwrap();
        if let Err(TaskError::WouldDeadlock(why)) = &answer {
            assert!(
                why.to_string().contains("`left`") && why.to_string().contains("`right`"),
                "{why}"
            );
            assert_eq!(behind.wait(), Ok(1), "it runs when the limit lets it");
            told += 1;
        } else {
            assert_eq!(answer, Ok(1));
        }
    }
    assert_eq!(told, 1, "the last to wait; the other goes on then");
    end(&pool);
}
