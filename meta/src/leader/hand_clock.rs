//! A clock that tests move by hand.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cairn_types::{Clock, Timestamp};

/// Stands still until it is moved.
#[derive(Debug, Default)]
pub struct HandClock {
    micros: AtomicU64,
}

impl HandClock {
    /// Moves both clocks on.
    pub fn advance(&self, by: Duration) {
        self.micros.fetch_add(by.as_micros() as u64, Ordering::Relaxed);
    }
}

impl Clock for HandClock {
    fn wall(&self) -> Timestamp {
        Timestamp(self.micros.load(Ordering::Relaxed) as i64 * 1000)
    }

    fn boottime(&self) -> Duration {
        Duration::from_micros(self.micros.load(Ordering::Relaxed))
    }
}
