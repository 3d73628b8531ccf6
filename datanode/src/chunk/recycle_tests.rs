//! A small disk that has to be used again and again.

use std::sync::Arc;

use bytes::Bytes;
use cairn_types::{Epoch, SystemClock};

use super::error::StoreError;
use super::request::CacheKey;
use super::scaffold::{Primary, SEGMENT, memory, open, options, pattern};
use super::store::ChunkStore;
use crate::disk::RealDisk;

const SEGMENTS: u64 = 10;

fn key(block: u64) -> CacheKey {
    CacheKey { object: 1 << 100 | 5, block }
}

fn sealed_chunk(store: &ChunkStore, chunk: u64, persisted: bool) -> Primary {
    let mut primary = Primary::new(chunk, store.incarnation());
    store.create(primary.spec.clone()).wait().unwrap();
    for i in 0..6 {
        store.append(primary.next(pattern(chunk + i, 2000))).wait().unwrap();
    }
    store.learn_sealed(primary.sealed(1)).wait().unwrap();
    if persisted {
        store.persisted(primary.id(), Bytes::from_static(b"s3")).wait().unwrap();
    }
    primary
}

#[test]
fn pinned_bytes_survive_many_turns_of_the_disk_and_restarts() {
    let disk = memory();
    let (store, _) = open(&disk, SEGMENTS);
    let kept = sealed_chunk(&store, 1, false);
    let mut opened = Primary::new(2, store.incarnation());
    store.create(opened.spec.clone()).wait().unwrap();
    let fenced = Primary::new(3, store.incarnation());
    store.fence(fenced.fence(5)).wait().unwrap();
    let mut store = store;
    for turn in 0..3u64 {
        for i in 0..300 {
            store.cache_put(key(turn * 1000 + i), pattern(i, 8000).into()).wait().unwrap();
            if turn == 0 && i % 20 == 0 {
                store.append(opened.next(pattern(i, 700))).wait().unwrap();
            }
        }
        assert!(disk.calls() > 0);
        store.close();
        disk.power_loss(|| false);
        let (again, report) = open(&disk, SEGMENTS);
        store = again;
        assert_eq!(report.damaged, [], "turn {turn}");
        assert_eq!(report.unsealed.len(), 2);
        assert_eq!(store.read(kept.id(), 0, 12_000, 0).unwrap(), kept.bytes);
        let length = opened.bytes.len();
        assert_eq!(store.read(opened.id(), 0, length, length as u64).unwrap(), opened.bytes);
        let late = store.create(fenced.spec.clone()).wait();
        assert_eq!(late, Err(StoreError::Fenced { chunk: fenced.id(), epoch: Epoch(5) }));
    }
    let answer = store.fence(opened.fence(2)).wait().unwrap();
    assert_eq!((answer.length, answer.chain), (opened.length, opened.chain));
    assert_eq!(answer.marks.len(), 1);
    assert!(store.stats().segments <= SEGMENTS);
}

#[test]
fn hot_blocks_stay_cold_blocks_go() {
    let disk = memory();
    let (store, _) = open(&disk, SEGMENTS);
    store.cache_put(key(0), pattern(0, 8000).into()).wait().unwrap();
    store.cache_put(key(1), pattern(1, 8000).into()).wait().unwrap();
    for i in 2..200 {
        store.cache_put(key(i), pattern(i, 8000).into()).wait().unwrap();
        assert_eq!(store.cache_get(key(0)).unwrap(), pattern(0, 8000), "{i}");
    }
    assert_eq!(store.cache_get(key(1)), None);
    assert_eq!(store.cache_get(key(199)).unwrap(), pattern(199, 8000));
    assert!(store.stats().cached_bytes <= SEGMENTS * SEGMENT);
}

#[test]
fn persisted_chunks_make_room_and_stay_gone() {
    let disk = memory();
    let (store, _) = open(&disk, SEGMENTS);
    for chunk in 1..200 {
        sealed_chunk(&store, chunk, true);
    }
    let here = store.list().len();
    assert!((10..199).contains(&here), "{here}");
    assert!(store.chunk(199.into()).is_some() && store.chunk(1.into()).is_none());
    store.close();
    let (store, report) = open(&disk, SEGMENTS);
    assert_eq!((store.list().len(), report.damaged.len()), (here, 0));
    for view in store.list() {
        assert_eq!(store.read(view.chunk, 0, 2000, 0).unwrap(), pattern(view.chunk.0, 2000));
    }
}

#[test]
fn a_disk_full_of_pinned_bytes_refuses_appends_and_still_fences_seals_and_deletes() {
    let disk = memory();
    let (store, _) = open(&disk, SEGMENTS);
    let mut primaries: Vec<Primary> = Vec::new();
    let mut last = 0;
    'full: for chunk in 1.. {
        let mut primary = Primary::new(chunk, store.incarnation());
        if let Err(error) = store.create(primary.spec.clone()).wait() {
            assert!(matches!(error, StoreError::DiskFull { .. }), "{error}");
            break;
        }
        for i in 0..10 {
            let before = primary.clone();
            if let Err(error) = store.append(primary.next(pattern(i, 4000))).wait() {
                assert!(matches!(error, StoreError::DiskFull { .. }), "{error}");
                primaries.push(before);
                break 'full;
            }
        }
        primaries.push(primary);
        last = chunk;
    }
    assert!(last >= 6, "{last}");
    for primary in &primaries {
        let answer = store.fence(primary.fence(2)).wait().unwrap();
        assert_eq!(answer.length, primary.length);
        store.learn_sealed(primary.sealed(2)).wait().unwrap();
        let length = primary.bytes.len();
        assert_eq!(store.read(primary.id(), 0, length, 0).unwrap(), primary.bytes);
    }
    assert_eq!(store.retired(), None);
    for primary in &primaries {
        store.delete(primary.id()).wait().unwrap();
    }
    let again = sealed_chunk(&store, 10_000, false);
    store.close();
    disk.power_loss(|| false);
    let (store, _) = open(&disk, SEGMENTS);
    let left: Vec<_> = store.list().iter().map(|view| view.chunk).collect();
    assert_eq!(left, [again.id()]);
}

#[test]
fn readers_see_the_same_bytes_while_a_real_disk_is_recycled_under_them() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(RealDisk::open(dir.path()).unwrap());
    let mut options = options(SEGMENTS);
    options.threads = true;
    let (store, _) = ChunkStore::open(disk, Arc::new(SystemClock), options).unwrap();
    let kept = sealed_chunk(&store, 1, false);
    let reader = {
        let (store, kept) = (store.clone(), kept.clone());
        std::thread::spawn(move || {
            let mut reads = 0u64;
            // It ends when the chunk is deleted below.
            while let Ok(bytes) = store.read(kept.id(), 1000, 9000, 0) {
                assert_eq!(bytes, kept.bytes[1000..10_000]);
                reads += 1;
            }
            reads
        })
    };
    let mut opened = Primary::new(2, store.incarnation());
    store.create(opened.spec.clone()).wait().unwrap();
    for i in 0..400 {
        let block = store.cache_put(key(i), pattern(i, 8000).into());
        if i % 10 == 0 {
            store.append(opened.next(pattern(i, 100))).wait().unwrap();
        }
        block.wait().unwrap();
    }
    assert_eq!(store.read(kept.id(), 0, 12_000, 0).unwrap(), kept.bytes);
    store.delete(kept.id()).wait().unwrap();
    assert!(reader.join().unwrap() > 0);
    store.close();
    assert_eq!(store.delete(opened.id()).wait(), Err(StoreError::Stopped));
    let again = RealDisk::open(dir.path());
    assert!(again.is_ok(), "a closed store holds no lock: {again:?}");
}
