//! [`Request`]: what a handle asks of the writer's thread.

use bytes::Bytes;
use cairn_types::{ChunkId, Epoch};

use super::completion::Callback;
use super::error::StoreError;
use super::spec::{AppendRecord, ChunkSpec, Durable, FenceAnswer, FenceSpec, SealedOutcome, SealedSpec};
use crate::segments::{ActiveListing, BlockSums, Entry, Footer, Location};

/// A block of an object in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CacheKey {
    /// Hash of the object's identity (key, ETag, ...).
    pub object: u128,
    /// Number of the block in it.
    pub block: u64,
}

/// One change, in the order of submission.
pub(crate) enum Request {
    Create(ChunkSpec, Callback<()>),
    /// An append, or with an epoch an extension of a replica fenced there.
    Append(AppendRecord, BlockSums, Option<Epoch>, Callback<Durable>),
    Fence(FenceSpec, Callback<FenceAnswer>),
    Sealed(SealedSpec, Callback<SealedOutcome>),
    Delete(ChunkId, Callback<()>),
    Persisted(ChunkId, Bytes, Callback<()>),
    Evict(Option<ChunkId>, Callback<u64>),
    CachePut(CacheKey, Bytes, BlockSums, Callback<()>),
    /// A read found the replica damaged: keep it so over a restart.
    MarkDamaged(ChunkId),
    /// Resolves when everything submitted before is durable.
    Flush(Callback<()>),
    /// A good copy of a record of a sealed replica.
    Repair(AppendRecord, BlockSums, Callback<()>),
    /// All of a sealed replica was read and is good.
    Heal(ChunkId, Callback<()>),
    /// What is no chunk's or cache's bytes and does not read: written again if it counts.
    Rewrite(Entry, Callback<bool>),
    /// A block of the cache that does not read goes, unless it has been put again.
    CacheDrop(CacheKey, Location),
    /// The footer's entries so far of a segment, if it is the one that is being written.
    Listing(u32, u64, Callback<Option<ActiveListing>>),
    /// A segment whose header or footer does not read gets a new one.
    Reframe(u32, u64, Box<Footer>, Callback<bool>),
}

impl Request {
    /// Bytes it holds in the queue.
    pub(crate) fn weight(&self) -> usize {
        let payload = match self {
            Self::Append(record, ..) => record.payload.len(),
            Self::Repair(record, ..) => record.payload.len(),
            Self::CachePut(_, payload, ..) => payload.len(),
            _ => 0,
        };
        256 + payload
    }
}

impl Request {
    /// Answers without doing anything.
    pub(crate) fn refuse(self, error: StoreError) {
        match self {
            Self::Create(_, callback)
            | Self::Delete(_, callback)
            | Self::Persisted(_, _, callback)
            | Self::CachePut(_, _, _, callback)
            | Self::Repair(_, _, callback)
            | Self::Heal(_, callback)
            | Self::Flush(callback) => callback(Err(error)),
            Self::Rewrite(_, callback) | Self::Reframe(_, _, _, callback) => callback(Err(error)),
            Self::Listing(_, _, callback) => callback(Err(error)),
            Self::Append(_, _, _, callback) => callback(Err(error)),
            Self::Fence(_, callback) => callback(Err(error)),
            Self::Sealed(_, callback) => callback(Err(error)),
            Self::Evict(_, callback) => callback(Err(error)),
            Self::MarkDamaged(_) | Self::CacheDrop(..) => {}
        }
    }
}
