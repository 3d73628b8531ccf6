//! The chunk store as an uploader's source.

use async_trait::async_trait;
use bytes::Bytes;
use cairn_proto::v1;
use cairn_types::{ChunkId, InodeId};
use prost::Message;

use crate::chunk::{ChunkStore, ReplicaPhase};
use crate::upload::{ReadFailed, SealedChunk, SealedChunks};

#[async_trait]
impl SealedChunks for ChunkStore {
    fn sealed(&self, chunk: ChunkId) -> Option<SealedChunk> {
        let view = self.chunk(chunk).filter(|view| view.phase == ReplicaPhase::Sealed)?;
        // What the chunk was opened for; a record that does not read leaves the file unknown.
        let opened = v1::Chunk::decode(view.record.clone()).unwrap_or_default();
        let ino = InodeId(opened.activation.map_or(0, |activation| activation.ino));
        Some(SealedChunk { length: view.length, chain: view.chain, ino, base: view.base })
    }

    async fn read(&self, chunk: ChunkId, offset: u64, length: usize) -> Result<Bytes, ReadFailed> {
        let store = self.clone();
        let failed = ReadFailed { chunk, offset };
        let read = move || ChunkStore::read(&store, chunk, offset, length, 0);
        let read = tokio::task::spawn_blocking(read).await.map_err(|_| failed)?;
        read.map_err(|error| {
            tracing::warn!(chunk = chunk.0, offset, %error, "read a chunk for its upload");
            failed
        })
    }
}
