//! [`Extent`]: where a range of a file's bytes is.

use bincode::{Decode, Encode};

use crate::{ChunkId, MountId};

/// An object of a mounted bucket, as it was when its bytes were taken for a file's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct ObjectKey {
    /// The mount whose bucket holds it.
    pub mount: MountId,
    /// The whole S3 key, prefix included.
    pub key: Vec<u8>,
    /// The ETag it had; reads are conditional on it.
    pub etag: String,
}

/// What a range of a file points at.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ExtentSource {
    /// Bytes of a chunk, from this offset in it.
    Chunk {
        /// The chunk.
        chunk: ChunkId,
        /// The first byte's offset in the chunk.
        offset: u64,
    },
    /// Bytes of an object of a mount, from this offset in it.
    Object {
        /// The object.
        object: ObjectKey,
        /// The first byte's offset in the object.
        offset: u64,
    },
}

/// A range of a file and where its bytes are. A gap between extents reads as zeros.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Extent {
    /// The range's first byte in the file.
    pub file_offset: u64,
    /// The range's length, at least 1.
    pub length: u64,
    /// Where the bytes are.
    pub source: ExtentSource,
}

impl Extent {
    /// The file offset after the last byte.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.file_offset.saturating_add(self.length)
    }
}
