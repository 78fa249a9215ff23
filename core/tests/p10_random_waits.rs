//! P10 under random programs: trees of tasks over a few pools that wait for each other in every way there is. Whatever they
//! do, they end: with values, or with `would_deadlock`, and the books balance.
//!
//! `PROPTEST_CASES` sets how many rounds are tried (1000 otherwise), `DULY_SEED` the first one's seed. A round that hangs
//! prints its seed, and how its tasks stand.

mod support;

use duly::{CancellationToken, Pool, Queue, SubmitErrorKind, Task, TaskError};
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak, mpsc};
use std::time::Duration;
use support::*;

/// A small generator: each task has its own, so a seed says what every task does, whoever runs it.
#[derive(Clone)]
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

struct World {
    pools: Vec<Pool>,
    /// Of the first pool, and with a limit.
    few: Option<Queue>,
    /// Everybody's tasks: some wait for a stranger's.
    tasks: Mutex<Vec<Task<u64>>>,
    token: CancellationToken,
    /// Only waits for children, which cannot form a cycle within one pool.
    tree: bool,
    refused: AtomicUsize,
    made: AtomicU64,
}

/// What the round under way has, for the one that hangs.
static WORLD: Mutex<Weak<World>> = Mutex::new(Weak::new());

fn state() -> String {
    let Some(world) = WORLD.lock().unwrap().upgrade() else {
        return String::new();
    };
    let mut text = String::new();
    for (pool, at) in world.pools.iter().zip(0..) {
        writeln!(text, "pool {at}: {:?}\n{}", pool, pool.stats()).unwrap();
    }
    if let Some(few) = &world.few {
        writeln!(text, "the limited queue: {:?}", few.stats()).unwrap();
    }
    for task in &*world.tasks.lock().unwrap() {
        if task.outcome().is_none() {
            writeln!(text, "{}", task.name()).unwrap();
        }
    }
    text
}

fn submit(world: &Arc<World>, dice: &mut Dice, depth: usize) -> Option<Task<u64>> {
    let pool = &world.pools[dice.below(world.pools.len())];
    let (there, mine) = (world.clone(), Dice(dice.next()));
    let number = world.made.load(Ordering::Relaxed);
    let mut options = pool.options();
    if let Some(few) = world.few.as_ref().filter(|_| dice.once_in(3)) {
        options = world.pools[0].options().queue(few);
    }
    if !world.tree && dice.once_in(6) {
        options = options.token(&world.token);
    }
    if dice.once_in(10) {
        options = options.timeout(ms(1 + dice.below(20) as u64));
    }
    if dice.once_in(8) {
        options = options.submit_timeout(ms(1 + dice.below(3) as u64));
    }
    let options = options.label(format!("{number} of depth {depth}"));
    let work = move || body(&there, mine, depth);
    let made = if dice.once_in(4) {
        options.try_spawn(work)
    } else {
        options.spawn(work)
    };
    match made {
        Ok(task) => {
            world.made.fetch_add(1, Ordering::Relaxed);
            if !world.tree {
                world.tasks.lock().unwrap().push(task.clone());
            }
            Some(task)
        }
        Err(error) => {
            if error.kind() == SubmitErrorKind::WouldDeadlock {
                assert!(!error.deadlock().unwrap().waits().is_empty());
                world.refused.fetch_add(1, Ordering::Relaxed);
            }
            None
        }
    }
}

fn wait(world: &World, dice: &mut Dice, task: &Task<u64>) {
    match dice.below(8) {
        0 => drop(task.wait_timeout(ms(dice.below(3) as u64))),
        1 => drop(task.wait_with(&world.token, Some(ms(2)))),
        2 => drop(task.released(ms(dice.below(2) as u64))),
        3 => drop(duly::wait_any([task], dice.once_in(2).then(|| ms(1)))),
        _ => {
            if let Err(TaskError::WouldDeadlock(deadlock)) = task.wait() {
                assert!(!deadlock.to_string().is_empty());
                world.refused.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

fn body(world: &Arc<World>, mut dice: Dice, depth: usize) -> u64 {
    let mut children = Vec::new();
    for _ in 0..dice.below(4) {
        if depth > 0
            && let Some(child) = submit(world, &mut dice, depth - 1)
        {
            children.push(child);
        }
        if !world.tree && dice.once_in(3) {
            let stranger = {
                let tasks = world.tasks.lock().unwrap();
                let at = dice.below(tasks.len().max(1));
                tasks.get(at).cloned()
            };
            if let Some(task) = stranger {
                wait(world, &mut dice, &task);
            }
        }
        if dice.once_in(12)
            && let Some(child) = children.last()
        {
            child.cancel();
        }
    }
    for child in &children {
        if !dice.once_in(5) {
            wait(world, &mut dice, child);
        }
    }
    assert!(!dice.once_in(50), "a planned panic");
    1
}

/// One round; whether somebody was refused.
fn round(seed: u64) -> usize {
    let mut dice = Dice(seed);
    let tree = dice.once_in(3);
    let narrow = dice.once_in(2);
    let pools = (0..if tree { 1 } else { 1 + dice.below(3) })
        .map(|number| {
            Pool::builder()
                .name(format!("p{number}"))
                .workers(1 + dice.below(3))
                .max_replacements(dice.below(4))
                .capacity(if narrow { 1 + dice.below(4) } else { 1000 })
                .replace_after(ms(10))
                .build()
                .unwrap()
        })
        .collect::<Vec<Pool>>();
    let few = dice
        .once_in(2)
        .then(|| pools[0].queue("few").limit(1 + dice.below(2)).add().unwrap());
    let limited = few.is_some();
    let world = Arc::new(World {
        pools,
        few,
        tasks: Mutex::default(),
        token: CancellationToken::new(),
        tree,
        refused: AtomicUsize::new(0),
        made: AtomicU64::new(0),
    });
    *WORLD.lock().unwrap() = Arc::downgrade(&world);
    let roots: Vec<_> = (0..1 + dice.below(4))
        .filter_map(|_| submit(&world, &mut dice, 3))
        .collect();
    if dice.once_in(10) {
        world.token.cancel();
    }
    let cut = dice.once_in(10);
    if !cut {
        for root in roots {
            // From outside: never refused.
            assert!(!matches!(root.wait(), Err(TaskError::WouldDeadlock(_))));
        }
    }
    for pool in &world.pools {
        // Those without a handle go on, and may submit to the others: so a pool may be closed under them.
        let report = pool.shutdown(if cut { ms(1) } else { LONG }).unwrap();
        assert!(cut || report.drained, "{report}");
        assert!(report.stats.books_balance(), "{}", report.stats);
        assert_eq!(report.stats.queued + report.stats.running, 0, "{}", report.stats);
    }
    let refused = world.refused.load(Ordering::Relaxed);
    // Children alone form no cycle: whoever is queued can be run by whoever waits for it.
    assert!(
        refused == 0 || !tree || narrow || limited,
        "a wait was refused that could have ended"
    );
    refused
}

#[test]
fn p10_random_programs_of_waits_end() {
    let number = |name: &str, otherwise: u64| std::env::var(name).map_or(otherwise, |text| text.parse().unwrap());
    let (rounds, first) = (number("PROPTEST_CASES", 1000), number("DULY_SEED", 1));
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.to_string().contains("a planned panic") {
            quiet(panic);
        }
    }));
    let (tell, told) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let mut refused = 0;
        for seed in first..first + rounds {
            let _ = tell.send(seed);
            refused += round(seed);
        }
        refused
    });
    let mut seed = first;
    loop {
        match told.recv_timeout(LONG + Duration::from_secs(10)) {
            Ok(at) => seed = at,
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                panic!("the round of seed {seed} hangs: DULY_SEED={seed}\n{}", state())
            }
        }
    }
    match thread.join() {
        Ok(refused) => assert!(refused > 0 || rounds < 100, "no wait was refused in {rounds} rounds"),
        Err(_) => panic!("the round of seed {seed} failed: DULY_SEED={seed}"),
    }
}
