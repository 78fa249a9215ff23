//! The runner's test of itself, on a crate of ten lines: what is no catch must not count as one.

use crate::judge::Verdict;
use crate::table::{Mutant, Test, caught_before};
use crate::trial;
use std::fs;
use std::path::Path;

const MANIFEST: &str = "[package]\nname = 'tiny'\nversion = '0.0.0'\nedition = '2024'\n[workspace]\n";
const LIB: &str = r#"
pub fn answer() -> u32 {
    42
}

#[cfg(test)]
mod tests {
    #[test]
    fn answers() {
        assert_eq!(super::answer(), 42, "the answer is wrong");
    }

    #[test]
    fn is_broken() {
        panic!("always");
    }
}
"#;

fn mutant(replace: &str) -> Mutant {
    Mutant {
        name: "m".into(),
        promise: "P1".into(),
        breaks: "The answer.".into(),
        file: "src/lib.rs".into(),
        inside: Some("pub fn answer".into()),
        find: "42".into(),
        replace: replace.into(),
        caught_by: Test {
            package: "tiny".into(),
            target: "lib".into(),
            test: "tests::answers".into(),
            features: Vec::new(),
            cfg: None,
            release: false,
            env: Default::default(),
            repeat: 2,
            limit_s: 3,
            fails_with: vec!["the answer is wrong".into()],
            hangs: false,
        },
    }
}

fn tried(here: &Path, mutants: &[Mutant]) -> anyhow::Result<Vec<Verdict>> {
    let (root, scratch) = (here.join("tiny"), here.join("scratch"));
    fs::create_dir_all(root.join("src"))?;
    fs::write(root.join("Cargo.toml"), MANIFEST)?;
    fs::write(root.join("src/lib.rs"), LIB)?;
    let trials = trial::all(&root, &scratch, mutants)?;
    assert_eq!(
        fs::read_to_string(root.join("src/lib.rs"))?,
        LIB,
        "the tree is left alone"
    );
    assert_eq!(
        fs::read_to_string(scratch.join("tree/src/lib.rs"))?,
        LIB,
        "and the copy restored"
    );
    Ok(trials.into_iter().map(|trial| trial.verdict).collect())
}

#[test]
fn only_what_a_test_catches_as_the_table_says_counts() {
    let here = tempfile::tempdir().unwrap();
    let caught = mutant("41");
    let survives = mutant("40 + 2");
    let broken = mutant("forty_two");
    let mut not_there = mutant("41");
    not_there.find = "43".into();
    let mut twice = mutant("41");
    twice.inside = None;
    let mut otherwise = mutant("unreachable!()");
    otherwise.caught_by.fails_with = vec!["the answer is wrong".into()];
    let hang = "loop { std::thread::yield_now() }";
    let hangs = mutant(hang);
    let mut may_hang = mutant(hang);
    may_hang.caught_by.hangs = true;
    let mut status = mutant("std::process::abort()");
    status.caught_by.fails_with = vec!["SIGABRT".into()];
    let all = [
        caught, survives, broken, not_there, twice, otherwise, hangs, may_hang, status,
    ];
    let verdicts = tried(here.path(), &all).unwrap();
    let mut verdicts = verdicts.iter();
    let mut next = || verdicts.next().unwrap();
    assert!(matches!(next(), Verdict::Caught(how) if how.contains("the answer is wrong")));
    assert_eq!(*next(), Verdict::Survived);
    assert!(matches!(next(), Verdict::DoesNotCompile(why) if why.contains("forty_two")));
    assert!(matches!(next(), Verdict::NoPlace(why) if why.contains("is not there")));
    assert!(matches!(next(), Verdict::NoPlace(why) if why.contains("2 times")));
    assert!(matches!(next(), Verdict::Otherwise(how) if how.contains("unreachable")));
    assert!(matches!(next(), Verdict::Otherwise(how) if how.contains("not done after 3 s")));
    assert!(matches!(next(), Verdict::Caught(how) if how.contains("not done")));
    assert!(matches!(next(), Verdict::Caught(how) if how.contains("SIGABRT")));
}

#[test]
fn a_test_that_fails_without_a_mutant_or_is_not_there_ends_the_run() {
    let here = tempfile::tempdir().unwrap();
    let mut always = mutant("41");
    always.caught_by.test = "tests::is_broken".into();
    always.caught_by.fails_with = vec!["always".into()];
    let error = tried(here.path(), &[always]).unwrap_err().to_string();
    assert!(
        error.contains("fails without any mutant") && error.contains("always"),
        "{error}"
    );
    let mut unknown = mutant("41");
    unknown.caught_by.test = "tests::forgotten".into();
    let error = tried(here.path(), &[unknown]).unwrap_err().to_string();
    assert!(error.contains("there is no test tests::forgotten"), "{error}");
}

#[test]
fn what_was_caught_before_is_left_out_unless_its_entry_has_changed() {
    let named = |name: &str| Mutant {
        name: name.into(),
        ..mutant("41")
    };
    let changed = Mutant {
        replace: "40".into(),
        ..named("changed")
    };
    let then = ["same", "changed", "survived"].map(named);
    let log = "caught: same in 1.0 s: no\ncaught: changed in 1.0 s: no\nNOT CAUGHT: survived in 1.0 s: SURVIVED\n\
               caught: new in 1.0 s: no\n";
    let all = vec![named("same"), changed, named("survived"), named("new")];
    let (caught, left) = caught_before(all, log, &then);
    let names = |mutants: &[Mutant]| mutants.iter().map(|mutant| mutant.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&caught), ["same"]);
    assert_eq!(names(&left), ["changed", "survived", "new"]);
}
