//! [`ReadError`]: why bytes that lie in S3 were not served.

use cairn_proto::{ServiceError, WireError};
use cairn_types::ChunkId;

use crate::understore::UnderStoreError;

/// Why bytes that lie in S3 were not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// A field of the request is missing or contradicts another.
    #[error("the request is malformed: field {field}")]
    Malformed {
        /// The field.
        field: &'static str,
    },
    /// The object is gone, or another than the one that was named: refresh the file.
    #[error("the object changed in the bucket")]
    ObjectChanged,
    /// The pack is gone or does not hold the chunk.
    #[error("{chunk} is not where it was persisted")]
    Lost {
        /// The chunk.
        chunk: ChunkId,
    },
    /// The bytes in the pack do not match their checksum, asked for several times.
    #[error("the persisted bytes of {chunk} are damaged")]
    Corrupt {
        /// The chunk.
        chunk: ChunkId,
    },
    /// This node has no under-store of its own.
    #[error("this node has no under-store configured")]
    NoUnderStore,
    /// S3 failed.
    #[error(transparent)]
    Store(#[from] UnderStoreError),
    /// More reads from S3 are under way than this node takes on.
    #[error("too many reads from S3 are under way")]
    Overloaded,
    /// S3 took too long.
    #[error("S3 took too long")]
    Deadline,
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

impl From<ReadError> for ServiceError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Malformed { field } => Self::Malformed { field: field.to_owned() },
            ReadError::ObjectChanged => Self::ObjectChanged,
            // It may have moved: the client asks the metadata again.
            ReadError::Lost { chunk } => Self::NoSuchChunk { chunk },
            ReadError::Corrupt { chunk } => Self::Corrupt { chunk },
            ReadError::NoUnderStore | ReadError::Store(_) => Self::UnderStore,
            ReadError::Overloaded => Self::Overloaded,
            ReadError::Deadline => Self::Deadline,
            ReadError::Stopping => Self::Stopping,
        }
    }
}

impl From<ReadError> for WireError {
    fn from(error: ReadError) -> Self {
        Self::Service(error.into())
    }
}

impl From<ReadError> for tonic::Status {
    fn from(error: ReadError) -> Self {
        ServiceError::from(error).into()
    }
}
