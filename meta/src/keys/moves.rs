//! `moves`: (mount, prefix) → [`MoveRow`]: prefixes that a directory left, whose objects may still be there
//! without a row.

use bincode::{Decode, Encode};
use cairn_types::{InodeId, MountId};

use super::Record;
use crate::store::Table;

/// The directory that left a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct MoveRow {
    /// The directory.
    pub directory: InodeId,
}

impl Record for MoveRow {
    const TABLE: Table = Table::Moves;
}

/// The row's key.
#[must_use]
pub fn key(mount: MountId, prefix: &[u8]) -> Vec<u8> {
    super::objects::key(mount, prefix)
}
