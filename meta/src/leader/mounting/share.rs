//! How many objects are begun at once: in all, for each mount and for each data node; and how many in a
//! second. Pure.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use cairn_types::NodeId;

/// What is under way at a time in all, at most.
pub const IN_FLIGHT_MAX: usize = 512;
/// Of one mount, at most: one whose endpoint hangs leaves room for the others.
pub const PER_MOUNT_MAX: usize = 256;
/// On one data node, at most.
pub const PER_NODE_MAX: usize = 64;

/// A mount's part in a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// What it has under way.
    pub in_flight: usize,
    /// What it would begin.
    pub wanted: usize,
}

/// How many each of `claims` may begin of `free` places: one after the other, beginning with `first`, so that a
/// mount with a million pending files does not keep the others waiting.
#[must_use]
pub fn share(claims: &[Claim], free: usize, first: usize) -> Vec<usize> {
    let mut given = vec![0; claims.len()];
    let most = |claim: &Claim| claim.wanted.min(PER_MOUNT_MAX.saturating_sub(claim.in_flight));
    let mut left = free.min(claims.iter().map(most).sum());
    while left > 0 {
        for at in 0..claims.len() {
            let at = (first + at) % claims.len();
            if left > 0 && given[at] < most(&claims[at]) {
                given[at] += 1;
                left -= 1;
            }
        }
    }
    given
}

/// The places that data nodes have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places(BTreeMap<NodeId, usize>);

impl Places {
    /// Those of `nodes`, without what is `under_way`, by the node that is at it.
    #[must_use]
    pub fn of(nodes: &[NodeId], under_way: impl Iterator<Item = NodeId>) -> Self {
        let mut places: BTreeMap<NodeId, usize> = nodes.iter().map(|node| (*node, PER_NODE_MAX)).collect();
        for node in under_way {
            places.entry(node).and_modify(|n| *n = n.saturating_sub(1));
        }
        Self(places)
    }

    /// How many are left.
    #[must_use]
    pub fn left(&self) -> usize {
        self.0.values().sum()
    }

    /// Takes one of the node that has most.
    pub fn take(&mut self) -> Option<NodeId> {
        let (node, left) = self.0.iter_mut().max_by_key(|(_, left)| **left)?;
        *left = left.checked_sub(1)?;
        Some(*node)
    }
}

/// So many in a second, on the average; what was not used in a second is not saved up.
#[derive(Debug)]
pub struct Pace {
    per_second: Option<NonZeroU32>,
    /// Thousandths of one.
    balance: u64,
    at: Option<Duration>,
}

impl Pace {
    /// `None`: no bound.
    #[must_use]
    pub fn new(per_second: Option<NonZeroU32>) -> Self {
        Self { per_second, balance: 0, at: None }
    }

    /// How many may begin at `now` by the boot clock.
    pub fn allowed(&mut self, now: Duration) -> usize {
        let Some(per_second) = self.per_second else { return usize::MAX };
        let second = u64::from(per_second.get()) * 1000;
        let elapsed = self.at.map_or(Duration::from_secs(1), |at| now.saturating_sub(at));
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        if elapsed_ms > 0 {
            let earned = u64::from(per_second.get()).saturating_mul(elapsed_ms);
            self.balance = self.balance.saturating_add(earned).min(second);
            self.at = Some(now);
        }
        usize::try_from(self.balance / 1000).unwrap_or(usize::MAX)
    }

    /// So many have begun.
    pub fn charge(&mut self, begun: usize) {
        self.balance = self.balance.saturating_sub((begun as u64).saturating_mul(1000));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(in_flight: usize, wanted: usize) -> Claim {
        Claim { in_flight, wanted }
    }

    #[test]
    fn places_are_shared_one_by_one() {
        let claims = [claim(0, 1_000), claim(0, 2), claim(0, 1_000)];
        assert_eq!(share(&claims, 10, 0), [4, 2, 4]);
        assert_eq!(share(&claims, 1, 0), [1, 0, 0]);
        assert_eq!(share(&claims, 1, 2), [0, 0, 1], "another one is first each time");
        assert_eq!(share(&claims, 5_000, 0), [PER_MOUNT_MAX, 2, PER_MOUNT_MAX]);
        let busy = [claim(PER_MOUNT_MAX, 10), claim(PER_MOUNT_MAX - 1, 10)];
        assert_eq!(share(&busy, 100, 0), [0, 1]);
        assert_eq!(share(&[], 100, 0), [0; 0]);
    }

    #[test]
    fn the_node_with_most_places_is_taken_until_none_is_left() {
        let mut places = Places::of(&[NodeId(1), NodeId(2)], [NodeId(1), NodeId(3)].into_iter());
        assert_eq!(places.left(), 2 * PER_NODE_MAX - 1);
        assert_eq!(places.take(), Some(NodeId(2)));
        while places.left() > 0 {
            assert!(places.take().is_some());
        }
        assert_eq!(places.take(), None);
        assert_eq!(Places::default().take(), None);
    }

    #[test]
    fn over_time_no_more_begin_than_the_rate_says() {
        let mut pace = Pace::new(NonZeroU32::new(100));
        let mut begun = 0;
        for turn in 0..2_000u64 {
            let now = pace.allowed(Duration::from_millis(10 * turn)).min(7);
            pace.charge(now);
            begun += now;
        }
        assert!((2_000..=2_100).contains(&begun), "{begun} in 20 s at 100/s");
        assert_eq!(pace.allowed(Duration::from_secs(1_000)), 100, "what was not used is not saved up");
        assert_eq!(Pace::new(None).allowed(Duration::ZERO), usize::MAX);
    }
}
