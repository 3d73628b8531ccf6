//! [`Heat`]: how often a thing was asked for, where asking again at once counts once.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// Hits that are counted, at most.
const HITS_MAX: u8 = 3;
/// Bytes that must have been written between two hits that count: a part of what may go, at most. A
/// reader in order asks for a block many times, and blocks are fetched ahead of it.
const SPACING_PART: u64 = 64;
const SPACING_KIB_MAX: u64 = 64 << 10;

/// The store's own time: what has been written to it, in KiB.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    kib: AtomicU32,
    /// Bytes below a KiB. The writer's thread alone changes it.
    rest: AtomicU32,
    spacing_kib: AtomicU32,
}

impl Pulse {
    /// So many bytes were written. On the writer's thread only.
    pub(crate) fn beat(&self, bytes: u64) {
        let all = u64::from(self.rest.load(Ordering::Relaxed)) + bytes;
        self.rest.store((all % 1024) as u32, Ordering::Relaxed);
        self.kib.fetch_add((all / 1024) as u32, Ordering::Relaxed);
    }

    /// Things of so many bytes may go.
    pub(crate) fn set_spacing(&self, bytes: u64) {
        let kib = (bytes / SPACING_PART / 1024).clamp(1, SPACING_KIB_MAX);
        self.spacing_kib.store(kib as u32, Ordering::Relaxed);
    }
}

/// How often a thing was asked for of late.
#[derive(Debug, Default)]
pub(crate) struct Heat {
    hits: AtomicU8,
    /// The pulse at the last hit that counted, or at the beginning.
    counted_kib: AtomicU32,
}

impl Heat {
    /// Of a thing that has just been put.
    pub(crate) fn new(pulse: &Pulse) -> Self {
        let counted_kib = AtomicU32::new(pulse.kib.load(Ordering::Relaxed));
        Self { hits: AtomicU8::new(0), counted_kib }
    }

    /// It was asked for. Two at the same moment may count once or twice.
    pub(crate) fn note(&self, pulse: &Pulse) {
        let now = pulse.kib.load(Ordering::Relaxed);
        let since = now.wrapping_sub(self.counted_kib.load(Ordering::Relaxed));
        if since < pulse.spacing_kib.load(Ordering::Relaxed).max(1) {
            return;
        }
        self.counted_kib.store(now, Ordering::Relaxed);
        let hits = self.hits.load(Ordering::Relaxed);
        self.hits.store((hits + 1).min(HITS_MAX), Ordering::Relaxed);
    }

    /// Hits that count, since it was last cooled.
    pub(crate) fn hits(&self) -> u8 {
        self.hits.load(Ordering::Relaxed)
    }

    /// Sets the count.
    pub(crate) fn cool(&self, hits: u8) {
        self.hits.store(hits, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_in_order_counts_once_and_one_who_comes_back_again() {
        let pulse = Pulse::default();
        pulse.set_spacing(64 << 20);
        let heat = Heat::new(&pulse);
        for _ in 0..256 {
            heat.note(&pulse);
            pulse.beat(2000);
        }
        assert_eq!(heat.hits(), 0, "500 KiB are no distance");
        for n in 1..6 {
            pulse.beat(1 << 20);
            heat.note(&pulse);
            heat.note(&pulse);
            assert_eq!(heat.hits(), n.min(3));
        }
        heat.cool(1);
        assert_eq!(heat.hits(), 1);
    }
}
