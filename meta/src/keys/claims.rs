//! `claims`: (mount, key) → [`ClaimRow`]: keys that an unfinished intent reads or writes. They are neither
//! imported nor taken as deleted meanwhile.

use bincode::{Decode, Encode};
use cairn_types::{IntentId, MountId};

use super::Record;
use crate::store::Table;

/// Who uses a key.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ClaimRow {
    /// The intent.
    pub intent: IntentId,
}

impl Record for ClaimRow {
    const TABLE: Table = Table::Claims;
}

/// The row's key.
#[must_use]
pub fn key(mount: MountId, object: &[u8]) -> Vec<u8> {
    super::objects::key(mount, object)
}
