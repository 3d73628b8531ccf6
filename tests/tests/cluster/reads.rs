//! Reads that every metadata server answers, and reads of many at once.

use std::time::{Duration, Instant};

use cairn_sdk::types::FsError;
use cairn_sdk::{Client, ConnectOptions, ErrorKind, ListingOptions};
use cairn_tests::cluster::{Cluster, ClusterOptions, eventually};

use crate::servers::get;

const SOON: Duration = Duration::from_secs(60);

fn metas_only() -> ClusterOptions {
    ClusterOptions { datas: 0, ..ClusterOptions::default() }
}

async fn spreading(cluster: &Cluster) -> Client {
    let options = ConnectOptions { spread_reads: true, ..ConnectOptions::new(cluster.meta_addresses()) };
    Client::connect(options).await.unwrap()
}

/// Stats that each server has answered.
async fn answered(cluster: &Cluster) -> Vec<u64> {
    let mut counts = Vec::new();
    for server in &cluster.metas {
        let (_, metrics) = get(server.http(), "/metrics").await.unwrap();
        let line = metrics.lines().find(|l| l.starts_with("cairn_meta_rpc_seconds_count{verb=\"Stat\"}"));
        counts.push(line.and_then(|l| l.rsplit(' ').next()).map_or(0, |n| n.parse().unwrap()));
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_spread_over_all_servers_see_what_was_acknowledged() {
    let mut cluster = Cluster::start(metas_only()).await.unwrap();
    let client = spreading(&cluster).await;
    for n in 0..60 {
        let path = format!("/d{n}");
        let made = client.mkdir(&path, 0o755).await.unwrap();
        assert_eq!(client.stat(&path).await.unwrap().ino, made.ino, "{path} is seen at once");
    }
    // One that was silent for a moment is left out for a while.
    let each = || async {
        client.stat("/d0").await.unwrap();
        answered(&cluster).await.iter().all(|count| *count >= 10).then_some(())
    };
    eventually("each server to answer", SOON, each).await.unwrap();
    let mut listing = client.list("/", ListingOptions::default());
    let mut listed = 0;
    while listing.next().await.unwrap().is_some() {
        listed += 1;
    }
    assert_eq!(listed, 60);
    let leader = cluster.leader(&client).await.unwrap();
    let follower = (0..cluster.metas.len()).find(|at| *at != leader).unwrap();
    cluster.metas[follower].kill();
    for n in 60..90 {
        let path = format!("/d{n}");
        client.mkdir(&path, 0o755).await.unwrap();
        client.stat(&path).await.unwrap();
    }
    client.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_read_tells_its_age_and_is_refused_when_it_cannot() {
    let mut cluster = Cluster::start(metas_only()).await.unwrap();
    let mut options = ConnectOptions::new(cluster.meta_addresses());
    options.retry_budget = Duration::from_secs(3);
    let client = Client::connect(options).await.unwrap();
    let made = client.mkdir("/d", 0o755).await.unwrap();
    let bound = Duration::from_millis(200);
    let seen = || async {
        let asked = Instant::now();
        let answer = client.stat_within("/d", bound).await.ok()?;
        let most = bound + asked.elapsed();
        assert!(u128::from(answer.age_ms) <= most.as_millis() + 1, "told {} ms of {most:?}", answer.age_ms);
        Some(answer.value)
    };
    let seen = eventually("a server shows the directory", SOON, seen).await.unwrap();
    assert_eq!(seen.ino, made.ino);
    let options = ListingOptions { max_age: Some(Duration::from_secs(60)), ..ListingOptions::default() };
    let mut listing = client.list("/", options.clone());
    assert_eq!(listing.next().await.unwrap().unwrap().name.to_string(), "d");
    assert!(listing.age_ms() <= 60_000);
    // One server that is alone can tell for a while how old its state is, then no longer.
    for at in [0, 1] {
        cluster.metas[at].kill();
    }
    let refused = || async { client.stat_within("/d", Duration::from_millis(1)).await.err() };
    let refused = eventually("the lone server to refuse", SOON, refused).await.unwrap();
    let nobody = [ErrorKind::Unavailable, ErrorKind::Unknown].contains(&refused.kind());
    assert!(nobody && refused.fs().is_none(), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_are_looked_up_in_one_call_each_with_its_own_outcome() {
    let cluster = Cluster::start(ClusterOptions { metas: 1, ..metas_only() }).await.unwrap();
    let client = cluster.client().await.unwrap();
    for n in 0..40 {
        client.mkdir(format!("/d{n}"), 0o755).await.unwrap();
    }
    let paths: Vec<String> = (0..1100).map(|n| format!("/d{n}")).collect();
    let found = client.stat_all(&paths).await.unwrap();
    assert_eq!(found.len(), 1100);
    for (n, outcome) in found.into_iter().enumerate() {
        match outcome {
            Ok(inode) => assert!(n < 40 && inode.is_dir(), "{n}"),
            Err(error) => {
                assert!(n >= 40, "{n}: {error}");
                assert_eq!(error.fs(), Some(&FsError::NotFound));
            }
        }
    }
    assert!(client.stat_all(Vec::<String>::new()).await.unwrap().is_empty());
    client.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_by_the_leaders_lease_see_what_was_acknowledged_and_follow_the_lead() {
    let mut cluster = Cluster::start(metas_only()).await.unwrap();
    let options = ConnectOptions { lease_reads: true, ..ConnectOptions::new(cluster.meta_addresses()) };
    let client = Client::connect(options).await.unwrap();
    let other = cluster.client().await.unwrap();
    for n in 0..40 {
        let path = format!("/d{n}");
        if n == 20 {
            let leader = cluster.leader(&client).await.unwrap();
            cluster.metas[leader].kill();
        }
        let made = other.mkdir(&path, 0o755).await.unwrap();
        assert_eq!(client.stat(&path).await.unwrap().ino, made.ino, "{path} is seen at once");
    }
    client.close().await.unwrap();
    other.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn stats_that_are_asked_for_at_once_share_calls_and_each_has_its_own_outcome() {
    let cluster = Cluster::start(ClusterOptions { metas: 1, ..metas_only() }).await.unwrap();
    let client = cluster.client().await.unwrap();
    let mut inos = Vec::new();
    for n in 0..20 {
        inos.push(client.mkdir(format!("/d{n}"), 0o755).await.unwrap().ino);
    }
    let before = answered(&cluster).await;
    let asked = (0..400).map(|n| {
        let client = client.clone();
        async move { client.stat(format!("/d{}", n % 25)).await }
    });
    let outcomes = futures::future::join_all(asked).await;
    for (n, outcome) in outcomes.into_iter().enumerate() {
        match inos.get(n % 25) {
            Some(ino) => assert_eq!(outcome.unwrap().ino, *ino),
            None => assert_eq!(outcome.unwrap_err().fs(), Some(&FsError::NotFound)),
        }
    }
    let alone = answered(&cluster).await[0] - before[0];
    assert!(alone < 200, "{alone} of 400 went alone");
    // What is asked for after a change is acknowledged sees it, whatever is under way.
    let busy = tokio::spawn({
        let client = client.clone();
        async move {
            for _ in 0..200 {
                client.stat("/d0").await.unwrap();
            }
        }
    });
    for n in 0..50 {
        let made = client.mkdir(format!("/new{n}"), 0o755).await.unwrap();
        assert_eq!(client.stat(format!("/new{n}")).await.unwrap().ino, made.ino);
    }
    busy.await.unwrap();
    client.close().await.unwrap();
}
