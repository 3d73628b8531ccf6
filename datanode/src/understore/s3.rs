//! [`S3Store`]: an under-store in a bucket of any S3 endpoint.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::Builder;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::EncodingType;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::base64;
use bytes::Bytes;
use cairn_types::Timestamp;

use super::access::Keep;
use super::mounted::{Inspected, MountedStore};
use super::object::PartReader;
use super::s3_client::ATTEMPTS_MAX;
use super::s3_error::classify;
use super::{
    Capabilities, Fetched, GET_BYTES_MAX, LIST_PAGE_MAX, ListPage, ListRequest, ListedObject, NewObject,
    ObjectHead, PutOutcome, UnderStore, UnderStoreError, probe, s3_abandoned, s3_multipart, s3_probe,
};

/// A line slower than this is not waited for: what a transfer's deadline allows for its bytes.
const BYTES_PER_SECOND_MIN: u64 = 256 << 10;
/// Objects above this size go up in parts.
pub(super) const SINGLE_PUT_BYTES_MAX: u64 = 16 << 20;

/// The keys of one bucket below one prefix.
#[derive(Clone, Debug)]
pub struct S3Store {
    pub(super) client: Client,
    pub(super) bucket: String,
    prefix: String,
    pub(super) timeout: Duration,
    /// How what is written is kept.
    pub(super) keep: Arc<Keep>,
}

impl S3Store {
    /// The keys of `bucket` that begin with `prefix`. `timeout` bounds an answer, its bytes apart.
    pub(super) fn new(client: Client, bucket: &str, prefix: &str, timeout: Duration) -> Self {
        Self { client, bucket: bucket.to_owned(), prefix: prefix.to_owned(), timeout, keep: Arc::default() }
    }

    pub(super) fn keeping(self, keep: Keep) -> Self {
        Self { keep: Arc::new(keep), ..self }
    }

    pub(super) fn full_key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// How long the transfer of `bytes` may take.
    pub(super) fn transfer_timeout(&self, bytes: u64) -> Duration {
        self.timeout + Duration::from_millis(bytes * 1000 / BYTES_PER_SECOND_MIN)
    }

    /// The timeouts of a request with `bytes` to send; one that stands still ends earlier, by the
    /// SDK's protection against stalled streams.
    pub(super) fn sending(&self, bytes: u64) -> Builder {
        let attempt = self.transfer_timeout(bytes);
        let timeouts = TimeoutConfig::builder()
            .operation_attempt_timeout(attempt)
            .operation_timeout(attempt.saturating_mul(ATTEMPTS_MAX));
        Builder::default().timeout_config(timeouts.build())
    }

    pub(super) fn meaning<E>(&self, error: &SdkError<E, HttpResponse>, key: &str) -> UnderStoreError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let meaning = classify(error, &self.bucket, key);
        let detail = aws_sdk_s3::error::DisplayErrorContext(error);
        tracing::debug!(bucket = %self.bucket, key, %meaning, %detail, "S3 request failed");
        meaning
    }

    /// An object small enough for one request.
    async fn put_whole(&self, key: &str, object: NewObject) -> Result<PutOutcome, UnderStoreError> {
        let mut parts = PartReader::new(object.body);
        let bytes = parts.next_part(SINGLE_PUT_BYTES_MAX as usize).await?.unwrap_or_default();
        // Asks for the end, so that a longer body is not taken for a whole one.
        let rest = parts.next_part(1).await?;
        if rest.is_some() || !parts.is_exactly(object.length, object.crc32c) {
            return Err(super::BodyFailed.into());
        }
        let answer = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(self.full_key(key))
            .if_none_match("*")
            .checksum_crc32_c(checksum_text(object.crc32c))
            .set_metadata(Some(object.metadata.into_iter().collect()))
            .content_length(object.length as i64)
            .body(ByteStream::from(bytes))
            .customize()
            .config_override(self.sending(object.length))
            .send()
            .await;
        match answer {
            Ok(done) => Ok(PutOutcome::Created { etag: unquoted(done.e_tag()) }),
            Err(error) => created_or_exists(self.meaning(&error, key)),
        }
    }

    fn listed(&self, answer: &ListObjectsV2Output) -> Result<ListPage, UnderStoreError> {
        let encoded = answer.encoding_type() == Some(&EncodingType::Url);
        let relative = |key: Option<&str>| -> Result<String, UnderStoreError> {
            let key = key.unwrap_or_default();
            let key = if encoded { url_decoded(key) } else { Some(key.to_owned()) };
            key.as_deref()
                .and_then(|key| key.strip_prefix(&self.prefix))
                .map(ToOwned::to_owned)
                .ok_or_else(|| UnderStoreError::Corrupt { key: key.unwrap_or_default() })
        };
        let mut page = ListPage::default();
        for object in answer.contents() {
            page.objects.push(ListedObject {
                key: relative(object.key())?,
                size: object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or_default(),
                etag: unquoted(object.e_tag()),
                mtime: timestamp(object.last_modified()),
            });
        }
        for prefix in answer.common_prefixes() {
            page.prefixes.push(relative(prefix.prefix())?);
        }
        // The SDK reads a page that is cut off in the middle as a shorter one; what is missing from
        // a listing would be taken for deleted.
        let corrupt = || UnderStoreError::Corrupt { key: self.prefix.clone() };
        let count = i32::try_from(page.objects.len() + page.prefixes.len()).ok();
        if answer.key_count().is_some() && answer.key_count() != count {
            return Err(corrupt());
        }
        if answer.is_truncated().ok_or_else(corrupt)? {
            let token = answer.next_continuation_token().filter(|token| !token.is_empty());
            page.continuation = Some(token.ok_or_else(corrupt)?.to_owned());
        }
        Ok(page)
    }
}

#[async_trait]
impl UnderStore for S3Store {
    async fn put_new(&self, key: &str, object: NewObject) -> Result<PutOutcome, UnderStoreError> {
        if object.length <= SINGLE_PUT_BYTES_MAX {
            self.put_whole(key, object).await
        } else {
            s3_multipart::put(self, key, object).await
        }
    }

    async fn head(&self, key: &str) -> Result<ObjectHead, UnderStoreError> {
        let Inspected { size, etag, mtime, crc32c, properties, .. } = self.inspect(key).await?;
        Ok(ObjectHead { size, etag, mtime, crc32c, metadata: properties.metadata })
    }

    async fn get_range(
        &self,
        key: &str,
        range: Range<u64>,
        if_match: Option<&str>,
    ) -> Result<Fetched, UnderStoreError> {
        let corrupt = || UnderStoreError::Corrupt { key: key.to_owned() };
        if range.is_empty() || range.end - range.start > GET_BYTES_MAX {
            return Err(UnderStoreError::Other { code: "InvalidRange".to_owned(), status: 0 });
        }
        let request = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(self.full_key(key))
            .range(format!("bytes={}-{}", range.start, range.end - 1))
            .set_if_match(if_match.map(|etag| format!("\"{etag}\"")));
        let answer = request.send().await.map_err(|error| self.meaning(&error, key))?;
        let etag = unquoted(answer.e_tag());
        // An endpoint that ignores If-Match must not mix two versions into one file.
        if if_match.is_some_and(|wanted| wanted != etag) {
            return Err(UnderStoreError::PreconditionFailed { key: key.to_owned() });
        }
        let (start, end, size) = answer.content_range().and_then(content_range).ok_or_else(corrupt)?;
        if start != range.start || end != range.end.min(size) {
            return Err(corrupt());
        }
        if answer.content_length().is_some_and(|length| u64::try_from(length).ok() != Some(end - start)) {
            return Err(corrupt());
        }
        let deadline = self.transfer_timeout(end - start);
        let bytes = tokio::time::timeout(deadline, collect(answer.body, end - start)).await;
        let bytes = bytes.ok().flatten().ok_or(UnderStoreError::Unreachable)?;
        Ok(Fetched { bytes, etag, size })
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage, UnderStoreError> {
        let max = if request.max == 0 { LIST_PAGE_MAX } else { request.max.min(LIST_PAGE_MAX) };
        let answer = self
            .client
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(self.full_key(&request.prefix))
            .set_delimiter(request.delimiter.then(|| "/".to_owned()))
            .set_start_after(request.start_after.as_deref().map(|key| self.full_key(key)))
            .set_continuation_token(request.continuation.clone())
            .encoding_type(EncodingType::Url)
            .max_keys(i32::from(max))
            .send()
            .await
            .map_err(|error| self.meaning(&error, &request.prefix))?;
        self.listed(&answer)
    }

    async fn delete(&self, key: &str, if_match: Option<&str>) -> Result<(), UnderStoreError> {
        let request = self
            .client
            .delete_object()
            .bucket(&self.bucket)
            .key(self.full_key(key))
            .set_if_match(if_match.map(|etag| format!("\"{etag}\"")));
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) => match self.meaning(&error, key) {
                UnderStoreError::NoSuchKey { .. } => Ok(()),
                other => Err(other),
            },
        }
    }

    async fn probe(&self, scratch: &str) -> Result<Capabilities, UnderStoreError> {
        let complete_if_absent = s3_multipart::completes_if_absent(self, scratch).await?;
        let checked = s3_probe::checks_checksums(self, scratch).await?;
        let found = probe::probe(self, scratch).await?;
        Ok(Capabilities { complete_if_absent, crc32c: found.crc32c && checked, ..found })
    }

    async fn abort_abandoned(&self, prefix: &str, begun_before: Timestamp) -> Result<u64, UnderStoreError> {
        s3_abandoned::each(self, prefix, begun_before, false).await
    }

    async fn count_abandoned(&self, prefix: &str, begun_before: Timestamp) -> Result<u64, UnderStoreError> {
        s3_abandoned::each(self, prefix, begun_before, true).await
    }

    fn describe(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.prefix)
    }
}

/// 412 on a write that must make the key.
pub(super) fn created_or_exists(error: UnderStoreError) -> Result<PutOutcome, UnderStoreError> {
    match error {
        UnderStoreError::PreconditionFailed { .. } => Ok(PutOutcome::Exists),
        other => Err(other),
    }
}

/// A body of exactly `length` bytes; `None` when it ends early, late, or with an error.
async fn collect(mut body: ByteStream, length: u64) -> Option<Bytes> {
    let mut bytes = bytes::BytesMut::with_capacity(usize::try_from(length).ok()?);
    while let Some(piece) = body.next().await {
        let piece = piece.ok()?;
        if bytes.len() as u64 + piece.len() as u64 > length {
            return None;
        }
        bytes.extend_from_slice(&piece);
    }
    (bytes.len() as u64 == length).then(|| bytes.freeze())
}

/// `bytes 0-9/100` → (0, 10, 100).
fn content_range(text: &str) -> Option<(u64, u64, u64)> {
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    Some((first.parse().ok()?, last.parse::<u64>().ok()?.checked_add(1)?, size.parse().ok()?))
}

/// CRC32C as S3 writes it: base64 of its four bytes, big-endian.
pub(super) fn checksum_text(crc32c: u32) -> String {
    base64::encode(crc32c.to_be_bytes())
}

pub(super) fn checksum_number(text: &str) -> Option<u32> {
    let bytes: [u8; 4] = base64::decode(text).ok()?.try_into().ok()?;
    Some(u32::from_be_bytes(bytes))
}

/// An ETag without its quotes.
pub(super) fn unquoted(etag: Option<&str>) -> String {
    etag.unwrap_or_default().trim_matches('"').to_owned()
}

pub(super) fn timestamp(time: Option<&DateTime>) -> Timestamp {
    let nanos = time.map_or(0, DateTime::as_nanos);
    Timestamp(i64::try_from(nanos).unwrap_or_default())
}

/// Undoes `encoding-type=url`; `None` for what is no such text, or no UTF-8.
fn url_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits = rest.get(..2).and_then(|two| std::str::from_utf8(two).ok())?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                rest = &rest[2..];
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_listings_are_decoded() {
        assert_eq!(url_decoded("a%2Bb+c%2Fd%01").as_deref(), Some("a+b c/d\u{1}"));
        assert_eq!(url_decoded("%c3%A4").as_deref(), Some("ä"));
        assert_eq!(url_decoded("%"), None);
        assert_eq!(url_decoded("%zz"), None);
        assert_eq!(url_decoded("%ff"), None);
    }

    #[test]
    fn a_content_range_is_read_as_half_open() {
        assert_eq!(content_range("bytes 0-9/100"), Some((0, 10, 100)));
        assert_eq!(content_range("bytes */100"), None);
        assert_eq!(content_range("bytes 0-9/*"), None);
    }

    #[test]
    fn checksums_are_written_as_s3_does() {
        // The CRC32C of "123456789" is 0xe3069283.
        assert_eq!(checksum_text(crc32c::crc32c(b"123456789")), "4waSgw==");
        assert_eq!(checksum_number("4waSgw=="), Some(0xe306_9283));
        assert_eq!(checksum_number("4waSgw==-3"), None);
    }
}
