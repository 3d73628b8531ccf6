//! How much is not in S3 yet, and when that is too much.

use std::collections::HashSet;

use cairn_types::limits::CHUNK_BYTES_MAX;
use cairn_types::{ChunkId, ExtentSource, FsError, InodeId, Persist, Policy};

use super::nodes::View;
use super::tenure::{JobFault, Tenure};
use crate::keys::contents;
use crate::keys::extents::{self, ExtentRow};
use crate::keys::{Record, RowFault};
use crate::namespace::read;
use crate::store::{Rows, Table};

/// Unpersisted bytes that a node may be left with, replicas counted.
pub const NODE_BYTES_MAX: u64 = 8 << 30;
/// Extents of one file that are looked at, from its end back.
const EXTENTS_MAX: usize = 2048;

/// A chunk that is to be opened, or given more room.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// The file whose tail it is or would be.
    pub tail_of: Option<InodeId>,
    /// Bytes that were granted to it already, which count as written.
    pub granted: u64,
    /// Bytes that it shall have.
    pub wanted: u64,
}

/// Refuses a new chunk, or more room in an open one, under `policy` when too much waits for S3: of
/// the cluster, where what was granted to all open chunks, and what is asked for, counts
/// too; or of the file. Requests that are looked at before the others are applied do not
/// see one another.
///
/// # Errors
/// `Ok(Some(LagBound))` when it is refused; [`JobFault`] when the state cannot be read.
pub fn bound(tenure: &Tenure, policy: &Policy, room: Room) -> Result<Option<FsError>, JobFault> {
    if policy.persist == Persist::Never {
        return Ok(None);
    }
    let view = tenure.local()?;
    let lag_bytes = read::cluster(&*view.store)?.counts.unpersisted_bytes;
    let live = tenure.registry.all().into_iter().filter(View::is_live).count() as u64;
    let bound_bytes = NODE_BYTES_MAX * live.max(1) / u64::from(policy.replicas.max(1));
    metrics::gauge!("cairn_meta_lag_bytes").set(lag_bytes as f64);
    if lag_bytes >= bound_bytes {
        return Ok(Some(FsError::LagBound { lag_bytes, bound_bytes }));
    }
    let more = room.wanted.min(CHUNK_BYTES_MAX).saturating_sub(room.granted);
    let lag_bytes = lag_bytes.saturating_add(read::granted(&*view.store)?).saturating_add(more);
    if more > 0 && lag_bytes > bound_bytes {
        return Ok(Some(FsError::LagBound { lag_bytes, bound_bytes }));
    }
    let Some(ino) = room.tail_of else { return Ok(None) };
    let lag_bytes = of_file(&*view.store, ino, policy.max_lag_bytes)?.saturating_add(room.granted);
    let bound_bytes = policy.max_lag_bytes;
    Ok((lag_bytes >= bound_bytes).then_some(FsError::LagBound { lag_bytes, bound_bytes }))
}

/// Bytes at a file's end whose chunks are not in S3, counted up to `enough`.
fn of_file(rows: &dyn Rows, ino: InodeId, enough: u64) -> Result<u64, RowFault> {
    let mut bytes = 0;
    let mut known: HashSet<ChunkId> = HashSet::new();
    let mut spans = contents::of(rows, ino)?.spans(0, u64::MAX);
    let Some(mut span) = spans.pop() else { return Ok(0) };
    let mut before = extents::key(span.content, span.until);
    for _ in 0..EXTENTS_MAX {
        let first = extents::key(span.content, span.from);
        let Some((key, value)) = rows.last_before(Table::Extents, &first, &before)? else {
            let Some(earlier) = spans.pop() else { break };
            span = earlier;
            before = extents::key(span.content, span.until);
            continue;
        };
        let row = ExtentRow::from_bytes(&key, &value)?;
        let ExtentSource::Chunk { chunk, .. } = row.source else { break };
        if !known.contains(&chunk) {
            // What lies before a persisted chunk is older and went first.
            if read::chunk(rows, chunk)?.is_none_or(|r| r.place.is_some()) {
                break;
            }
            known.insert(chunk);
        }
        bytes += row.length;
        if bytes >= enough {
            break;
        }
        before = key;
    }
    Ok(bytes)
}
