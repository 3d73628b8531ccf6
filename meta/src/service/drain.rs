//! `DrainNode`: an operator wants to shut a data node down, or keep it after all, or asks how far it is.

use std::collections::BTreeSet;
use std::time::Duration;

use cairn_proto::v1::drain_node_request::Action;
use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::{FsError, InodeId, NodeId};

use super::call::malformed;
use super::{Context, wait};
use crate::keys::queues::Queue;
use crate::leader::leaving::Leaving;
use crate::leader::nodes::View;
use crate::leader::{Tenure, rows};
use crate::namespace::{Command, Target, read};
use crate::node::Consistency;

/// Open chunks whose policies are looked at.
const OPEN_MAX: usize = 4096;

/// Drains, undrains, or tells. Asking again is safe.
pub async fn drain(
    ctx: &Context,
    request: v1::DrainNodeRequest,
    deadline: Duration,
) -> Result<v1::DrainNodeReply, WireError> {
    if request.node == 0 {
        return Err(malformed("node"));
    }
    let Ok(action) = Action::try_from(request.action) else { return Err(malformed("action")) };
    let node = NodeId(request.node);
    let tenure = ctx.tenure()?;
    ctx.node.read(Consistency::Linearizable).await?;
    let before = leaving(&tenure, node)?;
    let already = match action {
        Action::Look => {
            if request.wait_ms > 0 {
                let patience = wait::patience(request.wait_ms, deadline);
                let ended = || Ok((leaving(&tenure, node)? != Leaving::Draining).then_some(()));
                wait::until(ctx, patience, ended).await?;
            }
            true
        }
        Action::Drain => {
            if before == Leaving::No {
                let needed = needed(&tenure)?;
                check_left(&tenure, node, needed)?;
                propose(ctx, Command::DrainNode { node, needed }, node, deadline).await?;
                tracing::warn!(%node, "an operator has a data node drained");
            }
            before != Leaving::No
        }
        Action::Undrain => {
            if before != Leaving::No {
                propose(ctx, Command::UndrainNode { node }, node, deadline).await?;
                tracing::warn!(%node, "an operator keeps a data node that was to be drained");
            }
            before == Leaving::No
        }
    };
    tenure.registry.note_leaving(node, leaving(&tenure, node)?);
    if action != Action::Look {
        tenure.stir();
    }
    let view = tenure.registry.get(node).ok_or(ServiceError::NoSuchNode { node })?;
    Ok(v1::DrainNodeReply { node: Some(tenure.status_of(&view)), already })
}

async fn propose(ctx: &Context, command: Command, node: NodeId, deadline: Duration) -> Result<(), WireError> {
    let (_, reply) = ctx.node.propose_internal(command, deadline).await?;
    match reply {
        Ok(_) => Ok(()),
        // Another drain came first.
        Err(FsError::TooFewNodes { available, needed }) => {
            let (left, needed) = (u64::from(available), u64::from(needed));
            Err(ServiceError::TooFewLeft { node, left, needed }.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// How the state has the node, as it is applied here. One that was removed leaves by itself.
fn leaving(tenure: &Tenure, node: NodeId) -> Result<Leaving, WireError> {
    let view = tenure.local()?;
    let known = rows::known_nodes(&*view.store).map_err(super::fault)?;
    match known.into_iter().find(|known| known.node == node) {
        Some(known) if known.removed => Err(FsError::NodeRemoved { node }.into()),
        Some(known) => Ok(known.leaving),
        None => Err(ServiceError::NoSuchNode { node }.into()),
    }
}

/// The greatest `min_replicas` of the root's policy and of those of open chunks.
fn needed(tenure: &Tenure) -> Result<u8, WireError> {
    let view = tenure.local()?;
    let root = read::stat(&*view.store, &Target::ino(InodeId::ROOT)).map_err(super::refusal)?;
    let (open, _) = rows::queued_chunks(&*view.store, Queue::Open, None, OPEN_MAX).map_err(super::fault)?;
    let root = root.policy.min_replicas;
    Ok(open.iter().map(|record| record.policy.min_replicas).fold(root, u8::max))
}

/// Refuses when too few processes would be left to open chunks at.
fn check_left(tenure: &Tenure, node: NodeId, needed: u8) -> Result<(), WireError> {
    let views = tenure.registry.all();
    let stay =
        views.iter().filter(|view| view.registered.node != node).filter(|view| View::takes_chunks(view));
    let left = stay.map(|view| view.registered.address.as_str()).collect::<BTreeSet<&str>>().len();
    if left >= usize::from(needed) {
        return Ok(());
    }
    let (left, needed) = (left as u64, u64::from(needed));
    Err(ServiceError::TooFewLeft { node, left, needed }.into())
}
