//! Plants one bug after the other in a copy of the tree, and shows that a test catches each.
//!
//! A promise without a test that fails when the promise is broken is only a hope. `table/*.toml` lists bugs, each with
//! the test that has to see it and what that test has to say. This program first shows that the tests named there
//! pass without any bug, then plants one bug at a time, builds, and runs the one test.
//!
//! Keeps true: the tree it is started in is never changed; nothing counts as caught that failed in another way than
//! the table says; the exit status is 0 only when every bug that was asked for was caught.

mod build;
mod judge;
mod plant;
mod report;
mod run;
mod table;
mod tree;
mod trial;

#[cfg(test)]
mod self_test;

use anyhow::{Context, Result, bail};
use clap::Parser;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Where the mutants are listed, from the root of the tree.
const TABLE: &str = "tests/mutants/table";

/// Plants bugs ("mutants") in a copy of the tree, one at a time, and shows which test catches each.
///
/// The table stands in tests/mutants/table: each entry has a name, the promise it breaks, a text to find in one file
/// and what to put there instead, and the test that must fail, with what it must say. Nothing is changed in your tree:
/// the copy and its builds stand in the scratch folder, which is kept so that the next run is quick.
///
/// A run fails when a mutant survives (then a promise has no test that sees it: write the test), when the text to find
/// is not there exactly once (the code has changed: adapt the entry, so that it still breaks what its sentence says),
/// when a mutant does not compile, when its test fails in another way than expected, or when a test of the table fails
/// without any mutant.
#[derive(Parser)]
#[command(
    name = "mutants",
    after_help = "Examples:\n  \
        ci/mutants                            all of them\n  \
        ci/mutants --list                     their names, and what each breaks\n  \
        ci/mutants a-place-is-not-given-back  this one, by name or by a part of it\n  \
        ci/mutants p05                        those caught by a test or a file with this word\n  \
        ci/mutants --fraction 0.1 --seed 7    a tenth of them, chosen by the seed\n  \
        ci/mutants --caught-in LOG --at HEAD  but for those that a run of this tree has caught already\n  \
        ci/mutants --check                    only whether each entry still fits the tree; takes no time"
)]
struct Arguments {
    /// Which mutants: words that occur in their name, their test or their promise. None: all.
    names: Vec<String>,
    /// List what was chosen, and run nothing.
    #[arg(long)]
    list: bool,
    /// Only look whether the text of each is there exactly once; run nothing.
    #[arg(long)]
    check: bool,
    /// Run this part of what was chosen, at least one.
    #[arg(long, value_name = "0..1", default_value_t = 1.0)]
    fraction: f64,
    /// Chooses the part: the same seed chooses the same mutants.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Leave out those that this log of an earlier run says were caught: to go on with a run that was interrupted, or in which
    /// some were not. The tree must be the same, but for what catches those.
    #[arg(long, value_name = "LOG", requires = "at")]
    caught_in: Option<PathBuf>,
    /// The commit of that run: an entry that has changed since is not left out.
    #[arg(long, value_name = "COMMIT", requires = "caught_in")]
    at: Option<String>,
    /// Where the copy of the tree, the builds and the logs go.
    #[arg(long, value_name = "FOLDER", default_value = "target/mutants")]
    scratch: PathBuf,
}

fn main() -> ExitCode {
    match go(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("mutants: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn go(arguments: &Arguments) -> Result<bool> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the tests folder has no parent")?;
    let all = table::read_folder(&root.join(TABLE))?;
    let mut chosen = table::choose(&all, &arguments.names, arguments.fraction, arguments.seed)?;
    let mut before = report::Before::default();
    if let (Some(log), Some(commit)) = (&arguments.caught_in, &arguments.at) {
        let said = std::fs::read_to_string(log).with_context(|| log.display().to_string())?;
        let (caught, left) = table::caught_before(chosen, &said, &table::read_at(root, TABLE, commit)?);
        // In the words of the run that caught them, so that the log of this one can be gone on with, too.
        for mutant in &caught {
            println!("caught: {} in an earlier run", mutant.name);
        }
        before = report::Before {
            caught: caught.len(),
            commit: commit.clone(),
        };
        chosen = left;
    }
    if arguments.list {
        report::list(&chosen);
        return Ok(true);
    }
    if arguments.check {
        let wrong: Vec<_> = chosen
            .iter()
            .filter_map(|mutant| plant::check(root, mutant).err())
            .collect();
        if !wrong.is_empty() {
            let lines: Vec<_> = wrong.iter().map(|error| format!("{error:#}")).collect();
            bail!(
                "{} of {} do not fit the tree:\n{}",
                lines.len(),
                chosen.len(),
                lines.join("\n")
            );
        }
        println!("mutants: all {} fit the tree", chosen.len());
        return Ok(true);
    }
    if arguments.fraction < 1.0 {
        println!("mutants: {} of {}, by seed {}", chosen.len(), all.len(), arguments.seed);
    }
    let scratch = std::path::absolute(&arguments.scratch)?;
    let trials = trial::all(root, &scratch, &chosen)?;
    report::print(&trials, &before);
    Ok(trials.iter().all(|trial| trial.verdict.is_caught()))
}
