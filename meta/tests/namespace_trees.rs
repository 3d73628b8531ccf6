//! Directories that go with all below them: at once for everybody, in bounded steps for the rows.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "namespace_model/driver.rs"]
mod driver;
#[path = "namespace_model/invariants.rs"]
mod invariants;

use std::collections::{BTreeMap, BTreeSet};

use cairn_meta::keys::chunks::ChunkState;
use cairn_meta::keys::mounts::MountSource;
use cairn_meta::namespace::{Bounds, Command, NamespaceError, Operation, Reply, Target, jobs, read};
use cairn_meta::store::{KeyRange, Rows, Table};
use cairn_types::{ChunkId, FileKind, FsError, Inode, InodeId};
use driver::{Driver, create, every_row, extent, replayed_in_rocks};
use proptest::prelude::*;
use proptest::strategy::ValueTree;

fn remove(d: &mut Driver, path: &str) -> Reply {
    d.ask(Operation::RemoveTree { target: Target::path(path) })
}

fn link(d: &mut Driver, from: &str, to: &str) {
    d.done(Operation::Link { from: Target::path(from), to: Target::path(to) });
}

fn stat_ino(d: &Driver, ino: InodeId) -> Result<Inode, FsError> {
    match read::stat(&d.store, &Target::ino(ino)) {
        Ok(stat) => Ok(stat.inode),
        Err(NamespaceError::Refused(error)) => Err(error),
        Err(fault) => panic!("{fault}"),
    }
}

fn pending(d: &Driver) -> Vec<InodeId> {
    jobs::trees(&d.store, None, 100).unwrap().into_iter().map(|tree| tree.inode.ino).collect()
}

/// Purges all removed trees, as the leader does; answers the steps that it took.
fn purge_all(d: &mut Driver) -> u64 {
    let mut steps = 0;
    while let Some(top) = pending(d).first().copied() {
        d.ok(Command::PurgeTree { top });
        steps += 1;
    }
    while let Some(ino) = jobs::orphans(&d.store, None, 1).unwrap().pop() {
        d.ok(Command::Purge { ino });
    }
    steps
}

fn inodes(d: &Driver) -> u64 {
    read::cluster(&d.store).unwrap().counts.inodes
}

#[test]
fn a_removed_tree_is_out_of_reach_at_once_and_its_rows_go_in_steps() {
    let mut d = Driver::new();
    let chunk = d.shared_chunk();
    let (mut files, mut directories) = (Vec::new(), Vec::new());
    for n in 0..40 {
        directories.push(d.mkdir(&format!("/t/d{n}/e")).ino);
        for m in 0..20 {
            let path = format!("/t/d{n}/e/f{m}");
            files.push(d.create(&path, vec![extent(0, 1, chunk, m)]).unwrap().inode.unwrap().ino);
        }
    }
    let top = d.stat("/t").unwrap();
    let before = d.index;
    let reply = remove(&mut d, "/t").unwrap();
    assert_eq!(reply.inode, Some(top.clone()), "as it was");
    assert_eq!(d.index, before + 1, "one entry");
    assert_eq!(d.stat("/t"), Err(FsError::NotFound));
    assert_eq!(d.stat("/t/d1/e/f1"), Err(FsError::NotFound));
    for ino in files.iter().chain(&directories).chain([&top.ino]) {
        assert_eq!(stat_ino(&d, *ino), Err(FsError::Stale), "{ino}");
    }
    let last = *directories.last().unwrap();
    let inside =
        Operation::Mkdir { target: Target::under(last, "new"), mode: 0o755, uid: 0, gid: 0, parents: false };
    assert_eq!(d.ask(inside), Err(FsError::Stale), "nobody makes a name in it");
    let out = Operation::Rename {
        from: Target::under(last, "f1"),
        to: Target::path("/saved"),
        no_replace: false,
        exchange: false,
    };
    assert_eq!(d.ask(out), Err(FsError::Stale), "nor takes one out of it");
    assert_eq!(d.open_tail(*files.last().unwrap(), 0, 1), Err(FsError::Stale));
    // A tree of that name is another one.
    let again = d.mkdir("/t").ino;
    assert_ne!(again, top.ino);
    assert_eq!(pending(&d), [top.ino]);
    d.check();
    let steps = purge_all(&mut d);
    assert!((2..=6).contains(&steps), "{steps} steps for 881 names");
    assert_eq!((inodes(&d), d.chunk(chunk).live_bytes), (2, 0));
    let counts = jobs::tree_counts(&d.store).unwrap();
    assert_eq!((counts.pending, counts.purged), (0, 880));
    assert_eq!(d.propose(Command::PurgeTree { top: top.ino }), Err(FsError::NotFound));
    assert!(d.stat("/t").is_ok());
    d.check();
}

#[test]
fn a_small_tree_goes_in_one_entry() {
    let mut d = Driver::new();
    d.mkdir("/t/a/b");
    d.file("/t/a/f");
    remove(&mut d, "/t").unwrap();
    assert_eq!((pending(&d), inodes(&d)), (vec![], 1));
    d.check();
}

#[test]
fn a_file_with_a_name_outside_survives_with_its_bytes() {
    for rows_at_once in [1, 256] {
        let mut d = Driver::new();
        d.bounds = Bounds { rows_at_once, ..Bounds::default() };
        let chunk = d.shared_chunk();
        d.mkdir("/t/a");
        d.mkdir("/out");
        d.create("/t/a/first", vec![extent(0, 7, chunk, 0)]).unwrap();
        d.create("/out/second", vec![extent(0, 5, chunk, 7)]).unwrap();
        d.create("/t/inner", vec![extent(0, 3, chunk, 12)]).unwrap();
        link(&mut d, "/t/a/first", "/out/kept");
        link(&mut d, "/t/a/first", "/t/also");
        link(&mut d, "/out/second", "/t/a/shared");
        link(&mut d, "/t/inner", "/t/a/inner");
        remove(&mut d, "/t").unwrap();
        d.check();
        let seen = |d: &Driver, path: &str| d.stat(path).map(|inode| (inode.size, inode.kind));
        for path in ["/out/kept", "/out/second"] {
            assert!(seen(&d, path).is_ok(), "while it goes");
        }
        purge_all(&mut d);
        d.check();
        for (path, size) in [("/out/kept", 7), ("/out/second", 5)] {
            let inode = d.stat(path).unwrap();
            assert_eq!((inode.size, inode.nlink), (size, 1), "{path}");
            assert_eq!(stat_ino(&d, inode.ino).unwrap(), inode, "by its number too");
            assert_eq!(read::path_of(&d.store, inode.ino).unwrap(), path.as_bytes());
            let range = read::extents(&d.store, &Target::path(path), 0, 100).unwrap();
            assert_eq!(range.extents.iter().map(|e| e.length).sum::<u64>(), size);
        }
        assert_eq!((inodes(&d), d.chunk(chunk).live_bytes), (4, 12));
    }
}

#[test]
fn a_file_with_a_name_outside_is_written_and_asked_for_while_its_other_names_go() {
    let mut d = Driver::new();
    d.bounds = Bounds { rows_at_once: 1, ..Bounds::default() };
    d.mkdir("/t/a");
    d.mkdir("/out");
    let ino = d.file("/t/a/z");
    d.file("/t/a/b");
    link(&mut d, "/t/a/z", "/out/kept");
    remove(&mut d, "/t").unwrap();
    let out = d.stat("/out").unwrap().ino;
    assert_eq!(pending(&d).len(), 1);
    let under = read::stat(&d.store, &Target::under(out, "kept")).unwrap();
    assert_eq!((under.inode.ino, under.policy), (ino, driver::POLICY), "the root's policy");
    let tail = d.open_tail(ino, 0, 1).unwrap().chunk.unwrap();
    let top = pending(&d)[0];
    while !pending(&d).is_empty() {
        d.ok(Command::PurgeTree { top });
        d.check();
        assert_eq!(d.stat("/out/kept").unwrap().ino, ino);
    }
    d.close(tail.chunk, 9, vec![d.mark(1, 1, 9)]);
    let inode = d.stat("/out/kept").unwrap();
    assert_eq!((inode.size, inode.nlink, inode.tail), (9, 1, None));
    d.check();
}

#[test]
fn an_open_tail_begins_its_seal_and_many_extents_go_later() {
    let mut d = Driver::new();
    d.mkdir("/t");
    let growing = d.file("/t/wal");
    let tail = d.open_tail(growing, 0, 1).unwrap().chunk.unwrap().chunk;
    let chunk = d.shared_chunk();
    let many = d.file("/t/many");
    for first in [0, 500, 1000] {
        let extents = (first..first + 500).map(|n| extent(2 * n, 1, chunk, n)).collect();
        d.done(Operation::Commit { ino: many, extents, expected_length: None });
    }
    remove(&mut d, "/t").unwrap();
    assert_eq!(d.chunk(tail).state, ChunkState::Sealing);
    d.check();
    d.finish(tail, 2, 10, vec![driver::FIRST]).unwrap();
    assert_eq!(d.chunk(tail).live_bytes, 0, "the file is gone");
    purge_all(&mut d);
    assert_eq!((d.chunk(chunk).live_bytes, inodes(&d)), (0, 1));
    d.check();
}

#[test]
fn a_tree_with_a_mount_and_what_is_no_tree_are_refused() {
    let mut d = Driver::new();
    d.mkdir("/t/a/b");
    d.file("/f");
    let source = MountSource { bucket: "b".into(), prefix: "p/".into(), ..MountSource::default() };
    d.done(Operation::MountAdd { target: Target::path("/t/a/m"), source });
    for path in ["/t", "/t/a", "/t/a/m"] {
        assert_eq!(remove(&mut d, path), Err(FsError::IsMountRoot), "{path}");
    }
    assert_eq!(remove(&mut d, "/"), Err(FsError::IsRoot));
    assert_eq!(remove(&mut d, "/f"), Err(FsError::NotDirectory));
    assert_eq!(remove(&mut d, "/none"), Err(FsError::NotFound));
    remove(&mut d, "/t/a/b").unwrap();
    d.done(Operation::Symlink { target: Target::path("/l"), to: b"/t".to_vec(), uid: 0, gid: 0 });
    assert_eq!(remove(&mut d, "/l"), Err(FsError::NotDirectory), "a symlink is not followed");
    d.done(Operation::MountRemove { target: Target::path("/t/a/m") });
    remove(&mut d, "/t").unwrap();
    d.check();
}

#[test]
fn a_tree_deeper_than_any_path_goes_too() {
    let mut d = Driver::new();
    let mut at = d.mkdir("/t").ino;
    for _ in 0..5_000 {
        let target = Target::under(at, "d");
        let made = Operation::Mkdir { target, mode: 0o755, uid: 0, gid: 0, parents: false };
        at = d.done(made).inode.unwrap().ino;
    }
    remove(&mut d, "/t").unwrap();
    let steps = purge_all(&mut d);
    assert!(steps < 100, "{steps}");
    assert_eq!(inodes(&d), 1);
    d.check();
}

#[derive(Clone, Debug)]
enum Step {
    /// In the nth directory, a name.
    Mkdir(usize, u8),
    File(usize, u8, u64),
    Symlink(usize, u8),
    /// The nth name of a file, in the nth directory, a name.
    Link(usize, usize, u8),
    Unlink(usize),
    /// The nth directory, into another one.
    Move(usize, usize, u8),
    Remove(usize),
    Purge(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let nth = || 0usize..40;
    let name = || 0u8..5;
    let step = prop_oneof![
        8 => (nth(), name()).prop_map(|(d, n)| Step::Mkdir(d, n)),
        8 => (nth(), name(), 0u64..9).prop_map(|(d, n, size)| Step::File(d, n, size)),
        1 => (nth(), name()).prop_map(|(d, n)| Step::Symlink(d, n)),
        8 => (nth(), nth(), name()).prop_map(|(f, d, n)| Step::Link(f, d, n)),
        2 => nth().prop_map(Step::Unlink),
        2 => (nth(), nth(), name()).prop_map(|(f, d, n)| Step::Move(f, d, n)),
        3 => nth().prop_map(Step::Remove),
        6 => nth().prop_map(Step::Purge),
    ];
    proptest::collection::vec(step, 30..120)
}

/// What the model knows of a name: its kind, its inode and the size of a file, or of a link's text.
type Known = (FileKind, InodeId, u64);

struct World {
    d: Driver,
    chunk: ChunkId,
    used: u64,
    /// Every path there is.
    tree: BTreeMap<String, Known>,
    removed: u64,
    purged: u64,
}

impl World {
    fn new(rows_at_once: usize) -> Self {
        let mut d = Driver::new();
        d.bounds = Bounds { rows_at_once, ..Bounds::default() };
        let chunk = d.shared_chunk();
        Self { d, chunk, used: 0, tree: BTreeMap::new(), removed: 0, purged: 0 }
    }

    fn nth(&self, nth: usize, is: impl Fn(FileKind) -> bool) -> Option<String> {
        let paths: Vec<&String> = self.tree.iter().filter(|(_, k)| is(k.0)).map(|(path, _)| path).collect();
        paths.get(nth % paths.len().max(1)).map(|path| (*path).clone())
    }

    /// A path in the nth directory, the root among them.
    fn spot(&self, nth: usize, name: u8) -> String {
        let directory = self.nth(nth, |k| k == FileKind::Directory).filter(|_| nth > 2).unwrap_or_default();
        format!("{directory}/n{name}")
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Mkdir(d, name) => {
                let path = self.spot(*d, *name);
                if !self.tree.contains_key(&path) {
                    let ino = self.d.mkdir(&path).ino;
                    self.tree.insert(path, (FileKind::Directory, ino, 0));
                }
            }
            Step::File(d, name, size) => {
                let path = self.spot(*d, *name);
                if !self.tree.contains_key(&path) {
                    let extents = (*size > 0).then(|| extent(0, *size, self.chunk, self.used));
                    self.used += size;
                    let made = self.d.done(create(&path, extents.into_iter().collect()));
                    self.tree.insert(path, (FileKind::File, made.inode.unwrap().ino, *size));
                }
            }
            Step::Symlink(d, name) => {
                let path = self.spot(*d, *name);
                if !self.tree.contains_key(&path) {
                    let target = Target::path(path.as_str());
                    let made = self.d.done(Operation::Symlink { target, to: b"x".to_vec(), uid: 0, gid: 0 });
                    self.tree.insert(path, (FileKind::Symlink, made.inode.unwrap().ino, 1));
                }
            }
            Step::Link(file, d, name) => {
                let path = self.spot(*d, *name);
                let from = self.nth(*file, |k| k == FileKind::File);
                if let Some(from) = from.filter(|_| !self.tree.contains_key(&path)) {
                    link(&mut self.d, &from, &path);
                    self.tree.insert(path, self.tree[&from]);
                }
            }
            Step::Unlink(nth) => {
                if let Some(path) = self.nth(*nth, |k| k != FileKind::Directory) {
                    self.d.unlink(&path);
                    self.tree.remove(&path);
                }
            }
            Step::Move(from, d, name) => self.shift(*from, &self.spot(*d, *name)),
            Step::Remove(nth) => {
                if let Some(path) = self.nth(*nth, |k| k == FileKind::Directory) {
                    remove(&mut self.d, &path).unwrap();
                    let below = format!("{path}/");
                    self.tree.retain(|known, _| *known != path && !known.starts_with(&below));
                    self.removed += 1;
                }
            }
            Step::Purge(nth) => {
                let tops = pending(&self.d);
                if let Some(top) = tops.get(nth % tops.len().max(1)) {
                    self.d.ok(Command::PurgeTree { top: *top });
                    self.purged += 1;
                }
            }
        }
    }

    fn shift(&mut self, from: usize, to: &str) {
        let Some(from) = self.nth(from, |k| k == FileKind::Directory) else { return };
        let below = format!("{from}/");
        if self.tree.contains_key(to) || to.starts_with(&below) {
            return;
        }
        self.d.done(Operation::Rename {
            from: Target::path(from.as_str()),
            to: Target::path(to),
            no_replace: true,
            exchange: false,
        });
        let moved: Vec<String> =
            self.tree.keys().filter(|k| **k == from || k.starts_with(&below)).cloned().collect();
        for path in moved {
            let known = self.tree.remove(&path).unwrap();
            self.tree.insert(path.replacen(&from, to, 1), known);
        }
    }

    /// The paths that there are, each with its inode.
    fn seen(&self) -> BTreeMap<String, Inode> {
        let mut found = BTreeMap::new();
        let mut waiting = vec![(String::new(), InodeId::ROOT)];
        while let Some((path, directory)) = waiting.pop() {
            for entry in read::list(&self.d.store, directory, b"", 100).unwrap().entries {
                let below = format!("{path}/{}", String::from_utf8(entry.name).unwrap());
                if entry.inode.is_dir() {
                    waiting.push((below.clone(), entry.inode.ino));
                }
                found.insert(below, entry.inode);
            }
        }
        found
    }

    fn same(&self) {
        let seen = self.seen();
        let known: BTreeMap<String, Known> =
            seen.iter().map(|(path, i)| (path.clone(), (i.kind, i.ino, i.size))).collect();
        assert_eq!(known, self.tree);
        for inode in seen.values() {
            assert_eq!(stat_ino(&self.d, inode.ino).as_ref(), Ok(inode));
        }
        self.d.check();
    }

    /// All is purged: what is left is what the model has, and nothing else.
    fn end(&mut self) {
        self.purged += purge_all(&mut self.d);
        self.same();
        let living: BTreeSet<InodeId> = self.tree.values().map(|(_, ino, _)| *ino).collect();
        assert_eq!(inodes(&self.d), living.len() as u64 + 1);
        let files: BTreeMap<InodeId, u64> = self
            .tree
            .values()
            .filter(|k| k.0 == FileKind::File)
            .map(|(_, ino, size)| (*ino, *size))
            .collect();
        assert_eq!(self.d.chunk(self.chunk).live_bytes, files.values().sum::<u64>());
        for (path, inode) in self.seen().into_iter().filter(|(_, inode)| !inode.is_dir()) {
            let names = self.tree.values().filter(|(_, ino, _)| *ino == inode.ino).count();
            assert_eq!(inode.nlink as usize, names, "{path}");
        }
        for table in [Table::Trees, Table::Branches] {
            assert!(self.d.store.scan(table, &KeyRange::default(), 1).unwrap().is_empty());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, max_shrink_iters: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is purged when: what is outside is as if a removed tree had gone at once.
    #[test]
    fn a_tree_that_goes_in_steps_is_gone_at_once(steps in steps(), rows_at_once in 1usize..5) {
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

    /// Both stores hold the same bytes after the same steps.
    #[test]
    fn both_stores_purge_the_same_rows(steps in steps(), rows_at_once in 1usize..5) {
        let mut world = World::new(rows_at_once);
        steps.iter().for_each(|step| world.step(step));
        prop_assert_eq!(replayed_in_rocks(&world.d.log), every_row(&world.d.store));
    }
}

/// The histories are worth their name: trees that go in many steps, and files that outlive them.
#[test]
fn histories_leave_trees_half_gone() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut removed, mut purged, mut half_gone, mut outlived) = (0, 0, 0, 0);
    for _ in 0..40 {
        let mut world = World::new(1);
        for step in steps().new_tree(&mut runner).unwrap().current() {
            let before: BTreeSet<InodeId> = world.tree.values().map(|k| k.1).collect();
            let names = world.tree.len();
            world.step(&step);
            let after: BTreeSet<InodeId> = world.tree.values().map(|k| k.1).collect();
            let lost = names.saturating_sub(world.tree.len());
            if matches!(step, Step::Remove(_)) && lost > before.len() - after.len() {
                outlived += 1;
            }
            half_gone += u64::from(!pending(&world.d).is_empty());
        }
        world.end();
        (removed, purged) = (removed + world.removed, purged + world.purged);
    }
    assert!(
        removed >= 60 && purged >= 100 && half_gone >= 200 && outlived >= 10,
        "{removed} {purged} {half_gone} {outlived}"
    );
}
