//! [`CliError`] and the one table of exit codes.

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

use cairn_sdk::{Cause, ErrorKind};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The cluster refused, or could not be reached.
    #[error(transparent)]
    Sdk(#[from] cairn_sdk::Error),
    /// Something on this machine failed.
    #[error("{action} {subject}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        subject: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The command line asks for what cannot be.
    #[error("{0}")]
    Usage(String),
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// A server did not start, or stopped with an error.
    #[error("the {role} did not start, or stopped")]
    Server {
        /// Which.
        role: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Some of several things failed; each was reported.
    #[error("{failed} of {total} failed")]
    Partial {
        /// How many failed.
        failed: usize,
        /// Of how many.
        total: usize,
    },
    /// What came back is not what was put there.
    #[error("{path}: what was read differs from what was written")]
    Mismatch {
        /// Where.
        path: PathBuf,
    },
    /// A task of this process ended as it should not.
    #[error("a task of this process failed: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl CliError {
    /// A failure on this machine.
    pub fn io(action: &'static str, subject: impl fmt::Display, source: std::io::Error) -> Self {
        Self::Io { action, subject: subject.to_string(), source }
    }

    /// The exit code: the only such table in the project.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Sdk(error) => match (error.kind(), error.cause()) {
                (_, Cause::Parse { .. } | Cause::OtherCluster { .. }) => 2,
                (ErrorKind::Invalid | ErrorKind::Fenced, _) => 1,
                (ErrorKind::Corrupt, _) => 4,
                (
                    ErrorKind::Retry
                    | ErrorKind::RetryElsewhere
                    | ErrorKind::Unknown
                    | ErrorKind::Unavailable,
                    _,
                ) => 3,
            },
            Self::Io { .. } | Self::Partial { .. } => 1,
            // A server that ends by itself was set up wrongly, or its disk failed: see its message.
            Self::Usage(_) | Self::Config(_) | Self::Server { .. } => 2,
            Self::Mismatch { .. } => 4,
            Self::Task(_) => 70,
        }
    }
}

/// Says on standard error what failed, and gives the exit code.
pub fn report(error: &CliError) -> ExitCode {
    eprintln!("cairn: {}", with_sources(error));
    ExitCode::from(error.code())
}

/// An error and what it came from. A source whose text the error's own ends with is told once.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = cause.source();
    }
    text
}
