//! Completion queues: however a task ends, it is put there once; delivering waits for nobody; places are reserved at submit and
//! come back; the descriptor is readable exactly while completions wait.

mod support;

use duly::{CancellationToken, Completions, Outcome, Overflow, Pool, SubmitErrorKind, WaitError};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::*;

/// Whether the descriptor becomes readable within so many milliseconds.
fn readable(fd: BorrowedFd<'_>, within: i32) -> bool {
    let mut poll = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one entry, valid for the call.
    unsafe { libc::poll(&raw mut poll, 1, within) == 1 && poll.revents & libc::POLLIN != 0 }
}

/// Takes until so many have come: tag and outcome of each.
fn all(answers: &Completions, count: usize) -> BTreeMap<u64, Outcome> {
    let mut seen = BTreeMap::new();
    while seen.len() < count {
        for completion in answers.take(3, LONG).expect("more are to come") {
            let before = seen.insert(completion.tag, completion.outcome);
            assert_eq!(before, None, "task {} was delivered twice", completion.tag);
        }
    }
    seen
}

#[test]
fn p01_every_end_is_delivered_once_with_its_outcome_and_tag() {
    let answers = Completions::new(20);
    let (pool, gate, _stuck) = stuck_pool(Pool::builder().capacity(3).overflow(Overflow::DropOldest), 1);
    let token = CancellationToken::new();
    let with = |tag: u64| pool.options().completions(&answers, tag);
    // Shed, cancelled by its handle, by its token, late: none of them runs.
    with(0).spawn(|| ()).unwrap();
    let cancelled = with(1).spawn(|| ()).unwrap();
    with(2).token(&token).spawn(|| ()).unwrap();
    with(3).timeout(ms(20)).spawn(|| ()).unwrap();
    assert!(cancelled.cancel() && !cancelled.cancel());
    token.cancel();
    assert_eq!(
        Vec::from_iter(all(&answers, 4)),
        [
            (0, Outcome::Shed),
            (1, Outcome::Cancelled),
            (2, Outcome::Cancelled),
            (3, Outcome::DeadlineExceeded)
        ]
    );
    gate.open();
    end(&pool);

    let pool = Pool::builder().workers(3).build().unwrap();
    let with = |tag: u64| pool.options().completions(&answers, tag);
    let gate = Gate::new();
    let succeeds = with(4).spawn(|| ()).unwrap();
    let fails = with(5).submit(|_| Err::<(), _>("no")).unwrap();
    let panics = with(6).spawn(|| panic!("planted")).unwrap();
    // Over before the pool's end, however long it takes to print a panic.
    assert!(
        succeeds.wait_outcome(LONG).is_some()
            && fails.wait_outcome(LONG).is_some()
            && panics.wait_outcome(LONG).is_some()
    );
    // Running when they end.
    for (tag, timeout) in [(7, None), (8, Some(ms(1500))), (9, None)] {
        let (there, door) = (Gate::new(), gate.clone());
        let arrived = there.clone();
        there.open();
        let options = with(tag);
        let options = if let Some(timeout) = timeout {
            options.timeout(timeout)
        } else {
            options
        };
        let task = options
            .spawn(move || {
                arrived.pass();
                door.pass();
            })
            .unwrap();
        there.arrived(1);
        if tag == 7 {
            task.cancel();
        }
        if tag < 9 {
            assert!(task.wait_outcome(LONG).is_some());
        }
    }
    let report = pool.shutdown(ms(10)).unwrap();
    assert_eq!(report.stats.abandoned, 1);
    assert_eq!(
        Vec::from_iter(all(&answers, 6)),
        [
            (4, Outcome::Succeeded),
            (5, Outcome::Failed),
            (6, Outcome::Panicked),
            (7, Outcome::Cancelled),
            (8, Outcome::DeadlineExceeded),
            (9, Outcome::Abandoned)
        ]
    );
    gate.open();
    assert_eq!((answers.free(), answers.len()), (20, 0));
    assert!(answers.take(1, Duration::ZERO).is_err(), "there is another");
}

#[test]
fn p01_many_submitters_and_takers() {
    let pool = Pool::builder().workers(2).build().unwrap();
    let answers = Completions::new(64);
    let (tasks, takers) = (4_000, 2);
    let seen: Vec<AtomicU64> = (0..tasks).map(|_| AtomicU64::new(0)).collect();
    let left = AtomicU64::new(tasks);
    std::thread::scope(|scope| {
        for part in 0..2 {
            let (pool, answers) = (&pool, &answers);
            scope.spawn(move || {
                for tag in (part * tasks / 2)..((part + 1) * tasks / 2) {
                    loop {
                        match pool.options().completions(answers, tag).spawn(move || tag) {
                            Ok(_) => break,
                            Err(full) => assert_eq!(full.completions(), Some("completions")),
                        }
                        std::thread::yield_now();
                    }
                }
            });
        }
        for taker in 0..takers {
            let (answers, seen, left) = (&answers, &seen, &left);
            scope.spawn(move || {
                while left.load(Ordering::Relaxed) > 0 {
                    // One waits by the descriptor, the other in the call.
                    let wait = if taker == 0 {
                        readable(answers.fd().unwrap(), 20);
                        Duration::ZERO
                    } else {
                        ms(20)
                    };
                    for completion in answers.take(7, wait).unwrap_or_default() {
                        let tag = completion.tag;
                        let task = completion.into_task::<u64, Infallible>().unwrap();
                        assert_eq!(task.wait(), Ok(tag));
                        seen[tag as usize].fetch_add(1, Ordering::Relaxed);
                        left.fetch_sub(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert!(seen.iter().all(|seen| seen.load(Ordering::Relaxed) == 1));
    assert_eq!((answers.free(), answers.len()), (64, 0));
    assert!(!readable(answers.fd().unwrap(), 0));
    end(&pool);
}

#[test]
fn p01_the_handle_is_had_by_its_types_only() {
    let pool = Pool::builder().workers(1).build().unwrap();
    let answers = Completions::new(1);
    pool.options().completions(&answers, 'x').spawn(|| 7u32).unwrap();
    let completion = answers.take(1, LONG).unwrap().remove(0);
    let completion = completion.into_task::<u64, Infallible>().unwrap_err();
    let completion = completion.into_task::<u32, ()>().unwrap_err();
    assert_eq!(completion.tag, 'x');
    assert_eq!(completion.into_task::<u32, Infallible>().unwrap().wait(), Ok(7));
    end(&pool);
}

#[test]
fn p03_nobody_has_to_take() {
    let pool = Pool::builder().workers(2).build().unwrap();
    let answers = Completions::new(1_000);
    let tasks: Vec<_> = (0..1_000)
        .map(|tag| pool.options().completions(&answers, tag).spawn(move || tag).unwrap())
        .collect();
    // They end although nobody takes, and so does what comes after them.
    assert_eq!(pool.spawn(|| 7).unwrap().wait(), Ok(7));
    for (tag, task) in (0..).zip(&tasks) {
        assert_eq!(task.wait(), Ok(tag));
    }
    end(&pool);
    eventually("all are there", || answers.len() == 1_000);
    assert_eq!(all(&answers, 1_000).len(), 1_000);
}

/// What no worker ended is delivered by whoever ended it: a stuck delivery thread delays nothing.
#[test]
fn p03_delivery_does_not_depend_on_the_delivery_thread() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder().max_replacements(0), 1);
    let blocked = Gate::new();
    let (stuck, door) = (pool.spawn(|| ()).unwrap(), blocked.clone());
    stuck.on_complete(move |_| door.pass());
    stuck.cancel();
    blocked.arrived(1);
    let answers = Completions::new(2);
    let by_handle = pool.options().completions(&answers, 1).spawn(|| ()).unwrap();
    pool.options()
        .completions(&answers, 2)
        .timeout(ms(10))
        .spawn(|| ())
        .unwrap();
    by_handle.cancel();
    assert_eq!(all(&answers, 2).len(), 2);
    blocked.open();
    gate.open();
    end(&pool);
}

#[test]
fn p03_the_descriptor_is_readable_exactly_while_completions_wait() {
    let pool = Pool::builder().workers(1).build().unwrap();
    let answers = Completions::new(3);
    let fd = answers.fd().unwrap();
    assert!(!readable(fd, 0));
    let spawn = |tag| pool.options().completions(&answers, tag).spawn(|| ()).unwrap();
    spawn(0);
    assert!(readable(fd, LONG.as_millis() as i32));
    // Level-triggered: as long as one is left.
    spawn(1).wait().unwrap();
    eventually("both are there", || answers.len() == 2);
    assert_eq!(answers.take(1, Duration::ZERO).unwrap().len(), 1);
    assert!(readable(fd, 0));
    assert_eq!(answers.take(9, Duration::ZERO).unwrap().len(), 1);
    assert!(!readable(fd, 0));
    spawn(2);
    assert!(readable(fd, LONG.as_millis() as i32));
    // One that is first asked for when there is something already.
    let late = Completions::new(1);
    pool.options().completions(&late, 3).spawn(|| ()).unwrap();
    eventually("it is there", || late.len() == 1);
    assert!(readable(late.fd().unwrap(), 0));
    // SAFETY: a flag of a descriptor that is open.
    assert_eq!(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFD) }, libc::FD_CLOEXEC);
    end(&pool);
}

#[test]
fn p04_a_take_that_waits_is_woken() {
    let pool = Pool::builder().workers(1).build().unwrap();
    let answers = Completions::new(1);
    std::thread::scope(|scope| {
        let began = Instant::now();
        let waits = scope.spawn(|| answers.take(1, LONG).map(|taken| taken.len()));
        let gate = Gate::new();
        let door = gate.clone();
        pool.options()
            .completions(&answers, 7)
            .spawn(move || door.pass())
            .unwrap();
        gate.arrived(1);
        std::thread::yield_now();
        gate.open();
        assert_eq!(waits.join().unwrap(), Ok(1));
        assert!(began.elapsed() < LONG / 2, "it was not woken");
    });
    end(&pool);
}

#[test]
fn p04_a_take_ends_with_its_timeout_or_its_token() {
    let answers = Completions::<u64>::new(1);
    let began = Instant::now();
    assert_eq!(answers.take(1, ms(30)).unwrap_err(), WaitError::TimedOut(ms(30)));
    assert!(began.elapsed() >= ms(30));
    assert!(answers.take(0, LONG).unwrap().is_empty(), "nothing was asked for");
    let token = CancellationToken::new();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| answers.take_with(1, &token, None));
        token.cancel_with("enough");
        assert_eq!(
            waits.join().unwrap().unwrap_err(),
            WaitError::Cancelled("enough".into())
        );
    });
    let late = CancellationToken::with_timeout(ms(20));
    assert!(matches!(
        answers.take_with(1, &late, None),
        Err(WaitError::Cancelled(_))
    ));
}

#[test]
fn p05_a_place_is_reserved_at_submit_and_free_when_taken() {
    let pool = Pool::builder().workers(1).build().unwrap();
    let answers = Completions::with_label("answers", 2);
    let submit = |tag| pool.options().completions(&answers, tag).try_spawn(|| ());
    let (one, two) = (submit(1).unwrap(), submit(2).unwrap());
    let full = submit(3).unwrap_err();
    assert_eq!(
        (full.kind(), full.completions(), full.queue()),
        (SubmitErrorKind::QueueFull, Some("answers"), None)
    );
    assert!(full.to_string().contains("by completion queue `answers`"), "{full}");
    assert!(full.to_string().contains("take completions"), "{full}");
    // One that waits for room does not wait for a place, and neither does an async one.
    let refused = pool.options().completions(&answers, 3).spawn(|| ()).unwrap_err();
    assert_eq!(refused.completions(), Some("answers"));
    let mut later = Box::pin(
        pool.options()
            .completions(&answers, 3)
            .submit_async(|_| Ok::<_, Infallible>(())),
    );
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match std::future::Future::poll(later.as_mut(), &mut cx) {
        std::task::Poll::Ready(Err(refused)) => assert_eq!(refused.completions(), Some("answers")),
        other => panic!("{other:?}"),
    }
    // That they have ended gives no place back: that they were taken does.
    one.wait().unwrap();
    two.wait().unwrap();
    assert_eq!((answers.free(), submit(3).is_err()), (0, true));
    assert_eq!(answers.take(1, LONG).unwrap().len(), 1);
    assert_eq!(answers.free(), 1);
    submit(4).unwrap();
    assert_eq!(pool.stats().refused, 4);
    end(&pool);
}

#[test]
fn p05_a_refused_submit_gives_its_place_back() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder().capacity(1).max_blocked_producers(0), 1);
    let answers = Completions::new(8);
    let with = |tag: u64| pool.options().completions(&answers, tag);
    with(1).try_spawn(|| ()).unwrap();
    for _ in 0..3 {
        let full = with(2).try_spawn(|| ()).unwrap_err();
        assert_eq!((full.kind(), full.completions()), (SubmitErrorKind::QueueFull, None));
        assert_eq!(with(2).spawn(|| ()).unwrap_err().kind(), SubmitErrorKind::QueueFull);
    }
    assert_eq!(answers.free(), 7);
    let token = CancellationToken::new();
    token.cancel();
    assert_eq!(
        with(3).token(&token).spawn(|| ()).unwrap_err().kind(),
        SubmitErrorKind::Cancelled
    );
    pool.close();
    assert_eq!(with(3).spawn(|| ()).unwrap_err().kind(), SubmitErrorKind::ShutDown);
    assert_eq!(answers.free(), 7);
    gate.open();
    end(&pool);
    assert_eq!(all(&answers, 1).len(), 1);
}

#[test]
fn p05_of_many_as_many_are_accepted_as_there_are_places() {
    let pool = Pool::builder().workers(1).build().unwrap();
    let answers = Completions::new(70);
    let cut = pool
        .options()
        .completions(&answers, 7)
        .spawn_many((0..100).map(|n| move || n))
        .unwrap_err();
    assert_eq!(cut.kind(), SubmitErrorKind::QueueFull);
    let (accepted, left) = cut.into_parts();
    assert_eq!((accepted.len(), left.len(), answers.free()), (70, 30, 0));
    let mut taken = 0;
    while taken < 70 {
        taken += answers.take(100, LONG).unwrap().len();
    }
    assert_eq!(answers.free(), 70);
    end(&pool);
}

#[test]
fn p06_what_nobody_took_is_dropped_with_the_queue_and_what_comes_later_too() {
    let pool = Pool::builder().workers(1).build().unwrap();
    let (values, tags) = (Drops::default(), Drops::default());
    let answers = Completions::new(3);
    let gate = Gate::new();
    let with = |tag: u64| pool.options().completions(&answers, (tag, Arc::new(tags.probe())));
    let (value, door) = (values.probe(), gate.clone());
    let first = with(0).spawn(move || value).unwrap();
    eventually("it has ended", || first.outcome().is_some());
    let value = values.probe();
    let running = with(1)
        .spawn(move || {
            door.pass();
            value
        })
        .unwrap();
    gate.arrived(1);
    let late = with(2).timeout(ms(1000)).spawn(|| ()).unwrap();
    drop(first);
    assert_eq!((values.count(), tags.count()), (0, 0));
    // The first waits to be taken, the others are under way.
    drop(answers);
    assert_eq!((values.count(), tags.count()), (1, 1));
    assert_eq!(late.wait_outcome(LONG), Some(Outcome::DeadlineExceeded));
    gate.open();
    assert_eq!(running.wait_outcome(LONG), Some(Outcome::Succeeded));
    drop((running, late));
    eventually("the tags are gone", || tags.count() == 3);
    eventually("the values are gone", || values.count() == 2);
    end(&pool);
}

/// Says on which thread it was dropped.
struct Told(std::sync::mpsc::Sender<String>);

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self
            .0
            .send(std::thread::current().name().unwrap_or_default().to_owned());
    }
}

#[test]
fn p03_no_tag_is_dropped_on_the_timer_thread() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder(), 1);
    let (tell, told) = std::sync::mpsc::channel();
    let answers = Completions::new(1);
    let tag = Arc::new(std::sync::Mutex::new(Told(tell)));
    let task = pool
        .options()
        .completions(&answers, tag)
        .timeout(ms(50))
        .spawn(|| ())
        .unwrap();
    drop(answers);
    assert_eq!(task.wait_outcome(LONG), Some(Outcome::DeadlineExceeded));
    let thread = told.recv_timeout(LONG).unwrap();
    assert!(!thread.ends_with("-timer"), "dropped on the timer thread: {thread}");
    gate.open();
    end(&pool);
}

#[test]
fn p09_no_descriptor_is_left() {
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let one = Completions::<u64>::new(1);
    let number = one.fd().unwrap().as_raw_fd();
    assert_eq!(one.clone().fd().unwrap().as_raw_fd(), number);
    let path = format!("/proc/self/fd/{number}");
    assert!(std::fs::read_link(&path).unwrap().to_string_lossy().contains("eventfd"));
    drop(one);
    let before = open();
    // Other tests open some meanwhile: but not a thousand.
    for _ in 0..1_000 {
        Completions::<u64>::new(1).fd().unwrap();
    }
    assert!(open() < before + 500, "descriptors are left");
}

#[test]
fn p10_a_worker_that_takes_is_stood_in_for() {
    let pool = Pool::builder().workers(1).max_replacements(1).build().unwrap();
    let answers = Completions::new(1);
    let (inner, queue) = (pool.clone(), answers.clone());
    let task = pool.spawn(move || {
        inner.options().completions(&queue, 7).spawn(|| ()).unwrap();
        queue.take(1, LONG).map(|taken| taken.len())
    });
    assert_eq!(task.unwrap().wait().unwrap(), Ok(1));
    end(&pool);
}

#[test]
fn p12_a_failure_that_was_delivered_to_nobody_is_reported() {
    let heard = Arc::new(AtomicU64::new(0));
    let hook = heard.clone();
    let pool = Pool::builder()
        .workers(1)
        .on_unobserved(move |_| {
            hook.fetch_add(1, Ordering::Relaxed);
        })
        .build()
        .unwrap();
    let answers = Completions::new(2);
    let fail = |tag| {
        let task = pool
            .options()
            .completions(&answers, tag)
            .submit(|_| Err::<(), _>("no"))
            .unwrap();
        eventually("it is delivered", || answers.len() == 1);
        drop(task);
    };
    fail(1);
    // Who takes it sees how it ended.
    assert_eq!(answers.take(1, LONG).unwrap()[0].outcome, Outcome::Failed);
    fail(2);
    drop(answers);
    eventually("it is reported", || heard.load(Ordering::Relaxed) >= 1);
    end(&pool);
    assert_eq!(heard.load(Ordering::Relaxed), 1);
}
