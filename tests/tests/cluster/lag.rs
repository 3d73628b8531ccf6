//! The lag near its bound, at it, and as it is shown; files explained; what was asked of S3. On a real S3
//! server behind the fault proxy.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cairn_sdk::types::{FsError, Policy};
use cairn_sdk::{Client, ClusterLag, ConnectOptions, ErrorKind};
use cairn_tests::cluster::{
    Cluster, ClusterOptions, Ledger, Outcome, UnderStore, eventually, record, run, verify,
};
use cairn_tests::fault_proxy::{FaultProxy, Link, When};
use cairn_tests::s3_server::Bucket;
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;

struct Setup {
    cluster: Cluster,
    client: Client,
    proxy: FaultProxy,
    bucket: Bucket,
}

impl Setup {
    async fn start(options: ClusterOptions) -> Self {
        let bucket = Bucket::shared().await.unwrap();
        let proxy = FaultProxy::start(bucket.endpoint()).await.unwrap();
        let understore = UnderStore::bucket_at(&proxy.endpoint(), &bucket, "cluster");
        let cluster = Cluster::start(ClusterOptions { understore, ..options }).await.unwrap();
        let client = cluster.client().await.unwrap();
        Self { cluster, client, proxy, bucket }
    }

    /// A client that gives up after some seconds, and waits longer than that for an acknowledgement.
    async fn impatient(&self) -> Client {
        let mut options = ConnectOptions::new(self.cluster.meta_addresses());
        (options.retry_budget, options.append_deadline) = (Duration::from_secs(5), Duration::from_secs(20));
        Client::connect(options).await.unwrap()
    }

    async fn term(&self) -> u64 {
        self.client.status().await.unwrap().term
    }

    async fn lag_gone(&self) {
        let gone = || async { (self.client.cluster_lag().await.ok()?.bytes == 0).then_some(()) };
        eventually("no lag", Duration::from_secs(60), gone).await.unwrap();
    }

    async fn cairn(&self, line: &str) -> Outcome {
        self.cluster.cairn(line, Duration::from_secs(60)).await.unwrap()
    }

    /// What `cairn …` prints, which must succeed.
    async fn text(&self, line: &str) -> String {
        self.cairn(line).await.expected()
    }

    async fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.text(line).await).unwrap()
    }

    /// A number at all servers' /metrics, added up.
    async fn metric(&self, name: &str) -> f64 {
        let mut sum = 0.0;
        for server in self.cluster.metas.iter().chain(&self.cluster.datas) {
            let (_, metrics) = super::servers::get(server.http(), "/metrics").await.unwrap();
            let lines = metrics.lines().filter_map(|line| line.rsplit_once(' '));
            let found = lines.filter(|(key, _)| key.split('{').next() == Some(name));
            sum += found.map(|(_, value)| value.parse::<f64>().unwrap()).sum::<f64>();
        }
        sum
    }
}

async fn content(client: &Client, path: &str) -> Vec<u8> {
    let file = client.open(path).await.unwrap();
    let length = usize::try_from(file.length()).unwrap();
    file.read_at(0, length).await.unwrap().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn near_the_lag_bound_writers_are_slowed_then_refused_and_go_on_when_s3_is_back() {
    // Nothing is sealed for its age before the test is over.
    let policy = Policy { max_lag_bytes: 32 * MIB, max_lag_ms: 600_000, ..Policy::cluster() };
    let setup = Setup::start(ClusterOptions { policy, ..ClusterOptions::default() }.steady()).await;
    setup.proxy.set_link(Link::Refused);
    let writer = setup.impatient().await;
    let log = writer.open_append("/log").await.unwrap();
    let (mut acknowledged, mut refused) = (BTreeMap::new(), None);
    let term = setup.term().await;
    let begun = Instant::now();
    let mut slowed_after = Duration::ZERO;
    for number in 1..=200_u64 {
        match log.append(record(1, number, 512 << 10)).await {
            Ok(offset) => drop(acknowledged.insert(number, offset)),
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
        slowed_after = begun.elapsed();
    }
    let refused = refused.expect("100 MB of lag were taken, 32 MiB are allowed");
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
    let Some(FsError::LagBound { lag_bytes, bound_bytes }) = refused.fs() else { panic!("{refused}") };
    assert!(lag_bytes >= bound_bytes && *bound_bytes == 32 * MIB, "{refused}");
    for says in ["lag bound reached", &lag_bytes.to_string(), &bound_bytes.to_string(), "cairn lag"] {
        assert!(refused.to_string().contains(says), "no '{says}' in: {refused}");
    }
    // Not a step beyond the bound: the last room that was given was the last mebibyte or so.
    let taken = acknowledged.len() as u64 * (512 << 10);
    assert!((30 * MIB..=34 * MIB).contains(&taken), "{taken} bytes were taken");
    let told: ClusterLag = setup.client.cluster_lag().await.unwrap();
    // Each leader counts for itself; the metrics below have what all of them counted.
    if setup.term().await == term {
        assert!(told.slowed >= 5, "slowed {} times", told.slowed);
        assert!(told.refused >= 1, "{told:?}");
    }
    // Pauses of 62, 109, 140, … and 250 ms came before the last room was used.
    assert!(slowed_after >= Duration::from_millis(600), "{slowed_after:?} for {taken} bytes");
    assert!(setup.metric("cairn_data_grant_pauses_total").await >= 5.0);
    assert!(setup.metric("cairn_meta_lag_slowed_total").await >= 5.0);
    assert!(setup.metric("cairn_meta_lag_refusals_total").await >= 1.0);
    let oldest = || async { (setup.metric("cairn_meta_lag_age_seconds").await > 0.0).then_some(()) };
    eventually("the age of the lag in the metrics", Duration::from_secs(60), oldest).await.unwrap();
    // Files of others are written meanwhile.
    setup.client.put("/other", 0o644, vec![7; 100_000]).await.unwrap();

    setup.proxy.heal();
    setup.client.sync("/log").await.unwrap();
    setup.client.sync("/other").await.unwrap();
    setup.lag_gone().await;
    let again = writer.open_append("/log").await.unwrap();
    let offset = again.append(record(1, 1000, 1000)).await.unwrap();
    acknowledged.insert(1000, offset);
    let ledger = Ledger { writer: 1, acknowledged, ..Default::default() };
    verify(&content(&setup.client, "/log").await, &[&ledger]).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lag_of_the_cluster_of_a_tree_and_of_a_file_is_shown() {
    let policy = Policy { max_lag_ms: 600_000, ..Policy::single() };
    let setup = Setup::start(ClusterOptions { policy, ..ClusterOptions::single() }).await;
    setup.proxy.set_link(Link::Refused);
    let client = &setup.client;
    client.mkdir_all("/d/e", 0o755).await.unwrap();
    client.put("/d/small", 0o644, vec![1; 3000]).await.unwrap();
    client.put("/d/e/large", 0o644, vec![2; 500_000]).await.unwrap();
    let log = client.open_append("/d/log").await.unwrap();
    log.append(vec![3; 20_000]).await.unwrap();
    client.put("/elsewhere", 0o644, vec![4; 1000]).await.unwrap();

    let file = setup.json("lag --json /d/log").await;
    assert_eq!((&file["path"], &file["bytes"]), (&json!("/d/log"), &json!(20_000)), "the open tail's bytes");
    assert_eq!((&file["tail"]["bytes"], &file["max_lag_bytes"]), (&json!(20_000), &json!((1_u64 << 30))));
    let tree = setup.json("lag --json --top 2 /d").await;
    assert_eq!((&tree["files"], &tree["bytes"]), (&json!(3), &json!(523_000)));
    assert_eq!((&tree["top"][0]["path"], &tree["top"][1]["path"]), (&json!("/d/e/large"), &json!("/d/log")));
    assert_eq!(tree["top"].as_array().unwrap().len(), 2);
    let shown = setup.text("lag /d").await;
    for says in ["3 files", "/d/e/large", "/d/log", "/d/small", "oldest"] {
        assert!(shown.contains(says), "no '{says}' in:\n{shown}");
    }
    let shown = setup.text("lag /d/log").await;
    assert!(shown.contains("19.5 KiB of 1GiB") && shown.contains("open tail"), "{shown}");
    let cluster = setup.json("lag --json").await;
    assert_eq!(cluster["bound_bytes"], 8_u64 << 30);
    // A node tells with its heartbeats.
    let pinned = || async {
        let cluster = setup.json("lag --json").await;
        cluster["nodes"][0]["pinned_bytes"].as_u64().filter(|pinned| *pinned >= 524_000)
    };
    eventually("the node to tell what it holds", Duration::from_secs(60), pinned).await.unwrap();
    let shown = setup.text("lag").await;
    for says in ["not in S3", "slowed 0 times", "PUT", "list prices"] {
        assert!(shown.contains(says), "no '{says}' in:\n{shown}");
    }
    let refused = setup.cairn("lag /none").await;
    assert!(refused.code == 1 && refused.stderr.contains("no such file"), "{}", refused.stderr);

    setup.proxy.heal();
    log.close().await.unwrap();
    for path in ["/d/small", "/d/e/large", "/d/log", "/elsewhere"] {
        client.sync(path).await.unwrap();
    }
    let tree = setup.json("lag --json /").await;
    assert_eq!((&tree["files"], &tree["bytes"], &tree["top"]), (&json!(0), &json!(0), &json!([])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_explained_with_its_object_in_s3_and_its_open_tail() {
    // Its tail is not closed for its age.
    let policy = Policy { max_lag_ms: 600_000, ..Policy::cluster() };
    let setup = Setup::start(ClusterOptions { policy, ..ClusterOptions::default() }.steady()).await;
    // Its chunks are those that the test makes, on all three nodes.
    let client = &setup.cluster.patient_client().await.unwrap();
    client.mkdir("/d", 0o755).await.unwrap();
    let log = client.open_append("/d/log").await.unwrap();
    log.append(vec![1; 5000]).await.unwrap();
    client.sync("/d/log").await.unwrap();
    setup.proxy.set_link(Link::Refused);
    log.append(vec![2; 700]).await.unwrap();

    let told = setup.json("fs explain --json /d/log").await;
    assert_eq!((&told["extents"][0]["from"], &told["extents"][0]["length"]), (&json!(0), &json!(5000)));
    assert_eq!(told["tail"]["bytes"], 700);
    assert_eq!((&told["lag"]["bytes"], &told["policy_from"]), (&json!(700), &json!("/")));
    let [first, tail] = told["chunks"].as_array().unwrap().as_slice() else { panic!("{told}") };
    assert_eq!(
        (&first["state"], &first["length"], &first["live_bytes"]),
        (&json!("sealed"), &json!(5000), &json!(5000))
    );
    assert_eq!((&tail["state"], &tail["chunk"]), (&json!("open"), &told["tail"]["chunk"]));
    for chunk in [first, tail] {
        let replicas = chunk["replicas"].as_array().unwrap();
        assert_eq!(replicas.len(), 3);
        assert!(replicas.iter().all(|r| r["alive"] == true && r["holder"] == true), "{replicas:?}");
        assert_eq!(replicas.iter().filter(|r| r["primary"] == true).count(), 1);
    }
    let writer = &told["writers"][0];
    assert_eq!((&writer["sequence"], &first["last_append"]["writer"]), (&json!(1), &writer["writer"]));
    // What it says of S3 is what S3 says.
    let place = &first["place"];
    let prefix = format!("s3://{}/", setup.bucket.name());
    let key = place["url"].as_str().and_then(|url| url.strip_prefix(&prefix)).expect("the bucket's URL");
    let head = setup.bucket.client().head_object().bucket(setup.bucket.name()).key(key).send().await.unwrap();
    let unquoted = |etag: &str| etag.trim_matches('"').to_owned();
    let etag = place["etag"].as_str().expect("an ETag");
    assert_eq!(unquoted(etag), unquoted(head.e_tag().expect("an ETag")));
    assert_eq!(place["pack_bytes"].as_i64(), head.content_length());

    let shown = setup.text("fs explain /d/log").await;
    let url = place["url"].as_str().unwrap();
    for says in
        ["/d/log", "in S3", "open tail", url, "primary", "writers", "inherited from /", "10m is aimed at"]
    {
        assert!(shown.contains(says), "no '{says}' in:\n{shown}");
    }
    let refused = setup.cairn("fs explain /d").await;
    assert!(refused.code == 1 && refused.stderr.contains("directory"), "{}", refused.stderr);
    setup.proxy.heal();
}

#[tokio::test(flavor = "multi_thread")]
async fn data_nodes_count_what_s3_was_asked() {
    let setup = Setup::start(ClusterOptions::default()).await;
    // The last is above the size from which on an object goes up in parts.
    for (n, length) in [4096, 300_000, 20 << 20].into_iter().enumerate() {
        let path = format!("/f{n}");
        setup.client.put(&path, 0o644, vec![n as u8; length]).await.unwrap();
        setup.client.sync(&path).await.unwrap();
    }
    let at_proxy = |method: &str, query: &str| {
        let when = When::method(method);
        let when = if query.is_empty() { when } else { when.query_contains(query) };
        setup.proxy.requests_matching(&when) as u64
    };
    let same = || async {
        let counted = setup.json("lag --json").await["requests"].clone();
        let count = |name: &str| counted[name].as_u64().unwrap();
        let parts = at_proxy("PUT", "partNumber");
        let wanted = [
            at_proxy("PUT", "") - parts + at_proxy("POST", ""),
            parts,
            at_proxy("HEAD", ""),
            at_proxy("DELETE", ""),
        ];
        let told = [count("puts"), count("parts"), count("heads"), count("deletes")];
        let sent = count("bytes_up") >= (20 << 20) + 304_096;
        (told == wanted && count("puts") >= 3 && parts >= 2 && sent).then_some(())
    };
    eventually("the nodes' counts to be the proxy's", Duration::from_secs(60), same).await.unwrap();
    let cluster = setup.json("lag --json").await;
    assert!(cluster["list_price_dollars"].as_f64().unwrap() > 0.0);
    let store = cluster["nodes"][0]["under_store"].as_str().unwrap();
    assert_eq!(store, format!("s3://{}/cluster/", setup.bucket.name()));
    assert!(setup.metric("cairn_data_s3_requests_total").await >= 5.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_bound_holds_for_its_directory_alone() {
    let policy = Policy { max_lag_ms: 600_000, ..Policy::single() };
    let setup = Setup::start(ClusterOptions { policy, ..ClusterOptions::single() }).await;
    for path in ["/tight", "/wide"] {
        setup.client.mkdir(path, 0o755).await.unwrap();
    }
    setup.text("policy set /tight --max-lag-bytes 1MiB").await;
    setup.proxy.set_link(Link::Refused);
    let writer = setup.impatient().await;
    let tight = writer.open_append("/tight/log").await.unwrap();
    let mut taken: u64 = 0;
    let refused = loop {
        match tight.append(vec![1; 100_000]).await {
            Ok(_) => taken += 100_000,
            Err(error) => break error,
        }
        assert!(taken <= 3 * MIB, "{taken} bytes were taken, 1 MiB is allowed");
    };
    assert!(matches!(refused.fs(), Some(FsError::LagBound { bound_bytes: MIB, .. })), "{refused}");
    let wide = writer.open_append("/wide/log").await.unwrap();
    for _ in 0..80 {
        wide.append(vec![2; 100_000]).await.unwrap();
    }
    // The tool tells it, with the code of what may work later.
    let mut command = setup.cluster.cli();
    command.args(["--retry-seconds", "1", "fs", "append", "/tight/log", "more"]);
    let outcome = run(command, b"", Duration::from_secs(60)).await.unwrap();
    assert_eq!(outcome.code, 3, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("lag bound reached"), "{}", outcome.stderr);
    setup.proxy.heal();
    setup.client.sync("/tight/log").await.unwrap();
    tight.append(vec![3; 1000]).await.unwrap();
    assert_eq!(content(&setup.client, "/tight/log").await.len() as u64, taken + 1000);
}
