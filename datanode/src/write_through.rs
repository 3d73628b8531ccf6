//! [`WriteThrough`]: what a process needs of its under-store, put together from its configuration.

use std::sync::Arc;
use std::time::Duration;

use cairn_types::{Clock, ClusterId, DiskId, SystemRandom};
use tokio::sync::Semaphore;

use crate::budget::Budget;
use crate::cache::{Cache, Fetches};
use crate::chunk::ChunkStore;
use crate::config::{Config, UnderStoreConfig};
use crate::endpoint::Endpoint;
use crate::health::Health;
use crate::import::Imports;
use crate::objects::Buffers;
use crate::understore::{self, Buckets, LocationError, MountStores, RequestCounts, S3Clients, UnderStore};
use crate::upload::{Findings, Uploader};

/// The parts that reach S3, of a whole process.
pub struct WriteThrough {
    /// Finds out what the under-store does; absent without one. Uploads wait for it.
    pub endpoint: Option<Endpoint>,
    /// The packs' under-store itself.
    pub packs: Option<Arc<dyn UnderStore>>,
    /// The buckets of mounts.
    pub buckets: Arc<dyn Buckets>,
    /// Reads the directories of mounts.
    pub imports: Imports,
    /// The memory of objects on their way to mounts.
    pub buffers: Buffers,
    /// How the under-store does.
    pub health: Health,
    /// What went to S3.
    pub requests: Arc<RequestCounts>,
    /// Where packs go; empty without an under-store.
    pub packs_at: String,
    cluster: ClusterId,
    findings: Option<Findings>,
    /// All disks take turns: their buffers are of one budget.
    uploads: Arc<Semaphore>,
    fetches: Fetches,
}

/// Puts the parts together. Nothing is asked of S3 yet.
///
/// # Errors
/// [`LocationError`] when the under-store's URL or directory cannot be used.
pub async fn open(
    config: &Config,
    cluster: ClusterId,
    clock: Arc<dyn Clock>,
) -> Result<WriteThrough, LocationError> {
    let timeout_ms = config
        .understore
        .as_ref()
        .map_or_else(|| UnderStoreConfig::default().timeout_ms, |understore| understore.timeout_ms);
    let clients = S3Clients::load(Duration::from_millis(timeout_ms)).await;
    let packs = match &config.understore {
        Some(under) => Some(understore::open(under, &clients, Arc::clone(&clock), &SystemRandom).await?),
        None => None,
    };
    let packs_at = packs.as_ref().map(|packs| packs.describe()).unwrap_or_default();
    let requests = clients.counts();
    let buckets: Arc<dyn Buckets> = Arc::new(MountStores::new(clients, Arc::clone(&clock)));
    let (health, budget) = (Health::default(), Budget::of(config.memory_mib));
    let probing = packs.as_ref().map(|packs| {
        Endpoint::new(Arc::clone(packs), cluster, clock, Arc::new(SystemRandom), health.clone())
    });
    let (endpoint, findings) = probing.unzip();
    Ok(WriteThrough {
        endpoint,
        packs,
        buckets,
        imports: Imports::new(budget.names_bytes),
        buffers: Buffers::new(budget.objects_bytes),
        health,
        requests,
        packs_at,
        cluster,
        findings,
        uploads: Arc::new(Semaphore::new(budget.uploads.max(1))),
        fetches: Fetches::new(budget.blocks),
    })
}

impl WriteThrough {
    /// Reads objects through the cache on this disk.
    #[must_use]
    pub fn cache(&self, disk: DiskId, store: &ChunkStore) -> Cache {
        let (blocks, buckets) = (Arc::new(store.clone()), Arc::clone(&self.buckets));
        Cache::new(blocks, self.packs.clone(), buckets, disk).with_fetches(&self.fetches)
    }

    /// Writes packs of the chunks on this disk; absent without an under-store.
    #[must_use]
    pub fn uploader(&self, store: &ChunkStore) -> Option<Uploader> {
        let (packs, findings) = (self.packs.clone()?, self.findings.clone()?);
        let uploader = Uploader::new(packs, Arc::new(store.clone()), self.cluster);
        Some(uploader.with_findings(findings).with_turns(Arc::clone(&self.uploads)))
    }
}
