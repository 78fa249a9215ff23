//! Fork: what the child inherits answers at once, a new pool works there, and the parent goes on.
//!
//! Run it with `cargo run --example fork`.

use duly::{Pool, SubmitErrorKind, TaskError};
use std::time::Duration;

/// What the child sees.
fn child(pool: &Pool, task: &duly::Task<u32>) -> anyhow::Result<()> {
    anyhow::ensure!(pool.is_inherited());
    // Nobody will run it here: abandoned, at once.
    anyhow::ensure!(matches!(task.wait(), Err(TaskError::Abandoned(_))));
    anyhow::ensure!(
        pool.spawn(|| 1)
            .is_err_and(|refused| refused.kind() == SubmitErrorKind::ShutDown)
    );
    // A pool of its own works.
    let own = Pool::builder().workers(2).build()?;
    let answer = own.spawn(|| 6 * 7)?.wait()?;
    println!("the child's own pool answers {answer}");
    anyhow::ensure!(own.shutdown(Duration::from_secs(5))?.drained);
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let pool = Pool::builder().workers(1).build()?;
    let task = pool.spawn(|| {
        std::thread::sleep(Duration::from_millis(1000));
        7
    })?;
    // SAFETY: the child ends below, by `_exit`.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let status = child(&pool, &task).map_or_else(
            |error| {
                eprintln!("in the child: {error}");
                1
            },
            |()| 0,
        );
        // SAFETY: ends the process.
        unsafe { libc::_exit(status) }
    }
    let mut status = 0;
    // SAFETY: `status` is valid for writes.
    unsafe { libc::waitpid(pid, &mut status, 0) };
    anyhow::ensure!(status == 0, "the child ended with {status}");
    println!("the parent's task goes on: {}", task.wait()?);
    anyhow::ensure!(pool.shutdown(Duration::from_secs(5))?.drained);
    Ok(())
}

#[test]
fn p11_the_child_and_the_parent_both_go_on() -> anyhow::Result<()> {
    main()
}
