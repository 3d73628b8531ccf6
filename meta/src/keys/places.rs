//! `places`: ino → [`Place`].

use bincode::{Decode, Encode};
use cairn_types::InodeId;

use super::Record;
use crate::store::Table;

/// Where an inode's primary link is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Place {
    /// The directory; 0 for the root's own.
    pub parent: InodeId,
    /// The name; empty for the root's.
    pub name: Vec<u8>,
}

impl Place {
    /// Where the root is, which never moves.
    #[must_use]
    pub fn of_root() -> Self {
        Self { parent: InodeId(0), name: Vec::new() }
    }
}

impl Record for Place {
    const TABLE: Table = Table::Places;
}

/// The row's key.
#[must_use]
pub fn key(ino: InodeId) -> Vec<u8> {
    ino.0.to_be_bytes().to_vec()
}
