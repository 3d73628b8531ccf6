//! Uploads to stores that work, fail, lose answers and lie.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use cairn_proto::v1;
use cairn_types::random::SystemRandom;
use cairn_types::{Chain, ChunkId, ClusterId, InodeId, PackId, SystemClock};
use std::sync::Arc;

use super::pack::*;
use super::*;
use crate::understore::memory::{Fault, MemoryStore};
use crate::understore::suite::random_bytes;
use crate::understore::test_endpoint::s3_for_tests;
use crate::understore::{DirectoryStore, UnderStore, UnderStoreError};

const CLUSTER: ClusterId = ClusterId([7; 16]);

/// Sealed chunks in memory.
#[derive(Default)]
pub(crate) struct Chunks {
    chunks: HashMap<ChunkId, (Bytes, SealedChunk)>,
    unreadable: AtomicBool,
}

impl Chunks {
    /// Chunks 1, 2, … of these lengths; `ino` is what is known of the file.
    pub(crate) fn of(lengths: &[usize], ino: InodeId) -> Self {
        let mut chunks = HashMap::new();
        for (n, length) in lengths.iter().enumerate() {
            let chunk = ChunkId(n as u64 + 1);
            let (length, chain) = (*length as u64, Chain(100 + n as u32));
            let sealed = SealedChunk { length, chain, ino, base: 4096 };
            chunks.insert(chunk, (random_bytes(length as usize), sealed));
        }
        Self { chunks, unreadable: AtomicBool::new(false) }
    }

    fn with_ino(&self, ino: InodeId) -> Self {
        let chunks = self
            .chunks
            .iter()
            .map(|(id, (bytes, sealed))| (*id, (bytes.clone(), SealedChunk { ino, ..*sealed })));
        Self { chunks: chunks.collect(), unreadable: AtomicBool::new(false) }
    }

    pub(crate) fn bytes(&self, chunk: u64) -> Bytes {
        self.chunks[&ChunkId(chunk)].0.clone()
    }

    pub(crate) fn work(&self, key: &str) -> v1::Upload {
        let mut chunks: Vec<_> = self
            .chunks
            .iter()
            .map(|(id, (_, sealed))| v1::UploadChunk {
                chunk: id.0,
                length: sealed.length,
                chain: sealed.chain.0,
            })
            .collect();
        chunks.sort_by_key(|chunk| chunk.chunk);
        v1::Upload { intent: 5, pack: 6, key: key.to_owned(), chunks }
    }
}

#[async_trait]
impl SealedChunks for Chunks {
    fn sealed(&self, chunk: ChunkId) -> Option<SealedChunk> {
        self.chunks.get(&chunk).map(|(_, sealed)| *sealed)
    }

    async fn read(&self, chunk: ChunkId, offset: u64, length: usize) -> Result<Bytes, ReadFailed> {
        let failed = ReadFailed { chunk, offset };
        if self.unreadable.load(Ordering::Relaxed) {
            return Err(failed);
        }
        let (bytes, _) = self.chunks.get(&chunk).ok_or(failed)?;
        let range = offset as usize..offset as usize + length;
        if range.end > bytes.len() { Err(failed) } else { Ok(bytes.slice(range)) }
    }
}

fn uploader(store: &Arc<MemoryStore>, chunks: &Arc<Chunks>) -> Uploader {
    Uploader::new(Arc::clone(store) as Arc<dyn UnderStore>, Arc::clone(chunks) as _, CLUSTER)
}

fn small() -> (Arc<MemoryStore>, Arc<Chunks>) {
    (Arc::new(MemoryStore::with_checksums()), Arc::new(Chunks::of(&[10, 0, 5_000], InodeId(9))))
}

/// The object holds the chunks where the answer says, and describes itself.
fn check(object: &Bytes, answer: &v1::Uploaded, chunks: &Chunks, ino: InodeId) {
    assert_eq!((answer.pack, answer.bytes), (6, object.len() as u64));
    assert_eq!(answer.chunks.len(), chunks.chunks.len());
    let (body, trailer) = object.split_at(object.len() - TRAILER_BYTES as usize);
    let trailer = Trailer::decode(trailer).unwrap();
    let index = decode_index(&body[trailer.index_offset as usize..], &trailer).unwrap();
    let header = Header::decode(&object[..HEADER_BYTES as usize]).unwrap();
    assert_eq!(header, Header { cluster: CLUSTER, pack: PackId(6), chunks: index.len() as u32 });
    // From frame to frame, as a rebuild without the end would go.
    let mut at = HEADER_BYTES;
    for (entry, told) in index.iter().zip(&answer.chunks) {
        let bytes = chunks.bytes(entry.chunk.0);
        at += frame_header_bytes(entry.length);
        let start = (entry.offset - frame_header_bytes(entry.length)) as usize;
        let frame = FrameHeader::decode(&object[start..entry.offset as usize]).unwrap();
        assert_eq!((entry.offset, entry.length), (at, bytes.len() as u64));
        assert_eq!((frame.chunk, frame.length, frame.chain), (entry.chunk, entry.length, entry.chain));
        assert_eq!((entry.ino, entry.base), (ino, 4096));
        let payload = object.slice(entry.offset as usize..(entry.offset + entry.length) as usize);
        assert!(payload == bytes);
        let expected = (entry.chunk.0, entry.offset, entry.length, crc32c::crc32c(&payload));
        assert_eq!((told.chunk, told.offset, told.length, told.crc32c), expected);
        at += entry.length;
    }
    assert_eq!(at, trailer.index_offset);
}

#[tokio::test]
async fn a_pack_describes_itself_and_repeats_answer_the_same() {
    let store = Arc::new(MemoryStore::default());
    let chunks = Arc::new(Chunks::of(&[1, 0, (5 << 20) / 2, 70_000], InodeId(9)));
    let work = chunks.work("packs/6");
    let answer = uploader(&store, &chunks).upload(&work).await.unwrap();
    let object = store.object("packs/6").unwrap();
    check(&object, &answer, &chunks, InodeId(9));
    let again = uploader(&store, &chunks).upload(&work).await.unwrap();
    assert_eq!(again, answer);
    assert!(store.object("packs/6").unwrap() == object);
}

#[tokio::test]
async fn a_lost_answer_is_resolved_by_comparing() {
    let (store, chunks) = small();
    store.fail_next(Fault::AnswerLost);
    let answer = uploader(&store, &chunks).upload(&chunks.work("p")).await.unwrap();
    check(&store.object("p").unwrap(), &answer, &chunks, InodeId(9));
    assert_eq!(store.requests(), ["put p", "put p", "head p"]);
    // Lost to the end: the work is given back, and whoever takes it up succeeds.
    store.fail_next(Fault::AnswerLost);
    store.fail_next(Fault::AnswerLost);
    let error = uploader(&store, &chunks).upload(&chunks.work("q")).await.unwrap_err();
    assert_eq!(error, UploadError::Store(UnderStoreError::Unreachable));
    assert!(!error.permanent_here());
    assert!(uploader(&store, &chunks).upload(&chunks.work("q")).await.is_ok());
}

#[tokio::test]
async fn a_store_that_asks_to_slow_down_is_not_asked_again_at_once() {
    let (store, chunks) = small();
    store.fail_next(Fault::SlowDown);
    let error = uploader(&store, &chunks).upload(&chunks.work("p")).await.unwrap_err();
    assert!(matches!(error, UploadError::Store(UnderStoreError::Throttled { .. })), "{error:?}");
    assert!(!error.permanent_here());
    assert_eq!(store.requests(), ["put p"]);
    assert!(uploader(&store, &chunks).upload(&chunks.work("p")).await.is_ok());
}

#[tokio::test]
async fn a_pack_by_one_who_knew_less_is_adopted() {
    let (store, chunks) = small();
    let knew_less = Arc::new(chunks.with_ino(InodeId(0)));
    let first = uploader(&store, &knew_less).upload(&chunks.work("p")).await.unwrap();
    let object = store.object("p").unwrap();
    let second = uploader(&store, &chunks).upload(&chunks.work("p")).await.unwrap();
    assert_eq!(second, first);
    assert!(store.object("p").unwrap() == object);
    check(&object, &second, &chunks, InodeId(0));
}

#[tokio::test]
async fn a_foreign_object_is_left_alone() {
    let (store, chunks) = small();
    let work = chunks.work("p");
    let other = Arc::new(Chunks::of(&[10, 0, 5_000], InodeId(9)));
    uploader(&store, &other).upload(&work).await.unwrap();
    let foreign = store.object("p").unwrap();
    let mut damaged = foreign.to_vec();
    damaged[100] ^= 1;
    for bytes in [foreign, Bytes::from_static(b"something else"), Bytes::new(), damaged.into()] {
        store.replace("p", bytes.clone());
        let error = uploader(&store, &chunks).upload(&work).await.unwrap_err();
        assert_eq!(error, UploadError::Conflict { key: "p".to_owned() });
        assert!(error.permanent_here());
        assert!(store.object("p").unwrap() == bytes);
    }
}

#[tokio::test]
async fn a_store_that_keeps_other_bytes_is_not_believed() {
    for store in [MemoryStore::with_checksums(), MemoryStore::default()] {
        let (store, chunks) = (Arc::new(store), small().1);
        store.fail_next(Fault::WrongBytes);
        let error = uploader(&store, &chunks).upload(&chunks.work("p")).await.unwrap_err();
        assert_eq!(error, UploadError::NotVerified { key: "p".to_owned() });
        assert_eq!(store.object("p"), None, "its key is free again");
        assert!(uploader(&store, &chunks).upload(&chunks.work("p")).await.is_ok());
    }
}

#[tokio::test]
async fn what_is_not_the_sealed_chunk_does_not_go_up() {
    let (store, chunks) = small();
    let uploader = uploader(&store, &chunks);
    let wrong = |change: fn(&mut v1::Upload)| {
        let mut work = chunks.work("p");
        change(&mut work);
        work
    };
    let cases = [
        (wrong(|w| w.chunks[1].chain ^= 1), UploadError::Differs { chunk: ChunkId(2) }),
        (wrong(|w| w.chunks[0].length += 1), UploadError::Differs { chunk: ChunkId(1) }),
        (wrong(|w| w.chunks[2].chunk = 99), UploadError::Differs { chunk: ChunkId(99) }),
        (wrong(|w| w.chunks[2].chunk = 1), UploadError::Malformed { field: "chunks.chunk" }),
        (wrong(|w| w.chunks.clear()), UploadError::Malformed { field: "chunks" }),
        (wrong(|w| w.chunks[0].length = u64::MAX), UploadError::Malformed { field: "chunks.length" }),
        (wrong(|w| w.key.clear()), UploadError::Malformed { field: "key" }),
    ];
    for (work, expected) in cases {
        assert_eq!(uploader.upload(&work).await.unwrap_err(), expected);
    }
    chunks.unreadable.store(true, Ordering::Relaxed);
    let error = uploader.upload(&chunks.work("p")).await.unwrap_err();
    assert!(matches!(error, UploadError::Read(_)), "{error}");
    assert!(store.requests().is_empty(), "nothing was sent");
}

#[tokio::test]
async fn deleting_a_pack_can_be_repeated() {
    let (store, chunks) = small();
    let uploader = uploader(&store, &chunks);
    uploader.upload(&chunks.work("p")).await.unwrap();
    let work = v1::DeletePack { intent: 8, pack: 6, key: "p".to_owned() };
    store.fail_next(Fault::AnswerLost);
    assert!(uploader.delete_pack(&work).await.is_err());
    uploader.delete_pack(&work).await.unwrap();
    assert_eq!(store.object("p"), None);
}

async fn large(store: Arc<dyn UnderStore>) {
    let chunks = Arc::new(Chunks::of(&[3 << 20, (20 << 20) + 5, 100], InodeId(9)));
    let uploader = Uploader::new(Arc::clone(&store), Arc::clone(&chunks) as _, CLUSTER);
    let answer = uploader.upload(&chunks.work("large")).await.unwrap();
    let mut object = Vec::new();
    while (object.len() as u64) < answer.bytes {
        let at = object.len() as u64;
        let end = answer.bytes.min(at + crate::understore::GET_BYTES_MAX);
        let fetched = store.get_range("large", at..end, Some(&answer.etag)).await.unwrap();
        object.extend_from_slice(&fetched.bytes);
    }
    check(&object.into(), &answer, &chunks, InodeId(9));
    assert_eq!(uploader.upload(&chunks.work("large")).await.unwrap(), answer);
    let work = v1::DeletePack { intent: 8, pack: 6, key: "large".to_owned() };
    uploader.delete_pack(&work).await.unwrap();
    assert!(store.head("large").await.is_err());
}

#[tokio::test]
async fn directory() {
    let home = tempfile::tempdir().unwrap();
    large(Arc::new(DirectoryStore::open(home.path(), &SystemClock, &SystemRandom).await.unwrap())).await;
}

#[tokio::test]
async fn s3() {
    large(Arc::new(s3_for_tests().await)).await;
}
