//! [`Plan`]: what a pack will hold, byte for byte, known before anything is sent.

use std::collections::HashSet;

use cairn_proto::v1;
use cairn_types::limits::CHUNK_BYTES_MAX;
use cairn_types::{Chain, ChunkId, ClusterId, PackId};

use super::pack::{
    CHUNKS_MAX, FrameHeader, HEADER_BYTES, Header, IndexEntry, Trailer, encode_index, frame_header_bytes,
};
use super::{SealedChunks, UploadError};

/// A pack before it is written. Made of the same chunks in the same order it is the same on every
/// node, so that two uploaders of one intent write the same object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub(super) header: Vec<u8>,
    /// The frames' headers, in order.
    pub(super) frames: Vec<FrameHeader>,
    /// The index, in the same order.
    pub(super) entries: Vec<IndexEntry>,
    /// Index and trailer.
    pub(super) end: Vec<u8>,
    /// The object's size.
    pub(super) bytes: u64,
    /// The object's checksum.
    pub(super) crc32c: u32,
}

/// Reads every chunk of `work` once and verifies it: a damaged replica is found before the pack
/// exists.
pub(super) async fn survey(
    source: &dyn SealedChunks,
    cluster: ClusterId,
    work: &v1::Upload,
) -> Result<Plan, UploadError> {
    check(work)?;
    let (mut frames, mut entries, mut at) = (Vec::new(), Vec::new(), HEADER_BYTES);
    for wanted in &work.chunks {
        let frame = survey_chunk(source, wanted).await?;
        at += frame_header_bytes(frame.length);
        // Looked up again: what is sealed does not change, but it may have gone.
        let here = source.sealed(frame.chunk).ok_or(UploadError::Differs { chunk: frame.chunk })?;
        entries.push(IndexEntry {
            chunk: frame.chunk,
            offset: at,
            length: frame.length,
            chain: frame.chain,
            crc32c: frame.crc32c,
            ino: here.ino,
            base: here.base,
        });
        at += frame.length;
        frames.push(frame);
    }
    let header = Header { cluster, pack: PackId(work.pack), chunks: frames.len() as u32 }.encode();
    let mut end = encode_index(&entries);
    let index_crc32c = crc32c::crc32c(&end);
    end.extend(Trailer { index_offset: at, chunks: frames.len() as u32, index_crc32c }.encode());
    let bytes = at + end.len() as u64;
    let mut crc32c = crc32c::crc32c(&header);
    for frame in &frames {
        crc32c = crc32c::crc32c_append(crc32c, &frame.encode());
        crc32c = crc32c::crc32c_combine(crc32c, frame.crc32c, frame.length as usize);
    }
    crc32c = crc32c::crc32c_append(crc32c, &end);
    Ok(Plan { header, frames, entries, end, bytes, crc32c })
}

fn check(work: &v1::Upload) -> Result<(), UploadError> {
    let malformed = |field| Err(UploadError::Malformed { field });
    if work.key.is_empty() {
        return malformed("key");
    }
    if work.chunks.is_empty() || work.chunks.len() > CHUNKS_MAX {
        return malformed("chunks");
    }
    let distinct: HashSet<u64> = work.chunks.iter().map(|chunk| chunk.chunk).collect();
    if distinct.len() != work.chunks.len() {
        return malformed("chunks.chunk");
    }
    if work.chunks.iter().any(|chunk| chunk.length > CHUNK_BYTES_MAX) {
        return malformed("chunks.length");
    }
    Ok(())
}

async fn survey_chunk(
    source: &dyn SealedChunks,
    wanted: &v1::UploadChunk,
) -> Result<FrameHeader, UploadError> {
    let chunk = ChunkId(wanted.chunk);
    let (length, chain) = (wanted.length, Chain(wanted.chain));
    let here = source.sealed(chunk).ok_or(UploadError::Differs { chunk })?;
    if (here.length, here.chain) != (length, chain) {
        return Err(UploadError::Differs { chunk });
    }
    if let Some(frame) = source.frame(chunk).await? {
        let same = (frame.chunk, frame.length, frame.chain) == (chunk, length, chain);
        return if same { Ok(frame) } else { Err(UploadError::Differs { chunk }) };
    }
    let (mut blocks, mut crc32c) = (Vec::new(), 0);
    while let range = FrameHeader::block_range(length, blocks.len() as u64)
        && !range.is_empty()
    {
        let size = (range.end - range.start) as usize;
        let bytes = source.read(chunk, range.start, size).await?;
        let block = crc32c::crc32c(&bytes);
        crc32c = crc32c::crc32c_combine(crc32c, block, size);
        blocks.push(block);
    }
    Ok(FrameHeader { chunk, length, chain, crc32c, blocks })
}

impl Plan {
    /// The object's size in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// CRC32C of the whole object.
    #[must_use]
    pub fn crc32c(&self) -> u32 {
        self.crc32c
    }
}
