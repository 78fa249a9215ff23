//! Runs every figure in a fresh process and puts the runs of a round side by side.
//!
//! Kept true:
//! 1. One measured process at a time; while it runs, the runner sleeps (no ticking progress bar, no polling).
//! 2. Rounds are outermost and the order of the peers turns with the round, so what disturbs the machine for a while
//!    disturbs all peers, and a pair (duly and a peer in one round) was measured within seconds.
//! 3. What a goal is about is measured in every round; what only stands beside it in `BESIDE` rounds, spread evenly.
//! 4. A run past its row's limit is killed; after that the peer rests in that row.

use crate::machine;
use crate::peers::Peer;
use crate::peers::external::{self, Built};
use crate::results::{Record, Results};
use crate::rows::Row;
use crate::workload::{Figures, Run};
use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Rounds of a peer that no goal of the row is about: as few as give a 90 % interval.
pub(crate) const BESIDE: usize = 5;

/// What is to be measured.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) rows: Vec<&'static Row>,
    pub(crate) peers: Vec<Peer>,
    pub(crate) rounds: usize,
    pub(crate) quick: bool,
    pub(crate) beside: Beside,
}

/// When a peer is measured that no goal of the row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beside {
    Never,
    /// In `BESIDE` rounds, spread evenly.
    Some,
    Always,
}

impl Plan {
    /// Who is measured in this row in this round, in order.
    fn turn(&self, row: &Row, round: usize, here: &[Peer]) -> Vec<Peer> {
        let beside = match self.beside {
            Beside::Never => false,
            Beside::Some => beside(round, self.rounds),
            Beside::Always => true,
        };
        let mut order: Vec<Peer> = row
            .peers
            .iter()
            .copied()
            .filter(|peer| here.contains(peer) && (beside || row.needs(*peer)))
            .collect();
        if !order.is_empty() {
            let first = round % order.len();
            order.rotate_left(first);
        }
        order
    }
}

/// Whether this round is one of `BESIDE` that are spread over all of them.
fn beside(round: usize, rounds: usize) -> bool {
    rounds <= BESIDE || round * BESIDE / rounds != (round + 1) * BESIDE / rounds
}

/// `kept` sees the results after each round, so that a run which is ended has not been in vain.
pub(crate) fn run(plan: &Plan, kept: impl Fn(&Results) -> Result<()>) -> Result<Results> {
    let mut results = Results::new(plan.quick);
    let mut here = plan.peers.clone();
    for &peer in &plan.peers {
        let wanted = plan.rows.iter().any(|row| row.peers.contains(&peer));
        if wanted && let Built::Lacks(cure) = external::build(peer)? {
            here.retain(|other| *other != peer);
            eprintln!("SKIPPED: peer {peer}, which is not on this machine: {cure}");
            results.skipped.push((peer, cure));
        }
    }
    let total: usize = (0..plan.rounds)
        .flat_map(|round| plan.rows.iter().map(move |row| (round, row)))
        .map(|(round, row)| plan.turn(row, round, &here).len())
        .sum();
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
            for peer in plan.turn(row, round, &here) {
                bar.set_message(format!("round {} {} {peer}", round + 1, row.name));
                if results.over(&row.name, peer) == 0 && !results.has_failed(&row.name, peer) {
                    let name = row.name.clone();
                    match measure(row, peer, if plan.quick { row.quick_n } else { row.n }) {
                        Ok(figures) => results.records.push(Record {
                            row: name,
                            peer,
                            round,
                            figures,
                        }),
                        Err(error) => results.failed.push((name, peer, format!("{error:#}"))),
                    }
                }
                bar.inc(1);
            }
        }
        results.rounds = round + 1;
        results.used_by_others = before.used_by_others(machine::ticks());
        kept(&results)?;
    }
    bar.finish_and_clear();
    Ok(results)
}

/// One workload in a process of its own; `None`: killed at the row's limit.
fn measure(row: &Row, peer: Peer, n: usize) -> Result<Option<Figures>> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["one", "--row", &row.name, "--peer", peer.name(), "--n", &n.to_string()])
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
    let limit = row.limit() + row.settle() + Duration::from_secs(1);
    let received = receiver.recv_timeout(limit);
    if received.is_err() {
        child.kill().context("cannot be ended")?;
    }
    let status = child.wait()?;
    reader.join().expect("reading does not panic");
    let Ok(read) = received else { return Ok(None) };
    let (line, complaint) = read?;
    if !status.success() {
        bail!("{status}: {}", complaint.trim());
    }
    let run: Run = serde_json::from_str(&line).with_context(|| format!("not a line of figures: {line}"))?;
    Ok(Some(run.figures))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows;

    #[test]
    fn rounds_beside_are_five_and_spread() {
        let chosen = |rounds| -> Vec<usize> { (0..rounds).filter(|&round| beside(round, rounds)).collect() };
        assert_eq!(chosen(3), [0, 1, 2]);
        assert_eq!(chosen(15), [2, 5, 8, 11, 14]);
        assert_eq!(chosen(17).len(), BESIDE);
    }

    #[test]
    fn what_a_goal_is_about_is_measured_in_every_round() {
        let row = rows::find("W1").expect("a row");
        let mut plan = Plan {
            rows: vec![row],
            peers: Peer::ALL.to_vec(),
            rounds: 15,
            quick: false,
            beside: Beside::Some,
        };
        assert_eq!(plan.turn(row, 0, Peer::ALL), [Peer::Duly, Peer::Crossbeam]);
        assert_eq!(plan.turn(row, 1, Peer::ALL), [Peer::Crossbeam, Peer::Duly]);
        assert_eq!(plan.turn(row, 2, Peer::ALL).len(), row.peers.len());
        assert_eq!(plan.turn(row, 2, &[Peer::Duly, Peer::Go]), [Peer::Duly, Peer::Go]);
        plan.beside = Beside::Always;
        assert_eq!(plan.turn(row, 0, Peer::ALL).len(), row.peers.len());
        plan.beside = Beside::Never;
        assert_eq!(plan.turn(row, 2, Peer::ALL).len(), 2);
    }
}
