//! [`Cache`]: reads of persisted chunks and of objects.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cairn_proto::v1;
use cairn_types::limits::CHUNK_BYTES_MAX;
use cairn_types::{ChunkId, DiskId};
use futures::{StreamExt, TryStreamExt};
use tokio::sync::Semaphore;

use super::ahead::Ahead;
use super::blocks::Identities;
use super::flights::Flights;
use super::origin::{Kind, Origin};
use super::{BLOCK_BYTES, Blocks, ReadError};
use crate::understore::{Buckets, MountBucket, MountedStore, UnderStore};
use crate::upload::pack::frame_header_bytes;

/// Blocks being fetched at once when nobody says otherwise: bounds their memory to 32 MiB.
const FETCHES_MAX: usize = 32;
/// Of these, and of what waits for a turn, the part that nobody has asked for yet.
const AHEAD_PART: usize = 2;
/// Blocks that one read waits for at once.
const BLOCKS_AT_ONCE: usize = 8;
/// Bytes of one read, at most.
const READ_BYTES_MAX: usize = 8 << 20;
/// How long a read waits for S3.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Turns to fetch blocks, of all caches of a process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Fetches {
    turns: Arc<Semaphore>,
    turns_ahead: Arc<Semaphore>,
}

impl Fetches {
    /// So many blocks at once, two at least.
    #[must_use]
    pub fn new(blocks: usize) -> Self {
        let blocks = blocks.max(AHEAD_PART);
        let (turns, turns_ahead) = (Semaphore::new(blocks), Semaphore::new(blocks / AHEAD_PART));
        Self { turns: Arc::new(turns), turns_ahead: Arc::new(turns_ahead) }
    }
}

/// Reads bytes that lie in S3, keeping blocks of 1 MiB. Cheap to clone.
#[derive(Clone)]
pub struct Cache {
    packs: Option<Arc<dyn UnderStore>>,
    buckets: Arc<dyn Buckets>,
    identities: Identities,
    flights: Flights,
    turns: Arc<Semaphore>,
    turns_ahead: Arc<Semaphore>,
    // Guards the memory of who reads in order; held for one look-up.
    ahead: Arc<Mutex<Ahead>>,
}

impl Cache {
    /// A cache in `blocks`, in front of the cluster's own under-store (`packs`, when there is one)
    /// and the buckets of mounts. `disk` keys the blocks: another disk's blocks are never found.
    #[must_use]
    pub fn new(
        blocks: Arc<dyn Blocks>,
        packs: Option<Arc<dyn UnderStore>>,
        buckets: Arc<dyn Buckets>,
        disk: DiskId,
    ) -> Self {
        let Fetches { turns, turns_ahead } = Fetches::new(FETCHES_MAX);
        Self {
            packs,
            buckets,
            identities: Identities::new(disk),
            flights: Flights::new(blocks),
            turns,
            turns_ahead,
            ahead: Arc::default(),
        }
    }

    /// The same, fetching as many blocks at once as `fetches` has turns for.
    #[must_use]
    pub fn with_fetches(self, fetches: &Fetches) -> Self {
        let Fetches { turns, turns_ahead } = fetches.clone();
        Self { turns, turns_ahead, ..self }
    }

    /// Exactly `length` bytes (at most 8 MiB) at `offset` of the chunk that is persisted at `place`,
    /// each block checked against the checksum made before the upload.
    ///
    /// # Errors
    /// [`ReadError`]: `Lost` or `Corrupt` when the pack is not what it was, `Store` when S3 fails.
    pub async fn read_persisted(
        &self,
        chunk: ChunkId,
        place: &v1::PackPlace,
        offset: u64,
        length: usize,
    ) -> Result<Bytes, ReadError> {
        let room = place.offset <= u64::MAX / 2 && place.offset >= frame_header_bytes(place.length);
        if place.length > CHUNK_BYTES_MAX || !room || place.key.is_empty() {
            return Err(ReadError::Malformed { field: "place" });
        }
        let store = self.packs.clone().ok_or(ReadError::NoUnderStore)?;
        // A sealed chunk has the same bytes wherever it is moved.
        let id = self.identities.of(&("chunk", chunk.0));
        let kind = Kind::Chunk { chunk, offset: place.offset };
        let origin = Origin { id, size: place.length, store, key: place.key.clone(), kind };
        self.read(Arc::new(origin), offset, length).await
    }

    /// Exactly `length` bytes (at most 8 MiB) at `offset` of an object, of the version with the
    /// ETag that `object` names and no other.
    ///
    /// # Errors
    /// [`ReadError::ObjectChanged`] when that version is gone; `Store` when S3 fails.
    pub async fn read_object(
        &self,
        object: &v1::ObjectRange,
        offset: u64,
        length: usize,
    ) -> Result<Bytes, ReadError> {
        let key = std::str::from_utf8(&object.key).map_err(|_| ReadError::Malformed { field: "key" })?;
        if key.is_empty() {
            return Err(ReadError::Malformed { field: "key" });
        }
        if object.etag.is_empty() {
            return Err(ReadError::Malformed { field: "etag" });
        }
        let bucket = MountBucket::from(object);
        // Not the credentials: they do not change what the bytes are.
        let place = (&bucket.bucket, &bucket.endpoint, &bucket.region, bucket.force_path_style);
        let id = self.identities.of(&("object", place, key, &object.etag));
        let store = self.buckets.for_mount(&bucket);
        let kind = Kind::Object { etag: object.etag.clone() };
        let origin = Origin { id, size: object.size, store, key: key.to_owned(), kind };
        self.read(Arc::new(origin), offset, length).await
    }

    /// The store of a mounted bucket.
    #[must_use]
    pub fn mounted(&self, bucket: &MountBucket) -> Arc<dyn MountedStore> {
        self.buckets.for_mount(bucket)
    }

    async fn read(&self, origin: Arc<Origin>, offset: u64, length: usize) -> Result<Bytes, ReadError> {
        let end = offset.checked_add(length as u64).filter(|end| *end <= origin.size);
        let end = end.ok_or(ReadError::Malformed { field: "length" })?;
        if length > READ_BYTES_MAX {
            return Err(ReadError::Malformed { field: "length" });
        }
        if length == 0 {
            return Ok(Bytes::new());
        }
        self.read_ahead(&origin, offset, end);
        let numbers = offset / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES);
        let parts = futures::stream::iter(numbers)
            .map(|number| self.part(&origin, number, offset..end))
            .buffered(BLOCKS_AT_ONCE)
            .try_collect::<Vec<Bytes>>();
        let mut parts = tokio::time::timeout(WAIT_MAX, parts).await.map_err(|_| ReadError::Deadline)??;
        if parts.len() == 1 {
            return Ok(parts.swap_remove(0));
        }
        let mut whole = BytesMut::with_capacity(length);
        parts.iter().for_each(|part| whole.extend_from_slice(part));
        Ok(whole.freeze())
    }

    /// What `wanted` and block `number` have in common.
    async fn part(&self, origin: &Arc<Origin>, number: u64, wanted: Range<u64>) -> Result<Bytes, ReadError> {
        let range = origin.block_range(number);
        let block = self.block(origin, number, &range, &self.turns).await?;
        let from = wanted.start.max(range.start) - range.start;
        let to = wanted.end.min(range.end) - range.start;
        Ok(block.slice(from as usize..to as usize))
    }

    async fn block(
        &self,
        origin: &Arc<Origin>,
        number: u64,
        range: &Range<u64>,
        turns: &Arc<Semaphore>,
    ) -> Result<Bytes, ReadError> {
        let (key, bytes) = (origin.block_key(number), range.end - range.start);
        // A block of another size is of an object that was described otherwise: fetched again.
        if let Some(block) = self.flights.kept(key).await.filter(|block| block.len() as u64 == bytes) {
            metrics::counter!("cairn_data_cache_hit_bytes_total").increment(bytes);
            return Ok(block);
        }
        metrics::counter!("cairn_data_cache_miss_bytes_total").increment(bytes);
        let (origin, flights, turns) = (Arc::clone(origin), self.flights.clone(), Arc::clone(turns));
        let block = self.flights.join(key, || origin.fetch(number, flights, turns)).await?;
        if block.len() as u64 == bytes { Ok(block) } else { Err(ReadError::ObjectChanged) }
    }

    /// Begins to fetch what a reader in order, or at equal steps, will ask for next; only with turns that are free.
    fn read_ahead(&self, origin: &Arc<Origin>, offset: u64, end: u64) {
        let forecast = {
            let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
            ahead.note(origin.id, offset, end)
        };
        for number in forecast.blocks(end) {
            let range = origin.block_range(number);
            if range.is_empty() {
                return;
            }
            let Ok(turn) = Arc::clone(&self.turns_ahead).try_acquire_owned() else { return };
            let (cache, origin) = (self.clone(), Arc::clone(origin));
            // Bounded by the turns and by the under-store's timeouts.
            tokio::spawn(async move {
                if let Err(error) = cache.block(&origin, number, &range, &cache.turns).await {
                    tracing::debug!(key = origin.key, block = number, %error, "reading ahead");
                }
                drop(turn);
            });
        }
    }
}
