//! Several disks in one process, each a node of its own to the metadata.

use std::path::{Path, PathBuf};

use cairn_proto::v1;
use cairn_proto::v1::report_work_request::Outcome;
use cairn_proto::v1::work::Work;
use tempfile::TempDir;

use super::cluster::{TestNode, Writer, kind, read, tail_length};
use super::meta::{FakeMeta, stamped};
use crate::Config;

/// A process with disks in `names`, which are made below a directory of its own.
async fn start(meta: &FakeMeta, names: &[&str]) -> (TestNode, TempDir) {
    let home = tempfile::tempdir().unwrap();
    let dirs: Vec<PathBuf> = names.iter().map(|name| home.path().join(name)).collect();
    dirs.iter().for_each(|dir| std::fs::create_dir(dir).unwrap());
    let config = Config { dirs, ..TestNode::config(meta, Config::default().dir) };
    (TestNode::start_with(config).await, home)
}

/// The node that the disk in `dir` is.
async fn node_in(meta: &FakeMeta, dir: &Path) -> u64 {
    let dir = dir.display().to_string();
    meta.wait(|state| state.last_beat.values().find(|beat| beat.dir == dir).map(|beat| beat.node)).await
}

/// The chunks on the disk of a node, as the process tells.
async fn on_disk(process: &TestNode, node: u64) -> Result<Vec<u64>, tonic::Status> {
    let request = stamped(v1::SurveyReplicasRequest { after: 0, limit: 0, node });
    let page = process.client().await.survey_replicas(request).await?.into_inner();
    Ok(page.replicas.iter().map(|replica| replica.chunk).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_serves_chunks_on_each_of_its_disks_and_finds_them_when_their_order_changes() {
    let meta = FakeMeta::start().await;
    let (process, home) = start(&meta, &["a", "b", "c"]).await;
    let ids: Vec<u64> = meta.state().nodes.iter().map(|node| node.node).collect();
    assert_eq!(ids.len(), 3);
    assert!(meta.state().nodes.iter().all(|node| node.address == process.address), "at one address");
    let mut chunks = Vec::new();
    for (n, id) in ids.iter().enumerate() {
        let chunk = meta.open_chunk(&[*id], 64 << 20, &[]);
        let mut writer = Writer::open(&process, chunk, 77).await;
        let content = vec![n as u8; 1000 + n];
        assert_eq!(writer.append(1, &content).await.unwrap(), 0);
        assert_eq!(tail_length(&process, chunk).await.unwrap(), content.len() as u64);
        assert_eq!(on_disk(&process, *id).await.unwrap(), [chunk]);
        chunks.push((chunk, content));
    }
    assert_eq!(kind(on_disk(&process, 0).await.unwrap_err()), "NoSuchNode", "which disk, nobody said");
    assert_eq!(kind(on_disk(&process, 99).await.unwrap_err()), "NoSuchNode");
    let turned = ["c", "a", "b"].map(|name| home.path().join(name)).to_vec();
    let process = process.restart_with(|config| config.dirs = turned).await;
    assert_eq!(meta.state().nodes.len(), 3, "no new disk");
    for ((chunk, content), id) in chunks.iter().zip(&ids) {
        let sealed = |state: &super::meta::State| {
            (state.chunks[chunk].state() == v1::ChunkState::Sealed).then_some(state.chunks[chunk].length)
        };
        assert_eq!(meta.wait(sealed).await, content.len() as u64);
        let found = read(&process, *chunk, 0, content.len() as u64, content.len() as u64).await.unwrap();
        assert!(found == *content);
        assert_eq!(on_disk(&process, *id).await.unwrap(), [*chunk]);
    }
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_is_replicated_between_disks_of_two_processes_and_fenced_by_the_node_that_is_named() {
    let meta = FakeMeta::start().await;
    let (one, home) = start(&meta, &["a", "b"]).await;
    let (two, other_home) = start(&meta, &["a", "b"]).await;
    let primary = node_in(&meta, &home.path().join("b")).await;
    let secondary = node_in(&meta, &other_home.path().join("b")).await;
    let beside = node_in(&meta, &other_home.path().join("a")).await;
    let chunk = meta.open_chunk(&[primary, secondary], 64 << 20, &[]);
    let mut writer = Writer::open(&one, chunk, 77).await;
    writer.append(1, b"hello").await.unwrap();
    writer.append(2, b"world").await.unwrap();
    assert_eq!(on_disk(&one, primary).await.unwrap(), [chunk]);
    assert_eq!(on_disk(&two, secondary).await.unwrap(), [chunk]);
    assert!(on_disk(&two, beside).await.unwrap().is_empty());
    let record = meta.chunk(chunk);
    let fence = |node: u64| v1::FenceRequest {
        chunk,
        epoch: 2,
        opened_incarnation: record.replicas[1].incarnation,
        record: Some(record.clone()),
        node,
    };
    // A disk that is not of the set, though its process is, and a node that is elsewhere: no answer of theirs.
    for node in [beside, primary] {
        let refused = two.client().await.fence(stamped(fence(node))).await.unwrap_err();
        assert_eq!(kind(refused), "NoSuchChunk");
    }
    let fenced = two.client().await.fence(stamped(fence(secondary))).await.unwrap().into_inner();
    assert_eq!(fenced.length, 10);
    assert!(on_disk(&two, beside).await.unwrap().is_empty(), "nothing was made there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_takes_over_what_another_of_its_process_has() {
    let meta = FakeMeta::start().await;
    let (process, home) = start(&meta, &["a", "b"]).await;
    let from = node_in(&meta, &home.path().join("a")).await;
    let to = node_in(&meta, &home.path().join("b")).await;
    let chunk = meta.open_chunk(&[from], 64 << 20, &[]);
    let content = vec![9; 100_000];
    Writer::open(&process, chunk, 77).await.append(1, &content).await.unwrap();
    let sealed = meta.seal(chunk).await.unwrap();
    let copy = v1::CopyReplica {
        chunk,
        length: sealed.length,
        chain: sealed.chain,
        sources: sealed.replicas.clone(),
        ..v1::CopyReplica::default()
    };
    meta.give(to, Work::Copy(copy)).await;
    let copied =
        |report: &v1::ReportWorkRequest| report.outcome == Some(Outcome::Copied(v1::Copied { chunk }));
    meta.wait(|state| state.reports.iter().any(|r| r.node == to && copied(r)).then_some(())).await;
    assert_eq!(on_disk(&process, to).await.unwrap(), [chunk]);
    // From here on the metadata names the new one, and the old one lets go.
    meta.change(|state| {
        let holder = state.nodes.iter().find(|node| node.node == to).cloned().unwrap();
        state.chunks.get_mut(&chunk).unwrap().replicas = vec![holder];
    });
    let (epoch, length, chain) = (sealed.epoch, sealed.length, sealed.chain);
    let notice = v1::SealedNotice { chunk, epoch, length, chain, holder: false };
    meta.give(from, Work::Sealed(notice)).await;
    let done = Some(Outcome::SealedNoticeDone(chunk));
    meta.wait(|state| state.reports.iter().any(|r| r.node == from && r.outcome == done).then_some(())).await;
    assert!(on_disk(&process, from).await.unwrap().is_empty());
    let found = read(&process, chunk, 0, length, length).await.unwrap();
    assert!(found == content);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_serves_without_a_disk_that_is_gone_and_takes_it_back() {
    let meta = FakeMeta::start().await;
    let (process, home) = start(&meta, &["a", "b"]).await;
    let (here, away) = (home.path().join("b"), home.path().join("a"));
    let stays = node_in(&meta, &here).await;
    let gone = node_in(&meta, &away).await;
    let chunk = meta.open_chunk(&[gone], 64 << 20, &[]);
    Writer::open(&process, chunk, 77).await.append(1, b"kept").await.unwrap();
    process.stop().await;
    std::fs::rename(&away, home.path().join("unplugged")).unwrap();
    meta.change(|state| state.last_beat.clear());
    let config =
        Config { dirs: vec![away.clone(), here.clone()], ..TestNode::config(&meta, Config::default().dir) };
    let process = TestNode::start_with(config).await;
    assert_eq!(process.id, stays);
    let told = |state: &super::meta::State| state.last_beat.get(&stays).map(|beat| beat.refused.clone());
    let refused = meta.wait(told).await;
    assert_eq!(refused.len(), 1);
    assert!(refused[0].dir == away.display().to_string() && refused[0].reason.contains("no such directory"));
    let mut next = Writer::open(&process, meta.open_chunk(&[stays], 64 << 20, &[]), 77).await;
    next.append(1, b"more").await.unwrap();
    assert_eq!(kind(read(&process, chunk, 0, 4, 4).await.unwrap_err()), "NoSuchChunk");
    std::fs::rename(home.path().join("unplugged"), &away).unwrap();
    let process = process.restart().await;
    assert!(read(&process, chunk, 0, 4, 4).await.unwrap() == b"kept");
    meta.wait(|state| state.last_beat.get(&gone).map(|_| ())).await;
    let cleared = |state: &super::meta::State| {
        state.last_beat.values().all(|beat| beat.refused.is_empty()).then_some(())
    };
    meta.wait(cleared).await;
}
