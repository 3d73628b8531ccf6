//! `RemoveNode`: an operator says that a data node's disk will never return.

use std::time::Duration;

use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::{FsError, NodeId};

use super::Context;
use super::call::malformed;
use crate::keys::removed::RemovedNode;
use crate::leader::{Tenure, notice};
use crate::namespace::{Command, jobs};
use crate::node::Consistency;

/// Tells what is known of the node, or removes it. Asking again is safe.
pub async fn remove(
    ctx: &Context,
    request: v1::RemoveNodeRequest,
    deadline: Duration,
) -> Result<v1::RemoveNodeReply, WireError> {
    if request.node == 0 {
        return Err(malformed("node"));
    }
    let node = NodeId(request.node);
    let tenure = ctx.tenure()?;
    let removed = {
        let view = ctx.node.read(Consistency::Linearizable).await?;
        jobs::removed(&*view.store).map_err(super::fault)?
    };
    if let Some(removed) = removed.iter().find(|r| r.node == node) {
        // An earlier attempt may have ended before this leader noted it.
        tenure.registry.remove(node);
        return Ok(v1::RemoveNodeReply { node: Some(known(&tenure, removed)), already: true });
    }
    let view = tenure.registry.get(node).ok_or(ServiceError::NoSuchNode { node })?;
    if view.is_live() {
        return Err(ServiceError::NodeAlive { node }.into());
    }
    if request.remove {
        let command = Command::RemoveNode { node, incarnation: view.registered.incarnation };
        let (_, reply) = ctx.node.propose_internal(command, deadline).await?;
        match reply {
            Ok(_) => {}
            // It came back meanwhile, as another process.
            Err(FsError::InvalidRequest) => return Err(ServiceError::NodeAlive { node }.into()),
            Err(error) => return Err(error.into()),
        }
        tenure.registry.remove(node);
        tracing::warn!(%node, disk = %view.registered.disk, "an operator removed a data node");
        tenure.stir();
    }
    let now = tenure.registry.get(node).unwrap_or(view);
    Ok(v1::RemoveNodeReply { node: Some(notice::node_status(&now)), already: false })
}

/// A removed node as the wire has it: little, once no chunk names it.
fn known(tenure: &Tenure, removed: &RemovedNode) -> v1::DataNode {
    match tenure.registry.get(removed.node) {
        Some(view) => notice::node_status(&view),
        None => v1::DataNode {
            node: removed.node.0,
            disk: removed.disk.0.to_vec().into(),
            removed: true,
            ..Default::default()
        },
    }
}
