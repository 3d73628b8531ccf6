//! A data node leaves while it lives: what each step promises, and histories of them against a model of who
//! holds what and who is to leave, the same on both stores.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "namespace_model/driver.rs"]
mod driver;
#[path = "namespace_model/invariants.rs"]
mod invariants;
#[path = "namespace_model/leaving_nodes.rs"]
mod leaving_nodes;

use std::collections::{BTreeMap, BTreeSet};

use cairn_meta::keys::queues::Queue;
use cairn_meta::namespace::{Command, Operation, Placement, Reply, STRIKE_MAX, jobs};
use cairn_types::{ChunkId, FsError, InodeId, LogIndex, NodeId};
use driver::{Driver, FIRST, SECOND, every_row, extent, replayed_in_rocks};
use leaving_nodes::{NODES, THIRD, id, path, persist, remove, sealed, waiting};
use proptest::prelude::*;

fn drain(node: NodeId) -> Command {
    Command::DrainNode { node, needed: 2 }
}

fn release(node: NodeId, chunks: &[ChunkId]) -> Command {
    Command::ReleaseReplicas { node, chunks: chunks.to_vec() }
}

fn end(d: &Driver, node: NodeId) -> Command {
    Command::EndDrain { node, seen: LogIndex(d.index) }
}

/// Whether a node is to leave (`Some`), and has (`Some(true)`).
fn leaving(d: &Driver, node: NodeId) -> Option<bool> {
    let disk = jobs::nodes(&d.store).unwrap().into_iter().find(|disk| disk.node == node)?;
    disk.drain.map(|drain| drain.done.is_some())
}

#[test]
fn a_drain_begins_once_ends_once_and_is_undone() {
    let mut d = Driver::new();
    assert_eq!(d.propose(drain(NodeId(999))), Err(FsError::NotFound));
    assert_eq!(d.propose(release(FIRST, &[])), Err(FsError::InvalidRequest), "it stays");
    let early = end(&d, FIRST);
    assert_eq!(d.propose(early), Err(FsError::InvalidRequest));
    d.ok(drain(FIRST));
    let disk = jobs::nodes(&d.store).unwrap().into_iter().find(|disk| disk.node == FIRST).unwrap();
    d.ok(drain(FIRST));
    let same = jobs::nodes(&d.store).unwrap().into_iter().find(|disk| disk.node == FIRST).unwrap();
    assert_eq!(disk, same, "a repeat changes nothing");
    let few = FsError::TooFewNodes { available: 1, needed: 2 };
    assert_eq!(d.propose(drain(SECOND)), Err(few), "one would be left");
    let many = vec![ChunkId(1); STRIKE_MAX + 1];
    assert_eq!(d.propose(release(FIRST, &many)), Err(FsError::InvalidRequest));
    d.ok(driver::register(FIRST));
    assert_eq!(leaving(&d, FIRST), Some(false), "its restart changes nothing about it");
    let ended = end(&d, FIRST);
    d.ok(ended.clone());
    d.ok(ended);
    assert_eq!(leaving(&d, FIRST), Some(true));
    d.ok(Command::UndrainNode { node: FIRST });
    d.ok(Command::UndrainNode { node: FIRST });
    assert_eq!(leaving(&d, FIRST), None);
    d.ok(drain(SECOND));
    d.ok(remove(FIRST));
    let gone: Reply = Err(FsError::NodeRemoved { node: FIRST });
    assert_eq!(d.propose(drain(FIRST)), gone);
    assert_eq!(d.propose(Command::UndrainNode { node: FIRST }), gone);
    d.check();
}

#[test]
fn a_chunk_that_was_placed_before_a_drain_is_opened_and_keeps_it_from_its_end() {
    let mut d = Driver::new();
    d.ok(drain(FIRST));
    let looked = end(&d, FIRST);
    let chunk = d.shared_chunk();
    assert!(d.chunk(chunk).replicas.iter().any(|r| r.node == FIRST), "no client hears of the drain");
    assert_eq!(d.propose(looked), Err(FsError::InvalidRequest), "the look did not see it");
    let later = end(&d, FIRST);
    d.ok(later);
    d.shared_chunk();
    assert_eq!(leaving(&d, FIRST), Some(false), "one that comes even later begins it again");
    d.check();
}

#[test]
fn a_copy_is_released_when_enough_others_that_stay_have_it_or_s3_has() {
    let mut d = Driver::new();
    let chunk = sealed(&mut d);
    d.ok(drain(FIRST));
    d.ok(release(FIRST, &[ChunkId(99), chunk]));
    assert!(d.chunk(chunk).is_holder(FIRST), "one other is fewer than min_replicas");
    d.ok(Command::AddHolder { chunk, node: THIRD });
    assert_eq!(waiting(&d, Queue::Surplus), Vec::<u64>::new());
    d.ok(release(FIRST, &[chunk]));
    let record = d.chunk(chunk);
    assert!(!record.is_holder(FIRST) && record.replicas.len() == 3, "{record:?}");
    assert_eq!(waiting(&d, Queue::Surplus), vec![chunk.0], "its replica is to be deleted");
    assert_eq!(waiting(&d, Queue::UnderReplicated), Vec::<u64>::new());
    d.ok(Command::DropReplica { chunk, node: FIRST });
    assert_eq!(d.chunk(chunk).replicas.len(), 2);
    d.check();

    let mut d = Driver::new();
    let chunk = sealed(&mut d);
    persist(&mut d, chunk);
    d.ok(drain(FIRST));
    d.ok(release(FIRST, &[chunk]));
    assert!(!d.chunk(chunk).is_holder(FIRST), "S3 has it");
    d.check();
}

#[test]
fn copies_on_nodes_that_leave_as_well_do_not_count() {
    let mut d = Driver::new();
    for node in [104, 105] {
        d.ok(driver::register(NodeId(node)));
    }
    let chunk = sealed(&mut d);
    d.ok(Command::AddHolder { chunk, node: THIRD });
    d.ok(drain(FIRST));
    d.ok(drain(SECOND));
    for node in [FIRST, SECOND] {
        d.ok(release(node, &[chunk]));
    }
    assert_eq!(d.chunk(chunk).sealed.unwrap().holders.len(), 3, "one of three stays");
    d.ok(Command::AddHolder { chunk, node: NodeId(104) });
    for node in [FIRST, SECOND] {
        d.ok(release(node, &[chunk]));
    }
    assert_eq!(d.chunk(chunk).sealed.unwrap().holders, [THIRD, NodeId(104)]);
    d.check();
}

#[derive(Clone, Debug)]
enum Step {
    /// A chunk on two nodes, closed at once.
    Open(u64, u64),
    Unlink(usize),
    Persist(usize),
    Copy(usize, u64),
    /// The node deletes its replica, if it may.
    Drop(usize, u64),
    Drain(u64),
    Undrain(u64),
    Release(u64),
    /// The look that ends a drain was so many entries ago.
    End(u64, u64),
    Remove(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let node = || 0..NODES;
    let nth = || 0usize..16;
    prop_oneof![
        5 => (node(), node()).prop_map(|(a, b)| Step::Open(a, b)),
        1 => nth().prop_map(Step::Unlink),
        1 => nth().prop_map(Step::Persist),
        4 => (nth(), node()).prop_map(|(nth, node)| Step::Copy(nth, node)),
        3 => (nth(), node()).prop_map(|(nth, node)| Step::Drop(nth, node)),
        2 => node().prop_map(Step::Drain),
        1 => node().prop_map(Step::Undrain),
        5 => node().prop_map(Step::Release),
        2 => (node(), 0u64..12).prop_map(|(node, ago)| Step::End(node, ago)),
        1 => node().prop_map(Step::Remove),
    ]
}

/// What the model knows of a chunk.
#[derive(Clone, Debug, Default)]
struct Known {
    live: bool,
    in_s3: bool,
    replicas: BTreeSet<u64>,
    holders: BTreeSet<u64>,
}

/// What it knows of a node that is to leave: the last entry that named it, and whether it has left.
#[derive(Clone, Copy, Debug)]
struct Leaves {
    named: u64,
    done: bool,
}

struct World {
    d: Driver,
    chunks: BTreeMap<u64, Known>,
    leaves: BTreeMap<u64, Leaves>,
    removed: BTreeSet<u64>,
}

impl World {
    fn new() -> Self {
        let mut d = Driver::new();
        for node in 3..NODES {
            d.ok(driver::register(id(node)));
        }
        Self { d, chunks: BTreeMap::new(), leaves: BTreeMap::new(), removed: BTreeSet::new() }
    }

    /// The `nth` of the chunks that `fit`.
    fn pick(&self, nth: usize, fit: impl Fn(&Known) -> bool) -> Option<u64> {
        let fitting: Vec<u64> = self.chunks.iter().filter(|(_, k)| fit(k)).map(|(c, _)| *c).collect();
        fitting.get(nth % fitting.len().max(1)).copied()
    }

    /// An entry that was just applied named the node.
    fn named(&mut self, node: u64) {
        let index = self.d.index;
        if let Some(leaves) = self.leaves.get_mut(&node) {
            *leaves = Leaves { named: index, done: false };
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Open(a, b) if a != b => self.open([a, b]),
            Step::Open(..) => {}
            Step::Unlink(nth) => {
                let Some(chunk) = self.pick(nth, |k| k.live) else { return };
                self.d.unlink(&path(chunk));
                self.chunks.get_mut(&chunk).unwrap().live = false;
            }
            Step::Persist(nth) => {
                let Some(chunk) = self.pick(nth, |k| k.live && !k.in_s3) else { return };
                persist(&mut self.d, ChunkId(chunk));
                self.chunks.get_mut(&chunk).unwrap().in_s3 = true;
            }
            Step::Copy(nth, node) => self.copy(nth, node),
            Step::Drop(nth, node) => self.drop(nth, node),
            Step::Drain(node) => self.drain(node),
            Step::Undrain(node) => {
                let reply = self.d.propose(Command::UndrainNode { node: id(node) });
                assert_eq!(reply.is_ok(), !self.removed.contains(&node));
                if reply.is_ok() {
                    self.leaves.remove(&node);
                }
            }
            Step::Release(node) => self.release(node),
            Step::End(node, ago) => self.end(node, ago),
            Step::Remove(node) => {
                self.d.ok(remove(id(node)));
                self.removed.insert(node);
            }
        }
    }

    fn open(&mut self, pair: [u64; 2]) {
        let replicas = pair.map(|node| driver::replica(id(node))).to_vec();
        let placement = Some(Placement { replicas, primary: id(pair[0]) });
        let reply = self.d.ask(Operation::OpenChunk { policy_of: InodeId::ROOT, placement });
        if pair.iter().any(|node| self.removed.contains(node)) {
            assert!(matches!(reply, Err(FsError::TooFewNodes { .. })), "{reply:?}");
            return;
        }
        let chunk = reply.unwrap().chunk.unwrap().chunk;
        pair.iter().for_each(|node| self.named(*node));
        self.d.create(&path(chunk.0), vec![extent(0, 10, chunk, 0)]).unwrap();
        self.d.close(chunk, 10, Vec::new());
        self.d.done(Operation::ReleaseChunk { chunk });
        let known = Known { live: true, in_s3: false, replicas: pair.into(), holders: pair.into() };
        self.chunks.insert(chunk.0, known);
    }

    fn copy(&mut self, nth: usize, node: u64) {
        let Some(chunk) = self.pick(nth, |_| true) else { return };
        let reply = self.d.propose(Command::AddHolder { chunk: ChunkId(chunk), node: id(node) });
        let known = self.chunks.get_mut(&chunk).unwrap();
        if known.holders.contains(&node) {
            reply.unwrap();
            return;
        }
        if self.removed.contains(&node) {
            assert_eq!(reply, Err(FsError::NodeRemoved { node: id(node) }));
            return;
        }
        reply.unwrap();
        known.holders.insert(node);
        known.replicas.insert(node);
        self.named(node);
    }

    fn drop(&mut self, nth: usize, node: u64) {
        let Some(chunk) = self.pick(nth, |k| k.live && k.replicas.contains(&node)) else { return };
        let reply = self.d.propose(Command::DropReplica { chunk: ChunkId(chunk), node: id(node) });
        let known = self.chunks.get_mut(&chunk).unwrap();
        if known.holders.contains(&node) {
            assert_eq!(reply, Err(FsError::ChunkState { chunk: ChunkId(chunk) }), "a holder deletes nothing");
        } else {
            reply.unwrap();
            known.replicas.remove(&node);
        }
    }

    fn goes(&self, node: u64) -> bool {
        self.leaves.contains_key(&node) || self.removed.contains(&node)
    }

    fn drain(&mut self, node: u64) {
        let reply = self.d.propose(drain(id(node)));
        if self.removed.contains(&node) {
            assert_eq!(reply, Err(FsError::NodeRemoved { node: id(node) }));
            return;
        }
        if self.leaves.contains_key(&node) {
            reply.unwrap();
            return;
        }
        let left = (0..NODES).filter(|other| *other != node && !self.goes(*other)).count();
        if left < 2 {
            let available = u8::try_from(left).unwrap();
            assert_eq!(reply, Err(FsError::TooFewNodes { available, needed: 2 }));
            return;
        }
        reply.unwrap();
        self.leaves.insert(node, Leaves { named: self.d.index, done: false });
    }

    fn release(&mut self, node: u64) {
        let all: Vec<ChunkId> = self.chunks.keys().map(|chunk| ChunkId(*chunk)).collect();
        let reply = self.d.propose(release(id(node), &all));
        if !self.leaves.contains_key(&node) {
            assert_eq!(reply, Err(FsError::InvalidRequest));
            return;
        }
        reply.unwrap();
        let stays: BTreeSet<u64> = (0..NODES).filter(|other| *other != node && !self.goes(*other)).collect();
        for known in self.chunks.values_mut().filter(|k| k.live) {
            if known.in_s3 || known.holders.intersection(&stays).count() >= 2 {
                known.holders.remove(&node);
            }
        }
    }

    fn end(&mut self, node: u64, ago: u64) {
        let seen = self.d.index.saturating_sub(ago);
        let reply = self.d.propose(Command::EndDrain { node: id(node), seen: LogIndex(seen) });
        match self.leaves.get_mut(&node) {
            _ if self.removed.contains(&node) => {
                assert_eq!(reply, Err(FsError::NodeRemoved { node: id(node) }));
            }
            Some(leaves) if leaves.named <= seen => {
                reply.unwrap();
                leaves.done = true;
            }
            _ => assert_eq!(reply, Err(FsError::InvalidRequest)),
        }
    }

    /// The state says what the model says; no live chunk that is not in S3 went below two holders by a
    /// release.
    fn compare(&self) {
        for (chunk, known) in self.chunks.iter().filter(|(_, k)| k.live) {
            let record = self.d.chunk(ChunkId(*chunk));
            let numbers = |nodes: Vec<NodeId>| nodes.iter().map(|n| n.0 - FIRST.0).collect::<BTreeSet<_>>();
            let replicas = numbers(record.replicas.iter().map(|r| r.node).collect());
            let holders = numbers(record.sealed.iter().flat_map(|s| s.holders.clone()).collect());
            assert_eq!((replicas, holders), (known.replicas.clone(), known.holders.clone()), "{known:?}");
            assert!(known.in_s3 || known.holders.len() >= 2, "{known:?}");
        }
        for node in 0..NODES {
            assert_eq!(leaving(&self.d, id(node)), self.leaves.get(&node).map(|l| l.done), "node {node}");
        }
        self.d.check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, max_shrink_iters: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever else happens, a draining node lets go only of what others that stay, or S3, have, and is
    /// drained only by a look that saw every chunk that was placed there.
    #[test]
    fn a_draining_node_lets_go_of_what_it_may_and_nothing_else_changes(
        steps in proptest::collection::vec(step(), 10..60),
    ) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
            world.compare();
        }
        prop_assert_eq!(every_row(&world.d.store), replayed_in_rocks(&world.d.log));
    }
}
