//! The runner's tests of itself: a wrong expectation fails where it stands, what hangs fails, a word out of place is an
//! error, and the table says truly what each case needs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use duly::{Outcome, Stats};
use libtest_mimic::{Failed, Trial};

use crate::check;
use crate::needs;
use crate::read::{self, Verbs};
use crate::run::{self, Wrong};
use crate::table::Case;
use crate::world::{CASE, Record, Verdict};

/// The verbs that each language starts with.
const CORE: [&str; 8] = [
    "cancel", "label", "outcome", "pool", "shutdown", "submit", "timeout", "wait",
];

/// A case of wrong.toml passes when it fails at the step it names.
pub(crate) fn must_fail(case: Case) -> Trial {
    Trial::test(format!("wrong_{}", case.name), move || {
        let expected = case.fails_at.ok_or("fails_at is missing")?;
        match run::run(&Arc::new(case), CASE) {
            Ok(()) => Err("it passed: the runner does not look".into()),
            Err(Wrong { step: Some(step), .. }) if step == expected => Ok(()),
            Err(Wrong { step, what }) => Err(format!("it failed elsewhere, at step {step:?}: {what}").into()),
        }
    })
}

/// What must hold of the table as it was read.
pub(crate) fn of_table(verbs: &Verbs, cases: &[Case], wrong: &[Case]) -> Vec<Trial> {
    vec![
        test("table_unknown_words_are_errors", unknown_words()),
        test(
            "table_needs_are_what_the_steps_use",
            needs_are_true(verbs, cases.iter().chain(wrong)),
        ),
        test("table_names_are_unique_and_promises_covered", names(cases)),
        test("table_reaches_each_language", reach(verbs, cases)),
        test("table_wrong_cases_say_where", wrong_say_where(cases, wrong)),
        Trial::test("runner_notices_an_outcome_that_changes", || {
            changed_outcome().map_err(Failed::from)
        }),
        Trial::test("runner_notices_books_that_do_not_balance", || {
            unbalanced_books().map_err(Failed::from)
        }),
        Trial::test("runner_notices_a_case_that_hangs", || hang().map_err(Failed::from)),
    ]
}

fn test(name: &str, verdict: Result<(), String>) -> Trial {
    Trial::test(name, move || verdict.map_err(Failed::from))
}

const SOUND: &str = r#"
[[case]]
name = "p01_sound"
why = "It is sound."
needs = ["pool", "shutdown", "submit", "wait"]
pool = { workers = 1 }
steps = [
  { do = "submit", task = "a", run = "return", value = 7 },
  { do = "wait", task = "a", expect = "succeeded", value = 7 },
]
"#;

fn unknown_words() -> Result<(), String> {
    read::parse(SOUND).map_err(|what| format!("a sound case is refused: {what}"))?;
    let spoilt = [
        ("a field of a case", "why =", "wy = \"\"\nwhy ="),
        ("a missing field of a case", "why = \"It is sound.\"", ""),
        ("a name without promise", "p01_sound", "sound"),
        ("unsorted needs", "\"pool\", \"shutdown\"", "\"shutdown\", \"pool\""),
        ("an option of the set-up", "{ workers = 1 }", "{ wrokers = 1 }"),
        ("a negative option", "{ workers = 1 }", "{ workers = -1 }"),
        ("a step", "do = \"wait\"", "do = \"wiat\""),
        ("a missing step", "do = \"wait\", ", ""),
        ("a field of a step", "expect =", "expcet ="),
        (
            "a field of another step",
            "expect = \"succeeded\"",
            "expect = \"succeeded\", drain_ms = 1",
        ),
        ("an outcome", "\"succeeded\"", "\"suceeded\""),
        ("a missing expectation", "expect = \"succeeded\", ", ""),
        ("a callback", "run = \"return\"", "run = \"retrun\""),
        ("no callback", "run = \"return\", value = 7", ""),
        (
            "a field of another callback",
            "run = \"return\"",
            "run = \"return\", gate = \"g\"",
        ),
        (
            "a callback where there is none",
            "do = \"wait\"",
            "do = \"wait\", run = \"return\"",
        ),
        ("a nested table", "value = 7 }", "value = { is = 7 } }"),
        ("a bound that is no number", "expect =", "at_most_ms = \"1\", expect ="),
        (
            "a counter that is none",
            "{ do = \"wait\"",
            "{ do = \"stats\", sumbitted = 1 }, { do = \"wait\"",
        ),
        (
            "counters of nothing",
            "{ do = \"wait\"",
            "{ do = \"stats\" }, { do = \"wait\"",
        ),
        (
            "a join of nothing",
            "{ do = \"wait\"",
            "{ do = \"join\" }, { do = \"wait\"",
        ),
        (
            "a join of two",
            "{ do = \"wait\"",
            "{ do = \"join\", thread = \"t\", child = \"c\" }, { do = \"wait\"",
        ),
        (
            "a fork of nobody",
            "{ do = \"wait\"",
            "{ do = \"fork\" }, { do = \"wait\"",
        ),
        (
            "a signal to everyone",
            "{ do = \"wait\"",
            "{ do = \"raise\", signal = \"user1\" }, { do = \"wait\"",
        ),
        (
            "a thread of a child",
            "do = \"wait\"",
            "do = \"wait\", thread = \"t\", child = \"c\"",
        ),
    ];
    for (what, good, bad) in spoilt {
        let text = SOUND.replacen(good, bad, 1);
        if text == SOUND {
            return Err(format!("{what}: nothing was spoilt"));
        }
        if read::parse(&text).is_ok() {
            return Err(format!("{what}: the spoilt case is accepted"));
        }
    }
    Ok(())
}

fn needs_are_true<'a>(verbs: &Verbs, cases: impl Iterator<Item = &'a Case>) -> Result<(), String> {
    for case in cases {
        let used = needs::of(case);
        let said: BTreeSet<&str> = case.needs.iter().map(String::as_str).collect();
        if used != said {
            return Err(format!("{}: it needs {used:?}, but says {said:?}", case.name));
        }
        if let Some(unknown) = said.iter().find(|word| !verbs.verbs.contains_key(**word)) {
            return Err(format!("{}: {unknown:?} is no word of verbs.toml", case.name));
        }
    }
    Ok(())
}

fn names(cases: &[Case]) -> Result<(), String> {
    let mut seen = BTreeMap::<&str, u32>::new();
    for case in cases {
        *seen.entry(&case.name).or_default() += 1;
    }
    if let Some((name, _)) = seen.iter().find(|(_, count)| **count > 1) {
        return Err(format!("two cases are named {name}"));
    }
    let promises = [
        "p01_", "p02_", "p03_", "p04_", "p05_", "p06_", "p07_", "p08_", "p09_", "p11_", "p12_", "p13_", "p14_", "p16_",
    ];
    for promise in promises {
        if !cases.iter().any(|case| case.name.starts_with(promise)) {
            return Err(format!("no case shows {promise}"));
        }
    }
    Ok(())
}

fn reach(verbs: &Verbs, cases: &[Case]) -> Result<(), String> {
    let within = |lacks: &BTreeMap<String, String>| {
        cases
            .iter()
            .filter(|case| case.needs.iter().all(|word| !lacks.contains_key(word)))
            .count()
    };
    let core = cases
        .iter()
        .filter(|case| case.needs.iter().all(|word| CORE.contains(&&**word)))
        .count();
    eprintln!(
        "table: {} cases, {core} need the core verbs only; Rust reaches {}, C {}, C++ {}, Python {}, Go {}",
        cases.len(),
        within(&verbs.rust),
        within(&verbs.c),
        within(&verbs.cpp),
        within(&verbs.python),
        within(&verbs.go),
    );
    if cases.len() < 45 || core < 20 {
        return Err(format!(
            "{} cases, {core} of the core verbs: fewer than 45 and 20",
            cases.len()
        ));
    }
    Ok(())
}

fn must_notice(what: &str, verdict: Verdict) -> Verdict {
    if verdict.is_err() {
        Ok(())
    } else {
        Err(format!("{what}: it is accepted"))
    }
}

fn changed_outcome() -> Verdict {
    let record = Record::default();
    record.saw(Outcome::Shed)?;
    record.saw(Outcome::Shed)?;
    must_notice("another outcome than before", record.saw(Outcome::Succeeded))
}

fn unbalanced_books() -> Verdict {
    let books = |submitted, succeeded, queued, running| {
        let mut stats = Stats::default();
        (stats.submitted, stats.succeeded, stats.queued, stats.running) = (submitted, succeeded, queued, running);
        check::balance(&stats)
    };
    books(2, 2, 0, 0)?;
    must_notice("a task without outcome", books(2, 1, 0, 0))?;
    must_notice("an outcome without task", books(2, 3, 0, 0))?;
    must_notice("a queued task at rest", books(2, 1, 1, 0))?;
    must_notice("a running task at rest", books(2, 1, 0, 1))
}

/// A submit that nothing ends: the queue is full, and the gate opens only when the runner gives up.
const HANGS: &str = r#"
[[case]]
name = "p04_hangs"
why = "It hangs."
needs = ["pool", "shutdown", "submit"]
pool = { workers = 1, capacity = 1 }
steps = [
  { do = "submit", task = "a", run = "block", gate = "g" },
  { do = "await_start", task = "a" },
  { do = "submit", task = "b", run = "return", times = 2 },
]
"#;

fn hang() -> Verdict {
    let case = read::parse(HANGS)?.pop().ok_or("no case was read")?;
    match run::run(&Arc::new(case), Duration::from_millis(500)) {
        Err(Wrong { step: None, .. }) => Ok(()),
        other => Err(format!("it hangs, and the runner says {other:?}")),
    }
}

fn wrong_say_where(cases: &[Case], wrong: &[Case]) -> Result<(), String> {
    if let Some(case) = cases.iter().find(|case| case.fails_at.is_some()) {
        return Err(format!("{}: fails_at stands in a case that must pass", case.name));
    }
    match wrong.iter().find(|case| {
        case.fails_at
            .is_none_or(|step| step == 0 || step + case.set_up > case.steps.len())
    }) {
        Some(case) => Err(format!("{}: fails_at names none of its steps", case.name)),
        None if wrong.len() < 10 => Err(format!("only {} wrong cases", wrong.len())),
        None => Ok(()),
    }
}
