//! [`Importer`]: imports directories of any mount, few at a time.

use std::sync::Arc;

use cairn_proto::v1;
use tokio::sync::{Semaphore, mpsc};

use super::{ImportError, ImportSummary, import};
use crate::understore::{Buckets, MountBucket};

/// Imports at once: the largest holds some 100 MiB of names.
const IMPORTS_MAX: usize = 2;

/// Lists directories of mounted buckets. Cheap to clone.
#[derive(Clone)]
pub struct Importer {
    buckets: Arc<dyn Buckets>,
    turns: Arc<Semaphore>,
}

impl Importer {
    /// An importer from the buckets that `buckets` knows.
    #[must_use]
    pub fn new(buckets: Arc<dyn Buckets>) -> Self {
        Self { buckets, turns: Arc::new(Semaphore::new(IMPORTS_MAX)) }
    }

    /// Lists the directory of `work` and sends its batches, as [`import`] says. At most two run at
    /// once, others wait.
    ///
    /// # Errors
    /// [`ImportError`].
    pub async fn import(
        &self,
        work: &v1::Import,
        batches: &mpsc::Sender<v1::ImportedBatch>,
    ) -> Result<ImportSummary, ImportError> {
        // The semaphore is never closed.
        let _turn = self.turns.acquire().await.ok();
        let bucket = MountBucket {
            bucket: work.bucket.clone(),
            endpoint: work.endpoint.clone(),
            region: work.region.clone(),
            force_path_style: work.force_path_style,
        };
        let outcome = import(self.buckets.for_mount(&bucket).as_ref(), work, batches).await;
        let label = match &outcome {
            Ok(_) => "ok",
            Err(ImportError::Store(error)) => error.kind(),
            Err(ImportError::TooManyNames { .. }) => "too_many_names",
            Err(ImportError::Stopped) => "stopped",
            Err(ImportError::Malformed { .. } | ImportError::Endless) => "malformed",
        };
        metrics::counter!("cairn_data_imports_total", "outcome" => label).increment(1);
        outcome
    }
}
