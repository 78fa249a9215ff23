//! A whole pool under random schedules: every task answers, the books balance, and the shutdown returns.

use crate::Pool;
use crate::sync::thread;
use std::time::Duration;

const SCHEDULES: usize = 1000;

#[test]
fn p01_p12_every_task_answers() {
    ::shuttle::check_random(
        || {
            let pool = Pool::builder().workers(2).capacity(2).build().expect("a pool");
            let others = pool.clone();
            let other = thread::spawn(move || {
                (0..2)
                    .map(|n| others.spawn(move || n).expect("open"))
                    .collect::<Vec<_>>()
            });
            for n in 0..2 {
                let task = pool.spawn(move || n).expect("open");
                assert_eq!(task.wait().expect("an answer"), n);
            }
            for (n, task) in other.join().expect("no panic").into_iter().enumerate() {
                assert_eq!(task.wait().expect("an answer"), n);
            }
            let report = pool.shutdown(Duration::from_secs(3600)).expect("not inside");
            assert!(report.stats.books_balance());
            drop(pool);
            assert_eq!(crate::arena::owned(), 0, "a task has leaked");
        },
        SCHEDULES,
    );
    println!("\nfigure: shuttle whole pool = {SCHEDULES} schedules");
}
