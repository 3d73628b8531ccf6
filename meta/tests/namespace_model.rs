//! Histories of every verb, against a model written independently: the same replies, the same tree,
//! on both stores, byte for byte, in batches of any size.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "namespace_model/copies.rs"]
mod copies;
#[path = "namespace_model/dumps.rs"]
mod dumps;
#[path = "namespace_model/events.rs"]
mod events;
#[path = "namespace_model/holds.rs"]
mod holds;
#[path = "namespace_model/invariants.rs"]
mod invariants;
#[path = "namespace_model/marathon.rs"]
mod marathon;
#[path = "namespace_model/model.rs"]
mod model;
#[path = "namespace_model/sharing.rs"]
mod sharing;
#[path = "namespace_model/steps.rs"]
mod steps;
#[path = "namespace_model/tree.rs"]
mod tree;
#[path = "namespace_model/verbs.rs"]
mod verbs;

use std::collections::BTreeMap;

use cairn_meta::keys;
use cairn_meta::keys::chunks::{ChunkOwner, ChunkRecord, ChunkState, PlacedReplica};
use cairn_meta::keys::counters::{self, ClusterRecord};
use cairn_meta::keys::mounts::MountSource;
use cairn_meta::namespace::command::HoldAnswer;
use cairn_meta::namespace::operation::Target;
use cairn_meta::namespace::{
    Answer, Bounds, Command, Entry, Memory, Operation, Placement, Reply, apply, apply_after, read,
};
use cairn_meta::store::{KeyRange, MemoryStore, RocksStore, Row, Rows, Store, Table, Txn};
use cairn_types::{
    ChunkId, ClusterId, DiskId, Epoch, Extent, ExtentSource, FeatureLevel, FileKind, FsError, Generation,
    Incarnation, InodeId, LogIndex, NodeId, Policy, Sequence, SessionId, Timestamp, WriterId, WriterMark,
};
use model::{Model, Outcome, Phase, Told};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use verbs::{Path, Range, Step, Verb, history, path, ranges, verb};

const SESSIONS: u64 = 2;
const POLICY: Policy = Policy { replicas: 2, min_replicas: 1, ..Policy::cluster() };

fn placement() -> Option<Placement> {
    let replicas = vec![
        PlacedReplica { node: NodeId(101), disk: DiskId([1; 16]), incarnation: Incarnation(1) },
        PlacedReplica { node: NodeId(102), disk: DiskId([2; 16]), incarnation: Incarnation(1) },
    ];
    Some(Placement { replicas, primary: NodeId(101) })
}

fn target((ino, path, no_follow): &Path) -> Target {
    Target { ino: InodeId(*ino), path: path.clone(), no_follow: *no_follow }
}

fn extents(ranges: &[Range]) -> Vec<Extent> {
    ranges
        .iter()
        .map(|(file_offset, length, chunk, offset)| Extent {
            file_offset: *file_offset,
            length: *length,
            source: ExtentSource::Chunk { chunk: ChunkId(*chunk), offset: *offset },
        })
        .collect()
}

/// The model and the log that goes with it.
struct World {
    model: Model,
    time: i64,
    /// For each live session the next sequence and the last request with its outcome.
    sessions: BTreeMap<u64, (u64, Option<(Command, Reply)>)>,
    /// Each client's newest session.
    clients: Vec<u64>,
    next_session: u64,
    /// Sessions say which unlinked files they hold.
    speaks: bool,
}

fn writer(session: u64, number: u64) -> WriterId {
    WriterId::of(SessionId(session), number).unwrap()
}

fn mount_source() -> MountSource {
    MountSource { bucket: "bucket".into(), prefix: "p/".into(), ..MountSource::default() }
}

impl World {
    /// The command of a step and what the model says to it.
    fn step(&mut self, step: &Step) -> (Command, Expected) {
        if let Some(entry) = self.cluster_step(step) {
            return entry;
        }
        let session = self.clients[step.client as usize];
        let known = self.sessions.get(&session).cloned();
        if let (Verb::Repeat, Some((_, Some((command, reply))))) = (&step.verb, &known) {
            return (command.clone(), Expected::Reply(Box::new(reply.clone())));
        }
        let sequence = known.as_ref().map_or(1, |(next, _)| *next);
        let operation = self.operation(step);
        let outcome = match &known {
            Some(_) => {
                let before = self.model.clone();
                let outcome = self.ask(session, &operation);
                if outcome.is_err() {
                    self.model = before;
                }
                outcome
            }
            None => Err(FsError::SessionExpired),
        };
        if let Some((next, _)) = self.sessions.get_mut(&session) {
            *next += 1;
        }
        let command = Command::Request {
            session: SessionId(session),
            sequence: Sequence(sequence),
            acknowledged_below: Sequence(sequence.saturating_sub(3)),
            operation,
        };
        (command, Expected::Outcome(outcome))
    }

    /// What the cluster proposes by itself.
    fn cluster_step(&mut self, step: &Step) -> Option<(Command, Expected)> {
        let session = self.clients[step.client as usize];
        match &step.verb {
            Verb::EndSession if self.sessions.contains_key(&session) => {
                self.sessions.remove(&session);
                self.model.end_session(session);
                let command = Command::ExpireSession { session: SessionId(session) };
                Some((command, Expected::Outcome(Ok(Told::default()))))
            }
            verb if matches!(verb, Verb::EndSession) || self.is_over(session) && step.time % 2 == 0 => {
                let opened = self.next_session;
                self.next_session += 1;
                self.sessions.insert(opened, (1, None));
                self.clients[step.client as usize] = opened;
                Some((self.open(opened), Expected::Outcome(Ok(Told::default()))))
            }
            Verb::Answer(held, released, fresh, upto) => {
                let answer = self.answer(session, (*held, *released), *fresh, *upto);
                self.model.deny(&answer);
                let command = Command::Deny { answers: vec![answer] };
                Some((command, Expected::Outcome(Ok(Told::default()))))
            }
            Verb::BeginSeal(nth, epoch) => {
                let chunk = &self.undecided(*nth);
                let outcome = self.model.begin_seal(*chunk, *epoch);
                let command = Command::BeginSeal { chunk: ChunkId(*chunk), epoch: Epoch(*epoch) };
                Some((command, Expected::Outcome(outcome)))
            }
            Verb::Seal(nth, right, fits, length, sequence) => {
                let id = &self.undecided(*nth);
                let known = self.model.chunks.get(id).cloned();
                let planned = &(known.as_ref().is_some_and(|c| c.phase == Phase::Open) == *fits);
                let epoch = known.as_ref().map_or(1, |c| c.epoch) + u32::from(!*right);
                let tail = known.filter(|c| c.tail_of != 0 && *sequence > 0);
                let marks: Vec<WriterMark> = tail
                    .map(|c| WriterMark {
                        writer: writer(session, sequence % 3),
                        sequence: Sequence(*sequence),
                        offset: c.base,
                    })
                    .into_iter()
                    .collect();
                let live: Vec<u64> = self.sessions.keys().copied().collect();
                let mtime = Timestamp(self.time + 3 * (*sequence).cast_signed() - 9);
                let lives = |session| live.contains(&session);
                let outcome = self.model.seal((*id, epoch, *planned), *length, &marks, mtime, &lives);
                let (chunk, epoch, chain) = (ChunkId(*id), Epoch(epoch), Model::chain(*length));
                let holders = vec![NodeId(101)];
                let length = *length;
                let command = if *planned {
                    Command::SealPlanned { chunk, epoch, length, chain, marks, mtime }
                } else if length % 2 == 1 {
                    // An accepted loss changes the state as a proven end does.
                    let (heard, answered) = (length + sequence, holders.clone());
                    Command::AcceptLoss {
                        chunk,
                        epoch,
                        length,
                        chain,
                        holders,
                        marks,
                        mtime,
                        heard,
                        answered,
                    }
                } else {
                    Command::FinishSeal { chunk, epoch, length, chain, holders, marks, mtime }
                };
                Some((command, Expected::Outcome(outcome)))
            }
            _ => None,
        }
    }

    /// Opens a session of the world's kind.
    fn open(&mut self, session: u64) -> Command {
        let client = "test".into();
        if !self.speaks {
            return Command::OpenSession { client };
        }
        self.model.holding.speakers.insert(session, 0);
        Command::OpenHolder { client, credentials: None }
    }

    fn answer(&self, session: u64, (held, released): (u64, u64), fresh: bool, upto: u8) -> HoldAnswer {
        let holding = &self.model.holding;
        let chosen = |bits: u64| {
            let inos = holding.unlinked.keys().enumerate().filter(|(n, _)| bits >> (n % 64) & 1 == 1);
            inos.map(|(_, ino)| InodeId(*ino)).collect::<Vec<_>>()
        };
        let upto = match upto {
            0 => holding.index + 100,
            1 => holding.unlinked.values().map(|file| file.since).nth(1).unwrap_or(0),
            _ => holding.index,
        };
        HoldAnswer {
            session: SessionId(session),
            number: holding.speakers.get(&session).copied().unwrap_or(0) + u64::from(fresh),
            upto: LogIndex(upto),
            held: chosen(held),
            released: chosen(released),
        }
    }

    fn is_over(&self, session: u64) -> bool {
        !self.sessions.contains_key(&session)
    }

    /// One of the chunks whose length is not decided, or some other number.
    fn undecided(&self, nth: u64) -> u64 {
        let chunks = self.model.chunks.iter().filter(|(_, c)| !matches!(c.phase, Phase::Sealed(_)));
        let ids: Vec<u64> = chunks.map(|(id, _)| *id).collect();
        if nth == 9 || ids.is_empty() { nth } else { ids[nth as usize % ids.len()] }
    }

    /// One of the files, or some other number.
    fn file(&self, nth: u64) -> u64 {
        let files = self.model.nodes.iter().filter(|(_, n)| n.inode.is_file());
        let inos: Vec<u64> = files.map(|(ino, _)| *ino).collect();
        if nth > 11 || inos.is_empty() { nth } else { inos[nth as usize % inos.len()] }
    }

    /// The first chunk that the session holds, or some other number.
    fn held(&self, session: u64, number: u64) -> u64 {
        let mut held = self.model.chunks.iter().filter(|(_, c)| c.held && c.session == session);
        if number == 0 { held.next().map_or(1, |(id, _)| *id) } else { number }
    }

    fn ranges(&self, session: u64, ranges: &[Range]) -> Vec<Extent> {
        let held = |(at, length, chunk, offset): &Range| (*at, *length, self.held(session, *chunk), *offset);
        extents(&ranges.iter().map(held).collect::<Vec<Range>>())
    }

    fn generation(&self, ino: u64, shift: u64) -> Generation {
        let current = self.model.nodes.get(&ino).map_or(0, |n| n.inode.generation.0);
        match shift {
            0 => Generation(current),
            1 => Generation(current + 1),
            _ => Generation(current.saturating_sub(1)),
        }
    }

    fn operation(&self, step: &Step) -> Operation {
        let session = self.clients[step.client as usize];
        let placement = placement();
        match &step.verb {
            Verb::Mkdir(p, parents) => {
                Operation::Mkdir { target: target(p), mode: 0o750, uid: 0, gid: 0, parents: *parents }
            }
            Verb::Create(p, exclusive, truncate, ranges) => Operation::Create {
                target: target(p),
                mode: 0o640,
                uid: 0,
                gid: 0,
                exclusive: *exclusive,
                truncate: *truncate,
                extents: self.ranges(session, ranges),
            },
            Verb::Symlink(p, to) => Operation::Symlink { target: target(p), to: to.clone(), uid: 0, gid: 0 },
            Verb::Link(from, to) => Operation::Link { from: target(from), to: target(to) },
            Verb::Unlink(p) => Operation::Unlink { target: target(p) },
            Verb::Rmdir(p) => Operation::Rmdir { target: target(p) },
            Verb::RemoveTree(p) => Operation::RemoveTree { target: target(p) },
            Verb::Rename(from, to, no_replace, exchange) => Operation::Rename {
                from: target(from),
                to: target(to),
                no_replace: *no_replace,
                exchange: *exchange,
            },
            Verb::SetAttr(p, mode, size, mtime, version) => Operation::SetAttr {
                target: target(p),
                mode: *mode,
                uid: None,
                gid: None,
                size: *size,
                mtime: mtime.map(Timestamp),
                atime: None,
                expected_version: *version,
            },
            Verb::SetPolicy(p, set) => Operation::SetPolicy {
                target: Target { no_follow: false, ..target(p) },
                policy: set.then_some(Policy::single()),
            },
            Verb::Commit(nth, ranges, expected_length) => Operation::Commit {
                ino: InodeId(self.file(*nth)),
                extents: self.ranges(session, ranges),
                expected_length: *expected_length,
            },
            Verb::OpenChunk(ino) => Operation::OpenChunk { policy_of: InodeId(*ino), placement },
            Verb::OpenTail(nth, shift, number) => Operation::OpenTail {
                ino: InodeId(self.file(*nth)),
                generation: self.generation(self.file(*nth), *shift),
                writer: writer(session, *number),
                placement,
            },
            Verb::OpenExclusive(nth) => Operation::OpenExclusive { ino: InodeId(self.file(*nth)) },
            Verb::MountAdd(p) => Operation::MountAdd { target: target(p), source: mount_source() },
            Verb::MountRemove(p) => {
                Operation::MountRemove { target: Target { no_follow: false, ..target(p) } }
            }
            Verb::Release(n) => Operation::ReleaseChunk { chunk: ChunkId(self.held(session, *n)) },
            Verb::Share(share) => share.operation(),
            Verb::Transact(demands, verbs) => Operation::Transact {
                preconditions: demands.iter().map(|demand| self.demand(demand)).collect(),
                operations: verbs
                    .iter()
                    .map(|verb| self.operation(&Step { verb: verb.clone(), ..step.clone() }))
                    .collect(),
            },
            Verb::Holding(bits, right, verb) => {
                let files = self.model.nodes.iter().filter(|(_, n)| n.inode.is_file()).enumerate();
                let held =
                    files.filter(|(n, _)| bits >> (n % 64) & 3 == 3).map(|(_, (ino, _))| InodeId(*ino));
                let number = self.model.holding.speakers.get(&session).copied().unwrap_or(0);
                Operation::Holding {
                    number: number + u64::from(!*right),
                    inos: held.collect(),
                    operation: Box::new(self.operation(&Step { verb: (**verb).clone(), ..step.clone() })),
                }
            }
            // A repeat with nothing before it.
            _ => Operation::ReleaseChunk { chunk: ChunkId(0) },
        }
    }

    fn ask(&mut self, session: u64, operation: &Operation) -> Outcome {
        let model = &mut self.model;
        fn at(target: &Target) -> (u64, &[u8]) {
            (target.ino.0, &target.path)
        }
        fn full(target: &Target) -> (u64, &[u8], bool) {
            (target.ino.0, &target.path, target.no_follow)
        }
        match operation {
            Operation::Mkdir { target, mode, parents, .. } => model.mkdir(at(target), *mode, *parents),
            Operation::Create { target, mode, exclusive, truncate, extents, .. } => {
                model.create(full(target), (*mode, session), (*exclusive, *truncate), extents)
            }
            Operation::Symlink { target, to, .. } => model.symlink(at(target), to),
            Operation::Link { from, to } => model.link(full(from), at(to)),
            Operation::Unlink { target } => model.unlink(at(target)),
            Operation::Rmdir { target } => model.rmdir(at(target)),
            Operation::RemoveTree { target } => model.remove_tree(at(target)),
            Operation::Rename { from, to, no_replace, exchange } => {
                model.rename(at(from), at(to), *no_replace, *exchange)
            }
            Operation::SetAttr { target, mode, size, mtime, expected_version, .. } => {
                model.set_attr(full(target), *mode, *size, *mtime, *expected_version)
            }
            Operation::SetPolicy { target, policy } => model.set_policy(at(target), *policy),
            Operation::Commit { ino, extents, expected_length } => {
                model.commit(ino.0, session, extents, *expected_length)
            }
            Operation::OpenChunk { policy_of, .. } => model.open_chunk(session, policy_of.0),
            Operation::OpenTail { ino, generation, writer, .. } => {
                model.open_tail(ino.0, session, generation.0, *writer)
            }
            Operation::OpenExclusive { ino } => model.open_exclusive(ino.0),
            Operation::ReleaseChunk { chunk } => model.release(chunk.0, session),
            Operation::MountAdd { target, .. } => model.mount_add(at(target)),
            Operation::MountRemove { target } => model.mount_remove(at(target)),
            Operation::Clone { from, to, replace, recursive, .. } => {
                model.clone_to(full(from), full(to), *replace, *recursive)
            }
            Operation::CopyRange { from, from_offset, to, to_offset, length } => {
                model.copy_range((full(from), *from_offset), (full(to), *to_offset), *length)
            }
            Operation::Concat { target, from } => {
                model.concat(full(target), &from.iter().map(full).collect::<Vec<_>>())
            }
            Operation::PunchHole { target, offset, length, keep_size } => {
                model.punch_hole(full(target), *offset, *length, *keep_size)
            }
            Operation::Allocate { target, offset, length, keep_size } => {
                model.allocate(full(target), *offset, *length, *keep_size)
            }
            Operation::Transact { preconditions, operations } => {
                self.ask_all(session, preconditions, operations)
            }
            Operation::Holding { number, inos, operation } => {
                let known = self.model.holding.speakers.get(&session);
                self.model.holding.claim = known
                    .filter(|known| *known == number)
                    .map(|_| (session, inos.iter().map(|ino| ino.0).collect()));
                let outcome = self.ask(session, operation);
                self.model.holding.claim = None;
                outcome
            }
            Operation::MountAddAs { .. }
            | Operation::MountSet { .. }
            | Operation::MountRemoveWith { .. }
            | Operation::ConflictDismiss { .. } => unreachable!("namespace_mount_writes.rs has those"),
            Operation::RenewGrant { .. }
            | Operation::Mknod { .. }
            | Operation::SetXattr { .. }
            | Operation::RemoveXattr { .. }
            | Operation::SetAttrNow { .. } => unreachable!("namespace_posix.rs has those"),
            Operation::Lock { .. } | Operation::Unlock { .. } | Operation::CancelLock { .. } => {
                unreachable!("namespace_locks.rs has those")
            }
        }
    }
}

#[allow(clippy::large_enum_variant, reason = "short-lived, one at a time")]
enum Expected {
    Outcome(Outcome),
    Reply(Box<Reply>),
}

fn one(store: &dyn Store, index: u64, entry: &Entry) -> Reply {
    let mut txn = Txn::new(store);
    let reply = apply(&mut txn, LogIndex(index), entry).unwrap();
    store.write(txn.into_batch()).unwrap();
    reply
}

fn compare(world: &World, command: &Command, expected: &Expected, reply: &Reply) {
    let outcome = match expected {
        Expected::Reply(kept) => return assert_eq!(reply, &**kept, "a repeat of {command:?}"),
        Expected::Outcome(outcome) => outcome,
    };
    match (outcome, reply) {
        (Err(expected), Err(found)) => assert_eq!(found, expected, "{command:?}"),
        (Ok(told), Ok(answer)) => {
            let Answer { inode, chunk, generation, mount, steps, .. } = answer;
            assert_eq!(*steps, told.steps, "{command:?}");
            assert_eq!(*inode, told.inode, "{command:?}");
            assert_eq!(generation.map(|g| g.0), told.generation, "{command:?}");
            assert_eq!(mount.map(|m| m.0), told.mount, "{command:?}");
            assert_eq!(chunk.as_ref().map(|c| c.chunk.0), told.chunk, "{command:?}");
            if let Some(record) = chunk {
                same_chunk(&world.model, record);
            }
        }
        _ => panic!("{command:?}: expected {outcome:?}, found {reply:?}"),
    }
}

fn same_chunk(model: &Model, record: &ChunkRecord) {
    let id = record.chunk.0;
    let chunk = &model.chunks[&id];
    let phase = match record.state {
        ChunkState::Open => Phase::Open,
        ChunkState::Sealing => Phase::Sealing,
        ChunkState::Sealed => Phase::Sealed(record.sealed_length().unwrap()),
        ChunkState::Spare => unreachable!("namespace_spares.rs has those"),
    };
    let owner = match chunk.tail_of {
        0 => ChunkOwner::Session(SessionId(chunk.session)),
        ino => ChunkOwner::Tail { ino: InodeId(ino), base: chunk.base },
    };
    assert_eq!(phase, chunk.phase, "chunk {id}");
    assert_eq!((record.epoch.0, record.held, record.owner), (chunk.epoch, chunk.held, owner), "chunk {id}");
    assert_eq!(record.activation.generation.0, chunk.generation, "chunk {id}");
    assert_eq!(record.activation.marks, chunk.marks, "marks carried into chunk {id}");
    assert_eq!(record.live_bytes, model.live(id), "live bytes of chunk {id}");
}

/// The whole tree as clients read it.
fn same_tree(rows: &dyn Rows, model: &Model) {
    for (ino, node) in &model.nodes {
        let at = Target::ino(InodeId(*ino));
        let stat = read::stat(rows, &at).unwrap();
        assert_eq!(stat.inode, node.inode);
        if node.inode.is_dir() {
            assert_eq!(stat.policy, model.policy(*ino), "policy of {ino}");
            let listing = read::list(rows, InodeId(*ino), b"", 100).unwrap();
            let found: Vec<_> = listing.entries.into_iter().map(|e| (e.name, e.inode)).collect();
            let children = node.children.iter();
            let expect: Vec<_> =
                children.map(|(name, child)| (name.clone(), model.nodes[child].inode.clone())).collect();
            assert!(listing.last);
            assert_eq!(found, expect, "listing of {ino}");
        }
        if node.inode.kind == FileKind::File {
            let range = read::extents(rows, &at, 0, u64::MAX).unwrap();
            let mut bytes = BTreeMap::new();
            for extent in &range.extents {
                let ExtentSource::Chunk { chunk, offset } = extent.source else { panic!("{extent:?}") };
                for i in 0..extent.length {
                    bytes.insert(extent.file_offset + i, (chunk.0, offset + i));
                }
            }
            assert_eq!(bytes, node.bytes, "content of {ino}");
        }
    }
    for id in model.chunks.keys() {
        same_chunk(model, &read::chunk(rows, ChunkId(*id)).unwrap().unwrap());
    }
}

/// All rows of all tables.
type Dump = Vec<(Table, Vec<Row>)>;

fn dump(rows: &dyn Rows) -> Dump {
    let all = |table| rows.scan(table, &KeyRange::default(), usize::MAX).unwrap();
    Table::ALL.iter().map(|table| (*table, all(*table))).collect()
}

/// Every row that a transaction which is refused leaves as it was: all but its reply and the time.
fn held_by(rows: &dyn Rows, command: &Command) -> Option<(Dump, ClusterRecord)> {
    let Command::Request { operation: Operation::Transact { .. }, .. } = command else { return None };
    let cluster: ClusterRecord = keys::get(rows, counters::KEY).unwrap().unwrap();
    let moved = [Table::Replies, Table::Sessions, Table::Counters];
    let others = dump(rows).into_iter().filter(|(table, _)| !moved.contains(table)).collect();
    Some((others, ClusterRecord { time: Timestamp(0), ..cluster }))
}

/// Runs a history on the memory store against the model. Answers the log and the replies.
fn run(store: &dyn Store, history: &[Step]) -> (Vec<Entry>, Vec<Reply>) {
    let (log, replies, _) = run_world(store, history, false);
    (log, replies)
}

/// As [`run`], of sessions that say which unlinked files they hold, or do not. Answers the model too.
fn run_world(store: &dyn Store, history: &[Step], speaks: bool) -> (Vec<Entry>, Vec<Reply>, World) {
    let mut log = Vec::new();
    let mut replies = Vec::new();
    let mut world = World {
        model: Model::new(POLICY, Timestamp(1000)),
        time: 1000,
        sessions: (1..=SESSIONS).map(|session| (session, (1, None))).collect(),
        clients: (1..=SESSIONS).collect(),
        next_session: SESSIONS + 1,
        speaks,
    };
    let cluster = ClusterId([7; 16]);
    let mut setup = vec![Command::InitCluster { cluster, policy: POLICY }];
    setup.extend([1, 2].map(|n| Command::RegisterNode {
        disk: DiskId([n; 16]),
        address: format!("127.0.0.1:{n}"),
        incarnation: Incarnation(1),
        boot_id: [n; 16],
        capacity_bytes: 1 << 30,
        version: "1".into(),
    }));
    setup.extend((1..=SESSIONS).map(|session| world.open(session)));
    if speaks {
        world.model.holding.whole = true;
        setup.push(Command::RaiseLevel { to: FeatureLevel::THIRD });
    }
    for command in setup {
        let entry = Entry { time: Timestamp(1000), command };
        replies.push(one(store, log.len() as u64, &entry));
        log.push(entry);
    }
    assert!(replies.iter().all(Result::is_ok));
    for step in history {
        let stamped = Timestamp(world.time + step.time);
        world.time = world.time.max(stamped.0);
        world.model.now = Timestamp(world.time);
        world.model.holding.index = log.len() as u64;
        let (command, expected) = world.step(step);
        let entry = Entry { time: stamped, command };
        let before = held_by(store, &entry.command);
        let reply = one(store, log.len() as u64, &entry);
        compare(&world, &entry.command, &expected, &reply);
        if reply.is_err() {
            assert_eq!(held_by(store, &entry.command), before, "refused: {:?}", entry.command);
        }
        if let (Expected::Outcome(_), Command::Request { .. }) = (&expected, &entry.command)
            && let Some((_, last)) = world.sessions.get_mut(&world.clients[step.client as usize])
        {
            *last = Some((entry.command.clone(), reply.clone()));
        }
        replies.push(reply);
        log.push(entry);
    }
    same_tree(store, &world.model);
    invariants::check(store);
    (log, replies, world)
}

/// Applies a log in batches of the given sizes, over and over, with what is remembered from entry to entry.
fn replay(store: &dyn Store, log: &[Entry], sizes: &[usize]) -> Vec<Reply> {
    let (mut replies, mut memory) = (Vec::new(), Memory::default());
    let mut sizes = sizes.iter().cycle();
    while replies.len() < log.len() {
        let size = *sizes.next().unwrap();
        let mut txn = Txn::new(store);
        for entry in log.iter().skip(replies.len()).take(size) {
            let bytes = entry.to_bytes();
            let entry = Entry::from_bytes(&bytes).unwrap();
            let (index, bounds) = (LogIndex(replies.len() as u64), Bounds::default());
            replies.push(apply_after(&mut txn, &mut memory, index, &entry, bounds).unwrap());
        }
        store.write(txn.into_batch()).unwrap();
    }
    replies
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Every reply, the tree, the content and the invariants are the model's.
    #[test]
    fn the_state_machine_is_the_model(history in history()) {
        let store = MemoryStore::new();
        let (log, replies) = run(&store, &history);
        let batched = MemoryStore::new();
        prop_assert_eq!(replay(&batched, &log, &[5, 1, 17]), replies);
        prop_assert_eq!(dump(&batched), dump(&store));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// RocksDB and memory hold the same bytes and answer the same, however entries are batched.
    #[test]
    fn both_stores_hold_the_same_bytes(history in history(), sizes in proptest::collection::vec(1usize..30, 1..5)) {
        let memory = MemoryStore::new();
        let (log, replies) = run(&memory, &history);
        let dir = tempfile::tempdir().unwrap();
        let rocks = RocksStore::open(dir.path(), 0).unwrap();
        prop_assert_eq!(replay(&rocks, &log, &sizes), replies);
        prop_assert_eq!(dump(&*rocks.snapshot()), dump(&memory));
        invariants::check(&rocks);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, max_shrink_iters: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    /// What any history comes to is the same again after a dump and a load, and the checks find nothing.
    #[test]
    fn a_state_that_is_dumped_and_loaded_is_the_same(history in history()) {
        let store = MemoryStore::new();
        run(&store, &history);
        let loaded = MemoryStore::new();
        dumps::same_after_a_load(&store, &loaded);
        invariants::check(&loaded);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 100, failure_persistence: None, ..ProptestConfig::default() })]

    /// Both stores load the same bytes.
    #[test]
    fn both_stores_load_the_same_bytes(history in history()) {
        let memory = MemoryStore::new();
        run(&memory, &history);
        let dir = tempfile::tempdir().unwrap();
        let (rocks, again) = (RocksStore::open(dir.path(), 0).unwrap(), MemoryStore::new());
        dumps::same_after_a_load(&memory, &rocks);
        dumps::same_after_a_load(&*rocks.snapshot(), &again);
        prop_assert_eq!(dump(&*rocks.snapshot()), dump(&again));
    }
}

fn verb_name(command: &Command) -> String {
    let shown = match command {
        Command::Request { operation, .. } => format!("{operation:?}"),
        other => format!("{other:?}"),
    };
    shown.split([' ', '{', '(']).next().unwrap_or_default().to_owned()
}

/// The histories are worth their name: each verb succeeds in them, each refusal is met.
#[test]
fn histories_reach_every_verb_and_refusal() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut done: BTreeMap<String, u32> = BTreeMap::new();
    let mut refused: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..150 {
        let history = history().new_tree(&mut runner).unwrap().current();
        let (log, replies) = run(&MemoryStore::new(), &history);
        for (entry, reply) in log.iter().zip(replies) {
            match reply {
                Ok(_) => *done.entry(verb_name(&entry.command)).or_default() += 1,
                Err(error) => {
                    let shown = format!("{error:?}");
                    let name = shown.split(' ').next().unwrap_or_default().to_owned();
                    *refused.entry(name).or_default() += 1;
                }
            }
        }
    }
    let verbs = [
        "Mkdir",
        "Create",
        "Symlink",
        "Link",
        "Unlink",
        "Rmdir",
        "RemoveTree",
        "Rename",
        "SetAttr",
        "SetPolicy",
        "Commit",
        "OpenChunk",
        "OpenTail",
        "OpenExclusive",
        "ReleaseChunk",
        "MountAdd",
        "MountRemove",
        "BeginSeal",
        "FinishSeal",
        "AcceptLoss",
        "SealPlanned",
        "ExpireSession",
    ];
    for verb in verbs {
        assert!(done.get(verb).is_some_and(|n| *n >= 10), "{verb} hardly ever succeeds: {done:?}");
    }
    let errors = [
        "NotFound",
        "Exists",
        "NotDirectory",
        "IsDirectory",
        "NotEmpty",
        "InvalidPath",
        "IntoItself",
        "CrossMount",
        "ReadOnlyMount",
        "IsMountRoot",
        "IsRoot",
        "LinkDirectory",
        "TooManySymlinks",
        "TailOpen",
        "LengthMismatch",
        "VersionMismatch",
        "Fenced",
        "ChunkGone",
        "ChunkState",
        "SessionExpired",
        "Stale",
        "InvalidRequest",
        "InvalidTarget",
        "NoSuchMount",
    ];
    for error in errors {
        assert!(refused.contains_key(error), "{error} is never met: {refused:?}");
    }
}
