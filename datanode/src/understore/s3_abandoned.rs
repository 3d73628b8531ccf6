//! Multipart uploads that nobody completes or aborts any more: their process was killed.

use cairn_types::Timestamp;

use super::s3::{S3Store, timestamp};
use super::{UnderStoreError, s3_multipart};

/// Pages of the endpoint's list that are looked through, at most; the rest is for the next start.
const PAGES_MAX: usize = 100;
/// Uploads in a page, at most (S3's own limit).
const PAGE_MAX: i32 = 1000;

/// Counts, or aborts, the uploads below `prefix` that were begun before `begun_before`; answers how many.
pub(super) async fn each(
    store: &S3Store,
    prefix: &str,
    begun_before: Timestamp,
    only_count: bool,
) -> Result<u64, UnderStoreError> {
    let full_prefix = store.full_key(prefix);
    let (mut key_marker, mut id_marker) = (None, None);
    let mut found = 0;
    for _ in 0..PAGES_MAX {
        let page = store
            .client
            .list_multipart_uploads()
            .bucket(&store.bucket)
            .prefix(&full_prefix)
            .set_key_marker(key_marker.clone())
            .set_upload_id_marker(id_marker.clone())
            .max_uploads(PAGE_MAX)
            .send()
            .await
            .map_err(|error| store.meaning(&error, prefix))?;
        for upload in page.uploads() {
            let (Some(key), Some(id), Some(begun)) = (upload.key(), upload.upload_id(), upload.initiated())
            else {
                continue;
            };
            // Not every endpoint keeps to the prefix.
            if !key.starts_with(&full_prefix) || timestamp(Some(begun)) >= begun_before {
                continue;
            }
            let (client, bucket) = (store.client.clone(), store.bucket.clone());
            if only_count || s3_multipart::abort(client, bucket, key.to_owned(), id.to_owned()).await {
                found += 1;
            }
        }
        let next = (
            page.next_key_marker().map(ToOwned::to_owned),
            page.next_upload_id_marker().map(ToOwned::to_owned),
        );
        let ended = page.is_truncated() != Some(true) || next.0.is_none();
        if ended || next == (key_marker.clone(), id_marker.clone()) {
            break;
        }
        (key_marker, id_marker) = next;
    }
    Ok(found)
}
