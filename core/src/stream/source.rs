//! Where the items of a stream come from.

#[cfg(feature = "stream")]
use std::fmt;
#[cfg(feature = "stream")]
use std::pin::Pin;
use std::task::Poll;

/// Where items come from.
pub trait Source {
    /// An item.
    type Item;
    /// The next item, if it is there.
    fn poll_pull(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Option<Self::Item>>;
    /// How many are to come, at least and at most.
    fn hint(&self) -> (usize, Option<usize>);
}

/// The items of an iterator, as the input of a [`TaskStream`](crate::TaskStream).
#[derive(Debug)]
pub struct Items<I>(pub(super) I);

impl<I: Iterator> Source for Items<I> {
    type Item = I::Item;

    fn poll_pull(&mut self, _: &mut std::task::Context<'_>) -> Poll<Option<I::Item>> {
        Poll::Ready(self.0.next())
    }

    fn hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

/// The items of a stream, as the input of a [`TaskStream`](crate::TaskStream).
#[cfg(feature = "stream")]
pub struct StreamItems<S>(pub(super) Pin<Box<S>>);

#[cfg(feature = "stream")]
impl<S> fmt::Debug for StreamItems<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamItems").finish_non_exhaustive()
    }
}

#[cfg(feature = "stream")]
impl<S: futures_core::Stream> Source for StreamItems<S> {
    type Item = S::Item;

    fn poll_pull(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Option<S::Item>> {
        self.0.as_mut().poll_next(cx)
    }

    fn hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}
