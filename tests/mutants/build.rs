//! Building one test target of the copy, as quickly as it goes.
//!
//! Keeps true: each set of flags has a target folder of its own, so that builds with and without models do not undo
//! each other; a build that fails is told apart from a test that fails.

use crate::table::Test;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A test program.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    /// Where cargo would run it.
    pub(crate) folder: PathBuf,
}

/// A build, finished: the program, or the compiler's first error.
pub(crate) type Built = Result<Program, String>;

#[derive(Deserialize)]
struct Message {
    reason: String,
    manifest_path: Option<PathBuf>,
    executable: Option<PathBuf>,
    target: Option<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// Builds the program of `test`; what the compiler says goes to `log`.
pub(crate) fn build(root: &Path, scratch: &Path, test: &Test, log: &Path) -> Result<Built> {
    let flags = flags(test);
    let variant = test.cfg.as_deref().unwrap_or("plain");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(root)
        .args([
            "test",
            "--no-run",
            "--message-format=json-render-diagnostics",
            "--package",
            &test.package,
        ])
        .env("CARGO_TARGET_DIR", scratch.join("build").join(variant))
        .env("CARGO_TERM_COLOR", "never")
        // The line of a panic needs none of it, and linking takes half the time.
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        // Models need some speed, and are built anew for each mutant.
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "64")
        .env("CARGO_PROFILE_RELEASE_INCREMENTAL", "true")
        // How long the tests' "eventually" is patient: see core/tests/support.
        .env("DULY_TEST_LONG_MS", "3000")
        .stdin(Stdio::null())
        .stderr(File::create(log)?);
    if test.target == "lib" {
        cargo.arg("--lib");
    } else {
        cargo.args(["--test", &test.target]);
    }
    if test.release {
        cargo.arg("--release");
    }
    if !test.features.is_empty() {
        cargo.args(["--features", &test.features.join(",")]);
    }
    if !flags.is_empty() {
        cargo.env("RUSTFLAGS", flags);
    }
    let output = cargo.output().context("cargo could not be started")?;
    if !output.status.success() {
        let said = std::fs::read_to_string(log)?;
        let first = said
            .lines()
            .find(|line| line.starts_with("error"))
            .unwrap_or("cargo failed");
        return Ok(Err(first.to_owned()));
    }
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Ok(message) = serde_json::from_str::<Message>(line) else {
            continue;
        };
        if let Message {
            reason,
            manifest_path: Some(manifest),
            executable: Some(path),
            target: Some(target),
        } = message
            && reason == "compiler-artifact"
            && (target.name == test.target
                || (test.target == "lib" && target.kind.iter().any(|kind| kind.contains("lib"))))
        {
            let folder = manifest.parent().context("a manifest stands in a folder")?.to_owned();
            return Ok(Ok(Program { path, folder }));
        }
    }
    bail!("cargo built no program of {} {}", test.package, test.target)
}

/// The flags of the caller, and the entry's.
fn flags(test: &Test) -> String {
    let mut flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    if let Some(cfg) = &test.cfg {
        flags.push_str(" --cfg ");
        flags.push_str(cfg);
    }
    flags.trim().to_owned()
}
