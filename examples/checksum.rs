//! The SHA-256 of every file of a directory tree, one task a file, over a pool that always answers.
//!
//! The same program stands beside this one in C (`checksum.c`) and in Python (`checksum.py`). Keeps true: the digest is
//! what `sha256sum` gives over the same files; each file and each planted callback has exactly one answer; what the
//! program counted by itself is what the pool's books say; Ctrl-C and SIGTERM end it within the grace period.

use anyhow::{Context as _, Result};
use clap::Parser;
use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use duly::{Context, Outcome, Pool, ShutdownReport, SubmitErrorKind, Task, TaskError};
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::error::Error;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, RwLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// The SHA-256 of every file of a directory tree, and one digest over all of them.
///
/// Each file is a task of a bounded pool with a timeout of its own. Planted among them are callbacks that panic, sleep for
/// ever, ignore their cancellation and flood the queue: the files are answered all the same, and the books balance.
#[derive(Parser)]
#[command(
    after_help = "Exit status: 0 all well; 1 the books do not balance; 2 usage; 3 some file has no checksum; \
    130 or 143 after SIGINT or SIGTERM, when what was finished in time is reported."
)]
struct Args {
    /// The directory whose regular files are read; symbolic links are not followed
    #[arg(default_value = "/usr/share")]
    dir: PathBuf,
    /// Threads that read files
    #[arg(long, value_name = "N", default_value_t = thread::available_parallelism().map_or(1, usize::from))]
    workers: usize,
    /// Files that may be queued; the walk waits when the queue is full
    #[arg(long, value_name = "N", default_value_t = 64)]
    capacity: usize,
    /// How long a file may take, its time in the queue included
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    timeout: Duration,
    /// How long each planted callback may take
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    planted_timeout: Duration,
    /// How long files may go on after SIGINT or SIGTERM
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    grace: Duration,
    /// Plant nothing: only files
    #[arg(long)]
    no_planted: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().map_err(|error| error.to_string())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn main() -> ExitCode {
    // A panic on a worker is an outcome: the report tells it, the standard hook need not.
    let standard = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !thread::current()
            .name()
            .is_some_and(|name| name.starts_with("checksum-"))
        {
            standard(panic);
        }
    }));
    match run(&Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("checksum: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> Result<ExitCode> {
    let root = args
        .dir
        .canonicalize()
        .with_context(|| args.dir.display().to_string())?;
    let pool = Pool::builder()
        .name("checksum")
        .workers(args.workers)
        // Two of what is planted never come back, also where there is only one worker.
        .max_replacements(args.workers.max(2))
        .capacity(args.capacity)
        .default_timeout(args.timeout)
        .build()?;
    let signal = shut_down_on_signal(&pool, args.grace)?;
    let mut progress = Progress::new();

    let mut files = Files::default();
    let mut planted = Planted::default();
    files.submit(&pool, &root, &mut progress, |submitted| {
        if submitted == 10 && !args.no_planted {
            planted.plant(&pool, args);
        }
    });
    if files.tasks.len() < 10 && !args.no_planted {
        planted.plant(&pool, args);
    }

    // Every handle answers: at its deadline at the latest, or when a signal has shut the pool down.
    for (_, task) in &files.tasks {
        progress.wait(task, &pool);
    }
    for task in planted.all() {
        progress.wait(task, &pool);
    }
    progress.done();

    // All have answered: what may still run are callbacks that nobody waits for.
    let report = pool.shutdown(Duration::from_millis(200))?;
    let signal = signal.load(Ordering::Acquire);
    Ok(print_report(&mut files, &planted, &report, signal))
}

/// A signal drains the pool: submits are refused from now on, and every task has its answer within `grace`.
fn shut_down_on_signal(pool: &Pool, grace: Duration) -> Result<Arc<AtomicI32>> {
    let seen = Arc::new(AtomicI32::new(0));
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    let (pool, first) = (pool.clone(), seen.clone());
    thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            if first.swap(signal, Ordering::AcqRel) != 0 {
                std::process::exit(128 + signal);
            }
            // The drain has begun; the main thread waits for its end.
            drop(pool.shutdown_async(grace));
        }
    })?;
    Ok(seen)
}

// ---- the files ----

type FileTask = Task<[u8; 32], Box<dyn Error + Send + Sync>>;

#[derive(Default)]
struct Files {
    /// Path relative to the directory, and its task.
    tasks: Vec<(PathBuf, FileTask)>,
    refused: u64,
    /// Directories that could not be read.
    unread: u64,
}

impl Files {
    fn submit(&mut self, pool: &Pool, root: &Path, progress: &mut Progress, mut submitted: impl FnMut(usize)) {
        for entry in walkdir::WalkDir::new(root) {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    progress.tell(&format!("checksum: {error}"));
                    self.unread += 1;
                    continue;
                }
            };
            if pool.is_closed() {
                return;
            }
            if !entry.file_type().is_file() {
                continue;
            }
            let path = entry.into_path();
            let relative = path.strip_prefix(root).unwrap_or(&path).to_owned();
            let label = relative.display().to_string();
            // Blocks while the queue is full: the walk goes no faster than the files are read.
            match pool.options().label(label).submit(move |ctx| checksum(&path, ctx)) {
                Ok(task) => self.tasks.push((relative, task)),
                Err(error) => {
                    self.refused += 1;
                    if error.kind() == SubmitErrorKind::ShutDown {
                        return;
                    }
                    progress.tell(&format!("checksum: {error}"));
                    continue;
                }
            }
            submitted(self.tasks.len());
            progress.update(pool, self.tasks.len());
        }
    }

    fn count(&self, outcome: Outcome) -> u64 {
        self.tasks
            .iter()
            .filter(|(_, task)| task.outcome() == Some(outcome))
            .count() as u64
    }

    /// One digest over all files, as `sha256sum` piped into itself; names the files that have none.
    fn digest(&mut self) -> (String, usize) {
        self.tasks
            .sort_by(|(a, _), (b, _)| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
        let (mut all, mut count) = (Sha256::new(), 0);
        for (path, task) in &self.tasks {
            match task.wait() {
                Ok(sum) => {
                    all.update(hex(&sum));
                    all.update(b"  ");
                    all.update(path.as_os_str().as_bytes());
                    all.update(b"\n");
                    count += 1;
                }
                // Named in the report.
                Err(TaskError::Abandoned(_)) => {}
                Err(error) => eprintln!("checksum: {}: {error}", path.display()),
            }
        }
        (hex(&all.finalize()), count)
    }
}

/// The callback: on a worker.
fn checksum(path: &Path, ctx: &Context) -> Result<[u8; 32], Box<dyn Error + Send + Sync>> {
    let mut file = File::open(path)?;
    let mut sum = Sha256::new();
    let mut chunk = vec![0; 128 * 1024];
    loop {
        // Nobody waits any more? Then stop here.
        ctx.check()?;
        match file.read(&mut chunk)? {
            0 => return Ok(sum.finalize().into()),
            read => sum.update(&chunk[..read]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

// ---- what is planted among them ----

#[derive(Default)]
struct Planted {
    tasks: Vec<(&'static str, Task<()>)>,
    refused: u64,
    burst: Vec<Task<()>>,
    burst_refused: u64,
}

impl Planted {
    fn plant(&mut self, pool: &Pool, args: &Args) {
        let timeout = args.planted_timeout;
        self.submit(pool, timeout, "planted:panics", || {
            panic!("planted: this callback panics")
        });
        // Before the one that sleeps: where there is one worker, it has to have begun before its deadline.
        let (started, has_started) = mpsc::channel();
        let ignores = self.submit(pool, timeout, "planted:ignores-cancellation", move || {
            let _ = started.send(());
            loop {
                thread::sleep(Duration::from_millis(10));
            }
        });
        let _ = has_started.recv_timeout(timeout / 2);
        if let Some(task) = ignores {
            task.cancel();
        }
        self.submit(pool, timeout, "planted:sleeps-for-ever", || {
            loop {
                thread::sleep(Duration::from_secs(3600));
            }
        });
        self.burst(pool, timeout, args.capacity + 2 * args.workers + 64);
    }

    #[track_caller]
    fn submit(
        &mut self,
        pool: &Pool,
        timeout: Duration,
        name: &'static str,
        callback: impl FnOnce() + Send + 'static,
    ) -> Option<&Task<()>> {
        match pool.options().label(name).timeout(timeout).spawn(callback) {
            Ok(task) => self.tasks.push((name, task)),
            Err(_) => {
                self.refused += 1;
                return None;
            }
        }
        self.tasks.last().map(|(_, task)| task)
    }

    /// More tasks at once than the queue and the workers can hold.
    fn burst(&mut self, pool: &Pool, timeout: Duration, size: usize) {
        let gate = Arc::new(RwLock::new(()));
        let shut = gate.write();
        for _ in 0..size {
            let gate = gate.clone();
            let options = pool.options().label("planted:burst").timeout(timeout);
            match options.try_spawn(move || drop(gate.read())) {
                Ok(task) => self.burst.push(task),
                Err(_) => self.burst_refused += 1,
            }
        }
        drop(shut);
    }

    fn all(&self) -> impl Iterator<Item = &Task<()>> {
        self.tasks.iter().map(|(_, task)| task).chain(&self.burst)
    }

    fn count(&self, outcome: Outcome) -> u64 {
        self.all().filter(|task| task.outcome() == Some(outcome)).count() as u64
    }
}

// ---- what is told ----

/// A bar on a terminal, a line now and then elsewhere; always on stderr.
struct Progress {
    bar: ProgressBar,
    files: usize,
    drawn: Instant,
    said: Instant,
}

impl Progress {
    fn new() -> Self {
        let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} tasks  {elapsed_precise}");
        let bar = ProgressBar::new(0);
        if let Ok(style) = style {
            bar.set_style(style);
        }
        Progress {
            bar,
            files: 0,
            drawn: Instant::now(),
            said: Instant::now(),
        }
    }

    fn update(&mut self, pool: &Pool, files: usize) {
        self.files = files;
        if self.drawn.elapsed() < Duration::from_millis(100) {
            return;
        }
        self.drawn = Instant::now();
        let stats = pool.stats();
        if !self.bar.is_hidden() {
            self.bar.set_length(stats.submitted);
            self.bar.set_position(stats.ended());
        } else if self.said.elapsed() >= Duration::from_secs(5) {
            self.said = Instant::now();
            eprintln!("checksum: {files} files, {} ended", stats.ended());
        }
    }

    fn wait<T, E>(&mut self, task: &Task<T, E>, pool: &Pool) {
        while task.wait_outcome(Duration::from_millis(100)).is_none() {
            self.update(pool, self.files);
        }
    }

    fn tell(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    fn done(&self) {
        self.bar.finish_and_clear();
    }
}

fn print_report(files: &mut Files, planted: &Planted, report: &ShutdownReport, signal: i32) -> ExitCode {
    match signal {
        SIGINT => println!("interrupted by SIGINT"),
        SIGTERM => println!("interrupted by SIGTERM"),
        _ => {}
    }

    let mut wrong = Vec::new();
    let mut table = Table::new();
    table
        .load_preset(ASCII_MARKDOWN)
        .set_header(["outcome", "files", "planted"]);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let rows = report
        .stats
        .outcomes()
        .map(|(outcome, in_books)| (outcome.as_str(), files.count(outcome), planted.count(outcome), in_books));
    let refused = (
        "refused",
        files.refused,
        planted.refused + planted.burst_refused,
        report.stats.refused,
    );
    for (word, of_files, of_planted, in_books) in rows.into_iter().chain([refused]) {
        table.add_row([word.to_owned(), of_files.to_string(), of_planted.to_string()]);
        if of_files + of_planted != in_books {
            wrong.push(format!(
                "{word}: {} counted, {in_books} in the books",
                of_files + of_planted
            ));
        }
    }
    println!("{table}");
    if !report.stats.books_balance() || report.stats.queued + report.stats.running != 0 {
        wrong.push(format!("at the end: {:?}", report.stats));
    }

    for (name, task) in &planted.tasks {
        let outcome = task.outcome().map_or("none", Outcome::as_str);
        let why = task.wait().err().map(|error| error.to_string()).unwrap_or_default();
        println!("{name:<29} {outcome:<18} {why}");
    }
    if !planted.tasks.is_empty() {
        let (accepted, refused) = (planted.burst.len(), planted.burst_refused);
        println!(
            "{:<29} {accepted} accepted, {refused} refused queue_full",
            "planted:burst"
        );
    }

    let label = |task: &duly::TaskRecord| task.name.label().unwrap_or("?").to_owned();
    let mut still: Vec<_> = report.stuck.iter().map(label).collect();
    still.sort();
    let drained = match report.abandoned.len() {
        0 => "drained".to_owned(),
        abandoned => format!("not drained, {abandoned} abandoned"),
    };
    let running = if still.is_empty() {
        String::new()
    } else {
        format!("; still running: {}", still.join(", "))
    };
    println!("shutdown: {drained}{running}");
    for task in &report.abandoned {
        println!("abandoned: {}", label(task));
    }

    let (digest, count) = files.digest();
    println!(
        "digest {}  files {count}",
        if signal == 0 { &digest } else { "incomplete" }
    );
    let complete = count == files.tasks.len() && files.refused + files.unread == 0;
    if wrong.is_empty() {
        println!("books balance");
    } else {
        println!("books do not balance: {}", wrong.join("; "));
    }
    match (wrong.is_empty(), signal, complete) {
        (false, ..) => ExitCode::from(1),
        (true, 0, true) => ExitCode::SUCCESS,
        (true, 0, false) => ExitCode::from(3),
        (true, signal, _) => ExitCode::from(u8::try_from(128 + signal).unwrap_or(1)),
    }
}
