//! Several queues in a pool: who is started when, who is held back, and that nothing is lost by it.

mod support;

use duly::{BuildError, Outcome, Overflow, Pool, Queue, SubmitErrorKind, Threads};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::{Drops, Gate, end, eventually, ms, stuck_pool};

/// Callbacks that note in which order they were started, and submit the next of their kind.
#[derive(Clone)]
struct Starts(Arc<Mutex<Vec<usize>>>, usize);

impl Starts {
    fn refill(&self, pool: &Pool, queue: &Queue, kind: usize) {
        let (starts, pool, queue) = (self.clone(), pool.clone(), queue.clone());
        let options = pool.clone();
        let _ = options.options().queue(&queue.clone()).try_spawn(move || {
            let full = {
                let mut list = starts.0.lock().unwrap();
                list.push(kind);
                list.len() >= starts.1
            };
            if !full {
                starts.refill(&pool, &queue, kind);
            }
        });
    }

    fn count(&self, kind: usize) -> usize {
        self.0.lock().unwrap()[..self.1].iter().filter(|&&k| k == kind).count()
    }
}

/// Keeps so many workers until the gate opens: then all queues that have been filled meanwhile stand in line.
fn held(pool: &Pool, workers: usize) -> Gate {
    let gate = Gate::new();
    for _ in 0..workers {
        let inside = gate.clone();
        pool.spawn(move || inside.pass()).unwrap();
    }
    gate.arrived(workers);
    gate
}

#[test]
fn p05_queues_weighted_1_2_4_have_1_2_4_of_the_starts() {
    for workers in [1, 2, 4] {
        let pool = Pool::builder().workers(workers).build().unwrap();
        let queues = [1, 2, 4].map(|weight| pool.queue(format!("of {weight}")).weight(weight).add().unwrap());
        let starts = Starts(Arc::default(), 7000);
        let gate = held(&pool, workers);
        for (kind, queue) in queues.iter().enumerate() {
            for _ in 0..50 {
                starts.refill(&pool, queue, kind);
            }
        }
        gate.open();
        eventually("7000 starts", || starts.0.lock().unwrap().len() >= 7000);
        for (kind, share) in [(0, 1000), (1, 2000), (2, 4000)] {
            let count = starts.count(kind);
            assert!(
                count.abs_diff(share) <= share / 20,
                "{workers} workers: {count} of {share}"
            );
        }
        end(&pool);
    }
}

#[test]
fn p05_a_weight_holds_from_the_next_turn_on() {
    let pool = Pool::builder().workers(1).build().unwrap();
    let (one, other) = (pool.queue("one").add().unwrap(), pool.queue("other").add().unwrap());
    one.set_weight(9).unwrap();
    let starts = Starts(Arc::default(), 1000);
    let gate = held(&pool, 1);
    for _ in 0..50 {
        starts.refill(&pool, &one, 1);
        starts.refill(&pool, &other, 2);
    }
    gate.open();
    eventually("1000 starts", || starts.0.lock().unwrap().len() >= 1000);
    assert!(starts.count(1).abs_diff(900) <= 20, "{}", starts.count(1));
    end(&pool);
}

#[test]
fn p05_no_queue_starves_beside_one_that_is_flooded() {
    let pool = Pool::builder().workers(1).build().unwrap();
    let flooded = pool.queue("flooded").weight(3).add().unwrap();
    let quiet: Vec<_> = (0..100).map(|n| pool.queue(format!("q{n}")).add().unwrap()).collect();
    let order = Arc::new(Mutex::new(Vec::new()));
    let gate = Gate::new();
    let inside = gate.clone();
    pool.spawn(move || inside.pass()).unwrap();
    gate.arrived(1);
    for _ in 0..1000 {
        let order = order.clone();
        pool.options()
            .queue(&flooded)
            .spawn(move || order.lock().unwrap().push(0))
            .unwrap();
    }
    for (index, queue) in quiet.iter().enumerate() {
        let order = order.clone();
        pool.options()
            .queue(queue)
            .spawn(move || order.lock().unwrap().push(index + 1))
            .unwrap();
    }
    gate.open();
    let stats = end(&pool);
    assert_eq!(stats.succeeded, 1101);
    let order = order.lock().unwrap();
    let last = order.iter().rposition(|&who| who != 0).unwrap();
    // Each of the quiet ones within one round: 100 of them, and a turn or two of the flooded one.
    assert!(last < 110, "the last of the quiet ones was started as number {last}");
}

/// How many run at once, and the most there ever were.
#[derive(Default)]
struct AtOnce(AtomicUsize, AtomicUsize);

impl AtOnce {
    fn run(&self, body: impl FnOnce()) {
        let now = self.0.fetch_add(1, SeqCst) + 1;
        self.1.fetch_max(now, SeqCst);
        body();
        self.0.fetch_sub(1, SeqCst);
    }

    fn most(&self) -> usize {
        self.1.load(SeqCst)
    }
}

#[test]
fn p05_a_limit_is_never_exceeded_and_always_used() {
    let pool = Pool::builder().workers(6).build().unwrap();
    let narrow = pool.queue("narrow").limit(2).add().unwrap();
    let at_once = Arc::new(AtOnce::default());
    for _ in 0..2000 {
        let at_once = at_once.clone();
        pool.options()
            .queue(&narrow)
            .spawn(move || at_once.run(std::thread::yield_now))
            .unwrap();
    }
    let gate = Gate::new();
    for _ in 0..2 {
        let (gate, at_once) = (gate.clone(), at_once.clone());
        pool.options()
            .queue(&narrow)
            .spawn(move || at_once.run(|| gate.pass()))
            .unwrap();
    }
    // All of the limit is used: both are there, and no third comes.
    gate.arrived(2);
    let third = pool.options().queue(&narrow).spawn(|| ()).unwrap();
    assert!(third.wait_timeout(ms(30)).is_none(), "a third runs beside two");
    assert_eq!((narrow.stats().running, narrow.stats().queued), (2, 1));
    // Others go on meanwhile.
    pool.spawn(|| ()).unwrap().wait().unwrap();
    gate.open();
    third.wait().unwrap();
    assert_eq!(at_once.most(), 2);
    end(&pool);
}

#[test]
fn p05_a_limit_counts_what_ran_before_it_was_set() {
    let (pool, gate, stuck) = stuck_pool(Pool::builder(), 2);
    let queue = pool.default_queue();
    queue.set_limit(Some(2)).unwrap();
    assert_eq!(queue.stats().running, 2);
    let other = pool.queue("other").add().unwrap();
    pool.set_workers(3).unwrap();
    // There is a worker, but no permit.
    let held = pool.spawn(|| ()).unwrap();
    pool.options().queue(&other).spawn(|| ()).unwrap().wait().unwrap();
    assert!(held.outcome().is_none());
    gate.open();
    held.wait().unwrap();
    drop(stuck);
    eventually("all permits are back", || queue.stats().running == 0);
    end(&pool);
}

#[test]
fn p05_a_higher_limit_lets_waiting_tasks_start() {
    let pool = Pool::builder().workers(4).build().unwrap();
    let queue = pool.queue("q").limit(1).add().unwrap();
    let gate = Gate::new();
    for _ in 0..4 {
        let gate = gate.clone();
        pool.options().queue(&queue).spawn(move || gate.pass()).unwrap();
    }
    gate.arrived(1);
    queue.set_limit(Some(3)).unwrap();
    gate.arrived(3);
    assert_eq!(queue.stats().running, 3);
    queue.set_limit(None).unwrap();
    gate.arrived(4);
    gate.open();
    end(&pool);
}

#[test]
fn p05_an_overdue_callback_keeps_its_permit() {
    let pool = Pool::builder().workers(2).replace_after(ms(5)).build().unwrap();
    let queue = pool.queue("strand").limit(1).add().unwrap();
    let gate = Gate::new();
    let inside = gate.clone();
    let first = pool.options().queue(&queue).spawn(move || inside.pass()).unwrap();
    gate.arrived(1);
    assert!(first.cancel());
    let second = pool.options().queue(&queue).spawn(|| ()).unwrap();
    eventually("a replacement", || pool.stats().replaced == 1);
    assert!(second.wait_timeout(ms(30)).is_none(), "it overlaps one that still runs");
    gate.open();
    second.wait().unwrap();
    end(&pool);
}

#[test]
fn p02_p12_a_paused_queue_starts_nothing_and_answers_everyone() {
    let pool = Pool::builder().workers(2).build().unwrap();
    let queue = pool.queue("q").add().unwrap();
    queue.pause();
    pool.default_queue().pause();
    let options = pool.options();
    let options = options.queue(&queue);
    let late = options.clone().timeout(ms(20)).spawn(|| ()).unwrap();
    let cancelled = options.spawn(|| ()).unwrap();
    let waits = options.spawn(|| ()).unwrap();
    let plain = pool.spawn(|| ()).unwrap();
    cancelled.cancel();
    assert_eq!(late.wait().unwrap_err().outcome(), Some(Outcome::DeadlineExceeded));
    assert_eq!(cancelled.outcome(), Some(Outcome::Cancelled));
    assert!(waits.outcome().is_none() && plain.outcome().is_none());
    assert_eq!(
        (queue.stats().queued, pool.stats().queued, pool.stats().running),
        (1, 2, 0)
    );
    assert!(queue.stats().paused);
    pool.resume();
    waits.wait().unwrap();
    plain.wait().unwrap();
    end(&pool);
}

#[test]
fn p09_a_paused_pool_is_drained() {
    for threads in [Threads::Eager, Threads::OnDemand] {
        let pool = Pool::builder().workers(2).threads(threads).build().unwrap();
        let queue = pool.queue("q").add().unwrap();
        pool.pause();
        let tasks: Vec<_> = (0..20)
            .map(|n| match n % 2 {
                0 => pool.spawn(|| ()).unwrap(),
                _ => pool.options().queue(&queue).spawn(|| ()).unwrap(),
            })
            .collect();
        assert_eq!(end(&pool).succeeded, 20);
        queue.pause();
        assert!(tasks.iter().all(|task| task.outcome() == Some(Outcome::Succeeded)));
        assert!(matches!(pool.queue("late").add(), Err(BuildError::ShutDown)));
        let refused = pool.options().queue(&queue).spawn(|| ()).unwrap_err();
        assert_eq!(refused.kind(), SubmitErrorKind::ShutDown);
    }
}

#[test]
fn p09_what_a_limit_holds_back_is_abandoned_at_the_drain_deadline() {
    let pool = Pool::builder().workers(3).build().unwrap();
    let queue = pool.queue("q").limit(1).add().unwrap();
    let gate = Gate::new();
    let inside = gate.clone();
    let drops = Drops::default();
    let options = pool.options().queue(&queue);
    options.spawn(move || inside.pass()).unwrap();
    gate.arrived(1);
    let waits: Vec<_> = (0..5)
        .map(|_| {
            let probe = drops.probe();
            options.spawn(move || drop(probe)).unwrap()
        })
        .collect();
    let report = pool.shutdown(ms(50)).unwrap();
    assert!(!report.drained && report.stats.books_balance(), "{report}");
    assert_eq!(report.abandoned.len(), 6, "{report}");
    assert!(report.threads_left >= 1, "{report}");
    assert!(report.elapsed < Duration::from_secs(5));
    assert!(waits.iter().all(|task| task.outcome() == Some(Outcome::Abandoned)));
    // Those that idle are told to leave only now.
    eventually("one is left", || pool.stats().workers == 1);
    eventually("captured data is gone", || drops.count() == 5);
    gate.open();
}

#[test]
fn p02_p05_tasks_of_every_queue_are_answered_while_all_workers_are_stuck() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder(), 2);
    let queues: Vec<_> = (0..10)
        .map(|n| {
            pool.queue(format!("q{n}"))
                .capacity(2)
                .overflow(Overflow::Reject)
                .add()
                .unwrap()
        })
        .collect();
    let token = duly::CancellationToken::new();
    let drops = Drops::default();
    let mut in_time = Vec::new();
    for queue in &queues {
        let options = pool.options().queue(queue);
        let [one, two] = [drops.probe(), drops.probe()];
        let by_token = options.clone().token(&token).spawn(move || drop(one)).unwrap();
        let late = options.clone().timeout(ms(1000)).spawn(move || drop(two)).unwrap();
        let refused = options.spawn(|| ()).unwrap_err();
        assert_eq!(refused.kind(), SubmitErrorKind::QueueFull);
        in_time.push((late, by_token));
    }
    for (late, by_token) in in_time {
        assert_eq!(late.wait().unwrap_err().outcome(), Some(Outcome::DeadlineExceeded));
        assert!(by_token.outcome().is_none());
    }
    token.cancel();
    for queue in &queues {
        assert_eq!(queue.stats().queued, 0);
        pool.options().queue(queue).spawn(|| ()).unwrap();
    }
    eventually("all captured data is dropped", || drops.count() == 20);
    let stats = pool.stats();
    assert_eq!(
        (stats.cancelled, stats.deadline_exceeded, stats.queued),
        (10, 10, 10),
        "{stats}"
    );
    gate.open();
    assert_eq!(end(&pool).submitted, 32);
}

#[test]
fn p04_p05_each_queue_has_its_own_room_and_policy() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder().capacity(1), 1);
    let oldest = pool
        .queue("oldest")
        .capacity(1)
        .overflow(Overflow::DropOldest)
        .add()
        .unwrap();
    let newest = pool
        .queue("newest")
        .capacity(1)
        .overflow(Overflow::DropNewest)
        .add()
        .unwrap();
    let caller = pool
        .queue("caller")
        .capacity(1)
        .limit(1)
        .overflow(Overflow::CallerRuns)
        .add()
        .unwrap();
    let block = pool.queue("block").capacity(1).add().unwrap();
    let to = |queue: &Queue| pool.options().queue(queue).spawn(|| std::thread::current().id());
    let (first, second) = (to(&oldest).unwrap(), to(&oldest).unwrap());
    assert_eq!((first.outcome(), second.outcome()), (Some(Outcome::Shed), None));
    let (first, second) = (to(&newest).unwrap(), to(&newest).unwrap());
    assert_eq!((first.outcome(), second.outcome()), (None, Some(Outcome::Shed)));
    let (_first, second) = (to(&caller).unwrap(), to(&caller).unwrap());
    assert_eq!(second.wait().unwrap(), std::thread::current().id());
    assert_eq!(caller.stats().running, 0);
    caller.pause();
    assert_eq!(to(&caller).unwrap_err().kind(), SubmitErrorKind::QueueFull);
    caller.resume();
    // A producer that waits for room in one queue leaves when that has room.
    let first = to(&block).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| to(&block).unwrap());
        eventually("it waits", || block.stats().blocked_producers == 1);
        assert_eq!(pool.stats().blocked_producers, 1);
        first.cancel();
        assert_eq!(waiting.join().unwrap().outcome(), None);
    });
    let timed = pool
        .options()
        .queue(&block)
        .submit_timeout(ms(5))
        .spawn(|| ())
        .unwrap_err();
    assert_eq!(timed.kind(), SubmitErrorKind::SubmitTimedOut);
    // Others are not concerned.
    block.set_capacity(3).unwrap();
    to(&block).unwrap();
    to(&block).unwrap();
    gate.open();
    end(&pool);
}

#[test]
fn p01_p12_everything_at_once_with_queues_that_come_and_change() {
    let pool = Pool::builder().workers(3).capacity(16).build().unwrap();
    let ran = Arc::new(AtomicUsize::new(0));
    let made = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let mut queues = vec![pool.default_queue()];
        for round in 0..4 {
            let queue = pool
                .queue(format!("q{round}"))
                .capacity(8)
                .weight(round + 1)
                .limit(2)
                .add()
                .unwrap();
            queues.push(queue);
            for queue in queues.clone() {
                let (pool, ran, made) = (&pool, &ran, &made);
                scope.spawn(move || {
                    for n in 0..300 {
                        let ran = ran.clone();
                        made.fetch_add(1, SeqCst);
                        let task = pool.options().queue(&queue).spawn(move || {
                            ran.fetch_add(1, SeqCst);
                        });
                        if n % 50 == round as usize {
                            queue.pause();
                            queue.set_limit(Some(1 + n % 3)).unwrap();
                            queue.resume();
                            task.unwrap().wait().unwrap();
                        }
                    }
                });
            }
        }
    });
    let stats = end(&pool);
    assert_eq!(stats.succeeded, made.load(SeqCst) as u64);
    assert_eq!(ran.load(SeqCst), made.load(SeqCst));
    assert_eq!(pool.queues().len(), 5);
    assert!(pool.queues().iter().all(|queue| queue.stats().running == 0));
}

#[test]
fn p16_options_that_make_no_sense_are_refused() {
    let (pool, other) = (Pool::new().unwrap(), Pool::new().unwrap());
    let what = |error: BuildError| match error {
        BuildError::InvalidArgument { what, .. } => what,
        other => panic!("{other}"),
    };
    assert_eq!(what(pool.queue("q").capacity(0).add().unwrap_err()), "capacity");
    assert_eq!(what(pool.queue("q").weight(0).add().unwrap_err()), "weight");
    assert_eq!(what(pool.queue("q").limit(0).add().unwrap_err()), "limit");
    let queue = pool.default_queue();
    assert_eq!(what(queue.set_capacity(usize::MAX).unwrap_err()), "capacity");
    assert_eq!(what(queue.set_weight(0).unwrap_err()), "weight");
    assert_eq!(what(queue.set_limit(Some(0)).unwrap_err()), "limit");
    assert_eq!(what(pool.set_workers(0).unwrap_err()), "workers");
    let refused = other.options().queue(&queue).spawn(|| ()).unwrap_err();
    assert_eq!(refused.kind(), SubmitErrorKind::InvalidArgument);
    assert_eq!(queue, pool.queues()[0]);
    assert_eq!(queue.name(), "default");
}

#[test]
fn p08_workers_come_and_go_while_the_pool_runs() {
    let pool = Pool::builder().name("wcg").workers(1).build().unwrap();
    let gate = Gate::new();
    let block = |count| {
        let tasks = (0..count).map(|_| {
            let gate = gate.clone();
            pool.spawn(move || gate.pass()).unwrap()
        });
        tasks.collect::<Vec<_>>()
    };
    let tasks = block(6);
    gate.arrived(1);
    pool.set_workers(4).unwrap();
    gate.arrived(4);
    assert_eq!(pool.stats().workers, 4);
    // Two too many, one of which is wanted again before its callback has returned.
    pool.set_workers(2).unwrap();
    pool.set_workers(3).unwrap();
    gate.open();
    tasks.iter().for_each(|task| task.wait().unwrap());
    eventually("the surplus worker has left", || pool.stats().workers == 3);
    // Idle ones leave at once.
    pool.set_workers(1).unwrap();
    eventually("idle workers have left", || pool.stats().workers == 1);
    for _ in 0..10 {
        pool.set_workers(3).unwrap();
        // Long enough for most of them to fall asleep, whatever that shows.
        std::thread::sleep(ms(2));
        pool.set_workers(1).unwrap();
        eventually("idle workers have left", || pool.stats().workers == 1);
    }
    pool.spawn(|| ()).unwrap().wait().unwrap();
    pool.set_workers(2).unwrap();
    let (one, two) = (Gate::new(), Gate::new());
    let (first, second) = (one.clone(), two.clone());
    let tasks = [
        pool.spawn(move || first.pass()).unwrap(),
        pool.spawn(move || second.pass()).unwrap(),
    ];
    one.arrived(1);
    two.arrived(1);
    one.open();
    two.open();
    tasks.iter().for_each(|task| task.wait().unwrap());
    assert_eq!(pool.stats().replaced, 0);
    end(&pool);
    assert!(matches!(pool.set_workers(3), Err(BuildError::ShutDown)));
}

#[test]
fn p08_a_pool_that_had_all_its_threads_gets_more_where_it_may() {
    // Two submits while every worker is busy: the second finds that another was asked for in vain.
    let pool = Pool::builder().workers(1).threads(Threads::OnDemand).build().unwrap();
    let gate = Gate::new();
    let inside = gate.clone();
    pool.spawn(move || inside.pass()).unwrap();
    gate.arrived(1);
    let waiting = [pool.spawn(|| ()).unwrap(), pool.spawn(|| ()).unwrap()];
    pool.set_workers(2).unwrap();
    for task in &waiting {
        assert!(task.wait_timeout(ms(5000)).is_some(), "nobody runs what waits");
    }
    gate.open();
    end(&pool);
}

#[test]
fn p08_fewer_workers_on_demand_and_a_replacement_beside() {
    let pool = Pool::builder()
        .workers(3)
        .threads(Threads::OnDemand)
        .replace_after(ms(5))
        .build()
        .unwrap();
    let gate = Gate::new();
    let inside = gate.clone();
    let stuck = pool.spawn(move || inside.pass()).unwrap();
    gate.arrived(1);
    assert!(stuck.cancel());
    pool.set_workers(1).unwrap();
    // One is stuck and replaced, or surplus: the other tasks are run all the same.
    for _ in 0..100 {
        pool.spawn(|| ()).unwrap().wait().unwrap();
    }
    gate.open();
    eventually("one is left", || pool.stats().workers <= 1);
    pool.set_workers(3).unwrap();
    pool.spawn(|| ()).unwrap().wait().unwrap();
    end(&pool);
}
