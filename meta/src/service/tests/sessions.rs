//! Sessions end when their client does.

use std::time::Duration;

use cairn_proto::{WireError, v1};
use cairn_types::FsError;

use super::data_node::FakeNode;
use super::{Cluster, LONG, eventually, mkdir};
use crate::namespace::Command;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_session_expires_and_a_kept_one_lives() {
    let cluster = Cluster::start().await;
    let (silent, kept) = (cluster.session().await, cluster.session().await);
    silent.mutate(mkdir("/a")).await.expect("made");
    cluster.clock.skip(Duration::from_secs(29));
    let keep = v1::KeepAliveRequest { session: kept.id, acknowledged_below: 0, holds: None };
    let reply = cluster.meta.clone().keep_alive(cluster.request(keep)).await.expect("kept").into_inner();
    assert_eq!(reply.lease_ms, 30_000);
    cluster.clock.skip(Duration::from_secs(10));
    eventually("the silent session ends", async || (cluster.status().await.sessions == 1).then_some(()))
        .await;
    assert_eq!(silent.mutate(mkdir("/b")).await, Err(WireError::Fs(FsError::SessionExpired)));
    kept.mutate(mkdir("/c")).await.expect("the other one lives");
    let keep = v1::KeepAliveRequest { session: silent.id, acknowledged_below: 0, holds: None };
    let refused = cluster.meta.clone().keep_alive(cluster.request(keep)).await.expect_err("expired");
    assert_eq!(WireError::from(refused), WireError::Fs(FsError::SessionExpired));
    assert_eq!(cluster.names("/").await, ["a", "c"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tail_of_a_client_that_died_is_sealed() {
    let cluster = Cluster::start().await;
    let nodes = FakeNode::start_all(&cluster, 3).await;
    let session = cluster.session().await;
    let ino = session.create("/log").await.ino;
    let chunk = session.open_tail(ino, 1).await.expect("a tail").chunk;
    for node in &nodes {
        node.hold(chunk, 100, 0);
        node.beat().await;
    }
    cluster.clock.skip(Duration::from_secs(34));
    for node in &nodes {
        node.beat().await;
    }
    eventually("the tail is sealed", async || (cluster.inode("/log").await.size == 100).then_some(())).await;
    assert!(cluster.inode("/log").await.tail.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_whose_client_never_heard_of_it_ends_too() {
    let cluster = Cluster::start().await;
    // As after a deadline: the entry is committed, and nobody was told.
    let open = Command::OpenSession { client: "gone".into() };
    cluster.node.propose(open, LONG).await.expect("committed").1.expect("opened");
    assert_eq!(cluster.status().await.sessions, 1);
    eventually("the session ends", async || {
        cluster.clock.skip(Duration::from_secs(5));
        (cluster.status().await.sessions == 0).then_some(())
    })
    .await;
}
