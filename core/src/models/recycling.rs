//! Cells are recycled: an observer that found one a moment ago adds a reference to the task it saw, or turns away; and
//! memory goes back only when nobody looks.

use super::{Bench, beside, explore, work};
use crate::arena;
use crate::clock::NO_MILLIS;
use crate::context::Context;
use crate::raw::{Kind, Native};
use crate::slot::{Slot, SlotRef};
use crate::sync::{Arc, AtomicPtr, Ordering};
use crate::task::{Plain, Table, put};
use std::convert::Infallible;
use std::ffi::c_void;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::AtomicUsize;

/// Observers against a worker that runs two tasks, one after the other, in one cell.
#[test]
fn p13_a_look_against_recycling() {
    explore("a look against recycling", Some(3), || {
        let bench = Bench::new(|options| options);
        let (shared, record) = (bench.shared(), bench.record());
        let first = bench.pool.options().label("first").spawn(|| ()).expect("open");
        let worker = beside({
            let (shared, pool) = (shared.clone(), bench.pool.clone());
            move || {
                work(&shared, &record);
                // The last reference, as far as this thread knows.
                drop(first);
                drop(pool.options().label("second").spawn(|| ()).expect("room"));
                work(&shared, &record);
                drop(record);
            }
        });
        for (task, record) in shared.find_running() {
            let name = task.name().to_string();
            assert!(name.contains("first") || name.contains("second"), "{name}");
            shared.let_go(task);
            drop(record);
        }
        worker.join();
        drop(shared);
        bench.end();
    });
}

/// What a raw task gives here: counts its drops, unless it is bare.
struct Gives(Option<std::sync::Arc<AtomicUsize>>);

impl Drop for Gives {
    fn drop(&mut self) {
        if let Some(drops) = &self.0 {
            drops.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
}

struct Run(Gives);

static RUN: Kind<Run> = Kind::new();

impl Native for Run {
    type Value = Gives;
    type Error = Infallible;

    fn kind() -> &'static Kind<Run> {
        &RUN
    }

    fn run(self, _: &Context) -> Result<Gives, Infallible> {
        Ok(self.0)
    }

    fn is_bare(value: &Gives) -> bool {
        value.0.is_none()
    }
}

struct Raw(NonNull<c_void>);

// SAFETY: a raw task is a reference, as a `Task` is.
unsafe impl Send for Raw {}

impl Raw {
    fn release(self) {
        // SAFETY: each has a reference of its own.
        unsafe { RUN.release(self.0) };
    }
}

/// The worker and two releases of a raw task beside each other: the last one drops the value, or sees that it is bare.
#[test]
fn p06_releases_of_a_raw_task() {
    for bare in [false, true] {
        explore("releases of a raw task", Some(2), move || {
            let bench = Bench::new(|options| options);
            let (shared, record) = (bench.shared(), bench.record());
            let drops = std::sync::Arc::new(AtomicUsize::new(0));
            let run = Run(Gives((!bare).then(|| drops.clone())));
            let task = bench
                .pool
                .submit_native(run, true)
                .unwrap_or_else(|_| panic!("there is room"));
            let raw = RUN.raw(task).unwrap_or_else(|_| panic!("it carries nothing"));
            // SAFETY: the reference is there.
            assert!(unsafe { RUN.retain(raw) });
            let (one, other) = (Raw(raw), Raw(raw));
            let worker = beside(move || drop((work(&shared, &record), record)));
            let releases = beside(move || other.release());
            one.release();
            worker.join();
            releases.join();
            assert_eq!(
                drops.load(std::sync::atomic::Ordering::Relaxed),
                usize::from(!bare),
                "drops of the value"
            );
            bench.end();
        });
    }
}

/// Two handles go at once, and the cell has a new owner right away.
#[test]
fn p01_the_last_handle_against_reuse() {
    explore("the last handle against reuse", None, || {
        let bench = Bench::new(|options| options);
        let first = bench.pool.spawn(|| ()).expect("open");
        assert!(first.cancel());
        let other = beside({
            let first = first.clone();
            move || {
                let _ = first.name();
                drop(first);
            }
        });
        drop(first);
        let second = bench.pool.spawn(|| ()).expect("open");
        assert!(second.cancel());
        drop(second);
        other.join();
        bench.end();
    });
}

/// The memory of a cell that a worker shows goes back to the system, unless somebody looks.
#[test]
fn p05_a_look_against_giving_back() {
    explore("a look against giving back", None, || {
        type Callback = Plain<fn(), ()>;
        let current = Arc::new(AtomicPtr::<Slot>::default());
        // SAFETY: the payload is written below.
        let slot = unsafe { Slot::new(Table::<Callback>::TABLE, 0, NO_MILLIS, None, None, 1) };
        // SAFETY: it is ours, and empty.
        unsafe { put::<Callback>(slot.as_ref(), Plain(|| (), PhantomData)) };
        // SAFETY: the one reference.
        let task = unsafe { SlotRef::from_raw(slot) };
        current.store(slot.as_ptr(), Ordering::Release);
        let worker = beside({
            let current = current.clone();
            move || {
                task.win();
                task.publish(crate::Outcome::Cancelled, None, true, false);
                current.store(std::ptr::null_mut(), Ordering::Release);
                task.leave();
            }
        });
        {
            let pin = arena::pin();
            // SAFETY: as `find` wants it.
            let found = unsafe { SlotRef::find(&current, &pin) };
            drop(pin);
            drop(found);
        }
        worker.join();
        arena::flush();
    });
}
