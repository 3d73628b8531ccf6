//! Does an S3 endpoint check checksums? Tried with bytes that are not what their checksum says.

use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_types::base64;
use bytes::Bytes;

use super::s3::{S3Store, checksum_text};
use super::{MountedStore, Properties, PutOutcome, UnderStore, UnderStoreError, probe, s3_multipart};

/// What is sent.
const BYTES: &[u8] = b"other than announced";
/// Its checksum is another one.
const ANNOUNCED: &[u8] = b"announced";
/// What CRC64NVME is tried with, and its checksum: the algorithm's own check value.
const NVME_BYTES: &[u8] = b"123456789";
const NVME_CHECKSUM: u64 = 0xae8b_1486_0a79_9888;

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

/// True when, besides, a HEAD tells the checksum of what was sent rightly.
pub(super) async fn tells_and_checks(store: &S3Store, scratch: &str) -> Result<bool, UnderStoreError> {
    let key = format!("{scratch}right");
    store.put_new(&key, probe::small(BYTES)).await?;
    let told = store.inspect(&key).await;
    store.delete(&key, None).await?;
    Ok(told?.crc32c == Some(crc32c::crc32c(BYTES)) && checks_checksums(store, scratch).await?)
}

/// As much of CRC64NVME, for objects that come whole.
pub(super) async fn checks_crc64nvme(store: &S3Store, scratch: &str) -> Result<bool, UnderStoreError> {
    let key = format!("{scratch}nvme");
    let outcome = attempt_crc64nvme(store, &key).await;
    store.delete(&key, None).await?;
    outcome
}

async fn attempt_crc64nvme(store: &S3Store, key: &str) -> Result<bool, UnderStoreError> {
    match put_crc64nvme(store, key, NVME_BYTES).await {
        Ok(()) => {}
        // An endpoint that does not know it may refuse it.
        Err(UnderStoreError::Other { status: 400..=499 | 501, .. } | UnderStoreError::Corrupt { .. }) => {
            return Ok(false);
        }
        Err(error) => return Err(error),
    }
    let told = store.inspect(key).await?.crc64nvme;
    if told.as_deref() != Some(&base64::encode(NVME_CHECKSUM.to_be_bytes())) {
        return Ok(false);
    }
    match put_crc64nvme(store, key, BYTES).await {
        Ok(()) => Ok(false),
        Err(error) => is_refusal(error),
    }
}

async fn put_crc64nvme(store: &S3Store, key: &str, bytes: &'static [u8]) -> Result<(), UnderStoreError> {
    let sent = store
        .client
        .put_object()
        .bucket(&store.bucket)
        .key(store.full_key(key))
        .checksum_crc64_nvme(base64::encode(NVME_CHECKSUM.to_be_bytes()))
        .content_length(bytes.len() as i64)
        .body(ByteStream::from_static(bytes))
        .send()
        .await;
    sent.map(drop).map_err(|error| store.meaning(&error, key))
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
    let upload = s3_multipart::begin(store, key, &Properties::default()).await?;
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
