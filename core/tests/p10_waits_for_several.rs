//! P10 for waits that have several ends: `wait_any`, `wait_all`, `as_completed`, groups, maps and streams inside callbacks.

mod support;

use duly::{Group, Pool, Task, TaskError, as_completed, wait_all, wait_any};
use std::sync::mpsc;
use support::{LONG, end, ms};

/// What `call` gives inside a callback of a pool of one worker, with a watchdog.
fn inside<T: Send + 'static>(replacements: usize, call: impl FnOnce(&Pool) -> T + Send + 'static) -> T {
    let pool = Pool::builder()
        .workers(1)
        .max_replacements(replacements)
        .build()
        .unwrap();
    let inner = pool.clone();
    let task = pool.spawn(move || call(&inner)).unwrap();
    let value = task.wait_timeout(LONG).expect("it hangs").unwrap();
    end(&pool);
    value
}

fn three(pool: &Pool) -> Vec<Task<u64>> {
    (0..3).map(|n| pool.spawn(move || n).unwrap()).collect()
}

#[test]
fn p10_any_of_several_runs_here_past_the_limit() {
    for replacements in [0, 1] {
        let first = inside(replacements, |pool| {
            let tasks = three(pool);
            let first = wait_any(&tasks, None).expect("one ends");
            (tasks[first].outcome().is_some(), first)
        });
        assert!(first.0, "with {replacements}: {first:?}");
    }
}

#[test]
fn p10_all_of_several_run_here_past_the_limit() {
    for replacements in [0, 1] {
        inside(replacements, |pool| wait_all(three(pool), None)).unwrap();
        let sum: u64 = inside(replacements, |pool| {
            as_completed(three(pool)).map(|(_, task)| task.wait().unwrap()).sum()
        });
        assert_eq!(sum, 3);
    }
}

#[test]
fn p10_a_group_runs_here_past_the_limit() {
    for replacements in [0, 1] {
        inside(replacements, |pool| {
            let group = Group::<()>::builder(pool).build();
            (0..3).for_each(|_| drop(group.spawn(|| ()).unwrap()));
            group.wait().unwrap();
        });
    }
}

#[test]
fn p10_a_wait_for_several_with_a_limit_has_its_place_taken() {
    inside(1, |pool| {
        assert!(wait_any(three(pool), Some(LONG)).is_ok());
        wait_all(three(pool), Some(LONG)).unwrap();
        let mut tasks = as_completed(three(pool));
        while tasks.next_timeout(LONG).unwrap().is_some() {}
    });
    // Never run inside of it.
    assert!(inside(0, |pool| wait_any(three(pool), Some(ms(10)))).is_err());
}

#[test]
fn p10_a_map_inside_a_callback_has_its_place_taken() {
    let sum: u64 = inside(1, |pool| pool.map(0..100u64, |n| n).map(Result::unwrap).sum());
    assert_eq!(sum, 4950);
}

#[test]
fn p10_several_that_could_never_end_are_told() {
    let (give, take) = mpsc::channel::<Task<bool>>();
    let pool = Pool::builder().workers(1).build().unwrap();
    let task = pool.spawn(move || {
        let own = take.recv().unwrap();
        assert!(wait_any([&own], None).unwrap_err().deadlock().is_some());
        let refused = wait_all([&own], None).unwrap_err();
        assert_eq!(refused.deadlock().unwrap().waits().len(), 1);
        assert!(refused.to_string().contains("could never end"), "{refused}");
        matches!(own.wait(), Err(TaskError::WouldDeadlock(_)))
    });
    let task = task.unwrap();
    give.send(task.clone()).unwrap();
    assert!(task.wait_timeout(LONG).expect("it hangs").unwrap());
    end(&pool);
}
