//! Whether a goal is met: the ratio, difference or figure of each round, and what may be said of their median.
//!
//! Kept true: a ratio is the median over the rounds of (duly / peer in that round), never a ratio of medians; `met` and
//! `missed` are said only from `PAIRS` pairs on and, of time, only on a machine that rests.

use crate::goal::{Against, Goal};
use crate::peers::Peer;
use crate::results::Results;
use crate::rows::Row;
use crate::stats::{Summary, summary};
use std::fmt;

/// As many interleaved pairs as a verdict needs.
pub(crate) const PAIRS: usize = 15;
/// The most of the machine that others may use.
const QUIET: f64 = 0.05;
/// The upper end of the interval may pass the goal by this factor.
pub(crate) const SLACK: f64 = 1.15;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Met,
    Missed(&'static str),
    Undecided(&'static str),
}

impl Verdict {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Verdict::Met => "met",
            Verdict::Missed(_) => "missed",
            Verdict::Undecided(_) => "undecided",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Met => f.write_str(self.word()),
            Verdict::Missed("") | Verdict::Undecided("") => f.write_str(self.word()),
            Verdict::Missed(aside) | Verdict::Undecided(aside) => write!(f, "{}, {aside}", self.word()),
        }
    }
}

/// A goal beside what was measured: the ratio, the difference or the figure it is about.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) row: &'static Row,
    pub(crate) goal: &'static Goal,
    pub(crate) measured: Option<Summary>,
    pub(crate) verdict: Verdict,
}

/// Every goal of the rows that were measured.
pub(crate) fn judge(results: &Results) -> Vec<Judged> {
    let goals = results
        .rows()
        .into_iter()
        .flat_map(|row| row.goals.iter().map(move |goal| (row, goal)));
    goals.map(|(row, goal)| one(results, row, goal)).collect()
}

fn one(results: &Results, row: &'static Row, goal: &'static Goal) -> Judged {
    let duly = paired_values(results, &row.name, Peer::Duly, &goal.figure);
    let other = |name: &str, peer| paired_values(results, name, peer, &goal.figure);
    let measured = match &goal.against {
        Against::Fixed => paired(&duly, &duly, |duly, _| duly),
        Against::Times(peer, name) => {
            let name = name.as_ref().unwrap_or(&row.name);
            paired(&duly, &other(name, *peer), |duly, peer| duly / peer)
        }
        Against::Plus(name) => paired(&duly, &other(name, Peer::Duly), |duly, other| duly - other),
    };
    let busy = is_busy(results) && !holds_under_load(&goal.figure);
    let verdict = if results.over(&row.name, Peer::Duly) > 0 {
        Verdict::Missed("over the row's limit")
    } else {
        verdict(measured.as_ref(), goal.limit, busy)
    };
    Judged {
        row,
        goal,
        measured,
        verdict,
    }
}

/// The figure of each round. A run that was ended took at least the row's limit, so its ratio is an upper bound.
fn paired_values(results: &Results, row: &str, peer: Peer, figure: &str) -> Vec<(usize, f64)> {
    let mut values = results.values(row, peer, figure);
    if figure == "seconds"
        && let Ok(row) = crate::rows::find(row)
    {
        let over = results.of(&row.name, peer).filter(|record| record.figures.is_none());
        values.extend(over.map(|record| (record.round, row.limit().as_secs_f64())));
    }
    values
}

/// duly / peer in one row, over the rounds that have both.
pub(crate) fn ratio(results: &Results, row: &Row, peer: Peer, figure: &str) -> Option<Summary> {
    paired(
        &paired_values(results, &row.name, Peer::Duly, figure),
        &paired_values(results, &row.name, peer, figure),
        |duly, peer| duly / peer,
    )
}

fn paired(duly: &[(usize, f64)], other: &[(usize, f64)], combine: impl Fn(f64, f64) -> f64) -> Option<Summary> {
    let pair = |(round, duly): &(usize, f64)| {
        let (_, other) = other.iter().find(|(same, _)| same == round)?;
        Some(combine(*duly, *other))
    };
    summary(&duly.iter().filter_map(pair).collect::<Vec<_>>())
}

/// Met: the median is at most the goal and the interval ends below 1.15 times the goal. Missed: the whole interval is
/// above the goal. Neither, too few pairs or a busy machine: undecided.
fn verdict(judged: Option<&Summary>, limit: f64, busy: bool) -> Verdict {
    let Some(judged) = judged else {
        return Verdict::Undecided("not measured");
    };
    let looks = Verdict::Undecided(if judged.median <= limit {
        "looks met"
    } else {
        "looks missed"
    });
    match judged.interval {
        _ if busy || judged.count < PAIRS => looks,
        Some((_, high)) if judged.median <= limit && high <= limit * SLACK => Verdict::Met,
        Some((low, _)) if low > limit => Verdict::Missed(""),
        _ => looks,
    }
}

/// A load makes some peers many times slower and others not at all: ratios then say nothing.
pub(crate) fn is_busy(results: &Results) -> bool {
    results.used_by_others > QUIET
}

fn holds_under_load(figure: &str) -> bool {
    matches!(figure, "bytes" | "peak_mb" | "wakeups")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::{records, results};

    fn said(runs: &[f64], limit: f64) -> Verdict {
        verdict(summary(runs).as_ref(), limit, false)
    }

    const LOOKS_MET: Verdict = Verdict::Undecided("looks met");
    const LOOKS_MISSED: Verdict = Verdict::Undecided("looks missed");

    #[test]
    fn a_verdict_needs_fifteen_pairs() {
        assert_eq!(said(&[0.4; 14], 0.45), LOOKS_MET);
        assert_eq!(said(&[0.4; 15], 0.45), Verdict::Met);
        assert_eq!(said(&[0.5; 14], 0.45), LOOKS_MISSED);
        assert_eq!(said(&[0.5; 15], 0.45), Verdict::Missed(""));
        assert_eq!(said(&[], 0.45), Verdict::Undecided("not measured"));
    }

    #[test]
    fn a_busy_machine_decides_nothing() {
        assert_eq!(verdict(summary(&[0.4; 15]).as_ref(), 0.45, true), LOOKS_MET);
        assert_eq!(verdict(summary(&[0.5; 15]).as_ref(), 0.45, true), LOOKS_MISSED);
    }

    #[test]
    fn a_wide_interval_decides_nothing() {
        let runs = |fast: usize| [vec![0.4; fast], vec![0.9; 15 - fast]].concat();
        assert_eq!(said(&runs(9), 0.45), LOOKS_MET);
        assert_eq!(said(&runs(6), 0.45), LOOKS_MISSED);
        // The fourth from each end is what counts: three slow runs of fifteen change nothing, four do.
        assert_eq!(said(&runs(12), 0.45), Verdict::Met);
        assert_eq!(said(&runs(11), 0.45), LOOKS_MET);
    }

    #[test]
    fn the_interval_may_pass_the_goal_by_a_little() {
        let runs = |high: f64| [vec![0.4; 11], vec![high; 4]].concat();
        assert_eq!(said(&runs(0.45 * 1.149), 0.45), Verdict::Met);
        assert_eq!(said(&runs(0.45 * 1.151), 0.45), LOOKS_MET);
    }

    fn judged(results: &Results, row: &str, goal: usize) -> (Option<f64>, Verdict) {
        let all = judge(results);
        let judged = all.iter().filter(|judged| judged.row.name == row).nth(goal);
        let judged = judged.expect("a goal of this row");
        (judged.measured.as_ref().map(|measured| measured.median), judged.verdict)
    }

    #[test]
    fn a_ratio_is_of_pairs_not_of_medians() {
        let duly = [1.0, 2.0, 90.0];
        let crossbeam = [10.0, 4.0, 100.0];
        let results = results(vec![
            records("W1", Peer::Duly, "ns_per_task", &duly),
            records("W1", Peer::Crossbeam, "ns_per_task", &crossbeam),
        ]);
        assert_eq!(judged(&results, "W1", 0), (Some(0.5), LOOKS_MISSED));
    }

    #[test]
    fn rounds_that_lack_one_side_are_no_pairs() {
        let mut other = records("W1", Peer::Crossbeam, "ns_per_task", &[2.0, 4.0]);
        other[1].round = 7;
        let results = results(vec![records("W1", Peer::Duly, "ns_per_task", &[1.0, 1.0, 1.0]), other]);
        let row = crate::rows::find("W1").expect("a row");
        let ratio = ratio(&results, row, Peer::Crossbeam, "ns_per_task").expect("a pair");
        assert_eq!((ratio.count, ratio.median), (1, 0.5));
    }

    #[test]
    fn goals_across_rows_take_the_same_round() {
        let results = results(vec![
            records("W1", Peer::Duly, "ns_per_task", &[50.0; 15]),
            records("W5", Peer::Duly, "ns_per_task", &[60.0; 15]),
            records("W1x8", Peer::Duly, "ns_per_task", &[65.0; 15]),
        ]);
        assert_eq!(judged(&results, "W5", 0), (Some(10.0), Verdict::Met));
        assert_eq!(judged(&results, "W1x8", 1), (Some(1.3), Verdict::Missed("")));
        assert_eq!(judged(&results, "W1x8", 0), (None, Verdict::Undecided("not measured")));
    }

    #[test]
    fn a_peer_past_the_limit_bounds_the_ratio() {
        let limit = crate::rows::find("W3").expect("a row").limit().as_secs_f64();
        let results = results(vec![
            records("W3", Peer::Duly, "seconds", &[limit / 100.0; 15]),
            records("W3", Peer::Go, "seconds", &[f64::NAN; 15]),
        ]);
        assert_eq!(judged(&results, "W3", 0), (Some(0.01), Verdict::Met));
    }

    #[test]
    fn duly_past_the_limit_is_a_miss() {
        let results = results(vec![records("W3", Peer::Duly, "seconds", &[f64::NAN])]);
        assert_eq!(judged(&results, "W3", 0).1.word(), "missed");
    }

    #[test]
    fn memory_is_judged_on_a_busy_machine_and_time_is_not() {
        let mut results = results(vec![
            records("W4", Peer::Duly, "bytes", &[64.0; 15]),
            records("W6token", Peer::Duly, "ms", &[0.5; 15]),
        ]);
        results.used_by_others = 0.2;
        assert_eq!(judged(&results, "W4", 0).1, Verdict::Met);
        assert_eq!(judged(&results, "W6token", 0).1, LOOKS_MET);
    }

    #[test]
    fn a_goal_of_nothing_is_met_by_nothing_only() {
        let wakeups = |count| results(vec![records("rest", Peer::Duly, "wakeups", &[count; 15])]);
        assert_eq!(judged(&wakeups(0.0), "rest", 0).1, Verdict::Met);
        assert_eq!(judged(&wakeups(1.0), "rest", 0).1, Verdict::Missed(""));
    }
}
