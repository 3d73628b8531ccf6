//! The bytes of Raft's own records, on disk and between servers. docs/FORMAT.md shows them.
//! openraft's types are converted here, so that its releases do not change our formats.

mod messages;

use std::collections::{BTreeMap, BTreeSet};

use bincode::{Decode, Encode};
use bytes::Bytes;
use cairn_types::codec::{self, CodecError};
use openraft::EntryPayload;
use openraft::impls::{BasicNode, leader_id_std};
use openraft::vote::RaftLeaderIdExt;

pub use messages::{
    AppendRecord, AppendedRecord, AskVoteRecord, Streamed, StreamedRecord, TransferRecord, TransferredRecord,
    VotedRecord,
};

use super::types::{Entry, LogId, Members, Proposal, SnapshotMeta, Vote};

/// The format byte of every record here and in `record/messages.rs`.
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
