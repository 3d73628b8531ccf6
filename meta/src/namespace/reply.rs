//! [`Reply`]: what the state machine answers to an entry.

use bincode::{Decode, Encode};
use cairn_types::codec::{self, CodecError};
use cairn_types::{FsError, Generation, Inode, IntentId, MountId, NodeId, SessionId};

use crate::keys::chunks::ChunkRecord;

/// Format byte of an encoded [`Reply`].
pub const REPLY_FORMAT: u8 = 1;

/// The deterministic outcome of an entry: the same on every server.
pub type Reply = Result<Answer, FsError>;

/// What an entry that was not refused answers; each command says which fields it fills.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Answer {
    /// The inode made or changed.
    pub inode: Option<Inode>,
    /// The chunk opened or changed.
    pub chunk: Option<ChunkRecord>,
    /// The file's new writer generation.
    pub generation: Option<Generation>,
    /// The intent made.
    pub intent: Option<IntentId>,
    /// The mount made.
    pub mount: Option<MountId>,
    /// The session made, or the one with rows left.
    pub session: Option<SessionId>,
    /// The data node's id.
    pub node: Option<NodeId>,
    /// An import page was too large for one entry: go on after this name.
    pub resume_after: Option<Vec<u8>>,
}

/// The bytes of a kept reply.
#[must_use]
pub fn to_bytes(reply: &Reply) -> Vec<u8> {
    codec::encode(REPLY_FORMAT, reply)
}

/// Reads what [`to_bytes`] wrote.
///
/// # Errors
/// [`CodecError`] for bytes that are no reply.
pub fn from_bytes(bytes: &[u8]) -> Result<Reply, CodecError> {
    codec::decode(REPLY_FORMAT, bytes)
}
