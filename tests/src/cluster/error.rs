//! [`ClusterError`].

use std::path::PathBuf;

/// Why the test cluster could not do what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The `cairn` binary is not where it should be.
    #[error("no cairn binary at {path}: run `cargo build --release --workspace`, or name it by CAIRN_BIN")]
    NoBinary {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A file or process operation failed.
    #[error("{action} {subject}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        subject: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// No free ports.
    #[error(transparent)]
    Ports(#[from] crate::s3_server::S3ServerError),
    /// A process ended while it was waited for.
    #[error("{name} ended ({status}); the end of its log:\n{log}")]
    Ended {
        /// Which.
        name: String,
        /// How.
        status: String,
        /// What it said.
        log: String,
    },
    /// A condition did not come true in time.
    #[error("waited {seconds} s for: {condition}")]
    Late {
        /// The condition.
        condition: String,
        /// How long.
        seconds: u64,
    },
    /// A server refused a bare gRPC call.
    #[error("{0}")]
    Rpc(Box<tonic::Status>),
    /// The client could not do it.
    #[error(transparent)]
    Client(#[from] cairn_sdk::Error),
}

impl From<tonic::Status> for ClusterError {
    fn from(status: tonic::Status) -> Self {
        Self::Rpc(Box::new(status))
    }
}
