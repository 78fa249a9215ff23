//! One Markdown table a run: medians, ratios of pairs, goals and whether they are met.
//!
//! Kept true: a ratio is the median over the rounds of (duly / peer in that round), never a ratio of medians; `met` and
//! `missed` are said only from `PAIRS` pairs on and, of time, only on a machine that rests.

use crate::machine;
use crate::rows::{Against, Goal, Peer, Row};
use crate::runner::{Plan, Results, Sample};
use crate::stats::{Summary, summary};
use comfy_table::{CellAlignment, Table, presets};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// As many interleaved pairs as a verdict needs.
const PAIRS: usize = 15;
/// The most of the machine that others may use.
const QUIET: f64 = 0.05;
/// The upper end of the interval may pass the goal by this factor.
const SLACK: f64 = 1.15;

pub(crate) fn markdown(plan: &Plan, results: &Results) -> String {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header([
        "row",
        "peer",
        "figure",
        "median",
        "min – max",
        "90 % of the median",
        "runs",
        "duly / peer",
        "90 %",
        "goal",
        "verdict",
    ]);
    for right in [3, 4, 5, 6, 7, 8] {
        table
            .column_mut(right)
            .expect("one of the columns above")
            .set_cell_alignment(CellAlignment::Right);
    }
    let mut verdicts = BTreeMap::<&str, usize>::new();
    for row in &plan.rows {
        for figure in row.figures {
            for peer in row.peers.iter().filter(|peer| plan.peers.contains(peer)) {
                let runs = runs(results, row, *peer, figure);
                let mut cells = vec![row.name.into(), peer.to_string(), words(figure).into()];
                cells.extend(figures(row, &runs, figure));
                cells.extend(comparison(results, row, *peer, figure, &mut verdicts));
                table.add_row(cells);
            }
        }
    }
    let mut text = String::new();
    put(&mut text, format_args!("{table}\n"));
    let verdict = |word| verdicts.get(word).copied().unwrap_or(0);
    let (met, missed, undecided) = (verdict("met"), verdict("missed"), verdict("undecided"));
    put(
        &mut text,
        format_args!("Goals: {met} met, {missed} missed, {undecided} undecided.\n"),
    );
    for note in &results.notes {
        put(&mut text, format_args!("- {note}"));
    }
    let quick = if plan.quick { ", quick (smaller runs)" } else { "" };
    put(
        &mut text,
        format_args!(
            "- rounds: {}{quick}; each run a fresh process, peers interleaved",
            plan.rounds
        ),
    );
    for (what, value) in machine::facts() {
        put(&mut text, format_args!("- {what}: {value}"));
    }
    let others = results.used_by_others * 100.0;
    let busy = if busy(results) {
        ": TOO BUSY, no goal of time is judged"
    } else {
        ""
    };
    put(
        &mut text,
        format_args!("- of the machine, others used {others:.1} %{busy}\n"),
    );
    for row in &plan.rows {
        let n = if plan.quick { row.quick_n } else { row.n };
        put(
            &mut text,
            format_args!("- {}: {} ({} workers, n = {n})", row.name, row.what, row.workers),
        );
    }
    text
}

fn put(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("writing to a string does not fail");
}

/// The figure of each round. A run that was over the limit took at least the limit, and has no other figure.
struct Runs {
    values: BTreeMap<usize, f64>,
    over: usize,
}

fn runs(results: &Results, row: &Row, peer: Peer, figure: &str) -> Runs {
    let mut runs = Runs {
        values: BTreeMap::new(),
        over: 0,
    };
    for (round, sample) in results.samples(row.name, peer) {
        match sample {
            Sample::Figures(figures) => runs.values.extend(figures.get(figure).map(|value| (round, *value))),
            Sample::Over => {
                runs.over += 1;
                if figure == "seconds" {
                    runs.values.insert(round, row.limit.as_secs_f64());
                }
            }
        }
    }
    runs
}

/// Median, range, interval and count of a peer's runs.
fn figures(row: &Row, runs: &Runs, figure: &str) -> [String; 4] {
    let none = || String::from("–");
    let values: Vec<f64> = runs.values.values().copied().collect();
    let Some(s) = summary(&values) else {
        let median = if runs.over > 0 {
            format!("over {} s a run", row.limit.as_secs())
        } else {
            none()
        };
        return [median, none(), none(), runs.over.to_string()];
    };
    // Runs over the limit are the slowest: what lies among them is only known to be more than it.
    let limit = row.limit.as_secs_f64();
    let over = |value: f64| {
        if figure == "seconds" && value >= limit {
            "> "
        } else {
            ""
        }
    };
    let bounded = |value: f64| format!("{}{}", over(value), number(value));
    let interval = s
        .interval
        .map(|(low, high)| format!("{} – {}", bounded(low), bounded(high)));
    let range = format!("{} – {}", bounded(s.min), bounded(s.max));
    [
        bounded(s.median),
        range,
        interval.unwrap_or_else(none),
        s.count.to_string(),
    ]
}

/// The ratio to duly, the goal and the verdict, for the line of this peer.
fn comparison(
    results: &Results,
    row: &Row,
    peer: Peer,
    figure: &str,
    verdicts: &mut BTreeMap<&'static str, usize>,
) -> [String; 4] {
    let mut cells = [const { String::new() }; 4];
    let duly = runs(results, row, Peer::Duly, figure);
    if peer != Peer::Duly {
        let other = runs(results, row, peer, figure);
        if let Some(ratio) = paired(&duly, &other, |duly, peer| duly / peer) {
            let below = if other.over > 0 && figure == "seconds" {
                "< "
            } else {
                ""
            };
            cells[0] = format!("{below}{}", number(ratio.median));
            cells[1] = interval(&ratio).unwrap_or_default();
        }
    }
    for goal in row
        .goals
        .iter()
        .filter(|goal| goal.figure == figure && line_of(goal, row) == peer)
    {
        let (text, judged) = match goal.against {
            Against::Fixed => (number(goal.limit), paired(&duly, &duly, |duly, _| duly)),
            Against::Times(name, other) => {
                let other = runs_of(results, name, other, figure);
                let text = if name == row.name {
                    format!("{}x", goal.limit)
                } else {
                    format!("{}x {name}", goal.limit)
                };
                (
                    text,
                    other.and_then(|other| paired(&duly, &other, |duly, peer| duly / peer)),
                )
            }
            Against::Plus(name, other) => {
                let other = runs_of(results, name, other, figure);
                let text = format!("{name} + {}", number(goal.limit));
                (
                    text,
                    other.and_then(|other| paired(&duly, &other, |duly, peer| duly - peer)),
                )
            }
        };
        if cells[0].is_empty()
            && !matches!(goal.against, Against::Fixed)
            && let Some(judged) = &judged
        {
            let sign = if matches!(goal.against, Against::Plus(..)) && judged.median >= 0.0 {
                "+"
            } else {
                ""
            };
            cells[0] = format!("{sign}{}", number(judged.median));
            cells[1] = interval(judged).unwrap_or_default();
        }
        let (word, aside) = match duly.over {
            0 => verdict(judged.as_ref(), goal.limit, busy(results) && !is_memory(figure)),
            _ => ("missed", ", over the row's limit"),
        };
        *verdicts.entry(word).or_default() += 1;
        cells[2] = format!("<= {text}");
        cells[3] = format!("{word}{aside}");
    }
    cells
}

/// A goal against a peer in the same row stands on that peer's line, any other on duly's.
fn line_of(goal: &Goal, row: &Row) -> Peer {
    match goal.against {
        Against::Times(name, peer) | Against::Plus(name, peer) if name == row.name => peer,
        _ => Peer::Duly,
    }
}

fn runs_of(results: &Results, name: &str, peer: Peer, figure: &str) -> Option<Runs> {
    crate::rows::find(name).ok().map(|row| runs(results, row, peer, figure))
}

/// Over the rounds that have both.
fn paired(duly: &Runs, other: &Runs, combine: impl Fn(f64, f64) -> f64) -> Option<Summary> {
    let pair = |(round, duly): (&usize, &f64)| other.values.get(round).map(|other| combine(*duly, *other));
    summary(&duly.values.iter().filter_map(pair).collect::<Vec<_>>())
}

/// Met: the median is at most the goal and the interval ends below 1.15 times the goal. Missed: the whole interval is
/// above the goal. Neither, too few pairs or a busy machine: undecided.
fn verdict(judged: Option<&Summary>, limit: f64, busy: bool) -> (&'static str, &'static str) {
    let Some(judged) = judged else {
        return ("undecided", ", not measured");
    };
    let looks = if judged.median <= limit {
        ", looks met"
    } else {
        ", looks missed"
    };
    match judged.interval {
        _ if busy || judged.count < PAIRS => ("undecided", looks),
        Some((_, high)) if judged.median <= limit && high <= limit * SLACK => ("met", ""),
        Some((low, _)) if low > limit => ("missed", ""),
        _ => ("undecided", looks),
    }
}

fn interval(summary: &Summary) -> Option<String> {
    summary
        .interval
        .map(|(low, high)| format!("{} – {}", number(low), number(high)))
}

/// A load makes some peers many times slower and others not at all: ratios then say nothing.
fn busy(results: &Results) -> bool {
    results.used_by_others > QUIET
}

fn is_memory(figure: &str) -> bool {
    matches!(figure, "bytes" | "peak_mb")
}

/// Three digits, more for large numbers.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

fn words(figure: &str) -> &str {
    match figure {
        "ns_per_task" => "ns a task",
        "p50_ns" => "p50, ns",
        "p99_ns" => "p99, ns",
        "ms" => "ms until all answers are read",
        "cancel_ms" => "ms inside cancel",
        "peak_mb" => "peak memory, MB",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(runs: &[f64], limit: f64) -> (&'static str, &'static str) {
        verdict(summary(runs).as_ref(), limit, false)
    }

    #[test]
    fn a_verdict_needs_fifteen_pairs() {
        assert_eq!(said(&[0.4; 14], 0.45), ("undecided", ", looks met"));
        assert_eq!(said(&[0.4; 15], 0.45), ("met", ""));
        assert_eq!(said(&[0.5; 14], 0.45), ("undecided", ", looks missed"));
        assert_eq!(said(&[0.5; 15], 0.45), ("missed", ""));
        assert_eq!(said(&[], 0.45).0, "undecided");
    }

    #[test]
    fn a_busy_machine_decides_nothing() {
        assert_eq!(
            verdict(summary(&[0.4; 15]).as_ref(), 0.45, true),
            ("undecided", ", looks met")
        );
    }

    #[test]
    fn a_wide_interval_decides_nothing() {
        let mut runs = vec![0.4; 9];
        runs.extend([0.9; 6]);
        assert_eq!(said(&runs, 0.45), ("undecided", ", looks met"));
        let mut runs = vec![0.4; 6];
        runs.extend([0.9; 9]);
        assert_eq!(said(&runs, 0.45), ("undecided", ", looks missed"));
    }

    #[test]
    fn pairs_are_of_one_round() {
        let runs = |values: &[(usize, f64)]| Runs {
            values: values.iter().copied().collect(),
            over: 0,
        };
        let (duly, other) = (
            runs(&[(0, 1.0), (1, 2.0), (3, 9.0)]),
            runs(&[(0, 2.0), (1, 4.0), (2, 1.0)]),
        );
        let ratio = paired(&duly, &other, |duly, other| duly / other).expect("two pairs");
        assert_eq!((ratio.median, ratio.count), (0.5, 2));
    }
}
