//! One server in this process, asked over gRPC as clients and data nodes ask it.

mod cut;
mod data_node;
mod drain;
mod dump;
mod explain;
mod faults;
mod fsck;
mod gc;
mod group;
mod holds;
mod import;
mod lag;
mod locks;
mod loss;
mod members;
mod merges;
mod mounting;
mod names;
mod persist;
mod policy;
mod posix;
mod removal;
mod seal;
mod sessions;
mod slow;
mod strangers;
mod together;
mod transact;
mod trees;
mod wait_file;
mod watch;
mod watch_sight;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cairn_proto::v1::members_client::MembersClient;
use cairn_proto::v1::meta_client::MetaClient;
use cairn_proto::v1::mutate_request::Operation;
use cairn_proto::v1::nodes_client::NodesClient;
use cairn_proto::{WireError, handshake, v1};
use cairn_types::limits::SESSION_LEASE_MS;
use cairn_types::{Clock, ClusterId, FeatureLevels, NodeId, Policy, SystemClock, SystemRandom, Timestamp};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::Request;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};

use crate::leader::Ground;
use crate::node::{Node, Settings, Started};
use crate::raft::machine::Pace;

/// Longer than anything here should take.
const LONG: Duration = Duration::from_secs(20);

/// The machine's clocks, moved on by hand.
#[derive(Debug, Default)]
struct SkippingClock {
    ahead_ms: AtomicU64,
}

impl SkippingClock {
    fn skip(&self, by: Duration) {
        self.ahead_ms.fetch_add(by.as_millis() as u64, Ordering::Relaxed);
    }

    fn ahead(&self) -> Duration {
        Duration::from_millis(self.ahead_ms.load(Ordering::Relaxed))
    }
}

impl Clock for SkippingClock {
    fn wall(&self) -> Timestamp {
        Timestamp(SystemClock.wall().0 + self.ahead().as_nanos() as i64)
    }

    fn boottime(&self) -> Duration {
        SystemClock.boottime() + self.ahead()
    }
}

/// How the metadata servers of a test run.
struct Manner {
    policy: Policy,
    heartbeat_ms: u64,
    election_ms: (u64, u64),
    node_timeout: Duration,
    slow_operation: Option<Duration>,
    repair_bytes_per_second: Option<NonZeroU64>,
}

/// A cluster, seen through one of its metadata servers: the only one, unless a test makes several.
struct Cluster {
    clock: Arc<SkippingClock>,
    id: ClusterId,
    meta: MetaClient<Channel>,
    nodes: NodesClient<Channel>,
    members: MembersClient<Channel>,
    node: Node,
    stop: CancellationToken,
    /// What runs below the services; a test may take and stop it.
    started: Option<Started>,
    _dir: TempDir,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Cluster {
    async fn start() -> Self {
        Self::with(Policy::cluster(), Duration::from_secs(3)).await
    }

    async fn with(policy: Policy, node_timeout: Duration) -> Self {
        Self::repairing_at(None, policy, node_timeout).await
    }

    /// As [`Cluster::with`], where so many bytes of copies are made in a second.
    async fn repairing_at(
        repair_bytes_per_second: Option<NonZeroU64>,
        policy: Policy,
        node_timeout: Duration,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let members = BTreeMap::from([(NodeId(1), address.to_string())]);
        let manner = Manner {
            policy,
            heartbeat_ms: 100,
            election_ms: (300, 600),
            node_timeout,
            slow_operation: None,
            repair_bytes_per_second,
        };
        let mut cluster = Self::serve(NodeId(1), members, listener, manner).await;
        let id = eventually("the server leads", async || cluster.led().await).await;
        cluster.id = id;
        cluster
    }

    /// Starts the server `id` of `members`, which answers on `listener`. Whether it leads, and in
    /// which cluster, is not known yet.
    async fn serve(
        id: NodeId,
        members: BTreeMap<NodeId, String>,
        listener: TcpListener,
        manner: Manner,
    ) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let settings = Settings {
            id,
            dir: dir.path().join("meta"),
            members,
            join: Vec::new(),
            policy: manner.policy,
            heartbeat_ms: manner.heartbeat_ms,
            election_ms: manner.election_ms,
            memory_bytes: 32 << 20,
            compare_every: LONG,
            pace: Pace::default(),
            levels: FeatureLevels::default(),
        };
        let clock = Arc::new(SkippingClock::default());
        let started = Started::start(settings, clock.clone(), Arc::new(SystemRandom)).await.expect("a node");
        let stop = CancellationToken::new();
        let node = started.node.clone();
        let ground = Ground {
            node: node.clone(),
            clock: clock.clone(),
            random: Arc::new(SystemRandom),
            node_timeout: manner.node_timeout,
            session_lease: Duration::from_millis(SESSION_LEASE_MS),
            watches_max: 2,
            watcher_patience: Duration::from_secs(3),
            tree_purge_per_second: None,
            repair_bytes_per_second: manner.repair_bytes_per_second,
            compacting: crate::leader::compact::Compacting::default(),
            merging: crate::leader::merge::Merging { after: Duration::ZERO, ..Default::default() },
            mount_objects_per_second: None,
            pack_delay: Duration::from_secs(60),
            slow_operation: manner.slow_operation,
        };
        let ((meta, nodes, members), jobs) = super::start(ground, stop.clone());
        tokio::spawn(jobs);
        let router = Server::builder()
            .add_service(node.raft_service().into_server())
            .add_service(meta)
            .add_service(nodes)
            .add_service(members);
        let address = listener.local_addr().expect("an address");
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        tokio::spawn(router.serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned()));
        let channel = connect(address).await;
        let (meta, nodes) = (MetaClient::new(channel.clone()), NodesClient::new(channel.clone()));
        let members = MembersClient::new(channel);
        let started = Some(started);
        Self { clock, id: ClusterId::default(), meta, nodes, members, node, stop, started, _dir: dir }
    }

    /// The cluster's id, while this server leads it.
    async fn led(&self) -> Option<ClusterId> {
        let mut request = Request::new(v1::HelloRequest::default());
        handshake::stamp(&mut request, None);
        let hello = self.meta.clone().hello(request).await.ok()?.into_inner();
        let id = ClusterId::from_bytes(&hello.cluster_id)?;
        let mut status = Request::new(v1::StatusRequest {});
        handshake::stamp(&mut status, Some(id));
        self.meta.clone().status(status).await.ok().map(|_| id)
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        handshake::stamp(&mut request, Some(self.id));
        request.set_timeout(LONG);
        request
    }

    async fn session(&self) -> Session<'_> {
        self.session_as(None).await
    }

    async fn session_as(&self, credentials: Option<v1::Credentials>) -> Session<'_> {
        let open =
            self.request(v1::OpenSessionRequest { client: "test".into(), credentials, holds_files: false });
        let id = self.meta.clone().open_session(open).await.expect("a session").into_inner().session;
        Session { cluster: self, id, sequence: AtomicU64::new(1) }
    }

    async fn status(&self) -> v1::StatusReply {
        let request = self.request(v1::StatusRequest {});
        self.meta.clone().status(request).await.expect("a status").into_inner()
    }

    async fn stat(&self, path: &str) -> Result<v1::StatReply, WireError> {
        let request = self.request(v1::StatRequest { target: at(path), ..Default::default() });
        Ok(self.meta.clone().stat(request).await?.into_inner())
    }

    async fn inode(&self, path: &str) -> v1::Inode {
        self.stat(path).await.expect("it is there").inode.expect("an inode")
    }

    async fn chunk(&self, chunk: u64) -> Result<v1::Chunk, WireError> {
        let request = self.request(v1::GetChunkRequest { chunk });
        Ok(self.meta.clone().get_chunk(request).await?.into_inner())
    }

    async fn seal(&self, chunk: u64, within: Duration) -> Result<v1::Chunk, WireError> {
        let message = v1::SealChunkRequest { chunk, epoch: 1, reason: "test".into(), blame_node: 0 };
        let mut request = self.request(message);
        request.set_timeout(within);
        Ok(self.meta.clone().seal_chunk(request).await?.into_inner())
    }

    /// The names of a directory, as the stream brings them, from after `start_after`.
    async fn list(&self, path: &str, start_after: &str, limit: u64) -> Result<Vec<v1::ListBatch>, WireError> {
        let message = v1::ListRequest {
            target: at(path),
            start_after: start_after.to_owned().into(),
            limit,
            ..Default::default()
        };
        let mut stream = self.meta.clone().list(self.request(message)).await?.into_inner();
        let mut batches = Vec::new();
        while let Some(batch) = stream.message().await? {
            batches.push(batch);
        }
        Ok(batches)
    }

    async fn names(&self, path: &str) -> Vec<String> {
        let batches = self.list(path, "", 0).await.expect("a listing");
        let entries = batches.into_iter().flat_map(|b| b.entries);
        entries.map(|e| String::from_utf8_lossy(&e.name).into_owned()).collect()
    }
}

/// A client's session.
struct Session<'c> {
    cluster: &'c Cluster,
    id: u64,
    sequence: AtomicU64,
}

impl Session<'_> {
    async fn mutate(&self, operation: Operation) -> Result<v1::MutateReply, WireError> {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        self.mutate_as(sequence, operation).await
    }

    async fn mutate_as(&self, sequence: u64, operation: Operation) -> Result<v1::MutateReply, WireError> {
        let request = self.request(sequence, operation);
        Ok(self.cluster.meta.clone().mutate(self.cluster.request(request)).await?.into_inner())
    }

    fn request(&self, sequence: u64, operation: Operation) -> v1::MutateRequest {
        v1::MutateRequest {
            group: 0,
            session: self.id,
            sequence,
            acknowledged_below: 1,
            operation: Some(operation),
            holding: None,
        }
    }

    async fn create(&self, path: &str) -> v1::Inode {
        let made = self.mutate(create(path)).await.expect("created");
        made.inode.expect("an inode")
    }

    /// Opens the tail of a file for this session's `n`-th writer.
    async fn open_tail(&self, ino: u64, n: u64) -> Result<v1::Chunk, WireError> {
        self.open_tail_avoiding(ino, n, &[]).await
    }

    async fn open_tail_avoiding(&self, ino: u64, n: u64, avoid: &[u64]) -> Result<v1::Chunk, WireError> {
        let writer = self.id * (1 << 20) + n;
        let open = v1::OpenTail { ino, generation: 0, writer, avoid: avoid.to_vec() };
        Ok(self.mutate(Operation::OpenTail(open)).await?.chunk.expect("a chunk"))
    }
}

fn at(path: &str) -> Option<v1::Target> {
    Some(v1::Target { ino: 0, path: path.to_owned().into(), no_follow: false })
}

fn mkdir(path: &str) -> Operation {
    Operation::Mkdir(v1::Mkdir { target: at(path), mode: 0o755, ..Default::default() })
}

fn create(path: &str) -> Operation {
    Operation::Create(v1::Create { target: at(path), mode: 0o644, exclusive: true, ..Default::default() })
}

async fn connect(address: SocketAddr) -> Channel {
    let endpoint = Channel::from_shared(format!("http://{address}")).expect("an address");
    endpoint.connect().await.expect("a connection")
}

/// Asks until there is an answer.
async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    match tokio::time::timeout(LONG, asking).await {
        Ok(answer) => answer,
        Err(_) => panic!("not within {LONG:?}: {what}"),
    }
}
