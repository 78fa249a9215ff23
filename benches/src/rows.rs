//! The rows of the table, read from rows.toml: each workload with its size, its peers and its goals.
//!
//! Kept true: a row and its goals stand in rows.toml and nowhere else; what cannot be measured (a goal against a figure
//! or a peer that its row does not have) is found by a test, before anything runs.

use crate::goal::Goal;
use crate::peers::Peer;
use serde::Deserialize;
use std::sync::OnceLock;
use std::time::Duration;

/// What a run of a row does; see workload.rs and mixed.rs.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Work {
    /// Submit, keeping at most `window` handles; wait for the oldest first.
    Windowed { window: usize },
    /// Nobody waits; the clock stops when the last has run. A callback that captures something costs an allocation
    /// where closures are boxed.
    Fire { captures: bool },
    /// As `Windowed`, with `count` producers that share the window.
    Producers { count: usize, window: usize },
    /// All at once, by whatever the peer has for it.
    Batch,
    /// Submit one, wait for it; a rest before each.
    Loop { pause_us: u64 },
    /// Submit all, then wait for all.
    All,
    /// As `Windowed`, each task with a deadline.
    Deadlines { window: usize, timeout_ms: u64 },
    /// Resident memory of tasks that are queued while all workers are stuck.
    Queued { handles: bool },
    /// Resident memory of workers with nothing to do.
    Idle,
    /// As `Windowed`, the tasks dealt to so many queues of the pool in turn.
    Queues { window: usize, queues: usize },
    /// Cancel everything queued while all workers are stuck; until the last is answered.
    Cancel { by_token: bool },
    /// As `Windowed`, while at least `queued` tasks stand in the queue, each with a far deadline if so asked.
    Standing {
        window: usize,
        queued: usize,
        deadlines: bool,
    },
    /// Wake-ups and CPU time of a pool without work, for n ms.
    Rest,
    /// Tasks as a service has them.
    Mixed,
}

/// How a row becomes one row a point.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Curve {
    pub(crate) of: Of,
    pub(crate) points: Vec<usize>,
    /// Every point is at most this many times the first.
    flat: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Of {
    Workers,
    Queued,
    Queues,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) what: String,
    pub(crate) work: Work,
    #[serde(default = "two")]
    pub(crate) workers: usize,
    #[serde(default = "capacity")]
    pub(crate) capacity: usize,
    #[serde(default = "n")]
    pub(crate) n: usize,
    #[serde(default = "quick_n")]
    pub(crate) quick_n: usize,
    /// A run that takes longer is ended and shown as `> limit`.
    #[serde(default = "limit_s")]
    limit_s: u64,
    /// Tasks before the clock starts, so that threads run and memory is there.
    #[serde(default = "warm_up")]
    pub(crate) warm_up: usize,
    /// A rest after them.
    #[serde(default = "settle_ms")]
    settle_ms: u64,
    pub(crate) figures: Vec<String>,
    pub(crate) peers: Vec<Peer>,
    #[serde(default)]
    pub(crate) goals: Vec<Goal>,
    /// Measured without being asked for.
    #[serde(default = "yes")]
    pub(crate) default: bool,
    #[serde(default)]
    curve: Option<Curve>,
    /// The curve this row is a point of, and where on it.
    #[serde(skip)]
    pub(crate) point: Option<(String, usize)>,
}

fn two() -> usize {
    2
}
fn capacity() -> usize {
    1024
}
fn n() -> usize {
    1_000_000
}
fn quick_n() -> usize {
    200_000
}
fn limit_s() -> u64 {
    20
}
fn warm_up() -> usize {
    4096
}
fn settle_ms() -> u64 {
    20
}
fn yes() -> bool {
    true
}

impl Row {
    pub(crate) fn limit(&self) -> Duration {
        Duration::from_secs(self.limit_s)
    }

    pub(crate) fn settle(&self) -> Duration {
        Duration::from_millis(self.settle_ms)
    }

    /// Whether a goal of this row, or of another about this row, needs this peer in it. Duly is needed everywhere.
    pub(crate) fn needs(&self, peer: Peer) -> bool {
        use crate::goal::Against;
        let goals = all()
            .iter()
            .flat_map(|row| row.goals.iter().map(move |goal| (row, goal)));
        let mut needed = goals.map(|(row, goal)| match &goal.against {
            Against::Times(whose, other) => *whose == peer && *other.as_ref().unwrap_or(&row.name) == self.name,
            Against::Plus(other) => peer == Peer::Duly && *other == self.name,
            Against::Fixed => false,
        });
        (peer == Peer::Duly && !self.goals.is_empty()) || needed.any(|needed| needed)
    }

    /// One row a point of its curve, or itself.
    fn points(self) -> Vec<Row> {
        let Some(curve) = self.curve.clone() else {
            return vec![self];
        };
        let name = |point| format!("{}:{point}", self.name);
        let first = name(curve.points[0]);
        let at = |&point: &usize| {
            let mut row = self.clone();
            row.name = name(point);
            row.what = format!("{}: {point}", self.what);
            row.point = Some((self.name.clone(), point));
            match (curve.of, &mut row.work) {
                (Of::Workers, _) => row.workers = point,
                (Of::Queued, Work::Standing { queued, window, .. }) => {
                    *queued = point;
                    row.capacity = point + 2 * *window;
                }
                (Of::Queues, Work::Queues { queues, .. }) => *queues = point,
                (Of::Queues, work) => panic!("rows.toml: {work:?} has no number of queues"),
                (Of::Queued, work) => panic!("rows.toml: {work:?} has no number of queued tasks"),
            }
            if row.name != first {
                let goal = format!("{} <= {}x duly {first}", row.figures[0], curve.flat);
                row.goals.push(goal.try_into().expect("the form of a goal"));
            }
            row
        };
        curve.points.iter().map(at).collect()
    }
}

/// All rows, in the order of rows.toml.
pub(crate) fn all() -> &'static [Row] {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        row: Vec<Row>,
    }
    static ROWS: OnceLock<Vec<Row>> = OnceLock::new();
    ROWS.get_or_init(|| {
        let file: File = toml::from_str(include_str!("../rows.toml")).expect("rows.toml, as the tests have read it");
        file.row.into_iter().flat_map(Row::points).collect()
    })
}

/// The row of this name, in any case of letters.
pub(crate) fn find(name: &str) -> Result<&'static Row, String> {
    all()
        .iter()
        .find(|row| row.name.eq_ignore_ascii_case(name))
        .ok_or_else(|| unknown(name))
}

/// What a name asks for: a row, or every point of a curve.
#[derive(Clone, Debug)]
pub(crate) struct Asked(pub(crate) Vec<&'static Row>);

pub(crate) fn ask(name: &str) -> Result<Asked, String> {
    let is_curve = |row: &Row| matches!(&row.point, Some((curve, _)) if curve.eq_ignore_ascii_case(name));
    let found: Vec<_> = all()
        .iter()
        .filter(|row| row.name.eq_ignore_ascii_case(name) || is_curve(row))
        .collect();
    if found.is_empty() {
        Err(unknown(name))
    } else {
        Ok(Asked(found))
    }
}

fn unknown(name: &str) -> String {
    let mut names: Vec<&str> = all()
        .iter()
        .map(|row| row.point.as_ref().map_or(&row.name, |(curve, _)| curve).as_str())
        .collect();
    names.dedup();
    format!("there is no row {name}; there are {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::goal::Against;

    #[test]
    fn goals_name_figures_and_peers_that_are_measured() {
        for row in all() {
            for goal in &row.goals {
                assert!(row.figures.contains(&goal.figure), "{}: {}", row.name, goal.figure);
                assert!(row.peers.contains(&Peer::Duly), "{}", row.name);
                let (other, peer) = match &goal.against {
                    Against::Fixed => continue,
                    Against::Times(peer, other) => (other.as_ref().unwrap_or(&row.name), *peer),
                    Against::Plus(other) => (other, Peer::Duly),
                };
                let other = find(other).expect("the row of a goal");
                assert!(other.peers.contains(&peer), "{}", row.name);
                assert!(other.figures.contains(&goal.figure), "{}", row.name);
            }
        }
    }

    #[test]
    fn a_curve_is_judged_against_its_first_point() {
        let points = ask("WORKERS").expect("a curve").0;
        assert_eq!(points.first().map(|row| (row.workers, row.goals.len())), Some((2, 0)));
        let last = points.last().expect("points");
        assert_eq!((last.name.as_str(), last.workers), ("workers:1000", 1000));
        assert_eq!(last.goals[0].to_string(), "<= 1.5x duly workers:2");
        assert!(find("workers:2").expect("a point").needs(Peer::Duly));
        assert_eq!(ask("W1").expect("a row").0.len(), 1);
        assert!(ask("workers:3").is_err());
    }

    #[test]
    fn a_goal_needs_both_of_its_peers() {
        let row = |name| find(name).expect("a row");
        assert!(row("W1").needs(Peer::Crossbeam) && row("W1").needs(Peer::Duly));
        assert!(!row("W1").needs(Peer::Go) && !row("mixed").needs(Peer::Duly));
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = all().iter().map(|row| &row.name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all().len());
    }
}
