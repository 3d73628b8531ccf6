//! [`serve`]: one metadata server, from its configuration to its end.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cairn_types::{NodeId, Policy, SystemClock, SystemRandom};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::{Router, TcpIncoming};

use crate::config::{Config, ConfigError};
use crate::http;
use crate::node::{Node, Settings, StartError, Started};
use crate::raft::machine::Pace;

/// How long calls under way may take when the server stops.
const DRAIN: Duration = Duration::from_secs(2);
/// How long handing leadership over may take when the server stops.
const HAND_OVER: Duration = Duration::from_secs(2);
/// A connection without traffic is probed that often, and given up after as long.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

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
    /// The directory, the log or the state cannot be used.
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
        policy: Policy::from(config.policy),
        heartbeat_ms: config.heartbeat_ms,
        election_ms: (config.election_min_ms, config.election_max_ms),
        memory_bytes: config.memory_mib << 20,
        pace: Pace::default(),
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
    let started = Started::start(settings(&config, listen)?, clock, random).await?;
    let node = started.node.clone();
    // Ends the parts of this server; `shutdown` itself belongs to the caller.
    let stop = CancellationToken::new();
    let bound = Ready { listen, http: web.as_ref().map(|(_, address)| *address) };
    if let Some((listener, _)) = web {
        tokio::spawn(http::serve(listener, node.clone(), stop.clone()));
    }
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = router(&node).serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
    let mut server = tokio::spawn(server);
    tracing::info!(id = config.id, %listen, dir = %config.dir.display(), "metadata server started");
    // Nobody may be waiting for it.
    let _ = ready.send(bound);
    let outcome = tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        () = node.failed() => Err(ServeError::Failed),
        ended = &mut server => Err(transport(ended)),
    };
    if outcome.is_ok() && node.is_leader() && node.transfer_leader(None, HAND_OVER).await.is_ok() {
        tracing::info!("leadership handed over");
    }
    stop.cancel();
    if tokio::time::timeout(DRAIN, &mut server).await.is_err() {
        server.abort();
    }
    drop(node);
    started.stop().await;
    tracing::info!(id = config.id, "metadata server ended");
    outcome
}

fn transport(ended: Result<Result<(), tonic::transport::Error>, tokio::task::JoinError>) -> ServeError {
    match ended {
        Ok(Err(error)) => ServeError::Transport(error),
        Ok(Ok(())) | Err(_) => ServeError::Failed,
    }
}

/// All gRPC services on one port.
fn router(node: &Node) -> Router {
    Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
        .add_service(node.raft_service().into_server())
}
