//! POSIX metadata: node kinds, extended attributes, modes, times and links. Histories against a model
//! written independently, on both stores; then what the standard says, case by case.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "namespace_posix/cases.rs"]
mod cases;
#[path = "namespace_model/driver.rs"]
mod driver;
#[path = "namespace_model/invariants.rs"]
mod invariants;
#[path = "namespace_posix/model.rs"]
mod model;

use std::collections::{BTreeMap, BTreeSet};

use cairn_meta::namespace::{
    Bounds, Command, Entry, Memory, Operation, Reply, Target, TimeChange, XattrMode, apply_after, read,
};
use cairn_meta::store::{KeyRange, RocksStore, Row, Rows, Store, Table, Txn};
use cairn_types::{DeviceNumber, FileKind, FsError, InodeId, LogIndex, Sequence, Timestamp};
use driver::{Driver, extent};
use model::Model;
use proptest::prelude::*;
use proptest::strategy::ValueTree;

fn path() -> impl Strategy<Value = Target> {
    let name = || prop_oneof![3 => Just("a"), 3 => Just("b"), 1 => Just("c")];
    let names = prop_oneof![
        1 => Just(String::new()),
        8 => name().prop_map(str::to_owned),
        8 => (name(), name()).prop_map(|(x, y)| format!("{x}/{y}")),
        2 => (name(), name(), name()).prop_map(|(x, y, z)| format!("{x}/{y}/{z}")),
    ];
    (names, prop::bool::weighted(0.3)).prop_map(|(path, no_follow)| Target {
        ino: InodeId::ROOT,
        path: path.into_bytes(),
        no_follow,
    })
}

/// A name in the root that is mostly there.
fn near() -> impl Strategy<Value = Target> {
    let name = prop_oneof![1 => Just(""), 3 => Just("a"), 3 => Just("b")];
    (name, prop::bool::weighted(0.3)).prop_map(|(name, no_follow)| Target {
        ino: InodeId::ROOT,
        path: name.into(),
        no_follow,
    })
}

/// A name in the root that is mostly free.
fn spare() -> impl Strategy<Value = Target> {
    prop_oneof![Just("d"), Just("e"), Just("f")].prop_map(Target::path)
}

fn kind() -> impl Strategy<Value = FileKind> {
    let device = |minor| DeviceNumber { major: 8, minor };
    prop_oneof![
        6 => Just(FileKind::Fifo),
        6 => Just(FileKind::Socket),
        4 => Just(FileKind::CharacterDevice(device(7))),
        4 => Just(FileKind::BlockDevice(device(1_048_575))),
        1 => Just(FileKind::BlockDevice(device(1_048_576))),
        1 => prop_oneof![Just(FileKind::File), Just(FileKind::Directory), Just(FileKind::Symlink)],
    ]
}

fn mode() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0o755), Just(0o2755), Just(0o6755), Just(0o6644), 0u32..0o10000]
}

fn xattr_name() -> impl Strategy<Value = Vec<u8>> {
    let names = ["user.a", "user.b", "trusted.a", "security.capability", "system.other", "user."];
    proptest::sample::select(names.to_vec()).prop_map(|name| name.as_bytes().to_vec())
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![8 => 0usize..20, 1 => Just(40_000), 1 => Just(65_536), 1 => Just(65_537)];
    (length, any::<u8>()).prop_map(|(length, byte)| vec![byte; length])
}

fn time_change() -> impl Strategy<Value = Option<TimeChange>> {
    prop_oneof![
        Just(None),
        Just(Some(TimeChange::Now)),
        (0i64..99).prop_map(|t| Some(TimeChange::At(Timestamp(t))))
    ]
}

fn set_attr() -> impl Strategy<Value = Operation> {
    let id = || prop::option::weighted(0.3, 0u32..3);
    let times = prop::option::of((0i64..99).prop_map(Timestamp));
    prop_oneof![
        (path(), prop::option::of(mode()), id(), id(), prop::option::weighted(0.3, 0u64..40), times)
            .prop_map(|(target, mode, uid, gid, size, mtime)| Operation::SetAttr {
                target,
                mode,
                uid,
                gid,
                size,
                mtime,
                atime: None,
                expected_version: None,
            }),
        (path(), time_change(), time_change()).prop_map(|(target, mtime, atime)| Operation::SetAttrNow {
            target,
            mode: None,
            uid: None,
            gid: None,
            size: None,
            mtime,
            atime,
            expected_version: None,
        }),
    ]
}

/// A file is committed to by the number of its inode, over the first shared chunk.
fn operation() -> impl Strategy<Value = Operation> {
    let owner = || (0u32..3, 0u32..3);
    let few = |p: f64| prop::bool::weighted(p);
    let xattr_mode =
        prop_oneof![4 => Just(XattrMode::Any), 1 => Just(XattrMode::Create), 1 => Just(XattrMode::Replace)];
    prop_oneof![
        5 => (path(), mode(), owner()).prop_map(|(target, mode, (uid, gid))| Operation::Mkdir { target, mode, uid, gid, parents: false }),
        4 => (path(), kind(), mode(), owner()).prop_map(|(target, kind, mode, (uid, gid))| Operation::Mknod { target, kind, mode, uid, gid }),
        4 => (path(), mode(), owner(), few(0.3), few(0.5)).prop_map(|(target, mode, (uid, gid), exclusive, truncate)| Operation::Create {
            target: target.no_follow(), mode, uid, gid, exclusive, truncate, extents: Vec::new() }),
        1 => (path(), owner()).prop_map(|(target, (uid, gid))| Operation::Symlink { target, to: b"/nowhere".to_vec(), uid, gid }),
        4 => (prop_oneof![path(), near()], prop_oneof![path(), spare()]).prop_map(|(from, to)| Operation::Link { from, to }),
        2 => path().prop_map(|target| Operation::Unlink { target }),
        2 => path().prop_map(|target| Operation::Rmdir { target }),
        6 => (path(), path(), 0u8..6).prop_map(|(from, to, how)| Operation::Rename { from, to, no_replace: how == 0, exchange: how == 1 }),
        5 => set_attr(),
        3 => (1u64..14, 0u64..30).prop_map(|(ino, at)| Operation::Commit {
            ino: InodeId(ino), extents: vec![extent(at, 3, cairn_types::ChunkId(1), at)], expected_length: None }),
        8 => (prop_oneof![path(), near()], xattr_name(), value(), xattr_mode).prop_map(|(target, name, value, mode)| Operation::SetXattr { target, name, value, mode }),
        6 => (prop_oneof![1 => path(), 3 => near()], xattr_name()).prop_map(|(target, name)| Operation::RemoveXattr { target, name }),
    ]
}

type Step = (i64, Operation);

fn history() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec((0i64..9, operation()), 30..100)
}

/// Runs a history on a memory store against the model. Answers the log and the replies.
fn run(history: &[Step]) -> (Driver, Vec<Entry>, Vec<Reply>) {
    let mut driver = Driver::new();
    driver.shared_chunk();
    let mut model = Model::new(driver.now);
    let (mut log, mut replies) = (Vec::new(), Vec::new());
    for (later, operation) in history {
        driver.now += later;
        model.now = driver.now;
        let before = model.clone();
        let expected = model.ask(operation);
        let reply = driver.ask(operation.clone());
        match (&expected, &reply) {
            (Ok(None), Ok(answer)) => assert_eq!(answer.inode, None, "{operation:?}"),
            (Ok(Some(ino)), Ok(answer)) => {
                let inode = answer.inode.as_ref().unwrap();
                assert_eq!(inode.ino.0, *ino, "{operation:?}");
                model.same(inode);
            }
            (Err(expected), Err(found)) => {
                assert_eq!(found, expected, "{operation:?}");
                model = before;
            }
            _ => panic!("{operation:?}: expected {expected:?}, found {reply:?}"),
        }
        let (sequence, session) = (Sequence(driver.sequence), driver.session);
        let command = Command::Request {
            session,
            sequence,
            acknowledged_below: sequence,
            operation: operation.clone(),
        };
        log.push(Entry { time: Timestamp(driver.now), command });
        replies.push(reply);
    }
    same_state(&driver.store, &model);
    driver.check();
    (driver, log, replies)
}

fn same_state(rows: &dyn Rows, model: &Model) {
    let mut reached = BTreeSet::new();
    for (ino, thing) in &model.things {
        let target = Target::ino(InodeId(*ino));
        let inode = read::stat(rows, &target).unwrap().inode;
        model.same(&inode);
        let names: Vec<_> = thing.xattrs.keys().cloned().collect();
        assert_eq!(read::xattr_names(rows, &target).unwrap(), names, "attributes of {ino}");
        for (name, value) in &thing.xattrs {
            assert_eq!(read::xattr(rows, &target, name).unwrap(), *value);
        }
        if inode.is_dir() {
            let listed = read::list(rows, inode.ino, b"", 100).unwrap().entries;
            let found: Vec<_> = listed.into_iter().map(|e| ((*ino, e.name), e.inode.ino.0)).collect();
            let names = model.names.iter().filter(|((dir, _), _)| dir == ino);
            assert_eq!(found, names.map(|(place, to)| (place.clone(), *to)).collect::<Vec<_>>());
            reached.extend(found.into_iter().map(|(_, to)| to));
        }
    }
    reached.insert(1);
    assert!(reached.iter().eq(model.things.keys()), "a thing without a name");
}

fn dump(rows: &dyn Rows) -> Vec<(Table, Vec<Row>)> {
    let all = |table| rows.scan(table, &KeyRange::default(), usize::MAX).unwrap();
    Table::ALL.iter().map(|table| (*table, all(*table))).collect()
}

/// Brings a store to where [`run`] begins its history.
fn copy(from: &dyn Rows, to: &dyn Store) {
    let mut txn = Txn::new(to);
    for (table, rows) in dump(from) {
        rows.into_iter().for_each(|(key, value)| txn.put(table, key, value));
    }
    txn.keep();
    let batch = txn.into_batch();
    to.write(batch).unwrap();
}

fn replay(store: &dyn Store, log: &[Entry], size: usize) -> Vec<Reply> {
    let (mut replies, mut memory) = (Vec::new(), Memory::default());
    let mut driver = Driver::new();
    driver.shared_chunk();
    copy(&driver.store, store);
    for (n, entries) in log.chunks(size).enumerate() {
        let mut txn = Txn::new(store);
        for (at, entry) in entries.iter().enumerate() {
            let entry = Entry::from_bytes(&entry.to_bytes()).unwrap();
            let index = LogIndex(driver.index + 1 + (n * size + at) as u64);
            replies.push(apply_after(&mut txn, &mut memory, index, &entry, Bounds::default()).unwrap());
        }
        store.write(txn.into_batch()).unwrap();
    }
    replies
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Every reply, every attribute and every name are the model's.
    #[test]
    fn posix_metadata_is_the_model_s(history in history()) {
        run(&history);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 100, failure_persistence: None, ..ProptestConfig::default() })]

    /// RocksDB and memory hold the same bytes and answer the same, however entries are batched.
    #[test]
    fn both_stores_hold_the_same_posix_metadata(history in history(), size in 1usize..20) {
        let (driver, log, replies) = run(&history);
        let dir = tempfile::tempdir().unwrap();
        let rocks = RocksStore::open(dir.path(), 0).unwrap();
        prop_assert_eq!(replay(&rocks, &log, size), replies);
        prop_assert_eq!(dump(&*rocks.snapshot()), dump(&driver.store));
    }
}

/// The histories are worth their name: each verb succeeds in them, each refusal is met.
#[test]
fn posix_histories_reach_every_verb_and_refusal() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut done: BTreeMap<String, u32> = BTreeMap::new();
    let mut refused = BTreeSet::new();
    for _ in 0..100 {
        let history = history().new_tree(&mut runner).unwrap().current();
        let (_, _, replies) = run(&history);
        for ((_, operation), reply) in history.iter().zip(replies) {
            let shown = format!("{operation:?}");
            let verb = shown.split(' ').next().unwrap().to_owned();
            match reply {
                Ok(_) => *done.entry(verb).or_default() += 1,
                Err(error) => drop(refused.insert(format!("{error:?}"))),
            }
        }
    }
    assert_eq!(done.len(), 13, "{done:?}");
    assert!(done.values().all(|n| *n >= 10), "{done:?}");
    let errors = [
        FsError::NoSuchAttribute,
        FsError::AttributeTooLarge,
        FsError::TooManyAttributes,
        FsError::NotPermitted,
        FsError::NotSupported,
        FsError::InvalidName,
        FsError::InvalidRequest,
        FsError::NotFile,
        FsError::IsDirectory,
        FsError::NotDirectory,
        FsError::NotEmpty,
        FsError::IntoItself,
        FsError::TooManySymlinks,
    ];
    for error in errors {
        assert!(refused.contains(&format!("{error:?}")), "{error:?} is never met: {refused:?}");
    }
}
