//! P3: delivery never blocks: workers wait for nobody, user code that came due elsewhere runs on a delivery thread.

mod support;

use duly::{Outcome, Pool};
use std::sync::mpsc;
use std::time::Instant;
use support::*;

#[test]
fn p03_a_worker_goes_on_although_nobody_takes_the_results() {
    let pool = Pool::builder().workers(1).capacity(8).build().unwrap();
    let kept: Vec<_> = (0..10_000u64)
        .map(|i| pool.spawn(move || vec![i; 4]).unwrap())
        .collect();
    for (i, task) in kept.into_iter().enumerate() {
        assert_eq!(task.wait().unwrap(), vec![i as u64; 4]);
    }
    end(&pool);
}

struct BlocksWhenDropped(Gate);

impl Drop for BlocksWhenDropped {
    fn drop(&mut self) {
        self.0.pass();
    }
}

#[test]
fn p03_a_destructor_that_blocks_delays_neither_answers_nor_deadlines() {
    let (pool, gate, _stuck) = stuck_pool(Pool::builder().replace_after(ms(20)), 1);
    let blocked = Gate::new();
    // Cancelled in the queue: its data's destructor blocks on the delivery thread.
    let captured = BlocksWhenDropped(blocked.clone());
    let bad = pool.spawn(move || drop(captured)).unwrap();
    let began = Instant::now();
    assert!(bad.cancel());
    assert!(began.elapsed() < LONG / 2, "cancel runs no destructor");
    assert_eq!(bad.outcome(), Some(Outcome::Cancelled));
    blocked.arrived(1);
    assert!(!bad.is_released());
    let late = pool.options().timeout(ms(20)).spawn(|| ()).unwrap();
    assert_eq!(late.wait_outcome(LONG), Some(Outcome::DeadlineExceeded));
    blocked.open();
    assert!(bad.released(LONG));
    gate.open();
    end(&pool);
}

#[test]
fn p03_a_stuck_delivery_thread_is_replaced() {
    let pool = Pool::builder()
        .workers(1)
        .max_replacements(2)
        .replace_after(ms(20))
        .build()
        .unwrap();
    let gate = Gate::new();
    let running = {
        let gate = gate.clone();
        pool.spawn(move || gate.pass()).unwrap()
    };
    gate.arrived(1);
    let blocked = Gate::new();
    let drops = Drops::default();
    // And the one that takes its place as well.
    for stuck in 1..=2 {
        let captured = BlocksWhenDropped(blocked.clone());
        let bad = pool.spawn(move || drop(captured)).unwrap();
        assert!(bad.cancel());
        blocked.arrived(stuck);
        // These come behind the stuck one.
        for _ in 0..10 {
            let probe = drops.probe();
            pool.spawn(move || drop(probe)).unwrap().cancel();
        }
        eventually("the others' data is dropped", || drops.count() == 10 * stuck);
        assert!(!bad.is_released());
    }
    blocked.open();
    gate.open();
    running.wait().unwrap();
    end(&pool);
}

#[test]
fn p03_a_completion_callback_that_blocks_does_not_block_waiters() {
    let pool = Pool::builder().workers(1).max_replacements(0).build().unwrap();
    let gate = Gate::new();
    let start = Gate::new();
    let task = {
        let start = start.clone();
        pool.spawn(move || start.pass()).unwrap()
    };
    {
        let gate = gate.clone();
        task.on_complete(move |_| gate.pass());
    }
    start.open();
    task.wait().unwrap();
    // Deadlines still fire while the pool's one worker is inside that callback.
    let late = pool.options().timeout(ms(20)).spawn(|| ()).unwrap();
    assert_eq!(late.wait_outcome(LONG), Some(Outcome::DeadlineExceeded));
    gate.open();
    end(&pool);
}

#[test]
fn p03_a_worker_stuck_in_a_completion_callback_is_replaced() {
    let pool = Pool::builder().workers(1).replace_after(ms(20)).build().unwrap();
    let (running, gate) = (Gate::new(), Gate::new());
    let task = {
        let running = running.clone();
        pool.spawn(move || running.pass()).unwrap()
    };
    {
        let gate = gate.clone();
        task.on_complete(move |_| gate.pass());
    }
    running.open();
    gate.arrived(1);
    assert_eq!(pool.options().timeout(LONG).spawn(|| 6).unwrap().wait().unwrap(), 6);
    gate.open();
    end(&pool);
}

#[test]
fn p03_callbacks_run_on_the_worker_that_ended_the_task_or_a_delivery_thread() {
    let pool = Pool::builder().name("p03w").workers(1).build().unwrap();
    let here = || std::thread::current().name().unwrap_or_default().to_owned();
    let (send, receive) = mpsc::channel();
    let gate = Gate::new();
    let task = {
        let gate = gate.clone();
        pool.spawn(move || gate.pass()).unwrap()
    };
    {
        let send = send.clone();
        task.on_complete(move |_| send.send(here()).unwrap());
    }
    gate.open();
    assert_eq!(receive.recv_timeout(LONG).unwrap(), "p03w-0");
    let gate = Gate::new();
    let task = {
        let gate = gate.clone();
        pool.spawn(move || gate.pass()).unwrap()
    };
    task.on_complete(move |_| send.send(here()).unwrap());
    task.cancel();
    assert_eq!(receive.recv_timeout(LONG).unwrap(), "p03w-deliver");
    gate.open();
    end(&pool);
}

#[test]
fn p03_on_cancel_hooks_run_when_cancelled_and_only_then() {
    let pool = Pool::builder().workers(1).build().unwrap();
    let (send, receive) = mpsc::channel();
    let (tell_cancelled, cancelled) = mpsc::channel::<()>();
    let drops = Drops::default();
    // A callback that blocks in a read; the hook ends the read.
    let task = {
        let (send, probe) = (send.clone(), drops.probe());
        pool.submit(move |ctx| {
            let _keep = ctx.on_cancel(move |why| {
                let _probe = probe;
                send.send(why.to_string()).unwrap();
                tell_cancelled.send(()).unwrap();
            });
            cancelled.recv_timeout(LONG).map_err(|_| "nobody cancelled")
        })
        .unwrap()
    };
    eventually("it runs", || pool.running().len() == 1);
    std::thread::sleep(ms(5));
    assert!(task.cancel_with("enough"));
    assert!(receive.recv_timeout(LONG).unwrap().contains("enough"));
    assert!(task.released(LONG));
    eventually("the hook's data is gone", || drops.count() == 1);
    // Ends by itself: the hook is dropped unused.
    let quiet = {
        let probe = drops.probe();
        pool.submit(move |ctx| {
            ctx.on_cancel(move |_| {
                let _probe = probe;
                send.send("ran".into()).unwrap();
            })
            .forget();
            Ok::<_, ()>(())
        })
        .unwrap()
    };
    quiet.wait().unwrap();
    eventually("the hook's data is gone", || drops.count() == 2);
    assert!(receive.try_recv().is_err());
    end(&pool);
}

#[test]
fn p03_a_worker_stuck_in_a_values_destructor_is_replaced_and_shown() {
    let pool = Pool::builder().workers(1).replace_after(ms(20)).build().unwrap();
    let gate = Gate::new();
    let value = BlocksWhenDropped(gate.clone());
    let left = Gate::new();
    let leaves = left.clone();
    let task = pool
        .spawn(move || {
            left.pass();
            value
        })
        .unwrap();
    // The handle goes before the callback returns: the worker drops the value.
    drop(task);
    leaves.open();
    gate.arrived(1);
    assert_eq!(pool.options().timeout(LONG).spawn(|| 6).unwrap().wait().unwrap(), 6);
    eventually("it is counted", || pool.stats().replaced == 1);
    gate.open();
    end(&pool);
}

#[test]
fn p03_an_on_cancel_hook_that_comes_late_runs_at_once_and_one_that_was_dropped_never() {
    let pool = Pool::builder().workers(1).build().unwrap();
    let gate = Gate::new();
    let (send, receive) = mpsc::channel();
    let task = {
        let gate = gate.clone();
        pool.submit(move |ctx| {
            let dropped = send.clone();
            drop(ctx.on_cancel(move |_| dropped.send("the dropped one").unwrap()));
            gate.pass();
            let _late = ctx.on_cancel(move |_| send.send("the late one").unwrap());
            Ok::<_, ()>(())
        })
        .unwrap()
    };
    gate.arrived(1);
    assert!(task.cancel());
    gate.open();
    assert!(task.released(LONG));
    end(&pool);
    assert_eq!(receive.iter().collect::<Vec<_>>(), ["the late one"]);
}

#[test]
fn p03_a_delivery_thread_that_gets_stuck_after_the_first_look_is_replaced() {
    struct Slow;
    impl Drop for Slow {
        fn drop(&mut self) {
            std::thread::sleep(ms(30));
        }
    }
    let pool = Pool::builder()
        .workers(1)
        .max_replacements(1)
        .replace_after(ms(40))
        .build()
        .unwrap();
    let gate = Gate::new();
    let pass = gate.clone();
    let _running = pool.spawn(move || pass.pass()).unwrap();
    gate.arrived(1);
    let (blocked, drops) = (Gate::new(), Drops::default());
    let (slow, blocks, probe) = (Slow, BlocksWhenDropped(blocked.clone()), drops.probe());
    // Behind a slow one, so that at the first look the second has not been stuck for long.
    pool.spawn(move || drop(slow)).unwrap().cancel();
    pool.spawn(move || drop(blocks)).unwrap().cancel();
    pool.spawn(move || drop(probe)).unwrap().cancel();
    eventually("what comes behind is dropped", || drops.count() == 1);
    blocked.open();
    gate.open();
    end(&pool);
}
