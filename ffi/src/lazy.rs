//! What is made when it is first asked for, without a lock: a forked child may ask for what another thread of its parent
//! was making at that moment.
//!
//! Invariant: the pointer changes once, from null to a box that lives as long as the cell. Who comes second with one of
//! its own drops it.

use std::sync::atomic::{AtomicPtr, Ordering};

/// A cell that is filled once, by whoever comes first.
#[derive(Debug)]
pub(crate) struct Lazy<T>(AtomicPtr<T>);

impl<T> Lazy<T> {
    pub(crate) const fn new() -> Lazy<T> {
        Lazy(AtomicPtr::new(std::ptr::null_mut()))
    }

    pub(crate) fn from(value: T) -> Lazy<T> {
        Lazy(AtomicPtr::new(Box::into_raw(Box::new(value))))
    }

    pub(crate) fn get(&self) -> Option<&T> {
        // SAFETY: null, or a box that was published with what is in it and is freed with the cell only.
        unsafe { self.0.load(Ordering::Acquire).as_ref() }
    }

    /// What is in it, or what `make` makes: several may make one at the same time, and all get the first.
    pub(crate) fn get_or_try<E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        if let Some(there) = self.get() {
            return Ok(there);
        }
        let made = Box::into_raw(Box::new(make()?));
        let won = self
            .0
            .compare_exchange(std::ptr::null_mut(), made, Ordering::AcqRel, Ordering::Acquire);
        match won {
            // SAFETY: just made, and from now on the cell's.
            Ok(_) => Ok(unsafe { &*made }),
            Err(first) => {
                // SAFETY: `made` was not published; `first` is as in `get`.
                unsafe {
                    drop(Box::from_raw(made));
                    Ok(&*first)
                }
            }
        }
    }

    pub(crate) fn get_or(&self, make: impl FnOnce() -> T) -> &T {
        match self.get_or_try(|| Ok::<T, std::convert::Infallible>(make())) {
            Ok(value) => value,
            Err(never) => match never {},
        }
    }
}

impl<T> Default for Lazy<T> {
    fn default() -> Lazy<T> {
        Lazy::new()
    }
}

impl<T> Drop for Lazy<T> {
    fn drop(&mut self) {
        let made = *self.0.get_mut();
        if !made.is_null() {
            // SAFETY: a box of ours, and nobody borrows from a cell that is dropped.
            drop(unsafe { Box::from_raw(made) });
        }
    }
}

// SAFETY: as a box of `T` that all may read and any thread may drop.
unsafe impl<T: Send + Sync> Sync for Lazy<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Lazy<T> {}

#[cfg(test)]
mod tests {
    use super::Lazy;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn p13_all_get_the_first() {
        static DROPPED: AtomicUsize = AtomicUsize::new(0);
        struct Counted(u32);
        impl Drop for Counted {
            fn drop(&mut self) {
                DROPPED.fetch_add(1, Ordering::Relaxed);
            }
        }
        let cell = Lazy::new();
        assert!(cell.get().is_none());
        assert!(cell.get_or_try(|| Err::<Counted, ()>(())).is_err());
        // The second comes while the first is at work, and is done before it.
        let first = cell.get_or(|| {
            assert_eq!(cell.get_or(|| Counted(2)).0, 2);
            Counted(1)
        });
        assert_eq!(first.0, 2);
        assert_eq!(cell.get_or(|| Counted(3)).0, 2);
        assert_eq!(DROPPED.load(Ordering::Relaxed), 1);
        drop(cell);
        assert_eq!(DROPPED.load(Ordering::Relaxed), 2);
    }
}
