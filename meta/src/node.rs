//! [`Node`]: this server's handle on the replicated state. The services and the leader's jobs
//! propose commands and read through it; they never see Raft.

use std::time::Duration;

use cairn_types::{ClusterId, LogIndex, NodeId};
use tokio::sync::watch;

use crate::namespace::{Command, Reply};
use crate::store::Snapshot;

/// A Raft term: raised by each election, led by at most one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub u64);

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// Sees everything acknowledged before the read began: one round to a majority (ReadIndex).
    #[default]
    Linearizable,
    /// The same as long as the servers' monotonic clocks run at the same rate: no round.
    Lease,
}

/// Why a proposal or a read was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// Another server leads, or none does at the moment.
    #[error("this server does not lead")]
    NotLeader {
        /// The leader and its advertised `host:port`, when known.
        leader: Option<(NodeId, String)>,
    },
    /// The deadline passed. A proposal's outcome is unknown: it may still be applied.
    #[error("the deadline passed before the outcome was known")]
    Deadline,
    /// The admission queue is full: nothing was proposed.
    #[error("too many requests are waiting")]
    Overloaded,
    /// The server is stopping. A proposal's outcome is unknown.
    #[error("the server is stopping")]
    Stopping,
    /// The server has stopped by itself, as after a failed fsync; its log has the reason.
    #[error("the server has stopped after a failure of its storage")]
    Fatal,
}

/// The state at one point in time.
pub struct ReadView {
    /// A consistent snapshot of the state store.
    pub store: Snapshot,
    /// The last entry that the snapshot has applied.
    pub applied: LogIndex,
}

/// One member of the group, as this server sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its id.
    pub node: NodeId,
    /// Its advertised `host:port`.
    pub address: String,
    /// It votes.
    pub voter: bool,
    /// On the leader: the last entry known to be on that member. `None` elsewhere.
    pub matched: Option<LogIndex>,
    /// On the leader: milliseconds since it last answered. `None` elsewhere, or when it never has.
    pub silent_ms: Option<u64>,
}

/// What this server knows of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftStatus {
    /// This server.
    pub node: NodeId,
    /// The term it is in.
    pub term: Term,
    /// The leader, when known.
    pub leader: Option<(NodeId, String)>,
    /// The last entry of its log.
    pub last_log: LogIndex,
    /// The last entry it has applied.
    pub applied: LogIndex,
    /// The last entry in its newest snapshot.
    pub snapshot: LogIndex,
    /// All members.
    pub members: Vec<MemberStatus>,
}

/// This server's handle on the replicated state; cheap to clone.
#[derive(Clone)]
pub struct Node {}

impl Node {
    /// Proposes `command` and waits until it is on a majority's disks and applied here.
    /// Stamps the entry's time. The answer is the state machine's.
    ///
    /// # Errors
    /// [`NodeError`]; after `Deadline`, `Stopping` and `Fatal` the outcome is unknown.
    pub async fn propose(&self, command: Command, deadline: Duration) -> Result<(LogIndex, Reply), NodeError>;

    /// As [`Node::propose`], in slots reserved for the cluster's own work.
    ///
    /// # Errors
    /// As [`Node::propose`].
    pub async fn propose_internal(
        &self,
        command: Command,
        deadline: Duration,
    ) -> Result<(LogIndex, Reply), NodeError>;

    /// The state, as fresh as `consistency` says.
    ///
    /// # Errors
    /// [`NodeError::NotLeader`] on a follower; `Deadline` when no majority answers.
    pub async fn read(&self, consistency: Consistency) -> Result<ReadView, NodeError>;

    /// The state as it is applied here at this moment, however stale.
    pub fn read_local(&self) -> ReadView;

    /// True while this server leads.
    pub fn is_leader(&self) -> bool;

    /// `Some(term)` while this server leads and has applied an entry of its own term.
    pub fn leadership(&self) -> watch::Receiver<Option<Term>>;

    /// Hands leadership to `to`, or to the most up-to-date other voter; waits until it has moved.
    ///
    /// # Errors
    /// `NotLeader` on a follower; `Deadline` when it did not move.
    pub async fn transfer_leader(&self, to: Option<NodeId>, deadline: Duration) -> Result<(), NodeError>;

    /// What this server knows of the group.
    pub fn status(&self) -> RaftStatus;

    /// This server's id.
    pub fn id(&self) -> NodeId;

    /// The cluster's id, once this server has learned it.
    pub fn cluster_id(&self) -> Option<ClusterId>;

    /// The last applied entry, as it grows: waiters for events look at the state at each change.
    pub fn applied(&self) -> watch::Receiver<LogIndex>;
}
