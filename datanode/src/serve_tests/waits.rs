//! Waiting for a chunk to grow: who waits is woken by what is acknowledged, and by nothing else; it is sent
//! back to the metadata when the chunk does not go on here.

use std::time::Duration;

use cairn_proto::v1;
use cairn_proto::v1::data_client::DataClient;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tonic::transport::Channel;

use super::cluster::{GENERATION, TestCluster, TestNode, WAIT, Writer, kind};
use super::meta::stamped;
use crate::replicate::primaries::WAITS_MAX;

const LONG_MS: u64 = 20_000;

async fn ask(
    mut client: DataClient<Channel>,
    chunk: u64,
    beyond: u64,
    wait_ms: u64,
) -> Result<u64, tonic::Status> {
    let request = stamped(v1::WaitLengthRequest { chunk, epoch: 1, beyond, wait_ms });
    let reply = tokio::time::timeout(WAIT, client.wait_length(request)).await.expect("no answer");
    Ok(reply?.into_inner().committed)
}

async fn wait(node: &TestNode, chunk: u64, beyond: u64, wait_ms: u64) -> Result<u64, tonic::Status> {
    ask(node.client().await, chunk, beyond, wait_ms).await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_chunk_is_woken_by_the_append_that_is_acknowledged() {
    let cluster = TestCluster::start(3).await;
    let chunk = cluster.open_chunk(3);
    let node = &cluster.nodes[0];
    // Nobody has appended yet: the first append wakes those who wait already.
    let first = tokio::spawn(ask(node.client().await, chunk, 0, LONG_MS));
    let mut writer = cluster.writer(chunk).await;
    assert_eq!(writer.append(1, b"hello").await, Ok(0));
    assert_eq!(first.await.unwrap().unwrap(), 5);
    // What is there already is answered at once; what is not, when the time is over.
    assert_eq!(wait(node, chunk, 4, LONG_MS).await.unwrap(), 5);
    assert_eq!(wait(node, chunk, 5, 20).await.unwrap(), 5);
    assert_eq!(wait(node, chunk, 5, 0).await.unwrap(), 5);
    let (next, far) =
        (ask(node.client().await, chunk, 5, LONG_MS), ask(node.client().await, chunk, 10, LONG_MS));
    let (next, far) = (tokio::spawn(next), tokio::spawn(far));
    assert_eq!(writer.append(2, b"world").await, Ok(5));
    assert_eq!(next.await.unwrap().unwrap(), 10);
    assert!(!far.is_finished());
    assert_eq!(writer.append(3, b"!").await, Ok(10));
    assert_eq!(far.await.unwrap().unwrap(), 11);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_chunk_that_is_closed_or_fenced_is_sent_back() {
    let cluster = TestCluster::start(1).await;
    let (closed, fenced, silent) = (cluster.open_chunk(1), cluster.open_chunk(1), cluster.open_chunk(1));
    let node = &cluster.nodes[0];
    for chunk in [closed, fenced] {
        assert_eq!(cluster.writer(chunk).await.append(1, b"x").await, Ok(0));
    }
    let waiting = [(closed, 1), (fenced, 1), (silent, 0)];
    let mut waits = Vec::new();
    for (chunk, beyond) in waiting {
        waits.push(tokio::spawn(ask(node.client().await, chunk, beyond, LONG_MS)));
    }
    let close = stamped(v1::CloseRequest { chunk: closed, go_on: false });
    node.client().await.close(close).await.unwrap();
    for chunk in [fenced, silent] {
        let replica = cluster.meta.chunk(chunk).replicas[0].clone();
        cluster.meta.fence(&replica, chunk, 2).await.unwrap();
    }
    for wait in waits {
        assert_eq!(kind(wait.await.unwrap().unwrap_err()), "ChunkFenced");
    }
    // Asked again it is the same, and at once.
    for (chunk, beyond) in waiting {
        assert_eq!(kind(wait(node, chunk, beyond, LONG_MS).await.unwrap_err()), "ChunkFenced");
    }
    assert_eq!(kind(wait(node, 999, 0, LONG_MS).await.unwrap_err()), "NoSuchChunk");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_primary_tells_when_a_chunk_grows_and_only_of_its_own_epoch() {
    let cluster = TestCluster::start(2).await;
    let chunk = cluster.open_chunk(2);
    // Before the first append the secondary has nothing of it, and asks the metadata.
    assert_eq!(kind(wait(&cluster.nodes[1], chunk, 0, LONG_MS).await.unwrap_err()), "NotPrimary");
    assert_eq!(cluster.writer(chunk).await.append(1, b"x").await, Ok(0));
    assert_eq!(kind(wait(&cluster.nodes[1], chunk, 0, LONG_MS).await.unwrap_err()), "ChunkFenced");
    let other = stamped(v1::WaitLengthRequest { chunk, epoch: 2, beyond: 0, wait_ms: LONG_MS });
    let refused = cluster.nodes[0].client().await.wait_length(other).await.unwrap_err();
    assert_eq!(kind(refused), "ChunkFenced");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_not_woken_by_what_is_not_on_every_replica() {
    let mut cluster = TestCluster::start(2).await;
    let chunk = cluster.open_chunk(2);
    let mut writer = cluster.writer(chunk).await;
    assert_eq!(writer.append(1, b"kept").await, Ok(0));
    cluster.nodes[1].kill();
    let waiting = tokio::spawn(ask(cluster.nodes[0].client().await, chunk, 4, LONG_MS));
    writer.send(writer.request(2, b"on one disk alone")).await;
    // The chunk is given up, with the append undecided: no length beyond it was ever told.
    assert_eq!(kind(waiting.await.unwrap().unwrap_err()), "ChunkFenced");
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_wait_at_a_node_and_no_more() {
    const MORE: usize = 16;
    let cluster = TestCluster::start(1).await;
    let chunk = cluster.open_chunk(1);
    let mut writer = cluster.writer(chunk).await;
    assert_eq!(writer.append(1, b"x").await, Ok(0));
    let client = cluster.nodes[0].client().await;
    let mut waits: FuturesUnordered<_> =
        (0..WAITS_MAX + MORE).map(|_| ask(client.clone(), chunk, 1, LONG_MS)).collect();
    for _ in 0..MORE {
        assert_eq!(kind(waits.next().await.unwrap().unwrap_err()), "Overloaded");
    }
    // The length is told to whoever asks without waiting; an append wakes all.
    assert_eq!(super::cluster::tail_length(&cluster.nodes[0], chunk).await.unwrap(), 1);
    assert_eq!(writer.append(2, b"y").await, Ok(1));
    while let Some(woken) = waits.next().await {
        assert_eq!(woken.unwrap(), 2);
    }
    // The places are free again; a caller that goes away leaves its own too.
    drop(tokio::time::timeout(Duration::from_millis(1), wait(&cluster.nodes[0], chunk, 2, LONG_MS)).await);
    assert_eq!(wait(&cluster.nodes[0], chunk, 1, LONG_MS).await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_sends_back_those_who_wait() {
    let mut cluster = TestCluster::start(1).await;
    let (used, unused) = (cluster.open_chunk(1), cluster.open_chunk(1));
    let mut writer = Writer::open(&cluster.nodes[0], used, 77).await;
    assert_eq!((writer.generation, writer.append(1, b"x").await), (GENERATION, Ok(0)));
    let node = cluster.nodes.remove(0);
    let mut waits = FuturesUnordered::new();
    for chunk in [used, unused] {
        waits.push(tokio::spawn(ask(node.client().await, chunk, 1, LONG_MS)));
    }
    // Both have arrived once a call behind each has been answered.
    assert_eq!(wait(&node, used, 0, 0).await.unwrap(), 1);
    assert_eq!(wait(&node, unused, 0, 0).await.unwrap(), 0);
    node.stop().await;
    while let Some(ended) = waits.next().await {
        assert!(ended.unwrap().is_err());
    }
}
