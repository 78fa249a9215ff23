//! A hierarchical timer wheel: six levels of 64 slots, one millisecond a slot at the lowest.
//!
//! Entering, leaving and firing take constant time; an entry moves down at most five times. Knows no clock and
//! no thread: the owner tells it the time.
//!
//! Invariants:
//! 1. `elapsed` never goes back, and every entry due at or before it has fired.
//! 2. An entry stands at the lowest level at which its due time and `elapsed` differ only in this level's bits
//!    and below; so what fires next is at the lowest level that holds anything.
//! 3. A bit of `occupied` is set exactly while its slot's list is not empty.

use slab::Slab;

const LEVELS: usize = 6;
const SLOTS: usize = 64;
const BITS: u32 = 6;
/// Entries further ahead than two years wait at the end of the top level, and are placed again from there. One slot
/// less than a full turn: no entry stands in the slot where `elapsed` is.
const SPAN: u64 = (1 << (BITS * LEVELS as u32)) - (1 << (BITS * (LEVELS as u32 - 1)));
const NONE: u32 = u32::MAX;

struct Node<T> {
    what: T,
    due: u64,
    previous: u32,
    next: u32,
    level: u8,
    slot: u8,
}

pub(crate) struct Wheel<T> {
    nodes: Slab<Node<T>>,
    heads: [[u32; SLOTS]; LEVELS],
    occupied: [u64; LEVELS],
    elapsed: u64,
}

impl<T> Wheel<T> {
    pub(crate) fn new(now: u64) -> Self {
        Wheel {
            nodes: Slab::new(),
            heads: [[NONE; SLOTS]; LEVELS],
            occupied: [0; LEVELS],
            elapsed: now,
        }
    }

    /// What is in it, and when it is due.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.nodes.iter().map(|(_, node)| (node.due, &node.what))
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Enters something due at `due`; the key takes it out again. What is due already fires at the next
    /// [`advance`](Self::advance).
    pub(crate) fn insert(&mut self, due: u64, what: T) -> usize {
        let key = self.nodes.insert(Node {
            what,
            due,
            previous: NONE,
            next: NONE,
            level: 0,
            slot: 0,
        });
        self.link(key as u32);
        key
    }

    /// Takes an entry out, if it is still there.
    pub(crate) fn remove(&mut self, key: usize) -> Option<T> {
        if !self.nodes.contains(key) {
            return None;
        }
        self.unlink(key as u32);
        let node = self.nodes.remove(key);
        if self.nodes.is_empty() && self.nodes.capacity() > 4096 {
            // What a burst left behind.
            self.nodes = Slab::new();
        }
        Some(node.what)
    }

    fn place(&self, due: u64) -> (usize, usize) {
        let due = due.max(self.elapsed + 1).min(self.elapsed + SPAN);
        let differ = (self.elapsed ^ due) | (SLOTS as u64 - 1);
        let level = ((63 - differ.leading_zeros()) / BITS).min(LEVELS as u32 - 1);
        (level as usize, (due >> (BITS * level)) as usize & (SLOTS - 1))
    }

    fn link(&mut self, key: u32) {
        let (level, slot) = self.place(self.nodes[key as usize].due);
        let head = self.heads[level][slot];
        let node = &mut self.nodes[key as usize];
        (node.level, node.slot) = (level as u8, slot as u8);
        (node.previous, node.next) = (NONE, head);
        if head != NONE {
            self.nodes[head as usize].previous = key;
        }
        self.heads[level][slot] = key;
        self.occupied[level] |= 1 << slot;
    }

    fn unlink(&mut self, key: u32) {
        let node = &self.nodes[key as usize];
        let (level, slot, previous, next) = (node.level as usize, node.slot as usize, node.previous, node.next);
        if previous == NONE {
            self.heads[level][slot] = next;
            if next == NONE {
                self.occupied[level] &= !(1 << slot);
            }
        } else {
            self.nodes[previous as usize].next = next;
        }
        if next != NONE {
            self.nodes[next as usize].previous = previous;
        }
    }

    /// The slot that comes up next: level, slot, and when.
    fn upcoming(&self) -> Option<(usize, usize, u64)> {
        for level in 0..LEVELS {
            if self.occupied[level] == 0 {
                continue;
            }
            let shift = BITS * level as u32;
            let here = (self.elapsed >> shift) as u32 & (SLOTS as u32 - 1);
            let ahead = self.occupied[level].rotate_right(here).trailing_zeros();
            let slot = (here + ahead) as usize & (SLOTS - 1);
            let when = ((self.elapsed >> shift) + u64::from(ahead)) << shift;
            return Some((level, slot, when));
        }
        None
    }

    /// When [`advance`](Self::advance) has something to do next: at the latest when the next entry is due,
    /// perhaps earlier.
    pub(crate) fn next(&self) -> Option<u64> {
        self.upcoming().map(|(_, _, when)| when)
    }

    /// Moves on to `now`, and gives what is due to `fire`.
    pub(crate) fn advance(&mut self, now: u64, mut fire: impl FnMut(T)) {
        while let Some((level, slot, when)) = self.upcoming() {
            if when > now {
                break;
            }
            self.elapsed = when;
            let mut key = std::mem::replace(&mut self.heads[level][slot], NONE);
            self.occupied[level] &= !(1 << slot);
            while key != NONE {
                let next = self.nodes[key as usize].next;
                if self.nodes[key as usize].due <= when {
                    fire(self.nodes.remove(key as usize).what);
                } else {
                    self.link(key);
                }
                key = next;
            }
        }
        self.elapsed = self.elapsed.max(now);
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    /// A small generator of numbers that repeat from run to run.
    fn random(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    #[test]
    fn p02_fires_all_in_time_and_none_early() {
        let mut seed = 0x9E37_79B9_7F4A_7C15;
        let start = 123_456_789;
        let mut wheel = Wheel::new(start);
        let mut pending = std::collections::BTreeMap::new();
        let mut keys = Vec::new();
        let mut now = start;
        for id in 0..20_000u64 {
            let exponent = random(&mut seed) % 38;
            let due = now + random(&mut seed) % (1 << exponent) + 1;
            keys.push((id, wheel.insert(due, id)));
            pending.insert(id, due);
            if id % 3 == 0 {
                let (gone, key) = keys.swap_remove((random(&mut seed) % keys.len() as u64) as usize);
                if pending.remove(&gone).is_some() {
                    assert_eq!(wheel.remove(key), Some(gone));
                }
            }
            if id % 16 == 0 {
                now += random(&mut seed) % 50_000;
                wheel.advance(now, |id| {
                    let due = pending.remove(&id).expect("fires once");
                    assert!(due <= now, "early by {}", due - now);
                });
                keys.retain(|(id, _)| pending.contains_key(id));
                assert!(pending.values().all(|due| *due > now), "late");
                assert_eq!(wheel.len(), pending.len());
            }
        }
        while let Some(next) = wheel.next() {
            assert!(next > now);
            now = next;
            wheel.advance(now, |id| {
                assert!(pending.remove(&id).expect("fires once") <= now);
            });
            assert!(pending.values().all(|due| *due > now));
        }
        assert!(pending.is_empty());
    }

    #[test]
    fn p02_next_is_never_after_the_first_due() {
        let mut wheel = Wheel::new(1000);
        for due in [1001, 1063, 1064, 5000, 300_000, 20_000_000, 1 << 33] {
            let key = wheel.insert(due, ());
            assert!(wheel.next().expect("one is in") <= due);
            wheel.remove(key);
            assert_eq!(wheel.next(), None);
        }
    }
}
