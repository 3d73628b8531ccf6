//! The gRPC services: decode, call, encode. One file a group of verbs.

pub mod call;
mod decode;
mod drain;
mod dump;
mod explain;
mod extents;
mod fsck;
mod gc;
mod lag;
mod list;
mod load;
mod lock;
mod long_read;
mod loss;
mod members;
pub mod meta;
mod mounts;
mod mutate;
mod nodes;
mod policy;
mod pull;
mod removal;
mod report;
mod roll;
mod seal;
mod session;
mod split;
mod stat;
mod statfs;
mod status;
#[cfg(test)]
mod tests;
mod unread;
mod wait;
mod watch;
mod xattrs;

use std::sync::Arc;

use cairn_proto::v1::members_server::MembersServer;
use cairn_proto::v1::meta_server::MetaServer;
use cairn_proto::v1::nodes_server::NodesServer;
use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::limits::MESSAGE_BYTES_MAX;
use cairn_types::{Clock, ClusterId, FsError, NodeId, Random};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::keys::RowFault;
use crate::keys::chunks::ChunkRecord;
use crate::leader::tenure::JobFault;
use crate::leader::{Ground, Leader, Tenure, wire};
use crate::namespace::NamespaceError;
use crate::node::Node;
use crate::slow::SlowRequests;
use crate::store::Rows;

/// Walks for Lag and Explain at a time, at most.
const WALKS_MAX: usize = 8;

/// What every service call may use.
pub struct Context {
    /// The replicated state.
    pub node: Node,
    /// The leader's jobs, while this server leads.
    pub leader: Leader,
    /// The machine's clocks.
    pub clock: Arc<dyn Clock>,
    /// The machine's random source.
    pub random: Arc<dyn Random>,
    /// What watchers are told from.
    hub: Arc<watch::hub::Hub>,
    /// One check of the state at a time.
    pub checking: Arc<Semaphore>,
    /// Few walks for Lag and Explain at a time.
    pub walking: Arc<Semaphore>,
    /// Places of calls that wait for a file to change.
    file_waits: Semaphore,
    /// Tells of requests that took long.
    slow: SlowRequests,
}

impl Context {
    /// The tenure, while this server leads.
    ///
    /// # Errors
    /// `NotLeader` with the leader's address, when known.
    pub fn tenure(&self) -> Result<Arc<Tenure>, ServiceError> {
        self.leader.tenure().ok_or_else(|| self.not_leader())
    }

    fn not_leader(&self) -> ServiceError {
        let leader = self.node.status().leader.filter(|(id, _)| *id != self.node.id());
        ServiceError::NotLeader { leader_address: leader.map(|(_, address)| address).unwrap_or_default() }
    }

    fn cluster(&self) -> Result<ClusterId, ServiceError> {
        self.node.cluster_id().ok_or_else(|| self.not_leader())
    }

    /// A chunk as the wire has it, with addresses from the same point in time.
    fn wire_chunk(&self, rows: &dyn Rows, record: &ChunkRecord) -> Result<v1::Chunk, WireError> {
        let mut chunks = self.wire_chunks(rows, [record])?;
        Ok(chunks.pop().ok_or(ServiceError::Internal)?)
    }

    fn wire_chunks<'r>(
        &self,
        rows: &dyn Rows,
        records: impl IntoIterator<Item = &'r ChunkRecord>,
    ) -> Result<Vec<v1::Chunk>, WireError> {
        let mut records = records.into_iter().peekable();
        if records.peek().is_none() {
            return Ok(Vec::new());
        }
        let cluster = self.cluster()?;
        let known = crate::leader::rows::nodes(rows).map_err(fault)?;
        let address = |node: NodeId| known.iter().find(|n| n.node == node).map(|n| n.address.clone());
        let chunk = |record| {
            let place = wire::place(rows, cluster, record).map_err(fault)?;
            Ok(wire::chunk(record, place, &address))
        };
        records.map(chunk).collect()
    }
}

/// The state could not be read: logged here. Outside it is `Damaged` when a row is, else `Internal`.
fn fault(error: impl Into<JobFault>) -> WireError {
    match error.into() {
        JobFault::Node(error) => error.into(),
        error => {
            tracing::error!(%error, "a request met a fault of the state");
            metrics::counter!("cairn_meta_state_faults_total").increment(1);
            match error {
                JobFault::Rows(RowFault::Damaged { .. }) => FsError::Damaged.into(),
                _ => ServiceError::Internal.into(),
            }
        }
    }
}

/// What the namespace refused, or could not read.
fn refusal(error: NamespaceError) -> WireError {
    match error {
        NamespaceError::Refused(error) => error.into(),
        NamespaceError::Fault(error) => fault(error),
    }
}

/// The services of a metadata server, with their limits.
pub type Servers =
    (MetaServer<meta::MetaService>, NodesServer<meta::NodesService>, MembersServer<meta::MembersService>);

/// The services on `ground`, and the future that runs the leader's jobs, and what tells watchers,
/// until `shutdown`.
///
/// The services answer on followers too: with the leader's address.
pub fn start(ground: Ground, shutdown: CancellationToken) -> (Servers, impl Future<Output = ()> + Send) {
    let (node, clock, random) = (ground.node.clone(), ground.clock.clone(), ground.random.clone());
    let hub = Arc::new(watch::hub::Hub::new(ground.watches_max, ground.watcher_patience, shutdown.clone()));
    let slow = SlowRequests::new(ground.slow_operation);
    let (leader, jobs) = Leader::start(ground, shutdown);
    let steps = Arc::clone(&hub);
    let told = node.clone();
    let jobs = async move {
        tokio::join!(jobs, steps.run(told));
    };
    let (checking, walking) = (Arc::new(Semaphore::new(1)), Arc::new(Semaphore::new(WALKS_MAX)));
    let file_waits = Semaphore::new(wait::FILE_WAITS_MAX);
    let context = Arc::new(Context { node, leader, clock, random, hub, checking, walking, file_waits, slow });
    let meta = MetaServer::new(meta::MetaService::new(context.clone()))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let members = MembersServer::new(meta::MembersService::new(context.clone()));
    let nodes = NodesServer::new(meta::NodesService::new(context))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    ((meta, nodes, members), jobs)
}
