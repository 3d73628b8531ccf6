//! [`Pace`]: how long reads take, and so when another holder is asked as well.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A read up to this size is small; the others are slower, and are counted apart.
const SMALL_BYTES: u64 = 64 << 10;
/// No read is hedged earlier: a busy machine is late by as much now and then.
const LEAST: Duration = Duration::from_millis(20);
/// What a read is expected to take before any was seen.
const FIRST: Duration = Duration::from_millis(100);
/// A read is hedged when it takes so many times what 19 of 20 do.
const TIMES: u32 = 2;
/// The estimate moves by this part of itself with a read that was slower, and by a nineteenth of that with
/// one that was faster: it rests where one of 20 is slower.
const UP: f64 = 0.095;
const DOWN: f64 = UP / 19.0;
/// Of the reads one in so many may be hedged, and so many in a row.
const READS_PER_HEDGE: u32 = 10;
const HEDGES_IN_A_ROW: u32 = 10;

/// How long reads took lately, by kind. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pace {
    // Guards: an estimate that only decides when a second holder is asked.
    state: Arc<Mutex<State>>,
    hedged: Arc<AtomicU64>,
}

#[derive(Debug)]
struct State {
    /// What 19 of 20 reads take at most, in seconds: small and large, from disk and possibly from S3.
    usual_s: [f64; 4],
    /// Tenths of hedges that are allowed now.
    allowance: u32,
}

impl Default for State {
    fn default() -> Self {
        Self { usual_s: [FIRST.as_secs_f64(); 4], allowance: HEDGES_IN_A_ROW * READS_PER_HEDGE }
    }
}

/// A kind of read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadKind {
    pub(crate) bytes: u64,
    /// Whoever is asked may have to ask S3.
    pub(crate) may_be_in_s3: bool,
}

impl ReadKind {
    fn index(self) -> usize {
        usize::from(self.bytes > SMALL_BYTES) + 2 * usize::from(self.may_be_in_s3)
    }
}

impl Pace {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a holder answered a read in this time.
    pub(crate) fn note(&self, kind: ReadKind, took: Duration) {
        let mut state = self.state();
        state.allowance = (state.allowance + 1).min(HEDGES_IN_A_ROW * READS_PER_HEDGE);
        if let Some(usual_s) = state.usual_s.get_mut(kind.index()) {
            let by = if took.as_secs_f64() > *usual_s { UP } else { -DOWN };
            *usual_s = (*usual_s * (1.0 + by)).clamp(1e-5, 10.0);
        }
    }

    /// After what time without an answer another holder is asked.
    pub(crate) fn patience(&self, kind: ReadKind) -> Duration {
        let usual_s = self.state().usual_s.get(kind.index()).copied().unwrap_or_default();
        (Duration::from_secs_f64(usual_s) * TIMES).max(LEAST)
    }

    /// Takes the right to hedge one read; false when there were too many of late.
    pub(crate) fn may_hedge(&self) -> bool {
        let mut state = self.state();
        let Some(left) = state.allowance.checked_sub(READS_PER_HEDGE) else { return false };
        state.allowance = left;
        self.hedged.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Reads that were hedged.
    pub(crate) fn hedged(&self) -> u64 {
        self.hedged.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: ReadKind = ReadKind { bytes: 4096, may_be_in_s3: false };
    const LARGE: ReadKind = ReadKind { bytes: 4 << 20, may_be_in_s3: true };

    #[test]
    fn the_patience_follows_what_reads_take() {
        let pace = Pace::default();
        assert_eq!(pace.patience(SMALL), FIRST * TIMES);
        for _ in 0..2_000 {
            pace.note(SMALL, Duration::from_micros(300));
        }
        assert_eq!(pace.patience(SMALL), LEAST);
        assert_eq!(pace.patience(LARGE), FIRST * TIMES, "another kind");
        // One of ten takes 80 ms: more than one of 20 is as slow, so that is usual.
        for n in 0..5_000u32 {
            pace.note(LARGE, Duration::from_millis(if n % 10 == 0 { 80 } else { 30 }));
        }
        let patience = pace.patience(LARGE);
        let about = Duration::from_millis(2 * 70)..Duration::from_millis(2 * 95);
        assert!(about.contains(&patience), "{patience:?}");
        // One of fifty does: that is not.
        for n in 0..20_000u32 {
            pace.note(LARGE, Duration::from_millis(if n % 50 == 0 { 80 } else { 30 }));
        }
        let patience = pace.patience(LARGE);
        let about = Duration::from_millis(2 * 26)..Duration::from_millis(2 * 45);
        assert!(about.contains(&patience), "{patience:?}");
    }

    #[test]
    fn hedges_are_bounded() {
        let pace = Pace::default();
        let granted = (0..100).filter(|_| pace.may_hedge()).count();
        assert_eq!(granted, HEDGES_IN_A_ROW as usize);
        for _ in 0..READS_PER_HEDGE * 3 {
            pace.note(SMALL, Duration::from_millis(1));
        }
        let granted = (0..100).filter(|_| pace.may_hedge()).count();
        assert_eq!(granted, 3);
        assert_eq!(pace.hedged(), 13);
    }
}
