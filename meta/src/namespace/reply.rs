//! [`Reply`]: what the state machine answers to an entry.

use bincode::{Decode, Encode};
use cairn_types::codec::{self, CodecError};
use cairn_types::{FsError, Generation, Inode, IntentId, LogIndex, MountId, NodeId, SessionId};

use crate::keys::chunks::ChunkRecord;

/// Format byte of an encoded [`Reply`] that holds neither steps nor a lock.
pub const REPLY_FORMAT: u8 = 1;
/// Format byte of an encoded [`Reply`] of a transaction: its answer, then its steps.
pub const STEPS_FORMAT: u8 = 2;
/// Format byte of an encoded [`Reply`] about a lock: its answer, then how the lock stands.
pub const LOCK_FORMAT: u8 = 3;

/// The deterministic outcome of an entry: the same on every server.
pub type Reply = Result<Answer, FsError>;

/// What an entry that was not refused answers; each command says which fields it fills.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    /// Of a transaction: what each operation made or changed.
    pub steps: Vec<Option<Inode>>,
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

/// The fields of an [`Answer`] that every reply has, as they are stored.
#[derive(Encode, Decode)]
struct Fields {
    inode: Option<Inode>,
    chunk: Option<ChunkRecord>,
    generation: Option<Generation>,
    intent: Option<IntentId>,
    mount: Option<MountId>,
    session: Option<SessionId>,
    node: Option<NodeId>,
    resume_after: Option<Vec<u8>>,
}

impl Fields {
    fn of(answer: &Answer) -> Self {
        let Answer { inode, chunk, generation, intent, mount, session, node, resume_after, .. } =
            answer.clone();
        Self { inode, chunk, generation, intent, mount, session, node, resume_after }
    }
}

impl From<Fields> for Answer {
    fn from(fields: Fields) -> Self {
        let Fields { inode, chunk, generation, intent, mount, session, node, resume_after } = fields;
        let (steps, lock) = (Vec::new(), None);
        Self { inode, chunk, generation, intent, mount, session, node, resume_after, steps, lock }
    }
}

/// The bytes of a kept reply.
#[must_use]
pub fn to_bytes(reply: &Reply) -> Vec<u8> {
    match reply {
        Ok(answer) if !answer.steps.is_empty() => {
            codec::encode(STEPS_FORMAT, &(Fields::of(answer), &answer.steps))
        }
        Ok(answer) => match answer.lock {
            Some(lock) => codec::encode(LOCK_FORMAT, &(Fields::of(answer), lock)),
            None => codec::encode(REPLY_FORMAT, &reply.as_ref().map(Fields::of)),
        },
        Err(error) => codec::encode(REPLY_FORMAT, &Err::<Fields, _>(error)),
    }
}

/// Reads what [`to_bytes`] wrote.
///
/// # Errors
/// [`CodecError`] for bytes that are no reply.
pub fn from_bytes(bytes: &[u8]) -> Result<Reply, CodecError> {
    match bytes.first() {
        Some(&STEPS_FORMAT) => {
            let (fields, steps): (Fields, Vec<Option<Inode>>) = codec::decode(STEPS_FORMAT, bytes)?;
            Ok(Ok(Answer { steps, ..fields.into() }))
        }
        Some(&LOCK_FORMAT) => {
            let (fields, lock): (Fields, LockAnswer) = codec::decode(LOCK_FORMAT, bytes)?;
            Ok(Ok(Answer { lock: Some(lock), ..fields.into() }))
        }
        _ => {
            let reply: Result<Fields, FsError> = codec::decode(REPLY_FORMAT, bytes)?;
            Ok(reply.map(Answer::from))
        }
    }
}
