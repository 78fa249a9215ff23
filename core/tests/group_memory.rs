//! P5: what a group leaves of its members. A process of its own, so that nothing else takes memory meanwhile.

mod support;

use duly::{Group, Outcome, Pool};
use support::*;

#[test]
fn p05_a_million_members_leave_the_memory_flat() {
    let members = if cfg!(debug_assertions) { 200_000 } else { 1_000_000 };
    let pool = Pool::builder().workers(2).build().unwrap();
    let group = Group::<u64, ()>::builder(&pool).limit(512).build();
    let run = |count: u64| {
        for n in 0..count {
            drop(group.submit(move |_| Ok(n)).unwrap());
        }
    };
    run(members / 10);
    eventually("all have ended", || group.in_flight() == 0);
    let before = resident();
    run(members);
    group.wait().unwrap();
    let grown = resident().saturating_sub(before);
    assert!(grown < 4 << 20, "{grown} bytes more");
    assert_eq!(group.count(Outcome::Succeeded), members + members / 10);
    end(&pool);
}
