//! Whole clusters over each transport: what holds by gRPC holds in frames and over the unix socket.
//!
//! Any other test of this binary runs by gRPC alone with CAIRN_TRANSPORT=grpc CAIRN_DATA_TRANSPORT=grpc in its
//! environment.

use std::time::{Duration, Instant};

use cairn_sdk::types::NodeId;
use cairn_sdk::{Client, ConnectOptions, Transport};
use cairn_tests::cluster::{Cluster, ClusterOptions, Pump, Wire, eventually, verify};

use crate::servers::get;

const LOG: &str = "/log";

/// A cluster whose nodes talk so, and a client that does.
async fn start(nodes: &str, client: Transport) -> (Cluster, Client) {
    let data_toml = format!("transport = \"{nodes}\"\n");
    let cluster = Cluster::start(ClusterOptions { data_toml, ..ClusterOptions::default() }).await.unwrap();
    let options = ConnectOptions { transport: client, ..ConnectOptions::new(cluster.meta_addresses()) };
    let client = Client::connect(options).await.unwrap();
    (cluster, client)
}

/// Framed connections that the data nodes hold, all together.
async fn framed_connections(cluster: &Cluster) -> u64 {
    let mut count = 0;
    for data in &cluster.datas {
        let (_, metrics) = get(data.http(), "/metrics").await.unwrap();
        let line = metrics.lines().find(|line| line.starts_with("cairn_data_frames_connections "));
        count += line.and_then(|line| line.split(' ').nth(1)?.parse::<f64>().ok()).unwrap_or(0.0) as u64;
    }
    count
}

async fn primary(cluster: &Cluster, client: &Client) -> usize {
    let wire = Wire::new(cluster, client);
    let look = || async { wire.tail(LOG).await.ok() };
    let tail = eventually("an open tail", Duration::from_secs(60), look).await.unwrap();
    cluster.data_of(client, NodeId(tail.primary)).await.unwrap()
}

/// Appends, kills the primary, appends on, and reads everything back.
async fn survives_its_primary(mut cluster: Cluster, client: Client, what: &str) {
    let mut pump = Pump::start(client.open_append(LOG).await.unwrap(), 1, 8, 3000);
    pump.advance(200).await;
    let killed = primary(&cluster, &client).await;
    cluster.datas[killed].kill();
    pump.advance(200).await;
    let (appender, ledger) = pump.stop().await;
    assert!(ledger.errors.is_empty(), "{what}: {:?}", ledger.errors.first());
    let file = client.open(LOG).await.unwrap();
    let length = usize::try_from(file.length()).unwrap();
    let bytes = file.read_at(0, length).await.unwrap();
    verify(&bytes, &[&ledger]).unwrap_or_else(|wrong| panic!("{what}: {wrong}"));
    appender.close().await.unwrap();
    // Blocks of several chunks and sizes.
    let body: Vec<u8> = (0..9_000_001_usize).map(|n| (n ^ (n >> 11)) as u8).collect();
    client.put("/file", 0o644, &body).await.unwrap();
    let file = client.open("/file").await.unwrap();
    for (offset, length) in
        [(0, body.len()), (1, 1), (1 << 20, 1 << 20), (4_194_303, 4_194_306), (8_999_999, 2)]
    {
        let read = file.read_at(offset as u64, length).await.unwrap();
        assert!(read == body[offset..offset + length], "{what}: {offset}+{length}");
    }
    println!("{what}: longest pause {} ms", ledger.longest_pause_ms);
    client.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_clusters_mean_the_same_over_each_transport() {
    for (name, transport) in [("grpc", Transport::Grpc), ("tcp", Transport::Tcp), ("auto", Transport::Auto)] {
        let (cluster, client) = start(name, transport).await;
        let log = client.open_append("/first").await.unwrap();
        log.append(&b"one"[..]).await.unwrap();
        // That of the client, and those of the primary to its secondaries.
        let expected = if transport == Transport::Grpc { 0 } else { 3 };
        let connections = framed_connections(&cluster).await;
        assert!((connections == 0) == (expected == 0) && connections >= expected, "{name}: {connections}");
        log.close().await.unwrap();
        survives_its_primary(cluster, client, name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_and_nodes_of_different_transports_work_together() {
    let (cluster, client) = start("grpc", Transport::Auto).await;
    survives_its_primary(cluster, client, "a client that would speak frames, nodes that do not").await;
    let (cluster, client) = start("auto", Transport::Grpc).await;
    survives_its_primary(cluster, client, "nodes that speak frames, a client that does not").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_whose_first_holder_hangs_is_asked_of_another_at_once() {
    let (mut cluster, client) = start("auto", Transport::Auto).await;
    let body: Vec<u8> = (0..300_000_usize).map(|n| (n ^ (n >> 9)) as u8).collect();
    client.put("/file", 0o644, &body).await.unwrap();
    let mut hedged = 0;
    for node in 0..3 {
        // A client of its own, that suspects nobody yet, and has read a little.
        let options = ConnectOptions::new(cluster.meta_addresses());
        let client = Client::connect(ConnectOptions { transport: Transport::Auto, ..options }).await.unwrap();
        let file = client.open("/file").await.unwrap();
        for _ in 0..300 {
            assert_eq!(file.read_at(0, body.len()).await.unwrap().len(), body.len());
        }
        cluster.datas[node].pause();
        let started = Instant::now();
        assert!(file.read_at(0, body.len()).await.unwrap() == body);
        println!("node {node} hung: {} ms, hedged {}", started.elapsed().as_millis(), client.hedged_reads());
        hedged += client.hedged_reads();
        cluster.datas[node].resume();
        cluster.wait_ready(Duration::from_secs(30)).await.unwrap();
    }
    assert!(hedged > 0, "one of the three is asked first");
}
