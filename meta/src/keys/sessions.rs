//! `sessions`: session → [`SessionRecord`], and `replies`: (session, sequence) → kept reply.

use bincode::{Decode, Encode};
use cairn_types::{Sequence, SessionId, Timestamp};

use super::{Record, RowFault};
use crate::store::{KeyRange, Table};

/// A client's session.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SessionRecord {
    /// Its id.
    pub session: SessionId,
    /// What the client calls itself.
    pub client: String,
    /// The state's time when it was opened.
    pub opened: Timestamp,
    /// Replies of smaller sequences are gone.
    pub acknowledged_below: Sequence,
    /// Replies that are kept.
    pub replies: u32,
    /// It is over; its last rows are being removed.
    pub closing: bool,
}

impl Record for SessionRecord {
    const TABLE: Table = Table::Sessions;
}

/// The key of a session.
#[must_use]
pub fn key(session: SessionId) -> Vec<u8> {
    session.0.to_be_bytes().to_vec()
}

/// The key of a kept reply.
#[must_use]
pub fn reply_key(session: SessionId, sequence: Sequence) -> Vec<u8> {
    [session.0.to_be_bytes(), sequence.0.to_be_bytes()].concat()
}

/// The kept replies of a session.
#[must_use]
pub fn replies(session: SessionId) -> KeyRange {
    KeyRange::prefix(&session.0.to_be_bytes())
}

/// The kept replies of a session from a sequence up to, but not at, another. Below `from` they are
/// gone: a scan that began before it would pass all that was ever deleted there.
#[must_use]
pub fn replies_between(session: SessionId, from: Sequence, below: Sequence) -> KeyRange {
    KeyRange { from: reply_key(session, from), until: Some(reply_key(session, below.max(from))) }
}

/// The sequence in a reply's key.
///
/// # Errors
/// [`RowFault::Damaged`] when the key is too short.
pub fn reply_sequence(key: &[u8]) -> Result<Sequence, RowFault> {
    Ok(Sequence(super::u64_at(Table::Replies, key, 8)?))
}
