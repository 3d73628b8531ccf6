//! The walk that looks for bytes that are not in S3, against a book that is kept beside the state.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "namespace_model/driver.rs"]
mod driver;
#[path = "namespace_model/invariants.rs"]
mod invariants;

use std::collections::{BTreeMap, BTreeSet};

use cairn_meta::namespace::command::PersistedChunk;
use cairn_meta::namespace::lag::{FileLag, LagWalk};
use cairn_meta::namespace::{Command, Operation, Target, apply_within, read};
use cairn_meta::store::{RocksStore, Rows, Store, Txn};
use cairn_types::{ChunkId, InodeId, LogIndex, Persist, Policy, Timestamp};
use driver::{Driver, FIRST, POLICY, extent};
use proptest::prelude::*;

/// What becomes of a chunk's bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Waits,
    InS3,
    Never,
}

/// What a file has: bytes that wait, bytes that never go, since when, and its tail.
type Lag = (u64, u64, Option<i64>, Option<ChunkId>);

/// The book.
#[derive(Default)]
struct Book {
    directories: Vec<String>,
    names: Vec<(String, InodeId)>,
    never: BTreeSet<String>,
    extents: BTreeMap<InodeId, Vec<(ChunkId, u64)>>,
    tails: BTreeMap<InodeId, ChunkId>,
    chunks: BTreeMap<ChunkId, (i64, Fate)>,
    /// Sealed, with their lengths.
    sealed: BTreeMap<ChunkId, u64>,
    /// The shared chunk that is open, and how much of it is used.
    shared: Option<(ChunkId, u64)>,
}

fn is_below(path: &str, top: &str) -> bool {
    top == "/" || path == top || path.strip_prefix(top).is_some_and(|rest| rest.starts_with('/'))
}

impl Book {
    fn lag(&self, ino: InodeId) -> Lag {
        let (mut bytes, mut never, mut oldest) = (0, 0, None);
        for (chunk, length) in self.extents.get(&ino).into_iter().flatten() {
            match self.chunks[chunk] {
                (_, Fate::InS3) => {}
                (_, Fate::Never) => never += length,
                (opened, Fate::Waits) => {
                    bytes += length;
                    oldest = Some(oldest.map_or(opened, |first: i64| first.min(opened)));
                }
            }
        }
        let tail = self.tails.get(&ino).copied().filter(|tail| self.chunks[tail].1 == Fate::Waits);
        if let Some(tail) = tail {
            let opened = self.chunks[&tail].0;
            oldest = Some(oldest.map_or(opened, |first: i64| first.min(opened)));
        }
        (bytes, never, oldest, tail)
    }

    /// What a walk must tell.
    fn below(&self, top: &str) -> BTreeMap<InodeId, Lag> {
        let files = self.names.iter().filter(|(path, _)| is_below(path, top));
        let all = files.map(|(path, ino)| (path == top, *ino, self.lag(*ino)));
        all.filter(|(only, _, lag)| *only || lag.0 > 0 || lag.3.is_some())
            .map(|(_, ino, lag)| (ino, lag))
            .collect()
    }

    fn is_never(&self, ino: InodeId) -> bool {
        // By its first name, which none of these steps removes.
        let (path, _) = self.names.iter().find(|(_, other)| *other == ino).unwrap();
        self.never.iter().any(|directory| is_below(path, directory))
    }
}

#[derive(Clone, Debug)]
enum Step {
    Mkdir(usize),
    Never(usize),
    Write(usize, u64),
    Append(usize, u64),
    Close(usize, u64),
    Link(usize, usize),
    Persist(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let place = || 0..1000_usize;
    prop_oneof![
        2 => place().prop_map(Step::Mkdir),
        1 => place().prop_map(Step::Never),
        5 => (place(), 1..5000_u64).prop_map(|(at, length)| Step::Write(at, length)),
        3 => (place(), 1..5000_u64).prop_map(|(at, length)| Step::Append(at, length)),
        3 => (place(), 1..5000_u64).prop_map(|(at, length)| Step::Close(at, length)),
        1 => (place(), place()).prop_map(|(file, at)| Step::Link(file, at)),
        3 => place().prop_map(Step::Persist),
    ]
}

struct World {
    driver: Driver,
    book: Book,
}

impl World {
    fn new() -> Self {
        let book = Book { directories: vec!["/".to_owned()], ..Book::default() };
        Self { driver: Driver::new(), book }
    }

    /// A new name in one of the directories.
    fn name(&self, at: usize, kind: &str) -> String {
        let directory = &self.book.directories[at % self.book.directories.len()];
        let number = self.book.directories.len() + self.book.names.len();
        format!("{}/{kind}{number}", directory.trim_end_matches('/'))
    }

    fn file(&self, at: usize) -> Option<InodeId> {
        let count = self.book.names.len();
        (count > 0).then(|| self.book.names[at % count].1)
    }

    fn take(&mut self, step: &Step) {
        self.driver.now += 1_000_000;
        match *step {
            Step::Mkdir(at) => {
                let path = self.name(at, "d");
                self.driver.mkdir(&path);
                self.book.directories.push(path);
            }
            Step::Never(at) => {
                // Not the root: shared chunks are under its policy.
                let Some(path) = self.book.directories.get(1 + at % self.book.directories.len()) else {
                    return;
                };
                let (target, policy) =
                    (Target::path(path.as_str()), Policy { persist: Persist::Never, ..POLICY });
                self.driver.done(Operation::SetPolicy { target, policy: Some(policy) });
                self.book.never.insert(path.clone());
            }
            Step::Write(at, length) => self.write(at, length),
            Step::Append(at, length) => {
                let Some(ino) = self.file(at) else { return };
                if self.book.tails.contains_key(&ino) {
                    return self.close(ino, length);
                }
                let chunk = self.driver.open_tail(ino, 0, 1).unwrap().chunk.unwrap();
                let fate = if self.book.is_never(ino) { Fate::Never } else { Fate::Waits };
                self.book.chunks.insert(chunk.chunk, (self.driver.now, fate));
                self.book.tails.insert(ino, chunk.chunk);
            }
            Step::Close(at, length) => {
                if let Some(ino) = self.file(at) {
                    self.close(ino, length);
                }
            }
            Step::Link(file, at) => {
                let Some(ino) = self.file(file) else { return };
                let path = self.name(at, "l");
                self.driver.done(Operation::Link { from: Target::ino(ino), to: Target::path(path.as_str()) });
                self.book.names.push((path, ino));
            }
            Step::Persist(at) => self.persist(at),
        }
    }

    fn write(&mut self, at: usize, length: u64) {
        let (chunk, used) = match self.book.shared {
            Some(shared) => shared,
            None => {
                let chunk = self.driver.shared_chunk();
                self.book.chunks.insert(chunk, (self.driver.now, Fate::Waits));
                (chunk, 0)
            }
        };
        let path = self.name(at, "f");
        let made = self.driver.create(&path, vec![extent(0, length, chunk, used)]).unwrap();
        let ino = made.inode.unwrap().ino;
        self.book.names.push((path, ino));
        self.book.extents.entry(ino).or_default().push((chunk, length));
        self.book.shared = Some((chunk, used + length));
    }

    fn close(&mut self, ino: InodeId, length: u64) {
        let Some(chunk) = self.book.tails.remove(&ino) else { return };
        self.driver.close(chunk, length, Vec::new());
        self.book.extents.entry(ino).or_default().push((chunk, length));
        self.book.sealed.insert(chunk, length);
    }

    /// Seals the shared chunk, and puts one of the sealed chunks into S3.
    fn persist(&mut self, at: usize) {
        if let Some((chunk, used)) = self.book.shared.take() {
            self.driver.close(chunk, used, Vec::new());
            self.driver.done(Operation::ReleaseChunk { chunk });
            self.book.sealed.insert(chunk, used);
        }
        let waits = |chunk: &ChunkId| self.book.chunks[chunk].1 == Fate::Waits;
        let waiting: Vec<(ChunkId, u64)> =
            self.book.sealed.iter().filter(|(chunk, _)| waits(chunk)).map(|(c, l)| (*c, *l)).collect();
        if waiting.is_empty() {
            return;
        }
        let (chunk, length) = waiting[at % waiting.len()];
        let intent =
            self.driver.ok(Command::CreateUpload { assignee: FIRST, chunks: vec![chunk] }).intent.unwrap();
        let places = vec![PersistedChunk { chunk, offset: 0, length, crc32c: 1 }];
        self.driver.ok(Command::Persisted { intent, etag: "e".into(), places, bytes: length });
        self.book.chunks.get_mut(&chunk).unwrap().1 = Fate::InS3;
    }
}

/// All that a walk tells, and in how many steps.
fn walked(rows: &dyn Rows, top: &str) -> (Vec<FileLag>, u64, usize) {
    let inode = read::resolve(rows, &Target::path(top)).unwrap();
    let mut walk = LagWalk::begin(rows, &inode, None).unwrap();
    let (mut files, mut steps) = (Vec::new(), 0);
    loop {
        let step = walk.step(rows).unwrap();
        files.extend(step.files);
        steps += 1;
        if step.done {
            return (files, walk.names(), steps);
        }
    }
}

fn told(rows: &dyn Rows, top: &str) -> BTreeMap<InodeId, Lag> {
    let (files, ..) = walked(rows, top);
    let count = files.len();
    let all: BTreeMap<InodeId, Lag> = files
        .into_iter()
        .map(|file| {
            let oldest = file.oldest.map(|Timestamp(oldest)| oldest);
            (file.ino, (file.bytes, file.never_bytes, oldest, file.tail.map(|tail| tail.chunk)))
        })
        .collect();
    assert_eq!(all.len(), count, "a file is told twice");
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_walk_tells_what_waits_for_s3_and_nothing_else(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        steps.iter().for_each(|step| world.take(step));
        let World { driver, book } = &world;
        for top in book.directories.iter().chain(book.names.iter().map(|(path, _)| path)) {
            let told = told(&driver.store, top);
            prop_assert_eq!(&told, &book.below(top), "below {}", top);
        }
        let whole: u64 = told(&driver.store, "/").values().map(|lag| lag.0).sum();
        let shared = book.shared.map_or(0, |(_, used)| used);
        let sealed = read::cluster(&driver.store).unwrap().counts.unpersisted_bytes;
        prop_assert_eq!(whole, sealed + shared, "the cluster's count, and the open shared chunk");
        driver.check();
    }
}

#[test]
fn a_large_tree_is_walked_in_bounded_steps_each_name_once() {
    let mut d = Driver::new();
    let chunk = d.shared_chunk();
    let mut offset = 0;
    // Directories among files, so that what was read ahead is dropped and read again.
    for n in 0..1500 {
        let path = if n % 3 == 0 { format!("/t/d{n:04}/deep/f") } else { format!("/t/d{n:04}") };
        if let Some((directory, _)) = path.rsplit_once('/') {
            d.mkdir(directory);
        }
        d.create(&path, vec![extent(0, 7, chunk, offset)]).unwrap();
        offset += 7;
    }
    let (files, names, steps) = walked(&d.store, "/t");
    assert_eq!(files.iter().map(|file| file.bytes).sum::<u64>(), 1500 * 7);
    let paths: BTreeSet<Vec<u8>> = files.iter().map(|file| file.path.clone()).collect();
    assert_eq!((files.len(), paths.len(), names), (1500, 1500, 1500 + 2 * 500));
    assert!(steps > 1, "it is one step");
    // The other store tells the same.
    let dir = tempfile::tempdir().unwrap();
    let rocks = RocksStore::open(dir.path(), 0).unwrap();
    for (index, (entry, bounds)) in d.log.iter().enumerate() {
        let mut txn = Txn::new(&rocks);
        apply_within(&mut txn, LogIndex(index as u64 + 1), entry, *bounds).unwrap().unwrap();
        rocks.write(txn.into_batch()).unwrap();
    }
    assert_eq!(walked(&*rocks.snapshot(), "/t"), (files, names, steps));
}

#[test]
fn a_file_of_many_extents_takes_several_steps() {
    let mut d = Driver::new();
    let ino = d.file("/f");
    let chunk = d.shared_chunk();
    for from in (0..6000_u64).step_by(500) {
        let extents = (from..from + 500).map(|n| extent(2 * n, 1, chunk, 2 * n)).collect();
        d.done(Operation::Commit { ino, extents, expected_length: None });
    }
    let (files, names, steps) = walked(&d.store, "/f");
    assert_eq!((files.len(), files[0].bytes, names), (1, 6000, 1));
    assert!(steps >= 3, "{steps} steps for 6000 rows");
    assert_eq!(files[0].path, b"/f");
}

#[test]
fn a_user_s_walk_passes_over_what_it_may_not_list() {
    let mut d = Driver::new();
    let chunk = d.shared_chunk();
    for (n, path) in ["/open/f", "/closed/f"].into_iter().enumerate() {
        d.mkdir(path.trim_end_matches("/f"));
        d.create(path, vec![extent(0, 7, chunk, 7 * n as u64)]).unwrap();
    }
    d.done(Operation::SetAttr {
        target: Target::path("/closed"),
        mode: Some(0o700),
        uid: Some(1),
        gid: None,
        size: None,
        mtime: None,
        atime: None,
        expected_version: None,
    });
    let who = cairn_types::Credentials { uid: 1000, gid: 1000, groups: Vec::new() };
    let root = read::resolve(&d.store, &Target::path("/")).unwrap();
    let mut walk = LagWalk::begin(&d.store, &root, Some(who)).unwrap();
    let step = walk.step(&d.store).unwrap();
    assert!(step.done);
    let paths: Vec<Vec<u8>> = step.files.into_iter().map(|file| file.path).collect();
    assert_eq!((paths, walk.passed_over()), (vec![b"/open/f".to_vec()], 1));
}
