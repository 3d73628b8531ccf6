//! The `Members` service: who is in the metadata group, and changes of it while it runs.

use std::time::Duration;

use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::{FsError, NodeId};

use super::Context;
use super::call::malformed;
use crate::namespace::Command;
use crate::node::{Changed, MemberError, MemberStatus, Node, REACHABLE_MS};

impl From<MemberError> for WireError {
    fn from(error: MemberError) -> Self {
        let error = match error {
            MemberError::Node(error) => error.into(),
            MemberError::Id => return malformed("node"),
            MemberError::Address { .. } => return malformed("address"),
            MemberError::IdUsed { node } => ServiceError::MemberIdUsed { node },
            MemberError::NoSuchMember { node } => ServiceError::NoSuchMember { node },
            MemberError::Unreachable { node } => ServiceError::MemberUnreachable { node },
            MemberError::Foreign => ServiceError::ForeignCluster,
            MemberError::NotWaiting { found } => ServiceError::NotWaiting { node: found },
            MemberError::Level { node, highest, level } => {
                ServiceError::MemberLevel { node, highest: highest.0, level: level.0 }
            }
            MemberError::Behind { node, lag } => ServiceError::MemberBehind { node, lag },
            MemberError::NoMajority { live, voters } => {
                ServiceError::NoLiveMajority { live: live as u64, voters: voters as u64 }
            }
        };
        error.into()
    }
}

/// The members as the leader sees them.
pub fn group(ctx: &Context) -> Result<v1::GroupStatusReply, WireError> {
    let status = ctx.node.status();
    let leads = status.leader.as_ref().is_some_and(|(id, _)| *id == status.node) && ctx.node.is_leader();
    if !leads {
        return Err(ctx.not_leader().into());
    }
    let (own, last) = (status.node, status.last_log.0);
    let member = |m: MemberStatus| {
        let itself = m.node == own;
        let matched = if itself { last } else { m.matched.map_or(0, |index| index.0) };
        let silent_ms = if itself { Some(0) } else { m.silent_ms };
        v1::GroupMember {
            node: m.node.0,
            address: m.address,
            voter: m.voter,
            matched_index: matched,
            lag_entries: last.saturating_sub(matched),
            silent_ms,
            reachable: silent_ms.is_some_and(|ms| ms <= REACHABLE_MS),
            level_lowest: m.levels.map(|levels| levels.lowest.0),
            level_highest: m.levels.map(|levels| levels.highest.0),
        }
    };
    Ok(v1::GroupStatusReply {
        leader: own.0,
        term: status.term.0,
        last_log_index: last,
        applied_index: status.applied.0,
        changing: status.changing,
        members: status.members.into_iter().map(member).collect(),
        feature_level: status.level.0,
    })
}

/// What this server knows of itself.
pub async fn server(ctx: &Context) -> v1::ServerStatusReply {
    let status = ctx.node.status();
    v1::ServerStatusReply {
        node: status.node.0,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        applied_index: status.applied.0,
        snapshot_index: status.snapshot.0,
        snapshot_bytes: ctx.node.snapshot_bytes().await,
        log_bytes: ctx.node.log_bytes().await,
        removed: ctx.node.is_removed(),
        level_lowest: ctx.node.levels().lowest.0,
        level_highest: ctx.node.levels().highest.0,
    }
}

/// Runs a change to its end, even if whoever asked gives up: what is half done helps nobody.
async fn run<F, Fut>(ctx: &Context, change: F) -> Result<v1::MemberReply, WireError>
where
    F: FnOnce(Node) -> Fut,
    Fut: Future<Output = Result<Changed, MemberError>> + Send + 'static,
{
    let changed = tokio::spawn(change(ctx.node.clone())).await;
    let changed = changed.map_err(|_| ServiceError::Stopping)??;
    Ok(v1::MemberReply { already: changed == Changed::Already })
}

/// Adds a learner.
pub async fn add(ctx: &Context, request: v1::AddMemberRequest) -> Result<v1::MemberReply, WireError> {
    let (node, address) = (NodeId(request.node), request.address);
    run(ctx, move |own| async move { own.add_member(node, address).await }).await
}

/// Makes a learner a voter.
pub async fn promote(ctx: &Context, request: v1::PromoteMemberRequest) -> Result<v1::MemberReply, WireError> {
    let node = NodeId(request.node);
    run(ctx, move |own| async move { own.promote_member(node).await }).await
}

/// Removes a member.
pub async fn remove(ctx: &Context, request: v1::RemoveMemberRequest) -> Result<v1::MemberReply, WireError> {
    let node = NodeId(request.node);
    run(ctx, move |own| async move { own.remove_member(node).await }).await
}

/// Has a majority write an entry that changes nothing.
pub async fn probe(ctx: &Context, deadline: Duration) -> Result<v1::ProbeReply, WireError> {
    let begun = ctx.clock.boottime();
    let (index, reply) = ctx.node.propose_internal(Command::Probe, deadline).await?;
    reply?;
    let took = ctx.clock.boottime().saturating_sub(begun);
    let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    Ok(v1::ProbeReply { node: ctx.node.id().0, index: index.0, took_us })
}

/// Makes a snapshot here.
pub async fn snapshot(ctx: &Context, deadline: Duration) -> Result<v1::TakeSnapshotReply, WireError> {
    if ctx.node.is_removed() {
        return Err(FsError::NotSupported.into());
    }
    let made = tokio::time::timeout(deadline, ctx.node.take_snapshot()).await;
    let (index, bytes) = made.map_err(|_| ServiceError::Deadline)??;
    Ok(v1::TakeSnapshotReply { node: ctx.node.id().0, index: index.0, bytes })
}
