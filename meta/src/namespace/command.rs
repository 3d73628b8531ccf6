//! [`Entry`]: what the Raft log carries to the state machine.

use bincode::{Decode, Encode};
use cairn_types::codec::{self, CodecError};
use cairn_types::{
    Chain, ChunkId, ClusterId, Credentials, DiskId, Epoch, FeatureLevel, Incarnation, InodeId, IntentId,
    LogIndex, MountId, NodeId, PackId, Policy, Sequence, SessionId, Timestamp, WriterMark,
};

use super::check::Finding;
use super::facts::{Fact, Next};
use super::operation::{Operation, Placement};
use crate::keys::contents::ContentId;
use crate::keys::loads::LoadId;
use crate::keys::mount_modes::EndpointAbilities;
use crate::keys::servers::DirectoryId;

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
    /// An operator says that a data node's disk will never return. No chunk gets it from here on,
    /// and its registration is refused. Repeated it changes nothing.
    RemoveNode {
        /// The node.
        node: NodeId,
        /// The incarnation that was found silent. `InvalidRequest` when it has another one by now.
        incarnation: Incarnation,
    },
    /// Strikes a removed node from the records of sealed chunks, where it is not the only holder of
    /// bytes that are nowhere else. A dead chunk goes with its last replica.
    StrikeReplicas {
        /// The node.
        node: NodeId,
        /// The chunks: as many as [`STRIKE_MAX`](super::STRIKE_MAX) at most.
        chunks: Vec<ChunkId>,
    },
    /// No chunk names the removed node any more: its disk is known as removed alone.
    EndRemoval {
        /// The node.
        node: NodeId,
    },
    /// As `OpenSession`, of a client that says who it is: the session's requests are checked.
    /// Answers `session`.
    OpenSessionAs {
        /// What the client calls itself.
        client: String,
        /// Who it is.
        credentials: Credentials,
    },
    /// Removes a bounded number of names of a removed tree (see `jobs::trees`). Propose it until the
    /// tree is gone: `NotFound` says so.
    PurgeTree {
        /// The directory that was removed.
        top: InodeId,
    },
    /// Gives an id to a metadata server that is to become a member, for ever. Repeated for the same
    /// directory it changes nothing; `Exists` when the id is, or was, another one's.
    AdmitServer {
        /// The server's id.
        node: NodeId,
        /// Its directory.
        directory: DirectoryId,
    },
    /// A metadata server is about to leave the group: its id is never used again. Repeated it changes
    /// nothing.
    RetireServer {
        /// The server's id.
        node: NodeId,
    },
    /// Mends what a check found, if it is so still: `NotFound` when it is not.
    Repair {
        /// The last entry that the checked state had applied.
        seen: LogIndex,
        /// What was found.
        finding: Finding,
    },
    /// Every member applies this feature level: the log may hold what needs it from here on. Never
    /// lowered; one that is as high changes nothing. A server that does not apply it stops here.
    RaiseLevel {
        /// The level.
        to: FeatureLevel,
    },
    /// Changes nothing: that it is answered shows that a majority writes.
    Probe,
    /// As `OpenSession`, or with credentials `OpenSessionAs`, of a client that says which unlinked files
    /// it has open: those stay until it has denied them, or is over. Answers `session`.
    OpenHolder {
        /// What the client calls itself.
        client: String,
        /// Who it is.
        credentials: Option<Credentials>,
    },
    /// What sessions say of unlinked files. Those that nobody holds go, a bounded number of them.
    Deny {
        /// As many as [`ANSWERS_MAX`] at most.
        answers: Vec<HoldAnswer>,
    },
    /// Removes a bounded number of the unlinked files that all sessions have denied (see
    /// `holds::decidable`). Propose it until there are none.
    DecideUnlinked {},
    /// Begins to load a dump into a namespace that holds nothing but its root. From here on clients
    /// change nothing, until all of it is loaded or what was loaded is taken out again. Repeated for
    /// the same dump it changes nothing. `NotEmpty`; `Loading` while another one is loaded.
    BeginLoad {
        /// Which dump.
        load: LoadId,
        /// The ids that the dumped state gave next: this one goes on beyond them.
        next: Next,
        /// The dumped state's time: this one's is no smaller from here on.
        time: Timestamp,
    },
    /// The next facts of a dump that is being loaded. Those that are loaded already change nothing.
    LoadFacts {
        /// Which dump.
        load: LoadId,
        /// How many facts of it come before these.
        first: u64,
        /// In the order of the dump, [`FACTS_PER_ENTRY_MAX`](super::facts::FACTS_PER_ENTRY_MAX) at most;
        /// `None` for a chunk that is left out.
        facts: Vec<Option<Fact>>,
    },
    /// All facts of a dump are loaded: clients may change the namespace again.
    EndLoad {
        /// Which dump.
        load: LoadId,
    },
    /// Takes a bounded number of rows out of what was loaded so far. Propose it until no load is
    /// under way: `NotFound` says so.
    DiscardLoad,
    /// As `RegisterNode`, of a node that says where it is: chunks' copies are spread over zones and hosts.
    /// Answers `node`.
    RegisterNodeIn {
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
        /// Its zone; empty: none.
        zone: String,
        /// Its machine; empty: the boot id tells.
        host: String,
    },
    /// An operator wants to shut a data node down: leaders place no chunk there from here on, and what it
    /// has goes elsewhere. Repeated it changes nothing. `TooFewNodes` when fewer than `needed` addresses of
    /// others would be left to place chunks at.
    DrainNode {
        /// The node.
        node: NodeId,
        /// The greatest `min_replicas` of the policies that the leader knows of.
        needed: u8,
    },
    /// The node stays after all: chunks are placed there again. Repeated it changes nothing.
    UndrainNode {
        /// The node.
        node: NodeId,
    },
    /// A draining node holds these sealed chunks no more, as far as S3 or enough others do: it deletes its
    /// replicas then.
    ReleaseReplicas {
        /// The node.
        node: NodeId,
        /// The chunks: as many as [`STRIKE_MAX`](super::STRIKE_MAX) at most.
        chunks: Vec<ChunkId>,
    },
    /// A look at all chunks found none that names the draining node. `InvalidRequest` when one was placed
    /// there since the look began.
    EndDrain {
        /// The node.
        node: NodeId,
        /// The last entry that the state had applied when the look began.
        seen: LogIndex,
    },
    /// Ends an upload of which a chunk is dead, or a compaction of which a chunk is dead or has moved:
    /// the chunks that live wait for another one. `InvalidRequest` while all of it is wanted. A late report
    /// finds no intent; the object that it is about is then a stray one (see [`Command::CondemnPacks`]).
    CancelUpload {
        /// The intent.
        intent: IntentId,
    },
    /// Tombstones for objects of packs that no row and no intent names: from here on they are dead
    /// packs, and go as those do. One that has a row, or whose id was never given out, is left alone.
    CondemnPacks {
        /// As many as [`CONDEMNED_MAX`] at most.
        packs: Vec<StrayPack>,
    },
    /// Makes the intent to write persisted chunks into a new pack, so that those they are in may go.
    /// Answers `intent`.
    CreateCompaction {
        /// The data node that shall do it.
        assignee: NodeId,
        /// The chunks, in the order of the new pack.
        chunks: Vec<ChunkId>,
    },
    /// The new pack of a compaction is in S3 and verified. Each chunk that is alive and still where the
    /// intent found it is in the new pack from here on. Ends the intent.
    Compacted {
        /// The compaction's intent.
        intent: IntentId,
        /// The new pack's ETag.
        etag: String,
        /// Where each chunk is in it.
        places: Vec<PersistedChunk>,
        /// The new pack's length.
        bytes: u64,
    },
    /// Makes the chunk that is to follow an open tail, or answers the one that was made: a spare takes
    /// nothing before a [`Command::Roll`] activates it. It is given up when the tail ends otherwise.
    /// Answers `chunk`, the spare.
    PrepareSpare {
        /// The open tail.
        chunk: ChunkId,
        /// Its epoch.
        epoch: Epoch,
        /// Where the spare lies; its primary is the tail's.
        placement: Placement,
    },
    /// As [`Command::SealPlanned`], and in the same entry the tail's spare becomes the file's tail: with
    /// the writer generation and the sequences of now. Where it may not be (another policy, a file that
    /// is gone, a spare that lost a node) it is given up, and the chunk is sealed alone. Answers `chunk`,
    /// the sealed one.
    Roll {
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
        /// The spare.
        next: ChunkId,
    },
    /// Makes the intent to write runs of small adjacent extents as chunks of one new pack. A run whose
    /// extents are not as they were found, or not all in S3, is left out; `InvalidRequest` when that leaves
    /// none. Answers `intent`.
    CreateMerge {
        /// The data node that shall do it.
        assignee: NodeId,
        /// The runs; of extents as many as [`MERGE_EXTENTS_MAX`](super::MERGE_EXTENTS_MAX) at most.
        runs: Vec<ExtentRun>,
    },
    /// The new pack of a merge is in S3 and verified. Each run whose extents are still exactly those that
    /// the intent found becomes one extent of its new chunk, and nothing else of its file changes, its
    /// version and times neither; of other runs nothing is kept. Ends the intent.
    Merged {
        /// The merge's intent.
        intent: IntentId,
        /// The new pack's ETag.
        etag: String,
        /// Where each new chunk is in it.
        places: Vec<PersistedChunk>,
        /// The new pack's length.
        bytes: u64,
    },
    /// Makes the intent that brings a pending file or marker nearer to what the bucket is to hold. Answers
    /// `intent`; without one nothing is to be done any more, the row that remains is a directory's walk, or the
    /// file cannot be written (its intent has failed for good); with `resume_after` another file is to leave the
    /// key first. `KeyBusy` while an intent uses the key. A file that is growing is written up to its recorded
    /// length.
    CreatePut {
        /// The mount.
        mount: MountId,
        /// The file or directory.
        ino: InodeId,
        /// The data node that shall do it.
        assignee: NodeId,
    },
    /// Makes the intent that deletes a surplus object. Answers `intent`; none when it is surplus no more.
    /// `KeyBusy`.
    CreateObjectDeletion {
        /// The mount.
        mount: MountId,
        /// The object's key.
        key: Vec<u8>,
        /// The data node that shall do it.
        assignee: NodeId,
    },
    /// Makes the intent that probes a mount's endpoint, or answers the one under way. Answers `intent`.
    CreateProbe {
        /// The mount.
        mount: MountId,
        /// The data node that shall do it.
        assignee: NodeId,
    },
    /// The object of a PutObject is there, verified. Ends the intent.
    ObjectWritten {
        /// The intent.
        intent: IntentId,
        /// Its ETag.
        etag: String,
        /// Its size.
        size: u64,
        /// Its last modification.
        mtime: Timestamp,
    },
    /// The object of a DeleteObject is not there any more. Ends the intent.
    ObjectGone {
        /// The intent.
        intent: IntentId,
    },
    /// Somebody else changed an object that an intent reads or writes; nothing was done. Ends the intent.
    ObjectChanged {
        /// The intent.
        intent: IntentId,
        /// The object's key.
        key: Vec<u8>,
        /// What is there; `None`: nothing.
        found: Option<FoundObject>,
    },
    /// What a mount's endpoint can do. Ends the intent.
    MountProbed {
        /// The intent.
        intent: IntentId,
        /// What was found.
        abilities: EndpointAbilities,
    },
    /// One bounded step of making what lies in a renamed directory follow it. Answers in `resume_after` the
    /// name up to which it is done, and nothing when all of it is. `Importing` when the directory must be
    /// read first; its intent is 0 when none reads it yet.
    FollowMove {
        /// The mount.
        mount: MountId,
        /// The directory.
        directory: InodeId,
    },
    /// Forgets that a directory left a prefix. `KeyBusy` while a tree of the mount is following its directory.
    EndMove {
        /// The mount.
        mount: MountId,
        /// The prefix.
        prefix: Vec<u8>,
    },
}

/// An object of a mounted bucket, as somebody found it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct FoundObject {
    /// Its ETag.
    pub etag: String,
    /// Its size.
    pub size: u64,
    /// Its last modification.
    pub mtime: Timestamp,
}

/// Extents of a file that follow on one another without a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ExtentRun {
    /// The file.
    pub ino: InodeId,
    /// The file offset of the first byte.
    pub offset: u64,
    /// Their bytes.
    pub length: u64,
    /// How many they are.
    pub extents: u32,
}

/// Packs that one [`Command::CondemnPacks`] names, at most.
pub const CONDEMNED_MAX: usize = 256;

/// Answers of one [`Command::Deny`], at most.
pub const ANSWERS_MAX: usize = 64;
/// Files that the answers of one [`Command::Deny`] name, at most, unless it has one answer.
pub const ANSWERED_FILES_MAX: usize = 256;

/// What a session says of unlinked files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct HoldAnswer {
    /// The session.
    pub session: SessionId,
    /// Counts its answers: one that is not greater than all before it is not heard.
    pub number: u64,
    /// It holds nothing that was unlinked up to this entry, but `held` and what it named before.
    pub upto: LogIndex,
    /// It holds these.
    pub held: Vec<InodeId>,
    /// It held these, and has closed them.
    pub released: Vec<InodeId>,
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

/// An object in the cluster's own area that is a pack by its key, and that nothing names.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct StrayPack {
    /// The pack, by its key.
    pub pack: PackId,
    /// The object's ETag, as a listing told it.
    pub etag: String,
    /// The object's size.
    pub bytes: u64,
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
