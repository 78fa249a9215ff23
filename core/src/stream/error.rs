//! Why an item of a stream has no value.

use crate::error::{Refused, TaskError};
use std::fmt;

/// Why an item has no value.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum StreamError<I, E> {
    /// The item's task ended without a value.
    #[error("item {index}: {error}")]
    Task {
        /// The how-manieth item of the input it was, from 0.
        index: usize,
        /// How its task ended.
        error: TaskError<E>,
    },
    /// The pool did not accept the item; it comes back.
    #[error("item {index}: {refused}")]
    Refused {
        /// The how-manieth item of the input it was, from 0.
        index: usize,
        /// Why, and which task was not made.
        refused: Refused,
        /// The item, untouched.
        item: I,
    },
}

impl<I, E> StreamError<I, E> {
    /// The how-manieth item of the input it was, from 0.
    pub fn index(&self) -> usize {
        match self {
            StreamError::Task { index, .. } | StreamError::Refused { index, .. } => *index,
        }
    }
}

// Of items and errors that have no `Debug`, too.
impl<I, E> fmt::Debug for StreamError<I, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StreamError::Task { index, error } => write!(f, "item {index}: {error:?}"),
            StreamError::Refused { index, refused, .. } => write!(f, "item {index}: {refused}"),
        }
    }
}
