//! [`Figures`]: what scrubs and repairs found and did since the node's start.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cairn_types::{ChunkId, DiskId};

use super::repair::{Outcome, Unrepaired};
use crate::chunk::Examined;

/// Replicas that could not be repaired and are remembered by name, at most.
const UNREPAIRED_MAX: usize = 4096;

/// The figures, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Bytes that scrubs read.
    pub bytes: u64,
    /// Records that scrubs read.
    pub records: u64,
    /// Bad records found, by scrubs and readers: each at each time it was looked at.
    pub damaged: u64,
    /// Of them, those that were put right.
    pub repaired: u64,
    /// Times that a bad replica could not be repaired.
    pub unrepairable: u64,
    /// Passes that came to their end.
    pub passes: u64,
    /// What the last one took, in milliseconds.
    pub pass_ms: u64,
    /// Replicas here that are bad and could not be repaired so far.
    pub damaged_replicas: u64,
}

/// Counts what is found and done.
#[derive(Debug, Default)]
pub struct Figures {
    /// The disk, as the metrics name it.
    disk: String,
    bytes: AtomicU64,
    records: AtomicU64,
    damaged: AtomicU64,
    repaired: AtomicU64,
    unrepairable: AtomicU64,
    passes: AtomicU64,
    pass_ms: AtomicU64,
    /// Guards which replicas are bad; held for one change.
    unrepaired: Mutex<BTreeSet<ChunkId>>,
}

impl Figures {
    /// Those of `disk`.
    #[must_use]
    pub fn of(disk: DiskId) -> Self {
        Self { disk: disk.to_string(), ..Self::default() }
    }

    fn add(&self, counter: &AtomicU64, name: &'static str, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
        metrics::counter!(name, "disk" => self.disk.clone()).increment(count);
    }

    pub(super) fn note_examined(&self, examined: &Examined) {
        self.add(&self.bytes, "cairn_data_scrub_bytes_total", examined.bytes);
        self.add(&self.records, "cairn_data_scrub_records_total", examined.records);
        // Blocks are dropped and states written again on the spot; chunks are counted as they are seen to.
        let put_right = examined.blocks + examined.states;
        self.add(&self.damaged, "cairn_data_scrub_damaged_total", put_right);
        self.add(&self.repaired, "cairn_data_scrub_repaired_total", put_right);
    }

    pub(super) fn note_frames(&self, bad: u64, mended: u64) {
        self.add(&self.damaged, "cairn_data_scrub_damaged_total", bad);
        self.add(&self.repaired, "cairn_data_scrub_repaired_total", mended);
        self.add(&self.unrepairable, "cairn_data_scrub_unrepairable_total", bad.saturating_sub(mended));
    }

    pub(super) fn note_pass(&self, took: Duration) {
        self.passes.fetch_add(1, Ordering::Relaxed);
        self.pass_ms.store(u64::try_from(took.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        metrics::gauge!("cairn_data_scrub_pass_seconds", "disk" => self.disk.clone()).set(took.as_secs_f64());
    }

    pub(super) fn note_repair(&self, chunk: ChunkId, outcome: &Result<Outcome, Unrepaired>) {
        let mut unrepaired = self.unrepaired.lock().unwrap_or_else(PoisonError::into_inner);
        let (found, put_right) = match outcome {
            Ok(Outcome::Repaired { records } | Outcome::Dropped { records }) => (*records, *records),
            Ok(Outcome::Sealing) => (1, 0),
            Ok(Outcome::Sound | Outcome::Gone) => (0, 0),
            Err(unrepaired) => (unrepaired.records, unrepaired.repaired),
        };
        self.add(&self.damaged, "cairn_data_scrub_damaged_total", found);
        self.add(&self.repaired, "cairn_data_scrub_repaired_total", put_right);
        if outcome.is_err() {
            self.add(&self.unrepairable, "cairn_data_scrub_unrepairable_total", 1);
            if unrepaired.len() < UNREPAIRED_MAX {
                unrepaired.insert(chunk);
            }
        } else {
            unrepaired.remove(&chunk);
        }
        metrics::gauge!("cairn_data_damaged_replicas", "disk" => self.disk.clone())
            .set(unrepaired.len() as f64);
    }

    /// The replicas that are bad and could not be repaired so far, in order.
    #[must_use]
    pub fn unrepaired(&self) -> Vec<ChunkId> {
        self.unrepaired.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    /// The figures now.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Summary {
            bytes: of(&self.bytes),
            records: of(&self.records),
            damaged: of(&self.damaged),
            repaired: of(&self.repaired),
            unrepairable: of(&self.unrepairable),
            passes: of(&self.passes),
            pass_ms: of(&self.pass_ms),
            damaged_replicas: self.unrepaired.lock().unwrap_or_else(PoisonError::into_inner).len() as u64,
        }
    }
}
