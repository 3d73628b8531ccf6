//! `orphans`: ino → [`Orphan`].

use bincode::{Decode, Encode};
use cairn_types::{Inode, InodeId};

use super::Record;
use crate::store::Table;

/// An unlinked inode whose rows were too many to go in one entry.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Orphan {
    /// The inode as it was.
    pub inode: Inode,
}

impl Record for Orphan {
    const TABLE: Table = Table::Orphans;
}

/// The row's key.
#[must_use]
pub fn key(ino: InodeId) -> Vec<u8> {
    ino.0.to_be_bytes().to_vec()
}
