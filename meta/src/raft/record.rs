//! The bytes of Raft's own records, on disk and between servers. docs/FORMAT.md shows them.
//! openraft's types are converted here, so that its releases do not change our formats.

use std::collections::{BTreeMap, BTreeSet};

use bincode::{Decode, Encode};
use bytes::Bytes;
use cairn_types::codec::{self, CodecError};
use openraft::EntryPayload;
use openraft::impls::{BasicNode, leader_id_std};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, TransferLeaderError,
    TransferLeaderRequest, VoteRequest, VoteResponse,
};
use openraft::vote::RaftLeaderIdExt;

use super::types::{Entry, LogId, Members, Proposal, SnapshotMeta, TypeConfig, Vote};

/// The format byte of every record in this file.
pub const FORMAT: u8 = 1;

/// A membership that no group can have, such as a voter without an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The bytes are not a record.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The record decodes, but its membership makes no sense.
    #[error("the membership names a voter that it does not describe")]
    Membership,
}

impl From<RecordError> for std::io::Error {
    fn from(error: RecordError) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, error)
    }
}

/// A log entry's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LogIdRecord {
    /// The term of the leader that proposed it.
    pub term: u64,
    /// Its place in the log.
    pub index: u64,
}

/// A vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct VoteRecord {
    /// The term.
    pub term: u64,
    /// The server voted for.
    pub node: u64,
    /// A majority has granted it: that server leads.
    pub committed: bool,
}

/// The members of the group: one set of voters, or two while it changes.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct MembershipRecord {
    /// Voter sets.
    pub voters: Vec<Vec<u64>>,
    /// Every member's id and address, voters and learners.
    pub members: Vec<(u64, String)>,
}

/// What an entry holds.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum PayloadRecord {
    /// Nothing: a new leader's first entry.
    Blank,
    /// An encoded `namespace::Entry`.
    Command(Vec<u8>),
    /// A change of the members.
    Membership(MembershipRecord),
}

/// A log entry.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct EntryRecord {
    /// Its identity.
    pub id: LogIdRecord,
    /// What it holds.
    pub payload: PayloadRecord,
}

/// What has been applied: the row that moves with every batch of the state, and a snapshot's meta.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct AppliedRecord {
    /// The last applied entry.
    pub applied: Option<LogIdRecord>,
    /// The entry that set the membership.
    pub membership_id: Option<LogIdRecord>,
    /// The membership.
    pub membership: MembershipRecord,
}

/// AppendEntries.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct AppendRecord {
    vote: VoteRecord,
    previous: Option<LogIdRecord>,
    commit: Option<LogIdRecord>,
    entries: Vec<EntryRecord>,
}

/// The answer to AppendEntries.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum AppendedRecord {
    /// Everything is on the follower's disk.
    Success,
    /// Everything up to here is.
    Partial(Option<LogIdRecord>),
    /// The previous entry does not match.
    Conflict,
    /// The follower has seen a higher vote.
    HigherVote(VoteRecord),
}

/// One answer in a stream of appends.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum StreamedRecord {
    /// Everything up to here is on the follower's disk.
    Success(Option<LogIdRecord>),
    /// The entry named does not match.
    Conflict(LogIdRecord),
    /// The follower has seen a higher vote.
    HigherVote(VoteRecord),
}

/// RequestVote and the pre-vote.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct AskVoteRecord {
    vote: VoteRecord,
    last: Option<LogIdRecord>,
    transfer: bool,
}

/// The answer to a vote.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct VotedRecord {
    vote: VoteRecord,
    granted: bool,
    last: Option<LogIdRecord>,
}

/// Asks the receiver to lead.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct TransferRecord {
    from: VoteRecord,
    to: u64,
    last: Option<LogIdRecord>,
}

/// The answer to it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum TransferredRecord {
    /// It stands for election.
    Accepted,
    /// Its vote is another: expected, actual.
    VoteChanged(VoteRecord, VoteRecord),
    /// Its log is behind: expected, actual.
    Behind(Option<LogIdRecord>, Option<LogIdRecord>),
}

/// Encodes a record behind the format byte.
pub fn encode<T: Encode>(record: &T) -> Bytes {
    codec::encode(FORMAT, record).into()
}

/// Decodes what [`encode`] wrote.
///
/// # Errors
/// [`RecordError::Codec`] for anything else.
pub fn decode<T: Decode<()>>(bytes: &[u8]) -> Result<T, RecordError> {
    Ok(codec::decode(FORMAT, bytes)?)
}

impl From<&LogId> for LogIdRecord {
    fn from(id: &LogId) -> Self {
        Self { term: id.leader_id.term, index: id.index }
    }
}

impl From<LogIdRecord> for LogId {
    fn from(id: LogIdRecord) -> Self {
        let leader = leader_id_std::LeaderId::<u64, u64>::new_committed(id.term, 0);
        Self { leader_id: leader, index: id.index }
    }
}

fn id_record(id: Option<&LogId>) -> Option<LogIdRecord> {
    id.map(LogIdRecord::from)
}

fn log_id(id: Option<LogIdRecord>) -> Option<LogId> {
    id.map(LogId::from)
}

impl From<&Vote> for VoteRecord {
    fn from(vote: &Vote) -> Self {
        Self { term: vote.leader_id.term, node: vote.leader_id.voted_for, committed: vote.committed }
    }
}

impl From<VoteRecord> for Vote {
    fn from(vote: VoteRecord) -> Self {
        let leader_id = leader_id_std::LeaderId { term: vote.term, voted_for: vote.node };
        Self { leader_id, committed: vote.committed }
    }
}

impl From<&openraft::Membership<u64, BasicNode>> for MembershipRecord {
    fn from(membership: &openraft::Membership<u64, BasicNode>) -> Self {
        Self {
            voters: membership.get_joint_config().iter().map(|set| set.iter().copied().collect()).collect(),
            members: membership.nodes().map(|(id, node)| (*id, node.addr.clone())).collect(),
        }
    }
}

impl TryFrom<MembershipRecord> for openraft::Membership<u64, BasicNode> {
    type Error = RecordError;

    fn try_from(record: MembershipRecord) -> Result<Self, RecordError> {
        let nodes: BTreeMap<u64, BasicNode> =
            record.members.into_iter().map(|(id, addr)| (id, BasicNode { addr })).collect();
        let voters: Vec<BTreeSet<u64>> =
            record.voters.into_iter().map(|set| set.into_iter().collect()).collect();
        if voters.is_empty() && nodes.is_empty() {
            return Ok(Self::default());
        }
        Self::new(voters, nodes).map_err(|_| RecordError::Membership)
    }
}

impl From<&Entry> for EntryRecord {
    fn from(entry: &Entry) -> Self {
        let payload = match &entry.payload {
            EntryPayload::Blank => PayloadRecord::Blank,
            EntryPayload::Normal(proposal) => PayloadRecord::Command(proposal.0.to_vec()),
            EntryPayload::Membership(membership) => PayloadRecord::Membership(membership.into()),
        };
        Self { id: LogIdRecord::from(&entry.log_id), payload }
    }
}

impl TryFrom<EntryRecord> for Entry {
    type Error = RecordError;

    fn try_from(record: EntryRecord) -> Result<Self, RecordError> {
        let payload = match record.payload {
            PayloadRecord::Blank => EntryPayload::Blank,
            PayloadRecord::Command(bytes) => EntryPayload::Normal(Proposal(bytes.into())),
            PayloadRecord::Membership(membership) => EntryPayload::Membership(membership.try_into()?),
        };
        Ok(Self { log_id: record.id.into(), payload })
    }
}

impl AppliedRecord {
    /// The record of `applied` under `members`.
    #[must_use]
    pub fn new(applied: Option<&LogId>, members: &Members) -> Self {
        Self {
            applied: id_record(applied),
            membership_id: id_record(members.log_id().as_ref()),
            membership: members.membership().into(),
        }
    }

    /// The last applied entry and the membership.
    ///
    /// # Errors
    /// [`RecordError::Membership`].
    pub fn open(self) -> Result<(Option<LogId>, Members), RecordError> {
        let members = Members::new(log_id(self.membership_id), self.membership.try_into()?);
        Ok((log_id(self.applied), members))
    }

    /// As a snapshot's meta.
    ///
    /// # Errors
    /// [`RecordError::Membership`].
    pub fn meta(self) -> Result<SnapshotMeta, RecordError> {
        let (last_log_id, last_membership) = self.open()?;
        Ok(SnapshotMeta { last_log_id, last_membership })
    }
}

impl From<&AppendEntriesRequest<TypeConfig>> for AppendRecord {
    fn from(request: &AppendEntriesRequest<TypeConfig>) -> Self {
        Self {
            vote: (&request.vote).into(),
            previous: id_record(request.prev_log_id.as_ref()),
            commit: id_record(request.leader_commit.as_ref()),
            entries: request.entries.iter().map(EntryRecord::from).collect(),
        }
    }
}

impl TryFrom<AppendRecord> for AppendEntriesRequest<TypeConfig> {
    type Error = RecordError;

    fn try_from(record: AppendRecord) -> Result<Self, RecordError> {
        Ok(Self {
            vote: record.vote.into(),
            prev_log_id: log_id(record.previous),
            leader_commit: log_id(record.commit),
            entries: record.entries.into_iter().map(Entry::try_from).collect::<Result<_, _>>()?,
        })
    }
}

impl From<&AppendEntriesResponse<TypeConfig>> for AppendedRecord {
    fn from(response: &AppendEntriesResponse<TypeConfig>) -> Self {
        match response {
            AppendEntriesResponse::Success => Self::Success,
            AppendEntriesResponse::PartialSuccess(id) => Self::Partial(id_record(id.as_ref())),
            AppendEntriesResponse::Conflict => Self::Conflict,
            AppendEntriesResponse::HigherVote(vote) => Self::HigherVote(vote.into()),
        }
    }
}

impl From<AppendedRecord> for AppendEntriesResponse<TypeConfig> {
    fn from(record: AppendedRecord) -> Self {
        match record {
            AppendedRecord::Success => Self::Success,
            AppendedRecord::Partial(id) => Self::PartialSuccess(log_id(id)),
            AppendedRecord::Conflict => Self::Conflict,
            AppendedRecord::HigherVote(vote) => Self::HigherVote(vote.into()),
        }
    }
}

/// What openraft answers to each request of a stream of appends.
pub type Streamed = Result<Option<LogId>, StreamAppendError<TypeConfig>>;

impl From<&Streamed> for StreamedRecord {
    fn from(result: &Streamed) -> Self {
        match result {
            Ok(id) => Self::Success(id_record(id.as_ref())),
            Err(StreamAppendError::Conflict(id)) => Self::Conflict(id.into()),
            Err(StreamAppendError::HigherVote(vote)) => Self::HigherVote(vote.into()),
        }
    }
}

impl From<StreamedRecord> for Streamed {
    fn from(record: StreamedRecord) -> Self {
        match record {
            StreamedRecord::Success(id) => Ok(log_id(id)),
            StreamedRecord::Conflict(id) => Err(StreamAppendError::Conflict(id.into())),
            StreamedRecord::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote.into())),
        }
    }
}

impl From<&VoteRequest<TypeConfig>> for AskVoteRecord {
    fn from(request: &VoteRequest<TypeConfig>) -> Self {
        Self {
            vote: (&request.vote).into(),
            last: id_record(request.last_log_id.as_ref()),
            transfer: request.leadership_transfer,
        }
    }
}

impl From<AskVoteRecord> for VoteRequest<TypeConfig> {
    fn from(record: AskVoteRecord) -> Self {
        let mut request = Self::new(record.vote.into(), log_id(record.last));
        request.leadership_transfer = record.transfer;
        request
    }
}

impl From<&VoteResponse<TypeConfig>> for VotedRecord {
    fn from(response: &VoteResponse<TypeConfig>) -> Self {
        Self {
            vote: (&response.vote).into(),
            granted: response.vote_granted,
            last: id_record(response.last_log_id.as_ref()),
        }
    }
}

impl From<VotedRecord> for VoteResponse<TypeConfig> {
    fn from(record: VotedRecord) -> Self {
        Self { vote: record.vote.into(), vote_granted: record.granted, last_log_id: log_id(record.last) }
    }
}

impl From<&TransferLeaderRequest<TypeConfig>> for TransferRecord {
    fn from(request: &TransferLeaderRequest<TypeConfig>) -> Self {
        Self {
            from: request.from_leader().into(),
            to: *request.to_node_id(),
            last: id_record(request.last_log_id()),
        }
    }
}

impl From<TransferRecord> for TransferLeaderRequest<TypeConfig> {
    fn from(record: TransferRecord) -> Self {
        Self::new(record.from.into(), record.to, log_id(record.last))
    }
}

impl From<&Result<(), TransferLeaderError<TypeConfig>>> for TransferredRecord {
    fn from(result: &Result<(), TransferLeaderError<TypeConfig>>) -> Self {
        match result {
            Ok(()) => Self::Accepted,
            Err(TransferLeaderError::VoteChanged { expected, actual }) => {
                Self::VoteChanged(expected.into(), actual.into())
            }
            Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
                Self::Behind(id_record(expected.as_ref()), id_record(actual.as_ref()))
            }
        }
    }
}

impl From<TransferredRecord> for Result<(), TransferLeaderError<TypeConfig>> {
    fn from(record: TransferredRecord) -> Self {
        match record {
            TransferredRecord::Accepted => Ok(()),
            TransferredRecord::VoteChanged(expected, actual) => {
                Err(TransferLeaderError::VoteChanged { expected: expected.into(), actual: actual.into() })
            }
            TransferredRecord::Behind(expected, actual) => {
                Err(TransferLeaderError::LogNotFlushed { expected: log_id(expected), actual: log_id(actual) })
            }
        }
    }
}
