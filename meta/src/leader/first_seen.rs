//! [`FirstSeen`]: since when this leader has known of what waits in a queue, by its own boot clock.
//! Times in the state come from the clocks of all leaders there were, and never go back: one that
//! was far ahead would otherwise keep what came after it young for as long.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cairn_types::{Clock, Timestamp};

use super::look::Look;
use crate::namespace::jobs::Waiting;

/// Places in a queue that are remembered, at most; the rest count as just seen.
const PLACES_MAX: usize = 1 << 20;

/// When each of a queue's rows was first seen in this tenure.
#[derive(Debug, Default)]
pub struct FirstSeen {
    places: BTreeMap<Waiting, Duration>,
}

impl FirstSeen {
    /// Takes in a turn's look at `now`: what is new is remembered, what is gone forgotten.
    pub fn update<T>(&mut self, look: &Look<T, Waiting>, place: impl Fn(&T) -> Waiting, now: Duration) {
        let found: BTreeSet<Waiting> = look.rows.iter().map(place).collect();
        let mut gone = Vec::new();
        for range in look.ranges() {
            gone.extend(self.places.range(range).map(|(place, _)| *place).filter(|p| !found.contains(p)));
        }
        for place in gone {
            self.places.remove(&place);
        }
        for place in found {
            if self.places.len() < PLACES_MAX {
                self.places.entry(place).or_insert(now);
            }
        }
    }

    /// For how long it has been known.
    #[must_use]
    pub fn known_for(&self, place: Waiting, now: Duration) -> Duration {
        self.places.get(&place).map_or(Duration::ZERO, |since| now.saturating_sub(*since))
    }

    /// The age in milliseconds of bytes written since `opened`: by the wall clock, or for as long
    /// as they have been known, whichever is more.
    #[must_use]
    pub fn age_ms(&self, place: Waiting, opened: Timestamp, now: Now) -> u64 {
        now.age_ms(opened, self.known_for(place, now.boot))
    }
}

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Wall time.
    pub wall: Timestamp,
    /// The boot clock.
    pub boot: Duration,
}

impl Now {
    /// Reads `clock`.
    #[must_use]
    pub fn of(clock: &dyn Clock) -> Self {
        Self { wall: clock.wall(), boot: clock.boottime() }
    }

    /// Milliseconds since `then`, and no less than it has been known for.
    #[must_use]
    pub fn age_ms(&self, then: Timestamp, known: Duration) -> u64 {
        let by_wall = u64::try_from(self.wall.0.saturating_sub(then.0) / 1_000_000).unwrap_or(0);
        by_wall.max(u64::try_from(known.as_millis()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leader::hand_clock::HandClock;
    use std::convert::Infallible;

    fn place(id: u64) -> Waiting {
        Waiting { since: Timestamp(5), id }
    }

    fn look(queue: &[u64], after: Option<Waiting>, limit: usize) -> Look<Waiting, Waiting> {
        let page = |after: Option<Waiting>, limit: usize| {
            let rows = queue.iter().map(|id| place(*id)).filter(|w| after.is_none_or(|a| *w > a));
            Ok::<_, Infallible>(rows.take(limit).collect::<Vec<_>>())
        };
        Look::take(after, limit, |w: &Waiting| *w, page).expect("it cannot fail")
    }

    #[test]
    fn bytes_stamped_by_a_clock_far_ahead_grow_old_all_the_same() {
        let clock = HandClock::default();
        let mut seen = FirstSeen::default();
        let ahead = Timestamp(1_000_000_000_000_000);
        seen.update(&look(&[1], None, 10), |w| *w, clock.boottime());
        assert_eq!(seen.age_ms(place(1), ahead, Now::of(&clock)), 0);
        clock.advance(Duration::from_secs(7));
        seen.update(&look(&[1, 2], None, 10), |w| *w, clock.boottime());
        assert_eq!(seen.age_ms(place(1), ahead, Now::of(&clock)), 7_000);
        assert_eq!(seen.age_ms(place(2), ahead, Now::of(&clock)), 0, "it is new");
        assert_eq!(seen.age_ms(place(2), Timestamp(0), Now::of(&clock)), 7_000, "the wall clock knows");
        seen.update(&look(&[2], None, 10), |w| *w, clock.boottime());
        assert_eq!(seen.known_for(place(1), clock.boottime()), Duration::ZERO, "what is gone is forgotten");
    }

    #[test]
    fn what_a_turn_did_not_look_at_is_kept() {
        let at = Duration::from_secs;
        let queue = [1, 2, 3, 4, 5, 6];
        let mut seen = FirstSeen::default();
        let first = look(&queue, None, 4);
        seen.update(&first, |w| *w, at(1));
        let second = look(&queue, first.next, 4);
        assert!(!second.rows.contains(&place(3)));
        seen.update(&second, |w| *w, at(2));
        assert_eq!(seen.known_for(place(3), at(9)), at(8));
        assert_eq!(seen.known_for(place(5), at(9)), at(7));
    }
}
