//! What the tests of this folder stand on: a bucket, chunks, and work.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use cairn_proto::v1;
use cairn_proto::v1::object_piece::Source as From;
use cairn_types::{ChunkId, ClusterId, Timestamp};
use tokio::sync::Notify;

use super::*;
use crate::understore::memory::MemoryStore;
use crate::understore::{Condition, GET_BYTES_MAX, Inspected, MountedStore, Properties, S3Store, UnderStore};
use crate::upload::ReadFailed;

pub(super) const CLUSTER: ClusterId = ClusterId([0xc1; 16]);
pub(super) const MIB: usize = 1 << 20;

/// Chunks in memory; one that is not there is waited for in vain, and that is told.
#[derive(Default)]
pub(super) struct FixedChunks {
    pub(super) chunks: HashMap<u64, Bytes>,
    pub(super) waited_for: Notify,
}

#[async_trait]
impl Chunks for FixedChunks {
    async fn read(&self, range: &v1::ChunkRange, offset: u64, length: usize) -> Result<Bytes, ReadFailed> {
        assert!(length <= MIB, "a chunk is read by the mebibyte");
        match self.chunks.get(&range.chunk) {
            Some(bytes) if range.chunk != BROKEN => {
                Ok(bytes.slice(offset as usize..offset as usize + length))
            }
            Some(_) => Err(ReadFailed { chunk: ChunkId(range.chunk), offset }),
            None => {
                self.waited_for.notify_one();
                std::future::pending().await
            }
        }
    }
}

/// A chunk that does not read.
pub(super) const BROKEN: u64 = 99;

/// A bucket, chunks, and what is made of them.
pub(super) struct Bench {
    pub(super) store: Arc<dyn MountedStore>,
    pub(super) chunks: Arc<FixedChunks>,
    pub(super) abilities: Option<v1::EndpointAbilities>,
    pub(super) sole_writer: bool,
}

pub(super) fn all_abilities() -> v1::EndpointAbilities {
    v1::EndpointAbilities {
        put_if_absent: true,
        put_if_match: true,
        complete_if_absent: true,
        complete_if_match: true,
        copy_if_absent: true,
        copy_if_match: true,
        copy_source_if_match: true,
        delete_if_match: true,
        part_copy: true,
        crc32c: true,
        crc64nvme: false,
        get_if_match: true,
        byte_order: true,
        writable: true,
    }
}

impl Bench {
    pub(super) fn new(store: Arc<dyn MountedStore>, chunks: &[(u64, Bytes)]) -> Self {
        let chunks = chunks.iter().cloned().collect();
        let chunks = Arc::new(FixedChunks { chunks, waited_for: Notify::new() });
        Self { store, chunks, abilities: Some(all_abilities()), sole_writer: false }
    }

    pub(super) fn memory(store: &MemoryStore, chunks: &[(u64, Bytes)]) -> Self {
        Self::new(Arc::new(store.clone()), chunks)
    }

    pub(super) fn work(
        &self,
        intent: u64,
        key: &str,
        replaces: &str,
        pieces: Vec<v1::ObjectPiece>,
    ) -> v1::PutObject {
        let (abilities, sole_writer) = (self.abilities, self.sole_writer);
        let bucket = v1::MountedBucket { abilities, sole_writer, ..v1::MountedBucket::default() };
        v1::PutObject {
            intent,
            bucket: Some(bucket),
            key: Bytes::from(key.to_owned()),
            replaces: replaces.to_owned(),
            length: pieces.iter().map(|piece| piece.length).sum(),
            pieces,
            metadata: HashMap::from([("mtime".to_owned(), "1.5".to_owned())]),
            ..v1::PutObject::default()
        }
    }

    pub(super) async fn put(&self, work: &v1::PutObject) -> Result<PutDone, ObjectError> {
        self.prepare(work)?.run().await
    }

    pub(super) fn prepare(&self, work: &v1::PutObject) -> Result<Put, ObjectError> {
        let order = Order::new(CLUSTER, work)?;
        Put::new(order, Arc::clone(&self.store), Arc::clone(&self.chunks) as _, Buffers::default())
    }

    /// A size, and what of it is sent and copied, where the endpoint copies versions alone.
    pub(super) fn divided(&self, sent: u64, copied: u64) -> (u64, u64, u64) {
        let copies = self.abilities.is_some_and(|can| can.copy_source_if_match && can.part_copy);
        if copies { (sent + copied, sent, copied) } else { (sent + copied, sent + copied, 0) }
    }

    pub(super) async fn written(&self, work: &v1::PutObject) -> (ObjectVersion, u64, u64) {
        match self.put(work).await.unwrap() {
            PutDone::Written { object, sent_bytes, copied_bytes } => (object, sent_bytes, copied_bytes),
            conflict => panic!("{conflict:?}"),
        }
    }

    pub(super) async fn conflict(&self, work: &v1::PutObject) -> Found {
        match self.put(work).await.unwrap() {
            PutDone::Conflict(found) => found,
            written => panic!("{written:?}"),
        }
    }

    /// An object that somebody else makes.
    pub(super) async fn outside(&self, key: &str, bytes: &Bytes) -> Inspected {
        let properties = Properties {
            metadata: [("color".to_owned(), "blue".to_owned())].into(),
            content_type: Some("text/x-test".to_owned()),
            cache_control: Some("no-cache".to_owned()),
            tags: Some("team=red&t%2F1=a%20b".to_owned()),
            ..Properties::default()
        };
        if bytes.len() <= 16 * MIB {
            self.store.put(key, &Condition::Unchecked, &properties, bytes.clone()).await.unwrap();
        } else {
            let mut upload = self.store.begin(key, &properties).await.unwrap();
            let mut parts = Vec::new();
            for (number, part) in (1_u16..).zip(bytes.chunks(8 * MIB)) {
                parts.push(upload.send(number, Bytes::copy_from_slice(part)).await.unwrap());
            }
            upload.complete(&Condition::Unchecked, &parts, bytes.len() as u64, None).await.unwrap();
        }
        self.store.inspect(key).await.unwrap()
    }

    pub(super) async fn read(&self, key: &str) -> Bytes {
        let object = self.store.inspect(key).await.unwrap();
        let mut bytes = BytesMut::new();
        while (bytes.len() as u64) < object.size {
            let at = bytes.len() as u64;
            let end = object.size.min(at + GET_BYTES_MAX);
            bytes.extend_from_slice(
                &self.store.get_range(key, at..end, Some(&object.etag)).await.unwrap().bytes,
            );
        }
        bytes.freeze()
    }
}

pub(super) fn chunk(chunk: u64, offset: u64, length: usize) -> v1::ObjectPiece {
    let range = v1::ChunkRange { chunk, sealed_length: offset + length as u64, ..v1::ChunkRange::default() };
    v1::ObjectPiece { offset, length: length as u64, source: Some(From::Chunk(range)) }
}

pub(super) fn hole(length: usize) -> v1::ObjectPiece {
    v1::ObjectPiece { offset: 0, length: length as u64, source: Some(From::Hole(true)) }
}

pub(super) fn object(key: &str, seen: &Inspected, offset: usize, length: usize) -> v1::ObjectPiece {
    let (key, etag, size) = (Bytes::from(key.to_owned()), seen.etag.clone(), seen.size);
    let source = Some(From::Object(v1::SourceObject { key, etag, size }));
    v1::ObjectPiece { offset: offset as u64, length: length as u64, source }
}

pub(super) fn version(seen: Inspected) -> Option<ObjectVersion> {
    Some(seen.into())
}

/// A store that checks nothing may be believed in nothing.
pub(super) fn memory() -> MemoryStore {
    MemoryStore::with_checksums()
}

/// Waits until no upload of the store's is left.
pub(super) async fn no_uploads_left(store: &S3Store) {
    let left = async {
        while store.count_abandoned("", Timestamp(i64::MAX)).await.unwrap() > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), left).await.expect("an upload is left");
}
