//! What the leader's jobs read of the state, in the shapes that they use. Local reads: every act
//! that follows is a compare-and-set in the log, so that a stale read costs a try.

use cairn_types::{ChunkId, IntentId, SessionId, Timestamp};

use super::nodes::Registered;
use crate::keys::chunks::{self, ChunkRecord};
use crate::keys::disks::DiskRecord;
use crate::keys::intents::IntentRecord;
use crate::keys::queues::Queue;
use crate::keys::{self, RowFault};
use crate::namespace::{jobs, read};
use crate::store::{KeyRange, Rows};

/// Rows read in one step of a scan.
const PAGE: usize = 1024;

/// The head of a queue: (since, id), oldest first.
///
/// # Errors
/// [`RowFault`] when the store failed or a row is damaged.
pub fn queue(rows: &dyn Rows, queue: Queue, limit: usize) -> Result<Vec<(Timestamp, u64)>, RowFault> {
    Ok(jobs::queue(rows, queue, None, limit)?.into_iter().map(|w| (w.since, w.id)).collect())
}

/// The records of the chunks at the head of a queue.
///
/// # Errors
/// As [`queue`].
pub fn queued_chunks(rows: &dyn Rows, which: Queue, limit: usize) -> Result<Vec<ChunkRecord>, RowFault> {
    let ids = queue(rows, which, limit)?;
    ids.into_iter().filter_map(|(_, id)| read::chunk(rows, ChunkId(id)).transpose()).collect()
}

/// The intents, oldest first, at most `limit`.
///
/// # Errors
/// As [`queue`].
pub fn intents(rows: &dyn Rows, limit: usize) -> Result<Vec<IntentRecord>, RowFault> {
    let mut all: Vec<IntentRecord> = Vec::new();
    while all.len() < limit {
        let after: Option<IntentId> = all.last().map(|i| i.intent);
        let page = jobs::intents(rows, after, PAGE.min(limit - all.len()))?;
        if page.is_empty() {
            break;
        }
        all.extend(page);
    }
    Ok(all)
}

/// All sessions; those whose end has begun are among them.
///
/// # Errors
/// As [`queue`].
pub fn sessions(rows: &dyn Rows) -> Result<Vec<SessionId>, RowFault> {
    let mut all: Vec<SessionId> = Vec::new();
    loop {
        let page = jobs::sessions(rows, all.last().copied(), PAGE)?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page.into_iter().map(|s| s.session));
    }
}

/// All data nodes.
///
/// # Errors
/// As [`queue`].
pub fn nodes(rows: &dyn Rows) -> Result<Vec<Registered>, RowFault> {
    Ok(jobs::nodes(rows)?.into_iter().map(Registered::from).collect())
}

/// A page of all chunks after `after`, by id.
///
/// # Errors
/// As [`queue`].
pub fn chunks_after(rows: &dyn Rows, after: ChunkId, limit: usize) -> Result<Vec<ChunkRecord>, RowFault> {
    let range = KeyRange::prefix_after(&[], &chunks::key(after));
    Ok(keys::scan::<ChunkRecord>(rows, &range, limit)?.into_iter().map(|(_, c)| c).collect())
}

impl From<DiskRecord> for Registered {
    fn from(d: DiskRecord) -> Self {
        Self {
            node: d.node,
            disk: d.disk,
            address: d.address,
            incarnation: d.incarnation,
            capacity_bytes: d.capacity_bytes,
            retired: d.retired,
            version: d.version,
        }
    }
}
