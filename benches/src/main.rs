//! Duly beside its peers: the runner that makes one table, and the command that runs one workload in one process.
//!
//! Kept true: what a row is and what its goal is stands in rows.rs, how it is measured in workload.rs, how each peer is
//! used in peers/; runner.rs and report.rs know none of them by name.

mod go;
mod machine;
mod peers;
mod report;
mod rows;
mod runner;
mod stats;
mod workload;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use peers::{crossbeam::Crossbeam, duly, duly::Duly, threadpool::Threadpool, tokio::Tokio};
use rows::{Kind, Peer, ROWS, Row};
use runner::Plan;
use std::os::unix::process::CommandExt;
use std::process::ExitCode;
use workload::Run;

/// Measures duly beside crossbeam-channel, tokio spawn_blocking, the threadpool crate and a Go channel pool.
///
/// Each figure comes from a fresh process; the peers take turns, round by round; the table gives medians and, for each
/// peer, the median over the rounds of duly / peer. A goal is judged from 15 rounds on: `met` when the median ratio is
/// at most the goal and the 90 % interval ends below 1.15 times the goal, `missed` when the whole interval is above it,
/// else `undecided`. Let the machine rest meanwhile: other work on it moves every figure.
#[derive(Parser)]
#[command(after_help = examples(), max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Option<Commands>,
    #[command(flatten)]
    table: TableArgs,
}

#[derive(Args)]
struct TableArgs {
    /// Rows to measure, with commas between them [default: all but W1m]
    #[arg(long, value_delimiter = ',', value_parser = rows::find)]
    rows: Vec<&'static Row>,
    /// Peers to measure, with commas between them; duly is needed for ratios [default: all]
    #[arg(long, value_delimiter = ',', value_enum)]
    peers: Vec<Peer>,
    /// Times each figure is measured; 15 or more for a verdict [default: 15, with --quick 3]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// Few rounds and smaller runs: to see that everything works, and roughly where it stands
    #[arg(long, env = "QUICK", value_parser = clap::builder::FalseyValueParser::new())]
    quick: bool,
}

#[derive(Subcommand)]
enum Commands {
    /// Run one workload in this process and print its figures as one line of JSON
    One {
        /// The workload
        #[arg(long, value_parser = rows::find)]
        row: &'static Row,
        /// Whose pool
        #[arg(long, value_enum)]
        peer: Peer,
        /// Threads of the pool [default: the row's]
        #[arg(long, value_parser = positive)]
        workers: Option<usize>,
        /// Tasks [default: the row's]
        #[arg(long, value_parser = positive)]
        n: Option<usize>,
    },
}

fn positive(text: &str) -> Result<usize, String> {
    match text.replace('_', "").parse() {
        Ok(0) => Err("must be at least 1".into()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}; a whole number is needed, as 1000000 or 1_000_000")),
    }
}

fn examples() -> String {
    let rows: String = ROWS
        .iter()
        .map(|row| format!("  {:8} {}\n", row.name, row.what))
        .collect();
    format!(
        "Rows:\n{rows}\nExamples:\n  \
         duly-benches --quick                              a first look\n  \
         duly-benches --rows W1,W1b --peers duly,crossbeam one question, 15 rounds\n  \
         duly-benches one --row W1 --peer duly             one process, e.g. under perf or valgrind\n\n\
         The table goes to stdout, progress to stderr."
    )
}

fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    match cli.command {
        Some(Commands::One { row, peer, workers, n }) => {
            one(row, peer, workers.unwrap_or(row.workers), n.unwrap_or(row.n)).map(|()| ExitCode::SUCCESS)
        }
        None => table(cli.table),
    }
}

fn table(args: TableArgs) -> Result<ExitCode> {
    let or_all = |rows: Vec<_>| {
        if rows.is_empty() {
            ROWS.iter().filter(|row| row.default).collect()
        } else {
            rows
        }
    };
    let plan = Plan {
        rows: or_all(args.rows),
        peers: if args.peers.is_empty() {
            rows::ALL.to_vec()
        } else {
            args.peers
        },
        rounds: args.rounds.map_or(if args.quick { 3 } else { 15 }, usize::from),
        quick: args.quick,
    };
    let results = runner::run(&plan)?;
    print!("{}", report::markdown(&plan, &results));
    Ok(if results.failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn one(row: &Row, peer: Peer, workers: usize, n: usize) -> Result<()> {
    let figures = match (peer, row.kind) {
        (Peer::Go, _) => return Err(go::command(row, workers, n)?.exec()).context("the Go program cannot be started"),
        (Peer::Crossbeam, Kind::Deadlines { window, timeout }) => {
            workload::measure_deadlines::<Crossbeam>(row, workers, n, window, timeout)
        }
        (Peer::Crossbeam, _) => workload::measure::<Crossbeam>(row, workers, n),
        (Peer::Tokio, _) => workload::measure::<Tokio>(row, workers, n),
        (Peer::Threadpool, _) => workload::measure::<Threadpool>(row, workers, n),
        (Peer::Duly, Kind::Deadlines { window, timeout }) => {
            workload::measure_deadlines::<Duly>(row, workers, n, window, timeout)
        }
        (Peer::Duly, Kind::Cancel { by_token }) => duly::measure_cancel(workers, n, by_token),
        (Peer::Duly, _) => workload::measure::<Duly>(row, workers, n),
    }?;
    let run = Run {
        row: row.name.into(),
        peer: peer.to_string(),
        workers,
        n,
        figures,
    };
    println!("{}", serde_json::to_string(&run)?);
    Ok(())
}
