//! Collection in whole clusters: whatever dies at whatever step of an upload, a compaction or a deletion,
//! in the end the bucket and the disks hold exactly what lives.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cairn_proto::v1::{EvictRequest, SurveyReplicasRequest};
use cairn_sdk::Client;
use cairn_sdk::types::{Persist, Policy};
use cairn_tests::cluster::{Cluster, ClusterOptions, Outcome, UnderStore, Wire, eventually};
use serde_json::Value;

/// Longer than every delay of collection, and a few turns.
const SETTLED: Duration = Duration::from_secs(400);

async fn cairn(cluster: &Cluster, line: &str) -> Outcome {
    cluster.cairn(line, SETTLED).await.unwrap()
}

async fn content(client: &Client, path: &str) -> Vec<u8> {
    let file = client.open(path).await.unwrap();
    let length = usize::try_from(file.length()).unwrap();
    file.read_at(0, length).await.unwrap().to_vec()
}

fn pattern(seed: usize, length: usize) -> Vec<u8> {
    (0..length).map(|n| ((n * 31 + seed * 7) ^ (n >> 7)) as u8).collect()
}

/// The files below `at`, staged ones aside, as keys.
fn objects(root: &Path, at: &Path, found: &mut BTreeSet<String>) {
    let Ok(entries) = std::fs::read_dir(at) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if !path.ends_with(".cairn-staging") {
                objects(root, &path, found);
            }
        } else if let Ok(key) = path.strip_prefix(root) {
            found.insert(key.to_string_lossy().into_owned());
        }
    }
}

/// The under-store's directory: the one that has a cluster's packs in it.
fn bucket(cluster: &Cluster) -> PathBuf {
    let text = std::fs::read_to_string(cluster.datas[0].config_path()).unwrap();
    let url = text.lines().find_map(|line| line.trim().strip_prefix("url = \"file://"));
    PathBuf::from(url.expect("a directory to write through to").trim_end_matches('"'))
}

fn packs(root: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    objects(root, root, &mut found);
    found.into_iter().filter(|key| key.contains("/packs/")).collect()
}

/// What the metadata names: the keys of packs, the chunks with whether they are in a pack.
async fn named(cluster: &Cluster) -> (BTreeSet<String>, BTreeMap<u64, bool>) {
    let file = cluster.directory().join(format!("named-{}.jsonl", next_number()));
    let dumped = cairn(cluster, &format!("admin dump --output {}", file.display())).await;
    assert_eq!(dumped.code, 0, "{}{}", dumped.text(), dumped.stderr);
    let (mut keys, mut chunks) = (BTreeSet::new(), BTreeMap::new());
    for line in std::fs::read_to_string(&file).unwrap().lines() {
        let fact: Value = serde_json::from_str(line).unwrap();
        match fact["fact"].as_str() {
            Some("pack") => drop(keys.insert(fact["key"].as_str().unwrap().to_owned())),
            Some("chunk") => {
                chunks.insert(fact["chunk"].as_u64().unwrap(), fact.get("place").is_some());
            }
            Some("pack_deletion") => panic!("a deletion is under way: {fact}"),
            _ => {}
        }
    }
    (keys, chunks)
}

/// A number that this process has not given before.
fn next_number() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The chunks of which there are replicas on the nodes' disks.
async fn on_disks(cluster: &Cluster, client: &Client) -> BTreeSet<u64> {
    let wire = Wire::new(cluster, client);
    let mut found = BTreeSet::new();
    for data in &cluster.datas {
        let mut node = wire.data(data.address()).await.unwrap();
        let mut after = 0;
        loop {
            let request = wire.request(SurveyReplicasRequest { after, limit: 100, node: 0 });
            let page = node.survey_replicas(request).await.unwrap().into_inner();
            found.extend(page.replicas.iter().map(|replica| replica.chunk));
            match page.replicas.last().filter(|_| page.more) {
                Some(last) => after = last.chunk,
                None => break,
            }
        }
    }
    found
}

/// Collects until nothing is left, then looks whether that is so.
pub async fn exactly_what_lives(cluster: &Cluster, client: &Client) {
    // Sessions that ended without a word may hold what was unlinked, until their leases are over.
    let decided = || async { (client.status().await.ok()?.unlinked_kept == 0).then_some(()) };
    eventually("nobody to hold an unlinked file", Duration::from_secs(90), decided).await.unwrap();
    let collected = cairn(cluster, "admin gc --timeout 300").await;
    assert_eq!(collected.code, 0, "{}{}", collected.text(), collected.stderr);
    let looked = cairn(cluster, "admin gc --dry-run --json").await;
    let report: Value = serde_json::from_str(looked.text().lines().last().unwrap()).unwrap();
    assert_eq!(
        (&report["left"], &report["silent_nodes"]),
        (&Value::from(0), &Value::from(Vec::<u64>::new()))
    );
    assert_eq!(report["bucket_error"], Value::Null, "{report}");
    assert_eq!(report["unknown_objects"]["count"], 0, "{report}");
    let (keys, chunks) = named(cluster).await;
    assert_eq!(packs(&bucket(cluster)), keys, "objects in the bucket, and what the metadata names");
    let disks = on_disks(cluster, client).await;
    let unknown: Vec<_> = disks.iter().filter(|chunk| !chunks.contains_key(chunk)).collect();
    assert!(unknown.is_empty(), "on disks, and named nowhere: {unknown:?}");
    let nowhere: Vec<_> =
        chunks.iter().filter(|(chunk, packed)| !**packed && !disks.contains(chunk)).collect();
    assert!(nowhere.is_empty(), "named, and nowhere: {nowhere:?}");
    let checked = cairn(cluster, "admin fsck").await;
    assert_eq!(checked.code, 0, "{}{}", checked.text(), checked.stderr);
}

/// Waits until an object appears or goes: some node is in the middle of that step, or right behind it.
async fn step(root: &Path, before: &BTreeSet<String>, within: Duration) -> bool {
    let until = Instant::now() + within;
    while Instant::now() < until {
        if packs(root) != *before {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    false
}

/// Whom a round kills, right at a step.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Victim {
    Data,
    Leader,
    AllData,
    Everything,
}

async fn strike(cluster: &mut Cluster, victim: Victim, round: usize) {
    match victim {
        Victim::Data => cluster.datas[round % 3].kill(),
        Victim::AllData => cluster.datas.iter_mut().for_each(|data| data.kill()),
        Victim::Everything => cluster.kill_all(),
        Victim::Leader => {
            let client = cluster.client().await.unwrap();
            let leader = cluster.leader(&client).await.unwrap();
            cluster.metas[leader].kill();
        }
    }
    for server in cluster.metas.iter_mut().chain(&mut cluster.datas) {
        if !server.is_running() {
            server.start().unwrap();
        }
    }
    cluster.wait_ready(Duration::from_secs(60)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_step_and_in_the_end_exactly_what_lives_is_there() {
    let options = ClusterOptions {
        policy: Policy { max_lag_ms: 1_000, ..Policy::cluster() },
        understore: UnderStore::Directory,
        meta_toml: "compact_mib_per_second = 1024\npack_delay_ms = 2000\nsession_lease_ms = 5000\n"
            .to_owned(),
        ..ClusterOptions::default()
    };
    let mut cluster = Cluster::start(options).await.unwrap();
    let root = bucket(&cluster);
    let mut alive: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let rounds = [
        Victim::Data,
        Victim::Leader,
        Victim::AllData,
        Victim::Everything,
        Victim::Leader,
        Victim::Data,
        Victim::AllData,
        Victim::Everything,
    ];
    // Each kind once, and all of them with `--long`.
    let count = if std::env::var_os("CAIRN_LONG").is_some() { rounds.len() } else { rounds.len() / 2 };
    let rounds = &rounds[..count];
    let mut steps = 0;
    for (round, victim) in rounds.iter().copied().enumerate() {
        let client = cluster.client().await.unwrap();
        let before = packs(&root);
        for n in 0..20 {
            let (path, seed, length) = (format!("/{round}-{n}"), round * 100 + n, 4_000 + n * 5_000);
            client.put(path.as_str(), 0o644, pattern(seed, length)).await.unwrap();
            alive.insert(path, (seed, length));
        }
        // The session goes: what it held of its chunks may be collected.
        client.close().await.unwrap();
        // In odd rounds most of what there was dies: packs are sparse, or dead, and go.
        if round % 2 == 1 {
            let client = cluster.client().await.unwrap();
            let dying: Vec<String> = alive.keys().filter(|path| !path.ends_with('7')).cloned().collect();
            for path in dying {
                client.unlink(path.as_str()).await.unwrap();
                alive.remove(&path);
            }
            client.close().await.unwrap();
            let _left = cairn(&cluster, "admin gc --timeout 1").await;
        }
        if step(&root, &before, Duration::from_secs(90)).await {
            steps += 1;
        }
        strike(&mut cluster, victim, round).await;
        // And once more, while it goes on with what was cut short.
        let before = packs(&root);
        let _left = cairn(&cluster, "admin gc --timeout 1").await;
        if step(&root, &before, Duration::from_secs(5)).await {
            steps += 1;
            strike(&mut cluster, victim, round + 1).await;
        }
    }
    assert!(steps >= rounds.len(), "{steps} steps were hit");
    let client = cluster.client().await.unwrap();
    let lag_gone = || async { (client.status().await.ok()?.lag_bytes == 0).then_some(()) };
    eventually("no lag", Duration::from_secs(120), lag_gone).await.unwrap();
    exactly_what_lives(&cluster, &client).await;
    for (path, (seed, length)) in &alive {
        assert!(content(&client, path).await == pattern(*seed, *length), "{path} differs");
    }
    // When the last file is gone, nothing is left anywhere.
    for path in alive.keys() {
        client.unlink(path.as_str()).await.unwrap();
    }
    exactly_what_lives(&cluster, &client).await;
    assert_eq!(packs(&root), BTreeSet::new());
    assert_eq!(on_disks(&cluster, &client).await, BTreeSet::new());
    client.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_under_store_what_is_dead_goes_all_the_same() {
    // Its policy asks for S3, and there is none: the uploads never end.
    let policy = Policy { max_lag_ms: 500, persist: Persist::Async, ..Policy::single() };
    let cluster = Cluster::start(ClusterOptions { policy, ..ClusterOptions::single() }).await.unwrap();
    let client = cluster.client().await.unwrap();
    client.put("/kept", 0o644, pattern(1, 50_000)).await.unwrap();
    client.put("/dead", 0o644, pattern(2, 500_000)).await.unwrap();
    let log = client.open_append("/log").await.unwrap();
    log.append(pattern(3, 9_000)).await.unwrap();
    log.close().await.unwrap();
    client.close().await.unwrap();
    let client = cluster.client().await.unwrap();
    let planned = || async { (client.status().await.ok()?.intents > 0).then_some(()) };
    eventually("an upload that nobody can do", Duration::from_secs(30), planned).await.unwrap();
    client.unlink("/log").await.unwrap();
    client.unlink("/dead").await.unwrap();
    let gone = || async {
        let shown = cairn(&cluster, "admin gc --dry-run --json").await;
        let report: Value = serde_json::from_str(shown.text().lines().last()?).ok()?;
        (report["dead_chunks"]["count"] == 0 && report["stray_replicas"]["count"] == 0).then_some(report)
    };
    let report = eventually("what is dead to go", Duration::from_secs(60), gone).await.unwrap();
    assert!(report["bucket_error"].is_string(), "{report}");
    assert_eq!(report["left"], 0, "{report}");
    // What it shared its pack with waits as ever, and is read.
    assert!(content(&client, "/kept").await == pattern(1, 50_000));
    client.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sparse_packs_are_compacted_and_orphans_are_found_while_readers_read() {
    // Nothing goes up before somebody waits for it: then all do, in one pack.
    let policy = Policy { max_lag_ms: 600_000, ..Policy::single() };
    let options = ClusterOptions { policy, understore: UnderStore::Directory, ..ClusterOptions::single() };
    let cluster = Cluster::start(options).await.unwrap();
    let root = bucket(&cluster);
    let client = cluster.client().await.unwrap();
    // Each a chunk of its own, so that some of a pack's die and others live.
    for n in 0..8 {
        let log = client.open_append(format!("/{n}")).await.unwrap();
        log.append(pattern(n, 100_000)).await.unwrap();
        log.close().await.unwrap();
    }
    for n in 0..8 {
        client.sync(format!("/{n}")).await.unwrap();
    }
    for n in 0..7 {
        client.unlink(format!("/{n}")).await.unwrap();
    }
    let before = packs(&root);
    assert_eq!(before.len(), 1, "{before:?}");
    // It is told the place in the old pack, and asks for no other.
    let handle = client.open("/7").await.unwrap();
    let key = before.first().unwrap().clone();
    let wire = Wire::new(&cluster, &client);
    let reader = tokio::spawn({
        let client = cluster.client().await.unwrap();
        async move {
            let until = Instant::now() + Duration::from_secs(75);
            let mut reads = 0;
            while Instant::now() < until {
                assert!(content(&client, "/7").await == pattern(7, 100_000), "read {reads}");
                reads += 1;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            client.close().await.unwrap();
        }
    });
    let collected = cairn(&cluster, "admin gc --timeout 300").await;
    assert_eq!(collected.code, 0, "{}{}", collected.text(), collected.stderr);
    let after = packs(&root);
    assert!(after.len() == 1 && !after.contains(&key), "{before:?} became {after:?}");
    // The only copy here goes, so that a read needs the pack.
    let mut node = wire.data(cluster.datas[0].address()).await.unwrap();
    node.evict(wire.request(EvictRequest { chunk: 0 })).await.unwrap();
    assert!(handle.read_at(0, 100_000).await.unwrap() == pattern(7, 100_000), "by a handle from before");
    assert!(content(&client, "/7").await == pattern(7, 100_000), "read from the new pack");
    // As a killed uploader leaves it: the old pack's key is named by nothing now. And somebody else's.
    let (orphan, foreign) = (root.join(&key), root.join(&key).with_file_name("readme.txt"));
    std::fs::write(&orphan, b"left by an uploader").unwrap();
    std::fs::write(&foreign, b"somebody's").unwrap();
    let shown = cairn(&cluster, "admin gc --dry-run --json").await;
    let report: Value = serde_json::from_str(shown.text().lines().last().unwrap()).unwrap();
    assert_eq!(report["orphan_objects"]["count"], 1, "{report}");
    assert_eq!(report["unknown_objects"]["count"], 1, "{report}");
    let collected = cairn(&cluster, "admin gc --timeout 300").await;
    assert_eq!(collected.code, 0, "{}{}", collected.text(), collected.stderr);
    assert!(!orphan.exists(), "the orphan is deleted");
    assert!(foreign.exists(), "what is not the cluster's is left alone");
    reader.await.unwrap();
    client.close().await.unwrap();
}
