//! [`serve`]: one metadata server, from its configuration to its end.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::time::Duration;

use cairn_types::{NodeId, Policy, SystemClock, SystemRandom};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::{Router, TcpIncoming};

use crate::config::{Config, ConfigError};
use crate::http;
use crate::leader::Ground;
use crate::leader::compact::Compacting;
use crate::leader::merge::Merging;
use crate::node::{Node, Settings, StartError, Started};
use crate::raft::machine::Pace;
use crate::service;

/// How long calls under way may take when the server stops.
const DRAIN: Duration = Duration::from_millis(1000);
/// How long handing leadership over may take when the server stops.
const HAND_OVER: Duration = Duration::from_secs(2);
/// How long a watcher may leave its events waiting before its stream is ended.
const WATCHER_PATIENCE: Duration = Duration::from_secs(30);
/// A connection without traffic is probed that often, and given up after as long.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// The pause between two comparisons of the state with the other servers'.
const COMPARE_EVERY: Duration = Duration::from_secs(10);

/// Where a server listens, once it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// gRPC.
    pub listen: SocketAddr,
    /// HTTP, if configured.
    pub http: Option<SocketAddr>,
}

/// Why a server did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address is taken or not this machine's.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The directory, the log or the state cannot be used, or turn out to be the wrong ones.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The gRPC server ended.
    #[error("the gRPC server failed")]
    Transport(#[from] tonic::transport::Error),
    /// The storage failed while running; the log has the reason.
    #[error("the server stopped itself after a failure of its storage")]
    Failed,
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let failed = |source| ServeError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

fn settings(config: &Config, listen: SocketAddr) -> Result<Settings, ConfigError> {
    let id = NodeId(config.id);
    let mut members = config.members()?;
    if members.is_empty() {
        let advertise =
            if config.advertise.is_empty() { listen.to_string() } else { config.advertise.clone() };
        members = BTreeMap::from([(id, advertise)]);
    }
    Ok(Settings {
        id,
        dir: config.dir.clone(),
        members,
        join: config.join.clone(),
        policy: Policy::from(config.policy),
        heartbeat_ms: config.heartbeat_ms,
        election_ms: (config.election_min_ms, config.election_max_ms),
        memory_bytes: config.memory_mib << 20,
        compare_every: COMPARE_EVERY,
        pace: Pace::default(),
        levels: config.levels(),
    })
}

/// Runs one metadata server until `shutdown`, then leaves within 10 s. `ready` is sent once it
/// serves.
///
/// # Errors
/// [`ServeError`]. A directory that is refused is left as it was.
pub async fn serve(
    config: Config,
    shutdown: CancellationToken,
    ready: oneshot::Sender<Ready>,
) -> Result<(), ServeError> {
    config.check()?;
    http::install_metrics();
    let (listener, listen) = bind(config.listen_address()?).await?;
    let web = match config.http_address()? {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
    let started = Started::start(settings(&config, listen)?, clock.clone(), random.clone()).await?;
    let node = started.node.clone();
    // Ends the parts of this server; `shutdown` itself belongs to the caller.
    let stop = CancellationToken::new();
    let bound = Ready { listen, http: web.as_ref().map(|(_, address)| *address) };
    if let Some((listener, _)) = web {
        tokio::spawn(http::serve(listener, node.clone(), stop.clone()));
    }
    let node_timeout = Duration::from_millis(config.node_timeout_ms);
    let session_lease = Duration::from_millis(config.session_lease_ms);
    let tree_purge_per_second = NonZeroU32::new(config.tree_purge_per_second);
    let ground = Ground {
        node: node.clone(),
        clock,
        random,
        node_timeout,
        session_lease,
        watches_max: config.watches_max,
        watcher_patience: WATCHER_PATIENCE,
        tree_purge_per_second,
        repair_bytes_per_second: NonZeroU64::new(config.repair_mib_per_second << 20),
        compacting: Compacting {
            below_percent: config.compact_below_percent,
            bytes_per_second: config.compact_mib_per_second << 20,
        },
        merging: Merging {
            bytes_per_second: config.merge_mib_per_second << 20,
            after: Duration::from_millis(config.merge_after_ms),
        },
        mount_objects_per_second: NonZeroU32::new(config.mount_objects_per_second),
        pack_delay: Duration::from_millis(config.pack_delay_ms),
        slow_operation: (config.slow_operation_ms > 0)
            .then(|| Duration::from_millis(config.slow_operation_ms)),
    };
    let (services, jobs) = service::start(ground, stop.clone());
    let parts = Parts {
        jobs: tokio::spawn(jobs),
        server: {
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            let ended = stop.clone().cancelled_owned();
            tokio::spawn(router(&node, services).serve_with_incoming_shutdown(incoming, ended))
        },
        started,
        stop,
    };
    tracing::info!(id = config.id, %listen, dir = %config.dir.display(), "metadata server started");
    // Nobody may be waiting for it.
    let _ = ready.send(bound);
    let outcome = parts.run(node, shutdown).await;
    tracing::info!(id = config.id, "metadata server ended");
    outcome
}

type Serving = JoinHandle<Result<(), tonic::transport::Error>>;

/// What runs, and is ended in this order: calls, the node, connections, jobs.
struct Parts {
    server: Serving,
    started: Started,
    jobs: JoinHandle<()>,
    stop: CancellationToken,
}

impl Parts {
    async fn run(mut self, node: Node, shutdown: CancellationToken) -> Result<(), ServeError> {
        let outcome = tokio::select! {
            // A fault is told before Raft stops for it, and says more.
            biased;
            () = shutdown.cancelled() => Ok(()),
            fault = self.started.fault() => Err(ServeError::Start(fault)),
            () = node.failed() => Err(ServeError::Failed),
            ended = &mut self.server => return Err(self.broke(ended).await),
        };
        if outcome.is_ok() && node.is_leader() && node.transfer_leader(None, HAND_OVER).await.is_ok() {
            tracing::info!("leadership handed over");
        }
        self.stop.cancel();
        // Clients' calls end by themselves; the streams of the other servers end with the node.
        let drained = tokio::time::timeout(DRAIN, &mut self.server).await.is_ok();
        drop(node);
        end(self.jobs).await;
        self.started.stop().await;
        if !drained {
            end(self.server).await;
        }
        outcome
    }

    async fn broke(
        self,
        ended: Result<Result<(), tonic::transport::Error>, tokio::task::JoinError>,
    ) -> ServeError {
        self.stop.cancel();
        end(self.jobs).await;
        self.started.stop().await;
        match ended {
            Ok(Err(error)) => ServeError::Transport(error),
            Ok(Ok(())) | Err(_) => ServeError::Failed,
        }
    }
}

/// Waits a little for a part to end, then ends it.
async fn end<T>(part: JoinHandle<T>) {
    let abort = part.abort_handle();
    if tokio::time::timeout(DRAIN, part).await.is_err() {
        tracing::warn!("a part of the server did not end in time");
        abort.abort();
    }
}

/// All gRPC services on one port.
fn router(node: &Node, (meta, nodes, members): service::Servers) -> Router {
    Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
        .add_service(node.raft_service().into_server())
        .add_service(meta)
        .add_service(nodes)
        .add_service(members)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_proto::v1::HelloRequest;
    use cairn_proto::v1::meta_client::MetaClient;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    fn config(dir: &std::path::Path) -> Config {
        Config {
            dir: dir.to_owned(),
            listen: "127.0.0.1:0".to_owned(),
            http: "127.0.0.1:0".to_owned(),
            memory_mib: 32,
            ..Config::default()
        }
    }

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn one_server_forms_a_cluster_serves_and_leaves_in_order() {
        let temp = tempfile::tempdir().unwrap();
        for start in 0..2 {
            let (ready, bound) = oneshot::channel();
            let shutdown = CancellationToken::new();
            let running = tokio::spawn(serve(config(temp.path()), shutdown.clone(), ready));
            let Ok(bound) = bound.await else { panic!("it did not start: {:?}", running.await) };
            let mut client = MetaClient::connect(format!("http://{}", bound.listen)).await.unwrap();
            let named = async {
                loop {
                    let mut hello = tonic::Request::new(HelloRequest::default());
                    cairn_proto::handshake::stamp(&mut hello, None);
                    let hello = client.hello(hello).await.unwrap().into_inner();
                    if hello.leader == 1 && !hello.cluster_id.is_empty() {
                        return hello;
                    }
                    tokio::task::yield_now().await;
                }
            };
            let hello = tokio::time::timeout(Duration::from_secs(20), named).await.unwrap();
            assert_eq!(hello.node, 1);
            let web = bound.http.unwrap();
            assert!(get(web, "/healthz").await.ends_with("ok\n"));
            assert!(get(web, "/readyz").await.starts_with("HTTP/1.1 200"), "start {start}");
            assert!(get(web, "/metrics").await.contains("cairn_meta_raft_fsync_seconds"));
            let taken = Config { listen: bound.listen.to_string(), ..config(temp.path()) };
            let refused = serve(taken, CancellationToken::new(), oneshot::channel().0).await;
            assert!(matches!(refused, Err(ServeError::Listen { address, .. }) if address == bound.listen));
            shutdown.cancel();
            let ended = tokio::time::timeout(Duration::from_secs(10), running).await;
            ended.expect("it leaves within 10 s").unwrap().unwrap();
        }
    }

    /// What an operator needs to see, whatever else there is.
    const WANTED: [&str; 22] = [
        "cairn_meta_proposals_total",
        "cairn_meta_propose_batch_entries",
        "cairn_meta_proposals_slots_used_ratio",
        "cairn_meta_raft_append_entries",
        "cairn_meta_raft_fsync_seconds",
        "cairn_meta_raft_fsync_waiting_count",
        "cairn_meta_apply_seconds",
        "cairn_meta_apply_batch_entries",
        "cairn_meta_leader_changes_total",
        "cairn_meta_reads_total",
        "cairn_meta_reads_waiting_count",
        "cairn_meta_listings_total",
        "cairn_meta_listed_entries_total",
        "cairn_meta_sessions_count",
        "cairn_meta_feature_level",
        "cairn_meta_raft_applied_index",
        "cairn_meta_rocksdb_memtable_bytes",
        "cairn_meta_rocksdb_block_cache_bytes",
        "cairn_meta_rocksdb_table_bytes",
        "cairn_meta_rocksdb_compaction_pending_bytes",
        "cairn_meta_rocksdb_level_zero_files_count",
        "cairn_meta_rocksdb_write_stopped",
    ];

    /// Makes a session, a directory and a listing, so that there is something to measure.
    async fn work(mut client: MetaClient<tonic::transport::Channel>, cluster: cairn_types::ClusterId) {
        use cairn_proto::v1;
        fn stamped<T>(message: T, cluster: cairn_types::ClusterId) -> tonic::Request<T> {
            let mut request = tonic::Request::new(message);
            cairn_proto::handshake::stamp(&mut request, Some(cluster));
            request
        }
        let open = v1::OpenSessionRequest { client: "test".into(), ..Default::default() };
        let session = client.open_session(stamped(open, cluster)).await.unwrap().into_inner().session;
        let target = |path: &str| Some(v1::Target { path: path.to_owned().into(), ..Default::default() });
        let mkdir = v1::Mkdir { target: target("/d"), mode: 0o755, ..Default::default() };
        let operation = Some(v1::mutate_request::Operation::Mkdir(mkdir));
        let make = v1::MutateRequest { session, sequence: 1, operation, ..Default::default() };
        client.mutate(stamped(make, cluster)).await.unwrap();
        let list = v1::ListRequest { target: target("/"), ..Default::default() };
        let mut batches = client.list(stamped(list, cluster)).await.unwrap().into_inner();
        while batches.message().await.unwrap().is_some() {}
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_scraped_is_what_operators_are_told_of() {
        let temp = tempfile::tempdir().unwrap();
        let (ready, bound) = oneshot::channel();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(serve(config(temp.path()), shutdown.clone(), ready));
        let bound = bound.await.unwrap();
        let client = MetaClient::connect(format!("http://{}", bound.listen)).await.unwrap();
        let web = bound.http.unwrap();
        let scrape = async || {
            let text = get(web, "/metrics").await;
            let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
            names
                .filter(|name| name.starts_with(concat!("cairn", "_meta_")))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let all = async {
            while !get(web, "/readyz").await.starts_with("HTTP/1.1 200") {
                tokio::task::yield_now().await;
            }
            let mut hello = tonic::Request::new(HelloRequest::default());
            cairn_proto::handshake::stamp(&mut hello, None);
            let hello = client.clone().hello(hello).await.unwrap().into_inner();
            let cluster = cairn_types::ClusterId::from_bytes(&hello.cluster_id).unwrap();
            work(client.clone(), cluster).await;
            loop {
                let names = scrape().await;
                let missing = WANTED.iter().filter(|wanted| !names.iter().any(|n| n == *wanted));
                if missing.count() == 0 {
                    return names;
                }
            }
        };
        let names = tokio::time::timeout(Duration::from_secs(20), all).await.expect("all are there");
        let told = std::fs::read_to_string("../docs/OPERATIONS.md").unwrap();
        let untold: Vec<_> = names.iter().filter(|name| !told.contains(&format!("`{name}`"))).collect();
        assert!(untold.is_empty(), "not in docs/OPERATIONS.md: {untold:?}");
        shutdown.cancel();
        running.await.unwrap().unwrap();
    }
}
