//! The limits of the system, in one place. Everything that grows has one.

/// Bytes in a name, at most (POSIX NAME_MAX).
pub const NAME_BYTES_MAX: usize = 255;
/// Bytes in a path, at most (POSIX PATH_MAX).
pub const PATH_BYTES_MAX: usize = 4096;
/// Symlinks followed in one resolution, at most (Linux's own limit).
pub const SYMLINKS_MAX: usize = 40;
/// A file's size, at most.
pub const FILE_BYTES_MAX: u64 = i64::MAX as u64;
/// Bytes in a chunk, at most.
pub const CHUNK_BYTES_MAX: u64 = 64 << 20;
/// Bytes in one append record, at most.
pub const APPEND_BYTES_MAX: usize = 1 << 20;
/// Payload bytes covered by one checksum of a stored record.
pub const CHECKSUM_BLOCK_BYTES: usize = 16 << 10;
/// Bytes in one frame of a read stream, at most.
pub const READ_FRAME_BYTES_MAX: usize = 1 << 20;
/// Bytes in one gRPC message, at most, on every service.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// Changes in one `MutateAll`, at most.
pub const MUTATIONS_MAX: usize = 256;
/// Targets in one `StatAll`, at most.
pub const STATS_MAX: usize = 512;
/// Operations in one transaction, as many preconditions, and files in one concatenation, at most.
pub const TRANSACTION_PARTS_MAX: usize = 256;
/// Rows that one log entry may touch, at most.
pub const ROWS_PER_ENTRY_MAX: usize = 4096;
/// Replies kept for one session, at most.
pub const REPLIES_PER_SESSION_MAX: usize = 1024;
/// Live writers of one file, at most (append protocol R2).
pub const WRITERS_PER_FILE_MAX: usize = 1024;
/// Locks of one kind on one file, at most; each one that is waited for counts as two, since it may cut
/// another in three when it is granted.
pub const LOCKS_PER_FILE_MAX: usize = 1024;
/// Waits for locks of one kind on one file, at most.
pub const LOCK_WAITS_PER_FILE_MAX: usize = 256;
/// Locks of one session, at most; each one that it waits for counts as two.
pub const LOCKS_PER_SESSION_MAX: u64 = 65_536;
/// Replicas of a chunk, at most.
pub const REPLICAS_MAX: u8 = 7;
/// Entries in one batch of a listing, at most.
pub const LIST_BATCH_MAX: u32 = 4096;
/// How long a session lives without a keep-alive.
pub const SESSION_LEASE_MS: u64 = 30_000;
/// The deadline of an RPC whose caller names none.
pub const RPC_DEADLINE_MS: u64 = 5_000;
/// How long the SDK retries before it gives up.
pub const RETRY_BUDGET_MS: u64 = 30_000;
/// The first grant of bytes to a tail; it doubles up to [`CHUNK_BYTES_MAX`] (R13).
pub const GRANT_BYTES_FIRST: u64 = 1 << 20;
/// How long a writer waits for room near the bound of the lag, at most: well below the time within which
/// an append must be acknowledged.
pub const LAG_PAUSE_MS_MAX: u64 = 250;
/// Bytes in a symlink's target, at most.
pub const SYMLINK_BYTES_MAX: usize = 4095;
/// Bytes in an S3 key, at most.
pub const S3_KEY_BYTES_MAX: usize = 1024;
/// Bytes in an extended attribute's name, at most (Linux's own limit).
pub const XATTR_NAME_BYTES_MAX: usize = 255;
/// Bytes in the values of all extended attributes of an inode, and so in one of them, at most.
pub const XATTR_BYTES_MAX: usize = 64 << 10;
/// Extended attributes of one inode, at most: their names fit in one list as Linux has it (64 KiB).
pub const XATTRS_MAX: u32 = 256;
/// Entries in one ACL, at most.
pub const ACL_ENTRIES_MAX: usize = 1024;
/// Groups of a session's credentials beside the first, at most.
pub const GROUPS_MAX: usize = 1024;
/// Hard links to one file, at most.
pub const LINKS_MAX: u32 = 65_000;
/// Events of the stream of changes that are kept, at least, and up to a few hundred more.
pub const EVENTS_KEPT: u64 = 1 << 18;
/// Directories above a change's own that its event names, at most.
pub const EVENT_ANCESTORS_MAX: usize = 64;
/// Unlinked files that one session holds, at most; with as many it denies nothing further until it has
/// closed some.
pub const HELD_UNLINKED_MAX: u32 = 4096;
/// Files that one answer about unlinked files names as held, and as closed, at most.
pub const HOLDS_PER_ANSWER_MAX: usize = 256;
/// Open files that a request for a removal names, at most: with more it says nothing of them.
pub const CLAIMED_FILES_MAX: usize = 256;
/// The protocol version spoken by this build: a new one when a peer of the one before would misread a
/// message. What servers may be asked to apply is another matter: [`FEATURE_LEVEL`](crate::FEATURE_LEVEL).
pub const PROTOCOL_VERSION: u32 = 3;
/// The lowest version that this build still speaks with peers. Each tells both: they talk when what they
/// speak has a version in common.
pub const PROTOCOL_VERSION_MIN: u32 = 3;
