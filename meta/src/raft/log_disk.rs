//! [`LogDisk`]: where the Raft log lies, and its RocksDB implementation in `raft/`.
//!
//! Column family `log`: big-endian index → [`EntryRecord`]; `default`: `vote`, `committed`,
//! `purged`. Writes reach the write-ahead log unsynced and in order; [`LogDisk::sync`] makes all
//! of them durable at once.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use rocksdb::{
    ColumnFamilyDescriptor, DB, DBRecoveryMode, IteratorMode, Options, ReadOptions, WriteBatch, WriteOptions,
};
use tokio::sync::watch;

use super::record::{self, EntryRecord, LogIdRecord, RecordError, VoteRecord};
use super::sync_mark::SyncMark;
use crate::store::Figures;

/// What went wrong below the Raft log. Every one of them stops the server.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// RocksDB refused.
    #[error("the Raft log could not {action}")]
    Disk {
        /// What was being done.
        action: &'static str,
        /// RocksDB's reason.
        source: rocksdb::Error,
    },
    /// A stored record does not decode.
    #[error("the Raft log's record {row} is damaged")]
    Damaged {
        /// The row: an index, or 0 for the rows of the default family.
        row: u64,
        /// Why it does not decode.
        source: RecordError,
    },
    /// An entry that should be there is not.
    #[error("the Raft log lacks entry {index}")]
    Hole {
        /// The index.
        index: u64,
    },
    /// The database lacks a column family: it is not a Raft log.
    #[error("the directory holds no Raft log")]
    Foreign,
    /// Less could be read back than was fsynced: votes or acknowledged entries are lost.
    #[error(
        "the Raft log is damaged: {synced} writes had been made durable, only {found} could be read back; \
         this server must not go on with what is left"
    )]
    Lost {
        /// Writes that an fsync had covered.
        synced: u64,
        /// Writes that are there.
        found: u64,
    },
    /// The file that says how far the log was fsynced failed.
    #[error("the Raft log's file SYNCED failed")]
    Mark(#[source] io::Error),
    /// An fsync failed before: what the disk holds is not known, and no further one is tried.
    #[error("an earlier fsync of the Raft log failed")]
    Broken,
}

impl From<LogError> for std::io::Error {
    fn from(error: LogError) -> Self {
        Self::other(error)
    }
}

/// What a log starts with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStart {
    /// The last vote that was saved.
    pub vote: Option<VoteRecord>,
    /// The last committed entry that was saved.
    pub committed: Option<LogIdRecord>,
    /// The last entry that was purged.
    pub purged: Option<LogIdRecord>,
    /// The last entry that is there.
    pub last: Option<LogIdRecord>,
}

/// Where the Raft log lies. Writes take effect in the order of the calls and are durable after
/// the next [`LogDisk::sync`]; they can be read at once.
pub trait LogDisk: Send + Sync + 'static {
    /// Reads what a start needs.
    ///
    /// # Errors
    /// [`LogError`].
    fn load(&self) -> Result<LogStart, LogError>;

    /// Writes encoded entries, in order of their indexes.
    ///
    /// # Errors
    /// [`LogError`]; the server must stop.
    fn append(&self, entries: &[(u64, Bytes)]) -> Result<(), LogError>;

    /// Drops every entry from `from` on.
    ///
    /// # Errors
    /// [`LogError`].
    fn truncate(&self, from: u64) -> Result<(), LogError>;

    /// Drops every entry up to `upto`, inclusive, and remembers it, durably when this returns.
    ///
    /// # Errors
    /// [`LogError`]; the server must stop.
    fn purge(&self, upto: LogIdRecord) -> Result<(), LogError>;

    /// Saves the vote.
    ///
    /// # Errors
    /// [`LogError`].
    fn save_vote(&self, vote: &VoteRecord) -> Result<(), LogError>;

    /// Saves the last committed entry.
    ///
    /// # Errors
    /// [`LogError`].
    fn save_committed(&self, committed: Option<LogIdRecord>) -> Result<(), LogError>;

    /// The entries of `range` that are there, in order, until their bytes exceed `bytes_max`; the
    /// first one is given whatever its size.
    ///
    /// # Errors
    /// [`LogError`].
    fn read(&self, range: Range<u64>, bytes_max: usize) -> Result<Vec<EntryRecord>, LogError>;

    /// Makes everything written before durable.
    ///
    /// # Errors
    /// [`LogError`]: nothing may be trusted to be durable any more; never retried.
    fn sync(&self) -> Result<(), LogError>;

    /// What the database below says of itself, where there is one.
    fn figures(&self) -> Figures {
        Figures::default()
    }
}

const LOG: &str = "log";
const VOTE: &[u8] = b"vote";
const COMMITTED: &[u8] = b"committed";
const PURGED: &[u8] = b"purged";

/// The file beside RocksDB's that says how far the log was fsynced.
const MARK: &str = "SYNCED";

/// The log in a RocksDB of its own.
///
/// RocksDB's write-ahead log is replayed up to the first record that is torn or damaged
/// (`PointInTime`). That is right for what no fsync covered: after a loss of power the tail may end
/// in half a record, in zeros, or in pages written out of order, none of which may stop a start.
/// It is wrong for what an fsync did cover, and RocksDB cannot tell the two apart: its other modes
/// refuse an honest torn tail (`AbsoluteConsistency`; `TolerateCorruptedTailRecords` for all tails
/// but short ones), and the tolerant one still drops a last block whose length field has rotted.
/// So after each fsync the sequence number that it covered is written to the file `SYNCED`, and a
/// start that reads back less is refused.
///
/// Recognised: any damage to or loss of write-ahead logs below the mark, in the middle as at the end.
/// Not recognised: `SYNCED` itself is not fsynced after each fsync, since that would double their
/// cost. It outlives the process at once and the power as soon as the kernel has written it back
/// (within some 30 s by default): damage to writes that were fsynced later than the mark which
/// survived a loss of power looks like a torn tail. Damage to table files is found by their own
/// checksums when they are read.
pub struct RocksLog {
    db: DB,
    mark: SyncMark,
    // Set for good by the first failed fsync.
    broken: AtomicBool,
    // Dropped after the database, so that who waits for it finds the directory free.
    closed: watch::Sender<()>,
}

fn options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_write_buffer_size(32 << 20);
    options.set_max_write_buffer_number(4);
    options.set_max_total_wal_size(128 << 20);
    options.set_max_background_jobs(2);
    options.set_max_open_files(256);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(8 << 20);
    options.set_compression_type(rocksdb::DBCompressionType::Lz4);
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options
}

fn failed(action: &'static str) -> impl FnOnce(rocksdb::Error) -> LogError {
    move |source| LogError::Disk { action, source }
}

impl RocksLog {
    /// Opens the log in `dir`, or makes an empty one.
    ///
    /// # Errors
    /// [`LogError`]; `Lost` when less can be read back than was fsynced.
    pub fn open(dir: &Path) -> Result<Self, LogError> {
        let families = ["default", LOG].map(|name| ColumnFamilyDescriptor::new(name, options()));
        let db = DB::open_cf_descriptors(&options(), dir, families).map_err(failed("open"))?;
        let (mark, synced) = SyncMark::open(&dir.join(MARK)).map_err(LogError::Mark)?;
        let found = db.latest_sequence_number();
        if found < synced {
            return Err(LogError::Lost { synced, found });
        }
        Ok(Self { db, mark, broken: AtomicBool::new(false), closed: watch::Sender::new(()) })
    }

    /// Ends (with an error) once the database is closed.
    #[must_use]
    pub fn closed(&self) -> watch::Receiver<()> {
        self.closed.subscribe()
    }

    fn entries(&self) -> Result<&rocksdb::ColumnFamily, LogError> {
        self.db.cf_handle(LOG).ok_or(LogError::Foreign)
    }

    fn row<T: bincode::Decode<()>>(&self, key: &[u8]) -> Result<Option<T>, LogError> {
        let bytes = self.db.get(key).map_err(failed("read a row"))?;
        bytes.map(|b| record::decode(&b).map_err(|source| LogError::Damaged { row: 0, source })).transpose()
    }

    fn write(&self, batch: WriteBatch, action: &'static str) -> Result<(), LogError> {
        let mut unsynced = WriteOptions::default();
        unsynced.set_sync(false);
        self.db.write_opt(batch, &unsynced).map_err(failed(action))
    }
}

fn key_of(index: u64) -> [u8; 8] {
    index.to_be_bytes()
}

fn index_of(key: &[u8]) -> Result<u64, LogError> {
    key.try_into().map(u64::from_be_bytes).map_err(|_| LogError::Foreign)
}

fn decode_entry(key: &[u8], value: &[u8]) -> Result<EntryRecord, LogError> {
    let row = index_of(key)?;
    record::decode(value).map_err(|source| LogError::Damaged { row, source })
}

impl LogDisk for RocksLog {
    fn figures(&self) -> Figures {
        Figures::of(&self.db, ["default", LOG].into_iter().filter_map(|name| self.db.cf_handle(name)))
    }

    fn load(&self) -> Result<LogStart, LogError> {
        let mut newest = self.db.iterator_cf(self.entries()?, IteratorMode::End);
        let last = match newest.next() {
            None => None,
            Some(found) => {
                let (key, value) = found.map_err(failed("read its end"))?;
                Some(decode_entry(&key, &value)?.id)
            }
        };
        Ok(LogStart {
            vote: self.row(VOTE)?,
            committed: self.row::<Option<LogIdRecord>>(COMMITTED)?.flatten(),
            purged: self.row(PURGED)?,
            last,
        })
    }

    fn append(&self, entries: &[(u64, Bytes)]) -> Result<(), LogError> {
        let family = self.entries()?;
        let mut batch = WriteBatch::default();
        for (index, bytes) in entries {
            batch.put_cf(family, key_of(*index), bytes);
        }
        self.write(batch, "append")
    }

    fn truncate(&self, from: u64) -> Result<(), LogError> {
        let mut batch = WriteBatch::default();
        // The end of a range is exclusive, and no index ever reaches u64::MAX.
        batch.delete_range_cf(self.entries()?, key_of(from), key_of(u64::MAX));
        self.write(batch, "truncate")
    }

    fn purge(&self, upto: LogIdRecord) -> Result<(), LogError> {
        let family = self.entries()?;
        let mut batch = WriteBatch::default();
        batch.put(PURGED, record::encode(&upto));
        batch.delete_range_cf(family, key_of(0), key_of(upto.index.saturating_add(1)));
        self.write(batch, "purge")?;
        // Files are deleted durably at once: without the fsync, a loss of power could bring back an
        // older `purged` whose entries are gone.
        self.sync()?;
        // Whole files below the mark go at once; what is left goes with compaction.
        self.db.delete_file_in_range_cf(family, key_of(0), key_of(upto.index)).map_err(failed("purge"))
    }

    fn save_vote(&self, vote: &VoteRecord) -> Result<(), LogError> {
        let mut batch = WriteBatch::default();
        batch.put(VOTE, record::encode(vote));
        self.write(batch, "save a vote")
    }

    fn save_committed(&self, committed: Option<LogIdRecord>) -> Result<(), LogError> {
        let mut batch = WriteBatch::default();
        batch.put(COMMITTED, record::encode(&committed));
        self.write(batch, "save the committed index")
    }

    fn read(&self, range: Range<u64>, bytes_max: usize) -> Result<Vec<EntryRecord>, LogError> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let mut bounds = ReadOptions::default();
        bounds.set_iterate_lower_bound(key_of(range.start));
        bounds.set_iterate_upper_bound(key_of(range.end));
        let found = self.db.iterator_cf_opt(self.entries()?, bounds, IteratorMode::Start);
        let (mut entries, mut bytes): (Vec<EntryRecord>, usize) = (Vec::new(), 0);
        for row in found {
            let (key, value) = row.map_err(failed("read"))?;
            if !entries.is_empty() && bytes + value.len() > bytes_max {
                break;
            }
            bytes += value.len();
            let entry = decode_entry(&key, &value)?;
            let gap = entries.last().is_some_and(|before| before.id.index + 1 != entry.id.index);
            if gap || index_of(&key)? != entry.id.index {
                return Err(LogError::Hole { index: entry.id.index.saturating_sub(1) });
            }
            entries.push(entry);
        }
        Ok(entries)
    }

    fn sync(&self) -> Result<(), LogError> {
        if self.broken.load(Ordering::Acquire) {
            return Err(LogError::Broken);
        }
        // Taken before the fsync, which covers all that was written up to here.
        let covered = self.db.latest_sequence_number();
        let synced = self.db.flush_wal(true).map_err(failed("fsync"));
        let marked = synced.and_then(|()| self.mark.raise(covered).map_err(LogError::Mark));
        if marked.is_err() {
            self.broken.store(true, Ordering::Release);
        }
        marked
    }
}
