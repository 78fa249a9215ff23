//! Peers `go`, `duly-c`, `libuv` and `tbb`: programs of their own, built from go/ and c/ with the machine's own compilers.
//!
//! Kept true: the binaries lie beside this one, in the target directory, never older than their sources and libduly.a; each gets
//! the row's numbers as the same flags and prints the same line of JSON; what a machine lacks is said with the cure, and nothing is installed.

use crate::peers::Peer;
use crate::rows::{Row, Work};
use anyhow::{Context, Result, bail, ensure};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Whether the program is there now, or what to install.
#[derive(Debug)]
pub(crate) enum Built {
    Yes,
    Lacks(String),
}

struct Program {
    peer: Peer,
    compiler: &'static str,
    /// What the compiler gets, after `-o BINARY`.
    arguments: &'static [&'static str],
    /// The folder it runs in.
    folder: &'static str,
    /// The header without which it cannot be built.
    header: Option<&'static str>,
    /// A library beside this binary that it is linked with.
    library: Option<&'static str>,
    cure: &'static str,
}

const PROGRAMS: [Program; 4] = [
    Program {
        peer: Peer::Go,
        compiler: "go",
        arguments: &["build", "-buildvcs=false", "-o"],
        folder: "go",
        header: None,
        library: None,
        cure: "install Go 1.21 or later: https://go.dev/dl",
    },
    Program {
        peer: Peer::DulyC,
        compiler: "cc",
        arguments: &["-std=c11", "-D_GNU_SOURCE", "-O2", "-I../../include", "duly.c", "-o"],
        folder: "c",
        header: None,
        library: Some("libduly.a"),
        cure: "needs cc and libduly.a: cargo build --release -p duly-artifact, which ci/bench does",
    },
    Program {
        peer: Peer::Libuv,
        compiler: "cc",
        arguments: &[
            "-std=c11",
            "-D_GNU_SOURCE",
            "-O2",
            "libuv.c",
            "-luv",
            "-pthread",
            "-lm",
            "-o",
        ],
        folder: "c",
        header: Some("uv.h"),
        library: None,
        cure: "apt-get install gcc libuv1-dev",
    },
    Program {
        peer: Peer::Tbb,
        compiler: "c++",
        arguments: &[
            "-std=c++17",
            "-D_GNU_SOURCE",
            "-O2",
            "tbb.cc",
            "-ltbb",
            "-pthread",
            "-o",
        ],
        folder: "c",
        header: Some("tbb/task_arena.h"),
        library: None,
        cure: "apt-get install g++ libtbb-dev",
    },
];

/// Builds the program of this peer; there is nothing to build for a peer of this process.
pub(crate) fn build(peer: Peer) -> Result<Built> {
    let Some(program) = PROGRAMS.iter().find(|program| program.peer == peer) else {
        return Ok(Built::Yes);
    };
    if program.is_fresh()? {
        return Ok(Built::Yes);
    }
    let lacks = || Ok(Built::Lacks(program.cure.into()));
    if program.library()?.is_some_and(|library| !library.exists()) {
        return lacks();
    }
    if let Some(header) = program.header {
        match program.preprocess(header) {
            Ok(true) => {}
            Ok(false) => return lacks(),
            Err(error) if error.kind() == ErrorKind::NotFound => return lacks(),
            Err(error) => return Err(error).context(program.compiler),
        }
    }
    if peer == Peer::Go && go_minor().is_none_or(|minor| minor < 21) {
        return lacks();
    }
    match program.compile()? {
        None => lacks(),
        Some(done) => {
            let complaint = String::from_utf8_lossy(&done.stderr);
            ensure!(done.status.success(), "{peer} cannot be built:\n{complaint}");
            Ok(Built::Yes)
        }
    }
}

/// The 21 of `go version go1.21.4 linux/amd64`.
fn go_minor() -> Option<u32> {
    let output = Command::new("go").arg("version").stdin(Stdio::null()).output().ok()?;
    minor_of(&String::from_utf8_lossy(&output.stdout))
}

fn minor_of(version: &str) -> Option<u32> {
    let (_, minor) = version.split_once("go1.")?;
    minor.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

impl Program {
    fn sources(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(self.folder)
    }

    /// Whether the binary is there and younger than every source.
    fn is_fresh(&self) -> Result<bool> {
        let Ok(built) = path(self.peer)?.metadata().and_then(|binary| binary.modified()) else {
            return Ok(false);
        };
        for source in self.sources().read_dir()? {
            if source?.metadata()?.modified()? >= built {
                return Ok(false);
            }
        }
        Ok(match self.library()? {
            None => true,
            Some(library) => library
                .metadata()
                .and_then(|file| file.modified())
                .is_ok_and(|made| made < built),
        })
    }

    /// Where the library it is linked with should be.
    fn library(&self) -> Result<Option<PathBuf>> {
        let beside = std::env::current_exe()?;
        Ok(self.library.map(|name| beside.with_file_name(name)))
    }

    /// `None`: there is no such compiler.
    fn compile(&self) -> Result<Option<Output>> {
        // Put in its place whole, as several may be built at once.
        let fresh = path(self.peer)?.with_extension(std::process::id().to_string());
        let mut command = Command::new(self.compiler);
        command.args(self.arguments).arg(&fresh);
        if let Some(library) = self.library()? {
            command.arg(library).args(["-pthread", "-ldl", "-lm"]);
        }
        let compiled = command.current_dir(self.sources()).stdin(Stdio::null()).output();
        match compiled {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("{} cannot be started", self.compiler)),
            Ok(done) => {
                if done.status.success() {
                    std::fs::rename(&fresh, path(self.peer)?)?;
                }
                Ok(Some(done))
            }
        }
    }

    /// Whether the compiler finds the header.
    fn preprocess(&self, header: &str) -> std::io::Result<bool> {
        let language = if self.compiler == "cc" { "c" } else { "c++" };
        let status = Command::new(self.compiler)
            .args(["-x", language, "-E", "-include", header, "/dev/null"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        Ok(status.success())
    }
}

/// The command that runs one workload.
pub(crate) fn command(peer: Peer, row: &Row, workers: usize, n: usize) -> Result<Command> {
    if let Built::Lacks(cure) = build(peer)? {
        bail!("{peer} is not on this machine: {cure}");
    }
    let mut command = Command::new(path(peer)?);
    let mut flag = |name: &str, value: usize| _ = command.arg(format!("-{name}={value}"));
    flag("workers", workers);
    flag("n", n);
    flag("capacity", row.capacity);
    flag("warm-up", row.warm_up);
    flag("settle-ms", row.settle().as_millis() as usize);
    let kind = match row.work {
        Work::Windowed { window } => {
            flag("window", window);
            "windowed"
        }
        Work::Fire { captures } => {
            flag("captures", usize::from(captures));
            "fire"
        }
        Work::Producers { count, window } => {
            flag("producers", count);
            flag("window", window);
            "producers"
        }
        Work::Loop { pause_us } => {
            flag("pause-us", pause_us as usize);
            "loop"
        }
        Work::All => "all",
        Work::Batch => "batch",
        Work::Deadlines { window, timeout_ms } => {
            flag("window", window);
            flag("timeout-ms", timeout_ms as usize);
            "deadlines"
        }
        Work::Queued { handles } => {
            flag("handles", usize::from(handles));
            "queued"
        }
        Work::Standing {
            window,
            queued,
            deadlines: false,
        } => {
            flag("window", window);
            flag("queued", queued);
            "standing"
        }
        Work::Cancel { by_token: false } => "cancel",
        Work::Mixed => "mixed",
        _ => bail!("{peer} cannot do row {}", row.name),
    };
    command.args([
        &format!("-kind={kind}"),
        &format!("-row={}", row.name),
        &format!("-peer={peer}"),
    ]);
    Ok(command)
}

fn path(peer: Peer) -> Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name(format!("duly-bench-{peer}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_go() {
        assert_eq!(minor_of("go version go1.21.4 linux/amd64"), Some(21));
        assert_eq!(minor_of("go version go1.19 linux/amd64"), Some(19));
        assert_eq!(minor_of("go version devel"), None);
    }
}
