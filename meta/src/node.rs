//! [`Node`]: this server's handle on the replicated state. The services and the leader's jobs
//! propose commands and read through it; they never see Raft.

mod admission;
mod compare;
mod figures;
mod form;
mod join;
mod lead;
mod level;
mod members;
mod read;
mod start;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use cairn_types::{Clock, ClusterId, FeatureLevel, FeatureLevels, LogIndex, NodeId};
use futures::TryStreamExt;
use tokio::sync::{Semaphore, watch};

use crate::namespace::{Command, Entry, Reply};
use crate::raft::engine::{
    ClientWriteError, Fatal, ForwardToLeader, Instant as _, RaftMetrics, TypeConfigExt, WatchReceiver,
};
use crate::raft::flusher::FlushCounts;
use crate::raft::lease::Lease;
use crate::raft::log_disk::LogDisk;
use crate::raft::machine::View;
use crate::raft::network::Network;
use crate::raft::service::RaftService;
use crate::raft::snapshot::Snapshots;
use crate::raft::standing::Standing;
use crate::raft::state::{State, read_applied};
use crate::raft::{Proposal, Raft, TypeConfig};
use crate::store::Snapshot;

use admission::Admission;
use read::Reader;

pub use members::{Changed, MemberError, PROMOTE_LAG_MAX, REACHABLE_MS};
pub use start::{Settings, StartError, Started};

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
    /// As fresh as `Linearizable`, on a follower too: the leader tells it how far it must be.
    AnyServer,
    /// On a follower too: shows everything acknowledged longer ago than this. No round while one of
    /// these last ones is recent enough.
    Stale(Duration),
}

impl Consistency {
    /// Its name in metrics.
    fn name(self) -> &'static str {
        match self {
            Self::Linearizable => "linearizable",
            Self::Lease => "lease",
            Self::AnyServer => "any_server",
            Self::Stale(_) => "stale",
        }
    }
}

/// Why a proposal or a read was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// Another server leads, or none does at the moment: nothing was proposed.
    #[error("this server does not lead")]
    NotLeader {
        /// The leader and its advertised `host:port`, when known.
        leader: Option<(NodeId, String)>,
    },
    /// The deadline passed, or the leader changed meanwhile. A proposal's outcome is unknown: it may
    /// still be applied.
    #[error("the deadline passed before the outcome was known")]
    Deadline,
    /// The node asked to lead is not a voter of the group.
    #[error("{node} is not a voter of the group")]
    NotVoter {
        /// The node.
        node: NodeId,
    },
    /// The node asked to lead has been silent for some seconds: nothing was changed.
    #[error("{node} does not answer")]
    Silent {
        /// The node.
        node: NodeId,
    },
    /// The cluster's feature level is below what the command needs: it was not proposed.
    #[error("the cluster's feature level is {level}, and this needs {needs}")]
    NeedsLevel {
        /// What it needs.
        needs: FeatureLevel,
        /// The cluster's.
        level: FeatureLevel,
    },
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

/// The state at one point in time; cheap to clone.
#[derive(Clone)]
pub struct ReadView {
    /// A consistent snapshot of the state store.
    pub store: Snapshot,
    /// The last entry that the snapshot has applied.
    pub applied: LogIndex,
    /// On the boot clock: it shows everything acknowledged before. `None`: that is not known.
    pub as_of: Option<Duration>,
    /// Keeps the database's files while the snapshot is read.
    _state: Arc<State>,
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
    /// On the leader, and of this server itself: the feature levels that it last told. `None` elsewhere,
    /// or when it has not told any.
    pub levels: Option<FeatureLevels>,
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
    /// Two sets of voters are in force: a change is not finished.
    pub changing: bool,
    /// The cluster's feature level, as far as this server has applied.
    pub level: FeatureLevel,
}

/// What became of a proposal: the entry and the state machine's answer, or why there is none.
pub type Outcome = Result<(LogIndex, Reply), NodeError>;

/// This server's handle on the replicated state; cheap to clone.
#[derive(Clone)]
pub struct Node {
    shared: Arc<Shared>,
}

struct Shared {
    id: NodeId,
    raft: Raft,
    network: Network,
    view: View,
    clock: Arc<dyn Clock>,
    admission: Admission,
    reader: Reader,
    lease: Lease,
    leadership: watch::Receiver<Option<Term>>,
    flushes: Arc<FlushCounts>,
    service: RaftService,
    standing: watch::Receiver<Standing>,
    snapshots: Arc<Snapshots>,
    log_dir: PathBuf,
    log: Weak<dyn LogDisk>,
    // One change of the members at a time.
    changing: Arc<Semaphore>,
    levels: FeatureLevels,
    told: watch::Receiver<level::Told>,
    // No member is added while the feature level is raised, and none raises it while one is added.
    leveling: Semaphore,
}

type Metrics = RaftMetrics<TypeConfig>;

impl Node {
    /// Proposes `command` and waits until it is on a majority's disks and applied here.
    /// Stamps the entry's time. The answer is the state machine's.
    ///
    /// # Errors
    /// [`NodeError`]; after `Deadline`, `Stopping` and `Fatal` the outcome is unknown.
    pub async fn propose(
        &self,
        command: Command,
        deadline: Duration,
    ) -> Result<(LogIndex, Reply), NodeError> {
        self.propose_in(&self.shared.admission.clients, vec![command], deadline).await.and_then(lone)
    }

    /// As [`Node::propose`], of several at once, which share an append and its fsync: for each its
    /// outcome, in their order.
    ///
    /// # Errors
    /// [`NodeError`] when that is the outcome of all.
    pub async fn propose_all(
        &self,
        commands: Vec<Command>,
        deadline: Duration,
    ) -> Result<Vec<Outcome>, NodeError> {
        self.propose_in(&self.shared.admission.clients, commands, deadline).await
    }

    /// As [`Node::propose`], in slots reserved for the cluster's own work.
    ///
    /// # Errors
    /// As [`Node::propose`].
    pub async fn propose_internal(
        &self,
        command: Command,
        deadline: Duration,
    ) -> Result<(LogIndex, Reply), NodeError> {
        self.propose_in(&self.shared.admission.cluster, vec![command], deadline).await.and_then(lone)
    }

    async fn propose_in(
        &self,
        slots: &admission::Slots,
        commands: Vec<Command>,
        deadline: Duration,
    ) -> Result<Vec<Outcome>, NodeError> {
        let (time, level) = (self.shared.clock.wall(), self.level());
        let commands: Vec<Command> = commands.into_iter().map(|command| command.at(level)).collect();
        let allowed: Vec<Result<(), NodeError>> = commands.iter().map(|c| self.check_level(c)).collect();
        let commands = commands.into_iter().zip(&allowed).filter(|(_, allowed)| allowed.is_ok());
        let proposals: Vec<Proposal> =
            commands.map(|(command, _)| Proposal(Entry { time, command }.to_bytes().into())).collect();
        if proposals.is_empty() {
            return Ok(allowed.into_iter().map(|refused| refused.and(Err(NodeError::Fatal))).collect());
        }
        let slot = slots.take(proposals.len(), proposals.iter().map(|p| p.0.len()).sum())?;
        let begun = self.shared.clock.boottime();
        let raft = self.shared.raft.clone();
        // The entries may wait in Raft's queue for longer than their caller does: the slot is given
        // back only when they have left.
        let write = tokio::spawn(async move {
            let written = match raft.client_write_many(proposals).await {
                Ok(results) => results.try_collect::<Vec<_>>().await,
                Err(fatal) => Err(fatal),
            };
            drop(slot);
            written
        });
        let ended = tokio::time::timeout(deadline, write).await.map_err(|_| NodeError::Deadline)?;
        // The task ends early only with the runtime.
        let written = ended.map_err(|_| NodeError::Stopping)?;
        let results = written.map_err(|fatal| Self::fatal(&fatal))?;
        let took = self.shared.clock.boottime().saturating_sub(begun);
        metrics::histogram!("cairn_meta_propose_seconds").record(took.as_secs_f64());
        metrics::histogram!("cairn_meta_propose_batch_entries").record(results.len() as f64);
        let mut outcomes = results.into_iter().map(|result| {
            let written = result.map_err(|error| self.refused(&error))?;
            // The answer to a command is never empty: only blank and membership entries have none.
            let reply = written.response.0.ok_or(NodeError::Fatal)?;
            Ok((LogIndex(written.log_id.index), reply))
        });
        let outcome = |allowed: Result<(), NodeError>| {
            allowed?;
            outcomes.next().unwrap_or(Err(NodeError::Fatal))
        };
        Ok(allowed.into_iter().map(outcome).collect())
    }

    /// Refuses a command that needs a higher feature level than the cluster has. A server that does not
    /// lead may not know that it was raised.
    fn check_level(&self, command: &Command) -> Result<(), NodeError> {
        let (needs, level) = (command.needs(), self.level());
        if needs <= level {
            Ok(())
        } else if self.is_leader() {
            Err(NodeError::NeedsLevel { needs, level })
        } else {
            let leader = leader_of(&self.metrics()).filter(|(id, _)| *id != self.shared.id);
            Err(NodeError::NotLeader { leader })
        }
    }

    /// The cluster's feature level, as far as this server has applied.
    #[must_use]
    pub fn level(&self) -> FeatureLevel {
        *self.shared.view.level.borrow()
    }

    /// The feature levels that this server applies.
    #[must_use]
    pub fn levels(&self) -> FeatureLevels {
        self.shared.levels
    }

    /// The state, as fresh as `consistency` says.
    ///
    /// # Errors
    /// [`NodeError::NotLeader`] on a follower; `Deadline` when no majority answers.
    pub async fn read(&self, consistency: Consistency) -> Result<ReadView, NodeError> {
        self.shared.reader.read(self, consistency).await
    }

    /// The state as it is applied here at this moment, however stale.
    ///
    /// # Errors
    /// `Stopping` when the state is closed already; `Fatal` when the store failed.
    pub fn read_local(&self) -> Result<ReadView, NodeError> {
        let state = self.shared.view.current.get().ok_or(NodeError::Stopping)?;
        let store = state.store().snapshot();
        let applied = read_applied(store.as_ref()).map_err(|error| {
            tracing::error!(%error, cause = ?error, "the state cannot be read");
            NodeError::Fatal
        })?;
        let applied = LogIndex(applied.applied.map_or(0, |id| id.index));
        Ok(ReadView { store, applied, as_of: None, _state: state })
    }

    /// True while this server leads, as far as it knows.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.shared.leadership.borrow().is_some()
    }

    /// `Some(term)` while this server leads and has applied an entry of its own term.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Option<Term>> {
        self.shared.leadership.clone()
    }

    /// Hands leadership to `to`, or to the most up-to-date other voter; waits until it has moved.
    ///
    /// # Errors
    /// `NotLeader` on a follower; `NotVoter`; `Silent`; `Deadline` when it did not move.
    pub async fn transfer_leader(&self, to: Option<NodeId>, deadline: Duration) -> Result<(), NodeError> {
        lead::transfer(self, to, deadline).await
    }

    /// What this server knows of the group.
    #[must_use]
    pub fn status(&self) -> RaftStatus {
        let metrics = self.metrics();
        let index = |id: Option<crate::raft::types::LogId>| LogIndex(id.map_or(0, |id| id.index));
        let voters: Vec<u64> = metrics.membership_config.voter_ids().collect();
        let removed = self.is_removed();
        let told = self.shared.told.borrow().clone();
        let members = metrics.membership_config.nodes().map(|(id, member)| {
            let replicated = metrics.replication.as_ref().and_then(|r| r.get(id));
            MemberStatus {
                node: NodeId(*id),
                address: member.addr.clone(),
                voter: voters.contains(id),
                matched: replicated.map(|id| index(*id)),
                silent_ms: silent_ms(&metrics, *id),
                levels: if *id == self.shared.id.0 { Some(self.levels()) } else { told.get(id).copied() },
            }
        });
        RaftStatus {
            node: self.shared.id,
            term: Term(metrics.current_term),
            leader: leader_of(&metrics).filter(|_| !removed),
            last_log: LogIndex(metrics.last_log_index.unwrap_or(0)),
            applied: *self.shared.view.applied.borrow(),
            snapshot: index(metrics.snapshot),
            members: members.collect(),
            changing: metrics.membership_config.membership().get_joint_config().len() > 1,
            level: self.level(),
        }
    }

    /// True when there is a leader with a majority, as far as this server could see within `limit`.
    #[must_use]
    pub fn is_led(&self, limit: Duration) -> bool {
        let metrics = self.metrics();
        if self.is_removed() {
            return false;
        }
        if metrics.current_leader != Some(self.shared.id.0) {
            return metrics.current_leader.is_some() && self.shared.service.heard_within(limit);
        }
        let alone = metrics.membership_config.voter_ids().count() == 1;
        alone || metrics.last_quorum_acked.is_some_and(|at| at.elapsed() < limit)
    }

    /// True once this server has found out that it was removed from the group.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        *self.shared.standing.borrow() == Standing::Removed
    }

    /// This server's id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.shared.id
    }

    /// The cluster's id, once this server has learned it.
    #[must_use]
    pub fn cluster_id(&self) -> Option<ClusterId> {
        *self.shared.view.cluster.borrow()
    }

    /// The cluster's id, for those who wait for it.
    #[must_use]
    pub fn cluster(&self) -> watch::Receiver<Option<ClusterId>> {
        self.shared.view.cluster.clone()
    }

    /// The last applied entry, as it grows: waiters for events look at the state at each change.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<LogIndex> {
        self.shared.view.applied.clone()
    }

    /// Fsyncs of the log and the appends and votes that they completed, since the start.
    #[must_use]
    pub fn flushes(&self) -> Arc<FlushCounts> {
        Arc::clone(&self.shared.flushes)
    }

    /// The service for the other metadata servers.
    #[must_use]
    pub fn raft_service(&self) -> RaftService {
        self.shared.service.clone()
    }

    /// Waits until the Raft core has stopped by itself, as after a failed fsync.
    pub async fn failed(&self) {
        // It ends with the core, and does not change with every entry, as those that tell the reason do.
        let mut standing = self.shared.raft.server_metrics();
        while standing.changed().await.is_ok() {}
        if let Err(reason) = self.metrics().running_state
            && !matches!(reason, Fatal::Stopped)
        {
            tracing::error!(%reason, "Raft has stopped");
        }
    }

    /// Raft's metrics at this moment: cloned at once, since a held reference blocks Raft.
    /// True when a majority has heard this leader so lately that its state is the newest.
    fn has_lease(&self) -> bool {
        let metrics = self.shared.raft.metrics();
        self.shared.lease.holds(&metrics.borrow_watched(), || self.shared.clock.boottime())
    }

    fn metrics(&self) -> Metrics {
        self.shared.raft.metrics().borrow_watched().clone()
    }

    fn not_leader(&self, forward: &ForwardToLeader<TypeConfig>) -> NodeError {
        let named = forward.leader_id.zip(forward.leader_node.as_ref());
        let leader = named.map(|(id, node)| (NodeId(id), node.addr.clone()));
        // A server that names itself is one that is just handing over.
        NodeError::NotLeader { leader: leader.filter(|(id, _)| *id != self.shared.id) }
    }

    fn fatal(error: &Fatal<TypeConfig>) -> NodeError {
        match error {
            Fatal::Stopped => NodeError::Stopping,
            _ => NodeError::Fatal,
        }
    }

    fn refused(&self, error: &ClientWriteError<TypeConfig>) -> NodeError {
        match error {
            ClientWriteError::ForwardToLeader(forward) => self.not_leader(forward),
            // A new leader has pushed the entry out of this server's log: whether it is in the new
            // leader's is not known here.
            ClientWriteError::LogEntryDiscarded(_) => NodeError::Deadline,
            // These two belong to calls that are never made here.
            ClientWriteError::ChangeMembershipError(_) | ClientWriteError::PreconditionFailed(_) => {
                NodeError::Fatal
            }
        }
    }
}

/// The outcome of a proposal that was made alone.
fn lone(outcomes: Vec<Outcome>) -> Outcome {
    // Raft answers every entry that it takes, or fails as a whole.
    outcomes.into_iter().next().unwrap_or(Err(NodeError::Fatal))
}

fn leader_of(metrics: &Metrics) -> Option<(NodeId, String)> {
    let id = metrics.current_leader?;
    let nodes: BTreeMap<u64, String> =
        metrics.membership_config.nodes().map(|(id, node)| (*id, node.addr.clone())).collect();
    nodes.get(&id).map(|address| (NodeId(id), address.clone()))
}

/// Milliseconds since a member last answered this leader; `None` when it never has, or elsewhere.
fn silent_ms(metrics: &Metrics, id: u64) -> Option<u64> {
    let heard = metrics.heartbeat.as_ref().and_then(|h| h.get(&id)).copied().flatten();
    heard.map(|at| millis(TypeConfig::now() - *at))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
