//! Ending a task from outside its worker: by its handle, its token, its deadline, an overflow, a drain.
//!
//! The order of the steps is the promise: win the task; give its place back; count it; leave the token and the
//! timer; publish; wake. Only then, on the delivery thread, user code: its captured data, its callbacks, its hooks.

use crate::error::{CancelReason, Outcome};
use crate::shared::Shared;
use crate::slot::{Calls, Event, LINKED, QUEUED, Slot, SlotRef};
use crate::sync::{Arc, full_fence};
use crate::{slot, table, timer};

/// Ends a task, if it has not ended: true if this call decided its outcome.
pub(crate) fn end(task: &SlotRef, outcome: Outcome, reason: Option<&CancelReason>) -> bool {
    let Some(from) = task.win() else { return false };
    // SAFETY: just won, and counted only in `finish`.
    let shared = unsafe { table::pool_of_won(task.pool()) };
    finish_and_tell(&shared, task, from, outcome, reason);
    true
}

/// [`finish`], and the task's own token is cancelled.
pub(crate) fn finish_and_tell(
    shared: &Arc<Shared>,
    task: &SlotRef,
    from: u64,
    outcome: Outcome,
    reason: Option<&CancelReason>,
) {
    finish(shared, task, from, outcome, reason);
    // Pairs with the fence in `shared::own_token`: it sees the outcome, or we see the token.
    full_fence();
    if let Some(own) = task.side().and_then(|side| side.own.get()) {
        // This may be the timer thread, where the last reference of a task must not be dropped.
        for child in own.cancel_and_keep(reason.cloned().unwrap_or_else(|| reason_of(outcome))) {
            shared.let_go(child);
        }
    }
}

/// Ends a task because its token was cancelled.
fn end_by_token(task: &SlotRef, reason: &CancelReason) {
    let Some(from) = task.win() else { return };
    // SAFETY: just won, and counted only in `finish`.
    let shared = unsafe { table::pool_of_won(task.pool()) };
    // The task's own token is a child of this token, so the cancellation reaches it by itself.
    finish(&shared, task, from, Outcome::Cancelled, Some(reason));
}

/// Why the token of an ended task is cancelled.
pub(crate) fn reason_of_task(task: &Slot, outcome: Outcome) -> CancelReason {
    match outcome {
        Outcome::Cancelled => task.reason(),
        _ => reason_of(outcome),
    }
}

fn reason_of(outcome: Outcome) -> CancelReason {
    match outcome {
        Outcome::DeadlineExceeded => CancelReason::DeadlineExceeded,
        Outcome::Abandoned => CancelReason::from("the task that submitted it was abandoned"),
        _ => CancelReason::Requested,
    }
}

/// All that the winner does. `from` is the state the task was in.
pub(crate) fn finish(shared: &Arc<Shared>, task: &SlotRef, from: u64, outcome: Outcome, reason: Option<&CancelReason>) {
    let queued = from == QUEUED;
    // Before the task is counted: from then on the pool may think it has reached its end.
    let reserved = shared.reserve_delivery();
    let taken_out = if queued { shared.queue.remove(task) } else { None };
    shared.books.count(outcome);
    timer::leave_lists(shared, task);
    if !queued {
        shared.books.overdue.fetch_add(1, crate::sync::Ordering::AcqRel);
    }
    let drop_later = queued && task.vtable().needs_drop;
    let published = task.publish(outcome, reason, queued && !drop_later, false);
    let calls = if published.waiters {
        task.wake(Event::Ended, || ())
    } else {
        Calls::default()
    };
    if published.waiters && queued && !drop_later {
        task.wake(Event::Released, || ());
    }
    if drop_later {
        let task = task.clone();
        shared.deliver("the destructor of a task's captured data", move || drop_callback(&task));
    }
    if !calls.is_empty() {
        let task = task.clone();
        shared.deliver("a completion callback or an on_cancel hook", move || {
            run_calls(&task, calls, outcome)
        });
    }
    if !queued {
        shared.watch_overdue();
    }
    drop(reserved);
    // Producers that are woken are user code, too: only now.
    if taken_out.is_some() {
        shared.queue.announce_room();
    }
    if queued && shared.queue.is_closed() {
        // Nobody else may be there to notice that this was the last.
        shared.progress();
    }
    drop(taken_out);
}

/// Drops the callback of a task that ended while it was queued.
fn drop_callback(task: &SlotRef) {
    // SAFETY: the winner of a queued task owns its callback (slot invariant 2), and passes it on to here once.
    slot::guard("the destructor of a task's captured data", || unsafe {
        (task.vtable().drop_callback)(task);
    });
    task.released();
}

/// Runs what waited for the end of a task.
pub(crate) fn run_calls(task: &Slot, calls: Calls, outcome: Outcome) {
    if let Some(interrupted) = task.interrupted() {
        for hook in calls.on_cancel {
            slot::guard("an on_cancel hook", || hook(&interrupted));
        }
    } else {
        // The callback ended by itself: the hooks are dropped unused.
        slot::guard("the destructor of an on_cancel hook", || drop(calls.on_cancel));
    }
    for call in calls.complete {
        task.observe(task.load());
        slot::guard("a completion callback", || call(outcome));
    }
}

/// Puts a task under a token; if that has been cancelled, ends it.
pub(crate) fn link(task: &SlotRef, token: &crate::cancel::CancellationToken) {
    let link = match token.link(task.clone(), end_by_token) {
        Ok(link) => link,
        Err((task, reason)) => {
            end(&task, Outcome::Cancelled, Some(&reason));
            return;
        }
    };
    *task.side_or_new().link.lock() = Some(link);
    let word = task.set(LINKED);
    if slot::ended(word) || slot::state(word) == slot::FINISHING {
        unlink(task);
    }
}

/// Takes an ending task out of its token's list.
pub(crate) fn unlink(task: &Slot) {
    let link = task.side().and_then(|side| side.link.lock().take());
    if let Some(link) = link {
        link.leave();
    }
}
