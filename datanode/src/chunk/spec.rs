//! What goes into and comes out of the chunk store: specifications, records, answers.

use bytes::Bytes;
use cairn_types::{
    Ack, Chain, ChunkId, Epoch, Generation, Incarnation, ReplicaHealth, Sequence, Timestamp, WriterId,
    WriterMark,
};

use super::chain::{ChainedHeader, chain_next};

/// Bytes of [`ChunkSpec::record`] and of a persisted chunk's place, at most.
pub const OPAQUE_BYTES_MAX: usize = 64 << 10;

/// A replica that is to be made here (append protocol R1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkSpec {
    /// The chunk.
    pub chunk: ChunkId,
    /// The epoch it is opened in; records of another epoch are refused.
    pub epoch: Epoch,
    /// What makes an append count here.
    pub ack: Ack,
    /// The incarnation of *this* node that the activation names. Another one than
    /// [`ChunkStore::incarnation`](super::ChunkStore::incarnation) is refused.
    pub opened_incarnation: Incarnation,
    /// File offset of the chunk's first byte (the activation's base; 0 for a shared chunk). Writer
    /// marks are given in file offsets: `base` + the offset in the chunk.
    pub base: u64,
    /// The marks that the activation carries in.
    pub marks: Vec<WriterMark>,
    /// Whatever the caller wants back with the chunk after a restart (the encoded `v1::Chunk`), at
    /// most [`OPAQUE_BYTES_MAX`].
    pub record: Bytes,
}

/// One record of a chunk, as the primary made it and every replica stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendRecord {
    /// The chunk.
    pub chunk: ChunkId,
    /// The epoch in which the record was made.
    pub epoch: Epoch,
    /// Offset in the chunk of the first byte. Accepted only at the replica's own length.
    pub offset: u64,
    /// The writer generation.
    pub generation: Generation,
    /// The writer.
    pub writer: WriterId,
    /// The writer's sequence.
    pub sequence: Sequence,
    /// CRC32C of the whole payload.
    pub payload_crc32c: u32,
    /// The chain before this record.
    pub previous_chain: Chain,
    /// The chain after it: [`chain_next`]. A close record leaves the chain as it is.
    pub chain: Chain,
    /// The committed length the primary knew when it made the record.
    pub committed: u64,
    /// 1 byte to 1 MiB; empty for a close record.
    pub payload: Bytes,
    /// True for the record that ends the chunk in a planned roll (R5).
    pub close: bool,
}

impl AppendRecord {
    /// The chain that follows `previous_chain` through this record's header.
    #[must_use]
    pub fn next_chain(&self) -> Chain {
        if self.close {
            return self.previous_chain;
        }
        chain_next(
            self.previous_chain,
            &ChainedHeader {
                chunk: self.chunk,
                epoch: self.epoch,
                offset: self.offset,
                length: self.payload.len() as u32,
                generation: self.generation,
                writer: self.writer,
                sequence: self.sequence,
                payload_crc32c: self.payload_crc32c,
            },
        )
    }

    /// Offset in the chunk after the last byte.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset + self.payload.len() as u64
    }
}

/// An append counts here, by the chunk's policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durable {
    /// Everything below is durable here (`fsync`: fdatasync completed; `memory`: write completed).
    pub length: u64,
}

/// A fence (append protocol R4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FenceSpec {
    /// The replica as it would have been created, for a node that lacks it. `spec.epoch` is the
    /// epoch it was opened in, `spec.opened_incarnation` this node's when the chunk was opened.
    pub spec: ChunkSpec,
    /// The new epoch. Nothing of an older one is accepted after the answer.
    pub epoch: Epoch,
}

/// The answer to a fence: what this replica holds, drained and durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FenceAnswer {
    /// The valid prefix it holds.
    pub length: u64,
    /// The chain at `length`.
    pub chain: Chain,
    /// Last sequence of each writer at `length`, carried-in ones included, by writer.
    pub marks: Vec<WriterMark>,
    /// What the answer proves.
    pub health: ReplicaHealth,
    /// The highest committed length it has heard.
    pub heard_committed: u64,
    /// Wall time here of the last record, 0 when none.
    pub mtime: Timestamp,
    /// The fence epoch in force.
    pub epoch: Epoch,
}

/// The decision about a chunk's end, from the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedSpec {
    /// The chunk.
    pub chunk: ChunkId,
    /// The epoch of the seal.
    pub epoch: Epoch,
    /// The decided length.
    pub length: u64,
    /// The chain there.
    pub chain: Chain,
    /// False: this node is no holder and its replica goes.
    pub holder: bool,
}

/// What became of a replica that learned of its chunk's seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealedOutcome {
    /// It holds exactly the decided bytes and is sealed, durably.
    Holder,
    /// Not a holder: its bytes are gone, durably.
    Dropped,
    /// There is no such replica here.
    Unknown,
    /// It lacks bytes: extend it and tell it again, or delete it. Nothing was changed.
    Short {
        /// What it has.
        length: u64,
    },
    /// Its chain differs at the decided length: it was dropped, durably (R8).
    Diverged,
}

/// Where a replica is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaPhase {
    /// Open. Accepts appends only when [`ChunkView::accepts`] holds as well.
    Open,
    /// The close record is in; nothing more is accepted.
    Closed,
    /// Fenced for a seal; accepts only extensions.
    Fenced,
    /// Sealed at `length`; immutable.
    Sealed,
}

/// One replica as it stands, durable state only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkView {
    /// The chunk.
    pub chunk: ChunkId,
    /// The epoch it was opened in.
    pub opened_epoch: Epoch,
    /// The fence epoch: equal to `opened_epoch` until fenced.
    pub epoch: Epoch,
    /// This node's incarnation that opened it.
    pub opened_incarnation: Incarnation,
    /// By what appends count.
    pub ack: Ack,
    /// Where it is in its life.
    pub phase: ReplicaPhase,
    /// False once this process is another than the one that opened it (R6): seal it.
    pub accepts: bool,
    /// What its answer to a fence would prove.
    pub health: ReplicaHealth,
    /// The valid prefix it holds.
    pub length: u64,
    /// The chain at `length`.
    pub chain: Chain,
    /// The highest committed length heard.
    pub heard_committed: u64,
    /// File offset of the chunk's first byte.
    pub base: u64,
    /// The wall time of the last record, 0 when none.
    pub mtime: Timestamp,
    /// The caller's bytes of [`ChunkSpec::record`].
    pub record: Bytes,
    /// Where it is in S3, as told by [`ChunkStore::persisted`](super::ChunkStore::persisted): it may
    /// be evicted then.
    pub place: Option<Bytes>,
}
