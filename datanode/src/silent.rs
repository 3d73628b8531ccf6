//! [`SilentPeers`]: the data nodes that did not answer in time a moment ago, so that reads which can
//! go elsewhere do not wait for them again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cairn_types::NodeId;

/// How long a peer counts as silent.
const SILENCE: Duration = Duration::from_secs(5);
/// Peers remembered, at most; the one noted first is forgotten first.
const PEERS_MAX: usize = 64;

/// Who was silent, until when. Times are the clock's boot time.
#[derive(Debug, Default)]
pub struct SilentPeers {
    // Invariant: at most PEERS_MAX. Held for a map operation only.
    until: Mutex<HashMap<NodeId, Duration>>,
}

impl SilentPeers {
    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, Duration>> {
        // At worst a peer is asked once more.
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that `peer` did not answer in time.
    pub fn note(&self, peer: NodeId, now: Duration) {
        let mut until = self.lock();
        until.retain(|_, end| *end > now);
        if until.len() >= PEERS_MAX {
            let first = until.iter().min_by_key(|(_, end)| **end).map(|(peer, _)| *peer);
            if let Some(first) = first {
                until.remove(&first);
            }
        }
        until.insert(peer, now.saturating_add(SILENCE));
    }

    /// True while `peer` need not be asked.
    #[must_use]
    pub fn is_silent(&self, peer: NodeId, now: Duration) -> bool {
        self.lock().get(&peer).is_some_and(|end| *end > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_peer_is_left_alone_for_a_while() {
        let (peers, now) = (SilentPeers::default(), Duration::from_secs(100));
        peers.note(NodeId(1), now);
        assert!(peers.is_silent(NodeId(1), now));
        assert!(!peers.is_silent(NodeId(2), now));
        assert!(!peers.is_silent(NodeId(1), now + SILENCE));
    }

    #[test]
    fn silent_peers_are_bounded() {
        let peers = SilentPeers::default();
        let at = Duration::from_millis;
        for n in 0..1_000 {
            peers.note(NodeId(n), at(n));
        }
        assert_eq!(peers.lock().len(), PEERS_MAX);
        assert!(peers.is_silent(NodeId(999), at(1_000)));
        assert!(!peers.is_silent(NodeId(0), at(1_000)));
    }
}
