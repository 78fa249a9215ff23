//! A stream that ends with its first error.

use crate::block::{Async, PollNext};
use std::iter::FusedIterator;
use std::task::Poll;

/// A [`TaskStream`](super::TaskStream) that ends with its first error: made by [`TaskStream::first_error`](super::TaskStream::first_error).
#[must_use = "a stream pulls and submits nothing until it is asked for an answer"]
#[derive(Debug)]
pub struct FirstError<S> {
    /// `None` once the error was there.
    pub(super) inner: Option<S>,
}

impl<S> FirstError<S> {
    /// The same as a stream.
    pub fn into_async(self) -> Async<Self> {
        Async(self)
    }

    fn pass<T, E>(&mut self, answer: Option<Result<T, E>>) -> Option<Result<T, E>> {
        if !matches!(answer, Some(Ok(_))) {
            self.inner = None;
        }
        answer
    }
}

impl<S, T, E> Iterator for FirstError<S>
where
    S: Iterator<Item = Result<T, E>>,
{
    type Item = Result<T, E>;

    fn next(&mut self) -> Option<Self::Item> {
        let answer = self.inner.as_mut()?.next();
        self.pass(answer)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let (least, most) = self.inner.as_ref().map_or((0, Some(0)), Iterator::size_hint);
        (least.min(1), most)
    }
}

impl<S, T, E> FusedIterator for FirstError<S> where S: Iterator<Item = Result<T, E>> {}

impl<S, T, E> PollNext for FirstError<S>
where
    S: PollNext<Item = Result<T, E>>,
{
    type Item = Result<T, E>;

    fn poll_next(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(None);
        };
        inner.poll_next(cx).map(|answer| self.pass(answer))
    }

    fn hint(&self) -> (usize, Option<usize>) {
        let (least, most) = self.inner.as_ref().map_or((0, Some(0)), PollNext::hint);
        (least.min(1), most)
    }
}
