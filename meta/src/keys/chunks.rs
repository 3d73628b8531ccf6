//! `chunks`: chunk id → [`ChunkRecord`].

use bincode::{Decode, Encode};
use cairn_types::{
    Chain, ChunkId, DiskId, Epoch, Generation, Incarnation, InodeId, IntentId, LogIndex, NodeId, PackId,
    Policy, SessionId, Timestamp, WriterMark,
};

use super::Record;
use crate::store::Table;

/// One member of a chunk's replica set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PlacedReplica {
    /// The data node.
    pub node: NodeId,
    /// The disk that it keeps the replica on.
    pub disk: DiskId,
    /// The node's process incarnation when the chunk was opened.
    pub incarnation: Incarnation,
}

/// How far a chunk's life has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ChunkState {
    /// Its primary takes appends.
    Open,
    /// It is being fenced; its length is not decided yet.
    Sealing,
    /// Its length is decided, for ever.
    Sealed,
    /// It is made ahead, to follow an open tail: it takes nothing until a roll activates it.
    Spare,
}

/// Whose bytes a chunk takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ChunkOwner {
    /// A session's shared chunk: bytes of many files, which extents name one by one.
    Session(SessionId),
    /// The tail of one file.
    Tail {
        /// The file.
        ino: InodeId,
        /// The file offset of the chunk's first byte.
        base: u64,
    },
}

/// The entry without which a primary accepts nothing (append protocol R1).
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Activation {
    /// The entry's index in the Raft log.
    pub log_index: LogIndex,
    /// The state's time at that entry.
    pub time: Timestamp,
    /// The file's writer generation when the entry was applied; 0 for a shared chunk.
    pub generation: Generation,
    /// Bytes that the primary may take (append protocol R13).
    pub grant_bytes: u64,
    /// The last decided sequence of every live writer of the file, also of those that wrote
    /// nothing in the chunk before this one.
    pub marks: Vec<WriterMark>,
}

/// What a seal decided.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Sealed {
    /// The chunk's length in bytes.
    pub length: u64,
    /// The chain at that length.
    pub chain: Chain,
    /// The nodes that hold all of it.
    pub holders: Vec<NodeId>,
    /// The last decided sequence of each writer in this chunk.
    pub marks: Vec<WriterMark>,
    /// Wall time of the last record, by the data nodes.
    pub mtime: Timestamp,
    /// The state's time when it was decided.
    pub at: Timestamp,
}

/// Where a sealed chunk is in S3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PackPlace {
    /// The pack.
    pub pack: PackId,
    /// The chunk's first byte in the pack.
    pub offset: u64,
    /// The chunk's length in bytes.
    pub length: u64,
    /// CRC32C of those bytes.
    pub crc32c: u32,
}

/// All that the metadata knows of a chunk.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ChunkRecord {
    /// Its id.
    pub chunk: ChunkId,
    /// How far its life has come.
    pub state: ChunkState,
    /// The fence epoch: 1 when opened, raised when its seal begins.
    pub epoch: Epoch,
    /// The replica set, fixed when it was opened; copies made by repair are added after the seal,
    /// non-holders leave once they have deleted theirs, and nodes that were removed for good.
    pub replicas: Vec<PlacedReplica>,
    /// The member that orders its appends; after the seal it may be no member any more.
    pub primary: NodeId,
    /// The policy that it was opened under.
    pub policy: Policy,
    /// Whose bytes it takes.
    pub owner: ChunkOwner,
    /// True while its session may still commit extents of it; such a chunk is never collected.
    pub held: bool,
    /// What its primary must hold before it accepts anything.
    pub activation: Activation,
    /// What its seal decided.
    pub sealed: Option<Sealed>,
    /// Bytes of it that extents point at.
    pub live_bytes: u64,
    /// The end of the furthest range of it that an extent was ever committed for.
    pub extent_end: u64,
    /// The unfinished intent that uploads it.
    pub upload: Option<IntentId>,
    /// Where it is in S3, once persisted.
    pub place: Option<PackPlace>,
}

impl ChunkRecord {
    /// The decided length, when sealed.
    #[must_use]
    pub fn sealed_length(&self) -> Option<u64> {
        self.sealed.as_ref().map(|s| s.length)
    }

    /// True when nothing points at it and nothing will: its bytes may go.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.state == ChunkState::Sealed && self.live_bytes == 0 && !self.held
    }

    /// True when `node` holds all of a sealed chunk.
    #[must_use]
    pub fn is_holder(&self, node: NodeId) -> bool {
        self.sealed.as_ref().is_some_and(|s| s.holders.contains(&node))
    }
}

impl Record for ChunkRecord {
    const TABLE: Table = Table::Chunks;
}

/// The row's key.
#[must_use]
pub fn key(chunk: ChunkId) -> Vec<u8> {
    chunk.0.to_be_bytes().to_vec()
}
