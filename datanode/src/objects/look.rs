//! [`look`]: what is at an object's key, and whether it is ours.

use cairn_proto::v1;
use cairn_types::Timestamp;

use super::{INTENT, ObjectError};
use crate::understore::{Condition, Inspected, MountedStore, UnderStoreError};

/// A version of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectVersion {
    /// Without quotes.
    pub etag: String,
    /// Bytes.
    pub size: u64,
    /// When it was written, by the store's clock.
    pub mtime: Timestamp,
    /// Of a bucket with versions.
    pub version_id: Option<String>,
}

impl From<Inspected> for ObjectVersion {
    fn from(object: Inspected) -> Self {
        let Inspected { etag, size, mtime, version_id, .. } = object;
        Self { etag, size, mtime, version_id }
    }
}

/// What somebody else made of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The key.
    pub key: String,
    /// The object there; `None`: there is none.
    pub object: Option<ObjectVersion>,
}

impl Found {
    pub(super) fn new(key: &str, object: Option<Inspected>) -> Self {
        Self { key: key.to_owned(), object: object.map(ObjectVersion::from) }
    }
}

impl From<Found> for v1::ObjectConflict {
    fn from(found: Found) -> Self {
        let (present, object) = (found.object.is_some(), found.object.unwrap_or_default());
        Self {
            key: found.key.into(),
            present,
            etag: object.etag,
            size: object.size,
            mtime_ns: object.mtime.0,
        }
    }
}

/// What a look at a key showed.
pub(super) enum Look {
    /// The object that this order makes: its answer was lost, or another node made it.
    Ours(Box<Inspected>),
    /// What must be there for it to be written.
    AsExpected,
    /// Something else.
    Other(Found),
}

/// What is at `key`, for an order with this mark and length.
pub(super) async fn look(
    store: &dyn MountedStore,
    key: &str,
    condition: &Condition,
    (mark, length): (&str, u64),
) -> Result<Look, ObjectError> {
    let object = seen(store, key).await?;
    if let Some(object) = &object
        && object.size == length
        && object.properties.metadata.get(INTENT).map(String::as_str) == Some(mark)
    {
        return Ok(Look::Ours(Box::new(object.clone())));
    }
    let expected = match (condition, &object) {
        (Condition::Absent, None) | (Condition::Unchecked, _) => true,
        (Condition::Version(etag), Some(object)) => object.etag == *etag,
        (Condition::Absent, Some(_)) | (Condition::Version(_), None) => false,
    };
    Ok(if expected { Look::AsExpected } else { Look::Other(Found::new(key, object)) })
}

/// The object at `key`, if there is one.
pub(super) async fn seen(store: &dyn MountedStore, key: &str) -> Result<Option<Inspected>, ObjectError> {
    match store.inspect(key).await {
        Ok(object) => Ok(Some(object)),
        Err(UnderStoreError::NoSuchKey { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
