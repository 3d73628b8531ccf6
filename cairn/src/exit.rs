//! [`CliError`] and the one table of exit codes.

use std::fmt;
use std::process::ExitCode;

use cairn_sdk::types::FsError;
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
    /// A path or name that the namespace refuses, found out before it was asked.
    #[error("{path}: {refused}")]
    Path {
        /// As it was given.
        path: String,
        /// Why.
        refused: FsError,
    },
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// A server did not start, or stopped with an error.
    #[error("the {role} did not start, or stopped")]
    Server {
        /// Which.
        role: &'static str,
        /// The exit code: whether starting it again may help.
        code: u8,
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
    /// What there is no way back from was shown, and not accepted.
    #[error("nothing is changed: to accept this loss, say {flags}")]
    Unconfirmed {
        /// The flags that accept it.
        flags: String,
    },
    /// A node that was waited for is to stay: somebody undid its drain.
    #[error("{node} is not drained: it was undrained meanwhile")]
    NotDrained {
        /// The node.
        node: cairn_sdk::types::NodeId,
    },
    /// Somebody else holds the lock, and the command line says not to wait.
    #[error("lock {path}: {refused}")]
    NotLocked {
        /// The file.
        path: String,
        /// Who holds it.
        refused: FsError,
    },
    /// The session ended while a command ran that should have held a lock.
    #[error("the lock on {path} was lost while the command ran: the session has expired")]
    LockLost {
        /// The file.
        path: String,
    },
    /// The command that was run ended with this code; it has said why itself.
    #[error("the command ended with code {code}")]
    Command {
        /// The code.
        code: u8,
    },
    /// A metadata server that was added did not catch up in time.
    #[error(
        "{node} is added and does not vote yet: it lacks {lag} entries of the log; `cairn admin raft promote` goes on"
    )]
    CatchUp {
        /// The server.
        node: cairn_sdk::types::NodeId,
        /// Entries that it lacks.
        lag: u64,
    },
    /// A check of the metadata found damage that is there still.
    #[error("{left} findings are left: docs/OPERATIONS.md says what each means")]
    Damage {
        /// How many.
        left: u64,
    },
    /// A mount and its bucket differ, and not only in what is on its way.
    #[error(
        "{differences} differences are not on their way to the bucket: docs/MOUNTS.md says what each means"
    )]
    MountDiffers {
        /// How many.
        differences: u64,
    },
    /// Something that nothing points at is not gone in time.
    #[error("{left} things are left to be collected: the cluster goes on by itself")]
    Uncollected {
        /// How many.
        left: u64,
    },
    /// A file is no dump that can be loaded: nothing is changed.
    #[error("load {file}")]
    Dump {
        /// The file.
        file: String,
        /// Why, and at which line.
        source: cairn_meta::dump::VerifyError,
    },
    /// A dump is not loaded, and nothing is changed.
    #[error("load {file}: {why}: nothing is changed")]
    NotLoaded {
        /// The file.
        file: String,
        /// Why.
        why: &'static str,
    },
    /// A load broke off: clients change nothing until it is gone on with, or discarded.
    #[error(
        "load {file}: it broke off, and clients change nothing: the same command goes on, and `cairn admin load --discard` takes out what was loaded"
    )]
    LoadBroke {
        /// The file.
        file: String,
        /// Why.
        source: Box<CliError>,
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
            Self::Io { .. } | Self::Path { .. } | Self::Partial { .. } | Self::Unconfirmed { .. } => 1,
            Self::Damage { .. } => 4,
            Self::NotLoaded { .. } | Self::NotDrained { .. } | Self::MountDiffers { .. } => 1,
            Self::Dump { source, .. } => match source {
                cairn_meta::dump::VerifyError::Scratch(_) => 3,
                _ => 1,
            },
            Self::LoadBroke { source, .. } => source.code(),
            Self::Usage(_) | Self::Config(_) => 2,
            Self::CatchUp { .. } | Self::Uncollected { .. } => 3,
            Self::Server { code, .. } | Self::Command { code } => *code,
            Self::NotLocked { .. } => 75,
            Self::LockLost { .. } => 3,
            Self::Task(_) => 70,
        }
    }
}

impl From<cairn_meta::ServeError> for CliError {
    fn from(error: cairn_meta::ServeError) -> Self {
        Self::Server { role: "metadata server", code: meta_code(&error), source: Box::new(error) }
    }
}

impl From<cairn_datanode::ServeError> for CliError {
    fn from(error: cairn_datanode::ServeError) -> Self {
        Self::Server { role: "data node", code: data_code(&error), source: Box::new(error) }
    }
}

/// 2 for what the administrator set up, 4 for a disk that failed: the units of deploy/ do not start
/// a server again after these. 1 for what may pass.
fn meta_code(error: &cairn_meta::ServeError) -> u8 {
    use cairn_meta::ServeError as E;
    use cairn_meta::node::StartError;
    use cairn_meta::raft::log_disk::LogError;
    use cairn_meta::raft::met::MetError;
    match error {
        E::Config(_) | E::Listen { .. } => 2,
        // What the system refused this once.
        E::Start(
            StartError::Log(LogError::Disk { .. } | LogError::Mark(_))
            | StartError::Met(MetError::Disk { .. })
            | StartError::State(_)
            | StartError::File(_)
            | StartError::Raft(_),
        ) => 1,
        // The directory is another's, damaged, or lost what it had acknowledged.
        E::Start(_) => 2,
        // What a failed fsync left in memory only would be read as if it were on the disk.
        E::Failed => 4,
        _ => 1,
    }
}

/// As [`meta_code`]; a panic is a bug.
fn data_code(error: &cairn_datanode::ServeError) -> u8 {
    use cairn_datanode::ServeError as E;
    use cairn_datanode::segments::LogError;
    use cairn_datanode::understore::LocationError;
    use cairn_proto::{ServiceError, WireError};
    match error {
        E::Config(_)
        | E::Format(_)
        | E::NoDisk { .. }
        | E::Listen { .. }
        | E::ForeignCluster { .. }
        | E::UnderStore(LocationError::BadUrl { .. })
        | E::Store(
            LogError::Options
            | LogError::ForeignDisk { .. }
            | LogError::NewerFormat { .. }
            | LogError::SegmentSize { .. }
            | LogError::Missing { .. },
        )
        | E::Register(WireError::Service(
            ServiceError::ForeignCluster | ServiceError::ForeignProtocol { .. },
        ))
        | E::Register(WireError::Fs(FsError::NodeRemoved { .. })) => 2,
        E::Panicked(_) => 70,
        _ => 1,
    }
}

/// Says on standard error what failed.
pub fn tell(error: &CliError) {
    eprintln!("cairn: {}", with_sources(error));
}

/// Says on standard error what failed, and gives the exit code.
pub fn report(error: &CliError) -> ExitCode {
    if !matches!(error, CliError::Command { .. }) {
        tell(error);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_is_started_again_only_when_that_may_help() {
        use cairn_datanode::ServeError as Data;
        use cairn_meta::ServeError as Meta;
        let meta = |error: Meta| CliError::from(error).code();
        let data = |error: Data| CliError::from(error).code();
        let taken = || std::io::Error::from(std::io::ErrorKind::AddrInUse);
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        assert_eq!(meta(Meta::Config(cairn_meta::ConfigError::Id)), 2);
        assert_eq!(meta(Meta::Listen { address, source: taken() }), 2);
        assert_eq!(meta(Meta::Start(cairn_meta::node::StartError::File(taken()))), 1);
        let lost = cairn_meta::raft::log_disk::LogError::Lost { synced: 2, found: 1 };
        assert_eq!(meta(Meta::Start(lost.into())), 2);
        assert_eq!(meta(Meta::Failed), 4);
        assert_eq!(data(Data::Config(cairn_datanode::ConfigError::NoMeta)), 2);
        assert_eq!(data(Data::Listen { address, source: taken() }), 2);
        assert_eq!(data(Data::NoDisk { troubles: String::new() }), 2);
        let away = cairn_proto::WireError::Service(cairn_proto::ServiceError::Overloaded);
        assert_eq!(data(Data::Register(away)), 1);
        let removed = FsError::NodeRemoved { node: cairn_sdk::types::NodeId(101) };
        assert_eq!(data(Data::Register(removed.into())), 2);
        let task = tokio::spawn(std::future::pending::<()>());
        task.abort();
        assert_eq!(data(Data::Panicked(task.await.unwrap_err())), 70);
    }
}
