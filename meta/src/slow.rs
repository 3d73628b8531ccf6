//! What was slow, in the log: one line each with what, on what, how long, and for whom.

use std::time::Duration;

use cairn_proto::WireError;
pub use cairn_proto::slow::{Lines, millis};
use cairn_types::{Clock, SystemClock};

use crate::trace;

/// An fsync, a batch of entries applied, or a read of the state that takes longer is told.
pub const SLOW_IO: Duration = Duration::from_millis(50);

/// Runs a read of the state's store and tells when it was slow. `what` is the call, `on` the table.
pub fn store_read<T>(what: &'static str, on: &'static str, read: impl FnOnce() -> T) -> T {
    static LINES: Lines = Lines::new();
    let begun = SystemClock.boottime();
    let answer = read();
    let now = SystemClock.boottime();
    let took = now.saturating_sub(begun);
    if took > SLOW_IO {
        metrics::counter!("cairn_meta_slow_store_reads_total", "call" => what).increment(1);
        if let Some(left_out) = LINES.admit(now) {
            let (about, trace) = (trace::about(), trace::shown());
            let (took_ms, session, sequence) = (millis(took), about.session, about.sequence);
            tracing::warn!(what, on, took_ms, trace, session, sequence, left_out, "slow read of the state");
        }
    }
    answer
}

/// Tells of requests that took longer than configured.
#[derive(Debug)]
pub struct SlowRequests {
    /// What is told; `None`: nothing.
    pub after: Option<Duration>,
    lines: Lines,
}

impl SlowRequests {
    /// Those that take longer than `after`.
    #[must_use]
    pub fn new(after: Option<Duration>) -> Self {
        Self { after, lines: Lines::new() }
    }

    /// Tells of the request that this task works for, if it was slow. `now` is by the boot clock.
    pub fn ended(&self, verb: &'static str, took: Duration, now: Duration, refused: Option<&WireError>) {
        if self.after.is_none_or(|after| took <= after) {
            return;
        }
        metrics::counter!("cairn_meta_slow_requests_total", "verb" => verb).increment(1);
        let Some(left_out) = self.lines.admit(now) else { return };
        let (about, trace) = (trace::about(), trace::shown());
        let (took_ms, session, sequence, ino) = (millis(took), about.session, about.sequence, about.ino);
        let path = String::from_utf8_lossy(&about.path);
        let refused = refused.map(ToString::to_string).unwrap_or_default();
        tracing::warn!(
            what = verb,
            ino,
            %path,
            took_ms,
            trace,
            session,
            sequence,
            refused,
            left_out,
            "slow request"
        );
    }
}
