//! [`Freshness`]: how new a read's answer must be, and who may give it.

use std::time::Duration;

use cairn_proto::v1::Consistency;

use crate::options::ConnectOptions;

/// What was read, and how old it may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aged<T> {
    /// What was read.
    pub value: T,
    /// It shows every change that was acknowledged longer ago than this, in milliseconds.
    pub age_ms: u64,
}

/// How new a read's answer must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// It shows everything acknowledged before the call.
    Newest,
    /// It shows everything acknowledged longer ago than this before the call.
    Within(Duration),
}

impl Freshness {
    /// The two fields of a request.
    pub(crate) fn wire(self, options: &ConnectOptions) -> (i32, u64) {
        match self {
            Self::Newest if options.spread_reads => (Consistency::AnyServer.into(), 0),
            Self::Newest if options.lease_reads => (Consistency::Lease.into(), 0),
            Self::Newest => (Consistency::Linearizable.into(), 0),
            Self::Within(age) => {
                let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX).max(1);
                (Consistency::Stale.into(), age_ms)
            }
        }
    }

    /// True when it does not take the leader to answer.
    pub(crate) fn is_anywhere(self, options: &ConnectOptions) -> bool {
        options.spread_reads || matches!(self, Self::Within(_))
    }
}
