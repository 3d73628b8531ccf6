//! `conflicts`: (mount, number) → [`ConflictRow`]: what somebody else changed under our hands.

use bincode::{Decode, Encode};
use cairn_types::{InodeId, MountId, Timestamp};

use super::mount_modes::ConflictRule;
use super::{Record, RowFault};
use crate::store::{KeyRange, Table};

/// A conflict, until an operator has looked at it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ConflictRow {
    /// The object's key.
    pub key: Vec<u8>,
    /// The state's time.
    pub time: Timestamp,
    /// The ETag that was known; empty: that nothing was there.
    pub expected_etag: String,
    /// The ETag that was found; empty: that nothing is there.
    pub found_etag: String,
    /// The file of the losing side; `None`: there is none.
    pub kept: Option<InodeId>,
    /// The rule that decided.
    pub rule: ConflictRule,
    /// For people.
    pub what: String,
}

impl Record for ConflictRow {
    const TABLE: Table = Table::Conflicts;
}

/// The row's key.
#[must_use]
pub fn key(mount: MountId, number: u64) -> Vec<u8> {
    [mount.0.to_be_bytes().as_slice(), &number.to_be_bytes()].concat()
}

/// The number in a key.
///
/// # Errors
/// [`RowFault::Damaged`] when the key is too short.
pub fn number(key: &[u8]) -> Result<u64, RowFault> {
    super::u64_at(Table::Conflicts, key, 4)
}

/// The rows of a mount after a number's; 0: all.
#[must_use]
pub fn after(mount: MountId, number: u64) -> KeyRange {
    KeyRange::prefix_after(&mount.0.to_be_bytes(), &key(mount, number))
}
