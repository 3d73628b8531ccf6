//! Bits that flip under running nodes: readers get what was written or nothing, and the copy is put
//! right from a peer, or from S3.

use std::os::unix::fs::FileExt;

use cairn_proto::v1;
use cairn_proto::v1::report_work_request::Outcome;
use cairn_proto::v1::work::Work;

use super::cluster::{TestCluster, TestNode, kind, read};
use super::meta::stamped;
use crate::config::{Config, UnderStoreConfig};

const RECORD: usize = 30_000;
const RECORDS: u64 = 12;

fn payload(n: u64) -> Vec<u8> {
    (0..RECORD as u64).map(|i| ((i.wrapping_mul(2_654_435_761) >> 7) ^ (n * 131)) as u8).collect()
}

fn content() -> Vec<u8> {
    (0..RECORDS).flat_map(payload).collect()
}

fn all() -> u64 {
    RECORDS * RECORD as u64
}

fn always(config: &mut Config) {
    (config.scrub_mib_per_second, config.scrub_rest_seconds) = (256, 0);
}

fn never(config: &mut Config) {
    config.scrub_mib_per_second = 0;
}

async fn fill(cluster: &TestCluster, replicas: usize) -> u64 {
    let chunk = cluster.open_chunk(replicas);
    let mut writer = cluster.writer(chunk).await;
    for n in 0..RECORDS {
        assert_eq!(writer.append(n + 1, &payload(n)).await, Ok(n * RECORD as u64));
    }
    chunk
}

/// A chunk with its content, sealed on the first `replicas` nodes.
async fn sealed(cluster: &TestCluster, replicas: usize) -> v1::Chunk {
    let chunk = fill(cluster, replicas).await;
    let request = stamped(v1::CloseRequest { chunk, go_on: false });
    let closed = cluster.nodes[0].client().await.close(request).await.unwrap().into_inner().chunk.unwrap();
    for node in &cluster.nodes[..replicas] {
        notice(cluster, node, &closed).await;
    }
    closed
}

async fn notice(cluster: &TestCluster, node: &TestNode, closed: &v1::Chunk) {
    let (chunk, epoch, length, chain) = (closed.chunk, closed.epoch, closed.length, closed.chain);
    let sealed = Work::Sealed(v1::SealedNotice { chunk, epoch, length, chain, holder: true });
    cluster.meta.give(node.id, sealed).await;
    let done =
        |r: &&v1::ReportWorkRequest| r.node == node.id && r.outcome == Some(Outcome::SealedNoticeDone(chunk));
    cluster.meta.wait(|state| state.reports.iter().find(done).cloned()).await;
}

/// Flips a bit of the content's record `n` in every copy of it on the node's disk.
fn rot(node: &TestNode, n: u64) {
    let (needle, mut found) = (payload(n), 0);
    for entry in std::fs::read_dir(node.dir().join("segments")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        for at in (0..bytes.len() - needle.len()).filter(|at| bytes[*at..].starts_with(&needle)) {
            let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
            file.write_all_at(&[bytes[at + 77] ^ 4], at as u64 + 77).unwrap();
            found += 1;
        }
    }
    assert!(found > 0, "the record is on the disk");
}

async fn repaired(cluster: &TestCluster, node: &TestNode, records: u64) -> v1::HeartbeatRequest {
    let told = |beat: &&v1::HeartbeatRequest| beat.repaired_records >= records;
    cluster.meta.wait(|state| state.last_beat.get(&node.id).filter(told).cloned()).await
}

/// Reads through a node as a client does, which names the other holders.
async fn read_as_client(node: &TestNode, chunk: &v1::Chunk) -> Vec<u8> {
    let range = v1::ChunkRange {
        chunk: chunk.chunk,
        replicas: chunk.replicas.clone(),
        sealed_length: chunk.length,
        ..v1::ChunkRange::default()
    };
    let source = Some(v1::read_request::Source::Chunk(range));
    let request = v1::ReadRequest { source, length: chunk.length, ..v1::ReadRequest::default() };
    let mut frames = node.client().await.read(stamped(request)).await.unwrap().into_inner();
    let mut bytes = Vec::new();
    while let Some(frame) = frames.message().await.unwrap() {
        bytes.extend_from_slice(&frame.data);
    }
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scrub_finds_rot_and_repairs_it_from_the_peer() {
    let mut cluster = TestCluster::start_with(2, always).await;
    let chunk = sealed(&cluster, 2).await;
    rot(&cluster.nodes[1], 3);
    rot(&cluster.nodes[1], 7);
    let beat = repaired(&cluster, &cluster.nodes[1], 2).await;
    assert_eq!((beat.repaired_records, beat.damaged_replicas), (2, 0));
    // From its own segments alone, now and after a restart.
    assert!(read(&cluster.nodes[1], chunk.chunk, 0, all(), 0).await.unwrap() == content());
    let node = cluster.nodes.remove(1).restart().await;
    assert!(read(&node, chunk.chunk, 0, all(), 0).await.unwrap() == content());
    let status = node.client().await.node_status(stamped(v1::NodeStatusRequest::default())).await.unwrap();
    assert_eq!(status.into_inner().damaged_replicas, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_meets_rot_is_served_and_has_it_repaired_without_a_scrub() {
    let cluster = TestCluster::start_with(2, never).await;
    let chunk = sealed(&cluster, 2).await;
    rot(&cluster.nodes[0], 5);
    assert!(read_as_client(&cluster.nodes[0], &chunk).await == content());
    repaired(&cluster, &cluster.nodes[0], 1).await;
    assert!(read(&cluster.nodes[0], chunk.chunk, 0, all(), 0).await.unwrap() == content());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_two_copies_is_repaired_from_the_other() {
    let cluster = TestCluster::start_with(2, always).await;
    let chunk = sealed(&cluster, 2).await;
    rot(&cluster.nodes[0], 2);
    rot(&cluster.nodes[1], 9);
    for node in &cluster.nodes {
        repaired(&cluster, node, 1).await;
        assert!(read(node, chunk.chunk, 0, all(), 0).await.unwrap() == content());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rot_that_no_copy_can_repair_is_told_and_never_served() {
    let cluster = TestCluster::start_with(1, always).await;
    let chunk = sealed(&cluster, 1).await;
    rot(&cluster.nodes[0], 4);
    let damaged = |beat: &&v1::HeartbeatRequest| beat.damaged_replicas > 0;
    let node = &cluster.nodes[0];
    let beat = cluster.meta.wait(|state| state.last_beat.get(&node.id).filter(damaged).cloned()).await;
    assert_eq!((beat.damaged_replicas, beat.damaged_chunks), (1, vec![chunk.chunk]));
    let (from, length) = (4 * RECORD as u64, RECORD as u64);
    assert_eq!(kind(read(node, chunk.chunk, from + 10, 20_000, 0).await.unwrap_err()), "Corrupt");
    // What is good of it is served all the same.
    assert!(read(node, chunk.chunk, from + length, length, 0).await.unwrap() == payload(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn rot_is_repaired_from_s3_when_no_other_node_has_the_bytes() {
    let bucket = tempfile::tempdir().unwrap();
    let url = format!("file://{}", bucket.path().display());
    let cluster = TestCluster::start_with(1, |config| {
        always(config);
        config.understore = Some(UnderStoreConfig { url: url.clone(), ..UnderStoreConfig::default() });
    })
    .await;
    let chunk = sealed(&cluster, 1).await;
    let node = &cluster.nodes[0];
    let key = "packs/0000000000000006".to_owned();
    let chunks = vec![v1::UploadChunk { chunk: chunk.chunk, length: chunk.length, chain: chunk.chain }];
    let upload = v1::Upload { intent: 5, pack: 6, key: key.clone(), chunks };
    cluster.meta.give(node.id, Work::Upload(upload)).await;
    let uploaded = |report: &v1::ReportWorkRequest| match &report.outcome {
        Some(Outcome::Uploaded(uploaded)) => uploaded.chunks.first().copied(),
        _ => None,
    };
    let put = cluster.meta.wait(|state| state.reports.iter().find_map(uploaded)).await;
    let place = v1::PackPlace { pack: 6, key, offset: put.offset, length: put.length };
    cluster.meta.change(|state| {
        state.chunks.get_mut(&chunk.chunk).unwrap().place = Some(place.clone());
    });
    cluster
        .meta
        .give(node.id, Work::Persisted(v1::PersistedNotice { chunk: chunk.chunk, place: Some(place) }))
        .await;
    rot(node, 6);
    let beat = repaired(&cluster, node, 1).await;
    assert_eq!(beat.damaged_replicas, 0);
    assert!(read(node, chunk.chunk, 0, all(), 0).await.unwrap() == content());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_replica_with_rot_takes_no_more_and_its_seal_brings_it_up() {
    let cluster = TestCluster::start_with(2, always).await;
    let chunk = fill(&cluster, 2).await;
    rot(&cluster.nodes[1], 3);
    let asked = cluster.meta.wait(|state| state.seals.first().cloned()).await;
    let blamed = (asked.chunk, asked.blame_node, asked.reason.as_str());
    assert_eq!(blamed, (chunk, cluster.nodes[1].id, "replica damaged"));
    let over = |state: &super::meta::State| {
        state.chunks.get(&chunk).filter(|c| c.state() == v1::ChunkState::Sealed).cloned()
    };
    let closed = cluster.meta.wait(over).await;
    assert_eq!(closed.length, all());
    for node in &cluster.nodes {
        notice(&cluster, node, &closed).await;
        assert!(read(node, chunk, 0, all(), 0).await.unwrap() == content());
    }
}
