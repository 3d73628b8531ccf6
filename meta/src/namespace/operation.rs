//! [`Operation`]: what a client asks for, as [`Command::Request`](super::Command::Request) carries it.

use bincode::{Decode, Encode};
use cairn_types::{
    ChunkId, Epoch, Extent, FileKind, Generation, InodeId, LockKind, LockMode, LockRange, LogIndex, MountId,
    NodeId, Policy, Timestamp, WriterId,
};

use crate::keys::chunks::PlacedReplica;
use crate::keys::mount_modes::{BucketAccess, MountRules};
use crate::keys::mounts::MountSource;
use crate::namespace::precondition::Precondition;

/// Where an operation acts: `path` resolved from the directory `ino`; an empty path is the inode
/// itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Target {
    /// The inode from which the path goes; 0 and 1 mean the root.
    pub ino: InodeId,
    /// Components between slashes; `..` is refused.
    pub path: Vec<u8>,
    /// Do not follow a symlink that is the last component.
    pub no_follow: bool,
}

impl Target {
    /// An absolute path.
    #[must_use]
    pub fn path(path: impl Into<Vec<u8>>) -> Self {
        Self { ino: InodeId::ROOT, path: path.into(), no_follow: false }
    }

    /// An inode itself.
    #[must_use]
    pub fn ino(ino: InodeId) -> Self {
        Self { ino, path: Vec::new(), no_follow: false }
    }

    /// A name (or path) under a directory's inode.
    #[must_use]
    pub fn under(ino: InodeId, path: impl Into<Vec<u8>>) -> Self {
        Self { ino, path: path.into(), no_follow: false }
    }

    /// The same, without following a symlink at the end.
    #[must_use]
    pub fn no_follow(self) -> Self {
        Self { no_follow: true, ..self }
    }
}

/// Which nodes a new chunk lies on: the leader's choice, since it alone knows who is healthy.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Placement {
    /// The replica set.
    pub replicas: Vec<PlacedReplica>,
    /// The member that orders appends.
    pub primary: NodeId,
}

/// What a time becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum TimeChange {
    /// This one.
    At(Timestamp),
    /// The state's time when the entry is applied (UTIME_NOW).
    Now,
}

/// What SetXattr does about an attribute that exists, or does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub enum XattrMode {
    /// Makes it or replaces it.
    #[default]
    Any,
    /// Refuses one that exists.
    Create,
    /// Refuses one that does not.
    Replace,
}

/// What a client asks for. The same verbs as `MutateRequest` in proto/proto/meta.proto.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Operation {
    /// Makes a directory. Answers `inode`.
    Mkdir {
        /// Where.
        target: Target,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// Make what is missing above it too, and accept that it exists.
        parents: bool,
    },
    /// Makes a file, with its first extents. Answers `inode`.
    Create {
        /// Where.
        target: Target,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// Refuse an existing file.
        exclusive: bool,
        /// Replace an existing file's content by `extents`.
        truncate: bool,
        /// The content.
        extents: Vec<Extent>,
    },
    /// Makes a symlink. Answers `inode`.
    Symlink {
        /// Where.
        target: Target,
        /// What it points at.
        to: Vec<u8>,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
    /// Makes a hard link. Answers `inode`.
    Link {
        /// The file.
        from: Target,
        /// The new name.
        to: Target,
    },
    /// Removes a name of a file or symlink.
    Unlink {
        /// The name.
        target: Target,
    },
    /// Removes an empty directory.
    Rmdir {
        /// The directory.
        target: Target,
    },
    /// Moves a name. Answers the moved `inode`.
    Rename {
        /// The old name.
        from: Target,
        /// The new name.
        to: Target,
        /// Refuse an existing target.
        no_replace: bool,
        /// Swap the two.
        exchange: bool,
    },
    /// Changes attributes. Answers `inode`.
    SetAttr {
        /// Of which inode.
        target: Target,
        /// Permission bits.
        mode: Option<u32>,
        /// Owner.
        uid: Option<u32>,
        /// Group.
        gid: Option<u32>,
        /// Length; `TailOpen` while a tail is open.
        size: Option<u64>,
        /// Last change of content.
        mtime: Option<Timestamp>,
        /// Last access.
        atime: Option<Timestamp>,
        /// Refuse unless this is the inode's version.
        expected_version: Option<u64>,
    },
    /// Sets a directory's own policy, or lets it inherit again. Answers `inode`.
    SetPolicy {
        /// The directory.
        target: Target,
        /// The policy.
        policy: Option<Policy>,
    },
    /// Adds extents whose bytes are acknowledged; they supersede what they overlap. Answers `inode`.
    Commit {
        /// The file.
        ino: InodeId,
        /// The extents.
        extents: Vec<Extent>,
        /// Refuse unless this is the file's length.
        expected_length: Option<u64>,
    },
    /// Opens a shared chunk of the session. Answers `chunk`.
    OpenChunk {
        /// The policy in force at this inode counts.
        policy_of: InodeId,
        /// Filled in by the leader; `None`: it found no nodes.
        placement: Option<Placement>,
    },
    /// The file's open tail, or a new one. Answers `inode` and `chunk`.
    OpenTail {
        /// The file.
        ino: InodeId,
        /// The handle's generation.
        generation: Generation,
        /// The writer; it must be of this session.
        writer: WriterId,
        /// Filled in by the leader; `None`: it found no nodes. Not used when a tail is open.
        placement: Option<Placement>,
    },
    /// Fences every earlier writer. Answers `inode`, `generation`, and in `chunk` the tail to be
    /// sealed first.
    OpenExclusive {
        /// The file.
        ino: InodeId,
    },
    /// The session gives up a shared chunk. Answers `chunk`, Sealing if it was open.
    ReleaseChunk {
        /// The chunk.
        chunk: ChunkId,
    },
    /// Binds a directory to a bucket and prefix. Answers `inode` and `mount`.
    MountAdd {
        /// Made if absent; else it must be an empty directory under no mount.
        target: Target,
        /// What it is bound to.
        source: MountSource,
    },
    /// Ends a mount; its directory stays, empty.
    MountRemove {
        /// The mount's root.
        target: Target,
    },
    /// As [`Command::RenewGrant`](super::Command::RenewGrant), by a client.
    RenewGrant {
        /// The chunk.
        chunk: ChunkId,
        /// The epoch of the open chunk.
        epoch: Epoch,
        /// The new grant.
        grant_bytes: u64,
    },
    /// Makes a fifo, a socket or a device. Answers `inode`.
    Mknod {
        /// Where.
        target: Target,
        /// What, with its device number.
        kind: FileKind,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
    /// Sets an extended attribute. Answers `inode`.
    SetXattr {
        /// Of which inode.
        target: Target,
        /// Its name, space included.
        name: Vec<u8>,
        /// Its value.
        value: Vec<u8>,
        /// What to do about one that exists, or does not.
        mode: XattrMode,
    },
    /// Removes an extended attribute. Answers `inode`.
    RemoveXattr {
        /// Of which inode.
        target: Target,
        /// Its name, space included.
        name: Vec<u8>,
    },
    /// As `SetAttr`, with times that are the state's own. Answers `inode`.
    SetAttrNow {
        /// Of which inode.
        target: Target,
        /// Permission bits.
        mode: Option<u32>,
        /// Owner.
        uid: Option<u32>,
        /// Group.
        gid: Option<u32>,
        /// Length; `TailOpen` while a tail is open.
        size: Option<u64>,
        /// Last change of content.
        mtime: Option<TimeChange>,
        /// Last access.
        atime: Option<TimeChange>,
        /// Refuse unless this is the inode's version.
        expected_version: Option<u64>,
    },
    /// All of it or nothing; each operation sees what those before it did. Answers `steps`.
    Transact {
        /// What must hold before.
        preconditions: Vec<Precondition>,
        /// In order; those that need no placement and no transaction of their own.
        operations: Vec<Operation>,
    },
    /// A file, or with `recursive` a directory and all below it, at a new name, sharing all bytes.
    /// Answers `inode`.
    Clone {
        /// What is cloned.
        from: Target,
        /// The new name.
        to: Target,
        /// Owner of what is made.
        uid: u32,
        /// Group of what is made.
        gid: u32,
        /// Replace an existing file's content.
        replace: bool,
        /// Directories too.
        recursive: bool,
    },
    /// Shares a range of a file with another one, or with itself further on. Answers `inode`.
    CopyRange {
        /// The file read.
        from: Target,
        /// The range's first byte there.
        from_offset: u64,
        /// The file changed.
        to: Target,
        /// The range's first byte there.
        to_offset: u64,
        /// The range's length; `None`: to the end of the file read.
        length: Option<u64>,
    },
    /// Appends the contents of files to one that is none of them. Answers `inode`.
    Concat {
        /// The file that grows.
        target: Target,
        /// The files, in order.
        from: Vec<Target>,
    },
    /// Makes a range zeros that hold no bytes. Answers `inode`.
    PunchHole {
        /// The file.
        target: Target,
        /// The range's first byte.
        offset: u64,
        /// Its length, at least 1.
        length: u64,
        /// The file does not grow to the range's end.
        keep_size: bool,
    },
    /// Grows a file to the end of a range, with zeros. Answers `inode`.
    Allocate {
        /// The file.
        target: Target,
        /// The range's first byte.
        offset: u64,
        /// Its length, at least 1.
        length: u64,
        /// The file does not grow: nothing is changed.
        keep_size: bool,
    },
    /// Locks a file, or queues for the lock. Answers `lock`.
    Lock {
        /// The file.
        ino: InodeId,
        /// Bytes, or the whole file.
        kind: LockKind,
        /// Whose, as the session numbers them.
        owner: u64,
        /// Which bytes; [`LockRange::WHOLE`] for the whole file.
        range: LockRange,
        /// How it excludes others.
        mode: LockMode,
        /// Queue when it cannot be had now; else `Locked` is answered.
        wait: bool,
    },
    /// Frees bytes that an owner has locked; who waits for them is granted them.
    Unlock {
        /// The file.
        ino: InodeId,
        /// Bytes, or the whole file.
        kind: LockKind,
        /// Whose.
        owner: u64,
        /// Which bytes; [`LockRange::WHOLE`] for the whole file.
        range: LockRange,
    },
    /// Gives a wait for a lock up. Answers `lock`.
    CancelLock {
        /// The file.
        ino: InodeId,
        /// Bytes, or the whole file.
        kind: LockKind,
        /// Whose.
        owner: u64,
        /// The wait's number; 0: all that the owner waits for here.
        wait: LogIndex,
    },
    /// Removes a directory with all below it. Answers it, as it was, in `inode`. What does not go in
    /// this entry is out of everybody's reach and goes in steps (see [`Command::PurgeTree`](super::Command::PurgeTree)).
    RemoveTree {
        /// The directory. `IsMountRoot` when it is a mount's root or has one below it.
        target: Target,
    },
    /// Another operation, of a session that says which files it holds: what that unlinks need not wait
    /// for this session's word.
    Holding {
        /// The number of the session's last answer; once there is a later one this says nothing.
        number: u64,
        /// It holds these files at the most.
        inos: Vec<InodeId>,
        /// What to do; no other of this kind.
        operation: Box<Operation>,
    },
    /// As `MountAdd`, with how the bucket is spoken to, and whether and how it is written to. Answers `inode`
    /// and `mount`. `MountOverlap`.
    MountAddAs {
        /// Made if absent; else it must be an empty directory under no mount.
        target: Target,
        /// What it is bound to.
        source: MountSource,
        /// How the bucket is spoken to.
        access: BucketAccess,
        /// Whether and how it is written to.
        rules: MountRules,
    },
    /// Changes how a mount is kept; what it is bound to stays. The endpoint is probed anew. Answers `mount`.
    MountSet {
        /// The mount's root.
        target: Target,
        /// Age above which a directory is read again.
        refresh_ms: u64,
        /// How the bucket is spoken to.
        access: BucketAccess,
        /// Whether and how it is written to.
        rules: MountRules,
    },
    /// As `MountRemove`. `MountPending` while something is, unless it is abandoned.
    MountRemoveWith {
        /// The mount's root.
        target: Target,
        /// Also with changes that the bucket has not yet.
        abandon: bool,
    },
    /// Forgets a conflict. The files stay. `NotFound`.
    ConflictDismiss {
        /// The mount.
        mount: MountId,
        /// The conflict's number.
        conflict: u64,
    },
}
