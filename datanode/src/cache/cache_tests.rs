//! Reads through the cache, from stores that work, change, fail and lie.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use cairn_proto::v1;
use cairn_types::{ChunkId, ClusterId, DiskId, InodeId};

use super::*;
use crate::understore::memory::{Fault, MemoryStore};
use crate::understore::suite::random_bytes;
use crate::understore::{Buckets, MountBucket, MountedStore, UnderStore, UnderStoreError};
use crate::upload::Uploader;
use crate::upload::uploader_tests::Chunks;

const MIB: usize = 1 << 20;

#[derive(Default)]
struct MemoryBlocks {
    // Guards nothing but the map's own consistency.
    blocks: Mutex<HashMap<BlockKey, Bytes>>,
}

#[async_trait]
impl Blocks for MemoryBlocks {
    async fn get(&self, key: BlockKey) -> Option<Bytes> {
        self.blocks.lock().unwrap().get(&key).cloned()
    }

    async fn put(&self, key: BlockKey, block: Bytes) {
        assert!(block.len() <= MIB);
        self.blocks.lock().unwrap().insert(key, block);
    }
}

struct OneBucket(Arc<MemoryStore>);

impl Buckets for OneBucket {
    fn for_mount(&self, _: &MountBucket) -> Arc<dyn MountedStore> {
        Arc::clone(&self.0) as Arc<dyn MountedStore>
    }
}

fn cache(store: &Arc<MemoryStore>) -> Cache {
    cache_on(store, Arc::default())
}

fn cache_on(store: &Arc<MemoryStore>, blocks: Arc<MemoryBlocks>) -> Cache {
    let packs: Arc<dyn UnderStore> = Arc::clone(store) as _;
    Cache::new(blocks, Some(packs), Arc::new(OneBucket(Arc::clone(store))), DiskId([3; 16]))
}

fn range_of(key: &str, etag: &str, size: usize) -> v1::ObjectRange {
    v1::ObjectRange {
        mount: 1,
        bucket: "b".to_owned(),
        key: Bytes::from(key.to_owned()),
        etag: etag.to_owned(),
        size: size as u64,
        ..v1::ObjectRange::default()
    }
}

#[tokio::test]
async fn any_range_is_read_and_kept() {
    let store = Arc::new(MemoryStore::default());
    let bytes = random_bytes(3 * MIB + 17);
    let etag = store.replace("o", bytes.clone());
    let object = range_of("o", &etag, bytes.len());
    let blocks = Arc::new(MemoryBlocks::default());
    let cache = cache_on(&store, Arc::clone(&blocks));
    let ranges =
        [(0, 1), (MIB - 1, 2), (0, 3 * MIB + 17), (3 * MIB, 17), (2 * MIB, MIB), (5, 0), (3 * MIB + 17, 0)];
    for (offset, length) in ranges {
        let read = cache.read_object(&object, offset as u64, length).await.unwrap();
        assert!(read == bytes.slice(offset..offset + length), "{offset}+{length}");
    }
    assert_eq!(store.gets(), 4, "{:?}", store.requests());
    // Another life of the node, with the same disk.
    let later = cache_on(&store, blocks);
    assert!(later.read_object(&object, 0, bytes.len()).await.unwrap() == bytes);
    assert_eq!(store.gets(), 4);
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused() {
    let store = Arc::new(MemoryStore::default());
    let etag = store.replace("o", "12345");
    let cache = cache(&store);
    let good = range_of("o", &etag, 5);
    let malformed = |field| Err(ReadError::Malformed { field });
    assert_eq!(cache.read_object(&good, 3, 3).await, malformed("length"));
    assert_eq!(cache.read_object(&good, u64::MAX, 3).await, malformed("length"));
    assert_eq!(cache.read_object(&range_of("o", &etag, 100 * MIB), 0, 9 * MIB).await, malformed("length"));
    assert_eq!(cache.read_object(&range_of("o", "", 5), 0, 1).await, malformed("etag"));
    assert_eq!(cache.read_object(&range_of("", &etag, 5), 0, 1).await, malformed("key"));
    let no_text = v1::ObjectRange { key: Bytes::from_static(b"\xff"), ..good };
    assert_eq!(cache.read_object(&no_text, 0, 1).await, malformed("key"));
    let place = v1::PackPlace { pack: 1, key: "p".to_owned(), offset: 3, length: 5 };
    assert_eq!(cache.read_persisted(ChunkId(1), &place, 0, 1).await, malformed("place"));
    assert_eq!(store.gets(), 0);
}

#[tokio::test]
async fn one_get_however_many_wait() {
    let store = Arc::new(MemoryStore::gated());
    let bytes = random_bytes(MIB);
    let object = range_of("o", &store.replace("o", bytes.clone()), MIB);
    let cache = cache(&store);
    let readers: Vec<_> = (0..50)
        .map(|n| {
            let (cache, object) = (cache.clone(), object.clone());
            tokio::spawn(async move { cache.read_object(&object, n * 1_000, 1_000).await })
        })
        .collect();
    // One reader gives up: the others are not concerned.
    readers[0].abort();
    store.gate.as_ref().unwrap().add_permits(1);
    for (n, reader) in readers.into_iter().enumerate().skip(1) {
        let read = reader.await.unwrap().unwrap();
        assert!(read == bytes.slice(n * 1_000..(n + 1) * 1_000));
    }
    assert_eq!(store.gets(), 1);
}

#[tokio::test]
async fn two_versions_are_never_mixed() {
    let store = Arc::new(MemoryStore::default());
    let (first, second) = (random_bytes(2 * MIB), random_bytes(2 * MIB));
    let old = range_of("o", &store.replace("o", first.clone()), 2 * MIB);
    let cache = cache(&store);
    let half = cache.read_object(&old, MIB as u64, MIB).await.unwrap();
    assert!(half == first.slice(MIB..));
    let new = range_of("o", &store.replace("o", second.clone()), 2 * MIB);
    // What is kept of the old version is still that version; what is not is refused.
    assert!(cache.read_object(&old, MIB as u64, MIB).await.unwrap() == half);
    assert_eq!(cache.read_object(&old, 0, 1).await, Err(ReadError::ObjectChanged));
    assert_eq!(cache.read_object(&old, 0, 2 * MIB).await, Err(ReadError::ObjectChanged));
    assert!(cache.read_object(&new, 0, 2 * MIB).await.unwrap() == second);
    let gone = range_of("gone", "e", 10);
    assert_eq!(cache.read_object(&gone, 0, 1).await, Err(ReadError::ObjectChanged));
    // A size that is not the version's.
    let etag = store.replace("short", "12345");
    assert_eq!(cache.read_object(&range_of("short", &etag, 10), 0, 10).await, Err(ReadError::ObjectChanged));
}

#[tokio::test]
async fn who_reads_in_order_finds_the_next_blocks_there() {
    let store = Arc::new(MemoryStore::default());
    let bytes = random_bytes(12 * MIB + 5);
    let object = range_of("o", &store.replace("o", bytes.clone()), bytes.len());
    let blocks = Arc::new(MemoryBlocks::default());
    let cache = cache_on(&store, Arc::clone(&blocks));
    cache.read_object(&object, 0, MIB).await.unwrap();
    // The first read alone brings the next two blocks.
    while blocks.blocks.lock().unwrap().len() < 3 {
        tokio::task::yield_now().await;
    }
    assert_eq!(store.gets(), 3);
    for at in (MIB..bytes.len()).step_by(MIB / 2) {
        let length = (MIB / 2).min(bytes.len() - at);
        assert!(cache.read_object(&object, at as u64, length).await.unwrap() == bytes.slice(at..at + length));
    }
    assert_eq!(store.gets(), 13, "each block once");
    // One who jumps about gets what he asks for.
    let other = range_of("p", &store.replace("p", bytes.clone()), bytes.len());
    for at in [9, 3, 11, 1] {
        cache.read_object(&other, at * MIB as u64, 10).await.unwrap();
    }
    tokio::task::yield_now().await;
    assert_eq!(store.gets(), 17);
}

#[tokio::test]
async fn s3_may_fail_and_come_back() {
    let store = Arc::new(MemoryStore::default());
    let object = range_of("o", &store.replace("o", "12345"), 5);
    let cache = cache(&store);
    store.fail_next(Fault::Unreachable);
    assert_eq!(cache.read_object(&object, 0, 5).await.unwrap(), "12345");
    let other = range_of("p", &store.replace("p", "67890"), 5);
    (0..3).for_each(|_| store.fail_next(Fault::Unreachable));
    let error = cache.read_object(&other, 0, 5).await.unwrap_err();
    assert_eq!(error, ReadError::Store(UnderStoreError::Unreachable));
    assert_eq!(cache.read_object(&other, 0, 5).await.unwrap(), "67890");
}

async fn packed(store: &Arc<MemoryStore>, chunks: &Arc<Chunks>) -> Vec<(ChunkId, v1::PackPlace)> {
    let uploader =
        Uploader::new(Arc::clone(store) as Arc<dyn UnderStore>, Arc::clone(chunks) as _, ClusterId([1; 16]));
    let answer = uploader.upload(&chunks.work("pack")).await.unwrap();
    let place = |chunk: &v1::UploadedChunk| v1::PackPlace {
        pack: answer.pack,
        key: "pack".to_owned(),
        offset: chunk.offset,
        length: chunk.length,
    };
    answer.chunks.iter().map(|chunk| (ChunkId(chunk.chunk), place(chunk))).collect()
}

#[tokio::test]
async fn persisted_chunks_are_read_and_checked() {
    let store = Arc::new(MemoryStore::with_checksums());
    let chunks = Arc::new(Chunks::of(&[10, 2 * MIB + 7, 5_000], InodeId(9)));
    let places = packed(&store, &chunks).await;
    let blocks = Arc::new(MemoryBlocks::default());
    let cache = cache_on(&store, Arc::clone(&blocks));
    for (chunk, place) in &places {
        let bytes = chunks.bytes(chunk.0);
        for (offset, length) in [(0, bytes.len()), (bytes.len() - 1, 1), (3, 5)] {
            let read = cache.read_persisted(*chunk, place, offset as u64, length).await.unwrap();
            assert!(read == bytes.slice(offset..offset + length), "{chunk} {offset}+{length}");
        }
    }
    // Five blocks and three frame headers.
    assert_eq!(store.gets(), 8, "{:?}", store.requests());
    assert_eq!(
        cache.read_persisted(ChunkId(77), &places[0].1, 0, 1).await,
        Err(ReadError::Corrupt { chunk: ChunkId(77) }),
        "another chunk's place"
    );
}

#[tokio::test]
async fn damage_in_a_pack_is_never_served() {
    let store = Arc::new(MemoryStore::with_checksums());
    let chunks = Arc::new(Chunks::of(&[2 * MIB], InodeId(9)));
    let places = packed(&store, &chunks).await;
    let (chunk, place) = &places[0];
    let bytes = chunks.bytes(chunk.0);
    // On the way: fetched again.
    store.fail_next(Fault::WrongBytes);
    let read = cache(&store).read_persisted(*chunk, place, 0, 2 * MIB).await.unwrap();
    assert!(read == bytes);
    // For good: one block is lost, the other is not.
    let mut damaged = store.object("pack").unwrap().to_vec();
    damaged[place.offset as usize + MIB + 5] ^= 1;
    store.replace("pack", damaged);
    let cache = cache(&store);
    assert!(cache.read_persisted(*chunk, place, 0, MIB).await.unwrap() == bytes.slice(..MIB));
    let lost = cache.read_persisted(*chunk, place, MIB as u64, 1).await;
    assert_eq!(lost, Err(ReadError::Corrupt { chunk: *chunk }));
    store.delete("pack", None).await.unwrap();
    let lost = cache.read_persisted(*chunk, place, MIB as u64, 1).await;
    assert_eq!(lost, Err(ReadError::Lost { chunk: *chunk }));
    let nothing: Option<Arc<dyn UnderStore>> = None;
    let buckets = Arc::new(OneBucket(Arc::clone(&store)));
    let bare = Cache::new(Arc::new(MemoryBlocks::default()), nothing, buckets, DiskId([3; 16]));
    assert_eq!(bare.read_persisted(*chunk, place, 0, 1).await, Err(ReadError::NoUnderStore));
}
