//! The stream of changes, against the state that it comes from: who knows nothing but the events
//! ends with the same names; who watches a directory, wherever it starts, with those below it; what
//! is not kept is refused, and what is told is all.

use std::collections::{BTreeMap, BTreeSet};

use cairn_meta::keys;
use cairn_meta::keys::counters::{self, EventCounter};
use cairn_meta::keys::events::{EventKind, EventRow};
use cairn_meta::namespace::events::{Told, page};
use cairn_meta::namespace::{Bounds, Entry, NamespaceError, apply_within};
use cairn_meta::store::{KeyRange, MemoryStore, RocksStore, Store, Table, Txn};
use cairn_types::{FileKind, FsError, Inode, InodeId, LogIndex, Policy};
use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::tree::Tree;
use super::{Step, Verb, dump, history, run};

const ROOT: InodeId = InodeId::ROOT;

/// The trees after each entry, and all events.
struct Stream {
    trees: Vec<Tree>,
    inodes: Vec<BTreeMap<InodeId, Inode>>,
    events: Vec<Told>,
}

fn apply_one(store: &dyn Store, index: usize, entry: &Entry, bounds: Bounds) {
    let mut txn = Txn::new(store);
    apply_within(&mut txn, LogIndex(index as u64), entry, bounds).map(drop).unwrap();
    store.write(txn.into_batch()).unwrap();
}

fn replay(log: &[Entry]) -> Stream {
    let store = MemoryStore::new();
    let (mut trees, mut inodes, mut events) = (Vec::new(), Vec::new(), Vec::new());
    for (index, entry) in log.iter().enumerate() {
        apply_one(&store, index, entry, Bounds::default());
        let (tree, found) = Tree::of(&store);
        trees.push(tree);
        inodes.push(found);
        let (after, applied) = (index as u64).checked_sub(1).map_or((0, 0), |before| (before, index as u64));
        let page = page(&store, LogIndex(after), LogIndex(applied), 3).unwrap();
        assert!(page.events.iter().all(|told| told.index == LogIndex(index as u64)));
        assert_eq!(page.upto, LogIndex(applied));
        events.extend(page.events);
    }
    Stream { trees, inodes, events }
}

/// What of an inode is told by events of its own.
fn told_of(inode: &Inode) -> (u64, (u32, u32, u32), Option<Policy>, Option<u32>) {
    (inode.size, (inode.mode, inode.uid, inode.gid), inode.policy, inode.mount.map(|m| m.0))
}

/// Every difference of an inode between two entries has its event.
fn changes_are_told(before: &BTreeMap<InodeId, Inode>, after: &BTreeMap<InodeId, Inode>, events: &[&Told]) {
    for (ino, now) in after {
        let Some(was) = before.get(ino) else { continue };
        let has = |wanted: fn(&EventKind) -> bool| {
            events.iter().any(|told| told.event.ino == *ino && wanted(&told.event.what))
        };
        let (was, is) = (told_of(was), told_of(now));
        assert!(was.0 == is.0 || now.is_dir() || has(|k| matches!(k, EventKind::Content)), "{now:?}");
        // A change of content takes the set-ID bits along.
        let plain = |(mode, uid, gid): (u32, u32, u32)| (mode & !0o6000, uid, gid);
        let with_content = plain(was.1) == plain(is.1) && has(|k| matches!(k, EventKind::Content));
        assert!(was.1 == is.1 || with_content || has(|k| matches!(k, EventKind::Attributes)), "{now:?}");
        assert!(was.2 == is.2 || has(|k| matches!(k, EventKind::Policy)), "{now:?}");
        assert!(was.3 == is.3 || has(|k| matches!(k, EventKind::MountAdded { .. })), "{now:?}");
        let versions = events.iter().filter(|told| told.event.ino == *ino).map(|told| told.event.version);
        assert!(versions.max().is_none_or(|version| version <= now.version), "{now:?} {events:?}");
    }
}

fn of_entry(events: &[Told], index: usize) -> Vec<&Told> {
    events.iter().filter(|told| told.index == LogIndex(index as u64)).collect()
}

/// How often each kind of event was met, and renames over the edge of a watch.
type Met = BTreeMap<&'static str, u64>;

fn meet(met: &mut Met, event: &EventRow) {
    let kind = match &event.what {
        EventKind::Created => "created",
        EventKind::Removed { last: true } => "removed",
        EventKind::Removed { last: false } => "unlinked",
        EventKind::Renamed { .. } => "renamed",
        EventKind::Exchanged { .. } => "exchanged",
        EventKind::Content => "content",
        EventKind::Attributes => "attributes",
        EventKind::Policy => "policy",
        EventKind::MountAdded { .. } => "mount added",
        EventKind::MountRemoved { .. } => "mount removed",
        EventKind::Imported => "imported",
    };
    *met.entry(kind).or_default() += 1;
}

/// Who begins with nothing and is told everything ends with all names, after every entry.
fn check_all(told: &Stream, met: &mut Met) {
    let mut tree = Tree::default();
    for (index, wanted) in told.trees.iter().enumerate() {
        let events = of_entry(&told.events, index);
        for event in &events {
            meet(met, &event.event);
            tree.apply(&event.event);
        }
        assert_eq!(&tree, wanted, "after entry {index}: {events:?}");
        if let Some(before) = index.checked_sub(1) {
            changes_are_told(&told.inodes[before], &told.inodes[index], &events);
        }
    }
}

/// Who lists a directory after any entry and then watches it has what is in it, as long as it is.
fn check_watch(told: &Stream, start: usize, top: InodeId, recursive: bool, met: &mut Met) {
    let mut seen = told.trees[start].watched(top, recursive);
    for (index, now) in told.trees.iter().enumerate().skip(start + 1) {
        for event in of_entry(&told.events, index) {
            if !event.event.concerns(top, recursive) {
                continue;
            }
            if let Some(to) = event.event.to() {
                let (from, to) = (event.event.site.lies_in(top, recursive), to.lies_in(top, recursive));
                *met.entry(if from == to { "stayed" } else { "crossed" }).or_default() += 1;
            }
            seen.follow(top, recursive, &event.event, now);
        }
        let there = top == ROOT || now.names.values().any(|ino| *ino == top);
        if !there {
            return;
        }
        assert_eq!(seen, now.watched(top, recursive), "a watch of {top} after entry {index}");
    }
}

fn directories(told: &Stream, at: usize) -> Vec<InodeId> {
    let dirs = told.inodes[at].values().filter(|inode| inode.kind == FileKind::Directory);
    let reached: BTreeSet<InodeId> = told.trees[at].names.values().copied().chain([ROOT]).collect();
    dirs.map(|inode| inode.ino).filter(|ino| reached.contains(ino)).collect()
}

fn check_watches(told: &Stream, starts: &[usize], met: &mut Met) {
    for start in starts {
        // The first entries make the cluster.
        let start = 5 + start % (told.trees.len() - 5);
        for top in directories(told, start) {
            check_watch(told, start, top, true, met);
            check_watch(told, start, top, false, met);
        }
    }
}

/// Keeps few events: what is kept is what was told, and what is not is refused, after every entry.
fn check_kept(store: &dyn Store, log: &[Entry], told: &Stream, kept: u64) -> u64 {
    let bounds = Bounds { events_kept: kept, ..Bounds::default() };
    let mut refused = 0;
    for (index, entry) in log.iter().enumerate() {
        apply_one(store, index, entry, bounds);
        let applied = LogIndex(index as u64);
        let counter: EventCounter = keys::get(store, counters::EVENTS_KEY).unwrap().unwrap();
        let rows = store.scan(Table::Events, &KeyRange::default(), usize::MAX).unwrap().len() as u64;
        assert_eq!(rows, counter.kept);
        let so_far = told.events.iter().filter(|t| t.index <= applied);
        assert!(rows >= kept.min(so_far.clone().count() as u64));
        assert!(rows <= kept + 64 + of_entry(&told.events, index).len() as u64);
        for after in (0..=index).rev().step_by(5).map(|after| LogIndex(after as u64)) {
            match page(store, after, applied, 100_000) {
                Ok(page) => {
                    let wanted: Vec<Told> = so_far.clone().filter(|t| t.index > after).cloned().collect();
                    assert_eq!(page.events, wanted);
                }
                Err(NamespaceError::Refused(FsError::Compacted { oldest })) => {
                    assert!(after.0 + 1 < oldest.0 && oldest == counter.oldest());
                    refused += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    refused
}

/// Pages of any size, one after the other, are all events, and never a part of an entry.
fn check_pages(store: &dyn Store, last: usize, told: &Stream, limit: usize) {
    let (mut after, applied) = (LogIndex(0), LogIndex(last as u64));
    let mut read = Vec::new();
    while after < applied {
        let page = page(store, after, applied, limit).unwrap();
        assert!(page.upto > after);
        assert!(page.events.iter().all(|t| t.index > after && t.index <= page.upto));
        let most = (0..=last).map(|index| of_entry(&told.events, index).len()).max().unwrap_or(0);
        assert!(page.events.len() <= limit.max(most));
        read.extend(page.events);
        after = page.upto;
    }
    assert_eq!(read, told.events);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, max_shrink_iters: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn events_alone_lead_to_the_same_names(history in history(), starts in proptest::collection::vec(0usize..120, 1..4)) {
        let (log, _) = run(&MemoryStore::new(), &history);
        let told = replay(&log);
        let mut met = Met::new();
        check_all(&told, &mut met);
        check_watches(&told, &starts, &mut met);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 100, failure_persistence: None, ..ProptestConfig::default() })]

    /// Both stores keep, and remove, the same events.
    #[test]
    fn both_stores_keep_the_same_events(history in history(), kept in 0u64..12, limit in 1usize..9) {
        let (log, _) = run(&MemoryStore::new(), &history);
        let told = replay(&log);
        let memory = MemoryStore::new();
        check_kept(&memory, &log, &told, kept);
        let dir = tempfile::tempdir().unwrap();
        let rocks = RocksStore::open(dir.path(), 0).unwrap();
        check_kept(&rocks, &log, &told, kept);
        prop_assert_eq!(dump(&*rocks.snapshot()), dump(&memory));
        let whole = MemoryStore::new();
        run(&whole, &history);
        check_pages(&whole, log.len() - 1, &told, limit);
    }
}

/// The histories are worth their name: everything happens in them, over the edge of a watch too.
#[test]
fn histories_have_every_kind_of_event() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut met = Met::new();
    let kinds = [
        "created",
        "removed",
        "unlinked",
        "renamed",
        "exchanged",
        "content",
        "attributes",
        "policy",
        "mount added",
        "mount removed",
        "stayed",
        "crossed",
    ];
    let often = |met: &Met, kind: &str| met.get(kind).is_some_and(|count| *count >= 3);
    for _ in 0..800 {
        if kinds.iter().all(|kind| often(&met, kind)) {
            break;
        }
        let history = history().new_tree(&mut runner).unwrap().current();
        let (log, _) = run(&MemoryStore::new(), &history);
        let told = replay(&log);
        check_all(&told, &mut met);
        check_watches(&told, &[0, 30], &mut met);
    }
    for kind in kinds {
        assert!(often(&met, kind), "{kind}: {met:?}");
    }
}

/// Events are removed in steps of so many that a short history never gets there.
#[test]
fn a_long_history_loses_its_oldest_events() {
    let at = || (0, b"a".to_vec(), false);
    let changes = (0..200).map(|mode| Verb::SetAttr(at(), Some(mode), None, None, None));
    let verbs = std::iter::once(Verb::Mkdir(at(), false)).chain(changes);
    let history: Vec<Step> = verbs.map(|verb| Step { client: 0, time: 1, verb }).collect();
    let (log, _) = run(&MemoryStore::new(), &history);
    let refused = check_kept(&MemoryStore::new(), &log, &replay(&log), 10);
    assert!(refused > 20, "{refused}");
}
