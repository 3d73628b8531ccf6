//! `pending`: (mount, ino) → [`PendingRow`]: what the bucket does not hold as it is to; and
//! `pending_since`: (mount, since, ino), the same by age.

use bincode::{Decode, Encode};
use cairn_types::{InodeId, IntentId, LogIndex, MountId, Timestamp};

use super::{Record, RowFault};
use crate::store::{KeyRange, Table};

/// What of an inode is to be brought to the bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct PendingRow {
    /// The state's time when it began to be pending.
    pub since: Timestamp,
    /// The state's time of the last change.
    pub changed: Timestamp,
    /// Its bytes were changed here, or the bucket never had them.
    pub content: bool,
    /// The entry that changed its bytes last; 0: none.
    pub content_at: LogIndex,
    /// The entry that changed its mode, owner or times last; 0: none.
    pub attributes_at: LogIndex,
    /// The intent that writes its object, or the last one that failed.
    pub intent: Option<IntentId>,
    /// Of a directory whose tree is to follow it: names up to this one are done.
    pub walk: Option<Vec<u8>>,
    /// Of a directory: it is to have a marker.
    pub marker: bool,
    /// The bytes that it counts for in the mount's figures.
    pub bytes: u64,
}

impl Record for PendingRow {
    const TABLE: Table = Table::Pending;
}

/// The row's key.
#[must_use]
pub fn key(mount: MountId, ino: InodeId) -> Vec<u8> {
    [mount.0.to_be_bytes().as_slice(), &ino.0.to_be_bytes()].concat()
}

/// The inode in a key.
///
/// # Errors
/// [`RowFault::Damaged`] when the key is too short.
pub fn ino(key: &[u8]) -> Result<InodeId, RowFault> {
    Ok(InodeId(super::u64_at(Table::Pending, key, 4)?))
}

/// The rows of a mount after an inode's.
#[must_use]
pub fn after(mount: MountId, ino: Option<InodeId>) -> KeyRange {
    let all = mount.0.to_be_bytes();
    match ino {
        Some(ino) => KeyRange::prefix_after(&all, &key(mount, ino)),
        None => KeyRange::prefix(&all),
    }
}

/// The key in `pending_since`.
#[must_use]
pub fn since_key(mount: MountId, since: Timestamp, ino: InodeId) -> Vec<u8> {
    let order = since.0.cast_unsigned() ^ (1 << 63);
    [mount.0.to_be_bytes().as_slice(), &order.to_be_bytes(), &ino.0.to_be_bytes()].concat()
}

/// The time in a key of `pending_since`.
///
/// # Errors
/// [`RowFault::Damaged`] when the key is too short.
pub fn since(key: &[u8]) -> Result<Timestamp, RowFault> {
    let order = super::u64_at(Table::PendingSince, key, 4)?;
    Ok(Timestamp((order ^ (1 << 63)).cast_signed()))
}
