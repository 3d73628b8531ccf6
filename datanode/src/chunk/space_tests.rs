//! Small disks that fill up: what goes, what stays, and what is said at the end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_types::ChunkId;

use super::completion::Completion;
use super::engine::Engine;
use super::error::StoreError;
use super::request::{CacheKey, Request};
use super::scaffold::{BOOT, Primary, Ticks, memory, open, options, pattern};
use super::store::ChunkStore;
use super::{Fill, SealedOutcome};
use crate::segments::{BlockSums, LogOptions};

const BLOCK: usize = 8000;

fn key(block: u64) -> CacheKey {
    CacheKey { object: 1 << 100 | 5, block }
}

fn put(store: &ChunkStore, block: u64) {
    store.cache_put(key(block), pattern(block, BLOCK).into()).wait().unwrap();
}

fn kept(store: &ChunkStore, blocks: std::ops::Range<u64>) -> usize {
    blocks.filter(|block| store.cache_get(key(*block)).is_some_and(|b| b == pattern(*block, BLOCK))).count()
}

#[test]
fn a_scan_over_a_large_cold_file_does_not_wash_the_cache_out() {
    let disk = memory();
    let (store, _) = open(&disk, 24);
    (0..30).for_each(|block| put(&store, block));
    for round in 0..4 {
        (0..10).for_each(|n| put(&store, 1000 + round * 10 + n));
        assert_eq!(kept(&store, 0..30), 30, "round {round}");
    }
    // Six times the disk, each block asked for again and again by a reader in order; nobody asks for
    // the hot set meanwhile.
    for block in 10_000..11_200 {
        put(&store, block);
        for _ in 0..8 {
            assert!(store.cache_get(key(block)).is_some());
        }
    }
    let hits = kept(&store, 0..30);
    assert!(hits >= 29, "{hits} of 30 stayed");
    assert!(store.stats().evicted_bytes > 6_000_000, "{:?}", store.stats());
}

#[test]
fn a_persisted_replica_that_is_read_again_stays_and_the_others_go() {
    let disk = memory();
    let (store, _) = open(&disk, 16);
    for chunk in 1..120u64 {
        let mut primary = Primary::new(chunk, store.incarnation());
        store.create(primary.spec.clone()).wait().unwrap();
        for n in 0..4 {
            store.append(primary.next(pattern(chunk + n, 3000))).wait().unwrap();
        }
        assert_eq!(store.learn_sealed(primary.sealed(1)).wait(), Ok(SealedOutcome::Holder));
        store.persisted(primary.id(), Bytes::from_static(b"s3")).wait().unwrap();
        assert_eq!(store.read(1.into(), 0, 3000, 0).unwrap(), pattern(1, 3000), "{chunk}");
    }
    assert!(store.chunk(2.into()).is_none() && store.chunk(119.into()).is_some());
}

/// An engine on a disk of 100 segments which are to be half full at most.
fn engine(fill: Fill) -> Engine {
    let options = options(100);
    let log = LogOptions {
        disk: options.disk,
        segment_bytes: options.segment_bytes,
        segments_max: 100,
        threads: false,
    };
    let mut engine = Engine::open(Arc::new(memory()), Arc::new(Ticks::default()), log, BOOT).unwrap().0;
    engine.fill_to(fill);
    engine
}

fn cache(engine: &mut Engine, block: u64) {
    let bytes = Bytes::from(pattern(block, BLOCK));
    let sums = BlockSums::of(&bytes);
    engine.accept(Request::CachePut(key(block), bytes, sums, Completion::pair().0));
    engine.commit();
}

#[test]
fn above_the_high_watermark_what_may_go_goes_down_to_the_low_one() {
    let mut engine = engine(Fill { high_percent: 50, low_percent: 40 });
    let mut primary = Primary::new(1, engine.incarnation());
    engine.accept(Request::Create(primary.spec.clone(), Completion::pair().0));
    let mut block = 0;
    loop {
        cache(&mut engine, block);
        if block % 7 == 0 {
            let record = primary.next(pattern(block, 900));
            let sums = BlockSums::of(&record.payload);
            engine.accept(Request::Append(record, sums, None, Completion::pair().0));
        }
        engine.commit();
        let before = engine.log.free_segments();
        engine.recycle_some();
        block += 1;
        if engine.recycling() {
            assert!(before < 50, "below the high watermark nothing goes");
            break;
        }
        assert!(before >= 50, "above it something does");
    }
    let mut steps = 0;
    while engine.recycling() {
        engine.commit();
        engine.recycle_some();
        steps += 1;
        assert!(steps < 10_000, "it comes to an end");
    }
    let free = engine.log.free_segments();
    assert!((60..75).contains(&free), "{free} of 100 are free");
    let read = engine.table().read(primary.id(), 0, primary.bytes.len(), primary.length).unwrap();
    assert_eq!(read, primary.bytes, "what may not go is there");
    let newest = engine.table().cache_get(key(block - 1)).unwrap();
    assert_eq!(newest.unwrap(), pattern(block - 1, BLOCK));
}

#[test]
fn a_disk_that_fills_up_slows_appends_then_refuses_them_with_the_numbers() {
    let disk = memory();
    let (store, _) = open(&disk, 16);
    let usable = store.stats().usable_bytes;
    assert_eq!((store.pause(), store.stats().room_bytes > usable / 10 * 9), (Duration::ZERO, true));
    let (mut chunks, mut last, mut slowed) = (Vec::new(), Duration::ZERO, 0);
    let refused = 'full: loop {
        let mut primary = Primary::new(chunks.len() as u64 + 1, store.incarnation());
        if let Err(error) = store.create(primary.spec.clone()).wait() {
            break 'full error;
        }
        for n in 0..10 {
            let before = primary.clone();
            if let Err(error) = store.append(primary.next(pattern(n, 4000))).wait() {
                chunks.push(before);
                break 'full error;
            }
            let pause = store.pause();
            assert!(pause + Duration::from_millis(2) >= last, "it only grows: {pause:?} after {last:?}");
            slowed += u32::from(pause > Duration::ZERO);
            last = pause;
        }
        chunks.push(primary);
    };
    assert!(
        slowed > 5 && last > Duration::from_millis(10),
        "{slowed} {last:?} {refused} {:?}",
        store.stats()
    );
    let StoreError::DiskFull { pinned_bytes, usable_bytes } = refused else { panic!("{refused}") };
    assert!(pinned_bytes > usable_bytes / 4 * 3, "{pinned_bytes} of {usable_bytes}");
    assert!(refused.to_string().contains(&pinned_bytes.to_string()), "{refused}");
    // Fences and seals have room; and what is in S3 then makes room by itself.
    for primary in &chunks {
        store.fence(primary.fence(2)).wait().unwrap();
        assert_eq!(store.learn_sealed(primary.sealed(2)).wait(), Ok(SealedOutcome::Holder));
        store.persisted(primary.id(), Bytes::from_static(b"s3")).wait().unwrap();
    }
    // The figures are those of the batch before.
    store.flush().wait().unwrap();
    assert_eq!(store.pause(), Duration::ZERO);
    let mut primary = Primary::new(10_000, store.incarnation());
    store.create(primary.spec.clone()).wait().unwrap();
    for n in 0..20 {
        store.append(primary.next(pattern(n, 4000))).wait().unwrap();
    }
    assert_eq!(store.read(ChunkId(10_000), 0, 80_000, 80_000).unwrap(), primary.bytes);
}

#[test]
fn appends_take_nothing_of_what_fences_have_for_themselves() {
    let disk = memory();
    let (store, _) = open(&disk, 16);
    let mut primaries: Vec<Primary> = (1..=60).map(|n| Primary::new(n, store.incarnation())).collect();
    for primary in &primaries {
        store.create(primary.spec.clone()).wait().unwrap();
    }
    // Everyone appends until nobody can any more, and goes on trying while one chunk after the other is sealed.
    for fenced in 0..=primaries.len() {
        for primary in primaries.iter_mut().skip(fenced) {
            for n in 0..20 {
                let before = primary.clone();
                if store.append(primary.next(pattern(n, 4000))).wait().is_err() {
                    *primary = before;
                    break;
                }
            }
        }
        if let Some(primary) = primaries.get(fenced) {
            store.fence(primary.fence(2)).wait().unwrap();
            assert_eq!(store.learn_sealed(primary.sealed(2)).wait(), Ok(SealedOutcome::Holder));
        }
    }
}
