//! Rule R5: where a chunk ends, from what its fenced replicas answered. Pure.

use cairn_types::{Ack, Chain, NodeId, Policy, ReplicaHealth, Timestamp, WriterMark};

/// What one replica answered after it was fenced at the round's epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The replica's node.
    pub node: NodeId,
    /// The end of its valid prefix, in bytes.
    pub length: u64,
    /// The chain there.
    pub chain: Chain,
    /// The last sequence of each writer below `length`.
    pub marks: Vec<WriterMark>,
    /// What the answer proves.
    pub health: ReplicaHealth,
    /// The highest committed length that it had heard of.
    pub heard_committed: u64,
    /// Wall time of its last record; the epoch when it has none.
    pub mtime: Timestamp,
}

impl Answer {
    /// True when its bytes count: a damaged replica counts for nothing but what it heard.
    fn counts(&self) -> bool {
        self.health != ReplicaHealth::Damaged
    }
}

/// The end of a chunk, once it is decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The decided length in bytes.
    pub length: u64,
    /// The chain at `length`.
    pub chain: Chain,
    /// The last decided sequence of each writer.
    pub marks: Vec<WriterMark>,
    /// Wall time of the last decided record.
    pub mtime: Timestamp,
    /// Nodes that have exactly this end, ascending: the first holders.
    pub holders: Vec<NodeId>,
    /// Nodes whose valid prefix is shorter, ascending: they can be extended.
    pub short: Vec<NodeId>,
}

/// Why the answers so far decide nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecided {
    /// No clean replica has answered, and those in limbo are too few to stand in for one.
    #[error("no clean replica has answered, and the restarted ones are too few to decide")]
    NoProof,
    /// A committed length was heard of that no valid prefix reaches.
    #[error("{heard} bytes are known to be committed, and the longest valid prefix has {longest}")]
    BelowHeard {
        /// The committed length heard.
        heard: u64,
        /// The longest valid prefix answered.
        longest: u64,
    },
    /// Two replicas have the same length and different records: a bug or a forged answer.
    #[error("two replicas hold different records below byte {length}")]
    Diverged {
        /// The length that both answered.
        length: u64,
    },
}

/// Decides a chunk's end by rule R5.
///
/// `replicas` is the size of the chunk's set; `answers` holds at most one answer a replica.
///
/// # Errors
/// [`Undecided`], and why: ask the replicas that are missing again.
pub fn decide(answers: &[Answer], ack: Ack, replicas: usize) -> Result<End, Undecided> {
    let counting: Vec<&Answer> = answers.iter().filter(|a| a.counts()).collect();
    let longest = counting.iter().max_by_key(|a| a.length).ok_or(Undecided::NoProof)?;
    if let Some(length) = divergence(&counting) {
        return Err(Undecided::Diverged { length });
    }
    if !proves(&counting, ack, replicas) {
        return Err(Undecided::NoProof);
    }
    let heard = heard(answers);
    if heard > longest.length {
        return Err(Undecided::BelowHeard { heard, longest: longest.length });
    }
    let (holders, short): (Vec<&Answer>, Vec<&Answer>) =
        counting.iter().copied().partition(|a| a.length == longest.length);
    Ok(end_at(longest, &holders, &short))
}

/// What is left of a chunk that nothing proves the end of: the longest valid prefix answered. This
/// is its end once an operator has accepted that the rest is lost.
///
/// A damaged replica counts here by its valid prefix, since nothing better is there; it is a holder
/// only if no other replica has that length.
///
/// # Errors
/// [`Undecided::NoProof`] when nobody has answered; [`Undecided::Diverged`].
pub fn what_is_left(answers: &[Answer]) -> Result<End, Undecided> {
    let length = answers.iter().map(|a| a.length).max().ok_or(Undecided::NoProof)?;
    let counting: Vec<&Answer> = answers.iter().filter(|a| a.counts()).collect();
    let mut holders: Vec<&Answer> = counting.iter().copied().filter(|a| a.length == length).collect();
    if holders.is_empty() {
        holders = answers.iter().filter(|a| a.length == length).collect();
    }
    if let Some(length) = divergence(&counting).or_else(|| divergence(&holders)) {
        return Err(Undecided::Diverged { length });
    }
    let longest = holders.first().copied().ok_or(Undecided::NoProof)?;
    let short: Vec<&Answer> = counting.iter().copied().filter(|a| a.length < length).collect();
    Ok(end_at(longest, &holders, &short))
}

/// The highest committed length that anyone has heard of.
#[must_use]
pub fn heard(answers: &[Answer]) -> u64 {
    answers.iter().map(|a| a.heard_committed).max().unwrap_or(0)
}

fn end_at(longest: &Answer, holders: &[&Answer], short: &[&Answer]) -> End {
    let nodes = |answers: &[&Answer]| {
        let mut nodes: Vec<NodeId> = answers.iter().map(|a| a.node).collect();
        nodes.sort_unstable();
        nodes
    };
    End {
        length: longest.length,
        chain: longest.chain,
        marks: longest.marks.clone(),
        mtime: longest.mtime,
        holders: nodes(holders),
        short: nodes(short),
    }
}

/// One clean answer proves the end; so do, for `fsync`, two in limbo or all of the set.
fn proves(counting: &[&Answer], ack: Ack, replicas: usize) -> bool {
    let clean = counting.iter().any(|a| a.health == ReplicaHealth::Clean);
    clean || (ack == Ack::Fsync && (counting.len() >= 2 || counting.len() >= replicas))
}

/// A length at which two counting answers have different chains.
fn divergence(counting: &[&Answer]) -> Option<u64> {
    counting.iter().enumerate().find_map(|(i, a)| {
        counting[i + 1..].iter().find(|b| a.length == b.length && a.chain != b.chain).map(|_| a.length)
    })
}

/// Replicas that must hold the decided end before `Sealed` may be proposed.
///
/// min(2, the set); one when fewer than two nodes are healthy and the policy lives with one.
#[must_use]
pub fn holders_needed(replicas: usize, healthy_nodes: usize, policy: &Policy) -> usize {
    if policy.min_replicas == 1 && healthy_nodes < 2 { 1 } else { replicas.clamp(1, 2) }
}
