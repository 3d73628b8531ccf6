//! An operator removes a data node: refused while it lives and told for ever after; what others
//! hold gets further copies, and what nobody holds is listed.

use std::time::Duration;

use cairn_proto::v1::mutate_request::Operation;
use cairn_proto::v1::work::Work;
use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::{FsError, NodeId, Persist, Policy};

use super::data_node::FakeNode;
use super::{Cluster, LONG, at, eventually};

const NODE_TIMEOUT: Duration = Duration::from_secs(3);

impl Cluster {
    /// Asks what is known of a node; with `remove` removes it.
    async fn removal(&self, node: u64, remove: bool) -> Result<v1::RemoveNodeReply, WireError> {
        let request = self.request(v1::RemoveNodeRequest { node, remove });
        Ok(self.meta.clone().remove_node(request).await?.into_inner())
    }

    /// A tail of 60 bytes at each of its nodes, sealed.
    async fn sealed_tail(&self, path: &str, nodes: &[FakeNode<'_>]) -> v1::Chunk {
        let session = self.session().await;
        let ino = session.create(path).await.ino;
        let chunk = session.open_tail(ino, 1).await.expect("a tail").chunk;
        nodes.iter().for_each(|n| n.hold(chunk, 60, 0));
        self.seal(chunk, LONG).await.expect("sealed")
    }

    /// Lets time pass until only `others` are heard of.
    async fn silence_all_but(&self, others: &[&FakeNode<'_>]) {
        self.clock.skip(NODE_TIMEOUT + Duration::from_secs(1));
        for node in others {
            node.beat().await;
        }
    }

    async fn node(&self, node: u64) -> Option<v1::DataNode> {
        self.status().await.nodes.into_iter().find(|n| n.node == node)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_removed_node_held_with_others_gets_further_copies() {
    let cluster = Cluster::with(Policy::cluster(), NODE_TIMEOUT).await;
    let nodes = FakeNode::start_all(&cluster, 3).await;
    let sealed = cluster.sealed_tail("/log", &nodes).await;
    let gone = nodes.iter().find(|n| n.id == sealed.replicas[0].node).expect("one of them");
    let others: Vec<&FakeNode<'_>> = nodes.iter().filter(|n| n.id != gone.id).collect();

    let malformed = ServiceError::Malformed { field: "node".into() };
    assert_eq!(cluster.removal(0, true).await, Err(WireError::Service(malformed)));
    let unknown = ServiceError::NoSuchNode { node: NodeId(999) };
    assert_eq!(cluster.removal(999, true).await, Err(WireError::Service(unknown)));
    let alive = ServiceError::NodeAlive { node: NodeId(gone.id) };
    for remove in [false, true] {
        assert_eq!(cluster.removal(gone.id, remove).await, Err(WireError::Service(alive.clone())));
    }

    cluster.silence_all_but(&others).await;
    let shown = cluster.removal(gone.id, false).await.expect("shown");
    assert!(!shown.already && shown.node.is_some_and(|n| n.node == gone.id && !n.alive && !n.removed));
    let kept = cluster.chunk(sealed.chunk).await.expect("known");
    assert!(kept.replicas.iter().any(|r| r.node == gone.id), "only shown");

    let removed = cluster.removal(gone.id, true).await.expect("removed");
    assert!(!removed.already && removed.node.is_some_and(|n| n.node == gone.id && n.removed));
    eventually("it is struck", async || {
        let chunk = cluster.chunk(sealed.chunk).await.ok()?;
        chunk.replicas.iter().all(|r| r.node != gone.id).then_some(())
    })
    .await;
    eventually("the status forgets it", async || cluster.node(gone.id).await.is_none().then_some(())).await;
    let again = cluster.removal(gone.id, true).await.expect("the same");
    assert!(again.already && again.node.is_some_and(|n| n.node == gone.id && n.removed));

    for node in &others {
        node.beat().await;
    }
    let fresh = FakeNode::start(&cluster, 4).await;
    let mut work = fresh.pull().await;
    let asked = async {
        loop {
            let next = work.message().await.expect("a stream").expect("no end of it");
            if let Some(Work::Copy(copy)) = next.work {
                return copy;
            }
        }
    };
    let copy = tokio::time::timeout(LONG, asked).await.expect("a copy is asked for");
    assert_eq!((copy.chunk, copy.length), (sealed.chunk, 60));
    assert!(copy.sources.iter().all(|s| s.node != gone.id), "{:?}", copy.sources);

    let message = v1::RegisterRequest {
        disk: vec![gone.disk; 16].into(),
        address: "127.0.0.1:1".into(),
        incarnation: 2,
        boot_id: vec![1; 16].into(),
        capacity_bytes: 100 << 30,
        version: "test".into(),
        ..Default::default()
    };
    let refused = cluster.nodes.clone().register(cluster.request(message)).await.map(drop);
    let gone = FsError::NodeRemoved { node: NodeId(gone.id) };
    assert_eq!(refused.map_err(WireError::from), Err(WireError::Fs(gone)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_a_removed_node_held_is_listed_as_lost_until_nobody_needs_it() {
    let policy = Policy { persist: Persist::Never, ..Policy::single() };
    let cluster = Cluster::with(policy, NODE_TIMEOUT).await;
    let nodes = FakeNode::start_all(&cluster, 2).await;
    let sealed = cluster.sealed_tail("/log", &nodes).await;
    let gone = sealed.replicas[0].node;
    let others: Vec<&FakeNode<'_>> = nodes.iter().filter(|n| n.id != gone).collect();
    cluster.silence_all_but(&others).await;
    cluster.removal(gone, true).await.expect("removed");
    let lost = eventually("the status lists it", async || {
        let status = cluster.status().await;
        (status.chunks_lost == 1).then(|| status.lost[0].clone())
    })
    .await;
    assert_eq!((lost.chunk, &lost.path[..], lost.length, lost.node), (sealed.chunk, &b"/log"[..], 60, gone));
    let kept = cluster.chunk(sealed.chunk).await.expect("known");
    assert_eq!(kept.replicas.len(), 1, "the record says who had it");
    assert!(cluster.node(gone).await.is_some_and(|n| n.removed && !n.alive));

    let unlink = v1::Unlink { target: at("/log") };
    cluster.session().await.mutate(Operation::Unlink(unlink)).await.expect("unlinked");
    // A pass that could strike nothing rests.
    cluster.clock.skip(Duration::from_secs(11));
    eventually("it is over", async || {
        let status = cluster.status().await;
        let named = status.nodes.iter().any(|n| n.node == gone);
        (status.chunks_lost == 0 && !named).then_some(())
    })
    .await;
    assert_eq!(cluster.chunk(sealed.chunk).await, Err(WireError::Fs(FsError::NotFound)));
}
