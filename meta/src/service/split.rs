//! `SplitDirectory`: names that divide a directory, so that it can be listed side by side.

use std::time::Duration;

use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::FsError;

use super::call::malformed;
use super::stat::{caller, consistency, imported};
use super::{Context, decode};
use crate::namespace::read;
use crate::namespace::split::{PARTS_MAX, split as split_names};

/// Divides a directory.
pub async fn split(
    ctx: &Context,
    request: v1::SplitDirectoryRequest,
    _deadline: Duration,
) -> Result<v1::SplitDirectoryReply, WireError> {
    decode::group(request.group)?;
    let parts = request.parts as usize;
    if !(1..=PARTS_MAX).contains(&parts) {
        return Err(malformed("parts"));
    }
    let target = decode::target(request.target)?;
    let view = ctx.node.read(consistency(request.consistency, 0)?).await?;
    let caller = caller(&view, request.session)?;
    imported(ctx, &view, &target, true).await?;
    let directory = read::resolve_as(&*view.store, caller.as_ref(), &target).map_err(super::refusal)?;
    if !directory.is_dir() {
        return Err(FsError::NotDirectory.into());
    }
    read::may_list(&*view.store, caller.as_ref(), &directory).map_err(super::refusal)?;
    // Hundreds of looks at the store, which block.
    let looking = tokio::task::spawn_blocking(move || split_names(&*view.store, directory.ino, parts));
    let names = looking.await.map_err(|_| ServiceError::Internal)?.map_err(super::refusal)?;
    Ok(v1::SplitDirectoryReply { names: names.into_iter().map(Into::into).collect() })
}
