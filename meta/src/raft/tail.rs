//! [`Tail`]: the newest entries of the log in memory, so that replication and apply, which follow
//! close behind the append, neither read nor decode them.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use openraft::EntryPayload;

use super::types::Entry;

/// Bytes kept, at most; the newest entry is always kept.
const BYTES_MAX: usize = 16 << 20;

#[derive(Default)]
struct Entries {
    newest: VecDeque<Entry>,
    bytes: usize,
}

/// The newest entries, consecutive. The lock guards that `newest` has no gaps and that `bytes` is
/// their sum; it is held for a copy of references only.
#[derive(Default)]
pub struct Tail {
    entries: Mutex<Entries>,
}

/// What an entry costs in memory and on the wire, closely enough.
#[must_use]
pub fn size_of(entry: &Entry) -> usize {
    let payload = match &entry.payload {
        EntryPayload::Normal(proposal) => proposal.0.len(),
        _ => 64,
    };
    payload + 64
}

impl Tail {
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds appended entries.
    pub fn push(&self, appended: impl IntoIterator<Item = Entry>) {
        let mut entries = self.lock();
        for entry in appended {
            let follows = entries.newest.back().is_none_or(|e| e.log_id.index + 1 == entry.log_id.index);
            if !follows {
                *entries = Entries::default();
            }
            entries.bytes += size_of(&entry);
            entries.newest.push_back(entry);
        }
        while entries.bytes > BYTES_MAX && entries.newest.len() > 1 {
            let dropped = entries.newest.pop_front().map_or(0, |e| size_of(&e));
            entries.bytes -= dropped;
        }
    }

    /// Drops every entry from `from` on.
    pub fn truncate(&self, from: u64) {
        let mut entries = self.lock();
        while entries.newest.back().is_some_and(|e| e.log_id.index >= from) {
            let dropped = entries.newest.pop_back().map_or(0, |e| size_of(&e));
            entries.bytes -= dropped;
        }
    }

    /// Drops every entry up to `upto`, inclusive.
    pub fn purge(&self, upto: u64) {
        let mut entries = self.lock();
        while entries.newest.front().is_some_and(|e| e.log_id.index <= upto) {
            let dropped = entries.newest.pop_front().map_or(0, |e| size_of(&e));
            entries.bytes -= dropped;
        }
    }

    /// The entries of `range` until their bytes exceed `bytes_max` (at least one), or `None` when
    /// the range's beginning is not here.
    #[must_use]
    pub fn read(&self, range: &Range<u64>, bytes_max: usize) -> Option<Vec<Entry>> {
        let entries = self.lock();
        let first = entries.newest.front()?.log_id.index;
        let skip = usize::try_from(range.start.checked_sub(first)?).ok()?;
        if skip >= entries.newest.len() {
            return None;
        }
        let (mut found, mut bytes) = (Vec::new(), 0);
        for entry in entries.newest.iter().skip(skip).take_while(|e| e.log_id.index < range.end) {
            bytes += size_of(entry);
            if !found.is_empty() && bytes > bytes_max {
                break;
            }
            found.push(entry.clone());
        }
        Some(found)
    }
}
