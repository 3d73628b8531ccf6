//! Pure reads for the leader's jobs: queues, intents, sessions, nodes, removed nodes, orphans,
//! detached extents, removed trees.

use cairn_types::{FeatureLevel, InodeId, IntentId, NodeId, PackId, SessionId, Timestamp};

use super::merging;
use crate::keys::chunks::{self, ChunkRecord};
use crate::keys::contents::{self, ContentId};
use crate::keys::counters::{self, Trees};
use crate::keys::disks::DiskRecord;
use crate::keys::intents::{IntentRecord, Work};
use crate::keys::levels::{self, ClusterLevel};
use crate::keys::orphans::Orphan;
use crate::keys::packs::{self, PackRecord};
use crate::keys::pictures;
use crate::keys::queues::{self, Queue};
use crate::keys::removed::RemovedNode;
use crate::keys::servers::{self, Servers};
use crate::keys::sessions::SessionRecord;
use crate::keys::trees::{self, RemovedTree};
use crate::keys::{self, RowFault, intents};
use crate::store::{KeyRange, Rows, Table};

/// Data nodes in one answer, at most.
const NODES_MAX: usize = 10_000;

/// Unlinked inodes read at once.
const ORPHANS_AT_ONCE: usize = 256;

/// A chunk or pack that waits in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Waiting {
    /// Since when; the queue's order. [`Queue`] says what it is the time of.
    pub since: Timestamp,
    /// The chunk's or the pack's id.
    pub id: u64,
}

/// The first `limit` that wait in a queue, the oldest first; after `after` when given.
///
/// # Errors
/// A fault of the store.
pub fn queue(
    rows: &dyn Rows,
    queue: Queue,
    after: Option<Waiting>,
    limit: usize,
) -> Result<Vec<Waiting>, RowFault> {
    let all = queues::all(queue);
    let range = match after {
        Some(w) => KeyRange::prefix_after(&all.from, &queues::key(queue, w.since, w.id)),
        None => all,
    };
    let found = rows.scan(Table::Queues, &range, limit)?;
    found.iter().map(|(key, _)| queues::parse(key).map(|(since, id)| Waiting { since, id })).collect()
}

/// Intents after `after`, `limit` at most, in the order of their making.
///
/// # Errors
/// A fault of the store.
pub fn intents(
    rows: &dyn Rows,
    after: Option<IntentId>,
    limit: usize,
) -> Result<Vec<IntentRecord>, RowFault> {
    let range = match after {
        Some(intent) => KeyRange::prefix_after(&[], &intents::key(intent)),
        None => KeyRange::default(),
    };
    Ok(keys::scan(rows, &range, limit)?.into_iter().map(|(_, record)| record).collect())
}

/// True when work that writes a pack does not serve its purpose any more: a chunk of it is dead or gone,
/// or, where it moves between packs, not where it was found; a run of extents is not as it was found.
///
/// # Errors
/// A fault of the store.
pub fn is_in_vain(rows: &dyn Rows, work: &Work) -> Result<bool, RowFault> {
    let find = |chunk| keys::get::<ChunkRecord>(rows, &chunks::key(chunk));
    match work {
        Work::Upload { chunks, .. } => {
            for upload in chunks {
                if find(upload.chunk)?.is_none_or(|record| record.is_dead()) {
                    return Ok(true);
                }
            }
        }
        Work::Compact { chunks, .. } => {
            for packed in chunks {
                let stays = |record: &ChunkRecord| !record.is_dead() && record.place == Some(packed.place);
                if !find(packed.chunk)?.is_some_and(|record| stays(&record)) {
                    return Ok(true);
                }
            }
        }
        Work::Merge { runs, .. } => {
            for run in runs {
                if merging::stands(rows, run)?.is_none() {
                    return Ok(true);
                }
            }
        }
        Work::Import { .. }
        | Work::DeletePack { .. }
        | Work::PutObject { .. }
        | Work::DeleteObject { .. }
        | Work::ProbeMount { .. } => {}
    }
    Ok(false)
}

/// Packs after `after`, `limit` at most, by their ids.
///
/// # Errors
/// A fault of the store.
pub fn packs_after(rows: &dyn Rows, after: PackId, limit: usize) -> Result<Vec<PackRecord>, RowFault> {
    let range = KeyRange::prefix_after(&[], &packs::key(after));
    Ok(keys::scan(rows, &range, limit)?.into_iter().map(|(_, record)| record).collect())
}

/// The unfinished intents of a data node among the first `limit` of all.
///
/// # Errors
/// A fault of the store.
pub fn intents_of(rows: &dyn Rows, node: NodeId, limit: usize) -> Result<Vec<IntentRecord>, RowFault> {
    let mut all = intents(rows, None, limit)?;
    all.retain(|intent| intent.assignee == node && !intent.failed);
    Ok(all)
}

/// Sessions after `after`, `limit` at most. One that is `closing` must be expired again.
///
/// # Errors
/// A fault of the store.
pub fn sessions(
    rows: &dyn Rows,
    after: Option<SessionId>,
    limit: usize,
) -> Result<Vec<SessionRecord>, RowFault> {
    let range = match after {
        Some(session) => KeyRange::prefix_after(&[], &keys::sessions::key(session)),
        None => KeyRange::default(),
    };
    Ok(keys::scan(rows, &range, limit)?.into_iter().map(|(_, record)| record).collect())
}

/// All data nodes that registered, by disk; one that was removed until no chunk names it.
///
/// # Errors
/// A fault of the store.
pub fn nodes(rows: &dyn Rows) -> Result<Vec<DiskRecord>, RowFault> {
    let found = keys::scan(rows, &KeyRange::default(), NODES_MAX)?;
    Ok(found.into_iter().map(|(_, record)| record).collect())
}

/// All data nodes that were ever removed, by disk.
///
/// # Errors
/// A fault of the store.
pub fn removed(rows: &dyn Rows) -> Result<Vec<RemovedNode>, RowFault> {
    let found = keys::scan(rows, &KeyRange::default(), NODES_MAX)?;
    Ok(found.into_iter().map(|(_, record)| record).collect())
}

/// The metadata servers that were ever added or removed.
///
/// # Errors
/// A fault of the store.
pub fn servers(rows: &dyn Rows) -> Result<Servers, RowFault> {
    Ok(keys::get(rows, servers::KEY)?.unwrap_or_default())
}

/// The cluster's feature level.
///
/// # Errors
/// A fault of the store.
pub fn level(rows: &dyn Rows) -> Result<FeatureLevel, RowFault> {
    let known: ClusterLevel = keys::get(rows, levels::KEY)?.unwrap_or_default();
    Ok(known.level)
}

/// Unlinked inodes to be purged after `after`, `limit` at most: those that nobody holds.
///
/// # Errors
/// A fault of the store.
pub fn orphans(rows: &dyn Rows, after: Option<InodeId>, limit: usize) -> Result<Vec<InodeId>, RowFault> {
    let mut range = match after {
        Some(ino) => KeyRange::prefix_after(&[], &keys::orphans::key(ino)),
        None => KeyRange::default(),
    };
    let mut found = Vec::new();
    loop {
        let page = keys::scan::<Orphan>(rows, &range, ORPHANS_AT_ONCE)?;
        let last = page.last().map(|(key, _)| key.clone()).filter(|_| page.len() == ORPHANS_AT_ONCE);
        let free = page.into_iter().filter(|(_, orphan)| orphan.since.is_none());
        found.extend(free.map(|(_, orphan)| orphan.inode.ino).take(limit - found.len()));
        match last {
            Some(key) if found.len() < limit => range.from = [key.as_slice(), &[0]].concat(),
            _ => return Ok(found),
        }
    }
}

/// Contents with extents that no file names any more, after `after`, `limit` at most: but for those that are
/// kept for an intent that writes a file to its bucket.
///
/// # Errors
/// A fault of the store.
pub fn detached(rows: &dyn Rows, after: Option<ContentId>, limit: usize) -> Result<Vec<ContentId>, RowFault> {
    let mut range = match after {
        Some(content) => KeyRange::prefix_after(&[], &contents::detached_key(content)),
        None => KeyRange::default(),
    };
    let mut free = Vec::new();
    loop {
        let found = rows.scan(Table::Detached, &range, limit)?;
        for (key, _) in &found {
            let content = contents::detached(key)?;
            if free.len() < limit && rows.get(Table::Keeps, &pictures::kept_key(content))?.is_none() {
                free.push(content);
            }
        }
        match found.last() {
            Some((key, _)) if found.len() == limit && free.len() < limit => {
                range.from = [key.as_slice(), &[0]].concat();
            }
            _ => return Ok(free),
        }
    }
}

/// Removed trees that are not all gone, after `after`, `limit` at most.
///
/// # Errors
/// A fault of the store.
pub fn trees(rows: &dyn Rows, after: Option<InodeId>, limit: usize) -> Result<Vec<RemovedTree>, RowFault> {
    let range = match after {
        Some(top) => KeyRange::prefix_after(&[], &trees::key(top)),
        None => KeyRange::default(),
    };
    Ok(keys::scan(rows, &range, limit)?.into_iter().map(|(_, tree)| tree).collect())
}

/// A removed tree; `None` when all of it is gone.
///
/// # Errors
/// A fault of the store.
pub fn tree(rows: &dyn Rows, top: InodeId) -> Result<Option<RemovedTree>, RowFault> {
    keys::get(rows, &trees::key(top))
}

/// How many trees wait to be purged, and how many names went with others.
///
/// # Errors
/// A fault of the store.
pub fn tree_counts(rows: &dyn Rows) -> Result<Trees, RowFault> {
    Ok(keys::get(rows, counters::TREES_KEY)?.unwrap_or_default())
}

/// A pack.
///
/// # Errors
/// A fault of the store.
pub fn pack(rows: &dyn Rows, pack: PackId) -> Result<Option<PackRecord>, RowFault> {
    keys::get(rows, &packs::key(pack))
}
