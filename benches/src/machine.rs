//! The machine a table was made on, in the words of /proc and of the tools themselves.

use crate::go;
use std::process::Command;

/// One line a fact.
pub(crate) fn facts() -> Vec<(&'static str, String)> {
    let cpu = read("/proc/cpuinfo")
        .lines()
        .find_map(|line| Some(line.strip_prefix("model name")?.trim().to_owned()));
    let cores = std::thread::available_parallelism().map_or("?".into(), |n| n.to_string());
    let memory = read("/proc/meminfo")
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().split(' ').next()?.parse().ok());
    let memory: Option<f64> = memory;
    vec![
        ("CPU", cpu.unwrap_or_default().trim_start_matches(':').trim().into()),
        ("cores this process may use", cores),
        (
            "memory",
            memory.map_or("?".into(), |kib| format!("{:.1} GiB", kib / 1024.0 / 1024.0)),
        ),
        ("kernel", read("/proc/sys/kernel/osrelease").trim().into()),
        ("rustc", output("rustc", "--version")),
        ("go", go::version().unwrap_or_else(|| "none".into())),
    ]
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

fn output(program: &str, argument: &str) -> String {
    let output = Command::new(program).arg(argument).output();
    output.map_or_else(
        |_| "unknown".into(),
        |output| String::from_utf8_lossy(&output.stdout).trim().into(),
    )
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
    fn own_work_is_seen() {
        let (before, deadline) = (ticks(), Instant::now() + Duration::from_secs(20));
        while ticks().ours < before.ours + 5 {
            assert!(Instant::now() < deadline, "a loop of 20 s took no 5 ticks");
        }
    }
}
