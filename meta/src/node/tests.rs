//! Three servers in one process, on localhost: what a group promises.

mod diverged;
mod joining;
mod leases;
mod levels;
mod members;
mod reads;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cairn_types::{
    Clock, FeatureLevel, FeatureLevels, LogIndex, NodeId, Policy, Random, SessionId, SystemClock,
    SystemRandom,
};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use super::{Consistency, Node, NodeError, Settings, Started};
use crate::namespace::Command;
use crate::raft::machine::Pace;
use crate::store::{Table, WriteBatch};

const LONG: Duration = Duration::from_secs(30);
const DEADLINE: Duration = Duration::from_secs(5);

struct Member {
    started: Started,
    stop: CancellationToken,
    server: JoinHandle<()>,
}

struct Group {
    temp: TempDir,
    addresses: BTreeMap<NodeId, SocketAddr>,
    running: BTreeMap<NodeId, Member>,
    pace: Pace,
    clock: Arc<dyn Clock>,
    /// Servers of a build that applies the first feature level alone.
    old: BTreeSet<NodeId>,
}

fn open_session(client: &str) -> Command {
    Command::OpenSession { client: client.to_owned() }
}

fn settings(dir: &Path, id: NodeId, members: BTreeMap<NodeId, String>, pace: Pace) -> Settings {
    Settings {
        id,
        dir: dir.to_owned(),
        members,
        join: Vec::new(),
        policy: Policy::cluster(),
        heartbeat_ms: 100,
        election_ms: (400, 800),
        memory_bytes: 32 << 20,
        compare_every: Duration::from_millis(100),
        pace,
        levels: FeatureLevels::default(),
    }
}

async fn start(
    settings: Settings,
    listener: TcpListener,
    (clock, random): (Arc<dyn Clock>, Arc<dyn Random>),
) -> Member {
    let started = Started::start(settings, clock, random).await.unwrap();
    let stop = CancellationToken::new();
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let router = Server::builder().add_service(started.node.raft_service().into_server());
    let ended = stop.clone();
    let server = tokio::spawn(async move {
        router.serve_with_incoming_shutdown(incoming, ended.cancelled_owned()).await.unwrap();
    });
    Member { started, stop, server }
}

impl Group {
    async fn new(size: u64, pace: Pace) -> Self {
        let (mut group, listeners) = Self::unstarted(size, pace, Arc::new(SystemClock)).await;
        for (id, listener) in listeners {
            group.start_on(id, listener).await;
        }
        group
    }

    /// A group none of whose servers runs yet, and the sockets that they are to listen on.
    async fn unstarted(
        size: u64,
        pace: Pace,
        clock: Arc<dyn Clock>,
    ) -> (Self, BTreeMap<NodeId, TcpListener>) {
        let temp = tempfile::tempdir().unwrap();
        let mut listeners = BTreeMap::new();
        let mut addresses = BTreeMap::new();
        for id in 1..=size {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            addresses.insert(NodeId(id), listener.local_addr().unwrap());
            listeners.insert(NodeId(id), listener);
        }
        (Self { temp, addresses, running: BTreeMap::new(), pace, clock, old: BTreeSet::new() }, listeners)
    }

    fn dir(&self, id: NodeId) -> PathBuf {
        self.temp.path().join(id.to_string())
    }

    fn settings(&self, id: NodeId) -> Settings {
        let members = self.addresses.iter().map(|(id, a)| (*id, a.to_string())).collect();
        Settings { levels: self.levels(id), ..settings(&self.dir(id), id, members, self.pace.clone()) }
    }

    /// The machine of all servers.
    fn machine(&self) -> (Arc<dyn Clock>, Arc<dyn Random>) {
        (Arc::clone(&self.clock), Arc::new(SystemRandom))
    }

    /// What a server applies.
    fn levels(&self, id: NodeId) -> FeatureLevels {
        let is_old = self.old.contains(&id);
        if is_old { FeatureLevels::up_to(FeatureLevel::FIRST) } else { FeatureLevels::default() }
    }

    async fn start_on(&mut self, id: NodeId, listener: TcpListener) {
        let member = start(self.settings(id), listener, self.machine()).await;
        self.running.insert(id, member);
    }

    async fn restart(&mut self, id: NodeId) {
        let listener = TcpListener::bind(self.addresses[&id]).await.unwrap();
        self.start_on(id, listener).await;
    }

    async fn stop(&mut self, id: NodeId) {
        let member = self.running.remove(&id).unwrap();
        member.stop.cancel();
        member.started.stop().await;
        timeout(LONG, member.server).await.expect("every connection ends with the node").unwrap();
    }

    fn node(&self, id: NodeId) -> Node {
        self.running[&id].started.node.clone()
    }

    /// The server that leads, once one does.
    async fn leader(&self) -> Node {
        let mut watches = Vec::new();
        for id in self.running.keys() {
            let node = self.node(*id);
            watches.push(Box::pin(async move {
                let mut leadership = node.leadership();
                leadership.wait_for(Option::is_some).await.map(drop).unwrap();
                node
            }));
        }
        timeout(LONG, futures::future::select_all(watches)).await.expect("a leader is elected").0
    }

    async fn applied_everywhere(&self, index: LogIndex) {
        for id in self.running.keys() {
            let mut applied = self.node(*id).applied();
            timeout(LONG, applied.wait_for(|a| *a >= index)).await.expect("it is applied in time").unwrap();
        }
    }

    async fn stop_all(&mut self) {
        for id in self.running.keys().copied().collect::<Vec<_>>() {
            self.stop(id).await;
        }
    }
}

impl Node {
    /// Writes what is no record over a row of this server's state, as a bug or a bad disk would.
    pub fn spoil(&self, table: Table, key: Vec<u8>) {
        self.overwrite(table, key, vec![0xff]);
    }

    /// Writes a row of this server's state, past the log.
    pub fn overwrite(&self, table: Table, key: Vec<u8>, value: Vec<u8>) {
        let mut batch = WriteBatch::default();
        batch.put(table, key, value);
        self.shared.view.current.get().unwrap().store().write(batch).unwrap();
    }
}

/// Waits until a server has purged its log up to `index` at least.
async fn purged_to(node: &Node, index: LogIndex) {
    use crate::raft::engine::WatchReceiver;
    let mut metrics = node.shared.raft.metrics();
    let gone = async {
        while metrics.borrow_watched().purged.is_none_or(|id| id.index < index.0) {
            metrics.changed().await.unwrap();
        }
    };
    timeout(LONG, gone).await.expect("the log is purged behind a snapshot");
}

/// Waits until a server has a snapshot that covers more than `index`: Raft tells of one that is
/// installed a moment after it is applied.
async fn snapshot_beyond(node: &Node, index: LogIndex) {
    use crate::raft::engine::WatchReceiver;
    let mut metrics = node.shared.raft.metrics();
    let installed = async {
        while node.status().snapshot <= index {
            metrics.changed().await.unwrap();
        }
    };
    timeout(LONG, installed).await.expect("it came by a snapshot");
}

async fn propose(node: &Node, client: &str) -> (LogIndex, SessionId) {
    let (index, reply) = node.propose(open_session(client), DEADLINE).await.unwrap();
    (index, reply.unwrap().session.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_is_elected_names_the_cluster_and_others_point_to_it() {
    let mut group = Group::new(3, Pace::default()).await;
    let leader = group.leader().await;
    let (index, _) = propose(&leader, "a").await;
    group.applied_everywhere(index).await;
    let mut names = Vec::new();
    for id in group.running.keys() {
        let node = group.node(*id);
        timeout(LONG, node.cluster().wait_for(Option::is_some)).await.unwrap().unwrap();
        names.push(node.cluster_id());
        if node.id() != leader.id() {
            let refused = node.propose(open_session("b"), DEADLINE).await.unwrap_err();
            let address = group.addresses[&leader.id()].to_string();
            assert_eq!(refused, NodeError::NotLeader { leader: Some((leader.id(), address)) });
            assert!(matches!(node.read(Consistency::Linearizable).await, Err(NodeError::NotLeader { .. })));
        }
    }
    assert!(names.iter().all(|n| *n == names[0]), "{names:?}");
    let view = leader.read(Consistency::Linearizable).await.unwrap();
    assert!(view.applied >= index);
    assert!(leader.read(Consistency::Lease).await.unwrap().applied >= index);
    let status = leader.status();
    assert_eq!(status.members.len(), 3);
    assert_eq!(status.leader.unwrap().0, leader.id());
    drop((leader, view));
    group.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_leader_goes_on_and_a_restart_of_all_keeps_everything() {
    let mut group = Group::new(3, Pace::default()).await;
    let leader = group.leader().await;
    let mut sessions = vec![propose(&leader, "before").await.1];
    // The entry that names the cluster may come after the first of ours.
    let cluster = *timeout(LONG, leader.cluster().wait_for(Option::is_some)).await.unwrap().unwrap();
    let first = leader.id();
    drop(leader);
    group.stop(first).await;
    let second = group.leader().await;
    assert_ne!(second.id(), first);
    sessions.push(propose(&second, "after").await.1);
    drop(second);
    group.stop_all().await;
    for id in [1, 2, 3] {
        group.restart(NodeId(id)).await;
    }
    let third = group.leader().await;
    let (index, session) = propose(&third, "again").await;
    sessions.push(session);
    assert!(sessions.windows(2).all(|w| w[0] < w[1]), "nothing was lost or doubled: {sessions:?}");
    assert_eq!(third.cluster_id(), cluster);
    group.applied_everywhere(index).await;
    drop(third);
    group.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_moves_when_asked() {
    let mut group = Group::new(3, Pace::default()).await;
    let leader = group.leader().await;
    let (index, _) = propose(&leader, "a").await;
    group.applied_everywhere(index).await;
    let to = group.addresses.keys().copied().find(|id| *id != leader.id()).unwrap();
    leader.transfer_leader(Some(to), LONG).await.unwrap();
    let next = group.node(to);
    timeout(LONG, next.leadership().wait_for(Option::is_some)).await.unwrap().unwrap();
    propose(&next, "b").await;
    let stranger = next.transfer_leader(Some(NodeId(9)), LONG).await;
    assert_eq!(stranger, Err(NodeError::NotVoter { node: NodeId(9) }));
    drop((leader, next));
    group.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_behind_a_purged_log_comes_back_by_snapshot() {
    let pace = Pace { flush_entries: 50, flush_bytes: 64 << 20, keep_entries: 5 };
    let mut group = Group::new(3, pace).await;
    let leader = group.leader().await;
    propose(&leader, "a").await;
    let away = group.addresses.keys().copied().find(|id| *id != leader.id()).unwrap();
    group.stop(away).await;
    let missed = group.leader().await;
    for n in 0..200 {
        propose(&missed, &n.to_string()).await;
    }
    let mut purged = missed.shared.raft.metrics();
    let gone = async {
        use crate::raft::engine::WatchReceiver;
        while purged.borrow_watched().clone().purged.is_none_or(|id| id.index < 100) {
            purged.changed().await.unwrap();
        }
    };
    timeout(LONG, gone).await.expect("the log is purged behind a snapshot");
    group.restart(away).await;
    let (index, _) = propose(&missed, "last").await;
    group.applied_everywhere(index).await;
    let back = group.node(away);
    snapshot_beyond(&back, LogIndex(100)).await;
    let counted = |node: &Node| {
        let view = node.read_local().unwrap();
        view.store.scan(crate::store::Table::Counters, &crate::store::KeyRange::default(), 100).unwrap()
    };
    assert_eq!(counted(&back), counted(&missed), "both servers hold the same rows");
    drop((leader, missed, back));
    group.stop(away).await;
    group.restart(away).await;
    let leader = group.leader().await;
    let (index, _) = propose(&leader, "once more").await;
    group.applied_everywhere(index).await;
    drop(leader);
    group.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proposals_that_come_together_share_an_fsync() {
    let mut group = Group::new(1, Pace::default()).await;
    let leader = group.leader().await;
    propose(&leader, "warm").await;
    let counts = leader.flushes();
    let before = counts.syncs.load(Ordering::Relaxed);
    let many = (0..500).map(|n| {
        let leader = leader.clone();
        async move { propose(&leader, &n.to_string()).await.1 }
    });
    let mut sessions = timeout(LONG, futures::future::join_all(many)).await.unwrap();
    let syncs = counts.syncs.load(Ordering::Relaxed) - before;
    assert!((1..250).contains(&syncs), "{syncs} fsyncs for 500 proposals");
    sessions.sort_unstable();
    sessions.dedup();
    assert_eq!(sessions.len(), 500, "each is applied once");
    drop(leader);
    group.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_in_use_or_of_another_server_is_refused() {
    let mut group = Group::new(1, Pace::default()).await;
    let leader = group.leader().await;
    propose(&leader, "a").await;
    drop(leader);
    let dir = group.temp.path().join(NodeId(1).to_string());
    let again = |id: u64| {
        let members = BTreeMap::from([(NodeId(id), "127.0.0.1:1".to_owned())]);
        let settings = settings(&dir, NodeId(id), members, Pace::default());
        Started::start(settings, Arc::new(SystemClock), Arc::new(SystemRandom))
    };
    use super::StartError::Identity;
    use crate::identity::IdentityError as E;
    assert!(matches!(again(1).await.err(), Some(Identity(E::InUse { .. }))));
    group.stop_all().await;
    assert!(matches!(again(2).await.err(), Some(Identity(E::OtherNode { .. }))));
    again(1).await.unwrap().stop().await;
}
