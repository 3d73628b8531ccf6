//! What a mount is: where its objects are, how they are reached, how they are written.

use std::time::Duration;

use cairn_proto::v1;

/// Where a mount's objects are, and how they are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// The bucket.
    pub bucket: String,
    /// The prefix, without a leading slash; empty for the whole bucket.
    pub prefix: String,
    /// `http(s)://host:port` of an endpoint other than AWS; empty for AWS.
    pub endpoint: String,
    /// The region.
    pub region: String,
    /// Put the bucket in the path, not in the host name.
    pub force_path_style: bool,
    /// A directory read from the bucket is read again after this time; zero: only by
    /// [`mount_sync`](crate::Client::mount_sync).
    pub refresh: Duration,
    /// How the data nodes reach the bucket, and what they say when they write.
    pub access: MountAccess,
    /// How it is written to.
    pub rules: MountRules,
}

/// How the data nodes reach a bucket. No secrets: where the data nodes find them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountAccess {
    /// A profile of the data nodes' AWS configuration; empty: their usual chain.
    pub profile: String,
    /// A file with credentials on the data nodes; empty: the usual place.
    pub credentials_file: String,
    /// Who asks pays.
    pub requester_pays: bool,
    /// How what is written is encrypted in the bucket: empty, `AES256`, `aws:kms`.
    pub sse: String,
    /// The key of `aws:kms`; empty: the bucket's.
    pub sse_kms_key: String,
    /// The storage class of what is written; empty: the bucket's.
    pub storage_class: String,
}

/// How a mount is written to. The default is read-only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MountRules {
    /// Files below it may be changed, where its endpoint can do what that takes.
    pub writable: bool,
    /// A file that is being changed gets its object no later than this.
    pub object_lag: Duration,
    /// Who has the name when a file and its object were both changed.
    pub on_conflict: ConflictRule,
    /// Nobody else writes to the bucket: an endpoint without conditional writes will do.
    pub sole_writer: bool,
}

/// The object lag when nobody says otherwise.
const OBJECT_LAG: Duration = Duration::from_secs(30);

impl Default for MountRules {
    fn default() -> Self {
        Self {
            writable: false,
            object_lag: OBJECT_LAG,
            on_conflict: ConflictRule::default(),
            sole_writer: false,
        }
    }
}

impl MountRules {
    /// Files below the mount may be changed.
    #[must_use]
    pub fn writable() -> Self {
        Self { writable: true, ..Self::default() }
    }
}

/// Who has the name when a file and its object were both changed. The other side is kept, whichever it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConflictRule {
    /// The bucket's version has the name, the file's is kept beside it (`name.conflict-N`).
    #[default]
    KeepBoth,
    /// The bucket's version has the name, the file's is kept below `.cairn-conflicts` of the mount.
    Bucket,
    /// The file's version has the name, the bucket's is kept below `.cairn-conflicts` of the mount.
    Namespace,
}

impl ConflictRule {
    pub(crate) fn of(wire: i32) -> Self {
        match v1::ConflictRule::try_from(wire) {
            Ok(v1::ConflictRule::Bucket) => Self::Bucket,
            Ok(v1::ConflictRule::Namespace) => Self::Namespace,
            Ok(v1::ConflictRule::KeepBoth) | Err(_) => Self::KeepBoth,
        }
    }

    fn wire(self) -> v1::ConflictRule {
        match self {
            Self::KeepBoth => v1::ConflictRule::KeepBoth,
            Self::Bucket => v1::ConflictRule::Bucket,
            Self::Namespace => v1::ConflictRule::Namespace,
        }
    }
}

/// Milliseconds, the most there are for what is longer.
pub(crate) fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl MountRules {
    pub(crate) fn wire(self) -> v1::MountRules {
        v1::MountRules {
            writable: self.writable,
            object_lag_ms: ms(self.object_lag),
            on_conflict: self.on_conflict.wire().into(),
            sole_writer: self.sole_writer,
        }
    }
}

impl From<v1::MountRules> for MountRules {
    fn from(rules: v1::MountRules) -> Self {
        Self {
            writable: rules.writable,
            // Of a mount that nobody ever wrote to there is none.
            object_lag: Some(rules.object_lag_ms)
                .filter(|ms| *ms > 0)
                .map_or(OBJECT_LAG, Duration::from_millis),
            on_conflict: ConflictRule::of(rules.on_conflict),
            sole_writer: rules.sole_writer,
        }
    }
}

impl From<v1::BucketAccess> for MountAccess {
    fn from(access: v1::BucketAccess) -> Self {
        let v1::BucketAccess { profile, credentials_file, requester_pays, sse, sse_kms_key, storage_class } =
            access;
        Self { profile, credentials_file, requester_pays, sse, sse_kms_key, storage_class }
    }
}

impl From<&MountAccess> for v1::BucketAccess {
    fn from(access: &MountAccess) -> Self {
        let MountAccess { profile, credentials_file, requester_pays, sse, sse_kms_key, storage_class } =
            access.clone();
        Self { profile, credentials_file, requester_pays, sse, sse_kms_key, storage_class }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_and_access_survive_the_wire() {
        for on_conflict in [ConflictRule::KeepBoth, ConflictRule::Bucket, ConflictRule::Namespace] {
            let rules = MountRules { on_conflict, sole_writer: true, ..MountRules::writable() };
            assert_eq!(MountRules::from(rules.wire()), rules);
        }
        assert!(!MountRules::default().writable);
        let access = MountAccess {
            profile: "p".to_owned(),
            credentials_file: "/f".to_owned(),
            requester_pays: true,
            sse: "aws:kms".to_owned(),
            sse_kms_key: "k".to_owned(),
            storage_class: "STANDARD_IA".to_owned(),
        };
        assert_eq!(MountAccess::from(v1::BucketAccess::from(&access)), access);
    }
}
