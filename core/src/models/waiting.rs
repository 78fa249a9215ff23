//! Callbacks that wait, under random schedules of whole pools (P10): whoever could go on does, and of those that wait for each
//! other exactly one is told.
//!
//! A wait that nobody ends is a deadlock, which fails by itself: no deadline, cancel or close comes to the rescue, but where the
//! model says so.

use super::structured::settle;
use super::whole_pool::{explore, ms, pool};
use crate::sync::{Arc, Mutex, thread};
use crate::{CancellationToken, Outcome, Pool, Task, TaskError};

fn chain(pool: &Pool, depth: u64) -> u64 {
    if depth == 0 {
        return 0;
    }
    let inner = pool.clone();
    let below = pool
        .spawn(move || chain(&inner, depth - 1))
        .expect("there will be room");
    below.wait().expect("it ends") + 1
}

#[test]
fn p10_nested_waits_end() {
    for replacements in [0, 1] {
        explore(&format!("nested waits, {replacements} replacements"), move || {
            let pool = pool(1, 2).max_replacements(replacements).build().expect("a pool");
            let callers: Vec<_> = (0..2)
                .map(|_| {
                    let (outer, inner) = (pool.clone(), pool.clone());
                    thread::spawn(move || {
                        let task = outer.spawn(move || chain(&inner, 2)).expect("there will be room");
                        assert_eq!(task.wait(), Ok(2));
                    })
                })
                .collect();
            for caller in callers {
                caller.join().expect("no panic");
            }
            settle(pool);
        });
    }
}

#[test]
fn p10_of_two_that_wait_for_each_other_one_is_told() {
    explore("two that wait for each other", || {
        let pools = [(); 2].map(|()| pool(1, 1).build().expect("a pool"));
        // Both handles are there before either callback may look.
        let tasks: Arc<Mutex<Vec<Task<bool>>>> = Arc::default();
        let go = CancellationToken::new();
        for own in 0..2 {
            let (there, go) = (tasks.clone(), go.clone());
            let task = pools[own].spawn(move || {
                go.wait(None);
                let other = there.lock()[1 - own].clone();
                match other.join() {
                    Ok(outcome) => {
                        assert_eq!(outcome, Outcome::Succeeded);
                        false
                    }
                    Err(deadlock) => {
                        assert_eq!(deadlock.waits().len(), 2);
                        true
                    }
                }
            });
            tasks.lock().push(task.expect("there is room"));
        }
        go.cancel();
        let all = tasks.lock().clone();
        let told: Vec<_> = all.iter().map(|task| task.wait().expect("it ends")).collect();
        assert_eq!(told.iter().filter(|told| **told).count(), 1, "one is told");
        drop((all, tasks));
        let [one, two] = pools;
        one.shutdown(ms(200)).expect("not inside");
        drop(one);
        settle(two);
    });
}

#[test]
fn p10_waits_cancels_and_a_close_race() {
    explore("waits inside, cancels and a close", || {
        let pool = pool(2, 2).max_replacements(1).build().expect("a pool");
        let token = CancellationToken::new();
        let (outer, inner, own) = (pool.clone(), pool.clone(), token.clone());
        let caller = thread::spawn(move || {
            let task = outer.spawn(move || {
                let child = inner.options().token(&own).try_spawn(|| 1).ok()?;
                match child.wait() {
                    Ok(one) => Some(one),
                    Err(TaskError::Cancelled(_) | TaskError::Abandoned(_)) => None,
                    Err(other) => panic!("{other}"),
                }
            });
            task.map(|task| task.wait().map_err(|error| error.outcome()))
        });
        let other = pool.clone();
        let closer = thread::spawn(move || other.close());
        token.cancel();
        closer.join().expect("no panic");
        // Refused after the close, answered otherwise.
        if let Ok(answer) = caller.join().expect("no panic") {
            assert!(answer.is_ok(), "{answer:?}");
        }
        settle(pool);
    });
}
