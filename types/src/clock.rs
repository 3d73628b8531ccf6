//! [`Clock`]: the seam through which time is reached.

use std::time::Duration;

use crate::Timestamp;

/// Wall time and monotonic time; tests give one they move by hand.
pub trait Clock: Send + Sync + 'static {
    /// Wall time. Never used where safety depends on it.
    fn wall(&self) -> Timestamp;

    /// Time since some fixed point, counted through suspension (CLOCK_BOOTTIME). Leases use it.
    fn boottime(&self) -> Duration;
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn wall(&self) -> Timestamp {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        Timestamp(t.tv_sec.saturating_mul(1_000_000_000).saturating_add(t.tv_nsec))
    }

    fn boottime(&self) -> Duration {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::new(t.tv_sec.unsigned_abs(), t.tv_nsec.unsigned_abs() as u32)
    }
}
