//! Work `Import`: the bucket's listing goes to the leader batch by batch, each one entry there.

use cairn_proto::v1;
use cairn_proto::v1::report_work_request::Outcome;
use tokio::sync::mpsc;

use super::Worker;
use crate::import::ImportError;
use crate::understore::MountBucket;

/// Batches that are ready while one is reported.
const BATCHES_AHEAD: usize = 1;

impl Worker {
    /// Imports a directory; `None` when all of it is reported.
    pub(super) async fn import(&self, work: v1::Import) -> Option<Outcome> {
        let bucket = MountBucket::from(&work);
        let intent = work.intent;
        let store = self.buckets.for_mount(&bucket);
        let (batches, mut made) = mpsc::channel(BATCHES_AHEAD);
        let listed = async {
            let listed = self.imports.import(store.as_ref(), &work, &batches).await;
            drop(batches);
            listed
        };
        // It owns the receiver: the listing stops when nobody takes its batches any more.
        let reported = async move {
            while let Some(batch) = made.recv().await {
                // A batch that is lost must not be followed by the next: the import begins anew.
                if !self.report(intent, Outcome::Imported(batch)).await {
                    return;
                }
            }
        };
        let (listed, ()) = tokio::join!(listed, reported);
        match listed {
            Ok(summary) => {
                tracing::debug!(entries = summary.entries, directory = work.directory, "imported");
                None
            }
            Err(ImportError::Stopped) => None,
            Err(error) => {
                tracing::warn!(directory = work.directory, %error, "import a directory");
                let (message, permanent) = (error.to_string(), error.permanent());
                Some(Outcome::ImportFailed(v1::ImportFailed { message, permanent }))
            }
        }
    }
}
