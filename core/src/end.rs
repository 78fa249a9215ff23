//! Ending a task from outside its worker: by its handle, its token, its deadline, an overflow, a drain.
//!
//! The order of the steps is the promise: win the task; give its place back; count it; leave the token and the
//! timer; publish; wake. Only then, on the delivery thread, user code: its captured data, its callbacks, its hooks.

use crate::error::{CancelReason, Outcome};
use crate::lane::Lane;
use crate::shared::Shared;
use crate::slot::{self, Calls, Event, LINKED, QUEUED, Slot, SlotRef, TIMED, WAITERS};
use crate::sync::{Arc, full_fence};
use crate::{delivery, table, timer};

/// Ends a task, if it has not ended: true if this call decided its outcome.
pub(crate) fn end(task: &SlotRef, outcome: Outcome, reason: Option<&CancelReason>) -> bool {
    let Some(word) = task.win() else { return false };
    // An inherited pool is closed.
    if is_plain(task, word, WAITERS | TIMED | LINKED) && end_plain(task, outcome, reason) {
        return true;
    }
    if task.is_inherited() {
        task.settle();
        return false;
    }
    // SAFETY: just won, and counted only in `finish`.
    let shared = table::share(unsafe { table::lent_pool(table::lane_of_won(task.lane())) });
    finish_and_tell(&shared, task, slot::state(word), outcome, reason);
    true
}

/// Whether a task that was just won, with this word, is nothing but an entry in its queue: then ending it runs no user
/// code, unless a waiter comes meanwhile.
#[inline]
fn is_plain(task: &SlotRef, word: u64, watched: u64) -> bool {
    slot::state(word) == QUEUED && word & watched == 0 && !task.vtable().needs_drop
}

/// [`finish_and_tell`] for a plain task of an open pool: the same steps, at a third of the cost. (Nothing was submitted
/// under a task that has not run, so it has no token of its own.) False, and nothing is done, if the pool is closed.
fn end_plain(task: &SlotRef, outcome: Outcome, reason: Option<&CancelReason>) -> bool {
    // SAFETY: just won; not used after the task is counted, but for what is shared before.
    let lane = unsafe { table::lane_of_won(task.lane()) };
    if lane.is_closed() {
        return false;
    }
    // Producers that wait are told last, as their wakers are user code; that takes a pool of which this task was perhaps
    // the last.
    let (in_ring, wanted) = lane.take_out_counted(task, outcome, |wanted| {
        // SAFETY: not counted before this lock is let go.
        wanted.then(|| table::share(unsafe { table::lent_pool(lane) }))
    });
    let reason = reason.map_or(0, |reason| task.keep_reason(reason));
    if task.publish_and_leave(outcome, reason, u64::from(in_ring)) {
        wake_latecomers(task, outcome);
    }
    if let Some(_shared) = wanted {
        lane.announce_room();
    }
    true
}

/// Wakes those who came between a plain task's win and its end.
#[cold]
fn wake_latecomers(task: &SlotRef, outcome: Outcome) {
    let calls = task.wake(Event::Ended, || ());
    task.wake(Event::Released, || ());
    if !calls.is_empty() {
        // The pool, and its delivery thread, may have gone when this task was counted.
        let task = task.clone();
        delivery::run_alone("duly-deliver".into(), move || run_calls(&task, calls, outcome));
    }
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

/// Ends tasks because their token was cancelled: the plain ones of a queue together, which costs each a tenth.
fn end_by_token(tasks: &mut Vec<SlotRef>, reason: &CancelReason, told: &mut Vec<SlotRef>) {
    let mut tasks: Vec<Option<SlotRef>> = tasks.drain(..).map(Some).collect();
    let mut rest = &mut tasks[..];
    while let Some((first, others)) = rest.split_first_mut() {
        rest = others;
        let Some(first) = first.take() else { continue };
        // One is won for itself: so its queue is there for the others.
        if let Some(word) = first.win() {
            // SAFETY: just won, and counted only in `finish`.
            let lane = unsafe { table::lane_of_won(first.lane()) };
            // SAFETY: as before.
            let shared = table::share(unsafe { table::lent_pool(lane) });
            cancel_plain(lane, rest, reason);
            // A task's own token is a child of this token, so the cancellation reaches it by itself.
            finish(&shared, &first, slot::state(word), Outcome::Cancelled, Some(reason));
        }
        told.push(first);
    }
}

/// Cancels those of the tasks that are plain and of this queue, in one step each, and lets go of them. They need not leave
/// the list of their token: it has been emptied. Leaves those that others have to be told of, and those whose last
/// reference is here.
fn cancel_plain(lane: &Lane, tasks: &mut [Option<SlotRef>], reason: &CancelReason) {
    if lane.is_closed() {
        return;
    }
    // Kept elsewhere, a reason would have to be there before the task ends.
    let Some(bits) = slot::reason_in_word(reason) else {
        return;
    };
    for tasks in tasks.chunks_mut(UNDER_ONE_LOCK) {
        lane.end_all(Outcome::Cancelled, tasks.iter_mut(), |place, in_ring| {
            let Some(task) = place else { return false };
            let ended = task.lane() == lane.number
                && !task.vtable().needs_drop
                && task.cancel_queued(bits, 1 + u64::from(in_ring));
            if ended && let Some(task) = place.take() {
                // Its reference went with that step.
                let _ = task.into_raw();
            }
            ended
        });
    }
    lane.announce_room();
}

/// How many tasks are cancelled while the queue waits: a microsecond's worth.
const UNDER_ONE_LOCK: usize = 32;

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
    // SAFETY: won and not counted; after that, the caller has the pool.
    let lane = unsafe { table::lane_of_won(task.lane()) };
    // Before the task is counted: from then on the pool may think it has reached its end.
    let reserved = shared.reserve_delivery();
    let taken_out = queued && lane.take_out(task);
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
    if taken_out {
        lane.announce_room();
    }
    if queued && shared.queue.is_closed() {
        // Nobody else may be there to notice that this was the last.
        shared.progress();
    }
    if taken_out {
        // SAFETY: the ring's reference, which `take_out` left to us.
        drop(unsafe { SlotRef::from_raw(task.as_ptr()) });
    }
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
    slot::guard("the destructor of a completion's tag", || drop(calls.deserted));
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
