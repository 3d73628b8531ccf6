//! [`SlowWork`]: appends and reads that were slow, as this client saw them, in its log: with the trace id
//! under which the data nodes tell of their part.

use std::time::Duration;

use cairn_proto::slow::{Lines, millis};
use tokio::time::Instant;

use crate::trace::TraceId;

/// Tells of what took longer than [`ConnectOptions::slow_operation`](crate::ConnectOptions::slow_operation).
pub(crate) struct SlowWork {
    after: Option<Duration>,
    since: Instant,
    appends: Lines,
    reads: Lines,
}

impl SlowWork {
    pub(crate) fn new(after: Option<Duration>) -> Self {
        Self { after, since: Instant::now(), appends: Lines::new(), reads: Lines::new() }
    }

    fn told(&self, lines: &Lines, since: Instant) -> Option<(u64, u64)> {
        let after = self.after?;
        let now = Instant::now();
        let took = now.saturating_duration_since(since);
        if took <= after {
            return None;
        }
        Some((millis(took), lines.admit(now.saturating_duration_since(self.since))?))
    }

    /// An append that was handed over at `since` is answered.
    pub(crate) fn append(&self, trace: TraceId, since: Instant, bytes: usize, failed: bool) {
        if let Some((took_ms, left_out)) = self.told(&self.appends, since) {
            tracing::warn!(what = "append", bytes, took_ms, %trace, failed, left_out, "slow append");
        }
    }

    /// A piece of a read that began at `since` has come, or cannot be had.
    pub(crate) fn read(&self, trace: TraceId, since: Instant, (offset, length): (u64, u64), failed: bool) {
        if let Some((took_ms, left_out)) = self.told(&self.reads, since) {
            tracing::warn!(what = "read", offset, length, took_ms, %trace, failed, left_out, "slow read");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_longer_is_told_and_nothing_when_that_is_not_wanted() {
        let (slow, none) = (SlowWork::new(Some(Duration::from_secs(3_600))), SlowWork::new(None));
        let since = Instant::now();
        assert_eq!(slow.told(&slow.reads, since), None);
        assert_eq!(none.told(&none.reads, since), None);
        let slow = SlowWork::new(Some(Duration::ZERO));
        while Instant::now() == since {}
        assert!(matches!(slow.told(&slow.reads, since), Some((_, 0))));
    }
}
