//! The conformance table, run in Rust: each case is a test with its name, so `cargo test -p duly-tests p02` runs those
//! of P2. Beside the cases stand the runner's tests of itself and of the table's form.
//!
//! Keeps true: a case that Rust cannot run is listed as ignored, with the reason from verbs.toml, never as passed.

mod act;
mod block_on;
mod callbacks;
mod check;
mod children;
mod flights;
mod needs;
mod periodic;
mod pools;
mod queues;
mod read;
mod run;
mod self_test;
mod several;
mod starts;
mod streams;
mod submit;
mod table;
mod words;
mod world;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};

use crate::read::Verbs;
use crate::run::Wrong;
use crate::table::Case;
use crate::world::CASE;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    match trials() {
        Ok(trials) => libtest_mimic::run(&arguments, trials).exit_code(),
        Err(what) => {
            eprintln!("the conformance table: {what}");
            ExitCode::FAILURE
        }
    }
}

fn trials() -> Result<Vec<Trial>, String> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance");
    let verbs = Verbs::read(&here.join("verbs.toml"))?;
    let cases = read::read_folder(&here.join("cases"))?;
    let wrong = read::read_file(&here.join("wrong.toml"))?;
    let mut trials = self_test::of_table(&verbs, &cases, &wrong);
    trials.extend(wrong.into_iter().map(self_test::must_fail));
    trials.extend(cases.into_iter().map(|case| trial(case, &verbs)));
    Ok(trials)
}

fn trial(case: Case, verbs: &Verbs) -> Trial {
    let lacks = case
        .needs
        .iter()
        .find_map(|word| verbs.rust.get(word).map(|reason| format!("{word}: {reason}")));
    let name = case.name.clone();
    let case = Arc::new(case);
    let trial = Trial::test(name, move || {
        run::run(&case, CASE).map_err(|Wrong { step, what }| failed(step, &what))
    });
    match lacks {
        None => trial,
        Some(reason) => {
            eprintln!("out of reach: {}: Rust lacks {reason}", trial.name());
            trial.with_ignored_flag(true)
        }
    }
}

fn failed(step: Option<usize>, what: &str) -> Failed {
    step.map_or_else(|| what.to_owned(), |step| format!("step {step}: {what}"))
        .into()
}
