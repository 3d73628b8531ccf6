//! [`Parts`]: what a process is made of before it runs, and how it begins: one node for each disk, and what they share.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cairn_proto::frames::Transport;
use cairn_proto::v1::data_server::DataServer;
use cairn_types::limits::MESSAGE_BYTES_MAX;
use cairn_types::{Clock, ClusterId, NodeId};
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Server;

use crate::budget::Budget;
use crate::config::Config;
use crate::connection::{CONNECTION_WINDOW_BYTES, Connections, KEEPALIVE, Peers, STREAM_WINDOW_BYTES};
use crate::frames::{self, Frames};
use crate::membership::Member;
use crate::metadata::Metadata;
use crate::node::{Node, Nodes};
use crate::replicate::grant::Grants;
use crate::replicate::healthy::Healthy;
use crate::replicate::seal::Seals;
use crate::replicate::spare::Spares;
use crate::replicate::{Context, Contexts, Primaries};
use crate::scrub::{self, Pace};
use crate::serve::Running;
use crate::service::DataService;
use crate::silent::SilentPeers;
use crate::slow::SlowWork;
use crate::work::{Worker, sealed};
use crate::write_through::WriteThrough;

/// Calls on one connection: a peer has one for each chunk it replicates here.
const STREAMS_MAX: u32 = 1 << 15;

/// A disk that the leader has taken as the node of this id.
pub(crate) type Registered = (NodeId, Member);

/// What a process is made of, before it runs.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) cluster: ClusterId,
    pub(crate) boot_id: [u8; 16],
    pub(crate) metadata: Metadata,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) stop: CancellationToken,
    pub(crate) listener: TcpListener,
    pub(crate) transport: Transport,
    pub(crate) healthy: Healthy,
    pub(crate) through: WriteThrough,
}

impl Parts {
    /// Starts all tasks of the process, whose disks are these.
    pub(crate) fn start(mut self, first: Registered, others: Vec<Registered>) -> Running {
        let stop = self.stop.clone();
        let (grants, renewals) = Grants::new(self.metadata.clone(), format!("datanode-{}", first.0.0));
        tokio::spawn(renewals.run(stop.clone()));
        let shared = Arc::new(self.context(&first, grants));
        let beside = |(node, member): &Registered| {
            let (node, store) = (*node, member.store.clone());
            Arc::new(Context { node, store, ..Context::clone(&shared) })
        };
        let contexts = Contexts::new(Arc::clone(&shared), others.iter().map(beside).collect());
        let leaving = shared.leaving.clone();
        if let Some(endpoint) = self.through.endpoint.take() {
            tokio::spawn(endpoint.run(leaving));
        }
        let primaries = Primaries::new(contexts.clone(), Budget::of(self.config.memory_mib).appends_bytes);
        let dir = first.1.dir.clone();
        let others = others.into_iter().zip(contexts.iter().skip(1)).map(|(disk, context)| {
            let node = self.node(&disk.1, Arc::clone(context), primaries.clone());
            self.set_to_work(disk, Arc::clone(&node), false);
            node
        });
        let others: Vec<Arc<Node>> = others.collect();
        let node = self.node(&first.1, shared, primaries.clone());
        self.set_to_work(first, Arc::clone(&node), true);
        let service = DataService::new(Nodes::new(contexts.clone(), node, others));
        let frames = serve_frames(&service, self.transport, &dir, &stop);
        let incoming = frames::open(self.listener, frames.clone(), stop.clone());
        let server = tokio::spawn(serve_grpc(incoming, service, stop.clone()));
        Running { contexts, server, frames, stop }
    }

    /// The first disk's context; what is in it besides that disk is the others' too.
    fn context(&self, (node, member): &Registered, grants: Grants) -> Context {
        let slow_ms = self.config.slow_operation_ms;
        let slow_after = (slow_ms > 0).then(|| Duration::from_millis(slow_ms));
        Context {
            node: *node,
            store: member.store.clone(),
            metadata: self.metadata.clone(),
            peers: Peers::new(self.cluster, Connections::default()).by(self.transport),
            grants,
            seals: Arc::new(Seals::default()),
            healthy: self.healthy.clone(),
            spares: Arc::new(Spares::default()),
            slow: Arc::new(SlowWork::new(slow_after)),
            clock: Arc::clone(&self.clock),
            deadline: Duration::from_millis(self.config.replica_deadline_ms),
            leaving: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    fn node(&self, member: &Member, context: Arc<Context>, primaries: Primaries) -> Arc<Node> {
        Arc::new(Node {
            cluster: self.cluster,
            id: context.node,
            boot_id: self.boot_id,
            dir: member.dir.clone(),
            cache: self.through.cache(member.disk, &member.store),
            context,
            primaries,
            packs: self.through.packs.clone(),
            health: self.through.health.clone(),
            requests: Arc::clone(&self.through.requests),
            packs_at: self.through.packs_at.clone(),
            scrub: Arc::clone(&member.scrub),
            silent: SilentPeers::default(),
            stop: self.stop.clone(),
        })
    }

    /// What goes on for a disk whether or not anybody calls: heartbeats, the leader's work, scrubs, and the seals of
    /// what an earlier process left open there.
    fn set_to_work(&self, (id, member): Registered, node: Arc<Node>, speaks: bool) {
        let context = Arc::clone(&node.context);
        let leaving = context.leaving.clone();
        let (buckets, imports) = (Arc::clone(&self.through.buckets), self.through.imports.clone());
        let uploader = self.through.uploader(&member.store);
        let buffers = self.through.buffers.clone();
        let worker = Worker::new(Arc::clone(&node), uploader, buckets, imports, buffers);
        tokio::spawn(member.beat(id, speaks, self.stop.clone()));
        tokio::spawn(worker.run(leaving.clone()));
        let pace = Pace {
            bytes_per_second: self.config.scrub_mib_per_second << 20,
            rest: Duration::from_secs(self.config.scrub_rest_seconds),
        };
        tokio::spawn(scrub::run(node, pace, leaving.clone()));
        let restart = sealed::after_restart(Arc::clone(&context));
        context.tasks.spawn(async move { leaving.run_until_cancelled(restart).await });
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
