//! [`Origin`]: where a block comes from, and how it is checked.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use cairn_types::ChunkId;
use tokio::sync::Semaphore;

use super::flights::Flights;
use super::{BLOCK_BYTES, BlockKey, ReadError};
use crate::understore::{UnderStore, UnderStoreError};
use crate::upload::pack::{FrameHeader, frame_header_bytes};

/// Fetches of a block before its reader gets the error; each is retried by the S3 client besides.
const FETCHES_MAX: u32 = 3;

/// An object's version, or a persisted chunk.
pub(super) struct Origin {
    /// Hash of what it is.
    pub(super) id: u128,
    /// Its bytes.
    pub(super) size: u64,
    pub(super) store: Arc<dyn UnderStore>,
    pub(super) key: String,
    pub(super) kind: Kind,
}

pub(super) enum Kind {
    /// Read as long as it has this ETag.
    Object { etag: String },
    /// At this offset of its pack, whose key never has other content.
    Chunk { chunk: ChunkId, offset: u64 },
}

impl Origin {
    pub(super) fn block_key(&self, block: u64) -> BlockKey {
        BlockKey { object: self.id, block }
    }

    /// The bytes of block `number`; empty past the end.
    pub(super) fn block_range(&self, number: u64) -> Range<u64> {
        let start = number.saturating_mul(BLOCK_BYTES).min(self.size);
        start..self.size.min(start + BLOCK_BYTES)
    }

    /// The block from S3, checked. `turns` bounds the blocks in memory.
    pub(super) async fn fetch(
        self: Arc<Self>,
        number: u64,
        flights: Flights,
        turns: Arc<Semaphore>,
    ) -> Result<Bytes, ReadError> {
        // The semaphore is never closed.
        let _turn = turns.acquire().await.ok();
        let mut fetches = 1;
        loop {
            let outcome = self.fetch_once(number, &flights).await;
            match outcome {
                Err(error) if fetches < FETCHES_MAX && self.worth_repeating(&error) => {
                    tracing::warn!(key = self.key, block = number, %error, "fetching a block again");
                    fetches += 1;
                }
                outcome => return outcome,
            }
        }
    }

    fn worth_repeating(&self, error: &ReadError) -> bool {
        match error {
            ReadError::Corrupt { .. } => true,
            ReadError::Store(error) => error.retryable(),
            _ => false,
        }
    }

    async fn fetch_once(self: &Arc<Self>, number: u64, flights: &Flights) -> Result<Bytes, ReadError> {
        let range = self.block_range(number);
        match &self.kind {
            Kind::Object { etag } => {
                let fetched = self.get(range.clone(), Some(etag)).await?;
                if fetched.len() as u64 != range.end - range.start {
                    // The version named has another size than the file was told.
                    return Err(ReadError::ObjectChanged);
                }
                Ok(fetched)
            }
            Kind::Chunk { chunk, offset } => {
                let block = self.get(range.start + offset..range.end + offset, None);
                let (header, block) = futures::future::try_join(self.header(flights), block).await?;
                let intact = header.blocks.get(number as usize) == Some(&crc32c::crc32c(&block));
                if intact { Ok(block) } else { Err(ReadError::Corrupt { chunk: *chunk }) }
            }
        }
    }

    async fn get(&self, range: Range<u64>, etag: Option<&str>) -> Result<Bytes, ReadError> {
        match self.store.get_range(&self.key, range, etag).await {
            Ok(fetched) => {
                metrics::counter!("cairn_data_cache_fetched_bytes_total")
                    .increment(fetched.bytes.len() as u64);
                Ok(fetched.bytes)
            }
            Err(error) => Err(self.meaning(error)),
        }
    }

    fn meaning(&self, error: UnderStoreError) -> ReadError {
        match (&self.kind, error) {
            (
                Kind::Object { .. },
                UnderStoreError::PreconditionFailed { .. } | UnderStoreError::NoSuchKey { .. },
            ) => ReadError::ObjectChanged,
            (Kind::Chunk { chunk, .. }, UnderStoreError::NoSuchKey { .. }) => {
                ReadError::Lost { chunk: *chunk }
            }
            (_, error) => ReadError::Store(error),
        }
    }

    /// The frame header of a chunk: the checksums of its blocks. Kept as a block of its own.
    async fn header(self: &Arc<Self>, flights: &Flights) -> Result<FrameHeader, ReadError> {
        let Kind::Chunk { chunk, .. } = self.kind else {
            return Err(ReadError::Malformed { field: "source" });
        };
        let key = self.block_key(BlockKey::HEADER);
        let bytes = match flights.kept(key).await {
            Some(bytes) => bytes,
            // Without a turn of its own: its block has one and waits for it.
            None => {
                let origin = Arc::clone(self);
                flights.join(key, || async move { origin.fetch_header().await }).await?
            }
        };
        self.decode_header(&bytes).ok_or(ReadError::Corrupt { chunk })
    }

    fn decode_header(&self, bytes: &[u8]) -> Option<FrameHeader> {
        let Kind::Chunk { chunk, .. } = self.kind else { return None };
        let header = FrameHeader::decode(bytes).ok()?;
        (header.chunk == chunk && header.length == self.size).then_some(header)
    }

    async fn fetch_header(self: Arc<Self>) -> Result<Bytes, ReadError> {
        let Kind::Chunk { chunk, offset } = self.kind else {
            return Err(ReadError::Malformed { field: "source" });
        };
        let start = offset.checked_sub(frame_header_bytes(self.size));
        let start = start.ok_or(ReadError::Malformed { field: "place.offset" })?;
        let bytes = self.get(start..offset, None).await?;
        // Checked before it is kept.
        if self.decode_header(&bytes).is_some() { Ok(bytes) } else { Err(ReadError::Corrupt { chunk }) }
    }
}
