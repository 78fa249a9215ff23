//! Tasks of a queue that wait for more than their turn: for a task of the same key to end, or for their time to come.
//!
//! Invariants:
//! 1. A task here stands at its `position` in `nodes`, which owns one reference to it, and in `arrivals`. A task that could
//!    be started as far as its own time goes also stands in its key's line, in order of arrival; one that is *parked* does
//!    not.
//! 2. A key is there while a task of it is queued, or runs: so memory is bounded by capacity and workers.
//! 3. A key stands in `turns` exactly while a task of it may be started: one stands in its line, and fewer than the limit
//!    run. The one at the front has one task started, then goes to the back: no key waits for more than one task of each
//!    other.
//! 4. Every step takes the same time, however many tasks and keys there are; but for a change of the limit, and for
//!    shedding of a key of which only parked tasks are there.
//!
//! Everything here is under the queue's consumer lock.

use crate::slot::{Slot, SlotRef};
use slab::Slab;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Of lists: the end.
const NONE: u32 = u32::MAX;

/// No limit.
pub(crate) const UNLIMITED: usize = usize::MAX;

struct Node {
    task: SlotRef,
    key: u32,
    parked: bool,
    /// Where the ring's tail was when it came: what stands before that in the ring is older.
    at: u64,
    arrival: Links,
    in_key: Links,
}

#[derive(Clone, Copy)]
struct Links {
    before: u32,
    after: u32,
}

const UNLINKED: Links = Links {
    before: NONE,
    after: NONE,
};

/// A list through the nodes of a slab, in both directions.
#[derive(Clone, Copy)]
struct List {
    first: u32,
    last: u32,
}

const EMPTY: List = List {
    first: NONE,
    last: NONE,
};

impl List {
    fn push<T>(&mut self, nodes: &mut Slab<T>, at: u32, links: impl Fn(&mut T) -> &mut Links) {
        *links(&mut nodes[at as usize]) = Links {
            before: self.last,
            after: NONE,
        };
        match self.last {
            NONE => self.first = at,
            last => links(&mut nodes[last as usize]).after = at,
        }
        self.last = at;
    }

    fn remove<T>(&mut self, nodes: &mut Slab<T>, at: u32, links: impl Fn(&mut T) -> &mut Links) {
        let Links { before, after } = std::mem::replace(links(&mut nodes[at as usize]), UNLINKED);
        match before {
            NONE => self.first = after,
            before => links(&mut nodes[before as usize]).after = after,
        }
        match after {
            NONE => self.last = before,
            after => links(&mut nodes[after as usize]).before = before,
        }
    }
}

struct Key {
    /// `None`: of those that were parked and have no key. They have no limit.
    hash: Option<u64>,
    line: List,
    /// Parked ones included.
    queued: usize,
    running: usize,
    in_turns: bool,
    turn: Links,
}

/// Keys are hashes already.
#[derive(Default)]
pub(crate) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("duly: keys are numbers")
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

pub(crate) type ByKey<V> = HashMap<u64, V, BuildHasherDefault<AsItIs>>;

pub(crate) struct Keyed {
    nodes: Slab<Node>,
    keys: Slab<Key>,
    by_hash: ByKey<u32>,
    without: Option<u32>,
    turns: List,
    ready: usize,
    arrivals: List,
    /// The first one that no sweep has looked at.
    unswept: u32,
    limit: usize,
}

impl Keyed {
    pub(crate) fn new(limit: usize) -> Keyed {
        Keyed {
            nodes: Slab::new(),
            keys: Slab::new(),
            by_hash: ByKey::default(),
            without: None,
            turns: EMPTY,
            ready: 0,
            arrivals: EMPTY,
            unswept: NONE,
            limit,
        }
    }

    /// How many keys have a task that may be started.
    pub(crate) fn ready(&self) -> usize {
        self.ready
    }

    /// How many tasks of a key are queued.
    pub(crate) fn queued(&self, hash: u64) -> usize {
        self.by_hash.get(&hash).map_or(0, |&key| self.keys[key as usize].queued)
    }

    /// Keys that are there.
    #[cfg(all(test, not(any(loom, shuttle))))]
    pub(crate) fn keys(&self) -> usize {
        self.keys.len()
    }

    /// Adds a task, whose reference is handed over; `at` is the ring's tail.
    pub(crate) fn add(&mut self, task: SlotRef, hash: Option<u64>, parked: bool, at: u64) {
        let there = match hash {
            Some(hash) => self.by_hash.get(&hash).copied(),
            None => self.without,
        };
        let key = there.unwrap_or_else(|| {
            let key = self.keys.insert(Key {
                hash,
                line: EMPTY,
                queued: 0,
                running: 0,
                in_turns: false,
                turn: UNLINKED,
            }) as u32;
            match hash {
                Some(hash) => drop(self.by_hash.insert(hash, key)),
                None => self.without = Some(key),
            }
            key
        });
        self.keys[key as usize].queued += 1;
        let entry = self.nodes.vacant_entry();
        let index = entry.key() as u32;
        task.set_position(u64::from(index));
        entry.insert(Node {
            task,
            key,
            parked,
            at,
            arrival: UNLINKED,
            in_key: UNLINKED,
        });
        self.arrivals.push(&mut self.nodes, index, |node| &mut node.arrival);
        if self.unswept == NONE {
            self.unswept = index;
        }
        if !parked {
            self.stand_in_line(index, key);
        }
    }

    fn stand_in_line(&mut self, index: u32, key: u32) {
        let line = &mut self.keys[key as usize].line;
        line.push(&mut self.nodes, index, |node| &mut node.in_key);
        self.settle(key);
    }

    /// A parked task's time has come. False if it is not there, or not parked.
    pub(crate) fn unpark(&mut self, task: &Slot) -> bool {
        let Some(index) = self.find(task) else { return false };
        let node = &mut self.nodes[index as usize];
        let was = std::mem::replace(&mut node.parked, false);
        let key = node.key;
        if was {
            self.stand_in_line(index, key);
        }
        was
    }

    /// Whether a task is here, and its time has not come.
    pub(crate) fn is_parked(&self, task: &Slot) -> bool {
        self.find(task).is_some_and(|index| self.nodes[index as usize].parked)
    }

    /// Where a task stands, if it does.
    pub(crate) fn find(&self, task: &Slot) -> Option<u32> {
        let index = task.position();
        let node = self.nodes.get(index as usize)?;
        std::ptr::eq(node.task.as_ptr().as_ptr(), task).then_some(index as u32)
    }

    /// Takes a task out, wherever it stands. Its reference is the caller's; nothing is read through it, for it may have been
    /// given up already.
    pub(crate) fn remove(&mut self, index: u32) -> SlotRef {
        if self.unswept == index {
            self.unswept = self.nodes[index as usize].arrival.after;
        }
        self.arrivals.remove(&mut self.nodes, index, |node| &mut node.arrival);
        let (key, parked) = (self.nodes[index as usize].key, self.nodes[index as usize].parked);
        if !parked {
            let line = &mut self.keys[key as usize].line;
            line.remove(&mut self.nodes, index, |node| &mut node.in_key);
        }
        self.keys[key as usize].queued -= 1;
        self.settle(key);
        self.nodes.remove(index as usize).task
    }

    /// Takes the next task to be started: its key counts one more that runs, until it is [`returned`](Self::returned).
    pub(crate) fn take(&mut self) -> Option<(SlotRef, u32)> {
        let key = self.turns.first;
        if key == NONE {
            return None;
        }
        let there = &mut self.keys[key as usize];
        there.running += 1;
        let first = there.line.first;
        // To the back, if it may go on.
        self.leave_turns(key);
        Some((self.remove(first), key))
    }

    /// Whether a task is the next of its key, and its key may go on.
    pub(crate) fn is_next(&self, index: u32) -> bool {
        let key = &self.keys[self.nodes[index as usize].key as usize];
        key.in_turns && key.line.first == index
    }

    /// [`take`](Self::take) of this task, if it is the next of its key and its key may go on.
    pub(crate) fn take_this(&mut self, index: u32) -> Option<(SlotRef, u32)> {
        if !self.is_next(index) {
            return None;
        }
        let key = self.nodes[index as usize].key;
        self.keys[key as usize].running += 1;
        self.leave_turns(key);
        Some((self.remove(index), key))
    }

    /// The key of a task whose key has as many running as it may, and how many these are.
    pub(crate) fn held_back(&self, index: u32) -> Option<(u32, usize)> {
        let key = self.nodes[index as usize].key;
        let there = &self.keys[key as usize];
        (there.hash.is_some() && there.running >= self.limit).then_some((key, there.running))
    }

    /// A task of this key has ended its run.
    pub(crate) fn returned(&mut self, key: u32) {
        self.keys[key as usize].running -= 1;
        self.settle(key);
    }

    /// How many tasks of a key may run at a time from now on. Looks at every key.
    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
        let keys: Vec<u32> = self.keys.iter().map(|(key, _)| key as u32).collect();
        keys.into_iter().for_each(|key| self.settle(key));
    }

    fn leave_turns(&mut self, key: u32) {
        self.keys[key as usize].in_turns = false;
        self.turns.remove(&mut self.keys, key, |key| &mut key.turn);
        self.ready -= 1;
    }

    /// Invariants 2 and 3, after something has changed.
    fn settle(&mut self, key: u32) {
        let there = &mut self.keys[key as usize];
        let limit = if there.hash.is_some() { self.limit } else { UNLIMITED };
        let ready = there.line.first != NONE && there.running < limit;
        if ready && !there.in_turns {
            there.in_turns = true;
            self.turns.push(&mut self.keys, key, |key| &mut key.turn);
            self.ready += 1;
        } else if !ready && there.in_turns {
            self.leave_turns(key);
        }
        let there = &self.keys[key as usize];
        if there.queued == 0 && there.running == 0 {
            match there.hash {
                Some(hash) => drop(self.by_hash.remove(&hash)),
                None => self.without = None,
            }
            self.keys.remove(key as usize);
        }
    }

    /// The task that came first, and where the ring's tail was then.
    pub(crate) fn oldest(&self) -> Option<(u32, u64)> {
        let first = self.arrivals.first;
        (first != NONE).then(|| (first, self.nodes[first as usize].at))
    }

    /// The task of a key that came first; parked ones only if there is no other.
    pub(crate) fn oldest_of(&self, hash: u64) -> Option<u32> {
        let key = *self.by_hash.get(&hash)?;
        match self.keys[key as usize].line.first {
            NONE => {
                let mut nodes = self.nodes.iter();
                let found = nodes.find(|(_, node)| node.key == key);
                found.map(|(index, _)| index as u32)
            }
            first => Some(first),
        }
    }

    /// Looks at the next few tasks that no sweep has looked at. True while there may be more.
    pub(crate) fn sweep_new(&mut self, most: usize, mut look: impl FnMut(&SlotRef)) -> bool {
        for _ in 0..most {
            let Some(node) = self.nodes.get(self.unswept as usize) else {
                return false;
            };
            look(&node.task);
            self.unswept = node.arrival.after;
        }
        self.unswept != NONE
    }

    /// The ring closes up its holes: `moved` is told how far entries before a position have been moved to.
    pub(crate) fn renumber(&mut self, cursor: &mut Renumber, from: u64, to: u64) {
        while cursor.next != NONE && self.nodes[cursor.next as usize].at <= from {
            let node = &mut self.nodes[cursor.next as usize];
            node.at = to;
            cursor.next = node.arrival.after;
        }
    }

    pub(crate) fn renumbering(&self) -> Renumber {
        Renumber {
            next: self.arrivals.first,
        }
    }
}

/// How far a renumbering has come.
pub(crate) struct Renumber {
    next: u32,
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::clock::NO_MILLIS;
    use crate::error::Outcome;
    use crate::slot::VTable;
    use std::collections::{BTreeMap, VecDeque};

    static NOTHING: VTable = VTable {
        run: |_, _| Outcome::Succeeded,
        drop_callback: |_| (),
        drop_value: |_, _| (),
        needs_drop: false,
        value_needs_drop: false,
        bare: None,
        callback_name: || "nothing",
        gives: std::any::TypeId::of::<((), ())>,
        callback_type: std::any::TypeId::of::<()>,
        carries: false,
    };

    fn task() -> SlotRef {
        // SAFETY: a callback without data needs no payload; the reference is this handle's.
        unsafe { SlotRef::from_raw(Slot::new(&NOTHING, 0, NO_MILLIS, None, None, 1)) }
    }

    /// Ends a task that has been taken out.
    fn end(task: &SlotRef) {
        assert!(task.win().is_some());
        task.publish(Outcome::Cancelled, None, true, false);
    }

    /// What a key is, done simply.
    #[derive(Default)]
    struct Simple {
        line: VecDeque<usize>,
        running: usize,
    }

    /// Adds, takes, removals from the middle and returns, at random, against what they should do: order of arrival within a
    /// key, never more than the limit, every key that could run is there, and nothing is left in the end.
    #[test]
    fn p05_keys_do_what_a_simple_model_does() {
        let mut random = 88_172_645_463_325_252_u64;
        let mut roll = move |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        for limit in [1, 2, UNLIMITED] {
            let mut keyed = Keyed::new(limit);
            let mut simple: BTreeMap<u64, Simple> = BTreeMap::new();
            let mut queued: BTreeMap<usize, (SlotRef, u64)> = BTreeMap::new();
            let mut running: Vec<(u32, u64)> = Vec::new();
            for step in 0..20_000usize {
                // From filling to draining and back.
                let filling = step / 1000 % 2 == 0;
                match roll(if filling { 6 } else { 4 }) {
                    0 => {
                        if let Some((taken, key)) = keyed.take() {
                            let (&id, &(_, hash)) = queued
                                .iter()
                                .find(|(_, (task, _))| task.as_ptr() == taken.as_ptr())
                                .unwrap();
                            end(&taken);
                            queued.remove(&id);
                            let of_key = simple.get_mut(&hash).unwrap();
                            assert_eq!(of_key.line.pop_front(), Some(id), "in order of arrival");
                            of_key.running += 1;
                            assert!(of_key.running <= limit);
                            running.push((key, hash));
                        } else {
                            let stuck = |s: &Simple| s.line.is_empty() || s.running >= limit;
                            assert!(simple.values().all(stuck), "one could be started");
                        }
                    }
                    1 if !running.is_empty() => {
                        let (key, hash) = running.swap_remove(roll(running.len() as u64) as usize);
                        keyed.returned(key);
                        simple.get_mut(&hash).unwrap().running -= 1;
                    }
                    2 if !queued.is_empty() => {
                        let at = roll(queued.len() as u64) as usize;
                        let id = *queued.keys().nth(at).unwrap();
                        let (task, hash) = queued.remove(&id).unwrap();
                        let index = keyed.find(&task).expect("it is there");
                        end(&keyed.remove(index));
                        simple.get_mut(&hash).unwrap().line.retain(|&other| other != id);
                    }
                    _ if filling => {
                        let (task, hash) = (task(), roll(12));
                        keyed.add(task.clone(), Some(hash), false, 0);
                        queued.insert(step, (task, hash));
                        simple.entry(hash).or_default().line.push_back(step);
                    }
                    _ => {}
                }
                simple.retain(|_, s| !s.line.is_empty() || s.running != 0);
                assert_eq!(keyed.keys(), simple.len(), "keys without tasks are gone");
                let ready = simple.values().filter(|s| !s.line.is_empty() && s.running < limit);
                assert_eq!(keyed.ready(), ready.count());
                for (hash, s) in &simple {
                    assert_eq!(keyed.queued(*hash), s.line.len());
                }
                let oldest = keyed.oldest().map(|(index, _)| index);
                let first = queued.values().next().and_then(|(task, _)| keyed.find(task));
                assert_eq!(oldest, first, "the one that came first");
            }
            for (_, (task, _)) in queued {
                let index = keyed.find(&task).expect("it is there");
                end(&keyed.remove(index));
            }
            running.into_iter().for_each(|(key, _)| keyed.returned(key));
            assert_eq!((keyed.keys(), keyed.ready()), (0, 0));
        }
    }
}
