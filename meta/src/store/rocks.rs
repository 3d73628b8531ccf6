//! [`RocksStore`]: the state database.
//!
//! It has no log of its own: what a crash takes is applied again from the Raft log. Column families
//! are flushed together (atomic flush), so that the rows and the last applied index in
//! [`Table::Meta`] always fit each other.

use std::mem::ManuallyDrop;
use std::path::Path;
use std::sync::Arc;

use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BlockBasedOptions, BottommostLevelCompaction, Cache, ColumnFamily, ColumnFamilyDescriptor,
    CompactOptions, DB, DBCompressionType, DBRawIteratorWithThreadMode, Direction, FlushOptions,
    IteratorMode, Options, ReadOptions, WriteOptions,
};

use super::{
    Caching, DurableStore, Figures, KeyRange, Row, Rows, Snapshot, Store, StoreFault, StoreSnapshot, Table,
    Visitor, WriteBatch,
};
use crate::slow;

/// Bytes of memory that a store needs at the least.
const MEMORY_BYTES_MIN: usize = 16 << 20;

fn fault(error: rocksdb::Error) -> StoreFault {
    StoreFault::Database(Box::new(error))
}

/// A store in RocksDB. Cheap to clone: clones share the database.
#[derive(Clone)]
pub struct RocksStore {
    db: Arc<DB>,
}

impl RocksStore {
    /// Opens the database in `dir`, made if absent. Memtables and the block cache together stay
    /// within `memory_bytes` (16 MiB at least).
    ///
    /// # Errors
    /// [`StoreFault`] when the directory cannot be used or its files are damaged.
    pub fn open(dir: &Path, memory_bytes: usize) -> Result<Self, StoreFault> {
        std::fs::create_dir_all(dir)?;
        let memory = memory_bytes.max(MEMORY_BYTES_MIN);
        let memtables = memory / 4;
        let cache = Cache::new_lru_cache(memory - memtables);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_atomic_flush(true);
        options.set_db_write_buffer_size(memtables);
        options.set_max_open_files(512);
        options.set_max_background_jobs(2);
        options.set_keep_log_file_num(4);
        options.set_max_total_wal_size(1 << 20);
        let families = Table::ALL
            .iter()
            .map(|table| ColumnFamilyDescriptor::new(table.name(), table_options(*table, &cache, memtables)));
        let db = DB::open_cf_descriptors(&options, dir, families).map_err(fault)?;
        Ok(Self { db: Arc::new(db) })
    }

    /// Writes all rows once more, without those that were replaced or deleted. Durable when it returns.
    ///
    /// # Errors
    /// [`StoreFault`] when the disk failed.
    pub fn compact(&self) -> Result<(), StoreFault> {
        self.flush()?;
        let mut options = CompactOptions::default();
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        for table in Table::ALL {
            let all: (Option<&[u8]>, Option<&[u8]>) = (None, None);
            self.db.compact_range_cf_opt(family(&self.db, *table)?, all.0, all.1, &options);
        }
        Ok(())
    }
}

/// The part of a memtable's bytes that its filter of keys takes, in the tables that are often asked for
/// what is not there: a name, or a reply, that is about to be made.
const MEMTABLE_FILTER: f64 = 0.01;

fn table_options(table: Table, cache: &Cache, memtables: usize) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_block_size(16 << 10);
    blocks.set_bloom_filter(10.0, false);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    blocks.set_format_version(5);
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(memtables);
    options.set_level_compaction_dynamic_level_bytes(true);
    if matches!(table, Table::Nodes | Table::Replies) {
        options.set_memtable_whole_key_filtering(true);
        options.set_memtable_prefix_bloom_ratio(MEMTABLE_FILTER);
    }
    options
}

fn family(db: &DB, table: Table) -> Result<&ColumnFamily, StoreFault> {
    db.cf_handle(table.name()).ok_or(StoreFault::NoTable(table))
}

fn collect(
    rows: impl Iterator<Item = Result<(Box<[u8]>, Box<[u8]>), rocksdb::Error>>,
    limit: usize,
) -> Result<Vec<Row>, StoreFault> {
    rows.take(limit).map(|row| row.map(|(k, v)| (k.into_vec(), v.into_vec())).map_err(fault)).collect()
}

fn until(range: &KeyRange) -> ReadOptions {
    let mut options = ReadOptions::default();
    if let Some(until) = &range.until {
        options.set_iterate_upper_bound(until.clone());
    }
    options
}

fn not_below(from: &[u8], before: &[u8]) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(from);
    options.set_iterate_upper_bound(before);
    options
}

fn visit(
    mut rows: DBRawIteratorWithThreadMode<'_, DB>,
    range: &KeyRange,
    each: &mut Visitor<'_>,
) -> Result<(), StoreFault> {
    rows.seek(&range.from);
    while let Some((key, value)) = rows.item() {
        if !each(key, value) {
            return Ok(());
        }
        rows.next();
    }
    rows.status().map_err(fault)
}

/// The rows of a database, or of a snapshot of one, which have the same calls without a trait for them.
macro_rules! rows_of {
    ($type:ty, $source:ident) => {
        impl Rows for $type {
            fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreFault> {
                let family = family(&self.db, table)?;
                slow::store_read("get", table.name(), || self.$source.get_cf(family, key)).map_err(fault)
            }

            fn scan(&self, table: Table, range: &KeyRange, limit: usize) -> Result<Vec<Row>, StoreFault> {
                if range.until.as_ref().is_some_and(|until| *until <= range.from) {
                    return Ok(Vec::new());
                }
                let mode = IteratorMode::From(&range.from, Direction::Forward);
                let family = family(&self.db, table)?;
                slow::store_read("scan", table.name(), || {
                    collect(self.$source.iterator_cf_opt(family, until(range), mode), limit)
                })
            }

            fn last_before(
                &self,
                table: Table,
                from: &[u8],
                before: &[u8],
            ) -> Result<Option<Row>, StoreFault> {
                if before <= from {
                    return Ok(None);
                }
                let (family, options) = (family(&self.db, table)?, not_below(from, before));
                let rows = slow::store_read("last_before", table.name(), || {
                    collect(self.$source.iterator_cf_opt(family, options, IteratorMode::End), 1)
                });
                Ok(rows?.pop())
            }

            fn visit(
                &self,
                table: Table,
                range: &KeyRange,
                caching: Caching,
                each: &mut Visitor<'_>,
            ) -> Result<(), StoreFault> {
                if range.until.as_ref().is_some_and(|until| *until <= range.from) {
                    return Ok(());
                }
                let family = family(&self.db, table)?;
                let mut options = until(range);
                options.fill_cache(caching == Caching::Fill);
                slow::store_read("visit", table.name(), || {
                    visit(self.$source.raw_iterator_cf_opt(family, options), range, each)
                })
            }
        }
    };
}

rows_of!(RocksStore, db);
rows_of!(RocksSnapshot, snapshot);

impl Store for RocksStore {
    fn write(&self, batch: WriteBatch) -> Result<(), StoreFault> {
        let mut rows = rocksdb::WriteBatch::default();
        // Changes of a table mostly come together.
        let mut last: Option<(Table, &ColumnFamily)> = None;
        for change in batch.changes() {
            let family = match last {
                Some((table, family)) if table == change.table => family,
                _ => family(&self.db, change.table)?,
            };
            last = Some((change.table, family));
            match &change.value {
                Some(value) => rows.put_cf(family, &change.key, value),
                None => rows.delete_cf(family, &change.key),
            }
        }
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.db.write_opt(rows, &options).map_err(fault)
    }

    fn snapshot(&self) -> Snapshot {
        Arc::new(RocksSnapshot::new(Arc::clone(&self.db)))
    }
}

impl DurableStore for RocksStore {
    fn flush(&self) -> Result<(), StoreFault> {
        let families =
            Table::ALL.iter().map(|table| family(&self.db, *table)).collect::<Result<Vec<_>, _>>()?;
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.db.flush_cfs_opt(&families, &options).map_err(fault)
    }

    /// Its files are hard links where the filesystem has them. [`RocksStore::open`] opens it.
    fn checkpoint(&self, dir: &Path) -> Result<(), StoreFault> {
        self.flush()?;
        Checkpoint::new(&self.db).map_err(fault)?.create_checkpoint(dir).map_err(fault)
    }

    fn figures(&self) -> Figures {
        Figures::of(&self.db, Table::ALL.iter().filter_map(|table| self.db.cf_handle(table.name())))
    }
}

/// A RocksDB snapshot that keeps its database open.
struct RocksSnapshot {
    // Borrows from `db`, so it is dropped first; see `Drop`.
    snapshot: ManuallyDrop<rocksdb::Snapshot<'static>>,
    db: Arc<DB>,
}

impl RocksSnapshot {
    fn new(db: Arc<DB>) -> Self {
        let snapshot = db.snapshot();
        // SAFETY: the snapshot borrows the DB inside the Arc, whose address is stable and which
        // lives at least as long as this value holds `db`. The 'static borrow never leaves this
        // struct, and Drop releases the snapshot before `db`.
        let snapshot =
            unsafe { std::mem::transmute::<rocksdb::Snapshot<'_>, rocksdb::Snapshot<'static>>(snapshot) };
        Self { snapshot: ManuallyDrop::new(snapshot), db }
    }
}

impl Drop for RocksSnapshot {
    fn drop(&mut self) {
        // SAFETY: dropped once, here, while `db` is still held; never used after.
        unsafe { ManuallyDrop::drop(&mut self.snapshot) };
    }
}

impl StoreSnapshot for RocksSnapshot {}
