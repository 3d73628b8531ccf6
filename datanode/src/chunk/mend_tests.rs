//! Bytes that rot: found by reading a store through, replaced by good copies, for good.

use std::sync::Arc;

use bytes::Bytes;
use cairn_types::{ChunkId, Epoch, ReplicaHealth};

use super::error::StoreError;
use super::inspect::Examined;
use super::request::CacheKey;
use super::scaffold::{Primary, SEGMENT, memory, open, pattern};
use super::spec::AppendRecord;
use super::store::ChunkStore;
use crate::disk::{FaultyDisk, MemoryDisk, Operation};

const FIRST: &str = "segments/00000000.seg";

/// A sealed chunk of `count` records of 3,000 bytes.
fn sealed(store: &ChunkStore, chunk: u64, count: u64) -> (Primary, Vec<AppendRecord>) {
    let mut primary = Primary::new(chunk, store.incarnation());
    store.create(primary.spec.clone()).wait().unwrap();
    for i in 0..count {
        store.append(primary.next(pattern(chunk * 100 + i, 3000))).wait().unwrap();
    }
    store.learn_sealed(primary.sealed(1)).wait().unwrap();
    let records = store.records(primary.id(), 0, u64::MAX, usize::MAX).unwrap();
    (primary, records)
}

/// Where `needle` is in the first segment.
fn find(disk: &MemoryDisk, needle: &[u8]) -> usize {
    let bytes = disk.contents(FIRST).unwrap();
    bytes.windows(needle.len()).position(|w| w == needle).unwrap()
}

/// Reads everything through once: what was found, frames found bad and frames put right.
fn read_through(store: &ChunkStore) -> (Examined, u64, u64) {
    let (mut all, mut frames, mut mended) = (Examined::default(), 0, 0);
    for (slot, sequence) in store.segments() {
        let (walk, bad, put_right) = store.walk(slot, sequence);
        (frames, mended) = (frames + bad, mended + put_right);
        let Some(mut walk) = walk else { continue };
        loop {
            let step = store.walk_on(&mut walk, 10_000);
            all.bytes += step.bytes;
            all.records += step.records;
            all.chunks.extend(step.chunks);
            all.blocks += step.blocks;
            all.states += step.states;
            if step.over {
                break;
            }
        }
    }
    (all, frames, mended)
}

fn whole(store: &ChunkStore, primary: &Primary) {
    let read = store.read(primary.id(), 0, primary.bytes.len(), primary.length);
    assert_eq!(read.unwrap(), primary.bytes, "{}", primary.id());
}

#[test]
fn a_store_without_rot_is_read_through_and_nothing_is_found() {
    let disk = memory();
    let (store, _) = open(&disk, 20);
    let mut bytes = 0;
    for chunk in 1..10 {
        bytes += sealed(&store, chunk, 8).0.length;
    }
    store.cache_put(CacheKey { object: 1, block: 2 }, pattern(5, 9000).into()).wait().unwrap();
    let (all, frames, _) = read_through(&store);
    assert_eq!((all.chunks.len(), all.blocks, all.states, frames), (0, 0, 0, 0));
    assert!(all.bytes >= bytes + 9000, "{all:?}");
    assert!(all.records > 9 * 8 + 9 * 2, "{all:?}");
}

#[test]
fn a_bad_record_is_found_and_a_good_copy_takes_its_place_for_good() {
    for back in [0usize, 60] {
        let disk = memory();
        let (store, _) = open(&disk, 8);
        let (primary, records) = sealed(&store, 7, 6);
        disk.rot(FIRST, find(&disk, &pattern(702, 3000)) - back);
        assert_eq!(read_through(&store).0.chunks, [ChunkId(7)]);
        assert_eq!(store.chunk(7.into()).unwrap().health, ReplicaHealth::Clean, "a scrub marks nothing");
        assert_eq!(store.check(7.into()).unwrap().0.ranges, [(6000, 9000)]);
        assert!(store.read(7.into(), 6500, 10, 0).is_err());
        assert_eq!(store.chunk(7.into()).unwrap().health, ReplicaHealth::Damaged);
        store.repair(records[2].clone()).wait().unwrap();
        whole(&store, &primary);
        assert_eq!(store.check(7.into()).unwrap().0.ranges, []);
        store.heal(7.into()).wait().unwrap();
        assert_eq!(store.chunk(7.into()).unwrap().health, ReplicaHealth::Clean);
        assert_eq!(read_through(&store).0.chunks, []);
        store.close();
        disk.power_loss(|| false);
        let (store, report) = open(&disk, 8);
        assert_eq!(report.damaged, [], "{back}");
        whole(&store, &primary);
    }
}

#[test]
fn what_cannot_have_been_there_takes_no_bad_records_place() {
    let disk = memory();
    let (store, _) = open(&disk, 8);
    let (primary, records) = sealed(&store, 7, 6);
    disk.rot(FIRST, find(&disk, &pattern(702, 3000)));
    let refused = Err(StoreError::BadRecord { chunk: 7.into() });
    // A record that is whole in itself, of another history.
    let mut other = AppendRecord { payload: pattern(9, 3000).into(), ..records[2].clone() };
    other.payload_crc32c = crc32c::crc32c(&other.payload);
    other.chain = other.next_chain();
    assert_eq!(store.repair(other.clone()).wait(), refused);
    other.previous_chain = records[4].chain;
    other.chain = other.next_chain();
    assert_eq!(store.repair(other).wait(), refused);
    // One that does not match its checksum; one that lies elsewhere.
    let bad = AppendRecord { payload: pattern(9, 3000).into(), ..records[2].clone() };
    assert_eq!(store.repair(bad).wait(), refused);
    let short = AppendRecord { payload: records[2].payload.slice(..100), ..records[2].clone() };
    assert_eq!(store.repair(short).wait(), refused);
    let mut open = Primary::new(8, store.incarnation());
    store.create(open.spec.clone()).wait().unwrap();
    let record = open.next("x");
    store.append(record.clone()).wait().unwrap();
    assert_eq!(store.repair(record).wait(), Err(StoreError::NotSealed { chunk: 8.into() }));
    assert_eq!(store.heal(8.into()).wait(), Err(StoreError::NotSealed { chunk: 8.into() }));
    store.repair(records[2].clone()).wait().unwrap();
    whole(&store, &primary);
}

#[test]
fn a_lost_header_is_known_from_the_footer_when_the_payload_comes_from_elsewhere() {
    let disk = memory();
    let (store, _) = open(&disk, 8);
    let (primary, _) = sealed(&store, 7, 40);
    let at = 2 * 3000;
    disk.rot(FIRST, find(&disk, &pattern(702, 3000)) - 60);
    let payload = Bytes::from(primary.bytes[at..at + 3000].to_vec());
    assert_eq!(store.restored(7.into(), at as u64, pattern(9, 3000).into()), None, "other bytes");
    let record = store.restored(7.into(), at as u64, payload).unwrap();
    store.repair(record).wait().unwrap();
    whole(&store, &primary);
}

#[test]
fn records_that_recovery_missed_are_brought_back() {
    let disk = memory();
    let (store, _) = open(&disk, 8);
    let (primary, records) = sealed(&store, 7, 6);
    store.close();
    // The header of the batch that holds the third record.
    disk.rot(FIRST, find(&disk, &pattern(702, 3000)) - 120);
    let (store, report) = open(&disk, 8);
    assert_eq!(report.damaged, [ChunkId(7)]);
    assert_eq!(store.check(7.into()).unwrap().0.ranges, [(6000, 18_000)]);
    for record in &records[2..] {
        store.repair(record.clone()).wait().unwrap();
    }
    store.heal(7.into()).wait().unwrap();
    whole(&store, &primary);
    store.close();
    let (store, report) = open(&disk, 8);
    assert_eq!(report.damaged, []);
    whole(&store, &primary);
}

#[test]
fn a_bad_copy_that_was_replaced_is_no_damage_at_the_next_start() {
    let disk = memory();
    let (store, _) = open(&disk, 10);
    let (primary, records) = sealed(&store, 7, 6);
    let first = store.segments()[0];
    // Recycling moves the chunk: what rots then is a copy.
    let mut block = 0;
    while store.segments().contains(&first) {
        block += 1;
        store.cache_put(CacheKey { object: 1, block }, pattern(block, 9000).into()).wait().unwrap();
    }
    let name = |slot: u32| format!("segments/{slot:08}.seg");
    let needle = pattern(702, 3000);
    // What is left of it in segments that are free counts for nothing.
    for (slot, _) in store.segments() {
        let bytes = disk.contents(&name(slot)).unwrap();
        let places = bytes.windows(needle.len()).zip(0..).filter(|(w, _)| *w == needle);
        places.for_each(|(_, at)| disk.rot(&name(slot), at));
    }
    assert_eq!(store.check(7.into()).unwrap().0.ranges, [(6000, 9000)]);
    store.repair(records[2].clone()).wait().unwrap();
    store.heal(7.into()).wait().unwrap();
    store.close();
    let (store, report) = open(&disk, 10);
    assert_eq!(report.damaged, []);
    whole(&store, &primary);
}

#[test]
fn a_bad_state_is_written_again_from_memory() {
    let disk = memory();
    let (store, _) = open(&disk, 8);
    let (primary, _) = sealed(&store, 7, 6);
    let fenced = Primary::new(9, store.incarnation());
    store.fence(fenced.fence(5)).wait().unwrap();
    sealed(&store, 8, 40);
    store.delete(8.into()).wait().unwrap();
    // Both states hold the caller's bytes.
    let bytes = disk.contents(FIRST).unwrap();
    let places: Vec<usize> = (0..bytes.len() - 6).filter(|at| bytes[*at..].starts_with(b"record")).collect();
    places.iter().for_each(|at| disk.rot(FIRST, *at));
    let (all, ..) = read_through(&store);
    assert_eq!((all.states, all.chunks.len()), (2, 0), "{all:?}");
    assert_eq!(read_through(&store).0.states, 0, "once");
    store.close();
    let (store, report) = open(&disk, 8);
    assert_eq!(report.damaged, []);
    whole(&store, &primary);
    let late = store.create(fenced.spec.clone()).wait();
    assert_eq!(late, Err(StoreError::Fenced { chunk: fenced.id(), epoch: Epoch(5) }));
}

#[test]
fn a_bad_header_or_footer_of_a_segment_is_written_again() {
    for offset in [3, SEGMENT as usize - 4096 + 10] {
        let disk = memory();
        let (store, _) = open(&disk, 8);
        let (primary, _) = sealed(&store, 7, 40);
        disk.rot(FIRST, offset);
        let (all, frames, mended) = read_through(&store);
        assert_eq!((all.chunks.len(), frames, mended), (0, 1, 1), "{offset}");
        assert_eq!(read_through(&store).1, 0, "{offset}: once");
        store.close();
        let (store, report) = open(&disk, 8);
        assert_eq!((report.damaged.len(), read_through(&store).1), (0, 0));
        whole(&store, &primary);
    }
}

#[test]
fn a_bad_block_of_the_cache_is_dropped() {
    let disk = memory();
    let (store, _) = open(&disk, 8);
    let key = |block| CacheKey { object: 3, block };
    for block in 0..3 {
        store.cache_put(key(block), pattern(block, 3000).into()).wait().unwrap();
    }
    disk.rot(FIRST, find(&disk, &pattern(1, 3000)) + 9);
    disk.rot(FIRST, find(&disk, &pattern(2, 3000)) + 9);
    assert_eq!(store.cache_get(key(2)), None, "a reader finds it");
    assert_eq!(read_through(&store).0.blocks, 1, "and the scrub the other one");
    store.flush().wait().unwrap();
    assert_eq!(read_through(&store).0.blocks, 0);
    assert_eq!((store.cache_get(key(0)).unwrap(), store.cache_get(key(1))), (pattern(0, 3000).into(), None));
    assert_eq!(store.stats().cached_bytes, 3000);
    store.cache_put(key(1), pattern(1, 3000).into()).wait().unwrap();
    assert_eq!(store.cache_get(key(1)).unwrap(), pattern(1, 3000));
}

#[test]
fn a_disk_that_fails_to_read_is_found_like_rot() {
    let disk = memory();
    let faulty = FaultyDisk::new(Arc::new(disk.clone()));
    let (store, _) = open(&faulty, 8);
    let (primary, _) = sealed(&store, 7, 2);
    let (slot, sequence) = store.segments()[0];
    let mut walk = store.walk(slot, sequence).0.unwrap();
    faulty.fail_after(Operation::Read, 0, 5);
    let mut found = Vec::new();
    loop {
        let step = store.walk_on(&mut walk, u64::MAX);
        found.extend(step.chunks);
        if step.over {
            break;
        }
    }
    assert!(found.len() <= 1, "one read failed, of bytes or of a state: {found:?}");
    whole(&store, &primary);
}

#[test]
fn an_active_segment_with_a_rotten_header_is_known_by_its_first_batch() {
    let disk = memory();
    let (store, _) = open(&disk, 8);
    // Until slot 0 has been used, given back and used again: its old trailer is still at its end.
    let mut block = 0;
    while store.segments().last().is_none_or(|(slot, sequence)| *slot != 0 || *sequence == 1) {
        block += 1;
        store.cache_put(CacheKey { object: 1, block }, pattern(block, 9000).into()).wait().unwrap();
    }
    let (primary, _) = sealed(&store, 7, 2);
    assert_eq!(store.segments().last().unwrap().0, 0, "it is there");
    store.close();
    disk.rot(FIRST, 17);
    let (store, report) = open(&disk, 8);
    assert_eq!(report.damaged, []);
    whole(&store, &primary);
}

#[test]
fn a_bad_read_rings_once_for_each_chunk() {
    let disk = memory();
    let (store, _) = open(&disk, 8);
    sealed(&store, 7, 6);
    disk.rot(FIRST, find(&disk, &pattern(702, 3000)));
    for _ in 0..3 {
        assert!(store.read(7.into(), 6500, 10, 0).is_err());
    }
    store.alarm(3.into());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        assert_eq!(store.next_alarm().await, ChunkId(3));
        assert_eq!(store.next_alarm().await, ChunkId(7));
        let nothing = tokio::time::timeout(std::time::Duration::from_millis(1), store.next_alarm());
        assert!(nothing.await.is_err());
    });
}
