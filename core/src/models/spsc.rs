//! The ring of one producer and one consumer: each value arrives once, in order, and an end that goes is seen.

use super::{beside, explore};
use crate::spsc::{TryPopError, TryPushError, ring};
use crate::sync::{Arc, AtomicUsize, Ordering, thread};

/// Counts that it is dropped.
struct Value(usize, Arc<AtomicUsize>);

impl Drop for Value {
    fn drop(&mut self) {
        self.1.fetch_add(1, Ordering::Relaxed);
    }
}

/// Three values through a ring of two, one of them alone and the others in one step: the indices go around the cells.
#[test]
fn p06_values_cross_the_ring_once_and_in_order() {
    explore("values cross the ring", Some(3), || {
        let dropped = Arc::new(AtomicUsize::new(0));
        let (mut producer, mut consumer) = ring(2);
        let pushes = beside({
            let dropped = dropped.clone();
            move || {
                let mut values = (0..3).map(|n| Value(n, dropped.clone())).peekable();
                while values.peek().is_some() {
                    if producer.push_from(&mut values) == 0 {
                        thread::yield_now();
                    }
                }
            }
        });
        let mut expected = 0;
        loop {
            match consumer.try_pop() {
                Ok(value) => {
                    assert_eq!(value.0, expected);
                    expected += 1;
                }
                Err(TryPopError::Empty) => thread::yield_now(),
                Err(TryPopError::Closed) => break,
            }
        }
        pushes.join();
        assert_eq!((expected, dropped.load(Ordering::Relaxed)), (3, 3));
    });
}

/// Taking many at once against pushes: a place is given back only when its value is out.
#[test]
fn p06_a_drain_against_pushes() {
    explore("a drain against pushes", Some(3), || {
        let (mut producer, mut consumer) = ring(1);
        let pushes = beside(move || {
            for n in 0..2usize {
                let mut next = n;
                while let Err(TryPushError::Full(again)) = producer.try_push(next) {
                    next = again;
                    thread::yield_now();
                }
            }
        });
        let mut seen = Vec::new();
        while seen.len() < 2 {
            let before = seen.len();
            seen.extend(consumer.drain());
            if seen.len() == before {
                thread::yield_now();
            }
        }
        pushes.join();
        assert_eq!(seen, [0, 1]);
    });
}

/// The consumer goes while values are pushed: each is dropped once, by the consumer, by the ring, or by the producer.
#[test]
fn p06_a_consumer_that_goes_against_pushes() {
    explore("a consumer that goes", None, || {
        let dropped = Arc::new(AtomicUsize::new(0));
        let (mut producer, mut consumer) = ring(2);
        let goes = beside(move || {
            let _ = consumer.try_pop();
            drop(consumer);
        });
        for n in 0..2 {
            let _ = producer.try_push(Value(n, dropped.clone()));
        }
        goes.join();
        assert!(producer.is_closed());
        assert!(matches!(
            producer.try_push(Value(2, dropped.clone())),
            Err(TryPushError::Closed(_))
        ));
        drop(producer);
        assert_eq!(dropped.load(Ordering::Relaxed), 3);
    });
}
