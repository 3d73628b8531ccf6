//! Work `DeleteObject`: an object of a mounted bucket goes while it is the version that is known.

use cairn_proto::v1;
use cairn_proto::v1::report_work_request::Outcome;

use super::Worker;
use super::mounted::failed;
use crate::objects::{Deleted, ObjectError, Terms, delete};

impl Worker {
    /// Deletes an object.
    pub(super) async fn delete_object(&self, work: &v1::DeleteObject) -> Outcome {
        match self.delete_ordered(work).await {
            Ok(deleted) => deleted.into(),
            Err(error) => failed(&error),
        }
    }

    async fn delete_ordered(&self, work: &v1::DeleteObject) -> Result<Deleted, ObjectError> {
        let malformed = ObjectError::Malformed { field: "key" };
        let key = std::str::from_utf8(&work.key).ok().filter(|key| !key.is_empty()).ok_or(malformed)?;
        let bucket = work.bucket.as_ref().ok_or(ObjectError::Malformed { field: "bucket" })?;
        let store = self.mounted(Some(bucket))?;
        let deleted = delete(store.as_ref(), Terms::of(bucket), key, &work.etag).await;
        let outcome = match &deleted {
            Ok(Deleted::Gone) => "ok",
            Ok(Deleted::Conflict(_)) => "conflict",
            Err(_) => "failed",
        };
        metrics::counter!("cairn_data_mount_deletions_total", "outcome" => outcome).increment(1);
        deleted
    }
}
