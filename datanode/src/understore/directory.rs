//! [`DirectoryStore`]: an under-store in a local directory, for one machine and for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use cairn_types::random::Random;
use cairn_types::{Clock, Timestamp};
use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path as StorePath;
use object_store::{
    GetOptions, GetRange, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload,
};

use super::object::PartReader;
use super::{
    BodyFailed, Capabilities, Fetched, GET_BYTES_MAX, LIST_PAGE_MAX, ListPage, ListRequest, ListedObject,
    NewObject, ObjectHead, PutOutcome, UnderStore, UnderStoreError, probe,
};
use crate::ancestry;

/// Where objects grow before they get their name. Not listed.
const STAGING: &str = ".cairn-staging";
/// Bytes written at once.
const PART_BYTES: usize = 1 << 20;
/// A staged file of that age was left by a crash.
const STAGED_AGE_MAX_NS: i64 = 3_600_000_000_000;

/// Objects as files below a directory. An object counts as written, or as there already, when its
/// file and all directories on its way are fsynced; it appears whole, by a hard link that fails when
/// the name is taken.
///
/// ETags are made of inode number, modification time and size. User metadata is not kept. The
/// precondition of a delete is checked before it, not in one step with it.
#[derive(Debug)]
pub struct DirectoryStore {
    files: Arc<LocalFileSystem>,
    // Without symbolic links.
    root: PathBuf,
    description: String,
    // Names of staged files are unique by these two: over processes, and in this one.
    staging: String,
    staged: AtomicU64,
}

impl DirectoryStore {
    /// Opens the directory `path`, making it when it is missing, and removes what a crash over an
    /// hour ago left half-written. The directory is durable when it returns.
    ///
    /// # Errors
    /// [`UnderStoreError`] when the directory cannot be made, read or fsynced.
    pub async fn open(path: &Path, clock: &dyn Clock, random: &dyn Random) -> Result<Self, UnderStoreError> {
        let description = format!("file://{}", path.display());
        let (made, named) = (path.to_owned(), description.clone());
        let root = tokio::task::spawn_blocking(move || make_root(&made, &named)).await;
        let root = root.map_err(|_| panicked())??;
        let files = LocalFileSystem::new_with_prefix(path)
            .map_err(|error| meaning(&error, &description))?
            .with_fsync(true);
        let staging = format!("{STAGING}/{:016x}", random.next_u64());
        let store = Self { files: Arc::new(files), root, description, staging, staged: AtomicU64::new(0) };
        store.remove_abandoned(clock.wall()).await?;
        Ok(store)
    }

    async fn remove_abandoned(&self, now: Timestamp) -> Result<(), UnderStoreError> {
        let before = Timestamp(now.0.saturating_sub(STAGED_AGE_MAX_NS));
        self.staged_before(before, false).await.map(drop)
    }

    /// Counts, or removes, what was staged before `before`.
    async fn staged_before(&self, before: Timestamp, only_count: bool) -> Result<u64, UnderStoreError> {
        let mut staged = self.files.list(Some(&StorePath::from(STAGING)));
        let mut found = 0;
        while let Some(meta) = staged.try_next().await.map_err(|e| meaning(&e, STAGING))? {
            if timestamp(&meta) >= before {
                continue;
            }
            if !only_count {
                self.files.delete(&meta.location).await.map_err(|e| meaning(&e, STAGING))?;
            }
            found += 1;
        }
        Ok(found)
    }

    /// Writes the bytes under a name of its own, synced, and answers that name.
    async fn stage(&self, key: &str, object: NewObject) -> Result<StorePath, UnderStoreError> {
        let number = self.staged.fetch_add(1, Ordering::Relaxed);
        let staged = StorePath::from(format!("{}-{number}", self.staging));
        let mut upload = self.files.put_multipart(&staged).await.map_err(|e| meaning(&e, key))?;
        let written = write_parts(upload.as_mut(), object, key).await;
        if let Err(error) = written {
            if let Err(left) = upload.abort().await {
                tracing::warn!(%staged, %left, "a half-written object could not be removed");
            }
            return Err(error);
        }
        upload.complete().await.map_err(|e| meaning(&e, key))?;
        Ok(staged)
    }

    /// Makes the object durable under its key: its file, and the names on its way. Whoever wrote it
    /// may have died between its link and the fsync.
    async fn settle(&self, key: &str) -> Result<(), UnderStoreError> {
        let path = self.files.path_to_filesystem(&located(key)?).map_err(|e| meaning(&e, key))?;
        let root = self.root.clone();
        let synced = tokio::task::spawn_blocking(move || {
            std::fs::File::open(&path)?.sync_all()?;
            ancestry::sync_between(&path, &root)
        });
        match synced.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(UnderStoreError::NoSuchKey { key: key.to_owned() })
            }
            Ok(Err(error)) => Err(of_kind(error.kind())),
            Err(_) => Err(panicked()),
        }
    }

    async fn meta(&self, key: &str) -> Result<ObjectMeta, UnderStoreError> {
        self.files.head(&located(key)?).await.map_err(|e| meaning(&e, key))
    }
}

/// Makes the store's directory, durably; answers its path without symbolic links.
fn make_root(path: &Path, description: &str) -> Result<PathBuf, UnderStoreError> {
    let missing = |_: std::io::Error| UnderStoreError::NoSuchBucket { bucket: description.to_owned() };
    std::fs::create_dir_all(path).map_err(missing)?;
    let root = std::fs::canonicalize(path).map_err(missing)?;
    ancestry::sync_ancestry(&root).map_err(|error| of_kind(error.kind()))?;
    Ok(root)
}

fn panicked() -> UnderStoreError {
    UnderStoreError::Other { code: "Panicked".to_owned(), status: 0 }
}

async fn write_parts(
    upload: &mut dyn MultipartUpload,
    object: NewObject,
    key: &str,
) -> Result<(), UnderStoreError> {
    let mut parts = PartReader::new(object.body);
    while let Some(part) = parts.next_part(PART_BYTES).await? {
        upload.put_part(PutPayload::from_bytes(part)).await.map_err(|e| meaning(&e, key))?;
    }
    if parts.is_exactly(object.length, object.crc32c) { Ok(()) } else { Err(BodyFailed.into()) }
}

#[async_trait]
impl UnderStore for DirectoryStore {
    async fn put_new(&self, key: &str, object: NewObject) -> Result<PutOutcome, UnderStoreError> {
        let place = located(key)?;
        let staged = self.stage(key, object).await?;
        let linked = self.files.copy_if_not_exists(&staged, &place).await;
        // Its other name is not needed any more, whatever became of the link.
        if let Err(left) = self.files.delete(&staged).await {
            tracing::warn!(%staged, %left, "a staged object could not be removed");
        }
        let created = match linked {
            Ok(()) => true,
            Err(object_store::Error::AlreadyExists { .. }) => false,
            Err(error) => return Err(meaning(&error, key)),
        };
        self.settle(key).await?;
        if !created {
            return Ok(PutOutcome::Exists);
        }
        Ok(PutOutcome::Created { etag: etag(&self.meta(key).await?) })
    }

    async fn head(&self, key: &str) -> Result<ObjectHead, UnderStoreError> {
        let meta = self.meta(key).await?;
        let (mtime, etag) = (timestamp(&meta), etag(&meta));
        Ok(ObjectHead { size: meta.size, etag, mtime, crc32c: None, metadata: BTreeMap::new() })
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
        let options = GetOptions {
            range: Some(GetRange::Bounded(range)),
            if_match: if_match.map(|etag| format!("\"{etag}\"")),
            ..GetOptions::default()
        };
        let answer = self.files.get_opts(&located(key)?, options).await.map_err(|e| meaning(&e, key))?;
        let (etag, size) = (etag(&answer.meta), answer.meta.size);
        let bytes: Bytes = answer.bytes().await.map_err(|e| meaning(&e, key))?;
        Ok(Fetched { bytes, etag, size })
    }

    // The whole directory is read for each page: nothing on a hot path lists a local directory.
    async fn list(&self, request: &ListRequest) -> Result<ListPage, UnderStoreError> {
        let max = if request.max == 0 { LIST_PAGE_MAX } else { request.max.min(LIST_PAGE_MAX) };
        let folder = request.prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let folder = (!folder.is_empty()).then(|| located(folder)).transpose()?;
        let mut listing = Listing::new(request, usize::from(max));
        let mut files = self.files.list(folder.as_ref());
        while let Some(meta) = files.try_next().await.map_err(|e| meaning(&e, &request.prefix))? {
            listing.add(meta);
        }
        Ok(listing.page())
    }

    async fn delete(&self, key: &str, if_match: Option<&str>) -> Result<(), UnderStoreError> {
        if let Some(wanted) = if_match {
            match self.meta(key).await {
                Ok(meta) if etag(&meta) == wanted => {}
                Ok(_) => return Err(UnderStoreError::PreconditionFailed { key: key.to_owned() }),
                Err(UnderStoreError::NoSuchKey { .. }) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        match self.files.delete(&located(key)?).await.map_err(|e| meaning(&e, key)) {
            Err(UnderStoreError::NoSuchKey { .. }) => Ok(()),
            outcome => outcome,
        }
    }

    async fn probe(&self, scratch: &str) -> Result<Capabilities, UnderStoreError> {
        // A large object takes the same way as a small one here.
        let found = probe::probe(self, scratch).await?;
        for folder in [format!("{scratch}a"), scratch.trim_end_matches('/').to_owned()] {
            if let Ok(path) = self.files.path_to_filesystem(&located(&folder)?) {
                // One that is not empty, or gone, is left as it is.
                let _left = tokio::fs::remove_dir(path).await;
            }
        }
        Ok(Capabilities { complete_if_absent: found.put_if_absent, ..found })
    }

    // What is staged has no key yet: it is of any prefix.
    async fn abort_abandoned(&self, _: &str, begun_before: Timestamp) -> Result<u64, UnderStoreError> {
        self.staged_before(begun_before, false).await
    }

    async fn count_abandoned(&self, _: &str, begun_before: Timestamp) -> Result<u64, UnderStoreError> {
        self.staged_before(begun_before, true).await
    }

    fn describe(&self) -> String {
        self.description.clone()
    }
}

/// The first entries of a listing after a key, kept while all of them go by in any order.
struct Listing<'a> {
    request: &'a ListRequest,
    after: &'a str,
    max: usize,
    objects: BTreeMap<String, ListedObject>,
    prefixes: BTreeSet<String>,
    more: bool,
}

impl<'a> Listing<'a> {
    fn new(request: &'a ListRequest, max: usize) -> Self {
        let after = request.continuation.as_deref().or(request.start_after.as_deref()).unwrap_or_default();
        let (objects, prefixes) = (BTreeMap::new(), BTreeSet::new());
        Self { request, after, max, objects, prefixes, more: false }
    }

    fn add(&mut self, meta: ObjectMeta) {
        let key = meta.location.as_ref().to_owned();
        let Some(rest) = key.strip_prefix(&self.request.prefix) else { return };
        if key.starts_with(STAGING) {
            return;
        }
        match rest.find('/').filter(|_| self.request.delimiter) {
            Some(slash) => {
                let prefix = key[..=self.request.prefix.len() + slash].to_owned();
                if prefix.as_str() > self.after {
                    self.prefixes.insert(prefix);
                }
            }
            None if key.as_str() > self.after => {
                let (etag, mtime) = (etag(&meta), timestamp(&meta));
                self.objects.insert(key.clone(), ListedObject { key, size: meta.size, etag, mtime });
            }
            None => {}
        }
        if self.objects.len() + self.prefixes.len() > self.max {
            self.more = true;
            let last_object = self.objects.last_key_value().map(|(key, _)| key);
            if last_object > self.prefixes.last() {
                self.objects.pop_last();
            } else {
                self.prefixes.pop_last();
            }
        }
    }

    fn page(self) -> ListPage {
        let last_object = self.objects.last_key_value().map(|(key, _)| key.as_str());
        let last = last_object.max(self.prefixes.last().map(String::as_str));
        let continuation = last.filter(|_| self.more).map(ToOwned::to_owned);
        ListPage {
            objects: self.objects.into_values().collect(),
            prefixes: self.prefixes.into_iter().collect(),
            continuation,
        }
    }
}

fn located(key: &str) -> Result<StorePath, UnderStoreError> {
    let invalid = || UnderStoreError::InvalidKey { key: key.to_owned() };
    if key.is_empty() || key.starts_with('/') || key.ends_with('/') || key.starts_with(STAGING) {
        return Err(invalid());
    }
    StorePath::parse(key).map_err(|_| invalid())
}

fn etag(meta: &ObjectMeta) -> String {
    meta.e_tag.as_deref().unwrap_or_default().trim_matches('"').to_owned()
}

fn timestamp(meta: &ObjectMeta) -> Timestamp {
    Timestamp(meta.last_modified.timestamp_nanos_opt().unwrap_or_default())
}

fn meaning(error: &object_store::Error, key: &str) -> UnderStoreError {
    use object_store::Error as E;
    match error {
        E::NotFound { .. } => UnderStoreError::NoSuchKey { key: key.to_owned() },
        E::Precondition { .. } => UnderStoreError::PreconditionFailed { key: key.to_owned() },
        E::InvalidPath { .. } => UnderStoreError::InvalidKey { key: key.to_owned() },
        E::PermissionDenied { .. } => UnderStoreError::Denied { code: "PermissionDenied".to_owned() },
        other => by_io_error(other),
    }
}

fn of_kind(kind: std::io::ErrorKind) -> UnderStoreError {
    match kind {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => UnderStoreError::Full,
        kind => UnderStoreError::Other { code: format!("{kind:?}"), status: 0 },
    }
}

fn by_io_error(error: &object_store::Error) -> UnderStoreError {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return of_kind(io.kind());
        }
        next = error.source();
    }
    UnderStoreError::Other { code: "Local".to_owned(), status: 0 }
}
