//! A task as a plain pointer: what a language holds whose handles are opaque pointers, without memory beside the task's own.
//! Hidden: the C interface is its one user, and nothing here is promised to anybody else.
//!
//! Invariants:
//! 1. A raw task owns one reference, as a [`Task`] does. It points to the slot's second word, which is the address of the
//!    callback's table as long as there is a reference.
//! 2. The table of a [`Kind`] is a `static` of whoever names it: no other type of callback has its address, nor has another
//!    copy of this library. So one look at that word tells whether a pointer is a raw task of this kind.
//! 3. What is kept with a task ([`Lent::attached`]) is made once, without a lock, and goes with the task.

use crate::cancel::CancellationToken;
use crate::context::Context;
use crate::error::SubmitErrorKind;
use crate::pool::Pool;
use crate::slot::{Slot, SlotRef, VTable};
use crate::submit::{Options, Patience, submit_now, submit_plain};
use crate::task::{Callback, Table, Task, fits};
use std::any::Any;
use std::ffi::c_void;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::panic::Location;
use std::ptr::NonNull;
use std::time::Duration;

/// A callback whose tasks are known by a pointer.
pub trait Native: Sized + Send + 'static {
    /// What it gives.
    type Value: Send + 'static;
    /// How it fails.
    type Error: Send + 'static;

    /// The one [`Kind`] of this type: always the same `static`.
    fn kind() -> &'static Kind<Self>;

    /// Runs it.
    fn run(self, context: &Context) -> Result<Self::Value, Self::Error>;

    /// Whether dropping this value does nothing.
    fn is_bare(value: &Self::Value) -> bool;
}

/// What the tasks of one type of callback are known by: to be kept in a `static`.
pub struct Kind<N> {
    table: VTable,
    native: PhantomData<fn() -> N>,
}

impl<N> fmt::Debug for Kind<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kind").finish_non_exhaustive()
    }
}

impl<N: Native> Default for Kind<N> {
    fn default() -> Self {
        Kind::new()
    }
}

/// The callback as the pool sees it.
struct As<N>(N);

impl<N: Native> Callback for As<N> {
    type Value = N::Value;
    type Error = N::Error;
    type Written = N;

    #[inline(always)]
    fn table() -> &'static VTable {
        &N::kind().table
    }

    #[inline(always)]
    fn call(self, context: &Context) -> Result<N::Value, N::Error> {
        self.0.run(context)
    }
}

impl<N: Native> Kind<N> {
    /// For a `static`.
    pub const fn new() -> Self {
        // `bare` looks at the value where it stands.
        assert!(fits::<N::Value>());
        let mut table = *Table::<As<N>>::TABLE;
        table.bare = Some(Self::bare);
        Kind {
            table,
            native: PhantomData,
        }
    }

    /// The first word behind every raw task of this kind, and behind nothing else.
    #[inline(always)]
    pub fn mark(&'static self) -> usize {
        (&raw const self.table).addr()
    }

    /// The task as a pointer, which owns the handle's reference; a task that is not of this kind (one that carries a context)
    /// comes back.
    #[inline(always)]
    pub fn raw(&'static self, task: Task<N::Value, N::Error>) -> Result<NonNull<c_void>, Task<N::Value, N::Error>> {
        if !std::ptr::eq(task.slot().vtable(), &self.table) {
            return Err(task);
        }
        let word = task.into_slot().into_raw().cast::<u8>();
        // SAFETY: the second word of a slot lies in it.
        Ok(unsafe { word.byte_add(Slot::TABLE) }.cast())
    }

    /// The task behind a raw one.
    ///
    /// # Safety
    /// `raw` came from [`raw`](Self::raw) of this kind, and a reference that it owns stays there for `'a`.
    #[inline(always)]
    pub unsafe fn lend<'a>(&'static self, raw: NonNull<c_void>) -> Lent<'a, N> {
        // SAFETY: as the caller says; the reference is only lent, and the callback's types are these.
        let task = unsafe { Task::from_slot(slot(raw)) };
        Lent {
            task: ManuallyDrop::new(task),
            lifetime: PhantomData,
        }
    }

    /// One more reference. False: there are about a million already.
    ///
    /// # Safety
    /// As [`lend`](Self::lend).
    pub unsafe fn retain(&'static self, raw: NonNull<c_void>) -> bool {
        // SAFETY: as the caller says; the reference is only lent.
        let slot = ManuallyDrop::new(unsafe { slot(raw) });
        let room = slot.has_room_for_a_handle();
        if room {
            std::mem::forget(SlotRef::clone(&slot));
        }
        room
    }

    /// One reference less.
    ///
    /// # Safety
    /// As [`lend`](Self::lend), and the caller gives up one reference that `raw` owns.
    #[inline(always)]
    pub unsafe fn release(&'static self, raw: NonNull<c_void>) {
        // SAFETY: as the caller says.
        let slot = unsafe { slot(raw) };
        // SAFETY: asked only for the value of a success that nobody took, by the one who knows the task.
        slot.drop_bare(|slot| unsafe { Self::bare(slot) });
    }

    /// # Safety
    /// As [`VTable::bare`].
    #[inline]
    unsafe fn bare(slot: &Slot) -> bool {
        // SAFETY: the value is there, and stands in the payload itself: see `new`.
        slot.payload
            .with(|payload| N::is_bare(unsafe { &*payload.cast::<N::Value>() }))
    }
}

/// # Safety
/// `raw` came from [`Kind::raw`], and the caller owns, or is lent, a reference of it.
#[inline(always)]
unsafe fn slot(raw: NonNull<c_void>) -> SlotRef {
    // SAFETY: a raw task is so far into its slot.
    unsafe { SlotRef::from_raw(raw.byte_sub(Slot::TABLE).cast()) }
}

/// A task whose reference somebody else owns.
pub struct Lent<'a, N: Native> {
    task: ManuallyDrop<Task<N::Value, N::Error>>,
    lifetime: PhantomData<&'a N>,
}

impl<N: Native> Deref for Lent<'_, N> {
    type Target = Task<N::Value, N::Error>;

    #[inline(always)]
    fn deref(&self) -> &Self::Target {
        &self.task
    }
}

impl<N: Native> fmt::Debug for Lent<'_, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl<'a, N: Native> Lent<'a, N> {
    /// Whether one look tells that the task has succeeded; [`outcome`](Task::outcome) says the rest.
    #[inline(always)]
    pub fn has_plainly_succeeded(&self) -> bool {
        self.slot().has_plainly_succeeded()
    }

    /// What is kept with the task until its last reference goes: made when it is first asked for. One type a kind of task: `None`
    /// for another one.
    pub fn attached<A: Default + Send + Sync + 'static>(&self) -> Option<&'a A> {
        let slot: *const Slot = &raw const **self.slot();
        // SAFETY: the reference is lent for `'a`, and keeps the slot.
        let slot: &'a Slot = unsafe { &*slot };
        let there: &'a (dyn Any + Send + Sync) = slot.side_or_new().attached.get_or(|| Box::new(A::default()));
        there.downcast_ref()
    }
}

impl Pool {
    /// [`submit`](Self::submit), or [`try_submit`](Self::try_submit), of a callback whose task is known by a pointer. A refusal
    /// gives it back.
    #[doc(hidden)]
    #[track_caller]
    #[inline(always)]
    pub fn submit_native<N: Native>(
        &self,
        native: N,
        wait: bool,
    ) -> Result<Task<N::Value, N::Error>, (SubmitErrorKind, N)> {
        submit_plain(self, As(native), !wait, Location::caller())
            .map_err(|(refused, native)| (refused.kind(), native.0))
    }
}

impl Options<'_> {
    /// [`timeout`](Self::timeout), in place: options are large, and each that is moved costs as much as it does.
    #[doc(hidden)]
    #[inline(always)]
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.wanted.timeout = Some(timeout);
    }

    /// [`token`](Self::token), in place.
    #[doc(hidden)]
    #[inline(always)]
    pub fn set_token(&mut self, token: &CancellationToken) {
        self.wanted.token = Some(token.clone());
    }

    /// [`Pool::submit_native`] with options.
    #[doc(hidden)]
    #[track_caller]
    pub fn submit_native<N: Native>(
        &self,
        native: N,
        wait: bool,
    ) -> Result<Task<N::Value, N::Error>, (SubmitErrorKind, N)> {
        let patience = if wait { Patience::Wait } else { Patience::Try };
        submit_now(
            self.pool.shared(),
            &self.wanted,
            As(native),
            patience,
            Location::caller(),
        )
        .map_err(|(refused, native)| (refused.kind(), native.0))
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::carry::Carry;
    use crate::error::Outcome;
    use crate::sync::{Arc, AtomicUsize, Ordering};
    use std::convert::Infallible;

    /// Gives a value that counts its drops, unless it is bare.
    struct Gives(Option<Arc<AtomicUsize>>);

    struct Counted(Option<Arc<AtomicUsize>>);

    impl Drop for Counted {
        fn drop(&mut self) {
            if let Some(drops) = &self.0 {
                drops.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    static GIVES: Kind<Gives> = Kind::new();

    impl Native for Gives {
        type Value = Counted;
        type Error = Infallible;

        fn kind() -> &'static Kind<Self> {
            &GIVES
        }

        fn run(self, _: &Context) -> Result<Counted, Infallible> {
            Ok(Counted(self.0))
        }

        fn is_bare(value: &Counted) -> bool {
            value.0.is_none()
        }
    }

    struct Other;

    static OTHER: Kind<Other> = Kind::new();

    impl Native for Other {
        type Value = ();
        type Error = Infallible;

        fn kind() -> &'static Kind<Self> {
            &OTHER
        }

        fn run(self, _: &Context) -> Result<(), Infallible> {
            Ok(())
        }

        fn is_bare((): &()) -> bool {
            true
        }
    }

    fn pool() -> Pool {
        Pool::builder().workers(1).build().expect("a pool")
    }

    fn submit<N: Native>(pool: &Pool, native: N) -> NonNull<c_void> {
        let task = pool
            .submit_native(native, true)
            .unwrap_or_else(|_| panic!("there is room"));
        task.join().expect("no deadlock");
        N::kind().raw(task).unwrap_or_else(|_| panic!("it carries nothing"))
    }

    /// Whoever woke the wait may hold its task a moment longer: not once the one worker has run another.
    fn let_go(pool: &Pool) {
        pool.spawn(|| ())
            .unwrap_or_else(|_| panic!("there is room"))
            .wait()
            .expect("it runs");
    }

    fn first_word(raw: NonNull<c_void>) -> usize {
        // SAFETY: the first word of a live raw task.
        unsafe { raw.cast::<usize>().read() }
    }

    #[test]
    fn p16_a_raw_task_is_known_by_its_first_word() {
        let pool = pool();
        let (one, other) = (submit(&pool, Gives(None)), submit(&pool, Other));
        assert_eq!(first_word(one), GIVES.mark());
        assert_eq!(first_word(other), OTHER.mark());
        assert_ne!(GIVES.mark(), OTHER.mark());
        // SAFETY: the references of these two.
        unsafe {
            assert_eq!(GIVES.lend(one).outcome(), Some(Outcome::Succeeded));
            assert!(GIVES.lend(one).has_plainly_succeeded());
            GIVES.release(one);
            OTHER.release(other);
        }
    }

    #[test]
    fn p16_a_task_that_carries_a_context_is_not_of_the_kind() {
        struct Nothing;
        impl Carry for Nothing {
            type Captured = ();
            type Entered = ();
            fn capture(&self) -> Option<()> {
                Some(())
            }
            fn enter(&self, (): &()) {}
        }
        let pool = Pool::builder().workers(1).context(Nothing).build().expect("a pool");
        let task = pool
            .submit_native(Other, true)
            .unwrap_or_else(|_| panic!("there is room"));
        let back = OTHER.raw(task).expect_err("its table is another one");
        assert_eq!(back.join().expect("no deadlock"), Outcome::Succeeded);
    }

    #[test]
    fn p06_the_last_reference_drops_the_value_once() {
        let (pool, drops) = (pool(), Arc::new(AtomicUsize::new(0)));
        let raw = submit(&pool, Gives(Some(drops.clone())));
        // SAFETY: as many references are given up as there are.
        unsafe {
            assert!(GIVES.retain(raw));
            GIVES.release(raw);
            assert_eq!(drops.load(Ordering::Relaxed), 0, "another reference is there");
            assert_eq!(GIVES.lend(raw).outcome(), Some(Outcome::Succeeded));
            GIVES.release(raw);
        }
        let_go(&pool);
        assert_eq!(drops.load(Ordering::Relaxed), 1);

        let raw = submit(&pool, Gives(Some(drops.clone())));
        // SAFETY: as above.
        unsafe {
            drop(GIVES.lend(raw).wait());
            assert_eq!(drops.load(Ordering::Relaxed), 2, "the taker's");
            GIVES.release(raw);
        }
        assert_eq!(drops.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn p06_a_value_that_nobody_waits_for_is_dropped_once() {
        let (pool, drops) = (pool(), Arc::new(AtomicUsize::new(0)));
        for _ in 0..10 {
            drop(
                pool.submit_native(Gives(Some(drops.clone())), true)
                    .unwrap_or_else(|_| panic!("there is room")),
            );
            drop(
                pool.submit_native(Gives(None), true)
                    .unwrap_or_else(|_| panic!("there is room")),
            );
        }
        let report = pool.shutdown(Duration::from_secs(60)).expect("drained");
        assert_eq!((report.stats.succeeded, drops.load(Ordering::Relaxed)), (20, 10));
        assert_eq!(Arc::strong_count(&drops), 1);
    }

    #[test]
    fn p05_what_is_kept_with_a_task_is_made_once_and_goes_with_it() {
        static KEPT: AtomicUsize = AtomicUsize::new(0);
        struct Kept(AtomicUsize);
        impl Default for Kept {
            fn default() -> Kept {
                KEPT.fetch_add(1, Ordering::Relaxed);
                Kept(AtomicUsize::new(0))
            }
        }
        impl Drop for Kept {
            fn drop(&mut self) {
                KEPT.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let pool = pool();
        let raw = submit(&pool, Other);
        // SAFETY: the reference of this task, which is given up last.
        unsafe {
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    let task = OTHER.lend(raw);
                    scope.spawn(move || {
                        task.attached::<Kept>()
                            .map(|kept| kept.0.fetch_add(1, Ordering::Relaxed))
                    });
                }
            });
            let kept = OTHER.lend(raw).attached::<Kept>().expect("of this type");
            assert_eq!((kept.0.load(Ordering::Relaxed), KEPT.load(Ordering::Relaxed)), (4, 1));
            assert!(OTHER.lend(raw).attached::<u8>().is_none(), "of another type");
            OTHER.release(raw);
        }
        let_go(&pool);
        assert_eq!(KEPT.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn p16_references_beyond_what_can_be_counted_are_refused() {
        let pool = pool();
        let raw = submit(&pool, Other);
        // SAFETY: as many references are given up as there are.
        unsafe {
            let mut held = 1;
            while held < 1 << 20 && OTHER.retain(raw) {
                held += 1;
            }
            assert!((900_000..1 << 20).contains(&held), "{held} were given out");
            for _ in 0..held {
                assert_eq!(OTHER.lend(raw).outcome(), Some(Outcome::Succeeded));
                OTHER.release(raw);
            }
        }
        // The cell is in order: it is used again.
        let again = submit(&pool, Other);
        // SAFETY: the reference of this task.
        unsafe { OTHER.release(again) };
    }
}
