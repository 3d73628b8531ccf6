//! [`MountedStore`] in memory.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Fault, Kept, MemoryStore, end, flipped};
use crate::understore::{
    Condition, Inspected, MountedStore, Part, PartsUpload, Properties, SourceVersion, UnderStoreError,
    Written,
};

#[async_trait]
impl MountedStore for MemoryStore {
    async fn inspect(&self, key: &str) -> Result<Inspected, UnderStoreError> {
        let fault = self.begin(format!("head {key}"))?;
        let Kept { bytes, etag, properties } = self.state.lock().unwrap().find(key)?;
        let crc32c = self.keeps_checksums.then(|| crc32c::crc32c(&bytes));
        let properties = Properties { tags: None, ..properties };
        end(fault, Inspected { size: bytes.len() as u64, etag, crc32c, properties, ..Inspected::default() })
    }

    async fn tags(&self, key: &str) -> Result<String, UnderStoreError> {
        let fault = self.begin(format!("tags {key}"))?;
        let kept = self.state.lock().unwrap().find(key)?;
        end(fault, kept.properties.tags.unwrap_or_default())
    }

    async fn put(
        &self,
        key: &str,
        condition: &Condition,
        properties: &Properties,
        bytes: Bytes,
    ) -> Result<Written, UnderStoreError> {
        let fault = self.begin(format!("put {key} {}", bytes.len()))?;
        let bytes = if fault == Some(Fault::WrongBytes) { flipped(&bytes) } else { bytes };
        let mut state = self.state.lock().unwrap();
        if !self.unconditional {
            state.check(key, condition)?;
        }
        let etag = state.insert(key, bytes, properties.clone());
        end(fault, Written { etag, version_id: None })
    }

    async fn copy(
        &self,
        key: &str,
        condition: &Condition,
        properties: &Properties,
        source: &SourceVersion,
    ) -> Result<Written, UnderStoreError> {
        let fault = self.begin(format!("copy {} {key}", source.key))?;
        let mut state = self.state.lock().unwrap();
        let kept = if self.unconditional { state.find(&source.key)? } else { state.source(source)? };
        if !self.unconditional {
            state.check(key, condition)?;
        }
        let tags = properties.tags.clone().or(kept.properties.tags);
        let bytes = if fault == Some(Fault::WrongBytes) { flipped(&kept.bytes) } else { kept.bytes };
        let etag = state.insert(key, bytes, Properties { tags, ..properties.clone() });
        end(fault, Written { etag, version_id: None })
    }

    async fn begin(
        &self,
        key: &str,
        properties: &Properties,
    ) -> Result<Box<dyn PartsUpload>, UnderStoreError> {
        let fault = MemoryStore::begin(self, format!("begin {key}"))?;
        self.state.lock().unwrap().uploads += 1;
        let (store, key, properties) = (self.clone(), key.to_owned(), properties.clone());
        let upload = MemoryParts { store, key, properties, parts: Mutex::default(), over: false };
        end(fault, Box::new(upload))
    }

    async fn checksums(&self, _: &str) -> Result<(bool, bool), UnderStoreError> {
        Ok((self.keeps_checksums, false))
    }
}

struct MemoryParts {
    store: MemoryStore,
    key: String,
    properties: Properties,
    parts: Mutex<BTreeMap<u16, Bytes>>,
    over: bool,
}

impl MemoryParts {
    fn add(&self, number: u16, bytes: Bytes) -> Part {
        let crc32c = Some(crc32c::crc32c(&bytes));
        self.parts.lock().unwrap().insert(number, bytes);
        Part { number, etag: format!("part-{number}"), crc32c }
    }

    fn forget(&mut self) {
        if !std::mem::replace(&mut self.over, true) {
            self.store.state.lock().unwrap().uploads -= 1;
        }
    }
}

impl Drop for MemoryParts {
    fn drop(&mut self) {
        self.forget();
    }
}

#[async_trait]
impl PartsUpload for MemoryParts {
    async fn send(&self, number: u16, bytes: Bytes) -> Result<Part, UnderStoreError> {
        let fault = self.store.begin(format!("part {} {}", self.key, bytes.len()))?;
        let part = self.add(number, if fault == Some(Fault::WrongBytes) { flipped(&bytes) } else { bytes });
        end(fault, part)
    }

    async fn copy(
        &self,
        number: u16,
        source: &SourceVersion,
        range: Range<u64>,
    ) -> Result<Part, UnderStoreError> {
        let fault = self.store.begin(format!("part-copy {} {}", source.key, range.end - range.start))?;
        let kept = self.store.state.lock().unwrap().source(source)?;
        end(fault, self.add(number, kept.bytes.slice(range.start as usize..range.end as usize)))
    }

    async fn complete(
        &mut self,
        condition: &Condition,
        parts: &[Part],
        length: u64,
        crc32c: Option<u32>,
    ) -> Result<Written, UnderStoreError> {
        let fault = self.store.begin(format!("complete {}", self.key))?;
        let other = |code: &str| UnderStoreError::Other { code: code.to_owned(), status: 400 };
        let kept = std::mem::take(&mut *self.parts.lock().unwrap());
        let (mut whole, count) = (Vec::new(), parts.len());
        for (n, part) in parts.iter().enumerate() {
            let bytes = kept.get(&part.number).ok_or_else(|| other("InvalidPart"))?;
            if n + 1 < count && bytes.len() < 5 << 20 {
                return Err(other("EntityTooSmall"));
            }
            whole.extend_from_slice(bytes);
        }
        if whole.len() as u64 != length || crc32c.is_some_and(|told| told != crc32c::crc32c(&whole)) {
            return Err(UnderStoreError::Corrupt { key: self.key.clone() });
        }
        let etag = {
            let mut state = self.store.state.lock().unwrap();
            if !self.store.unconditional {
                state.check(&self.key, condition)?;
            }
            state.insert(&self.key, whole.into(), self.properties.clone())
        };
        self.forget();
        end(fault, Written { etag, version_id: None })
    }

    async fn abort(&mut self) {
        self.forget();
    }
}
