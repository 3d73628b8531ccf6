//! `GetXattr`, `ListXattrs`: extended attributes, as fresh as `Stat`.

use cairn_proto::{WireError, v1};

use super::stat::{caller, consistency, imported};
use super::{Context, decode};
use crate::namespace::read;

/// An attribute's value.
pub async fn get(ctx: &Context, request: v1::GetXattrRequest) -> Result<v1::GetXattrReply, WireError> {
    decode::group(request.group)?;
    let target = decode::target(request.target)?;
    let view = ctx.node.read(consistency(request.consistency, 0)?).await?;
    let caller = caller(&view, request.session)?;
    imported(ctx, &view, &target, false).await?;
    let value = read::xattr_as(&*view.store, caller.as_ref(), &target, &request.name);
    Ok(v1::GetXattrReply { value: value.map_err(super::refusal)?.into(), log_index: view.applied.0 })
}

/// The names of an inode's attributes.
pub async fn list(ctx: &Context, request: v1::ListXattrsRequest) -> Result<v1::ListXattrsReply, WireError> {
    decode::group(request.group)?;
    let target = decode::target(request.target)?;
    let view = ctx.node.read(consistency(request.consistency, 0)?).await?;
    let caller = caller(&view, request.session)?;
    imported(ctx, &view, &target, false).await?;
    let names = read::xattr_names_as(&*view.store, caller.as_ref(), &target).map_err(super::refusal)?;
    Ok(v1::ListXattrsReply { names: names.into_iter().map(Into::into).collect(), log_index: view.applied.0 })
}
