//! Three servers: followers name the leader, and a new leader goes on where the old one stopped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use cairn_proto::v1::meta_client::MetaClient;
use cairn_proto::v1::nodes_client::NodesClient;
use cairn_proto::{ServiceError, WireError, handshake, v1};
use cairn_types::{ClusterId, NodeId, Policy, SystemRandom};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::Request;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use super::data_node::FakeNode;
use super::{Cluster, LONG, Session, SkippingClock, connect, eventually};
use crate::leader::Ground;
use crate::node::{Settings, Started};
use crate::raft::machine::Pace;

/// One cluster seen through each of its three servers.
async fn three() -> Vec<Cluster> {
    let mut listeners = Vec::new();
    for _ in 0..3 {
        listeners.push(TcpListener::bind("127.0.0.1:0").await.expect("a port"));
    }
    let address = |l: &TcpListener| l.local_addr().expect("an address");
    let members: BTreeMap<NodeId, String> =
        (1..).map(NodeId).zip(listeners.iter().map(|l| address(l).to_string())).collect();
    let mut servers = Vec::new();
    for (id, listener) in (1..).zip(listeners) {
        let dir = tempfile::tempdir().expect("a directory");
        let settings = Settings {
            id: NodeId(id),
            dir: dir.path().join("meta"),
            members: members.clone(),
            policy: Policy::cluster(),
            heartbeat_ms: 200,
            election_ms: (1000, 2000),
            memory_bytes: 32 << 20,
            pace: Pace::default(),
        };
        let clock = Arc::new(SkippingClock::default());
        let started = Started::start(settings, clock.clone(), Arc::new(SystemRandom)).await.expect("a node");
        let stop = CancellationToken::new();
        let ground = Ground {
            node: started.node.clone(),
            clock: clock.clone(),
            random: Arc::new(SystemRandom),
            node_timeout: Duration::from_secs(1000),
        };
        let ((meta, nodes), jobs) = crate::service::start(ground, stop.clone());
        tokio::spawn(jobs);
        let address = address(&listener);
        let router = Server::builder()
            .add_service(started.node.raft_service().into_server())
            .add_service(meta)
            .add_service(nodes);
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        tokio::spawn(router.serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned()));
        let channel = connect(address).await;
        let (meta, nodes) = (MetaClient::new(channel.clone()), NodesClient::new(channel));
        let id = ClusterId::default();
        servers.push(Cluster { clock, id, meta, nodes, stop, _started: started, _dir: dir });
    }
    servers
}

/// The server that leads and has told its name to all.
async fn leader(servers: &mut [Cluster], not: Option<usize>) -> usize {
    let (leader, id) = eventually("a server leads", async || {
        for (at, server) in servers.iter().enumerate().filter(|(at, _)| Some(*at) != not) {
            let mut request = Request::new(v1::HelloRequest::default());
            handshake::stamp(&mut request, None);
            let hello = server.meta.clone().hello(request).await.ok()?.into_inner();
            let id = ClusterId::from_bytes(&hello.cluster_id)?;
            let mut status = Request::new(v1::StatusRequest {});
            handshake::stamp(&mut status, Some(id));
            if server.meta.clone().status(status).await.is_ok() {
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
    let address = servers[first]._started.node.status().leader.expect("itself").1;
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
