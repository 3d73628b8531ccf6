//! Why the chunk store refused. Nothing was changed, unless the variant says otherwise.

use cairn_types::{ChunkId, Epoch, Incarnation, Sequence, WriterId};

/// The store writes no more: a write or an fsync failed (append protocol R7). Reads go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the disk is retired for writing: {operation} failed with errno {errno}")]
pub struct Retired {
    /// What failed: `write`, `fdatasync`, `fsync`, `read`, `create`.
    pub operation: &'static str,
    /// The errno.
    pub errno: i32,
}

/// Why a change was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// There is no replica of the chunk here.
    #[error("{chunk} is not here")]
    UnknownChunk {
        /// The chunk.
        chunk: ChunkId,
    },
    /// A replica of the chunk exists and is not what this create describes.
    #[error("{chunk} exists already and differs")]
    Exists {
        /// The chunk.
        chunk: ChunkId,
    },
    /// The request was meant for another incarnation of this node (R1, R6).
    #[error("{chunk} was opened for {wanted}, and this is {actual}")]
    OtherIncarnation {
        /// The chunk.
        chunk: ChunkId,
        /// Named by the request.
        wanted: Incarnation,
        /// This process's.
        actual: Incarnation,
    },
    /// The replica is fenced at `epoch`; the request is of an older one.
    #[error("{chunk} is fenced at {epoch}")]
    Fenced {
        /// The chunk.
        chunk: ChunkId,
        /// The fence in force.
        epoch: Epoch,
    },
    /// The record's epoch is not the one the chunk was opened in.
    #[error("{chunk} was opened in {epoch}, not in that of the record")]
    WrongEpoch {
        /// The chunk.
        chunk: ChunkId,
        /// The epoch it was opened in.
        epoch: Epoch,
    },
    /// The record does not begin at the replica's length (R2).
    #[error("{chunk} is {length} bytes long, the record starts at {offset}")]
    WrongOffset {
        /// The chunk.
        chunk: ChunkId,
        /// What the replica holds, with what it has accepted.
        length: u64,
        /// Where the record starts.
        offset: u64,
    },
    /// The record's chain does not follow from the replica's (R2).
    #[error("the chain of {chunk} does not match at {offset}")]
    WrongChain {
        /// The chunk.
        chunk: ChunkId,
        /// Where the record starts.
        offset: u64,
    },
    /// The writer's sequence does not follow its last one (R2).
    #[error("{writer} is at {last} in {chunk}, the record has {sequence}")]
    SequenceGap {
        /// The chunk.
        chunk: ChunkId,
        /// The writer.
        writer: WriterId,
        /// Its last sequence here.
        last: Sequence,
        /// The record's.
        sequence: Sequence,
    },
    /// The file has 1,024 writers already.
    #[error("{chunk} has 1,024 writers")]
    TooManyWriters {
        /// The chunk.
        chunk: ChunkId,
    },
    /// The node restarted since the chunk was opened: it takes no more appends (R6).
    #[error("{chunk} was opened before this node restarted")]
    Restarted {
        /// The chunk.
        chunk: ChunkId,
    },
    /// The replica lacks bytes below its durable mark.
    #[error("the replica of {chunk} is damaged")]
    Damaged {
        /// The chunk.
        chunk: ChunkId,
    },
    /// The close record is in.
    #[error("{chunk} is closed")]
    Closed {
        /// The chunk.
        chunk: ChunkId,
    },
    /// The request needs a fenced replica.
    #[error("{chunk} is not fenced at the epoch named")]
    NotFenced {
        /// The chunk.
        chunk: ChunkId,
    },
    /// The chunk is sealed and does not change any more, or the request contradicts the seal.
    #[error("{chunk} is sealed at {length}")]
    Sealed {
        /// The chunk.
        chunk: ChunkId,
        /// The decided length.
        length: u64,
    },
    /// The request needs a sealed replica.
    #[error("{chunk} is not sealed")]
    NotSealed {
        /// The chunk.
        chunk: ChunkId,
    },
    /// The payload does not match its checksum, or a length is beyond its limit.
    #[error("the record for {chunk} is malformed or does not match its checksum")]
    BadRecord {
        /// The chunk.
        chunk: ChunkId,
    },
    /// No space for it: what is here may not be evicted. The reserve is kept for fences and seals.
    #[error("the disk is full: {pinned_bytes} of {usable_bytes} bytes are of what is not in S3 yet")]
    DiskFull {
        /// Bytes that may not be evicted.
        pinned_bytes: u64,
        /// Bytes that such may take at most.
        usable_bytes: u64,
    },
    /// The store writes no more. What was in flight is unknown here until the next start.
    #[error(transparent)]
    Retired(#[from] Retired),
    /// Too much is queued: await [`ChunkStore::ready`](super::ChunkStore::ready) before submitting.
    #[error("too many requests are queued")]
    Busy,
    /// The store has been closed. What was in flight is unknown.
    #[error("the chunk store is closed")]
    Stopped,
}

/// Why bytes were not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// There is no replica of the chunk here.
    #[error("{chunk} is not here")]
    UnknownChunk {
        /// The chunk.
        chunk: ChunkId,
    },
    /// The range reaches beyond what may be seen here (R9).
    #[error("{chunk} is visible up to {visible} here")]
    NotVisible {
        /// The chunk.
        chunk: ChunkId,
        /// The end of what may be read.
        visible: u64,
    },
    /// The bytes do not match their checksum: ask another replica. The replica counts as damaged.
    #[error("{chunk} is damaged at {offset}")]
    Damaged {
        /// The chunk.
        chunk: ChunkId,
        /// Offset in the chunk of the record concerned.
        offset: u64,
    },
    /// The disk failed to read.
    #[error("reading failed with errno {errno}")]
    Io {
        /// The errno.
        errno: i32,
    },
}
