//! Write-through to a real S3 server behind the fault proxy: packs, S3 away, answers lost, copies
//! dropped and read back, answers that lie.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cairn_proto::v1::{EvictRequest, NodeStatusRequest};
use cairn_sdk::types::{FsError, Persist, Policy};
use cairn_sdk::{Client, ConnectOptions, ErrorKind};
use cairn_tests::cluster::{Cluster, ClusterOptions, Pump, UnderStore, Wire, eventually, record, verify};
use cairn_tests::fault_proxy::{Fault, FaultProxy, Link, When};
use cairn_tests::s3_server::Bucket;

/// A cluster that writes through the proxy to SeaweedFS, into a bucket of its own.
struct Setup {
    cluster: Cluster,
    client: Client,
    proxy: FaultProxy,
    bucket: Bucket,
    /// Past the proxy.
    s3: aws_sdk_s3::Client,
}

fn quick() -> Policy {
    Policy { max_lag_ms: 2_000, ..Policy::cluster() }
}

fn packs() -> When {
    When::any().path_contains("/packs/")
}

impl Setup {
    async fn start(policy: Policy) -> Self {
        let bucket = Bucket::shared().await.unwrap();
        let proxy = FaultProxy::start(bucket.endpoint()).await.unwrap();
        let understore = UnderStore::bucket_at(&proxy.endpoint(), &bucket, "cluster");
        // What the tests count (chunks, packs, copies) is not to depend on how busy the machine is.
        let options = ClusterOptions { policy, understore, ..ClusterOptions::default() }.steady();
        let cluster = Cluster::start(options).await.unwrap();
        let client = cluster.patient_client().await.unwrap();
        let s3 = bucket.client();
        Self { cluster, client, proxy, bucket, s3 }
    }

    /// Every pack in the bucket, with its size.
    async fn packs(&self) -> BTreeMap<String, i64> {
        let listed = self.s3.list_objects_v2().bucket(self.bucket.name()).prefix("cluster/");
        let mut pages = listed.into_paginator().send();
        let mut found = BTreeMap::new();
        while let Some(page) = pages.next().await {
            for object in page.unwrap().contents() {
                let key = object.key().unwrap();
                if key.contains("/packs/") {
                    found.insert(key.to_owned(), object.size().unwrap());
                }
            }
        }
        found
    }

    /// Drops every copy that may go from every data node; answers the bytes dropped.
    async fn evict(&self) -> u64 {
        let wire = Wire::new(&self.cluster, &self.client);
        let mut bytes = 0;
        for data in &self.cluster.datas {
            let mut node = wire.data(data.address()).await.unwrap();
            bytes += node.evict(wire.request(EvictRequest { chunk: 0 })).await.unwrap().into_inner().bytes;
        }
        bytes
    }

    /// Evicts this much at least, and all that there is, once every node knows that it may: they hear of it a moment
    /// after the log, and who has a copy left needs to ask nobody.
    async fn evict_at_least(&self, bytes: u64) {
        let wire = Wire::new(&self.cluster, &self.client);
        let may_go = || async {
            for data in &self.cluster.datas {
                let mut node = wire.data(data.address()).await.ok()?;
                let status = node.node_status(wire.request(NodeStatusRequest::default()));
                if status.await.ok()?.into_inner().pinned_bytes > 0 {
                    return None;
                }
            }
            Some(())
        };
        eventually("all copies to be free to go", Duration::from_secs(60), may_go).await.unwrap();
        let mut dropped = 0;
        let deadline = Instant::now() + Duration::from_secs(60);
        while dropped < bytes {
            dropped += self.evict().await;
            assert!(Instant::now() < deadline, "{dropped} bytes dropped of {bytes}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn lag_gone(&self, within: Duration) {
        let gone = || async { (self.client.status().await.ok()?.lag_bytes == 0).then_some(()) };
        eventually("no lag", within, gone).await.unwrap();
    }
}

async fn content(client: &Client, path: &str) -> Result<Vec<u8>, cairn_sdk::Error> {
    let file = client.open(path).await?;
    let length = usize::try_from(file.length()).unwrap();
    Ok(file.read_at(0, length).await?.to_vec())
}

fn pattern(seed: usize, length: usize) -> Vec<u8> {
    (0..length).map(|n| ((n * 11 + seed * 17) ^ (n >> 10)) as u8).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_appear_in_the_bucket_by_themselves() {
    let setup = Setup::start(quick()).await;
    for n in 0..50 {
        setup.client.put(format!("/small-{n}"), 0o644, pattern(n, 4096)).await.unwrap();
    }
    let log = setup.client.open_append("/log").await.unwrap();
    let (mut pump, begun) = (Pump::start(log, 1, 4, 1000), Instant::now());
    pump.advance(100).await;
    // Nobody asks for it, and the log stays open.
    let there = || async { (setup.packs().await.values().sum::<i64>() >= 50 * 4096).then_some(()) };
    eventually("packs in the bucket", Duration::from_secs(60), there).await.unwrap();
    let (appender, ledger) = pump.stop().await;
    assert!(ledger.errors.is_empty(), "{:?}", ledger.errors);
    appender.close().await.unwrap();
    setup.lag_gone(Duration::from_secs(60)).await;
    let same = || async {
        let (status, packs) = (setup.client.status().await.ok()?, setup.packs().await);
        (status.packs == packs.len() as u64).then_some(packs)
    };
    let packs =
        eventually("the metadata to name what is there", Duration::from_secs(60), same).await.unwrap();
    // The log's tail goes up twice in its lag of two seconds, for as long as it grows.
    let most = 20 + begun.elapsed().as_secs() as usize;
    assert!(packs.len() < most, "small chunks share packs: {packs:?}");
    verify(&content(&setup.client, "/log").await.unwrap(), &[&ledger]).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_away_and_back() {
    let away = if std::env::var_os("CAIRN_LONG").is_some() { 60 } else { 5 };
    let setup = Setup::start(quick()).await;
    let log = setup.client.open_append("/log").await.unwrap();
    let mut pump = Pump::start(log, 1, 4, 2000);
    pump.advance(50).await;
    setup.proxy.set_link(Link::Refused);
    let back = Instant::now() + Duration::from_secs(away);
    while Instant::now() < back {
        pump.advance(20).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let told = || async {
        let status = setup.client.status().await.ok()?;
        (status.lag_bytes > 0 && !status.under_store_error.is_empty()).then_some(())
    };
    eventually("the status to tell the lag and that S3 fails", Duration::from_secs(60), told).await.unwrap();
    let (appender, ledger) = pump.stop().await;
    // Below the bound nobody who appends notices.
    assert!(ledger.errors.is_empty(), "{:?}", ledger.errors.first());
    appender.close().await.unwrap();
    setup.proxy.heal();
    setup.lag_gone(Duration::from_secs(60)).await;
    // A node that had nothing more to upload finds out by its next probe.
    let well = || async { setup.client.status().await.ok()?.under_store_error.is_empty().then_some(()) };
    eventually("no failure of S3 in the status", Duration::from_secs(60), well).await.unwrap();
    verify(&content(&setup.client, "/log").await.unwrap(), &[&ledger]).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_lag_bound_writers_are_refused_with_the_numbers() {
    let setup = Setup::start(Policy { max_lag_bytes: 2 << 20, ..quick() }).await;
    setup.proxy.set_link(Link::Refused);
    let mut options = ConnectOptions::new(setup.cluster.meta_addresses());
    (options.retry_budget, options.append_deadline) = (Duration::from_secs(5), Duration::from_secs(20));
    let writer = Client::connect(options).await.unwrap();
    let log = writer.open_append("/log").await.unwrap();
    let (mut acknowledged, mut refused) = (BTreeMap::new(), None);
    for number in 1..=200_u64 {
        match log.append(record(1, number, 128 << 10)).await {
            Ok(offset) => drop(acknowledged.insert(number, offset)),
            Err(error) => {
                refused = Some((number, error));
                break;
            }
        }
    }
    let (number, refused) = refused.expect("25 MB of lag were taken, 2 MiB are allowed");
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
    match refused.fs() {
        Some(FsError::LagBound { lag_bytes, bound_bytes }) => {
            assert!(lag_bytes >= bound_bytes && *bound_bytes == 2 << 20, "{refused}");
        }
        other => panic!("{other:?}: {refused}"),
    }
    assert!(refused.to_string().contains("lag bound reached"), "{refused}");
    setup.proxy.heal();
    setup.lag_gone(Duration::from_secs(60)).await;
    let again = setup.client.open_append("/log").await.unwrap();
    let offset = again.append(record(1, number + 1, 1000)).await.unwrap();
    acknowledged.insert(number + 1, offset);
    let ledger = cairn_tests::cluster::Ledger { writer: 1, acknowledged, ..Default::default() };
    verify(&content(&setup.client, "/log").await.unwrap(), &[&ledger]).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn upload_done_answer_lost_leaves_one_pack() {
    let setup = Setup::start(quick()).await;
    setup.proxy.inject(packs().and_method("PUT").times(1), Fault::LoseAnswer);
    let body = pattern(1, 300_000);
    setup.client.put("/file", 0o644, &body).await.unwrap();
    setup.client.sync("/file").await.unwrap();
    assert_eq!(setup.proxy.counts().faulted, 1, "no answer was lost");
    let packs = setup.packs().await;
    assert_eq!(packs.len(), 1, "{packs:?}");
    assert_eq!(setup.client.status().await.unwrap().packs, 1);
    setup.evict_at_least(body.len() as u64).await;
    assert!(content(&setup.client, "/file").await.unwrap() == body);
}

#[tokio::test(flavor = "multi_thread")]
async fn evicted_bytes_are_read_back_from_s3() {
    let setup = Setup::start(quick()).await;
    let large = pattern(2, (9 << 20) + 12345);
    setup.client.put("/large", 0o644, &large).await.unwrap();
    let small: Vec<Vec<u8>> = (0..20).map(|n| pattern(n, 100 + n * 333)).collect();
    for (n, body) in small.iter().enumerate() {
        setup.client.put(format!("/small-{n}"), 0o644, body).await.unwrap();
    }
    // What is not in S3 does not go, whoever asks.
    setup.proxy.set_link(Link::Refused);
    setup.client.put("/unpersisted", 0o644, pattern(3, 100_000)).await.unwrap();
    setup.evict().await;
    assert_eq!(content(&setup.client, "/unpersisted").await.unwrap(), pattern(3, 100_000));
    setup.proxy.heal();

    setup.client.sync("/large").await.unwrap();
    for n in 0..20 {
        setup.client.sync(format!("/small-{n}")).await.unwrap();
    }
    setup.evict_at_least(large.len() as u64).await;
    setup.proxy.reset_counts();
    assert!(content(&setup.client, "/large").await.unwrap() == large);
    let gets = setup.proxy.requests_matching(&packs().and_method("GET"));
    assert!(gets > 0, "nothing was asked of S3");
    for (n, body) in small.iter().enumerate() {
        assert!(content(&setup.client, &format!("/small-{n}")).await.unwrap() == *body, "small file {n}");
    }
    // The second time the cache has it.
    setup.proxy.reset_counts();
    assert!(content(&setup.client, "/large").await.unwrap() == large);
    let again = setup.proxy.requests_matching(&packs().and_method("GET"));
    assert!(again < gets, "{again} GETs the second time, {gets} the first");
    // Any range, also over the borders of blocks.
    let file = setup.client.open("/large").await.unwrap();
    for (offset, length) in [(0, 1), (1, 5000), ((1 << 20) - 3, 7), ((4 << 20) - 1, 2), (large.len() - 5, 99)]
    {
        let read = file.read_at(offset as u64, length).await.unwrap();
        assert_eq!(read, large[offset..large.len().min(offset + length)], "{offset}+{length}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_from_s3_reach_no_reader() {
    let setup = Setup::start(quick()).await;
    let body = pattern(4, 3 << 20);
    setup.client.put("/file", 0o644, &body).await.unwrap();
    setup.client.sync("/file").await.unwrap();
    // One that gives up in time.
    let reader = setup.cluster.client().await.unwrap();
    let gets = || packs().and_method("GET");
    for fault in [Fault::CorruptAnswer { at_byte: 70_000 }, Fault::TruncateAnswer { after_bytes: 70_000 }] {
        // Once: it is asked again.
        setup.evict_at_least(1).await;
        setup.proxy.reset_counts();
        setup.proxy.inject(gets().times(1), fault.clone());
        assert!(content(&reader, "/file").await.unwrap() == body, "{fault:?} reached the reader");
        assert_eq!(setup.proxy.counts().faulted, 1, "{fault:?} did not strike");
        setup.proxy.heal();
        // Always: an error, and no bytes.
        setup.evict_at_least(1).await;
        setup.proxy.inject(gets(), fault.clone());
        let error = content(&reader, "/file").await.expect_err("wrong bytes were handed out");
        println!("{fault:?}: {error} ({:?})", error.kind());
        setup.proxy.heal();
        assert!(content(&reader, "/file").await.unwrap() == body, "after {fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sync_waits_until_s3_has_it() {
    let setup = Setup::start(Policy { max_lag_ms: 600_000, ..Policy::cluster() }).await;
    let log = setup.client.open_append("/log").await.unwrap();
    log.append(record(1, 1, 5000)).await.unwrap();
    setup.proxy.inject(packs().and_method("PUT"), Fault::Latency(Duration::from_secs(1)));
    assert_eq!(setup.packs().await.len(), 0);
    let started = Instant::now();
    setup.client.sync("/log").await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
    assert_eq!(setup.packs().await.len(), 1);
    // While S3 is away it says so, and nothing is lost.
    setup.proxy.heal();
    setup.proxy.set_link(Link::Refused);
    let mut options = ConnectOptions::new(setup.cluster.meta_addresses());
    options.retry_budget = Duration::from_secs(3);
    let impatient = Client::connect(options).await.unwrap();
    impatient.open_append("/log").await.unwrap().append(record(1, 2, 5000)).await.unwrap();
    let refused = impatient.sync("/log").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
    setup.proxy.heal();
    setup.client.sync("/log").await.unwrap();
    let file = content(&setup.client, "/log").await.unwrap();
    assert_eq!(cairn_tests::cluster::records(&file).unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn persist_sync_returns_when_s3_has_it() {
    let setup = Setup::start(Policy { persist: Persist::Sync, ..Policy::cluster() }).await;
    setup.client.put("/file", 0o644, pattern(6, 10_000)).await.unwrap();
    let bytes: i64 = setup.packs().await.values().sum();
    assert!(bytes > 10_000, "{bytes} bytes in the bucket when put returned");
    let log = setup.client.open_append("/log").await.unwrap();
    log.append(pattern(7, 20_000)).await.unwrap();
    log.close().await.unwrap();
    let more: i64 = setup.packs().await.values().sum();
    assert!(more > bytes + 20_000, "{more} bytes in the bucket when close returned, {bytes} before");
    // A sync that S3 did not take in time is not forgotten: the next one waits for it.
    let mut options = ConnectOptions::new(setup.cluster.meta_addresses());
    options.retry_budget = Duration::from_secs(3);
    let impatient = Client::connect(options).await.unwrap();
    let mut file = impatient.create("/late", 0o644).await.unwrap();
    file.write(&pattern(8, 30_000)).await.unwrap();
    setup.proxy.set_link(Link::Refused);
    for _ in 0..2 {
        let refused = file.fsync().await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
    }
    setup.proxy.heal();
    let synced = || async { setup.client.sync("/late").await.ok() };
    eventually("S3 to take it", Duration::from_secs(60), synced).await.unwrap();
    file.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn unpersisted_bytes_outlive_a_restart_of_everything() {
    let mut setup = Setup::start(quick()).await;
    setup.proxy.set_link(Link::Refused);
    let body = pattern(7, 2_500_000);
    setup.client.put("/file", 0o644, &body).await.unwrap();
    let mut pump = Pump::start(setup.client.open_append("/log").await.unwrap(), 1, 4, 700);
    pump.advance(100).await;
    setup.cluster.kill_all();
    setup.cluster.start_all().await.unwrap();
    pump.advance(50).await;
    let (_, ledger) = pump.stop().await;
    assert!(ledger.errors.is_empty(), "{:?}", ledger.errors);
    assert_eq!(setup.packs().await.len(), 0);
    setup.proxy.heal();
    setup.client.sync("/file").await.unwrap();
    setup.client.sync("/log").await.unwrap();
    setup.evict_at_least(body.len() as u64).await;
    assert!(content(&setup.client, "/file").await.unwrap() == body);
    verify(&content(&setup.client, "/log").await.unwrap(), &[&ledger]).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn uploaders_die_in_mid_upload() {
    let mut setup = Setup::start(quick()).await;
    let hole = setup.proxy.inject(packs().and_method("PUT"), Fault::BlackHole);
    let body = pattern(8, 500_000);
    setup.client.put("/file", 0o644, &body).await.unwrap();
    let client = setup.client.clone();
    let syncing = tokio::spawn(async move { client.sync("/file").await });
    let proxy = &setup.proxy;
    let uploading = || async { (proxy.requests_matching(&packs().and_method("PUT")) > 0).then_some(()) };
    eventually("an upload", Duration::from_secs(60), uploading).await.unwrap();
    for data in &mut setup.cluster.datas {
        data.kill();
    }
    setup.proxy.remove(hole);
    setup.cluster.start_all().await.unwrap();
    syncing.await.unwrap().unwrap();
    assert_eq!(setup.packs().await.len(), 1);
    setup.evict_at_least(body.len() as u64).await;
    assert!(content(&setup.client, "/file").await.unwrap() == body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_can_take_the_place_of_s3() {
    let options = ClusterOptions {
        policy: Policy { max_lag_ms: 2_000, ..Policy::single() },
        understore: UnderStore::Directory,
        ..ClusterOptions::single()
    };
    let mut cluster = Cluster::start(options).await.unwrap();
    let client = cluster.client().await.unwrap();
    let body = pattern(9, 5 << 20);
    client.put("/file", 0o644, &body).await.unwrap();
    client.sync("/file").await.unwrap();
    let store = cluster.directory().join("store");
    let stored = files_below(&store);
    assert!(stored.iter().map(|f| std::fs::metadata(f).unwrap().len()).sum::<u64>() >= 5 << 20, "{stored:?}");
    cluster.kill_all();
    cluster.start_all().await.unwrap();
    let wire = Wire::new(&cluster, &client);
    let mut node = wire.data(cluster.datas[0].address()).await.unwrap();
    let evict = || async {
        let mut node = node.clone();
        let dropped = node.evict(wire.request(EvictRequest { chunk: 0 })).await.ok()?.into_inner().bytes;
        (dropped > 0).then_some(dropped)
    };
    eventually("something to evict", Duration::from_secs(60), evict).await.unwrap();
    let left = node.evict(wire.request(EvictRequest { chunk: 0 })).await.unwrap().into_inner().bytes;
    println!("{left} bytes the second time");
    assert!(content(&client, "/file").await.unwrap() == body);
}

fn files_below(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { waiting.push(path) } else { found.push(path) }
        }
    }
    found
}
