//! An end without a task: what a stream or a single flight answers with, in the shape of a task.
//!
//! Invariant: a value of one owner moves once, to the first that takes it; a shared one never moves, and is dropped with its last
//! owner.

use std::ffi::c_void;
use std::sync::{Arc, Mutex, PoisonError};

use duly::Outcome;

use crate::foreign::{Owned, duly_drop_fn};

#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) outcome: Outcome,
    value: Value,
}

#[derive(Debug)]
enum Value {
    Own(Mutex<Option<Owned>>),
    Shared(Arc<Shared>),
}

/// A value that several tasks have.
#[derive(Debug)]
pub(crate) struct Shared(Owned);

// SAFETY: the header says that several threads may look at values of a single flight at once, and that items of a stream run
// at the same time with the same data; the pointer itself is only read.
unsafe impl Sync for Shared {}

impl Shared {
    pub(crate) fn new(value: Owned) -> Arc<Shared> {
        Arc::new(Shared(value))
    }

    pub(crate) fn of(value: Owned) -> Shared {
        Shared(value)
    }

    pub(crate) fn is_released_by(&self, release: duly_drop_fn) -> bool {
        self.0.is_released_by(release)
    }

    pub(crate) fn pointer(&self) -> *mut c_void {
        self.0.pointer()
    }
}

impl Settled {
    /// An end other than success.
    pub(crate) fn without(outcome: Outcome) -> Settled {
        Settled {
            outcome,
            value: Value::Own(Mutex::new(None)),
        }
    }

    pub(crate) fn with(value: Owned) -> Settled {
        Settled {
            outcome: Outcome::Succeeded,
            value: Value::Own(Mutex::new(Some(value))),
        }
    }

    pub(crate) fn sharing(value: Arc<Shared>) -> Settled {
        Settled {
            outcome: Outcome::Succeeded,
            value: Value::Shared(value),
        }
    }

    /// Moves the value out, if it has one owner and nobody came before.
    pub(crate) fn take(&self) -> Option<Owned> {
        match &self.value {
            Value::Own(value) => value.lock().unwrap_or_else(PoisonError::into_inner).take(),
            Value::Shared(_) => None,
        }
    }

    /// The pointer of a shared value.
    pub(crate) fn shared(&self) -> Option<*mut c_void> {
        match &self.value {
            Value::Own(_) => None,
            Value::Shared(value) => Some(value.pointer()),
        }
    }
}
