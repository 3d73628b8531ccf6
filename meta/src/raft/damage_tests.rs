//! Damage to the Raft log's write-ahead log: below what was fsynced it refuses the start, above it
//! is what a loss of power leaves.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::log_disk::{LogDisk, LogError, RocksLog};
use super::record::{self, EntryRecord, LogIdRecord, PayloadRecord, VoteRecord};

fn entry(index: u64) -> (u64, Bytes) {
    let payload = PayloadRecord::Command(vec![7; 1000]);
    (index, record::encode(&EntryRecord { id: LogIdRecord { term: 1, index }, payload }))
}

/// A log whose first `synced` entries are fsynced and whose next `unsynced` ones are not; closed.
fn written(dir: &Path, synced: u64, unsynced: u64) {
    let disk = RocksLog::open(dir).unwrap();
    disk.save_vote(&VoteRecord { term: 1, node: 1, committed: false }).unwrap();
    for index in 0..synced {
        disk.append(&[entry(index)]).unwrap();
    }
    disk.sync().unwrap();
    for index in synced..synced + unsynced {
        disk.append(&[entry(index)]).unwrap();
    }
}

/// RocksDB's write-ahead log in use: the longest one.
fn wal(dir: &Path) -> PathBuf {
    let files = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    let logs = files.filter(|path| path.extension().is_some_and(|ending| ending == "log"));
    logs.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
}

fn cut(path: &Path, length: u64) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(length).unwrap();
}

fn refused(dir: &Path) {
    // Also the next time: the first start must not have made it good.
    for start in 0..2 {
        match RocksLog::open(dir).err() {
            Some(LogError::Lost { synced, found }) => assert!(found < synced, "{found} of {synced}"),
            other => panic!("start {start}: {other:?}"),
        }
    }
}

#[test]
fn a_flipped_bit_below_the_fsynced_end_refuses_the_start() {
    let temp = tempfile::tempdir().unwrap();
    for (number, part) in [0, 1, 50, 99].into_iter().enumerate() {
        let dir = temp.path().join(number.to_string());
        written(&dir, 100, 0);
        let path = wal(&dir);
        let mut bytes = fs::read(&path).unwrap();
        let place = bytes.len() * part / 100 + 10;
        bytes[place] ^= 1;
        fs::write(&path, bytes).unwrap();
        refused(&dir);
    }
}

#[test]
fn a_write_ahead_log_that_lost_fsynced_bytes_refuses_the_start() {
    let temp = tempfile::tempdir().unwrap();
    let (short, gone, zeros) = (temp.path().join("a"), temp.path().join("b"), temp.path().join("c"));
    written(&short, 100, 0);
    let path = wal(&short);
    cut(&path, fs::metadata(&path).unwrap().len() - 1);
    refused(&short);
    written(&gone, 100, 0);
    fs::remove_file(wal(&gone)).unwrap();
    refused(&gone);
    // A page that reads as zeros, which RocksDB's tolerant mode would skip.
    written(&zeros, 100, 0);
    let path = wal(&zeros);
    let mut bytes = fs::read(&path).unwrap();
    bytes[40_960..45_056].fill(0);
    fs::write(&path, bytes).unwrap();
    refused(&zeros);
}

#[test]
fn a_torn_tail_that_no_fsync_covered_is_cut_and_the_log_goes_on() {
    let temp = tempfile::tempdir().unwrap();
    for (number, tear) in ["cut", "zeros", "noise"].into_iter().enumerate() {
        let dir = temp.path().join(number.to_string());
        written(&dir, 10, 5);
        let path = wal(&dir);
        let mut bytes = fs::read(&path).unwrap();
        // In the midst of the last entry but one.
        let from = bytes.len() - 1500;
        match tear {
            "cut" => bytes.truncate(from),
            "zeros" => bytes[from..].fill(0),
            _ => bytes[from..].iter_mut().for_each(|byte| *byte ^= 0x5a),
        }
        fs::write(&path, bytes).unwrap();
        let disk = RocksLog::open(&dir).unwrap();
        let start = disk.load().unwrap();
        assert_eq!(start.vote.map(|vote| vote.term), Some(1));
        assert_eq!(start.last.map(|last| last.index), Some(12), "{tear}");
        assert_eq!(disk.read(0..100, usize::MAX).unwrap().len(), 13, "{tear}");
        disk.append(&[entry(13)]).unwrap();
        disk.sync().unwrap();
        drop(disk);
        let again = RocksLog::open(&dir).unwrap();
        assert_eq!(again.load().unwrap().last.map(|last| last.index), Some(13), "{tear}");
    }
}

#[test]
fn a_purge_is_durable_before_files_go() {
    let temp = tempfile::tempdir().unwrap();
    let disk = RocksLog::open(temp.path()).unwrap();
    for index in 0..100 {
        disk.append(&[entry(index)]).unwrap();
    }
    disk.purge(LogIdRecord { term: 1, index: 50 }).unwrap();
    drop(disk);
    // What the purge wrote is below the mark: a log without it is refused.
    let path = wal(temp.path());
    cut(&path, fs::metadata(&path).unwrap().len() - 1);
    refused(temp.path());
}
