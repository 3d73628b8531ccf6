//! `Extents`: where a range of a file is, with all that it takes to read it, from one point in
//! time.

use std::time::Duration;

use cairn_proto::{WireError, v1};
use cairn_types::{Extent, ExtentSource, ObjectKey};

use super::mounts::mount;
use super::stat::{about, caller, consistency, imported};
use super::{Context, decode};
use crate::keys;
use crate::keys::chunks::ChunkRecord;
use crate::keys::objects::{self, ObjectRow};
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
        extents: wire(rows, &range.extents)?,
        chunks: ctx.wire_chunks(rows, chunks)?,
        mounts: range.mounts.iter().map(|m| mount(rows, m)).collect::<Result<_, _>>()?,
        log_index: view.applied.0,
        more: range.more,
        policy: Some(v1::Policy::from(&range.stat.policy)),
    })
}

/// Extents as the wire has them, each of an object with that one's size: the file's may be another.
pub fn wire(rows: &dyn Rows, extents: &[Extent]) -> Result<Vec<v1::Extent>, WireError> {
    let mut last: Option<(ObjectKey, u64)> = None;
    let mut told = Vec::with_capacity(extents.len());
    for extent in extents {
        let mut wire = v1::Extent::from(extent);
        if let (ExtentSource::Object { object, .. }, Some(v1::extent::Source::Object(source))) =
            (&extent.source, &mut wire.source)
        {
            let known = last.take().filter(|(known, _)| known == object);
            let (object, size) = match known {
                Some(known) => known,
                None => (object.clone(), object_size(rows, object)?),
            };
            source.size = size;
            last = Some((object, size));
        }
        told.push(wire);
    }
    Ok(told)
}

/// The size of an object in that version; 0 when another one is known by now.
fn object_size(rows: &dyn Rows, object: &ObjectKey) -> Result<u64, WireError> {
    let row: Option<ObjectRow> =
        keys::get(rows, &objects::key(object.mount, &object.key)).map_err(super::fault)?;
    Ok(row.filter(|row| row.etag == object.etag).map_or(0, |row| row.size))
}
