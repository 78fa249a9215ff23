//! Streams: an input without end, of which only so much is pulled as is needed; errors in their items' place.
//!
//! Run it with `cargo run --example stream`.

use duly::{Pool, StreamError};
use std::time::Duration;

fn main() -> anyhow::Result<()> {
    let pool = Pool::builder().workers(4).build()?;

    // The first five primes above a million: nothing is tried that lies far beyond.
    let is_prime = |n: u64| (2..).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d));
    let mut stream = pool
        .stream(1_000_000u64.., move |ctx, n| {
            ctx.check()?;
            Ok::<_, duly::Interrupted>((n, is_prime(n)))
        })
        .window(16);
    let mut primes = Vec::new();
    while primes.len() < 5
        && let Some(answer) = stream.next()
    {
        let (n, prime) = answer?;
        primes.extend(prime.then_some(n));
    }
    println!("{primes:?}, after {} numbers", stream.pulled());
    assert_eq!(primes, [1_000_003, 1_000_033, 1_000_037, 1_000_039, 1_000_081]);
    assert!(stream.pulled() <= 82 + 16);
    drop(stream); // cancels what is under way

    // As they complete, with a timeout for each item; one is too slow, and it alone is late.
    let answers = pool
        .options()
        .timeout(Duration::from_millis(2000))
        .stream([1u64, 60_000, 2], |ctx, millis| {
            ctx.sleep(Duration::from_millis(millis))?;
            Ok::<_, duly::Interrupted>(millis)
        })
        .ordered(false);
    let mut late = 0;
    for answer in answers {
        match answer {
            Ok(millis) => println!("slept for {millis} ms"),
            Err(error @ StreamError::Task { index, .. }) => {
                assert_eq!(index, 1);
                late += 1;
                println!("{error}");
            }
            Err(error) => return Err(error.into()),
        }
    }
    assert_eq!(late, 1);

    // The first error ends the stream.
    let lines = ["1", "2", "three", "4"];
    let parsed: Vec<_> = pool
        .stream(lines, |_, line| line.parse::<u32>())
        .first_error()
        .collect();
    assert_eq!(parsed.len(), 3);
    println!("{}", parsed[2].as_ref().expect_err("it is no number"));
    anyhow::ensure!(pool.shutdown(Duration::from_secs(5))?.drained);
    Ok(())
}
