//! `mount_counts`: mount → [`MountCounts`], kept by the entries that change what they count.

use bincode::{Decode, Encode};
use cairn_types::{MountId, Timestamp};

use super::Record;
use crate::store::Table;

/// How much there is of a mount. A mount that was made before there were counts has those of what came since.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct MountCounts {
    /// Objects that are known.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Directories.
    pub directories: u64,
    /// Directories that were never read.
    pub unread_directories: u64,
    /// Files and directories that are pending.
    pub pending: u64,
    /// Bytes of files that are to be written.
    pub pending_bytes: u64,
    /// Directories whose tree is to follow them.
    pub walking: u64,
    /// Objects to be deleted.
    pub surplus: u64,
    /// Conflicts that nobody has dismissed.
    pub conflicts: u64,
    /// Conflicts there ever were.
    pub conflicts_made: u64,
    /// Intents that failed at least once.
    pub failing: u64,
    /// Why one of them failed, for people.
    pub last_error: String,
    /// The state's time when a directory was last read to its end; 0: never.
    pub last_sync: Timestamp,
}

impl Record for MountCounts {
    const TABLE: Table = Table::MountCounts;
}

/// The row's key.
#[must_use]
pub fn key(mount: MountId) -> Vec<u8> {
    mount.0.to_be_bytes().to_vec()
}
