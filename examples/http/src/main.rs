//! A web service whose work runs in a pool of duly.
//!
//! What it shows:
//! 1. A request's deadline (header `x-timeout-ms`, at most 30 s) is the task's: it is answered in time, with 504.
//! 2. A client that leaves takes its work along: its queued task gives the place back, its running one is told.
//! 3. A full queue and a pool that shuts down are answered at once, with 503 and `Retry-After`.
//! 4. What many ask for at once is made once, by a single flight, and kept for a while; each client has its own time.
//! 5. SIGTERM and Ctrl-C drain: what was accepted is answered, up to the grace period; then the process ends.
//!
//! `cargo run -p duly-http-example -- --help` tells the options, `curl localhost:8080/` the paths.

mod answer;
mod pages;
mod routes;
mod work;

use anyhow::Context as _;
use clap::Parser;
use duly::{Overflow, Pool};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// A web service whose work runs in a bounded pool.
#[derive(Parser)]
struct Args {
    /// Where to listen; port 0 takes a free one. The first line of the output tells which.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: String,
    /// Threads that run callbacks. Default: the parallelism this process may use.
    #[arg(long)]
    workers: Option<usize>,
    /// Requests that may wait for a worker; more are answered 503.
    #[arg(long, default_value_t = 64)]
    capacity: usize,
    /// After SIGTERM: seconds until what is not done is abandoned and the process ends.
    #[arg(long, default_value_t = 10.0)]
    grace: f64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let grace = Duration::try_from_secs_f64(args.grace).context("--grace")?;
    let mut builder = Pool::builder()
        .name("http")
        .capacity(args.capacity)
        // A client would rather hear "later" now than wait in two lines.
        .overflow(Overflow::Reject)
        .default_timeout(Duration::from_secs(30));
    if let Some(workers) = args.workers {
        builder = builder.workers(workers);
    }
    let pool = builder.build()?;
    let listener = TcpListener::bind(&args.listen)
        .await
        .with_context(|| format!("listening on {}", args.listen))?;
    println!("listening on {}", listener.local_addr()?);

    let mut terminate = signal(SignalKind::terminate())?;
    let (drain, draining) = tokio::sync::oneshot::channel::<()>();
    let server = axum::serve(listener, routes::router(&pool)).with_graceful_shutdown(async {
        let _ = draining.await;
    });
    let server = tokio::spawn(server.into_future());
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    // From here on new work is answered 503, and the connections close as they become idle.
    let report = pool.shutdown_async(grace);
    println!("draining for at most {grace:?}");
    let _ = drain.send(());
    let report = report.await?;
    println!("{report}");
    // Every task has its answer; writing the last ones takes a moment.
    let _ = tokio::time::timeout(Duration::from_millis(500), server).await;
    std::process::exit(i32::from(!report.drained));
}
