//! A pool at rest costs nothing: with 1000 workers no thread of the process is woken in 10 seconds.
//!
//! Keeps true: the kernel's own counters are read, from outside: a child process holds the pool, this one only watches.
//! The child first uses the pool for all that starts clocks and threads (deadlines met and missed, a cancellation, a
//! stuck callback that is replaced and returns), and then lets it be. `--plant` makes the child wake up now and then:
//! it has to be seen.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How often each thread of a process has left a processor, by thread number: (name, switches).
fn switches(pid: u32) -> std::io::Result<BTreeMap<u32, (String, u64)>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = entry?.path();
        let status = std::fs::read_to_string(path.join("status"))?;
        let name = std::fs::read_to_string(path.join("comm"))?.trim().to_owned();
        let count = status
            .lines()
            .filter(|line| line.contains("voluntary_ctxt_switches:"))
            .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
            .sum();
        let thread = path
            .file_name()
            .and_then(|name| name.to_str()?.parse().ok())
            .unwrap_or(0);
        found.insert(thread, (name, count));
    }
    Ok(found)
}

/// The process that is watched: uses a pool, says so, and waits until its input ends.
fn child(workers: usize, plant: bool) {
    let pool = duly::Pool::builder()
        .name("rest")
        .workers(workers)
        .replace_after(Duration::from_millis(20))
        .build()
        .expect("a pool");
    let mut tasks = Vec::new();
    for index in 0..20_000_u64 {
        let options = pool.options().timeout(Duration::from_secs(3600));
        tasks.push(options.spawn(move || index).expect("there is room"));
    }
    for task in tasks.drain(..) {
        if task.cancel() {
            continue;
        }
        let _ = task.wait();
    }
    // One that outlives its deadline, is replaced and returns.
    let late = pool.options().timeout(Duration::from_millis(5));
    let late = late
        .spawn(|| thread::sleep(Duration::from_millis(100)))
        .expect("there is room");
    let _ = late.wait();
    assert!(late.released(Duration::from_secs(20)), "the late callback returns");
    drop(late);
    if plant {
        thread::spawn(|| {
            loop {
                thread::sleep(Duration::from_millis(250));
            }
        });
    }
    println!("at rest");
    let _ = std::io::stdin().read(&mut [0_u8]);
    pool.shutdown(Duration::from_secs(5)).expect("not from a worker");
}

fn main() -> std::io::Result<ExitCode> {
    let args: Vec<String> = std::env::args().collect();
    let number = |name: &str, default: u64| {
        args.iter()
            .position(|arg| arg == name)
            .and_then(|at| args.get(at + 1)?.parse().ok())
            .unwrap_or(default)
    };
    let flag = |name: &str| args.iter().any(|arg| arg == name);
    let (workers, seconds) = (number("--workers", 1000), number("--seconds", 10));
    if flag("--child") {
        child(workers as usize, flag("--plant"));
        return Ok(ExitCode::SUCCESS);
    }

    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--child", "--workers", &workers.to_string()]);
    if flag("--plant") {
        command.arg("--plant");
    }
    let mut pool = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(pool.stdout.take().expect("piped")).read_line(&mut line)?;
    assert_eq!(line, "at rest\n", "the child has ended early");

    // What was going on comes to its end: until nothing has moved for a second.
    let patience = Instant::now() + Duration::from_secs(10);
    let mut before = switches(pool.id())?;
    loop {
        thread::sleep(Duration::from_secs(1));
        let now = switches(pool.id())?;
        let settled = now == before;
        before = now;
        if settled || Instant::now() > patience {
            break;
        }
    }
    thread::sleep(Duration::from_secs(seconds));
    let after = switches(pool.id())?;
    drop(pool.stdin.take());
    let ended = pool.wait()?;

    let mut woken = 0;
    for (thread, (name, count)) in &after {
        let more = count - before.get(thread).map_or(0, |(_, count)| *count);
        if more > 0 {
            println!("at_rest: {name} was woken {more} times");
            woken += more;
        }
    }
    let vanished = before.keys().filter(|thread| !after.contains_key(thread)).count();
    println!("figure: threads at rest = {}", after.len());
    println!("figure: wake-ups in {seconds} s at rest = {woken}");
    // The pool's own, and the child's first.
    let whole = after.len() as u64 > workers && ended.success() && vanished == 0;
    if !whole {
        println!(
            "at_rest: not what it should have been: {} threads, {vanished} ended, {ended}",
            after.len()
        );
    }
    Ok(ExitCode::from(u8::from(woken > 0 || !whole)))
}
