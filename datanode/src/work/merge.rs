//! [`MergedChunks`]: chunks made of pieces of others, as the source of a pack.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use cairn_proto::v1;
use cairn_types::limits::CHUNK_BYTES_MAX;
use cairn_types::{Chain, ChunkId, InodeId};
use futures::{StreamExt, TryStreamExt};

use crate::node::Node;
use crate::service::read::chunk_piece;
use crate::upload::{ReadFailed, SealedChunk, SealedChunks, UploadError};

/// Pieces of a block that are read at once: they may each be a GET.
const PIECES_AT_ONCE: usize = 8;

/// The chunks of a merge. Their pieces are read as any reader's are: from here, else from another holder, else
/// from S3; always checked.
pub(super) struct MergedChunks {
    node: Arc<Node>,
    chunks: HashMap<ChunkId, Merged>,
}

/// A chunk and where its pieces are in it.
struct Merged {
    chunk: SealedChunk,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq)]
struct Piece {
    /// Where its first byte is in the merged chunk.
    at: u64,
    length: u64,
    source: Arc<v1::ChunkRange>,
    /// Where its first byte is in the chunk that it is read from.
    from: u64,
}

impl MergedChunks {
    /// The chunks that `work` names.
    pub(super) fn new(node: Arc<Node>, work: &v1::Merge) -> Result<Self, UploadError> {
        let chunks = work.chunks.iter().map(|chunk| Ok((ChunkId(chunk.chunk), Merged::new(chunk)?)));
        Ok(Self { node, chunks: chunks.collect::<Result<_, UploadError>>()? })
    }

    /// The same as an upload's work.
    pub(super) fn upload(work: &v1::Merge) -> v1::Upload {
        let chunk = |c: &v1::MergedChunk| v1::UploadChunk {
            chunk: c.chunk,
            length: c.length,
            chain: Chain::default().0,
        };
        let (intent, pack, key) = (work.intent, work.pack, work.key.clone());
        v1::Upload { intent, pack, key, chunks: work.chunks.iter().map(chunk).collect() }
    }
}

impl Merged {
    fn new(work: &v1::MergedChunk) -> Result<Self, UploadError> {
        let (mut pieces, mut at) = (Vec::with_capacity(work.pieces.len()), 0_u64);
        for piece in &work.pieces {
            let source = piece.chunk.clone().ok_or(UploadError::Malformed { field: "pieces.chunk" })?;
            let end = piece.offset.checked_add(piece.length);
            let inside = end.is_some_and(|end| end <= source.sealed_length.min(CHUNK_BYTES_MAX));
            if piece.length == 0 || !inside {
                return Err(UploadError::Malformed { field: "pieces" });
            }
            pieces.push(Piece { at, length: piece.length, source: Arc::new(source), from: piece.offset });
            at += piece.length;
        }
        if at != work.length || at > CHUNK_BYTES_MAX {
            return Err(UploadError::Malformed { field: "chunks.length" });
        }
        // No appends wrote it: its chain is that of nothing.
        let (chain, ino, base) = (Chain::default(), InodeId(work.ino), work.base);
        Ok(Self { chunk: SealedChunk { length: work.length, chain, ino, base }, pieces })
    }

    /// What of its pieces lies in a range of it.
    fn within(&self, range: Range<u64>) -> Vec<Piece> {
        let first = self.pieces.partition_point(|piece| piece.at + piece.length <= range.start);
        let touched = self.pieces[first..].iter().take_while(|piece| piece.at < range.end);
        let cut = |piece: &Piece| {
            let (at, end) = (piece.at.max(range.start), (piece.at + piece.length).min(range.end));
            Piece {
                at,
                length: end - at,
                source: Arc::clone(&piece.source),
                from: piece.from + (at - piece.at),
            }
        };
        touched.map(cut).collect()
    }
}

#[async_trait]
impl SealedChunks for MergedChunks {
    fn sealed(&self, chunk: ChunkId) -> Option<SealedChunk> {
        self.chunks.get(&chunk).map(|merged| merged.chunk)
    }

    async fn read(&self, chunk: ChunkId, offset: u64, length: usize) -> Result<Bytes, ReadFailed> {
        let failed = ReadFailed { chunk, offset };
        let merged = self.chunks.get(&chunk).ok_or(failed)?;
        let end = offset.checked_add(length as u64).filter(|end| *end <= merged.chunk.length);
        let wanted = merged.within(offset..end.ok_or(failed)?);
        let reads = wanted.into_iter().map(|piece| {
            let node = Arc::clone(&self.node);
            async move {
                let length = usize::try_from(piece.length).map_err(|_| failed)?;
                chunk_piece(&node, &piece.source, (piece.from, length), 0).await.map_err(|error| {
                    tracing::warn!(from = piece.source.chunk, %error, "read a piece of a chunk that is merged");
                    failed
                })
            }
        });
        let mut parts = futures::stream::iter(reads).buffered(PIECES_AT_ONCE);
        let mut whole = BytesMut::with_capacity(length);
        while let Some(part) = parts.try_next().await? {
            whole.extend_from_slice(&part);
        }
        Ok(whole.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(chunk: u64, offset: u64, length: u64) -> v1::ChunkPiece {
        let chunk = v1::ChunkRange { chunk, sealed_length: 1000, ..v1::ChunkRange::default() };
        v1::ChunkPiece { chunk: Some(chunk), offset, length }
    }

    fn chunk(length: u64, pieces: Vec<v1::ChunkPiece>) -> v1::MergedChunk {
        v1::MergedChunk { chunk: 9, length, ino: 7, base: 4096, pieces }
    }

    fn shown(pieces: &[Piece]) -> Vec<(u64, u64, u64, u64)> {
        pieces.iter().map(|p| (p.at, p.length, p.source.chunk, p.from)).collect()
    }

    #[test]
    fn a_range_is_cut_out_of_the_pieces_that_it_lies_in() {
        let merged = Merged::new(&chunk(60, vec![piece(1, 100, 10), piece(2, 0, 20), piece(1, 500, 30)]));
        let merged = merged.unwrap();
        assert_eq!(merged.chunk, SealedChunk { length: 60, chain: Chain(0), ino: InodeId(7), base: 4096 });
        assert_eq!(shown(&merged.within(0..60)), [(0, 10, 1, 100), (10, 20, 2, 0), (30, 30, 1, 500)]);
        assert_eq!(shown(&merged.within(5..31)), [(5, 5, 1, 105), (10, 20, 2, 0), (30, 1, 1, 500)]);
        assert_eq!(shown(&merged.within(10..30)), [(10, 20, 2, 0)]);
        assert_eq!(shown(&merged.within(59..60)), [(59, 1, 1, 529)]);
        assert!(merged.within(7..7).is_empty());
    }

    #[test]
    fn what_does_not_add_up_is_refused() {
        for wrong in [
            chunk(11, vec![piece(1, 100, 10)]),
            chunk(10, vec![piece(1, 995, 10)]),
            chunk(0, vec![piece(1, 5, 0)]),
            chunk(10, vec![v1::ChunkPiece { chunk: None, ..piece(1, 100, 10) }]),
            chunk(10, vec![v1::ChunkPiece { offset: u64::MAX, ..piece(1, 100, 10) }]),
        ] {
            assert!(Merged::new(&wrong).is_err(), "{wrong:?}");
        }
    }
}
