//! [`Leases`]: how long each session may still be silent. Counted on the boot clock, in
//! memory: a new leader grants every session a full term.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cairn_types::limits::SESSION_LEASE_MS;
use cairn_types::{Clock, Sequence, SessionId};

/// The part of a lease that the server adds to what the client was promised, for clocks that differ
/// and answers on their way.
const MARGIN: u32 = 10;

/// The sessions' leases of one term of leadership.
pub struct Leases {
    clock: Arc<dyn Clock>,
    lease: Duration,
    term: Duration,
    // Guards: one end a session, which only moves forward. Never held across an await.
    ends: Mutex<HashMap<SessionId, Lease>>,
}

#[derive(Clone, Copy)]
struct Lease {
    end: Duration,
    acknowledged_below: Sequence,
}

impl Lease {
    fn until(end: Duration) -> Self {
        Self { end, acknowledged_below: Sequence(0) }
    }
}

impl Leases {
    /// `lease` is what clients are promised. Every session that the state knows is granted a full
    /// term first: of the default lease at least, since the leader before may have promised more.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, lease: Duration, known: impl IntoIterator<Item = SessionId>) -> Self {
        let term = lease + lease / MARGIN;
        let promised = lease.max(Duration::from_millis(SESSION_LEASE_MS));
        let end = clock.boottime() + promised + promised / MARGIN;
        let ends = Mutex::new(known.into_iter().map(|s| (s, Lease::until(end))).collect());
        Self { clock, lease, term, ends }
    }

    /// What clients are promised: how long a session lives after its last sign of life.
    #[must_use]
    pub fn lease(&self) -> Duration {
        self.lease
    }

    fn ends(&self) -> std::sync::MutexGuard<'_, HashMap<SessionId, Lease>> {
        // Every change under the lock is a single assignment: a panic leaves nothing half done.
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins the lease of a session that is committed.
    pub fn grant(&self, session: SessionId) {
        let end = self.clock.boottime() + self.term;
        self.ends().insert(session, Lease::until(end));
    }

    /// Begins the lease of a session that the state has and this leader did not know of: its opening
    /// was committed after its caller's deadline.
    pub fn adopt(&self, session: SessionId) {
        let end = self.clock.boottime() + self.term;
        self.ends().entry(session).or_insert_with(|| Lease::until(end));
    }

    /// Ends a session's lease now: what is left of the session is taken away soon.
    pub fn lapse(&self, session: SessionId) {
        self.ends().insert(session, Lease::until(Duration::ZERO));
    }

    /// Renews a session's lease; false when this leader has no such session.
    pub fn renew(&self, session: SessionId) -> bool {
        let end = self.clock.boottime() + self.term;
        self.ends().get_mut(&session).map(|l| l.end = l.end.max(end)).is_some()
    }

    /// Notes what a client acknowledged; true when that is more than it did before in this term.
    pub fn acknowledges(&self, session: SessionId, below: Sequence) -> bool {
        let mut ends = self.ends();
        let Some(lease) = ends.get_mut(&session).filter(|l| l.acknowledged_below < below) else {
            return false;
        };
        lease.acknowledged_below = below;
        true
    }

    /// Forgets a session that was closed or expired by an entry.
    pub fn forget(&self, session: SessionId) {
        self.ends().remove(&session);
    }

    /// Sessions whose lease is over, at most `limit`, by id.
    #[must_use]
    pub fn overdue(&self, limit: usize) -> Vec<SessionId> {
        let now = self.clock.boottime();
        let mut over: Vec<SessionId> =
            self.ends().iter().filter(|(_, lease)| lease.end < now).map(|(s, _)| *s).collect();
        over.sort_unstable();
        over.truncate(limit);
        over
    }

    /// Sessions that have a lease.
    #[must_use]
    pub fn count(&self) -> usize {
        self.ends().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leader::hand_clock::HandClock;

    const TERM: Duration = Duration::from_secs(30);
    const MARGIN: Duration = Duration::from_secs(3);

    #[test]
    fn a_new_leader_grants_a_full_term_and_a_keep_alive_another() {
        let clock = Arc::new(HandClock::default());
        clock.advance(Duration::from_secs(1000));
        let leases = Leases::new(clock.clone(), TERM, [SessionId(1), SessionId(2)]);
        clock.advance(TERM);
        assert!(leases.overdue(9).is_empty(), "the margin is the server's");
        assert!(leases.renew(SessionId(1)));
        clock.advance(MARGIN + Duration::from_millis(1));
        assert_eq!(leases.overdue(9), [SessionId(2)]);
        leases.forget(SessionId(2));
        assert!(!leases.renew(SessionId(2)), "an expired lease is not revived");
        clock.advance(TERM);
        assert_eq!(leases.overdue(9), [SessionId(1)]);
    }

    #[test]
    fn a_session_nobody_knew_of_gets_one_term_and_one_half_closed_none() {
        let clock = Arc::new(HandClock::default());
        clock.advance(Duration::from_secs(1));
        let leases = Leases::new(clock.clone(), TERM, [SessionId(1)]);
        clock.advance(TERM);
        leases.adopt(SessionId(1));
        leases.adopt(SessionId(2));
        leases.grant(SessionId(3));
        leases.lapse(SessionId(3));
        assert_eq!(leases.overdue(9), [SessionId(3)]);
        clock.advance(MARGIN + Duration::from_millis(1));
        assert_eq!(leases.overdue(9), [SessionId(1), SessionId(3)], "an adoption renews nothing");
        clock.advance(TERM);
        assert_eq!(leases.overdue(9), [SessionId(1), SessionId(2), SessionId(3)]);
    }

    #[test]
    fn a_leader_that_promises_less_keeps_what_the_one_before_it_promised() {
        let clock = Arc::new(HandClock::default());
        let leases = Leases::new(clock.clone(), Duration::from_secs(2), [SessionId(1)]);
        assert!(leases.renew(SessionId(1)), "which shortens nothing");
        clock.advance(TERM);
        assert!(leases.overdue(9).is_empty());
        leases.grant(SessionId(2));
        clock.advance(MARGIN + Duration::from_millis(1));
        assert_eq!(leases.overdue(9), [SessionId(1), SessionId(2)]);
    }

    #[test]
    fn an_acknowledgement_counts_once() {
        let leases = Leases::new(Arc::new(HandClock::default()), TERM, [SessionId(1)]);
        assert!(!leases.acknowledges(SessionId(1), Sequence(0)));
        assert!(leases.acknowledges(SessionId(1), Sequence(5)));
        assert!(!leases.acknowledges(SessionId(1), Sequence(5)));
        assert!(!leases.acknowledges(SessionId(2), Sequence(5)), "no such session");
    }

    #[test]
    fn what_is_overdue_is_taken_in_bounded_steps() {
        let clock = Arc::new(HandClock::default());
        let leases = Leases::new(clock.clone(), TERM, []);
        (1..=5).for_each(|s| leases.grant(SessionId(s)));
        clock.advance(TERM * 2);
        assert_eq!(leases.overdue(2), [SessionId(1), SessionId(2)]);
        assert_eq!(leases.count(), 5);
    }
}
