//! `links`: (ino, parent, name) of each hard link but the primary; no value.

use cairn_types::InodeId;

use super::RowFault;
use super::places::Place;
use crate::store::{KeyRange, Table};

/// The row's key.
#[must_use]
pub fn key(ino: InodeId, parent: InodeId, name: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(16 + name.len());
    key.extend_from_slice(&ino.0.to_be_bytes());
    key.extend_from_slice(&parent.0.to_be_bytes());
    key.extend_from_slice(name);
    key
}

/// The links of an inode.
#[must_use]
pub fn of(ino: InodeId) -> KeyRange {
    KeyRange::prefix(&ino.0.to_be_bytes())
}

/// The name that a row's key tells.
///
/// # Errors
/// [`RowFault::Damaged`] when the key is too short.
pub fn place(key: &[u8]) -> Result<Place, RowFault> {
    let parent = InodeId(super::u64_at(Table::Links, key, 8)?);
    Ok(Place { parent, name: key[16..].to_vec() })
}
