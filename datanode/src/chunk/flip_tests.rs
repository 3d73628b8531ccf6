//! Random bits flip in every kind of file of a replica: a reader gets the bytes that were written, or
//! an error. `CAIRN_LONG` (`cargo xtask test --long`) flips ten thousand.

use std::sync::Arc;

use bytes::Bytes;
use cairn_types::{ChunkId, ClusterId, DiskId, Timestamp};

use super::request::CacheKey;
use super::scaffold::{Dice, Primary, Ticks, memory, options, pattern};
use super::store::ChunkStore;
use crate::disk::{Disk, Identity, MemoryDisk};

const FLIPS: u64 = 300;
const FLIPS_LONG: u64 = 10_000;
const SEGMENTS: u64 = 9;
const BLOCKS: u64 = 12;

/// What was written.
struct Written {
    disk: MemoryDisk,
    identity: Identity,
    chunks: Vec<(ChunkId, Vec<u8>)>,
}

fn key(block: u64) -> CacheKey {
    CacheKey { object: 77 << 70 | 5, block }
}

/// Sealed chunks in S3 and not, an open one, large and small records, blocks of the cache; some of it
/// moved by recycling.
fn written(dice: &mut Dice) -> Written {
    let disk = memory();
    let (disk_id, cluster, formatted_at) = (DiskId([0xd1; 16]), ClusterId([7; 16]), Timestamp(5));
    let identity = Identity { disk: disk_id, cluster, formatted_at };
    identity.write(&disk).unwrap();
    let store = open(&disk).unwrap();
    let mut chunks = Vec::new();
    for chunk in 1..=4u64 {
        let mut primary = Primary::new(chunk, store.incarnation());
        store.create(primary.spec.clone()).wait().unwrap();
        for n in 0..8 {
            let length = if n == 3 { 20_000 } else { 1 + dice.roll(3000) as usize };
            store.append(primary.next(pattern(dice.roll(1 << 40), length))).wait().unwrap();
        }
        if chunk != 2 {
            store.learn_sealed(primary.sealed(1)).wait().unwrap();
        }
        if chunk == 3 {
            store.persisted(primary.id(), Bytes::from_static(b"s3")).wait().unwrap();
        }
        chunks.push((primary.id(), primary.bytes));
    }
    for turn in 0..60 {
        store.cache_put(key(turn % BLOCKS), pattern(turn % BLOCKS, 5000).into()).wait().unwrap();
    }
    store.close();
    Written { disk, identity, chunks }
}

fn open(disk: &MemoryDisk) -> Option<ChunkStore> {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    ChunkStore::open(shared, Arc::new(Ticks::default()), options(SEGMENTS)).ok().map(|(store, _)| store)
}

/// Reads everything, in whole and in parts. Answers how many reads were served and how many refused.
fn read_all(store: &ChunkStore, written: &Written, dice: &mut Dice) -> (u64, u64) {
    let (mut served, mut refused) = (0, 0);
    for (chunk, bytes) in &written.chunks {
        let all = bytes.len() as u64;
        for part in 0..6 {
            let from = if part == 0 { 0 } else { dice.roll(all) };
            let length = if part == 0 { all } else { 1 + dice.roll((all - from).min(9000)) };
            match store.read(*chunk, from, length as usize, all) {
                Ok(found) => {
                    served += 1;
                    assert!(found == bytes[from as usize..(from + length) as usize], "{chunk} at {from}");
                }
                Err(_) => refused += 1,
            }
        }
        let mut at = 0;
        while let Ok(records) = store.records(*chunk, at, u64::MAX, 8_000)
            && let Some(last) = records.last()
        {
            let found: Vec<u8> = records.iter().flat_map(|r| r.payload.to_vec()).collect();
            assert!(bytes[at as usize..].starts_with(&found), "records of {chunk} at {at}");
            at = last.end();
        }
    }
    for block in 0..BLOCKS {
        match store.cache_get(key(block)) {
            Some(found) => assert!(found == pattern(block, 5000), "block {block}"),
            None => refused += 1,
        }
    }
    (served, refused)
}

fn flip_one(disk: &MemoryDisk, dice: &mut Dice) -> (String, usize) {
    let mut files: Vec<String> =
        disk.list("segments").unwrap().iter().map(|name| format!("segments/{name}")).collect();
    files.push("identity".to_owned());
    let name = files.swap_remove(dice.roll(files.len() as u64) as usize);
    let size = disk.contents(&name).unwrap().len() as u64;
    // Headers and the ends of segments are small, and more is told by them.
    let offset = match dice.roll(8) {
        0 => dice.roll(size.min(64)),
        1 => size - 1 - dice.roll(size.min(8192)),
        _ => dice.roll(size),
    } as usize;
    disk.flip(&name, offset, dice.roll(8) as u8);
    (name, offset)
}

#[test]
fn a_flipped_bit_in_any_file_never_reaches_a_reader() {
    let long = std::env::var_os("CAIRN_LONG").is_some();
    let seed = std::env::var("CAIRN_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(4711u64);
    let mut dice = Dice(seed | 1);
    let written = written(&mut dice);
    let (mut served, mut refused, mut unopened) = (0, 0, 0);
    for flip in 0..if long { FLIPS_LONG } else { FLIPS } {
        let disk = written.disk.duplicate();
        let store = open(&disk).unwrap();
        let mut flipped = Vec::new();
        // One is the rule; a few at once must not do more.
        for _ in 0..=dice.roll(4) / 3 {
            flipped.push(flip_one(&disk, &mut dice));
        }
        // With the store open, then opened again over the rot.
        let counts = read_all(&store, &written, &mut dice);
        (served, refused) = (served + counts.0, refused + counts.1);
        store.close();
        drop(store);
        if let Ok(found) = Identity::read(&disk, None) {
            assert_eq!(found, Some(written.identity), "flip {flip}: {flipped:?}");
        }
        match open(&disk) {
            Some(store) => drop(read_all(&store, &written, &mut dice)),
            None => unopened += 1,
        }
    }
    assert!(served > refused && refused > 0, "{served} {refused}");
    assert!(unopened < FLIPS / 4, "{unopened}");
}
