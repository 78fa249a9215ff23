//! The progress bar, drawn by a thread of its own from what any observer of a pool may read.

use duly::Pool;
use indicatif::{ProgressBar, ProgressStyle};
use std::fmt::Write as _;
use std::thread;
use std::time::{Duration, Instant};

/// A bar on a terminal, a line every few seconds elsewhere; always on stderr. Dropped: it ends.
pub(crate) struct Progress {
    over: std::sync::mpsc::Sender<()>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Progress {
    pub(crate) fn start(pool: Pool, tasks: u64) -> Progress {
        let (over, is_over) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            let bar = ProgressBar::new(tasks);
            if let Ok(style) = ProgressStyle::with_template("{wide_bar} {human_pos}/{human_len} {msg}") {
                bar.set_style(style);
            }
            let mut said = Instant::now();
            while is_over.recv_timeout(Duration::from_millis(100)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                let stats = pool.stats();
                bar.set_position(stats.ended());
                let mut message = String::new();
                let _ = write!(
                    message,
                    "{} queued, {} overdue, {} shed",
                    stats.queued, stats.overdue, stats.shed
                );
                if bar.is_hidden() && said.elapsed() >= Duration::from_secs(5) {
                    said = Instant::now();
                    eprintln!("survival: {} of {tasks} tasks ended, {message}", stats.ended());
                }
                bar.set_message(message);
            }
            bar.finish_and_clear();
        });
        Progress {
            over,
            thread: Some(thread),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        let _ = self.over.send(());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
