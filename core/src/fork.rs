//! What a forked child knows of its parent's pools: that it has them, and none of their threads.
//!
//! In the child only the thread that forked lives. Another may have held any lock of this crate at that moment, and will
//! never let go of it; tasks will not end, threads can not be joined. So in the child nothing inherited is locked, waited
//! for, freed or written to: whoever comes to something inherited asks here, first, and answers at once.
//!
//! Invariants:
//! 1. The handlers that run in the child only note that it is one (here), and end the task whose callback forked
//!    (`context`): a few stores, no lock. All else is decided by those who look.
//! 2. A task is inherited if and only if its queue's number is below the first of this process: numbers that
//!    were given out before a fork are never given out after it. So the question needs no look into the pool.
//! 3. Everything else (pools, tokens, statics) keeps the [`generation`] it was made in.
//! 4. Nothing inherited is ever freed in the child: not a pool ([`keep`]), not a token, not a static ([`Renewed`]).
//!
//! A child made by a bare `clone` or `_Fork` runs no handlers and is not seen. Handlers of others that were registered
//! before the first pool or token of the program run before this one and must not use anything inherited.

#[cfg(not(all(test, any(loom, shuttle))))]
pub(crate) use real::{Renewed, first_number, generation, in_child_also, inherited, numbers_used, watch};

#[cfg(all(test, any(loom, shuttle)))]
pub(crate) use model::{Renewed, first_number, generation, in_child_also, inherited, numbers_used, watch};

use crate::sync::Arc;

/// Has a value that was inherited outlive the child: its last reference is leaked.
#[cold]
pub(crate) fn keep<T>(inherited: &Arc<T>) {
    std::mem::forget(inherited.clone());
}

/// A [`Renewed`] static, each of which is made by the same expression.
macro_rules! renewed {
    ($make:expr) => {
        $crate::fork::Renewed::new($make, || $make)
    };
}

pub(crate) use renewed;

#[cfg(not(all(test, any(loom, shuttle))))]
mod real {
    use crate::sync::{AtomicBool, AtomicPtr, AtomicU32, Ordering, global};
    use std::cell::UnsafeCell;

    global! {
        /// Forks between the first process that had a pool or token, and this one.
        static GENERATION: Noted = Noted(UnsafeCell::new(0));
        /// The least number of a queue that was made in this process. Zero: nothing was inherited.
        static FIRST: Noted = Noted(UnsafeCell::new(0));
        /// All numbers that queues have been given are below this.
        static USED: AtomicU32 = AtomicU32::new(0);
        static WATCHED: AtomicBool = AtomicBool::new(false);
    }

    /// Written by nobody but the handler in a child, whose only thread that is: so it needs no atomic load, which the
    /// compiler would not fold into the compare.
    struct Noted(UnsafeCell<u32>);

    // SAFETY: as above: what is written happened before every other thread of the child was made.
    unsafe impl Sync for Noted {}

    impl Noted {
        #[inline(always)]
        fn get(&self) -> u32 {
            // SAFETY: see the type.
            unsafe { *self.0.get() }
        }
    }

    unsafe extern "C" fn in_child() {
        // SAFETY: this thread is the only one.
        unsafe {
            *GENERATION.0.get() += 1;
            *FIRST.0.get() = USED.load(Ordering::Relaxed);
        }
    }

    /// From now on forks are seen. To be called before the first pool or token is made.
    pub(crate) fn watch() {
        in_child_also(&WATCHED, in_child);
    }

    /// Has `handler` called in each child, if that is not `registered`. It must take no lock, and may be called twice a fork.
    pub(crate) fn in_child_also(registered: &AtomicBool, handler: unsafe extern "C" fn()) {
        if !registered.load(Ordering::Relaxed) {
            // SAFETY: the handler stays valid, for this code is never unloaded, and takes no lock.
            let failed = unsafe { libc::pthread_atfork(None, None, Some(handler)) };
            // Two threads at once may register it twice. Without memory for it, the next one tries again.
            registered.store(failed == 0, Ordering::Relaxed);
        }
    }

    /// Numbers below this are, or have been, queues'.
    pub(crate) fn numbers_used(below: u32) {
        USED.store(below, Ordering::Relaxed);
    }

    /// The least number for a queue of this process.
    #[inline(always)]
    pub(crate) fn first_number() -> u32 {
        FIRST.get()
    }

    /// Tells apart what was made before and after a fork.
    #[inline(always)]
    pub(crate) fn generation() -> u32 {
        GENERATION.get()
    }

    /// Whether the queue of this number was inherited.
    #[inline(always)]
    pub(crate) fn inherited(queue: u16) -> bool {
        // Zero, but in forked children: one compare with a constant.
        FIRST.get() != 0 && u32::from(queue) < FIRST.get()
    }

    /// A static that starts anew in a forked child; what was inherited stays as it was, and is leaked.
    pub(crate) struct Renewed<T: 'static> {
        first: T,
        /// Of the last generation that needed one.
        later: AtomicPtr<Later<T>>,
        make: fn() -> T,
    }

    struct Later<T> {
        born: u32,
        value: T,
    }

    impl<T> Renewed<T> {
        /// `first` is what `make` makes, too.
        pub(crate) const fn new(first: T, make: fn() -> T) -> Self {
            Renewed {
                first,
                later: AtomicPtr::new(std::ptr::null_mut()),
                make,
            }
        }

        #[inline(always)]
        pub(crate) fn get(&'static self) -> &'static T {
            if generation() == 0 { &self.first } else { self.later() }
        }

        #[cold]
        #[inline(never)]
        fn later(&'static self) -> &'static T {
            let born = generation();
            let mut there = self.later.load(Ordering::Acquire);
            loop {
                // SAFETY: null, or leaked below.
                if let Some(later) = unsafe { there.as_ref() }
                    && later.born == born
                {
                    return &later.value;
                }
                let value = (self.make)();
                let new = Box::into_raw(Box::new(Later { born, value }));
                match self
                    .later
                    .compare_exchange(there, new, Ordering::AcqRel, Ordering::Acquire)
                {
                    // SAFETY: never freed from now on.
                    Ok(_) => return unsafe { &(*new).value },
                    Err(now) => {
                        // SAFETY: nobody else has seen it.
                        drop(unsafe { Box::from_raw(new) });
                        there = now;
                    }
                }
            }
        }
    }
}

/// Models do not fork.
#[cfg(all(test, any(loom, shuttle)))]
mod model {
    use crate::sync::AtomicBool;

    pub(crate) fn watch() {}

    pub(crate) fn in_child_also(_registered: &AtomicBool, _handler: unsafe extern "C" fn()) {}

    pub(crate) fn numbers_used(_below: u32) {}

    pub(crate) fn first_number() -> u32 {
        0
    }

    pub(crate) fn generation() -> u32 {
        0
    }

    pub(crate) fn inherited(_queue: u16) -> bool {
        false
    }

    pub(crate) struct Renewed<T>(T);

    impl<T> Renewed<T> {
        pub(crate) fn new(first: T, _make: fn() -> T) -> Self {
            Renewed(first)
        }

        pub(crate) fn get(&self) -> &T {
            &self.0
        }
    }
}
