//! Wire messages → the operations that change attributes, extended ones too, and special files.

use cairn_proto::{WireError, convert, v1};
use cairn_types::limits::XATTR_BYTES_MAX;
use cairn_types::{FsError, Timestamp};

use super::{mode, target};
use crate::namespace::{Operation, TimeChange, XattrMode, xattr_space};
use crate::service::call::malformed;

pub(super) fn set_attr(m: v1::SetAttr) -> Result<Operation, WireError> {
    let (target, mode) = (target(m.target)?, m.mode.map(mode).transpose()?);
    let (uid, gid, size, expected_version) = (m.uid, m.gid, m.size, m.expected_version);
    if !m.mtime_now && !m.atime_now {
        let (mtime, atime) = (m.mtime_ns.map(Timestamp), m.atime_ns.map(Timestamp));
        return Ok(Operation::SetAttr { target, mode, uid, gid, size, mtime, atime, expected_version });
    }
    let mtime = time(m.mtime_ns, m.mtime_now).ok_or_else(|| malformed("mtime_now"))?;
    let atime = time(m.atime_ns, m.atime_now).ok_or_else(|| malformed("atime_now"))?;
    Ok(Operation::SetAttrNow { target, mode, uid, gid, size, mtime, atime, expected_version })
}

/// What a time becomes, if anything; `None` when it is to be two things.
fn time(at: Option<i64>, now: bool) -> Option<Option<TimeChange>> {
    match (at, now) {
        (Some(_), true) => None,
        (None, true) => Some(Some(TimeChange::Now)),
        (at, false) => Some(at.map(|ns| TimeChange::At(Timestamp(ns)))),
    }
}

pub(super) fn mknod(m: v1::Mknod) -> Result<Operation, WireError> {
    let kind = convert::file_kind(m.kind, m.device).map_err(|bad| malformed(bad.0))?;
    Ok(Operation::Mknod { target: target(m.target)?, kind, mode: mode(m.mode)?, uid: m.uid, gid: m.gid })
}

/// What is over a limit is refused before it is in the log.
pub(super) fn set_xattr(m: v1::SetXattr) -> Result<Operation, WireError> {
    let mode = match (m.create, m.replace) {
        (true, true) => return Err(malformed("replace")),
        (true, false) => XattrMode::Create,
        (false, true) => XattrMode::Replace,
        (false, false) => XattrMode::Any,
    };
    xattr_space(&m.name)?;
    if m.value.len() > XATTR_BYTES_MAX {
        return Err(FsError::AttributeTooLarge.into());
    }
    let (name, value) = (m.name.to_vec(), m.value.to_vec());
    Ok(Operation::SetXattr { target: target(m.target)?, name, value, mode })
}

pub(super) fn remove_xattr(m: v1::RemoveXattr) -> Result<Operation, WireError> {
    xattr_space(&m.name)?;
    Ok(Operation::RemoveXattr { target: target(m.target)?, name: m.name.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_proto::ServiceError;

    fn at() -> Option<v1::Target> {
        Some(v1::Target { ino: 0, path: "/a".into(), no_follow: false })
    }

    fn field(refused: Result<Operation, WireError>) -> String {
        match refused {
            Err(WireError::Service(ServiceError::Malformed { field })) => field,
            other => panic!("not refused as malformed: {other:?}"),
        }
    }

    #[test]
    fn a_time_is_one_thing() {
        let plain = v1::SetAttr { target: at(), mtime_ns: Some(5), ..Default::default() };
        assert!(matches!(set_attr(plain.clone()), Ok(Operation::SetAttr { mtime: Some(Timestamp(5)), .. })));
        assert_eq!(field(set_attr(v1::SetAttr { mtime_now: true, ..plain.clone() })), "mtime_now");
        let both = set_attr(v1::SetAttr { atime_now: true, ..plain });
        let (mtime, atime) = (Some(TimeChange::At(Timestamp(5))), Some(TimeChange::Now));
        assert!(
            matches!(both, Ok(Operation::SetAttrNow { mtime: m, atime: a, .. }) if (m, a) == (mtime, atime))
        );
    }

    #[test]
    fn a_device_has_its_number_and_nothing_else_has_one() {
        let fifo = v1::Mknod { target: at(), kind: v1::FileKind::Fifo.into(), ..Default::default() };
        assert!(mknod(fifo.clone()).is_ok());
        let device = Some(v1::DeviceNumber { major: 1, minor: 3 });
        assert_eq!(field(mknod(v1::Mknod { device, ..fifo.clone() })), "inode.device");
        let kind = v1::FileKind::CharacterDevice.into();
        assert_eq!(field(mknod(v1::Mknod { kind, ..fifo.clone() })), "inode.device");
        assert!(mknod(v1::Mknod { kind, device, ..fifo }).is_ok());
    }

    #[test]
    fn an_attribute_over_its_limits_does_not_reach_the_log() {
        let set = v1::SetXattr { target: at(), name: "user.a".into(), ..Default::default() };
        assert!(set_xattr(set.clone()).is_ok());
        let value = vec![0; XATTR_BYTES_MAX + 1].into();
        let large = set_xattr(v1::SetXattr { value, ..set.clone() });
        assert_eq!(large, Err(WireError::Fs(FsError::AttributeTooLarge)));
        let foreign = set_xattr(v1::SetXattr { name: "system.x".into(), ..set.clone() });
        assert_eq!(foreign, Err(WireError::Fs(FsError::NotSupported)));
        assert_eq!(field(set_xattr(v1::SetXattr { create: true, replace: true, ..set })), "replace");
    }
}
