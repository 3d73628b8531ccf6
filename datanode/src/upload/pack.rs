//! The bytes of a pack, version 1. docs/FORMAT.md shows them; all numbers are little-endian.
//!
//! ```text
//! header   48 bytes   magic, version, chunk count, cluster, pack
//! frames   one a chunk: frame header (40 bytes + 4 a block of 1 MiB), then the chunk's bytes
//! index    48 bytes a chunk
//! trailer  40 bytes   where the index is
//! ```
//!
//! A reader that knows a chunk's place reads the frame header just before it (its size follows from
//! the chunk's length) and checks any block alone. A rebuild reads the trailer and the index, or,
//! when the end is missing, goes from frame to frame.

use cairn_types::limits::CHUNK_BYTES_MAX;
use cairn_types::{Chain, ChunkId, ClusterId, InodeId, PackId};

/// Payload bytes under one checksum of a frame header.
pub const BLOCK_BYTES: u64 = 1 << 20;
/// Chunks in a pack, at most.
pub const CHUNKS_MAX: usize = 4096;
/// Bytes of the header.
pub const HEADER_BYTES: u64 = 48;
/// Bytes of the trailer.
pub const TRAILER_BYTES: u64 = 40;
/// Bytes of a chunk's entry in the index.
pub const ENTRY_BYTES: u64 = 48;
const FRAME_FIXED_BYTES: u64 = 40;

const HEADER_MAGIC: &[u8; 8] = b"CairnPk\n";
const FRAME_MAGIC: &[u8; 4] = b"CkFr";
const TRAILER_MAGIC: &[u8; 8] = b"CairnPkE";
const VERSION: u16 = 1;

/// Why bytes are not a part of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// They do not begin or end as they should.
    #[error("not a pack")]
    NotAPack,
    /// A newer CairnFS wrote it.
    #[error("pack version {found} is not readable by this build")]
    Version {
        /// The version found.
        found: u16,
    },
    /// Their checksum is wrong, or lengths contradict each other.
    #[error("the pack's structure is damaged")]
    Damaged,
}

/// The start of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The cluster that wrote it.
    pub cluster: ClusterId,
    /// The pack.
    pub pack: PackId,
    /// How many frames follow.
    pub chunks: u32,
}

/// What stands before a chunk's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// The chunk.
    pub chunk: ChunkId,
    /// Bytes of its payload.
    pub length: u64,
    /// The chain at its end.
    pub chain: Chain,
    /// CRC32C of the payload.
    pub crc32c: u32,
    /// CRC32C of each 1 MiB of it; the last block may be shorter.
    pub blocks: Vec<u32>,
}

/// A chunk in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// The chunk.
    pub chunk: ChunkId,
    /// Where its payload begins in the pack.
    pub offset: u64,
    /// Bytes of its payload.
    pub length: u64,
    /// The chain at its end.
    pub chain: Chain,
    /// CRC32C of the payload.
    pub crc32c: u32,
    /// The file whose tail it was; 0 for a chunk shared by many files, or unknown.
    pub ino: InodeId,
    /// The file offset of its first byte, when `ino` is not 0.
    pub base: u64,
}

/// The end of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// Where the index begins.
    pub index_offset: u64,
    /// Entries in it.
    pub chunks: u32,
    /// CRC32C of its bytes.
    pub index_crc32c: u32,
}

/// Bytes of the frame header of a chunk of `length` bytes.
#[must_use]
pub fn frame_header_bytes(length: u64) -> u64 {
    FRAME_FIXED_BYTES + 4 * length.div_ceil(BLOCK_BYTES)
}

fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

fn unsealed(bytes: &[u8]) -> Result<&[u8], PackError> {
    let (body, crc) = bytes.split_last_chunk::<4>().ok_or(PackError::NotAPack)?;
    if crc32c::crc32c(body) == u32::from_le_bytes(*crc) { Ok(body) } else { Err(PackError::Damaged) }
}

/// Takes numbers off the front of checked bytes.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], PackError> {
        let (array, rest) = self.0.split_first_chunk::<N>().ok_or(PackError::Damaged)?;
        self.0 = rest;
        Ok(*array)
    }

    fn u16(&mut self) -> Result<u16, PackError> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, PackError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, PackError> {
        self.array().map(u64::from_le_bytes)
    }
}

fn version(found: u16) -> Result<(), PackError> {
    if found == VERSION { Ok(()) } else { Err(PackError::Version { found }) }
}

impl Header {
    /// Its 48 bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = HEADER_MAGIC.to_vec();
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(&self.chunks.to_le_bytes());
        bytes.extend_from_slice(&self.cluster.0);
        bytes.extend_from_slice(&self.pack.0.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        sealed(bytes)
    }

    /// Reads 48 bytes back.
    ///
    /// # Errors
    /// [`PackError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, PackError> {
        if bytes.len() as u64 != HEADER_BYTES || !bytes.starts_with(HEADER_MAGIC) {
            return Err(PackError::NotAPack);
        }
        let mut fields = Fields(&bytes[8..]);
        version(fields.u16()?)?;
        unsealed(bytes)?;
        fields.u16()?;
        let chunks = fields.u32()?;
        Ok(Self { cluster: ClusterId(fields.array()?), pack: PackId(fields.u64()?), chunks })
    }
}

impl FrameHeader {
    /// Its bytes, as many as [`frame_header_bytes`] says.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = FRAME_MAGIC.to_vec();
        bytes.extend_from_slice(&(BLOCK_BYTES as u32).to_le_bytes());
        bytes.extend_from_slice(&self.chunk.0.to_le_bytes());
        bytes.extend_from_slice(&self.length.to_le_bytes());
        bytes.extend_from_slice(&self.chain.0.to_le_bytes());
        bytes.extend_from_slice(&self.crc32c.to_le_bytes());
        bytes.extend_from_slice(&(self.blocks.len() as u32).to_le_bytes());
        for block in &self.blocks {
            bytes.extend_from_slice(&block.to_le_bytes());
        }
        sealed(bytes)
    }

    /// Reads it back.
    ///
    /// # Errors
    /// [`PackError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, PackError> {
        if !bytes.starts_with(FRAME_MAGIC) {
            return Err(PackError::NotAPack);
        }
        let mut fields = Fields(&unsealed(bytes)?[4..]);
        let block_bytes = fields.u32()?;
        let (chunk, length) = (ChunkId(fields.u64()?), fields.u64()?);
        let (chain, crc32c) = (Chain(fields.u32()?), fields.u32()?);
        let count = fields.u32()?;
        let sized = length <= CHUNK_BYTES_MAX && u64::from(count) == length.div_ceil(BLOCK_BYTES);
        if u64::from(block_bytes) != BLOCK_BYTES || !sized || fields.0.len() != 4 * count as usize {
            return Err(PackError::Damaged);
        }
        let blocks = (0..count).map(|_| fields.u32()).collect::<Result<_, _>>()?;
        Ok(Self { chunk, length, chain, crc32c, blocks })
    }

    /// The payload range of block `number`; empty past the end.
    #[must_use]
    pub fn block_range(length: u64, number: u64) -> std::ops::Range<u64> {
        let start = number.saturating_mul(BLOCK_BYTES).min(length);
        start..length.min(start + BLOCK_BYTES)
    }
}

/// The index's bytes.
#[must_use]
pub fn encode_index(entries: &[IndexEntry]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(entries.len() * ENTRY_BYTES as usize);
    for entry in entries {
        bytes.extend_from_slice(&entry.chunk.0.to_le_bytes());
        bytes.extend_from_slice(&entry.offset.to_le_bytes());
        bytes.extend_from_slice(&entry.length.to_le_bytes());
        bytes.extend_from_slice(&entry.chain.0.to_le_bytes());
        bytes.extend_from_slice(&entry.crc32c.to_le_bytes());
        bytes.extend_from_slice(&entry.ino.0.to_le_bytes());
        bytes.extend_from_slice(&entry.base.to_le_bytes());
    }
    bytes
}

/// Reads an index that `trailer` describes.
///
/// # Errors
/// [`PackError::Damaged`].
pub fn decode_index(bytes: &[u8], trailer: &Trailer) -> Result<Vec<IndexEntry>, PackError> {
    let sized = bytes.len() as u64 == u64::from(trailer.chunks) * ENTRY_BYTES;
    if !sized || crc32c::crc32c(bytes) != trailer.index_crc32c {
        return Err(PackError::Damaged);
    }
    let mut fields = Fields(bytes);
    (0..trailer.chunks)
        .map(|_| {
            Ok(IndexEntry {
                chunk: ChunkId(fields.u64()?),
                offset: fields.u64()?,
                length: fields.u64()?,
                chain: Chain(fields.u32()?),
                crc32c: fields.u32()?,
                ino: InodeId(fields.u64()?),
                base: fields.u64()?,
            })
        })
        .collect()
}

impl Trailer {
    /// Its 40 bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.index_offset.to_le_bytes().to_vec();
        bytes.extend_from_slice(&self.chunks.to_le_bytes());
        bytes.extend_from_slice(&self.index_crc32c.to_le_bytes());
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 10]);
        let mut bytes = sealed(bytes);
        bytes.extend_from_slice(TRAILER_MAGIC);
        bytes
    }

    /// Reads 40 bytes back.
    ///
    /// # Errors
    /// [`PackError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, PackError> {
        let body = bytes.strip_suffix(TRAILER_MAGIC).ok_or(PackError::NotAPack)?;
        if bytes.len() as u64 != TRAILER_BYTES {
            return Err(PackError::NotAPack);
        }
        let mut fields = Fields(unsealed(body)?);
        let (index_offset, chunks, index_crc32c) = (fields.u64()?, fields.u32()?, fields.u32()?);
        version(fields.u16()?)?;
        if chunks as usize > CHUNKS_MAX {
            return Err(PackError::Damaged);
        }
        Ok(Self { index_offset, chunks, index_crc32c })
    }
}
