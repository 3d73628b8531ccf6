//! [`Recent`]: the rows that were read last, kept in memory for who reads the same ones again.
//!
//! Applying an entry reads a few rows that the entries around it read too: the counters, the
//! session, the directories of a path. A get of RocksDB costs some 1.5 µs even from its memtable,
//! one from here a tenth.

use std::cell::RefCell;
use std::collections::HashMap;

use super::{Change, KeyRange, Row, Rows, StoreFault, Table};

/// What a row costs beside its key and value, roughly.
const ROW_BYTES: usize = 96;

/// A reply of fewer bytes is kept until it is acknowledged, since it mostly is within a moment.
const SMALL_REPLY: usize = 1024;

/// Sessions whose last reply is known, at most.
const SESSIONS_MAX: usize = 4096;

type Kept = HashMap<Vec<u8>, Option<Vec<u8>>>;

/// Rows as they are in a store, and keys at which it has none, for its only writer: what is written
/// is told to [`Recent::note`]. The newest are kept, in two generations: when the young one has its
/// half of the bytes, the old one goes.
pub struct Recent {
    young: Vec<Kept>,
    old: Vec<Kept>,
    young_bytes: usize,
    bytes_max: usize,
    /// Of some sessions a key above which there is no reply: most requests are new, and their replies
    /// are looked for in vain.
    last_replies: HashMap<Vec<u8>, Vec<u8>>,
}

/// Whether a row is likely to be asked for again: events are not, nor what was not there, if it is
/// about to be made.
fn is_worth_keeping(table: Table, is_there: bool) -> bool {
    match table {
        Table::Events => false,
        Table::Nodes | Table::Places | Table::Replies => is_there,
        _ => true,
    }
}

/// Whether a row will be read though nobody has yet: a reply, when it is acknowledged.
fn will_be_read(change: &Change) -> bool {
    change.table == Table::Replies && change.value.as_ref().is_some_and(|value| value.len() <= SMALL_REPLY)
}

/// Whose a reply is: where its key begins.
fn session_of(reply: &[u8]) -> &[u8] {
    reply.get(..size_of::<u64>()).unwrap_or(reply)
}

fn empty() -> Vec<Kept> {
    Table::ALL.iter().map(|_| Kept::new()).collect()
}

fn row_bytes(key: &[u8], value: Option<&Vec<u8>>) -> usize {
    ROW_BYTES + key.len() + value.map_or(0, Vec::len)
}

impl Recent {
    /// Keeps nothing yet, and `bytes_max` of keys and values at most.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self { young: empty(), old: empty(), young_bytes: 0, bytes_max, last_replies: HashMap::new() }
    }

    /// Forgets all: the store is another one.
    pub fn clear(&mut self) {
        *self = Self::new(self.bytes_max);
    }

    fn get(&mut self, table: Table, key: &[u8]) -> Option<Option<Vec<u8>>> {
        if let Some(value) = self.young.get(table as usize)?.get(key) {
            return Some(value.clone());
        }
        let (key, value) = self.old.get_mut(table as usize)?.remove_entry(key)?;
        self.keep(table, key, value.clone());
        Some(value)
    }

    fn keep(&mut self, table: Table, key: Vec<u8>, value: Option<Vec<u8>>) {
        let size = row_bytes(&key, value.as_ref());
        if self.young_bytes + size > self.bytes_max / 2 {
            self.old = std::mem::replace(&mut self.young, empty());
            self.young_bytes = 0;
        }
        if size <= self.bytes_max / 2
            && let Some(rows) = self.young.get_mut(table as usize)
        {
            self.young_bytes += size;
            rows.insert(key, value);
        }
    }

    /// A change that the store has now. Rows that nobody has read are not kept for it.
    pub fn note(&mut self, change: &Change) {
        let generations = [&mut self.young, &mut self.old].into_iter();
        let mut rows = generations.filter_map(|generation| generation.get_mut(change.table as usize));
        // The bytes of what it replaces stay counted: the generation ends sooner for it.
        let known = rows.any(|rows| rows.remove(&change.key).is_some());
        drop(rows);
        if change.table == Table::Replies
            && change.value.is_some()
            && let Some(last) = self.last_replies.get_mut(session_of(&change.key))
            && *last < change.key
        {
            last.clone_from(&change.key);
        }
        if known && is_worth_keeping(change.table, change.value.is_some()) || will_be_read(change) {
            self.keep(change.table, change.key.clone(), change.value.clone());
        }
    }
}

/// A store's rows through what is [`Recent`] of them. Scans go to the store.
pub struct Remembered<'s> {
    base: &'s dyn Rows,
    recent: RefCell<&'s mut Recent>,
}

impl<'s> Remembered<'s> {
    /// `base`, whose every change since it was empty `recent` was told.
    #[must_use]
    pub fn new(base: &'s dyn Rows, recent: &'s mut Recent) -> Self {
        Self { base, recent: RefCell::new(recent) }
    }

    /// True when a reply's key is above all that its session has.
    fn is_new(&self, recent: &mut Recent, key: &[u8]) -> Result<bool, StoreFault> {
        let session = session_of(key);
        if let Some(last) = recent.last_replies.get(session) {
            return Ok(key > last.as_slice());
        }
        if recent.last_replies.len() >= SESSIONS_MAX {
            recent.last_replies.clear();
        }
        let all = KeyRange::prefix(session);
        let end = all.until.unwrap_or_else(|| [session, &[u8::MAX]].concat());
        let last = self.base.last_before(Table::Replies, &all.from, &end)?;
        let last = last.map_or_else(|| session.to_vec(), |(key, _)| key);
        let is_new = key > last.as_slice();
        recent.last_replies.insert(session.to_vec(), last);
        Ok(is_new)
    }
}

impl Rows for Remembered<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreFault> {
        let mut recent = self.recent.borrow_mut();
        if let Some(value) = recent.get(table, key) {
            return Ok(value);
        }
        if table == Table::Replies && self.is_new(&mut recent, key)? {
            return Ok(None);
        }
        let value = self.base.get(table, key)?;
        if is_worth_keeping(table, value.is_some()) {
            recent.keep(table, key.to_vec(), value.clone());
        }
        Ok(value)
    }

    fn scan(&self, table: Table, range: &KeyRange, limit: usize) -> Result<Vec<Row>, StoreFault> {
        self.base.scan(table, range, limit)
    }

    fn last_before(&self, table: Table, from: &[u8], before: &[u8]) -> Result<Option<Row>, StoreFault> {
        self.base.last_before(table, from, before)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::{MemoryStore, Store, WriteBatch};

    const BYTES_MAX: usize = 4096;

    fn bytes_kept(recent: &Recent) -> usize {
        let all = recent.young.iter().chain(&recent.old).flatten();
        all.map(|(key, value)| row_bytes(key, value.as_ref())).sum()
    }

    proptest! {
        #[test]
        fn what_is_remembered_is_what_the_store_has(
            turns in prop::collection::vec((any::<bool>(), 0usize..4, 0u8..40, 0usize..600), 1..300)
        ) {
            let tables = [Table::Nodes, Table::Places, Table::Links, Table::Replies];
            let store = MemoryStore::default();
            let mut recent = Recent::new(BYTES_MAX);
            for (is_write, table, key, length) in turns {
                // Of three sessions, and of one whose keys are too short to be any's.
                let key = [vec![key % 4; if key % 4 == 3 { 0 } else { 8 }], vec![key]].concat();
                let table = tables[table];
                if is_write {
                    let value = (length > 0).then(|| vec![1; length]);
                    let mut batch = WriteBatch::default();
                    batch.push(Change { table, key, value });
                    batch.changes().iter().for_each(|change| recent.note(change));
                    store.write(batch).unwrap();
                } else {
                    let read = Remembered::new(&store, &mut recent).get(table, &key).unwrap();
                    prop_assert_eq!(read, store.get(table, &key).unwrap());
                }
                prop_assert!(bytes_kept(&recent) <= BYTES_MAX);
            }
        }
    }

    #[test]
    fn what_was_read_is_not_asked_for_again_until_there_is_no_room() {
        let (store, other) = (MemoryStore::default(), MemoryStore::default());
        let mut batch = WriteBatch::default();
        batch.put(Table::Xattrs, b"k".as_slice(), b"v".as_slice());
        store.write(batch).unwrap();
        let mut recent = Recent::new(BYTES_MAX);
        let read = |base: &MemoryStore, recent: &mut Recent, key: &[u8]| {
            Remembered::new(base, recent).get(Table::Xattrs, key).unwrap()
        };
        assert_eq!(read(&store, &mut recent, b"k"), Some(b"v".to_vec()));
        assert_eq!(read(&store, &mut recent, b"none"), None);
        // Another store beneath shows which reads reach it.
        assert_eq!(read(&other, &mut recent, b"k"), Some(b"v".to_vec()));
        for n in 0..100u64 {
            read(&other, &mut recent, &n.to_be_bytes());
        }
        assert_eq!(read(&other, &mut recent, b"k"), None, "it went for newer ones");
    }
}
