//! Whether an object in the bucket is what was sent and copied.

use std::ops::Range;

use super::look::seen;
use super::way::Way;
use super::{ObjectError, Put};
use crate::understore::{Inspected, SourceVersion};

/// Bytes that are compared at once, from both sides.
const COMPARED_BYTES: u64 = 4 << 20;

impl Put {
    /// True when the object has the size, and what was sent is there: by the endpoint's own checksum where that is
    /// believed and the same, else by reading it back. Of a copy: by its checksum, where both objects have one, or
    /// its ETag.
    pub(super) async fn is_as_sent(
        &self,
        object: &Inspected,
        crc32c: Option<u32>,
    ) -> Result<bool, ObjectError> {
        if object.size != self.order.length {
            return Ok(false);
        }
        if let Way::Copy(source) = &self.way {
            return self.is_copied(object, source).await;
        }
        let believed = self.order.terms.abilities.crc32c;
        if believed && crc32c.is_some() && object.crc32c == crc32c {
            return Ok(true);
        }
        for range in self.way.sent(&self.order) {
            if !self.is_there(object, range).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The endpoint made the copy of the version that was named: a checksum of another kind, an ETag of another
    /// making, or a source that is gone by now prove nothing.
    async fn is_copied(&self, object: &Inspected, version: &SourceVersion) -> Result<bool, ObjectError> {
        if object.etag == version.etag {
            return Ok(true);
        }
        let source = seen(self.store.as_ref(), &version.key).await?;
        let Some(source) = source.filter(|source| source.etag == version.etag) else { return Ok(true) };
        Ok(match (source.crc32c, object.crc32c, &source.crc64nvme, &object.crc64nvme) {
            (Some(before), Some(after), ..) if self.order.terms.abilities.crc32c => before == after,
            (_, _, Some(before), Some(after)) if self.order.terms.abilities.crc64nvme => before == after,
            _ => true,
        })
    }

    /// True when a range of the object has the bytes that were sent. What came from a version of an object that is no
    /// more (it may be the one that was replaced) cannot be compared any more.
    async fn is_there(&self, object: &Inspected, range: Range<u64>) -> Result<bool, ObjectError> {
        for run in self.content.runs(&range) {
            let mut at = run.start;
            while at < run.end {
                let end = run.end.min(at + COMPARED_BYTES);
                match self.is_block_there(object, at..end).await {
                    Ok(true) => {}
                    Err(ObjectError::SourceChanged { .. }) => break,
                    other => return other,
                }
                at = end;
            }
        }
        Ok(true)
    }

    async fn is_block_there(&self, object: &Inspected, block: Range<u64>) -> Result<bool, ObjectError> {
        let _room = self.buffers.take(2 * (block.end - block.start)).await;
        let sent = self.content.read(block.clone()).await?;
        let there = self.store.get_range(&self.order.key, block, Some(&object.etag)).await?;
        Ok(there.bytes == sent)
    }
}
