//! `mounts`: mount id → [`MountRecord`].

use bincode::{Decode, Encode};

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
