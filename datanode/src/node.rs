//! [`Node`]: the parts of a running data node, as its service and its work see them.

use std::sync::Arc;

use cairn_types::{ClusterId, NodeId};
use tokio_util::sync::CancellationToken;

use crate::cache::Cache;
use crate::health::Health;
use crate::replicate::{Context, Primaries};
use crate::scrub::Figures;
use crate::silent::SilentPeers;
use crate::understore::{RequestCounts, UnderStore};

/// A data node's parts. Shared by all its tasks.
pub struct Node {
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// Its id there, the same for the same disk.
    pub id: NodeId,
    /// The machine's boot.
    pub boot_id: [u8; 16],
    /// What the append protocol needs.
    pub context: Arc<Context>,
    /// The chunks it orders.
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
