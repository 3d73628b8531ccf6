//! Does an S3 endpoint check checksums? Tried with bytes that are not what their checksum says.

use std::collections::BTreeMap;

use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;

use super::s3::{S3Store, checksum_text};
use super::{PutOutcome, UnderStore, UnderStoreError, s3_multipart};

/// What is sent.
const BYTES: &[u8] = b"other than announced";
/// Its checksum is another one.
const ANNOUNCED: &[u8] = b"announced";

/// True when a HEAD's CRC32C is of the bytes that are there, whether they came whole or in parts: the
/// endpoint refuses others, or does not confirm what it did not check. Removes what it made.
pub(super) async fn checks_checksums(store: &S3Store, scratch: &str) -> Result<bool, UnderStoreError> {
    let (whole, parts) = (format!("{scratch}wrong"), format!("{scratch}wrong-parts"));
    let outcome = both(store, &whole, &parts).await;
    for key in [&whole, &parts] {
        store.delete(key, None).await?;
    }
    outcome
}

async fn both(store: &S3Store, whole: &str, parts: &str) -> Result<bool, UnderStoreError> {
    Ok(checks_whole(store, whole).await? && checks_parts(store, parts).await?)
}

async fn checks_whole(store: &S3Store, key: &str) -> Result<bool, UnderStoreError> {
    let wrong = crc32c::crc32c(ANNOUNCED);
    let sent = store
        .client
        .put_object()
        .bucket(&store.bucket)
        .key(store.full_key(key))
        .checksum_crc32_c(checksum_text(wrong))
        .content_length(BYTES.len() as i64)
        .body(ByteStream::from_static(BYTES))
        .customize()
        .config_override(store.sending(BYTES.len() as u64))
        .send()
        .await;
    match sent {
        Ok(_) => is_not_confirmed(store, key, wrong).await,
        Err(error) => is_refusal(store.meaning(&error, key)),
    }
}

async fn checks_parts(store: &S3Store, key: &str) -> Result<bool, UnderStoreError> {
    let wrong = crc32c::crc32c(ANNOUNCED);
    let upload = s3_multipart::begin(store, key, BTreeMap::new()).await?;
    let part = s3_multipart::send_part(store, &upload, 1, Bytes::from_static(BYTES), wrong, key).await;
    let sent = match part {
        Ok(part) => s3_multipart::complete(store, &upload, key, vec![part], BYTES.len() as u64, wrong).await,
        Err(error) => Err(error),
    };
    match sent {
        Ok(PutOutcome::Created { .. }) => {
            upload.completed();
            is_not_confirmed(store, key, wrong).await
        }
        Ok(PutOutcome::Exists) => {
            upload.abort().await;
            Ok(false)
        }
        Err(error) => {
            upload.abort().await;
            is_refusal(error)
        }
    }
}

/// True when the endpoint took the bytes and does not say that they have the `wrong` checksum.
async fn is_not_confirmed(store: &S3Store, key: &str, wrong: u32) -> Result<bool, UnderStoreError> {
    Ok(store.head(key).await?.crc32c != Some(wrong))
}

/// True when the bytes were refused for what they are. What cannot be told for certain counts as not
/// checked: then uploads are read back, which is safe.
fn is_refusal(error: UnderStoreError) -> Result<bool, UnderStoreError> {
    match error {
        UnderStoreError::Throttled { .. } => Err(error),
        UnderStoreError::Corrupt { .. } => Ok(true),
        UnderStoreError::Other { status, .. } => Ok((400..500).contains(&status)),
        _ => Ok(false),
    }
}
