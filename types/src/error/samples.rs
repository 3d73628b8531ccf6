//! One of each [`FsError`], for tests and tables that must cover them all.

use super::{FoundInode, FsError};
use crate::{ChunkId, Generation, InodeId, IntentId, LogIndex, MountId, NodeId, Sequence, SessionId};

impl FsError {
    /// One of each, in the order of the numbers that they have in stored replies. The values of the
    /// fields are any, but stay as they are: their bytes are pinned in the metadata's golden file.
    #[must_use]
    pub fn samples() -> Vec<Self> {
        std::iter::successors(Some(Self::NotFound), Self::next_sample).collect()
    }

    /// The sample that follows this one's: a new variant does not compile without an arm here.
    fn next_sample(&self) -> Option<Self> {
        use FsError as E;
        Some(match self {
            E::NotFound => E::Exists,
            E::Exists => E::NotDirectory,
            E::NotDirectory => E::IsDirectory,
            E::IsDirectory => E::NotFile,
            E::NotFile => E::NotSymlink,
            E::NotSymlink => E::NotEmpty,
            E::NotEmpty => E::NameTooLong,
            E::NameTooLong => E::InvalidName,
            E::InvalidName => E::InvalidPath,
            E::InvalidPath => E::TooManySymlinks,
            E::TooManySymlinks => E::IntoItself,
            E::IntoItself => E::CrossMount,
            E::CrossMount => E::ReadOnlyMount { mount: MountId(2) },
            E::ReadOnlyMount { .. } => E::IsMountRoot,
            E::IsMountRoot => E::NoSuchMount,
            E::NoSuchMount => E::IsRoot,
            E::IsRoot => E::LinkDirectory,
            E::LinkDirectory => E::TooManyLinks,
            E::TooManyLinks => E::FileTooLarge,
            E::FileTooLarge => E::InvalidPolicy,
            E::InvalidPolicy => E::InvalidTarget,
            E::InvalidTarget => E::InvalidRequest,
            E::InvalidRequest => E::TailOpen { chunk: ChunkId(9) },
            E::TailOpen { .. } => E::LengthMismatch { expected: 1, actual: 300 },
            E::LengthMismatch { .. } => E::VersionMismatch { expected: 1, actual: 2 },
            E::VersionMismatch { .. } => E::Fenced { generation: Generation(1), last_sequence: Sequence(2) },
            E::Fenced { .. } => E::ChunkGone { chunk: ChunkId(9) },
            E::ChunkGone { .. } => E::ChunkState { chunk: ChunkId(9) },
            E::ChunkState { .. } => E::SessionExpired,
            E::SessionExpired => E::TooManyReplies,
            E::TooManyReplies => E::StaleSequence { sequence: Sequence(4) },
            E::StaleSequence { .. } => E::Stale,
            E::Stale => E::TooLarge,
            E::TooLarge => E::TooManyWriters,
            E::TooManyWriters => E::Importing { intent: IntentId(3) },
            E::Importing { .. } => E::NotSupported,
            E::NotSupported => E::Damaged,
            E::Damaged => E::NoSpace,
            E::NoSpace => E::TooFewNodes { available: 1, needed: 2 },
            E::TooFewNodes { .. } => E::LagBound { lag_bytes: 1, bound_bytes: 2 },
            E::LagBound { .. } => E::NodeRemoved { node: NodeId(101) },
            E::NodeRemoved { .. } => E::NoSuchAttribute,
            E::NoSuchAttribute => E::AttributeTooLarge,
            E::AttributeTooLarge => E::TooManyAttributes,
            E::TooManyAttributes => E::NotPermitted,
            E::NotPermitted => E::PermissionDenied,
            E::PermissionDenied => {
                let found = FoundInode { ino: InodeId(7), version: 2, length: 300 };
                E::PreconditionFailed { index: 1, found: Some(found) }
            }
            E::PreconditionFailed { .. } => {
                E::PreconditionRefused { index: 1, why: Box::new(E::TailOpen { chunk: ChunkId(9) }) }
            }
            E::PreconditionRefused { .. } => E::OperationRefused { index: 2, why: Box::new(E::Exists) },
            E::OperationRefused { .. } => E::Compacted { oldest: LogIndex(300) },
            E::Compacted { .. } => E::Locked { session: SessionId(1), owner: 300 },
            E::Locked { .. } => E::Deadlock,
            E::Deadlock => E::TooManyLocks,
            E::TooManyLocks => E::Loading,
            E::Loading => E::KeyTooLong,
            E::KeyTooLong => E::KeyNotText,
            E::KeyNotText => E::ReservedName,
            E::ReservedName => E::MountPending { pending: 300 },
            E::MountPending { .. } => E::MountOverlap { mount: MountId(2) },
            E::MountOverlap { .. } => E::KeyBusy,
            E::KeyBusy => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{self, CodecError};

    const FORMAT: u8 = 1;

    #[test]
    fn the_samples_are_all_there_are_in_their_order() {
        let samples = FsError::samples();
        // A format byte, then the variant's number in one byte, as long as there are fewer than 251.
        let numbers: Vec<u8> = samples.iter().map(|error| codec::encode(FORMAT, error)[1]).collect();
        assert!(numbers.iter().copied().eq(0..numbers.len() as u8), "{numbers:?}");
        // The number after the last is no error's: one that is would be read, and bytes left over.
        let beyond = [[FORMAT, numbers.len() as u8].as_slice(), &[0; 16]].concat();
        assert_eq!(codec::decode::<FsError>(FORMAT, &beyond), Err(CodecError::Damaged));
    }
}
