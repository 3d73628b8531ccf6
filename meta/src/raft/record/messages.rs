//! What goes between servers alone: appends, votes, the lead's transfer, and the answers to them.

use bincode::{Decode, Encode};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, TransferLeaderError,
    TransferLeaderRequest, VoteRequest, VoteResponse,
};

use super::{EntryRecord, LogIdRecord, RecordError, VoteRecord, id_record, log_id};
use crate::raft::types::{Entry, LogId, TypeConfig};

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

impl AskVoteRecord {
    /// The leader wants it so: it has given up its lease.
    #[must_use]
    pub fn is_transfer(&self) -> bool {
        self.transfer
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
