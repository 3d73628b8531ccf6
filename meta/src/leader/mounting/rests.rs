//! [`Rests`]: what could not be begun, and when it is tried again: each time after twice as long. Pure.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

/// The first rest.
const REST: Duration = Duration::from_millis(250);
/// The longest.
const REST_MAX: Duration = Duration::from_secs(10);
/// How often the rest is doubled: beyond it, it is the longest.
const DOUBLINGS_MAX: u32 = 6;
/// How long after its rest something is remembered.
const KEPT: Duration = Duration::from_secs(60);
/// Things that rest at a time, at most; the rest is tried at each turn.
const RESTING_MAX: usize = 65_536;

#[derive(Clone, Copy, Debug)]
struct Rest {
    until: Duration,
    times: u32,
}

/// What rests.
#[derive(Debug)]
pub struct Rests<K> {
    resting: HashMap<K, Rest>,
}

impl<K> Default for Rests<K> {
    fn default() -> Self {
        Self { resting: HashMap::new() }
    }
}

impl<K: Hash + Eq> Rests<K> {
    /// True while it is not to be tried.
    pub fn is_resting(&self, what: &K, now: Duration) -> bool {
        self.resting.get(what).is_some_and(|rest| rest.until > now)
    }

    /// It could not be begun.
    pub fn put(&mut self, what: K, now: Duration) {
        if self.resting.len() >= RESTING_MAX {
            self.resting.retain(|_, rest| rest.until > now);
        }
        if self.resting.len() >= RESTING_MAX && !self.resting.contains_key(&what) {
            return;
        }
        let rest = self.resting.entry(what).or_insert(Rest { until: now, times: 0 });
        let long = REST.saturating_mul(1 << rest.times.min(DOUBLINGS_MAX)).min(REST_MAX);
        *rest = Rest { until: now.saturating_add(long), times: rest.times.saturating_add(1) };
    }

    /// It was begun, or is over.
    pub fn remove(&mut self, what: &K) {
        self.resting.remove(what);
    }

    /// Forgets what was not tried again for long: it is over.
    pub fn forget_old(&mut self, now: Duration) {
        self.resting.retain(|_, rest| rest.until.saturating_add(KEPT) > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rest_is_twice_the_last_up_to_a_bound() {
        let mut rests = Rests::default();
        let mut now = Duration::ZERO;
        for rest_ms in [250, 500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000] {
            assert!(!rests.is_resting(&1, now));
            rests.put(1, now);
            now += Duration::from_millis(rest_ms - 1);
            assert!(rests.is_resting(&1, now), "{rest_ms}");
            now += Duration::from_millis(1);
        }
        rests.remove(&1);
        rests.put(1, now);
        assert!(!rests.is_resting(&1, now + REST), "it begins anew");
        rests.forget_old(now + REST + KEPT);
        assert!(rests.resting.is_empty());
    }

    #[test]
    fn there_is_a_bound_and_what_is_beyond_it_is_tried_at_once() {
        let mut rests = Rests::default();
        (0..RESTING_MAX).for_each(|n| rests.put(n, Duration::ZERO));
        rests.put(RESTING_MAX, Duration::ZERO);
        assert!(!rests.is_resting(&RESTING_MAX, Duration::ZERO));
        rests.put(RESTING_MAX, REST);
        assert!(rests.is_resting(&RESTING_MAX, REST), "the others have rested");
    }
}
