//! What a run of a mutant's test says about the mutant.
//!
//! Keeps true: only a failure of the kind that the table names counts as caught.

use crate::run::Ran;
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
    let Some(status) = ran.status else {
        let how = format!("not done after {} s", test.limit_s);
        return Some(if test.hangs {
            Verdict::Caught(how)
        } else {
            Verdict::Otherwise(how)
        });
    };
    if status.success() {
        return match passed(&ran.said) {
            1 => None,
            _ => Some(Verdict::Otherwise(format!("there is no test {}", test.test))),
        };
    }
    let shows = |line: &&str| test.fails_with.iter().any(|text| line.contains(text));
    match ran.said.lines().find(shows) {
        Some(line) => Some(Verdict::Caught(line.trim().to_owned())),
        None => Some(Verdict::Otherwise(first_failure(&ran.said))),
    }
}

/// How many tests passed, by the line that sums up.
fn passed(said: &str) -> u64 {
    said.lines()
        .find_map(|line| line.trim().strip_prefix("test result: ok. "))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|count| count.parse().ok())
        .unwrap_or(0)
}

/// What a test that failed says first.
fn first_failure(said: &str) -> String {
    let mut lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
    let panic = lines.by_ref().find(|line| line.contains("panicked at"));
    match panic {
        Some(panic) => format!("{panic} {}", lines.next().unwrap_or_default()),
        None => said
            .lines()
            .map(str::trim)
            .rfind(|line| !line.is_empty())
            .unwrap_or("no output")
            .to_owned(),
    }
}
