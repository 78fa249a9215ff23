//! Context crosses submit: what a carrier captures where a task is submitted is there where its callback runs, and nowhere
//! else; its hooks are user code that harms nothing.

mod support;

use duly::{Carry, Outcome, Overflow, Pool, PoolBuilder, TaskError};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use support::*;

thread_local!(static ID: Cell<u32> = const { Cell::new(0) });

/// Carries [`ID`].
struct Id;

/// Sets [`ID`] back.
struct Restore(u32);

impl Carry for Id {
    type Captured = u32;
    type Entered = Restore;

    fn capture(&self) -> Option<u32> {
        Some(ID.get())
    }

    fn enter(&self, captured: &u32) -> Restore {
        Restore(ID.replace(*captured))
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        ID.set(self.0);
    }
}

fn carrying(options: PoolBuilder) -> Pool {
    options.context(Id).build().unwrap()
}

#[test]
fn p13_every_way_to_submit_carries_the_submitters_context() {
    let pool = carrying(Pool::builder().workers(2));
    ID.set(7);
    assert_eq!(pool.spawn(|| ID.get()).unwrap().wait().unwrap(), 7);
    let with_options = pool.options().label("labelled").timeout(LONG);
    assert_eq!(with_options.spawn(|| ID.get()).unwrap().wait().unwrap(), 7);
    assert_eq!(pool.try_spawn(|| ID.get()).unwrap().wait().unwrap(), 7);
    let many = pool.spawn_many((0..100).map(|_| || ID.get())).unwrap();
    assert!(many.iter().all(|task| task.wait().unwrap() == 7));
    let mapped: Vec<u32> = pool.map(0..100, |_| ID.get()).map(Result::unwrap).collect();
    assert_eq!(mapped, [7; 100]);
    let submitted = pool.submit_async(|_| Ok::<_, ()>(ID.get()));
    let run = pool.run(|_| Ok::<_, ()>(ID.get()));
    // Captured when it was submitted, not when it is polled.
    ID.set(8);
    assert_eq!(block_on(submitted).unwrap().wait().unwrap(), 7);
    assert_eq!(block_on(run).unwrap(), 7);
    end(&pool);
}

#[test]
fn p13_a_callback_passes_its_context_on() {
    let pool = carrying(Pool::builder().workers(2));
    ID.set(3);
    let task = pool
        .submit(|ctx| {
            let inner = ctx.pool().spawn(|| ID.get()).unwrap();
            ID.set(4);
            let other = ctx.pool().spawn(|| ID.get()).unwrap();
            Ok::<_, ()>((inner.wait().unwrap(), other.wait().unwrap()))
        })
        .unwrap();
    assert_eq!(task.wait().unwrap(), (3, 4));
    end(&pool);
}

#[test]
fn p13_a_caller_that_runs_has_its_own_context_and_gets_it_back() {
    let builder = Pool::builder().capacity(1).overflow(Overflow::CallerRuns).context(Id);
    let (pool, gate, _stuck) = stuck_pool(builder, 1);
    let _queued = pool.spawn(|| ()).unwrap();
    ID.set(5);
    let here = std::thread::current().id();
    let task = pool
        .spawn(move || {
            assert_eq!(std::thread::current().id(), here);
            ID.replace(6)
        })
        .unwrap();
    assert_eq!((task.wait().unwrap(), ID.get()), (5, 5));
    gate.open();
    end(&pool);
}

#[test]
fn p03_the_context_is_around_the_callback_and_around_nothing_else() {
    struct Value(Arc<Mutex<Vec<u32>>>);
    impl Drop for Value {
        fn drop(&mut self) {
            self.0.lock().unwrap().push(ID.get());
        }
    }
    let pool = carrying(Pool::builder().workers(1));
    ID.set(9);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (gate, value) = (Gate::new(), seen.clone());
    let (inside, told) = (gate.clone(), seen.clone());
    let task = pool
        .spawn(move || {
            inside.pass();
            Value(value)
        })
        .unwrap();
    task.on_complete(move |_| told.lock().unwrap().push(ID.get()));
    // Nobody takes the value: the worker drops it.
    drop(task);
    gate.open();
    eventually("both were called", || seen.lock().unwrap().len() == 2);
    assert_eq!(*seen.lock().unwrap(), [0, 0]);
    // What a worker had entered is not there for the next task.
    ID.set(0);
    assert_eq!(pool.spawn(|| ID.get()).unwrap().wait().unwrap(), 0);
    end(&pool);
}

/// Notes its steps, and panics at one of them.
struct Steps {
    name: &'static str,
    log: Arc<Mutex<Vec<String>>>,
    panics_at: Option<&'static str>,
}

/// What it captured, or entered: says when it goes.
struct Step(
    &'static str,
    &'static str,
    Arc<Mutex<Vec<String>>>,
    Option<&'static str>,
);

impl Steps {
    fn new(name: &'static str, log: &Arc<Mutex<Vec<String>>>, panics_at: Option<&'static str>) -> Steps {
        let log = log.clone();
        Steps { name, log, panics_at }
    }

    fn step(&self, end: &'static str) -> Step {
        Step(self.name, end, self.log.clone(), self.panics_at)
    }
}

fn note(name: &str, what: &'static str, log: &Mutex<Vec<String>>, panics_at: Option<&str>) {
    log.lock().unwrap().push(format!("{name} {what}"));
    if panics_at == Some(what) {
        panic!("planted at {what}");
    }
}

impl Carry for Steps {
    type Captured = Step;
    type Entered = Step;

    fn capture(&self) -> Option<Step> {
        note(self.name, "captures", &self.log, self.panics_at);
        Some(self.step("is dropped"))
    }

    fn enter(&self, _: &Step) -> Step {
        note(self.name, "enters", &self.log, self.panics_at);
        self.step("leaves")
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        note(self.0, self.1, &self.2, self.3);
    }
}

#[test]
fn p06_carriers_nest_and_what_they_captured_goes_after_the_callback() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let builder = Pool::builder().workers(1);
    let builder = ["one", "two", "three"]
        .into_iter()
        .fold(builder, |builder, name| builder.context(Steps::new(name, &log, None)));
    let pool = builder.build().unwrap();
    let inside = log.clone();
    let task = pool.spawn(move || inside.lock().unwrap().push("runs".into())).unwrap();
    task.wait().unwrap();
    assert!(task.is_released());
    let log = log.lock().unwrap().join(", ");
    assert_eq!(
        log,
        "one captures, two captures, three captures, one enters, two enters, three enters, runs, three leaves, two \
         leaves, one leaves, one is dropped, two is dropped, three is dropped"
    );
    end(&pool);
}

#[test]
fn p07_a_panic_of_a_hook_harms_nobody() {
    for panics_at in ["captures", "enters", "leaves", "is dropped"] {
        let log = Arc::new(Mutex::new(Vec::new()));
        let builder = Pool::builder().workers(1);
        let builder = builder.context(Steps::new("outer", &log, None));
        let builder = builder.context(Steps::new("planted", &log, Some(panics_at)));
        let pool = builder.context(Steps::new("inner", &log, None)).build().unwrap();
        assert_eq!(pool.spawn(|| 42).unwrap().wait().unwrap(), 42, "{panics_at}");
        let failed = pool.submit(|_| Err::<(), _>("no")).unwrap().wait();
        assert!(matches!(failed, Err(TaskError::Failed("no"))), "{panics_at}");
        let panicked = pool.spawn(|| -> () { panic!("the callback's own") }).unwrap().wait();
        assert!(
            panicked.unwrap_err().to_string().contains("the callback's own"),
            "{panics_at}"
        );
        let stats = end(&pool);
        assert_eq!(
            (stats.succeeded, stats.failed, stats.panicked),
            (1, 1, 1),
            "{panics_at}"
        );
        let log = log.lock().unwrap();
        let count = |what: &str| log.iter().filter(|step| *step == what).count();
        for name in ["outer", "inner"] {
            assert_eq!(count(&format!("{name} leaves")), 3, "{panics_at}: {log:?}");
            assert_eq!(count(&format!("{name} is dropped")), 3, "{panics_at}: {log:?}");
        }
    }
}

/// Captures a probe.
struct Probes(Drops, Arc<AtomicUsize>);

impl Carry for Probes {
    type Captured = Probe;
    type Entered = ();

    fn capture(&self) -> Option<Probe> {
        self.1.fetch_add(1, Ordering::SeqCst);
        Some(self.0.probe())
    }

    fn enter(&self, _: &Probe) {}
}

#[test]
fn p06_what_was_captured_is_dropped_once_whatever_becomes_of_the_task() {
    let (drops, captured) = (Drops::default(), Arc::new(AtomicUsize::new(0)));
    let builder = Pool::builder()
        .capacity(4)
        .overflow(Overflow::Block)
        .max_blocked_producers(1);
    let builder = builder.context(Probes(drops.clone(), captured.clone()));
    let (pool, gate, stuck) = stuck_pool(builder, 1);
    let gone = |what: &str, so_many: usize| {
        eventually(what, || drops.count() == so_many);
        assert_eq!(
            captured.load(Ordering::SeqCst),
            so_many + 1,
            "{what}: and the stuck one's"
        );
    };
    // Queued and cancelled: gone although the worker is stuck.
    let cancelled = pool.spawn(|| ()).unwrap();
    assert!(cancelled.cancel());
    gone("cancelled", 1);
    // Deadline exceeded in the queue.
    let late = pool.options().timeout(ms(1)).spawn(|| ()).unwrap();
    assert_eq!(late.wait_outcome(LONG), Some(Outcome::DeadlineExceeded));
    gone("too late", 2);
    // Refused: the callback comes back, the context does not.
    let queued = pool.spawn_many((0..4).map(|_| || 1)).unwrap();
    let refused = pool.try_spawn(|| 5).unwrap_err();
    assert_eq!((drops.count(), refused.into_callback()()), (3, 5));
    // Futures: never polled, and dropped while they wait for room.
    drop(pool.submit_async(|_| Ok::<_, ()>(())));
    assert_eq!(drops.count(), 4);
    let mut waiting = Box::pin(pool.submit_async(|_| Ok::<_, ()>(())));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(waiting.as_mut().poll(&mut cx).is_pending());
    drop(waiting);
    assert_eq!(drops.count(), 5);
    // Abandoned by the drain.
    let report = pool.shutdown(ms(1)).unwrap();
    assert_eq!(report.abandoned.len(), 5);
    gone("abandoned", 9);
    drop((queued, stuck));
    gate.open();
    eventually("the stuck one's", || drops.count() == 10);
}
