//! [`Waters`]: when segments are emptied; and how much appends are slowed when little can be had.

use std::time::Duration;

use crate::segments::Privilege;

/// How long an acknowledgement is held back when nothing is left, at most.
const PAUSE_MAX: Duration = Duration::from_millis(20);
/// Appends are slowed once less than this part of the space is left.
const SLOW_PART: u64 = 8;
/// Free segments without which appends would soon be refused, between these two.
const LOW_SEGMENTS: (u32, u32) = (4, 6);

/// How full a disk may be, in percent of its segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// Above this, what is in S3 too goes, in the background.
    pub high_percent: u8,
    /// Down to this.
    pub low_percent: u8,
}

impl Default for Fill {
    fn default() -> Self {
        Self { high_percent: 90, low_percent: 85 }
    }
}

/// Free segments below which emptying begins, and from which on it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waters {
    pub(crate) begin: u32,
    pub(crate) stop: u32,
}

impl Waters {
    /// Those of a disk with so many segments: a small one keeps what the reserve takes.
    pub(crate) fn of(segments_max: u32, fill: Fill) -> Self {
        let (least, most) = LOW_SEGMENTS;
        let free = |percent: u8| {
            let free = u64::from(segments_max) * u64::from(100u8.saturating_sub(percent)) / 100;
            u32::try_from(free).unwrap_or(u32::MAX)
        };
        let begin = free(fill.high_percent).max((segments_max / 8).clamp(least, most));
        Self { begin, stop: free(fill.low_percent).max(begin) }
    }
}

/// Bytes that all segments together can hold of what may not go: the reserve is for others.
pub(crate) fn usable_bytes(segments_max: u32, segment_capacity_bytes: u64) -> u64 {
    u64::from(segments_max.saturating_sub(Privilege::Append.leaves() + 1)) * segment_capacity_bytes
}

/// How long an acknowledgement is held back when `room_bytes` of `usable_bytes` are left: not at all above an
/// eighth, then more and more, so that writers feel the end before they are refused.
pub(crate) fn pause(room_bytes: u64, usable_bytes: u64) -> Duration {
    let zone = (usable_bytes / SLOW_PART).max(1);
    if room_bytes >= zone {
        return Duration::ZERO;
    }
    let short = 1.0 - room_bytes as f64 / zone as f64;
    PAUSE_MAX.mul_f64(short * short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_disk_keeps_percents_and_a_small_one_its_reserve() {
        let fill = Fill::default();
        assert_eq!(Waters::of(1000, fill), Waters { begin: 100, stop: 150 });
        assert_eq!(Waters::of(10, fill), Waters { begin: 4, stop: 4 });
        assert_eq!(Waters::of(50, fill), Waters { begin: 6, stop: 7 });
        let tight = Fill { high_percent: 99, low_percent: 98 };
        assert_eq!(Waters::of(1000, tight), Waters { begin: 10, stop: 20 });
    }

    #[test]
    fn appends_are_slowed_more_and_more_and_never_without_bound() {
        let mut last = Duration::ZERO;
        assert_eq!(pause(1 << 30, 8 << 30), last);
        for room in (0..64u64).rev().map(|n| n << 24) {
            let now = pause(room, 8 << 30);
            assert!(now >= last && now <= PAUSE_MAX, "{room}: {now:?}");
            last = now;
        }
        assert_eq!(last, PAUSE_MAX);
        assert_eq!(pause(0, 0), PAUSE_MAX);
    }
}
