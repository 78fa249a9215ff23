//! Streams: tests are named by the promise they show.

mod support;

use duly::{Outcome, Overflow, Pool, StreamError, SubmitErrorKind, TaskError};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Instant;
use support::*;

fn pool(workers: usize) -> Pool {
    Pool::builder().workers(workers).build().unwrap()
}

/// Numbers without end, and how many were pulled.
fn numbers() -> (impl Iterator<Item = usize>, Rc<Cell<usize>>) {
    let pulled = Rc::new(Cell::new(0));
    let count = pulled.clone();
    let numbers = (0..).inspect(move |_| count.set(count.get() + 1));
    (numbers, pulled)
}

#[test]
fn p05_an_infinite_input_is_pulled_no_further_than_the_window_reaches() {
    for ordered in [true, false] {
        for window in [1, 2, 7] {
            let pool = pool(3);
            let (numbers, pulled) = numbers();
            let mut stream = pool
                .stream(numbers, |_, n| Ok::<_, ()>(n))
                .window(window)
                .ordered(ordered);
            assert_eq!(pulled.get(), 0, "nothing before the first is asked for");
            for taken in 1..=10 {
                stream.next().unwrap().unwrap();
                assert!(pulled.get() < taken + window, "{} pulled, {taken} taken", pulled.get());
                assert_eq!(stream.pulled(), pulled.get());
            }
            drop(stream);
            assert!(pulled.get() <= 10 + window);
            end(&pool);
        }
    }
    // The default window.
    let pool = pool(3);
    let (numbers, pulled) = numbers();
    assert_eq!(pool.stream(numbers, |_, n| Ok::<_, ()>(n)).take(10).count(), 10);
    assert_eq!(pulled.get(), 15);
    end(&pool);
}

#[test]
fn p01_answers_come_once_each_in_order_or_as_they_complete() {
    let pool = pool(4);
    let ordered: Vec<_> = pool
        .stream(0..1000u64, |_, n| Ok::<_, ()>(n * n))
        .map(Result::unwrap)
        .collect();
    assert_eq!(ordered, (0..1000).map(|n| n * n).collect::<Vec<_>>());
    let any: Vec<_> = pool
        .stream(0..1000u64, |_, n| Ok::<_, ()>(n))
        .ordered(false)
        .map(Result::unwrap)
        .collect();
    assert_eq!(any.len(), 1000);
    assert_eq!(any.into_iter().collect::<BTreeSet<_>>().len(), 1000);
    // As they complete: the first is stuck.
    let gate = Gate::new();
    let stuck = gate.clone();
    let mut stream = pool
        .stream(0..3, move |_, n| {
            if n == 0 {
                stuck.pass();
            }
            Ok::<_, ()>(n)
        })
        .ordered(false);
    let mut first: Vec<_> = stream.by_ref().take(2).map(Result::unwrap).collect();
    first.sort_unstable();
    assert_eq!(first, [1, 2]);
    gate.open();
    assert_eq!(stream.next().unwrap().unwrap(), 0);
    assert!(stream.next().is_none() && stream.next().is_none());
    end(&pool);
}

#[test]
fn p01_errors_stand_in_their_items_place() {
    let pool = pool(2);
    let answers: Vec<_> = pool
        .stream(0..6, |_, n| match n {
            2 => Err("two"),
            4 => panic!("four"),
            n => Ok(n),
        })
        .collect();
    assert_eq!(answers.len(), 6);
    for (index, answer) in answers.into_iter().enumerate() {
        match (index, answer) {
            (2, Err(StreamError::Task { index: 2, error })) => assert_eq!(error.into_failed(), Some("two")),
            (4, Err(error @ StreamError::Task { .. })) => {
                assert_eq!(error.index(), 4);
                assert!(error.to_string().contains("four"), "{error}");
            }
            (index, answer) => assert_eq!(answer.unwrap(), index),
        }
    }
    end(&pool);
}

#[test]
fn p05_first_error_ends_the_stream_and_cancels_what_is_under_way() {
    let pool = pool(2);
    let gate = Gate::new();
    let stuck = gate.clone();
    let (numbers, pulled) = numbers();
    let mut stream = pool
        .stream(numbers, move |_, n| match n {
            3 => Err(n),
            4 => {
                stuck.pass();
                Ok(n)
            }
            n => Ok(n),
        })
        .window(8)
        .first_error();
    let good: Vec<_> = stream.by_ref().take(3).map(Result::unwrap).collect();
    assert_eq!(good, [0, 1, 2]);
    assert_eq!(stream.next().unwrap().unwrap_err().index(), 3);
    assert!(pulled.get() <= 12);
    assert_eq!(Rc::strong_count(&pulled), 1, "the input is dropped");
    assert!(stream.next().is_none());
    eventually("the rest is cancelled", || pool.stats().queued == 0);
    gate.open();
    let stats = end(&pool);
    assert_eq!(stats.failed, 1);
    assert!(stats.cancelled >= 1, "{stats}");
}

#[test]
fn p06_when_the_consumer_leaves_everything_ends_and_nothing_leaks() {
    for ordered in [true, false] {
        let (pool, gate, _stuck) = stuck_pool(Pool::builder(), 1);
        let drops = Drops::default();
        let made = Rc::new(Cell::new(0));
        let counted = made.clone();
        let probes = drops.clone();
        let input = std::iter::repeat_with(move || {
            counted.set(counted.get() + 1);
            probes.probe()
        });
        let mut stream = pool
            .stream(input, |_, probe| Ok::<_, ()>(probe))
            .window(5)
            .ordered(ordered);
        assert!(stream.next_timeout(ms(5)).is_err());
        assert_eq!((made.get(), pool.stats().queued), (5, 5));
        drop(stream);
        assert_eq!(pool.stats().cancelled, 5);
        assert_eq!(Rc::strong_count(&made), 1, "the input is dropped");
        eventually("captured data is gone", || drops.count() == 5);
        gate.open();
        end(&pool);
    }
}

#[test]
fn p06_the_reason_is_that_the_caller_left() {
    let pool = pool(1);
    let seen = Arc::new(std::sync::Mutex::new(None));
    let tell = seen.clone();
    let gate = Gate::new();
    let started = gate.clone();
    let mut stream = pool.stream([()], move |ctx, ()| {
        started.open();
        let _ = ctx.sleep(LONG);
        *tell.lock().unwrap() = ctx.cause();
        Ok::<_, ()>(())
    });
    assert!(stream.next_timeout(ms(1)).is_err());
    gate.pass();
    drop(stream);
    eventually("it was told", || seen.lock().unwrap().is_some());
    assert_eq!(
        *seen.lock().unwrap(),
        Some(duly::Interrupted::Cancelled(duly::CancelReason::CallerLeft))
    );
    end(&pool);
}

#[test]
fn p02_items_have_the_options_timeout() {
    let pool = pool(2);
    let gate = Gate::new();
    let stuck = gate.clone();
    let began = Instant::now();
    let answers: Vec<_> = pool
        .options()
        .timeout(ms(1000))
        .stream(0..3, move |_, n| {
            if n == 1 {
                stuck.pass();
            }
            Ok::<_, ()>(n)
        })
        .collect();
    assert!(
        began.elapsed() >= ms(1000) && began.elapsed() < LONG / 2,
        "{:?}",
        began.elapsed()
    );
    let outcome = |index: usize| match &answers[index] {
        Err(StreamError::Task { error, .. }) => error.outcome(),
        _ => None,
    };
    assert_eq!(
        (outcome(0), outcome(1), outcome(2)),
        (None, Some(Outcome::DeadlineExceeded), None)
    );
    gate.open();
    end(&pool);
}

#[test]
fn p04_next_times_out_and_loses_nothing_also_while_it_waits_for_room() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder().capacity(1), 1);
    let filler = pool.spawn(|| ()).unwrap();
    let mut stream = pool.stream(0..4, |_, n| Ok::<_, ()>(n));
    for _ in 0..3 {
        assert!(stream.next_timeout(ms(5)).is_err());
    }
    assert_eq!((stream.pulled(), pool.stats().blocked_producers), (1, 1));
    gate.open();
    let answers: Vec<_> = stream.map(Result::unwrap).collect();
    assert_eq!(answers, [0, 1, 2, 3]);
    filler.wait().unwrap();
    let stats = end(&pool);
    assert_eq!((stats.blocked_producers, stats.refused), (0, 0));
}

#[test]
fn p04_a_stream_that_waits_for_room_leaves_the_line_when_it_is_dropped() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder().capacity(1), 1);
    let filler = pool.spawn(|| ()).unwrap();
    let drops = Drops::default();
    let mut stream = pool.stream([drops.probe()], |_, probe| Ok::<_, ()>(probe));
    assert!(stream.next_timeout(ms(5)).is_err());
    assert_eq!(pool.stats().blocked_producers, 1);
    drop(stream);
    assert_eq!((pool.stats().blocked_producers, drops.count()), (0, 1));
    gate.open();
    filler.wait().unwrap();
    end(&pool);
}

#[test]
fn p05_a_window_larger_than_the_queue_gets_its_answers_whatever_the_policy() {
    for policy in [Overflow::Block, Overflow::Reject, Overflow::CallerRuns] {
        let pool = Pool::builder().workers(2).capacity(2).overflow(policy).build().unwrap();
        let answers: Vec<_> = pool
            .stream(0..300, |_, n| Ok::<_, ()>(n))
            .window(64)
            .map(Result::unwrap)
            .collect();
        assert_eq!(answers, (0..300).collect::<Vec<_>>(), "{policy:?}");
        let stats = end(&pool);
        assert_eq!(stats.refused, 0, "nobody was told of a refusal");
    }
}

#[test]
fn p16_items_that_a_full_or_closed_pool_refuses_come_back() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder().capacity(1).overflow(Overflow::Reject), 1);
    let filler = pool.spawn(|| ()).unwrap();
    let mut stream = pool.stream(["a", "b"], |_, text| Ok::<_, ()>(text));
    let Some(Err(StreamError::Refused { refused, item, index })) = stream.next() else {
        panic!("there is no room")
    };
    assert_eq!((refused.kind(), item, index), (SubmitErrorKind::QueueFull, "a", 0));
    pool.close();
    let Some(Err(StreamError::Refused { refused, item, index })) = stream.next() else {
        panic!("it is closed")
    };
    assert_eq!((refused.kind(), item, index), (SubmitErrorKind::ShutDown, "b", 1));
    assert!(stream.next().is_none());
    assert_eq!(pool.stats().refused, 2);
    gate.open();
    filler.wait().unwrap();
    end(&pool);
}

#[test]
fn p04_a_shutdown_in_the_middle_answers_everything() {
    for ordered in [true, false] {
        let (pool, gate, _stuck) = stuck_pool(Pool::builder(), 1);
        let stream = pool.stream(0..6, |_, n| Ok::<_, ()>(n)).window(4).ordered(ordered);
        std::thread::scope(|scope| {
            let consumer = scope.spawn(|| stream.collect::<Vec<_>>());
            eventually("four are queued", || pool.stats().queued == 4);
            pool.shutdown(ms(20)).unwrap();
            let answers = consumer.join().unwrap();
            let kinds = answers.iter().map(|answer| match answer {
                Err(StreamError::Task {
                    error: TaskError::Abandoned(_),
                    ..
                }) => "abandoned",
                Err(StreamError::Refused { refused, .. }) if refused.kind() == SubmitErrorKind::ShutDown => "refused",
                _ => "?",
            });
            let mut kinds: Vec<_> = kinds.collect();
            kinds.sort_unstable();
            assert_eq!(
                kinds,
                ["abandoned", "abandoned", "abandoned", "abandoned", "refused", "refused"]
            );
        });
        gate.open();
    }
}

#[test]
fn p07_an_input_that_panics_has_ended_and_what_was_pulled_is_answered() {
    let pool = pool(2);
    let input = (0..).map(|n| if n == 3 { panic!("no more") } else { n });
    let mut stream = pool.stream(input, |_, n| Ok::<_, ()>(n)).window(8);
    assert!(catch_unwind(AssertUnwindSafe(|| stream.next())).is_err());
    let answers: Vec<_> = stream.by_ref().map(Result::unwrap).collect();
    assert_eq!(answers, [0, 1, 2]);
    assert!(stream.next().is_none());
    end(&pool);
}

#[test]
fn p12_hints_for_a_progress_bar_are_exact() {
    let pool = pool(2);
    let mut stream = pool.stream(0..10, |_, n| Ok::<_, ()>(n)).window(3);
    for left in (0..10).rev() {
        assert_eq!(stream.len(), left + 1);
        stream.next().unwrap().unwrap();
        assert_eq!(stream.size_hint(), (left, Some(left)));
    }
    assert_eq!(stream.len(), 0);
    let cut = pool.stream(0..10, |_, n| Ok::<_, ()>(n)).first_error();
    assert_eq!(cut.size_hint(), (1, Some(10)));
    end(&pool);
}

#[test]
fn p13_a_stream_inside_a_callback_inherits_its_cancellation() {
    let pool = pool(3);
    let inside = pool
        .submit(|ctx| {
            let sum: usize = ctx
                .pool()
                .stream(0..100usize, |_, n| Ok::<_, ()>(n))
                .map(Result::unwrap)
                .sum();
            Ok::<_, ()>(sum)
        })
        .unwrap();
    assert_eq!(inside.wait().unwrap(), 4950);
    let started = Arc::new(AtomicUsize::new(0));
    let count = started.clone();
    let outer = pool
        .submit(move |ctx| {
            let answers: Vec<_> = ctx
                .pool()
                .stream(0..2, move |ctx, n| {
                    count.fetch_add(1, Ordering::SeqCst);
                    let _ = ctx.sleep(LONG);
                    Ok::<_, ()>(n)
                })
                .collect();
            Ok::<_, ()>(answers.iter().filter(|answer| answer.is_err()).count())
        })
        .unwrap();
    eventually("both run", || started.load(Ordering::SeqCst) == 2);
    assert!(outer.cancel());
    assert!(outer.released(LONG));
    end(&pool);
}

#[test]
fn p01_asynchronously_it_is_the_same() {
    for (ordered, capacity) in [(true, 100), (false, 100), (true, 1), (false, 1)] {
        let pool = Pool::builder().workers(2).capacity(capacity).build().unwrap();
        let mut stream = pool
            .stream(0..200, |_, n| if n == 77 { Err(n) } else { Ok(n) })
            .ordered(ordered)
            .into_async();
        let mut sum = 0;
        block_on(async {
            while let Some(answer) = stream.next().await {
                sum += answer.unwrap_or_else(|error| error.index());
            }
        });
        assert_eq!(sum, (0..200).sum::<usize>());
        assert_eq!(stream.size_hint(), (0, Some(0)));
        let stats = end(&pool);
        assert_eq!((stats.submitted, stats.refused), (200, 0));
    }
}

#[test]
fn p04_asynchronously_it_waits_for_room_without_a_thread_and_gives_refused_items_back() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder().capacity(1), 1);
    let filler = pool.spawn(|| ()).unwrap();
    let mut stream = pool.stream(["a"], |_, text| Ok::<_, ()>(text)).into_async();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(stream.poll_next(&mut cx).is_pending());
    assert_eq!(pool.stats().blocked_producers, 1);
    pool.close();
    match stream.poll_next(&mut cx) {
        Poll::Ready(Some(Err(StreamError::Refused { item: "a", refused, .. }))) => {
            assert_eq!(refused.kind(), SubmitErrorKind::ShutDown);
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(stream.poll_next(&mut cx), Poll::Ready(None)));
    gate.open();
    filler.wait().unwrap();
    end(&pool);
}

/// Callbacks that read a stream on a pool of one worker, where nobody can stand in, and with a queue that is soon full.
#[test]
fn p10_a_callback_reads_a_stream_of_its_own_pool() {
    for (replacements, ordered, capacity) in [
        (0, true, 100),
        (0, false, 100),
        (1, true, 1),
        (0, true, 2),
        (0, false, 1),
    ] {
        let pool = Pool::builder()
            .workers(1)
            .capacity(capacity)
            .max_replacements(replacements)
            .build()
            .unwrap();
        let outer = pool
            .submit(move |ctx| {
                let stream = ctx.pool().stream(0..50u64, |_, n| Ok::<_, ()>(n)).window(4);
                stream
                    .ordered(ordered)
                    .map(|n| n.map_err(|error| format!("{error:?}")))
                    .sum::<Result<u64, _>>()
            })
            .unwrap();
        assert_eq!(
            outer.wait_timeout(LONG).expect("no deadlock"),
            Ok(1225),
            "{replacements} {ordered} {capacity}"
        );
        end(&pool);
    }
}

#[test]
fn p10_an_item_that_waits_for_its_reader_is_answered() {
    for ordered in [true, false] {
        let pool = Pool::builder().workers(2).max_replacements(0).build().unwrap();
        let reader: Arc<std::sync::Mutex<Option<duly::Task<bool, ()>>>> = Arc::default();
        let (told, gate) = (reader.clone(), Gate::new());
        let start = gate.clone();
        let outer = pool
            .submit(move |ctx| {
                start.pass();
                let mut stream = ctx
                    .pool()
                    .stream([()], move |_, ()| {
                        let reader = told.lock().unwrap().clone().unwrap();
                        reader.join().map(drop).map_err(|_| "told")
                    })
                    .ordered(ordered);
                let Some(Err(StreamError::Task { error, .. })) = stream.next() else {
                    panic!("it waits for us")
                };
                Ok::<_, ()>(matches!(error, TaskError::WouldDeadlock(_) | TaskError::Failed("told")))
            })
            .unwrap();
        *reader.lock().unwrap() = Some(outer.clone());
        gate.open();
        assert_eq!(outer.wait_timeout(LONG).expect("no deadlock"), Ok(true));
        end(&pool);
    }
}
