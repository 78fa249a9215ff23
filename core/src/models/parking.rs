//! A parked thread is woken, whether the unpark comes before the park or after.

use super::explore;
use crate::clock;
use crate::sync::{Arc, AtomicU64, Ordering, Parker, advance, thread};

#[test]
fn parker() {
    explore("parker", None, || {
        let parker = Arc::new(Parker::here());
        let done = Arc::new(AtomicU64::new(0));
        let other = thread::spawn({
            let (parker, done) = (parker.clone(), done.clone());
            move || {
                done.store(1, Ordering::Relaxed);
                parker.unpark();
            }
        });
        parker.park();
        assert_eq!(
            done.load(Ordering::Relaxed),
            1,
            "what came before the unpark is seen after the park"
        );
        other.join().expect("no panic");
    });
}

#[test]
fn parker_with_a_limit() {
    explore("parker with a limit", None, || {
        let parker = Arc::new(Parker::here());
        let until = clock::now() + clock::MS;
        let waker = thread::spawn({
            let parker = parker.clone();
            move || parker.unpark()
        });
        let time = thread::spawn(|| advance(clock::MS));
        let woken = parker.park_until(until);
        assert!(woken || clock::now() >= until);
        waker.join().expect("no panic");
        time.join().expect("no panic");
    });
}
