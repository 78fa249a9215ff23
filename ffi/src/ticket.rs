//! What stands behind a task's handle: the core's task itself, or a ticket.
//!
//! Invariants:
//! 1. Most handles are the core's task as a plain pointer ([`SUBMITTED`]): nothing of ours is made for them, until somebody reads
//!    their failure or label. Its first word is the mark of that kind.
//! 2. A [`Ticket`] is an object of its own, with the mark of a task's handle, for a task that does not come that way: one that
//!    was made before its task (for a completion queue), that carries a context or belongs to a group, or that has an end and no
//!    task: the answer of a single flight or a stream.
//! 3. What a failure says is moved out of the core task once, into [`Views`], and stays there for every reader. So a task has one
//!    handle: who hands out several references hands out this one. Where the core gives the failure to somebody else (a group),
//!    the callback leaves a copy in `kept`.
//! 4. A ticket that was made before its task (for a completion queue) has it before C sees the ticket.

use std::ffi::{CStr, CString, c_void};
use std::ptr::NonNull;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use duly::{Lent, Outcome, Task, TaskError};

use crate::call::Failure;
use crate::foreign::Owned;
use crate::handle;
use crate::lazy::Lazy;
use crate::options::DULY_FOREVER;
use crate::settled::Settled;
use crate::status::duly_status;
use crate::submit::{SUBMITTED, Submitted};
use crate::task::{duly_task, span};
use crate::text::to_c;

/// What a handle of C's stands for, lent for as long as C holds it.
#[derive(Debug)]
pub(crate) enum Seen<'a> {
    Task(Lent<'a, Submitted>),
    Ticket(&'a Ticket),
}

/// What is behind a pointer that C handed in.
///
/// # Safety
/// As [`handle::borrow`].
#[inline(always)]
pub(crate) unsafe fn borrow<'a>(pointer: *const duly_task) -> Result<Seen<'a>, duly_status> {
    // SAFETY: the caller's contract is the same.
    let mark = unsafe { handle::mark_of(pointer) }?;
    if mark == SUBMITTED.mark() {
        // SAFETY: such a mark stands in the core's tasks only, and the caller holds a reference; not null, as it has a mark.
        return Ok(Seen::Task(unsafe { SUBMITTED.lend(raw(pointer)) }));
    }
    // SAFETY: the caller's contract is the same.
    unsafe { handle::borrow(pointer) }.map(Seen::Ticket)
}

/// Whether this is a handle of a task that has succeeded, as most have when they are waited for. Calls nothing, and leaves all
/// other cases to others.
///
/// # Safety
/// As [`borrow`].
#[inline(always)]
pub(crate) unsafe fn has_plainly_succeeded(pointer: *const duly_task) -> bool {
    // SAFETY: the caller's contract is the same.
    matches!(unsafe { borrow(pointer) }, Ok(Seen::Task(task)) if task.has_plainly_succeeded())
}

/// The handle of an accepted task, for C.
#[inline(always)]
pub(crate) fn give(task: Task<Owned, Failure>) -> *mut duly_task {
    match SUBMITTED.raw(task) {
        Ok(raw) => raw.as_ptr().cast(),
        Err(task) => handle::into_raw::<duly_task>(Ticket::new(task)),
    }
}

/// # Safety
/// As [`borrow`].
pub(crate) unsafe fn retain(pointer: *mut duly_task) -> *mut duly_task {
    // SAFETY: the caller's contract is the same.
    match unsafe { borrow(pointer) } {
        // SAFETY: the caller holds a reference.
        Ok(Seen::Task(_)) if unsafe { SUBMITTED.retain(raw(pointer)) } => pointer,
        Ok(Seen::Task(_)) => std::ptr::null_mut(),
        // SAFETY: the caller's contract is the same.
        _ => unsafe { handle::retain(pointer) },
    }
}

/// # Safety
/// As [`borrow`], and the caller gives up one reference that it held.
#[inline(always)]
pub(crate) unsafe fn release(pointer: *mut duly_task) {
    // SAFETY: the caller's contract is the same.
    match unsafe { borrow(pointer) } {
        // SAFETY: the caller's reference.
        Ok(Seen::Task(_)) => unsafe { SUBMITTED.release(raw(pointer)) },
        // SAFETY: the caller's contract is the same.
        _ => unsafe { handle::release(pointer) },
    }
}

/// # Safety
/// The pointer is not null.
#[inline(always)]
unsafe fn raw(pointer: *const duly_task) -> NonNull<c_void> {
    // SAFETY: as the caller says.
    unsafe { NonNull::new_unchecked(pointer.cast_mut()).cast() }
}

/// What is read of a task as text, made when it is first asked for.
#[derive(Debug, Default)]
struct Views {
    end: OnceLock<Box<End>>,
    label: Lazy<CString>,
}

#[derive(Debug)]
pub(crate) struct Ticket {
    body: Body,
    views: Views,
}

#[derive(Debug)]
enum Body {
    Task(Task<Owned, Failure>),
    Ahead(Box<Ahead>),
    Settled(Box<Settled>),
}

/// A task that came after its ticket, and where its callback leaves its failure if the core's goes to somebody else.
#[derive(Debug)]
struct Ahead {
    task: OnceLock<Task<Owned, Failure>>,
    kept: Option<Kept>,
}

/// Where the callback leaves a copy of its failure.
pub(crate) type Kept = Arc<OnceLock<Failure>>;

/// What there is to read about an end other than success.
#[derive(Debug, Default)]
pub(crate) struct End {
    failure: Option<Failure>,
    /// Of a panic.
    message: CString,
    pub(crate) reason: CString,
}

impl End {
    /// What an error says, and which outcome it is; none is that of a value taken before.
    pub(crate) fn of(error: TaskError<Failure>) -> (Option<Outcome>, End) {
        let end = End::default();
        match error {
            TaskError::Failed(failure) => {
                let failure = Some(failure);
                (Some(Outcome::Failed), End { failure, ..end })
            }
            TaskError::Panicked(panic) => {
                let message = to_c(panic.message());
                (Some(Outcome::Panicked), End { message, ..end })
            }
            TaskError::Cancelled(cancelled) => {
                let reason = to_c(&cancelled.reason().to_string());
                (Some(Outcome::Cancelled), End { reason, ..end })
            }
            TaskError::DeadlineExceeded(_) => (Some(Outcome::DeadlineExceeded), end),
            TaskError::Shed(_) => (Some(Outcome::Shed), end),
            TaskError::Abandoned(_) => (Some(Outcome::Abandoned), end),
            TaskError::WouldDeadlock(_) => {
                let reason = to_c("the wait could never have ended");
                (Some(Outcome::Cancelled), End { reason, ..end })
            }
            _ => (None, end),
        }
    }

    pub(crate) fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    pub(crate) fn message(&self) -> &CStr {
        self.failure.as_ref().map_or(&self.message, Failure::message)
    }

    pub(crate) fn cancelled(reason: &str) -> End {
        End {
            reason: to_c(reason),
            ..End::default()
        }
    }
}

impl Ticket {
    fn with(body: Body) -> Ticket {
        let views = Views::default();
        Ticket { body, views }
    }

    pub(crate) fn new(task: Task<Owned, Failure>) -> Ticket {
        Ticket::with(Body::Task(task))
    }

    /// One whose task will come.
    pub(crate) fn ahead(kept: Option<Kept>) -> Ticket {
        let task = OnceLock::new();
        Ticket::with(Body::Ahead(Box::new(Ahead { task, kept })))
    }

    /// The task of a ticket that was made ahead of it: the first that comes; all that come are the same.
    pub(crate) fn bind(&self, task: Task<Owned, Failure>) {
        if let Body::Ahead(ahead) = &self.body {
            let _ = ahead.task.set(task);
        }
    }

    /// An end without a task.
    pub(crate) fn settled(settled: Settled, end: End, label: &str) -> Ticket {
        Ticket {
            body: Body::Settled(Box::new(settled)),
            views: Views {
                end: OnceLock::from(Box::new(end)),
                label: Lazy::from(to_c(label)),
            },
        }
    }

    fn task(&self) -> Option<&Task<Owned, Failure>> {
        match &self.body {
            Body::Task(task) => Some(task),
            Body::Ahead(ahead) => ahead.task.get(),
            Body::Settled(_) => None,
        }
    }

    fn kept(&self) -> Option<&Failure> {
        match &self.body {
            Body::Ahead(ahead) => ahead.kept.as_ref().and_then(|kept| kept.get()),
            _ => None,
        }
    }
}

impl<'a> Seen<'a> {
    /// The core's task; a settled ticket has none.
    #[inline(always)]
    pub(crate) fn task(&self) -> Option<&Task<Owned, Failure>> {
        match self {
            Seen::Task(task) => Some(task),
            Seen::Ticket(ticket) => ticket.task(),
        }
    }

    pub(crate) fn settlement(&self) -> Option<&'a Settled> {
        match self {
            Seen::Ticket(Ticket {
                body: Body::Settled(settled),
                ..
            }) => Some(settled),
            _ => None,
        }
    }

    #[inline(always)]
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        match self {
            Seen::Task(task) => task.outcome(),
            Seen::Ticket(_) => self.ticket_outcome(),
        }
    }

    #[inline(never)]
    fn ticket_outcome(&self) -> Option<Outcome> {
        match self.settlement() {
            Some(settled) => Some(settled.outcome),
            None => self.task().and_then(Task::outcome),
        }
    }

    fn views(&self) -> Option<&'a Views> {
        match self {
            Seen::Task(task) => task.attached(),
            Seen::Ticket(ticket) => Some(&ticket.views),
        }
    }

    /// The end of a task that did not succeed; `None` while it has no outcome, and for a success.
    pub(crate) fn end(&self) -> Option<&'a End> {
        match self.outcome() {
            None | Some(Outcome::Succeeded) => None,
            Some(_) => self
                .views()
                .map(|views| &**views.end.get_or_init(|| Box::new(self.read_end()))),
        }
    }

    fn read_end(&self) -> End {
        if let Seen::Ticket(ticket) = self
            && let Some(failure) = ticket.kept()
            && self.outcome() == Some(Outcome::Failed)
        {
            return End::of(TaskError::Failed(failure.clone())).1;
        }
        match self.task().and_then(|task| task.wait_timeout(Duration::ZERO)) {
            Some(Err(error)) => End::of(error).1,
            _ => End::default(),
        }
    }

    pub(crate) fn label(&self) -> &'a CStr {
        let label = || self.task().and_then(|task| task.name().label().map(to_c));
        self.views()
            .map_or(c"", |views| views.label.get_or(|| label().unwrap_or_default()))
    }

    /// Waits for the outcome.
    pub(crate) fn wait(&self, timeout_ns: u64) -> Result<Outcome, duly_status> {
        match self.task() {
            Some(task) if timeout_ns == DULY_FOREVER => {
                task.join().map_err(|_| duly_status::DULY_STATUS_WOULD_DEADLOCK)
            }
            Some(task) => task
                .wait_outcome(span(timeout_ns))
                .ok_or(duly_status::DULY_STATUS_TIMED_OUT),
            None => self.outcome().ok_or(duly_status::DULY_STATUS_PENDING),
        }
    }

    pub(crate) fn take(&self) -> Result<Owned, duly_status> {
        match self.outcome() {
            None => return Err(duly_status::DULY_STATUS_PENDING),
            Some(Outcome::Succeeded) => {}
            // The core would move a failure out, too: it is left for the readers of `end`.
            Some(_) => return Err(duly_status::DULY_STATUS_NO_VALUE),
        }
        let taken = match self.settlement() {
            Some(settled) => settled.take(),
            None => match self.task().and_then(|task| task.wait_timeout(Duration::ZERO)) {
                Some(Ok(owned)) => Some(owned),
                _ => None,
            },
        };
        taken.ok_or(duly_status::DULY_STATUS_TAKEN)
    }
}

#[cfg(test)]
mod tests {
    use std::ptr::{NonNull, null, null_mut};

    use super::{Seen, borrow, release, retain};
    use crate::handle;
    use crate::options::DULY_FOREVER;
    use crate::pool::{duly_pool, duly_pool_new, duly_pool_release};
    use crate::status::duly_status::{self, DULY_STATUS_FOREIGN_HANDLE, DULY_STATUS_NULL_ARGUMENT, DULY_STATUS_OK};
    use crate::submit::{SUBMITTED, duly_submit};
    use crate::task::{duly_task, duly_task_label, duly_task_wait};

    unsafe extern "C-unwind" fn run(_: *mut std::ffi::c_void, _: *mut crate::call::duly_call) -> i32 {
        0
    }

    fn task_of(pool: *mut duly_pool) -> *mut duly_task {
        let mut task = null_mut();
        // SAFETY: the pool is live, `run` uses no data, and the output is a variable.
        unsafe {
            assert_eq!(
                duly_submit(pool, null(), Some(run), null_mut(), None, &raw mut task),
                DULY_STATUS_OK
            );
            assert_eq!(duly_task_wait(task, DULY_FOREVER, null_mut()), DULY_STATUS_OK);
        }
        task
    }

    fn refused(pointer: *const duly_task) -> Option<duly_status> {
        // SAFETY: each pointer is null, or to readable memory; none is a handle that is not live.
        unsafe { borrow(pointer) }.err()
    }

    #[test]
    fn p16_a_task_is_known_from_all_else() {
        let mut pool: *mut duly_pool = null_mut();
        // SAFETY: the output is a variable; the handles are live until they are released.
        unsafe {
            assert_eq!(duly_pool_new(null(), &raw mut pool), DULY_STATUS_OK);
            let task = task_of(pool);
            assert!(matches!(borrow(task), Ok(Seen::Task(_))));
            // Its own mark only, in a place of its own only.
            let memory = [SUBMITTED.mark() ^ 8, SUBMITTED.mark() + 8, 0, task.addr()];
            for word in &memory {
                assert_eq!(refused((&raw const *word).cast()), Some(DULY_STATUS_FOREIGN_HANDLE));
            }
            assert_eq!(refused(null()), Some(DULY_STATUS_NULL_ARGUMENT));
            assert_eq!(refused(task.wrapping_byte_add(1)), Some(DULY_STATUS_FOREIGN_HANDLE));
            assert_eq!(refused(task.wrapping_byte_add(8)), Some(DULY_STATUS_FOREIGN_HANDLE));
            assert_eq!(refused(pool.cast()), Some(DULY_STATUS_FOREIGN_HANDLE));
            assert_eq!(
                handle::borrow::<duly_pool>(task.cast()).err(),
                Some(DULY_STATUS_FOREIGN_HANDLE)
            );
            release(task);
            duly_pool_release(pool);
        }
    }

    #[test]
    fn p16_a_task_lives_until_its_last_release() {
        let mut pool: *mut duly_pool = null_mut();
        // SAFETY: as above; as many references are given up as there are.
        unsafe {
            assert_eq!(duly_pool_new(null(), &raw mut pool), DULY_STATUS_OK);
            let task = task_of(pool);
            assert_eq!(retain(task), task);
            release(task);
            let label = NonNull::new(duly_task_label(task).cast_mut());
            assert_eq!(
                NonNull::new(duly_task_label(task).cast_mut()),
                label,
                "a view stays where it is"
            );
            // Another task does not get the cell of one that is held.
            let other = task_of(pool);
            assert_ne!(other, task);
            release(other);
            release(task);
            duly_pool_release(pool);
        }
    }
}
