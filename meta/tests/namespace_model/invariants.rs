//! What must hold of the state's rows after every history. Written from the schema alone, without
//! the state machine's own code.

use std::collections::{BTreeMap, BTreeSet};

use cairn_meta::keys::chunks::{ChunkOwner, ChunkRecord, ChunkState};
use cairn_meta::keys::contents::{ContentId, ContentRow, DetachedRow};
use cairn_meta::keys::counters::{self, ClusterRecord, ContentCounter, Counts, Granted};
use cairn_meta::keys::disks::{self, DiskRecord};
use cairn_meta::keys::extents::{self, ExtentRow};
use cairn_meta::keys::imports::ImportRecord;
use cairn_meta::keys::intents::IntentRecord;
use cairn_meta::keys::nodes::{self, NodeRow};
use cairn_meta::keys::objects::{self, ObjectRow};
use cairn_meta::keys::orphans::Orphan;
use cairn_meta::keys::packs::PackRecord;
use cairn_meta::keys::places::Place;
use cairn_meta::keys::queues::{self, Queue};
use cairn_meta::keys::removed::{self, RemovedNode};
use cairn_meta::keys::sessions::SessionRecord;
use cairn_meta::keys::spares::SpareRow;
use cairn_meta::keys::xattrs::{XattrRow, XattrTotals};
use cairn_meta::keys::{self, Record, held, links, writers};
use cairn_meta::namespace::check::{Check, CheckBounds, Severity};
use cairn_meta::store::{KeyRange, Rows, Table};
use cairn_types::{ChunkId, ExtentSource, FileKind, Inode, InodeId, MountId, Persist};

fn all<R: Record>(rows: &dyn Rows) -> Vec<(Vec<u8>, R)> {
    keys::scan(rows, &KeyRange::default(), usize::MAX).unwrap()
}

fn raw(rows: &dyn Rows, table: Table) -> BTreeSet<Vec<u8>> {
    rows.scan(table, &KeyRange::default(), usize::MAX).unwrap().into_iter().map(|(k, _)| k).collect()
}

fn number(key: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(key[at..at + 8].try_into().unwrap())
}

/// Panics, saying which rows contradict each other.
pub fn check(rows: &dyn Rows) {
    removed_trees::check(rows);
    let inodes = check_names(rows);
    check_xattrs(rows, &inodes);
    check_extents(rows, &inodes);
    check_chunks(rows, &inodes);
    check_holders(rows);
    check_counts(rows, &inodes);
    check_sessions(rows);
    holders::check(rows);
    check_objects(rows, &inodes);
    locks::check(rows);
    check_finds_nothing(rows);
}

/// The server's own check, in small steps, agrees.
fn check_finds_nothing(rows: &dyn Rows) {
    let found = Check::all(rows, CheckBounds { rows_per_step: 7, sums_at_once: 3 }).unwrap();
    let damage: Vec<_> = found.into_iter().filter(|f| f.severity() == Severity::Damage).collect();
    assert_eq!(damage, []);
}

#[path = "holder_invariants.rs"]
mod holders;
#[path = "lock_invariants.rs"]
mod locks;
#[path = "tree_invariants.rs"]
mod removed_trees;
use holders::kept;
use removed_trees::branches;

/// places ↔ nodes ↔ links ↔ nlink; every directory hangs under the root, an orphan or a branch.
fn check_names(rows: &dyn Rows) -> BTreeMap<InodeId, Inode> {
    let places: BTreeMap<InodeId, Place> =
        all::<Place>(rows).into_iter().map(|(k, p)| (InodeId(number(&k, 0)), p)).collect();
    let orphans: BTreeMap<InodeId, Inode> =
        all::<Orphan>(rows).into_iter().map(|(_, o)| (o.inode.ino, o.inode)).collect();
    let branches = branches(rows);
    let mut inodes = BTreeMap::new();
    let mut names: BTreeMap<InodeId, u32> = BTreeMap::new();
    let mut subdirectories: BTreeMap<InodeId, u32> = BTreeMap::new();
    let mut links_wanted = BTreeSet::new();
    for (key, row) in all::<NodeRow>(rows) {
        let (parent, name) = (InodeId(number(&key, 0)), nodes::name(&key).to_vec());
        *names.entry(row.ino()).or_default() += 1;
        match row {
            NodeRow::Inode(inode) => {
                let place = places.get(&inode.ino);
                assert_eq!(place, Some(&Place { parent, name }), "place of {}", inode.ino);
                if inode.is_dir() {
                    *subdirectories.entry(parent).or_default() += 1;
                }
                assert!(inodes.insert(inode.ino, inode).is_none(), "an inode at two primary links");
            }
            NodeRow::Link { ino, .. } => drop(links_wanted.insert(links::key(ino, parent, &name))),
        }
    }
    assert_eq!(raw(rows, Table::Links), links_wanted, "links");
    assert!(places.keys().eq(inodes.keys()), "a place leads nowhere");
    for (ino, place) in &places {
        let parent = inodes.get(&place.parent).or_else(|| orphans.get(&place.parent));
        let is_root = *ino == InodeId::ROOT && place.parent == InodeId(0);
        let hangs = parent.is_some_and(Inode::is_dir) || branches.contains(&place.parent);
        assert!(is_root || hangs, "{ino} hangs in no directory");
    }
    for (ino, inode) in &inodes {
        let links = match inode.kind {
            FileKind::Directory => 2 + subdirectories.get(ino).copied().unwrap_or(0),
            _ => names[ino],
        };
        // In a purge the names of a subtree go without the counts of what goes with it.
        if !under_orphan(*ino, &places, &|at| orphans.contains_key(&at) || branches.contains(&at)) {
            assert_eq!(inode.nlink, links, "nlink of {ino}");
        }
    }
    // An orphan that goes is as it was when it went: its tail is sealed without it.
    let held = kept(rows);
    inodes.extend(orphans.into_iter().map(|(ino, inode)| {
        let tail = inode.tail.filter(|_| held.contains_key(&ino));
        (ino, Inode { tail, ..inode })
    }));
    inodes
}

/// Attributes are of inodes that have a name, and the totals are what they come to.
fn check_xattrs(rows: &dyn Rows, inodes: &BTreeMap<InodeId, Inode>) {
    let (places, held) = (raw(rows, Table::Places), kept(rows));
    let mut found: BTreeMap<Vec<u8>, XattrTotals> = BTreeMap::new();
    let mut told: BTreeMap<Vec<u8>, XattrTotals> = BTreeMap::new();
    for (key, bytes) in rows.scan(Table::Xattrs, &KeyRange::default(), usize::MAX).unwrap() {
        let ino = key[..8].to_vec();
        assert!(
            (places.contains(&ino) || held.contains_key(&InodeId(number(&key, 0))))
                && inodes.contains_key(&InodeId(number(&key, 0))),
            "attributes of {ino:?}"
        );
        if key.len() == 8 {
            told.insert(ino, XattrTotals::from_bytes(&key, &bytes).unwrap());
        } else {
            let totals = found.entry(ino).or_default();
            totals.count += 1;
            totals.bytes += XattrRow::from_bytes(&key, &bytes).unwrap().value.len() as u64;
        }
    }
    assert_eq!(told, found, "totals of attributes");
    assert!(found.values().all(|totals| totals.count <= 256 && totals.bytes <= 65_536));
}

fn under_orphan(
    ino: InodeId,
    places: &BTreeMap<InodeId, Place>,
    is_orphan: &dyn Fn(InodeId) -> bool,
) -> bool {
    let mut at = ino;
    for _ in 0..10_000 {
        if is_orphan(at) {
            return true;
        }
        if at == InodeId::ROOT {
            return false;
        }
        at = places[&at].parent;
    }
    panic!("a directory is its own ancestor: {ino}");
}

/// For each content that a file was given when it was cut, or that such a file kept: the file, and
/// the range of it. The last part has no end.
type Parts = BTreeMap<ContentId, (InodeId, u64, u64)>;

/// Parts are in order and no content is in two files. Answers them, and from where on the extents
/// of a content are no file's.
fn check_contents(
    rows: &dyn Rows,
    inodes: &BTreeMap<InodeId, Inode>,
) -> (Parts, BTreeMap<ContentId, u64>, BTreeSet<InodeId>) {
    let detached: BTreeMap<ContentId, u64> =
        all::<DetachedRow>(rows).into_iter().map(|(k, d)| (ContentId(number(&k, 0)), d.from)).collect();
    let made = keys::get::<ContentCounter>(rows, counters::CONTENTS_KEY).unwrap().unwrap_or_default().made;
    let (mut parts, mut cut) = (Parts::new(), BTreeSet::new());
    for (key, row) in all::<ContentRow>(rows) {
        let ino = InodeId(number(&key, 0));
        assert!(inodes.get(&ino).is_some_and(Inode::is_file), "contents of {ino}, which is gone");
        assert_eq!(row.parts[0].from, 0, "the first part of {ino}");
        assert!(row.parts.len() <= 64, "parts of {ino}");
        cut.insert(ino);
        for (n, part) in row.parts.iter().enumerate() {
            let until = row.parts.get(n + 1).map_or(u64::MAX, |next| next.from);
            assert!(part.from < until, "the parts of {ino} are not in order");
            let own = part.content == ContentId::from(ino) && n == 0;
            let later = part.content > ContentId::later(0) && part.content <= ContentId::later(made);
            assert!(own || later, "{:?} of {ino} was never made", part.content);
            let gone = detached.get(&part.content).is_none_or(|from| *from >= until);
            assert!(gone, "{ino} has lost a part of its content");
            let twice = parts.insert(part.content, (ino, part.from, until));
            assert_eq!(twice, None, "{:?} is in two parts", part.content);
        }
    }
    (parts, detached, cut)
}

/// Extents lie in their files, do not overlap, and point at bytes that exist.
fn check_extents(rows: &dyn Rows, inodes: &BTreeMap<InodeId, Inode>) {
    let cluster: ClusterRecord = keys::get(rows, counters::KEY).unwrap().unwrap_or_default();
    let chunks: BTreeMap<_, _> = all::<ChunkRecord>(rows).into_iter().map(|(_, c)| (c.chunk, c)).collect();
    let (parts, detached, cut) = check_contents(rows, inodes);
    let mut live: BTreeMap<_, u64> = BTreeMap::new();
    let mut last: Option<(ContentId, u64)> = None;
    for (key, row) in all::<ExtentRow>(rows) {
        let content = ContentId(number(&key, 0));
        let extent = extents::extent(&key, row).unwrap();
        let own = InodeId(content.0);
        let (ino, from, until) = parts.get(&content).copied().unwrap_or((own, 0, u64::MAX));
        assert!(extent.length > 0, "{ino}: {extent:?}");
        // What waits for its removal is no file's, but counts as live.
        if detached.get(&content).is_none_or(|start| extent.file_offset < *start) {
            let inode = inodes.get(&ino).unwrap_or_else(|| panic!("an extent of {ino}, which is gone"));
            let known = parts.contains_key(&content) || !cut.contains(&own);
            assert!(known, "an extent of {own} that is in no part of it");
            assert!(extent.file_offset >= from && extent.end() <= until, "{ino}: {extent:?} leaves its part");
            assert!(extent.end() <= inode.size, "{ino}: {extent:?}, size {}", inode.size);
        }
        assert!(
            last.is_none_or(|(c, end)| c != content || end <= extent.file_offset),
            "{ino}: overlap at {extent:?}"
        );
        last = Some((content, extent.end()));
        if let ExtentSource::Chunk { chunk, offset } = extent.source {
            let record =
                chunks.get(&chunk).unwrap_or_else(|| panic!("{ino} points at {chunk}, which is gone"));
            *live.entry(chunk).or_default() += extent.length;
            let end = offset + extent.length;
            assert!(end <= record.extent_end, "extent_end of {chunk}");
            if cluster.counts.extents_beyond_seal == 0 {
                assert!(
                    record.sealed_length().is_none_or(|length| end <= length),
                    "{ino} past {chunk}'s end"
                );
            }
        }
    }
    for (id, record) in chunks {
        assert_eq!(record.live_bytes, live.get(&id).copied().unwrap_or(0), "live bytes of {id}");
    }
}

/// Each spare follows one open tail, and no tail that is not open has one.
fn check_spares(rows: &dyn Rows, chunks: &[ChunkRecord]) {
    let state = |id| chunks.iter().find(|c| c.chunk == id).map(|c| c.state);
    let mut followed = BTreeSet::new();
    for (key, row) in all::<SpareRow>(rows) {
        assert_eq!(state(ChunkId(number(&key, 0))), Some(ChunkState::Open), "a spare behind no open tail");
        if state(row.chunk) == Some(ChunkState::Spare) {
            assert!(followed.insert(row.chunk), "{} follows two tails", row.chunk);
        }
    }
    let spares = chunks.iter().filter(|c| c.state == ChunkState::Spare).map(|c| c.chunk);
    assert_eq!(spares.collect::<BTreeSet<_>>(), followed, "spares");
}

/// Chunks ↔ tails ↔ queues ↔ held ↔ packs.
fn check_chunks(rows: &dyn Rows, inodes: &BTreeMap<InodeId, Inode>) {
    let mut queue_rows = BTreeSet::new();
    let mut held_rows = BTreeSet::new();
    let mut packs: BTreeMap<_, (u32, u64)> = BTreeMap::new();
    for (_, c) in all::<ChunkRecord>(rows) {
        let (opened, id) = (c.activation.time, c.chunk.0);
        let dead = c.state == ChunkState::Sealed && c.live_bytes == 0 && !c.held;
        let mut copies = c.replicas.len();
        match c.state {
            ChunkState::Open | ChunkState::Spare => {
                queue_rows.insert(queues::key(Queue::Open, opened, id));
            }
            ChunkState::Sealing => drop(queue_rows.insert(queues::key(Queue::Sealing, opened, id))),
            ChunkState::Sealed => {
                let sealed = c.sealed.as_ref().expect("a sealed chunk has its decision");
                copies = sealed.holders.len();
                let surplus = c.replicas.iter().any(|r| !sealed.holders.contains(&r.node));
                if dead {
                    queue_rows.insert(queues::key(Queue::Garbage, sealed.at, id));
                } else if surplus {
                    queue_rows.insert(queues::key(Queue::Surplus, sealed.at, id));
                }
                let idle = c.upload.is_none() && c.place.is_none();
                if !dead && idle && c.policy.persist != Persist::Never {
                    queue_rows.insert(queues::key(Queue::Unpersisted, sealed.at, id));
                }
            }
        }
        if !dead && c.place.is_none() && copies < usize::from(c.policy.replicas) {
            queue_rows.insert(queues::key(Queue::UnderReplicated, opened, id));
        }
        match c.owner {
            ChunkOwner::Session(session) if c.held => drop(held_rows.insert(held::key(session, c.chunk))),
            ChunkOwner::Session(_) => {}
            ChunkOwner::Tail { ino, base } => {
                assert!(!c.held);
                let tail = inodes.get(&ino).and_then(|i| i.tail).filter(|t| t.chunk == c.chunk);
                assert!(c.state != ChunkState::Sealed || tail.is_none(), "{} is sealed and a tail", c.chunk);
                assert!(c.state != ChunkState::Open || tail.is_some(), "{} is open and no tail", c.chunk);
                assert!(tail.is_none_or(|t| t.base == base));
                assert!(c.state != ChunkState::Spare || tail.is_none(), "{} is a spare and a tail", c.chunk);
            }
        }
        if let Some(place) = c.place {
            let share = packs.entry(place.pack).or_default();
            share.0 += u32::from(!dead);
            share.1 += c.live_bytes;
        }
    }
    for (_, pack) in all::<PackRecord>(rows) {
        let (chunks, bytes) = packs.remove(&pack.pack).unwrap_or_default();
        assert_eq!((pack.live_chunks, pack.live_bytes), (chunks, bytes), "live in {}", pack.pack);
        if chunks == 0 && pack.deletion.is_none() {
            queue_rows.insert(queues::key(Queue::DeadPacks, pack.created, pack.pack.0));
        }
    }
    assert!(packs.values().all(|(chunks, _)| *chunks == 0), "a live chunk in a pack that is gone");
    assert_eq!(raw(rows, Table::Queues), queue_rows, "queues");
    assert_eq!(raw(rows, Table::Held), held_rows, "held");
    check_spares(rows, &all(rows).into_iter().map(|(_, record)| record).collect::<Vec<_>>());
    for inode in inodes.values() {
        if let Some(tail) = inode.tail {
            let record: Option<ChunkRecord> = keys::get(rows, &keys::chunks::key(tail.chunk)).unwrap();
            let owner = record.map(|r| r.owner);
            assert_eq!(owner, Some(ChunkOwner::Tail { ino: inode.ino, base: tail.base }), "{}", inode.ino);
            assert!(inode.size <= tail.base, "{} grew over its tail", inode.ino);
        }
    }
}

/// Holders are replicas; live bytes that are nowhere else have one; a removed node that has left is
/// named nowhere.
fn check_holders(rows: &dyn Rows) {
    let chunks: Vec<ChunkRecord> = all(rows).into_iter().map(|(_, c)| c).collect();
    for c in &chunks {
        let Some(sealed) = &c.sealed else { continue };
        let placed = |node| c.replicas.iter().any(|r| r.node == node);
        assert!(sealed.holders.iter().all(|holder| placed(*holder)), "a holder of {} is no replica", c.chunk);
        let needed = c.live_bytes > 0 && c.place.is_none() && sealed.length > 0;
        assert!(!needed || !sealed.holders.is_empty(), "nobody holds {}", c.chunk);
    }
    for (key, gone) in all::<RemovedNode>(rows) {
        assert_eq!(key, removed::key(gone.disk));
        let disk: Option<DiskRecord> = keys::get(rows, &disks::key(gone.disk)).unwrap();
        assert_eq!(disk.is_none(), gone.struck.is_some(), "the disk of {}", gone.node);
        let named = chunks.iter().any(|c| c.replicas.iter().any(|r| r.node == gone.node));
        assert!(!named || gone.struck.is_none(), "{} has left, and is named", gone.node);
    }
}

fn check_counts(rows: &dyn Rows, inodes: &BTreeMap<InodeId, Inode>) {
    let cluster: ClusterRecord = keys::get(rows, counters::KEY).unwrap().unwrap_or_default();
    let chunks: Vec<ChunkRecord> = all(rows).into_iter().map(|(_, c)| c).collect();
    let in_state = |state| chunks.iter().filter(|c| c.state == state).count() as u64;
    let waiting = |c: &&ChunkRecord| {
        c.sealed.is_some() && !c.is_dead() && c.place.is_none() && c.policy.persist != Persist::Never
    };
    let queue_length =
        |queue| rows.scan(Table::Queues, &queues::all(queue), usize::MAX).unwrap().len() as u64;
    let orphans = all::<Orphan>(rows).len();
    let orphan_directories = all::<Orphan>(rows).iter().filter(|(_, o)| o.inode.is_dir()).count();
    let counted = Counts {
        // A removed mount's root gave its count to the directory that took its place.
        inodes: (inodes.len() - orphans) as u64,
        chunks_open: in_state(ChunkState::Open) + in_state(ChunkState::Spare),
        chunks_sealing: in_state(ChunkState::Sealing),
        chunks_sealed: in_state(ChunkState::Sealed),
        under_replicated: queue_length(Queue::UnderReplicated),
        unpersisted_bytes: chunks.iter().filter(waiting).filter_map(ChunkRecord::sealed_length).sum(),
        packs: all::<PackRecord>(rows).len() as u64,
        sessions: all::<SessionRecord>(rows).len() as u64,
        intents: all::<IntentRecord>(rows).len() as u64,
        extents_beyond_seal: cluster.counts.extents_beyond_seal,
    };
    assert!(orphan_directories <= orphans);
    assert_eq!(cluster.counts, counted, "counts");
    let open = |c: &&ChunkRecord| c.state == ChunkState::Open && c.policy.persist != Persist::Never;
    let granted: u64 = chunks.iter().filter(open).map(|c| c.activation.grant_bytes).sum();
    let known = keys::get::<Granted>(rows, counters::GRANTED_KEY).unwrap().unwrap_or_default();
    assert_eq!(known.bytes, granted, "granted bytes");
}

fn check_sessions(rows: &dyn Rows) {
    let replies = raw(rows, Table::Replies);
    for (_, session) in all::<SessionRecord>(rows) {
        let kept: Vec<u64> =
            replies.iter().filter(|k| number(k, 0) == session.session.0).map(|k| number(k, 8)).collect();
        assert_eq!(kept.len(), session.replies as usize, "replies of {}", session.session);
        assert!(kept.len() <= 1024);
        assert!(kept.iter().all(|s| *s >= session.acknowledged_below.0));
    }
    let turned: BTreeSet<Vec<u8>> = raw(rows, Table::Writers)
        .iter()
        .map(|k| writers::writing_key(writers::writer(k).unwrap(), InodeId(number(k, 0))))
        .collect();
    assert_eq!(raw(rows, Table::Writing), turned, "writing");
}

/// keys ↔ files of mounts; imports ↔ directories of mounts.
fn check_objects(rows: &dyn Rows, inodes: &BTreeMap<InodeId, Inode>) {
    let imports: BTreeMap<InodeId, ImportRecord> =
        all::<ImportRecord>(rows).into_iter().map(|(k, i)| (InodeId(number(&k, 0)), i)).collect();
    // Of those that are written to, namespace_mount_writes/rows.rs says what must hold.
    let written = raw(rows, Table::MountModes);
    let is_written = |mount| written.contains(&keys::mount_modes::key(mount));
    let mut wanted = BTreeMap::new();
    for inode in inodes.values().filter(|i| i.mount.is_some()) {
        if inode.is_dir() {
            assert!(imports.contains_key(&inode.ino), "{} has no import", inode.ino);
            continue;
        }
        if is_written(inode.mount.unwrap()) {
            continue;
        }
        let place: Place = keys::get(rows, &keys::places::key(inode.ino)).unwrap().unwrap();
        let object = [imports[&place.parent].prefix.as_slice(), place.name.as_slice()].concat();
        wanted.insert(objects::key(inode.mount.unwrap(), &object), (inode.ino, inode.size));
    }
    for (key, row) in all::<ObjectRow>(rows) {
        if is_written(MountId(u32::from_be_bytes(key[..4].try_into().unwrap()))) {
            continue;
        }
        assert_eq!(wanted.remove(&key), Some((row.ino, row.size)), "key {key:?}");
    }
    assert!(wanted.is_empty(), "files of a mount without keys: {wanted:?}");
    for ino in imports.keys() {
        assert!(inodes.contains_key(ino), "an import of {ino}, which is gone");
    }
}
