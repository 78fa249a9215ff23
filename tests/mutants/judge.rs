//! What a run of a mutant's test says about the mutant.
//!
//! Keeps true: only a failure of the kind that the table names counts as caught.

use crate::run::{Ran, shown};
use crate::table::Test;

/// What became of a mutant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Caught, as the table says; with the line that shows it.
    Caught(String),
    /// Its test passed.
    Survived,
    /// Its text is not there exactly once.
    NoPlace(String),
    DoesNotCompile(String),
    /// Its test failed, in another way than the table says; or hung, and the table does not say so.
    Otherwise(String),
}

impl Verdict {
    pub(crate) fn is_caught(&self) -> bool {
        matches!(self, Verdict::Caught(_))
    }

    /// In one line.
    pub(crate) fn line(&self) -> String {
        match self {
            Verdict::Caught(how) => how.clone(),
            Verdict::Survived => "SURVIVED: the test passed".into(),
            Verdict::NoPlace(why) => format!("NOT PLANTED: {why}"),
            Verdict::DoesNotCompile(why) => format!("DOES NOT COMPILE: {why}"),
            Verdict::Otherwise(how) => format!("FAILED OTHERWISE: {how}"),
        }
    }
}

/// One run of a test: `None` if it passed.
pub(crate) fn failure(test: &Test, ran: &Ran) -> Option<Verdict> {
    if ran.status.is_some_and(|status| status.success()) {
        return match passed(&ran.said) {
            1 => None,
            _ => Some(Verdict::Otherwise(format!("there is no test {}", test.test))),
        };
    }
    let verdict = match (shown(test, &ran.said), ran.status) {
        (Some(line), _) => Verdict::Caught(line.to_owned()),
        (None, Some(_)) => Verdict::Otherwise(first_failure(&ran.said, &test.test)),
        (None, None) => {
            let how = format!("not done after {} s", test.limit_s);
            if test.hangs {
                Verdict::Caught(how)
            } else {
                Verdict::Otherwise(how)
            }
        }
    };
    Some(verdict)
}

/// How many tests passed, by the line that sums up.
fn passed(said: &str) -> u64 {
    said.lines()
        .find_map(|line| line.trim().strip_prefix("test result: ok. "))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|count| count.parse().ok())
        .unwrap_or(0)
}

/// What a test that failed says first: on its own thread if it says something there, for callbacks panic on purpose.
fn first_failure(said: &str, test: &str) -> String {
    let lines: Vec<_> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let own = lines
        .iter()
        .position(|line| line.contains("panicked at") && line.contains(test));
    match own.or_else(|| lines.iter().position(|line| line.contains("panicked at"))) {
        Some(panic) => lines[panic..].iter().take(4).copied().collect::<Vec<_>>().join(" "),
        None => (*lines.last().unwrap_or(&"no output")).to_owned(),
    }
}
