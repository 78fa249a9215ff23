//! The machine a table was made on, in the words of /proc and of the tools themselves; and what a process has used of it.

use anyhow::Result;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use std::path::Path;
use std::process::Command;

/// One line a fact.
pub(crate) fn facts() -> Vec<(String, String)> {
    let cpu = read("/proc/cpuinfo")
        .lines()
        .find_map(|line| Some(line.strip_prefix("model name")?.trim().to_owned()));
    let cores = std::thread::available_parallelism().map_or("?".into(), |n| n.to_string());
    let memory = read("/proc/meminfo")
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().split(' ').next()?.parse().ok());
    let memory: Option<f64> = memory;
    let memory = memory.map_or("?".into(), |kib| format!("{:.1} GiB", kib / 1024.0 / 1024.0));
    let facts = [
        ("CPU", cpu.unwrap_or_default().trim_start_matches(':').trim().into()),
        ("cores this process may use", cores),
        ("memory", memory),
        ("kernel", read("/proc/sys/kernel/osrelease").trim().into()),
        ("rustc", first_line("rustc", "--version")),
        ("cc", first_line("cc", "--version")),
        ("go", first_line("go", "version")),
        ("commit", commit()),
    ];
    facts.map(|(what, value)| (what.into(), value)).into()
}

/// The commit that is measured, where this is a clone, and whether something in it was changed.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let output = Command::new("git").args(arguments).current_dir(here).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success().then_some(text)
    };
    match (git(&["log", "-1", "--format=%h"]), git(&["status", "--porcelain"])) {
        (Some(commit), Some(changes)) if changes.is_empty() => commit,
        (Some(commit), _) => format!("{commit}, changed"),
        _ => "unknown".into(),
    }
}

/// What threads have used so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used {
    pub(crate) cpu_us: f64,
    /// Times a thread went to sleep because it had to wait: each ends with a wake-up.
    pub(crate) blocked: f64,
    /// Times a thread had to make room for another.
    pub(crate) preempted: f64,
}

impl Used {
    pub(crate) fn since(&self, before: &Used) -> Used {
        Used {
            cpu_us: (self.cpu_us - before.cpu_us).max(0.0),
            blocked: self.blocked - before.blocked,
            preempted: self.preempted - before.preempted,
        }
    }
}

/// All threads of this process, ended ones too.
pub(crate) fn used() -> Result<Used> {
    used_by(UsageWho::RUSAGE_SELF)
}

/// All threads but this one.
pub(crate) fn used_by_workers() -> Result<Used> {
    Ok(used()?.since(&used_by(UsageWho::RUSAGE_THREAD)?))
}

fn used_by(who: UsageWho) -> Result<Used> {
    let usage = getrusage(who)?;
    Ok(Used {
        cpu_us: (usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64,
        blocked: usage.voluntary_context_switches() as f64,
        preempted: usage.involuntary_context_switches() as f64,
    })
}

/// CPU time in ticks of the kernel, since boot: of the whole machine, and of this process with its ended children.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticks {
    busy: u64,
    all: u64,
    ours: u64,
}

pub(crate) fn ticks() -> Ticks {
    ticks_of(&read("/proc/stat"), &read("/proc/self/stat"))
}

impl Ticks {
    /// The share of the machine that other processes, or other guests of its host, used from `self` to `later`.
    pub(crate) fn used_by_others(self, later: Ticks) -> f64 {
        let others = (later.busy - self.busy).saturating_sub(later.ours - self.ours);
        others as f64 / (later.all - self.all).max(1) as f64
    }
}

fn ticks_of(machine: &str, process: &str) -> Ticks {
    let numbers = |text: &str| -> Vec<u64> { text.split_whitespace().flat_map(str::parse).collect() };
    // user nice system idle iowait irq softirq steal; the guests' time after them is part of user's and nice's.
    let cpu: Vec<u64> = numbers(machine.lines().next().unwrap_or_default())
        .into_iter()
        .take(8)
        .collect();
    let all = cpu.iter().sum();
    let idle: u64 = cpu.iter().skip(3).take(2).sum();
    // After the name in brackets: the state, ten fields, then utime stime cutime cstime. Some fields are negative.
    let rest = process.rsplit_once(')').map_or("", |(_, rest)| rest);
    let own = rest.split_whitespace().skip(11).take(4).flat_map(str::parse::<u64>);
    Ticks {
        busy: all - idle,
        all,
        ours: own.sum(),
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn first_line(program: &str, argument: &str) -> String {
    let output = Command::new(program).arg(argument).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let line = text.as_deref().unwrap_or("none").lines().next().unwrap_or("unknown");
    line.trim_start_matches("go version ").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn others_are_what_is_busy_and_not_ours() {
        let process = |ticks: u64| format!("7 (a (b) 9 9) S 1 2 3 4 -1 6 7 8 9 10 {ticks} 2 3 4 20 0");
        let before = ticks_of("cpu  100 0 50 800 50 0 0 0 7 7\ncpu0 1 1 1", &process(1));
        let after = ticks_of("cpu  160 5 60 900 60 5 5 5 9 9\ncpu0 1 1 1", &process(41));
        // Busy 90 of 200, 40 of these ours.
        assert_eq!(before.used_by_others(after), 0.25);
    }

    #[test]
    fn a_thread_that_is_woken_is_seen() {
        let before = used_by_workers().expect("getrusage");
        let sleeps = || (0..20).for_each(|_| std::thread::sleep(Duration::from_micros(100)));
        std::thread::spawn(sleeps).join().expect("sleeps do not panic");
        let used = used_by_workers().expect("getrusage").since(&before);
        assert!(used.blocked >= 20.0, "{used:?}");
    }

    #[test]
    fn own_work_is_seen() {
        let (before, deadline) = (ticks(), Instant::now() + Duration::from_secs(20));
        while ticks().ours < before.ours + 5 {
            assert!(Instant::now() < deadline, "a loop of 20 s took no 5 ticks");
        }
    }
}
