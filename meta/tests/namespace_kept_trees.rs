//! Files of removed trees that sessions have open: by their number all goes on, before the tree's purge
//! comes to them and after it, until nobody has them open. Below the third feature level they go.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "namespace_model/driver.rs"]
mod driver;
#[path = "namespace_model/dumps.rs"]
mod dumps;
#[path = "namespace_kept_trees/elsewhere.rs"]
mod elsewhere;
#[path = "namespace_model/invariants.rs"]
mod invariants;
#[path = "namespace_kept_trees/world.rs"]
mod world;

use cairn_meta::keys::chunks::ChunkState;
use cairn_meta::keys::holds::Hold;
use cairn_meta::keys::orphans::Orphan;
use cairn_meta::keys::trees::{MayBeOpen, RemovedTree};
use cairn_meta::keys::{self};
use cairn_meta::namespace::check::{Check, CheckBounds};
use cairn_meta::namespace::command::HoldAnswer;
use cairn_meta::namespace::holds::{decidable, question};
use cairn_meta::namespace::{Bounds, Command, NamespaceError, Operation, Target, XattrMode, jobs, read};
use cairn_meta::store::{KeyRange, MemoryStore, Rows, Table};
use cairn_types::{FeatureLevel, FsError, Inode, InodeId, LogIndex, Policy, Sequence, SessionId};
use driver::{Driver, every_row, extent, replayed_in_rocks};
use dumps::{Loader, dump};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use world::{Met, World, steps};

/// A state of that feature level.
fn at_level(level: u32) -> Driver {
    let mut d = Driver::new();
    d.ok(Command::RaiseLevel { to: FeatureLevel(level) });
    d
}

fn holder(d: &mut Driver) -> SessionId {
    d.ok(Command::OpenHolder { client: "holder".into(), credentials: None }).session.unwrap()
}

fn by_number(d: &Driver, ino: InodeId) -> Result<Inode, FsError> {
    match read::stat(&d.store, &Target::ino(ino)) {
        Ok(stat) => Ok(stat.inode),
        Err(NamespaceError::Refused(error)) => Err(error),
        Err(fault) => panic!("{fault}"),
    }
}

fn asked(d: &Driver, session: SessionId) -> Vec<InodeId> {
    let question = question(&d.store, session, LogIndex(d.index), 10_000).unwrap();
    question.into_iter().flat_map(|q| q.files).map(|file| file.ino).collect()
}

fn answer(d: &mut Driver, session: SessionId, number: u64, held: &[InodeId], released: &[InodeId]) {
    let upto = LogIndex(d.index);
    let (held, released) = (held.to_vec(), released.to_vec());
    d.ok(Command::Deny { answers: vec![HoldAnswer { session, number, upto, held, released }] });
}

fn remove(d: &mut Driver, path: &str) {
    d.done(Operation::RemoveTree { target: Target::path(path) });
}

/// As a session that says what it has open.
fn remove_as(d: &mut Driver, session: SessionId, number: u64, open: &[InodeId], path: &str) {
    let operation = Box::new(Operation::RemoveTree { target: Target::path(path) });
    let operation = Operation::Holding { number, inos: open.to_vec(), operation };
    d.sequence += 1;
    let sequence = Sequence(d.sequence);
    d.ok(Command::Request { session, sequence, acknowledged_below: sequence, operation });
}

fn trees(d: &Driver) -> Vec<RemovedTree> {
    jobs::trees(&d.store, None, 100).unwrap()
}

fn purge(d: &mut Driver) -> u64 {
    let mut steps = 0;
    while let Some(tree) = trees(d).pop() {
        d.now += 1;
        d.ok(Command::PurgeTree { top: tree.inode.ino });
        d.check();
        steps += 1;
    }
    steps
}

fn rows(d: &Driver, table: Table) -> usize {
    d.store.scan(table, &KeyRange::default(), usize::MAX).unwrap().len()
}

fn one_at_a_time(d: &mut Driver) {
    d.bounds = Bounds { rows_at_once: 1, ..Bounds::default() };
}

/// What may be done by the number of a file that is open: `size` bytes are in it before, and after.
fn go_on(d: &mut Driver, ino: InodeId, chunk: cairn_types::ChunkId, size: u64, policy: Policy) {
    let stat = read::stat(&d.store, &Target::ino(ino)).unwrap();
    assert_eq!((stat.inode.nlink, stat.inode.size, stat.policy), (0, size, policy));
    let version = stat.inode.version;
    let extents = vec![extent(size, 10, chunk, 1_000 * version)];
    let grown = d.done(Operation::Commit { ino, extents, expected_length: Some(size) }).inode.unwrap();
    assert_eq!((grown.nlink, grown.size), (0, size + 10));
    let tail = d.open_tail(ino, 0, 1).unwrap().chunk.unwrap();
    assert_eq!(tail.policy, policy);
    let mark = d.mark(1, version, 5);
    d.close(tail.chunk, 5, vec![mark]);
    let cut = d.done(cut_to(ino, size)).inode.unwrap();
    assert_eq!((cut.nlink, cut.size), (0, size));
    assert!(cut.version > version + 2);
    let (target, name, value) = (Target::ino(ino), b"user.n".to_vec(), vec![1]);
    d.done(Operation::SetXattr { target, name, value, mode: XattrMode::Any });
    let link = Operation::Link { from: Target::ino(ino), to: Target::path("/again") };
    assert_eq!(d.ask(link), Err(FsError::NotFound));
    assert_eq!(d.chunk(chunk).live_bytes, size);
    d.check();
}

fn cut_to(ino: InodeId, size: u64) -> Operation {
    Operation::SetAttr {
        target: Target::ino(ino),
        mode: None,
        uid: None,
        gid: None,
        size: Some(size),
        mtime: None,
        atime: None,
        expected_version: None,
    }
}

#[test]
fn an_open_file_of_a_removed_tree_goes_on_before_its_purge_and_after_it() {
    let mut d = at_level(3);
    let (one, two) = (holder(&mut d), holder(&mut d));
    let chunk = d.shared_chunk();
    let inner = d.mkdir("/t/a/inner").ino;
    let policy = Policy { max_lag_ms: 7_000, ..driver::POLICY };
    let set = |path: &str, lag| Operation::SetPolicy {
        target: Target::path(path),
        policy: Some(Policy { max_lag_ms: lag, ..driver::POLICY }),
    };
    d.done(set("/t", 9_000));
    d.done(set("/t/a", 7_000));
    let ino = d.create("/t/a/inner/f", vec![extent(0, 100, chunk, 0)]).unwrap().inode.unwrap().ino;
    let unheld = d.file("/t/a/inner/g");
    let above = d.file("/t/above");
    d.done(Operation::Symlink { target: Target::path("/t/l"), to: b"x".to_vec(), uid: 0, gid: 0 });
    one_at_a_time(&mut d);
    remove(&mut d, "/t");
    let told = rows(&d, Table::Events);
    assert_eq!(trees(&d)[0].open, Some(MayBeOpen::Any));
    d.check();
    assert_eq!(d.stat("/t/a/inner/f"), Err(FsError::NotFound));
    assert_eq!(by_number(&d, inner), Err(FsError::Stale), "directories are gone");
    let inside = Target::under(inner, "new");
    let made = d.ask(Operation::Mkdir { target: inside, mode: 0o755, uid: 0, gid: 0, parents: false });
    assert_eq!(made, Err(FsError::Stale));
    assert!(asked(&d, one).is_empty(), "its name is not purged yet");
    d.bounds = Bounds::default();
    go_on(&mut d, ino, chunk, 100, policy);
    assert_eq!(read::stat(&d.store, &Target::ino(above)).unwrap().policy.max_lag_ms, 9_000);
    one_at_a_time(&mut d);
    assert!(purge(&mut d) > 5);
    assert_eq!(rows(&d, Table::Events), told, "nobody is told anything");
    d.bounds = Bounds::default();
    go_on(&mut d, ino, chunk, 100, policy);
    assert_eq!(read::stat(&d.store, &Target::ino(above)).unwrap().policy.max_lag_ms, 9_000);
    assert_eq!(rows(&d, Table::Events), told);
    for session in [one, two] {
        let mut files = asked(&d, session);
        files.sort_unstable();
        assert_eq!(files, [ino, unheld, above]);
    }
    answer(&mut d, one, 1, &[ino], &[]);
    answer(&mut d, two, 1, &[], &[]);
    assert_eq!(by_number(&d, unheld), Err(FsError::Stale));
    let tail = d.open_tail(ino, 0, 1).unwrap().chunk.unwrap().chunk;
    answer(&mut d, one, 2, &[], &[ino]);
    assert_eq!(by_number(&d, ino), Err(FsError::Stale));
    assert_eq!((d.chunk(tail).state, d.chunk(chunk).live_bytes), (ChunkState::Sealing, 0));
    let left = [Table::Orphans, Table::Extents, Table::Xattrs, Table::Trees, Table::Branches];
    assert!(left.iter().all(|table| rows(&d, *table) == 0));
    assert_eq!(read::cluster(&d.store).unwrap().counts.inodes, 1);
    d.check();
}

#[test]
fn one_that_is_alone_keeps_what_it_says_is_open_and_nothing_else() {
    let mut d = at_level(3);
    let alone = holder(&mut d);
    d.mkdir("/t/a");
    let (open, closed) = (d.file("/t/a/open"), d.file("/t/a/closed"));
    one_at_a_time(&mut d);
    d.now += 1;
    remove_as(&mut d, alone, 0, &[open], "/t");
    assert_eq!(trees(&d)[0].open, Some(MayBeOpen::These(vec![open])));
    assert_eq!(by_number(&d, open).unwrap().nlink, 0);
    assert_eq!(by_number(&d, closed), Err(FsError::Stale));
    // Whoever comes later has none of it open.
    let late = holder(&mut d);
    purge(&mut d);
    assert_eq!(rows(&d, Table::Orphans), 1);
    assert_eq!((asked(&d, late), asked(&d, alone)), (vec![open], vec![open]));
    answer(&mut d, late, 1, &[], &[]);
    answer(&mut d, alone, 1, &[open], &[]);
    assert_eq!(by_number(&d, open).unwrap().nlink, 0);
    answer(&mut d, alone, 2, &[], &[open]);
    assert_eq!(by_number(&d, open), Err(FsError::Stale));
    // In one entry, too; and what was said before its last answer does not count.
    d.bounds = Bounds::default();
    d.ok(Command::ExpireSession { session: late });
    d.mkdir("/u");
    let (open, closed) = (d.file("/u/open"), d.file("/u/closed"));
    remove_as(&mut d, alone, 0, &[], "/u");
    assert_eq!(asked(&d, alone), [open, closed]);
    assert_eq!(rows(&d, Table::Trees), 0);
    d.check();
}

#[test]
fn nobody_holds_anything_and_all_goes_at_once() {
    let mut d = at_level(3);
    d.mkdir("/t");
    let f = d.file("/t/f");
    d.file("/t/g");
    one_at_a_time(&mut d);
    d.now += 1;
    remove(&mut d, "/t");
    assert_eq!(trees(&d)[0].open, Some(MayBeOpen::These(vec![])));
    holder(&mut d);
    assert_eq!(by_number(&d, f), Err(FsError::Stale));
    purge(&mut d);
    assert_eq!((rows(&d, Table::Orphans), rows(&d, Table::Holds)), (0, 1));
}

/// A file that was opened by another name after its tree was removed, and has lost that name too.
#[test]
fn what_had_a_name_outside_later_on_is_kept_whatever_was_said_before() {
    for purge_first in [false, true] {
        let mut d = at_level(3);
        d.mkdir("/t/a");
        let ino = d.file("/t/a/z");
        d.file("/t/b");
        d.done(Operation::Link { from: Target::path("/t/a/z"), to: Target::path("/out") });
        one_at_a_time(&mut d);
        d.now += 1;
        remove(&mut d, "/t");
        assert_eq!(trees(&d)[0].open, Some(MayBeOpen::These(vec![])));
        let late = holder(&mut d);
        assert_eq!(by_number(&d, ino).unwrap().nlink, 2, "it has a name");
        d.now += 1;
        if purge_first {
            purge(&mut d);
            assert_eq!(by_number(&d, ino).unwrap().nlink, 1);
        }
        d.unlink("/out");
        assert_eq!(by_number(&d, ino).unwrap().nlink, 0);
        purge(&mut d);
        assert_eq!(asked(&d, late), [ino]);
        answer(&mut d, late, 1, &[ino], &[]);
        assert_eq!(by_number(&d, ino).unwrap().nlink, 0);
        d.check();
    }
}

#[test]
fn a_step_keeps_as_many_files_as_it_takes_names() {
    let mut d = at_level(3);
    let one = holder(&mut d);
    d.mkdir("/t");
    for n in 0..1000 {
        d.file(&format!("/t/{n}"));
    }
    remove(&mut d, "/t");
    let steps = purge(&mut d);
    assert!((3..=5).contains(&steps), "{steps} steps for 1,000 names");
    assert_eq!(asked(&d, one).len(), 1000);
    let counts = jobs::tree_counts(&d.store).unwrap();
    assert_eq!((counts.pending, counts.purged), (0, 1000));
    answer(&mut d, one, 1, &[], &[]);
    while decidable(&d.store).unwrap().is_some() {
        d.ok(Command::DecideUnlinked {});
    }
    assert_eq!(rows(&d, Table::Orphans), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, max_shrink_iters: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    /// What somebody has open is there, and what nobody has open and no path leads to is not opened, nor
    /// there for long.
    #[test]
    fn files_of_removed_trees_stay_for_those_who_have_them_open(steps in steps(), rows_at_once in 1usize..5) {
        let mut world = World::new(rows_at_once);
        for step in &steps {
            world.step(step);
            world.same();
        }
        world.end();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, max_shrink_iters: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_stores_keep_the_same_files_of_removed_trees(steps in steps(), rows_at_once in 1usize..5) {
        let mut world = World::new(rows_at_once);
        steps.iter().for_each(|step| world.step(step));
        prop_assert_eq!(replayed_in_rocks(&world.d.log), every_row(&world.d.store));
    }
}

/// The histories are worth their name.
#[test]
fn histories_keep_files_of_trees_in_every_way() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut all = Met::default();
    for _ in 0..60 {
        let mut world = World::new(1);
        for step in steps().new_tree(&mut runner).unwrap().current() {
            world.step(&step);
            world.count();
        }
        world.end();
        all.add(&world.met);
    }
    let enough = all.before > 50 && all.after > 50 && all.changed > 20 && all.claimed > 10 && all.late > 3;
    assert!(enough, "{all:?}");
}
