//! [`Endpoint`]: after the start, finds out what the cluster's under-store can do, and clears away
//! what killed processes left in it.

use std::sync::Arc;
use std::time::Duration;

use cairn_types::{Clock, ClusterId, Random, Timestamp};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::health::Health;
use crate::understore::{Capabilities, ListRequest, UnderStore, UnderStoreError};
use crate::upload::{Findings, UploadError};

/// Pauses before a store that did not answer is probed again, at first and at most.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MOST: Duration = Duration::from_secs(5);
/// The pause before one that cannot be used is: somebody may have put that right.
const PAUSE_UNFIT: Duration = Duration::from_secs(60);
/// What is that old, and was never completed or removed, nobody works on any more.
const ABANDONED_AGE_NS: i64 = 24 * 3_600 * 1_000_000_000;
/// Pages of a listing that are looked through, at most.
const PAGES_MAX: usize = 100;

/// The cluster's under-store, before it is known.
pub struct Endpoint {
    store: Arc<dyn UnderStore>,
    clock: Arc<dyn Clock>,
    /// Nodes that lost the same store do not ask it at the same times.
    random: Arc<dyn Random>,
    health: Health,
    tell: watch::Sender<Option<Capabilities>>,
    /// The key prefix of all that is the cluster's.
    area: String,
    /// The key prefix of this start's probe.
    scratch: String,
}

impl Endpoint {
    /// Nothing is asked before [`run`](Self::run); uploads wait for the findings until then.
    #[must_use]
    pub fn new(
        store: Arc<dyn UnderStore>,
        cluster: ClusterId,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        health: Health,
    ) -> (Self, Findings) {
        let (tell, findings) = Findings::pending();
        let area = format!("{cluster}/");
        let scratch = format!("{area}probe/{:016x}/", random.next_u64());
        (Self { store, clock, random, health, tell, area, scratch }, findings)
    }

    /// Probes the store until it can be used, telling what was found, then clears it and looks after it; ends at `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let work = async {
            self.settle().await;
            self.clear().await;
            self.look_after().await;
        };
        stop.run_until_cancelled(work).await;
    }

    async fn settle(&self) {
        let mut pause = PAUSE_FIRST;
        loop {
            match self.store.probe(&self.scratch).await {
                Ok(found) if found.never_overwrites() => {
                    tracing::info!(store = self.store.describe(), ?found, "probed the under-store");
                    self.health.note(None);
                    self.tell.send_replace(Some(found));
                    return;
                }
                Ok(found) => {
                    let unfit = UploadError::Unfit { store: self.store.describe() };
                    tracing::error!(?found, %unfit, "probed the under-store");
                    self.health.note(Some(&unfit as &dyn std::error::Error));
                    self.tell.send_replace(Some(found));
                    tokio::time::sleep(self.random.spread(PAUSE_UNFIT)).await;
                }
                // Nobody tells us when a store is back.
                Err(error) => {
                    tracing::warn!(store = self.store.describe(), %error, "probe the under-store");
                    self.health.note(Some(&error as &dyn std::error::Error));
                    tokio::time::sleep(self.random.spread(pause)).await;
                    pause = (pause * 2).min(PAUSE_MOST);
                }
            }
        }
    }

    /// Asks a store that failed now and then whether it is back: a node that gets no more work would
    /// tell of its last failure for ever.
    async fn look_after(&self) {
        loop {
            self.health.failed().await;
            let mut pause = PAUSE_FIRST;
            while !self.health.failure().is_empty() {
                tokio::time::sleep(self.random.spread(pause)).await;
                pause = (pause * 2).min(PAUSE_MOST);
                let request = ListRequest { prefix: self.scratch.clone(), ..ListRequest::default() };
                match self.store.list(&request).await {
                    Ok(_) => self.health.note(None),
                    Err(error) => self.health.note(Some(&error as &dyn std::error::Error)),
                }
            }
        }
    }

    /// Removes what is over a day old and was never completed. What fails is for the next start.
    async fn clear(&self) {
        let before = Timestamp(self.clock.wall().0.saturating_sub(ABANDONED_AGE_NS));
        match self.store.abort_abandoned(&self.area, before).await {
            Ok(0) => {}
            Ok(uploads) => tracing::info!(uploads, "aborted uploads that killed processes left"),
            Err(error) => tracing::warn!(%error, "look for abandoned uploads"),
        }
        if let Err(error) = self.remove_probes(before).await {
            tracing::warn!(%error, "look for what earlier probes left");
        }
    }

    async fn remove_probes(&self, before: Timestamp) -> Result<(), UnderStoreError> {
        let mut request = ListRequest { prefix: format!("{}probe/", self.area), ..ListRequest::default() };
        for _ in 0..PAGES_MAX {
            let page = self.store.list(&request).await?;
            for object in &page.objects {
                if object.mtime < before {
                    self.store.delete(&object.key, None).await?;
                }
            }
            request.continuation = page.continuation;
            if request.continuation.is_none() {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use cairn_types::{InodeId, SystemClock, SystemRandom};

    use super::*;
    use crate::understore::memory::{Fault, MemoryStore};
    use crate::upload::Uploader;
    use crate::upload::uploader_tests::Chunks;

    const CLUSTER: ClusterId = ClusterId([7; 16]);

    fn endpoint(store: &Arc<MemoryStore>) -> (Endpoint, Uploader, Arc<Chunks>, Health) {
        let (health, packs) = (Health::default(), Arc::clone(store) as Arc<dyn UnderStore>);
        let clock = Arc::new(SystemClock);
        let (endpoint, findings) =
            Endpoint::new(Arc::clone(&packs), CLUSTER, clock, Arc::new(SystemRandom), health.clone());
        let chunks = Arc::new(Chunks::of(&[10, 5_000], InodeId(9)));
        let uploader = Uploader::new(packs, Arc::clone(&chunks) as _, CLUSTER).with_findings(findings);
        (endpoint, uploader, chunks, health)
    }

    #[tokio::test]
    async fn uploads_wait_for_the_probe_and_it_leaves_nothing() {
        let store = Arc::new(MemoryStore::with_checksums());
        let (endpoint, uploader, chunks, health) = endpoint(&store);
        // A probe that was cut short long ago.
        store.replace(&format!("{CLUSTER}/probe/old/a-b"), "first");
        store.fail_next(Fault::Unreachable);
        store.fail_next(Fault::Unreachable);
        let work = chunks.work("p");
        let upload = tokio::spawn(async move { uploader.upload(&work).await });
        // Not before somebody asks, however long that takes.
        tokio::task::yield_now().await;
        assert!(store.requests().is_empty());
        endpoint.settle().await;
        endpoint.clear().await;
        upload.await.unwrap().unwrap();
        assert!(store.object("p").is_some());
        assert_eq!(health.failure(), "");
        let probes = ListRequest { prefix: format!("{CLUSTER}/"), ..ListRequest::default() };
        assert!(store.list(&probes).await.unwrap().objects.is_empty());
    }

    #[tokio::test]
    async fn a_store_that_overwrites_gets_no_packs_and_says_so() {
        let store = Arc::new(MemoryStore::overwriting());
        let (endpoint, uploader, chunks, health) = endpoint(&store);
        let stop = CancellationToken::new();
        let running = tokio::spawn(endpoint.run(stop.clone()));
        let error = uploader.upload(&chunks.work("p")).await.unwrap_err();
        assert_eq!(error, UploadError::Unfit { store: "memory".to_owned() });
        assert!(error.permanent_here());
        assert_eq!(health.failure(), error.to_string());
        assert_eq!(store.object("p"), None);
        stop.cancel();
        running.await.unwrap();
        // Nobody will find out any more.
        let (endpoint, uploader, chunks, _) = self::endpoint(&store);
        drop(endpoint);
        let error = uploader.upload(&chunks.work("p")).await.unwrap_err();
        assert_eq!(error, UploadError::Store(UnderStoreError::Unreachable));
    }

    #[tokio::test]
    async fn a_checksum_that_was_not_checked_is_not_believed() {
        let (store, chunks) =
            (Arc::new(MemoryStore::with_checksums()), Arc::new(Chunks::of(&[10], InodeId(9))));
        let found = Capabilities { put_if_absent: true, complete_if_absent: true, ..Capabilities::default() };
        let packs = Arc::clone(&store) as Arc<dyn UnderStore>;
        let uploader = Uploader::new(packs, Arc::clone(&chunks) as _, CLUSTER);
        uploader.upload(&chunks.work("p")).await.unwrap();
        assert_eq!(store.gets(), 0);
        let doubtful = uploader.with_findings(Findings::known(found));
        doubtful.upload(&chunks.work("q")).await.unwrap();
        assert_eq!(store.gets(), 1, "read back: {:?}", store.requests());
    }
}
