//! [`probe`]: what a mounted bucket's endpoint can do, tried: each by a request that must be refused and, where that
//! is not plain from elsewhere, by one that must not be.

use bytes::Bytes;
use cairn_proto::v1;
use cairn_types::Random;
use futures::future::join_all;

use super::TEMPORARY;
use crate::understore::{
    Condition, ListRequest, MountedStore, Part, PartsUpload, Properties, SourceVersion, UnderStoreError,
};

/// An ETag that no object has.
const STRANGER: &str = "00000000000000000000000000000000";
/// Who race for one key.
const RACERS: usize = 8;
/// What a part is copied from: a range of it that is as small as a part may be.
const PART_BYTES: usize = 5 << 20;
/// Objects in a page that is looked at when nothing may be written.
const LOOKED_AT: u16 = 1000;
/// Objects that may lie where the probe was; there are far fewer.
const LEFT_PAGES_MAX: usize = 16;

/// What the endpoint can do. With `write` by objects below `prefix`, which are removed again; without it, and where
/// writing or deleting is not allowed (then it is not `writable`), by what can be listed and read there.
///
/// # Errors
/// [`UnderStoreError`] when it does not answer, or does not let us list or read.
pub async fn probe(
    store: &dyn MountedStore,
    prefix: &str,
    write: bool,
    random: &dyn Random,
) -> Result<v1::EndpointAbilities, UnderStoreError> {
    if !write {
        return probe_reads(store, prefix).await;
    }
    let scratch = format!("{prefix}{TEMPORARY}probe-{:016x}/", random.next_u64());
    let trial = Trial { store, scratch: scratch.clone() };
    let found = trial.all().await;
    let removed = remove_all(store, &scratch).await;
    match found.and_then(|found| removed.map(|()| found)) {
        Err(UnderStoreError::Denied { code }) => {
            tracing::warn!(store = store.describe(), prefix, code, "objects cannot be written and deleted");
            probe_reads(store, prefix).await
        }
        outcome => outcome,
    }
}

async fn probe_reads(
    store: &dyn MountedStore,
    prefix: &str,
) -> Result<v1::EndpointAbilities, UnderStoreError> {
    let request = ListRequest { prefix: prefix.to_owned(), max: LOOKED_AT, ..ListRequest::default() };
    let page = store.list(&request).await?;
    let byte_order = page.objects.is_sorted_by(|a, b| a.key.as_bytes() < b.key.as_bytes());
    let mut found = v1::EndpointAbilities { byte_order, ..v1::EndpointAbilities::default() };
    if let Some(object) = page.objects.iter().find(|object| object.size > 0) {
        match store.get_range(&object.key, 0..1, Some(&object.etag)).await {
            // It may change or go meanwhile.
            Ok(_) | Err(UnderStoreError::PreconditionFailed { .. } | UnderStoreError::NoSuchKey { .. }) => {}
            Err(error) => return Err(error),
        }
        found.get_if_match = refused(store.get_range(&object.key, 0..1, Some(STRANGER)).await)?;
    }
    Ok(found)
}

/// True when the request was refused for its condition. What is answered otherwise is an error only where the
/// endpoint did not answer at all.
fn refused<T>(answer: Result<T, UnderStoreError>) -> Result<bool, UnderStoreError> {
    match answer {
        Ok(_) => Ok(false),
        Err(UnderStoreError::PreconditionFailed { .. } | UnderStoreError::NoSuchKey { .. }) => Ok(true),
        Err(error) => unsupported(error),
    }
}

/// True when the request was done.
fn done<T>(answer: Result<T, UnderStoreError>) -> Result<bool, UnderStoreError> {
    match answer {
        Ok(_) => Ok(true),
        Err(UnderStoreError::PreconditionFailed { .. } | UnderStoreError::NoSuchKey { .. }) => Ok(false),
        Err(error) => unsupported(error),
    }
}

/// False for an answer that says that the endpoint does not know the request.
fn unsupported(error: UnderStoreError) -> Result<bool, UnderStoreError> {
    match &error {
        UnderStoreError::Other { status, .. } if (400..500).contains(status) || *status == 501 => Ok(false),
        _ => Err(error),
    }
}

struct Trial<'a> {
    store: &'a dyn MountedStore,
    scratch: String,
}

impl Trial<'_> {
    async fn all(&self) -> Result<v1::EndpointAbilities, UnderStoreError> {
        // Whether anything can be written at all.
        self.put("a-b", &Condition::Unchecked, b"first").await?;
        let mut found = v1::EndpointAbilities { writable: true, ..v1::EndpointAbilities::default() };
        self.puts(&mut found).await?;
        self.completions(&mut found).await?;
        self.copies(&mut found).await?;
        found.part_copy = self.part_copy(found.copy_source_if_match).await?;
        self.reads(&mut found).await?;
        found.delete_if_match = self.deletes().await?;
        (found.crc32c, found.crc64nvme) = self.store.checksums(&self.scratch).await?;
        Ok(found)
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.scratch)
    }

    async fn put(&self, name: &str, condition: &Condition, bytes: &[u8]) -> Result<String, UnderStoreError> {
        let (key, properties) = (self.key(name), Properties::default());
        let written = self.store.put(&key, condition, &properties, Bytes::copy_from_slice(bytes)).await?;
        Ok(written.etag)
    }

    async fn puts(&self, found: &mut v1::EndpointAbilities) -> Result<(), UnderStoreError> {
        let other = Condition::Version(STRANGER.to_owned());
        let taken = refused(self.put("a-b", &Condition::Absent, b"again").await)?;
        found.put_if_absent = taken && self.one_of_many_wins("race", &Condition::Absent).await?.is_some();
        let etag = self.put("puts", &Condition::Unchecked, b"first").await?;
        let stale = refused(self.put("puts", &other, b"stale").await)?;
        let missing = refused(self.put("missing", &other, b"missing").await)?;
        let wins = self.one_of_many_wins("puts", &Condition::Version(etag)).await?;
        found.put_if_match = stale && missing && wins.is_some();
        Ok(())
    }

    /// The number of the one racer that wrote the key under this condition, and whose bytes are there.
    async fn one_of_many_wins(
        &self,
        name: &str,
        condition: &Condition,
    ) -> Result<Option<usize>, UnderStoreError> {
        let body = |n: usize| format!("racer {n}");
        let racers = (0..RACERS).map(|n| async move { self.put(name, condition, body(n).as_bytes()).await });
        let mut winners = Vec::new();
        for (n, outcome) in join_all(racers).await.into_iter().enumerate() {
            match outcome {
                // Two at once may be told to come again.
                Err(UnderStoreError::Throttled { .. }) => {}
                outcome => {
                    if done(outcome)? {
                        winners.push(n);
                    }
                }
            }
        }
        let [winner] = winners.as_slice() else { return Ok(None) };
        let bytes = body(*winner);
        let there = self.store.get_range(&self.key(name), 0..bytes.len() as u64, None).await?;
        Ok(Some(*winner).filter(|_| there.bytes == bytes.as_bytes()))
    }

    async fn complete(&self, name: &str, condition: &Condition) -> Result<String, UnderStoreError> {
        let mut upload = self.store.begin(&self.key(name), &Properties::default()).await?;
        let part = upload.send(1, Bytes::from_static(b"part")).await;
        let outcome = match part {
            Ok(part) => upload.complete(condition, &[part], 4, None).await,
            Err(error) => Err(error),
        };
        if outcome.is_err() {
            upload.abort().await;
        }
        Ok(outcome?.etag)
    }

    async fn completions(&self, found: &mut v1::EndpointAbilities) -> Result<(), UnderStoreError> {
        let other = Condition::Version(STRANGER.to_owned());
        let free = done(self.complete("parts", &Condition::Absent).await)?;
        found.complete_if_absent = refused(self.complete("parts", &Condition::Absent).await)? && free;
        let etag = self.put("parts", &Condition::Unchecked, b"whole").await?;
        let stale = refused(self.complete("parts", &other).await)?;
        found.complete_if_match = stale && done(self.complete("parts", &Condition::Version(etag)).await)?;
        Ok(())
    }

    async fn copy(&self, name: &str, condition: &Condition, etag: &str) -> Result<(), UnderStoreError> {
        let source = SourceVersion { key: self.key("source"), etag: etag.to_owned(), size: 6 };
        let properties = Properties::default();
        self.store.copy(&self.key(name), condition, &properties, &source).await.map(drop)
    }

    async fn copies(&self, found: &mut v1::EndpointAbilities) -> Result<(), UnderStoreError> {
        let other = Condition::Version(STRANGER.to_owned());
        let etag = self.put("source", &Condition::Unchecked, b"source").await?;
        let copies = done(self.copy("copy", &Condition::Unchecked, &etag).await)?;
        found.copy_source_if_match =
            copies && refused(self.copy("stale", &Condition::Unchecked, STRANGER).await)?;
        let free = done(self.copy("free", &Condition::Absent, &etag).await)?;
        found.copy_if_absent = free && refused(self.copy("free", &Condition::Absent, &etag).await)?;
        let there = self.put("copy", &Condition::Unchecked, b"another").await?;
        let stale = refused(self.copy("copy", &other, &etag).await)?;
        let right = done(self.copy("copy", &Condition::Version(there), &etag).await)?;
        found.copy_if_match = stale && right;
        Ok(())
    }

    /// A range of an object is copied as a part, of the named version alone, and followed by a part that is sent.
    async fn part_copy(&self, sources_match: bool) -> Result<bool, UnderStoreError> {
        if !sources_match {
            return Ok(false);
        }
        let mut bytes = vec![b'x'; PART_BYTES];
        bytes.extend_from_slice(b"tail");
        let etag = self.put("large", &Condition::Unchecked, &bytes).await?;
        let source = SourceVersion { key: self.key("large"), etag, size: bytes.len() as u64 };
        let mut upload = self.store.begin(&self.key("copied"), &Properties::default()).await?;
        let outcome = self.copy_and_send(upload.as_mut(), &source).await;
        if !matches!(outcome, Ok(true)) {
            upload.abort().await;
            return outcome;
        }
        let edge = PART_BYTES as u64 - 1;
        let there = self.store.get_range(&self.key("copied"), edge..edge + 8, None).await?;
        Ok(there.size == edge + 5 && there.bytes == b"xmore"[..])
    }

    async fn copy_and_send(
        &self,
        upload: &mut dyn PartsUpload,
        source: &SourceVersion,
    ) -> Result<bool, UnderStoreError> {
        let range = 0..PART_BYTES as u64;
        let stranger = SourceVersion { etag: STRANGER.to_owned(), ..source.clone() };
        if !refused(upload.copy(1, &stranger, range.clone()).await)? {
            return Ok(false);
        }
        let copied: Part = match upload.copy(1, source, range).await {
            Ok(part) => part,
            Err(error) => return unsupported(error),
        };
        let sent = upload.send(2, Bytes::from_static(b"more")).await?;
        let parts = [copied, sent];
        done(upload.complete(&Condition::Unchecked, &parts, PART_BYTES as u64 + 4, None).await)
    }

    async fn reads(&self, found: &mut v1::EndpointAbilities) -> Result<(), UnderStoreError> {
        // Byte order puts `-` before `/`; the order of a tree puts `a/…` before `a-b`.
        self.put("a/b", &Condition::Unchecked, b"other").await?;
        found.get_if_match = refused(self.store.get_range(&self.key("a-b"), 0..1, Some(STRANGER)).await)?;
        let request = ListRequest { prefix: self.key("a"), ..ListRequest::default() };
        let listed: Vec<String> =
            self.store.list(&request).await?.objects.into_iter().map(|o| o.key).collect();
        found.byte_order = listed == [self.key("a-b"), self.key("a/b")];
        Ok(())
    }

    async fn deletes(&self) -> Result<bool, UnderStoreError> {
        let key = self.key("deleted");
        let etag = self.put("deleted", &Condition::Unchecked, b"first").await?;
        let stale = refused(self.store.delete(&key, Some(STRANGER)).await)?;
        let right = stale && done(self.store.delete(&key, Some(&etag)).await)?;
        let gone = matches!(self.store.inspect(&key).await, Err(UnderStoreError::NoSuchKey { .. }));
        Ok(right && gone)
    }
}

/// Removes all below `scratch`.
async fn remove_all(store: &dyn MountedStore, scratch: &str) -> Result<(), UnderStoreError> {
    // From the beginning again and again: what is listed is removed.
    let request = ListRequest { prefix: scratch.to_owned(), ..ListRequest::default() };
    for _ in 0..LEFT_PAGES_MAX {
        let page = store.list(&request).await?;
        for object in &page.objects {
            store.delete(&object.key, None).await?;
        }
        if page.continuation.is_none() {
            break;
        }
    }
    Ok(())
}
