//! Running one test of a program, with a limit.
//!
//! Keeps true: what is past its limit is killed and waited for; whatever it said is kept in the log.

use crate::build::Program;
use crate::table::Test;
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Ran {
    /// `None`: it had to be killed.
    pub(crate) status: Option<ExitStatus>,
    /// All it said, and its exit status.
    pub(crate) said: String,
}

/// Runs `test` alone.
pub(crate) fn run(program: &Program, test: &Test, log: &Path) -> Result<Ran> {
    let limit = Duration::from_secs(test.limit_s);
    let output = File::create(log)?;
    let mut child = Command::new(&program.path)
        .args(["--exact", &test.test, "--nocapture", "--test-threads=1"])
        .current_dir(&program.folder)
        .envs(&test.env)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .with_context(|| format!("{} could not be started", program.path.display()))?;
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if began.elapsed() >= limit {
            child.kill()?;
            child.wait()?;
            break None;
        }
        thread::sleep(Duration::from_millis(5));
    };
    let mut said = String::from_utf8_lossy(&fs::read(log)?).into_owned();
    if let Some(status) = status {
        said.push_str(&format!("\n{status}\n"));
    }
    Ok(Ran { status, said })
}
