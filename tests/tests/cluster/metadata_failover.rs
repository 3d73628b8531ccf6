//! Metadata servers that die, restart, or all go at once: every change is applied once, and what
//! was acknowledged is there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cairn_proto::v1::mutate_request::Operation;
use cairn_proto::v1::{Mkdir, Rename};
use cairn_sdk::types::{FsError, NodeId};
use cairn_sdk::{Client, ListingOptions, RenameMode};
use cairn_tests::cluster::{Cluster, ClusterOptions, Wire, eventually, target};

fn metas_only() -> ClusterOptions {
    ClusterOptions { datas: 0, ..ClusterOptions::default() }
}

async fn names(client: &Client, directory: &str) -> BTreeSet<String> {
    let mut listing = client.list(directory, ListingOptions::default());
    let mut names = BTreeSet::new();
    while let Some(entry) = listing.next().await.unwrap() {
        assert!(names.insert(entry.name.to_string()), "{} is listed twice", entry.name);
    }
    names
}

/// One of several clients: makes a directory and renames it, again and again. The names stay its own.
async fn mkdir_and_rename(client: Client, own: usize, count: usize, done: Arc<AtomicU64>) {
    for n in 0..count {
        let (from, to) = (format!("/work/{own}-{n}-new"), format!("/work/{own}-{n}"));
        // An answer "it exists already" or "not found" would be a change that was applied twice.
        client.mkdir(&from, 0o755).await.unwrap();
        client.rename(&from, &to, RenameMode::NoReplace).await.unwrap();
        done.fetch_add(2, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leader_killed_during_a_thousand_changes_each_is_applied_once() {
    const CLIENTS: usize = 5;
    const EACH: usize = 100;
    let mut cluster = Cluster::start(metas_only()).await.unwrap();
    let client = cluster.client().await.unwrap();
    client.mkdir("/work", 0o755).await.unwrap();
    let done = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    for own in 0..CLIENTS {
        let one = cluster.client().await.unwrap();
        tasks.push(tokio::spawn(mkdir_and_rename(one, own, EACH, Arc::clone(&done))));
    }
    let done_at_least = async |count: u64| {
        let look = || async { (done.load(Ordering::Relaxed) >= count).then_some(()) };
        eventually("some changes", Duration::from_secs(60), look).await.unwrap();
    };
    done_at_least(200).await;
    let first = cluster.leader(&client).await.unwrap();
    cluster.metas[first].kill();
    done_at_least(600).await;
    let second = cluster.leader(&client).await.unwrap();
    assert_ne!(first, second);
    cluster.metas[first].start().unwrap();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(done.load(Ordering::Relaxed), 2 * (CLIENTS * EACH) as u64);
    let wanted: BTreeSet<String> =
        (0..CLIENTS).flat_map(|own| (0..EACH).map(move |n| format!("{own}-{n}"))).collect();
    assert_eq!(names(&client, "/work").await, wanted);
    // 500 directories, each with one link to its parent: nothing was counted twice either.
    assert_eq!(client.stat("/work").await.unwrap().nlink as usize, 2 + CLIENTS * EACH);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_gets_the_same_reply_from_the_next_leader_too() {
    let mut cluster = Cluster::start(metas_only()).await.unwrap();
    let client = cluster.client().await.unwrap();
    let wire = Wire::new(&cluster, &client);
    let session = wire.open_session().await.unwrap();
    let mkdir = |path: &str| {
        Operation::Mkdir(Mkdir { target: Some(target(path)), mode: 0o755, uid: 0, gid: 0, parents: false })
    };
    let made = wire.mutate(session, 1, mkdir("/once")).await.unwrap();
    assert!(made.inode.is_some());
    let rename = Operation::Rename(Rename {
        from: Some(target("/once")),
        to: Some(target("/renamed")),
        no_replace: false,
        exchange: false,
    });
    let renamed = wire.mutate(session, 2, rename.clone()).await.unwrap();
    // Applied again, this would fail: /once is gone, /renamed is there. The index is that of the entry
    // that answered: a later one for a repeat.
    let repeated = async |sequence, operation, first: &cairn_proto::v1::MutateReply| {
        let again = wire.mutate(session, sequence, operation).await.unwrap();
        assert!(again.log_index > first.log_index);
        assert_eq!(cairn_proto::v1::MutateReply { log_index: first.log_index, ..again }, *first);
    };
    repeated(1, mkdir("/once"), &made).await;
    repeated(2, rename.clone(), &renamed).await;
    // A refusal is a reply like any other.
    let refused = wire.mutate(session, 3, mkdir("/renamed")).await.unwrap_err().to_string();
    client.rmdir("/renamed").await.unwrap();

    let leader = cluster.leader(&client).await.unwrap();
    cluster.metas[leader].kill();
    repeated(1, mkdir("/once"), &made).await;
    repeated(2, rename, &renamed).await;
    assert_eq!(wire.mutate(session, 3, mkdir("/renamed")).await.unwrap_err().to_string(), refused);
    assert_eq!(names(&client, "/").await, BTreeSet::new());
    let fresh = wire.mutate(session, 4, mkdir("/next")).await.unwrap();
    assert!(fresh.log_index > renamed.log_index);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_restarts_and_catches_up() {
    let mut cluster = Cluster::start(metas_only()).await.unwrap();
    let client = cluster.client().await.unwrap();
    let leader = cluster.leader(&client).await.unwrap();
    let follower = (leader + 1) % 3;
    cluster.metas[follower].kill();
    for n in 0..200 {
        client.mkdir(format!("/while-away-{n}"), 0o755).await.unwrap();
    }
    cluster.metas[follower].start().unwrap();
    let (last, node) = (client.status().await.unwrap().last_log_index, follower as u64 + 1);
    let caught_up = || async {
        let status = client.status().await.ok()?;
        let server = status.servers.iter().find(|s| s.node == node)?;
        (server.reachable && server.matched_index >= last).then_some(())
    };
    eventually("the follower to catch up", Duration::from_secs(60), caught_up).await.unwrap();
    // It is as good as the others: with the leader gone, it and the third go on.
    cluster.metas[leader].kill();
    assert_eq!(names(&client, "/").await.len(), 200);
    client.mkdir("/after", 0o755).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lead_is_handed_over_on_request() {
    let cluster = Cluster::start(metas_only()).await.unwrap();
    let client = cluster.client().await.unwrap();
    // Where a server was too slow for the others, they elect anew, and who leads then nobody asked for: again.
    let handed_over = || async {
        let before = client.status().await.ok()?;
        let to = NodeId(before.leader % 3 + 1);
        let moved = client.transfer_leader(Some(to)).await.ok()?;
        let after = client.status().await.ok()?;
        let elections = after.term.saturating_sub(before.term);
        (elections <= 1).then_some((to, moved, NodeId(after.leader)))
    };
    let (to, moved, leads) =
        eventually("one hand-over and no other election", Duration::from_secs(60), handed_over)
            .await
            .unwrap();
    assert_eq!((moved, leads), (to, to));
    client.mkdir("/after", 0o755).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn all_killed_at_once_and_everything_acknowledged_is_there() {
    let mut cluster = Cluster::start(metas_only()).await.unwrap();
    let client = cluster.client().await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    for own in 0..4 {
        // All servers are away for as long as a busy machine takes to start them.
        let (client, stop) = (cluster.patient_client().await.unwrap(), Arc::clone(&stop));
        tasks.push(tokio::spawn(async move {
            let mut made = BTreeSet::new();
            for n in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let name = format!("{own}-{n}");
                client.mkdir(format!("/{name}"), 0o755).await.unwrap();
                made.insert(name);
            }
            made
        }));
    }
    for _ in 0..3 {
        let before = names(&client, "/").await.len();
        let grown = || async { (names(&client, "/").await.len() >= before + 100).then_some(()) };
        eventually("100 more directories", Duration::from_secs(60), grown).await.unwrap();
        cluster.kill_all();
        cluster.start_all().await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    let mut acknowledged = BTreeSet::new();
    for task in tasks {
        acknowledged.append(&mut task.await.unwrap());
    }
    assert_eq!(names(&client, "/").await, acknowledged);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_during_renames_shows_one_point_in_time() {
    let cluster = Cluster::start(metas_only()).await.unwrap();
    let client = cluster.client().await.unwrap();
    // The two names lie at the ends of the listing, with more than one batch of others between them.
    let (a, z) = ("/a", "/z");
    client.mkdir(a, 0o755).await.unwrap();
    let filler = |n: usize| {
        let client = client.clone();
        async move { client.mkdir(format!("/m{n:05}"), 0o755).await.unwrap() }
    };
    for batch in 0..50 {
        futures::future::join_all((0..100).map(|n| filler(batch * 100 + n))).await;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let renaming = {
        let (client, stop) = (cluster.client().await.unwrap(), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut renames = 0;
            while !stop.load(Ordering::Relaxed) {
                client.rename(a, z, RenameMode::NoReplace).await.unwrap();
                client.rename(z, a, RenameMode::NoReplace).await.unwrap();
                renames += 2;
            }
            renames
        })
    };
    let (mut seen_a, mut seen_z) = (0, 0);
    for _ in 0..60 {
        let mut listing = client.list("/", ListingOptions::default());
        let (mut has_a, mut has_z, mut count) = (false, false, 0);
        while let Some(entry) = listing.next().await.unwrap() {
            has_a |= entry.name.as_bytes() == b"a";
            has_z |= entry.name.as_bytes() == b"z";
            count += 1;
        }
        assert_eq!(listing.snapshots(), 1);
        assert_eq!(count, 5001, "a: {has_a}, z: {has_z}");
        assert!(has_a ^ has_z, "a: {has_a}, z: {has_z}");
        seen_a += usize::from(has_a);
        seen_z += usize::from(has_z);
    }
    stop.store(true, Ordering::Relaxed);
    let renames = renaming.await.unwrap();
    assert!(renames > 10 && seen_a > 0 && seen_z > 0, "{renames} renames, {seen_a} a, {seen_z} z");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_resumes_by_name() {
    let cluster =
        Cluster::start(ClusterOptions { datas: 0, metas: 1, ..ClusterOptions::default() }).await.unwrap();
    let client = cluster.client().await.unwrap();
    for n in 0..30 {
        client.mkdir(format!("/d{n:02}"), 0o755).await.unwrap();
    }
    let mut options = ListingOptions { limit: 10, ..ListingOptions::default() };
    let mut all = Vec::new();
    loop {
        let mut listing = client.list("/", options.clone());
        let before = all.len();
        while let Some(entry) = listing.next().await.unwrap() {
            all.push(entry.name.to_string());
        }
        if all.len() == before {
            break;
        }
        options.start_after = all.last().map(|n| n.clone().into_bytes());
    }
    assert_eq!(all, (0..30).map(|n| format!("d{n:02}")).collect::<Vec<_>>());
    let missing = client.list("/nowhere", ListingOptions::default()).next().await.unwrap_err();
    assert_eq!(missing.fs(), Some(&FsError::NotFound));
}
