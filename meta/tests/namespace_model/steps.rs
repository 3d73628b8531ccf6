//! Histories where an entry removes next to nothing at once, so that nearly every cut, and every
//! file that goes, leaves rows for later. Beside them the same log with nothing left for later: the
//! same replies, the same content after every entry, and the same rows in the end.

use std::collections::BTreeMap;

use cairn_meta::keys;
use cairn_meta::keys::contents::ContentRow;
use cairn_meta::keys::nodes::NodeRow;
use cairn_meta::namespace::{Bounds, Command, Entry, Reply, Target, apply_within, jobs, read};
use cairn_meta::store::{KeyRange, MemoryStore, RocksStore, Rows, Store, Table, Txn};
use cairn_types::{ExtentSource, Inode, InodeId, LogIndex, Timestamp};
use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::{SESSIONS, Step, Verb, dump, invariants, one, ranges, run, verb};

/// The general histories with more content, and more cuts.
fn history() -> impl Strategy<Value = Vec<Step>> {
    let name = || prop_oneof![Just(b"a".to_vec()), Just(b"b".to_vec())].prop_map(|name| (0u64, name, false));
    let verb = prop_oneof![
        6 => verb(),
        1 => Just(Verb::OpenChunk(0)),
        3 => (1u64..14, ranges()).prop_map(|(ino, ranges)| Verb::Commit(ino, ranges, None)),
        1 => (name(), ranges()).prop_map(|(path, ranges)| Verb::Create(path, false, true, ranges)),
        3 => (name(), 0u64..24).prop_map(|(path, size)| Verb::SetAttr(path, None, Some(size), None, None)),
    ];
    let step = (0..SESSIONS, -5i64..20, verb).prop_map(|(client, time, verb)| Step { client, time, verb });
    proptest::collection::vec(step, 40..120)
}

/// A file, where each of its bytes is, and how many of them are not in S3.
type Seen = (Inode, BTreeMap<u64, (u64, u64)>, u64);

/// What clients can read of all files.
fn seen(rows: &dyn Rows) -> BTreeMap<InodeId, Seen> {
    let mut files = BTreeMap::new();
    for (_, row) in keys::scan::<NodeRow>(rows, &KeyRange::default(), usize::MAX).unwrap() {
        let NodeRow::Inode(inode) = row else { continue };
        if !inode.is_file() {
            continue;
        }
        let range = read::extents(rows, &Target::ino(inode.ino), 0, u64::MAX).unwrap();
        let mut bytes = BTreeMap::new();
        for extent in &range.extents {
            let ExtentSource::Chunk { chunk, offset } = extent.source else { panic!("{extent:?}") };
            for i in 0..extent.length {
                let twice = bytes.insert(extent.file_offset + i, (chunk.0, offset + i));
                assert_eq!(twice, None, "{extent:?} overlaps another");
            }
        }
        let (unpersisted, _) = read::unpersisted(rows, inode.ino).unwrap();
        files.insert(inode.ino, (inode, bytes, unpersisted));
    }
    files
}

/// How much was met on the way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Met {
    purges: u64,
    content_purges: u64,
    /// Entries after which a file lay in several parts.
    parted: u64,
}

/// Removes some of what was left for later, of orphans and of contents in turn; false when nothing
/// is left.
fn remove_some(txn: &mut Txn<'_>, bounds: Bounds, met: &mut Met) -> bool {
    let orphan = jobs::orphans(&*txn, None, 1).unwrap().pop().map(|ino| Command::Purge { ino });
    let content = jobs::detached(&*txn, None, 1).unwrap().pop();
    let content = content.map(|content| Command::PurgeContent { content });
    let turn = met.purges + met.content_purges;
    let command = if turn.is_multiple_of(2) { orphan.or(content) } else { content.or(orphan) };
    let Some(command) = command else { return false };
    match command {
        Command::Purge { .. } => met.purges += 1,
        _ => met.content_purges += 1,
    }
    let entry = Entry { time: Timestamp(0), command };
    apply_within(txn, LogIndex(1_000_000 + turn), &entry, bounds).unwrap().unwrap();
    true
}

fn remove_all(store: &dyn Store, bounds: Bounds, met: &mut Met) {
    let mut txn = Txn::new(store);
    while remove_some(&mut txn, bounds, met) {}
    store.write(txn.into_batch()).unwrap();
}

/// Replies are the same but for live bytes, which what waits for its removal still has.
fn same_reply(stepped: &Reply, whole: &Reply, entry: &Entry) {
    let mut stepped = stepped.clone();
    if let (Ok(stepped), Ok(whole)) = (&mut stepped, whole)
        && let (Some(chunk), Some(of_whole)) = (&mut stepped.chunk, &whole.chunk)
    {
        assert!(chunk.live_bytes >= of_whole.live_bytes, "{entry:?}");
        chunk.live_bytes = of_whole.live_bytes;
    }
    assert_eq!(&stepped, whole, "{entry:?}");
}

/// Applies a log in small steps, after each entry as many as `due` says in turn, and compares it
/// with the log applied whole.
pub fn side_by_side(store: &dyn Store, log: &[Entry], rows_at_once: usize, due: &[u8]) -> Met {
    let (bounds, whole) = (Bounds { rows_at_once, ..Bounds::default() }, MemoryStore::new());
    let mut met = Met::default();
    for ((index, entry), due) in log.iter().enumerate().zip(due.iter().cycle()) {
        let index = index as u64;
        let of_whole = one(&whole, index, entry);
        let mut txn = Txn::new(store);
        let reply = apply_within(&mut txn, LogIndex(index), entry, bounds).unwrap();
        same_reply(&reply, &of_whole, entry);
        let expected = seen(&whole);
        assert_eq!(seen(&txn), expected, "after {entry:?}");
        for _ in 0..*due {
            remove_some(&mut txn, bounds, &mut met);
        }
        assert_eq!(seen(&txn), expected, "removing what {entry:?} left");
        store.write(txn.into_batch()).unwrap();
        let contents = keys::scan::<ContentRow>(store, &KeyRange::default(), usize::MAX).unwrap();
        met.parted += u64::from(contents.iter().any(|(_, row)| row.parts.len() > 1));
        if index.is_multiple_of(8) {
            invariants::check(store);
        }
    }
    remove_all(store, bounds, &mut met);
    remove_all(&whole, Bounds::default(), &mut Met::default());
    assert_eq!(seen(store), seen(&whole));
    assert_eq!(read::cluster(store).unwrap(), read::cluster(&whole).unwrap());
    assert_eq!(read::granted(store).unwrap(), read::granted(&whole).unwrap());
    // A cut leaves other numbers of contents; kept replies have the live bytes that there were.
    let numbered = [Table::Extents, Table::Contents, Table::Counters, Table::Replies];
    for (left, right) in dump(store).into_iter().zip(dump(&whole)) {
        if !numbered.contains(&left.0) {
            assert_eq!(left, right);
        }
    }
    invariants::check(store);
    met
}

fn due() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(prop_oneof![3 => Just(0u8), 2 => Just(1), 1 => Just(3)], 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, max_shrink_iters: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is left for later: replies, content and in the end the rows are those of the whole.
    #[test]
    fn what_is_removed_in_steps_is_gone_at_once(history in history(), rows_at_once in 1usize..4, due in due()) {
        let (log, _) = run(&MemoryStore::new(), &history);
        side_by_side(&MemoryStore::new(), &log, rows_at_once, &due);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 100, failure_persistence: None, ..ProptestConfig::default() })]

    /// Both stores hold the same bytes after the same steps.
    #[test]
    fn both_stores_remove_in_the_same_steps(history in history(), due in due()) {
        let (log, _) = run(&MemoryStore::new(), &history);
        let memory = MemoryStore::new();
        side_by_side(&memory, &log, 1, &due);
        let dir = tempfile::tempdir().unwrap();
        let rocks = RocksStore::open(dir.path(), 0).unwrap();
        side_by_side(&rocks, &log, 1, &due);
        prop_assert_eq!(dump(&*rocks.snapshot()), dump(&memory));
    }
}

/// The histories are worth their name: there is much to be removed in them, and files in parts.
#[test]
fn histories_leave_much_for_later() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut all = Met::default();
    for _ in 0..40 {
        let history = history().new_tree(&mut runner).unwrap().current();
        let (log, _) = run(&MemoryStore::new(), &history);
        let met = side_by_side(&MemoryStore::new(), &log, 1, &[0, 1]);
        all.purges += met.purges;
        all.content_purges += met.content_purges;
        all.parted += met.parted;
    }
    assert!(all.purges >= 5 && all.content_purges >= 10 && all.parted >= 10, "{all:?}");
}
