//! Waiting for the end of a group, or for the next of its answers.
//!
//! Keeps true: a waiter looks, registers, and looks again; whoever leaves takes its waker along.

use super::{GroupError, Inner, Member};
use crate::context;
use crate::sync::Arc;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Future of [`Group::wait_async`](crate::Group::wait_async).
#[must_use = "futures do nothing unless polled"]
pub struct GroupWait<'g, T, E>
where
    T: Send + 'static,
    E: Send + 'static,
{
    pub(super) inner: &'g Arc<Inner<T, E>>,
    pub(super) key: Option<(For, u64)>,
}

/// What a waiter waits for: the index of its list.
#[derive(Clone, Copy)]
pub(super) enum For {
    End,
    Next,
}

impl<T, E> GroupWait<'_, T, E>
where
    T: Send + 'static,
    E: Send + 'static,
{
    pub(super) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), GroupError<E>>> {
        // Inside a callback it looks at each end of a member whether the rest can still end.
        let what = if context::inside_any() { For::Next } else { For::End };
        self.poll_for(what, cx, |inner| inner.finish())
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Member<T, E>>> {
        self.poll_for(For::Next, cx, |inner| {
            if inner.is_inherited() {
                return Some(None);
            }
            let mut state = inner.state.lock();
            match state.answers.pop_front() {
                Some(answer) => {
                    if answer.result.is_err() {
                        state.errors_kept -= 1;
                    }
                    Some(Some(answer))
                }
                None => (state.in_flight == 0).then_some(None),
            }
        })
    }

    fn poll_for<R>(&mut self, what: For, cx: &mut Context<'_>, there: impl Fn(&Inner<T, E>) -> Option<R>) -> Poll<R> {
        if let Some(there) = there(self.inner) {
            return Poll::Ready(there);
        }
        self.leave();
        let waker = cx.waker().clone();
        let mut state = self.inner.state.lock();
        let key = state.next_key();
        state.waiters[what as usize].push((key, waker));
        drop(state);
        self.key = Some((what, key));
        // What came meanwhile has not seen us.
        match there(self.inner) {
            Some(there) => Poll::Ready(there),
            None => Poll::Pending,
        }
    }

    fn leave(&mut self) {
        let Some((what, key)) = self.key.take().filter(|_| !self.inner.is_inherited()) else {
            return;
        };
        let gone = {
            let mut state = self.inner.state.lock();
            let waiters = &mut state.waiters[what as usize];
            let index = waiters.iter().position(|(other, _)| *other == key);
            index.map(|index| waiters.swap_remove(index))
        };
        // A waker's destructor is user code: outside the lock.
        drop(gone);
    }
}

impl<T, E> Future for GroupWait<'_, T, E>
where
    T: Send + 'static,
    E: Send + 'static,
{
    type Output = Result<(), GroupError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.get_mut().poll_end(cx)
    }
}

impl<T, E> Drop for GroupWait<'_, T, E>
where
    T: Send + 'static,
    E: Send + 'static,
{
    fn drop(&mut self) {
        self.leave();
    }
}

impl<T, E> fmt::Debug for GroupWait<'_, T, E>
where
    T: Send + 'static,
    E: Send + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupWait").field("group", &self.inner.name).finish()
    }
}
