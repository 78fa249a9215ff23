//! P12: the books balance, exactly at rest; what nobody looked at is never silent.
//! P16: bad input is an error that says what is allowed.

mod support;

use duly::{BuildError, CancelReason, Outcome, Overflow, Pool, SubmitErrorKind, TaskError};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use support::*;

#[test]
fn p12_every_outcome_is_counted_once() {
    let pool = Pool::builder()
        .workers(2)
        .capacity(8)
        .overflow(Overflow::DropNewest)
        .max_replacements(0)
        .build()
        .unwrap();
    assert!(pool.spawn(|| 1).unwrap().wait().is_ok());
    assert!(pool.submit(|_| Err::<(), _>(1)).unwrap().wait().is_err());
    assert!(pool.spawn(|| panic!("on purpose")).unwrap().wait().is_err());
    let gate = Gate::new();
    for _ in 0..2 {
        let gate = gate.clone();
        pool.spawn(move || gate.pass()).unwrap();
    }
    gate.arrived(2);
    let cancelled = pool.spawn(|| ()).unwrap();
    cancelled.cancel();
    let late = pool.options().timeout(ms(5)).spawn(|| ()).unwrap();
    late.wait_outcome(LONG);
    for _ in 0..8 {
        pool.spawn(|| ()).unwrap();
    }
    assert_eq!(pool.spawn(|| ()).unwrap().outcome(), Some(Outcome::Shed));
    let stats = pool.stats();
    assert_eq!((stats.queued, stats.running), (8, 2));
    assert!(stats.books_balance());
    let report = pool.shutdown(ms(10)).unwrap();
    gate.open();
    let stats = report.stats;
    assert!(stats.books_balance(), "{stats}");
    assert_eq!(
        stats.outcomes().map(|(outcome, count)| (outcome.as_str(), count)),
        [
            ("succeeded", 1),
            ("failed", 1),
            ("panicked", 1),
            ("cancelled", 1),
            ("deadline_exceeded", 1),
            ("shed", 1),
            ("abandoned", 10),
        ]
    );
    assert_eq!(stats.submitted, 16);
    let table = stats.to_string();
    assert!(
        table.ends_with("books balance") && table.contains("deadline_exceeded"),
        "{table}"
    );
}

#[test]
fn p12_the_books_show_an_outcome_no_later_than_its_waiter_does() {
    let pool = Pool::builder().workers(2).build().unwrap();
    for round in 1..=3000u64 {
        pool.spawn(|| ()).unwrap().wait().unwrap();
        assert_eq!(pool.stats().succeeded, round);
    }
    end(&pool);
}

#[test]
fn p12_a_failure_nobody_looked_at_is_told_once_one_looked_at_is_not() {
    let (tell, told) = mpsc::channel();
    let pool = Pool::builder()
        .workers(1)
        .on_unobserved(move |failure| tell.send(failure.clone()).unwrap())
        .build()
        .unwrap();
    // Looked at, each in its way.
    assert!(pool.submit(|_| Err::<(), _>("seen")).unwrap().wait().is_err());
    let task = pool.submit(|_| Err::<(), _>("seen")).unwrap();
    eventually("it ends", || task.outcome().is_some());
    drop(task);
    let task = pool.submit(|_| Err::<(), _>("seen")).unwrap();
    let (done, is_done) = mpsc::channel();
    task.on_complete(move |_| done.send(()).unwrap());
    is_done.recv_timeout(LONG).unwrap();
    drop(task);
    // Not looked at: dropped before the end, and after.
    drop(pool.options().label("early").submit(|_| Err::<(), _>(())).unwrap());
    let first = told.recv_timeout(LONG).unwrap();
    assert_eq!((first.name.label(), first.outcome), (Some("early"), Outcome::Failed));
    let gate = Gate::new();
    let pass = gate.clone();
    let late = pool
        .options()
        .label("late")
        .spawn(move || {
            pass.pass();
            panic!("nobody hears me")
        })
        .unwrap();
    gate.open();
    eventually("it ends", || pool.stats().panicked == 1);
    let stats = end(&pool);
    assert_eq!(stats.unobserved, 1);
    drop(pool);
    // The pool has gone; the report still comes.
    drop(late);
    let second = told.recv_timeout(LONG).unwrap();
    assert_eq!((second.name.label(), second.outcome), (Some("late"), Outcome::Panicked));
    assert_eq!(second.message.as_deref(), Some("nobody hears me"));
    assert!(told.try_recv().is_err());
}

#[test]
fn p12_refusals_are_counted_apart() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder().capacity(1).overflow(Overflow::Reject), 1);
    pool.spawn(|| ()).unwrap();
    for _ in 0..3 {
        assert!(pool.spawn(|| ()).is_err());
    }
    assert!(block_on(pool.submit_async(|_| Ok::<_, ()>(()))).is_err());
    let stats = pool.stats();
    assert_eq!((stats.submitted, stats.refused), (2, 4));
    gate.open();
    end(&pool);
}

// ---- P16 ----

#[test]
fn p16_options_out_of_range_are_refused_and_named() {
    let cases: [(duly::PoolBuilder, &str); 7] = [
        (Pool::builder().workers(0), "workers"),
        (Pool::builder().workers(usize::MAX), "workers"),
        (Pool::builder().capacity(0), "capacity"),
        (Pool::builder().capacity(usize::MAX), "capacity"),
        (Pool::builder().max_replacements(usize::MAX), "max_replacements"),
        (Pool::builder().name("nul\0"), "name"),
        (Pool::builder().stack_size(1 << 46), "stack_size"),
    ];
    for (builder, option) in cases {
        match builder.build() {
            Err(error @ BuildError::InvalidArgument { .. }) => {
                assert!(error.to_string().contains(option), "{error}");
            }
            other => panic!("{option}: {other:?}"),
        }
    }
}

#[test]
fn p16_absurd_times_are_taken_for_what_they_mean() {
    let pool = Pool::builder()
        .workers(1)
        .replace_after(Duration::MAX)
        .drop_drain(Duration::MAX)
        .build()
        .unwrap();
    assert_eq!(
        pool.options()
            .timeout(Duration::MAX)
            .spawn(|| 1)
            .unwrap()
            .wait()
            .unwrap(),
        1
    );
    let far = Instant::now() + Duration::from_secs(60 * 60 * 24 * 365 * 30);
    assert_eq!(
        pool.options()
            .deadline(far)
            .spawn(|| 1)
            .unwrap()
            .wait_timeout(Duration::MAX)
            .unwrap()
            .unwrap(),
        1
    );
    let past = pool.options().deadline(Instant::now() - ms(50)).spawn(|| 1).unwrap();
    assert_eq!(past.wait_outcome(LONG), Some(Outcome::DeadlineExceeded));
    let zero = pool.options().timeout(Duration::ZERO).spawn(|| 1).unwrap();
    assert_eq!(zero.wait_outcome(Duration::MAX), Some(Outcome::DeadlineExceeded));
    assert!(zero.released(Duration::MAX));
    assert!(pool.shutdown(Duration::MAX).unwrap().drained);
}

#[test]
fn p16_handles_answer_after_everything_is_gone() {
    let pool = Pool::builder().workers(1).build().unwrap();
    let task = pool.spawn(|| 1).unwrap();
    let done = task.clone();
    end(&pool);
    drop(pool);
    assert!(!task.cancel());
    assert_eq!(task.outcome(), Some(Outcome::Succeeded));
    assert!(task.is_released());
    assert_eq!(task.wait().unwrap(), 1);
    assert!(matches!(done.wait(), Err(TaskError::Taken(_))));
}

#[test]
fn p16_errors_work_with_question_mark_and_anyhow_and_say_what_to_do() {
    fn all(pool: &Pool) -> anyhow::Result<u32> {
        let cell = std::cell::Cell::new(1);
        let value = pool.options().label("sum").submit(move |ctx| {
            ctx.check()?;
            Ok::<_, duly::Interrupted>(cell.get())
        })?;
        Ok(value.wait()?)
    }
    fn is_error<E: std::error::Error + Send + Sync + 'static>(_: &E) {}
    let pool = Pool::builder().workers(1).build().unwrap();
    assert_eq!(all(&pool).unwrap(), 1);
    pool.close();
    let error = all(&pool).unwrap_err().to_string();
    assert!(
        error.contains("`sum`") && error.contains("shut_down") && error.contains("p12_the_books_balance.rs"),
        "{error}"
    );
    // A callback that is not Sync still makes an error that is.
    let cell = std::cell::Cell::new(1);
    let refused = pool.spawn(move || cell.get()).unwrap_err();
    is_error(&refused);
    assert_eq!(refused.kind(), SubmitErrorKind::ShutDown);
    assert_eq!(refused.into_callback()(), 1);
    assert_eq!(CancelReason::from("x").to_string(), "x");
    end(&pool);
}
