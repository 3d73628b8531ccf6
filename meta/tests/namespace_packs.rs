//! Packs: uploads that are given up, compactions, tombstones for what nothing names. Random histories
//! beside a model that is written from what the commands promise: the same replies, chunks in the same
//! packs, the same intents; and the state's rows fit each other after every entry.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "namespace_model/driver.rs"]
mod driver;
#[path = "namespace_model/invariants.rs"]
mod invariants;

use std::collections::{BTreeMap, BTreeSet};

use cairn_meta::keys::intents::{IntentRecord, Work};
use cairn_meta::namespace::command::{PersistedChunk, StrayPack};
use cairn_meta::namespace::{Command, Operation, Target, jobs, read};
use cairn_types::{ChunkId, FsError, IntentId, PackId};
use driver::{Driver, FIRST, SECOND, every_row, extent, replayed_in_rocks};
use proptest::prelude::*;

const LENGTH: u64 = 10;

#[derive(Clone, Debug)]
enum Step {
    /// A file in a chunk of its own.
    File,
    /// A clone of a file, in the same chunk.
    Clone(usize),
    Unlink(usize),
    Upload(Vec<usize>),
    Compact(Vec<usize>),
    /// The work of an intent is done, and told twice.
    Finish(usize),
    Fail(usize),
    Cancel(usize),
    Condemn(Vec<u64>),
    DeletePack(u64),
    /// Both replicas of a chunk are deleted.
    Drop(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let some = || proptest::collection::vec(0usize..12, 1..4);
    prop_oneof![
        9 => Just(Step::File),
        1 => (0usize..12).prop_map(Step::Clone),
        4 => (0usize..12).prop_map(Step::Unlink),
        3 => some().prop_map(Step::Upload),
        3 => some().prop_map(Step::Compact),
        8 => (0usize..4).prop_map(Step::Finish),
        1 => (0usize..4).prop_map(Step::Fail),
        4 => (0usize..4).prop_map(Step::Cancel),
        4 => proptest::collection::vec(0u64..12, 1..4).prop_map(Step::Condemn),
        4 => (0u64..10).prop_map(Step::DeletePack),
        3 => (0usize..12).prop_map(Step::Drop),
    ]
}

#[derive(Clone, Debug, Default)]
struct Chunk {
    /// Files that are in it.
    files: u64,
    upload: Option<u64>,
    /// Its pack, and where in it.
    place: Option<(u64, u64)>,
}

impl Chunk {
    fn alive(&self) -> bool {
        self.files > 0
    }

    fn is_in(&self, pack: u64) -> bool {
        self.place.is_some_and(|(of, _)| of == pack)
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Job {
    Upload { pack: u64, chunks: Vec<u64> },
    Compact { pack: u64, chunks: Vec<(u64, (u64, u64))> },
    Delete { pack: u64 },
}

/// What the commands promise.
#[derive(Debug, Default)]
struct Model {
    chunks: BTreeMap<u64, Chunk>,
    /// Each with the intent that deletes it.
    packs: BTreeMap<u64, Option<u64>>,
    intents: BTreeMap<u64, Job>,
    next_pack: u64,
    next_intent: u64,
}

impl Model {
    fn new_intent(&mut self, job: Job) -> u64 {
        let id = self.next_intent;
        self.next_intent += 1;
        self.intents.insert(id, job);
        id
    }

    fn new_pack(&mut self) -> u64 {
        self.next_pack += 1;
        self.next_pack - 1
    }

    fn upload(&mut self, chunks: &[u64]) -> Result<(), FsError> {
        let mut seen = BTreeSet::new();
        for id in chunks {
            let Some(chunk) = self.chunks.get(id) else {
                return Err(FsError::ChunkGone { chunk: ChunkId(*id) });
            };
            if !chunk.alive() || chunk.upload.is_some() || chunk.place.is_some() || !seen.insert(*id) {
                return Err(FsError::ChunkState { chunk: ChunkId(*id) });
            }
        }
        let pack = self.new_pack();
        let id = self.new_intent(Job::Upload { pack, chunks: chunks.to_vec() });
        for chunk in chunks {
            self.chunks.get_mut(chunk).unwrap().upload = Some(id);
        }
        Ok(())
    }

    fn compact(&mut self, chunks: &[u64]) -> Result<(), FsError> {
        let mut found: Vec<(u64, (u64, u64))> = Vec::new();
        for id in chunks {
            let Some(chunk) = self.chunks.get(id) else {
                return Err(FsError::ChunkGone { chunk: ChunkId(*id) });
            };
            let Some(place) = chunk.place.filter(|_| chunk.alive()) else {
                return Err(FsError::ChunkState { chunk: ChunkId(*id) });
            };
            if found.iter().any(|(known, _)| known == id) {
                return Err(FsError::InvalidRequest);
            }
            found.push((*id, place));
        }
        let pack = self.new_pack();
        self.new_intent(Job::Compact { pack, chunks: found });
        Ok(())
    }

    fn finish(&mut self, id: u64) -> Result<(), FsError> {
        match self.intents.remove(&id).ok_or(FsError::NotFound)? {
            Job::Upload { pack, chunks } => {
                self.packs.insert(pack, None);
                for (n, chunk) in chunks.iter().enumerate() {
                    if let Some(chunk) = self.chunks.get_mut(chunk) {
                        (chunk.upload, chunk.place) = (None, Some((pack, n as u64 * LENGTH)));
                    }
                }
            }
            Job::Compact { pack, chunks } => {
                self.packs.insert(pack, None);
                for (n, (chunk, from)) in chunks.iter().enumerate() {
                    let known = self.chunks.get_mut(chunk);
                    if let Some(chunk) = known.filter(|c| c.alive() && c.place == Some(*from)) {
                        chunk.place = Some((pack, n as u64 * LENGTH));
                    }
                }
            }
            Job::Delete { pack } => drop(self.packs.remove(&pack)),
        }
        Ok(())
    }

    fn release(&mut self, id: u64) {
        self.chunks.values_mut().filter(|c| c.upload == Some(id)).for_each(|c| c.upload = None);
    }

    fn fail(&mut self, id: u64) -> Result<(), FsError> {
        match self.intents.remove(&id).ok_or(FsError::NotFound)? {
            Job::Upload { pack, .. } | Job::Compact { pack, .. } => {
                self.release(id);
                self.new_intent(Job::Delete { pack });
            }
            Job::Delete { pack } => {
                if let Some(deletion) = self.packs.get_mut(&pack) {
                    *deletion = None;
                }
            }
        }
        Ok(())
    }

    fn cancel(&mut self, id: u64) -> Result<(), FsError> {
        let alive = |chunk: &u64| self.chunks.get(chunk).is_some_and(Chunk::alive);
        let wanted = match self.intents.get(&id).ok_or(FsError::NotFound)? {
            Job::Upload { chunks, .. } => chunks.iter().all(alive),
            Job::Compact { chunks, .. } => {
                chunks.iter().all(|(chunk, from)| alive(chunk) && self.chunks[chunk].place == Some(*from))
            }
            Job::Delete { .. } => true,
        };
        if wanted {
            return Err(FsError::InvalidRequest);
        }
        self.intents.remove(&id);
        self.release(id);
        Ok(())
    }

    fn alive_in(&self, pack: u64) -> usize {
        self.chunks.values().filter(|c| c.alive() && c.is_in(pack)).count()
    }

    fn delete_pack(&mut self, pack: u64) -> Result<(), FsError> {
        let deletion = *self.packs.get(&pack).ok_or(FsError::NotFound)?;
        if deletion.is_some() || self.alive_in(pack) > 0 {
            return Err(FsError::InvalidRequest);
        }
        let id = self.new_intent(Job::Delete { pack });
        self.packs.insert(pack, Some(id));
        Ok(())
    }
}

/// A state and its model.
struct Pair {
    d: Driver,
    model: Model,
    /// Each file's chunks; `None` when it is gone.
    files: Vec<Option<Vec<u64>>>,
    named: u64,
}

impl Pair {
    fn new() -> Self {
        let d = Driver::new();
        let next = read::cluster(&d.store).unwrap().next;
        let model = Model { next_pack: next.pack.0, next_intent: next.intent.0, ..Model::default() };
        Self { d, model, files: Vec::new(), named: 0 }
    }

    fn nth_chunk(&self, n: usize) -> u64 {
        // Beyond the last there is one that never was.
        self.model.chunks.keys().nth(n).copied().unwrap_or(1 << 30)
    }

    fn nth_intent(&self, n: usize) -> u64 {
        self.model.intents.keys().nth(n).copied().unwrap_or(1 << 30)
    }

    fn file(&mut self) {
        let chunk = self.d.shared_chunk();
        self.d.create(&format!("/{}", self.named), vec![extent(0, LENGTH, chunk, 0)]).unwrap();
        self.d.close(chunk, LENGTH, Vec::new());
        self.d.done(Operation::ReleaseChunk { chunk });
        self.model.chunks.insert(chunk.0, Chunk { files: 1, ..Chunk::default() });
        self.files.push(Some(vec![chunk.0]));
        self.named += 1;
    }

    fn clone_file(&mut self, n: usize) {
        let Some(Some(chunks)) = self.files.get(n).cloned() else { return };
        let target = |n: u64| Target::path(format!("/{n}"));
        self.d.done(Operation::Clone {
            from: target(n as u64),
            to: target(self.named),
            uid: 0,
            gid: 0,
            replace: false,
            recursive: false,
        });
        for chunk in &chunks {
            self.model.chunks.get_mut(chunk).unwrap().files += 1;
        }
        self.files.push(Some(chunks));
        self.named += 1;
    }

    fn unlink(&mut self, n: usize) {
        let Some(chunks) = self.files.get_mut(n).and_then(Option::take) else { return };
        self.d.unlink(&format!("/{n}"));
        for chunk in chunks {
            self.model.chunks.get_mut(&chunk).unwrap().files -= 1;
        }
    }

    /// The report of an intent's work, as the data node would make it.
    fn report(&self, id: u64) -> Command {
        let intent = IntentId(id);
        let place = |n: usize, chunk: ChunkId| PersistedChunk {
            chunk,
            offset: n as u64 * LENGTH,
            length: LENGTH,
            crc32c: 7,
        };
        let bytes = 1000;
        match read::intent(&self.d.store, intent).unwrap().map(|record| record.work) {
            Some(Work::Upload { chunks, .. }) => {
                let places = chunks.iter().enumerate().map(|(n, c)| place(n, c.chunk)).collect();
                Command::Persisted { intent, etag: "e".into(), places, bytes }
            }
            Some(Work::Compact { chunks, .. }) => {
                let places = chunks.iter().enumerate().map(|(n, c)| place(n, c.chunk)).collect();
                Command::Compacted { intent, etag: "e".into(), places, bytes }
            }
            _ => Command::PackDeleted { intent },
        }
    }

    fn take(&mut self, step: &Step) {
        let (expected, command) = match step {
            Step::File => return self.file(),
            Step::Clone(n) => return self.clone_file(*n),
            Step::Unlink(n) => return self.unlink(*n),
            Step::Drop(n) => return self.drop_replicas(*n),
            Step::Upload(some) => {
                let chunks: Vec<u64> = some.iter().map(|n| self.nth_chunk(*n)).collect();
                let command = Command::CreateUpload {
                    assignee: FIRST,
                    chunks: chunks.iter().copied().map(ChunkId).collect(),
                };
                (self.model.upload(&chunks), command)
            }
            Step::Compact(some) => {
                let chunks: Vec<u64> = some.iter().map(|n| self.nth_chunk(*n)).collect();
                let ids = chunks.iter().copied().map(ChunkId).collect();
                (self.model.compact(&chunks), Command::CreateCompaction { assignee: FIRST, chunks: ids })
            }
            Step::Finish(n) => {
                let id = self.nth_intent(*n);
                let command = self.report(id);
                let expected = self.model.finish(id);
                assert_eq!(self.d.propose(command.clone()).map(drop), expected, "{command:?}");
                (Err(FsError::NotFound), command)
            }
            Step::Fail(n) => {
                let intent = self.nth_intent(*n);
                let command =
                    Command::FailIntent { intent: IntentId(intent), permanent: true, message: "m".into() };
                (self.model.fail(intent), command)
            }
            Step::Cancel(n) => {
                let intent = self.nth_intent(*n);
                (self.model.cancel(intent), Command::CancelUpload { intent: IntentId(intent) })
            }
            Step::Condemn(packs) => return self.condemn(packs),
            Step::DeletePack(pack) => {
                let pack = self.some_pack(*pack);
                let command = Command::CreatePackDeletion { pack: PackId(pack), assignee: SECOND };
                (self.model.delete_pack(pack), command)
            }
        };
        assert_eq!(self.d.propose(command.clone()).map(drop), expected, "{command:?}");
    }

    /// The pack of that number, or another one that is there.
    fn some_pack(&self, n: u64) -> u64 {
        let packs: Vec<u64> = self.model.packs.keys().copied().collect();
        match packs.len() {
            0 => n,
            _ if packs.contains(&n) => n,
            count => packs[n as usize % count],
        }
    }

    /// As the leader does: of packs that no intent names.
    fn condemn(&mut self, packs: &[u64]) {
        let named = |pack: u64| {
            self.model.intents.values().any(|job| match job {
                Job::Upload { pack: of, .. } | Job::Compact { pack: of, .. } | Job::Delete { pack: of } => {
                    *of == pack
                }
            })
        };
        let chosen: Vec<u64> = packs.iter().copied().filter(|pack| *pack > 0 && !named(*pack)).collect();
        let stray = |pack: &u64| StrayPack { pack: PackId(*pack), etag: "s".into(), bytes: 5 };
        self.d.ok(Command::CondemnPacks { packs: chosen.iter().map(stray).collect() });
        for pack in chosen.into_iter().filter(|pack| *pack < self.model.next_pack) {
            self.model.packs.entry(pack).or_insert(None);
        }
    }

    fn drop_replicas(&mut self, n: usize) {
        let id = self.nth_chunk(n);
        let Some(chunk) = self.model.chunks.get(&id) else { return };
        let alive = chunk.alive();
        for node in [FIRST, SECOND] {
            let dropped = self.d.propose(Command::DropReplica { chunk: ChunkId(id), node });
            let expected = if alive { Err(FsError::ChunkState { chunk: ChunkId(id) }) } else { Ok(()) };
            assert_eq!(dropped.map(drop), expected);
        }
        if !alive {
            self.model.chunks.remove(&id);
        }
    }

    fn compare(&self) {
        let rows = &self.d.store;
        self.d.check();
        for (id, chunk) in &self.model.chunks {
            let record = read::chunk(rows, ChunkId(*id)).unwrap().unwrap();
            assert_eq!(record.is_dead(), !chunk.alive(), "{id}");
            assert_eq!(record.upload.map(|i| i.0), chunk.upload, "{id}");
            assert_eq!(record.place.map(|p| (p.pack.0, p.offset)), chunk.place, "{id}");
        }
        let packs = jobs::packs_after(rows, PackId(0), 1000).unwrap();
        let seen: BTreeMap<u64, Option<u64>> =
            packs.iter().map(|p| (p.pack.0, p.deletion.map(|i| i.0))).collect();
        assert_eq!(seen, self.model.packs);
        for pack in &packs {
            let alive = self.model.alive_in(pack.pack.0);
            let inside = self.model.chunks.values().filter(|c| c.is_in(pack.pack.0));
            let bytes: u64 = inside.map(|c| c.files * LENGTH).sum();
            assert_eq!((pack.live_chunks as usize, pack.live_bytes), (alive, bytes));
        }
        let intents = jobs::intents(rows, None, 1000).unwrap();
        let seen: BTreeMap<u64, Job> = intents.iter().map(|i| (i.intent.0, job(i))).collect();
        assert_eq!(seen, self.model.intents);
    }
}

fn job(record: &IntentRecord) -> Job {
    match &record.work {
        Work::Upload { pack, chunks, .. } => {
            Job::Upload { pack: pack.0, chunks: chunks.iter().map(|c| c.chunk.0).collect() }
        }
        Work::Compact { pack, chunks, from, .. } => {
            let sources: BTreeSet<PackId> = from.iter().map(|f| f.pack).collect();
            let named: BTreeSet<PackId> = chunks.iter().map(|c| c.place.pack).collect();
            assert_eq!(sources, named, "every pack that is read from is named, and no other");
            let chunks = chunks.iter().map(|c| (c.chunk.0, (c.place.pack.0, c.place.offset))).collect();
            Job::Compact { pack: pack.0, chunks }
        }
        Work::DeletePack { pack, .. } => Job::Delete { pack: pack.0 },
        Work::Import { .. }
        | Work::Merge { .. }
        | Work::PutObject { .. }
        | Work::DeleteObject { .. }
        | Work::ProbeMount { .. } => panic!("{record:?}"),
    }
}

/// How often the steps that matter came to something.
#[derive(Debug, Default)]
struct Met {
    moved: usize,
    cancelled: usize,
    condemned: usize,
    deleted: usize,
}

fn play(steps: &[Step], met: &mut Met) -> Pair {
    let mut pair = Pair::new();
    for step in steps {
        let (packs, intents) = (pair.model.packs.len(), pair.model.intents.len());
        let compactions =
            |p: &Pair| p.model.intents.values().filter(|j| matches!(j, Job::Compact { .. })).count();
        let before = compactions(&pair);
        pair.take(step);
        pair.compare();
        let gone = pair.model.intents.len() < intents;
        match step {
            Step::Finish(_) if gone && compactions(&pair) < before => met.moved += 1,
            Step::Finish(_) if pair.model.packs.len() < packs => met.deleted += 1,
            Step::Cancel(_) if gone => met.cancelled += 1,
            Step::Condemn(_) if pair.model.packs.len() > packs => met.condemned += 1,
            _ => {}
        }
    }
    pair
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, max_shrink_iters: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn packs_are_what_their_history_makes_them(steps in proptest::collection::vec(step(), 1..90)) {
        play(&steps, &mut Met::default());
    }
}

#[test]
fn rocksdb_holds_the_same_rows_and_the_steps_come_to_something() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut met = Met::default();
    for round in 0..500 {
        let steps = proptest::collection::vec(step(), 90).new_tree(&mut runner).unwrap().current();
        let pair = play(&steps, &mut met);
        if round % 50 == 0 {
            assert_eq!(every_row(&pair.d.store), replayed_in_rocks(&pair.d.log));
        }
    }
    assert!(met.moved > 10 && met.cancelled > 10 && met.condemned > 3 && met.deleted > 10, "{met:?}");
}

#[test]
fn a_chunk_moves_between_packs_only_while_it_is_where_it_was_found() {
    let mut pair = Pair::new();
    let first = pair.model.next_pack;
    for step in [Step::File, Step::File, Step::Upload(vec![0, 1]), Step::Finish(0)] {
        pair.take(&step);
    }
    // Two compactions of the same chunk: the first that is told moves it, and the other one finds it gone.
    pair.take(&Step::Compact(vec![0]));
    pair.take(&Step::Compact(vec![0, 1]));
    pair.take(&Step::Finish(1));
    pair.take(&Step::Finish(0));
    pair.compare();
    let places: Vec<_> = pair.model.chunks.values().map(|c| c.place.unwrap().0).collect();
    assert_eq!(places, [first + 2, first + 2]);
    assert_eq!(pair.model.alive_in(first), 0, "the old pack is dead");
    assert_eq!(pair.model.alive_in(first + 1), 0, "and so is the one that came too late");
    pair.take(&Step::DeletePack(first));
    pair.take(&Step::DeletePack(first + 1));
    pair.take(&Step::DeletePack(first + 2));
    pair.compare();
    assert_eq!(pair.model.intents.len(), 2);
}

#[test]
fn a_compaction_that_tells_other_bytes_is_refused() {
    let mut pair = Pair::new();
    for step in [Step::File, Step::Upload(vec![0]), Step::Finish(0), Step::Compact(vec![0])] {
        pair.take(&step);
    }
    let id = pair.nth_intent(0);
    let Command::Compacted { intent, etag, places, bytes } = pair.report(id) else { panic!() };
    let other = |change: fn(&mut PersistedChunk)| {
        let mut places = places.clone();
        change(&mut places[0]);
        Command::Compacted { intent, etag: etag.clone(), places, bytes }
    };
    for wrong in [
        other(|p| p.crc32c ^= 1),
        other(|p| p.length += 1),
        other(|p| p.chunk = ChunkId(99)),
        other(|p| p.offset = 1000),
        Command::Compacted { intent, etag: etag.clone(), places: Vec::new(), bytes },
        Command::Persisted { intent, etag: etag.clone(), places: places.clone(), bytes },
        Command::PackDeleted { intent },
    ] {
        assert_eq!(pair.d.propose(wrong.clone()), Err(FsError::InvalidRequest), "{wrong:?}");
    }
    pair.compare();
    pair.take(&Step::Finish(0));
    pair.compare();
}
