//! A data node that is gone for good leaves the records of chunks: what each step promises, and
//! histories of them against a model of who holds what.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "namespace_model/driver.rs"]
mod driver;
#[path = "namespace_model/invariants.rs"]
mod invariants;
#[path = "namespace_model/leaving_nodes.rs"]
mod leaving_nodes;

use std::collections::{BTreeMap, BTreeSet};

use cairn_meta::keys::queues::Queue;
use cairn_meta::namespace::{Command, Operation, Placement, Reply, STRIKE_MAX, jobs, read};
use cairn_types::{ChunkId, Epoch, FsError, Incarnation, InodeId, NodeId};
use driver::{Driver, FIRST, SECOND, extent};
use leaving_nodes::{NODES, THIRD, id, path, persist, remove, sealed, waiting};
use proptest::prelude::*;

fn strike(node: NodeId, chunks: &[ChunkId]) -> Command {
    Command::StrikeReplicas { node, chunks: chunks.to_vec() }
}

#[test]
fn a_removed_disk_never_registers_again_and_gets_no_chunk() {
    let mut d = Driver::new();
    let ino = d.file("/f");
    let other = Command::RemoveNode { node: SECOND, incarnation: Incarnation(9) };
    assert_eq!(d.propose(other), Err(FsError::InvalidRequest), "not the process that was found silent");
    assert_eq!(d.propose(remove(NodeId(999))), Err(FsError::NotFound));
    assert_eq!(d.propose(strike(SECOND, &[])), Err(FsError::InvalidRequest), "it is not removed");
    assert_eq!(d.propose(Command::EndRemoval { node: SECOND }), Err(FsError::NotFound));
    d.ok(remove(SECOND));
    let removed = jobs::removed(&d.store).unwrap();
    assert_eq!(d.ok(remove(SECOND)).node, Some(SECOND), "a repeat");
    assert_eq!(jobs::removed(&d.store).unwrap(), removed, "it changes nothing");
    assert_eq!((removed.len(), removed[0].node, removed[0].struck), (1, SECOND, None));
    let many = vec![ChunkId(1); STRIKE_MAX + 1];
    assert_eq!(d.propose(strike(SECOND, &many)), Err(FsError::InvalidRequest));
    let gone: Reply = Err(FsError::NodeRemoved { node: SECOND });
    assert_eq!(d.propose(driver::register(SECOND)), gone);
    let few = FsError::TooFewNodes { available: 1, needed: 2 };
    assert_eq!(d.open_tail(ino, 0, 1), Err(few), "it was placed before");
    d.check();
    d.ok(Command::EndRemoval { node: SECOND });
    let left: Vec<NodeId> = jobs::nodes(&d.store).unwrap().into_iter().map(|n| n.node).collect();
    assert_eq!(left, [FIRST, THIRD]);
    assert_eq!(d.propose(driver::register(SECOND)), gone, "nor ever after");
    assert_eq!(d.ok(remove(SECOND)).node, Some(SECOND), "a repeat that comes late");
    d.check();
}

#[test]
fn what_others_hold_is_struck_and_waits_for_a_further_copy_and_a_last_copy_is_kept_in_the_record() {
    let mut d = Driver::new();
    let chunk = sealed(&mut d);
    d.ok(remove(FIRST));
    assert_eq!(waiting(&d, Queue::UnderReplicated), Vec::<u64>::new());
    d.ok(strike(FIRST, &[ChunkId(99), chunk]));
    let record = d.chunk(chunk);
    assert!(record.is_holder(SECOND) && record.replicas.len() == 1, "{record:?}");
    assert_eq!(waiting(&d, Queue::UnderReplicated), vec![chunk.0]);
    let late = d.propose(Command::AddHolder { chunk, node: FIRST });
    assert_eq!(late, Err(FsError::NodeRemoved { node: FIRST }));
    d.ok(Command::AddHolder { chunk, node: THIRD });
    assert_eq!(waiting(&d, Queue::UnderReplicated), Vec::<u64>::new());
    d.check();
    for node in [SECOND, THIRD] {
        d.ok(remove(node));
    }
    for node in [SECOND, THIRD] {
        d.ok(strike(node, &[chunk]));
    }
    let record = d.chunk(chunk);
    assert!(record.is_holder(THIRD) && record.replicas.len() == 1, "who had it is said: {record:?}");
    d.check();
    d.unlink("/a");
    d.ok(strike(THIRD, &[chunk]));
    assert_eq!(read::chunk(&d.store, chunk).unwrap(), None, "nobody needs it, and nobody is to delete it");
    d.check();
}

#[test]
fn an_undecided_chunk_is_left_to_its_seal() {
    let mut d = Driver::new();
    let ino = d.file("/f");
    let chunk = d.open_tail(ino, 0, 1).unwrap().chunk.unwrap().chunk;
    d.ok(remove(SECOND));
    d.ok(strike(SECOND, &[chunk]));
    assert_eq!(d.chunk(chunk).replicas.len(), 2);
    d.ok(Command::BeginSeal { chunk, epoch: Epoch(1) });
    d.ok(strike(SECOND, &[chunk]));
    assert_eq!(d.chunk(chunk).replicas.len(), 2);
    d.finish(chunk, 2, 10, vec![FIRST]).unwrap();
    assert_eq!(waiting(&d, Queue::Surplus), vec![chunk.0], "it waits for the removed node");
    d.ok(strike(SECOND, &[chunk]));
    assert_eq!(waiting(&d, Queue::Surplus), Vec::<u64>::new());
    assert_eq!(d.chunk(chunk).replicas.len(), 1);
    d.check();
}

#[test]
fn what_is_in_s3_needs_no_holder_and_goes_when_nothing_points_at_it() {
    let mut d = Driver::new();
    let chunk = sealed(&mut d);
    persist(&mut d, chunk);
    for node in [FIRST, SECOND] {
        d.ok(remove(node));
        d.ok(strike(node, &[chunk]));
    }
    let record = d.chunk(chunk);
    assert!(record.replicas.is_empty() && record.place.is_some(), "{record:?}");
    assert_eq!(waiting(&d, Queue::UnderReplicated), Vec::<u64>::new());
    d.check();
    d.unlink("/a");
    assert_eq!(waiting(&d, Queue::Garbage), vec![chunk.0]);
    d.ok(Command::DropReplica { chunk, node: FIRST });
    assert_eq!(read::chunk(&d.store, chunk).unwrap(), None);
    assert_eq!(waiting(&d, Queue::DeadPacks).len(), 1);
    d.check();
}

#[derive(Clone, Debug)]
enum Step {
    /// A chunk on two nodes, and whether its end is planned.
    Open(u64, u64, bool),
    /// One whose end is not decided; its first replica, its second, or both hold it.
    Seal(usize, u8),
    Unlink(usize),
    Persist(usize),
    Copy(usize, u64),
    Remove(u64),
    Strike(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let node = || 0..NODES;
    let nth = || 0usize..16;
    prop_oneof![
        6 => (node(), node(), any::<bool>()).prop_map(|(a, b, planned)| Step::Open(a, b, planned)),
        4 => (nth(), 0u8..3).prop_map(|(nth, who)| Step::Seal(nth, who)),
        2 => nth().prop_map(Step::Unlink),
        1 => nth().prop_map(Step::Persist),
        3 => (nth(), node()).prop_map(|(nth, node)| Step::Copy(nth, node)),
        1 => node().prop_map(Step::Remove),
        4 => node().prop_map(Step::Strike),
    ]
}

/// What the model knows of a chunk.
#[derive(Clone, Debug, Default)]
struct Known {
    pair: [u64; 2],
    sealed: bool,
    live: bool,
    in_s3: bool,
    replicas: BTreeSet<u64>,
    holders: BTreeSet<u64>,
}

struct World {
    d: Driver,
    chunks: BTreeMap<u64, Known>,
    removed: BTreeSet<u64>,
}

impl World {
    fn new() -> Self {
        let mut d = Driver::new();
        for node in 3..NODES {
            d.ok(driver::register(id(node)));
        }
        Self { d, chunks: BTreeMap::new(), removed: BTreeSet::new() }
    }

    /// The `nth` of the chunks that `fit`.
    fn pick(&self, nth: usize, fit: impl Fn(&Known) -> bool) -> Option<u64> {
        let fitting: Vec<u64> = self.chunks.iter().filter(|(_, k)| fit(k)).map(|(c, _)| *c).collect();
        fitting.get(nth % fitting.len().max(1)).copied()
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Open(a, b, planned) if a != b => self.open([a, b], planned),
            Step::Open(..) => {}
            Step::Seal(nth, who) => self.seal(nth, who),
            Step::Unlink(nth) => {
                let Some(chunk) = self.pick(nth, |k| k.live) else { return };
                self.d.unlink(&path(chunk));
                self.chunks.get_mut(&chunk).unwrap().live = false;
            }
            Step::Persist(nth) => {
                let Some(chunk) = self.pick(nth, |k| k.sealed && k.live && !k.in_s3) else { return };
                persist(&mut self.d, ChunkId(chunk));
                self.chunks.get_mut(&chunk).unwrap().in_s3 = true;
            }
            Step::Copy(nth, node) => self.copy(nth, node),
            Step::Remove(node) => {
                self.d.ok(remove(id(node)));
                self.removed.insert(node);
            }
            Step::Strike(node) => self.strike(node),
        }
    }

    fn open(&mut self, pair: [u64; 2], planned: bool) {
        let replicas = pair.map(|node| driver::replica(id(node))).to_vec();
        let placement = Some(Placement { replicas, primary: id(pair[0]) });
        let reply = self.d.ask(Operation::OpenChunk { policy_of: InodeId::ROOT, placement });
        let left = pair.iter().filter(|node| !self.removed.contains(node)).count();
        if left < 2 {
            let available = u8::try_from(left).unwrap();
            assert_eq!(reply, Err(FsError::TooFewNodes { available, needed: 2 }));
            return;
        }
        let chunk = reply.unwrap().chunk.unwrap().chunk;
        self.d.create(&path(chunk.0), vec![extent(0, 10, chunk, 0)]).unwrap();
        let mut known = Known { pair, live: true, replicas: pair.into(), ..Known::default() };
        if planned {
            self.d.close(chunk, 10, Vec::new());
            (known.sealed, known.holders) = (true, pair.into());
        }
        self.d.done(Operation::ReleaseChunk { chunk });
        self.chunks.insert(chunk.0, known);
    }

    fn seal(&mut self, nth: usize, who: u8) {
        let Some(chunk) = self.pick(nth, |k| !k.sealed) else { return };
        let known = self.chunks.get_mut(&chunk).unwrap();
        let [first, second] = known.pair;
        let holders = match who {
            0 => vec![first],
            1 => vec![second],
            _ => vec![first, second],
        };
        let nodes = holders.iter().map(|node| id(*node)).collect();
        self.d.finish(ChunkId(chunk), 2, 10, nodes).unwrap();
        (known.sealed, known.holders) = (true, holders.into_iter().collect());
    }

    fn copy(&mut self, nth: usize, node: u64) {
        let Some(chunk) = self.pick(nth, |k| k.sealed) else { return };
        let reply = self.d.propose(Command::AddHolder { chunk: ChunkId(chunk), node: id(node) });
        let known = self.chunks.get_mut(&chunk).unwrap();
        if !known.holders.contains(&node) && self.removed.contains(&node) {
            assert_eq!(reply, Err(FsError::NodeRemoved { node: id(node) }));
            return;
        }
        reply.unwrap();
        known.holders.insert(node);
        known.replicas.insert(node);
    }

    fn strike(&mut self, node: u64) {
        let all: Vec<ChunkId> = self.chunks.keys().map(|chunk| ChunkId(*chunk)).collect();
        let reply = self.d.propose(strike(id(node), &all));
        if !self.removed.contains(&node) {
            assert_eq!(reply, Err(FsError::InvalidRequest));
            return;
        }
        reply.unwrap();
        self.chunks.retain(|_, known| {
            let last = known.live && !known.in_s3 && known.holders == BTreeSet::from([node]);
            if known.sealed && !last && known.replicas.remove(&node) {
                known.holders.remove(&node);
                return known.live || !known.replicas.is_empty();
            }
            true
        });
    }

    /// The state says of every chunk what the model says.
    fn compare(&self) {
        for (chunk, known) in &self.chunks {
            let record = self.d.chunk(ChunkId(*chunk));
            let numbers = |nodes: Vec<NodeId>| nodes.iter().map(|n| n.0 - FIRST.0).collect::<BTreeSet<_>>();
            let replicas = numbers(record.replicas.iter().map(|r| r.node).collect());
            let holders = numbers(record.sealed.iter().flat_map(|s| s.holders.clone()).collect());
            assert_eq!((replicas, holders), (known.replicas.clone(), known.holders.clone()), "{known:?}");
        }
        let counts = read::cluster(&self.d.store).unwrap().counts;
        assert_eq!(counts.chunks_sealing + counts.chunks_sealed, self.chunks.len() as u64);
        self.d.check();
    }

    /// Strikes until nothing changes, and lets go of the nodes that nothing names.
    fn settle(&mut self) {
        for _ in 0..NODES {
            for node in self.removed.clone() {
                self.strike(node);
            }
        }
        self.compare();
        for node in self.removed.clone() {
            let mut naming = self.chunks.values().filter(|k| k.replicas.contains(&node)).peekable();
            if naming.peek().is_none() {
                self.d.ok(Command::EndRemoval { node: id(node) });
            }
            for known in naming {
                let last = known.live && !known.in_s3 && known.holders.len() == 1;
                assert!(!known.sealed || last && known.holders.contains(&node), "{node}: {known:?}");
            }
        }
        self.d.check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_shrink_iters: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever else happens to chunks, a removed node leaves all but those that are undecided and
    /// those whose last copy it had; no other copy is touched.
    #[test]
    fn a_removed_node_leaves_what_it_may_and_nothing_else_changes(
        steps in proptest::collection::vec(step(), 10..60),
    ) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
            world.compare();
        }
        world.settle();
    }
}
