//! What became of an object of a mounted bucket.

use cairn_proto::{WireError, v1};
use cairn_types::limits::{FILE_BYTES_MAX, S3_KEY_BYTES_MAX};
use cairn_types::{FsError, Timestamp};

use super::{ETAG_BYTES_MAX, Report};
use crate::keys::mount_modes::EndpointAbilities;
use crate::namespace::command::{Command, FoundObject};
use crate::service::call::malformed;

/// An object as a data node saw it.
fn found(etag: String, size: u64, mtime_ns: i64) -> Result<FoundObject, WireError> {
    if etag.is_empty() || etag.len() > ETAG_BYTES_MAX {
        return Err(malformed("etag"));
    }
    if size > FILE_BYTES_MAX {
        return Err(malformed("size"));
    }
    Ok(FoundObject { etag, size, mtime: Timestamp(mtime_ns) })
}

impl Report<'_> {
    /// Takes the end of an intent. One that was ended before, by this report or by another node's, is no error.
    async fn ended(&self, command: Command) -> Result<(), WireError> {
        match self.propose(command).await? {
            Ok(_) | Err(FsError::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
        self.over();
        Ok(())
    }

    /// An object is there, verified.
    pub(super) async fn object_written(&self, written: v1::ObjectWritten) -> Result<(), WireError> {
        let FoundObject { etag, size, mtime } = found(written.etag, written.size, written.mtime_ns)?;
        self.ended(Command::ObjectWritten { intent: self.intent, etag, size, mtime }).await?;
        metrics::counter!("cairn_meta_mount_written_total").increment(1);
        metrics::counter!("cairn_meta_mount_uploaded_bytes").increment(written.uploaded_bytes);
        metrics::counter!("cairn_meta_mount_copied_bytes").increment(written.copied_bytes);
        Ok(())
    }

    /// An object is not there any more.
    pub(super) async fn object_gone(&self) -> Result<(), WireError> {
        self.ended(Command::ObjectGone { intent: self.intent }).await?;
        metrics::counter!("cairn_meta_mount_deleted_total").increment(1);
        Ok(())
    }

    /// Somebody else changed an object: nothing was done.
    pub(super) async fn object_changed(&self, conflict: v1::ObjectConflict) -> Result<(), WireError> {
        if conflict.key.is_empty() || conflict.key.len() > S3_KEY_BYTES_MAX {
            return Err(malformed("key"));
        }
        let there = || found(conflict.etag.clone(), conflict.size, conflict.mtime_ns);
        let found = conflict.present.then(there).transpose()?;
        let key = conflict.key.to_vec();
        tracing::warn!(
            intent = %self.intent, key = %String::from_utf8_lossy(&key), ?found,
            "an object was changed by somebody else"
        );
        self.ended(Command::ObjectChanged { intent: self.intent, key, found }).await?;
        metrics::counter!("cairn_meta_mount_changed_outside_total").increment(1);
        Ok(())
    }

    /// What a mount's endpoint can do.
    pub(super) async fn probed(&self, probed: v1::MountProbed) -> Result<(), WireError> {
        let a = probed.abilities.ok_or_else(|| malformed("abilities"))?;
        let abilities = EndpointAbilities {
            put_if_absent: a.put_if_absent,
            put_if_match: a.put_if_match,
            complete_if_absent: a.complete_if_absent,
            complete_if_match: a.complete_if_match,
            copy_if_absent: a.copy_if_absent,
            copy_if_match: a.copy_if_match,
            copy_source_if_match: a.copy_source_if_match,
            delete_if_match: a.delete_if_match,
            part_copy: a.part_copy,
            crc32c: a.crc32c,
            crc64nvme: a.crc64nvme,
            get_if_match: a.get_if_match,
            byte_order: a.byte_order,
            writable: a.writable,
        };
        tracing::info!(intent = %self.intent, ?abilities, "a mount's endpoint was probed");
        self.ended(Command::MountProbed { intent: self.intent, abilities }).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_proto::ServiceError;

    #[test]
    fn what_an_object_is_said_to_be_is_bounded() {
        let refused = |result: Result<FoundObject, WireError>| match result {
            Err(WireError::Service(ServiceError::Malformed { field })) => field,
            other => panic!("not refused as malformed: {other:?}"),
        };
        assert_eq!(refused(found(String::new(), 1, 0)), "etag");
        assert_eq!(refused(found("e".repeat(257), 1, 0)), "etag");
        assert_eq!(refused(found("e".into(), FILE_BYTES_MAX + 1, 0)), "size");
        assert_eq!(found("e".into(), 0, 5).map(|f| f.mtime), Ok(Timestamp(5)));
    }
}
