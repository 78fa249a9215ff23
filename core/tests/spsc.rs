//! The ring of one producer and one consumer: as a `VecDeque` with a bound, value by value and many at once; each value is
//! dropped once; the end that goes is seen.

mod support;

use duly::spsc::{Consumer, Producer, TryPopError, TryPushError, ring};
use proptest::prelude::*;
use std::collections::VecDeque;
use support::*;

#[derive(Debug, Clone)]
enum Step {
    Push,
    PushMany(usize),
    Pop,
    /// Takes at most so many of what is there.
    Drain(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Push),
        (0..12usize).prop_map(Step::PushMany),
        Just(Step::Pop),
        (0..12usize).prop_map(Step::Drain),
    ]
}

fn take(step: &Step, model: &mut VecDeque<u32>, ends: &mut (Producer<u32>, Consumer<u32>), next: &mut u32) {
    let (producer, consumer) = ends;
    let capacity = producer.capacity();
    match *step {
        Step::Push => {
            let pushed = producer.try_push(*next);
            if model.len() < capacity {
                assert_eq!(pushed, Ok(()));
                model.push_back(*next);
            } else {
                assert_eq!(pushed, Err(TryPushError::Full(*next)));
            }
            *next += 1;
        }
        Step::PushMany(many) => {
            let mut values = *next..*next + many as u32;
            let fits = many.min(capacity - model.len());
            assert_eq!(producer.push_from(&mut values), fits);
            assert_eq!(values.len(), many - fits, "takes no value that it has no room for");
            model.extend(*next..values.start);
            *next = values.end;
        }
        Step::Pop => assert_eq!(consumer.try_pop(), model.pop_front().ok_or(TryPopError::Empty)),
        Step::Drain(many) => {
            let drain = consumer.drain();
            assert_eq!(drain.len(), model.len());
            let fits = many.min(model.len());
            assert!(drain.take(many).eq(model.drain(..fits)));
        }
    }
    assert_eq!((producer.len(), consumer.len()), (model.len(), model.len()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn p05_a_ring_is_a_bounded_fifo(capacity in 1..10usize, steps in prop::collection::vec(step(), 0..60)) {
        let (mut model, mut next) = (VecDeque::new(), 0);
        let mut ends = ring(capacity);
        assert_eq!((ends.0.capacity(), ends.1.capacity()), (capacity, capacity));
        for step in &steps {
            take(step, &mut model, &mut ends, &mut next);
        }
        let (producer, mut consumer) = ends;
        drop(producer);
        assert!(consumer.is_closed());
        for value in model {
            assert_eq!(consumer.try_pop(), Ok(value), "what was pushed before the producer went is there");
        }
        assert_eq!(consumer.try_pop(), Err(TryPopError::Closed));
    }
}

#[test]
fn p06_each_value_is_dropped_once_whoever_goes_first() {
    for consumer_first in [true, false] {
        let drops = Drops::default();
        let (mut producer, mut consumer) = ring(4);
        for _ in 0..4 {
            producer.try_push(drops.probe()).unwrap();
        }
        drop(consumer.try_pop().unwrap());
        let refused = producer.try_push(drops.probe());
        assert!(refused.is_ok());
        assert_eq!(drops.count(), 1);
        if consumer_first {
            drop(consumer);
            assert_eq!(drops.count(), 5, "the consumer takes with it what nobody will pop");
            let refused = producer.try_push(drops.probe()).unwrap_err();
            assert!(matches!(refused, TryPushError::Closed(_)));
            assert_eq!(producer.push_from(&mut std::iter::repeat_with(|| drops.probe())), 0);
            drop((refused, producer));
            assert_eq!(drops.count(), 6);
        } else {
            drop(producer);
            assert_eq!(drops.count(), 1);
            drop(consumer.drain().next());
            drop(consumer);
            assert_eq!(drops.count(), 5);
        }
    }
}

#[test]
fn p06_an_iterator_or_a_destructor_that_panics_loses_nothing() {
    let drops = Drops::default();
    let (mut producer, mut consumer) = ring(8);
    let mut count = 0;
    let mut values = std::iter::from_fn(|| {
        count += 1;
        assert!(count < 4, "planted");
        Some(drops.probe())
    });
    let pushed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| producer.push_from(&mut values)));
    assert!(pushed.is_err());
    assert_eq!(consumer.drain().count(), 3, "what it gave before is there");
    assert_eq!(drops.count(), 3);

    struct Panics(Option<Probe>);
    impl Drop for Panics {
        fn drop(&mut self) {
            assert!(self.0.take().is_none(), "planted");
        }
    }
    let (mut producer, consumer) = ring(8);
    for _ in 0..2 {
        assert!(producer.try_push(Panics(Some(drops.probe()))).is_ok());
    }
    // The second panic is the ring's own, when its last end goes.
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(consumer))).is_err());
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(producer))).is_err());
    assert_eq!(drops.count(), 5);
}

#[test]
fn p01_many_values_arrive_once_and_in_order() {
    const VALUES: usize = 300_000;
    let (mut producer, mut consumer) = ring(64);
    let pushes = std::thread::spawn(move || {
        let mut values = 0..VALUES;
        while !values.is_empty() {
            // Now many at once, now one.
            if values.start.is_multiple_of(3) {
                producer.push_from(&mut values);
            } else if producer.try_push(values.start).is_ok() {
                values.start += 1;
            } else {
                std::thread::yield_now();
            }
        }
    });
    let mut expected = 0;
    loop {
        match consumer.try_pop() {
            Ok(value) => {
                assert_eq!(value, expected);
                expected += 1;
            }
            Err(TryPopError::Empty) => std::thread::yield_now(),
            Err(TryPopError::Closed) => break,
        }
        if expected % 7 == 0 {
            for value in consumer.drain() {
                assert_eq!(value, expected);
                expected += 1;
            }
        }
    }
    assert_eq!(expected, VALUES);
    pushes.join().unwrap();
}

#[test]
fn p16_a_capacity_out_of_range_is_refused() {
    for capacity in [0, duly::spsc::MAX_CAPACITY + 1, usize::MAX] {
        assert!(std::panic::catch_unwind(|| ring::<u8>(capacity)).is_err(), "{capacity}");
    }
}
