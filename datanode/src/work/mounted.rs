//! What the work on mounted buckets has in common: their stores, and how it is told that it failed.

use std::sync::Arc;

use cairn_proto::v1;
use cairn_proto::v1::report_work_request::Outcome;

use super::Worker;
use crate::objects::ObjectError;
use crate::understore::{MountBucket, MountedStore};

impl Worker {
    pub(super) fn mounted(
        &self,
        bucket: Option<&v1::MountedBucket>,
    ) -> Result<Arc<dyn MountedStore>, ObjectError> {
        let bucket = bucket.ok_or(ObjectError::Malformed { field: "bucket" })?;
        Ok(self.buckets.for_mount(&MountBucket::from(bucket)))
    }
}

pub(super) fn failed(error: &ObjectError) -> Outcome {
    let (message, permanent) = (error.to_string(), error.permanent());
    tracing::warn!(error = message, permanent, "work on a mounted bucket failed");
    if permanent {
        Outcome::ObjectFailed(v1::ImportFailed { message, permanent })
    } else {
        Outcome::Failure(message)
    }
}
