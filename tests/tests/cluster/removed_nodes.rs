//! A data node is gone for good: an operator removes it, what it held with others gets copies
//! elsewhere, its disk is never taken back, and what it alone held is listed.

use std::time::Duration;

use cairn_proto::v1;
use cairn_sdk::types::{NodeId, Persist, Policy};
use cairn_sdk::{Client, StatusReply};
use cairn_tests::cluster::{Cluster, ClusterOptions, Outcome, Wire, eventually, target};
use serde_json::{Value, json};

const FILES: usize = 12;
const BYTES: usize = 100_000;
/// Silent nodes are found after 3 s, and copies are made within seconds.
const SOON: Duration = Duration::from_secs(90);

async fn cairn(cluster: &Cluster, line: &str) -> Outcome {
    cluster.cairn(line, Duration::from_secs(60)).await.unwrap()
}

pub fn path(n: usize) -> String {
    format!("/file-{n}")
}

pub fn content(n: usize) -> Vec<u8> {
    (0..BYTES).map(|i| ((i * 7 + n * 13) ^ (i >> 9)) as u8).collect()
}

pub async fn read_all(client: &Client, path: &str) -> Vec<u8> {
    let file = client.open(path).await.unwrap();
    let length = usize::try_from(file.length()).unwrap();
    file.read_at(0, length).await.unwrap().to_vec()
}

/// Writes a file into a chunk of its own: that of a client which leaves then.
pub async fn write(cluster: &Cluster, n: usize) {
    let client = cluster.patient_client().await.unwrap();
    client.put(path(n), 0o644, content(n)).await.unwrap();
    client.close().await.unwrap();
}

/// The nodes that hold a file's bytes, by chunk.
pub async fn holders(wire: &Wire, path: &str) -> Vec<Vec<u64>> {
    let reply = wire.extents(target(path)).await.unwrap();
    let nodes = |chunk: &v1::Chunk| chunk.replicas.iter().map(|r| r.node).collect::<Vec<u64>>();
    reply.chunks.iter().map(nodes).collect()
}

async fn status_when(client: &Client, what: &str, fits: impl Fn(&StatusReply) -> bool) -> StatusReply {
    let look = || async { client.status().await.ok().filter(|status| fits(status)) };
    eventually(what, SOON, look).await.unwrap()
}

/// Removes a data node as soon as it is silent for long enough.
pub async fn remove(cluster: &Cluster, node: u64) {
    let shown = eventually("the node to be silent", SOON, || async {
        let shown = cairn(cluster, &format!("admin node remove {node}")).await;
        (!shown.stderr.contains("is alive")).then_some(shown)
    })
    .await
    .unwrap();
    assert_eq!(shown.code, 1, "{}", shown.stderr);
    assert!(shown.text().contains("silent for"), "{}", shown.text());
    assert!(
        shown.stderr.contains("nothing is changed") && shown.stderr.contains("--yes"),
        "{}",
        shown.stderr
    );
    let removed = cairn(cluster, &format!("admin node remove node-{node} --yes")).await;
    assert_eq!(removed.code, 0, "{}", removed.stderr);
    assert!(removed.text().contains("is removed"), "{}", removed.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_that_is_gone_for_good_held_with_others_is_copied_again() {
    let policy = Policy { replicas: 2, min_replicas: 2, persist: Persist::Never, ..Policy::cluster() };
    let options = ClusterOptions { datas: 4, policy, ..ClusterOptions::default() };
    let mut cluster = Cluster::start(options).await.unwrap();
    let client = cluster.client().await.unwrap();
    for n in 0..FILES {
        write(&cluster, n).await;
    }
    let settled = |s: &StatusReply| s.chunks_open == 0 && s.chunks_sealing == 0;
    status_when(&client, "every chunk to be sealed", settled).await;
    let wire = Wire::new(&cluster, &client);
    let first = holders(&wire, &path(0)).await.remove(0);
    assert_eq!(first.len(), 2);
    let (gone, partner) = (first[0], first[1]);

    for flags in ["", " --yes"] {
        let alive = cairn(&cluster, &format!("admin node remove {gone}{flags}")).await;
        assert_eq!(alive.code, 1, "{}", alive.stderr);
        assert!(alive.stderr.contains("is alive"), "{}", alive.stderr);
    }
    let dead = cluster.data_of(&client, NodeId(gone)).await.unwrap();
    cluster.datas[dead].kill();
    remove(&cluster, gone).await;

    let whole = |s: &StatusReply| {
        s.chunks_under_replicated == 0 && s.chunks_lost == 0 && s.nodes.iter().all(|n| n.node != gone)
    };
    status_when(&client, "two copies of everything, and no word of the node", whole).await;
    for n in 0..FILES {
        for nodes in holders(&wire, &path(n)).await {
            assert!(nodes.len() == 2 && !nodes.contains(&gone), "{}: {nodes:?}", path(n));
        }
    }
    // The other one that had the first file goes too: the new copies are read.
    let other = cluster.data_of(&client, NodeId(partner)).await.unwrap();
    cluster.datas[other].kill();
    let reader = cluster.client().await.unwrap();
    for n in 0..FILES {
        assert!(read_all(&reader, &path(n)).await == content(n), "{} differs", path(n));
    }
    // It returns, against what was said: it is told so, and leaves.
    cluster.datas[dead].start().unwrap();
    for _ in 0..600 {
        if !cluster.datas[dead].is_running() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(!cluster.datas[dead].is_running(), "it serves");
    assert!(
        cluster.datas[dead].log_tail().contains("was removed for good"),
        "{}",
        cluster.datas[dead].log_tail()
    );
    let again = cairn(&cluster, &format!("admin node remove {gone} --yes")).await;
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert!(again.text().contains("was removed before"), "{}", again.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_removed_node_alone_held_is_listed_until_its_files_are_removed() {
    let policy = Policy { persist: Persist::Never, ..Policy::single() };
    let options = ClusterOptions { datas: 2, policy, ..ClusterOptions::single() };
    let mut cluster = Cluster::start(options).await.unwrap();
    let client = cluster.client().await.unwrap();
    let unknown = cairn(&cluster, "admin node remove 999 --yes").await;
    assert_eq!(unknown.code, 1, "{}", unknown.stderr);
    assert!(unknown.stderr.contains("there is no data node node-999"), "{}", unknown.stderr);

    write(&cluster, 0).await;
    let settled = |s: &StatusReply| s.chunks_open == 0 && s.chunks_sealing == 0;
    status_when(&client, "the chunk to be sealed", settled).await;
    let wire = Wire::new(&cluster, &client);
    let gone = holders(&wire, &path(0)).await.remove(0)[0];
    let dead = cluster.data_of(&client, NodeId(gone)).await.unwrap();
    cluster.datas[dead].kill();
    remove(&cluster, gone).await;
    let listed = status_when(&client, "the loss to be listed", |s| s.chunks_lost == 1).await;
    assert_eq!((listed.lost[0].node, listed.lost[0].length), (gone, BYTES as u64));
    let shown = cairn(&cluster, "status").await;
    let says =
        format!("lost: chunk-{}: {BYTES} bytes, whose only copy was on node-{gone}", listed.lost[0].chunk);
    assert!(shown.text().contains(&says) && shown.text().contains("removed"), "{}", shown.text());
    let shown: Value = serde_json::from_slice(&cairn(&cluster, "status --json").await.stdout).unwrap();
    assert_eq!((&shown["chunks_lost"], &shown["lost"][0]["node"]), (&json!(1), &json!(gone)));

    // The file is there to be seen, and its bytes are not.
    assert_eq!(client.open(path(0)).await.unwrap().length(), BYTES as u64);
    client.unlink(path(0)).await.unwrap();
    let over = |s: &StatusReply| s.chunks_lost == 0 && s.nodes.iter().all(|n| n.node != gone);
    status_when(&client, "nothing to name the node", over).await;
}
