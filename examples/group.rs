//! Groups and waits for several tasks: pages are fetched together, and the first that fails cancels the others.
//!
//! Run it with `cargo run --example group`.

use duly::{CancelOnDrop, Context, Group, Pool, as_completed, wait_any};
use std::time::Duration;

/// Stands in for a request: takes so long, unless it is told to stop.
fn fetch(ctx: &Context, page: u32) -> anyhow::Result<usize> {
    ctx.sleep(Duration::from_millis(u64::from(page)))?;
    anyhow::ensure!(page != 13, "there is no page 13");
    Ok(100 * page as usize)
}

fn main() -> anyhow::Result<()> {
    let pool = Pool::builder()
        .workers(4)
        .default_timeout(Duration::from_secs(5))
        .build()?;

    // All of them, at most three at a time; the values are taken as they come.
    let group = Group::builder(&pool).label("good pages").limit(3).keep_values().build();
    for page in 1..=12 {
        group.submit(move |ctx| fetch(ctx, page))?;
    }
    group.wait_timeout(Duration::from_secs(5)).expect("in time")?;
    let bytes: usize = group.take_values().iter().map(|(_, bytes)| bytes).sum();
    println!("{bytes} bytes");
    assert_eq!(bytes, 7800);

    // One fails: the others are told to stop, and what is submitted after that is refused.
    let group = Group::builder(&pool).label("pages").build();
    for page in [2000, 13, 3000] {
        let options = pool.options().label(format!("page {page}"));
        if let Err(refused) = group.with(&options).submit(move |ctx| fetch(ctx, page)) {
            println!("{refused}");
        }
    }
    let error = group.wait().expect_err("there is no page 13");
    println!("{error}");
    let first = error.first().expect("one was the first").1;
    assert_eq!(first.label(), Some("page 13"));

    // The first of several mirrors wins; the others are cancelled when their handles go.
    let mirrors = [30, 5, 40].map(|page| {
        pool.submit(move |ctx| fetch(ctx, page))
            .map(|task| task.cancel_on_drop())
    });
    let mirrors: Vec<CancelOnDrop<_, _>> = mirrors.into_iter().collect::<Result<_, _>>()?;
    let winner = wait_any(&mirrors, Some(Duration::from_secs(5)))?;
    println!("mirror {winner} was the first");
    drop(mirrors);

    // One after the other, as they complete.
    let tasks = (1..=3u64)
        .map(|n| pool.spawn(move || n * n))
        .collect::<Result<Vec<_>, _>>()?;
    for (place, task) in as_completed(tasks) {
        println!("task {place} gave {}", task.wait()?);
    }
    anyhow::ensure!(pool.shutdown(Duration::from_secs(5))?.drained);
    Ok(())
}
