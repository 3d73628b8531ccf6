//! [`Look`]: the rows that one turn of a job looks at. Half of them are the oldest; the other half
//! go on where the last turn stopped, round and round. So the oldest come first, and rows that
//! nothing can be done about do not hide those behind them.

use std::ops::{Bound, RangeBounds};

/// The rows of one turn, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look<T, K> {
    /// The oldest, then those from where the last turn stopped.
    pub rows: Vec<T>,
    /// Where the next turn goes on; `None`: right behind the oldest.
    pub next: Option<K>,
    /// What was read: after the first key, up to the second; `None` has no bound on that side.
    covered: [(Option<K>, Option<K>); 2],
}

impl<T, K: Copy + Ord> Look<T, K> {
    /// Reads a turn's rows, `limit` at most (2 at least), where the last turn left `after`.
    /// `page` reads rows after a key, in the order of their keys.
    ///
    /// # Errors
    /// What `page` answers.
    pub fn take<E>(
        after: Option<K>,
        limit: usize,
        key: impl Fn(&T) -> K,
        page: impl Fn(Option<K>, usize) -> Result<Vec<T>, E>,
    ) -> Result<Self, E> {
        debug_assert!(limit >= 2, "both halves have a row");
        let (oldest, further) = (limit - limit / 2, limit / 2);
        let mut rows = page(None, oldest)?;
        let end = match rows.last() {
            Some(last) if rows.len() == oldest => key(last),
            _ => return Ok(Self { rows, next: None, covered: [(None, None); 2] }),
        };
        let from = after.map_or(end, |after| after.max(end));
        let more = page(Some(from), further)?;
        let next = more.last().filter(|_| more.len() == further).map(&key);
        rows.extend(more);
        Ok(Self { rows, next, covered: [(None, Some(end)), (Some(from), next)] })
    }

    /// The ranges of keys that were read whole.
    #[must_use]
    pub fn ranges(&self) -> [(Bound<K>, Bound<K>); 2] {
        let after = |key: Option<K>| key.map_or(Bound::Unbounded, Bound::Excluded);
        let until = |key: Option<K>| key.map_or(Bound::Unbounded, Bound::Included);
        self.covered.map(|(first, last)| (after(first), until(last)))
    }

    /// True when a row with this key would have been seen: one that is not among the rows is gone.
    #[must_use]
    pub fn covers(&self, key: K) -> bool {
        self.ranges().iter().any(|range| range.contains(&key))
    }

    /// The same look with what `change` makes of its rows.
    ///
    /// # Errors
    /// The first that `change` answers.
    pub fn try_filter_map<U, E>(
        self,
        change: impl FnMut(T) -> Option<Result<U, E>>,
    ) -> Result<Look<U, K>, E> {
        let Self { rows, next, covered } = self;
        let rows = rows.into_iter().filter_map(change).collect::<Result<Vec<U>, E>>()?;
        Ok(Look { rows, next, covered })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::convert::Infallible;

    fn look(queue: &BTreeSet<u32>, after: Option<u32>, limit: usize) -> Look<u32, u32> {
        let page = |after: Option<u32>, limit: usize| {
            let rows = queue.iter().copied().filter(|k| after.is_none_or(|a| *k > a));
            Ok::<_, Infallible>(rows.take(limit).collect::<Vec<u32>>())
        };
        Look::take(after, limit, |k: &u32| *k, page).expect("it cannot fail")
    }

    #[test]
    fn a_queue_that_fits_is_seen_whole_each_turn() {
        let queue: BTreeSet<u32> = (1..=9).collect();
        for after in [None, Some(3)] {
            let seen = look(&queue, after, 20);
            assert_eq!(seen.rows, (1..=9).collect::<Vec<_>>());
            assert_eq!(seen.next, None);
            assert!(seen.covers(0) && seen.covers(5) && seen.covers(1000));
        }
    }

    #[test]
    fn the_oldest_come_first_and_each_turn_goes_on_behind_the_last_one() {
        let queue: BTreeSet<u32> = (1..=9).collect();
        let first = look(&queue, None, 4);
        assert_eq!((first.rows.as_slice(), first.next), (&[1, 2, 3, 4][..], Some(4)));
        let second = look(&queue, first.next, 4);
        assert_eq!((second.rows.as_slice(), second.next), (&[1, 2, 5, 6][..], Some(6)));
        assert!(second.covers(2) && second.covers(5) && second.covers(6));
        assert!(!second.covers(3) && !second.covers(4) && !second.covers(7));
        let third = look(&queue, second.next, 4);
        assert_eq!((third.rows.as_slice(), third.next), (&[1, 2, 7, 8][..], Some(8)));
        let fourth = look(&queue, third.next, 4);
        assert_eq!((fourth.rows.as_slice(), fourth.next), (&[1, 2, 9][..], None));
        assert!(fourth.covers(100), "the queue was read to its end");
    }

    #[test]
    fn rows_that_never_go_hide_none_of_those_behind_them() {
        const PER_TURN: usize = 8;
        // The first thousand are stuck; what comes behind them goes once it is seen.
        let mut queue: BTreeSet<u32> = (1..=1500).collect();
        let (mut after, mut turns) = (None, 0);
        while queue.len() > 1000 {
            let seen = look(&queue, after, PER_TURN);
            for row in seen.rows.iter().filter(|r| **r > 1000) {
                queue.remove(row);
            }
            after = seen.next;
            turns += 1;
            assert!(turns <= 2 * 1500 / (PER_TURN / 2), "one round is enough");
        }
    }
}
