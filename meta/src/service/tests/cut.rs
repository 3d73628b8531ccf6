//! What a cut leaves behind is removed by the leader, by itself.

use cairn_proto::v1;
use cairn_proto::v1::extent::Source;
use cairn_proto::v1::mutate_request::Operation;
use cairn_types::{ChunkId, Policy};

use super::data_node::FakeNode;
use super::{Cluster, LONG, at, eventually};
use crate::namespace::{jobs, read};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_removes_what_a_cut_left_and_the_file_keeps_the_rest() {
    let cluster = Cluster::with(Policy::single(), LONG).await;
    let _nodes = FakeNode::start_all(&cluster, 1).await;
    let session = cluster.session().await;
    let ino = session.create("/f").await.ino;
    let open = Operation::OpenChunk(v1::OpenChunk { policy_of: 1, avoid: vec![] });
    let chunk = session.mutate(open).await.expect("opened").chunk.expect("a chunk").chunk;
    // Every other byte, so that none joins its neighbour.
    let extent = |n: u64| {
        let source = Some(Source::Chunk(v1::ChunkSource { chunk, offset: n }));
        v1::Extent { file_offset: 2 * n, length: 1, source }
    };
    for first in [0, 500, 1000] {
        let extents = (first..first + 500).map(extent).collect();
        let commit = v1::Commit { ino, extents, expected_length: None };
        session.mutate(Operation::Commit(commit)).await.expect("committed");
    }
    let cut = v1::SetAttr { target: at("/f"), size: Some(101), ..Default::default() };
    let inode = session.mutate(Operation::SetAttr(cut)).await.expect("cut").inode.expect("an inode");
    assert_eq!(inode.size, 101);
    let live = eventually("what was cut is removed", async || {
        let view = cluster.node.read_local().ok()?;
        let left = jobs::detached(&*view.store, None, 1).ok()?;
        let record = read::chunk(&*view.store, ChunkId(chunk)).ok()??;
        left.is_empty().then_some(record.live_bytes)
    })
    .await;
    assert_eq!(live, 51);
}
