//! `packs`: pack → [`PackRecord`].

use bincode::{Decode, Encode};
use cairn_types::{ClusterId, IntentId, PackId, Timestamp};

use super::Record;
use crate::store::Table;

/// An S3 object that holds sealed chunks.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PackRecord {
    /// Its id.
    pub pack: PackId,
    /// Its key under the cluster's prefix.
    pub key: String,
    /// The ETag it was given.
    pub etag: String,
    /// Its length.
    pub bytes: u64,
    /// Chunks in it that are not dead.
    pub live_chunks: u32,
    /// Bytes of those that extents point at.
    pub live_bytes: u64,
    /// The state's time when it was recorded.
    pub created: Timestamp,
    /// The unfinished intent that deletes it.
    pub deletion: Option<IntentId>,
}

impl Record for PackRecord {
    const TABLE: Table = Table::Packs;
}

/// The row's key.
#[must_use]
pub fn key(pack: PackId) -> Vec<u8> {
    pack.0.to_be_bytes().to_vec()
}

/// The S3 key of a pack, under the prefix that the data nodes are configured with.
#[must_use]
pub fn object_key(cluster: ClusterId, pack: PackId) -> String {
    format!("{cluster}/packs/{:016x}", pack.0)
}
