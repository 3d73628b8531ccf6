//! [`Entry`]: what the Raft log carries to the state machine.

use bincode::{Decode, Encode};
use cairn_types::codec::{self, CodecError};
use cairn_types::{
    Chain, ChunkId, ClusterId, DiskId, Epoch, Extent, Generation, Incarnation, InodeId, IntentId, NodeId,
    PackId, Policy, Sequence, SessionId, Timestamp, WriterId, WriterMark,
};

use crate::keys::chunks::PlacedReplica;
use crate::keys::contents::ContentId;
use crate::keys::mounts::MountSource;

/// Format byte of an encoded [`Entry`].
pub const ENTRY_FORMAT: u8 = 1;

/// A command and the time at which the leader proposed it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Entry {
    /// The leader's wall clock. The state's time is the largest that it has seen.
    pub time: Timestamp,
    /// What to do.
    pub command: Command,
}

impl Entry {
    /// The bytes of the Raft log.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(ENTRY_FORMAT, self)
    }

    /// Reads what [`Entry::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`CodecError`] for bytes that are no entry.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(ENTRY_FORMAT, bytes)
    }
}

/// A change of the state. Only [`Command::Request`] comes from clients.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Command {
    /// The cluster's first entry: its identity and the root's policy. Repeated with the same
    /// identity it changes nothing; with another one it is refused.
    InitCluster {
        /// The identity.
        cluster: ClusterId,
        /// The root's policy.
        policy: Policy,
    },
    /// Opens a session. Answers `session`.
    OpenSession {
        /// What the client calls itself.
        client: String,
    },
    /// The client is done: as [`Command::ExpireSession`].
    CloseSession {
        /// The session.
        session: SessionId,
    },
    /// The session's lease is over. Its chunks and the tails that it alone wrote begin their seal.
    /// Bounded: while it answers `session`, rows are left and it must be proposed again.
    ExpireSession {
        /// The session.
        session: SessionId,
    },
    /// Drops the kept replies below a sequence.
    Acknowledge {
        /// The session.
        session: SessionId,
        /// Replies of smaller sequences go.
        below: Sequence,
    },
    /// A client's operation, applied once for each (session, sequence), whatever it answers.
    Request {
        /// The session.
        session: SessionId,
        /// The request's number in it, from 1.
        sequence: Sequence,
        /// Replies of smaller sequences may be dropped.
        acknowledged_below: Sequence,
        /// What to do.
        operation: Operation,
    },
    /// A data node started. Answers `node`: the same for the same disk.
    RegisterNode {
        /// Its disk.
        disk: DiskId,
        /// Where it listens, `host:port`.
        address: String,
        /// Its new process incarnation.
        incarnation: Incarnation,
        /// The machine's boot id.
        boot_id: [u8; 16],
        /// Bytes it may keep.
        capacity_bytes: u64,
        /// Its build.
        version: String,
    },
    /// A write or fsync failed on that disk: nothing new is placed there (append protocol R7).
    RetireDisk {
        /// The disk.
        disk: DiskId,
    },
    /// Open → Sealing, epoch + 1. On a chunk that is Sealing or Sealed already it changes nothing.
    /// Answers `chunk`.
    BeginSeal {
        /// The chunk.
        chunk: ChunkId,
        /// The epoch of the open chunk.
        epoch: Epoch,
    },
    /// Sealing → Sealed by compare-and-set on the epoch of the seal (rule R5); commits a tail's
    /// extent, size, mtime and writer marks. `ChunkState` when another one came first.
    FinishSeal {
        /// The chunk.
        chunk: ChunkId,
        /// The epoch that `BeginSeal` answered.
        epoch: Epoch,
        /// The decided length.
        length: u64,
        /// The chain there.
        chain: Chain,
        /// The nodes that hold all of it.
        holders: Vec<NodeId>,
        /// The last sequence of each writer in this chunk; offsets are file offsets.
        marks: Vec<WriterMark>,
        /// Wall time of the last record.
        mtime: Timestamp,
    },
    /// Open → Sealed by a planned roll: the close record is on every replica (rule R5).
    SealPlanned {
        /// The chunk.
        chunk: ChunkId,
        /// The epoch of the open chunk.
        epoch: Epoch,
        /// The decided length.
        length: u64,
        /// The chain there.
        chain: Chain,
        /// The last sequence of each writer in this chunk; offsets are file offsets.
        marks: Vec<WriterMark>,
        /// Wall time of the last record.
        mtime: Timestamp,
    },
    /// Raises the bytes that an open chunk's primary may take. Answers `chunk`.
    RenewGrant {
        /// The chunk.
        chunk: ChunkId,
        /// The epoch of the open chunk.
        epoch: Epoch,
        /// The new grant; never lowered, at most a chunk's greatest length.
        grant_bytes: u64,
    },
    /// Makes the intent to upload sealed chunks as one pack. Answers `intent`.
    CreateUpload {
        /// The data node that shall do it.
        assignee: NodeId,
        /// The chunks, in the order of the pack.
        chunks: Vec<ChunkId>,
    },
    /// Gives an intent to another node.
    Reassign {
        /// The intent.
        intent: IntentId,
        /// The data node that shall do it now.
        node: NodeId,
    },
    /// The pack is in S3 and verified. Ends the upload intent.
    Persisted {
        /// The upload intent.
        intent: IntentId,
        /// The pack's ETag.
        etag: String,
        /// Where each chunk is.
        places: Vec<PersistedChunk>,
        /// The pack's length.
        bytes: u64,
    },
    /// An intent failed. A permanent failure ends it; otherwise it stays, to be tried again.
    FailIntent {
        /// The intent.
        intent: IntentId,
        /// True when trying again is of no use.
        permanent: bool,
        /// Why, for people: the first 512 bytes are kept.
        message: String,
    },
    /// Makes the intent to read a mount's directory from S3, or answers the one under way in
    /// `intent`.
    StartImport {
        /// The directory.
        directory: InodeId,
        /// The data node that shall do it.
        assignee: NodeId,
    },
    /// One page of a bucket's listing: everything in `(start_after, end]`. An empty `end` means to
    /// the end, and ends the intent. When the answer has `resume_after`, the page was too large for
    /// one entry: propose it again with that `start_after`.
    ImportBatch {
        /// The import intent.
        intent: IntentId,
        /// The directory.
        directory: InodeId,
        /// Names greater than this one; empty: from the beginning.
        start_after: Vec<u8>,
        /// Names up to this one; empty: to the end.
        end: Vec<u8>,
        /// What S3 has there.
        entries: Vec<ImportedEntry>,
    },
    /// A repaired copy of a sealed chunk is complete on a node.
    AddHolder {
        /// The chunk.
        chunk: ChunkId,
        /// The node.
        node: NodeId,
    },
    /// A node has deleted its replica: it was no holder, or the chunk is dead. A dead chunk goes
    /// with its last replica.
    DropReplica {
        /// The chunk.
        chunk: ChunkId,
        /// The node.
        node: NodeId,
    },
    /// Makes the intent to delete a pack that nothing points into. Answers `intent`.
    CreatePackDeletion {
        /// The pack.
        pack: PackId,
        /// The data node that shall do it.
        assignee: NodeId,
    },
    /// The pack is gone from S3. Ends the intent.
    PackDeleted {
        /// The deletion intent.
        intent: IntentId,
    },
    /// Removes a bounded number of rows of an unlinked inode (see `read::orphans`). Propose it until
    /// the orphan is gone.
    Purge {
        /// The orphan.
        ino: InodeId,
    },
    /// As [`Command::FinishSeal`], of a chunk that no answer of its replicas decides: an operator
    /// accepted that what lies beyond `length` is lost. The log keeps what was known of it.
    AcceptLoss {
        /// The chunk.
        chunk: ChunkId,
        /// The epoch that `BeginSeal` answered.
        epoch: Epoch,
        /// The accepted length: the longest valid prefix that was answered, 0 if there was none.
        length: u64,
        /// The chain there.
        chain: Chain,
        /// The nodes that hold all of it.
        holders: Vec<NodeId>,
        /// The last sequence of each writer in this chunk; offsets are file offsets.
        marks: Vec<WriterMark>,
        /// Wall time of the last record.
        mtime: Timestamp,
        /// The highest committed length that a replica had heard of: bytes up to here were
        /// acknowledged for certain.
        heard: u64,
        /// The nodes that answered, ascending.
        answered: Vec<NodeId>,
    },
    /// Removes a bounded number of a content's extents that no file names any more (see
    /// `jobs::detached`). Propose it until none are left.
    PurgeContent {
        /// The content.
        content: ContentId,
    },
}

/// Where a chunk is in its pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PersistedChunk {
    /// The chunk.
    pub chunk: ChunkId,
    /// Its first byte in the pack.
    pub offset: u64,
    /// Its length.
    pub length: u64,
    /// CRC32C of its bytes.
    pub crc32c: u32,
}

/// One name of a bucket's listing.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ImportedEntry {
    /// The name in the directory.
    pub name: Vec<u8>,
    /// True for a common prefix.
    pub directory: bool,
    /// The object's size.
    pub size: u64,
    /// The object's ETag.
    pub etag: String,
    /// The object's last modification.
    pub mtime: Timestamp,
    /// The whole S3 key.
    pub key: Vec<u8>,
}

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
    /// As [`Command::RenewGrant`], by a client.
    RenewGrant {
        /// The chunk.
        chunk: ChunkId,
        /// The epoch of the open chunk.
        epoch: Epoch,
        /// The new grant.
        grant_bytes: u64,
    },
}
