//! A chunk's end is decided by its replicas (rules R4 and R5), whoever is away.

use std::time::Duration;

use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::{FsError, Policy};

use super::data_node::{FakeNode, Held, chain};
use super::{Cluster, LONG, eventually};

/// A file with an open tail on three nodes.
async fn open_tail(cluster: &Cluster) -> (u64, v1::Chunk) {
    let session = cluster.session().await;
    let ino = session.create("/log").await.ino;
    (ino, session.open_tail(ino, 1).await.expect("a tail"))
}

fn holders(sealed: &v1::Chunk) -> Vec<u64> {
    let mut holders: Vec<u64> = sealed.replicas.iter().map(|r| r.node).collect();
    holders.sort_unstable();
    holders
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_enough_nodes_no_chunk_opens_and_the_same_request_works_later() {
    let cluster = Cluster::start().await;
    let _one = FakeNode::start(&cluster, 1).await;
    let session = cluster.session().await;
    let ino = session.create("/log").await.ino;
    let open = v1::OpenTail { ino, generation: 0, writer: session.id << 20, avoid: vec![] };
    let open = || v1::mutate_request::Operation::OpenTail(open.clone());
    let refused = session.mutate_as(7, open()).await;
    assert_eq!(refused, Err(WireError::Fs(FsError::TooFewNodes { available: 1, needed: 2 })));
    let _two = FakeNode::start(&cluster, 2).await;
    let chunk = session.mutate_as(7, open()).await.expect("a tail").chunk.expect("a chunk");
    assert_eq!(chunk.replicas.len(), 2);
    assert!(chunk.replicas.iter().all(|r| !r.address.is_empty() && r.incarnation == 1));
    let activation = chunk.activation.expect("an activation");
    assert_eq!((activation.ino, activation.base, activation.session), (ino, 0, 0));
    assert_eq!(cluster.chunk(chunk.chunk).await, Ok(chunk.clone()));
    let again = session.open_tail(ino, 1).await.expect("the open tail");
    assert_eq!(again.chunk, chunk.chunk);
    assert_eq!(cluster.stat("/log").await.expect("there").tail.map(|t| t.chunk), Some(chunk.chunk));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn short_replicas_are_brought_to_the_longest_and_the_file_ends_there() {
    let cluster = Cluster::start().await;
    let nodes = FakeNode::start_all(&cluster, 3).await;
    let (ino, chunk) = open_tail(&cluster).await;
    let mark = v1::WriterMark { writer: 1 << 20 | 1, sequence: 9, offset: 90 };
    for (node, length) in nodes.iter().zip([90, 100, 90]) {
        let held = Held { length, marks: vec![mark], heard: 90, ..Held::default() };
        node.change(|d| drop(d.held.insert(chunk.chunk, held)));
    }
    let sealed = cluster.seal(chunk.chunk, LONG).await.expect("sealed");
    assert_eq!((sealed.state(), sealed.epoch), (v1::ChunkState::Sealed, 2));
    assert_eq!((sealed.length, sealed.chain), (100, chain(100)));
    assert_eq!(sealed.marks, [mark]);
    assert_eq!(holders(&sealed), nodes.iter().map(|n| n.id).collect::<Vec<_>>());
    let inode = cluster.inode("/log").await;
    assert_eq!((inode.ino, inode.size, inode.tail), (ino, 100, None));
    let extents = v1::ExtentsRequest { target: super::at("/log"), length: 1000, ..Default::default() };
    let extents = cluster.meta.clone().extents(cluster.request(extents)).await.expect("extents").into_inner();
    assert_eq!((extents.extents.len(), extents.chunks.len()), (1, 1));
    assert_eq!(extents.chunks[0], sealed);
    assert!(nodes.iter().all(|n| n.see(|d| d.fenced[0] == (chunk.chunk, 2, 1))));
    assert_eq!(cluster.seal(chunk.chunk, LONG).await, Ok(sealed), "asking again is safe");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_away_does_not_hold_up_the_seal() {
    let cluster = Cluster::with(Policy::cluster(), Duration::from_secs(1000)).await;
    let nodes = FakeNode::start_all(&cluster, 3).await;
    let (_, chunk) = open_tail(&cluster).await;
    nodes.iter().for_each(|n| n.hold(chunk.chunk, 50, 0));
    nodes[0].change(|d| d.unreachable = true);
    let sealed = cluster.seal(chunk.chunk, LONG).await.expect("sealed");
    assert_eq!((sealed.length, holders(&sealed)), (50, vec![nodes[1].id, nodes[2].id]));
    nodes[0].change(|d| d.unreachable = false);
    // It was no holder: it is told so, and leaves the chunk once it has obeyed.
    let mut work = nodes[0].pull().await;
    let told = work.message().await.expect("a stream").expect("work").work.expect("a piece");
    let v1::work::Work::Sealed(notice) = told else { panic!("another piece of work: {told:?}") };
    assert_eq!((notice.chunk, notice.length, notice.holder), (chunk.chunk, 50, false));
    let done = v1::report_work_request::Outcome::SealedNoticeDone(chunk.chunk);
    nodes[0].report(0, done).await.expect("reported");
    // It was blamed for the seal, and that passes.
    cluster.clock.skip(crate::leader::nodes::BLAME);
    eventually("it copies the chunk instead", async || {
        let told = work.message().await.ok()??.work?;
        matches!(told, v1::work::Work::Copy(c) if c.chunk == chunk.chunk && c.sources.len() == 2)
            .then_some(())
    })
    .await;
    let copied = v1::report_work_request::Outcome::Copied(v1::Copied { chunk: chunk.chunk });
    nodes[0].report(0, copied).await.expect("reported");
    assert_eq!(holders(&cluster.chunk(chunk.chunk).await.expect("known")).len(), 3);
    assert_eq!(cluster.status().await.chunks_under_replicated, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_restarted_replica_decides_nothing_until_another_returns() {
    let cluster = Cluster::start().await;
    let nodes = FakeNode::start_all(&cluster, 3).await;
    let (_, chunk) = open_tail(&cluster).await;
    nodes.iter().for_each(|n| n.hold(chunk.chunk, 70, 1));
    nodes[1].change(|d| d.unreachable = true);
    nodes[2].change(|d| d.unreachable = true);
    let undecided = cluster.seal(chunk.chunk, Duration::from_millis(1500)).await;
    assert_eq!(undecided, Err(WireError::Service(ServiceError::Deadline)));
    let waiting = cluster.chunk(chunk.chunk).await.expect("known");
    assert_eq!(waiting.state(), v1::ChunkState::Sealing);
    nodes[2].change(|d| d.unreachable = false);
    let sealed = cluster.seal(chunk.chunk, LONG).await.expect("two in limbo decide");
    assert_eq!((sealed.length, holders(&sealed)), (70, vec![nodes[0].id, nodes[2].id]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_below_a_committed_length_is_decided() {
    let cluster = Cluster::start().await;
    let nodes = FakeNode::start_all(&cluster, 3).await;
    let (_, chunk) = open_tail(&cluster).await;
    nodes.iter().for_each(|n| n.hold(chunk.chunk, 40, 0));
    nodes[0].change(|d| {
        let held = Held { length: 10, health: 2, heard: 60, ..Held::default() };
        d.held.insert(chunk.chunk, held);
    });
    nodes[1].hold(chunk.chunk, 60, 0);
    nodes[1].change(|d| d.unreachable = true);
    let undecided = cluster.seal(chunk.chunk, Duration::from_millis(1500)).await;
    assert_eq!(undecided, Err(WireError::Service(ServiceError::Deadline)));
    nodes[1].change(|d| d.unreachable = false);
    assert_eq!(cluster.seal(chunk.chunk, LONG).await.map(|c| c.length), Ok(60));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fresh_node_becomes_the_second_holder() {
    let policy = Policy { replicas: 2, ..Policy::cluster() };
    let cluster = Cluster::with(policy, Duration::from_secs(3)).await;
    let mut nodes = FakeNode::start_all(&cluster, 2).await;
    let (_, chunk) = open_tail(&cluster).await;
    nodes.iter().for_each(|n| n.hold(chunk.chunk, 33, 0));
    nodes[0].change(|d| d.unreachable = true);
    nodes.push(FakeNode::start(&cluster, 3).await);
    let sealed = cluster.seal(chunk.chunk, LONG).await.expect("sealed");
    assert_eq!((sealed.length, holders(&sealed)), (33, vec![nodes[1].id, nodes[2].id]));
    assert_eq!(nodes[2].see(|d| d.extended.clone()), [chunk.chunk]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chunks_of_a_restarted_node_are_sealed_without_being_asked() {
    let cluster = Cluster::start().await;
    let mut nodes = FakeNode::start_all(&cluster, 3).await;
    let (_, chunk) = open_tail(&cluster).await;
    nodes.iter().for_each(|n| n.hold(chunk.chunk, 20, 0));
    let id = nodes[0].id;
    nodes[0].hold(chunk.chunk, 15, 1);
    nodes[0].register(2).await;
    assert_eq!(nodes[0].id, id, "the same disk is the same node");
    eventually("the chunk is sealed", async || {
        let chunk = cluster.chunk(chunk.chunk).await.expect("known");
        (chunk.state() == v1::ChunkState::Sealed && chunk.length == 20).then_some(())
    })
    .await;
    assert_eq!(cluster.inode("/log").await.size, 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_was_blamed_is_not_used_for_the_next_tail() {
    let cluster = Cluster::start().await;
    let nodes = FakeNode::start_all(&cluster, 3).await;
    let session = cluster.session().await;
    let ino = session.create("/log").await.ino;
    let chunk = session.open_tail(ino, 1).await.expect("a tail");
    nodes.iter().for_each(|n| n.hold(chunk.chunk, 20, 0));
    let message = v1::SealChunkRequest {
        chunk: chunk.chunk,
        epoch: 0,
        reason: "unreachable".into(),
        blame_node: chunk.primary,
    };
    cluster.meta.clone().seal_chunk(cluster.request(message)).await.expect("sealed");
    let next = session.open_tail(ino, 1).await.expect("the next tail");
    assert_eq!(next.activation.map(|a| a.base), Some(20));
    assert_eq!(next.replicas.len(), 2);
    assert!(next.replicas.iter().all(|r| r.node != chunk.primary));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planned_roll_seals_at_once_and_only_its_primary_may() {
    let cluster = Cluster::start().await;
    let _nodes = FakeNode::start_all(&cluster, 3).await;
    let (_, chunk) = open_tail(&cluster).await;
    let planned = |node| v1::SealPlannedRequest {
        node,
        chunk: chunk.chunk,
        epoch: 1,
        length: 12,
        chain: chain(12),
        marks: vec![],
    };
    let other = chunk.replicas.iter().map(|r| r.node).find(|n| *n != chunk.primary).expect("a secondary");
    let refused = cluster.nodes.clone().seal_planned(cluster.request(planned(other))).await;
    let refused = WireError::from(refused.expect_err("not the primary"));
    assert!(matches!(refused, WireError::Service(ServiceError::NotPrimary { .. })), "{refused:?}");
    let sealed = cluster.nodes.clone().seal_planned(cluster.request(planned(chunk.primary))).await;
    let sealed = sealed.expect("sealed").into_inner();
    assert_eq!((sealed.state(), sealed.length, sealed.replicas.len()), (v1::ChunkState::Sealed, 12, 3));
    assert_eq!(cluster.inode("/log").await.size, 12);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_roll_goes_on_in_the_spare_and_a_spare_lies_on_healthy_nodes_alone() {
    let cluster = Cluster::start().await;
    let _nodes = FakeNode::start_all(&cluster, 3).await;
    let (ino, chunk) = open_tail(&cluster).await;
    let prepare = |node, chunk: &v1::Chunk| {
        cluster.request(v1::PrepareSpareRequest { node, chunk: chunk.chunk, epoch: 1 })
    };
    let mut leader = cluster.nodes.clone();
    let other = chunk.replicas.iter().map(|r| r.node).find(|n| *n != chunk.primary).expect("a secondary");
    let refused =
        WireError::from(leader.prepare_spare(prepare(other, &chunk)).await.expect_err("no primary"));
    assert!(matches!(refused, WireError::Service(ServiceError::NotPrimary { .. })), "{refused:?}");
    // Once the cluster is at the level that knows spares.
    let spare = eventually("a spare", async || {
        let mut leader = cluster.nodes.clone();
        leader.prepare_spare(prepare(chunk.primary, &chunk)).await.ok().map(tonic::Response::into_inner)
    })
    .await;
    assert_eq!((spare.state(), &spare.activation), (v1::ChunkState::Spare, &None));
    assert_eq!((&spare.replicas, spare.primary), (&chunk.replicas, chunk.primary));
    let seal = v1::SealPlannedRequest {
        node: chunk.primary,
        chunk: chunk.chunk,
        epoch: 1,
        length: 12,
        chain: chain(12),
        marks: vec![],
    };
    let roll = || cluster.request(v1::RollRequest { seal: Some(seal.clone()), next: spare.chunk });
    let rolled = leader.roll(roll()).await.expect("rolled").into_inner();
    let next = rolled.next.clone().expect("the next tail");
    assert_eq!((next.chunk, next.state()), (spare.chunk, v1::ChunkState::Open));
    assert_eq!(next.activation.map(|a| (a.ino, a.base)), Some((ino, 12)));
    assert_eq!(leader.roll(roll()).await.expect("repeated").into_inner(), rolled);
    assert_eq!(cluster.inode("/log").await.size, 12);
    // A node that was slow lately takes no spare: the next tail is placed without it.
    let message = v1::SealChunkRequest {
        chunk: spare.chunk,
        epoch: 9,
        reason: crate::leader::nodes::SLOW.into(),
        blame_node: other,
    };
    assert!(cluster.meta.clone().seal_chunk(cluster.request(message)).await.is_err(), "of another epoch");
    let refused =
        WireError::from(leader.prepare_spare(prepare(next.primary, &next)).await.expect_err("slow"));
    assert_eq!(refused, WireError::Fs(FsError::TooFewNodes { available: 2, needed: 3 }));
}
