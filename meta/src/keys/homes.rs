//! `homes`: ino → [`Home`]: where in the bucket an inode's bytes are, once it was pending. Of others the
//! directory's prefix and the name tell it.

use bincode::{Decode, Encode};
use cairn_types::{InodeId, MountId};

use super::Record;
use crate::store::Table;

/// The object that holds an inode's bytes, or a directory's marker.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Home {
    /// The mount.
    pub mount: MountId,
    /// The object's key.
    pub key: Vec<u8>,
}

impl Record for Home {
    const TABLE: Table = Table::Homes;
}

/// The row's key.
#[must_use]
pub fn key(ino: InodeId) -> Vec<u8> {
    ino.0.to_be_bytes().to_vec()
}
