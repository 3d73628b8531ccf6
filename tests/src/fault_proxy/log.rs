//! What the proxy saw: counters, and the last requests.

use std::collections::{BTreeMap, VecDeque};

use hyper::{Method, Uri};

/// How many requests are remembered one by one.
const REMEMBERED_MAX: usize = 65_536;

/// One request that arrived, whatever became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenRequest {
    /// Its method.
    pub method: Method,
    /// Its path and query, as sent.
    pub uri: Uri,
}

/// Counters since the start or the last reset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that arrived, by method.
    pub by_method: BTreeMap<String, u64>,
    /// Requests that got another fault than latency.
    pub faulted: u64,
    /// Requests that were sent on to the server, wholly or in part.
    pub forwarded: u64,
}

/// The proxy's memory, bounded.
#[derive(Debug, Default)]
pub(super) struct RequestLog {
    counts: Counts,
    last: VecDeque<SeenRequest>,
}

impl RequestLog {
    pub(super) fn arrived(&mut self, method: &Method, uri: &Uri, faulted: bool) {
        *self.counts.by_method.entry(method.to_string()).or_default() += 1;
        self.counts.faulted += u64::from(faulted);
        if self.last.len() == REMEMBERED_MAX {
            self.last.pop_front();
        }
        self.last.push_back(SeenRequest { method: method.clone(), uri: uri.clone() });
    }

    pub(super) fn forwarded(&mut self) {
        self.counts.forwarded += 1;
    }

    pub(super) fn requests_with_method(&self, method: &str) -> u64 {
        self.counts.by_method.get(method).copied().unwrap_or(0)
    }

    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }

    pub(super) fn remembered(&self) -> impl Iterator<Item = &SeenRequest> {
        self.last.iter()
    }

    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}
