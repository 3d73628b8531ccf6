//! The kinds of namespace errors by their number.

/// The kinds, in the order of the numbers that they have in stored replies. A refusal that tells of
/// another one (a part of a transaction) names it by this number.
const KINDS: [&str; 61] = [
    "NotFound",
    "Exists",
    "NotDirectory",
    "IsDirectory",
    "NotFile",
    "NotSymlink",
    "NotEmpty",
    "NameTooLong",
    "InvalidName",
    "InvalidPath",
    "TooManySymlinks",
    "IntoItself",
    "CrossMount",
    "ReadOnlyMount",
    "IsMountRoot",
    "NoSuchMount",
    "IsRoot",
    "LinkDirectory",
    "TooManyLinks",
    "FileTooLarge",
    "InvalidPolicy",
    "InvalidTarget",
    "InvalidRequest",
    "TailOpen",
    "LengthMismatch",
    "VersionMismatch",
    "Fenced",
    "ChunkGone",
    "ChunkState",
    "SessionExpired",
    "TooManyReplies",
    "StaleSequence",
    "Stale",
    "TooLarge",
    "TooManyWriters",
    "Importing",
    "NotSupported",
    "Damaged",
    "NoSpace",
    "TooFewNodes",
    "LagBound",
    "NodeRemoved",
    "NoSuchAttribute",
    "AttributeTooLarge",
    "TooManyAttributes",
    "NotPermitted",
    "PermissionDenied",
    "PreconditionFailed",
    "PreconditionRefused",
    "OperationRefused",
    "Compacted",
    "Locked",
    "Deadlock",
    "TooManyLocks",
    "Loading",
    "KeyTooLong",
    "KeyNotText",
    "ReservedName",
    "MountPending",
    "MountOverlap",
    "KeyBusy",
];

/// A kind's number.
pub(crate) fn number(kind: &str) -> u64 {
    // A test looks every kind up; what is not there is no kind when it is read back.
    KINDS.iter().position(|known| *known == kind).map_or(u64::MAX, |at| at as u64)
}

/// The kind of a number; `None` for one that this build does not know.
pub(crate) fn kind(number: u64) -> Option<&'static str> {
    KINDS.get(usize::try_from(number).ok()?).copied()
}
