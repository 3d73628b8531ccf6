//! Which of the extents that follow on one another are worth merging. Pure.

use std::ops::Range;

use cairn_types::limits::CHUNK_BYTES_MAX;

use crate::namespace::MERGE_EXTENTS_MAX;

/// Extents in a run, at least: each merge is an object and two entries.
pub const EXTENTS_MIN: usize = 16;
/// A run has so many times the bytes of its longest extent, at least.
///
/// That is what bounds the work: whenever a byte is written again, the extent that it lies in is at least
/// eight times as long as before, and none gets longer than a chunk. So a byte is written again
/// log₈(64 MiB / the length it was sealed at) times at most, three times where that was 64 KiB, however long
/// the file grows. Merging whatever is there at each look would write a slow log's bytes again each time. What
/// stays unmerged are some tens of extents of all sizes, in a file that is only appended to.
pub const GROWTH_MIN: u64 = 8;
/// Bytes of an extent, at most: a longer one fits into no run.
pub const EXTENT_BYTES_MAX: u64 = CHUNK_BYTES_MAX / GROWTH_MIN;

/// The runs among extents of these lengths, in their order, none of which is in two.
#[must_use]
pub fn choose(lengths: &[u64]) -> Vec<Range<usize>> {
    let (mut runs, mut start) = (Vec::new(), 0);
    while start < lengths.len() {
        let (mut end, mut bytes) = (start, 0);
        while end < lengths.len()
            && end - start < MERGE_EXTENTS_MAX
            && (end == start || bytes + lengths[end] <= CHUNK_BYTES_MAX)
        {
            bytes += lengths[end];
            end += 1;
        }
        pick(lengths, start..end, &mut runs);
        start = end;
    }
    runs
}

/// All of `window` if that is a run; else what lies between its longest extents, if that is.
fn pick(lengths: &[u64], window: Range<usize>, runs: &mut Vec<Range<usize>>) {
    // The rest, the leftmost last.
    let mut left = vec![window];
    while let Some(part) = left.pop() {
        if part.len() < EXTENTS_MIN {
            continue;
        }
        let most = lengths[part.clone()].iter().sum::<u64>() / GROWTH_MIN;
        let long: Vec<usize> = part.clone().filter(|n| lengths[*n] > most).collect();
        if long.is_empty() {
            runs.push(part);
            continue;
        }
        let mut end = part.end;
        for n in long.into_iter().rev() {
            left.push(n + 1..end);
            end = n;
        }
        left.push(part.start..end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KIB: u64 = 1 << 10;

    fn is_run(lengths: &[u64]) -> bool {
        let (bytes, longest) = (lengths.iter().sum::<u64>(), lengths.iter().max().copied().unwrap_or(0));
        (EXTENTS_MIN..=MERGE_EXTENTS_MAX).contains(&lengths.len())
            && bytes <= CHUNK_BYTES_MAX
            && longest * GROWTH_MIN <= bytes
    }

    /// What merging makes of a file.
    fn merged(lengths: &[u64]) -> Vec<u64> {
        let (mut after, mut at) = (Vec::new(), 0);
        for run in choose(lengths) {
            after.extend_from_slice(&lengths[at..run.start]);
            after.push(lengths[run.clone()].iter().sum());
            at = run.end;
        }
        after.extend_from_slice(&lengths[at..]);
        after
    }

    #[test]
    fn few_extents_and_long_ones_are_left_alone() {
        assert!(choose(&[]).is_empty());
        assert!(choose(&[KIB; 15]).is_empty());
        assert_eq!(choose(&[KIB; 16]), vec![0..16]);
        assert!(choose(&[EXTENT_BYTES_MAX + 1; 100]).is_empty());
        assert!(choose(&[5 << 20; 100]).is_empty(), "a dozen fill a chunk");
        let long = [vec![KIB; 20], vec![60 << 20], vec![KIB; 15]].concat();
        assert_eq!(choose(&long), vec![0..20], "nothing is merged over a long one");
        let tail = [vec![256 * KIB], vec![16 * KIB; 15], vec![KIB; 16]].concat();
        assert_eq!(choose(&tail), vec![1..32], "but small and smaller ones are");
    }

    #[test]
    fn a_long_backlog_is_cut_into_runs_that_fit() {
        let runs = choose(&[KIB; 1300]);
        assert_eq!(runs, vec![0..512, 512..1024, 1024..1300]);
        let runs = choose(&[MIB; 300]);
        assert_eq!(runs, vec![0..64, 64..128, 128..192, 192..256, 256..300]);
    }

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_log_that_grows_slowly_stays_short_and_its_bytes_are_seldom_written_again() {
        let (mut file, mut written): (Vec<u64>, u64) = (Vec::new(), 0);
        let pieces = 200_000;
        let mut most = 0;
        for _ in 0..pieces {
            file.push(4 * KIB);
            loop {
                let runs = choose(&file);
                if runs.is_empty() {
                    break;
                }
                written += runs.into_iter().map(|run| file[run].iter().sum::<u64>()).sum::<u64>();
                file = merged(&file);
            }
            let small = file.iter().filter(|length| **length < EXTENT_BYTES_MAX).count();
            most = most.max(small);
        }
        let bytes = pieces * 4 * KIB;
        assert_eq!(file.iter().sum::<u64>(), bytes);
        assert!(most <= 64, "{most} small extents at a time");
        // 4 KiB times eight to the fourth is 16 MiB; once more is more than a chunk.
        assert!(written <= 4 * bytes, "{written} bytes written of {bytes}");
    }

    fn length() -> impl Strategy<Value = u64> {
        prop_oneof![6 => 1..64 * KIB, 3 => 1..4 * MIB, 1 => 1..CHUNK_BYTES_MAX]
    }

    proptest! {
        #[test]
        fn runs_are_runs_and_nothing_is_left_to_choose(lengths in prop::collection::vec(length(), 0..800)) {
            let runs = choose(&lengths);
            let mut at = 0;
            for run in &runs {
                prop_assert!(run.start >= at && is_run(&lengths[run.clone()]), "{run:?} of {runs:?}");
                at = run.end;
            }
            // Each round makes the file shorter, so that it comes to an end.
            let mut file = lengths.clone();
            for _ in 0..lengths.len() {
                let after = merged(&file);
                prop_assert_eq!(after.iter().sum::<u64>(), lengths.iter().sum::<u64>());
                if after.len() == file.len() {
                    break;
                }
                file = after;
            }
            prop_assert!(choose(&file).is_empty());
        }
    }
}
