//! `held`: (session, chunk) of the shared chunks that a session may still commit; no value.

use cairn_types::{ChunkId, SessionId};

use super::RowFault;
use crate::store::{KeyRange, Table};

/// The row's key.
#[must_use]
pub fn key(session: SessionId, chunk: ChunkId) -> Vec<u8> {
    [session.0.to_be_bytes(), chunk.0.to_be_bytes()].concat()
}

/// The chunks of a session.
#[must_use]
pub fn of(session: SessionId) -> KeyRange {
    KeyRange::prefix(&session.0.to_be_bytes())
}

/// The chunk in a row's key.
///
/// # Errors
/// [`RowFault::Damaged`] when the key is too short.
pub fn chunk(key: &[u8]) -> Result<ChunkId, RowFault> {
    Ok(ChunkId(super::u64_at(Table::Held, key, 8)?))
}
