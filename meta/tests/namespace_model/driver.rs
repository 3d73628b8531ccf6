//! A state with a root, three data nodes and one session, driven by hand.
#![allow(dead_code, reason = "each test file uses a part of it")]

use cairn_meta::keys::chunks::{ChunkRecord, PlacedReplica};
use cairn_meta::namespace::{
    Answer, Bounds, Command, Entry, Memory, Operation, Placement, Reply, Target, apply_after, apply_within,
    read,
};
use cairn_meta::store::{KeyRange, MemoryStore, RocksStore, Row, Rows, Store, Table, Txn};
use cairn_types::{
    Chain, ChunkId, ClusterId, DiskId, Epoch, Extent, ExtentSource, FsError, Generation, Incarnation, Inode,
    InodeId, LogIndex, NodeId, Policy, Sequence, SessionId, Timestamp, WriterId, WriterMark,
};

use crate::invariants;

pub const POLICY: Policy = Policy { replicas: 2, min_replicas: 2, ..Policy::cluster() };
pub const FIRST: NodeId = NodeId(101);
pub const SECOND: NodeId = NodeId(102);

pub struct Driver {
    pub store: MemoryStore,
    pub index: u64,
    pub now: i64,
    pub sequence: u64,
    pub session: SessionId,
    pub bounds: Bounds,
    /// What is remembered from entry to entry; `None`: nothing is.
    pub memory: Option<Memory>,
    /// What was applied so far.
    pub log: Vec<(Entry, Bounds)>,
}

pub fn replica(node: NodeId) -> PlacedReplica {
    PlacedReplica { node, disk: DiskId([node.0 as u8; 16]), incarnation: Incarnation(1) }
}

pub fn placement() -> Option<Placement> {
    Some(Placement { replicas: vec![replica(FIRST), replica(SECOND)], primary: FIRST })
}

pub fn extent(file_offset: u64, length: u64, chunk: ChunkId, offset: u64) -> Extent {
    Extent { file_offset, length, source: ExtentSource::Chunk { chunk, offset } }
}

impl Driver {
    pub fn new() -> Self {
        let mut driver = Self {
            store: MemoryStore::new(),
            index: 0,
            now: 1_000_000_000,
            sequence: 0,
            session: SessionId(0),
            bounds: Bounds::default(),
            memory: None,
            log: Vec::new(),
        };
        driver.ok(Command::InitCluster { cluster: ClusterId([7; 16]), policy: POLICY });
        for node in [FIRST, SECOND, NodeId(103)] {
            let answer = driver.ok(register(node));
            assert_eq!(answer.node, Some(node));
        }
        driver.session = driver.ok(Command::OpenSession { client: "test".into() }).session.unwrap();
        driver
    }

    pub fn propose(&mut self, command: Command) -> Reply {
        self.index += 1;
        let entry = Entry { time: Timestamp(self.now), command };
        let mut txn = Txn::new(&self.store);
        let (index, bounds) = (LogIndex(self.index), self.bounds);
        let reply = match &mut self.memory {
            Some(memory) => apply_after(&mut txn, memory, index, &entry, bounds),
            None => apply_within(&mut txn, index, &entry, bounds),
        }
        .unwrap();
        self.store.write(txn.into_batch()).unwrap();
        self.log.push((entry, self.bounds));
        reply
    }

    pub fn ok(&mut self, command: Command) -> Answer {
        let shown = format!("{command:?}");
        self.propose(command).unwrap_or_else(|error| panic!("{shown}: {error:?}"))
    }

    pub fn ask(&mut self, operation: Operation) -> Reply {
        self.sequence += 1;
        self.ask_at(self.sequence, operation)
    }

    pub fn ask_at(&mut self, sequence: u64, operation: Operation) -> Reply {
        self.propose(Command::Request {
            session: self.session,
            sequence: Sequence(sequence),
            acknowledged_below: Sequence(sequence),
            operation,
        })
    }

    pub fn done(&mut self, operation: Operation) -> Answer {
        let shown = format!("{operation:?}");
        self.ask(operation).unwrap_or_else(|error| panic!("{shown}: {error:?}"))
    }

    pub fn mkdir(&mut self, path: &str) -> Inode {
        let target = Target::path(path);
        self.done(Operation::Mkdir { target, mode: 0o755, uid: 0, gid: 0, parents: true }).inode.unwrap()
    }

    pub fn create(&mut self, path: &str, extents: Vec<Extent>) -> Reply {
        self.ask(create(path, extents))
    }

    pub fn file(&mut self, path: &str) -> InodeId {
        self.create(path, Vec::new()).unwrap().inode.unwrap().ino
    }

    pub fn unlink(&mut self, path: &str) {
        self.done(Operation::Unlink { target: Target::path(path) });
    }

    pub fn stat(&self, path: &str) -> Result<Inode, FsError> {
        match read::stat(&self.store, &Target::path(path)) {
            Ok(stat) => Ok(stat.inode),
            Err(cairn_meta::namespace::NamespaceError::Refused(error)) => Err(error),
            Err(fault) => panic!("{fault}"),
        }
    }

    pub fn shared_chunk(&mut self) -> ChunkId {
        let operation = Operation::OpenChunk { policy_of: InodeId::ROOT, placement: placement() };
        self.done(operation).chunk.unwrap().chunk
    }

    pub fn writer(&self, number: u64) -> WriterId {
        WriterId::of(self.session, number).unwrap()
    }

    pub fn open_tail(&mut self, ino: InodeId, generation: u64, number: u64) -> Reply {
        let (generation, writer) = (Generation(generation), self.writer(number));
        self.ask(Operation::OpenTail { ino, generation, writer, placement: placement() })
    }

    pub fn chunk(&self, chunk: ChunkId) -> ChunkRecord {
        read::chunk(&self.store, chunk).unwrap().unwrap()
    }

    /// Closes an open chunk by a planned roll.
    pub fn close(&mut self, chunk: ChunkId, length: u64, marks: Vec<WriterMark>) -> ChunkRecord {
        let (epoch, mtime) = (self.chunk(chunk).epoch, Timestamp(self.now));
        let chain = Chain(1);
        let answer = self.ok(Command::SealPlanned { chunk, epoch, length, chain, marks, mtime });
        answer.chunk.unwrap()
    }

    /// Finishes the seal of a chunk that is Sealing.
    pub fn finish(&mut self, chunk: ChunkId, epoch: u32, length: u64, holders: Vec<NodeId>) -> Reply {
        self.propose(Command::FinishSeal {
            chunk,
            epoch: Epoch(epoch),
            length,
            chain: Chain(1),
            holders,
            marks: Vec::new(),
            mtime: Timestamp(self.now),
        })
    }

    /// Ends a chunk that is Sealing where an operator accepted it.
    pub fn accept_loss(&mut self, chunk: ChunkId, epoch: u32, length: u64, holders: Vec<NodeId>) -> Reply {
        self.propose(Command::AcceptLoss {
            chunk,
            epoch: Epoch(epoch),
            length,
            chain: Chain(1),
            answered: holders.clone(),
            holders,
            marks: Vec::new(),
            mtime: Timestamp(self.now),
            heard: length + 1,
        })
    }

    pub fn mark(&self, number: u64, sequence: u64, offset: u64) -> WriterMark {
        WriterMark { writer: self.writer(number), sequence: Sequence(sequence), offset }
    }

    pub fn check(&self) {
        invariants::check(&self.store);
    }
}

/// Every row of a state.
pub fn every_row(rows: &dyn Rows) -> Vec<Vec<Row>> {
    Table::ALL.iter().map(|t| rows.scan(*t, &KeyRange::default(), usize::MAX).unwrap()).collect()
}

/// Every row that a log leaves in RocksDB, when it is applied with what is remembered from entry to entry.
pub fn replayed_in_rocks(log: &[(Entry, Bounds)]) -> Vec<Vec<Row>> {
    let dir = tempfile::tempdir().unwrap();
    let rocks = RocksStore::open(dir.path(), 0).unwrap();
    let mut memory = Memory::default();
    for (index, (entry, bounds)) in log.iter().enumerate() {
        let mut txn = Txn::new(&rocks);
        let _ = apply_after(&mut txn, &mut memory, LogIndex(index as u64 + 1), entry, *bounds).unwrap();
        rocks.write(txn.into_batch()).unwrap();
    }
    every_row(&*rocks.snapshot())
}

pub fn create(path: &str, extents: Vec<Extent>) -> Operation {
    Operation::Create {
        target: Target::path(path),
        mode: 0o644,
        uid: 0,
        gid: 0,
        exclusive: false,
        truncate: false,
        extents,
    }
}

pub fn register(node: NodeId) -> Command {
    Command::RegisterNode {
        disk: replica(node).disk,
        address: format!("127.0.0.1:{}", node.0),
        incarnation: Incarnation(1),
        boot_id: [1; 16],
        capacity_bytes: 1 << 30,
        version: "1".into(),
    }
}
