//! The store under the state machine: ordered tables of bytes.
//!
//! [`memory`] is for tests and models, [`rocks`] is the real one; one suite runs on both. Only this
//! folder and `raft/` know RocksDB.

pub mod batch;
mod figures;
mod iteration;
pub mod memory;
pub mod recent;
pub mod rocks;
#[cfg(test)]
mod suite_tests;
pub mod table;
pub mod txn;

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

pub use batch::{Change, WriteBatch};
pub use figures::Figures;
pub use iteration::{compacted_bytes, iteration_rate};
pub use memory::MemoryStore;
pub use recent::{Recent, Remembered};
pub use rocks::RocksStore;
pub use table::Table;
pub use txn::Txn;

/// The store failed. Nothing can be said about the state any more: the server stops.
#[derive(Debug, thiserror::Error)]
pub enum StoreFault {
    /// The database refused or its disk failed.
    #[error("the state database failed")]
    Database(#[source] Box<dyn Error + Send + Sync>),
    /// A directory or file of the database could not be made or read.
    #[error("a file of the state database failed")]
    File(#[from] std::io::Error),
    /// A table that this build needs is not in the database.
    #[error("the state database has no table {0:?}")]
    NoTable(Table),
}

/// A row: its key and its value.
pub type Row = (Vec<u8>, Vec<u8>);

/// Keys from `from` (inclusive) up to `until` (exclusive; `None`: to the table's end).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRange {
    /// The first key that may be answered.
    pub from: Vec<u8>,
    /// The first key that may not.
    pub until: Option<Vec<u8>>,
}

impl KeyRange {
    /// All keys that start with `prefix`.
    #[must_use]
    pub fn prefix(prefix: &[u8]) -> Self {
        Self { from: prefix.to_vec(), until: after_prefix(prefix) }
    }

    /// The keys that start with `prefix` and are greater than `key`.
    #[must_use]
    pub fn prefix_after(prefix: &[u8], key: &[u8]) -> Self {
        let mut from = key.to_vec();
        from.push(0);
        Self { from: from.max(prefix.to_vec()), until: after_prefix(prefix) }
    }

    /// The keys that start with `prefix`, from `key` on.
    #[must_use]
    pub fn prefix_from(prefix: &[u8], key: &[u8]) -> Self {
        Self { from: key.to_vec().max(prefix.to_vec()), until: after_prefix(prefix) }
    }
}

/// The first key after all that start with `prefix`; `None` when there is none.
fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let kept = prefix.iter().rposition(|b| *b != u8::MAX)?;
    let mut end = prefix[..=kept].to_vec();
    end[kept] += 1;
    Some(end)
}

/// Reads of rows, from one point in time in a [`StoreSnapshot`] and of the newest state otherwise.
pub trait Rows {
    /// The value at `key`.
    ///
    /// # Errors
    /// [`StoreFault`] when the store failed.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreFault>;

    /// The first `limit` rows of `range`, in key order.
    ///
    /// # Errors
    /// [`StoreFault`] when the store failed.
    fn scan(&self, table: Table, range: &KeyRange, limit: usize) -> Result<Vec<Row>, StoreFault>;

    /// The row with the greatest key in `[from, before)`.
    ///
    /// # Errors
    /// [`StoreFault`] when the store failed.
    fn last_before(&self, table: Table, from: &[u8], before: &[u8]) -> Result<Option<Row>, StoreFault>;

    /// Shows the rows of `range`, in key order, until `each` answers false: a scan without a copy of
    /// what it passes, where the store can. `caching` says whether what is read off the disk for it is
    /// kept in memory.
    ///
    /// # Errors
    /// [`StoreFault`] when the store failed.
    fn visit(
        &self,
        table: Table,
        range: &KeyRange,
        _caching: Caching,
        each: &mut Visitor<'_>,
    ) -> Result<(), StoreFault> {
        let mut left = range.clone();
        loop {
            let rows = self.scan(table, &left, VISITED_AT_ONCE)?;
            for (key, value) in &rows {
                if !each(key, value) {
                    return Ok(());
                }
            }
            match rows.into_iter().nth(VISITED_AT_ONCE - 1) {
                Some((key, _)) => left.from = [key.as_slice(), &[0]].concat(),
                None => return Ok(()),
            }
        }
    }
}

/// Rows that [`Rows::visit`] copies at once, where the store cannot do without.
const VISITED_AT_ONCE: usize = 1024;

/// Whether a store keeps in memory what it reads off the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caching {
    /// It does: it is likely to be read again.
    Fill,
    /// It uses what is there and adds nothing: a long read must not wash out what others need.
    Bypass,
}

/// Is shown a row's key and value; false ends it.
pub type Visitor<'v> = dyn FnMut(&[u8], &[u8]) -> bool + 'v;

/// The state at one point in time.
pub trait StoreSnapshot: Rows + Send + Sync + 'static {}

/// A shared [`StoreSnapshot`].
pub type Snapshot = Arc<dyn StoreSnapshot>;

/// A store that can be written.
pub trait Store: Rows + Send + Sync + 'static {
    /// Writes all of `batch` at once. Durable only after the store's own flush: the Raft log is
    /// what replays the rest.
    ///
    /// # Errors
    /// [`StoreFault`] when the store failed; nothing of the batch is seen then.
    fn write(&self, batch: WriteBatch) -> Result<(), StoreFault>;

    /// The state as it is now, untouched by later writes.
    fn snapshot(&self) -> Snapshot;
}

/// A store that outlives its process: batches reach the disk wholly and in their order, those before
/// the last [`DurableStore::flush`] for certain, later ones perhaps.
pub trait DurableStore: Store {
    /// Makes all that was written durable. What was written after it began may be missing.
    ///
    /// # Errors
    /// [`StoreFault`] when the disk failed.
    fn flush(&self) -> Result<(), StoreFault>;

    /// Makes a durable copy of the state in `dir`, which must not exist.
    ///
    /// # Errors
    /// [`StoreFault`] when the disk failed or `dir` exists.
    fn checkpoint(&self, dir: &Path) -> Result<(), StoreFault>;

    /// What the database says of itself, for the metrics.
    fn figures(&self) -> Figures;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_its_successor() {
        assert_eq!(after_prefix(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(after_prefix(&[1, 255, 255]), Some(vec![2]));
        assert_eq!(after_prefix(&[255, 255]), None);
        assert_eq!(after_prefix(b""), None);
    }
}
