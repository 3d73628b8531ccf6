//! Trees over the wire: removed as a whole, listed as a whole, divided.

use cairn_proto::v1::mutate_request::Operation;
use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::FsError;

use super::{Cluster, Session, at, create, eventually, mkdir};

async fn remove_tree(session: &Session<'_>, path: &str) -> Result<v1::MutateReply, WireError> {
    session.mutate(Operation::RemoveTree(v1::RemoveTree { target: at(path) })).await
}

/// Makes so many files in a directory.
async fn files(session: &Session<'_>, directory: &str, count: usize) {
    let paths: Vec<String> = (0..count).map(|n| format!("{directory}/f{n:05}")).collect();
    for some in paths.chunks(500) {
        let made = futures::future::join_all(some.iter().map(|path| session.mutate(create(path)))).await;
        assert!(made.iter().all(Result::is_ok));
        // A session keeps 1,024 replies, no more.
        let below = session.sequence.load(std::sync::atomic::Ordering::Relaxed);
        let keep = v1::KeepAliveRequest { session: session.id, acknowledged_below: below, holds: None };
        session.cluster.meta.clone().keep_alive(session.cluster.request(keep)).await.expect("kept");
    }
}

async fn batches(cluster: &Cluster, message: v1::ListRequest) -> Result<Vec<v1::ListBatch>, WireError> {
    let mut stream = cluster.meta.clone().list(cluster.request(message)).await?.into_inner();
    let mut batches = Vec::new();
    while let Some(batch) = stream.message().await? {
        batches.push(batch);
    }
    Ok(batches)
}

fn paths(batches: &[v1::ListBatch]) -> Vec<String> {
    let entries = batches.iter().flat_map(|batch| &batch.entries);
    entries.map(|e| String::from_utf8_lossy(&e.name).into_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_is_gone_when_it_is_answered_and_the_leader_purges_it_by_itself() {
    let cluster = Cluster::start().await;
    let session = cluster.session().await;
    session.mutate(mkdir("/t")).await.expect("made");
    session.mutate(mkdir("/t/d")).await.expect("made");
    files(&session, "/t/d", 1500).await;
    let inside = cluster.inode("/t/d/f00000").await;
    let top = remove_tree(&session, "/t").await.expect("removed").inode.expect("as it was");
    assert_eq!(cluster.stat("/t/d/f00000").await, Err(WireError::Fs(FsError::NotFound)));
    let target = Some(v1::Target { ino: inside.ino, ..v1::Target::default() });
    let request = cluster.request(v1::StatRequest { target, ..v1::StatRequest::default() });
    let by_inode = cluster.meta.clone().stat(request).await.map_err(WireError::from);
    assert_eq!(by_inode.map(|_| ()), Err(WireError::Fs(FsError::Stale)));
    assert!(cluster.names("/").await.is_empty());
    eventually("the tree is purged", async || {
        let wait = cluster.request(v1::WaitTreeRequest { ino: top.ino, timeout_ms: 1000 });
        let reply = cluster.meta.clone().wait_tree(wait).await.ok()?.into_inner();
        reply.done.then_some(())
    })
    .await;
    let status = cluster.status().await;
    assert_eq!((status.inodes, status.trees_pending, status.trees_purged_names), (1, 0, 1501));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subtree_comes_in_batches_in_the_order_of_its_keys_with_prefix_delimiter_and_start() {
    let cluster = Cluster::start().await;
    let session = cluster.session().await;
    for path in ["/t", "/t/a", "/t/a-b", "/t/big"] {
        session.mutate(mkdir(path)).await.expect("made");
    }
    for path in ["/t/a.txt", "/t/a/x", "/t/a0", "/t/a-b/y"] {
        session.create(path).await;
    }
    files(&session, "/t/big", 1500).await;
    let ask = v1::ListRequest { target: at("/t"), recursive: true, ..v1::ListRequest::default() };
    let whole = batches(&cluster, ask.clone()).await.expect("listed");
    let keys = paths(&whole);
    assert_eq!(
        keys.get(..8).expect("keys"),
        ["a-b", "a-b/y", "a.txt", "a", "a/x", "a0", "big", "big/f00000"]
    );
    assert_eq!(keys.len(), 7 + 1500);
    assert!(whole.len() > 2 && whole.iter().all(|b| b.entries.len() <= 1024));
    assert!(whole.iter().all(|b| b.snapshot_index == whole[0].snapshot_index));
    assert!(whole.iter().flat_map(|b| &b.entries).all(|e| e.inode.is_some()), "attributes come along");
    let rolled = v1::ListRequest { delimiter: "/".into(), ..ask.clone() };
    let level = batches(&cluster, rolled.clone()).await.expect("listed");
    assert_eq!(paths(&level), ["a-b/", "a.txt", "a/", "a0", "big/"]);
    let common: Vec<bool> = level.iter().flat_map(|b| &b.entries).map(|e| e.common_prefix).collect();
    assert_eq!(common, [true, false, true, false, true]);
    let some = v1::ListRequest { prefix: "a".into(), start_after: "a.txt".into(), ..rolled };
    assert_eq!(paths(&batches(&cluster, some).await.expect("listed")), ["a/", "a0"]);
    let two = v1::ListRequest { start_after: "a/".into(), limit: 2, ..ask.clone() };
    assert_eq!(paths(&batches(&cluster, two).await.expect("listed")), ["a/x", "a0"]);
    let named =
        v1::ListRequest { recursive: false, prefix: "a".into(), until: "a.txt".into(), ..ask.clone() };
    assert_eq!(paths(&batches(&cluster, named).await.expect("listed")), ["a", "a-b", "a.txt"]);
    for (bad, field) in [
        (v1::ListRequest { until: "x".into(), ..ask.clone() }, "until"),
        (v1::ListRequest { recursive: false, delimiter: "/".into(), ..ask.clone() }, "delimiter"),
        (v1::ListRequest { prefix: vec![b'x'; 5000].into(), ..ask }, "prefix"),
    ] {
        let refused = batches(&cluster, bad).await.map(|_| ());
        assert_eq!(refused, Err(WireError::Service(ServiceError::Malformed { field: field.to_owned() })));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_is_divided_into_ranges_that_are_the_whole() {
    let cluster = Cluster::start().await;
    let session = cluster.session().await;
    session.mutate(mkdir("/d")).await.expect("made");
    files(&session, "/d", 1000).await;
    let split = v1::SplitDirectoryRequest { target: at("/d"), parts: 4, ..Default::default() };
    let split = cluster.meta.clone().split_directory(cluster.request(split)).await.expect("divided");
    let cuts = split.into_inner().names;
    assert_eq!(cuts.len(), 3);
    let (mut all, mut after) = (Vec::new(), bytes::Bytes::new());
    for until in cuts.into_iter().chain([bytes::Bytes::new()]) {
        let range = v1::ListRequest {
            target: at("/d"),
            start_after: after,
            until: until.clone(),
            ..Default::default()
        };
        let names = paths(&batches(&cluster, range).await.expect("listed"));
        assert!((80..=500).contains(&names.len()), "{}", names.len());
        all.extend(names);
        after = until;
    }
    assert_eq!(all, cluster.names("/d").await);
    let none = v1::SplitDirectoryRequest { target: at("/d"), parts: 0, ..Default::default() };
    let refused = cluster.meta.clone().split_directory(cluster.request(none)).await.map_err(WireError::from);
    let malformed = ServiceError::Malformed { field: "parts".to_owned() };
    assert_eq!(refused.map(|_| ()), Err(WireError::Service(malformed)));
}
