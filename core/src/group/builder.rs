//! The options of a group.

use super::error::Counts;
use super::{Group, Inner, State};
use crate::cancel::CancellationToken;
use crate::clock::{self, NEVER};
use crate::context;
use crate::error::Outcome;
use crate::name::Label;
use crate::pool::Pool;
use crate::submit::{Options, Wanted};
use crate::sync::{Arc, Mutex};
use slab::Slab;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

/// The options of a [`Group`].
#[must_use = "a builder does nothing until `build` is called"]
pub struct GroupBuilder<T, E, const KEEP: bool>
where
    T: Send + 'static,
    E: Send + 'static,
{
    inner: Inner<T, E>,
    timeout: Option<Duration>,
    detach: bool,
}

impl<T, E> Group<T, E, false>
where
    T: Send + 'static,
    E: Send + 'static,
{
    /// The options of a group whose members run in this pool.
    pub fn builder(pool: &Pool) -> GroupBuilder<T, E, false> {
        let mut fails_on = [false; Outcome::ALL.len()];
        fails_on[Outcome::Failed as usize] = true;
        fails_on[Outcome::Panicked as usize] = true;
        GroupBuilder {
            inner: Inner {
                name: Label::from("group"),
                shared: pool.shared().clone(),
                wanted: Wanted::default(),
                token: CancellationToken::new(),
                limit: usize::MAX,
                fails_on,
                keep_errors: usize::MAX,
                keep_values: false,
                state: Mutex::new(State {
                    in_flight: 0,
                    accepted: 0,
                    members: Slab::new(),
                    counts: Counts::default(),
                    failed: false,
                    finished: false,
                    deserted: false,
                    first: None,
                    answers: VecDeque::new(),
                    errors_kept: 0,
                    errors_dropped: 0,
                    line: BTreeMap::new(),
                    last_key: 0,
                    waiters: [Vec::new(), Vec::new()],
                }),
            },
            timeout: None,
            detach: false,
        }
    }
}

impl<T, E, const KEEP: bool> GroupBuilder<T, E, KEEP>
where
    T: Send + 'static,
    E: Send + 'static,
{
    /// What messages call the group. Default: "group".
    pub fn label(mut self, label: impl Into<Label>) -> Self {
        self.inner.name = label.into();
        self
    }

    /// At most so many members in flight (0 is taken for 1). Default: as many as the pool's queue holds.
    pub fn limit(mut self, members: usize) -> Self {
        self.inner.limit = members.max(1);
        self
    }

    /// Whether the first member that fails or panics cancels the rest. Default: yes.
    pub fn fail_fast(self, yes: bool) -> Self {
        let on: &[Outcome] = if yes {
            &[Outcome::Failed, Outcome::Panicked]
        } else {
            &[]
        };
        self.fail_fast_on(on)
    }

    /// Which outcomes of a member cancel the rest, instead of `failed` and `panicked`.
    pub fn fail_fast_on(mut self, outcomes: &[Outcome]) -> Self {
        for outcome in Outcome::ALL {
            self.inner.fails_on[outcome as usize] = outcome != Outcome::Succeeded && outcomes.contains(&outcome);
        }
        self
    }

    /// Options of every member: timeout, token (the group's is then a child of it), …
    pub fn options(mut self, options: &Options<'_>) -> Self {
        self.inner.shared = options.pool.shared().clone();
        self.inner.wanted = options.wanted.clone();
        self
    }

    /// Every member must have its outcome within `timeout` of the making of the group.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Keeps at most so many errors, the first ones, and counts the others. Default: all.
    pub fn keep_errors(mut self, most: usize) -> Self {
        self.inner.keep_errors = most;
        self
    }

    /// Dropping the group leaves its members alone, instead of cancelling them.
    pub fn detach_on_drop(mut self) -> Self {
        self.detach = true;
        self
    }

    /// Keeps the members' values until they are taken: by [`Group::next`], or by [`Group::take_values`].
    pub fn keep_values(mut self) -> GroupBuilder<T, E, true> {
        self.inner.keep_values = true;
        GroupBuilder {
            inner: self.inner,
            timeout: self.timeout,
            detach: self.detach,
        }
    }

    /// The group.
    pub fn build(self) -> Group<T, E, KEEP> {
        let mut inner = self.inner;
        let wanted = &mut inner.wanted;
        let inherited = if wanted.detached { None } else { context::inherited() };
        let mut due = self.timeout.map_or(NEVER, clock::after);
        let mut above = wanted.token.take();
        if let Some(inherited) = inherited {
            due = due.min(inherited.due);
            above = above.or(Some(inherited.token));
        }
        let above = above.unwrap_or_default();
        inner.token = match clock::instant(due) {
            Some(due) => above.child_with_deadline(due),
            None => above.child(),
        };
        wanted.token = Some(inner.token.clone());
        Group {
            inner: Arc::new(inner),
            detach: self.detach,
        }
    }
}

impl<T, E, const KEEP: bool> fmt::Debug for GroupBuilder<T, E, KEEP>
where
    T: Send + 'static,
    E: Send + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupBuilder")
            .field("label", &self.inner.name)
            .field("limit", &self.inner.limit)
            .finish_non_exhaustive()
    }
}
