//! Runs every figure in a fresh process and puts the runs of a round side by side.
//!
//! Kept true:
//! 1. One measured process at a time; while it runs, the runner sleeps (no ticking progress bar, no polling).
//! 2. Rounds are outermost and the order of the peers turns with the round, so what disturbs the machine for a while
//!    disturbs all peers, and a pair (duly and a peer in one round) was measured within seconds.
//! 3. A run past its row's limit is killed and counts as `Over`; after two of them that peer rests in that row.

use crate::go;
use crate::machine;
use crate::rows::{Peer, Row};
use crate::workload::{Figures, Run};
use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::io::{IsTerminal, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// What is to be measured.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) rows: Vec<&'static Row>,
    pub(crate) peers: Vec<Peer>,
    pub(crate) rounds: usize,
    pub(crate) quick: bool,
}

/// How one process ended.
#[derive(Debug, Clone)]
pub(crate) enum Sample {
    Figures(Figures),
    /// Killed at the row's limit.
    Over,
}

/// Everything measured: for each row and peer the samples by round.
#[derive(Debug, Default)]
pub(crate) struct Results {
    samples: BTreeMap<(&'static str, Peer), BTreeMap<usize, Sample>>,
    pub(crate) notes: Vec<String>,
    pub(crate) failed: bool,
    /// The share of the machine that other processes used meanwhile.
    pub(crate) used_by_others: f64,
}

impl Results {
    /// The samples of a row and peer, with the round of each.
    pub(crate) fn samples(&self, row: &str, peer: Peer) -> impl Iterator<Item = (usize, &Sample)> {
        let rounds = self
            .samples
            .iter()
            .find(|((name, who), _)| *name == row && *who == peer);
        rounds
            .into_iter()
            .flat_map(|(_, rounds)| rounds)
            .map(|(round, sample)| (*round, sample))
    }
}

pub(crate) fn run(plan: &Plan) -> Result<Results> {
    let mut results = Results::default();
    let mut measured = plan.peers.clone();
    if plan.peers.contains(&Peer::Go) && go::build()?.is_none() {
        measured.retain(|peer| *peer != Peer::Go);
        results
            .notes
            .push("SKIPPED: peer go (there is no `go` on this machine); its goals stay undecided".into());
    }
    let peers = |row: &Row| {
        measured
            .iter()
            .copied()
            .filter(|peer| row.peers.contains(peer))
            .collect::<Vec<_>>()
    };
    let total: usize = plan.rows.iter().map(|row| peers(row).len()).sum::<usize>() * plan.rounds;
    let bar = ProgressBar::new(total as u64);
    bar.set_style(ProgressStyle::with_template(
        "{bar:40} {pos}/{len} {elapsed} eta {eta} {msg}",
    )?);
    let lines = !std::io::stderr().is_terminal();

    let before = machine::ticks();
    for round in 0..plan.rounds {
        if lines {
            eprintln!("round {} of {}", round + 1, plan.rounds);
        }
        for row in &plan.rows {
            let mut order = peers(row);
            let turn = round % order.len().max(1);
            order.rotate_left(turn);
            for peer in order {
                bar.set_message(format!("round {} {} {peer}", round + 1, row.name));
                let rests = results
                    .samples(row.name, peer)
                    .filter(|(_, sample)| matches!(sample, Sample::Over))
                    .count()
                    >= 2;
                if !rests && !results.failed_in(row, peer) {
                    match measure(row, peer, if plan.quick { row.quick_n } else { row.n }) {
                        Ok(sample) => drop(
                            results
                                .samples
                                .entry((row.name, peer))
                                .or_default()
                                .insert(round, sample),
                        ),
                        Err(error) => {
                            results.notes.push(format!("{} {error:#}", failure(row, peer)));
                            results.failed = true;
                        }
                    }
                }
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    results.used_by_others = before.used_by_others(machine::ticks());
    Ok(results)
}

impl Results {
    fn failed_in(&self, row: &Row, peer: Peer) -> bool {
        self.notes.iter().any(|note| note.starts_with(&failure(row, peer)))
    }
}

fn failure(row: &Row, peer: Peer) -> String {
    format!("FAILED: {} {peer}:", row.name)
}

/// One workload in a process of its own.
fn measure(row: &Row, peer: Peer, n: usize) -> Result<Sample> {
    let mut child = Command::new(std::env::current_exe()?)
        .args([
            "one",
            "--row",
            row.name,
            "--peer",
            &peer.to_string(),
            "--n",
            &n.to_string(),
        ])
        // One line for the table when it fails.
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot be started")?;
    let (mut out, mut err) = (
        child.stdout.take().context("no stdout")?,
        child.stderr.take().context("no stderr")?,
    );
    let (sender, receiver) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let (mut line, mut complaint) = (String::new(), String::new());
        let read = out
            .read_to_string(&mut line)
            .and_then(|_| err.read_to_string(&mut complaint));
        // The receiver waits for this, or has given up on it at the limit.
        drop(sender.send(read.map(|_| (line, complaint))));
    });
    let limit = row.limit + row.settle + Duration::from_secs(1);
    let received = receiver.recv_timeout(limit);
    if received.is_err() {
        child.kill().context("cannot be ended")?;
    }
    let status = child.wait()?;
    reader.join().expect("reading does not panic");
    let Ok(read) = received else { return Ok(Sample::Over) };
    let (line, complaint) = read?;
    if !status.success() {
        bail!("{status}: {}", complaint.trim());
    }
    let run: Run = serde_json::from_str(&line).with_context(|| format!("not a line of figures: {line}"))?;
    Ok(Sample::Figures(run.figures))
}
