//! `mount_modes`: mount → [`MountMode`]. A mount without a row is read-only.

use bincode::{Decode, Encode};
use cairn_types::{IntentId, MountId};

use super::Record;
use crate::store::Table;

/// Which side has the name when both have changed, and where the other one is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub enum ConflictRule {
    /// The bucket's version has the name, ours is kept beside it.
    #[default]
    KeepBoth,
    /// The bucket's version has the name, ours is kept below `.cairn-conflicts` of the mount.
    Bucket,
    /// Ours has the name, the bucket's is kept below `.cairn-conflicts` of the mount.
    Namespace,
}

/// How a mount is written to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct MountRules {
    /// It is to be written to.
    pub writable: bool,
    /// A file that is being changed gets its object no later.
    pub object_lag_ms: u64,
    /// What is done when both sides have changed.
    pub on_conflict: ConflictRule,
    /// Nobody else writes to the bucket.
    pub sole_writer: bool,
}

/// How a bucket is spoken to beyond its name and endpoint. No secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct BucketAccess {
    /// Of the data nodes' AWS configuration; empty: the usual chain.
    pub profile: String,
    /// On the data nodes; empty: the usual place.
    pub credentials_file: String,
    /// The requester pays.
    pub requester_pays: bool,
    /// Encryption of what is written: empty, `AES256`, `aws:kms`.
    pub sse: String,
    /// The key of `aws:kms`.
    pub sse_kms_key: String,
    /// Storage class of what is written; empty: the bucket's.
    pub storage_class: String,
}

/// What an endpoint was found to do, each tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct EndpointAbilities {
    /// PUT refuses to replace.
    pub put_if_absent: bool,
    /// PUT replaces a given version alone.
    pub put_if_match: bool,
    /// The end of a multipart upload refuses to replace.
    pub complete_if_absent: bool,
    /// The end of a multipart upload replaces a given version alone.
    pub complete_if_match: bool,
    /// A copy refuses to replace.
    pub copy_if_absent: bool,
    /// A copy replaces a given version alone.
    pub copy_if_match: bool,
    /// A copy is of a given version alone.
    pub copy_source_if_match: bool,
    /// DELETE removes a given version alone.
    pub delete_if_match: bool,
    /// Parts of other objects are copied.
    pub part_copy: bool,
    /// CRC32C is kept.
    pub crc32c: bool,
    /// CRC64NVME is kept.
    pub crc64nvme: bool,
    /// GET is of a given version alone.
    pub get_if_match: bool,
    /// Listings are in the order of the keys' bytes.
    pub byte_order: bool,
    /// Objects can be written and deleted.
    pub writable: bool,
}

impl EndpointAbilities {
    /// Why a mount by these rules cannot be written to; empty: it can.
    #[must_use]
    pub fn refusal(&self, rules: &MountRules) -> &'static str {
        if !rules.writable {
            return "";
        }
        if !self.writable {
            return "objects cannot be written and deleted there with these credentials";
        }
        let conditions = [
            self.put_if_absent,
            self.put_if_match,
            self.complete_if_absent,
            self.complete_if_match,
            self.delete_if_match,
        ];
        if rules.sole_writer || conditions.iter().all(|has| *has) {
            return "";
        }
        "the endpoint does not keep the conditions of a PUT, of the end of a multipart upload, or of a DELETE: \
         say --sole-writer if nobody else writes there"
    }
}

/// How a mount is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct MountMode {
    /// How it is written to.
    pub rules: MountRules,
    /// How its bucket is spoken to.
    pub access: BucketAccess,
    /// What the endpoint does; `None`: it was not probed.
    pub abilities: Option<EndpointAbilities>,
    /// Why it is not writable though its rules say so; empty: it is, or is not to be.
    pub refused: String,
    /// The intent that probes the endpoint.
    pub probe: Option<IntentId>,
}

impl MountMode {
    /// True when it can be written to now.
    #[must_use]
    pub fn takes_writes(&self) -> bool {
        self.rules.writable && self.abilities.is_some() && self.refused.is_empty()
    }
}

impl Record for MountMode {
    const TABLE: Table = Table::MountModes;
}

/// The row's key.
#[must_use]
pub fn key(mount: MountId) -> Vec<u8> {
    mount.0.to_be_bytes().to_vec()
}
