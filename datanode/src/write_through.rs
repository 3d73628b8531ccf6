//! [`WriteThrough`]: what a node needs of its under-store, put together from its configuration.

use std::sync::Arc;
use std::time::Duration;

use cairn_types::{Clock, ClusterId, DiskId, SystemRandom};

use crate::budget::Budget;
use crate::cache::Cache;
use crate::chunk::ChunkStore;
use crate::config::{Config, UnderStoreConfig};
use crate::endpoint::Endpoint;
use crate::health::Health;
use crate::import::Imports;
use crate::understore::{self, Buckets, LocationError, MountStores, RequestCounts, S3Clients, UnderStore};
use crate::upload::Uploader;

/// The parts that reach S3.
pub struct WriteThrough {
    /// Writes packs; absent without an under-store.
    pub uploader: Option<Uploader>,
    /// Finds out what the under-store does; absent without one. Uploads wait for it.
    pub endpoint: Option<Endpoint>,
    /// The packs' under-store itself.
    pub packs: Option<Arc<dyn UnderStore>>,
    /// The buckets of mounts.
    pub buckets: Arc<dyn Buckets>,
    /// Reads the directories of mounts.
    pub imports: Imports,
    /// Reads objects through the cache.
    pub cache: Cache,
    /// How the under-store does.
    pub health: Health,
    /// What went to S3.
    pub requests: Arc<RequestCounts>,
    /// Where packs go; empty without an under-store.
    pub packs_at: String,
}

/// Puts the parts together. Nothing is asked of S3 yet.
///
/// # Errors
/// [`LocationError`] when the under-store's URL or directory cannot be used.
pub async fn open(
    config: &Config,
    cluster: ClusterId,
    disk: DiskId,
    store: &ChunkStore,
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
    let (endpoint, uploader) = match &packs {
        Some(packs) => {
            let (endpoint, findings) =
                Endpoint::new(Arc::clone(packs), cluster, clock, Arc::new(SystemRandom), health.clone());
            let uploader = Uploader::new(Arc::clone(packs), Arc::new(store.clone()), cluster);
            (Some(endpoint), Some(uploader.with_findings(findings).with_turns(budget.uploads)))
        }
        None => (None, None),
    };
    let cache = Cache::new(Arc::new(store.clone()), packs.clone(), Arc::clone(&buckets), disk);
    let (cache, imports) = (cache.with_fetches(budget.blocks), Imports::new(budget.names_bytes));
    Ok(WriteThrough { uploader, endpoint, packs, buckets, imports, cache, health, requests, packs_at })
}
