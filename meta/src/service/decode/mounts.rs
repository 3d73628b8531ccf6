//! Mounts: added, set, removed; conflicts dismissed.

use cairn_proto::{WireError, v1};
use cairn_types::MountId;
use cairn_types::limits::S3_KEY_BYTES_MAX;

use super::target;
use crate::keys::mount_modes::{BucketAccess, ConflictRule, MountRules};
use crate::keys::mounts::MountSource;
use crate::namespace::operation::Operation;
use crate::service::call::malformed;

/// Bytes of a bucket's name, at most.
const BUCKET_BYTES_MAX: usize = 255;
/// Bytes of an endpoint, of a path and of a key's name, at most.
const TEXT_BYTES_MAX: usize = 1024;
/// Bytes of a word, as a region is one, at most.
const WORD_BYTES_MAX: usize = 64;
/// What an object lag may be, in milliseconds: a second to a day.
const OBJECT_LAG_MS: std::ops::RangeInclusive<u64> = 1_000..=86_400_000;
/// How S3 may be told to encrypt what is written.
const ENCRYPTIONS: [&str; 3] = ["", "AES256", KMS];
const KMS: &str = "aws:kms";

fn bounded(text: &str, bytes_max: usize, field: &str) -> Result<(), WireError> {
    // They go into headers and into files' names.
    let fits = text.len() <= bytes_max && !text.bytes().any(|byte| byte.is_ascii_control());
    if fits { Ok(()) } else { Err(malformed(field)) }
}

/// A new mount: one that is only read and says nothing of how its bucket is spoken to is made by the entry that
/// older servers apply.
pub fn add(m: v1::MountAdd) -> Result<Operation, WireError> {
    if m.bucket.is_empty() {
        return Err(malformed("bucket"));
    }
    bounded(&m.bucket, BUCKET_BYTES_MAX, "bucket")?;
    if m.prefix.len() > S3_KEY_BYTES_MAX {
        return Err(malformed("prefix"));
    }
    bounded(&m.endpoint, TEXT_BYTES_MAX, "endpoint")?;
    bounded(&m.region, WORD_BYTES_MAX, "region")?;
    let mut prefix = m.prefix;
    if !prefix.is_empty() && !prefix.ends_with('/') {
        prefix.push('/');
    }
    let source = MountSource {
        bucket: m.bucket,
        prefix,
        endpoint: m.endpoint,
        region: m.region,
        refresh_ms: m.refresh_ms,
        force_path_style: m.force_path_style,
    };
    let target = target(m.target)?;
    if m.access.is_none() && m.rules.is_none() {
        return Ok(Operation::MountAdd { target, source });
    }
    let access = access(m.access.unwrap_or_default())?;
    let rules = m.rules.map(rules).transpose()?.unwrap_or_default();
    Ok(Operation::MountAddAs { target, source, access, rules })
}

/// A mount is kept in another way from now on.
pub fn set(m: v1::MountSet) -> Result<Operation, WireError> {
    let access = access(m.access.ok_or_else(|| malformed("access"))?)?;
    let rules = rules(m.rules.ok_or_else(|| malformed("rules"))?)?;
    Ok(Operation::MountSet { target: target(m.target)?, refresh_ms: m.refresh_ms, access, rules })
}

/// A mount goes.
pub fn remove(m: v1::MountRemove) -> Result<Operation, WireError> {
    let target = target(m.target)?;
    Ok(match m.abandon {
        false => Operation::MountRemove { target },
        true => Operation::MountRemoveWith { target, abandon: true },
    })
}

/// A conflict was looked at.
pub fn dismiss(m: &v1::ConflictDismiss) -> Result<Operation, WireError> {
    match (m.mount, m.conflict) {
        (0, _) => Err(malformed("mount")),
        (_, 0) => Err(malformed("conflict")),
        (mount, conflict) => Ok(Operation::ConflictDismiss { mount: MountId(mount), conflict }),
    }
}

fn access(a: v1::BucketAccess) -> Result<BucketAccess, WireError> {
    bounded(&a.profile, WORD_BYTES_MAX, "access.profile")?;
    bounded(&a.credentials_file, TEXT_BYTES_MAX, "access.credentials_file")?;
    if !ENCRYPTIONS.contains(&a.sse.as_str()) {
        return Err(malformed("access.sse"));
    }
    bounded(&a.sse_kms_key, TEXT_BYTES_MAX, "access.sse_kms_key")?;
    if !a.sse_kms_key.is_empty() && a.sse != KMS {
        return Err(malformed("access.sse_kms_key"));
    }
    bounded(&a.storage_class, WORD_BYTES_MAX, "access.storage_class")?;
    Ok(BucketAccess {
        profile: a.profile,
        credentials_file: a.credentials_file,
        requester_pays: a.requester_pays,
        sse: a.sse,
        sse_kms_key: a.sse_kms_key,
        storage_class: a.storage_class,
    })
}

fn rules(r: v1::MountRules) -> Result<MountRules, WireError> {
    let unsaid = r.object_lag_ms == 0 && !r.writable;
    if !unsaid && !OBJECT_LAG_MS.contains(&r.object_lag_ms) {
        return Err(malformed("rules.object_lag_ms"));
    }
    let on_conflict = match v1::ConflictRule::try_from(r.on_conflict) {
        Ok(v1::ConflictRule::KeepBoth) => ConflictRule::KeepBoth,
        Ok(v1::ConflictRule::Bucket) => ConflictRule::Bucket,
        Ok(v1::ConflictRule::Namespace) => ConflictRule::Namespace,
        Err(_) => return Err(malformed("rules.on_conflict")),
    };
    Ok(MountRules {
        writable: r.writable,
        object_lag_ms: r.object_lag_ms,
        on_conflict,
        sole_writer: r.sole_writer,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_proto::ServiceError;

    fn at() -> Option<v1::Target> {
        Some(v1::Target { ino: 0, path: "/m".into(), no_follow: false })
    }

    fn plain() -> v1::MountAdd {
        v1::MountAdd { target: at(), bucket: "b".into(), prefix: "p".into(), ..Default::default() }
    }

    fn lagging(object_lag_ms: u64) -> v1::MountRules {
        v1::MountRules { writable: true, object_lag_ms, ..Default::default() }
    }

    fn refused(result: Result<Operation, WireError>) -> String {
        match result {
            Err(WireError::Service(ServiceError::Malformed { field })) => field,
            other => panic!("not refused as malformed: {other:?}"),
        }
    }

    #[test]
    fn a_mount_s_prefix_ends_with_a_slash() {
        let Ok(Operation::MountAdd { source, .. }) = add(plain()) else { panic!("another operation") };
        assert_eq!(source.prefix, "p/");
    }

    #[test]
    fn only_what_older_servers_do_not_know_takes_the_newer_entry() {
        let with = |access, rules| add(v1::MountAdd { access, rules, ..plain() });
        let Ok(Operation::MountAddAs { rules, access, .. }) = with(None, Some(lagging(30_000))) else {
            panic!("another operation")
        };
        assert!(rules.writable && rules.object_lag_ms == 30_000 && access == BucketAccess::default());
        let paid = v1::BucketAccess { requester_pays: true, ..Default::default() };
        let Ok(Operation::MountAddAs { rules, access, .. }) = with(Some(paid), None) else {
            panic!("another operation")
        };
        assert!(!rules.writable && access.requester_pays);
        let gone = |abandon| remove(v1::MountRemove { target: at(), abandon });
        assert!(matches!(gone(false), Ok(Operation::MountRemove { .. })));
        assert!(matches!(gone(true), Ok(Operation::MountRemoveWith { abandon: true, .. })));
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        let ruled = |rules| refused(add(v1::MountAdd { rules: Some(rules), ..plain() }));
        assert_eq!(ruled(lagging(999)), "rules.object_lag_ms");
        assert_eq!(ruled(lagging(86_400_001)), "rules.object_lag_ms");
        assert_eq!(ruled(lagging(0)), "rules.object_lag_ms");
        let odd = v1::MountRules { on_conflict: 3, ..lagging(1_000) };
        assert_eq!(ruled(odd), "rules.on_conflict");
        let reached = |access| refused(add(v1::MountAdd { access: Some(access), ..plain() }));
        let long = |bytes: usize| "x".repeat(bytes);
        let access = v1::BucketAccess::default;
        assert_eq!(reached(v1::BucketAccess { profile: long(65), ..access() }), "access.profile");
        assert_eq!(reached(v1::BucketAccess { sse: "rot13".into(), ..access() }), "access.sse");
        assert_eq!(reached(v1::BucketAccess { sse_kms_key: long(3), ..access() }), "access.sse_kms_key");
        let lines = v1::BucketAccess { storage_class: "GLACIER\n".into(), ..access() };
        assert_eq!(reached(lines), "access.storage_class");
        let file = v1::BucketAccess { credentials_file: long(1025), ..access() };
        assert_eq!(reached(file), "access.credentials_file");
        let set = |access, rules| set(v1::MountSet { target: at(), refresh_ms: 0, access, rules });
        assert_eq!(refused(set(None, Some(lagging(1_000)))), "access");
        assert_eq!(refused(set(Some(access()), None)), "rules");
        assert!(set(Some(access()), Some(lagging(86_400_000))).is_ok());
        assert!(set(Some(access()), Some(v1::MountRules::default())).is_ok(), "it is only read");
        assert_eq!(refused(dismiss(&v1::ConflictDismiss { mount: 1, conflict: 0 })), "conflict");
        assert_eq!(refused(dismiss(&v1::ConflictDismiss { mount: 0, conflict: 1 })), "mount");
    }
}
