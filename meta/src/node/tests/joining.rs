//! Who may take part with an empty directory: a member that starts for the first time, however
//! late; not one that was a member before.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use cairn_proto::v1::RaftMessage;
use cairn_proto::v1::raft_client::RaftClient;
use cairn_types::{Clock, ClusterId, NodeId, Random, SystemClock, SystemRandom, Timestamp};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::{Group, LONG, propose, settings, start};
use crate::identity::{Identity, IdentityError};
use crate::node::{StartError, Started};
use crate::raft::machine::Pace;
use crate::raft::record::{self, LogIdRecord, VoteRecord};

/// Runs fifty times too fast, so that those who are silent have soon had their time.
struct FastClock;

impl Clock for FastClock {
    fn wall(&self) -> Timestamp {
        SystemClock.wall()
    }

    fn boottime(&self) -> Duration {
        SystemClock.boottime() * 50
    }
}

/// A server of `group` started without being served to the others.
async fn alone(group: &Group, id: NodeId) -> Result<Started, StartError> {
    Started::start(group.settings(id), Arc::clone(&group.clock), Arc::new(SystemRandom)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_lost_its_directory_is_refused_under_its_old_id() {
    let mut group = Group::new(3, Pace::default()).await;
    let leader = group.leader().await;
    let (index, _) = propose(&leader, "a").await;
    group.applied_everywhere(index).await;
    let lost = group.addresses.keys().copied().find(|id| *id != leader.id()).unwrap();
    group.stop(lost).await;
    let dir = group.dir(lost);
    fs::remove_dir_all(&dir).unwrap();
    for start in 0..2 {
        let error = alone(&group, lost).await.err().expect("it is refused");
        assert!(matches!(&error, StartError::Lost { node, .. } if *node == lost), "start {start}: {error:?}");
        assert!(error.to_string().contains("restore the directory"), "{error}");
        assert!(!dir.exists(), "nothing was written");
    }
    // The two that are left go on.
    propose(&leader, "b").await;
    drop(leader);
    group.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_refused_also_when_the_others_come_later() {
    let mut group = Group::new(3, Pace::default()).await;
    let leader = group.leader().await;
    let (index, _) = propose(&leader, "a").await;
    group.applied_everywhere(index).await;
    let (knows, lost) = (leader.id(), group.addresses.keys().copied().find(|id| *id != leader.id()).unwrap());
    drop(leader);
    group.stop_all().await;
    fs::remove_dir_all(group.dir(lost)).unwrap();
    // Nobody answers its first question, so that it starts; it must not take part.
    let mut started = alone(&group, lost).await.unwrap();
    group.restart(knows).await;
    let fault = timeout(LONG, started.fault()).await.expect("it finds out");
    assert!(matches!(fault, StartError::Lost { peer, .. } if peer == knows), "{fault:?}");
    assert_eq!(started.node.cluster_id(), None);
    started.stop().await;
    group.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_third_member_may_start_for_the_first_time_when_the_others_have_a_cluster() {
    let (mut group, listeners) = Group::unstarted(3, Pace::default(), Arc::new(FastClock)).await;
    let mut late = None;
    for (id, listener) in listeners {
        if id == NodeId(3) {
            late = Some(listener);
        } else {
            group.start_on(id, listener).await;
        }
    }
    let leader = group.leader().await;
    propose(&leader, "a").await;
    group.start_on(NodeId(3), late.unwrap()).await;
    let (index, _) = propose(&leader, "b").await;
    group.applied_everywhere(index).await;
    let mut cluster = group.node(NodeId(3)).cluster();
    timeout(LONG, cluster.wait_for(Option::is_some)).await.unwrap().unwrap();
    // It counts: without one of the first two there is a majority.
    let gone = leader.id();
    drop((leader, cluster));
    group.stop(gone).await;
    let next = group.leader().await;
    propose(&next, "c").await;
    drop(next);
    group.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_waits_for_the_others_ends_in_order() {
    let (group, listeners) = Group::unstarted(3, Pace::default(), Arc::new(SystemClock)).await;
    let started = alone(&group, NodeId(1)).await.unwrap();
    assert!(!started.node.is_leader());
    timeout(LONG, started.stop()).await.expect("it ends while it waits");
    // It was never in a cluster: it may wait again.
    alone(&group, NodeId(1)).await.unwrap().stop().await;
    drop(listeners);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_log_is_not_begun_anew() {
    let mut group = Group::new(1, Pace::default()).await;
    let leader = group.leader().await;
    propose(&leader, "a").await;
    drop(leader);
    let file = group.dir(NodeId(1)).join("identity");
    let named = async {
        while fs::read(&file).unwrap()[2..18] == [0; 16] {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LONG, named).await.expect("the cluster's id is written down");
    group.stop_all().await;
    fs::remove_dir_all(group.dir(NodeId(1)).join("raft")).unwrap();
    let refused = alone(&group, NodeId(1)).await.err();
    assert!(matches!(refused, Some(StartError::LogLost { .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_cluster_that_is_learned_while_running_is_a_fault() {
    let (mut group, listeners) = Group::unstarted(1, Pace::default(), Arc::new(SystemClock)).await;
    // The directory of another cluster, with a log that is not empty and a state that names none.
    let id = NodeId(1);
    let mut identity = Identity::claim(&group.dir(id), id).unwrap();
    identity.learn(ClusterId([9; 16])).unwrap();
    drop(identity);
    let log = group.dir(id).join("raft");
    {
        use crate::raft::log_disk::{LogDisk, RocksLog};
        use crate::raft::record::VoteRecord;
        let disk = RocksLog::open(&log).unwrap();
        disk.save_vote(&VoteRecord { term: 0, node: 1, committed: false }).unwrap();
        disk.sync().unwrap();
    }
    for (id, listener) in listeners {
        group.start_on(id, listener).await;
    }
    let member = group.running.get_mut(&id).unwrap();
    let fault = timeout(LONG, member.started.fault()).await.expect("it finds out");
    assert!(matches!(fault, StartError::Identity(IdentityError::OtherCluster { .. })), "{fault:?}");
    group.stop_all().await;
}

/// As a candidate asks for a vote.
#[derive(bincode::Encode)]
struct AskVote {
    vote: VoteRecord,
    last: Option<LogIdRecord>,
    transfer: bool,
}

/// Gives no number before it is told to: so long a cluster has no name.
struct HeldRandom(Mutex<mpsc::Receiver<()>>);

impl Random for HeldRandom {
    fn fill(&self, bytes: &mut [u8]) {
        // Told, or the test is over.
        let _ = self.0.lock().unwrap().recv();
        SystemRandom.fill(bytes);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_that_grew_and_lost_its_directory_promises_its_old_cluster_nothing() {
    let mut group = Group::new(1, Pace::default()).await;
    group.grow(2).await;
    group.grow(3).await;
    let (index, _) = propose(&group.leader().await, "a").await;
    group.applied_everywhere(index).await;
    let cluster = group.node(NodeId(2)).cluster_id();
    group.stop(NodeId(1)).await;
    fs::remove_dir_all(group.dir(NodeId(1))).unwrap();
    let address = group.addresses[&NodeId(1)];
    // Its configuration is as it was: it names nobody.
    let alone = BTreeMap::from([(NodeId(1), address.to_string())]);
    let settings = settings(&group.dir(NodeId(1)), NodeId(1), alone, Pace::default());
    let (release, held) = mpsc::channel();
    let random = Arc::new(HeldRandom(Mutex::new(held)));
    let listener = TcpListener::bind(address).await.unwrap();
    let lost = start(settings, listener, (Arc::new(SystemClock), random)).await;
    let node = lost.started.node.clone();
    timeout(LONG, node.leadership().wait_for(Option::is_some)).await.unwrap().unwrap();
    // A server of the old cluster asks for its vote, before its own cluster has a name, and after.
    let ask = || async {
        let vote = VoteRecord { term: 1000, node: 2, committed: false };
        let payload = record::encode(&AskVote { vote, last: None, transfer: false });
        let mut request = tonic::Request::new(RaftMessage { group: 0, from: 2, to: 1, payload });
        cairn_proto::handshake::stamp(&mut request, cluster);
        let mut client = RaftClient::connect(format!("http://{address}")).await.unwrap();
        client.vote(request).await.map(|_| ()).map_err(|status| status.code())
    };
    assert_eq!(node.cluster_id(), None);
    assert_eq!(ask().await, Err(tonic::Code::Unavailable));
    assert_eq!(node.status().term.0, 1, "it has not heard of that term");
    release.send(()).unwrap();
    let named = *timeout(LONG, node.cluster().wait_for(Option::is_some)).await.unwrap().unwrap();
    assert_ne!(named, cluster);
    timeout(LONG, async {
        while ask().await != Err(tonic::Code::FailedPrecondition) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it belongs to another cluster");
    // The two that are left go on.
    propose(&group.leader().await, "b").await;
    drop(node);
    group.running.insert(NodeId(1), lost);
    group.stop_all().await;
}
