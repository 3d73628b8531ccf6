//! `Status`, `TransferLeader`.

use std::time::Duration;

use cairn_proto::{WireError, v1};
use cairn_types::NodeId;

use super::{Context, loss};
use crate::namespace::{holds, jobs, read};
use crate::node::{MemberStatus, REACHABLE_MS};

/// Undecided chunks that a status lists, at most; it counts all.
const UNDECIDED_MAX: usize = 64;

/// What the leader knows of the cluster.
pub fn status(ctx: &Context) -> Result<v1::StatusReply, WireError> {
    let tenure = ctx.tenure()?;
    let raft = ctx.node.status();
    let view = ctx.node.read_local()?;
    let state = read::cluster(&*view.store).map_err(super::fault)?;
    let trees = jobs::tree_counts(&*view.store).map_err(super::fault)?;
    let unlinked = holds::kept(&*view.store, holds::COUNTED_MAX).map_err(super::fault)?;
    let lag_age_ms = if state.counts.unpersisted_bytes == 0 { 0 } else { tenure.lag_age_ms() };
    let repair = tenure.repairs.progress();
    let leader = raft.leader.as_ref().map_or(0, |(id, _)| id.0);
    let server = |m: MemberStatus| {
        let itself = m.node == raft.node;
        v1::MetaServer {
            node: m.node.0,
            address: m.address,
            leader: m.node.0 == leader,
            voter: m.voter,
            matched_index: if itself { raft.last_log.0 } else { m.matched.map_or(0, |i| i.0) },
            reachable: itself || m.silent_ms.is_some_and(|ms| ms <= REACHABLE_MS),
        }
    };
    let (undecided_count, stuck) = tenure.seals.stuck.first(UNDECIDED_MAX);
    let undecided = stuck.iter().map(|s| loss::undecided(&tenure, &*view.store, s));
    let losses = tenure.losses.found();
    let lost = losses.first.iter().map(|l| loss::lost(&*view.store, l));
    Ok(v1::StatusReply {
        cluster_id: tenure.cluster.0.to_vec().into(),
        leader,
        term: raft.term.0,
        last_log_index: raft.last_log.0,
        applied_index: view.applied.0,
        snapshot_index: raft.snapshot.0,
        servers: raft.members.into_iter().map(server).collect(),
        nodes: tenure.node_status(),
        inodes: state.counts.inodes,
        chunks_open: state.counts.chunks_open,
        chunks_sealing: state.counts.chunks_sealing,
        chunks_sealed: state.counts.chunks_sealed,
        chunks_under_replicated: state.counts.under_replicated,
        lag_bytes: state.counts.unpersisted_bytes,
        lag_age_ms,
        packs: state.counts.packs,
        sessions: state.counts.sessions,
        intents: state.counts.intents,
        under_store_error: tenure.under_store_error(),
        chunks_undecided: undecided_count as u64,
        undecided: undecided.collect::<Result<_, _>>()?,
        chunks_lost: losses.count,
        lost: lost.collect::<Result<_, _>>()?,
        trees_pending: trees.pending,
        trees_purged_names: trees.purged,
        unlinked_kept: unlinked.files,
        unlinked_held: unlinked.held,
        unlinked_more: unlinked.more,
        repair_chunks: repair.chunks,
        repair_single: repair.single,
        repair_bytes: repair.bytes,
        copies_running: repair.running,
        copies_running_bytes: repair.running_bytes,
    })
}

/// Hands leadership over.
pub async fn transfer(
    ctx: &Context,
    request: v1::TransferLeaderRequest,
    deadline: Duration,
) -> Result<v1::TransferLeaderReply, WireError> {
    let to = (request.to != 0).then_some(NodeId(request.to));
    ctx.node.transfer_leader(to, deadline).await?;
    let leader = ctx.node.status().leader.map_or(0, |(id, _)| id.0);
    Ok(v1::TransferLeaderReply { leader })
}
