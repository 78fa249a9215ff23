//! Random programs against a pool, each step compared with a model that does one thing at a time.
//!
//! A program submits, cancels, lets tasks expire, forks and cancels tokens, lets callbacks return, drops handles, closes,
//! and ends with a drain or an abandoning shutdown. Callbacks block until the program lets them go, so the model knows at
//! each step which task runs, which is queued, and how each one ended; the pool must show the same: outcomes, order of
//! starts, the books, and captured data dropped exactly once (P1, P2, P5, P6, P12).
//!
//! `PROPTEST_CASES` sets how many programs are tried, `PROPTEST_RNG_SEED` which. A failure prints the shortest program that
//! still fails.

mod support;

use duly::{CancellationToken, Outcome, Overflow, Pool, SubmitErrorKind, Task, TaskError};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::*;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ending {
    Succeed,
    Fail,
    Panic,
}

/// What a program does next. Numbers pick among what there is at that moment.
#[derive(Clone, Debug)]
enum Step {
    Submit {
        ending: Ending,
        token: Option<usize>,
        far: bool,
        overflow: Option<Overflow>,
    },
    /// With a deadline that passes while the step waits for it.
    SubmitLate {
        token: Option<usize>,
        millis: u64,
    },
    Finish(usize),
    Cancel(usize),
    Fork(usize),
    CancelToken(usize),
    Wait(usize),
    DropHandle(usize),
    Close,
}

#[derive(Clone, Debug)]
struct Program {
    workers: usize,
    capacity: usize,
    overflow: Overflow,
    steps: Vec<Step>,
    abandon: bool,
}

fn programs() -> impl Strategy<Value = Program> {
    let ending = prop_oneof![3 => Just(Ending::Succeed), 1 => Just(Ending::Fail), 1 => Just(Ending::Panic)];
    let token = || prop::option::weighted(0.5, any::<usize>());
    let overflow = || {
        prop_oneof![
            Just(Overflow::Block),
            Just(Overflow::Reject),
            Just(Overflow::DropNewest),
            Just(Overflow::DropOldest)
        ]
    };
    let named = prop_oneof![4 => overflow(), 1 => Just(Overflow::CallerRuns)];
    let step = prop_oneof![
        12 => (ending, token(), any::<bool>(), prop::option::weighted(0.2, named))
            .prop_map(|(ending, token, far, overflow)| Step::Submit { ending, token, far, overflow }),
        2 => (token(), prop_oneof![Just(0), Just(3)]).prop_map(|(token, millis)| Step::SubmitLate { token, millis }),
        7 => any::<usize>().prop_map(Step::Finish),
        4 => any::<usize>().prop_map(Step::Cancel),
        2 => any::<usize>().prop_map(Step::Fork),
        2 => any::<usize>().prop_map(Step::CancelToken),
        3 => any::<usize>().prop_map(Step::Wait),
        2 => any::<usize>().prop_map(Step::DropHandle),
    ];
    let close = prop::option::weighted(0.2, any::<prop::sample::Index>());
    (
        1..3usize,
        1..5usize,
        overflow(),
        prop::collection::vec(step, 1..40),
        close,
        any::<bool>(),
    )
        .prop_map(|(workers, capacity, overflow, mut steps, close, abandon)| {
            if let Some(at) = close {
                let at = at.index(steps.len());
                steps.insert(at, Step::Close);
            }
            Program {
                workers,
                capacity,
                overflow,
                steps,
                abandon,
            }
        })
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Queued,
    Running,
    Ended(Outcome),
}

/// A task as the model sees it, and its handle.
struct Modelled {
    state: State,
    ending: Ending,
    token: Option<usize>,
    /// Its callback has started and not been let go.
    inside: bool,
    gate: Gate,
    handle: Option<Task<usize, usize>>,
    taken: bool,
}

struct ModelledToken {
    token: CancellationToken,
    parent: Option<usize>,
    cancelled: bool,
}

/// The model, and the pool it is compared with.
struct Run {
    pool: Pool,
    program: Program,
    tasks: Vec<Modelled>,
    queue: VecDeque<usize>,
    tokens: Vec<ModelledToken>,
    /// In the order in which callbacks started: the model's, and the real one.
    starts: Vec<usize>,
    seen: Arc<Mutex<Vec<usize>>>,
    drops: Drops,
    probes: usize,
    closed: bool,
    refused: u64,
    late: u64,
}

impl Run {
    fn new(program: Program) -> Self {
        let pool = Pool::builder()
            .workers(program.workers)
            .capacity(program.capacity)
            .overflow(program.overflow)
            .max_replacements(0)
            .build()
            .unwrap();
        Run {
            pool,
            program,
            tasks: Vec::new(),
            queue: VecDeque::new(),
            tokens: vec![ModelledToken {
                token: CancellationToken::new(),
                parent: None,
                cancelled: false,
            }],
            starts: Vec::new(),
            seen: Arc::default(),
            drops: Drops::default(),
            probes: 0,
            closed: false,
            refused: 0,
            late: 0,
        }
    }

    fn inside(&self) -> usize {
        self.tasks.iter().filter(|task| task.inside).count()
    }

    fn pick(&self, number: usize, wanted: impl Fn(&Modelled) -> bool) -> Option<usize> {
        let all: Vec<_> = (0..self.tasks.len())
            .filter(|index| wanted(&self.tasks[*index]))
            .collect();
        (!all.is_empty()).then(|| all[number % all.len()])
    }

    fn token(&self, number: Option<usize>) -> Option<usize> {
        number.map(|number| number % self.tokens.len())
    }

    /// What a submit should answer: `Ok` where the task is accepted, with whether it is shed at once.
    fn expect_submit(&mut self, token: Option<usize>, overflow: Option<Overflow>) -> Result<bool, SubmitErrorKind> {
        if token.is_some_and(|token| self.tokens[token].cancelled) {
            return Err(SubmitErrorKind::Cancelled);
        }
        if self.closed {
            return Err(SubmitErrorKind::ShutDown);
        }
        if self.queue.len() < self.program.capacity {
            return Ok(false);
        }
        match overflow.unwrap_or(self.program.overflow) {
            Overflow::DropNewest => Ok(true),
            Overflow::DropOldest => {
                let oldest = self.queue.pop_front().expect("a full queue has an oldest");
                self.tasks[oldest].state = State::Ended(Outcome::Shed);
                Ok(false)
            }
            _ => Err(SubmitErrorKind::QueueFull),
        }
    }

    fn submit(
        &mut self,
        ending: Ending,
        token: Option<usize>,
        timeout: Option<Duration>,
        overflow: Option<Overflow>,
    ) -> Option<usize> {
        let index = self.tasks.len();
        let expected = self.expect_submit(token, overflow);
        let gate = Gate::new();
        self.probes += 1;
        let (probe, pass, seen) = (self.drops.probe(), gate.clone(), self.seen.clone());
        let mut options = self.pool.options().label(format!("task-{index}"));
        if let Some(token) = token {
            options = options.token(&self.tokens[token].token);
        }
        if let Some(timeout) = timeout {
            options = options.timeout(timeout);
        }
        if let Some(overflow) = overflow {
            options = options.overflow(overflow);
        }
        let submitted = options.try_submit(move |_| {
            let _probe = probe;
            seen.lock().unwrap().push(index);
            pass.pass();
            match ending {
                Ending::Succeed => Ok(index),
                Ending::Fail => Err(index),
                Ending::Panic => panic!("task-{index}, on purpose"),
            }
        });
        match (submitted, expected) {
            (Ok(handle), Ok(shed)) => {
                let state = if shed {
                    State::Ended(Outcome::Shed)
                } else {
                    State::Queued
                };
                self.tasks.push(Modelled {
                    state,
                    ending,
                    token,
                    inside: false,
                    gate,
                    handle: Some(handle),
                    taken: false,
                });
                if !shed {
                    self.queue.push_back(index);
                }
                Some(index)
            }
            (Err(error), Err(kind)) => {
                assert_eq!(error.kind(), kind, "the kind of refusal");
                self.refused += 1;
                None
            }
            (submitted, expected) => panic!("submit answered {submitted:?}, the model {expected:?}"),
        }
    }

    /// Free workers take the oldest tasks.
    fn start(&mut self) {
        while self.inside() < self.program.workers
            && let Some(index) = self.queue.pop_front()
        {
            self.tasks[index].state = State::Running;
            self.tasks[index].inside = true;
            self.starts.push(index);
        }
    }

    fn end_from_outside(&mut self, index: usize, outcome: Outcome) {
        self.tasks[index].state = State::Ended(outcome);
        self.queue.retain(|queued| *queued != index);
    }

    fn finish(&mut self, index: usize) {
        let task = &mut self.tasks[index];
        task.gate.open();
        task.inside = false;
        if task.state == State::Running {
            task.state = State::Ended(match task.ending {
                Ending::Succeed => Outcome::Succeeded,
                Ending::Fail => Outcome::Failed,
                Ending::Panic => Outcome::Panicked,
            });
        } else {
            self.late += 1;
        }
    }

    fn cancelled_tokens(&self, top: usize) -> Vec<usize> {
        let under = |mut token: usize| loop {
            if token == top {
                return true;
            }
            match self.tokens[token].parent {
                Some(parent) => token = parent,
                None => return false,
            }
        };
        (0..self.tokens.len()).filter(|token| under(*token)).collect()
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Submit {
                ending,
                token,
                far,
                overflow,
            } => {
                let token = self.token(token);
                self.submit(ending, token, far.then_some(LONG * 100), overflow);
            }
            Step::SubmitLate { token, millis } => {
                let token = self.token(token);
                if let Some(index) = self.submit(Ending::Succeed, token, Some(ms(millis)), None)
                    && self.tasks[index].state == State::Queued
                {
                    let task = self.tasks[index].handle.as_ref().expect("just made");
                    assert_eq!(task.wait_outcome(LONG), Some(Outcome::DeadlineExceeded));
                    eventually("it has begun, or is let go of", || {
                        task.is_released() || self.seen.lock().unwrap().contains(&index)
                    });
                    // With a worker free, it may have started in time; past its deadline it must not.
                    let started = self.seen.lock().unwrap().contains(&index);
                    assert!(!started || millis > 0 && self.inside() < self.program.workers);
                    self.end_from_outside(index, Outcome::DeadlineExceeded);
                    if started {
                        self.tasks[index].inside = true;
                        self.starts.push(index);
                    }
                }
            }
            Step::Finish(number) => {
                if let Some(index) = self.pick(number, |task| task.inside) {
                    self.finish(index);
                }
            }
            Step::Cancel(number) => {
                if let Some(index) = self.pick(number, |task| task.handle.is_some()) {
                    let won = self.tasks[index].handle.as_ref().is_some_and(Task::cancel);
                    let ended = matches!(self.tasks[index].state, State::Ended(_));
                    assert_eq!(won, !ended, "whether cancel decided the outcome of task-{index}");
                    if won {
                        self.end_from_outside(index, Outcome::Cancelled);
                    }
                }
            }
            Step::Fork(number) => {
                let parent = number % self.tokens.len();
                let token = self.tokens[parent].token.child();
                self.tokens.push(ModelledToken {
                    token,
                    parent: Some(parent),
                    cancelled: self.tokens[parent].cancelled,
                });
            }
            Step::CancelToken(number) => {
                let top = number % self.tokens.len();
                self.tokens[top].token.cancel();
                for token in self.cancelled_tokens(top) {
                    self.tokens[token].cancelled = true;
                    assert!(self.tokens[token].token.is_cancelled());
                    for index in 0..self.tasks.len() {
                        let task = &self.tasks[index];
                        if task.token == Some(token) && !matches!(task.state, State::Ended(_)) {
                            self.end_from_outside(index, Outcome::Cancelled);
                        }
                    }
                }
            }
            Step::Wait(number) => {
                let ended = |task: &Modelled| task.handle.is_some() && matches!(task.state, State::Ended(_));
                if let Some(index) = self.pick(number, ended) {
                    self.take(index);
                }
            }
            Step::DropHandle(number) => {
                if let Some(index) = self.pick(number, |task| task.handle.is_some()) {
                    self.tasks[index].handle = None;
                }
            }
            Step::Close => {
                self.pool.close();
                self.closed = true;
            }
        }
    }

    /// Takes the answer of a task that has ended; the first time, it is the value.
    fn take(&mut self, index: usize) {
        let task = &mut self.tasks[index];
        let State::Ended(outcome) = task.state else { return };
        let Some(handle) = &task.handle else { return };
        let answer = handle.wait_timeout(LONG).expect("an ended task answers at once");
        let has_value = matches!(outcome, Outcome::Succeeded | Outcome::Failed | Outcome::Panicked);
        let again = has_value && std::mem::replace(&mut task.taken, true);
        let right = match (&answer, outcome) {
            (Err(TaskError::Taken(_)), _) => again,
            (Ok(value), Outcome::Succeeded) | (Err(TaskError::Failed(value)), Outcome::Failed) => {
                *value == index && !again
            }
            (Err(TaskError::Panicked(panic)), Outcome::Panicked) => {
                panic.message() == format!("task-{index}, on purpose") && !again
            }
            (Err(TaskError::Cancelled(_)), Outcome::Cancelled)
            | (Err(TaskError::DeadlineExceeded(_)), Outcome::DeadlineExceeded)
            | (Err(TaskError::Shed(_)), Outcome::Shed)
            | (Err(TaskError::Abandoned(_)), Outcome::Abandoned) => true,
            _ => false,
        };
        assert!(right, "task-{index}, which is {outcome}, answers {answer:?}");
    }

    /// The pool gets where the model is, and shows the same.
    fn compare(&mut self) {
        self.start();
        let (starts, seen) = (self.starts.len(), self.seen.clone());
        eventually("as many callbacks start as the model says", || {
            seen.lock().unwrap().len() >= starts
        });
        let mut seen = self.seen.lock().unwrap().clone();
        let mut starts = self.starts.clone();
        if self.program.workers > 1 {
            // Two that start at once may do so in either order.
            seen.sort_unstable();
            starts.sort_unstable();
        }
        assert_eq!(seen, starts, "the callbacks that have started");
        for (index, task) in self.tasks.iter().enumerate() {
            let Some(handle) = &task.handle else { continue };
            match task.state {
                State::Ended(outcome) => {
                    assert_eq!(handle.wait_outcome(LONG), Some(outcome), "task-{index}");
                    if !task.inside {
                        assert!(handle.released(LONG), "task-{index} is never released");
                    }
                }
                _ => assert_eq!(handle.outcome(), None, "task-{index} is {:?}", task.state),
            }
        }
        let kept = self
            .tasks
            .iter()
            .filter(|task| task.inside || task.state == State::Queued)
            .count();
        let (drops, expected) = (self.drops.clone(), self.probes - kept);
        eventually("captured data of all others is dropped", || drops.count() >= expected);
        assert_eq!(
            drops.count(),
            expected,
            "captured data is dropped once, and not too early"
        );
        let count = |wanted: &dyn Fn(&Modelled) -> bool| self.tasks.iter().filter(|task| wanted(task)).count() as u64;
        let overdue = count(&|task| task.inside && task.state != State::Running);
        let (pool, late) = (&self.pool, self.late);
        let running = count(&|task| task.state == State::Running);
        eventually("late, overdue and running callbacks are counted", || {
            let stats = pool.stats();
            (stats.late, stats.overdue, stats.running) == (late, overdue, running)
        });
        let stats = self.pool.stats();
        assert!(stats.books_balance(), "{stats}");
        assert_eq!(stats.submitted, self.tasks.len() as u64, "{stats}");
        assert_eq!(stats.queued, self.queue.len() as u64, "{stats}");
        assert_eq!(stats.running, count(&|task| task.state == State::Running), "{stats}");
        assert_eq!(stats.refused, self.refused, "{stats}");
        for (outcome, counted) in stats.outcomes() {
            assert_eq!(
                counted,
                count(&|task| task.state == State::Ended(outcome)),
                "{outcome}: {stats}"
            );
        }
    }

    fn finish_all(&mut self) {
        if self.program.abandon {
            let report = self.pool.shutdown(ms(1)).unwrap();
            let left: Vec<_> = (0..self.tasks.len())
                .filter(|index| !matches!(self.tasks[*index].state, State::Ended(_)))
                .collect();
            assert_eq!(report.abandoned.len(), left.len(), "{report}");
            let stuck = self.tasks.iter().filter(|task| task.inside).count();
            assert_eq!(report.stuck.len(), stuck, "{report}");
            for index in left {
                self.end_from_outside(index, Outcome::Abandoned);
            }
        } else {
            self.pool.close();
        }
        self.closed = true;
        while let Some(index) = self.tasks.iter().position(|task| task.inside) {
            self.finish(index);
            self.start();
        }
        let report = self.pool.shutdown(LONG).unwrap();
        assert!(report.stats.books_balance(), "{report}");
        self.compare();
        for index in 0..self.tasks.len() {
            self.take(index);
        }
    }
}

#[test]
fn p01_p02_p05_p06_p12_random_programs_do_what_a_simple_model_does() {
    // What goes wrong on purpose need not be told.
    std::panic::set_hook({
        let told = std::panic::take_hook();
        Box::new(move |panic| {
            if !panic.to_string().contains("on purpose") {
                told(panic);
            }
        })
    });
    let config = Config {
        failure_persistence: None,
        ..Config::default()
    };
    let (cases, seed) = (config.cases, config.rng_seed);
    let (tried, steps) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let mut runner = TestRunner::new(config);
    let result = runner.run(&programs(), |program| {
        tried.fetch_add(1, Ordering::Relaxed);
        steps.fetch_add(program.steps.len(), Ordering::Relaxed);
        let mut run = Run::new(program.clone());
        for step in &program.steps {
            run.step(step);
            run.compare();
        }
        run.finish_all();
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}\n(PROPTEST_CASES={cases}, {seed:?})");
    }
    println!(
        "figure: random programs = {} programs, {} steps, {seed:?}",
        tried.into_inner(),
        steps.into_inner()
    );
}
