//! [`MountStores`]: the stores of mounted buckets, made when first asked for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cairn_proto::v1;
use cairn_types::Clock;

use super::{Access, MeteredStore, MountedStore, S3Clients};

/// Stores kept, at most; the one unused for longest goes first.
const STORES_MAX: usize = 64;

/// A bucket at an endpoint, and how it is spoken to: what differs in any of it has a store of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct MountBucket {
    /// The bucket.
    pub bucket: String,
    /// The endpoint's URL; empty: AWS.
    pub endpoint: String,
    /// The region; empty: us-east-1.
    pub region: String,
    /// The bucket in the path, not in the host name.
    pub force_path_style: bool,
    /// Credentials, and how what is written is kept.
    pub access: Access,
}

impl From<&v1::MountedBucket> for MountBucket {
    fn from(bucket: &v1::MountedBucket) -> Self {
        Self {
            bucket: bucket.bucket.clone(),
            endpoint: bucket.endpoint.clone(),
            region: bucket.region.clone(),
            force_path_style: bucket.force_path_style,
            access: bucket.access.as_ref().into(),
        }
    }
}

impl From<&v1::Import> for MountBucket {
    fn from(work: &v1::Import) -> Self {
        Self {
            bucket: work.bucket.clone(),
            endpoint: work.endpoint.clone(),
            region: work.region.clone(),
            force_path_style: work.force_path_style,
            access: work.access.as_ref().into(),
        }
    }
}

impl From<&v1::ListObjectsRequest> for MountBucket {
    fn from(asked: &v1::ListObjectsRequest) -> Self {
        Self {
            bucket: asked.bucket.clone(),
            endpoint: asked.endpoint.clone(),
            region: asked.region.clone(),
            force_path_style: asked.force_path_style,
            access: asked.access.as_ref().into(),
        }
    }
}

impl From<&v1::ObjectRange> for MountBucket {
    fn from(range: &v1::ObjectRange) -> Self {
        Self {
            bucket: range.bucket.clone(),
            endpoint: range.endpoint.clone(),
            region: range.region.clone(),
            force_path_style: range.force_path_style,
            access: range.access.as_ref().into(),
        }
    }
}

/// Where the stores of mounted buckets come from.
pub trait Buckets: Send + Sync + 'static {
    /// The store of a mounted bucket, by whole keys. Asks nothing of the network.
    fn for_mount(&self, bucket: &MountBucket) -> Arc<dyn MountedStore>;
}

/// The stores of mounted buckets, at most 64 at once. Cheap to clone.
#[derive(Clone)]
pub struct MountStores {
    clients: S3Clients,
    clock: Arc<dyn Clock>,
    // Guards that a bucket has one store at a time and that there are at most STORES_MAX.
    kept: Arc<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    stores: HashMap<MountBucket, (u64, Arc<dyn MountedStore>)>,
    // Counts uses: the store with the lowest number was not used for longest.
    uses: u64,
}

impl MountStores {
    /// No stores yet.
    #[must_use]
    pub fn new(clients: S3Clients, clock: Arc<dyn Clock>) -> Self {
        Self { clients, clock, kept: Arc::default() }
    }
}

impl Buckets for MountStores {
    fn for_mount(&self, bucket: &MountBucket) -> Arc<dyn MountedStore> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.uses += 1;
        let now = kept.uses;
        if let Some((used, store)) = kept.stores.get_mut(bucket) {
            *used = now;
            return Arc::clone(store);
        }
        if kept.stores.len() >= STORES_MAX {
            let oldest = kept.stores.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                kept.stores.remove(&oldest);
            }
        }
        let store = MeteredStore::new(self.clients.store(bucket, ""), Arc::clone(&self.clock));
        let store: Arc<dyn MountedStore> = Arc::new(store);
        kept.stores.insert(bucket.clone(), (now, Arc::clone(&store)));
        store
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cairn_types::SystemClock;

    use super::*;

    #[tokio::test]
    async fn stores_are_kept_and_bounded() {
        let clients = S3Clients::load(Duration::from_secs(1)).await;
        let stores = MountStores::new(clients, Arc::new(SystemClock));
        let bucket = |n: usize| MountBucket { bucket: format!("b{n}"), ..MountBucket::default() };
        let first = stores.for_mount(&bucket(0));
        for n in 1..100 {
            let again = stores.for_mount(&bucket(0));
            assert!(Arc::ptr_eq(&first, &again), "a bucket in use keeps its store");
            assert_eq!(stores.for_mount(&bucket(n)).describe(), format!("s3://b{n}/"));
        }
        assert_eq!(stores.kept.lock().unwrap().stores.len(), STORES_MAX);
        let access = Access { profile: "other".to_owned(), ..Access::default() };
        let theirs = stores.for_mount(&MountBucket { access, ..bucket(0) });
        assert!(!Arc::ptr_eq(&first, &theirs), "other credentials are another store");
    }
}
