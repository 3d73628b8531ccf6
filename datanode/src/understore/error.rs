//! [`UnderStoreError`]: what can go wrong with an under-store, and what to do about it.

/// The bytes to be uploaded could not be read; the reader knows why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes to upload could not be read")]
pub struct BodyFailed;

/// Why an under-store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnderStoreError {
    /// No answer: connection refused or cut, a timeout, an answer cut off in the middle.
    #[error("the under-store did not answer")]
    Unreachable,
    /// It asks us to slow down (503, 429), or another request holds the key (409).
    #[error("the under-store asks to slow down ({code})")]
    Throttled {
        /// Its own word for it.
        code: String,
    },
    /// Credentials are missing, wrong, expired, or not allowed to do this.
    #[error("the under-store refused the credentials ({code})")]
    Denied {
        /// Its own word for it, e.g. `InvalidAccessKeyId`, `RequestTimeTooSkewed`, `NoCredentials`.
        code: String,
    },
    /// The bucket, or the directory, does not exist.
    #[error("there is no bucket {bucket}")]
    NoSuchBucket {
        /// Its name.
        bucket: String,
    },
    /// The object does not exist.
    #[error("there is no object {key}")]
    NoSuchKey {
        /// Its key.
        key: String,
    },
    /// The object is no longer the one that was named.
    #[error("the object {key} is not the one that was named")]
    PreconditionFailed {
        /// Its key.
        key: String,
    },
    /// The answer contradicts itself or the request: wrong range, size or checksum.
    #[error("the under-store's answer for {key} is corrupt")]
    Corrupt {
        /// The key.
        key: String,
    },
    /// The store cannot keep an object by that key.
    #[error("the under-store cannot keep an object by the key {key}")]
    InvalidKey {
        /// The key.
        key: String,
    },
    /// The bytes to be uploaded could not be read, or are not what was announced.
    #[error(transparent)]
    Body(#[from] BodyFailed),
    /// The disk of a local under-store is full.
    #[error("the under-store's disk is full")]
    Full,
    /// Anything else.
    #[error("the under-store answered {code} (status {status})")]
    Other {
        /// Its own word for it.
        code: String,
        /// The HTTP status, 0 when there was none.
        status: u16,
    },
}

impl UnderStoreError {
    /// True when the same request may succeed a moment later without anyone's doing. Otherwise
    /// it fails until someone acts (credentials, bucket, disk), or for ever.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::Unreachable | Self::Throttled { .. } | Self::Corrupt { .. } => true,
            Self::Other { status, .. } => *status >= 500,
            Self::Denied { .. }
            | Self::NoSuchBucket { .. }
            | Self::NoSuchKey { .. }
            | Self::PreconditionFailed { .. }
            | Self::InvalidKey { .. }
            | Self::Body(_)
            | Self::Full => false,
        }
    }

    /// A stable word for metrics.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Throttled { .. } => "throttled",
            Self::Denied { .. } => "denied",
            Self::NoSuchBucket { .. } => "no_such_bucket",
            Self::NoSuchKey { .. } => "no_such_key",
            Self::PreconditionFailed { .. } => "precondition_failed",
            Self::Corrupt { .. } => "corrupt",
            Self::InvalidKey { .. } => "invalid_key",
            Self::Body(_) => "body",
            Self::Full => "full",
            Self::Other { .. } => "other",
        }
    }
}
