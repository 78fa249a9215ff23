//! Completion queues: each thing that is put is taken once, the descriptor is readable exactly while something waits, nobody
//! sleeps while something waits, and no place is lost.

use super::{Bench, beside, explore, work};
use crate::clock::NEVER;
use crate::completion::ModelOfPlaces as Places;
use crate::sync::{Mutex, Parker};
use crate::{Completions, Outcome};
use std::convert::Infallible;
use std::sync::Arc;

fn level(places: &Places<u32>) {
    let (rings, should) = places.rings();
    assert_eq!(
        rings, should,
        "the descriptor is readable ({rings}) although things wait ({should})"
    );
}

/// Two that put, one that takes by the descriptor's level.
#[test]
fn p03_the_descriptor_is_readable_while_things_wait() {
    explore("completions, descriptor", Some(3), || {
        let places = Arc::new(Places::new(2));
        places.fd().expect("a bell");
        let putters = [1, 2].map(|number| {
            assert!(places.reserve());
            let places = places.clone();
            beside(move || {
                places.put(number).expect("open");
                level(&places);
            })
        });
        assert!(!places.reserve(), "both places are taken");
        let mut taken = places.take_now(1);
        level(&places);
        putters.into_iter().for_each(|putter| putter.join());
        taken.extend(places.take_now(8));
        level(&places);
        taken.sort_unstable();
        assert_eq!(taken, [1, 2]);
        assert_eq!(places.free(), 2);
    });
}

/// Two that put, two that wait and take one each: no wake-up is lost.
#[test]
fn p03_nobody_sleeps_while_things_wait() {
    explore("completions, takers", Some(2), || {
        let places = Arc::new(Places::new(2));
        let takers = [(); 2].map(|()| {
            let places = places.clone();
            beside(move || {
                let parker = crate::sync::parker();
                match places.take(1, NEVER, &parker, || None::<Infallible>) {
                    Some(Ok(taken)) => taken.len(),
                    _ => unreachable!("there is no limit"),
                }
            })
        });
        assert!(places.reserve() && places.reserve());
        places.put(1).expect("open");
        places.put(2).expect("open");
        assert_eq!(takers.into_iter().map(|taker| taker.join()).sum::<usize>(), 2);
        assert_eq!(places.free(), 2);
    });
}

/// Of two that wait one is told to leave: it leaves nothing behind that it was woken for.
#[test]
fn p04_who_leaves_leaves_nothing_behind() {
    explore("completions, leaving", Some(2), || {
        let places = Arc::new(Places::new(2));
        // As a token: who is told, and whether it was, under one lock.
        let token = Arc::new(Mutex::new((false, None::<Arc<Parker>>)));
        assert!(places.reserve() && places.reserve());
        let leaves = beside({
            let (places, token) = (places.clone(), token.clone());
            move || {
                let parker = crate::sync::parker();
                token.lock().1 = Some(parker.clone());
                let over = || token.lock().0.then_some(());
                matches!(places.take(1, NEVER, &parker, over), Some(Ok(_)))
            }
        });
        let stays = beside({
            let places = places.clone();
            move || {
                let parker = crate::sync::parker();
                places.take(1, NEVER, &parker, || None::<Infallible>).is_some()
            }
        });
        places.put(1).expect("open");
        let told = {
            let mut token = token.lock();
            token.0 = true;
            token.1.take()
        };
        if let Some(parker) = told {
            parker.unpark();
        }
        let took = leaves.join();
        if took {
            places.put(2).expect("open");
        }
        assert!(stays.join());
        assert_eq!(places.free(), if took { 2 } else { 1 });
    });
}

/// A close against one that puts: what is put is either left over or comes back, and its place is free again.
#[test]
fn p09_a_close_leaves_nothing() {
    explore("completions, close", None, || {
        let places = Arc::new(Places::new(1));
        assert!(places.reserve());
        let putter = beside({
            let places = places.clone();
            move || places.put(7).map_err(|_| places.give_back(1)).is_ok()
        });
        let left = places.close().len();
        assert_eq!(left, usize::from(putter.join()));
        assert_eq!((places.free(), places.waiting()), (1, 0));
    });
}

/// A worker against a canceller, by way of a whole pool: delivered once, with the outcome that the handle has.
#[test]
fn p01_a_task_is_delivered_once() {
    explore("completions, task", Some(3), || {
        let bench = Bench::new(|options| options);
        let (shared, record) = (bench.shared(), bench.record());
        let answers = Completions::new(1);
        let task = bench
            .pool
            .options()
            .completions(&answers, 7u64)
            .spawn(|| 7u64)
            .expect("open");
        let worker = beside(move || work(&shared, &record));
        let cancelled = task.cancel();
        worker.join();
        let taken = answers.take(8, std::time::Duration::ZERO).expect("it has ended");
        assert_eq!(taken.len(), 1);
        let wanted = if cancelled {
            Outcome::Cancelled
        } else {
            Outcome::Succeeded
        };
        assert_eq!((taken[0].outcome, taken[0].tag), (wanted, 7));
        assert_eq!((answers.free(), answers.len()), (1, 0));
        drop((taken, task, answers));
        bench.end();
    });
}
