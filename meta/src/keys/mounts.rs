//! `mounts`: mount id → [`MountRecord`].

use bincode::{Decode, Encode};
use cairn_types::{InodeId, MountId, Timestamp};

use super::Record;
use crate::store::Table;

/// What a mount is bound to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct MountSource {
    /// The bucket.
    pub bucket: String,
    /// What every key starts with: empty, or ending in `/`.
    pub prefix: String,
    /// The endpoint's URL; empty for AWS.
    pub endpoint: String,
    /// The region.
    pub region: String,
    /// Age above which a directory is read again.
    pub refresh_ms: u64,
    /// `endpoint/bucket/key` instead of `bucket.endpoint/key`.
    pub force_path_style: bool,
}

/// A path bound to a bucket and prefix.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct MountRecord {
    /// Its id.
    pub mount: MountId,
    /// Its root directory.
    pub root: InodeId,
    /// What it is bound to.
    pub source: MountSource,
    /// The state's time when it was made.
    pub created: Timestamp,
}

impl Record for MountRecord {
    const TABLE: Table = Table::Mounts;
}

/// The row's key.
#[must_use]
pub fn key(mount: MountId) -> Vec<u8> {
    mount.0.to_be_bytes().to_vec()
}
