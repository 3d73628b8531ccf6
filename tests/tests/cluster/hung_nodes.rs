//! Data nodes that hang (SIGSTOP): nothing is said to be done that is not, what others can do goes on,
//! and a node that is only slow keeps what it has.

use std::time::{Duration, Instant};

use cairn_sdk::types::{NodeId, Policy};
use cairn_sdk::{Appender, Client, ConnectOptions, ErrorKind};
use cairn_tests::cluster::{Cluster, ClusterOptions, UnderStore, Wire};

async fn start(options: ClusterOptions) -> (Cluster, Client) {
    let cluster = Cluster::start(options).await.unwrap();
    let client = cluster.client().await.unwrap();
    (cluster, client)
}

/// Writes through to a directory, and not by itself while a test runs.
fn to_a_directory() -> ClusterOptions {
    ClusterOptions {
        understore: UnderStore::Directory,
        policy: Policy { max_lag_ms: 600_000, ..Policy::cluster() },
        ..ClusterOptions::default()
    }
    .steady()
}

/// An appender whose tail stays open until the test does something to it.
async fn appender(cluster: &Cluster) -> Appender {
    let log = cluster.patient_client().await.unwrap().open_append("/log").await.unwrap();
    log.append(&b"acknowledged"[..]).await.unwrap();
    log
}

async fn impatient(cluster: &Cluster) -> Client {
    let mut options = ConnectOptions::new(cluster.meta_addresses());
    options.retry_budget = Duration::from_secs(3);
    Client::connect(options).await.unwrap()
}

/// The position of the primary of a path's open tail.
async fn primary(cluster: &Cluster, client: &Client, path: &str) -> usize {
    let tail = Wire::new(cluster, client).tail(path).await.unwrap();
    cluster.data_of(client, NodeId(tail.primary)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn sync_is_not_done_while_the_end_of_a_tail_is_unknown() {
    let (mut cluster, client) = start(to_a_directory()).await;
    let _log = appender(&cluster).await;
    // Nobody closes the tail, and nobody answers a fence.
    for data in &cluster.datas {
        data.pause();
    }
    let refused = impatient(&cluster).await.sync("/log").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
    assert_eq!(client.status().await.unwrap().packs, 0);
    for data in &cluster.datas {
        data.resume();
    }
    cluster.wait_ready(Duration::from_secs(60)).await.unwrap();
    client.sync("/log").await.unwrap();
    assert!(client.status().await.unwrap().packs > 0);
    let file = client.open("/log").await.unwrap();
    assert_eq!(file.read_at(0, 100).await.unwrap(), &b"acknowledged"[..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sync_goes_on_without_a_primary_that_hangs() {
    let (mut cluster, client) = start(to_a_directory()).await;
    let _log = appender(&cluster).await;
    let primary = primary(&cluster, &client, "/log").await;
    cluster.datas[primary].pause();
    client.sync("/log").await.unwrap();
    assert!(client.status().await.unwrap().packs > 0);
    cluster.datas[primary].resume();
    cluster.wait_ready(Duration::from_secs(60)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_go_on_while_one_data_node_hangs() {
    let (mut cluster, client) = start(ClusterOptions::default()).await;
    let body: Vec<u8> = (0..6_000_000_usize).map(|n| (n ^ (n >> 9)) as u8).collect();
    for n in 0..3 {
        let path = format!("/file-{n}");
        client.put(&path, 0o644, &body).await.unwrap();
        cluster.datas[n].pause();
        let started = Instant::now();
        for _ in 0..5 {
            let file = client.open(&path).await.unwrap();
            assert!(file.read_at(0, body.len()).await.unwrap() == body);
        }
        println!("node {n} hung: five reads in {} ms", started.elapsed().as_millis());
        cluster.datas[n].resume();
        cluster.wait_ready(Duration::from_secs(60)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_leaves_a_tail_to_a_primary_that_is_only_slow() {
    let (cluster, client) = start(ClusterOptions::default().steady()).await;
    let log = appender(&cluster).await;
    let wire = Wire::new(&cluster, &client);
    let before = wire.tail("/log").await.unwrap().chunk;
    let primary = primary(&cluster, &client, "/log").await;
    cluster.datas[primary].pause();
    let reader = client.clone();
    let asked = tokio::spawn(async move { reader.stat("/log").await });
    // Longer than an append may take, shorter than a node may be silent.
    tokio::time::sleep(Duration::from_secs(1)).await;
    cluster.datas[primary].resume();
    assert_eq!(asked.await.unwrap().unwrap().size, 12);
    assert_eq!(wire.tail("/log").await.unwrap().chunk, before);
    assert_eq!(log.append(&b"."[..]).await.unwrap(), 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_says_when_the_end_could_not_be_recorded() {
    let (mut cluster, _) = start(ClusterOptions::single()).await;
    let client = impatient(&cluster).await;
    let log = client.open_append("/log").await.unwrap();
    log.append(&b"acknowledged"[..]).await.unwrap();
    client.put("/file", 0o644, b"acknowledged").await.unwrap();
    cluster.datas[0].pause();
    log.close().await.unwrap_err();
    client.close().await.unwrap_err();
    cluster.datas[0].resume();
    cluster.wait_ready(Duration::from_secs(60)).await.unwrap();
    let client = cluster.client().await.unwrap();
    assert_eq!(client.stat("/log").await.unwrap().size, 12);
}
