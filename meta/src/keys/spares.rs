//! `spares`: an open tail → [`SpareRow`], the chunk that was made ahead to follow it. The row goes with
//! the tail's end.

use bincode::{Decode, Encode};
use cairn_types::ChunkId;

use super::Record;
use crate::store::Table;

/// The spare of a tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SpareRow {
    /// The chunk. It may be no spare any more: its seal begins when one of its nodes restarts.
    pub chunk: ChunkId,
}

impl Record for SpareRow {
    const TABLE: Table = Table::Spares;
}

/// The row's key.
#[must_use]
pub fn key(tail: ChunkId) -> Vec<u8> {
    tail.0.to_be_bytes().to_vec()
}
