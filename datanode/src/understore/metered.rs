//! [`MeteredStore`]: counts and times the requests of another store.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cairn_types::{Clock, Timestamp};

use super::{
    Capabilities, Fetched, ListPage, ListRequest, NewObject, ObjectHead, PutOutcome, RequestCounts,
    RequestKind, UnderStore, UnderStoreError,
};

/// A request slower than this has a line in the log.
const SLOW: Duration = Duration::from_secs(2);

/// Adds metrics to a store: `cairn_data_understore_requests_total{request, outcome}`,
/// `cairn_data_understore_request_seconds{request}`,
/// `cairn_data_understore_{sent,received}_bytes_total`.
pub struct MeteredStore<S> {
    store: S,
    clock: Arc<dyn Clock>,
    counts: Option<Arc<RequestCounts>>,
}

impl<S: UnderStore> MeteredStore<S> {
    /// Meters `store`.
    #[must_use]
    pub fn new(store: S, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock, counts: None }
    }

    /// Counts its requests as those of an S3 would be; a store that speaks to S3 counts its own.
    #[must_use]
    pub fn counting(self, counts: Arc<RequestCounts>) -> Self {
        Self { counts: Some(counts), ..self }
    }

    fn count(&self, kind: RequestKind, bytes: u64) {
        if let Some(counts) = &self.counts {
            counts.sent(kind, bytes);
        }
    }

    async fn measured<T>(
        &self,
        request: &'static str,
        key: &str,
        answer: impl Future<Output = Result<T, UnderStoreError>>,
    ) -> Result<T, UnderStoreError> {
        let begun = self.clock.boottime();
        let answer = answer.await;
        let took = self.clock.boottime().saturating_sub(begun);
        let outcome = answer.as_ref().map_or_else(UnderStoreError::kind, |_| "ok");
        metrics::counter!("cairn_data_understore_requests_total", "request" => request, "outcome" => outcome)
            .increment(1);
        metrics::histogram!("cairn_data_understore_request_seconds", "request" => request)
            .record(took.as_secs_f64());
        if took > SLOW {
            let took_ms = took.as_millis();
            tracing::warn!(store = self.store.describe(), request, key, outcome, took_ms, "slow under-store");
        }
        answer
    }
}

#[async_trait]
impl<S: UnderStore> UnderStore for MeteredStore<S> {
    async fn put_new(&self, key: &str, object: NewObject) -> Result<PutOutcome, UnderStoreError> {
        let length = object.length;
        self.count(RequestKind::Put, length);
        let outcome = self.measured("put", key, self.store.put_new(key, object)).await?;
        if matches!(outcome, PutOutcome::Created { .. }) {
            metrics::counter!("cairn_data_understore_sent_bytes_total").increment(length);
        }
        Ok(outcome)
    }

    async fn head(&self, key: &str) -> Result<ObjectHead, UnderStoreError> {
        self.count(RequestKind::Head, 0);
        self.measured("head", key, self.store.head(key)).await
    }

    async fn get_range(
        &self,
        key: &str,
        range: Range<u64>,
        if_match: Option<&str>,
    ) -> Result<Fetched, UnderStoreError> {
        self.count(RequestKind::Get, 0);
        let fetched = self.measured("get", key, self.store.get_range(key, range, if_match)).await?;
        metrics::counter!("cairn_data_understore_received_bytes_total").increment(fetched.bytes.len() as u64);
        if let Some(counts) = &self.counts {
            counts.answered(RequestKind::Get, fetched.bytes.len() as u64);
        }
        Ok(fetched)
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage, UnderStoreError> {
        self.count(RequestKind::List, 0);
        self.measured("list", &request.prefix, self.store.list(request)).await
    }

    async fn delete(&self, key: &str, if_match: Option<&str>) -> Result<(), UnderStoreError> {
        self.count(RequestKind::Delete, 0);
        self.measured("delete", key, self.store.delete(key, if_match)).await
    }

    async fn probe(&self, scratch: &str) -> Result<Capabilities, UnderStoreError> {
        self.measured("probe", scratch, self.store.probe(scratch)).await
    }

    async fn count_abandoned(&self, prefix: &str, begun_before: Timestamp) -> Result<u64, UnderStoreError> {
        self.measured("count_abandoned", prefix, self.store.count_abandoned(prefix, begun_before)).await
    }

    async fn abort_abandoned(&self, prefix: &str, begun_before: Timestamp) -> Result<u64, UnderStoreError> {
        self.measured("abort_abandoned", prefix, self.store.abort_abandoned(prefix, begun_before)).await
    }

    fn describe(&self) -> String {
        self.store.describe()
    }
}
