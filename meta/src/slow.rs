//! What was slow, in the log: one line each with what, on what, how long, and for whom. A disk that
//! stands still would fill the log: of each kind there are so many lines in a second and no more, and the
//! next line says how many were left out.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cairn_proto::WireError;
use cairn_types::{Clock, SystemClock};

use crate::trace;

/// An fsync, a batch of entries applied, or a read of the state that takes longer is told.
pub const SLOW_IO: Duration = Duration::from_millis(50);
/// Lines of one kind in a second, at most.
const LINES_MAX: u32 = 5;
const SECOND: Duration = Duration::from_secs(1);

/// The lines of one kind.
#[derive(Debug)]
pub struct Lines {
    // Guards: that the counts belong to the second that began then. Never held across an await.
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    began: Option<Duration>,
    lines: u32,
    left_out: u64,
}

impl Lines {
    /// None yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { window: Mutex::new(Window { began: None, lines: 0, left_out: 0 }) }
    }

    /// Whether there may be a line at `now` by the boot clock: as many as were left out before it.
    #[must_use]
    pub fn admit(&self, now: Duration) -> Option<u64> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = window.began.is_none_or(|began| now.saturating_sub(began) >= SECOND);
        if is_over {
            (window.began, window.lines) = (Some(now), 0);
        }
        if window.lines >= LINES_MAX {
            window.left_out += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.left_out))
    }
}

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

/// Whole milliseconds.
#[must_use]
pub fn millis(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_lines_a_second_and_what_was_left_out_is_told() {
        let lines = Lines::new();
        let at = Duration::from_millis;
        let told: Vec<_> = (0..20).map(|n| lines.admit(at(10_000 + n * 10))).collect();
        assert_eq!(told.iter().flatten().count(), LINES_MAX as usize);
        assert!(told[..LINES_MAX as usize].iter().all(|told| *told == Some(0)));
        assert_eq!(lines.admit(at(10_999)), None, "the second is not over");
        assert_eq!(lines.admit(at(11_000)), Some(16), "as many as were left out");
        assert_eq!(lines.admit(at(11_001)), Some(0));
    }
}
