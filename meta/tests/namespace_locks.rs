//! Locks, against a model that knows for each byte who holds it; and their bounds.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "namespace_model/driver.rs"]
mod driver;
#[path = "namespace_model/invariants.rs"]
mod invariants;
#[path = "namespace_locks/limits.rs"]
mod limits;
#[path = "namespace_locks/model.rs"]
mod model;

use std::collections::{BTreeMap, BTreeSet};

use cairn_meta::keys;
use cairn_meta::keys::locks::{self, LockRecord, WaitRecord};
use cairn_meta::namespace::reply::LockAnswer;
use cairn_meta::namespace::{Bounds, Command, Entry, Operation, Reply, Target, apply_within};
use cairn_meta::store::{KeyRange, MemoryStore, RocksStore, Row, Rows, Store, Table, Txn};
use cairn_types::{
    ClusterId, FsError, InodeId, LockKind, LockMode, LockRange, LogIndex, Policy, Sequence, SessionId,
    Timestamp,
};
use model::{Ask, BYTES, Locks, Owner, Told};
use proptest::prelude::*;

const SESSIONS: usize = 3;
const FILES: usize = 2;

/// One thing that somebody does. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Step {
    Lock {
        by: Owner,
        file: usize,
        flock: bool,
        first: usize,
        last: usize,
        exclusive: bool,
        wait: bool,
    },
    Unlock {
        by: Owner,
        file: usize,
        flock: bool,
        first: usize,
        last: usize,
    },
    Cancel {
        by: Owner,
        file: usize,
        flock: bool,
        which: usize,
    },
    /// The session ends, by its lease or its client, and another comes in its place.
    End {
        session: usize,
        closed: bool,
    },
    /// The file's only name goes, and another file comes in its place.
    Replace {
        file: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let owner = (0..SESSIONS, 1u64..3);
    let bytes = (0..BYTES, 0..BYTES).prop_map(|(a, b)| (a.min(b), a.max(b)));
    // Seldom whole files: bytes are where it is hard.
    let flock = prop::bool::weighted(0.2);
    prop_oneof![
        10 => (owner.clone(), 0..FILES, flock, bytes.clone(), any::<bool>(), prop::bool::weighted(0.7))
            .prop_map(|(by, file, flock, (first, last), exclusive, wait)| {
                Step::Lock { by, file, flock, first, last, exclusive, wait }
            }),
        6 => (owner.clone(), 0..FILES, flock, bytes)
            .prop_map(|(by, file, flock, (first, last))| Step::Unlock { by, file, flock, first, last }),
        2 => (owner, 0..FILES, flock, 0usize..4)
            .prop_map(|(by, file, flock, which)| Step::Cancel { by, file, flock, which }),
        1 => (0..SESSIONS, any::<bool>()).prop_map(|(session, closed)| Step::End { session, closed }),
        1 => (0..FILES).prop_map(|file| Step::Replace { file }),
    ]
}

fn history() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(step(), 1..80)
}

fn range(first: usize, last: usize) -> LockRange {
    LockRange { start: first as u64, last: if last == BYTES - 1 { u64::MAX } else { last as u64 } }
}

fn mode(exclusive: bool) -> LockMode {
    if exclusive { LockMode::Exclusive } else { LockMode::Shared }
}

fn kind(flock: bool) -> LockKind {
    if flock { LockKind::Flock } else { LockKind::Range }
}

/// How often something happened.
type Met = BTreeMap<&'static str, usize>;

/// A state and the model beside it.
struct Pair<'s> {
    store: &'s dyn Store,
    index: u64,
    sequence: u64,
    sessions: [SessionId; SESSIONS],
    files: [InodeId; FILES],
    /// By file and kind.
    model: BTreeMap<(usize, bool), Locks>,
    met: Met,
}

impl<'s> Pair<'s> {
    fn new(store: &'s dyn Store) -> Self {
        let (sessions, files) = ([SessionId(0); SESSIONS], [InodeId(0); FILES]);
        let model = BTreeMap::new();
        let mut pair = Self { store, index: 0, sequence: 0, sessions, files, model, met: Met::new() };
        pair.propose(Command::InitCluster { cluster: ClusterId([7; 16]), policy: Policy::cluster() })
            .unwrap();
        for session in 0..SESSIONS {
            pair.open(session);
        }
        for file in 0..FILES {
            pair.create(file);
        }
        pair
    }

    fn propose(&mut self, command: Command) -> Reply {
        self.index += 1;
        let entry = Entry { time: Timestamp(self.index as i64), command };
        let mut txn = Txn::new(self.store);
        let reply = apply_within(&mut txn, LogIndex(self.index), &entry, Bounds { rows_at_once: 3 }).unwrap();
        self.store.write(txn.into_batch()).unwrap();
        reply
    }

    fn ask(&mut self, session: usize, operation: Operation) -> Reply {
        self.sequence += 1;
        let sequence = Sequence(self.sequence);
        self.propose(Command::Request {
            session: self.sessions[session],
            sequence,
            acknowledged_below: sequence,
            operation,
        })
    }

    fn open(&mut self, session: usize) {
        let opened = self.propose(Command::OpenSession { client: "c".into() }).unwrap();
        self.sessions[session] = opened.session.unwrap();
    }

    fn create(&mut self, file: usize) {
        let made = self.ask(0, driver::create(&format!("/{file}"), Vec::new())).unwrap();
        self.files[file] = made.inode.unwrap().ino;
    }

    fn file(&mut self, file: usize, flock: bool) -> &mut Locks {
        self.model.entry((file, flock)).or_default()
    }

    fn owner(&self, owner: Owner) -> (SessionId, u64) {
        (self.sessions[owner.0], owner.1)
    }

    fn meet(&mut self, what: &'static str) {
        *self.met.entry(what).or_default() += 1;
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Lock { by, file, flock, first, last, exclusive, wait } => {
                let (first, last) = if flock { (0, BYTES - 1) } else { (first, last) };
                self.lock(Ask { by, first, last, mode: mode(exclusive) }, file, flock, wait);
            }
            Step::Unlock { by, file, flock, first, last } => {
                let (first, last) = if flock { (0, BYTES - 1) } else { (first, last) };
                let (ino, range) = (self.files[file], range(first, last));
                let reply = self.ask(by.0, Operation::Unlock { ino, kind: kind(flock), owner: by.1, range });
                assert_eq!(reply, Ok(cairn_meta::namespace::Answer::default()));
                let index = self.index;
                let locks = self.file(file, flock);
                let waited = locks.queue.len();
                locks.take(by, first, last);
                locks.grant(index);
                if locks.queue.len() < waited {
                    self.meet("granted by an unlock");
                }
            }
            Step::Cancel { by, file, flock, which } => self.cancel(by, file, flock, which),
            Step::End { session, closed } => self.end(session, closed),
            Step::Replace { file } => self.replace(file),
        }
    }

    fn lock(&mut self, ask: Ask, file: usize, flock: bool, wait: bool) {
        let (ino, owner) = (self.files[file], ask.by.1);
        let (range, mode) = (range(ask.first, ask.last), ask.mode);
        let reply = self.ask(ask.by.0, Operation::Lock { ino, kind: kind(flock), owner, range, mode, wait });
        let index = self.index;
        let others: Vec<Locks> = (0..FILES)
            .filter(|other| *other != file)
            .filter_map(|other| self.model.get(&(other, flock)).cloned())
            .collect();
        let others: Vec<&Locks> = others.iter().collect();
        let told = self.file(file, flock).lock(ask, flock, wait, index, &others);
        let reply = reply.map(|answer| answer.lock.unwrap());
        match &told {
            Told::Held => assert_eq!(reply, Ok(LockAnswer::Held { fence: LogIndex(index) })),
            Told::Waiting => assert_eq!(reply, Ok(LockAnswer::Waiting { wait: LogIndex(index) })),
            Told::Deadlock => assert_eq!(reply, Err(FsError::Deadlock)),
            Told::Locked(by) => {
                let by: BTreeSet<_> = by.iter().map(|owner| self.owner(*owner)).collect();
                let Err(FsError::Locked { session, owner }) = reply else { panic!("{reply:?}") };
                assert!(by.contains(&(session, owner)), "{session} {owner}: {by:?}");
            }
        }
        self.meet(match told {
            Told::Held => "held",
            Told::Waiting => "waiting",
            Told::Deadlock => "deadlock",
            Told::Locked(_) => "locked",
        });
    }

    fn cancel(&mut self, by: Owner, file: usize, flock: bool, which: usize) {
        let own = |q: &(u64, Ask)| (q.1.by == by).then_some(q.0);
        let numbers: Vec<u64> = self.file(file, flock).queue.iter().filter_map(own).collect();
        // The first stands for all of them.
        let number = numbers.get(which).copied().filter(|_| which > 0).unwrap_or(0);
        let (ino, wait) = (self.files[file], LogIndex(number));
        let reply = self.ask(by.0, Operation::CancelLock { ino, kind: kind(flock), owner: by.1, wait });
        let index = self.index;
        let any = self.file(file, flock).cancel(by, number, index);
        let told = if any { LockAnswer::Cancelled } else { LockAnswer::Gone };
        assert_eq!(reply.unwrap().lock, Some(told));
        self.meet(if any { "cancelled" } else { "nothing to cancel" });
    }

    fn end(&mut self, session: usize, closed: bool) {
        let id = self.sessions[session];
        let first = if closed {
            Command::CloseSession { session: id }
        } else {
            Command::ExpireSession { session: id }
        };
        let mut more = self.propose(first).unwrap().session.is_some();
        // Few locks: they are freed by the first of its entries.
        let index = self.index;
        while more {
            let answer = self.propose(Command::ExpireSession { session: id }).unwrap();
            more = answer.session.is_some();
        }
        let waited: usize = self.model.values().map(|locks| locks.queue.len()).sum();
        let mut own = 0;
        for locks in self.model.values_mut() {
            own += locks.queue.iter().filter(|(_, ask)| ask.by.0 == session).count();
            locks.end(session, index);
        }
        let left: usize = self.model.values().map(|locks| locks.queue.len()).sum();
        if left + own < waited {
            self.meet("granted by the end of a session");
        }
        self.open(session);
    }

    fn replace(&mut self, file: usize) {
        let ino = self.files[file];
        self.ask(0, Operation::Unlink { target: Target::path(format!("/{file}")) }).unwrap();
        let mode = LockMode::Shared;
        let lock =
            Operation::Lock { ino, kind: LockKind::Range, owner: 1, range: range(0, 0), mode, wait: false };
        assert_eq!(self.ask(0, lock).map(drop), Err(FsError::Stale));
        let had: usize = [false, true].iter().map(|k| self.file(file, *k).runs().len()).sum();
        let mut steps = 0;
        let orphan = keys::orphans::key(ino);
        while self.store.get(Table::Orphans, &orphan).unwrap().is_some() {
            self.propose(Command::Purge { ino }).unwrap();
            steps += 1;
        }
        if had > 0 && steps > 0 {
            self.meet("locks of a file that is gone went in steps");
        }
        self.model.remove(&(file, false));
        self.model.remove(&(file, true));
        self.create(file);
    }

    /// What the rows say is what the model says.
    fn compare(&self) {
        for (file, ino) in self.files.iter().enumerate() {
            for flock in [false, true] {
                let none = Locks::default();
                let model = self.model.get(&(file, flock)).unwrap_or(&none);
                let rows = KeyRange::prefix(&locks::on(*ino, kind(flock)));
                let held: BTreeSet<_> = keys::scan::<LockRecord>(self.store, &rows, usize::MAX)
                    .unwrap()
                    .into_iter()
                    .map(|(key, row)| {
                        let (start, by) = locks::parse(&key).unwrap();
                        let range = LockRange { start, last: row.last };
                        (range, (by.session, by.owner), row.mode, row.fence.0)
                    })
                    .collect();
                let wanted: BTreeSet<_> = model
                    .runs()
                    .into_iter()
                    .map(|(first, last, by, mode, fence)| (range(first, last), self.owner(by), mode, fence))
                    .collect();
                assert_eq!(held, wanted, "held on {file}, flock: {flock}");
                let waits: Vec<_> = keys::scan::<WaitRecord>(self.store, &rows, usize::MAX)
                    .unwrap()
                    .into_iter()
                    .map(|(key, row)| {
                        let range = LockRange { start: row.start, last: row.last };
                        (locks::wait(&key).unwrap().0, (row.by.session, row.by.owner), range, row.mode)
                    })
                    .collect();
                let wanted: Vec<_> = model
                    .queue
                    .iter()
                    .map(|(n, ask)| (*n, self.owner(ask.by), range(ask.first, ask.last), ask.mode))
                    .collect();
                assert_eq!(waits, wanted, "waits on {file}, flock: {flock}");
            }
        }
        invariants::check(self.store);
    }
}

fn run(store: &dyn Store, history: &[Step]) -> Met {
    let mut pair = Pair::new(store);
    for step in history {
        pair.step(step);
        pair.compare();
    }
    pair.met
}

fn dump(rows: &dyn Rows) -> Vec<(Table, Vec<Row>)> {
    let all = |table: &Table| (*table, rows.scan(*table, &KeyRange::default(), usize::MAX).unwrap());
    Table::ALL.iter().map(all).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn locks_are_the_model_s(history in history()) {
        run(&MemoryStore::new(), &history);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_stores_hold_the_same_locks(history in history()) {
        let memory = MemoryStore::new();
        run(&memory, &history);
        let dir = tempfile::tempdir().unwrap();
        let rocks = RocksStore::open(dir.path(), 0).unwrap();
        run(&rocks, &history);
        prop_assert_eq!(dump(&*rocks.snapshot()), dump(&memory));
    }
}

/// The histories are worth their name.
#[test]
fn histories_meet_all_that_locks_can_do() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut all = Met::new();
    for _ in 0..200 {
        let history = history().new_tree(&mut runner).unwrap().current();
        for (what, times) in run(&MemoryStore::new(), &history) {
            *all.entry(what).or_default() += times;
        }
    }
    for what in [
        "held",
        "waiting",
        "locked",
        "deadlock",
        "cancelled",
        "nothing to cancel",
        "granted by an unlock",
        "granted by the end of a session",
        "locks of a file that is gone went in steps",
    ] {
        assert!(all.get(what).is_some_and(|n| *n >= 10), "{what} hardly ever happens: {all:?}");
    }
}
