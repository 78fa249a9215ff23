//! Keys: at most so many callbacks of one at a time, in order, fair over keys, and nobody waits longer for an answer.

mod support;

use duly::{CancellationToken, Outcome, Overflow, Pool, Queue, SubmitErrorKind, Task};
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use support::{Drops, Gate, block_on, end, eventually, ms, stuck_pool};

fn submit<T: Send + 'static>(
    pool: &Pool,
    queue: &Queue,
    key: impl std::hash::Hash,
    callback: impl FnOnce() -> T + Send + 'static,
) -> Task<T> {
    pool.options().queue(queue).key(&key).spawn(callback).unwrap()
}

#[test]
fn p05_tasks_of_a_key_run_one_after_the_other_in_order_of_arrival() {
    let pool = Pool::builder().workers(4).build().unwrap();
    let strands = pool.queue("strands").key_limit(1).capacity(4096).add().unwrap();
    let seen: [_; 3] = std::array::from_fn(|_| Arc::new((AtomicUsize::new(0), Mutex::new(Vec::new()))));
    for n in 0..1000 {
        for (key, seen) in seen.iter().enumerate() {
            let seen = seen.clone();
            submit(&pool, &strands, key, move || {
                assert_eq!(seen.0.fetch_add(1, SeqCst), 0, "overlaps");
                seen.1.lock().unwrap().push(n);
                if n % 16 == 0 {
                    std::thread::yield_now();
                }
                seen.0.fetch_sub(1, SeqCst);
            });
        }
    }
    assert_eq!(end(&pool).succeeded, 3000);
    for seen in seen {
        assert!(seen.1.lock().unwrap().iter().copied().eq(0..1000), "in order");
    }
}

#[test]
fn p05_a_key_limit_is_never_exceeded_and_always_used() {
    let pool = Pool::builder().workers(8).build().unwrap();
    let queue = pool.queue("q").key_limit(2).limit(5).add().unwrap();
    let gates: Vec<_> = (0..3).map(|_| Gate::new()).collect();
    let at_once: Vec<_> = (0..3)
        .map(|_| Arc::new((AtomicUsize::new(0), AtomicUsize::new(0))))
        .collect();
    for _ in 0..6 {
        for (key, (gate, at_once)) in gates.iter().zip(&at_once).enumerate() {
            let (gate, at_once) = (gate.clone(), at_once.clone());
            submit(&pool, &queue, key, move || {
                let now = at_once.0.fetch_add(1, SeqCst) + 1;
                at_once.1.fetch_max(now, SeqCst);
                gate.pass();
                at_once.0.fetch_sub(1, SeqCst);
            });
        }
    }
    // 2 + 2 + 1: the queue's limit comes first.
    eventually("five run", || queue.stats().running == 5);
    eventually("all are there", || {
        at_once.iter().map(|a| a.0.load(SeqCst)).sum::<usize>() == 5
    });
    gates[0].open();
    eventually("the others have all they may have", || {
        at_once[1].0.load(SeqCst) == 2 && at_once[2].0.load(SeqCst) == 2
    });
    queue.set_key_limit(Some(3)).unwrap();
    eventually("one more of each, as far as the limit goes", || {
        queue.stats().running == 5
    });
    queue.set_limit(None).unwrap();
    eventually("three of each", || {
        at_once[1].0.load(SeqCst) == 3 && at_once[2].0.load(SeqCst) == 3
    });
    gates.iter().for_each(Gate::open);
    end(&pool);
    assert_eq!(at_once.iter().map(|a| a.1.load(SeqCst)).collect::<Vec<_>>(), [2, 3, 3]);
}

/// How many starts the tasks of 20 quiet keys waited for, the median, beside so many tasks of another key.
fn median_wait(flood: usize, key_limit: usize) -> usize {
    let pool = Pool::builder().workers(1).capacity(4096).build().unwrap();
    let queue = pool.default_queue();
    queue.set_key_limit(Some(key_limit)).unwrap();
    let starts = Arc::new(Mutex::new(Vec::new()));
    pool.pause();
    let note = |key: usize| {
        let starts = starts.clone();
        submit(&pool, &queue, key, move || starts.lock().unwrap().push(key));
    };
    for _ in 0..flood {
        note(0);
    }
    for _ in 0..3 {
        (1..=20).for_each(&note);
    }
    pool.resume();
    end(&pool);
    let starts = starts.lock().unwrap();
    let mut waits: Vec<_> = (0..starts.len()).filter(|&at| starts[at] != 0).collect();
    waits.sort_unstable();
    waits[waits.len() / 2]
}

#[test]
fn p05_a_flood_of_one_key_leaves_the_wait_of_others_within_twice() {
    for key_limit in [1, 4] {
        let (alone, beside) = (median_wait(0, key_limit), median_wait(2000, key_limit));
        assert!(beside <= 2 * alone, "{beside} starts instead of {alone}");
    }
}

#[test]
fn p05_tasks_without_key_take_turns_with_those_that_have_one() {
    let pool = Pool::builder().workers(1).build().unwrap();
    let queue = pool.queue("q").key_limit(1).add().unwrap();
    let starts = Arc::new(Mutex::new(Vec::new()));
    queue.pause();
    for n in 0..200 {
        let note = starts.clone();
        submit(&pool, &queue, n % 7, move || note.lock().unwrap().push(true));
        let note = starts.clone();
        let options = pool.options().queue(&queue);
        options.spawn(move || note.lock().unwrap().push(false)).unwrap();
    }
    queue.resume();
    end(&pool);
    let starts = starts.lock().unwrap();
    let keyed = starts[..100].iter().filter(|keyed| **keyed).count();
    assert_eq!(keyed, 50);
}

#[test]
fn p02_p05_p06_waiting_tasks_of_a_key_are_answered_while_all_workers_are_stuck() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder(), 1);
    let queue = pool
        .queue("q")
        .key_limit(1)
        .capacity(8)
        .overflow(Overflow::Reject)
        .add()
        .unwrap();
    let drops = Drops::default();
    let token = CancellationToken::new();
    let options = pool.options().queue(&queue).key("k");
    let work = || {
        let probe = drops.probe();
        move || drop(probe)
    };
    for round in 1..=50 {
        let by_handle: Vec<_> = (0..3).map(|_| options.spawn(work()).unwrap()).collect();
        let plain: Vec<_> = (0..2)
            .map(|_| options.clone().token(&token).spawn(|| ()).unwrap())
            .collect();
        let late = options.clone().timeout(ms(2)).spawn(work()).unwrap();
        let child = token.child();
        let by_token = options.clone().key(&round).token(&child).spawn(work()).unwrap();
        let other = pool.options().queue(&queue).spawn(work()).unwrap();
        // The late one may end between any two looks.
        assert!((7..=8).contains(&queue.stats().queued));
        // From the middle, from the end, from the front.
        for index in [1, 2, 0] {
            assert!(by_handle[index].cancel());
        }
        child.cancel();
        assert_eq!(by_token.outcome(), Some(Outcome::Cancelled));
        plain.iter().for_each(|task| assert!(task.cancel()));
        other.cancel();
        assert_eq!(late.wait().unwrap_err().outcome(), Some(Outcome::DeadlineExceeded));
        assert_eq!((queue.stats().queued, pool.stats().queued), (0, 0));
        eventually("captured data is dropped", || drops.count() == 6 * round);
    }
    // All of a token together.
    let many: Vec<_> = (0..8)
        .map(|n| options.clone().key(&(n % 3)).token(&token).spawn(|| ()).unwrap())
        .collect();
    assert_eq!(options.spawn(|| ()).unwrap_err().kind(), SubmitErrorKind::QueueFull);
    token.cancel();
    assert!(many.iter().all(|task| task.outcome() == Some(Outcome::Cancelled)));
    assert_eq!(queue.stats().queued, 0);
    gate.open();
    end(&pool);
}

#[test]
fn p09_what_waits_for_its_key_is_drained_or_abandoned() {
    let pool = Pool::builder().workers(3).build().unwrap();
    let queue = pool.queue("q").key_limit(1).add().unwrap();
    let done: Vec<_> = (0..50).map(|n| submit(&pool, &queue, n % 2, || ())).collect();
    let report = pool.shutdown(support::LONG).unwrap();
    assert!(report.drained, "{report}");
    assert!(done.iter().all(|task| task.outcome() == Some(Outcome::Succeeded)));

    let pool = Pool::builder().workers(3).build().unwrap();
    let queue = pool.queue("q").key_limit(1).add().unwrap();
    let gate = Gate::new();
    let inside = gate.clone();
    submit(&pool, &queue, 0, move || inside.pass());
    gate.arrived(1);
    let drops = Drops::default();
    let tasks: Vec<_> = (0..10)
        .map(|n| {
            let probe = drops.probe();
            submit(&pool, &queue, n / 5, move || drop(probe))
        })
        .collect();
    // Those of the other key are done.
    tasks[5..].iter().for_each(|task| task.wait().unwrap());
    assert_eq!(drops.count(), 5);
    let report = pool.shutdown(ms(30)).unwrap();
    assert_eq!(report.abandoned.len(), 6, "{report}");
    assert!(report.threads_left >= 1, "{report}");
    assert!(report.stats.books_balance(), "{report}");
    // Those that idle are told to leave only now.
    eventually("one is left", || pool.stats().workers == 1);
    eventually("captured data is gone", || drops.count() == 10);
    gate.open();
}

#[test]
fn p05_drop_oldest_drops_what_came_first_with_or_without_key() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder(), 1);
    let queue = pool
        .queue("q")
        .capacity(6)
        .overflow(Overflow::DropOldest)
        .add()
        .unwrap();
    let options = pool.options().queue(&queue);
    let submit = |n: u32| match n % 3 {
        0 => options.spawn(|| ()).unwrap(),
        _ => options.clone().key(&(n % 2)).spawn(|| ()).unwrap(),
    };
    // More than the ring has entries, so that it closes up the holes.
    let tasks: Vec<_> = (0..500).map(submit).collect();
    for (n, task) in tasks.iter().enumerate() {
        let outcome = (n < 494).then_some(Outcome::Shed);
        assert_eq!(task.outcome(), outcome, "task {n}");
    }
    gate.open();
    assert_eq!(end(&pool).shed, 494);
}

#[test]
fn p05_a_key_of_its_own_capacity_is_a_full_queue_to_its_producers_only() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder(), 1);
    let queue = |name: &str, overflow| {
        pool.queue(name)
            .capacity(8)
            .key_capacity(2)
            .overflow(overflow)
            .add()
            .unwrap()
    };
    let to = |queue: &Queue, key: u32| pool.options().queue(queue).key(&key).spawn(|| ());
    let reject = queue("reject", Overflow::Reject);
    for key in [1, 1, 2] {
        to(&reject, key).unwrap();
    }
    let refused = to(&reject, 1).unwrap_err();
    assert_eq!(
        (refused.kind(), refused.queue()),
        (SubmitErrorKind::QueueFull, Some("reject"))
    );
    let text = refused.to_string();
    assert!(
        text.contains("by queue `reject`: queue_full") && text.contains("key_capacity"),
        "{text}"
    );
    to(&reject, 2).unwrap();
    for key in 3..7 {
        to(&reject, key).unwrap();
    }
    let text = to(&reject, 7).unwrap_err().to_string();
    assert!(
        text.contains("by queue `reject`") && text.contains("`capacity`"),
        "{text}"
    );
    reject.set_capacity(9).unwrap();
    let oldest = queue("oldest", Overflow::DropOldest);
    let other = to(&oldest, 2).unwrap();
    let tasks: Vec<_> = (0..4).map(|_| to(&oldest, 1).unwrap().outcome()).collect();
    assert_eq!(tasks, [None; 4]);
    assert_eq!((oldest.stats().queued, other.outcome()), (3, None));
    let newest = queue("newest", Overflow::DropNewest);
    let tasks: Vec<_> = (0..3).map(|_| to(&newest, 1).unwrap().outcome()).collect();
    assert_eq!(tasks, [None, None, Some(Outcome::Shed)]);
    let block = queue("block", Overflow::Block);
    to(&block, 1).unwrap();
    to(&block, 1).unwrap();
    let tried = pool.options().queue(&block).key(&1).try_spawn(|| ());
    assert_eq!(tried.unwrap_err().kind(), SubmitErrorKind::QueueFull);
    reject.set_key_capacity(None).unwrap();
    to(&reject, 1).unwrap();
    gate.open();
    end(&pool);
}

#[test]
fn p04_a_producer_that_waits_for_its_key_holds_up_no_other() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder(), 1);
    let queue = pool
        .queue("q")
        .capacity(4)
        .key_capacity(2)
        .max_blocked_producers(8)
        .add()
        .unwrap();
    let options = pool.options().queue(&queue);
    let to = |key: u32| options.clone().key(&key).spawn(|| ()).unwrap();
    let flood = [to(1), to(1)];
    std::thread::scope(|scope| {
        // Three that wait for a place of the key, and one future.
        let waiting: Vec<_> = (0..3).map(|_| scope.spawn(|| to(1))).collect();
        eventually("they wait", || queue.stats().blocked_producers == 3);
        let asynchronous = scope.spawn(|| {
            let submit = options.clone().key(&1).submit_async(|_| Ok::<_, ()>(()));
            block_on(submit).unwrap()
        });
        eventually("they wait", || queue.stats().blocked_producers == 4);
        // Two places are left, and others have them at once.
        let others = [to(2), options.clone().key(&3).try_spawn(|| ()).unwrap()];
        assert_eq!(queue.stats().queued, 4);
        // Now the queue is full. Who waits for that comes when any place is free, before those of the key.
        let full = scope.spawn(|| to(4));
        eventually("one more waits", || queue.stats().blocked_producers == 5);
        others[0].cancel();
        full.join().unwrap();
        assert_eq!((queue.stats().queued, queue.stats().blocked_producers), (4, 4));
        // A place of the key, and with it one of the queue: for the first of them.
        flood[0].cancel();
        eventually("one has come", || queue.stats().blocked_producers == 3);
        assert_eq!(queue.stats().queued, 4);
        flood[1].cancel();
        eventually("another has come", || queue.stats().blocked_producers == 2);
        gate.open();
        waiting.into_iter().for_each(|producer| drop(producer.join().unwrap()));
        asynchronous.join().unwrap().wait().unwrap();
    });
    end(&pool);
}

#[test]
fn p04_producers_of_a_full_key_leave_by_close_and_token_and_timeout() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder(), 1);
    let queue = pool.queue("q").capacity(4).key_capacity(1).add().unwrap();
    let token = CancellationToken::new();
    let options = pool.options().queue(&queue).key("k");
    options.spawn(|| ()).unwrap();
    let timed = options.clone().submit_timeout(ms(5)).spawn(|| ()).unwrap_err();
    assert_eq!(timed.kind(), SubmitErrorKind::SubmitTimedOut);
    std::thread::scope(|scope| {
        let by_token = scope.spawn(|| options.clone().token(&token).spawn(|| ()).unwrap_err().kind());
        let by_close: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| options.spawn(|| ()).unwrap_err().kind()))
            .collect();
        eventually("they wait", || queue.stats().blocked_producers == 3);
        token.cancel();
        assert_eq!(by_token.join().unwrap(), SubmitErrorKind::Cancelled);
        pool.close();
        for producer in by_close {
            assert_eq!(producer.join().unwrap(), SubmitErrorKind::ShutDown);
        }
    });
    gate.open();
    end(&pool);
}

#[test]
fn p01_p12_keys_limits_cancels_and_deadlines_all_at_once() {
    let pool = Pool::builder().workers(3).build().unwrap();
    let queues: Vec<_> = (0..3)
        .map(|n| {
            let queue = pool.queue(format!("q{n}")).capacity(12).key_limit(1).key_capacity(4);
            queue.limit(2).weight(n + 1).add().unwrap()
        })
        .collect();
    let running: Arc<Vec<AtomicUsize>> = Arc::new((0..12).map(|_| AtomicUsize::new(0)).collect());
    std::thread::scope(|scope| {
        for who in 0..6usize {
            let (pool, queues, running) = (&pool, &queues, &running);
            scope.spawn(move || {
                let mut tasks = Vec::new();
                for n in 0..400usize {
                    let (lane, key) = ((n + who) % 3, n % 4);
                    let running = running.clone();
                    let options = pool.options().queue(&queues[lane]);
                    let options = if n % 5 == 0 { options } else { options.key(&key) };
                    let options = if n % 7 == 0 { options.timeout(ms(1)) } else { options };
                    let keyed = n % 5 != 0;
                    let task = options.spawn(move || {
                        if keyed {
                            let place = &running[lane * 4 + key];
                            assert_eq!(place.fetch_add(1, SeqCst), 0, "overlaps");
                            std::thread::yield_now();
                            place.fetch_sub(1, SeqCst);
                        }
                    });
                    tasks.extend(task);
                    if n % 3 == who % 3 && !tasks.is_empty() {
                        tasks.swap_remove(tasks.len() / 2).cancel();
                    }
                }
                for task in tasks {
                    if let Err(error) = task.wait() {
                        let outcome = error.outcome().unwrap();
                        assert!(
                            matches!(outcome, Outcome::Cancelled | Outcome::DeadlineExceeded),
                            "{error:?}"
                        );
                    }
                }
            });
        }
    });
    let stats = end(&pool);
    assert_eq!(stats.panicked, 0);
    assert!(
        queues
            .iter()
            .all(|queue| queue.stats().running == 0 && queue.stats().queued == 0)
    );
}

#[test]
fn p10_a_task_held_back_by_the_key_that_its_waiter_occupies_is_told() {
    let pool = Pool::builder().workers(2).build().unwrap();
    let queue = pool.queue("q").key_limit(1).add().unwrap();
    let (inner, of_inner) = (pool.clone(), queue.clone());
    let task = submit(&pool, &queue, "k", move || {
        let same = submit(&inner, &of_inner, "k", || 1);
        let other = submit(&inner, &of_inner, "another", || 2);
        (same.wait(), other.wait().unwrap())
    });
    let (same, other) = task.wait().unwrap();
    assert!(matches!(same, Err(duly::TaskError::WouldDeadlock(_))), "{same:?}");
    assert_eq!(other, 2);
    // The one that was waited for is run all the same.
    assert_eq!(end(&pool).succeeded, 3);
}

#[test]
fn p10_a_task_held_back_by_a_key_that_another_occupies_is_waited_for() {
    let pool = Pool::builder().workers(2).build().unwrap();
    let queue = pool.queue("q").key_limit(1).add().unwrap();
    let gate = Gate::new();
    let inside = gate.clone();
    submit(&pool, &queue, "k", move || inside.pass());
    gate.arrived(1);
    let (inner, of_inner) = (pool.clone(), queue.clone());
    let (began, begin) = std::sync::mpsc::channel();
    let waits = submit(&pool, &queue, "another", move || {
        let held = submit(&inner, &of_inner, "k", || 1);
        began.send(()).unwrap();
        held.wait().unwrap()
    });
    begin.recv().unwrap();
    assert!(waits.wait_timeout(ms(30)).is_none());
    gate.open();
    assert_eq!(waits.wait().unwrap(), 1);
    end(&pool);
}

#[test]
fn p10_two_that_occupy_each_other_s_key_are_told() {
    let pool = Pool::builder().workers(2).build().unwrap();
    let queue = pool.queue("q").key_limit(1).add().unwrap();
    let both = Arc::new(std::sync::Barrier::new(2));
    let tasks = [("a", "b"), ("b", "a")].map(|(own, of_other)| {
        let (inner, of_inner, both) = (pool.clone(), queue.clone(), both.clone());
        submit(&pool, &queue, own, move || {
            both.wait();
            submit(&inner, &of_inner, of_other, || ()).wait().is_err()
        })
    });
    let told = tasks.iter().filter(|task| task.wait().unwrap()).count();
    assert_eq!(told, 1, "one is told, and the other goes on");
    end(&pool);
}

#[test]
fn p10_two_that_occupy_each_other_s_limit_are_told() {
    let pool = Pool::builder().workers(2).build().unwrap();
    let queues = ["a", "b"].map(|name| pool.queue(name).limit(1).add().unwrap());
    let both = Arc::new(std::sync::Barrier::new(2));
    let tasks = [0, 1].map(|own| {
        let (inner, other, both) = (pool.clone(), queues[1 - own].clone(), both.clone());
        pool.options()
            .queue(&queues[own])
            .spawn(move || {
                both.wait();
                inner.options().queue(&other).spawn(|| ()).unwrap().wait().is_err()
            })
            .unwrap()
    });
    let told = tasks.iter().filter(|task| task.wait().unwrap()).count();
    assert_eq!(told, 1, "one is told, and the other goes on");
    end(&pool);
}

#[test]
fn p10_the_next_of_a_key_is_run_by_who_waits_for_it() {
    let pool = Pool::builder().workers(1).max_replacements(0).build().unwrap();
    let queue = pool.queue("q").key_limit(1).add().unwrap();
    let (inner, of_inner) = (pool.clone(), queue.clone());
    let task = submit(&pool, &queue, 0, move || {
        let tasks: Vec<_> = (0..3)
            .map(|_| submit(&inner, &of_inner, 1, || std::thread::current().id()))
            .collect();
        let here = std::thread::current().id();
        tasks.iter().all(|task| task.wait().unwrap() == here)
    });
    assert!(task.wait().unwrap());
    eventually("every permit is back", || queue.stats().running == 0);
    end(&pool);
}

#[test]
fn p04_a_future_that_was_woken_for_a_place_is_not_woken_again_by_those_behind_it() {
    struct Count(AtomicUsize);
    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    let (pool, gate, _stuck) = stuck_pool(Pool::builder(), 1);
    let queue = pool.queue("q").capacity(2).key_capacity(10).add().unwrap();
    let queued = [1, 2].map(|key| submit(&pool, &queue, key, || ()));
    let woken = Arc::new(Count(AtomicUsize::new(0)));
    let waker = std::task::Waker::from(woken.clone());
    let options = pool.options().queue(&queue).key(&3);
    let mut first = Box::pin(options.submit_async(|_| Ok::<_, ()>(3)));
    let mut cx = std::task::Context::from_waker(&waker);
    assert!(first.as_mut().poll(&mut cx).is_pending());
    assert!(queued[0].cancel());
    eventually("there is a place for it", || woken.0.load(SeqCst) == 1);
    // Nobody polls it: the place stays its own, and who comes behind it waits for as long as was said.
    for key in [3, 4] {
        let behind = pool.options().queue(&queue).key(&key).submit_timeout(ms(20));
        assert_eq!(behind.spawn(|| ()).unwrap_err().kind(), SubmitErrorKind::SubmitTimedOut);
    }
    assert_eq!(woken.0.load(SeqCst), 1, "once is enough");
    let std::task::Poll::Ready(Ok(first)) = first.as_mut().poll(&mut cx) else {
        panic!("its place is gone");
    };
    gate.open();
    assert_eq!(first.wait().unwrap(), 3);
    end(&pool);
}
