//! `writers`: (ino, writer) → [`WriterRow`], and `writing`: (writer, ino), no value. They live as
//! long as the writer's session.

use bincode::{Decode, Encode};
use cairn_types::{InodeId, Sequence, SessionId, WriterId};

use super::{Record, RowFault};
use crate::store::{KeyRange, Table};

/// A live writer's last decided append in a file; sequence 0 before its first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct WriterRow {
    /// The last decided sequence.
    pub sequence: Sequence,
    /// The file offset of that append's first byte.
    pub offset: u64,
}

impl Record for WriterRow {
    const TABLE: Table = Table::Writers;
}

/// The key in `writers`.
#[must_use]
pub fn key(ino: InodeId, writer: WriterId) -> Vec<u8> {
    [ino.0.to_be_bytes(), writer.0.to_be_bytes()].concat()
}

/// The writers of a file.
#[must_use]
pub fn of(ino: InodeId) -> KeyRange {
    KeyRange::prefix(&ino.0.to_be_bytes())
}

/// The writer in a key of `writers`.
///
/// # Errors
/// [`RowFault::Damaged`] when the key is too short.
pub fn writer(key: &[u8]) -> Result<WriterId, RowFault> {
    Ok(WriterId(super::u64_at(Table::Writers, key, 8)?))
}

/// The key in `writing`.
#[must_use]
pub fn writing_key(writer: WriterId, ino: InodeId) -> Vec<u8> {
    [writer.0.to_be_bytes(), ino.0.to_be_bytes()].concat()
}

/// The rows of `writing` of a session's writers.
#[must_use]
pub fn writing_of(session: SessionId) -> KeyRange {
    let first = |s: SessionId| WriterId::of(s, 0).map(|w| w.0.to_be_bytes().to_vec());
    KeyRange { from: first(session).unwrap_or(vec![u8::MAX; 17]), until: first(session.next()) }
}

/// The writer and the file in a key of `writing`.
///
/// # Errors
/// [`RowFault::Damaged`] when the key is too short.
pub fn parse_writing(key: &[u8]) -> Result<(WriterId, InodeId), RowFault> {
    let writer = WriterId(super::u64_at(Table::Writing, key, 0)?);
    Ok((writer, InodeId(super::u64_at(Table::Writing, key, 8)?)))
}
