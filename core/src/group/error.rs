//! What a group tells of its members that did not succeed.

use crate::error::{Deadlock, Outcome, TaskError};
use crate::name::TaskName;
use crate::task::TaskResult;
use std::fmt;

/// A member that has ended, from [`Group::next`](super::Group::next).
pub struct Member<T, E> {
    pub(super) index: usize,
    pub(super) name: TaskName,
    pub(super) result: TaskResult<T, E>,
}

impl<T, E> Member<T, E> {
    /// The how-manieth accepted member of its group it is, from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// What it is called in messages.
    pub fn name(&self) -> &TaskName {
        &self.name
    }

    /// Its value, or why there is none.
    pub fn result(&self) -> &TaskResult<T, E> {
        &self.result
    }

    /// The same, moved out.
    pub fn into_result(self) -> TaskResult<T, E> {
        self.result
    }
}

impl<T, E> fmt::Debug for Member<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("index", &self.index)
            .field("name", &self.name)
            .field("error", &self.result.as_ref().err())
            .finish()
    }
}

/// A member without a value.
pub struct MemberError<E> {
    pub(super) index: usize,
    pub(super) name: TaskName,
    pub(super) error: TaskError<E>,
}

impl<E> MemberError<E> {
    /// The how-manieth accepted member of its group it is, from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// What it is called in messages.
    pub fn name(&self) -> &TaskName {
        &self.name
    }

    /// Why there is no value.
    pub fn error(&self) -> &TaskError<E> {
        &self.error
    }

    /// The same, moved out.
    pub fn into_error(self) -> TaskError<E> {
        self.error
    }
}

impl<E> fmt::Debug for MemberError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemberError")
            .field("index", &self.index)
            .field("name", &self.name)
            .field("error", &self.error)
            .finish()
    }
}

impl<E: fmt::Display> fmt::Display for MemberError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error {
            // These name the task themselves.
            TaskError::Failed(_) => write!(f, "{}: {}", self.name, self.error),
            error => error.fmt(f),
        }
    }
}

// No source: so it is an error also where the members' own errors are none, as anyhow's. The message has theirs.
impl<E: fmt::Display> std::error::Error for MemberError<E> {}

/// How many members ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) by: [u64; Outcome::ALL.len()],
    /// Of the cancelled ones those that the group cancelled because of a failure.
    pub(super) cancelled_by_group: u64,
}

impl Counts {
    pub(super) fn all(&self) -> u64 {
        self.by.iter().sum()
    }

    pub(super) fn succeeded(&self) -> u64 {
        self.by[Outcome::Succeeded as usize]
    }
}

/// Not every member of a group succeeded: what [`Group::wait`](super::Group::wait) answers.
///
/// Holds the errors in the order in which the members ended; the first of them is what made the group fail. Members that the
/// group itself cancelled because of that failure are counted and not listed. Errors move to the first wait that returns; a
/// later one has the counts and the first one's name.
pub struct GroupError<E>(pub(super) Box<Told<E>>);

/// What a [`GroupError`] tells.
pub(super) struct Told<E> {
    pub(super) group: String,
    pub(super) counts: Counts,
    pub(super) first: Option<(usize, TaskName, Outcome)>,
    pub(super) deadlock: Option<Box<Deadlock>>,
    pub(super) errors: Vec<MemberError<E>>,
    pub(super) dropped: u64,
}

impl<E> GroupError<E> {
    /// The member that was the first to end without a value: its number, name and outcome. `None` only with a
    /// [`deadlock`](Self::deadlock).
    pub fn first(&self) -> Option<(usize, &TaskName, Outcome)> {
        self.0
            .first
            .as_ref()
            .map(|(index, name, outcome)| (*index, name, *outcome))
    }

    /// Who waits for whom, if the wait, made by a callback, could never have ended. Then the group goes on.
    pub fn deadlock(&self) -> Option<&Deadlock> {
        self.0.deadlock.as_deref()
    }

    /// The errors, in the order in which the members ended.
    pub fn errors(&self) -> &[MemberError<E>] {
        &self.0.errors
    }

    /// The same, moved out.
    pub fn into_errors(self) -> Vec<MemberError<E>> {
        self.0.errors
    }

    /// How many errors were not kept because of [`keep_errors`](super::GroupBuilder::keep_errors).
    pub fn dropped(&self) -> u64 {
        self.0.dropped
    }

    /// How many members ended so.
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.0.counts.by[outcome as usize]
    }

    /// How many members the group cancelled because another had failed.
    pub fn cancelled_by_group(&self) -> u64 {
        self.0.counts.cancelled_by_group
    }
}

impl<E> GroupError<E> {
    fn tell(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (all, good) = (self.0.counts.all(), self.0.counts.succeeded());
        let collateral = self.0.counts.cancelled_by_group;
        if let Some(deadlock) = &self.0.deadlock {
            return write!(f, "the wait for group `{}` could never end: {deadlock}", self.0.group);
        }
        write!(
            f,
            "{} of {all} members of group `{}` did not succeed",
            all - good - collateral,
            self.0.group
        )?;
        if let Some((_, name, outcome)) = &self.0.first {
            write!(f, ", the first was {name} ({outcome})")?;
        }
        if collateral > 0 {
            write!(f, "; {collateral} more were cancelled because of it")?;
        }
        Ok(())
    }
}

impl<E: fmt::Display> fmt::Display for GroupError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tell(f)?;
        match self.0.errors.first() {
            Some(first) => write!(f, ": {}", first.error),
            None => Ok(()),
        }
    }
}

impl<E> fmt::Debug for GroupError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tell(f)?;
        match self.0.errors.first() {
            Some(first) => write!(f, ": {:?}", first.error),
            None => Ok(()),
        }
    }
}

impl<E: fmt::Display> std::error::Error for GroupError<E> {}
