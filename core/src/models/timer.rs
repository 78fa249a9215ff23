//! The timer: it misses no task with a deadline, and whoever ends a task takes it out of the wheel, once.

use super::{Bench, beside, explore, work};
use crate::clock::MS;
use crate::sync::advance;
use crate::{Outcome, timer};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(1);

/// The look that enters a task into the wheel, against the worker and a cancellation.
#[test]
fn p02_registration_against_the_end() {
    explore("registration against the end", Some(2), || {
        let bench = Bench::new(|options| options);
        let (shared, record) = (bench.shared(), bench.record());
        let task = bench.pool.options().timeout(SOON).spawn(|| ()).expect("open");
        let looks = beside({
            let shared = shared.clone();
            move || timer::look_for_deadlines(&shared)
        });
        let worker = beside({
            let shared = shared.clone();
            move || drop((work(&shared, &record), record))
        });
        let cancelled = task.cancel();
        looks.join();
        worker.join();
        assert_eq!(task.outcome() == Some(Outcome::Cancelled), cancelled);
        assert_eq!(shared.timer.in_wheel(), 0, "an ended task stays in the wheel");
        drop((task, shared));
        bench.end();
    });
}

/// A submit against the look of a check that was planned before: it sees the task, or another one is planned.
#[test]
fn p02_a_submit_against_a_check() {
    explore("a submit against a check", None, || {
        let bench = Bench::new(|options| options);
        let shared = bench.shared();
        let first = bench.pool.options().timeout(SOON).spawn(|| ()).expect("open");
        let timer = beside({
            let shared = shared.clone();
            move || {
                advance(10 * MS);
                shared.timer.turn(&shared);
            }
        });
        let second = bench.pool.options().timeout(SOON).spawn(|| ()).expect("open");
        timer.join();
        assert!(
            shared.timer.in_wheel() == 2 || shared.timer.is_planned(),
            "a deadline would be missed"
        );
        assert!(first.cancel() && second.cancel());
        assert_eq!(shared.timer.in_wheel(), 0);
        drop((first, second, shared));
        bench.end();
    });
}

/// A deadline that fires against the worker: one of them answers, and the wheel is empty.
#[test]
fn p02_a_deadline_against_the_worker() {
    explore("a deadline against the worker", Some(2), || {
        let bench = Bench::new(|options| options);
        let (shared, record) = (bench.shared(), bench.record());
        let task = bench.pool.options().timeout(SOON).spawn(|| 7).expect("open");
        timer::look_for_deadlines(&shared);
        assert_eq!(shared.timer.in_wheel(), 1);
        let timer = beside({
            let shared = shared.clone();
            move || {
                advance(2000 * MS);
                shared.timer.turn(&shared);
            }
        });
        work(&shared, &record);
        timer.join();
        assert!(matches!(
            task.outcome(),
            Some(Outcome::Succeeded | Outcome::DeadlineExceeded)
        ));
        assert_eq!(shared.timer.in_wheel(), 0);
        drop((task, record, shared));
        bench.end();
    });
}
