//! [`Backlog`]: the chunks that get further copies, the most endangered first.

use std::collections::{BTreeMap, BTreeSet};

use cairn_types::{ChunkId, Timestamp};

use crate::namespace::jobs::Waiting;

/// Chunks that are known at a time, at most. The queue in the state knows all; of more than these the
/// least endangered are looked for again later.
pub const KNOWN_MAX: usize = 65_536;

/// What is known of a chunk that gets copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// Nodes that live and have all of it.
    pub copies: usize,
    /// When it was opened.
    pub since: Timestamp,
    /// Its length in bytes.
    pub length: u64,
}

/// The chunks that get further copies, as far as the leader has looked.
#[derive(Debug, Default)]
pub struct Backlog {
    known: BTreeMap<ChunkId, Need>,
    /// Those of which there are the fewest copies first, of these the oldest.
    order: BTreeSet<(usize, Timestamp, ChunkId)>,
    bytes: u64,
    single: u64,
}

impl Backlog {
    /// Takes a chunk in, or what has changed of it.
    pub fn put(&mut self, chunk: ChunkId, need: Need) {
        self.put_within(chunk, need, KNOWN_MAX);
    }

    fn put_within(&mut self, chunk: ChunkId, need: Need, most: usize) {
        self.remove(chunk);
        if self.known.len() >= most {
            match self.order.last().copied() {
                Some(last) if last > (need.copies, need.since, chunk) => self.remove(last.2),
                _ => return,
            }
        }
        self.known.insert(chunk, need);
        self.order.insert((need.copies, need.since, chunk));
        self.bytes += need.length;
        self.single += u64::from(need.copies <= 1);
    }

    /// Takes a chunk out.
    pub fn remove(&mut self, chunk: ChunkId) {
        if let Some(need) = self.known.remove(&chunk) {
            self.order.remove(&(need.copies, need.since, chunk));
            self.bytes = self.bytes.saturating_sub(need.length);
            self.single = self.single.saturating_sub(u64::from(need.copies <= 1));
        }
    }

    /// Takes out the chunks that `gone` says are no longer to be copied, by their places in the queue.
    pub fn remove_gone(&mut self, gone: impl Fn(Waiting) -> bool) {
        let place = |(chunk, need): (&ChunkId, &Need)| Waiting { since: need.since, id: chunk.0 };
        let left: Vec<Waiting> = self.known.iter().map(place).filter(|place| gone(*place)).collect();
        left.into_iter().for_each(|place| self.remove(ChunkId(place.id)));
    }

    /// The chunks, the most endangered first.
    pub fn in_order(&self) -> impl Iterator<Item = ChunkId> {
        self.order.iter().map(|(_, _, chunk)| *chunk)
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> usize {
        self.known.len()
    }

    /// Their bytes, of one copy each.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Those of which one node that lives, or none, has a copy.
    #[must_use]
    pub fn single(&self) -> u64 {
        self.single
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(copies: usize, since: i64) -> Need {
        Need { copies, since: Timestamp(since), length: 100 }
    }

    fn order(backlog: &Backlog) -> Vec<u64> {
        backlog.in_order().map(|chunk| chunk.0).collect()
    }

    #[test]
    fn one_copy_comes_before_two_however_young_and_then_the_oldest() {
        let mut backlog = Backlog::default();
        backlog.put(ChunkId(1), need(2, 10));
        backlog.put(ChunkId(2), need(1, 90));
        backlog.put(ChunkId(3), need(2, 5));
        backlog.put(ChunkId(4), need(1, 80));
        assert_eq!(order(&backlog), [4, 2, 3, 1]);
        assert_eq!((backlog.count(), backlog.bytes(), backlog.single()), (4, 400, 2));
        backlog.put(ChunkId(3), need(1, 5));
        assert_eq!(order(&backlog), [3, 4, 2, 1], "it lost one more");
        backlog.remove(ChunkId(4));
        backlog.remove(ChunkId(4));
        backlog.remove_gone(|place| place == Waiting { since: Timestamp(10), id: 1 });
        assert_eq!(order(&backlog), [3, 2]);
        assert_eq!((backlog.count(), backlog.bytes(), backlog.single()), (2, 200, 2));
    }

    #[test]
    fn when_there_is_room_for_few_the_most_endangered_are_known() {
        let mut backlog = Backlog::default();
        for n in 1..=4 {
            backlog.put_within(ChunkId(n), need(2, 10), 3);
        }
        assert_eq!(order(&backlog), [1, 2, 3]);
        backlog.put_within(ChunkId(9), need(1, 99), 3);
        assert_eq!(order(&backlog), [9, 1, 2]);
        assert_eq!((backlog.bytes(), backlog.single()), (300, 1));
    }
}
