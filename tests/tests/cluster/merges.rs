//! Small extents merged in whole clusters: a log that is sealed in many small pieces ends with few extents
//! and the bytes that were acknowledged, whoever reads, appends or dies meanwhile.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use cairn_proto::v1::EvictRequest;
use cairn_sdk::types::{Inode, Policy};
use cairn_sdk::{Client, Error, TailEvent};
use cairn_tests::cluster::{Cluster, ClusterOptions, UnderStore, Wire, eventually, record};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::gc::exactly_what_lives;

const LOG: &str = "/log";
const LONG: Duration = Duration::from_secs(180);

async fn start() -> Cluster {
    let options = ClusterOptions {
        policy: Policy { max_lag_ms: 1_000, ..Policy::cluster() },
        understore: UnderStore::Directory,
        meta_toml: "merge_after_ms = 0\nmerge_mib_per_second = 1024\npack_delay_ms = 2000\n\
                    session_lease_ms = 5000\n"
            .to_owned(),
        ..ClusterOptions::default()
    };
    Cluster::start(options).await.unwrap()
}

/// Appends pieces, each sealed at its end, until it is told to stop.
struct Writer {
    stop: watch::Sender<bool>,
    written: watch::Receiver<u64>,
    task: JoinHandle<Vec<u8>>,
}

impl Writer {
    fn start(client: Client) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (tell, written) = watch::channel(0);
        let task = tokio::spawn(async move {
            let (mut all, mut number) = (Vec::new(), 0);
            while !*stopped.borrow() {
                number += 1;
                all.extend(piece(&client, number).await);
                tell.send_replace(number);
            }
            all
        });
        Self { stop, written, task }
    }

    async fn reach(&mut self, pieces: u64) {
        let reached = self.written.wait_for(|written| *written >= pieces);
        tokio::time::timeout(LONG, reached).await.expect("the writer stands still").unwrap();
    }

    /// All that was acknowledged.
    async fn finish(self) -> Vec<u8> {
        self.stop.send(true).unwrap();
        self.task.await.unwrap()
    }
}

/// One piece of the log: an append whose tail is sealed.
async fn piece(client: &Client, number: u64) -> Vec<u8> {
    let bytes = record(1, number, 200 + number as usize % 50);
    let log = client.open_append(LOG).await.unwrap();
    log.append(bytes.clone()).await.unwrap();
    log.close().await.unwrap();
    bytes
}

/// Reads the log from its beginning as it grows, up to the length that it is told.
async fn follow(client: Client, mut end: watch::Receiver<Option<u64>>) -> Vec<u8> {
    let (mut bytes, mut tail) = (Vec::new(), client.tail(LOG, 0).await.unwrap());
    loop {
        if end.borrow_and_update().is_some_and(|end| bytes.len() as u64 >= end) {
            return bytes;
        }
        tokio::select! {
            event = tail.next() => match event.unwrap() {
                TailEvent::Bytes { offset, data } => {
                    assert_eq!(offset, bytes.len() as u64, "a byte was left out, or told twice");
                    bytes.extend_from_slice(&data);
                }
                event => panic!("{event:?}"),
            },
            changed = end.changed() => changed.unwrap(),
        }
    }
}

async fn content(client: &Client) -> Result<Vec<u8>, Error> {
    let file = client.open(LOG).await?;
    Ok(file.read_at(0, usize::try_from(file.length()).unwrap()).await?.to_vec())
}

async fn extents(client: &Client) -> Option<usize> {
    Some(client.explain(LOG).await.ok()?.extents.len())
}

async fn inode(client: &Client) -> Inode {
    client.stat(LOG).await.unwrap()
}

/// Has the leader begin a pass, and waits for nothing.
async fn hasten(cluster: &Cluster) {
    let _left = cluster.cairn("admin gc --timeout 0", LONG).await.unwrap();
}

/// Merges until nothing is left to merge; answers how many extents the log has then.
async fn merged(cluster: &Cluster, client: &Client) -> usize {
    let (mut last, mut times) = (usize::MAX, 0);
    let deadline = Instant::now() + LONG;
    // What a pass found is told after it, so that one look alone may be of the pass before.
    while times < 3 {
        assert!(Instant::now() < deadline, "{last} extents, and it goes on");
        hasten(cluster).await;
        let (report, now) = (report(cluster).await, extents(client).await.unwrap());
        let still = report["merges"] == 0 && report["fragmented_files"] == 0 && now == last;
        (last, times) = (now, if still { times + 1 } else { 0 });
    }
    last
}

/// What only S3 has is read from there from now on.
async fn evict(cluster: &Cluster, client: &Client) {
    let wire = Wire::new(cluster, client);
    for data in &cluster.datas {
        let mut node = wire.data(data.address()).await.unwrap();
        node.evict(wire.request(EvictRequest { chunk: 0 })).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_log_ends_with_few_extents_while_it_is_appended_to_and_followed() {
    let cluster = start().await;
    let client = cluster.client().await.unwrap();
    client.put(LOG, 0o644, b"").await.unwrap();
    let (end, told) = watch::channel(None);
    let follower = tokio::spawn(follow(cluster.client().await.unwrap(), told));
    let mut writer = Writer::start(cluster.client().await.unwrap());
    writer.reach(40).await;
    // It knows the extents of now, and asks for no others before it has to.
    let handle = client.open(LOG).await.unwrap();
    // Merged while the writer goes on.
    let fewer = || async {
        hasten(&cluster).await;
        let (extents, pieces) = (extents(&client).await? as u64, *writer.written.borrow());
        (extents * 2 < pieces).then_some(())
    };
    eventually("merges beside the appends", LONG, fewer).await.unwrap();
    let acknowledged = writer.finish().await;
    client.sync(LOG).await.unwrap();
    let before = inode(&client).await;
    let left = merged(&cluster, &client).await;
    assert!(left <= 60, "{left} extents are left");
    assert_eq!(inode(&client).await, before, "a merge is no change");
    assert!(content(&client).await.unwrap() == acknowledged);
    end.send(Some(acknowledged.len() as u64)).unwrap();
    let followed = tokio::time::timeout(LONG, follower).await.expect("the follower stands still").unwrap();
    assert!(followed == acknowledged, "as it was followed");
    // What was merged is gone, here and in the bucket, and whoever knew it finds the bytes where they are now.
    exactly_what_lives(&cluster, &client).await;
    let length = usize::try_from(handle.length()).unwrap();
    assert!(handle.read_at(0, length).await.unwrap() == acknowledged[..length], "by a handle from before");
    evict(&cluster, &client).await;
    assert!(content(&client).await.unwrap() == acknowledged, "from S3 alone");
    client.unlink(LOG).await.unwrap();
    drop(handle);
    exactly_what_lives(&cluster, &client).await;
    client.close().await.unwrap();
}

/// The directory of the cluster's packs, where nothing can be written while it is away.
struct Packs {
    at: PathBuf,
}

impl Packs {
    fn of(cluster: &Cluster) -> Self {
        let store = cluster.directory().join("store");
        let clusters = std::fs::read_dir(store).unwrap().flatten().map(|entry| entry.path().join("packs"));
        Self { at: clusters.into_iter().find(|packs| packs.is_dir()).expect("packs") }
    }

    fn take_away(&self) {
        std::fs::rename(&self.at, self.at.with_extension("away")).unwrap();
        std::fs::write(&self.at, b"no directory").unwrap();
    }

    fn bring_back(&self) {
        std::fs::remove_file(&self.at).unwrap();
        std::fs::rename(self.at.with_extension("away"), &self.at).unwrap();
    }
}

/// The data node that was given a merge since they had these counts.
async fn worker(cluster: &Cluster, before: &[f64]) -> usize {
    let found = || async {
        let now = merges_given(cluster).await;
        now.iter().zip(before).position(|(now, before)| now > before)
    };
    eventually("a data node at a merge", LONG, found).await.unwrap()
}

async fn merges_given(cluster: &Cluster) -> Vec<f64> {
    let mut given = Vec::new();
    for data in &cluster.datas {
        let (_, metrics) = super::servers::get(data.http(), "/metrics").await.unwrap();
        let of_merges = metrics
            .lines()
            .filter(|line| line.starts_with("cairn_data_work_total") && line.contains("work=\"merge\""));
        let values = of_merges.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
        given.push(values.sum());
    }
    given
}

async fn report(cluster: &Cluster) -> Value {
    let looked = cluster.cairn("admin gc --dry-run --json", LONG).await.unwrap();
    serde_json::from_str(looked.text().lines().last().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn merges_go_on_whatever_dies() {
    let mut cluster = start().await;
    let client = cluster.client().await.unwrap();
    client.put(LOG, 0o644, b"").await.unwrap();
    let (mut acknowledged, mut number) = (Vec::new(), 0);
    for round in 0..2 {
        // A merge that nobody can finish. One may have begun by itself, and have ended.
        let (packs, given, many) = loop {
            for _ in 0..24 {
                number += 1;
                acknowledged.extend(piece(&client, number).await);
            }
            client.sync(LOG).await.unwrap();
            let (packs, given) = (Packs::of(&cluster), merges_given(&cluster).await);
            packs.take_away();
            match extents(&client).await.unwrap() {
                many if many >= 24 => break (packs, given, many),
                _ => packs.bring_back(),
            }
        };
        let before = inode(&client).await;
        hasten(&cluster).await;
        let at = worker(&cluster, &given).await;
        assert_eq!(report(&cluster).await["merges"], 1);
        if round == 0 {
            cluster.datas[at].kill();
        } else {
            let leader = cluster.leader(&client).await.unwrap();
            cluster.metas[leader].kill();
        }
        packs.bring_back();
        let fewer = || async { extents(&client).await.filter(|extents| *extents < many) };
        eventually("the merge to be done by others", LONG, fewer).await.unwrap();
        assert_eq!(inode(&client).await, before, "a merge is no change");
        assert!(content(&client).await.unwrap() == acknowledged, "round {round}");
        cluster.start_all().await.unwrap();
    }
    let left = merged(&cluster, &client).await;
    assert!(left <= 31, "{left} extents");
    exactly_what_lives(&cluster, &client).await;
    evict(&cluster, &client).await;
    assert!(content(&client).await.unwrap() == acknowledged, "from S3 alone");
    client.close().await.unwrap();
}
