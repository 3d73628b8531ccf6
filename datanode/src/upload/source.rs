//! [`SealedChunks`]: where an uploader reads sealed chunks from.

use async_trait::async_trait;
use bytes::Bytes;
use cairn_types::{Chain, ChunkId, InodeId};

use super::pack::FrameHeader;

/// A sealed replica as it stands here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedChunk {
    /// Its decided length.
    pub length: u64,
    /// The chain at its end.
    pub chain: Chain,
    /// The file whose tail it was; 0 for a shared chunk, or unknown.
    pub ino: InodeId,
    /// The file offset of its first byte, when `ino` is not 0.
    pub base: u64,
}

/// A chunk could not be read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{chunk} could not be read here at {offset}")]
pub struct ReadFailed {
    /// The chunk.
    pub chunk: ChunkId,
    /// Where.
    pub offset: u64,
}

/// The sealed chunks of this node.
#[async_trait]
pub trait SealedChunks: Send + Sync + 'static {
    /// The replica, when it is here and sealed.
    fn sealed(&self, chunk: ChunkId) -> Option<SealedChunk>;

    /// The header of the chunk's frame, when it is known without reading the chunk.
    ///
    /// # Errors
    /// [`ReadFailed`] when it should be known and cannot be read.
    async fn frame(&self, _chunk: ChunkId) -> Result<Option<FrameHeader>, ReadFailed> {
        Ok(None)
    }

    /// Exactly `length` bytes at `offset`, verified against the checksums they came with.
    ///
    /// # Errors
    /// [`ReadFailed`] when they are not here or damaged.
    async fn read(&self, chunk: ChunkId, offset: u64, length: usize) -> Result<Bytes, ReadFailed>;
}
