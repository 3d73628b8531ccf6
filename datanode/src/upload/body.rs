//! The bytes of a planned pack, read from its chunks as they are sent.

use std::sync::Arc;

use bytes::Bytes;
use cairn_types::ChunkId;
use futures::StreamExt;

use super::SealedChunks;
use super::pack::FrameHeader;
use super::survey::Plan;
use crate::understore::{Body, BodyFailed};

/// A part of a pack: ready, or to be read from a chunk.
enum Piece {
    Ready(Bytes),
    Block { chunk: ChunkId, offset: u64, length: usize, crc32c: u32 },
}

/// All bytes of `plan` in order, at most 1 MiB at a time. It fails when a chunk no longer reads as
/// it did in the survey.
pub(super) fn body(source: Arc<dyn SealedChunks>, plan: &Plan) -> Body {
    futures::stream::iter(pieces(plan))
        .then(move |piece| {
            let source = Arc::clone(&source);
            async move { read(source.as_ref(), piece).await }
        })
        .boxed()
}

fn pieces(plan: &Plan) -> Vec<Piece> {
    let mut pieces = vec![Piece::Ready(plan.header.clone().into())];
    for frame in &plan.frames {
        pieces.push(Piece::Ready(frame.encode().into()));
        for (number, crc32c) in frame.blocks.iter().enumerate() {
            let range = FrameHeader::block_range(frame.length, number as u64);
            pieces.push(Piece::Block {
                chunk: frame.chunk,
                offset: range.start,
                length: (range.end - range.start) as usize,
                crc32c: *crc32c,
            });
        }
    }
    pieces.push(Piece::Ready(plan.end.clone().into()));
    pieces
}

async fn read(source: &dyn SealedChunks, piece: Piece) -> Result<Bytes, BodyFailed> {
    match piece {
        Piece::Ready(bytes) => Ok(bytes),
        Piece::Block { chunk, offset, length, crc32c } => {
            let bytes = source.read(chunk, offset, length).await.map_err(|error| {
                tracing::warn!(%error, "reading for an upload");
                BodyFailed
            })?;
            if crc32c::crc32c(&bytes) == crc32c { Ok(bytes) } else { Err(BodyFailed) }
        }
    }
}
