//! [`Lease`]: while a majority has heard this leader so lately that nobody else can lead yet, its own
//! state is the newest there is, and answers a read without asking anyone (Raft dissertation, 6.4.1).
//!
//! Who has heard a leader votes for no other for the greatest time before an election
//! (`election_max_ms`, openraft's leader lease), counted from when it heard; the leader counts from when
//! it sent, and an eighth less, for clocks that do not run alike. Two things end that rule early: a
//! server that restarts has forgotten whom it heard, and so votes for nobody and asks for no vote
//! until such a time has passed (`RaftService::check_memory`, `start::hold_elections`); and who is handed the lead may be
//! elected at once, so that a leader that has begun to hand over trusts its lease no more in that term.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use openraft::type_config::TypeConfigExt;
use openraft::type_config::alias::InstantOf;
use openraft::{RaftMetrics, ServerState};

use super::types::TypeConfig;

type Metrics = RaftMetrics<TypeConfig>;
type Instant = InstantOf<TypeConfig>;

/// The clocks are read one after the other: what lies between is no sleep of the machine.
const APART_NOISE_NS: i128 = 1_000_000;

/// The part of the voters' time that a lease counts on.
#[must_use]
pub fn trusted(election_max: Duration) -> Duration {
    election_max - election_max / 8
}

/// The term, when these metrics are a leader's that has applied an entry of its own term.
#[must_use]
pub fn led(metrics: &Metrics) -> Option<u64> {
    let own = metrics.last_applied.is_some_and(|id| id.leader_id.term == metrics.current_term);
    let leads = metrics.state == ServerState::Leader && metrics.running_state.is_ok();
    (leads && own).then_some(metrics.current_term)
}

/// What a leader's own state may answer by.
pub struct Lease {
    span: Duration,
    begun: (Duration, Instant),
    /// The last term in which this server has begun to hand over.
    handed_over: AtomicU64,
    // Guards: how far the boot clock had gone ahead of Raft's when last seen, with the moment since when a
    // majority must have heard. Raft's clock stands still while the machine sleeps, and others elect then.
    seen: Mutex<(i128, Option<Instant>)>,
}

impl Lease {
    /// Of a server whose voters wait for `election_max` at most; `boottime` is now.
    #[must_use]
    pub fn new(election_max: Duration, boottime: Duration) -> Self {
        let begun = (boottime, TypeConfig::now());
        let (span, handed_over) = (trusted(election_max), AtomicU64::new(0));
        Self { span, begun, handed_over, seen: Mutex::new((0, None)) }
    }

    /// From here on nothing is answered by the lease of this term.
    pub fn hand_over(&self, term: u64) {
        self.handed_over.fetch_max(term, Ordering::SeqCst);
    }

    /// True when this server's state shows everything that was acknowledged before now. `boottime` tells
    /// the boot clock.
    #[must_use]
    pub fn holds(&self, metrics: &Metrics, boottime: impl Fn() -> Duration) -> bool {
        let Some(term) = led(metrics) else { return false };
        if term <= self.handed_over.load(Ordering::SeqCst) {
            return false;
        }
        let mut voters = metrics.membership_config.voter_ids();
        if voters.next() == Some(metrics.id) && voters.next().is_none() {
            return true;
        }
        let now = TypeConfig::now();
        let since = self.awake_since(now, boottime());
        metrics.last_quorum_acked.is_some_and(|heard| {
            let heard = heard.into_inner();
            now < heard + self.span && since.is_none_or(|since| heard > since)
        })
    }

    /// When it was last found out that the machine has slept.
    fn awake_since(&self, now: Instant, boottime: Duration) -> Option<Instant> {
        let (boot, raft) = (boottime.as_nanos() as i128, (now - self.begun.1).as_nanos() as i128);
        let apart = boot - self.begun.0.as_nanos() as i128 - raft;
        // A panic while it is held leaves two whole values behind.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if apart > seen.0 + APART_NOISE_NS {
            seen.1 = Some(now);
        }
        seen.0 = apart;
        seen.1
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use openraft::impls::BasicNode;
    use openraft::metrics::SerdeInstant;
    use openraft::{LogId, Membership, StoredMembership};

    use super::super::types::Committed;
    use super::*;

    const LEASE: Duration = Duration::from_secs(1);

    fn metrics(voters: &[u64], heard: Option<Instant>) -> Metrics {
        let mut metrics = Metrics::new_initial(1);
        let nodes = voters.iter().map(|id| (*id, BasicNode::new("x")));
        let members = Membership::new(
            vec![voters.iter().copied().collect()],
            nodes.collect::<std::collections::BTreeMap<_, _>>(),
        );
        metrics.membership_config = Arc::new(StoredMembership::new(None, members.unwrap()));
        metrics.state = ServerState::Leader;
        metrics.current_term = 3;
        metrics.last_applied = Some(LogId::new(Committed::new(3), 9));
        metrics.last_quorum_acked = heard.map(SerdeInstant::new);
        metrics
    }

    #[test]
    fn it_holds_while_a_majority_has_heard_lately() {
        let lease = Lease::new(LEASE, Duration::ZERO);
        let (now, begun) = (TypeConfig::now(), TypeConfig::now());
        let boot = || TypeConfig::now() - begun;
        assert!(lease.holds(&metrics(&[1, 2, 3], Some(now)), boot));
        assert!(!lease.holds(&metrics(&[1, 2, 3], None), boot), "nobody has heard it");
        assert!(lease.holds(&metrics(&[1], None), boot), "nobody else can lead");
        assert!(!lease.holds(&metrics(&[2], None), boot), "it is no voter itself");
        let long_ago = now - trusted(LEASE);
        assert!(!lease.holds(&metrics(&[1, 2, 3], Some(long_ago)), boot), "before the voters' time is over");
        let mut other = metrics(&[1, 2, 3], Some(now));
        other.state = ServerState::Follower;
        assert!(!lease.holds(&other, boot));
        let mut new = metrics(&[1, 2, 3], Some(now));
        new.current_term = 4;
        assert!(!lease.holds(&new, boot), "it has applied nothing of its own term");
    }

    #[test]
    fn it_ends_with_the_term_in_which_the_lead_is_handed_over() {
        let lease = Lease::new(LEASE, Duration::ZERO);
        let (now, begun) = (TypeConfig::now(), TypeConfig::now());
        let boot = || TypeConfig::now() - begun;
        lease.hand_over(3);
        assert!(!lease.holds(&metrics(&[1, 2, 3], Some(now)), boot));
        assert!(!lease.holds(&metrics(&[1], Some(now)), boot));
        let mut later = metrics(&[1, 2, 3], Some(now));
        later.current_term = 5;
        later.last_applied = Some(LogId::new(Committed::new(5), 12));
        assert!(lease.holds(&later, boot));
    }

    #[test]
    fn what_was_heard_before_the_machine_slept_counts_no_more() {
        let lease = Lease::new(LEASE, Duration::ZERO);
        let begun = TypeConfig::now();
        assert!(lease.holds(&metrics(&[1, 2, 3], Some(begun)), || TypeConfig::now() - begun));
        let slept = || TypeConfig::now() - begun + Duration::from_secs(30);
        assert!(!lease.holds(&metrics(&[1, 2, 3], Some(begun)), slept));
        assert!(!lease.holds(&metrics(&[1, 2, 3], Some(begun)), slept), "nor at the next look");
        let heard = TypeConfig::now();
        assert!(lease.holds(&metrics(&[1, 2, 3], Some(heard)), slept), "what is heard since counts");
    }
}
