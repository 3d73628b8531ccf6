//! How the chunk store's refusals look to a peer or a client: the one table.

use cairn_proto::{ServiceError, WireError};
use cairn_types::{ChunkId, FsError, NodeId};

use crate::chunk::{ReadError, StoreError};

/// A change that this `node` refused, as the caller is told.
#[must_use]
pub fn of_change(node: NodeId, error: &StoreError) -> WireError {
    use StoreError as E;
    let service = match error {
        E::UnknownChunk { chunk } => ServiceError::NoSuchChunk { chunk: *chunk },
        E::TooManyWriters { .. } => return FsError::TooManyWriters.into(),
        E::Exists { chunk }
        | E::OtherIncarnation { chunk, .. }
        | E::Fenced { chunk, .. }
        | E::WrongEpoch { chunk, .. }
        | E::WrongOffset { chunk, .. }
        | E::WrongChain { chunk, .. }
        | E::SequenceGap { chunk, .. }
        | E::Restarted { chunk }
        | E::Closed { chunk }
        | E::NotFenced { chunk }
        | E::Sealed { chunk, .. }
        | E::NotSealed { chunk } => ServiceError::ChunkFenced { chunk: *chunk },
        E::Damaged { chunk } => ServiceError::Corrupt { chunk: *chunk },
        E::BadRecord { .. } => ServiceError::ChecksumMismatch,
        E::DiskFull { pinned_bytes, usable_bytes } => ServiceError::DiskFull {
            node,
            free_bytes: usable_bytes.saturating_sub(*pinned_bytes),
            capacity_bytes: *usable_bytes,
        },
        E::Retired(_) => ServiceError::DiskRetired,
        E::Busy => ServiceError::Overloaded,
        E::Stopped => ServiceError::Stopping,
    };
    service.into()
}

/// A refused read, as the caller is told.
#[must_use]
pub fn of_read(error: &ReadError, chunk: ChunkId) -> WireError {
    let service = match error {
        ReadError::UnknownChunk { chunk } => ServiceError::NoSuchChunk { chunk: *chunk },
        // The reader knows more than this node: another one has it.
        ReadError::NotVisible { chunk, .. } => ServiceError::NoSuchChunk { chunk: *chunk },
        ReadError::Damaged { chunk, .. } => ServiceError::Corrupt { chunk: *chunk },
        ReadError::Io { .. } => ServiceError::Corrupt { chunk },
    };
    service.into()
}
