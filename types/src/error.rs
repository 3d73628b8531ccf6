//! [`FsError`]: the deterministic outcome of an operation that was refused, and the one
//! table of errno values.

mod found;
mod samples;

pub use found::FoundInode;

use bincode::{Decode, Encode};

use crate::{ChunkId, Generation, IntentId, LogIndex, MountId, NodeId, Sequence, SessionId};

/// Why an operation on the namespace was refused. Part of replicated replies, so it holds
/// only what every replica derives alike.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, thiserror::Error)]
pub enum FsError {
    /// Nothing has that name.
    #[error("no such file or directory")]
    NotFound,
    /// Something has that name already.
    #[error("it exists already")]
    Exists,
    /// A component of the path, or the object of a directory call, is no directory.
    #[error("not a directory")]
    NotDirectory,
    /// A file was called for and it is a directory.
    #[error("is a directory")]
    IsDirectory,
    /// A regular file was called for.
    #[error("not a regular file")]
    NotFile,
    /// A symlink was called for.
    #[error("not a symbolic link")]
    NotSymlink,
    /// The directory holds entries.
    #[error("the directory is not empty")]
    NotEmpty,
    /// A name is over 255 bytes or a path over 4,096.
    #[error("the name is over 255 bytes or the path over 4,096")]
    NameTooLong,
    /// A name is empty, `.`, `..`, or holds `/` or NUL.
    #[error("a name must not be empty, '.' or '..', nor hold '/' or NUL")]
    InvalidName,
    /// A path is not absolute, or holds `..` or NUL.
    #[error("a path must start with '/' and hold neither '..' nor NUL")]
    InvalidPath,
    /// More than 40 symlinks were met.
    #[error("too many symbolic links")]
    TooManySymlinks,
    /// A rename would move a directory into itself.
    #[error("a directory cannot be moved into itself")]
    IntoItself,
    /// Both names must lie under the same mount, or under none.
    #[error("the two paths lie under different mounts")]
    CrossMount,
    /// The mount is read-only.
    #[error("the mount {mount} is read-only")]
    ReadOnlyMount {
        /// The mount.
        mount: MountId,
    },
    /// The path is in use as a mount's root.
    #[error("the path is the root of a mount")]
    IsMountRoot,
    /// There is no such mount.
    #[error("there is no such mount")]
    NoSuchMount,
    /// The root directory cannot be renamed, replaced or removed.
    #[error("the root directory cannot be renamed, replaced or removed")]
    IsRoot,
    /// A directory cannot have further hard links.
    #[error("a directory cannot be hard-linked")]
    LinkDirectory,
    /// The file has as many hard links as it may.
    #[error("too many hard links")]
    TooManyLinks,
    /// A size or offset lies beyond 2^63 - 1.
    #[error("the size is beyond the largest file")]
    FileTooLarge,
    /// A policy's field is out of its range.
    #[error("a policy needs 1-7 replicas, 1 <= min_replicas <= replicas, a lag of 100 ms and 1 MiB at least")]
    InvalidPolicy,
    /// A symlink's target is empty, over 4,095 bytes, or holds NUL.
    #[error("a symlink's target must have 1-4,095 bytes without NUL")]
    InvalidTarget,
    /// Fields of the request contradict each other or lie outside their ranges.
    #[error("the request's fields contradict each other or are out of range")]
    InvalidRequest,
    /// The file's tail is open and the request depends on its length: seal and retry.
    #[error("the file is growing ({chunk} is open): seal it and retry")]
    TailOpen {
        /// The open tail.
        chunk: ChunkId,
    },
    /// The file's length is not the expected one.
    #[error("the file's length is {actual}, not {expected}")]
    LengthMismatch {
        /// What the caller named.
        expected: u64,
        /// What it is.
        actual: u64,
    },
    /// The inode's version is not the expected one.
    #[error("the version is {actual}, not {expected}")]
    VersionMismatch {
        /// What the caller named.
        expected: u64,
        /// What it is.
        actual: u64,
    },
    /// A newer exclusive writer owns the file (append protocol R11).
    #[error("fenced by a newer writer of {generation}")]
    Fenced {
        /// The generation that owns the file now.
        generation: Generation,
        /// The fenced writer's last decided sequence.
        last_sequence: Sequence,
    },
    /// The chunk is no longer held by the session: write the bytes again.
    #[error("{chunk} is no longer held by this session: write the bytes again")]
    ChunkGone {
        /// The chunk.
        chunk: ChunkId,
    },
    /// The chunk is not in the state that the request assumes.
    #[error("{chunk} is not in the state that the request assumes")]
    ChunkState {
        /// The chunk.
        chunk: ChunkId,
    },
    /// The session has expired; the outcome of a request sent in it is unknown.
    #[error("the session has expired; the outcome of its unanswered requests is unknown")]
    SessionExpired,
    /// More than 1,024 replies wait to be acknowledged.
    #[error("the session has 1,024 unacknowledged replies: acknowledge some")]
    TooManyReplies,
    /// The reply of that request was acknowledged and dropped.
    #[error("{sequence} was acknowledged already and its reply is gone")]
    StaleSequence {
        /// The request's sequence.
        sequence: Sequence,
    },
    /// The inode is gone.
    #[error("the file is gone")]
    Stale,
    /// A limit of rows in one entry was met.
    #[error("the operation touches more rows than one entry may")]
    TooLarge,
    /// The file has as many writers as it may.
    #[error("the file has 1,024 live writers")]
    TooManyWriters,
    /// What is asked for needs S3: wait for the intent and retry.
    #[error("waiting for S3 ({intent})")]
    Importing {
        /// The intent to wait for.
        intent: IntentId,
    },
    /// This build cannot do it.
    #[error("not supported")]
    NotSupported,
    /// Bytes in the state did not decode: a bug or a damaged disk.
    #[error("the metadata of this object is damaged")]
    Damaged,
    /// No space is left, or a quota is used up.
    #[error("no space left")]
    NoSpace,
    /// Not enough healthy data nodes for a new chunk.
    #[error("{available} healthy data nodes of the {needed} needed")]
    TooFewNodes {
        /// Nodes that could take a chunk.
        available: u8,
        /// `min_replicas`.
        needed: u8,
    },
    /// Unpersisted bytes are at their bound: S3 is slow or away.
    #[error(
        "lag bound reached: {lag_bytes} unpersisted bytes of {bound_bytes}: writers go on when S3 has taken some, see `cairn lag`"
    )]
    LagBound {
        /// Unpersisted bytes.
        lag_bytes: u64,
        /// The bound.
        bound_bytes: u64,
    },
    /// An operator removed that data node for good.
    #[error("{node} was removed for good: start a data node there with an empty directory")]
    NodeRemoved {
        /// The node that the disk was.
        node: NodeId,
    },
    /// The inode has no extended attribute of that name.
    #[error("no such extended attribute")]
    NoSuchAttribute,
    /// An extended attribute's value is over its limit.
    #[error("an extended attribute's value has 65,536 bytes at most, an ACL 1,024 entries")]
    AttributeTooLarge,
    /// The inode's extended attributes would be too many, or too large together.
    #[error("an inode has 256 extended attributes and 65,536 bytes in their values at most")]
    TooManyAttributes,
    /// The operation is for the owner, or for user 0, or for another kind of inode.
    #[error("operation not permitted")]
    NotPermitted,
    /// The mode or the ACL does not allow it.
    #[error("permission denied")]
    PermissionDenied,
    /// A precondition of a transaction does not hold: nothing was changed.
    #[error("precondition {index} does not hold: {}", found::shown(found.as_ref()))]
    PreconditionFailed {
        /// Which one, from 0.
        index: u32,
        /// What is there instead.
        found: Option<FoundInode>,
    },
    /// Whether a precondition of a transaction holds cannot be said: nothing was changed.
    #[error("precondition {index} cannot be checked: {why}")]
    PreconditionRefused {
        /// Which one, from 0.
        index: u32,
        /// Why.
        why: Box<FsError>,
    },
    /// An operation of a transaction was refused: nothing was changed.
    #[error("operation {index} was refused: {why}")]
    OperationRefused {
        /// Which one, from 0.
        index: u32,
        /// Why.
        why: Box<FsError>,
    },
    /// The changes that a watcher asks for are not all kept any more.
    #[error("the changes before {oldest} are not kept any more: list, and watch from the listing's index on")]
    Compacted {
        /// The first entry from which on all are kept.
        oldest: LogIndex,
    },
    /// Somebody else holds a lock there that excludes this one, or waited for one before.
    #[error("locked by owner {owner} of {session}")]
    Locked {
        /// The session of who is in the way.
        session: SessionId,
        /// Its owner's number there.
        owner: u64,
    },
    /// To wait for that lock would be to wait for oneself.
    #[error("waiting for this lock would be a deadlock")]
    Deadlock,
    /// The file, or the session, has as many locks as it may.
    #[error("the file has 1,024 locks or 256 waits for them, or the session 65,536")]
    TooManyLocks,
    /// A dump is being loaded into the namespace.
    #[error("a dump is being loaded: nothing else is changed until that has ended, or is discarded")]
    Loading,
    /// Below a mount a name is part of an object's key.
    #[error("the object's key would be over 1,024 bytes")]
    KeyTooLong,
    /// Below a mount a name is part of an object's key.
    #[error("below a mount a name must be UTF-8: it is part of an object's key")]
    KeyNotText,
    /// The name is one that mounts use themselves.
    #[error("the name is kept for what mounts need it for: choose another")]
    ReservedName,
    /// Changes of the mount are not in its bucket yet.
    #[error("{pending} changes of the mount are not in its bucket yet: wait for them, or abandon them")]
    MountPending {
        /// How many.
        pending: u64,
    },
    /// Another mount is bound to the same keys, or to some of them.
    #[error("the mount {mount} is bound to a prefix of the same bucket that overlaps with this one")]
    MountOverlap {
        /// The other mount.
        mount: MountId,
    },
    /// Other work on the bucket uses the object's key.
    #[error("the object's key is in use by other work on the bucket: it is tried again later")]
    KeyBusy,
}

impl FsError {
    /// The refusal itself, where this one says which part of a transaction met it.
    #[must_use]
    pub fn reason(&self) -> &Self {
        match self {
            Self::PreconditionRefused { why, .. } | Self::OperationRefused { why, .. } => why.reason(),
            other => other,
        }
    }

    /// The POSIX errno of this outcome: the only such table in the project.
    #[must_use]
    pub fn errno(&self) -> i32 {
        use rustix::io::Errno;
        let errno = match self {
            Self::PreconditionRefused { why, .. } | Self::OperationRefused { why, .. } => return why.errno(),
            Self::NotFound | Self::NoSuchMount => Errno::NOENT,
            Self::Exists => Errno::EXIST,
            Self::NotDirectory => Errno::NOTDIR,
            Self::IsDirectory => Errno::ISDIR,
            Self::NotEmpty => Errno::NOTEMPTY,
            Self::NameTooLong | Self::KeyTooLong => Errno::NAMETOOLONG,
            Self::KeyNotText => Errno::ILSEQ,
            Self::TooManySymlinks => Errno::LOOP,
            Self::CrossMount => Errno::XDEV,
            Self::ReadOnlyMount { .. } => Errno::ROFS,
            Self::IsMountRoot | Self::IsRoot | Self::Loading | Self::MountPending { .. } => Errno::BUSY,
            // POSIX: link() on a directory without the privilege is EPERM.
            Self::LinkDirectory | Self::NotPermitted | Self::ReservedName => Errno::PERM,
            Self::MountOverlap { .. } => Errno::EXIST,
            Self::TooManyLinks => Errno::MLINK,
            Self::FileTooLarge => Errno::FBIG,
            Self::InvalidName
            | Self::InvalidPath
            | Self::NotFile
            | Self::NotSymlink
            | Self::IntoItself
            | Self::InvalidPolicy
            | Self::InvalidTarget
            | Self::InvalidRequest => Errno::INVAL,
            Self::TailOpen { .. } | Self::Importing { .. } | Self::ChunkState { .. } | Self::KeyBusy => {
                Errno::AGAIN
            }
            Self::LengthMismatch { .. } | Self::VersionMismatch { .. } | Self::PreconditionFailed { .. } => {
                Errno::CANCELED
            }
            // A fenced writer must not mistake it for anything it could retry.
            Self::Fenced { .. } | Self::Stale | Self::ChunkGone { .. } | Self::NodeRemoved { .. } => {
                Errno::STALE
            }
            Self::SessionExpired | Self::StaleSequence { .. } => Errno::TIMEDOUT,
            Self::TooManyReplies | Self::TooManyWriters => Errno::NOBUFS,
            Self::PermissionDenied => Errno::ACCESS,
            Self::TooLarge | Self::AttributeTooLarge => Errno::TOOBIG,
            Self::NoSuchAttribute => Errno::NODATA,
            Self::Compacted { .. } => Errno::OVERFLOW,
            Self::NotSupported => Errno::OPNOTSUPP,
            Self::Damaged => Errno::IO,
            Self::NoSpace | Self::LagBound { .. } | Self::TooManyAttributes => Errno::NOSPC,
            Self::TooFewNodes { .. } => Errno::HOSTDOWN,
            Self::Locked { .. } => Errno::AGAIN,
            Self::Deadlock => Errno::DEADLK,
            Self::TooManyLocks => Errno::NOLCK,
        };
        errno.raw_os_error()
    }
}
