//! An operator has a data node drained: nothing new is placed there, what only it has is copied before
//! it goes, and then it may leave. And which chunks get copies first, and where they go.

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::time::Duration;

use cairn_proto::v1::drain_node_request::Action;
use cairn_proto::v1::report_work_request::Outcome;
use cairn_proto::v1::work::Work;
use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::{NodeId, Persist, Policy};

use super::data_node::FakeNode;
use super::persist::next;
use super::{Cluster, LONG, eventually};

/// Longer than any test: nobody is silent.
const NEVER: Duration = Duration::from_secs(1000);

fn kept(replicas: u8, min_replicas: u8) -> Policy {
    Policy { replicas, min_replicas, persist: Persist::Never, ..Policy::cluster() }
}

impl Cluster {
    async fn drain(&self, node: u64, action: Action, wait_ms: u64) -> Result<v1::DrainNodeReply, WireError> {
        let request = self.request(v1::DrainNodeRequest { node, action: action.into(), wait_ms });
        Ok(self.meta.clone().drain_node(request).await?.into_inner())
    }

    /// The feature level is raised by the leader as soon as its members apply it.
    async fn raised(&self) {
        let raised = async || (self.node.status().level >= cairn_types::FeatureLevel::FOURTH).then_some(());
        eventually("the level is raised", raised).await;
    }

    /// A tail of 60 bytes at each of its nodes, sealed.
    async fn tail(&self, path: &str, nodes: &[FakeNode<'_>]) -> v1::Chunk {
        let session = self.session().await;
        let ino = session.create(path).await.ino;
        let chunk = session.open_tail(ino, 1).await.expect("a tail").chunk;
        nodes.iter().for_each(|n| n.hold(chunk, 60, 0));
        self.seal(chunk, LONG).await.expect("sealed")
    }

    /// The nodes that have a chunk, by its record.
    async fn holders(&self, chunk: u64) -> BTreeSet<u64> {
        self.chunk(chunk).await.expect("known").replicas.iter().map(|r| r.node).collect()
    }
}

fn copy(work: Work) -> Option<v1::CopyReplica> {
    if let Work::Copy(copy) = work { Some(copy) } else { None }
}

fn let_go(work: Work) -> Option<v1::SealedNotice> {
    if let Work::Sealed(notice) = work { Some(notice).filter(|n| !n.holder) } else { None }
}

fn copied(chunk: u64) -> Outcome {
    Outcome::Copied(v1::Copied { chunk })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_a_draining_node_has_is_copied_before_it_lets_go_of_it() {
    let cluster = Cluster::with(kept(2, 2), NEVER).await;
    cluster.raised().await;
    let nodes = FakeNode::start_all(&cluster, 3).await;
    let sealed = cluster.tail("/log", &nodes).await;
    let had: Vec<u64> = sealed.replicas.iter().map(|r| r.node).collect();
    let leaves = nodes.iter().find(|n| n.id == had[0]).expect("one of them");
    let spare = nodes.iter().find(|n| !had.contains(&n.id)).expect("the third");
    let mut its_work = leaves.pull().await;
    let mut spare_work = spare.pull().await;

    let asked = cluster.drain(leaves.id, Action::Drain, 0).await.expect("it is drained");
    assert!(!asked.already && asked.node.as_ref().is_some_and(|n| n.draining && !n.drained && n.alive));
    let again = cluster.drain(leaves.id, Action::Drain, 0).await.expect("the same");
    assert!(again.already && again.node.is_some_and(|n| n.draining));
    let session = cluster.session().await;
    for n in 0..12 {
        let ino = session.create(&format!("/new-{n}")).await.ino;
        let chunk = session.open_tail(ino, 1).await.expect("the others take it");
        assert!(chunk.replicas.iter().all(|r| r.node != leaves.id), "{:?}", chunk.replicas);
    }

    let wanted = next(&mut spare_work, copy).await;
    assert_eq!((wanted.chunk, wanted.length), (sealed.chunk, 60));
    assert!(wanted.sources.iter().any(|s| s.node == leaves.id), "it is read there as well");
    assert!(cluster.holders(sealed.chunk).await.contains(&leaves.id), "not before the copy is made");
    eventually("the status tells of it", async || {
        let status = cluster.status().await;
        let node = status.nodes.iter().find(|n| n.node == leaves.id)?;
        (node.draining && node.drain_chunks == 1 && node.drain_bytes == 60).then_some(())
    })
    .await;
    spare.report(0, copied(sealed.chunk)).await.expect("reported");
    let notice = next(&mut its_work, let_go).await;
    assert_eq!(notice.chunk, sealed.chunk);
    assert_eq!(cluster.holders(sealed.chunk).await, [had[1], spare.id].into());
    let waiting = cluster.drain(leaves.id, Action::Look, 1).await.expect("told");
    assert!(waiting.node.is_some_and(|n| n.draining && !n.drained), "its replica is still there");

    leaves.report(0, Outcome::SealedNoticeDone(sealed.chunk)).await.expect("reported");
    let done = eventually("it is drained", async || {
        let told = cluster.drain(leaves.id, Action::Look, 500).await.expect("told").node?;
        told.drained.then_some(told)
    })
    .await;
    assert!(!done.draining && done.drain_chunks == 0 && done.alive, "{done:?}");

    let back = cluster.drain(leaves.id, Action::Undrain, 0).await.expect("it stays");
    assert!(!back.already && back.node.is_some_and(|n| !n.draining && !n.drained));
    assert!(cluster.drain(leaves.id, Action::Undrain, 0).await.expect("the same").already);
    let mut n = 0;
    eventually("it gets chunks again", async || {
        n += 1;
        let ino = session.create(&format!("/again-{n}")).await.ino;
        let chunk = session.open_tail(ino, 1).await.expect("a tail");
        chunk.replicas.iter().any(|r| r.node == leaves.id).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_open_chunks_of_a_draining_node_are_sealed() {
    let cluster = Cluster::with(kept(2, 2), NEVER).await;
    cluster.raised().await;
    let nodes = FakeNode::start_all(&cluster, 3).await;
    let session = cluster.session().await;
    let ino = session.create("/log").await.ino;
    let open = session.open_tail(ino, 1).await.expect("a tail");
    nodes.iter().for_each(|n| n.hold(open.chunk, 30, 0));
    let leaves = open.replicas[0].node;
    cluster.drain(leaves, Action::Drain, 0).await.expect("it is drained");
    eventually("it is sealed", async || {
        let chunk = cluster.chunk(open.chunk).await.ok()?;
        (chunk.state() == v1::ChunkState::Sealed && chunk.length == 30).then_some(())
    })
    .await;
    let next = session.open_tail(ino, 1).await.expect("the writer goes on");
    assert!(next.chunk != open.chunk && next.replicas.iter().all(|r| r.node != leaves));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_which_too_few_are_left_is_not_drained() {
    let cluster = Cluster::with(kept(3, 2), Duration::from_secs(3)).await;
    cluster.raised().await;
    let nodes = FakeNode::start_all(&cluster, 3).await;
    let unknown = ServiceError::NoSuchNode { node: NodeId(999) };
    assert_eq!(cluster.drain(999, Action::Drain, 0).await, Err(WireError::Service(unknown)));
    let malformed = ServiceError::Malformed { field: "node".into() };
    assert_eq!(cluster.drain(0, Action::Look, 0).await, Err(WireError::Service(malformed)));

    cluster.drain(nodes[0].id, Action::Drain, 0).await.expect("two are left");
    let few = |node: u64| ServiceError::TooFewLeft { node: NodeId(node), left: 1, needed: 2 };
    let second = cluster.drain(nodes[1].id, Action::Drain, 0).await;
    assert_eq!(second, Err(WireError::Service(few(nodes[1].id))));
    assert!(!cluster.status().await.nodes.iter().any(|n| n.node == nodes[1].id && n.draining));
    // The same when one of the two that would be left does not answer.
    cluster.drain(nodes[0].id, Action::Undrain, 0).await.expect("it stays");
    cluster.clock.skip(Duration::from_secs(5));
    for node in &nodes[..2] {
        node.beat().await;
    }
    let first = cluster.drain(nodes[0].id, Action::Drain, 0).await;
    assert_eq!(first, Err(WireError::Service(few(nodes[0].id))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chunk_that_has_one_copy_gets_its_second_before_another_gets_its_third() {
    // One byte a second: one copy now, the next one long after.
    let slow = NonZeroU64::new(1);
    let cluster = Cluster::repairing_at(slow, kept(3, 1), NEVER).await;
    let nodes = FakeNode::start_all(&cluster, 2).await;
    let two = cluster.tail("/two", &nodes).await;
    assert_eq!(cluster.holders(two.chunk).await.len(), 2);
    // Opened later, at one node alone.
    let session = cluster.session().await;
    let ino = session.create("/one").await.ino;
    let one = session.open_tail_avoiding(ino, 1, &[nodes[1].id]).await.expect("a tail").chunk;
    nodes[0].hold(one, 60, 0);
    cluster.seal(one, LONG).await.expect("sealed");
    assert_eq!(cluster.holders(one).await, [nodes[0].id].into());
    let known = eventually("both are known, and the other node is asked for its copy of one", async || {
        let status = cluster.status().await;
        (status.repair_chunks == 2 && status.copies_running == 1).then_some(status)
    })
    .await;
    assert_eq!((known.repair_single, known.repair_bytes, known.copies_running_bytes), (1, 120, 60));
    assert_eq!(known.chunks_under_replicated, 2);
    let fresh = FakeNode::start(&cluster, 3).await;
    let mut work = fresh.pull().await;
    let first = next(&mut work, copy).await;
    assert_eq!(first.chunk, one, "the one of which there is one copy, though it is younger");
    assert_eq!(cluster.status().await.copies_running, 2, "the rate lets no further one pass");
    fresh.report(0, copied(first.chunk)).await.expect("reported");
    cluster.clock.skip(Duration::from_secs(120));
    let second = next(&mut work, copy).await;
    assert_eq!(second.chunk, two.chunk);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_and_their_further_copies_are_spread_over_zones_and_processes() {
    let cluster = Cluster::with(kept(3, 2), NEVER).await;
    cluster.raised().await;
    let mut nodes = Vec::new();
    for (disk, zone) in [(1, "a"), (2, "a"), (3, "a"), (4, "b"), (5, "c")] {
        nodes.push(FakeNode::start_in(&cluster, disk, zone, "").await);
    }
    // A second disk of the process in c.
    let twin = FakeNode::start_beside(&cluster, 6, &nodes[4], "c").await;
    let zone = |node: u64| match nodes.iter().position(|n| n.id == node) {
        Some(0..=2) => "a",
        Some(3) => "b",
        _ => "c",
    };
    let session = cluster.session().await;
    for n in 0..20 {
        let ino = session.create(&format!("/f-{n}")).await.ino;
        let chunk = session.open_tail(ino, 1).await.expect("a tail");
        let zones: BTreeSet<&str> = chunk.replicas.iter().map(|r| zone(r.node)).collect();
        assert_eq!(zones, ["a", "b", "c"].into(), "{:?}", chunk.replicas);
    }
    let shown = cluster.status().await.nodes;
    let of = |id: u64| shown.iter().find(|n| n.node == id).expect("listed");
    assert_eq!((of(nodes[3].id).zone.as_str(), of(twin.id).zone.as_str()), ("b", "c"));
    assert_eq!(of(nodes[0].id).host, "01".repeat(16), "the boot id, where no host is named");
    let malformed = FakeNode::try_start_in(&cluster, 7, "no zone", "").await;
    assert_eq!(
        malformed.map(|node| node.id),
        Err(WireError::Service(ServiceError::Malformed { field: "zone".into() }))
    );
}
