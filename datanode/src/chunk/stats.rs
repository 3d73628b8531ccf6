//! [`StoreStats`]: the store's figures.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

/// The store's figures, for status and heartbeats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Bytes that the segments may take.
    pub capacity_bytes: u64,
    /// Bytes of live records: replicas and cache.
    pub used_bytes: u64,
    /// Payload bytes that may not go: unpersisted replicas.
    pub pinned_bytes: u64,
    /// Bytes that it could still take of what may not be evicted, at most.
    pub room_bytes: u64,
    /// Bytes that could be so in all: the reserve is not among them.
    pub usable_bytes: u64,
    /// Bytes that went since the start to make room: blocks of the cache and replicas that are in S3.
    pub evicted_bytes: u64,
    /// Payload bytes of cached blocks.
    pub cached_bytes: u64,
    /// Replicas not sealed.
    pub chunks_open: u64,
    /// Replicas sealed.
    pub chunks_sealed: u64,
    /// Segment files.
    pub segments: u64,
    /// Of them, or still to be made: free.
    pub segments_free: u64,
    /// Completed fdatasyncs.
    pub fsyncs: u64,
    /// Median of the last 1,024 fdatasyncs, in microseconds.
    pub fsync_p50_us: u64,
    /// 99th percentile of them.
    pub fsync_p99_us: u64,
}

const SAMPLES: usize = 1024;

/// Counters that the writer fills.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) used_bytes: AtomicU64,
    pub(crate) segments: AtomicU64,
    pub(crate) segments_free: AtomicU64,
    pub(crate) capacity_bytes: AtomicU64,
    pub(crate) room_bytes: AtomicU64,
    pub(crate) usable_bytes: AtomicU64,
    pub(crate) evicted_bytes: AtomicU64,
    fsyncs: AtomicU64,
    /// Guards the ring of the last durations; held for one store or one copy.
    recent_us: Mutex<Vec<u32>>,
}

impl Counters {
    pub(crate) fn note_fsync(&self, us: u64) {
        let count = self.fsyncs.fetch_add(1, Ordering::Relaxed) as usize;
        let mut recent = self.recent_us.lock().unwrap_or_else(PoisonError::into_inner);
        let us = u32::try_from(us).unwrap_or(u32::MAX);
        match recent.get_mut(count % SAMPLES) {
            Some(slot) => *slot = us,
            None => recent.push(us),
        }
    }

    pub(crate) fn fill(&self, stats: &mut StoreStats) {
        let mut recent = self.recent_us.lock().unwrap_or_else(PoisonError::into_inner).clone();
        recent.sort_unstable();
        let at = |per_mille: usize| {
            recent.get((recent.len().saturating_sub(1)) * per_mille / 1000).copied().unwrap_or(0).into()
        };
        stats.fsyncs = self.fsyncs.load(Ordering::Relaxed);
        stats.fsync_p50_us = at(500);
        stats.fsync_p99_us = at(990);
        stats.used_bytes = self.used_bytes.load(Ordering::Relaxed);
        stats.segments = self.segments.load(Ordering::Relaxed);
        stats.segments_free = self.segments_free.load(Ordering::Relaxed);
        stats.capacity_bytes = self.capacity_bytes.load(Ordering::Relaxed);
        stats.usable_bytes = self.usable_bytes.load(Ordering::Relaxed);
        stats.evicted_bytes = self.evicted_bytes.load(Ordering::Relaxed);
        stats.room_bytes = self.room_bytes.load(Ordering::Relaxed);
    }
}
