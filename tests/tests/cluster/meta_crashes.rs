//! Metadata servers that die as they make something durable, and that lose their power: what was
//! acknowledged is there.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cairn_sdk::{Client, ListingOptions};
use cairn_tests::cluster::{Cluster, ClusterOptions, eventually};
use cairn_tests::power::{PowerError, Volume};
use cairn_tests::syscall_fault::{FaultError, SyscallFault};
use tokio::task::JoinHandle;

const CLIENTS: u64 = 4;
const SOON: Duration = Duration::from_secs(60);

fn metas_only() -> ClusterOptions {
    ClusterOptions { datas: 0, ..ClusterOptions::default() }
}

fn is_long() -> bool {
    std::env::var_os("CAIRN_LONG").is_some()
}

/// Names that were made, for certain.
type Made = Arc<Mutex<BTreeSet<String>>>;

/// Clients that make directories, each again and again.
struct Load {
    made: Made,
    over: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Load {
    /// `round` keeps the names of several loads apart.
    async fn start(cluster: &Cluster, made: &Made, round: u64) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::new();
        for own in 0..CLIENTS {
            let client = cluster.client().await.unwrap();
            let (made, over) = (Arc::clone(made), Arc::clone(&over));
            tasks.push(tokio::spawn(async move {
                let next = AtomicU64::new(0);
                while !over.load(Ordering::Relaxed) {
                    let name = format!("{round}-{own}-{}", next.fetch_add(1, Ordering::Relaxed));
                    // All servers may be away for longer than a client asks: that one is not counted.
                    if client.mkdir(&format!("/work/{name}"), 0o755).await.is_ok() {
                        made.lock().unwrap().insert(name);
                    }
                }
            }));
        }
        Self { made: Arc::clone(made), over, tasks }
    }

    async fn goes_on(&self, more: usize) {
        let wanted = self.made.lock().unwrap().len() + more;
        let look = || async { (self.made.lock().unwrap().len() >= wanted).then_some(()) };
        eventually("more directories", SOON, look).await.unwrap();
    }

    /// Whatever is under way is given up.
    fn abort(self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }

    async fn stop(self) {
        self.over.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

async fn names(client: &Client) -> BTreeSet<String> {
    let mut listing = client.list("/work", ListingOptions::default());
    let mut names = BTreeSet::new();
    while let Some(entry) = listing.next().await.unwrap() {
        assert!(names.insert(entry.name.to_string()), "{} is listed twice", entry.name);
    }
    names
}

/// All of `wanted` is there.
async fn holds(client: &Client, wanted: &BTreeSet<String>, when: &str) {
    let found = names(client).await;
    let lost: Vec<&String> = wanted.difference(&found).take(5).collect();
    assert!(lost.is_empty(), "{when}: acknowledged and lost: {lost:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_metadata_server_killed_at_every_nth_sync_loses_nothing_acknowledged() {
    let nths: Vec<u32> = if is_long() { (1..=60).collect() } else { vec![1, 2, 3, 5, 8] };
    let mut cluster = Cluster::start(metas_only()).await.unwrap();
    let client = cluster.client().await.unwrap();
    client.mkdir("/work", 0o755).await.unwrap();
    let made = Made::default();
    let load = Load::start(&cluster, &made, 0).await;
    for nth in nths {
        // The leader, whose place changes with each death, and one that follows.
        let leader = cluster.leader(&client).await.unwrap();
        for victim in [leader, (leader + 1) % cluster.metas.len()] {
            load.goes_on(20).await;
            let pid = cluster.metas[victim].pid().unwrap();
            let mut fault = match SyscallFault::kill_at(pid, "fdatasync", nth) {
                Ok(fault) => fault,
                Err(error @ FaultError::Unable { .. }) => {
                    println!("left out: {error}");
                    return;
                }
            };
            let struck = tokio::task::block_in_place(|| fault.struck(SOON));
            assert!(struck, "server {victim} never made its fdatasync number {nth}");
            assert!(!cluster.metas[victim].is_running());
            let before = made.lock().unwrap().clone();
            cluster.metas[victim].start().unwrap();
            cluster.wait_ready(SOON).await.unwrap();
            holds(&client, &before, &format!("server {victim} killed at fdatasync {nth}")).await;
        }
    }
    load.goes_on(20).await;
    load.stop().await;
    cluster.kill_all();
    cluster.start_all().await.unwrap();
    let client = cluster.client().await.unwrap();
    let wanted = made.lock().unwrap().clone();
    assert!(wanted.is_subset(&names(&client).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_servers_that_all_lose_their_power_lose_nothing_acknowledged() {
    let cuts = if is_long() { 20 } else { 2 };
    let volume = match Volume::new(1024) {
        Ok(volume) => volume,
        Err(error @ PowerError::Unable { .. }) => {
            println!("left out: {error}");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let mut cluster = Cluster::start_at(volume.path(), metas_only()).await.unwrap();
    let client = cluster.client().await.unwrap();
    client.mkdir("/work", 0o755).await.unwrap();
    // The servers' configuration is the test's, and no server ever fsyncs it.
    volume.sync().unwrap();
    let made = Made::default();
    for round in 0..cuts {
        let load = Load::start(&cluster, &made, round).await;
        load.goes_on(200).await;
        // An fsync that is under way may answer well after the cut: what comes then is not counted.
        let before = made.lock().unwrap().clone();
        volume.cut().unwrap();
        cluster.kill_all();
        load.abort();
        volume.restore().unwrap();
        cluster.start_all().await.unwrap();
        let client = cluster.client().await.unwrap();
        holds(&client, &before, &format!("after cut {round}")).await;
        *made.lock().unwrap() = before;
    }
}
