//! `GetXattr`, `ListXattrs`: extended attributes, as fresh as `Stat`.

use cairn_proto::{WireError, v1};

use super::stat::{consistency, imported};
use super::{Context, decode};
use crate::namespace::read;

/// An attribute's value.
pub async fn get(ctx: &Context, request: v1::GetXattrRequest) -> Result<v1::GetXattrReply, WireError> {
    decode::group(request.group)?;
    let target = decode::target(request.target)?;
    let view = ctx.node.read(consistency(request.consistency)?).await?;
    imported(ctx, &view, &target, false).await?;
    let value = read::xattr(&*view.store, &target, &request.name).map_err(super::refusal)?;
    Ok(v1::GetXattrReply { value: value.into(), log_index: view.applied.0 })
}

/// The names of an inode's attributes.
pub async fn list(ctx: &Context, request: v1::ListXattrsRequest) -> Result<v1::ListXattrsReply, WireError> {
    decode::group(request.group)?;
    let target = decode::target(request.target)?;
    let view = ctx.node.read(consistency(request.consistency)?).await?;
    imported(ctx, &view, &target, false).await?;
    let names = read::xattr_names(&*view.store, &target).map_err(super::refusal)?;
    Ok(v1::ListXattrsReply { names: names.into_iter().map(Into::into).collect(), log_index: view.applied.0 })
}
