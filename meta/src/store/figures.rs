//! [`Figures`]: what a RocksDB says of itself, for the metrics.

use rocksdb::{ColumnFamily, DB};

/// What a database says of itself, its column families taken together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Bytes in memtables.
    pub memtable_bytes: u64,
    /// Bytes in the block cache.
    pub block_cache_bytes: u64,
    /// Bytes of table files in use.
    pub table_bytes: u64,
    /// Bytes that compactions have still to rewrite, by RocksDB's estimate.
    pub compaction_pending_bytes: u64,
    /// Compactions under way.
    pub compactions: u64,
    /// Flushes of memtables under way.
    pub flushes: u64,
    /// Files at level 0 of the column family that has most.
    pub level0_files: u64,
    /// Keys, by RocksDB's estimate.
    pub keys: u64,
    /// Errors of background work.
    pub background_errors: u64,
    /// Writes wait for compactions.
    pub write_stopped: bool,
}

impl Figures {
    /// The figures of `db`, which has these families. What RocksDB does not know counts as 0.
    #[must_use]
    pub fn of<'d>(db: &'d DB, families: impl IntoIterator<Item = &'d ColumnFamily>) -> Self {
        let mut all = Self::default();
        for family in families {
            let number = |name: &str| db.property_int_value_cf(family, name).ok().flatten().unwrap_or(0);
            all.memtable_bytes += number("rocksdb.cur-size-all-mem-tables");
            all.table_bytes += number("rocksdb.live-sst-files-size");
            all.compaction_pending_bytes += number("rocksdb.estimate-pending-compaction-bytes");
            all.keys += number("rocksdb.estimate-num-keys");
            let level0 = db.property_value_cf(family, "rocksdb.num-files-at-level0").ok().flatten();
            let level0 = level0.and_then(|text| text.parse().ok()).unwrap_or(0);
            all.level0_files = all.level0_files.max(level0);
            // One cache, one set of threads, and one brake for all families: each says the same.
            all.block_cache_bytes = all.block_cache_bytes.max(number("rocksdb.block-cache-usage"));
            all.compactions = all.compactions.max(number("rocksdb.num-running-compactions"));
            all.flushes = all.flushes.max(number("rocksdb.num-running-flushes"));
            all.background_errors = all.background_errors.max(number("rocksdb.background-errors"));
            all.write_stopped |= number("rocksdb.is-write-stopped") > 0;
        }
        all
    }
}
