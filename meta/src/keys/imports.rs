//! `imports`: directory of a mount → [`ImportRecord`].

use bincode::{Decode, Encode};
use cairn_types::{InodeId, IntentId, MountId, Timestamp};

use super::Record;
use crate::store::Table;

/// What is known of a mount's directory in its bucket.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ImportRecord {
    /// The mount.
    pub mount: MountId,
    /// What the keys of the directory's names start with: the mount's prefix included, ending in
    /// `/` unless it is empty.
    pub prefix: Vec<u8>,
    /// The state's time when it was last read to the end; `None`: never, or it must be read anew.
    pub imported_at: Option<Timestamp>,
    /// The intent that reads it, or the last one that failed.
    pub intent: Option<IntentId>,
}

impl Record for ImportRecord {
    const TABLE: Table = Table::Imports;
}

/// The row's key.
#[must_use]
pub fn key(directory: InodeId) -> Vec<u8> {
    directory.0.to_be_bytes().to_vec()
}
