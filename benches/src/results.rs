//! What was measured: every figure of every process, kept as JSON, so that a table can be made again and runs joined.
//!
//! Kept true: a record holds the round it was measured in, which is what makes two records a pair; joining moves the
//! second run's rounds behind the first's, so pairs stay pairs.

use crate::machine;
use crate::peers::Peer;
use crate::rows::{self, Row};
use crate::workload::Figures;
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// One process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) row: String,
    pub(crate) peer: Peer,
    pub(crate) round: usize,
    /// `None`: ended at the row's limit.
    pub(crate) figures: Option<Figures>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) quick: bool,
    pub(crate) rounds: usize,
    pub(crate) machine: Vec<(String, String)>,
    /// The share of the machine that other processes used meanwhile; of several runs, the largest.
    pub(crate) used_by_others: f64,
    /// Peers that are not on this machine, and how to install them.
    pub(crate) skipped: Vec<(Peer, String)>,
    /// Runs that ended with an error: row, peer, what it said.
    pub(crate) failed: Vec<(String, Peer, String)>,
    pub(crate) records: Vec<Record>,
}

impl Results {
    pub(crate) fn new(quick: bool) -> Self {
        Self {
            quick,
            machine: machine::facts(),
            ..Self::default()
        }
    }

    pub(crate) fn of<'a>(&'a self, row: &'a str, peer: Peer) -> impl Iterator<Item = &'a Record> {
        self.records
            .iter()
            .filter(move |record| record.row == row && record.peer == peer)
    }

    /// The figure of each round that has it.
    pub(crate) fn values(&self, row: &str, peer: Peer, figure: &str) -> Vec<(usize, f64)> {
        let value = |record: &Record| Some((record.round, *record.figures.as_ref()?.get(figure)?));
        self.of(row, peer).filter_map(value).collect()
    }

    /// How many runs were ended at the row's limit.
    pub(crate) fn over(&self, row: &str, peer: Peer) -> usize {
        self.of(row, peer).filter(|record| record.figures.is_none()).count()
    }

    pub(crate) fn has_failed(&self, row: &str, peer: Peer) -> bool {
        self.failed.iter().any(|(name, who, _)| name == row && *who == peer)
    }

    pub(crate) fn why_skipped(&self, peer: Peer) -> Option<&str> {
        let mut skipped = self.skipped.iter();
        skipped.find(|(who, _)| *who == peer).map(|(_, cure)| cure.as_str())
    }

    /// The rows with anything to show, in the order of rows.toml.
    pub(crate) fn rows(&self) -> Vec<&'static Row> {
        let seen = |row: &&Row| {
            self.records.iter().any(|record| record.row == row.name)
                || self.failed.iter().any(|(name, ..)| *name == row.name)
        };
        rows::all().iter().filter(seen).collect()
    }

    /// This run and another one, as if the other's rounds had come after.
    pub(crate) fn joined(mut self, other: Results) -> Result<Results> {
        ensure!(
            self.quick == other.quick,
            "a quick run and a full one have different sizes: they cannot be joined"
        );
        let behind = self.rounds;
        self.rounds += other.rounds;
        self.used_by_others = self.used_by_others.max(other.used_by_others);
        self.records.extend(other.records.into_iter().map(|record| Record {
            round: behind + record.round,
            ..record
        }));
        self.failed.extend(other.failed);
        for skipped in other.skipped {
            if !self.skipped.contains(&skipped) {
                self.skipped.push(skipped);
            }
        }
        for fact in other.machine {
            if !self.machine.contains(&fact) {
                self.machine.push(fact);
            }
        }
        Ok(self)
    }

    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} holds no results", path.display()))
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string(self)?;
        std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// One record a number, in rounds from 0 on; NaN stands for a run that was ended.
    pub(crate) fn records(row: &str, peer: Peer, figure: &str, values: &[f64]) -> Vec<Record> {
        let record = |(round, &value): (usize, &f64)| Record {
            row: row.into(),
            peer,
            round,
            figures: (!value.is_nan()).then(|| Figures::from([(figure.into(), value)])),
        };
        values.iter().enumerate().map(record).collect()
    }

    pub(crate) fn results(records: Vec<Vec<Record>>) -> Results {
        let records = records.concat();
        Results {
            rounds: records.iter().map(|record| record.round + 1).max().unwrap_or(0),
            records,
            ..Results::default()
        }
    }

    #[test]
    fn joined_runs_keep_their_pairs() {
        let run = |duly, go| {
            results(vec![
                records("W1", Peer::Duly, "ns_per_task", &[duly]),
                records("W1", Peer::Go, "ns_per_task", &[go]),
            ])
        };
        let joined = run(1.0, 2.0).joined(run(3.0, 4.0)).expect("both full");
        assert_eq!(joined.rounds, 2);
        assert_eq!(joined.values("W1", Peer::Duly, "ns_per_task"), [(0, 1.0), (1, 3.0)]);
        assert_eq!(joined.values("W1", Peer::Go, "ns_per_task"), [(0, 2.0), (1, 4.0)]);
        let quick = Results {
            quick: true,
            ..Results::default()
        };
        assert!(joined.joined(quick).is_err());
    }
}
