//! Peer `go`: built from go/ with the machine's own `go`, run as a program of its own.
//!
//! Kept true: the binary lies beside this one, in the target directory; it gets the row's numbers as flags.

use crate::rows::{Kind, Row};
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds the Go program. `Ok(None)`: there is no `go` on this machine.
pub(crate) fn build() -> Result<Option<PathBuf>> {
    let binary = path()?;
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("go");
    let build = Command::new("go")
        .args(["build", "-buildvcs=false", "-o"])
        .arg(&binary)
        .arg(".")
        .current_dir(source)
        .output();
    match build {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context("go build cannot be started"),
        Ok(done) => {
            ensure!(
                done.status.success(),
                "go build failed:\n{}",
                String::from_utf8_lossy(&done.stderr)
            );
            Ok(Some(binary))
        }
    }
}

/// The line `go version` prints, without its first words.
pub(crate) fn version() -> Option<String> {
    let output = Command::new("go").arg("version").output().ok()?;
    Some(
        String::from_utf8_lossy(&output.stdout)
            .trim()
            .trim_start_matches("go version ")
            .into(),
    )
}

/// The command that runs one workload.
pub(crate) fn command(row: &Row, workers: usize, n: usize) -> Result<Command> {
    let mut binary = path()?;
    if !binary.exists() {
        binary = build()?.context("there is no `go` on this machine; install Go to measure this peer")?;
    }
    let mut command = Command::new(binary);
    let mut flag = |name: &str, value: String| _ = command.arg(format!("-{name}={value}"));
    flag("row", row.name.into());
    flag("workers", workers.to_string());
    flag("n", n.to_string());
    flag("capacity", row.capacity.to_string());
    flag("warm-up", row.warm_up.to_string());
    flag("settle", format!("{}ms", row.settle.as_millis()));
    match row.kind {
        Kind::Windowed { window } => {
            flag("kind", "windowed".into());
            flag("window", window.to_string());
        }
        Kind::Fire { captures } => {
            flag("kind", "fire".into());
            flag("captures", captures.to_string());
        }
        Kind::Producers { count, window } => {
            flag("kind", "producers".into());
            flag("producers", count.to_string());
            flag("window", window.to_string());
        }
        Kind::Loop { pause } => {
            flag("kind", "loop".into());
            flag("pause", format!("{}us", pause.as_micros()));
        }
        Kind::All => flag("kind", "all".into()),
        _ => bail!("the Go pool has no row {}", row.name),
    }
    Ok(command)
}

fn path() -> Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name("duly-bench-go"))
}
