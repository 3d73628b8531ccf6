//! `Extents`: where a range of a file is, with all that it takes to read it, from one point in
//! time.

use std::time::Duration;

use cairn_proto::{WireError, v1};

use super::stat::{about, caller, consistency, imported};
use super::{Context, decode};
use crate::keys::chunks::ChunkRecord;
use crate::keys::mounts::MountRecord;
use crate::namespace::read;
use crate::store::Rows;

/// The extents that touch a range, their chunks, the open tail, their mounts.
pub async fn extents(
    ctx: &Context,
    request: v1::ExtentsRequest,
    _deadline: Duration,
) -> Result<v1::ExtentsReply, WireError> {
    decode::group(request.group)?;
    about(request.session, request.target.as_ref());
    let target = decode::target(request.target)?;
    let view = ctx.node.read(consistency(request.consistency, 0)?).await?;
    let caller = caller(&view, request.session)?;
    imported(ctx, &view, &target, false).await?;
    let rows: &dyn Rows = &*view.store;
    let range = read::extents_as(rows, caller.as_ref(), &target, (request.offset, request.length))
        .map_err(super::refusal)?;
    let mut chunks: Vec<&ChunkRecord> = range.chunks.iter().collect();
    if let Some(tail) = &range.stat.tail
        && chunks.iter().all(|c| c.chunk != tail.chunk)
    {
        chunks.push(tail);
    }
    Ok(v1::ExtentsReply {
        inode: Some(v1::Inode::from(&range.stat.inode)),
        extents: range.extents.iter().map(v1::Extent::from).collect(),
        chunks: ctx.wire_chunks(rows, chunks)?,
        mounts: range.mounts.iter().map(|m| mount(rows, m)).collect::<Result<_, _>>()?,
        log_index: view.applied.0,
        more: range.more,
        policy: Some(v1::Policy::from(&range.stat.policy)),
    })
}

/// A mount as the wire has it.
pub fn mount(rows: &dyn Rows, record: &MountRecord) -> Result<v1::Mount, WireError> {
    let source = record.source.clone();
    Ok(v1::Mount {
        mount: record.mount.0,
        path: read::path_of(rows, record.root).map_err(super::refusal)?.into(),
        bucket: source.bucket,
        prefix: source.prefix,
        endpoint: source.endpoint,
        region: source.region,
        refresh_ms: source.refresh_ms,
        force_path_style: source.force_path_style,
        // Writing to a mount comes with write-back.
        read_only: true,
        root: record.root.0,
        ..v1::Mount::default()
    })
}
