//! Changing the members while the group runs: add, promote, remove, and the snapshot on request.
//! One change at a time; each is a Raft entry, or two that joint consensus keeps together.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cairn_types::{FeatureLevel, FsError, LogIndex, NodeId};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::{Metrics, Node, NodeError, lead};
use crate::keys::servers::{ID_MAX, KnownServer};
use crate::namespace::{Command, jobs};
use crate::raft::admission::{self, Applicant};
use crate::raft::engine::{
    BasicNode, ChangeMembers, ChangeMembershipError, ClientWriteError, RaftError, ServerState, WatchReceiver,
};
use crate::raft::{TypeConfig, snapshot};

/// A member that answered within this time is reachable, in milliseconds.
pub const REACHABLE_MS: u64 = 3000;
/// A learner that lacks no more entries than this may vote.
pub const PROMOTE_LAG_MAX: u64 = 1000;
/// How long a server that is to be added has to say who it is.
const ASK: Duration = Duration::from_secs(2);
/// How long a leader waits for members that it has not heard of, and how often it looks.
const HEAR: Duration = Duration::from_millis(REACHABLE_MS);
const HEAR_AGAIN: Duration = Duration::from_millis(50);
/// How long one entry of a change may take.
const ENTRY: Duration = Duration::from_secs(5);
/// How long handing the lead over may take.
const HAND_OVER: Duration = Duration::from_secs(4);
/// After this time a snapshot is asked for again: one that was under way may have been older.
const SNAPSHOT_AGAIN: Duration = Duration::from_millis(500);

/// Why a change of the members was not made, or is not known to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    /// This server does not lead, or the outcome is unknown.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// An id that no metadata server can have.
    #[error("a metadata server's id is a number from 1 to {ID_MAX}")]
    Id,
    /// An address that is none.
    #[error("`{address}` is not an address of the form host:port")]
    Address {
        /// What was given.
        address: String,
    },
    /// The id is, or was, another server's.
    #[error("the id of {node} is, or was, another server's")]
    IdUsed {
        /// The id.
        node: NodeId,
    },
    /// Nobody of the group has that id.
    #[error("{node} is no member")]
    NoSuchMember {
        /// What was named.
        node: NodeId,
    },
    /// It does not answer.
    #[error("{node} does not answer")]
    Unreachable {
        /// The server.
        node: NodeId,
    },
    /// The server at the address belongs to another cluster.
    #[error("the server at that address belongs to another cluster")]
    Foreign,
    /// The server at the address does not wait to be added under that id.
    #[error("{found} answers at that address, and does not wait to be added under that id")]
    NotWaiting {
        /// Who answered.
        found: NodeId,
    },
    /// The server at the address does not apply the cluster's feature level.
    #[error("{node} applies feature levels up to {highest}, and the cluster's is {level}")]
    Level {
        /// The server.
        node: NodeId,
        /// The highest that it applies.
        highest: FeatureLevel,
        /// The cluster's.
        level: FeatureLevel,
    },
    /// The learner lacks too many entries.
    #[error("{node} lacks {lag} entries")]
    Behind {
        /// The learner.
        node: NodeId,
        /// Entries that it lacks.
        lag: u64,
    },
    /// No majority of the voters before or after the change answers.
    #[error("{live} of {voters} voters answer")]
    NoMajority {
        /// The voters that answer.
        live: usize,
        /// All voters.
        voters: usize,
    },
}

/// What became of a change that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// It is made: committed, and in force.
    Now,
    /// It had been made before.
    Already,
}

type Changes = ChangeMembers<u64, BasicNode>;

/// True for `host:port` with any host.
fn is_address(address: &str) -> bool {
    let parts = address.rsplit_once(':');
    parts.is_some_and(|(host, port)| {
        let host_is_one = !host.is_empty() && !host.contains(['/', ' ', '@']);
        host_is_one && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

fn is_joint(metrics: &Metrics) -> bool {
    metrics.membership_config.membership().get_joint_config().len() > 1
}

fn voters(metrics: &Metrics) -> BTreeSet<u64> {
    metrics.membership_config.voter_ids().collect()
}

impl Node {
    /// Adds the empty server that waits at `address` as a learner: it gets the log, and does not
    /// vote. In the log of a majority when this returns.
    ///
    /// # Errors
    /// [`MemberError`]; nothing is changed, unless it is `Deadline`, `Stopping` or `Fatal`.
    pub async fn add_member(&self, node: NodeId, address: String) -> Result<Changed, MemberError> {
        if !(1..=ID_MAX).contains(&node.0) {
            return Err(MemberError::Id);
        }
        if !is_address(&address) {
            return Err(MemberError::Address { address });
        }
        let (_turn, metrics) = self.begin_change().await?;
        let known = metrics.membership_config.nodes().find(|(id, _)| **id == node.0);
        let known = known.map(|(_, member)| member.addr.clone());
        // From here on the level stays until the server is a member, and tells what it applies.
        let leveling = self.shared.leveling.acquire().await;
        let _leveling = leveling.map_err(|_| NodeError::Stopping)?;
        let asked = admission::applicant(self.id(), self.cluster_id(), &address, ASK).await;
        if let Some(known) = known {
            return self.added_before(node, known == address, asked.ok());
        }
        let applicant = asked.map_err(|error| {
            tracing::warn!(%node, address, %error, cause = ?error, "a server that is to be added does not say who it is");
            if error.is_foreign() { MemberError::Foreign } else { MemberError::Unreachable { node } }
        })?;
        if applicant.node != node || !applicant.waiting {
            return Err(MemberError::NotWaiting { found: applicant.node });
        }
        let (level, highest) = (self.level(), applicant.levels.highest);
        if !applicant.levels.include(level) {
            return Err(MemberError::Level { node, highest, level });
        }
        let admit = Command::AdmitServer { node, directory: applicant.directory };
        match self.propose_internal(admit, ENTRY).await? {
            (_, Ok(_)) => {}
            (_, Err(FsError::Exists)) => return Err(MemberError::IdUsed { node }),
            (_, Err(_)) => return Err(NodeError::Fatal.into()),
        }
        let learner = BTreeMap::from([(node.0, BasicNode { addr: address.clone() })]);
        self.change(ChangeMembers::AddNodes(learner)).await?;
        tracing::info!(%node, address, "a server was added to the group as a learner");
        Ok(Changed::Now)
    }

    /// Of a member that is to be added: it is one already, unless its place was taken by another.
    fn added_before(
        &self,
        node: NodeId,
        same_address: bool,
        asked: Option<Applicant>,
    ) -> Result<Changed, MemberError> {
        let own = self.known_server(node)?.map(|server| server.directory);
        let other = asked.is_some_and(|a| a.node == node && a.waiting && Some(a.directory) != own);
        if !same_address || other { Err(MemberError::IdUsed { node }) } else { Ok(Changed::Already) }
    }

    fn known_server(&self, node: NodeId) -> Result<Option<KnownServer>, NodeError> {
        let view = self.read_local()?;
        let servers = jobs::servers(&*view.store).map_err(|error| {
            tracing::error!(%error, cause = ?error, "the members cannot be read from the state");
            NodeError::Fatal
        })?;
        Ok(servers.get(node))
    }

    /// Makes a learner that has caught up a voter. In the log of a majority when this returns.
    ///
    /// # Errors
    /// As [`Node::add_member`].
    pub async fn promote_member(&self, node: NodeId) -> Result<Changed, MemberError> {
        let (_turn, metrics) = self.begin_change().await?;
        let mut after = voters(&metrics);
        if after.contains(&node.0) {
            return Ok(Changed::Already);
        }
        let status = self.status();
        let member = status.members.iter().find(|member| member.node == node);
        let member = member.ok_or(MemberError::NoSuchMember { node })?;
        if !self.is_live(&metrics, node.0) {
            return Err(MemberError::Unreachable { node });
        }
        let lag = status.last_log.0.saturating_sub(member.matched.unwrap_or_default().0);
        if lag > PROMOTE_LAG_MAX {
            return Err(MemberError::Behind { node, lag });
        }
        self.check_majority(&after).await?;
        after.insert(node.0);
        self.check_majority(&after).await?;
        self.change(ChangeMembers::AddVoterIds(BTreeSet::from([node.0]))).await?;
        tracing::info!(%node, voters = after.len(), "a learner became a voter");
        Ok(Changed::Now)
    }

    /// Takes a member out of the group, for ever. In the log of a majority when this returns. The
    /// leader does not remove itself: it hands its lead over, and names the new leader.
    ///
    /// # Errors
    /// As [`Node::add_member`]; `NotLeader` when this server was named and has handed over.
    pub async fn remove_member(&self, node: NodeId) -> Result<Changed, MemberError> {
        let (_turn, metrics) = self.begin_change().await?;
        let before = voters(&metrics);
        let votes = before.contains(&node.0);
        if !votes && metrics.membership_config.nodes().all(|(id, _)| *id != node.0) {
            let known = self.known_server(node)?.ok_or(MemberError::NoSuchMember { node })?;
            if !known.removed {
                // It was given its id, and its addition went no further.
                self.retire(node).await?;
            }
            return Ok(Changed::Already);
        }
        if votes {
            let after = before.iter().copied().filter(|id| *id != node.0).collect();
            self.check_majority(&after).await?;
            self.check_majority(&before).await?;
        }
        if node == self.id() {
            lead::transfer(self, None, HAND_OVER).await?;
            return Err(NodeError::NotLeader { leader: self.status().leader }.into());
        }
        self.retire(node).await?;
        let ids = BTreeSet::from([node.0]);
        self.change(if votes { ChangeMembers::RemoveVoters(ids) } else { ChangeMembers::RemoveNodes(ids) })
            .await?;
        tracing::warn!(%node, "a server was removed from the group");
        Ok(Changed::Now)
    }

    async fn retire(&self, node: NodeId) -> Result<(), MemberError> {
        match self.propose_internal(Command::RetireServer { node }, ENTRY).await? {
            (_, Ok(_)) => Ok(()),
            (_, Err(_)) => Err(NodeError::Fatal.into()),
        }
    }

    /// Waits for nothing: this server leads, no other change is under way, and none was left half
    /// done.
    async fn begin_change(&self) -> Result<(OwnedSemaphorePermit, Metrics), MemberError> {
        let turn = self.shared.changing.clone().try_acquire_owned().map_err(|_| NodeError::Overloaded)?;
        let metrics = self.metrics();
        if metrics.state != ServerState::Leader || !self.is_leader() {
            let leader = super::leader_of(&metrics).filter(|(id, _)| *id != self.id());
            return Err(NodeError::NotLeader { leader }.into());
        }
        if !is_joint(&metrics) {
            return Ok((turn, metrics));
        }
        self.change(ChangeMembers::AddVoterIds(BTreeSet::new())).await?;
        Ok((turn, self.metrics()))
    }

    /// Makes a change, both halves of it even if whoever asked goes away.
    async fn change(&self, changes: Changes) -> Result<(), MemberError> {
        let raft = self.shared.raft.clone();
        let changed = tokio::spawn(async move { raft.change_membership(changes, false).await }).await;
        // The task ends early only with the runtime.
        match changed.map_err(|_| NodeError::Stopping)? {
            Ok(written) => self.shows(written.log_id.index).await,
            Err(RaftError::Fatal(fatal)) => Err(Self::fatal(&fatal).into()),
            Err(RaftError::APIError(error)) => Err(self.unchanged(&error)),
        }
    }

    /// Waits until this server's own figures have the members of the entry `index`. Raft answers as soon as it is
    /// applied, and tells its figures when it has done all that is at hand: who asks for the next change meanwhile
    /// would be judged by those before, and a learner that was added just now be no member.
    async fn shows(&self, index: u64) -> Result<(), MemberError> {
        let mut metrics = self.shared.raft.metrics();
        while metrics.borrow_watched().membership_config.log_id().as_ref().is_none_or(|id| id.index < index) {
            metrics.changed().await.map_err(|_| NodeError::Stopping)?;
        }
        Ok(())
    }

    fn unchanged(&self, error: &ClientWriteError<TypeConfig>) -> MemberError {
        tracing::warn!(%error, "a change of the members was not made");
        match error {
            ClientWriteError::ChangeMembershipError(ChangeMembershipError::InProgress(_)) => {
                NodeError::Overloaded.into()
            }
            ClientWriteError::ChangeMembershipError(ChangeMembershipError::LearnerNotFound(unknown)) => {
                MemberError::NoSuchMember { node: NodeId(unknown.node_id) }
            }
            // Another change came between its two halves: it is asked for again.
            ClientWriteError::PreconditionFailed(_) => NodeError::Overloaded.into(),
            other => self.refused(other).into(),
        }
    }

    /// True when the leader, which this server is, has heard of a member a moment ago.
    fn is_live(&self, metrics: &Metrics, id: u64) -> bool {
        id == self.id().0 || super::silent_ms(metrics, id).is_some_and(|ms| ms <= REACHABLE_MS)
    }

    /// Refuses when no majority of `voters` answers. A leader that has just taken over waits a little
    /// for those that it has not heard of yet.
    async fn check_majority(&self, voters: &BTreeSet<u64>) -> Result<(), MemberError> {
        let begun = self.shared.clock.boottime();
        loop {
            let metrics = self.metrics();
            let live = voters.iter().filter(|id| self.is_live(&metrics, **id)).count();
            if 2 * live > voters.len() {
                return Ok(());
            }
            let unheard = |id: &u64| *id != self.id().0 && super::silent_ms(&metrics, *id).is_none();
            let waited = self.shared.clock.boottime().saturating_sub(begun) >= HEAR;
            if waited || !voters.iter().any(unheard) {
                return Err(MemberError::NoMajority { live, voters: voters.len() });
            }
            tokio::time::sleep(HEAR_AGAIN).await;
        }
    }

    /// Makes a snapshot here of what is applied by now; durable when this returns. Answers the last
    /// entry that it covers, and its bytes.
    ///
    /// # Errors
    /// `Stopping`, `Fatal`. The caller's deadline bounds the wait.
    pub async fn take_snapshot(&self) -> Result<(LogIndex, u64), NodeError> {
        let raft = &self.shared.raft;
        let wanted = self.applied().borrow().0;
        let mut metrics = raft.metrics();
        loop {
            raft.trigger().snapshot().await.map_err(|fatal| Self::fatal(&fatal))?;
            let made = async {
                loop {
                    let index = metrics.borrow_watched().snapshot.map_or(0, |id| id.index);
                    if index >= wanted {
                        return Ok(index);
                    }
                    metrics.changed().await.map_err(|_| NodeError::Stopping)?;
                }
            };
            if let Ok(index) = tokio::time::timeout(SNAPSHOT_AGAIN, made).await {
                return Ok((LogIndex(index?), self.snapshot_bytes().await));
            }
        }
    }

    /// Bytes of the files of the newest snapshot; 0 when there is none.
    pub async fn snapshot_bytes(&self) -> u64 {
        match self.shared.snapshots.newest() {
            Some(newest) => snapshot::bytes_in(newest.snapshot.path().to_owned()).await,
            None => 0,
        }
    }

    /// Bytes of the files of the Raft log.
    pub async fn log_bytes(&self) -> u64 {
        snapshot::bytes_in(self.shared.log_dir.clone()).await
    }
}

/// The pause before a half-done change is looked at again.
const FINISH_AGAIN: Duration = Duration::from_secs(1);

/// Ends a change that an earlier leader left half done, whenever this server takes the lead.
pub async fn finish_changes(node: Node, stop: CancellationToken) {
    let mut leadership = node.leadership();
    loop {
        let leads = leadership.borrow_and_update().is_some();
        let mut again = false;
        if leads && is_joint(&node.metrics()) {
            // Whoever asks for a change of the members at this moment finishes this one too.
            match node.begin_change().await {
                Ok(_) => tracing::info!("a change of the members that was left half done is finished"),
                Err(error) => {
                    tracing::warn!(%error, "a change of the members is left half done");
                    again = true;
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(FINISH_AGAIN), if again => {}
            changed = leadership.changed() => if changed.is_err() { return },
        }
    }
}
