//! [`Facts`]: the facts of a state, in the order of its tables.

use bincode::{Decode, Encode};
use cairn_types::{ChunkId, InodeId, IntentId, MountId, PackId, SessionId};
use serde::{Deserialize, Serialize};

use super::chunk::ChunkFact;
use super::fact::{Fact, PartFact};
use crate::keys::chunks::{ChunkRecord, ChunkState};
use crate::keys::contents::{self, ContentId, ContentRow, DetachedRow};
use crate::keys::counters::{self, ContentCounter};
use crate::keys::extents::{self, ExtentRow};
use crate::keys::imports::ImportRecord;
use crate::keys::intents::{IntentRecord, Work};
use crate::keys::mounts::{MountRecord, MountSource};
use crate::keys::nodes::{self, NodeRow};
use crate::keys::objects::ObjectRow;
use crate::keys::orphans::Orphan;
use crate::keys::packs::PackRecord;
use crate::keys::trees::{Branch, RemovedTree};
use crate::keys::xattrs::{self, XattrRow};
use crate::keys::{self, Record, RowFault, u64_at};
use crate::namespace::read;
use crate::store::{KeyRange, Rows, Table};

/// The tables whose rows are facts. What a load looks up comes first: packs before chunks, chunks
/// before the files whose tails they are.
const TABLES: [Table; 14] = [
    Table::Packs,
    Table::Intents,
    Table::Chunks,
    Table::Mounts,
    Table::Nodes,
    Table::Xattrs,
    Table::Imports,
    Table::Keys,
    Table::Contents,
    Table::Detached,
    Table::Extents,
    Table::Orphans,
    Table::Trees,
    Table::Branches,
];

/// The tables that a load writes, and those that must be empty before it; the root's rows alone are in
/// the last two.
pub const LOADED: [Table; 20] = [
    Table::Links,
    Table::Orphans,
    Table::Extents,
    Table::Contents,
    Table::Detached,
    Table::Chunks,
    Table::Queues,
    Table::Held,
    Table::Packs,
    Table::Mounts,
    Table::Keys,
    Table::Imports,
    Table::Writers,
    Table::Writing,
    Table::Intents,
    Table::Xattrs,
    Table::Trees,
    Table::Branches,
    Table::Nodes,
    Table::Places,
];

/// True for a namespace that holds nothing but its root, which has no extended attribute.
///
/// # Errors
/// A fault of the store.
pub fn holds_nothing(rows: &(impl Rows + ?Sized)) -> Result<bool, RowFault> {
    for table in LOADED {
        let root = usize::from(matches!(table, Table::Nodes | Table::Places));
        if rows.scan(table, &KeyRange::default(), root + 1)?.len() > root {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Bytes of a mount's number in a key.
const MOUNT_BYTES: usize = 4;

/// The ids that a state gives next, as far as facts have them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Next {
    /// Of inodes.
    pub inode: InodeId,
    /// Of chunks.
    pub chunk: ChunkId,
    /// Of sessions: writers' ids are made of them.
    pub session: SessionId,
    /// Of packs.
    pub pack: PackId,
    /// Of mounts.
    pub mount: MountId,
    /// Of intents.
    pub intent: IntentId,
    /// How many contents were made for files that were cut.
    pub contents: u64,
}

/// The ids that a state gives next.
///
/// # Errors
/// A fault of the store.
pub fn next_ids(rows: &dyn Rows) -> Result<Next, RowFault> {
    let next = read::cluster(rows)?.next;
    let contents: Option<ContentCounter> = keys::get(rows, counters::CONTENTS_KEY)?;
    Ok(Next {
        inode: next.inode,
        chunk: next.chunk,
        session: next.session,
        pack: next.pack,
        mount: next.mount,
        intent: next.intent,
        contents: contents.unwrap_or_default().made,
    })
}

/// The facts of a state that are not told yet.
#[derive(Debug, Default)]
pub struct Facts {
    table: usize,
    from: Vec<u8>,
    rows: u64,
}

impl Facts {
    /// All of them.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Rows that were read so far.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The table that is being read; `None` at the end.
    #[must_use]
    pub fn table(&self) -> Option<Table> {
        TABLES.get(self.table).copied()
    }

    /// Reads up to `limit` rows of `rows`, the same point in time in all steps.
    ///
    /// # Errors
    /// [`RowFault`] when the store failed or a row is no record: a check (`fsck`) says more.
    pub fn step(&mut self, rows: &dyn Rows, limit: usize) -> Result<Vec<Fact>, RowFault> {
        let Some(table) = self.table() else { return Ok(Vec::new()) };
        let range = KeyRange { from: self.from.clone(), until: None };
        let found = rows.scan(table, &range, limit)?;
        self.rows += found.len() as u64;
        match found.last() {
            Some((key, _)) if found.len() == limit => self.from = [key.as_slice(), &[0]].concat(),
            _ => (self.table, self.from) = (self.table + 1, Vec::new()),
        }
        let facts = found.iter().map(|(key, value)| fact(table, key, value).transpose());
        facts.flatten().collect()
    }
}

/// What a row says; `None` when it says nothing that a dump tells.
fn fact(table: Table, key: &[u8], value: &[u8]) -> Result<Option<Fact>, RowFault> {
    let number = |at| u64_at(table, key, at);
    Ok(Some(match table {
        Table::Packs => pack(PackRecord::from_bytes(key, value)?),
        Table::Intents => return Ok(deletion(IntentRecord::from_bytes(key, value)?)),
        Table::Chunks => {
            let record = ChunkRecord::from_bytes(key, value)?;
            // A spare has nothing, and follows a tail of this cluster alone.
            if record.state == ChunkState::Spare {
                return Ok(None);
            }
            Fact::Chunk(ChunkFact::of(&record))
        }
        Table::Mounts => mount(MountRecord::from_bytes(key, value)?),
        Table::Nodes => name(InodeId(number(0)?), key, NodeRow::from_bytes(key, value)?),
        // Their totals follow from them.
        Table::Xattrs if xattrs::name(key).is_empty() => return Ok(None),
        Table::Xattrs => Fact::Xattr {
            ino: InodeId(number(0)?),
            name: xattrs::name(key).to_vec(),
            value: XattrRow::from_bytes(key, value)?.value,
        },
        Table::Imports => {
            let ImportRecord { mount, prefix, imported_at, .. } = ImportRecord::from_bytes(key, value)?;
            Fact::Import { directory: InodeId(number(0)?), mount, prefix, imported_ns: imported_at }
        }
        Table::Keys => object(key, ObjectRow::from_bytes(key, value)?)?,
        Table::Contents => {
            let parts = ContentRow::from_bytes(key, value)?.parts;
            let part = |part: contents::Part| PartFact { from: part.from, content: part.content };
            Fact::Parts { ino: InodeId(number(0)?), parts: parts.into_iter().map(part).collect() }
        }
        Table::Detached => {
            let DetachedRow { from } = DetachedRow::from_bytes(key, value)?;
            Fact::Detached { content: ContentId(number(0)?), from }
        }
        Table::Extents => {
            let extent = extents::extent(key, ExtentRow::from_bytes(key, value)?)?;
            let content = ContentId(number(0)?);
            Fact::Extent { content, offset: extent.file_offset, length: extent.length, source: extent.source }
        }
        Table::Orphans => Fact::Orphan { inode: Orphan::from_bytes(key, value)?.inode },
        Table::Trees => tree(RemovedTree::from_bytes(key, value)?),
        Table::Branches => {
            let Branch { directory, after, policy: _ } = Branch::from_bytes(key, value)?;
            Fact::Branch { tree: InodeId(number(0)?), place: number(8)?, directory, after }
        }
        _ => return Ok(None),
    }))
}

fn pack(record: PackRecord) -> Fact {
    let PackRecord { pack, key, etag, bytes, created, deletion, .. } = record;
    Fact::Pack { pack, key, etag, bytes, created_ns: created, deletion }
}

/// Uploads, compactions, merges and imports begin anew: what waits for them says so.
fn deletion(record: IntentRecord) -> Option<Fact> {
    let IntentRecord { intent, work, created, .. } = record;
    match work {
        Work::DeletePack { pack, key } => Some(Fact::PackDeletion { intent, pack, key, created_ns: created }),
        Work::Upload { .. }
        | Work::Import { .. }
        | Work::Compact { .. }
        | Work::Merge { .. }
        | Work::PutObject { .. }
        | Work::DeleteObject { .. }
        | Work::ProbeMount { .. } => None,
    }
}

fn mount(record: MountRecord) -> Fact {
    let MountRecord { mount, root, source, created } = record;
    let MountSource { bucket, prefix, endpoint, region, refresh_ms, force_path_style } = source;
    let created_ns = created;
    Fact::Mount { mount, root, bucket, prefix, endpoint, region, refresh_ms, force_path_style, created_ns }
}

fn name(parent: InodeId, key: &[u8], row: NodeRow) -> Fact {
    let name = nodes::name(key).to_vec();
    match row {
        NodeRow::Inode(inode) => Fact::Name { parent, name, inode },
        NodeRow::Link { ino, kind } => Fact::Link { parent, name, ino, kind },
    }
}

fn object(key: &[u8], row: ObjectRow) -> Result<Fact, RowFault> {
    let damaged = || RowFault::Damaged { table: Table::Keys, key: key.to_vec() };
    let (number, object) = key.split_first_chunk::<MOUNT_BYTES>().ok_or_else(damaged)?;
    let ObjectRow { ino, etag, size } = row;
    let mount = MountId(u32::from_be_bytes(*number));
    Ok(Fact::Object { mount, key: object.to_vec(), ino, etag, size })
}

fn tree(record: RemovedTree) -> Fact {
    // Where it is loaded, nobody has any of its files open.
    let RemovedTree { inode, place, removed, purged, height, open: _ } = record;
    Fact::Tree { parent: place.parent, name: place.name, inode, removed_ns: removed, purged, height }
}
