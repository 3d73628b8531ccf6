//! Dumps and loads: a state with a row of every kind comes back whole, in entries; while it is loaded
//! nobody else changes anything; what broke off is gone on with, or taken out again.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "namespace_model/driver.rs"]
mod driver;
#[path = "namespace_model/dumps.rs"]
mod dumps;
#[path = "namespace_model/invariants.rs"]
mod invariants;
#[path = "namespace_check/world.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod world;

use std::collections::BTreeSet;

use cairn_meta::keys::chunks::ChunkState;
use cairn_meta::keys::loads::{self, LoadId, LoadRecord};
use cairn_meta::keys::{self};
use cairn_meta::namespace::check::{Check, CheckBounds, Finding};
use cairn_meta::namespace::facts::{Disks, FACTS_PER_ENTRY_MAX, Fact, holds_nothing};
use cairn_meta::namespace::{Bounds, Command, Operation, Target, XattrMode, read};
use cairn_meta::store::{KeyRange, MemoryStore, RocksStore, Row, Rows, Store, Table};
use cairn_types::{DeviceNumber, FileKind, FsError, InodeId, NodeId, Timestamp};
use driver::{Driver, FIRST, register};
use dumps::{Loader, dump, same_after_a_load, told};
use world::World;

/// A state of which every kind of fact can be told.
fn world() -> World {
    let mut world = World::new();
    let d = &mut world.d;
    let device = FileKind::BlockDevice(DeviceNumber { major: 8, minor: 1 });
    let (mode, uid, gid) = (0o4640, 7, 8);
    let target = Target::under(InodeId::ROOT, b"dev\xff".to_vec());
    d.done(Operation::Mknod { target, kind: device, mode, uid, gid });
    d.done(Operation::Symlink { target: Target::path("/s"), to: b"a/\xfe".to_vec(), uid, gid });
    for (name, value) in [("user.text", b"words".to_vec()), ("security.bytes", vec![0, 255, 10])] {
        let (target, name, mode) = (Target::path("/a/f"), name.into(), XattrMode::Any);
        d.done(Operation::SetXattr { target, name, value, mode });
    }
    d.mkdir("/gone/deep");
    d.file("/gone/deep/f");
    d.file("/gone/f");
    d.bounds = Bounds { rows_at_once: 1, ..Bounds::default() };
    d.done(Operation::RemoveTree { target: Target::path("/gone") });
    d.bounds = Bounds::default();
    world
}

fn rows_of(rows: &dyn Rows, table: Table) -> Vec<Row> {
    rows.scan(table, &KeyRange::default(), usize::MAX).unwrap()
}

fn record(rows: &dyn Rows) -> Option<LoadRecord> {
    keys::get(rows, loads::KEY).unwrap()
}

#[test]
fn a_state_with_every_kind_of_fact_comes_back_on_both_stores() {
    let world = world();
    let first = dump(&world.d.store, 3);
    let kinds: BTreeSet<&str> = Loader::new(&first).facts.iter().map(Fact::kind).collect();
    assert_eq!(kinds.len(), 15, "{kinds:?}");
    assert_eq!(told(&first), told(&dump(&world.d.store, 1000)), "however it is read");
    let (memory, dir) = (MemoryStore::new(), tempfile::tempdir().unwrap());
    let rocks = RocksStore::open(dir.path(), 0).unwrap();
    same_after_a_load(&world.d.store, &memory);
    same_after_a_load(&memory, &rocks);
    for store in [&memory as &dyn Rows, &*rocks.snapshot()] {
        assert_eq!(Check::all(store, CheckBounds::default()).unwrap(), []);
        invariants::check(store);
        // What lives with sessions is not there; all else is as it was.
        for table in [Table::Nodes, Table::Places, Table::Links, Table::Xattrs, Table::Extents, Table::Keys] {
            let (was, is) = (rows_of(&world.d.store, table), rows_of(store, table));
            assert_eq!(is, was, "{table:?}");
        }
        for table in
            [Table::Sessions, Table::Replies, Table::Events, Table::Held, Table::Writers, Table::Locks]
        {
            assert_eq!(rows_of(store, table), [], "{table:?}");
        }
        let tail = read::chunk(store, world.tail).unwrap().unwrap();
        assert_eq!(
            (tail.state, tail.epoch.0),
            (ChunkState::Sealing, 2),
            "a growing file's chunk is sealed next"
        );
    }
}

#[test]
fn ids_go_on_beyond_those_of_the_dumped_state() {
    let world = world();
    let was = read::cluster(&world.d.store).unwrap().next;
    let store = MemoryStore::new();
    let mut loader = Loader::new(&dump(&world.d.store, 100));
    loader.all(&store, 100);
    let next = read::cluster(&store).unwrap().next;
    assert_eq!((next.inode, next.chunk, next.pack), (was.inode, was.chunk, was.pack));
    assert_eq!((next.session, next.mount, next.intent), (was.session, was.mount, was.intent));
    assert!(next.node < was.node, "data nodes are this cluster's own");
    let opened = loader.propose(&store, Command::OpenSession { client: "c".into() }).unwrap();
    assert_eq!(opened.session, Some(was.session));
}

#[test]
fn only_a_namespace_without_anything_is_loaded_into() {
    let mut loader = Loader::new(&dump(&world().d.store, 100));
    let begin = loader.begin.clone();
    let mut d = Driver::new();
    assert!(holds_nothing(&d.store).unwrap());
    d.file("/f");
    assert!(!holds_nothing(&d.store).unwrap());
    assert_eq!(d.propose(begin.clone()), Err(FsError::NotEmpty));
    d.unlink("/f");
    d.shared_chunk();
    assert_eq!(d.propose(begin.clone()), Err(FsError::NotEmpty), "a chunk is something");
    let mut d = Driver::new();
    let (target, name, mode) = (Target::path("/"), b"user.x".to_vec(), XattrMode::Any);
    d.done(Operation::SetXattr { target, name, value: vec![1], mode });
    assert_eq!(d.propose(begin), Err(FsError::NotEmpty));
    assert_eq!(record(&d.store), None);
    d.check();
    loader.found(&MemoryStore::new());
}

#[test]
fn while_a_dump_is_loaded_nobody_else_changes_anything() {
    let dump = dump(&world().d.store, 100);
    let loader = Loader::new(&dump);
    let mut d = Driver::new();
    d.ok(loader.begin.clone());
    let before = rows_of(&d.store, Table::Nodes);
    let target = Target::path("/x");
    let mkdir = Operation::Mkdir { target, mode: 0o755, uid: 0, gid: 0, parents: false };
    assert_eq!(d.ask_at(1, mkdir.clone()), Err(FsError::Loading));
    for command in
        [Command::Purge { ino: InodeId(2) }, Command::DropReplica { chunk: world().packed, node: FIRST }]
    {
        assert_eq!(d.propose(command), Err(FsError::Loading));
    }
    assert_eq!(rows_of(&d.store, Table::Nodes), before);
    d.ok(register(NodeId(104)));
    d.ok(Command::Acknowledge { session: d.session, below: cairn_types::Sequence(1) });
    d.ok(Command::OpenSession { client: "c".into() });
    let other = LoadId { crc32c: 1, ..loader.load };
    let begin = Command::BeginLoad { load: other, next: Default::default(), time: Timestamp(0) };
    assert_eq!(d.propose(begin), Err(FsError::Loading), "another dump");
    d.ok(loader.begin.clone());
    d.ok(Command::DiscardLoad);
    assert_eq!(record(&d.store), None);
    // The refusal was no outcome of the request: it is asked again, and done.
    d.sequence = 1;
    d.ask_at(1, mkdir).unwrap();
    d.check();
}

#[test]
fn facts_come_once_and_in_their_order() {
    let store = MemoryStore::new();
    let mut loader = Loader::new(&dump(&world().d.store, 100));
    loader.found(&store);
    let (load, facts) = (loader.load, loader.facts.clone());
    let part = |first: usize, count: usize| {
        let facts = facts[first..first + count].iter().cloned().map(Some).collect();
        Command::LoadFacts { load, first: first as u64, facts }
    };
    assert_eq!(loader.propose(&store, part(0, 2)), Err(FsError::NotFound), "before it begins");
    loader.propose(&store, loader.begin.clone()).unwrap();
    assert_eq!(loader.propose(&store, part(1, 2)), Err(FsError::InvalidRequest), "a gap");
    loader.propose(&store, part(0, 5)).unwrap();
    let inodes = || read::cluster(&store).unwrap().counts;
    let counts = inodes();
    for (first, count) in [(0, 5), (0, 3), (2, 3)] {
        loader.propose(&store, part(first, count)).unwrap();
    }
    assert_eq!(inodes(), counts, "a repeat changes nothing");
    assert_eq!(loader.propose(&store, part(3, 4)), Err(FsError::InvalidRequest), "half a repeat");
    assert_eq!(
        loader.propose(&store, Command::EndLoad { load }),
        Err(FsError::InvalidRequest),
        "facts are missing"
    );
    let too_many = Command::LoadFacts { load, first: 5, facts: vec![None; FACTS_PER_ENTRY_MAX + 1] };
    assert!(loader.propose(&store, too_many).is_err());
    assert_eq!(record(&store).unwrap().loaded, 5);
    loader.load(&store, 5, 3);
    loader.propose(&store, Command::EndLoad { load }).unwrap();
    assert_eq!(loader.propose(&store, Command::EndLoad { load }), Err(FsError::NotFound));
    invariants::check(&store);
}

#[test]
fn unlinked_files_of_a_load_are_decided_on_when_all_of_it_is_there() {
    let (source, _) = World::holding();
    let store = MemoryStore::new();
    let mut loader = Loader::new(&dump(&source.d.store, 100));
    loader.found(&store);
    loader.propose(&store, loader.begin.clone()).unwrap();
    loader.load(&store, 0, 5);
    let (orphans, holds) = (rows_of(&store, Table::Orphans), rows_of(&store, Table::Holds));
    assert_eq!(holds.len(), 2, "two of them were held, or not asked about yet");
    let open = Command::OpenHolder { client: "c".into(), credentials: None };
    let session = loader.propose(&store, open).unwrap().session.unwrap();
    loader.propose(&store, Command::Deny { answers: Vec::new() }).unwrap();
    loader.propose(&store, Command::ExpireSession { session }).unwrap();
    assert_eq!(loader.propose(&store, Command::DecideUnlinked {}), Err(FsError::Loading));
    assert_eq!((rows_of(&store, Table::Orphans), rows_of(&store, Table::Holds)), (orphans.clone(), holds));
    loader.propose(&store, Command::EndLoad { load: loader.load }).unwrap();
    loader.propose(&store, Command::DecideUnlinked {}).unwrap();
    assert_eq!(rows_of(&store, Table::Orphans).len(), orphans.len() - 2);
    assert!(rows_of(&store, Table::Holds).is_empty());
    invariants::check(&store);
}

#[test]
fn an_entry_of_the_largest_load_fits() {
    let chunk = Loader::new(&dump(&world().d.store, 100)).facts.into_iter().find(|f| f.kind() == "chunk");
    let Some(Fact::Chunk(chunk)) = chunk else { panic!("there are chunks") };
    let facts: Vec<Option<Fact>> = (0..FACTS_PER_ENTRY_MAX as u64)
        .flat_map(|n| {
            let mut one = chunk.clone();
            one.chunk = cairn_types::ChunkId(n + 1);
            one.live_bytes = 1;
            [Some(Fact::Chunk(one))]
        })
        .collect();
    let store = MemoryStore::new();
    let mut loader = Loader::new(&dump(&world().d.store, 100));
    loader.found(&store);
    let load = LoadId { facts: u64::MAX, ..loader.load };
    let begin = Command::BeginLoad { load, next: Default::default(), time: Timestamp(0) };
    loader.propose(&store, begin).unwrap();
    loader.propose(&store, Command::LoadFacts { load, first: 0, facts }).unwrap();
}

#[test]
fn a_load_that_broke_off_is_taken_out_and_nothing_of_it_is_left() {
    let dump = dump(&world().d.store, 100);
    for loaded in [0, 1, 20, usize::MAX] {
        let mut loader = Loader::new(&dump);
        let store = MemoryStore::new();
        loader.found(&store);
        loader.propose(&store, Command::OpenSession { client: "c".into() }).unwrap();
        let before: Vec<Vec<Row>> = Table::ALL.iter().map(|table| rows_of(&store, *table)).collect();
        loader.propose(&store, loader.begin.clone()).unwrap();
        loader.facts.truncate(loaded);
        loader.load(&store, 0, 9);
        let mut steps = 0;
        while record(&store).is_some() {
            loader.propose(&store, Command::DiscardLoad).unwrap();
            steps += 1;
            assert!(steps < 10);
        }
        assert_eq!(loader.propose(&store, Command::DiscardLoad), Err(FsError::NotFound));
        assert!(holds_nothing(&store).unwrap());
        for (table, before) in Table::ALL.iter().zip(before) {
            // Ids and the time stay where they are.
            if *table != Table::Counters {
                assert_eq!(rows_of(&store, *table), before, "{table:?}");
            }
        }
        invariants::check(&store);
        loader = Loader::new(&dump);
        loader.propose(&store, loader.begin.clone()).unwrap();
        loader.load(&store, 0, 100);
        loader.propose(&store, Command::EndLoad { load: loader.load }).unwrap();
        invariants::check(&store);
    }
}

#[test]
fn a_large_load_is_taken_out_in_steps() {
    let mut d = Driver::new();
    for n in 0..3000 {
        d.file(&format!("/{n}"));
    }
    let dump = dump(&d.store, 1000);
    let (store, mut loader) = (MemoryStore::new(), Loader::new(&dump));
    loader.found(&store);
    loader.propose(&store, loader.begin.clone()).unwrap();
    loader.load(&store, 0, FACTS_PER_ENTRY_MAX);
    loader.propose(&store, Command::DiscardLoad).unwrap();
    let left = record(&store).unwrap();
    assert!(left.discarding);
    let load = loader.load;
    assert_eq!(
        loader.propose(&store, Command::EndLoad { load }),
        Err(FsError::Loading),
        "there is no way back"
    );
    assert_eq!(loader.propose(&store, loader.begin.clone()), Err(FsError::Loading));
    while record(&store).is_some() {
        loader.propose(&store, Command::DiscardLoad).unwrap();
    }
    assert!(holds_nothing(&store).unwrap());
    invariants::check(&store);
}

#[test]
fn what_another_cluster_has_not_got_is_marked_as_an_accepted_loss() {
    let world = world();
    let mut loader = Loader::new(&dump(&world.d.store, 100));
    // Another cluster, on the same bucket: it has none of the data nodes.
    let nowhere = Disks::new();
    let mut lost = 0;
    let settled = loader.facts.clone().into_iter().map(|mut fact| {
        let Fact::Chunk(chunk) = &mut fact else { return Some(fact) };
        match chunk.settle(&nowhere) {
            cairn_meta::namespace::facts::Fate::Kept => Some(fact),
            cairn_meta::namespace::facts::Fate::Unneeded => None,
            cairn_meta::namespace::facts::Fate::Lost => {
                lost += 1;
                chunk.end().then_some(fact)
            }
        }
    });
    let settled: Vec<Option<Fact>> = settled.collect();
    // `waiting`, `uploading`, `held`, and the two tails. A spare has nothing, and is in no dump.
    assert_eq!(lost, 5);
    let store = MemoryStore::new();
    loader.found(&store);
    loader.propose(&store, loader.begin.clone()).unwrap();
    let load = loader.load;
    loader.propose(&store, Command::LoadFacts { load, first: 0, facts: settled }).unwrap();
    loader.propose(&store, Command::EndLoad { load }).unwrap();
    invariants::check(&store);
    let findings = Check::all(&store, CheckBounds::default()).unwrap();
    assert!(!findings.is_empty());
    for finding in &findings {
        assert!(matches!(finding, Finding::BeyondSeal { known: true, .. }), "{finding:?}");
    }
    let packed = read::chunk(&store, world.packed).unwrap().unwrap();
    assert!(packed.replicas.is_empty() && packed.place.is_some(), "S3 has it");
    assert_eq!(read::chunk(&store, world.tail).unwrap(), None);
    let log = read::stat(&store, &Target::ino(world.log)).unwrap();
    assert_eq!(log.inode.tail, None, "it is appended to again");
    // Nothing waits for what is lost: no lag, no upload.
    assert_eq!(read::cluster(&store).unwrap().counts.unpersisted_bytes, 0);
}
