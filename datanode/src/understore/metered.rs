//! [`MeteredStore`]: counts and times the requests of another store.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cairn_types::{Clock, Timestamp};

use super::{
    Capabilities, Condition, Fetched, Inspected, ListPage, ListRequest, MountedStore, NewObject, ObjectHead,
    Part, PartsUpload, Properties, PutOutcome, RequestCounts, RequestKind, SourceVersion, UnderStore,
    UnderStoreError, Written,
};

/// A request slower than this has a line in the log.
const SLOW: Duration = Duration::from_secs(2);

/// Beyond that, what so many bytes may take, sent or copied by the endpoint.
const SLOW_BYTES_PER_SECOND: u64 = 8 << 20;

/// Adds metrics to a store: `cairn_data_understore_requests_total{request, outcome}`,
/// `cairn_data_understore_request_seconds{request}`,
/// `cairn_data_understore_{sent,received}_bytes_total`.
pub struct MeteredStore<S> {
    store: S,
    meter: Meter,
    counts: Option<Arc<RequestCounts>>,
}

/// Times requests.
#[derive(Clone)]
struct Meter {
    clock: Arc<dyn Clock>,
    // What the store calls itself.
    store: Arc<str>,
}

impl<S: UnderStore> MeteredStore<S> {
    /// Meters `store`.
    #[must_use]
    pub fn new(store: S, clock: Arc<dyn Clock>) -> Self {
        let meter = Meter { clock, store: store.describe().into() };
        Self { store, meter, counts: None }
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
        self.meter.measured(request, key, 0, answer).await
    }
}

impl Meter {
    /// Of a request that moves so many bytes.
    async fn measured<T>(
        &self,
        request: &'static str,
        key: &str,
        bytes: u64,
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
        if took > SLOW + Duration::from_millis(bytes * 1000 / SLOW_BYTES_PER_SECOND) {
            let (store, took_ms) = (&*self.store, took.as_millis());
            tracing::warn!(store, request, key, bytes, outcome, took_ms, "slow under-store");
        }
        answer
    }

    /// Of a request that sends so many bytes.
    async fn sent<T>(
        &self,
        request: &'static str,
        key: &str,
        bytes: u64,
        answer: impl Future<Output = Result<T, UnderStoreError>>,
    ) -> Result<T, UnderStoreError> {
        let answer = self.measured(request, key, bytes, answer).await?;
        metrics::counter!("cairn_data_understore_sent_bytes_total").increment(bytes);
        Ok(answer)
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

#[async_trait]
impl<S: MountedStore> MountedStore for MeteredStore<S> {
    async fn inspect(&self, key: &str) -> Result<Inspected, UnderStoreError> {
        self.measured("head", key, self.store.inspect(key)).await
    }

    async fn tags(&self, key: &str) -> Result<String, UnderStoreError> {
        self.measured("tags", key, self.store.tags(key)).await
    }

    async fn put(
        &self,
        key: &str,
        condition: &Condition,
        properties: &Properties,
        bytes: Bytes,
    ) -> Result<Written, UnderStoreError> {
        let length = bytes.len() as u64;
        self.meter.sent("put", key, length, self.store.put(key, condition, properties, bytes)).await
    }

    async fn copy(
        &self,
        key: &str,
        condition: &Condition,
        properties: &Properties,
        source: &SourceVersion,
    ) -> Result<Written, UnderStoreError> {
        let copied = self.store.copy(key, condition, properties, source);
        self.meter.measured("copy", key, source.size, copied).await
    }

    async fn begin(
        &self,
        key: &str,
        properties: &Properties,
    ) -> Result<Box<dyn PartsUpload>, UnderStoreError> {
        let upload = self.measured("begin", key, self.store.begin(key, properties)).await?;
        Ok(Box::new(MeteredParts { upload, key: key.to_owned(), meter: self.meter.clone() }))
    }

    async fn checksums(&self, scratch: &str) -> Result<(bool, bool), UnderStoreError> {
        self.measured("probe", scratch, self.store.checksums(scratch)).await
    }
}

/// The same for an object of parts.
struct MeteredParts {
    upload: Box<dyn PartsUpload>,
    key: String,
    meter: Meter,
}

#[async_trait]
impl PartsUpload for MeteredParts {
    async fn send(&self, number: u16, bytes: Bytes) -> Result<Part, UnderStoreError> {
        let length = bytes.len() as u64;
        self.meter.sent("part", &self.key, length, self.upload.send(number, bytes)).await
    }

    async fn copy(
        &self,
        number: u16,
        source: &SourceVersion,
        range: Range<u64>,
    ) -> Result<Part, UnderStoreError> {
        let length = range.end - range.start;
        self.meter.measured("part_copy", &self.key, length, self.upload.copy(number, source, range)).await
    }

    async fn complete(
        &mut self,
        condition: &Condition,
        parts: &[Part],
        length: u64,
        crc32c: Option<u32>,
    ) -> Result<Written, UnderStoreError> {
        let completed = self.upload.complete(condition, parts, length, crc32c);
        self.meter.measured("complete", &self.key, length, completed).await
    }

    async fn abort(&mut self) {
        self.upload.abort().await;
    }
}
