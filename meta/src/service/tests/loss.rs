//! An operator accepts a loss (rule R5): the end of a chunk that its replicas do not decide.

use std::time::Duration;

use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::{Ack, ChunkId, FsError, Policy};

use super::data_node::{FakeNode, Held, chain};
use super::{Cluster, LONG, eventually};

const MEMORY: Policy = Policy { ack: Ack::Memory, ..Policy::cluster() };
/// No node is given up for its silence here.
const NEVER: Duration = Duration::from_secs(1000);

impl Cluster {
    /// Asks what would be lost; with a length and whether nothing may be left, accepts it.
    async fn loss(
        &self,
        chunk: u64,
        accepted: Option<(u64, bool)>,
    ) -> Result<v1::AcceptLossReply, WireError> {
        let (length, nothing_left) = accepted.unwrap_or_default();
        let message = v1::AcceptLossRequest { chunk, accept: accepted.is_some(), length, nothing_left };
        Ok(self.meta.clone().accept_loss(self.request(message)).await?.into_inner())
    }

    /// Begins the seal of a chunk that cannot be decided, and waits until the status says so.
    async fn undecided(&self, chunk: u64) -> v1::UndecidedChunk {
        let asked = self.seal(chunk, Duration::from_millis(500)).await;
        assert!(asked.is_err(), "{asked:?}");
        eventually("the status lists it", async || {
            self.status().await.undecided.into_iter().find(|u| u.chunk == chunk)
        })
        .await
    }
}

fn holders(sealed: &v1::Chunk) -> Vec<u64> {
    let mut holders: Vec<u64> = sealed.replicas.iter().map(|r| r.node).collect();
    holders.sort_unstable();
    holders
}

fn service(error: ServiceError) -> Result<v1::AcceptLossReply, WireError> {
    Err(WireError::Service(error))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_memory_chunk_that_lost_every_memory_ends_where_an_operator_accepts() {
    let cluster = Cluster::with(MEMORY, NEVER).await;
    let nodes = FakeNode::start_all(&cluster, 3).await;
    let session = cluster.session().await;
    let ino = session.create("/log").await.ino;
    let chunk = session.open_tail(ino, 1).await.expect("a tail").chunk;
    for (node, (length, health, heard)) in nodes.iter().zip([(40, 2, 70), (60, 1, 50), (50, 1, 0)]) {
        let held = Held { length, health, heard, ..Held::default() };
        node.change(|d| drop(d.held.insert(chunk, held)));
    }
    let listed = cluster.undecided(chunk).await;
    assert_eq!((listed.ino, &listed.path[..], listed.length, listed.heard), (ino, &b"/log"[..], 60, 70));
    assert_eq!((listed.answered, listed.replicas), (3, 3));
    assert!(listed.reason.contains("no clean replica"), "{}", listed.reason);
    assert_eq!(cluster.status().await.chunks_undecided, 1);

    let shown = cluster.loss(chunk, None).await.expect("shown");
    assert_eq!((shown.length, shown.heard, shown.already), (60, 70, false));
    let mut told: Vec<_> =
        shown.replicas.iter().map(|r| (r.node, r.answered, r.length, r.health, r.heard)).collect();
    told.sort_unstable();
    let (a, b, c) = (nodes[0].id, nodes[1].id, nodes[2].id);
    assert_eq!(told, [(a, true, 40, 2, 70), (b, true, 60, 1, 50), (c, true, 50, 1, 0)]);
    let waiting = cluster.chunk(chunk).await.expect("known");
    assert_eq!(waiting.state(), v1::ChunkState::Sealing, "only shown");

    let id = ChunkId(chunk);
    let other = cluster.loss(chunk, Some((70, false))).await;
    assert_eq!(other, service(ServiceError::LossDiffers { chunk: id, length: 60 }));
    let accepted = cluster.loss(chunk, Some((60, false))).await.expect("accepted");
    assert_eq!((accepted.length, accepted.heard, accepted.already), (60, 70, false));
    let sealed = accepted.chunk.expect("a chunk");
    assert_eq!((sealed.state(), sealed.length, sealed.chain), (v1::ChunkState::Sealed, 60, chain(60)));
    assert_eq!(holders(&sealed), [b, c], "the short one was brought up, the damaged one left out");
    let again = cluster.loss(chunk, Some((60, false))).await.expect("the same");
    assert!(again.already && again.length == 60 && again.chunk == Some(sealed));
    assert_eq!(
        cluster.loss(chunk, Some((50, false))).await,
        service(ServiceError::NotUndecided { chunk: id })
    );
    assert_eq!(cluster.status().await.chunks_undecided, 0);

    let inode = cluster.inode("/log").await;
    assert_eq!((inode.size, inode.tail), (60, None));
    let next = session.open_tail(ino, 1).await.expect("the next tail");
    assert_eq!(next.activation.map(|a| a.base), Some(60));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_below_what_was_heard_committed_needs_an_operator_and_two_holders() {
    let cluster = Cluster::with(Policy::cluster(), NEVER).await;
    let nodes = FakeNode::start_all(&cluster, 3).await;
    let session = cluster.session().await;
    let ino = session.create("/log").await.ino;
    let chunk = session.open_tail(ino, 1).await.expect("a tail").chunk;
    nodes[0].hold(chunk, 40, 0);
    let damaged = Held { length: 10, health: 2, heard: 60, ..Held::default() };
    nodes[1].change(|d| drop(d.held.insert(chunk, damaged)));
    nodes[2].change(|d| d.unreachable = true);
    let listed = cluster.undecided(chunk).await;
    assert_eq!((listed.length, listed.heard, listed.answered), (40, 60, 2));
    assert!(listed.reason.contains("known to be committed"), "{}", listed.reason);
    let shown = cluster.loss(chunk, None).await.expect("shown");
    let silent: Vec<u64> = shown.replicas.iter().filter(|r| !r.answered).map(|r| r.node).collect();
    assert_eq!((shown.length, shown.heard, silent), (40, 60, vec![nodes[2].id]));

    let few = cluster.loss(chunk, Some((40, false))).await;
    assert_eq!(few, Err(WireError::Fs(FsError::TooFewNodes { available: 1, needed: 2 })));
    let waiting = cluster.chunk(chunk).await.expect("known");
    assert_eq!(waiting.state(), v1::ChunkState::Sealing);
    let fresh = FakeNode::start(&cluster, 4).await;
    let sealed = cluster.loss(chunk, Some((40, false))).await.expect("accepted").chunk.expect("a chunk");
    assert_eq!((sealed.length, holders(&sealed)), (40, vec![nodes[0].id, fresh.id]));
    assert_eq!(cluster.inode("/log").await.size, 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_nothing_is_left_must_be_said() {
    let cluster = Cluster::with(Policy::single(), NEVER).await;
    let nodes = FakeNode::start_all(&cluster, 2).await;
    let session = cluster.session().await;
    let ino = session.create("/log").await.ino;
    let tail = session.open_tail(ino, 1).await.expect("a tail");
    let (gone, other) =
        if nodes[0].id == tail.primary { (&nodes[0], &nodes[1]) } else { (&nodes[1], &nodes[0]) };
    gone.change(|d| d.unreachable = true);
    let listed = cluster.undecided(tail.chunk).await;
    assert_eq!((listed.length, listed.heard, listed.answered, listed.replicas), (0, 0, 0, 1));
    let shown = cluster.loss(tail.chunk, None).await.expect("shown");
    assert_eq!((shown.length, shown.replicas.len(), shown.replicas[0].answered), (0, 1, false));
    let refused = cluster.loss(tail.chunk, Some((0, false))).await;
    assert_eq!(refused, service(ServiceError::NothingLeft { chunk: ChunkId(tail.chunk) }));
    let sealed = cluster.loss(tail.chunk, Some((0, true))).await.expect("accepted").chunk.expect("a chunk");
    assert_eq!((sealed.length, holders(&sealed)), (0, vec![other.id]));
    let next = session.open_tail(ino, 1).await.expect("the next tail");
    assert_eq!((next.activation.map(|a| a.base), next.primary), (Some(0), other.id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_operator_is_needed_for_what_is_open_unknown_or_decidable() {
    let cluster = Cluster::with(MEMORY, NEVER).await;
    let nodes = FakeNode::start_all(&cluster, 3).await;
    let session = cluster.session().await;
    let ino = session.create("/log").await.ino;
    let chunk = session.open_tail(ino, 1).await.expect("a tail").chunk;
    nodes.iter().for_each(|n| n.hold(chunk, 30, 0));
    let malformed = ServiceError::Malformed { field: "chunk".into() };
    assert_eq!(cluster.loss(0, None).await, service(malformed));
    for accepted in [None, Some((30, true))] {
        assert_eq!(cluster.loss(9999, accepted).await, Err(WireError::Fs(FsError::NotFound)));
        let open = cluster.loss(chunk, accepted).await;
        assert_eq!(open, service(ServiceError::NotUndecided { chunk: ChunkId(chunk) }));
    }
    nodes.iter().for_each(|n| n.change(|d| d.unreachable = true));
    cluster.undecided(chunk).await;
    // Its replicas return: from here on it is decided by itself, whoever comes first.
    nodes.iter().for_each(|n| n.change(|d| d.unreachable = false));
    let refused = cluster.loss(chunk, Some((0, true))).await;
    assert!(
        matches!(
            refused,
            Err(WireError::Service(ServiceError::Decidable { .. } | ServiceError::NotUndecided { .. }))
        ),
        "{refused:?}"
    );
    assert_eq!(cluster.seal(chunk, LONG).await.map(|c| c.length), Ok(30));
    eventually("the status forgets it", async || {
        (cluster.status().await.chunks_undecided == 0).then_some(())
    })
    .await;
}
