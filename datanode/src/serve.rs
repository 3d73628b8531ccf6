//! [`serve`]: a data node from its start to its end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use cairn_proto::WireError;
use cairn_types::{Clock, ClusterId, NodeId, SystemClock};
use futures::future::join_all;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::config::{Checked, Config, ConfigError};
use crate::connection::Connections;
use crate::disks::{self, Opened};
use crate::format::FormatError;
use crate::frames::Frames;
use crate::http;
use crate::membership::{self, Member};
use crate::metadata::Metadata;
use crate::replicate::Contexts;
use crate::replicate::healthy::Healthy;
use crate::scrub::Figures;
use crate::standing::Standings;
use crate::start::Parts;
use crate::write_through::{self, WriteThrough};

/// How long primaries may take to close their chunks when the node stops.
const CLOSE: Duration = Duration::from_millis(4_000);
/// How long open calls may take to end after that.
const DRAIN: Duration = Duration::from_millis(2_000);

/// A node that serves.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// Where gRPC listens.
    pub listen: SocketAddr,
    /// Where HTTP listens.
    pub http: Option<SocketAddr>,
    /// The node's id in its cluster; of several disks the first one's.
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
    /// None of several disks can be used.
    #[error("no disk can be used: {troubles}")]
    NoDisk {
        /// Each with its reason.
        troubles: String,
    },
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
/// calls end, its stores are flushed. `ready` is told once its disks are registered and it serves.
///
/// # Errors
/// [`ServeError`]. Nothing acknowledged is lost, whatever the error.
pub async fn serve(
    config: Config,
    shutdown: CancellationToken,
    ready: oneshot::Sender<Ready>,
) -> Result<(), ServeError> {
    let checked = config.check()?;
    let standings = Standings::new(&config.disks());
    let locked = disks::lock(&config, &standings).await?;
    let listener = listen(checked.listen).await?;
    let address = local(&listener, checked.listen)?;
    let stop = CancellationToken::new();
    let _stopped_at_the_end = stop.clone().drop_guard();
    let http = serve_http(&checked, standings.clone(), stop.clone()).await?;
    let metadata = Metadata::new(config.meta.clone(), Connections::default());
    let Some(cluster) = membership::cluster(&metadata, &shutdown).await else { return Ok(()) };
    if let Some(ours) = checked.cluster.filter(|ours| *ours != cluster) {
        return Err(ServeError::ForeignCluster { theirs: cluster, ours });
    }
    metadata.join(cluster);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let boot_id = boot_id();
    let opened = disks::open(locked, &config, cluster, boot_id, &clock, &standings).await?;
    let through = write_through::open(&config, cluster, Arc::clone(&clock)).await?;
    let healthy = Healthy::default();
    let common = Common { config: &config, address, boot_id, metadata: &metadata, healthy: &healthy };
    let members = opened.into_iter().map(|disk| common.member(disk, &through, &standings)).collect();
    let Some(members) = register(members, &standings, &shutdown).await else { return Ok(()) };
    let mut members = members?.into_iter();
    let Some(first) = members.next() else { return Err(none_left(&standings)) };
    let node = first.0;
    let transport = checked.transport;
    let parts =
        Parts { config, cluster, boot_id, metadata, clock, stop, listener, transport, healthy, through };
    let running = parts.start(first, members.collect());
    // Nobody needs to be waiting for it.
    let _ = ready.send(Ready { listen: address, http, node });
    running.until(shutdown).await
}

/// Without a disk there is no node.
pub(crate) fn none_left(standings: &Standings) -> ServeError {
    ServeError::NoDisk { troubles: standings.troubles().trim_end().replace('\n', "; ") }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })
}

fn local(listener: &TcpListener, address: SocketAddr) -> Result<SocketAddr, ServeError> {
    listener.local_addr().map_err(|source| ServeError::Listen { address, source })
}

async fn serve_http(
    checked: &Checked,
    standings: Standings,
    stop: CancellationToken,
) -> Result<Option<SocketAddr>, ServeError> {
    let Some(address) = checked.http else { return Ok(None) };
    let listener = listen(address).await?;
    let bound = local(&listener, address)?;
    http::recorder();
    tokio::spawn(async move {
        if let Err(error) = http::serve(listener, standings, stop).await {
            tracing::error!(%error, "serve HTTP");
        }
    });
    Ok(Some(bound))
}

/// What the disks of a process tell the leader alike.
struct Common<'p> {
    config: &'p Config,
    address: SocketAddr,
    boot_id: [u8; 16],
    metadata: &'p Metadata,
    healthy: &'p Healthy,
}

impl Common<'_> {
    fn member(&self, disk: Opened, through: &WriteThrough, standings: &Standings) -> Member {
        let advertise = &self.config.advertise;
        Member {
            metadata: self.metadata.clone(),
            store: disk.store,
            disk: disk.id,
            dir: disk.dir,
            address: if advertise.is_empty() { self.address.to_string() } else { advertise.clone() },
            boot_id: self.boot_id,
            zone: self.config.zone.clone(),
            host: self.config.host.clone(),
            capacity_bytes: disk.capacity_bytes,
            health: through.health.clone(),
            healthy: self.healthy.clone(),
            scrub: Arc::new(Figures::of(disk.id)),
            standings: standings.clone(),
            failed_before: AtomicBool::new(false),
        }
    }
}

/// Registers each disk as a node. One that the leader refuses for good is left out, if others are taken. `None`:
/// stopped before.
async fn register(
    members: Vec<Member>,
    standings: &Standings,
    shutdown: &CancellationToken,
) -> Option<Result<Vec<(NodeId, Member)>, ServeError>> {
    let registering = members.into_iter().map(|member| async move {
        let outcome = member.register(shutdown).await?;
        member.stand(outcome.is_ok());
        let dir = member.dir.clone();
        Some((dir, outcome.map(|node| (node, member)).map_err(ServeError::Register)))
    });
    let tried: Option<Vec<_>> = join_all(registering).await.into_iter().collect();
    Some(disks::sift(tried?, standings))
}

/// The machine's boot id; all zero where the system gives none, so that nothing counts as clean.
fn boot_id() -> [u8; 16] {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    digits.parse::<ClusterId>().map_or([0; 16], |id| id.0)
}

/// A node that runs.
pub(crate) struct Running {
    pub(crate) contexts: Contexts,
    pub(crate) server: JoinHandle<Result<(), tonic::transport::Error>>,
    pub(crate) frames: Option<Arc<Frames>>,
    pub(crate) stop: CancellationToken,
}

impl Running {
    async fn until(mut self, shutdown: CancellationToken) -> Result<(), ServeError> {
        let failed = tokio::select! {
            () = shutdown.cancelled() => None,
            ended = &mut self.server => Some(ended),
        };
        tracing::info!("the node leaves");
        let shared = self.contexts.first();
        shared.leaving.cancel();
        shared.tasks.close();
        if timeout(CLOSE, shared.tasks.wait()).await.is_err() {
            tracing::warn!(tasks = shared.tasks.len(), "chunks are left open: their seals will be asked for");
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
        let contexts = self.contexts.clone();
        // All at once: each writes down what its disk has waiting.
        let closing = contexts.iter().map(|context| {
            let store = context.store.clone();
            tokio::task::spawn_blocking(move || store.close())
        });
        for closed in join_all(closing).await {
            closed?;
        }
        Ok(ended?)
    }
}
