//! What waits to be collected, as the state tells it; and the door through which an operator hastens it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::sparse;
use super::survey::{Amount, each_waiting};
use crate::keys::RowFault;
use crate::keys::intents::Work;
use crate::keys::queues::Queue;
use crate::namespace::jobs;
use crate::store::Rows;

/// Rows read in one step.
const PAGE: usize = 1024;

/// One survey at a time, and whether somebody waits for a compaction, or for merges.
#[derive(Debug)]
pub struct Gc {
    turn: Arc<Semaphore>,
    hastened: AtomicBool,
    merges_hastened: AtomicBool,
}

impl Default for Gc {
    fn default() -> Self {
        let (hastened, merges_hastened) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { turn: Arc::new(Semaphore::new(1)), hastened, merges_hastened }
    }
}

impl Gc {
    /// The turn to look at everything; `None` while another one has it.
    #[must_use]
    pub fn begin(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.turn).try_acquire_owned().ok()
    }

    /// Sparse packs, and small extents, are to be looked for at once.
    pub fn hasten(&self) {
        self.hastened.store(true, Ordering::Relaxed);
        self.merges_hastened.store(true, Ordering::Relaxed);
    }

    /// True once after each [`Self::hasten`], for who looks for sparse packs.
    pub fn take_hastened(&self) -> bool {
        self.hastened.swap(false, Ordering::Relaxed)
    }

    /// True once after each [`Self::hasten`], for who looks for small extents.
    pub fn take_merges_hastened(&self) -> bool {
        self.merges_hastened.swap(false, Ordering::Relaxed)
    }
}

/// What waits to be collected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Dead chunks, each by the bytes of one copy.
    pub dead_chunks: Amount,
    /// Their copies.
    pub dead_replicas: u64,
    /// Those of them that an upload has.
    pub dead_in_upload: u64,
    /// Copies on nodes that are no holders.
    pub surplus: Amount,
    /// Packs without a live chunk, until they are gone from the under-store.
    pub dead_packs: Amount,
    /// Packs that are worth compacting.
    pub sparse: Amount,
    /// Bytes of their chunks that are alive.
    pub sparse_live_bytes: u64,
    /// Compactions under way.
    pub compactions: u64,
    /// Merges of small extents under way.
    pub merges: u64,
    /// Unlinked files whose rows are not all gone.
    pub unlinked: u64,
    /// Contents that files were cut off from, whose extents are not all gone.
    pub contents: u64,
    /// Removed trees whose names are not all gone.
    pub trees: u64,
}

impl Waiting {
    /// All that waits in `state`; packs are sparse below `percent`.
    ///
    /// # Errors
    /// A fault of the store.
    pub fn read(state: &dyn Rows, percent: u32) -> Result<Self, RowFault> {
        let mut waiting = Self::default();
        each_waiting(state, Queue::Garbage, |record| {
            waiting.dead_chunks.add(record.sealed_length().unwrap_or(0));
            waiting.dead_replicas += record.replicas.len() as u64;
            waiting.dead_in_upload += u64::from(record.upload.is_some());
        })?;
        each_waiting(state, Queue::Surplus, |record| {
            for _ in record.replicas.iter().filter(|r| !record.is_holder(r.node)) {
                waiting.surplus.add(record.sealed_length().unwrap_or(0));
            }
        })?;
        waiting.packs(state)?;
        for sparse in sparse::find(state, percent, usize::MAX, &|_| false)? {
            waiting.sparse.add(sparse.bytes);
            waiting.sparse_live_bytes += sparse.live_length;
        }
        waiting.rows(state)?;
        Ok(waiting)
    }

    fn packs(&mut self, state: &dyn Rows) -> Result<(), RowFault> {
        let mut after = cairn_types::PackId(0);
        while let page = jobs::packs_after(state, after, PAGE)?
            && let Some(last) = page.last()
        {
            after = last.pack;
            page.iter().filter(|p| p.live_chunks == 0).for_each(|p| self.dead_packs.add(p.bytes));
        }
        let mut after = None;
        while let page = jobs::intents(state, after, PAGE)?
            && let Some(last) = page.last()
        {
            after = Some(last.intent);
            for intent in &page {
                match &intent.work {
                    Work::Compact { .. } => self.compactions += 1,
                    Work::Merge { .. } => self.merges += 1,
                    // What an upload that was given up may have left: nobody knows how large it is.
                    Work::DeletePack { pack, .. } if jobs::pack(state, *pack)?.is_none() => {
                        self.dead_packs.add(0);
                    }
                    Work::DeletePack { .. }
                    | Work::Upload { .. }
                    | Work::Import { .. }
                    | Work::PutObject { .. }
                    | Work::DeleteObject { .. }
                    | Work::ProbeMount { .. } => {}
                }
            }
        }
        Ok(())
    }

    fn rows(&mut self, state: &dyn Rows) -> Result<(), RowFault> {
        let mut after = None;
        while let page = jobs::orphans(state, after, PAGE)?
            && let Some(last) = page.last()
        {
            after = Some(*last);
            self.unlinked += page.len() as u64;
        }
        let mut after = None;
        while let page = jobs::detached(state, after, PAGE)?
            && let Some(last) = page.last()
        {
            after = Some(*last);
            self.contents += page.len() as u64;
        }
        self.trees = jobs::tree_counts(state)?.pending;
        Ok(())
    }
}
