//! `sessions`: session → [`SessionRecord`], and `replies`: (session, sequence) → kept reply.

use bincode::{Decode, Encode};
use cairn_types::{Sequence, SessionId, Timestamp, codec};

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
    /// Its requests are checked by its row in `credentials`.
    pub checked: bool,
}

/// Format 1: no session was checked.
#[derive(Encode, Decode)]
struct Unchecked {
    session: SessionId,
    client: String,
    opened: Timestamp,
    acknowledged_below: Sequence,
    replies: u32,
    closing: bool,
}

impl Record for SessionRecord {
    const TABLE: Table = Table::Sessions;
    const FORMAT: u8 = 2;

    fn from_bytes(key: &[u8], bytes: &[u8]) -> Result<Self, RowFault> {
        let damaged = |_| RowFault::Damaged { table: Self::TABLE, key: key.to_vec() };
        if bytes.first() != Some(&1) {
            return codec::decode(Self::FORMAT, bytes).map_err(damaged);
        }
        let Unchecked { session, client, opened, acknowledged_below, replies, closing } =
            codec::decode(1, bytes).map_err(damaged)?;
        Ok(Self { session, client, opened, acknowledged_below, replies, closing, checked: false })
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_of_format_1_is_read_and_is_not_checked() {
        // The line `sessions` of golden.txt, as it was in format 1.
        let bytes = [1, 1, 1, b'c', 2, 3, 2, 1];
        let record = SessionRecord::from_bytes(b"k", &bytes).unwrap();
        let expected = SessionRecord {
            session: SessionId(1),
            client: "c".into(),
            opened: Timestamp(1),
            acknowledged_below: Sequence(3),
            replies: 2,
            closing: true,
            checked: false,
        };
        assert_eq!(record, expected);
        assert!(SessionRecord::from_bytes(b"k", &bytes[..7]).is_err());
    }
}
