//! BeginLoad, LoadFacts, EndLoad, DiscardLoad: a dump becomes the namespace, in bounded entries. Until
//! the last of them the state says that it is being loaded, and nobody else changes it.

use cairn_types::{FsError, Inode, InodeId, IntentId, NodeId, Timestamp};

use crate::keys::chunks::{self, ChunkRecord};
use crate::keys::contents::{self, ContentRow, DetachedRow};
use crate::keys::counters::{self, ContentCounter, Counts, Trees};
use crate::keys::extents::{self, ExtentRow};
use crate::keys::holds::Hold;
use crate::keys::imports::{self, ImportRecord};
use crate::keys::intents::{self, IntentRecord, Work};
use crate::keys::loads::{self, LoadId, LoadRecord};
use crate::keys::mounts::{self, MountRecord, MountSource};
use crate::keys::nodes::{self, NodeRow};
use crate::keys::objects::{self, ObjectRow};
use crate::keys::orphans::{self, Orphan};
use crate::keys::packs::PackRecord;
use crate::keys::places::{self, Place};
use crate::keys::trees::{self, Branch, RemovedTree};
use crate::keys::xattrs::{self, XattrRow, XattrTotals};
use crate::keys::{Record, RowFault, links};
use crate::namespace::Command;
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::facts::{ChunkFact, FACTS_PER_ENTRY_MAX, Fact, LOADED, Next, PartFact, holds_nothing};
use crate::namespace::read;
use crate::namespace::reply::Answer;
use crate::namespace::state::State;
use crate::store::{KeyRange, Rows, Table};

/// Rows that one entry takes out.
const DISCARDED_AT_ONCE: usize = 1024;

/// True for what may not be while a load is under way: all but sessions, servers, and the load itself.
pub fn is_in_the_way(state: &State<'_, '_>, command: &Command) -> Result<bool, RowFault> {
    let beside = matches!(
        command,
        Command::InitCluster { .. }
            | Command::OpenSession { .. }
            | Command::OpenSessionAs { .. }
            | Command::OpenHolder { .. }
            | Command::Deny { .. }
            | Command::RaiseLevel { .. }
            | Command::Probe
            | Command::CloseSession { .. }
            | Command::ExpireSession { .. }
            | Command::Acknowledge { .. }
            | Command::RegisterNode { .. }
            | Command::RetireDisk { .. }
            | Command::RemoveNode { .. }
            | Command::AdmitServer { .. }
            | Command::RetireServer { .. }
            | Command::BeginLoad { .. }
            | Command::LoadFacts { .. }
            | Command::EndLoad { .. }
            | Command::DiscardLoad
    );
    Ok(!beside && under_way(state)?.is_some())
}

/// The load that is under way.
fn under_way(state: &State<'_, '_>) -> Result<Option<LoadRecord>, RowFault> {
    read::load(&*state.txn)
}

/// The load that is under way, if it is that one and goes forward.
fn expected(state: &State<'_, '_>, load: LoadId) -> Outcome<LoadRecord> {
    match under_way(state)? {
        Some(record) if record.load == load && !record.discarding => Ok(record),
        Some(_) => refuse(FsError::Loading),
        None => refuse(FsError::NotFound),
    }
}

fn put_record(state: &mut State<'_, '_>, record: &LoadRecord) {
    state.put(loads::KEY.to_vec(), record);
}

/// Begins a load.
pub fn begin(state: &mut State<'_, '_>, load: LoadId, next: &Next, time: Timestamp) -> Outcome<Answer> {
    if under_way(state)?.is_some() {
        expected(state, load)?;
        return Ok(Answer::default());
    }
    if !holds_nothing(&*state.txn)? {
        return refuse(FsError::NotEmpty);
    }
    let root = state.inode(InodeId::ROOT)?;
    let counts = state.cluster.counts;
    go_beyond(state, next)?;
    state.cluster.time = state.cluster.time.max(time);
    put_record(state, &LoadRecord { load, loaded: 0, discarding: false, root, counts, last: Vec::new() });
    Ok(Answer::default())
}

/// No id that the dumped state gave, or gives to come, is given again.
fn go_beyond(state: &mut State<'_, '_>, next: &Next) -> Result<(), RowFault> {
    let own = &mut state.cluster.next;
    own.inode = own.inode.max(next.inode);
    own.chunk = own.chunk.max(next.chunk);
    own.session = own.session.max(next.session);
    own.pack = own.pack.max(next.pack);
    own.mount = own.mount.max(next.mount);
    own.intent = own.intent.max(next.intent);
    let made = state.get::<ContentCounter>(counters::CONTENTS_KEY)?.unwrap_or_default().made;
    if next.contents > made {
        state.put(counters::CONTENTS_KEY.to_vec(), &ContentCounter { made: next.contents });
    }
    Ok(())
}

/// Loads the next facts.
pub fn facts(state: &mut State<'_, '_>, load: LoadId, first: u64, facts: &[Option<Fact>]) -> Outcome<Answer> {
    let mut record = expected(state, load)?;
    let end = first.saturating_add(facts.len() as u64);
    if end <= record.loaded {
        return Ok(Answer::default());
    }
    if first != record.loaded || end > load.facts {
        return refuse(FsError::InvalidRequest);
    }
    if facts.len() > FACTS_PER_ENTRY_MAX {
        return refuse(FsError::TooLarge);
    }
    for fact in facts.iter().flatten() {
        put(state, fact)?;
    }
    record.loaded = end;
    put_record(state, &record);
    Ok(Answer::default())
}

/// Ends a load of which nothing is missing.
pub fn end(state: &mut State<'_, '_>, load: LoadId) -> Outcome<Answer> {
    let record = expected(state, load)?;
    if record.loaded != load.facts {
        return refuse(FsError::InvalidRequest);
    }
    state.delete(Table::Counters, loads::KEY.to_vec());
    Ok(Answer::default())
}

/// Takes out some rows of what was loaded; with the last of them the namespace is as it was before.
/// Ids and the time stay where they are.
pub fn discard(state: &mut State<'_, '_>) -> Outcome<Answer> {
    let Some(mut record) = under_way(state)? else { return refuse(FsError::NotFound) };
    record.discarding = true;
    let roots = [(Table::Nodes, nodes::key(InodeId(0), b"")), (Table::Places, places::key(InodeId::ROOT))];
    let (first, after) = match record.last.split_first() {
        Some((table, key)) => (usize::from(*table), [key, &[0]].concat()),
        None => (0, Vec::new()),
    };
    let mut left = DISCARDED_AT_ONCE;
    for (at, table) in (0u8..).zip(LOADED).skip(first) {
        let from = if usize::from(at) == first { after.clone() } else { Vec::new() };
        for (key, value) in state.txn.scan(table, &KeyRange { from, until: None }, left)? {
            left -= 1;
            record.last = [&[at], key.as_slice()].concat();
            if roots.iter().any(|(of, root)| *of == table && *root == key) {
                continue;
            }
            if table == Table::Trees {
                let tree = RemovedTree::from_bytes(&key, &value)?;
                count_tree(state, |trees| Trees {
                    pending: trees.pending.saturating_sub(1),
                    purged: trees.purged.saturating_sub(tree.purged),
                })?;
            }
            state.delete(table, key);
        }
        if left == 0 {
            break;
        }
    }
    if left == 0 {
        put_record(state, &record);
        return Ok(Answer::default());
    }
    state.put_at(&Place::of_root(), &record.root);
    state.cluster.counts = Counts { sessions: state.cluster.counts.sessions, ..record.counts };
    state.delete(Table::Counters, loads::KEY.to_vec());
    Ok(Answer::default())
}

/// Writes a fact, and all that follows from it.
fn put(state: &mut State<'_, '_>, fact: &Fact) -> Outcome<()> {
    match fact {
        Fact::Chunk(fact) => put_chunk(state, fact)?,
        Fact::Name { parent, name, inode } => put_name(state, *parent, name, inode)?,
        Fact::Link { parent, name, ino, kind } => {
            state.put(nodes::key(*parent, name), &NodeRow::Link { ino: *ino, kind: *kind });
            state.mark(Table::Links, links::key(*ino, *parent, name));
        }
        Fact::Xattr { ino, name, value } => {
            let known: Option<XattrTotals> = state.get(&xattrs::totals_key(*ino))?;
            let XattrTotals { count, bytes } = known.unwrap_or_default();
            let totals = XattrTotals {
                count: count.saturating_add(1),
                bytes: bytes.saturating_add(value.len() as u64),
            };
            state.put(xattrs::totals_key(*ino), &totals);
            state.put(xattrs::key(*ino, name), &XattrRow { value: value.clone() });
        }
        Fact::Parts { ino, parts } => {
            let part = |part: &PartFact| contents::Part { from: part.from, content: part.content };
            state.put(contents::key(*ino), &ContentRow { parts: parts.iter().map(part).collect() });
        }
        Fact::Detached { content, from } => {
            state.put(contents::detached_key(*content), &DetachedRow { from: *from });
        }
        Fact::Extent { content, offset, length, source } => {
            let row = ExtentRow { length: *length, source: source.clone() };
            state.put(extents::key(*content, *offset), &row);
        }
        Fact::Pack { .. } | Fact::PackDeletion { .. } => put_pack(state, fact),
        Fact::Mount { .. } | Fact::Import { .. } | Fact::Object { .. } => put_mount(state, fact),
        Fact::Orphan { .. } | Fact::Tree { .. } | Fact::Branch { .. } => put_unfinished(state, fact)?,
    }
    Ok(())
}

fn put_chunk(state: &mut State<'_, '_>, fact: &ChunkFact) -> Result<(), RowFault> {
    let record: ChunkRecord = fact.record();
    if record.sealed_length().is_some_and(|length| record.extent_end > length) {
        state.cluster.counts.extents_beyond_seal += 1;
    }
    state.put_chunk(None, &record)
}

/// The root takes the place of the one that is there. A tail that was left out is none.
fn put_name(state: &mut State<'_, '_>, parent: InodeId, name: &[u8], inode: &Inode) -> Outcome<()> {
    let is_root = inode.ino == InodeId::ROOT;
    if is_root != (parent == InodeId(0)) || is_root != name.is_empty() {
        return refuse(FsError::InvalidRequest);
    }
    let mut inode = inode.clone();
    if let Some(tail) = inode.tail
        && state.txn.get(Table::Chunks, &chunks::key(tail.chunk))?.is_none()
    {
        inode.tail = None;
    }
    let place = Place { parent, name: name.to_vec() };
    state.put_at(&place, &inode);
    state.put(places::key(inode.ino), &place);
    state.cluster.counts.inodes += u64::from(!is_root);
    Ok(())
}

fn put_pack(state: &mut State<'_, '_>, fact: &Fact) {
    match fact.clone() {
        Fact::Pack { pack, key, etag, bytes, created_ns, deletion } => {
            let (live_chunks, live_bytes, created) = (0, 0, created_ns);
            state.put_pack(&PackRecord {
                pack,
                key,
                etag,
                bytes,
                live_chunks,
                live_bytes,
                created,
                deletion,
            });
            state.cluster.counts.packs += 1;
        }
        Fact::PackDeletion { intent, pack, key, created_ns } => {
            put_deletion(state, intent, Work::DeletePack { pack, key }, created_ns);
        }
        _ => {}
    }
}

/// Nobody has the work: the leader gives it away.
fn put_deletion(state: &mut State<'_, '_>, intent: IntentId, work: Work, created: Timestamp) {
    state.put(intents::key(intent), &IntentRecord::new(intent, NodeId(0), work, created));
    state.cluster.counts.intents += 1;
}

fn put_mount(state: &mut State<'_, '_>, fact: &Fact) {
    match fact.clone() {
        Fact::Mount {
            mount,
            root,
            bucket,
            prefix,
            endpoint,
            region,
            refresh_ms,
            force_path_style,
            created_ns,
        } => {
            let source = MountSource { bucket, prefix, endpoint, region, refresh_ms, force_path_style };
            state.put(mounts::key(mount), &MountRecord { mount, root, source, created: created_ns });
        }
        Fact::Import { directory, mount, prefix, imported_ns } => {
            let record = ImportRecord { mount, prefix, imported_at: imported_ns, intent: None };
            state.put(imports::key(directory), &record);
        }
        Fact::Object { mount, key, ino, etag, size } => {
            state.put(objects::key(mount, &key), &ObjectRow { ino, etag, size });
        }
        _ => {}
    }
}

/// Counts a removed tree, and the names that went with it.
fn count_tree(state: &mut State<'_, '_>, change: impl FnOnce(Trees) -> Trees) -> Result<(), RowFault> {
    let known: Trees = state.get(counters::TREES_KEY)?.unwrap_or_default();
    state.put(counters::TREES_KEY.to_vec(), &change(known));
    Ok(())
}

fn put_unfinished(state: &mut State<'_, '_>, fact: &Fact) -> Result<(), RowFault> {
    match fact.clone() {
        Fact::Orphan { inode } if inode.is_file() && inode.nlink == 0 => {
            // Some session had it open where it was dumped; here nobody has, which decides on it.
            state.mark(Table::Holds, Hold::Undecided(state.index, inode.ino).key());
            let since = Some(state.index);
            state.put(orphans::key(inode.ino), &Orphan { inode, since });
        }
        Fact::Orphan { inode } => state.put(orphans::key(inode.ino), &Orphan { inode, since: None }),
        Fact::Tree { parent, name, inode, removed_ns, purged, height } => {
            let place = Place { parent, name };
            let tree = RemovedTree { place, removed: removed_ns, purged, height, inode, open: None };
            state.put(trees::key(tree.inode.ino), &tree);
            count_tree(state, |trees| Trees {
                pending: trees.pending.saturating_add(1),
                purged: trees.purged.saturating_add(purged),
            })?;
        }
        Fact::Branch { tree, place, directory, after } => {
            state.put(trees::branch_key(tree, place), &Branch { directory, after, policy: None });
        }
        _ => {}
    }
    Ok(())
}
