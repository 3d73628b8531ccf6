//! `surplus`: (mount, key) → [`SurplusRow`]: objects that the namespace does not want any more.

use bincode::{Decode, Encode};
use cairn_types::{IntentId, MountId, Timestamp};

use super::Record;
use crate::store::{KeyRange, Table};

/// An object to be deleted while it is the version that its row of `keys` knows.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SurplusRow {
    /// The state's time since when.
    pub since: Timestamp,
    /// The intent that deletes it, or the last one that failed.
    pub intent: Option<IntentId>,
}

impl Record for SurplusRow {
    const TABLE: Table = Table::Surplus;
}

/// The row's key.
#[must_use]
pub fn key(mount: MountId, object: &[u8]) -> Vec<u8> {
    super::objects::key(mount, object)
}

/// The rows of a mount after an object's.
#[must_use]
pub fn after(mount: MountId, object: Option<&[u8]>) -> KeyRange {
    let all = mount.0.to_be_bytes();
    match object {
        Some(object) => KeyRange::prefix_after(&all, &key(mount, object)),
        None => KeyRange::prefix(&all),
    }
}
