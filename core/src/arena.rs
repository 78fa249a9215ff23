//! Memory for tasks: 64-byte blocks of one cache line, recycled through a magazine a thread.
//!
//! Why not the allocator: a task is made on one thread and freed on another, which costs the system
//! allocator up to 788 ns a block; here both ends take and give from an array of their own.
//!
//! Invariants:
//! 1. **Type-stable.** The first word of a block is an atomic word at all times, free or not, and keeps its
//!    generation (see `slot`). So an observer that read a pointer to a block a moment ago may load and
//!    compare-and-swap that word, whoever owns the block by now, as long as it holds a [`Pin`] from before it
//!    read the pointer.
//! 2. Every block belongs to exactly one of: its user, one magazine, the depot, the part of a chunk not carved.
//! 3. Chunks are given back only whole, and only while no [`Pin`] is held: a pin taken later can only read
//!    pointers published by users of blocks, and a free block has none.
//! 4. A forked child has a depot of its own: others may have held the lock of the one it inherited. Blocks of inherited
//!    chunks may be used and recycled by the thread that forked, and never enter the new depot.
//! 5. **Bounded.** Free blocks beyond what the live pools may queue (plus a constant) are given back, and all
//!    of them once no pool lives; what stays is at most two magazines a living thread.
//!
//! Lock order: the depot's lock is a leaf.

use crate::fork::{self, Renewed, renewed};
use crate::sync::{AtomicU64, AtomicUsize, MODEL, Mutex, MutexGuard, Ordering, full_fence, global, local, thread};
use std::alloc::{Layout, handle_alloc_error};
use std::cell::UnsafeCell;
use std::ptr::NonNull;

/// Bytes of a block. (The atomics of a model checker are larger.)
pub(crate) const BLOCK: usize = if MODEL { 1024 } else { 64 };

/// A block: the word that stays valid for ever, and the rest.
#[repr(C)]
#[cfg_attr(not(all(test, any(loom, shuttle))), repr(align(64)))]
#[cfg_attr(all(test, any(loom, shuttle)), repr(align(1024)))]
pub(crate) struct Block {
    pub(crate) word: AtomicU64,
    _rest: [u8; BLOCK - size_of::<AtomicU64>()],
}

const CHUNK_BLOCKS: usize = if MODEL { 4 } else { 1024 };
const CHUNK: usize = CHUNK_BLOCKS * BLOCK;
const BATCH: usize = if MODEL { 1 } else { 32 };
/// Free blocks always kept, whatever the pools' capacities: under this, giving back is not worth the search.
const SPARE: usize = if MODEL { 0 } else { 4 * CHUNK_BLOCKS };

type BlockPtr = NonNull<Block>;

/// The free blocks of one thread.
struct Magazine {
    len: usize,
    blocks: [Option<BlockPtr>; 2 * BATCH],
}

/// A thread's magazine, given to the depot when the thread ends.
struct Local(UnsafeCell<Magazine>);

local! {
    static LOCAL: Local = Local(UnsafeCell::new(Magazine { len: 0, blocks: [None; 2 * BATCH] }));
}

/// The first block of a chunk, which is never handed out. Chunks are aligned to their size, so a block's address
/// leads to it. Reached under the depot's lock only.
#[repr(C, align(64))]
struct Header {
    /// Blocks that have been handed out at least once, this one included.
    carved: usize,
    /// How many of them are free, while trimming.
    free: usize,
    /// To be given back.
    go: bool,
    /// The generation of the process that made it.
    born: u32,
}

type Chunk = NonNull<Header>;

const _: () = assert!(size_of::<Header>() <= BLOCK && size_of::<Block>() == BLOCK);

fn chunk_of(block: BlockPtr) -> Chunk {
    let start = block
        .as_ptr()
        .map_addr(|address| address & !(CHUNK - 1))
        .cast::<Header>();
    // SAFETY: a chunk does not start at address zero.
    unsafe { NonNull::new_unchecked(start) }
}

/// What the threads' magazines are filled from and emptied into.
struct Depot {
    free: Vec<BlockPtr>,
    chunks: Vec<Chunk>,
    /// The one that has blocks left which were never handed out.
    carving: Option<Chunk>,
    /// Blocks that exist: free, or owned by somebody.
    carved: usize,
    /// Pools alive, and what they may queue and run together.
    pools: usize,
    demand: usize,
    /// Look for whole free chunks when there are more free blocks than this.
    trim_above: usize,
}

// SAFETY: the depot owns the blocks it points to (invariant 2).
unsafe impl Send for Depot {}

struct Arena {
    depot: Mutex<Depot>,
    /// Observers at work (invariant 3).
    pins: AtomicUsize,
}

global! {
    static ARENA: Renewed<Arena> = renewed!(Arena {
        depot: Mutex::new(Depot {
            free: Vec::new(),
            chunks: Vec::new(),
            carving: None,
            carved: 0,
            pools: 0,
            demand: 0,
            trim_above: SPARE,
        }),
        pins: AtomicUsize::new(0),
    });
}

fn depot() -> MutexGuard<'static, Depot> {
    ARENA.get().depot.lock()
}

/// While one is held, no block's memory goes away.
#[derive(Debug)]
pub(crate) struct Pin(());

/// Takes a [`Pin`]. Pairs with the check in `Depot::trim`.
pub(crate) fn pin() -> Pin {
    ARENA.get().pins.fetch_add(1, Ordering::SeqCst);
    full_fence();
    Pin(())
}

impl Drop for Pin {
    fn drop(&mut self) {
        ARENA.get().pins.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A pool of so many tasks at most opens: keep that much.
pub(crate) fn pool_opened(demand: usize) {
    let mut depot = depot();
    depot.pools += 1;
    depot.demand += demand;
    depot.set_trim();
}

/// A pool may hold so many tasks more.
pub(crate) fn add_demand(demand: usize) {
    let mut depot = depot();
    depot.demand += demand;
    depot.set_trim();
}

/// The pool has gone, with all its threads. The calling thread's magazine goes back first.
pub(crate) fn pool_closed(demand: usize) {
    flush();
    let mut depot = depot();
    depot.pools -= 1;
    depot.demand -= demand;
    depot.set_trim();
    depot.trim();
}

/// Gives the calling thread's free blocks to the depot.
pub(crate) fn flush() {
    let _ = LOCAL.try_with(|local| {
        // SAFETY: only this thread reaches its magazine, and nothing below calls back into this module.
        let magazine = unsafe { &mut *local.0.get() };
        magazine.give(magazine.len, depot());
    });
}

impl Magazine {
    /// Moves `count` blocks to the depot.
    fn give(&mut self, count: usize, mut depot: MutexGuard<'_, Depot>) {
        let now = fork::generation();
        for _ in 0..count {
            self.len -= 1;
            if let Some(block) = self.blocks[self.len].take() {
                depot.put(block, now);
            }
        }
        // Without a pool, the last blocks to come back take everything along.
        let last = depot.pools == 0 && depot.carved - depot.free.len() < CHUNK_BLOCKS;
        if last || depot.free.len() > depot.trim_above {
            depot.trim();
        }
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        let magazine = self.0.get_mut();
        // A model that has failed has no statics any more.
        if magazine.len != 0 && !(MODEL && thread::panicking()) {
            magazine.give(magazine.len, depot());
        }
    }
}

impl Depot {
    fn set_trim(&mut self) {
        self.trim_above = if self.pools == 0 { 0 } else { SPARE + 2 * self.demand };
    }

    /// Takes back a block that nobody owns any more. `now`: the process's generation.
    #[inline(always)]
    fn put(&mut self, block: BlockPtr, now: u32) {
        // SAFETY: headers are reached under the depot's lock only, which the caller holds; that of an inherited chunk is
        // not written to any more, for its depot is not used.
        if now == 0 || unsafe { chunk_of(block).as_ref() }.born == now {
            self.free.push(block);
        }
    }

    /// A block that nobody owns.
    fn take(&mut self) -> BlockPtr {
        if let Some(block) = self.free.pop() {
            return block;
        }
        let mut chunk = self.carving.unwrap_or_else(|| self.add_chunk());
        // SAFETY: headers are reached under the depot's lock only, which the caller holds.
        let header = unsafe { chunk.as_mut() };
        // SAFETY: `carved < CHUNK_BLOCKS` while a chunk is being carved, so the block lies in the chunk.
        let block = unsafe { chunk.cast::<Block>().add(header.carved) };
        // SAFETY: the block is fresh memory of the right size and alignment that nobody else knows. Writing
        // it before it is ever read also saves the second page fault of a page read first.
        unsafe { (&raw mut (*block.as_ptr()).word).write(AtomicU64::new(0)) };
        header.carved += 1;
        self.carved += 1;
        if header.carved == CHUNK_BLOCKS {
            self.carving = None;
        }
        block
    }

    #[cold]
    fn add_chunk(&mut self) -> Chunk {
        let start = map_chunk();
        // SAFETY: fresh memory of a header's size and alignment, not at address zero.
        let chunk = unsafe {
            start.write(Header {
                carved: 1,
                free: 0,
                go: false,
                born: fork::generation(),
            });
            NonNull::new_unchecked(start)
        };
        self.chunks.push(chunk);
        self.carving = Some(chunk);
        chunk
    }

    /// Gives chunks whose blocks are all free back to the system.
    #[cold]
    fn trim(&mut self) {
        full_fence();
        if ARENA.get().pins.load(Ordering::SeqCst) != 0 {
            // An observer may be looking at any block: later.
            if self.pools != 0 {
                self.trim_above = self.trim_above.max(self.free.len()) + SPARE;
            }
            return;
        }
        let header = |chunk: Chunk| {
            // SAFETY: headers are reached under the depot's lock only, which the caller holds, and each reference
            // ends before the next begins.
            unsafe { &mut *chunk.as_ptr() }
        };
        for block in &self.free {
            header(chunk_of(*block)).free += 1;
        }
        let mut keep = if self.pools == 0 { 0 } else { self.demand + SPARE };
        for chunk in &self.chunks {
            let header = header(*chunk);
            // All but the header itself.
            let blocks = header.carved - 1;
            if std::mem::take(&mut header.free) == blocks {
                header.go = self.pools == 0 || keep < blocks;
                if !header.go {
                    keep -= blocks;
                }
            }
        }
        let before = self.free.len();
        self.free.retain(|block| !header(chunk_of(*block)).go);
        self.carved -= before - self.free.len();
        let mut carving = self.carving.take();
        self.chunks.retain(|chunk| {
            let go = header(*chunk).go;
            if go {
                carving = carving.filter(|carving| carving != chunk);
                // SAFETY: came from `map_chunk`; every block carved from it was in `free`, so nobody owns one
                // (invariant 2), and nobody looks at one (invariant 3).
                unsafe { unmap_chunk(*chunk) };
            }
            !go
        });
        self.carving = carving;
        if self.pools == 0 {
            self.free.shrink_to_fit();
            self.chunks.shrink_to_fit();
        }
        self.set_trim();
        // Fragmented: wait until there is as much again, so that the search stays cheap a block. (Few blocks are
        // searched quickly, and without a pool they should go as soon as they can.)
        if self.pools != 0 || self.free.len() > SPARE {
            self.trim_above = self.trim_above.max(2 * self.free.len());
        }
    }
}

/// Chunks come from the system directly: the allocator would keep those it is given back.
#[cfg(not(all(test, any(loom, shuttle))))]
fn map_chunk() -> *mut Header {
    // Twice the size holds an aligned chunk; the rest goes back.
    // SAFETY: an anonymous private mapping at an address of the system's choice touches nobody's memory.
    let mapped = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            2 * CHUNK,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if mapped == libc::MAP_FAILED {
        handle_alloc_error(Layout::new::<[Block; CHUNK_BLOCKS]>());
    }
    let before = mapped.addr().wrapping_neg() & (CHUNK - 1);
    // SAFETY: `before < CHUNK`, so `before + CHUNK` lies within the mapping; what is unmapped is the rest of it.
    unsafe {
        let start = mapped.byte_add(before);
        if before > 0 {
            libc::munmap(mapped, before);
        }
        libc::munmap(start.byte_add(CHUNK), CHUNK - before);
        start.cast::<Header>()
    }
}

/// # Safety
/// `chunk` came from [`map_chunk`], and nobody uses it any more.
#[cfg(not(all(test, any(loom, shuttle))))]
unsafe fn unmap_chunk(chunk: Chunk) {
    // SAFETY: as the caller says.
    unsafe { libc::munmap(chunk.as_ptr().cast(), CHUNK) };
}

/// The chunks of models, which are smaller than a page, and go with their execution.
#[cfg(all(test, any(loom, shuttle)))]
mod model {
    use super::{CHUNK, Chunk, Depot, Header, Layout, global, handle_alloc_error};

    const LAYOUT: Layout = match Layout::from_size_align(CHUNK, CHUNK) {
        Ok(layout) => layout,
        Err(_) => panic!("a power of two"),
    };

    pub(super) fn map_chunk() -> *mut Header {
        // SAFETY: not of size zero.
        let chunk = unsafe { std::alloc::alloc_zeroed(LAYOUT) };
        if chunk.is_null() {
            handle_alloc_error(LAYOUT);
        }
        chunk.cast()
    }

    /// # Safety
    /// `chunk` came from [`map_chunk`], and nobody uses it any more.
    pub(super) unsafe fn unmap_chunk(chunk: Chunk) {
        // SAFETY: as the caller says. What is written is no cell of the checker: who looks nevertheless is caught.
        unsafe { chunk.as_ptr().cast::<u8>().write_bytes(0xA5, CHUNK) };
        GONE.lock().push(Gone(chunk));
    }

    /// Memory given back: kept until the execution ends.
    struct Gone(Chunk);

    // SAFETY: it owns the memory.
    unsafe impl Send for Gone {}

    global! {
        static GONE: crate::sync::Mutex<Vec<Gone>> = crate::sync::Mutex::new(Vec::new());
    }

    impl Drop for Gone {
        fn drop(&mut self) {
            // SAFETY: came from `map_chunk`.
            unsafe { std::alloc::dealloc(self.0.as_ptr().cast(), LAYOUT) };
        }
    }

    impl Drop for Depot {
        fn drop(&mut self) {
            for chunk in self.chunks.drain(..) {
                // The execution has ended.
                drop(Gone(chunk));
            }
        }
    }

    /// Blocks that somebody owns, or that are in the magazines of other threads.
    pub(crate) fn owned() -> usize {
        super::flush();
        let depot = super::depot();
        depot.carved - depot.free.len()
    }
}

#[cfg(all(test, any(loom, shuttle)))]
pub(crate) use model::owned;
#[cfg(all(test, any(loom, shuttle)))]
use model::{map_chunk, unmap_chunk};

/// Asks for the line of a block that will be written soon.
#[inline(always)]
pub(crate) fn prefetch(block: Option<BlockPtr>) {
    #[cfg(target_arch = "x86_64")]
    if let Some(block) = block {
        // SAFETY: a prefetch touches nothing; the pointer need not even be valid.
        unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_ET0 }>(block.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = block;
}

/// A block for the caller alone. Its word is as the last user left it (zero when fresh).
#[inline]
pub(crate) fn take() -> BlockPtr {
    LOCAL
        .try_with(|local| {
            // SAFETY: only this thread reaches its magazine, and nothing below calls back into this module.
            let magazine = unsafe { &mut *local.0.get() };
            if magazine.len == 0 {
                refill(magazine);
            }
            magazine.len -= 1;
            let block = magazine.blocks[magazine.len];
            prefetch(magazine.blocks[magazine.len.saturating_sub(4)]);
            block
        })
        .ok()
        .flatten()
        .unwrap_or_else(|| depot().take())
}

#[cold]
#[inline(never)]
fn refill(magazine: &mut Magazine) {
    let mut depot = depot();
    for slot in magazine.blocks.iter_mut().take(BATCH).rev() {
        *slot = Some(depot.take());
    }
    magazine.len = BATCH;
}

/// Takes a block back.
///
/// # Safety
/// `block` came from [`take`] and the caller owns it; it is not used by anyone afterwards, except for
/// observers loading its word under a [`Pin`].
#[inline]
pub(crate) unsafe fn give(block: BlockPtr) {
    let kept = LOCAL.try_with(|local| {
        // SAFETY: only this thread reaches its magazine, and nothing below calls back into this module.
        let magazine = unsafe { &mut *local.0.get() };
        if magazine.len == magazine.blocks.len() {
            overflow(magazine);
        }
        magazine.blocks[magazine.len] = Some(block);
        magazine.len += 1;
    });
    if kept.is_err() {
        depot().put(block, fork::generation());
    }
}

#[cold]
#[inline(never)]
fn overflow(magazine: &mut Magazine) {
    let depot = depot();
    let idle = depot.pools == 0;
    magazine.give(if idle { magazine.len } else { BATCH }, depot);
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn p05_blocks_are_recycled_and_whole_chunks_given_back() {
        pool_opened(64);
        let chunks_before = depot().chunks.len();
        let taken: Vec<_> = (0..20 * CHUNK_BLOCKS).map(|_| take()).collect();
        let distinct: HashSet<_> = taken.iter().copied().collect();
        assert_eq!(distinct.len(), taken.len(), "a block was handed out twice");
        assert!(depot().chunks.len() >= 19);
        for block in taken {
            // SAFETY: each came from `take` and is given back once.
            unsafe { give(block) };
        }
        flush();
        // Other tests have blocks, and pins, of their own meanwhile.
        let few = || {
            depot().trim();
            depot().chunks.len() <= chunks_before + 8
        };
        let there = (0..2000).any(|_| {
            let few = few();
            if !few {
                thread::sleep(std::time::Duration::from_millis(5));
            }
            few
        });
        assert!(there, "{} chunks are kept", depot().chunks.len());
        pool_closed(64);
    }

    #[test]
    fn p05_a_pin_keeps_memory_mapped() {
        let pin = pin();
        pool_opened(1);
        let block = take();
        // SAFETY: came from `take`.
        unsafe { give(block) };
        pool_closed(1);
        // SAFETY: the pin was taken before the block was, so its memory is still there.
        let _ = unsafe { (*block.as_ptr()).word.load(Ordering::Relaxed) };
        drop(pin);
    }
}
