//! The program's own books, kept beside the pools', and the checks that compare the two.
//!
//! Keeps true: what is counted here comes from the handles alone; a check that does not hold is named.

use crate::Args;
use crate::held::Held;
use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use duly::{Outcome, ShutdownReport, Stats, SubmitErrorKind, Task, TaskError};
use std::time::Duration;

/// Longer than any answer may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A task of this program.
pub(crate) type Answer = Task<u64, &'static str>;

/// A value that only this task has.
pub(crate) fn value(number: u64) -> u64 {
    (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// The program's own books: what the handles said.
#[derive(Default)]
pub(crate) struct Tally {
    outcomes: [u64; Outcome::ALL.len()],
    refused: u64,
    unanswered: u64,
    /// An outcome, a value or a refusal that cannot be right; the first of them in words.
    wrong: u64,
    pub(crate) first_wrong: Option<String>,
}

impl Tally {
    /// Takes the answer of a task; it must be one of `fits`, and the value the task's own.
    pub(crate) fn answer(&mut self, task: &Answer, number: u64, fits: &[Outcome]) {
        let Some(result) = task.wait_timeout(PATIENCE) else {
            self.unanswered += 1;
            return;
        };
        let outcome = match &result {
            Ok(_) => Some(Outcome::Succeeded),
            Err(error) => error.outcome(),
        };
        if outcome != task.outcome() || !outcome.is_some_and(|outcome| fits.contains(&outcome)) {
            self.wrong(format!("{} is {outcome:?}, and not one of {fits:?}", task.name()));
        }
        match result {
            Ok(found) if found != value(number) => self.wrong(format!("{} has a foreign value", task.name())),
            Err(TaskError::Panicked(panic)) if panic.message() != "planted panic" => {
                self.wrong(format!("a foreign panic: {}", panic.message()));
            }
            Err(TaskError::Failed(error)) if error != "planted failure" => {
                self.wrong(format!("a foreign failure: {error}"));
            }
            _ => {}
        }
        if let Some(outcome) = outcome {
            self.outcomes[outcome as usize] += 1;
        }
    }

    pub(crate) fn refused(&mut self, kind: SubmitErrorKind) {
        self.refusal(Some(kind), SubmitErrorKind::QueueFull);
        self.wrong(format!("a submit was refused: {kind}"));
    }

    /// A refusal that is due.
    pub(crate) fn refusal(&mut self, kind: Option<SubmitErrorKind>, due: SubmitErrorKind) {
        self.refused += u64::from(kind.is_some());
        if kind != Some(due) {
            self.wrong(format!("a submit was answered {kind:?}, not {due}"));
        }
    }

    fn wrong(&mut self, what: String) {
        self.wrong += 1;
        self.first_wrong.get_or_insert(what);
    }

    pub(crate) fn count(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize]
    }

    pub(crate) fn tasks(&self) -> u64 {
        self.outcomes.iter().sum::<u64>() + self.unanswered
    }
}

impl std::ops::Add<&Tally> for Tally {
    type Output = Tally;

    fn add(mut self, other: &Tally) -> Tally {
        for (mine, theirs) in self.outcomes.iter_mut().zip(other.outcomes) {
            *mine += theirs;
        }
        self.refused += other.refused;
        self.unanswered += other.unanswered;
        self.wrong += other.wrong;
        self.first_wrong = self.first_wrong.or_else(|| other.first_wrong.clone());
        self
    }
}

#[derive(Default)]
pub(crate) struct Checks {
    pub(crate) broken: Vec<String>,
}

impl Checks {
    pub(crate) fn that(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.broken.push(otherwise());
        }
    }

    /// The memory of `broken`.
    pub(crate) fn bytes(&self) -> i64 {
        let lines = self.broken.iter().map(String::capacity).sum::<usize>();
        (lines + self.broken.capacity() * size_of::<String>()) as i64
    }

    pub(crate) fn shutdown(&mut self, pool: &str, report: &ShutdownReport, drain: u64, args: &Args) {
        let limit = Duration::from_millis(drain + args.shutdown_slack);
        self.that(report.elapsed <= limit, || {
            format!("the shutdown of {pool} took {:?}", report.elapsed)
        });
    }

    pub(crate) fn books(&mut self, pool: &str, tally: &Tally, stats: &Stats) {
        self.that(stats.books_balance() && stats.queued + stats.running == 0, || {
            format!("the books of {pool}: {stats:?}")
        });
        for (outcome, in_books) in stats.outcomes() {
            let counted = tally.count(outcome);
            self.that(counted == in_books, || {
                format!("{pool}: {counted} {outcome} counted, {in_books} in its books")
            });
        }
        let counted = tally.refused;
        self.that(counted == stats.refused, || {
            format!("{pool}: {counted} refusals counted, {} in its books", stats.refused)
        });
    }

    pub(crate) fn answers(&mut self, sum: &Tally, args: &Args) {
        self.that(sum.unanswered == 0, || {
            format!("{} tasks were not answered", sum.unanswered)
        });
        self.that(sum.wrong == 0, || {
            format!(
                "{} answers do not fit; the first: {}",
                sum.wrong,
                sum.first_wrong.as_deref().unwrap_or_default()
            )
        });
        for outcome in Outcome::ALL {
            self.that(sum.count(outcome) > 0, || format!("no task was {outcome}"));
        }
        let succeeded = sum.count(Outcome::Succeeded);
        let enough = args.min_succeeded.unwrap_or(args.tasks / 2);
        self.that(succeeded >= enough, || {
            format!("{succeeded} tasks succeeded, fewer than {enough}")
        });
        let excused = [Outcome::DeadlineExceeded, Outcome::Failed, Outcome::Shed];
        let rest = sum.tasks() - excused.iter().map(|outcome| sum.count(*outcome)).sum::<u64>();
        self.that(succeeded * 10 >= rest * 9, || {
            format!("{succeeded} of the {rest} tasks that were not late, failed or shed succeeded: less than 90 %")
        });
    }

    pub(crate) fn nothing_left(&mut self, before: &Held, after: &Held, slack: i64, args: &Args) {
        self.that(after.threads == before.threads, || {
            format!("{} threads, before {}", after.threads, before.threads)
        });
        self.that(after.descriptors == before.descriptors, || {
            format!("{} descriptors, before {}", after.descriptors, before.descriptors)
        });
        let growth = (after.resident - before.resident) * 1024 / 1_000_000;
        self.that(growth <= args.max_growth, || {
            format!("{growth} MB more are resident than before")
        });
        self.that(after.bytes <= before.bytes + slack, || {
            format!("{} bytes stay allocated", after.bytes - before.bytes)
        });
    }
}

pub(crate) fn print_table(phases: &[(&'static str, Tally)], sum: &Tally) {
    let mut table = Table::new();
    let heads = phases.iter().map(|(name, _)| *name);
    table
        .load_preset(ASCII_MARKDOWN)
        .set_header(["outcome"].into_iter().chain(heads).chain(["all"]));
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut row = |word: &str, count: &dyn Fn(&Tally) -> u64| {
        let counts = phases
            .iter()
            .map(|(_, tally)| tally)
            .chain([sum])
            .map(|tally| count(tally).to_string());
        table.add_row([word.to_owned()].into_iter().chain(counts));
    };
    for outcome in Outcome::ALL {
        row(outcome.as_str(), &|tally| tally.count(outcome));
    }
    row("unanswered", &|tally| tally.unanswered);
    row("refused", &|tally| tally.refused);
    println!("{table}");
}
