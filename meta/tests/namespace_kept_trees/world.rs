//! The model: sessions that know what they have open and say so truly, and a tree of names. It knows
//! nothing of how files are kept.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

#[derive(Clone, Debug)]
pub enum Step {
    Mkdir(usize, u8),
    File(usize, u8, u64),
    /// The nth file's name, in the nth directory, a name.
    Link(usize, usize, u8),
    /// The nth file's name; by the nth session, which says what it has open, or by nobody.
    Unlink(usize, Option<usize>),
    Remove(usize, Option<usize>),
    Purge(usize),
    Begin,
    End(usize),
    /// The nth session, the nth file's name.
    Open(usize, usize),
    /// The nth session, the nth of all files there ever were.
    OpenByNumber(usize, usize),
    /// The nth session, the nth file that it has open.
    Close(usize, usize),
    Answer(usize),
    /// The nth file that anybody has open grows.
    Grow(usize, bool),
}

pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    let nth = || 0usize..40;
    let by = || prop_oneof![2 => Just(None), 3 => nth().prop_map(Some)];
    let step = prop_oneof![
        6 => (nth(), 0u8..4).prop_map(|(d, n)| Step::Mkdir(d, n)),
        10 => (nth(), 0u8..6, 0u64..9).prop_map(|(d, n, size)| Step::File(d, n, size)),
        5 => (nth(), nth(), 0u8..6).prop_map(|(f, d, n)| Step::Link(f, d, n)),
        3 => (nth(), by()).prop_map(|(f, by)| Step::Unlink(f, by)),
        4 => (nth(), by()).prop_map(|(d, by)| Step::Remove(d, by)),
        8 => nth().prop_map(Step::Purge),
        2 => Just(Step::Begin),
        1 => nth().prop_map(Step::End),
        9 => (nth(), nth()).prop_map(|(s, f)| Step::Open(s, f)),
        8 => (nth(), nth()).prop_map(|(s, f)| Step::OpenByNumber(s, f)),
        3 => (nth(), nth()).prop_map(|(s, f)| Step::Close(s, f)),
        4 => nth().prop_map(Step::Answer),
        5 => (nth(), any::<bool>()).prop_map(|(f, tail)| Step::Grow(f, tail)),
    ];
    proptest::collection::vec(step, 40..140)
}

/// How often something was met.
#[derive(Clone, Debug, Default)]
pub struct Met {
    /// Open files without a way to them, whose name is yet to be purged; whose name is.
    pub before: u64,
    pub after: u64,
    pub changed: u64,
    /// Trees of which one that was alone said what is open.
    pub claimed: u64,
    /// Open files that were opened after their tree had gone.
    pub late: u64,
}

impl Met {
    pub fn add(&mut self, other: &Self) {
        self.before += other.before;
        self.after += other.after;
        self.changed += other.changed;
        self.claimed += other.claimed;
        self.late += other.late;
    }
}

#[derive(Default)]
struct Speaker {
    sequence: u64,
    number: u64,
    open: BTreeSet<InodeId>,
    /// What it said that it holds, and has closed.
    said: BTreeSet<InodeId>,
}

pub struct World {
    pub d: Driver,
    pub met: Met,
    chunk: cairn_types::ChunkId,
    used: u64,
    /// Every path there is, with a directory's or a file's inode.
    tree: BTreeMap<String, (bool, InodeId)>,
    /// All files that ever were, with their sizes; all directories.
    files: BTreeMap<InodeId, u64>,
    directories: BTreeSet<InodeId>,
    speakers: BTreeMap<SessionId, Speaker>,
    marks: u64,
}

impl World {
    pub fn new(rows_at_once: usize) -> Self {
        let mut d = at_level(3);
        let chunk = d.shared_chunk();
        d.bounds = Bounds { rows_at_once, ..Bounds::default() };
        Self {
            d,
            met: Met::default(),
            chunk,
            used: 0,
            tree: BTreeMap::new(),
            files: BTreeMap::new(),
            directories: BTreeSet::new(),
            speakers: BTreeMap::new(),
            marks: 0,
        }
    }

    fn nth(&self, nth: usize, directory: bool) -> Option<String> {
        let paths: Vec<&String> =
            self.tree.iter().filter(|(_, k)| k.0 == directory).map(|(path, _)| path).collect();
        paths.get(nth % paths.len().max(1)).map(|path| (*path).clone())
    }

    fn spot(&self, nth: usize, name: u8) -> Option<String> {
        let directory = self.nth(nth, true).filter(|_| nth > 3).unwrap_or_default();
        Some(format!("{directory}/n{name}")).filter(|path| !self.tree.contains_key(path))
    }

    fn session(&self, nth: usize) -> Option<SessionId> {
        self.speakers.keys().nth(nth % self.speakers.len().max(1)).copied()
    }

    fn bytes(&mut self, length: u64) -> u64 {
        self.used += length;
        self.used - length
    }

    pub fn step(&mut self, step: &Step) {
        self.d.now += 1;
        match step {
            Step::Mkdir(d, name) => {
                if let Some(path) = self.spot(*d, *name) {
                    let ino = self.d.mkdir(&path).ino;
                    self.directories.insert(ino);
                    self.tree.insert(path, (true, ino));
                }
            }
            Step::File(d, name, size) => {
                if let Some(path) = self.spot(*d, *name) {
                    let at = self.bytes(*size);
                    let extents = (*size > 0).then(|| extent(0, *size, self.chunk, at));
                    let made = self.d.create(&path, extents.into_iter().collect()).unwrap();
                    let ino = made.inode.unwrap().ino;
                    self.files.insert(ino, *size);
                    self.tree.insert(path, (false, ino));
                }
            }
            Step::Link(file, d, name) => {
                if let (Some(from), Some(to)) = (self.nth(*file, false), self.spot(*d, *name)) {
                    let known = self.tree[&from];
                    let (from, target) = (Target::path(from), Target::path(to.clone()));
                    self.d.done(Operation::Link { from, to: target });
                    self.tree.insert(to, known);
                }
            }
            Step::Unlink(file, by) => {
                if let Some(path) = self.nth(*file, false) {
                    self.ask(*by, Operation::Unlink { target: Target::path(path.clone()) });
                    self.tree.remove(&path);
                }
            }
            Step::Remove(d, by) => {
                if let Some(path) = self.nth(*d, true) {
                    self.met.claimed += u64::from(by.is_some() && self.speakers.len() == 1);
                    self.ask(*by, Operation::RemoveTree { target: Target::path(path.clone()) });
                    let below = format!("{path}/");
                    self.tree.retain(|known, _| *known != path && !known.starts_with(&below));
                }
            }
            Step::Purge(nth) => {
                let trees = trees(&self.d);
                if let Some(tree) = trees.get(nth % trees.len().max(1)) {
                    self.d.ok(Command::PurgeTree { top: tree.inode.ino });
                }
            }
            Step::Grow(nth, tail) => self.grow(*nth, *tail),
            _ => self.speak(step),
        }
        self.decide();
    }

    fn speak(&mut self, step: &Step) {
        match step {
            Step::Begin if self.speakers.len() < 3 => {
                let session = holder(&mut self.d);
                self.speakers.insert(session, Speaker::default());
            }
            Step::End(nth) => {
                if let Some(session) = self.session(*nth) {
                    self.speakers.remove(&session);
                    while self.d.ok(Command::ExpireSession { session }).session.is_some() {}
                }
            }
            Step::Open(nth, file) => {
                if let (Some(session), Some(path)) = (self.session(*nth), self.nth(*file, false)) {
                    let ino = self.tree[&path].1;
                    self.speakers.get_mut(&session).unwrap().open.insert(ino);
                }
            }
            Step::OpenByNumber(nth, file) => {
                let ino = self.files.keys().nth(file % self.files.len().max(1)).copied();
                if let (Some(session), Some(ino)) = (self.session(*nth), ino)
                    && by_number(&self.d, ino).is_ok_and(|inode| inode.nlink > 0)
                {
                    self.met.late += u64::from(!self.is_named(ino));
                    self.speakers.get_mut(&session).unwrap().open.insert(ino);
                }
            }
            Step::Close(nth, file) => {
                if let Some(session) = self.session(*nth) {
                    let speaker = self.speakers.get_mut(&session).unwrap();
                    let ino = speaker.open.iter().nth(file % speaker.open.len().max(1)).copied();
                    speaker.open.retain(|open| Some(*open) != ino);
                }
            }
            Step::Answer(nth) => {
                if let Some(session) = self.session(*nth) {
                    self.answer(session);
                }
            }
            _ => {}
        }
    }

    /// What it is asked, and what it has closed.
    fn answer(&mut self, session: SessionId) {
        let files = asked(&self.d, session);
        let speaker = self.speakers.get_mut(&session).unwrap();
        let released: Vec<InodeId> = speaker.said.difference(&speaker.open).copied().collect();
        let held: Vec<InodeId> =
            files.into_iter().filter(|f| speaker.open.contains(f) && !speaker.said.contains(f)).collect();
        speaker.said.retain(|ino| !released.contains(ino));
        speaker.said.extend(&held);
        speaker.number += 1;
        let number = speaker.number;
        answer(&mut self.d, session, number, &held, &released);
    }

    /// By the nth session, with what it has open, or by one that says nothing.
    fn ask(&mut self, by: Option<usize>, operation: Operation) {
        let Some(session) = by.and_then(|nth| self.session(nth)) else {
            self.d.done(operation);
            return;
        };
        let speaker = self.speakers.get_mut(&session).unwrap();
        speaker.sequence += 1;
        let (sequence, number) = (Sequence(speaker.sequence), speaker.number);
        let inos = speaker.open.iter().copied().collect();
        let operation = Operation::Holding { number, inos, operation: Box::new(operation) };
        self.d.ok(Command::Request { session, sequence, acknowledged_below: sequence, operation });
    }

    fn grow(&mut self, nth: usize, tail: bool) {
        let open: Vec<InodeId> = self.open().into_iter().collect();
        let Some(ino) = open.get(nth % open.len().max(1)).copied() else { return };
        let size = self.files[&ino];
        self.met.changed += u64::from(!self.is_named(ino));
        if tail {
            let chunk = self.d.open_tail(ino, 0, 1).unwrap().chunk.unwrap().chunk;
            self.marks += 1;
            let mark = self.d.mark(1, self.marks, size);
            self.d.close(chunk, 3, vec![mark]);
        } else {
            let at = self.bytes(3);
            let extents = vec![extent(size, 3, self.chunk, at)];
            self.d.done(Operation::Commit { ino, extents, expected_length: Some(size) });
        }
        self.files.insert(ino, size + 3);
    }

    /// As the leader does.
    fn decide(&mut self) {
        while decidable(&self.d.store).unwrap().is_some() {
            self.d.ok(Command::DecideUnlinked {});
        }
    }

    fn open(&self) -> BTreeSet<InodeId> {
        self.speakers.values().flat_map(|speaker| speaker.open.iter().copied()).collect()
    }

    fn is_named(&self, ino: InodeId) -> bool {
        self.tree.values().any(|known| known.1 == ino)
    }

    pub fn count(&mut self) {
        let orphans = keys::scan::<Orphan>(&self.d.store, &KeyRange::default(), usize::MAX).unwrap();
        let kept: BTreeSet<InodeId> = orphans.into_iter().map(|(_, o)| o.inode.ino).collect();
        let lost: Vec<InodeId> = self.open().into_iter().filter(|ino| !self.is_named(*ino)).collect();
        let after = lost.iter().filter(|ino| kept.contains(ino)).count();
        self.met.after += after as u64;
        self.met.before += (lost.len() - after) as u64;
    }

    pub fn same(&self) {
        let open = self.open();
        for (ino, size) in &self.files {
            let named = self.is_named(*ino);
            match by_number(&self.d, *ino) {
                Ok(inode) => {
                    assert_eq!(inode.size, *size, "{ino}");
                    // Further names in trees that are yet to be purged are counted; a single one is none.
                    assert!(if named { inode.nlink >= 1 } else { inode.nlink != 1 }, "{inode:?}");
                }
                Err(error) => {
                    assert!(error == FsError::Stale && !named && !open.contains(ino), "{ino}: {error:?}");
                }
            }
        }
        for (path, (_, ino)) in &self.tree {
            assert_eq!(self.d.stat(path).unwrap().ino, *ino, "{path}");
        }
        for ino in &self.directories {
            let known = if self.is_named(*ino) { None } else { Some(FsError::Stale) };
            assert_eq!(by_number(&self.d, *ino).err(), known, "{ino}");
        }
        self.d.check();
    }

    /// All is purged, and closed: what is left is what the model has, and nothing else.
    pub fn end(&mut self) {
        while let Some(tree) = trees(&self.d).pop() {
            self.d.now += 1;
            self.d.ok(Command::PurgeTree { top: tree.inode.ino });
            self.decide();
        }
        self.same();
        for round in 0..2 {
            let sessions: Vec<SessionId> = self.speakers.keys().copied().collect();
            for session in sessions {
                self.answer(session);
                if round == 0 {
                    self.speakers.get_mut(&session).unwrap().open.clear();
                }
            }
            self.decide();
        }
        while let Some(ino) = jobs::orphans(&self.d.store, None, 1).unwrap().pop() {
            self.d.ok(Command::Purge { ino });
        }
        self.same();
        let mut left: BTreeSet<InodeId> = self.tree.values().map(|known| known.1).collect();
        left.insert(InodeId::ROOT);
        assert_eq!(read::cluster(&self.d.store).unwrap().counts.inodes, left.len() as u64);
        assert_eq!((rows(&self.d, Table::Orphans), rows(&self.d, Table::Branches)), (0, 0));
        let holds = self.d.store.scan(Table::Holds, &KeyRange::default(), usize::MAX).unwrap();
        assert!(holds.iter().all(|(key, _)| matches!(Hold::parse(key), Ok(Hold::Denied(..)))));
        for (ino, _) in self.files.iter().filter(|(ino, _)| !left.contains(ino)) {
            assert_eq!(by_number(&self.d, *ino), Err(FsError::Stale));
        }
    }
}
