//! [`UploadError`]: why a pack was not written, and whether it is worth trying again.

use cairn_types::ChunkId;

use super::ReadFailed;
use crate::understore::UnderStoreError;

/// Why an upload or a deletion of a pack failed. Nothing is evicted because of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UploadError {
    /// The work's fields contradict each other or lie out of their ranges.
    #[error("the work is malformed: field {field}")]
    Malformed {
        /// The field.
        field: &'static str,
    },
    /// The replica here is not what shall be uploaded: not sealed, or of another length or chain.
    #[error("{chunk} here is not the sealed one that shall go up")]
    Differs {
        /// The chunk.
        chunk: ChunkId,
    },
    /// A chunk could not be read here.
    #[error(transparent)]
    Read(#[from] ReadFailed),
    /// The under-store failed.
    #[error(transparent)]
    Store(#[from] UnderStoreError),
    /// What was written is not what is there: it was removed again.
    #[error("the pack {key} is not in the under-store as it was written")]
    NotVerified {
        /// Its key.
        key: String,
    },
    /// The under-store replaces objects that exist, whole or in parts: no pack is safe in it.
    #[error("{store} does not refuse to write a key that exists (If-None-Match): nothing is uploaded to it")]
    Unfit {
        /// The store.
        store: String,
    },
    /// Another object has the pack's key.
    #[error("the key {key} holds another object")]
    Conflict {
        /// The key.
        key: String,
    },
}

impl UploadError {
    /// True when no repetition on this node can succeed: the work belongs elsewhere, or to an
    /// operator.
    #[must_use]
    pub fn permanent_here(&self) -> bool {
        match self {
            Self::Malformed { .. }
            | Self::Differs { .. }
            | Self::Read(_)
            | Self::Unfit { .. }
            | Self::Conflict { .. } => true,
            Self::Store(_) | Self::NotVerified { .. } => false,
        }
    }
}
