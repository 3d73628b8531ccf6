//! Words of the append protocol that all roles share.

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::{Sequence, WriterId};

/// The running checksum of a chunk's record headers: `chain = crc32c(previous chain, header)`.
///
/// Two replicas with the same length and chain hold the same records (append protocol R2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Encode, Decode, Serialize, Deserialize)]
pub struct Chain(pub u32);

/// What a replica's answer to a fence proves (append protocol, "State").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplicaHealth {
    /// Same process incarnation since the chunk was opened, nothing failed: it lacks nothing acknowledged.
    Clean,
    /// It restarted: what it has is true, what it lacks proves nothing.
    Limbo,
    /// Something is missing or bad below a durable mark or a committed length it had heard.
    Damaged,
}

/// A writer's last sequence in a file and the file offset where that append lies.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
pub struct WriterMark {
    /// The writer.
    pub writer: WriterId,
    /// Its last decided sequence.
    pub sequence: Sequence,
    /// The file offset of that append's first byte.
    pub offset: u64,
}
