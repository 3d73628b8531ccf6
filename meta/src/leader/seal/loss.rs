//! A chunk whose end nothing proves ends where an operator accepts it (rule R5): the round of any
//! seal, with the operator's word in place of the proof.

use cairn_types::{Chain, ChunkId, FsError, NodeId, Timestamp};

use super::decide::{self, Answer, End, Undecided};
use super::round;
use crate::keys::chunks::{ChunkRecord, ChunkState};
use crate::leader::tenure::{Refused, Tenure};
use crate::namespace::Command;

/// What is left of an undecided chunk, as its fenced replicas answered.
#[derive(Clone, Debug)]
pub struct Loss {
    /// The chunk, Sealing.
    pub record: ChunkRecord,
    /// What its replicas answered.
    pub answers: Vec<Answer>,
    /// The highest committed length that one of them had heard of.
    pub heard: u64,
    end: End,
}

impl Loss {
    /// Where the chunk would end: the longest valid prefix answered, 0 when nobody answered.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.end.length
    }
}

/// What an operator accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The end that was shown.
    pub length: u64,
    /// Also when nothing is left, and the end is 0.
    pub nothing_left: bool,
}

/// Why a loss was not accepted. Nothing was decided.
#[derive(Debug, thiserror::Error)]
pub enum LossRefused {
    /// The chunk does not wait for its end.
    #[error("{chunk} is not being sealed")]
    NotUndecided {
        /// The chunk.
        chunk: ChunkId,
    },
    /// Its replicas answer enough.
    #[error("the answers decide {chunk}")]
    Decidable {
        /// The chunk.
        chunk: ChunkId,
    },
    /// Another end than the accepted one is left.
    #[error("{length} bytes of {chunk} are left")]
    Differs {
        /// The chunk.
        chunk: ChunkId,
        /// The longest valid prefix answered.
        length: u64,
    },
    /// The end would be 0, and that was not accepted.
    #[error("nothing is left of {chunk}")]
    NothingLeft {
        /// The chunk.
        chunk: ChunkId,
    },
    /// Two replicas hold different records.
    #[error("two replicas of {chunk} hold different records below byte {length}")]
    Diverged {
        /// The chunk.
        chunk: ChunkId,
        /// The length that both answered.
        length: u64,
    },
    /// Too few nodes could be brought to the accepted end.
    #[error("{available} nodes hold the accepted end, {needed} are needed")]
    TooFewHolders {
        /// Nodes that hold it.
        available: usize,
        /// Nodes that must.
        needed: usize,
    },
    /// The decision did not get into the log, or that is unknown.
    #[error(transparent)]
    Proposal(Refused),
}

/// Fences the replicas of a chunk and tells what is left of it. Decides nothing.
///
/// # Errors
/// [`LossRefused`]: `NotUndecided`, `Decidable`, `Diverged`.
pub async fn look(tenure: &Tenure, record: ChunkRecord) -> Result<Loss, LossRefused> {
    let chunk = record.chunk;
    if record.state != ChunkState::Sealing {
        return Err(LossRefused::NotUndecided { chunk });
    }
    let answers = round::fence(tenure, &record).await;
    match decide::decide(&answers, record.policy.ack, record.replicas.len()) {
        Ok(_) => {
            tenure.seals.retry();
            return Err(LossRefused::Decidable { chunk });
        }
        Err(why) => tenure.seals.stuck.note(&record, &answers, why),
    }
    let end = match decide::what_is_left(&answers) {
        Ok(end) => end,
        Err(Undecided::Diverged { length }) => return Err(LossRefused::Diverged { chunk, length }),
        Err(Undecided::NoProof | Undecided::BelowHeard { .. }) => nothing(&record),
    };
    Ok(Loss { heard: decide::heard(&answers), record, answers, end })
}

/// The end of a chunk of which nobody has anything. What earlier chunks decided stays decided.
fn nothing(record: &ChunkRecord) -> End {
    End {
        length: 0,
        chain: Chain::default(),
        marks: record.activation.marks.clone(),
        mtime: Timestamp(0),
        holders: Vec::new(),
        short: Vec::new(),
    }
}

/// Ends the chunk at what is left of it: brings enough replicas there, then puts the decision into
/// the log. It is durable, on a majority of the metadata servers, when this returns.
///
/// # Errors
/// [`LossRefused`]; only `Proposal` may leave the chunk decided.
pub async fn accept(tenure: &Tenure, loss: &Loss, accepted: Accepted) -> Result<ChunkRecord, LossRefused> {
    let Loss { record, answers, heard, end } = loss;
    let (chunk, length, heard) = (record.chunk, end.length, *heard);
    if length != accepted.length {
        return Err(LossRefused::Differs { chunk, length });
    }
    if length == 0 && !accepted.nothing_left {
        return Err(LossRefused::NothingLeft { chunk });
    }
    let (holders, needed) = round::bring_up(tenure, record, end).await;
    if holders.len() < needed {
        return Err(LossRefused::TooFewHolders { available: holders.len(), needed });
    }
    let mut answered: Vec<NodeId> = answers.iter().map(|a| a.node).collect();
    answered.sort_unstable();
    let command = Command::AcceptLoss {
        chunk,
        epoch: record.epoch,
        length,
        chain: end.chain,
        holders,
        marks: end.marks.clone(),
        mtime: end.mtime,
        heard,
        answered,
    };
    let sealed = match tenure.propose(command).await {
        Ok(answer) => answer.chunk,
        // A round or another operator came first, or its bytes are gone with their file.
        Err(Refused::Fs(FsError::ChunkState { .. } | FsError::ChunkGone { .. })) => {
            return Err(LossRefused::NotUndecided { chunk });
        }
        Err(error) => return Err(LossRefused::Proposal(error)),
    };
    tracing::warn!(%chunk, length, heard, "an operator accepted a loss: the chunk is sealed");
    metrics::counter!("cairn_meta_losses_accepted_total").increment(1);
    tenure.seals.stuck.forget(chunk);
    let sealed = sealed.ok_or(LossRefused::NotUndecided { chunk })?;
    tenure.announce_sealed(&sealed);
    Ok(sealed)
}
