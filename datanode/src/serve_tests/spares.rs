//! Tails that roll into chunks made ahead (append protocol R1, R5).

use std::time::Duration;

use cairn_proto::v1;

use super::cluster::{TestCluster, TestNode, WAIT, Writer, kind, read, tail_length};
use super::meta::stamped;

/// A tail that wants a spare from its first milliseconds on, and what it holds after two appends.
async fn tail_with_a_spare(cluster: &TestCluster, replicas: usize) -> (u64, Writer, u64) {
    let tail = cluster.open_chunk(replicas);
    cluster.meta.age(tail, 8);
    let mut writer = cluster.writer(tail).await;
    assert_eq!(writer.append(1, b"one").await, Ok(0));
    // The next append comes when the tail is old enough.
    let mut sequence = 1;
    let spare = tokio::time::timeout(WAIT, async {
        loop {
            sequence += 1;
            writer.append(sequence, b"x").await.unwrap();
            if let Some(spare) = cluster.meta.spare_of(tail) {
                return spare;
            }
        }
    });
    let spare = spare.await.expect("no spare is asked for");
    (tail, writer, spare)
}

async fn close(cluster: &TestCluster, chunk: u64, go_on: bool) -> v1::CloseReply {
    let request = stamped(v1::CloseRequest { chunk, go_on });
    cluster.nodes[0].client().await.close(request).await.unwrap().into_inner()
}

/// Waits until each of these nodes has so many open chunks.
async fn made_everywhere(nodes: &[TestNode], chunks: u64) {
    let made = async {
        for node in nodes {
            while status(node).await.chunks_open < chunks {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    };
    tokio::time::timeout(WAIT, made).await.expect("the spare is not made everywhere");
}

async fn status(node: &TestNode) -> v1::NodeStatusReply {
    node.client().await.node_status(stamped(v1::NodeStatusRequest::default())).await.unwrap().into_inner()
}

/// Rolls a tail into its spare. That its primary knows of the spare's last creation comes a moment after
/// that creation: a tail that was closed before gets another try.
async fn rolled(cluster: &TestCluster, replicas: usize) -> (v1::Chunk, v1::Chunk) {
    for _ in 0..20 {
        let (tail, _, spare) = tail_with_a_spare(cluster, replicas).await;
        made_everywhere(&cluster.nodes, 2).await;
        let reply = close(cluster, tail, true).await;
        if let Some(next) = reply.next {
            assert_eq!(next.chunk, spare);
            return (reply.chunk.unwrap(), next);
        }
    }
    panic!("no tail was rolled into its spare");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_roll_goes_on_in_the_spare_with_what_the_old_chunk_answered() {
    let cluster = TestCluster::start(3).await;
    let (sealed, next) = rolled(&cluster, 3).await;
    assert_eq!(sealed.state(), v1::ChunkState::Sealed);
    let last = sealed.marks[0].sequence;
    assert_eq!(next.activation.unwrap().base, 1000 + sealed.length);
    assert_eq!(tail_length(&cluster.nodes[0], next.chunk).await.unwrap(), 0);
    let mut writer = cluster.writer(next.chunk).await;
    // What the old chunk acknowledged is not taken again, and nothing is left out.
    assert_eq!(writer.refused(last, b"again").await, "SequenceGap");
    assert_eq!(writer.refused(last + 2, b"gap").await, "SequenceGap");
    assert_eq!(writer.append(last + 1, b"two").await, Ok(0));
    for node in &cluster.nodes {
        assert_eq!(read(node, next.chunk, 0, 3, 3).await.unwrap(), b"two");
    }
    // Fenced, its marks are file offsets as those of any chunk.
    let sealed = cluster.meta.seal(next.chunk).await.unwrap();
    assert_eq!(sealed.length, 3);
    let mark = v1::WriterMark { writer: 77, sequence: last + 1, offset: next.activation.unwrap().base };
    assert_eq!(sealed.marks, [mark]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_taken_for_a_spare_before_its_activation() {
    let cluster = TestCluster::start(2).await;
    let (tail, mut writer, spare) = tail_with_a_spare(&cluster, 2).await;
    made_everywhere(&cluster.nodes, 2).await;
    let mut early = cluster.writer(spare).await;
    assert_eq!(early.refused(1, b"early").await, "ChunkFenced");
    assert_eq!(kind(tail_length(&cluster.nodes[0], spare).await.unwrap_err()), "ChunkFenced");
    for node in &cluster.nodes {
        assert!(read(node, spare, 0, 5, 5).await.is_err());
    }
    // The tail is as it was.
    let sequence = tail_length(&cluster.nodes[0], tail).await.unwrap() - 3 + 2;
    assert!(writer.append(sequence, b"y").await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_without_a_writer_that_goes_on_leaves_no_open_tail() {
    let cluster = TestCluster::start(2).await;
    let (tail, _, spare) = tail_with_a_spare(&cluster, 2).await;
    made_everywhere(&cluster.nodes, 2).await;
    let reply = close(&cluster, tail, false).await;
    assert_eq!(reply.next, None);
    assert_eq!(reply.chunk.unwrap().state(), v1::ChunkState::Sealed);
    assert_eq!(cluster.meta.chunk(spare).state(), v1::ChunkState::Spare);
    // What is sealed without the tail takes nothing any more.
    let mut late = cluster.writer(spare).await;
    assert_eq!(late.refused(1, b"late").await, "ChunkFenced");
}
