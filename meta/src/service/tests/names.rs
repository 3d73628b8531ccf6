//! The namespace over the wire.

use cairn_proto::WireError;
use cairn_proto::v1::mutate_request::Operation;
use cairn_proto::v1::{self, FileKind};
use cairn_types::FsError;

use super::{Cluster, at, create, mkdir};

fn rename(from: &str, to: &str) -> Operation {
    let (no_replace, exchange) = (false, false);
    Operation::Rename(v1::Rename { from: at(from), to: at(to), no_replace, exchange })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_made_is_found_listed_moved_and_removed() {
    let cluster = Cluster::start().await;
    let session = cluster.session().await;
    session.mutate(mkdir("/a")).await.expect("made");
    let made = session.mutate(create("/a/x")).await.expect("made").inode.expect("an inode");
    assert_eq!(made.kind(), FileKind::File);
    assert_eq!(cluster.inode("/a/x").await, made);
    assert_eq!(session.mutate(create("/a/x")).await, Err(WireError::Fs(FsError::Exists)));
    let moved = session.mutate(rename("/a", "/b")).await.expect("moved");
    assert!(moved.log_index > 0);
    assert_eq!(cluster.stat("/a/x").await, Err(WireError::Fs(FsError::NotFound)));
    assert_eq!(cluster.inode("/b/x").await.ino, made.ino);
    assert_eq!(cluster.names("/").await, ["b"]);
    assert_eq!(cluster.names("/b").await, ["x"]);
    assert_eq!(cluster.list("/b/x", "", 0).await, Err(WireError::Fs(FsError::NotDirectory)));
    let unlink = Operation::Unlink(v1::Unlink { target: at("/b/x") });
    session.mutate(unlink).await.expect("removed");
    assert!(cluster.names("/b").await.is_empty());
    assert_eq!(cluster.status().await.inodes, 2, "the root and /b");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_sequence_gets_the_same_reply_and_happens_once() {
    let cluster = Cluster::start().await;
    let session = cluster.session().await;
    let first = session.mutate_as(1, create("/x")).await.expect("made");
    session.mutate_as(2, rename("/x", "/y")).await.expect("moved");
    let again = session.mutate_as(1, create("/x")).await.expect("the kept reply");
    assert_eq!(again.inode, first.inode, "as it was then, not as it is now");
    assert!(again.log_index > first.log_index, "the repeat is an entry of its own");
    assert_eq!(cluster.names("/").await, ["y"]);
    let refused = session.mutate_as(3, mkdir("/y")).await;
    assert_eq!(refused, Err(WireError::Fs(FsError::Exists)));
    assert_eq!(session.mutate_as(3, mkdir("/z")).await, refused, "a refusal is kept too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_listing_comes_in_batches_in_order_and_resumes_by_name() {
    let cluster = Cluster::start().await;
    let session = cluster.session().await;
    let names: Vec<String> = (0..2500).map(|i| format!("/{i:05}")).collect();
    for some in names.chunks(500) {
        let made = futures::future::join_all(some.iter().map(|n| session.mutate(create(n)))).await;
        assert!(made.iter().all(Result::is_ok));
        // A session keeps 1,024 replies, no more.
        let below = session.sequence.load(std::sync::atomic::Ordering::Relaxed);
        let keep = v1::KeepAliveRequest { session: session.id, acknowledged_below: below, holds: None };
        cluster.meta.clone().keep_alive(cluster.request(keep)).await.expect("kept");
    }
    let listed: Vec<String> = cluster.names("/").await.into_iter().map(|n| format!("/{n}")).collect();
    assert_eq!(listed, names);
    let batches = cluster.list("/", "", 0).await.expect("a listing");
    assert!(batches[0].entries.len() <= 128, "the first ones come at once");
    assert!(batches.iter().all(|b| b.entries.len() <= 1024));
    assert!(batches.iter().all(|b| b.snapshot_index == batches[0].snapshot_index));
    assert_eq!(batches.iter().map(|b| b.last).collect::<Vec<_>>(), [false, false, false, true]);
    let tail = cluster.list("/", "02497", 0).await.expect("a listing");
    let tail: Vec<_> = tail.into_iter().flat_map(|b| b.entries).map(|e| e.name).collect();
    assert_eq!(tail, ["02498", "02499"]);
    let some = cluster.list("/", "", 3).await.expect("a listing");
    assert_eq!((some.len(), some[0].entries.len(), some[0].last), (1, 3, false));
}
