//! What the leader's jobs read of the state, in the shapes that they use. Local reads: every act
//! that follows is a compare-and-set in the log, so that a stale read costs a try.

use cairn_types::{ChunkId, IntentId, MountId, NodeId, SessionId};

use super::domains::host_of;
use super::leaving::Leaving;
use super::look::Look;
use super::nodes::Registered;
use crate::keys::chunks::{self, ChunkRecord};
use crate::keys::disks::DiskRecord;
use crate::keys::intents::IntentRecord;
use crate::keys::mount_modes::{self, MountMode};
use crate::keys::mounts::MountRecord;
use crate::keys::queues::Queue;
use crate::keys::{self, RowFault};
use crate::namespace::jobs::Waiting;
use crate::namespace::{jobs, read};
use crate::store::{KeyRange, Rows};

/// Rows read in one step of a scan.
const PAGE: usize = 1024;

/// A chunk that waits in a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queued {
    /// Its place there.
    pub place: Waiting,
    /// The chunk.
    pub record: ChunkRecord,
}

/// A turn's look at a queue, where the last turn left `after`.
///
/// # Errors
/// [`RowFault`] when the store failed or a row is damaged.
pub fn look(
    rows: &dyn Rows,
    queue: Queue,
    after: Option<Waiting>,
    limit: usize,
) -> Result<Look<Waiting, Waiting>, RowFault> {
    Look::take(after, limit, |w: &Waiting| *w, |after, limit| jobs::queue(rows, queue, after, limit))
}

/// As [`look`], with the chunks' records.
///
/// # Errors
/// As [`look`].
pub fn look_at_chunks(
    rows: &dyn Rows,
    queue: Queue,
    after: Option<Waiting>,
    limit: usize,
) -> Result<Look<Queued, Waiting>, RowFault> {
    look(rows, queue, after, limit)?.try_filter_map(|place| {
        let record = read::chunk(rows, ChunkId(place.id)).transpose()?;
        Some(record.map(|record| Queued { place, record }))
    })
}

/// A page of a queue's chunks after `after`, and where the next one begins, if there is one.
///
/// # Errors
/// As [`look`].
pub fn queued_chunks(
    rows: &dyn Rows,
    queue: Queue,
    after: Option<Waiting>,
    limit: usize,
) -> Result<(Vec<ChunkRecord>, Option<Waiting>), RowFault> {
    let places = jobs::queue(rows, queue, after, limit)?;
    let next = places.last().copied().filter(|_| places.len() == limit);
    let records = places.iter().filter_map(|w| read::chunk(rows, ChunkId(w.id)).transpose());
    Ok((records.collect::<Result<Vec<_>, _>>()?, next))
}

/// A turn's look at the intents, where the last turn left `after`.
///
/// # Errors
/// As [`look`].
pub fn look_at_intents(
    rows: &dyn Rows,
    after: Option<IntentId>,
    limit: usize,
) -> Result<Look<IntentRecord, IntentId>, RowFault> {
    let key = |record: &IntentRecord| record.intent;
    Look::take(after, limit, key, |after, limit| jobs::intents(rows, after, limit))
}

/// All sessions; those whose end has begun are among them.
///
/// # Errors
/// As [`look`].
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
/// As [`look`].
pub fn nodes(rows: &dyn Rows) -> Result<Vec<Registered>, RowFault> {
    Ok(jobs::nodes(rows)?.into_iter().map(Registered::from).collect())
}

/// All data nodes, and whether each was removed.
///
/// # Errors
/// As [`look`].
pub fn known_nodes(rows: &dyn Rows) -> Result<Vec<Registered>, RowFault> {
    let gone = jobs::removed(rows)?;
    let removed = |node: NodeId| gone.iter().any(|g| g.node == node);
    Ok(nodes(rows)?.into_iter().map(|n| Registered { removed: removed(n.node), ..n }).collect())
}

/// The mounts that say how they are written to, or how their bucket is spoken to.
///
/// # Errors
/// As [`look`].
pub fn mount_modes(rows: &dyn Rows) -> Result<Vec<(MountId, MountMode)>, RowFault> {
    let mode = |record: MountRecord| {
        let mode = keys::get(rows, &mount_modes::key(record.mount)).transpose()?;
        Some(mode.map(|mode| (record.mount, mode)))
    };
    read::mounts(rows)?.into_iter().filter_map(mode).collect()
}

/// A page of all chunks after `after`, by id.
///
/// # Errors
/// As [`look`].
pub fn chunks_after(rows: &dyn Rows, after: ChunkId, limit: usize) -> Result<Vec<ChunkRecord>, RowFault> {
    let range = KeyRange::prefix_after(&[], &chunks::key(after));
    Ok(keys::scan::<ChunkRecord>(rows, &range, limit)?.into_iter().map(|(_, c)| c).collect())
}

impl From<DiskRecord> for Registered {
    fn from(d: DiskRecord) -> Self {
        Self {
            leaving: Leaving::from(&d),
            host: host_of(&d.host, d.boot_id),
            zone: d.zone,
            node: d.node,
            disk: d.disk,
            address: d.address,
            incarnation: d.incarnation,
            capacity_bytes: d.capacity_bytes,
            retired: d.retired,
            version: d.version,
            removed: false,
        }
    }
}
