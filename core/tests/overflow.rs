//! A submit that names its own overflow policy, among others that name another or none.

mod support;

use duly::{CancellationToken, Group, Missed, Outcome, Overflow, Pool, SubmitErrorKind, TaskError};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};
use support::*;

const ALL: [Overflow; 5] = [
    Overflow::Block,
    Overflow::Reject,
    Overflow::DropNewest,
    Overflow::DropOldest,
    Overflow::CallerRuns,
];

/// One worker that is stuck and a queue of this capacity that is full, which by itself does `overflow`.
fn full(capacity: usize, overflow: Overflow) -> (Pool, Gate, Vec<duly::Task<()>>) {
    let builder = Pool::builder().capacity(capacity).max_blocked_producers(8);
    let (pool, gate, _stuck) = stuck_pool(builder.overflow(overflow), 1);
    let queued = (0..capacity).map(|_| pool.try_spawn(|| ()).unwrap()).collect();
    (pool, gate, queued)
}

/// Lets the producers that wait go where a test fails.
struct OrClose<'a>(&'a Pool);

impl Drop for OrClose<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.close();
        }
    }
}

fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}

#[test]
fn p05_the_policy_of_a_submit_stands_in_for_that_of_its_queue() {
    let here = std::thread::current().id();
    for overflow in ALL {
        let (pool, gate, queued) = full(2, overflow);
        let named = |overflow| pool.options().overflow(overflow);
        let on_caller = move || std::thread::current().id() == here;

        let waited = named(Overflow::Block).submit_timeout(ms(20)).spawn(on_caller);
        assert_eq!(
            waited.unwrap_err().kind(),
            SubmitErrorKind::SubmitTimedOut,
            "{overflow:?}"
        );
        let refused = named(Overflow::Reject).spawn(on_caller);
        assert_eq!(refused.unwrap_err().kind(), SubmitErrorKind::QueueFull, "{overflow:?}");
        let newest = named(Overflow::DropNewest).spawn(on_caller).unwrap();
        assert_eq!(newest.outcome(), Some(Outcome::Shed), "{overflow:?}");
        let ran = named(Overflow::CallerRuns).spawn(on_caller).unwrap();
        assert!(ran.wait().unwrap(), "{overflow:?}");
        assert_eq!([queued[0].outcome(), queued[1].outcome()], [None; 2], "{overflow:?}");
        let placed = named(Overflow::DropOldest).spawn(on_caller).unwrap();
        assert_eq!(queued[0].outcome(), Some(Outcome::Shed), "{overflow:?}");
        assert_eq!([queued[1].outcome(), placed.outcome()], [None; 2], "{overflow:?}");
        assert_eq!(pool.stats().queued, 2, "{overflow:?}");

        gate.open();
        assert!(!placed.wait().unwrap(), "on a worker: {overflow:?}");
        let stats = end(&pool);
        assert_eq!((stats.shed, stats.refused), (2, 2), "{overflow:?}");
    }
}

#[test]
fn p05_one_that_names_none_keeps_to_its_queue() {
    let (pool, gate, _queued) = full(1, Overflow::Reject);
    let strict = pool
        .queue("strict")
        .capacity(1)
        .overflow(Overflow::DropNewest)
        .add()
        .unwrap();
    let plain = pool.options();
    let named = plain.clone().overflow(Overflow::DropOldest);
    drop(named.spawn(|| ()).unwrap());
    assert_eq!(plain.spawn(|| ()).unwrap_err().kind(), SubmitErrorKind::QueueFull);
    let to_strict = named.queue(&strict);
    let first = to_strict.spawn(|| ()).unwrap();
    assert_eq!(
        plain.queue(&strict).spawn(|| ()).unwrap().outcome(),
        Some(Outcome::Shed)
    );
    assert_eq!(first.outcome(), None);
    drop(to_strict.spawn(|| ()).unwrap());
    assert_eq!(first.outcome(), Some(Outcome::Shed));
    gate.open();
    end(&pool);
}

#[test]
fn p04_try_verbs_never_wait_whatever_they_name() {
    for overflow in ALL {
        let (pool, gate, queued) = full(1, overflow);
        let named = |overflow| pool.options().overflow(overflow);
        for refuses in [Overflow::Block, Overflow::Reject, Overflow::CallerRuns] {
            let error = named(refuses).try_spawn(|| ()).unwrap_err();
            assert_eq!(error.kind(), SubmitErrorKind::QueueFull, "{refuses:?} in {overflow:?}");
        }
        let newest = named(Overflow::DropNewest).try_spawn(|| ()).unwrap();
        assert_eq!((newest.outcome(), queued[0].outcome()), (Some(Outcome::Shed), None));
        let placed = named(Overflow::DropOldest).try_spawn(|| ()).unwrap();
        assert_eq!((placed.outcome(), queued[0].outcome()), (None, Some(Outcome::Shed)));
        gate.open();
        assert_eq!(end(&pool).refused, 3);
    }
}

#[test]
fn p04_async_submits_wait_only_if_their_own_policy_does() {
    for overflow in ALL {
        let (pool, gate, queued) = full(1, overflow);
        let submit = |overflow| pool.options().overflow(overflow).submit_async(|_| Ok::<_, ()>(()));
        for refuses in [Overflow::Reject, Overflow::CallerRuns] {
            let answer = poll_once(pin!(submit(refuses))).expect("it does not wait");
            assert_eq!(answer.unwrap_err().kind(), SubmitErrorKind::QueueFull, "{refuses:?}");
        }
        let newest = poll_once(pin!(submit(Overflow::DropNewest))).expect("it does not wait");
        assert_eq!(newest.unwrap().outcome(), Some(Outcome::Shed));
        let mut waits = pin!(submit(Overflow::Block));
        assert!(poll_once(waits.as_mut()).is_none(), "{overflow:?}");
        assert_eq!((pool.stats().blocked_producers, queued[0].outcome()), (1, None));
        assert!(queued[0].cancel());
        let task = block_on(waits).unwrap();
        gate.open();
        task.wait().unwrap();
        end(&pool);
    }
}

#[test]
fn p04_a_producer_that_waits_by_its_own_policy_leaves_as_any() {
    for overflow in ALL {
        let (pool, gate, queued) = full(1, overflow);
        let token = CancellationToken::new();
        std::thread::scope(|scope| {
            let _or = OrClose(&pool);
            let wait = |token: Option<&CancellationToken>| {
                let mut options = pool.options().overflow(Overflow::Block);
                if let Some(token) = token {
                    options = options.token(token);
                }
                let before = pool.stats().blocked_producers;
                let waits = scope.spawn(move || options.spawn(|| ()));
                eventually("it waits", || pool.stats().blocked_producers == before + 1);
                waits
            };
            let (first, second, third) = (wait(None), wait(Some(&token)), wait(None));
            token.cancel();
            assert_eq!(second.join().unwrap().unwrap_err().kind(), SubmitErrorKind::Cancelled);
            assert!(queued[0].cancel());
            first.join().unwrap().expect("the place is the first one's");
            pool.close();
            assert_eq!(third.join().unwrap().unwrap_err().kind(), SubmitErrorKind::ShutDown);
        });
        gate.open();
        end(&pool);
    }
}

#[test]
fn p05_drop_oldest_takes_one_place_and_none_of_those_in_line() {
    let (pool, gate, queued) = full(2, Overflow::Block);
    let mut forgotten = pin!(pool.submit_async(|_| Ok::<_, ()>(())));
    assert!(poll_once(forgotten.as_mut()).is_none());
    std::thread::scope(|scope| {
        let _or = OrClose(&pool);
        let waits = scope.spawn(|| pool.spawn(|| ()).unwrap());
        eventually("two are in line", || pool.stats().blocked_producers == 2);
        let over = pool.options().overflow(Overflow::DropOldest);
        let placed = over.spawn(|| ()).unwrap();
        let outcomes = [&queued[0], &queued[1], &placed].map(duly::Task::outcome);
        assert_eq!(
            outcomes,
            [Some(Outcome::Shed), None, None],
            "one place, the oldest one's"
        );
        assert_eq!((pool.stats().queued, pool.stats().blocked_producers), (2, 2));
        // A place comes free: the first in line is to have it, though it does not come. A place of its own is not to be had.
        assert!(queued[1].cancel());
        for refuses in [Overflow::Reject, Overflow::Block] {
            let refused = pool.options().overflow(refuses).try_spawn(|| ()).unwrap_err();
            assert_eq!(refused.kind(), SubmitErrorKind::QueueFull, "{refuses:?}");
        }
        let next = over.spawn(|| ()).unwrap();
        assert_eq!((placed.outcome(), next.outcome()), (Some(Outcome::Shed), None));
        assert_eq!((pool.stats().queued, pool.stats().blocked_producers), (1, 2));
        // Nothing is queued, and both places are theirs: it sheds nothing, and does not wait for them.
        assert!(next.cancel());
        waits.join().unwrap().cancel();
        assert_eq!((pool.stats().queued, pool.stats().blocked_producers), (0, 1));
        let alone = over.spawn(|| ()).unwrap();
        assert_eq!((alone.outcome(), pool.stats().shed), (None, 2));
        gate.open();
        alone.wait().unwrap();
    });
    block_on(forgotten).unwrap().wait().unwrap();
    end(&pool);
}

#[test]
fn p05_drop_oldest_never_waits_for_those_in_line() {
    // All places there are have been promised to a future that nobody polls.
    let (pool, gate, queued) = full(1, Overflow::Block);
    let mut forgotten = pin!(pool.submit_async(|_| Ok::<_, ()>(())));
    assert!(poll_once(forgotten.as_mut()).is_none());
    for key in [None, Some(1)] {
        let mut over = pool.options().overflow(Overflow::DropOldest);
        if let Some(key) = &key {
            over = over.key(key);
        }
        let before = pool.stats().shed;
        drop(over.spawn(|| ()).unwrap());
        drop(over.try_spawn(|| ()).unwrap());
        assert_eq!(pool.stats().shed, before + 2);
    }
    assert_eq!((queued[0].outcome(), pool.stats().queued), (Some(Outcome::Shed), 1));
    gate.open();
    block_on(forgotten).unwrap().wait().unwrap();
    end(&pool);
}

#[test]
fn p05_of_a_full_key_the_oldest_goes_and_another_key_loses_nothing() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder(), 1);
    let queue = pool.queue("q").capacity(4).key_capacity(1).add().unwrap();
    let options = pool.options().queue(&queue);
    let (other, first) = (options.clone().key(&2), options.clone().key(&1));
    let (other, first) = (other.spawn(|| ()).unwrap(), first.spawn(|| ()).unwrap());
    let mut in_line = pin!(options.clone().key(&1).submit_async(|_| Ok::<_, ()>(())));
    assert!(poll_once(in_line.as_mut()).is_none());
    let over = options.clone().key(&1).overflow(Overflow::DropOldest);
    let placed = over.spawn(|| ()).unwrap();
    let outcomes = [&other, &first, &placed].map(duly::Task::outcome);
    assert_eq!(outcomes, [None, Some(Outcome::Shed), None]);
    // The key's only place is promised to the one in line, and the queue has others.
    assert!(placed.cancel());
    let refused = options.clone().key(&1).overflow(Overflow::Reject).spawn(|| ());
    assert_eq!(refused.unwrap_err().kind(), SubmitErrorKind::QueueFull);
    let next = over.spawn(|| ()).unwrap();
    assert_eq!((other.outcome(), next.outcome(), queue.stats().queued), (None, None, 2));
    gate.open();
    block_on(in_line).unwrap().wait().unwrap();
    assert_eq!(end(&pool).shed, 1);
}

#[test]
fn p05_each_of_many_meets_the_policy_they_name() {
    for overflow in ALL {
        let (pool, gate, _stuck) = stuck_pool(Pool::builder().capacity(3).overflow(overflow), 1);
        let many = |overflow| pool.options().overflow(overflow).spawn_many((0..5).map(|n| move || n));
        let cut = many(Overflow::Reject).unwrap_err();
        assert_eq!((cut.kind(), cut.accepted().len()), (SubmitErrorKind::QueueFull, 3));
        let shed = many(Overflow::DropNewest).unwrap();
        assert!(shed.iter().all(|task| task.outcome() == Some(Outcome::Shed)));
        let ran = many(Overflow::CallerRuns).unwrap();
        assert!(ran.iter().all(|task| task.outcome() == Some(Outcome::Succeeded)));
        let newest = many(Overflow::DropOldest).unwrap();
        let left: Vec<_> = newest.iter().map(duly::Task::outcome).collect();
        let shed = Some(Outcome::Shed);
        assert_eq!(left, [shed, shed, None, None, None], "{overflow:?}");
        gate.open();
        end(&pool);
    }
}

#[test]
fn p05_groups_periodic_tasks_streams_and_maps_take_it_from_their_options() {
    let (pool, gate, _queued) = full(1, Overflow::Block);
    let reject = pool.options().overflow(Overflow::Reject);

    let group = Group::<(), ()>::builder(&pool).fail_fast(false).build();
    let refused = group.with(&reject).submit(|_| Ok(())).unwrap_err();
    assert_eq!(refused.kind(), SubmitErrorKind::QueueFull);
    let newest = pool.options().overflow(Overflow::DropNewest);
    let shed = group.with(&newest).submit(|_| Ok(())).unwrap();
    assert_eq!(shed.outcome(), Some(Outcome::Shed));

    let mut answers = reject.stream(0..2, |_, n| Ok::<_, ()>(n));
    assert!(matches!(answers.next(), Some(Err(duly::StreamError::Refused { .. }))));
    drop(answers);
    assert!(matches!(
        reject.map(0..2, |n| n).next(),
        Some(Err(duly::MapError::Refused { .. }))
    ));

    let over = pool
        .options()
        .overflow(Overflow::DropOldest)
        .token(&CancellationToken::new());
    let before = pool.stats().shed;
    let every = over
        .every(ms(1))
        .missed(Missed::Skip)
        .submit(|_| Ok::<_, ()>(()))
        .unwrap();
    eventually("a run has taken a place", || pool.stats().shed > before);
    every.cancel();
    gate.open();
    assert!(matches!(group.wait().unwrap_err().first(), Some((_, _, Outcome::Shed))));
    end(&pool);
}

#[test]
fn p12_whoever_waits_sheds_or_runs_the_books_balance() {
    let pool = Pool::builder().workers(2).capacity(2).build().unwrap();
    std::thread::scope(|scope| {
        for overflow in ALL {
            let pool = &pool;
            scope.spawn(move || {
                let (options, nothing) = (pool.options().overflow(overflow), || ());
                for n in 0..if cfg!(debug_assertions) { 2_000 } else { 20_000 } {
                    let submitted = match n % 8 {
                        0 => options.clone().key(&(n % 3)).spawn(nothing),
                        1 => options.try_spawn(nothing),
                        _ => options.spawn(nothing),
                    };
                    match submitted {
                        Err(refused) => assert_eq!(refused.kind(), SubmitErrorKind::QueueFull),
                        // Whose place another one may have taken.
                        Ok(task) => assert!(matches!(task.wait(), Ok(()) | Err(TaskError::Shed(_)))),
                    }
                }
            });
        }
    });
    assert_eq!(pool.stats().blocked_producers, 0);
    end(&pool);
}
