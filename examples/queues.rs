//! Queues, weights, limits and keys: a service whose reports never keep its users waiting, and whose accounts are changed by
//! one task at a time.
//!
//! Run it with `cargo run --example queues`.

use duly::{Overflow, Pool};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn main() -> anyhow::Result<()> {
    let pool = Pool::builder()
        .workers(4)
        .default_timeout(Duration::from_secs(10))
        .build()?;
    // Of four tasks that are started, three are requests; and reports never take more than one worker.
    let requests = pool.queue("requests").capacity(1000).weight(3).add()?;
    let reports = pool.queue("reports").limit(1).overflow(Overflow::Reject).add()?;
    // One after the other for each account, in order; one account may hold 100 of the 1000 places.
    let accounts = pool
        .queue("accounts")
        .capacity(1000)
        .key_limit(1)
        .key_capacity(100)
        .add()?;

    let order = Arc::new(Mutex::new(String::new()));
    pool.pause();
    for _ in 0..6 {
        for (queue, letter) in [(&requests, 'q'), (&reports, 'r')] {
            let order = order.clone();
            pool.options()
                .queue(queue)
                .spawn(move || order.lock().unwrap().push(letter))?;
        }
    }
    pool.resume();

    let balances: Arc<Mutex<BTreeMap<&str, Vec<u32>>>> = Arc::default();
    let mut changes = Vec::new();
    for amount in 1..=50 {
        for account in ["ada", "grace"] {
            let balances = balances.clone();
            let options = pool.options().queue(&accounts).key(account);
            changes.push(options.spawn(move || balances.lock().unwrap().entry(account).or_default().push(amount))?);
        }
    }
    for change in &changes {
        change.wait()?;
    }
    for (account, amounts) in balances.lock().unwrap().iter() {
        anyhow::ensure!(amounts.is_sorted(), "{account}: {amounts:?}");
        println!("{account}: {} changes, each after the one before", amounts.len());
    }

    let report = pool.shutdown(Duration::from_secs(5))?;
    anyhow::ensure!(report.drained && report.stats.books_balance(), "{report}");
    for queue in pool.queues() {
        println!("{}: {} tasks", queue.name(), queue.stats().submitted);
    }
    println!("started: {}", order.lock().unwrap());
    Ok(())
}
