//! The table of mutants: what is planted where, and which test must see it.
//!
//! Keeps true: names are unique; an unknown field is an error; every entry says how its test has to fail.

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    mutant: Vec<Mutant>,
}

/// A bug to plant.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mutant {
    /// What it is called: words of a sentence, joined by `-`.
    pub(crate) name: String,
    /// The promise it breaks: `P5`.
    pub(crate) promise: String,
    /// What it breaks, in one sentence.
    pub(crate) breaks: String,
    /// Where, from the root of the tree.
    pub(crate) file: PathBuf,
    /// Only within the item that begins with this text; for what stands more than once in the file.
    pub(crate) inside: Option<String>,
    /// The text to find, exactly once; any white space stands for any other.
    pub(crate) find: String,
    /// What stands there instead.
    pub(crate) replace: String,
    pub(crate) caught_by: Test,
}

/// The test that has to fail, and how.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Test {
    #[serde(default = "Test::core")]
    pub(crate) package: String,
    /// The test target: the name of its file, or `lib` for the unit tests.
    pub(crate) target: String,
    /// The full name of the test.
    pub(crate) test: String,
    #[serde(default)]
    pub(crate) features: Vec<String>,
    /// A `--cfg` to build with: `loom`, `shuttle`, `duly_delays`.
    pub(crate) cfg: Option<String>,
    /// Build with optimisations: for models that look at many schedules.
    #[serde(default)]
    pub(crate) release: bool,
    /// Set while the test runs.
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    /// How often the test runs until it fails; for races.
    #[serde(default = "Test::once")]
    pub(crate) repeat: u32,
    /// A run that takes longer than this is killed.
    #[serde(default = "Test::limit")]
    pub(crate) limit_s: u64,
    /// Any of these texts in the test's output shows that it failed because of the bug. The exit status is part of the output.
    #[serde(default)]
    pub(crate) fails_with: Vec<String>,
    /// A run that had to be killed shows it, too.
    #[serde(default)]
    pub(crate) hangs: bool,
}

impl Test {
    fn core() -> String {
        "duly".into()
    }

    fn once() -> u32 {
        1
    }

    fn limit() -> u64 {
        30
    }

    /// What has to be built together: tests of one target, features and flags are one build.
    pub(crate) fn build(&self) -> (&Option<String>, bool, &[String], &str, &str) {
        (&self.cfg, self.release, &self.features, &self.package, &self.target)
    }
}

/// Reads all tables of a folder; entries that share a build stand together.
pub(crate) fn read_folder(folder: &Path) -> Result<Vec<Mutant>> {
    let mut all = Vec::new();
    let mut files: Vec<_> = fs::read_dir(folder)
        .with_context(|| format!("the tables in {}", folder.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.sort();
    for file in files {
        let text = fs::read_to_string(&file)?;
        let table: File = toml::from_str(&text).with_context(|| format!("in {}", file.display()))?;
        all.extend(table.mutant);
    }
    check(&all)?;
    all.sort_by(|a, b| (a.caught_by.build(), &a.file).cmp(&(b.caught_by.build(), &b.file)));
    Ok(all)
}

/// The entries of all tables of a folder as they were at a commit.
pub(crate) fn read_at(root: &Path, folder: &str, commit: &str) -> Result<Vec<Mutant>> {
    let git = |arguments: &[&str]| {
        let done = Command::new("git").args(arguments).current_dir(root).output()?;
        ensure!(
            done.status.success(),
            "git {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&done.stderr)
        );
        Ok(String::from_utf8(done.stdout)?)
    };
    let mut all = Vec::new();
    for file in git(&["ls-tree", "--name-only", commit, &format!("{folder}/")])?.lines() {
        let table: File = toml::from_str(&git(&["show", &format!("{commit}:{file}")])?)
            .with_context(|| format!("in {file} at {commit}"))?;
        all.extend(table.mutant);
    }
    Ok(all)
}

/// Those of `all` that the log of an earlier run says were caught, if they are as they were `then`; and the others.
pub(crate) fn caught_before(all: Vec<Mutant>, log: &str, then: &[Mutant]) -> (Vec<Mutant>, Vec<Mutant>) {
    let caught: BTreeSet<_> = log
        .lines()
        .filter_map(|line| line.strip_prefix("caught: ")?.split_once(" in ").map(|(name, _)| name))
        .collect();
    let same = |mutant: &Mutant| caught.contains(mutant.name.as_str()) && then.contains(mutant);
    all.into_iter().partition(same)
}

fn check(all: &[Mutant]) -> Result<()> {
    let mut names = BTreeSet::new();
    for mutant in all {
        let name = &mutant.name;
        ensure!(names.insert(name), "two mutants are called {name}");
        ensure!(
            !mutant.caught_by.fails_with.is_empty() || mutant.caught_by.hangs,
            "{name} does not say how its test fails: `fails_with`, `hangs`, or both"
        );
        ensure!(
            mutant.caught_by.repeat > 0,
            "{name}: a test that is never run catches nothing"
        );
        ensure!(mutant.find.trim() != mutant.replace.trim(), "{name} changes nothing");
        ensure!(!mutant.find.trim().is_empty(), "{name} has nothing to find");
    }
    Ok(())
}

/// Those in which every one of `words` occurs, if any are given, and of those the part that the seed chooses.
pub(crate) fn choose(all: &[Mutant], words: &[String], fraction: f64, seed: u64) -> Result<Vec<Mutant>> {
    ensure!(
        (0.0..=1.0).contains(&fraction),
        "--fraction {fraction} is not within 0 to 1"
    );
    let occurs = |mutant: &Mutant, word: &String| {
        let lower = word.to_lowercase();
        mutant.name.contains(&lower)
            || mutant.caught_by.target.contains(&lower)
            || mutant.caught_by.test.contains(&lower)
            || mutant.promise.eq_ignore_ascii_case(word)
            || mutant.caught_by.cfg.as_ref() == Some(&lower)
    };
    if let Some(word) = words.iter().find(|word| !all.iter().any(|mutant| occurs(mutant, word))) {
        bail!("no mutant has {word:?} in its name, its test or its promise; --list shows them");
    }
    let mut chosen: Vec<_> = all
        .iter()
        .filter(|mutant| words.is_empty() || words.iter().any(|word| occurs(mutant, word)))
        .collect();
    if fraction < 1.0 {
        let count = ((chosen.len() as f64 * fraction).round() as usize).clamp(1, chosen.len());
        let mut ranked = chosen.clone();
        ranked.sort_by_key(|mutant| rank(seed, &mutant.name));
        let kept: BTreeSet<_> = ranked.iter().take(count).map(|mutant| &mutant.name).collect();
        chosen.retain(|mutant| kept.contains(&mutant.name));
    }
    Ok(chosen.into_iter().cloned().collect())
}

/// A number for a name: the same on every machine, and others added or taken away do not change it.
fn rank(seed: u64, name: &str) -> u64 {
    name.bytes().fold(seed, |hash, byte| mix(hash ^ u64::from(byte)))
}

/// The step of splitmix64.
fn mix(from: u64) -> u64 {
    let from = from.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let from = (from ^ from >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let from = (from ^ from >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    from ^ from >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(name: &str) -> Mutant {
        let text = format!(
            "[[mutant]]\nname = '{name}'\npromise = 'P1'\nbreaks = 'All.'\nfile = 'a'\nfind = 'x'\nreplace = 'y'\n\
             caught_by = {{ target = 'lib', test = 'p01_{name}', fails_with = ['no'] }}"
        );
        toml::from_str::<File>(&text).unwrap().mutant.remove(0)
    }

    #[test]
    fn a_fraction_is_chosen_by_its_seed_and_others_do_not_change_it() {
        let all: Vec<_> = (0..40).map(|index| example(&format!("m{index}"))).collect();
        let names = |seed| -> Vec<String> {
            let chosen = choose(&all, &[], 0.1, seed).unwrap();
            chosen.into_iter().map(|mutant| mutant.name).collect()
        };
        assert_eq!(names(7).len(), 4);
        assert_eq!(names(7), names(7));
        assert!((0..20).any(|seed| names(seed) != names(7)));
        let seen: BTreeSet<_> = (0..100).flat_map(names).collect();
        assert!(seen.len() > 35, "every one has its turn: {}", seen.len());
    }

    #[test]
    fn words_choose_and_an_unknown_one_is_an_error() {
        let all = [example("one"), example("two")];
        let words = |words: &[&str]| choose(&all, &words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>(), 1.0, 1);
        assert_eq!(words(&["p01_one"]).unwrap().len(), 1);
        assert_eq!(words(&["P1"]).unwrap().len(), 2);
        assert!(words(&["three"]).unwrap_err().to_string().contains("three"));
        assert!(choose(&all, &[], 1.5, 1).is_err());
    }

    #[test]
    fn an_entry_that_cannot_fail_is_refused() {
        let mut silent = example("silent");
        silent.caught_by.fails_with.clear();
        assert!(check(&[silent]).unwrap_err().to_string().contains("how its test fails"));
        assert!(
            check(&[example("twin"), example("twin")])
                .unwrap_err()
                .to_string()
                .contains("two mutants")
        );
        let mut idle = example("idle");
        idle.replace = idle.find.clone();
        assert!(check(&[idle]).unwrap_err().to_string().contains("changes nothing"));
    }

    #[test]
    fn every_entry_of_the_table_fits_the_tree() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let all = read_folder(&root.join("tests/mutants/table")).unwrap();
        let wrong: Vec<_> = all
            .iter()
            .filter_map(|mutant| crate::plant::check(root, mutant).err())
            .map(|error| format!("{error:#}"))
            .collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
