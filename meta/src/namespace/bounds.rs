//! [`Bounds`]: how much one entry does itself before the rest goes in steps.

use cairn_types::limits::EVENTS_KEPT;

/// What an entry does at once, at most. It is part of the format: servers that apply the same
/// entries under other bounds hold other rows. All servers use the default; tests use less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Extents, and as many writers, that one entry removes. At least 1. Each costs up to eight
    /// rows, when all lie in chunks, and packs, of their own.
    /// Of a removed tree: names.
    pub rows_at_once: usize,
    /// Events that are kept for watchers, at least; up to a few hundred more are.
    pub events_kept: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { rows_at_once: 256, events_kept: EVENTS_KEPT }
    }
}
