//! [`Reply`]: what the state machine answers to an entry.

use bincode::{Decode, Encode};
use cairn_types::codec::{self, CodecError};
use cairn_types::{FsError, Generation, Inode, IntentId, LogIndex, MountId, NodeId, SessionId};

use crate::keys::chunks::ChunkRecord;

/// Format byte of an encoded [`Reply`].
pub const REPLY_FORMAT: u8 = 2;
/// That of a reply from before there were locks.
const WITHOUT_LOCKS: u8 = 1;

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
    /// How the lock asked for stands.
    pub lock: Option<LockAnswer>,
}

/// How a lock that was asked for stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum LockAnswer {
    /// It is held.
    Held {
        /// Its fencing number, greater than that of whoever held the bytes against it before.
        fence: LogIndex,
    },
    /// It is waited for.
    Waiting {
        /// The wait's number.
        wait: LogIndex,
    },
    /// The wait is given up.
    Cancelled,
    /// There is no such wait: it was granted, or is over.
    Gone,
}

/// An [`Answer`] as it was before there were locks.
#[derive(Decode)]
struct AnswerWithoutLock {
    inode: Option<Inode>,
    chunk: Option<ChunkRecord>,
    generation: Option<Generation>,
    intent: Option<IntentId>,
    mount: Option<MountId>,
    session: Option<SessionId>,
    node: Option<NodeId>,
    resume_after: Option<Vec<u8>>,
}

impl From<AnswerWithoutLock> for Answer {
    fn from(old: AnswerWithoutLock) -> Self {
        let AnswerWithoutLock { inode, chunk, generation, intent, mount, session, node, resume_after } = old;
        Self { inode, chunk, generation, intent, mount, session, node, resume_after, lock: None }
    }
}

/// The bytes of a kept reply.
#[must_use]
pub fn to_bytes(reply: &Reply) -> Vec<u8> {
    codec::encode(REPLY_FORMAT, reply)
}

/// Reads what [`to_bytes`] wrote, or wrote before there were locks.
///
/// # Errors
/// [`CodecError`] for bytes that are no reply.
pub fn from_bytes(bytes: &[u8]) -> Result<Reply, CodecError> {
    if bytes.first() == Some(&WITHOUT_LOCKS) {
        let old: Result<AnswerWithoutLock, FsError> = codec::decode(WITHOUT_LOCKS, bytes)?;
        return Ok(old.map(Answer::from));
    }
    codec::decode(REPLY_FORMAT, bytes)
}
