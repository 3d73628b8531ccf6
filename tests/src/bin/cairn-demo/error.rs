//! [`DemoError`].

use std::path::Path;

use aws_sdk_s3::error::DisplayErrorContext;
use cairn_tests::cluster::ClusterError;
use cairn_tests::s3_server::S3ServerError;

/// Why the demo ended early.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// What was asked for cannot be shown.
    #[error("{0}")]
    Usage(String),
    /// A cluster's server, or the wait for one.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The S3 server.
    #[error(transparent)]
    S3Server(#[from] S3ServerError),
    /// A call of the SDK failed: the demo expects none to, whatever is killed.
    #[error(transparent)]
    Sdk(#[from] cairn_sdk::Error),
    /// Something on this machine.
    #[error("{action} {subject}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        subject: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A request of our own to the S3 server.
    #[error("{action}: {message}")]
    S3 {
        /// What was tried.
        action: &'static str,
        /// What the SDK said.
        message: String,
    },
    /// What came back is not what was written.
    #[error("MISMATCH: {0}")]
    Mismatch(String),
    /// Something did not happen in time.
    #[error("waited {seconds} s for {what}")]
    Late {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
    },
    /// A task of the demo panicked.
    #[error("a task of the demo failed: {0}")]
    Task(#[from] tokio::task::JoinError),
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

impl DemoError {
    /// A failure on this machine.
    pub fn io(action: &'static str, subject: impl AsRef<Path>, source: std::io::Error) -> Self {
        Self::Io { action, subject: subject.as_ref().display().to_string(), source }
    }

    /// A failed request of our own to the S3 server.
    pub fn s3(action: &'static str, error: impl std::error::Error) -> Self {
        Self::S3 { action, message: DisplayErrorContext(error).to_string() }
    }

    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Mismatch(_) => 4,
            _ => 1,
        }
    }
}
