//! Running one test of a program, with a limit.
//!
//! Keeps true: what is past its limit is killed and waited for, and so is a test that has failed as expected and cannot
//! end; whatever it said is kept in the log.

use crate::build::Program;
use crate::table::Test;
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How often to look whether a test that still runs has said that it fails, and how long it may then take to end.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Ran {
    /// `None`: it had to be killed.
    pub(crate) status: Option<ExitStatus>,
    /// All it said, and its exit status.
    pub(crate) said: String,
}

/// Runs `test` alone. `round` seeds the delays of builds that have them.
pub(crate) fn run(program: &Program, test: &Test, round: u32, log: &Path) -> Result<Ran> {
    let limit = Duration::from_secs(test.limit_s);
    let output = File::create(log)?;
    let mut child = Command::new(&program.path)
        .args(["--exact", &test.test, "--nocapture", "--test-threads=1"])
        .current_dir(&program.folder)
        .env("DULY_DELAY_SEED", round.to_string())
        .envs(&test.env)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .with_context(|| format!("{} could not be started", program.path.display()))?;
    let began = Instant::now();
    let mut next_look = LOOK_EVERY;
    let mut until = limit;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if began.elapsed() >= next_look {
            next_look += LOOK_EVERY;
            let said = fs::read(log)?;
            if shown(test, &String::from_utf8_lossy(&said)).is_some() {
                until = until.min(began.elapsed() + LOOK_EVERY);
            }
        }
        if began.elapsed() >= until {
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

/// The line that shows that the test failed because of the bug.
pub(crate) fn shown<'a>(test: &Test, said: &'a str) -> Option<&'a str> {
    said.lines()
        .find(|line| test.fails_with.iter().any(|text| line.contains(text)))
        .map(str::trim)
}
