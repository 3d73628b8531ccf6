//! The cache in a real chunk store: blocks are found again, dropped under pressure, and never wrong.

use std::sync::Arc;

use bytes::Bytes;
use cairn_types::{DiskId, SystemClock};

use super::*;
use crate::chunk::{ChunkStore, Fill, StoreOptions};
use crate::disk::MemoryDisk;

const SEGMENT: u64 = 4 << 20;

fn open(disk: &MemoryDisk, segments: u64) -> ChunkStore {
    let options = StoreOptions {
        disk: DiskId([4; 16]),
        segment_bytes: SEGMENT,
        capacity_bytes: SEGMENT * segments,
        boot_id: [1; 16],
        threads: false,
        queue_bytes: 128 << 20,
        fill: Fill::default(),
    };
    ChunkStore::open(Arc::new(disk.clone()), Arc::new(SystemClock), options).unwrap().0
}

fn key(block: u64) -> BlockKey {
    BlockKey { object: 7 << 70 | 9, block }
}

/// Block `n`, as long as a block may be.
fn block(n: u64) -> Bytes {
    vec![n as u8 + 1; BLOCK_BYTES as usize].into()
}

#[tokio::test]
async fn blocks_are_kept_and_dropped_when_space_is_short() {
    let disk = MemoryDisk::new(64 << 20);
    let store = open(&disk, 8);
    assert_eq!(Blocks::get(&store, key(0)).await, None);
    for n in 0..4 {
        store.put(key(n), block(n)).await;
    }
    store.put(key(BlockKey::HEADER), Bytes::from_static(b"header")).await;
    for n in 0..4 {
        assert!(Blocks::get(&store, key(n)).await == Some(block(n)), "block {n}");
    }
    assert_eq!(Blocks::get(&store, key(BlockKey::HEADER)).await.unwrap(), "header");
    assert_eq!(Blocks::get(&store, BlockKey { object: 9, block: 0 }).await, None, "another object");
    // Far more than fits: writing goes on, and what is still there is right.
    for n in 4..100 {
        store.put(key(n), block(n)).await;
    }
    let mut found = 0;
    for n in 0..100 {
        if let Some(kept) = Blocks::get(&store, key(n)).await {
            assert!(kept == block(n), "block {n}");
            found += 1;
        }
    }
    assert!((1..40).contains(&found), "{found} blocks of 1 MiB in 32 MiB");
    assert!(Blocks::get(&store, key(99)).await.is_some(), "the newest is there");
    store.evict(None).await.unwrap();
    assert_eq!(Blocks::get(&store, key(99)).await, None);
    store.close();
}

#[tokio::test]
async fn blocks_outlive_the_process() {
    let disk = MemoryDisk::new(64 << 20);
    let store = open(&disk, 8);
    store.put(key(1), block(1)).await;
    store.flush().await.unwrap();
    store.close();
    let store = open(&disk, 8);
    assert!(Blocks::get(&store, key(1)).await == Some(block(1)));
    store.close();
}
