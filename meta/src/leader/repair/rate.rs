//! [`Rates`]: how many bytes of copies each node is given to make. A copy is granted while its node's
//! account is above zero and then charged in full: so the largest chunk passes the smallest rate.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::time::Duration;

use cairn_types::NodeId;

#[derive(Clone, Copy, Debug)]
struct Account {
    /// Bytes; below zero after a large chunk.
    balance: i128,
    at: Duration,
}

/// The nodes' accounts.
#[derive(Debug)]
pub struct Rates {
    /// Bytes in a second that a node receives, at most; `None`: no bound.
    per_second: Option<NonZeroU64>,
    accounts: HashMap<NodeId, Account>,
}

impl Rates {
    /// Accounts that begin with the bytes of a second.
    #[must_use]
    pub fn new(per_second: Option<NonZeroU64>) -> Self {
        Self { per_second, accounts: HashMap::new() }
    }

    /// True when `node` may be asked for a copy at `now` by the boot clock.
    pub fn allows(&mut self, node: NodeId, now: Duration) -> bool {
        let Some(per_second) = self.per_second else { return true };
        let second = i128::from(per_second.get());
        let account = self.accounts.entry(node).or_insert(Account { balance: second, at: now });
        let elapsed_ms =
            i128::try_from(now.saturating_sub(account.at).as_millis()).unwrap_or(i128::MAX >> 64);
        let earned = second * elapsed_ms / 1000;
        // What is less than a byte is earned with the next look.
        if earned > 0 {
            *account = Account { balance: (account.balance + earned).min(second), at: now };
        }
        account.balance > 0
    }

    /// A copy of `bytes` is asked for.
    pub fn charge(&mut self, node: NodeId, bytes: u64) {
        if let Some(account) = self.accounts.get_mut(&node) {
            account.balance -= i128::from(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId(1);

    #[test]
    fn over_time_a_node_gets_what_the_rate_gives_and_each_its_own() {
        let mut rates = Rates::new(NonZeroU64::new(1000));
        let at = |ms| Duration::from_millis(ms);
        let mut given = 0;
        // A turn each 10 ms for 20 s, with copies of 700 bytes.
        for turn in 0..2000 {
            if rates.allows(NODE, at(10 * turn)) {
                rates.charge(NODE, 700);
                given += 700;
            }
        }
        assert!((19_000..=22_000).contains(&given), "{given} in 20 s at 1000/s");
        assert!(rates.allows(NodeId(2), at(20_000)), "another node's account is its own");
    }

    #[test]
    fn a_chunk_larger_than_a_second_s_bytes_passes_and_is_paid_off() {
        let mut rates = Rates::new(NonZeroU64::new(1000));
        let at = |s| Duration::from_secs(s);
        assert!(rates.allows(NODE, at(5)));
        rates.charge(NODE, 10_000);
        assert!(!rates.allows(NODE, at(6)) && !rates.allows(NODE, at(14)));
        assert!(rates.allows(NODE, at(15)));
        rates.charge(NODE, 1);
        assert!(rates.allows(NODE, at(100_000)), "what was not used is not saved up");
        rates.charge(NODE, 1000);
        assert!(!rates.allows(NODE, at(100_000)));
    }

    #[test]
    fn without_a_bound_all_is_allowed() {
        let mut rates = Rates::new(None);
        for _ in 0..10 {
            assert!(rates.allows(NODE, Duration::ZERO));
            rates.charge(NODE, u64::MAX);
        }
    }
}
