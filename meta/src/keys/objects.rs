//! `keys`: (mount, S3 key) → [`ObjectRow`].

use bincode::{Decode, Encode};
use cairn_types::{InodeId, MountId};

use super::Record;
use crate::store::Table;

/// The `ino` of an object that the namespace does not want any more.
pub const NOBODY: InodeId = InodeId(0);

/// The inode that stands for an object of a mounted bucket, and the object as it was last seen.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ObjectRow {
    /// The file, or the directory whose marker it is; [`NOBODY`]: it is surplus.
    pub ino: InodeId,
    /// The ETag; empty: not known.
    pub etag: String,
    /// The size in bytes.
    pub size: u64,
}

impl Record for ObjectRow {
    const TABLE: Table = Table::Keys;
}

/// The row's key.
#[must_use]
pub fn key(mount: MountId, object: &[u8]) -> Vec<u8> {
    let mut key = mount.0.to_be_bytes().to_vec();
    key.extend_from_slice(object);
    key
}
