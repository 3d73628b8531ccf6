//! Leadership: watching it, handing it over, and what a first leader proposes.

use std::time::Duration;

use cairn_types::{ClusterId, NodeId, Policy, Random};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Metrics, Node, NodeError, Term, level};
use crate::namespace::Command;
use crate::raft::Raft;
use crate::raft::engine::{ServerState, WatchReceiver};
use crate::raft::lease;

/// How long one attempt to name the cluster may take.
const NAMING: Duration = Duration::from_secs(5);

/// `Some(term)` when these metrics are a leader's that has applied an entry of its own term.
fn led(metrics: &Metrics) -> Option<Term> {
    lease::led(metrics).map(Term)
}

/// Publishes leadership as it changes, until `stop`.
pub async fn watch_leadership(raft: Raft, published: watch::Sender<Option<Term>>, stop: CancellationToken) {
    // Changes with who leads; the other with every entry, and is waited for by a new leader alone, until
    // it has applied an entry of its own.
    let mut standing = raft.server_metrics();
    let mut metrics = raft.metrics();
    let mut known = None;
    loop {
        // Looked at where they lie: a copy is not small.
        let (state, vote, leader) = {
            let standing = standing.borrow_watched();
            (standing.state, standing.vote, standing.current_leader)
        };
        let (now, is_settled) = {
            let metrics = metrics.borrow_watched();
            let term = led(&metrics);
            // They are told a moment later.
            let is_told = (metrics.state, metrics.vote, metrics.current_leader) == (state, vote, leader);
            let is_settled = is_told && (term.is_some() || state != ServerState::Leader);
            ((metrics.current_leader, metrics.current_term, term), is_settled)
        };
        if known != Some(now) {
            let (leader, current, term) = now;
            if known.and_then(|(before, ..)| before) != leader {
                tracing::info!(?leader, term = current, "leader changed");
                metrics::counter!("cairn_meta_leader_changes_total").increment(1);
            }
            metrics::gauge!("cairn_meta_raft_term").set(current as f64);
            published.send_if_modified(|before| std::mem::replace(before, term) != term);
            metrics::gauge!("cairn_meta_leads").set(if term.is_some() { 1.0 } else { 0.0 });
            known = Some(now);
        }
        tokio::select! {
            () = stop.cancelled() => break,
            changed = standing.changed() => if changed.is_err() { break },
            changed = metrics.changed(), if !is_settled => if changed.is_err() { break },
        }
    }
    published.send_replace(None);
}

/// As the leader of a group that has no name yet, names it. Ends when the cluster has one.
pub async fn name_cluster(node: Node, policy: Policy, random: &dyn Random, stop: CancellationToken) {
    let mut leadership = node.leadership();
    let mut cluster = node.cluster();
    loop {
        if cluster.borrow_and_update().is_some() {
            return;
        }
        let leads = leadership.borrow_and_update().is_some();
        if leads {
            tokio::select! {
                () = stop.cancelled() => return,
                () = level::raise_before_naming(&node) => {}
            }
            let id = ClusterId(random.next_id());
            let named = node.propose_internal(Command::InitCluster { cluster: id, policy }, NAMING).await;
            match named {
                Ok((_, Ok(_))) => tracing::info!(cluster = %id, "the cluster is made"),
                // Another leader was first, or this one leads no more: the state will tell.
                other => tracing::info!(?other, "the cluster was not made here"),
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = cluster.changed() => if changed.is_err() { return },
            changed = leadership.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(NAMING), if leads => {}
        }
    }
}

/// The voter, other than this server, that has most of the log, of those that answer.
fn successor(metrics: &Metrics) -> Option<u64> {
    let replication = metrics.replication.as_ref()?;
    let others = metrics.membership_config.voter_ids().filter(|id| *id != metrics.id);
    let live = |id: u64| super::silent_ms(metrics, id).is_some_and(|ms| ms <= super::REACHABLE_MS);
    others.max_by_key(|id| (live(*id), replication.get(id).copied().flatten(), std::cmp::Reverse(*id)))
}

/// Hands leadership over and waits until another server has it.
pub async fn transfer(node: &Node, to: Option<NodeId>, deadline: Duration) -> Result<(), NodeError> {
    let metrics = node.metrics();
    if metrics.state != ServerState::Leader {
        return Err(NodeError::NotLeader { leader: super::leader_of(&metrics) });
    }
    let to = match to {
        Some(to) if to == node.id() => return Ok(()),
        Some(to) if super::silent_ms(&metrics, to.0).is_some_and(|ms| ms > super::REACHABLE_MS) => {
            return Err(NodeError::Silent { node: to });
        }
        Some(to) if metrics.membership_config.voter_ids().any(|id| id == to.0) => to.0,
        Some(to) => return Err(NodeError::NotVoter { node: to }),
        None => successor(&metrics).ok_or(NodeError::NotVoter { node: node.id() })?,
    };
    let raft = &node.shared.raft;
    // Before anybody can be elected by it.
    node.shared.lease.hand_over(metrics.current_term);
    raft.trigger().transfer_leader(to).await.map_err(|fatal| Node::fatal(&fatal))?;
    let moved = async {
        let mut metrics = raft.metrics();
        loop {
            let leader = metrics.borrow_watched().current_leader;
            if leader.is_some_and(|id| id != node.id().0) {
                return Ok(());
            }
            metrics.changed().await.map_err(|_| NodeError::Stopping)?;
        }
    };
    tokio::time::timeout(deadline, moved).await.map_err(|_| NodeError::Deadline)?
}
