//! Under-stores: where bytes are kept for good. S3 through `aws-sdk-s3`, or a local directory.
//!
//! ```text
//! UnderStore (trait)
//! ├── S3Store         s3.rs, s3_multipart.rs   any S3 endpoint; s3_client.rs makes the connections,
//! │                                            s3_probe.rs tries its checksums, s3_abandoned.rs
//! │                                            clears away what dead uploaders left
//! │   MountedStore    mounted.rs, s3_mounted.rs  of mounts: conditional writes, copies, parts (access.rs:
//! │                                            with which credentials)
//! ├── DirectoryStore  directory.rs             a local directory, fsynced
//! └── MeteredStore    metered.rs               wraps either: metrics, slow requests in the log
//! location.rs   URL → store        mounts.rs   the bounded set of stores that mounts use
//! verify.rs     checksum of what is really there
//! requests.rs   counts of what went to S3
//! ```
//!
//! Objects of the cluster's own are immutable: they are written once ([`UnderStore::put_new`]) and deleted. What
//! overwrites is [`MountedStore`] alone, and never but under a condition.

mod access;
mod directory;
mod error;
mod location;
#[cfg(test)]
pub(crate) mod memory;
mod metered;
mod mounted;
mod mounts;
mod object;
mod probe;
mod requests;
mod s3;
mod s3_abandoned;
mod s3_carried;
mod s3_client;
mod s3_error;
#[cfg(test)]
pub(crate) mod s3_fault_tests;
mod s3_mounted;
#[cfg(test)]
mod s3_mounted_tests;
mod s3_multipart;
mod s3_probe;
#[cfg(test)]
pub(crate) mod suite;
#[cfg(test)]
pub(crate) mod test_endpoint;
mod verify;

use std::ops::Range;

use async_trait::async_trait;
use cairn_types::Timestamp;

pub use access::Access;
pub use directory::DirectoryStore;
pub use error::{BodyFailed, UnderStoreError};
pub use location::{Location, LocationError, open};
pub use metered::MeteredStore;
pub use mounted::{
    Condition, Inspected, MountedStore, Part, PartsUpload, Properties, SourceVersion, Written,
};
pub use mounts::{Buckets, MountBucket, MountStores};
pub use object::{
    Body, Capabilities, Fetched, ListPage, ListRequest, ListedObject, NewObject, ObjectHead, PutOutcome,
};
pub use requests::{RequestCounts, RequestKind, Requests};
pub use s3::S3Store;
pub use s3_client::S3Clients;
pub use verify::has_checksum;

/// Bytes that one [`UnderStore::get_range`] may ask for, at most.
pub const GET_BYTES_MAX: u64 = 8 << 20;
/// Entries in one page of a listing, at most (S3's own limit).
pub const LIST_PAGE_MAX: u16 = 1000;

/// A store of immutable objects by key. Keys are relative to the store's own prefix.
///
/// Every call ends by itself within the store's timeouts, and may be dropped: a dropped
/// [`put_new`](UnderStore::put_new) leaves either the whole object or none.
#[async_trait]
pub trait UnderStore: Send + Sync + 'static {
    /// Writes an object unless the key exists. Durable when it answers [`PutOutcome::Created`];
    /// visible at once and whole, or not at all.
    ///
    /// # Errors
    /// After [`UnderStoreError::Unreachable`], [`UnderStoreError::Throttled`] and
    /// [`UnderStoreError::Other`] the outcome is unknown: ask again, and compare on
    /// [`PutOutcome::Exists`].
    async fn put_new(&self, key: &str, object: NewObject) -> Result<PutOutcome, UnderStoreError>;

    /// Size, ETag and checksum of an object.
    ///
    /// # Errors
    /// [`UnderStoreError::NoSuchKey`] when there is none.
    async fn head(&self, key: &str) -> Result<ObjectHead, UnderStoreError>;

    /// Bytes `range` of an object, at most [`GET_BYTES_MAX`]; fewer only where the object ends.
    /// With `if_match`, of the version with that ETag alone.
    ///
    /// # Errors
    /// [`UnderStoreError::PreconditionFailed`] when the object has another ETag,
    /// [`UnderStoreError::NoSuchKey`] when it is gone.
    async fn get_range(
        &self,
        key: &str,
        range: Range<u64>,
        if_match: Option<&str>,
    ) -> Result<Fetched, UnderStoreError>;

    /// One page of a listing, in the endpoint's order (see [`Capabilities::byte_order`]).
    ///
    /// # Errors
    /// [`UnderStoreError`]; an empty page is no error.
    async fn list(&self, request: &ListRequest) -> Result<ListPage, UnderStoreError>;

    /// Deletes an object; with `if_match`, only while it has that ETag. No error when it is gone
    /// already.
    ///
    /// # Errors
    /// [`UnderStoreError::PreconditionFailed`] when the object has another ETag.
    async fn delete(&self, key: &str, if_match: Option<&str>) -> Result<(), UnderStoreError>;

    /// Finds out what the store can do, by objects under the key prefix `scratch`, which it
    /// removes again. `scratch` must be unused.
    ///
    /// # Errors
    /// [`UnderStoreError`] when the store does not answer; what it cannot do is no error.
    async fn probe(&self, scratch: &str) -> Result<Capabilities, UnderStoreError>;

    /// Aborts the uploads in parts below the key prefix `prefix` that were begun before
    /// `begun_before` (the store's clock) and never completed: what killed processes left. Answers how
    /// many; looks through a bounded number of them.
    ///
    /// # Errors
    /// [`UnderStoreError`] when the store does not answer, or cannot list them.
    async fn abort_abandoned(&self, _prefix: &str, _begun_before: Timestamp) -> Result<u64, UnderStoreError> {
        // A store without uploads in parts has none.
        Ok(0)
    }

    /// How many [`abort_abandoned`](UnderStore::abort_abandoned) would abort.
    ///
    /// # Errors
    /// As there.
    async fn count_abandoned(&self, _prefix: &str, _begun_before: Timestamp) -> Result<u64, UnderStoreError> {
        Ok(0)
    }

    /// `s3://bucket/prefix` or `file:///dir`, for messages.
    fn describe(&self) -> String;
}
