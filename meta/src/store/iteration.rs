//! [`iteration_rate`]: how fast plain RocksDB goes over rows like a listing's, for `cairn bench`.

#![allow(clippy::disallowed_methods, reason = "measures real time; no server calls this")]

use std::path::Path;

use cairn_types::{Clock, SystemClock};
use rocksdb::{DB, IteratorMode, Options, ReadOptions, WriteBatch, WriteOptions};

use super::StoreFault;

/// Bytes of a row's value, about those of an inode's row.
const VALUE_BYTES: usize = 100;
const ROWS_PER_BATCH: u64 = 10_000;

/// Rows a second of one raw iterator over `entries` rows in a database of its own, made in
/// `directory` and removed after.
///
/// # Errors
/// [`StoreFault`] when the database cannot be made or read.
pub fn iteration_rate(directory: &Path, entries: u64) -> Result<f64, StoreFault> {
    let rate = measure(directory, entries);
    std::fs::remove_dir_all(directory)?;
    rate
}

fn measure(directory: &Path, entries: u64) -> Result<f64, StoreFault> {
    let fault = |e: rocksdb::Error| StoreFault::Database(Box::new(e));
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_compression_type(rocksdb::DBCompressionType::Lz4);
    let db = DB::open(&options, directory).map_err(fault)?;
    let mut unlogged = WriteOptions::default();
    unlogged.disable_wal(true);
    for first in (0..entries).step_by(ROWS_PER_BATCH as usize) {
        let mut batch = WriteBatch::default();
        for n in first..entries.min(first + ROWS_PER_BATCH) {
            let mut key = 7u64.to_be_bytes().to_vec();
            key.extend_from_slice(format!("file-{n:09}").as_bytes());
            let value: Vec<u8> =
                (0..VALUE_BYTES as u64).map(|i| (n.wrapping_mul(31) >> (i % 8)) as u8).collect();
            batch.put(key, value);
        }
        db.write_opt(batch, &unlogged).map_err(fault)?;
    }
    db.flush().map_err(fault)?;
    let mut reading = ReadOptions::default();
    reading.set_readahead_size(2 << 20);
    let started = SystemClock.boottime();
    let mut bytes = 0;
    let mut count = 0u64;
    for row in db.iterator_opt(IteratorMode::Start, reading) {
        let (key, value) = row.map_err(fault)?;
        bytes += key.len() + value.len();
        count += 1;
    }
    let seconds = SystemClock.boottime().saturating_sub(started).as_secs_f64().max(1e-9);
    assert!(count == entries && bytes > 0, "every row is seen once");
    Ok(count as f64 / seconds)
}

/// Compacts the state database in `directory`, which no server has open, and answers the bytes of its
/// files.
///
/// # Errors
/// [`StoreFault`] when there is none, or it cannot be read.
pub fn compacted_bytes(directory: &Path) -> Result<u64, StoreFault> {
    super::RocksStore::open(directory, 256 << 20)?.compact()?;
    let mut bytes = 0;
    for file in std::fs::read_dir(directory)? {
        bytes += file?.metadata()?.len();
    }
    Ok(bytes)
}
