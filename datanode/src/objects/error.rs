//! [`ObjectError`]: why an object of a mounted bucket was not written or deleted.

use crate::understore::{SourceVersion, UnderStoreError};
use crate::upload::ReadFailed;

/// Why an object of a mounted bucket was not written or deleted. What was there is still there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// The work's fields contradict each other or lie out of their ranges.
    #[error("the work is malformed: field {field}")]
    Malformed {
        /// The field.
        field: &'static str,
    },
    /// The endpoint does not do this under a condition.
    #[error(
        "the endpoint of {store} cannot {what}: others' changes could be overwritten; if nobody else writes there, say so (--sole-writer)"
    )]
    Unable {
        /// The store.
        store: String,
        /// What it cannot do.
        what: &'static str,
    },
    /// S3 cannot put together an object with so much to send.
    #[error("the object has more bytes to be sent than 10,000 parts of 64 MiB hold")]
    TooManyParts,
    /// An object that bytes come from is another version, or gone.
    #[error("the object {} changed while it was copied", source_version.key)]
    SourceChanged {
        /// The version that was named.
        source_version: SourceVersion,
    },
    /// Bytes of a chunk could not be read.
    #[error(transparent)]
    Read(#[from] ReadFailed),
    /// What is there is not what was sent.
    #[error("the object {key} is not in the bucket as it was sent")]
    NotVerified {
        /// Its key.
        key: String,
    },
    /// S3 failed.
    #[error(transparent)]
    Store(#[from] UnderStoreError),
}

impl ObjectError {
    /// True when asking again cannot help until someone acts.
    #[must_use]
    pub fn permanent(&self) -> bool {
        match self {
            Self::Malformed { .. } | Self::Unable { .. } | Self::TooManyParts => true,
            Self::Store(UnderStoreError::InvalidKey { .. }) => true,
            // What is wrong with this one object: its metadata too large, its storage class unknown.
            Self::Store(UnderStoreError::Other { status, code }) => {
                (400..500).contains(status) && code != "NoSuchUpload"
            }
            // Credentials, buckets and versions change without the file's changing.
            Self::Store(_) | Self::SourceChanged { .. } | Self::Read(_) | Self::NotVerified { .. } => false,
        }
    }
}
