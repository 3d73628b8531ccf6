//! [`delete`]: an object of a mounted bucket goes while it is the version that is known.

use super::look::{Found, seen};
use super::put::Deleted;
use super::{ObjectError, Terms};
use crate::understore::{MountedStore, UnderStoreError};

/// Deletes the object `key` while it has this ETag. No error when it is gone already.
///
/// # Errors
/// [`ObjectError`]; whether it is there is unknown then: ask again.
pub async fn delete(
    store: &dyn MountedStore,
    terms: Terms,
    key: &str,
    etag: &str,
) -> Result<Deleted, ObjectError> {
    if etag.is_empty() {
        return Err(ObjectError::Malformed { field: "etag" });
    }
    let condition = match (terms.abilities.delete_if_match, terms.sole_writer) {
        (true, _) => Some(etag),
        (false, true) => {
            match seen(store, key).await? {
                None => return Ok(Deleted::Gone),
                Some(object) if object.etag == etag => {}
                object => return Ok(Deleted::Conflict(Found::new(key, object))),
            }
            None
        }
        (false, false) => {
            let what = "delete a given version only";
            return Err(ObjectError::Unable { store: store.describe(), what });
        }
    };
    match store.delete(key, condition).await {
        Ok(()) => Ok(Deleted::Gone),
        Err(UnderStoreError::PreconditionFailed { .. }) => match seen(store, key).await? {
            None => Ok(Deleted::Gone),
            Some(object) if object.etag == etag => {
                Err(UnderStoreError::PreconditionFailed { key: key.to_owned() }.into())
            }
            object => Ok(Deleted::Conflict(Found::new(key, object))),
        },
        Err(error) => Err(error.into()),
    }
}
