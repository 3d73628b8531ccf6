//! [`MountedStore`]: the store of a mounted bucket, whose objects are replaced, under conditions.

use std::collections::BTreeMap;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use cairn_types::Timestamp;

use super::{UnderStore, UnderStoreError};

/// What must be at a key for it to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    Absent,
    /// The version with this ETag (without quotes).
    Version(String),
    /// Whatever is there: the endpoint cannot be told, and nobody else writes.
    Unchecked,
}

/// What an object carries besides its bytes, and keeps when it is written anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// User metadata: lower-case ASCII names, ASCII values.
    pub metadata: BTreeMap<String, String>,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Content-Encoding`.
    pub content_encoding: Option<String>,
    /// `Content-Disposition`.
    pub content_disposition: Option<String>,
    /// `Content-Language`.
    pub content_language: Option<String>,
    /// `Cache-Control`.
    pub cache_control: Option<String>,
    /// Storage class; `None`: the usual one, or one that cannot be read at once. A mount's own comes before it.
    pub storage_class: Option<String>,
    /// Its tags, as a URL's query writes them; `None`: nobody asked.
    pub tags: Option<String>,
}

/// All that a store knows of an object without its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspected {
    /// Bytes.
    pub size: u64,
    /// Without quotes.
    pub etag: String,
    /// When it was last written, by the store's clock.
    pub mtime: Timestamp,
    /// CRC32C over the whole object, when the store tells one.
    pub crc32c: Option<u32>,
    /// CRC64NVME over the whole object as S3 writes it, when the store tells one.
    pub crc64nvme: Option<String>,
    /// Of a bucket with versions.
    pub version_id: Option<String>,
    /// Without its tags.
    pub properties: Properties,
}

/// A version of an object that bytes are copied from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SourceVersion {
    /// Its key, in the same bucket.
    pub key: String,
    /// Its ETag.
    pub etag: String,
    /// Its bytes.
    pub size: u64,
}

/// An object that was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Without quotes.
    pub etag: String,
    /// Of a bucket with versions.
    pub version_id: Option<String>,
}

/// A part of an object that is made of parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// From 1 on.
    pub number: u16,
    /// As the store answered it.
    pub etag: String,
    /// Of its bytes, when it is known.
    pub crc32c: Option<u32>,
}

/// A store in which objects are replaced. Like those of [`UnderStore`], its calls end by themselves and may
/// be dropped; an object is visible whole or not at all.
///
/// A store does what it is told with one request. That a condition holds is the endpoint's doing: whether it
/// looks is known from the probe alone.
#[async_trait]
pub trait MountedStore: UnderStore {
    /// All that is known of an object but its tags.
    ///
    /// # Errors
    /// [`UnderStoreError::NoSuchKey`] when there is none.
    async fn inspect(&self, key: &str) -> Result<Inspected, UnderStoreError>;

    /// The object's tags, as a URL's query writes them.
    ///
    /// # Errors
    /// [`UnderStoreError::NoSuchKey`] when there is no object.
    async fn tags(&self, key: &str) -> Result<String, UnderStoreError>;

    /// Writes an object of these bytes, 16 MiB at most.
    ///
    /// # Errors
    /// [`UnderStoreError::PreconditionFailed`], and [`UnderStoreError::NoSuchKey`] when a version is gone, say that
    /// nothing was written, or that an earlier attempt was: look. After errors that may be retried the outcome
    /// is unknown.
    async fn put(
        &self,
        key: &str,
        condition: &Condition,
        properties: &Properties,
        bytes: Bytes,
    ) -> Result<Written, UnderStoreError>;

    /// Makes `key` a copy of the source, which must be that version, 5 GiB at most, with these properties; without
    /// tags in them it gets the source's.
    ///
    /// # Errors
    /// As of [`put`](Self::put), of the source as well.
    async fn copy(
        &self,
        key: &str,
        condition: &Condition,
        properties: &Properties,
        source: &SourceVersion,
    ) -> Result<Written, UnderStoreError>;

    /// Begins an object that is made of parts.
    ///
    /// # Errors
    /// [`UnderStoreError`].
    async fn begin(
        &self,
        key: &str,
        properties: &Properties,
    ) -> Result<Box<dyn PartsUpload>, UnderStoreError>;

    /// Whether the endpoint checks the checksums that it then tells, tried with objects below `scratch`: of CRC32C,
    /// of CRC64NVME. Leaves nothing there.
    ///
    /// # Errors
    /// [`UnderStoreError`] when it does not answer.
    async fn checksums(&self, scratch: &str) -> Result<(bool, bool), UnderStoreError>;
}

/// An object whose parts are being written. Nothing shows before it is completed; dropped, it is aborted.
#[async_trait]
pub trait PartsUpload: Send + Sync {
    /// Writes a part.
    ///
    /// # Errors
    /// [`UnderStoreError`]; the part may be written again.
    async fn send(&self, number: u16, bytes: Bytes) -> Result<Part, UnderStoreError>;

    /// Copies a part from a range of that version.
    ///
    /// # Errors
    /// [`UnderStoreError::PreconditionFailed`] and [`UnderStoreError::NoSuchKey`] are about the source.
    async fn copy(
        &self,
        number: u16,
        source: &SourceVersion,
        range: Range<u64>,
    ) -> Result<Part, UnderStoreError>;

    /// Makes the object of its parts. `crc32c` is that of all its bytes, when it is known.
    ///
    /// # Errors
    /// As of [`MountedStore::put`]. `NoSuchUpload` may say that an earlier attempt did it: look.
    async fn complete(
        &mut self,
        condition: &Condition,
        parts: &[Part],
        length: u64,
        crc32c: Option<u32>,
    ) -> Result<Written, UnderStoreError>;

    /// Drops the parts, unless it was completed.
    async fn abort(&mut self);
}
