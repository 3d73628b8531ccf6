//! [`Blocks`]: where cached blocks are kept.

use std::hash::{DefaultHasher, Hash, Hasher};

use async_trait::async_trait;
use bytes::Bytes;
use cairn_types::DiskId;

use crate::chunk::{CacheKey, ChunkStore};

/// A block of an object's version, or of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockKey {
    /// Hash of the object's identity.
    pub object: u128,
    /// The block's number; [`BlockKey::HEADER`] for a chunk's frame header.
    pub block: u64,
}

impl BlockKey {
    /// The number under which a chunk's frame header is kept.
    pub const HEADER: u64 = u64::MAX;
}

/// The cache proper. A block may be dropped at any time; what comes back is verified.
#[async_trait]
pub trait Blocks: Send + Sync + 'static {
    /// The block, when it is kept and intact.
    async fn get(&self, key: BlockKey) -> Option<Bytes>;

    /// Keeps a block of at most 1 MiB, or does not.
    async fn put(&self, key: BlockKey, block: Bytes);
}

#[async_trait]
impl Blocks for ChunkStore {
    async fn get(&self, key: BlockKey) -> Option<Bytes> {
        let (store, key) = (self.clone(), CacheKey { object: key.object, block: key.block });
        // Reads from the disk what the page cache lacks.
        tokio::task::spawn_blocking(move || store.cache_get(key)).await.ok().flatten()
    }

    async fn put(&self, key: BlockKey, block: Bytes) {
        self.ready().await;
        let key = CacheKey { object: key.object, block: key.block };
        if let Err(error) = self.cache_put(key, block).await {
            // A full or retired disk caches nothing; reads go on from S3.
            metrics::counter!("cairn_data_cache_put_failures_total").increment(1);
            tracing::debug!(%error, "a block was not kept");
        }
    }
}

/// Hashes identities to 128 bits. Keyed by the disk's id, which nobody who can write to a mounted
/// bucket knows, so that no key can be made up that falls together with another's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identities {
    disk: DiskId,
}

impl Identities {
    pub(super) fn new(disk: DiskId) -> Self {
        Self { disk }
    }

    pub(super) fn of<T: Hash>(&self, identity: &T) -> u128 {
        let half = |domain: u8| {
            let mut hasher = DefaultHasher::new();
            (self.disk.0, domain).hash(&mut hasher);
            identity.hash(&mut hasher);
            u128::from(hasher.finish())
        };
        half(0) << 64 | half(1)
    }
}
