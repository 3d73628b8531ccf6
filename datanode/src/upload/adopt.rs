//! Is the pack that exists already what we would have written?

use cairn_types::ClusterId;

use super::UploadError;
use super::pack::{
    ENTRY_BYTES, HEADER_BYTES, Header, IndexEntry, PackError, TRAILER_BYTES, Trailer, decode_index,
};
use super::survey::Plan;
use crate::understore::{GET_BYTES_MAX, ObjectHead, UnderStore, UnderStoreError};

/// The index of the pack `key` that `head` describes, when it holds the planned chunks, whole:
/// an earlier upload of the same intent by a node that knew more or less of the files. All its
/// payloads are read back and checked.
pub(super) async fn adopt(
    store: &dyn UnderStore,
    key: &str,
    head: &ObjectHead,
    cluster: ClusterId,
    plan: &Plan,
) -> Result<Vec<IndexEntry>, UploadError> {
    let conflict = || UploadError::Conflict { key: key.to_owned() };
    let entries = match index(store, key, head, cluster).await? {
        Ok(entries) => entries,
        Err(error) => {
            tracing::error!(key, %error, "the key of a pack holds something else");
            return Err(conflict());
        }
    };
    let content = |entry: &IndexEntry| (entry.chunk, entry.length, entry.chain, entry.crc32c);
    if !entries.iter().map(content).eq(plan.entries.iter().map(content)) {
        return Err(conflict());
    }
    for entry in &entries {
        if payload_crc32c(store, key, head, entry).await? != Some(entry.crc32c) {
            return Err(conflict());
        }
    }
    Ok(entries)
}

async fn index(
    store: &dyn UnderStore,
    key: &str,
    head: &ObjectHead,
    cluster: ClusterId,
) -> Result<Result<Vec<IndexEntry>, PackError>, UnderStoreError> {
    if head.size < HEADER_BYTES + TRAILER_BYTES {
        return Ok(Err(PackError::NotAPack));
    }
    let etag = Some(head.etag.as_str());
    let header = store.get_range(key, 0..HEADER_BYTES, etag).await?.bytes;
    let trailer = store.get_range(key, head.size - TRAILER_BYTES..head.size, etag).await?.bytes;
    let trailer = match (Header::decode(&header), Trailer::decode(&trailer)) {
        (Ok(header), Ok(trailer)) if header.cluster == cluster => trailer,
        (Err(error), _) | (_, Err(error)) => return Ok(Err(error)),
        _ => return Ok(Err(PackError::NotAPack)),
    };
    let end = head.size - TRAILER_BYTES;
    let start = trailer.index_offset;
    if start > end || end - start != u64::from(trailer.chunks) * ENTRY_BYTES || start == end {
        return Ok(Err(PackError::Damaged));
    }
    let index = store.get_range(key, start..end, etag).await?.bytes;
    Ok(decode_index(&index, &trailer))
}

/// `None` when the entry lies outside the object.
async fn payload_crc32c(
    store: &dyn UnderStore,
    key: &str,
    head: &ObjectHead,
    entry: &IndexEntry,
) -> Result<Option<u32>, UnderStoreError> {
    let Some(end) = entry.offset.checked_add(entry.length).filter(|end| *end <= head.size) else {
        return Ok(None);
    };
    let (mut at, mut crc32c) = (entry.offset, 0);
    while at < end {
        let until = end.min(at + GET_BYTES_MAX);
        let bytes = store.get_range(key, at..until, Some(&head.etag)).await?.bytes;
        if bytes.len() as u64 != until - at {
            return Ok(None);
        }
        crc32c = crc32c::crc32c_append(crc32c, &bytes);
        at = until;
    }
    Ok(Some(crc32c))
}
