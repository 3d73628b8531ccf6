//! [`ServiceError`]: why a server could not carry a request out.

use cairn_types::{ChunkId, NodeId, Sequence};

/// Why a server could not carry a request out, apart from the namespace's own [`FsError`](cairn_types::FsError).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// Another server leads: ask there.
    #[error("this server is not the leader")]
    NotLeader {
        /// `host:port` of the leader, empty when unknown.
        leader_address: String,
    },
    /// The request's deadline passed; a mutation's outcome is unknown until it is asked again.
    #[error("the deadline passed before the answer was known")]
    Deadline,
    /// The change is made, and what it came to could not be told. The server keeps the answer: asked
    /// again with the same (session, sequence) it is told, by this server or another, and nothing is
    /// made twice.
    #[error("the change is made, but its answer is lost")]
    AnswerLost,
    /// A bounded queue is full: try again later.
    #[error("the server's queue is full")]
    Overloaded,
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
    /// The peer belongs to another cluster.
    #[error("the peer belongs to another cluster")]
    ForeignCluster,
    /// The peer speaks another version of the protocol.
    #[error("the peer speaks protocol {theirs}, this server {ours}")]
    ForeignProtocol {
        /// Their version.
        theirs: u32,
        /// Ours.
        ours: u32,
    },
    /// The message lacks a field or holds a value out of range.
    #[error("the message is malformed: field {field}")]
    Malformed {
        /// The field's name.
        field: String,
    },
    /// This node does not serve that chunk.
    #[error("{chunk} is not served by this node")]
    NoSuchChunk {
        /// The chunk.
        chunk: ChunkId,
    },
    /// The chunk takes no more appends here: it is fenced, sealing or sealed.
    #[error("{chunk} takes no more appends here: seal it and go on in a new chunk")]
    ChunkFenced {
        /// The chunk.
        chunk: ChunkId,
    },
    /// The chunk is full or beyond its grant: roll or renew.
    #[error("{chunk} has no room left")]
    ChunkFull {
        /// The chunk.
        chunk: ChunkId,
    },
    /// This node is not the chunk's primary.
    #[error("this node is not the primary of {chunk}")]
    NotPrimary {
        /// The chunk.
        chunk: ChunkId,
    },
    /// Sequences of a writer are taken without gaps.
    #[error("the next sequence expected is {expected}")]
    SequenceGap {
        /// The sequence that is expected.
        expected: Sequence,
    },
    /// Stored bytes fail their checksum and no other copy could be read.
    #[error("the stored bytes of {chunk} are damaged")]
    Corrupt {
        /// The chunk, or 0 for an object.
        chunk: ChunkId,
    },
    /// The bytes that arrived fail the checksum that came with them.
    #[error("the bytes that arrived fail their checksum")]
    ChecksumMismatch,
    /// The chunk's end is not being decided: it is open, or sealed at another length.
    #[error("{chunk} does not wait for its end to be decided: there is no loss to accept")]
    NotUndecided {
        /// The chunk.
        chunk: ChunkId,
    },
    /// The chunk's end can be decided from what its replicas answer.
    #[error("the end of {chunk} can be decided without a loss, and will be")]
    Decidable {
        /// The chunk.
        chunk: ChunkId,
    },
    /// What is left of the chunk is not what the operator accepted.
    #[error("of {chunk} there are {length} bytes now, not as many as were accepted: look again")]
    LossDiffers {
        /// The chunk.
        chunk: ChunkId,
        /// The longest valid prefix answered.
        length: u64,
    },
    /// No replica that answers has a byte of the chunk: accepting that must be said.
    #[error(
        "no replica that answers has a byte of {chunk}: bring others back, or accept that nothing is left"
    )]
    NothingLeft {
        /// The chunk.
        chunk: ChunkId,
    },
    /// Two replicas hold different records: no end of the chunk may be accepted.
    #[error("two replicas of {chunk} hold different records below byte {length}")]
    Diverged {
        /// The chunk.
        chunk: ChunkId,
        /// The length at which their chains differ.
        length: u64,
    },
    /// A node that lives, or may, is not removed.
    #[error("{node} is alive, or was a moment ago: only a node that stays silent can be removed")]
    NodeAlive {
        /// The node.
        node: NodeId,
    },
    /// No data node has that id.
    #[error("there is no data node {node}")]
    NoSuchNode {
        /// What was named.
        node: NodeId,
    },
    /// The server holds as many watches as it may.
    #[error("the server holds {most} watches and takes no more")]
    TooManyWatches {
        /// As many as it may.
        most: u64,
    },
    /// A watcher did not take its events in time: the server ended its stream.
    #[error("the watcher took its events too slowly: resume after the last index that it has")]
    WatcherTooSlow,
    /// The id is, or was, another metadata server's.
    #[error(
        "the id of {node} is, or was, that of another server: start the new one under an id that was never used"
    )]
    MemberIdUsed {
        /// The id.
        node: NodeId,
    },
    /// No metadata server of the group has that id.
    #[error("{node} is no member of the metadata group")]
    NoSuchMember {
        /// What was named.
        node: NodeId,
    },
    /// The server does not answer the leader.
    #[error("{node} does not answer the leader at its address")]
    MemberUnreachable {
        /// The server.
        node: NodeId,
    },
    /// The server at that address is not an empty one that waits to be added under that id.
    #[error(
        "at that address {node} answers, and it is not the empty server that waits to be added under that id"
    )]
    NotWaiting {
        /// Who answered.
        node: NodeId,
    },
    /// The learner lacks too much of the log to vote.
    #[error("{node} lacks {lag} entries of the log: it votes once it has caught up")]
    MemberBehind {
        /// The learner.
        node: NodeId,
        /// Entries that it lacks.
        lag: u64,
    },
    /// The voters before or after the change have no majority that answers.
    #[error("{live} of {voters} voters, before or after the change, answer: that is no majority")]
    NoLiveMajority {
        /// The voters that answer.
        live: u64,
        /// All voters.
        voters: u64,
    },
    /// The cluster's feature level is below what the request needs: some member is of an older build.
    #[error(
        "the cluster's feature level is {level}, and this needs {needs}: upgrade the metadata servers that \
         `cairn admin raft status` shows with a lower one"
    )]
    NeedsLevel {
        /// The level that it needs.
        needs: u32,
        /// The cluster's.
        level: u32,
    },
    /// The server does not apply the cluster's feature level.
    #[error(
        "{node} applies feature levels up to {highest}, and the cluster's is {level}: start it from the release \
         that the others run"
    )]
    MemberLevel {
        /// The server.
        node: NodeId,
        /// The highest level that it applies.
        highest: u32,
        /// The cluster's.
        level: u32,
    },
    /// S3 did not answer, or refused.
    #[error("the under-store did not answer")]
    UnderStore,
    /// The object changed since the metadata read it: refresh the file.
    #[error("the object changed in the bucket")]
    ObjectChanged,
    /// The disk has failed and is retired.
    #[error("the disk is retired after a failed write or fsync")]
    DiskRetired,
    /// The disk is full: of what is not in S3 yet it takes no more.
    #[error(
        "the disk of {node} is full: {free_bytes} of {capacity_bytes} bytes are left for what is not in S3 yet"
    )]
    DiskFull {
        /// The node; 0, and no figures, when it is of a build that did not tell.
        node: NodeId,
        /// Bytes that it could still take of what may not be evicted, if all of it lay together.
        free_bytes: u64,
        /// Bytes of such that it takes at most.
        capacity_bytes: u64,
    },
    /// Something inside failed that should not have; the server's log has it.
    #[error("internal error")]
    Internal,
    /// A data node is not drained when too few others would be left.
    #[error(
        "{node} cannot be drained: chunks need {needed} data nodes, and {left} would be left that live, have a disk \
         that takes writes, and stay"
    )]
    TooFewLeft {
        /// The node.
        node: NodeId,
        /// Processes that would be left.
        left: u64,
        /// The greatest `min_replicas` of the root's policy and of those of open chunks.
        needed: u64,
    },
}
