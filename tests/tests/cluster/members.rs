//! The group of metadata servers grows, shrinks and gets a new server for a dead one while clients
//! work: no change of theirs fails, none is made twice, and clients and data nodes follow.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cairn_sdk::types::Policy;
use cairn_sdk::{Client, ListingOptions, RenameMode};
use cairn_tests::cluster::{Cluster, ClusterOptions, Outcome, eventually};
use serde_json::Value;

const CLIENTS: usize = 4;
/// Elections take seconds, and so does finding out that a server is silent.
pub const SOON: Duration = Duration::from_secs(60);

pub async fn cairn(cluster: &Cluster, line: &str) -> Outcome {
    cluster.cairn(line, Duration::from_secs(120)).await.unwrap()
}

/// The outcome of a command that may be repeated, asked for until somebody answers: an election may come between.
async fn answered(cluster: &Cluster, line: &str) -> Outcome {
    let answered = || async { Some(cairn(cluster, line).await).filter(|outcome| outcome.code != 3) };
    eventually("an answer", SOON, answered).await.unwrap()
}

pub async fn done(cluster: &Cluster, line: &str) -> String {
    let outcome = answered(cluster, line).await;
    assert_eq!(outcome.code, 0, "{line}: {}", outcome.stderr);
    outcome.text()
}

pub async fn refused(cluster: &Cluster, line: &str, why: &str) {
    let outcome = answered(cluster, line).await;
    assert_eq!(outcome.code, 1, "{line}: {}", outcome.stderr);
    assert!(outcome.stderr.contains(why), "{line}: {}", outcome.stderr);
}

pub async fn group(cluster: &Cluster) -> Value {
    serde_json::from_str(&done(cluster, "admin raft status --json").await).unwrap()
}

async fn members(cluster: &Cluster, role: impl Fn(&str) -> bool) -> BTreeSet<u64> {
    let group = group(cluster).await;
    let fits = |m: &&Value| role(m["role"].as_str().unwrap());
    group["members"].as_array().unwrap().iter().filter(fits).map(|m| m["node"].as_u64().unwrap()).collect()
}

async fn voters(cluster: &Cluster) -> BTreeSet<u64> {
    members(cluster, |role| role != "learner").await
}

/// Starts one more server and adds it. Answers its id.
pub async fn grow(cluster: &mut Cluster) -> u64 {
    let place = cluster.join_meta().unwrap();
    let (id, address) = (place as u64 + 1, cluster.metas[place].address().to_owned());
    let line = format!("admin raft add {id} {address}");
    // Its process may not listen yet.
    eventually("the server to be added", SOON, || async {
        let added = cairn(cluster, &line).await;
        assert!(matches!(added.code, 0 | 3) || added.stderr.contains("does not answer"), "{}", added.stderr);
        (added.code == 0).then_some(())
    })
    .await
    .unwrap();
    assert!(voters(cluster).await.contains(&id));
    id
}

/// What the clients do, and how much of it is done.
pub struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<u64>>,
}

impl Load {
    pub async fn start(cluster: &Cluster) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut tasks = Vec::new();
        for own in 0..CLIENTS {
            let client = cluster.client().await.unwrap();
            tasks.push(tokio::spawn(work(client, own, Arc::clone(&stop), Arc::clone(&done))));
        }
        Self { stop, done, tasks }
    }

    /// Waits until a good many more changes are made.
    pub async fn goes_on(&self) {
        let wanted = self.done.load(Ordering::Relaxed) + 100;
        let look = || async { (self.done.load(Ordering::Relaxed) >= wanted).then_some(()) };
        eventually("changes to be made", SOON, look).await.unwrap();
    }

    /// Ends it. Answers the names that must be there.
    pub async fn end(self) -> BTreeSet<String> {
        self.stop.store(true, Ordering::Relaxed);
        let mut names = BTreeSet::new();
        for (own, task) in self.tasks.into_iter().enumerate() {
            let count = task.await.unwrap();
            names.extend((0..count).map(|n| format!("{own}-{n}")));
        }
        names
    }
}

/// Makes directories and renames them. An answer "it exists already" or "not found" would be a change
/// that was made twice; any other error one that failed. Answers how many it made.
async fn work(client: Client, own: usize, stop: Arc<AtomicBool>, done: Arc<AtomicU64>) -> u64 {
    let mut made = 0;
    while !stop.load(Ordering::Relaxed) {
        let (from, to) = (format!("/work/{own}-{made}-new"), format!("/work/{own}-{made}"));
        client.mkdir(&from, 0o755).await.unwrap();
        client.rename(&from, &to, RenameMode::NoReplace).await.unwrap();
        done.fetch_add(2, Ordering::Relaxed);
        made += 1;
    }
    made
}

pub async fn names(client: &Client, directory: &str) -> BTreeSet<String> {
    let mut listing = client.list(directory, ListingOptions::default());
    let mut names = BTreeSet::new();
    while let Some(entry) = listing.next().await.unwrap() {
        assert!(names.insert(entry.name.to_string()), "{} is listed twice", entry.name);
    }
    names
}

async fn removed(cluster: &Cluster, id: u64) {
    done(cluster, &format!("admin raft remove {id}")).await;
    let server = &cluster.metas[id as usize - 1];
    let says = || async { server.log_tail().contains("was removed from the metadata group").then_some(()) };
    eventually("the removed server to find it out", SOON, says).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_group_grows_shrinks_and_replaces_a_dead_server_under_load() {
    let options =
        ClusterOptions { metas: 1, datas: 1, policy: Policy::single(), ..ClusterOptions::default() };
    let mut cluster = Cluster::start(options).await.unwrap();
    let client = cluster.client().await.unwrap();
    client.mkdir("/work", 0o755).await.unwrap();
    let load = Load::start(&cluster).await;
    load.goes_on().await;
    for size in 2..=5 {
        assert_eq!(grow(&mut cluster).await, size);
        load.goes_on().await;
    }
    assert_eq!(voters(&cluster).await, BTreeSet::from([1, 2, 3, 4, 5]));

    // The leader dies, and returns.
    let dead = cluster.leader(&client).await.unwrap();
    cluster.metas[dead].kill();
    load.goes_on().await;
    cluster.metas[dead].start().unwrap();

    // Two leave: the first server, the only one that the data node was told of, and whoever leads then.
    removed(&cluster, 1).await;
    load.goes_on().await;
    let leader = cluster.leader(&client).await.unwrap() as u64 + 1;
    removed(&cluster, leader).await;
    load.goes_on().await;
    for id in [1, leader] {
        cluster.metas[id as usize - 1].stop();
    }
    let left: BTreeSet<u64> = (2..=5).filter(|id| *id != leader).collect();
    assert_eq!(voters(&cluster).await, left);
    load.goes_on().await;

    // A server dies for good: it is removed, and one with a new id takes its place.
    let lead = cluster.leader(&client).await.unwrap() as u64 + 1;
    let dead = *left.iter().find(|id| **id != lead).unwrap();
    cluster.metas[dead as usize - 1].kill();
    load.goes_on().await;
    done(&cluster, &format!("admin raft remove {dead}")).await;
    load.goes_on().await;
    assert_eq!(grow(&mut cluster).await, 6);
    let mut left: BTreeSet<u64> = left.into_iter().filter(|id| *id != dead).collect();
    left.insert(6);
    assert_eq!(voters(&cluster).await, left);

    // The new server is as good as the others: with the leader gone it and the third go on.
    let lead = cluster.leader(&client).await.unwrap();
    cluster.metas[lead].kill();
    load.goes_on().await;
    let wanted = load.end().await;
    assert_eq!(names(&client, "/work").await, wanted);
    assert_eq!(client.stat("/work").await.unwrap().nlink as usize, 2 + wanted.len());
    // The data node has followed too: a file is written and read.
    client.put("/file", 0o644, vec![7_u8; 1000]).await.unwrap();
    let file = client.open("/file").await.unwrap();
    assert_eq!(file.read_at(0, 1000).await.unwrap().to_vec(), vec![7; 1000]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_asks_in_vain_is_refused_and_says_why() {
    let options = ClusterOptions { metas: 1, datas: 0, ..ClusterOptions::default() };
    let mut cluster = Cluster::start(options).await.unwrap();
    refused(&cluster, "admin raft remove 1", "that is no majority").await;
    refused(&cluster, "admin raft remove 7", "is no member of the metadata group").await;
    refused(&cluster, "admin raft promote 7", "is no member of the metadata group").await;
    refused(&cluster, "admin raft add 2 127.0.0.1:1", "does not answer the leader").await;
    let own = cluster.metas[0].address().to_owned();
    refused(&cluster, &format!("admin raft add 2 {own}"), "is not the empty server that waits").await;
    let id = grow(&mut cluster).await;
    let again = done(&cluster, &format!("admin raft add {id} {}", cluster.metas[1].address())).await;
    assert!(again.contains("it was so before"), "{again}");
    let shown = done(&cluster, "admin raft status").await;
    assert!(shown.contains("leader") && shown.contains("voter") && shown.contains(&own), "{shown}");
    let made = done(&cluster, "admin raft snapshot").await;
    assert!(made.contains("covers entry"), "{made}");
    let moved = done(&cluster, &format!("admin raft transfer {id}")).await;
    assert!(moved.contains(&format!("node-{id} leads")), "{moved}");

    // It loses its directory: it is not let in again under its id.
    assert!(done(&cluster, "admin raft transfer 1").await.contains("node-1 leads"));
    cluster.metas[1].kill();
    std::fs::remove_dir_all(cluster.metas[1].directory()).unwrap();
    cluster.metas[1].start().unwrap();
    for _ in 0..600 {
        if !cluster.metas[1].is_running() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(!cluster.metas[1].is_running(), "it serves");
    assert!(
        cluster.metas[1].log_tail().contains("under an id that was never used"),
        "{}",
        cluster.metas[1].log_tail()
    );
}
