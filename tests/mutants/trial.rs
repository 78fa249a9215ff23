//! The whole run: the tests without a mutant first, then one mutant after the other.
//!
//! Keeps true: a test that fails without a mutant ends the run, for it would seem to catch everything.

use crate::build::{Program, build};
use crate::judge::{Verdict, failure};
use crate::plant;
use crate::run::run;
use crate::table::{Mutant, Test};
use crate::tree::Tree;
use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

/// One mutant, tried.
#[derive(Debug)]
pub(crate) struct Trial {
    pub(crate) mutant: Mutant,
    pub(crate) verdict: Verdict,
    pub(crate) took: Duration,
}

/// Tries all of `mutants`, in a copy of `root`.
pub(crate) fn all(root: &Path, scratch: &Path, mutants: &[Mutant]) -> Result<Vec<Trial>> {
    let logs = scratch.join("logs");
    std::fs::create_dir_all(&logs)?;
    let tree = Tree::copy(root, &scratch.join("tree"))?;
    let tests: BTreeSet<_> = mutants.iter().map(|mutant| key(&mutant.caught_by)).collect();
    let bar = ProgressBar::new((tests.len() + mutants.len()) as u64);
    if let Ok(style) = ProgressStyle::with_template("{elapsed_precise} [{bar:30}] {pos}/{len} {wide_msg} {eta} left") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    without_mutant(&tree, scratch, mutants, &bar)?;
    let mut trials = Vec::new();
    for mutant in mutants {
        bar.set_message(mutant.name.clone());
        let began = Instant::now();
        let verdict = one(&tree, scratch, mutant)?;
        let took = began.elapsed();
        bar.inc(1);
        bar.suspend(|| {
            let mark = if verdict.is_caught() { "caught" } else { "NOT CAUGHT" };
            println!(
                "{mark}: {} in {:.1} s: {}",
                mutant.name,
                took.as_secs_f64(),
                verdict.line()
            );
        });
        trials.push(Trial {
            mutant: mutant.clone(),
            verdict,
            took,
        });
    }
    bar.finish_and_clear();
    Ok(trials)
}

/// What tells a test from every other.
fn key(test: &Test) -> (Option<String>, bool, Vec<String>, String, String, String) {
    let (cfg, release, features, package, target) = test.build();
    (
        cfg.clone(),
        release,
        features.to_vec(),
        package.into(),
        target.into(),
        test.test.clone(),
    )
}

/// Each test that is to catch something passes when there is nothing to catch.
fn without_mutant(tree: &Tree, scratch: &Path, mutants: &[Mutant], bar: &ProgressBar) -> Result<()> {
    let began = Instant::now();
    let mut seen = BTreeSet::new();
    let mut built: Option<(&Test, Program)> = None;
    for mutant in mutants {
        let test = &mutant.caught_by;
        if !seen.insert(key(test)) {
            continue;
        }
        bar.set_message(format!("without a mutant: {}", test.test));
        let log = scratch.join("logs/without-a-mutant.log");
        let program = match &built {
            Some((other, program)) if other.build() == test.build() => program.clone(),
            _ => match build(&tree.root, scratch, test, &log)? {
                Ok(program) => program,
                Err(error) => bail!(
                    "the tests do not build without any mutant: {error}; see {}",
                    log.display()
                ),
            },
        };
        built = Some((test, program.clone()));
        let ran = run(&program, test, 1, &log)?;
        if let Some(verdict) = failure(test, &ran) {
            let how = match verdict {
                Verdict::Caught(how) | Verdict::Otherwise(how) => how,
                other => other.line(),
            };
            bail!("{} fails without any mutant ({how}); see {}", test.test, log.display());
        }
        bar.inc(1);
    }
    bar.suspend(|| {
        println!(
            "without a mutant: {} tests pass, {:.1} s",
            seen.len(),
            began.elapsed().as_secs_f64()
        );
    });
    Ok(())
}

fn one(tree: &Tree, scratch: &Path, mutant: &Mutant) -> Result<Verdict> {
    let text = match plant::planted(&tree.root, mutant) {
        Ok(text) => text,
        Err(error) => return Ok(Verdict::NoPlace(format!("{error:#}"))),
    };
    let log = scratch.join("logs").join(format!("{}.log", mutant.name));
    let _planted = tree.plant(&mutant.file, &text)?;
    let program = match build(&tree.root, scratch, &mutant.caught_by, &log)? {
        Ok(program) => program,
        Err(error) => return Ok(Verdict::DoesNotCompile(error)),
    };
    for round in 1..=mutant.caught_by.repeat {
        let ran = run(&program, &mutant.caught_by, round, &log)?;
        if let Some(verdict) = failure(&mutant.caught_by, &ran) {
            return Ok(verdict);
        }
    }
    Ok(Verdict::Survived)
}
