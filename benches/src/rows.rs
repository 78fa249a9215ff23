//! The rows: each workload with its size, its peers and its goals. To add a row, add an entry to `ROWS`.
//!
//! Kept true: goals stand here and nowhere else; a goal names the row, the peer and the figure it is measured against.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Peer {
    /// The pool of this project.
    Duly,
    /// N threads on a bounded crossbeam channel, `oneshot` for the answers.
    Crossbeam,
    /// spawn_blocking with max_blocking_threads = workers; its queue has no bound.
    Tokio,
    /// The threadpool crate, `oneshot` for the answers; its queue has no bound.
    Threadpool,
    /// N goroutines on a bounded Go channel; skipped when there is no `go`.
    Go,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Peer::Duly => "duly",
            Peer::Crossbeam => "crossbeam",
            Peer::Tokio => "tokio",
            Peer::Threadpool => "threadpool",
            Peer::Go => "go",
        })
    }
}

/// What a run of the row does; see workload.rs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Submit, keeping at most `window` handles; wait for the oldest first.
    Windowed { window: usize },
    /// Nobody waits; the clock stops when the last has run. A callback that captures something costs an allocation
    /// where closures are boxed.
    Fire { captures: bool },
    /// As `Windowed`, with `count` producers that share the window.
    Producers { count: usize, window: usize },
    /// Submit one, wait for it; a rest before each.
    Loop { pause: Duration },
    /// Submit all, then wait for all.
    All,
    /// As `Windowed`, each task with a deadline.
    Deadlines { window: usize, timeout: Duration },
    /// Resident memory of tasks that are queued while all workers are stuck.
    Queued { handles: bool },
    /// Resident memory of workers with nothing to do.
    Idle,
    /// Cancel everything queued while all workers are stuck; until the last is answered.
    Cancel { by_token: bool },
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Against {
    /// The figure is at most `limit` times that of this peer in this row.
    Times(&'static str, Peer),
    /// The figure is at most `limit` more than that of this peer in this row.
    Plus(&'static str, Peer),
    /// The figure is at most `limit`.
    Fixed,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Goal {
    pub(crate) figure: &'static str,
    pub(crate) limit: f64,
    pub(crate) against: Against,
}

#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) kind: Kind,
    pub(crate) workers: usize,
    pub(crate) capacity: usize,
    pub(crate) n: usize,
    pub(crate) quick_n: usize,
    /// A run that takes longer is ended and shown as `> limit`.
    pub(crate) limit: Duration,
    /// Tasks before the clock starts, so that threads run and memory is there; and a rest after them.
    pub(crate) warm_up: usize,
    pub(crate) settle: Duration,
    pub(crate) figures: &'static [&'static str],
    pub(crate) peers: &'static [Peer],
    pub(crate) goals: &'static [Goal],
    /// Part of a run without `--rows`.
    pub(crate) default: bool,
}

use Peer::{Crossbeam, Duly, Go, Threadpool, Tokio};

pub(crate) const ALL: &[Peer] = &[Duly, Crossbeam, Tokio, Threadpool, Go];
const RUST: &[Peer] = &[Duly, Crossbeam, Tokio, Threadpool];
const NS: &[&str] = &["ns_per_task"];

const fn times(figure: &'static str, limit: f64, row: &'static str, peer: Peer) -> Goal {
    Goal {
        figure,
        limit,
        against: Against::Times(row, peer),
    }
}

const fn fixed(figure: &'static str, limit: f64) -> Goal {
    Goal {
        figure,
        limit,
        against: Against::Fixed,
    }
}

/// What most rows have; each row says what it has otherwise.
const BASE: Row = Row {
    name: "",
    what: "",
    kind: Kind::Fire { captures: false },
    workers: 2,
    capacity: 1024,
    n: 1_000_000,
    quick_n: 200_000,
    limit: Duration::from_secs(20),
    warm_up: 4096,
    settle: Duration::from_millis(20),
    figures: NS,
    peers: ALL,
    goals: &[],
    default: true,
};

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "W1",
        what: "submit no-ops, queue 1024, keep a window of 1024 handles, wait for each; 2 workers",
        kind: Kind::Windowed { window: 1024 },
        goals: &[times("ns_per_task", 0.45, "W1", Crossbeam)],
        ..BASE
    },
    Row {
        name: "W1x8",
        what: "as W1 with 8 workers",
        kind: Kind::Windowed { window: 1024 },
        workers: 8,
        goals: &[
            times("ns_per_task", 0.2, "W1x8", Crossbeam),
            times("ns_per_task", 1.2, "W1", Duly),
        ],
        ..BASE
    },
    Row {
        name: "W1m",
        what: "as W1, all handles kept (measures fresh memory; no goal)",
        kind: Kind::All,
        default: false,
        figures: &["ns_per_task", "peak_mb"],
        ..BASE
    },
    Row {
        name: "W1b",
        what: "submit tasks that count, nobody waits; until the last has run",
        kind: Kind::Fire { captures: false },
        goals: &[
            times("ns_per_task", 1.0, "W1b", Go),
            times("ns_per_task", 0.6, "W1b", Crossbeam),
        ],
        ..BASE
    },
    Row {
        name: "W1bc",
        what: "as W1b, each callback captures a number, as real ones do (no goal)",
        kind: Kind::Fire { captures: true },
        ..BASE
    },
    Row {
        name: "W1c",
        what: "as W1 with four producers, 256 handles each",
        kind: Kind::Producers { count: 4, window: 1024 },
        goals: &[times("ns_per_task", 0.33, "W1c", Crossbeam)],
        ..BASE
    },
    Row {
        name: "W2",
        what: "closed loop: submit one, wait for it",
        kind: Kind::Loop { pause: Duration::ZERO },
        n: 100_000,
        quick_n: 20_000,
        figures: &["p50_ns", "p99_ns"],
        goals: &[times("p50_ns", 0.8, "W2", Go), times("p99_ns", 1.0, "W2", Go)],
        ..BASE
    },
    Row {
        name: "W2idle",
        what: "as W2 after 1 ms of rest before each",
        kind: Kind::Loop {
            pause: Duration::from_millis(1),
        },
        n: 500,
        quick_n: 200,
        figures: &["p50_ns", "p99_ns"],
        goals: &[times("p50_ns", 1.3, "W2idle", Go)],
        ..BASE
    },
    Row {
        name: "W3",
        what: "1000 workers: submit all, then wait for all; starting the workers is not counted",
        kind: Kind::All,
        workers: 1000,
        quick_n: 100_000,
        settle: Duration::from_millis(300),
        figures: &["seconds", "peak_mb"],
        goals: &[times("seconds", 0.12, "W3", Go), fixed("peak_mb", 85.0)],
        ..BASE
    },
    Row {
        name: "W4",
        what: "resident memory a queued task that captures a number, handle dropped; every worker stuck; queue of n",
        kind: Kind::Queued { handles: false },
        figures: &["bytes"],
        peers: RUST,
        goals: &[fixed("bytes", 75.0)],
        ..BASE
    },
    Row {
        name: "W4h",
        what: "as W4, handle kept (the handle itself not counted)",
        kind: Kind::Queued { handles: true },
        figures: &["bytes"],
        peers: RUST,
        goals: &[fixed("bytes", 80.0)],
        ..BASE
    },
    Row {
        name: "W4idle",
        what: "resident memory a worker with nothing to do, 1000 workers",
        kind: Kind::Idle,
        workers: 1000,
        n: 1000,
        quick_n: 1000,
        warm_up: 0,
        settle: Duration::from_millis(300),
        figures: &["bytes"],
        peers: &[Duly, Crossbeam, Threadpool],
        goals: &[fixed("bytes", 10_000.0)],
        ..BASE
    },
    Row {
        name: "W5",
        what: "as W1, each task with a deadline of 100 ms (crossbeam: recv_timeout)",
        kind: Kind::Deadlines {
            window: 1024,
            timeout: Duration::from_millis(100),
        },
        peers: &[Duly, Crossbeam],
        goals: &[Goal {
            figure: "ns_per_task",
            limit: 15.0,
            against: Against::Plus("W1", Duly),
        }],
        ..BASE
    },
    Row {
        name: "W6",
        what: "cancel 100,000 queued tasks one by one, every worker stuck; until all are answered",
        kind: Kind::Cancel { by_token: false },
        capacity: 100_100,
        n: 100_000,
        quick_n: 100_000,
        figures: &["ms", "cancel_ms"],
        peers: &[Duly],
        // 0.3 x libuv, which took 5.1 ms where the goal was set; libuv itself is not measured here.
        goals: &[fixed("ms", 1.5)],
        ..BASE
    },
    Row {
        name: "W6token",
        what: "as W6, by one token",
        kind: Kind::Cancel { by_token: true },
        capacity: 100_100,
        n: 100_000,
        quick_n: 100_000,
        figures: &["ms", "cancel_ms"],
        peers: &[Duly],
        goals: &[fixed("ms", 1.0)],
        ..BASE
    },
];

/// The row of this name, in any case of letters.
pub(crate) fn find(name: &str) -> Result<&'static Row, String> {
    ROWS.iter()
        .find(|row| row.name.eq_ignore_ascii_case(name))
        .ok_or_else(|| {
            let names: Vec<_> = ROWS.iter().map(|row| row.name).collect();
            format!("there is no row {name}; there are {}", names.join(", "))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_name_figures_and_peers_that_are_measured() {
        for row in ROWS {
            for goal in row.goals {
                assert!(row.figures.contains(&goal.figure), "{}: {}", row.name, goal.figure);
                assert!(row.peers.contains(&Duly), "{}", row.name);
                if let Against::Times(other, peer) | Against::Plus(other, peer) = goal.against {
                    let other = find(other).expect("the row of a goal");
                    assert!(other.peers.contains(&peer), "{}", row.name);
                    assert!(other.figures.contains(&goal.figure), "{}", row.name);
                }
            }
        }
    }
}
