//! Two Markdown tables a run: the goals with their verdicts, and every figure of every peer.
//!
//! Kept true: everything shown comes from the results, none of it from this run or this machine, so a table made again
//! later is the same; what was judged and how stands in verdict.rs.

use crate::peers::Peer;
use crate::results::Results;
use crate::rows::Row;
use crate::runner::BESIDE;
use crate::stats::{Summary, summary};
use crate::verdict::{self, Judged, PAIRS, SLACK};
use comfy_table::{CellAlignment, Table, presets};
use std::fmt::Write as _;

pub(crate) fn markdown(results: &Results) -> String {
    let judged = verdict::judge(results);
    let mut text = String::new();
    if !judged.is_empty() {
        put(&mut text, format_args!("{}", goals(&judged)));
        let count = |word: &str| judged.iter().filter(|judged| judged.verdict.word() == word).count();
        let (met, missed, undecided) = (count("met"), count("missed"), count("undecided"));
        put(
            &mut text,
            format_args!("\nGoals: {met} met, {undecided} undecided, {missed} missed.\n"),
        );
    }
    put(&mut text, format_args!("{}\n", figures(results, &judged)));
    notes(&mut text, results);
    text
}

fn put(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("writing to a string does not fail");
}

fn table<const N: usize>(header: [&str; N], right: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header(header);
    for &column in right {
        let column = table.column_mut(column).expect("one of the columns above");
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Every goal, what was measured, and whether it is met.
fn goals(judged: &[Judged]) -> Table {
    let mut table = table(
        ["row", "figure", "goal", "measured", "90 %", "pairs", "verdict"],
        &[3, 4, 5],
    );
    for judged in judged {
        let measured = judged.measured.as_ref();
        let sign = if judged.goal.to_string().contains('+') && measured.is_some_and(|m| m.median >= 0.0) {
            "+"
        } else {
            ""
        };
        table.add_row([
            judged.row.name.clone(),
            words(&judged.goal.figure).into(),
            judged.goal.to_string(),
            measured.map_or(none(), |measured| format!("{sign}{}", number(measured.median))),
            measured.and_then(interval).unwrap_or_else(none),
            measured.map_or(0, |measured| measured.count).to_string(),
            judged.verdict.to_string(),
        ]);
    }
    table
}

/// Every figure of every peer, and duly's ratio to it.
fn figures(results: &Results, judged: &[Judged]) -> Table {
    let mut table = table(
        [
            "row",
            "figure",
            "peer",
            "median",
            "min – max",
            "90 % of the median",
            "runs",
            "duly / peer",
            "90 %",
            "goal",
        ],
        &[3, 4, 5, 6, 7, 8],
    );
    for row in results.rows() {
        for figure in &row.figures {
            for &peer in &row.peers {
                let Some(measured) = measured(results, row, peer, figure) else {
                    continue;
                };
                let mut cells = vec![row.name.clone(), words(figure).into(), peer.name().into()];
                cells.extend(measured);
                cells.extend(beside_duly(results, row, peer, figure));
                let on_this_line = |judged: &&Judged| {
                    judged.row.name == row.name && judged.goal.figure == *figure && peer == line_of(judged)
                };
                let goals: Vec<String> = judged
                    .iter()
                    .filter(on_this_line)
                    .map(|judged| format!("{}: {}", judged.goal, judged.verdict.word()))
                    .collect();
                cells.push(goals.join("; "));
                table.add_row(cells);
            }
        }
    }
    table
}

/// A goal against a peer in the same row stands on that peer's line, any other on duly's.
fn line_of(judged: &Judged) -> Peer {
    match &judged.goal.against {
        crate::goal::Against::Times(peer, None) => *peer,
        _ => Peer::Duly,
    }
}

/// Median, range, interval and count of a peer's runs; `None` when nobody tried.
fn measured(results: &Results, row: &Row, peer: Peer, figure: &str) -> Option<[String; 4]> {
    let alone = |text: &str| Some([text.into(), none(), none(), String::from("0")]);
    if results.has_failed(&row.name, peer) {
        return alone("FAILED");
    }
    if results.why_skipped(peer).is_some() {
        return alone("SKIPPED");
    }
    let over = results.over(&row.name, peer);
    let values: Vec<f64> = results
        .values(&row.name, peer, figure)
        .iter()
        .map(|(_, value)| *value)
        .collect();
    let Some(s) = summary(&values) else {
        return match over {
            0 if results.of(&row.name, peer).next().is_none() => None,
            0 => alone("–"),
            _ if figure == "seconds" => {
                Some([format!("> {}", row.limit().as_secs()), none(), none(), over.to_string()])
            }
            _ => Some([
                format!("over {} s", row.limit().as_secs()),
                none(),
                none(),
                over.to_string(),
            ]),
        };
    };
    let ended = if over > 0 {
        format!(" + {over} ended")
    } else {
        String::new()
    };
    Some([
        number(s.median),
        format!("{} – {}", number(s.min), number(s.max)),
        interval(&s).unwrap_or_else(none),
        format!("{}{ended}", s.count),
    ])
}

fn beside_duly(results: &Results, row: &Row, peer: Peer, figure: &str) -> [String; 2] {
    let ratio =
        verdict::ratio(results, row, peer, figure).filter(|ratio| peer != Peer::Duly && ratio.median.is_finite());
    let Some(ratio) = ratio else {
        return [String::new(), String::new()];
    };
    let below = if results.over(&row.name, peer) > 0 { "< " } else { "" };
    [
        format!("{below}{}", number(ratio.median)),
        interval(&ratio).unwrap_or_default(),
    ]
}

fn notes(text: &mut String, results: &Results) {
    let mut note = |line: String| put(text, format_args!("- {line}"));
    for (row, peer, error) in &results.failed {
        note(format!("FAILED: {row} {peer}: {error}"));
    }
    for (peer, cure) in &results.skipped {
        note(format!(
            "SKIPPED: peer {peer} is not on this machine; its goals stay undecided. {cure}"
        ));
    }
    let quick = if results.quick { ", quick (smaller runs)" } else { "" };
    note(format!(
        "rounds: {}{quick}; each run a fresh process, peers in turn; peers without a goal in a row: at most {BESIDE} rounds",
        results.rounds
    ));
    note(format!(
        "90 %: from ranks (order statistics), nothing assumed of the distribution; met: {PAIRS} pairs, their median at \
         most the goal and the interval ends below {SLACK} times the goal"
    ));
    for row in results.rows() {
        let ended: Vec<_> = row
            .peers
            .iter()
            .filter(|peer| results.over(&row.name, **peer) > 0)
            .collect();
        for peer in ended {
            let limit = row.limit().as_secs();
            note(format!(
                "{} {peer}: ended after {limit} s, and not tried again",
                row.name
            ));
        }
    }
    for (what, value) in &results.machine {
        note(format!("{what}: {value}"));
    }
    let busy = if verdict::is_busy(results) {
        ": TOO BUSY, no goal of time is judged"
    } else {
        ""
    };
    note(format!(
        "of the machine, others used {:.1} %{busy}\n",
        results.used_by_others * 100.0
    ));
    for row in results.rows() {
        let n = if results.quick { row.quick_n } else { row.n };
        let workers = if row.workers == 1 {
            "1 worker".into()
        } else {
            format!("{} workers", row.workers)
        };
        note(format!("{}: {} ({workers}, n = {n})", row.name, row.what));
    }
}

fn none() -> String {
    String::from("–")
}

fn interval(summary: &Summary) -> Option<String> {
    summary
        .interval
        .map(|(low, high)| format!("{} – {}", number(low), number(high)))
}

/// Three digits, more for large numbers.
pub(crate) fn number(value: f64) -> String {
    let digits = match value.abs() {
        0.0 => 0,
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

pub(crate) fn words(figure: &str) -> &str {
    match figure {
        "ns_per_task" => "ns a task",
        "p50_ns" => "p50, ns",
        "p99_ns" => "p99, ns",
        "ms" => "ms to the last answer",
        "let_go_ms" => "ms to the last task let go",
        "cancel_ms" => "ms inside cancel",
        "peak_mb" => "peak memory, MB",
        "wakeups" => "wake-ups",
        "cpu_ms" => "CPU, ms",
        "wait_p50_us" => "wait p50, µs",
        "wait_p99_us" => "wait p99, µs",
        "wait_p999_us" => "wait p99.9, µs",
        "cpu_us" => "CPU a task, µs",
        "switches" => "context switches a task",
        "wakeups_per_task" => "wake-ups a task",
        "cancelled_ran_percent" => "cancelled, ran anyway, %",
        "late_percent" => "past the deadline, %",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::{records, results};

    #[test]
    fn a_peer_that_is_missing_is_said_with_the_cure() {
        let mut results = results(vec![records("W6", Peer::Duly, "ms", &[1.0])]);
        results.skipped.push((Peer::Libuv, "apt-get install it".into()));
        let text = markdown(&results);
        let line = text
            .lines()
            .find(|line| line.contains("| libuv"))
            .expect("a line of libuv");
        assert!(line.contains("SKIPPED"), "{line}");
        assert!(text.contains("apt-get install it"));
        assert!(text.contains("Goals: 0 met, 1 undecided, 0 missed."), "{text}");
    }

    #[test]
    fn a_run_that_was_ended_is_a_bound() {
        let results = results(vec![
            records("W3", Peer::Duly, "seconds", &[0.05]),
            records("W3", Peer::Crossbeam, "seconds", &[f64::NAN]),
        ]);
        let text = markdown(&results);
        let line = text.lines().find(|line| line.contains("| crossbeam")).expect("a line");
        assert!(line.contains("> 3") && line.contains("< 0.017"), "{line}");
        assert!(text.contains("W3 crossbeam: ended after 3 s"));
    }

    #[test]
    fn every_figure_has_words() {
        for row in crate::rows::all() {
            for figure in &row.figures {
                assert!(matches!(figure.as_str(), "seconds" | "bytes" | "ms" | "switches") || words(figure) != figure);
            }
        }
    }
}
