//! Everything stops, or dies, and starts again: what was acknowledged is there.

use std::time::{Duration, Instant};

use cairn_sdk::Client;
use cairn_sdk::types::Policy;
use cairn_tests::cluster::{Cluster, ClusterOptions, Pump, UnderStore, verify};

async fn content(client: &Client, path: &str) -> Vec<u8> {
    let file = client.open(path).await.unwrap();
    let length = usize::try_from(file.length()).unwrap();
    file.read_at(0, length).await.unwrap().to_vec()
}

fn pattern(seed: usize, length: usize) -> Vec<u8> {
    (0..length).map(|n| ((n * 7 + seed * 13) ^ (n >> 9)) as u8).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_killed_at_once_and_starts_again() {
    let mut cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    let client = cluster.client().await.unwrap();
    client.mkdir("/files", 0o755).await.unwrap();
    for n in 0..40 {
        client.put(format!("/files/{n}"), 0o640, pattern(n, n * 997)).await.unwrap();
    }
    client.put("/files/large", 0o644, pattern(99, 9 << 20)).await.unwrap();
    client.symlink("/files/0", "/link").await.unwrap();
    let mut pump = Pump::start(client.open_append("/log").await.unwrap(), 1, 8, 500);
    for _ in 0..2 {
        pump.advance(150).await;
        cluster.kill_all();
        cluster.start_all().await.unwrap();
    }
    pump.advance(150).await;
    let (_, ledger) = pump.stop().await;
    assert!(ledger.errors.is_empty(), "{:?}", ledger.errors);
    let fresh = cluster.client().await.unwrap();
    verify(&content(&fresh, "/log").await, &[&ledger]).unwrap();
    for n in 0..40 {
        assert_eq!(content(&fresh, &format!("/files/{n}")).await, pattern(n, n * 997), "file {n}");
    }
    assert!(content(&fresh, "/files/large").await == pattern(99, 9 << 20), "the large file differs");
    assert_eq!(content(&fresh, "/link").await, pattern(0, 0));
    assert_eq!(fresh.stat("/files/3").await.unwrap().mode, 0o640);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_stop_leaves_within_ten_seconds_and_loses_nothing() {
    let mut cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    let client = cluster.client().await.unwrap();
    let mut pump = Pump::start(client.open_append("/log").await.unwrap(), 1, 8, 500);
    pump.advance(100).await;
    let (appender, ledger) = pump.stop().await;
    for server in cluster.datas.iter_mut().chain(&mut cluster.metas) {
        let started = Instant::now();
        let code = server.stop();
        let took = started.elapsed();
        assert_eq!(code, Some(0), "{}: {}", server.name(), server.log_tail());
        assert!(took < Duration::from_secs(10), "{} took {took:?} to leave", server.name());
    }
    cluster.start_all().await.unwrap();
    verify(&content(&client, "/log").await, &[&ledger]).unwrap();
    drop(appender);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_server_of_each_is_enough_and_survives_kill_9() {
    let options = ClusterOptions { understore: UnderStore::Directory, ..ClusterOptions::single() };
    let mut cluster = Cluster::start(options).await.unwrap();
    let client = cluster.client().await.unwrap();
    let mut pump = Pump::start(client.open_append("/log").await.unwrap(), 1, 4, 500);
    for _ in 0..3 {
        pump.advance(100).await;
        cluster.kill_all();
        cluster.start_all().await.unwrap();
    }
    pump.advance(50).await;
    let (_, ledger) = pump.stop().await;
    assert!(ledger.errors.is_empty(), "{:?}", ledger.errors);
    verify(&content(&client, "/log").await, &[&ledger]).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_persisted_yet_goes_up_after_a_restart() {
    let policy = Policy { max_lag_ms: 60_000, ..Policy::cluster() };
    let options = ClusterOptions { understore: UnderStore::Directory, policy, ..ClusterOptions::default() };
    let mut cluster = Cluster::start(options).await.unwrap();
    let client = cluster.client().await.unwrap();
    let body = pattern(5, 3 << 20);
    client.put("/file", 0o644, &body).await.unwrap();
    let mut pump = Pump::start(client.open_append("/log").await.unwrap(), 1, 8, 500);
    pump.advance(100).await;
    cluster.kill_all();
    cluster.start_all().await.unwrap();
    pump.advance(20).await;
    let (_, ledger) = pump.stop().await;
    client.sync("/file").await.unwrap();
    client.sync("/log").await.unwrap();
    assert!(client.status().await.unwrap().packs > 0);
    assert!(content(&client, "/file").await == body);
    verify(&content(&client, "/log").await, &[&ledger]).unwrap();
}
