//! Duly beside its peers: the runner that makes one table, and the command that runs one workload in one process.
//!
//! Kept true: what a row is and what its goals are stands in rows.toml, how it is measured in workload.rs and mixed.rs,
//! how each peer is used in peers/; runner, verdict, report and plot know none of them by name.

mod goal;
mod machine;
mod mixed;
mod peers;
mod plot;
mod report;
mod results;
mod rows;
mod runner;
mod stats;
mod verdict;
mod workload;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use peers::channels::{Crossbeam, Kanal};
use peers::duly::{self, Duly};
use peers::rayon::Rayon;
use peers::threadpool::Threadpool;
use peers::tokio::{Tokio, TokioSpawn};
use peers::{Peer, external};
use results::Results;
use rows::{Asked, Row, Work};
use runner::{Beside, Plan};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use workload::{Run, measure, measure_batch, measure_deadlines};

/// Measures duly beside its peers, row by row, and says which goals are met.
///
/// Each figure comes from a fresh process; the peers take turns, round by round; the tables give medians and, for each
/// peer, the median over the rounds of duly / peer. A goal is judged from 15 rounds on: `met` when the median ratio is
/// at most the goal and the 90 % interval ends below 1.15 times the goal, `missed` when the whole interval is above it,
/// else `undecided`. Let the machine rest meanwhile: other work on it moves every figure, and when it used more than 5 %
/// no goal of time is judged.
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
    /// Rows to measure, with commas between them; a curve's name stands for all its points [default: all that have a
    /// goal, and mixed]
    #[arg(long, value_delimiter = ',', value_parser = rows::ask)]
    rows: Vec<Asked>,
    /// Peers to measure, with commas between them; duly is needed for ratios [default: all]
    #[arg(long, value_delimiter = ',', value_enum)]
    peers: Vec<Peer>,
    /// Times each figure is measured; 15 or more for a verdict [default: 15, with --quick 3]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// Few rounds and smaller runs: to see that everything works, and roughly where it stands
    #[arg(long, env = "QUICK", value_parser = clap::builder::FalseyValueParser::new())]
    quick: bool,
    /// Measure every peer in every round, not only those a goal of the row is about
    #[arg(long, conflicts_with = "goals")]
    thorough: bool,
    /// Measure only what a goal is about: the verdicts in a third of the time
    #[arg(long)]
    goals: bool,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Args)]
struct OutputArgs {
    /// Where table.md, results.json and the plots are written [default: target/bench]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Also replace the committed plots, docs/images/bench-*.svg
    #[arg(long)]
    docs: bool,
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
        /// Tasks; for row rest, ms [default: the row's]
        #[arg(long, value_parser = positive)]
        n: Option<usize>,
    },
    /// Make the tables and plots again from results.json, which is written after every round; several files count as one
    /// run, round after round
    Report {
        #[arg(required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// List every row, the peers that can do it and its figures, a line each
    List,
}

fn positive(text: &str) -> Result<usize, String> {
    match text.replace('_', "").parse() {
        Ok(0) => Err("must be at least 1".into()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}; a whole number is needed, as 1000000 or 1_000_000")),
    }
}

fn examples() -> String {
    let mut lines: Vec<String> = rows::all()
        .iter()
        .map(|row| match &row.point {
            Some((curve, _)) => format!(
                "  {curve:11} {}",
                row.what.rsplit_once(':').map_or("", |(what, _)| what)
            ),
            None => format!("  {:11} {}", row.name, row.what),
        })
        .collect();
    lines.dedup();
    let peers: String = Peer::ALL
        .iter()
        .map(|peer| {
            let (what, handle) = peer.about();
            format!("  {peer:11} {what}. Handle: {handle}\n")
        })
        .collect();
    format!(
        "Rows (W1m and W1bc only when named):\n{}\n\nPeers:\n{peers}\nExamples:\n  \
         duly-benches --quick                              a first look\n  \
         duly-benches --rows W1,W1b --peers duly,crossbeam one question, 15 rounds\n  \
         duly-benches --rows workers,queued,pending,queues how cost grows\n  \
         duly-benches one --row W1 --peer duly             one process, e.g. under perf or valgrind\n  \
         duly-benches report a.json b.json                 two runs, judged as one\n\n\
         The tables go to stdout, progress to stderr.",
        lines.join("\n")
    )
}

fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    match cli.command {
        Some(Commands::One { row, peer, workers, n }) => {
            one(row, peer, workers.unwrap_or(row.workers), n.unwrap_or(row.n)).map(|()| ExitCode::SUCCESS)
        }
        Some(Commands::Report { files, output }) => {
            let mut files = files.iter().map(|file| Results::read(file));
            let first = files.next().context("no file")??;
            let joined = files.try_fold(first, |all, next| all.joined(next?))?;
            show(&joined, &output)
        }
        Some(Commands::List) => {
            for row in rows::all() {
                let peers: Vec<_> = row.peers.iter().map(|peer| peer.name()).collect();
                println!("{}: {}: {}", row.name, peers.join(" "), row.figures.join(" "));
            }
            Ok(ExitCode::SUCCESS)
        }
        None => table(cli.table),
    }
}

fn table(args: TableArgs) -> Result<ExitCode> {
    let asked: Vec<&'static Row> = args.rows.into_iter().flat_map(|asked| asked.0).collect();
    let plan = Plan {
        rows: if asked.is_empty() {
            rows::all().iter().filter(|row| row.default).collect()
        } else {
            asked
        },
        peers: if args.peers.is_empty() {
            Peer::ALL.to_vec()
        } else {
            args.peers
        },
        rounds: args.rounds.map_or(if args.quick { 3 } else { 15 }, usize::from),
        quick: args.quick,
        beside: match (args.goals, args.thorough) {
            (true, _) => Beside::Never,
            (_, true) => Beside::Always,
            _ => Beside::Some,
        },
    };
    let folder = args.output.folder()?;
    let results = runner::run(&plan, |results| results.write(&folder.join(RESULTS)))?;
    show(&results, &args.output)
}

const RESULTS: &str = "results.json";

impl OutputArgs {
    fn folder(&self) -> Result<PathBuf> {
        let folder = match &self.out {
            Some(folder) => folder.clone(),
            None => target_folder()?.join("bench"),
        };
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(folder)
    }
}

/// Prints the tables, and writes them with the results and the plots.
fn show(results: &Results, output: &OutputArgs) -> Result<ExitCode> {
    let folder = output.folder()?;
    let text = report::markdown(results);
    print!("{text}");
    let path = folder.join("table.md");
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    results.write(&folder.join(RESULTS))?;
    let plots = plot::write(results, &folder)?;
    eprintln!("in {}: table.md, {RESULTS} and {} plots", folder.display(), plots.len());
    if output.docs {
        let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/images");
        std::fs::create_dir_all(&images)?;
        for plot in &plots {
            let name = plot.file_name().context("a plot has a name")?.to_string_lossy();
            let image = images.join(format!("bench-{name}"));
            std::fs::copy(plot, &image).with_context(|| format!("cannot write {}", image.display()))?;
        }
    }
    Ok(if results.failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// This program lies in target/release or target/debug.
fn target_folder() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let folder = program.ancestors().nth(2).context("the program lies in no folder")?;
    Ok(folder.into())
}

fn one(row: &Row, peer: Peer, workers: usize, n: usize) -> Result<()> {
    let figures = match (peer, row.work) {
        (Peer::Go | Peer::DulyC | Peer::Libuv | Peer::Tbb, _) => {
            let error = external::command(peer, row, workers, n)?.exec();
            return Err(error).context("the peer's program cannot be started");
        }
        (Peer::Duly, Work::Queues { window, queues }) => duly::measure_queues(row, workers, n, window, queues),
        (Peer::Duly, Work::Cancel { by_token }) => duly::measure_cancel(workers, n, by_token),
        (Peer::Duly, Work::Batch) => measure_batch::<Duly>(row, workers, n, |pool| pool.batch(n)),
        (Peer::Rayon, Work::Batch) => measure_batch::<Rayon>(row, workers, n, |pool| pool.batch(n)),
        (Peer::Duly, Work::Mixed) => mixed::measure::<Duly>(row, workers, n),
        (Peer::Crossbeam, Work::Mixed) => mixed::measure::<Crossbeam>(row, workers, n),
        (Peer::Tokio, Work::Mixed) => mixed::measure::<Tokio>(row, workers, n),
        (_, Work::Mixed | Work::Batch) => bail!("{peer} cannot do row {}", row.name),
        (Peer::Duly, _) => measure_deadlines::<Duly>(row, workers, n),
        (Peer::Crossbeam, _) => measure_deadlines::<Crossbeam>(row, workers, n),
        (Peer::Kanal, _) => measure_deadlines::<Kanal>(row, workers, n),
        (Peer::Threadpool, _) => measure::<Threadpool>(row, workers, n),
        (Peer::Rayon, _) => measure::<Rayon>(row, workers, n),
        (Peer::Tokio, _) => measure::<Tokio>(row, workers, n),
        (Peer::TokioSpawn, _) => measure::<TokioSpawn>(row, workers, n),
    }?;
    let run = Run {
        row: row.name.clone(),
        peer: peer.name().into(),
        workers,
        n,
        figures,
    };
    println!("{}", serde_json::to_string(&run)?);
    Ok(())
}
