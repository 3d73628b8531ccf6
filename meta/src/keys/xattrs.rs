//! `xattrs`: (ino, name) → [`XattrRow`], and (ino, "") → [`XattrTotals`].
//!
//! They are of the inode, whatever its names: a rename or a further link touches no row here.

use bincode::{Decode, Encode};
use cairn_types::InodeId;

use super::Record;
use crate::store::{KeyRange, Table};

/// An extended attribute's value.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct XattrRow {
    /// The value.
    pub value: Vec<u8>,
}

/// What an inode's extended attributes come to. Absent when there are none, so that one read tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct XattrTotals {
    /// How many there are.
    pub count: u32,
    /// Bytes in their values.
    pub bytes: u64,
}

impl Record for XattrRow {
    const TABLE: Table = Table::Xattrs;
}

impl Record for XattrTotals {
    const TABLE: Table = Table::Xattrs;
}

/// The key of an attribute.
#[must_use]
pub fn key(ino: InodeId, name: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(8 + name.len());
    key.extend_from_slice(&ino.0.to_be_bytes());
    key.extend_from_slice(name);
    key
}

/// The key of the totals: no attribute's name is empty.
#[must_use]
pub fn totals_key(ino: InodeId) -> Vec<u8> {
    key(ino, b"")
}

/// The attributes of an inode, without the totals.
#[must_use]
pub fn of(ino: InodeId) -> KeyRange {
    KeyRange::prefix_after(&ino.0.to_be_bytes(), &totals_key(ino))
}

/// The name in a key.
#[must_use]
pub fn name(key: &[u8]) -> &[u8] {
    key.get(8..).unwrap_or_default()
}
