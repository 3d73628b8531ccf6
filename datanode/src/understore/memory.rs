//! [`MemoryStore`]: a store for unit tests, with faults on order.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use cairn_types::Timestamp;

use super::object::PartReader;
use super::{
    BodyFailed, Capabilities, Condition, Fetched, GET_BYTES_MAX, ListPage, ListRequest, ListedObject,
    NewObject, ObjectHead, Properties, PutOutcome, SourceVersion, UnderStore, UnderStoreError, probe,
};

#[path = "memory_mounted.rs"]
mod mounted;

/// What the next request meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Fails, nothing done.
    Unreachable,
    /// Asks to slow down, nothing done.
    SlowDown,
    /// Is done, then fails.
    AnswerLost,
    /// A GET answers, or a PUT keeps, wrong bytes.
    WrongBytes,
}

#[derive(Clone, Default)]
struct Kept {
    bytes: Bytes,
    etag: String,
    properties: Properties,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Kept>,
    faults: VecDeque<Fault>,
    // By the number of requests before it.
    later: BTreeMap<usize, Fault>,
    requests: Vec<String>,
    made: u64,
    uploads: u64,
}

impl State {
    fn insert(&mut self, key: &str, bytes: Bytes, properties: Properties) -> String {
        self.made += 1;
        let etag = format!("etag-{}", self.made);
        self.objects.insert(key.to_owned(), Kept { bytes, etag: etag.clone(), properties });
        etag
    }

    fn find(&self, key: &str) -> Result<Kept, UnderStoreError> {
        let found = self.objects.get(key).cloned();
        found.ok_or_else(|| UnderStoreError::NoSuchKey { key: key.to_owned() })
    }

    /// The condition, as S3 looks at it.
    fn check(&self, key: &str, condition: &Condition) -> Result<(), UnderStoreError> {
        let failed = UnderStoreError::PreconditionFailed { key: key.to_owned() };
        match (condition, self.objects.get(key)) {
            (Condition::Absent, Some(_)) => Err(failed),
            (Condition::Version(_), None) => Err(UnderStoreError::NoSuchKey { key: key.to_owned() }),
            (Condition::Version(etag), Some(kept)) if *etag != kept.etag => Err(failed),
            _ => Ok(()),
        }
    }

    fn source(&self, source: &SourceVersion) -> Result<Kept, UnderStoreError> {
        let kept = self.find(&source.key)?;
        if kept.etag == source.etag && kept.bytes.len() as u64 == source.size {
            Ok(kept)
        } else {
            Err(UnderStoreError::PreconditionFailed { key: source.key.clone() })
        }
    }
}

/// Objects in memory. Clones are the same store.
#[derive(Clone, Default)]
pub(crate) struct MemoryStore {
    // Guards that the requests of one test are seen one after the other.
    state: Arc<Mutex<State>>,
    keeps_checksums: bool,
    overwrites: bool,
    unconditional: bool,
    // A GET takes one of these before it answers.
    pub(crate) gate: Option<Arc<tokio::sync::Semaphore>>,
}

impl MemoryStore {
    pub(crate) fn with_checksums() -> Self {
        Self { keeps_checksums: true, ..Self::default() }
    }

    /// As an endpoint that does not know If-None-Match.
    pub(crate) fn overwriting() -> Self {
        Self { overwrites: true, ..Self::default() }
    }

    /// As an endpoint that knows no conditions at all, besides those of reads.
    pub(crate) fn unconditional() -> Self {
        Self { overwrites: true, unconditional: true, ..Self::default() }
    }

    pub(crate) fn gated() -> Self {
        Self { gate: Some(Arc::new(tokio::sync::Semaphore::new(0))), ..Self::default() }
    }

    pub(crate) fn fail_next(&self, fault: Fault) {
        self.state.lock().unwrap().faults.push_back(fault);
    }

    /// After so many requests, the next one.
    pub(crate) fn fail_after(&self, requests: usize, fault: Fault) {
        let mut state = self.state.lock().unwrap();
        let after = state.requests.len() + requests;
        state.later.insert(after, fault);
    }

    /// Forgets what was to fail.
    pub(crate) fn no_faults(&self) {
        let mut state = self.state.lock().unwrap();
        state.faults.clear();
        state.later.clear();
    }

    pub(crate) fn remove(&self, key: &str) {
        self.state.lock().unwrap().objects.remove(key);
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().requests.clone()
    }

    pub(crate) fn object(&self, key: &str) -> Option<Bytes> {
        self.state.lock().unwrap().objects.get(key).map(|kept| kept.bytes.clone())
    }

    /// Puts or replaces an object behind everyone's back; answers its ETag.
    pub(crate) fn replace(&self, key: &str, bytes: impl Into<Bytes>) -> String {
        self.state.lock().unwrap().insert(key, bytes.into(), Properties::default())
    }

    /// The keys that exist.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.state.lock().unwrap().objects.keys().cloned().collect()
    }

    /// Uploads in parts that are neither completed nor aborted.
    pub(crate) fn uploads(&self) -> u64 {
        self.state.lock().unwrap().uploads
    }

    /// The GETs so far.
    pub(crate) fn gets(&self) -> usize {
        self.requests().iter().filter(|request| request.starts_with("get ")).count()
    }

    fn begin(&self, request: String) -> Result<Option<Fault>, UnderStoreError> {
        let mut state = self.state.lock().unwrap();
        let number = state.requests.len();
        state.requests.push(request);
        match state.later.remove(&number).or_else(|| state.faults.pop_front()) {
            Some(Fault::Unreachable) => Err(UnderStoreError::Unreachable),
            Some(Fault::SlowDown) => Err(UnderStoreError::Throttled { code: "SlowDown".to_owned() }),
            fault => Ok(fault),
        }
    }

    fn find(&self, key: &str) -> Result<(Bytes, String), UnderStoreError> {
        self.state.lock().unwrap().find(key).map(|kept| (kept.bytes, kept.etag))
    }
}

fn flipped(bytes: &Bytes) -> Bytes {
    bytes.iter().map(|byte| byte ^ 1).collect()
}

fn end<T>(fault: Option<Fault>, answer: T) -> Result<T, UnderStoreError> {
    if fault == Some(Fault::AnswerLost) { Err(UnderStoreError::Unreachable) } else { Ok(answer) }
}

#[async_trait]
impl UnderStore for MemoryStore {
    async fn put_new(&self, key: &str, object: NewObject) -> Result<PutOutcome, UnderStoreError> {
        let fault = self.begin(format!("put {key}"))?;
        let mut parts = PartReader::new(object.body);
        let bytes = parts.next_part(usize::MAX).await?.unwrap_or_default();
        if !parts.is_exactly(object.length, object.crc32c) {
            return Err(BodyFailed.into());
        }
        if !self.overwrites && self.object(key).is_some() {
            return end(fault, PutOutcome::Exists);
        }
        let etag = self.replace(key, if fault == Some(Fault::WrongBytes) { flipped(&bytes) } else { bytes });
        end(fault, PutOutcome::Created { etag })
    }

    async fn head(&self, key: &str) -> Result<ObjectHead, UnderStoreError> {
        self.begin(format!("head {key}"))?;
        let (bytes, etag) = self.find(key)?;
        let crc32c = self.keeps_checksums.then(|| crc32c::crc32c(&bytes));
        let (size, mtime, metadata) = (bytes.len() as u64, Timestamp(0), BTreeMap::new());
        Ok(ObjectHead { size, etag, mtime, crc32c, metadata })
    }

    async fn get_range(
        &self,
        key: &str,
        range: Range<u64>,
        if_match: Option<&str>,
    ) -> Result<Fetched, UnderStoreError> {
        if range.is_empty() || range.end - range.start > GET_BYTES_MAX {
            return Err(UnderStoreError::Other { code: "InvalidRange".to_owned(), status: 0 });
        }
        let fault = self.begin(format!("get {key} {}..{}", range.start, range.end))?;
        if let Some(gate) = &self.gate {
            gate.acquire().await.unwrap().forget();
        }
        let (bytes, etag) = self.find(key)?;
        if if_match.is_some_and(|wanted| wanted != etag) {
            return Err(UnderStoreError::PreconditionFailed { key: key.to_owned() });
        }
        let size = bytes.len() as u64;
        let mut part = bytes.slice(range.start as usize..range.end.min(size) as usize);
        if fault == Some(Fault::WrongBytes) {
            part = flipped(&part);
        }
        end(fault, Fetched { bytes: part, etag, size })
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage, UnderStoreError> {
        let fault = self.begin(format!("list {}", request.prefix))?;
        let max = if request.max == 0 { 1000 } else { usize::from(request.max) };
        let after = request.continuation.clone().or(request.start_after.clone()).unwrap_or_default();
        let mut page = ListPage::default();
        let mut last = String::new();
        for (key, Kept { bytes, etag, .. }) in &self.state.lock().unwrap().objects {
            let Some(rest) = key.strip_prefix(&request.prefix) else { continue };
            let folded = rest.find('/').filter(|_| request.delimiter);
            let name = folded.map_or(key.as_str(), |slash| &key[..=request.prefix.len() + slash]);
            if name <= after.as_str() || name == last {
                continue;
            }
            if page.objects.len() + page.prefixes.len() == max {
                page.continuation = Some(last);
                break;
            }
            name.clone_into(&mut last);
            if folded.is_some() {
                page.prefixes.push(name.to_owned());
            } else {
                let (key, etag) = (key.clone(), etag.clone());
                page.objects.push(ListedObject { key, size: bytes.len() as u64, etag, mtime: Timestamp(0) });
            }
        }
        end(fault, page)
    }

    async fn delete(&self, key: &str, if_match: Option<&str>) -> Result<(), UnderStoreError> {
        let fault = self.begin(format!("delete {key}"))?;
        if !self.unconditional
            && let (Ok((_, etag)), Some(wanted)) = (self.find(key), if_match)
            && etag != wanted
        {
            return Err(UnderStoreError::PreconditionFailed { key: key.to_owned() });
        }
        self.state.lock().unwrap().objects.remove(key);
        end(fault, ())
    }

    async fn probe(&self, scratch: &str) -> Result<Capabilities, UnderStoreError> {
        let found = probe::probe(self, scratch).await?;
        Ok(Capabilities { complete_if_absent: found.put_if_absent, ..found })
    }

    fn describe(&self) -> String {
        "memory".to_owned()
    }
}
