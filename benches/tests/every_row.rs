//! Every row on every peer that is listed for it, small: it ends, its answers are right and its figures are there.
//!
//! Kept true: nothing here looks at speed. A peer that is not on this machine is said and left out.

use serde_json::Value;
use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_duly-benches"))
        .args(arguments)
        .env("RUST_BACKTRACE", "0")
        .output()
        .expect("the program starts")
}

/// The figures of one small run; `None` when the peer is not on this machine.
fn one(row: &str, peer: &str, n: &str) -> Option<Value> {
    let output = run(&["one", "--row", row, "--peer", peer, "--n", n]);
    let complaint = String::from_utf8_lossy(&output.stderr);
    if complaint.contains("is not on this machine") {
        println!("SKIPPED {row} {peer}: {complaint}");
        return None;
    }
    assert!(output.status.success(), "{row} {peer}: {complaint}");
    let line: Value = serde_json::from_slice(&output.stdout).expect("a line of JSON");
    assert_eq!((line["row"].as_str(), line["peer"].as_str()), (Some(row), Some(peer)));
    Some(line["figures"].clone())
}

#[test]
fn every_peer_does_each_of_its_rows() {
    let list = run(&["list"]);
    let list = String::from_utf8(list.stdout).expect("text");
    let mut pairs = 0;
    for line in list.lines() {
        let (row, rest) = line.split_once(": ").expect("ROW: PEERS: FIGURES");
        let (peers, figures) = rest.split_once(": ").expect("PEERS: FIGURES");
        for peer in peers.split(' ') {
            let Some(measured) = one(row, peer, "400") else {
                continue;
            };
            for figure in figures.split(' ') {
                let value = measured[figure].as_f64();
                assert!(value.is_some_and(f64::is_finite), "{row} {peer} {figure}: {measured}");
            }
            pairs += 1;
        }
    }
    assert!(pairs > 50, "only {pairs} were measured:\n{list}");
}

#[test]
fn the_plan_of_mixed_work_is_the_same_for_all() {
    let plan = |peer| Some(one("mixed", peer, "3000")?["plan_us"].as_f64().expect("a number"));
    let duly = plan("duly").expect("always here");
    for peer in ["crossbeam", "tokio", "go"] {
        if let Some(other) = plan(peer) {
            assert!((duly / other - 1.0).abs() < 1e-9, "{peer}: {other} µs, duly: {duly} µs");
        }
    }
}

#[test]
fn what_a_peer_cannot_do_is_said() {
    let output = run(&["one", "--row", "W6token", "--peer", "kanal"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("no such workload"));
}

#[test]
fn an_unknown_row_is_answered_with_those_there_are() {
    let output = run(&["--rows", "W99"]);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(
        complaint.contains("W6token") && complaint.contains("workers"),
        "{complaint}"
    );
}
