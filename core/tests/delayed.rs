//! Delayed tasks: accepted at once, started not before their time, and until then queued like any other.

mod support;

use duly::{CancellationToken, Outcome, Overflow, Pool, SubmitErrorKind, TaskError, Threads};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::*;

const HOUR: Duration = Duration::from_secs(3600);

fn pool(workers: usize, capacity: usize) -> Pool {
    Pool::builder().workers(workers).capacity(capacity).build().unwrap()
}

#[test]
fn p02_is_never_started_early_and_in_the_order_of_times() {
    let pool = pool(1, 64);
    let order = Arc::new(Mutex::new(Vec::new()));
    let began = Instant::now();
    let tasks: Vec<_> = [60u64, 5, 40, 20, 1]
        .into_iter()
        .map(|millis| {
            let order = order.clone();
            let submitted = Instant::now();
            let task = pool.options().delay(ms(millis)).spawn(move || {
                order.lock().unwrap().push(millis);
                submitted.elapsed()
            });
            (millis, task.unwrap())
        })
        .collect();
    let submitted_in = began.elapsed();
    for (millis, task) in tasks {
        let waited = task.wait().unwrap();
        assert!(waited >= ms(millis), "{millis} ms: early, after {waited:?}");
    }
    let mut sorted = order.lock().unwrap().clone();
    sorted.sort_unstable();
    // Otherwise a machine that stood still has mixed their times up.
    if submitted_in < ms(4) {
        assert_eq!(*order.lock().unwrap(), sorted);
    }
    end(&pool);
}

#[test]
fn p02_at_a_time_and_at_one_that_has_passed() {
    let pool = pool(1, 4);
    let start = Instant::now() + ms(15);
    let task = pool.options().at(start).spawn(Instant::now).unwrap();
    let past = pool.options().at(Instant::now() - ms(5)).spawn(|| 1).unwrap();
    assert_eq!(past.wait().unwrap(), 1);
    assert!(task.wait().unwrap() >= start);
    assert_eq!(
        pool.options()
            .delay(Duration::ZERO)
            .spawn(|| 2)
            .unwrap()
            .wait()
            .unwrap(),
        2
    );
    end(&pool);
}

#[test]
fn p02_the_deadline_counts_from_the_submit_and_may_come_first() {
    let pool = pool(1, 4);
    let never = pool.options().delay(HOUR).timeout(ms(5)).spawn(|| unreachable!());
    let never = never.unwrap();
    assert_eq!(never.wait_outcome(LONG), Some(Outcome::DeadlineExceeded));
    assert_eq!(pool.stats().queued, 0);
    // The start first, the deadline while it runs.
    let gate = Gate::new();
    let hold = gate.clone();
    let late = pool
        .options()
        .delay(ms(2))
        .timeout(ms(1000))
        .spawn(move || hold.pass())
        .unwrap();
    gate.arrived(1);
    assert_eq!(late.wait_outcome(LONG), Some(Outcome::DeadlineExceeded));
    gate.open();
    end(&pool);
}

#[test]
fn p02_is_started_although_it_waits_for_nothing_else() {
    // The timer sleeps for an hour when the second comes; its worker does not exist yet.
    let pool = Pool::builder().workers(1).threads(Threads::OnDemand).build().unwrap();
    let first = pool.options().delay(HOUR).spawn(|| ()).unwrap();
    // Long enough for the timer to have gone to sleep; if it has not, nothing is shown and nothing fails.
    std::thread::sleep(ms(50));
    assert_eq!(pool.stats().workers, 0, "nobody to run what has not come yet");
    let second = pool.options().delay(ms(5)).spawn(|| 2).unwrap();
    assert_eq!(second.wait_timeout(LONG).unwrap().unwrap(), 2);
    assert!(first.cancel());
    end(&pool);
}

#[test]
fn p05_holds_a_place_and_gives_it_back_at_once_when_it_is_cancelled() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder().capacity(2), 1);
    let drops = Drops::default();
    let probe = drops.probe();
    let options = pool.options().delay(HOUR);
    let first = options.spawn(move || drop(probe)).unwrap();
    let second = options.spawn(|| ()).unwrap();
    assert_eq!((pool.stats().queued, pool.stats().submitted), (2, 3));
    let full = |kind| assert_eq!(kind, SubmitErrorKind::QueueFull);
    full(pool.try_spawn(|| ()).unwrap_err().kind());
    full(options.try_spawn(|| ()).unwrap_err().kind());
    assert!(first.cancel() && first.released(LONG));
    assert_eq!((drops.count(), pool.stats().queued), (1, 1));
    // A producer that waits gets the other's place.
    let other = pool.clone();
    let waits = std::thread::spawn(move || {
        let one = other.spawn(|| 1).unwrap();
        let two = other.spawn(|| 2).unwrap();
        (one, two)
    });
    eventually("it waits", || pool.stats().blocked_producers == 1);
    assert!(second.cancel());
    let (one, two) = waits.join().unwrap();
    gate.open();
    assert_eq!((one.wait().unwrap(), two.wait().unwrap()), (1, 2));
    end(&pool);
}

#[test]
fn p05_many_under_a_token_are_gone_when_it_is_cancelled() {
    const TASKS: usize = 20_000;
    let pool = pool(1, TASKS);
    let (token, drops) = (CancellationToken::new(), Drops::default());
    let options = pool.options().delay(HOUR).token(&token).timeout(2 * HOUR);
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let probe = drops.probe();
            options.try_spawn(move || drop(probe)).unwrap()
        })
        .collect();
    assert_eq!(pool.stats().queued, TASKS as u64);
    token.cancel();
    assert_eq!(pool.stats().queued, 0);
    eventually("all captured data is gone", || drops.count() == TASKS);
    assert!(tasks.iter().all(|task| task.outcome() == Some(Outcome::Cancelled)));
    end(&pool);
}

#[test]
fn p05_overflow_policies_hold_for_delayed_tasks() {
    let full = |overflow| {
        let builder = Pool::builder().workers(1).capacity(1).overflow(overflow);
        let pool = builder.build().unwrap();
        let first = pool.options().delay(HOUR).spawn(|| ()).unwrap();
        (pool, first)
    };
    let (pool, first) = full(Overflow::CallerRuns);
    let refused = pool.options().delay(ms(1)).spawn(|| ()).unwrap_err();
    assert_eq!(refused.kind(), SubmitErrorKind::QueueFull, "the caller is not to wait");
    assert!(first.cancel());
    end(&pool);
    let (pool, first) = full(Overflow::DropNewest);
    let shed = pool.options().delay(ms(1)).spawn(|| ()).unwrap();
    assert_eq!(shed.outcome(), Some(Outcome::Shed));
    assert!(first.cancel());
    end(&pool);
    let (pool, first) = full(Overflow::DropOldest);
    let second = pool.options().delay(ms(1)).spawn(|| 2).unwrap();
    assert_eq!(first.outcome(), Some(Outcome::Shed));
    assert_eq!(second.wait().unwrap(), 2);
    end(&pool);
}

#[test]
fn p09_a_shutdown_runs_what_is_due_within_its_drain_and_abandons_the_rest_at_once() {
    let pool = pool(1, 8);
    let soon = pool.options().delay(ms(30)).spawn(|| "ran").unwrap();
    let later = pool.options().label("later").delay(HOUR).spawn(|| ()).unwrap();
    let never = pool.options().delay(Duration::MAX).spawn(|| ()).unwrap();
    let closing = pool.clone();
    let began = Instant::now();
    let report = std::thread::spawn(move || closing.shutdown(HOUR / 2).unwrap());
    for late in [later, never] {
        assert_eq!(late.wait_outcome(LONG), Some(Outcome::Abandoned));
    }
    assert_eq!(soon.wait_timeout(LONG).unwrap().unwrap(), "ran");
    let report = report.join().unwrap();
    assert!(began.elapsed() < HOUR / 4);
    assert_eq!((report.abandoned.len(), report.threads_left), (2, 0), "{report}");
    assert!(
        report
            .abandoned
            .iter()
            .any(|task| task.name.to_string().contains("later")),
        "{report}"
    );
    assert!(report.stats.books_balance() && report.stats.queued == 0);
}

#[test]
fn p09_a_close_runs_them_all_and_a_shutdown_after_it_is_earlier() {
    let pool = pool(2, 8);
    let soon = pool.options().delay(ms(20)).spawn(|| 1).unwrap();
    let later = pool.options().delay(HOUR).spawn(|| 2).unwrap();
    pool.close();
    let refused = pool.options().delay(ms(1)).spawn(|| ()).unwrap_err();
    assert_eq!(refused.kind(), SubmitErrorKind::ShutDown);
    assert_eq!(soon.wait_timeout(LONG).unwrap().unwrap(), 1);
    assert_eq!(later.outcome(), None);
    let report = pool.shutdown(ms(1)).unwrap();
    assert_eq!(report.abandoned.len(), 1);
    assert!(matches!(later.wait(), Err(TaskError::Abandoned(_))));
}

#[test]
fn p05_waits_for_a_paused_pool_and_for_its_key() {
    let pool = pool(2, 8);
    pool.pause();
    let task = pool.options().delay(ms(1)).spawn(|| 1).unwrap();
    assert!(task.wait_timeout(ms(30)).is_none());
    pool.resume();
    assert_eq!(task.wait_timeout(LONG).unwrap().unwrap(), 1);
    // One key, one at a time: in the order in which their times come.
    let strand = pool.queue("strand").key_limit(1).add().unwrap();
    let options = pool.options().queue(&strand).key("one");
    let (gate, order) = (Gate::new(), Arc::new(Mutex::new(Vec::new())));
    let hold = gate.clone();
    let first = options.spawn(move || hold.pass()).unwrap();
    gate.arrived(1);
    let note = |what| {
        let order = order.clone();
        move || order.lock().unwrap().push(what)
    };
    let tasks = [
        options.clone().delay(ms(1000)).spawn(note("delayed")).unwrap(),
        options.spawn(note("at once")).unwrap(),
    ];
    eventually("both wait for the first", || pool.stats().queued == 2);
    std::thread::sleep(ms(1040));
    assert!(order.lock().unwrap().is_empty());
    gate.open();
    first.wait().unwrap();
    tasks.iter().for_each(|task| task.wait().unwrap());
    assert_eq!(*order.lock().unwrap(), ["at once", "delayed"]);
    end(&pool);
}

#[test]
fn p01_every_way_to_submit_takes_a_delay() {
    let pool = pool(2, 8);
    let began = Instant::now();
    let options = pool.options().delay(ms(15));
    let run = options.run(|_| Ok::<_, ()>(1));
    let many = options.spawn_many((0..4).map(|n| move || n)).unwrap();
    assert_eq!(block_on(run).unwrap(), 1);
    assert_eq!(
        block_on(options.submit_async(|_| Ok::<_, ()>(2))).unwrap().wait(),
        Ok(2)
    );
    assert!(many.iter().map(|task| task.wait().unwrap()).eq(0..4));
    assert!(began.elapsed() >= ms(15));
    // A caller that leaves frees the place.
    let mut run = Box::pin(pool.options().delay(HOUR).run(|_| Ok::<_, ()>(1)));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(run.as_mut().poll(&mut cx).is_pending());
    assert_eq!(pool.stats().queued, 1);
    drop(run);
    assert_eq!(pool.stats().queued, 0);
    // The first of many runs.
    let beat = pool
        .options()
        .delay(ms(1))
        .every(HOUR)
        .submit(|_| Ok::<_, ()>(()))
        .unwrap();
    eventually("its first run", || beat.stats().runs == 1);
    end(&pool);
}

#[test]
fn p10_a_callback_that_waits_for_a_delayed_task_gets_its_answer_and_not_early() {
    for replacements in [0, 1] {
        let builder = Pool::builder().workers(1).max_replacements(replacements);
        let pool = builder.build().unwrap();
        let task = pool
            .submit(|ctx| {
                let submitted = Instant::now();
                let inner = ctx.pool().options().delay(ms(30)).spawn(Instant::now).unwrap();
                Ok::<_, ()>(inner.wait().unwrap() - submitted)
            })
            .unwrap();
        let waited = task.wait_timeout(LONG).expect("it ends").unwrap();
        assert!(waited >= ms(30), "early: {waited:?}");
        end(&pool);
    }
}
