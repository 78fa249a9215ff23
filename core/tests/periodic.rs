//! Periodic tasks: each run is a task, ticks stand on a grid, nothing overlaps itself, and it always ends with a reason.

mod support;

use duly::{CancelReason, CancellationToken, Missed, Overflow, Periodic, PeriodicEnd, Pool, SubmitErrorKind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::*;

type Never = std::convert::Infallible;

fn pool(workers: usize) -> Pool {
    Pool::builder().workers(workers).build().unwrap()
}

/// What counts its calls.
fn counting() -> (
    Arc<AtomicUsize>,
    impl Fn(&duly::Context) -> Result<(), Never> + Send + Sync + 'static,
) {
    let count = Arc::new(AtomicUsize::new(0));
    let counts = count.clone();
    (count, move |_: &duly::Context| {
        counts.fetch_add(1, Ordering::SeqCst);
        Ok(())
    })
}

fn runs(periodic: &Periodic, so_many: u64) {
    eventually("it runs", || periodic.stats().runs >= so_many);
}

#[test]
fn p02_never_early_and_again_and_again() {
    let pool = pool(2);
    let began = Instant::now();
    let starts = Arc::new(Mutex::new(Vec::new()));
    let noted = starts.clone();
    let period = ms(20);
    let beat = pool
        .every(period)
        .submit(move |_| {
            noted.lock().unwrap().push(began.elapsed());
            Ok::<_, Never>(())
        })
        .unwrap();
    runs(&beat, 5);
    assert!(beat.cancel());
    assert_eq!(beat.wait(), PeriodicEnd::Cancelled(CancelReason::Requested));
    let starts = starts.lock().unwrap().clone();
    for (tick, start) in (1..).zip(&starts) {
        assert!(*start >= period * tick, "run {tick} early: {starts:?}");
    }
    end(&pool);
}

#[test]
fn p05_never_overlaps_itself_and_skips_what_it_missed() {
    let pool = pool(4);
    let (gate, inside) = (Gate::new(), Gate::new());
    let (hold, enter) = (gate.clone(), inside.clone());
    inside.open();
    let beat = pool
        .every(ms(2))
        .submit(move |_| {
            enter.pass();
            hold.pass();
            Ok::<_, Never>(())
        })
        .unwrap();
    inside.arrived(1);
    eventually("ticks are missed", || beat.stats().missed >= 5);
    let stats = beat.stats();
    assert_eq!((stats.runs, stats.active), (1, 1), "{stats:?}");
    gate.open();
    runs(&beat, 3);
    beat.cancel();
    end(&pool);
}

#[test]
fn p08_an_overdue_callback_still_counts_as_running() {
    let pool = pool(2);
    let gate = Gate::new();
    let hold = gate.clone();
    let beat = pool
        .options()
        .timeout(ms(1))
        .every(ms(2))
        .submit(move |_| {
            hold.pass();
            Ok::<_, Never>(())
        })
        .unwrap();
    gate.arrived(1);
    eventually("its task is over", || pool.stats().overdue == 1);
    eventually("ticks are missed", || beat.stats().missed >= 5);
    let stats = beat.stats();
    assert_eq!((stats.runs, stats.active, stats.failures), (1, 1, 0), "{stats:?}");
    gate.open();
    eventually("it has failed: its task was late", || beat.stats().failures >= 1);
    runs(&beat, 2);
    beat.cancel();
    end(&pool);
}

#[test]
fn p05_overlaps_where_told_to() {
    let pool = pool(3);
    let gate = Gate::new();
    let hold = gate.clone();
    let beat = pool
        .every(ms(2))
        .overlap(true)
        .submit(move |_| {
            hold.pass();
            Ok::<_, Never>(())
        })
        .unwrap();
    gate.arrived(3);
    eventually("more wait", || beat.stats().active > 3);
    beat.cancel();
    gate.open();
    end(&pool);
    assert_eq!(beat.stats().active, 0);
}

#[test]
fn p05_catches_up_one_after_the_other_where_told_to() {
    let pool = pool(2);
    let (gate, most) = (Gate::new(), Arc::new(AtomicUsize::new(0)));
    let now = Arc::new(AtomicUsize::new(0));
    let (hold, highest) = (gate.clone(), most.clone());
    let period = ms(40);
    let began = Instant::now();
    let beat = pool
        .every(period)
        .missed(Missed::CatchUp)
        .submit(move |_| {
            highest.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            hold.pass();
            now.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, Never>(())
        })
        .unwrap();
    gate.arrived(1);
    while began.elapsed() < period * 6 {
        std::thread::sleep(ms(5));
    }
    assert_eq!(beat.stats().runs, 1);
    gate.open();
    // Six ticks had come: their runs do not wait for ticks to come.
    eventually("all are made up for", || {
        let came = (began.elapsed().as_millis() / period.as_millis()) as u64;
        beat.stats().runs + 1 >= came
    });
    assert_eq!((beat.stats().missed, most.load(Ordering::SeqCst)), (0, 1));
    beat.cancel();
    end(&pool);
}

#[test]
fn p05_a_full_queue_is_a_missed_tick() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder().capacity(1), 1);
    let queued = pool.spawn(|| ()).unwrap();
    let (count, callback) = counting();
    let beat = pool.every(ms(2)).submit(callback).unwrap();
    eventually("ticks are missed", || beat.stats().missed >= 3);
    assert_eq!(
        (pool.stats().blocked_producers, pool.stats().queued),
        (0, 1),
        "nobody waits for room"
    );
    gate.open();
    queued.wait().unwrap();
    runs(&beat, 2);
    beat.cancel();
    end(&pool);
    assert_eq!(count.load(Ordering::SeqCst) as u64, beat.stats().runs);
}

#[test]
fn p05_a_run_that_is_shed_is_a_missed_tick_and_the_next_one_comes() {
    let builder = Pool::builder().capacity(1).overflow(Overflow::DropOldest);
    let (pool, gate, _stuck) = stuck_pool(builder, 1);
    let beat = pool.every(ms(2)).submit(counting().1).unwrap();
    eventually("queued", || beat.stats().active == 1);
    let other = pool.spawn(|| ()).unwrap();
    eventually("its run was shed", || beat.stats().missed >= 1);
    eventually("which shed the other one", || other.outcome().is_some());
    gate.open();
    runs(&beat, 2);
    beat.cancel();
    end(&pool);
}

#[test]
fn p07_a_run_that_panics_or_fails_is_an_outcome_and_the_next_tick_comes() {
    let told = Arc::new(AtomicUsize::new(0));
    let tells = told.clone();
    let builder = Pool::builder().workers(1);
    let pool = builder
        .on_unobserved(move |_| _ = tells.fetch_add(1, Ordering::SeqCst))
        .build()
        .unwrap();
    let turn = AtomicUsize::new(0);
    let beat = pool
        .every(ms(2))
        .submit(move |_| match turn.fetch_add(1, Ordering::SeqCst) % 3 {
            0 => panic!("planted"),
            1 => Err("planted"),
            _ => Ok(()),
        })
        .unwrap();
    runs(&beat, 7);
    beat.cancel();
    let stats = end(&pool);
    let runs = beat.stats();
    assert!(stats.panicked >= 2 && stats.failed >= 2, "{stats:?}");
    let failures = stats.panicked + stats.failed;
    // The last one may have run into the cancel.
    assert!(
        (failures..=failures + stats.cancelled).contains(&runs.failures),
        "{stats:?} {runs:?}"
    );
    assert_eq!(
        told.load(Ordering::SeqCst) as u64,
        failures,
        "each is told, as nobody looks"
    );
}

#[test]
fn p01_failures_in_a_row_end_it_where_told_to() {
    let pool = pool(1);
    let turn = AtomicUsize::new(0);
    let beat = pool
        .every(ms(1))
        .max_failures(2)
        .submit(move |_| match turn.fetch_add(1, Ordering::SeqCst) {
            0 | 2 | 3 => Err("planted"),
            _ => Ok(()),
        })
        .unwrap();
    assert_eq!(beat.wait_timeout(LONG), Some(PeriodicEnd::Failed(2)));
    assert_eq!(
        (beat.stats().runs, beat.stats().failures, beat.next_tick()),
        (4, 3, None)
    );
    assert!(!beat.cancel());
    assert_eq!(beat.end(), Some(PeriodicEnd::Failed(2)));
    end(&pool);
}

#[test]
fn p04_it_always_ends_by_a_cancel_a_token_a_deadline_or_a_shutdown() {
    let pool = pool(1);
    let (hour, callback) = (Duration::from_secs(3600), |_: &duly::Context| Ok::<_, Never>(()));
    let cancelled = |reason| Some(PeriodicEnd::Cancelled(reason));

    let by_handle = pool.every(hour).submit(callback).unwrap();
    assert!(by_handle.next_tick().is_some() && by_handle.wait_timeout(ms(1)).is_none());
    assert!(by_handle.cancel_with("enough") && !by_handle.cancel());
    assert_eq!(by_handle.wait_timeout(LONG), cancelled("enough".into()));

    let root = CancellationToken::new();
    let by_token = pool.options().token(&root).every(hour).submit(callback).unwrap();
    root.cancel();
    assert_eq!(by_token.wait_timeout(LONG), cancelled(CancelReason::Requested));
    let refused = pool.options().token(&root).every(hour).submit(callback).unwrap_err();
    assert_eq!(refused.kind(), SubmitErrorKind::Cancelled);

    let options = pool.options().deadline(Instant::now() + ms(500));
    let by_deadline = options.every(hour).submit(callback).unwrap();
    assert_eq!(
        by_deadline.wait_timeout(LONG),
        cancelled(CancelReason::DeadlineExceeded)
    );

    let by_guard = pool.every(hour).submit(callback).unwrap();
    drop(by_guard.token().drop_guard());
    assert_eq!(by_guard.wait_timeout(LONG), cancelled(CancelReason::Dropped));

    let dropped = Drops::default();
    let probe = dropped.probe();
    let by_shutdown = pool
        .every(hour)
        .submit(move |_| {
            let _probe = &probe;
            Ok::<_, Never>(())
        })
        .unwrap();
    let waits = by_shutdown.clone();
    let waiter = std::thread::spawn(move || block_on(waits));
    end(&pool);
    assert_eq!(by_shutdown.end(), Some(PeriodicEnd::ShutDown));
    assert_eq!(waiter.join().unwrap(), PeriodicEnd::ShutDown);
    assert_eq!(dropped.count(), 1, "P6: the callback went with the end");
    let refused = pool.every(hour).submit(callback).unwrap_err();
    assert_eq!(refused.kind(), SubmitErrorKind::ShutDown);
}

#[test]
fn p06_the_callback_goes_when_its_last_run_does() {
    let pool = pool(1);
    let (gate, dropped) = (Gate::new(), Drops::default());
    let (hold, probe) = (gate.clone(), dropped.probe());
    let beat = pool
        .every(ms(1))
        .submit(move |ctx| {
            let _probe = &probe;
            hold.pass();
            ctx.check()
        })
        .unwrap();
    gate.arrived(1);
    assert!(beat.cancel());
    eventually("the running one is told", || pool.stats().overdue == 1);
    assert_eq!(dropped.count(), 0);
    gate.open();
    eventually("the callback is gone", || dropped.count() == 1);
    end(&pool);
    assert_eq!((dropped.count(), beat.stats().active), (1, 0));
}

#[test]
fn p04_one_whose_first_tick_never_comes_ends_with_its_pool() {
    let pool = pool(1);
    let (_, run) = counting();
    let periodic = pool.options().delay(Duration::MAX).every(ms(1)).submit(run).unwrap();
    assert!(periodic.wait_timeout(ms(1)).is_none());
    end(&pool);
    assert_eq!(periodic.wait_timeout(LONG), Some(PeriodicEnd::ShutDown));
}

#[test]
fn p09_dropping_the_handle_cancels_nothing_and_the_pool_is_not_kept() {
    let pool = pool(1);
    let (count, callback) = counting();
    drop(pool.every(ms(1)).submit(callback).unwrap());
    eventually("it runs on", || count.load(Ordering::SeqCst) >= 3);
    let beat = pool.every(ms(1)).submit(|_| Ok::<_, Never>(())).unwrap();
    drop(pool);
    assert_eq!(beat.wait_timeout(LONG), Some(PeriodicEnd::ShutDown));
}

#[test]
fn p13_from_a_callback_it_inherits_the_token_and_the_context_is_entered() {
    struct Five;
    thread_local!(static NUMBER: std::cell::Cell<u32> = const { std::cell::Cell::new(0) });
    impl duly::Carry for Five {
        type Captured = u32;
        type Entered = ();
        fn capture(&self) -> Option<u32> {
            Some(NUMBER.get())
        }
        fn enter(&self, captured: &u32) {
            NUMBER.set(*captured);
        }
    }
    let pool = Pool::builder().workers(2).context(Five).build().unwrap();
    NUMBER.set(5);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let notes = seen.clone();
    let gate = Gate::new();
    let hold = gate.clone();
    let made = Arc::new(Mutex::new(None));
    let makes = made.clone();
    let outer = pool
        .submit(move |ctx| {
            let beat = ctx.pool().every(ms(1)).submit(move |_| {
                notes.lock().unwrap().push(NUMBER.get());
                Ok::<_, Never>(())
            });
            *makes.lock().unwrap() = Some(beat.unwrap());
            hold.pass();
            Ok::<_, Never>(())
        })
        .unwrap();
    gate.arrived(1);
    eventually("it runs", || seen.lock().unwrap().len() >= 2);
    assert!(seen.lock().unwrap().iter().all(|number| *number == 5));
    assert!(outer.cancel());
    gate.open();
    let beat: Periodic = made.lock().unwrap().take().unwrap();
    let ended = beat.wait_timeout(LONG);
    assert_eq!(ended, Some(PeriodicEnd::Cancelled(CancelReason::Requested)));
    end(&pool);
}

#[test]
fn p16_absurd_periods_are_refused_or_never_come() {
    let pool = pool(1);
    let callback = |_: &duly::Context| Ok::<_, Never>(());
    for (period, jitter) in [
        (Duration::ZERO, Duration::ZERO),
        (Duration::MAX, Duration::ZERO),
        (ms(1), ms(1)),
    ] {
        let refused = pool.every(period).jitter(jitter).submit(callback).unwrap_err();
        assert_eq!(refused.kind(), SubmitErrorKind::InvalidArgument);
    }
    let never = pool
        .every(Duration::from_nanos(i64::MAX as u64))
        .submit(callback)
        .unwrap();
    let jittered = pool.every(ms(5)).jitter(ms(4)).submit(callback).unwrap();
    runs(&jittered, 3);
    assert_eq!(never.stats().runs, 0);
    end(&pool);
}
