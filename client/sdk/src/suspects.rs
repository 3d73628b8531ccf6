//! [`Suspects`]: data nodes that did not answer lately. They are asked last.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long a node that did not answer is asked last.
const REMEMBER: Duration = Duration::from_secs(5);
/// Nodes remembered, at most; one more replaces them all.
const SUSPECTS_MAX: usize = 256;

/// Addresses that let a read down, each for a few seconds. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Suspects {
    // Guards: hints about the order in which nodes are asked, never about what they answer.
    since: Arc<Mutex<HashMap<String, Instant>>>,
}

impl Suspects {
    fn since(&self) -> std::sync::MutexGuard<'_, HashMap<String, Instant>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that `address` did not answer.
    pub(crate) fn add(&self, address: &str) {
        let mut since = self.since();
        if since.len() >= SUSPECTS_MAX {
            since.clear();
        }
        since.insert(address.to_owned(), Instant::now());
    }

    /// Notes that `address` answered.
    pub(crate) fn forgive(&self, address: &str) {
        self.since().remove(address);
    }

    /// Moves suspects behind the others; the order is kept otherwise.
    pub(crate) fn put_last(&self, nodes: &mut [String]) {
        let mut since = self.since();
        if !since.is_empty() {
            since.retain(|_, at| at.elapsed() < REMEMBER);
            nodes.sort_by_key(|address| since.contains_key(address));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_did_not_answer_is_asked_last_until_it_does() {
        let suspects = Suspects::default();
        let order = || {
            let mut nodes = ["a", "b", "c"].map(str::to_owned);
            suspects.put_last(&mut nodes);
            nodes.concat()
        };
        assert_eq!(order(), "abc");
        suspects.add("a");
        assert_eq!(order(), "bca");
        suspects.add("b");
        assert_eq!(order(), "cab");
        suspects.forgive("a");
        assert_eq!(order(), "acb");
    }
}
