//! `GetPolicy`: the policy in force at a target, and where it is set.

use cairn_proto::{WireError, v1};
use cairn_types::{Inode, InodeId, Policy};

use super::stat::{about, caller, imported};
use super::{Context, decode};
use crate::namespace::{NamespaceError, read};
use crate::node::Consistency;
use crate::store::Rows;

/// What what is made at the target, or written into it, is kept by.
pub async fn get(ctx: &Context, request: v1::GetPolicyRequest) -> Result<v1::GetPolicyReply, WireError> {
    decode::group(request.group)?;
    about(request.session, request.target.as_ref());
    let target = decode::target(request.target)?;
    let view = ctx.node.read(Consistency::Linearizable).await?;
    let caller = caller(&view, request.session)?;
    imported(ctx, &view, &target, false).await?;
    let rows: &dyn Rows = &*view.store;
    let inode = read::resolve_as(rows, caller.as_ref(), &target).map_err(super::refusal)?;
    let (policy, origin) = in_force(rows, &inode)?;
    Ok(v1::GetPolicyReply {
        policy: Some(v1::Policy::from(&policy)),
        origin: Some(origin),
        ino: inode.ino.0,
        log_index: view.applied.0,
    })
}

/// The policy in force at an inode, and where it is set.
pub fn in_force(rows: &dyn Rows, inode: &Inode) -> Result<(Policy, v1::PolicyOrigin), WireError> {
    let (policy, origin) = read::policy_and_origin(rows, inode).map_err(super::refusal)?;
    Ok((policy, v1::PolicyOrigin { ino: origin.0, path: path(rows, origin)?.into() }))
}

/// The path of an inode, empty when it has none.
pub fn path(rows: &dyn Rows, ino: InodeId) -> Result<Vec<u8>, WireError> {
    match read::path_of(rows, ino) {
        Ok(path) => Ok(path),
        Err(NamespaceError::Refused(_)) => Ok(Vec::new()),
        Err(error) => Err(super::refusal(error)),
    }
}
