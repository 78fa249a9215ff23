//! One producer, one consumer: channels, a mutexed deque and duly's ring, with and without padding, side by side.
//!
//! Keeps true: every contender moves the same values between the same two threads, in rounds that take turns, so that a
//! slow minute of the machine is everybody's; what is told is the median and the best of the rounds, in nanoseconds a value.
//! Writes the table of docs/spsc.md. Arguments: rounds (default 15), values a round (default 1,000,000).

use comfy_table::{Table, presets};
use std::collections::VecDeque;
use std::hint::{black_box, spin_loop};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// The ring's own source with indices that share a cache line: the ablation. Nothing else differs.
#[allow(dead_code, unreachable_pub, reason = "a part of it is measured")]
#[path = "../../../core/src/spsc.rs"]
mod unpadded;

/// What the ring imports, without the padding.
mod sync {
    use std::ops::Deref;
    pub(crate) use std::sync::Arc;
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    pub(crate) struct Padded<T>(pub(crate) T);

    impl<T> Deref for Padded<T> {
        type Target = T;

        #[inline(always)]
        fn deref(&self) -> &T {
            &self.0
        }
    }

    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) const fn new(value: T) -> Self {
            UnsafeCell(std::cell::UnsafeCell::new(value))
        }

        #[inline(always)]
        pub(crate) fn with_mut<R>(&self, change: impl FnOnce(*mut T) -> R) -> R {
            change(self.0.get())
        }
    }
}

/// The two ends of something that carries numbers: what does not fit, or is not there yet, is tried again.
trait Sends: Send {
    fn send(&mut self, value: u64) -> bool;
    /// Some of these numbers in one step, if it has one: how many.
    fn send_many(&mut self, values: &mut std::ops::Range<u64>) -> usize {
        let sent = self.send(values.start);
        values.start += u64::from(sent);
        usize::from(sent)
    }
}

trait Receives: Send {
    fn receive(&mut self) -> Option<u64>;
    /// What is there: its sum, and how many.
    fn receive_many(&mut self) -> (u64, u64) {
        self.receive().map_or((0, 0), |value| (value, 1))
    }
}

type Ends = (Box<dyn FnOnce(u64) + Send>, Box<dyn FnOnce(u64) -> u64>);

/// One thread's worth of each end, each a loop of its own type: no dynamic call a value.
fn ends(mut to: impl Sends + 'static, mut from: impl Receives + 'static, many: bool) -> Ends {
    let send = move |values: u64| {
        let mut left = 0..values;
        while !left.is_empty() {
            let sent = if many {
                to.send_many(&mut left) > 0
            } else {
                let sent = to.send(left.start);
                left.start += u64::from(sent);
                sent
            };
            if !sent {
                spin_loop();
            }
        }
    };
    let receive = move |values: u64| {
        let (mut sum, mut seen) = (0u64, 0);
        while seen < values {
            let (part, count) = if many {
                from.receive_many()
            } else {
                from.receive().map_or((0, 0), |value| (value, 1))
            };
            sum = sum.wrapping_add(part);
            seen += count;
            if count == 0 {
                spin_loop();
            }
        }
        sum
    };
    (Box::new(send), Box::new(receive))
}

macro_rules! ring_ends {
    ($producer:ty, $consumer:ty) => {
        impl Sends for $producer {
            #[inline(always)]
            fn send(&mut self, value: u64) -> bool {
                self.try_push(value).is_ok()
            }
            #[inline(always)]
            fn send_many(&mut self, values: &mut std::ops::Range<u64>) -> usize {
                self.push_from(values)
            }
        }
        impl Receives for $consumer {
            #[inline(always)]
            fn receive(&mut self) -> Option<u64> {
                self.try_pop().ok()
            }
            #[inline(always)]
            fn receive_many(&mut self) -> (u64, u64) {
                self.drain()
                    .fold((0, 0), |(sum, count), value| (sum + value, count + 1))
            }
        }
    };
}

ring_ends!(duly::spsc::Producer<u64>, duly::spsc::Consumer<u64>);
ring_ends!(unpadded::Producer<u64>, unpadded::Consumer<u64>);

impl Sends for crossbeam_channel::Sender<u64> {
    fn send(&mut self, value: u64) -> bool {
        self.try_send(value).is_ok()
    }
}

impl Receives for crossbeam_channel::Receiver<u64> {
    fn receive(&mut self) -> Option<u64> {
        self.try_recv().ok()
    }
}

impl Sends for std::sync::mpsc::SyncSender<u64> {
    fn send(&mut self, value: u64) -> bool {
        self.try_send(value).is_ok()
    }
}

impl Receives for std::sync::mpsc::Receiver<u64> {
    fn receive(&mut self) -> Option<u64> {
        self.try_recv().ok()
    }
}

/// A deque under a lock, with a bound.
struct Locked(Arc<Mutex<VecDeque<u64>>>, usize);

impl Sends for Locked {
    fn send(&mut self, value: u64) -> bool {
        let mut deque = self.0.lock().expect("no panic");
        let room = deque.len() < self.1;
        if room {
            deque.push_back(value);
        }
        room
    }
}

impl Receives for Locked {
    fn receive(&mut self) -> Option<u64> {
        self.0.lock().expect("no panic").pop_front()
    }
}

struct Contender {
    name: &'static str,
    ends: fn(usize) -> Ends,
}

const CONTENDERS: &[Contender] = &[
    Contender {
        name: "ring, many at once",
        ends: |capacity| {
            let (to, from) = duly::spsc::ring(capacity);
            ends(to, from, true)
        },
    },
    Contender {
        name: "ring",
        ends: |capacity| {
            let (to, from) = duly::spsc::ring(capacity);
            ends(to, from, false)
        },
    },
    Contender {
        name: "ring, not padded",
        ends: |capacity| {
            let (to, from) = unpadded::ring(capacity);
            ends(to, from, false)
        },
    },
    Contender {
        name: "crossbeam-channel bounded",
        ends: |capacity| {
            let (to, from) = crossbeam_channel::bounded(capacity);
            ends(to, from, false)
        },
    },
    Contender {
        name: "std sync_channel",
        ends: |capacity| {
            let (to, from) = std::sync::mpsc::sync_channel(capacity);
            ends(to, from, false)
        },
    },
    Contender {
        name: "Mutex<VecDeque>",
        ends: |capacity| {
            let deque = Arc::new(Mutex::new(VecDeque::with_capacity(capacity)));
            ends(Locked(deque.clone(), capacity), Locked(deque, capacity), false)
        },
    },
];

/// Nanoseconds a value, from one thread to another.
fn two_threads(contender: &Contender, capacity: usize, values: u64) -> f64 {
    let (send, receive) = (contender.ends)(capacity);
    let began = Instant::now();
    let sender = std::thread::spawn(move || send(values));
    let sum = receive(values);
    let took = began.elapsed();
    sender.join().expect("no panic");
    assert_eq!(sum, values * (values - 1) / 2, "{}: values were lost", contender.name);
    took.as_nanos() as f64 / values as f64
}

/// Nanoseconds a value, filled and emptied by one thread: what it costs when nobody is on the other side.
fn one_thread(contender: &Contender, capacity: usize, values: u64) -> f64 {
    let laps = values / capacity as u64;
    let mut ns = 0;
    for _ in 0..laps {
        let (send, receive) = (contender.ends)(capacity);
        let began = Instant::now();
        send(capacity as u64);
        black_box(receive(capacity as u64));
        ns += began.elapsed().as_nanos();
    }
    ns as f64 / (laps * capacity as u64) as f64
}

/// Nanoseconds a task of a pool: submitted by one thread, run by one worker, nobody waits.
fn pool(values: u64) -> f64 {
    let pool = duly::Pool::builder().workers(1).build().expect("a pool");
    let began = Instant::now();
    for _ in 0..values {
        drop(pool.spawn(|| ()).expect("open"));
    }
    pool.shutdown(std::time::Duration::from_secs(60)).expect("not inside");
    began.elapsed().as_nanos() as f64 / values as f64
}

fn main() {
    let mut args = std::env::args()
        .skip(1)
        .map(|arg| arg.parse::<u64>().expect("a number"));
    let (rounds, values) = (args.next().unwrap_or(15), args.next().unwrap_or(1_000_000));
    let shapes: [(&str, fn(&Contender, u64) -> f64); 3] = [
        ("capacity 1024", |c, values| two_threads(c, 1024, values)),
        ("capacity 64", |c, values| two_threads(c, 64, values)),
        ("one thread", |c, values| one_thread(c, 1024, values)),
    ];
    let mut figures = vec![vec![Vec::new(); shapes.len()]; CONTENDERS.len()];
    let mut tasks = Vec::new();
    for _ in 0..rounds {
        for (column, (_, measure)) in shapes.iter().enumerate() {
            for (row, contender) in CONTENDERS.iter().enumerate() {
                figures[row][column].push(measure(contender, values));
            }
        }
        tasks.push(pool(values));
    }
    let tell = |figures: &mut Vec<f64>| {
        figures.sort_by(f64::total_cmp);
        format!("{:.1} (best {:.1})", figures[figures.len() / 2], figures[0])
    };
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header(std::iter::once("ns a value").chain(shapes.iter().map(|shape| shape.0)));
    for (contender, figures) in CONTENDERS.iter().zip(&mut figures) {
        table.add_row(std::iter::once(contender.name.to_owned()).chain(figures.iter_mut().map(tell)));
    }
    println!("{table}\n");
    println!(
        "a task of a pool of one worker, one producer, nobody waits: {} ns",
        tell(&mut tasks)
    );
}
