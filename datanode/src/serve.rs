//! [`serve`]: a data node from its start to its end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cairn_proto::WireError;
use cairn_proto::frames::Transport;
use cairn_proto::v1::data_server::DataServer;
use cairn_types::limits::MESSAGE_BYTES_MAX;
use cairn_types::{Clock, ClusterId, DiskId, NodeId, SystemClock, SystemRandom};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Server;

use crate::budget::Budget;
use crate::chunk::{ChunkStore, Fill, StoreOptions};
use crate::config::{Checked, Config, ConfigError};
use crate::connection::{CONNECTION_WINDOW_BYTES, Connections, KEEPALIVE, Peers, STREAM_WINDOW_BYTES};
use crate::disk::{Disk, Identity, RealDisk};
use crate::format::{self, FormatError};
use crate::frames::{self, Frames};
use crate::http;
use crate::membership::{self, Member};
use crate::metadata::Metadata;
use crate::node::Node;
use crate::replicate::grant::Grants;
use crate::replicate::healthy::Healthy;
use crate::replicate::seal::Seals;
use crate::replicate::spare::Spares;
use crate::replicate::{Context, Primaries};
use crate::scrub::{self, Pace};
use crate::service::DataService;
use crate::silent::SilentPeers;
use crate::work::{Worker, sealed};
use crate::write_through::{self, WriteThrough};

/// How long primaries may take to close their chunks when the node stops.
const CLOSE: Duration = Duration::from_millis(4_000);
/// How long open calls may take to end after that.
const DRAIN: Duration = Duration::from_millis(2_000);
/// Calls on one connection: a peer has one for each chunk it replicates here.
const STREAMS_MAX: u32 = 1 << 15;

/// A node that serves.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// Where gRPC listens.
    pub listen: SocketAddr,
    /// Where HTTP listens.
    pub http: Option<SocketAddr>,
    /// The node's id in its cluster.
    pub node: NodeId,
}

/// Why a node does not serve, or served no more.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The directory cannot be used.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// An address cannot be listened on.
    #[error("listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The metadata servers belong to another cluster than the one configured.
    #[error("the metadata servers belong to cluster {theirs}, this node to {ours}")]
    ForeignCluster {
        /// Theirs.
        theirs: ClusterId,
        /// The one configured.
        ours: ClusterId,
    },
    /// The segments cannot be used.
    #[error("open the segments: {0}")]
    Store(#[from] crate::segments::LogError),
    /// The under-store cannot be used.
    #[error("open the under-store: {0}")]
    UnderStore(#[from] crate::understore::LocationError),
    /// The leader does not take this node.
    #[error("register: {0}")]
    Register(WireError),
    /// The server failed.
    #[error("serve: {0}")]
    Server(#[from] tonic::transport::Error),
    /// A task of the node's own panicked.
    #[error("a task of the node panicked")]
    Panicked(#[from] tokio::task::JoinError),
}

/// Runs a data node until `shutdown`, then leaves within 10 s: its primaries close their chunks, its
/// calls end, its store is flushed. `ready` is told once the node is registered and serves.
///
/// # Errors
/// [`ServeError`]. Nothing acknowledged is lost, whatever the error.
pub async fn serve(
    config: Config,
    shutdown: CancellationToken,
    ready: oneshot::Sender<Ready>,
) -> Result<(), ServeError> {
    let checked = config.check()?;
    let disk = open_disk(config.dir.clone()).await?;
    let listener = listen(checked.listen).await?;
    let address = local(&listener, checked.listen)?;
    let stop = CancellationToken::new();
    let _stopped_at_the_end = stop.clone().drop_guard();
    let (known, registered) = watch::channel(false);
    let http = serve_http(&checked, registered, stop.clone()).await?;
    let metadata = Metadata::new(config.meta.clone(), Connections::default());
    let Some(cluster) = membership::cluster(&metadata, &shutdown).await else { return Ok(()) };
    if let Some(ours) = checked.cluster.filter(|ours| *ours != cluster) {
        return Err(ServeError::ForeignCluster { theirs: cluster, ours });
    }
    metadata.join(cluster);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let boot_id = boot_id();
    let Opened { id, capacity_bytes, store } =
        open_store(disk, &config, cluster, boot_id, Arc::clone(&clock)).await?;
    let through = write_through::open(&config, cluster, id, &store, Arc::clone(&clock)).await?;
    let member = Member {
        metadata: metadata.clone(),
        store: store.clone(),
        disk: id,
        address: if config.advertise.is_empty() { address.to_string() } else { config.advertise.clone() },
        boot_id,
        zone: config.zone.clone(),
        host: config.host.clone(),
        capacity_bytes,
        health: through.health.clone(),
        healthy: Healthy::default(),
        scrub: Arc::default(),
    };
    let Some(node) = member.register(&shutdown).await else { return Ok(()) };
    let node = node.map_err(ServeError::Register)?;
    known.send_replace(true);
    let transport = checked.transport;
    let parts = Parts { config, cluster, node, boot_id, store, metadata, clock, stop, listener, transport };
    let running = parts.start(member, through, known);
    // Nobody needs to be waiting for it.
    let _ = ready.send(Ready { listen: address, http, node });
    running.until(shutdown).await
}

async fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })
}

fn local(listener: &TcpListener, address: SocketAddr) -> Result<SocketAddr, ServeError> {
    listener.local_addr().map_err(|source| ServeError::Listen { address, source })
}

async fn serve_http(
    checked: &Checked,
    registered: watch::Receiver<bool>,
    stop: CancellationToken,
) -> Result<Option<SocketAddr>, ServeError> {
    let Some(address) = checked.http else { return Ok(None) };
    let listener = listen(address).await?;
    let bound = local(&listener, address)?;
    http::recorder();
    tokio::spawn(async move {
        if let Err(error) = http::serve(listener, registered, stop).await {
            tracing::error!(%error, "serve HTTP");
        }
    });
    Ok(Some(bound))
}

/// Locks the directory; an identity that does not read is refused before anything else happens.
async fn open_disk(dir: PathBuf) -> Result<Arc<dyn Disk>, ServeError> {
    let opened = tokio::task::spawn_blocking(move || {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(dir)?);
        Identity::read(disk.as_ref(), None)?;
        Ok(disk)
    });
    opened.await?.map_err(|error: FormatError| ServeError::Format(error))
}

/// Takes the disk for the cluster and recovers the store; on a thread of its own, since it reads
/// the disk.
async fn open_store(
    disk: Arc<dyn Disk>,
    config: &Config,
    cluster: ClusterId,
    boot_id: [u8; 16],
    clock: Arc<dyn Clock>,
) -> Result<Opened, ServeError> {
    let segment_bytes = config.segment_mib << 20;
    let wanted = config.capacity_mib << 20;
    let queue_bytes = Budget::of(config.memory_mib).queue_bytes;
    let fill = Fill { high_percent: config.space_high_percent, low_percent: config.space_low_percent };
    let opened = tokio::task::spawn_blocking(move || {
        let id = format::claim(&disk, cluster, clock.as_ref(), &SystemRandom)?;
        let capacity_bytes = format::capacity(&disk, segment_bytes, wanted)?;
        let options = StoreOptions {
            disk: id,
            segment_bytes,
            capacity_bytes,
            boot_id,
            threads: true,
            queue_bytes,
            fill,
        };
        let (store, report) = ChunkStore::open(disk, clock, options)?;
        let (unsealed, damaged) = (report.unsealed.len(), report.damaged.len());
        tracing::info!(incarnation = report.incarnation.0, unsealed, damaged, "recovered the store");
        Ok(Opened { id, capacity_bytes, store })
    });
    opened.await?
}

/// A disk that was taken and recovered.
struct Opened {
    id: DiskId,
    capacity_bytes: u64,
    store: ChunkStore,
}

/// The machine's boot id; all zero where the system gives none, so that nothing counts as clean.
fn boot_id() -> [u8; 16] {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    digits.parse::<ClusterId>().map_or([0; 16], |id| id.0)
}

/// What a node is made of, before it runs.
struct Parts {
    config: Config,
    cluster: ClusterId,
    node: NodeId,
    boot_id: [u8; 16],
    store: ChunkStore,
    metadata: Metadata,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
    listener: TcpListener,
    transport: Transport,
}

impl Parts {
    fn start(self, member: Member, through: WriteThrough, known: watch::Sender<bool>) -> Running {
        let stop = self.stop;
        let appends_bytes = Budget::of(self.config.memory_mib).appends_bytes;
        let (grants, renewals) = Grants::new(self.metadata.clone(), format!("datanode-{}", self.node.0));
        let context = Arc::new(Context {
            node: self.node,
            store: self.store,
            metadata: self.metadata,
            peers: Peers::new(self.cluster, Connections::default()).by(self.transport),
            grants,
            seals: Seals::default(),
            healthy: member.healthy.clone(),
            spares: Spares::default(),
            clock: self.clock,
            deadline: Duration::from_millis(self.config.replica_deadline_ms),
            leaving: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        let node = Arc::new(Node {
            cluster: self.cluster,
            id: self.node,
            boot_id: self.boot_id,
            context: Arc::clone(&context),
            primaries: Primaries::new(Arc::clone(&context), appends_bytes),
            cache: through.cache,
            packs: through.packs,
            health: through.health,
            requests: through.requests,
            packs_at: through.packs_at,
            scrub: Arc::clone(&member.scrub),
            silent: SilentPeers::default(),
            stop: stop.clone(),
        });
        let worker = Worker::new(Arc::clone(&node), through.uploader, through.buckets, through.imports);
        tokio::spawn(renewals.run(stop.clone()));
        tokio::spawn(member.beat(self.node, known, stop.clone()));
        tokio::spawn(worker.run(context.leaving.clone()));
        if let Some(endpoint) = through.endpoint {
            tokio::spawn(endpoint.run(context.leaving.clone()));
        }
        let pace = Pace {
            bytes_per_second: self.config.scrub_mib_per_second << 20,
            rest: Duration::from_secs(self.config.scrub_rest_seconds),
        };
        tokio::spawn(scrub::run(Arc::clone(&node), pace, context.leaving.clone()));
        let restart = sealed::after_restart(Arc::clone(&context));
        let leaving = context.leaving.clone();
        context.tasks.spawn(async move { leaving.run_until_cancelled(restart).await });
        let service = DataService::new(node);
        let frames = serve_frames(&service, self.transport, &self.config.dir, &stop);
        let incoming = frames::open(self.listener, frames.clone(), stop.clone());
        let server = tokio::spawn(serve_grpc(incoming, service, stop.clone()));
        Running { context, server, frames, stop }
    }
}

/// Frames, as far as they are wanted; the unix socket is listened on from here on.
fn serve_frames(
    service: &DataService,
    transport: Transport,
    dir: &Path,
    stop: &CancellationToken,
) -> Option<Arc<Frames>> {
    let socket = match transport {
        Transport::Grpc => return None,
        Transport::Tcp => None,
        Transport::Auto => frames::socket(dir),
    };
    let (listener, path) = socket.unzip();
    let frames = Frames::new(service.clone(), path, stop.clone());
    if let Some(listener) = listener {
        tokio::spawn(Arc::clone(&frames).serve_socket(listener));
    }
    Some(frames)
}

async fn serve_grpc(
    incoming: ReceiverStream<std::io::Result<TcpStream>>,
    service: DataService,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let data = DataServer::new(service)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .add_service(data)
        .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
        .await
}

/// A node that runs.
struct Running {
    context: Arc<Context>,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
    frames: Option<Arc<Frames>>,
    stop: CancellationToken,
}

impl Running {
    async fn until(mut self, shutdown: CancellationToken) -> Result<(), ServeError> {
        let failed = tokio::select! {
            () = shutdown.cancelled() => None,
            ended = &mut self.server => Some(ended),
        };
        tracing::info!("the node leaves");
        self.context.leaving.cancel();
        self.context.tasks.close();
        if timeout(CLOSE, self.context.tasks.wait()).await.is_err() {
            tracing::warn!(
                tasks = self.context.tasks.len(),
                "chunks are left open: their seals will be asked for"
            );
        }
        self.stop.cancel();
        let ended = match failed {
            Some(ended) => ended?,
            None => match timeout(DRAIN, &mut self.server).await {
                Ok(ended) => ended?,
                Err(_) => {
                    self.server.abort();
                    Ok(())
                }
            },
        };
        if let Some(frames) = self.frames.take()
            && timeout(DRAIN, frames.ended()).await.is_err()
        {
            tracing::warn!("framed connections are cut off");
        }
        let store = self.context.store.clone();
        tokio::task::spawn_blocking(move || store.close()).await?;
        Ok(ended?)
    }
}
