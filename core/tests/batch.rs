//! Many callbacks in one call, and a function over many items: each has an answer of its own, whatever becomes of the
//! others.

mod support;

use duly::{CancellationToken, MapError, Outcome, Overflow, Pool, SubmitErrorKind, TaskError};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use support::*;

fn pool(capacity: usize) -> Pool {
    Pool::builder().workers(2).capacity(capacity).build().unwrap()
}

#[test]
fn p01_each_of_many_has_its_own_answer_in_order() {
    let pool = pool(16);
    // More than fit: those beyond wait for room.
    let tasks = pool
        .submit_many((0..1000).map(|n| {
            move |_: &duly::Context| match n % 3 {
                0 => Ok(n),
                1 => Err(n),
                _ => panic!("at {n}"),
            }
        }))
        .unwrap();
    assert_eq!(tasks.len(), 1000);
    for (n, task) in tasks.iter().enumerate() {
        match (n % 3, task.wait()) {
            (0, Ok(value)) => assert_eq!(value, n),
            (1, Err(TaskError::Failed(error))) => assert_eq!(error, n),
            (2, Err(TaskError::Panicked(panic))) => assert_eq!(panic.message(), format!("at {n}")),
            (_, answer) => panic!("{n}: {answer:?}"),
        }
    }
    let none: [fn(); 0] = [];
    assert!(pool.spawn_many(none).unwrap().is_empty());
    end(&pool);
}

#[test]
fn p02_p04_the_options_hold_for_each_of_many() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder().capacity(200), 1);
    let token = CancellationToken::new();
    let by_token = pool
        .options()
        .token(&token)
        .label("mine")
        .spawn_many((0..70).map(|_| || ()))
        .unwrap();
    let by_deadline = pool
        .options()
        .timeout(ms(5))
        .spawn_many((0..70).map(|_| || ()))
        .unwrap();
    token.cancel();
    assert!(by_token.iter().all(|task| task.outcome() == Some(Outcome::Cancelled)));
    assert!(by_token[69].name().to_string().contains("mine"));
    for task in &by_deadline {
        assert_eq!(task.wait_outcome(LONG), Some(Outcome::DeadlineExceeded));
    }
    gate.open();
    end(&pool);
}

#[test]
fn p16_a_refusal_says_what_was_accepted_and_gives_the_rest_back() {
    let drops = Drops::default();
    let callbacks = |count: usize| {
        let drops = drops.clone();
        (0..count).map(move |n| {
            let probe = drops.probe();
            move || {
                let _probe = &probe;
                n
            }
        })
    };
    let (pool, gate, _stuck) = stuck_pool(Pool::builder().capacity(100).overflow(Overflow::Reject), 1);
    let error = pool.spawn_many(callbacks(150)).unwrap_err();
    assert_eq!(error.kind(), SubmitErrorKind::QueueFull);
    assert!(error.to_string().starts_with("after 100 of many, task "), "{error}");
    assert_eq!(pool.stats().refused, 50);
    let (accepted, rest) = error.into_parts();
    assert_eq!((accepted.len(), drops.count()), (100, 0));
    gate.open();
    for (n, task) in accepted.iter().enumerate() {
        assert_eq!(task.wait(), Ok(n));
    }
    for (n, callback) in rest.into_iter().enumerate() {
        assert_eq!(callback(), 100 + n);
    }
    eventually("all captured data is dropped", || drops.count() == 150);
    pool.close();
    let error = pool.spawn_many(callbacks(3)).unwrap_err();
    assert_eq!((error.kind(), error.accepted().len()), (SubmitErrorKind::ShutDown, 0));
    drop(error);
    assert_eq!(drops.count(), 153);
    end(&pool);
}

#[test]
fn p04_many_that_wait_for_room_end_by_timeout_token_and_close() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder().capacity(10), 1);
    let many = || (0..30).map(|n| move || n);
    let error = pool.options().submit_timeout(ms(20)).spawn_many(many()).unwrap_err();
    assert_eq!(
        (error.kind(), error.accepted().len()),
        (SubmitErrorKind::SubmitTimedOut, 10)
    );
    let token = CancellationToken::new();
    std::thread::scope(|scope| {
        let options = pool.options().token(&token);
        let waiting = scope.spawn(move || options.spawn_many(many()).unwrap_err());
        eventually("it waits", || pool.stats().blocked_producers == 1);
        token.cancel();
        assert_eq!(waiting.join().unwrap().kind(), SubmitErrorKind::Cancelled);
        let waiting = scope.spawn(|| pool.spawn_many(many()).unwrap_err());
        eventually("it waits", || pool.stats().blocked_producers == 1);
        pool.close();
        assert_eq!(waiting.join().unwrap().kind(), SubmitErrorKind::ShutDown);
    });
    gate.open();
    end(&pool);
}

#[test]
fn p06_an_iterator_that_panics_loses_and_leaks_nothing() {
    let pool = pool(1000);
    let (drops, ran) = (Drops::default(), Arc::new(AtomicUsize::new(0)));
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = pool.spawn_many((0..100).map(|n| {
            assert!(n < 90, "on purpose");
            let (probe, ran) = (drops.probe(), ran.clone());
            move || {
                let _probe = probe;
                ran.fetch_add(1, Ordering::SeqCst);
            }
        }));
    }));
    assert!(panicked.is_err());
    let stats = end(&pool);
    assert_eq!(drops.count(), 90);
    assert_eq!(ran.load(Ordering::SeqCst) as u64, stats.submitted);
}

#[test]
fn p01_map_answers_every_item_in_order() {
    let pool = pool(4);
    for chunk in [0, 1, 7, 5000] {
        let map = pool.map(0..20_000usize, |n| {
            assert!(n % 1000 != 999, "item {n}");
            Box::new(n)
        });
        let map = if chunk == 0 { map } else { map.chunk_size(chunk) };
        assert_eq!(map.size_hint(), (20_000, Some(20_000)));
        let mut count = 0;
        for (n, answer) in map.enumerate() {
            count += 1;
            match answer {
                Ok(value) => assert_eq!(*value, n),
                Err(MapError::Task(TaskError::Panicked(panic))) if n % 1000 == 999 => {
                    assert_eq!(panic.message(), format!("item {n}"));
                }
                Err(error) => panic!("{n}: {error}"),
            }
        }
        assert_eq!(count, 20_000);
    }
    end(&pool);
}

#[test]
fn p02_a_chunk_that_is_cut_short_keeps_the_answers_that_are_there() {
    let pool = pool(4);
    let (gate, token, drops) = (Gate::new(), CancellationToken::new(), Drops::default());
    let (pass, items) = (gate.clone(), drops.clone());
    let mut map = pool
        .options()
        .token(&token)
        .map((0..30).map(move |n| (n, items.probe())), move |(n, _probe)| {
            if n == 13 {
                pass.pass();
            }
            n
        })
        .chunk_size(10)
        .window(3);
    assert_eq!(map.next().unwrap().unwrap(), 0);
    gate.arrived(1);
    token.cancel();
    let answers: Vec<_> = map.collect();
    assert_eq!(answers.len(), 29);
    for (n, answer) in (1..).zip(answers) {
        match answer {
            Ok(value) => assert!(value == n && !(13..20).contains(&n), "{n}: {value}"),
            Err(MapError::Task(TaskError::Cancelled(_))) => assert!(n >= 13, "{n}"),
            Err(error) => panic!("{n}: {error}"),
        }
    }
    // Items of the chunk that hangs are let go when its callback returns.
    gate.open();
    eventually("every item is dropped once", || drops.count() == 30);
    end(&pool);
}

#[test]
fn p02_chunks_that_a_deadline_cuts_short_get_smaller() {
    let pool = pool(4);
    let late =
        |answer: &Result<(), MapError<u32>>| matches!(answer, Err(MapError::Task(TaskError::DeadlineExceeded(_))));
    // Items that take no time make chunks of some; then one alone takes more than half of the time there is for a chunk,
    // and those behind it a fraction of it. Which of the answers are late.
    let run = || {
        let answers = pool
            .options()
            .timeout(ms(100))
            .map(0..4000, |n: u32| match n {
                0..600 => {}
                600..610 => std::thread::sleep(ms(60)),
                _ => std::thread::sleep(ms(1)),
            })
            .window(2)
            .skip(600)
            .collect::<Vec<_>>();
        let last = answers.iter().rposition(late).map(|last| last + 1);
        (answers.iter().filter(|answer| late(answer)).count(), last.unwrap_or(0))
    };
    // A machine that stands still for a moment makes chunks of one from the start, or a chunk of one late.
    let mut seen = Vec::new();
    while seen.len() < 10 && !seen.last().is_some_and(|&(late, last)| late > 0 && last < 2900) {
        seen.push(run());
    }
    let &(late, last) = seen.last().unwrap();
    assert!(late > 0, "no chunk was too large: {seen:?}");
    assert!(last < 2900, "the last that was late is the {last}th of 3400: {seen:?}");
    end(&pool);
}

#[test]
fn p05_map_pulls_no_further_than_its_window_and_stops_when_it_is_dropped() {
    let pool = pool(100);
    let (gate, pulled, results) = (Gate::new(), Arc::new(AtomicUsize::new(0)), Drops::default());
    let (count, pass, made) = (pulled.clone(), gate.clone(), results.clone());
    let calls = Arc::new(AtomicUsize::new(0));
    let called = calls.clone();
    let input = (0..).inspect(move |_| _ = count.fetch_add(1, Ordering::SeqCst));
    let mut map = pool
        .map(input, move |n: usize| {
            if n >= 8 {
                pass.pass();
            }
            called.fetch_add(1, Ordering::SeqCst);
            made.probe()
        })
        .chunk_size(2)
        .window(5);
    assert_eq!(pulled.load(Ordering::SeqCst), 0, "nothing before the first next");
    drop(map.next().unwrap().unwrap());
    assert!(
        pulled.load(Ordering::SeqCst) <= 12,
        "five chunks under way, one being read"
    );
    gate.arrived(1);
    drop(map);
    gate.open();
    let stats = end(&pool);
    assert!(stats.cancelled >= 1, "{stats}");
    eventually("no result is kept", || results.count() == calls.load(Ordering::SeqCst));
}

#[test]
fn p16_items_that_the_pool_refuses_come_back() {
    let pool = Pool::builder()
        .workers(1)
        .capacity(1)
        .overflow(Overflow::Reject)
        .build()
        .unwrap();
    // A pool that does not wait: the map waits for its own chunks instead.
    let values: Vec<_> = pool
        .map(0..100, |n| n)
        .chunk_size(3)
        .window(8)
        .map(Result::unwrap)
        .collect();
    assert!(values.into_iter().eq(0..100));
    pool.close();
    let back = Mutex::new(Vec::new());
    for answer in pool.map(vec!["a".to_owned(), "b".to_owned()], |text| text) {
        match answer {
            Err(MapError::Refused { refused, item }) => {
                assert_eq!(refused.kind(), SubmitErrorKind::ShutDown);
                back.lock().unwrap().push(item);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(back.into_inner().unwrap(), ["a", "b"]);
    end(&pool);
}

#[test]
fn p12_chunks_are_tasks_in_the_books() {
    let pool = pool(8);
    assert_eq!(
        pool.options().label("all").map(0..100, |n| n).chunk_size(10).count(),
        100
    );
    let stats = end(&pool);
    assert_eq!((stats.submitted, stats.succeeded), (10, 10));
}
