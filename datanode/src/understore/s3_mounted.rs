//! [`MountedStore`] over S3: conditional PUTs, copies by the endpoint, objects of parts.

use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::config::Builder;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    ChecksumMode, ChecksumType, CompletedMultipartUpload, CompletedPart, MetadataDirective, StorageClass,
    TaggingDirective,
};
use bytes::Bytes;

use super::mounted::{
    Condition, Inspected, MountedStore, Part, PartsUpload, Properties, SourceVersion, Written,
};
use super::s3::{S3Store, checksum_number, checksum_text, timestamp, unquoted};
use super::s3_carried::carrying;
use super::s3_client::ATTEMPTS_MAX;
use super::s3_multipart::{self, Unfinished};
use super::{UnderStoreError, s3_probe};

/// An endpoint that copies more slowly is not waited for.
const COPIED_BYTES_PER_SECOND_MIN: u64 = 8 << 20;
/// Storage classes whose objects are not read at once: nothing is put there but by S3's own rules.
const ARCHIVES: [&str; 2] = ["GLACIER", "DEEP_ARCHIVE"];

impl Condition {
    fn if_match(&self) -> Option<String> {
        match self {
            Self::Version(etag) => Some(quoted(etag)),
            Self::Absent | Self::Unchecked => None,
        }
    }

    fn if_none_match(&self) -> Option<String> {
        (*self == Self::Absent).then(|| "*".to_owned())
    }
}

impl S3Store {
    /// The timeouts of a request that has the endpoint copy so many bytes.
    fn copying(&self, bytes: u64) -> Builder {
        let attempt = self.timeout + Duration::from_millis(bytes * 1000 / COPIED_BYTES_PER_SECOND_MIN);
        let timeouts = TimeoutConfig::builder()
            .operation_attempt_timeout(attempt)
            .operation_timeout(attempt.saturating_mul(ATTEMPTS_MAX));
        Builder::default().timeout_config(timeouts.build())
    }

    /// The source as a request names it.
    fn copy_source(&self, key: &str) -> String {
        format!("{}/{}", self.bucket, url_encoded(&self.full_key(key)))
    }
}

#[async_trait]
impl MountedStore for S3Store {
    async fn inspect(&self, key: &str) -> Result<Inspected, UnderStoreError> {
        let request = self
            .client
            .head_object()
            .bucket(&self.bucket)
            .key(self.full_key(key))
            .checksum_mode(ChecksumMode::Enabled);
        let answer = request.send().await.map_err(|error| self.meaning(&error, key))?;
        let whole = answer.checksum_type() != Some(&ChecksumType::Composite);
        let size = answer.content_length().and_then(|size| u64::try_from(size).ok());
        let owned = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(ToOwned::to_owned);
        Ok(Inspected {
            size: size.ok_or_else(|| UnderStoreError::Corrupt { key: key.to_owned() })?,
            etag: unquoted(answer.e_tag()),
            mtime: timestamp(answer.last_modified()),
            crc32c: answer.checksum_crc32_c().filter(|_| whole).and_then(checksum_number),
            crc64nvme: owned(answer.checksum_crc64_nvme().filter(|_| whole)),
            version_id: owned(answer.version_id().filter(|id| *id != "null")),
            properties: Properties {
                metadata: answer
                    .metadata()
                    .into_iter()
                    .flatten()
                    .map(|(k, v)| (k.clone(), v.clone()))
                    .collect(),
                content_type: owned(answer.content_type()),
                content_encoding: owned(answer.content_encoding()),
                content_disposition: owned(answer.content_disposition()),
                content_language: owned(answer.content_language()),
                cache_control: owned(answer.cache_control()),
                storage_class: owned(
                    answer
                        .storage_class()
                        .map(StorageClass::as_str)
                        .filter(|class| !ARCHIVES.contains(class)),
                ),
                tags: None,
            },
        })
    }

    async fn tags(&self, key: &str) -> Result<String, UnderStoreError> {
        let request = self.client.get_object_tagging().bucket(&self.bucket).key(self.full_key(key));
        let answer = match request.send().await.map_err(|error| self.meaning(&error, key)) {
            Ok(answer) => answer,
            // An endpoint that knows no tags has none.
            Err(UnderStoreError::Other { code, status })
                if status == 501 || code == "NotImplemented" || code == "NoSuchTagSet" =>
            {
                return Ok(String::new());
            }
            Err(error) => return Err(error),
        };
        let pairs = answer
            .tag_set()
            .iter()
            .map(|tag| format!("{}={}", url_encoded_whole(tag.key()), url_encoded_whole(tag.value())));
        Ok(pairs.collect::<Vec<String>>().join("&"))
    }

    async fn put(
        &self,
        key: &str,
        condition: &Condition,
        properties: &Properties,
        bytes: Bytes,
    ) -> Result<Written, UnderStoreError> {
        let length = bytes.len() as u64;
        let request = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(self.full_key(key))
            .set_if_match(condition.if_match())
            .set_if_none_match(condition.if_none_match())
            .checksum_crc32_c(checksum_text(crc32c::crc32c(&bytes)));
        let answer = carrying!(request, self, properties)
            .content_length(length as i64)
            .body(ByteStream::from(bytes))
            .customize()
            .config_override(self.sending(length))
            .send()
            .await;
        let done = answer.map_err(|error| self.meaning(&error, key))?;
        Ok(written(done.e_tag(), done.version_id()))
    }

    async fn copy(
        &self,
        key: &str,
        condition: &Condition,
        properties: &Properties,
        source: &SourceVersion,
    ) -> Result<Written, UnderStoreError> {
        let tagging = match &properties.tags {
            Some(_) => TaggingDirective::Replace,
            None => TaggingDirective::Copy,
        };
        let request = self
            .client
            .copy_object()
            .bucket(&self.bucket)
            .key(self.full_key(key))
            .copy_source(self.copy_source(&source.key))
            .copy_source_if_match(quoted(&source.etag))
            .set_if_match(condition.if_match())
            .set_if_none_match(condition.if_none_match())
            .metadata_directive(MetadataDirective::Replace)
            .tagging_directive(tagging);
        let answer = carrying!(request, self, properties)
            .customize()
            .config_override(self.copying(source.size))
            .send()
            .await;
        let done = answer.map_err(|error| self.meaning(&error, key))?;
        let etag = done.copy_object_result().and_then(|result| result.e_tag());
        Ok(written(etag, done.version_id()))
    }

    async fn begin(
        &self,
        key: &str,
        properties: &Properties,
    ) -> Result<Box<dyn PartsUpload>, UnderStoreError> {
        let upload = s3_multipart::begin(self, key, properties).await?;
        Ok(Box::new(S3Parts { store: self.clone(), key: key.to_owned(), upload }))
    }

    async fn checksums(&self, scratch: &str) -> Result<(bool, bool), UnderStoreError> {
        let crc32c = s3_probe::tells_and_checks(self, scratch).await?;
        Ok((crc32c, s3_probe::checks_crc64nvme(self, scratch).await?))
    }
}

/// An upload in parts.
struct S3Parts {
    store: S3Store,
    key: String,
    upload: Unfinished,
}

#[async_trait]
impl PartsUpload for S3Parts {
    async fn send(&self, number: u16, bytes: Bytes) -> Result<Part, UnderStoreError> {
        let crc32c = crc32c::crc32c(&bytes);
        let sent =
            s3_multipart::send_part(&self.store, &self.upload, i32::from(number), bytes, crc32c, &self.key)
                .await?;
        Ok(Part { number, etag: sent.e_tag().unwrap_or_default().to_owned(), crc32c: Some(crc32c) })
    }

    async fn copy(
        &self,
        number: u16,
        source: &SourceVersion,
        range: Range<u64>,
    ) -> Result<Part, UnderStoreError> {
        let store = &self.store;
        // A range of a small source is refused, all of it is not.
        let part = (range != (0..source.size)).then(|| format!("bytes={}-{}", range.start, range.end - 1));
        let answer = store
            .client
            .upload_part_copy()
            .bucket(&store.bucket)
            .key(self.upload.key())
            .upload_id(self.upload.id())
            .part_number(i32::from(number))
            .copy_source(store.copy_source(&source.key))
            .copy_source_if_match(quoted(&source.etag))
            .set_copy_source_range(part)
            .customize()
            .config_override(store.copying(range.end - range.start))
            .send()
            .await;
        let done = answer.map_err(|error| store.meaning(&error, &source.key))?;
        let result = done.copy_part_result();
        let etag = result.and_then(|result| result.e_tag()).unwrap_or_default().to_owned();
        if etag.is_empty() {
            return Err(UnderStoreError::Corrupt { key: source.key.clone() });
        }
        let crc32c = result.and_then(|result| result.checksum_crc32_c()).and_then(checksum_number);
        Ok(Part { number, etag, crc32c })
    }

    async fn complete(
        &mut self,
        condition: &Condition,
        parts: &[Part],
        length: u64,
        crc32c: Option<u32>,
    ) -> Result<Written, UnderStoreError> {
        let store = &self.store;
        let parts = parts.iter().map(|part| {
            CompletedPart::builder()
                .part_number(i32::from(part.number))
                .e_tag(&part.etag)
                .set_checksum_crc32_c(part.crc32c.map(checksum_text))
                .build()
        });
        let answer = store
            .client
            .complete_multipart_upload()
            .bucket(&store.bucket)
            .key(self.upload.key())
            .upload_id(self.upload.id())
            .set_if_match(condition.if_match())
            .set_if_none_match(condition.if_none_match())
            .set_checksum_crc32_c(crc32c.map(checksum_text))
            .checksum_type(ChecksumType::FullObject)
            .mpu_object_size(length as i64)
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts.collect())).build())
            .customize()
            .config_override(store.copying(length))
            .send()
            .await;
        let done = answer.map_err(|error| store.meaning(&error, &self.key))?;
        self.upload.is_over();
        Ok(written(done.e_tag(), done.version_id()))
    }

    async fn abort(&mut self) {
        self.upload.abort_now().await;
    }
}

fn written(etag: Option<&str>, version_id: Option<&str>) -> Written {
    let version_id = version_id.filter(|id| !id.is_empty() && *id != "null").map(ToOwned::to_owned);
    Written { etag: unquoted(etag), version_id }
}

fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}

/// A key as a header writes it: slashes stay.
fn url_encoded(text: &str) -> String {
    text.split('/').map(url_encoded_whole).collect::<Vec<String>>().join("/")
}

fn url_encoded_whole(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_named_as_urls_are() {
        assert_eq!(url_encoded("a/b c+d%ä"), "a/b%20c%2Bd%25%C3%A4");
        assert_eq!(url_encoded_whole("a/b=c&d"), "a%2Fb%3Dc%26d");
    }
}
