//! `nodes`: (parent, name) → [`NodeRow`]. A directory's listing is one scan.

use bincode::{Decode, Encode};
use cairn_types::{FileKind, Inode, InodeId};

use super::Record;
use crate::store::{KeyRange, Table};

/// What a name leads to.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[allow(clippy::large_enum_variant, reason = "nearly every row is an inode")]
pub enum NodeRow {
    /// The inode itself: this is its primary link.
    Inode(Inode),
    /// A further hard link: the inode is at its primary link.
    Link {
        /// The inode.
        ino: InodeId,
        /// What it is.
        kind: FileKind,
    },
}

impl NodeRow {
    /// The inode that the name leads to.
    #[must_use]
    pub fn ino(&self) -> InodeId {
        match self {
            Self::Inode(inode) => inode.ino,
            Self::Link { ino, .. } => *ino,
        }
    }
}

impl Record for NodeRow {
    const TABLE: Table = Table::Nodes;
}

/// Where the name begins in a row's key.
pub const NAME_AT: usize = 8;

/// The row's key. The root lies at (0, "").
#[must_use]
pub fn key(parent: InodeId, name: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(8 + name.len());
    key.extend_from_slice(&parent.0.to_be_bytes());
    key.extend_from_slice(name);
    key
}

/// The name in a row's key.
#[must_use]
pub fn name(key: &[u8]) -> &[u8] {
    key.get(NAME_AT..).unwrap_or_default()
}

/// The names of a directory.
#[must_use]
pub fn all(parent: InodeId) -> KeyRange {
    KeyRange::prefix(&parent.0.to_be_bytes())
}

/// The names of a directory greater than `name`; all for an empty one.
#[must_use]
pub fn after(parent: InodeId, name: &[u8]) -> KeyRange {
    if name.is_empty() {
        return all(parent);
    }
    KeyRange::prefix_after(&parent.0.to_be_bytes(), &key(parent, name))
}
