//! [`ImportError`]: why a directory could not be imported.

use crate::understore::UnderStoreError;

/// Why a directory could not be imported. No batch was sent, unless it is `Stopped`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// A field of the work is missing or no text.
    #[error("the work is malformed: field {field}")]
    Malformed {
        /// The field.
        field: &'static str,
    },
    /// The directory has more names than fit into memory for sorting.
    #[error("the directory has over {names_max} names or {text_mib} MiB of them: mount a longer prefix")]
    TooManyNames {
        /// The limit of their number.
        names_max: usize,
        /// The limit of their bytes.
        text_mib: usize,
    },
    /// The endpoint's pages go round in a circle.
    #[error("the endpoint's listing does not end")]
    Endless,
    /// S3 failed.
    #[error(transparent)]
    Store(#[from] UnderStoreError),
    /// Nobody takes the batches any more.
    #[error("the import was stopped")]
    Stopped,
}

impl ImportError {
    /// True when asking again cannot help until someone acts: `ImportFailed.permanent`.
    #[must_use]
    pub fn permanent(&self) -> bool {
        match self {
            Self::Malformed { .. } | Self::TooManyNames { .. } => true,
            Self::Store(error) => !error.retryable(),
            Self::Endless | Self::Stopped => false,
        }
    }
}
