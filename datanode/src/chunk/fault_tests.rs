//! Disks that fail and bytes that rot.

use std::sync::Arc;

use cairn_types::{ChunkId, ReplicaHealth};

use super::error::{ReadError, StoreError};
use super::scaffold::{Primary, SEGMENT, Ticks, memory, open, options, pattern};
use super::store::ChunkStore;
use crate::disk::{FaultyDisk, MemoryDisk, Operation};
use crate::segments::LogError;

const FIRST: &str = "segments/00000000.seg";

/// A chunk of `count` records of 3,000 bytes, each durable before the next.
fn chunk_of(store: &ChunkStore, chunk: u64, count: u64) -> Primary {
    let mut primary = Primary::new(chunk, store.incarnation());
    store.create(primary.spec.clone()).wait().unwrap();
    for i in 0..count {
        store.append(primary.next(pattern(i, 3000))).wait().unwrap();
    }
    primary
}

/// Where `needle` is in the first segment.
fn find(disk: &MemoryDisk, needle: &[u8]) -> usize {
    let bytes = disk.contents(FIRST).unwrap();
    bytes.windows(needle.len()).position(|w| w == needle).unwrap()
}

#[test]
fn rot_below_the_durable_mark_is_damage_never_a_silent_cut() {
    for (what, back) in [("payload", 0usize), ("record header", 60), ("batch header", 120)] {
        let disk = memory();
        let (store, _) = open(&disk, 8);
        let primary = chunk_of(&store, 7, 6);
        store.close();
        disk.rot(FIRST, find(&disk, &pattern(2, 3000)) - back);
        let (store, report) = open(&disk, 8);
        assert_eq!(report.damaged, [ChunkId(7)], "{what}");
        let answer = store.fence(primary.fence(2)).wait().unwrap();
        assert_eq!((answer.health, answer.length), (ReplicaHealth::Damaged, 6000), "{what}");
        assert_eq!(store.read(primary.id(), 0, 6000, 18_000).unwrap(), primary.bytes[..6000], "{what}");
        store.close();
        let (store, report) = open(&disk, 8);
        assert_eq!(report.damaged, [ChunkId(7)], "{what}: it stays damaged");
        drop(store);
    }
}

#[test]
fn a_lost_last_record_is_damage_when_others_knew_it_to_be_durable() {
    let disk = memory();
    let (store, _) = open(&disk, 8);
    chunk_of(&store, 7, 6);
    chunk_of(&store, 8, 2);
    store.close();
    // The header of the batch that holds the last record of the first chunk.
    disk.rot(FIRST, find(&disk, &pattern(5, 3000)) - 120);
    let (store, report) = open(&disk, 8);
    assert_eq!(report.damaged, [ChunkId(7)]);
    assert_eq!(store.chunk(7.into()).unwrap().length, 15_000);
    assert_eq!(store.chunk(8.into()).unwrap().length, 6000);
}

#[test]
fn a_bad_last_batch_is_cut_and_the_replica_is_in_limbo() {
    let disk = memory();
    let (store, _) = open(&disk, 8);
    let primary = chunk_of(&store, 7, 6);
    store.close();
    disk.rot(FIRST, find(&disk, &pattern(5, 3000)) + 17);
    let (store, report) = open(&disk, 8);
    assert_eq!(report.damaged, []);
    let answer = store.fence(primary.fence(2)).wait().unwrap();
    assert_eq!((answer.health, answer.length), (ReplicaHealth::Limbo, 15_000));
}

#[test]
fn a_damaged_replica_is_healed_by_extension() {
    let disk = memory();
    let (store, _) = open(&disk, 8);
    let primary = chunk_of(&store, 7, 6);
    let records = store.records(primary.id(), 0, u64::MAX, usize::MAX).unwrap();
    store.close();
    disk.rot(FIRST, find(&disk, &pattern(2, 3000)));
    let (store, _) = open(&disk, 8);
    assert_eq!(store.fence(primary.fence(2)).wait().unwrap().length, 6000);
    for record in &records[2..] {
        store.extend(2.into(), record.clone()).wait().unwrap();
    }
    assert_eq!(store.learn_sealed(primary.sealed(2)).wait(), Ok(super::SealedOutcome::Holder));
    store.close();
    let (store, report) = open(&disk, 8);
    assert_eq!(report.damaged, []);
    assert_eq!(store.read(primary.id(), 0, 18_000, 0).unwrap(), primary.bytes);
}

#[test]
fn rot_found_by_a_read_is_reported_and_remembered() {
    let disk = memory();
    let (store, _) = open(&disk, 8);
    let primary = chunk_of(&store, 7, 4);
    disk.rot(FIRST, find(&disk, &pattern(1, 3000)) + 5);
    let read = store.read(primary.id(), 4000, 10, 12_000);
    assert_eq!(read, Err(ReadError::Damaged { chunk: primary.id(), offset: 3000 }));
    assert_eq!(store.read(primary.id(), 0, 3000, 12_000).unwrap(), primary.bytes[..3000]);
    assert_eq!(store.chunk(primary.id()).unwrap().health, ReplicaHealth::Damaged);
    let chunk = primary.id();
    assert_eq!(store.append(primary.clone().next("x")).wait(), Err(StoreError::Damaged { chunk }));
    store.flush().wait().unwrap();
    store.close();
    let (_store, report) = open(&disk, 8);
    assert_eq!(report.damaged, [ChunkId(7)]);
}

#[test]
fn a_failed_write_or_fsync_retires_the_store_for_writing() {
    for operation in [Operation::Write, Operation::Sync] {
        let faulty = FaultyDisk::new(Arc::new(memory()));
        let (store, _) = open(&faulty, 8);
        let mut primary = chunk_of(&store, 7, 2);
        faulty.fail_after(operation, 0, 5);
        let failed = store.append(primary.next("lost")).wait();
        assert!(matches!(failed, Err(StoreError::Retired(r)) if r.errno == 5), "{failed:?}");
        // The disk would work again; the store does not ask it.
        let refused = store.fence(primary.fence(2)).wait();
        assert!(matches!(refused, Err(StoreError::Retired(_))), "{refused:?}");
        assert_eq!(store.retired().map(|r| r.errno), Some(5));
        assert_eq!(store.read(primary.id(), 0, 6000, 6000).unwrap(), primary.bytes[..6000]);
    }
}

#[test]
fn when_no_segment_can_be_made_appends_are_refused_and_fences_work() {
    let faulty = FaultyDisk::new(Arc::new(MemoryDisk::new(SEGMENT * 7)));
    let (store, _) = open(&faulty, 100);
    let mut primary = Primary::new(7, store.incarnation());
    store.create(primary.spec.clone()).wait().unwrap();
    let mut acked = 0;
    let refused = loop {
        match store.append(primary.next(pattern(acked, 5000))).wait() {
            Ok(durable) => acked = durable.length,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, StoreError::DiskFull { .. }), "{refused}");
    assert!(acked > SEGMENT, "{acked}");
    assert_eq!(store.fence(primary.fence(2)).wait().unwrap().length, acked);
    // The reserve is really there: many more fences fit than the last segment had room for.
    for chunk in 100..400 {
        store.fence(Primary::new(chunk, store.incarnation()).fence(2)).wait().unwrap();
    }
    assert_eq!(store.retired(), None);
    assert_eq!(store.read(primary.id(), 0, acked as usize, acked).unwrap(), primary.bytes[..acked as usize]);
}

#[test]
fn foreign_newer_and_missing_segments_are_refused_unchanged() {
    let disk = memory();
    let (store, _) = open(&disk, 8);
    chunk_of(&store, 7, 40);
    store.close();
    let before = disk.contents(FIRST);
    let try_open = |options| {
        let shared: Arc<dyn crate::disk::Disk> = Arc::new(disk.clone());
        ChunkStore::open(shared, Arc::new(Ticks::default()), options).map(|_| ()).unwrap_err()
    };
    let mut foreign = options(8);
    foreign.disk = cairn_types::DiskId([1; 16]);
    assert!(matches!(try_open(foreign), LogError::ForeignDisk { .. }));
    let mut resized = options(8);
    resized.segment_bytes *= 2;
    resized.capacity_bytes *= 2;
    assert!(matches!(try_open(resized), LogError::SegmentSize { .. }));
    assert_eq!(disk.contents(FIRST), before);
    use crate::disk::Disk;
    disk.remove(FIRST).unwrap();
    assert_eq!(try_open(options(8)), LogError::Missing { slot: 0 });
}

#[test]
fn a_rotten_segment_header_or_trailer_loses_nothing() {
    for offset in [3, SEGMENT as usize - 4096 + 10] {
        let disk = memory();
        let (store, _) = open(&disk, 8);
        let primary = chunk_of(&store, 7, 40);
        store.close();
        disk.rot(FIRST, offset);
        let (store, _) = open(&disk, 8);
        let length = primary.bytes.len();
        assert_eq!(store.read(primary.id(), 0, length, length as u64).unwrap(), primary.bytes);
    }
}
