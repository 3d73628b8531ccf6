//! [`Error`]: the one public error of the SDK. Its kind says what the caller must do.

use std::fmt;

use cairn_proto::{BadMessage, ServiceError, WireError};
use cairn_types::{FsError, Sequence};
use tonic::{Code, Status};

/// The result of an SDK call.
pub type Result<T> = std::result::Result<T, Error>;

/// What the caller must do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Nothing happened; the same call may succeed later.
    Retry,
    /// Nothing happened here; another server may answer.
    RetryElsewhere,
    /// It may or may not have happened: look before asking again.
    Unknown,
    /// It cannot succeed as it was asked.
    Invalid,
    /// A newer exclusive writer owns the file: stop writing, for ever.
    Fenced,
    /// Stored bytes are damaged and no good copy could be read.
    Corrupt,
    /// Too little of the cluster is alive, or S3 is away; the retries are used up.
    Unavailable,
}

/// Why, in detail.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// The namespace refused.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// A server could not.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The connection failed, or the answer was lost.
    #[error("{message}")]
    Transport {
        /// The gRPC code.
        code: Code,
        /// What the transport said.
        message: String,
    },
    /// No metadata leader answered within the retry budget.
    #[error("no metadata leader answered (asked: {asked}); last: {last}")]
    NoLeader {
        /// The addresses asked.
        asked: String,
        /// The last failure.
        last: String,
    },
    /// The retry budget was used up; `last` is the last failure.
    #[error("gave up after {seconds} s of retries; last: {last}")]
    RetriesUsedUp {
        /// The budget, in seconds.
        seconds: u64,
        /// The last failure.
        last: String,
    },
    /// A path or address does not parse.
    #[error("'{text}' is not a valid {what}")]
    Parse {
        /// What it should have been.
        what: &'static str,
        /// What was given.
        text: String,
    },
    /// The handle failed earlier, and says why again.
    #[error("the handle failed earlier: {0}")]
    Poisoned(String),
    /// Records that this writer had acknowledged are lost: an operator accepted that their chunk
    /// ends before them.
    #[error("acknowledged records are lost, as an operator accepted: {acknowledged} was, {decided} is left")]
    Lost {
        /// The writer's last record that is left.
        decided: Sequence,
        /// Its last record that was acknowledged.
        acknowledged: Sequence,
    },
    /// The handle or the client is closed.
    #[error("it is closed")]
    Closed,
    /// The cluster is not the one that was asked for.
    #[error("the servers belong to cluster {found}, not {expected}")]
    OtherCluster {
        /// The id of the servers' cluster.
        found: String,
        /// The id asked for.
        expected: String,
    },
    /// An answer lacks a field or holds a value out of range.
    #[error("the answer is malformed: field {0}")]
    MalformedAnswer(&'static str),
}

/// An error of the SDK: what was tried, on what, why it failed, and what to do about it.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    action: &'static str,
    subject: String,
    cause: Cause,
}

impl Error {
    pub(crate) fn new(action: &'static str, subject: impl fmt::Display, cause: impl Into<Cause>) -> Self {
        let cause = cause.into();
        Self { kind: cause.kind(), action, subject: subject.to_string(), cause }
    }

    pub(crate) fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// The same, said of something nearer.
    pub(crate) fn about(mut self, subject: impl fmt::Display) -> Self {
        self.subject = subject.to_string();
        self
    }

    /// What the caller must do.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Why, in detail.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// The namespace's refusal, when it was one.
    #[must_use]
    pub fn fs(&self) -> Option<&FsError> {
        match &self.cause {
            Cause::Fs(e) => Some(e),
            _ => None,
        }
    }

    /// The POSIX errno (Linux value) nearest to this error.
    #[must_use]
    pub fn errno(&self) -> i32 {
        const EIO: i32 = 5;
        const ETIMEDOUT: i32 = 110;
        match (&self.cause, self.kind) {
            (Cause::Fs(e), _) => e.errno(),
            (Cause::Service(ServiceError::DiskFull { .. }), _) => FsError::NoSpace.errno(),
            (_, ErrorKind::Unknown | ErrorKind::Unavailable) => ETIMEDOUT,
            _ => EIO,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.subject.is_empty() {
            return write!(f, "{}: {}", self.action, self.cause);
        }
        write!(f, "{} {}: {}", self.action, self.subject, self.cause)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

impl From<Status> for Cause {
    fn from(status: Status) -> Self {
        WireError::from(status).into()
    }
}

impl From<WireError> for Cause {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Fs(e) => Self::Fs(e),
            WireError::Service(e) => Self::Service(e),
            WireError::Transport { code, message } => Self::Transport { code, message },
        }
    }
}

impl From<BadMessage> for Cause {
    fn from(bad: BadMessage) -> Self {
        Self::MalformedAnswer(bad.0)
    }
}

impl Cause {
    /// True when whoever was asked may have done it, or have what was asked for, and did not say.
    pub(crate) fn is_silence(&self) -> bool {
        matches!(self, Self::Transport { .. } | Self::Service(ServiceError::Deadline))
    }

    /// What the caller must do: the only such table in the project. A call may know better: one
    /// that never left this machine is not [`ErrorKind::Unknown`].
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Cause::Fs(e) => match e.reason() {
                FsError::Fenced { .. } => ErrorKind::Fenced,
                FsError::SessionExpired | FsError::StaleSequence { .. } => ErrorKind::Unknown,
                FsError::Importing { .. }
                | FsError::TailOpen { .. }
                | FsError::ChunkState { .. }
                | FsError::KeyBusy
                | FsError::Locked { .. }
                | FsError::TooManyReplies => ErrorKind::Retry,
                FsError::TooFewNodes { .. }
                | FsError::LagBound { .. }
                | FsError::NoSpace
                | FsError::Loading => ErrorKind::Unavailable,
                FsError::Damaged => ErrorKind::Corrupt,
                _ => ErrorKind::Invalid,
            },
            Cause::Service(e) => match e {
                ServiceError::NotLeader { .. }
                | ServiceError::NoSuchChunk { .. }
                | ServiceError::NotPrimary { .. }
                | ServiceError::DiskRetired
                | ServiceError::DiskFull { .. }
                | ServiceError::Stopping => ErrorKind::RetryElsewhere,
                ServiceError::Deadline | ServiceError::AnswerLost | ServiceError::Internal => {
                    ErrorKind::Unknown
                }
                ServiceError::Overloaded
                | ServiceError::ChunkFenced { .. }
                | ServiceError::ChunkFull { .. }
                | ServiceError::SequenceGap { .. }
                | ServiceError::ObjectChanged
                | ServiceError::TooManyWatches { .. }
                | ServiceError::WatcherTooSlow
                | ServiceError::ChecksumMismatch => ErrorKind::Retry,
                ServiceError::ForeignCluster
                | ServiceError::ForeignProtocol { .. }
                | ServiceError::Malformed { .. }
                | ServiceError::NotUndecided { .. }
                | ServiceError::Decidable { .. }
                | ServiceError::LossDiffers { .. }
                | ServiceError::NothingLeft { .. }
                | ServiceError::NodeAlive { .. }
                | ServiceError::TooFewLeft { .. }
                | ServiceError::NoSuchNode { .. }
                | ServiceError::MemberIdUsed { .. }
                | ServiceError::NoSuchMember { .. }
                | ServiceError::MemberUnreachable { .. }
                | ServiceError::NotWaiting { .. }
                | ServiceError::NeedsLevel { .. }
                | ServiceError::MemberLevel { .. }
                | ServiceError::NoLiveMajority { .. } => ErrorKind::Invalid,
                ServiceError::MemberBehind { .. } => ErrorKind::Retry,
                ServiceError::Corrupt { .. } | ServiceError::Diverged { .. } => ErrorKind::Corrupt,
                ServiceError::UnderStore => ErrorKind::Unavailable,
            },
            Cause::Transport { .. } => ErrorKind::Unknown,
            Cause::NoLeader { .. } | Cause::RetriesUsedUp { .. } => ErrorKind::Unavailable,
            Cause::Parse { .. } | Cause::Closed | Cause::OtherCluster { .. } => ErrorKind::Invalid,
            Cause::Poisoned(_) => ErrorKind::Unknown,
            Cause::MalformedAnswer(_) | Cause::Lost { .. } => ErrorKind::Corrupt,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_what_was_tried_on_what() {
        let error = Error::new("rename", "/a to /b", FsError::NotEmpty);
        assert_eq!(error.to_string(), "rename /a to /b: the directory is not empty");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert_eq!(error.errno(), 39);
    }
}
