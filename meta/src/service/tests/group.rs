//! Three servers: followers name the leader, and a new leader goes on where the old one stopped.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::{NodeId, Policy};
use tokio::net::TcpListener;

use super::data_node::FakeNode;
use super::{Cluster, LONG, Manner, Session, eventually};

/// One cluster seen through each of its three servers.
pub(super) async fn three() -> Vec<Cluster> {
    three_by(Policy::cluster()).await
}

/// As [`three`], by a policy.
pub(super) async fn three_by(policy: Policy) -> Vec<Cluster> {
    let mut listeners = Vec::new();
    for _ in 0..3 {
        listeners.push(TcpListener::bind("127.0.0.1:0").await.expect("a port"));
    }
    let address = |l: &TcpListener| l.local_addr().expect("an address").to_string();
    let members: BTreeMap<NodeId, String> = (1..).map(NodeId).zip(listeners.iter().map(address)).collect();
    let mut servers = Vec::new();
    for (id, listener) in (1..).map(NodeId).zip(listeners) {
        let manner = Manner {
            policy,
            heartbeat_ms: 200,
            election_ms: (1000, 2000),
            node_timeout: Duration::from_secs(1000),
            slow_operation: None,
            repair_bytes_per_second: None,
        };
        servers.push(Cluster::serve(id, members.clone(), listener, manner).await);
    }
    servers
}

/// The server that leads and has told its name to all.
pub(super) async fn leader(servers: &mut [Cluster], not: Option<usize>) -> usize {
    let (leader, id) = eventually("a server leads", async || {
        for (at, server) in servers.iter().enumerate().filter(|(at, _)| Some(*at) != not) {
            if let Some(id) = server.led().await {
                return Some((at, id));
            }
        }
        None
    })
    .await;
    servers.iter_mut().for_each(|s| s.id = id);
    leader
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_leader_finishes_the_seal_that_the_old_one_began() {
    let mut servers = three().await;
    let first = leader(&mut servers, None).await;
    let address = servers[first].node.status().leader.expect("itself").1;
    let follower = &servers[(first + 1) % 3];
    eventually("a follower names the leader", async || {
        let named = ServiceError::NotLeader { leader_address: address.clone() };
        (follower.stat("/").await == Err(WireError::Service(named))).then_some(())
    })
    .await;
    let (chunk, session, desks) = {
        let old = &servers[first];
        let nodes = FakeNode::start_all(old, 3).await;
        let session = old.session().await;
        let ino = session.create("/log").await.ino;
        let chunk = session.open_tail(ino, 1).await.expect("a tail").chunk;
        nodes.iter().for_each(|n| n.hold(chunk, 64, 0));
        nodes.iter().for_each(|n| n.change(|d| d.unreachable = true));
        let undecided = old.seal(chunk, Duration::from_millis(500)).await;
        assert_eq!(undecided, Err(WireError::Service(ServiceError::Deadline)));
        let to = old.request(v1::TransferLeaderRequest { to: 0 });
        old.meta.clone().transfer_leader(to).await.expect("handed over");
        let desks: Vec<_> = nodes.iter().map(|n| n.desk.clone()).collect();
        // The data nodes stay; only this test's handles on them go.
        nodes.into_iter().for_each(std::mem::forget);
        (chunk, session.id, desks)
    };
    let second = leader(&mut servers, Some(first)).await;
    let new = &servers[second];
    assert_eq!(new.chunk(chunk).await.map(|c| c.state()), Ok(v1::ChunkState::Sealing));
    for desk in &desks {
        desk.lock().expect("unpoisoned").unreachable = false;
    }
    eventually("the new leader seals it", async || (new.inode("/log").await.size == 64).then_some(())).await;
    // The session lives on, with a full term, and its replies with it.
    let session = Session { cluster: new, id: session, sequence: AtomicU64::new(100) };
    session.create("/after").await;
    let again = tokio::time::timeout(LONG, session.mutate_as(1, super::create("/log"))).await;
    assert!(again.expect("in time").expect("the kept reply").inode.is_some());
}
