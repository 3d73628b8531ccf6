//! The checksum of an object as it really is, by reading it.

use super::{GET_BYTES_MAX, ObjectHead, UnderStore, UnderStoreError};

/// CRC32C of the whole object `key` that `head` describes: the store's own where it keeps one,
/// else by reading all its bytes back, 8 MiB at a time.
///
/// # Errors
/// [`UnderStoreError::PreconditionFailed`] when the object changed meanwhile.
pub async fn checksum_of(
    store: &dyn UnderStore,
    key: &str,
    head: &ObjectHead,
) -> Result<u32, UnderStoreError> {
    if let Some(crc32c) = head.crc32c {
        return Ok(crc32c);
    }
    let (mut at, mut crc32c) = (0, 0);
    while at < head.size {
        let end = head.size.min(at + GET_BYTES_MAX);
        let fetched = store.get_range(key, at..end, Some(&head.etag)).await?;
        if fetched.bytes.len() as u64 != end - at {
            return Err(UnderStoreError::Corrupt { key: key.to_owned() });
        }
        crc32c = crc32c::crc32c_append(crc32c, &fetched.bytes);
        at = end;
    }
    Ok(crc32c)
}
