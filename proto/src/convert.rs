//! Conversions between wire messages and the vocabulary. What comes in is checked.

use bytes::Bytes;
use cairn_types::{
    Ack, ChunkId, DeviceNumber, Extent, ExtentSource, FileKind, FsError, Generation, Inode, InodeId, MountId,
    ObjectKey, Persist, Policy, ReplicaHealth, Sequence, TailRef, Timestamp, WriterId, WriterMark,
};

use crate::status::ServiceError;
use crate::v1;

/// A message that lacks a field or holds a value out of range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message is malformed: field {0}")]
pub struct BadMessage(pub &'static str);

impl From<BadMessage> for ServiceError {
    fn from(bad: BadMessage) -> Self {
        ServiceError::Malformed { field: bad.0.to_owned() }
    }
}

impl From<BadMessage> for tonic::Status {
    fn from(bad: BadMessage) -> Self {
        ServiceError::from(bad).into()
    }
}

impl From<&Policy> for v1::Policy {
    fn from(p: &Policy) -> Self {
        Self {
            replicas: p.replicas.into(),
            min_replicas: p.min_replicas.into(),
            ack_memory: p.ack == Ack::Memory,
            persist: match p.persist {
                Persist::Async => 0,
                Persist::Sync => 1,
                Persist::Never => 2,
            },
            max_lag_ms: p.max_lag_ms,
            max_lag_bytes: p.max_lag_bytes,
        }
    }
}

impl TryFrom<&v1::Policy> for Policy {
    type Error = FsError;

    fn try_from(p: &v1::Policy) -> Result<Self, FsError> {
        let small = |v: u32| u8::try_from(v).map_err(|_| FsError::InvalidPolicy);
        let policy = Self {
            replicas: small(p.replicas)?,
            min_replicas: small(p.min_replicas)?,
            ack: if p.ack_memory { Ack::Memory } else { Ack::Fsync },
            persist: match p.persist {
                0 => Persist::Async,
                1 => Persist::Sync,
                2 => Persist::Never,
                _ => return Err(FsError::InvalidPolicy),
            },
            max_lag_ms: p.max_lag_ms,
            max_lag_bytes: p.max_lag_bytes,
        };
        policy.check()?;
        Ok(policy)
    }
}

impl From<&Inode> for v1::Inode {
    fn from(i: &Inode) -> Self {
        let (kind, device) = kind_and_device(i.kind);
        Self {
            ino: i.ino.0,
            kind: kind.into(),
            mode: i.mode,
            uid: i.uid,
            gid: i.gid,
            nlink: i.nlink,
            size: i.size,
            mtime_ns: i.mtime.0,
            ctime_ns: i.ctime.0,
            atime_ns: i.atime.0,
            btime_ns: i.btime.0,
            version: i.version,
            generation: i.generation.0,
            tail: i.tail.map(|t| v1::TailRef { chunk: t.chunk.0, base: t.base }),
            target: i.target.clone().map(Bytes::from),
            policy: i.policy.as_ref().map(v1::Policy::from),
            mount: i.mount.map(|m| m.0),
            device,
        }
    }
}

/// A kind of inode, as the wire has it.
#[must_use]
pub fn kind_and_device(kind: FileKind) -> (v1::FileKind, Option<v1::DeviceNumber>) {
    let device = kind.device().map(|d| v1::DeviceNumber { major: d.major, minor: d.minor });
    let kind = match kind {
        FileKind::File => v1::FileKind::File,
        FileKind::Directory => v1::FileKind::Directory,
        FileKind::Symlink => v1::FileKind::Symlink,
        FileKind::Fifo => v1::FileKind::Fifo,
        FileKind::Socket => v1::FileKind::Socket,
        FileKind::CharacterDevice(_) => v1::FileKind::CharacterDevice,
        FileKind::BlockDevice(_) => v1::FileKind::BlockDevice,
    };
    (kind, device)
}

/// Reads what [`kind_and_device`] wrote.
///
/// # Errors
/// [`BadMessage`] for an unknown kind, a device without its number, and a number without a device.
pub fn file_kind(kind: i32, device: Option<v1::DeviceNumber>) -> Result<FileKind, BadMessage> {
    let device = device.map(|d| DeviceNumber { major: d.major, minor: d.minor });
    Ok(match (v1::FileKind::try_from(kind), device) {
        (Ok(v1::FileKind::File), None) => FileKind::File,
        (Ok(v1::FileKind::Directory), None) => FileKind::Directory,
        (Ok(v1::FileKind::Symlink), None) => FileKind::Symlink,
        (Ok(v1::FileKind::Fifo), None) => FileKind::Fifo,
        (Ok(v1::FileKind::Socket), None) => FileKind::Socket,
        (Ok(v1::FileKind::CharacterDevice), Some(device)) => FileKind::CharacterDevice(device),
        (Ok(v1::FileKind::BlockDevice), Some(device)) => FileKind::BlockDevice(device),
        (Ok(v1::FileKind::Unspecified) | Err(_), _) => return Err(BadMessage("inode.kind")),
        _ => return Err(BadMessage("inode.device")),
    })
}

impl TryFrom<&v1::Inode> for Inode {
    type Error = BadMessage;

    fn try_from(i: &v1::Inode) -> Result<Self, BadMessage> {
        let kind = file_kind(i.kind, i.device)?;
        let policy =
            i.policy.as_ref().map(Policy::try_from).transpose().map_err(|_| BadMessage("inode.policy"))?;
        Ok(Self {
            ino: InodeId(i.ino),
            kind,
            mode: i.mode,
            uid: i.uid,
            gid: i.gid,
            nlink: i.nlink,
            size: i.size,
            mtime: Timestamp(i.mtime_ns),
            ctime: Timestamp(i.ctime_ns),
            atime: Timestamp(i.atime_ns),
            btime: Timestamp(i.btime_ns),
            version: i.version,
            generation: Generation(i.generation),
            tail: i.tail.as_ref().map(|t| TailRef { chunk: ChunkId(t.chunk), base: t.base }),
            target: i.target.as_ref().map(|t| t.to_vec()),
            policy,
            mount: i.mount.map(MountId),
        })
    }
}

impl From<&Extent> for v1::Extent {
    fn from(e: &Extent) -> Self {
        let source = match &e.source {
            ExtentSource::Chunk { chunk, offset } => {
                v1::extent::Source::Chunk(v1::ChunkSource { chunk: chunk.0, offset: *offset })
            }
            ExtentSource::Object { object, offset } => v1::extent::Source::Object(v1::ObjectSource {
                mount: object.mount.0,
                key: object.key.clone().into(),
                etag: object.etag.clone(),
                offset: *offset,
                size: 0,
            }),
        };
        Self { file_offset: e.file_offset, length: e.length, source: Some(source) }
    }
}

impl TryFrom<&v1::Extent> for Extent {
    type Error = BadMessage;

    fn try_from(e: &v1::Extent) -> Result<Self, BadMessage> {
        let source = match e.source.as_ref().ok_or(BadMessage("extent.source"))? {
            v1::extent::Source::Chunk(c) => ExtentSource::Chunk { chunk: ChunkId(c.chunk), offset: c.offset },
            v1::extent::Source::Object(o) => ExtentSource::Object {
                object: ObjectKey { mount: MountId(o.mount), key: o.key.to_vec(), etag: o.etag.clone() },
                offset: o.offset,
            },
        };
        Ok(Self { file_offset: e.file_offset, length: e.length, source })
    }
}

impl From<&WriterMark> for v1::WriterMark {
    fn from(m: &WriterMark) -> Self {
        Self { writer: m.writer.0, sequence: m.sequence.0, offset: m.offset }
    }
}

impl From<&v1::WriterMark> for WriterMark {
    fn from(m: &v1::WriterMark) -> Self {
        Self { writer: WriterId(m.writer), sequence: Sequence(m.sequence), offset: m.offset }
    }
}

/// A replica's health as `FenceReply` and `ReplicaAnswer` number it.
///
/// It is no enum of the .proto files: what the generated code reads from a number that it does not
/// know would be `Clean`, the one that proves most.
#[must_use]
pub fn health_number(health: ReplicaHealth) -> u32 {
    match health {
        ReplicaHealth::Clean => 0,
        ReplicaHealth::Limbo => 1,
        ReplicaHealth::Damaged => 2,
    }
}

/// The health with this number.
///
/// # Errors
/// [`BadMessage`] for a number that this build does not know: its replica's answer proves nothing here.
pub fn replica_health(number: u32) -> Result<ReplicaHealth, BadMessage> {
    match number {
        0 => Ok(ReplicaHealth::Clean),
        1 => Ok(ReplicaHealth::Limbo),
        2 => Ok(ReplicaHealth::Damaged),
        _ => Err(BadMessage("health")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_survives_the_wire_with_its_device_and_no_other_has_one() {
        let device = DeviceNumber { major: 8, minor: 1 };
        let kinds = [
            FileKind::File,
            FileKind::Directory,
            FileKind::Symlink,
            FileKind::Fifo,
            FileKind::Socket,
            FileKind::CharacterDevice(device),
            FileKind::BlockDevice(device),
        ];
        for kind in kinds {
            let (wire, number) = kind_and_device(kind);
            assert_eq!(file_kind(wire.into(), number), Ok(kind));
            let other = if number.is_some() { None } else { Some(v1::DeviceNumber { major: 8, minor: 1 }) };
            assert_eq!(file_kind(wire.into(), other), Err(BadMessage("inode.device")));
        }
        assert_eq!(file_kind(0, None), Err(BadMessage("inode.kind")));
        assert_eq!(file_kind(99, None), Err(BadMessage("inode.kind")));
    }

    #[test]
    fn a_health_survives_the_wire_and_an_unknown_one_is_refused() {
        for health in [ReplicaHealth::Clean, ReplicaHealth::Limbo, ReplicaHealth::Damaged] {
            assert_eq!(replica_health(health_number(health)), Ok(health));
        }
        // What released builds send.
        assert_eq!(health_number(ReplicaHealth::Clean), 0);
        assert_eq!(health_number(ReplicaHealth::Limbo), 1);
        assert_eq!(health_number(ReplicaHealth::Damaged), 2);
        assert_eq!(replica_health(3), Err(BadMessage("health")));
        assert_eq!(replica_health(u32::MAX), Err(BadMessage("health")));
    }
}
