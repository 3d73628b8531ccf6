//! When a file of a mount whose object is not as it is to be is written there. Pure.

use std::collections::HashMap;
use std::time::Duration;

use cairn_types::{ChunkId, InodeId, Timestamp};

use crate::leader::first_seen::Now;

/// How long a file without an open tail must have been left alone: what is written in many steps is not put
/// at each of them.
pub const QUIET_MS: u64 = 1_000;
/// Files that are remembered for each mount, at most; of the rest the wall clock alone tells the age.
const FILES_MAX: usize = 65_536;

/// How long ago a file's object ceased to be as it is to be, and how long ago the file changed last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ages {
    /// Since it is pending, or this leader last had it written, whichever is less.
    pub pending_ms: u64,
    /// Since it changed.
    pub quiet_ms: u64,
}

/// What is to be done about a pending file now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Its object is written.
    Now,
    /// It waited for the mount's object lag, and its bytes are in an open tail: that is closed first.
    Close(ChunkId),
    /// It is looked at again.
    Later,
}

/// What is to be done about a file with that open `tail`, of which this leader closed the tail `closed` since
/// it is pending.
#[must_use]
pub fn due(ages: Ages, tail: Option<ChunkId>, closed: Option<ChunkId>, object_lag_ms: u64) -> Due {
    let late = ages.pending_ms >= object_lag_ms;
    match tail {
        None if late || ages.quiet_ms >= QUIET_MS => Due::Now,
        // A writer goes on in another tail already: what was in the one before is written.
        Some(tail) if late && closed.is_some_and(|closed| closed != tail) => Due::Now,
        Some(tail) if late => Due::Close(tail),
        _ => Due::Later,
    }
}

/// What a leader remembers of a pending file.
#[derive(Clone, Copy, Debug)]
struct Known {
    since: Timestamp,
    since_seen: Duration,
    changed: Timestamp,
    changed_seen: Duration,
    /// When it was last had written.
    made: Option<Duration>,
    closed: Option<ChunkId>,
    /// The pass in which it was last seen.
    pass: u64,
}

/// The pending files of a mount, as this leader saw them. Forgotten with the tenure, which costs a wait.
#[derive(Debug, Default)]
pub struct Seen {
    files: HashMap<InodeId, Known>,
    pass: u64,
}

impl Seen {
    /// Takes in a file that is pending `since` and was `changed` last. Times in the state come from the clocks
    /// of all leaders there were: one that was far ahead keeps nothing young for longer than it is known for.
    pub fn ages(&mut self, ino: InodeId, since: Timestamp, changed: Timestamp, now: Now) -> Ages {
        let room = self.files.len() < FILES_MAX;
        let pass = self.pass;
        let fresh = Known {
            since,
            since_seen: now.boot,
            changed,
            changed_seen: now.boot,
            made: None,
            closed: None,
            pass,
        };
        let mut unremembered = fresh;
        let known = match room || self.files.contains_key(&ino) {
            true => self.files.entry(ino).or_insert(fresh),
            false => &mut unremembered,
        };
        known.pass = pass;
        if known.since != since {
            (known.since, known.since_seen, known.closed) = (since, now.boot, None);
        }
        if known.changed != changed {
            (known.changed, known.changed_seen) = (changed, now.boot);
        }
        let for_ms = |seen: Duration| now.boot.saturating_sub(seen);
        let pending_ms = now.age_ms(since, for_ms(known.since_seen));
        let quiet_ms = now.age_ms(changed, for_ms(known.changed_seen));
        let made_ms =
            known.made.map_or(u64::MAX, |at| u64::try_from(for_ms(at).as_millis()).unwrap_or(u64::MAX));
        Ages { pending_ms: pending_ms.min(made_ms), quiet_ms }
    }

    /// The tail of the file that was closed since it is pending.
    #[must_use]
    pub fn closed(&self, ino: InodeId) -> Option<ChunkId> {
        self.files.get(&ino).and_then(|known| known.closed)
    }

    /// The file's tail was closed.
    pub fn close(&mut self, ino: InodeId, tail: ChunkId) {
        if let Some(known) = self.files.get_mut(&ino) {
            known.closed = Some(tail);
        }
    }

    /// The file's object is being written. One that is changed all the time is so once in an object lag.
    pub fn make(&mut self, ino: InodeId, now: Duration) {
        if let Some(known) = self.files.get_mut(&ino) {
            (known.made, known.closed) = (Some(now), None);
        }
    }

    /// All files were looked at once: those that were not seen for a whole pass are forgotten.
    pub fn passed(&mut self) {
        let pass = self.pass;
        self.files.retain(|_, known| known.pass >= pass);
        self.pass += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAG_MS: u64 = 30_000;
    const FILE: InodeId = InodeId(7);
    const TAIL: ChunkId = ChunkId(1);

    fn ages(pending_ms: u64, quiet_ms: u64) -> Ages {
        Ages { pending_ms, quiet_ms }
    }

    #[test]
    fn a_file_is_written_when_it_is_left_alone_or_has_waited_for_the_object_lag() {
        let closed_file = |pending_ms, quiet_ms| due(ages(pending_ms, quiet_ms), None, None, LAG_MS);
        assert_eq!(closed_file(999, 999), Due::Later);
        assert_eq!(closed_file(1_000, 1_000), Due::Now);
        assert_eq!(closed_file(29_999, 10), Due::Later, "it is being changed");
        assert_eq!(closed_file(30_000, 10), Due::Now);
        let growing = |pending_ms, closed| due(ages(pending_ms, 5_000), Some(TAIL), closed, LAG_MS);
        assert_eq!(growing(29_999, None), Due::Later, "an open tail may grow");
        assert_eq!(growing(30_000, None), Due::Close(TAIL));
        assert_eq!(growing(30_500, Some(TAIL)), Due::Close(TAIL), "it is being closed");
        assert_eq!(growing(30_500, Some(ChunkId(9))), Due::Now, "the writer is in the next one");
    }

    fn at(wall_ms: i64, boot_ms: u64) -> Now {
        Now { wall: Timestamp(wall_ms * 1_000_000), boot: Duration::from_millis(boot_ms) }
    }

    fn ms(ms: i64) -> Timestamp {
        Timestamp(ms * 1_000_000)
    }

    #[test]
    fn ages_are_by_the_wall_clock_or_by_how_long_it_is_known() {
        let mut seen = Seen::default();
        assert_eq!(seen.ages(FILE, ms(100), ms(400), at(1_000, 0)), ages(900, 600));
        // Stamped by a leader whose clock was far ahead.
        assert_eq!(seen.ages(FILE, ms(100), ms(9_000), at(1_100, 100)), ages(1_000, 0));
        assert_eq!(seen.ages(FILE, ms(100), ms(9_000), at(2_100, 1_100)), ages(2_000, 1_000));
    }

    #[test]
    fn a_file_that_is_changed_all_the_time_is_written_once_in_a_lag() {
        let mut seen = Seen::default();
        seen.ages(FILE, ms(0), ms(0), at(40_000, 0));
        seen.close(FILE, TAIL);
        seen.make(FILE, Duration::ZERO);
        assert_eq!(seen.closed(FILE), None, "the next tail is closed again");
        assert_eq!(seen.ages(FILE, ms(0), ms(39_990), at(40_010, 10)).pending_ms, 10);
        assert_eq!(seen.ages(FILE, ms(0), ms(69_990), at(70_000, 30_000)).pending_ms, 30_000);
    }

    #[test]
    fn what_is_no_longer_pending_is_forgotten_after_a_pass_and_there_is_a_bound() {
        let mut seen = Seen::default();
        seen.ages(FILE, ms(0), ms(0), at(0, 0));
        seen.close(FILE, TAIL);
        seen.passed();
        assert_eq!(seen.closed(FILE), Some(TAIL));
        seen.passed();
        assert_eq!(seen.closed(FILE), None);
        for ino in 0..FILES_MAX as u64 + 10 {
            seen.ages(InodeId(ino), ms(0), ms(0), at(0, 0));
        }
        assert_eq!(seen.files.len(), FILES_MAX);
        let beyond = InodeId(FILES_MAX as u64 + 5);
        assert_eq!(seen.ages(beyond, ms(0), ms(0), at(2_000, 500)), ages(2_000, 2_000));
    }
}
