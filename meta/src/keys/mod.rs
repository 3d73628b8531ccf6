//! The state's rows, one file a record: this folder is the schema.
//!
//! Keys are big-endian, so that their order is meaning. Values are the codec's: a format byte, then
//! bincode. docs/FORMAT.md shows the bytes.
//!
//! ```text
//! nodes     parent, name            → inode (primary link) | reference (further hard link)
//! places    ino                     → parent, name of the primary link
//! links     ino, parent, name       → (further hard link)
//! orphans   ino                     → inode, unlinked: held, or its rows not all gone
//! denials   session                 → up to where it has denied to hold unlinked files
//! holds     part, number, number    → (who has denied what, what is undecided, who holds what)
//! xattrs    ino, name               → value of an extended attribute
//! xattrs    ino, ""                 → how many they are, their bytes
//! extents   content, file offset    → length, source
//! contents  ino                     → its contents, when they are not its own number alone
//! detached  content                 → from where on its extents are no file's
//! chunks    chunk                   → state, replicas, owner, seal, live bytes, place in S3
//! queues    queue, order, id        → (chunks and packs that wait for something)
//! held      session, chunk          → (shared chunks of a session)
//! spares    chunk of an open tail   → the chunk that is to follow it
//! packs     pack                    → key, length, live bytes
//! mounts    mount                   → root, bucket, prefix
//! keys      mount, key              → ino, ETag, size
//! imports   ino of a directory      → prefix, when it was read
//! mount_modes mount                 → how it is written to, what its endpoint can do
//! mount_counts mount                → how much there is of it
//! homes     ino                     → key of the object that holds its bytes, once it was pending
//! pending   mount, ino              → what of it the bucket does not hold as it is to
//! pending_since mount, time, ino    → (the same by age)
//! surplus   mount, key              → object to be deleted
//! moves     mount, prefix           → directory that left it
//! claims    mount, key              → intent that uses it
//! readings  mount, prefix, import   → (it is being read)
//! shields   import, key             → (it is passed over)
//! pictures  intent                  → what is to be written, as it was when the intent was made
//! keeps     ino                     → bytes that such a picture names and the file does not
//! conflicts mount, number           → what somebody else changed under our hands
//! disks     disk                    → data node
//! removed   disk                    → data node that will never return
//! sessions  session                 → client, acknowledged sequence
//! credentials session               → user and groups, of a session that is checked
//! replies   session, sequence       → kept reply
//! writers   ino, writer             → last decided sequence
//! writing   writer, ino             → (the same, turned round)
//! intents   intent                  → work outside
//! events    log index, number       → what that entry changed
//! locks     ino, kind, byte, owner  → how far, shared or exclusive, fencing number
//! lock_waits ino, kind, wait        → who waits for what
//! lockers   session                 → how many locks it has and waits for, and which
//! counters  ""                      → identity, time, next ids, counts
//! counters  "contents"              → how many contents were made
//! counters  "granted"               → bytes granted to open chunks
//! counters  "events"                → which events are kept
//! counters  "trees"                 → removed trees that are not all gone
//! trees     ino                     → directory, removed with all below it
//! branches  ino, place in its stack → directory of a removed tree that is being emptied
//! counters  "load"            → the load of a dump that is under way
//! counters  "servers"               → metadata servers ever added or removed
//! counters  "level"               → the feature level, once it is above the first
//! counters  "repaired " what        → the entry that last mended it
//! ```

pub mod chunks;
pub mod claims;
pub mod conflicts;
pub mod contents;
pub mod counters;
pub mod credentials;
pub mod disks;
#[cfg(test)]
mod entry_golden_tests;
#[cfg(test)]
pub(crate) mod entry_samples;
pub mod events;
pub mod extents;
#[cfg(test)]
mod golden_tests;
pub mod held;
pub mod holds;
pub mod homes;
pub mod imports;
pub mod intents;
pub mod levels;
pub mod links;
pub mod loads;
pub mod locks;
pub mod mount_counts;
pub mod mount_modes;
pub mod mounts;
pub mod moves;
pub mod nodes;
pub mod objects;
pub mod orphans;
pub mod packs;
pub mod pending;
pub mod pictures;
pub mod places;
pub mod queues;
pub mod readings;
pub mod removed;
#[cfg(test)]
mod round_trip_tests;
#[cfg(test)]
pub(crate) mod samples;
pub mod servers;
pub mod sessions;
pub mod spares;
pub mod surplus;
pub mod trees;
pub mod writers;
pub mod xattrs;

use bincode::{Decode, Encode};
use cairn_types::codec;

use crate::store::{KeyRange, Rows, StoreFault, Table, Txn};

/// The state could not be read: the server stops, since it may differ from the others.
#[derive(Debug, thiserror::Error)]
pub enum RowFault {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFault),
    /// A row's bytes are no such record, or rows contradict each other.
    #[error("a row of {table:?} is damaged (key {key:02x?})")]
    Damaged {
        /// The row's table.
        table: Table,
        /// The row's key.
        key: Vec<u8>,
    },
}

/// A record that is stored as a row's value.
pub trait Record: Encode + Decode<()> {
    /// Its table.
    const TABLE: Table;
    /// Its format byte.
    const FORMAT: u8 = 1;

    /// The row's value.
    fn to_bytes(&self) -> Vec<u8> {
        codec::encode(Self::FORMAT, self)
    }

    /// Reads the value of the row at `key`.
    ///
    /// # Errors
    /// [`RowFault::Damaged`] for bytes that are no such record.
    fn from_bytes(key: &[u8], bytes: &[u8]) -> Result<Self, RowFault> {
        codec::decode(Self::FORMAT, bytes)
            .map_err(|_| RowFault::Damaged { table: Self::TABLE, key: key.to_vec() })
    }
}

/// Reads the record at `key`.
///
/// # Errors
/// [`RowFault`] when the store failed or the row is damaged.
pub fn get<R: Record>(rows: &(impl Rows + ?Sized), key: &[u8]) -> Result<Option<R>, RowFault> {
    rows.get(R::TABLE, key)?.map(|bytes| R::from_bytes(key, &bytes)).transpose()
}

/// The first `limit` records of a range with their keys.
///
/// # Errors
/// [`RowFault`] when the store failed or a row is damaged.
pub fn scan<R: Record>(
    rows: &(impl Rows + ?Sized),
    range: &KeyRange,
    limit: usize,
) -> Result<Vec<(Vec<u8>, R)>, RowFault> {
    let found = rows.scan(R::TABLE, range, limit)?;
    found.into_iter().map(|(k, v)| R::from_bytes(&k, &v).map(|record| (k, record))).collect()
}

/// Writes the record at `key`.
pub fn put<R: Record>(txn: &mut Txn<'_>, key: Vec<u8>, record: &R) {
    txn.put(R::TABLE, key, record.to_bytes());
}

/// The value of rows that say all in their key.
pub const PRESENT: &[u8] = &[1];

/// A big-endian number at `at` in a key.
///
/// # Errors
/// [`RowFault::Damaged`] when the key is too short.
pub fn u64_at(table: Table, key: &[u8], at: usize) -> Result<u64, RowFault> {
    key.get(at..at + 8)
        .and_then(|b| b.try_into().ok())
        .map(u64::from_be_bytes)
        .ok_or_else(|| RowFault::Damaged { table, key: key.to_vec() })
}
