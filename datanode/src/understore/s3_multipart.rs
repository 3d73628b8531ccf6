//! Objects above 16 MiB: multipart uploads, conditional at their completion, aborted on failure.

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;

use super::object::PartReader;
use super::s3::{S3Store, checksum_text, created_or_exists, unquoted};
use super::s3_carried::carrying;
use super::{BodyFailed, NewObject, Properties, PutOutcome, UnderStore, UnderStoreError, probe};

/// Bytes in a part, at most; S3 wants 5 MiB at least in all but the last.
const PART_BYTES: usize = 8 << 20;
/// Parts on the way at once: bounds the memory of an upload to three parts.
const PARTS_IN_FLIGHT: usize = 2;

/// An upload begun and not completed. Dropped, it is aborted in the background; what even that
/// leaves behind is aborted a day later, after the start of a data node (s3_abandoned.rs).
pub(super) struct Unfinished {
    client: Client,
    bucket: String,
    key: String,
    id: String,
    over: bool,
}

impl Unfinished {
    /// The object's whole key.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// The upload's id.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Nothing is left to abort.
    pub(super) fn is_over(&mut self) {
        self.over = true;
    }

    pub(super) fn completed(mut self) {
        self.is_over();
    }

    /// Aborts it, once, unless it is over.
    pub(super) async fn abort_now(&mut self) {
        if !std::mem::replace(&mut self.over, true) {
            abort(self.client.clone(), self.bucket.clone(), self.key.clone(), self.id.clone()).await;
        }
    }

    pub(super) async fn abort(mut self) {
        self.abort_now().await;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (bucket, key, id) = (self.bucket.clone(), self.key.clone(), self.id.clone());
            // Bounded by the client's own timeouts; nobody waits for it.
            runtime.spawn(abort(self.client.clone(), bucket, key, id));
        }
    }
}

/// True when the upload is no more.
pub(super) async fn abort(client: Client, bucket: String, key: String, id: String) -> bool {
    let request = client.abort_multipart_upload().bucket(&bucket).key(&key).upload_id(&id);
    let answer = request.send().await;
    if let Err(error) = &answer {
        let detail = aws_sdk_s3::error::DisplayErrorContext(error);
        tracing::warn!(bucket, key, upload = id, %detail, "a multipart upload could not be aborted");
    }
    answer.is_ok()
}

/// Begins an upload to `key`.
pub(super) async fn begin(
    store: &S3Store,
    key: &str,
    properties: &Properties,
) -> Result<Unfinished, UnderStoreError> {
    let full_key = store.full_key(key);
    let request = store
        .client
        .create_multipart_upload()
        .bucket(&store.bucket)
        .key(&full_key)
        .checksum_algorithm(ChecksumAlgorithm::Crc32C)
        .checksum_type(ChecksumType::FullObject);
    let begun =
        carrying!(request, store, properties).send().await.map_err(|error| store.meaning(&error, key))?;
    let id = begun.upload_id().unwrap_or_default().to_owned();
    if id.is_empty() {
        return Err(UnderStoreError::Corrupt { key: key.to_owned() });
    }
    let (client, bucket) = (store.client.clone(), store.bucket.clone());
    Ok(Unfinished { client, bucket, key: full_key, id, over: false })
}

/// Writes `object` in parts unless `key` exists when all parts are up.
pub(super) async fn put(
    store: &S3Store,
    key: &str,
    object: NewObject,
) -> Result<PutOutcome, UnderStoreError> {
    let properties = Properties { metadata: object.metadata, ..Properties::default() };
    let upload = begin(store, key, &properties).await?;
    let mut parts = PartReader::new(object.body);
    let outcome = match send_parts(store, &upload, &mut parts, key).await {
        Ok(_) if !parts.is_exactly(object.length, object.crc32c) => Err(BodyFailed.into()),
        Ok(done) => complete(store, &upload, key, done, object.length, object.crc32c).await,
        Err(error) => Err(error),
    };
    match outcome {
        Ok(PutOutcome::Created { .. }) => upload.completed(),
        _ => upload.abort().await,
    }
    outcome
}

async fn send_parts(
    store: &S3Store,
    upload: &Unfinished,
    parts: &mut PartReader,
    key: &str,
) -> Result<Vec<CompletedPart>, UnderStoreError> {
    let mut sending = FuturesUnordered::new();
    let mut done = Vec::new();
    let mut number = 0;
    while let Some(part) = parts.next_part(PART_BYTES).await? {
        number += 1;
        if sending.len() == PARTS_IN_FLIGHT
            && let Some(sent) = sending.next().await
        {
            done.push(sent?);
        }
        let checksum = crc32c::crc32c(&part);
        sending.push(send_part(store, upload, number, part, checksum, key));
    }
    while let Some(sent) = sending.next().await {
        done.push(sent?);
    }
    done.sort_by_key(CompletedPart::part_number);
    Ok(done)
}

/// Sends a part that is announced to have this checksum.
pub(super) async fn send_part(
    store: &S3Store,
    upload: &Unfinished,
    number: i32,
    part: Bytes,
    crc32c: u32,
    key: &str,
) -> Result<CompletedPart, UnderStoreError> {
    let checksum = checksum_text(crc32c);
    // The parts on the way share the line.
    let timeouts = store.sending((part.len() * PARTS_IN_FLIGHT) as u64);
    let sent = store
        .client
        .upload_part()
        .bucket(&store.bucket)
        .key(&upload.key)
        .upload_id(&upload.id)
        .part_number(number)
        .checksum_crc32_c(&checksum)
        .body(ByteStream::from(part))
        .customize()
        .config_override(timeouts)
        .send()
        .await
        .map_err(|error| store.meaning(&error, key))?;
    Ok(CompletedPart::builder()
        .part_number(number)
        .set_e_tag(sent.e_tag().map(ToOwned::to_owned))
        .checksum_crc32_c(checksum)
        .build())
}

/// Makes the object of its parts, unless the key exists.
pub(super) async fn complete(
    store: &S3Store,
    upload: &Unfinished,
    key: &str,
    parts: Vec<CompletedPart>,
    length: u64,
    crc32c: u32,
) -> Result<PutOutcome, UnderStoreError> {
    let answer = store
        .client
        .complete_multipart_upload()
        .bucket(&store.bucket)
        .key(&upload.key)
        .upload_id(&upload.id)
        .if_none_match("*")
        .checksum_crc32_c(checksum_text(crc32c))
        .checksum_type(ChecksumType::FullObject)
        .mpu_object_size(length as i64)
        .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build())
        .send()
        .await;
    let error = match answer {
        Ok(done) => return Ok(PutOutcome::Created { etag: unquoted(done.e_tag()) }),
        Err(error) => store.meaning(&error, key),
    };
    // The SDK asked again after a lost answer: the first one may have completed it.
    if matches!(&error, UnderStoreError::Other { code, .. } if code == "NoSuchUpload") {
        return match store.head(key).await {
            Ok(_) => Ok(PutOutcome::Exists),
            Err(UnderStoreError::NoSuchKey { .. }) => Err(UnderStoreError::Unreachable),
            Err(other) => Err(other),
        };
    }
    created_or_exists(error)
}

/// True when completing an upload refuses a key that exists. Leaves nothing behind.
pub(super) async fn completes_if_absent(store: &S3Store, scratch: &str) -> Result<bool, UnderStoreError> {
    let key = format!("{scratch}parts");
    store.put_new(&key, probe::small(b"first")).await?;
    let outcome = put(store, &key, probe::small(b"other")).await;
    store.delete(&key, None).await?;
    Ok(outcome? == PutOutcome::Exists)
}
