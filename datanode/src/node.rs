//! [`Node`]: the parts of a running data node, as its service and its work see them. A process has one for each
//! of its disks: [`Nodes`].

use std::path::PathBuf;
use std::sync::Arc;

use cairn_proto::{ServiceError, WireError};
use cairn_types::{ChunkId, ClusterId, NodeId};
use tokio_util::sync::CancellationToken;

use crate::cache::Cache;
use crate::health::Health;
use crate::replicate::{Context, Contexts, Primaries};
use crate::scrub::Figures;
use crate::silent::SilentPeers;
use crate::understore::{RequestCounts, UnderStore};

/// A data node's parts. Shared by all its tasks; those that reach S3 also with the other disks of the process.
pub struct Node {
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// Its id there, the same for the same disk.
    pub id: NodeId,
    /// The machine's boot.
    pub boot_id: [u8; 16],
    /// What the append protocol needs.
    pub context: Arc<Context>,
    /// Where its disk is.
    pub dir: PathBuf,
    /// The chunks that the process orders.
    pub primaries: Primaries,
    /// Blocks of S3 objects.
    pub cache: Cache,
    /// Where the packs are; absent without an under-store.
    pub packs: Option<Arc<dyn UnderStore>>,
    /// How the under-store does.
    pub health: Health,
    /// What went to S3.
    pub requests: Arc<RequestCounts>,
    /// Where packs go; empty without an under-store.
    pub packs_at: String,
    /// What scrubs and repairs found and did.
    pub scrub: Arc<Figures>,
    /// Peers that a read waited for in vain.
    pub silent: SilentPeers,
    /// Raised last: open calls end.
    pub stop: CancellationToken,
}

/// The data nodes of a process, one for each disk; one at least. Cheap to clone.
#[derive(Clone)]
pub struct Nodes {
    contexts: Contexts,
    first: Arc<Node>,
    others: Arc<[Arc<Node>]>,
}

impl Nodes {
    /// These, whose contexts are those of `contexts`, in the same order.
    #[must_use]
    pub fn new(contexts: Contexts, first: Arc<Node>, others: Vec<Arc<Node>>) -> Self {
        Self { contexts, first, others: others.into() }
    }

    /// The first one, which speaks for the process.
    #[must_use]
    pub fn first(&self) -> &Arc<Node> {
        &self.first
    }

    /// All of them, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Node>> {
        std::iter::once(&self.first).chain(self.others.iter())
    }

    /// The node, when there is one alone.
    #[must_use]
    pub fn only(&self) -> Option<&Arc<Node>> {
        Some(&self.first).filter(|_| self.others.is_empty())
    }

    /// What the append protocol sees of them.
    #[must_use]
    pub fn contexts(&self) -> &Contexts {
        &self.contexts
    }

    /// The one with this id.
    #[must_use]
    pub fn find(&self, id: NodeId) -> Option<&Arc<Node>> {
        self.iter().find(|node| node.id == id)
    }

    fn of(&self, context: &Context) -> &Arc<Node> {
        self.find(context.node).unwrap_or(&self.first)
    }

    /// The one that serves reads of the chunk: its disk has a replica, or would keep what is read from S3.
    #[must_use]
    pub fn reader(&self, chunk: ChunkId) -> &Arc<Node> {
        self.of(self.contexts.with_or_for(chunk))
    }

    /// The one that keeps blocks of what `key` stands for.
    #[must_use]
    pub fn keeper(&self, key: u64) -> &Arc<Node> {
        self.of(self.contexts.chosen(key))
    }

    /// The one that a call about `chunk` is for: the node `asked`, and with 0 the one that has the chunk.
    ///
    /// # Errors
    /// [`ServiceError::NoSuchChunk`] when the asked one is not of this process: what is not here must not count
    /// as its answer.
    pub fn addressed(&self, asked: u64, chunk: ChunkId) -> Result<&Arc<Node>, WireError> {
        if asked == 0 {
            return Ok(self.reader(chunk));
        }
        self.find(NodeId(asked)).ok_or_else(|| ServiceError::NoSuchChunk { chunk }.into())
    }
}
