//! The feature `tokio`: tokens of tokio-util and of duly cancel each other (P2).

mod support;

use duly::{CancellationToken, Outcome, Pool};
use support::*;
use tokio_util::sync::CancellationToken as Theirs;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .unwrap()
}

#[test]
fn p02_a_task_under_a_followed_token_ends_with_it() {
    let runtime = runtime();
    let (pool, gate, _stuck) = stuck_pool(Pool::builder(), 1);
    let theirs = Theirs::new();
    let token = CancellationToken::new().follow(theirs.clone(), runtime.handle());
    let task = pool.options().token(&token).spawn(|| ()).unwrap();
    theirs.cancel();
    assert_eq!(task.wait_outcome(LONG), Some(Outcome::Cancelled));
    assert!(token.reason().unwrap().to_string().contains("tokio"));
    gate.open();
    end(&pool);
}

#[test]
fn p02_ours_cancels_theirs_by_call_and_by_deadline() {
    let runtime = runtime();
    let ours = CancellationToken::new();
    let theirs = ours.to_tokio(runtime.handle());
    assert!(!theirs.is_cancelled());
    ours.cancel();
    runtime.block_on(async { tokio::time::timeout(LONG, theirs.cancelled()).await.unwrap() });
    let late = CancellationToken::with_timeout(ms(20)).to_tokio(runtime.handle());
    runtime.block_on(async { tokio::time::timeout(LONG, late.cancelled()).await.unwrap() });
}

#[test]
fn p02_following_leaves_the_parent_alone_and_ends_with_either() {
    let runtime = runtime();
    let parent = CancellationToken::new();
    let theirs = Theirs::new();
    let child = parent.follow(theirs.clone(), runtime.handle());
    theirs.cancel();
    runtime.block_on(async { tokio::time::timeout(LONG, child.cancelled()).await.unwrap() });
    assert!(!parent.is_cancelled());
    let second = parent.follow(Theirs::new(), runtime.handle());
    parent.cancel();
    assert!(second.is_cancelled());
}

#[test]
fn p05_following_ends_when_the_follower_is_dropped() {
    let runtime = runtime();
    let theirs = Theirs::new();
    let root = CancellationToken::new();
    for _ in 0..100 {
        drop(root.follow(theirs.clone(), runtime.handle()));
    }
    eventually("no task is left", || runtime.metrics().num_alive_tasks() == 0);
}
