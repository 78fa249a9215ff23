//! Delayed and periodic tasks: retries that wait longer each time, a heartbeat that never overlaps itself, and a shutdown
//! that leaves neither behind.
//!
//! Run it with `cargo run --example delayed`.

use duly::{Missed, Outcome, PeriodicEnd, Pool};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Something that fails twice.
fn call_a_service(attempt: u32) -> Result<&'static str, String> {
    if attempt < 3 {
        Err(format!("attempt {attempt} found nobody"))
    } else {
        Ok("an answer")
    }
}

fn main() -> anyhow::Result<()> {
    let pool = Pool::builder()
        .workers(2)
        .default_timeout(Duration::from_secs(5))
        .build()?;
    let began = Instant::now();

    // A retry is a task of its own, delayed: no worker sleeps meanwhile.
    let (mut attempt, mut pause) = (1, Duration::from_millis(10));
    let mut task = pool.submit(move |_| call_a_service(attempt))?;
    let answer = loop {
        match task.wait() {
            Ok(answer) => break answer,
            Err(error) => println!("{error}; again in {pause:?}"),
        }
        attempt += 1;
        task = pool.options().delay(pause).submit(move |_| call_a_service(attempt))?;
        pause *= 2;
    };
    println!("{answer} after {attempt} attempts, {} ms", began.elapsed().as_millis());
    anyhow::ensure!(attempt == 3 && began.elapsed() >= Duration::from_millis(30));

    // A heartbeat: slower than its period now and then, and it never runs twice at a time.
    let beats = Arc::new(Mutex::new(Vec::new()));
    let (turn, noted) = (AtomicU32::new(0), beats.clone());
    let heartbeat = pool
        .every(Duration::from_millis(5))
        .missed(Missed::Skip)
        .max_failures(3)
        .submit(move |ctx| {
            noted.lock().expect("no panic").push(began.elapsed());
            if turn.fetch_add(1, Ordering::Relaxed) == 1 {
                ctx.sleep(Duration::from_millis(20))?;
            }
            Ok::<_, duly::Interrupted>(())
        })?;
    while heartbeat.stats().runs < 5 {
        std::thread::sleep(Duration::from_millis(1));
    }
    println!(
        "beats at {:.0?}: {:?}",
        beats.lock().expect("no panic"),
        heartbeat.stats()
    );

    // What is due within the drain still runs; what is due later is answered at once.
    let soon = pool.options().delay(Duration::from_millis(20)).spawn(|| "ran")?;
    let later = pool
        .options()
        .no_deadline()
        .delay(Duration::from_secs(3600))
        .spawn(|| "never")?;
    let report = pool.shutdown(Duration::from_secs(5))?;
    println!("{report}");
    anyhow::ensure!(soon.wait()? == "ran" && later.outcome() == Some(Outcome::Abandoned));
    anyhow::ensure!(heartbeat.wait() == PeriodicEnd::ShutDown);
    anyhow::ensure!(report.abandoned.len() == 1 && report.threads_left == 0);
    Ok(())
}
