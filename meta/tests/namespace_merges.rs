//! Merges of small extents: random histories of files that are written, cut, cloned and merged, also too
//! late, beside a model that is a list of bytes for each file. The same content after every entry, inodes and
//! events untouched by a merge, live bytes as a full scan counts them, and the same rows on both stores.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "namespace_model/driver.rs"]
mod driver;
#[path = "namespace_model/invariants.rs"]
mod invariants;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use cairn_meta::keys::chunks::{ChunkOwner, ChunkRecord};
use cairn_meta::keys::contents::{self, ContentRow};
use cairn_meta::keys::intents::{MergePiece, MergeRun, Work};
use cairn_meta::keys::{self, queues};
use cairn_meta::namespace::command::{ExtentRun, PersistedChunk};
use cairn_meta::namespace::{Bounds, Command, MERGE_EXTENTS_MAX, Operation, Target, jobs, read};
use cairn_meta::store::{KeyRange, Rows, Table};
use cairn_types::{ChunkId, Extent, ExtentSource, FsError, InodeId, IntentId, PackId};
use driver::{Driver, FIRST, SECOND, every_row, extent, replayed_in_rocks};
use proptest::prelude::*;
use proptest::strategy::ValueTree;

const FILES: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    /// Bytes at an offset, in a chunk of their own.
    Write(usize, u64, u64),
    /// A tail that is sealed at once.
    Append(usize, u64),
    /// A tail that stays open, or is sealed at last.
    Tail(usize, u64),
    Cut(usize, u64),
    Punch(usize, u64, u64),
    Copy(usize, u64, usize, u64, u64),
    Clone(usize, usize),
    Unlink(usize),
    /// What is sealed comes to S3.
    Persist,
    /// A merge of extents: from the nth on, so many.
    Merge(Vec<(usize, usize, usize)>),
    Finish(usize),
    Fail(usize),
    Cancel(usize),
    /// What is dead goes.
    Collect,
}

fn step() -> impl Strategy<Value = Step> {
    let file = || 0..FILES;
    let run = (0..FILES, 0usize..6, 1usize..12);
    prop_oneof![
        8 => (file(), 0u64..50, 1u64..6).prop_map(|(f, at, n)| Step::Write(f, at, n)),
        12 => (file(), 1u64..5).prop_map(|(f, n)| Step::Append(f, n)),
        2 => (file(), 0u64..5).prop_map(|(f, n)| Step::Tail(f, n)),
        3 => (file(), 0u64..60).prop_map(|(f, size)| Step::Cut(f, size)),
        2 => (file(), 0u64..50, 1u64..9).prop_map(|(f, at, n)| Step::Punch(f, at, n)),
        2 => (file(), 0u64..40, file(), 0u64..50, 1u64..20).prop_map(|(a, x, b, y, n)| Step::Copy(a, x, b, y, n)),
        2 => (file(), file()).prop_map(|(a, b)| Step::Clone(a, b)),
        1 => file().prop_map(Step::Unlink),
        5 => Just(Step::Persist),
        8 => prop::collection::vec(run, 1..4).prop_map(Step::Merge),
        9 => (0usize..3).prop_map(Step::Finish),
        1 => (0usize..3).prop_map(Step::Fail),
        2 => (0usize..3).prop_map(Step::Cancel),
        2 => Just(Step::Collect),
    ]
}

/// How often the steps that matter came to something.
#[derive(Debug, Default)]
struct Met {
    made: usize,
    refused: usize,
    merged: usize,
    late: usize,
    cancelled: usize,
    parted: usize,
    shared: usize,
}

/// A state and what its files must read as.
struct World {
    d: Driver,
    /// Each file's bytes; a byte is a number that was never given before, `None` reads as zero.
    files: BTreeMap<usize, Vec<Option<u64>>>,
    /// Open tails.
    tails: BTreeMap<usize, ChunkId>,
    /// What was ever written into each chunk.
    chunks: BTreeMap<u64, Vec<u64>>,
    next: u64,
    met: Met,
}

fn path(file: usize) -> String {
    format!("/{file}")
}

fn target(file: usize) -> Target {
    Target::path(path(file))
}

impl World {
    fn new() -> Self {
        let mut d = Driver::new();
        d.bounds = Bounds { rows_at_once: 1, ..Bounds::default() };
        let (files, tails, chunks) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { d, files, tails, chunks, next: 1, met: Met::default() }
    }

    /// New bytes in a chunk.
    fn fill(&mut self, chunk: ChunkId, length: u64) -> Vec<Option<u64>> {
        let bytes: Vec<u64> = (self.next..self.next + length).collect();
        self.next += length;
        self.chunks.insert(chunk.0, bytes.clone());
        bytes.into_iter().map(Some).collect()
    }

    fn put(&mut self, file: usize, at: u64, bytes: &[Option<u64>]) {
        let content = self.files.get_mut(&file).unwrap();
        let (start, end) = (at as usize, at as usize + bytes.len());
        content.resize(content.len().max(end), None);
        content[start..end].copy_from_slice(bytes);
    }

    fn ino(&self, file: usize) -> InodeId {
        self.d.stat(&path(file)).unwrap().ino
    }

    fn make(&mut self, file: usize) -> InodeId {
        if let Entry::Vacant(vacant) = self.files.entry(file) {
            vacant.insert(Vec::new());
            return self.d.file(&path(file));
        }
        self.ino(file)
    }

    /// True for a file that is there and has no open tail.
    fn is_settled(&self, file: usize) -> bool {
        self.files.contains_key(&file) && !self.tails.contains_key(&file)
    }

    fn write(&mut self, file: usize, at: u64, length: u64) {
        let ino = self.make(file);
        if !self.is_settled(file) {
            return;
        }
        let chunk = self.d.shared_chunk();
        let extents = vec![extent(at, length, chunk, 0)];
        self.d.done(Operation::Commit { ino, extents, expected_length: None });
        self.d.close(chunk, length, Vec::new());
        self.d.done(Operation::ReleaseChunk { chunk });
        let bytes = self.fill(chunk, length);
        self.put(file, at, &bytes);
    }

    fn tail(&mut self, file: usize, length: u64, ends: bool) {
        let ino = self.make(file);
        let chunk = match self.tails.remove(&file) {
            Some(chunk) => chunk,
            None => self.d.open_tail(ino, 0, 1).unwrap().chunk.unwrap().chunk,
        };
        if !ends {
            self.tails.insert(file, chunk);
            return;
        }
        let base = self.files[&file].len() as u64;
        self.d.close(chunk, length, Vec::new());
        let bytes = self.fill(chunk, length);
        self.put(file, base, &bytes);
    }

    fn change(&mut self, step: &Step) {
        match step {
            Step::Write(file, at, length) => self.write(*file, *at, *length),
            Step::Append(file, length) => self.tail(*file, *length, true),
            Step::Tail(file, length) => self.tail(*file, *length, self.tails.contains_key(file)),
            Step::Cut(file, size) if self.is_settled(*file) => {
                self.d.done(Operation::SetAttr {
                    target: target(*file),
                    mode: None,
                    uid: None,
                    gid: None,
                    size: Some(*size),
                    mtime: None,
                    atime: None,
                    expected_version: None,
                });
                self.files.get_mut(file).unwrap().resize(*size as usize, None);
            }
            Step::Punch(file, offset, length) if self.is_settled(*file) => {
                let (target, offset, length) = (target(*file), *offset, *length);
                self.d.done(Operation::PunchHole { target, offset, length, keep_size: true });
                let content = self.files.get_mut(file).unwrap();
                let end = content.len().min((offset + length) as usize);
                content.iter_mut().take(end).skip(offset as usize).for_each(|byte| *byte = None);
            }
            Step::Copy(a, x, b, y, length) if a != b && self.is_settled(*a) && self.is_settled(*b) => {
                let (from_offset, to_offset) = (*x, *y);
                let end = self.files[a].len().min((x + length) as usize);
                let Some(bytes) = self.files[a].get(*x as usize..end).map(<[_]>::to_vec) else { return };
                if bytes.is_empty() {
                    return;
                }
                let (from, to, length) = (target(*a), target(*b), Some(bytes.len() as u64));
                self.d.done(Operation::CopyRange { from, from_offset, to, to_offset, length });
                self.put(*b, *y, &bytes);
            }
            Step::Clone(a, b) if self.is_settled(*a) && !self.files.contains_key(b) => {
                let (from, to) = (target(*a), target(*b));
                let (uid, gid, replace, recursive) = (0, 0, false, false);
                self.d.done(Operation::Clone { from, to, uid, gid, replace, recursive });
                self.files.insert(*b, self.files[a].clone());
            }
            Step::Unlink(file) if self.is_settled(*file) => {
                self.d.unlink(&path(*file));
                self.files.remove(file);
            }
            _ => {}
        }
    }

    /// All of a file's extents.
    fn extents(&self, ino: InodeId) -> Vec<Extent> {
        let range = read::extents(&self.d.store, &Target::ino(ino), 0, u64::MAX >> 1).unwrap();
        assert!(!range.more);
        range.extents
    }

    fn compare(&self) {
        self.d.check();
        for (file, bytes) in &self.files {
            let inode = self.d.stat(&path(*file)).unwrap();
            assert_eq!(inode.size, bytes.len() as u64, "length of {file}");
            let mut found = vec![None; bytes.len()];
            for extent in self.extents(inode.ino) {
                let ExtentSource::Chunk { chunk, offset } = extent.source else { panic!("{extent:?}") };
                for n in 0..extent.length {
                    let byte = self.chunks[&chunk.0][(offset + n) as usize];
                    let place = &mut found[(extent.file_offset + n) as usize];
                    assert_eq!(place.replace(byte), None, "{extent:?} overlaps another");
                }
            }
            assert_eq!(&found, bytes, "content of {file}");
        }
    }

    /// Uploads what waits, in one pack.
    fn persist(&mut self) {
        let waiting = jobs::queue(&self.d.store, queues::Queue::Unpersisted, None, 500).unwrap();
        let chunks: Vec<ChunkId> = waiting.iter().map(|w| ChunkId(w.id)).collect();
        let chunks: Vec<ChunkId> =
            chunks.into_iter().filter(|chunk| self.d.chunk(*chunk).sealed_length() > Some(0)).collect();
        if chunks.is_empty() {
            return;
        }
        let intent =
            self.d.ok(Command::CreateUpload { assignee: FIRST, chunks: chunks.clone() }).intent.unwrap();
        let mut offset = 0;
        let place = |chunk: &ChunkId| {
            let length = self.d.chunk(*chunk).sealed_length().unwrap();
            offset += length;
            PersistedChunk { chunk: *chunk, offset: offset - length, length, crc32c: 7 }
        };
        let places = chunks.iter().map(place).collect();
        self.d.ok(Command::Persisted { intent, etag: "e".into(), places, bytes: offset });
    }

    /// What a merge of these extents of a file would have to be; `None` when there is none such.
    fn wanted(&self, ino: InodeId, extents: &[Extent]) -> Option<Vec<MergePiece>> {
        let piece = |extent: &Extent| match extent.source {
            ExtentSource::Chunk { chunk, offset } => MergePiece { chunk, offset, length: extent.length },
            ExtentSource::Object { .. } => panic!("{extent:?}"),
        };
        let stored = |extent: &Extent| self.d.chunk(piece(extent).chunk).place.is_some();
        let (first, last) = (extents.first()?, extents.last()?);
        let follow_on = extents.windows(2).all(|two| two[0].end() == two[1].file_offset);
        // Of a file that was cut, all under one content.
        let row: Option<ContentRow> = keys::get(&self.d.store, &contents::key(ino)).unwrap();
        let parted = row.is_some_and(|row| {
            row.parts.iter().any(|part| (first.file_offset + 1..last.end()).contains(&part.from))
        });
        let may = extents.len() > 1 && follow_on && !parted && extents.iter().all(stored);
        may.then(|| extents.iter().map(piece).collect())
    }

    fn merge(&mut self, chosen: &[(usize, usize, usize)]) {
        let (mut runs, mut expected) = (Vec::new(), Vec::new());
        for (file, start, count) in chosen {
            if !self.files.contains_key(file) {
                continue;
            }
            let ino = self.ino(*file);
            let extents = self.extents(ino);
            let some: Vec<Extent> = extents.into_iter().skip(*start).take(*count).collect();
            let Some((first, last)) = some.first().zip(some.last()) else { continue };
            let (offset, length) = (first.file_offset, last.end() - first.file_offset);
            if some.len() < 2 {
                continue;
            }
            runs.push(ExtentRun { ino, offset, length, extents: some.len() as u32 });
            let wanted = self.wanted(ino, &some);
            self.met.refused += usize::from(wanted.is_none());
            expected.extend(wanted.map(|pieces| (ino, offset, pieces)));
        }
        let next = read::cluster(&self.d.store).unwrap().next.chunk;
        let answer = self.d.propose(Command::CreateMerge { assignee: FIRST, runs });
        if expected.is_empty() {
            assert_eq!(answer, Err(FsError::InvalidRequest));
            return;
        }
        let record = read::intent(&self.d.store, answer.unwrap().intent.unwrap()).unwrap().unwrap();
        let Work::Merge { runs, .. } = record.work else { panic!("{record:?}") };
        let found: Vec<_> = runs.iter().map(|r| (r.ino, r.base, r.pieces.clone())).collect();
        assert_eq!(found, expected);
        assert!(runs.iter().map(|r| r.chunk.0).eq(next.0..next.0 + runs.len() as u64));
        self.met.made += 1;
    }

    /// True while a run's extents are what they were, in a file that is there.
    fn stands(&self, run: &MergeRun) -> bool {
        let files: Vec<InodeId> = self.files.keys().map(|file| self.ino(*file)).collect();
        if !files.contains(&run.ino) {
            return false;
        }
        let end = run.base + run.length();
        let within: Vec<Extent> =
            self.extents(run.ino).into_iter().filter(|e| e.file_offset < end && e.end() > run.base).collect();
        let whole = within.first().is_some_and(|e| e.file_offset == run.base)
            && within.last().is_some_and(|e| e.end() == end);
        whole && self.wanted(run.ino, &within).as_ref() == Some(&run.pieces)
    }

    fn nth_merge(&self, n: usize) -> Option<(IntentId, Vec<MergeRun>)> {
        let intents = jobs::intents(&self.d.store, None, 1000).unwrap();
        let mut merges = intents.into_iter().filter_map(|record| match record.work {
            Work::Merge { runs, .. } => Some((record.intent, runs)),
            _ => None,
        });
        merges.nth(n)
    }

    fn events(&self) -> usize {
        self.d.store.scan(Table::Events, &KeyRange::default(), usize::MAX).unwrap().len()
    }

    fn finish(&mut self, n: usize) {
        let Some((intent, runs)) = self.nth_merge(n) else { return };
        let (mut places, mut offset) = (Vec::new(), 48);
        for run in &runs {
            // What the data node reads: a chunk's bytes never change.
            let of = |piece: &MergePiece| {
                let (from, to) = (piece.offset as usize, (piece.offset + piece.length) as usize);
                self.chunks[&piece.chunk.0][from..to].to_vec()
            };
            let bytes: Vec<u64> = run.pieces.iter().flat_map(of).collect();
            self.chunks.insert(run.chunk.0, bytes);
            let (chunk, length) = (run.chunk, run.length());
            places.push(PersistedChunk { chunk, offset, length, crc32c: 9 });
            offset += length;
        }
        let mut stand: Vec<bool> = runs.iter().map(|run| self.stands(run)).collect();
        // Of two that overlap the first is taken, and the other one comes too late.
        for n in 0..runs.len() {
            let (from, to) = (runs[n].base, runs[n].base + runs[n].length());
            let meets = |m: usize| {
                runs[m].ino == runs[n].ino && runs[m].base < to && runs[m].base + runs[m].length() > from
            };
            stand[n] = stand[n] && !(0..n).any(|m| stand[m] && meets(m));
        }
        let inodes = |world: &Self| -> Vec<_> {
            world.files.keys().map(|file| world.d.stat(&path(*file)).unwrap()).collect()
        };
        let (before, events, lag) = (inodes(self), self.events(), self.lag());
        let told = Command::Merged { intent, etag: "e".into(), places, bytes: offset };
        self.d.ok(told.clone());
        assert_eq!(inodes(self), before, "nobody can tell by an inode");
        assert_eq!(self.events(), events, "nobody is told");
        assert!(self.lag() <= lag, "what is merged is in S3");
        for (run, stood) in runs.iter().zip(stand) {
            let record = read::chunk(&self.d.store, run.chunk).unwrap();
            assert_eq!(record.is_some(), stood, "{run:?}");
            if let Some(record) = record {
                assert_eq!(record.live_bytes, run.length());
                assert_eq!(record.owner, ChunkOwner::Tail { ino: run.ino, base: run.base });
                assert!(record.replicas.is_empty() && record.place.is_some());
            }
            self.met.merged += usize::from(stood);
            self.met.late += usize::from(!stood);
            let row: Option<ContentRow> = keys::get(&self.d.store, &contents::key(run.ino)).unwrap();
            self.met.parted += usize::from(stood && row.is_some());
            let shared = |piece: &MergePiece| {
                let record = read::chunk(&self.d.store, piece.chunk).unwrap();
                record.is_some_and(|record| record.live_bytes > 0)
            };
            self.met.shared += usize::from(stood && run.pieces.iter().any(shared));
        }
        assert_eq!(self.d.propose(told), Err(FsError::NotFound), "told twice");
    }

    fn lag(&self) -> u64 {
        read::cluster(&self.d.store).unwrap().counts.unpersisted_bytes
    }

    fn give_up(&mut self, n: usize) {
        let Some((intent, _)) = self.nth_merge(n) else { return };
        self.d.ok(Command::FailIntent { intent, permanent: true, message: "m".into() });
    }

    fn cancel(&mut self, n: usize) {
        let Some((intent, runs)) = self.nth_merge(n) else { return };
        let answer = self.d.propose(Command::CancelUpload { intent }).map(drop);
        if runs.iter().all(|run| self.stands(run)) {
            assert_eq!(answer, Err(FsError::InvalidRequest));
            return;
        }
        assert_eq!(answer, Ok(()));
        self.met.cancelled += 1;
    }

    /// As the leader and the data nodes do, in the end.
    fn collect(&mut self) {
        while let Some(ino) = jobs::orphans(&self.d.store, None, 1).unwrap().pop() {
            self.d.ok(Command::Purge { ino });
        }
        while let Some(content) = jobs::detached(&self.d.store, None, 1).unwrap().pop() {
            self.d.ok(Command::PurgeContent { content });
        }
        for dead in jobs::queue(&self.d.store, queues::Queue::Garbage, None, 1000).unwrap() {
            for node in [FIRST, SECOND] {
                self.d.ok(Command::DropReplica { chunk: ChunkId(dead.id), node });
            }
        }
        for dead in jobs::queue(&self.d.store, queues::Queue::DeadPacks, None, 1000).unwrap() {
            let command = Command::CreatePackDeletion { pack: PackId(dead.id), assignee: FIRST };
            let intent = self.d.ok(command).intent.unwrap();
            self.d.ok(Command::PackDeleted { intent });
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Persist => self.persist(),
            Step::Merge(chosen) => self.merge(chosen),
            Step::Finish(n) => self.finish(*n),
            Step::Fail(n) => self.give_up(*n),
            Step::Cancel(n) => self.cancel(*n),
            Step::Collect => self.collect(),
            step => self.change(step),
        }
        self.compare();
    }
}

fn play(steps: &[Step]) -> World {
    let mut world = World::new();
    steps.iter().for_each(|step| world.take(step));
    world
}

fn history() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, max_shrink_iters: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn files_read_the_same_whatever_is_merged_and_however_late(steps in history()) {
        play(&steps);
    }
}

#[test]
fn rocksdb_holds_the_same_rows_and_the_steps_come_to_something() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut all = Met::default();
    for round in 0..200 {
        let steps = prop::collection::vec(step(), 120).new_tree(&mut runner).unwrap().current();
        let World { d, met, .. } = play(&steps);
        if round % 40 == 0 {
            assert_eq!(every_row(&d.store), replayed_in_rocks(&d.log));
        }
        all.made += met.made;
        all.refused += met.refused;
        all.merged += met.merged;
        all.late += met.late;
        all.cancelled += met.cancelled;
        all.parted += met.parted;
        all.shared += met.shared;
    }
    let enough = all.made > 100 && all.refused > 100 && all.merged > 100 && all.late > 50;
    assert!(enough && all.cancelled > 5 && all.parted > 5 && all.shared > 15, "{all:?}");
}

/// A file of appends of 4 bytes each, all in S3.
fn log(world: &mut World, appends: usize) -> InodeId {
    (0..appends).for_each(|_| world.take(&Step::Append(0, 4)));
    world.take(&Step::Persist);
    world.ino(0)
}

fn of(ino: InodeId, appends: u32) -> ExtentRun {
    ExtentRun { ino, offset: 0, length: u64::from(appends) * 4, extents: appends }
}

#[test]
fn a_run_becomes_one_extent_and_what_it_was_is_dead_with_its_pack() {
    let mut world = World::new();
    let ino = log(&mut world, 20);
    let old: Vec<ChunkRecord> = (0..20).map(|n| world.d.chunk(chunk_at(&world, ino, n))).collect();
    world.d.ok(Command::CreateMerge { assignee: FIRST, runs: vec![of(ino, 20)] });
    world.take(&Step::Finish(0));
    let extents = world.extents(ino);
    assert_eq!(extents.len(), 1);
    assert_eq!((extents[0].file_offset, extents[0].length), (0, 80));
    for before in &old {
        assert!(world.d.chunk(before.chunk).is_dead());
    }
    let pack = jobs::pack(&world.d.store, old[0].place.unwrap().pack).unwrap().unwrap();
    assert_eq!((pack.live_chunks, pack.live_bytes), (0, 0));
    // It grows on behind it, and what was merged is merged again.
    (0..5).for_each(|_| world.take(&Step::Append(0, 4)));
    world.take(&Step::Persist);
    let run = ExtentRun { ino, offset: 0, length: 100, extents: 6 };
    world.d.ok(Command::CreateMerge { assignee: SECOND, runs: vec![run] });
    world.take(&Step::Finish(0));
    assert_eq!(world.extents(ino).len(), 1);
    world.take(&Step::Collect);
    let left = jobs::packs_after(&world.d.store, PackId(0), 100).unwrap();
    assert_eq!(left.len(), 1, "the live set is one pack: {left:?}");
    assert_eq!(left[0].live_bytes, 100);
}

fn chunk_at(world: &World, ino: InodeId, n: usize) -> ChunkId {
    match world.extents(ino)[n].source {
        ExtentSource::Chunk { chunk, .. } => chunk,
        ExtentSource::Object { .. } => panic!(),
    }
}

#[test]
fn a_clone_keeps_the_bytes_that_its_origin_has_no_more() {
    let mut world = World::new();
    let ino = log(&mut world, 16);
    world.take(&Step::Clone(0, 1));
    world.d.ok(Command::CreateMerge { assignee: FIRST, runs: vec![of(ino, 16)] });
    world.take(&Step::Finish(0));
    assert_eq!((world.extents(ino).len(), world.extents(world.ino(1)).len()), (1, 16));
    world.take(&Step::Collect);
    world.take(&Step::Unlink(0));
    world.take(&Step::Collect);
    assert_eq!(world.extents(world.ino(1)).len(), 16);
}

#[test]
fn what_changed_meanwhile_stays_as_it_is_and_the_new_pack_is_dead() {
    for change in [
        Step::Write(0, 30, 2),
        Step::Write(0, 30, 4),
        Step::Cut(0, 63),
        Step::Cut(0, 0),
        Step::Punch(0, 8, 1),
        Step::Unlink(0),
        Step::Copy(1, 0, 0, 20, 8),
    ] {
        let mut world = World::new();
        let ino = log(&mut world, 16);
        world.take(&Step::Write(1, 0, 20));
        world.d.ok(Command::CreateMerge { assignee: FIRST, runs: vec![of(ino, 16)] });
        world.take(&change);
        world.take(&Step::Finish(0));
        assert_eq!((world.met.merged, world.met.late), (0, 1), "{change:?}");
        let dead = jobs::queue(&world.d.store, queues::Queue::DeadPacks, None, 10).unwrap();
        assert!(!dead.is_empty(), "{change:?}: the pack that came too late");
    }
    // An append and an open tail are behind it, and a clone, a rename or new attributes change no extent.
    let mut world = World::new();
    let ino = log(&mut world, 16);
    world.d.ok(Command::CreateMerge { assignee: FIRST, runs: vec![of(ino, 16)] });
    for step in [Step::Append(0, 3), Step::Clone(0, 2), Step::Tail(0, 0)] {
        world.take(&step);
    }
    world.take(&Step::Finish(0));
    assert_eq!((world.met.merged, world.met.late), (1, 0));
}

#[test]
fn what_is_no_run_is_refused() {
    let mut world = World::new();
    let ino = log(&mut world, 16);
    let run = of(ino, 16);
    let refused = |world: &mut World, runs: Vec<ExtentRun>| {
        let shown = format!("{runs:?}");
        let answer = world.d.propose(Command::CreateMerge { assignee: FIRST, runs });
        assert_eq!(answer, Err(FsError::InvalidRequest), "{shown}");
        world.compare();
    };
    let wrong = [
        ExtentRun { extents: 15, ..run },
        ExtentRun { extents: 17, ..run },
        ExtentRun { extents: 1, length: 4, ..run },
        ExtentRun { length: 63, ..run },
        ExtentRun { length: u64::MAX, ..run },
        ExtentRun { offset: 2, ..run },
        ExtentRun { offset: u64::MAX, ..run },
        ExtentRun { ino: InodeId(99), ..run },
        ExtentRun { ino: InodeId::ROOT, ..run },
        ExtentRun { extents: MERGE_EXTENTS_MAX as u32 + 1, ..run },
    ];
    wrong.into_iter().for_each(|run| refused(&mut world, vec![run]));
    refused(&mut world, Vec::new());
    // What is not in S3 waits.
    world.take(&Step::Append(0, 4));
    refused(&mut world, vec![of(ino, 17)]);
    // And a report that tells of something else.
    let intent = world.d.ok(Command::CreateMerge { assignee: FIRST, runs: vec![run] }).intent.unwrap();
    let (_, runs) = world.nth_merge(0).unwrap();
    let place = PersistedChunk { chunk: runs[0].chunk, offset: 48, length: 64, crc32c: 9 };
    let report =
        |place: PersistedChunk| Command::Merged { intent, etag: "e".into(), places: vec![place], bytes: 112 };
    for wrong in [
        report(PersistedChunk { length: 63, ..place }),
        report(PersistedChunk { offset: 49, ..place }),
        report(PersistedChunk { chunk: ChunkId(1), ..place }),
        Command::Merged { intent, etag: "e".into(), places: Vec::new(), bytes: 112 },
        Command::Persisted { intent, etag: "e".into(), places: vec![place], bytes: 112 },
        Command::Compacted { intent, etag: "e".into(), places: vec![place], bytes: 112 },
        Command::PackDeleted { intent },
    ] {
        assert_eq!(world.d.propose(wrong.clone()), Err(FsError::InvalidRequest), "{wrong:?}");
    }
    world.take(&Step::Finish(0));
    assert_eq!(world.met.merged, 1);
}
