//! Errors on the wire: the one table of gRPC codes, and the typed detail that rides in a status.

use cairn_types::{
    ChunkId, FoundInode, FsError, Generation, InodeId, IntentId, LogIndex, MountId, NodeId, Sequence,
    SessionId,
};
use prost::Message;
use tonic::{Code, Status};

use crate::fs_kinds;
pub use crate::service_error::ServiceError;
use crate::v1::{ErrorDetail, MutateRefusal};

/// An error as it came over the wire.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The namespace refused.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// The server could not.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The connection failed, or the peer answered what this build does not know.
    #[error("{code:?}: {message}")]
    Transport {
        /// The gRPC code.
        code: Code,
        /// The gRPC message.
        message: String,
    },
}

/// The gRPC code of each namespace error: the only such table in the project.
fn fs_code(error: &FsError) -> Code {
    match error {
        FsError::NotFound | FsError::NoSuchMount | FsError::NoSuchAttribute => Code::NotFound,
        FsError::Exists => Code::AlreadyExists,
        FsError::ReadOnlyMount { .. } | FsError::NotPermitted | FsError::PermissionDenied => {
            Code::PermissionDenied
        }
        FsError::NameTooLong
        | FsError::KeyTooLong
        | FsError::KeyNotText
        | FsError::ReservedName
        | FsError::InvalidName
        | FsError::InvalidPath
        | FsError::InvalidPolicy
        | FsError::InvalidTarget
        | FsError::InvalidRequest
        | FsError::FileTooLarge
        | FsError::AttributeTooLarge
        | FsError::TooLarge => Code::InvalidArgument,
        FsError::LengthMismatch { .. }
        | FsError::VersionMismatch { .. }
        | FsError::PreconditionFailed { .. }
        | FsError::Fenced { .. } => Code::Aborted,
        FsError::PreconditionRefused { why, .. } | FsError::OperationRefused { why, .. } => fs_code(why),
        FsError::TooManyReplies
        | FsError::TooManyWriters
        | FsError::TooManyAttributes
        | FsError::TooManyLocks
        | FsError::NoSpace
        | FsError::LagBound { .. } => Code::ResourceExhausted,
        FsError::Locked { .. } | FsError::Deadlock => Code::Aborted,
        FsError::Importing { .. } | FsError::TooFewNodes { .. } | FsError::Loading | FsError::KeyBusy => {
            Code::Unavailable
        }
        FsError::NotSupported => Code::Unimplemented,
        FsError::Compacted { .. } => Code::OutOfRange,
        FsError::Damaged => Code::DataLoss,
        _ => Code::FailedPrecondition,
    }
}

/// The stable name and the fields of each namespace error on the wire.
fn fs_detail(error: &FsError) -> (&'static str, Vec<u64>) {
    use FsError as E;
    match error {
        E::NotFound => ("NotFound", vec![]),
        E::Exists => ("Exists", vec![]),
        E::NotDirectory => ("NotDirectory", vec![]),
        E::IsDirectory => ("IsDirectory", vec![]),
        E::NotFile => ("NotFile", vec![]),
        E::NotSymlink => ("NotSymlink", vec![]),
        E::NotEmpty => ("NotEmpty", vec![]),
        E::NameTooLong => ("NameTooLong", vec![]),
        E::InvalidName => ("InvalidName", vec![]),
        E::InvalidPath => ("InvalidPath", vec![]),
        E::TooManySymlinks => ("TooManySymlinks", vec![]),
        E::IntoItself => ("IntoItself", vec![]),
        E::CrossMount => ("CrossMount", vec![]),
        E::ReadOnlyMount { mount } => ("ReadOnlyMount", vec![mount.0.into()]),
        E::IsMountRoot => ("IsMountRoot", vec![]),
        E::NoSuchMount => ("NoSuchMount", vec![]),
        E::IsRoot => ("IsRoot", vec![]),
        E::LinkDirectory => ("LinkDirectory", vec![]),
        E::TooManyLinks => ("TooManyLinks", vec![]),
        E::FileTooLarge => ("FileTooLarge", vec![]),
        E::InvalidPolicy => ("InvalidPolicy", vec![]),
        E::InvalidTarget => ("InvalidTarget", vec![]),
        E::InvalidRequest => ("InvalidRequest", vec![]),
        E::TailOpen { chunk } => ("TailOpen", vec![chunk.0]),
        E::LengthMismatch { expected, actual } => ("LengthMismatch", vec![*expected, *actual]),
        E::VersionMismatch { expected, actual } => ("VersionMismatch", vec![*expected, *actual]),
        E::Fenced { generation, last_sequence } => ("Fenced", vec![generation.0, last_sequence.0]),
        E::ChunkGone { chunk } => ("ChunkGone", vec![chunk.0]),
        E::ChunkState { chunk } => ("ChunkState", vec![chunk.0]),
        E::SessionExpired => ("SessionExpired", vec![]),
        E::TooManyReplies => ("TooManyReplies", vec![]),
        E::StaleSequence { sequence } => ("StaleSequence", vec![sequence.0]),
        E::Stale => ("Stale", vec![]),
        E::TooLarge => ("TooLarge", vec![]),
        E::TooManyWriters => ("TooManyWriters", vec![]),
        E::Importing { intent } => ("Importing", vec![intent.0]),
        E::NotSupported => ("NotSupported", vec![]),
        E::Damaged => ("Damaged", vec![]),
        E::NoSpace => ("NoSpace", vec![]),
        E::TooFewNodes { available, needed } => {
            ("TooFewNodes", vec![u64::from(*available), u64::from(*needed)])
        }
        E::LagBound { lag_bytes, bound_bytes } => ("LagBound", vec![*lag_bytes, *bound_bytes]),
        E::NodeRemoved { node } => ("NodeRemoved", vec![node.0]),
        E::NoSuchAttribute => ("NoSuchAttribute", vec![]),
        E::AttributeTooLarge => ("AttributeTooLarge", vec![]),
        E::TooManyAttributes => ("TooManyAttributes", vec![]),
        E::NotPermitted => ("NotPermitted", vec![]),
        E::PermissionDenied => ("PermissionDenied", vec![]),
        E::PreconditionFailed { index, found } => {
            let found = found.map_or([0; 4], |f| [1, f.ino.0, f.version, f.length]);
            ("PreconditionFailed", [&[u64::from(*index)], found.as_slice()].concat())
        }
        E::PreconditionRefused { index, why } => ("PreconditionRefused", part_of(*index, why)),
        E::OperationRefused { index, why } => ("OperationRefused", part_of(*index, why)),
        E::Compacted { oldest } => ("Compacted", vec![oldest.0]),
        E::Locked { session, owner } => ("Locked", vec![session.0, *owner]),
        E::Deadlock => ("Deadlock", vec![]),
        E::TooManyLocks => ("TooManyLocks", vec![]),
        E::Loading => ("Loading", vec![]),
        E::KeyTooLong => ("KeyTooLong", vec![]),
        E::KeyNotText => ("KeyNotText", vec![]),
        E::ReservedName => ("ReservedName", vec![]),
        E::MountPending { pending } => ("MountPending", vec![*pending]),
        E::MountOverlap { mount } => ("MountOverlap", vec![mount.0.into()]),
        E::KeyBusy => ("KeyBusy", vec![]),
    }
}

/// The fields of a refusal that tells of another one: which part met it, that one's number, and its
/// own fields.
fn part_of(index: u32, why: &FsError) -> Vec<u64> {
    let (kind, fields) = fs_detail(why);
    [&[u64::from(index), fs_kinds::number(kind)], fields.as_slice()].concat()
}

/// Reads [`part_of`] back.
fn parse_part(n: &[u64]) -> Option<(u32, Box<FsError>)> {
    let (index, kind) = (u32::try_from(*n.first()?).ok()?, fs_kinds::kind(*n.get(1)?)?);
    // Transactions do not hold transactions.
    if matches!(kind, "PreconditionRefused" | "OperationRefused") {
        return None;
    }
    Some((index, Box::new(parse_fs(kind, n.get(2..)?)?)))
}

fn parse_fs(kind: &str, n: &[u64]) -> Option<FsError> {
    use FsError as E;
    let at = |i: usize| n.get(i).copied();
    let small = |i: usize| at(i).and_then(|v| u8::try_from(v).ok());
    Some(match kind {
        "NotFound" => E::NotFound,
        "Exists" => E::Exists,
        "NotDirectory" => E::NotDirectory,
        "IsDirectory" => E::IsDirectory,
        "NotFile" => E::NotFile,
        "NotSymlink" => E::NotSymlink,
        "NotEmpty" => E::NotEmpty,
        "NameTooLong" => E::NameTooLong,
        "InvalidName" => E::InvalidName,
        "InvalidPath" => E::InvalidPath,
        "TooManySymlinks" => E::TooManySymlinks,
        "IntoItself" => E::IntoItself,
        "CrossMount" => E::CrossMount,
        "ReadOnlyMount" => E::ReadOnlyMount { mount: MountId(u32::try_from(at(0)?).ok()?) },
        "IsMountRoot" => E::IsMountRoot,
        "NoSuchMount" => E::NoSuchMount,
        "IsRoot" => E::IsRoot,
        "LinkDirectory" => E::LinkDirectory,
        "TooManyLinks" => E::TooManyLinks,
        "FileTooLarge" => E::FileTooLarge,
        "InvalidPolicy" => E::InvalidPolicy,
        "InvalidTarget" => E::InvalidTarget,
        "InvalidRequest" => E::InvalidRequest,
        "TailOpen" => E::TailOpen { chunk: ChunkId(at(0)?) },
        "LengthMismatch" => E::LengthMismatch { expected: at(0)?, actual: at(1)? },
        "VersionMismatch" => E::VersionMismatch { expected: at(0)?, actual: at(1)? },
        "Fenced" => E::Fenced { generation: Generation(at(0)?), last_sequence: Sequence(at(1)?) },
        "ChunkGone" => E::ChunkGone { chunk: ChunkId(at(0)?) },
        "ChunkState" => E::ChunkState { chunk: ChunkId(at(0)?) },
        "SessionExpired" => E::SessionExpired,
        "TooManyReplies" => E::TooManyReplies,
        "StaleSequence" => E::StaleSequence { sequence: Sequence(at(0)?) },
        "Stale" => E::Stale,
        "TooLarge" => E::TooLarge,
        "TooManyWriters" => E::TooManyWriters,
        "Importing" => E::Importing { intent: IntentId(at(0)?) },
        "NotSupported" => E::NotSupported,
        "Damaged" => E::Damaged,
        "NoSpace" => E::NoSpace,
        "TooFewNodes" => E::TooFewNodes { available: small(0)?, needed: small(1)? },
        "LagBound" => E::LagBound { lag_bytes: at(0)?, bound_bytes: at(1)? },
        "NodeRemoved" => E::NodeRemoved { node: NodeId(at(0)?) },
        "NoSuchAttribute" => E::NoSuchAttribute,
        "AttributeTooLarge" => E::AttributeTooLarge,
        "TooManyAttributes" => E::TooManyAttributes,
        "NotPermitted" => E::NotPermitted,
        "PermissionDenied" => E::PermissionDenied,
        "PreconditionFailed" => {
            let found = FoundInode { ino: InodeId(at(2)?), version: at(3)?, length: at(4)? };
            let index = u32::try_from(at(0)?).ok()?;
            E::PreconditionFailed { index, found: (at(1)? == 1).then_some(found) }
        }
        "PreconditionRefused" => {
            let (index, why) = parse_part(n)?;
            E::PreconditionRefused { index, why }
        }
        "OperationRefused" => {
            let (index, why) = parse_part(n)?;
            E::OperationRefused { index, why }
        }
        "Compacted" => E::Compacted { oldest: LogIndex(at(0)?) },
        "Locked" => E::Locked { session: SessionId(at(0)?), owner: at(1)? },
        "Deadlock" => E::Deadlock,
        "TooManyLocks" => E::TooManyLocks,
        "Loading" => E::Loading,
        "KeyTooLong" => E::KeyTooLong,
        "KeyNotText" => E::KeyNotText,
        "ReservedName" => E::ReservedName,
        "MountPending" => E::MountPending { pending: at(0)? },
        "MountOverlap" => E::MountOverlap { mount: MountId(u32::try_from(at(0)?).ok()?) },
        "KeyBusy" => E::KeyBusy,
        _ => return None,
    })
}

/// The gRPC code, name and fields of each service error.
fn service_detail(error: &ServiceError) -> (Code, &'static str, Vec<u64>) {
    use ServiceError as E;
    match error {
        E::NotLeader { .. } => (Code::Unavailable, "NotLeader", vec![]),
        E::Deadline => (Code::DeadlineExceeded, "Deadline", vec![]),
        // The code that a broken connection has too: a peer that does not know the kind asks again.
        E::AnswerLost => (Code::Unknown, "AnswerLost", vec![]),
        E::Overloaded => (Code::ResourceExhausted, "Overloaded", vec![]),
        E::Stopping => (Code::Unavailable, "Stopping", vec![]),
        E::ForeignCluster => (Code::FailedPrecondition, "ForeignCluster", vec![]),
        E::ForeignProtocol { theirs, ours } => {
            (Code::FailedPrecondition, "ForeignProtocol", vec![u64::from(*theirs), u64::from(*ours)])
        }
        E::Malformed { .. } => (Code::InvalidArgument, "Malformed", vec![]),
        E::NoSuchChunk { chunk } => (Code::NotFound, "NoSuchChunk", vec![chunk.0]),
        E::ChunkFenced { chunk } => (Code::FailedPrecondition, "ChunkFenced", vec![chunk.0]),
        E::ChunkFull { chunk } => (Code::FailedPrecondition, "ChunkFull", vec![chunk.0]),
        E::NotPrimary { chunk } => (Code::FailedPrecondition, "NotPrimary", vec![chunk.0]),
        E::SequenceGap { expected } => (Code::FailedPrecondition, "SequenceGap", vec![expected.0]),
        E::Corrupt { chunk } => (Code::DataLoss, "Corrupt", vec![chunk.0]),
        E::ChecksumMismatch => (Code::DataLoss, "ChecksumMismatch", vec![]),
        E::NotUndecided { chunk } => (Code::FailedPrecondition, "NotUndecided", vec![chunk.0]),
        E::Decidable { chunk } => (Code::FailedPrecondition, "Decidable", vec![chunk.0]),
        E::LossDiffers { chunk, length } => (Code::Aborted, "LossDiffers", vec![chunk.0, *length]),
        E::NothingLeft { chunk } => (Code::FailedPrecondition, "NothingLeft", vec![chunk.0]),
        E::Diverged { chunk, length } => (Code::DataLoss, "Diverged", vec![chunk.0, *length]),
        E::TooFewLeft { node, left, needed } => {
            (Code::FailedPrecondition, "TooFewLeft", vec![node.0, *left, *needed])
        }
        E::NodeAlive { node } => (Code::FailedPrecondition, "NodeAlive", vec![node.0]),
        E::NoSuchNode { node } => (Code::NotFound, "NoSuchNode", vec![node.0]),
        E::TooManyWatches { most } => (Code::ResourceExhausted, "TooManyWatches", vec![*most]),
        E::WatcherTooSlow => (Code::ResourceExhausted, "WatcherTooSlow", vec![]),
        E::MemberIdUsed { node } => (Code::FailedPrecondition, "MemberIdUsed", vec![node.0]),
        E::NoSuchMember { node } => (Code::NotFound, "NoSuchMember", vec![node.0]),
        E::MemberUnreachable { node } => (Code::FailedPrecondition, "MemberUnreachable", vec![node.0]),
        E::NotWaiting { node } => (Code::FailedPrecondition, "NotWaiting", vec![node.0]),
        E::MemberBehind { node, lag } => (Code::FailedPrecondition, "MemberBehind", vec![node.0, *lag]),
        E::NoLiveMajority { live, voters } => {
            (Code::FailedPrecondition, "NoLiveMajority", vec![*live, *voters])
        }
        E::NeedsLevel { needs, level } => {
            (Code::FailedPrecondition, "NeedsLevel", vec![u64::from(*needs), u64::from(*level)])
        }
        E::MemberLevel { node, highest, level } => {
            (Code::FailedPrecondition, "MemberLevel", vec![node.0, u64::from(*highest), u64::from(*level)])
        }
        E::UnderStore => (Code::Unavailable, "UnderStore", vec![]),
        E::ObjectChanged => (Code::Aborted, "ObjectChanged", vec![]),
        E::DiskRetired => (Code::Unavailable, "DiskRetired", vec![]),
        E::DiskFull { node, free_bytes, capacity_bytes } => {
            (Code::ResourceExhausted, "DiskFull", vec![node.0, *free_bytes, *capacity_bytes])
        }
        E::Internal => (Code::Internal, "Internal", vec![]),
    }
}

fn parse_service(detail: &ErrorDetail, message: &str) -> Option<ServiceError> {
    use ServiceError as E;
    let at = |i: usize| detail.numbers.get(i).copied();
    let chunk = || at(0).map(ChunkId);
    Some(match detail.kind.as_str() {
        "NotLeader" => E::NotLeader { leader_address: detail.leader_address.clone() },
        "Deadline" => E::Deadline,
        "AnswerLost" => E::AnswerLost,
        "Overloaded" => E::Overloaded,
        "Stopping" => E::Stopping,
        "ForeignCluster" => E::ForeignCluster,
        "ForeignProtocol" => {
            E::ForeignProtocol { theirs: u32::try_from(at(0)?).ok()?, ours: u32::try_from(at(1)?).ok()? }
        }
        "Malformed" => E::Malformed { field: message.rsplit(' ').next().unwrap_or_default().to_owned() },
        "NoSuchChunk" => E::NoSuchChunk { chunk: chunk()? },
        "ChunkFenced" => E::ChunkFenced { chunk: chunk()? },
        "ChunkFull" => E::ChunkFull { chunk: chunk()? },
        "NotPrimary" => E::NotPrimary { chunk: chunk()? },
        "SequenceGap" => E::SequenceGap { expected: Sequence(at(0)?) },
        "Corrupt" => E::Corrupt { chunk: chunk()? },
        "ChecksumMismatch" => E::ChecksumMismatch,
        "NotUndecided" => E::NotUndecided { chunk: chunk()? },
        "Decidable" => E::Decidable { chunk: chunk()? },
        "LossDiffers" => E::LossDiffers { chunk: chunk()?, length: at(1)? },
        "NothingLeft" => E::NothingLeft { chunk: chunk()? },
        "Diverged" => E::Diverged { chunk: chunk()?, length: at(1)? },
        "TooFewLeft" => E::TooFewLeft { node: NodeId(at(0)?), left: at(1)?, needed: at(2)? },
        "NodeAlive" => E::NodeAlive { node: NodeId(at(0)?) },
        "NoSuchNode" => E::NoSuchNode { node: NodeId(at(0)?) },
        "TooManyWatches" => E::TooManyWatches { most: at(0)? },
        "WatcherTooSlow" => E::WatcherTooSlow,
        "MemberIdUsed" => E::MemberIdUsed { node: NodeId(at(0)?) },
        "NoSuchMember" => E::NoSuchMember { node: NodeId(at(0)?) },
        "MemberUnreachable" => E::MemberUnreachable { node: NodeId(at(0)?) },
        "NotWaiting" => E::NotWaiting { node: NodeId(at(0)?) },
        "MemberBehind" => E::MemberBehind { node: NodeId(at(0)?), lag: at(1)? },
        "NoLiveMajority" => E::NoLiveMajority { live: at(0)?, voters: at(1)? },
        "NeedsLevel" => {
            E::NeedsLevel { needs: u32::try_from(at(0)?).ok()?, level: u32::try_from(at(1)?).ok()? }
        }
        "MemberLevel" => {
            let (highest, level) = (u32::try_from(at(1)?).ok()?, u32::try_from(at(2)?).ok()?);
            E::MemberLevel { node: NodeId(at(0)?), highest, level }
        }
        "UnderStore" => E::UnderStore,
        "ObjectChanged" => E::ObjectChanged,
        "DiskRetired" => E::DiskRetired,
        "DiskFull" => {
            // Older builds told no figures.
            let told = |i: usize| at(i).unwrap_or(0);
            E::DiskFull { node: NodeId(told(0)), free_bytes: told(1), capacity_bytes: told(2) }
        }
        "Internal" => E::Internal,
        _ => return None,
    })
}

/// The typed detail of a namespace error.
#[must_use]
pub fn fs_error_detail(error: &FsError) -> ErrorDetail {
    let (kind, numbers) = fs_detail(error);
    ErrorDetail { kind: kind.to_owned(), numbers, errno: error.errno(), leader_address: String::new() }
}

/// The typed detail of a service error.
#[must_use]
pub fn service_error_detail(error: &ServiceError) -> ErrorDetail {
    let (_, kind, numbers) = service_detail(error);
    let leader_address = match error {
        ServiceError::NotLeader { leader_address } => leader_address.clone(),
        _ => String::new(),
    };
    ErrorDetail { kind: kind.to_owned(), numbers, errno: 0, leader_address }
}

/// Reads a detail back; `None` for a kind that this build does not know.
#[must_use]
pub fn parse_detail(detail: &ErrorDetail, message: &str) -> Option<WireError> {
    parse_fs(&detail.kind, &detail.numbers)
        .map(WireError::Fs)
        .or_else(|| parse_service(detail, message).map(WireError::Service))
}

/// A namespace error as a gRPC status.
#[must_use]
pub fn fs_status(error: &FsError) -> Status {
    let detail = fs_error_detail(error).encode_to_vec();
    Status::with_details(fs_code(error), error.to_string(), detail.into())
}

impl From<ServiceError> for Status {
    fn from(error: ServiceError) -> Self {
        let (code, _, _) = service_detail(&error);
        let detail = service_error_detail(&error).encode_to_vec();
        Status::with_details(code, error.to_string(), detail.into())
    }
}

impl From<Status> for WireError {
    fn from(status: Status) -> Self {
        ErrorDetail::decode(status.details())
            .ok()
            .filter(|detail| !detail.kind.is_empty())
            .and_then(|detail| parse_detail(&detail, status.message()))
            .unwrap_or_else(|| Self::Transport { code: status.code(), message: status.message().to_owned() })
    }
}

impl From<WireError> for Status {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Fs(e) => fs_status(&e),
            WireError::Service(e) => e.into(),
            WireError::Transport { code, message } => Status::new(code, message),
        }
    }
}

impl From<Status> for MutateRefusal {
    fn from(status: Status) -> Self {
        Self {
            code: status.code() as i32,
            message: status.message().to_owned(),
            detail: status.details().to_vec().into(),
        }
    }
}

impl From<MutateRefusal> for Status {
    fn from(refusal: MutateRefusal) -> Self {
        Self::with_details(Code::from_i32(refusal.code), refusal.message, refusal.detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_namespace_error_survives_the_wire_alone_and_as_a_part_of_a_transaction() {
        let samples = FsError::samples();
        for (number, error) in samples.iter().enumerate() {
            assert_eq!(fs_kinds::number(fs_detail(error).0), number as u64, "{error:?}");
            assert_eq!(WireError::from(fs_status(error)), WireError::Fs(error.clone()));
            if !std::ptr::eq(error.reason(), error) {
                continue;
            }
            let part = FsError::OperationRefused { index: 255, why: Box::new(error.clone()) };
            assert_eq!(WireError::from(fs_status(&part)), WireError::Fs(part.clone()));
            assert_eq!(part.errno(), error.errno());
        }
        assert_eq!(fs_kinds::kind(samples.len() as u64), None);
        let nothing = FsError::PreconditionFailed { index: 3, found: None };
        assert_eq!(WireError::from(fs_status(&nothing)), WireError::Fs(nothing));
    }

    #[test]
    fn a_part_that_holds_a_part_is_no_error_of_ours() {
        let inner = fs_kinds::number("OperationRefused");
        let numbers = vec![0, inner, 1, fs_kinds::number("Exists")];
        assert_eq!(parse_fs("OperationRefused", &numbers), None);
    }

    #[test]
    fn errors_survive_the_wire() {
        let fenced = FsError::Fenced { generation: Generation(4), last_sequence: Sequence(9) };
        assert_eq!(WireError::from(fs_status(&fenced)), WireError::Fs(fenced));
        let removed = FsError::NodeRemoved { node: NodeId(101) };
        assert_eq!(WireError::from(fs_status(&removed)), WireError::Fs(removed));
        let compacted = FsError::Compacted { oldest: LogIndex(300) };
        assert_eq!(WireError::from(fs_status(&compacted)), WireError::Fs(compacted));
        for refused in
            [FsError::Locked { session: SessionId(1), owner: 300 }, FsError::Deadlock, FsError::TooManyLocks]
        {
            assert_eq!(WireError::from(fs_status(&refused)), WireError::Fs(refused));
        }
        let moved = ServiceError::NotLeader { leader_address: "127.0.0.1:1".into() };
        assert_eq!(WireError::from(Status::from(moved.clone())), WireError::Service(moved));
        let lost = ServiceError::AnswerLost;
        assert_eq!(WireError::from(Status::from(lost.clone())), WireError::Service(lost));
        let bad = ServiceError::Malformed { field: "name".into() };
        assert_eq!(WireError::from(Status::from(bad.clone())), WireError::Service(bad));
        let chunk = ChunkId(7);
        for lost in [
            ServiceError::NotUndecided { chunk },
            ServiceError::Decidable { chunk },
            ServiceError::LossDiffers { chunk, length: 9 },
            ServiceError::NothingLeft { chunk },
            ServiceError::Diverged { chunk, length: 9 },
            ServiceError::NodeAlive { node: NodeId(101) },
            ServiceError::TooFewLeft { node: NodeId(101), left: 1, needed: 2 },
            ServiceError::NoSuchNode { node: NodeId(101) },
            ServiceError::TooManyWatches { most: 256 },
            ServiceError::WatcherTooSlow,
            ServiceError::MemberIdUsed { node: NodeId(4) },
            ServiceError::NoSuchMember { node: NodeId(4) },
            ServiceError::MemberUnreachable { node: NodeId(4) },
            ServiceError::NotWaiting { node: NodeId(4) },
            ServiceError::MemberBehind { node: NodeId(4), lag: 9 },
            ServiceError::NeedsLevel { needs: 2, level: 1 },
            ServiceError::MemberLevel { node: NodeId(4), highest: 1, level: 2 },
            ServiceError::NoLiveMajority { live: 1, voters: 2 },
            ServiceError::DiskFull { node: NodeId(101), free_bytes: 9, capacity_bytes: 1 << 40 },
        ] {
            assert_eq!(WireError::from(Status::from(lost.clone())), WireError::Service(lost));
        }
        let untold = ErrorDetail { kind: "DiskFull".to_owned(), ..ErrorDetail::default() };
        let full = ServiceError::DiskFull { node: NodeId(0), free_bytes: 0, capacity_bytes: 0 };
        assert_eq!(parse_detail(&untold, ""), Some(full.into()), "of an older build");
        let foreign = WireError::from(Status::internal("x"));
        assert!(matches!(foreign, WireError::Transport { code: Code::Internal, .. }));
    }
}
