//! [`SlowWork`]: what was slow on this node, in the log: one line each with what, on what, how long, and the
//! trace id of the client's operation that it was for.

use std::time::Duration;

use cairn_proto::slow::{Lines, millis};
use cairn_proto::trace::TraceId;
use cairn_types::ChunkId;

/// Tells of appends, records and reads that took longer than configured. Times are the clock's boot time.
#[derive(Debug)]
pub struct SlowWork {
    /// What is told; `None`: nothing.
    after: Option<Duration>,
    appends: Lines,
    records: Lines,
    reads: Lines,
}

/// A piece of work that began, and for whom.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    /// The client's operation; `None`: nobody said.
    pub trace: Option<TraceId>,
    /// When.
    pub since: Duration,
}

impl Begun {
    /// Work that a message asks for, which carries this trace id; 0: none.
    #[must_use]
    pub fn at(since: Duration, trace: u64) -> Self {
        Self { trace: Some(TraceId(trace)).filter(|trace| trace.0 != 0), since }
    }

    fn shown(&self) -> String {
        self.trace.map(|trace| trace.to_string()).unwrap_or_default()
    }
}

impl SlowWork {
    /// Tells of what takes longer than `after`; `None`: of nothing.
    #[must_use]
    pub fn new(after: Option<Duration>) -> Self {
        Self { after, appends: Lines::new(), records: Lines::new(), reads: Lines::new() }
    }

    /// How long it took, when that is to be told, and how many lines were left out before.
    fn told(&self, lines: &Lines, what: &'static str, begun: &Begun, now: Duration) -> Option<(u64, u64)> {
        let took = now.saturating_sub(begun.since);
        if self.after.is_none_or(|after| took <= after) {
            return None;
        }
        metrics::counter!("cairn_data_slow_work_total", "what" => what).increment(1);
        Some((millis(took), lines.admit(now)?))
    }

    /// An append was answered by its primary, which is this node.
    pub fn append(&self, chunk: ChunkId, (writer, sequence): (u64, u64), begun: &Begun, now: Duration) {
        let Some((took_ms, left_out)) = self.told(&self.appends, "append", begun, now) else { return };
        let (chunk, trace) = (chunk.0, begun.shown());
        tracing::warn!(what = "append", chunk, writer, sequence, took_ms, trace, left_out, "slow append");
    }

    /// A primary's record is durable here, or refused.
    pub fn record(&self, chunk: ChunkId, offset: u64, begun: &Begun, now: Duration) {
        let Some((took_ms, left_out)) = self.told(&self.records, "record", begun, now) else { return };
        let (chunk, trace) = (chunk.0, begun.shown());
        tracing::warn!(what = "record", chunk, offset, took_ms, trace, left_out, "slow record of a replica");
    }

    /// A piece of a read is there, or cannot be had. `of` is a chunk's number, or an object's key.
    pub fn read(
        &self,
        of: impl FnOnce() -> String,
        (offset, length): (u64, usize),
        begun: &Begun,
        now: Duration,
    ) {
        let Some((took_ms, left_out)) = self.told(&self.reads, "read", begun, now) else { return };
        let (of, trace) = (of(), begun.shown());
        tracing::warn!(what = "read", of, offset, length, took_ms, trace, left_out, "slow read");
    }
}
