//! [`Context`]: what every task of the append protocol needs of its node, which is a disk of this process.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cairn_types::{Clock, NodeId};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::grant::Grants;
use super::healthy::Healthy;
use super::seal::Seals;
use super::spare::Spares;
use crate::chunk::ChunkStore;
use crate::connection::Peers;
use crate::metadata::Metadata;
use crate::slow::SlowWork;

/// A node as its tasks see it. Other disks of the process are nodes besides: all but `node` and `store` is the
/// same in each of them.
#[derive(Clone)]
pub struct Context {
    /// This node.
    pub node: NodeId,
    /// Its replicas.
    pub store: ChunkStore,
    /// The metadata servers.
    pub metadata: Metadata,
    /// The other data nodes.
    pub peers: Peers,
    /// The way to renew grants.
    pub grants: Grants,
    /// Which tails were given up for slowness.
    pub seals: Arc<Seals>,
    /// Where chunks would be placed.
    pub healthy: Healthy,
    /// Chunks made ahead.
    pub spares: Arc<Spares>,
    /// Tells of what was slow.
    pub slow: Arc<SlowWork>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// After this a replica that has not answered is sealed without.
    pub deadline: Duration,
    /// Raised when the node begins to stop: primaries close their chunks.
    pub leaving: CancellationToken,
    /// The tasks that must end before the store is closed.
    pub tasks: TaskTracker,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("node", &self.node).finish_non_exhaustive()
    }
}
