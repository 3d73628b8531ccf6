//! Several disks in a data node: all of them are used, one that fails or is gone takes its chunks out and the node
//! lives, and two copies are never in one process.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cairn_sdk::types::{Persist, Policy};
use cairn_sdk::{Client, DataNode, StatusReply};
use cairn_tests::cluster::{Cluster, ClusterOptions, Wire, eventually};
use cairn_tests::syscall_fault::{FaultError, SyscallFault};
use serde_json::Value;

use crate::append_failures::{LOG, goes_on, pumping, tail_nodes};
use crate::members::cairn;
use crate::removed_nodes::{content, holders, path, read_all, remove, write};
use crate::servers::get;

const FILES: usize = 12;
/// Silent nodes are found after 3 s, and copies are made within seconds.
const SOON: Duration = Duration::from_secs(90);
/// Segments that a disk of these tests can have, at most.
const SEGMENTS_MAX: usize = 256;

async fn status_when(client: &Client, what: &str, fits: impl Fn(&StatusReply) -> bool) -> StatusReply {
    let look = || async { client.status().await.ok().filter(|status| fits(status)) };
    eventually(what, SOON, look).await.unwrap()
}

fn settled(status: &StatusReply) -> bool {
    status.chunks_open == 0 && status.chunks_sealing == 0
}

/// The nodes that one process serves, when each has told where its disk is.
fn told<'s>(status: &'s StatusReply, address: &str, disks: usize) -> Option<Vec<&'s DataNode>> {
    let own = status.nodes.iter().filter(|n| n.address == address && n.alive && !n.dir.is_empty());
    Some(own.collect::<Vec<_>>()).filter(|own| own.len() == disks)
}

/// The node that the disk in `dir` is.
async fn node_in(client: &Client, dir: &Path) -> u64 {
    let dir = dir.display().to_string();
    let look = |s: &StatusReply| s.nodes.iter().find(|n| n.dir == dir && n.alive).map(|n| n.node);
    look(&status_when(client, "the disk to be told", |s| look(s).is_some()).await).unwrap()
}

/// The address of each node.
async fn addresses(client: &Client, nodes: &[u64]) -> Vec<String> {
    let status = client.status().await.unwrap();
    let of = |node: &u64| status.nodes.iter().find(|n| n.node == *node).unwrap().address.clone();
    nodes.iter().map(of).collect()
}

async fn all_read(cluster: &Cluster, files: usize) {
    let reader = cluster.client().await.unwrap();
    for n in 0..files {
        assert!(read_all(&reader, &path(n)).await == content(n), "{} differs", path(n));
    }
    reader.close().await.unwrap();
}

/// Two copies of each chunk, and nothing to write through to.
fn two_copies() -> Policy {
    Policy { replicas: 2, min_replicas: 2, persist: Persist::Never, ..Policy::cluster() }
}

fn alone(disks: usize) -> ClusterOptions {
    let policy = Policy { persist: Persist::Never, ..Policy::single() };
    ClusterOptions { disks, policy, ..ClusterOptions::single() }
}

fn segment_files(disk: &Path) -> Vec<PathBuf> {
    (0..SEGMENTS_MAX).map(|slot| disk.join(format!("segments/{slot:08}.seg"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_takes_files_on_all_its_disks_and_finds_them_after_a_restart() {
    let mut cluster = Cluster::start(alone(3)).await.unwrap();
    let client = cluster.client().await.unwrap();
    let address = cluster.datas[0].address().to_owned();
    let known = |s: &StatusReply| told(s, &address, 3).is_some();
    status_when(&client, "all disks to be told", known).await;
    let mut files = 0;
    let used = |s: &StatusReply| s.nodes.iter().all(|n| n.chunks > 0);
    // Chance chooses the disks.
    while files < 200 && !used(&client.status().await.unwrap()) {
        write(&cluster, files).await;
        files += 1;
    }
    let status = status_when(&client, "a chunk on each disk", used).await;
    let before: BTreeSet<(u64, String)> = status.nodes.iter().map(|n| (n.node, n.dir.clone())).collect();
    assert_eq!(before.len(), 3);

    let shown = cairn(&cluster, "status").await.text();
    let listed = cairn(&cluster, "admin node ls").await.text();
    let json: Value = serde_json::from_slice(&cairn(&cluster, "status --json").await.stdout).unwrap();
    let (_, metrics) = get(cluster.datas[0].http(), "/metrics").await.unwrap();
    for (node, dir) in &before {
        assert!(shown.contains(dir) && listed.contains(dir), "{dir}: {shown}\n{listed}");
        let nodes = json["nodes"].as_array().unwrap();
        assert!(nodes.iter().any(|n| n["node"] == *node && n["dir"] == *dir), "{json}");
        let gauge =
            metrics.lines().find(|l| l.starts_with("cairn_data_disk_capacity_bytes") && l.contains(dir));
        assert!(gauge.is_some_and(|line| !line.ends_with(" 0")), "{dir}: {metrics}");
        let usable = metrics.lines().find(|l| l.starts_with("cairn_data_disk_usable") && l.contains(dir));
        assert!(usable.is_some_and(|line| line.ends_with(" 1")), "{dir}: {metrics}");
    }
    let (ready, body) = get(cluster.datas[0].http(), "/readyz").await.unwrap();
    assert_eq!((ready, body.trim_end()), (200, "ready"));

    cluster.datas[0].kill();
    cluster.start_all().await.unwrap();
    status_when(&client, "all disks to be back", known).await;
    let after: BTreeSet<(u64, String)> =
        client.status().await.unwrap().nodes.iter().map(|n| (n.node, n.dir.clone())).collect();
    assert_eq!(after, before);
    all_read(&cluster, files).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fails_takes_its_chunks_out_and_the_node_lives() {
    let policy = Policy { persist: Persist::Never, ..Policy::cluster() };
    let options = ClusterOptions { metas: 1, disks: 2, policy, ..ClusterOptions::default() };
    let mut cluster = Cluster::start(options).await.unwrap();
    let client = cluster.client().await.unwrap();
    for n in 0..FILES {
        write(&cluster, n).await;
    }
    let mut pump = pumping(&client).await;
    let (_, secondary, tail) = tail_nodes(&cluster, &client, LOG).await;
    let address = cluster.datas[secondary].address().to_owned();
    let bad = tail.replicas.iter().find(|r| r.address == address).unwrap().node;
    let known = status_when(&client, "both disks to be told", |s| told(s, &address, 2).is_some()).await;
    let dir = known.nodes.iter().find(|n| n.node == bad).unwrap().dir.clone();
    let good = known.nodes.iter().find(|n| n.address == address && n.node != bad).unwrap().node;
    let pid = cluster.datas[secondary].pid().unwrap();
    let files = segment_files(Path::new(&dir));
    let fault = match SyscallFault::fail_on(pid, "fdatasync", "EIO", &files) {
        Ok(fault) => fault,
        Err(error @ FaultError::Unable { .. }) => {
            println!("left out: {error}");
            return;
        }
    };
    let failed = |s: &StatusReply| s.nodes.iter().any(|n| n.node == bad && n.retired);
    let status = status_when(&client, "the disk to be retired", failed).await;
    let of = |s: &StatusReply, node: u64| s.nodes.iter().find(|n| n.node == node).unwrap().clone();
    assert!(of(&status, good).alive && !of(&status, good).retired, "the other disk: {status:?}");
    pump.advance(200).await;
    drop(fault);
    assert!(cluster.datas[secondary].is_running() && cluster.datas[secondary].pid() == Some(pid));
    let says =
        format!("disk failed: node-{bad} ({dir} at {address}): the disk is retired for writing: fdatasync");
    let shown = || async { cairn(&cluster, "status").await.text().contains(&says).then_some(()) };
    eventually(&says, SOON, shown).await.unwrap();
    let (alive, body) = get(cluster.datas[secondary].http(), "/healthz").await.unwrap();
    assert!(alive == 200 && body.contains(&dir) && body.contains("retired"), "{body}");
    // What was on it is on three disks that work, two of them never in one process.
    let wire = Wire::new(&cluster, &client);
    for n in 0..FILES {
        let whole = || async {
            let mut sound = holders(&wire, &path(n)).await.into_iter();
            sound.all(|nodes| nodes.iter().filter(|node| **node != bad).count() >= 3).then_some(())
        };
        eventually("three copies elsewhere", SOON, whole).await.unwrap();
        for nodes in holders(&wire, &path(n)).await {
            let sound: Vec<u64> = nodes.into_iter().filter(|node| *node != bad).collect();
            let at: BTreeSet<String> = addresses(&client, &sound).await.into_iter().collect();
            assert_eq!(at.len(), sound.len(), "{}: {sound:?}", path(n));
        }
    }
    all_read(&cluster, FILES).await;
    // A restart changes nothing: the disk stays out, and the other one serves.
    cluster.datas[secondary].kill();
    cluster.start_all().await.unwrap();
    status_when(&client, "it is retired still", failed).await;
    let other = |s: &StatusReply| of(s, good).alive && !of(s, good).retired;
    status_when(&client, "the other disk to be back", other).await;
    goes_on(pump, &client, "a disk of several failed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_starts_without_a_disk_that_is_gone_and_its_chunks_are_made_again() {
    let options = ClusterOptions { metas: 1, disks: 2, policy: two_copies(), ..ClusterOptions::default() };
    let mut cluster = Cluster::start(options).await.unwrap();
    let client = cluster.client().await.unwrap();
    for n in 0..FILES {
        write(&cluster, n).await;
    }
    status_when(&client, "every chunk to be sealed", settled).await;
    let wire = Wire::new(&cluster, &client);
    let (lost, kept) = (cluster.datas[0].disk(1), cluster.datas[0].disk(2));
    let (gone, stays) = (node_in(&client, &lost).await, node_in(&client, &kept).await);
    cluster.datas[0].stop();
    std::fs::remove_dir_all(&lost).unwrap();
    cluster.start_all().await.unwrap();
    let told = |s: &StatusReply| {
        let named = s.nodes.iter().flat_map(|n| &n.refused).any(|r| Path::new(&r.dir) == lost);
        named && s.nodes.iter().any(|n| n.node == stays && n.alive)
    };
    status_when(&client, "the missing disk to be told", told).await;
    let shown = cairn(&cluster, "admin node ls").await.text();
    let says = format!("disk not in use: {} at {}: ", lost.display(), cluster.datas[0].address());
    assert!(shown.contains(&says) && shown.contains("no such directory"), "{shown}");
    let (ready, body) = get(cluster.datas[0].http(), "/readyz").await.unwrap();
    assert!(ready == 200 && body.contains(lost.to_str().unwrap()), "{body}");
    assert!(!lost.exists(), "it was made");
    all_read(&cluster, FILES).await;
    // It will not return: what it had with others gets copies elsewhere.
    remove(&cluster, gone).await;
    let whole = |s: &StatusReply| {
        s.chunks_under_replicated == 0 && s.chunks_lost == 0 && s.nodes.iter().all(|n| n.node != gone)
    };
    status_when(&client, "two copies of everything, and no word of the disk", whole).await;
    for n in 0..FILES {
        for nodes in holders(&wire, &path(n)).await {
            assert!(nodes.len() == 2 && !nodes.contains(&gone), "{}: {nodes:?}", path(n));
            let at: BTreeSet<String> = addresses(&client, &nodes).await.into_iter().collect();
            assert_eq!(at.len(), 2, "{}: {nodes:?}", path(n));
        }
    }
    // An empty one in its place is a new disk.
    cluster.datas[0].stop();
    std::fs::create_dir(&lost).unwrap();
    cluster.start_all().await.unwrap();
    assert!(![gone, stays].contains(&node_in(&client, &lost).await));
    status_when(&client, "nothing left out", |s| s.nodes.iter().all(|n| n.refused.is_empty())).await;
    all_read(&cluster, FILES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_copies_are_never_on_disks_of_one_process_and_a_disk_is_drained_into_its_neighbours() {
    let policy = Policy { replicas: 3, ..two_copies() };
    let options = ClusterOptions { metas: 1, datas: 2, disks: 3, policy, ..ClusterOptions::default() };
    let cluster = Cluster::start(options).await.unwrap();
    let client = cluster.client().await.unwrap();
    for n in 0..FILES {
        write(&cluster, n).await;
    }
    status_when(&client, "every chunk to be sealed", settled).await;
    let wire = Wire::new(&cluster, &client);
    let apart = async || {
        let mut nodes = BTreeSet::new();
        for n in 0..FILES {
            for copies in holders(&wire, &path(n)).await {
                let at: BTreeSet<String> = addresses(&client, &copies).await.into_iter().collect();
                assert!(copies.len() == 2 && at.len() == 2, "{}: {copies:?} at {at:?}", path(n));
                nodes.extend(copies);
            }
        }
        nodes
    };
    let leaves = *apart().await.first().unwrap();
    let drained = eventually("the level to be raised", SOON, || async {
        let asked = cairn(&cluster, &format!("admin node drain {leaves} --wait")).await;
        (!asked.stderr.contains("feature level")).then_some(asked)
    });
    let drained = drained.await.unwrap();
    assert!(
        drained.code == 0 && drained.text().contains("is drained"),
        "{} {}",
        drained.text(),
        drained.stderr
    );
    assert!(!apart().await.contains(&leaves), "its process had other disks");
    all_read(&cluster, FILES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn disks_are_known_by_what_they_are_and_a_foreign_or_damaged_one_is_left_out() {
    let mut cluster = Cluster::start(alone(2)).await.unwrap();
    let client = cluster.client().await.unwrap();
    for n in 0..FILES {
        write(&cluster, n).await;
    }
    let (one, two) = (cluster.datas[0].disk(1), cluster.datas[0].disk(2));
    let before = (node_in(&client, &one).await, node_in(&client, &two).await);
    let foreign = {
        let mut other = Cluster::start(ClusterOptions::single()).await.unwrap();
        other.datas[0].stop();
        let to = cluster.datas[0].disk(3);
        std::fs::create_dir(&to).unwrap();
        std::fs::copy(other.datas[0].directory().join("identity"), to.join("identity")).unwrap();
        to
    };
    let damaged = cluster.datas[0].disk(4);
    std::fs::create_dir_all(damaged.join("segments")).unwrap();
    std::fs::write(damaged.join("identity"), b"\x01rotten").unwrap();
    // The two change their places in the configuration, with the others in between.
    cluster.datas[0].stop();
    let named = |disks: &[&PathBuf]| format!("dirs = {disks:?}");
    let turned = named(&[&two, &foreign, &damaged, &one]);
    cluster.datas[0].reconfigure(&named(&[&one, &two]), &turned).unwrap();
    cluster.start_all().await.unwrap();
    let left_out = |s: &StatusReply| {
        let all = s.nodes.iter().flat_map(|n| &n.refused);
        let mut reasons: Vec<(String, String)> = all.map(|r| (r.dir.clone(), r.reason.clone())).collect();
        reasons.sort();
        reasons
    };
    let status = status_when(&client, "both to be told", |s| left_out(s).len() == 2).await;
    let reasons = left_out(&status);
    assert!(
        reasons[0].0 == foreign.display().to_string() && reasons[0].1.contains("belongs to cluster"),
        "{reasons:?}"
    );
    assert!(
        reasons[1].0 == damaged.display().to_string() && reasons[1].1.contains("is damaged"),
        "{reasons:?}"
    );
    assert_eq!((node_in(&client, &one).await, node_in(&client, &two).await), before);
    all_read(&cluster, FILES).await;
    // With no disk that it can use there is no node, and it says so.
    cluster.datas[0].stop();
    cluster.datas[0].reconfigure(&turned, &named(&[&foreign, &damaged])).unwrap();
    cluster.datas[0].start().unwrap();
    let server = &mut cluster.datas[0];
    for _ in 0..600 {
        if !server.is_running() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(server.stop(), Some(2));
    let log = server.log_tail();
    assert!(log.contains("no disk can be used") && log.contains("belongs to cluster"), "{log}");
}
