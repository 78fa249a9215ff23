//! What a stream has pulled, and its consumer not yet taken.
//!
//! Keeps true: each item is in the line once, as its task or its refusal, until its answer is taken.

use super::StreamError;
use crate::error::{CancelReason, Refused};
use crate::select::Ended;
use crate::slot::SlotRef;
use crate::sync::Arc;
use crate::task::Task;
use slab::Slab;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

/// The answer of an item, or the task that will have it.
pub(super) enum Pulled<I, T, E> {
    Accepted(Task<T, E>),
    Refused(Refused, I),
}

/// What was pulled and not been taken as an answer.
pub(super) enum Line<I, T, E> {
    /// In the order of the input.
    Ordered(VecDeque<(usize, Pulled<I, T, E>)>),
    /// The keys of the tasks that have ended are in the list.
    Any {
        tasks: Slab<(usize, Task<T, E>, Option<u64>)>,
        ended: Arc<Ended>,
        refused: VecDeque<(usize, Refused, I)>,
    },
}

impl<I, T, E> Line<I, T, E> {
    pub(super) fn len(&self) -> usize {
        match self {
            Line::Ordered(line) => line.len(),
            Line::Any { tasks, refused, .. } => tasks.len() + refused.len(),
        }
    }

    pub(super) fn push(&mut self, index: usize, pulled: Pulled<I, T, E>) {
        match (self, pulled) {
            (Line::Ordered(line), pulled) => line.push_back((index, pulled)),
            (Line::Any { refused, .. }, Pulled::Refused(why, item)) => refused.push_back((index, why, item)),
            (Line::Any { tasks, ended, .. }, Pulled::Accepted(task)) => {
                let entry = tasks.vacant_entry();
                let key = ended.watch(&task.slot(), entry.key());
                entry.insert((index, task, key));
            }
        }
    }

    /// The next answer; there is at least one to come.
    pub(super) fn poll(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Result<T, StreamError<I, E>>> {
        let (index, result) = match self {
            Line::Ordered(line) => {
                let ready = match line.front_mut() {
                    Some((_, Pulled::Accepted(task))) => match Pin::new(task).poll(cx) {
                        Poll::Ready(result) => Some(result),
                        Poll::Pending => return Poll::Pending,
                    },
                    _ => None,
                };
                match (line.pop_front(), ready) {
                    (Some((index, _)), Some(result)) => (index, result),
                    (Some((index, Pulled::Refused(refused, item))), None) => {
                        return Poll::Ready(Err(StreamError::Refused { index, refused, item }));
                    }
                    _ => return Poll::Pending,
                }
            }
            Line::Any { tasks, ended, refused } => {
                if let Some((index, refused, item)) = refused.pop_front() {
                    return Poll::Ready(Err(StreamError::Refused { index, refused, item }));
                }
                // In a forked child they all have ended, if only by the fork.
                let key = if ended.is_inherited() {
                    tasks.iter().next().map(|(key, _)| key)
                } else {
                    match ended.poll(cx) {
                        Poll::Ready(key) => key,
                        Poll::Pending => None,
                    }
                };
                let Some(key) = key else { return Poll::Pending };
                let (index, task, _) = tasks.remove(key);
                task.slot().look();
                (index, task.take())
            }
        };
        Poll::Ready(result.map_err(|error| StreamError::Task { index, error }))
    }

    /// The tasks one of whose ends brings the next answer.
    pub(super) fn awaited(&self) -> Vec<SlotRef> {
        let slot = |task: &Task<T, E>| (*task.slot()).clone();
        match self {
            Line::Ordered(line) => match line.front() {
                Some((_, Pulled::Accepted(task))) => vec![slot(task)],
                _ => Vec::new(),
            },
            Line::Any { tasks, .. } => tasks.iter().map(|(_, (_, task, _))| slot(task)).collect(),
        }
    }

    /// Cancels one task that can never end otherwise: its number.
    pub(super) fn give_up(&self) -> Option<usize> {
        let (index, task) = match self {
            Line::Ordered(line) => match line.front()? {
                (index, Pulled::Accepted(task)) => (index, task),
                _ => return None,
            },
            Line::Any { tasks, .. } => {
                let (_, (index, task, _)) = tasks.iter().next()?;
                (index, task)
            }
        };
        task.cancel_with(CancelReason::CallerLeft);
        Some(*index)
    }

    pub(super) fn cancel(&self) {
        let leave = |task: &Task<T, E>| task.cancel_with(CancelReason::CallerLeft);
        match self {
            Line::Ordered(line) => {
                for (_, pulled) in line {
                    if let Pulled::Accepted(task) = pulled {
                        leave(task);
                    }
                }
            }
            Line::Any { tasks, .. } => {
                for (_, (_, task, key)) in tasks {
                    if let Some(key) = key {
                        drop(task.slot().unregister(*key));
                    }
                    leave(task);
                }
            }
        }
    }
}
