//! Handles: objects that C sees as opaque pointers.
//!
//! Invariants:
//! 1. A refcounted handle is an `Arc<Marked<…>>` turned into a pointer; each `retain` is one more strong count, each
//!    `release` one less.
//! 2. Its first word is its mark: an address inside this copy of the library, another one for each type. A pointer whose
//!    first word differs (another copy of libduly in the process, another type of handle) is refused, not followed.
//!
//! Most handles of tasks are not made here: see `ticket`.

use std::sync::Arc;

use crate::status::duly_status;

/// Each element's address is a mark. A `static` has one address in a copy of the library, and no other copy shares it.
static MARKS: [u8; 16] = [0; 16];

/// Which mark is whose. No two types share one.
pub(crate) mod kind {
    pub(crate) const REPORT: usize = 0;
    pub(crate) const CALL: usize = 1;
    pub(crate) const TASK: usize = 2;
    pub(crate) const POOL: usize = 3;
    pub(crate) const TOKEN: usize = 4;
    pub(crate) const QUEUE: usize = 5;
    pub(crate) const LEAKS: usize = 6;
    pub(crate) const PERIODIC: usize = 7;
    pub(crate) const COMPLETIONS: usize = 8;
    pub(crate) const GROUP: usize = 9;
    pub(crate) const STREAM: usize = 10;
    pub(crate) const FLIGHT: usize = 11;
    pub(crate) const GROUP_RESULT: usize = 12;
    pub(crate) const BOARD: usize = 13;
}

/// A C type whose pointers stand for an object of ours.
pub(crate) trait Handle {
    /// What is behind the pointer.
    type Object;
    /// Which of the marks is this type's.
    const KIND: usize;
}

/// An object with its mark in front: what a handle really points to.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Marked<T> {
    mark: usize,
    object: T,
}

impl<T> Marked<T> {
    pub(crate) fn new<H: Handle<Object = T>>(object: T) -> Marked<T> {
        Marked {
            mark: mark::<H>(),
            object,
        }
    }

    /// The object as a handle that C may borrow as long as `self` lives and stays where it is.
    pub(crate) fn lend<H: Handle<Object = T>>(&self) -> *mut H {
        (&raw const *self).cast::<H>().cast_mut()
    }

    #[inline(always)]
    pub(crate) fn object(&self) -> &T {
        &self.object
    }
}

#[inline(always)]
fn mark<H: Handle>() -> usize {
    (&raw const MARKS[H::KIND]).addr()
}

/// The first word behind a pointer that C handed in, which is a handle's mark.
///
/// # Safety
/// `pointer` is null, or points to at least one readable word.
#[inline(always)]
pub(crate) unsafe fn mark_of<H: Handle>(pointer: *const H) -> Result<usize, duly_status> {
    let word = pointer.cast::<usize>();
    if word.is_null() {
        return Err(duly_status::DULY_STATUS_NULL_ARGUMENT);
    }
    if !word.is_aligned() {
        return Err(duly_status::DULY_STATUS_FOREIGN_HANDLE);
    }
    // SAFETY: not null, aligned, and one word is readable by this function's contract.
    Ok(unsafe { word.read() })
}

/// The object behind a pointer that C handed in.
///
/// # Safety
/// `pointer` is null, or points to at least one readable word; if that word is this type's mark, it is a live handle
/// and stays one for `'a`.
#[inline]
pub(crate) unsafe fn borrow<'a, H: Handle>(pointer: *const H) -> Result<&'a H::Object, duly_status> {
    // SAFETY: the caller's contract is the same.
    if unsafe { mark_of(pointer) }? != mark::<H>() {
        return Err(duly_status::DULY_STATUS_FOREIGN_HANDLE);
    }
    // SAFETY: the mark is ours (it is the first word: repr(C)), so this is a live object of that type by this function's contract.
    Ok(unsafe { &(*pointer.cast::<Marked<H::Object>>()).object })
}

/// An object that Rust keeps references of, too, and gives C some with [`give`].
pub(crate) type Kept<H> = Arc<Marked<<H as Handle>::Object>>;

pub(crate) fn keep<H: Handle>(object: H::Object) -> Kept<H> {
    Arc::new(Marked::new::<H>(object))
}

/// Gives C this reference.
pub(crate) fn give<H: Handle>(kept: Kept<H>) -> *mut H {
    Arc::into_raw(kept).cast::<H>().cast_mut()
}

/// Gives C one reference.
pub(crate) fn into_raw<H: Handle>(object: H::Object) -> *mut H {
    Arc::into_raw(Arc::new(Marked::new::<H>(object))).cast::<H>().cast_mut()
}

/// One more reference: the same pointer, or null when it is no handle of ours.
///
/// # Safety
/// As [`borrow`].
pub(crate) unsafe fn retain<H: Handle>(pointer: *mut H) -> *mut H {
    // SAFETY: the caller's contract is the same.
    if unsafe { borrow(pointer) }.is_err() {
        return std::ptr::null_mut();
    }
    // SAFETY: a pointer with our mark came out of `into_raw` and holds at least the caller's reference.
    unsafe { Arc::increment_strong_count(pointer.cast::<Marked<H::Object>>()) };
    pointer
}

/// One reference less; what is no handle of ours is ignored.
///
/// # Safety
/// As [`borrow`], and the caller gives up one reference that it held.
pub(crate) unsafe fn release<H: Handle>(pointer: *mut H) {
    // SAFETY: the caller's contract is the same.
    if unsafe { borrow(pointer) }.is_ok() {
        // SAFETY: a pointer with our mark came out of `into_raw`; the caller hands its reference back.
        drop(unsafe { Arc::from_raw(pointer.cast::<Marked<H::Object>>()) });
    }
}

/// Writes an output that the caller may have left out.
///
/// # Safety
/// `output` is null or valid for a write.
#[inline]
pub(crate) unsafe fn write_if_wanted<T>(output: *mut T, value: T) {
    if !output.is_null() {
        // SAFETY: not null, and valid for a write by this function's contract.
        unsafe { output.write(value) };
    }
}

#[cfg(test)]
mod tests {
    use super::{Handle, borrow, into_raw, mark, release, retain};
    use crate::status::duly_status::{DULY_STATUS_FOREIGN_HANDLE, DULY_STATUS_NULL_ARGUMENT};

    #[derive(Debug)]
    struct Sample;
    impl Handle for Sample {
        type Object = u32;
        const KIND: usize = 15;
    }

    #[test]
    fn p16_only_this_copys_handles_are_followed() {
        let ours: *mut Sample = into_raw(7);
        let other = [mark::<Sample>() ^ 8, 0, 0];
        // SAFETY: `ours` is live until the second release; `other` is readable memory.
        unsafe {
            assert_eq!(borrow(ours), Ok(&7));
            assert_eq!(borrow::<Sample>(std::ptr::null()), Err(DULY_STATUS_NULL_ARGUMENT));
            assert_eq!(borrow::<Sample>(other.as_ptr().cast()), Err(DULY_STATUS_FOREIGN_HANDLE));
            assert_eq!(borrow(ours.wrapping_byte_add(1)), Err(DULY_STATUS_FOREIGN_HANDLE));
            assert_eq!(retain(ours), ours);
            release(ours);
            assert_eq!(borrow(ours), Ok(&7));
            release(ours);
        }
    }
}
