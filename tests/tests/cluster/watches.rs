//! Watches of real clusters: nothing is missed and nothing told twice, whichever server dies, and
//! however long the watcher was away.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use cairn_sdk::types::{FsError, InodeId, LogIndex};
use cairn_sdk::{Change, Client, ListingOptions, RenameMode, Watch, WatchEvent, WatchOptions};
use cairn_tests::cluster::{Cluster, ClusterOptions, eventually};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};

const LONG: Duration = Duration::from_secs(60);

fn metas_only() -> ClusterOptions {
    ClusterOptions { datas: 0, ..ClusterOptions::default() }
}

async fn next(watch: &mut Watch) -> WatchEvent {
    let event = tokio::time::timeout(LONG, watch.next()).await.expect("an event in time");
    event.unwrap().expect("it is still there")
}

/// In short: what happened to which name.
fn short(event: &WatchEvent) -> String {
    let name = String::from_utf8_lossy(&event.name).into_owned();
    match &event.change {
        Change::Renamed { to_name, .. } => format!("{name} > {}", String::from_utf8_lossy(to_name)),
        Change::Created => format!("+ {name}"),
        Change::Removed { .. } => format!("- {name}"),
        other => format!("{other:?} {name}"),
    }
}

/// What a thousand changes look like to who watches: in their order, each once.
async fn change(client: Client, from: usize, count: usize) {
    for n in from..from + count {
        let (new, name) = (format!("/w/{n}-new"), format!("/w/{n}"));
        client.mkdir(&new, 0o755).await.unwrap();
        client.rename(&new, &name, RenameMode::NoReplace).await.unwrap();
    }
}

fn told(from: usize, count: usize) -> Vec<String> {
    (from..from + count).flat_map(|n| [format!("+ {n}-new"), format!("{n}-new > {n}")]).collect()
}

async fn take(watch: &mut Watch, count: usize) -> Vec<WatchEvent> {
    let mut events = Vec::new();
    for _ in 0..count {
        events.push(next(watch).await);
    }
    events
}

fn in_order(events: &[WatchEvent]) -> bool {
    events.iter().map(|event| (event.index, event.number)).is_sorted_by(|a, b| a < b)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_lives_through_the_death_of_leaders() {
    const EACH: usize = 150;
    let mut cluster = Cluster::start(metas_only()).await.unwrap();
    let client = cluster.client().await.unwrap();
    client.mkdir("/w", 0o755).await.unwrap();
    let other = cluster.client().await.unwrap();
    let options = WatchOptions { recursive: true, after: None };
    let mut watch = other.watch("/w", options).await.unwrap();
    let mut events = Vec::new();
    for round in 0..2 {
        let changes = tokio::spawn(change(client.clone(), round * EACH, EACH));
        events.extend(take(&mut watch, EACH / 2).await);
        let leader = cluster.leader(&client).await.unwrap();
        cluster.metas[leader].kill();
        events.extend(take(&mut watch, 2 * EACH - EACH / 2).await);
        changes.await.unwrap();
        cluster.metas[leader].start().unwrap();
        let look = || async {
            let status = client.status().await.ok()?;
            status.servers.iter().all(|server| server.reachable).then_some(())
        };
        eventually("the killed server is back", LONG, look).await.unwrap();
    }
    let found: Vec<String> = events.iter().map(short).collect();
    assert_eq!(found, told(0, 2 * EACH));
    assert!(in_order(&events));
    // Nothing comes after it but what is made now.
    client.mkdir("/w/last", 0o755).await.unwrap();
    assert_eq!(short(&next(&mut watch).await), "+ last");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_that_was_away_goes_on_where_it_was() {
    let mut cluster = Cluster::start(metas_only()).await.unwrap();
    let client = cluster.client().await.unwrap();
    client.mkdir("/w", 0o755).await.unwrap();
    let options = WatchOptions { recursive: false, after: None };
    let mut watch = client.watch("/w", options).await.unwrap();
    change(client.clone(), 0, 20).await;
    let mut events = take(&mut watch, 31).await;
    let index = watch.index();
    assert!(index >= events[30].index);
    drop(watch);
    change(client.clone(), 20, 30).await;
    for meta in &mut cluster.metas {
        meta.kill();
    }
    for meta in &mut cluster.metas {
        meta.start().unwrap();
    }
    let client = cluster.client().await.unwrap();
    change(client.clone(), 50, 10).await;
    let mut watch = client.watch("/w", WatchOptions { after: Some(index), ..options }).await.unwrap();
    events.extend(take(&mut watch, 120 - 31).await);
    assert_eq!(events.iter().map(short).collect::<Vec<_>>(), told(0, 60));
    assert!(in_order(&events));
    // The whole log once more, from the first entry on.
    let mut again =
        client.watch("/", WatchOptions { recursive: true, after: Some(LogIndex(0)) }).await.unwrap();
    assert_eq!(short(&next(&mut again).await), "+ w");
    assert_eq!(take(&mut again, 120).await.iter().map(short).collect::<Vec<_>>(), told(0, 60));
}

/// What a directory holds, as somebody knows it who listed it once and watches since.
#[tokio::test(flavor = "multi_thread")]
async fn a_listing_and_a_watch_after_it_follow_a_directory() {
    let cluster = Cluster::start(metas_only()).await.unwrap();
    let client = cluster.client().await.unwrap();
    client.mkdir("/w", 0o755).await.unwrap();
    change(client.clone(), 0, 20).await;
    let changes = tokio::spawn(change(cluster.client().await.unwrap(), 20, 100));
    let mut listing = client.list("/w", ListingOptions::default());
    let mut known: BTreeMap<Vec<u8>, InodeId> = BTreeMap::new();
    while let Some(entry) = listing.next().await.unwrap() {
        known.insert(entry.name.into_bytes(), entry.inode.ino);
    }
    let after = listing.snapshot_index();
    assert!(after.is_some());
    let mut watch = client.watch("/w", WatchOptions { recursive: false, after }).await.unwrap();
    changes.await.unwrap();
    client.mkdir("/w/end", 0o755).await.unwrap();
    loop {
        let event = next(&mut watch).await;
        match &event.change {
            Change::Created => {
                assert_eq!(known.insert(event.name.clone(), event.ino), None, "{event:?}");
            }
            Change::Renamed { to_name, .. } => {
                assert_eq!(known.remove(&event.name), Some(event.ino));
                assert_eq!(known.insert(to_name.clone(), event.ino), None);
            }
            _ => panic!("{event:?}"),
        }
        if event.name == b"end" {
            break;
        }
    }
    let mut listing = client.list("/w", ListingOptions::default());
    let mut there = BTreeMap::new();
    while let Some(entry) = listing.next().await.unwrap() {
        there.insert(entry.name.into_bytes(), entry.inode.ino);
    }
    assert_eq!(known, there);
    let missing = client.watch("/nowhere", WatchOptions::default()).await.unwrap_err();
    assert_eq!(missing.fs(), Some(&FsError::NotFound));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_shows_changes_until_it_is_interrupted_and_tells_where_to_go_on() {
    let cluster =
        Cluster::start(ClusterOptions { metas: 1, datas: 0, ..ClusterOptions::default() }).await.unwrap();
    let client = cluster.client().await.unwrap();
    client.mkdir("/w", 0o755).await.unwrap();
    let watch = async |arguments: &[&str], count: usize, act: &dyn Fn() -> tokio::task::JoinHandle<()>| {
        let mut command = tokio::process::Command::from(cluster.cli());
        command.args(["fs", "watch", "--json", "-r", "/w"]).args(arguments);
        command.kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen: Vec<serde_json::Value> = Vec::new();
        let mut read = async || {
            let line = tokio::time::timeout(LONG, lines.next_line()).await.expect("a line in time");
            serde_json::from_str::<serde_json::Value>(&line.unwrap().expect("a line")).unwrap()
        };
        assert_eq!(read().await["event"], "watching");
        let acting = act();
        for _ in 0..count {
            seen.push(read().await);
        }
        acting.await.unwrap();
        let pid = Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
        kill_process(pid, Signal::INT).unwrap();
        let last = read().await;
        assert_eq!(last["event"], "interrupted");
        let status = tokio::time::timeout(LONG, child.wait()).await.expect("it ends").unwrap();
        assert_eq!(status.code(), Some(0));
        (seen, last["index"].as_u64().unwrap())
    };
    let acting = client.clone();
    let act = move || {
        let client = acting.clone();
        tokio::spawn(async move {
            client.mkdir("/w/d", 0o755).await.unwrap();
            client.mkdir("/w/d/e", 0o755).await.unwrap();
            client.rename("/w/d", "/w/n", RenameMode::Replace).await.unwrap();
        })
    };
    let (seen, index) = watch(&[], 3, &act).await;
    let paths: Vec<(&str, &str)> =
        seen.iter().map(|v| (v["event"].as_str().unwrap(), v["path"].as_str().unwrap())).collect();
    assert_eq!(paths, [("created", "/w/d"), ("created", "/w/d/e"), ("renamed", "/w/d")]);
    assert_eq!(seen[2]["to"], "/w/n");
    assert!(index >= seen[2]["index"].as_u64().unwrap());
    client.rmdir("/w/n/e").await.unwrap();
    let nothing = || tokio::spawn(async {});
    let (rest, _) = watch(&["--after", &index.to_string()], 1, &nothing).await;
    assert_eq!((rest[0]["event"].as_str(), rest[0]["name"].as_str()), (Some("removed"), Some("e")));
}
