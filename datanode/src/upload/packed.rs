//! [`PackedChunks`]: chunks that are in packs, as the source of another pack.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use cairn_proto::v1;
use cairn_types::limits::CHUNK_BYTES_MAX;
use cairn_types::{Chain, ChunkId, InodeId};

use super::pack::{FrameHeader, frame_header_bytes};
use super::{ReadFailed, SealedChunk, SealedChunks, UploadError};
use crate::understore::UnderStore;

/// The chunks of a compaction, read where they are. Their frames' headers tell the checksums of their
/// blocks, so that each byte is read once, and checked.
pub(super) struct PackedChunks {
    store: Arc<dyn UnderStore>,
    chunks: HashMap<ChunkId, v1::PackedChunk>,
}

impl PackedChunks {
    /// The chunks that `work` names.
    pub(super) fn new(store: Arc<dyn UnderStore>, work: &v1::Compact) -> Result<Self, UploadError> {
        let fits = |chunk: &v1::PackedChunk| {
            let room = chunk.offset <= u64::MAX / 2 && chunk.offset >= frame_header_bytes(chunk.length);
            chunk.length <= CHUNK_BYTES_MAX && room && !chunk.key.is_empty()
        };
        if !work.chunks.iter().all(fits) {
            return Err(UploadError::Malformed { field: "chunks" });
        }
        let chunks = work.chunks.iter().map(|chunk| (ChunkId(chunk.chunk), chunk.clone())).collect();
        Ok(Self { store, chunks })
    }

    async fn get(&self, chunk: &v1::PackedChunk, range: Range<u64>) -> Result<Bytes, ReadFailed> {
        let failed = ReadFailed { chunk: ChunkId(chunk.chunk), offset: range.start };
        let length = range.end - range.start;
        let fetched = self.store.get_range(&chunk.key, range, None).await.map_err(|error| {
            tracing::warn!(chunk = chunk.chunk, key = chunk.key, %error, "read a chunk for a compaction");
            failed
        })?;
        if fetched.bytes.len() as u64 == length { Ok(fetched.bytes) } else { Err(failed) }
    }
}

#[async_trait]
impl SealedChunks for PackedChunks {
    fn sealed(&self, chunk: ChunkId) -> Option<SealedChunk> {
        let known = self.chunks.get(&chunk)?;
        let (ino, base) = (InodeId(known.ino), known.base);
        Some(SealedChunk { length: known.length, chain: Chain(known.chain), ino, base })
    }

    async fn frame(&self, chunk: ChunkId) -> Result<Option<FrameHeader>, ReadFailed> {
        let failed = ReadFailed { chunk, offset: 0 };
        let known = self.chunks.get(&chunk).ok_or(failed)?;
        let start = known.offset.checked_sub(frame_header_bytes(known.length)).ok_or(failed)?;
        let frame = FrameHeader::decode(&self.get(known, start..known.offset).await?).map_err(|error| {
            tracing::error!(%chunk, key = known.key, %error, "a chunk is not where it should be in its pack");
            failed
        })?;
        if frame.chunk == chunk && frame.crc32c == known.crc32c { Ok(Some(frame)) } else { Err(failed) }
    }

    // The pack's body checks each block against its frame's header.
    async fn read(&self, chunk: ChunkId, offset: u64, length: usize) -> Result<Bytes, ReadFailed> {
        let failed = ReadFailed { chunk, offset };
        let known = self.chunks.get(&chunk).ok_or(failed)?;
        let end = offset.checked_add(length as u64).filter(|end| *end <= known.length).ok_or(failed)?;
        if length == 0 {
            return Ok(Bytes::new());
        }
        self.get(known, known.offset + offset..known.offset + end).await
    }
}

#[cfg(test)]
mod tests {
    use cairn_types::ClusterId;

    use super::*;
    use crate::understore::memory::{Fault, MemoryStore};
    use crate::upload::Uploader;
    use crate::upload::uploader_tests::Chunks;

    const CLUSTER: ClusterId = ClusterId([7; 16]);

    /// A pack of three chunks, and the work that moves the first and the last of them.
    async fn packed(store: &Arc<MemoryStore>) -> (Uploader, Arc<Chunks>, v1::Compact) {
        let chunks = Arc::new(Chunks::of(&[10, 5_000, 3 << 20], InodeId(9)));
        let uploader = Uploader::new(Arc::clone(store) as _, Arc::clone(&chunks) as _, CLUSTER);
        let (work, told) = (chunks.work("old"), uploader.upload(&chunks.work("old")).await.unwrap());
        let moved = work.chunks.iter().zip(&told.chunks).map(|(chunk, place)| v1::PackedChunk {
            chunk: chunk.chunk,
            length: chunk.length,
            chain: chunk.chain,
            ino: 9,
            base: 4096,
            key: "old".to_owned(),
            offset: place.offset,
            crc32c: place.crc32c,
        });
        let chunks_moved = moved.filter(|chunk| chunk.chunk != 2).collect();
        let compact = v1::Compact { intent: 8, pack: 12, key: "new".to_owned(), chunks: chunks_moved };
        (uploader, chunks, compact)
    }

    #[tokio::test]
    async fn chunks_move_into_a_new_pack_with_their_bytes_and_their_names() {
        let store = Arc::new(MemoryStore::with_checksums());
        let (uploader, chunks, work) = packed(&store).await;
        let told = uploader.compact(&work).await.unwrap();
        assert_eq!((told.pack, told.chunks.len()), (12, 2));
        let object = store.object("new").unwrap();
        for (place, wanted) in told.chunks.iter().zip([1, 3]) {
            let (start, end) = (place.offset as usize, (place.offset + place.length) as usize);
            assert!(object[start..end] == chunks.bytes(wanted)[..]);
            assert_eq!(place.crc32c, crc32c::crc32c(&chunks.bytes(wanted)));
        }
        // What an upload of the same chunks would have written: the index names the file too.
        let again = uploader.compact(&work).await.unwrap();
        assert_eq!(again, told, "asked again it answers the same");
        let mut of_old = work;
        for (chunk, place) in of_old.chunks.iter_mut().zip(&told.chunks) {
            (chunk.key, chunk.offset) = ("new".to_owned(), place.offset);
        }
        let (pack, key) = (13, "third".to_owned());
        let moved = uploader.compact(&v1::Compact { pack, key, ..of_old }).await.unwrap();
        assert_eq!(moved.chunks, told.chunks, "a pack of moved chunks is moved again");
    }

    #[tokio::test]
    async fn what_rotted_or_is_gone_is_not_moved() {
        let store = Arc::new(MemoryStore::with_checksums());
        let (uploader, _, work) = packed(&store).await;
        let whole = store.object("old").unwrap();
        let mut rotten = whole.to_vec();
        rotten[work.chunks[1].offset as usize + (2 << 20)] ^= 1;
        store.replace("old", rotten);
        uploader.compact(&work).await.unwrap_err();
        assert_eq!(store.object("new"), None);
        store.replace("old", whole);
        store.fail_next(Fault::Unreachable);
        assert!(uploader.compact(&work).await.is_err(), "it did not answer");
        let elsewhere = |change: fn(&mut v1::PackedChunk)| {
            let mut work = work.clone();
            change(&mut work.chunks[0]);
            work
        };
        for wrong in [
            elsewhere(|c| c.offset += 1),
            elsewhere(|c| c.crc32c ^= 1),
            elsewhere(|c| c.chunk = 77),
            elsewhere(|c| c.chain ^= 1),
            elsewhere(|c| c.key = "gone".to_owned()),
            elsewhere(|c| c.offset = 3),
        ] {
            uploader.compact(&wrong).await.unwrap_err();
            assert_eq!(store.object("new"), None, "{wrong:?}");
        }
        uploader.compact(&work).await.unwrap();
    }
}
