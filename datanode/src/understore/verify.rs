//! Whether an object is really there as it was written.

use super::{GET_BYTES_MAX, ObjectHead, UnderStore, UnderStoreError};

/// True when the object `key` that `head` describes has this CRC32C over all its bytes: by the
/// store's own checksum when that agrees, else by reading all of it back, 8 MiB at a time. (Some
/// endpoints tell a checksum of the parts' checksums and do not say so: theirs proves nothing when
/// it differs.)
///
/// # Errors
/// [`UnderStoreError::PreconditionFailed`] when the object changed meanwhile.
pub async fn has_checksum(
    store: &dyn UnderStore,
    key: &str,
    head: &ObjectHead,
    expected_crc32c: u32,
) -> Result<bool, UnderStoreError> {
    if head.crc32c == Some(expected_crc32c) {
        return Ok(true);
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
    Ok(crc32c == expected_crc32c)
}
